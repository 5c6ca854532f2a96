/**
 * Man pages (section 1) in the man(7) macros, written from the command definitions: `git2db-branch-list.1`
 * for a command, `git2db-branch.1` for a group, and `git2db.1`.
 */
import {
  COMMON_OPTIONS,
  type Command,
  type CommandGroup,
  NO_OPERANDS,
  type OptionSpec,
  type OptionSpecs,
} from './command.ts';

export interface ManPage {
  /** `git2db-branch-list`. */
  readonly name: string;
  readonly text: string;
}

export interface ManSource {
  readonly program: string;
  readonly version: string;
  readonly root: CommandGroup;
  readonly commands: readonly Command[];
  readonly groups: readonly CommandGroup[];
}

type Entry = Command | CommandGroup;

/** All pages there are. */
export function manPages(source: ManSource): ManPage[] {
  const { root, commands, groups } = source;
  return [
    ...[root, ...groups].map((group) => groupPage(group, source)),
    ...commands.map((command) => commandPage(command, source)),
  ];
}

export function pageName(program: string, path: readonly string[]): string {
  return [program, ...path].join('-');
}

function groupPage(group: CommandGroup, source: ManSource): ManPage {
  const depth = group.path.length;
  const members = [...source.groups, ...source.commands].filter(
    ({ path }) => path.length === depth + 1 && group.path.every((word, i) => path[i] === word),
  );
  const line = [source.program, ...group.path].join(' ');
  const { help, version } = COMMON_OPTIONS;
  return page(group, source, [
    ['SYNOPSIS', [`.B ${escapeText(line)}`, '.I COMMAND', '[\\fIOPTIONS\\fR]']],
    ['DESCRIPTION', paragraphs(group.description)],
    [
      'COMMANDS',
      members.flatMap((member) => [
        '.TP',
        `.B ${escapeText(member.path.at(-1)!)}`,
        text(`${member.summary}.`),
      ]),
    ],
    ['OPTIONS', optionLines({ help, version })],
    ...(depth === 0 ? rootSections() : []),
    [
      'SEE ALSO',
      seeAlso(
        members.map(({ path }) => path),
        source,
      ),
    ],
  ]);
}

function commandPage(command: Command, source: ManSource): ManPage {
  const { operands, options, examples, exitCodes, description, path } = command;
  const line = [source.program, ...path].join(' ');
  const usage =
    operands === NO_OPERANDS || operands.usage === '' ? [] : [`\\fI${escapeText(operands.usage)}\\fR`];
  const codes = [[0, 'Done'] as const, ...exitCodes, [2, 'Wrong usage; nothing was done'] as const].sort(
    ([a], [b]) => a - b,
  );
  const siblings = [...source.commands, ...source.groups]
    .map((other) => other.path)
    .filter(
      (other) =>
        other.length === path.length &&
        other !== path &&
        other.slice(0, -1).join(' ') === path.slice(0, -1).join(' '),
    );
  return page(command, source, [
    ['SYNOPSIS', [`.B ${escapeText(line)}`, '[\\fIOPTIONS\\fR]', ...usage]],
    ['DESCRIPTION', paragraphs(description)],
    ...(Object.keys(options).length === 0 ? [] : [['OPTIONS', optionLines(options)] as const]),
    ['COMMON OPTIONS', optionLines(COMMON_OPTIONS)],
    ...(examples.length === 0
      ? []
      : [
          [
            'EXAMPLES',
            examples.flatMap(([words, meaning]) => [
              '.TP',
              `.B ${escapeText(words)}`,
              meaning === '' ? '\\&' : text(`${meaning}.`),
            ]),
          ] as const,
        ]),
    [
      'EXIT STATUS',
      [
        ...codes.flatMap(([code, meaning]) => ['.TP', `.B ${code}`, text(`${meaning}.`)]),
        '.PP',
        'Every other class of error has a number of its own, from 3 on; docs/exit\\-codes.md lists them.',
      ],
    ],
    ['SEE ALSO', seeAlso([path.slice(0, -1), ...(path.length === 1 ? [] : siblings)], source)],
  ]);
}

function rootSections(): [string, readonly string[]][] {
  return [
    [
      'ENVIRONMENT',
      [
        ['GIT2DB_REGISTRY', 'The directory of the registry, where --registry does not say it.'],
        [
          'GIT2DB_LOG',
          'error, warn, info, debug or trace: what to log, to standard error or to GIT2DB_LOG_FILE.',
        ],
        ['GIT2DB_LOG_FILE', 'A file to log to.'],
        ['NO_COLOR', 'No colours.'],
        [
          'GIT2DB_WORKTREE_DRIVER, GIT2DB_OVERLAY_BACKEND, GIT2DB_GIT_NAME, GIT2DB_GIT_EMAIL',
          'Settings; "git2db config --explain" tells them all.',
        ],
      ].flatMap(([name, meaning]) => ['.TP', `.B ${escapeText(name!)}`, text(meaning!)]),
    ],
    [
      'FILES',
      [
        '.TP',
        '.I ~/.config/git2db/config.toml',
        'Settings of the user.',
        '.TP',
        '.I .git2db/metadata.json',
        'What a registry knows of its repositories.',
      ],
    ],
    [
      'EXIT STATUS',
      [
        ...[
          '.TP',
          '.B 0',
          'Done.',
          '.TP',
          '.B 1',
          'The thing asked is false, or some items failed; all are named.',
        ],
        ...['.TP', '.B 2', 'Wrong usage; nothing was done.'],
        ...['.TP', '.B 3 and up', 'One for each class of error; docs/exit\\-codes.md lists them.'],
      ],
    ],
  ];
}

function page(
  { path, summary }: Entry,
  { program, version }: ManSource,
  sections: readonly (readonly [title: string, lines: readonly string[]])[],
): ManPage {
  const name = pageName(program, path);
  // No date: the same sources give the same pages.
  const lines = [
    `.\\" Made from the definitions of the commands.`,
    `.TH "${name.toUpperCase()}" "1" "" "git2db ${version}" "git2db"`,
    '.nh',
    '.ad l',
    '.SH "NAME"',
    `${escapeText(name)} \\- ${escapeText(summary)}`,
    ...sections.flatMap(([title, body]) => (body.length === 0 ? [] : [`.SH "${title}"`, ...body])),
  ];
  return { name, text: `${lines.join('\n')}\n` };
}

function optionLines(specs: OptionSpecs): string[] {
  return Object.entries(specs).flatMap(([name, spec]) => [
    '.TP',
    optionHead(name, spec),
    text(optionText(spec)),
  ]);
}

function optionHead(name: string, { type, alias }: OptionSpec): string {
  const words = [...(alias === undefined ? [] : [`-${alias}`]), `--${name}`].map(
    (word) => `\\fB${escapeText(word)}\\fR`,
  );
  const value = type === 'boolean' ? '' : type === 'number' ? ' \\fINUMBER\\fR' : ' \\fIVALUE\\fR';
  return `${words.join(', ')}${value}`;
}

function optionText({ describe, choices, repeat }: OptionSpec): string {
  const among = choices === undefined ? '' : `: ${choices.join(', ')}`;
  return `${describe}${among}.${repeat === true ? ' May be given several times.' : ''}`;
}

/** Paragraphs are filled anew; indented lines stay as they are. */
function paragraphs(description: string): string[] {
  return description.split(/\n{2,}/).flatMap((paragraph, index) => {
    const lines: string[] = index === 0 ? [] : ['.PP'];
    let isLiteral = false;
    for (const line of paragraph.split('\n')) {
      const literal = /^\s/.test(line);
      if (literal !== isLiteral) {
        if (literal && lines.length > 0 && lines.at(-1) !== '.PP') lines.push('.PP');
        lines.push(literal ? '.nf' : '.fi');
      }
      isLiteral = literal;
      lines.push(literal ? `\\&${escapeText(line)}` : text(line));
    }
    if (isLiteral) lines.push('.fi');
    return lines;
  });
}

function seeAlso(paths: readonly (readonly string[])[], { program }: ManSource): string[] {
  const names = paths.map((path) => pageName(program, path));
  return names.map((name, index) => `.BR ${escapeText(name)} (1)${index < names.length - 1 ? ',' : ''}`);
}

/** A line that may begin with anything. */
function text(line: string): string {
  // The keys of a document are one long word.
  const escaped = escapeText(line).replace(/,(?=["{[])/g, ',\\:');
  return /^[.']/.test(escaped) ? `\\&${escaped}` : escaped;
}

function escapeText(words: string): string {
  return words
    .replaceAll('\\', '\\e')
    .replaceAll('-', '\\-')
    .replaceAll('…', '...')
    .replaceAll("'", '\\(aq')
    .replaceAll('`', '\\(ga')
    .replaceAll('^', '\\(ha')
    .replaceAll('~', '\\(ti');
}
