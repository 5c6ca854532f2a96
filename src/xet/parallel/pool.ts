/** Worker threads that take jobs from a board. */
import { type Arena, type KernelChoice, SCRATCH_SIZE } from '../wasm/kernels.ts';
import type { JobBoard } from './job-board.ts';
import { startThread } from './thread.ts';

export interface WorkerStart {
  readonly memory: Arena['memory'];
  readonly board: SharedArrayBuffer;
  readonly scratch: number;
  readonly kernels: KernelChoice | undefined;
}

/** Arena bytes that `count` workers need for themselves. */
export function workerScratch(count: number): number {
  return (SCRATCH_SIZE + 64) * count;
}

/**
 * Starts `count` workers on `board`. They never keep the process alive. One that cannot start is
 * not missed: whoever waits for a job does it.
 */
export function startWorkers(
  count: number,
  arena: Arena,
  board: JobBoard,
  scratch: number,
  kernels: KernelChoice | undefined,
): void {
  for (let i = 0; i < count; i++) {
    const workerData: WorkerStart = {
      memory: arena.memory,
      board: board.buffer,
      scratch: scratch + (SCRATCH_SIZE + 64) * i,
      kernels,
    };
    try {
      const worker = startThread(new URL('./kernel-worker.js', import.meta.url), workerData);
      worker.on('error', () => {});
    } catch {
      return;
    }
  }
}
