/**
 * BLAKE3's compression function on four inputs side by side: a v128 holds the same 32-bit word of all
 * four, so that every step is the scalar one on four lanes.
 *
 * The seven rounds differ only in the order in which they take the message words w0 .. w15 (each
 * permutes the order of the one before); they are written out because a loop that looks the order up
 * cost a tenth of the speed.
 */

const IV0: u32 = 0x6a09e667;
const IV1: u32 = 0xbb67ae85;
const IV2: u32 = 0x3c6ef372;
const IV3: u32 = 0xa54ff53a;

const BLOCK_SIZE: u32 = 64;

function add(a: v128, b: v128): v128 {
  return i32x4.add(a, b);
}

function sum(a: v128, b: v128, c: v128): v128 {
  return i32x4.add(i32x4.add(a, b), c);
}

/** a ^ b, each lane rotated by whole bytes: `by` tells where each byte comes from. */
function swap(a: v128, b: v128, by: v128): v128 {
  return i8x16.swizzle(v128.xor(a, b), by);
}

/** a ^ b, each lane rotated to the right by `bits`. */
function turn(a: v128, b: v128, bits: i32): v128 {
  const x = v128.xor(a, b);
  return v128.or(i32x4.shr_u(x, bits), i32x4.shl(x, 32 - bits));
}

// Two levels of these transpose a matrix of 4 x 4 words.
function low32(a: v128, b: v128): v128 {
  return i32x4.shuffle(a, b, 0, 4, 1, 5);
}

function high32(a: v128, b: v128): v128 {
  return i32x4.shuffle(a, b, 2, 6, 3, 7);
}

function low64(a: v128, b: v128): v128 {
  return i64x2.shuffle(a, b, 0, 2);
}

function high64(a: v128, b: v128): v128 {
  return i64x2.shuffle(a, b, 1, 3);
}

/**
 * Compresses four inputs of `blocks` blocks of 64 bytes, the first at `a`, the others each `stride`
 * after the one before, starting from `key`. Writes their chaining values one after another at `out`.
 * Their counters are `counter` and each `counterStep` more than the one before. `flags` go with every
 * block, `firstFlags` and `lastFlags` also with the first and the last.
 */
export function compressFour(
  key: usize, a: usize, stride: usize, blocks: u32, counter: u32, counterStep: u32,
  flags: u32, firstFlags: u32, lastFlags: u32, out: usize,
): void {
  let b = a + stride;
  let c = b + stride;
  let d = c + stride;
  // Kept in locals: a shuffle with literal lanes has its mask made anew every time.
  const by16 = i8x16(2, 3, 0, 1, 6, 7, 4, 5, 10, 11, 8, 9, 14, 15, 12, 13);
  const by8 = i8x16(1, 2, 3, 0, 5, 6, 7, 4, 9, 10, 11, 8, 13, 14, 15, 12);
  const counters = add(i32x4.splat(counter), i32x4.mul(i32x4.splat(counterStep), i32x4(0, 1, 2, 3)));
  let p: v128, q: v128, r: v128, s: v128, t: v128;

  let h0 = v128.load32_splat(key, 0), h1 = v128.load32_splat(key, 4);
  let h2 = v128.load32_splat(key, 8), h3 = v128.load32_splat(key, 12);
  let h4 = v128.load32_splat(key, 16), h5 = v128.load32_splat(key, 20);
  let h6 = v128.load32_splat(key, 24), h7 = v128.load32_splat(key, 28);

  let blockFlags = flags | firstFlags;
  for (let block: u32 = 1; block <= blocks; block++) {
    if (block == blocks) blockFlags |= lastFlags;

    p = v128.load(a); q = v128.load(b); r = v128.load(c); s = v128.load(d);
    t = low32(p, q); p = high32(p, q); q = low32(r, s); r = high32(r, s);
    const w0 = low64(t, q), w1 = high64(t, q), w2 = low64(p, r), w3 = high64(p, r);
    p = v128.load(a, 16); q = v128.load(b, 16); r = v128.load(c, 16); s = v128.load(d, 16);
    t = low32(p, q); p = high32(p, q); q = low32(r, s); r = high32(r, s);
    const w4 = low64(t, q), w5 = high64(t, q), w6 = low64(p, r), w7 = high64(p, r);
    p = v128.load(a, 32); q = v128.load(b, 32); r = v128.load(c, 32); s = v128.load(d, 32);
    t = low32(p, q); p = high32(p, q); q = low32(r, s); r = high32(r, s);
    const w8 = low64(t, q), w9 = high64(t, q), w10 = low64(p, r), w11 = high64(p, r);
    p = v128.load(a, 48); q = v128.load(b, 48); r = v128.load(c, 48); s = v128.load(d, 48);
    t = low32(p, q); p = high32(p, q); q = low32(r, s); r = high32(r, s);
    const w12 = low64(t, q), w13 = high64(t, q), w14 = low64(p, r), w15 = high64(p, r);

    let v0 = h0, v1 = h1, v2 = h2, v3 = h3, v4 = h4, v5 = h5, v6 = h6, v7 = h7;
    let v8 = i32x4.splat(IV0), v9 = i32x4.splat(IV1), v10 = i32x4.splat(IV2), v11 = i32x4.splat(IV3);
    let v12 = counters, v13 = i32x4.splat(0), v14 = i32x4.splat(BLOCK_SIZE), v15 = i32x4.splat(blockFlags);

    // Round 1: columns, then diagonals.
    v0 = sum(v0, v4, w0); v1 = sum(v1, v5, w2); v2 = sum(v2, v6, w4); v3 = sum(v3, v7, w6);
    v12 = swap(v12, v0, by16); v13 = swap(v13, v1, by16); v14 = swap(v14, v2, by16); v15 = swap(v15, v3, by16);
    v8 = add(v8, v12); v9 = add(v9, v13); v10 = add(v10, v14); v11 = add(v11, v15);
    v4 = turn(v4, v8, 12); v5 = turn(v5, v9, 12); v6 = turn(v6, v10, 12); v7 = turn(v7, v11, 12);
    v0 = sum(v0, v4, w1); v1 = sum(v1, v5, w3); v2 = sum(v2, v6, w5); v3 = sum(v3, v7, w7);
    v12 = swap(v12, v0, by8); v13 = swap(v13, v1, by8); v14 = swap(v14, v2, by8); v15 = swap(v15, v3, by8);
    v8 = add(v8, v12); v9 = add(v9, v13); v10 = add(v10, v14); v11 = add(v11, v15);
    v4 = turn(v4, v8, 7); v5 = turn(v5, v9, 7); v6 = turn(v6, v10, 7); v7 = turn(v7, v11, 7);
    v0 = sum(v0, v5, w8); v1 = sum(v1, v6, w10); v2 = sum(v2, v7, w12); v3 = sum(v3, v4, w14);
    v15 = swap(v15, v0, by16); v12 = swap(v12, v1, by16); v13 = swap(v13, v2, by16); v14 = swap(v14, v3, by16);
    v10 = add(v10, v15); v11 = add(v11, v12); v8 = add(v8, v13); v9 = add(v9, v14);
    v5 = turn(v5, v10, 12); v6 = turn(v6, v11, 12); v7 = turn(v7, v8, 12); v4 = turn(v4, v9, 12);
    v0 = sum(v0, v5, w9); v1 = sum(v1, v6, w11); v2 = sum(v2, v7, w13); v3 = sum(v3, v4, w15);
    v15 = swap(v15, v0, by8); v12 = swap(v12, v1, by8); v13 = swap(v13, v2, by8); v14 = swap(v14, v3, by8);
    v10 = add(v10, v15); v11 = add(v11, v12); v8 = add(v8, v13); v9 = add(v9, v14);
    v5 = turn(v5, v10, 7); v6 = turn(v6, v11, 7); v7 = turn(v7, v8, 7); v4 = turn(v4, v9, 7);

    // Round 2: columns, then diagonals.
    v0 = sum(v0, v4, w2); v1 = sum(v1, v5, w3); v2 = sum(v2, v6, w7); v3 = sum(v3, v7, w4);
    v12 = swap(v12, v0, by16); v13 = swap(v13, v1, by16); v14 = swap(v14, v2, by16); v15 = swap(v15, v3, by16);
    v8 = add(v8, v12); v9 = add(v9, v13); v10 = add(v10, v14); v11 = add(v11, v15);
    v4 = turn(v4, v8, 12); v5 = turn(v5, v9, 12); v6 = turn(v6, v10, 12); v7 = turn(v7, v11, 12);
    v0 = sum(v0, v4, w6); v1 = sum(v1, v5, w10); v2 = sum(v2, v6, w0); v3 = sum(v3, v7, w13);
    v12 = swap(v12, v0, by8); v13 = swap(v13, v1, by8); v14 = swap(v14, v2, by8); v15 = swap(v15, v3, by8);
    v8 = add(v8, v12); v9 = add(v9, v13); v10 = add(v10, v14); v11 = add(v11, v15);
    v4 = turn(v4, v8, 7); v5 = turn(v5, v9, 7); v6 = turn(v6, v10, 7); v7 = turn(v7, v11, 7);
    v0 = sum(v0, v5, w1); v1 = sum(v1, v6, w12); v2 = sum(v2, v7, w9); v3 = sum(v3, v4, w15);
    v15 = swap(v15, v0, by16); v12 = swap(v12, v1, by16); v13 = swap(v13, v2, by16); v14 = swap(v14, v3, by16);
    v10 = add(v10, v15); v11 = add(v11, v12); v8 = add(v8, v13); v9 = add(v9, v14);
    v5 = turn(v5, v10, 12); v6 = turn(v6, v11, 12); v7 = turn(v7, v8, 12); v4 = turn(v4, v9, 12);
    v0 = sum(v0, v5, w11); v1 = sum(v1, v6, w5); v2 = sum(v2, v7, w14); v3 = sum(v3, v4, w8);
    v15 = swap(v15, v0, by8); v12 = swap(v12, v1, by8); v13 = swap(v13, v2, by8); v14 = swap(v14, v3, by8);
    v10 = add(v10, v15); v11 = add(v11, v12); v8 = add(v8, v13); v9 = add(v9, v14);
    v5 = turn(v5, v10, 7); v6 = turn(v6, v11, 7); v7 = turn(v7, v8, 7); v4 = turn(v4, v9, 7);

    // Round 3: columns, then diagonals.
    v0 = sum(v0, v4, w3); v1 = sum(v1, v5, w10); v2 = sum(v2, v6, w13); v3 = sum(v3, v7, w7);
    v12 = swap(v12, v0, by16); v13 = swap(v13, v1, by16); v14 = swap(v14, v2, by16); v15 = swap(v15, v3, by16);
    v8 = add(v8, v12); v9 = add(v9, v13); v10 = add(v10, v14); v11 = add(v11, v15);
    v4 = turn(v4, v8, 12); v5 = turn(v5, v9, 12); v6 = turn(v6, v10, 12); v7 = turn(v7, v11, 12);
    v0 = sum(v0, v4, w4); v1 = sum(v1, v5, w12); v2 = sum(v2, v6, w2); v3 = sum(v3, v7, w14);
    v12 = swap(v12, v0, by8); v13 = swap(v13, v1, by8); v14 = swap(v14, v2, by8); v15 = swap(v15, v3, by8);
    v8 = add(v8, v12); v9 = add(v9, v13); v10 = add(v10, v14); v11 = add(v11, v15);
    v4 = turn(v4, v8, 7); v5 = turn(v5, v9, 7); v6 = turn(v6, v10, 7); v7 = turn(v7, v11, 7);
    v0 = sum(v0, v5, w6); v1 = sum(v1, v6, w9); v2 = sum(v2, v7, w11); v3 = sum(v3, v4, w8);
    v15 = swap(v15, v0, by16); v12 = swap(v12, v1, by16); v13 = swap(v13, v2, by16); v14 = swap(v14, v3, by16);
    v10 = add(v10, v15); v11 = add(v11, v12); v8 = add(v8, v13); v9 = add(v9, v14);
    v5 = turn(v5, v10, 12); v6 = turn(v6, v11, 12); v7 = turn(v7, v8, 12); v4 = turn(v4, v9, 12);
    v0 = sum(v0, v5, w5); v1 = sum(v1, v6, w0); v2 = sum(v2, v7, w15); v3 = sum(v3, v4, w1);
    v15 = swap(v15, v0, by8); v12 = swap(v12, v1, by8); v13 = swap(v13, v2, by8); v14 = swap(v14, v3, by8);
    v10 = add(v10, v15); v11 = add(v11, v12); v8 = add(v8, v13); v9 = add(v9, v14);
    v5 = turn(v5, v10, 7); v6 = turn(v6, v11, 7); v7 = turn(v7, v8, 7); v4 = turn(v4, v9, 7);

    // Round 4: columns, then diagonals.
    v0 = sum(v0, v4, w10); v1 = sum(v1, v5, w12); v2 = sum(v2, v6, w14); v3 = sum(v3, v7, w13);
    v12 = swap(v12, v0, by16); v13 = swap(v13, v1, by16); v14 = swap(v14, v2, by16); v15 = swap(v15, v3, by16);
    v8 = add(v8, v12); v9 = add(v9, v13); v10 = add(v10, v14); v11 = add(v11, v15);
    v4 = turn(v4, v8, 12); v5 = turn(v5, v9, 12); v6 = turn(v6, v10, 12); v7 = turn(v7, v11, 12);
    v0 = sum(v0, v4, w7); v1 = sum(v1, v5, w9); v2 = sum(v2, v6, w3); v3 = sum(v3, v7, w15);
    v12 = swap(v12, v0, by8); v13 = swap(v13, v1, by8); v14 = swap(v14, v2, by8); v15 = swap(v15, v3, by8);
    v8 = add(v8, v12); v9 = add(v9, v13); v10 = add(v10, v14); v11 = add(v11, v15);
    v4 = turn(v4, v8, 7); v5 = turn(v5, v9, 7); v6 = turn(v6, v10, 7); v7 = turn(v7, v11, 7);
    v0 = sum(v0, v5, w4); v1 = sum(v1, v6, w11); v2 = sum(v2, v7, w5); v3 = sum(v3, v4, w1);
    v15 = swap(v15, v0, by16); v12 = swap(v12, v1, by16); v13 = swap(v13, v2, by16); v14 = swap(v14, v3, by16);
    v10 = add(v10, v15); v11 = add(v11, v12); v8 = add(v8, v13); v9 = add(v9, v14);
    v5 = turn(v5, v10, 12); v6 = turn(v6, v11, 12); v7 = turn(v7, v8, 12); v4 = turn(v4, v9, 12);
    v0 = sum(v0, v5, w0); v1 = sum(v1, v6, w2); v2 = sum(v2, v7, w8); v3 = sum(v3, v4, w6);
    v15 = swap(v15, v0, by8); v12 = swap(v12, v1, by8); v13 = swap(v13, v2, by8); v14 = swap(v14, v3, by8);
    v10 = add(v10, v15); v11 = add(v11, v12); v8 = add(v8, v13); v9 = add(v9, v14);
    v5 = turn(v5, v10, 7); v6 = turn(v6, v11, 7); v7 = turn(v7, v8, 7); v4 = turn(v4, v9, 7);

    // Round 5: columns, then diagonals.
    v0 = sum(v0, v4, w12); v1 = sum(v1, v5, w9); v2 = sum(v2, v6, w15); v3 = sum(v3, v7, w14);
    v12 = swap(v12, v0, by16); v13 = swap(v13, v1, by16); v14 = swap(v14, v2, by16); v15 = swap(v15, v3, by16);
    v8 = add(v8, v12); v9 = add(v9, v13); v10 = add(v10, v14); v11 = add(v11, v15);
    v4 = turn(v4, v8, 12); v5 = turn(v5, v9, 12); v6 = turn(v6, v10, 12); v7 = turn(v7, v11, 12);
    v0 = sum(v0, v4, w13); v1 = sum(v1, v5, w11); v2 = sum(v2, v6, w10); v3 = sum(v3, v7, w8);
    v12 = swap(v12, v0, by8); v13 = swap(v13, v1, by8); v14 = swap(v14, v2, by8); v15 = swap(v15, v3, by8);
    v8 = add(v8, v12); v9 = add(v9, v13); v10 = add(v10, v14); v11 = add(v11, v15);
    v4 = turn(v4, v8, 7); v5 = turn(v5, v9, 7); v6 = turn(v6, v10, 7); v7 = turn(v7, v11, 7);
    v0 = sum(v0, v5, w7); v1 = sum(v1, v6, w5); v2 = sum(v2, v7, w0); v3 = sum(v3, v4, w6);
    v15 = swap(v15, v0, by16); v12 = swap(v12, v1, by16); v13 = swap(v13, v2, by16); v14 = swap(v14, v3, by16);
    v10 = add(v10, v15); v11 = add(v11, v12); v8 = add(v8, v13); v9 = add(v9, v14);
    v5 = turn(v5, v10, 12); v6 = turn(v6, v11, 12); v7 = turn(v7, v8, 12); v4 = turn(v4, v9, 12);
    v0 = sum(v0, v5, w2); v1 = sum(v1, v6, w3); v2 = sum(v2, v7, w1); v3 = sum(v3, v4, w4);
    v15 = swap(v15, v0, by8); v12 = swap(v12, v1, by8); v13 = swap(v13, v2, by8); v14 = swap(v14, v3, by8);
    v10 = add(v10, v15); v11 = add(v11, v12); v8 = add(v8, v13); v9 = add(v9, v14);
    v5 = turn(v5, v10, 7); v6 = turn(v6, v11, 7); v7 = turn(v7, v8, 7); v4 = turn(v4, v9, 7);

    // Round 6: columns, then diagonals.
    v0 = sum(v0, v4, w9); v1 = sum(v1, v5, w11); v2 = sum(v2, v6, w8); v3 = sum(v3, v7, w15);
    v12 = swap(v12, v0, by16); v13 = swap(v13, v1, by16); v14 = swap(v14, v2, by16); v15 = swap(v15, v3, by16);
    v8 = add(v8, v12); v9 = add(v9, v13); v10 = add(v10, v14); v11 = add(v11, v15);
    v4 = turn(v4, v8, 12); v5 = turn(v5, v9, 12); v6 = turn(v6, v10, 12); v7 = turn(v7, v11, 12);
    v0 = sum(v0, v4, w14); v1 = sum(v1, v5, w5); v2 = sum(v2, v6, w12); v3 = sum(v3, v7, w1);
    v12 = swap(v12, v0, by8); v13 = swap(v13, v1, by8); v14 = swap(v14, v2, by8); v15 = swap(v15, v3, by8);
    v8 = add(v8, v12); v9 = add(v9, v13); v10 = add(v10, v14); v11 = add(v11, v15);
    v4 = turn(v4, v8, 7); v5 = turn(v5, v9, 7); v6 = turn(v6, v10, 7); v7 = turn(v7, v11, 7);
    v0 = sum(v0, v5, w13); v1 = sum(v1, v6, w0); v2 = sum(v2, v7, w2); v3 = sum(v3, v4, w4);
    v15 = swap(v15, v0, by16); v12 = swap(v12, v1, by16); v13 = swap(v13, v2, by16); v14 = swap(v14, v3, by16);
    v10 = add(v10, v15); v11 = add(v11, v12); v8 = add(v8, v13); v9 = add(v9, v14);
    v5 = turn(v5, v10, 12); v6 = turn(v6, v11, 12); v7 = turn(v7, v8, 12); v4 = turn(v4, v9, 12);
    v0 = sum(v0, v5, w3); v1 = sum(v1, v6, w10); v2 = sum(v2, v7, w6); v3 = sum(v3, v4, w7);
    v15 = swap(v15, v0, by8); v12 = swap(v12, v1, by8); v13 = swap(v13, v2, by8); v14 = swap(v14, v3, by8);
    v10 = add(v10, v15); v11 = add(v11, v12); v8 = add(v8, v13); v9 = add(v9, v14);
    v5 = turn(v5, v10, 7); v6 = turn(v6, v11, 7); v7 = turn(v7, v8, 7); v4 = turn(v4, v9, 7);

    // Round 7: columns, then diagonals.
    v0 = sum(v0, v4, w11); v1 = sum(v1, v5, w5); v2 = sum(v2, v6, w1); v3 = sum(v3, v7, w8);
    v12 = swap(v12, v0, by16); v13 = swap(v13, v1, by16); v14 = swap(v14, v2, by16); v15 = swap(v15, v3, by16);
    v8 = add(v8, v12); v9 = add(v9, v13); v10 = add(v10, v14); v11 = add(v11, v15);
    v4 = turn(v4, v8, 12); v5 = turn(v5, v9, 12); v6 = turn(v6, v10, 12); v7 = turn(v7, v11, 12);
    v0 = sum(v0, v4, w15); v1 = sum(v1, v5, w0); v2 = sum(v2, v6, w9); v3 = sum(v3, v7, w6);
    v12 = swap(v12, v0, by8); v13 = swap(v13, v1, by8); v14 = swap(v14, v2, by8); v15 = swap(v15, v3, by8);
    v8 = add(v8, v12); v9 = add(v9, v13); v10 = add(v10, v14); v11 = add(v11, v15);
    v4 = turn(v4, v8, 7); v5 = turn(v5, v9, 7); v6 = turn(v6, v10, 7); v7 = turn(v7, v11, 7);
    v0 = sum(v0, v5, w14); v1 = sum(v1, v6, w2); v2 = sum(v2, v7, w3); v3 = sum(v3, v4, w7);
    v15 = swap(v15, v0, by16); v12 = swap(v12, v1, by16); v13 = swap(v13, v2, by16); v14 = swap(v14, v3, by16);
    v10 = add(v10, v15); v11 = add(v11, v12); v8 = add(v8, v13); v9 = add(v9, v14);
    v5 = turn(v5, v10, 12); v6 = turn(v6, v11, 12); v7 = turn(v7, v8, 12); v4 = turn(v4, v9, 12);
    v0 = sum(v0, v5, w10); v1 = sum(v1, v6, w12); v2 = sum(v2, v7, w4); v3 = sum(v3, v4, w13);
    v15 = swap(v15, v0, by8); v12 = swap(v12, v1, by8); v13 = swap(v13, v2, by8); v14 = swap(v14, v3, by8);
    v10 = add(v10, v15); v11 = add(v11, v12); v8 = add(v8, v13); v9 = add(v9, v14);
    v5 = turn(v5, v10, 7); v6 = turn(v6, v11, 7); v7 = turn(v7, v8, 7); v4 = turn(v4, v9, 7);

    h0 = v128.xor(v0, v8); h1 = v128.xor(v1, v9); h2 = v128.xor(v2, v10); h3 = v128.xor(v3, v11);
    h4 = v128.xor(v4, v12); h5 = v128.xor(v5, v13); h6 = v128.xor(v6, v14); h7 = v128.xor(v7, v15);
    a += BLOCK_SIZE;
    b += BLOCK_SIZE;
    c += BLOCK_SIZE;
    d += BLOCK_SIZE;
    blockFlags = flags;
  }

  p = low32(h0, h1); q = high32(h0, h1); r = low32(h2, h3); s = high32(h2, h3);
  v128.store(out, low64(p, r));
  v128.store(out, high64(p, r), 32);
  v128.store(out, low64(q, s), 64);
  v128.store(out, high64(q, s), 96);
  p = low32(h4, h5); q = high32(h4, h5); r = low32(h6, h7); s = high32(h6, h7);
  v128.store(out, low64(p, r), 16);
  v128.store(out, high64(p, r), 48);
  v128.store(out, low64(q, s), 80);
  v128.store(out, high64(q, s), 112);
}
