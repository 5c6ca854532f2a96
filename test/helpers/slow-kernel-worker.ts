/** kernel-worker.ts on a machine that is busy with other things: sleeps before and after each job. */
import { workerData } from 'node:worker_threads';
import { JobBoard } from '../../src/xet/parallel/job-board.ts';
import { createRunner } from '../../src/xet/parallel/jobs.ts';
import type { WorkerStart } from '../../src/xet/parallel/pool.ts';
import { loadKernels, openArena } from '../../src/xet/wasm/kernels.ts';

const { memory, board, scratch, kernels } = workerData as WorkerStart;
const arena = openArena(memory);
const run = createRunner(arena, loadKernels(arena, scratch, kernels));
const nap = new Int32Array(new SharedArrayBuffer(4));
let seed = 12345;

function sleep(): void {
  seed = (Math.imul(seed, 1103515245) + 12345) >>> 0;
  Atomics.wait(nap, 0, 0, (seed >>> 16) % 4);
}

new JobBoard(board).work((jobs, slot) => {
  sleep();
  run(jobs, slot);
  sleep();
});
