/**
 * Fetching files from another store into that of this machine.
 *
 *     sizeIfPresent   what is here already
 *     FetchPlanner    which chunks are here, which are to be asked for
 *     StepQueue       what is planned: the store is told ranges ahead, of many files at once
 *     PieceTaker      records as they come, decoded and hashed before they are believed, go to the writer
 *     WholeXorbs      xorbs of which all is wanted come as they are
 *     FetchedFile     the chunk list as it grows; all of it proves the file
 *
 * A file that fails is tried once more by itself, as the other store may have moved its chunks since it was
 * asked. What was fetched of it stays, so that nothing comes twice.
 */
import { Git2dbError } from '../errors.ts';
import { formatHash, hashesEqual } from '../hash/xet-hash.ts';
import type { LocalStore } from '../store/local-store.ts';
import { recoverDeadWriters } from '../store/recover.ts';
import type { Store, StoreFile } from '../store/store.ts';
import { StoreWriter, type WriterOptions } from '../store/writer.ts';
import { throwIfAborted } from './abort.ts';
import { FetchPlanner } from './fetch-plan.ts';
import { FetchedFile } from './fetched-file.ts';
import { LearnedChunks } from './learned-chunks.ts';
import { isOfAFile, Ledger, tellable } from './ledger.ts';
import { linkableStore, linkFiles } from './link.ts';
import { LocalChunks } from './local-chunks.ts';
import { FILES_AT_ONCE, findEach, isEmptyFile, slicesOf, wrongSize } from './missing.ts';
import { PieceTaker } from './piece-taker.ts';
import { sizeIfPresent } from './present-file.ts';
import { type Step, StepQueue } from './step-queue.ts';
import type { TransferOptions, TransferResult, WantedFile } from './transfer.ts';
import { givesWhole, WholeXorbs } from './whole-xorbs.ts';

export interface FetchFilesOptions extends TransferOptions {
  /** How the local store is written. */
  readonly writer: WriterOptions;
}

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
      const size = isEmptyFile(file) ? 0 : sizeIfPresent(this.#local, this.#writer, file, state);
      if (size === undefined) return true;
      this.#ledger.settle(file, 'present', size);
      return false;
    });
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
    const taker = new PieceTaker({
      local: this.#local,
      remote: this.#remote,
      writer: this.#writer,
      ledger: this.#ledger,
      signal: this.#options.signal,
      distrusted: this.#distrusted,
      learned,
      wholes,
      steps,
    });
    try {
      for (let step = await steps.peek(); step !== undefined; step = await steps.peek()) {
        const { job, piece } = step;
        try {
          if (job.isDropped) continue;
          if (step.failure !== undefined) throw step.failure;
          job.file ??= this.#begin(job);
          if (piece === undefined) await this.#finish(job, job.file, taker);
          else await taker.take(job.file, piece);
        } catch (error) {
          await this.#giveUp(job, taker);
          if (!isOfAFile(error)) throw error;
          if (isLast) this.#ledger.settle(job.wanted, 'failed', job.stored.size, error);
          else again.push(job.wanted);
          if (error.code === 'CONTENT_DAMAGED') learned.forget(job.stored.terms.map((term) => term.xorbHash));
          steps.stop();
          await taker.close();
        } finally {
          steps.drop();
        }
        throwIfAborted(this.#options.signal);
      }
    } finally {
      learned.save();
      steps.stop();
      await taker.close().catch(() => {});
      await steps.close();
      await wholes?.close();
    }
    return again;
  }

  #begin({ wanted, stored }: Job): FetchedFile {
    return new FetchedFile(this.#writer, stored.size, (part) => this.#ledger.part(wanted, part));
  }

  #openWholes(): WholeXorbs | undefined {
    if (!givesWhole(this.#remote)) return undefined;
    return new WholeXorbs(this.#local, this.#remote, this.#writer, {
      fsync: this.#options.writer.fsync,
      signal: this.#options.signal,
      onBytes: (bytes) => this.#ledger.moved(bytes),
    });
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
    return wrongSize(wanted, stored, this.#remote.place);
  }

  async #finish({ wanted, stored }: Job, file: FetchedFile, taker: PieceTaker): Promise<void> {
    await taker.settle();
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

  async #giveUp(job: Job, taker: PieceTaker): Promise<void> {
    job.isDropped = true;
    // A write that failed is forgotten with the rest; the one that cannot be made, made again, says so.
    await taker.settle().catch(() => {});
    this.#writer.rollback();
    this.#ledger.advance(-(job.file?.size ?? 0));
  }
}
