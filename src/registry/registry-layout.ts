/**
 * Where things are in a registry. Everything that git2db itself needs lies in `.git2db`, mode 0700.
 *
 *     repos/<name>                    the repositories that were cloned
 *     repos/.git2db-*                 a clone in the making
 *     .git2db/metadata.json           what is known of all of them (metadata.ts)
 *     .git2db/metadata.previous.json  the same, one change ago
 *     .git2db/lock/<n>/               the lock (registry-lock.ts)
 *     .git2db/names/<hash>/           names that are reserved (name-reservation.ts)
 *     .git2db/journal/<id>/           changes under way (journal.ts)
 *     .git2db/moving.json             the registry is being fitted to another place (registry-root.ts)
 *     .git2db/trash/<id>              repositories that are being deleted
 *     .git2db/{worktrees,layers}/     overlay worktrees
 *     .git2db/xet/                    the store of all repositories' large files
 */
import { join } from 'node:path';

export interface RegistryLayout {
  readonly root: string;
  readonly repos: string;
  readonly own: string;
  readonly metadata: string;
  readonly previous: string;
  readonly lock: string;
  readonly names: string;
  readonly journal: string;
  readonly moving: string;
  readonly trash: string;
  readonly worktrees: string;
  readonly layers: string;
  readonly store: string;
  /** Worktrees whose place nobody gave. */
  readonly trees: string;
}

/** What names of repositories must not start with; directories of ours beside them do. */
export const OWN_PREFIX = '.git2db';

export function registryLayout(root: string): RegistryLayout {
  const own = join(root, OWN_PREFIX);
  return {
    root,
    repos: join(root, 'repos'),
    own,
    metadata: join(own, 'metadata.json'),
    previous: join(own, 'metadata.previous.json'),
    lock: join(own, 'lock'),
    names: join(own, 'names'),
    journal: join(own, 'journal'),
    moving: join(own, 'moving.json'),
    trash: join(own, 'trash'),
    worktrees: join(own, 'worktrees'),
    layers: join(own, 'layers'),
    store: join(own, 'xet'),
    trees: join(root, 'worktrees'),
  };
}
