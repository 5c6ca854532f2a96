/**
 * The C library's calls on files: those that Node lacks, and those whose Node form loses something
 * (bytes of names, nanoseconds, the directory a name is looked up in). Linux only. Here are the calls on
 * names and on what an inode says of itself; content and extended attributes have files of their own.
 *
 * No function here throws for what the system says: each returns a number >= 0, or `-errno`. Paths and
 * names are bytes that end in NUL (`cString`). Offsets and sizes are JavaScript numbers below 2^53.
 */
import { constants } from 'node:fs';
import { bindAll, type CString, fixedAddress, type Memory, placeOf, result } from '../../native/library.ts';
import type { Statx } from './statx.ts';

export type { CString, Memory } from '../../native/library.ts';
export { fixedBytes } from '../../native/library.ts';
export * from './libc-data.ts';
export * from './libc-xattr.ts';

export const AT_FDCWD = -100;
export const AT_SYMLINK_NOFOLLOW = 0x100;
export const AT_REMOVEDIR = 0x200;
export const AT_SYMLINK_FOLLOW = 0x400;
export const AT_EMPTY_PATH = 0x1000;

export const RENAME_NOREPLACE = 1;
export const RENAME_EXCHANGE = 2;
export const RENAME_WHITEOUT = 4;

export const LOCK_SH = 1;
export const LOCK_EX = 2;
export const LOCK_NB = 4;
export const LOCK_UN = 8;

/** Nanoseconds that mean "now" and "leave it". */
export const UTIME_NOW = 0x3fffffff;
export const UTIME_OMIT = 0x3ffffffe;

/** An owner or group that stays as it is. */
export const KEEP_ID = 0xffffffff;

const O_CLOEXEC = 0o2000000;
const O_PATH = 0o10000000;
const { O_NOFOLLOW } = constants;
const STATX_BASIC_AND_BTIME = 0xfff;

const calls = bindAll({
  openat: 'int openat(int, const void*, int, uint32_t)',
  statx: 'int statx(int, const void*, int, uint32_t, void*)',
  mkdirat: 'int mkdirat(int, const void*, uint32_t)',
  mknodat: 'int mknodat(int, const void*, uint32_t, uint64_t)',
  symlinkat: 'int symlinkat(const void*, int, const void*)',
  linkat: 'int linkat(int, const void*, int, const void*, int)',
  unlinkat: 'int unlinkat(int, const void*, int)',
  renameat2: 'int renameat2(int, const void*, int, const void*, uint32_t)',
  readlinkat: 'int64_t readlinkat(int, const void*, void*, uint64_t)',
  faccessat: 'int faccessat(int, const void*, int, int)',
  fchmod: 'int fchmod(int, uint32_t)',
  fchmodat: 'int fchmodat(int, const void*, uint32_t, int)',
  fchown: 'int fchown(int, uint32_t, uint32_t)',
  fchownat: 'int fchownat(int, const void*, uint32_t, uint32_t, int)',
  utimensat: 'int utimensat(int, const void*, const void*, int)',
  futimens: 'int futimens(int, const void*)',
  close: 'int close(int)',
  dup: 'int dup(int)',
  fcntl: 'int fcntl(int, int, int64_t)',
  getdents64: 'int64_t getdents64(int, void*, uint64_t)',
  fstatfs: 'int fstatfs(int, void*)',
  flock: 'int flock(int, int)',
  ioctl: 'int ioctl(int, uint64_t, void*)',
});

/** Adds the NUL. The bytes must have none. */
export function cString(bytes: Uint8Array | string): CString {
  const content = typeof bytes === 'string' ? Buffer.from(bytes) : bytes;
  const ended = Buffer.alloc(content.length + 1);
  ended.set(content);
  return ended;
}

// Names in directories. `directory` is a descriptor, or AT_FDCWD.

/** A file descriptor; O_CLOEXEC is always added. */
export function openat(directory: number, path: CString, flags: number, mode = 0): number {
  return result(calls.openat(directory, placeOf(path), flags | O_CLOEXEC, mode));
}

/** Fills `out` with the basic fields and the time of birth. */
export function statx(directory: number, path: CString, flags: number, out: Statx): number {
  return result(calls.statx(directory, placeOf(path), flags, STATX_BASIC_AND_BTIME, fixedAddress(out)));
}

export function mkdirat(directory: number, name: CString, mode: number): number {
  return result(calls.mkdirat(directory, name, mode));
}

/** `mode` with the type; `device` as `Attributes.rdev`. */
export function mknodat(directory: number, name: CString, mode: number, device: number): number {
  return result(calls.mknodat(directory, name, mode, device));
}

export function symlinkat(target: CString, directory: number, name: CString): number {
  return result(calls.symlinkat(target, directory, name));
}

export function linkat(
  fromDirectory: number,
  from: CString,
  toDirectory: number,
  to: CString,
  flags = 0,
): number {
  return result(calls.linkat(fromDirectory, from, toDirectory, to, flags));
}

/** `flags`: AT_REMOVEDIR or 0. */
export function unlinkat(directory: number, name: CString, flags = 0): number {
  return result(calls.unlinkat(directory, placeOf(name), flags));
}

/** `flags`: RENAME_* bits. */
export function renameat2(
  fromDirectory: number,
  from: CString,
  toDirectory: number,
  to: CString,
  flags = 0,
): number {
  return result(calls.renameat2(fromDirectory, from, toDirectory, to, flags));
}

/** Length of the target, cut off at that of `out`. An empty name means `directory` itself, an O_PATH symbolic link. */
export function readlinkat(directory: number, name: CString, out: Uint8Array): number {
  return result(calls.readlinkat(directory, name, out, out.length));
}

/** `mode`: R_OK 4, W_OK 2, X_OK 1, F_OK 0; asks for the real ids unless `flags` has AT_EACCESS 0x200. */
export function faccessat(directory: number, name: CString, mode: number, flags = 0): number {
  return result(calls.faccessat(directory, name, mode, flags));
}

/**
 * Never through a symbolic link: whose directory it is may put one there at any moment. The system call has no flag
 * for that before Linux 6.6, so it goes by a descriptor.
 */
export function fchmodat(directory: number, name: CString, mode: number): number {
  const fd = openat(directory, name, O_PATH | O_NOFOLLOW);
  if (fd < 0) return fd;
  const code = result(calls.fchmodat(AT_FDCWD, cString(`/proc/self/fd/${fd}`), mode, 0));
  close(fd);
  return code;
}

/** `flags`: AT_SYMLINK_NOFOLLOW, AT_EMPTY_PATH. */
export function fchownat(
  directory: number,
  name: CString,
  uid: number,
  gid: number,
  flags = AT_SYMLINK_NOFOLLOW,
): number {
  return result(calls.fchownat(directory, name, uid, gid, flags));
}

const times = Buffer.alloc(32);

/** Sets access and modification time; nanoseconds may be UTIME_NOW or UTIME_OMIT. Without a name: of the descriptor. */
export function utimensat(
  directory: number,
  name: CString | null,
  atime: number,
  atimeNs: number,
  mtime: number,
  mtimeNs: number,
  flags = name === null ? 0 : AT_SYMLINK_NOFOLLOW,
): number {
  // struct timespec twice: seconds i64, nanoseconds i64.
  putInt64(times, 0, atime);
  times.writeUInt32LE(atimeNs, 8);
  putInt64(times, 16, mtime);
  times.writeUInt32LE(mtimeNs, 24);
  // The C library refuses a null path, which the system call itself takes for the descriptor.
  if (name === null) return result(calls.futimens(directory, times));
  return result(calls.utimensat(directory, name, times, flags));
}

function putInt64(out: Buffer, at: number, value: number): void {
  out.writeUInt32LE(value >>> 0, at);
  out.writeInt32LE(Math.floor(value / 0x100000000), at + 4);
}

// Open files.

export function fchmod(fd: number, mode: number): number {
  return result(calls.fchmod(fd, mode));
}

/** KEEP_ID leaves an id as it is. */
export function fchown(fd: number, uid: number, gid: number): number {
  return result(calls.fchown(fd, uid, gid));
}

export function close(fd: number): number {
  return result(calls.close(fd));
}

export function dup(fd: number): number {
  return result(calls.dup(fd));
}

export function fcntl(fd: number, command: number, argument = 0): number {
  return result(calls.fcntl(fd, command, argument));
}

/** Raw `struct linux_dirent64` records; 0 at the end. */
export function getdents64(fd: number, out: Uint8Array): number {
  return result(calls.getdents64(fd, out, out.length));
}

/** Raw `struct statfs`, 120 bytes. */
export function fstatfs(fd: number, out: Uint8Array): number {
  return result(calls.fstatfs(fd, out));
}

export function flock(fd: number, operation: number): number {
  return result(calls.flock(fd, operation));
}

/** `argument`: what the request points to, or a plain number. */
export function ioctl(fd: number, request: number, argument: Memory): number {
  return result(calls.ioctl(fd, request, argument));
}
