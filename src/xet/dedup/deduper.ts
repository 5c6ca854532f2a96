/**
 * Turns the chunk list of one file into terms: chunks that are stored somewhere become references,
 * the others are put into the writer's open xorb.
 */
import { formatHash } from '../hash/xet-hash.ts';
import { extendTerms, type LocalTerm, type LocalXorb } from '../store/journal.ts';
import type { LocalStore } from '../store/local-store.ts';
import type { StoreWriter } from '../store/writer.ts';
import { Fragmentation, LONGEST_MATCH } from './fragmentation.ts';

/** A place where the file's next chunk may be found: the chunk after the last one matched. */
interface Run {
  /** Published xorb, or undefined for local xorb `local`. */
  readonly xorbHash: Uint8Array | undefined;
  readonly name: string;
  readonly local: LocalXorb | undefined;
  readonly hashes: Uint8Array;
  readonly rawEnds: ArrayLike<number>;
  readonly count: number;
  next: number;
}

/** Chunks of the file, `count` of them: hashes of 32 bytes from `hashesAt` on. */
export interface ChunkBatch {
  readonly bytes: Uint8Array;
  readonly hashesAt: number;
  readonly count: number;
  rawLength(i: number): number;
  /** Puts chunk i into the writer. */
  store(i: number): { readonly xorb: LocalXorb; readonly index: number };
}

export class Deduper {
  readonly #store: LocalStore;
  readonly #writer: StoreWriter;
  readonly #fragmentation = new Fragmentation();
  #run: Run | undefined;
  readonly terms: LocalTerm[] = [];
  /** Raw bytes that were new to the store. */
  newBytes = 0;
  /** Raw bytes of the new chunks, or of the found ones, that came last without the other kind between. */
  newInARow = 0;
  foundInARow = 0;

  constructor(store: LocalStore, writer: StoreWriter) {
    this.#store = store;
    this.#writer = writer;
  }

  /**
   * The chunk that follows if the file goes on like the xorb at hand: its length, and its hash in
   * `hashes` at `offset`. Only for xorbs whose chunk boundaries are known to be those of the rule.
   */
  predict(): { readonly length: number; readonly hashes: Uint8Array; readonly offset: number } | undefined {
    const run = this.#run;
    if (run === undefined || run.next >= run.count) return undefined;
    if (run.xorbHash !== undefined && this.#store.isIrregular(run.name)) return undefined;
    const { next } = run;
    const length = (run.rawEnds[next] as number) - (next === 0 ? 0 : (run.rawEnds[next - 1] as number));
    return { length, hashes: run.hashes, offset: 32 * next };
  }

  /** Takes the predicted chunk as the file's next. */
  acceptPrediction(length: number): void {
    const run = this.#run as Run;
    this.#reference(run, run.next, length);
    run.next++;
  }

  /** The prediction was wrong; the run is over unless the chunk list says otherwise. */
  dropPrediction(): void {
    this.#run = undefined;
  }

  add(batch: ChunkBatch): void {
    for (let i = 0; i < batch.count; i++) {
      const at = batch.hashesAt + 32 * i;
      const run = this.#run;
      if (run !== undefined && run.next < run.count && equalAt(run.hashes, 32 * run.next, batch.bytes, at)) {
        this.acceptPrediction(batch.rawLength(i));
        continue;
      }
      const found = this.#look(batch, i);
      if (found !== undefined) {
        this.#run = found;
        this.acceptPrediction(batch.rawLength(i));
        continue;
      }
      this.#run = undefined;
      const { xorb, index } = batch.store(i);
      const length = batch.rawLength(i);
      this.newBytes += length;
      this.newInARow += length;
      this.foundInARow = 0;
      if (extendTerms(this.terms, undefined, xorb.number, index, length)) this.#fragmentation.extendRange();
      else this.#fragmentation.startRange();
    }
  }

  /** The newest usable place of chunk i, unless fragmentation control refuses it. */
  #look(batch: ChunkBatch, i: number): Run | undefined {
    const at = batch.hashesAt + 32 * i;
    const own = this.#writer.findChunk(batch.bytes, at);
    if (own !== undefined) {
      const { xorb, index } = own;
      const run = {
        xorbHash: undefined,
        name: `unsealed ${xorb.number}`,
        local: xorb,
        hashes: xorb.hashes.slice(),
        rawEnds: xorb.rawEnds,
        count: xorb.count,
        next: index,
      };
      return this.#fragmentation.allows(matchLength(run, batch, i)) ? run : undefined;
    }
    for (const place of this.#store.findChunk(batch.bytes, at)) {
      const run = this.#openRun(place.xorb, place.index);
      if (run === undefined || !equalAt(run.hashes, 32 * run.next, batch.bytes, at)) continue;
      return this.#fragmentation.allows(matchLength(run, batch, i)) ? run : undefined;
    }
    return this.#store.refresh() ? this.#look(batch, i) : undefined;
  }

  /** A published xorb from chunk `index` on; undefined when it is gone or damaged. */
  #openRun(xorbHash: Uint8Array, index: number): Run | undefined {
    const name = formatHash(xorbHash);
    // Renewed before it is relied on; gone also means: gc has put it aside.
    if (!this.#writer.touchXorb(name)) return undefined;
    try {
      const source = this.#store.openXorb(xorbHash);
      if (index >= source.count) return undefined;
      return {
        xorbHash,
        name,
        local: undefined,
        hashes: source.hashes,
        rawEnds: source.rawEnds,
        count: source.count,
        next: index,
      };
    } catch {
      // Not usable for whatever reason: the chunk is stored again, and fsck will tell.
      return undefined;
    }
  }

  #reference(run: Run, index: number, length: number): void {
    this.foundInARow += length;
    this.newInARow = 0;
    const last = this.terms.at(-1);
    // One object per xorb and file, so that terms compare by identity.
    const xorbHash =
      run.xorbHash !== undefined && last?.xorbHash !== undefined && equalAt(last.xorbHash, 0, run.xorbHash, 0)
        ? last.xorbHash
        : run.xorbHash;
    const extended = extendTerms(this.terms, xorbHash, run.local?.number ?? 0, index, length);
    if (extended) this.#fragmentation.extendRange();
    else this.#fragmentation.startRange();
  }
}

/** How many chunks from i on agree with the run. A batch that ends first is given the benefit. */
function matchLength(run: Run, batch: ChunkBatch, i: number): number {
  let length = 0;
  while (length < LONGEST_MATCH && run.next + length < run.count) {
    if (i + length === batch.count) return LONGEST_MATCH;
    if (!equalAt(run.hashes, 32 * (run.next + length), batch.bytes, batch.hashesAt + 32 * (i + length)))
      break;
    length++;
  }
  return length;
}

function equalAt(a: Uint8Array, aOffset: number, b: Uint8Array, bOffset: number): boolean {
  for (let i = 0; i < 32; i++) if (a[aOffset + i] !== b[bOffset + i]) return false;
  return true;
}
