/** Objects of another store, where something is to be done about every request. */
import type {
  ListedObject,
  ObjectBody,
  ObjectHead,
  ObjectOptions,
  ObjectPart,
  ObjectStore,
  WholeOptions,
} from './objects.ts';

/** What is asked: of an object, or of the prefix of a list. */
export interface ObjectCall {
  readonly name: 'head' | 'read' | 'readTail' | 'readWhole' | 'putIfAbsent' | 'replace' | 'delete' | 'list';
  readonly key: string;
}

export abstract class ForwardedObjects implements ObjectStore {
  readonly inner: ObjectStore;
  readonly place: string;
  isReadOnly: boolean;
  canList: boolean;

  /** Takes `inner` over. */
  constructor(inner: ObjectStore) {
    this.inner = inner;
    this.place = inner.place;
    this.isReadOnly = inner.isReadOnly;
    this.canList = inner.canList;
  }

  /** Every request: `action` puts it to the other store, with the options that it is given. */
  protected abstract ask<T>(
    call: ObjectCall,
    options: ObjectOptions | undefined,
    action: (options: ObjectOptions | undefined) => Promise<T>,
  ): Promise<T>;

  head(key: string, options?: ObjectOptions): Promise<ObjectHead | undefined> {
    return this.ask({ name: 'head', key }, options, (asked) => this.inner.head(key, asked));
  }

  read(key: string, start: number, end: number, options?: ObjectOptions): Promise<ObjectPart | undefined> {
    return this.ask({ name: 'read', key }, options, (asked) => this.inner.read(key, start, end, asked));
  }

  readTail(key: string, length: number, options?: ObjectOptions): Promise<ObjectPart | undefined> {
    return this.ask({ name: 'readTail', key }, options, (asked) => this.inner.readTail(key, length, asked));
  }

  readWhole(key: string, options: WholeOptions): Promise<ObjectPart | 'unchanged' | undefined> {
    return this.ask({ name: 'readWhole', key }, options, (asked) =>
      this.inner.readWhole(key, { ...options, ...asked }),
    );
  }

  putIfAbsent(key: string, body: ObjectBody, options?: ObjectOptions): Promise<boolean> {
    return this.ask({ name: 'putIfAbsent', key }, options, (asked) =>
      this.inner.putIfAbsent(key, body, asked),
    );
  }

  replace(
    key: string,
    body: ObjectBody,
    etag: string | undefined,
    options?: ObjectOptions,
  ): Promise<string | undefined> {
    return this.ask({ name: 'replace', key }, options, (asked) => this.inner.replace(key, body, etag, asked));
  }

  delete(key: string, options?: ObjectOptions): Promise<void> {
    return this.ask({ name: 'delete', key }, options, (asked) => this.inner.delete(key, asked));
  }

  async *list(prefix: string, options?: ObjectOptions): AsyncGenerator<ListedObject> {
    const call = { name: 'list', key: prefix } as const;
    yield* await this.ask(call, options, async (asked) => this.inner.list(prefix, asked));
  }

  [Symbol.asyncDispose](): PromiseLike<void> {
    return this.inner[Symbol.asyncDispose]();
  }
}
