/**
 * The catalog of a store whose files are objects elsewhere: read by ranges, and published by compare-and-swap of
 * its HEAD. Tables and look-ups are those of catalog-table.ts.
 */
import type { Clock } from '../cas/retry.ts';
import { Git2dbError } from '../errors.ts';
import type { ObjectStore } from '../objects/objects.ts';
import { CatalogPublisher } from './catalog-publisher.ts';
import type { CatalogTable } from './catalog-table.ts';
import { type ObjectCache, ObjectGone } from './object-cache.ts';
import { HEAD, MAX_RELOADS, ObjectTables } from './object-tables.ts';
import { UncoveredShards } from './uncovered-shards.ts';

export class ObjectCatalog {
  readonly #objects: ObjectStore;
  readonly #cache: ObjectCache;
  readonly #tables: ObjectTables;
  readonly #uncovered: UncoveredShards;
  readonly #publisher: CatalogPublisher;

  constructor(objects: ObjectStore, cache: ObjectCache, clock: Clock, warn: (message: string) => void) {
    this.#objects = objects;
    this.#cache = cache;
    this.#tables = new ObjectTables(objects, cache);
    this.#uncovered = new UncoveredShards(objects, this.#tables, () => clock.now(), warn);
    this.#publisher = new CatalogPublisher(objects, cache, this.#tables, this.#uncovered, clock, warn);
  }

  /** Whether something in it could not be read, so that it may know less than the store has; and what. */
  get trouble(): string | undefined {
    const [damaged] = this.#tables.named.damaged;
    if (damaged !== undefined) return `table ${damaged[0]} of its catalog is damaged (${damaged[1]})`;
    if (this.#tables.isLoaded && this.#tables.named.entries.length === 0) return 'it has no catalog';
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
    if (!this.#tables.isLoaded) await this.#tables.refresh();
    for (let reloads = 0; ; reloads++) {
      const tables = [...this.#tables.named.open, ...this.#uncovered.tables.values()].reverse();
      try {
        return await this.#cache.resolve(count, (i) => question(tables, i), signal);
      } catch (error) {
        if (!(error instanceof ObjectGone) || reloads === MAX_RELOADS) throw this.#explained(error);
        await this.#tables.refresh();
      }
    }
  }

  /** Runs a look-up in one table; one that turns out to be damaged is left out from then on. */
  guarded<T>(table: CatalogTable, lookUp: () => readonly T[]): readonly T[] {
    return this.#tables.guarded(table, lookUp);
  }

  /** Looks at HEAD. True if it names other tables than before. What was published before the call is seen. */
  refresh(): Promise<boolean> {
    return this.#tables.refresh();
  }

  /** Looks for shards that no table covers, where objects can be listed. True if there were any. At most once a minute. */
  findUncovered(signal?: AbortSignal): Promise<boolean> {
    return this.#uncovered.find(signal);
  }

  /** Makes the catalog cover these shards, which are there. Throws CONFLICT. */
  publish(shards: ReadonlyMap<string, Uint8Array>, signal?: AbortSignal): Promise<void> {
    return this.#publisher.publish(shards, signal);
  }

  #explained(error: unknown): unknown {
    if (!(error instanceof ObjectGone)) return error;
    return new Git2dbError(
      'REMOTE_INVALID',
      `${this.#objects.place}/${error.key} is not there, although ${HEAD} names it`,
    );
  }
}
