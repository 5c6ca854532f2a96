/**
 * Which chunks of a file that is being fetched need not be fetched: those in xorbs of this store, found by
 * hash, and taken in runs as the deduper takes them, so that a fetched file is in no more pieces than one
 * that was added here.
 */
import { Fragmentation, LONGEST_MATCH } from '../dedup/fragmentation.ts';
import { formatHash, hashesEqual } from '../hash/xet-hash.ts';
import type { LocalStore } from '../store/local-store.ts';
import type { StoreWriter } from '../store/writer.ts';
import type { XorbSource } from '../store/xorb-source.ts';

/** A chunk of a published xorb of this store. */
export interface LocalPlace {
  readonly xorbHash: Uint8Array;
  readonly index: number;
  /** The place is good, but a reference to it would leave the file in too many pieces: store the chunk again. */
  readonly isFragment: boolean;
}

/** A place in a local xorb where the file's next chunk may be found. */
interface Run {
  readonly xorbHash: Uint8Array;
  readonly source: XorbSource;
  next: number;
}

export class LocalChunks {
  readonly #store: LocalStore;
  readonly #writer: StoreWriter;
  readonly #distrusted: ReadonlySet<string>;

  /** Xorbs whose names are in `distrusted` are not looked at. */
  constructor(store: LocalStore, writer: StoreWriter, distrusted: ReadonlySet<string>) {
    this.#store = store;
    this.#writer = writer;
    this.#distrusted = distrusted;
  }

  /** A xorb that can be relied on: its age is renewed first. Undefined when it is gone or damaged. */
  open(xorbHash: Uint8Array): XorbSource | undefined {
    const name = formatHash(xorbHash);
    if (this.#distrusted.has(name) || !this.#writer.touchXorb(name)) return undefined;
    try {
      return this.#store.openXorb(xorbHash);
    } catch {
      // Not usable for whatever reason: its chunks are fetched, and fsck will tell.
      return undefined;
    }
  }

  /** One for each file: `find` is asked for its chunks in order. */
  matcher(): ChunkMatcher {
    return new ChunkMatcher(this, this.#store);
  }
}

export class ChunkMatcher {
  readonly #chunks: LocalChunks;
  readonly #store: LocalStore;
  readonly #fragmentation = new Fragmentation();
  #run: Run | undefined;
  #isNew = false;

  constructor(chunks: LocalChunks, store: LocalStore) {
    this.#chunks = chunks;
    this.#store = store;
  }

  /** The file goes on with `count` chunks that are in one piece in this store. */
  skip(count: number): void {
    this.#run = undefined;
    this.#isNew = false;
    if (count > 0) this.#fragmentation.startRange();
    for (let i = 1; i < count; i++) this.#fragmentation.extendRange();
  }

  /** Place of the file's next chunk, which is chunk `i` of `hashes`; those behind it tell how long a match is. */
  find(hashes: Uint8Array, i: number): LocalPlace | undefined {
    const run = this.#run;
    if (run !== undefined && run.next < run.source.count && agrees(run, 0, hashes, i)) {
      this.#fragmentation.extendRange();
      return this.#take(run);
    }
    this.#run = undefined;
    let fragment: LocalPlace | undefined;
    for (const place of this.#store.findChunk(hashes, 32 * i)) {
      const source = this.#chunks.open(place.xorb);
      if (source === undefined || place.index >= source.count) continue;
      const found: Run = { xorbHash: place.xorb, source, next: place.index };
      if (!agrees(found, 0, hashes, i)) continue;
      if (this.#fragmentation.allows(matchLength(found, hashes, i))) {
        this.#run = found;
        this.#isNew = false;
        this.#fragmentation.startRange();
        return this.#take(found);
      }
      fragment = { xorbHash: found.xorbHash, index: found.next, isFragment: true };
      break;
    }
    this.#storeAgain();
    return fragment;
  }

  /** The file's next chunk is not known, so it is nowhere. */
  miss(): undefined {
    this.#run = undefined;
    this.#storeAgain();
  }

  #take(run: Run): LocalPlace {
    return { xorbHash: run.xorbHash, index: run.next++, isFragment: false };
  }

  #storeAgain(): void {
    if (this.#isNew) this.#fragmentation.extendRange();
    else this.#fragmentation.startRange();
    this.#isNew = true;
  }
}

function matchLength(run: Run, hashes: Uint8Array, i: number): number {
  let length = 1;
  while (length < LONGEST_MATCH && run.next + length < run.source.count) {
    // A list that ends first is given the benefit.
    if (32 * (i + length) === hashes.length) return LONGEST_MATCH;
    if (!agrees(run, length, hashes, i)) break;
    length++;
  }
  return length;
}

function agrees(run: Run, ahead: number, hashes: Uint8Array, i: number): boolean {
  return hashesEqual(run.source.hashes, 32 * (run.next + ahead), hashes, 32 * (i + ahead));
}
