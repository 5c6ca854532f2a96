/**
 * The catalog of a store whose files are objects elsewhere: read by ranges, and published by compare-and-swap of
 * its HEAD. Tables and look-ups are those of catalog-table.ts.
 */
import { createHash } from 'node:crypto';
import { FormatError, Git2dbError, messageOf } from '../errors.ts';
import { formatHash, isHashString, parseHash } from '../hash/xet-hash.ts';
import { bodyOf, type ObjectStore } from '../objects/objects.ts';
import { Shard, shardName } from '../shard/shard.ts';
import { mergeTables, tableName, tableOfShard } from './catalog-build.ts';
import { formatHead, type HeadEntry, parseHead } from './catalog-head.ts';
import { CatalogTable, memoryBytes, SHARD_ENTRY, TABLE_CHECKSUM, type TableBytes } from './catalog-table.ts';
import { type ObjectCache, ObjectGone } from './object-cache.ts';

const HEAD = 'catalog/HEAD';
const MAX_HEAD = 4 << 20;
/** Tables up to this size are read as a whole, and their checksum is looked at. */
const MAX_WHOLE = 1 << 18;
/** Tables that are merged have no more bytes together: the result is made in memory, in one go. */
const MAX_MERGED = 16 << 20;
/** As in catalog.ts. */
const TIER_FACTOR = 2;
/** HEAD names a table that is gone: somebody has published meanwhile. */
const MAX_RELOADS = 5;
/** Lost races for HEAD. */
const MAX_ATTEMPTS = 50;
const RACE_MS = 40;
/** How long a list of the shards is believed. */
const LIST_MS = 60_000;
/** Shards that no table covers, which are looked at; and bytes of the tables that are made of them. */
const MAX_LOOSE = 1000;
const MAX_LOOSE_BYTES = 32 << 20;
/** Tables that HEAD does not name are left by publishers that died, if they are older than this. */
const LEFTOVER_MS = 24 * 3600 * 1000;

export interface CatalogClock {
  now(): number;
  sleep(ms: number, signal?: AbortSignal): Promise<void>;
  random(): number;
}

interface Tables {
  /** As HEAD names them: older first. */
  readonly entries: readonly HeadEntry[];
  /** Those that could be opened. */
  readonly open: readonly CatalogTable[];
  /** Why others could not be, by name. */
  readonly damaged: ReadonlyMap<string, string>;
  readonly etag: string | undefined;
}

const EMPTY: Tables = { entries: [], open: [], damaged: new Map(), etag: undefined };

export class ObjectCatalog {
  readonly #objects: ObjectStore;
  readonly #cache: ObjectCache;
  readonly #clock: CatalogClock;
  readonly #warn: (message: string) => void;
  #tables: Tables = EMPTY;
  #isLoaded = false;
  /** Of shards that no table covers, by name. */
  readonly #loose = new Map<string, CatalogTable>();
  /** Tables that were found to be damaged, and how: not to be opened again. */
  readonly #damaged = new Map<string, string>();
  /** Shards that no table can be made of, and why. */
  readonly #unreadable = new Map<string, string>();
  #listedAt = Number.NEGATIVE_INFINITY;
  /** The look at HEAD that is under way, and the one that begins after it. */
  #reloading: Promise<boolean> | undefined;
  #nextReload: Promise<boolean> | undefined;

  constructor(
    objects: ObjectStore,
    cache: ObjectCache,
    clock: CatalogClock,
    warn: (message: string) => void,
  ) {
    this.#objects = objects;
    this.#cache = cache;
    this.#clock = clock;
    this.#warn = warn;
  }

  /** Whether something in it could not be read, so that it may know less than the store has; and what. */
  get trouble(): string | undefined {
    const [damaged] = this.#tables.damaged;
    if (damaged !== undefined) return `table ${damaged[0]} of its catalog is damaged (${damaged[1]})`;
    if (this.#isLoaded && this.#tables.entries.length === 0) return 'it has no catalog';
    return undefined;
  }

  /**
   * Answers for the numbers below `count`, from tables that are newest first. `question` is repeated where
   * bytes have to be fetched; see object-cache.ts.
   */
  async resolve<T>(
    count: number,
    question: (tables: readonly CatalogTable[], i: number) => T,
    signal?: AbortSignal,
  ): Promise<T[]> {
    if (!this.#isLoaded) await this.refresh();
    for (let reloads = 0; ; reloads++) {
      const tables = [...this.#tables.open, ...this.#loose.values()].reverse();
      try {
        return await this.#cache.resolve(count, (i) => question(tables, i), signal);
      } catch (error) {
        if (!(error instanceof ObjectGone) || reloads === MAX_RELOADS) throw this.#explained(error);
        await this.refresh();
      }
    }
  }

  /** Runs a look-up in one table; one that turns out to be damaged is left out from then on. */
  guarded<T>(table: CatalogTable, lookUp: () => readonly T[]): readonly T[] {
    try {
      return lookUp();
    } catch (error) {
      if (!(error instanceof FormatError || error instanceof RangeError)) throw error;
      this.#leaveOut(table, error.message);
      return [];
    }
  }

  /** Looks at HEAD. True if it names other tables than before. What was published before the call is seen. */
  refresh(): Promise<boolean> {
    if (this.#reloading === undefined) {
      this.#reloading = this.#reload().finally(() => {
        this.#reloading = undefined;
      });
      return this.#reloading;
    }
    // One that is under way may have read HEAD already.
    this.#nextReload ??= this.#reloading
      .catch(() => false)
      .then(() => {
        this.#nextReload = undefined;
        return this.refresh();
      });
    return this.#nextReload;
  }

  /**
   * Finds shards that no table covers, where objects can be listed: of other tools, or of a writer that died.
   * True if there were any. At most once a minute unless `force`.
   */
  async findUncovered(signal?: AbortSignal, force = false): Promise<boolean> {
    if (!this.#objects.canList) return false;
    const now = this.#clock.now();
    if (!force && now - this.#listedAt < LIST_MS) return false;
    this.#listedAt = now;
    const names = new Set<string>();
    for await (const { key } of this.#objects.list('shards/', { signal })) {
      const name = /^shards\/([0-9a-f]{64})\.mdb$/.exec(key)?.[1];
      if (name !== undefined) names.add(name);
    }
    for (const name of await this.#covered(this.#tables.open, signal)) names.delete(name);
    for (const name of this.#loose.keys()) {
      if (!names.delete(name)) this.#loose.delete(name);
    }
    for (const name of this.#unreadable.keys()) names.delete(name);
    let bytes = 0;
    for (const table of this.#loose.values()) bytes += table.bytes.size;
    let found = false;
    for (const name of names) {
      if (this.#loose.size >= MAX_LOOSE || bytes > MAX_LOOSE_BYTES) {
        this.#warn(
          `${this.#objects.place} has more shards that its catalog does not cover than can be looked at now; the rest follows`,
        );
        break;
      }
      const table = await this.#tableOf(name, signal);
      if (table === undefined) continue;
      this.#loose.set(name, table);
      bytes += table.bytes.size;
      found = true;
    }
    return found;
  }

  /**
   * Makes the catalog cover these shards, which are there, and all that are known not to be covered. Others may
   * do the same at the same time. Throws CONFLICT where they are faster again and again.
   */
  async publish(shards: ReadonlyMap<string, Uint8Array>, signal?: AbortSignal): Promise<void> {
    for (const [name, bytes] of shards) this.#loose.set(name, tableInMemory(name, bytes));
    await this.#findLeftovers(signal);
    for (let attempt = 0; attempt < MAX_ATTEMPTS; attempt++) {
      await this.refresh();
      const covered = await this.#covered(this.#tables.open, signal);
      for (const name of this.#loose.keys()) if (covered.has(name)) this.#loose.delete(name);
      if (this.#loose.size === 0 && this.#tables.damaged.size === 0) return;
      // Believed when HEAD says so: the answer to a request that was made twice may be that to another's.
      if (await this.#publishOnce(signal)) continue;
      await this.#clock.sleep(this.#clock.random() * RACE_MS * Math.min(16, attempt + 1), signal);
    }
    throw new Git2dbError(
      'CONFLICT',
      `${this.#objects.place}/${HEAD} was replaced by others ${MAX_ATTEMPTS} times in a row; try again`,
    );
  }

  /** One try. False if HEAD is another one by now. */
  async #publishOnce(signal?: AbortSignal): Promise<boolean> {
    const before = this.#tables;
    if (before.damaged.size > 0) {
      // What these covered is found by listing; merging goes on without them.
      await this.findUncovered(signal, true);
    }
    const fresh = [...this.#loose.entries()];
    let weight = fresh.reduce((sum, [, table]) => sum + table.bytes.size, 0);
    let first = before.open.length;
    for (; first > 0; first--) {
      const { size } = (before.open[first - 1] as CatalogTable).bytes;
      if (size >= TIER_FACTOR * weight || weight + size > MAX_MERGED) break;
      weight += size;
    }
    const older: CatalogTable[] = [];
    for (const table of before.open.slice(first)) {
      const whole = await this.#readVerified(table.name, table.bytes.size, signal);
      if (whole === undefined) {
        this.#leaveOut(table, 'its checksum is wrong');
        return false;
      }
      older.push(whole);
    }
    const kept = before.open.slice(0, first);
    const entries = kept.map(entryOf);
    const merged = [...older, ...fresh.map(([, table]) => table)];
    let made: CatalogTable | undefined;
    if (merged.length > 0) {
      let bytes: Buffer;
      try {
        bytes = mergeTables(merged);
      } catch (error) {
        // Its checksum is right, and what it says contradicts itself.
        if (older.length === 0) throw error;
        for (const table of before.open.slice(first)) this.#leaveOut(table, messageOf(error));
        return false;
      }
      made = new CatalogTable(tableName(bytes), memoryBytes(bytes), 0);
      await this.#objects.putIfAbsent(`catalog/${made.name}`, bodyOf(bytes), { signal });
      entries.push(entryOf(made));
    }
    const text = Buffer.from(formatHead(entries), 'latin1');
    const etag = await this.#objects.replace(HEAD, bodyOf(text), before.etag, { signal });
    if (etag === undefined) return false;
    await this.refresh();
    const names = new Set(this.#tables.entries.map(({ name }) => name));
    await this.#removeTables(before.entries.filter(({ name }) => !names.has(name)).map(({ name }) => name));
    return true;
  }

  /** Nobody's any more: readers that have an old HEAD look at HEAD again. */
  async #removeTables(names: readonly string[]): Promise<void> {
    for (const name of names) {
      this.#cache.forget(`catalog/${name}`);
      try {
        await this.#objects.delete(`catalog/${name}`);
      } catch (error) {
        this.#warn(`${this.#objects.place}/catalog/${name} could not be removed: ${messageOf(error)}`);
      }
    }
  }

  /** Once for each process: shards, and tables, that a writer has left which died. */
  async #findLeftovers(signal?: AbortSignal): Promise<void> {
    if (this.#listedAt > Number.NEGATIVE_INFINITY || !this.#objects.canList) return;
    const own = new Set(this.#loose.keys());
    await this.refresh();
    await this.findUncovered(signal, true);
    const live = new Set(this.#tables.entries.map(({ name }) => name));
    const old: string[] = [];
    for await (const { key, modifiedMs } of this.#objects.list('catalog/', { signal })) {
      const name = key.slice('catalog/'.length);
      if (isHashString(name) && !live.has(name) && this.#clock.now() - modifiedMs > LEFTOVER_MS)
        old.push(name);
    }
    await this.#removeTables(old);
    if (own.size > 0 && this.#loose.size > own.size) {
      this.#warn(
        `${this.#loose.size - own.size} shards in ${this.#objects.place} were not in its catalog, and are added`,
      );
    }
  }

  async #reload(): Promise<boolean> {
    for (let attempt = 0; ; attempt++) {
      const unless = this.#isLoaded && this.#tables.damaged.size === 0 ? this.#tables.etag : undefined;
      const head = await this.#objects.readWhole(HEAD, { limit: MAX_HEAD, unless });
      if (head === 'unchanged') return false;
      this.#cache.forgetGone();
      const entries = head === undefined ? [] : parseHead(head.bytes.toString('latin1'));
      const opened = await this.#openAll(entries);
      if (opened === undefined && attempt < MAX_RELOADS) continue;
      const before = this.#tables.entries.map(({ name }) => name).join();
      this.#tables = {
        entries,
        open: opened?.open ?? [],
        damaged: opened?.damaged ?? new Map(entries.map(({ name }) => [name, 'it is not there'])),
        etag: head?.etag,
      };
      this.#isLoaded = true;
      return before !== entries.map(({ name }) => name).join();
    }
  }

  /** Undefined if one is not there, while HEAD may be another one by now. */
  async #openAll(entries: readonly HeadEntry[]): Promise<Pick<Tables, 'open' | 'damaged'> | undefined> {
    const known = new Map(this.#tables.open.map((table) => [table.name, table]));
    const damaged = new Map<string, string>();
    const isUsed = (name: string) => !known.has(name) && !this.#damaged.has(name);
    const keyOf = (i: number) => `catalog/${(entries[i] as HeadEntry).name}`;
    try {
      const sizes = await this.#cache.resolve(entries.length, (i) =>
        isUsed((entries[i] as HeadEntry).name) ? this.#cache.size(keyOf(i)) : 0,
      );
      const open = await this.#cache.resolve(entries.length, (i) => {
        const { name } = entries[i] as HeadEntry;
        const why = this.#damaged.get(name);
        if (why !== undefined) {
          damaged.set(name, why);
          return undefined;
        }
        try {
          return known.get(name) ?? this.#openTable(name, sizes[i] as number);
        } catch (error) {
          if (!(error instanceof FormatError || error instanceof RangeError)) throw error;
          this.#damaged.set(name, error.message);
          damaged.set(name, error.message);
          return undefined;
        }
      });
      return { open: open.filter((table) => table !== undefined), damaged };
    } catch (error) {
      if (error instanceof ObjectGone) return undefined;
      throw error;
    }
  }

  /** Throws NotCached, or INVALID_CATALOG. */
  #openTable(name: string, size: number): CatalogTable {
    const key = `catalog/${name}`;
    if (size > MAX_WHOLE) return new CatalogTable(name, this.#bytesOf(key, size), 0);
    const bytes = Buffer.from(this.#cache.read(key, 0, size));
    checkTable(name, bytes);
    // Small ones are few, and kept as they are.
    this.#cache.forget(key);
    return new CatalogTable(name, memoryBytes(bytes), 0);
  }

  #bytesOf(key: string, size: number): TableBytes {
    return {
      size,
      read: (offset, length) => {
        if (offset + length > size) {
          throw new FormatError('INVALID_CATALOG', `${key}: ends at ${size}`, offset);
        }
        return this.#cache.read(key, offset, offset + length);
      },
      close: () => this.#cache.forget(key),
    };
  }

  /** A table as a whole, in memory; undefined if it is damaged or gone. */
  async #readVerified(name: string, size: number, signal?: AbortSignal): Promise<CatalogTable | undefined> {
    const whole = await this.#objects.readWhole(`catalog/${name}`, { limit: size, signal });
    if (whole === undefined || whole === 'unchanged') return undefined;
    try {
      checkTable(name, whole.bytes);
      return new CatalogTable(name, memoryBytes(whole.bytes), 0);
    } catch (error) {
      if (error instanceof FormatError) return undefined;
      throw error;
    }
  }

  async #covered(tables: readonly CatalogTable[], signal?: AbortSignal): Promise<Set<string>> {
    const lists = await this.#cache.resolve(
      tables.length,
      (i) => {
        const table = tables[i] as CatalogTable;
        return this.guarded(table, () => {
          const names = table.shardNames();
          return Array.from({ length: table.counts.shards }, (_, shard) =>
            formatHash(names, SHARD_ENTRY * shard),
          );
        });
      },
      signal,
    );
    return new Set(lists.flat());
  }

  async #tableOf(name: string, signal?: AbortSignal): Promise<CatalogTable | undefined> {
    const whole = await this.#objects.readWhole(`shards/${name}.mdb`, { limit: 80 << 20, signal });
    if (whole === undefined || whole === 'unchanged') return undefined;
    try {
      if (shardName(whole.bytes) !== name)
        throw new FormatError('INVALID_SHARD', 'its bytes have another hash', 0);
      return tableInMemory(name, whole.bytes);
    } catch (error) {
      if (!(error instanceof FormatError)) throw error;
      this.#unreadable.set(name, error.message);
      this.#warn(`${this.#objects.place}/shards/${name}.mdb is damaged: ${error.message}`);
      return undefined;
    }
  }

  #leaveOut(table: CatalogTable, why: string): void {
    this.#damaged.set(table.name, why);
    this.#tables = {
      ...this.#tables,
      open: this.#tables.open.filter((other) => other !== table),
      damaged: new Map([...this.#tables.damaged, [table.name, why]]),
    };
    this.#cache.forget(`catalog/${table.name}`);
  }

  #explained(error: unknown): unknown {
    if (!(error instanceof ObjectGone)) return error;
    return new Git2dbError(
      'REMOTE_INVALID',
      `${this.#objects.place}/${error.key} is not there, although ${HEAD} names it`,
    );
  }
}

function tableInMemory(shard: string, bytes: Uint8Array): CatalogTable {
  const table = tableOfShard(parseHash(shard), Shard.open(bytes));
  return new CatalogTable(tableName(table), memoryBytes(table), 0);
}

/** Throws INVALID_CATALOG unless the bytes are those that gave the table its name. */
function checkTable(name: string, bytes: Buffer): void {
  const end = Math.max(0, bytes.length - TABLE_CHECKSUM);
  if (createHash('sha256').update(bytes.subarray(0, end)).digest('hex') === name) return;
  throw new FormatError('INVALID_CATALOG', 'its checksum is wrong', end);
}

function entryOf({ name, counts }: CatalogTable): HeadEntry {
  return { name, chunks: counts.chunks, files: counts.files };
}
