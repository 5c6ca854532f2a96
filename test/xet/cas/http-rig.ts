/** HTTP servers for tests: a listener, a port, and what came in. */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import {
  createServer,
  type IncomingMessage,
  type RequestListener,
  type Server,
  type ServerResponse,
} from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import { type AddressInfo, connect, createServer as createTcpServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { ExecutionContext } from 'ava';
import { HttpClient, type HttpSettings } from '../../../src/xet/cas/http.ts';
import type { Clock } from '../../../src/xet/cas/retry.ts';

export interface Served {
  readonly url: string;
  readonly port: number;
  /** Method and path of each request. */
  readonly asked: string[];
  readonly headers: IncomingMessage['headers'][];
}

export interface Tls {
  readonly key: string;
  readonly cert: string;
}

export async function serve(
  t: ExecutionContext,
  listener: (request: IncomingMessage, response: ServerResponse, body: Buffer) => void,
  tls?: Tls,
): Promise<Served> {
  const asked: string[] = [];
  const headers: IncomingMessage['headers'][] = [];
  const all: RequestListener = async (request, response) => {
    asked.push(`${request.method} ${request.url}`);
    headers.push(request.headers);
    request.on('error', () => undefined);
    response.on('error', () => undefined);
    const pieces: Buffer[] = [];
    try {
      for await (const piece of request) pieces.push(piece as Buffer);
    } catch {
      return;
    }
    listener(request, response, Buffer.concat(pieces));
  };
  const server = tls === undefined ? createServer(all) : createTlsServer(tls, all);
  const port = await listen(t, server);
  return { url: `${tls === undefined ? 'http' : 'https'}://127.0.0.1:${port}`, port, asked, headers };
}

async function listen(t: ExecutionContext, server: Server): Promise<number> {
  const sockets = new Set<Socket>();
  server.on('connection', (socket: Socket) => {
    sockets.add(socket);
    socket.on('error', () => undefined);
    socket.on('close', () => sockets.delete(socket));
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.teardown(async () => {
    for (const socket of sockets) socket.destroy();
    await new Promise((resolve) => server.close(resolve));
  });
  return (server.address() as AddressInfo).port;
}

/** A server that writes bytes of its own making to each connection, and so breaks HTTP as it likes. */
export async function serveRaw(t: ExecutionContext, onRequest: (socket: Socket) => void): Promise<Served> {
  const asked: string[] = [];
  const server = createTcpServer((socket) => {
    socket.on('error', () => undefined);
    socket.on('data', (piece) => {
      asked.push(piece.toString('latin1').split('\r\n', 1)[0] ?? '');
      onRequest(socket);
    });
  });
  const port = await listen(t, server as unknown as Server);
  return { url: `http://127.0.0.1:${port}`, port, asked, headers: [] };
}

export interface Proxy extends Served {
  /** `host:port` of each CONNECT. */
  readonly tunnels: string[];
}

/** Forwards http: requests and tunnels; wants `authorization` of whoever comes, if given. */
export async function serveProxy(t: ExecutionContext, authorization?: string): Promise<Proxy> {
  const asked: string[] = [];
  const tunnels: string[] = [];
  const headers: IncomingMessage['headers'][] = [];
  const server = createServer((request, response) => {
    asked.push(`${request.method} ${request.url}`);
    headers.push(request.headers);
    if (authorization !== undefined && request.headers['proxy-authorization'] !== authorization) {
      response.writeHead(407).end();
      return;
    }
    response.end(`proxied ${request.headers.host}`);
  });
  server.on('connect', (request, client: Socket) => {
    tunnels.push(request.url ?? '');
    headers.push(request.headers);
    client.on('error', () => undefined);
    if (authorization !== undefined && request.headers['proxy-authorization'] !== authorization) {
      client.end('HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n');
      return;
    }
    const [host = '', port = ''] = (request.url ?? '').split(':');
    const upstream = connect(Number(port), host, () => {
      client.write('HTTP/1.1 200 OK\r\n\r\n');
      upstream.pipe(client).pipe(upstream);
    });
    upstream.on('error', () => client.destroy());
  });
  const port = await listen(t, server);
  return { url: `http://127.0.0.1:${port}`, port, asked, headers, tunnels };
}

/** A client whose pauses take no time; they are in `pauses`. */
export function openClient(t: ExecutionContext, settings: HttpSettings = {}, now?: () => number) {
  const pauses: number[] = [];
  const clock: Clock = {
    now: now ?? (() => Date.now()),
    random: () => 0.5,
    sleep: async (ms) => {
      pauses.push(ms);
    },
  };
  const log: string[] = [];
  const http = HttpClient.open({ clock, log: (line) => log.push(line), ...settings });
  t.teardown(() => http.close());
  return { http, clock, pauses, log };
}

export interface Authority {
  /** File with the certificate of the authority. */
  readonly caFile: string;
  readonly ca: string;
  /** For 127.0.0.1 and localhost, signed by the authority. */
  readonly server: Tls;
}

/** Makes an authority and a certificate with openssl. */
export function makeAuthority(t: ExecutionContext): Authority {
  const dir = mkdtempSync(join(tmpdir(), 'git2db-ca-'));
  t.teardown(() => rmSync(dir, { recursive: true, force: true }));
  const path = (name: string) => join(dir, name);
  const openssl = (...args: string[]) => execFileSync('openssl', args, { cwd: dir, stdio: 'pipe' });
  const curve = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes'];
  openssl(
    'req',
    '-x509',
    ...curve,
    '-keyout',
    'ca.key',
    '-out',
    'ca.pem',
    '-subj',
    '/CN=Test authority',
    '-days',
    '2',
  );
  writeFileSync(path('ext'), 'subjectAltName=IP:127.0.0.1,DNS:localhost\n');
  openssl('req', ...curve, '-keyout', 'server.key', '-out', 'server.csr', '-subj', '/CN=localhost');
  const sign = ['x509', '-req', '-in', 'server.csr', '-CA', 'ca.pem', '-CAkey', 'ca.key', '-CAcreateserial'];
  openssl(...sign, '-extfile', 'ext', '-days', '2', '-out', 'server.pem');
  const key = readFileSync(path('server.key'), 'utf8');
  return {
    caFile: path('ca.pem'),
    ca: readFileSync(path('ca.pem'), 'utf8'),
    server: { key, cert: readFileSync(path('server.pem'), 'utf8') },
  };
}
