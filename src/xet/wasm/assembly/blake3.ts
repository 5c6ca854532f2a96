/**
 * Keyed BLAKE3 with 32 bytes of output (BLAKE3 specification, section 2): the tree above the
 * compression function.
 *
 * Leaves of 1024 bytes, and parents of two nodes, are compressed four at a time as long as there are
 * four; the rest one by one.
 */
import { BLOCK, DATA_KEY_AT, NODES, PIECE_SIZE, STACK } from '../memory-layout';
import { compressFour } from './compress-four';
import { compressOne } from './compress-one';

const BLOCK_SIZE: usize = 64;
const LEAF_SIZE: usize = 1024;
const HASH_SIZE: usize = 32;
const BLOCKS_IN_LEAF: u32 = 1024 / 64;
const LEAVES_IN_PIECE: u32 = PIECE_SIZE / 1024;

const LEAF_START: u32 = 1;
const LEAF_END: u32 = 2;
const PARENT: u32 = 4;
const ROOT: u32 = 8;
const KEYED: u32 = 16;

/** This instance's scratch area. */
let scratch: usize = 0;

export function setScratch(at: usize): void {
  scratch = at;
}

function copyHash(to: usize, from: usize): void {
  v128.store(to, v128.load(from));
  v128.store(to, v128.load(from, 16), 16);
}

/** The chaining value, at `out`, of one leaf of up to 1024 bytes. */
function compressLeaf(key: usize, data: usize, length: usize, leaf: u32, lastFlags: u32, out: usize): void {
  copyHash(out, key);
  let flags = KEYED | LEAF_START;
  while (length > BLOCK_SIZE) {
    compressOne(out, data, leaf, <u32>BLOCK_SIZE, flags);
    flags = KEYED;
    data += BLOCK_SIZE;
    length -= BLOCK_SIZE;
  }
  if (length < BLOCK_SIZE) {
    const block = scratch + BLOCK;
    memory.fill(block, 0, BLOCK_SIZE);
    memory.copy(block, data, length);
    data = block;
  }
  compressOne(out, data, leaf, <u32>length, flags | lastFlags);
}

/** The chaining value, at `out`, of the two at `children`; `out` may be the first of them. */
function compressParent(key: usize, children: usize, rootFlag: u32, out: usize): void {
  const block = scratch + BLOCK;
  memory.copy(block, children, BLOCK_SIZE);
  copyHash(out, key);
  compressOne(out, block, 0, <u32>BLOCK_SIZE, KEYED | PARENT | rootFlag);
}

/** The chaining value, at `out`, of up to PIECE_SIZE bytes, the first of which is that of leaf `leaf`. */
function compressSubtree(key: usize, data: usize, length: usize, leaf: u32, rootFlag: u32, out: usize): void {
  if (length <= LEAF_SIZE) return compressLeaf(key, data, length, leaf, LEAF_END | rootFlag, out);

  const nodes = scratch + NODES;
  let node = nodes;
  while (length >= 4 * LEAF_SIZE) {
    compressFour(key, data, LEAF_SIZE, BLOCKS_IN_LEAF, leaf, 1, KEYED, LEAF_START, LEAF_END, node);
    leaf += 4;
    data += 4 * LEAF_SIZE;
    length -= 4 * LEAF_SIZE;
    node += 4 * HASH_SIZE;
  }
  while (length > 0) {
    const leafLength = min(length, LEAF_SIZE);
    compressLeaf(key, data, leafLength, leaf, LEAF_END, node);
    leaf++;
    data += leafLength;
    length -= leafLength;
    node += HASH_SIZE;
  }

  // Level by level, in place: a parent is written where a child already read stood. A last node
  // without a sibling goes up as it is.
  let count = (node - nodes) / HASH_SIZE;
  while (count > 2) {
    const parents = count >> 1;
    let i: usize = 0;
    for (; i + 4 <= parents; i += 4) {
      compressFour(key, nodes + i * BLOCK_SIZE, BLOCK_SIZE, 1, 0, 0, KEYED | PARENT, 0, 0, nodes + i * HASH_SIZE);
    }
    for (; i < parents; i++) compressParent(key, nodes + i * BLOCK_SIZE, 0, nodes + i * HASH_SIZE);
    if (count & 1) copyHash(nodes + parents * HASH_SIZE, nodes + (count - 1) * HASH_SIZE);
    count = parents + (count & 1);
  }
  compressParent(key, nodes, rootFlag, out);
}

/**
 * Hashes one sequence piece by piece: number 0, 1, 2 .., each PIECE_SIZE bytes, the last one shorter
 * or not. Writes the hash at `out` when given the last piece; before that, keeps one chaining value
 * for each bit set in the number of pieces.
 */
export function hashPiece(key: usize, data: usize, length: usize, piece: u32, last: bool, out: usize): void {
  if (last && piece == 0) return compressSubtree(key, data, length, 0, ROOT, out);

  const bottom = scratch + STACK;
  let top = bottom + <usize>popcnt(piece) * HASH_SIZE;
  compressSubtree(key, data, length, piece * LEAVES_IN_PIECE, 0, top);
  if (last) {
    while (top > bottom) {
      top -= HASH_SIZE;
      compressParent(key, top, top == bottom ? ROOT : 0, top);
    }
    copyHash(out, bottom);
  } else {
    for (let rest = piece; rest & 1; rest >>= 1) {
      top -= HASH_SIZE;
      compressParent(key, top, 0, top);
    }
  }
}

/** The hash, at `out`, of bytes of any length. */
function hash(key: usize, data: usize, length: usize, out: usize): void {
  let piece: u32 = 0;
  while (length > <usize>PIECE_SIZE) {
    hashPiece(key, data, PIECE_SIZE, piece, false, out);
    piece++;
    data += PIECE_SIZE;
    length -= PIECE_SIZE;
  }
  hashPiece(key, data, length, piece, true, out);
}

/** See ChunkHashing in ../chunk-hashing.ts. */
export function hashChunk(start: usize, end: usize, out: usize): void {
  hash(DATA_KEY_AT, start, end - start, out);
}

/** See ChunkHashing in ../chunk-hashing.ts. */
export function hashChunks(start: usize, ends: usize, count: u32, out: usize): void {
  for (let i: u32 = 0; i < count; i++) {
    const end: usize = load<u32>(ends + (i << 2));
    hashChunk(start, end, out);
    out += HASH_SIZE;
    start = end;
  }
}
