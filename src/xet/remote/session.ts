/**
 * Contents that live elsewhere, worked on here: what is read is fetched into a store of this machine first, what
 * is stored goes there first and is sent at the end.
 */
import { randomBytes } from 'node:crypto';
import { mkdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { untilAborted } from '../cas/abort.ts';
import { formatHash } from '../hash/xet-hash.ts';
import { LocalStore } from '../store/local-store.ts';
import type { Store } from '../store/store.ts';
import { fetchFiles } from '../transfer/fetch.ts';
import { pushFiles } from '../transfer/push.ts';
import { readRange } from '../transfer/range.ts';
import type { TransferOptions, TransferResult, WantedFile } from '../transfer/transfer.ts';

export class RemoteSession {
  /** The store of this machine. */
  readonly root: string;
  /** True for a directory of its own, which goes with the session. */
  readonly #isPrivate: boolean;
  readonly #connect: (signal: AbortSignal) => Promise<Store>;
  /** Ends with the session, or before. */
  readonly #life: AbortSignal;
  readonly #end = new AbortController();
  #store: Promise<Store> | undefined;
  /** Stored here and not known to be there. */
  readonly #unsent = new Map<string, WantedFile>();
  readonly #fetching = new Map<string, Promise<void>>();
  #isMade = false;

  /**
   * Without `cache`: in a new directory for temporary files. Nothing is made or asked yet. `connect` gets the signal
   * that ends every request; `signal` ends all that the session does.
   */
  constructor(
    connect: (signal: AbortSignal) => Promise<Store>,
    cache: string | undefined,
    signal?: AbortSignal,
  ) {
    this.#connect = connect;
    this.#life = signal === undefined ? this.#end.signal : AbortSignal.any([this.#end.signal, signal]);
    this.#isPrivate = cache === undefined;
    this.root = cache ?? join(tmpdir(), `git2db-xet-${randomBytes(12).toString('hex')}`);
  }

  /** Comes before anything is written below `root`. */
  prepare(): void {
    if (this.#isMade || !this.#isPrivate) return;
    // Not if it is there: nobody else's directory is to be used, and nobody else is to look into this one.
    mkdirSync(this.root, { mode: 0o700 });
    this.#isMade = true;
  }

  /** For all who want it; `signal` ends the wait of this one. */
  #open(signal: AbortSignal): Promise<Store> {
    const store = this.#store ?? this.#connect(this.#life);
    this.#store = store;
    // A failure is not remembered: the next call tries again.
    store.catch(() => {
      this.#store = undefined;
    });
    return untilAborted(store, signal);
  }

  #until({ signal }: TransferOptions): AbortSignal {
    return signal === undefined ? this.#life : AbortSignal.any([signal, this.#life]);
  }

  stored(file: WantedFile): void {
    this.#unsent.set(formatHash(file.hash), file);
  }

  /** Whether nothing stored here is to be sent. */
  get isSent(): boolean {
    return this.#unsent.size === 0;
  }

  /** Sends what was stored and sealed here. Throws the first failure; what was not sent is sent the next time. */
  async send(options: TransferOptions): Promise<TransferResult | undefined> {
    if (this.#unsent.size === 0) return undefined;
    const files = [...this.#unsent.values()];
    const local = new LocalStore(this.root);
    const signal = this.#until(options);
    try {
      const result = await pushFiles(local, await this.#open(signal), files, { ...options, signal });
      for (const { hash, outcome } of result.files)
        if (outcome !== 'failed') this.#unsent.delete(formatHash(hash));
      const failed = result.files.find((file) => file.error !== undefined);
      if (failed?.error !== undefined) throw failed.error;
      return result;
    } finally {
      local.close();
    }
  }

  /** Makes a file one of the store here. Throws why it cannot be had. */
  async fetch(file: WantedFile, options: TransferOptions): Promise<void> {
    const name = formatHash(file.hash);
    // Once for all who want it now; but one that gives up must not take the others with it.
    const before = this.#fetching.get(name);
    if (before !== undefined && options.signal === undefined) return before;
    const fetching = this.#fetch(file, options);
    this.#fetching.set(name, fetching);
    try {
      await fetching;
    } finally {
      if (this.#fetching.get(name) === fetching) this.#fetching.delete(name);
    }
  }

  async #fetch(file: WantedFile, options: TransferOptions): Promise<void> {
    this.prepare();
    const local = new LocalStore(this.root);
    try {
      const signal = this.#until(options);
      const store = await this.#open(signal);
      const writer = { fsync: this.#isPrivate ? 'none' : 'batch' } as const;
      const { files } = await fetchFiles(local, store, [file], { ...options, signal, writer });
      if (files[0]?.error !== undefined) throw files[0].error;
    } finally {
      local.close();
    }
  }

  /** Bytes [start, end) of a file, not kept here. */
  async *readRange(
    file: WantedFile,
    start: number,
    end: number,
    options: TransferOptions,
  ): AsyncGenerator<Uint8Array> {
    const signal = this.#until(options);
    yield* readRange(await this.#open(signal), file.hash, start, end, { signal });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#end.abort();
    const store = await this.#store?.catch(() => undefined);
    await store?.[Symbol.asyncDispose]();
    if (this.#isMade) rmSync(this.root, { recursive: true, force: true });
  }
}
