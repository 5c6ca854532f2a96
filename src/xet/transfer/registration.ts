/**
 * Registers files that were planned, in their order and in batches, as soon as the xorbs of each batch have
 * arrived. A file whose xorbs did not all arrive, or whose terms the other store refuses, is one for a second try.
 */
import { Git2dbError } from '../errors.ts';
import { formatHash } from '../hash/xet-hash.ts';
import { ShardBuilder } from '../shard/builder.ts';
import { fileRecordCount } from '../shard/file-info.ts';
import { RECORD_SIZE } from '../shard/format.ts';
import type { Store } from '../store/store.ts';
import { isOfAFile, type Ledger } from './ledger.ts';
import type { PackedXorb } from './packed-xorb.ts';
import { type PlannedFile, recordOf } from './push-plan.ts';
import type { SecondTries } from './second-tries.ts';

/** New content, raw, that is registered at once; and the shard's size that must not be exceeded. */
const BATCH_BYTES = 1 << 30;
const BATCH_SHARD = 48 << 20;
/** Files that are registered at once: so many descriptions are in memory. */
const BATCH_FILES = 16384;

/** Files and xorbs that are registered together. */
interface Batch {
  readonly files: PlannedFile[];
  readonly xorbs: PackedXorb[];
  readonly uploads: Promise<void>[];
  /** Raw bytes that are new, and bytes of records in the shard. */
  bytes: number;
  shardBytes: number;
}

export interface RegistrationOptions {
  /** Of the push, which stops when one thing has failed for good. */
  readonly signal: AbortSignal;
  /** Told of what makes the other store unusable. */
  readonly onFailure: (error: unknown) => void;
}

export class Registration {
  readonly #remote: Store;
  readonly #ledger: Ledger;
  readonly #tries: SecondTries;
  readonly #options: RegistrationOptions;
  #batch: Batch = newBatch();
  #registered: Promise<void> = Promise.resolve();

  constructor(remote: Store, ledger: Ledger, tries: SecondTries, options: RegistrationOptions) {
    this.#remote = remote;
    this.#ledger = ledger;
    this.#tries = tries;
    this.#options = options;
  }

  /** Rejects if one of the batches that were closed could not be registered; resolves when all are. */
  get registered(): Promise<void> {
    return this.#registered;
  }

  /** The open batch should be closed. */
  get isFull(): boolean {
    const { bytes, shardBytes, files } = this.#batch;
    return bytes >= BATCH_BYTES || shardBytes >= BATCH_SHARD || files.length >= BATCH_FILES;
  }

  addFile(file: PlannedFile): void {
    this.#batch.files.push(file);
    this.#batch.shardBytes += 2 * RECORD_SIZE * (1 + file.terms.length);
  }

  /** Returns the list that its upload is to be added to: the batch is registered when all of these have ended. */
  addXorb(packed: PackedXorb): Promise<void>[] {
    const batch = this.#batch;
    batch.xorbs.push(packed);
    batch.bytes += packed.rawBytes;
    batch.shardBytes += RECORD_SIZE * (1 + packed.count);
    return batch.uploads;
  }

  /** Has the open batch registered when all of it has arrived. Nothing of it may be packed but not sent. */
  async closeBatch(): Promise<void> {
    const batch = this.#batch;
    if (batch.files.length === 0 && batch.xorbs.length === 0) return;
    this.#batch = newBatch();
    const before = this.#registered;
    this.#registered = (async () => {
      await before;
      await Promise.all(batch.uploads);
      await this.#register(batch);
    })();
    this.#registered.catch(this.#options.onFailure);
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
      const { signal } = this.#options;
      await this.#remote.putShard(builder.build({ footer: false, sorted: true }), { signal });
    } catch (error) {
      if (!isOfAFile(error)) throw error;
      if (error.code === 'CONTENT_MISSING') await this.#findLost(files);
      else for (const { wanted } of files) this.#tries.doubt(wanted);
      for (const { wanted, size } of files) this.#tries.add(wanted, size, error);
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
        isThere = await this.#remote.hasXorb(hash, { signal: this.#options.signal });
        asked.set(name, isThere);
      }
      if (isThere) continue;
      this.#tries.lose(hash);
      if (packed !== undefined)
        packed.failure ??= new Git2dbError('CONTENT_MISSING', `xorb ${name} was lost`);
    }
  }

  /** A file whose xorbs did not all arrive fails, or is planned once more. True if so. */
  #hasFailed({ wanted, size, terms }: PlannedFile): boolean {
    const failed = terms.find((term) => term.packed?.failure !== undefined)?.packed;
    if (failed === undefined) return false;
    const damage = terms.map(damageOf).find((error) => error !== undefined);
    if (damage !== undefined && damage.code !== 'CONTENT_MISSING')
      this.#ledger.settle(wanted, 'failed', size, damage);
    else if (damage !== undefined) this.#tries.add(wanted, size, damage);
    else if (failed.damage.size > 0) this.#tries.addInnocent(wanted);
    else this.#tries.add(wanted, size, failed.failure as Git2dbError);
    return true;
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
