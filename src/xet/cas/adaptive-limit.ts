/**
 * How many requests are under way at once: one more after each round that went well, half after trouble, and
 * one less where more of them brought no more bytes.
 */
import type { Clock } from './retry.ts';

const START = 4;
const MOST = 64;
/** Trouble within this time counts once: it is one congestion. */
const TROUBLE_MS = 1000;
const ROUND_MS = 500;
/** More requests that bring less than this part more are too many. */
const WORTH = 1.05;

export class AdaptiveLimit {
  #limit = START;
  #running = 0;
  readonly #waiting: (() => void)[] = [];
  readonly #clock: Clock;
  #troubleAt = Number.NEGATIVE_INFINITY;
  #roundSince: number;
  #roundBytes = 0;
  #roundDone = 0;
  /** Bytes a millisecond in the round before, and whether the limit was raised after it. */
  #lastRate = 0;
  #wasRaised = false;

  constructor(clock: Clock) {
    this.#clock = clock;
    this.#roundSince = clock.now();
  }

  get limit(): number {
    return this.#limit;
  }

  /** Resolves when there is room for one more; give it back by `release`. */
  async acquire(): Promise<void> {
    while (this.#running >= this.#limit) await new Promise<void>((resolve) => this.#waiting.push(resolve));
    this.#running++;
  }

  release(): void {
    this.#running--;
    this.#wake();
  }

  /** A request of that many bytes went well. */
  succeeded(bytes: number): void {
    this.#roundBytes += bytes;
    this.#roundDone++;
    const now = this.#clock.now();
    const tookMs = now - this.#roundSince;
    if (this.#roundDone < this.#limit || tookMs < ROUND_MS) return;
    const rate = this.#roundBytes / tookMs;
    const isWorthless = this.#wasRaised && rate < this.#lastRate * WORTH;
    this.#wasRaised = !isWorthless && this.#limit < MOST;
    if (isWorthless) this.#limit = Math.max(1, this.#limit - 1);
    else if (this.#wasRaised) this.#limit++;
    this.#lastRate = rate;
    this.#roundSince = now;
    this.#roundBytes = 0;
    this.#roundDone = 0;
    this.#wake();
  }

  /** A request failed in a way that too many requests may cause. */
  troubled(): void {
    const now = this.#clock.now();
    if (now - this.#troubleAt < TROUBLE_MS) return;
    this.#troubleAt = now;
    this.#limit = Math.max(1, Math.floor(this.#limit / 2));
    this.#wasRaised = false;
    this.#lastRate = 0;
  }

  #wake(): void {
    for (let room = this.#limit - this.#running; room > 0 && this.#waiting.length > 0; room--) {
      this.#waiting.shift()?.();
    }
  }
}
