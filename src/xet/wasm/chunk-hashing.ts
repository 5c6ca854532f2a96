/** Chunk hashes in an arena, by the native module, by WASM or in plain JavaScript. */
import { blake3KeyedJs } from '../hash/blake3-js.ts';
import { nativeBlake3, nativePays } from '../hash/blake3-native.ts';
import { DATA_KEY } from '../hash/keys.ts';
import { HASH_SIZE } from '../hash/xet-hash.ts';
import type { Arena } from './arena.ts';
import type { WasmKernels } from './instance.ts';
import { DATA_KEY_AT } from './memory-layout.ts';

export type Blake3Name = 'native' | 'wasm' | 'js';

/** All addresses are offsets in the arena's bytes. */
export interface ChunkHashing {
  /** What hashes now; when it was not chosen by name, 'native' only from the time on that this pays. */
  readonly blake3: Blake3Name;

  /** Chunk hash, 32 bytes at `out`, of bytes [start, end). */
  hashChunk(start: number, end: number, out: number): void;

  /**
   * Chunk hashes, 32 bytes each from `out` on, of consecutive chunks: the first starts at `start`,
   * `count` u32 at the 4-aligned address `ends` say where each ends.
   */
  hashChunks(start: number, ends: number, count: number, out: number): void;
}

/** Undefined where `name` cannot run. */
export function openChunkHashing(
  arena: Arena,
  wasm: WasmKernels | undefined,
  name: Blake3Name,
): ChunkHashing | undefined {
  if (name === 'js') return hashingBy(arena, name, (data) => blake3KeyedJs(DATA_KEY, data));
  if (name === 'native') {
    const hash = nativeBlake3(DATA_KEY);
    return hash && hashingBy(arena, name, hash);
  }
  if (wasm === undefined) return undefined;
  arena.bytes.set(DATA_KEY, DATA_KEY_AT);
  return { blake3: 'wasm', hashChunk: wasm.hashChunk, hashChunks: wasm.hashChunks };
}

/** The fastest that runs here: the native module once it pays, until then and failing it the next best. */
export function openFastestChunkHashing(arena: Arena, wasm: WasmKernels | undefined): ChunkHashing {
  let current = openChunkHashing(arena, wasm, wasm === undefined ? 'js' : 'wasm') as ChunkHashing;
  const words = new Uint32Array(arena.bytes.buffer);
  function hashingFor(length: number): ChunkHashing {
    if (current.blake3 !== 'native' && nativePays(length)) {
      current = openChunkHashing(arena, wasm, 'native') as ChunkHashing;
    }
    return current;
  }
  return {
    get blake3() {
      return current.blake3;
    },
    hashChunk(start, end, out) {
      hashingFor(end - start).hashChunk(start, end, out);
    },
    hashChunks(start, ends, count, out) {
      if (count === 0) return;
      const end = words[ends / 4 + count - 1] as number;
      hashingFor(end - start).hashChunks(start, ends, count, out);
    },
  };
}

function hashingBy(
  { bytes }: Arena,
  blake3: Blake3Name,
  hash: (data: Uint8Array) => Uint8Array,
): ChunkHashing {
  const words = new Uint32Array(bytes.buffer);
  function hashChunk(start: number, end: number, out: number): void {
    bytes.set(hash(bytes.subarray(start, end)), out);
  }
  return {
    blake3,
    hashChunk,
    hashChunks(start, ends, count, out) {
      let chunkStart = start;
      for (let i = 0; i < count; i++) {
        const chunkEnd = words[ends / 4 + i] as number;
        hashChunk(chunkStart, chunkEnd, out + i * HASH_SIZE);
        chunkStart = chunkEnd;
      }
    },
  };
}
