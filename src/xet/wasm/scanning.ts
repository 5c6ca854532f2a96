/** Chunk boundaries and byte grouping in an arena, by WASM or in plain JavaScript. */
import { GearScan } from '../chunk/gear-scan.ts';
import type { Arena } from './arena.ts';
import { groupBytes, ungroupBytes } from './bg4-js.ts';
import type { WasmKernels } from './instance.ts';

export type ScanName = 'wasm' | 'js';

/** All addresses are offsets in the arena's bytes. */
export interface Scanning {
  readonly scan: ScanName;

  /**
   * Looks for chunk ends. The open chunk starts at `start`; bytes [from, end) are looked at now, those
   * in [start, from) were by the calls before (from == start: a new chunk; otherwise `from` is the
   * `end` of the previous call, whose hash state is kept here). Writes the address of each chunk end
   * as u32 at the 4-aligned address `ends`, and returns how many. After `maxCount` (at least 1) of
   * them it stops; go on with start = from = the last end.
   *
   * The state holds no address: between calls the open chunk may be moved, if start and from move
   * with it.
   */
  findBoundaries(start: number, from: number, end: number, ends: number, maxCount: number): number;

  /** Byte grouping of `length` bytes at `from` to `to`; the two ranges must not overlap. */
  groupBytes(from: number, length: number, to: number): void;

  /** The inverse of groupBytes. */
  ungroupBytes(from: number, length: number, to: number): void;
}

/** One scan at a time: the result keeps the state of one open chunk. Undefined where `name` cannot run. */
export function openScanning(
  arena: Arena,
  wasm: WasmKernels | undefined,
  name: ScanName,
): Scanning | undefined {
  if (name === 'js') return jsScanning(arena);
  if (wasm === undefined) return undefined;
  const { findBoundaries, groupBytes, ungroupBytes } = wasm;
  return { scan: 'wasm', findBoundaries, groupBytes, ungroupBytes };
}

function jsScanning({ bytes }: Arena): Scanning {
  const words = new Uint32Array(bytes.buffer);
  const scan = new GearScan();
  return {
    scan: 'js',
    findBoundaries(start, from, end, ends, maxCount) {
      let chunkStart = start;
      let position = from;
      for (let count = 0; count < maxCount; count++) {
        const chunkEnd = scan.findEnd(bytes, chunkStart, position, end);
        if (chunkEnd < 0) return count;
        words[ends / 4 + count] = chunkEnd;
        chunkStart = chunkEnd;
        position = chunkEnd;
      }
      return maxCount;
    },
    groupBytes(from, length, to) {
      groupBytes(bytes.subarray(from, from + length), bytes.subarray(to, to + length));
    },
    ungroupBytes(from, length, to) {
      ungroupBytes(bytes.subarray(from, from + length), bytes.subarray(to, to + length));
    },
  };
}
