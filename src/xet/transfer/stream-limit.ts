/**
 * How many xorbs are under way at once: three to begin with, one more as long as that moves more bytes a second, half
 * as many after a failure of the network.
 */
const START = 3;
const MOST = 8;
/** One more must bring a tenth more to be kept. */
const GAIN = 1.1;
/** Measurements before one more is tried again where it brought nothing. */
const PATIENCE = 16;

export class StreamLimit {
  #limit = START;
  #running = 0;
  #best = 0;
  #patience = 0;
  /** Of the measurement at hand: those that ended, their bytes, and when it began. */
  #ended = 0;
  #bytes = 0;
  #since: number;
  readonly #now: () => number;
  readonly #waiting: (() => void)[] = [];

  /** `now` in milliseconds. */
  constructor(now: () => number = () => performance.now()) {
    this.#now = now;
    this.#since = now();
  }

  get limit(): number {
    return this.#limit;
  }

  /** Waits until another one may run. */
  async acquire(): Promise<void> {
    while (this.#running >= this.#limit) {
      await new Promise<void>((resolve) => {
        this.#waiting.push(resolve);
      });
    }
    this.#running++;
  }

  /** One has ended, having moved so many bytes; `failed`: by the network. */
  release(bytes: number, failed = false): void {
    this.#running--;
    if (failed) {
      this.#limit = Math.max(1, this.#limit >> 1);
      this.#best = 0;
      this.#measure();
    } else {
      this.#ended++;
      this.#bytes += bytes;
      if (this.#ended >= 2 * this.#limit) this.#adapt();
    }
    for (const resume of this.#waiting.splice(0)) resume();
  }

  #adapt(): void {
    const rate = this.#bytes / Math.max(1, this.#now() - this.#since);
    if (this.#patience > 0) {
      this.#patience--;
    } else if (rate > this.#best * GAIN) {
      this.#best = rate;
      this.#limit = Math.min(MOST, this.#limit + 1);
    } else {
      this.#limit = Math.max(START, this.#limit - 1);
      this.#patience = PATIENCE;
    }
    this.#measure();
  }

  #measure(): void {
    this.#ended = 0;
    this.#bytes = 0;
    this.#since = this.#now();
  }
}
