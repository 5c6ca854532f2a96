/**
 * Keyed BLAKE3 with 32 bytes of output in plain JavaScript (BLAKE3 specification, section 2): the
 * last resort where neither the native module nor WebAssembly is to be had.
 *
 * The input is cut into leaves of 1024 bytes, each a chain of up to 16 compressed blocks of 64 bytes.
 * Leaves are joined in pairs to a binary tree whose left subtrees are complete: a stack holds the
 * roots of the complete subtrees so far, one for each bit set in the number of leaves.
 */

const BLOCK_SIZE = 64;
const LEAF_SIZE = 1024;

const LEAF_START = 1;
const LEAF_END = 2;
const PARENT = 4;
const ROOT = 8;
const KEYED = 16;

const IV0 = 0x6a09e667;
const IV1 = 0xbb67ae85 | 0;
const IV2 = 0x3c6ef372;
const IV3 = 0xa54ff53a | 0;

/** Which message word each step of the seven rounds mixes in; a round permutes the words of the one before. */
export const MESSAGE_SCHEDULE: Uint8Array = messageSchedule();

function messageSchedule(): Uint8Array {
  const permutation = [2, 6, 3, 10, 7, 0, 4, 13, 1, 11, 12, 5, 9, 14, 15, 8];
  const schedule = Uint8Array.from({ length: 7 * 16 }, (_, i) => i);
  for (let i = 16; i < schedule.length; i++) {
    schedule[i] = schedule[i - 16 - (i % 16) + (permutation[i % 16] as number)] as number;
  }
  return schedule;
}

// One hash is computed at a time, from call to return, so the working state can be shared.
const key = new Int32Array(8);
const chain = new Int32Array(8);
const words = new Int32Array(16);
/** Roots of complete subtrees; 2^53 bytes make fewer than 44 of them. */
const stack = new Int32Array(8 * 44);

/** Compresses `words` into `chain`. */
function compress(counter: number, length: number, flags: number): void {
  let v0 = chain[0] as number;
  let v1 = chain[1] as number;
  let v2 = chain[2] as number;
  let v3 = chain[3] as number;
  let v4 = chain[4] as number;
  let v5 = chain[5] as number;
  let v6 = chain[6] as number;
  let v7 = chain[7] as number;
  let v8 = IV0;
  let v9 = IV1;
  let v10 = IV2;
  let v11 = IV3;
  let v12 = counter | 0;
  let v13 = (counter / 2 ** 32) | 0;
  let v14 = length;
  let v15 = flags;
  for (let step = 0; step < MESSAGE_SCHEDULE.length; step += 16) {
    // The four columns.
    v0 = (v0 + v4 + word(step)) | 0;
    v12 = rotate(v12 ^ v0, 16);
    v8 = (v8 + v12) | 0;
    v4 = rotate(v4 ^ v8, 12);
    v0 = (v0 + v4 + word(step + 1)) | 0;
    v12 = rotate(v12 ^ v0, 8);
    v8 = (v8 + v12) | 0;
    v4 = rotate(v4 ^ v8, 7);

    v1 = (v1 + v5 + word(step + 2)) | 0;
    v13 = rotate(v13 ^ v1, 16);
    v9 = (v9 + v13) | 0;
    v5 = rotate(v5 ^ v9, 12);
    v1 = (v1 + v5 + word(step + 3)) | 0;
    v13 = rotate(v13 ^ v1, 8);
    v9 = (v9 + v13) | 0;
    v5 = rotate(v5 ^ v9, 7);

    v2 = (v2 + v6 + word(step + 4)) | 0;
    v14 = rotate(v14 ^ v2, 16);
    v10 = (v10 + v14) | 0;
    v6 = rotate(v6 ^ v10, 12);
    v2 = (v2 + v6 + word(step + 5)) | 0;
    v14 = rotate(v14 ^ v2, 8);
    v10 = (v10 + v14) | 0;
    v6 = rotate(v6 ^ v10, 7);

    v3 = (v3 + v7 + word(step + 6)) | 0;
    v15 = rotate(v15 ^ v3, 16);
    v11 = (v11 + v15) | 0;
    v7 = rotate(v7 ^ v11, 12);
    v3 = (v3 + v7 + word(step + 7)) | 0;
    v15 = rotate(v15 ^ v3, 8);
    v11 = (v11 + v15) | 0;
    v7 = rotate(v7 ^ v11, 7);

    // The four diagonals.
    v0 = (v0 + v5 + word(step + 8)) | 0;
    v15 = rotate(v15 ^ v0, 16);
    v10 = (v10 + v15) | 0;
    v5 = rotate(v5 ^ v10, 12);
    v0 = (v0 + v5 + word(step + 9)) | 0;
    v15 = rotate(v15 ^ v0, 8);
    v10 = (v10 + v15) | 0;
    v5 = rotate(v5 ^ v10, 7);

    v1 = (v1 + v6 + word(step + 10)) | 0;
    v12 = rotate(v12 ^ v1, 16);
    v11 = (v11 + v12) | 0;
    v6 = rotate(v6 ^ v11, 12);
    v1 = (v1 + v6 + word(step + 11)) | 0;
    v12 = rotate(v12 ^ v1, 8);
    v11 = (v11 + v12) | 0;
    v6 = rotate(v6 ^ v11, 7);

    v2 = (v2 + v7 + word(step + 12)) | 0;
    v13 = rotate(v13 ^ v2, 16);
    v8 = (v8 + v13) | 0;
    v7 = rotate(v7 ^ v8, 12);
    v2 = (v2 + v7 + word(step + 13)) | 0;
    v13 = rotate(v13 ^ v2, 8);
    v8 = (v8 + v13) | 0;
    v7 = rotate(v7 ^ v8, 7);

    v3 = (v3 + v4 + word(step + 14)) | 0;
    v14 = rotate(v14 ^ v3, 16);
    v9 = (v9 + v14) | 0;
    v4 = rotate(v4 ^ v9, 12);
    v3 = (v3 + v4 + word(step + 15)) | 0;
    v14 = rotate(v14 ^ v3, 8);
    v9 = (v9 + v14) | 0;
    v4 = rotate(v4 ^ v9, 7);
  }
  chain[0] = v0 ^ v8;
  chain[1] = v1 ^ v9;
  chain[2] = v2 ^ v10;
  chain[3] = v3 ^ v11;
  chain[4] = v4 ^ v12;
  chain[5] = v5 ^ v13;
  chain[6] = v6 ^ v14;
  chain[7] = v7 ^ v15;
}

function word(step: number): number {
  return words[MESSAGE_SCHEDULE[step] as number] as number;
}

function rotate(value: number, bits: number): number {
  return (value >>> bits) | (value << (32 - bits));
}

/** Leaves the chaining value of leaf number `leaf`, bytes [start, end), in `chain`. */
function compressLeaf(view: DataView, start: number, end: number, leaf: number, finalFlags: number): void {
  chain.set(key);
  let flags = KEYED | LEAF_START;
  let at = start;
  do {
    const length = Math.min(BLOCK_SIZE, end - at);
    if (at + length === end) flags |= finalFlags;
    if (length === BLOCK_SIZE) {
      for (let i = 0; i < 16; i++) words[i] = view.getInt32(at + 4 * i, true);
    } else {
      words.fill(0);
      for (let i = 0; i < length; i++) words[i >> 2]! |= view.getUint8(at + i) << (8 * (i & 3));
    }
    compress(leaf, length, flags);
    flags = KEYED;
    at += length;
  } while (at < end);
}

/** Joins the subtree on top of the stack with `chain`, into `chain`. */
function compressParent(depth: number, rootFlag: number): void {
  words.set(stack.subarray(8 * (depth - 1), 8 * depth));
  words.set(chain, 8);
  chain.set(key);
  compress(0, BLOCK_SIZE, KEYED | PARENT | rootFlag);
}

/** 32 bytes. `keyBytes` must be 32 bytes long. */
export function blake3KeyedJs(keyBytes: Uint8Array, data: Uint8Array): Uint8Array {
  const keyView = new DataView(keyBytes.buffer, keyBytes.byteOffset, keyBytes.length);
  for (let i = 0; i < 8; i++) key[i] = keyView.getInt32(4 * i, true);
  const view = new DataView(data.buffer, data.byteOffset, data.length);

  let depth = 0;
  let leaf = 0;
  for (; (leaf + 1) * LEAF_SIZE < data.length; leaf++) {
    compressLeaf(view, leaf * LEAF_SIZE, (leaf + 1) * LEAF_SIZE, leaf, LEAF_END);
    for (let leaves = leaf + 1; leaves % 2 === 0; leaves /= 2) compressParent(depth--, 0);
    stack.set(chain, 8 * depth++);
  }
  compressLeaf(view, leaf * LEAF_SIZE, data.length, leaf, depth === 0 ? LEAF_END | ROOT : LEAF_END);
  while (depth > 0) {
    compressParent(depth, depth === 1 ? ROOT : 0);
    depth--;
  }

  const hash = new Uint8Array(32);
  const hashView = new DataView(hash.buffer);
  for (let i = 0; i < 8; i++) hashView.setInt32(4 * i, chain[i] as number, true);
  return hash;
}
