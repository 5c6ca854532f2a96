/**
 * A ref of the whole repository on the commit that an overlay's layer was made of. `git gc` keeps what the
 * refs of single worktrees name only as far as other refs or reflogs do, so that
 * `refs/worktree/git2db/base` alone would not keep it.
 */
import { mkdirSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { errnoOf } from '../../xet/errors.ts';
import type { GitPlace } from '../git-place.ts';

/** Below it: a ref per overlay worktree. Nobody's work hangs on them. */
export const PIN_PREFIX = 'refs/git2db/base/';
const ATTEMPTS = 10;

export function pinBase(commonDir: string, id: string, commit: string): void {
  const file = join(commonDir, `${PIN_PREFIX}${id}`);
  for (let i = 0; ; i++) {
    mkdirSync(dirname(file), { recursive: true });
    try {
      writeFileSync(file, `${commit}\n`);
      return;
    } catch (error) {
      // `git pack-refs` removes directories that it has emptied.
      if (errnoOf(error) !== 'ENOENT' || i >= ATTEMPTS) throw error;
    }
  }
}

/** It may stand among the packed refs by now, so git removes it. */
export async function unpinBase(place: GitPlace, id: string): Promise<void> {
  await place.git(['update-ref', '-d', '--end-of-options', `${PIN_PREFIX}${id}`]);
}
