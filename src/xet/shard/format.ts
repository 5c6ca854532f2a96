/**
 * The frame of a shard file (Xet protocol, "Shard"; .mdb files). All integers are little-endian.
 *
 *     header 48 | file section .. bookend 48 | xorb section .. bookend 48 | [lookup tables] | [footer 200]
 *
 * Header:
 *
 *     offset  size  field
 *     0       32    tag: `HFRepoMetaData`, 00, 55 69 67 45 6a 7b 81 57 83 a5 bd d9 5c cd d1 4a a9
 *     32      8     version, 2
 *     40      8     footer size: 200, or 0 for a shard without tables and footer (the upload form)
 *
 * Both sections are runs of 48-byte records (file-info.ts, xorb-info.ts) and end at a bookend: 32 bytes
 * ff, 16 bytes 00. A *record index* counts records from the start of its section. The tables are in
 * lookup.ts.
 *
 * Footer:
 *
 *     offset  size  field
 *     0       8     version, 1
 *     8       8     offset of the file section, 48
 *     16      8     offset of the xorb section
 *     24      8 8   offset of the file table, its number of entries
 *     40      8 8   offset of the xorb table, its number of entries
 *     56      8 8   offset of the chunk table, its number of entries
 *     72      32    key of the chunk hashes; zero: plain hashes
 *     104     8     creation time, seconds since 1970
 *     112     8     expiry of the key, seconds since 1970; 2^64 - 1: never
 *     120     48    zero
 *     168     8     sum of the xorbs' stored bytes
 *     176     8     sum of the files' raw bytes
 *     184     8     sum of the xorbs' raw bytes
 *     192     8     offset of the footer
 *
 * Readers take the offset of the file table for the end of the xorb section, so it is written also
 * where there are no tables.
 */
import { FormatError } from '../errors.ts';
import { HASH_SIZE } from '../hash/xet-hash.ts';

export const HEADER_SIZE = 48;
export const RECORD_SIZE = 48;
export const FOOTER_SIZE = 200;
/** Largest shard that may be uploaded. */
export const MAX_SHARD_UPLOAD = 67108864;

const HEADER_VERSION = 2n;
const FOOTER_VERSION = 1n;
const U64_MAX = 0xffffffffffffffffn;

const TAG: Uint8Array = Buffer.concat([
  Buffer.from('HFRepoMetaData\0', 'latin1'),
  Buffer.from('556967456a7b815783a5bdd95ccdd14aa9', 'hex'),
]);

/** The record that ends a section. Do not write to it. */
export const BOOKEND: Uint8Array = new Uint8Array(RECORD_SIZE).fill(0xff, 0, HASH_SIZE);

/** Whether the record at `offset` ends its section. */
export function isBookend(bytes: Uint8Array, offset: number): boolean {
  for (let i = offset; i < offset + HASH_SIZE; i++) if (bytes[i] !== 0xff) return false;
  return true;
}

export function encodeHeader(footerSize: 0 | typeof FOOTER_SIZE): Uint8Array {
  const bytes = new Uint8Array(HEADER_SIZE);
  const view = viewOf(bytes);
  bytes.set(TAG);
  view.setBigUint64(32, HEADER_VERSION, true);
  view.setBigUint64(40, BigInt(footerSize), true);
  return bytes;
}

/** The footer size a header announces; throws INVALID_SHARD. */
export function decodeHeader(bytes: Uint8Array): 0 | typeof FOOTER_SIZE {
  if (bytes.length < HEADER_SIZE) {
    throw invalidShard(`a shard begins with a header of ${HEADER_SIZE} bytes, ${bytes.length} are there`, 0);
  }
  if (!TAG.every((byte, i) => bytes[i] === byte)) throw invalidShard('the tag of a shard is not there', 0);
  const view = viewOf(bytes);
  const version = view.getBigUint64(32, true);
  if (version !== HEADER_VERSION)
    throw invalidShard(`shard version ${version}; only ${HEADER_VERSION} is known`, 32);
  const footerSize = view.getBigUint64(40, true);
  if (footerSize === 0n) return 0;
  if (footerSize === BigInt(FOOTER_SIZE)) return FOOTER_SIZE;
  throw invalidShard(`footer size ${footerSize}; expected 0 or ${FOOTER_SIZE}`, 40);
}

/** Bytes of an entry of the file and the xorb table. */
export const RECORD_ENTRY_SIZE = 12;
/** Bytes of an entry of the chunk table. */
export const CHUNK_ENTRY_SIZE = 16;

/** Place of a lookup table in the shard. */
export interface TablePlace {
  readonly offset: number;
  readonly count: number;
}

export interface ShardFooter {
  readonly xorbSection: number;
  readonly fileTable: TablePlace;
  readonly xorbTable: TablePlace;
  readonly chunkTable: TablePlace;
  /** Key of the chunk hashes, 32 bytes; undefined: they are plain. */
  readonly key: Uint8Array | undefined;
  /** Seconds since 1970. */
  readonly createdAt: number;
  /** Seconds since 1970; Infinity: never, which is also what any time beyond 2^53 is read as. */
  readonly keyExpiry: number;
  /** Sum of the xorbs' stored bytes, as far as their writers told. */
  readonly storedBytes: number;
  /** Sum of the files' raw bytes. */
  readonly fileBytes: number;
  /** Sum of the xorbs' raw bytes. */
  readonly xorbBytes: number;
  readonly footerOffset: number;
}

export function encodeShardFooter(footer: ShardFooter): Uint8Array {
  const bytes = new Uint8Array(FOOTER_SIZE);
  const view = viewOf(bytes);
  const put = (offset: number, value: number) => view.setBigUint64(offset, BigInt(value), true);
  view.setBigUint64(0, FOOTER_VERSION, true);
  put(8, HEADER_SIZE);
  put(16, footer.xorbSection);
  put(24, footer.fileTable.offset);
  put(32, footer.fileTable.count);
  put(40, footer.xorbTable.offset);
  put(48, footer.xorbTable.count);
  put(56, footer.chunkTable.offset);
  put(64, footer.chunkTable.count);
  if (footer.key !== undefined) bytes.set(footer.key.subarray(0, HASH_SIZE), 72);
  put(104, footer.createdAt);
  if (footer.keyExpiry > Number.MAX_SAFE_INTEGER) view.setBigUint64(112, U64_MAX, true);
  else put(112, footer.keyExpiry);
  put(168, footer.storedBytes);
  put(176, footer.fileBytes);
  put(184, footer.xorbBytes);
  put(192, footer.footerOffset);
  return bytes;
}

/**
 * The footer in the last 200 bytes of a shard whose sections end at `sectionsEnd` and whose xorb
 * section begins at `xorbSection`. Throws INVALID_SHARD; a table that is announced lies within the
 * shard. Offsets of tables without entries are not looked at: some writers leave them zero.
 */
export function decodeShardFooter(bytes: Uint8Array, xorbSection: number, sectionsEnd: number): ShardFooter {
  const start = bytes.length - FOOTER_SIZE;
  if (start < sectionsEnd) {
    throw invalidShard(
      `the header announces a footer of ${FOOTER_SIZE} bytes, ${bytes.length - sectionsEnd} follow the sections`,
      sectionsEnd,
    );
  }
  const view = viewOf(bytes.subarray(start));
  const get = (offset: number, what: string): number => {
    const value = view.getBigUint64(offset, true);
    if (value > BigInt(Number.MAX_SAFE_INTEGER))
      throw invalidShard(`footer: ${what} ${value} is too large`, start + offset);
    return Number(value);
  };
  const expect = (offset: number, expected: number, what: string): void => {
    const found = get(offset, what);
    if (found !== expected)
      throw invalidShard(`footer: ${what} is ${found}, expected ${expected}`, start + offset);
  };
  const table = (offset: number, entrySize: number, what: string): TablePlace => {
    const place = { offset: get(offset, `${what} offset`), count: get(offset + 8, `${what} count`) };
    if (place.count === 0) return { offset: start, count: 0 };
    if (place.offset < sectionsEnd || place.count > (start - place.offset) / entrySize) {
      throw invalidShard(
        `footer: ${what} of ${place.count} entries at ${place.offset} does not lie between ${sectionsEnd} and ${start}`,
        start + offset,
      );
    }
    return place;
  };
  expect(0, Number(FOOTER_VERSION), 'version');
  expect(8, HEADER_SIZE, 'file section offset');
  expect(16, xorbSection, 'xorb section offset');
  expect(192, start, 'footer offset');
  const key = new Uint8Array(bytes.subarray(start + 72, start + 72 + HASH_SIZE));
  const keyExpiry = view.getBigUint64(112, true);
  return {
    xorbSection,
    fileTable: table(24, RECORD_ENTRY_SIZE, 'file table'),
    xorbTable: table(40, RECORD_ENTRY_SIZE, 'xorb table'),
    chunkTable: table(56, CHUNK_ENTRY_SIZE, 'chunk table'),
    key: key.every((byte) => byte === 0) ? undefined : key,
    createdAt: get(104, 'creation time'),
    keyExpiry: keyExpiry > BigInt(Number.MAX_SAFE_INTEGER) ? Number.POSITIVE_INFINITY : Number(keyExpiry),
    storedBytes: get(168, 'stored bytes'),
    fileBytes: get(176, 'file bytes'),
    xorbBytes: get(184, 'xorb bytes'),
    footerOffset: start,
  };
}

export function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

export function invalidShard(message: string, offset: number): FormatError {
  return new FormatError('INVALID_SHARD', message, offset);
}
