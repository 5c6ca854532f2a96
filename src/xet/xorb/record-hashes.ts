/** Chunk hashes of records that lie in memory. */
import { decompressChunk } from '../compress/scheme.ts';
import { blake3Keyed } from '../hash/blake3.ts';
import { DATA_KEY } from '../hash/keys.ts';
import { HASH_SIZE } from '../hash/xet-hash.ts';

/** Numbers by which a record is described: start and end of its payload in bytes, its scheme, its raw length. */
export const PLACE_WORDS = 4;

/**
 * The hashes, one after the other, of the records in `bytes` that `places` describes. What a record that cannot
 * be decoded throws is `refuse(i, error)`, i its number.
 */
export function hashRecords(
  bytes: Uint8Array,
  places: Uint32Array,
  refuse: (record: number, error: unknown) => unknown,
): Uint8Array {
  const count = places.length / PLACE_WORDS;
  const hashes = new Uint8Array(count * HASH_SIZE);
  for (let i = 0; i < count; i++) {
    const at = i * PLACE_WORDS;
    const payload = bytes.subarray(places[at], places[at + 1]);
    try {
      const raw = decompressChunk(places[at + 2] as number, payload, places[at + 3] as number);
      hashes.set(blake3Keyed(DATA_KEY, raw), i * HASH_SIZE);
    } catch (error) {
      throw refuse(i, error);
    }
  }
  return hashes;
}
