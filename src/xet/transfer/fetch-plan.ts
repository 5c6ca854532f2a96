/**
 * What must be asked of the other store for a file, piece by piece. Chunks that this store has are left out: the
 * other store shows the chunk lists of its xorbs; or a xorb of the same name is here; or its list was learned when
 * it was read before.
 */
import { FormatError, type Git2dbError } from '../errors.ts';
import { verificationHash } from '../hash/verification.ts';
import { formatHash, hashesEqual, isZeroHash } from '../hash/xet-hash.ts';
import type { Term } from '../shard/file-info.ts';
import type { Store, StoreFile } from '../store/store.ts';
import type { StoreWriter } from '../store/writer.ts';
import { MAX_RAW_CHUNK } from '../xorb/chunk-record.ts';
import { rawBytesBetween } from '../xorb/ends.ts';
import { MAX_XORB_CHUNKS, type XorbFooter } from '../xorb/format.ts';
import type { LearnedChunks } from './learned-chunks.ts';
import type { ChunkMatcher, LocalChunks, LocalPlace } from './local-chunks.ts';

/** Consecutive chunks of a file, and where they come from. */
export type Piece =
  /** Chunks [start, end) of a published xorb of this store; `copy`: to be stored again, as they are. */
  | {
      readonly kind: 'here';
      readonly xorbHash: Uint8Array;
      readonly start: number;
      end: number;
      readonly copy: boolean;
    }
  /** Chunks that an earlier piece of this session brings. */
  | {
      readonly kind: 'again';
      readonly xorbHash: Uint8Array;
      readonly start: number;
      end: number;
      readonly footer: XorbFooter | undefined;
    }
  /** Chunks [start, end) of a xorb of the other store, with its chunk list if that is known. */
  | {
      readonly kind: 'there';
      readonly xorbHash: Uint8Array;
      readonly start: number;
      end: number;
      readonly footer: XorbFooter | undefined;
    }
  /** All chunks of a xorb of the other store, none of which is here. */
  | {
      readonly kind: 'whole';
      readonly xorbHash: Uint8Array;
      readonly start: 0;
      end: number;
      readonly footer: XorbFooter;
    };

/** Of smaller xorbs, many go in one request as pieces. Stored bytes. */
const LEAST_WHOLE = 4 << 20;

/** Footers kept, of 300 KiB at most. */
const MAX_FOOTERS = 32;

export interface FetchPlannerOptions {
  readonly signal: AbortSignal | undefined;
  /** Whether whole xorbs can be taken as they are. */
  readonly takesWhole: boolean;
}

/** Shared by all files of a session. */
export class FetchPlanner {
  readonly #remote: Store;
  readonly #chunks: LocalChunks;
  readonly #writer: StoreWriter;
  readonly #learned: LearnedChunks;
  readonly #footers = new Map<string, XorbFooter | undefined>();
  /** Chunks that pieces so far bring: beginnings of their hashes. */
  readonly #coming = new Set<string>();
  readonly #options: FetchPlannerOptions;

  constructor(
    remote: Store,
    chunks: LocalChunks,
    writer: StoreWriter,
    learned: LearnedChunks,
    options: FetchPlannerOptions,
  ) {
    this.#remote = remote;
    this.#chunks = chunks;
    this.#writer = writer;
    this.#learned = learned;
    this.#options = options;
  }

  /** Pieces of a file in order. Throws REMOTE_INVALID for a description that cannot be true. */
  async *pieces(file: StoreFile): AsyncGenerator<Piece> {
    checkTerms(file);
    const matcher = this.#chunks.matcher();
    for (const [i, term] of file.terms.entries()) {
      const local = this.#chunks.open(term.xorbHash);
      if (local !== undefined) {
        checkTerm(file, i, local.count, (start, end) => rawBytesBetween(local, start, end));
        matcher.skip(term.end - term.start);
        yield { kind: 'here', xorbHash: term.xorbHash, start: term.start, end: term.end, copy: false };
        continue;
      }
      const footer = await this.#footer(term.xorbHash);
      if (footer === undefined) {
        yield* joined(this.#unknown(term, matcher));
        continue;
      }
      checkTerm(file, i, footer.count, (start, end) => rawBytesBetween(footer, start, end));
      checkVerification(file, i, footer);
      for (const piece of joined(this.#known(term, footer, matcher))) yield this.#perhapsWhole(piece);
    }
  }

  /** Of a term whose chunk list is known, chunk by chunk. */
  *#known({ xorbHash, start, end }: Term, footer: XorbFooter, matcher: ChunkMatcher): Generator<Piece> {
    const list = footer.hashes.subarray(0, 32 * end);
    for (let i = start; i < end; i++) {
      const place = matcher.find(list, i);
      if (place !== undefined) {
        yield here(place);
        continue;
      }
      const key = keyOf(list, 32 * i);
      const isComing = this.#coming.has(key) || this.#writer.findChunk(list, 32 * i) !== undefined;
      this.#coming.add(key);
      yield { kind: isComing ? 'again' : 'there', xorbHash, start: i, end: i + 1, footer };
    }
  }

  #perhapsWhole(piece: Piece): Piece {
    if (!this.#options.takesWhole || piece.kind !== 'there' || piece.start !== 0) return piece;
    const { xorbHash, end, footer } = piece;
    if (footer === undefined || end !== footer.count) return piece;
    if ((footer.recordEnds[end - 1] as number) < LEAST_WHOLE) return piece;
    return { kind: 'whole', xorbHash, start: 0, end, footer };
  }

  /** Of a term whose chunk list is known only as far as it was learned, chunk by chunk. */
  *#unknown({ xorbHash, start, end }: Term, matcher: ChunkMatcher): Generator<Piece> {
    for (let i = start; i < end; i++) {
      const list = this.#learned.hashesOf(xorbHash).subarray(0, 32 * end);
      const isKnown = !isZeroHash(list, 32 * i);
      const place = isKnown ? matcher.find(list, i) : matcher.miss();
      if (place !== undefined) {
        yield here(place);
        continue;
      }
      const isComing =
        this.#learned.isComing(xorbHash, i) ||
        (isKnown && this.#writer.findChunk(list, 32 * i) !== undefined);
      this.#learned.expect(xorbHash, i);
      yield { kind: isComing ? 'again' : 'there', xorbHash, start: i, end: i + 1, footer: undefined };
    }
  }

  async #footer(xorbHash: Uint8Array): Promise<XorbFooter | undefined> {
    const name = formatHash(xorbHash);
    if (this.#footers.has(name)) {
      const footer = this.#footers.get(name);
      this.#footers.delete(name);
      this.#footers.set(name, footer);
      return footer;
    }
    const footer = await this.#remote.readFooter(xorbHash, { signal: this.#options.signal });
    if (this.#footers.size >= MAX_FOOTERS) this.#footers.delete(this.#footers.keys().next().value as string);
    this.#footers.set(name, footer);
    return footer;
  }
}

function here({ xorbHash, index, isFragment }: LocalPlace): Piece {
  return { kind: 'here', xorbHash, start: index, end: index + 1, copy: isFragment };
}

/** The same pieces, those of them as one that continue each other. */
function* joined(pieces: Iterable<Piece>): Generator<Piece> {
  let open: Piece | undefined;
  for (const piece of pieces) {
    if (open !== undefined && continues(open, piece)) open.end = piece.end;
    else {
      if (open !== undefined) yield open;
      open = piece;
    }
  }
  if (open !== undefined) yield open;
}

function continues(open: Piece, next: Piece): boolean {
  if (open.kind !== next.kind || open.end !== next.start) return false;
  if (open.kind === 'here' && next.kind === 'here' && open.copy !== next.copy) return false;
  return open.xorbHash === next.xorbHash || hashesEqual(open.xorbHash, 0, next.xorbHash, 0);
}

function checkTerms(file: StoreFile): void {
  let size = 0;
  for (const { start, end, rawBytes } of file.terms) {
    size += rawBytes;
    if (
      start < end &&
      end <= MAX_XORB_CHUNKS &&
      rawBytes >= end - start &&
      rawBytes <= (end - start) * MAX_RAW_CHUNK
    )
      continue;
    throw invalid(file, `a term of chunks [${start}, ${end}) cannot have ${rawBytes} bytes`);
  }
  if (size !== file.size) throw invalid(file, `its terms have ${size} bytes together, not ${file.size}`);
}

function checkTerm(
  file: StoreFile,
  i: number,
  count: number,
  rawBytes: (start: number, end: number) => number,
): void {
  const term = file.terms[i] as Term;
  const { start, end } = term;
  if (end <= count && rawBytes(start, end) === term.rawBytes) return;
  throw invalid(
    file,
    `term ${i} is said to be chunks [${start}, ${end}), ${term.rawBytes} bytes, of xorb ${formatHash(term.xorbHash)}, which has no such chunks`,
  );
}

function checkVerification(file: StoreFile, i: number, footer: XorbFooter): void {
  const proof = file.verification?.[i];
  const { start, end } = file.terms[i] as Term;
  if (proof === undefined || hashesEqual(verificationHash(footer.hashes, start, end), 0, proof, 0)) return;
  throw invalid(file, `the chunks of term ${i} are not those that were registered`);
}

function invalid(file: StoreFile, what: string): Git2dbError {
  return new FormatError(
    'REMOTE_INVALID',
    `the description of file ${formatHash(file.fileHash)} is wrong: ${what}`,
    0,
  );
}

/** Half a hash: nobody can make two chunks that agree in 128 bits, and a file that did would fail its proof. */
function keyOf(hashes: Uint8Array, offset: number): string {
  return Buffer.prototype.latin1Slice.call(hashes, offset, offset + 16);
}
