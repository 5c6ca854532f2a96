/**
 * Sizes of chunks in bytes (Xet protocol specification, "Content-defined chunking").
 *
 * Plain integers without type annotations: the AssemblyScript kernels compile this file too.
 */

/** No chunk is shorter, except the last of a file. Readers must not rely on it: other writers cut shorter. */
export const MIN_CHUNK = 8192;

/** What random bytes give on average, without the two limits. */
export const TARGET_CHUNK = 65536;

/** No chunk is longer. */
export const MAX_CHUNK = 131072;

/**
 * Chunk offset of the first byte that the gear hash is fed. A byte is shifted out of the 64-bit hash
 * after 64 steps, so at the first permitted boundary the hash is the same as if it had been fed from
 * the start of the chunk.
 */
export const FIRST_HASHED_OFFSET = 8127;
