/** The server: listens, finds the route of each request, checks who asks, counts, logs, and stops in order. */
import { randomBytes } from 'node:crypto';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Server as HttpsServer } from 'node:https';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { Git2dbError, messageOf } from '../xet/errors.ts';
import { StoreLayout } from '../xet/store/layout.ts';
import { demand, identify } from './access.ts';
import { formatLogLine } from './access-log.ts';
import type { ServerContext } from './context.ts';
import { Exchange } from './exchange.ts';
import { answerFailure } from './failure-answer.ts';
import { PushHook } from './git/push-hook.ts';
import { Repositories } from './git/repositories.ts';
import { HttpError } from './http-error.ts';
import { deriveKeys } from './keys.ts';
import { countConnections, endIdle, type Listener, readTls, startListener, urlOf } from './listener.ts';
import { Metrics } from './metrics.ts';
import { DEFAULT_LIMITS, type ServerLimits, type ServerOptions, type TlsFiles } from './options.ts';
import { RateLimit } from './rate-limit.ts';
import { baseOf, checkPublicUrl, clientOf } from './request-origin.ts';
import { Router } from './router.ts';
import { allRoutes } from './routes.ts';
import { Slots } from './slots.ts';
import { makeToken, type TokenScope } from './token.ts';

/** Each holds a buffer of 1 MiB. */
const XORB_UPLOADS = 32;
/** Each holds up to 4 MiB, and what is made of it. */
const SHARD_UPLOADS = 8;
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
  const runDirectory = makeRunDirectory(options.spoolDirectory);
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
      else answerFailure(exchange, error, options.onError);
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
  let listener: Listener;
  try {
    listener = await startListener(options, limits, handler);
  } catch (error) {
    await hook?.stop();
    cleanUp();
    throw error;
  }
  listener.on('drop', () => metrics.connectionDropped());
  endIdle(listener, limits.idleTimeoutMs, (socket) =>
    [...active.keys()].some(
      ({ request }) => request.socket === socket && request.complete && socket.writableLength === 0,
    ),
  );
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

/** Throws INVALID_CONFIG. */
function makeRunDirectory(spool: string | undefined): string {
  const parent = spool ?? tmpdir();
  try {
    return mkdtempSync(join(parent, 'git2db-serve-'));
  } catch (error) {
    throw new Git2dbError(
      'INVALID_CONFIG',
      `cannot make a directory for uploads below ${parent}: ${messageOf(error)}; make it writable, or name another one by ${spool === undefined ? '--spool or TMPDIR' : '--spool'}`,
      { cause: error },
    );
  }
}

/** A name for a directory that stores let be for a day, and clear away after it. */
function spoolInStore(storeDirectory: string | undefined): string | undefined {
  if (storeDirectory === undefined) return undefined;
  return join(new StoreLayout(storeDirectory).incoming, `.serve-${randomBytes(6).toString('hex')}`);
}
