/** The errors of registries and of git's remotes that a caller may want to tell apart by class. */
import { type ErrorOptions, Git2dbError } from '../xet/errors.ts';

/** No repository (worktree, branch, ...) of this name or id. `near` are those that were perhaps meant. */
export class NotFoundError extends Git2dbError {
  readonly near: readonly string[];

  constructor(message: string, near: readonly string[] = [], options: ErrorOptions = {}) {
    const hint =
      near.length === 0 ? '' : `; did you mean ${near.map((name) => JSON.stringify(name)).join(', ')}?`;
    super('NOT_FOUND', message + hint, { ...options, data: { ...options.data, near } });
    this.name = 'NotFoundError';
    this.near = near;
  }
}

/** A name or URL that is refused, and why. */
export class NameError extends Git2dbError {
  constructor(
    code: 'NAME_INVALID' | 'NAME_TAKEN' | 'URL_INVALID',
    message: string,
    options: ErrorOptions = {},
  ) {
    super(code, message, options);
    this.name = 'NameError';
  }
}

/** The lock of a registry was not free in time. `holder` says who has it, as far as that is known. */
export class LockTimeoutError extends Git2dbError {
  readonly holder: string;

  constructor(message: string, holder: string, options: ErrorOptions = {}) {
    super('LOCK_TIMEOUT', message, { ...options, data: { ...options.data, holder } });
    this.name = 'LockTimeoutError';
    this.holder = holder;
  }
}

/** The registry changed in between: nothing was done, and the caller may begin again. */
export class ConflictError extends Git2dbError {
  constructor(message: string, options: ErrorOptions = {}) {
    super('CONFLICT', message, options);
    this.name = 'ConflictError';
  }
}

/** A ref that cannot be, or leads nowhere. The name has a low dash because JavaScript has a ReferenceError. */
export class ReferenceError_ extends Git2dbError {
  constructor(message: string, options: ErrorOptions = {}) {
    super('REF_INVALID', message, options);
    this.name = 'ReferenceError_';
  }
}

/** A remote refused the credentials, or got none. */
export class AuthError extends Git2dbError {
  constructor(message: string, options: ErrorOptions = {}) {
    super('AUTH_FAILED', message, options);
    this.name = 'AuthError';
  }
}

/** A remote could not be reached. */
export class NetworkError extends Git2dbError {
  constructor(message: string, options: ErrorOptions = {}) {
    super('NETWORK', message, options);
    this.name = 'NetworkError';
  }
}

/** A wait that `signal` has ended. */
export function abortedError(what: string, reason: unknown): Error {
  const error = new Error(`${what} was stopped before it ended`, { cause: reason });
  error.name = 'AbortError';
  return error;
}

/** Throws an AbortError if `signal` has fired. */
export function checkAborted(signal: AbortSignal | undefined, what: string): void {
  if (signal?.aborted) throw abortedError(what, signal.reason);
}
