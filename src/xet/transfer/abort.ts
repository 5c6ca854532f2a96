/** Throws an AbortError whose cause is the signal's reason. */
export function throwIfAborted(signal: AbortSignal | undefined): void {
  if (signal?.aborted !== true) return;
  const error = new Error('the transfer was stopped before it ended', { cause: signal.reason });
  error.name = 'AbortError';
  throw error;
}
