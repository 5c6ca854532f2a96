/**
 * Several changes that become true together, or not at all.
 *
 * `serializable` holds the registry's lock from the beginning to the end: nothing can come in between, and
 * everybody else waits (or gives up, with LOCK_TIMEOUT, after their own patience). `optimistic` takes the
 * lock for the end only. If somebody has changed the registry since the beginning, the changes are made to what
 * it is now, unless that somebody has changed an entry that was looked at or changed here, or taken a name: whoever
 * was first wins, and this one fails with CONFLICT, having taken back what it did. Who asks for the list has looked
 * at all entries. Either way nobody sees a part of it.
 */
import { rm } from 'node:fs/promises';
import { guardMethods } from '../arguments.ts';
import { Git2dbError } from '../xet/errors.ts';
import { applyDraft, type Finish, withFailures } from './apply-draft.ts';
import { CloneOperation } from './clone.ts';
import type { CloneOptions } from './clone-options.ts';
import type { RegistryConfig } from './config.ts';
import { Draft, type RecordPatch } from './draft.ts';
import { ConflictError, checkAborted } from './errors.ts';
import type { GitManager } from './git-manager.ts';
import type { Git2DB } from './git2db.ts';
import type { RepositoryRecord } from './metadata.ts';
import { NameReservation, type ReserveOptions, tryReserve } from './name-reservation.ts';
import type { AddRecordOptions, NewRecord, RecordSink } from './record-sink.ts';
import { findToRegister, type RegisterOptions, registerIn } from './register.ts';
import type { RegistryLayout } from './registry-layout.ts';
import type { LockedRegistry, RegistryStore } from './registry-store.ts';
import { matches, type RepositoryFilter } from './repository-filter.ts';
import { checkName } from './repository-name.ts';
import type { Snapshot } from './snapshot.ts';
import type { WorktreeHome } from './worktree/driver.ts';

export type Isolation = 'serializable' | 'optimistic';

export interface TransactionOptions {
  /** `optimistic` unless given. */
  readonly isolation?: Isolation | undefined;
  readonly signal?: AbortSignal | undefined;
}

type Undo = () => Promise<void> | void;

/** What `fn` of a transaction works with. Of no use once that has ended. */
export class Transaction implements RecordSink {
  readonly #registry: Git2DB;
  readonly #layout: RegistryLayout;
  readonly #draft: Draft;
  readonly #locked: LockedRegistry | undefined;
  readonly #undos: Undo[] = [];
  readonly #committed: Undo[] = [];
  readonly #staged = new Map<string, string>();
  #isOpen = true;

  /** `locked`: the lock is held by this transaction. */
  constructor(registry: Git2DB, layout: RegistryLayout, draft: Draft, locked: LockedRegistry | undefined) {
    this.#locked = locked;
    this.#registry = registry;
    this.#layout = layout;
    this.#draft = draft;
  }

  get root(): string {
    return this.#registry.root;
  }
  get config(): RegistryConfig {
    return this.#registry.config;
  }
  get manager(): GitManager {
    return this.#registry.manager;
  }
  get env(): NodeJS.ProcessEnv {
    return this.#registry.env;
  }
  get home(): WorktreeHome {
    return this.#registry.home;
  }

  /** A clone of this transaction is still in its temporary place. */
  absolutePath(record: Pick<RepositoryRecord, 'path'>): string {
    return this.#staged.get(record.path) ?? this.#registry.absolutePath(record);
  }

  /** By id or name, with the changes so far. Throws NOT_FOUND. */
  get(query: string): RepositoryRecord {
    const draft = this.#open();
    return draft.find(query) ?? draft.snapshot.get(query);
  }

  find(query: string): RepositoryRecord | undefined {
    return this.#open().find(query);
  }

  list(filter?: RepositoryFilter): readonly RepositoryRecord[] {
    const all = this.#open().list();
    return filter === undefined ? all : all.filter((record) => matches(record, filter));
  }

  register(options: RegisterOptions): RepositoryRecord {
    const draft = this.#open();
    return registerIn(draft, findToRegister(this.#layout, options));
  }

  /** Clones into a temporary place, which becomes the repository's own at the end. */
  clone(url: string, options: CloneOptions = {}): CloneOperation {
    this.#open();
    return new CloneOperation(this, url, options);
  }

  update(query: string, patch: RecordPatch): RepositoryRecord {
    return this.#open().update(query, patch);
  }

  /**
   * Takes a repository out of the registry; its directory stays unless the entry is an adopted one's, which
   * stays anyway: to delete what can be lost is not for a transaction. Use `Git2DB.remove` for that.
   */
  unregister(query: string): RepositoryRecord {
    const record = this.#open().snapshot.get(query);
    if (!record.adopted) {
      throw new Git2dbError(
        'REFUSED',
        `${JSON.stringify(record.name)} was made by git2db and would be left without an entry: remove it outside of a transaction`,
        { data: { id: record.id } },
      );
    }
    return this.#open().remove(query, { discard: false });
  }

  /** Called, the last one first, when the transaction fails. Not after a crash. */
  onUndo(undo: Undo): void {
    this.#open();
    this.#undos.push(undo);
  }

  async reserveName(name: string, options?: ReserveOptions): Promise<NameReservation> {
    const staged = this.#open().snapshot.byName(name);
    if (staged !== undefined) return new NameReservation(name, staged);
    if (this.#locked === undefined) return this.#registry.reserveName(name, options);
    checkName(name);
    const outcome = await tryReserve(this.#layout, this.#locked.snapshot, name);
    if (typeof outcome !== 'string') return outcome;
    // Whoever has it needs the lock that this transaction holds: to wait would be to wait for ever.
    throw new ConflictError(
      `the name ${JSON.stringify(name)} is kept for somebody at work on ${JSON.stringify(outcome)}: try again later`,
      { data: { name, reserved: outcome } },
    );
  }

  async addRecord(
    input: NewRecord,
    { from, undo, committed }: AddRecordOptions = {},
  ): Promise<RepositoryRecord> {
    const record = this.#open().add(input, { from, reserved: true });
    if (from !== undefined) {
      this.#staged.set(record.path, from);
      this.#undos.push(() => rm(from, { recursive: true, force: true }));
    }
    if (undo !== undefined) this.#undos.push(undo);
    if (committed !== undefined) this.#committed.push(committed);
    return record;
  }

  /** Nothing more can be done with it. */
  close(): void {
    this.#isOpen = false;
  }

  /** Tells those who wait for it that the changes are made. */
  async committed(): Promise<void> {
    for (const tell of this.#committed) await tell();
  }

  async undo(): Promise<unknown[]> {
    const failures: unknown[] = [];
    for (const undo of this.#undos.toReversed()) {
      try {
        await undo();
      } catch (error) {
        failures.push(error);
      }
    }
    return failures;
  }

  #open(): Draft {
    if (this.#isOpen) return this.#draft;
    throw new Git2dbError('USAGE', 'the transaction has ended: begin another one');
  }
}

/** See `Git2DB.transaction`. */
export async function runTransaction<T>(
  registry: Git2DB,
  store: RegistryStore,
  fn: (transaction: Transaction) => Promise<T> | T,
  { isolation = 'optimistic', signal }: TransactionOptions,
): Promise<T> {
  if (isolation !== 'optimistic' && isolation !== 'serializable') {
    throw new Git2dbError(
      'USAGE',
      `expected the isolation "optimistic" or "serializable", found ${JSON.stringify(isolation)}`,
    );
  }
  if (store.readOnly !== undefined) throw store.readOnly;
  let finish: Finish = async () => {};

  async function attempt(
    draft: Draft,
    locked: LockedRegistry | undefined,
    commit: () => Promise<Finish>,
  ): Promise<T> {
    const transaction = new Transaction(registry, store.layout, draft, locked);
    try {
      const result = await fn(transaction);
      transaction.close();
      checkAborted(signal, 'the transaction');
      const rest = await commit();
      finish = async () => {
        await rest();
        await transaction.committed();
      };
      return result;
    } catch (error) {
      transaction.close();
      throw withFailures(error, await transaction.undo());
    }
  }

  async function serializable(locked: LockedRegistry): Promise<T> {
    const draft = new Draft(locked.snapshot);
    return attempt(draft, locked, () => applyDraft(locked, store.layout, draft));
  }

  async function optimistic(): Promise<T> {
    const draft = new Draft(store.snapshot());
    return attempt(draft, undefined, async () =>
      draft.isEmpty
        ? async () => {}
        : store.locked((locked) => commitUnchanged(locked, store.layout, draft), { signal }),
    );
  }

  const result =
    isolation === 'serializable' ? await store.locked(serializable, { signal }) : await optimistic();
  await finish();
  return result;
}

function commitUnchanged(locked: LockedRegistry, layout: RegistryLayout, draft: Draft): Promise<Finish> {
  const [before, now] = [draft.base.generation, locked.snapshot.generation];
  const isSame = before === now && draft.base.metadata.registryId === locked.snapshot.metadata.registryId;
  const current = isSame ? draft : rebased(draft, locked.snapshot);
  if (current !== undefined) return applyDraft(locked, layout, current);
  throw new ConflictError(
    `somebody has changed what the transaction looked at, or changed, since it began (generation ${before}, now ${now}): ` +
      'nothing of it was done; begin it again, or with isolation "serializable"',
    { data: { before, now } },
  );
}

/** Undefined where it conflicts. */
function rebased(draft: Draft, now: Snapshot): Draft | undefined {
  try {
    return draft.rebase(now);
  } catch (error) {
    if (error instanceof Git2dbError && error.code === 'NAME_TAKEN') return undefined;
    throw error;
  }
}

guardMethods(
  Transaction,
  { reserveName: ['name', 'options?'] },
  {
    get: ['query'],
    find: ['query'],
    list: ['filter?:object|function'],
    register: ['options'],
    update: ['query', 'patch:object'],
    unregister: ['query'],
    onUndo: ['undo:function'],
  },
);
