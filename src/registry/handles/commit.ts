/** Commits what is staged, with `git commit`: hooks, signing and a merge that is being concluded are git's. */
import { Git2dbError } from '../../xet/errors.ts';
import { type GitPlace, requireWorkTree } from '../git-place.ts';
import { listConflicts, MergeConflictError } from './conflict.ts';
import { COMMIT_HOOKS, existingHooks, NO_HOOKS } from './hooks.ts';
import { dateText, type IdentityOptions, identityEnv, identText } from './identity.ts';
import { findOperation } from './operation.ts';
import { attempt } from './outcome.ts';

export interface CommitOptions extends IdentityOptions {
  /** May be left out for an amended commit, or to conclude a merge, whose own message is then taken. */
  readonly message?: string | undefined;
  /** True: with the configured key; a text: with that key; false: not, whatever the configuration says. */
  readonly sign?: boolean | string | undefined;
  readonly allowEmpty?: boolean | undefined;
  readonly allowEmptyMessage?: boolean | undefined;
  readonly amend?: boolean | undefined;
  /** False: no hook runs. In an untrusted repository none runs anyway. */
  readonly hooks?: boolean | undefined;
  /** Added at the end of the message: `[['Signed-off-by', 'A <a@example.org>']]`. Needs git 2.32. */
  readonly trailers?: readonly (readonly [key: string, value: string])[] | undefined;
  /** What is done to the message; `whitespace` (git's own for a given message) unless given or configured. */
  readonly cleanup?: 'strip' | 'whitespace' | 'verbatim' | 'scissors' | undefined;
  readonly signal?: AbortSignal | undefined;
}

export interface CommitResult {
  readonly oid: string;
  /** Short name of the branch that moved; undefined when detached. */
  readonly branch: string | undefined;
  readonly parents: readonly string[];
  readonly tree: string;
  /** Hooks that are there and did not run, because the repository is not trusted or `hooks` was false. */
  readonly hooksSkipped: readonly string[];
}

export async function commit(place: GitPlace, options: CommitOptions): Promise<CommitResult> {
  await requireWorkTree(place, 'commit');
  const skipsHooks = !place.trusted || options.hooks === false;
  const hooks = await existingHooks(place, COMMIT_HOOKS);
  const args = ['commit', '--quiet', ...messageArgs(options), ...signArgs(options.sign)];
  if (options.amend === true) args.push('--amend');
  if (options.allowEmpty === true) args.push('--allow-empty');
  if (options.allowEmptyMessage === true) args.push('--allow-empty-message');
  if (options.cleanup !== undefined) args.push(`--cleanup=${options.cleanup}`);
  for (const each of options.trailers ?? []) args.push('--trailer', trailer(each?.[0], each?.[1]));
  if (options.amend === true) {
    // With --amend git takes the author from the old commit, and looks at no GIT_AUTHOR_*.
    if (options.author !== undefined) args.push(`--author=${identText(options.author)}`);
    const date = options.author?.date ?? options.date;
    if (date !== undefined) args.push(`--date=${dateText(date)}`);
  }
  const outcome = await attempt(place, args, {
    input: options.message ?? '',
    env: { ...identityEnv(options), GIT_EDITOR: ':' },
    config: [UTF_8, ...(skipsHooks ? NO_HOOKS : [])],
    signal: options.signal,
  });
  if (outcome.status !== 0) {
    if (outcome.code === 'MERGE_CONFLICT') throw await unresolved(place, options);
    const silent = outcome.code === undefined && !skipsHooks && hooks.length > 0;
    throw outcome.error(silent ? 'HOOK_FAILED' : undefined);
  }
  return { ...(await headCommit(place)), hooksSkipped: skipsHooks ? hooks : [] };
}

/** What we hand to git is UTF-8, whatever the user's own editor writes. */
export const UTF_8 = ['i18n.commitEncoding', 'UTF-8'] as const;

/** What HEAD is now. */
export async function headCommit(place: GitPlace): Promise<Omit<CommitResult, 'hooksSkipped'>> {
  const found = await place.objects.read('HEAD^{commit}');
  if (found === undefined) throw new Git2dbError('REF_INVALID', `HEAD of ${place.gitDir} leads to no commit`);
  const { tree, parents } = parseLinks(found.body);
  return { oid: found.oid, tree, parents, branch: await currentBranch(place) };
}

/** Short name of the branch HEAD is on, which need not have a commit; undefined when detached. */
export async function currentBranch(place: GitPlace): Promise<string | undefined> {
  const { stdout, status } = await place.git(['symbolic-ref', '--quiet', 'HEAD'], { okStatus: [0, 1] });
  if (status !== 0) return undefined;
  return stdout
    .toString('utf8')
    .trimEnd()
    .replace(/^refs\/heads\//, '');
}

/** Tree and parents from the head of a commit object. */
export function parseLinks(body: Buffer): { tree: string; parents: string[] } {
  const head = body.toString('latin1', 0, Math.max(0, body.indexOf('\n\n')) || body.length);
  return {
    tree: /^tree ([0-9a-f]+)/.exec(head)?.[1] ?? '',
    parents: [...head.matchAll(/^parent ([0-9a-f]+)/gm)].map((match) => match[1]!),
  };
}

export function signArgs(sign: boolean | string | undefined): string[] {
  if (sign === undefined) return [];
  if (sign === false) return ['--no-gpg-sign'];
  return [sign === true ? '--gpg-sign' : `--gpg-sign=${sign}`];
}

function messageArgs(options: CommitOptions): string[] {
  if (options.message !== undefined) {
    if (options.message.includes('\0'))
      throw new Git2dbError('USAGE', 'a commit message cannot hold a NUL byte');
    return ['--file=-'];
  }
  return ['--no-edit'];
}

export function trailer(key: string, value: string): string {
  if (
    typeof key !== 'string' ||
    typeof value !== 'string' ||
    !/^[A-Za-z0-9][A-Za-z0-9-]*$/.test(key) ||
    /[\0\n]/.test(value)
  ) {
    throw new Git2dbError(
      'USAGE',
      `expected a trailer of letters, digits and "-", with a value of one line, found ${JSON.stringify(`${key}: ${value}`)}`,
    );
  }
  return `${key}: ${value}`;
}

async function unresolved(
  place: GitPlace,
  options: CommitOptions,
): Promise<MergeConflictError<CommitResult>> {
  const operation = await findOperation(place);
  const kind =
    operation?.kind === 'merge' ||
    operation?.kind === 'rebase' ||
    operation?.kind === 'cherry-pick' ||
    operation?.kind === 'revert'
      ? operation.kind
      : 'merge';
  return new MergeConflictError(kind, await listConflicts(place), place.workTree ?? place.gitDir, {
    continue: () => commit(place, options),
    abort: async () => {
      await place.git(
        kind === 'merge'
          ? operation === undefined
            ? ['reset', '--merge']
            : ['merge', '--abort']
          : [kind, '--abort'],
      );
    },
  });
}
