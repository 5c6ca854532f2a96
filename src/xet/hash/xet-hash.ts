/**
 * A Xet hash: 32 bytes, and its string form (Xet protocol, "Hashing", string representation).
 *
 *     bytes   00 01 02 03 04 05 06 07  08 .. 0f  10 .. 17  18 .. 1f
 *     string  0706050403020100 0f0e0d0c0b0a0908 1716151413121110 1f1e1d1c1b1a1918   (no spaces)
 *
 * Each group of 8 bytes is read as a little-endian u64 and printed as 16 lower-case digits.
 * Binary formats hold the bytes as BLAKE3 gives them. Hashes sort by their string form.
 */
import { Git2dbError } from '../errors.ts';

export const HASH_SIZE = 32;

/** 32 bytes, in the order BLAKE3 gives them. */
export type Hash = Uint8Array;

/** The hash of nothing: empty file, empty xorb, "no key". Do not write to it. */
export const ZERO_HASH: Hash = new Uint8Array(HASH_SIZE);

const HEX: readonly string[] = Array.from({ length: 256 }, (_, b) => b.toString(16).padStart(2, '0'));

/** String form of the 32 bytes at `offset`. */
export function formatHash(bytes: Uint8Array, offset = 0): string {
  let text = '';
  for (let group = offset; group < offset + HASH_SIZE; group += 8) {
    for (let i = group + 7; i >= group; i--) text += HEX[bytes[i] as number];
  }
  return text;
}

export function isHashString(text: string): boolean {
  return /^[0-9a-fA-F]{64}$/.test(text);
}

/** Bytes of a string form; throws INVALID_HASH. */
export function parseHash(text: string): Hash {
  if (!isHashString(text)) {
    throw new Git2dbError(
      'INVALID_HASH',
      `expected a hash of 64 hexadecimal digits, found ${JSON.stringify(text.slice(0, 80))}`,
    );
  }
  const bytes = new Uint8Array(HASH_SIZE);
  for (let i = 0; i < HASH_SIZE; i++) {
    bytes[(i & ~7) + 7 - (i & 7)] = Number.parseInt(text.slice(2 * i, 2 * i + 2), 16);
  }
  return bytes;
}

export function hashesEqual(a: Uint8Array, aOffset: number, b: Uint8Array, bOffset: number): boolean {
  for (let i = 0; i < HASH_SIZE; i++) if (a[aOffset + i] !== b[bOffset + i]) return false;
  return true;
}

export function isZeroHash(bytes: Uint8Array, offset = 0): boolean {
  for (let i = offset; i < offset + HASH_SIZE; i++) if (bytes[i] !== 0) return false;
  return true;
}

/** Order of the string forms: by four little-endian u64 in turn. */
export function compareHashes(a: Uint8Array, aOffset: number, b: Uint8Array, bOffset: number): number {
  for (let group = 0; group < HASH_SIZE; group += 8) {
    for (let i = group + 7; i >= group; i--) {
      const difference = (a[aOffset + i] as number) - (b[bOffset + i] as number);
      if (difference !== 0) return difference;
    }
  }
  return 0;
}
