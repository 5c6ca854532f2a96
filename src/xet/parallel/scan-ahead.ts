/**
 * Chunking on another thread while this one reads: content goes into a ring of the arena, each
 * full slice becomes a scan job, and the results come back in order.
 *
 *     headroom 128 KiB | ring ............................................ |
 *
 * At the end of the ring the last 128 KiB are copied before its start, so that the open chunk, which
 * is never longer, goes on there in one piece.
 */
import { MAX_CHUNK } from '../chunk/limits.ts';
import { SCAN_AREA_SIZE, ScanArea } from '../chunk/scan-area.ts';
import {
  ARENA_START,
  type Arena,
  createArena,
  type KernelChoice,
  type Kernels,
  loadKernels,
  SCRATCH_SIZE,
} from '../wasm/kernels.ts';
import { JobBoard, type JobRunner } from './job-board.ts';
import { createRunner, JOB_SCAN } from './jobs.ts';
import { startWorkers, workerScratch } from './pool.ts';

/** Bytes of a job. */
const SLICE = 2 << 20;
const RING_SLICES = 8;
const WORKERS = 1;
const MIN_ROOM = 65520;

const AREAS = ARENA_START;
/** Two words: start of the open chunk, number of scans done. */
const OPEN_CELL = AREAS + SCAN_AREA_SIZE * RING_SLICES;
const SCRATCH = OPEN_CELL + 64;
const WORKER_SCRATCH = SCRATCH + SCRATCH_SIZE + 64;
const HEADROOM = (WORKER_SCRATCH + workerScratch(WORKERS) + 65535) & ~65535;
const RING = HEADROOM + MAX_CHUNK;
const RING_END = RING + SLICE * RING_SLICES;

/** Chunks that a scan found: `count` of them, the first at `start`. Valid until the callback returns. */
export interface ScannedChunks {
  readonly bytes: Uint8Array;
  readonly area: ScanArea;
  readonly start: number;
  readonly count: number;
}

export class ScanAhead {
  readonly #arena: Arena;
  readonly #board = new JobBoard();
  readonly #run: JobRunner;
  readonly #areas: readonly ScanArea[];
  /** Slots of posted jobs, oldest first; slot s scans slice s of the ring. */
  readonly #posted: number[] = [];
  #onChunks: (chunks: ScannedChunks) => void = () => {};
  /** Scans posted since `begin`. */
  #sequence = 0;
  #slice = 0;
  #end = RING;
  #handed = RING;
  #moved = 0;

  constructor(choice: KernelChoice | undefined) {
    this.#arena = createArena(RING_END + MIN_ROOM);
    const kernels: Kernels = loadKernels(this.#arena, SCRATCH, choice);
    this.#run = createRunner(this.#arena, kernels);
    this.#areas = Array.from(
      { length: RING_SLICES },
      (_, i) => new ScanArea(this.#arena, AREAS + SCAN_AREA_SIZE * i),
    );
    startWorkers(WORKERS, this.#arena, this.#board, WORKER_SCRATCH, choice);
  }

  /** A new run of content; `carry` are bytes of a chunk that was begun elsewhere (at most 128 KiB). */
  begin(carry: Uint8Array, onChunks: (chunks: ScannedChunks) => void): void {
    this.abort();
    this.#onChunks = onChunks;
    this.#slice = 0;
    this.#moved = 0;
    const start = RING - carry.length;
    this.#arena.bytes.set(carry, start);
    new Uint32Array(this.#arena.bytes.buffer).set([start, 0], OPEN_CELL / 4);
    this.#sequence = 0;
    this.#end = RING;
    this.#handed = RING;
  }

  room(): { readonly bytes: Uint8Array; readonly offset: number; readonly overlay: boolean } {
    return { bytes: this.#arena.bytes, offset: this.#end, overlay: this.#end - 4 >= this.#handed };
  }

  advance(count: number): void {
    this.#end += count;
    const sliceEnd = RING + SLICE * (this.#slice + 1);
    if (this.#end >= sliceEnd) this.#post(false);
  }

  /** The content ends: all chunks have been reported when this returns. */
  finish(): void {
    this.#post(true);
    while (this.#posted.length > 0) this.#collect();
  }

  /**
   * Scans and reports all content so far, and returns the open chunk's bytes, for the caller to go
   * on with elsewhere. A view that is valid until the next `begin`.
   */
  stop(): Uint8Array {
    if (this.#end > this.#handed) this.#post(false, true);
    while (this.#posted.length > 0) this.#collect();
    const open = (new Uint32Array(this.#arena.bytes.buffer)[OPEN_CELL / 4] as number) - this.#moved;
    return this.#arena.bytes.subarray(open, this.#end);
  }

  /** Stops; what was not reported is dropped. */
  abort(): void {
    this.#onChunks = () => {};
    while (this.#posted.length > 0) this.#collect();
  }

  /** Reports finished jobs without waiting. */
  #drain(): void {
    while (this.#posted.length > 0 && this.#board.isDone(this.#posted[0] as number)) this.#collect();
  }

  #post(final: boolean, last = final): void {
    const slot = this.#slice;
    const board = this.#board;
    board.set(slot, 0, JOB_SCAN);
    board.set(slot, 1, this.#areas[slot]?.ends as number);
    board.set(slot, 2, this.#end);
    board.set(slot, 3, OPEN_CELL);
    board.set(slot, 4, final ? 1 : 0);
    board.set(slot, 7, this.#moved);
    board.set(slot, 8, this.#sequence++);
    board.post(slot);
    this.#posted.push(slot);
    this.#moved = 0;
    this.#handed = this.#end;
    if (last) return;
    this.#slice++;
    if (this.#slice === RING_SLICES) this.#wrap();
    this.#drain();
    // The next slice's memory must be free: its job of the round before is done and reported.
    while (this.#posted.includes(this.#slice)) this.#collect();
    // Content overshoots a slice by up to a packet, and the next slice's first chunk may begin in this one.
    if (this.#slice + 1 < RING_SLICES) while (this.#posted.includes(this.#slice + 1)) this.#collect();
  }

  /** Goes on at the ring's start, with the last 128 KiB before it. */
  #wrap(): void {
    // Chunks of slice 0 may begin in the headroom, and overshoot into slice 1: both must be reported.
    while (this.#posted.includes(0) || this.#posted.includes(1)) this.#collect();
    this.#arena.bytes.copyWithin(HEADROOM, this.#end - MAX_CHUNK, this.#end);
    this.#moved = this.#end - RING;
    this.#end = RING;
    this.#handed = RING;
    this.#slice = 0;
  }

  #collect(): void {
    const slot = this.#posted.shift() as number;
    this.#board.finish(slot, this.#run);
    const area = this.#areas[slot] as ScanArea;
    const count = this.#board.get(slot, 5);
    this.#onChunks({ bytes: this.#arena.bytes, area, start: this.#board.get(slot, 6), count });
  }
}
