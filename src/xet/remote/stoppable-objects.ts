/**
 * Objects whose every request ends with the signal they were opened with. A footer, a catalog table or a shard that
 * several callers wait for is asked for without the signal of any one of them: when all of them stop, nobody else
 * would end a request that a server does not answer.
 */
import type {
  ListedObject,
  ObjectBody,
  ObjectHead,
  ObjectOptions,
  ObjectPart,
  ObjectStore,
  WholeOptions,
} from '../objects/objects.ts';

export class StoppableObjects implements ObjectStore {
  readonly place: string;
  readonly isReadOnly: boolean;
  readonly canList: boolean;
  readonly #inner: ObjectStore;
  readonly #signal: AbortSignal;

  /** Takes `inner` over. A call that brings a signal of its own ends with that. */
  constructor(inner: ObjectStore, signal: AbortSignal) {
    this.#inner = inner;
    this.#signal = signal;
    this.place = inner.place;
    this.isReadOnly = inner.isReadOnly;
    this.canList = inner.canList;
  }

  head(key: string, options?: ObjectOptions): Promise<ObjectHead | undefined> {
    return this.#inner.head(key, this.#with(options));
  }

  read(key: string, start: number, end: number, options?: ObjectOptions): Promise<ObjectPart | undefined> {
    return this.#inner.read(key, start, end, this.#with(options));
  }

  readTail(key: string, length: number, options?: ObjectOptions): Promise<ObjectPart | undefined> {
    return this.#inner.readTail(key, length, this.#with(options));
  }

  readWhole(key: string, options: WholeOptions): Promise<ObjectPart | 'unchanged' | undefined> {
    return this.#inner.readWhole(key, { ...options, ...this.#with(options) });
  }

  putIfAbsent(key: string, body: ObjectBody, options?: ObjectOptions): Promise<boolean> {
    return this.#inner.putIfAbsent(key, body, this.#with(options));
  }

  replace(
    key: string,
    body: ObjectBody,
    etag: string | undefined,
    options?: ObjectOptions,
  ): Promise<string | undefined> {
    return this.#inner.replace(key, body, etag, this.#with(options));
  }

  delete(key: string, options?: ObjectOptions): Promise<void> {
    return this.#inner.delete(key, this.#with(options));
  }

  list(prefix: string, options?: ObjectOptions): AsyncIterable<ListedObject> {
    return this.#inner.list(prefix, this.#with(options));
  }

  [Symbol.asyncDispose](): PromiseLike<void> {
    return this.#inner[Symbol.asyncDispose]();
  }

  #with(options: ObjectOptions | undefined): ObjectOptions {
    return { signal: options?.signal ?? this.#signal };
  }
}
