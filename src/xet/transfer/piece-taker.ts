/**
 * Puts the pieces of files into the writer, one after the other: chunks as they come from the other store, each
 * decoded and hashed before it is believed; whole xorbs; and chunks that are here already.
 */
import { decompressChunk } from '../compress/scheme.ts';
import { FormatError, Git2dbError } from '../errors.ts';
import { blake3Keyed } from '../hash/blake3.ts';
import { DATA_KEY } from '../hash/keys.ts';
import { formatHash, hashesEqual } from '../hash/xet-hash.ts';
import type { LocalStore } from '../store/local-store.ts';
import { readAt } from '../store/read-at.ts';
import type { Store } from '../store/store.ts';
import type { StoreWriter } from '../store/writer.ts';
import { recordStart, type XorbSource } from '../store/xorb-source.ts';
import { CHUNK_HEADER_SIZE, decodeChunkHeader } from '../xorb/chunk-record.ts';
import { rawBytesBetween } from '../xorb/ends.ts';
import { throwIfAborted } from './abort.ts';
import type { Piece } from './fetch-plan.ts';
import type { ChunkAt, FetchedFile } from './fetched-file.ts';
import type { LearnedChunks } from './learned-chunks.ts';
import type { Ledger } from './ledger.ts';
import { type ChunkRecord, RecordCursor } from './record-cursor.ts';
import type { StepQueue } from './step-queue.ts';
import type { WholeXorbs } from './whole-xorbs.ts';

/** Bytes that wait in memory for the next write. */
const FLUSH_BYTES = 4 << 20;
/** Chunks that are planned ahead for whole xorbs: as many as some of these have. */
const WHOLE_CHUNKS_AHEAD = 12_288;

/** What the pieces are taken from, and put into. */
export interface PieceSources {
  readonly local: LocalStore;
  readonly remote: Store;
  readonly writer: StoreWriter;
  readonly ledger: Ledger;
  readonly signal: AbortSignal | undefined;
  /** Names of local xorbs; those that turn out to be damaged are added. */
  readonly distrusted: Set<string>;
  readonly learned: LearnedChunks;
  /** Undefined where none is planned. */
  readonly wholes: WholeXorbs | undefined;
  /** What is planned, for the other store to be told. */
  readonly steps: Pick<StepQueue<never>, 'ranges' | 'starve' | 'planAhead'>;
}

export class PieceTaker {
  readonly #sources: PieceSources;
  readonly #writer: StoreWriter;
  readonly #ledger: Ledger;
  #cursor: RecordCursor | undefined;
  #unflushed = 0;

  constructor(sources: PieceSources) {
    this.#sources = sources;
    this.#writer = sources.writer;
    this.#ledger = sources.ledger;
  }

  /** The next piece of a file. Throws what makes the file impossible, or the store unusable. */
  async take(file: FetchedFile, piece: Piece): Promise<void> {
    if (piece.kind === 'there') await this.#takeRecords(file, piece);
    else if (piece.kind === 'whole') await this.#takeWhole(file, piece);
    else if (piece.kind === 'here') await this.#takeLocal(file, piece);
    else this.#takeAgain(file, piece);
    file.tellPublished();
  }

  /** Resolves when all that was taken has been written. */
  async settle(): Promise<void> {
    this.#unflushed = 0;
    await this.#writer.settle();
  }

  /** Ends what the other store is sending; the next piece begins anew. */
  async close(): Promise<void> {
    const cursor = this.#cursor;
    this.#cursor = undefined;
    await cursor?.close();
  }

  async #takeRecords(
    file: FetchedFile,
    { xorbHash, start, end, footer }: Piece & { readonly kind: 'there' },
  ): Promise<void> {
    const { remote, steps, learned, signal } = this.#sources;
    this.#cursor ??= this.#open();
    const cursor = this.#cursor;
    for (let chunk = start; chunk < end; chunk++) {
      if (!cursor.holds(xorbHash, chunk)) {
        await steps.starve(cursor.await(xorbHash, chunk));
        throwIfAborted(signal);
      }
      const record = cursor.take(chunk);
      const hash = hashOf(record, () => `chunk ${chunk} of xorb ${formatHash(xorbHash)} in ${remote.place}`);
      if (footer === undefined) learned.learn(xorbHash, chunk, hash);
      else if (!hashesEqual(footer.hashes, 32 * chunk, hash, 0)) {
        throw new Git2dbError(
          'CONTENT_DAMAGED',
          `chunk ${chunk} of xorb ${formatHash(xorbHash)} is damaged in ${remote.place}, or was on its way: ` +
            `expected ${formatHash(footer.hashes, 32 * chunk)}, found ${formatHash(hash)}`,
          { data: { xorb: formatHash(xorbHash), chunk } },
        );
      }
      await this.#put(file, hash, 0, record);
      this.#ledger.advance(record.rawLength);
    }
  }

  #open(): RecordCursor {
    const { remote, steps, signal } = this.#sources;
    const records = remote.readRecords(steps.ranges(), { signal });
    return new RecordCursor(records, remote.place, (run) => this.#ledger.moved(run.bytes.length));
  }

  /** Stores a chunk, unless a file before has brought it: where chunk lists are not known beforehand, that may be. */
  async #put(file: FetchedFile, hashes: Uint8Array, offset: number, record: ChunkRecord): Promise<void> {
    const writer = this.#writer;
    const known = writer.findChunk(hashes, offset);
    if (known !== undefined) {
      file.add(hashes, offset, record.rawLength, atLocal(known));
      return;
    }
    const { payload, scheme, rawLength } = record;
    if (!writer.fits(rawLength, payload.length)) await writer.settle();
    file.add(hashes, offset, rawLength, atLocal(writer.put(hashes, offset, payload, scheme, rawLength)));
    const isDue = file.wrote(payload.length + CHUNK_HEADER_SIZE);
    this.#unflushed += payload.length;
    if (this.#unflushed < FLUSH_BYTES && !isDue) return;
    this.#unflushed = 0;
    // The disk takes it while more comes.
    await writer.flushAhead();
    if (!isDue) return;
    await writer.settle();
    file.commitSegment();
  }

  async #takeWhole(
    file: FetchedFile,
    { xorbHash, footer }: Piece & { readonly kind: 'whole' },
  ): Promise<void> {
    const { wholes, steps } = this.#sources;
    if (wholes === undefined) throw new Error('a whole xorb was planned, and nobody brings it');
    void steps.planAhead(WHOLE_CHUNKS_AHEAD);
    await wholes.take(footer);
    for (let index = 0; index < footer.count; index++) {
      const rawLength = rawBytesBetween(footer, index, index + 1);
      file.add(footer.hashes, 32 * index, rawLength, { xorbHash, local: 0, index });
      this.#ledger.advance(rawLength);
    }
  }

  async #takeLocal(
    file: FetchedFile,
    { xorbHash, start, end, copy }: Piece & { readonly kind: 'here' },
  ): Promise<void> {
    const source = this.#sources.local.openXorb(xorbHash);
    for (let i = start; i < end; i++) {
      const rawLength = rawBytesBetween(source, i, i + 1);
      if (copy) await this.#put(file, source.hashes, 32 * i, this.#read(xorbHash, source, i));
      else file.add(source.hashes, 32 * i, rawLength, { xorbHash, local: 0, index: i });
      this.#ledger.advance(rawLength);
    }
  }

  /** A record of this store, verified. */
  #read(xorbHash: Uint8Array, source: XorbSource, chunk: number): ChunkRecord {
    const start = recordStart(source, chunk);
    const length = (source.recordEnds[chunk] as number) - start;
    try {
      const bytes = readAt(source.fd, source.path, start, length, 'INVALID_XORB');
      const record = { ...decodeChunkHeader(bytes, 0, start), payload: bytes.subarray(CHUNK_HEADER_SIZE) };
      const hash = hashOf(record, () => `chunk ${chunk} of ${source.path}`);
      if (hashesEqual(hash, 0, source.hashes, 32 * chunk)) return record;
      throw new FormatError('CONTENT_DAMAGED', `chunk ${chunk} of ${source.path} is damaged`, start);
    } catch (error) {
      // The next try gets it from the other store.
      this.#sources.distrusted.add(formatHash(xorbHash));
      throw error;
    }
  }

  #takeAgain(file: FetchedFile, { xorbHash, start, end, footer }: Piece & { readonly kind: 'again' }): void {
    const { learned, wholes } = this.#sources;
    for (let i = start; i < end; i++) {
      const hash = footer?.hashes.subarray(32 * i, 32 * i + 32) ?? learned.find(xorbHash, i);
      const whole = hash && wholes?.find(hash, 0);
      if (hash !== undefined && whole !== undefined) {
        const { rawLength, index } = whole;
        file.add(hash, 0, rawLength, { xorbHash: whole.xorbHash, local: 0, index });
        this.#ledger.advance(rawLength);
        continue;
      }
      const known = hash && this.#writer.findChunk(hash, 0);
      if (hash === undefined || known === undefined) {
        throw new Git2dbError(
          'CONTENT_MISSING',
          `chunk ${i} of xorb ${formatHash(xorbHash)} was to come with another file, which failed`,
        );
      }
      const { rawEnds } = known.xorb;
      const rawLength = (rawEnds[known.index] as number) - (rawEnds[known.index - 1] ?? 0);
      file.add(hash, 0, rawLength, atLocal(known));
      this.#ledger.advance(rawLength);
    }
  }
}

/** Chunk hash of a record's content. Throws CONTENT_DAMAGED when it cannot be decoded; `name` is for that. */
function hashOf(record: ChunkRecord, name: () => string): Uint8Array {
  try {
    return blake3Keyed(DATA_KEY, decompressChunk(record.scheme, record.payload, record.rawLength));
  } catch (error) {
    if (!(error instanceof Git2dbError)) throw error;
    throw new Git2dbError('CONTENT_DAMAGED', `${name()} cannot be decoded: ${error.message}`, {
      cause: error,
    });
  }
}

function atLocal(place: { readonly xorb: { readonly number: number }; readonly index: number }): ChunkAt {
  return { xorbHash: undefined, local: place.xorb.number, index: place.index };
}
