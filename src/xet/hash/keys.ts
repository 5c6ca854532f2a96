/** The keys of the Xet protocol ("Hashing"): one for each thing that is hashed. Do not write to them. */
import { blake3Keyed } from './blake3.ts';
import type { Hash } from './xet-hash.ts';

/** Chunk contents; also local shard files, whose hash is their name. */
export const DATA_KEY: Uint8Array = keyOf('6697f5775b9550de3135cbaca597181c9de421109beb2b58b4d0b04b93adf229');

/** Inner nodes of the Merkle tree over chunk hashes. */
export const NODE_KEY: Uint8Array = keyOf('017ec5c7a5472996fd946666b48a02e65ddd536f37c76dd2f86352e64a53713f');

/** Verification hashes: that the sender of a term has its chunks. */
export const VERIFY_KEY: Uint8Array = keyOf(
  '7f1857d6ce56ed66127ff913e7a5c3f3a4cd26d5b5db49e64124987f28fb94c3',
);

/** The protocol's "HMAC" (not that of RFC 2104): BLAKE3 of the 32 hash bytes under `key`. */
export function hmac(hash: Hash, key: Uint8Array): Hash {
  return blake3Keyed(key, hash);
}

/** In plain byte order, unlike the string form of a hash. */
function keyOf(hex: string): Uint8Array {
  return Uint8Array.from(hex.match(/../g) as string[], (digits) => Number.parseInt(digits, 16));
}
