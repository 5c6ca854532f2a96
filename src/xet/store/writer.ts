/**
 * The writing side of a local store, one per process and at most one open file at a time.
 *
 * New chunks go to `incoming/<writer>/<n>.xorb`; when a file is committed, one journal frame names
 * them and the file's terms. From then on any process can read the file, and if this one dies,
 * recovery finds it. `seal` publishes everything: xorbs, then the shard, then the catalog.
 */
import { rmSync } from 'node:fs';
import type { Scheme } from '../compress/scheme.ts';
import { formatHash } from '../hash/xet-hash.ts';
import { FinishedXorbs } from './finished-xorbs.ts';
import {
  encodeAdoptedFrame,
  encodeFileFrame,
  type IncomingState,
  type LocalFile,
  type LocalXorb,
  type NewChunk,
  truncateXorb,
} from './journal.ts';
import type { LocalStore, StoredFile } from './local-store.ts';
import { OpenXorb } from './open-xorb.ts';
import { recoverDeadWriters } from './recover.ts';
import { removeIncoming, sealIncoming, shardFileSize, shardFrameSize } from './seal.ts';
import { SessionChunks } from './session-chunks.ts';
import { unwritable } from './unwritable.ts';
import { WriterDirectory } from './writer-directory.ts';

export interface WriterOptions {
  /** `batch`: everything is on stable storage when `seal` returns. `none`: left to the system. */
  readonly fsync: 'batch' | 'none';
  /** Told about trouble that does not make the write fail, one line each. */
  readonly warn?: (message: string) => void;
  /** The chunks come from elsewhere, and where they were cut was not checked: see `irregular/` in layout.ts. */
  readonly irregular?: boolean;
}

/** Where the writer stood when a file was begun. */
interface Mark {
  readonly xorbs: number;
  readonly lastCount: number;
}

export class StoreWriter {
  readonly #store: LocalStore;
  readonly #options: WriterOptions;
  #directory: WriterDirectory | undefined;
  readonly #state: IncomingState = { xorbs: [], files: [], adopted: [] };
  readonly #filesByHash = new Map<string, LocalFile>();
  readonly #chunks = new SessionChunks();
  readonly #touched = new Set<string>();
  #open: OpenXorb | undefined;
  /** Upper bound of what the files take in the shard. */
  #shardFileBytes = 0;
  #begun: Mark = { xorbs: 0, lastCount: 0 };
  readonly #finished: FinishedXorbs;

  /** Not registered until `register` or the first thing that is written. Throws STORE_UNSUPPORTED. */
  constructor(store: LocalStore, options: WriterOptions) {
    store.existsOrCan();
    this.#store = store;
    this.#options = options;
    this.#finished = new FinishedXorbs(options.fsync);
  }

  /** A writer that is registered. */
  static open(store: LocalStore, options: WriterOptions): StoreWriter {
    const writer = new StoreWriter(store, options);
    writer.register();
    return writer;
  }

  /** Where everything is until it is sealed. */
  get directory(): string {
    return this.#registered().path;
  }

  /**
   * Registers this process with the store, which is made if needed. gc waits for those who are, so this
   * comes before anything in the store is relied on.
   */
  register(): void {
    this.#registered();
  }

  #registered(): WriterDirectory {
    if (this.#directory !== undefined) return this.#directory;
    const directory = this.#write(() =>
      WriterDirectory.register(this.#store.layout, this.#options.irregular === true),
    );
    this.#directory = directory;
    this.#store.session = { directory: directory.path, findFile: (hash) => this.findFile(hash) };
    return directory;
  }

  /** A new file begins. Chunks put from now on belong to it until `commit`, `rollback` or the next `begin`. */
  begin(): void {
    this.rollback();
    this.#setMark();
  }

  #setMark(): void {
    const last = this.#state.xorbs.at(-1);
    this.#begun = { xorbs: this.#state.xorbs.length, lastCount: last?.count ?? 0 };
    this.#chunks.keep();
  }

  /** Place of a chunk that this session stored (the file at hand included). */
  findChunk(hashes: Uint8Array, offset: number): NewChunk | undefined {
    return this.#chunks.find(this.#state.xorbs, hashes, offset);
  }

  /**
   * Appends a chunk that is stored nowhere. `payload` is its stored form (`raw` bytes long when
   * decoded) and must stay unchanged until `flush`. Returns where it went.
   */
  put(hashes: Uint8Array, offset: number, payload: Uint8Array, scheme: Scheme, rawLength: number): NewChunk {
    const last = this.#open;
    if (last?.fits(rawLength, payload.length) === false) this.#write(() => this.#complete(last));
    const open = this.#open ?? this.#write(() => this.#openXorb());
    const chunk = { xorb: open.xorb, index: open.put(hashes, offset, payload, scheme, rawLength) };
    this.#chunks.add(chunk, hashes, offset);
    return chunk;
  }

  /** Whether a chunk still fits into the open xorb: else `put` completes that and begins another. */
  fits(rawLength: number, payloadLength: number): boolean {
    return this.#open?.fits(rawLength, payloadLength) ?? true;
  }

  /**
   * As `flush`, but the writing goes on while the caller does; waits for the one before. The payloads must stay
   * as they are until `settle`, which comes before a chunk that does not fit, `commit`, `rollback` and `begin`.
   */
  async flushAhead(): Promise<void> {
    await this.#written(this.#open?.flushAhead());
  }

  /** Waits for what `flushAhead` has begun. */
  async settle(): Promise<void> {
    await this.#written(this.#open?.settle());
  }

  /** Hands everything put so far to the operating system; the payloads may be reused afterwards. */
  flush(): void {
    this.#write(() => this.#open?.flush());
  }

  /**
   * Acknowledges the file: after this it is readable by every process and survives this one. Space
   * for what `seal` will write is taken from the disk now, so that a full disk shows here.
   */
  commit(file: LocalFile): void {
    this.#open?.expectSettled();
    this.flush();
    const frame = encodeFileFrame(file, this.#chunks.ofFile);
    const shardFileBytes = this.#shardFileBytes + shardFileSize(file);
    const directory = this.#registered();
    this.#write(() => {
      this.#open?.reserveFooter();
      directory.reserveShard(shardFrameSize(this.#state.xorbs) + shardFileBytes);
      directory.append(frame);
    });
    this.#shardFileBytes = shardFileBytes;
    this.#state.files.push(file);
    this.#filesByHash.set(formatHash(file.fileHash), file);
    this.#setMark();
  }

  /** Forgets the chunks put since `begin`. Never fails: it is what follows a failure. */
  rollback(): void {
    this.#open?.expectSettled();
    this.#open?.dropPending();
    this.#chunks.forget();
    const { xorbs, lastCount } = this.#begun;
    const state = this.#state.xorbs;
    if (state.length > xorbs) {
      this.#open?.close();
      this.#open = undefined;
      for (const { number } of state.splice(xorbs)) {
        this.#finished.forget(number);
        this.#discard(number);
      }
    }
    const last = state.at(-1);
    if (last === undefined || last.count === lastCount) return;
    truncateXorb(last, lastCount);
    this.#finished.forget(last.number);
    // It was finished and closed when the file ran over its end: take it up again.
    this.#open ??= this.#reopen(last);
  }

  #reopen(xorb: LocalXorb): OpenXorb | undefined {
    try {
      return OpenXorb.reopen(this.#registered().xorb(xorb.number), xorb);
    } catch {
      // Then another one is begun, and this one completed when it is sealed.
      return undefined;
    }
  }

  #discard(number: number): void {
    try {
      rmSync(this.#registered().xorb(number), { force: true });
    } catch {
      // Nobody will look at it, and it goes with the directory.
    }
  }

  /** Takes note that a xorb was linked into `xorbs/` from another store, for the shard. */
  adopt(xorbHash: Uint8Array): void {
    this.#write(() => this.#registered().append(encodeAdoptedFrame(xorbHash)));
    this.#state.adopted.push(xorbHash);
  }

  /** Renews the age of a published xorb, once per session. False when it is gone. */
  touchXorb(name: string): boolean {
    if (this.#touched.has(name)) return true;
    if (!this.#store.touchXorb(name)) return false;
    this.#touched.add(name);
    return true;
  }

  touchShard(name: string): boolean {
    if (this.#touched.has(`${name}.mdb`)) return true;
    if (!this.#store.touchShard(name)) return false;
    this.#touched.add(`${name}.mdb`);
    return true;
  }

  /** Renews all that a sealed file consists of. False if some of it is gone. */
  touchFile({ terms, shard }: StoredFile): boolean {
    return terms.every(({ name }) => this.touchXorb(name)) && shard !== undefined && this.touchShard(shard);
  }

  findFile(hash: Uint8Array): StoredFile | undefined {
    const file = this.#filesByHash.get(formatHash(hash));
    return (
      file &&
      this.#store.describeLocal(file, (number) => this.#store.openLocal(this.directory, this.#state, number))
    );
  }

  /**
   * Publishes what was committed, completes the work of dead writers, and ends this writer, which
   * must not be used afterwards.
   */
  async seal(): Promise<void> {
    // What it wrote was committed, or is not wanted.
    await this.settle().catch(() => {});
    this.rollback();
    const directory = this.#directory;
    if (directory === undefined) return;
    try {
      this.#open?.close();
      this.#open = undefined;
      directory.closeJournal();
      await sealIncoming(this.#store, directory.path, this.#state, {
        ...this.#options,
        touched: this.#touched,
        finished: this.#finished,
      });
      await recoverDeadWriters(this.#store, directory.path, this.#options);
      // While it still counts as alive: a rescuer must not take over what is being removed.
      removeIncoming(directory.path);
    } finally {
      this.#store.session = undefined;
      directory.leave();
    }
  }

  #openXorb(): OpenXorb {
    const number = this.#state.xorbs.length;
    this.#open = OpenXorb.create(this.#registered().xorb(number), number);
    this.#state.xorbs.push(this.#open.xorb);
    return this.#open;
  }

  /** The open xorb is full: completes its file. */
  #complete(open: OpenXorb): void {
    open.expectSettled();
    open.flush();
    this.#finished.add(open.fd, open.xorb);
    this.#open = undefined;
  }

  /** Gives what the system says about a failed write its place, and what to do about it. */
  #write<T>(action: () => T): T {
    try {
      return action();
    } catch (error) {
      throw unwritable(this.#store.root, error);
    }
  }

  /** As `#write`, of a write that is under way. */
  async #written(writing: Promise<void> | undefined): Promise<void> {
    try {
      await writing;
    } catch (error) {
      throw unwritable(this.#store.root, error);
    }
  }
}
