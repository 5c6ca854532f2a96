/** Storing files: what they have in common, for one session of a store. Each file is a `FileUpload`. */
import type { CompressionMode } from './compress/scheme.ts';
import { errnoOf, Git2dbError } from './errors.ts';
import { ARENA_SIZE, FileUpload, SCRATCH } from './file-upload.ts';
import { formatHash } from './hash/xet-hash.ts';
import { ScanAhead } from './parallel/scan-ahead.ts';
import type { LocalTerm } from './store/journal.ts';
import type { LocalStore, StoredFile } from './store/local-store.ts';
import { StoreWriter, type WriterOptions } from './store/writer.ts';
import { type Arena, createArena, type KernelChoice, type Kernels, loadKernels } from './wasm/kernels.ts';

export interface UploadOptions extends WriterOptions {
  readonly compression: CompressionMode;
  readonly kernels?: KernelChoice;
}

/** Stores files one after the other. Made once per process; opens the store's writer on first use. */
export class Uploader {
  readonly store: LocalStore;
  readonly options: UploadOptions;
  readonly arena: Arena;
  readonly kernels: Kernels;
  #writer: StoreWriter | undefined;
  #ahead: ScanAhead | undefined;
  /** `<SHA-256> <file hash>` of what this session has written records for. */
  readonly #recorded = new Set<string>();

  constructor(store: LocalStore, options: UploadOptions) {
    this.store = store;
    this.options = options;
    this.arena = createArena(ARENA_SIZE);
    this.kernels = loadKernels(this.arena, SCRATCH, options.kernels);
  }

  /** Registered with the store, unless that can only be read: known content is recognised there, too. */
  get writer(): StoreWriter {
    if (this.#writer === undefined) {
      const writer = new StoreWriter(this.store, this.options);
      try {
        writer.register();
      } catch (error) {
        if (!isReadOnly(error)) throw error;
      }
      this.#writer = writer;
    }
    return this.#writer;
  }

  get ahead(): ScanAhead {
    this.#ahead ??= new ScanAhead(this.options.kernels);
    return this.#ahead;
  }

  /**
   * Begins a file. One at a time: finish or abort it before the next. `sizeHint` only decides when a
   * second thread is worth its start.
   */
  begin(sizeHint = 0): FileUpload {
    return new FileUpload(this, sizeHint);
  }

  /** True if the store finds the file `hash` by this SHA-256, now or once this session is sealed. */
  isRecorded(sha256: string, hash: Uint8Array): boolean {
    return this.#recorded.has(`${sha256} ${formatHash(hash)}`) || this.store.knowsSha256(sha256, hash);
  }

  /**
   * Writes down what SHA-256 a file of the store has. Costs a record, no content. Throws CONTENT_MISSING for a
   * file that another writer has not sealed yet.
   */
  record(sha256: string, file: StoredFile): void {
    const { writer } = this;
    const isOwn = file.shard === undefined && writer.findFile(file.hash) !== undefined;
    if (!isOwn && file.terms.some((term) => term.xorbHash === undefined)) {
      throw new Git2dbError(
        'CONTENT_MISSING',
        `file ${formatHash(file.hash)} is not sealed yet, so nothing can be said about it`,
      );
    }
    writer.begin();
    writer.commit({ fileHash: file.hash, size: file.size, terms: termsOf(file), sha256 });
    this.noteRecorded(sha256, file.hash);
  }

  /** The writer has committed `hash` with this SHA-256. */
  noteRecorded(sha256: string, hash: Uint8Array): void {
    this.#recorded.add(`${sha256} ${formatHash(hash)}`);
  }

  /** Puts everything on stable storage and publishes it. Nothing may be begun afterwards. */
  async seal(): Promise<void> {
    const writer = this.#writer;
    this.#writer = undefined;
    await writer?.seal();
  }
}

/** The file's terms for another record of it. */
function termsOf(file: StoredFile): LocalTerm[] {
  return file.terms.map(({ xorbHash, local, start, end, rawBytes }) => ({
    xorbHash,
    local: local ?? 0,
    start,
    end,
    rawBytes,
  }));
}

function isReadOnly(error: unknown): boolean {
  const errno = errnoOf((error as { cause?: unknown }).cause);
  return errno === 'EROFS' || errno === 'EACCES' || errno === 'EPERM';
}
