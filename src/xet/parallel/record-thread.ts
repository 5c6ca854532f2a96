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
  /** In shared memory, and not to be changed before the answer. */
  readonly bytes: Uint8Array;
  /** As `hashRecords` takes them. */
  readonly places: Uint32Array;
}

/** Without hashes where there is something wrong. */
export interface RecordAnswer {
  readonly id: number;
  readonly hashes?: Uint8Array;
}

let hashedSoFar = 0;
let thread: RecordThread | undefined;

/**
 * The hashes of records in shared memory, as `hashRecords` gives them; undefined, at once or later, where the
 * caller has to hash them: there is no thread, it is late, or one of them is damaged.
 */
export function hashBeside(
  bytes: Uint8Array,
  places: Uint32Array,
): Promise<Uint8Array | undefined> | undefined {
  hashedSoFar += bytes.length;
  if (hashedSoFar < HASHED_BEFORE || availableParallelism() < 2) return undefined;
  thread ??= new RecordThread();
  return thread.ask(bytes, places);
}

class RecordThread {
  readonly #waiting = new Map<number, (hashes: Uint8Array | undefined) => void>();
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
    this.#worker.on('message', ({ id, hashes }: RecordAnswer) => this.#answer(id, hashes));
    this.#worker.on('error', () => this.#end());
    this.#worker.on('exit', () => this.#end());
  }

  ask(bytes: Uint8Array, places: Uint32Array): Promise<Uint8Array | undefined> | undefined {
    if (!this.#isReady || this.#waiting.size >= MAX_WAITING) return undefined;
    const id = ++this.#lastId;
    return new Promise((resolve) => {
      // While it is asked it keeps the process alive, which otherwise ends without it.
      if (this.#waiting.size === 0) this.#worker?.ref();
      this.#waiting.set(id, resolve);
      this.#worker?.postMessage({ id, bytes, places } satisfies RecordQuestion);
    });
  }

  #answer(id: number, hashes: Uint8Array | undefined): void {
    const resolve = this.#waiting.get(id);
    this.#waiting.delete(id);
    if (this.#waiting.size === 0) this.#worker?.unref();
    resolve?.(hashes);
  }

  #end(): void {
    this.#isReady = false;
    for (const id of [...this.#waiting.keys()]) this.#answer(id, undefined);
  }
}
