/** The commands of git2db-mount, described once: for the parser, the help and the completion of words. */

export interface FlagSpec {
  readonly name: string;
  readonly short?: string;
  readonly describe: string;
  /** What the flag's value may be; without it the flag takes none. */
  readonly choices?: readonly string[];
}

export interface CommandSpec {
  readonly name: string;
  readonly summary: string;
  /** Operands, as the usage line shows them. */
  readonly usage: string;
  readonly description: string;
  readonly flags: readonly FlagSpec[];
  /** Operands: `command`: all words after the first belong to a command to run. */
  readonly operands: { readonly min: number; readonly max: number; readonly kind: OperandKind };
  readonly examples: readonly (readonly [line: string, meaning: string])[];
  readonly exitCodes: readonly (readonly [code: number, meaning: string])[];
}

export type OperandKind = 'none' | 'directory' | 'mount' | 'command' | 'shell';

export const SHELLS = ['bash', 'zsh', 'fish'] as const;
export const BACKENDS = ['auto', 'kernel', 'userns', 'fuse'] as const;

const BACKEND: FlagSpec = { name: 'backend', describe: 'Take this way of mounting', choices: BACKENDS };

export const COMMON_FLAGS: readonly FlagSpec[] = [
  { name: 'json', describe: 'Print one JSON document' },
  { name: 'quiet', short: 'q', describe: 'Print errors only' },
  { name: 'verbose', short: 'v', describe: 'Say more about what is done' },
  { name: 'help', short: 'h', describe: 'Print this manual' },
  { name: 'version', short: 'V', describe: 'Print the version' },
];

/** Mounting, which needs no word for itself. */
export const MOUNT: CommandSpec = {
  name: '',
  summary: 'Mount a writable tree over read-only ones',
  usage: '-o lowerdir=A[:B...][,upperdir=U,workdir=W][,OPTION...] [SOURCE] MERGED',
  description: `Shows the directories A, B, ... as one tree at MERGED, the first one on top. What is
written there goes to U; A, B, ... stay as they are. W is an empty directory on the
file system of U, for files in the making. Without U and W the tree is read-only.

Returns when the mount is ready; it stays until "git2db-mount umount MERGED" or
plain umount(8). SOURCE is only what mount(8) shows as the device.

Backends, and what "auto" does: the kernel's own overlay where the caller may mount
it, else a FUSE server for this mount; both are seen by everybody. "userns" is the
kernel's overlay in namespaces of its own, seen only by "git2db-mount exec".

In a path "\\:", "\\," and "\\\\" stand for a colon, a comma and a backslash.

JSON: {"merged","backend","pid","rejected":[{"backend","code","reason"}],"dropped"};
"dropped" are defaults that the kernel does not know.`,
  flags: [
    { name: 'option', short: 'o', describe: 'Options of the mount, separated by commas; may be repeated' },
    { name: 'foreground', short: 'f', describe: 'Stay in the foreground until the mount has ended' },
    { name: 'debug', short: 'd', describe: 'As --foreground, and say what the server does' },
    BACKEND,
  ],
  operands: { min: 1, max: 2, kind: 'directory' },
  examples: [
    ['git2db-mount -o lowerdir=/base,upperdir=/u/up,workdir=/u/work /u/tree', 'a writable tree over /base'],
    ['git2db-mount -o lowerdir=/new:/old /merged', 'two trees as one, read-only'],
    [
      'mount -t fuse.git2db-mount -o lowerdir=/base,upperdir=/up,workdir=/work git2db /merged',
      'by mount(8), and so from /etc/fstab',
    ],
  ],
  exitCodes: [],
};

export const COMMANDS: readonly CommandSpec[] = [
  {
    name: 'probe',
    summary: 'Find out which backends work here',
    usage: '[DIRECTORY]',
    description: `Tries each backend for real, in a scratch directory of DIRECTORY (by default the
current one), as this user, and removes it again. Uppers in DIRECTORY can be mounted
by the backends that work.

JSON: {"directory","fileSystem","fuseDeviceMode","auto","backends":[{"backend","works",
"reason","code","errno","features","dropped"}]}; "auto" is the backend that a mount
would take, or null.`,
    flags: [BACKEND],
    operands: { min: 0, max: 1, kind: 'directory' },
    examples: [['git2db-mount probe /data', 'what works for uppers in /data']],
    exitCodes: [[1, 'No backend works, or not the one that was asked for']],
  },
  {
    name: 'list',
    summary: 'List the mounts of git2db',
    usage: '',
    description: `Lists the mounts that this user has made, and those of others that can be seen.
A mount that was ended by plain umount(8) is forgotten here.

JSON: [{"merged","backend","state","lower","upper","work","readOnly","pids",
"recorded","since"}]; "state" is mounted, mounting, dead (its server was killed), lost
(a crash or reboot has ended it), detached (unmounted, still in use) or unsure.`,
    flags: [],
    operands: { min: 0, max: 0, kind: 'none' },
    examples: [['git2db-mount list --json', 'for programs']],
    exitCodes: [[1, 'A record of a mount is damaged; it is named']],
  },
  {
    name: 'umount',
    summary: 'End mounts',
    usage: 'MERGED... | --all',
    description: `Ends each mount, and the server or holder behind it. A mount that is in use is
refused, with the names of the processes that use it.

JSON: [{"merged","ended","code","message"}].`,
    flags: [
      { name: 'all', short: 'a', describe: 'All mounts of this user' },
      { name: 'force', short: 'f', describe: 'Cut off whoever uses the mount' },
      { name: 'lazy', short: 'l', describe: 'Unmount now; whoever uses the mount may go on with it' },
    ],
    operands: { min: 0, max: Number.POSITIVE_INFINITY, kind: 'mount' },
    examples: [['git2db-mount umount /merged', '']],
    exitCodes: [
      [1, 'Several mounts were named, and some could not be ended'],
      [48, 'Not a mount of git2db'],
      [49, 'In use'],
    ],
  },
  {
    name: 'repair',
    summary: 'Set right what a crash or reboot has left',
    usage: '[MERGED...]',
    description: `Clears mounts whose server was killed, mounts again what a crash or reboot has
ended, and names what it cannot. With MERGED, looks at these only. Doing it twice does no harm.

JSON: [{"merged","backend","state","action","message","open"}]; "state" is what was found,
"action" remounted, cleared or reported, "open" true for what somebody has to see to.`,
    flags: [{ name: 'dry-run', short: 'n', describe: 'Change nothing, say what would be done' }],
    operands: { min: 0, max: Number.POSITIVE_INFINITY, kind: 'mount' },
    examples: [['git2db-mount repair', 'after a reboot']],
    exitCodes: [[1, 'Something could not be set right; it is named']],
  },
  {
    name: 'exec',
    summary: 'Run a command that sees a mount',
    usage: 'MERGED -- COMMAND [ARGUMENT...]',
    description: `Runs COMMAND where the mount is seen: for a mount by "--backend userns" inside its
namespaces, for all others right here.`,
    flags: [],
    operands: { min: 2, max: Number.POSITIVE_INFINITY, kind: 'command' },
    examples: [['git2db-mount exec /merged -- make -C /merged', '']],
    exitCodes: [
      [48, 'Not a mount of git2db'],
      [126, 'COMMAND could not be started'],
      [127, 'There is no COMMAND'],
    ],
  },
  {
    name: 'enter',
    summary: 'Start a shell that sees a mount',
    usage: 'MERGED',
    description: 'Runs $SHELL as "git2db-mount exec" runs a command.',
    flags: [],
    operands: { min: 1, max: 1, kind: 'mount' },
    examples: [['git2db-mount enter /merged', '']],
    exitCodes: [[48, 'Not a mount of git2db']],
  },
  {
    name: 'doctor',
    summary: 'Look for what could go wrong with mounts here',
    usage: '',
    description: `Looks at the kernel, /dev/fuse, fusermount3, the limits and the records, and says
what is missing and how to get it. Changes nothing.

JSON: [{"check","state","message","remedy"}]; "state" is ok, warning or problem.`,
    flags: [],
    operands: { min: 0, max: 0, kind: 'none' },
    examples: [],
    exitCodes: [[1, 'There is a problem']],
  },
  {
    name: 'completion',
    summary: 'Print a script that lets a shell complete the words',
    usage: SHELLS.join('|'),
    description: 'The script is complete in itself: pressing TAB starts nothing but "git2db-mount list".',
    flags: [],
    operands: { min: 1, max: 1, kind: 'shell' },
    examples: [['source <(git2db-mount completion bash)', 'for this shell']],
    exitCodes: [],
  },
];

export function findCommand(name: string): CommandSpec | undefined {
  return COMMANDS.find((command) => command.name === name);
}
