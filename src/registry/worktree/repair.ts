/**
 * After a crash or a reboot: what was begun is completed or undone, overlays are mounted again, layers that
 * are lost are made again. What needs a person is said, and left alone. Doing it twice does nothing the
 * second time.
 */
import { existsSync } from 'node:fs';
import { Git2dbError, messageOf } from '../../xet/errors.ts';
import type { GitPlace } from '../git-place.ts';
import { RegistryLock } from '../registry-lock.ts';
import type { DriverContext, WorktreeHome } from './driver.ts';
import { driverContext } from './driver-context.ts';
import { driverByName } from './drivers.ts';
import { tryLock } from './home-lock.ts';
import { collectLayers } from './layer-collection.ts';
import { finishRemoval } from './remove.ts';
import { readState, writeState } from './worktree-state.ts';
import {
  brokenStates,
  checkWritable,
  listStates,
  worktreeDirectory,
  worktreeLock,
} from './worktree-store.ts';

export interface RepairReport {
  readonly id: string;
  readonly path: string;
  /** `well`: nothing was to be done. `open`: a person has to see to it. */
  readonly outcome: 'well' | 'repaired' | 'removed' | 'busy' | 'open';
  /** What was done, or is to be done, in one line. */
  readonly message: string;
  readonly error?: Git2dbError | undefined;
}

const LOCK_TIMEOUT_MS = 60_000;

/** All worktrees of the repository that `home` has records of. */
export async function repairWorktrees(
  place: GitPlace,
  home: WorktreeHome,
  { signal }: { readonly signal?: AbortSignal | undefined } = {},
): Promise<RepairReport[]> {
  checkWritable(home);
  const context = await driverContext(place, home, { signal });
  const reports: RepairReport[] = [];
  for (const state of listStates(home, context.place.commonDir)) {
    const lock = await tryLock(worktreeLock(home, state.id));
    if (lock === undefined) {
      const message = 'another process is at work on it';
      reports.push({ id: state.id, path: state.path, outcome: 'busy', message });
      continue;
    }
    try {
      reports.push(await repairLocked(context, state.id));
    } finally {
      lock.release();
    }
  }
  for (const { id, file, error } of brokenStates(home, context.place.commonDir)) {
    reports.push({ id, path: file, outcome: 'open', message: messageOf(error), error });
  }
  if (existsSync(home.layers)) await collectLayers(home);
  return reports;
}

export async function repairWorktree(context: DriverContext, id: string): Promise<RepairReport> {
  const { home, signal } = context;
  checkWritable(home);
  using _lock = await RegistryLock.acquire(worktreeLock(home, id), { timeoutMs: LOCK_TIMEOUT_MS, signal });
  return repairLocked(context, id);
}

async function repairLocked(context: DriverContext, id: string): Promise<RepairReport> {
  const directory = worktreeDirectory(context.home, id);
  const state = readState(directory);
  if (state === undefined)
    return { id, path: '', outcome: 'removed', message: 'it has been removed meanwhile' };
  const { path } = state;
  try {
    if (state.step === 'removing') {
      await finishRemoval(context, state);
      return { id, path, outcome: 'removed', message: 'its removal had been interrupted: completed' };
    }
    if (state.step === 'creating') {
      await finishRemoval(context, state);
      return { id, path, outcome: 'removed', message: 'its making had been interrupted: undone' };
    }
    const { state: next, done } = await driverByName(state.driver).repair(context, state);
    if (next !== state) writeState(directory, next);
    if (done.length === 0) return { id, path, outcome: 'well', message: 'nothing to do' };
    return { id, path, outcome: 'repaired', message: done.join('; ') };
  } catch (error) {
    if (!(error instanceof Git2dbError)) throw error;
    return { id, path, outcome: 'open', message: messageOf(error), error };
  }
}
