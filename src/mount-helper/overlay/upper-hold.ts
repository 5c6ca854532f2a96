/**
 * One upper, one mount: an exclusive flock(2) on the stamp and on the upper directory itself (another
 * mount may name another work directory), held by descriptors that the mounting command hands on to the
 * server or holder. The system drops the locks with the last of these descriptors, however it ends.
 *
 * The kernel's own overlay has no process to hold them: there they only keep two commands apart.
 */
import {
  closeSync,
  constants,
  fchownSync,
  fstatSync,
  fsyncSync,
  openSync,
  readFileSync,
  rmSync,
  statSync,
  writeSync,
} from 'node:fs';
import { Git2dbError } from '../../xet/errors.ts';
import { parentPath, showPath } from '../path.ts';
import { randomName } from '../random-name.ts';
import {
  EACCES,
  EAGAIN,
  EDQUOT,
  EEXIST,
  EIO,
  ENOENT,
  ENOSPC,
  EPERM,
  EROFS,
  EXDEV,
  errnoMessage,
  errnoName,
} from '../system/errno.ts';
import {
  AT_FDCWD,
  type CString,
  cString,
  flock,
  LOCK_EX,
  LOCK_NB,
  linkat,
  openat,
  renameat2,
  unlinkat,
} from '../system/libc.ts';
import { decodeStamp, encodeStamp, openStamp, STAMP_SIZE_MAX, type Stamp, stampPlaces } from './stamp.ts';
import { closeWorkPlace, openWorkPlace } from './work-directory.ts';

const { O_CREAT, O_DIRECTORY, O_EXCL, O_NOFOLLOW, O_RDONLY, O_RDWR } = constants;

/** Two commands that mount the same upper at once may see each other's stamp come and go. */
const ATTEMPTS = 16;

export class UpperHold {
  readonly #work: Buffer;
  readonly #path: Buffer;
  readonly #upperFd: number;
  readonly #isNew: boolean;
  #stampFd: number;
  #stamp: Stamp;

  constructor(
    work: Buffer,
    path: Buffer,
    [stampFd, upperFd]: readonly [stamp: number, upper: number],
    stamp: Stamp,
    isNew: boolean,
  ) {
    this.#work = work;
    this.#path = path;
    this.#stampFd = stampFd;
    this.#upperFd = upperFd;
    this.#stamp = stamp;
    this.#isNew = isNew;
  }

  get stamp(): Stamp {
    return this.#stamp;
  }

  /** Of the stamp and of the upper, in this order: what keeps the locks, for a child to inherit. */
  get descriptors(): readonly [stamp: number, upper: number] {
    return [this.#stampFd, this.#upperFd];
  }

  /** Replaces the stamp; durable when it returns. */
  update(change: Partial<Stamp>): void {
    const next = { ...this.#stamp, ...change };
    const encoded = encodeStamp(next);
    if (encoded.equals(encodeStamp(this.#stamp))) return;
    const fd = writeStamp(this.#work, encoded, fstatSync(this.#stampFd), (place, name) =>
      renameat2(place, name, AT_FDCWD, cString(this.#path)),
    );
    if (typeof fd !== 'number') throw unwritable(this.#path, fd.code);
    syncDirectory(this.#path);
    closeSync(this.#stampFd);
    this.#stampFd = fd;
    this.#stamp = next;
  }

  /** Gives up our descriptors; a child that inherited them still holds the locks. */
  release(): void {
    closeSync(this.#stampFd);
    closeSync(this.#upperFd);
  }

  /** For a mount that did not come about: a stamp that was made for it goes too. */
  abandon(): void {
    if (this.#isNew) rmSync(this.#path, { force: true });
    this.release();
  }
}

/**
 * Locks the upper, or throws UPPER_BUSY. `makeStamp` is asked when there is no stamp yet.
 * `owner`: who a new stamp shall belong to; undefined leaves it to the one who mounts.
 */
export function holdUpper(upper: Buffer, work: Buffer, makeStamp: () => Stamp, owner?: Owner): UpperHold {
  // A pipe would be waited for.
  const upperFd = openSync(upper, O_RDONLY | O_DIRECTORY);
  try {
    lock(upperFd, upper);
    for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
      const hold = openExisting(work, upperFd) ?? create(work, upperFd, makeStamp(), owner);
      if (hold !== undefined) return hold;
    }
    throw busy(upper);
  } catch (error) {
    closeSync(upperFd);
    throw error;
  }
}

/** The hold that the mounting command took, in the process that inherited `descriptors`. */
export function adoptHold(work: Buffer, descriptors: readonly [stamp: number, upper: number]): UpperHold {
  const opened = openStamp(work);
  if (opened === undefined) throw new Git2dbError('INVALID_STAMP', `the stamp of ${showPath(work)} is gone`);
  const stamp = readStamp(opened.fd, opened.path);
  closeSync(opened.fd);
  return new UpperHold(work, opened.path, descriptors, stamp, false);
}

/** The stamp of an upper by its work directory, without a lock; undefined when there is none. */
export function findStamp(work: Buffer): Stamp | undefined {
  const opened = openStamp(work);
  if (opened === undefined) return undefined;
  try {
    return readStamp(opened.fd, opened.path);
  } finally {
    closeSync(opened.fd);
  }
}

/** Undefined: there is none, or it was replaced before we had the lock. */
function openExisting(work: Buffer, upperFd: number): UpperHold | undefined {
  const opened = openStamp(work);
  if (opened === undefined) return undefined;
  const { fd, path } = opened;
  try {
    lock(fd, path);
    if (statSync(path, { throwIfNoEntry: false })?.ino === fstatSync(fd).ino) {
      return new UpperHold(work, path, [fd, upperFd], readStamp(fd, path), false);
    }
  } catch (error) {
    closeSync(fd);
    throw error;
  }
  closeSync(fd);
  return undefined;
}

/** Undefined: somebody else was faster. */
function create(
  work: Buffer,
  upperFd: number,
  stamp: Stamp,
  owner: Owner | undefined,
): UpperHold | undefined {
  let path: Buffer | undefined;
  const fd = writeStamp(work, encodeStamp(stamp), owner, (place, name) => {
    let code = -ENOENT;
    for (path of stampPlaces(work)) {
      code = linkat(place, name, AT_FDCWD, cString(path));
      if (![-EACCES, -EPERM, -EROFS, -EXDEV].includes(code)) break;
    }
    return code;
  });
  if (typeof fd === 'number') {
    syncDirectory(path!);
    return new UpperHold(work, path!, [fd, upperFd], stamp, true);
  }
  // ENOENT: whoever was faster has cleared our part of work.
  if (fd.code === -EEXIST || fd.code === -ENOENT) return undefined;
  throw unwritable(path ?? stampPlaces(work)[0]!, fd.code);
}

interface Owner {
  readonly uid: number;
  readonly gid: number;
}

/**
 * Makes a file with `bytes` in our part of work, on the disk and locked, and has it put into its place by
 * `install`. What a crash leaves is cleared with the rest of our part. Returns the descriptor, or `-errno`.
 */
function writeStamp(
  work: Buffer,
  bytes: Buffer,
  owner: Owner | undefined,
  install: (place: number, name: CString) => number,
): number | { readonly code: number } {
  const place = openWorkPlace(work);
  const name = cString(`stamp.${randomName(6)}`);
  const fd = openat(place.fd, name, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW, 0o600);
  let code = fd;
  try {
    if (fd < 0) return { code };
    code = -EIO;
    const written = fill(fd, bytes, owner);
    if (written < 0) return { code: written };
    lock(fd, work);
    code = install(place.fd, name);
    return code < 0 ? { code } : fd;
  } finally {
    if (fd >= 0 && code < 0) closeSync(fd);
    unlinkat(place.fd, name);
    // Whoever was faster may be using it by now, also if we have made it.
    const isOthers = code === -EEXIST || code === -ENOENT;
    closeWorkPlace(place, { remove: place.isNew && !isOthers });
  }
}

/** On the disk, and `owner`'s; 0 or `-errno`. */
function fill(fd: number, bytes: Buffer, owner: Owner | undefined): number {
  try {
    writeSync(fd, bytes);
    const { uid, gid } = fstatSync(fd);
    if (owner !== undefined && (owner.uid !== uid || owner.gid !== gid)) fchownSync(fd, owner.uid, owner.gid);
    fsyncSync(fd);
    return 0;
  } catch (error) {
    return (error as NodeJS.ErrnoException).errno ?? -EIO;
  }
}

function unwritable(path: Buffer, code: number): Git2dbError {
  return new Git2dbError(
    code === -ENOSPC || code === -EDQUOT ? 'DISK_FULL' : 'STORE_UNWRITABLE',
    `cannot write ${showPath(path)}, the stamp of the upper: ${errnoMessage(code)}; ` +
      (code === -ENOSPC || code === -EDQUOT ? 'make space there' : 'it must be possible to make files there'),
    { data: { errno: errnoName(code) } },
  );
}

/** Whose directory it is may have put anything in the place of the stamp. */
function readStamp(fd: number, path: Buffer): Stamp {
  const stat = fstatSync(fd);
  const isSound = stat.isFile() && stat.size <= STAMP_SIZE_MAX;
  return decodeStamp(isSound ? readFileSync(fd) : Buffer.alloc(STAMP_SIZE_MAX + 1), showPath(path));
}

function lock(fd: number, path: Buffer): void {
  const code = flock(fd, LOCK_EX | LOCK_NB);
  if (code === -EAGAIN) throw busy(path);
  // A file system without locks for directories (some network ones): the stamp has to do.
  if (code < 0 && !fstatSync(fd).isDirectory()) {
    throw new Git2dbError('MOUNT_FAILED', `cannot lock ${showPath(path)}: ${errnoMessage(code)}`);
  }
}

function busy(path: Buffer): Git2dbError {
  return new Git2dbError(
    'UPPER_BUSY',
    `${showPath(path)} is in use by another mount: an upper serves one mount at a time; ` +
      "'git2db-mount list' shows them, 'git2db-mount umount' ends one",
  );
}

function syncDirectory(path: Buffer): void {
  const fd = openSync(parentPath(path), 'r');
  try {
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
}
