/**
 * Reads chunk records: any run of whole records, as a byte range of a xorb gives them, or a whole
 * xorb (Xet protocol, "Xorb", chunk record and validation).
 */
import { decompressChunk, type Scheme } from '../compress/scheme.ts';
import { FormatError, Git2dbError } from '../errors.ts';
import { blake3Keyed } from '../hash/blake3.ts';
import { DATA_KEY } from '../hash/keys.ts';
import { merkleRoot } from '../hash/merkle.ts';
import { formatHash, HASH_SIZE, hashesEqual } from '../hash/xet-hash.ts';
import { CHUNK_HEADER_SIZE, type ChunkHeader, decodeChunkHeader } from './chunk-record.ts';
import { decodeFooter, MAX_XORB_BYTES, MAX_XORB_CHUNKS, startsFooter, type XorbFooter } from './format.ts';

export interface DecodedChunk {
  /** With scheme none a view into the given bytes, else memory of its own. */
  readonly raw: Uint8Array;
  readonly scheme: Scheme;
  /** The record in the given bytes: [recordStart, recordEnd). */
  readonly recordStart: number;
  readonly recordEnd: number;
}

/**
 * Decodes the records in `bytes`, which begins at one and ends after one, or at the footer. With
 * `expectedCount`, any other number of records is an error. Throws INVALID_XORB, naming chunk number
 * and offset, both counted from the start of `bytes`; chunks before the bad one have been given out.
 * Hashes are not checked.
 */
export function* decodeChunks(
  bytes: Uint8Array,
  expectedCount?: number,
): Generator<DecodedChunk, void, undefined> {
  let at = 0;
  let chunk = 0;
  for (; at < bytes.length && !startsFooter(bytes, at); chunk++) {
    if (chunk === expectedCount) {
      throw new FormatError(
        'INVALID_XORB',
        `expected ${expectedCount} chunks, but more data follows at offset ${at}`,
        at,
      );
    }
    const decoded = decodeRecord(bytes, at, chunk);
    yield decoded;
    at = decoded.recordEnd;
  }
  if (expectedCount !== undefined && chunk !== expectedCount) {
    throw new FormatError(
      'INVALID_XORB',
      `expected ${expectedCount} chunks, the data ends after ${chunk}`,
      at,
    );
  }
}

function decodeRecord(bytes: Uint8Array, recordStart: number, chunk: number): DecodedChunk {
  let at = recordStart;
  try {
    const { storedLength, scheme, rawLength }: ChunkHeader = decodeChunkHeader(bytes, recordStart);
    at += CHUNK_HEADER_SIZE;
    const recordEnd = at + storedLength;
    if (recordEnd > bytes.length) {
      throw new FormatError(
        'INVALID_XORB',
        `payload of ${storedLength} bytes, ${bytes.length - at} are left`,
        at,
      );
    }
    const raw = decompressChunk(scheme, bytes.subarray(at, recordEnd), rawLength);
    return { raw, scheme, recordStart, recordEnd };
  } catch (error) {
    if (!(error instanceof Git2dbError)) throw error;
    throw new FormatError('INVALID_XORB', `chunk ${chunk} at offset ${recordStart}: ${error.message}`, at, {
      cause: error,
      data: { chunk },
    });
  }
}

export interface ValidXorb extends XorbFooter {
  /** Raw length of each chunk. */
  readonly lengths: Uint32Array;
  readonly rawBytes: number;
  /** Bytes of the records, without the footer. */
  readonly storedBytes: number;
  /** Version of the footer that was there; undefined without one. */
  readonly footerVersion: 0 | 1 | undefined;
}

/**
 * What a server does with an uploaded xorb: decodes all of it, computes its hash and compares it with
 * `expectedHash`, and compares the footer, if there is one, with what it computed. Throws INVALID_XORB
 * or LIMIT_EXCEEDED. Besides `bytes`, memory use is that of one chunk and the lists.
 */
export function validateXorb(bytes: Uint8Array, expectedHash?: Uint8Array): ValidXorb {
  const hashes: Uint8Array[] = [];
  const recordEndList: number[] = [];
  const rawEndList: number[] = [];
  let rawBytes = 0;
  let storedBytes = 0;
  for (const { raw, recordStart, recordEnd } of decodeChunks(bytes)) {
    rawBytes += raw.length;
    storedBytes = recordEnd;
    checkLimits(hashes.length + 1, rawBytes, storedBytes, recordStart);
    hashes.push(blake3Keyed(DATA_KEY, raw));
    recordEndList.push(recordEnd);
    rawEndList.push(rawBytes);
  }
  const count = hashes.length;
  if (count === 0)
    throw new FormatError('INVALID_XORB', 'a xorb has at least one chunk, this one has none', 0);
  const rawEnds = Uint32Array.from(rawEndList);
  const lengths = rawEnds.map((end, i) => end - (rawEnds[i - 1] ?? 0));
  const hashList = new Uint8Array(count * HASH_SIZE);
  for (const [i, hash] of hashes.entries()) hashList.set(hash, i * HASH_SIZE);
  const xorbHash = merkleRoot(hashList, lengths, count);
  if (expectedHash !== undefined && !hashesEqual(xorbHash, 0, expectedHash, 0)) {
    throw new FormatError(
      'INVALID_XORB',
      `expected xorb ${formatHash(expectedHash)}, the chunks give ${formatHash(xorbHash)}`,
      0,
    );
  }
  const computed = {
    xorbHash,
    count,
    hashes: hashList,
    recordEnds: Uint32Array.from(recordEndList),
    rawEnds,
  };
  const footerVersion = storedBytes < bytes.length ? checkFooter(bytes, storedBytes, computed) : undefined;
  return { ...computed, lengths, rawBytes, storedBytes, footerVersion };
}

/** A full xorb of incompressible chunks exceeds the limit by the record headers: servers let that pass. */
function checkLimits(count: number, rawBytes: number, storedBytes: number, offset: number): void {
  if (count > MAX_XORB_CHUNKS) {
    throw new Git2dbError(
      'LIMIT_EXCEEDED',
      `a xorb has at most ${MAX_XORB_CHUNKS} chunks; more follow at offset ${offset}`,
    );
  }
  const storedLimit = MAX_XORB_BYTES + CHUNK_HEADER_SIZE * MAX_XORB_CHUNKS;
  if (rawBytes > MAX_XORB_BYTES || storedBytes > storedLimit) {
    throw new Git2dbError(
      'LIMIT_EXCEEDED',
      `a xorb has at most ${MAX_XORB_BYTES} raw and ${storedLimit} stored bytes; chunk ${count - 1} exceeds that`,
    );
  }
}

function checkFooter(bytes: Uint8Array, footerStart: number, computed: XorbFooter): 0 | 1 {
  const footer = decodeFooter(bytes.subarray(footerStart), bytes.length);
  const same =
    bytesEqual(footer.xorbHash, computed.xorbHash) &&
    bytesEqual(footer.hashes, computed.hashes) &&
    endsEqual(footer.recordEnds, computed.recordEnds) &&
    (footer.rawEnds === undefined || endsEqual(footer.rawEnds, computed.rawEnds));
  if (!same) {
    throw new FormatError('INVALID_XORB', 'the footer does not agree with the chunks before it', footerStart);
  }
  return footer.version;
}

function bytesEqual(a: Uint8Array, b: Uint8Array): boolean {
  return Buffer.compare(a, b) === 0;
}

function endsEqual(a: Uint32Array, b: Uint32Array): boolean {
  return a.length === b.length && a.every((end, i) => end === b[i]);
}
