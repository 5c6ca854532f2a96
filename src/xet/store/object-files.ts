/** Files of a store whose files are objects elsewhere: the catalog names their shards, and these say what they are made of. */
import { Git2dbError } from '../errors.ts';
import { formatHash } from '../hash/xet-hash.ts';
import type { ObjectStore } from '../objects/objects.ts';
import type { ObjectCatalog } from './object-catalog.ts';
import type { ObjectShards } from './object-shards.ts';
import type { StoreFile } from './store.ts';

export class ObjectFiles {
  readonly #objects: ObjectStore;
  readonly #catalog: ObjectCatalog;
  readonly #shards: ObjectShards;

  constructor(objects: ObjectStore, catalog: ObjectCatalog, shards: ObjectShards) {
    this.#objects = objects;
    this.#catalog = catalog;
    this.#shards = shards;
  }

  /** Undefined for a file that the store does not know, however recent its catalog is. */
  find(hashes: readonly Uint8Array[], signal?: AbortSignal): Promise<(StoreFile | undefined)[]> {
    return this.#ask(hashes, (some) => this.findKnown(some, signal), signal);
  }

  /** What the catalog says as it is known here. */
  findKnown(hashes: readonly Uint8Array[], signal?: AbortSignal): Promise<(StoreFile | undefined)[]> {
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

  /** File hashes; undefined where unknown. */
  findSha256s(sha256s: readonly string[], signal?: AbortSignal): Promise<(Uint8Array | undefined)[]> {
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
        signal,
      );
    };
    return this.#ask(sha256s, find, signal);
  }

  /** Asks, and once more for what was not found if the catalog or the list of shards has more by now. */
  async #ask<K, V>(
    keys: readonly K[],
    find: (some: readonly K[]) => Promise<readonly (V | undefined)[]>,
    signal: AbortSignal | undefined,
  ): Promise<(V | undefined)[]> {
    const answers = [...(await find(keys))];
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
        `not everything that ${this.#objects.place} holds can be found: ${trouble}, and a web server gives no list of its files; run \`git2db xet fsck --repair\` on the store behind it`,
        { data: { place: this.#objects.place } },
      );
    }
    return answers;
  }
}
