/**
 * A store whose files are objects under the same names in a bucket, behind a static web server, or anywhere else
 * (docs/format/bucket.md). Reading needs ranges and no listing: catalog, shards, footers and records are read in
 * parts. Writing needs two conditions: put where there is none, and replace what has not changed. Nobody holds
 * a lock, so any number of clients and servers may work on one bucket.
 */

import { AdaptiveLimit } from '../cas/adaptive-limit.ts';
import { SYSTEM_CLOCK } from '../cas/retry.ts';
import { FormatError, Git2dbError } from '../errors.ts';
import { compareHashes, formatHash, HASH_SIZE } from '../hash/xet-hash.ts';
import { bodyOf, type ObjectStore } from '../objects/objects.ts';
import { decodeFooter, readFooterLength, readRawEnds, type XorbFooter } from '../xorb/format.ts';
import { throwIfAborted } from './aborted.ts';
import type { CatalogTable, ChunkPlace } from './catalog-table.ts';
import { findRuns } from './find-runs.ts';
import { damagedXorb, FooterCache, isDamage, missingXorb, provenFooter } from './footers.ts';
import { GroupCommit } from './group-commit.ts';
import { STORE_FORMAT, STORE_VERSION } from './layout.ts';
import { ObjectCache } from './object-cache.ts';
import { type CatalogClock, ObjectCatalog } from './object-catalog.ts';
import { ObjectShards } from './object-shards.ts';
import { type PlannedRun, planRuns, type Ranges, readAhead } from './record-runs.ts';
import {
  acceptShard,
  type IncomingShard,
  readIncomingShard,
  type StoredShard,
  xorbsMissing,
} from './shard-intake.ts';
import type { CallOptions, ChunkRun, RecordRun, ServableStore, StoreFile, XorbUpload } from './store.ts';
import { checkedFooter, checkedRecords, MAX_RECORD_BYTES } from './xorb-intake.ts';

export interface ObjectStoreOptions {
  /** Told about trouble that does not make a call fail, one line each. */
  readonly warn?: (message: string) => void;
  readonly clock?: CatalogClock;
  readonly signal?: AbortSignal;
}

/** What stands in `format`. */
const FORMAT = `${STORE_FORMAT}${STORE_VERSION}\n`;
const CACHE_BYTES = 48 << 20;
const FOOTER_BYTES = 24 << 20;
/** Read first: footers of up to 1,600 chunks, which is nearly all. */
const FIRST_TAIL = 65536;
const READ_AHEAD_BYTES = 32 << 20;
/** Bytes that nobody asked for, rather than another request. */
const GAP_BYTES = 1 << 18;
/** Footers read at once. */
const PARALLEL = 16;
/** As in directory-store.ts, but each costs a request. */
const NEAR_BEFORE = 4;
const NEAR_AFTER = 28;
/** Pieces in which a xorb is given out. */
const PIECE = 4 << 20;
/** For finding chunks, which is best effort, HEAD is looked at once in so many ms. */
const REFRESH_MS = 1000;
/** How long a xorb that was seen counts as there. */
const SEEN_MS = 10 * 60 * 1000;
/** Of chunks that may be known, every so many-th is looked up first, to find xorbs whose lists tell of the others. */
const SAMPLE = 64;

export class StoreOverObjects implements ServableStore {
  readonly place: string;
  readonly isReadOnly: boolean;
  readonly #objects: ObjectStore;
  readonly #cache: ObjectCache;
  readonly #catalog: ObjectCatalog;
  readonly #shards: ObjectShards;
  readonly #clock: CatalogClock;
  readonly #footers = new FooterCache(FOOTER_BYTES);
  readonly #reading = new Map<string, Promise<XorbFooter>>();
  /** When a xorb was last put, or found to be there. */
  readonly #seen = new Map<string, number>();
  readonly #limit = new AdaptiveLimit(SYSTEM_CLOCK);
  readonly #incoming: GroupCommit<StoredShard, void>;
  #refreshedAt = Number.NEGATIVE_INFINITY;
  #hasFormat: boolean;

  private constructor(objects: ObjectStore, hasFormat: boolean, options: ObjectStoreOptions) {
    const { warn = () => {}, clock = SYSTEM_CLOCK } = options;
    this.#objects = objects;
    this.#hasFormat = hasFormat;
    this.#clock = clock;
    this.place = objects.place;
    this.isReadOnly = objects.isReadOnly;
    this.#cache = new ObjectCache(objects, CACHE_BYTES);
    this.#catalog = new ObjectCatalog(objects, this.#cache, clock, warn);
    this.#shards = new ObjectShards(this.#cache);
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

  async findFiles(hashes: readonly Uint8Array[], options?: CallOptions): Promise<(StoreFile | undefined)[]> {
    const found = await this.#findFiles(hashes, options?.signal);
    return this.#again(
      hashes,
      found,
      (missing) => this.#findFiles(missing, options?.signal),
      options?.signal,
    );
  }

  async findSha256s(sha256s: readonly string[], options?: CallOptions): Promise<(Uint8Array | undefined)[]> {
    const find = (some: readonly string[]) => {
      const bytes = some.map((sha256) =>
        /^[0-9a-f]{64}$/.test(sha256) ? Buffer.from(sha256, 'hex') : undefined,
      );
      return this.#catalog.resolve(
        some.length,
        (tables, i) => {
          const sha256 = bytes[i];
          if (sha256 === undefined) return undefined;
          for (const table of tables) {
            const [hash] = this.#catalog.guarded(table, () => table.findSha256s(sha256));
            if (hash !== undefined) return new Uint8Array(hash);
          }
          return undefined;
        },
        options?.signal,
      );
    };
    return this.#again(sha256s, await find(sha256s), find, options?.signal);
  }

  async findChunks(hashes: Uint8Array, options?: CallOptions): Promise<ChunkRun[]> {
    const signal = options?.signal;
    if (this.#clock.now() - this.#refreshedAt >= REFRESH_MS) {
      this.#refreshedAt = this.#clock.now();
      await this.#catalog.refresh();
    }
    const candidates = await this.#findCandidates(hashes, signal);
    await this.#readSampledFooters(hashes, candidates, signal);
    return findRuns(
      hashes,
      {
        find: async (offset) => {
          if (!candidates.has(offset / HASH_SIZE)) return [];
          const [places] = await this.#findPlaces(hashes, [offset], signal);
          return places ?? [];
        },
        open: (xorbHash) => this.#usableFooter(xorbHash),
      },
      signal,
    );
  }

  async readFooter(xorbHash: Uint8Array, options?: CallOptions): Promise<XorbFooter> {
    throwIfAborted(options?.signal);
    return this.#footer(xorbHash);
  }

  readRecords(ranges: Ranges, options?: CallOptions): AsyncIterable<RecordRun> {
    const runs = planRuns(ranges, { footerOf: (xorbHash) => this.#footer(xorbHash), gapBytes: GAP_BYTES });
    return readAhead(runs, {
      read: (run, signal) => this.#readRun(run, signal),
      maxBytes: READ_AHEAD_BYTES,
      maxReads: () => this.#limit.limit,
      signal: options?.signal,
    });
  }

  async hasXorb(xorbHash: Uint8Array, options?: CallOptions): Promise<boolean> {
    throwIfAborted(options?.signal);
    return (await this.#presentFooter(formatHash(xorbHash), xorbHash, 0)) !== undefined;
  }

  async putXorb(upload: XorbUpload, options: CallOptions = {}): Promise<boolean> {
    this.#checkWritable();
    const { signal } = options;
    const { footer } = upload;
    const name = formatHash(footer.xorbHash);
    const tail = checkedFooter(footer);
    await this.#makeStore(signal);
    const body = {
      length: (footer.recordEnds[footer.count - 1] as number) + tail.length,
      stream: () => checkedRecords(upload, tail),
    };
    // The mark first: whoever copies the bucket to a directory must not take these chunks for its own.
    await this.#objects.putIfAbsent(`irregular/${name}`, bodyOf(new Uint8Array(0)), { signal });
    let isNew = await this.#objects.putIfAbsent(keyOfXorb(name), body, { signal });
    if (!isNew) {
      const head = await this.#objects.head(keyOfXorb(name), { signal });
      this.#footers.delete(name);
      if ((await this.#usableFooter(footer.xorbHash)) === undefined) {
        // Nobody can read that one. If somebody else has replaced it meanwhile, it is there.
        isNew = (await this.#objects.replace(keyOfXorb(name), body, head?.etag, { signal })) !== undefined;
        this.#footers.delete(name);
      }
    }
    this.#seeXorb(name);
    return isNew;
  }

  async putShard(bytes: Uint8Array, options: CallOptions = {}): Promise<boolean> {
    this.#checkWritable();
    throwIfAborted(options.signal);
    const shard = readIncomingShard(bytes);
    if (shard.needed.size === 0 && shard.files.length === 0) return false;
    const stored = acceptShard(
      shard,
      await this.#footersOf(shard, options.signal),
      Math.floor(this.#clock.now() / 1000),
    );
    if (!(await this.#isNew(shard, options.signal))) return false;
    await this.#makeStore(options.signal);
    // Two clients may send the same: then both shards stand there, and either will do.
    await this.#objects.putIfAbsent(`shards/${stored.name}.mdb`, bodyOf(stored.bytes), options);
    await this.#incoming.add(stored, options.signal);
    return true;
  }

  async xorbSize(xorbHash: Uint8Array, options?: CallOptions): Promise<number | undefined> {
    return (await this.#objects.head(keyOfXorb(formatHash(xorbHash)), options))?.size;
  }

  async *readXorb(
    xorbHash: Uint8Array,
    start: number,
    end: number,
    options?: CallOptions,
  ): AsyncGenerator<Uint8Array> {
    const name = formatHash(xorbHash);
    const key = keyOfXorb(name);
    const read = (at: number) => {
      const part = this.#objects.read(key, at, Math.min(end, at + PIECE), options);
      part.catch(() => undefined);
      return part;
    };
    let next = read(start);
    for (let at = start; at < end; ) {
      throwIfAborted(options?.signal);
      const part = await next;
      if (part === undefined) throw missingXorb(name, this.place);
      at += part.bytes.length;
      if (part.bytes.length === 0)
        throw damagedXorb(name, this.place, `it ends at ${at}, not at ${end} or later`);
      if (at < end) next = read(at);
      yield part.bytes;
    }
  }

  async findXorbsOfChunk(chunkHash: Uint8Array, options?: CallOptions): Promise<XorbFooter[]> {
    const find = () =>
      this.#catalog.resolve(
        1,
        (tables) =>
          tables.map((table) =>
            this.#catalog.guarded(table, () => [table.findNear(chunkHash, NEAR_BEFORE, NEAR_AFTER)]),
          ),
        options?.signal,
      );
    let [near = []] = await find();
    if (near.flat().every(({ having }) => having.length === 0) && (await this.#catalog.refresh())) {
      [near = []] = await find();
    }
    const hashes = new Map<string, Uint8Array>();
    const having = new Set<string>();
    for (const { having: xorbs } of near.flat()) {
      for (const xorb of xorbs) {
        hashes.set(formatHash(xorb), new Uint8Array(xorb));
        having.add(formatHash(xorb));
      }
    }
    for (const { others } of near.flat()) {
      for (const xorb of others) hashes.set(formatHash(xorb), new Uint8Array(xorb));
    }
    const footers = await mapParallel([...hashes.values()], (xorb) => this.#usableFooter(xorb));
    const usable = footers.filter((footer) => footer !== undefined);
    return usable.some(({ xorbHash }) => having.has(formatHash(xorbHash))) ? usable : [];
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#incoming.settled();
    await this.#objects[Symbol.asyncDispose]();
  }

  /** Asks once more for what was not found, if the catalog or the list of shards has more by now. */
  async #again<K, V>(
    keys: readonly K[],
    found: readonly (V | undefined)[],
    find: (missing: readonly K[]) => Promise<readonly (V | undefined)[]>,
    signal: AbortSignal | undefined,
  ): Promise<(V | undefined)[]> {
    const answers = [...found];
    for (const look of [() => this.#catalog.refresh(), () => this.#catalog.findUncovered(signal)]) {
      const missing = answers.flatMap((answer, i) => (answer === undefined ? [i] : []));
      if (missing.length === 0) return answers;
      if (!(await look())) continue;
      const late = await find(missing.map((i) => keys[i] as K));
      for (const [n, i] of missing.entries()) answers[i] = late[n];
    }
    const { trouble } = this.#catalog;
    if (trouble !== undefined && !this.#objects.canList && answers.includes(undefined)) {
      throw new Git2dbError(
        'CONTENT_MISSING',
        `not everything that ${this.place} holds can be found: ${trouble}, and a web server gives no list of its files; run \`git2db xet fsck --repair\` on the store behind it`,
        { data: { place: this.place } },
      );
    }
    return answers;
  }

  #findFiles(hashes: readonly Uint8Array[], signal?: AbortSignal): Promise<(StoreFile | undefined)[]> {
    return this.#catalog.resolve(
      hashes.length,
      (tables, i) => {
        const hash = hashes[i] as Uint8Array;
        for (const table of tables) {
          for (const place of this.#catalog.guarded(table, () => table.findFile(hash))) {
            const record = this.#shards.readRecord(formatHash(place.shard), place.recordIndex, hash);
            if (record === undefined) continue;
            return { ...record, size: record.terms.reduce((sum, { rawBytes }) => sum + rawBytes, 0) };
          }
        }
        return undefined;
      },
      signal,
    );
  }

  /** Numbers of the chunks whose keys are in some table. */
  async #findCandidates(hashes: Uint8Array, signal?: AbortSignal): Promise<Set<number>> {
    const count = Math.floor(hashes.length / HASH_SIZE);
    // In the order of the tables' keys, so that each block of them is needed once.
    const order = Uint32Array.from({ length: count }, (_, i) => i).sort((a, b) =>
      Buffer.compare(
        hashes.subarray(HASH_SIZE * a, HASH_SIZE * a + 8),
        hashes.subarray(HASH_SIZE * b, HASH_SIZE * b + 8),
      ),
    );
    const known = await this.#catalog.resolve(
      count,
      (tables, i) => {
        const offset = HASH_SIZE * (order[i] as number);
        return tables.some(
          (table) => this.#catalog.guarded(table, () => [table.mayHaveChunk(hashes, offset)])[0],
        );
      },
      signal,
    );
    const candidates = new Set<number>();
    for (const [i, isKnown] of known.entries()) if (isKnown) candidates.add(order[i] as number);
    return candidates;
  }

  #findPlaces(hashes: Uint8Array, offsets: readonly number[], signal?: AbortSignal): Promise<ChunkPlace[][]> {
    const question = (tables: readonly CatalogTable[], i: number) =>
      tables.flatMap((table) =>
        this.#catalog.guarded(table, () => table.findChunk(hashes, offsets[i] as number)),
      );
    return this.#catalog.resolve(offsets.length, question, signal);
  }

  /** Reads, many at once, the chunk lists that most of the candidates will be found in. */
  async #readSampledFooters(
    hashes: Uint8Array,
    candidates: ReadonlySet<number>,
    signal?: AbortSignal,
  ): Promise<void> {
    const sample = [...candidates]
      .sort((a, b) => a - b)
      .filter((_, i) => i % SAMPLE === 0)
      .map((chunk) => HASH_SIZE * chunk);
    const xorbs = new Map<string, Uint8Array>();
    for (const [first] of await this.#findPlaces(hashes, sample, signal)) {
      if (first !== undefined) xorbs.set(formatHash(first.xorb), new Uint8Array(first.xorb));
    }
    await mapParallel([...xorbs.values()], (xorbHash) => this.#usableFooter(xorbHash));
  }

  /** Undefined where it is gone or damaged. */
  async #usableFooter(xorbHash: Uint8Array): Promise<XorbFooter | undefined> {
    try {
      return await this.#footer(xorbHash);
    } catch (error) {
      if (isDamage(error) || (error instanceof Git2dbError && error.code === 'CONTENT_MISSING'))
        return undefined;
      throw error;
    }
  }

  /** As `#usableFooter`, of a xorb that was there less than `maxAgeMs` ago. */
  async #presentFooter(
    name: string,
    xorbHash: Uint8Array,
    maxAgeMs: number,
  ): Promise<XorbFooter | undefined> {
    const seenAt = this.#seen.get(name) ?? Number.NEGATIVE_INFINITY;
    if (this.#clock.now() - seenAt >= maxAgeMs) {
      if (
        this.#footers.get(name) !== undefined &&
        (await this.#objects.head(keyOfXorb(name))) === undefined
      ) {
        this.#footers.delete(name);
        return undefined;
      }
    }
    const footer = await this.#usableFooter(xorbHash);
    if (footer !== undefined) this.#seeXorb(name);
    return footer;
  }

  #seeXorb(name: string): void {
    this.#seen.delete(name);
    this.#seen.set(name, this.#clock.now());
    for (const [oldest, at] of this.#seen) {
      if (this.#clock.now() - at < SEEN_MS) break;
      this.#seen.delete(oldest);
    }
  }

  /** Throws CONTENT_MISSING or CONTENT_DAMAGED. */
  #footer(xorbHash: Uint8Array): Promise<XorbFooter> {
    const name = formatHash(xorbHash);
    const known = this.#footers.get(name);
    if (known !== undefined) return Promise.resolve(known);
    let reading = this.#reading.get(name);
    if (reading === undefined) {
      // Not by the caller's signal: others may wait for it.
      reading = this.#readFooter(name, new Uint8Array(xorbHash)).finally(() => this.#reading.delete(name));
      this.#reading.set(name, reading);
    }
    return reading;
  }

  async #readFooter(name: string, xorbHash: Uint8Array): Promise<XorbFooter> {
    const key = keyOfXorb(name);
    try {
      let part = await this.#objects.readTail(key, FIRST_TAIL);
      if (part === undefined) throw missingXorb(name, this.place);
      const length = readFooterLength(part.bytes);
      if (length > part.bytes.length && part.bytes.length < part.size) {
        part = await this.#objects.readTail(key, length);
        if (part === undefined) throw missingXorb(name, this.place);
      }
      const decoded = decodeFooter(part.bytes, part.size);
      const rawEnds = decoded.rawEnds ?? (await this.#readRawEnds(key, decoded.recordEnds));
      const { count, hashes, recordEnds } = decoded;
      const footer = provenFooter(
        { xorbHash: decoded.xorbHash, count, hashes, recordEnds, rawEnds },
        xorbHash,
        this.place,
      );
      this.#footers.set(name, footer);
      return footer;
    } catch (error) {
      if (error instanceof FormatError) throw damagedXorb(name, this.place, error.message, error);
      throw error;
    }
  }

  /** Of an old footer, which does not tell: the records do. */
  async #readRawEnds(key: string, recordEnds: Uint32Array): Promise<Uint32Array> {
    const size = recordEnds.at(-1) ?? 0;
    if (size > MAX_RECORD_BYTES) throw new FormatError('INVALID_XORB', `records of ${size} bytes`, 0);
    const part = await this.#objects.read(key, 0, size);
    const bytes = part?.bytes ?? Buffer.alloc(0);
    return readRawEnds(recordEnds, (offset) => bytes.subarray(offset));
  }

  async #readRun({ xorbHash, byteStart, byteEnd }: PlannedRun, signal: AbortSignal): Promise<Uint8Array> {
    const name = formatHash(xorbHash);
    let part: Awaited<ReturnType<ObjectStore['read']>>;
    try {
      part = await this.#objects.read(keyOfXorb(name), byteStart, byteEnd, { signal });
    } catch (error) {
      if (error instanceof Git2dbError && error.data.transient === true) this.#limit.troubled();
      throw error;
    }
    if (part === undefined) {
      this.#footers.delete(name);
      throw missingXorb(name, this.place);
    }
    if (part.bytes.length !== byteEnd - byteStart) {
      this.#footers.delete(name);
      throw damagedXorb(
        name,
        this.place,
        `it ends at ${byteStart + part.bytes.length}, not after ${byteEnd}`,
      );
    }
    this.#limit.succeeded(part.bytes.length);
    return part.bytes;
  }

  /** Footers of all xorbs that are needed. Throws CONTENT_MISSING. */
  async #footersOf({ needed }: IncomingShard, signal?: AbortSignal): Promise<Map<string, XorbFooter>> {
    const footers = new Map<string, XorbFooter>();
    const missing: string[] = [];
    await mapParallel([...needed], async ([name, xorbHash]) => {
      throwIfAborted(signal);
      const footer = await this.#presentFooter(name, xorbHash, SEEN_MS);
      if (footer === undefined) missing.push(name);
      else footers.set(name, footer);
    });
    if (missing.length > 0) throw xorbsMissing(missing, this.place);
    return footers;
  }

  async #isNew({ files, xorbs }: IncomingShard, signal?: AbortSignal): Promise<boolean> {
    await this.#catalog.refresh();
    const known = await this.#findFiles(
      files.map(({ fileHash }) => fileHash),
      signal,
    );
    const isFileNew = files.some(
      ({ sha256 }, i) => known[i] === undefined || (sha256 !== undefined && known[i].sha256 !== sha256),
    );
    if (isFileNew) return true;
    const lists = Buffer.concat(xorbs.map(({ hashes }) => hashes.subarray(0, HASH_SIZE)));
    const places = await this.#findPlaces(
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

function keyOfXorb(name: string): string {
  return `xorbs/${name.slice(0, 2)}/${name}`;
}

/** As `Promise.all` of `map`, but with so many at once; the first failure ends it. */
async function mapParallel<T, R>(items: readonly T[], action: (item: T) => Promise<R>): Promise<R[]> {
  const results = new Array<R>(items.length);
  const queue = items.entries();
  const work = async () => {
    for (const [i, item] of queue) results[i] = await action(item);
  };
  await Promise.all(Array.from({ length: Math.min(PARALLEL, items.length) }, work));
  return results;
}
