/**
 * After a fetch: layers in which pointers stand for content that was missing (xet.onMissing=pointer) are made
 * with it, once for all worktrees, and the worktrees are moved to them by mounting them anew. So no worktree
 * gets large copies in its upper. One that has changes, or is in use, is moved at its next mount.
 */
import { join } from 'node:path';
import { Git2dbError, messageOf } from '../../xet/errors.ts';
import type { GitPlace } from '../git-place.ts';
import { registryLayout } from '../registry-layout.ts';
import { findWorkInProgress } from '../work-in-progress.ts';
import type { DriverContext, WorktreeHome } from './driver.ts';
import { driverContext } from './driver-context.ts';
import { tryLock } from './home-lock.ts';
import { collectLayers } from './layer-collection.ts';
import { layerKey } from './layer-key.ts';
import { ensureLayer } from './layer-making.ts';
import { bootId, type Layer, layerDirectory, readLayerRecord } from './layer-store.ts';
import { forgetPointers, noteContent } from './note-content.ts';
import { treeState, unmountTree } from './overlay-mount.ts';
import { layerFields, mountWorktree } from './overlay2.ts';
import { operationsIn, placeOfWorktree } from './removal-reasons.ts';
import { readSettings } from './settings.ts';
import { readState, type WorktreeState, writeState } from './worktree-state.ts';
import { checkWritable, listStates, worktreeDirectory, worktreeLock } from './worktree-store.ts';

export interface CompletionReport {
  readonly id: string;
  readonly path: string;
  /**
   * `moved`: it shows the content now. `later`: it will at its next mount, as it has changes or is in use.
   * `missing`: nothing of what it lacks has come. `open`: a person has to see to it.
   */
  readonly outcome: 'moved' | 'later' | 'missing' | 'open';
  /** For a person, in one line. */
  readonly message: string;
  readonly error?: Git2dbError | undefined;
}

/** Whether some worktree of the repository in this registry shows pointers for what was missing. Reads records only. */
export function lacksContent(root: string, commonDir: string): boolean {
  return listStates(registryLayout(root), commonDir).some(isLacking);
}

function isLacking({ step, complete }: WorktreeState): boolean {
  return step === 'ready' && complete !== undefined;
}

/**
 * Brings content that has come into the worktrees of the repository that lack it; those that lack nothing are not
 * in the result. To be called after whatever brings content: a fetch, a pull. Costs a look at the records where
 * nothing was missing.
 */
export async function completeWorktrees(
  place: GitPlace,
  home: WorktreeHome,
  { signal }: { readonly signal?: AbortSignal | undefined } = {},
): Promise<CompletionReport[]> {
  const context = await driverContext(place, home, { signal });
  const lacking = listStates(home, context.place.commonDir).filter(isLacking);
  if (lacking.length > 0) checkWritable(home);
  const reports: CompletionReport[] = [];
  for (const { id, path } of lacking) {
    const lock = await tryLock(worktreeLock(home, id));
    if (lock === undefined) {
      reports.push({ id, path, outcome: 'later', message: 'another process is at work on it' });
      continue;
    }
    try {
      const state = readState(worktreeDirectory(home, id));
      if (state !== undefined && isLacking(state)) reports.push(await complete(context, state));
    } catch (error) {
      if (!(error instanceof Git2dbError)) throw error;
      reports.push({ id, path, outcome: 'open', message: messageOf(error), error });
    } finally {
      lock.release();
    }
  }
  if (reports.some(({ outcome }) => outcome === 'moved')) await collectLayers(home);
  return reports;
}

async function complete(context: DriverContext, state: WorktreeState): Promise<CompletionReport> {
  const { place, signal } = context;
  const { id, path } = state;
  const key = await layerKey(context, state.tree, await readSettings(context));
  if (key.name !== state.complete) {
    const message =
      'git or its settings (attributes, filters, line ends) have changed since it was made: what it lacks is ' +
      "brought by 'git2db xet pull' in it, or by removing it and making it again";
    return { id, path, outcome: 'open', message };
  }
  const layer = await ensureLayer(context, key);
  if (layer.name === state.layer) {
    return { id, path, outcome: 'missing', message: 'the content that it lacks is still not here' };
  }
  if ((await treeState(path, place.env)) !== 'mounted') {
    return { id, path, outcome: 'later', message: 'it is not mounted: its next mount shows the content' };
  }
  const why = await whyNotNow(context, state);
  if (why !== undefined)
    return { id, path, outcome: 'later', message: `${why}: its next mount shows the content` };
  signal?.throwIfAborted();
  const before = readLayerRecord(layerDirectory(context.home, state.layer ?? ''))?.pending ?? [];
  if (!(await forgetPointers(context, state, before))) {
    return { id, path, outcome: 'later', message: 'git is at work in it: its next mount shows the content' };
  }
  try {
    await unmountTree(path, place.env);
  } catch (error) {
    if (!(error instanceof Git2dbError) || error.code !== 'MOUNT_BUSY') throw error;
    return { id, path, outcome: 'later', message: 'it is in use: its next mount shows the content', error };
  }
  await moveTo(context, state, layer, before);
  return { id, path, outcome: 'moved', message: 'it shows the content now' };
}

/** From here on a crash leaves a worktree that is not mounted, and whose record names the new layer. */
async function moveTo(
  context: DriverContext,
  state: WorktreeState,
  layer: Layer,
  before: readonly string[],
): Promise<void> {
  const directory = worktreeDirectory(context.home, state.id);
  const moved = { ...state, ...layerFields(layer) };
  writeState(directory, moved);
  const next = { ...moved, ...(await mountWorktree(context, moved, layer)), bootId: bootId() };
  writeState(directory, next);
  await noteContent(context, next, before, layer);
}

async function whyNotNow(context: DriverContext, state: WorktreeState): Promise<string | undefined> {
  const gitDir = join(context.place.commonDir, 'worktrees', state.admin ?? '');
  const [operation] = operationsIn(gitDir);
  if (operation !== undefined) return `${operation} is in progress`;
  const there = await placeOfWorktree(context.place, gitDir, state);
  const { modified, untracked } = await findWorkInProgress(there, { signal: context.signal });
  if (modified.length + untracked.length === 0) return undefined;
  return `it has changes (${[...modified, ...untracked].slice(0, 3).join(', ')})`;
}
