/** The manuals that `--help` prints. */
import { COMMANDS, COMMON_FLAGS, type CommandSpec, type FlagSpec, MOUNT } from './commands.ts';
import { IGNORED_OPTION_NAMES } from './options.ts';

const WIDTH = 88;

/** What `-o` takes, and what that does; the test compares the names with the parser's. */
export const OPTION_MANUAL: readonly (readonly [option: string, meaning: string])[] = [
  ['lowerdir=A[:B...]', 'The trees that are not written to, the topmost first'],
  ['upperdir=U', 'Where what is written goes'],
  ['workdir=W', 'An empty directory on the file system of U'],
  ['backend=auto|kernel|userns|fuse', 'As --backend, for mount(8) and /etc/fstab'],
  ['ro, rw', 'Read-only, or not'],
  ['volatile, fsync=0|1', 'Never wait for the disk; after a crash the upper is refused'],
  ['nonempty', 'Mount on a directory that is not empty'],
  ['userxattr', 'Keep the marks in user.overlay.*, which needs no privilege'],
  ['context="LABEL"', 'Security label (fscontext, defcontext, rootcontext too)'],
  ['nosuid, suid, nodev, dev, noexec, exec, noatime, atime', 'As mount(8)'],
  ['fsname=NAME', 'What mount(8) shows as the device'],
  ['redirect_dir=on|off|follow|nofollow', 'Kernel: renaming directories of a lower (on)'],
  ['index=on|off, metacopy=on|off', 'Kernel: hard links kept, data copied late (off)'],
  ['xino=on|off|auto', 'Kernel: stable inode numbers over several file systems (auto)'],
  ['allow_other', 'FUSE: other users may enter (root: always)'],
  ['default_permissions', 'FUSE: the kernel checks permissions (always)'],
  ['noacl', 'FUSE: no access control lists'],
  ['passthrough=auto|on|off', 'FUSE: the kernel reads and writes files by itself (auto)'],
  ['timeout=SECONDS', 'FUSE: how long names and attributes are cached (as long as it goes)'],
  ['whiteouts=auto|kernel|all', 'FUSE: which names hide what is below'],
  ['squash_to_root, squash_to_uid=N, squash_to_gid=N', 'FUSE: all files seem to belong to N'],
  ['uidmapping=IN:OUT:COUNT[:...], gidmapping=...', 'FUSE: ids of the layers, and as what they show'],
  ['xattr_permissions=0|1|2', 'FUSE: keep owners and modes in an extended attribute'],
];

export function manual(command: CommandSpec): string {
  const isMount = command === MOUNT;
  const program = ['git2db-mount', command.name].filter(Boolean).join(' ');
  const usage = [
    `Usage: ${[program, '[FLAGS]', command.usage].filter(Boolean).join(' ')}`,
    ...(isMount ? ['       git2db-mount COMMAND [FLAGS] ...'] : []),
  ];
  return [
    usage.join('\n'),
    command.description,
    ...(isMount
      ? [
          section(
            'Commands',
            COMMANDS.map(({ name, summary }) => [name, summary]),
          ),
        ]
      : []),
    section('Flags', [...command.flags, ...COMMON_FLAGS].map(flagRow)),
    ...(isMount ? [section('Options after -o', OPTION_MANUAL), ignoredOptions()] : []),
    ...(command.examples.length > 0 ? [examples(command)] : []),
    exitCodes(command),
    isMount ? '"git2db-mount COMMAND --help" is the manual of a command.' : '',
  ]
    .filter(Boolean)
    .join('\n\n');
}

function flagRow({ name, short, describe, choices }: FlagSpec): [string, string] {
  const long = name === 'option' ? '' : `--${name}${choices === undefined ? '' : ` ${choices.join('|')}`}`;
  const both = [short === undefined ? '' : `-${short}${name === 'option' ? ' OPTIONS' : ''}`, long];
  return [both.filter(Boolean).join(', '), describe];
}

function section(title: string, rows: readonly (readonly [string, string])[]): string {
  const widest = Math.max(...rows.map(([name]) => name.length).filter((length) => length <= 30));
  const lines = rows.map(([name, meaning]) => {
    if (meaning === '') return `  ${name}`;
    return name.length <= widest
      ? `  ${name.padEnd(widest)}  ${meaning}`
      : `  ${name}\n  ${' '.repeat(widest)}  ${meaning}`;
  });
  return [`${title}:`, ...lines].join('\n');
}

function ignoredOptions(): string {
  const words = `Accepted without effect: ${IGNORED_OPTION_NAMES.join(', ')}.`.split(' ');
  const lines = [''];
  for (const word of words) {
    const line = lines.at(-1)!;
    if (line.length + word.length + 1 > WIDTH) lines.push(word);
    else lines[lines.length - 1] = line === '' ? word : `${line} ${word}`;
  }
  return lines.join('\n');
}

function examples({ examples: list }: CommandSpec): string {
  const lines = list.map(([line, meaning]) => (meaning === '' ? `  ${line}` : `  ${line}\n      ${meaning}`));
  return ['Examples:', ...lines].join('\n');
}

function exitCodes({ exitCodes: own }: CommandSpec): string {
  const rows = [[0, 'Done'], ...own, [2, 'Wrong usage']] as [number, string][];
  rows.sort(([a], [b]) => a - b);
  const lines = rows.map(([code, meaning]) => `  ${String(code).padEnd(3)} ${meaning}`);
  return ['Exit codes:', ...lines, '  3…  An error; docs/exit-codes.md lists them'].join('\n');
}
