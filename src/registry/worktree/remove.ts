/**
 * Removing worktrees: refused while anything would be lost, then unmount, git's part, upper, and the
 * reference to the layer, the record going last. Its step `removing` makes whoever comes next go on.
 */
import { Git2dbError, messageOf } from '../../xet/errors.ts';
import type { GitPlace } from '../git-place.ts';
import { RegistryLock } from '../registry-lock.ts';
import { isOverlayAdmin } from './admin-directory.ts';
import { unmakeBranch } from './branch-making.ts';
import type { DriverContext, WorktreeHome } from './driver.ts';
import { driverContext } from './driver-context.ts';
import { driverByName } from './drivers.ts';
import { withLock } from './home-lock.ts';
import { collectLayersLocked } from './layer-collection.ts';
import { listWorktrees, openWorktree } from './list.ts';
import { type RemovalReason, removalReasons } from './removal-reasons.ts';
import { withSpareSpace } from './spare-space.ts';
import { realPathOf } from './target-path.ts';
import { readState, type WorktreeState, writeState } from './worktree-state.ts';
import {
  brokenStates,
  checkWritable,
  forget,
  homeLock,
  listStates,
  worktreeDirectory,
  worktreeLock,
} from './worktree-store.ts';

export type { ReasonKind, RemovalReason } from './removal-reasons.ts';

export interface RemovalOptions {
  /** Whatever would be lost. A mount in use is not ended all the same. */
  readonly force?: boolean | undefined;
  readonly signal?: AbortSignal | undefined;
}

const LOCK_TIMEOUT_MS = 60_000;

/**
 * By id, path or branch. Throws WORKTREE_DIRTY (`data.reasons`), MOUNT_BUSY, NOT_FOUND. One whose removal
 * was interrupted is removed without another look at it.
 */
export async function removeWorktree(
  place: GitPlace,
  home: WorktreeHome,
  branchOrPathOrId: string,
  options: RemovalOptions = {},
): Promise<void> {
  checkWritable(home);
  await withSpareSpace(home, () => removeOnce(place, home, branchOrPathOrId, options));
}

async function removeOnce(
  place: GitPlace,
  home: WorktreeHome,
  branchOrPathOrId: string,
  { force = false, signal }: RemovalOptions,
): Promise<void> {
  const context = await driverContext(place, home, { signal });
  const state = findUnfinished(context, branchOrPathOrId) ?? (await stateOf(context, branchOrPathOrId));
  if (state === undefined) return removeForeign(context, branchOrPathOrId, force);
  using _lock = await RegistryLock.acquire(worktreeLock(home, state.id), {
    timeoutMs: LOCK_TIMEOUT_MS,
    signal,
  });
  const now = readState(worktreeDirectory(home, state.id));
  if (now === undefined) return;
  if (now.step === 'ready' && !force) {
    const reasons = await lookAt(context, now);
    if (reasons.length > 0) throw dirty(now.path, reasons);
  }
  await finishRemoval(context, now);
}

/** Removes what `state` records; the lock of the worktree is held. */
export async function finishRemoval(context: DriverContext, state: WorktreeState): Promise<void> {
  const { home } = context;
  const removing: WorktreeState = { ...state, step: 'removing' };
  if (state.step !== 'removing') writeState(worktreeDirectory(home, state.id), removing);
  // From here on it goes on to its end: a cancelled removal would leave the worktree neither there nor gone.
  const calm: DriverContext = { place: context.place, home };
  try {
    await driverByName(state.driver).remove(calm, removing);
    await unmakeBranch(calm, removing);
  } catch (error) {
    // Nothing was taken from a worktree that is in use: it is what it was.
    const isUntouched = error instanceof Git2dbError && error.code === 'MOUNT_BUSY' && state.step === 'ready';
    if (isUntouched) writeState(worktreeDirectory(home, state.id), state);
    throw error;
  }
  await withLock(homeLock(home), {}, async () => {
    forget(home, state.id);
    await collectLayersLocked(home);
  });
}

/**
 * Why removing the repository's worktrees would lose something; empty: it would not. With `foreign` false
 * those that git alone knows are to stay.
 */
export async function planRemoval(
  place: GitPlace,
  home: WorktreeHome,
  { foreign = true, signal }: Pick<RemovalOptions, 'signal'> & { readonly foreign?: boolean } = {},
): Promise<RemovalReason[]> {
  const context = await driverContext(place, home, { signal });
  const reasons: RemovalReason[] = [];
  for (const state of listStates(home, context.place.commonDir)) {
    if (state.step === 'ready') reasons.push(...(await lookAt(context, state)));
  }
  for (const { file, error } of brokenStates(home, context.place.commonDir)) {
    reasons.push(unreadable(file, error));
  }
  for (const worktree of foreign ? await listWorktrees(context.place, home, { signal }) : []) {
    if (!worktree.foreign) continue;
    reasons.push(...(await lookAtForeign(context, worktree)));
  }
  return reasons;
}

// ---- looking ---------------------------------------------------------------------------------

/** An overlay is mounted for it, if need be. */
async function lookAt(context: DriverContext, state: WorktreeState): Promise<RemovalReason[]> {
  try {
    const opened = await driverByName(state.driver).open(context, state);
    if (opened !== state) writeState(worktreeDirectory(context.home, state.id), opened);
    return await removalReasons(context, opened);
  } catch (error) {
    if (!(error instanceof Git2dbError)) throw error;
    return [unreadable(state.path, error)];
  }
}

async function lookAtForeign(
  context: DriverContext,
  { path, gitDir, locked }: { path: string; gitDir: string; locked: string | undefined },
): Promise<RemovalReason[]> {
  const admin = gitDir.slice(gitDir.lastIndexOf('/') + 1);
  try {
    return await removalReasons(context, { path, admin, lockReason: locked } as WorktreeState);
  } catch (error) {
    if (!(error instanceof Git2dbError)) throw error;
    return [unreadable(path, error)];
  }
}

function unreadable(path: string, error: Git2dbError): RemovalReason {
  return {
    kind: 'unreadable',
    path,
    items: [],
    message: `${path}: cannot be looked at: ${messageOf(error)}`,
  };
}

function dirty(path: string, reasons: readonly RemovalReason[]): Git2dbError {
  const shown = reasons.map(({ message }) => message.slice(path.length + 2)).join('; ');
  return new Git2dbError(
    'WORKTREE_DIRTY',
    `removing ${path} would lose something: ${shown}; commit or clear that, or remove it with --force`,
    { data: { path, reasons } },
  );
}

// ---- finding ---------------------------------------------------------------------------------

/** One that is half removed or half made is in no list. */
function findUnfinished({ place, home }: DriverContext, wanted: string): WorktreeState | undefined {
  const branch = `refs/heads/${wanted.replace(/^refs\/heads\//, '')}`;
  const isPath = (path: string) => wanted.includes('/') && path === safeRealPath(wanted);
  return listStates(home, place.commonDir).find(
    (state) =>
      state.step === 'removing' && (state.id === wanted || isPath(state.path) || state.branch === branch),
  );
}

function safeRealPath(path: string): string | undefined {
  try {
    return realPathOf(path);
  } catch {
    return undefined;
  }
}

/** Undefined: git alone knows it. Throws NOT_FOUND. */
async function stateOf(
  { place, home, signal }: DriverContext,
  wanted: string,
): Promise<WorktreeState | undefined> {
  // Its admin directory may be gone, and with it the worktree from git's list.
  const byRecord = listStates(home, place.commonDir).find(
    (state) => state.id === wanted || state.path === safeRealPath(wanted),
  );
  if (byRecord !== undefined) return byRecord;
  const worktree = await openWorktree(place, home, wanted, { signal });
  return worktree.foreign ? undefined : readState(worktreeDirectory(home, worktree.id));
}

/** By git, which made it. */
async function removeForeign(context: DriverContext, wanted: string, force: boolean): Promise<void> {
  const { place, home, signal } = context;
  const worktree = await openWorktree(place, home, wanted, { signal });
  if (isOverlayAdmin(worktree.gitDir)) {
    throw new Git2dbError(
      'REFUSED',
      `${worktree.path} is an overlay worktree without a record that could be read in ${home.worktrees}: ` +
        'mend or restore the record there, or remove it through the registry that made it',
      { data: { path: worktree.path, home: home.worktrees } },
    );
  }
  if (!force) {
    const reasons = await lookAtForeign(context, worktree);
    if (reasons.length > 0) throw dirty(worktree.path, reasons);
  }
  const words = force ? ['--force', '--force'] : [];
  await place.git(['worktree', 'remove', ...words, '--end-of-options', worktree.path], { signal });
}
