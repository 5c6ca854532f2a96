/** Writes that are complete when they return: the system may take less than it is given. */
import { closeSync, fdatasyncSync, openSync, writeSync, writev, writevSync } from 'node:fs';
import type { Fsync } from './publish.ts';

/** IOV_MAX of Linux. */
const MAX_BUFFERS = 1024;
const ZEROS = Buffer.alloc(1 << 16);

/** Writes `buffers` one after the other, from `position` on. */
export function writeAll(fd: number, buffers: readonly Uint8Array[], position: number): void {
  for (let i = 0; i < buffers.length; i += MAX_BUFFERS) {
    const part = buffers.slice(i, i + MAX_BUFFERS);
    const size = part.reduce((n, b) => n + b.length, 0);
    for (let done = 0; done < size; ) done += writevSync(fd, after(part, done), position + done);
    position += size;
  }
}

/** The same by the thread pool; the buffers must stay as they are meanwhile. */
export async function writeAllAhead(
  fd: number,
  buffers: readonly Uint8Array[],
  position: number,
): Promise<void> {
  let at = position;
  for (let i = 0; i < buffers.length; i += MAX_BUFFERS) {
    const part = buffers.slice(i, i + MAX_BUFFERS);
    const size = part.reduce((n, b) => n + b.length, 0);
    for (let done = 0; done < size; ) {
      const rest = after(part, done);
      const from = at + done;
      done += await new Promise<number>((resolve, reject) => {
        writev(fd, rest, from, (error, written) => (error === null ? resolve(written) : reject(error)));
      });
    }
    at += size;
  }
}

/** What is left of `buffers` after their first `skip` bytes. */
function after(buffers: readonly Uint8Array[], skip: number): readonly Uint8Array[] {
  if (skip === 0) return buffers;
  const rest: Uint8Array[] = [];
  for (const buffer of buffers) {
    if (skip < buffer.length) rest.push(buffer.subarray(skip));
    skip = Math.max(0, skip - buffer.length);
  }
  return rest;
}

/** Zeros in the range [from, to), which takes its blocks from the disk. */
export function writeZeros(fd: number, from: number, to: number): void {
  for (let at = from; at < to; ) at += writeSync(fd, ZEROS, 0, Math.min(ZEROS.length, to - at), at);
}

/** Makes the file `path` of these pieces, replacing what it held; on stable storage unless `fsync` is none. */
export function writeWhole(path: string, pieces: Iterable<Uint8Array>, fsync: Fsync = 'batch'): void {
  const fd = openSync(path, 'w', 0o666);
  try {
    let position = 0;
    for (const bytes of pieces) {
      writeAll(fd, [bytes], position);
      position += bytes.length;
    }
    if (fsync !== 'none') fdatasyncSync(fd);
  } finally {
    closeSync(fd);
  }
}
