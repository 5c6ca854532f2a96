/**
 * The xorb file format (Xet protocol, "Xorb"): chunk records (`chunk-record.ts`) one after the other, then, in a
 * stored xorb, a footer. All integers are little-endian.
 *
 * Footer, version 1 ("info", 92 + 40 n bytes, and its length):
 *
 *     size  field
 *     7 1   `XETBLOB`, 1
 *     32    xorb hash
 *     7 1   `XBLBHSH`, 0               start of the hashes section
 *     4     n
 *     32 n  chunk hashes
 *     7 1   `XBLBBND`, 1               start of the boundaries section
 *     4     n
 *     4 n   end of each record in the xorb; the first starts at 0, the last ends where the footer starts
 *     4 n   end of each chunk in the raw concatenation
 *     4     n
 *     4     bytes from the start of the hashes section to the end of the info
 *     4     bytes from the start of the boundaries section to the end of the info
 *     16    4 bytes nonce, 12 zero; not looked at
 *     4     length of the info, itself not counted
 *
 * Version 0 (60 + 36 n bytes, read only): `XETBLOB`, 0, xorb hash (32), n (4), record ends (4 n), chunk
 * hashes (32 n), 16 bytes not looked at, then the length of the info. It has no raw ends.
 *
 * The xorb hash covers neither compression nor footer: two files may differ and have one xorb hash.
 */
import { FormatError, Git2dbError } from '../errors.ts';
import { HASH_SIZE } from '../hash/xet-hash.ts';
import { CHUNK_HEADER_SIZE, decodeChunkHeader, MAX_RAW_CHUNK, MAX_STORED_CHUNK } from './chunk-record.ts';

export const MAX_XORB_BYTES = 67108864;
export const MAX_XORB_CHUNKS = 8192;

/** The length at the very end of a xorb with a footer. */
export const FOOTER_LENGTH_SIZE = 4;

/** `XETBLOB`: the begin of the footer, and the end of the records. */
export const FOOTER_MAGIC: Uint8Array = Buffer.from('XETBLOB', 'latin1');
const HASHES_MAGIC = Buffer.from('XBLBHSH', 'latin1');
const BOUNDARIES_MAGIC = Buffer.from('XBLBBND', 'latin1');
const MAGIC_SIZE = 7;

const V1_FIXED = 92;
const V1_PER_CHUNK = 40;
const V0_FIXED = 60;
const V0_PER_CHUNK = 36;
const HASHES_START = MAGIC_SIZE + 1 + HASH_SIZE;

export interface XorbFooter {
  readonly xorbHash: Uint8Array;
  /** Number of chunks, 1..8192. */
  readonly count: number;
  /** `count` hashes of 32 bytes. */
  readonly hashes: Uint8Array;
  /** End of each record, header included, in the xorb. */
  readonly recordEnds: Uint32Array;
  /** End of each chunk in the raw concatenation. */
  readonly rawEnds: Uint32Array;
}

/** A footer as found. Version 0 has no raw ends: `readRawEnds` gets them from the records. */
export type DecodedFooter =
  | (XorbFooter & { readonly version: 1 })
  | (Omit<XorbFooter, 'rawEnds'> & { readonly version: 0; readonly rawEnds: undefined });

/** Bytes of a version 1 footer of `count` chunks, its length field included. */
export function footerLength(count: number): number {
  return V1_FIXED + V1_PER_CHUNK * count + FOOTER_LENGTH_SIZE;
}

/** The longest footer there can be: reading that many last bytes of a xorb is always enough. */
export const MAX_FOOTER_LENGTH: number = footerLength(MAX_XORB_CHUNKS);

/** A version 1 footer with its length field. `nonce`: up to 4 bytes. */
export function encodeFooter(footer: XorbFooter, nonce?: Uint8Array): Uint8Array {
  const { count } = footer;
  if (count < 1 || count > MAX_XORB_CHUNKS) {
    throw new Git2dbError('LIMIT_EXCEEDED', `a xorb has 1..${MAX_XORB_CHUNKS} chunks, not ${count}`);
  }
  const bytes = new Uint8Array(footerLength(count));
  const view = new DataView(bytes.buffer);
  const infoLength = bytes.length - FOOTER_LENGTH_SIZE;
  const boundariesStart = HASHES_START + MAGIC_SIZE + 5 + HASH_SIZE * count;
  bytes.set(FOOTER_MAGIC);
  bytes[MAGIC_SIZE] = 1;
  bytes.set(footer.xorbHash.subarray(0, HASH_SIZE), MAGIC_SIZE + 1);

  bytes.set(HASHES_MAGIC, HASHES_START);
  view.setUint32(HASHES_START + MAGIC_SIZE + 1, count, true);
  bytes.set(footer.hashes.subarray(0, HASH_SIZE * count), HASHES_START + MAGIC_SIZE + 5);

  bytes.set(BOUNDARIES_MAGIC, boundariesStart);
  bytes[boundariesStart + MAGIC_SIZE] = 1;
  view.setUint32(boundariesStart + MAGIC_SIZE + 1, count, true);
  let at = boundariesStart + MAGIC_SIZE + 5;
  for (const ends of [footer.recordEnds, footer.rawEnds]) {
    for (let i = 0; i < count; i++, at += 4) view.setUint32(at, ends[i] as number, true);
  }
  view.setUint32(at, count, true);
  view.setUint32(at + 4, infoLength - HASHES_START, true);
  view.setUint32(at + 8, infoLength - boundariesStart, true);
  if (nonce !== undefined) bytes.set(nonce.subarray(0, 4), at + 12);
  view.setUint32(infoLength, infoLength, true);
  return bytes;
}

/**
 * Bytes of the footer, its length field included, as told by `tail`, the last 4 (or more) bytes of a
 * xorb. Throws INVALID_XORB if that cannot be the length of a footer.
 */
export function readFooterLength(tail: Uint8Array): number {
  if (tail.length < FOOTER_LENGTH_SIZE) {
    throw invalid(`a xorb of ${tail.length} bytes has no footer`, 0);
  }
  const infoLength = viewOf(tail).getUint32(tail.length - FOOTER_LENGTH_SIZE, true);
  if (chunkCount(infoLength, 1) === undefined && chunkCount(infoLength, 0) === undefined) {
    throw invalid(`a footer of ${infoLength} bytes is impossible: the xorb is damaged or has no footer`, 0);
  }
  return infoLength + FOOTER_LENGTH_SIZE;
}

/**
 * Reads the footer out of `tail`, the last bytes of a xorb of `xorbSize` bytes; `tail` must hold all of
 * the footer (`readFooterLength`, or MAX_FOOTER_LENGTH bytes to be sure). The answer does not refer to
 * `tail`. Not checked here: that the hashes are those of the chunks, and the xorb hash that of the list.
 */
export function decodeFooter(tail: Uint8Array, xorbSize: number): DecodedFooter {
  const length = readFooterLength(tail);
  const footerStart = xorbSize - length;
  if (length > tail.length || footerStart < 0) {
    throw invalid(
      `the footer has ${length} bytes, ${Math.min(tail.length, xorbSize)} are there`,
      Math.max(0, footerStart),
    );
  }
  const info = tail.subarray(tail.length - length, tail.length - FOOTER_LENGTH_SIZE);
  const reader = new FooterReader(info, footerStart);
  reader.magic(FOOTER_MAGIC, 'footer');
  const version = reader.u8();
  if (version !== 0 && version !== 1)
    throw invalid(`footer version ${version}; known are 0 and 1`, footerStart + MAGIC_SIZE);
  const count = chunkCount(info.length, version);
  if (count === undefined)
    throw invalid(`a version ${version} footer cannot have ${info.length} bytes`, footerStart);
  const xorbHash = reader.take(HASH_SIZE);
  if (version === 0) {
    reader.count(count);
    const recordEnds = reader.ends(count);
    const hashes = reader.take(HASH_SIZE * count);
    checkRecordEnds(recordEnds, footerStart);
    return { version, xorbHash, count, hashes, recordEnds, rawEnds: undefined };
  }
  reader.magic(HASHES_MAGIC, 'hashes section');
  reader.version(0, 'hashes section');
  reader.count(count);
  const hashes = reader.take(HASH_SIZE * count);
  const boundariesStart = reader.position;
  reader.magic(BOUNDARIES_MAGIC, 'boundaries section');
  reader.version(1, 'boundaries section');
  reader.count(count);
  const recordEnds = reader.ends(count);
  const rawEnds = reader.ends(count);
  reader.count(count);
  reader.distance(info.length - HASHES_START, 'hashes');
  reader.distance(info.length - boundariesStart, 'boundaries');
  checkRecordEnds(recordEnds, footerStart);
  checkRawEnds(rawEnds, footerStart);
  return { version, xorbHash, count, hashes, recordEnds, rawEnds };
}

/**
 * Raw ends for a version 0 footer, from the record headers. `readHeader` gets the offset of a record
 * and returns at least its first 8 bytes. Throws INVALID_XORB where header and footer disagree.
 */
export function readRawEnds(
  recordEnds: Uint32Array,
  readHeader: (recordStart: number) => Uint8Array,
): Uint32Array {
  const rawEnds = new Uint32Array(recordEnds.length);
  let recordStart = 0;
  let raw = 0;
  for (const [chunk, recordEnd] of recordEnds.entries()) {
    const { storedLength, rawLength } = decodeChunkHeader(readHeader(recordStart), 0, recordStart);
    if (recordStart + CHUNK_HEADER_SIZE + storedLength !== recordEnd) {
      throw invalid(
        `chunk ${chunk} ends at ${recordStart + CHUNK_HEADER_SIZE + storedLength} by its header, at ${recordEnd} by the footer`,
        recordStart,
      );
    }
    raw += rawLength;
    rawEnds[chunk] = raw;
    recordStart = recordEnd;
  }
  return rawEnds;
}

/** Whether the records end here: the footer begins at `offset` of `bytes`. */
export function startsFooter(bytes: Uint8Array, offset: number): boolean {
  if (bytes.length - offset < MAGIC_SIZE) return false;
  for (let i = 0; i < MAGIC_SIZE; i++) if (bytes[offset + i] !== FOOTER_MAGIC[i]) return false;
  return true;
}

/** Number of chunks of an info of this length and version; undefined if no number fits. */
function chunkCount(infoLength: number, version: 0 | 1): number | undefined {
  const count =
    version === 1 ? (infoLength - V1_FIXED) / V1_PER_CHUNK : (infoLength - V0_FIXED) / V0_PER_CHUNK;
  return Number.isInteger(count) && count >= 1 && count <= MAX_XORB_CHUNKS ? count : undefined;
}

function checkRecordEnds(ends: Uint32Array, footerStart: number): void {
  let previous = 0;
  for (const [chunk, end] of ends.entries()) {
    const size = end - previous;
    if (size <= CHUNK_HEADER_SIZE || size > CHUNK_HEADER_SIZE + MAX_STORED_CHUNK) {
      throw invalid(`footer: the record of chunk ${chunk} would be ${size} bytes long`, footerStart);
    }
    previous = end;
  }
  if (previous !== footerStart) {
    throw invalid(
      `footer: the records end at ${previous}, but the footer starts at ${footerStart}`,
      footerStart,
    );
  }
}

function checkRawEnds(ends: Uint32Array, footerStart: number): void {
  let previous = 0;
  for (const [chunk, end] of ends.entries()) {
    const size = end - previous;
    if (size < 1 || size > MAX_RAW_CHUNK) {
      throw invalid(`footer: chunk ${chunk} would have ${size} raw bytes`, footerStart);
    }
    previous = end;
  }
}

/** Reads an info front to back. Its length fits the version and the count, so nothing here can run over. */
class FooterReader {
  position = 0;
  private readonly info: Uint8Array;
  private readonly view: DataView;
  private readonly footerStart: number;

  constructor(info: Uint8Array, footerStart: number) {
    this.info = info;
    this.view = viewOf(info);
    this.footerStart = footerStart;
  }

  u8(): number {
    return this.view.getUint8(this.position++);
  }

  take(size: number): Uint8Array {
    this.position += size;
    return new Uint8Array(this.info.subarray(this.position - size, this.position));
  }

  ends(count: number): Uint32Array {
    const ends = new Uint32Array(count);
    for (let i = 0; i < count; i++, this.position += 4) ends[i] = this.view.getUint32(this.position, true);
    return ends;
  }

  magic(expected: Uint8Array, what: string): void {
    if (!expected.every((byte, i) => this.info[this.position + i] === byte)) {
      throw this.wrong(`the ${what} does not begin with ${Buffer.from(expected).toString('latin1')}`);
    }
    this.position += expected.length;
  }

  version(expected: number, what: string): void {
    const found = this.u8();
    if (found !== expected) throw this.wrong(`${what} version ${found}, expected ${expected}`);
  }

  count(expected: number): void {
    this.number(expected, (found) => `it says ${found} chunks, but its length fits ${expected}`);
  }

  distance(expected: number, what: string): void {
    this.number(
      expected,
      (found) => `its ${what} section starts ${expected} bytes before its end, not ${found}`,
    );
  }

  private number(expected: number, message: (found: number) => string): void {
    const found = this.view.getUint32(this.position, true);
    if (found !== expected) throw this.wrong(message(found));
    this.position += 4;
  }

  private wrong(message: string): FormatError {
    return invalid(`footer: ${message}`, this.footerStart + this.position);
  }
}

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

function invalid(message: string, offset: number): FormatError {
  return new FormatError('INVALID_XORB', message, offset);
}
