/** BLAKE3's compression function on one block. */
import { MESSAGE_SCHEDULE_AT } from '../memory-layout';

const IV0: u32 = 0x6a09e667;
const IV1: u32 = 0xbb67ae85;
const IV2: u32 = 0x3c6ef372;
const IV3: u32 = 0xa54ff53a;

/** The message word that step `i` of the round whose order stands at `schedule` takes. */
function word(block: usize, schedule: usize, i: usize): u32 {
  return load<u32>(block + (<usize>load<u8>(schedule + i) << 2));
}

/** Compresses the `length` bytes, zero-padded to 64, at `block` into the chaining value at `chain`. */
export function compressOne(chain: usize, block: usize, counter: u32, length: u32, flags: u32): void {
  let v0 = load<u32>(chain, 0), v1 = load<u32>(chain, 4), v2 = load<u32>(chain, 8), v3 = load<u32>(chain, 12);
  let v4 = load<u32>(chain, 16), v5 = load<u32>(chain, 20), v6 = load<u32>(chain, 24), v7 = load<u32>(chain, 28);
  let v8 = IV0, v9 = IV1, v10 = IV2, v11 = IV3;
  let v12 = counter, v13: u32 = 0, v14 = length, v15 = flags;
  for (let round = MESSAGE_SCHEDULE_AT; round < MESSAGE_SCHEDULE_AT + 7 * 16; round += 16) {
    // The four columns.
    v0 += v4 + word(block, round, 0); v12 = rotr(v12 ^ v0, 16); v8 += v12; v4 = rotr(v4 ^ v8, 12);
    v1 += v5 + word(block, round, 2); v13 = rotr(v13 ^ v1, 16); v9 += v13; v5 = rotr(v5 ^ v9, 12);
    v2 += v6 + word(block, round, 4); v14 = rotr(v14 ^ v2, 16); v10 += v14; v6 = rotr(v6 ^ v10, 12);
    v3 += v7 + word(block, round, 6); v15 = rotr(v15 ^ v3, 16); v11 += v15; v7 = rotr(v7 ^ v11, 12);
    v0 += v4 + word(block, round, 1); v12 = rotr(v12 ^ v0, 8); v8 += v12; v4 = rotr(v4 ^ v8, 7);
    v1 += v5 + word(block, round, 3); v13 = rotr(v13 ^ v1, 8); v9 += v13; v5 = rotr(v5 ^ v9, 7);
    v2 += v6 + word(block, round, 5); v14 = rotr(v14 ^ v2, 8); v10 += v14; v6 = rotr(v6 ^ v10, 7);
    v3 += v7 + word(block, round, 7); v15 = rotr(v15 ^ v3, 8); v11 += v15; v7 = rotr(v7 ^ v11, 7);
    // The four diagonals.
    v0 += v5 + word(block, round, 8); v15 = rotr(v15 ^ v0, 16); v10 += v15; v5 = rotr(v5 ^ v10, 12);
    v1 += v6 + word(block, round, 10); v12 = rotr(v12 ^ v1, 16); v11 += v12; v6 = rotr(v6 ^ v11, 12);
    v2 += v7 + word(block, round, 12); v13 = rotr(v13 ^ v2, 16); v8 += v13; v7 = rotr(v7 ^ v8, 12);
    v3 += v4 + word(block, round, 14); v14 = rotr(v14 ^ v3, 16); v9 += v14; v4 = rotr(v4 ^ v9, 12);
    v0 += v5 + word(block, round, 9); v15 = rotr(v15 ^ v0, 8); v10 += v15; v5 = rotr(v5 ^ v10, 7);
    v1 += v6 + word(block, round, 11); v12 = rotr(v12 ^ v1, 8); v11 += v12; v6 = rotr(v6 ^ v11, 7);
    v2 += v7 + word(block, round, 13); v13 = rotr(v13 ^ v2, 8); v8 += v13; v7 = rotr(v7 ^ v8, 7);
    v3 += v4 + word(block, round, 15); v14 = rotr(v14 ^ v3, 8); v9 += v14; v4 = rotr(v4 ^ v9, 7);
  }
  store<u32>(chain, v0 ^ v8, 0);
  store<u32>(chain, v1 ^ v9, 4);
  store<u32>(chain, v2 ^ v10, 8);
  store<u32>(chain, v3 ^ v11, 12);
  store<u32>(chain, v4 ^ v12, 16);
  store<u32>(chain, v5 ^ v13, 20);
  store<u32>(chain, v6 ^ v14, 24);
  store<u32>(chain, v7 ^ v15, 28);
}
