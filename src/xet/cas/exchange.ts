/**
 * One request and its answer, on undici's lowest level: the body is handed on as it comes from the socket, without
 * the streams that undici puts around it, which cost as much as all the rest.
 */
import type { Dispatcher } from 'undici';

/** Names in lower case; values of a header that was given several times are joined by commas. */
export type HttpHeaders = Readonly<Record<string, string>>;

export interface Exchanged {
  readonly status: number;
  readonly headers: HttpHeaders;
  readonly body: AnswerBody;
}

/** Bytes that may wait in a connection for whoever reads it; then the sender is held back. */
const READ_AHEAD = 262144;
/** A new connection is cheaper than waiting for bytes that nobody wants. */
const DISCARD_MS = 1000;

/** Resolves with the headers of the answer, or rejects with what undici says, or the reason of `signal`. */
export function exchange(
  dispatcher: Dispatcher,
  options: Dispatcher.DispatchOptions,
  signal: AbortSignal | undefined,
): Promise<Exchanged> {
  return new Promise((resolve, reject) => {
    const handler = new AnswerHandler(signal, resolve, reject);
    if (!handler.isStopped) dispatcher.dispatch(options, handler);
  });
}

class AnswerHandler implements Dispatcher.DispatchHandler {
  isStopped = false;
  readonly #signal: AbortSignal | undefined;
  readonly #resolve: (exchanged: Exchanged) => void;
  readonly #reject: (error: unknown) => void;
  #controller: Dispatcher.DispatchController | undefined;
  #body: AnswerBody | undefined;
  readonly #onAbort = () => this.#stop(this.#signal?.reason);

  constructor(
    signal: AbortSignal | undefined,
    resolve: (exchanged: Exchanged) => void,
    reject: (error: unknown) => void,
  ) {
    this.#signal = signal;
    this.#resolve = resolve;
    this.#reject = reject;
    if (signal?.aborted === true) this.#onAbort();
    else signal?.addEventListener('abort', this.#onAbort);
  }

  onRequestStart(controller: Dispatcher.DispatchController): void {
    this.#controller = controller;
    // It was waiting for a connection when it was stopped.
    if (this.isStopped) controller.abort(stopped());
  }

  onResponseStart(
    controller: Dispatcher.DispatchController,
    status: number,
    headers: Parameters<NonNullable<Dispatcher.DispatchHandler['onResponseStart']>>[2],
  ): void {
    if (status < 200) return;
    this.#body = new AnswerBody(controller);
    this.#resolve({ status, headers: joinHeaders(headers), body: this.#body });
  }

  onResponseData(_controller: Dispatcher.DispatchController, piece: Buffer): void {
    this.#body?.add(piece);
  }

  onResponseEnd(): void {
    this.#signal?.removeEventListener('abort', this.#onAbort);
    this.#body?.finish(undefined);
  }

  onResponseError(_controller: Dispatcher.DispatchController, error: Error): void {
    this.#signal?.removeEventListener('abort', this.#onAbort);
    if (this.#body === undefined) this.#reject(error);
    else this.#body.finish(error);
  }

  #stop(reason: unknown): void {
    this.isStopped = true;
    this.#signal?.removeEventListener('abort', this.#onAbort);
    this.#reject(reason);
    this.#body?.finish(stopped());
    this.#controller?.abort(stopped());
  }
}

/** The body of an answer, piece by piece, for one reader. */
export class AnswerBody {
  readonly #controller: Dispatcher.DispatchController;
  #pieces: Buffer[] = [];
  #waiting = 0;
  #isAtEnd = false;
  #failure: unknown;
  #wake: (() => void) | undefined;
  /** Bytes that may still come of a body that nobody wants. */
  #discarding: number | undefined;

  constructor(controller: Dispatcher.DispatchController) {
    this.#controller = controller;
  }

  /** The next bytes; undefined at the end. Throws what undici says where it ends early. */
  async next(): Promise<Buffer | undefined> {
    for (;;) {
      const piece = this.#pieces.shift();
      if (piece !== undefined) {
        this.#waiting -= piece.length;
        if (this.#waiting <= READ_AHEAD / 2 && this.#controller.paused) this.#controller.resume();
        return piece;
      }
      if (this.#failure !== undefined) throw this.#failure;
      if (this.#isAtEnd) return undefined;
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
  }

  /** Reads up to `limit` bytes that nobody wants, so that the connection can be used again; else, or if that takes long, ends it. */
  async discard(limit: number): Promise<void> {
    const timer = this.destroyAfter(DISCARD_MS);
    this.#discarding = limit - this.#waiting;
    this.#pieces = [];
    this.#waiting = 0;
    if (this.#discarding < 0) this.destroy();
    else if (this.#controller.paused) this.#controller.resume();
    while (!this.#isAtEnd) {
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
    clearTimeout(timer);
  }

  /** Ends the connection after that time, unless the timer is cleared. */
  destroyAfter(ms: number): NodeJS.Timeout {
    return setTimeout(() => this.destroy(), ms);
  }

  /** Ends the connection, if there is anything left to come. */
  destroy(): void {
    if (this.#isAtEnd) return;
    this.finish(stopped());
    this.#controller.abort(stopped());
  }

  add(piece: Buffer): void {
    if (this.#isAtEnd) return;
    if (this.#discarding !== undefined) {
      this.#discarding -= piece.length;
      if (this.#discarding < 0) this.destroy();
      return;
    }
    this.#pieces.push(piece);
    this.#waiting += piece.length;
    if (this.#waiting > READ_AHEAD) this.#controller.pause();
    this.#awake();
  }

  finish(failure: unknown): void {
    if (this.#isAtEnd) return;
    this.#isAtEnd = true;
    this.#failure = failure;
    this.#awake();
  }

  #awake(): void {
    const wake = this.#wake;
    this.#wake = undefined;
    wake?.();
  }
}

function stopped(): Error {
  return new Error('nobody waits for the answer any more');
}

function joinHeaders(headers: Readonly<Record<string, string | string[] | undefined>>): HttpHeaders {
  const joined: Record<string, string> = {};
  for (const [name, value] of Object.entries(headers)) {
    if (value !== undefined) joined[name] = Array.isArray(value) ? value.join(', ') : value;
  }
  return joined;
}
