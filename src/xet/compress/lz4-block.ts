/**
 * LZ4 blocks in plain TypeScript (LZ4 block format description). A block is a run of sequences:
 *
 *     size     field
 *     1        token: high 4 bits literal count, low 4 bits match length minus 4
 *     0..      more literal count: bytes added up, ends at the first that is not 255 (only if the nibble is 15)
 *     n        literals
 *     2        match offset, little-endian, 1..65535, backwards from the output position
 *     0..      more match length, as above (only if the nibble is 15)
 *
 * The last sequence stops after its literals. Encoders end every block with at least 5 literals and
 * start no match in its last 12 bytes; the decoder does not insist on that.
 */
import { FormatError } from '../errors.ts';

const MIN_MATCH = 4;
const LAST_LITERALS = 5;
const MATCH_START_MARGIN = 12;
const MAX_OFFSET = 65535;

const HASH_BITS = 14;
/** Last position seen of each hashed 4-byte word, plus one; 0 = none. Shared by all calls: none of them yields. */
const positions = new Int32Array(1 << HASH_BITS);

/** Longer runs are copied by the engine, shorter ones here, 4 bytes at a time. */
const COPY_BY_CALL = 64;

/**
 * Encodes `raw` into `target` from `start`; the block may take the bytes up to `end`.
 * Returns where the block ended, or undefined if it does not fit.
 */
export function encodeBlock(
  raw: Uint8Array,
  target: Uint8Array,
  start: number,
  end: number,
): number | undefined {
  const view = new DataView(raw.buffer, raw.byteOffset, raw.byteLength);
  const matchStartEnd = raw.length - MATCH_START_MARGIN;
  const matchEnd = raw.length - LAST_LITERALS;
  let out = start;
  let anchor = 0; // first byte not yet written
  let at = 0;
  let misses = 0;
  positions.fill(0);

  while (at <= matchStartEnd) {
    const word = view.getInt32(at, true);
    const slot = Math.imul(word, 0x9e3779b1) >>> (32 - HASH_BITS);
    let from = (positions[slot] as number) - 1;
    positions[slot] = at + 1;
    if (from < 0 || at - from > MAX_OFFSET || view.getInt32(from, true) !== word) {
      // The longer nothing matches, the larger the steps: data that does not compress is left quickly.
      at += 1 + (misses++ >> 6);
      continue;
    }
    misses = 0;
    let matched = at + MIN_MATCH;
    let follow = from + MIN_MATCH;
    while (matched < matchEnd && raw[matched] === raw[follow]) {
      matched++;
      follow++;
    }
    while (at > anchor && from > 0 && raw[at - 1] === raw[from - 1]) {
      at--;
      from--;
    }
    const literals = at - anchor;
    const extra = matched - at - MIN_MATCH;
    if (out + 3 + literals + Math.floor(literals / 255) + 1 + Math.floor(extra / 255) + 1 > end)
      return undefined;
    const token = out++;
    target[token] = (Math.min(literals, 15) << 4) | Math.min(extra, 15);
    if (literals >= 15) out = encodeCount(target, out, literals - 15);
    out = copyLiterals(raw, anchor, target, out, literals);
    const offset = at - from;
    target[out++] = offset & 255;
    target[out++] = offset >>> 8;
    if (extra >= 15) out = encodeCount(target, out, extra - 15);
    anchor = at = matched;
    if (at <= matchStartEnd) {
      positions[Math.imul(view.getInt32(at - 2, true), 0x9e3779b1) >>> (32 - HASH_BITS)] = at - 1;
    }
  }

  const literals = raw.length - anchor;
  if (out + 1 + literals + Math.floor(literals / 255) + 1 > end) return undefined;
  target[out++] = Math.min(literals, 15) << 4;
  if (literals >= 15) out = encodeCount(target, out, literals - 15);
  return copyLiterals(raw, anchor, target, out, literals);
}

function encodeCount(target: Uint8Array, out: number, count: number): number {
  for (; count >= 255; count -= 255) target[out++] = 255;
  target[out++] = count;
  return out;
}

function copyLiterals(raw: Uint8Array, from: number, target: Uint8Array, out: number, count: number): number {
  if (count > COPY_BY_CALL) {
    target.set(raw.subarray(from, from + count), out);
    return out + count;
  }
  for (let i = 0; i < count; i++) target[out + i] = raw[from + i] as number;
  return out + count;
}

/**
 * Decodes the block `source[start, end)` into `target` from `out`, never beyond `outEnd`. Matches may
 * reach back to `window` in `target` (0 for linked blocks, `out` for independent ones).
 * Returns where the output ended. Throws INVALID_LZ4; `target` then holds rubbish within its limits.
 */
export function decodeBlock(
  source: Uint8Array,
  start: number,
  end: number,
  target: Uint8Array,
  out: number,
  outEnd: number,
  window: number,
): number {
  const sourceView = new DataView(source.buffer, source.byteOffset, source.byteLength);
  const targetView = new DataView(target.buffer, target.byteOffset, target.byteLength);
  let at = start;
  while (at < end) {
    const token = source[at++] as number;

    let literals = token >>> 4;
    if (literals === 15) {
      let more = 255;
      while (more === 255) {
        if (at >= end) throw truncated(at);
        more = source[at++] as number;
        literals += more;
      }
    }
    if (literals > end - at) throw truncated(end);
    if (literals > outEnd - out) throw overrun(at, outEnd);
    if (literals > COPY_BY_CALL) {
      target.set(source.subarray(at, at + literals), out);
    } else if (end - at >= COPY_BY_CALL && outEnd - out >= COPY_BY_CALL) {
      // May write up to 3 bytes too many, which the next sequence overwrites.
      for (let i = 0; i < literals; i += 4)
        targetView.setInt32(out + i, sourceView.getInt32(at + i, true), true);
    } else {
      for (let i = 0; i < literals; i++) target[out + i] = source[at + i] as number;
    }
    at += literals;
    out += literals;
    if (at === end) return out; // the match half of the last token means nothing

    if (end - at < 2) throw truncated(end);
    const offset = (source[at] as number) | ((source[at + 1] as number) << 8);
    if (offset === 0 || offset > out - window) {
      throw new FormatError(
        'INVALID_LZ4',
        `LZ4 match offset ${offset} is outside the ${out - window} bytes decoded so far`,
        at,
      );
    }
    at += 2;
    let length = token & 15;
    if (length === 15) {
      let more = 255;
      while (more === 255) {
        if (at >= end) throw truncated(at);
        more = source[at++] as number;
        length += more;
      }
    }
    length += MIN_MATCH;
    if (length > outEnd - out) throw overrun(at, outEnd);
    const from = out - offset;
    if (length > COPY_BY_CALL && offset >= length) {
      target.copyWithin(out, from, from + length);
    } else if (length > COPY_BY_CALL && offset === 1) {
      target.fill(target[from] as number, out, out + length);
    } else if (offset >= 4 && outEnd - out >= length + 3) {
      for (let i = 0; i < length; i += 4)
        targetView.setInt32(out + i, targetView.getInt32(from + i, true), true);
    } else {
      // Overlapping copies repeat the last `offset` bytes, so their order matters.
      for (let i = 0; i < length; i++) target[out + i] = target[from + i] as number;
    }
    out += length;
  }
  throw truncated(end);
}

function truncated(offset: number): FormatError {
  return new FormatError('INVALID_LZ4', 'an LZ4 block ends inside a sequence', offset);
}

function overrun(offset: number, outEnd: number): FormatError {
  return new FormatError(
    'INVALID_LZ4',
    `an LZ4 block decodes to more than the ${outEnd} bytes announced`,
    offset,
  );
}
