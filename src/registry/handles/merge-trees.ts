/**
 * Merges without a work tree (`git merge-tree --write-tree`, git 2.38): results are objects, no ref and no file
 * changes. Output with `-z`:
 *
 *     <tree> NUL { <mode> SP <oid> SP <stage> TAB <path> NUL } NUL { <n> NUL <path>*n NUL <type> NUL <message> NUL }
 */
import { requireGit } from '../../git/version.ts';
import { Git2dbError } from '../../xet/errors.ts';
import type { GitPlace } from '../git-place.ts';
import { parseLinks } from './commit.ts';
import { type Conflict, conflictsOf, MergeConflictError } from './conflict.ts';
import { type IdentityOptions, identityEnv } from './identity.ts';
import { attempt } from './outcome.ts';
import { resolveCommit } from './revision.ts';

export interface MergedTrees {
  /** The merged tree; files with conflicts hold their markers. */
  readonly tree: string;
  readonly isClean: boolean;
  readonly conflicts: readonly Conflict[];
  /** What git says of the merge, a line each. */
  readonly messages: readonly string[];
}

export interface MergeTreesOptions {
  readonly ours: string;
  readonly theirs: string;
  /** The common ancestor; found by git unless given. Giving it needs git 2.40. */
  readonly base?: string | undefined;
  readonly allowUnrelated?: boolean | undefined;
  readonly signal?: AbortSignal | undefined;
}

export interface ComposeOptions extends IdentityOptions {
  /** First parent of the result. */
  readonly base: string;
  /** Merged one after the other, each into what came of those before. */
  readonly heads: readonly string[];
  readonly message: string;
  readonly signal?: AbortSignal | undefined;
}

export async function mergeTrees(place: GitPlace, options: MergeTreesOptions): Promise<MergedTrees> {
  await requireGit('2.38', 'merging without a work tree');
  if (options.base !== undefined) await requireGit('2.40', 'merging trees with a given base');
  const args = ['merge-tree', '--write-tree', '-z', '--messages'];
  if (options.allowUnrelated === true) args.push('--allow-unrelated-histories');
  if (options.base !== undefined) args.push(`--merge-base=${await resolveCommit(place, options.base)}`);
  args.push(await resolveCommit(place, options.ours), await resolveCommit(place, options.theirs));
  const outcome = await attempt(place, args, { signal: options.signal });
  if (outcome.status > 1) throw outcome.error();
  return parseMergeTree(outcome.stdout, outcome.status === 0);
}

/**
 * An octopus of `base` and `heads`: a commit that no ref names, with base as its first parent. Throws
 * MergeConflictError, HISTORIES_UNRELATED, and USAGE for no heads or for base among them.
 */
export async function composeMerge(
  place: GitPlace,
  options: ComposeOptions,
): Promise<{ readonly oid: string; readonly tree: string }> {
  const base = await resolveCommit(place, options.base);
  const heads: string[] = [];
  for (const head of options.heads) {
    const oid = await resolveCommit(place, head);
    if (oid === base)
      throw new Git2dbError('USAGE', `the base ${options.base} is among the heads to merge into it`, {
        data: { base, head },
      });
    if (!heads.includes(oid)) heads.push(oid);
  }
  if (heads.length === 0) throw new Git2dbError('USAGE', 'expected at least one head to merge, found none');
  const run = { env: identityEnv(options), signal: options.signal };
  let tip = base;
  let tree = parseLinks((await place.objects.read(base))!.body).tree;
  for (const [index, head] of heads.entries()) {
    const merged = await mergeTrees(place, { ours: tip, theirs: head, signal: options.signal });
    if (!merged.isClean) {
      throw new MergeConflictError('merge-trees', merged.conflicts, place.commonDir, {
        continue: () => composeMerge(place, options),
        abort: () => Promise.resolve(),
      });
    }
    tree = merged.tree;
    // Only there so that the next merge finds the right common ancestors.
    if (index < heads.length - 1) {
      tip = await place.text(['commit-tree', '-p', tip, '-p', head, '-m', 'intermediate', tree], run);
    }
  }
  const parents = [base, ...heads].flatMap((parent) => ['-p', parent]);
  const oid = await place.text(['commit-tree', ...parents, '-F', '-', tree], {
    ...run,
    input: options.message,
  });
  return { oid, tree };
}

export function parseMergeTree(output: Buffer, isClean: boolean): MergedTrees {
  const pieces = output.toString('latin1').split('\0');
  const tree = pieces[0] ?? '';
  let at = 1;
  const files: Buffer[] = [];
  while (at < pieces.length && pieces[at] !== '') files.push(Buffer.from(pieces[at++]!, 'latin1'));
  at++;
  const messages: string[] = [];
  while (at < pieces.length - 1) {
    const count = Number(pieces[at]);
    if (!Number.isSafeInteger(count)) break;
    const message = pieces[at + count + 2];
    if (message !== undefined) messages.push(Buffer.from(message, 'latin1').toString('utf8').trimEnd());
    at += count + 3;
  }
  return { tree, isClean, conflicts: conflictsOf(files), messages };
}
