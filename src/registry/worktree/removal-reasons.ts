/** What would be lost with a worktree: files, operations, commits. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { notMounted } from '../../git/repository.ts';
import { type GitPlace, openPlace } from '../git-place.ts';
import { findWorkInProgress } from '../work-in-progress.ts';
import type { DriverContext } from './driver.ts';
import { enterMount } from './enter-mount.ts';
import { readHead } from './head.ts';
import { entriesOf } from './layer-store.ts';
import { isOffMount } from './overlay-mount.ts';
import type { WorktreeState } from './worktree-state.ts';

export type ReasonKind =
  | 'modified'
  | 'untracked'
  | 'operation'
  | 'unreachable'
  | 'locked'
  | 'submodules'
  | 'unreadable';

export interface RemovalReason {
  readonly kind: ReasonKind;
  /** The worktree. */
  readonly path: string;
  /** One line for a person. */
  readonly message: string;
  /** Files, commits, or names of operations. */
  readonly items: readonly string[];
}

/** Marks in a git directory of what is not finished. */
const OPERATIONS: readonly (readonly [file: string, operation: string])[] = [
  ['MERGE_HEAD', 'merge'],
  ['rebase-merge', 'rebase'],
  ['rebase-apply', 'rebase or am'],
  ['CHERRY_PICK_HEAD', 'cherry-pick'],
  ['REVERT_HEAD', 'revert'],
  ['BISECT_LOG', 'bisect'],
  ['sequencer', 'cherry-pick or revert of several commits'],
];
const SHOWN = 5;
const LISTED_COMMITS = 100;

export function operationsIn(gitDir: string): string[] {
  return [...new Set(OPERATIONS.filter(([file]) => existsSync(join(gitDir, file))).map(([, name]) => name))];
}

/** `state`'s files must be there: an overlay is mounted. */
export async function removalReasons(context: DriverContext, state: WorktreeState): Promise<RemovalReason[]> {
  const { path } = state;
  const gitDir = join(context.place.commonDir, 'worktrees', state.admin ?? '');
  const reasons: RemovalReason[] = [];
  const add = (kind: ReasonKind, what: string, items: readonly string[]): void => {
    if (items.length === 0) return;
    const more = items.length > SHOWN ? ` and ${items.length - SHOWN} more` : '';
    reasons.push({
      kind,
      path,
      items,
      message: `${path}: ${what}: ${items.slice(0, SHOWN).join(', ')}${more}`,
    });
  };
  if (state.lockReason !== undefined) add('locked', 'is locked', [state.lockReason]);
  add('operation', 'in progress', operationsIn(gitDir));
  add('submodules', 'has submodules', existsSync(join(gitDir, 'modules')) ? ['modules'] : []);
  const there = await placeOfWorktree(context.place, gitDir, state);
  const { modified, untracked } = await findWorkInProgress(there, { signal: context.signal });
  add('modified', 'modified files', modified);
  add('untracked', 'untracked files', untracked);
  add('unreachable', 'commits that no branch or tag has', await unreachableCommits(context, gitDir));
  return reasons;
}

/** Git, run in the worktree of `state`. Throws NOT_MOUNTED for an overlay whose files are not there. */
export async function placeOfWorktree(
  place: GitPlace,
  gitDir: string,
  state: WorktreeState,
): Promise<GitPlace> {
  const { path } = state;
  if (isOffMount(state)) throw notMounted(path);
  return openPlace(path, {
    trusted: place.trusted,
    env: place.env,
    ...(state.backend === 'userns'
      ? { enter: enterMount(path), paths: { gitDir, commonDir: place.commonDir, workTree: path } }
      : {}),
  });
}

/** Of HEAD and of the refs that this worktree alone has. Our own refs hold nobody's work. */
async function unreachableCommits({ place, signal }: DriverContext, gitDir: string): Promise<string[]> {
  const { head } = await readHead(place, gitDir);
  const tips = head === undefined ? [] : [head];
  if (entriesOf(join(gitDir, 'refs')).length > 0) {
    const own = await place.text(
      ['for-each-ref', '--format=%(objectname) %(refname)', 'refs/worktree', 'refs/rewritten'],
      { env: { GIT_DIR: gitDir }, signal },
    );
    for (const line of own.split('\n')) {
      const [oid, name] = line.split(' ');
      if (oid && !name!.startsWith('refs/worktree/git2db/')) tips.push(oid);
    }
  }
  if (tips.length === 0) return [];
  const listed = await place.text(
    [
      'rev-list',
      `--max-count=${LISTED_COMMITS}`,
      '--abbrev-commit',
      '--ignore-missing',
      ...tips,
      '--not',
      '--exclude=refs/git2db/*',
      '--exclude=refs/worktree/*',
      '--exclude=refs/bisect/*',
      '--exclude=refs/rewritten/*',
      '--glob=refs/*',
    ],
    { env: { GIT_DIR: place.commonDir }, signal },
  );
  return listed.split('\n').filter((oid) => oid !== '');
}
