/**
 * A CAS service over HTTP as a Store (Xet protocol, "CAS API"): any of them by the standard protocol, git2db's own
 * server with fewer and larger questions (docs/format/cas-extensions.md).
 */
import { Git2dbError } from '../errors.ts';
import { formatHash, HASH_SIZE, isHashString, isZeroHash } from '../hash/xet-hash.ts';
import { mapParallel } from '../map-parallel.ts';
import type { FileRecord } from '../shard/file-info.ts';
import { MAX_SHARD_UPLOAD } from '../shard/format.ts';
import { Shard } from '../shard/shard.ts';
import type {
  CallOptions,
  ChunkRange,
  ChunkRun,
  RecordRun,
  Store,
  StoreFile,
  XorbUpload,
} from '../store/store.ts';
import type { XorbFooter } from '../xorb/format.ts';
import { untilAborted } from './abort.ts';
import { DedupQueries } from './dedup-queries.ts';
import { type CasAccess, FooterPlaces } from './footer-places.ts';
import type { HttpClient } from './http.ts';
import { nameUrl, statusOf } from './http-error.ts';
import {
  decodeChunkRuns,
  encodeHashes,
  isServerAnswer,
  MAX_CHUNKS_ASKED,
  MAX_SHA256S_ASKED,
  maxRunBytes,
  ROUTES,
} from './protocol.ts';
import { ReconstructionPlaces } from './reconstruction-places.ts';
import { readRecords } from './record-reader.ts';
import { type Clock, SYSTEM_CLOCK } from './retry.ts';
import { uploadShard } from './shard-upload.ts';
import type { TokenSource } from './token.ts';
import { readWholeXorb } from './whole-xorb.ts';
import { uploadXorb } from './xorb-upload.ts';

export interface CasOptions {
  readonly http: HttpClient;
  /** Base of the CAS: `https://host/path`. */
  readonly casUrl: string;
  /** For the authority of `casUrl`; undefined: nobody in particular. */
  readonly token?: TokenSource | undefined;
  /** Default false. */
  readonly isReadOnly?: boolean;
  /** Default false: whoever opened `http` closes it. */
  readonly closesHttp?: boolean;
  readonly clock?: Clock;
}

/** Files in one question: an answer has a few hundred bytes for each, and for a huge file far more. */
const FILES_ASKED = 2048;
const MAX_FILES_ANSWER = 128 << 20;
const PARALLEL_FILES = 16;
const MAX_SMALL_ANSWER = 65536;

/** What the server can do, and what reads from it accordingly. */
interface Abilities {
  /** Undefined: no extensions. */
  readonly footers: FooterPlaces | undefined;
  readonly reconstructions: ReconstructionPlaces;
  readonly dedup: DedupQueries;
}

export class CasStore implements Store {
  readonly place: string;
  readonly isReadOnly: boolean;
  readonly #options: CasOptions;
  readonly #access: CasAccess;
  #abilities: Promise<Abilities> | undefined;
  #answersHead = true;
  /** Of `POST /v2/shards`. */
  #shardVersion: 1 | 2 | undefined;

  private constructor(options: CasOptions) {
    const casUrl = options.casUrl.replace(/\/+$/, '');
    this.place = nameUrl(casUrl).replace(/\/$/, '');
    this.isReadOnly = options.isReadOnly ?? false;
    this.#options = options;
    const { http, token, clock = SYSTEM_CLOCK } = options;
    this.#access = { http, casUrl, token, clock, place: this.place };
  }

  /** Asks nothing yet: what cannot be reached says so at the first call. */
  static open(options: CasOptions): CasStore {
    return new CasStore(options);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#options.closesHttp === true) await this.#options.http.close();
  }

  /** Whether the server is one of ours, which takes git2db's extensions. */
  async hasExtensions(options: CallOptions = {}): Promise<boolean> {
    return (await this.#able(options)).footers !== undefined;
  }

  async findFiles(
    hashes: readonly Uint8Array[],
    options: CallOptions = {},
  ): Promise<(StoreFile | undefined)[]> {
    const { footers, reconstructions } = await this.#able(options);
    if (footers !== undefined) return this.#findFilesHere(hashes, options);
    return mapParallel(hashes, PARALLEL_FILES, (hash) => reconstructions.findFile(hash, options.signal));
  }

  /**
   * What the bytes [start, end) of a file are made of: terms shrunk to the chunks that overlap these, and `offset`,
   * where in the file the first of them begins. `size` is that of these chunks. Undefined for an unknown file.
   */
  async findRange(
    fileHash: Uint8Array,
    start: number,
    end: number,
    options: CallOptions = {},
  ): Promise<{ readonly file: StoreFile; readonly offset: number } | undefined> {
    const { reconstructions } = await this.#able(options);
    const part = await reconstructions.findPart(fileHash, { start, end }, options.signal);
    if (part === undefined) return undefined;
    const { terms, offset } = part;
    return { file: { fileHash: fileHash.slice(), terms, size: part.end - offset }, offset };
  }

  async findSha256s(
    sha256s: readonly string[],
    options: CallOptions = {},
  ): Promise<(Uint8Array | undefined)[]> {
    const { footers } = await this.#able(options);
    if (footers === undefined) return sha256s.map(() => undefined);
    const found: (Uint8Array | undefined)[] = [];
    for (let at = 0; at < sha256s.length; at += MAX_SHA256S_ASKED) {
      const asked = sha256s.slice(at, at + MAX_SHA256S_ASKED);
      // What is no SHA-256 is asked for as zeros, which no file has.
      const body = Buffer.from(
        asked.map((text) => (isHashString(text) ? text : '0'.repeat(64))).join(''),
        'hex',
      );
      const answer = await this.#ask(ROUTES.sha256s(), body, body.length, options);
      if (answer.length !== body.length) {
        throw this.#broken(`${answer.length} bytes of hashes for ${asked.length} that were asked for`);
      }
      for (let i = 0; i < answer.length; i += HASH_SIZE) {
        found.push(isZeroHash(answer, i) ? undefined : new Uint8Array(answer.subarray(i, i + HASH_SIZE)));
      }
    }
    return found;
  }

  async findChunks(hashes: Uint8Array, options: CallOptions = {}): Promise<ChunkRun[]> {
    if (hashes.length === 0) return [];
    const { footers, dedup } = await this.#able(options);
    if (footers === undefined) return dedup.find(hashes, options.signal);
    const runs: ChunkRun[] = [];
    for (let at = 0; at < hashes.length; at += MAX_CHUNKS_ASKED * HASH_SIZE) {
      const asked = hashes.subarray(at, at + MAX_CHUNKS_ASKED * HASH_SIZE);
      const count = asked.length / HASH_SIZE;
      const answer = await this.#ask(ROUTES.chunks(), asked, maxRunBytes(count), options);
      for (const run of decodeChunkRuns(answer, count)) runs.push({ ...run, at: run.at + at / HASH_SIZE });
    }
    return runs;
  }

  async readFooter(xorbHash: Uint8Array, options: CallOptions = {}): Promise<XorbFooter | undefined> {
    const { footers } = await this.#able(options);
    return footers?.readFooter(xorbHash, options.signal);
  }

  async *readRecords(
    ranges: Iterable<ChunkRange> | AsyncIterable<ChunkRange>,
    options: CallOptions = {},
  ): AsyncGenerator<RecordRun, void, undefined> {
    const { footers, reconstructions } = await this.#able(options);
    yield* readRecords(ranges, footers ?? reconstructions, options.signal);
  }

  /** Only a server of ours shows footers, and gives out xorbs by their names. */
  async readWholeXorb(
    footer: XorbFooter,
    take: (piece: Uint8Array) => Promise<void> | undefined,
    options: CallOptions = {},
  ): Promise<void> {
    const { footers } = await this.#able(options);
    if (footers === undefined) throw new Error('xorbs of this server cannot be read by their names');
    await readWholeXorb(footers, footer, take, options.signal);
  }

  async hasXorb(xorbHash: Uint8Array, options: CallOptions = {}): Promise<boolean> {
    if (!this.#answersHead) return false;
    const { http, casUrl, token } = this.#access;
    const response = await http.request({
      method: 'HEAD',
      url: `${casUrl}${ROUTES.xorb(xorbHash)}`,
      token,
      signal: options.signal,
      accept: [200, 404, 405, 501],
    });
    await response.discard();
    if (response.status === 405 || response.status === 501) this.#answersHead = false;
    return response.status === 200;
  }

  /** Git2db's own servers do. */
  verifiesXorbs(options: CallOptions = {}): Promise<boolean> {
    return this.hasExtensions(options);
  }

  async putXorb(xorb: XorbUpload, options: CallOptions = {}): Promise<boolean> {
    this.#checkWritable();
    return uploadXorb(this.#access, xorb, () => this.hasXorb(xorb.footer.xorbHash, options), options.signal);
  }

  async putShard(shard: Uint8Array, options: CallOptions = {}): Promise<boolean> {
    this.#checkWritable();
    if (shard.length > MAX_SHARD_UPLOAD) {
      throw new Git2dbError(
        'LIMIT_EXCEEDED',
        `a shard of ${shard.length} bytes; at most ${MAX_SHARD_UPLOAD} can be sent at once`,
      );
    }
    if (this.#shardVersion !== 1) {
      const isNew = await uploadShard(this.#access, 2, shard, options.signal);
      if (isNew !== undefined) return isNew;
      this.#shardVersion = 1;
    }
    return (await uploadShard(this.#access, 1, shard, options.signal)) ?? false;
  }

  async #findFilesHere(
    hashes: readonly Uint8Array[],
    options: CallOptions,
  ): Promise<(StoreFile | undefined)[]> {
    const found = new Map<string, StoreFile>();
    for (let at = 0; at < hashes.length; at += FILES_ASKED) {
      const body = encodeHashes(hashes.slice(at, at + FILES_ASKED));
      const answer = await this.#ask(ROUTES.files(), body, MAX_FILES_ANSWER, options);
      for (const { fileHash, terms, verification, sha256 } of this.#filesOf(answer)) {
        const size = terms.reduce((sum, { rawBytes }) => sum + rawBytes, 0);
        const name = formatHash(fileHash);
        if (found.has(name)) continue;
        found.set(name, {
          fileHash,
          terms,
          size,
          ...(verification === undefined ? {} : { verification }),
          ...(sha256 === undefined ? {} : { sha256 }),
        });
      }
    }
    return hashes.map((hash) => {
      // Nothing is needed for the empty file.
      if (isZeroHash(hash)) return { fileHash: hash.slice(), terms: [], size: 0 };
      return found.get(formatHash(hash));
    });
  }

  #filesOf(shard: Uint8Array): FileRecord[] {
    try {
      return [...Shard.openUpload(shard).files()];
    } catch (error) {
      throw this.#broken((error as Error).message, error);
    }
  }

  /** One of the questions of our own, whose answer has at most `limit` bytes. */
  async #ask(path: string, body: Uint8Array, limit: number, { signal }: CallOptions): Promise<Buffer> {
    const { http, casUrl, token } = this.#access;
    const response = await http.request({
      method: 'POST',
      url: `${casUrl}${path}`,
      body,
      token,
      idempotent: true,
      signal,
      accept: [200],
    });
    return response.bytes(limit);
  }

  #able({ signal }: CallOptions): Promise<Abilities> {
    // Asked for all who wait: one that stops waiting stops nothing.
    this.#abilities ??= this.#probe().catch((error: unknown) => {
      this.#abilities = undefined;
      throw error;
    });
    return untilAborted(this.#abilities, signal);
  }

  async #probe(): Promise<Abilities> {
    const access = this.#access;
    return {
      footers: (await this.#isOurs()) ? new FooterPlaces(access) : undefined,
      reconstructions: new ReconstructionPlaces(access),
      dedup: new DedupQueries(access),
    };
  }

  async #isOurs(): Promise<boolean> {
    const { http, casUrl, token } = this.#access;
    try {
      const response = await http.request({
        method: 'GET',
        url: `${casUrl}${ROUTES.extensions()}`,
        token,
        accept: [200],
      });
      return isServerAnswer(await response.json(MAX_SMALL_ANSWER));
    } catch (error) {
      // Any other server says anything to a question that it does not know.
      const isRefusal =
        error instanceof Git2dbError && (error.code.startsWith('REMOTE_') || statusOf(error) === 501);
      if (isRefusal) return false;
      throw error;
    }
  }

  #checkWritable(): void {
    if (!this.isReadOnly) return;
    throw new Git2dbError('STORE_UNWRITABLE', `${this.place} is only read from here`);
  }

  #broken(found: string, cause?: unknown): Git2dbError {
    return new Git2dbError(
      'REMOTE_INVALID',
      `${this.place}: the server's answer breaks the protocol: ${found}`,
      {
        cause,
      },
    );
  }
}
