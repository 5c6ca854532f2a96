/**
 * Reads one window into an arena and verifies every chunk of it. The records stand in the arena as
 * they stand in the xorb; chunks stored raw are given out from there, others are decoded behind.
 * This is the work that is handed to worker threads, so it knows addresses and numbers only.
 */
import { readSync } from 'node:fs';
import { decompressChunk, SCHEME_NONE } from '../compress/scheme.ts';
import { FormatError, Git2dbError } from '../errors.ts';
import { hashesEqual } from '../hash/xet-hash.ts';
import type { Arena, Kernels } from '../wasm/kernels.ts';
import { CHUNK_HEADER_SIZE, decodeChunkHeader } from '../xorb/chunk-record.ts';
import { WINDOW_CHUNKS, WINDOW_STORED } from './plan.ts';

/**
 * A slot of the arena for one window:
 *
 *     hashes   32 x 512   expected chunk hashes
 *     ends     4 x 512    end of each record, relative to the first
 *     starts   4 x 512    out: arena address of each chunk's raw bytes
 *     lengths  4 x 512    raw length of each chunk
 *     probe    32         a computed hash
 *     data     records, then decoded chunks
 */
const ENDS = 32 * WINDOW_CHUNKS;
const STARTS = ENDS + 4 * WINDOW_CHUNKS;
const LENGTHS = STARTS + 4 * WINDOW_CHUNKS;
const PROBE = LENGTHS + 4 * WINDOW_CHUNKS;
const DATA = PROBE + 64;
/** Records, and as much again for decoded chunks, which are no longer together. */
export const SLOT_SIZE = (DATA + 2 * WINDOW_STORED + 65535) & ~65535;

/** What went wrong with a window, for a message made by whoever knows the names. */
export interface WindowFailure {
  /** Number of the chunk within the window. */
  readonly chunk: number;
  readonly error: Git2dbError;
}

export class WindowSlot {
  readonly #arena: Arena;
  readonly #words: Uint32Array;
  readonly base: number;

  constructor(arena: Arena, base: number) {
    this.#arena = arena;
    this.#words = new Uint32Array(arena.bytes.buffer);
    this.base = base;
  }

  /** Says what to expect: `count` chunks with these hashes, record ends and raw lengths. */
  expect(
    hashes: Uint8Array,
    firstChunk: number,
    count: number,
    recordEnd: (chunk: number) => number,
    rawLength: (chunk: number) => number,
  ): void {
    this.#arena.bytes.set(hashes.subarray(32 * firstChunk, 32 * (firstChunk + count)), this.base);
    for (let i = 0; i < count; i++) {
      this.#words[(this.base + ENDS) / 4 + i] = recordEnd(firstChunk + i);
      this.#words[(this.base + LENGTHS) / 4 + i] = rawLength(firstChunk + i);
    }
  }

  /** Reads `length` bytes of records at `offset` of `fd` and verifies `count` chunks. */
  read(
    kernels: Kernels,
    fd: number,
    offset: number,
    length: number,
    count: number,
  ): WindowFailure | undefined {
    const { bytes } = this.#arena;
    const data = this.base + DATA;
    if (length > WINDOW_STORED || count > WINDOW_CHUNKS) {
      return {
        chunk: 0,
        error: new Git2dbError(
          'LIMIT_EXCEEDED',
          `a window of ${length} bytes and ${count} chunks is too large`,
        ),
      };
    }
    for (let done = 0; done < length; ) {
      const n = readSync(fd, bytes, data + done, length - done, offset + done);
      if (n === 0) {
        return {
          chunk: 0,
          error: new FormatError('INVALID_XORB', `the file ends at ${offset + done}`, offset + done),
        };
      }
      done += n;
    }
    let spare = data + length;
    let recordStart = 0;
    for (let i = 0; i < count; i++) {
      const recordEnd = this.#words[(this.base + ENDS) / 4 + i] as number;
      const rawLength = this.#words[(this.base + LENGTHS) / 4 + i] as number;
      const at = data + recordStart;
      let raw = at + CHUNK_HEADER_SIZE;
      try {
        const header = decodeChunkHeader(bytes, at, offset + recordStart - at);
        if (
          recordStart + CHUNK_HEADER_SIZE + header.storedLength !== recordEnd ||
          header.rawLength !== rawLength
        ) {
          return {
            chunk: i,
            error: new FormatError(
              'INVALID_XORB',
              'the record disagrees with the footer',
              offset + recordStart,
            ),
          };
        }
        if (header.scheme !== SCHEME_NONE) {
          const decoded = decompressChunk(
            header.scheme,
            bytes.subarray(raw, raw + header.storedLength),
            rawLength,
          );
          raw = spare;
          bytes.set(decoded, raw);
          spare += rawLength;
        }
      } catch (error) {
        if (error instanceof Git2dbError) return { chunk: i, error };
        throw error;
      }
      kernels.hashChunk(raw, raw + rawLength, this.base + PROBE);
      if (!hashesEqual(bytes, this.base + PROBE, bytes, this.base + 32 * i)) {
        return {
          chunk: i,
          error: new FormatError(
            'CONTENT_DAMAGED',
            'the bytes do not have the hash of the chunk',
            offset + recordStart,
          ),
        };
      }
      this.#words[(this.base + STARTS) / 4 + i] = raw;
      recordStart = recordEnd;
    }
    return undefined;
  }

  /** Raw bytes of chunk i: a view that is valid until the slot's next read. */
  chunk(i: number): Uint8Array {
    const start = this.#words[(this.base + STARTS) / 4 + i] as number;
    return this.#arena.bytes.subarray(start, start + (this.#words[(this.base + LENGTHS) / 4 + i] as number));
  }
}
