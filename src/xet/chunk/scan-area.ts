/** Where a scan leaves its results in the arena: chunk ends, then chunk hashes. */
import type { Arena } from '../wasm/kernels.ts';

/** Chunks of one scan at most. */
export const MAX_BATCH = 1024;
export const SCAN_AREA_SIZE = (4 + 32) * MAX_BATCH;

export class ScanArea {
  /** Arena address of u32 chunk ends, themselves arena addresses. */
  readonly ends: number;
  /** Arena address of 32-byte chunk hashes. */
  readonly hashes: number;
  readonly #words: Uint32Array;

  /** `base` is 4-aligned. */
  constructor(arena: Arena, base: number) {
    this.ends = base;
    this.hashes = base + 4 * MAX_BATCH;
    this.#words = new Uint32Array(arena.bytes.buffer);
  }

  end(i: number): number {
    return this.#words[this.ends / 4 + i] as number;
  }

  setEnd(i: number, address: number): void {
    this.#words[this.ends / 4 + i] = address;
  }

  /** Length of chunk i of a batch that begins at `start`. */
  length(start: number, i: number): number {
    return this.end(i) - (i === 0 ? start : this.end(i - 1));
  }
}
