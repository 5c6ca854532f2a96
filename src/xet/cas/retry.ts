/** When and how long to wait before a request is made again. */
import { setTimeout as delay } from 'node:timers/promises';

/** Time and chance, for tests to replace. */
export interface Clock {
  /** Milliseconds since 1970. */
  now(): number;
  /** Rejects with an AbortError as soon as `signal` says so. */
  sleep(ms: number, signal?: AbortSignal): Promise<void>;
  /** In [0, 1). */
  random(): number;
}

export const SYSTEM_CLOCK: Clock = {
  now: () => Date.now(),
  sleep: (ms, signal) => delay(ms, undefined, signal === undefined ? {} : { signal }),
  random: () => Math.random(),
};

const BASE_MS = 500;
const CAP_MS = 30_000;
/** A server that wants to be left alone for longer is not waited for. */
export const MAX_RETRY_AFTER_MS = 300_000;

/** Exponential back-off with full jitter: anything up to twice as long as the time before. `attempt` counts from 0. */
export function backOff(attempt: number, clock: Clock): number {
  return Math.floor(clock.random() * Math.min(CAP_MS, BASE_MS * 2 ** attempt));
}

/** Milliseconds that a `Retry-After` header (seconds, or an HTTP date) asks for; undefined if it says nothing. */
export function parseRetryAfter(header: string | undefined, clock: Clock): number | undefined {
  if (header === undefined) return undefined;
  const text = header.trim();
  if (/^\d{1,9}$/.test(text)) return Number(text) * 1000;
  // Date.parse reads far more than dates of HTTP, which all begin with the name of a day.
  const time = /^[A-Z][a-z]{2}/.test(text) ? Date.parse(text) : Number.NaN;
  return Number.isNaN(time) ? undefined : Math.max(0, time - clock.now());
}

/** Worth another try: the answer may be another one the next time. */
export function isTransientStatus(status: number): boolean {
  return status === 408 || status === 429 || (status >= 500 && status !== 501 && status !== 507);
}
