/** The text of `--help`, made by yargs from the definitions of the commands. */
import yargs, { type Argv, type Options } from 'yargs';
import { EXIT_OK, EXIT_USAGE } from '../exit-codes.ts';
import {
  COMMON_OPTIONS,
  type Command,
  type CommandGroup,
  type OptionSpec,
  type OptionSpecs,
} from './command.ts';
import { ROOT } from './commands/index.ts';
import { reflow, spaced } from './reflow.ts';
import { type Catalogue, commandLine, PROGRAM } from './words.ts';

/** Of a command, or of a group with what is in it; no line is longer than `columns`, where that is possible. */
export function helpText(owner: Command | CommandGroup, catalogue: Catalogue, columns: number): string {
  let help = '';
  const parser = yargs()
    .scriptName(PROGRAM)
    .locale('en')
    .exitProcess(false)
    .wrap(columns)
    .help('help', COMMON_OPTIONS.help.describe)
    .alias('help', COMMON_OPTIONS.help.alias)
    .version('version', COMMON_OPTIONS.version.describe, '');
  describeGroup(parser, ROOT, catalogue, columns);
  parser.parse([...owner.path, '--help'], {}, (error: Error | undefined, _words: unknown, text: string) => {
    if (error) throw error;
    help = text;
  });
  return spaced(help);
}

/** Teaches `parser` the members of `group`. */
function describeGroup(parser: Argv, group: CommandGroup, catalogue: Catalogue, columns: number): Argv {
  for (const inner of catalogue.groups.filter((other) => isMember(other, group))) {
    parser.command(inner.path.at(-1)!, inner.summary, (y) => describeGroup(y, inner, catalogue, columns));
  }
  return describeMembers(parser, group, catalogue, columns)
    .usage(`Usage: ${commandLine(group)} COMMAND [OPTIONS]\n\n${reflow(group.description, columns)}`)
    .epilogue(`"${commandLine(group)} COMMAND --help" is the manual of a command.`);
}

/** Commands of a group, or below a command. */
function describeMembers(
  parser: Argv,
  owner: Command | CommandGroup,
  catalogue: Catalogue,
  columns: number,
): Argv {
  for (const command of catalogue.commands.filter((other) => isMember(other, owner))) {
    parser.command(command.path.at(-1)!, command.summary, (y) =>
      describeMembers(describeCommand(y, command, columns), command, catalogue, columns),
    );
  }
  return parser;
}

interface Named {
  readonly path: readonly string[];
}

function isMember({ path }: Named, owner: Named): boolean {
  return path.length === owner.path.length + 1 && owner.path.every((word, i) => path[i] === word);
}

function describeCommand(parser: Argv, command: Command, columns: number): Argv {
  const { json, quiet, verbose } = COMMON_OPTIONS;
  parser.options(yargsOptions(command.options)).options(yargsOptions({ json, quiet, verbose }));
  const usage = [commandLine(command), '[OPTIONS]', command.operands.usage].filter(Boolean).join(' ');
  parser
    .usage(`Usage: ${usage}\n\n${reflow(command.description, columns)}`)
    .group(Object.keys(command.options), 'Options:')
    .group(Object.keys(COMMON_OPTIONS), 'Common options:');
  for (const [line, meaning] of command.examples) parser.example(line, meaning);
  const codes = [[EXIT_OK, 'Done'] as const, ...command.exitCodes, [EXIT_USAGE, 'Wrong usage'] as const];
  codes.sort(([a], [b]) => a - b);
  const lines = codes.map(([code, meaning]) => `  ${String(code).padEnd(2)} ${meaning}`);
  return parser.epilogue(`Exit codes:\n${lines.join('\n')}\n  3… An error; docs/exit-codes.md lists them`);
}

function yargsOptions(specs: OptionSpecs): Record<string, Options> {
  const convert = ({ type, describe, alias, choices, repeat }: OptionSpec): Options => ({
    type: type === 'boolean' ? 'boolean' : 'string',
    describe: choices === undefined ? describe : `${describe}: ${choices.join(', ')}`,
    ...(alias === undefined ? {} : { alias }),
    ...(repeat === true ? { array: true } : {}),
  });
  return Object.fromEntries(Object.entries(specs).map(([name, spec]) => [name, convert(spec)]));
}
