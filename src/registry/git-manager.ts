/**
 * Process-wide services: slots for concurrent work, the operations under way, and caches of what is
 * costly. A manager keeps no process alive and needs no closing; `await using` ends its git processes early.
 */
import { guardMethods } from '../arguments.ts';
import { repositoryAt } from '../git/repository.ts';
import { Git2dbError } from '../xet/errors.ts';
import type { CloneOptions } from './clone-options.ts';
import { loadConfig, type RegistryConfig } from './config.ts';
import type { GitPlace } from './git-place.ts';
import { openPlace } from './git-place.ts';
import { type Operation, Operations } from './operations.ts';
import { type CacheStats, PlaceCache } from './place-cache.ts';
import type { RepositoryHandle } from './repository-handle.ts';
import { findSignature, type Signature, type SignatureOptions } from './signature.ts';
import { withChoice } from './worktree/choice.ts';
import type { DriverName, DriverProbe, Worktree, WorktreeHome, WorktreeSpec } from './worktree/index.ts';

export type { Operation } from './operations.ts';
export type { CacheStats } from './place-cache.ts';
export type { Signature, SignatureOptions } from './signature.ts';

export interface GitManagerOptions {
  /** That of the environment and the current directory unless given; a broken one is an error when it is used. */
  readonly config?: RegistryConfig | undefined;
  /** Instead of the configuration's. */
  readonly maxConcurrent?: number | undefined;
  /** The whole environment of git's runs; that of the process unless given. */
  readonly env?: NodeJS.ProcessEnv | undefined;
}

/** A repository that the manager has open. */
export interface Repository {
  readonly place: GitPlace;
  /** All operations on it. Closing the handle leaves the place to the manager. */
  open(): Promise<RepositoryHandle>;
}

export interface RepositoryOptions {
  /** False unless given: see trust.ts. */
  readonly trusted?: boolean | undefined;
}

export class GitManager implements AsyncDisposable {
  static #global: GitManager | undefined;

  readonly cache: {
    stats(): CacheStats;
    clear(): Promise<void>;
  };
  /** What `cache` counts: open places, parsed configurations, snapshots of refs. */
  readonly known: PlaceCache;
  readonly drivers: {
    /** Tries each worktree driver where `path` would be; leaves nothing behind. */
    probe(repoPath: string, path: string): Promise<ReadonlyMap<DriverName, DriverProbe>>;
  };
  readonly env: NodeJS.ProcessEnv | undefined;
  readonly #maxConcurrent: number | undefined;
  #config: RegistryConfig | undefined;
  #operations: Operations | undefined;

  constructor({ config, maxConcurrent, env }: GitManagerOptions = {}) {
    const limit = maxConcurrent ?? config?.maxConcurrent;
    if (limit !== undefined && (!Number.isSafeInteger(limit) || limit < 1)) {
      throw new Git2dbError('USAGE', `maxConcurrent: expected an integer from 1, found ${String(limit)}`);
    }
    this.#config = config;
    this.#maxConcurrent = limit;
    this.env = env;
    this.known = new PlaceCache();
    this.cache = { stats: () => this.known.stats(), clear: () => this.known.clear() };
    this.drivers = { probe: (repoPath, path) => this.#probeDrivers(repoPath, path) };
  }

  /** Unless it was given, read when it is first needed, which takes a run of git. Throws INVALID_CONFIG. */
  get config(): RegistryConfig {
    this.#config ??= loadConfig({ cwd: process.cwd(), env: this.env ?? process.env });
    return this.#config;
  }

  /** The one of this process, made when it is first asked for. */
  static global(): GitManager {
    GitManager.#global ??= new GitManager();
    return GitManager.#global;
  }

  /** The repository at `path`: a work tree or a git directory. Throws NOT_A_REPOSITORY. */
  async repository(path: string, { trusted = false }: RepositoryOptions = {}): Promise<Repository> {
    const place = await this.place(path, trusted);
    return {
      place,
      open: async () => {
        const { RepositoryHandle } = await import('./repository-handle.ts');
        return new RepositoryHandle(place, { manager: this });
      },
    };
  }

  getRepository(path: string, options?: RepositoryOptions): Promise<Repository> {
    return this.repository(path, options);
  }

  /** The open place at `path`, from the cache where it is still the same repository. */
  place(path: string, trusted = false): Promise<GitPlace> {
    return this.known.place(path, trusted, () => openPlace(path, { trusted, env: this.env }));
  }

  /** Clones into `directory` (missing or empty), in no registry. Leaves nothing when it fails or is aborted. */
  async clone(url: string, directory: string, options: CloneOptions = {}): Promise<Repository> {
    const { cloneToDirectory } = await import('./clone-plain.ts');
    await cloneToDirectory(this, url, directory, options);
    return this.repository(directory, { trusted: options.trust === true });
  }

  /** A worktree of a repository that is in no registry; `''` as path: derived from the ref. */
  async createWorktree(
    repoPath: string,
    worktreePath: string,
    ref: string,
    options: Omit<WorktreeSpec, 'path' | 'ref'> & RepositoryOptions = {},
  ): Promise<Worktree> {
    const { trusted, ...spec } = options;
    const { createWorktree } = await import('./worktree/index.ts');
    const place = await this.place(repoPath, trusted);
    const path = worktreePath === '' ? undefined : worktreePath;
    return this.run(
      `worktree of ${ref} in ${repoPath}`,
      () => createWorktree(place, homeOf(place), withChoice({ ...spec, path, ref }, this.config)),
      { signal: spec.signal },
    );
  }

  async listWorktrees(repoPath: string, { trusted }: RepositoryOptions = {}): Promise<Worktree[]> {
    const { listWorktrees } = await import('./worktree/index.ts');
    const place = await this.place(repoPath, trusted);
    return listWorktrees(place, homeOf(place));
  }

  /** Refuses where something would be lost, unless `force`. `repo`: needed where the worktree is not mounted. */
  async removeWorktree(
    path: string,
    options: { readonly force?: boolean; readonly repo?: string; readonly signal?: AbortSignal } = {},
  ): Promise<void> {
    const { repo, ...removal } = options;
    const { removeWorktree } = await import('./worktree/index.ts');
    const from = repo ?? repositoryAt(path)?.commonDir;
    if (from === undefined) {
      throw new Git2dbError(
        'NOT_A_REPOSITORY',
        `expected a worktree at ${path}, found none whose repository can be told: give repo, the path of its repository`,
        { data: { path } },
      );
    }
    const place = await this.place(from);
    await this.run(`removal of ${path}`, () => removeWorktree(place, homeOf(place), path, removal), {
      signal: removal.signal,
    });
  }

  /** Who makes a commit: see signature.ts. */
  signature(options: SignatureOptions = {}): Promise<Signature> {
    return findSignature(options, { config: this.config, env: this.env });
  }

  createSignature(name?: string, email?: string): Promise<Signature> {
    return this.signature({ name, email });
  }

  /** What waits or runs now, oldest first. */
  operations(): readonly Operation[] {
    return this.#operations?.list() ?? [];
  }

  /** Runs `fn` when one of `maxConcurrent` slots is free; rejects with an AbortError where `signal` fires first. */
  run<T>(
    description: string,
    fn: (signal: AbortSignal | undefined) => Promise<T>,
    options: { readonly signal?: AbortSignal | undefined } = {},
  ): Promise<T> {
    try {
      this.#operations ??= new Operations(this.#maxConcurrent ?? this.config.maxConcurrent);
    } catch (error) {
      return Promise.reject(error);
    }
    return this.#operations.run(description, fn, options);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (GitManager.#global === this) GitManager.#global = undefined;
    await this.known.clear();
  }

  async #probeDrivers(repoPath: string, path: string): Promise<ReadonlyMap<DriverName, DriverProbe>> {
    const { probeDrivers } = await import('./worktree/index.ts');
    const place = await this.place(repoPath);
    return probeDrivers(place, homeOf(place), path, this.config.overlayBackend);
  }
}

/** Of a repository in no registry. */
function homeOf(place: GitPlace): WorktreeHome {
  return {
    worktrees: `${place.commonDir}/git2db/worktrees`,
    layers: `${place.commonDir}/git2db/layers`,
    store: undefined,
  };
}

guardMethods(GitManager, {
  repository: ['path', 'options?'],
  getRepository: ['path', 'options?'],
  place: ['path', 'trusted?:flag'],
  clone: ['url', 'directory', 'options?'],
  createWorktree: ['repoPath', 'worktreePath', 'ref', 'options?'],
  listWorktrees: ['repoPath', 'options?'],
  removeWorktree: ['path', 'options?'],
  signature: ['options?'],
  createSignature: ['name?', 'email?'],
  run: ['description', 'fn:function', 'options?'],
});
