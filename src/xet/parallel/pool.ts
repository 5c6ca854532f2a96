/** Worker threads that take jobs from a board. Starting them costs some 35 ms of CPU each. */
import { createRequire } from 'node:module';
import type { Worker } from 'node:worker_threads';
import { type Arena, type KernelChoice, SCRATCH_SIZE } from '../wasm/kernels.ts';
import type { JobBoard } from './job-board.ts';

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
  // Loaded here and not above: most runs of the filter need no thread.
  const { Worker: WorkerClass } = createRequire(import.meta.url)('node:worker_threads') as {
    Worker: typeof Worker;
  };
  for (let i = 0; i < count; i++) {
    const workerData: WorkerStart = {
      memory: arena.memory,
      board: board.buffer,
      scratch: scratch + (SCRATCH_SIZE + 64) * i,
      kernels,
    };
    try {
      const worker = new WorkerClass(new URL('./kernel-worker.js', import.meta.url), {
        workerData,
        // Else Node opens process.stdout to forward the thread's output, which makes the pipe to git
        // non-blocking: every full pipe would then cost a pause.
        stdout: true,
        stderr: true,
      });
      worker.on('error', () => {});
      worker.unref();
    } catch {
      return;
    }
  }
}
