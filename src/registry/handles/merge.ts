/** Merges a commit into the branch of this work tree, and nothing but that branch moves. */
import { guarded } from '../../arguments.ts';
import { checkRevision } from '../../git/ref-name.ts';
import { Git2dbError } from '../../xet/errors.ts';
import { type GitPlace, requireWorkTree } from '../git-place.ts';
import { signArgs, UTF_8 } from './commit.ts';
import { listConflicts, MergeConflictError } from './conflict.ts';
import { existingHooks, MERGE_HOOKS, NO_HOOKS } from './hooks.ts';
import { type IdentityOptions, identityEnv } from './identity.ts';
import {
  type ComposeOptions,
  composeMerge,
  type MergedTrees,
  type MergeTreesOptions,
  mergeTrees,
} from './merge-trees.ts';
import { requireNoOperation, requireOperation } from './operation.ts';
import { attempt, type Outcome } from './outcome.ts';
import { findCommit, resolveCommit } from './revision.ts';

export interface MergeOptions extends IdentityOptions {
  /** `auto` (unless given): a fast-forward where that is possible; `only`: NOT_FAST_FORWARD otherwise; `never`: always a commit. */
  readonly ff?: 'auto' | 'only' | 'never' | undefined;
  /** Stages what a merge would bring, and commits nothing. */
  readonly squash?: boolean | undefined;
  readonly strategy?: 'ort' | 'recursive' | 'resolve' | 'octopus' | 'ours' | 'subtree' | undefined;
  /** Of the strategy: `ours`, `theirs`, `patience`, `ignore-all-space`, ... */
  readonly strategyOptions?: readonly string[] | undefined;
  readonly message?: string | undefined;
  readonly sign?: boolean | string | undefined;
  readonly allowUnrelated?: boolean | undefined;
  /** False: no hook runs. */
  readonly hooks?: boolean | undefined;
  readonly signal?: AbortSignal | undefined;
}

export interface MergeResult {
  /** `squash`: all is staged, HEAD is where it was. */
  readonly kind: 'up-to-date' | 'fast-forward' | 'merge' | 'squash';
  /** HEAD after it. */
  readonly oid: string;
  readonly hooksSkipped: readonly string[];
}

export interface MergeFunction {
  /** Throws MergeConflictError, WORKTREE_DIRTY, NOT_FAST_FORWARD, HISTORIES_UNRELATED, OPERATION_IN_PROGRESS. */
  (revision: string | readonly string[], options?: MergeOptions): Promise<MergeResult>;
  /** Concludes a merge that has stopped, also one that another process began. Throws NO_OPERATION. */
  continue(
    options?: Pick<MergeOptions, 'message' | 'author' | 'committer' | 'date' | 'sign' | 'hooks' | 'signal'>,
  ): Promise<MergeResult>;
  abort(): Promise<void>;
  /** The merged tree of two commits; nothing but objects is written. */
  trees(options: MergeTreesOptions): Promise<MergedTrees>;
  /** Several heads into one commit that no ref names. */
  compose(options: ComposeOptions): Promise<{ readonly oid: string; readonly tree: string }>;
}

export function mergeFunction(place: GitPlace): MergeFunction {
  return Object.assign(
    guarded(
      'merge',
      ['revision:text|texts', 'options?'],
      (revision: string | readonly string[], options?: MergeOptions) => merge(place, revision, options),
    ),
    {
      continue: guarded('merge.continue', ['options?'], (options: MergeOptions = {}) =>
        continueMerge(place, options),
      ),
      abort: () => abortMerge(place),
      trees: guarded('merge.trees', ['options'], (options: MergeTreesOptions) => mergeTrees(place, options)),
      compose: guarded('merge.compose', ['options'], (options: ComposeOptions) =>
        composeMerge(place, options),
      ),
    },
  );
}

export async function merge(
  place: GitPlace,
  revision: string | readonly string[],
  options: MergeOptions = {},
): Promise<MergeResult> {
  await requireWorkTree(place, 'merge');
  await requireNoOperation(place, 'merge');
  const revisions = (typeof revision === 'string' ? [revision] : revision).map((name) => checkRevision(name));
  if (revisions.length === 0) throw new Git2dbError('USAGE', 'expected a revision to merge, found none');
  if (options.squash === true && options.ff === 'never') {
    throw new Git2dbError(
      'USAGE',
      'a squashed merge has no commit of its own: give squash, or ff "never", not both',
    );
  }
  const targets: string[] = [];
  for (const name of revisions) targets.push(await resolveCommit(place, name));
  const before = await findCommit(place, 'HEAD');

  const args = [
    'merge',
    '--no-edit',
    '--no-stat',
    '--no-progress',
    '--no-autostash',
    FF[options.ff ?? 'auto'],
  ];
  args.push(options.squash === true ? '--squash' : '--no-squash', ...signArgs(options.sign));
  if (options.strategy !== undefined) args.push(`--strategy=${options.strategy}`);
  for (const option of options.strategyOptions ?? []) args.push(`--strategy-option=${option}`);
  if (options.allowUnrelated === true) args.push('--allow-unrelated-histories');
  if (options.message !== undefined) args.push('-m', checkMessage(options.message));
  const { hooksSkipped, config } = await hookSettings(place, options);
  const outcome = await attempt(place, [...args, '--end-of-options', ...revisions], {
    env: { ...identityEnv(options), GIT_EDITOR: ':' },
    config: [UTF_8, ...config],
    signal: options.signal,
  });
  if (outcome.status !== 0) throw await whyStopped(place, outcome, options);
  const oid = (await findCommit(place, 'HEAD'))!;
  if (oid === before)
    return {
      kind: options.squash === true && hasSquash(outcome) ? 'squash' : 'up-to-date',
      oid,
      hooksSkipped,
    };
  const kind = targets.length === 1 && oid === targets[0] ? 'fast-forward' : 'merge';
  return { kind, oid, hooksSkipped };
}

function checkMessage(message: string): string {
  if (!message.includes('\0') && Buffer.byteLength(message) < 100_000) return message;
  throw new Git2dbError(
    'USAGE',
    'expected a message of a merge without NUL bytes, of less than 100000 bytes',
  );
}

const FF = { auto: '--ff', only: '--ff-only', never: '--no-ff' } as const;

function hasSquash({ stdout }: Outcome): boolean {
  return !/^Already up to date/m.test(stdout.toString('utf8'));
}

async function hookSettings(place: GitPlace, options: Pick<MergeOptions, 'hooks'>) {
  const skips = !place.trusted || options.hooks === false;
  return {
    hooksSkipped: skips ? await existingHooks(place, MERGE_HOOKS) : [],
    config: skips ? NO_HOOKS : [],
  };
}

async function whyStopped(place: GitPlace, outcome: Outcome, options: MergeOptions): Promise<Error> {
  const conflicts = await listConflicts(place);
  if (conflicts.length === 0) {
    const hooks = place.trusted && options.hooks !== false ? await existingHooks(place, MERGE_HOOKS) : [];
    return outcome.error(outcome.code === undefined && hooks.length > 0 ? 'HOOK_FAILED' : undefined);
  }
  const { author, committer, date, sign, hooks, squash } = options;
  return new MergeConflictError<MergeResult>('merge', conflicts, place.workTree!, {
    continue: () =>
      squash === true
        ? concludeSquash(place)
        : continueMerge(place, { author, committer, date, sign, hooks }),
    abort: () => (squash === true ? abortSquash(place) : abortMerge(place)),
  });
}

async function continueMerge(place: GitPlace, options: MergeOptions): Promise<MergeResult> {
  await requireOperation(place, 'merge');
  const conflicts = await listConflicts(place);
  if (conflicts.length > 0) {
    throw new MergeConflictError<MergeResult>('merge', conflicts, place.workTree!, {
      continue: () => continueMerge(place, options),
      abort: () => abortMerge(place),
    });
  }
  const { hooksSkipped, config } = await hookSettings(place, options);
  const message = options.message === undefined ? ['--no-edit', '--cleanup=strip'] : ['--file=-'];
  const outcome = await attempt(place, ['commit', '--quiet', ...message, ...signArgs(options.sign)], {
    input: options.message,
    env: { ...identityEnv(options), GIT_EDITOR: ':' },
    config: [UTF_8, ...config],
    signal: options.signal,
  });
  if (outcome.status !== 0) {
    const hooks = place.trusted && options.hooks !== false ? await existingHooks(place, MERGE_HOOKS) : [];
    throw outcome.error(outcome.code === undefined && hooks.length > 0 ? 'HOOK_FAILED' : undefined);
  }
  return { kind: 'merge', oid: (await findCommit(place, 'HEAD'))!, hooksSkipped };
}

async function abortMerge(place: GitPlace): Promise<void> {
  await requireOperation(place, 'merge');
  await place.git(['merge', '--abort']);
}

/** A squashed merge leaves nothing to conclude: what is resolved is staged already. */
async function concludeSquash(place: GitPlace): Promise<MergeResult> {
  const conflicts = await listConflicts(place);
  if (conflicts.length > 0) {
    throw new MergeConflictError<MergeResult>('merge', conflicts, place.workTree!, {
      continue: () => concludeSquash(place),
      abort: () => abortSquash(place),
    });
  }
  return { kind: 'squash', oid: await resolveCommit(place, 'HEAD'), hooksSkipped: [] };
}

async function abortSquash(place: GitPlace): Promise<void> {
  await place.git(['reset', '--quiet', '--merge', 'HEAD', '--']);
}
