/**
 * Brings the stat data of the index up to date after we wrote files in the work tree, so that git
 * sees them as unmodified without reading them. Nothing else in the project writes an index, and
 * here no entry gets or loses anything but stat data. docs/format/index-refresh.md has the reasons.
 *
 * Order, so that a change made by anybody else at any moment is still seen by git:
 *
 *   1. wait until the file system's clock has left the second of the newest mtime of the files;
 *   2. take the lock, read the index;
 *   3. compare each file with what the caller saw when it had written it, and look at racy entries;
 *   4. publish, with the time of step 2 as the index file's time.
 *
 * A file changed before 3 is not as the caller saw it. One changed after 3 has an mtime in a later
 * second than the one noted, or an mtime that the index's own time makes git distrust.
 */

import { lstat } from 'node:fs/promises';
import { setTimeout as setTimeoutPromise } from 'node:timers/promises';
import { errnoOf, Git2dbError, messageOf } from '../../xet/errors.ts';
import { acquireIndexLock, type IndexLock } from './lock.ts';
import { racySeconds } from './racy-entries.ts';
import { freshenSharedIndex, loadIndex } from './read.ts';
import { rewriteIndex } from './rewrite.ts';
import { compareWithWorkTree, type WrittenFile } from './work-tree.ts';

export interface RefreshOptions {
  /** The repository's `extensions.objectFormat`. */
  readonly hashAlgorithm: 'sha1' | 'sha256';
  readonly signal?: AbortSignal | undefined;
  /** Waits; rejects when `signal` aborts. Tests give their own. */
  readonly sleep?: (ms: number, signal: AbortSignal | undefined) => Promise<void>;
}

export type RefreshResult =
  /** Published: `entries` of the files are up to date, `skipped` are not (git will look at those itself). */
  | { readonly kind: 'updated'; readonly entries: number; readonly skipped: number }
  /** Another process holds the index lock; nothing was written. */
  | { readonly kind: 'locked' }
  /** This index is one for git alone (`git update-index --refresh`); nothing was written. */
  | { readonly kind: 'unsupported'; readonly reason: string }
  /** None of the files has an entry that could be brought up to date; nothing was written. */
  | { readonly kind: 'unchanged' };

const LOCK_RETRY_MS = 100;
const LONGEST_WAIT_MS = 1100;
/** Timers may fire a little early. */
const WAIT_MARGIN_MS = 5;

/**
 * Notes in the index at `indexPath` that `files`, in the work tree `workTree`, are as they were
 * when the caller had written them. An entry is changed only if it is a regular file at stage 0
 * with the blob `oid`, not assume-valid, skip-worktree or intent-to-add, and if the file still has
 * the identity, size and times in `stat`; the others count as skipped.
 *
 * Waits up to 1.1 s for the clock, before the lock is taken, if a file has an mtime in the present second. Rejects with AbortError when
 * `signal` aborts, or with the system's error (disk full, say); the index is then the old one and
 * no lock is left.
 */
export async function refreshIndex(
  indexPath: string,
  workTree: Buffer | string,
  files: readonly WrittenFile[],
  options: RefreshOptions,
): Promise<RefreshResult> {
  options.signal?.throwIfAborted();
  if (files.length === 0) {
    return { kind: 'unchanged' };
  }
  try {
    const state = await stateOfIndexPath(indexPath);
    if (state !== 'file') {
      return state === 'missing'
        ? { kind: 'unchanged' }
        : { kind: 'unsupported', reason: `${indexPath} is not a regular file` };
    }
    const lock = await acquireLaterThan(latestTime(files), indexPath, options);
    if (lock === undefined) {
      return { kind: 'locked' };
    }
    try {
      return await refreshLocked(lock, indexPath, workTree, files, options);
    } finally {
      await lock.release();
    }
  } catch (error) {
    const reason = reasonForGit(error);
    if (reason === undefined) {
      throw error;
    }
    return { kind: 'unsupported', reason };
  }
}

/** What to say where git may still manage, or say it in its own words; undefined for all other errors. */
function reasonForGit(error: unknown): string | undefined {
  const isUnreadable =
    error instanceof Git2dbError && (error.code === 'INVALID_INDEX' || error.code === 'LIMIT_EXCEEDED');
  return isUnreadable || ['EACCES', 'EPERM', 'EROFS'].includes(errnoOf(error) ?? '')
    ? messageOf(error)
    : undefined;
}

/** A symlink in place of the index is git's to resolve: renaming over it would replace the link. */
async function stateOfIndexPath(indexPath: string): Promise<'file' | 'missing' | 'other'> {
  try {
    return (await lstat(indexPath)).isFile() ? 'file' : 'other';
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') {
      return 'missing';
    }
    throw error;
  }
}

function latestTime(files: readonly WrittenFile[]): bigint {
  let latest = 0n;
  for (const { stat } of files) {
    // Not the ctime: in the second of its ctime git itself would miss a change that puts the mtime back.
    latest = stat.mtimeNs > latest ? stat.mtimeNs : latest;
  }
  return latest;
}

/**
 * Takes the lock in a later second than `timeNs`, by the clock of the file system, which the
 * lock's own file shows. Waits once, without the lock, and not longer than for the next second: for
 * files with a time far in the future the lock is then as early as ever, and git looks into them.
 */
async function acquireLaterThan(
  timeNs: bigint,
  indexPath: string,
  options: RefreshOptions,
): Promise<IndexLock | undefined> {
  const early = await acquireWithRetry(indexPath, options);
  if (early === undefined) {
    return undefined;
  }
  const nextSecondMs = (Number(timeNs / 1_000_000_000n) + 1) * 1000;
  const waitMs = nextSecondMs - Number(early.createdNs / 1_000_000n);
  if (waitMs <= 0) {
    return early;
  }
  await early.release();
  await sleep(Math.min(waitMs + WAIT_MARGIN_MS, LONGEST_WAIT_MS), options);
  return acquireWithRetry(indexPath, options);
}

async function acquireWithRetry(indexPath: string, options: RefreshOptions): Promise<IndexLock | undefined> {
  const lock = await acquireIndexLock(indexPath);
  if (lock !== undefined) {
    return lock;
  }
  await sleep(LOCK_RETRY_MS, options);
  return acquireIndexLock(indexPath);
}

async function sleep(ms: number, { sleep, signal }: RefreshOptions): Promise<void> {
  await (sleep === undefined ? setTimeoutPromise(ms, undefined, signal && { signal }) : sleep(ms, signal));
  signal?.throwIfAborted();
}

async function refreshLocked(
  lock: IndexLock,
  indexPath: string,
  workTree: Buffer | string,
  files: readonly WrittenFile[],
  options: RefreshOptions,
): Promise<RefreshResult> {
  const index = await loadIndex(indexPath, options.hashAlgorithm === 'sha1' ? 20 : 32);
  if (index === undefined) {
    return { kind: 'unchanged' };
  }
  const racy = racySeconds(index.stat.mtimeNs, lock.createdNs);
  const { changes, entries } = await compareWithWorkTree(index.view, racy, workTree, files, options.signal);
  if (entries === 0) {
    return { kind: 'unchanged' };
  }
  options.signal?.throwIfAborted();
  await lock.publish(rewriteIndex(index.view, changes, racy), Number(index.stat.mode));
  await freshenSharedIndex(indexPath, index.view);
  return { kind: 'updated', entries, skipped: files.length - entries };
}
