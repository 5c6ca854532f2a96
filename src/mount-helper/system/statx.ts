/**
 * `struct statx`, 256 bytes in the byte order of the machine (little on all that we support), as statx(2)
 * fills it; and the numbers that stand in it.
 *
 *      0 u32 mask           4 u32 blksize        8 u64 attributes
 *     16 u32 nlink         20 u32 uid           24 u32 gid          28 u16 mode
 *     32 u64 ino           40 u64 size          48 u64 blocks (of 512 bytes)
 *     64 atime     80 btime     96 ctime     112 mtime      each: i64 seconds, u32 nanoseconds, u32 0
 *    128 u32 rdev major   132 u32 rdev minor   136 u32 dev major   140 u32 dev minor
 */

import { type FixedBytes, fixedBytes } from '../../native/library.ts';
import type { Attributes } from '../fuse/answers.ts';

/** Raw `struct statx`, also as words of 32 bits. */
export interface Statx extends FixedBytes {
  readonly words: Uint32Array;
}

export const STATX_BYTES = 256;

export const S_IFMT = 0o170000;
export const S_IFSOCK = 0o140000;
export const S_IFLNK = 0o120000;
export const S_IFREG = 0o100000;
export const S_IFBLK = 0o060000;
export const S_IFDIR = 0o040000;
export const S_IFCHR = 0o020000;
export const S_IFIFO = 0o010000;
export const S_ISUID = 0o4000;
export const S_ISGID = 0o2000;
export const S_ISVTX = 0o1000;

const STATX_ATTR_IMMUTABLE = 0x10;
const STATX_ATTR_APPEND = 0x20;
/** Places of words. */
const BLKSIZE = 1;
const FLAGS = 2;
const NLINK = 4;
const UID = 5;
const GID = 6;
const INO = 8;
const SIZE = 10;
const BLOCKS = 12;
const ATIME = 16;
const CTIME = 24;
const MTIME = 28;
const RDEV = 32;
const DEVICE = 34;

export function newStatx(): Statx {
  const bytes = fixedBytes(STATX_BYTES);
  return Object.assign(bytes, { words: new Uint32Array(bytes.buffer, bytes.byteOffset, STATX_BYTES / 4) });
}

/** For sizes, counts and seconds: exact up to 2^53, and beyond it near enough. */
function i64({ words }: Statx, at: number): number {
  return (words[at + 1]! | 0) * 0x1_0000_0000 + words[at]!;
}

function u64({ words }: Statx, at: number): bigint {
  const high = words[at + 1]!;
  const low = BigInt(words[at]!);
  return high === 0 ? low : (BigInt(high) << 32n) | low;
}

/** Type and permissions. */
export function statxMode(s: Statx): number {
  return s[28]! | (s[29]! << 8);
}

/** One of S_IF*. */
export function statxType(s: Statx): number {
  return statxMode(s) & S_IFMT;
}

/** DT_* of directory entries: the type's bits, moved down. */
export function direntType(mode: number): number {
  return (mode & S_IFMT) >> 12;
}

export function isDirectory(s: Statx): boolean {
  return (s[29]! & 0o360) === 0o100;
}

export function isRegular(s: Statx): boolean {
  return (s[29]! & 0o360) === 0o200;
}

/** A character device 0:0: what overlays put where a lower name is to be hidden. */
export function isWhiteoutDevice(s: Statx): boolean {
  return (s[29]! & 0o360) === 0o40 && s.words[RDEV] === 0 && s.words[RDEV + 1] === 0;
}

export function statxNlink(s: Statx): number {
  return s.words[NLINK]!;
}

export function statxUid(s: Statx): number {
  return s.words[UID]!;
}

export function statxGid(s: Statx): number {
  return s.words[GID]!;
}

export function statxIno(s: Statx): bigint {
  return u64(s, INO);
}

export function statxSize(s: Statx): number {
  return i64(s, SIZE);
}

/** Of 512 bytes. */
export function statxBlocks(s: Statx): number {
  return i64(s, BLOCKS);
}

export function statxInoLow(s: Statx): number {
  return s.words[INO]!;
}

export function statxInoHigh(s: Statx): number {
  return s.words[INO + 1]!;
}

export function statxMajor(s: Statx): number {
  return s.words[DEVICE]!;
}

export function statxMinor(s: Statx): number {
  return s.words[DEVICE + 1]!;
}

/** The file system that it is on: major << 32 | minor. */
export function statxDevice(s: Statx): bigint {
  return (BigInt(s.words[DEVICE]!) << 32n) | BigInt(s.words[DEVICE + 1]!);
}

/** Of a device node: the kernel's `new_encode_dev`, which is also what mknod(2) takes. */
export function statxRdev(s: Statx): number {
  const minor = s.words[RDEV + 1]!;
  return ((minor & 0xff) | (s.words[RDEV]! << 8) | ((minor & ~0xff) << 12)) >>> 0;
}

/** Whole seconds, negative before 1970. */
export function statxAtime(s: Statx): number {
  return i64(s, ATIME);
}

export function statxAtimeNs(s: Statx): number {
  return s.words[ATIME + 2]!;
}

export function statxMtime(s: Statx): number {
  return i64(s, MTIME);
}

export function statxMtimeNs(s: Statx): number {
  return s.words[MTIME + 2]!;
}

export function statxCtime(s: Statx): number {
  return i64(s, CTIME);
}

export function statxCtimeNs(s: Statx): number {
  return s.words[CTIME + 2]!;
}

/**
 * Copies all that stat(2) shows but the inode number, word by word: both are of the kernel's making (see
 * `fuse/answers.ts`).
 */
export function copyAttributes(s: Statx, out: Attributes): void {
  const from = s.words;
  const to = out.words;
  to[2] = from[SIZE]!;
  to[3] = from[SIZE + 1]!;
  to[4] = from[BLOCKS]!;
  to[5] = from[BLOCKS + 1]!;
  to[6] = from[ATIME]!;
  to[7] = from[ATIME + 1]!;
  to[8] = from[MTIME]!;
  to[9] = from[MTIME + 1]!;
  to[10] = from[CTIME]!;
  to[11] = from[CTIME + 1]!;
  to[12] = from[ATIME + 2]!;
  to[13] = from[MTIME + 2]!;
  to[14] = from[CTIME + 2]!;
  to[15] = statxMode(s);
  to[16] = from[NLINK]!;
  to[17] = from[UID]!;
  to[18] = from[GID]!;
  to[19] = statxRdev(s);
  to[20] = from[BLKSIZE]!;
}

/** All that stat(2) shows, with the number that the inode has on its layer. */
export function toAttributes(s: Statx, out: Attributes): void {
  copyAttributes(s, out);
  out.ino = statxIno(s);
}

/** Both are of the same inode. */
export function isSameFile({ words: a }: Statx, { words: b }: Statx): boolean {
  return (
    a[INO] === b[INO] &&
    a[INO + 1] === b[INO + 1] &&
    a[DEVICE] === b[DEVICE] &&
    a[DEVICE + 1] === b[DEVICE + 1]
  );
}

/** chattr(1) has made it immutable (+i) or append-only (+a): nobody may change or remove it. */
export function isProtected({ words }: Statx): boolean {
  return (words[FLAGS]! & (STATX_ATTR_IMMUTABLE | STATX_ATTR_APPEND)) !== 0;
}

/** Puts other owners and permissions in; the type stays. */
export function patchOwner(s: Statx, uid: number, gid: number, mode: number): void {
  s.words[UID] = uid;
  s.words[GID] = gid;
  s[28] = mode & 0xff;
  s[29] = (s[29]! & 0xf0) | ((mode >> 8) & 0x0f);
}
