/**
 * A store in a directory of this machine, or one that is mounted here, seen as others see it: the far end of a
 * push to a NAS, and what a server serves. It may be a repository's own store at the same time.
 */

import { accessSync, constants, existsSync, fstatSync, read, statSync, utimesSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';
import { errnoOf, FormatError, Git2dbError } from '../errors.ts';
import { formatHash } from '../hash/xet-hash.ts';
import type { XorbFooter } from '../xorb/format.ts';
import { throwIfAborted } from './aborted.ts';
import { DirectoryIntake } from './directory-intake.ts';
import { findRuns } from './find-runs.ts';
import { damagedXorb, FooterCache, missingXorb, provenFooter } from './footers.ts';
import { LocalStore, type StoredFile } from './local-store.ts';
import type { Fsync } from './publish.ts';
import { type PlannedRun, planRuns, type Ranges, readAhead } from './record-runs.ts';
import type { CallOptions, ChunkRun, RecordRun, ServableStore, StoreFile, XorbUpload } from './store.ts';
import type { XorbSource } from './xorb-source.ts';

export interface DirectoryStoreOptions {
  /** Default `batch`: what was put is on stable storage when the call returns. */
  readonly fsync?: Fsync;
  /** Default: whether it may not be written to. */
  readonly isReadOnly?: boolean;
  /** Told about trouble that does not make a call fail, one line each. */
  readonly warn?: (message: string) => void;
}

const READ_AHEAD_BYTES = 24 << 20;
const MAX_READS = 4;
const FOOTER_BYTES = 16 << 20;
/** Pieces in which a xorb is given out. */
const PIECE = 1 << 18;
/** The age of an object is renewed once in so many ms. */
const RENEW_MS = 10 * 60 * 1000;
const MAX_RENEWED = 1 << 16;
/** Xorbs of which a dedup answer tells besides those that have the chunk: those before and after them. */
const NEAR_BEFORE = 8;
const NEAR_AFTER = 56;

const readAsync = promisify(read);

export class DirectoryStore implements ServableStore {
  readonly local: LocalStore;
  readonly place: string;
  readonly isReadOnly: boolean;
  readonly #intake: DirectoryIntake;
  readonly #footers = new FooterCache(FOOTER_BYTES);
  /** Paths, and when their age was renewed. */
  readonly #renewed = new Map<string, number>();

  private constructor(root: string, options: DirectoryStoreOptions) {
    this.local = new LocalStore(root);
    this.place = root;
    this.isReadOnly = options.isReadOnly ?? !mayWrite(root);
    this.#intake = new DirectoryIntake(this.local, {
      fsync: options.fsync ?? 'batch',
      ...(options.warn !== undefined && { warn: options.warn }),
    });
  }

  /** The directory need not exist: then it is made when something is put. Throws STORE_UNSUPPORTED. */
  static open(root: string, options: DirectoryStoreOptions = {}): DirectoryStore {
    const store = new DirectoryStore(root, options);
    store.local.exists();
    return store;
  }

  async findFiles(hashes: readonly Uint8Array[], options?: CallOptions): Promise<(StoreFile | undefined)[]> {
    throwIfAborted(options?.signal);
    const present = new Map<string, boolean>();
    return hashes.map((hash) => {
      for (const file of this.local.findFiles(hash)) {
        if (file.record !== undefined && this.#hasAll(file, present)) return copyOf(file);
      }
      return undefined;
    });
  }

  async findSha256s(sha256s: readonly string[], options?: CallOptions): Promise<(Uint8Array | undefined)[]> {
    throwIfAborted(options?.signal);
    return sha256s.map((sha256) => {
      if (!/^[0-9a-f]{64}$/.test(sha256)) return undefined;
      const [hash] = this.local.findSha256(sha256);
      return hash && new Uint8Array(hash);
    });
  }

  async findChunks(hashes: Uint8Array, options?: CallOptions): Promise<ChunkRun[]> {
    const usable = new Map<string, XorbFooter | undefined>();
    let isFresh = false;
    return findRuns(
      hashes,
      {
        find: (offset) => {
          const places = this.local.findChunk(hashes, offset);
          if (places.length > 0 || isFresh) return places;
          // Somebody may have stored it since we looked; once a call is enough.
          isFresh = true;
          return this.local.catalog.refresh() ? this.local.findChunk(hashes, offset) : places;
        },
        open: (xorbHash) => {
          const name = formatHash(xorbHash);
          if (!usable.has(name)) usable.set(name, this.#usableFooter(name, xorbHash));
          return usable.get(name);
        },
      },
      options?.signal,
    );
  }

  async readFooter(xorbHash: Uint8Array, options?: CallOptions): Promise<XorbFooter> {
    throwIfAborted(options?.signal);
    return this.#footer(xorbHash);
  }

  readRecords(ranges: Ranges, options?: CallOptions): AsyncIterable<RecordRun> {
    const runs = planRuns(ranges, { footerOf: (xorbHash) => this.#footer(xorbHash), gapBytes: 0 });
    return readAhead(runs, {
      read: (run) => this.#readRun(run),
      maxBytes: READ_AHEAD_BYTES,
      maxReads: () => MAX_READS,
      signal: options?.signal,
    });
  }

  async hasXorb(xorbHash: Uint8Array, options?: CallOptions): Promise<boolean> {
    throwIfAborted(options?.signal);
    const name = formatHash(xorbHash);
    return this.#claim('xorb', name) && this.#usableFooter(name, xorbHash) !== undefined;
  }

  async putXorb(xorb: XorbUpload, options?: CallOptions): Promise<boolean> {
    this.#checkWritable();
    throwIfAborted(options?.signal);
    const isNew = await this.#intake.putXorb(xorb, options);
    this.#footers.delete(formatHash(xorb.footer.xorbHash));
    return isNew;
  }

  async putShard(shard: Uint8Array, options?: CallOptions): Promise<boolean> {
    this.#checkWritable();
    throwIfAborted(options?.signal);
    return this.#intake.putShard(shard, options);
  }

  async xorbSize(xorbHash: Uint8Array, options?: CallOptions): Promise<number | undefined> {
    throwIfAborted(options?.signal);
    const name = formatHash(xorbHash);
    for (const path of this.#xorbPaths(name)) {
      const stat = statSync(path, { throwIfNoEntry: false });
      if (stat !== undefined) return stat.size;
    }
    return undefined;
  }

  async *readXorb(
    xorbHash: Uint8Array,
    start: number,
    end: number,
    options?: CallOptions,
  ): AsyncGenerator<Uint8Array> {
    throwIfAborted(options?.signal);
    const source = this.#open(xorbHash);
    source.pins++;
    try {
      for (let at = start; at < end; ) {
        throwIfAborted(options?.signal);
        const bytes = await readPart(source, at, Math.min(end, at + PIECE), this.place);
        at += bytes.length;
        yield bytes;
      }
    } finally {
      source.pins--;
    }
  }

  async findXorbsOfChunk(chunkHash: Uint8Array, options?: CallOptions): Promise<XorbFooter[]> {
    throwIfAborted(options?.signal);
    const { catalog } = this.local;
    const near = () => catalog.findNear(chunkHash, NEAR_BEFORE, NEAR_AFTER);
    let found = near();
    if (found.length === 0 && catalog.refresh()) found = near();
    const footers = found.map((xorb) => this.#usableFooter(formatHash(xorb), xorb));
    const usable = footers.filter((footer) => footer !== undefined);
    // All may be gone that have the chunk, and the others would be no answer.
    return usable.some((footer) => hasChunk(footer, chunkHash)) ? usable : [];
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#intake.close();
    this.local.close();
  }

  #checkWritable(): void {
    if (!this.isReadOnly) return;
    throw new Git2dbError(
      'STORE_UNWRITABLE',
      `${this.place} can only be read: make it writable for this user, or choose another place`,
    );
  }

  /** True if every xorb of the file is there, and, where this store may be written to, will be for a while. */
  #hasAll(file: StoredFile, present: Map<string, boolean>): boolean {
    for (const { name, xorbHash } of file.terms) {
      if (xorbHash === undefined) return false;
      let isThere = present.get(name);
      if (isThere === undefined) {
        isThere = this.#claim('xorb', name);
        present.set(name, isThere);
      }
      if (!isThere) return false;
    }
    return file.shard !== undefined && this.#claim('shard', file.shard);
  }

  /**
   * True if the object is there. Whoever asks may rely on it (a push leaves out what is there), so its age is
   * renewed; and what gc has put aside comes back.
   */
  #claim(kind: 'xorb' | 'shard', name: string): boolean {
    const { layout } = this.local;
    const path = kind === 'xorb' ? layout.xorb(name) : layout.shard(name);
    if (this.isReadOnly) {
      return existsSync(path) || existsSync(join(layout.trash, kind === 'xorb' ? name : `${name}.mdb`));
    }
    const now = Date.now();
    if (now - (this.#renewed.get(path) ?? 0) < RENEW_MS && existsSync(path)) return true;
    if (!renew(path) && !(this.#intake.rescue(kind, name) && renew(path))) return false;
    this.#renewed.delete(path);
    this.#renewed.set(path, now);
    if (this.#renewed.size > MAX_RENEWED) this.#renewed.delete(this.#renewed.keys().next().value as string);
    return true;
  }

  /** Undefined where it is gone (or about to go) or damaged. */
  #usableFooter(name: string, xorbHash: Uint8Array): XorbFooter | undefined {
    if (!this.#claim('xorb', name)) return undefined;
    try {
      return this.#footer(xorbHash);
    } catch (error) {
      if (error instanceof Git2dbError) return undefined;
      throw error;
    }
  }

  #footer(xorbHash: Uint8Array): XorbFooter {
    const name = formatHash(xorbHash);
    const { hashes, recordEnds, rawEnds, count } = this.#open(xorbHash);
    const known = this.#footers.get(name);
    // The same bytes: the source was opened once.
    if (known !== undefined && known.hashes === hashes) return known;
    const footer: XorbFooter = {
      xorbHash: new Uint8Array(xorbHash),
      count,
      hashes,
      recordEnds: Uint32Array.from(recordEnds),
      rawEnds: Uint32Array.from(rawEnds),
    };
    provenFooter(footer, xorbHash, this.place);
    this.#footers.set(name, footer);
    return footer;
  }

  /** Throws CONTENT_MISSING or CONTENT_DAMAGED. */
  #open(xorbHash: Uint8Array): XorbSource {
    const name = formatHash(xorbHash);
    try {
      const source = this.local.openXorb(xorbHash);
      const there = statSync(source.path, { throwIfNoEntry: false });
      if (there === undefined || there.ino === fstatSync(source.fd).ino) return source;
      // Repaired, or put again, since it was opened.
      this.local.forgetSources();
      return this.local.openXorb(xorbHash);
    } catch (error) {
      if (error instanceof FormatError) throw damagedXorb(name, this.place, error.message, error);
      if (error instanceof Git2dbError && error.code === 'CONTENT_MISSING')
        throw missingXorb(name, this.place);
      throw error;
    }
  }

  async #readRun({ xorbHash, byteStart, byteEnd }: PlannedRun): Promise<Uint8Array> {
    const source = this.#open(xorbHash);
    source.pins++;
    try {
      return await readPart(source, byteStart, byteEnd, this.place);
    } finally {
      source.pins--;
    }
  }

  #xorbPaths(name: string): string[] {
    const { layout } = this.local;
    return [layout.xorb(name), join(layout.trash, name)];
  }
}

async function readPart(source: XorbSource, start: number, end: number, place: string): Promise<Buffer> {
  const bytes = Buffer.allocUnsafeSlow(end - start);
  for (let done = 0; done < bytes.length; ) {
    const { bytesRead } = await readAsync(source.fd, bytes, done, bytes.length - done, start + done);
    if (bytesRead === 0) {
      throw new Git2dbError(
        'CONTENT_DAMAGED',
        `${source.path} ends at ${start + done}, expected ${end} bytes or more; run \`git2db xet fsck\` on ${place}`,
      );
    }
    done += bytesRead;
  }
  return bytes;
}

function copyOf({ record, size }: StoredFile): StoreFile | undefined {
  return record && { ...record, size };
}

function hasChunk({ hashes, count }: XorbFooter, chunkHash: Uint8Array): boolean {
  const list = Buffer.from(hashes.buffer, hashes.byteOffset, 32 * count);
  for (let at = list.indexOf(chunkHash); at >= 0; at = list.indexOf(chunkHash, at + 1)) {
    if (at % 32 === 0) return true;
  }
  return false;
}

/** False if it is not there. */
function renew(path: string): boolean {
  const now = new Date();
  try {
    utimesSync(path, now, now);
    return true;
  } catch (error) {
    const errno = errnoOf(error);
    if (errno === 'ENOENT' || errno === 'ENOTDIR') return false;
    // Another user's: gc is that user's, and knows who uses the store.
    if (errno === 'EPERM' || errno === 'EACCES' || errno === 'EROFS') return existsSync(path);
    throw error;
  }
}

/** Whether a store can be written, or made, here. */
function mayWrite(root: string): boolean {
  for (let path = root; ; path = dirname(path)) {
    try {
      accessSync(path, constants.W_OK);
      return true;
    } catch (error) {
      if (errnoOf(error) !== 'ENOENT' || dirname(path) === path) return false;
    }
  }
}
