/** The job of JobBoard tests: counts how often it ran, and takes the time it is told to. */
import type { JobRunner } from '../../src/xet/parallel/job-board.ts';

const nap = new Int32Array(new SharedArrayBuffer(4));

/** Parameters: 1 number of the job, 2 microseconds to take; result in 3: what `answerOf` says. */
export function countingJob(counts: SharedArrayBuffer): JobRunner {
  const words = new Int32Array(counts);
  return (board, slot) => {
    const number = board.get(slot, 1);
    Atomics.add(words, number, 1);
    const time = board.get(slot, 2);
    if (time > 0) Atomics.wait(nap, 0, 0, time / 1000);
    board.set(slot, 3, answerOf(number));
  };
}

export function answerOf(number: number): number {
  return (Math.imul(number, 0x9e3779b1) ^ 0x5bd1e995) | 0;
}
