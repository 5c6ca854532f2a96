/**
 * One immutable table of the catalog: which chunk lies where, which shard describes which file.
 * All integers little-endian, except that keys compare as bytes. (docs/format/catalog.md)
 *
 *     0     8  "G2DBCAT" and the version byte 1
 *     8     4  S, number of shards covered
 *     12    4  X, number of xorbs
 *     16    4  C, number of chunk places
 *     20    4  F, number of files
 *     24    4  H, number of SHA-256 entries
 *     28    4  0
 *     32    1024  fan-out: entry b = number of chunk keys whose first byte is <= b, u32
 *     then  32 S  shard names, as hash bytes
 *           40 X  xorb hash (32), number of chunks u32, raw bytes u32; older first
 *           8 C   chunk keys: the first 8 bytes of each chunk hash, sorted
 *           32 C  bytes 8..31 of the hash, xorb number u32, chunk number u32; same order
 *           40 F  file hash (32), shard number u32, record index in the shard u32; sorted
 *           64 H  SHA-256 (32), file hash (32); sorted
 *           32    SHA-256 of all bytes before; in hexadecimal it is also the table's name
 *
 * Equal chunk hashes stand newest place first. A table is a cache: whatever it says is checked
 * against the xorb or shard it points to, so a damaged one costs time and never bytes.
 */
import { closeSync, fstatSync } from 'node:fs';
import { FormatError } from '../errors.ts';
import { openRegular } from '../regular-file.ts';
import { readAt } from './read-at.ts';

export const TABLE_HEADER = 32;
export const FAN_OUT = 1024;
export const TABLE_CHECKSUM = 32;
export const SHARD_ENTRY = 32;
export const XORB_ENTRY = 40;
export const KEY_SIZE = 8;
export const PLACE_ENTRY = 32;
export const FILE_ENTRY = 40;
export const SHA_ENTRY = 64;
export const TABLE_MAGIC = Buffer.from('G2DBCAT\x01', 'latin1');

const PAGE = 4096;
/** Pages of keys kept per table: 8 MiB, enough for a million chunks. */
const MAX_PAGES = 2048;
/** A list of files up to this size is read whole: that takes no longer than a search in the file. */
const MAX_FILE_LIST = 1 << 17;
/** Places of a chunk whose neighbours are looked at. */
const MAX_NEAR_PLACES = 4;

export interface TableCounts {
  readonly shards: number;
  readonly xorbs: number;
  readonly chunks: number;
  readonly files: number;
  readonly sha256s: number;
}

export interface TableOffsets {
  readonly shards: number;
  readonly xorbs: number;
  readonly keys: number;
  readonly places: number;
  readonly files: number;
  readonly sha256s: number;
  readonly checksum: number;
}

export function tableOffsets(counts: TableCounts): TableOffsets {
  const shards = TABLE_HEADER + FAN_OUT;
  const xorbs = shards + SHARD_ENTRY * counts.shards;
  const keys = xorbs + XORB_ENTRY * counts.xorbs;
  const places = keys + KEY_SIZE * counts.chunks;
  const files = places + PLACE_ENTRY * counts.chunks;
  const sha256s = files + FILE_ENTRY * counts.files;
  return { shards, xorbs, keys, places, files, sha256s, checksum: sha256s + SHA_ENTRY * counts.sha256s };
}

/** Random access to a table's bytes: a file, or a buffer for tables made in memory. */
export interface TableBytes {
  readonly size: number;
  read(offset: number, length: number): Buffer;
  close(): void;
}

export function fileBytes(path: string): TableBytes {
  const fd = openRegular(path, 'INVALID_CATALOG');
  const size = fstatSync(fd).size;
  return {
    size,
    read: (offset, length) => readAt(fd, path, offset, length, 'INVALID_CATALOG'),
    close: () => closeSync(fd),
  };
}

export function memoryBytes(bytes: Buffer): TableBytes {
  return {
    size: bytes.length,
    read: (offset, length) => bytes.subarray(offset, offset + length),
    close: () => {},
  };
}

export interface ChunkPlace {
  readonly xorb: Buffer;
  readonly index: number;
}

export interface FilePlace {
  readonly shard: Buffer;
  readonly recordIndex: number;
}

export class CatalogTable {
  readonly name: string;
  readonly counts: TableCounts;
  readonly offsets: TableOffsets;
  readonly bytes: TableBytes;
  readonly #fanOut: Buffer;
  readonly #pages = new Map<number, Buffer>();
  readonly #maxPages: number;
  #xorbs: Buffer | undefined;
  #files: Buffer | undefined;

  /**
   * Checks the frame only (constant time); `verifyTable` re-hashes everything. Owns `bytes`. `maxPages`: pages of
   * keys that are kept, none for bytes that are in memory or have a cache of their own.
   */
  constructor(name: string, bytes: TableBytes, maxPages: number = MAX_PAGES) {
    this.name = name;
    this.#maxPages = maxPages;
    this.bytes = bytes;
    const minimum = TABLE_HEADER + FAN_OUT + TABLE_CHECKSUM;
    if (bytes.size < minimum) {
      throw new FormatError(
        'INVALID_CATALOG',
        `catalog table ${name}: ${bytes.size} bytes, expected at least ${minimum}`,
        bytes.size,
      );
    }
    const head = bytes.read(0, TABLE_HEADER + FAN_OUT);
    if (!head.subarray(0, 8).equals(TABLE_MAGIC)) {
      throw new FormatError('INVALID_CATALOG', `catalog table ${name}: not a table of version 1`, 0);
    }
    this.counts = {
      shards: head.readUInt32LE(8),
      xorbs: head.readUInt32LE(12),
      chunks: head.readUInt32LE(16),
      files: head.readUInt32LE(20),
      sha256s: head.readUInt32LE(24),
    };
    this.offsets = tableOffsets(this.counts);
    this.#fanOut = head.subarray(TABLE_HEADER);
    if (this.offsets.checksum + TABLE_CHECKSUM !== bytes.size) {
      throw new FormatError(
        'INVALID_CATALOG',
        `catalog table ${name}: ${bytes.size} bytes, its counts need ${this.offsets.checksum + TABLE_CHECKSUM}`,
        8,
      );
    }
    let previous = 0;
    for (let b = 0; b < 256; b++) {
      const next = this.#fanOut.readUInt32LE(4 * b);
      if (next < previous || next > this.counts.chunks) {
        throw new FormatError(
          'INVALID_CATALOG',
          `catalog table ${name}: fan-out entry ${b} is out of order`,
          TABLE_HEADER + 4 * b,
        );
      }
      previous = next;
    }
    if (previous !== this.counts.chunks) {
      throw new FormatError(
        'INVALID_CATALOG',
        `catalog table ${name}: fan-out ends at ${previous}`,
        TABLE_HEADER + 1020,
      );
    }
  }

  close(): void {
    this.bytes.close();
  }

  /** Names of the shards this table covers, 32 bytes each. */
  shardNames(): Buffer {
    return this.bytes.read(this.offsets.shards, SHARD_ENTRY * this.counts.shards);
  }

  xorbEntries(): Buffer {
    this.#xorbs ??= this.bytes.read(this.offsets.xorbs, XORB_ENTRY * this.counts.xorbs);
    return this.#xorbs;
  }

  /** Places of a chunk, newest first. */
  findChunk(hash: Uint8Array, offset: number): ChunkPlace[] {
    return this.#findPlaces(hash, offset).map(({ xorb, index }) => ({ xorb: this.#xorbHash(xorb), index }));
  }

  /** The first xorbs with a chunk, newest first, and those that stand near them in the table's order. */
  findNear(hash: Uint8Array, before: number, after: number): { having: Buffer[]; others: Buffer[] } {
    const having = this.#findPlaces(hash, 0)
      .map(({ xorb }) => xorb)
      .slice(0, MAX_NEAR_PLACES);
    const near = new Set<number>();
    for (const xorb of having) {
      const end = Math.min(this.counts.xorbs, xorb + 1 + after);
      for (let x = xorb; x < end; x++) near.add(x);
      for (let x = Math.max(0, xorb - before); x < xorb; x++) near.add(x);
    }
    return {
      having: having.map((xorb) => this.#xorbHash(xorb)),
      others: [...near].map((xorb) => this.#xorbHash(xorb)),
    };
  }

  /** True if there may be places of this chunk: its key is in the table. */
  mayHaveChunk(hash: Uint8Array, offset: number): boolean {
    return this.#findKey(hash, offset) !== undefined;
  }

  #findPlaces(hash: Uint8Array, offset: number): { readonly xorb: number; readonly index: number }[] {
    const found: { xorb: number; index: number }[] = [];
    const a = readKeyWord(hash, offset);
    const b = readKeyWord(hash, offset + 4);
    let i = this.#findKey(hash, offset) ?? this.counts.chunks;
    for (; i < this.counts.chunks && this.#compareKey(i, a, b) === 0; i++) {
      const entry = this.bytes.read(this.offsets.places + PLACE_ENTRY * i, PLACE_ENTRY);
      if (entry.compare(hash, offset + KEY_SIZE, offset + 32, 0, 24) !== 0) continue;
      const xorb = entry.readUInt32LE(24);
      if (xorb < this.counts.xorbs) found.push({ xorb, index: entry.readUInt32LE(28) });
    }
    return found;
  }

  /** Where the first key of this chunk stands; undefined if there is none. */
  #findKey(hash: Uint8Array, offset: number): number | undefined {
    const first = hash[offset] as number;
    let low = first === 0 ? 0 : this.#fanOut.readUInt32LE(4 * (first - 1));
    let high = this.#fanOut.readUInt32LE(4 * first);
    if (low === high) return undefined;
    const end = high;
    const a = readKeyWord(hash, offset);
    const b = readKeyWord(hash, offset + 4);
    // Lower bound. Hashes are uniform, so the first probe is a guess by proportion.
    let probe = low + Math.floor(((a & 0xffffff) / 0x1000000) * (high - low));
    while (low < high) {
      if (this.#compareKey(probe, a, b) < 0) low = probe + 1;
      else high = probe;
      const span = high - low;
      // Stay on the page at hand while the guess was close, else halve.
      probe = span > 1024 ? (low + high) >>> 1 : low + (span >>> 1);
    }
    return low < end && this.#compareKey(low, a, b) === 0 ? low : undefined;
  }

  #xorbHash(xorb: number): Buffer {
    return this.xorbEntries().subarray(XORB_ENTRY * xorb, XORB_ENTRY * xorb + 32);
  }

  /** Shards that describe a file, newest first. */
  findFile(hash: Uint8Array): FilePlace[] {
    const found: FilePlace[] = [];
    const { bytes, start } = this.#fileList();
    for (let i = lowerBound(bytes, start, this.counts.files, FILE_ENTRY, hash); i < this.counts.files; i++) {
      const entry = bytes.read(start + FILE_ENTRY * i, FILE_ENTRY);
      if (entry.compare(hash, 0, 32, 0, 32) !== 0) break;
      const shard = entry.readUInt32LE(32);
      if (shard >= this.counts.shards) continue;
      found.push({
        shard: this.bytes.read(this.offsets.shards + SHARD_ENTRY * shard, SHARD_ENTRY),
        recordIndex: entry.readUInt32LE(36),
      });
    }
    return found;
  }

  /** File hash for a SHA-256 given as 32 plain bytes. */
  findSha256(sha256: Uint8Array): Buffer | undefined {
    return this.findSha256s(sha256)[0];
  }

  /** All files that shards claim for a SHA-256: more than one where a shard is wrong, or content is cut in two ways. */
  findSha256s(sha256: Uint8Array): Buffer[] {
    const found: Buffer[] = [];
    let i = lowerBound(this.bytes, this.offsets.sha256s, this.counts.sha256s, SHA_ENTRY, sha256);
    for (; i < this.counts.sha256s; i++) {
      const entry = this.bytes.read(this.offsets.sha256s + SHA_ENTRY * i, SHA_ENTRY);
      if (entry.compare(sha256, 0, 32, 0, 32) !== 0) break;
      found.push(entry.subarray(32));
    }
    return found;
  }

  /** Where to read file entries from, and at which offset they start. */
  #fileList(): { readonly bytes: TableBytes; readonly start: number } {
    const start = this.offsets.files;
    const size = FILE_ENTRY * this.counts.files;
    if (size > MAX_FILE_LIST) return { bytes: this.bytes, start };
    this.#files ??= this.bytes.read(start, size);
    return { bytes: memoryBytes(this.#files), start: 0 };
  }

  #compareKey(index: number, a: number, b: number): number {
    const page = this.#keyPage(Math.floor(index / (PAGE / KEY_SIZE)));
    const at = (index % (PAGE / KEY_SIZE)) * KEY_SIZE;
    const high = page.readUInt32BE(at);
    if (high !== a) return high < a ? -1 : 1;
    const low = page.readUInt32BE(at + 4);
    return low === b ? 0 : low < b ? -1 : 1;
  }

  #keyPage(number: number): Buffer {
    let page = this.#pages.get(number);
    if (page !== undefined) return page;
    const start = number * PAGE;
    const length = Math.min(PAGE, KEY_SIZE * this.counts.chunks - start);
    page = this.bytes.read(this.offsets.keys + start, length);
    if (this.#maxPages === 0) return page;
    if (this.#pages.size >= this.#maxPages) this.#pages.delete(this.#pages.keys().next().value as number);
    this.#pages.set(number, page);
    return page;
  }
}

/** Index of the first of `count` entries, sorted by their first 32 bytes, that is not below `hash`. */
function lowerBound(
  bytes: TableBytes,
  start: number,
  count: number,
  entrySize: number,
  hash: Uint8Array,
): number {
  let low = 0;
  let high = count;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (bytes.read(start + entrySize * middle, 32).compare(hash, 0, 32) < 0) low = middle + 1;
    else high = middle;
  }
  return low;
}

function readKeyWord(bytes: Uint8Array, offset: number): number {
  return (
    (((bytes[offset] as number) << 24) |
      ((bytes[offset + 1] as number) << 16) |
      ((bytes[offset + 2] as number) << 8) |
      (bytes[offset + 3] as number)) >>>
    0
  );
}
