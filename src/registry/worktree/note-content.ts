/** The index of a worktree whose pointers have become content, without reading that content again. */
import { type BigIntStats, lstatSync } from 'node:fs';
import { join } from 'node:path';
import { ownEntries } from '../../git/index-file/entry.ts';
import { forgetEntries } from '../../git/index-file/forget.ts';
import { refreshIndex } from '../../git/index-file/refresh.ts';
import type { WrittenFile } from '../../git/index-file/work-tree.ts';
import { errnoOf } from '../../xet/errors.ts';
import { POINTER_MAX } from '../../xet/pointer/sniff.ts';
import type { DriverContext } from './driver.ts';
import { hashSizeOf, readLayerIndex } from './layer-index.ts';
import type { Layer } from './layer-store.ts';
import type { WorktreeState } from './worktree-state.ts';
import { upperOf } from './worktree-store.ts';

/**
 * Before pointers of a worktree become content: git will not go by what its index says of them. `before`: their
 * paths, as latin1; undefined where they are not known, and all that could be one counts. False: somebody works
 * on the index just now.
 */
export async function forgetPointers(
  { place }: DriverContext,
  state: WorktreeState,
  before: readonly string[] | undefined,
): Promise<boolean> {
  const paths = before === undefined ? undefined : new Set(before);
  return forgetEntries(indexOf(place, state), hashSizeOf(state.tree), ({ path, size }) =>
    paths === undefined ? size <= POINTER_MAX : paths.has(path.toString('latin1')),
  );
}

/**
 * For a worktree that is mounted over `layer` now and was over one in which `before` (paths, as latin1) were
 * pointers. Files of its upper are its own business. What is not noted git compares by itself, once.
 */
export async function noteContent(
  { place, home, signal }: DriverContext,
  state: WorktreeState,
  before: readonly string[],
  layer: Layer,
): Promise<void> {
  // Only another mount namespace sees the files.
  if (state.backend === 'userns') return;
  const come = new Set(before);
  for (const path of layer.record.pending ?? []) come.delete(path);
  const { upper } = upperOf(home, state.id);
  const files: WrittenFile[] = [];
  for (const { path, oid } of ownEntries(readLayerIndex(layer.index, hashSizeOf(layer.record.tree)))) {
    if (!come.has(path.toString('latin1')) || lstatOrNothing(upper, path) !== undefined) continue;
    const stat = lstatOrNothing(state.path, path);
    if (stat !== undefined) files.push({ path: Buffer.from(path), oid, stat });
  }
  const hashAlgorithm = layer.record.tree.length === 64 ? 'sha256' : 'sha1';
  await refreshIndex(indexOf(place, state), state.path, files, { hashAlgorithm, signal });
}

function indexOf({ commonDir }: DriverContext['place'], { admin }: WorktreeState): string {
  return join(commonDir, 'worktrees', admin!, 'index');
}

function lstatOrNothing(root: string, path: Buffer): BigIntStats | undefined {
  try {
    return lstatSync(Buffer.concat([Buffer.from(`${root}/`), path]), { bigint: true });
  } catch (error) {
    if (['ENOENT', 'ENOTDIR'].includes(errnoOf(error) ?? '')) return undefined;
    throw error;
  }
}
