/** Shards that no table of the catalog covers: of other tools, or of a writer that died. Each gets a table in memory. */
import { untilAborted } from '../cas/abort.ts';
import { FormatError } from '../errors.ts';
import { parseHash } from '../hash/xet-hash.ts';
import type { ObjectStore } from '../objects/objects.ts';
import { Shard, shardName } from '../shard/shard.ts';
import { tableName, tableOfShard } from './catalog-build.ts';
import { CatalogTable, memoryBytes } from './catalog-table.ts';
import type { ObjectTables } from './object-tables.ts';

/** How long a list of the shards is believed. */
const LIST_MS = 60_000;
/** Shards that are looked at; and bytes of the tables that are made of them. */
const MAX_LOOSE = 1000;
const MAX_LOOSE_BYTES = 32 << 20;

export class UncoveredShards {
  readonly #objects: ObjectStore;
  readonly #covering: ObjectTables;
  readonly #now: () => number;
  readonly #warn: (message: string) => void;
  readonly #tables = new Map<string, CatalogTable>();
  /** Shards that no table can be made of, and why. */
  readonly #unreadable = new Map<string, string>();
  #listedAt = Number.NEGATIVE_INFINITY;
  /** The listing that is under way. */
  #finding: Promise<boolean> | undefined;

  /** `now`: in ms. */
  constructor(
    objects: ObjectStore,
    covering: ObjectTables,
    now: () => number,
    warn: (message: string) => void,
  ) {
    this.#objects = objects;
    this.#covering = covering;
    this.#now = now;
    this.#warn = warn;
  }

  /** By the name of the shard. */
  get tables(): ReadonlyMap<string, CatalogTable> {
    return this.#tables;
  }

  /** Whether they were looked for yet. */
  get wereListed(): boolean {
    return this.#listedAt > Number.NEGATIVE_INFINITY;
  }

  /** Takes a shard that is there; its bytes are what its name says. */
  add(name: string, bytes: Uint8Array): void {
    this.#tables.set(name, tableInMemory(name, bytes));
  }

  /** Forgets those that are covered by now. */
  drop(covered: ReadonlySet<string>): void {
    for (const name of this.#tables.keys()) if (covered.has(name)) this.#tables.delete(name);
  }

  /** Looks for them, where objects can be listed. True if there were any. At most once a minute unless `force`. */
  async find(signal?: AbortSignal, force = false): Promise<boolean> {
    if (!this.#objects.canList) return false;
    // Whoever asks meanwhile has not found what this one may find.
    if (!force && this.#finding !== undefined) return untilAborted(this.#finding, signal);
    if (!force && this.#now() - this.#listedAt < LIST_MS) return false;
    const finding = this.#list(force ? signal : undefined).finally(() => {
      if (this.#finding === finding) this.#finding = undefined;
    });
    this.#finding = finding;
    return untilAborted(finding, signal);
  }

  /** Others may wait for it, unless it has a `signal`. */
  async #list(signal: AbortSignal | undefined): Promise<boolean> {
    const now = this.#now();
    const names = new Set<string>();
    for await (const { key } of this.#objects.list('shards/', { signal })) {
      const name = /^shards\/([0-9a-f]{64})\.mdb$/.exec(key)?.[1];
      if (name !== undefined) names.add(name);
    }
    for (const name of await this.#covering.covered(signal)) names.delete(name);
    for (const name of this.#tables.keys()) {
      if (!names.delete(name)) this.#tables.delete(name);
    }
    for (const name of this.#unreadable.keys()) names.delete(name);
    let bytes = 0;
    for (const table of this.#tables.values()) bytes += table.bytes.size;
    let found = false;
    for (const name of names) {
      if (this.#tables.size >= MAX_LOOSE || bytes > MAX_LOOSE_BYTES) {
        this.#warn(
          `${this.#objects.place} has more shards that its catalog does not cover than can be looked at now; the rest follows`,
        );
        break;
      }
      const table = await this.#tableOf(name, signal);
      if (table === undefined) continue;
      this.#tables.set(name, table);
      bytes += table.bytes.size;
      found = true;
    }
    // One that failed tells nothing.
    this.#listedAt = now;
    return found;
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
}

function tableInMemory(shard: string, bytes: Uint8Array): CatalogTable {
  const table = tableOfShard(parseHash(shard), Shard.open(bytes));
  return new CatalogTable(tableName(table), memoryBytes(table), 0);
}
