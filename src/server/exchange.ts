/**
 * One request and its answer: what handlers see of HTTP. Bodies are read with a limit on bytes and on
 * silence; answers are written with back-pressure.
 */
import type { IncomingMessage, OutgoingHttpHeaders, ServerResponse } from 'node:http';
import { HttpError } from './http-error.ts';

/** Who asks, as far as the credentials say. */
export interface Identity {
  /** For the log: `anonymous`, or the id of a token (never the token). */
  readonly name: string;
  readonly scope: 'none' | 'read' | 'write';
  /** Repositories that the token is for; undefined: all. */
  readonly repositories: string | undefined;
  /** Seconds since 1970; undefined: never. */
  readonly expiresAt?: number | undefined;
}

export interface ExchangeOptions {
  readonly id: string;
  readonly path: string;
  readonly query: URLSearchParams;
  /** Where the client reaches this server, without a slash at the end. */
  readonly base: string;
  readonly client: string;
  readonly idleTimeoutMs: number;
  readonly signal: AbortSignal;
}

/** A body that came at less than this rate for this long is given up. */
const SLOW_AFTER_S = 30;
const MIN_BYTES_PER_S = 256;

/** Longest JSON answer, characters. */
const MAX_JSON = 16 * 1024 * 1024;

export class Exchange {
  readonly request: IncomingMessage;
  readonly response: ServerResponse;
  readonly id: string;
  readonly method: string;
  /** Still percent-encoded, without the query. */
  readonly path: string;
  readonly query: URLSearchParams;
  readonly base: string;
  readonly client: string;
  /** Fires when the client is gone, or the server ends. */
  readonly signal: AbortSignal;
  identity: Identity = { name: 'anonymous', scope: 'none', repositories: undefined };
  /** Name of the route, for log and metrics. */
  route = 'none';
  params: Readonly<Record<string, string>> = {};
  bytesIn = 0;
  bytesOut = 0;
  readonly #idleTimeoutMs: number;
  #bodyTaken = false;

  constructor(request: IncomingMessage, response: ServerResponse, options: ExchangeOptions) {
    this.request = request;
    this.response = response;
    this.method = request.method ?? 'GET';
    this.id = options.id;
    this.path = options.path;
    this.query = options.query;
    this.base = options.base;
    this.client = options.client;
    this.signal = options.signal;
    this.#idleTimeoutMs = options.idleTimeoutMs;
  }

  /** A header of the request that may stand there once. */
  header(name: string): string | undefined {
    const value = this.request.headers[name];
    return Array.isArray(value) ? value[0] : value;
  }

  /** A parameter of the route; the route's pattern guarantees that it is there. */
  param(name: string): string {
    const value = this.params[name];
    if (value === undefined) throw new Error(`the route ${this.route} has no parameter ${name}`);
    return value;
  }

  /** Bytes that the request announces; undefined when it comes in pieces. */
  get contentLength(): number | undefined {
    const text = this.header('content-length');
    return text === undefined ? undefined : Number(text);
  }

  /**
   * The body, piece by piece; 413 as soon as it is known to exceed `limit`, before or while it is read. 408
   * when nothing comes for the idle time.
   */
  async *body(limit: number): AsyncGenerator<Buffer, void, undefined> {
    const watch = this.#openBody(limit);
    try {
      // A body that is not read to its end does not end the connection: the answer still goes through it.
      const pieces = this.request.iterator({ destroyOnReturn: false });
      for await (const piece of pieces as AsyncIterable<Buffer>) {
        watch.count(piece.length);
        watch.rest();
        yield piece;
        watch.go();
      }
    } finally {
      watch.stop();
    }
    watch.finish();
  }

  /**
   * The same by calls, for bodies that come by the gigabyte: `take` gets each piece as it comes, for as long as
   * the call or the promise it returns lasts, and the next one after that.
   */
  async consume(limit: number, take: (piece: Buffer) => Promise<void> | undefined): Promise<void> {
    const watch = this.#openBody(limit);
    const { request } = this;
    const leave: (() => void)[] = [];
    try {
      await new Promise<void>((resolve, reject) => {
        const on = (event: string, listener: (...args: never[]) => void) => {
          request.on(event, listener as () => void);
          leave.push(() => request.off(event, listener as () => void));
        };
        const go = () => {
          watch.go();
          request.resume();
        };
        on('end', resolve);
        on('error', reject);
        on('close', () => reject(new HttpError(400, 'the body was cut off')));
        on('data', (piece: Buffer) => {
          try {
            watch.count(piece.length);
            const pending = take(piece);
            if (pending === undefined) return;
            request.pause();
            watch.rest();
            pending.then(go, reject);
          } catch (error) {
            reject(error);
          }
        });
      });
    } finally {
      request.pause();
      for (const off of leave) off();
      watch.stop();
    }
    watch.finish();
  }

  #openBody(limit: number): BodyWatch {
    const announced = this.contentLength;
    if (announced !== undefined && !(announced <= limit)) throw tooLarge(limit);
    if (this.#bodyTaken) throw new Error('the body was read already');
    this.#bodyTaken = true;
    return new BodyWatch(this, { announced, limit, idleTimeoutMs: this.#idleTimeoutMs });
  }

  /** All of a body of at most `limit` bytes. */
  async readBody(limit: number): Promise<Buffer> {
    const pieces: Buffer[] = [];
    for await (const piece of this.body(limit)) pieces.push(piece);
    return Buffer.concat(pieces);
  }

  async readJson(limit = 1024 * 1024): Promise<unknown> {
    const bytes = await this.readBody(limit);
    try {
      return JSON.parse(bytes.toString('utf8'));
    } catch {
      throw new HttpError(400, 'the body is not JSON');
    }
  }

  json(value: unknown, status = 200, headers: OutgoingHttpHeaders = {}): void {
    const text = JSON.stringify(value);
    if (text.length > MAX_JSON) throw new HttpError(413, 'the answer is too long: ask for less at a time');
    this.bytes(Buffer.from(text), 'application/json', status, headers);
  }

  bytes(bytes: Uint8Array, type: string, status = 200, headers: OutgoingHttpHeaders = {}): void {
    this.head(status, { 'Content-Type': type, 'Content-Length': bytes.length, ...headers });
    if (this.method !== 'HEAD') this.bytesOut += bytes.length;
    this.response.end(this.method === 'HEAD' ? undefined : bytes);
  }

  /** An answer without a body. */
  empty(status: number, headers: OutgoingHttpHeaders = {}): void {
    this.head(status, status === 204 || status === 304 ? headers : { 'Content-Length': 0, ...headers });
    this.response.end();
  }

  head(status: number, headers: OutgoingHttpHeaders): void {
    this.response.writeHead(status, headers);
  }

  /** Writes the pieces, waiting for the client, and ends the answer. Call `head` before. */
  async stream(pieces: AsyncIterable<Uint8Array> | Iterable<Uint8Array>): Promise<void> {
    for await (const piece of pieces) await this.write(piece);
    await new Promise<void>((resolve) => this.response.end(resolve));
  }

  /** One piece of an answer, waiting until the client takes it. Throws AbortError when the client has gone. */
  async write(piece: Uint8Array): Promise<void> {
    this.signal.throwIfAborted();
    this.bytesOut += piece.length;
    if (this.response.write(piece)) return;
    await new Promise<void>((resolve) => {
      const done = () => {
        this.response.off('drain', done);
        this.response.off('close', done);
        resolve();
      };
      this.response.on('drain', done);
      this.response.on('close', done);
    });
    this.signal.throwIfAborted();
  }
}

/** Counts what comes of a body, and gives it up when it is too much, too slow or nothing for too long. */
class BodyWatch {
  readonly #exchange: Exchange;
  readonly #announced: number | undefined;
  readonly #limit: number;
  readonly #silence: NodeJS.Timeout;
  readonly #start: number = performance.now();
  #received = 0;
  /** Whether it is the client that we wait for. */
  #isWaiting = true;

  constructor(
    exchange: Exchange,
    options: {
      readonly announced: number | undefined;
      readonly limit: number;
      readonly idleTimeoutMs: number;
    },
  ) {
    this.#exchange = exchange;
    this.#announced = options.announced;
    this.#limit = options.limit;
    this.#silence = setTimeout(() => {
      if (!this.#isWaiting) this.#silence.refresh();
      else exchange.request.destroy(new HttpError(408, 'nothing came for too long'));
    }, options.idleTimeoutMs);
  }

  count(length: number): void {
    this.#received += length;
    this.#exchange.bytesIn += length;
    if (this.#received > this.#limit) throw tooLarge(this.#limit);
    const seconds = (performance.now() - this.#start) / 1000;
    if (seconds > SLOW_AFTER_S && this.#received < seconds * MIN_BYTES_PER_S) {
      throw new HttpError(408, 'the body comes too slowly', { Connection: 'close' });
    }
    this.#silence.refresh();
  }

  /** It is our turn: what came is being worked on. */
  rest(): void {
    this.#isWaiting = false;
  }

  go(): void {
    this.#isWaiting = true;
    this.#silence.refresh();
  }

  stop(): void {
    clearTimeout(this.#silence);
  }

  finish(): void {
    if (this.#announced === undefined || this.#received === this.#announced) return;
    throw new HttpError(400, `the body has ${this.#received} bytes, ${this.#announced} were announced`);
  }
}

function tooLarge(limit: number): HttpError {
  return new HttpError(413, `the body is larger than the ${limit} bytes that are accepted here`);
}
