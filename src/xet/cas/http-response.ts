/** The answer to a request: its body as a stream, or whole and bounded. */
import { Git2dbError } from '../errors.ts';
import { throwIfAborted } from './abort.ts';
import type { AnswerBody, HttpHeaders } from './exchange.ts';
import { isTransient } from './http-error.ts';

export interface HttpResponse {
  readonly status: number;
  readonly headers: HttpHeaders;
  /** Where the answer came from, after redirects. */
  readonly url: string;
  /** Once. Throws NETWORK where it ends early: go on from there with a Range. */
  readonly body: AsyncIterable<Buffer>;
  /** All of it; asked for again where it ends early. REMOTE_INVALID if it has more than `limit` bytes. */
  bytes(limit: number): Promise<Buffer>;
  /** REMOTE_INVALID if it is not JSON, or more than `limit` bytes of it. */
  json(limit: number): Promise<unknown>;
  /** For a body that nobody wants: keeps the connection where that is cheap. */
  discard(): Promise<void>;
}

/** Bytes worth reading, to keep a connection. */
const DISCARD_LIMIT = 65536;
/** For what a server says about its refusal. */
const ERROR_MS = 5000;
/** Slower than this, over the idle time, is as good as nothing. */
const MIN_BYTES_PER_SECOND = 1024;

interface AnswerParts {
  readonly status: number;
  readonly headers: HttpHeaders;
  readonly url: string;
  /** For messages. */
  readonly name: string;
  readonly body: AnswerBody;
  /** Undefined: it may be as slow as it likes. */
  readonly idleTimeoutMs: number | undefined;
  readonly signal: AbortSignal | undefined;
  readonly failure: (error: unknown) => Git2dbError;
  /** Makes the request again after a failure that may pass, else throws it. */
  readonly again: (error: Git2dbError) => Promise<Answer>;
}

export class Answer implements HttpResponse {
  readonly status: number;
  readonly headers: HttpHeaders;
  readonly url: string;
  readonly #parts: AnswerParts;

  constructor(parts: AnswerParts) {
    this.status = parts.status;
    this.headers = parts.headers;
    this.url = parts.url;
    this.#parts = parts;
  }

  get body(): AsyncIterable<Buffer> {
    return this.#read();
  }

  async bytes(limit: number): Promise<Buffer> {
    let answer: Answer = this;
    for (;;) {
      try {
        return await answer.#collect(limit);
      } catch (error) {
        if (!isTransient(error)) throw error;
        answer = await this.#parts.again(error as Git2dbError);
        if (answer.status !== this.status) {
          await answer.discard();
          throw new Git2dbError(
            'NETWORK',
            `${this.#parts.name}: the server answered ${this.status}, and when asked again ${answer.status}; try again later`,
            { data: { status: answer.status, transient: false } },
          );
        }
      }
    }
  }

  async json(limit: number): Promise<unknown> {
    const bytes = await this.bytes(limit);
    try {
      return JSON.parse(bytes.toString('utf8'));
    } catch (error) {
      throw new Git2dbError(
        'REMOTE_INVALID',
        `${this.#parts.name}: expected JSON, found something else; check that this is the address of a server of this kind`,
        { cause: error },
      );
    }
  }

  async discard(): Promise<void> {
    await this.#parts.body.discard(DISCARD_LIMIT);
  }

  async #collect(limit: number): Promise<Buffer> {
    const declared = this.headers['content-length'];
    if (declared !== undefined && Number(declared) > limit) throw this.#tooLong(limit);
    const pieces: Buffer[] = [];
    let size = 0;
    for await (const piece of this.#read()) {
      size += piece.length;
      if (size > limit) throw this.#tooLong(limit);
      pieces.push(piece);
    }
    return Buffer.concat(pieces, size);
  }

  #tooLong(limit: number): Git2dbError {
    this.#parts.body.destroy();
    return new Git2dbError(
      'REMOTE_INVALID',
      `${this.#parts.name}: the answer is longer than the ${limit} bytes that are possible here`,
    );
  }

  async *#read(): AsyncGenerator<Buffer, void, undefined> {
    const { body, idleTimeoutMs, signal, failure } = this.#parts;
    let waitedMs = 0;
    let received = 0;
    try {
      for (;;) {
        const since = performance.now();
        const piece = await body.next();
        if (piece === undefined) return;
        waitedMs += performance.now() - since;
        received += piece.length;
        if (idleTimeoutMs !== undefined && waitedMs > idleTimeoutMs) {
          if (received < (waitedMs / 1000) * MIN_BYTES_PER_SECOND) throw tooSlow();
          waitedMs = 0;
          received = 0;
        }
        yield piece;
      }
    } catch (error) {
      throwIfAborted(signal);
      throw failure(error);
    } finally {
      body.destroy();
    }
  }
}

function tooSlow(): Error {
  return Object.assign(new Error('the answer comes too slowly'), { code: 'UND_ERR_BODY_TIMEOUT' });
}

/** At most `limit` bytes from the start of `body`, or what comes of them in a few seconds; the rest is dropped. */
export async function readAtMost(body: AnswerBody, limit: number): Promise<Buffer> {
  const pieces: Buffer[] = [];
  let size = 0;
  const timer = body.destroyAfter(ERROR_MS);
  while (size < limit) {
    const piece = await body.next().catch(() => undefined);
    if (piece === undefined) break;
    pieces.push(piece);
    size += piece.length;
  }
  clearTimeout(timer);
  await body.discard(DISCARD_LIMIT);
  return Buffer.concat(pieces).subarray(0, limit);
}
