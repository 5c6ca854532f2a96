/** Puts the commits of this branch onto another commit. */
import { guarded } from '../../arguments.ts';
import { checkRevision, fullRefName } from '../../git/ref-name.ts';
import { Git2dbError } from '../../xet/errors.ts';
import { type GitPlace, requireWorkTree } from '../git-place.ts';
import { signArgs } from './commit.ts';
import { listConflicts, MergeConflictError } from './conflict.ts';
import { existingHooks, NO_HOOKS, REBASE_HOOKS } from './hooks.ts';
import { type IdentityOptions, identityEnv } from './identity.ts';
import { findOperation, requireNoOperation, requireOperation } from './operation.ts';
import { attempt } from './outcome.ts';
import { findCommit, resolveCommit } from './revision.ts';

/** Authors and their dates stay; `committer` and `date` are for the new commits. */
export interface RebaseOptions extends Omit<IdentityOptions, 'author'> {
  /** Commits reachable from here are not replayed; the branch's upstream unless given, or `onto` where only that is given. */
  readonly upstream?: string | undefined;
  /** Where the commits go; `upstream` unless given. */
  readonly onto?: string | undefined;
  /** A branch to check out first. */
  readonly branch?: string | undefined;
  /** Puts local changes aside and applies them again afterwards. */
  readonly autostash?: boolean | undefined;
  /** Commands for sh(1), run after each commit; one that fails stops the rebase. */
  readonly exec?: readonly string[] | undefined;
  /** Keeps merge commits. */
  readonly rebaseMerges?: boolean | undefined;
  /** Moves `fixup!` and `squash!` commits to those they are for. */
  readonly autosquash?: boolean | undefined;
  /** Replays also where the branch is up to date already. */
  readonly force?: boolean | undefined;
  readonly strategyOptions?: readonly string[] | undefined;
  readonly sign?: boolean | string | undefined;
  readonly hooks?: boolean | undefined;
  readonly signal?: AbortSignal | undefined;
}

export interface RebaseResult {
  readonly kind: 'up-to-date' | 'fast-forward' | 'rebased';
  /** HEAD after it. */
  readonly oid: string;
  /** False where the autostash could not be applied without conflicts: it is in the stash list then. */
  readonly autostashApplied: boolean;
  readonly hooksSkipped: readonly string[];
}

type ResumeOptions = Pick<RebaseOptions, 'committer' | 'date' | 'hooks' | 'signal'>;

export interface RebaseFunction {
  /** Throws MergeConflictError (with `skip`), WORKTREE_DIRTY, OPERATION_IN_PROGRESS, BRANCH_IN_USE. */
  (options?: RebaseOptions): Promise<RebaseResult>;
  continue(options?: ResumeOptions): Promise<RebaseResult>;
  skip(options?: ResumeOptions): Promise<RebaseResult>;
  abort(): Promise<void>;
}

export function rebaseFunction(place: GitPlace): RebaseFunction {
  return Object.assign(
    guarded('rebase', ['options?'], (options?: RebaseOptions) => rebase(place, options)),
    {
      continue: guarded('rebase.continue', ['options?'], (options: ResumeOptions = {}) =>
        resume(place, '--continue', options),
      ),
      skip: guarded('rebase.skip', ['options?'], (options: ResumeOptions = {}) =>
        resume(place, '--skip', options),
      ),
      abort: () => abort(place),
    },
  );
}

export async function rebase(place: GitPlace, options: RebaseOptions = {}): Promise<RebaseResult> {
  await requireWorkTree(place, 'rebase');
  await requireNoOperation(place, 'rebase');
  const args = ['rebase', '--no-stat', '--no-fork-point'];
  args.push(options.autostash === true ? '--autostash' : '--no-autostash');
  args.push(options.rebaseMerges === true ? '--rebase-merges' : '--no-rebase-merges');
  args.push(options.autosquash === true ? '--autosquash' : '--no-autosquash', ...signArgs(options.sign));
  if (options.autosquash === true) args.push('--interactive');
  if (options.force === true) args.push('--force-rebase');
  for (const option of options.strategyOptions ?? []) args.push(`--strategy-option=${option}`);
  for (const command of options.exec ?? []) {
    if (command.trim() === '' || /[\0\n]/.test(command)) {
      throw new Git2dbError(
        'USAGE',
        `expected a command of one line to execute, found ${JSON.stringify(command)}`,
      );
    }
    args.push('--exec', command);
  }
  const upstream = options.upstream ?? options.onto ?? '@{upstream}';
  const base = await resolveCommit(place, upstream);
  if (options.onto !== undefined)
    args.push('--onto', await resolveCommit(place, checkRevision(options.onto)));
  args.push(base);
  if (options.branch !== undefined) {
    fullRefName('branch', options.branch);
    await resolveCommit(place, `refs/heads/${options.branch}`);
    args.push(options.branch);
  }
  const before = await findCommit(
    place,
    options.branch === undefined ? 'HEAD' : `refs/heads/${options.branch}`,
  );
  return run(place, args, before, options);
}

async function run(
  place: GitPlace,
  args: readonly string[],
  before: string | undefined,
  options: RebaseOptions,
): Promise<RebaseResult> {
  const skips = !place.trusted || options.hooks === false;
  const outcome = await attempt(place, args, {
    // GIT_AUTHOR_DATE would be taken for commits that are made anew at a continue.
    env: { ...committerEnv(options), GIT_EDITOR: ':', GIT_SEQUENCE_EDITOR: ':' },
    config: [
      ['rebase.missingCommitsCheck', 'ignore'],
      ['rebase.updateRefs', 'false'],
      ...(skips ? NO_HOOKS : []),
    ],
    signal: options.signal,
  });
  const operation = await findOperation(place);
  if (outcome.status !== 0 || operation?.kind === 'rebase') {
    const conflicts = operation?.kind === 'rebase' ? await listConflicts(place) : [];
    if (conflicts.length > 0) throw stopped(place, conflicts, before, options);
    // An exec that failed, or a commit that git leaves to the caller: it can be continued, and is no conflict.
    throw outcome.error(
      operation?.kind === 'rebase' && outcome.code === undefined ? 'OPERATION_IN_PROGRESS' : undefined,
    );
  }
  const oid = (await findCommit(place, 'HEAD'))!;
  return {
    kind: await kindOf(place, before, oid),
    oid,
    autostashApplied: !/Applying autostash resulted in conflicts/.test(`${outcome.stderr}${outcome.stdout}`),
    hooksSkipped: skips ? await existingHooks(place, REBASE_HOOKS) : [],
  };
}

async function kindOf(
  place: GitPlace,
  before: string | undefined,
  after: string,
): Promise<RebaseResult['kind']> {
  if (before === after) return 'up-to-date';
  if (before === undefined) return 'rebased';
  const { status } = await place.git(['merge-base', '--is-ancestor', before, after], { okStatus: [0, 1] });
  return status === 0 ? 'fast-forward' : 'rebased';
}

function committerEnv(options: RebaseOptions): Record<string, string> {
  const env = identityEnv({ committer: options.committer, date: options.date });
  return Object.fromEntries(Object.entries(env).filter(([name]) => name.startsWith('GIT_COMMITTER_')));
}

function stopped(
  place: GitPlace,
  conflicts: Awaited<ReturnType<typeof listConflicts>>,
  before: string | undefined,
  options: RebaseOptions,
): MergeConflictError<RebaseResult> {
  return new MergeConflictError<RebaseResult>('rebase', conflicts, place.workTree!, {
    continue: () => resume(place, '--continue', options, before),
    skip: () => resume(place, '--skip', options, before),
    abort: () => abort(place),
  });
}

async function resume(
  place: GitPlace,
  how: '--continue' | '--skip',
  options: RebaseOptions,
  before?: string,
): Promise<RebaseResult> {
  await requireOperation(place, 'rebase');
  const start = before ?? (await findCommit(place, 'ORIG_HEAD'));
  if (how === '--continue') {
    const conflicts = await listConflicts(place);
    if (conflicts.length > 0) throw stopped(place, conflicts, start, options);
  }
  return run(place, ['rebase', how], start, options);
}

async function abort(place: GitPlace): Promise<void> {
  await requireOperation(place, 'rebase');
  await place.git(['rebase', '--abort'], { env: { GIT_EDITOR: ':' } });
}
