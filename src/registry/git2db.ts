/**
 * A registry: many repositories in one directory, found by name, id or URL. Several processes may use it at
 * once; every one sees what another has changed at its next call.
 *
 *     await using db = await Git2DB.open('/srv/models');
 *     const id = await db.clone('https://host/org/model').name('org/model').exec();
 *     const handle = await db.repo(id);
 */
import { checkArguments, guardMethods } from '../arguments.ts';
import { Git2dbError } from '../xet/errors.ts';
import { applyDraft } from './apply-draft.ts';
import { CloneOperation } from './clone.ts';
import type { CloneOptions } from './clone-options.ts';
import { loadConfig, loadConfigBeside, type RegistryConfig } from './config.ts';
import { Draft, type RecordPatch } from './draft.ts';
import { checkAborted, NotFoundError } from './errors.ts';
import { GitManager } from './git-manager.ts';
import type { RepositoryRecord } from './metadata.ts';
import { type NameReservation, type ReserveOptions, tryReserve, waitForRelease } from './name-reservation.ts';
import { findLayout, loadEarly, openStore } from './open-registry.ts';
import type { AddRecordOptions, NewRecord, RecordSink } from './record-sink.ts';
import { absolutePathOf, findToRegister, type RegisterOptions, registerIn } from './register.ts';
import type { RegistryLayout } from './registry-layout.ts';
import type { RegistryStore } from './registry-store.ts';
import { maskUrl, parseRemoteUrl } from './remote-url.ts';
import { type RemovalReport, type RemoveOptions, removeRepository } from './remove.ts';
import { type RegistryRepair, repairBroken, repairRegistry } from './repair.ts';
import type { RepoId } from './repo-id.ts';
import { matches, type RepositoryFilter } from './repository-filter.ts';
import type { RepositoryHandle } from './repository-handle.ts';
import { checkName } from './repository-name.ts';
import { notFound } from './snapshot.ts';
import { runTransaction, type Transaction, type TransactionOptions } from './transaction.ts';
import { type RegistryFinding, verifyRegistry } from './verify.ts';
import { type RegistryEvent, type WatchOptions, watchRegistry } from './watch.ts';
import type { WorktreeHome } from './worktree/driver.ts';
import { keepSpareSpace } from './worktree/spare-space.ts';

export interface OpenOptions {
  /** Resolved settings; loaded for the current directory unless given. */
  readonly config?: RegistryConfig | undefined;
  /** The one of the process unless given. */
  readonly manager?: GitManager | undefined;
  /** That of the process unless given. */
  readonly env?: NodeJS.ProcessEnv | undefined;
  readonly signal?: AbortSignal | undefined;
  /** Nothing is made or changed; there must be a registry. */
  readonly readOnly?: boolean | undefined;
}

export class Git2DB implements AsyncDisposable, RecordSink {
  readonly root: string;
  readonly manager: GitManager;
  readonly config: RegistryConfig;
  readonly env: NodeJS.ProcessEnv;
  /** Where worktrees of its repositories keep their parts. */
  readonly home: WorktreeHome;
  /** What was noticed at opening, for a person: it was moved, or is read-only, and what to do. */
  readonly notices: readonly string[];
  readonly #layout: RegistryLayout;
  readonly #store: RegistryStore;
  readonly #closing = new AbortController();

  private constructor(
    store: RegistryStore,
    parts: Pick<Git2DB, 'manager' | 'config' | 'env'>,
    notices: readonly string[],
  ) {
    const { layout } = store;
    this.root = layout.root;
    this.manager = parts.manager;
    this.config = parts.config;
    this.env = parts.env;
    this.home = {
      worktrees: layout.worktrees,
      layers: layout.layers,
      store: layout.store,
      trees: layout.trees,
      own: layout.own,
      get readOnly() {
        return store.readOnly;
      },
    };
    this.notices = notices;
    this.#layout = layout;
    this.#store = store;
  }

  /**
   * Opens the registry in `directory`, making one where there is none. What a process that has ended had
   * begun is completed or taken back, and a registry that was moved is fitted to its new place. Throws
   * REGISTRY_INVALID, LOCK_TIMEOUT, STORE_UNWRITABLE.
   */
  static async open(directory: string, options: OpenOptions = {}): Promise<Git2DB> {
    const { signal, readOnly = false } = options;
    checkAborted(signal, `opening ${directory}`);
    const env = options.env ?? process.env;
    const layout = findLayout(directory, readOnly);
    const asked = options.config ?? loadConfigBeside({ cwd: layout.root, env });
    const manager = options.manager ?? GitManager.global();
    const loaded = loadEarly(layout);
    const config = await asked;
    const { store, notices } = await openStore(layout, { config, env, signal, readOnly, loaded });
    return new Git2DB(store, { manager, config, env }, notices);
  }

  /**
   * Mends a registry that need not be readable: a broken or missing metadata file is put aside, and what it
   * said one change ago restored; then as `repair()`.
   */
  static async repair(directory: string, options: OpenOptions = {}): Promise<RegistryRepair> {
    const layout = findLayout(directory, true);
    const config = options.config ?? loadConfig({ cwd: layout.root, env: options.env ?? process.env });
    const mended = await repairBroken(layout, { timeoutMs: config.lockTimeoutMs, signal: options.signal });
    await using registry = await Git2DB.open(directory, { ...options, config });
    const rest = await registry.repair({ signal: options.signal });
    return { ...rest, done: [...mended, ...registry.notices, ...rest.done] };
  }

  /** The registry's own; a copy of a registry gets another. */
  get id(): string {
    return this.#store.snapshot().metadata.registryId;
  }

  /** Grows by one with every change. */
  get generation(): number {
    return this.#store.snapshot().generation;
  }

  /** Why nothing can be changed, if so. */
  get readOnly(): Git2dbError | undefined {
    return this.#store.readOnly;
  }

  /** By id or name. Throws NOT_FOUND, with near matches. */
  get(idOrName: string): RepositoryRecord {
    return this.#store.snapshot().get(idOrName);
  }

  /** Throws NOT_FOUND, with near matches. */
  byName(name: string): RepositoryRecord {
    const snapshot = this.#store.snapshot();
    const record = snapshot.byName(name);
    if (record === undefined) throw notFound(name, snapshot);
    return record;
  }

  /**
   * In any form of the URL. Of several repositories with it: the one where it is written just so, else the
   * oldest; `list({ url })` gives all. Throws NOT_FOUND, URL_INVALID.
   */
  byUrl(url: string): RepositoryRecord {
    const snapshot = this.#store.snapshot();
    const record = snapshot.byUrl(url)[0];
    if (record !== undefined) return record;
    const wanted = parseRemoteUrl(url).canonical;
    const last = wanted.slice(wanted.lastIndexOf('/') + 1);
    const near = snapshot
      .list()
      .filter((each) => each.url?.includes(last) === true || each.name.endsWith(last));
    throw new NotFoundError(
      `no repository has the URL ${maskUrl(url)} (the registry ${this.root} has ${snapshot.list().length})`,
      near.slice(0, 5).map(({ name }) => name),
      { data: { url: maskUrl(url) } },
    );
  }

  /** By id, name or URL; undefined when there is none. */
  find(query: string): RepositoryRecord | undefined {
    const snapshot = this.#store.snapshot();
    const record = snapshot.find(query);
    if (record !== undefined) return record;
    try {
      return snapshot.byUrl(query)[0];
    } catch (error) {
      if (error instanceof Git2dbError && error.code === 'URL_INVALID') return undefined;
      throw error;
    }
  }

  /** By name. The array never changes; `for await` takes it too. */
  list(filter?: RepositoryFilter | ((record: RepositoryRecord) => boolean)): readonly RepositoryRecord[] {
    const all = this.#store.snapshot().list();
    if (filter === undefined) return all;
    return all.filter(typeof filter === 'function' ? filter : (record) => matches(record, filter));
  }

  /** In the order of names, each as it is when its turn comes: one removed meanwhile is left out. */
  async *[Symbol.asyncIterator](): AsyncIterator<RepositoryRecord> {
    for (const { id } of this.list()) {
      const record = this.#store.snapshot().byId(id);
      if (record !== undefined) yield record;
    }
  }

  /** Where a repository is. */
  absolutePath(record: Pick<RepositoryRecord, 'path'>): string {
    checkArguments('Git2DB.absolutePath', ['record.path'], [record.path]);
    return absolutePathOf(this.root, record);
  }

  /** By id or name. Throws NOT_FOUND, NOT_A_REPOSITORY. */
  repo(idOrName: string): Promise<RepositoryHandle> {
    return this.#handle(() => this.get(idOrName));
  }

  repoByName(name: string): Promise<RepositoryHandle> {
    return this.#handle(() => this.byName(name));
  }

  repoByUrl(url: string): Promise<RepositoryHandle> {
    return this.#handle(() => this.byUrl(url));
  }

  async #handle(find: () => RepositoryRecord): Promise<RepositoryHandle> {
    const record = find();
    const [{ openPlace }, { RepositoryHandle }] = await Promise.all([
      import('./git-place.ts'),
      import('./repository-handle.ts'),
    ]);
    const { manager, env } = this;
    const place = await openPlace(this.absolutePath(record), { trusted: record.trusted, manager, env });
    return new RepositoryHandle(place, { record, home: this.home, manager, registry: this });
  }

  /**
   * Enters a repository that is there, where it is ("adopted"). The same again gives the entry that is
   * there; other data for the same id, name or place is an error. Throws NOT_A_REPOSITORY, NAME_INVALID,
   * NAME_TAKEN, URL_INVALID, REFUSED.
   */
  async register(options: RegisterOptions): Promise<RepositoryRecord> {
    const found = findToRegister(this.#layout, options);
    return this.#change((draft) => registerIn(draft, found), options.signal);
  }

  /** As `register`, for a repository in `repos/<name>` or `repos/<id>`. */
  async registerRepository(id: string, name?: string, url?: string): Promise<RepoId> {
    return (await this.register({ id, name, url })).id;
  }

  /** Starts when it is awaited, or told to by `exec()`. */
  clone(url: string, options: CloneOptions = {}): CloneOperation {
    return new CloneOperation(this, url, options);
  }

  /**
   * Changes what is recorded. A new URL becomes that of git's remote as well; a new name leaves the
   * repository where it is.
   */
  update(
    idOrName: string,
    patch: RecordPatch,
    { signal }: { signal?: AbortSignal | undefined } = {},
  ): Promise<RepositoryRecord> {
    return this.#change((draft) => draft.update(idOrName, patch), signal);
  }

  /** The repository of this name, with this URL: changed if it has another, cloned if there is none. */
  async upsert(
    name: string,
    url: string,
    { signal, ...patch }: Omit<RecordPatch, 'name' | 'url'> & { signal?: AbortSignal | undefined } = {},
  ): Promise<RepositoryRecord> {
    checkName(name);
    parseRemoteUrl(url);
    if (this.#store.snapshot().byName(name) === undefined) {
      await new CloneOperation(this, url, { name, ...(signal === undefined ? {} : { signal }) });
    }
    return this.#change((draft) => {
      const { id, url: has } = draft.snapshot.get(name);
      const isSame = has !== undefined && parseRemoteUrl(has).canonical === parseRemoteUrl(url).canonical;
      return draft.update(id, isSame ? patch : { ...patch, url });
    }, signal);
  }

  /**
   * Removes a repository. Refuses (REFUSED, with every reason in `data.report`) when something would be lost
   * that is nowhere else, unless forced. An adopted one is only forgotten. `dryRun` tells what would be.
   */
  remove(idOrName: string, options: RemoveOptions = {}): Promise<RemovalReport> {
    return removeRepository(this, this.#store, idOrName, options);
  }

  /** Makes all changes of `fn` true at once, or none of them; see transaction.ts. */
  transaction<T>(
    fn: (transaction: Transaction) => Promise<T> | T,
    options: TransactionOptions = {},
  ): Promise<T> {
    return runTransaction(this, this.#store, fn, options);
  }

  /** What is wrong, and what to do about it. Changes nothing. */
  verify({ signal }: { signal?: AbortSignal | undefined } = {}): Promise<RegistryFinding[]> {
    return verifyRegistry(this, this.#store, { signal });
  }

  /** Mends what can be mended safely, and says what it did and what is left for a person. */
  async repair({ signal }: { signal?: AbortSignal | undefined } = {}): Promise<RegistryRepair> {
    return repairRegistry(this, this.#store, { signal });
  }

  /** Every change from now on, by whichever process, until `signal` fires or the registry is closed. */
  watch(options: WatchOptions = {}): AsyncIterable<RegistryEvent> {
    const { signal } = options;
    const closing = this.#closing.signal;
    return watchRegistry(this.#store, {
      ...options,
      signal: signal === undefined ? closing : AbortSignal.any([signal, closing]),
    });
  }

  async reserveName(name: string, options: ReserveOptions = {}): Promise<NameReservation> {
    checkName(name);
    const { signal } = options;
    let hasWaited = false;
    for (;;) {
      const outcome = await this.#store.locked(({ snapshot }) => tryReserve(this.#layout, snapshot, name), {
        signal,
      });
      if (typeof outcome !== 'string') return outcome;
      if (!hasWaited) options.onWait?.(outcome);
      hasWaited = true;
      await waitForRelease(this.#layout, outcome, signal);
    }
  }

  async addRecord(
    input: NewRecord,
    { from, undo, committed, signal }: AddRecordOptions = {},
  ): Promise<RepositoryRecord> {
    let record: RepositoryRecord;
    try {
      record = await this.#change((draft) => draft.add(input, { from, reserved: true }), signal);
    } catch (error) {
      await undo?.();
      throw error;
    }
    await committed?.();
    keepSpareSpace(this.home);
    return record;
  }

  async #change<T>(edit: (draft: Draft) => T, signal: AbortSignal | undefined): Promise<T> {
    const { result, finish } = await this.#store.locked(
      async (locked) => {
        const draft = new Draft(locked.snapshot);
        const result = edit(draft);
        return { result, finish: await applyDraft(locked, this.#layout, draft) };
      },
      { signal },
    );
    await finish();
    return result;
  }

  /** Ends what watches. The manager, and handles, are their owners' to end. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#closing.abort();
  }
}

guardMethods(
  Git2DB,
  {
    repo: ['idOrName'],
    repoByName: ['name'],
    repoByUrl: ['url'],
    register: ['options'],
    registerRepository: ['id', 'name?', 'url?'],
    update: ['idOrName', 'patch:object', 'options?'],
    upsert: ['name', 'url', 'options?'],
    remove: ['idOrName', 'options?'],
    transaction: ['fn:function', 'options?'],
    verify: ['options?'],
    repair: ['options?'],
    reserveName: ['name', 'options?'],
    addRecord: ['input:object', 'options?'],
  },
  {
    get: ['idOrName'],
    byName: ['name'],
    byUrl: ['url'],
    find: ['query'],
    list: ['filter?:object|function'],
    absolutePath: ['record:object'],
    watch: ['options?'],
  },
);

guardMethods<typeof Git2DB>(
  { name: 'Git2DB', prototype: Git2DB },
  { open: ['directory', 'options?'], repair: ['directory', 'options?'] },
);
