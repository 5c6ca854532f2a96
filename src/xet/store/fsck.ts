/**
 * Checking a store: every chunk by its hash, every xorb and shard by its name, every file by the chunks
 * it names, every table and journal by its checksums. Nothing is written.
 *
 *     journals, catalog            fsck-incoming.ts, fsck-catalog.ts
 *     xorbs                        fsck-scan.ts finds suspects, with all threads
 *     shards, first time           names; files of sound xorbs; who else tells the lists of the suspects
 *     suspects                     fsck-xorb.ts says what is wrong with them
 *     files that need them         fsck-files.ts
 *
 * Memory: the names of all xorbs, the chunk lists of damaged ones, and one shard.
 */
import { statSync } from 'node:fs';
import { join } from 'node:path';
import { Downloader, PARALLEL_BYTES_ALONE } from '../download.ts';
import { errnoOf, FormatError, messageOf } from '../errors.ts';
import { formatHash, isZeroHash, parseHash } from '../hash/xet-hash.ts';
import type { Shard } from '../shard/shard.ts';
import type { KnownXorb } from '../shard/validate.ts';
import type { KernelChoice } from '../wasm/kernels.ts';
import { checkCatalog } from './fsck-catalog.ts';
import type { BrokenXorb, Damage, FileFault } from './fsck-damage.ts';
import { FileJudge } from './fsck-files.ts';
import {
  type Incoming,
  IncomingFiles,
  type LocalXorbFile,
  localXorbs,
  readJournals,
} from './fsck-incoming.ts';
import { listShards, listXorbs, type PublishedXorb } from './fsck-list.ts';
import { provesXorb } from './fsck-records.ts';
import { type ScannedXorb, scanXorbs } from './fsck-scan.ts';
import { checkShard } from './fsck-shard.ts';
import { diagnoseRecords, diagnoseXorb } from './fsck-xorb.ts';
import type { LocalStore, StoredFile } from './local-store.ts';
import { closeSource } from './xorb-source.ts';

export interface CheckOptions {
  /** Do not read the chunks themselves. */
  readonly quick: boolean;
  readonly kernels?: KernelChoice | undefined;
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: ((event: CheckProgress) => void) | undefined;
}

export type CheckProgress =
  | { readonly kind: 'start'; readonly totalBytes: number }
  | { readonly kind: 'bytes'; readonly bytes: number };

export interface BrokenFile {
  /** String form. */
  readonly hash: string;
  readonly size: number;
  /** Of its newest description; at most 16. */
  readonly faults: readonly FileFault[];
}

/** Where a shard tells the chunk list of a xorb. */
interface Witness {
  readonly shard: string;
  readonly recordIndex: number;
}

export interface StoreCheck {
  readonly checked: {
    readonly xorbs: number;
    readonly chunks: number;
    readonly shards: number;
    readonly files: number;
    readonly tables: number;
    readonly writers: number;
    readonly bytes: number;
  };
  readonly damage: readonly Damage[];
  /** Xorbs not to be relied on: damaged ones, and missing ones that a file names. By name. */
  readonly broken: Map<string, BrokenXorb>;
  /** Files that no description gives back whole, by hash. */
  readonly brokenFiles: Map<string, BrokenFile>;
  /** Whole files of which some chunk lies in a broken xorb, by hash. */
  readonly exposedFiles: ReadonlySet<string>;
  readonly damagedShards: readonly string[];
  readonly damagedCatalog: boolean;
  readonly writers: readonly Incoming[];
  /** Xorbs that no shard describes. */
  readonly undescribed: readonly string[];
  /** Shards that are gone, though a table covers them. */
  readonly missingShards: readonly { readonly name: string; readonly table: string }[];
  /** Files that are no part of a store, from its root. */
  readonly strays: readonly string[];
}

export async function checkStore(store: LocalStore, options: CheckOptions): Promise<StoreCheck> {
  return store.exists() ? new StoreChecker(store, options).run() : NOTHING;
}

const NOTHING: StoreCheck = {
  checked: { xorbs: 0, chunks: 0, shards: 0, files: 0, tables: 0, writers: 0, bytes: 0 },
  damage: [],
  broken: new Map(),
  brokenFiles: new Map(),
  exposedFiles: new Set(),
  damagedShards: [],
  damagedCatalog: false,
  writers: [],
  undescribed: [],
  missingShards: [],
  strays: [],
};

class StoreChecker {
  readonly #store: LocalStore;
  readonly #options: CheckOptions;
  readonly #damage: Damage[] = [];
  readonly #broken = new Map<string, BrokenXorb>();
  readonly #judge: FileJudge;
  readonly #witnesses = new Map<string, Witness>();
  readonly #described = new Set<string>();
  readonly #brokenFiles = new Map<string, BrokenFile>();
  readonly #exposed = new Set<string>();
  readonly #wholeIncoming = new Set<string>();
  readonly #strays: string[] = [];
  #files = 0;
  #bytes = 0;

  constructor(store: LocalStore, options: CheckOptions) {
    this.#store = store;
    this.#options = options;
    this.#judge = new FileJudge(this.#broken);
  }

  async run(): Promise<StoreCheck> {
    const { layout } = this.#store;
    // Shards are listed before xorbs: whoever writes meanwhile publishes xorbs first.
    const shards = listShards(layout, this.#strays);
    const journals = readJournals(this.#store);
    const xorbs = listXorbs(layout, this.#strays);
    const locals = journals.writers.flatMap(localXorbs);
    const shardBytes = shards.reduce((sum, { size }) => sum + size, 0);
    const total = [...xorbs, ...locals].reduce((sum, { size }) => sum + size, shardBytes);
    this.#options.onProgress?.({ kind: 'start', totalBytes: total });

    const catalog = checkCatalog(layout);
    this.#damage.push(...catalog.damage, ...journals.damage);
    if (catalog.damage.length > 0) this.#store.catalog.dropDamaged();

    const downloader = new Downloader(this.#store, { kernels: this.#options.kernels });
    const threads = total >= PARALLEL_BYTES_ALONE;
    const scan = {
      quick: this.#options.quick,
      signal: this.#options.signal,
      onBytes: (count: number) => this.#advance(count),
    };
    const published = await scanXorbs<PublishedXorb>(downloader, xorbs, threads, scan);
    const local = await scanXorbs<LocalXorbFile>(downloader, locals, threads, scan);

    const names = new Set(xorbs.map(({ name }) => name));
    for (const { name } of published.gone) names.delete(name);
    const suspects = new Map(published.suspects.map((xorb) => [xorb.name, xorb]));
    // Files are judged now where nothing is wrong with their xorbs, else when all is known.
    const deferred: { readonly shard: string; readonly recordIndex: number }[] = [];
    const damagedShards: string[] = [];
    for (const { name, size } of shards) {
      const shard = this.#openShard(name, damagedShards);
      this.#advance(size);
      if (shard === undefined) continue;
      this.#readLists(shard, name, names, suspects);
      for (const record of shard.files()) {
        this.#files++;
        const file = this.#store.describe(record, name);
        const isSound = file.terms.every((term) => names.has(term.name) && !suspects.has(term.name));
        if (!isSound || !this.#judge.judge(file).isSound)
          deferred.push({ shard: name, recordIndex: record.recordIndex });
      }
      await this.#pause();
    }
    for (const xorb of suspects.values()) this.#diagnose(xorb);
    for (const xorb of local.suspects) this.#diagnoseLocal(xorb);
    await this.#judgeDeferred(deferred);
    for (const incoming of journals.writers) {
      const files = new IncomingFiles(incoming);
      for (const file of files.list(this.#store)) {
        this.#files++;
        this.#judgeFile(file);
      }
      files.close();
    }
    this.#dropOtherwiseWhole();
    return {
      checked: {
        xorbs: xorbs.length,
        chunks: published.chunks + local.chunks,
        shards: shards.length,
        files: this.#files,
        tables: catalog.tables,
        writers: journals.writers.length,
        bytes: this.#bytes,
      },
      damage: this.#damage,
      broken: this.#broken,
      brokenFiles: this.#brokenFiles,
      exposedFiles: this.#exposed,
      damagedShards,
      damagedCatalog: catalog.damage.length > 0,
      writers: journals.writers,
      undescribed: xorbs.filter((xorb) => this.#isUndescribed(xorb, names)).map(({ name }) => name),
      missingShards: this.#missingShards(catalog.covered),
      strays: this.#strays,
    };
  }

  #openShard(name: string, damaged: string[]): Shard | undefined {
    try {
      const { shard, damage } = checkShard(name, this.#store.layout.shard(name));
      if (damage !== undefined) {
        this.#damage.push(damage);
        damaged.push(name);
      }
      return shard;
    } catch (error) {
      // Gone meanwhile: gc wrote its files into another.
      if (errnoOf(error) === 'ENOENT') return undefined;
      throw error;
    }
  }

  /** Notes which xorbs the shard describes, and where it tells the chunk list of one that is in doubt. */
  #readLists(
    shard: Shard,
    name: string,
    present: ReadonlySet<string>,
    suspects: ReadonlyMap<string, unknown>,
  ): void {
    for (const header of shard.xorbHeaders()) {
      const xorb = formatHash(header.xorbHash);
      this.#described.add(xorb);
      const inDoubt = !present.has(xorb) || suspects.has(xorb);
      if (inDoubt && !this.#witnesses.has(xorb))
        this.#witnesses.set(xorb, { shard: name, recordIndex: header.recordIndex });
    }
  }

  /** The chunk list of a xorb as a shard tells it, if it proves the name. */
  #listFromShard(name: string): KnownXorb | undefined {
    const witness = this.#witnesses.get(name);
    if (witness === undefined) return undefined;
    try {
      const { shard } = checkShard(witness.shard, this.#store.layout.shard(witness.shard));
      const record = shard?.xorbAt(witness.recordIndex);
      return record !== undefined && provesXorb(record, parseHash(name)) ? record : undefined;
    } catch (error) {
      if (error instanceof FormatError || errnoOf(error) === 'ENOENT') return undefined;
      throw error;
    }
  }

  #diagnose({ name, path }: PublishedXorb): void {
    let diagnosis: BrokenXorb;
    try {
      diagnosis = diagnoseXorb(name, path, this.#listFromShard(name));
    } catch (error) {
      if (errnoOf(error) === 'ENOENT') return;
      if (errnoOf(error) === undefined) throw error;
      const unknown = { chunk: undefined, offset: undefined };
      const damage: Damage = {
        object: 'xorb',
        name,
        path,
        ...unknown,
        expected: 'a file to read',
        found: messageOf(error),
      };
      diagnosis = { name, path, list: undefined, records: [], damage: [damage] };
    }
    if (diagnosis.damage.length === 0) return;
    this.#broken.set(name, diagnosis);
    this.#damage.push(...diagnosis.damage);
  }

  #diagnoseLocal({ name, incoming, open }: LocalXorbFile): void {
    let source: ReturnType<ScannedXorb['open']>;
    try {
      source = open();
    } catch (error) {
      if (errnoOf(error) === 'ENOENT') return;
      throw error;
    }
    try {
      const diagnosis = diagnoseRecords('incoming', name, incoming.name, source);
      if (diagnosis.damage.length === 0) return;
      this.#broken.set(name, diagnosis);
      this.#damage.push(...diagnosis.damage);
    } finally {
      closeSource(source);
    }
  }

  /** Files of which a xorb is damaged or not there. */
  async #judgeDeferred(
    deferred: readonly { readonly shard: string; readonly recordIndex: number }[],
  ): Promise<void> {
    let open: { readonly name: string; readonly shard: Shard | undefined } | undefined;
    for (const { shard: name, recordIndex } of deferred) {
      if (open?.name !== name) {
        open = { name, shard: this.#openShard(name, []) };
        await this.#pause();
      }
      // Gone meanwhile, with its reason to be here.
      if (open.shard === undefined) continue;
      this.#judgeFile(this.#store.describe(open.shard.fileAt(recordIndex), name));
    }
  }

  #judgeFile(file: StoredFile): void {
    for (const term of file.terms) this.#noteIfMissing(term.name, term.xorbHash);
    const { faults, isSound } = this.#judge.judge(file);
    if (isZeroHash(file.hash)) return;
    const hash = formatHash(file.hash);
    if (faults.length > 0) this.#brokenFiles.set(hash, { hash, size: file.size, faults });
    else if (file.shard === undefined) this.#wholeIncoming.add(hash);
    if (faults.length === 0 && !isSound) this.#exposed.add(hash);
  }

  /** Enters a xorb that is nowhere, so that its chunk list, if a shard tells it, is known to who mends files. */
  #noteIfMissing(name: string, xorbHash: Uint8Array | undefined): void {
    if (xorbHash === undefined || this.#broken.has(name)) return;
    try {
      this.#store.openXorb(xorbHash);
    } catch (error) {
      if (errnoOf(error) !== 'CONTENT_MISSING') return;
      const list = this.#listFromShard(name);
      const records = new Array<number>(list?.lengths.length ?? 0).fill(-1);
      this.#broken.set(name, { name, path: undefined, list, records, damage: [] });
    }
  }

  /** A file may be described twice, and the other description be good. */
  #dropOtherwiseWhole(): void {
    for (const hash of [...this.#brokenFiles.keys()]) {
      const files = [...this.#store.findFiles(parseHash(hash))].filter(({ shard }) => shard !== undefined);
      const isWhole = files.some((file) => this.#judge.judge(file).faults.length === 0);
      if (isWhole || this.#wholeIncoming.has(hash)) this.#brokenFiles.delete(hash);
    }
  }

  #isUndescribed({ name, path }: PublishedXorb, present: ReadonlySet<string>): boolean {
    const isPublished = present.has(name) && path === this.#store.layout.xorb(name);
    return isPublished && !this.#described.has(name) && !this.#broken.has(name);
  }

  #missingShards(covered: ReadonlyMap<string, string>): { readonly name: string; readonly table: string }[] {
    const { layout } = this.#store;
    const isThere = (path: string) => statSync(path, { throwIfNoEntry: false }) !== undefined;
    return [...covered]
      .filter(([name]) => !isThere(layout.shard(name)) && !isThere(join(layout.trash, `${name}.mdb`)))
      .map(([name, table]) => ({ name, table }));
  }

  #advance(bytes: number): void {
    this.#bytes += bytes;
    this.#options.onProgress?.({ kind: 'bytes', bytes });
  }

  async #pause(): Promise<void> {
    await new Promise((resolve) => setImmediate(resolve));
    this.#options.signal?.throwIfAborted();
  }
}
