/**
 * The boundary rule in plain JavaScript: what runs where WebAssembly does not, and what the kernels
 * are tested against.
 *
 * For each byte `h = (h << 1) + GEAR_TABLE[byte]` modulo 2^64; a chunk ends after a byte that leaves
 * the upper 16 bits of h zero, once it has MIN_CHUNK bytes, and in any case at MAX_CHUNK.
 *
 * JavaScript has no fast 64-bit integers. h is kept as three limbs of 24, 24 and 16 bits: a limb, its
 * table entry and a carry stay below 2^26, so a carry is one shift, and the test is `upper === 0`.
 * This shape ran twice as fast as two 32-bit halves with an emulated carry.
 */
import { GEAR_TABLE } from './gear-table.ts';
import { FIRST_HASHED_OFFSET, MAX_CHUNK, MIN_CHUNK } from './limits.ts';

const LIMB = 0xffffff;

function limbsOfTable(shift: bigint): Int32Array {
  return Int32Array.from(GEAR_TABLE, (constant) => Number((constant >> shift) & BigInt(LIMB)));
}

let tables: readonly [Int32Array, Int32Array, Int32Array] | undefined;

/** Scans one sequence of bytes, given in any number of pieces. */
export class GearScan {
  #lower = 0;
  #middle = 0;
  #upper = 0;

  /**
   * The end of the chunk that starts at `start`, or -1 when it lies beyond `end`. Positions count from
   * the beginning of `bytes`; `start` may be negative, when the chunk began in an earlier piece.
   * Bytes in [start, from) must have been looked at by the calls before; only [from, end) is read.
   */
  findEnd(bytes: Uint8Array, start: number, from: number, end: number): number {
    tables ??= [limbsOfTable(0n), limbsOfTable(24n), limbsOfTable(48n)];
    const [lowerOf, middleOf, upperOf] = tables;
    const first = start + FIRST_HASHED_OFFSET;
    let position = from;
    let lower = this.#lower;
    let middle = this.#middle;
    let upper = this.#upper;
    if (from <= first) {
      if (end <= first) return -1;
      position = first;
      lower = middle = upper = 0;
    }

    const untested = Math.min(start + MIN_CHUNK - 1, end);
    const limit = Math.min(start + MAX_CHUNK, end);
    while (position < limit) {
      const byte = bytes[position++] as number;
      lower = (lower << 1) + (lowerOf[byte] as number);
      middle = (middle << 1) + (middleOf[byte] as number) + (lower >>> 24);
      upper = ((upper << 1) + (upperOf[byte] as number) + (middle >>> 24)) & 0xffff;
      lower &= LIMB;
      middle &= LIMB;
      if (upper === 0 && position > untested) return position;
    }
    if (limit === start + MAX_CHUNK) return limit;
    this.#lower = lower;
    this.#middle = middle;
    this.#upper = upper;
    return -1;
  }
}
