/** Where chunks are, in a store whose files are objects elsewhere: its catalog tells, and the xorbs' own lists confirm. */
import { formatHash, HASH_SIZE } from '../hash/xet-hash.ts';
import type { XorbFooter } from '../xorb/format.ts';
import type { CatalogTable, ChunkPlace } from './catalog-table.ts';
import { findRuns } from './find-runs.ts';
import type { ObjectCatalog } from './object-catalog.ts';
import type { ObjectFooters } from './object-footers.ts';
import type { ChunkRun } from './store.ts';

/** As in directory-store.ts, but each costs a request. */
const NEAR_BEFORE = 4;
const NEAR_AFTER = 28;
/** For finding chunks, which is best effort, HEAD is looked at once in so many ms. */
const REFRESH_MS = 1000;
/** Of chunks that may be known, every so many-th is looked up first, to find xorbs whose lists tell of the others. */
const SAMPLE = 64;

export class ObjectChunks {
  readonly #catalog: ObjectCatalog;
  readonly #footers: ObjectFooters;
  readonly #now: () => number;
  #refreshedAt = Number.NEGATIVE_INFINITY;

  /** `now`: in ms. */
  constructor(catalog: ObjectCatalog, footers: ObjectFooters, now: () => number) {
    this.#catalog = catalog;
    this.#footers = footers;
    this.#now = now;
  }

  /** Runs for the chunks of this list (32 bytes each); see `findChunks` in store.ts. */
  async findRuns(hashes: Uint8Array, signal?: AbortSignal): Promise<ChunkRun[]> {
    if (this.#now() - this.#refreshedAt >= REFRESH_MS) {
      this.#refreshedAt = this.#now();
      await this.#catalog.refresh();
    }
    const candidates = await this.#findCandidates(hashes, signal);
    await this.#readSampledFooters(hashes, candidates, signal);
    return findRuns(
      hashes,
      {
        find: async (offset) => {
          if (!candidates.has(offset / HASH_SIZE)) return [];
          const [places] = await this.findPlaces(hashes, [offset], signal);
          return places ?? [];
        },
        open: (xorbHash) => this.#footers.find(xorbHash),
      },
      signal,
    );
  }

  /** Where the catalog says that each of the chunks is whose hashes stand at these offsets. */
  findPlaces(hashes: Uint8Array, offsets: readonly number[], signal?: AbortSignal): Promise<ChunkPlace[][]> {
    const question = (tables: readonly CatalogTable[], i: number) =>
      tables.flatMap((table) =>
        this.#catalog.guarded(table, () => table.findChunk(hashes, offsets[i] as number)),
      );
    return this.#catalog.resolve(offsets.length, question, signal);
  }

  /** Usable xorbs with the chunk, and those near them in their shards; none if none has the chunk. */
  async findXorbs(chunkHash: Uint8Array, signal?: AbortSignal): Promise<XorbFooter[]> {
    const find = () =>
      this.#catalog.resolve(
        1,
        (tables) =>
          tables.map((table) =>
            this.#catalog.guarded(table, () => [table.findNear(chunkHash, NEAR_BEFORE, NEAR_AFTER)]),
          ),
        signal,
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
    const footers = await this.#footers.findAll(hashes.values());
    const usable = footers.filter((footer) => footer !== undefined);
    return usable.some(({ xorbHash }) => having.has(formatHash(xorbHash))) ? usable : [];
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
    for (const [first] of await this.findPlaces(hashes, sample, signal)) {
      if (first !== undefined) xorbs.set(formatHash(first.xorb), new Uint8Array(first.xorb));
    }
    await this.#footers.findAll(xorbs.values());
  }
}
