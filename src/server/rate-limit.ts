/** A bucket of tokens for each client: `rate` come in a second, `2 * rate` fit. Memory is bounded. */
const MAX_CLIENTS = 10_000;

interface Bucket {
  tokens: number;
  at: number;
}

export class RateLimit {
  readonly #rate: number;
  readonly #buckets = new Map<string, Bucket>();

  /** `rate`: requests a second. */
  constructor(rate: number) {
    this.#rate = rate;
  }

  /** Takes a token of `client`; 0, or the seconds until there is one. `now`: milliseconds. */
  take(client: string, now: number): number {
    const most = Math.max(1, 2 * this.#rate);
    const bucket = this.#buckets.get(client) ?? { tokens: most, at: now };
    this.#buckets.delete(client);
    this.#buckets.set(client, bucket);
    if (this.#buckets.size > MAX_CLIENTS) {
      const oldest = this.#buckets.keys().next();
      if (oldest.done !== true) this.#buckets.delete(oldest.value);
    }
    bucket.tokens = Math.min(most, bucket.tokens + (Math.max(0, now - bucket.at) / 1000) * this.#rate);
    bucket.at = now;
    if (bucket.tokens >= 1) {
      bucket.tokens -= 1;
      return 0;
    }
    return Math.max(1, Math.ceil((1 - bucket.tokens) / this.#rate));
  }
}
