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
import type { Attributes } from '../fuse/file-system.ts';

/** Raw `struct statx`. */
export type Statx = Uint8Array;

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

const ATIME = 64;
const CTIME = 96;
const MTIME = 112;

export function newStatx(): Statx {
  return Buffer.alloc(STATX_BYTES);
}

function u32(s: Statx, at: number): number {
  return (s[at]! | (s[at + 1]! << 8) | (s[at + 2]! << 16) | (s[at + 3]! << 24)) >>> 0;
}

/** For sizes, counts and seconds: exact up to 2^53, and beyond it near enough. */
function i64(s: Statx, at: number): number {
  return (u32(s, at + 4) | 0) * 0x1_0000_0000 + u32(s, at);
}

function u64(s: Statx, at: number): bigint {
  const high = u32(s, at + 4);
  const low = BigInt(u32(s, at));
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
  return (s[29]! & 0o360) === 0o40 && u32(s, 128) === 0 && u32(s, 132) === 0;
}

export function statxNlink(s: Statx): number {
  return u32(s, 16);
}

export function statxUid(s: Statx): number {
  return u32(s, 20);
}

export function statxGid(s: Statx): number {
  return u32(s, 24);
}

export function statxIno(s: Statx): bigint {
  return u64(s, 32);
}

export function statxSize(s: Statx): number {
  return i64(s, 40);
}

/** Of 512 bytes. */
export function statxBlocks(s: Statx): number {
  return i64(s, 48);
}

/** The file system that it is on: major << 32 | minor. */
export function statxDevice(s: Statx): bigint {
  return (BigInt(u32(s, 136)) << 32n) | BigInt(u32(s, 140));
}

/** Of a device node: the kernel's `new_encode_dev`, which is also what mknod(2) takes. */
export function statxRdev(s: Statx): number {
  const minor = u32(s, 132);
  return ((minor & 0xff) | (u32(s, 128) << 8) | ((minor & ~0xff) << 12)) >>> 0;
}

/** Whole seconds, negative before 1970. */
export function statxAtime(s: Statx): number {
  return i64(s, ATIME);
}

export function statxAtimeNs(s: Statx): number {
  return u32(s, ATIME + 8);
}

export function statxMtime(s: Statx): number {
  return i64(s, MTIME);
}

export function statxMtimeNs(s: Statx): number {
  return u32(s, MTIME + 8);
}

export function statxCtime(s: Statx): number {
  return i64(s, CTIME);
}

export function statxCtimeNs(s: Statx): number {
  return u32(s, CTIME + 8);
}

/** Copies all that stat(2) shows; `ino` is the number on the layer, for the caller to replace. */
export function toAttributes(s: Statx, out: Attributes): void {
  out.ino = u64(s, 32);
  out.size = i64(s, 40);
  out.blocks = i64(s, 48);
  out.atime = i64(s, ATIME);
  out.atimeNs = u32(s, ATIME + 8);
  out.mtime = i64(s, MTIME);
  out.mtimeNs = u32(s, MTIME + 8);
  out.ctime = i64(s, CTIME);
  out.ctimeNs = u32(s, CTIME + 8);
  out.mode = statxMode(s);
  out.nlink = u32(s, 16);
  out.uid = u32(s, 20);
  out.gid = u32(s, 24);
  out.rdev = statxRdev(s);
  out.blksize = u32(s, 4);
}

/** Both are of the same inode. */
export function isSameFile(a: Statx, b: Statx): boolean {
  for (let at = 32; at < 40; at++) if (a[at] !== b[at]) return false;
  for (let at = 136; at < 144; at++) if (a[at] !== b[at]) return false;
  return true;
}
