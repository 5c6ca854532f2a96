/** The driver vfs: a plain directory, made by `git worktree add`. Works wherever git does. */
import { readFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { isAdminOf } from './admin-directory.ts';
import type { CheckoutTarget, DriverContext, StorageDriver } from './driver.ts';
import { entriesOf } from './layer-store.ts';
import { checkThere, directoryUsage, removeDirectoryTree } from './reflink.ts';
import type { WorktreeState } from './worktree-state.ts';

export const vfs: StorageDriver = {
  name: 'vfs',
  async probe() {
    return { works: true, rejected: [] };
  },
  create: addWorktree,
  async open(_context, state) {
    return state;
  },
  async remove(context, state) {
    await removeDirectoryTree(context, { ...state, admin: state.admin ?? adminOf(context, state.path) });
  },
  async repair(context, state) {
    return { state, done: checkThere(context, state) };
  },
  usage: directoryUsage,
};

async function addWorktree(
  context: DriverContext,
  state: WorktreeState,
  { branch, commit }: CheckoutTarget,
): Promise<WorktreeState> {
  const what = branch === undefined ? ['--detach'] : [];
  const where = branch === undefined ? commit : branch.slice('refs/heads/'.length);
  await context.place.git(['worktree', 'add', '--quiet', ...what, '--end-of-options', state.path, where], {
    env: { GIT_DIR: context.place.commonDir },
    config: [['worktree.guessRemote', 'false']],
    signal: context.signal,
  });
  context.onProgress?.({ kind: 'checked-out' });
  const link = /^gitdir: (.+)$/m.exec(readFileSync(join(state.path, '.git'), 'utf8'))?.[1];
  return { ...state, admin: basename(link ?? '') };
}

/** Where git was killed on the way the name is not recorded yet. */
function adminOf({ place }: DriverContext, path: string): string | undefined {
  const names = entriesOf(join(place.commonDir, 'worktrees'));
  return names.find((name) => isAdminOf(place.commonDir, name, path));
}
