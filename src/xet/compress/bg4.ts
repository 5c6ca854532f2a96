/**
 * Byte grouping by 4 (Xet protocol, "Xorb", scheme bg4-lz4): all bytes at positions 0 mod 4, then 1, 2
 * and 3 mod 4, without padding. Group `g` has `ceil((N - g) / 4)` bytes.
 */

/** Writes the grouped form of `raw` to `grouped`, which has the same length, and returns it. */
export function groupBytes(raw: Uint8Array, grouped: Uint8Array = new Uint8Array(raw.length)): Uint8Array {
  let out = 0;
  for (let group = 0; group < 4; group++) {
    for (let i = group; i < raw.length; i += 4) grouped[out++] = raw[i] as number;
  }
  return grouped;
}

/** Writes the raw form of `grouped` to `raw`, which has the same length, and returns it. */
export function ungroupBytes(
  grouped: Uint8Array,
  raw: Uint8Array = new Uint8Array(grouped.length),
): Uint8Array {
  let from = 0;
  for (let group = 0; group < 4; group++) {
    for (let i = group; i < raw.length; i += 4) raw[i] = grouped[from++] as number;
  }
  return raw;
}
