/**
 * Reading and replacing `metadata.json`. Whoever replaces it holds the registry's lock; everybody may read
 * at any time, and finds the old file or the new one.
 *
 * A reader knows by stat alone that nothing has changed: every new file gets a later mtime than the one it
 * replaces, if need be later than now, so that inode, size and mtime together never come twice.
 */
import {
  closeSync,
  constants,
  fchmodSync,
  fstatSync,
  fsyncSync,
  futimesSync,
  linkSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { errnoOf, Git2dbError, messageOf } from '../xet/errors.ts';
import { decodeMetadata, encodeMetadata, type RegistryMetadata } from './metadata.ts';
import type { RegistryLayout } from './registry-layout.ts';

/** Equal as long as the file is the same. */
export interface FileStamp {
  readonly ino: bigint;
  readonly size: bigint;
  readonly mtimeNs: bigint;
}

export interface LoadedMetadata {
  readonly metadata: RegistryMetadata;
  /** Of the file; what was read from an older one is of the newest. */
  readonly version: number;
  readonly stamp: FileStamp;
}

export function sameStamp(a: FileStamp, b: FileStamp): boolean {
  return a.ino === b.ino && a.mtimeNs === b.mtimeNs && a.size === b.size;
}

/** Undefined when there is no such file. */
export function stampOf(file: string): FileStamp | undefined {
  const stat = statSync(file, { bigint: true, throwIfNoEntry: false });
  return stat === undefined ? undefined : { ino: stat.ino, size: stat.size, mtimeNs: stat.mtimeNs };
}

/** Undefined when there is no such file. Throws REGISTRY_INVALID, or what the system says. */
export function loadMetadata(layout: RegistryLayout, file = layout.metadata): LoadedMetadata | undefined {
  let fd: number;
  try {
    fd = openSync(file, 'r');
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return undefined;
    throw unreadable(file, error);
  }
  try {
    const { ino, size, mtimeNs } = fstatSync(fd, { bigint: true });
    const bytes = readFileSync(fd);
    return { ...decodeMetadata(bytes, { file, root: layout.root }), stamp: { ino, size, mtimeNs } };
  } catch (error) {
    throw errnoOf(error) === undefined || error instanceof Git2dbError ? error : unreadable(file, error);
  } finally {
    closeSync(fd);
  }
}

/**
 * Replaces the file; on stable storage when this returns. The caller holds the lock. On failure the old
 * file is in its place, untouched.
 */
export function replaceMetadata(layout: RegistryLayout, metadata: RegistryMetadata): FileStamp {
  const fresh = `${layout.metadata}.new`;
  try {
    // Left by a writer that was killed: nobody else can be writing now.
    rmSync(fresh, { force: true });
    const fd = openSync(fresh, constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL, 0o600);
    try {
      fchmodSync(fd, 0o600); // a umask may have taken more away
      writeFileSync(fd, encodeMetadata(metadata));
      makeLater(fd, stampOf(layout.metadata));
      fsyncSync(fd);
    } finally {
      closeSync(fd);
    }
    keepPrevious(layout);
    renameSync(fresh, layout.metadata);
  } catch (error) {
    // Left where it cannot be removed: the next writer, or repair, does.
    tryRemove(fresh);
    const errno = errnoOf(error);
    const full = errno === 'ENOSPC' || errno === 'EDQUOT';
    throw new Git2dbError(
      full ? 'DISK_FULL' : 'STORE_UNWRITABLE',
      `cannot write ${layout.metadata}: ${messageOf(error)}. The registry is as it was; ` +
        (full ? 'make space and try again' : 'see that the directory can be written by this user'),
      { cause: error, data: { file: layout.metadata } },
    );
  }
  syncDirectory(layout.own);
  return stampOf(layout.metadata)!;
}

function tryRemove(file: string): void {
  try {
    rmSync(file, { force: true });
  } catch {
    // The error that led here is the better one.
  }
}

/** Gives an open file an mtime after that of the file it is to replace. */
function makeLater(fd: number, old: FileStamp | undefined): void {
  if (old === undefined) return;
  const { mtimeNs } = fstatSync(fd, { bigint: true });
  if (mtimeNs > old.mtimeNs) return;
  // Seconds as a double have a resolution of a quarter of a microsecond.
  const later = Number(old.mtimeNs / 1000n + 2n) / 1e6;
  futimesSync(fd, later, later);
}

/** What repair falls back on. The file is never changed in place, so a second name for it will do. */
function keepPrevious({ metadata, previous }: RegistryLayout): void {
  const link = `${previous}.new`;
  try {
    rmSync(link, { force: true });
    linkSync(metadata, link);
    renameSync(link, previous);
    // Where both names are links to one file already, rename(2) leaves them both.
    rmSync(link, { force: true });
  } catch (error) {
    const errno = errnoOf(error);
    if (errno === 'ENOENT') return; // the first file of a new registry
    if (errno !== 'EPERM' && errno !== 'ENOTSUP' && errno !== 'EOPNOTSUPP' && errno !== 'EMLINK') throw error;
    writeFileSync(link, readFileSync(metadata), { mode: 0o600, flush: true });
    renameSync(link, previous);
  }
}

/** Names in `directory` are on stable storage when this returns, where the file system can say so. */
export function syncDirectory(directory: string): void {
  const fd = openSync(directory, 'r');
  try {
    fsyncSync(fd);
  } catch (error) {
    if (errnoOf(error) !== 'EINVAL' && errnoOf(error) !== 'ENOTSUP') throw error;
  } finally {
    closeSync(fd);
  }
}

/** Writes a small file of ours so that it is there whole, on stable storage, or not at all. */
export function writeDurably(directory: string, file: string, text: string): void {
  const fresh = `${file}.new`;
  writeFileSync(fresh, text, { mode: 0o600, flush: true });
  renameSync(fresh, file);
  syncDirectory(directory);
}

function unreadable(file: string, error: unknown): Git2dbError {
  return new Git2dbError('REGISTRY_INVALID', `cannot read ${file}: ${messageOf(error)}`, {
    cause: error,
    data: { file },
  });
}
