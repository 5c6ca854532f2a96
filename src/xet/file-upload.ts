/**
 * The clean side in one page: bytes -> chunks -> terms and new chunks -> store -> pointer.
 *
 *     room() / advance()   the caller reads content straight into the arena
 *     scan                 chunk ends and hashes: on this thread, or ahead on a worker
 *     Deduper              which chunks are stored already, and where
 *     StoreWriter          new chunks into incoming/, one journal frame on commit
 *
 * Chunks that turn up in a known order (a file cleaned again, an unchanged part) are *predicted*
 * from the xorb they were found in: hashing the next `length` bytes and comparing answers what the
 * boundary scan would have found, at half the cost. Only the same bytes have the same hash, so the
 * boundaries stay those of the rule.
 */
import { MAX_CHUNK, MIN_CHUNK } from './chunk/limits.ts';
import { MAX_BATCH, SCAN_AREA_SIZE, ScanArea } from './chunk/scan-area.ts';
import { type CompressionMode, compressChunk, STORED_RAW, type StoredChunk } from './compress/scheme.ts';
import { Deduper } from './dedup/deduper.ts';
import { fileHash } from './hash/merkle.ts';
import { formatHash, hashesEqual } from './hash/xet-hash.ts';
import type { ScanAhead, ScannedChunks } from './parallel/scan-ahead.ts';
import { openTerm } from './reconstruct/plan.ts';
import { ByteList } from './store/byte-list.ts';
import type { StoredFile } from './store/local-store.ts';
import type { StoreWriter } from './store/writer.ts';
import type { Uploader } from './upload.ts';
import { ARENA_START, SCRATCH_SIZE } from './wasm/kernels.ts';

/** What a file became. */
export interface StoredResult {
  /** File hash, string form. */
  readonly hash: string;
  readonly size: number;
  /** Raw bytes that the store did not have before. */
  readonly newBytes: number;
}

const AREA = ARENA_START;
/** For the kernels. */
export const SCRATCH = AREA + SCAN_AREA_SIZE;
/** One chunk's hash while a prediction is checked. */
const PROBE = (SCRATCH + SCRATCH_SIZE + 15) & ~15;
/** Content starts here; the bytes before may be written by a reader that overlays packet headers. */
const WINDOW = PROBE + 64;
const WINDOW_SIZE = 4 << 20;
export const ARENA_SIZE = WINDOW + WINDOW_SIZE;
/** Bytes scanned and written at once. */
const STEP = 1 << 20;
/** Room that is always offered: git's largest packet. */
const MIN_ROOM = 65520;
/** A second thread is started for files of this size, once this much in a row was new. */
const LARGE = 64 << 20;
const NEW_IN_A_ROW = 2 << 20;
/** With `auto`, chunks that are stored raw unseen after one that did not compress. */
const SKIP_SAMPLES = 3;
/** And left idle again, in favour of predictions, after this much known content. */
const FOUND_IN_A_ROW = 4 << 20;

/** Where content may be read to. */
export interface UploadRoom {
  readonly bytes: Uint8Array;
  readonly offset: number;
  /** The 4 bytes before `offset` may be overwritten while reading, if they are restored. */
  readonly overlay: boolean;
}

export class FileUpload {
  readonly #uploader: Uploader;
  readonly #bytes: Uint8Array;
  readonly #area: ScanArea;
  /** All chunk hashes and lengths of the file: 40 bytes a chunk. */
  readonly #hashes = new ByteList(32 * 256);
  readonly #lengths: number[] = [];
  readonly #sizeHint: number;
  #deduper: Deduper | undefined;
  #ahead: ScanAhead | undefined;
  #size = 0;
  #unsampled = 0;
  /** Arena addresses: start of the open chunk, end of what was scanned, end of the content so far. */
  #open = WINDOW;
  #scanned = WINDOW;
  #end = WINDOW;

  constructor(uploader: Uploader, sizeHint: number) {
    this.#uploader = uploader;
    this.#sizeHint = sizeHint;
    this.#bytes = uploader.arena.bytes;
    this.#area = new ScanArea(uploader.arena, AREA);
  }

  /** Bytes received so far. */
  get size(): number {
    return this.#size;
  }

  /** All content, if it is no longer than `limit` (at most 64 KiB); for sniffing pointers. */
  head(limit: number): Uint8Array | undefined {
    return this.#size <= limit ? this.#bytes.subarray(WINDOW, WINDOW + this.#size) : undefined;
  }

  /** Where the next content bytes go: at least 65520 of them. */
  room(): UploadRoom {
    return this.#ahead?.room() ?? { bytes: this.#bytes, offset: this.#end, overlay: true };
  }

  /** `count` bytes were read into the room. */
  advance(count: number): void {
    this.#size += count;
    if (this.#ahead !== undefined) {
      this.#ahead.advance(count);
      if ((this.#deduper as Deduper).foundInARow >= FOUND_IN_A_ROW) this.#stopAhead(this.#ahead);
      return;
    }
    this.#end += count;
    if (this.#end - this.#scanned >= STEP) {
      this.#process(false);
      this.#considerAhead();
    }
    if (this.#end + MIN_ROOM > WINDOW + WINDOW_SIZE) this.#rewind();
  }

  /** Copies bytes in, for callers that have them in memory. */
  write(bytes: Uint8Array): void {
    for (let at = 0; at < bytes.length; at += MIN_ROOM) {
      const part = bytes.subarray(at, at + MIN_ROOM);
      const room = this.room();
      room.bytes.set(part, room.offset);
      this.advance(part.length);
    }
  }

  /**
   * Ends the file: it is acknowledged (or was known) when this returns. With `sha256`, 64 digits, which the
   * caller has computed, the file is found by that, too.
   */
  finish({ sha256 }: { readonly sha256?: string } = {}): StoredResult {
    try {
      if (this.#ahead !== undefined) this.#ahead.finish();
      else this.#process(true);
      const hash = fileHash(this.#hashes.slice(), this.#lengths, this.#lengths.length);
      const { writer } = this.#uploader;
      const known = this.#findKnown(hash, writer);
      if (known !== undefined) {
        writer.rollback();
        if (sha256 !== undefined && !this.#uploader.isRecorded(sha256, hash))
          this.#uploader.record(sha256, known);
        return { hash: formatHash(hash), size: this.#size, newBytes: 0 };
      }
      const { terms, newBytes } = this.#deduper as Deduper;
      writer.commit({ fileHash: hash, size: this.#size, terms, sha256 });
      if (sha256 !== undefined) this.#uploader.noteRecorded(sha256, hash);
      return { hash: formatHash(hash), size: this.#size, newBytes };
    } catch (error) {
      this.abort();
      throw error;
    }
  }

  /** Drops the file; nothing of it stays. */
  abort(): void {
    this.#ahead?.abort();
    this.#ahead = undefined;
    if (this.#deduper !== undefined) this.#uploader.writer.rollback();
    this.#deduper = undefined;
  }

  /** The file, if the store can already give it back. Renews the age of what it consists of. */
  #findKnown(hash: Uint8Array, writer: StoreWriter): StoredFile | undefined {
    for (const file of this.#uploader.store.findSettledFiles(hash)) {
      if (file.size === this.#size && isComplete(file, writer) && this.#hasChunks(file)) return file;
    }
    return undefined;
  }

  /** Do the xorbs, by their footers, still hold the chunks of this file? */
  #hasChunks(file: StoredFile): boolean {
    let at = 0;
    try {
      for (const term of file.terms) {
        const { hashes } = openTerm(term);
        const end = at + 32 * (term.end - term.start);
        if (this.#hashes.slice(at, end).compare(hashes, 32 * term.start, 32 * term.end) !== 0) return false;
        at = end;
      }
    } catch {
      // Damaged, or unreadable for whatever reason: stored again, and fsck will tell.
      return false;
    }
    return at === this.#hashes.length;
  }

  #process(final: boolean): void {
    const deduper = this.#dedup();
    for (;;) {
      const prediction = deduper.predict();
      if (prediction !== undefined) {
        const available = this.#end - this.#open;
        if (available < prediction.length && !final) break;
        if (this.#agrees(prediction.length, prediction.hashes, prediction.offset, final)) {
          this.#record(this.#bytes, PROBE, prediction.length);
          deduper.acceptPrediction(prediction.length);
          this.#open += prediction.length;
          this.#scanned = this.#open;
          continue;
        }
        deduper.dropPrediction();
      }
      if (!this.#scan(final)) break;
    }
    this.#uploader.writer.flush();
  }

  /** Finds, hashes and hands on the next chunks. False when more content is needed. */
  #scan(final: boolean): boolean {
    const { kernels } = this.#uploader;
    const start = this.#open;
    let count = kernels.findBoundaries(start, this.#scanned, this.#end, this.#area.ends, MAX_BATCH);
    this.#scanned = count === MAX_BATCH ? this.#area.end(count - 1) : this.#end;
    if (count === 0) {
      if (!final || this.#end === start) return false;
      this.#area.setEnd(0, this.#end);
      count = 1;
    }
    kernels.hashChunks(start, this.#area.ends, count, this.#area.hashes);
    this.#open = this.#area.end(count - 1);
    this.#take({ bytes: this.#bytes, area: this.#area, start, count });
    return true;
  }

  /** Chunks in their order, from either thread. */
  #take({ bytes, area, start, count }: ScannedChunks): void {
    for (let i = 0; i < count; i++) this.#record(bytes, area.hashes + 32 * i, area.length(start, i));
    const { writer, options } = this.#uploader;
    this.#dedup().add({
      bytes,
      hashesAt: area.hashes,
      count,
      rawLength: (i) => area.length(start, i),
      store: (i) => {
        const length = area.length(start, i);
        const raw = bytes.subarray(area.end(i) - length, area.end(i));
        const { scheme, payload } = this.#compress(raw, options.compression);
        return writer.put(bytes, area.hashes + 32 * i, payload ?? raw, scheme, length);
      },
    });
  }

  #compress(raw: Uint8Array, mode: CompressionMode): StoredChunk {
    if (mode === 'auto' && this.#unsampled > 0) {
      this.#unsampled--;
      return STORED_RAW;
    }
    const stored = compressChunk(raw, mode);
    // What did not pay here will hardly pay in the chunks right behind: looking costs time, too.
    this.#unsampled = stored.payload === undefined ? SKIP_SAMPLES : 0;
    return stored;
  }

  #record(bytes: Uint8Array, at: number, length: number): void {
    this.#hashes.append(bytes, at, 32);
    this.#lengths.push(length);
  }

  /** Are the next `length` bytes this chunk, and is its end a boundary here too? Leaves the hash in PROBE. */
  #agrees(length: number, hashes: Uint8Array, offset: number, final: boolean): boolean {
    const { kernels } = this.#uploader;
    const available = this.#end - this.#open;
    const isLast = final && available === length;
    if (available < length || (length < MIN_CHUNK && !isLast)) return false;
    const end = this.#open + length;
    kernels.hashChunk(this.#open, end, PROBE);
    if (!hashesEqual(this.#bytes, PROBE, hashes, offset)) return false;
    if (isLast || length === MAX_CHUNK) return true;
    // The chunk may have ended its file without a boundary: look at the last bytes, which alone decide.
    const from = end - MIN_CHUNK;
    if (kernels.findBoundaries(from, from, end, this.#area.ends, 1) === 1) return true;
    // The kernels have forgotten how far they had come in the open chunk: begin it again.
    this.#scanned = this.#open;
    return false;
  }

  #dedup(): Deduper {
    if (this.#deduper === undefined) {
      const { writer, store } = this.#uploader;
      writer.begin();
      this.#deduper = new Deduper(store, writer);
    }
    return this.#deduper;
  }

  /** Large new content is scanned on a second thread while this one reads and writes. */
  #considerAhead(): void {
    if (Math.max(this.#sizeHint, this.#size) < LARGE || this.#dedup().newInARow < NEW_IN_A_ROW) return;
    this.#ahead = this.#uploader.ahead;
    this.#ahead.begin(this.#bytes.subarray(this.#open, this.#end), (chunks) => {
      this.#take(chunks);
      this.#uploader.writer.flush();
    });
  }

  #stopAhead(ahead: ScanAhead): void {
    const open = ahead.stop();
    this.#ahead = undefined;
    this.#bytes.set(open, WINDOW);
    this.#open = WINDOW;
    this.#scanned = WINDOW;
    this.#end = WINDOW + open.length;
  }

  /** Moves the open chunk to the window's start. Everything before it has been handed on. */
  #rewind(): void {
    this.#process(false);
    const length = this.#end - this.#open;
    this.#bytes.copyWithin(WINDOW, this.#open, this.#end);
    this.#scanned = WINDOW + (this.#scanned - this.#open);
    this.#open = WINDOW;
    this.#end = WINDOW + length;
  }
}

/** True if the store can give the file back. Renews the age of what it consists of. */
function isComplete(file: StoredFile, writer: StoreWriter): boolean {
  // Of another living writer: it may still fail to seal. Of our own: as good as sealed.
  if (file.shard === undefined) return writer.findFile(file.hash) !== undefined;
  return writer.touchFile(file);
}
