/**
 * The compressed bitmaps inside index extensions (EWAH, as git serialises it; gitformat-bitmap,
 * Appendix A). Big-endian.
 *
 *     0   4  number of bits (one more than the last set bit is enough)
 *     4   4  number of 64-bit words W
 *     8  8W  words: a marker, then the literal words it announces, then the next marker …
 *  8+8W   4  position of the last marker
 *
 * A marker, from the least significant bit: 1 bit b; 32 bits count of words that are all b and are
 * not written; 31 bits count of literal words that follow. Bit n of the map is bit n mod 64, from
 * the least significant, of word n div 64.
 */

import { invalidIndex } from './invalid-index.ts';

export interface DecodedBitmap {
  /** Bit n is bit n mod 8, from the least significant, of byte n div 8. */
  readonly bits: Uint8Array;
  /** How many bits are set. */
  readonly count: number;
  /** The offset of the first byte after the bitmap. */
  readonly next: number;
}

const ALL_ZEROS = Buffer.alloc(8, 0);
const ALL_ONES = Buffer.alloc(8, 0xff);

/**
 * Decodes the bitmap at `offset`, of which no byte may lie at or after `end` and no set bit at or
 * after `limit`; memory is `limit` bits, whatever the bitmap claims.
 */
export function decodeEwah(bytes: Buffer, offset: number, end: number, limit: number): DecodedBitmap {
  const { wordsStart, wordsEnd, next } = ewahExtent(bytes, offset, end);
  const bits = new Uint8Array(Math.ceil(limit / 8));
  let count = 0;
  let bit = 0;
  function set(position: number): void {
    if (position >= limit) {
      throw invalidIndex(`a bitmap has bit ${position} set where there are only ${limit} things`, offset);
    }
    bits[position >> 3]! |= 1 << (position & 7);
    count++;
  }
  for (let at = wordsStart; at < wordsEnd; ) {
    const high = bytes.readUInt32BE(at);
    const low = bytes.readUInt32BE(at + 4);
    const run = ((high << 31) | (low >>> 1)) >>> 0;
    const literals = high >>> 1;
    at += 8;
    if (literals > (wordsEnd - at) / 8) {
      throw invalidIndex(`a bitmap announces ${literals} words and ends before`, at - 8);
    }
    const runEnd = bit + run * 64;
    if ((low & 1) !== 0) {
      while (bit < runEnd) {
        set(bit++);
      }
    }
    bit = runEnd;
    for (const literalsEnd = at + literals * 8; at < literalsEnd; at += 8, bit += 64) {
      setWord(bytes.readUInt32BE(at + 4), bit, set);
      setWord(bytes.readUInt32BE(at), bit + 32, set);
    }
  }
  return { bits, count, next };
}

/** Where the bitmap at `offset` ends, without decoding it. */
export function skipEwah(bytes: Buffer, offset: number, end: number): number {
  return ewahExtent(bytes, offset, end).next;
}

/**
 * Encodes `bits` (as in {@link DecodedBitmap}) the way git would. There are fewer than 2^32 of them,
 * so neither a run nor a sequence of literals overflows its marker.
 */
export function encodeEwah(bits: Uint8Array): Buffer {
  const bitLength = bitLengthOf(bits);
  const words = Buffer.alloc(Math.ceil(bitLength / 64) * 8);
  for (let i = 0; i * 8 < bitLength; i++) {
    words[(i & ~7) + 7 - (i & 7)] = bits[i]!;
  }
  const parts: Buffer[] = [];
  let written = 0;
  let lastMarker = 0;
  let at = 0;
  do {
    const fill = words[at] === 0xff ? ALL_ONES : ALL_ZEROS;
    let runEnd = at;
    while (runEnd < words.length && words.compare(fill, 0, 8, runEnd, runEnd + 8) === 0) {
      runEnd += 8;
    }
    let literalsEnd = runEnd;
    while (literalsEnd < words.length && !isUniform(words.subarray(literalsEnd, literalsEnd + 8))) {
      literalsEnd += 8;
    }
    const literals = (literalsEnd - runEnd) / 8;
    const marker = Buffer.alloc(8);
    marker.writeUInt32BE(literals * 2, 0);
    marker.writeUInt32BE(((runEnd - at) / 8) * 2 + (fill === ALL_ONES ? 1 : 0), 4);
    parts.push(marker, words.subarray(runEnd, literalsEnd));
    lastMarker = written;
    written += 1 + literals;
    at = literalsEnd;
  } while (at < words.length);
  const head = Buffer.alloc(8);
  head.writeUInt32BE(bitLength, 0);
  head.writeUInt32BE(written, 4);
  const tail = Buffer.alloc(4);
  tail.writeUInt32BE(lastMarker, 0);
  return Buffer.concat([head, ...parts, tail]);
}

function isUniform(word: Buffer): boolean {
  return word.equals(ALL_ZEROS) || word.equals(ALL_ONES);
}

/** One more than the position of the last set bit. */
function bitLengthOf(bits: Uint8Array): number {
  for (let i = bits.length - 1; i >= 0; i--) {
    if (bits[i] !== 0) {
      return i * 8 + 32 - Math.clz32(bits[i]!);
    }
  }
  return 0;
}

function ewahExtent(
  bytes: Buffer,
  offset: number,
  end: number,
): { wordsStart: number; wordsEnd: number; next: number } {
  if (offset + 12 > end) {
    throw invalidIndex('expected a bitmap, found the end of the extension', offset);
  }
  const wordCount = bytes.readUInt32BE(offset + 4);
  const wordsStart = offset + 8;
  const wordsEnd = wordsStart + wordCount * 8;
  if (wordsEnd + 4 > end) {
    throw invalidIndex(`a bitmap of ${wordCount} words exceeds its extension`, offset);
  }
  return { wordsStart, wordsEnd, next: wordsEnd + 4 };
}

function setWord(half: number, bit: number, set: (position: number) => void): void {
  for (let rest = half, position = bit; rest !== 0; rest >>>= 1, position++) {
    if ((rest & 1) !== 0) {
      set(position);
    }
  }
}
