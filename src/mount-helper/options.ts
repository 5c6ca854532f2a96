/**
 * From the options of a mount, as text, to `MountOptions`. What mount(8) adds for reasons of its own is
 * accepted, and so are the options of fuse-overlayfs and of the kernel's overlayfs that mean something
 * here; any other is refused, with the list of those that are known.
 */
import { Git2dbError } from '../xet/errors.ts';
import { type BackendName, DEFAULT_OPTIONS, type IdRange, type MountOptions } from './mount-options.ts';
import { type OptionText, splitOptions, splitPaths, unescapePath } from './option-text.ts';
import { resolvePath } from './path.ts';

/** All that a command line says about one mount. */
export interface MountWords {
  /** The texts of all `-o`. */
  readonly options: readonly Buffer[];
  /** [MERGED] or [SOURCE, MERGED]. */
  readonly operands: readonly Buffer[];
  /** Undefined: `-o backend=` decides, or it is `auto`. */
  readonly backend?: BackendName | 'auto' | undefined;
  readonly foreground: boolean;
  readonly debug: boolean;
}

/** `MountOptions` while they are collected; later options of a list win over earlier ones. */
type Draft = { -readonly [Key in keyof MountOptions]?: MountOptions[Key] };
type Reader = (draft: Draft, option: OptionText) => void;

const PATH_MAX = 4096;

const flag =
  <Key extends keyof MountOptions>(key: Key, value: MountOptions[Key]): Reader =>
  (draft, option) => {
    if (option.value !== undefined) throw usage(`option '${option.name}' takes no value`);
    draft[key] = value;
  };

const choice =
  <Key extends keyof MountOptions>(key: Key, values: Readonly<Record<string, MountOptions[Key]>>): Reader =>
  (draft, option) => {
    const found = requiredText(option);
    if (!Object.hasOwn(values, found)) {
      throw usage(`option '${option.name}': expected ${Object.keys(values).join(', ')}, found '${found}'`);
    }
    draft[key] = values[found]!;
  };

const number =
  (key: 'squashToUid' | 'squashToGid'): Reader =>
  (draft, option) => {
    draft[key] = parseId(requiredText(option), option.name);
  };

const mapping =
  (key: 'uidMapping' | 'gidMapping'): Reader =>
  (draft, option) => {
    draft[key] = parseIdRanges(option);
  };

const path =
  (key: 'upper' | 'work'): Reader =>
  (draft, option) => {
    draft[key] = unescapePath(requiredValue(option));
  };

const mountFlag =
  (name: MountOptions['flags'][number], isOn: boolean): Reader =>
  (draft) => {
    const others = (draft.flags ?? []).filter((other) => other !== name);
    draft.flags = isOn ? [...others, name] : others;
  };

const ignored: Reader = () => {};

const onOff = { on: 'on', off: 'off' } as const;
const yesNo = { on: true, off: false } as const;

/** The options that mean something, in the order the help lists them. */
const READERS: Readonly<Record<string, Reader>> = {
  lowerdir: (draft, option) => {
    draft.lowers = splitPaths(requiredValue(option));
  },
  upperdir: path('upper'),
  workdir: path('work'),
  backend: choice('backend', { auto: 'auto', kernel: 'kernel', userns: 'userns', fuse: 'fuse' }),
  ro: flag('readOnly', true),
  rw: flag('readOnly', false),
  volatile: flag('volatile', true),
  // fuse-overlayfs's name for the same.
  fsync: choice('volatile', { 0: true, 1: false }),
  nonempty: flag('nonempty', true),
  allow_other: flag('allowOther', true),
  default_permissions: flag('defaultPermissions', true),
  noacl: flag('noacl', true),
  whiteouts: choice('whiteouts', { auto: 'auto', kernel: 'kernel', all: 'all' }),
  passthrough: choice('passthrough', { auto: 'auto', on: 'on', off: 'off' }),
  timeout: (draft, option) => {
    draft.timeoutMs = parseSeconds(option) * 1000;
  },
  squash_to_root: (draft) => {
    Object.assign(draft, { squashToUid: 0, squashToGid: 0 });
  },
  squash_to_uid: number('squashToUid'),
  squash_to_gid: number('squashToGid'),
  uidmapping: mapping('uidMapping'),
  gidmapping: mapping('gidMapping'),
  xattr_permissions: choice('xattrPermissions', { 0: 0, 1: 1, 2: 2 }),
  userxattr: flag('namespace', 'user'),
  redirect_dir: choice('redirectDir', { ...onOff, follow: 'follow', nofollow: 'nofollow' }),
  index: choice('index', yesNo),
  metacopy: choice('metacopy', yesNo),
  xino: choice('xino', { ...onOff, auto: 'auto' }),
  fsname: (draft, option) => {
    draft.source = requiredText(option);
  },
  nosuid: mountFlag('nosuid', true),
  suid: mountFlag('nosuid', false),
  nodev: mountFlag('nodev', true),
  dev: mountFlag('nodev', false),
  noexec: mountFlag('noexec', true),
  exec: mountFlag('noexec', false),
  noatime: mountFlag('noatime', true),
  atime: mountFlag('noatime', false),
};

const CONTEXT = /^(fs|def|root)?context$/;

/** For mount(8), for boot scripts, or for the threads of fuse-overlayfs: without meaning to the mount itself. */
const IGNORED = [
  ...[
    'defaults',
    'auto',
    'noauto',
    'user',
    'nouser',
    'users',
    'nousers',
    'owner',
    'noowner',
    'group',
    'nogroup',
  ],
  ...['_netdev', 'nofail', 'comment', 'async', 'diratime', 'nodiratime', 'relatime', 'norelatime'],
  ...['strictatime', 'nostrictatime', 'lazytime', 'nolazytime', 'silent', 'loud'],
  ...['threaded', 'clone_fd', 'writeback', 'fast_ino', 'static_nlink'],
];
const KNOWN_TO_OTHERS = /^(x-|X-)/;

/** The names that `-o` takes, for messages, help and completion. */
export const OPTION_NAMES: readonly string[] = [...Object.keys(READERS), 'context'];
export const IGNORED_OPTION_NAMES: readonly string[] = [...IGNORED, 'x-*'];

/** `cwd`: what relative paths start from, in bytes. */
export function parseMountOptions(words: MountWords, cwd: Buffer): MountOptions {
  const { backend, foreground, debug } = words;
  const draft: Draft = { foreground: foreground || debug, debug };
  for (const option of words.options.flatMap(splitOptions)) {
    if (CONTEXT.test(option.name)) {
      requiredValue(option);
      draft.securityContexts = [...(draft.securityContexts ?? []), option.text];
    } else readerOf(option)(draft, option);
  }
  const [source, merged] = readOperands(words.operands);
  if (source !== undefined) draft.source ??= source;
  if (backend !== undefined) draft.backend = backend;
  return completeOptions(draft, merged, cwd);
}

/** Adds what was not said, makes paths absolute and refuses what makes no sense together. */
export function completeOptions(draft: Partial<MountOptions>, merged: Buffer, cwd: Buffer): MountOptions {
  const { lowers = [], upper, work } = draft;
  if (lowers.length === 0) throw usage("expected '-o lowerdir=DIRECTORY[:DIRECTORY...]', found no lowerdir");
  if ((upper === undefined) !== (work === undefined)) {
    const [there, missing] = upper === undefined ? ['workdir', 'upperdir'] : ['upperdir', 'workdir'];
    throw usage(`${there} needs ${missing} beside it; with neither the mount is read-only`);
  }
  if (draft.volatile === true && upper === undefined) {
    throw usage('volatile says something about writing; it needs upperdir and workdir');
  }
  return {
    ...DEFAULT_OPTIONS,
    ...draft,
    lowers: lowers.map((path) => absolute(path, cwd, 'lowerdir')),
    ...(upper === undefined ? {} : { upper: absolute(upper, cwd, 'upperdir') }),
    ...(work === undefined ? {} : { work: absolute(work, cwd, 'workdir') }),
    merged: absolute(merged, cwd, 'MERGED'),
    readOnly: draft.readOnly === true || upper === undefined,
  };
}

function readerOf(option: OptionText): Reader {
  const { name } = option;
  if (Object.hasOwn(READERS, name)) return READERS[name]!;
  if (IGNORED.includes(name) || KNOWN_TO_OTHERS.test(name)) return ignored;
  throw usage(
    `unknown option '${name}' after -o; known are ${OPTION_NAMES.join(', ')}, ` +
      `and, without effect, ${IGNORED_OPTION_NAMES.join(', ')}`,
  );
}

function readOperands(operands: readonly Buffer[]): [source: string | undefined, merged: Buffer] {
  if (operands.length === 0) throw usage('expected MERGED, the directory to mount on; found nothing');
  if (operands.length > 2) throw usage(`unexpected argument '${operands[2]}' after SOURCE and MERGED`);
  if (operands.length === 1) return [undefined, operands[0]!];
  return [operands[0]!.length === 0 ? undefined : operands[0]!.toString(), operands[1]!];
}

/** Absolute, without `.` and doubled slashes. Symbolic links, and so `..`, are the file system's to resolve. */
function absolute(given: Buffer, cwd: Buffer, name: string): Buffer {
  if (given.length === 0) throw usage(`${name}: expected a path, found nothing`);
  const resolved = resolvePath(cwd, given);
  if (given.includes(0)) throw unsuitable(name, given, 'holds a NUL byte, which no path can');
  if (resolved.length >= PATH_MAX) {
    throw unsuitable(name, given, `is ${resolved.length} bytes long; the system takes ${PATH_MAX - 1}`);
  }
  return resolved;
}

function unsuitable(name: string, path: Buffer, why: string): Git2dbError {
  const shown = JSON.stringify(path.toString('utf8', 0, 200));
  return new Git2dbError('PATH_UNSUITABLE', `${name}: the path ${shown} ${why}; use another one`, {
    data: { option: name },
  });
}

function requiredValue({ name, value }: OptionText): Buffer {
  if (value === undefined || value.length === 0) throw usage(`option '${name}' needs a value: ${name}=...`);
  return value;
}

function requiredText(option: OptionText): string {
  return requiredValue(option).toString();
}

function parseSeconds(option: OptionText): number {
  const text = requiredText(option);
  if (!/^\d+(\.\d+)?$/.test(text)) throw usage(`option '${option.name}': expected seconds, found '${text}'`);
  return Number(text);
}

const ID_MAX = 0xfffffffe;

function parseId(text: string, name: string): number {
  const id = Number(text);
  if (!/^\d{1,10}$/.test(text) || id > ID_MAX) {
    throw usage(`option '${name}': expected a number of a user or group, found '${text}'`);
  }
  return id;
}

/** `INSIDE:OUTSIDE:COUNT`, once or more, with a colon between. */
function parseIdRanges(option: OptionText): IdRange[] {
  const numbers = requiredText(option)
    .split(':')
    .map((text) => parseId(text, option.name));
  if (numbers.length % 3 !== 0) {
    throw usage(`option '${option.name}': expected INSIDE:OUTSIDE:COUNT, found ${numbers.length} numbers`);
  }
  const ranges: IdRange[] = [];
  for (let i = 0; i < numbers.length; i += 3) {
    ranges.push({ inside: numbers[i]!, outside: numbers[i + 1]!, count: numbers[i + 2]! });
  }
  return ranges;
}

function usage(message: string): Git2dbError {
  return new Git2dbError('USAGE', message);
}
