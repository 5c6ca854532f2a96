/**
 * `learned/` (src/xet/transfer/learned-chunks.ts) is a cache that only grows while fetches go on: gc bounds it. What
 * goes is read anew by a fetch that would need it.
 */
import { rmdirSync, rmSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { errnoOf } from '../../errors.ts';
import { isHashString } from '../../hash/xet-hash.ts';
import type { StoreLayout } from '../layout.ts';
import { namesIn } from '../names-in.ts';

/** Lists that nothing was added to for so long: of a file whose next version never came. */
export const LEARNED_MAX_AGE_MS = 30 * 86_400_000;
/** All lists together: of a hundred GiB of content or so. */
export const LEARNED_MAX_BYTES = 64 << 20;

export interface LearnedLimits {
  /** Milliseconds since 1970. */
  readonly now: number;
  readonly maxBytes?: number;
  /** False: only tell what would go. */
  readonly prune: boolean;
}

/** Bytes of the lists that went: those that are old, and then the oldest while there are too many. */
export function pruneLearned({ learned }: StoreLayout, limits: LearnedLimits): number {
  const { now, maxBytes = LEARNED_MAX_BYTES, prune } = limits;
  const lists = listsIn(learned).sort((a, b) => b.modifiedMs - a.modifiedMs);
  let kept = 0;
  let gone = 0;
  for (const { path, size, modifiedMs } of lists) {
    // One from the future is as good as old: its time says nothing.
    const isOld = Math.abs(now - modifiedMs) > LEARNED_MAX_AGE_MS;
    if (!isOld && kept + size <= maxBytes) {
      kept += size;
      continue;
    }
    if (prune) unlessGone(() => rmSync(path));
    gone += size;
  }
  if (prune) for (const name of namesIn(learned)) unlessGone(() => rmdirSync(join(learned, name)));
  return gone;
}

interface List {
  readonly path: string;
  readonly size: number;
  readonly modifiedMs: number;
}

function listsIn(root: string): List[] {
  return namesIn(root).flatMap((folder) =>
    namesIn(join(root, folder)).flatMap((name): List[] => {
      const path = join(root, folder, name);
      const stat = statSync(path, { throwIfNoEntry: false });
      if (stat === undefined || !stat.isFile() || !isHashString(name)) return [];
      return [{ path, size: stat.size, modifiedMs: stat.mtimeMs }];
    }),
  );
}

/** A fetch may be writing there; and a directory that holds something stays. */
function unlessGone(remove: () => void): void {
  try {
    remove();
  } catch (error) {
    const errno = errnoOf(error);
    if (errno !== 'ENOENT' && errno !== 'ENOTEMPTY' && errno !== 'EEXIST' && errno !== 'ENOTDIR') throw error;
  }
}
