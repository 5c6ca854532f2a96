import { isNativeError } from 'node:util/types';

/** Throws an AbortError once `signal` is aborted; whatever the reason given with it, that is in `cause`. */
export function throwIfAborted(signal: AbortSignal | undefined): void {
  if (signal?.aborted !== true) return;
  const reason: unknown = signal.reason;
  // The system's own reason is a DOMException, whose `code` is a number.
  if (isNativeError(reason) && reason.name === 'AbortError') throw reason;
  const error = new Error('the operation was aborted', { cause: reason });
  error.name = 'AbortError';
  throw error;
}
