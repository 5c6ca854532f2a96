/** Waiting that a signal ends. */
import { once, setMaxListeners } from 'node:events';
import { isNativeError } from 'node:util/types';

/** Throws an AbortError. */
export function throwIfAborted(signal: AbortSignal | undefined): void {
  if (signal?.aborted === true) throw abortErrorOf(signal);
}

/** What `promise` gives, unless `signal` comes first: then an AbortError. Whatever others wait for goes on. */
export async function untilAborted<T>(promise: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (signal === undefined) return promise;
  // Nobody may be left to hear of its failure.
  promise.catch(() => undefined);
  throwIfAborted(signal);
  // Any number of waits may be ended by one signal.
  setMaxListeners(0, signal);
  const ended = new AbortController();
  const stopped = once(signal, 'abort', { signal: ended.signal });
  stopped.catch(() => undefined);
  try {
    await Promise.race([promise, stopped]);
    throwIfAborted(signal);
    return await promise;
  } finally {
    ended.abort();
  }
}

function abortErrorOf(signal: AbortSignal): Error {
  const reason: unknown = signal.reason;
  // The system's own reason is a DOMException, whose `code` is a number.
  if (isNativeError(reason) && reason.name === 'AbortError') return reason;
  const error = new Error('the operation was aborted', { cause: reason });
  error.name = 'AbortError';
  return error;
}
