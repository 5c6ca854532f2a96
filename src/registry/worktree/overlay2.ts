/**
 * The driver overlay2: all worktrees of one tree read one layer; each has an upper of its own, and an
 * overlay mount over both.
 */

import { randomBytes } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { makeDirectories } from '../../make-directories.ts';
import type { BackendName } from '../../mount-helper/index.ts';
import { Git2dbError, messageOf } from '../../xet/errors.ts';
import { copyIndex, finishAdmin, isAdminOf, makeAdmin, removeAdmin } from './admin-directory.ts';
import { pinBase, unpinBase } from './base-pin.ts';
import { diskUsage } from './disk-usage.ts';
import type {
  BackendChoice,
  CheckoutTarget,
  DriverContext,
  DriverProbe,
  Rejected,
  StorageDriver,
} from './driver.ts';
import { concernsDriverOnly } from './driver-context.ts';
import { isGuard, openGuarded, removeGuard, removeMadeDirectories, strangersAt } from './guard.ts';
import { runPostCheckout } from './hooks.ts';
import { hashSizeOf, readLayerIndex } from './layer-index.ts';
import { type LayerKey, layerKey } from './layer-key.ts';
import { ensureLayer } from './layer-making.ts';
import {
  bootId,
  findLayer,
  type Layer,
  layerDirectory,
  readLayerRecord,
  syncInBackground,
} from './layer-store.ts';
import { forgetPointers, noteContent } from './note-content.ts';
import { mountTree, TRIAL_PREFIX, treeState, unmountTree } from './overlay-mount.ts';
import { removeTree } from './remove-tree.ts';
import { committerIdentity, readSettings, type Settings } from './settings.ts';
import { shareAdmin } from './shared-modes.ts';
import { compareStat, type StatAgreement } from './stat-agreement.ts';
import { copyWorktreeConfig, setMinimalStat } from './worktree-config.ts';
import { noteState, type WorktreeState } from './worktree-state.ts';
import { readStates, upperOf, worktreeDirectory } from './worktree-store.ts';

export const overlay2: StorageDriver = {
  name: 'overlay2',
  probe: probeOverlay,
  create: createOverlay,
  async open(context, state) {
    return (await ensureMounted(context, state)).state;
  },
  remove: removeOverlay,
  repair: ensureMounted,
  async usage({ home }, state) {
    const ownBytes = await diskUsage(worktreeDirectory(home, state.id));
    const users = readStates(home).states.filter((each) => each.layer !== undefined);
    const shared = [];
    for (const name of layersBelow(home, state.layer)) {
      const sharers = users.filter((each) => layersBelow(home, each.layer).includes(name)).length;
      shared.push({ layer: name, bytes: await diskUsage(layerDirectory(home, name)), sharers });
    }
    return { ownBytes, shared };
  },
};

/** The layer and those it lies over, the topmost first; as far as they are there. */
function layersBelow(home: DriverContext['home'], name: string | undefined): string[] {
  const layer = name === undefined ? undefined : findLayer(home, name);
  return layer === undefined ? [] : layer.trees.map((tree) => tree.split('/').at(-2)!);
}

// ---- trying ----------------------------------------------------------------------------------

/** Homes in which a mount was tried by this process, and with which backend it succeeded. */
const tried = new Map<string, DriverProbe & { works: true }>();

async function probeOverlay(
  context: DriverContext,
  _path: string,
  backend: BackendChoice,
): Promise<DriverProbe> {
  const { home, place } = context;
  const key = `${home.worktrees}\0${backend}`;
  const before = tried.get(key);
  if (before !== undefined) return before;
  const unsuited = unsuitedRepository(await readSettings(context));
  if (unsuited !== undefined) return { works: false, rejected: [{ driver: 'overlay2', reason: unsuited }] };
  const scratch = join(home.worktrees, `${TRIAL_PREFIX}${randomBytes(6).toString('hex')}`);
  const [lower, upper, work, merged] = ['lower', 'upper', 'work', 'merged'].map((name) =>
    join(scratch, name),
  ) as [string, string, string, string];
  for (const directory of [lower, upper, work, merged]) makeDirectories(directory, 0o700);
  writeFileSync(join(lower, 'file'), 'below\n');
  try {
    const mounted = await mountTree({ lowers: [lower], upper, work, merged, backend }, place.env);
    try {
      if (mounted.backend !== 'userns') tryWriting(merged, lower);
    } finally {
      await unmountTree(merged, place.env);
    }
    const rejected = mounted.rejected.map((each) => rejectedBackend(each.backend, each.reason));
    const works = { works: true, backend: mounted.backend, rejected } as const;
    tried.set(key, works);
    return works;
  } catch (error) {
    if (!concernsDriverOnly(error)) throw error;
    return { works: false, rejected: reasonsOf(error) };
  } finally {
    await removeTree(scratch);
  }
}

/** Throws where a mount that stands does not do what it is there for. */
function tryWriting(merged: string, lower: string): void {
  writeFileSync(join(merged, 'file'), 'above\n');
  if (readFileSync(join(lower, 'file'), 'latin1') !== 'below\n') {
    throw new Git2dbError('DRIVER_UNAVAILABLE', 'a trial mount wrote to its lower layer');
  }
}

function rejectedBackend(backend: Rejected['backend'], reason: string): Rejected {
  return { driver: 'overlay2', backend, reason };
}

/** One for each backend that was tried, as far as the error tells them apart. */
export function reasonsOf(error: Git2dbError): readonly Rejected[] {
  const listed = error.data.rejected;
  if (!Array.isArray(listed)) return [{ driver: 'overlay2', reason: messageOf(error) }];
  return listed.map((each: Rejected) => ({ driver: 'overlay2', backend: each.backend, reason: each.reason }));
}

/** Why a shared tree, or admin files written by us, would not do for this repository. */
export function unsuitedRepository(settings: Settings): string | undefined {
  const storage = settings.get('extensions.refstorage');
  if (storage !== undefined && storage !== 'files') {
    return `the repository keeps its refs as ${JSON.stringify(storage)}, and only git itself writes these`;
  }
  if (settings.isTrue('core.sparsecheckout')) {
    return 'the repository has a sparse checkout, and layers hold whole trees';
  }
  return undefined;
}

// ---- making ----------------------------------------------------------------------------------

async function createOverlay(
  context: DriverContext,
  reserved: WorktreeState,
  target: CheckoutTarget,
): Promise<WorktreeState> {
  const { place, home } = context;
  const [settings, identity] = await Promise.all([readSettings(context), committerIdentity(context)]);
  const unsuited = unsuitedRepository(settings);
  if (unsuited !== undefined) throw new Git2dbError('DRIVER_UNAVAILABLE', unsuited);
  const key = await layerKey(context, target.tree, settings);
  let state = noteState(worktreeDirectory(home, reserved.id), reserved, { layer: key.name });
  const layer = await (findLayer(home, key.name) === undefined
    ? makeLayerAndTry(context, key, state)
    : ensureLayer(context, key));
  if (layer.name !== key.name)
    state = noteState(worktreeDirectory(home, state.id), state, layerFields(layer));

  const { commonDir } = place;
  const admin = makeAdmin({ commonDir, path: state.path, target, driver: 'overlay2', identity }, (name) => {
    state = noteState(worktreeDirectory(home, state.id), state, { admin: name });
  });
  const adminDirectory = join(commonDir, 'worktrees', admin);
  pinBase(commonDir, state.id, target.commit);
  const { upper, work } = upperOf(home, state.id);
  mkdirSync(upper);
  mkdirSync(work, { mode: 0o700 });
  writeFileSync(join(upper, '.git'), `gitdir: ${adminDirectory}\n`);
  const mounted = await mountWorktree(context, state, layer);
  copyIndex(layer.index, adminDirectory);
  await copyWorktreeConfig(context, settings, adminDirectory);
  // A mount that only its namespace sees is the kernel's; its layers' numbers are kept as on the kernel's own.
  const agreement = agreementOf(home, layer, mounted.backend!, state.path);
  if (agreement === 'none') {
    throw new Git2dbError(
      'DRIVER_UNAVAILABLE',
      `a ${mounted.backend} mount shows other sizes or times than its layer has, so git would read every file`,
    );
  }
  if (agreement === 'minimal') await setMinimalStat(context, settings, adminDirectory);
  finishAdmin(adminDirectory, 'overlay2', undefined);
  shareAdmin(commonDir, admin, settings);
  await runPostCheckout(context, {
    ...mounted,
    path: state.path,
    gitDir: adminDirectory,
    settings,
    commit: target.commit,
  });
  return { ...state, ...mounted, bootId: bootId() };
}

/** A layer costs as much as a checkout. It is begun while a mount is tried, and given up where there can be none. */
async function makeLayerAndTry(
  context: DriverContext,
  key: LayerKey,
  { path, askedBackend }: WorktreeState,
): Promise<Layer> {
  const failed = new AbortController();
  const signals = [context.signal, failed.signal].filter((signal) => signal !== undefined);
  const trial = probeOverlay(context, path, askedBackend).then((probe) => {
    if (!probe.works) throw unavailable(probe.rejected);
  });
  trial.catch(() => failed.abort());
  const making = ensureLayer({ ...context, signal: AbortSignal.any(signals) }, key, trial);
  const [tried, made] = await Promise.allSettled([trial, making]);
  if (tried.status === 'rejected') throw tried.reason;
  if (made.status === 'rejected') throw made.reason;
  return made.value;
}

/** What mounts of a layer by a backend were found to show; one look is enough for all worktrees of a home. */
const agreements = new Map<string, StatAgreement>();

function agreementOf(
  home: DriverContext['home'],
  layer: Layer,
  backend: BackendName,
  path: string,
): StatAgreement {
  // A mount that only its namespace sees is the kernel's, and keeps the numbers that the kernel's own keeps.
  if (backend === 'userns') return 'full';
  const key = [home.worktrees, layer.directory, layer.record.createdAt, backend].join('\0');
  const known = agreements.get(key);
  if (known !== undefined) return known;
  const found = compareStat(readLayerIndex(layer.index, hashSizeOf(layer.record.tree)), path);
  agreements.set(key, found);
  return found;
}

/** What the record of a worktree says of its layer. */
export function layerFields({ name, record }: Layer): Pick<WorktreeState, 'layer' | 'complete'> {
  return { layer: name, complete: record.completes };
}

export function unavailable(rejected: readonly Rejected[]): Git2dbError {
  const reasons = rejected.map(({ driver, backend, reason }) => `${backend ?? driver}: ${reason}`).join('; ');
  return new Git2dbError('DRIVER_UNAVAILABLE', `overlay worktrees do not work here: ${reasons}`, {
    data: { rejected },
  });
}

export async function mountWorktree(
  { home, place, onProgress }: DriverContext,
  state: WorktreeState,
  layer: Layer,
): Promise<Pick<WorktreeState, 'backend' | 'rejected'>> {
  const guard = openGuarded(state.path, state.id);
  try {
    const mounted = await mountTree(
      {
        ...upperOf(home, state.id),
        lowers: layer.trees,
        merged: state.path,
        backend: state.askedBackend,
      },
      place.env,
    );
    onProgress?.({ kind: 'mounted', backend: mounted.backend });
    const others = state.rejected.filter(({ driver }) => driver !== 'overlay2');
    return {
      backend: mounted.backend,
      rejected: [...others, ...mounted.rejected.map((each) => rejectedBackend(each.backend, each.reason))],
    };
  } finally {
    guard.close();
  }
}

// ---- coming back -----------------------------------------------------------------------------

/** Mounted, with the very layer its upper was made over; or an error, and the upper untouched. */
async function ensureMounted(
  context: DriverContext,
  state: WorktreeState,
): Promise<{ state: WorktreeState; done: readonly string[] }> {
  const { place, home } = context;
  const done: string[] = [];
  const found = await treeState(state.path, place.env);
  if (state.admin === undefined || !isAdminOf(place.commonDir, state.admin, state.path)) {
    throw new Git2dbError(
      'NOT_FOUND',
      `${place.commonDir} no longer has the worktree at ${state.path}; what was changed in it is in ` +
        `${upperOf(home, state.id).upper}: save what you need, then remove the worktree with --force`,
      { data: { path: state.path, upper: upperOf(home, state.id).upper } },
    );
  }
  if (found === 'mounted') return { state, done };
  if (found === 'dead') {
    await unmountTree(state.path, place.env);
    done.push('its server was gone: unmounted');
  }
  const strangers = strangersAt(state.path);
  if (strangers.length > 0) {
    throw new Git2dbError(
      'MERGED_NOT_EMPTY',
      `the worktree ${state.path} is not mounted, and files stand in its place (${strangers.slice(0, 3).join(', ')}; ` +
        'a copy that was made while it was mounted has brought such, or something wrote there since): ' +
        `move that directory out of the way, then repair; its own changes are in ${upperOf(home, state.id).upper}`,
      { data: { path: state.path, upper: upperOf(home, state.id).upper } },
    );
  }
  const { upper, work } = upperOf(home, state.id);
  if (!existsSync(upper)) {
    throw new Git2dbError(
      'NOT_FOUND',
      `${upper} is gone, and with it all that was changed in the worktree ${state.path}: bring it back from a backup, ` +
        'or remove the worktree with --force',
      { data: { path: state.path, upper } },
    );
  }
  const before = readLayerRecord(layerDirectory(home, state.layer ?? ''))?.pending ?? [];
  // Content that came while it was in use.
  let layer = state.complete === undefined ? undefined : findLayer(home, state.complete);
  if (layer !== undefined && (await forgetPointers(context, state, before))) {
    done.push('content that was missing is there');
  } else {
    layer = findLayer(home, state.layer ?? '');
  }
  const isLost = layer === undefined;
  if (layer === undefined) {
    layer = await remakeLayer(context, state);
    if (layer.name !== state.layer) await forgetPointers(context, state, undefined);
    done.push('its layer was lost: made again');
  }
  syncInBackground(layer);
  makeDirectories(work, 0o700);
  const mounted = await mountWorktree(context, state, layer);
  done.push(`mounted (${mounted.backend})`);
  const next = { ...state, ...mounted, ...layerFields(layer), bootId: bootId() };
  if (isLost) await refreshIndex(context, next);
  else if (layer.name !== state.layer) await noteContent(context, next, before, layer);
  return { state: next, done };
}

/** The same bytes, modes and times, or none at all. */
async function remakeLayer(context: DriverContext, state: WorktreeState): Promise<Layer> {
  const settings = await readSettings(context);
  const key = await layerKey(context, state.tree, settings);
  if (key.name !== (state.complete ?? state.layer)) {
    throw new Git2dbError(
      'DRIVER_UNAVAILABLE',
      `the layer of ${state.path} is lost, and git or its settings (attributes, filters, line ends) have changed ` +
        'since it was made, so that another one would come out: undo that change, or save what you need from ' +
        `${upperOf(context.home, state.id).upper} and remove the worktree with --force`,
      { data: { path: state.path, layer: state.layer, found: key.name } },
    );
  }
  return ensureLayer(context, key);
}

/** New inode numbers and ctimes: git compares the contents once, rather than at the next status. */
async function refreshIndex({ place, signal }: DriverContext, state: WorktreeState): Promise<void> {
  if (state.backend === 'userns') return;
  await place.git(['update-index', '-q', '--refresh'], {
    env: { GIT_DIR: join(place.commonDir, 'worktrees', state.admin!), GIT_WORK_TREE: state.path },
    okStatus: [0, 1],
    signal,
  });
}

// ---- removing --------------------------------------------------------------------------------

async function removeOverlay({ place, home }: DriverContext, state: WorktreeState): Promise<void> {
  if (existsSync(state.path) && (await treeState(state.path, place.env)) !== 'unmounted') {
    await unmountTree(state.path, place.env);
  }
  if (isGuard(join(state.path, '.git'))) removeGuard(state.path, state.madeDirectories);
  else removeMadeDirectories(state.madeDirectories);
  if (state.admin !== undefined) await removeAdmin(place.commonDir, state.admin, state.path);
  await unpinBase(place, state.id);
  const { upper, work } = upperOf(home, state.id);
  await removeTree(work);
  await removeTree(upper);
}
