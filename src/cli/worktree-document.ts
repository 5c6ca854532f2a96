/** What all commands about worktrees say of one. */
import type { Worktree } from '../registry/index.ts';
import { plain } from './present.ts';
import { COMMON_EXIT_CODES } from './registry-options.ts';

export const WORKTREE_KEYS = `{"id","path","branch","head","driver","backend","reachable","mounted",
"locked","foreign","rejected":[{"driver","backend","reason"}]}`;
export const WORKTREE_WORD = 'WORKTREE is its branch, its path or its id.';
export const WORKTREE_EXIT_CODES = [
  [53, 'There is no such repository or worktree; near names are told'],
  COMMON_EXIT_CODES[1],
] as const;

export function documentOf(worktree: Worktree): unknown {
  const { id, path, branch, head, driver, backend, reachable, mounted, locked, foreign, rejected } = worktree;
  return plain({ id, path, branch, head, driver, backend, reachable, mounted, locked, foreign, rejected });
}
