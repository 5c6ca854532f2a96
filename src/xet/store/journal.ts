/**
 * The journal of a writer: `incoming/<writer>/journal`, appended to once per acknowledged file.
 * A frame is on its way to the disk in full, or it is not there: what follows the last whole frame
 * was never acknowledged. Integers little-endian. (docs/format/incoming.md)
 *
 *     0   4  length of the payload
 *     4   4  type: 1 = file, 2 = adopted xorb
 *     8   8  first 8 bytes of the keyed BLAKE3 (DATA key) of the payload
 *     16  .. payload
 *
 * Payload of type 1, a file:
 *     0   32 file hash
 *     32  8  file size
 *     40  4  T, number of terms
 *     44  4  N, number of chunks new with this file
 *     48  4  1 if a SHA-256 follows the terms, else 0
 *     52  4  0
 *     then   T terms of 48: xorb hash (32; zero = a local xorb), local xorb number u32, chunk start
 *            u32, chunk end u32, raw bytes u32
 *     then   [SHA-256, 32]
 *     then   N chunks of 44: hash (32), local xorb number u32, stored length with header u32, raw length u32
 * Payload of type 2: the hash (32) of a xorb that was linked into `xorbs/` from another store.
 *
 * Local xorb n is the file `<n>.xorb` beside the journal: chunk records in order, perhaps followed
 * by bytes that belong to nothing.
 */
import { FormatError } from '../errors.ts';
import { blake3Keyed } from '../hash/blake3.ts';
import { DATA_KEY } from '../hash/keys.ts';
import { isZeroHash } from '../hash/xet-hash.ts';
import { CHUNK_HEADER_SIZE, MAX_RAW_CHUNK, MAX_STORED_CHUNK } from '../xorb/chunk-record.ts';
import { lengthsOf } from '../xorb/ends.ts';
import { MAX_XORB_CHUNKS } from '../xorb/format.ts';
import { ByteList } from './byte-list.ts';

const FRAME_HEADER = 16;
const FILE_HEADER = 56;
const TERM_SIZE = 48;
const CHUNK_SIZE = 44;

/** A term while its xorb may still be open: it names a published xorb or a local one. */
export interface LocalTerm {
  /** Hash of a published xorb, or undefined for local xorb `local`. */
  readonly xorbHash: Uint8Array | undefined;
  readonly local: number;
  readonly start: number;
  end: number;
  rawBytes: number;
}

/** Chunk list of one local xorb. */
export interface LocalXorb {
  readonly number: number;
  count: number;
  readonly hashes: ByteList;
  /** End offset of each record in `<number>.xorb`. */
  readonly recordEnds: number[];
  /** End offset of each chunk in the raw concatenation. */
  readonly rawEnds: number[];
}

export interface LocalFile {
  readonly fileHash: Uint8Array;
  readonly size: number;
  readonly terms: readonly LocalTerm[];
  readonly sha256: string | undefined;
}

/** All that a writer has acknowledged. */
export interface IncomingState {
  readonly xorbs: LocalXorb[];
  readonly files: LocalFile[];
  readonly adopted: Uint8Array[];
}

export function newLocalXorb(number: number): LocalXorb {
  return { number, count: 0, hashes: new ByteList(32 * 64), recordEnds: [], rawEnds: [] };
}

/** Offset of the first byte after the last record. */
export function dataEnd(xorb: LocalXorb): number {
  return xorb.recordEnds[xorb.count - 1] ?? 0;
}

/** Raw bytes of all chunks. */
export function rawBytesOf(xorb: LocalXorb): number {
  return xorb.rawEnds[xorb.count - 1] ?? 0;
}

/** New chunks of a file, in order: where in the local xorbs they were put. */
export interface NewChunk {
  readonly xorb: LocalXorb;
  readonly index: number;
}

export function encodeFileFrame(file: LocalFile, chunks: readonly NewChunk[]): Buffer {
  const shaSize = file.sha256 === undefined ? 0 : 32;
  const payload = Buffer.alloc(
    FILE_HEADER + TERM_SIZE * file.terms.length + shaSize + CHUNK_SIZE * chunks.length,
  );
  payload.set(file.fileHash, 0);
  payload.writeBigUInt64LE(BigInt(file.size), 32);
  payload.writeUInt32LE(file.terms.length, 40);
  payload.writeUInt32LE(chunks.length, 44);
  payload.writeUInt32LE(shaSize === 0 ? 0 : 1, 48);
  let at = FILE_HEADER;
  for (const term of file.terms) {
    if (term.xorbHash !== undefined) payload.set(term.xorbHash, at);
    payload.writeUInt32LE(term.local, at + 32);
    payload.writeUInt32LE(term.start, at + 36);
    payload.writeUInt32LE(term.end, at + 40);
    payload.writeUInt32LE(term.rawBytes, at + 44);
    at += TERM_SIZE;
  }
  if (file.sha256 !== undefined) at += payload.write(file.sha256, at, 'hex');
  for (const { xorb, index } of chunks) {
    payload.set(xorb.hashes.slice(32 * index, 32 * index + 32), at);
    payload.writeUInt32LE(xorb.number, at + 32);
    payload.writeUInt32LE((xorb.recordEnds[index] as number) - (xorb.recordEnds[index - 1] ?? 0), at + 36);
    payload.writeUInt32LE((xorb.rawEnds[index] as number) - (xorb.rawEnds[index - 1] ?? 0), at + 40);
    at += CHUNK_SIZE;
  }
  return frame(1, payload);
}

export function encodeAdoptedFrame(xorbHash: Uint8Array): Buffer {
  return frame(2, Buffer.from(xorbHash));
}

function frame(type: number, payload: Buffer): Buffer {
  const head = Buffer.alloc(FRAME_HEADER);
  head.writeUInt32LE(payload.length, 0);
  head.writeUInt32LE(type, 4);
  head.set(blake3Keyed(DATA_KEY, payload).subarray(0, 8), 8);
  return Buffer.concat([head, payload]);
}

/**
 * State told by the whole frames of `bytes`. Stops without an error at a frame that is cut off or
 * whose checksum is wrong: it was being written. A frame that contradicts the ones before throws.
 */
export function decodeJournal(bytes: Buffer): IncomingState {
  const state: IncomingState = { xorbs: [], files: [], adopted: [] };
  let at = 0;
  for (let size = frameSize(bytes, at); size !== undefined; size = frameSize(bytes, at)) {
    const payload = bytes.subarray(at + FRAME_HEADER, at + size);
    const type = bytes.readUInt32LE(at + 4);
    if (type === 1) decodeFile(state, payload, at + FRAME_HEADER);
    else if (type === 2 && payload.length === 32) state.adopted.push(payload);
    else throw invalid(`frame of unknown type ${type}`, at + 4);
    at += size;
  }
  return state;
}

/** Bytes of the frame at `at`, its header included; undefined where no whole one stands. */
export function frameSize(bytes: Buffer, at: number): number | undefined {
  if (bytes.length - at < FRAME_HEADER) return undefined;
  const length = bytes.readUInt32LE(at);
  if (length > bytes.length - at - FRAME_HEADER) return undefined;
  const checksum = blake3Keyed(DATA_KEY, bytes.subarray(at + FRAME_HEADER, at + FRAME_HEADER + length));
  return bytes.compare(checksum, 0, 8, at + 8, at + 16) === 0 ? FRAME_HEADER + length : undefined;
}

function decodeFile(state: IncomingState, payload: Buffer, base: number): void {
  if (payload.length < FILE_HEADER) throw invalid('file frame is too short', base);
  const termCount = payload.readUInt32LE(40);
  const chunkCount = payload.readUInt32LE(44);
  const hasSha = payload.readUInt32LE(48) === 1;
  const expected = FILE_HEADER + TERM_SIZE * termCount + (hasSha ? 32 : 0) + CHUNK_SIZE * chunkCount;
  if (expected !== payload.length)
    throw invalid(`file frame of ${payload.length} bytes, its counts need ${expected}`, base + 40);
  const terms: LocalTerm[] = [];
  let at = FILE_HEADER;
  for (let i = 0; i < termCount; i++, at += TERM_SIZE) {
    terms.push({
      xorbHash: isZeroHash(payload, at) ? undefined : payload.subarray(at, at + 32),
      local: payload.readUInt32LE(at + 32),
      start: payload.readUInt32LE(at + 36),
      end: payload.readUInt32LE(at + 40),
      rawBytes: payload.readUInt32LE(at + 44),
    });
  }
  const sha256 = hasSha ? payload.toString('hex', at, at + 32) : undefined;
  if (hasSha) at += 32;
  for (let i = 0; i < chunkCount; i++, at += CHUNK_SIZE) {
    const number = payload.readUInt32LE(at + 32);
    if (number > state.xorbs.length)
      throw invalid(`chunk in local xorb ${number}, but only ${state.xorbs.length} are known`, base + at);
    if (number === state.xorbs.length) state.xorbs.push(newLocalXorb(number));
    const xorb = state.xorbs[number] as LocalXorb;
    const stored = payload.readUInt32LE(at + 36);
    const raw = payload.readUInt32LE(at + 40);
    if (
      xorb.count === MAX_XORB_CHUNKS ||
      stored <= CHUNK_HEADER_SIZE ||
      stored > CHUNK_HEADER_SIZE + MAX_STORED_CHUNK ||
      raw === 0 ||
      raw > MAX_RAW_CHUNK
    ) {
      throw invalid(
        `chunk ${xorb.count} of local xorb ${number}, of ${raw} bytes in ${stored}, fits no xorb`,
        base + at,
      );
    }
    appendChunk(xorb, payload, at, stored, raw);
  }
  for (const term of terms) {
    if (
      term.xorbHash === undefined &&
      (term.end > (state.xorbs[term.local]?.count ?? 0) || term.start >= term.end)
    ) {
      throw invalid(`term [${term.start}, ${term.end}) is outside of local xorb ${term.local}`, base);
    }
  }
  state.files.push({
    fileHash: payload.subarray(0, 32),
    size: Number(payload.readBigUInt64LE(32)),
    terms,
    sha256,
  });
}

export function appendChunk(
  xorb: LocalXorb,
  hashes: Uint8Array,
  offset: number,
  stored: number,
  raw: number,
): void {
  xorb.hashes.append(hashes, offset, 32);
  xorb.recordEnds.push(dataEnd(xorb) + stored);
  xorb.rawEnds.push(rawBytesOf(xorb) + raw);
  xorb.count++;
}

/** Raw lengths of the chunks, in bytes. */
export function rawLengths(xorb: LocalXorb): Uint32Array {
  return lengthsOf(xorb.rawEnds);
}

/** Takes chunks off the end until `count` are left. */
export function truncateXorb(xorb: LocalXorb, count: number): void {
  xorb.hashes.truncate(32 * count);
  xorb.recordEnds.length = count;
  xorb.rawEnds.length = count;
  xorb.count = count;
}

/** Terms of a file as its chunks come: merges what continues in the same xorb. */
export function extendTerms(
  terms: LocalTerm[],
  xorbHash: Uint8Array | undefined,
  local: number,
  index: number,
  rawLength: number,
): boolean {
  const last = terms.at(-1);
  const same = last !== undefined && last.end === index && last.local === local && last.xorbHash === xorbHash;
  if (same) {
    last.end++;
    last.rawBytes += rawLength;
    return true;
  }
  terms.push({ xorbHash, local, start: index, end: index + 1, rawBytes: rawLength });
  return false;
}

function invalid(what: string, offset: number): FormatError {
  return new FormatError('INVALID_JOURNAL', `journal: ${what} (offset ${offset})`, offset);
}
