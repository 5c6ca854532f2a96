/** The kinds of jobs, and how each is done: the same code on a worker and on the main thread. */
import { writevSync } from 'node:fs';
import { MAX_BATCH, ScanArea } from '../chunk/scan-area.ts';
import { WindowSlot } from '../reconstruct/window-reader.ts';
import type { Arena, Kernels } from '../wasm/kernels.ts';
import type { JobBoard, JobRunner } from './job-board.ts';

/**
 * Read and verify a window; with a target, write its bytes there.
 *     1 base address of the slot   2 fd   3,4 offset   5 length   6 chunk count
 *     7 target fd or -1   8,9 target offset   ->   10 result
 */
export const JOB_READ = 1;
/**
 * Find and hash the chunks of [open, end). The open chunk starts where the job before left it.
 *     1 address of the job's results   2 end of the data   3 address of two words: the open chunk's start, scans done
 *     4 1 if the data end here   7 how far the data moved down since
 *     8 number of this scan   ->   5 number of chunks   6 start of the first
 */
export const JOB_SCAN = 2;

export const READ_RESULT = 10;
export const READ_OK = -1;
/** Writing to the target failed; other results are the number of the bad chunk. */
export const READ_TARGET_FAILED = -2;

/** A runner for one thread. `scratch` belongs to that thread's kernels alone. */
export function createRunner(arena: Arena, kernels: Kernels): JobRunner {
  return (board, slot) => {
    if (board.get(slot, 0) === JOB_READ) runRead(board, slot, arena, kernels);
    else runScan(board, slot, arena, kernels);
  };
}

function runRead(board: JobBoard, slot: number, arena: Arena, kernels: Kernels): void {
  const window = new WindowSlot(arena, board.get(slot, 1));
  const count = board.get(slot, 6);
  let result = 0;
  try {
    const failure = window.read(
      kernels,
      board.get(slot, 2),
      board.getWide(slot, 3),
      board.get(slot, 5),
      count,
    );
    result = failure === undefined ? READ_OK : failure.chunk;
    const target = board.get(slot, 7);
    if (failure === undefined && target >= 0) {
      result = READ_TARGET_FAILED;
      writeWindow(window, count, target, board.getWide(slot, 8));
      result = READ_OK;
    }
  } catch {
    // An I/O error: the main thread does the work again and meets the error where it can be told.
  }
  board.set(slot, READ_RESULT, result);
}

/** Writes a verified window's chunks, in order, to `position` of a file. */
export function writeWindow(window: WindowSlot, count: number, fd: number, position: number): void {
  let views = Array.from({ length: count }, (_, i) => window.chunk(i));
  let at = position;
  while (views.length > 0) {
    let written = writevSync(fd, views.slice(0, 1024), at);
    at += written;
    let next = 0;
    while (next < views.length && written >= (views[next] as Uint8Array).length)
      written -= (views[next++] as Uint8Array).length;
    views = views.slice(next);
    if (written > 0) views[0] = (views[0] as Uint8Array).subarray(written);
  }
}

/** Run in the order of posting, one at a time: each begins with the chunk that the one before left open. */
function runScan(board: JobBoard, slot: number, arena: Arena, kernels: Kernels): void {
  const area = new ScanArea(arena, board.get(slot, 1));
  const words = new Uint32Array(arena.bytes.buffer);
  const end = board.get(slot, 2);
  const cell = board.get(slot, 3) / 4;
  const turn = new Int32Array(arena.bytes.buffer);
  const sequence = board.get(slot, 8);
  for (let done = Atomics.load(turn, cell + 1); done !== sequence; done = Atomics.load(turn, cell + 1)) {
    Atomics.wait(turn, cell + 1, done);
  }
  const first = (words[cell] as number) - board.get(slot, 7);
  // The open chunk is scanned again from its start, 64 KiB on average: cheaper than handing the
  // kernel's state from thread to thread.
  let count = kernels.findBoundaries(first, first, end, area.ends, MAX_BATCH - 1);
  let open = count > 0 ? (words[area.ends / 4 + count - 1] as number) : first;
  if (board.get(slot, 4) === 1 && open < end) {
    words[area.ends / 4 + count] = end;
    open = end;
    count++;
  }
  kernels.hashChunks(first, area.ends, count, area.hashes);
  words[cell] = open;
  board.set(slot, 5, count);
  board.set(slot, 6, first);
  Atomics.store(turn, cell + 1, sequence + 1);
  Atomics.notify(turn, cell + 1);
}
