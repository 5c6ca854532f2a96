/**
 * Sending files of this machine's store to another one.
 *
 *     findFiles    which files are not there
 *     findChunks   which of their chunks are
 *     planTerms    the rest is packed into xorbs, in the order of the files
 *     putXorb      several at once, streamed from this store, every chunk verified on the way
 *     putShard     registers files in the same order, as soon as their xorbs are there
 *
 * What is packed depends only on the files that are left and on what the other store has, and a xorb that has
 * arrived is not sent again: a push that is killed goes on where it stopped when it is repeated.
 */
import { createHash } from 'node:crypto';
import { Downloader } from '../download.ts';
import { Git2dbError } from '../errors.ts';
import { formatHash } from '../hash/xet-hash.ts';
import { openTerm } from '../reconstruct/plan.ts';
import { ShardBuilder } from '../shard/builder.ts';
import { fileRecordCount } from '../shard/file-info.ts';
import { RECORD_SIZE } from '../shard/format.ts';
import { LocalStore, type StoredTerm } from '../store/local-store.ts';
import type { ChunkRun, Store, StoreFile } from '../store/store.ts';
import { StoreWriter } from '../store/writer.ts';
import { throwIfAborted } from './abort.ts';
import { isOfAFile, Ledger, tellable } from './ledger.ts';
import { linkableStore, linkFiles } from './link.ts';
import { FILES_AT_ONCE, findEach, isEmptyFile, slicesOf } from './missing.ts';
import { PackedXorb } from './packed-xorb.ts';
import {
  type ChunkList,
  chunkListOf,
  type PackedPlace,
  type Packer,
  type PlannedFile,
  planTerms,
  recordOf,
  termsOfStored,
} from './push-plan.ts';
import { StreamLimit } from './stream-limit.ts';
import type { TransferOptions, TransferResult, WantedFile } from './transfer.ts';

export interface PushFilesOptions extends TransferOptions {
  /** Register the SHA-256 of each file; computed where neither the caller nor the store knows it. */
  readonly withSha256?: boolean | undefined;
  /** For a directory on the same file system, which gets hard links; default `batch`. */
  readonly fsync?: 'batch' | 'none' | undefined;
}

/** New content, raw, that is registered at once; and the shard's size that must not be exceeded. */
const BATCH_BYTES = 1 << 30;
const BATCH_SHARD = 48 << 20;
/** Files that are registered at once: so many descriptions are in memory. */
const BATCH_FILES = 16384;
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

/** Files and xorbs that are registered together. */
interface Batch {
  readonly files: PlannedFile[];
  readonly xorbs: PackedXorb[];
  readonly uploads: Promise<void>[];
  /** Raw bytes that are new, and bytes of records in the shard. */
  bytes: number;
  shardBytes: number;
}

class PushSession implements Packer {
  readonly #local: LocalStore;
  readonly #remote: Store;
  readonly #ledger: Ledger;
  readonly #options: PushFilesOptions;
  readonly #downloader: Downloader;
  readonly #limit = new StreamLimit();
  /** Stops what is under way when one thing has failed for good. */
  readonly #stop = new AbortController();
  readonly #signal: AbortSignal;
  readonly #places = new Map<string, PackedPlace>();
  #packed = 0;
  #open: PackedXorb | undefined;
  #batch: Batch = newBatch();
  #registered: Promise<void> = Promise.resolve();
  readonly #uploading = new Set<Promise<void>>();
  #again: WantedFile[] = [];
  /** How often a file has failed for a reason that may pass. */
  readonly #attempts = new Map<string, number>();
  /** Xorbs that the other store has lost. */
  readonly #lost = new Set<string>();
  /** Files whose terms were refused: registered alone, and without believing where chunks are said to be. */
  readonly #doubted = new Set<string>();

  constructor(local: LocalStore, remote: Store, ledger: Ledger, options: PushFilesOptions) {
    this.#local = local;
    this.#remote = remote;
    this.#ledger = ledger;
    this.#options = options;
    this.#downloader = new Downloader(local, { workers: 0 });
    this.#signal =
      options.signal === undefined ? this.#stop.signal : AbortSignal.any([options.signal, this.#stop.signal]);
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
        this.#again = [];
        await this.#pass(files);
        files = this.#again;
      }
    } catch (error) {
      this.#stop.abort(error);
      await Promise.allSettled([...this.#uploading, this.#registered]);
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
    await this.#registered;
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
    const isDoubted = ({ wanted }: Candidate) => this.#doubted.has(formatHash(wanted.hash));
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
    return runs.filter((run) => run.count > 0 && !this.#lost.has(formatHash(run.xorbHash)));
  }

  async #planFile(
    { wanted, stored }: Candidate,
    list: ChunkList,
    runs: readonly ChunkRun[],
    doubted: boolean,
  ): Promise<void> {
    let size = 0;
    for (const length of list.lengths) size += length;
    if (!this.#attempts.has(formatHash(wanted.hash))) this.#ledger.expect(size);
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
      planned = there ?? (await planTerms(list, runs, this));
    } catch (error) {
      // A xorb of this store went while it was planned; what was packed of it may still be of use to others.
      if (!isOfAFile(error) || this.#signal.aborted) throw error;
      this.#tryAgain({ wanted, size }, error);
      return;
    }
    const file: PlannedFile = { wanted, size, sha256, ...planned };
    this.#batch.files.push(file);
    this.#batch.shardBytes += 2 * RECORD_SIZE * (1 + file.terms.length);
    const { bytes, shardBytes, files } = this.#batch;
    const isFull = bytes >= BATCH_BYTES || shardBytes >= BATCH_SHARD || files.length >= BATCH_FILES;
    if (doubted || isFull) await this.#closeBatch();
  }

  async #sha256(wanted: WantedFile): Promise<string | undefined> {
    if (wanted.sha256 !== undefined) return wanted.sha256;
    const known = this.#local.findFile(wanted.hash)?.record?.sha256;
    if (known !== undefined || this.#options.withSha256 !== true) return known;
    const digest = createHash('sha256');
    for (const { chunks } of this.#downloader.read(this.#downloader.plan(wanted.hash, wanted.size))) {
      for (const chunk of chunks) digest.update(chunk);
      await new Promise((done) => setImmediate(done));
      throwIfAborted(this.#options.signal);
    }
    return digest.digest('hex');
  }

  find(hashes: Uint8Array, offset: number): PackedPlace | undefined {
    const place = this.#places.get(keyOf(hashes, offset));
    return place === undefined || place.packed.failure !== undefined ? undefined : place;
  }

  pack(term: StoredTerm, chunk: number): PackedPlace | Promise<PackedPlace> {
    const packed = this.#addTo(this.#open, term, chunk);
    return packed ?? this.#rotate().then(() => this.#addTo(this.#begin(), term, chunk) as PackedPlace);
  }

  #addTo(packed: PackedXorb | undefined, term: StoredTerm, chunk: number): PackedPlace | undefined {
    const source = openTerm(term);
    if (packed === undefined || !packed.add(term, source, chunk)) return undefined;
    const place = { packed, index: packed.count - 1 };
    this.#places.set(keyOf(source.hashes, 32 * chunk), place);
    return place;
  }

  #begin(): PackedXorb {
    this.#open = new PackedXorb(this.#packed++);
    return this.#open;
  }

  /** The open xorb is sent, as soon as there is room among the uploads. */
  async #rotate(): Promise<void> {
    const packed = this.#open;
    this.#open = undefined;
    if (packed === undefined) return;
    const batch = this.#batch;
    batch.xorbs.push(packed);
    batch.bytes += packed.rawBytes;
    batch.shardBytes += RECORD_SIZE * (1 + packed.count);
    await this.#limit.acquire();
    this.#signal.throwIfAborted();
    const upload = this.#upload(packed);
    // Looked at when the batch is registered; here only so that it is not called unhandled.
    const ended = upload.catch((error) => this.#stop.abort(error));
    this.#uploading.add(ended);
    void ended.then(() => this.#uploading.delete(ended));
    batch.uploads.push(upload);
  }

  async #upload(packed: PackedXorb): Promise<void> {
    let sent = 0;
    let failed = false;
    try {
      const options = { signal: this.#signal };
      const upload = packed.upload((bytes) => {
        sent += bytes;
        this.#ledger.moved(bytes);
      });
      // Many stores only find out when they have got it.
      const isThere = await this.#remote.hasXorb(packed.footer.xorbHash, options);
      if (!isThere) await this.#remote.putXorb(upload, options);
      this.#ledger.advance(packed.rawBytes);
    } catch (error) {
      // What could not be read here is nobody else's failure, however it was passed on.
      packed.failure = packed.damage.size > 0 ? [...packed.damage.values()][0] : error;
      failed = !isOfAFile(packed.failure);
      if (failed) throw error;
    } finally {
      this.#limit.release(sent, failed);
    }
  }

  /** Sends what is open, and has the batch registered when all of it has arrived. */
  async #closeBatch(): Promise<void> {
    await this.#rotate();
    const batch = this.#batch;
    if (batch.files.length === 0 && batch.xorbs.length === 0) return;
    this.#batch = newBatch();
    const before = this.#registered;
    this.#registered = (async () => {
      await before;
      await Promise.all(batch.uploads);
      await this.#register(batch);
    })();
    this.#registered.catch((error) => this.#stop.abort(error));
    // One batch is registered while the next is sent, and no more than that.
    await before;
  }

  async #register(batch: Batch): Promise<void> {
    const files = batch.files.filter((file) => !this.#hasFailed(file));
    // So much of these files is told as done already.
    const told = batch.xorbs.reduce((sum, xorb) => sum + (xorb.failure === undefined ? xorb.rawBytes : 0), 0);
    this.#ledger.advance(-told);
    let builder = new ShardBuilder();
    let group: PlannedFile[] = [];
    const flush = async () => {
      if (group.length > 0 || builder.xorbCount > 0) await this.#putShard(builder, group);
      builder = new ShardBuilder();
      group = [];
    };
    for (const xorb of batch.xorbs) {
      if (xorb.failure !== undefined) continue;
      const { record } = xorb;
      if (builder.size() + RECORD_SIZE * (1 + xorb.count) > BATCH_SHARD) await flush();
      builder.addXorb(record);
    }
    for (const file of files) {
      const record = recordOf(file);
      if (builder.size() + RECORD_SIZE * fileRecordCount(record) > BATCH_SHARD) await flush();
      builder.addFile(record);
      group.push(file);
    }
    if (group.length > 0) await flush();
  }

  async #putShard(builder: ShardBuilder, files: readonly PlannedFile[]): Promise<void> {
    try {
      const options = { signal: this.#signal };
      await this.#remote.putShard(builder.build({ footer: false, sorted: true }), options);
    } catch (error) {
      if (!isOfAFile(error)) throw error;
      if (error.code === 'CONTENT_MISSING') await this.#findLost(files);
      else for (const { wanted } of files) this.#doubted.add(formatHash(wanted.hash));
      for (const file of files) this.#tryAgain(file, error);
      return;
    }
    for (const { wanted, size } of files) {
      this.#ledger.advance(size);
      this.#ledger.settle(wanted, 'moved', size);
    }
  }

  /** The other store lacks a xorb that it said it had: which ones? */
  async #findLost(files: readonly PlannedFile[]): Promise<void> {
    const asked = new Map<string, boolean>();
    for (const { xorbHash, packed } of files.flatMap((file) => file.terms)) {
      const hash = xorbHash ?? (packed as PackedXorb).footer.xorbHash;
      const name = formatHash(hash);
      let isThere = asked.get(name);
      if (isThere === undefined) {
        isThere = await this.#remote.hasXorb(hash, { signal: this.#signal });
        asked.set(name, isThere);
      }
      if (isThere) continue;
      this.#lost.add(name);
      if (packed !== undefined)
        packed.failure ??= new Git2dbError('CONTENT_MISSING', `xorb ${name} was lost`);
    }
  }

  /** A file whose xorbs did not all arrive fails, or is planned once more. True if so. */
  #hasFailed(file: PlannedFile): boolean {
    const failed = file.terms.find((term) => term.packed?.failure !== undefined);
    if (failed === undefined) return false;
    const damage = file.terms.map(damageOf).find((error) => error !== undefined);
    if (damage !== undefined && damage.code !== 'CONTENT_MISSING') {
      this.#ledger.settle(file.wanted, 'failed', file.size, damage);
      return true;
    }
    if (damage !== undefined) this.#tryAgain(file, damage);
    else if ((failed.packed as PackedXorb).damage.size > 0) this.#again.push(file.wanted);
    else this.#tryAgain(file, (failed.packed as PackedXorb).failure as Git2dbError);
    return true;
  }

  /** Twice is enough. */
  #tryAgain({ wanted, size }: Pick<PlannedFile, 'wanted' | 'size'>, error: Git2dbError): void {
    const name = formatHash(wanted.hash);
    const attempts = (this.#attempts.get(name) ?? 0) + 1;
    this.#attempts.set(name, attempts);
    if (attempts >= 2) this.#ledger.settle(wanted, 'failed', size, error);
    else this.#again.push(wanted);
  }
}

function newBatch(): Batch {
  return { files: [], xorbs: [], uploads: [], bytes: 0, shardBytes: 0 };
}

/** Damage of the chunks that a term names. */
function damageOf({ packed, start, end }: PlannedFile['terms'][number]): Git2dbError | undefined {
  for (const [chunk, error] of packed?.damage ?? []) if (chunk >= start && chunk < end) return error;
  return undefined;
}

/** The parts of `runs` that lie in chunks [start, end), counted from `start`. */
function runsWithin(runs: readonly ChunkRun[], start: number, end: number): ChunkRun[] {
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

function wrongSize({ hash, size }: WantedFile, stored: StoreFile, place: string): Git2dbError {
  return new Git2dbError(
    'CONTENT_DAMAGED',
    `the pointer says ${size} bytes, file ${formatHash(hash)} in ${place} has ${stored.size}: the pointer was changed by hand or is damaged`,
    { data: { file: formatHash(hash), expected: size, found: stored.size } },
  );
}

function keyOf(hashes: Uint8Array, offset: number): string {
  return Buffer.prototype.latin1Slice.call(hashes, offset, offset + 32);
}
