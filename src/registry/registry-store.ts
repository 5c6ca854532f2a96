/**
 * The metadata of one registry in this process: the newest snapshot for whoever reads, and the one way to
 * change it.
 */
import { existsSync } from 'node:fs';
import { makeDirectories } from '../make-directories.ts';
import { Git2dbError } from '../xet/errors.ts';
import { abortedError } from './errors.ts';
import { hasJournals, recoverJournals } from './journal.ts';
import { METADATA_VERSION, type RegistryMetadata } from './metadata.ts';
import {
  type FileStamp,
  type LoadedMetadata,
  loadMetadata,
  replaceMetadata,
  sameStamp,
  stampOf,
} from './metadata-file.ts';
import type { RegistryLayout } from './registry-layout.ts';
import { Patience, RegistryLock } from './registry-lock.ts';
import { Snapshot } from './snapshot.ts';

export type MetadataChange = Pick<RegistryMetadata, 'repositories'> & Partial<RegistryMetadata>;

/** What whoever holds the lock may do. */
export interface LockedRegistry {
  readonly snapshot: Snapshot;
  /** Replaces the metadata; the generation grows by one. On stable storage when this returns. */
  commit(change: MetadataChange, transaction?: string): Snapshot;
}

export interface StoreOptions {
  readonly lockTimeoutMs: number;
  /** Why nothing can be changed, if so. */
  readonly readOnly?: Git2dbError | undefined;
  /** What was read of the file a moment ago. */
  readonly loaded?: LoadedMetadata | undefined;
}

export class RegistryStore {
  readonly layout: RegistryLayout;
  readonly #options: StoreOptions;
  #snapshot: Snapshot | undefined;
  #stamp: FileStamp | undefined;
  #version = METADATA_VERSION;
  /** Callers of this process take their turns in order, and do not poll each other. */
  #turn: Promise<void> = Promise.resolve();
  #readOnly: Git2dbError | undefined;
  /** Ids of repositories whose removal a process had begun that has ended, and this one has completed. */
  readonly completedRemovals = new Set<string>();

  constructor(layout: RegistryLayout, options: StoreOptions) {
    this.layout = layout;
    this.#options = options;
    this.#readOnly = options.readOnly;
    if (options.loaded !== undefined) this.#take(options.loaded);
  }

  get readOnly(): Git2dbError | undefined {
    return this.#readOnly;
  }

  /** Whether the file is of an older version than what is written now. */
  get isOld(): boolean {
    this.snapshot();
    return this.#version < METADATA_VERSION;
  }

  setReadOnly(reason: Git2dbError | undefined): void {
    this.#readOnly = reason;
  }

  /** As the file is now: one stat, and reading it when it has changed. Throws REGISTRY_INVALID. */
  snapshot(): Snapshot {
    if (this.#snapshot !== undefined && this.#stamp !== undefined) {
      const stamp = stampOf(this.layout.metadata);
      if (stamp !== undefined && sameStamp(stamp, this.#stamp)) return this.#snapshot;
    }
    const loaded = loadMetadata(this.layout);
    if (loaded === undefined) throw missing(this.layout);
    return this.#take(loaded);
  }

  #take({ stamp, version, metadata }: LoadedMetadata): Snapshot {
    this.#stamp = stamp;
    this.#version = version;
    this.#snapshot = new Snapshot(metadata);
    return this.#snapshot;
  }

  /** Runs `change` with the registry's lock held; what dead processes have left has been ended before. */
  async locked<T>(
    change: (registry: LockedRegistry) => Promise<T> | T,
    {
      signal,
      timeoutMs = this.#options.lockTimeoutMs,
    }: { signal?: AbortSignal | undefined; timeoutMs?: number } = {},
  ): Promise<T> {
    if (this.#readOnly !== undefined) throw this.#readOnly;
    // A registry that was deleted is not brought back to life by its lock.
    this.snapshot();
    return this.#inTurn(signal, timeoutMs, async (left) => {
      using _lock = await RegistryLock.acquire(this.layout.lock, { timeoutMs: left, signal });
      if (hasJournals(this.layout)) {
        const { transaction, root } = this.snapshot().metadata;
        const { removed } = await recoverJournals(this.layout, transaction, {
          insideOnly: root !== this.layout.root,
        });
        for (const id of removed) this.completedRemovals.add(id);
      }
      return await change(this.#session());
    });
  }

  #session(): LockedRegistry {
    let snapshot = this.snapshot();
    return {
      get snapshot() {
        return snapshot;
      },
      commit: (change, transaction) => {
        const metadata: RegistryMetadata = {
          ...snapshot.metadata,
          ...change,
          generation: snapshot.generation + 1,
          transaction,
        };
        const stamp = replaceMetadata(this.layout, metadata);
        snapshot = new Snapshot(metadata);
        this.#stamp = stamp;
        this.#version = METADATA_VERSION;
        this.#snapshot = snapshot;
        return snapshot;
      },
    };
  }

  async #inTurn<T>(
    signal: AbortSignal | undefined,
    timeoutMs: number,
    run: (leftMs: number) => Promise<T>,
  ): Promise<T> {
    const patience = new Patience(timeoutMs);
    const before = this.#turn;
    let end: () => void = () => {};
    this.#turn = new Promise((resolve) => {
      end = resolve;
    });
    try {
      // A caller that has waited long enough goes on to ask for the lock itself, which tells who holds it.
      await settled(before, patience, signal, this.layout.lock);
      return await run(Math.max(0, patience.leftMs));
    } finally {
      void before.then(end);
    }
  }
}

const LOOK_MS = 500;

/** Resolves when `turn` does, or when there is no patience left. */
async function settled(
  turn: Promise<void>,
  patience: Patience,
  signal: AbortSignal | undefined,
  lock: string,
): Promise<void> {
  if (signal?.aborted) throw abortedError(`waiting for ${lock}`, signal.reason);
  let isSettled = false;
  const ending = new AbortController();
  const ended = turn.then(() => {
    isSettled = true;
    ending.abort();
  });
  const stop = signal === undefined ? ending.signal : AbortSignal.any([signal, ending.signal]);
  while (!isSettled && patience.leftMs > 0) {
    const waiting = patience.sleep(LOOK_MS, stop).catch(() => {});
    await Promise.race([ended, waiting]);
    if (signal?.aborted) throw abortedError(`waiting for ${lock}`, signal.reason);
  }
}

/** Makes the directories of a registry that is not there yet. */
export function makeRegistryDirectories(layout: RegistryLayout): void {
  makeDirectories(layout.root);
  makeDirectories(layout.own, 0o700);
  makeDirectories(layout.repos);
}

/** True for a directory that has had metadata, and has lost them. */
export function hasLostMetadata(layout: RegistryLayout): boolean {
  return !existsSync(layout.metadata) && existsSync(layout.previous);
}

export function missing(layout: RegistryLayout): Git2dbError {
  const lost = hasLostMetadata(layout);
  return new Git2dbError(
    'REGISTRY_INVALID',
    lost
      ? `${layout.metadata} is missing, though the registry has had one: put it back, or let \`git2db repair\` restore ` +
          'what it said one change ago'
      : `expected a registry in ${layout.root}, found no ${layout.metadata}: \`git2db init\` makes one`,
    { data: { file: layout.metadata, version: METADATA_VERSION } },
  );
}
