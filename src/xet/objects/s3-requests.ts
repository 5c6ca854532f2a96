/**
 * Requests of the SDK to a bucket that has to be reached as the rest of this program reaches its servers: by a proxy,
 * or with authorities of its own to trust. The SDK's requests know neither; all others are left to it.
 */
import { Readable } from 'node:stream';
import type { S3Client } from '@aws-sdk/client-s3';
import { Connections } from '../cas/connections.ts';
import { type AnswerBody, exchange } from '../cas/exchange.ts';
import { errorOfConnection } from '../cas/http-error.ts';
import { forUrl, type HttpSettings, proxyFor } from '../cas/http-settings.ts';

type SdkHandler = S3Client['config']['requestHandler'];

/** What is looked at of a request of the SDK. */
interface SdkRequest {
  readonly protocol: string;
  readonly hostname: string;
  readonly port?: number | undefined;
  readonly method: string;
  /** Escaped. */
  readonly path: string;
  /** Not escaped. */
  readonly query?: Readonly<Record<string, string | readonly string[] | null>> | undefined;
  readonly headers: Readonly<Record<string, string>>;
  readonly body?: Readable | Uint8Array | string | undefined;
}

interface SdkAnswer {
  readonly response: {
    readonly statusCode: number;
    readonly headers: Readonly<Record<string, string>>;
    readonly body: Readable;
  };
}

const IDLE_TIMEOUT_MS = 60_000;

/** Makes the requests of `client` go as `settings` say. */
export function configureRequests(client: S3Client, settings: HttpSettings): void {
  const { requestHandler } = client.config;
  client.config.requestHandler = new ConfiguredRequests(requestHandler, settings) as SdkHandler;
}

class ConfiguredRequests {
  readonly #direct: SdkHandler;
  readonly #settings: HttpSettings;
  readonly #connections: Connections;

  /** Takes `direct` over. */
  constructor(direct: SdkHandler, settings: HttpSettings) {
    this.#direct = direct;
    this.#settings = settings;
    this.#connections = new Connections(settings);
  }

  async handle(request: SdkRequest, options?: { readonly abortSignal?: AbortSignal }): Promise<SdkAnswer> {
    const url = urlOf(request);
    if (this.#isPlain(url)) return this.#direct.handle(request, options);
    const { idleTimeoutMs = IDLE_TIMEOUT_MS } = this.#settings;
    const signal = options?.abortSignal;
    const route = await this.#connections.route(url, 'any');
    const failure = (error: unknown) =>
      signal?.aborted === true ? signal.reason : errorOfConnection(error, request.method, url, route.proxy);
    try {
      const { status, headers, body } = await exchange(
        route.dispatcher,
        {
          origin: route.origin,
          path: route.path,
          method: request.method as 'GET',
          headers: { ...sendable(request.headers), ...route.headers },
          body: request.body ?? null,
          headersTimeout: idleTimeoutMs,
          bodyTimeout: idleTimeoutMs,
        },
        signal,
      );
      const stream = Readable.from(piecesOf(body, failure), { objectMode: false });
      return { response: { statusCode: status, headers, body: stream } };
    } catch (error) {
      throw failure(error);
    }
  }

  destroy(): void {
    this.#direct.destroy?.();
    this.#connections.close().catch(() => undefined);
  }

  /** Whether nothing is set for `url`. Throws INVALID_CONFIG. */
  #isPlain(url: URL): boolean {
    const { ca, verifyTls } = this.#settings;
    if (proxyFor(this.#settings, url) !== undefined) return false;
    return url.protocol === 'http:' || (forUrl(ca, url) === undefined && (forUrl(verifyTls, url) ?? true));
  }
}

/** Path and query are as they were signed: every character that a URL could change is escaped by the SDK. */
function urlOf({ protocol, hostname, port, path, query }: SdkRequest): URL {
  const parts = Object.entries(query ?? {}).flatMap(([name, value]) =>
    value === null ? escaped(name) : [value].flat().map((one) => `${escaped(name)}=${escaped(String(one))}`),
  );
  const search = parts.length === 0 ? '' : `?${parts.join('&')}`;
  return new URL(`${protocol}//${hostname}${port === undefined ? '' : `:${port}`}${path}${search}`);
}

function escaped(text: string): string {
  return encodeURIComponent(text).replace(
    /[!'()*]/g,
    (char) => `%${char.charCodeAt(0).toString(16).toUpperCase()}`,
  );
}

/** Without what is said of a connection and not of the request. None of it is signed. */
function sendable(headers: SdkRequest['headers']): Record<string, string> {
  const own = Object.entries(headers).filter(([name]) => !/^(?:expect|connection)$/i.test(name));
  return Object.fromEntries(own);
}

async function* piecesOf(body: AnswerBody, failure: (error: unknown) => unknown): AsyncGenerator<Buffer> {
  try {
    for (let piece = await body.next(); piece !== undefined; piece = await body.next()) yield piece;
  } catch (error) {
    throw failure(error);
  } finally {
    body.destroy();
  }
}
