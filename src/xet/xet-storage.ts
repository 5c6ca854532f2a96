/**
 * Contents in and out of a store, without git: what a program uses that keeps files by pointer.
 *
 *     await using storage = XetStorage.open(new XetConfig('/models/xet'));
 *     const pointer = await storage.cleanFile('model.bin');
 *     await storage.smudgeFile(pointer, 'copy.bin');
 *
 * A pointer is given when the content can be read back by any process, and is on stable storage after
 * `flush` or the end of `await using`. Cleaning is idempotent: a pointer cleans to itself, and nothing to
 * nothing. Smudging is for pointers alone: anything else is InvalidPointer, so that no caller ever takes
 * a pointer, or half of one, for content.
 */
import { closeSync, constants, openSync, readSync, writeSync } from 'node:fs';
import { rename, rm } from 'node:fs/promises';
import { isAbsolute, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Downloader } from './download.ts';
import { Git2dbError } from './errors.ts';
import { isZeroHash, parseHash } from './hash/xet-hash.ts';
import { POINTER_MAX, type Pointer, sniffPointer } from './pointer/sniff.ts';
import { formatPointer } from './pointer/xet-pointer.ts';
import type { ReadPlan } from './reconstruct/plan.ts';
import { LocalStore } from './store/local-store.ts';
import { type FileUpload, Uploader } from './upload.ts';
import { XetConfig } from './xet-config.ts';
import { XetError, xetErrorOf } from './xet-error.ts';

export interface StorageOptions {
  readonly signal?: AbortSignal | undefined;
}

/** The most that is held in memory at once as one content. */
const MAX_BYTES = 2 ** 30;
const READ_SIZE = 65520;

let temporaryNumber = 0;

export class XetStorage implements AsyncDisposable {
  /** The store's directory. */
  readonly root: string;
  readonly #config: XetConfig;
  #store: LocalStore | undefined;
  #uploader: Uploader | undefined;
  #downloader: Downloader | undefined;
  /** A store takes one file after the other. */
  #queue: Promise<unknown> = Promise.resolve();
  #isClosed = false;

  private constructor(root: string, config: XetConfig) {
    this.root = root;
    this.#config = config;
  }

  /** Touches nothing yet: the store is made by the first content. Throws InvalidConfig. */
  static open(config: XetConfig | string): XetStorage {
    const known = typeof config === 'string' ? new XetConfig(config) : config;
    return new XetStorage(storeDirectoryOf(known), known);
  }

  /** Resolves to the pointer, as text. */
  cleanFile(path: string, options: StorageOptions = {}): Promise<string> {
    return this.#clean(async (upload) => {
      const fd = openSync(path, constants.O_RDONLY);
      try {
        for (let turn = 1; ; turn++) {
          const room = upload.room();
          const count = readSync(fd, room.bytes, room.offset, READ_SIZE, null);
          if (count === 0) return;
          upload.advance(count);
          if (turn % 64 === 0) await breathe(options.signal);
        }
      } finally {
        closeSync(fd);
      }
    }, options);
  }

  cleanBytes(bytes: Uint8Array, options: StorageOptions = {}): Promise<string> {
    return this.#clean(async (upload) => upload.write(bytes), options);
  }

  cleanStream(
    source: AsyncIterable<Uint8Array> | Iterable<Uint8Array>,
    options: StorageOptions = {},
  ): Promise<string> {
    return this.#clean(async (upload) => {
      for await (const piece of source) {
        checkAborted(options.signal);
        upload.write(piece);
      }
    }, options);
  }

  /** Writes the content of `pointer` to `path`, whole or not at all; what was there is replaced. */
  smudgeFile(pointer: string | Uint8Array, path: string, options: StorageOptions = {}): Promise<void> {
    return this.#writeFile(this.#contentOf(pointer), path, options);
  }

  /** At most 1 GiB; larger contents are for `smudgeStream` or `smudgeFile`. */
  async smudgeBytes(pointer: string | Uint8Array, options: StorageOptions = {}): Promise<Buffer> {
    return this.#collect(this.#contentOf(pointer), options);
  }

  /** Pieces of a few hundred KiB, verified, the caller's to keep. */
  smudgeStream(pointer: string | Uint8Array, options: StorageOptions = {}): AsyncIterable<Buffer> {
    return this.#stream(this.#contentOf(pointer), options);
  }

  /** By file hash (64 lower-case digits) alone: no size is checked. */
  async smudgeFromHash(hash: string, options: StorageOptions = {}): Promise<Buffer> {
    return this.#collect(this.#contentOfHash(hash), options);
  }

  smudgeFromHashToFile(hash: string, path: string, options: StorageOptions = {}): Promise<void> {
    return this.#writeFile(this.#contentOfHash(hash), path, options);
  }

  /** Whether `content`, the whole of it, is a pointer to content in a Xet store. */
  isPointer(content: string | Uint8Array): boolean {
    return isXetPointer(content);
  }

  /** Puts what was stored so far on stable storage, and publishes it. */
  flush(): Promise<void> {
    return this.#exclusive(async () => {
      const uploader = this.#uploader;
      this.#uploader = undefined;
      await uploader?.seal();
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#isClosed) return;
    try {
      await this.flush();
    } finally {
      this.#isClosed = true;
      this.#store?.close();
    }
  }

  #open(): LocalStore {
    if (this.#isClosed) {
      throw notInitialized(`the storage ${this.root} was closed: open it again`);
    }
    this.#store ??= new LocalStore(this.root);
    return this.#store;
  }

  #clean(fill: (upload: FileUpload) => Promise<void>, { signal }: StorageOptions): Promise<string> {
    return this.#exclusive(async () => {
      checkAborted(signal);
      const store = this.#open();
      this.#uploader ??= new Uploader(store, { compression: this.#config.compression, fsync: 'batch' });
      const upload = this.#uploader.begin();
      try {
        await fill(upload);
      } catch (error) {
        upload.abort();
        throw error;
      }
      const head = upload.head(POINTER_MAX);
      if (head !== undefined) {
        if (head.length === 0) return '';
        const pointer = sniffPointer(head);
        if (pointer !== undefined) {
          const text = Buffer.from(head).toString('latin1');
          upload.abort();
          return pointer.kind === 'xet' ? formatPointer(pointer.hash, pointer.size).toString('latin1') : text;
        }
      }
      const { hash, size } = upload.finish();
      return formatPointer(hash, size).toString('latin1');
    });
  }

  async #exclusive<T>(fn: () => Promise<T>): Promise<T> {
    const turn = this.#queue.then(fn);
    this.#queue = turn.catch(() => {});
    try {
      return await turn;
    } catch (error) {
      throw xetErrorOf(error);
    }
  }

  #contentOf(content: string | Uint8Array): () => ReadPlan | undefined {
    return () => {
      if (content.length === 0) return undefined;
      const pointer = xetPointerOf(content);
      if (pointer === undefined) {
        throw new XetError(
          'InvalidPointer',
          new Git2dbError(
            'INVALID_POINTER',
            `expected a pointer, found ${content.length} ${typeof content === 'string' ? 'characters' : 'bytes'} that are none: give what clean answered`,
          ),
        );
      }
      const isEmpty = isZeroHash(parseHash(pointer.hash));
      if (pointer.size !== undefined && isEmpty !== (pointer.size === 0)) {
        throw new Git2dbError(
          'INVALID_POINTER',
          `the pointer says ${pointer.size} bytes and names file ${pointer.hash}, which cannot both be: it was changed by hand`,
        );
      }
      return isEmpty ? undefined : this.#plan(pointer.hash, pointer.size);
    };
  }

  #contentOfHash(hash: string): () => ReadPlan | undefined {
    return () => (isZeroHash(parseHash(hash)) ? undefined : this.#plan(hash, undefined));
  }

  #plan(hash: string, size: number | undefined): ReadPlan {
    const bytes = parseHash(hash);
    const store = this.#open();
    this.#downloader ??= new Downloader(store);
    store.refresh();
    return this.#downloader.plan(bytes, size);
  }

  async *#stream(plan: () => ReadPlan | undefined, { signal }: StorageOptions): AsyncGenerator<Buffer> {
    try {
      checkAborted(signal);
      const found = plan();
      if (found === undefined) return;
      for (const { chunks } of this.#downloader!.read(found)) {
        // The window belongs to the reader, who may read another file before this one goes on.
        yield Buffer.concat(chunks);
        await breathe(signal);
      }
    } catch (error) {
      throw xetErrorOf(error);
    }
  }

  async #collect(plan: () => ReadPlan | undefined, options: StorageOptions): Promise<Buffer> {
    const pieces: Buffer[] = [];
    let length = 0;
    for await (const piece of this.#stream(plan, options)) {
      length += piece.length;
      if (length > MAX_BYTES) {
        throw xetErrorOf(
          new Git2dbError(
            'LIMIT_EXCEEDED',
            `the content has more than ${MAX_BYTES} bytes: use smudgeStream or smudgeFile`,
          ),
        );
      }
      pieces.push(piece);
    }
    return Buffer.concat(pieces, length);
  }

  async #writeFile(plan: () => ReadPlan | undefined, path: string, options: StorageOptions): Promise<void> {
    const temporary = `${path}.git2db-${process.pid}-${++temporaryNumber}`;
    let fd: number | undefined;
    try {
      for await (const piece of this.#stream(plan, options)) {
        fd ??= openSync(temporary, 'wx', 0o666);
        for (let done = 0; done < piece.length; ) done += writeSync(fd, piece, done);
      }
      fd ??= openSync(temporary, 'wx', 0o666);
      closeSync(fd);
      fd = undefined;
      await rename(temporary, path);
    } catch (error) {
      if (fd !== undefined) closeSync(fd);
      await rm(temporary, { force: true });
      throw xetErrorOf(error);
    }
  }
}

export function isXetPointer(content: string | Uint8Array): boolean {
  return xetPointerOf(content) !== undefined;
}

type XetFilePointer = Exclude<Pointer, { kind: 'lfs' }>;

function xetPointerOf(content: string | Uint8Array): XetFilePointer | undefined {
  const bytes = typeof content === 'string' ? Buffer.from(content, 'utf8') : content;
  const pointer = sniffPointer(bytes);
  return pointer === undefined || pointer.kind === 'lfs' ? undefined : pointer;
}

function storeDirectoryOf({ endpoint }: XetConfig): string {
  const fault =
    endpoint === undefined
      ? 'no endpoint is given: give the directory of a store'
      : /^https?:/i.test(endpoint)
        ? `${endpoint} is a service, and only stores on this machine can be used so far: give a directory`
        : undefined;
  if (fault !== undefined || endpoint === undefined) {
    throw new XetError('InvalidConfig', new Git2dbError('INVALID_CONFIG', fault!));
  }
  if (/^file:/i.test(endpoint)) {
    try {
      return fileURLToPath(endpoint);
    } catch (cause) {
      throw new XetError(
        'InvalidConfig',
        new Git2dbError('INVALID_CONFIG', `expected file:///directory, found ${endpoint}`, { cause }),
      );
    }
  }
  return isAbsolute(endpoint) ? endpoint : resolve(endpoint);
}

export function notInitialized(message: string): XetError {
  return new XetError('StorageNotInitialized', new Git2dbError('USAGE', message));
}

/** Throws an AbortError whose cause is the signal's reason. */
function checkAborted(signal: AbortSignal | undefined): void {
  if (signal?.aborted !== true) return;
  const error = new Error('the transfer was stopped before it ended', { cause: signal.reason });
  error.name = 'AbortError';
  throw error;
}

/** A turn of the event loop, for timers, sockets and an abort. */
async function breathe(signal: AbortSignal | undefined): Promise<void> {
  await new Promise((done) => setImmediate(done));
  checkAborted(signal);
}
