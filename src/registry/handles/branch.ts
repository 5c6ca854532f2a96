/** Branches by their short names (`topic/x`). */
import { guardMethods } from '../../arguments.ts';
import { checkRemoteName, fullRefName } from '../../git/ref-name.ts';
import type { Git2dbError } from '../../xet/errors.ts';
import { ReferenceError_ } from '../errors.ts';
import { type GitPlace, requireWorkTree } from '../git-place.ts';
import { nearMatches } from '../near-matches.ts';
import { currentBranch } from './commit.ts';
import { CHECKOUT_HOOKS, existingHooks, NO_HOOKS } from './hooks.ts';
import { attempt } from './outcome.ts';
import { findCommit, resolveCommit } from './revision.ts';

export interface Branch {
  /** Short name: `main`, or `origin/main` for a remote-tracking branch. */
  readonly name: string;
  /** Full name. */
  readonly ref: string;
  readonly oid: string;
  readonly isRemote: boolean;
  /** HEAD of this place is on it. */
  readonly isHead: boolean;
  readonly upstream: Upstream | undefined;
  /** The work tree that has it checked out. */
  readonly worktree: string | undefined;
}

export interface Upstream {
  /** Short name, such as `origin/main`. */
  readonly name: string;
  readonly ref: string;
  /** The remote's name; undefined when the upstream is a branch of this repository. */
  readonly remote: string | undefined;
  /** The configured branch is not there (any more). */
  readonly isGone: boolean;
  readonly ahead: number | undefined;
  readonly behind: number | undefined;
}

export interface BranchListOptions {
  /** `local` unless given. */
  readonly scope?: 'local' | 'remote' | 'all' | undefined;
  readonly merged?: string | undefined;
  readonly noMerged?: string | undefined;
  readonly contains?: string | undefined;
  /** Counts commits ahead and behind of upstreams, which takes a walk for each; true unless given. */
  readonly counts?: boolean | undefined;
  readonly signal?: AbortSignal | undefined;
}

export interface CreateOptions {
  /** The upstream; true: the remote-tracking or local branch that it starts from. */
  readonly track?: boolean | string | undefined;
  /** Moves a branch that is there already. */
  readonly force?: boolean | undefined;
  readonly signal?: AbortSignal | undefined;
}

export interface CheckoutOptions {
  /** Makes the branch first, at this revision (or at HEAD: true). */
  readonly create?: boolean | string | undefined;
  /** Checks out the commit itself, on no branch. */
  readonly detach?: boolean | undefined;
  /** Throws away local changes that are in the way. */
  readonly force?: boolean | undefined;
  /** Carries local changes over by a three-way merge. */
  readonly merge?: boolean | undefined;
  readonly signal?: AbortSignal | undefined;
}

export interface CheckoutResult {
  /** Undefined when HEAD is detached now. */
  readonly branch: string | undefined;
  readonly oid: string | undefined;
  readonly hooksSkipped: readonly string[];
}

export interface Comparison {
  /** Commits that only the first has. */
  readonly ahead: number;
  /** Commits that only the second has. */
  readonly behind: number;
  /** The best common ancestors; none for unrelated histories. */
  readonly mergeBases: readonly string[];
}

const SEPARATOR = '%00';
const FIELDS = [
  'refname',
  'objectname',
  'HEAD',
  'upstream',
  'upstream:remotename',
  'upstream:track',
  'worktreepath',
  'symref',
];

export class BranchManager {
  readonly #place: GitPlace;

  constructor(place: GitPlace) {
    this.#place = place;
  }

  /** By name. The symbolic `origin/HEAD` is left out. */
  async list(options: BranchListOptions = {}): Promise<Branch[]> {
    const scope = options.scope ?? 'local';
    const fields = FIELDS.map((field) =>
      options.counts === false && field === 'upstream:track' ? 'upstream:remoteref' : field,
    );
    const args = ['for-each-ref', `--format=${fields.map((field) => `%(${field})`).join(SEPARATOR)}`];
    if (options.merged !== undefined)
      args.push(`--merged=${await resolveCommit(this.#place, options.merged)}`);
    if (options.noMerged !== undefined)
      args.push(`--no-merged=${await resolveCommit(this.#place, options.noMerged)}`);
    if (options.contains !== undefined)
      args.push(`--contains=${await resolveCommit(this.#place, options.contains)}`);
    if (scope !== 'remote') args.push('refs/heads');
    if (scope !== 'local') args.push('refs/remotes');
    const text = await this.#place.text(args, { signal: options.signal });
    if (text === '') return [];
    return text
      .split('\n')
      .map((line) => line.split('\0'))
      .filter(([, , , , , , , symbolic]) => symbolic === '')
      .map((parts) => parseBranch(parts, options.counts !== false));
  }

  /** Short name of the branch HEAD is on, also before its first commit; undefined when detached. */
  current(): Promise<string | undefined> {
    return currentBranch(this.#place);
  }

  async exists(name: string): Promise<boolean> {
    return (await this.#place.objects.info(fullRefName('branch', name))) !== undefined;
  }

  /** Makes a branch at the revision `from` (HEAD unless given), and checks nothing out. */
  async create(name: string, from = 'HEAD', options: CreateOptions = {}): Promise<Branch> {
    const ref = fullRefName('branch', name);
    await resolveCommit(this.#place, from);
    const track = options.track ?? false;
    const args = ['branch', ...(options.force === true ? ['--force'] : [])];
    args.push(
      track === false || typeof track === 'string' ? '--no-track' : '--track',
      '--end-of-options',
      name,
      from,
    );
    await this.#place.git(args, { signal: options.signal });
    if (typeof track === 'string') await this.setUpstream(name, track);
    return this.#get(ref);
  }

  /**
   * Checks out a branch (or `detach`: any commit) in this work tree. A name that only a remote-tracking
   * branch has is no branch: make one with `create`. Throws BRANCH_IN_USE, WORKTREE_DIRTY, REF_INVALID.
   */
  async checkout(name: string, options: CheckoutOptions = {}): Promise<CheckoutResult> {
    await requireWorkTree(this.#place, 'checkout');
    const args = [
      'checkout',
      '--quiet',
      '--no-guess',
      '--no-recurse-submodules',
      ...(options.force === true ? ['--force'] : []),
      ...(options.merge === true ? ['--merge'] : []),
    ];
    if (options.detach === true) {
      args.push('--detach', await resolveCommit(this.#place, name));
    } else if (options.create !== undefined && options.create !== false) {
      fullRefName('branch', name);
      const unborn = options.create === true && (await findCommit(this.#place, 'HEAD')) === undefined;
      args.push('--no-track', '-b', name);
      if (!unborn)
        args.push(await resolveCommit(this.#place, options.create === true ? 'HEAD' : options.create));
    } else {
      const ref = fullRefName('branch', name);
      if ((await this.#place.objects.info(ref)) === undefined) throw await this.#noBranch(name);
      args.push(name);
    }
    const hooks = this.#place.trusted ? [] : await existingHooks(this.#place, CHECKOUT_HOOKS);
    const outcome = await attempt(this.#place, [...args, '--'], {
      config: this.#place.trusted ? [] : NO_HOOKS,
      signal: options.signal,
    });
    // A post-checkout hook that fails changes the status, and nothing else.
    if (outcome.status !== 0) throw outcome.error();
    return {
      branch: await this.current(),
      oid: await findCommit(this.#place, 'HEAD'),
      hooksSkipped: hooks,
    };
  }

  /** Renames a branch; its reflog, configuration and any HEAD on it follow. */
  async rename(
    from: string,
    to: string,
    options: { readonly force?: boolean | undefined } = {},
  ): Promise<Branch> {
    fullRefName('branch', from);
    const ref = fullRefName('branch', to);
    const flag = options.force === true ? '-M' : '-m';
    await this.#place.git(['branch', flag, '--end-of-options', from, to]);
    return this.#get(ref);
  }

  /**
   * Deletes a branch. Without `force` NOT_MERGED is thrown unless its commits are in its upstream (without
   * one: in HEAD). Never one that a worktree has checked out: BRANCH_IN_USE.
   */
  async delete(
    name: string,
    options: { readonly force?: boolean | undefined } = {},
  ): Promise<{ readonly oid: string }> {
    const { oid } = await this.#get(fullRefName('branch', name));
    await this.#place.git([
      'branch',
      '--delete',
      ...(options.force === true ? ['--force'] : []),
      '--end-of-options',
      name,
    ]);
    return { oid };
  }

  /** `delete`, by the name it first had. */
  remove(
    name: string,
    options: { readonly force?: boolean | undefined } = {},
  ): Promise<{ readonly oid: string }> {
    return this.delete(name, options);
  }

  /** `upstream` is a remote-tracking or local branch (`origin/main`), or a remote and a branch of it. */
  async setUpstream(
    name: string,
    upstream: string | { readonly remote: string; readonly branch: string },
  ): Promise<void> {
    await this.#get(fullRefName('branch', name));
    if (typeof upstream === 'string') {
      await resolveCommit(this.#place, upstream);
      await this.#place.git(['branch', `--set-upstream-to=${upstream}`, '--end-of-options', name]);
      return;
    }
    // Also for a branch that was not fetched yet.
    const merge = fullRefName('branch', upstream.branch);
    await this.#place.git(['config', `branch.${name}.remote`, checkRemoteName(upstream.remote)]);
    await this.#place.git(['config', `branch.${name}.merge`, merge.replace(/^refs\/tags/, 'refs/heads')]);
  }

  async unsetUpstream(name: string): Promise<void> {
    const branch = await this.#get(fullRefName('branch', name));
    if (branch.upstream === undefined && (await this.#configured(name)) === undefined) return;
    await this.#place.git(['branch', '--unset-upstream', '--end-of-options', name]);
  }

  /** Branches whose commits are all in `into` (HEAD unless given), but for `into` itself where it is a branch. */
  async merged(into = 'HEAD', options: Omit<BranchListOptions, 'merged'> = {}): Promise<Branch[]> {
    return this.list({ ...options, merged: into });
  }

  /** How two revisions stand to each other. */
  async compare(a: string, b: string): Promise<Comparison> {
    const left = await resolveCommit(this.#place, a);
    const right = await resolveCommit(this.#place, b);
    const counted = await this.#place.text(['rev-list', '--left-right', '--count', `${left}...${right}`]);
    const [ahead, behind] = counted.split('\t').map(Number) as [number, number];
    const { stdout } = await this.#place.git(['merge-base', '--all', left, right], { okStatus: [0, 1] });
    return { ahead, behind, mergeBases: stdout.toString('latin1').split('\n').filter(Boolean) };
  }

  async get(name: string): Promise<Branch> {
    return this.#get(fullRefName('branch', name));
  }

  async #get(ref: string): Promise<Branch> {
    const format = FIELDS.map((field) => `%(${field})`).join(SEPARATOR);
    const text = await this.#place.text(['for-each-ref', `--format=${format}`, ref]);
    const line = text.split('\n').find((found) => found.startsWith(`${ref}\0`));
    if (line === undefined) throw await this.#noBranch(ref.replace(/^refs\/heads\//, ''));
    return parseBranch(line.split('\0'), true);
  }

  async #configured(name: string): Promise<string | undefined> {
    const { stdout } = await this.#place.git(['config', '--get', `branch.${name}.merge`], {
      okStatus: [0, 1],
    });
    return stdout.toString('utf8').trimEnd() || undefined;
  }

  async #noBranch(name: string): Promise<Git2dbError> {
    const text = await this.#place.text([
      'for-each-ref',
      '--format=%(refname:lstrip=2)',
      'refs/heads',
      'refs/remotes',
    ]);
    const near = nearMatches(name, text.split('\n').filter(Boolean));
    const hint =
      near.length === 0 ? '' : `; did you mean ${near.map((other) => JSON.stringify(other)).join(', ')}?`;
    return new ReferenceError_(
      `there is no branch ${JSON.stringify(name)} in ${this.#place.commonDir}${hint}`,
      {
        data: { name, near },
      },
    );
  }
}

function parseBranch(parts: readonly string[], counts: boolean): Branch {
  const [ref, oid, head, upstream, remote, track, worktree] = parts as [
    string,
    string,
    string,
    string,
    string,
    string,
    string,
  ];
  const isRemote = ref.startsWith('refs/remotes/');
  const numbers = /^\[(?:ahead (\d+))?(?:, )?(?:behind (\d+))?\]$/.exec(track);
  const isGone = track === '[gone]';
  return {
    name: ref.replace(/^refs\/(?:heads|remotes)\//, ''),
    ref,
    oid,
    isRemote,
    isHead: head === '*',
    upstream:
      upstream === ''
        ? undefined
        : {
            name: upstream.replace(/^refs\/(?:heads|remotes)\//, ''),
            ref: upstream,
            remote: remote === '' || remote === '.' ? undefined : remote,
            isGone: counts && isGone,
            ahead: counts && !isGone ? Number(numbers?.[1] ?? 0) : undefined,
            behind: counts && !isGone ? Number(numbers?.[2] ?? 0) : undefined,
          },
    worktree: worktree === '' ? undefined : worktree,
  };
}

guardMethods(BranchManager, {
  list: ['options?'],
  exists: ['name'],
  create: ['name', 'from?', 'options?'],
  checkout: ['name', 'options?'],
  rename: ['from', 'to', 'options?'],
  delete: ['name', 'options?'],
  remove: ['name', 'options?'],
  setUpstream: ['name', 'upstream:text|object'],
  unsetUpstream: ['name'],
  merged: ['into?', 'options?'],
  compare: ['a', 'b'],
  get: ['name'],
});
