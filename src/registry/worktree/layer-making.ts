/**
 * Making a layer, once whatever number of processes ask for it. Where one is close to the wanted tree the
 * new one is made by git in an overlay over that: what git writes, and takes away, is the delta, in the
 * form that overlays read. Otherwise it is a plain checkout.
 */
import { randomBytes } from 'node:crypto';
import { copyFileSync, lstatSync, mkdirSync, readdirSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { ownEntries } from '../../git/index-file/entry.ts';
import { RegistryLock } from '../registry-lock.ts';
import { checkOut, readTreeIntoIndex } from './checkout.ts';
import { cloneFromDonor } from './donor.ts';
import type { DriverContext } from './driver.ts';
import { withLock } from './home-lock.ts';
import { closestLayer, convertedOtherwise } from './layer-base.ts';
import { forgetStat, hashSizeOf, readLayerIndex, settleTimes, writeLayerIndex } from './layer-index.ts';
import { type LayerKey, partialName } from './layer-key.ts';
import { pendingPointers } from './layer-pointers.ts';
import {
  bootId,
  entriesOf,
  findLayer,
  type Layer,
  type LayerRecord,
  layerDirectory,
  layerLock,
  syncInBackground,
} from './layer-store.ts';
import { isUnmounted, type MountedTree, mountTree, unmountTree } from './overlay-mount.ts';
import { removeTree } from './remove-tree.ts';
import { readSettings } from './settings.ts';
import { homeLock } from './worktree-store.ts';

/** Making a layer of a large repository takes as long as a checkout, and others wait for it. */
const LOCK_TIMEOUT_MS = 6 * 3600 * 1000;

/**
 * The layer of `key`, made if need be. A failure (a required filter's) publishes nothing. Where content is missing
 * and pointers may stand for it, the layer that comes out has another name than `key`, and the next call tries again.
 * What is made is published only when `permit` has come; should that fail, so does this.
 */
export async function ensureLayer(
  context: DriverContext,
  key: LayerKey,
  permit?: Promise<unknown>,
): Promise<Layer> {
  const { home, signal } = context;
  const present = findLayer(home, key.name);
  if (present !== undefined) {
    syncInBackground(present);
    return present;
  }
  using _lock = await RegistryLock.acquire(layerLock(home, key.name), { signal, timeoutMs: LOCK_TIMEOUT_MS });
  const made = findLayer(home, key.name);
  if (made !== undefined) return made;
  await sweepMaking(home.layers, key.name);
  context.onProgress?.({ kind: 'layer', key: key.name, state: 'making' });
  const temporary = join(home.layers, `.making-${key.name}.${randomBytes(6).toString('hex')}`);
  mkdirSync(temporary, { recursive: true, mode: 0o700 });
  let name: string;
  try {
    name = await makeIn(temporary, context, key);
    await permit;
    // No more content is here than was when that one was made.
    if (name !== key.name && findLayer(home, name) !== undefined) await discard(temporary);
    else publish(home.layers, temporary, layerDirectory(home, name));
  } catch (error) {
    await discard(temporary);
    throw error;
  }
  const layer = findLayer(home, name)!;
  syncInBackground(layer);
  context.onProgress?.({ kind: 'layer', key: key.name, state: 'made' });
  return layer;
}

/** What is there under the name and cannot be used (a crash came before it was on the disk) makes room. */
function publish(layers: string, temporary: string, directory: string): void {
  const gone = join(layers, `.gone-${randomBytes(6).toString('hex')}`);
  try {
    renameSync(directory, gone);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
  }
  renameSync(temporary, directory);
  rmSync(gone, { recursive: true, force: true });
}

/** Returns the name of what was made. */
async function makeIn(temporary: string, context: DriverContext, key: LayerKey): Promise<string> {
  const { place, signal } = context;
  const tree = join(temporary, 'tree');
  const index = join(temporary, 'index');
  mkdirSync(tree);
  const base = await chooseBase(temporary, context, key);
  const isDelta = base !== undefined && (await makeDelta(temporary, context, key, base));
  if (!isDelta) {
    writeRecord(temporary, recordOf(key, undefined));
    await cloneFromDonor(context, key, { workTree: tree, index });
    const settings = await readSettings(context);
    await checkOut(place, { workTree: tree, index, tree: key.tree, settings, signal });
  }
  const below = isDelta ? base : undefined;
  const view = readLayerIndex(index, hashSizeOf(key.tree));
  const pending = key.mayBePartial
    ? await pendingPointers(context, {
        view,
        index,
        trees: [tree, ...(below?.trees ?? [])],
        workTree: emptyDirectory(temporary),
      })
    : [];
  await settleTimes(view, tree, key.fingerprint, { partial: isDelta, pending: new Set(pending), signal });
  writeLayerIndex(index, view);
  const record = recordOf(key, below);
  const name = pending.length === 0 ? key.name : partialName(key, pending);
  if (pending.length > 0) writeRecord(temporary, { ...record, name, completes: key.name, pending });
  for (const part of readdirSync(temporary)) {
    if (!['tree', 'index', 'layer.json'].includes(part)) await removeTree(join(temporary, part));
  }
  return name;
}

function emptyDirectory(temporary: string): string {
  const empty = join(temporary, 'empty');
  mkdirSync(empty, { recursive: true });
  return empty;
}

/** Chosen and recorded while nobody collects layers: from then on it counts as used. */
async function chooseBase(
  temporary: string,
  context: DriverContext,
  key: LayerKey,
): Promise<Layer | undefined> {
  const { place, home, signal } = context;
  if (entriesOf(home.layers).every((name) => name.startsWith('.'))) return undefined;
  const wanted = join(temporary, 'wanted');
  await readTreeIntoIndex(place, {
    workTree: join(temporary, 'tree'),
    index: wanted,
    tree: key.tree,
    signal,
  });
  const view = readLayerIndex(wanted, hashSizeOf(key.tree));
  return withLock(homeLock(home), { signal }, async () => {
    const base = closestLayer(home, key, view);
    if (base !== undefined) writeRecord(temporary, recordOf(key, base));
    return base;
  });
}

function recordOf(key: LayerKey, base: Layer | undefined): LayerRecord {
  return {
    version: 1,
    name: key.name,
    tree: key.tree,
    attributes: key.attributes,
    base: base?.name,
    depth: (base?.record.depth ?? 0) + 1,
    bootId: bootId(),
    createdAt: new Date().toISOString(),
  };
}

function writeRecord(directory: string, record: LayerRecord): void {
  writeFileSync(join(directory, 'layer.json'), `${JSON.stringify(record)}\n`, { mode: 0o600 });
}

/** False: what would be needed cannot be expressed here, and a complete layer has to do. */
async function makeDelta(
  temporary: string,
  context: DriverContext,
  key: LayerKey,
  base: Layer,
): Promise<boolean> {
  const { place, signal } = context;
  const [tree, work, merged, index] = ['tree', 'work', 'merged', 'index'].map((name) =>
    join(temporary, name),
  ) as [string, string, string, string];
  for (const directory of [work, merged]) mkdirSync(directory);
  copyFileSync(base.index, index);
  const hashSize = hashSizeOf(key.tree);
  const before = readLayerIndex(index, hashSize);
  const wanted = join(temporary, 'wanted');
  const otherwise = await convertedOtherwise(
    place,
    { index: base.index, view: before, key: base.record },
    { index: wanted, view: readLayerIndex(wanted, hashSize), key },
    emptyDirectory(temporary),
    signal,
  );
  // Content may have come for what is a pointer there.
  const changed = new Set([...otherwise, ...(base.record.pending ?? [])]);
  if (changed.size > 0) {
    for (const entry of ownEntries(before)) {
      if (changed.has(entry.path.toString('latin1'))) forgetStat(before, entry);
    }
    writeLayerIndex(index, before);
  }
  let mounted: MountedTree;
  try {
    mounted = await mountTree({ lowers: base.trees, upper: tree, work, merged, backend: 'auto' }, place.env);
  } catch {
    // Reading layers one over the other will fail as well, and say why; here a plain checkout is enough.
    return false;
  }
  try {
    const settings = await readSettings(context);
    const view = { workTree: merged, index, tree: key.tree };
    await checkOut(place, { ...view, settings, minimalStat: true, signal });
  } finally {
    await unmountTree(mounted.merged, place.env);
  }
  const view = readLayerIndex(index, hashSize);
  if (holdsNamedWhiteouts(tree, view)) {
    await removeTree(tree);
    mkdirSync(tree);
    rmSync(index);
    return false;
  }
  return true;
}

/** Whiteouts of the form `.wh.NAME`, where devices cannot be made: mounts of worktrees do not read them. */
function holdsNamedWhiteouts(tree: string, view: ReturnType<typeof readLayerIndex>): boolean {
  const tracked = new Set<string>();
  for (const { path } of ownEntries(view)) if (path.includes('.wh.')) tracked.add(path.toString('latin1'));
  const queue = [''];
  for (let at = queue.pop(); at !== undefined; at = queue.pop()) {
    const directory = Buffer.from(`${tree}/`, 'utf8');
    const here = Buffer.concat([directory, Buffer.from(at, 'latin1')]);
    for (const name of readdirSync(here, { encoding: 'latin1' })) {
      const path = at === '' ? name : `${at}/${name}`;
      if (name.startsWith('.wh.') && !tracked.has(path)) return true;
      if (lstatSync(Buffer.concat([directory, Buffer.from(path, 'latin1')])).isDirectory()) queue.push(path);
    }
  }
  return false;
}

// ---- what was left ---------------------------------------------------------------------------

/** Removes what makers of `name` that were killed have left; call it with the lock of the name held. */
export async function sweepMaking(layers: string, name: string): Promise<void> {
  for (const entry of entriesOf(layers)) {
    if (entry.startsWith(`.making-${name}.`)) await discard(join(layers, entry));
  }
}

async function discard(temporary: string): Promise<void> {
  const merged = join(temporary, 'merged');
  if (!isUnmounted(merged)) await unmountTree(merged);
  await removeTree(temporary);
}
