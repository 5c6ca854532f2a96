/**
 * Our part of the work directory. What is to appear in the upper is made here first, complete, and then
 * renamed or linked into its place; what is to disappear at once is renamed to here and then taken apart.
 *
 *     WORK/git2db/          ours alone, mode 0700: temporary names, the shared whiteout, and a stamp
 *                           (`stamp.ts`) until it is complete
 *     WORK/work, WORK/index    the kernel's; left alone (but see `volatile-mark.ts`)
 *
 * Everything below `git2db` is litter once its server has ended, so a mount begins by clearing it. That is
 * safe because one upper has one mount: the caller holds the lock of the stamp.
 */
import { constants } from 'node:fs';
import { Git2dbError } from '../../xet/errors.ts';
import type { XattrNamespace } from '../mount-options.ts';
import { showPath } from '../path.ts';
import { listDirectory } from '../system/dirents.ts';
import {
  EACCES,
  EEXIST,
  EINVAL,
  EISDIR,
  EMLINK,
  ENOENT,
  ENOSYS,
  ENOTEMPTY,
  EOPNOTSUPP,
  EPERM,
  EXDEV,
  errnoMessage,
  errnoName,
} from '../system/errno.ts';
import {
  AT_FDCWD,
  AT_REMOVEDIR,
  AT_SYMLINK_NOFOLLOW,
  type CString,
  close,
  cString,
  fchmod,
  fchmodat,
  fstatfs,
  linkat,
  mkdirat,
  mknodat,
  openat,
  RENAME_EXCHANGE,
  renameat2,
  statx,
  unlinkat,
} from '../system/libc.ts';
import { isDirectory, newStatx, S_IFCHR, statxMode } from '../system/statx.ts';
import { removexattrAt, setxattrAt } from '../system/xattr.ts';
import { O_PATH } from './disk-layer.ts';

/** The directory of ours within the work directory. */
export const WORK_DIRECTORY_NAME = 'git2db';

const { O_DIRECTORY, O_NOFOLLOW, O_RDONLY } = constants;
const OURS = cString(WORK_DIRECTORY_NAME);
const ITSELF = cString('.');
const DEFAULT_ACL = cString('system.posix_acl_default');
const TMPFS_MAGIC = 0x01021994;
const RAMFS_MAGIC = 0x858458f6;

/** Our directory in a work directory. Whoever opened it closes both descriptors. */
export interface WorkPlace {
  /** O_PATH, of the work directory that the user named. */
  readonly base: number;
  /** O_RDONLY, of our directory in it. */
  readonly fd: number;
  /** It was not there before. */
  readonly isNew: boolean;
}

/** Opens `path` and makes our directory in it. Throws where that is not possible, naming the path and the remedy. */
export function openWorkPlace(path: Uint8Array): WorkPlace {
  const base = openat(AT_FDCWD, cString(path), O_PATH | O_DIRECTORY);
  if (base < 0) throw forbidden(path, 'open a directory', base);
  const made = mkdirat(base, OURS, 0o700);
  if (made < 0 && made !== -EEXIST) {
    close(base);
    throw forbidden(path, `make ${WORK_DIRECTORY_NAME}`, made);
  }
  const fd = openat(base, OURS, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
  const code = fd < 0 ? fd : fchmod(fd, 0o700);
  if (code < 0) {
    if (fd >= 0) close(fd);
    close(base);
    throw forbidden(path, `open ${WORK_DIRECTORY_NAME}`, code);
  }
  // Neither group nor default ACL of the work directory is to pass to what is made in ours.
  removexattrAt(base, OURS, DEFAULT_ACL);
  return { base, fd, isNew: made >= 0 };
}

/** Closes it; `remove`: our directory goes too, unless something is in it. */
export function closeWorkPlace({ base, fd }: WorkPlace, { remove }: { readonly remove: boolean }): void {
  close(fd);
  if (remove) unlinkat(base, OURS, AT_REMOVEDIR);
  close(base);
}

function forbidden(path: Uint8Array, what: string, code: number): Git2dbError {
  return new Git2dbError(
    'DIRECTORY_FORBIDDEN',
    `cannot ${what} in the work directory ${showPath(Buffer.from(path))}: ${errnoMessage(code)}; ` +
      'it must be a directory that this user may write to',
    { data: { errno: errnoName(code) } },
  );
}

/** Opens our directory in `path` and clears what a server that died left there. Throws as `openWorkPlace` does. */
export function openWorkDirectory(path: Uint8Array): WorkDirectory {
  const place = openWorkPlace(path);
  const work = new WorkDirectory(place.base, place.fd);
  const swept = work.sweep();
  if (swept < 0) {
    closeWorkPlace(place, { remove: false });
    throw forbidden(path, `clear ${WORK_DIRECTORY_NAME}`, swept);
  }
  return work;
}

/**
 * True where this user cannot make the device 0:0 that is a whiteout, or no directory can have the attribute
 * that makes it opaque; tried in our directory, which is cleared. The caller holds the upper.
 */
export function failsToMakeMarks(path: Uint8Array, namespace: XattrNamespace): boolean {
  const work = openWorkDirectory(path);
  try {
    const made = work.newWhiteout();
    if (typeof made === 'number' && isWhiteoutRefusal(made)) return true;
    const directory = work.newName();
    const opaque = cString(`${namespace}.overlay.opaque`);
    return (
      mkdirat(work.fd, directory, 0o700) >= 0 &&
      setxattrAt(work.fd, directory, opaque, Buffer.from('y')) === -EOPNOTSUPP
    );
  } finally {
    work.close();
  }
}

/** What mknod(2) says where whiteouts cannot be made, and not only now: the file system, the kernel or a policy. */
export function isWhiteoutRefusal(code: number): boolean {
  return code === -EPERM || code === -EACCES || code === -EINVAL || code === -EOPNOTSUPP || code === -ENOSYS;
}

export class WorkDirectory {
  /** O_PATH, of the work directory that the user named. */
  readonly base: number;
  /** O_RDONLY, of our directory in it: fsync and syncfs work on it. */
  readonly fd: number;
  /** False where all files are in memory anyway. */
  readonly isOnDisk: boolean;
  #count = 0;
  #whiteout: CString | undefined;

  constructor(base: number, fd: number) {
    this.base = base;
    this.fd = fd;
    const raw = Buffer.alloc(120);
    const type = fstatfs(fd, raw) < 0 ? 0 : raw.readUInt32LE(0);
    this.isOnDisk = type !== TMPFS_MAGIC && type !== RAMFS_MAGIC;
  }

  /** A name that no other call gave. What is made under it is litter until it is renamed away. */
  newName(): CString {
    this.#count++;
    return cString(this.#count.toString(36));
  }

  /**
   * Puts a whiteout at `name`, where nothing may be yet (EEXIST). Whiteouts are links to one device node.
   * EPERM, EACCES, EINVAL or EOPNOTSUPP of mknod(2): this file system or kernel lets us make none.
   */
  linkWhiteout(directory: number, name: CString): number {
    for (let attempt = 0; ; attempt++) {
      const shared = this.#sharedWhiteout();
      if (typeof shared === 'number') return shared;
      const code = linkat(this.fd, shared, directory, name);
      // As many links as the file system allows: the next ones go to a new node.
      const isUsedUp = code === -EMLINK || code === -ENOENT;
      if (isUsedUp && attempt === 0) this.#forgetWhiteout();
      else if (code === -EMLINK || code === -EPERM || code === -EXDEV || code === -EOPNOTSUPP) {
        return mknodat(directory, name, S_IFCHR, 0);
      } else return code;
    }
  }

  /** A new name of ours that is a whiteout, to be renamed over or exchanged with something; or `-errno`. */
  newWhiteout(): CString | number {
    const name = this.newName();
    const code = this.linkWhiteout(this.fd, name);
    return code < 0 ? code : name;
  }

  /**
   * Renames what is finished into the upper; `flags`: RENAME_* bits. A directory that even its owner may not
   * write to cannot change its parent unless the mover is privileged: it is made writable for that moment.
   */
  moveOut(name: CString, directory: number, target: CString, flags = 0): number {
    return move(this.fd, name, directory, target, flags);
  }

  /** Renames `name` of `directory` to a new name of ours, which is returned; or `-errno`. */
  moveIn(directory: number, name: CString): CString | number {
    const ours = this.newName();
    const code = move(directory, name, this.fd, ours, 0);
    return code < 0 ? code : ours;
  }

  /** Removes a name of ours, and all below it. What cannot be removed now is removed by a later mount. */
  remove(name: CString): void {
    this.#removeTree(name);
  }

  /** Clears our directory; 0 or the first `-errno`. */
  sweep(): number {
    this.#whiteout = undefined;
    const names: CString[] = [];
    // By a descriptor of its own, which begins at the start.
    const fd = openat(this.fd, ITSELF, O_RDONLY | O_DIRECTORY);
    if (fd < 0) return fd;
    const code = listDirectory(fd, (name) => names.push(cString(name)));
    close(fd);
    if (code < 0) return code;
    // The rest of a directory is moved up while it is cleared: new names must not meet those left behind.
    this.#count = largestCount(names);
    let first = 0;
    for (const name of names) {
      const removed = this.#removeTree(name);
      if (removed < 0 && first === 0) first = removed;
    }
    return first;
  }

  /** A clean end: nothing of ours stays behind. */
  close(): void {
    this.sweep();
    closeWorkPlace({ base: this.base, fd: this.fd, isNew: false }, { remove: true });
  }

  #sharedWhiteout(): CString | number {
    if (this.#whiteout !== undefined) return this.#whiteout;
    const name = this.newName();
    const code = mknodat(this.fd, name, S_IFCHR, 0);
    if (code < 0) return code;
    this.#whiteout = name;
    return name;
  }

  #forgetWhiteout(): void {
    if (this.#whiteout !== undefined) unlinkat(this.fd, this.#whiteout);
    this.#whiteout = undefined;
  }

  /**
   * Directories below are moved up to ours before they are taken apart, so that neither descriptors nor
   * the stack limit how deep a tree may be.
   */
  #removeTree(root: CString): number {
    const names = [root];
    let first = 0;
    for (let name = names.pop(); name !== undefined; name = names.pop()) {
      let code = unlinkat(this.fd, name);
      if (code === -EISDIR || code === -EPERM) code = this.#removeDirectory(name, names);
      if (code < 0 && code !== -ENOENT && first === 0) first = code;
    }
    return first;
  }

  /** Empties the directory `name` of ours and removes it; directories in it become `pending` names. */
  #removeDirectory(name: CString, pending: CString[]): number {
    const code = unlinkat(this.fd, name, AT_REMOVEDIR);
    if (code !== -ENOTEMPTY && code !== -EEXIST) return code;
    // It may be a copy of a directory that nobody may read or write.
    fchmodat(this.fd, name, 0o700);
    const fd = openat(this.fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
    if (fd < 0) return fd;
    const entries: CString[] = [];
    let first = listDirectory(fd, (entry) => entries.push(cString(entry)));
    for (const entry of entries) {
      let removed = unlinkat(fd, entry);
      if (removed === -EISDIR || removed === -EPERM) removed = this.#moveUp(fd, entry, pending);
      if (removed < 0 && removed !== -ENOENT && first === 0) first = removed;
    }
    close(fd);
    return first < 0 ? first : unlinkat(this.fd, name, AT_REMOVEDIR);
  }

  #moveUp(directory: number, entry: CString, pending: CString[]): number {
    const moved = this.moveIn(directory, entry);
    if (typeof moved === 'number') return moved;
    pending.push(moved);
    return 0;
  }
}

function move(from: number, name: CString, to: number, target: CString, flags: number): number {
  const code = renameat2(from, name, to, target, flags);
  if (code !== -EACCES) return code;
  const opened = openUp(from, name);
  const other = (flags & RENAME_EXCHANGE) === 0 ? undefined : openUp(to, target);
  if (opened === undefined && other === undefined) return code;
  const again = renameat2(from, name, to, target, flags);
  const isMoved = again >= 0;
  if (opened !== undefined) fchmodat(isMoved ? to : from, isMoved ? target : name, opened);
  if (other !== undefined) fchmodat(isMoved ? from : to, isMoved ? name : target, other);
  return again;
}

/** Makes a directory writable for its owner and returns its mode before; undefined if that is not what it lacked. */
function openUp(directory: number, name: CString): number | undefined {
  const attributes = newStatx();
  if (statx(directory, name, AT_SYMLINK_NOFOLLOW, attributes) < 0) return undefined;
  const mode = statxMode(attributes) & 0o7777;
  if (!isDirectory(attributes) || (mode & 0o300) === 0o300) return undefined;
  return fchmodat(directory, name, mode | 0o300) < 0 ? undefined : mode;
}

function largestCount(names: readonly CString[]): number {
  let largest = 0;
  for (const name of names) {
    const count = Number.parseInt(Buffer.from(name.subarray(0, -1)).toString('latin1'), 36);
    if (Number.isSafeInteger(count) && count > largest) largest = count;
  }
  return largest;
}
