/**
 * How a shard stores the SHA-256 of a file: as if its digits were the string form of a Xet hash, so
 * that each group of 8 bytes stands reversed.
 *
 *     SHA-256  13 07 99 0e 6b a5 ca 14  5e ..
 *     stored   14 ca a5 6b 0e 99 07 13  ..
 */
import { formatHash, type Hash, parseHash } from './xet-hash.ts';

/** The 32 bytes to store for a SHA-256 of 64 hexadecimal digits; throws INVALID_HASH. */
export function sha256ToShard(hex: string): Hash {
  return parseHash(hex);
}

/** The SHA-256, in ordinary lower-case digits, stored in the 32 bytes at `offset`. */
export function sha256FromShard(bytes: Uint8Array, offset = 0): string {
  return formatHash(bytes, offset);
}
