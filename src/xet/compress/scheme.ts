/**
 * The compression schemes of a chunk record (Xet protocol, "Xorb", chunk compression) and the choice
 * between them. What is chosen never changes a hash: chunk, xorb and file hashes are of raw bytes.
 */
import { FormatError } from '../errors.ts';
import { groupBytes, ungroupBytes } from './bg4.ts';
import { compressLz4, decompressLz4 } from './lz4.ts';

export const SCHEME_NONE = 0;
export const SCHEME_LZ4 = 1;
export const SCHEME_BG4_LZ4 = 2;
export type Scheme = 0 | 1 | 2;

/** `auto` compresses with LZ4 where a sample says that it pays, and stores raw otherwise. */
export type CompressionMode = 'auto' | 'none' | 'lz4' | 'bg4-lz4';

/** How a chunk is stored. `payload` is undefined where the raw bytes are stored (scheme none). */
export interface StoredChunk {
  readonly scheme: Scheme;
  readonly payload: Uint8Array | undefined;
}

/** MAX_RAW_CHUNK of xorb/chunk-record.ts, which imports this file: what a decoder may be asked to allocate. */
const MAX_RAW_LENGTH = 131072;

export const STORED_RAW: StoredChunk = { scheme: SCHEME_NONE, payload: undefined };

export function isScheme(value: number): value is Scheme {
  return value === SCHEME_NONE || value === SCHEME_LZ4 || value === SCHEME_BG4_LZ4;
}

export function schemeName(scheme: Scheme): 'none' | 'lz4' | 'bg4-lz4' {
  if (scheme === SCHEME_LZ4) return 'lz4';
  return scheme === SCHEME_BG4_LZ4 ? 'bg4-lz4' : 'none';
}

/** Stored form of a raw chunk. A payload is always strictly shorter than `raw`. */
export function compressChunk(raw: Uint8Array, mode: CompressionMode): StoredChunk {
  if (mode === 'none' || (mode === 'auto' && !lz4Pays(raw))) return STORED_RAW;
  const scheme = mode === 'bg4-lz4' ? SCHEME_BG4_LZ4 : SCHEME_LZ4;
  const payload = compressLz4(scheme === SCHEME_BG4_LZ4 ? groupBytes(raw) : raw);
  return payload === undefined ? STORED_RAW : { scheme, payload };
}

/**
 * Raw bytes of a stored chunk: exactly `rawLength` of them, or FormatError. With scheme none the
 * answer is `payload` itself, not a copy.
 */
export function decompressChunk(scheme: number, payload: Uint8Array, rawLength: number): Uint8Array {
  if (!Number.isInteger(rawLength) || rawLength < 0 || rawLength > MAX_RAW_LENGTH) {
    throw new FormatError(
      'INVALID_XORB',
      `raw length ${rawLength} of a chunk is not within 0..${MAX_RAW_LENGTH}`,
      0,
    );
  }
  switch (scheme) {
    case SCHEME_NONE:
      if (payload.length !== rawLength) {
        throw new FormatError(
          'INVALID_XORB',
          `a chunk stored raw has ${payload.length} bytes, expected ${rawLength}`,
          0,
        );
      }
      return payload;
    case SCHEME_LZ4:
      return decompressLz4(payload, rawLength);
    case SCHEME_BG4_LZ4:
      return ungroupBytes(decompressLz4(payload, rawLength));
    default:
      throw new FormatError('INVALID_XORB', `unknown compression scheme ${scheme}; known are 0, 1 and 2`, 0);
  }
}

const SAMPLE_WORDS = 256;
/** Below this the sample would be most of the chunk: just try. */
const SMALL_CHUNK = 4 * SAMPLE_WORDS;
/** Repeats that say LZ4 pays: for text few are enough, for other bytes it takes more to save enough. */
const TEXT_REPEATS = 3;
const BINARY_REPEATS = 20;
/** So many of the 1024 sampled bytes must be printable ASCII or white space for the chunk to be text. */
const TEXT_BYTES = 820;
const SLOT_BITS = 10;
const slots = new Int32Array(1 << SLOT_BITS);

/**
 * Whether LZ4 is worth its time. It lives on 4-byte words that occur again within 64 KiB, so this
 * looks for some among 256 words (1 KiB) spread over the chunk. Text, logs, code and zeros have many;
 * random, float and quantised data have none or few, also where LZ4 would save a little at the price
 * of doubling the time to store them (floats rounded to bfloat16: a third saved, 5 to 8 repeats).
 */
export function lz4Pays(raw: Uint8Array): boolean {
  if (raw.length < SMALL_CHUNK) return true;
  slots.fill(0); // so the first all-zero word counts as a repeat: no harm, zeros always pay
  const stride = Math.floor((raw.length - 4) / SAMPLE_WORDS);
  let repeats = 0;
  let printable = 0;
  for (let i = 0; i < SAMPLE_WORDS; i++) {
    // A different place in each stride: records of a fixed size must not be sampled at one field only.
    let at = i * stride + (((Math.imul(i, 0x9e3779b1) >>> 16) * stride) >>> 16);
    let word = 0;
    for (let shift = 0; shift < 32; shift += 8) {
      const byte = raw[at++] as number;
      word |= byte << shift;
      if ((byte >= 0x20 && byte < 0x7f) || (byte >= 0x09 && byte <= 0x0d)) printable++;
    }
    const slot = Math.imul(word, 0x85ebca77) >>> (32 - SLOT_BITS);
    if (slots[slot] === word) repeats++;
    else slots[slot] = word;
  }
  return repeats >= (printable >= TEXT_BYTES ? TEXT_REPEATS : BINARY_REPEATS);
}

const POPCOUNT = Uint8Array.from({ length: 256 }, (_, byte) => byte.toString(2).replaceAll('0', '').length);
const POPCOUNT_BINS = 9;
const KL_THRESHOLD = 0.02;

/**
 * The reference client's predictor: bg4-lz4 if, for one of the 4 byte positions, the distribution of
 * the number of one bits per byte differs from that of the whole chunk by a Kullback-Leibler divergence
 * above 0.02; else lz4. For recoding at upload time, where space is worth the CPU time.
 */
export function chooseSchemeByKl(raw: Uint8Array): Scheme {
  const counts = [0, 1, 2, 3].map(() => new Uint32Array(POPCOUNT_BINS));
  for (let i = 0; i < raw.length; i++) {
    const bin = POPCOUNT[raw[i] as number] as number;
    const histogram = counts[i & 3] as Uint32Array;
    histogram[bin] = (histogram[bin] as number) + 1;
  }
  for (const [position, histogram] of counts.entries()) {
    const total = Math.ceil((raw.length - position) / 4);
    let divergence = 0;
    for (let bin = 0; bin < POPCOUNT_BINS; bin++) {
      const all = counts.reduce((sum, other) => sum + (other[bin] as number), 1);
      const p = (histogram[bin] as number) / total;
      // An empty bin makes this NaN, and NaN is never above the threshold: such a position does not vote.
      divergence += p * Math.log(p / (all / raw.length));
    }
    if (divergence > KL_THRESHOLD) return SCHEME_BG4_LZ4;
  }
  return SCHEME_LZ4;
}
