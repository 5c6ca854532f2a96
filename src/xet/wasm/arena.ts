/**
 * Memory that kernels, threads and file I/O share: data read into it is chunked, hashed and written
 * out again without a copy. Addresses are byte offsets in `bytes`.
 */
import { ARENA_START } from './memory-layout.ts';
import { type SharedMemory, webAssembly } from './webassembly.ts';

/** Post this to a worker, and call openArena there. */
export type ArenaMemory = SharedMemory | SharedArrayBuffer;

export interface Arena {
  /** The whole memory; data may be put at [ARENA_START, bytes.length). */
  readonly bytes: Uint8Array;
  readonly memory: ArenaMemory;
}

const PAGE = 65536;
const MIN_PAGES = 2;
/** The limit that the kernels are compiled with: 1 GiB. */
const MAX_PAGES = 16384;

/** An arena of at least `size` bytes, those below ARENA_START included. It never grows. */
export function createArena(size: number): Arena {
  const pages = Math.max(MIN_PAGES, Math.ceil(size / PAGE));
  if (!(pages <= MAX_PAGES)) {
    throw new RangeError(`an arena holds at most ${MAX_PAGES * PAGE} bytes, ${size} asked for`);
  }
  if (webAssembly === undefined) return openArena(new SharedArrayBuffer(pages * PAGE));
  return openArena(new webAssembly.Memory({ initial: pages, maximum: pages, shared: true }));
}

/** The arena that another thread created. */
export function openArena(memory: ArenaMemory): Arena {
  const buffer = memory instanceof SharedArrayBuffer ? memory : memory.buffer;
  if (buffer.byteLength < ARENA_START) throw new RangeError(`an arena has at least ${ARENA_START} bytes`);
  return { bytes: new Uint8Array(buffer), memory };
}
