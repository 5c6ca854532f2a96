/**
 * The tables that the HEAD of a catalog elsewhere names, read by ranges. Looking things up in them is ordinary
 * synchronous code, see object-cache.ts.
 */
import { createHash } from 'node:crypto';
import { FormatError } from '../errors.ts';
import { formatHash } from '../hash/xet-hash.ts';
import type { ObjectStore } from '../objects/objects.ts';
import { type HeadEntry, parseHead } from './catalog-head.ts';
import { CatalogTable, memoryBytes, SHARD_ENTRY, TABLE_CHECKSUM, type TableBytes } from './catalog-table.ts';
import { type ObjectCache, ObjectGone } from './object-cache.ts';

export const HEAD = 'catalog/HEAD';
const MAX_HEAD = 4 << 20;
/** Tables up to this size are read as a whole, and their checksum is looked at. */
const MAX_WHOLE = 1 << 18;
/** HEAD names a table that is gone: somebody has published meanwhile. */
export const MAX_RELOADS = 5;

/** What one HEAD names. */
export interface NamedTables {
  /** As HEAD names them: older first. */
  readonly entries: readonly HeadEntry[];
  /** Those that could be opened. */
  readonly open: readonly CatalogTable[];
  /** Why others could not be, by name. */
  readonly damaged: ReadonlyMap<string, string>;
  /** Of HEAD. */
  readonly etag: string | undefined;
}

const EMPTY: NamedTables = { entries: [], open: [], damaged: new Map(), etag: undefined };

export class ObjectTables {
  readonly #objects: ObjectStore;
  readonly #cache: ObjectCache;
  #named: NamedTables = EMPTY;
  #isLoaded = false;
  /** Tables that were found to be damaged, and how: not to be opened again. */
  readonly #damaged = new Map<string, string>();
  /** The look at HEAD that is under way, and the one that begins after it. */
  #reloading: Promise<boolean> | undefined;
  #nextReload: Promise<boolean> | undefined;

  constructor(objects: ObjectStore, cache: ObjectCache) {
    this.#objects = objects;
    this.#cache = cache;
  }

  /** As of the last look at HEAD. */
  get named(): NamedTables {
    return this.#named;
  }

  /** Whether HEAD was looked at. */
  get isLoaded(): boolean {
    return this.#isLoaded;
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

  /** Runs a look-up in one table; one that turns out to be damaged is left out from then on. */
  guarded<T>(table: CatalogTable, lookUp: () => readonly T[]): readonly T[] {
    try {
      return lookUp();
    } catch (error) {
      if (!(error instanceof FormatError || error instanceof RangeError)) throw error;
      this.leaveOut(table, error.message);
      return [];
    }
  }

  /** One that was found to be damaged: it is not asked again. */
  leaveOut(table: CatalogTable, why: string): void {
    this.#damaged.set(table.name, why);
    this.#named = {
      ...this.#named,
      open: this.#named.open.filter((other) => other !== table),
      damaged: new Map([...this.#named.damaged, [table.name, why]]),
    };
    this.#cache.forget(`catalog/${table.name}`);
  }

  /** Names of the shards that the tables cover. */
  async covered(signal?: AbortSignal): Promise<Set<string>> {
    const tables = this.#named.open;
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

  /** A table as a whole, in memory; undefined if it is damaged or gone. */
  async readVerified(name: string, size: number, signal?: AbortSignal): Promise<CatalogTable | undefined> {
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

  async #reload(): Promise<boolean> {
    for (let attempt = 0; ; attempt++) {
      const unless = this.#isLoaded && this.#named.damaged.size === 0 ? this.#named.etag : undefined;
      const head = await this.#objects.readWhole(HEAD, { limit: MAX_HEAD, unless });
      if (head === 'unchanged') return false;
      this.#cache.forgetGone();
      const entries = head === undefined ? [] : parseHead(head.bytes.toString('latin1'));
      const opened = await this.#openAll(entries);
      if (opened === undefined && attempt < MAX_RELOADS) continue;
      const before = this.#named.entries.map(({ name }) => name).join();
      this.#named = {
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
  async #openAll(entries: readonly HeadEntry[]): Promise<Pick<NamedTables, 'open' | 'damaged'> | undefined> {
    const known = new Map(this.#named.open.map((table) => [table.name, table]));
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
}

/** Throws INVALID_CATALOG unless the bytes are those that gave the table its name. */
function checkTable(name: string, bytes: Buffer): void {
  const end = Math.max(0, bytes.length - TABLE_CHECKSUM);
  if (createHash('sha256').update(bytes.subarray(0, end)).digest('hex') === name) return;
  throw new FormatError('INVALID_CATALOG', 'its checksum is wrong', end);
}
