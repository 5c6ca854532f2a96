/**
 * The writing side of a local store, one per process and at most one open file at a time.
 *
 * New chunks go to `incoming/<writer>/<n>.xorb`; when a file is committed, one journal frame names
 * them and the file's terms. From then on any process can read the file, and if this one dies,
 * recovery finds it. `seal` publishes everything: xorbs, then the shard, then the catalog.
 */
import { randomBytes } from 'node:crypto';
import { closeSync, mkdirSync, openSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Scheme } from '../compress/scheme.ts';
import { formatHash } from '../hash/xet-hash.ts';
import { fitsInXorb } from '../xorb/builder.ts';
import { CHUNK_HEADER_SIZE, encodeChunkHeader, footerLength } from '../xorb/format.ts';
import { FinishedXorbs } from './finished-xorbs.ts';
import { JOURNAL } from './incoming.ts';
import {
  appendChunk,
  dataEnd,
  encodeAdoptedFrame,
  encodeFileFrame,
  type IncomingState,
  type LocalFile,
  type LocalTerm,
  type LocalXorb,
  type NewChunk,
  newLocalXorb,
  rawBytesOf,
  truncateXorb,
} from './journal.ts';
import { LivenessMark } from './liveness.ts';
import type { LocalStore, StoredFile } from './local-store.ts';
import { recoverDeadWriters } from './recover.ts';
import {
  IRREGULAR_MARK,
  removeIncoming,
  SHARD_RESERVE,
  sealIncoming,
  shardFileSize,
  shardFrameSize,
} from './seal.ts';
import { unwritable } from './unwritable.ts';
import { writeAll, writeAllAhead, writeZeros } from './write-all.ts';

export interface WriterOptions {
  /** `batch`: everything is on stable storage when `seal` returns. `none`: left to the system. */
  readonly fsync: 'batch' | 'none';
  /** Told about trouble that does not make the write fail, one line each. */
  readonly warn?: (message: string) => void;
  /** The chunks come from elsewhere, and where they were cut was not checked: see `irregular/` in layout.ts. */
  readonly irregular?: boolean;
}

/** Reserved for the shard beyond what is needed now. */
const SHARD_HEADROOM = 1 << 15;
/** Reserved behind the records beyond what the footer needs now. */
const FOOTER_HEADROOM = 1 << 13;

interface OpenXorb {
  readonly xorb: LocalXorb;
  readonly fd: number;
  /** Bytes of the file that have blocks: the records and what is reserved behind them. */
  reserved: number;
}

/** Where the writer stood when a file was begun. */
interface Mark {
  readonly xorbs: number;
  readonly lastCount: number;
}

/** A directory in `incoming/`, and the mark that says its writer is alive. */
interface Registration {
  readonly directory: string;
  readonly mark: LivenessMark;
}

export class StoreWriter {
  readonly #store: LocalStore;
  readonly #options: WriterOptions;
  #registration: Registration | undefined;
  readonly #state: IncomingState = { xorbs: [], files: [], adopted: [] };
  readonly #filesByHash = new Map<string, LocalFile>();
  /** Chunks of this session: key of the hash -> local xorb number * 8192 + chunk number. */
  readonly #chunks = new Map<string, number>();
  readonly #touched = new Set<string>();
  #open: OpenXorb | undefined;
  #journal: number | undefined;
  #journalEnd = 0;
  #shardReserved = 0;
  /** Upper bound of what the files take in the shard. */
  #shardFileBytes = 0;
  #begun: Mark = { xorbs: 0, lastCount: 0 };
  #fileChunks: NewChunk[] = [];
  /** What `#chunks` said before each of them was put. */
  #shadowed: (number | undefined)[] = [];
  readonly #finished: FinishedXorbs;
  // Records that wait for the next writev, and where they go.
  #pending: Uint8Array[] = [];
  #pendingBytes = 0;
  /** A write that the thread pool is at. Nothing that closes or truncates the open xorb may happen meanwhile. */
  #ahead: Promise<void> | undefined;

  /** Not registered until `register` or the first thing that is written. Throws STORE_UNSUPPORTED. */
  constructor(store: LocalStore, options: WriterOptions) {
    store.exists();
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
    return this.register().directory;
  }

  /**
   * Registers this process with the store, which is made if needed. gc waits for those who are, so this
   * comes before anything in the store is relied on.
   */
  register(): Registration {
    if (this.#registration !== undefined) return this.#registration;
    const { layout } = this.#store;
    try {
      layout.create();
      const name = `${Date.now().toString(36)}-${process.pid}-${randomBytes(4).toString('hex')}`;
      // Invisible until the mark is in place: a directory without one looks abandoned.
      const hidden = join(layout.incoming, `.${name}`);
      mkdirSync(hidden);
      if (this.#options.irregular === true) writeFileSync(join(hidden, IRREGULAR_MARK), '');
      const mark = new LivenessMark(hidden);
      const directory = join(layout.incoming, name);
      renameSync(hidden, directory);
      this.#registration = { directory, mark };
      this.#store.session = { directory, findFile: (hash) => this.findFile(hash) };
      return this.#registration;
    } catch (error) {
      throw unwritable(this.#store.root, error);
    }
  }

  /** A new file begins. Chunks put from now on belong to it until `commit`, `rollback` or the next `begin`. */
  begin(): void {
    this.rollback();
    this.#setMark();
  }

  #setMark(): void {
    const last = this.#state.xorbs.at(-1);
    this.#begun = { xorbs: this.#state.xorbs.length, lastCount: last?.count ?? 0 };
    this.#fileChunks = [];
    this.#shadowed = [];
  }

  /** Place of a chunk that this session stored (the file at hand included). */
  findChunk(
    hashes: Uint8Array,
    offset: number,
  ): { readonly xorb: LocalXorb; readonly index: number } | undefined {
    const place = this.#chunks.get(chunkKey(hashes, offset));
    if (place === undefined) return undefined;
    const xorb = this.#state.xorbs[place >>> 13] as LocalXorb;
    const index = place & 8191;
    // The key is half of the hash: compare the rest.
    return xorb.hashes.slice(32 * index, 32 * index + 32).compare(hashes, offset, offset + 32) === 0
      ? { xorb, index }
      : undefined;
  }

  /**
   * Appends a chunk that is stored nowhere. `payload` is its stored form (`raw` bytes long when
   * decoded) and must stay unchanged until `flush`. Returns where it went.
   */
  put(hashes: Uint8Array, offset: number, payload: Uint8Array, scheme: Scheme, rawLength: number): NewChunk {
    const stored = CHUNK_HEADER_SIZE + payload.length;
    let open = this.#open;
    if (open !== undefined) {
      const { xorb } = open;
      if (!fitsInXorb(rawBytesOf(xorb), dataEnd(xorb), xorb.count, rawLength, stored)) {
        const full = open;
        this.#write(() => this.#rotate(full));
        open = undefined;
      }
    }
    open ??= this.#write(() => this.#openXorb());
    const { xorb } = open;
    const header = Buffer.allocUnsafe(CHUNK_HEADER_SIZE);
    encodeChunkHeader(header, 0, { storedLength: payload.length, scheme, rawLength });
    this.#pending.push(header, payload);
    this.#pendingBytes += stored;
    const chunk: NewChunk = { xorb, index: xorb.count };
    appendChunk(xorb, hashes, offset, stored, rawLength);
    const key = chunkKey(hashes, offset);
    this.#fileChunks.push(chunk);
    this.#shadowed.push(this.#chunks.get(key));
    this.#chunks.set(key, xorb.number * 8192 + chunk.index);
    return chunk;
  }

  /** Whether a chunk still fits into the open xorb: else `put` completes that and begins another. */
  fits(rawLength: number, payloadLength: number): boolean {
    const xorb = this.#open?.xorb;
    if (xorb === undefined) return true;
    const stored = CHUNK_HEADER_SIZE + payloadLength;
    return fitsInXorb(rawBytesOf(xorb), dataEnd(xorb), xorb.count, rawLength, stored);
  }

  /**
   * As `flush`, but the writing goes on while the caller does; waits for the one before. The payloads must stay
   * as they are until `settle`, which comes before a chunk that does not fit, `commit`, `rollback` and `begin`.
   */
  async flushAhead(): Promise<void> {
    const open = this.#open;
    if (open === undefined || this.#pendingBytes === 0) return;
    const end = dataEnd(open.xorb);
    const position = end - this.#pendingBytes;
    const buffers = this.#pending;
    this.#pending = [];
    this.#pendingBytes = 0;
    if (end > open.reserved) open.reserved = end;
    const before = this.#ahead;
    const writing = (async () => {
      await before;
      await writeAllAhead(open.fd, buffers, position);
    })();
    // Whoever settles hears of it.
    writing.catch(() => {});
    this.#ahead = writing;
    await this.#settled(before);
  }

  /** Waits for what `flushAhead` has begun. */
  async settle(): Promise<void> {
    const ahead = this.#ahead;
    try {
      await this.#settled(ahead);
    } finally {
      if (this.#ahead === ahead) this.#ahead = undefined;
    }
  }

  async #settled(writing: Promise<void> | undefined): Promise<void> {
    try {
      await writing;
    } catch (error) {
      throw unwritable(this.#store.root, error);
    }
  }

  #expectSettled(): void {
    if (this.#ahead !== undefined) throw new Error('the writer is still writing: settle comes first');
  }

  /** Hands everything put so far to the operating system; the payloads may be reused afterwards. */
  flush(): void {
    const open = this.#open;
    if (open === undefined || this.#pendingBytes === 0) return;
    const end = dataEnd(open.xorb);
    this.#write(() => writeAll(open.fd, this.#pending, end - this.#pendingBytes));
    this.#pending = [];
    this.#pendingBytes = 0;
    if (end > open.reserved) open.reserved = end;
  }

  /**
   * Acknowledges the file: after this it is readable by every process and survives this one. Space
   * for what `seal` will write is taken from the disk now, so that a full disk shows here.
   */
  commit(file: LocalFile): void {
    this.#expectSettled();
    this.flush();
    const frame = encodeFileFrame(file, this.#fileChunks);
    const shardFileBytes = this.#shardFileBytes + shardFileSize(file);
    this.#write(() => {
      this.#reserve(shardFileBytes);
      this.#append(frame);
    });
    this.#shardFileBytes = shardFileBytes;
    this.#state.files.push(file);
    this.#filesByHash.set(formatHash(file.fileHash), file);
    this.#setMark();
  }

  /** Forgets the chunks put since `begin`. Never fails: it is what follows a failure. */
  rollback(): void {
    this.#expectSettled();
    this.#pending = [];
    this.#pendingBytes = 0;
    const { xorbs, lastCount } = this.#begun;
    for (let i = this.#fileChunks.length - 1; i >= 0; i--) {
      const { xorb, index } = this.#fileChunks[i] as NewChunk;
      const key = chunkKey(xorb.hashes.slice(), 32 * index);
      const before = this.#shadowed[i];
      if (before === undefined) this.#chunks.delete(key);
      else this.#chunks.set(key, before);
    }
    this.#fileChunks = [];
    this.#shadowed = [];
    const state = this.#state.xorbs;
    if (state.length > xorbs) {
      if (this.#open !== undefined) closeSync(this.#open.fd);
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
      return { xorb, fd: openSync(this.#path(xorb.number), 'r+'), reserved: dataEnd(xorb) };
    } catch {
      // Then another one is begun, and this one completed when it is sealed.
      return undefined;
    }
  }

  #discard(number: number): void {
    try {
      rmSync(this.#path(number), { force: true });
    } catch {
      // Nobody will look at it, and it goes with the directory.
    }
  }

  /** Takes note that a xorb was linked into `xorbs/` from another store, for the shard. */
  adopt(xorbHash: Uint8Array): void {
    this.#write(() => this.#append(encodeAdoptedFrame(xorbHash)));
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
    if (this.#registration === undefined) return;
    const { directory, mark } = this.#registration;
    try {
      if (this.#open !== undefined) {
        closeSync(this.#open.fd);
        this.#open = undefined;
      }
      if (this.#journal !== undefined) {
        closeSync(this.#journal);
        this.#journal = undefined;
      }
      await sealIncoming(this.#store, directory, this.#state, {
        ...this.#options,
        touched: this.#touched,
        finished: this.#finished,
      });
      await recoverDeadWriters(this.#store, directory, this.#options);
      // While it still counts as alive: a rescuer must not take over what is being removed.
      removeIncoming(directory);
    } finally {
      this.#store.session = undefined;
      mark.close();
    }
  }

  #openXorb(): OpenXorb {
    const xorb = newLocalXorb(this.#state.xorbs.length);
    const fd = openSync(this.#path(xorb.number), 'w+', 0o666);
    this.#state.xorbs.push(xorb);
    this.#open = { xorb, fd, reserved: 0 };
    return this.#open;
  }

  /** The open xorb is full: completes its file. */
  #rotate(open: OpenXorb): void {
    this.#expectSettled();
    this.flush();
    this.#finished.add(open.fd, open.xorb);
    this.#open = undefined;
  }

  /** Makes sure of disk space for the open xorb's footer and for a shard with files of so many bytes. */
  #reserve(shardFileBytes: number): void {
    const open = this.#open;
    if (open !== undefined) {
      const needed = dataEnd(open.xorb) + footerLength(open.xorb.count);
      if (needed > open.reserved) {
        writeZeros(open.fd, open.reserved, needed + FOOTER_HEADROOM);
        open.reserved = needed + FOOTER_HEADROOM;
      }
    }
    const needed = shardFrameSize(this.#state.xorbs) + shardFileBytes;
    if (needed > this.#shardReserved) {
      // Ahead of the need, so that not every small file costs a write.
      const ahead = needed + SHARD_HEADROOM;
      const fd = openSync(join(this.directory, SHARD_RESERVE), this.#shardReserved === 0 ? 'w' : 'r+');
      try {
        writeZeros(fd, this.#shardReserved, ahead);
      } finally {
        closeSync(fd);
      }
      this.#shardReserved = ahead;
    }
  }

  #append(frame: Buffer): void {
    this.#journal ??= openSync(join(this.directory, JOURNAL), 'w', 0o666);
    // Positional, so that a frame cut short by a full disk is overwritten by the next.
    writeAll(this.#journal, [frame], this.#journalEnd);
    this.#journalEnd += frame.length;
  }

  /** Gives what the system says about a failed write its place, and what to do about it. */
  #write<T>(action: () => T): T {
    try {
      return action();
    } catch (error) {
      throw unwritable(this.#store.root, error);
    }
  }

  #path(number: number): string {
    return join(this.directory, `${number}.xorb`);
  }
}

/** Terms of a file as its chunks come: merges what continues in the same xorb. */
export function extendTerms(
  terms: LocalTerm[],
  xorbHash: Uint8Array | undefined,
  local: number,
  index: number,
  rawLength: number,
): boolean {
  const last = terms.at(-1);
  const same = last !== undefined && last.end === index && last.local === local && last.xorbHash === xorbHash;
  if (same) {
    last.end++;
    last.rawBytes += rawLength;
    return true;
  }
  terms.push({ xorbHash, local, start: index, end: index + 1, rawBytes: rawLength });
  return false;
}

function chunkKey(hashes: Uint8Array, offset: number): string {
  return Buffer.prototype.latin1Slice.call(hashes, offset, offset + 16);
}
