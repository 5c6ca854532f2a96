/**
 * The C library's calls on extended attributes; conventions as in `libc.ts`. With an `out` of length 0 the
 * length of the value alone is returned.
 */
import { bindAll, type CString, result } from '../../native/library.ts';

const calls = bindAll({
  fgetxattr: 'int64_t fgetxattr(int, const void*, void*, uint64_t)',
  fsetxattr: 'int fsetxattr(int, const void*, const void*, uint64_t, int)',
  flistxattr: 'int64_t flistxattr(int, void*, uint64_t)',
  fremovexattr: 'int fremovexattr(int, const void*)',
  lgetxattr: 'int64_t lgetxattr(const void*, const void*, void*, uint64_t)',
  lsetxattr: 'int lsetxattr(const void*, const void*, const void*, uint64_t, int)',
  llistxattr: 'int64_t llistxattr(const void*, void*, uint64_t)',
  lremovexattr: 'int lremovexattr(const void*, const void*)',
});

export function fgetxattr(fd: number, name: CString, out: Uint8Array): number {
  return result(calls.fgetxattr(fd, name, out, out.length));
}

/** `flags`: XATTR_CREATE 1, XATTR_REPLACE 2. */
export function fsetxattr(fd: number, name: CString, value: Uint8Array, flags = 0): number {
  return result(calls.fsetxattr(fd, name, value, value.length, flags));
}

/** Names, each with its NUL. */
export function flistxattr(fd: number, out: Uint8Array): number {
  return result(calls.flistxattr(fd, out, out.length));
}

export function fremovexattr(fd: number, name: CString): number {
  return result(calls.fremovexattr(fd, name));
}

export function lgetxattr(path: CString, name: CString, out: Uint8Array): number {
  return result(calls.lgetxattr(path, name, out, out.length));
}

export function lsetxattr(path: CString, name: CString, value: Uint8Array, flags = 0): number {
  return result(calls.lsetxattr(path, name, value, value.length, flags));
}

export function llistxattr(path: CString, out: Uint8Array): number {
  return result(calls.llistxattr(path, out, out.length));
}

export function lremovexattr(path: CString, name: CString): number {
  return result(calls.lremovexattr(path, name));
}
