/**
 * Content-defined chunk boundaries of a sequence of bytes (Xet protocol specification,
 * "Content-defined chunking"). They depend on the bytes alone, never on how these were sliced.
 */
import { GearScan } from './gear-scan.ts';
import { MAX_CHUNK, MIN_CHUNK } from './limits.ts';

export { MAX_CHUNK, MIN_CHUNK, TARGET_CHUNK } from './limits.ts';

/**
 * Finds boundaries and keeps no data: about 0.3 GB/s, for callers who have neither an arena nor
 * kernels (see wasm/kernels.ts for those).
 */
export class Chunker {
  readonly #scan = new GearScan();
  #openLength = 0;

  /** Takes the next bytes; the lengths of the chunks that end in them, in order. */
  push(bytes: Uint8Array): number[] {
    const lengths: number[] = [];
    let start = -this.#openLength;
    let from = 0;
    for (;;) {
      const end = this.#scan.findEnd(bytes, start, from, bytes.length);
      if (end < 0) break;
      lengths.push(end - start);
      start = end;
      from = end;
    }
    this.#openLength = bytes.length - start;
    return lengths;
  }

  /** The length of the last chunk, undefined if no byte is left over. Afterwards a new sequence begins. */
  finish(): number | undefined {
    const length = this.#openLength;
    this.#openLength = 0;
    return length === 0 ? undefined : length;
  }
}

/**
 * A position from which the chunks of a changed sequence are those of the old one, found without
 * reading any data. `ends` are the chunk ends of the old sequence in rising order; the new one may
 * differ from it before position `p` only (in length too: then every position moves by the
 * difference). Undefined when no boundary is certain.
 *
 * It is the end of two consecutive old chunks of at least 2 * MIN_CHUNK and less than
 * MAX_CHUNK - MIN_CHUNK bytes. A new chunk that runs into the first ends with it, or at worst is cut
 * by force inside it and then passes its end for being too near; in that case the second is long
 * enough for its end not to be too near and short enough not to be cut before it.
 */
export function stableBoundary(ends: ArrayLike<number>, p: number): number | undefined {
  let i = 0;
  while (i < ends.length && (ends[i] as number) < p) i++;
  for (; i + 2 < ends.length; i++) {
    const [before, between, after] = [ends[i] as number, ends[i + 1] as number, ends[i + 2] as number];
    if (isOrdinaryLength(between - before) && isOrdinaryLength(after - between)) return after;
  }
  return undefined;
}

function isOrdinaryLength(length: number): boolean {
  return length >= 2 * MIN_CHUNK && length < MAX_CHUNK - MIN_CHUNK;
}
