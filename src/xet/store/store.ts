/**
 * A Xet store seen from a distance: in a directory, in a bucket, behind a static web server, behind a CAS
 * service. All calls are asynchronous and may be made at once; what a store is asked twice it may answer from
 * memory, but never with something that is not true any more and would lose data.
 *
 * Hashes are 32 bytes (byte form); whoever keeps what a call returns may keep it: nothing is a view into
 * memory that changes. All lists of answers stand in the order of the questions.
 *
 * Errors: AUTH_FAILED (who are you), REMOTE_FORBIDDEN (not you), REMOTE_MISSING (no such bucket, repository or
 * service), NETWORK (after all retries), REMOTE_INVALID (an answer that breaks the protocol),
 * CONTENT_MISSING, CONTENT_DAMAGED, STORE_UNSUPPORTED, STORE_UNWRITABLE, DISK_FULL; AbortError for `signal`.
 */
import type { FileRecord } from '../shard/file-info.ts';
import type { XorbFooter } from '../xorb/format.ts';

export interface CallOptions {
  readonly signal?: AbortSignal | undefined;
}

/** A file that the store can give, and from which chunks it is made in this store. */
export interface StoreFile extends FileRecord {
  /** Bytes. */
  readonly size: number;
}

/** Chunks [start, start + count) of `xorbHash` are the chunks [at, at + count) that were asked for. */
export interface ChunkRun {
  readonly at: number;
  readonly count: number;
  readonly xorbHash: Uint8Array;
  readonly start: number;
}

/** Chunks [start, end) of a xorb. */
export interface ChunkRange {
  readonly xorbHash: Uint8Array;
  readonly start: number;
  readonly end: number;
}

/** Whole chunk records as they stand in the xorb, of chunks [start, end): neither decoded nor verified. */
export interface RecordRun extends ChunkRange {
  readonly bytes: Uint8Array;
}

/** A xorb on its way into a store: its footer, and its records without the footer. */
export interface XorbUpload {
  readonly footer: XorbFooter;
  /** `recordEnds.at(-1)` bytes, in pieces; they may be asked for again after a failure. */
  readonly records: () => AsyncIterable<Uint8Array> | Iterable<Uint8Array>;
  /**
   * Path of a file of the caller's, written by nobody any more, with exactly the records, every chunk of which was
   * verified. A store on the same file system may take it instead of reading them: then it is gone afterwards.
   */
  readonly file?: string;
}

export interface Store extends AsyncDisposable {
  /** For messages: a directory or URL without user, token or query. */
  readonly place: string;
  readonly isReadOnly: boolean;

  /** Undefined for a file that the store does not know. */
  findFiles(hashes: readonly Uint8Array[], options?: CallOptions): Promise<(StoreFile | undefined)[]>;

  /** File hash (32 bytes) for each SHA-256 (64 digits); undefined where unknown. */
  findSha256s(sha256s: readonly string[], options?: CallOptions): Promise<(Uint8Array | undefined)[]>;

  /**
   * Where the store has chunks of this list (32 bytes each, in file order), as runs in ascending order of `at`
   * that do not overlap. Best effort: a chunk without a run is stored again, which costs space and loses nothing.
   */
  findChunks(hashes: Uint8Array, options?: CallOptions): Promise<ChunkRun[]>;

  /** Chunk hashes and lengths of a xorb, proved against its hash; undefined if this store does not show them. */
  readFooter(xorbHash: Uint8Array, options?: CallOptions): Promise<XorbFooter | undefined>;

  /**
   * Records of these ranges, in this order, fetched ahead within a bounded number of bytes and with as few
   * requests as the store allows. A range may come in several runs, and a run may hold more chunks than were
   * asked for, where the store cannot give less. Only ranges of files that `findFiles` has returned, or of
   * xorbs whose footer was read. Throws CONTENT_MISSING for a xorb that is gone.
   */
  readRecords(
    ranges: Iterable<ChunkRange> | AsyncIterable<ChunkRange>,
    options?: CallOptions,
  ): AsyncIterable<RecordRun>;

  /**
   * All records of a xorb whose footer was read, in one stream: where there is this, it is the cheapest way to a whole
   * xorb. `take` gets each piece for as long as the call, or the promise it returns, lasts; what it throws is thrown.
   */
  readWholeXorb?(
    footer: XorbFooter,
    take: (piece: Uint8Array) => Promise<void> | undefined,
    options?: CallOptions,
  ): Promise<void>;

  hasXorb(xorbHash: Uint8Array, options?: CallOptions): Promise<boolean>;

  /**
   * Whether `putXorb` proves every chunk of a xorb by its hash, and ends with INVALID_XORB or LIMIT_EXCEEDED where that
   * fails. Stores without it look at the footer alone: who sends has verified then what it sends. A store that does may
   * keep a piece of `records` no longer than until it has asked for three more: their memory is used again.
   */
  verifiesXorbs?(options?: CallOptions): Promise<boolean>;

  /** False if it was there already. Never replaces one. */
  putXorb(xorb: XorbUpload, options?: CallOptions): Promise<boolean>;

  /**
   * Registers files and xorbs; all xorbs it names must be there (else CONTENT_MISSING). `shard`: the upload
   * form, at most 64 MiB. When this returns, everybody who asks finds the files. False if nothing of it was new.
   */
  putShard(shard: Uint8Array, options?: CallOptions): Promise<boolean>;
}

/** A store whose xorbs can be given out byte by byte: what a server needs. */
export interface ServableStore extends Store {
  /** Bytes of the stored xorb, footer included; undefined if it is not there. */
  xorbSize(xorbHash: Uint8Array, options?: CallOptions): Promise<number | undefined>;
  /** Bytes [start, end) of the stored xorb. */
  readXorb(
    xorbHash: Uint8Array,
    start: number,
    end: number,
    options?: CallOptions,
  ): AsyncIterable<Uint8Array>;
  /** All xorbs with the chunk, and what else of their shards is near: answers of the global dedup query. */
  findXorbsOfChunk(chunkHash: Uint8Array, options?: CallOptions): Promise<XorbFooter[]>;
}
