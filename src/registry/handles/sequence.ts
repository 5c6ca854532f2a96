/** Cherry-picks and reverts: the changes of single commits, forward or back, as new commits on this branch. */
import { guarded } from '../../arguments.ts';
import { checkRevision } from '../../git/ref-name.ts';
import { Git2dbError } from '../../xet/errors.ts';
import { type GitPlace, requireWorkTree } from '../git-place.ts';
import { signArgs } from './commit.ts';
import { listConflicts, MergeConflictError } from './conflict.ts';
import { COMMIT_HOOKS, existingHooks, NO_HOOKS } from './hooks.ts';
import { type IdentityOptions, identityEnv } from './identity.ts';
import { requireNoOperation, requireOperation } from './operation.ts';
import { attempt, type Outcome } from './outcome.ts';
import { findCommit, resolveCommit } from './revision.ts';

export type PickKind = 'cherry-pick' | 'revert';

/** The author of a picked commit stays; `author` counts for reverts only, and `date` not for the author of a pick. */
export interface PickOptions extends IdentityOptions {
  /** Which parent, from 1, a merge commit is compared with. */
  readonly mainline?: number | undefined;
  /** Stages the changes and commits nothing. */
  readonly noCommit?: boolean | undefined;
  /** Adds "(cherry picked from commit ...)" to the message; for a cherry-pick. */
  readonly recordOrigin?: boolean | undefined;
  readonly signoff?: boolean | undefined;
  readonly sign?: boolean | string | undefined;
  readonly strategyOptions?: readonly string[] | undefined;
  /** Commits that change nothing (any more) are kept; without it they stop the operation with NOTHING_TO_COMMIT. */
  readonly keepEmpty?: boolean | undefined;
  readonly hooks?: boolean | undefined;
  readonly signal?: AbortSignal | undefined;
}

export interface PickResult {
  /** HEAD after it. */
  readonly oid: string;
  /** The new commits, oldest first. */
  readonly commits: readonly string[];
  readonly hooksSkipped: readonly string[];
}

export interface PickFunction {
  /** One commit, several in this order, or a range (`a..b`: oldest first; for a revert newest first). */
  (revisions: string | readonly string[], options?: PickOptions): Promise<PickResult>;
  continue(options?: Pick<PickOptions, 'committer' | 'date' | 'hooks' | 'signal'>): Promise<PickResult>;
  skip(options?: Pick<PickOptions, 'committer' | 'date' | 'hooks' | 'signal'>): Promise<PickResult>;
  abort(): Promise<void>;
}

export function pickFunction(place: GitPlace, kind: PickKind): PickFunction {
  return Object.assign(
    guarded(
      kind,
      ['revisions:text|texts', 'options?'],
      (revisions: string | readonly string[], options?: PickOptions) => pick(place, kind, revisions, options),
    ),
    {
      continue: guarded(`${kind}.continue`, ['options?'], (options: PickOptions = {}) =>
        resume(place, kind, '--continue', options),
      ),
      skip: guarded(`${kind}.skip`, ['options?'], (options: PickOptions = {}) =>
        resume(place, kind, '--skip', options),
      ),
      abort: () => abort(place, kind),
    },
  );
}

async function pick(
  place: GitPlace,
  kind: PickKind,
  revisions: string | readonly string[],
  options: PickOptions = {},
): Promise<PickResult> {
  await requireWorkTree(place, kind);
  await requireNoOperation(place, kind);
  const names = (typeof revisions === 'string' ? [revisions] : revisions).map((name) => checkRevision(name));
  if (names.length === 0) throw new Git2dbError('USAGE', `expected a commit to ${kind}, found none`);
  const words: string[] = [];
  for (const name of names)
    words.push(name.includes('..') ? await range(place, name) : await resolveCommit(place, name));
  const before = await findCommit(place, 'HEAD');
  const args: string[] = [kind, ...(kind === 'revert' ? ['--no-edit'] : []), ...signArgs(options.sign)];
  if (options.mainline !== undefined) args.push(`--mainline=${options.mainline}`);
  if (options.noCommit === true) args.push('--no-commit');
  if (options.signoff === true) args.push('--signoff');
  if (kind === 'cherry-pick' && options.recordOrigin === true) args.push('-x');
  if (kind === 'cherry-pick' && options.keepEmpty === true)
    args.push('--allow-empty', '--keep-redundant-commits');
  for (const option of options.strategyOptions ?? []) args.push(`--strategy-option=${option}`);
  return run(place, kind, [...args, ...words], before, options);
}

/** `a..b` by object ids, so that no name is an option. */
async function range(place: GitPlace, text: string): Promise<string> {
  const parts = text.split('..');
  if (parts.length !== 2 || text.includes('...')) {
    throw new Git2dbError(
      'REF_INVALID',
      `expected a commit or a range such as a..b, found ${JSON.stringify(text)}`,
    );
  }
  const [from, to] = parts as [string, string];
  return `${await resolveCommit(place, from || 'HEAD')}..${await resolveCommit(place, to || 'HEAD')}`;
}

async function run(
  place: GitPlace,
  kind: PickKind,
  args: readonly string[],
  before: string | undefined,
  options: PickOptions,
): Promise<PickResult> {
  const skips = !place.trusted || options.hooks === false;
  const outcome = await attempt(place, args, {
    env: { ...pickEnv(kind, options), GIT_EDITOR: ':' },
    config: skips ? NO_HOOKS : [],
    signal: options.signal,
  });
  if (outcome.status !== 0) throw await whyStopped(place, kind, outcome, before, options);
  const oid = (await findCommit(place, 'HEAD'))!;
  const listed =
    before === oid
      ? ''
      : await place.text(['rev-list', '--reverse', before === undefined ? oid : `${before}..${oid}`]);
  return {
    oid,
    commits: listed.split('\n').filter(Boolean),
    hooksSkipped: skips ? await existingHooks(place, COMMIT_HOOKS) : [],
  };
}

/** GIT_AUTHOR_* would be the author of picked commits too. */
function pickEnv(kind: PickKind, options: PickOptions): Record<string, string> {
  const env = identityEnv(options);
  if (kind === 'revert') return env;
  return Object.fromEntries(Object.entries(env).filter(([name]) => !name.startsWith('GIT_AUTHOR_')));
}

async function whyStopped(
  place: GitPlace,
  kind: PickKind,
  outcome: Outcome,
  before: string | undefined,
  options: PickOptions,
): Promise<Error> {
  const conflicts = await listConflicts(place);
  if (conflicts.length === 0 && outcome.code === 'NOTHING_TO_COMMIT') {
    const keep = kind === 'revert' ? '' : ', or abort and pick anew with empty commits kept';
    return new Git2dbError(
      'NOTHING_TO_COMMIT',
      `the ${kind} in ${place.workTree} has come to a commit that changes nothing here: skip it, or abort${keep}`,
    );
  }
  if (conflicts.length === 0) return outcome.error(outcome.code);
  return conflictError(place, kind, conflicts, before, options);
}

function conflictError(
  place: GitPlace,
  kind: PickKind,
  conflicts: Awaited<ReturnType<typeof listConflicts>>,
  before: string | undefined,
  options: PickOptions,
): MergeConflictError<PickResult> {
  return new MergeConflictError<PickResult>(kind, conflicts, place.workTree!, {
    continue: () => resume(place, kind, '--continue', options, before),
    abort: () => (options.noCommit === true ? undo(place) : abort(place, kind)),
    skip: () => resume(place, kind, '--skip', options, before),
  });
}

async function resume(
  place: GitPlace,
  kind: PickKind,
  how: '--continue' | '--skip',
  options: PickOptions,
  before?: string,
): Promise<PickResult> {
  const start = before ?? (await findCommit(place, 'HEAD'));
  if (how === '--continue') {
    const conflicts = await listConflicts(place);
    if (conflicts.length > 0) throw conflictError(place, kind, conflicts, start, options);
  }
  // Without a commit git keeps no operation to continue: what was resolved is staged, as was asked.
  if (options.noCommit === true)
    return { oid: (await findCommit(place, 'HEAD')) ?? '', commits: [], hooksSkipped: [] };
  await requireOperation(place, kind);
  return run(place, kind, [kind, how], start, options);
}

async function abort(place: GitPlace, kind: PickKind): Promise<void> {
  await requireOperation(place, kind);
  await place.git([kind, '--abort']);
}

async function undo(place: GitPlace): Promise<void> {
  await place.git(['reset', '--quiet', '--merge', 'HEAD', '--']);
}
