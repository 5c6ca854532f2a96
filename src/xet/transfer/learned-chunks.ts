/**
 * Chunks of xorbs whose lists the other store does not show: known once they have been read. A file that names
 * a chunk of such a xorb again need not have it fetched again.
 */
import { formatHash } from '../hash/xet-hash.ts';
import { MAX_XORB_CHUNKS } from '../xorb/format.ts';

interface Learned {
  /** One bit for each chunk that was asked for. */
  readonly coming: Uint8Array;
  /** 32 bytes for each chunk; zeros until it was read. */
  hashes: Uint8Array;
}

export class LearnedChunks {
  readonly #xorbs = new Map<string, Learned>();

  /** True if the chunk was asked for before. */
  isComing(xorbHash: Uint8Array, chunk: number): boolean {
    const bits = this.#xorbs.get(formatHash(xorbHash))?.coming;
    return bits !== undefined && ((bits[chunk >> 3] as number) & (1 << (chunk & 7))) !== 0;
  }

  /** Chunks [start, end) are asked for. */
  expect(xorbHash: Uint8Array, start: number, end: number): void {
    const name = formatHash(xorbHash);
    let known = this.#xorbs.get(name);
    if (known === undefined) {
      known = { coming: new Uint8Array(MAX_XORB_CHUNKS / 8), hashes: new Uint8Array(0) };
      this.#xorbs.set(name, known);
    }
    for (let i = start; i < end; i++)
      known.coming[i >> 3] = (known.coming[i >> 3] as number) | (1 << (i & 7));
  }

  /** The chunk was read, and has the hash that stands at `offset`. */
  learn(xorbHash: Uint8Array, chunk: number, hash: Uint8Array, offset: number): void {
    const known = this.#xorbs.get(formatHash(xorbHash));
    if (known === undefined) return;
    if (known.hashes.length < 32 * (chunk + 1)) {
      const larger = new Uint8Array(Math.min(32 * MAX_XORB_CHUNKS, Math.max(64 * (chunk + 1), 2048)));
      larger.set(known.hashes);
      known.hashes = larger;
    }
    known.hashes.set(hash.subarray(offset, offset + 32), 32 * chunk);
  }

  /** Its hash, 32 bytes; undefined while nobody has read it. */
  find(xorbHash: Uint8Array, chunk: number): Uint8Array | undefined {
    const hashes = this.#xorbs.get(formatHash(xorbHash))?.hashes;
    if (hashes === undefined || hashes.length < 32 * (chunk + 1)) return undefined;
    const hash = hashes.subarray(32 * chunk, 32 * chunk + 32);
    return hash.every((byte) => byte === 0) ? undefined : hash;
  }
}
