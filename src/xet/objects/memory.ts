/** Objects in memory: the contract in its shortest form. */

import { createHash } from 'node:crypto';
import { throwIfAborted } from '../store/aborted.ts';
import {
  collectBody,
  type ListedObject,
  type ObjectBody,
  type ObjectHead,
  type ObjectOptions,
  type ObjectPart,
  type ObjectStore,
  tooLong,
  type WholeOptions,
} from './objects.ts';

interface Kept {
  readonly bytes: Buffer;
  readonly etag: string;
  readonly modifiedMs: number;
}

export class MemoryObjects implements ObjectStore {
  readonly place: string = 'memory';
  readonly isReadOnly: boolean = false;
  readonly canList: boolean = true;
  readonly #objects = new Map<string, Kept>();

  async head(key: string, options?: ObjectOptions): Promise<ObjectHead | undefined> {
    throwIfAborted(options?.signal);
    const kept = this.#objects.get(key);
    return kept && { size: kept.bytes.length, etag: kept.etag };
  }

  async read(
    key: string,
    start: number,
    end: number,
    options?: ObjectOptions,
  ): Promise<ObjectPart | undefined> {
    throwIfAborted(options?.signal);
    const kept = this.#objects.get(key);
    return kept && partOf(kept, start, end);
  }

  async readTail(key: string, length: number, options?: ObjectOptions): Promise<ObjectPart | undefined> {
    throwIfAborted(options?.signal);
    const kept = this.#objects.get(key);
    return kept && partOf(kept, Math.max(0, kept.bytes.length - length), kept.bytes.length);
  }

  async readWhole(key: string, options: WholeOptions): Promise<ObjectPart | 'unchanged' | undefined> {
    throwIfAborted(options.signal);
    const kept = this.#objects.get(key);
    if (kept === undefined) return undefined;
    if (kept.etag === options.unless) return 'unchanged';
    if (kept.bytes.length > options.limit) throw tooLong(`${this.place}/${key}`, options.limit);
    return partOf(kept, 0, kept.bytes.length);
  }

  async putIfAbsent(key: string, body: ObjectBody, options?: ObjectOptions): Promise<boolean> {
    return (await this.replace(key, body, undefined, options)) !== undefined;
  }

  async replace(
    key: string,
    body: ObjectBody,
    etag: string | undefined,
    options?: ObjectOptions,
  ): Promise<string | undefined> {
    throwIfAborted(options?.signal);
    const bytes = await collectBody(body, options?.signal);
    if (this.#objects.get(key)?.etag !== etag) return undefined;
    const kept = { bytes, etag: createHash('md5').update(bytes).digest('hex'), modifiedMs: Date.now() };
    this.#objects.set(key, kept);
    return kept.etag;
  }

  async delete(key: string, options?: ObjectOptions): Promise<void> {
    throwIfAborted(options?.signal);
    this.#objects.delete(key);
  }

  async *list(prefix: string, options?: ObjectOptions): AsyncGenerator<ListedObject> {
    for (const [key, { bytes, modifiedMs }] of [...this.#objects]) {
      throwIfAborted(options?.signal);
      if (key.startsWith(prefix)) yield { key, size: bytes.length, modifiedMs };
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {}
}

function partOf({ bytes, etag }: Kept, start: number, end: number): ObjectPart {
  return { bytes: Buffer.from(bytes.subarray(start, end)), size: bytes.length, etag };
}
