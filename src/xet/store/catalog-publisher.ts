/**
 * Publishes shards in a catalog elsewhere: a table for them, merged with small ones, and then HEAD, by
 * compare-and-swap. Nobody holds a lock, and any number may do so at once.
 */
import type { Clock } from '../cas/retry.ts';
import { Git2dbError, messageOf } from '../errors.ts';
import { isHashString } from '../hash/xet-hash.ts';
import { bodyOf, type ObjectStore } from '../objects/objects.ts';
import { mergeTables, tableName } from './catalog-build.ts';
import { formatHead, type HeadEntry } from './catalog-head.ts';
import { CatalogTable, memoryBytes } from './catalog-table.ts';
import type { ObjectCache } from './object-cache.ts';
import { HEAD, type ObjectTables } from './object-tables.ts';
import type { UncoveredShards } from './uncovered-shards.ts';

/** Tables that are merged have no more bytes together: the result is made in memory, in one go. */
const MAX_MERGED = 16 << 20;
/** As in catalog.ts. */
const TIER_FACTOR = 2;
/** Lost races for HEAD. */
const MAX_ATTEMPTS = 50;
const RACE_MS = 40;
/** Tables that HEAD does not name are left by publishers that died, if they are older than this. */
const LEFTOVER_MS = 24 * 3600 * 1000;

export class CatalogPublisher {
  readonly #objects: ObjectStore;
  readonly #cache: ObjectCache;
  readonly #tables: ObjectTables;
  readonly #uncovered: UncoveredShards;
  readonly #clock: Clock;
  readonly #warn: (message: string) => void;

  constructor(
    objects: ObjectStore,
    cache: ObjectCache,
    tables: ObjectTables,
    uncovered: UncoveredShards,
    clock: Clock,
    warn: (message: string) => void,
  ) {
    this.#objects = objects;
    this.#cache = cache;
    this.#tables = tables;
    this.#uncovered = uncovered;
    this.#clock = clock;
    this.#warn = warn;
  }

  /**
   * Makes the catalog cover these shards, which are there, and all that are known not to be covered. Others may
   * do the same at the same time. Throws CONFLICT where they are faster again and again.
   */
  async publish(shards: ReadonlyMap<string, Uint8Array>, signal?: AbortSignal): Promise<void> {
    for (const [name, bytes] of shards) this.#uncovered.add(name, bytes);
    await this.#findLeftovers(signal);
    for (let attempt = 0; attempt < MAX_ATTEMPTS; attempt++) {
      await this.#tables.refresh();
      this.#uncovered.drop(await this.#tables.covered(signal));
      if (this.#uncovered.tables.size === 0 && this.#tables.named.damaged.size === 0) return;
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
    const before = this.#tables.named;
    if (before.damaged.size > 0) {
      // What these covered is found by listing; merging goes on without them.
      await this.#uncovered.find(signal, true);
    }
    const fresh = [...this.#uncovered.tables.values()];
    const first = firstMerged(before.open, fresh);
    const older: CatalogTable[] = [];
    for (const table of before.open.slice(first)) {
      const whole = await this.#tables.readVerified(table.name, table.bytes.size, signal);
      if (whole === undefined) {
        this.#tables.leaveOut(table, 'its checksum is wrong');
        return false;
      }
      older.push(whole);
    }
    const kept = before.open.slice(0, first);
    const entries = kept.map(entryOf);
    const merged = [...older, ...fresh];
    if (merged.length > 0) {
      let bytes: Buffer;
      try {
        bytes = mergeTables(merged);
      } catch (error) {
        // Its checksum is right, and what it says contradicts itself.
        if (older.length === 0) throw error;
        for (const table of before.open.slice(first)) this.#tables.leaveOut(table, messageOf(error));
        return false;
      }
      const made = new CatalogTable(tableName(bytes), memoryBytes(bytes), 0);
      await this.#objects.putIfAbsent(`catalog/${made.name}`, bodyOf(bytes), { signal });
      entries.push(entryOf(made));
    }
    const text = Buffer.from(formatHead(entries), 'latin1');
    const etag = await this.#objects.replace(HEAD, bodyOf(text), before.etag, { signal });
    if (etag === undefined) return false;
    await this.#tables.refresh();
    const names = new Set(this.#tables.named.entries.map(({ name }) => name));
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
    if (this.#uncovered.wereListed || !this.#objects.canList) return;
    const own = new Set(this.#uncovered.tables.keys());
    await this.#tables.refresh();
    await this.#uncovered.find(signal, true);
    const live = new Set(this.#tables.named.entries.map(({ name }) => name));
    const old: string[] = [];
    for await (const { key, modifiedMs } of this.#objects.list('catalog/', { signal })) {
      const name = key.slice('catalog/'.length);
      if (isHashString(name) && !live.has(name) && this.#clock.now() - modifiedMs > LEFTOVER_MS)
        old.push(name);
    }
    await this.#removeTables(old);
    if (own.size > 0 && this.#uncovered.tables.size > own.size) {
      this.#warn(
        `${this.#uncovered.tables.size - own.size} shards in ${this.#objects.place} were not in its catalog, and are added`,
      );
    }
  }
}

/** The older tables from this number on are merged with the fresh ones: as in catalog.ts, and no more bytes than allowed. */
function firstMerged(older: readonly CatalogTable[], fresh: readonly CatalogTable[]): number {
  let weight = fresh.reduce((sum, table) => sum + table.bytes.size, 0);
  let first = older.length;
  for (; first > 0; first--) {
    const { size } = (older[first - 1] as CatalogTable).bytes;
    if (size >= TIER_FACTOR * weight || weight + size > MAX_MERGED) break;
    weight += size;
  }
  return first;
}

function entryOf({ name, counts }: CatalogTable): HeadEntry {
  return { name, chunks: counts.chunks, files: counts.files };
}
