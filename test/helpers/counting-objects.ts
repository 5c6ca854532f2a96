/** Objects that count what is asked of them, and can be told to fail or wait. */
import type {
  ListedObject,
  ObjectBody,
  ObjectHead,
  ObjectOptions,
  ObjectPart,
  ObjectStore,
  WholeOptions,
} from '../../src/xet/objects/objects.ts';

export interface ObjectCall {
  readonly name: 'head' | 'read' | 'readTail' | 'readWhole' | 'putIfAbsent' | 'replace' | 'delete' | 'list';
  readonly key: string;
}

export class CountingObjects implements ObjectStore {
  readonly inner: ObjectStore;
  readonly place: string;
  isReadOnly: boolean;
  canList: boolean;
  readonly calls: ObjectCall[] = [];
  bytesRead = 0;
  /** Before each call; throwing fails it. */
  before: (call: ObjectCall) => void | Promise<void> = () => {};

  constructor(inner: ObjectStore) {
    this.inner = inner;
    this.place = inner.place;
    this.isReadOnly = inner.isReadOnly;
    this.canList = inner.canList;
  }

  forget(): void {
    this.calls.length = 0;
    this.bytesRead = 0;
  }

  async #call<T>(name: ObjectCall['name'], key: string, action: () => Promise<T>): Promise<T> {
    this.calls.push({ name, key });
    await this.before({ name, key });
    return action();
  }

  #read<T extends ObjectPart | 'unchanged' | undefined>(part: T): T {
    if (part !== undefined && part !== 'unchanged') this.bytesRead += part.bytes.length;
    return part;
  }

  head(key: string, options?: ObjectOptions): Promise<ObjectHead | undefined> {
    return this.#call('head', key, () => this.inner.head(key, options));
  }

  async read(
    key: string,
    start: number,
    end: number,
    options?: ObjectOptions,
  ): Promise<ObjectPart | undefined> {
    return this.#read(await this.#call('read', key, () => this.inner.read(key, start, end, options)));
  }

  async readTail(key: string, length: number, options?: ObjectOptions): Promise<ObjectPart | undefined> {
    return this.#read(await this.#call('readTail', key, () => this.inner.readTail(key, length, options)));
  }

  async readWhole(key: string, options: WholeOptions): Promise<ObjectPart | 'unchanged' | undefined> {
    return this.#read(await this.#call('readWhole', key, () => this.inner.readWhole(key, options)));
  }

  putIfAbsent(key: string, body: ObjectBody, options?: ObjectOptions): Promise<boolean> {
    return this.#call('putIfAbsent', key, () => this.inner.putIfAbsent(key, body, options));
  }

  replace(
    key: string,
    body: ObjectBody,
    etag: string | undefined,
    options?: ObjectOptions,
  ): Promise<string | undefined> {
    return this.#call('replace', key, () => this.inner.replace(key, body, etag, options));
  }

  delete(key: string, options?: ObjectOptions): Promise<void> {
    return this.#call('delete', key, () => this.inner.delete(key, options));
  }

  async *list(prefix: string, options?: ObjectOptions): AsyncGenerator<ListedObject> {
    this.calls.push({ name: 'list', key: prefix });
    await this.before({ name: 'list', key: prefix });
    yield* this.inner.list(prefix, options);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.inner[Symbol.asyncDispose]();
  }
}
