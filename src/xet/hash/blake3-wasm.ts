/** Keyed BLAKE3 by our WASM kernels, for data that is not in an arena: a small one of its own. */
import { createArena } from '../wasm/arena.ts';
import { instantiateKernels } from '../wasm/instance.ts';
import { ARENA_START, PIECE_SIZE, SCRATCH_SIZE } from '../wasm/memory-layout.ts';
import { HASH_SIZE } from './xet-hash.ts';

const KEY_AT = ARENA_START + SCRATCH_SIZE;
const OUT_AT = KEY_AT + HASH_SIZE;
const PIECE_AT = OUT_AT + HASH_SIZE;

/** Hashes data of any size, PIECE_SIZE bytes at a time; undefined where the kernels do not load. */
export function wasmBlake3(): ((key: Uint8Array, data: Uint8Array) => Uint8Array) | undefined {
  const { bytes, memory } = createArena(PIECE_AT + PIECE_SIZE);
  const kernels = instantiateKernels(memory, ARENA_START);
  if (kernels === undefined) return undefined;
  return (key, data) => {
    bytes.set(key, KEY_AT);
    let piece = 0;
    let at = 0;
    for (; data.length - at > PIECE_SIZE; at += PIECE_SIZE) {
      bytes.set(data.subarray(at, at + PIECE_SIZE), PIECE_AT);
      kernels.hashPiece(KEY_AT, PIECE_AT, PIECE_SIZE, piece++, false, OUT_AT);
    }
    bytes.set(data.subarray(at), PIECE_AT);
    kernels.hashPiece(KEY_AT, PIECE_AT, data.length - at, piece, true, OUT_AT);
    return bytes.slice(OUT_AT, OUT_AT + HASH_SIZE);
  };
}
