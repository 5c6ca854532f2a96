/** Compiles the kernels, once a thread and on first use, and makes instances of them. */
import { GEAR_TABLE } from '../chunk/gear-table.ts';
import { MESSAGE_SCHEDULE } from '../hash/blake3-js.ts';
import type { ArenaMemory } from './arena.ts';
import { KERNELS_BASE64 } from './kernels-binary.ts';
import { GEAR_TABLE_AT, MESSAGE_SCHEDULE_AT } from './memory-layout.ts';
import { webAssembly } from './webassembly.ts';

/** What assembly/index.ts exports. Numbers are addresses and lengths in the instance's memory. */
export interface WasmKernels {
  setScratch(at: number): void;
  findBoundaries(start: number, from: number, end: number, ends: number, maxCount: number): number;
  hashChunk(start: number, end: number, out: number): void;
  hashChunks(start: number, ends: number, count: number, out: number): void;
  hashPiece(key: number, data: number, length: number, piece: number, last: boolean, out: number): void;
  groupBytes(from: number, length: number, to: number): void;
  ungroupBytes(from: number, length: number, to: number): void;
  compressBlock(from: number, length: number, to: number, capacity: number, table: number): number;
  decompressBlock(from: number, length: number, to: number, capacity: number, window: number): number;
}

/** Null where the engine refuses it: no WebAssembly, or none with SIMD. */
let compiled: object | null | undefined;

function compile(): object | null {
  if (webAssembly === undefined) return null;
  try {
    return new webAssembly.Module(Buffer.from(KERNELS_BASE64, 'base64'));
  } catch {
    return null;
  }
}

/**
 * An instance that works in `memory` and keeps its state in itself and in the scratch area at
 * `scratch` (see memory-layout.ts); undefined where the kernels cannot run.
 */
export function instantiateKernels(memory: ArenaMemory, scratch: number): WasmKernels | undefined {
  if (webAssembly === undefined || memory instanceof SharedArrayBuffer) return undefined;
  compiled ??= compile();
  if (compiled === null) return undefined;
  new BigUint64Array(memory.buffer, GEAR_TABLE_AT).set(GEAR_TABLE);
  new Uint8Array(memory.buffer, MESSAGE_SCHEDULE_AT).set(MESSAGE_SCHEDULE);
  const kernels = new webAssembly.Instance(compiled, { env: { memory } }).exports as WasmKernels;
  kernels.setScratch(scratch);
  return kernels;
}
