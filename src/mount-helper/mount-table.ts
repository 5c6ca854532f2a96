/**
 * The kernel's table of mounts, `/proc/<pid>/mountinfo` (proc(5)). One line per mount:
 *
 *     36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue
 *     |  |  |    |     |     |          |          |    |         super options
 *     |  |  |    |     |     |          |          |    source
 *     |  |  |    |     |     |          |          type of the file system
 *     |  |  |    |     |     |          optional fields, any number, ended by a single hyphen
 *     |  |  |    |     |     options of this mount
 *     |  |  |    |     mount point, seen from the root of the process
 *     |  |  |    root of the mount within its file system
 *     |  |  device, major:minor
 *     |  parent mount
 *     mount
 *
 * Space, tab, newline, backslash and `#` stand in a field as a backslash and three octal digits. All
 * other bytes are themselves, so a field is bytes and not text.
 */
import { readFileSync } from 'node:fs';

export interface MountEntry {
  readonly id: number;
  readonly parent: number;
  /** `major:minor`. */
  readonly device: string;
  readonly root: Buffer;
  readonly mountPoint: Buffer;
  readonly options: readonly string[];
  readonly type: string;
  readonly source: Buffer;
  /** Still escaped: a comma may be part of a value. See `superOption`. */
  readonly superOptions: Buffer;
}

/** The type of our FUSE mounts, as the table shows it. */
export const FUSE_TYPE = 'fuse.git2db-mount';

const ESCAPE = /\\([0-3][0-7]{2})/g;

/** The bytes that an escaped field stands for. */
export function unescapeField(field: string): Buffer {
  const text = field.replace(ESCAPE, (_, digits: string) => String.fromCharCode(Number.parseInt(digits, 8)));
  return Buffer.from(text, 'latin1');
}

/** Lines that are no mount (a kernel to come may add some) are passed over. */
export function parseMountTable(text: Buffer): MountEntry[] {
  const entries: MountEntry[] = [];
  for (const line of text.toString('latin1').split('\n')) {
    const entry = parseLine(line);
    if (entry !== undefined) entries.push(entry);
  }
  return entries;
}

function parseLine(line: string): MountEntry | undefined {
  const fields = line.split(' ');
  const hyphen = fields.indexOf('-', 6);
  if (hyphen < 0 || fields.length < hyphen + 3) return undefined;
  const [id, parent, device, root, mountPoint, options] = fields as [
    string,
    string,
    string,
    string,
    string,
    string,
  ];
  if (!/^\d+$/.test(id) || !/^\d+$/.test(parent) || !/^\d+:\d+$/.test(device)) return undefined;
  return {
    id: Number(id),
    parent: Number(parent),
    device,
    root: unescapeField(root),
    mountPoint: unescapeField(mountPoint),
    options: options.split(','),
    type: fields[hyphen + 1]!,
    source: unescapeField(fields[hyphen + 2]!),
    superOptions: Buffer.from(fields.slice(hyphen + 3).join(' '), 'latin1'),
  };
}

/** The mounts that process `pid` sees; throws as `readFileSync` does when it may not be looked at. */
export function readMountTable(pid: number | 'self' = 'self'): MountEntry[] {
  return parseMountTable(readFileSync(`/proc/${pid}/mountinfo`));
}

/** What is mounted at `mountPoint`; where mounts are stacked, the one on top. */
export function findMount(table: readonly MountEntry[], mountPoint: Buffer): MountEntry | undefined {
  const stacked = table.filter((entry) => entry.mountPoint.equals(mountPoint));
  return stacked.findLast((entry) => !stacked.some((above) => above.parent === entry.id && above !== entry));
}

/** The mount that serves `path`, an absolute path without symbolic links. */
export function mountOf(table: readonly MountEntry[], path: Buffer): MountEntry | undefined {
  let longest: Buffer | undefined;
  for (const { mountPoint } of table) {
    if (isWithin(mountPoint, path) && mountPoint.length > (longest?.length ?? 0)) longest = mountPoint;
  }
  return longest === undefined ? undefined : findMount(table, longest);
}

/** True when `path` is `directory` or below it. Both absolute, without `.`, `..` and a slash at the end. */
export function isWithin(directory: Buffer, path: Buffer): boolean {
  if (directory.length === 1) return true;
  return (
    path.length >= directory.length &&
    path.subarray(0, directory.length).equals(directory) &&
    (path.length === directory.length || path[directory.length] === 0x2f)
  );
}

/** The mounts on directories of `entry`. Unmounting it must wait for these. */
export function mountsUpon(table: readonly MountEntry[], entry: MountEntry): MountEntry[] {
  return table.filter(({ id, parent }) => parent === entry.id && id !== entry.id);
}

/**
 * The value of an option of the file system, such as `upperdir` of an overlay; undefined when it is not
 * there. The first one, where it is repeated.
 */
export function superOption({ superOptions }: MountEntry, name: string): Buffer | undefined {
  // The kernel escapes a comma within a value, so each comma ends one.
  for (const option of superOptions.toString('latin1').split(',')) {
    if (option.startsWith(`${name}=`)) return unescapeField(option.slice(name.length + 1));
  }
  return undefined;
}

/** The overlays of the kernel. */
export function overlayMounts(table: readonly MountEntry[]): MountEntry[] {
  return table.filter(({ type }) => type === 'overlay');
}

/** The mounts of our own FUSE server. */
export function fuseMounts(table: readonly MountEntry[]): MountEntry[] {
  return table.filter(({ type }) => type === FUSE_TYPE);
}
