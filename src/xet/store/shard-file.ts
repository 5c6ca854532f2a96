/**
 * Reading single file records of shards without loading the shards. The shards used last stay open: of
 * thousands of files that were stored together, all are described in one.
 */
import { closeSync, fstatSync } from 'node:fs';
import { FormatError } from '../errors.ts';
import { openRegular } from '../regular-file.ts';
import { announcedFileRecords, decodeFile, decodeFileHeader, type FileRecord } from '../shard/file-info.ts';
import { HEADER_SIZE, RECORD_SIZE } from '../shard/format.ts';
import { readAt } from './read-at.ts';

const MAX_OPEN = 8;
/** Read at once: the whole record of most files. */
const FIRST_RECORDS = 8;

interface OpenShard {
  readonly path: string;
  readonly fd: number;
  readonly size: number;
}

export class ShardFiles {
  /** The one used last stands last. */
  readonly #open = new Map<string, OpenShard>();

  /** The file record at `recordIndex` of a shard. Throws the errno of open, or INVALID_SHARD. */
  readRecord(path: string, recordIndex: number): FileRecord {
    const shard = this.#shard(path);
    const at = HEADER_SIZE + RECORD_SIZE * recordIndex;
    const first = Math.min(RECORD_SIZE * FIRST_RECORDS, Math.max(RECORD_SIZE, shard.size - at));
    let bytes = readRecords(shard, at, first);
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
    const length = RECORD_SIZE * announcedFileRecords(view, 0);
    if (length > first) bytes = readRecords(shard, at, length);
    return decodeFile(bytes, 0, decodeFileHeader(bytes, 0, recordIndex));
  }

  /** Closes all: the shards may have been replaced. */
  close(): void {
    for (const { fd } of this.#open.values()) closeSync(fd);
    this.#open.clear();
  }

  #shard(path: string): OpenShard {
    let shard = this.#open.get(path);
    if (shard === undefined) {
      const fd = openRegular(path, 'INVALID_SHARD');
      shard = { path, fd, size: fstatSync(fd).size };
    }
    this.#open.delete(path);
    this.#open.set(path, shard);
    for (const [name, { fd }] of this.#open) {
      if (this.#open.size <= MAX_OPEN) break;
      closeSync(fd);
      this.#open.delete(name);
    }
    return shard;
  }
}

/** One record. Throws as `ShardFiles.readRecord`. */
export function readFileRecord(path: string, recordIndex: number): FileRecord {
  const shards = new ShardFiles();
  try {
    return shards.readRecord(path, recordIndex);
  } finally {
    shards.close();
  }
}

function readRecords({ path, fd, size }: OpenShard, offset: number, length: number): Buffer {
  if (offset + length > size) {
    throw new FormatError(
      'INVALID_SHARD',
      `${path}: needs ${length} bytes at ${offset}, has ${size} in all`,
      offset,
    );
  }
  return readAt(fd, path, offset, length, 'INVALID_SHARD');
}
