/**
 * The one door to HTTP. Requests are repeated where that may help (lost connections, timeouts, 408, 429, 5xx
 * but 501), after a pause that grows, or the one that the server asks for. Redirects are followed for GET and
 * HEAD only, never from https to http, and never from out in the world to an address of this machine or network.
 * A token goes to its own authority and to no other.
 */
import { setMaxListeners } from 'node:events';
import type { Readable } from 'node:stream';
import { Git2dbError } from '../errors.ts';
import { throwIfAborted } from './abort.ts';
import { Connections, type Reach } from './connections.ts';
import { type Exchanged, exchange } from './exchange.ts';
import {
  errorOfConnection,
  errorOfStatus,
  isTransient,
  nameRequest,
  nameUrl,
  serverWords,
} from './http-error.ts';
import { Answer, type HttpResponse, readAtMost } from './http-response.ts';
import type { HttpSettings } from './http-settings.ts';
import { backOff, MAX_RETRY_AFTER_MS, parseRetryAfter, SYSTEM_CLOCK } from './retry.ts';
import type { TokenScope, TokenSource } from './token.ts';

export type { HttpHeaders } from './exchange.ts';
export type { HttpResponse } from './http-response.ts';
export { type HttpConfig, type HttpSettings, httpSettingsFrom } from './http-settings.ts';

/** A body that is made anew for each try. */
export interface StreamBody {
  /** Bytes. */
  readonly length: number;
  readonly stream: () => AsyncIterable<Uint8Array> | Iterable<Uint8Array>;
}

export interface HttpRequest {
  readonly method: 'GET' | 'HEAD' | 'PUT' | 'POST' | 'DELETE';
  readonly url: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: Uint8Array | StreamBody | undefined;
  /** Sent to its own authority; a request to another authority with it is an error of the caller. */
  readonly token?: TokenSource | undefined;
  /** Default `read`. */
  readonly scope?: TokenScope | undefined;
  readonly signal?: AbortSignal | undefined;
  /** Statuses that are returned; every other one is thrown, after all retries. */
  readonly accept: readonly number[];
  /** Whether it may be made twice. Default: not for POST. */
  readonly idempotent?: boolean;
  /** Default true. */
  readonly follow?: boolean;
  /** URL of the answer that named `url`: the same rules as for a redirect from there. */
  readonly namedBy?: string | undefined;
  /** Longest time until the headers of the answer, where that is not the default. */
  readonly headersTimeoutMs?: number;
  /** The answer is a stream of news, which may be silent for longer than others: only this silence ends it. */
  readonly silenceMs?: number;
}

const DEFAULT_RETRIES = 5;
const MAX_REDIRECTS = 5;
const REDIRECTS: ReadonlySet<number> = new Set([301, 302, 303, 307, 308]);
const MAX_ERROR_BODY = 16384;

/** Tries of one request, those after a body that ended early included. */
interface Tries {
  count: number;
  hasRenewedToken: boolean;
}

interface Sent {
  readonly answer: Exchanged;
  readonly url: URL;
  readonly proxy: URL | undefined;
}

export class HttpClient {
  readonly #settings: HttpSettings;
  readonly #connections: Connections;

  private constructor(settings: HttpSettings) {
    this.#settings = settings;
    this.#connections = new Connections(settings);
  }

  static open(settings: HttpSettings = {}): HttpClient {
    return new HttpClient(settings);
  }

  /** Begins to load what the first request waits for, for who is waiting for something else just now. */
  static preload(): void {
    // What cannot be loaded is told by the request.
    import('./http-library.ts').catch(() => {});
  }

  /**
   * Resolves with the headers of an answer whose status is one of `accept`. Throws AUTH_FAILED, REMOTE_FORBIDDEN,
   * REMOTE_MISSING, NETWORK, REMOTE_INVALID, LIMIT_EXCEEDED, DISK_FULL (http-error.ts), or an AbortError.
   * The body must be read, or `discard`ed.
   */
  async request(request: HttpRequest): Promise<HttpResponse> {
    return this.#repeat(request, { count: 0, hasRenewedToken: false });
  }

  /** Ends all connections at once; requests under way fail. */
  async close(): Promise<void> {
    await this.#connections.close();
  }

  async #repeat(request: HttpRequest, tries: Tries): Promise<Answer> {
    if (request.signal !== undefined) setMaxListeners(0, request.signal);
    for (;;) {
      throwIfAborted(request.signal);
      try {
        return await this.#try(request, tries);
      } catch (error) {
        await this.#pause(error, request, tries);
      }
    }
  }

  /**
   * Before the next try of something that failed with `error` for the `failures`th time: waits as long as the server
   * asked for, or an ever longer time. Throws `error` where another try is not worth it, or an AbortError.
   */
  async waitToRetry(error: unknown, failures: number, signal: AbortSignal | undefined): Promise<void> {
    throwIfAborted(signal);
    const { clock = SYSTEM_CLOCK, retries = DEFAULT_RETRIES, log } = this.#settings;
    if (!(error instanceof Git2dbError) || !isTransient(error) || failures > retries) throw error;
    const asked = error.data.retryAfterMs;
    const least = typeof asked === 'number' ? asked : undefined;
    if (least !== undefined && least > MAX_RETRY_AFTER_MS) throw error;
    const wait = least === undefined ? backOff(failures - 1, clock) : least + backOff(0, clock);
    log?.(`${error.message}; next try in ${wait} ms`);
    await clock.sleep(wait, signal).catch(() => undefined);
    throwIfAborted(signal);
  }

  async #pause(
    error: unknown,
    { method, signal, idempotent = method !== 'POST' }: HttpRequest,
    tries: Tries,
  ) {
    throwIfAborted(signal);
    if (!idempotent) throw error;
    await this.waitToRetry(error, tries.count, signal);
  }

  /** One try, redirects and a renewed token included. */
  async #try(request: HttpRequest, tries: Tries): Promise<Answer> {
    tries.count++;
    const { token, signal, method } = request;
    const scope = request.scope ?? 'read';
    for (;;) {
      const value = await token?.get(scope, signal).catch(asFinal);
      const sent = await this.#follow(request, value);
      const { status } = sent.answer;
      if (request.accept.includes(status)) {
        if (status !== 401) token?.accept?.(value);
        return this.#answer(request, sent, tries);
      }
      const failed = await this.#failure(request, sent, value, tries);
      if (status !== 401 || token === undefined || sent.url.origin !== token.authority) throw failed;
      token.invalidate(value);
      if (tries.hasRenewedToken) throw failed;
      tries.hasRenewedToken = true;
      if ((await token.get(scope, signal)) === value) throw failed;
      this.#settings.log?.(`${nameRequest(method, sent.url)}: the token was refused; trying another one`);
    }
  }

  #answer(request: HttpRequest, sent: Sent, tries: Tries): Answer {
    const { answer, url, proxy } = sent;
    const { headers } = answer;
    const { method, signal } = request;
    const { idleTimeoutMs = 60_000 } = this.#settings;
    const encoding = headers['content-encoding'];
    if (encoding !== undefined && encoding !== 'identity' && method !== 'HEAD') {
      answer.body.destroy();
      throw new Git2dbError(
        'REMOTE_INVALID',
        `${nameRequest(method, url)}: the answer is compressed, which it was asked not to be; check what stands between here and the server`,
        { data: { host: url.host } },
      );
    }
    return new Answer({
      status: answer.status,
      headers,
      url: url.href,
      name: nameRequest(method, url),
      body: answer.body,
      idleTimeoutMs: request.silenceMs === undefined ? idleTimeoutMs : undefined,
      signal,
      failure: (error) => errorOfConnection(error, method, url, proxy),
      again: async (error) => {
        await this.#pause(error, request, tries);
        return this.#repeat(request, tries);
      },
    });
  }

  /** Sends it, and follows where the server points. */
  async #follow(request: HttpRequest, tokenValue: string | undefined): Promise<Sent> {
    const { token, accept, follow = true, method } = request;
    let url = checkedUrl(request.url, undefined);
    let reach: Reach = 'any';
    if (token !== undefined && token.authority !== url.origin) {
      throw new Git2dbError(
        'REMOTE_INVALID',
        `the token for ${token.authority} is not sent to ${url.origin}: it belongs to that authority alone`,
      );
    }
    if (request.namedBy !== undefined)
      reach = this.#reach(checkedUrl(request.namedBy, undefined), url, reach);
    for (let hops = 0; ; hops++) {
      const sent = await this.#send(
        request,
        url,
        reach,
        token?.authority === url.origin ? tokenValue : undefined,
      );
      const { status } = sent.answer;
      if (!REDIRECTS.has(status) || accept.includes(status)) return sent;
      const { location } = sent.answer.headers;
      await sent.answer.body.discard(MAX_ERROR_BODY);
      if (
        !follow ||
        (method !== 'GET' && method !== 'HEAD') ||
        location === undefined ||
        hops === MAX_REDIRECTS
      ) {
        throw refusedRedirect(method, url, location, hops === MAX_REDIRECTS);
      }
      const next = checkedUrl(location, url);
      reach = this.#reach(url, next, reach);
      this.#settings.log?.(`${nameRequest(method, url)}: redirected to ${nameUrl(next)}`);
      url = next;
    }
  }

  /** What may be reached at `to`, which a server at `from` has named. */
  #reach(from: URL, to: URL, reach: Reach): Reach {
    if (from.protocol === 'https:' && to.protocol === 'http:') {
      throw new Git2dbError(
        'REMOTE_INVALID',
        `${nameUrl(from)} sends us on to ${nameUrl(to)}, which is not encrypted; that is refused. The server must name an https: URL`,
        { data: { host: from.host } },
      );
    }
    return from.origin === to.origin || this.#connections.isPrivate(from) ? reach : 'public';
  }

  async #send(request: HttpRequest, url: URL, reach: Reach, tokenValue: string | undefined): Promise<Sent> {
    const { method, body, signal, token } = request;
    const { idleTimeoutMs = 60_000, headersTimeoutMs = 120_000, userAgent = 'git2db' } = this.#settings;
    const route = await this.#connections.route(url, reach);
    const headers: Record<string, string> = {
      'user-agent': userAgent,
      accept: '*/*',
      'accept-encoding': 'identity',
      ...request.headers,
      ...route.headers,
    };
    if (tokenValue !== undefined) headers.authorization = `${token?.scheme ?? 'Bearer'} ${tokenValue}`;
    const isStream = body !== undefined && !(body instanceof Uint8Array);
    if (isStream) headers['content-length'] = String(body.length);
    const watch: BodyWatch = { failure: undefined };
    try {
      const answer = await exchange(
        route.dispatcher,
        {
          origin: route.origin,
          path: route.path,
          method,
          headers,
          // undici takes any iterable of bytes, which its types do not tell.
          body: isStream ? (watched(body.stream(), watch) as unknown as Readable) : (body ?? null),
          headersTimeout: request.headersTimeoutMs ?? headersTimeoutMs,
          bodyTimeout: request.silenceMs ?? idleTimeoutMs,
        },
        signal,
      );
      return { answer, url, proxy: route.proxy };
    } catch (error) {
      throwIfAborted(signal);
      if (watch.failure !== undefined) throw watch.failure.error;
      throw errorOfConnection(error, method, url, route.proxy);
    }
  }

  /** Reads a little of what the server says about it. */
  async #failure(
    request: HttpRequest,
    sent: Sent,
    tokenValue: string | undefined,
    tries: Tries,
  ): Promise<Git2dbError> {
    const { answer, url } = sent;
    const { headers } = answer;
    const { clock = SYSTEM_CLOCK } = this.#settings;
    const words = serverWords(await readAtMost(answer.body, MAX_ERROR_BODY), headers['content-type']);
    throwIfAborted(request.signal);
    return errorOfStatus({
      method: request.method,
      url,
      status: answer.status,
      // Some servers repeat what they refuse.
      said: tokenValue === undefined ? words.said : words.said?.replaceAll(tokenValue, '...'),
      code: words.code,
      requestId: cleanId(headers['x-request-id']),
      retryAfterMs: parseRetryAfter(headers['retry-after'], clock),
      isAuthorized: tokenValue !== undefined,
      attempts: tries.count,
    });
  }
}

/** A failure of whoever makes the body is not one of the network. */
interface BodyWatch {
  failure: { readonly error: unknown } | undefined;
}

async function* watched(
  body: AsyncIterable<Uint8Array> | Iterable<Uint8Array>,
  watch: BodyWatch,
): AsyncGenerator<Uint8Array, void, undefined> {
  try {
    yield* body;
  } catch (error) {
    watch.failure = { error };
    throw error;
  }
}

/** What failed for good while a token was asked for is not to be tried again with the request that needs it. */
function asFinal(error: unknown): never {
  if (!(error instanceof Git2dbError) || !isTransient(error)) throw error;
  throw new Git2dbError(error.code, error.message, {
    cause: error,
    data: { ...error.data, transient: false },
  });
}

function checkedUrl(text: string, base: URL | undefined): URL {
  if (!URL.canParse(text, base?.href)) {
    const what =
      base === undefined ? 'not a URL' : `${nameUrl(base)} sends us to something that is not a URL`;
    throw new Git2dbError('REMOTE_INVALID', `${what}; expected http:// or https://`);
  }
  const url = new URL(text, base?.href);
  if (url.protocol !== 'http:' && url.protocol !== 'https:') {
    throw new Git2dbError(
      'REMOTE_INVALID',
      `${url.protocol} URLs are not asked; expected http:// or https://`,
    );
  }
  return url;
}

function refusedRedirect(
  method: string,
  url: URL,
  location: string | undefined,
  isTooMany: boolean,
): Git2dbError {
  const where =
    location !== undefined && URL.canParse(location, url.href)
      ? nameUrl(new URL(location, url.href))
      : 'nowhere';
  const why = isTooMany ? `after ${MAX_REDIRECTS} redirects already` : 'which is not followed here';
  return new Git2dbError(
    'REMOTE_INVALID',
    `${nameRequest(method, url)}: the server redirects to ${where}, ${why}; use the address that is meant`,
    { data: { host: url.host } },
  );
}

function cleanId(id: string | undefined): string | undefined {
  return id !== undefined && /^[\w.:=+/-]{1,100}$/.test(id) ? id : undefined;
}
