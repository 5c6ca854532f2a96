/**
 * Moves the content of one file to another that is empty: shared blocks where the file system can, else
 * within the kernel, else through a buffer. Holes stay holes.
 */
import {
  EBADF,
  EINTR,
  EINVAL,
  EIO,
  ENOSYS,
  ENOTTY,
  ENXIO,
  EOPNOTSUPP,
  EPERM,
  ETXTBSY,
  EXDEV,
} from '../system/errno.ts';
import {
  copyFileRange,
  ftruncate,
  lseek,
  pread,
  pwrite,
  reflink,
  SEEK_DATA,
  SEEK_HOLE,
} from '../system/libc.ts';
import type { LayerFile } from './layer.ts';

const SEEK_END = 2;
/** What one call may move within the kernel: it answers signals only between calls. */
const STEP_BYTES = 64 << 20;
const BUFFER_BYTES = 256 << 10;

let buffer: Buffer | undefined;

/** Errors by which a file system says that it has no such operation between these two files. */
function isUnsupported(code: number): boolean {
  return (
    code === -EOPNOTSUPP ||
    code === -EXDEV ||
    code === -EINVAL ||
    code === -ENOTTY ||
    code === -ENOSYS ||
    code === -EBADF ||
    code === -EPERM ||
    code === -ETXTBSY
  );
}

/** 1 if `to` has the blocks of `from` now, 0 if the file system cannot share them, or `-errno`. */
export function shareData(from: number, to: number): number {
  const code = reflink(from, to);
  if (code >= 0) return 1;
  return isUnsupported(code) ? 0 : code;
}

/** Copies [0, size) to an empty file, which then has that size; 0 or `-errno`. */
export function copyData(from: number, to: number, size: number): number {
  const code = ftruncate(to, size);
  if (code < 0) return code;
  for (let at = 0; at < size; ) {
    const start = nextData(from, at, size);
    if (start < 0) return start;
    if (start >= size) break;
    const end = dataEnd(from, start, size);
    if (end < 0) return end;
    const copied = copyRange(from, to, start, end);
    if (copied < 0) return copied;
    at = end;
  }
  return 0;
}

/**
 * Where data begins at or after `at`; `size` if there is none. File systems without holes: `at`. EIO: the
 * file has become shorter than `size`.
 */
function nextData(fd: number, at: number, size: number): number {
  const start = lseek(fd, at, SEEK_DATA);
  if (start === -ENXIO) return lseek(fd, 0, SEEK_END) < size ? -EIO : size;
  if (start === -EINVAL || start === -EOPNOTSUPP) return at;
  return start;
}

/** Where the data at `start` ends: a hole, or `size`. */
function dataEnd(fd: number, start: number, size: number): number {
  const end = lseek(fd, start, SEEK_HOLE);
  if (end === -EINVAL || end === -EOPNOTSUPP || end === -ENXIO) return size;
  // Nothing at all at `start`: the file was changed since. Goes on as if there were data.
  if (end >= 0 && end <= start) return size;
  return Math.min(end, size);
}

/** Copies [start, end); 0 or `-errno`. EIO: the file has become shorter. */
export function copyRange(from: number, to: number, start: number, end: number): number {
  for (let at = start; at < end; ) {
    const count = copyFileRange(from, at, to, at, Math.min(end - at, STEP_BYTES));
    if (count === -EINTR) continue;
    // Some file systems say 0 where they should say that they cannot.
    if (count === 0 || isUnsupported(count)) return copyThroughBuffer(from, to, at, end);
    if (count < 0) return count;
    at += count;
  }
  return 0;
}

function copyThroughBuffer(from: number, to: number, start: number, end: number): number {
  return pump((out, size, at) => pread(from, out, 0, size, at), to, start, end);
}

/** As `copyData`, for a file that can only be read. */
export function copyByReading(from: LayerFile, to: number, size: number): number {
  const code = ftruncate(to, size);
  return code < 0 ? code : pump((out, count, at) => from.read(out, 0, count, at), to, 0, size);
}

function pump(
  read: (out: Uint8Array, size: number, at: number) => number,
  to: number,
  start: number,
  end: number,
): number {
  buffer ??= Buffer.allocUnsafeSlow(BUFFER_BYTES);
  for (let at = start; at < end; ) {
    const count = read(buffer, Math.min(buffer.length, end - at), at);
    if (count === -EINTR) continue;
    if (count < 0) return count;
    if (count === 0) return -EIO;
    const written = writeAll(to, buffer, count, at);
    if (written < 0) return written;
    at += count;
  }
  return 0;
}

function writeAll(fd: number, data: Buffer, size: number, offset: number): number {
  for (let done = 0; done < size; ) {
    const count = pwrite(fd, data, done, size - done, offset + done);
    if (count === -EINTR) continue;
    if (count < 0) return count;
    if (count === 0) return -EIO;
    done += count;
  }
  return 0;
}
