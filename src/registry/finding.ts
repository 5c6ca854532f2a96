/** What `verify` finds wrong with a registry, and what a look into its directories shares. */
import { readdirSync } from 'node:fs';
import { errnoOf } from '../xet/errors.ts';

export type FindingCode =
  | 'moved'
  | 'permissions'
  | 'missing-directory'
  | 'not-a-repository'
  | 'wrong-bare'
  | 'other-repository'
  | 'stale-remote-url'
  | 'secret-in-url'
  | 'name-collision'
  | 'orphan-repository'
  | 'orphan-directory'
  | 'unfinished-clone'
  | 'unfinished-change'
  | 'stray-file'
  | 'stale-reservation'
  | 'trash'
  | 'orphan-worktree'
  | 'broken-worktree'
  | 'unfinished-worktree'
  | 'unmounted-worktree'
  | 'stale-store-user';

export interface RegistryFinding {
  readonly code: FindingCode;
  /** Absolute; what it is about. */
  readonly path: string;
  /** The repository's, if it is about one. */
  readonly id?: string | undefined;
  /** What was expected and found, in one line. */
  readonly message: string;
  /** What to do, in one line. */
  readonly remedy: string;
  /** `repair` mends it. */
  readonly repairable: boolean;
}

/** The remedy of what is repairable. */
export const BY_REPAIR = 'git2db repair';

/** Sorted; nothing for a directory that is not there. */
export function namesIn(directory: string): string[] {
  try {
    return readdirSync(directory).sort();
  } catch (error) {
    if (errnoOf(error) === 'ENOENT' || errnoOf(error) === 'ENOTDIR') return [];
    throw error;
  }
}
