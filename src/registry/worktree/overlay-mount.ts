/** Overlay mounts as worktrees use them, and what can be seen of them in the table of mounts. */
import { readFileSync, statfsSync } from 'node:fs';
import type { BackendName, Mount, Rejection } from '../../mount-helper/index.ts';
import { errnoOf, Git2dbError } from '../../xet/errors.ts';
import type { BackendChoice } from './driver.ts';
import type { WorktreeState } from './worktree-state.ts';

/** Directories in a home for worktrees, for mounts that show whether mounting works. */
export const TRIAL_PREFIX = '.trial-';

export interface TreeMount {
  /** The topmost first. */
  readonly lowers: readonly string[];
  readonly upper: string;
  readonly work: string;
  readonly merged: string;
  readonly backend: BackendChoice;
}

export interface MountedTree {
  readonly merged: string;
  readonly backend: BackendName;
  readonly rejected: readonly Rejection[];
}

/** Tracked files may have names such as `.wh.x`: only the kernel's whiteouts count. */
export async function mountTree(spec: TreeMount, env: NodeJS.ProcessEnv): Promise<MountedTree> {
  const { mount } = await import('../../mount-helper/index.ts');
  const mounted: Mount = await mount({ ...spec, whiteouts: 'kernel' }, { env });
  return { merged: spec.merged, backend: mounted.backend, rejected: mounted.rejected };
}

/** Throws MOUNT_BUSY while somebody uses it. Does nothing where nothing is mounted. */
export async function unmountTree(merged: string, env?: NodeJS.ProcessEnv): Promise<void> {
  const { umount } = await import('../../mount-helper/index.ts');
  try {
    await umount(merged, env === undefined ? {} : { env });
  } catch (error) {
    if (!(error instanceof Git2dbError) || error.code !== 'NOT_MOUNTED') throw error;
  }
  if (isUnmounted(merged)) return;
  throw new Git2dbError(
    'MOUNT_BUSY',
    `something is mounted on ${merged} still, and git2db did not mount it; end that first: umount ${merged}`,
    { data: { merged } },
  );
}

export type TreeState = 'mounted' | 'dead' | 'unmounted';

/** How the mount on `merged` fares, of whatever backend. Throws MOUNT_BUSY for one that cannot be told. */
export async function treeState(merged: string, env: NodeJS.ProcessEnv): Promise<TreeState> {
  const { list } = await import('../../mount-helper/index.ts');
  const place = Buffer.from(merged);
  const there = list({ env }).filter((each) => each.merged.equals(place) && each.state !== 'lost');
  const last = there.at(-1);
  if (last === undefined) return 'unmounted';
  if (last.state === 'mounted' || last.state === 'dead') return last.state;
  throw new Git2dbError(
    'MOUNT_BUSY',
    `the mount on ${merged} is ${last.state}: wait for its end, then try again (git2db-mount list shows it)`,
    { data: { merged, state: last.state } },
  );
}

/** Of an overlay that everybody can see when it is mounted: it is not, or its server has ended. Nobody sees its files. */
export function isOffMount({
  driver,
  backend,
  path,
}: Pick<WorktreeState, 'driver' | 'backend' | 'path'>): boolean {
  if (driver !== 'overlay2' || backend === 'userns') return false;
  return isUnmounted(path) || (backend === 'fuse' && isDead(path));
}

/** A FUSE mount whose server is gone. The kernel may still know the attributes of its root; this it has to ask for. */
function isDead(path: string): boolean {
  try {
    statfsSync(path);
    return false;
  } catch (error) {
    return errnoOf(error) === 'ENOTCONN';
  }
}

/** By the kernel's table, as this process sees it. */
export function isUnmounted(merged: string): boolean {
  const shown = Buffer.from(merged)
    .toString('latin1')
    .replace(/[\\ \t\n#]/g, (character) => `\\${character.charCodeAt(0).toString(8).padStart(3, '0')}`);
  const table = readFileSync('/proc/self/mountinfo', 'latin1');
  return !table.split('\n').some((line) => line.split(' ', 5)[4] === shown);
}
