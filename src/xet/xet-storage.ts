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
 *
 * Over an endpoint elsewhere (http, s3) the same holds, except that what is stored is kept here until `flush` has
 * sent it, and what is read is fetched first, unless it is here.
 */
import { closeSync, constants, openSync, readSync } from 'node:fs';
import { untilAborted } from './cas/abort.ts';
import { Downloader } from './download.ts';
import { Git2dbError } from './errors.ts';
import type { FileUpload } from './file-upload.ts';
import { isZeroHash, parseHash } from './hash/xet-hash.ts';
import { fileNamedBy, isXetPointer } from './named-file.ts';
import { POINTER_MAX, sniffPointer } from './pointer/sniff.ts';
import { formatPointer } from './pointer/xet-pointer.ts';
import type { ReadPlan } from './reconstruct/plan.ts';
import { parseAddress, type RemoteAddress } from './remote/address.ts';
import { RemoteSession } from './remote/session.ts';
import { LocalStore } from './store/local-store.ts';
import { throwIfAborted } from './transfer/abort.ts';
import type { TransferEvent, WantedFile } from './transfer/transfer.ts';
import { Uploader } from './upload.ts';
import { collect, writeWhole } from './whole-content.ts';
import { XetConfig } from './xet-config.ts';
import { XetError, type XetErrorKind, xetErrorOf } from './xet-error.ts';

export interface StorageOptions {
  readonly signal?: AbortSignal | undefined;
  /** Told how far a transfer from or to an endpoint elsewhere has come. */
  readonly onProgress?: ((event: TransferEvent) => void) | undefined;
}

/** Of the storage as a whole. */
export interface StorageLifetime {
  /** Ends whatever the storage does, and is to do, at once: also what its end would send. */
  readonly signal?: AbortSignal | undefined;
}

const READ_SIZE = 65520;

export class XetStorage implements AsyncDisposable {
  /** The endpoint, without anything secret. */
  readonly place: string;
  /** The directory of the store on this machine: the endpoint itself, or what stands before it. */
  readonly root: string;
  readonly #config: XetConfig;
  readonly #signal: AbortSignal | undefined;
  /** For an endpoint elsewhere. */
  readonly #session: RemoteSession | undefined;
  #store: LocalStore | undefined;
  #uploader: Uploader | undefined;
  #downloader: Downloader | undefined;
  /** A store takes one file after the other. */
  #queue: Promise<unknown> = Promise.resolve();
  #isClosed = false;

  private constructor(
    names: { readonly place: string; readonly root: string },
    config: XetConfig,
    session: RemoteSession | undefined,
    { signal }: StorageLifetime,
  ) {
    this.place = names.place;
    this.root = names.root;
    this.#config = config;
    this.#session = session;
    this.#signal = signal;
  }

  /** Touches nothing yet: the store is made, or asked, when there is content. Throws InvalidConfig. */
  static open(config: XetConfig | string, lifetime: StorageLifetime = {}): XetStorage {
    const known = typeof config === 'string' ? new XetConfig(config) : config;
    const address = addressOf(known);
    if (address.kind === 'directory') {
      return new XetStorage({ place: address.path, root: address.path }, known, undefined, lifetime);
    }
    const connect = async (signal: AbortSignal) => {
      // The network's modules are loaded when it is used.
      const { openStore } = await import('./remote/open.ts');
      return openStore(address, { http: known.http(), token: known.token(), signal });
    };
    const session = new RemoteSession(connect, known.cache, lifetime.signal);
    const place = address.url.replace(/\?.*$/, '');
    return new XetStorage({ place, root: session.root }, known, session, lifetime);
  }

  /** Whether it has come to its end, and does nothing any more. */
  get isClosed(): boolean {
    return this.#isClosed;
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
          if (turn % 64 === 0) await this.#breathe(options);
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
      const signal = this.#until(options);
      for await (const piece of untilStopped(source, signal)) {
        throwIfAborted(signal);
        upload.write(piece);
      }
    }, options);
  }

  /** Writes the content of `pointer` to `path`, whole or not at all; what was there is replaced. */
  smudgeFile(pointer: string | Uint8Array, path: string, options: StorageOptions = {}): Promise<void> {
    return writeWhole(path, this.#stream(this.#contentOf(pointer), options));
  }

  /** At most 1 GiB; larger contents are for `smudgeStream` or `smudgeFile`. */
  async smudgeBytes(pointer: string | Uint8Array, options: StorageOptions = {}): Promise<Buffer> {
    return collect(this.#stream(this.#contentOf(pointer), options));
  }

  /** Pieces of a few hundred KiB, verified, the caller's to keep. */
  smudgeStream(pointer: string | Uint8Array, options: StorageOptions = {}): AsyncIterable<Buffer> {
    return this.#stream(this.#contentOf(pointer), options);
  }

  /** By file hash (64 lower-case digits) alone: no size is checked. */
  async smudgeFromHash(hash: string, options: StorageOptions = {}): Promise<Buffer> {
    return collect(this.#stream(this.#contentOfHash(hash), options));
  }

  smudgeFromHashToFile(hash: string, path: string, options: StorageOptions = {}): Promise<void> {
    return writeWhole(path, this.#stream(this.#contentOfHash(hash), options));
  }

  /**
   * Bytes [start, end) of the content, in pieces, verified, the caller's to keep; an end behind the content's is
   * the content's. From an endpoint elsewhere little more than that is fetched, and nothing of it kept.
   */
  async *smudgeRange(
    pointer: string | Uint8Array,
    start: number,
    end: number,
    options: StorageOptions = {},
  ): AsyncGenerator<Buffer> {
    try {
      if (!(start >= 0 && end >= start)) {
        throw new Git2dbError('USAGE', `expected a range of bytes, found [${start}, ${end})`);
      }
      this.#throwIfStopped(options);
      const file = fileNamedBy(pointer);
      if (file === undefined || start === end) return;
      const plan = this.#planHere(file);
      if (plan === undefined) {
        const last = Math.min(end, file.size ?? end);
        if (start >= last) return;
        for await (const piece of this.#session!.readRange(file, start, last, options)) {
          yield Buffer.from(piece.buffer, piece.byteOffset, piece.length);
        }
        return;
      }
      for (const { fileOffset, chunks } of this.#downloader!.read(plan, start, end)) {
        const bytes = Buffer.concat(chunks);
        yield bytes.subarray(Math.max(0, start - fileOffset), end - fileOffset);
        await this.#breathe(options);
      }
    } catch (error) {
      throw xetErrorOf(error, 'DownloadFailed');
    }
  }

  /** Whether `content`, the whole of it, is a pointer to content in a Xet store. */
  isPointer(content: string | Uint8Array): boolean {
    return isXetPointer(content);
  }

  /**
   * Puts what was stored so far on stable storage, and publishes it; over an endpoint elsewhere, sends it there.
   * After a failure it may be called again.
   */
  flush(options: StorageOptions = {}): Promise<void> {
    return this.#exclusive(
      options,
      async () => {
        const uploader = this.#uploader;
        this.#uploader = undefined;
        await uploader?.seal();
        await this.#session?.send(options);
      },
      'UploadFailed',
    );
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#isClosed) return;
    try {
      if (this.#signal?.aborted === true) await this.#endStopped();
      else await this.flush();
    } finally {
      this.#isClosed = true;
      this.#store?.close();
      await this.#session?.[Symbol.asyncDispose]();
    }
  }

  /** What was acknowledged stays; what was not sent makes this throw an AbortError. */
  async #endStopped(): Promise<void> {
    await this.#queue;
    await this.#uploader?.seal();
    if (this.#session?.isSent === false) throwIfAborted(this.#signal);
  }

  #open(): LocalStore {
    if (this.#isClosed) {
      throw notInitialized(`the storage ${this.place} was closed: open it again`);
    }
    this.#store ??= new LocalStore(this.root);
    return this.#store;
  }

  #clean(fill: (upload: FileUpload) => Promise<void>, options: StorageOptions): Promise<string> {
    return this.#exclusive(options, async () => {
      this.#throwIfStopped(options);
      const store = this.#open();
      this.#session?.prepare();
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
      this.#session?.stored({ hash: parseHash(hash), size });
      return formatPointer(hash, size).toString('latin1');
    });
  }

  async #exclusive<T>(options: StorageOptions, fn: () => Promise<T>, failed?: XetErrorKind): Promise<T> {
    const before = this.#queue;
    const turn = untilAborted(before, this.#until(options)).then(fn);
    // Whoever gave up waiting lets nobody pass.
    this.#queue = Promise.allSettled([before, turn]);
    try {
      return await turn;
    } catch (error) {
      throw xetErrorOf(error, failed);
    }
  }

  #contentOf(content: string | Uint8Array): () => WantedFile | undefined {
    return () => fileNamedBy(content);
  }

  #contentOfHash(text: string): () => WantedFile | undefined {
    return () => {
      const hash = parseHash(text);
      return isZeroHash(hash) ? undefined : { hash };
    };
  }

  /** Undefined for what is not here and may be fetched. */
  #planHere({ hash, size }: WantedFile): ReadPlan | undefined {
    const store = this.#open();
    this.#downloader ??= new Downloader(store);
    store.refresh();
    try {
      return this.#downloader.plan(hash, size);
    } catch (error) {
      if (this.#session !== undefined && error instanceof Git2dbError && error.code === 'CONTENT_MISSING')
        return undefined;
      throw error;
    }
  }

  async #plan(file: WantedFile, options: StorageOptions): Promise<ReadPlan> {
    const here = this.#planHere(file);
    if (here !== undefined) return here;
    await this.#session!.fetch(file, options);
    return this.#downloader!.plan(file.hash, file.size);
  }

  async *#stream(content: () => WantedFile | undefined, options: StorageOptions): AsyncGenerator<Buffer> {
    try {
      this.#throwIfStopped(options);
      const file = content();
      if (file === undefined) return;
      const plan = await this.#plan(file, options);
      for (const { chunks } of this.#downloader!.read(plan)) {
        // The window belongs to the reader, who may read another file before this one goes on.
        yield Buffer.concat(chunks);
        await this.#breathe(options);
      }
    } catch (error) {
      throw xetErrorOf(error, 'DownloadFailed');
    }
  }

  /** Ends with the call, or with the storage. */
  #until({ signal }: StorageOptions): AbortSignal | undefined {
    if (signal === undefined || this.#signal === undefined) return signal ?? this.#signal;
    return AbortSignal.any([signal, this.#signal]);
  }

  #throwIfStopped({ signal }: StorageOptions): void {
    throwIfAborted(this.#signal);
    throwIfAborted(signal);
  }

  /** A turn of the event loop, for timers, sockets and an abort. */
  async #breathe(options: StorageOptions): Promise<void> {
    await new Promise((done) => setImmediate(done));
    this.#throwIfStopped(options);
  }
}

/** What comes from `source`, which is not waited for once `signal` is aborted. */
async function* untilStopped<T>(
  source: AsyncIterable<T> | Iterable<T>,
  signal: AbortSignal | undefined,
): AsyncGenerator<T> {
  const pieces = Symbol.asyncIterator in source ? source[Symbol.asyncIterator]() : source[Symbol.iterator]();
  let isEnded = false;
  try {
    for (;;) {
      const next = await untilAborted(Promise.resolve(pieces.next()), signal);
      isEnded = next.done === true;
      if (next.done === true) return;
      yield next.value;
    }
  } catch (error) {
    isEnded ||= signal?.aborted !== true;
    throw error;
  } finally {
    if (!isEnded) leave(pieces);
  }
}

/** Tells a source that nobody reads on. One that never answers keeps nobody waiting. */
function leave(pieces: AsyncIterator<unknown> | Iterator<unknown>): void {
  void (async () => pieces.return?.())().catch(() => undefined);
}

function addressOf({ endpoint }: XetConfig): RemoteAddress {
  try {
    if (endpoint === undefined) {
      throw new Git2dbError(
        'INVALID_CONFIG',
        'no endpoint is given: give the directory of a store, or the URL of a service',
      );
    }
    return parseAddress(endpoint);
  } catch (error) {
    if (error instanceof Git2dbError) throw new XetError('InvalidConfig', error);
    throw error;
  }
}

export function notInitialized(message: string): XetError {
  return new XetError('StorageNotInitialized', new Git2dbError('USAGE', message));
}
