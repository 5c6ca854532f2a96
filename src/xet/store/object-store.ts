/**
 * A store whose files are objects under the same names in a bucket, behind a static web server, or anywhere else
 * (docs/format/bucket.md). Reading needs ranges and no listing: catalog, shards, footers and records are read in
 * parts. Writing needs two conditions: put where there is none, and replace what has not changed. Nobody holds
 * a lock, so any number of clients and servers may work on one bucket.
 */

import { untilAborted } from '../cas/abort.ts';
import { type Clock, SYSTEM_CLOCK } from '../cas/retry.ts';
import { Git2dbError } from '../errors.ts';
import { compareHashes, HASH_SIZE } from '../hash/xet-hash.ts';
import { bodyOf, type ObjectStore } from '../objects/objects.ts';
import type { XorbFooter } from '../xorb/format.ts';
import { throwIfAborted } from './aborted.ts';
import { GroupCommit } from './group-commit.ts';
import { STORE_FORMAT, STORE_VERSION } from './layout.ts';
import { ObjectCache } from './object-cache.ts';
import { ObjectCatalog } from './object-catalog.ts';
import { ObjectChunks } from './object-chunks.ts';
import { ObjectFiles } from './object-files.ts';
import { ObjectFooters } from './object-footers.ts';
import { ObjectShards } from './object-shards.ts';
import { ObjectXorbs } from './object-xorbs.ts';
import type { Ranges } from './record-runs.ts';
import { acceptShard, type IncomingShard, readIncomingShard, type StoredShard } from './shard-intake.ts';
import type { CallOptions, ChunkRun, RecordRun, ServableStore, StoreFile, XorbUpload } from './store.ts';
import { checkedFooter } from './xorb-intake.ts';

export interface ObjectStoreOptions {
  /** Told about trouble that does not make a call fail, one line each. */
  readonly warn?: (message: string) => void;
  readonly clock?: Clock;
  readonly signal?: AbortSignal;
}

/** What stands in `format`. */
const FORMAT = `${STORE_FORMAT}${STORE_VERSION}\n`;
const CACHE_BYTES = 48 << 20;

export class StoreOverObjects implements ServableStore {
  readonly place: string;
  readonly isReadOnly: boolean;
  readonly #objects: ObjectStore;
  readonly #catalog: ObjectCatalog;
  readonly #files: ObjectFiles;
  readonly #footers: ObjectFooters;
  readonly #chunks: ObjectChunks;
  readonly #xorbs: ObjectXorbs;
  readonly #clock: Clock;
  readonly #incoming: GroupCommit<StoredShard, void>;
  #hasFormat: boolean;

  private constructor(objects: ObjectStore, hasFormat: boolean, options: ObjectStoreOptions) {
    const { warn = () => {}, clock = SYSTEM_CLOCK } = options;
    this.#objects = objects;
    this.#hasFormat = hasFormat;
    this.#clock = clock;
    this.place = objects.place;
    this.isReadOnly = objects.isReadOnly;
    const cache = new ObjectCache(objects, CACHE_BYTES);
    const now = () => clock.now();
    this.#catalog = new ObjectCatalog(objects, cache, clock, warn);
    this.#files = new ObjectFiles(objects, this.#catalog, new ObjectShards(cache));
    this.#footers = new ObjectFooters(objects, now);
    this.#chunks = new ObjectChunks(this.#catalog, this.#footers, now);
    this.#xorbs = new ObjectXorbs(objects, this.#footers);
    this.#incoming = new GroupCommit((shards) => this.#commit(shards));
  }

  /**
   * The store owns `objects`. An empty bucket is an empty store; behind a web server there must be one. Throws
   * REMOTE_MISSING, STORE_UNSUPPORTED, and what the objects throw.
   */
  static async open(objects: ObjectStore, options: ObjectStoreOptions = {}): Promise<StoreOverObjects> {
    const format = await objects.readWhole('format', { limit: 4096, signal: options.signal });
    const text = format === undefined || format === 'unchanged' ? undefined : format.bytes.toString('latin1');
    if (text === undefined && objects.isReadOnly) {
      throw new Git2dbError(
        'REMOTE_MISSING',
        `there is no store at ${objects.place}: expected its file \`format\` there; check the address`,
      );
    }
    if (text !== undefined && text !== FORMAT) {
      throw new Git2dbError(
        'STORE_UNSUPPORTED',
        `${objects.place}/format: expected ${JSON.stringify(FORMAT.trim())}, found ${JSON.stringify(text.slice(0, 40))}; ` +
          'this is no store, or one of another version of git2db',
      );
    }
    return new StoreOverObjects(objects, text !== undefined, options);
  }

  findFiles(hashes: readonly Uint8Array[], options?: CallOptions): Promise<(StoreFile | undefined)[]> {
    return untilAborted(this.#files.find(hashes, options?.signal), options?.signal);
  }

  findSha256s(sha256s: readonly string[], options?: CallOptions): Promise<(Uint8Array | undefined)[]> {
    return untilAborted(this.#files.findSha256s(sha256s, options?.signal), options?.signal);
  }

  findChunks(hashes: Uint8Array, options?: CallOptions): Promise<ChunkRun[]> {
    return untilAborted(this.#chunks.findRuns(hashes, options?.signal), options?.signal);
  }

  async readFooter(xorbHash: Uint8Array, options?: CallOptions): Promise<XorbFooter> {
    throwIfAborted(options?.signal);
    return untilAborted(this.#footers.get(xorbHash), options?.signal);
  }

  readRecords(ranges: Ranges, options?: CallOptions): AsyncIterable<RecordRun> {
    return this.#xorbs.readRecords(ranges, options);
  }

  async hasXorb(xorbHash: Uint8Array, options?: CallOptions): Promise<boolean> {
    throwIfAborted(options?.signal);
    return (await untilAborted(this.#footers.findPresent(xorbHash), options?.signal)) !== undefined;
  }

  async putXorb(upload: XorbUpload, options: CallOptions = {}): Promise<boolean> {
    this.#checkWritable();
    const tail = checkedFooter(upload.footer);
    await this.#makeStore(options.signal);
    return this.#xorbs.put(upload, tail, options);
  }

  async putShard(bytes: Uint8Array, options: CallOptions = {}): Promise<boolean> {
    this.#checkWritable();
    throwIfAborted(options.signal);
    const shard = readIncomingShard(bytes);
    if (shard.needed.size === 0 && shard.files.length === 0) return false;
    const stored = acceptShard(
      shard,
      await untilAborted(this.#footers.getPresent(shard.needed, options.signal), options.signal),
      Math.floor(this.#clock.now() / 1000),
    );
    if (!(await untilAborted(this.#isNew(shard, options.signal), options.signal))) return false;
    await this.#makeStore(options.signal);
    // Two clients may send the same: then both shards stand there, and either will do.
    await this.#objects.putIfAbsent(`shards/${stored.name}.mdb`, bodyOf(stored.bytes), options);
    await untilAborted(this.#incoming.add(stored, options.signal), options.signal);
    return true;
  }

  xorbSize(xorbHash: Uint8Array, options?: CallOptions): Promise<number | undefined> {
    return this.#xorbs.size(xorbHash, options);
  }

  readXorb(
    xorbHash: Uint8Array,
    start: number,
    end: number,
    options?: CallOptions,
  ): AsyncIterable<Uint8Array> {
    return this.#xorbs.read(xorbHash, start, end, options);
  }

  findXorbsOfChunk(chunkHash: Uint8Array, options?: CallOptions): Promise<XorbFooter[]> {
    return untilAborted(this.#chunks.findXorbs(chunkHash, options?.signal), options?.signal);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#incoming.settled();
    await this.#objects[Symbol.asyncDispose]();
  }

  async #isNew({ files, xorbs }: IncomingShard, signal?: AbortSignal): Promise<boolean> {
    await this.#catalog.refresh();
    const known = await this.#files.findKnown(
      files.map(({ fileHash }) => fileHash),
      signal,
    );
    const isFileNew = files.some(
      ({ sha256 }, i) => known[i] === undefined || (sha256 !== undefined && known[i].sha256 !== sha256),
    );
    if (isFileNew) return true;
    const lists = Buffer.concat(xorbs.map(({ hashes }) => hashes.subarray(0, HASH_SIZE)));
    const places = await this.#chunks.findPlaces(
      lists,
      xorbs.map((_, i) => HASH_SIZE * i),
      signal,
    );
    return xorbs.some(({ xorbHash }, i) =>
      (places[i] ?? []).every(({ xorb, index }) => index !== 0 || compareHashes(xorb, 0, xorbHash, 0) !== 0),
    );
  }

  /** Shards that came at about the same time get one catalog. */
  async #commit(shards: readonly StoredShard[]): Promise<PromiseSettledResult<void>[]> {
    await this.#catalog.publish(new Map(shards.map(({ name, bytes }) => [name, bytes])));
    return shards.map(() => ({ status: 'fulfilled', value: undefined }));
  }

  async #makeStore(signal?: AbortSignal): Promise<void> {
    if (this.#hasFormat) return;
    await this.#objects.putIfAbsent('format', bodyOf(Buffer.from(FORMAT, 'latin1')), { signal });
    this.#hasFormat = true;
  }

  #checkWritable(): void {
    if (!this.isReadOnly) return;
    throw new Git2dbError(
      'STORE_UNWRITABLE',
      `${this.place} can only be read; send content to another place`,
    );
  }
}
