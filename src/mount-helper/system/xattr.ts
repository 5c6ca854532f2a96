/**
 * Extended attributes of an entry, given by the directory (a descriptor, O_PATH will do) and its name.
 *
 * Most kernels have no `*at` form of these calls, and opening the entry is not always possible (no
 * permission, a symbolic link, a device), so they go by the path `/proc/self/fd/N/name`, which never
 * follows a link in its last place. The directory itself is the name `.`. Conventions as in `libc.ts`.
 */
import { constants } from 'node:fs';
import { Git2dbError } from '../../xet/errors.ts';
import { EACCES, errnoMessage } from './errno.ts';
import {
  AT_FDCWD,
  type CString,
  close,
  cString,
  fgetxattr,
  flistxattr,
  fremovexattr,
  fsetxattr,
  lgetxattr,
  llistxattr,
  lremovexattr,
  lsetxattr,
  openat,
} from './libc.ts';

export const XATTR_CREATE = 1;
export const XATTR_REPLACE = 2;
/** The kernel's limits, both for a value and for the list of names. */
export const XATTR_VALUE_MAX = 65536;
export const XATTR_LIST_MAX = 65536;

const { O_RDONLY } = constants;
const O_PATH = 0o10000000;
const PREFIX = Buffer.from('/proc/self/fd/');
const ITSELF = cString('.');
/** Prefix, number of ten digits at most, slash, name of 255 bytes, NUL. */
const path = Buffer.alloc(PREFIX.length + 10 + 1 + 256);
path.set(PREFIX);

let pathDirectory = -1;
let nameAt = 0;

/** The path of `name` in `directory`; good until the next call. */
function pathOf(directory: number, name: CString): CString {
  if (directory !== pathDirectory) {
    nameAt = PREFIX.length + path.write(`${directory}/`, PREFIX.length, 'latin1');
    pathDirectory = directory;
  }
  if (nameAt + name.length > path.length) {
    // Longer than any name may be: the system shall say so.
    return Buffer.concat([path.subarray(0, nameAt), name]);
  }
  path.set(name, nameAt);
  return path;
}

/** Opens what a descriptor (O_PATH, too) stands for again; `flags` without O_CREAT. */
export function reopen(fd: number, flags: number): number {
  return openat(AT_FDCWD, cString(`/proc/self/fd/${fd}`), flags);
}

/** For a directory that may be read and not searched: the path by its `.` does not lead there. */
function withReopened(directory: number, use: (fd: number) => number): number {
  const fd = reopen(directory, O_RDONLY);
  if (fd < 0) return -EACCES;
  const code = use(fd);
  close(fd);
  return code;
}

/** Length of the value; with an empty `out` nothing is written. */
export function getxattrAt(
  directory: number,
  name: CString | undefined,
  attribute: CString,
  out: Uint8Array,
): number {
  const code = lgetxattr(pathOf(directory, name ?? ITSELF), attribute, out);
  if (code !== -EACCES || name !== undefined) return code;
  return withReopened(directory, (fd) => fgetxattr(fd, attribute, out));
}

/** Names, each with its NUL. */
export function listxattrAt(directory: number, name: CString | undefined, out: Uint8Array): number {
  const code = llistxattr(pathOf(directory, name ?? ITSELF), out);
  if (code !== -EACCES || name !== undefined) return code;
  return withReopened(directory, (fd) => flistxattr(fd, out));
}

/** `flags`: XATTR_CREATE, XATTR_REPLACE or 0. */
export function setxattrAt(
  directory: number,
  name: CString | undefined,
  attribute: CString,
  value: Uint8Array,
  flags = 0,
): number {
  const code = lsetxattr(pathOf(directory, name ?? ITSELF), attribute, value, flags);
  if (code !== -EACCES || name !== undefined) return code;
  return withReopened(directory, (fd) => fsetxattr(fd, attribute, value, flags));
}

export function removexattrAt(directory: number, name: CString | undefined, attribute: CString): number {
  const code = lremovexattr(pathOf(directory, name ?? ITSELF), attribute);
  if (code !== -EACCES || name !== undefined) return code;
  return withReopened(directory, (fd) => fremovexattr(fd, attribute));
}

/** Calls `each` with every name of a list as `listxattrAt` gives it: a view without the NUL. */
export function eachXattrName(list: Uint8Array, each: (name: Uint8Array) => void): void {
  let start = 0;
  for (let end = list.indexOf(0); end !== -1; end = list.indexOf(0, start)) {
    if (end > start) each(list.subarray(start, end));
    start = end + 1;
  }
}

/** Throws where descriptors cannot be reached as paths: to be asked once, before anything is mounted. */
export function checkProc(): void {
  const fd = openat(AT_FDCWD, cString('/proc/self/fd'), O_PATH);
  if (fd < 0) {
    throw new Git2dbError(
      'MOUNT_FAILED',
      `extended attributes are read through /proc/self/fd, which cannot be opened: ${errnoMessage(fd)}; ` +
        'mount proc on /proc',
    );
  }
  close(fd);
}
