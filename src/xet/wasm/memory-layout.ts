/**
 * Where things stand in the memory that the kernels work in.
 *
 *     0      1024   not used, so that no valid address is 0
 *     1024   2048   GEAR_TABLE: 256 u64
 *     3072     32   DATA_KEY
 *     3104    112   MESSAGE_SCHEDULE: BLAKE3's order of message words, 7 rounds of 16 numbers below 16
 *     65536         ARENA_START: the rest belongs to the callers, who also place the scratch areas
 *
 * The constants are written by whoever loads the kernels; every thread writes the same bytes.
 *
 * A scratch area, 16-aligned, one for each instance of the kernels:
 *
 *     0      4096   NODES: chaining values of the 1024-byte leaves of a piece, then of their parents
 *     4096   1408   STACK: chaining values of complete subtrees of more than one piece
 *     5504     64   BLOCK: a last block, padded with zeros
 *
 * Plain integers without type annotations: the AssemblyScript kernels compile this file too.
 */

export const GEAR_TABLE_AT = 1024;
export const DATA_KEY_AT = 3072;
export const MESSAGE_SCHEDULE_AT = 3104;
export const ARENA_START = 65536;

export const NODES = 0;
export const STACK = 4096;
export const BLOCK = 5504;
export const SCRATCH_SIZE = 5632;

/** How much is hashed at a time: the largest chunk; a power of two times 1024. */
export const PIECE_SIZE = 131072;
