/** A store seen through one that tells of every step, and counts what passes. Not a directory to whoever looks. */
import type {
  CallOptions,
  ChunkRange,
  ChunkRun,
  RecordRun,
  Store,
  StoreFile,
  XorbUpload,
} from '../../../src/xet/store/store.ts';
import type { XorbFooter } from '../../../src/xet/xorb/format.ts';

export class SteppedStore implements Store {
  readonly #store: Store;
  readonly #onStep: () => void;
  /** Bytes of records given, and of those of xorbs that arrived. */
  readonly moved = { given: 0, taken: 0 };

  constructor(store: Store, onStep: () => void) {
    this.#store = store;
    this.#onStep = onStep;
  }

  get place(): string {
    return this.#store.place;
  }

  get isReadOnly(): boolean {
    return this.#store.isReadOnly;
  }

  findFiles(hashes: readonly Uint8Array[], options?: CallOptions): Promise<(StoreFile | undefined)[]> {
    this.#onStep();
    return this.#store.findFiles(hashes, options);
  }

  findSha256s(sha256s: readonly string[], options?: CallOptions): Promise<(Uint8Array | undefined)[]> {
    return this.#store.findSha256s(sha256s, options);
  }

  findChunks(hashes: Uint8Array, options?: CallOptions): Promise<ChunkRun[]> {
    this.#onStep();
    return this.#store.findChunks(hashes, options);
  }

  readFooter(xorbHash: Uint8Array, options?: CallOptions): Promise<XorbFooter | undefined> {
    this.#onStep();
    return this.#store.readFooter(xorbHash, options);
  }

  async *readRecords(
    ranges: Iterable<ChunkRange> | AsyncIterable<ChunkRange>,
    options?: CallOptions,
  ): AsyncGenerator<RecordRun> {
    this.#onStep();
    for await (const run of this.#store.readRecords(ranges, options)) {
      this.moved.given += run.bytes.length;
      yield run;
      this.#onStep();
    }
  }

  hasXorb(xorbHash: Uint8Array, options?: CallOptions): Promise<boolean> {
    this.#onStep();
    return this.#store.hasXorb(xorbHash, options);
  }

  async putXorb(xorb: XorbUpload, options?: CallOptions): Promise<boolean> {
    const onStep = this.#onStep;
    onStep();
    const isNew = await this.#store.putXorb(
      {
        footer: xorb.footer,
        records: async function* () {
          let bytes = 0;
          for await (const piece of xorb.records()) {
            // A step for each 8 MiB.
            if (bytes >> 23 !== (bytes + piece.length) >> 23) onStep();
            bytes += piece.length;
            yield piece;
          }
        },
      },
      options,
    );
    this.moved.taken += xorb.footer.recordEnds.at(-1) as number;
    onStep();
    return isNew;
  }

  async putShard(shard: Uint8Array, options?: CallOptions): Promise<boolean> {
    this.#onStep();
    const isNew = await this.#store.putShard(shard, options);
    this.#onStep();
    return isNew;
  }

  [Symbol.asyncDispose](): PromiseLike<void> {
    return this.#store[Symbol.asyncDispose]();
  }
}
