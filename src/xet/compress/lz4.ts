/**
 * The door to LZ4: frames are lz4-frame.ts, blocks our WASM kernel where it loads and lz4-block.ts
 * where it does not. Whether a block is valid is decided by lz4-block.ts; the kernel only gets to be
 * faster about blocks that it accepts.
 */
import { createArena } from '../wasm/arena.ts';
import { instantiateKernels } from '../wasm/instance.ts';
import { ARENA_START, SCRATCH_SIZE } from '../wasm/memory-layout.ts';
import { decodeBlock, encodeBlock } from './lz4-block.ts';
import { type BlockDecoder, type BlockEncoder, decodeFrame, encodeFrame } from './lz4-frame.ts';

interface Engine {
  readonly name: 'wasm' | 'typescript';
  readonly encodeBlock: BlockEncoder;
  readonly decodeBlock: BlockDecoder;
}

/** The largest block of the frames we write; larger ones (up to 4 MiB in frames of others) go the slow way. */
const MAX_BLOCK = 262144;
const TABLE_SIZE = 32768;
const TABLE_AT = (ARENA_START + SCRATCH_SIZE + 15) & ~15;
const IN_AT = TABLE_AT + TABLE_SIZE;
const OUT_AT = IN_AT + MAX_BLOCK;

let engine: Engine | undefined;

/** Which block codec this process uses. Loading happens on the first call of any function here. */
export function lz4Engine(): Engine['name'] {
  return loadEngine().name;
}

/** Tests and configuration: the codec to use from now on; undefined for the fastest that loads. */
export function useLz4(name: Engine['name'] | undefined): void {
  engine = name === 'typescript' ? typescriptEngine : undefined;
}

/** An LZ4 frame of `raw`, in a header form that every Xet client reads; undefined if not shorter than `raw`. */
export function compressLz4(raw: Uint8Array): Uint8Array | undefined {
  return encodeFrame(raw, loadEngine().encodeBlock);
}

/** The `rawLength` bytes that the LZ4 frame `frame` holds; throws INVALID_LZ4. */
export function decompressLz4(frame: Uint8Array, rawLength: number): Uint8Array {
  return decodeFrame(frame, rawLength, loadEngine().decodeBlock);
}

const typescriptEngine: Engine = { name: 'typescript', encodeBlock, decodeBlock };

function loadEngine(): Engine {
  engine ??= wasmEngine() ?? typescriptEngine;
  return engine;
}

function wasmEngine(): Engine | undefined {
  const { bytes, memory } = createArena(OUT_AT + MAX_BLOCK);
  const kernels = instantiateKernels(memory, ARENA_START);
  if (kernels === undefined) return undefined;
  return {
    name: 'wasm',
    encodeBlock(raw, target, start, end) {
      if (raw.length > MAX_BLOCK) return encodeBlock(raw, target, start, end);
      bytes.set(raw, IN_AT);
      const capacity = Math.min(end - start, MAX_BLOCK);
      const length = kernels.compressBlock(IN_AT, raw.length, OUT_AT, capacity, TABLE_AT);
      if (length === 0) return undefined;
      target.set(bytes.subarray(OUT_AT, OUT_AT + length), start);
      return start + length;
    },
    decodeBlock(source, start, end, target, out, outEnd, window) {
      // Linked blocks refer to what came before them, which is not here.
      if (window === out && end - start <= MAX_BLOCK && outEnd - out <= MAX_BLOCK) {
        bytes.set(source.subarray(start, end), IN_AT);
        const length = kernels.decompressBlock(IN_AT, end - start, OUT_AT, outEnd - out, OUT_AT);
        if (length >= 0) {
          target.set(bytes.subarray(OUT_AT, OUT_AT + length), out);
          return out + length;
        }
      }
      return decodeBlock(source, start, end, target, out, outEnd, window);
    },
  };
}
