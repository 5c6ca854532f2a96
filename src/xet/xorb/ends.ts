/** Lengths from ends: footers and journals tell where each chunk of a xorb ends, counted from the first. */

/** Raw bytes of chunks [start, end). */
export function rawBytesBetween(
  { rawEnds }: { readonly rawEnds: ArrayLike<number> },
  start: number,
  end: number,
): number {
  if (start === end) return 0;
  return (rawEnds[end - 1] as number) - (start === 0 ? 0 : (rawEnds[start - 1] as number));
}

/** Bytes of each. */
export function lengthsOf(ends: ArrayLike<number>): Uint32Array {
  return Uint32Array.from(ends, (end, i) => end - (i === 0 ? 0 : (ends[i - 1] as number)));
}
