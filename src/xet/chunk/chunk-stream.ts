/** Chunks of a stream, with their hashes, for callers who want them one by one. */
import { HASH_SIZE, type Hash } from '../hash/xet-hash.ts';
import { ARENA_START, createArena, loadKernels, SCRATCH_SIZE } from '../wasm/kernels.ts';
import { MAX_CHUNK } from './limits.ts';

export interface Chunk {
  /** The caller's to keep, as is `hash`. */
  readonly bytes: Uint8Array;
  readonly hash: Hash;
}

/** Bytes that are chunked and hashed at a time. */
const WINDOW = 1 << 20;

/** Chunks that may end in a window; a chunk is hardly ever as short as MIN_CHUNK. */
const MAX_ENDS = 64;

const ENDS_AT = ARENA_START + SCRATCH_SIZE;
const HASHES_AT = ENDS_AT + 4 * MAX_ENDS;
const WINDOW_AT = HASHES_AT + HASH_SIZE * MAX_ENDS;
const WINDOW_END = WINDOW_AT + WINDOW + MAX_CHUNK;

/**
 * The chunks of the concatenation of `source`, in order, whatever the sizes of its pieces. Holds little
 * more than WINDOW bytes. Ends `source` when the consumer stops early.
 */
export async function* chunkStream(
  source: AsyncIterable<Uint8Array>,
): AsyncGenerator<Chunk, void, undefined> {
  const arena = createArena(WINDOW_END);
  const kernels = loadKernels(arena, ARENA_START);
  const ends = new Uint32Array(arena.bytes.buffer, ENDS_AT, MAX_ENDS);
  /** The first byte of the open chunk, the first not yet looked at, the end of the data. */
  let start = WINDOW_AT;
  let from = WINDOW_AT;
  let end = WINDOW_AT;

  /** Hashes and copies the first `count` chunks in `ends`. */
  function* take(count: number): Generator<Chunk> {
    kernels.hashChunks(start, ENDS_AT, count, HASHES_AT);
    for (let i = 0; i < count; i++) {
      const chunkEnd = ends[i] as number;
      const hash = HASHES_AT + i * HASH_SIZE;
      yield {
        bytes: arena.bytes.slice(start, chunkEnd),
        hash: arena.bytes.slice(hash, hash + HASH_SIZE),
      };
      start = chunkEnd;
    }
  }

  for await (const piece of source) {
    for (let taken = 0; taken < piece.length; ) {
      if (end === WINDOW_END) {
        // The open chunk, shorter than MAX_CHUNK, moves to the front.
        arena.bytes.copyWithin(WINDOW_AT, start, end);
        from -= start - WINDOW_AT;
        end -= start - WINDOW_AT;
        start = WINDOW_AT;
      }
      const length = Math.min(piece.length - taken, WINDOW_END - end);
      arena.bytes.set(piece.subarray(taken, taken + length), end);
      taken += length;
      end += length;
      for (;;) {
        const count = kernels.findBoundaries(start, from, end, ENDS_AT, MAX_ENDS);
        yield* take(count);
        from = count === MAX_ENDS ? start : end;
        if (count < MAX_ENDS) break;
      }
    }
  }
  if (start < end) {
    ends[0] = end;
    yield* take(1);
  }
}
