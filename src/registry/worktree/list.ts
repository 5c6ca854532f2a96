/** Looking worktrees up. */
import { basename, join } from 'node:path';
import { listWorktrees as listOfGit } from '../../git/worktrees.ts';
import { NotFoundError } from '../errors.ts';
import type { GitPlace } from '../git-place.ts';
import { lockReasonOf } from './admin-directory.ts';
import type { WorktreeHome } from './driver.ts';
import { driverContext } from './driver-context.ts';
import { realPathOf } from './target-path.ts';
import { Worktree } from './worktree.ts';
import type { WorktreeState } from './worktree-state.ts';
import { listStates } from './worktree-store.ts';

export interface ListOptions {
  readonly signal?: AbortSignal | undefined;
}

/** All linked worktrees, those that git alone knows of too; not the main one. In the order of their paths. */
export async function listWorktrees(
  place: GitPlace,
  home: WorktreeHome,
  options: ListOptions = {},
): Promise<Worktree[]> {
  const context = await driverContext(place, home, options);
  const { commonDir } = context.place;
  const states = listStates(home, commonDir);
  const listed = await listOfGit(context.place, { signal: options.signal, env: context.place.env });
  const worktrees: Worktree[] = [];
  for (const { main, gitDir, path, branch, head } of listed) {
    if (main) continue;
    const admin = basename(gitDir);
    const state = states.find((each) => each.admin === admin && each.path === path);
    if (state !== undefined && state.step !== 'ready') continue;
    const locked = lockReasonOf(gitDir);
    const known = state ?? foreignState(commonDir, admin, path, branch, head);
    worktrees.push(
      new Worktree(context, known, gitDir, { branch, head, locked, foreign: state === undefined }),
    );
  }
  return worktrees.sort((a, b) => (a.path < b.path ? -1 : 1));
}

/** By id, path or branch (in this order). Throws NOT_FOUND, with what there is. */
export async function openWorktree(
  place: GitPlace,
  home: WorktreeHome,
  branchOrPathOrId: string,
  options: ListOptions = {},
): Promise<Worktree> {
  const worktrees = await listWorktrees(place, home, options);
  const found = pick(worktrees, branchOrPathOrId);
  if (found !== undefined) return found;
  throw notFound(place, branchOrPathOrId, worktrees);
}

function pick(worktrees: readonly Worktree[], wanted: string): Worktree | undefined {
  const path = wanted.includes('/') ? pathOf(wanted) : undefined;
  return (
    worktrees.find(({ id }) => id === wanted) ??
    worktrees.find((each) => each.path === path) ??
    worktrees.find(({ branch }) => branch !== undefined && branch === wanted.replace(/^refs\/heads\//, '')) ??
    only(worktrees.filter((each) => basename(each.path) === wanted))
  );
}

/** Two with the same last part are told apart by their paths. */
function only(worktrees: readonly Worktree[]): Worktree | undefined {
  return worktrees.length === 1 ? worktrees[0] : undefined;
}

function pathOf(text: string): string | undefined {
  try {
    return realPathOf(text.startsWith('/') ? text : join(process.cwd(), text));
  } catch {
    return undefined;
  }
}

export function notFound(place: GitPlace, wanted: string, worktrees: readonly Worktree[]): NotFoundError {
  const names = worktrees.map(({ branch, path }) => branch ?? path);
  const last = wanted.slice(wanted.lastIndexOf('/') + 1).toLowerCase();
  const near = names.filter((name) => name.toLowerCase().includes(last));
  return new NotFoundError(
    `${place.commonDir} has no worktree ${JSON.stringify(wanted)}`,
    (near.length > 0 ? near : names).slice(0, 5),
    { data: { wanted } },
  );
}

/** A worktree that git made: a plain directory, of which we keep no record. */
export function foreignState(
  commonDir: string,
  admin: string,
  path: string,
  branch: string | undefined,
  head: string | undefined,
): WorktreeState {
  const none = '0'.repeat(40);
  return {
    version: 1,
    id: admin,
    step: 'ready',
    driver: 'vfs',
    askedBackend: 'auto',
    rejected: [],
    commonDir,
    admin,
    path,
    madeDirectories: [path],
    ref: branch ?? head ?? none,
    branch,
    base: head ?? none,
    tree: none,
    ephemeral: false,
    createdAt: '',
  };
}
