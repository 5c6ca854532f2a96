/**
 * The work that is done on every byte: chunk boundaries, chunk hashes, byte grouping. Each instance
 * takes the fastest implementation that loads; all give the same results.
 */
import { Git2dbError } from '../errors.ts';
import type { Arena } from './arena.ts';
import {
  type Blake3Name,
  type ChunkHashing,
  openChunkHashing,
  openFastestChunkHashing,
} from './chunk-hashing.ts';
import { instantiateKernels } from './instance.ts';
import { openScanning, type ScanName, type Scanning } from './scanning.ts';

export { type Arena, type ArenaMemory, createArena, openArena } from './arena.ts';
export { ARENA_START, SCRATCH_SIZE } from './memory-layout.ts';

export interface Kernels extends Scanning, ChunkHashing {}

/** Where undefined, the fastest that loads. */
export interface KernelChoice {
  readonly scan?: ScanName | undefined;
  readonly blake3?: Blake3Name | undefined;
}

/**
 * Kernels that work in `arena` and own SCRATCH_SIZE bytes at the 16-aligned address `scratch`.
 * Several instances, each with its own scratch, may work in one arena at once, on one thread or many.
 * Throws INVALID_CONFIG when an implementation asked for by name does not load.
 */
export function loadKernels(arena: Arena, scratch: number, choice: KernelChoice = {}): Kernels {
  const wasm = instantiateKernels(arena.memory, scratch);
  const scan = choice.scan ?? (wasm === undefined ? 'js' : 'wasm');
  const scanning = openScanning(arena, wasm, scan) ?? unavailable('chunk boundaries', scan);
  const hashing =
    choice.blake3 === undefined
      ? openFastestChunkHashing(arena, wasm)
      : (openChunkHashing(arena, wasm, choice.blake3) ?? unavailable('BLAKE3', choice.blake3));
  const { hashChunk, hashChunks } = hashing;
  return {
    ...scanning,
    get blake3() {
      return hashing.blake3;
    },
    hashChunk,
    hashChunks,
  };
}

function unavailable(what: string, name: string): never {
  throw new Git2dbError(
    'INVALID_CONFIG',
    `the ${name} implementation of ${what} was asked for, but does not load here`,
  );
}
