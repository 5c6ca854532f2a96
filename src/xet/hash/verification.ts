/**
 * The verification hash of a term, by which an upload proves that it has the chunks it names
 * (Xet protocol specification, "Hashing", term verification hashes).
 */
import { blake3Keyed } from './blake3.ts';
import { VERIFY_KEY } from './keys.ts';
import { HASH_SIZE, type Hash } from './xet-hash.ts';

/** For chunks [start, end) of `hashes`, which are chunk hashes of 32 bytes one after another. */
export function verificationHash(hashes: Uint8Array, start: number, end: number): Hash {
  return blake3Keyed(VERIFY_KEY, hashes.subarray(start * HASH_SIZE, end * HASH_SIZE));
}
