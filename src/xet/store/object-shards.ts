/** File records of shards that are objects elsewhere. */
import { FormatError } from '../errors.ts';
import { announcedFileRecords, decodeFile, decodeFileHeader, type FileRecord } from '../shard/file-info.ts';
import { HEADER_SIZE, RECORD_SIZE } from '../shard/format.ts';
import { shardName } from '../shard/shard.ts';
import { type ObjectCache, ObjectGone } from './object-cache.ts';

/** Shards up to this size are read as a whole, and must have the hash that names them. */
const MAX_WHOLE = 1 << 18;
const MAX_KNOWN = 1 << 14;

export class ObjectShards {
  readonly #cache: ObjectCache;
  /** Small shards that were hashed, and whether they are what they should be. */
  readonly #verified = new Map<string, boolean>();

  constructor(cache: ObjectCache) {
    this.#cache = cache;
  }

  /**
   * The record at `recordIndex` of shard `name`; undefined if it is gone, or not a record of this file. A large
   * shard is not hashed: what it says is proven by whoever reads the file. Throws NotCached (object-cache.ts).
   */
  readRecord(name: string, recordIndex: number, fileHash: Uint8Array): FileRecord | undefined {
    const key = `shards/${name}.mdb`;
    try {
      const size = this.#cache.size(key);
      if (size <= MAX_WHOLE && !this.#isWhole(name, key, size)) return undefined;
      const at = HEADER_SIZE + RECORD_SIZE * recordIndex;
      const header = this.#read(key, at, RECORD_SIZE, size);
      if (header.compare(fileHash, 0, 32, 0, 32) !== 0) return undefined;
      const view = new DataView(header.buffer, header.byteOffset, header.length);
      const length = RECORD_SIZE * announcedFileRecords(view, 0);
      // A copy: what is given out must not hold on to blocks.
      const record = new Uint8Array(this.#read(key, at, length, size));
      return decodeFile(record, 0, decodeFileHeader(record, 0, recordIndex));
    } catch (error) {
      if (error instanceof FormatError) return undefined;
      if (!(error instanceof ObjectGone)) throw error;
      // Another shard may know the file; and HEAD another one than it.
      return undefined;
    }
  }

  #isWhole(name: string, key: string, size: number): boolean {
    const known = this.#verified.get(name);
    if (known !== undefined) return known;
    const isWhole = shardName(this.#cache.read(key, 0, size)) === name;
    if (this.#verified.size >= MAX_KNOWN) this.#verified.delete(this.#verified.keys().next().value as string);
    this.#verified.set(name, isWhole);
    return isWhole;
  }

  #read(key: string, at: number, length: number, size: number): Buffer {
    if (at + length > size) {
      throw new FormatError(
        'INVALID_SHARD',
        `${key}: needs ${length} bytes at ${at}, has ${size} in all`,
        at,
      );
    }
    return this.#cache.read(key, at, at + length);
  }
}
