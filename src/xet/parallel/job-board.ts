/**
 * Jobs for worker threads, in shared memory. The threads sleep in Atomics.wait, so handing a job
 * over costs two atomic operations and no message. Whoever waits for a job that nobody has begun
 * does it itself: so everything also works while the workers are still starting, or with none.
 *
 * Control words (i32):
 *     0        number of the next job that nobody has taken
 *     1        number of jobs posted; workers sleep on it
 *     16 + i   slot of job i, a ring of 64
 *     128 + 16 s   slot s: state, kind, up to 13 parameters and results of the kind, job number
 */
export const RING = 64;
export const MAX_SLOTS = 48;
const TAKEN = 0;
const POSTED = 1;
const QUEUE = 16;
const SLOTS = 128;
const SLOT_WORDS = 16;

const STATE_IDLE = 0;
const STATE_POSTED = 1;
const STATE_RUNNING = 2;
const STATE_DONE = 3;

/** Runs the job in `slot`. Must not throw: failures are results. */
export type JobRunner = (board: JobBoard, slot: number) => void;

export class JobBoard {
  readonly words: Int32Array;

  constructor(buffer: SharedArrayBuffer = new SharedArrayBuffer(4 * (SLOTS + SLOT_WORDS * MAX_SLOTS))) {
    this.words = new Int32Array(buffer);
  }

  get buffer(): SharedArrayBuffer {
    return this.words.buffer as SharedArrayBuffer;
  }

  /** Index in `words` of parameter `i` (0..13) of a slot. Parameter 0 is the kind. */
  parameter(slot: number, i: number): number {
    return SLOTS + SLOT_WORDS * slot + 1 + i;
  }

  get(slot: number, i: number): number {
    return this.words[this.parameter(slot, i)] as number;
  }

  set(slot: number, i: number, value: number): void {
    this.words[this.parameter(slot, i)] = value;
  }

  /** A number up to 2^53 in parameters i and i + 1. */
  setWide(slot: number, i: number, value: number): void {
    this.set(slot, i, (value % 0x100000000) | 0);
    this.set(slot, i + 1, Math.floor(value / 0x100000000));
  }

  getWide(slot: number, i: number): number {
    return (this.get(slot, i) >>> 0) + this.get(slot, i + 1) * 0x100000000;
  }

  /** Hands the slot's job to the workers. Its parameters are set before. */
  post(slot: number): void {
    const number = Atomics.load(this.words, POSTED);
    Atomics.store(this.words, SLOTS + SLOT_WORDS * slot + SLOT_WORDS - 1, number);
    Atomics.store(this.words, SLOTS + SLOT_WORDS * slot, STATE_POSTED);
    Atomics.store(this.words, QUEUE + (number % RING), slot);
    Atomics.store(this.words, POSTED, number + 1);
    Atomics.notify(this.words, POSTED, 1);
  }

  /** True if the job is done; never waits. */
  isDone(slot: number): boolean {
    return Atomics.load(this.words, SLOTS + SLOT_WORDS * slot) === STATE_DONE;
  }

  /** True if a job is somewhere between post and finish. */
  isBusy(slot: number): boolean {
    return Atomics.load(this.words, SLOTS + SLOT_WORDS * slot) !== STATE_IDLE;
  }

  /** Returns when the slot's job is done: does it here if nobody has begun it. */
  finish(slot: number, run: JobRunner): void {
    const state = SLOTS + SLOT_WORDS * slot;
    if (Atomics.compareExchange(this.words, state, STATE_POSTED, STATE_RUNNING) === STATE_POSTED) {
      this.#skip(state);
      run(this, slot);
    } else {
      while (Atomics.load(this.words, state) !== STATE_DONE) Atomics.wait(this.words, state, STATE_RUNNING);
    }
    Atomics.store(this.words, state, STATE_IDLE);
  }

  /** Does the slot's job now, on this thread, if nobody has begun it; `finish` is still to be called. */
  help(slot: number, run: JobRunner): boolean {
    const state = SLOTS + SLOT_WORDS * slot;
    if (Atomics.compareExchange(this.words, state, STATE_POSTED, STATE_RUNNING) !== STATE_POSTED)
      return false;
    this.#skip(state);
    run(this, slot);
    Atomics.store(this.words, state, STATE_DONE);
    return true;
  }

  /** Workers that are late need not come across a job that was taken here. */
  #skip(state: number): void {
    const number = Atomics.load(this.words, state + SLOT_WORDS - 1);
    Atomics.compareExchange(this.words, TAKEN, number, number + 1);
  }

  /** Worker: takes jobs and runs them, for ever. */
  work(run: JobRunner): never {
    for (;;) {
      const taken = Atomics.load(this.words, TAKEN);
      const posted = Atomics.load(this.words, POSTED);
      if (taken === posted) {
        Atomics.wait(this.words, POSTED, posted);
        continue;
      }
      const slot = Atomics.load(this.words, QUEUE + (taken % RING));
      if (Atomics.compareExchange(this.words, TAKEN, taken, taken + 1) !== taken) continue;
      const state = SLOTS + SLOT_WORDS * slot;
      // Not posted any more: the poster did it itself.
      if (Atomics.compareExchange(this.words, state, STATE_POSTED, STATE_RUNNING) !== STATE_POSTED) continue;
      run(this, slot);
      Atomics.store(this.words, state, STATE_DONE);
      Atomics.notify(this.words, state);
    }
  }
}
