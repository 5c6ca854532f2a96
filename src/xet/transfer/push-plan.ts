/**
 * Turns the chunk list of a file of this store into terms for another one: chunks that are there become
 * references, chunks that were packed before in this push too, the others are packed.
 */
import { Fragmentation, LONGEST_MATCH } from '../dedup/fragmentation.ts';
import { verificationHash } from '../hash/verification.ts';
import { hashesEqual } from '../hash/xet-hash.ts';
import { openTerm, type ReadPlan } from '../reconstruct/plan.ts';
import type { FileRecord, Term } from '../shard/file-info.ts';
import type { StoredTerm } from '../store/local-store.ts';
import type { ChunkRun, StoreFile } from '../store/store.ts';
import { rawBytesBetween } from '../store/xorb-source.ts';
import type { PackedXorb } from './packed-xorb.ts';
import type { WantedFile } from './transfer.ts';

/** The chunk list of a file, and where each chunk is here. */
export interface ChunkList {
  readonly hashes: Uint8Array;
  readonly lengths: Uint32Array;
  readonly terms: readonly StoredTerm[];
}

export function chunkListOf(plan: ReadPlan): ChunkList {
  const count = plan.terms.reduce((sum, term) => sum + (term.end - term.start), 0);
  const hashes = new Uint8Array(32 * count);
  const lengths = new Uint32Array(count);
  let at = 0;
  for (const term of plan.terms) {
    const source = openTerm(term);
    hashes.set(source.hashes.subarray(32 * term.start, 32 * term.end), 32 * at);
    for (let i = term.start; i < term.end; i++) lengths[at++] = rawBytesBetween(source, i, i + 1);
  }
  return { hashes, lengths, terms: plan.terms };
}

/** A term whose xorb may have no name yet. */
interface PushTerm {
  readonly xorbHash: Uint8Array | undefined;
  readonly packed: PackedXorb | undefined;
  readonly start: number;
  end: number;
  rawBytes: number;
}

/** A file that can be registered once its packed xorbs have arrived. */
export interface PlannedFile {
  readonly wanted: WantedFile;
  readonly size: number;
  readonly sha256: string | undefined;
  readonly terms: readonly PushTerm[];
  readonly verification: readonly Uint8Array[];
}

/** Where a chunk was packed before. */
export interface PackedPlace {
  readonly packed: PackedXorb;
  readonly index: number;
}

/** What planning needs of the push. */
export interface Packer {
  find(hashes: Uint8Array, offset: number): PackedPlace | undefined;
  /** Packs chunk `chunk` of the term's xorb; may wait for uploads. */
  pack(term: StoredTerm, chunk: number): PackedPlace | Promise<PackedPlace>;
}

/** `runs`: where the other store has chunks of this file, `at` counted from its first chunk. */
export async function planTerms(
  list: ChunkList,
  runs: readonly ChunkRun[],
  packer: Packer,
): Promise<Pick<PlannedFile, 'terms' | 'verification'>> {
  const builder = new TermBuilder(list);
  let next = 0;
  let i = 0;
  for (const term of list.terms) {
    for (let chunk = term.start; chunk < term.end; chunk++, i++) {
      while (next < runs.length && endOf(runs[next] as ChunkRun) <= i) next++;
      const run = runs[next];
      if (run !== undefined && run.at <= i && builder.refer(run, i)) continue;
      const before = packer.find(list.hashes, 32 * i);
      if (before !== undefined && builder.repeat(before, i)) continue;
      builder.add(await packer.pack(term, chunk), i);
    }
  }
  return builder.finish();
}

function endOf(run: ChunkRun): number {
  return run.at + run.count;
}

/** The parts of `runs` that lie in chunks [start, end), counted from `start`. */
export function runsWithin(runs: readonly ChunkRun[], start: number, end: number): ChunkRun[] {
  const within: ChunkRun[] = [];
  for (const run of runs) {
    const first = Math.max(run.at, start);
    const last = Math.min(run.at + run.count, end);
    if (first < last) {
      within.push({
        at: first - start,
        count: last - first,
        xorbHash: run.xorbHash,
        start: run.start + (first - run.at),
      });
    }
  }
  return within;
}

/** The terms by which the other store has the file, with the proofs that a shard needs; undefined if they do not fit. */
export function termsOfStored(
  list: ChunkList,
  { terms }: StoreFile,
): Pick<PlannedFile, 'terms' | 'verification'> | undefined {
  const verification: Uint8Array[] = [];
  let at = 0;
  for (const { start, end, rawBytes } of terms) {
    const next = at + (end - start);
    let size = 0;
    for (const length of list.lengths.subarray(at, next)) size += length;
    if (next > list.lengths.length || size !== rawBytes) return undefined;
    verification.push(verificationHash(list.hashes, at, next));
    at = next;
  }
  if (at !== list.lengths.length) return undefined;
  return { terms: terms.map((term) => ({ ...term, packed: undefined })), verification };
}

class TermBuilder {
  readonly #list: ChunkList;
  readonly #fragmentation = new Fragmentation();
  readonly #terms: PushTerm[] = [];
  readonly #verification: Uint8Array[] = [];
  /** Number of the first chunk of the last term. */
  #start = 0;
  #count = 0;

  constructor(list: ChunkList) {
    this.#list = list;
  }

  /** Takes chunk i from a run of the other store, unless that would leave the file in too many pieces. */
  refer(run: ChunkRun, i: number): boolean {
    const index = run.start + (i - run.at);
    return this.#take(run.xorbHash, undefined, index, i, () => endOf(run) - i);
  }

  /** Takes chunk i from where it was packed before, on the same condition. */
  repeat({ packed, index }: PackedPlace, i: number): boolean {
    return this.#take(undefined, packed, index, i, () => this.#matchLength(packed, index, i));
  }

  /** Chunk i was just packed. */
  add({ packed, index }: PackedPlace, i: number): void {
    this.#take(undefined, packed, index, i, () => LONGEST_MATCH, true);
  }

  finish(): Pick<PlannedFile, 'terms' | 'verification'> {
    this.#close();
    return { terms: this.#terms, verification: this.#verification };
  }

  #take(
    xorbHash: Uint8Array | undefined,
    packed: PackedXorb | undefined,
    index: number,
    i: number,
    matchLength: () => number,
    isNew = false,
  ): boolean {
    const last = this.#terms.at(-1);
    const length = this.#list.lengths[i] as number;
    if (
      last !== undefined &&
      last.end === index &&
      last.packed === packed &&
      sameXorb(last.xorbHash, xorbHash)
    ) {
      last.end++;
      last.rawBytes += length;
      this.#count++;
      this.#fragmentation.extendRange();
      return true;
    }
    if (!isNew && !this.#fragmentation.allows(matchLength())) return false;
    this.#close();
    this.#terms.push({ xorbHash, packed, start: index, end: index + 1, rawBytes: length });
    this.#count++;
    this.#fragmentation.startRange();
    return true;
  }

  #close(): void {
    if (this.#terms.length > 0)
      this.#verification.push(verificationHash(this.#list.hashes, this.#start, this.#count));
    this.#start = this.#count;
  }

  #matchLength(packed: PackedXorb, index: number, i: number): number {
    const known = packed.hashes.slice();
    const { hashes, lengths } = this.#list;
    let length = 1;
    while (length < LONGEST_MATCH && index + length < packed.count && i + length < lengths.length) {
      if (!hashesEqual(known, 32 * (index + length), hashes, 32 * (i + length))) break;
      length++;
    }
    return length;
  }
}

function sameXorb(a: Uint8Array | undefined, b: Uint8Array | undefined): boolean {
  return a === b || (a !== undefined && b !== undefined && hashesEqual(a, 0, b, 0));
}

/** For the shard; all its packed xorbs have their names. */
export function recordOf(file: PlannedFile): FileRecord {
  return {
    fileHash: file.wanted.hash,
    terms: file.terms.map(
      ({ xorbHash, packed, start, end, rawBytes }): Term => ({
        xorbHash: xorbHash ?? (packed as PackedXorb).footer.xorbHash,
        start,
        end,
        rawBytes,
      }),
    ),
    verification: file.verification,
    ...(file.sha256 === undefined ? {} : { sha256: file.sha256 }),
  };
}
