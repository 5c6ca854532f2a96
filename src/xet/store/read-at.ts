/** Reading a part of an open file, all of it. */
import { readSync } from 'node:fs';
import { type ErrorCode, FormatError } from '../errors.ts';

/** Bytes [offset, offset + length). Throws as `readInto` does. */
export function readAt(fd: number, path: string, offset: number, length: number, code: ErrorCode): Buffer {
  const bytes = Buffer.allocUnsafe(length);
  readInto(bytes, fd, path, offset, code);
  return bytes;
}

/** Fills `target` from `offset` of the file. Throws a FormatError with this code where the file ends before. */
export function readInto(
  target: Uint8Array,
  fd: number,
  path: string,
  offset: number,
  code: ErrorCode,
): void {
  for (let done = 0; done < target.length; ) {
    const n = readSync(fd, target, done, target.length - done, offset + done);
    if (n === 0) throw new FormatError(code, `${path}: ends at ${offset + done}`, offset + done);
    done += n;
  }
}
