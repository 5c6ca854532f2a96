/**
 * Making a worktree. Under the lock of the home it is looked up, and if it is new, reserved: a record with
 * the step `creating`, whose own lock the maker holds. So of two that ask for the same, one makes it and
 * the other waits; and what a killed maker has left is known, and undone by whoever comes next.
 */
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { Git2dbError, messageOf } from '../../xet/errors.ts';
import { checkAborted, ReferenceError_ } from '../errors.ts';
import type { GitPlace } from '../git-place.ts';
import { RegistryLock } from '../registry-lock.ts';
import { makeBranch } from './branch-making.ts';
import { resolveTarget, whereCheckedOut } from './checkout-target.ts';
import type {
  CheckoutTarget,
  DriverContext,
  Rejected,
  StorageDriver,
  WorktreeHome,
  WorktreeSpec,
} from './driver.ts';
import { concernsDriverOnly, driverContext } from './driver-context.ts';
import { candidates, driverByName } from './drivers.ts';
import { isVacant, missingDirectories } from './guard.ts';
import { readHead, readRef } from './head.ts';
import { withLock } from './home-lock.ts';
import { reasonsOf } from './overlay2.ts';
import { finishRemoval } from './remove.ts';
import { askAhead } from './settings.ts';
import { derivedPaths, isWithin, requestedPath, sharedDirectories } from './target-path.ts';
import { Worktree } from './worktree.ts';
import { noteState, readState, type WorktreeState, writeState } from './worktree-state.ts';
import {
  checkWritable,
  homeLock,
  newId,
  readStates,
  reserve,
  worktreeDirectory,
  worktreeLock,
} from './worktree-store.ts';

/** The branch may move between our look and its checkout; then all is done again. */
const ATTEMPTS = 4;
/** A maker may be writing a large layer. */
const MAKER_TIMEOUT_MS = 6 * 3600 * 1000;

/**
 * Makes the worktree, or finds the one that was made by the same words before. Throws REF_INVALID,
 * WORKTREE_EXISTS (the path is taken), WORKTREE_BUSY (the branch is checked out at `data.path`),
 * DRIVER_UNAVAILABLE (`data.rejected`), PATH_UNSUITABLE; nothing half-made stays.
 */
export async function createWorktree(
  place: GitPlace,
  home: WorktreeHome,
  spec: WorktreeSpec,
): Promise<Worktree> {
  checkWritable(home);
  const given = await driverContext(place, home, spec);
  const drivers = candidates(spec.driver ?? 'auto', spec.backend ?? 'auto');
  const path = spec.path === undefined ? undefined : requestedPath(spec.path, given.place, home);
  // All but vfs write admin files of their own, and look at what may stand in a layer's way.
  const asks = drivers.some(({ name }) => name !== 'vfs');
  for (let attempt = 1; ; attempt++) {
    checkAborted(spec.signal, 'making a worktree');
    const context = asks ? { ...given, answers: askAhead(given) } : given;
    const target = await resolveTarget(context.place, spec);
    const claim = await claimOrFind(context, spec, target, path);
    if (claim.kind === 'found') {
      const worktree = await takeFound(context, claim.state);
      if (worktree !== undefined) return worktree;
      continue;
    }
    const made = await makeClaimed(context, claim, target, drivers, attempt < ATTEMPTS);
    if (made !== undefined) return made;
  }
}

// ---- looking, and reserving ------------------------------------------------------------------

type Claim =
  | { readonly kind: 'found'; readonly state: WorktreeState }
  | { readonly kind: 'new'; readonly state: WorktreeState; readonly lock: RegistryLock };

async function claimOrFind(
  context: DriverContext,
  spec: WorktreeSpec,
  target: CheckoutTarget,
  path: string | undefined,
): Promise<Claim> {
  const { place, home, signal } = context;
  const isBare = place.workTree === undefined;
  return withLock(homeLock(home), { signal }, async () => {
    const all = readStates(home).states;
    const states = all.filter((state) => state.commonDir === place.commonDir);
    const found = await findSame(context, states, spec, target, path);
    if (found !== undefined) return { kind: 'found', state: found };
    if (spec.newBranch !== undefined && !target.newBranch) {
      throw new Git2dbError(
        'REF_INVALID',
        `the branch ${spec.newBranch} exists already: give it as the ref`,
        {
          data: { branch: spec.newBranch },
        },
      );
    }
    const being = states.find((state) => state.step === 'creating' && state.branch === target.branch);
    const elsewhere =
      target.branch === undefined || target.newBranch
        ? undefined
        : (whereCheckedOut(place.commonDir, target.branch, isBare) ?? being?.path);
    if (elsewhere !== undefined) throw branchBusy(target.branch!, elsewhere);
    const free = path ?? firstFree(all, derivedPaths(place, home, spec, target));
    if (path !== undefined) checkVacant(all, path);
    const state: WorktreeState = {
      version: 1,
      id: newId(target.branch ?? spec.ref),
      step: 'creating',
      driver: 'vfs',
      askedBackend: spec.backend ?? 'auto',
      rejected: [],
      commonDir: place.commonDir,
      path: free,
      // The directory of derived paths is ours too, whichever of the worktrees in it goes last.
      madeDirectories: [
        ...new Set([
          ...(path === undefined ? sharedDirectories(free, home) : []),
          ...missingDirectories(free),
        ]),
      ].sort(),
      ref: spec.ref,
      branch: target.branch,
      newBranch: target.newBranch,
      base: target.commit,
      tree: target.tree,
      ephemeral: spec.ephemeral === true,
      createdAt: new Date().toISOString(),
    };
    const lock = await RegistryLock.acquire(worktreeLock(home, state.id), {
      timeoutMs: MAKER_TIMEOUT_MS,
      signal,
    });
    try {
      reserve(home, state);
    } catch (error) {
      lock.release();
      throw error;
    }
    return { kind: 'new', state, lock };
  });
}

/** The worktree that the same words, or words that mean the same, have made. */
async function findSame(
  { place }: DriverContext,
  states: readonly WorktreeState[],
  spec: WorktreeSpec,
  target: CheckoutTarget,
  path: string | undefined,
): Promise<WorktreeState | undefined> {
  for (const state of states) {
    if (path !== undefined && state.path !== path) continue;
    // A new branch that is there already is the one that these words have made, or an error.
    if (spec.newBranch !== undefined && (state.newBranch !== true || state.ref !== spec.ref)) continue;
    // One that is being made, or that nobody makes any more: its maker is waited for.
    const head =
      state.step === 'creating' || state.admin === undefined
        ? { branch: state.branch, head: state.base }
        : await readHead(place, join(place.commonDir, 'worktrees', state.admin));
    const isSameBranch = target.branch !== undefined && head.branch === target.branch;
    const isSameCommit =
      target.branch === undefined &&
      state.branch === undefined &&
      state.ref === spec.ref &&
      (path !== undefined || state.base === target.commit);
    if (isSameBranch || isSameCommit) return state;
    // Half made or half removed: whoever takes it completes that, and looks again.
    if (state.step !== 'ready' && (path !== undefined || isSameTarget(state, target))) return state;
  }
  return undefined;
}

function isSameTarget(state: WorktreeState, target: CheckoutTarget): boolean {
  return target.branch !== undefined && state.branch === target.branch;
}

function branchBusy(branch: string, path: string): Git2dbError {
  const name = branch.replace(/^refs\/heads\//, '');
  return new Git2dbError(
    'WORKTREE_BUSY',
    `the branch ${name} is checked out at ${path}: work there, check out its commit alone (detach), or make another branch of it`,
    { data: { branch: name, path } },
  );
}

function firstFree(states: readonly WorktreeState[], paths: Iterable<string>): string {
  for (const path of paths) {
    if (isVacant(path) && !states.some((state) => state.path === path)) return path;
  }
  throw new TypeError('there is always another path');
}

function checkVacant(states: readonly WorktreeState[], path: string): void {
  const there = states.find((state) => state.path === path);
  const around = states.find((state) => state.driver === 'overlay2' && isWithin(path, state.path));
  if (there === undefined && around !== undefined) {
    throw new Git2dbError(
      'PATH_UNSUITABLE',
      `${path} lies in the worktree ${around.path}, and would end with its mount: name another path`,
      { data: { path, worktree: around.path } },
    );
  }
  if (there === undefined && isVacant(path)) return;
  const what =
    there === undefined ? 'is there, and not empty' : `is a worktree of ${JSON.stringify(there.ref)} already`;
  throw new Git2dbError('WORKTREE_EXISTS', `${path} ${what}: name a missing or empty directory`, {
    data: { path },
  });
}

// ---- what is there already -------------------------------------------------------------------

/** Undefined: it is gone now, or has been undone, and all is to be looked at again. */
async function takeFound(context: DriverContext, found: WorktreeState): Promise<Worktree | undefined> {
  const { home, signal } = context;
  const directory = worktreeDirectory(home, found.id);
  using _lock = await RegistryLock.acquire(worktreeLock(home, found.id), {
    timeoutMs: MAKER_TIMEOUT_MS,
    signal,
  });
  const state = readState(directory);
  if (state === undefined) {
    rmSync(worktreeLock(home, found.id), { recursive: true, force: true });
    return undefined;
  }
  // Its lock is ours, so nobody is at it: an end that was begun is completed, a beginning undone.
  if (state.step === 'removing') {
    await finishRemoval(context, state);
    return undefined;
  }
  if (state.step === 'creating') {
    await undo(context, state);
    return undefined;
  }
  const opened = await driverByName(state.driver).open(context, state);
  if (opened !== state) writeState(directory, opened);
  return asWorktree(context, opened);
}

/** The worktree of a record that is `ready`. */
export async function asWorktree(context: DriverContext, state: WorktreeState): Promise<Worktree> {
  const gitDir = join(context.place.commonDir, 'worktrees', state.admin ?? '');
  const { branch, head } = await readHead(context.place, gitDir);
  return new Worktree(context, state, gitDir, { branch, head, locked: state.lockReason, foreign: false });
}

// ---- making ----------------------------------------------------------------------------------

/** Undefined: the branch has moved meanwhile; all is undone, and may be tried again. */
async function makeClaimed(
  context: DriverContext,
  { state: reserved, lock }: Claim & { kind: 'new' },
  target: CheckoutTarget,
  drivers: readonly StorageDriver[],
  mayRetry: boolean,
): Promise<Worktree | undefined> {
  using _lock = lock;
  const { home } = context;
  const directory = worktreeDirectory(home, reserved.id);
  let state = reserved;
  try {
    if (target.newBranch) {
      // Recorded before, so that a killed maker leaves no branch behind.
      state = noteState(directory, state, { madeBranch: true });
      try {
        await makeBranch(context, target);
      } catch (error) {
        if (error instanceof ReferenceError_) noteState(directory, state, { madeBranch: undefined });
        throw error;
      }
    }
    state = await makeByFirst(context, state, target, drivers);
    if (target.branch !== undefined && !(await isAt(context, target))) {
      if (mayRetry) {
        await undo(context, state);
        return undefined;
      }
      throw new Git2dbError('CONFLICT', `${target.branch} moves all the time: try again when it rests`);
    }
    // From here on the branch is the user's.
    state = { ...state, step: 'ready', madeBranch: undefined };
    writeState(directory, state);
  } catch (error) {
    await undo(context, readState(directory) ?? state);
    throw error;
  }
  return asWorktree(context, state);
}

async function makeByFirst(
  context: DriverContext,
  reserved: WorktreeState,
  target: CheckoutTarget,
  drivers: readonly StorageDriver[],
): Promise<WorktreeState> {
  const rejected: Rejected[] = [];
  const directory = worktreeDirectory(context.home, reserved.id);
  for (const driver of drivers) {
    const state: WorktreeState = { ...reserved, driver: driver.name, rejected: [...rejected] };
    writeState(directory, state, { durable: false });
    try {
      if (driver.name === 'reflink') {
        const probe = await driver.probe(context, state.path, state.askedBackend);
        if (!probe.works) throw noDriver('reflink', probe.rejected);
      }
      return await driver.create(context, state, target);
    } catch (error) {
      if (!concernsDriverOnly(error)) throw error;
      const reasons = reasonsOf(error);
      rejected.push(
        ...(driver.name === 'overlay2' ? reasons : reasons.map((each) => ({ ...each, driver: driver.name }))),
      );
      if (driver === drivers.at(-1)) throw drivers.length === 1 ? error : noDriver(driver.name, rejected);
      await driver.remove(context, readState(directory) ?? state);
    }
  }
  throw new TypeError('no driver');
}

function noDriver(name: string, rejected: readonly Rejected[]): Git2dbError {
  const reasons = rejected.map(({ driver, backend, reason }) => `${backend ?? driver}: ${reason}`).join('; ');
  return new Git2dbError('DRIVER_UNAVAILABLE', `the driver ${name} does not work here: ${reasons}`, {
    data: { rejected },
  });
}

async function isAt({ place }: DriverContext, { branch, commit }: CheckoutTarget): Promise<boolean> {
  const loose = readRef(place.commonDir, branch!);
  if (loose !== undefined) return loose === commit;
  const now = await place.git(['rev-parse', '--verify', '--quiet', '--end-of-options', branch!], {
    okStatus: [0, 1],
  });
  return now.stdout.toString().trim() === commit;
}

/** Takes back all that was made. */
async function undo(context: DriverContext, state: WorktreeState): Promise<void> {
  try {
    await finishRemoval(context, state);
  } catch (error) {
    throw new Git2dbError(
      'REFUSED',
      `the worktree at ${state.path} is half made and cannot be taken back now: ${messageOf(error)}; ` +
        'then run git2db repair',
      { cause: error, data: { path: state.path } },
    );
  }
}
