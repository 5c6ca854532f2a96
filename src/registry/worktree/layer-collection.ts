/**
 * Removing layers that no recorded worktree uses. What counts are the records, mounted or not, and what is
 * being made; so this is done under the lock that records come and go under.
 */
import { randomBytes } from 'node:crypto';
import { renameSync, rmSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { errnoOf } from '../../xet/errors.ts';
import type { WorktreeHome } from './driver.ts';
import { tryLock, withLock } from './home-lock.ts';
import { sweepMaking } from './layer-making.ts';
import { entriesOf, layerDirectory, layerLock, listLayers, readLayerRecord } from './layer-store.ts';
import { TRIAL_PREFIX, unmountTree } from './overlay-mount.ts';
import { removeTree } from './remove-tree.ts';
import type { WorktreeState } from './worktree-state.ts';
import { checkWritable, homeLock, readStates } from './worktree-store.ts';

/** A trial mount takes moments; one that is as old as this was left by a process that was killed. */
const TRIAL_MS = 10 * 60_000;

/** Names of the layers that were removed; with `dryRun`, that would be. */
export async function collectLayers(
  home: WorktreeHome,
  { signal, dryRun = false }: { signal?: AbortSignal; dryRun?: boolean } = {},
): Promise<string[]> {
  if (!dryRun) checkWritable(home);
  return withLock(homeLock(home), { signal }, async () =>
    dryRun ? unusedLayers(home) : collectLayersLocked(home),
  );
}

/** For whoever holds the lock of the home. */
function unusedLayers(home: WorktreeHome): string[] {
  const { states, broken } = readStates(home);
  // A record that cannot be read may use any of them.
  if (broken.length > 0) return [];
  const used = usedLayers(home, states);
  return listLayers(home).filter((name) => !used.has(name));
}

/** As `collectLayers`, for whoever holds the lock of the home. */
export async function collectLayersLocked(home: WorktreeHome): Promise<string[]> {
  await sweepLitter(home);
  const removed: string[] = [];
  for (const name of unusedLayers(home)) {
    const lock = await tryLock(layerLock(home, name));
    if (lock === undefined) continue;
    try {
      // Out of sight first: from here on nobody takes it for a layer.
      const gone = join(home.layers, `.gone-${randomBytes(6).toString('hex')}`);
      renameSync(layerDirectory(home, name), gone);
      await removeTree(gone);
      removed.push(name);
    } catch (error) {
      if (errnoOf(error) !== 'ENOENT') throw error;
    } finally {
      lock.release();
    }
    rmSync(layerLock(home, name), { recursive: true, force: true });
  }
  return removed;
}

/** With all the layers that these lie over. */
function usedLayers(home: WorktreeHome, states: readonly WorktreeState[]): Set<string> {
  const used = new Set<string>();
  const use = (name: string | undefined): void => {
    for (let next = name; next !== undefined && !used.has(next); ) {
      used.add(next);
      next = readLayerRecord(layerDirectory(home, next))?.base;
    }
  };
  for (const { layer, complete } of states) for (const name of [layer, complete]) use(name);
  // Whoever makes a worktree notes which layer it asks for before it knows which one it gets.
  const asked = new Set(states.filter(({ step }) => step === 'creating').map(({ layer }) => layer));
  for (const name of listLayers(home)) {
    if (asked.has(readLayerRecord(layerDirectory(home, name))?.completes)) use(name);
  }
  for (const name of entriesOf(home.layers)) {
    if (name.startsWith('.making-')) use(readLayerRecord(join(home.layers, name))?.base);
  }
  return used;
}

/** What killed makers and collectors have left. */
async function sweepLitter(home: WorktreeHome): Promise<void> {
  for (const entry of entriesOf(home.worktrees)) {
    if (!entry.startsWith(TRIAL_PREFIX)) continue;
    const scratch = join(home.worktrees, entry);
    const stat = statSync(scratch, { throwIfNoEntry: false });
    if (stat === undefined || Date.now() - stat.mtimeMs < TRIAL_MS) continue;
    await unmountTree(join(scratch, 'merged'));
    await removeTree(scratch);
  }
  for (const entry of entriesOf(home.layers)) {
    if (entry.startsWith('.gone-')) await removeTree(join(home.layers, entry));
    const name = /^\.making-(.+)\.[0-9a-f]+$/.exec(entry)?.[1];
    if (name === undefined) continue;
    const lock = await tryLock(layerLock(home, name));
    if (lock === undefined) continue;
    try {
      await sweepMaking(home.layers, name);
    } finally {
      lock.release();
    }
  }
}
