/** A worker thread: kernels of its own over the arena it was given, and jobs until the process ends. */
import { workerData } from 'node:worker_threads';
import { loadKernels, openArena } from '../wasm/kernels.ts';
import { JobBoard } from './job-board.ts';
import { createRunner } from './jobs.ts';
import type { WorkerStart } from './pool.ts';

const { memory, board, scratch, kernels } = workerData as WorkerStart;
const arena = openArena(memory);
new JobBoard(board).work(createRunner(arena, loadKernels(arena, scratch, kernels)));
