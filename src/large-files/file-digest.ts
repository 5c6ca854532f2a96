/**
 * What a file's bytes alone determine: its chunks, its Xet file hash, and if wanted its SHA-256. Needs
 * no repository and no store.
 */
import { createHash, type Hash as Sha256 } from 'node:crypto';
import { readSync } from 'node:fs';
import { MAX_CHUNK, MIN_CHUNK } from '../xet/chunk/limits.ts';
import { fileHash } from '../xet/hash/merkle.ts';
import { formatHash, HASH_SIZE } from '../xet/hash/xet-hash.ts';
import { ARENA_START, createArena, loadKernels, SCRATCH_SIZE } from '../xet/wasm/kernels.ts';

export interface FileDigest {
  readonly size: number;
  /** String form; 64 zeros for the empty file. */
  readonly fileHash: string;
  readonly chunks: ChunkList;
  /** 64 hexadecimal digits; undefined unless asked for. */
  readonly sha256: string | undefined;
}

export interface ChunkList {
  readonly count: number;
  /** 32 bytes for each chunk, in order. */
  readonly hashes: Uint8Array;
  readonly lengths: Uint32Array;
}

export interface DigestOptions {
  readonly sha256: boolean;
  /** Bytes of the file that were read from `fd` before; at most READ_SIZE. */
  readonly head?: Uint8Array | undefined;
  readonly onBytes?: (count: number) => void;
}

export const READ_SIZE = 1 << 20;
/** An open chunk that did not end, and what is read behind it. */
const WINDOW_SIZE = MAX_CHUNK + READ_SIZE;
const MAX_ENDS = WINDOW_SIZE / MIN_CHUNK + 1;

const SCRATCH_AT = ARENA_START;
const ENDS_AT = SCRATCH_AT + SCRATCH_SIZE;
const HASHES_AT = ENDS_AT + 4 * MAX_ENDS;
const WINDOW_AT = Math.ceil((HASHES_AT + HASH_SIZE * MAX_ENDS) / 64) * 64;

/**
 * Reads from `fd`, which stays open, to its end. Memory: a window of little over 1 MiB, and 36 bytes
 * for each chunk of 64 KiB on average.
 */
export function digestFile(fd: number, options: DigestOptions): FileDigest {
  const arena = createArena(WINDOW_AT + WINDOW_SIZE);
  const kernels = loadKernels(arena, SCRATCH_AT);
  const { bytes } = arena;
  const ends = new Uint32Array(bytes.buffer, ENDS_AT, MAX_ENDS);
  const chunks = new GrowingChunkList();
  const sha256: Sha256 | undefined = options.sha256 ? createHash('sha256') : undefined;
  let size = 0;
  let start = WINDOW_AT;
  let end = WINDOW_AT;
  let head = options.head;
  const readInto = (at: number) => {
    const given = head;
    head = undefined;
    if (given === undefined || given.length === 0) return readSync(fd, bytes, at, READ_SIZE, null);
    bytes.set(given, at);
    return given.length;
  };
  for (;;) {
    bytes.copyWithin(WINDOW_AT, start, end);
    end -= start - WINDOW_AT;
    start = WINDOW_AT;
    const got = readInto(end);
    if (got === 0) break;
    sha256?.update(bytes.subarray(end, end + got));
    const count = kernels.findBoundaries(start, end, end + got, ENDS_AT, MAX_ENDS);
    kernels.hashChunks(start, ENDS_AT, count, HASHES_AT);
    for (let i = 0; i < count; i++) {
      chunks.push(bytes, HASHES_AT + i * HASH_SIZE, ends[i]! - start);
      start = ends[i]!;
    }
    end += got;
    size += got;
    options.onBytes?.(got);
  }
  if (end > start) {
    kernels.hashChunk(start, end, HASHES_AT);
    chunks.push(bytes, HASHES_AT, end - start);
  }
  const list = chunks.list();
  return {
    size,
    fileHash: formatHash(fileHash(list.hashes, list.lengths, list.count)),
    chunks: list,
    sha256: sha256?.digest('hex'),
  };
}

class GrowingChunkList {
  #hashes = new Uint8Array(256 * HASH_SIZE);
  #lengths = new Uint32Array(256);
  #count = 0;

  push(source: Uint8Array, hashAt: number, length: number): void {
    if (this.#count === this.#lengths.length) this.#double();
    this.#hashes.set(source.subarray(hashAt, hashAt + HASH_SIZE), this.#count * HASH_SIZE);
    this.#lengths[this.#count++] = length;
  }

  list(): ChunkList {
    const count = this.#count;
    return {
      count,
      hashes: this.#hashes.subarray(0, count * HASH_SIZE),
      lengths: this.#lengths.subarray(0, count),
    };
  }

  #double(): void {
    const hashes = new Uint8Array(2 * this.#hashes.length);
    const lengths = new Uint32Array(2 * this.#lengths.length);
    hashes.set(this.#hashes);
    lengths.set(this.#lengths);
    this.#hashes = hashes;
    this.#lengths = lengths;
  }
}
