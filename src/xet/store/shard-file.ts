/** Reading single records of a shard file without loading the shard. */
import { closeSync, fstatSync, openSync, readSync } from 'node:fs';
import { FormatError } from '../errors.ts';
import { decodeFile, decodeFileHeader, type FileRecord } from '../shard/file-info.ts';
import { HEADER_SIZE, RECORD_SIZE } from '../shard/format.ts';

/** The file record at `recordIndex` of a shard. Throws the errno of open, or INVALID_SHARD. */
export function readFileRecord(path: string, recordIndex: number): FileRecord {
  const fd = openSync(path, 'r');
  try {
    const { size } = fstatSync(fd);
    const at = HEADER_SIZE + RECORD_SIZE * recordIndex;
    const records = recordCount(readAt(fd, path, at, RECORD_SIZE, size));
    const bytes = readAt(fd, path, at, RECORD_SIZE * records, size);
    return decodeFile(bytes, 0, decodeFileHeader(bytes, 0, recordIndex));
  } finally {
    closeSync(fd);
  }
}

function readAt(fd: number, path: string, offset: number, length: number, size: number): Buffer {
  if (offset + length > size) {
    throw new FormatError(
      'INVALID_SHARD',
      `${path}: needs ${length} bytes at ${offset}, has ${size} in all`,
      offset,
    );
  }
  const buffer = Buffer.allocUnsafe(length);
  for (let done = 0; done < length; ) {
    const n = readSync(fd, buffer, done, length - done, offset + done);
    if (n === 0) throw new FormatError('INVALID_SHARD', `${path}: ends at ${offset + done}`, offset + done);
    done += n;
  }
  return buffer;
}

/** Records of the file whose header this is: itself, terms, verification, metadata. */
function recordCount(header: Buffer): number {
  const flags = header.readUInt32LE(32);
  const terms = header.readUInt32LE(36);
  return 1 + terms * (flags & 0x80000000 ? 2 : 1) + (flags & 0x40000000 ? 1 : 0);
}
