/** The socket that the server listens on: its address, its TLS files, its connections. */
import { readFileSync } from 'node:fs';
import { createServer as createHttpServer, type RequestListener, type Server } from 'node:http';
import { createServer as createHttpsServer, type Server as HttpsServer } from 'node:https';
import type { AddressInfo, Socket } from 'node:net';
import { createSecureContext } from 'node:tls';
import { errnoOf, Git2dbError, messageOf } from '../xet/errors.ts';
import type { ServerLimits, ServerOptions, TlsFiles } from './options.ts';

export type Listener = Server | HttpsServer;

/** Rejects with INVALID_CONFIG where the server cannot listen, or the TLS files are no good. */
export async function startListener(
  { host = '127.0.0.1', port = 0, tls }: Pick<ServerOptions, 'host' | 'port' | 'tls'>,
  limits: ServerLimits,
  handler: RequestListener,
): Promise<Listener> {
  const options = {
    headersTimeout: limits.headersTimeoutMs,
    // Bodies are watched while they are read: some take hours, and rightly.
    requestTimeout: 0,
    keepAliveTimeout: 20_000,
    maxHeaderSize: 32 * 1024,
    connectionsCheckingInterval: Math.min(5000, limits.headersTimeoutMs),
    noDelay: true,
    highWaterMark: 256 * 1024,
  };
  const listener =
    tls === undefined
      ? createHttpServer(options, handler)
      : createHttpsServer({ ...options, ...readTls(tls) }, handler);
  await listen(listener, host, port);
  listener.maxConnections = limits.maxConnections;
  listener.on('clientError', (error, socket) => {
    const status = errnoOf(error) === 'ERR_HTTP_REQUEST_TIMEOUT' ? '408 Request Timeout' : '400 Bad Request';
    if (socket.writable) socket.end(`HTTP/1.1 ${status}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n`);
    else socket.destroy();
  });
  return listener;
}

/** Ends connections with answers that nobody reads, and those on which nothing comes; not those that wait for us. */
export function endIdle(listener: Listener, timeoutMs: number, isOurTurn: (socket: Socket) => boolean): void {
  listener.setTimeout(timeoutMs * 2, (socket: Socket) => {
    if (isOurTurn(socket)) socket.setTimeout(timeoutMs * 2);
    else socket.destroy();
  });
}

/** Where it listens. */
export function urlOf(listener: Listener, isTls: boolean): string {
  const { address, family, port } = listener.address() as AddressInfo;
  return `${isTls ? 'https' : 'http'}://${family === 'IPv6' ? `[${address}]` : address}:${port}`;
}

/** Throws INVALID_CONFIG. */
export function readTls({ cert, key }: TlsFiles): { readonly cert: Buffer; readonly key: Buffer } {
  const read = { cert: readTlsFile(cert), key: readTlsFile(key) };
  try {
    createSecureContext(read);
  } catch (error) {
    throw new Git2dbError(
      'INVALID_CONFIG',
      `the TLS files ${cert} (expected: certificate chain) and ${key} (expected: its private key, without a passphrase), PEM, are no good: ${messageOf(error)}`,
      { cause: error },
    );
  }
  return read;
}

function readTlsFile(path: string): Buffer {
  try {
    return readFileSync(path);
  } catch (error) {
    throw new Git2dbError('INVALID_CONFIG', `cannot read the TLS file ${path}: ${messageOf(error)}`, {
      cause: error,
    });
  }
}

function listen(listener: Listener, host: string, port: number): Promise<void> {
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

/** Tells how many connections there are. */
export function countConnections(listener: Listener): () => number {
  const open = new Set<unknown>();
  listener.on('connection', (socket: Socket) => {
    open.add(socket);
    socket.once('close', () => open.delete(socket));
  });
  return () => open.size;
}
