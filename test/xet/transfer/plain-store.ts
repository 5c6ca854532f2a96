/**
 * A store in memory that does as little as the contract allows, counts what is asked of it, and can be told to
 * lie, fail or forget. What is put into it is checked by the slow way.
 */
import { Git2dbError } from '../../../src/xet/errors.ts';
import { formatHash } from '../../../src/xet/hash/xet-hash.ts';
import { Shard } from '../../../src/xet/shard/shard.ts';
import { validateShardForUpload } from '../../../src/xet/shard/validate.ts';
import type {
  CallOptions,
  ChunkRange,
  ChunkRun,
  RecordRun,
  Store,
  StoreFile,
  XorbUpload,
} from '../../../src/xet/store/store.ts';
import { validateXorb } from '../../../src/xet/xorb/chunk-range.ts';
import type { XorbFooter } from '../../../src/xet/xorb/format.ts';

export interface PlainXorb {
  readonly footer: XorbFooter;
  /** Records, without the footer. */
  bytes: Uint8Array;
}

/** What is done instead of, or to, an answer. Throwing is failing. */
export interface Faults {
  /** Before each call. */
  call?: (name: CallName) => void | Promise<void>;
  findFiles?: (files: (StoreFile | undefined)[]) => (StoreFile | undefined)[];
  findChunks?: (runs: ChunkRun[]) => ChunkRun[];
  readFooter?: (footer: XorbFooter | undefined) => XorbFooter | undefined;
  readRecords?: (run: RecordRun) => readonly RecordRun[];
  /** Told of each piece of a xorb that comes in. */
  piece?: (xorb: XorbUpload, received: number) => void;
}

export type CallName =
  | 'findFiles'
  | 'findChunks'
  | 'readFooter'
  | 'readRecords'
  | 'hasXorb'
  | 'putXorb'
  | 'putShard';

export class PlainStore implements Store {
  readonly place = 'plain store';
  readonly isReadOnly: boolean = false;
  readonly xorbs = new Map<string, PlainXorb>();
  readonly files = new Map<string, StoreFile>();
  faults: Faults = {};
  /** False: as a foreign CAS, which shows no chunk lists. */
  showsFooters = true;
  /** Chunks of a run of records at most. */
  runChunks = 64;
  readonly calls: Partial<Record<CallName, number>> = {};
  /** Bytes of records given and taken. */
  read = 0;
  written = 0;
  /** Chunks given, by xorb and number. */
  readonly given: string[] = [];

  forgetCounts(): void {
    for (const name of Object.keys(this.calls)) delete this.calls[name as CallName];
    this.read = 0;
    this.written = 0;
    this.given.length = 0;
  }

  async #call(name: CallName, options?: CallOptions): Promise<void> {
    options?.signal?.throwIfAborted();
    this.calls[name] = (this.calls[name] ?? 0) + 1;
    await this.faults.call?.(name);
  }

  async findFiles(hashes: readonly Uint8Array[], options?: CallOptions): Promise<(StoreFile | undefined)[]> {
    await this.#call('findFiles', options);
    const found = hashes.map((hash) => this.files.get(formatHash(hash)));
    return this.faults.findFiles?.(found) ?? found;
  }

  async findSha256s(sha256s: readonly string[]): Promise<(Uint8Array | undefined)[]> {
    return sha256s.map((sha256) => [...this.files.values()].find((file) => file.sha256 === sha256)?.fileHash);
  }

  async findChunks(hashes: Uint8Array, options?: CallOptions): Promise<ChunkRun[]> {
    await this.#call('findChunks', options);
    const places = new Map<string, { xorbHash: Uint8Array; index: number }>();
    for (const { footer } of this.xorbs.values()) {
      for (let i = 0; i < footer.count; i++)
        places.set(formatHash(footer.hashes, 32 * i), { xorbHash: footer.xorbHash, index: i });
    }
    const runs: { at: number; count: number; xorbHash: Uint8Array; start: number }[] = [];
    for (let at = 0; 32 * at < hashes.length; at++) {
      const place = places.get(formatHash(hashes, 32 * at));
      const last = runs.at(-1);
      if (place === undefined) continue;
      if (
        last !== undefined &&
        last.at + last.count === at &&
        last.xorbHash === place.xorbHash &&
        last.start + last.count === place.index
      )
        last.count++;
      else runs.push({ at, count: 1, xorbHash: place.xorbHash, start: place.index });
    }
    return this.faults.findChunks?.(runs) ?? runs;
  }

  async readFooter(xorbHash: Uint8Array, options?: CallOptions): Promise<XorbFooter | undefined> {
    await this.#call('readFooter', options);
    if (!this.showsFooters) return undefined;
    const footer = this.#xorb(xorbHash).footer;
    return this.faults.readFooter === undefined ? footer : this.faults.readFooter(footer);
  }

  async *readRecords(
    ranges: Iterable<ChunkRange> | AsyncIterable<ChunkRange>,
    options?: CallOptions,
  ): AsyncGenerator<RecordRun> {
    await this.#call('readRecords', options);
    // Looks one range ahead, as a store that merges ranges must.
    let held: ChunkRange | undefined;
    for await (const range of ranges) {
      if (held !== undefined) yield* this.#give(held, options);
      held = range;
    }
    if (held !== undefined) yield* this.#give(held, options);
  }

  *#give({ xorbHash, start, end }: ChunkRange, options?: CallOptions): Generator<RecordRun> {
    const { footer, bytes } = this.#xorb(xorbHash);
    for (let from = start; from < end; from += this.runChunks) {
      options?.signal?.throwIfAborted();
      const to = Math.min(end, from + this.runChunks);
      const run = {
        xorbHash,
        start: from,
        end: to,
        bytes: bytes.slice(footer.recordEnds[from - 1] ?? 0, footer.recordEnds[to - 1]),
      };
      this.read += run.bytes.length;
      for (let i = from; i < to; i++) this.given.push(`${formatHash(xorbHash)} ${i}`);
      yield* this.faults.readRecords?.(run) ?? [run];
    }
  }

  #xorb(xorbHash: Uint8Array): PlainXorb {
    const xorb = this.xorbs.get(formatHash(xorbHash));
    if (xorb !== undefined) return xorb;
    throw new Git2dbError('CONTENT_MISSING', `xorb ${formatHash(xorbHash)} is gone`);
  }

  async hasXorb(xorbHash: Uint8Array, options?: CallOptions): Promise<boolean> {
    await this.#call('hasXorb', options);
    return this.xorbs.has(formatHash(xorbHash));
  }

  async putXorb(xorb: XorbUpload, options?: CallOptions): Promise<boolean> {
    await this.#call('putXorb', options);
    const pieces: Uint8Array[] = [];
    let received = 0;
    for await (const piece of xorb.records()) {
      options?.signal?.throwIfAborted();
      pieces.push(new Uint8Array(piece));
      received += piece.length;
      this.written += piece.length;
      this.faults.piece?.(xorb, received);
    }
    const bytes = Buffer.concat(pieces);
    const valid = validateXorb(bytes, xorb.footer.xorbHash);
    const name = formatHash(valid.xorbHash);
    if (this.xorbs.has(name)) return false;
    this.xorbs.set(name, { footer: valid, bytes });
    return true;
  }

  async putShard(bytes: Uint8Array, options?: CallOptions): Promise<boolean> {
    await this.#call('putShard', options);
    const shard = Shard.openUpload(new Uint8Array(bytes));
    for (const { terms } of shard.files()) {
      for (const { xorbHash } of terms) this.#xorb(xorbHash);
    }
    try {
      validateShardForUpload(shard, (hash) => {
        const footer = this.xorbs.get(formatHash(hash))?.footer;
        return (
          footer && {
            hashes: footer.hashes,
            lengths: footer.rawEnds.map((end, i) => end - (footer.rawEnds[i - 1] ?? 0)),
          }
        );
      });
    } catch (error) {
      throw new Git2dbError('REMOTE_INVALID', (error as Error).message, { cause: error });
    }
    let isNew = false;
    for (const file of shard.files()) {
      const name = formatHash(file.fileHash);
      const known = this.files.get(name);
      isNew ||= known === undefined;
      const size = file.terms.reduce((sum, term) => sum + term.rawBytes, 0);
      this.files.set(name, { ...file, size });
    }
    return isNew;
  }

  async [Symbol.asyncDispose](): Promise<void> {}
}
