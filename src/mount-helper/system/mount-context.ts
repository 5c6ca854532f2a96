/**
 * Mounting step by step: fsopen(2), fsconfig(2), fsmount(2), move_mount(2), Linux 5.2. There is no page
 * that all options must fit in. As in `libc.ts`, each returns a number >= 0, or `-errno`.
 */

import { bindAll, result } from '../../native/library.ts';
import { AT_FDCWD, type CString } from './libc.ts';

export const MOUNT_ATTR_RDONLY = 1;
export const MOUNT_ATTR_NOSUID = 2;
export const MOUNT_ATTR_NODEV = 4;
export const MOUNT_ATTR_NOEXEC = 8;
export const MOUNT_ATTR_NOATIME = 0x10;

/** Longest value of `setString`. */
export const STRING_MAX = 255;

// The same numbers on all architectures.
const MOVE_MOUNT = 429;
const FSOPEN = 430;
const FSCONFIG = 431;
const FSMOUNT = 432;

const FSOPEN_CLOEXEC = 1;
const FSMOUNT_CLOEXEC = 1;
const MOVE_MOUNT_F_EMPTY_PATH = 4;
const SET_FLAG = 0;
const SET_STRING = 1;
const SET_FD = 5;
const CREATE = 6;

// The C library has these functions only since a short while; their numbers it always took.
const calls = bindAll({
  open: 'int64_t syscall(int64_t, const void*, int64_t)',
  configure: 'int64_t syscall(int64_t, int64_t, int64_t, const void*, const void*, int64_t)',
  mount: 'int64_t syscall(int64_t, int64_t, int64_t, int64_t)',
  move: 'int64_t syscall(int64_t, int64_t, const void*, int64_t, const void*, int64_t)',
});

const NOTHING: CString = new Uint8Array(1);

/** A descriptor of the file system to be; ENODEV: the kernel has no such type. */
export function openContext(type: CString): number {
  return result(calls.open(FSOPEN, type, FSOPEN_CLOEXEC));
}

export function setFlag(context: number, key: CString): number {
  return result(calls.configure(FSCONFIG, context, SET_FLAG, key, null, 0));
}

export function setString(context: number, key: CString, value: CString): number {
  return result(calls.configure(FSCONFIG, context, SET_STRING, key, value, 0));
}

export function setDescriptor(context: number, key: CString, fd: number): number {
  return result(calls.configure(FSCONFIG, context, SET_FD, key, null, fd));
}

/** Makes the file system and a mount of it that is nowhere yet. `attributes`: MOUNT_ATTR_* bits. */
export function createMount(context: number, attributes: number): number {
  const code = result(calls.configure(FSCONFIG, context, CREATE, null, null, 0));
  return code < 0 ? code : result(calls.mount(FSMOUNT, context, FSMOUNT_CLOEXEC, attributes));
}

/** Puts the mount at `target`. */
export function attachMount(mount: number, target: CString): number {
  return result(calls.move(MOVE_MOUNT, mount, NOTHING, AT_FDCWD, target, MOVE_MOUNT_F_EMPTY_PATH));
}
