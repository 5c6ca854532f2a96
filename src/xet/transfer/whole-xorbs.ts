/**
 * Xorbs of which all is wanted, fetched as they are: each in one stream into a file of its own, every chunk hashed
 * as it comes, and published under its own name. That is less work than to take it to pieces and to pack these
 * anew, and both stores have the same xorb afterwards.
 */
import { existsSync, mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { FormatError, Git2dbError } from '../errors.ts';
import { formatHash } from '../hash/xet-hash.ts';
import type { LocalStore } from '../store/local-store.ts';
import { type Fsync, hasUsableXorb, publishFile } from '../store/publish.ts';
import type { Store } from '../store/store.ts';
import { StreamedFile } from '../store/streamed-file.ts';
import { unwritable } from '../store/unwritable.ts';
import type { StoreWriter } from '../store/writer.ts';
import { rawBytesBetween } from '../xorb/ends.ts';
import { encodeFooter, type XorbFooter } from '../xorb/format.ts';
import { XorbCheck } from '../xorb/stream-check.ts';
import { throwIfAborted } from './abort.ts';
import { StreamLimit } from './stream-limit.ts';

/** Where a chunk is that came with a whole xorb. */
export interface WholePlace {
  readonly xorbHash: Uint8Array;
  readonly index: number;
  readonly rawLength: number;
}

export interface WholeXorbsOptions {
  readonly fsync: Fsync | undefined;
  readonly signal: AbortSignal | undefined;
  /** Told of bytes that came. */
  readonly onBytes: (bytes: number) => void;
}

/** A store that gives whole xorbs in one stream. */
export type WholeStore = Store & Required<Pick<Store, 'readWholeXorb'>>;

export function givesWhole(store: Store): store is WholeStore {
  return store.readWholeXorb !== undefined;
}

export class WholeXorbs {
  readonly #local: LocalStore;
  readonly #remote: WholeStore;
  readonly #writer: StoreWriter;
  readonly #options: WholeXorbsOptions;
  readonly #limit = new StreamLimit();
  readonly #stop = new AbortController();
  readonly #onAbort = () => this.#stop.abort(this.#options.signal?.reason);
  /** By the names of the xorbs. */
  readonly #coming = new Map<string, Promise<void>>();
  /** Beginnings of chunk hashes, as chunk lists that came use them. */
  readonly #places = new Map<string, WholePlace>();

  constructor(local: LocalStore, remote: WholeStore, writer: StoreWriter, options: WholeXorbsOptions) {
    this.#local = local;
    this.#remote = remote;
    this.#writer = writer;
    this.#options = options;
    options.signal?.addEventListener('abort', this.#onAbort, { once: true });
  }

  /** It is going to be taken: begins as soon as there is room. */
  expect(footer: XorbFooter): void {
    const name = formatHash(footer.xorbHash);
    if (this.#coming.has(name)) return;
    const coming = this.#bring(footer);
    // Whoever takes it is told.
    coming.catch(() => {});
    this.#coming.set(name, coming);
  }

  /**
   * Resolves when the xorb is one of this store, for the writer to refer to. Throws CONTENT_DAMAGED,
   * CONTENT_MISSING, STORE_UNWRITABLE and what the network throws.
   */
  async take(footer: XorbFooter): Promise<void> {
    this.expect(footer);
    await this.#coming.get(formatHash(footer.xorbHash));
  }

  /** Where a chunk is that was taken. */
  find(hashes: Uint8Array, offset: number): WholePlace | undefined {
    return this.#places.get(keyOf(hashes, offset));
  }

  /** Ends what nobody has taken. */
  async close(): Promise<void> {
    this.#options.signal?.removeEventListener('abort', this.#onAbort);
    this.#stop.abort();
    await Promise.allSettled(this.#coming.values());
  }

  async #bring(footer: XorbFooter): Promise<void> {
    await this.#limit.acquire();
    let bytes = 0;
    let failed = false;
    try {
      throwIfAborted(this.#stop.signal);
      bytes = await this.#fetch(footer);
      this.#remember(footer);
    } catch (error) {
      failed = error instanceof Git2dbError && error.code === 'NETWORK';
      throw unwritable(this.#local.root, error);
    } finally {
      this.#limit.release(bytes, failed);
    }
  }

  /** Bytes that were written. */
  async #fetch(footer: XorbFooter): Promise<number> {
    const name = formatHash(footer.xorbHash);
    const { layout } = this.#local;
    const temporary = join(this.#writer.directory, `whole-${name}`);
    const file = await open(temporary, 'wx', 0o666);
    const streamed = new StreamedFile(file, this.#options.fsync);
    try {
      await this.#receive(footer, streamed);
      await streamed.finish();
      // Its chunk boundaries are whoever's; the mark comes before the xorb.
      mkdirSync(layout.irregular, { recursive: true });
      writeFileSync(join(layout.irregular, name), '');
      const target = layout.xorb(name);
      mkdirSync(dirname(target), { recursive: true });
      if (!existsSync(target) || !hasUsableXorb(layout, target, footer.xorbHash)) {
        publishFile(temporary, target, this.#options.fsync);
      }
      this.#writer.adopt(footer.xorbHash);
      return streamed.size;
    } finally {
      await streamed.settle();
      await file.close();
      rmSync(temporary, { force: true });
    }
  }

  async #receive(footer: XorbFooter, file: StreamedFile): Promise<void> {
    const check = new XorbCheck((records) => file.write(records));
    try {
      await this.#remote.readWholeXorb(
        footer,
        (piece) => {
          this.#options.onBytes(piece.length);
          return check.push(piece);
        },
        { signal: this.#stop.signal },
      );
      await file.write(encodeFooter(await check.finish(footer.xorbHash)));
    } catch (error) {
      if (!(error instanceof FormatError) && !isLimit(error)) throw error;
      const name = formatHash(footer.xorbHash);
      throw new Git2dbError(
        'CONTENT_DAMAGED',
        `xorb ${name} is damaged in ${this.#remote.place}, or was on its way: ${(error as Error).message}`,
        { cause: error, data: { xorb: name } },
      );
    } finally {
      await check.settle();
    }
  }

  #remember(footer: XorbFooter): void {
    const { xorbHash, count, hashes } = footer;
    for (let index = 0; index < count; index++) {
      const rawLength = rawBytesBetween(footer, index, index + 1);
      this.#places.set(keyOf(hashes, 32 * index), { xorbHash, index, rawLength });
    }
  }
}

function isLimit(error: unknown): boolean {
  return error instanceof Git2dbError && error.code === 'LIMIT_EXCEEDED';
}

/** Half a hash, as the planner keeps it. */
function keyOf(hashes: Uint8Array, offset: number): string {
  return Buffer.prototype.latin1Slice.call(hashes, offset, offset + 16);
}
