/** The server: listens, finds the route of each request, checks who asks, counts, logs, and stops in order. */
import { randomBytes } from 'node:crypto';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import {
  createServer as createHttpServer,
  type IncomingMessage,
  type Server,
  type ServerResponse,
} from 'node:http';
import { createServer as createHttpsServer, type Server as HttpsServer } from 'node:https';
import type { AddressInfo, Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { errnoOf, Git2dbError, messageOf } from '../xet/errors.ts';
import { StoreLayout } from '../xet/store/layout.ts';
import { challenge, demand, identify } from './access.ts';
import { formatLogLine } from './access-log.ts';
import type { ServerContext } from './context.ts';
import { Exchange } from './exchange.ts';
import { PushHook } from './git/push-hook.ts';
import { Repositories } from './git/repositories.ts';
import { HttpError, httpErrorOf } from './http-error.ts';
import { deriveKeys } from './keys.ts';
import { Metrics } from './metrics.ts';
import { DEFAULT_LIMITS, type ServerLimits, type ServerOptions, type TlsFiles } from './options.ts';
import { RateLimit } from './rate-limit.ts';
import { Router } from './router.ts';
import { allRoutes } from './routes.ts';
import { Slots } from './slots.ts';
import { makeToken, type TokenScope } from './token.ts';

/** Each holds a buffer of 1 MiB. */
const XORB_UPLOADS = 32;
/** Each holds up to 4 MiB, and what is made of it. */
const SHARD_UPLOADS = 8;
/** Of a body that was refused, bytes and time. */
const MAX_DROPPED = 128 * 1024 * 1024;
const DROP_MS = 30_000;
/** Each holds some 6 MiB. */
const OBJECT_UPLOADS = 8;

export interface RunningServer {
  /** `http://127.0.0.1:8080`: where it listens. */
  readonly url: string;
  /** A token that this server accepts; `expiresAt` in seconds since 1970. */
  token(scope: TokenScope, options?: { readonly repositories?: string; readonly expiresAt?: number }): string;
  /** Reads the TLS files again; the old ones stay where the new ones are no good. */
  reloadTls(files: TlsFiles): void;
  /** Takes no more connections, lets requests finish within the grace time, then cuts them. */
  stop(): Promise<void>;
  /** Settles when the server has stopped. */
  readonly stopped: Promise<void>;
}

/** Rejects with INVALID_CONFIG for an address that cannot be listened on, TLS files that are no good, .... */
export async function startServer(options: ServerOptions): Promise<RunningServer> {
  const limits: ServerLimits = { ...DEFAULT_LIMITS, ...options.limits };
  const keys = deriveKeys(options.key);
  const now = options.now ?? Date.now;
  const metrics = new Metrics();
  const publicUrl = options.publicUrl === undefined ? undefined : checkPublicUrl(options.publicUrl);
  const runDirectory = mkdtempSync(join(options.spoolDirectory ?? tmpdir(), 'git2db-serve-'));
  const inStore = options.spoolDirectory === undefined ? spoolInStore(options.storeDirectory) : undefined;
  const cleanUp = () => {
    for (const directory of [runDirectory, inStore])
      if (directory !== undefined) rmSync(directory, { recursive: true, force: true });
  };
  let hook: PushHook | undefined;
  let repositories: Repositories | undefined;
  try {
    if (options.repositories !== undefined) {
      hook = await PushHook.start(runDirectory, options.store);
      repositories = Repositories.open(options.repositories, {
        create: options.createRepositories === true,
        storeDirectory: options.storeDirectory,
        hook,
      });
      await repositories.enterAll();
    }
  } catch (error) {
    await hook?.stop();
    cleanUp();
    throw error;
  }
  const context: ServerContext = {
    store: options.store,
    keys,
    limits,
    anonymous: options.anonymous ?? 'read',
    metrics,
    repositories,
    runDirectory,
    // A store is made by what is first put there, not by us.
    spoolDirectory: () => (inStore !== undefined && existsSync(dirname(inStore)) ? inStore : runDirectory),
    xorbSlots: new Slots(XORB_UPLOADS),
    objectSlots: new Slots(OBJECT_UPLOADS),
    smallSlots: new Slots(SHARD_UPLOADS),
    largeSlots: new Slots(1),
    now,
  };
  const router = new Router(allRoutes(context));
  const rate = limits.rate === undefined ? undefined : new RateLimit(limits.rate);
  const active = new Map<Exchange, AbortController>();
  let isStopping = false;

  async function serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const start = performance.now();
    const gone = new AbortController();
    const exchange = openExchange(request, response, gone.signal);
    active.set(exchange, gone);
    metrics.inFlight++;
    response.setHeader('X-Request-Id', exchange.id);
    let isAborted = false;
    response.once('close', () => {
      isAborted = !response.writableFinished;
      if (isAborted) gone.abort(new DOMException('the client has gone', 'AbortError'));
      active.delete(exchange);
      metrics.inFlight--;
      const milliseconds = performance.now() - start;
      metrics.request(exchange.route, exchange.method, response.statusCode, milliseconds / 1000);
      metrics.bytes(exchange.bytesIn, exchange.bytesOut);
      logRequest(exchange, milliseconds, isAborted);
    });
    try {
      if (isStopping) response.setHeader('Connection', 'close');
      await dispatch(exchange);
    } catch (error) {
      if (gone.signal.aborted) response.destroy();
      else fail(exchange, error);
    }
  }

  async function dispatch(exchange: Exchange): Promise<void> {
    const { route, params } = router.match(exchange.method, exchange.path);
    exchange.route = route.name;
    exchange.params = params;
    exchange.identity = identify(exchange, { anonymous: context.anonymous, tokenKey: keys.tokens, now });
    if (rate !== undefined) {
      const wait = rate.take(exchange.client, now());
      if (wait > 0) {
        metrics.rateLimited();
        throw new HttpError(429, `too many requests: wait ${wait} s`, { 'Retry-After': String(wait) });
      }
    }
    if (route.access === 'read' || route.access === 'write') demand(exchange, route.access);
    await route.handle(exchange);
  }

  function openExchange(request: IncomingMessage, response: ServerResponse, gone: AbortSignal): Exchange {
    const [rawPath = '/', ...query] = (request.url ?? '/').split('?');
    const prefix = publicUrl?.prefix ?? '';
    const path = prefix !== '' && rawPath.startsWith(`${prefix}/`) ? rawPath.slice(prefix.length) : rawPath;
    return new Exchange(request, response, {
      id: randomBytes(8).toString('hex'),
      path,
      query: new URLSearchParams(query.join('?')),
      base: publicUrl?.url ?? baseOf(request, listener),
      client: clientOf(request, options.trustProxy === true),
      idleTimeoutMs: limits.idleTimeoutMs,
      signal: gone,
    });
  }

  function fail(exchange: Exchange, error: unknown): void {
    const { answer, isOwn } = httpErrorOf(error);
    if (isOwn) options.onError?.(error, exchange.id);
    const { response, request } = exchange;
    if (response.headersSent) {
      // The answer has begun: that it is cut off is all that can be said.
      response.destroy();
      return;
    }
    // The client may not look at the answer before all of the body is sent: what is left is read and dropped,
    // unless it is too much.
    const isLong = (exchange.contentLength ?? 0) - exchange.bytesIn > MAX_DROPPED;
    const headers = isLong ? { ...answer.headers, Connection: 'close' } : answer.headers;
    const body = { error: answer.message, message: answer.message, requestId: exchange.id };
    const isLfs = exchange.route.startsWith('lfs.');
    response.once('finish', () => drop(request, isLong ? 0 : MAX_DROPPED));
    exchange.bytes(
      Buffer.from(
        `${JSON.stringify({ ...body, ...(answer.code === undefined ? {} : { code: answer.code }) })}\n`,
      ),
      isLfs ? 'application/vnd.git-lfs+json' : 'application/json',
      answer.status,
      answer.status === 401 ? { ...challenge(), ...headers } : headers,
    );
  }

  function logRequest(exchange: Exchange, milliseconds: number, aborted: boolean): void {
    if (options.accessLog === undefined) return;
    const { id, client, identity, method, path, route, bytesIn, bytesOut, response } = exchange;
    const line = formatLogLine(
      {
        time: new Date(now()),
        id,
        client,
        identity: identity.name,
        method,
        path,
        route,
        status: response.statusCode,
        bytesIn,
        bytesOut,
        milliseconds,
        userAgent: exchange.header('user-agent'),
        aborted,
      },
      options.logFormat ?? 'json',
    );
    options.accessLog(line);
  }

  const handler = (request: IncomingMessage, response: ServerResponse) => void serve(request, response);
  const serverOptions = {
    headersTimeout: limits.headersTimeoutMs,
    // Bodies are watched while they are read: some take hours, and rightly.
    requestTimeout: 0,
    keepAliveTimeout: 20_000,
    maxHeaderSize: 32 * 1024,
    connectionsCheckingInterval: Math.min(5000, limits.headersTimeoutMs),
    noDelay: true,
    highWaterMark: 256 * 1024,
  };
  let listener: Server | HttpsServer;
  try {
    listener =
      options.tls === undefined
        ? createHttpServer(serverOptions, handler)
        : createHttpsServer({ ...serverOptions, ...readTls(options.tls) }, handler);
    await listen(listener, options.host ?? '127.0.0.1', options.port ?? 0);
  } catch (error) {
    await hook?.stop();
    cleanUp();
    throw error;
  }
  listener.maxConnections = limits.maxConnections;
  listener.on('drop', () => metrics.connectionDropped());
  // Answers that nobody reads, and connections on which nothing comes; not those that wait for us.
  listener.setTimeout(limits.idleTimeoutMs * 2, (socket: Socket) => {
    const isOurTurn = [...active.keys()].some(
      ({ request }) => request.socket === socket && request.complete && socket.writableLength === 0,
    );
    if (isOurTurn) socket.setTimeout(limits.idleTimeoutMs * 2);
    else socket.destroy();
  });
  listener.on('clientError', (error, socket) => {
    const status = errnoOf(error) === 'ERR_HTTP_REQUEST_TIMEOUT' ? '408 Request Timeout' : '400 Bad Request';
    if (socket.writable) socket.end(`HTTP/1.1 ${status}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n`);
    else socket.destroy();
  });
  metrics.connections = countConnections(listener);

  async function stop(): Promise<void> {
    if (isStopping) return stopped;
    isStopping = true;
    const closed = new Promise<void>((resolve) => listener.close(() => resolve()));
    listener.closeIdleConnections();
    const cut = setTimeout(() => {
      for (const [{ response }, gone] of active) {
        gone.abort(new DOMException('the server stops', 'AbortError'));
        response.destroy();
      }
      listener.closeAllConnections();
    }, limits.graceMs);
    await closed;
    clearTimeout(cut);
    await hook?.stop();
    cleanUp();
    finished();
  }

  let finished: () => void = () => {};
  const stopped = new Promise<void>((resolve) => {
    finished = resolve;
  });
  return {
    url: urlOf(listener, options.tls !== undefined),
    token: (scope, { repositories, expiresAt = Math.floor(now() / 1000) + 3600 } = {}) =>
      makeToken(keys.tokens, { scope, repositories, expiresAt }),
    reloadTls: (files) => (listener as HttpsServer).setSecureContext(readTls(files)),
    stop,
    stopped,
  };
}

/** A name for a directory that stores let be for a day, and clear away after it. */
function spoolInStore(storeDirectory: string | undefined): string | undefined {
  if (storeDirectory === undefined) return undefined;
  return join(new StoreLayout(storeDirectory).incoming, `.serve-${randomBytes(6).toString('hex')}`);
}

/** Reads what is left of a body, `most` bytes of it, for nobody. */
function drop(request: IncomingMessage, most: number): void {
  if (request.complete) return;
  const cut = setTimeout(() => request.destroy(), DROP_MS);
  request.once('close', () => clearTimeout(cut));
  let dropped = 0;
  request.on('data', (piece: Buffer) => {
    dropped += piece.length;
    if (dropped > most) request.destroy();
  });
  request.resume();
}

function checkPublicUrl(text: string): { readonly url: string; readonly prefix: string } {
  if (URL.canParse(text)) {
    const { protocol, username, password, origin, pathname, search, hash } = new URL(text);
    const isPlain = username === '' && password === '' && search === '' && hash === '';
    if ((protocol === 'http:' || protocol === 'https:') && isPlain) {
      const prefix = pathname.replace(/\/+$/, '');
      return { url: origin + prefix, prefix };
    }
  }
  throw new Git2dbError(
    'INVALID_CONFIG',
    `the public URL of a server is http:// or https:// with a host, and without user, query and fragment; found '${text}'`,
  );
}

/** The `Host` header says by which of its names the client reaches the server. */
function baseOf(request: IncomingMessage, listener: Server | HttpsServer): string {
  const isTls = 'encrypted' in request.socket;
  const { host } = request.headers;
  if (host !== undefined && /^(?:[A-Za-z0-9._-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(?::\d{1,5})?$/.test(host)) {
    return `${isTls ? 'https' : 'http'}://${host}`;
  }
  return urlOf(listener, isTls);
}

function clientOf(request: IncomingMessage, trustProxy: boolean): string {
  const own = request.socket.remoteAddress ?? 'unknown';
  if (!trustProxy) return own;
  const forwarded = request.headers['x-forwarded-for'];
  const last =
    String(forwarded ?? '')
      .split(',')
      .at(-1)
      ?.trim() ?? '';
  return /^[0-9A-Fa-f:.]{2,45}$/.test(last) ? last : own;
}

function urlOf(listener: Server | HttpsServer, isTls: boolean): string {
  const { address, family, port } = listener.address() as AddressInfo;
  return `${isTls ? 'https' : 'http'}://${family === 'IPv6' ? `[${address}]` : address}:${port}`;
}

function readTls({ cert, key }: TlsFiles): { readonly cert: Buffer; readonly key: Buffer } {
  try {
    return { cert: readFileSync(cert), key: readFileSync(key) };
  } catch (error) {
    throw new Git2dbError(
      'INVALID_CONFIG',
      `cannot read the TLS files ${cert} and ${key}: ${messageOf(error)}`,
      {
        cause: error,
      },
    );
  }
}

function listen(listener: Server | HttpsServer, host: string, port: number): Promise<void> {
  return new Promise((resolve, reject) => {
    listener.once('error', (error) => {
      const why: Record<string, string> = {
        EADDRINUSE: 'something else listens there already',
        EACCES: 'this user may not listen there: choose a port above 1023',
        EADDRNOTAVAIL: 'this machine does not have that address',
      };
      const reason = why[errnoOf(error) ?? ''] ?? messageOf(error);
      reject(
        new Git2dbError('INVALID_CONFIG', `cannot listen on ${host}:${port}: ${reason}`, { cause: error }),
      );
    });
    listener.listen({ host, port }, resolve);
  });
}

function countConnections(listener: Server | HttpsServer): () => number {
  const open = new Set<unknown>();
  listener.on('connection', (socket: Socket) => {
    open.add(socket);
    socket.once('close', () => open.delete(socket));
  });
  return () => open.size;
}
