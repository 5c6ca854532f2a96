/**
 * The words of a command line. Its grammar is mount(8)'s, who also calls us: options before or after the
 * operands, `-o` any number of times and joined or apart, `--` ends the options. Words are bytes: Node's
 * own argv has lost what is not UTF-8.
 */
import { readFileSync } from 'node:fs';
import { Git2dbError } from '../xet/errors.ts';
import { COMMANDS, COMMON_FLAGS, type CommandSpec, type FlagSpec, findCommand, MOUNT } from './commands.ts';

export interface CommandLine {
  readonly command: CommandSpec;
  /** Flags without a value that were given, by their long names. */
  readonly flags: ReadonlySet<string>;
  /** Values of the others, in their order. */
  readonly values: ReadonlyMap<string, readonly Buffer[]>;
  readonly operands: readonly Buffer[];
}

/** The arguments of this process as they came: those after the program's own file. */
export function readArguments(): Buffer[] {
  const words = splitWords(readFileSync('/proc/self/cmdline'));
  return words.slice(words.length - (process.argv.length - 2));
}

/** Each word ends in a NUL. */
export function splitWords(bytes: Buffer): Buffer[] {
  const words: Buffer[] = [];
  for (let start = 0; start < bytes.length; ) {
    const end = bytes.indexOf(0, start);
    words.push(bytes.subarray(start, end < 0 ? bytes.length : end));
    start = (end < 0 ? bytes.length : end) + 1;
  }
  return words;
}

const HYPHEN = 0x2d;
const EQUALS = 0x3d;

/** Throws USAGE. Operands are counted, not looked at. */
export function parseCommandLine(words: readonly Buffer[]): CommandLine {
  const named = commandOf(words);
  const command = named ?? MOUNT;
  const known = [...command.flags, ...COMMON_FLAGS];
  const flags = new Set<string>();
  const values = new Map<string, Buffer[]>();
  const operands: Buffer[] = [];
  const rest = [...(named === undefined ? words : words.slice(1))];

  const take = (flag: FlagSpec, typed: string, joined: Buffer | undefined) => {
    if (!takesValue(flag)) {
      if (joined !== undefined) throw usage(`${typed} takes no value`);
      flags.add(flag.name);
      return;
    }
    const value = joined ?? rest.shift();
    if (value === undefined || value.length === 0) throw usage(`${typed} needs a value`);
    checkChoice(flag, typed, value);
    values.set(flag.name, [...(values.get(flag.name) ?? []), value]);
  };

  for (let word = rest.shift(); word !== undefined; word = rest.shift()) {
    if (word.length === 2 && word[0] === HYPHEN && word[1] === HYPHEN) {
      operands.push(...rest.splice(0));
    } else if (word[0] !== HYPHEN || word.length === 1) {
      operands.push(word);
      // What follows belongs to the command that is to be run.
      if (command.operands.kind === 'command' && operands.length === 2) operands.push(...rest.splice(0));
    } else if (word[1] === HYPHEN) {
      const equals = word.indexOf(EQUALS);
      const typed = word.toString('utf8', 0, equals < 0 ? word.length : equals);
      const flag = known.find(({ name }) => `--${name}` === typed);
      if (flag === undefined) throw unknownFlag(typed, known, command);
      take(flag, typed, equals < 0 ? undefined : word.subarray(equals + 1));
    } else {
      takeShort(word, known, command, take);
    }
  }
  if (!flags.has('help') && !flags.has('version')) checkOperands(command, operands);
  return { command, flags, values, operands };
}

type Take = (flag: FlagSpec, typed: string, joined: Buffer | undefined) => void;

/** `-fd`, `-oVALUE`, `-fo VALUE`. */
function takeShort(word: Buffer, known: readonly FlagSpec[], command: CommandSpec, take: Take): void {
  for (let at = 1; at < word.length; at++) {
    const typed = `-${word.toString('latin1', at, at + 1)}`;
    const flag = known.find(({ short }) => short !== undefined && `-${short}` === typed);
    if (flag === undefined) throw unknownFlag(typed, known, command);
    if (takesValue(flag)) {
      take(flag, typed, at + 1 < word.length ? word.subarray(at + 1) : undefined);
      return;
    }
    take(flag, typed, undefined);
  }
}

/** The first word names a command, unless an `-o` says that it is the SOURCE of a mount. */
function commandOf(words: readonly Buffer[]): CommandSpec | undefined {
  const found = words[0] === undefined ? undefined : findCommand(words[0].toString());
  const end = words.findIndex((word) => word.equals(Buffer.from('--')));
  const own = end < 0 ? words : words.slice(0, end);
  return own.some((word) => word[0] === HYPHEN && word[1] === 0x6f) ? undefined : found;
}

function takesValue({ name, choices }: FlagSpec): boolean {
  return name === 'option' || choices !== undefined;
}

function checkChoice({ choices }: FlagSpec, typed: string, value: Buffer): void {
  if (choices === undefined || choices.includes(value.toString())) return;
  throw usage(`${typed}: expected one of ${choices.join(', ')}, found '${value}'`);
}

function checkOperands(command: CommandSpec, operands: readonly Buffer[]): void {
  const { min, max } = command.operands;
  const line = `usage: ${usageLine(command)}`;
  if (operands.length < min) {
    // The commonest slip of all: a command that there is not.
    const names = COMMANDS.map(({ name }) => name).join(', ');
    if (command === MOUNT && operands.length === 0)
      throw usage(`expected MERGED or a command (${names}); ${line}`);
    throw usage(`expected ${command.usage}, found ${operands.length || 'nothing'}; ${line}`);
  }
  if (operands.length > max) throw usage(`unexpected argument '${operands[max]}'; ${line}`);
}

function unknownFlag(typed: string, known: readonly FlagSpec[], command: CommandSpec): Git2dbError {
  const names = known.map(({ name, short }) =>
    name === 'option' ? '-o' : short ? `-${short}, --${name}` : `--${name}`,
  );
  const program = ['git2db-mount', command.name].filter(Boolean).join(' ');
  return usage(`unknown option '${typed}'; ${program} takes ${names.join(', ')}`);
}

export function usageLine({ name, usage: operands }: CommandSpec): string {
  return ['git2db-mount', name, operands].filter(Boolean).join(' ');
}

function usage(message: string): Git2dbError {
  return new Git2dbError('USAGE', message);
}
