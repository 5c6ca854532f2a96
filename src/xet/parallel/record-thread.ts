/**
 * Hashing of records beside the thread that moves bytes between sockets and files, for who receives xorbs. One
 * thread does for a process: it hashes several times as fast as the other one receives.
 */
import { availableParallelism } from 'node:os';
import type { Worker } from 'node:worker_threads';
import { startThread } from './thread.ts';

/** Bytes that are hashed without it: starting a thread takes as long. */
const HASHED_BEFORE = 16 << 20;
/** With so many unanswered, whoever asks is quicker himself. */
const MAX_WAITING = 6;

export interface RecordQuestion {
  readonly id: number;
  /** Goes to the thread, and comes back with the answer: copying into memory that is shared takes 15 times as long. */
  readonly buffer: ArrayBuffer;
  /** As `hashRecords` takes them. */
  readonly places: Uint32Array;
}

export interface RecordAnswer {
  readonly id: number;
  readonly buffer: ArrayBuffer;
  /** None where there is something wrong. */
  readonly hashes?: Uint8Array | undefined;
}

/** The bytes, back again, and the hashes of their records; none where one of them is damaged. */
export type HashedBeside = Pick<RecordAnswer, 'buffer' | 'hashes'>;

let hashedSoFar = 0;
let thread: RecordThread | undefined;

/**
 * Whether `hashBeside` would take so many bytes now: there is enough to hash for a thread, it is there, and it is not
 * late.
 */
export function canHashBeside(bytes: number): boolean {
  hashedSoFar += bytes;
  if (hashedSoFar < HASHED_BEFORE || availableParallelism() < 2) return false;
  thread ??= new RecordThread();
  return thread.isFree;
}

/**
 * Has the records in `buffer` hashed, which is gone until the answer is there; undefined, and the buffer as it was,
 * where the caller has to hash them. Rejects when the thread has ended, and the bytes with it.
 */
export function hashBeside(buffer: ArrayBuffer, places: Uint32Array): Promise<HashedBeside> | undefined {
  return thread?.isFree ? thread.ask(buffer, places) : undefined;
}

class RecordThread {
  readonly #waiting = new Map<number, (answer: RecordAnswer | undefined) => void>();
  #worker: Worker | undefined;
  #isReady = false;
  #lastId = 0;

  constructor() {
    try {
      this.#worker = startThread(new URL('./record-worker.js', import.meta.url));
    } catch {
      return;
    }
    this.#worker.on('online', () => {
      this.#isReady = true;
    });
    this.#worker.on('message', (answer: RecordAnswer) => this.#answer(answer.id, answer));
    this.#worker.on('error', () => this.#end());
    this.#worker.on('exit', () => this.#end());
    // Who listens for messages keeps the process alive until it says otherwise, also if nothing is ever asked.
    this.#worker.unref();
  }

  get isFree(): boolean {
    return this.#isReady && this.#waiting.size < MAX_WAITING;
  }

  ask(buffer: ArrayBuffer, places: Uint32Array): Promise<HashedBeside> {
    const id = ++this.#lastId;
    return new Promise((resolve, reject) => {
      // While it is asked it keeps the process alive, which otherwise ends without it.
      if (this.#waiting.size === 0) this.#worker?.ref();
      this.#waiting.set(id, (answer) => {
        if (answer === undefined) reject(new Error('the thread that hashes what comes in has ended'));
        else resolve(answer);
      });
      this.#worker?.postMessage({ id, buffer, places } satisfies RecordQuestion, [buffer]);
    });
  }

  #answer(id: number, answer: RecordAnswer | undefined): void {
    const resolve = this.#waiting.get(id);
    this.#waiting.delete(id);
    if (this.#waiting.size === 0) this.#worker?.unref();
    resolve?.(answer);
  }

  #end(): void {
    this.#isReady = false;
    for (const id of [...this.#waiting.keys()]) this.#answer(id, undefined);
  }
}
