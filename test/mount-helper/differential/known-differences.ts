/**
 * Where an answer of ours may differ from that of the kernel's overlayfs mounted with
 * `redirect_dir=on,index=on,xino=on`: each with its reason, and none in data, names or modes.
 */
import { posix } from 'node:path';
import type { Stat, TreeEntry } from '../helpers/driver.ts';
import type { SubjectName } from '../helpers/subjects.ts';
import { type Operation, SET_BEFORE } from './operations.ts';

/** What the oracle is mounted with. */
export const ORACLE: Readonly<Partial<Record<SubjectName, string>>> & { readonly default: string } = {
  default: 'redirect_dir=on,index=on,xino=on',
  // The kernel allows neither redirects nor an index in a user namespace: EXDEV, and hard links that part.
  userns: 'redirect_dir=off,index=off,xino=on',
  // By itself the kernel backend asks for no index, as other tools could not mount the upper then.
  kernel: 'redirect_dir=on,index=off,xino=on',
};

/**
 * What is left out of the sequences, as the differences would spread:
 *
 *   - Hard links of lower layers together with remounts: the kernel's index remembers over a remount which
 *     names are one file; our server knows it for the life of a mount, as `index=off` and userns do not at all.
 *   - An ordinary user's directories without search permission for him: his server cannot look into them
 *     either, while the kernel's overlayfs goes by the rights of root, who mounted it.
 */
export const MODES_OF_ROOT = [0o644, 0o600, 0o755, 0o4755, 0o1777, 0o2775];
export const MODES_OF_USERS = [0o744, 0o700, 0o755, 0o4755, 0o1777, 0o2775];

/** Subjects whose files may show other numbers under their several names: the kernel keeps no origin there. */
const WITHOUT_ORIGIN: readonly SubjectName[] = ['userns'];

/** Attributes of stat that are not compared, and why. */
export const FREE_ATTRIBUTES: Readonly<Partial<Record<keyof Stat, string>>> = {
  dev: 'each mount has its own',
  ino: 'compared by which names share one',
  atime: 'a FUSE mount renews access times of open files when the kernel sends them, not at each read',
  ctime: 'the time of the change itself',
  blocks: 'the two uppers may be laid out differently on the disk',
  rdev: 'of nodes that are no devices undefined',
};

const FREE_OF_DIRECTORIES: Readonly<Partial<Record<keyof Stat, string>>> = {
  size: 'that of the directory in the upper or the lower layer',
  nlink: 'the kernel says 1 for merged directories and counts in others; ours says 1 for all',
};

const IS_DIRECTORY = 0o040000;

/** What is compared of a stat result. */
export function comparedAttributes(stat: Stat): Record<string, unknown> {
  const isDirectory = (stat.mode & 0o170000) === IS_DIRECTORY;
  const compared = Object.entries(stat).filter(
    ([name]) => !(name in FREE_ATTRIBUTES || (isDirectory && name in FREE_OF_DIRECTORIES)),
  );
  return { ...Object.fromEntries(compared), mtime: comparedTime(stat.mtime) };
}

/** A time that was set counts to the nanosecond; one of a change only as such. */
export function comparedTime(mtime: string): string {
  return BigInt(mtime) < SET_BEFORE ? mtime : 'changed';
}

/** What is compared of a tree: with each file, the first of the names that it shares its number with. */
export function comparedTree(tree: readonly TreeEntry[], subject: SubjectName): object[] {
  const first = new Map<string, string>();
  return tree.map(({ path, type, target, content, xattrs, ...stat }) => {
    const number = `${stat.dev}:${stat.ino}`;
    if (!first.has(number)) first.set(number, path);
    const same = WITHOUT_ORIGIN.includes(subject) ? undefined : first.get(number);
    return { path, type, target, content, xattrs, same, ...comparedAttributes(stat) };
  });
}

/**
 * The link count of an open file: a lower file that lost its name while it was open has none left here, and
 * as a plain file would; the kernel goes on showing the count of the lower inode.
 */
export function isKnownLinkCount({ call }: Operation, ours: unknown, oracle: unknown): boolean {
  if (call !== 'fstat') return false;
  const [found, expected] = [ours, oracle] as { readonly nlink: number }[];
  return found!.nlink === 0 && expected!.nlink === 1;
}

interface ErrnoDifference {
  readonly why: string;
  readonly calls: readonly Operation['call'][];
  readonly oracle: string;
  /** Undefined: with us the call succeeds. */
  readonly ours: string | undefined;
}

/** Calls that fail on the kernel's overlayfs, and otherwise or not at all on ours. */
export const ERRNO_DIFFERENCES: readonly ErrnoDifference[] = [
  {
    why: 'A lower file that lost its name while it was open: the kernel copies it up to where it was, and fails',
    calls: ['futimens', 'fchmod'],
    oracle: 'EEXIST',
    ours: undefined,
  },
];

export function isKnownErrno({ call }: Operation, ours: string | undefined, oracle: string): boolean {
  return ERRNO_DIFFERENCES.some(
    (known) => known.calls.includes(call) && known.ours === ours && known.oracle === oracle,
  );
}

/**
 * Directories whose times are set anew on both sides after a call that failed on both: a rename onto a
 * directory that is not empty gets as far as ext4 on the kernel's overlayfs, which has touched the parents
 * by then. With us such a call changes nothing.
 */
export function touchedByFailure({ call, args }: Operation, errno: string): string[] {
  if (!(call === 'rename' || call === 'renameat2') || errno !== 'ENOTEMPTY') return [];
  return args.flatMap((arg) => (typeof arg === 'object' && 'path' in arg ? [posix.dirname(arg.path)] : []));
}
