/**
 * Fragmentation control, as the reference client does it: while the recent ranges of a file are
 * short on average, a dedup match that is shorter still is refused, and the chunk stored again, so
 * that a file never dissolves into single chunks all over the store.
 */
const WINDOW = 128;
const LOW_TARGET = 4;
const HIGH_TARGET = 8;

/** No match needs to be measured further than this. */
export const LONGEST_MATCH = HIGH_TARGET;

export class Fragmentation {
  /** Chunk counts of the last ranges; a ring. */
  readonly #counts = new Uint32Array(WINDOW);
  #ranges = 0;
  #sum = 0;
  #high = false;

  /** A range begins with one chunk. */
  startRange(): void {
    const at = this.#ranges % WINDOW;
    this.#sum += 1 - (this.#counts[at] as number);
    this.#counts[at] = 1;
    this.#ranges++;
  }

  /** The current range got one more chunk. */
  extendRange(): void {
    if (this.#ranges === 0) return;
    this.#counts[(this.#ranges - 1) % WINDOW]! += 1;
    this.#sum++;
  }

  /** May a new range begin with a match of `length` chunks? */
  allows(length: number): boolean {
    if (this.#ranges < WINDOW) return true;
    const average = this.#sum / WINDOW;
    if (average >= (this.#high ? HIGH_TARGET : LOW_TARGET)) {
      this.#high = false;
      return true;
    }
    if (length >= average) return true;
    this.#high = true;
    return false;
  }
}
