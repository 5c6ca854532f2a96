/** Moves the branch (and, by `mode`, the index and the work tree) to another commit. */
import { type GitPlace, requireWorkTree } from '../git-place.ts';
import { resolveCommit } from './revision.ts';

export interface ResetOptions {
  /** The commit to go to, HEAD unless given. */
  readonly to?: string | undefined;
  /**
   * `soft`: only the branch; `mixed` (unless given): the index too; `hard`: the work tree too, changes are lost; `merge`: as hard, but
   * keeps files whose changes are not staged; `keep`: as hard, but refuses where changes would be lost.
   */
  readonly mode?: 'soft' | 'mixed' | 'hard' | 'merge' | 'keep' | undefined;
  readonly signal?: AbortSignal | undefined;
}

export async function reset(place: GitPlace, options: ResetOptions = {}): Promise<{ readonly oid: string }> {
  const mode = options.mode ?? 'mixed';
  if (mode !== 'soft') await requireWorkTree(place, `reset --${mode}`);
  const oid = await resolveCommit(place, options.to ?? 'HEAD');
  await place.git(['reset', '--quiet', `--${mode}`, oid, '--'], { signal: options.signal });
  return { oid };
}
