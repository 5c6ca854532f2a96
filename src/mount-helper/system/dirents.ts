/**
 * Directory entries as getdents64(2) gives them, `struct linux_dirent64` one after the other:
 *
 *     0 u64 inode   8 i64 offset of the next   16 u16 length of this record   18 u8 type (DT_*)
 *    19 name, NUL, padding up to the length
 */
import { EINTR, EIO } from './errno.ts';
import { getdents64 } from './libc.ts';

export const DT_UNKNOWN = 0;
export const DT_FIFO = 1;
export const DT_CHR = 2;
export const DT_DIR = 4;
export const DT_BLK = 6;
export const DT_REG = 8;
export const DT_LNK = 10;
export const DT_SOCK = 12;

const NAME = 19;
const BUFFER_BYTES = 65536;
const DOT = 0x2e;

/** Takes one entry; `name` has no NUL and is a view that is good until the function returns. */
export type EachEntry = (name: Uint8Array, ino: bigint, type: number) => void;

/** Buffers that no listing uses at the moment: a listing may start another one from its callback. */
const idle: Uint8Array[] = [];

/** Calls `each` for all entries of an open directory but `.` and `..`; 0 or `-errno`. */
export function listDirectory(fd: number, each: EachEntry): number {
  const buffer = idle.pop() ?? new Uint8Array(BUFFER_BYTES);
  try {
    for (;;) {
      const length = getdents64(fd, buffer);
      if (length === -EINTR) continue;
      if (length <= 0) return length;
      if (!decodeDirents(buffer, length, each)) return -EIO;
    }
  } finally {
    idle.push(buffer);
  }
}

/** False if the records do not fill the bytes exactly. */
export function decodeDirents(bytes: Uint8Array, length: number, each: EachEntry): boolean {
  let at = 0;
  while (at < length) {
    if (at + NAME > length) return false;
    const recordLength = bytes[at + 16]! | (bytes[at + 17]! << 8);
    const next = at + recordLength;
    if (recordLength <= NAME || next > length) return false;
    const start = at + NAME;
    let end = start;
    while (end < next && bytes[end] !== 0) end++;
    if (end === next || end === start) return false;
    if (!isDots(bytes, start, end)) each(bytes.subarray(start, end), inodeAt(bytes, at), bytes[at + 18]!);
    at = next;
  }
  return true;
}

function isDots(bytes: Uint8Array, start: number, end: number): boolean {
  if (bytes[start] !== DOT) return false;
  return end - start === 1 || (end - start === 2 && bytes[start + 1] === DOT);
}

function inodeAt(bytes: Uint8Array, at: number): bigint {
  const high = u32(bytes, at + 4);
  const low = BigInt(u32(bytes, at));
  return high === 0 ? low : (BigInt(high) << 32n) | low;
}

function u32(bytes: Uint8Array, at: number): number {
  return (bytes[at]! | (bytes[at + 1]! << 8) | (bytes[at + 2]! << 16) | (bytes[at + 3]! << 24)) >>> 0;
}
