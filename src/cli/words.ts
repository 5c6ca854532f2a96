/** Splits a command line into the command it names, its options and its operands. */
import parse from 'yargs-parser';
import { Git2dbError } from '../xet/errors.ts';
import { COMMON_OPTIONS, type Command, type CommandGroup, type OptionSpecs } from './command.ts';
import { ROOT } from './commands/index.ts';

export const PROGRAM = 'git2db';

/** The commands there are. */
export interface Catalogue {
  readonly commands: readonly Command[];
  readonly groups: readonly CommandGroup[];
}

/** By name and alias, as they were found; `_` is all that is no option, the words of the command among them. */
export type Words = Readonly<Record<string, unknown>> & { readonly _: readonly unknown[] };

export interface SplitLine {
  /** A group: the words go no further. */
  readonly owner: Command | CommandGroup;
  readonly words: Words;
}

/** Throws USAGE for what cannot be split. Options may come before the command's words. */
export function splitWords(argv: readonly string[], { commands, groups }: Catalogue): SplitLine {
  let group = ROOT;
  for (;;) {
    const words = split(argv, COMMON_OPTIONS);
    const path = pathOf(group, words);
    const command = commands.find((each) => each.path.join(' ') === path);
    if (command !== undefined) return splitOf(command, argv, commands);
    const inner = groups.find((each) => each.path.join(' ') === path);
    if (inner === undefined) return { owner: group, words };
    group = inner;
  }
}

/** A command may have others below it (`serve token`), which its next word names. */
function splitOf(command: Command, argv: readonly string[], commands: readonly Command[]): SplitLine {
  const words = split(argv, { ...command.options, ...COMMON_OPTIONS });
  const path = pathOf(command, words);
  const member = commands.find((each) => each.path.join(' ') === path);
  return member === undefined ? { owner: command, words } : splitOf(member, argv, commands);
}

/** That of what the next word would name. */
function pathOf({ path }: { readonly path: readonly string[] }, words: Words): string {
  return [...path, String(words._[path.length])].join(' ');
}

export function commandLine(owner: { readonly path: readonly string[] }): string {
  return [PROGRAM, ...owner.path].join(' ');
}

/** Values are checked by program.ts, so only what takes one is of interest. */
function split(argv: readonly string[], specs: OptionSpecs): Words {
  const entries = Object.entries(specs);
  const named = (isOne: (spec: OptionSpecs[string]) => boolean) =>
    entries.filter(([, spec]) => isOne(spec)).map(([name]) => name);
  const { argv: words, error } = parse.detailed([...argv], {
    alias: Object.fromEntries(
      entries.flatMap(([name, { alias }]) => (alias === undefined ? [] : [[name, [alias]]])),
    ),
    boolean: named(({ type }) => type === 'boolean'),
    string: named(({ type }) => type !== 'boolean'),
    array: named(({ repeat }) => repeat === true),
    configuration: {
      'boolean-negation': false,
      'camel-case-expansion': false,
      'dot-notation': false,
      'greedy-arrays': false,
      'parse-numbers': false,
      'parse-positional-numbers': false,
    },
  });
  if (error) throw new Git2dbError('USAGE', error.message);
  return words;
}
