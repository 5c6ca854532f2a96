/** Files of the work tree that are still pointers: what git wrote where content was not to be had, or not wanted. */
import { createHash } from 'node:crypto';
import { type BigIntStats, closeSync, constants, fstatSync, lstatSync, openSync, readSync } from 'node:fs';
import type { IndexEntry } from '../git/index-file/entry.ts';
import { errnoOf } from '../xet/errors.ts';
import { POINTER_MAX, sniffPointer } from '../xet/pointer/sniff.ts';
import { formatPointer } from '../xet/pointer/xet-pointer.ts';

/** What a pointer says about the content. */
export interface ContentName {
  /** File hash, string form. */
  readonly hash: string;
  readonly size: number;
}

export interface PointerFile extends ContentName {
  /** From the top of the work tree. */
  readonly path: Buffer;
  /** The blob that the index has for it. */
  readonly oid: string;
  /** The file system it lies on. */
  readonly dev: number;
}

/** A small regular file, read whole. */
export interface SmallFile {
  readonly bytes: Buffer;
  readonly stat: BigIntStats;
}

/**
 * The file of an entry, if it is the pointer that the index names. `root` is the top of the work tree,
 * with a slash at its end. Follows symbolic links on the way to the file: for looking only.
 */
export function findPointerFile(
  root: Buffer,
  { path, oid }: Pick<IndexEntry, 'path' | 'oid'>,
): PointerFile | undefined {
  const place = Buffer.concat([root, path]);
  const stat = lstatSync(place, { throwIfNoEntry: false });
  if (stat === undefined || !stat.isFile() || stat.size === 0 || stat.size > POINTER_MAX) return undefined;
  const bytes = readSmallFile(place)?.bytes;
  const name = bytes && pointerOf(bytes, oid);
  return name && { path, oid, dev: stat.dev, ...name };
}

/**
 * The pointer in `bytes`, if these are the blob `oid` or what git made of it with CRLF at the end of
 * a line, which clean takes for the same.
 */
export function pointerOf(bytes: Buffer, oid: string): ContentName | undefined {
  const pointer = sniffPointer(bytes);
  if (pointer === undefined || pointer.kind === 'lfs') return undefined;
  const { kind, hash, size } = pointer;
  const isSame =
    blobOid(bytes, oid) === oid || (kind === 'xet' && blobOid(formatPointer(hash, size), oid) === oid);
  return isSame ? { hash, size } : undefined;
}

/** The object id of `bytes` as a blob, by the algorithm that `like` is an id of. */
function blobOid(bytes: Buffer, like: string): string {
  const hash = createHash(like.length === 40 ? 'sha1' : 'sha256');
  return hash.update(`blob ${bytes.length}\0`).update(bytes).digest('hex');
}

/** One byte more than is wanted: who fills it is too large. */
const scratch = Buffer.alloc(POINTER_MAX + 1);

/** Undefined for what is not there, not a regular file, or larger than any pointer. */
export function readSmallFile(path: Buffer): SmallFile | undefined {
  let fd: number;
  try {
    // Non-blocking, so that a FIFO cannot hang us.
    fd = openSync(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
  } catch (error) {
    const errno = errnoOf(error);
    if (errno === 'ENOENT' || errno === 'ENOTDIR' || errno === 'ELOOP' || errno === 'ENXIO') return undefined;
    throw error;
  }
  try {
    const stat = fstatSync(fd, { bigint: true });
    if (!stat.isFile() || stat.size > POINTER_MAX) return undefined;
    const length = readSync(fd, scratch, 0, scratch.length, 0);
    return length > POINTER_MAX ? undefined : { bytes: Buffer.from(scratch.subarray(0, length)), stat };
  } finally {
    closeSync(fd);
  }
}
