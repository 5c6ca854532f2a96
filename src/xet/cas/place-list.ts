/** Places of the chunks of one xorb, found by chunk number without looking at all of them. */
import type { FetchRange } from './reconstruction.ts';

/** Places that begin before a chunk and are looked at: more than a few overlap only where somebody means harm. */
const MOST_LOOKED_AT = 64;

export class PlaceList<P extends FetchRange> {
  readonly #places: P[] = [];
  /** The largest end of the places up to each one, in the order of their starts. */
  #ends: number[] = [];
  #isSorted = true;

  add(place: P): void {
    this.#places.push(place);
    this.#isSorted = false;
  }

  /** Takes out those of a kind; true if none is left. */
  remove(isOf: (place: P) => boolean): boolean {
    const kept = this.#places.filter((place) => !isOf(place));
    this.#places.splice(0, this.#places.length, ...kept);
    this.#isSorted = false;
    return kept.length === 0;
  }

  /** The one with chunk `at` that reaches furthest, `end` being far enough; of equals, one that is `preferred`. */
  find(at: number, end: number, preferred: (place: P) => boolean): P | undefined {
    this.#sort();
    let best: P | undefined;
    let bestRank = -1;
    const last = this.#lastStartingBy(at);
    for (let i = last; i >= 0 && i > last - MOST_LOOKED_AT && (this.#ends[i] as number) > at; i--) {
      const place = this.#places[i] as P;
      if (place.end <= at) continue;
      const rank = 2 * Math.min(place.end, end) + (preferred(place) ? 1 : 0);
      if (rank > bestRank) [best, bestRank] = [place, rank];
    }
    return best;
  }

  *[Symbol.iterator](): Generator<P, void, undefined> {
    yield* this.#places;
  }

  #sort(): void {
    if (this.#isSorted) return;
    this.#places.sort((a, b) => a.start - b.start || a.end - b.end);
    let most = 0;
    this.#ends = this.#places.map(({ end }) => {
      most = Math.max(most, end);
      return most;
    });
    this.#isSorted = true;
  }

  #lastStartingBy(at: number): number {
    let first = 0;
    for (let end = this.#places.length; first < end; ) {
      const middle = (first + end) >>> 1;
      if ((this.#places[middle] as P).start <= at) first = middle + 1;
      else end = middle;
    }
    return first - 1;
  }
}
