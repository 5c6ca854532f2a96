/**
 * From argv to an exit code. words.ts splits the words, help.ts lays out the help; which words are
 * acceptable is decided here, so that every mistake gets one clear line and exit code 2.
 */
import { EXIT_CODES, EXIT_OK, EXIT_UNEXPECTED, exitCodeOf } from '../exit-codes.ts';
import { withoutSecrets } from '../git/failure.ts';
import { packageVersion } from '../version.ts';
import { Git2dbError, messageOf } from '../xet/errors.ts';
import {
  COMMON_OPTIONS,
  type Command,
  type CommandContext,
  type CommandGroup,
  type OptionSpec,
  type OptionSpecs,
  type OptionValues,
} from './command.ts';
import { COMMAND_GROUPS, COMMANDS } from './commands/index.ts';
import { nearest } from './nearest.ts';
import { createOutput, type Output, type Sink } from './output.ts';
import { type Catalogue, commandLine, PROGRAM, splitWords, type Words } from './words.ts';

/** What the program may touch; main.ts passes the process, tests pass something smaller. */
export interface Host {
  /** Undefined: there is none any more. */
  readonly cwd: string | undefined;
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly stdin: number;
  readonly stdout: Sink;
  readonly stderr: Sink;
  readonly interruptible: CommandContext['interruptible'];
}

const EVERYTHING: Catalogue = { commands: COMMANDS, groups: COMMAND_GROUPS };

/** Runs one command line; never throws. */
export async function runProgram(
  argv: readonly string[],
  host: Host,
  catalogue: Catalogue = EVERYTHING,
): Promise<number> {
  let output = createPlainOutput(host);
  try {
    output = createOutput({ quiet: false, verbose: false }, host);
    const { cwd } = host;
    if (cwd === undefined) {
      throw new Git2dbError(
        'DIRECTORY_MISSING',
        'the current directory is gone: change to one that is there',
      );
    }
    const { owner, words } = splitWords(argv, catalogue);
    if (words.help === true) {
      // Laying it out takes as long as starting Node: nothing of it is loaded otherwise.
      const { helpText } = await import('./help.ts');
      const columns = host.stdout.isTTY === true ? (host.stdout.columns ?? 80) : 80;
      host.stdout.write(`${helpText(owner, catalogue, Math.min(columns, 100))}\n`);
      return EXIT_OK;
    }
    if (words.version === true) {
      host.stdout.write(`${packageVersion()}\n`);
      return EXIT_OK;
    }
    if (!('run' in owner)) throw refuseGroup(owner, words, catalogue);
    const command = owner;
    const options = checkOptions(command, words, argv);
    const operands = checkOperands(command, words);
    output = createOutput({ quiet: options.quiet, verbose: options.verbose }, host);
    if (output.logs('debug')) output.log('debug', withoutSecrets(`${PROGRAM} ${argv.join(' ')}`));
    const { env, stdin, interruptible } = host;
    const code = await command.run(
      { options, operands },
      { output, json: options.json, cwd, env, stdin, interruptible },
    );
    return code ?? EXIT_OK;
  } catch (error) {
    return report(error, output, asksForJson(argv));
  }
}

/** Also of a command line that was not understood. */
function asksForJson(argv: readonly string[]): boolean {
  const end = argv.indexOf('--');
  return argv.slice(0, end === -1 ? argv.length : end).includes('--json');
}

function report(error: unknown, output: Output, json: boolean): number {
  const code = exitCodeOf(error);
  const bug = code === EXIT_UNEXPECTED && (error as { code?: unknown }).code === undefined;
  if (bug && error instanceof Error && output.logs('debug')) output.log('debug', error.stack ?? '');
  // A word of the command line may be a URL with a password in it.
  const whole = withoutSecrets(messageOf(error));
  const message = oneLine(whole, code);
  if (message !== whole && output.logs('debug')) output.log('debug', whole);
  const said = bug ? `unexpected failure: ${message} (GIT2DB_LOG=debug tells more)` : message;
  if (json) output.jsonError({ error: { code: codeOf(error), exitCode: code, message: said } });
  output.error(said);
  return code;
}

/** The class of the error, or what the system calls it; null for neither. */
function codeOf(error: unknown): string | null {
  const { code, name } = error as { readonly code?: unknown; readonly name?: unknown };
  if (name === 'AbortError') return 'INTERRUPTED';
  return typeof code === 'string' ? code : null;
}

/** What git said, without the command that was run (GIT2DB_LOG=debug has it) and its advice about its own commands. */
function oneLine(message: string, code: number): string {
  const [, where, said] = /^git .*? in (\/.*?) failed with status \d+: (.*)$/s.exec(message) ?? [];
  if (where === undefined || said === undefined) return message;
  if (code === EXIT_CODES.NOTHING_TO_COMMIT) {
    return `nothing is staged in ${where} that HEAD has not: 'git2db add' stages files`;
  }
  const lines = said
    .split(/[\r\n]+/)
    .map((line) => line.trim())
    .filter((line) => line !== '' && !/^(?:hint:|\(use |Aborting$)/.test(line))
    .map((line) => line.replace(/^(?:error|fatal): /, ''));
  const joined = lines
    .reduce((text, line) => `${text}${/[:,;]$/.test(text) ? '' : ';'} ${line}`, '')
    .replace(/^; /, '');
  return `${where}: ${joined}`;
}

/** For errors in what the environment says about output itself. */
function createPlainOutput(host: Host): Output {
  return createOutput(
    { quiet: false, verbose: false },
    { stdout: host.stdout, stderr: host.stderr, env: { NO_COLOR: '1' } },
  );
}

// ---- checking --------------------------------------------------------------------------------

/** A group was named without one of its members, or with a word that is none. */
function refuseGroup(group: CommandGroup, words: Words, { commands, groups }: Catalogue): Git2dbError {
  const word = words._[group.path.length];
  const help = `'${commandLine(group)} --help' lists the commands`;
  const flag = Object.keys(words).find((key) => key !== '_' && key !== '$0');
  if (word === undefined && flag !== undefined && !isCommon(flag)) {
    return unknownOption(flag, COMMON_OPTIONS, group);
  }
  if (word === undefined) return new Git2dbError('USAGE', `expected a command; ${help}`);
  const typed = [...group.path, String(word)].join(' ');
  const known = [...commands, ...groups].map(({ path }) => path.join(' '));
  const close = nearest(typed, known) ?? known.find((path) => path.endsWith(` ${word}`));
  const hint = close === undefined ? help : `did you mean '${PROGRAM} ${close}'?`;
  return new Git2dbError('USAGE', `unknown command '${typed}'; ${hint}`);
}

/** By its name or its letter. */
function isCommon(flag: string): boolean {
  return (
    Object.hasOwn(COMMON_OPTIONS, flag) ||
    Object.values<OptionSpec>(COMMON_OPTIONS).some(({ alias }) => alias === flag)
  );
}

type CommonValues = OptionValues<typeof COMMON_OPTIONS>;

function checkOptions(
  command: Command,
  words: Words,
  argv: readonly string[],
): CommonValues & OptionValues<OptionSpecs> {
  const specs: OptionSpecs = { ...command.options, ...COMMON_OPTIONS };
  const aliases = new Set(Object.values(specs).map((spec) => spec.alias));
  for (const key of Object.keys(words)) {
    if (key === '_' || key === '$0' || aliases.has(key) || Object.hasOwn(specs, key)) continue;
    throw unknownOption(key, specs, command);
  }
  for (const word of argv.slice(0, argv.includes('--') ? argv.indexOf('--') : argv.length)) {
    const name = /^--([^=]+)=/.exec(word)?.[1];
    if (name !== undefined && specs[name]?.type === 'boolean') {
      throw new Git2dbError('USAGE', `--${name} takes no value, found '${word}'`);
    }
  }
  const given = Object.keys(specs).filter((name) => words[name] !== undefined);
  for (const name of given) {
    const rival = specs[name]!.conflicts?.find((other) => given.includes(other));
    if (rival !== undefined) throw new Git2dbError('USAGE', `--${name} and --${rival} exclude each other`);
  }
  const values = Object.entries(specs).map(([name, spec]) => [name, optionValue(name, spec, words[name])]);
  return Object.fromEntries(values);
}

function optionValue(name: string, spec: OptionSpec, found: unknown): unknown {
  if (spec.type === 'boolean') return found === true;
  const values =
    found === undefined ? [] : [found].flat().map((value) => checkValue(name, spec, String(value)));
  if (found !== undefined && values.length === 0) throw new Git2dbError('USAGE', `--${name} needs a value`);
  // Given twice, the last one counts.
  return spec.repeat === true ? values : values.at(-1);
}

function checkValue(name: string, { type, choices }: OptionSpec, text: string): string | number {
  if (text === '') throw new Git2dbError('USAGE', `--${name} needs a value`);
  if (choices !== undefined && !choices.includes(text)) {
    throw new Git2dbError('USAGE', `--${name}: ${notAmong(text, choices)}`);
  }
  if (type !== 'number') return text;
  const number = Number(text);
  if (!Number.isFinite(number)) throw new Git2dbError('USAGE', `--${name} needs a number, found '${text}'`);
  return number;
}

/** What to say of a word that is none of `choices`. */
function notAmong(word: string, choices: readonly string[]): string {
  const close = nearest(word, choices);
  return `expected one of ${choices.join(', ')}, found '${word}'${close === undefined ? '' : `; did you mean '${close}'?`}`;
}

function unknownOption(
  key: string,
  specs: OptionSpecs,
  owner: { readonly path: readonly string[] },
): Git2dbError {
  const typed = key.length === 1 ? `-${key}` : `--${key}`;
  const close = key.length === 1 ? undefined : nearest(key, Object.keys(specs));
  const hint =
    close === undefined ? `'${commandLine(owner)} --help' lists the options` : `did you mean '--${close}'?`;
  return new Git2dbError('USAGE', `unknown option '${typed}'; ${hint}`);
}

function checkOperands(command: Command, words: Words): readonly string[] {
  const { min, max, usage, choices } = command.operands;
  const operands = words._.slice(command.path.length).map(String);
  const line = [commandLine(command), usage].filter(Boolean).join(' ');
  if (operands.length < min) {
    const count = operands.length === 0 ? 'found nothing' : `found ${operands.length}`;
    throw new Git2dbError('USAGE', `expected ${usage}, ${count}; usage: ${line}`);
  }
  if (operands.length > max) {
    throw new Git2dbError('USAGE', `unexpected argument '${operands[max]}'; usage: ${line}`);
  }
  const wrong = choices === undefined ? undefined : operands.find((word) => !choices.includes(word));
  if (wrong !== undefined) throw new Git2dbError('USAGE', notAmong(wrong, choices!));
  return operands;
}
