/**
 * Sending files of this machine's store to another one.
 *
 *     findFiles      which files are not there
 *     findChunks     which of their chunks are
 *     planTerms      the rest is to be packed, in the order of the files
 *     XorbSender     sends xorbs, several at once, streamed from this store, every chunk verified on the way
 *     Registration   registers files in the same order, as soon as their xorbs are there
 *     SecondTries    what failed and may still succeed is planned once more
 *
 * What is packed depends only on the files that are left and on what the other store has, and a xorb that has
 * arrived is not sent again: a push that is killed goes on where it stopped when it is repeated.
 */
import { Downloader } from '../download.ts';
import { Git2dbError } from '../errors.ts';
import { LocalStore } from '../store/local-store.ts';
import type { ChunkRun, Store, StoreFile } from '../store/store.ts';
import { StoreWriter } from '../store/writer.ts';
import { throwIfAborted } from './abort.ts';
import { isOfAFile, Ledger, tellable } from './ledger.ts';
import { linkableStore, linkFiles } from './link.ts';
import { digestOf } from './local-content.ts';
import { FILES_AT_ONCE, findEach, isEmptyFile, slicesOf, wrongSize } from './missing.ts';
import {
  type ChunkList,
  chunkListOf,
  type PlannedFile,
  planTerms,
  runsWithin,
  termsOfStored,
} from './push-plan.ts';
import { Registration } from './registration.ts';
import { SecondTries } from './second-tries.ts';
import type { TransferOptions, TransferResult, WantedFile } from './transfer.ts';
import { XorbSender } from './xorb-sender.ts';

export interface PushFilesOptions extends TransferOptions {
  /** Register the SHA-256 of each file; computed where neither the caller nor the store knows it. */
  readonly withSha256?: boolean | undefined;
  /** For a directory on the same file system, which gets hard links; default `batch`. */
  readonly fsync?: 'batch' | 'none' | undefined;
}

/** Chunks that the other store is asked for at once; a longer list of one file is asked for as a whole. */
const CHUNKS_AT_ONCE = 65536;

/**
 * Each file ends as `present` (the other store had it), `moved` or `failed`: a file that this store lacks, or
 * has damaged, fails by itself. Where the other store cannot be used any more, all that are left fail by that.
 * Throws an AbortError.
 */
export async function pushFiles(
  local: LocalStore,
  remote: Store,
  files: readonly WantedFile[],
  options: PushFilesOptions = {},
): Promise<TransferResult> {
  throwIfAborted(options.signal);
  const ledger = new Ledger(files, options);
  if (remote.isReadOnly) {
    ledger.settleRest(
      new Git2dbError('STORE_UNWRITABLE', `${remote.place} can only be read: nothing can be sent there`),
    );
    return ledger.result();
  }
  const push = new PushSession(local, remote, ledger, options);
  try {
    await push.run();
  } catch (error) {
    throwIfAborted(options.signal);
    ledger.settleRest(tellable(error, remote.place));
  }
  return ledger.result();
}

/** A file to be sent, and what the other store has of it. */
interface Candidate {
  readonly wanted: WantedFile;
  /** It is there, but without the SHA-256 under which it is to be found. */
  readonly stored: StoreFile | undefined;
}

class PushSession {
  readonly #local: LocalStore;
  readonly #remote: Store;
  readonly #ledger: Ledger;
  readonly #options: PushFilesOptions;
  readonly #downloader: Downloader;
  /** Stops what is under way when one thing has failed for good. */
  readonly #stop = new AbortController();
  readonly #signal: AbortSignal;
  readonly #tries: SecondTries;
  readonly #registration: Registration;
  readonly #sender: XorbSender;

  constructor(local: LocalStore, remote: Store, ledger: Ledger, options: PushFilesOptions) {
    this.#local = local;
    this.#remote = remote;
    this.#ledger = ledger;
    this.#options = options;
    this.#downloader = new Downloader(local, { workers: 0 });
    this.#signal =
      options.signal === undefined ? this.#stop.signal : AbortSignal.any([options.signal, this.#stop.signal]);
    this.#tries = new SecondTries(ledger);
    const stop = { signal: this.#signal, onFailure: (error: unknown) => this.#stop.abort(error) };
    this.#registration = new Registration(remote, ledger, this.#tries, stop);
    this.#sender = new XorbSender(remote, this.#registration, ledger, stop);
  }

  async run(): Promise<void> {
    try {
      let files = this.#ledger.files.filter((file) => {
        if (!isEmptyFile(file)) return true;
        this.#ledger.settle(file, 'present', 0);
        return false;
      });
      files = await this.#link(files);
      while (files.length > 0) {
        await this.#pass(files);
        files = this.#tries.take();
      }
    } catch (error) {
      this.#stop.abort(error);
      await Promise.allSettled([this.#sender.settled(), this.#registration.registered]);
      // The first failure, of which others may be consequences.
      throw this.#stop.signal.reason;
    }
  }

  /** Files that need not be copied, to a directory on the same file system; returns the others. */
  async #link(files: readonly WantedFile[]): Promise<WantedFile[]> {
    const directory = linkableStore(this.#local, this.#remote);
    if (directory === undefined) return [...files];
    const missing: WantedFile[] = [];
    for (const slice of slicesOf(files, FILES_AT_ONCE)) {
      missing.push(...(await this.#missing(slice)).map(({ wanted }) => wanted));
    }
    if (missing.length === 0) return [];
    const linked: [WantedFile, number][] = [];
    // Its own look at the directory: that of the store has a writer already, or will.
    const to = new LocalStore(directory.root);
    const writer = new StoreWriter(to, { fsync: this.#options.fsync ?? 'batch' });
    let others: WantedFile[];
    try {
      try {
        others = await linkFiles(this.#local, to, writer, missing, {
          signal: this.#signal,
          withSha256: this.#options.withSha256,
          onLinked: (file, size) => {
            this.#ledger.expect(size);
            this.#ledger.advance(size);
            linked.push([file, size]);
          },
        });
      } finally {
        await writer.seal();
      }
    } finally {
      to.close();
    }
    for (const [file, size] of linked) this.#ledger.settle(file, 'moved', size);
    return others;
  }

  async #pass(files: readonly WantedFile[]): Promise<void> {
    for (const slice of slicesOf(files, FILES_AT_ONCE)) {
      const candidates = await this.#missing(slice);
      let group: { readonly candidate: Candidate; readonly list: ChunkList }[] = [];
      let chunks = 0;
      for (const candidate of candidates) {
        throwIfAborted(this.#options.signal);
        const list = this.#chunkList(candidate.wanted);
        if (list === undefined) continue;
        const count = list.lengths.length;
        if (chunks + count > CHUNKS_AT_ONCE && group.length > 0) {
          await this.#planGroup(group, chunks);
          group = [];
          chunks = 0;
        }
        group.push({ candidate, list });
        chunks += count;
      }
      if (group.length > 0) await this.#planGroup(group, chunks);
    }
    await this.#closeBatch();
    await this.#registration.registered;
  }

  /** Those that must be sent or registered; the others are settled. */
  async #missing(files: readonly WantedFile[]): Promise<Candidate[]> {
    const found = await findEach(this.#remote, files, { signal: this.#signal });
    const candidates: Candidate[] = [];
    for (const [i, wanted] of files.entries()) {
      const stored = found[i];
      const needsSha256 = wanted.sha256 !== undefined || this.#options.withSha256 === true;
      if (stored instanceof Git2dbError) {
        // A description that cannot be true: registered once more, by a true one.
        candidates.push({ wanted, stored: undefined });
      } else if (stored !== undefined && wanted.size !== undefined && stored.size !== wanted.size) {
        this.#ledger.settle(wanted, 'failed', wanted.size, wrongSize(wanted, stored, this.#remote.place));
      } else if (stored === undefined || (needsSha256 && stored.sha256 === undefined)) {
        candidates.push({ wanted, stored });
      } else {
        this.#ledger.settle(wanted, 'present', stored.size);
      }
    }
    return candidates;
  }

  #chunkList(wanted: WantedFile): ChunkList | undefined {
    try {
      return chunkListOf(this.#downloader.plan(wanted.hash, wanted.size));
    } catch (error) {
      if (!isOfAFile(error)) throw error;
      this.#ledger.settle(wanted, 'failed', wanted.size, error);
      return undefined;
    }
  }

  async #planGroup(
    group: readonly { readonly candidate: Candidate; readonly list: ChunkList }[],
    chunks: number,
  ): Promise<void> {
    const isDoubted = ({ wanted }: Candidate) => this.#tries.isDoubted(wanted);
    const asked = group.every(({ candidate }) => isDoubted(candidate));
    const runs = asked
      ? []
      : await this.#findChunks(
          group.map(({ list }) => list.hashes),
          chunks,
        );
    let at = 0;
    for (const { candidate, list } of group) {
      const count = list.lengths.length;
      const doubted = isDoubted(candidate);
      await this.#planFile(candidate, list, doubted ? [] : runsWithin(runs, at, at + count), doubted);
      at += count;
    }
  }

  async #findChunks(lists: readonly Uint8Array[], chunks: number): Promise<ChunkRun[]> {
    const hashes = lists.length === 1 ? (lists[0] as Uint8Array) : Buffer.concat(lists, 32 * chunks);
    let runs: ChunkRun[];
    try {
      runs = await this.#remote.findChunks(hashes, { signal: this.#signal });
    } catch (error) {
      // Without an answer more is sent than need be.
      if (!isOfAFile(error)) throw error;
      return [];
    }
    return runs.filter((run) => run.count > 0 && !this.#tries.isLost(run.xorbHash));
  }

  async #planFile(
    { wanted, stored }: Candidate,
    list: ChunkList,
    runs: readonly ChunkRun[],
    doubted: boolean,
  ): Promise<void> {
    let size = 0;
    for (const length of list.lengths) size += length;
    if (!this.#tries.has(wanted)) this.#ledger.expect(size);
    let sha256: string | undefined;
    try {
      sha256 = await this.#sha256(wanted);
    } catch (error) {
      if (!isOfAFile(error)) throw error;
      this.#ledger.settle(wanted, 'failed', size, error);
      return;
    }
    if (doubted) await this.#closeBatch();
    const there = stored === undefined || doubted ? undefined : termsOfStored(list, stored);
    let planned: Pick<PlannedFile, 'terms' | 'verification'>;
    try {
      planned = there ?? (await planTerms(list, runs, this.#sender));
    } catch (error) {
      // A xorb of this store went while it was planned; what was packed of it may still be of use to others.
      if (!isOfAFile(error) || this.#signal.aborted) throw error;
      this.#tries.add(wanted, size, error);
      return;
    }
    this.#registration.addFile({ wanted, size, sha256, ...planned });
    if (doubted || this.#registration.isFull) await this.#closeBatch();
  }

  /** Sends what is open, and has the batch registered when all of it has arrived. */
  async #closeBatch(): Promise<void> {
    await this.#sender.flush();
    await this.#registration.closeBatch();
  }

  async #sha256(wanted: WantedFile): Promise<string | undefined> {
    if (wanted.sha256 !== undefined) return wanted.sha256;
    const known = this.#local.findFile(wanted.hash)?.record?.sha256;
    if (known !== undefined || this.#options.withSha256 !== true) return known;
    const plan = this.#downloader.plan(wanted.hash, wanted.size);
    return digestOf(this.#downloader, plan, this.#options.signal);
  }
}
