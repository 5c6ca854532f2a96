/** The chunks that a writer has put: found by their hashes, and forgotten again with a file that is not committed. */
import type { LocalXorb, NewChunk } from './journal.ts';

export class SessionChunks {
  /** Key of the hash -> local xorb number * 8192 + chunk number. */
  readonly #places = new Map<string, number>();
  #ofFile: NewChunk[] = [];
  /** What `#places` said before each of them was added. */
  #shadowed: (number | undefined)[] = [];

  /** Those of the file at hand, in order. */
  get ofFile(): readonly NewChunk[] {
    return this.#ofFile;
  }

  /** The chunk whose hash stands at `offset`; `xorbs` are the writer's. */
  find(xorbs: readonly LocalXorb[], hashes: Uint8Array, offset: number): NewChunk | undefined {
    const place = this.#places.get(keyOf(hashes, offset));
    if (place === undefined) return undefined;
    const xorb = xorbs[place >>> 13] as LocalXorb;
    const index = place & 8191;
    // The key is half of the hash: compare the rest.
    return xorb.hashes.slice(32 * index, 32 * index + 32).compare(hashes, offset, offset + 32) === 0
      ? { xorb, index }
      : undefined;
  }

  add(chunk: NewChunk, hashes: Uint8Array, offset: number): void {
    const key = keyOf(hashes, offset);
    this.#ofFile.push(chunk);
    this.#shadowed.push(this.#places.get(key));
    this.#places.set(key, chunk.xorb.number * 8192 + chunk.index);
  }

  /** The file is committed, or another one begins: they stay. */
  keep(): void {
    this.#ofFile = [];
    this.#shadowed = [];
  }

  /** Forgets those of the file at hand, which must still be in their xorbs. */
  forget(): void {
    for (let i = this.#ofFile.length - 1; i >= 0; i--) {
      const { xorb, index } = this.#ofFile[i] as NewChunk;
      const key = keyOf(xorb.hashes.slice(), 32 * index);
      const before = this.#shadowed[i];
      if (before === undefined) this.#places.delete(key);
      else this.#places.set(key, before);
    }
    this.keep();
  }
}

function keyOf(hashes: Uint8Array, offset: number): string {
  return Buffer.prototype.latin1Slice.call(hashes, offset, offset + 16);
}
