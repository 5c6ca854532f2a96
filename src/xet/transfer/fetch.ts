/**
 * Fetching files from another store into that of this machine.
 *
 *     FetchPlanner    which chunks are here, which are to be asked for
 *     StepQueue       what is planned: the store is told ranges ahead, of many files at once
 *     RecordCursor    records as they come; each is decoded and hashed before it is believed
 *     WholeXorbs      xorbs of which all is wanted come as they are
 *     FetchedFile     puts them into the writer as they are stored there; the whole list proves the file
 *
 * A file that fails is tried once more by itself, as the other store may have moved its chunks since it was
 * asked. What was fetched of it stays, so that nothing comes twice.
 */
import { readSync } from 'node:fs';
import { decompressChunk } from '../compress/scheme.ts';
import { FormatError, Git2dbError } from '../errors.ts';
import { blake3Keyed } from '../hash/blake3.ts';
import { DATA_KEY } from '../hash/keys.ts';
import { formatHash, hashesEqual } from '../hash/xet-hash.ts';
import { planFile } from '../reconstruct/plan.ts';
import type { LocalStore, StoredFile } from '../store/local-store.ts';
import { recoverDeadWriters } from '../store/recover.ts';
import type { Store, StoreFile } from '../store/store.ts';
import { StoreWriter, type WriterOptions } from '../store/writer.ts';
import { recordStart, type XorbSource } from '../store/xorb-source.ts';
import { CHUNK_HEADER_SIZE, decodeChunkHeader } from '../xorb/format.ts';
import { throwIfAborted } from './abort.ts';
import { FetchPlanner, type Piece } from './fetch-plan.ts';
import { FetchedFile } from './fetched-file.ts';
import { LearnedChunks } from './learned-chunks.ts';
import { isOfAFile, Ledger, tellable } from './ledger.ts';
import { linkableStore, linkFiles } from './link.ts';
import { LocalChunks } from './local-chunks.ts';
import { FILES_AT_ONCE, findEach, isEmptyFile, slicesOf } from './missing.ts';
import { type ChunkRecord, RecordCursor } from './record-cursor.ts';
import { type Step, StepQueue } from './step-queue.ts';
import type { TransferOptions, TransferResult, WantedFile } from './transfer.ts';
import { givesWhole, WholeXorbs } from './whole-xorbs.ts';

export interface FetchFilesOptions extends TransferOptions {
  /** How the local store is written. */
  readonly writer: WriterOptions;
}

/** Bytes that wait in memory for the next write. */
const FLUSH_BYTES = 4 << 20;
/** Chunks that are planned ahead for whole xorbs: as many as some of these have. */
const WHOLE_CHUNKS_AHEAD = 12_288;

/** A file on its way. */
interface Job {
  readonly wanted: WantedFile;
  readonly stored: StoreFile;
  isDropped: boolean;
  /** Undefined before its first piece. */
  file: FetchedFile | undefined;
}

/**
 * Each file ends as `present` (nothing was asked for it), `moved` or `failed`. Where the other store cannot be
 * used any more, or this one not written, all that are left fail by that. `local` must have no writer in this
 * process. Throws an AbortError, and STORE_UNWRITABLE when what was fetched could not be published: then it is
 * kept and completed by the next writer.
 */
export async function fetchFiles(
  local: LocalStore,
  remote: Store,
  files: readonly WantedFile[],
  options: FetchFilesOptions,
): Promise<TransferResult> {
  throwIfAborted(options.signal);
  const ledger = new Ledger(files, options);
  const writer = new StoreWriter(local, { ...options.writer, irregular: true });
  const fetch = new FetchSession(local, remote, writer, ledger, options);
  const wanted = fetch.settlePresent(ledger.files, 'sealed');
  if (wanted.length === 0) return ledger.result();
  try {
    await fetch.run(wanted);
  } finally {
    await writer.seal();
  }
  return ledger.result();
}

class FetchSession {
  readonly #local: LocalStore;
  readonly #remote: Store;
  readonly #writer: StoreWriter;
  readonly #ledger: Ledger;
  readonly #options: FetchFilesOptions;
  /** Local xorbs that turned out to be damaged. */
  readonly #distrusted = new Set<string>();
  #unflushed = 0;

  constructor(
    local: LocalStore,
    remote: Store,
    writer: StoreWriter,
    ledger: Ledger,
    options: FetchFilesOptions,
  ) {
    this.#local = local;
    this.#remote = remote;
    this.#writer = writer;
    this.#ledger = ledger;
    this.#options = options;
  }

  /**
   * Those that are not here; the others are settled, and renewed so that gc leaves them alone. What is not sealed
   * counts only when the work of dead writers has been completed: then its writer lives.
   */
  settlePresent(files: readonly WantedFile[], state: 'sealed' | 'any'): WantedFile[] {
    return files.filter((file) => {
      const size = isEmptyFile(file) ? 0 : this.#sizeIfComplete(file, state);
      if (size === undefined) return true;
      this.#ledger.settle(file, 'present', size);
      return false;
    });
  }

  #sizeIfComplete({ hash, size }: WantedFile, state: 'sealed' | 'any'): number | undefined {
    for (const file of this.#local.findFiles(hash)) {
      if (size !== undefined && file.size !== size) continue;
      if (file.shard === undefined && state === 'sealed') continue;
      if (isComplete(file) && this.#renew(file)) return file.size;
    }
    return undefined;
  }

  /** What another writer has not sealed yet is its to keep. */
  #renew(file: StoredFile): boolean {
    if (file.shard === undefined) return true;
    return (
      file.terms.every((term) => this.#writer.touchXorb(term.name)) && this.#writer.touchShard(file.shard)
    );
  }

  async run(wanted: readonly WantedFile[]): Promise<void> {
    try {
      const { directory } = this.#writer;
      await recoverDeadWriters(this.#local, directory, this.#options.writer);
      // What a killed fetch had acknowledged is published now.
      this.#local.catalog.refresh();
      const rest = await this.#link(this.settlePresent(wanted, 'any'));
      const failed = await this.#pass(rest);
      for (const file of failed) await this.#pass([file], true);
    } catch (error) {
      // Whatever a store made of being stopped.
      throwIfAborted(this.#options.signal);
      this.#ledger.settleRest(tellable(error, this.#remote.place));
    }
  }

  /** Files that need not be copied, from a directory on the same file system; returns the others. */
  async #link(files: readonly WantedFile[]): Promise<readonly WantedFile[]> {
    const from = linkableStore(this.#local, this.#remote);
    if (from === undefined || files.length === 0) return files;
    return linkFiles(from, this.#local, this.#writer, files, {
      signal: this.#options.signal,
      onLinked: (file, size) => {
        this.#ledger.expect(size);
        this.#ledger.advance(size);
        this.#ledger.settle(file, 'moved', size);
      },
    });
  }

  /** Fetches files; returns those to be tried again, of which there are none the last time. */
  async #pass(files: readonly WantedFile[], isLast = false): Promise<WantedFile[]> {
    const again: WantedFile[] = [];
    // The last try is to succeed whatever was learned before.
    const learned = new LearnedChunks(isLast ? undefined : this.#local.layout.learned);
    const wholes = isLast ? undefined : this.#openWholes();
    const steps = new StepQueue<Job>(this.#steps(files, learned, wholes, isLast));
    let cursor: RecordCursor | undefined;
    try {
      for (let step = await steps.peek(); step !== undefined; step = await steps.peek()) {
        const { job, piece } = step;
        try {
          if (job.isDropped) continue;
          if (step.failure !== undefined) throw step.failure;
          job.file ??= new FetchedFile(this.#writer, job.stored.size);
          if (piece === undefined) {
            await this.#finish(job, job.file);
          } else if (piece.kind === 'there') {
            cursor ??= this.#open(steps);
            await this.#fetch(job.file, piece, cursor, steps, learned);
          } else if (piece.kind === 'whole') {
            void steps.planAhead(WHOLE_CHUNKS_AHEAD);
            await this.#takeWhole(job.file, piece, wholes);
          } else if (piece.kind === 'here') {
            await this.#take(job.file, piece);
          } else {
            this.#takeAgain(job.file, piece, learned, wholes);
          }
        } catch (error) {
          await this.#giveUp(job);
          if (!isOfAFile(error)) throw error;
          if (isLast) this.#ledger.settle(job.wanted, 'failed', job.stored.size, error);
          else again.push(job.wanted);
          if (error.code === 'CONTENT_DAMAGED') learned.forget(job.stored.terms.map((term) => term.xorbHash));
          steps.stop();
          await cursor?.close();
          cursor = undefined;
        } finally {
          steps.drop();
        }
        throwIfAborted(this.#options.signal);
      }
    } finally {
      learned.save();
      steps.stop();
      await cursor?.close().catch(() => {});
      await steps.close();
      await wholes?.close();
    }
    return again;
  }

  #openWholes(): WholeXorbs | undefined {
    if (!givesWhole(this.#remote)) return undefined;
    return new WholeXorbs(this.#local, this.#remote, this.#writer, {
      fsync: this.#options.writer.fsync,
      signal: this.#options.signal,
      onBytes: (bytes) => this.#ledger.moved(bytes),
    });
  }

  #open(steps: StepQueue<Job>): RecordCursor {
    const records = this.#remote.readRecords(steps.ranges(), { signal: this.#options.signal });
    return new RecordCursor(records, this.#remote.place, (run) => this.#ledger.moved(run.bytes.length));
  }

  /** All files, one after the other: their pieces, and an end. */
  async *#steps(
    files: readonly WantedFile[],
    learned: LearnedChunks,
    wholes: WholeXorbs | undefined,
    isLast: boolean,
  ): AsyncGenerator<Step<Job>> {
    const { signal } = this.#options;
    const chunks = new LocalChunks(this.#local, this.#writer, this.#distrusted);
    const takesWhole = wholes !== undefined;
    const planner = new FetchPlanner(this.#remote, chunks, this.#writer, learned, { signal, takesWhole });
    for (const slice of slicesOf(files, FILES_AT_ONCE)) {
      const found = await findEach(this.#remote, slice, { signal });
      for (const [i, wanted] of slice.entries()) {
        const stored = found[i];
        const refusal = stored instanceof Git2dbError ? stored : this.#refuse(wanted, stored);
        if (stored === undefined || stored instanceof Git2dbError || refusal !== undefined) {
          this.#ledger.settle(wanted, 'failed', wanted.size, refusal);
          continue;
        }
        if (!isLast) this.#ledger.expect(stored.size);
        const job: Job = { wanted, stored, isDropped: false, file: undefined };
        try {
          for await (const piece of planner.pieces(stored)) {
            if (piece.kind === 'whole') wholes?.expect(piece.footer);
            yield { job, piece };
            if (job.isDropped) break;
          }
          yield { job, piece: undefined };
        } catch (failure) {
          if (!isOfAFile(failure)) throw failure;
          yield { job, piece: undefined, failure };
        }
      }
    }
  }

  #refuse(wanted: WantedFile, stored: StoreFile | undefined): Git2dbError | undefined {
    const name = formatHash(wanted.hash);
    if (stored === undefined) {
      return new Git2dbError('CONTENT_MISSING', `file ${name} is not in ${this.#remote.place}`, {
        data: { file: name },
      });
    }
    if (!hashesEqual(stored.fileHash, 0, wanted.hash, 0)) {
      return new Git2dbError(
        'REMOTE_INVALID',
        `${this.#remote.place} was asked for file ${name} and answered ${formatHash(stored.fileHash)}`,
      );
    }
    if (wanted.size === undefined || wanted.size === stored.size) return undefined;
    return new Git2dbError(
      'CONTENT_DAMAGED',
      `the pointer says ${wanted.size} bytes, file ${name} in ${this.#remote.place} has ${stored.size}: ` +
        'the pointer was changed by hand or is damaged',
      { data: { file: name, expected: wanted.size, found: stored.size } },
    );
  }

  async #fetch(
    file: FetchedFile,
    piece: Piece & { readonly kind: 'there' },
    cursor: RecordCursor,
    steps: StepQueue<Job>,
    learned: LearnedChunks,
  ): Promise<void> {
    const { xorbHash, start, end, footer } = piece;
    for (let chunk = start; chunk < end; chunk++) {
      if (!cursor.holds(xorbHash, chunk)) {
        await steps.starve(cursor.await(xorbHash, chunk));
        throwIfAborted(this.#options.signal);
      }
      const record = cursor.take(chunk);
      const hash = hashOf(
        record,
        () => `chunk ${chunk} of xorb ${formatHash(xorbHash)} in ${this.#remote.place}`,
      );
      if (footer === undefined) learned.learn(xorbHash, chunk, hash);
      else if (!hashesEqual(footer.hashes, 32 * chunk, hash, 0)) {
        throw new Git2dbError(
          'CONTENT_DAMAGED',
          `chunk ${chunk} of xorb ${formatHash(xorbHash)} is damaged in ${this.#remote.place}, or was on its way: ` +
            `expected ${formatHash(footer.hashes, 32 * chunk)}, found ${formatHash(hash)}`,
          { data: { xorb: formatHash(xorbHash), chunk } },
        );
      }
      await this.#put(file, hash, 0, record);
      this.#ledger.advance(record.rawLength);
    }
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
    wholes: WholeXorbs | undefined,
  ): Promise<void> {
    if (wholes === undefined) throw new Error('a whole xorb was planned, and nobody brings it');
    await wholes.take(footer);
    const { count, hashes, rawEnds } = footer;
    for (let index = 0; index < count; index++) {
      const rawLength = (rawEnds[index] as number) - (index === 0 ? 0 : (rawEnds[index - 1] as number));
      file.add(hashes, 32 * index, rawLength, { xorbHash, local: 0, index });
      this.#ledger.advance(rawLength);
    }
  }

  async #take(
    file: FetchedFile,
    { xorbHash, start, end, copy }: Piece & { readonly kind: 'here' },
  ): Promise<void> {
    const source = this.#local.openXorb(xorbHash);
    for (let i = start; i < end; i++) {
      const rawLength = (source.rawEnds[i] as number) - (i === 0 ? 0 : (source.rawEnds[i - 1] as number));
      if (copy) await this.#put(file, source.hashes, 32 * i, this.#read(xorbHash, source, i));
      else file.add(source.hashes, 32 * i, rawLength, { xorbHash, local: 0, index: i });
      this.#ledger.advance(rawLength);
    }
  }

  /** A record of this store, verified. */
  #read(xorbHash: Uint8Array, source: XorbSource, chunk: number): ChunkRecord {
    const start = recordStart(source, chunk);
    const bytes = Buffer.allocUnsafe((source.recordEnds[chunk] as number) - start);
    try {
      for (let done = 0; done < bytes.length; ) {
        const n = readSync(source.fd, bytes, done, bytes.length - done, start + done);
        if (n === 0) throw new FormatError('INVALID_XORB', `${source.path} ends early`, start + done);
        done += n;
      }
      const record = { ...decodeChunkHeader(bytes, 0, start), payload: bytes.subarray(CHUNK_HEADER_SIZE) };
      const hash = hashOf(record, () => `chunk ${chunk} of ${source.path}`);
      if (hashesEqual(hash, 0, source.hashes, 32 * chunk)) return record;
      throw new FormatError('CONTENT_DAMAGED', `chunk ${chunk} of ${source.path} is damaged`, start);
    } catch (error) {
      // The next try gets it from the other store.
      this.#distrusted.add(formatHash(xorbHash));
      throw error;
    }
  }

  #takeAgain(
    file: FetchedFile,
    piece: Piece & { readonly kind: 'again' },
    learned: LearnedChunks,
    wholes: WholeXorbs | undefined,
  ): void {
    const { xorbHash, start, end, footer } = piece;
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

  async #finish({ wanted, stored }: Job, file: FetchedFile): Promise<void> {
    await this.#writer.settle();
    this.#unflushed = 0;
    if (file.size !== stored.size) {
      throw new Git2dbError(
        'REMOTE_INVALID',
        `${this.#remote.place} says that file ${formatHash(wanted.hash)} has ${stored.size} bytes, and sent ${file.size}`,
      );
    }
    file.commit(wanted.hash, this.#sha256(wanted, stored), this.#remote.place);
    this.#ledger.settle(wanted, 'moved', file.size);
  }

  /** What the other store says is a claim: it is not taken over where another file is known by that SHA-256. */
  #sha256({ sha256, hash }: WantedFile, stored: StoreFile): string | undefined {
    if (sha256 !== undefined || stored.sha256 === undefined) return sha256;
    const known = this.#local.findSha256(stored.sha256);
    const isFree = known.length === 0 || known.some((other) => hashesEqual(other, 0, hash, 0));
    return isFree ? stored.sha256 : undefined;
  }

  async #giveUp(job: Job): Promise<void> {
    job.isDropped = true;
    this.#unflushed = 0;
    // A write that failed is forgotten with the rest; the one that cannot be made, made again, says so.
    await this.#writer.settle().catch(() => {});
    this.#writer.rollback();
    this.#ledger.advance(-(job.file?.size ?? 0));
  }
}

function isComplete(file: StoredFile): boolean {
  try {
    planFile(file);
    return true;
  } catch (error) {
    if (error instanceof Git2dbError) return false;
    throw error;
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

function atLocal(place: { readonly xorb: { readonly number: number }; readonly index: number }): {
  xorbHash: undefined;
  local: number;
  index: number;
} {
  return { xorbHash: undefined, local: place.xorb.number, index: place.index };
}
