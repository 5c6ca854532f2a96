/**
 * Parts of immutable objects (catalog tables, shards), read by ranges and kept in blocks of 64 KiB. Looking
 * something up in them is ordinary synchronous code: what it needs and is not here makes it fail with NotCached,
 * is fetched, and it runs again. All look-ups of one question fail before anything is fetched, so that what is
 * needed comes in few requests.
 */

import { Git2dbError } from '../errors.ts';
import type { ObjectStore } from '../objects/objects.ts';
import { throwIfAborted } from './aborted.ts';

const BLOCK = 65536;
/** Bytes of one request at most. */
const MAX_FETCH = 4 << 20;
/** Blocks between two that are needed, which come along for the price of no second request. */
const MAX_GAP = 1;
const PARALLEL = 8;
/** Bytes fetched before the question is asked again: they must all still be there. */
const MAX_ROUND = 16 << 20;
/** A question that needs more rounds than this goes in circles. */
const MAX_ROUNDS = 10_000;

/** Bytes [start, end) of `key` are needed. */
export class NotCached extends Error {
  readonly key: string;
  readonly start: number;
  readonly end: number;

  constructor(key: string, start: number, end: number) {
    super(`${key} is not cached`);
    this.key = key;
    this.start = start;
    this.end = end;
  }
}

/** The object is not there any more. */
export class ObjectGone extends Error {
  readonly key: string;

  constructor(key: string) {
    super(`${key} is gone`);
    this.key = key;
  }
}

interface CachedObject {
  readonly size: number;
  readonly blocks: Map<number, Buffer>;
}

interface Span {
  readonly key: string;
  /** Numbers of blocks, [first, end). */
  readonly first: number;
  end: number;
}

export class ObjectCache {
  readonly #objects: ObjectStore;
  readonly #maxBytes: number;
  readonly #known = new Map<string, CachedObject>();
  readonly #gone = new Set<string>();
  /** Blocks in the order of their use: `<block> <key>`. */
  readonly #used = new Map<string, number>();
  #bytes = 0;
  readonly #fetching = new Map<string, Promise<void>>();

  constructor(objects: ObjectStore, maxBytes: number) {
    this.#objects = objects;
    this.#maxBytes = maxBytes;
  }

  /** Throws NotCached, or ObjectGone. */
  size(key: string): number {
    return this.#object(key).size;
  }

  /**
   * Bytes [start, end), which must lie within the object; not to be written to, and not to be kept: they hold on
   * to a whole block. Throws NotCached, or ObjectGone.
   */
  read(key: string, start: number, end: number): Buffer {
    const { blocks } = this.#object(key, start, end);
    const first = Math.floor(start / BLOCK);
    const last = Math.max(first, Math.ceil(end / BLOCK) - 1);
    if (first === last) {
      const block = this.#block(key, blocks, first);
      if (block === undefined) throw new NotCached(key, start, end);
      return block.subarray(start - first * BLOCK, end - first * BLOCK);
    }
    const parts: Buffer[] = [];
    for (let number = first; number <= last; number++) {
      const block = this.#block(key, blocks, number);
      if (block === undefined) throw new NotCached(key, start, end);
      parts.push(block);
    }
    const bytes = Buffer.concat(parts);
    return bytes.subarray(start - first * BLOCK, end - first * BLOCK);
  }

  /** Forgets an object that was found to be damaged, or is not needed any more. */
  forget(key: string): void {
    for (const number of this.#known.get(key)?.blocks.keys() ?? []) this.#drop(key, number);
    this.#known.delete(key);
    this.#gone.delete(key);
  }

  /** Objects that were not there may have come. */
  forgetGone(): void {
    this.#gone.clear();
  }

  /**
   * Answers for the numbers below `count`. `question` runs until it needs nothing that is not here; what it throws
   * ends this, but NotCached.
   */
  async resolve<T>(count: number, question: (i: number) => T, signal?: AbortSignal): Promise<T[]> {
    const answers = new Array<T>(count);
    let open = Array.from({ length: count }, (_, i) => i);
    for (let round = 0; open.length > 0; round++) {
      throwIfAborted(signal);
      const misses: NotCached[] = [];
      const left: number[] = [];
      let missing = 0;
      for (const i of open) {
        if (missing >= MAX_ROUND) {
          left.push(i);
          continue;
        }
        try {
          answers[i] = question(i);
        } catch (error) {
          if (!(error instanceof NotCached)) throw error;
          const last = misses.at(-1);
          const isNear = last?.key === error.key && blockOf(last.start) === blockOf(error.start);
          if (!isNear) missing += Math.max(BLOCK, error.end - error.start);
          if (!isNear || error.end > last.end) misses.push(error);
          left.push(i);
        }
      }
      if (misses.length > 0) await this.#fetch(misses, signal);
      if (round === MAX_ROUNDS) {
        throw new Git2dbError(
          'REMOTE_INVALID',
          `${this.#objects.place}: looking something up comes to no end`,
        );
      }
      open = left;
    }
    return answers;
  }

  /** One answer. */
  async ask<T>(question: () => T, signal?: AbortSignal): Promise<T> {
    const [answer] = await this.resolve(1, question, signal);
    return answer as T;
  }

  async #fetch(misses: readonly NotCached[], signal: AbortSignal | undefined): Promise<void> {
    const spans = this.#plan(misses);
    const waits: Promise<void>[] = [];
    const own: Span[] = [];
    for (const span of spans) {
      // What others fetch already is waited for.
      const under = this.#fetching.get(nameOf(span));
      if (under === undefined) own.push(span);
      else waits.push(under);
    }
    const queue = own.values();
    const work = async () => {
      for (const span of queue) {
        const name = nameOf(span);
        // Not by this caller's signal: others may wait for it.
        const fetching = this.#fetchSpan(span).finally(() => this.#fetching.delete(name));
        this.#fetching.set(name, fetching);
        await fetching;
        throwIfAborted(signal);
      }
    };
    waits.push(...Array.from({ length: PARALLEL }, work));
    const failed = (await Promise.allSettled(waits)).find((result) => result.status === 'rejected');
    if (failed !== undefined) throw failed.reason;
  }

  /** Spans of blocks, in the order of keys and offsets, not longer than a request may be. */
  #plan(misses: readonly NotCached[]): Span[] {
    const wanted = new Map<string, Set<number>>();
    for (const { key, start, end } of misses) {
      const numbers = wanted.get(key) ?? new Set();
      wanted.set(key, numbers);
      const blocks = this.#known.get(key)?.blocks;
      for (let number = blockOf(start); number * BLOCK < Math.max(end, start + 1); number++) {
        if (blocks?.has(number) !== true) numbers.add(number);
      }
    }
    const spans: Span[] = [];
    for (const [key, numbers] of wanted) {
      let open: Span | undefined;
      for (const number of [...numbers].sort((a, b) => a - b)) {
        const isNear = open !== undefined && number - open.end <= MAX_GAP;
        if (open !== undefined && isNear && (number + 1 - open.first) * BLOCK <= MAX_FETCH)
          open.end = number + 1;
        else {
          open = { key, first: number, end: number + 1 };
          spans.push(open);
        }
      }
    }
    return spans;
  }

  async #fetchSpan({ key, first, end }: Span): Promise<void> {
    const part = await this.#objects.read(key, first * BLOCK, end * BLOCK);
    if (part === undefined) {
      this.#known.delete(key);
      this.#gone.add(key);
      return;
    }
    let known = this.#known.get(key);
    if (known !== undefined && known.size !== part.size) {
      throw new Git2dbError(
        'REMOTE_INVALID',
        `${this.#objects.place}/${key} has ${part.size} bytes, and had ${known.size}; what is there under such a name never changes`,
      );
    }
    if (known === undefined) {
      known = { size: part.size, blocks: new Map() };
      this.#known.set(key, known);
    }
    const expected = Math.max(0, Math.min(end * BLOCK, part.size) - first * BLOCK);
    if (part.bytes.length !== expected) {
      throw new Git2dbError(
        'REMOTE_INVALID',
        `${this.#objects.place}/${key}: ${part.bytes.length} bytes came where ${expected} were asked for`,
      );
    }
    for (let number = first; number < end && (number === first || number * BLOCK < part.size); number++) {
      const at = (number - first) * BLOCK;
      // A copy: a block must not hold on to what came with it.
      const block = Buffer.from(part.bytes.subarray(at, at + BLOCK));
      if (known.blocks.has(number)) continue;
      known.blocks.set(number, block);
      this.#used.set(`${number} ${key}`, block.length);
      this.#bytes += block.length;
    }
    for (const [name] of this.#used) {
      if (this.#bytes <= this.#maxBytes) break;
      const space = name.indexOf(' ');
      this.#drop(name.slice(space + 1), Number(name.slice(0, space)));
    }
  }

  #object(key: string, start = 0, end = 1): CachedObject {
    const known = this.#known.get(key);
    if (known !== undefined) {
      if (end > known.size && end > 1)
        throw new RangeError(`[${start}, ${end}) of ${key}, which has ${known.size}`);
      return known;
    }
    if (this.#gone.has(key)) throw new ObjectGone(key);
    throw new NotCached(key, start, end);
  }

  #block(key: string, blocks: Map<number, Buffer>, number: number): Buffer | undefined {
    const block = blocks.get(number);
    if (block === undefined) return undefined;
    const name = `${number} ${key}`;
    this.#used.delete(name);
    this.#used.set(name, block.length);
    return block;
  }

  #drop(key: string, number: number): void {
    const name = `${number} ${key}`;
    this.#bytes -= this.#used.get(name) ?? 0;
    this.#used.delete(name);
    this.#known.get(key)?.blocks.delete(number);
  }
}

function blockOf(offset: number): number {
  return Math.floor(offset / BLOCK);
}

function nameOf({ key, first, end }: Span): string {
  return `${first} ${end} ${key}`;
}
