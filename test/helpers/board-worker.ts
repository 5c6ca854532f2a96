/** A thread of JobBoard tests: `countingJob` until the process ends. */
import { workerData } from 'node:worker_threads';
import { JobBoard } from '../../src/xet/parallel/job-board.ts';
import { countingJob } from './counting-job.ts';

const { board, counts } = workerData as { board: SharedArrayBuffer; counts: SharedArrayBuffer };
new JobBoard(board).work(countingJob(counts));
