/** An object's content as a stream from a `git cat-file`, for objects of any size. */
import type { ObjectHeader, Sink } from './answer-reader.ts';
import type { RunningGit } from './process.ts';

/** An object whose content comes piece by piece. */
export interface ObjectStream extends ObjectHeader {
  /** Once. Leaving the loop early is no failure. */
  readonly body: AsyncIterable<Buffer>;
  /** For a stream that is not read, or not to its end. */
  close(): Promise<void>;
}

/** Bytes of a stream that wait for their reader before git is made to wait. */
const STREAM_AHEAD = 2 ** 20;

/** Content on its way from git to a reader that may be slower. */
export class ObjectFlow implements Sink {
  readonly #running: RunningGit;
  readonly #signal: AbortSignal | undefined;
  readonly #released: (ended: boolean) => void;
  readonly #pieces: Buffer[] = [];
  #waitingBytes = 0;
  #state: 'flowing' | 'complete' | 'left' = 'flowing';
  #error: unknown;
  #wake: (() => void) | undefined;
  #isReleased = false;

  constructor(running: RunningGit, signal: AbortSignal | undefined, released: (ended: boolean) => void) {
    this.#running = running;
    this.#signal = signal;
    this.#released = released;
    signal?.addEventListener('abort', this.#onAbort, { once: true });
    if (signal?.aborted) this.#onAbort();
  }

  readonly #onAbort = (): void => {
    this.fail(aborted(this.#signal?.reason));
    this.#running.stop();
  };

  write(piece: Buffer): void {
    if (this.#state === 'left') return;
    this.#pieces.push(Buffer.from(piece));
    this.#waitingBytes += piece.length;
    if (this.#waitingBytes >= STREAM_AHEAD) this.#running.stdout.pause();
    this.#wake?.();
  }

  end(): void {
    if (this.#state === 'flowing') this.#state = 'complete';
    this.#release(false);
    this.#wake?.();
  }

  fail(error: unknown): void {
    if (this.#state === 'flowing') {
      this.#error ??= error;
      this.#state = 'complete';
    }
    this.#release(true);
    this.#wake?.();
  }

  async *read(): AsyncIterable<Buffer> {
    try {
      for (;;) {
        const piece = this.#pieces.shift();
        if (piece !== undefined) {
          this.#waitingBytes -= piece.length;
          if (this.#waitingBytes < STREAM_AHEAD / 2) this.#running.stdout.resume();
          yield piece;
          continue;
        }
        if (this.#error !== undefined) throw this.#error;
        if (this.#state !== 'flowing') return;
        await new Promise<void>((resolve) => {
          this.#wake = resolve;
        });
        this.#wake = undefined;
      }
    } finally {
      await this.close();
    }
  }

  async close(): Promise<void> {
    const unfinished = this.#state === 'flowing';
    this.#state = this.#state === 'flowing' ? 'left' : this.#state;
    this.#pieces.length = 0;
    if (unfinished) {
      this.#running.stop();
      await this.#running.ended.catch(() => {});
    } else {
      this.#running.stdout.resume();
    }
    this.#release(unfinished);
    this.#wake?.();
  }

  #release(ended: boolean): void {
    if (this.#isReleased) return;
    this.#isReleased = true;
    this.#signal?.removeEventListener('abort', this.#onAbort);
    this.#released(ended);
  }
}

function aborted(reason: unknown): Error {
  const error = new Error('reading a git object was stopped before it ended', { cause: reason });
  error.name = 'AbortError';
  return error;
}
