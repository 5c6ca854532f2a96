/** Locks between processes on parts of a worktree home: the registry's kind, each in a directory of its own. */
import { errnoOf, Git2dbError } from '../../xet/errors.ts';
import { RegistryLock } from '../registry-lock.ts';

export interface LockOptions {
  readonly timeoutMs?: number | undefined;
  readonly signal?: AbortSignal | undefined;
}

const TIMEOUT_MS = 60_000;

/** Runs `work` with the lock in `directory` held. Throws LOCK_TIMEOUT, or an AbortError, if it cannot be had. */
export async function withLock<T>(
  directory: string,
  options: LockOptions,
  work: () => Promise<T>,
): Promise<T> {
  const { timeoutMs = TIMEOUT_MS, signal } = options;
  using _lock = await RegistryLock.acquire(directory, { timeoutMs, signal });
  return await work();
}

/** The lock if it is free; undefined: somebody has it. */
export async function tryLock(directory: string): Promise<RegistryLock | undefined> {
  try {
    return await RegistryLock.acquire(directory, { timeoutMs: 0 });
  } catch (error) {
    if (error instanceof Git2dbError && error.code === 'LOCK_TIMEOUT') return undefined;
    if (errnoOf(error) === 'ENOENT') return undefined;
    throw error;
  }
}
