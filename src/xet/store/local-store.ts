/**
 * A store in a local directory: finding files, chunks and xorbs. Opening it reads nothing; it need
 * not exist (then it is empty). Writing goes through StoreWriter. All calls are synchronous: the
 * filter answers one request at a time and waits for the disk anyway.
 */
import { accessSync, statSync, utimesSync } from 'node:fs';
import { errnoOf, FormatError, Git2dbError } from '../errors.ts';
import { formatHash } from '../hash/xet-hash.ts';
import type { FileRecord } from '../shard/file-info.ts';
import { Catalog } from './catalog.ts';
import type { ChunkPlace } from './catalog-table.ts';
import { IncomingReader, openLocalXorb } from './incoming.ts';
import type { IncomingState, LocalXorb } from './journal.ts';
import { KeptSources } from './kept-sources.ts';
import { StoreLayout } from './layout.ts';
import { ShardFiles } from './shard-file.ts';
import { openXorbFile, type XorbSource } from './xorb-source.ts';

/** How often clean looks for shards of other processes. */
const REFRESH_MS = 1000;

/** A run of chunks of one xorb, and the way to that xorb. */
export interface StoredTerm {
  /** String form, or a description of an unsealed local xorb. For messages and caches. */
  readonly name: string;
  /** Undefined while the xorb is still open in a writer's directory. */
  readonly xorbHash: Uint8Array | undefined;
  /** Number of the writer's xorb, where `xorbHash` is undefined. */
  readonly local?: number;
  readonly start: number;
  readonly end: number;
  readonly rawBytes: number;
  /** Opens the xorb (or returns it from the cache). Throws CONTENT_MISSING or INVALID_XORB. */
  open(): XorbSource;
}

export interface StoredFile {
  readonly hash: Uint8Array;
  readonly size: number;
  readonly terms: readonly StoredTerm[];
  /** Name of the shard that says so, or undefined for a file that is not sealed yet. */
  readonly shard: string | undefined;
  readonly record: FileRecord | undefined;
}

/** What the running writer of this process knows; see StoreWriter. */
export interface Session {
  readonly directory: string;
  findFile(hash: Uint8Array): StoredFile | undefined;
}

export class LocalStore {
  readonly layout: StoreLayout;
  readonly catalog: Catalog;
  session: Session | undefined;
  #refreshed = 0;
  readonly #incoming: IncomingReader;
  readonly #sources = new KeptSources();
  readonly #shards = new ShardFiles();
  readonly #irregular = new Map<string, boolean>();
  readonly #damagedShards = new Map<string, string>();

  constructor(root: string) {
    this.layout = new StoreLayout(root);
    this.catalog = new Catalog(this.layout);
    this.#incoming = new IncomingReader(this.layout.incoming);
  }

  /** Throws STORE_UNSUPPORTED when the directory holds a store of another version. */
  exists(): boolean {
    return this.layout.exists();
  }

  /** Throws as `exists`, and STORE_UNWRITABLE where something else is in the way. */
  existsOrCan(): boolean {
    return this.layout.existsOrCan();
  }

  /** Every known description of a file, newest first; empty when none is known. */
  *findFiles(hash: Uint8Array): Generator<StoredFile> {
    const own = this.session?.findFile(hash);
    if (own !== undefined) yield own;
    yield* this.#inShards(hash);
    const incoming = this.#incoming.findFile(hash, this.session?.directory);
    if (incoming !== undefined) {
      const { directory, state, file } = incoming;
      yield this.describeLocal(file, (number) => this.#openForeign(directory, state, number));
      return;
    }
    // A shard may have come (or a writer sealed) since the catalog was read.
    if (this.catalog.refresh()) yield* this.#inShards(hash);
  }

  /**
   * Descriptions of a file that this process can rely on: its own, and those in shards. For clean: a
   * file that another writer has not sealed may still be lost, and one that another process stored
   * within the last second may be stored twice.
   */
  *findSettledFiles(hash: Uint8Array): Generator<StoredFile> {
    const own = this.session?.findFile(hash);
    if (own !== undefined) yield own;
    yield* this.#inShards(hash);
    if (this.refresh()) yield* this.#inShards(hash);
  }

  /** For clean, before it believes a miss: looks for shards that came, once a second at most. True if there were any. */
  refresh(): boolean {
    const now = Date.now();
    if (now - this.#refreshed < REFRESH_MS) return false;
    this.#refreshed = now;
    return this.catalog.refresh();
  }

  findFile(hash: Uint8Array): StoredFile | undefined {
    for (const file of this.findFiles(hash)) return file;
    return undefined;
  }

  /**
   * Hashes of the files that are said to have this SHA-256 (64 digits), each once. Shards that came from
   * elsewhere may say what is not true: who gives out the content compares.
   */
  findSha256(sha256: string): Uint8Array[] {
    const bytes = Buffer.from(sha256, 'hex');
    const found = new Map<string, Uint8Array>();
    const add = (hashes: readonly Uint8Array[]) => {
      for (const hash of hashes) found.set(formatHash(hash), hash);
    };
    add(this.catalog.findSha256s(bytes));
    if (found.size === 0) add(this.#incoming.findSha256(sha256));
    if (found.size === 0 && this.catalog.refresh()) add(this.catalog.findSha256s(bytes));
    return [...found.values()];
  }

  /** For clean: whether a shard says that the file `hash` has this SHA-256. */
  knowsSha256(sha256: string, hash: Uint8Array): boolean {
    const bytes = Buffer.from(sha256, 'hex');
    return this.catalog.findSha256s(bytes).some((found) => found.equals(hash));
  }

  *#inShards(hash: Uint8Array): Generator<StoredFile> {
    for (const place of this.catalog.findFile(hash)) {
      const name = formatHash(place.shard);
      const record = this.#readRecord(name, place.recordIndex, hash);
      if (record !== undefined) yield this.describe(record, name);
    }
  }

  /** The stored file that a shard's record describes. */
  describe(record: FileRecord, shard: string | undefined): StoredFile {
    let size = 0;
    const terms = record.terms.map(({ xorbHash, start, end, rawBytes }) => {
      size += rawBytes;
      return this.term(xorbHash, start, end, rawBytes);
    });
    return { hash: record.fileHash, size, terms, shard, record };
  }

  /** Chunks [start, end) of a published xorb, `rawBytes` of content. */
  term(xorbHash: Uint8Array, start: number, end: number, rawBytes: number): StoredTerm {
    const open = () => this.openXorb(xorbHash);
    return { name: formatHash(xorbHash), xorbHash, start, end, rawBytes, open };
  }

  /** The stored file that a journal describes; `open` gives local xorbs. */
  describeLocal(
    file: { readonly fileHash: Uint8Array; readonly size: number; readonly terms: readonly LocalTermLike[] },
    open: (number: number) => XorbSource,
  ): StoredFile {
    const terms = file.terms.map((term): StoredTerm => {
      const { xorbHash, local, start, end, rawBytes } = term;
      if (xorbHash !== undefined) return this.term(xorbHash, start, end, rawBytes);
      return {
        name: `unsealed ${local}`,
        xorbHash: undefined,
        local,
        start,
        end,
        rawBytes,
        open: () => open(local),
      };
    });
    return { hash: file.fileHash, size: file.size, terms, shard: undefined, record: undefined };
  }

  #readRecord(name: string, recordIndex: number, hash: Uint8Array): FileRecord | undefined {
    for (const path of [this.layout.shard(name), `${this.layout.trash}/${name}.mdb`]) {
      try {
        const record = this.#shards.readRecord(path, recordIndex);
        if (Buffer.compare(record.fileHash, hash) === 0) return record;
        this.#damagedShards.set(path, `record ${recordIndex} is of file ${formatHash(record.fileHash)}`);
      } catch (error) {
        // Gone or damaged: another shard may know the file.
        if (error instanceof FormatError) this.#damagedShards.set(path, error.message);
        else if (errnoOf(error) !== 'ENOENT') throw error;
      }
    }
    return undefined;
  }

  /** Shards that were found to be damaged so far, by path, and how: they may describe what is not found. */
  damagedShards(): ReadonlyMap<string, string> {
    return new Map([...this.catalog.damagedShards, ...this.#damagedShards]);
  }

  findChunk(hashes: Uint8Array, offset: number): ChunkPlace[] {
    return this.catalog.findChunk(hashes, offset);
  }

  /** Opens a published xorb; also one that gc has put aside but not deleted yet. */
  openXorb(xorbHash: Uint8Array): XorbSource {
    const name = formatHash(xorbHash);
    const cached = this.#sources.get(name);
    if (cached !== undefined) return cached;
    for (const path of [this.layout.xorb(name), `${this.layout.trash}/${name}`]) {
      try {
        return this.#sources.keep(name, openXorbFile(path, xorbHash));
      } catch (error) {
        if (errnoOf(error) !== 'ENOENT') throw error;
      }
    }
    throw new Git2dbError('CONTENT_MISSING', `xorb ${name} is not in ${this.layout.xorbs}`, {
      data: { xorb: name },
    });
  }

  /** Opens local xorb `number` of a writer, as far as `state` knows it. Throws ENOENT when it was sealed. */
  openLocal(directory: string, state: IncomingState, number: number): XorbSource {
    // Local xorbs grow: the chunk list of an earlier look may be too short, so its length is in the key.
    const name = `${directory}/${number}#${state.xorbs[number]?.count}`;
    return this.#sources.get(name) ?? this.#sources.keep(name, openLocalXorb(directory, state, number));
  }

  /** A local xorb of another writer, or the published one that it has become meanwhile. */
  #openForeign(directory: string, state: IncomingState, number: number): XorbSource {
    try {
      return this.openLocal(directory, state, number);
    } catch (error) {
      const published = errnoOf(error) === 'ENOENT' ? this.#findPublished(state.xorbs[number]) : undefined;
      if (published === undefined) throw error;
      return published;
    }
  }

  #findPublished(local: LocalXorb | undefined): XorbSource | undefined {
    if (local === undefined) return undefined;
    this.catalog.refresh();
    const hashes = local.hashes.slice();
    for (const { xorb, index } of this.catalog.findChunk(hashes, 0)) {
      const source = index === 0 && this.hasXorb(formatHash(xorb)) ? this.openXorb(xorb) : undefined;
      // The writer may have gone on with it after we read its journal.
      if (source !== undefined && hashes.equals(source.hashes.subarray(0, hashes.length))) return source;
    }
    return undefined;
  }

  /** Closes xorbs and shards that may have been replaced or moved, so that the next look opens them by name. */
  forgetSources(): void {
    this.#shards.close();
    this.#sources.forget();
  }

  /** True if the xorb is published (not: put aside by gc). */
  hasXorb(name: string): boolean {
    try {
      accessSync(this.layout.xorb(name));
      return true;
    } catch {
      return false;
    }
  }

  /**
   * Renews the age of a xorb, so that gc sees it is wanted. False when it is not there any more.
   */
  touchXorb(name: string): boolean {
    return touch(this.layout.xorb(name));
  }

  touchShard(name: string): boolean {
    return touch(this.layout.shard(name));
  }

  /** True if this store did not cut the xorb's chunks itself: see `irregular/` in layout.ts. */
  isIrregular(name: string): boolean {
    let known = this.#irregular.get(name);
    if (known === undefined) {
      try {
        accessSync(`${this.layout.irregular}/${name}`);
        known = true;
      } catch {
        known = false;
      }
      this.#irregular.set(name, known);
    }
    return known;
  }

  /** Directory of quarantined, trashed and live objects by role; used in messages. */
  get root(): string {
    return this.layout.root;
  }

  close(): void {
    this.#sources.close();
    this.#shards.close();
    this.catalog.close();
  }
}

interface LocalTermLike {
  readonly xorbHash: Uint8Array | undefined;
  readonly local: number;
  readonly start: number;
  readonly end: number;
  readonly rawBytes: number;
}

function touch(path: string): boolean {
  const now = new Date();
  try {
    utimesSync(path, now, now);
    return true;
  } catch (error) {
    const errno = errnoOf(error);
    if (errno === 'ENOENT') return false;
    // Another user's store that we may read only: gc is that user's, and it knows us by `users/`.
    if (errno === 'EPERM' || errno === 'EACCES' || errno === 'EROFS')
      return statSync(path, { throwIfNoEntry: false }) !== undefined;
    throw error;
  }
}
