/**
 * The kernels: AssemblyScript, compiled to WebAssembly with SIMD by scripts/build.mjs.
 *
 * They run in a memory shared by several threads, each with its own instance. So nothing here has
 * static data: constants stand where ../memory-layout says and are only read, what an instance keeps
 * is in globals, which WebAssembly gives each instance anew, or in its scratch area.
 */

export { groupBytes, ungroupBytes } from './bg4';
export { hashChunk, hashChunks, hashPiece, setScratch } from './blake3';
export { findBoundaries } from './gear';
export { compressBlock, decompressBlock } from './lz4';
