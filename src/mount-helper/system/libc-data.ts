/** The C library's calls on the content of open files; conventions as in `libc.ts`. */

import { addressOf, bindAll, type CString, callAsync, result } from '../../native/library.ts';
import { EFAULT } from './errno.ts';

export const SEEK_SET = 0;
export const SEEK_END = 2;
export const SEEK_DATA = 3;
export const SEEK_HOLE = 4;

/** _IOW(0x94, 9, int): make one file share the blocks of another. */
const FICLONE = 0x40049409;

const calls = bindAll({
  ioctl: 'int ioctl(int, uint64_t, int64_t)',
  ftruncate: 'int ftruncate(int, int64_t)',
  truncate: 'int truncate(const void*, int64_t)',
  fallocate: 'int fallocate(int, int, int64_t, int64_t)',
  lseek: 'int64_t lseek(int, int64_t, int)',
  fsync: 'int fsync(int)',
  fdatasync: 'int fdatasync(int)',
  syncfs: 'int syncfs(int)',
  pread: 'int64_t pread(int, uint64_t, uint64_t, int64_t)',
  pwrite: 'int64_t pwrite(int, uint64_t, uint64_t, int64_t)',
  read: 'int64_t read(int, uint64_t, uint64_t)',
  write: 'int64_t write(int, uint64_t, uint64_t)',
  copyFileRange: 'int64_t copy_file_range(int, void*, int, void*, uint64_t, uint32_t)',
});

/** Follows symbolic links. Unlike `ftruncate`, it leaves the times alone if the size is that already. */
export function truncate(path: CString, size: number): number {
  return result(calls.truncate(path, size));
}

export function ftruncate(fd: number, size: number): number {
  return result(calls.ftruncate(fd, size));
}

/** `mode`: FALLOC_FL_* bits. */
export function fallocate(fd: number, mode: number, offset: number, length: number): number {
  return result(calls.fallocate(fd, mode, offset, length));
}

export function lseek(fd: number, offset: number, whence: number): number {
  return result(calls.lseek(fd, offset, whence));
}

export function fsync(fd: number): number {
  return result(calls.fsync(fd));
}

export function fdatasync(fd: number): number {
  return result(calls.fdatasync(fd));
}

export function syncfs(fd: number): number {
  return result(calls.syncfs(fd));
}

// The addresses of the two buffers last used: a server reads and writes by the same two for ever.
let recent: Uint8Array | undefined;
let recentAddress = 0;
let older: Uint8Array | undefined;
let olderAddress = 0;

function locate(bytes: Uint8Array): number {
  if (bytes === recent) return recentAddress;
  if (bytes === older) return olderAddress;
  older = recent;
  olderAddress = recentAddress;
  recentAddress = addressOf(bytes);
  recent = bytes;
  return recentAddress;
}

function isWithin(bytes: Uint8Array, at: number, size: number): boolean {
  return at >= 0 && size >= 0 && at + size <= bytes.length;
}

/** Into `out[at, at + size)`; the count, which may be less than `size`. */
export function pread(fd: number, out: Uint8Array, at: number, size: number, offset: number): number {
  if (!isWithin(out, at, size)) return -EFAULT;
  return result(calls.pread(fd, locate(out) + at, size, offset));
}

export function pwrite(fd: number, data: Uint8Array, at: number, size: number, offset: number): number {
  if (!isWithin(data, at, size)) return -EFAULT;
  return result(calls.pwrite(fd, locate(data) + at, size, offset));
}

export function read(fd: number, out: Uint8Array, at: number, size: number): number {
  if (!isWithin(out, at, size)) return -EFAULT;
  return result(calls.read(fd, locate(out) + at, size));
}

export function write(fd: number, data: Uint8Array, at: number, size: number): number {
  if (!isWithin(data, at, size)) return -EFAULT;
  return result(calls.write(fd, locate(data) + at, size));
}

/** Makes `to` share all blocks of `from`; EOPNOTSUPP, EXDEV or EINVAL where the file system cannot. */
export function reflink(from: number, to: number): number {
  return result(calls.ioctl(to, FICLONE, from));
}

const fromAt = new BigInt64Array(1);
const toAt = new BigInt64Array(1);
const fromAtBytes = new Uint8Array(fromAt.buffer);
const toAtBytes = new Uint8Array(toAt.buffer);

/** Count of bytes that were copied within the kernel; 0 at the end of `from`. */
export function copyFileRange(
  from: number,
  fromOffset: number,
  to: number,
  toOffset: number,
  size: number,
): number {
  fromAt[0] = BigInt(fromOffset);
  toAt[0] = BigInt(toOffset);
  return result(calls.copyFileRange(from, fromAtBytes, to, toAtBytes, size, 0));
}

/** The same on a thread of libuv's pool. */
export function copyFileRangeAsync(
  from: number,
  fromOffset: number,
  to: number,
  toOffset: number,
  size: number,
): Promise<number> {
  // Held by the closure below until the call ends: koffi keeps addresses, not the objects.
  const offsets = [BigInt64Array.of(BigInt(fromOffset)), BigInt64Array.of(BigInt(toOffset))] as const;
  const called = callAsync(
    'int64_t copy_file_range(int, void*, int, void*, uint64_t, uint32_t)',
    from,
    offsets[0],
    to,
    offsets[1],
    size,
    0,
  );
  return called.finally(() => offsets.length);
}
