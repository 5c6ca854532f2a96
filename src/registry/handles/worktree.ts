/** The worktrees of a handle's repository: `handle.worktree()`. */
import { guardMethods } from '../../arguments.ts';
import { Git2dbError } from '../../xet/errors.ts';
import type { RegistryConfig } from '../config.ts';
import type { GitPlace } from '../git-place.ts';
import { ensurePushHook, installPushHook } from '../push-hook.ts';
import { withChoice } from '../worktree/choice.ts';
import {
  type CompletionReport,
  completeWorktrees,
  createWorktree,
  listWorktrees,
  openWorktree,
  type RemovalOptions,
  type RepairReport,
  removeWorktree,
  repairWorktrees,
  type Worktree,
  type WorktreeHome,
  type WorktreeSpec,
} from '../worktree/index.ts';

type WorktreeSettings = Pick<RegistryConfig, 'worktreeDriver' | 'overlayBackend'>;

export interface WorktreeFacetOptions {
  /** The registry has made the repository, and may put its hook into it. */
  readonly isOurs?: boolean | undefined;
  /** What is taken where nothing is asked for. */
  readonly config?: WorktreeSettings | undefined;
}

const NOTHING_CONFIGURED: WorktreeSettings = { worktreeDriver: 'auto', overlayBackend: 'auto' };

export class WorktreeManager {
  readonly #place: GitPlace;
  readonly #home: WorktreeHome;
  readonly #isOurs: boolean;
  readonly #config: WorktreeSettings;

  constructor(
    place: GitPlace,
    home: WorktreeHome,
    { isOurs = false, config = NOTHING_CONFIGURED }: WorktreeFacetOptions = {},
  ) {
    this.#place = place;
    this.#home = home;
    this.#isOurs = isOurs;
    this.#config = config;
  }

  /**
   * A worktree of a branch, or of anything that names a commit; the one that is there already where it was
   * asked for before. `create('', branch)`, as the first path, means: derived from the branch.
   */
  async create(spec: WorktreeSpec): Promise<Worktree>;
  async create(path: string, ref: string, options?: Omit<WorktreeSpec, 'path' | 'ref'>): Promise<Worktree>;
  async create(
    first: WorktreeSpec | string,
    ref?: string,
    options: Omit<WorktreeSpec, 'path' | 'ref'> = {},
  ): Promise<Worktree> {
    if (typeof first !== 'string') return this.#create(first);
    if (ref === undefined) {
      throw new Git2dbError('USAGE', 'create(path, ref): expected a ref as the second argument');
    }
    const path = first === '' ? undefined : first;
    return this.#create({ ...options, path, ref });
  }

  async #create(spec: WorktreeSpec): Promise<Worktree> {
    const chosen = withChoice(spec, this.#config);
    const { hooks, signal } = spec;
    if (hooks === true && !this.#isOurs) await installPushHook(this.#place, { signal });
    else if (hooks ?? this.#isOurs) await ensurePushHook(this.#place, signal);
    return createWorktree(this.#place, this.#home, chosen);
  }

  /** All linked worktrees, those that git alone made too; not the main one. */
  async list(): Promise<Worktree[]> {
    return listWorktrees(this.#place, this.#home);
  }

  /** By branch, path or id. Throws NOT_FOUND, with those that are there. */
  async get(branchOrPathOrId: string): Promise<Worktree> {
    return openWorktree(this.#place, this.#home, branchOrPathOrId);
  }

  /** As `get`; undefined where there is none. */
  async find(branchOrPathOrId: string): Promise<Worktree | undefined> {
    try {
      return await this.get(branchOrPathOrId);
    } catch (error) {
      if (error instanceof Git2dbError && error.code === 'NOT_FOUND') return undefined;
      throw error;
    }
  }

  /** Refuses while anything would be lost: see `Worktree.remove`. */
  async remove(branchOrPathOrId: string, options: RemovalOptions = {}): Promise<void> {
    await removeWorktree(this.#place, this.#home, branchOrPathOrId, options);
  }

  /**
   * Brings content that has come (by a fetch, say) into worktrees that were made while it was missing, and show
   * pointers in its place.
   */
  async complete(options: { readonly signal?: AbortSignal | undefined } = {}): Promise<CompletionReport[]> {
    return completeWorktrees(this.#place, this.#home, options);
  }

  /** Completes what was interrupted, and mounts again what a reboot has ended. */
  async repair(): Promise<RepairReport[]> {
    return repairWorktrees(this.#place, this.#home);
  }
}

guardMethods(WorktreeManager, {
  create: ['spec:object|text', 'ref?', 'options?'],
  get: ['branchOrPathOrId'],
  find: ['branchOrPathOrId'],
  remove: ['branchOrPathOrId', 'options?'],
  complete: ['options?'],
});
