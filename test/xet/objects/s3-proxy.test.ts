/** A real S3 service that is reached as its user has to: through a proxy, and with a certificate of the house. */
import { createServer, request as httpRequest, type IncomingHttpHeaders } from 'node:http';
import { type AddressInfo, connect, type Server, type Socket } from 'node:net';
import { createServer as createTlsServer } from 'node:tls';
import test, { type ExecutionContext } from 'ava';
import type { HttpSettings } from '../../../src/xet/cas/http-settings.ts';
import { type ErrorCode, Git2dbError } from '../../../src/xet/errors.ts';
import { bodyOf } from '../../../src/xet/objects/objects.ts';
import { openS3, type S3Objects } from '../../../src/xet/objects/s3.ts';
import { s3Missing, startS3 } from '../../helpers/s3-server.ts';
import { makeAuthority, serveProxy } from '../cas/http-rig.ts';
import { objectContract } from './object-contract.ts';

const skip = s3Missing();
const USER = 'me:pass word';
const KEY = `Basic ${Buffer.from(USER).toString('base64')}`;

async function listen(t: ExecutionContext, server: Server): Promise<number> {
  const sockets = new Set<Socket>();
  server.on('connection', (socket: Socket) => sockets.add(socket.on('error', () => undefined)));
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.teardown(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  return (server.address() as AddressInfo).port;
}

/** `retries`: as ever for what has to succeed, since the service may be busy; none where a refusal is waited for. */
async function open(endpoint: string, http: HttpSettings, retries?: number): Promise<S3Objects> {
  const s3 = await startS3();
  const url = `s3://${await s3.createBucket()}/some prefix?endpoint=${encodeURIComponent(endpoint)}`;
  return openS3(url, { credentials: s3.credentials, http, ...(retries === undefined ? {} : { retries }) });
}

/** The service behind TLS, whose certificate no system knows. */
async function secureEndpoint(t: ExecutionContext): Promise<{ readonly url: string; readonly ca: string }> {
  const { port } = new URL((await startS3()).endpoint);
  const { ca, server } = makeAuthority(t);
  const front = createTlsServer(server, (socket) => {
    const upstream = connect(Number(port), '127.0.0.1');
    upstream.on('error', () => socket.destroy());
    socket.on('error', () => upstream.destroy());
    socket.pipe(upstream).pipe(socket);
  });
  return { url: `https://127.0.0.1:${await listen(t, front)}`, ca };
}

/** A proxy that is asked for http: URLs, and asks for them. */
async function forwarder(t: ExecutionContext): Promise<{ url: string; asked: IncomingHttpHeaders[] }> {
  const asked: IncomingHttpHeaders[] = [];
  const server = createServer((request, response) => {
    asked.push(request.headers);
    const { 'proxy-authorization': given, ...headers } = request.headers;
    if (given !== KEY) {
      response.writeHead(407).end();
      return;
    }
    const upstream = httpRequest(request.url ?? '', { method: request.method, headers }, (answer) => {
      response.writeHead(answer.statusCode ?? 502, answer.headers);
      answer.pipe(response);
    });
    upstream.on('error', () => response.destroy());
    request.pipe(upstream);
  });
  return { url: `http://127.0.0.1:${await listen(t, server as unknown as Server)}`, asked };
}

const withUser = (url: string) => url.replace('//', `//${USER.replace(' ', '%20')}@`);

objectContract('S3 through a tunnel', {
  skip,
  async open(t) {
    const proxy = await serveProxy(t, KEY);
    const { url, ca } = await secureEndpoint(t);
    const objects = await open(url, { proxy: withUser(proxy.url), ca });
    await objects.head('x');
    if (proxy.tunnels.length === 0) throw new Error('nothing went through the proxy');
    return objects;
  },
});

objectContract('S3 through a proxy', {
  skip,
  async open(t) {
    const proxy = await forwarder(t);
    const objects = await open((await startS3()).endpoint, { proxy: withUser(proxy.url) });
    await objects.head('x');
    if (proxy.asked.length === 0) throw new Error('nothing went through the proxy');
    return objects;
  },
});

const run = skip === undefined ? test : test.skip;

run('a bucket behind a certificate of the house is read with its authority, and not without', async (t) => {
  const { url, ca } = await secureEndpoint(t);
  const trusting = await open(url, { ca });
  t.true(await trusting.putIfAbsent('x', bodyOf(Buffer.from('content'))));
  t.is((await trusting.head('x'))?.size, 7);
  const strict = await open(url, {}, 0);
  await t.throwsAsync(strict.head('x'), { instanceOf: Git2dbError });
  const careless = await open(url, { verifyTls: false });
  t.is(await careless.head('x'), undefined);
  for (const objects of [trusting, strict, careless]) await objects[Symbol.asyncDispose]();
});

run(
  'a proxy that refuses, or is not there, is named, without its password; who is exempt is asked directly',
  async (t) => {
    const { endpoint } = await startS3();
    const { url, ca } = await secureEndpoint(t);
    const [plain, tunnel] = [await forwarder(t), await serveProxy(t, KEY)];
    const wrong = (proxy: { url: string }) => proxy.url.replace('//', '//me:other-secret@');
    const cases: [string, HttpSettings, ErrorCode, RegExp][] = [
      [endpoint, { proxy: wrong(plain) }, 'AUTH_FAILED', /proxy/],
      [url, { proxy: wrong(tunnel), ca }, 'AUTH_FAILED', /proxy/],
      [
        endpoint,
        { proxy: 'http://me:other-secret@127.0.0.1:1' },
        'NETWORK',
        /proxy http:\/\/127\.0\.0\.1:1:/,
      ],
      [url, { proxy: 'http://me:other-secret@127.0.0.1:1', ca }, 'NETWORK', /proxy http:\/\/127\.0\.0\.1:1:/],
      [endpoint, { proxy: 'socks5://127.0.0.1:1' }, 'INVALID_CONFIG', /NO_PROXY/],
    ];
    for (const [target, http, code, words] of cases) {
      const objects = await open(target, http, 0);
      const error = await t.throwsAsync<Git2dbError>(objects.readWhole('format', { limit: 10 }), {
        instanceOf: Git2dbError,
      });
      t.is(error?.code, code, error?.message);
      t.regex(error?.message ?? '', words);
      t.notRegex(error?.message ?? '', /other-secret/);
      await objects[Symbol.asyncDispose]();
    }
    const exempt = await open(endpoint, { proxy: 'http://127.0.0.1:1', noProxy: '127.0.0.0/8' });
    t.is(await exempt.head('x'), undefined);
    await exempt[Symbol.asyncDispose]();
  },
);
