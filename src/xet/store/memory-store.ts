/**
 * A store in memory: the contract of `ServableStore` in its shortest form, for tests and for what need not last.
 * Everything that is put is checked in full.
 */

import { formatHash, HASH_SIZE } from '../hash/xet-hash.ts';
import type { FileRecord } from '../shard/file-info.ts';
import { Shard } from '../shard/shard.ts';
import { validateXorb } from '../xorb/chunk-range.ts';
import type { XorbFooter } from '../xorb/format.ts';
import { throwIfAborted } from './aborted.ts';
import type { ChunkPlace } from './catalog-table.ts';
import { findRuns } from './find-runs.ts';
import { missingXorb } from './footers.ts';
import { planRuns, type Ranges, readAhead } from './record-runs.ts';
import { acceptShard, readIncomingShard, xorbsMissing } from './shard-intake.ts';
import type { CallOptions, ChunkRun, RecordRun, ServableStore, StoreFile, XorbUpload } from './store.ts';
import { checkedFooter, checkedRecords } from './xorb-intake.ts';

interface KeptXorb {
  readonly footer: XorbFooter;
  /** Records and footer. */
  readonly bytes: Uint8Array;
}

const READ_AHEAD_BYTES = 16 << 20;
const PIECE = 1 << 18;

export class MemoryStore implements ServableStore {
  readonly place = 'memory';
  readonly isReadOnly = false;
  readonly #xorbs = new Map<string, KeptXorb>();
  readonly #files = new Map<string, StoreFile>();
  readonly #sha256s = new Map<string, Uint8Array>();
  /** Of chunks in registered xorbs; older first. */
  readonly #chunks = new Map<string, ChunkPlace[]>();
  readonly #registered = new Set<string>();

  async findFiles(hashes: readonly Uint8Array[], options?: CallOptions): Promise<(StoreFile | undefined)[]> {
    throwIfAborted(options?.signal);
    return hashes.map((hash) => this.#files.get(formatHash(hash)));
  }

  async findSha256s(sha256s: readonly string[], options?: CallOptions): Promise<(Uint8Array | undefined)[]> {
    throwIfAborted(options?.signal);
    return sha256s.map((sha256) => this.#sha256s.get(sha256)?.slice());
  }

  async findChunks(hashes: Uint8Array, options?: CallOptions): Promise<ChunkRun[]> {
    return findRuns(
      hashes,
      {
        find: (offset) => (this.#chunks.get(formatHash(hashes, offset)) ?? []).toReversed(),
        open: (xorbHash) => this.#xorbs.get(formatHash(xorbHash))?.footer,
      },
      options?.signal,
    );
  }

  async readFooter(xorbHash: Uint8Array, options?: CallOptions): Promise<XorbFooter> {
    throwIfAborted(options?.signal);
    return this.#xorb(xorbHash).footer;
  }

  readRecords(ranges: Ranges, options?: CallOptions): AsyncIterable<RecordRun> {
    const runs = planRuns(ranges, { footerOf: (xorbHash) => this.#xorb(xorbHash).footer, gapBytes: 0 });
    return readAhead(runs, {
      read: async ({ xorbHash, byteStart, byteEnd }) =>
        new Uint8Array(this.#xorb(xorbHash).bytes.subarray(byteStart, byteEnd)),
      maxBytes: READ_AHEAD_BYTES,
      maxReads: () => 2,
      signal: options?.signal,
    });
  }

  async hasXorb(xorbHash: Uint8Array, options?: CallOptions): Promise<boolean> {
    throwIfAborted(options?.signal);
    return this.#xorbs.has(formatHash(xorbHash));
  }

  async putXorb(upload: XorbUpload, options?: CallOptions): Promise<boolean> {
    throwIfAborted(options?.signal);
    const name = formatHash(upload.footer.xorbHash);
    const tail = checkedFooter(upload.footer);
    if (this.#xorbs.has(name)) return false;
    const pieces: Uint8Array[] = [];
    for await (const piece of checkedRecords(upload, tail)) {
      throwIfAborted(options?.signal);
      pieces.push(new Uint8Array(piece));
    }
    const bytes = Buffer.concat(pieces);
    const { xorbHash, count, hashes, recordEnds, rawEnds } = validateXorb(bytes, upload.footer.xorbHash);
    // Another one may have come first meanwhile.
    if (this.#xorbs.has(name)) return false;
    this.#xorbs.set(name, { footer: { xorbHash, count, hashes, recordEnds, rawEnds }, bytes });
    return true;
  }

  async putShard(bytes: Uint8Array, options?: CallOptions): Promise<boolean> {
    throwIfAborted(options?.signal);
    const incoming = readIncomingShard(bytes);
    const footers = new Map<string, XorbFooter>();
    for (const name of incoming.needed.keys()) {
      const xorb = this.#xorbs.get(name);
      if (xorb !== undefined) footers.set(name, xorb.footer);
    }
    const missing = [...incoming.needed.keys()].filter((name) => !footers.has(name));
    if (missing.length > 0) throw xorbsMissing(missing, this.place);
    const shard = Shard.open(acceptShard(incoming, footers, 0).bytes);
    let isNew = false;
    for (const file of shard.files()) isNew = this.#addFile(file) || isNew;
    for (const { xorbHash } of shard.xorbs()) isNew = this.#register(formatHash(xorbHash)) || isNew;
    return isNew;
  }

  async xorbSize(xorbHash: Uint8Array, options?: CallOptions): Promise<number | undefined> {
    throwIfAborted(options?.signal);
    return this.#xorbs.get(formatHash(xorbHash))?.bytes.length;
  }

  async *readXorb(
    xorbHash: Uint8Array,
    start: number,
    end: number,
    options?: CallOptions,
  ): AsyncGenerator<Uint8Array> {
    const { bytes } = this.#xorb(xorbHash);
    for (let at = start; at < Math.min(end, bytes.length); at += PIECE) {
      throwIfAborted(options?.signal);
      yield new Uint8Array(bytes.subarray(at, Math.min(end, at + PIECE)));
    }
  }

  async findXorbsOfChunk(chunkHash: Uint8Array, options?: CallOptions): Promise<XorbFooter[]> {
    throwIfAborted(options?.signal);
    const having = (this.#chunks.get(formatHash(chunkHash)) ?? []).map(({ xorb }) => formatHash(xorb));
    const names = new Set(having.toReversed());
    for (const { terms } of this.#files.values()) {
      const used = terms.map(({ xorbHash }) => formatHash(xorbHash));
      if (used.some((name) => having.includes(name))) for (const name of used) names.add(name);
    }
    return [...names].flatMap((name) => this.#xorbs.get(name)?.footer ?? []);
  }

  async [Symbol.asyncDispose](): Promise<void> {}

  /** False if the file was known, and its SHA-256 too. */
  #addFile({ fileHash, terms, verification = [], sha256 }: FileRecord): boolean {
    const name = formatHash(fileHash);
    const known = this.#files.get(name);
    const isNew = known === undefined || (sha256 !== undefined && known.sha256 !== sha256);
    if (!isNew) return false;
    const size = terms.reduce((sum, { rawBytes }) => sum + rawBytes, 0);
    const sha = sha256 ?? known?.sha256;
    this.#files.set(name, {
      fileHash,
      terms,
      verification,
      size,
      ...(sha !== undefined && { sha256: sha }),
    });
    // The first who claims a SHA-256 keeps it.
    if (sha256 !== undefined && !this.#sha256s.has(sha256)) this.#sha256s.set(sha256, fileHash);
    return true;
  }

  #register(name: string): boolean {
    const footer = this.#xorbs.get(name)?.footer;
    if (footer === undefined || this.#registered.has(name)) return false;
    this.#registered.add(name);
    for (let index = 0; index < footer.count; index++) {
      const chunk = formatHash(footer.hashes, HASH_SIZE * index);
      const place = { xorb: Buffer.from(footer.xorbHash), index };
      const places = this.#chunks.get(chunk);
      if (places === undefined) this.#chunks.set(chunk, [place]);
      else places.push(place);
    }
    return true;
  }

  #xorb(xorbHash: Uint8Array): KeptXorb {
    const name = formatHash(xorbHash);
    const xorb = this.#xorbs.get(name);
    if (xorb === undefined) throw missingXorb(name, this.place);
    return xorb;
  }
}
