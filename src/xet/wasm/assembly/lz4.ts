/**
 * LZ4 blocks (LZ4 block format description; ../../compress/lz4-block.ts has the picture of a
 * sequence). Greedy, one candidate for each hashed 4-byte word, as fast encoders do it.
 */

const MIN_MATCH: usize = 4;
const LAST_LITERALS: usize = 5;
const MATCH_START_MARGIN: usize = 12;
const MAX_OFFSET: usize = 65535;
const HASH_BITS: u32 = 13;

function slotOf(word: u32): usize {
  return <usize>((word * 0x9e3779b1) >>> (32 - HASH_BITS)) << 2;
}

/** Bytes that a count takes after its nibble. */
function countSize(count: usize): usize {
  return count < 15 ? 0 : (count - 15) / 255 + 1;
}

function writeCount(out: usize, count: usize): usize {
  for (; count >= 255; count -= 255) store<u8>(out++, 255);
  store<u8>(out++, <u8>count);
  return out;
}

/** Copies 16 bytes at a time, so up to 15 too many: where there is no room for that, byte by byte. */
function copyLiterals(from: usize, out: usize, count: usize, limit: usize): void {
  if (out + count + 16 <= limit) {
    for (let i: usize = 0; i < count; i += 16) v128.store(out + i, v128.load(from + i));
  } else {
    memory.copy(out, from, count);
  }
}

/**
 * Encodes the `length` bytes at `from` as one block at `to`, which may take `capacity` bytes.
 * `table`: 32 KiB of scratch. Returns the block's length, 0 if it does not fit.
 */
export function compressBlock(from: usize, length: usize, to: usize, capacity: usize, table: usize): usize {
  memory.fill(table, 0, 4 << HASH_BITS);
  const end = from + length;
  const limit = to + capacity;
  let out = to;
  let anchor = from;
  if (length > MATCH_START_MARGIN) {
    const lastStart = end - MATCH_START_MARGIN;
    const matchEnd = end - LAST_LITERALS;
    // Table entries are positions plus one, relative to `from`; 0 is none.
    const base = from - 1;
    let at = from;
    let misses: u32 = 0;
    while (at <= lastStart) {
      const word = load<u32>(at);
      const slot = table + slotOf(word);
      const entry = <usize>load<u32>(slot);
      store<u32>(slot, <u32>(at - base));
      let candidate = base + entry;
      if (entry == 0 || at - candidate > MAX_OFFSET || load<u32>(candidate) != word) {
        // The longer nothing matches, the larger the steps: what does not compress is left quickly.
        at += 1 + <usize>(misses++ >> 6);
        continue;
      }
      misses = 0;
      let matched = at + MIN_MATCH;
      let follow = candidate + MIN_MATCH;
      while (matched + 8 <= matchEnd) {
        const difference = load<u64>(matched) ^ load<u64>(follow);
        if (difference != 0) {
          matched += <usize>(ctz(difference) >> 3);
          break;
        }
        matched += 8;
        follow += 8;
      }
      if (matched + 8 > matchEnd) {
        follow = candidate + (matched - at);
        while (matched < matchEnd && load<u8>(matched) == load<u8>(follow)) {
          matched++;
          follow++;
        }
      }
      while (at > anchor && candidate > from && load<u8>(at - 1) == load<u8>(candidate - 1)) {
        at--;
        candidate--;
      }
      const literals = at - anchor;
      const extra = matched - at - MIN_MATCH;
      if (out + 3 + countSize(literals) + literals + countSize(extra) > limit) return 0;
      store<u8>(out++, <u8>((min<usize>(literals, 15) << 4) | min<usize>(extra, 15)));
      if (literals >= 15) out = writeCount(out, literals - 15);
      copyLiterals(anchor, out, literals, limit);
      out += literals;
      store<u16>(out, <u16>(at - candidate));
      out += 2;
      if (extra >= 15) out = writeCount(out, extra - 15);
      anchor = at = matched;
      if (at <= lastStart) store<u32>(table + slotOf(load<u32>(at - 2)), <u32>(at - 2 - base));
    }
  }
  const literals = end - anchor;
  if (out + 1 + countSize(literals) + literals > limit) return 0;
  store<u8>(out++, <u8>(min<usize>(literals, 15) << 4));
  if (literals >= 15) out = writeCount(out, literals - 15);
  memory.copy(out, anchor, literals);
  return out + literals - to;
}

/**
 * Decodes the block of `length` bytes at `from` to `to`, never beyond `to + capacity`; matches reach
 * back to `window`. Returns the number of bytes decoded, or -1 if the block is invalid or too large;
 * the output then holds rubbish within its limits.
 */
export function decompressBlock(from: usize, length: usize, to: usize, capacity: usize, window: usize): i32 {
  const end = from + length;
  const limit = to + capacity;
  let at = from;
  let out = to;
  while (at < end) {
    const token = <usize>load<u8>(at++);
    let literals = token >> 4;
    if (literals == 15) {
      let more: usize = 255;
      while (more == 255) {
        if (at >= end) return -1;
        more = <usize>load<u8>(at++);
        literals += more;
      }
    }
    if (literals > end - at || literals > limit - out) return -1;
    if (end - at >= literals + 16) copyLiterals(at, out, literals, limit);
    else memory.copy(out, at, literals);
    at += literals;
    out += literals;
    if (at == end) return <i32>(out - to);

    if (end - at < 2) return -1;
    const offset = <usize>load<u16>(at);
    at += 2;
    if (offset == 0 || offset > out - window) return -1;
    let count = token & 15;
    if (count == 15) {
      let more: usize = 255;
      while (more == 255) {
        if (at >= end) return -1;
        more = <usize>load<u8>(at++);
        count += more;
      }
    }
    count += MIN_MATCH;
    if (count > limit - out) return -1;
    const source = out - offset;
    const stop = out + count;
    if (offset >= 16 && stop + 16 <= limit) {
      for (let i: usize = 0; i < count; i += 16) v128.store(out + i, v128.load(source + i));
    } else if (offset >= 8 && stop + 8 <= limit) {
      for (let i: usize = 0; i < count; i += 8) store<u64>(out + i, load<u64>(source + i));
    } else if (offset == 1) {
      memory.fill(out, load<u8>(source), count);
    } else {
      // Overlapping copies repeat the last `offset` bytes, so their order matters.
      for (let i: usize = 0; i < count; i++) store<u8>(out + i, load<u8>(source + i));
    }
    out = stop;
  }
  return -1;
}
