/**
 * All operations on one repository, or on one of its worktrees: the place a handle was made for is the
 * operand of each of them. Facets are made when they are first asked for.
 */
import { checkArguments, guardMethods } from '../arguments.ts';
import type { ObjectPool } from '../git/object-pool.ts';
import type { GitResult } from '../git/runner.ts';
import { NotFoundError } from './errors.ts';
import type { GitManager } from './git-manager.ts';
import { type GitPlace, openPlace, type PlaceRun } from './git-place.ts';
import type { Git2DB } from './git2db.ts';
import { type BlameLine, type BlameOptions, blame } from './handles/blame.ts';
import { BranchManager } from './handles/branch.ts';
import { type CommitOptions, type CommitResult, commit } from './handles/commit.ts';
import { type DiffFunction, diffFunction } from './handles/diff.ts';
import { withIdentity } from './handles/identity-fallback.ts';
import { type CommitInfo, type LogOptions, log } from './handles/log.ts';
import { type MergeFunction, mergeFunction } from './handles/merge.ts';
import { findOperation, type Operation } from './handles/operation.ts';
import { type RebaseFunction, rebaseFunction } from './handles/rebase.ts';
import { RefManager } from './handles/refs.ts';
import { RemoteManager } from './handles/remote.ts';
import { type ResetOptions, reset } from './handles/reset.ts';
import { type PickFunction, pickFunction } from './handles/sequence.ts';
import { StageManager } from './handles/staging.ts';
import { StashManager } from './handles/stash.ts';
import { type RepositoryStatus, type StatusOptions, status } from './handles/status.ts';
import { TagManager } from './handles/tag.ts';
import { WorktreeManager } from './handles/worktree.ts';
import { LfsFacet, XetFacet } from './handles/xet.ts';
import { type OpenRepository, openRepository } from './isomorphic.ts';
import type { RepositoryRecord } from './metadata.ts';
import type { RepoId } from './repo-id.ts';
import type { WorktreeHome } from './worktree/driver.ts';

export interface HandleExtras {
  readonly manager: GitManager;
  /** What the registry knows; undefined for a repository of no registry. */
  readonly record?: RepositoryRecord | undefined;
  /** Where its worktrees go; `<common directory>/git2db` unless given. */
  readonly home?: WorktreeHome | undefined;
  readonly registry?: Git2DB | undefined;
  /** The place ends with the handle. */
  readonly ownsPlace?: boolean | undefined;
}

export class RepositoryHandle implements AsyncDisposable {
  readonly place: GitPlace;
  readonly home: WorktreeHome;
  readonly manager: GitManager;
  readonly registry: Git2DB | undefined;
  readonly #extras: HandleExtras;
  readonly #opened: GitPlace[] = [];

  /** `merge(ref)`, `merge.trees`, `merge.compose`, and `merge.continue`, `merge.abort` for one that stopped. */
  readonly merge: MergeFunction;
  readonly rebase: RebaseFunction;
  readonly cherryPick: PickFunction;
  readonly revert: PickFunction;
  /** `diff(options)` for the files, `diff.patch(options)` for the text. */
  readonly diff: DiffFunction;

  constructor(place: GitPlace, extras: HandleExtras) {
    this.place = withIdentity(place, extras.manager);
    this.manager = extras.manager;
    this.registry = extras.registry;
    this.home = extras.home ?? {
      worktrees: `${place.commonDir}/git2db/worktrees`,
      layers: `${place.commonDir}/git2db/layers`,
      store: undefined,
    };
    this.#extras = extras;
    this.merge = mergeFunction(this.place);
    this.rebase = rebaseFunction(this.place);
    this.cherryPick = pickFunction(this.place, 'cherry-pick');
    this.revert = pickFunction(this.place, 'revert');
    this.diff = diffFunction(this.place);
  }

  /** As the registry knew it when the handle was made. */
  get record(): RepositoryRecord | undefined {
    return this.#extras.record;
  }

  get id(): RepoId | undefined {
    return this.record?.id;
  }

  get name(): string | undefined {
    return this.record?.name;
  }

  get url(): string | undefined {
    return this.record?.url;
  }

  /** The work tree; the git directory of a bare repository. */
  get path(): string {
    return this.place.workTree ?? this.place.gitDir;
  }

  branch(): BranchManager {
    return new BranchManager(this.place);
  }

  staging(): StageManager {
    return new StageManager(this.place);
  }

  remote(): RemoteManager {
    return new RemoteManager(this.place, this.#extras);
  }

  tag(): TagManager {
    return new TagManager(this.place, (remote, options) => this.remote().push(remote, options));
  }

  stash(): StashManager {
    return new StashManager(this.place);
  }

  worktree(): WorktreeManager {
    const { config } = this.registry ?? this.manager;
    return new WorktreeManager(this.place, this.home, { isOurs: this.record?.adopted === false, config });
  }

  get refs(): RefManager {
    return new RefManager(this.place);
  }

  get xet(): XetFacet {
    return new XetFacet(this.place, this.home);
  }

  get lfs(): LfsFacet {
    return new LfsFacet(this.place);
  }

  /** Reads objects: `info`, `read`, `readMany`, `open` (a stream). */
  get objects(): ObjectPool {
    return this.place.objects;
  }

  commit(message: string | CommitOptions): Promise<CommitResult> {
    return commit(this.place, typeof message === 'string' ? { message } : message);
  }

  /** Replaces the last commit. Its message and author stay unless given. */
  amend(options: Omit<CommitOptions, 'amend'> = {}): Promise<CommitResult> {
    return commit(this.place, { ...options, amend: true });
  }

  reset(options: ResetOptions = {}): Promise<{ readonly oid: string }> {
    return reset(this.place, options);
  }

  status(options: StatusOptions = {}): Promise<RepositoryStatus> {
    return status(this.place, options);
  }

  /** Newest first unless asked otherwise. Leaving the loop early stops git. */
  log(options: LogOptions = {}): AsyncIterable<CommitInfo> {
    return log(this.place, options);
  }

  blame(path: string | Uint8Array, options: BlameOptions = {}): Promise<BlameLine[]> {
    return blame(this.place, path, options);
  }

  /** The merge, rebase, ... that has stopped and waits; undefined when there is none. */
  operation(): Promise<Operation | undefined> {
    return findOperation(this.place);
  }

  git(args: readonly string[], options?: PlaceRun): Promise<GitResult> {
    return this.place.git(args, options);
  }

  /** A handle for one worktree of this repository: its path, or what the worktree facet gave. */
  async at(worktree: string | { place(): Promise<GitPlace> }): Promise<RepositoryHandle> {
    const { trusted, env } = this.place;
    if (typeof worktree !== 'string')
      checkArguments('RepositoryHandle.at', ['worktree.place:function'], [worktree.place]);
    const place =
      typeof worktree === 'string' ? await openPlace(worktree, { trusted, env }) : await worktree.place();
    if (place.commonDir !== this.place.commonDir) {
      await place.close();
      throw new NotFoundError(
        `expected a worktree of ${this.place.commonDir}, found one of ${place.commonDir} at ${place.workTree ?? place.gitDir}`,
      );
    }
    // Either way the place is new, and its processes would keep the worktree from being unmounted.
    this.#opened.push(place);
    return new RepositoryHandle(place, { ...this.#extras, home: this.home, ownsPlace: true });
  }

  /**
   * The way out: what isomorphic-git's functions take (reading only: its writes are refused), the paths,
   * and git itself. Throws NOT_REACHABLE for a worktree that only another mount namespace sees.
   */
  open(): Promise<OpenRepository> {
    return openRepository(this.place);
  }

  /** Ends the git processes of this handle, and of those made by `at`. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#extras.ownsPlace !== false) await this.place.close();
    await Promise.all(this.#opened.map((place) => place.close()));
  }
}

guardMethods(
  RepositoryHandle,
  {
    commit: ['message:text|object'],
    amend: ['options?'],
    reset: ['options?'],
    status: ['options?'],
    blame: ['path:text|bytes', 'options?'],
    git: ['args:paths', 'options?'],
    at: ['worktree:text|object'],
  },
  { log: ['options?'] },
);
