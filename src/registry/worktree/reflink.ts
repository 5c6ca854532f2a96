/**
 * The driver reflink: a directory of its own, whose files share their blocks with a layer or with the main
 * checkout, as far as these have the very blobs that are wanted. Git writes the rest.
 */
import { existsSync, lstatSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { makeDirectories } from '../../make-directories.ts';
import { Git2dbError } from '../../xet/errors.ts';
import { finishAdmin, makeAdmin, removeAdmin, removeIfEmpty } from './admin-directory.ts';
import { checkOut } from './checkout.ts';
import { diskUsage } from './disk-usage.ts';
import { cloneFromDonor, clonesBetween } from './donor.ts';
import type { CheckoutTarget, DriverContext, DriverProbe, StorageDriver } from './driver.ts';
import { removeMadeDirectories } from './guard.ts';
import { runPostCheckout } from './hooks.ts';
import { layerKey } from './layer-key.ts';
import { unsuitedRepository } from './overlay2.ts';
import { removeTree } from './remove-tree.ts';
import { committerIdentity, readSettings } from './settings.ts';
import { shareAdmin } from './shared-modes.ts';
import { copyWorktreeConfig } from './worktree-config.ts';
import { noteState, type WorktreeState } from './worktree-state.ts';
import { worktreeDirectory } from './worktree-store.ts';

export const reflink: StorageDriver = {
  name: 'reflink',
  probe: probeReflink,
  create: createReflink,
  async open(_context, state) {
    return state;
  },
  remove: removeDirectoryTree,
  async repair(context, state) {
    return { state, done: checkThere(context, state) };
  },
  usage: directoryUsage,
};

async function probeReflink(context: DriverContext, path: string): Promise<DriverProbe> {
  const { place, home } = context;
  const no = (reason: string): DriverProbe => ({ works: false, rejected: [{ driver: 'reflink', reason }] });
  const unsuited = unsuitedRepository(await readSettings(context));
  if (unsuited !== undefined) return no(unsuited);
  const target = nearestDirectory(path);
  // A donor's files cannot be tried without touching its directory: one beside it, on the same file system, can.
  const donors = [place.workTree, home.layers].filter((directory) => directory !== undefined);
  const there = donors.map(nearestDirectory);
  if (place.workTree === undefined && there.every((directory) => directory !== home.layers)) {
    return no('there is no checkout whose files could be cloned');
  }
  const own = nearestDirectory(home.worktrees);
  const sameFileSystem = (directory: string) => statSync(directory).dev === statSync(own).dev;
  if (!there.some(sameFileSystem)) return no(`no checkout lies on the file system of ${own}`);
  makeDirectories(home.worktrees, 0o700);
  if (clonesBetween(home.worktrees, target)) return { works: true, rejected: [] };
  return no(`the file system of ${target} does not clone files from that of ${own}`);
}

function nearestDirectory(path: string): string {
  for (let at = path; ; at = dirname(at)) {
    if (lstatSync(at, { throwIfNoEntry: false })?.isDirectory() === true) return at;
  }
}

async function createReflink(
  context: DriverContext,
  reserved: WorktreeState,
  target: CheckoutTarget,
): Promise<WorktreeState> {
  const { place, home, signal } = context;
  const [settings, identity] = await Promise.all([readSettings(context), committerIdentity(context)]);
  const unsuited = unsuitedRepository(settings);
  if (unsuited !== undefined) throw new Git2dbError('DRIVER_UNAVAILABLE', unsuited);
  const key = await layerKey(context, target.tree, settings);
  const { commonDir } = place;
  const { path } = reserved;
  let state = reserved;
  const admin = makeAdmin({ commonDir, path, target, driver: 'reflink', identity }, (name) => {
    state = noteState(worktreeDirectory(home, state.id), state, { admin: name });
  });
  const gitDir = join(commonDir, 'worktrees', admin);
  makeDirectories(path);
  writeFileSync(join(path, '.git'), `gitdir: ${gitDir}\n`);
  await copyWorktreeConfig(context, settings, gitDir);
  const index = join(gitDir, 'index');
  const cloned = await cloneFromDonor(context, key, { workTree: path, index, gitDir });
  if (cloned === 0 && !clonesBetween(gitDir, path)) {
    throw new Git2dbError(
      'DRIVER_UNAVAILABLE',
      `no file could be cloned to ${path}: another driver serves as well`,
    );
  }
  await checkOut(place, { workTree: path, index, gitDir, tree: target.tree, settings, signal });
  context.onProgress?.({ kind: 'checked-out' });
  finishAdmin(gitDir, 'reflink', undefined);
  shareAdmin(commonDir, admin, settings);
  await runPostCheckout(context, { path, gitDir, settings, commit: target.commit });
  return state;
}

// ---- what a directory of its own needs, however it was filled ----------------------------------

/** Removes the directory, if it is the worktree's still, and what the repository has of it. */
export async function removeDirectoryTree({ place }: DriverContext, state: WorktreeState): Promise<void> {
  const { admin, path } = state;
  if (admin !== undefined) {
    const gitDir = join(place.commonDir, 'worktrees', admin);
    if (leadsTo(path, gitDir)) {
      // The .git file goes last: while it is there, what is left is known to be the worktree's.
      await emptyBut(path, '.git');
      await removeTree(join(path, '.git'));
    }
    await removeAdmin(place.commonDir, admin, path);
  }
  removeIfEmpty(place.commonDir);
  removeMadeDirectories(state.madeDirectories);
}

async function emptyBut(path: string, kept: string): Promise<void> {
  for (const name of readdirSync(path, { encoding: 'buffer' })) {
    if (name.toString('latin1') !== kept) await removeTree(Buffer.concat([Buffer.from(`${path}/`), name]));
  }
}

export function leadsTo(path: string, gitDir: string): boolean {
  try {
    return readFileSync(join(path, '.git'), 'utf8').trim() === `gitdir: ${gitDir}`;
  } catch {
    return false;
  }
}

export function checkThere({ place }: DriverContext, state: WorktreeState): readonly string[] {
  const { admin, path } = state;
  const gitDir = join(place.commonDir, 'worktrees', admin ?? '');
  if (admin !== undefined && leadsTo(path, gitDir) && existsSync(join(gitDir, 'HEAD'))) return [];
  throw new Git2dbError(
    'NOT_FOUND',
    `${path} is no worktree of ${place.commonDir} any more: if it was moved, run git worktree repair there; ` +
      'if it is not needed, remove it with --force',
    { data: { path } },
  );
}

export async function directoryUsage(_context: DriverContext, state: WorktreeState) {
  return { ownBytes: await diskUsage(state.path), shared: [] };
}
