/**
 * Byte grouping (Xet protocol specification, "Xorb format", ByteGrouping4LZ4): bytes 0, 4, 8 .. of the
 * data, then 1, 5, 9 .., then 2, 6, 10 .., then 3, 7, 11 .. Makes arrays of 4-byte numbers compress
 * better, as their bytes of equal weight come together.
 *
 * Sixteen bytes of each group are made from, or dealt back to, 64 bytes of data at a time. The two
 * ranges must not overlap.
 */

function group(at: usize, length: usize, number: usize): usize {
  const short = length >> 2;
  return at + number * short + min(number, length & 3);
}

export function groupBytes(from: usize, length: usize, to: usize): void {
  let g0 = to;
  let g1 = group(to, length, 1);
  let g2 = group(to, length, 2);
  let g3 = group(to, length, 3);
  const end = from + length;
  while (from + 64 <= end) {
    const a = transpose4x4(v128.load(from));
    const b = transpose4x4(v128.load(from, 16));
    const c = transpose4x4(v128.load(from, 32));
    const d = transpose4x4(v128.load(from, 48));
    const ab01 = i32x4.shuffle(a, b, 0, 4, 1, 5);
    const ab23 = i32x4.shuffle(a, b, 2, 6, 3, 7);
    const cd01 = i32x4.shuffle(c, d, 0, 4, 1, 5);
    const cd23 = i32x4.shuffle(c, d, 2, 6, 3, 7);
    v128.store(g0, i64x2.shuffle(ab01, cd01, 0, 2));
    v128.store(g1, i64x2.shuffle(ab01, cd01, 1, 3));
    v128.store(g2, i64x2.shuffle(ab23, cd23, 0, 2));
    v128.store(g3, i64x2.shuffle(ab23, cd23, 1, 3));
    from += 64;
    g0 += 16;
    g1 += 16;
    g2 += 16;
    g3 += 16;
  }
  for (let i: usize = 0; from + i < end; i++) {
    const byte = load<u8>(from + i);
    const turn = i & 3;
    if (turn == 0) store<u8>(g0++, byte);
    else if (turn == 1) store<u8>(g1++, byte);
    else if (turn == 2) store<u8>(g2++, byte);
    else store<u8>(g3++, byte);
  }
}

export function ungroupBytes(from: usize, length: usize, to: usize): void {
  let g0 = from;
  let g1 = group(from, length, 1);
  let g2 = group(from, length, 2);
  let g3 = group(from, length, 3);
  const end = to + length;
  while (to + 64 <= end) {
    const a = v128.load(g0);
    const b = v128.load(g1);
    const c = v128.load(g2);
    const d = v128.load(g3);
    const ab01 = i32x4.shuffle(a, b, 0, 4, 1, 5);
    const ab23 = i32x4.shuffle(a, b, 2, 6, 3, 7);
    const cd01 = i32x4.shuffle(c, d, 0, 4, 1, 5);
    const cd23 = i32x4.shuffle(c, d, 2, 6, 3, 7);
    v128.store(to, transpose4x4(i64x2.shuffle(ab01, cd01, 0, 2)));
    v128.store(to, transpose4x4(i64x2.shuffle(ab01, cd01, 1, 3)), 16);
    v128.store(to, transpose4x4(i64x2.shuffle(ab23, cd23, 0, 2)), 32);
    v128.store(to, transpose4x4(i64x2.shuffle(ab23, cd23, 1, 3)), 48);
    to += 64;
    g0 += 16;
    g1 += 16;
    g2 += 16;
    g3 += 16;
  }
  for (let i: usize = 0; to + i < end; i++) {
    const turn = i & 3;
    if (turn == 0) store<u8>(to + i, load<u8>(g0++));
    else if (turn == 1) store<u8>(to + i, load<u8>(g1++));
    else if (turn == 2) store<u8>(to + i, load<u8>(g2++));
    else store<u8>(to + i, load<u8>(g3++));
  }
}

/** Its own inverse: byte 4 * i + j goes to 4 * j + i. */
function transpose4x4(bytes: v128): v128 {
  return i8x16.shuffle(bytes, bytes, 0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
}
