import type { Socket } from 'node:net';
import { gzipSync } from 'node:zlib';
import test from 'ava';
import type { HttpRequest, HttpResponse } from '../../../src/xet/cas/http.ts';
import { errorOfConnection, isTransient } from '../../../src/xet/cas/http-error.ts';
import { httpSettingsFrom, proxyFor } from '../../../src/xet/cas/http-settings.ts';
import { isExempt } from '../../../src/xet/cas/no-proxy.ts';
import { isPrivateAddress } from '../../../src/xet/cas/private-address.ts';
import { parseRetryAfter } from '../../../src/xet/cas/retry.ts';
import { staticToken, type TokenSource } from '../../../src/xet/cas/token.ts';
import { valueForUrl } from '../../../src/xet/cas/url-match.ts';
import type { Git2dbError } from '../../../src/xet/errors.ts';
import { collect } from './content.ts';
import { makeAuthority, openClient, serve, serveProxy, serveRaw } from './http-rig.ts';

const get = (url: string, more: Partial<HttpRequest> = {}): HttpRequest => ({
  method: 'GET',
  url,
  accept: [200],
  ...more,
});

async function textOf(answer: Promise<HttpResponse>): Promise<string> {
  return (await (await answer).bytes(65536)).toString();
}

/** The error of something that must fail with one of ours. */
async function failureOf(promise: Promise<unknown>): Promise<Git2dbError> {
  try {
    await promise;
  } catch (error) {
    return error as Git2dbError;
  }
  throw new Error('expected a failure');
}

test('500 and then 200 is 200, after pauses that double', async (t) => {
  let left = 3;
  const { url, asked } = await serve(t, (_, response) => {
    response.statusCode = left-- > 0 ? 503 : 200;
    response.end('here');
  });
  const { http, pauses } = openClient(t);
  t.is(await textOf(http.request(get(url))), 'here');
  t.is(asked.length, 4);
  t.deepEqual(pauses, [250, 500, 1000]);
});

test('a server that stays broken is asked six times; the error is one line that tells what to do', async (t) => {
  const { url, asked } = await serve(t, (_, response) => {
    response.writeHead(500, { 'x-request-id': 'abc-1' });
    response.end(JSON.stringify({ error: `no\u001b[2J disk\nat all${'x'.repeat(500)}` }));
  });
  const { http } = openClient(t);
  const error = await failureOf(http.request(get(`${url}/a/b?token=secret#f`)));
  t.is(error.code, 'NETWORK');
  t.is(asked.length, 6);
  t.is(error.data.status, 500);
  t.regex(
    error.message,
    /^GET http:\/\/127\.0\.0\.1:\d+\/a\/b: the server answered 500 Internal Server Error: "no \[2J disk at all/,
  );
  t.regex(error.message, /\(request abc-1\), 6 times; try again later/);
  t.notRegex(error.message, /secret|\p{C}/u);
  t.true(error.message.length < 500);
});

for (const [status, code] of [
  [400, 'REMOTE_INVALID'],
  [401, 'AUTH_FAILED'],
  [403, 'REMOTE_FORBIDDEN'],
  [404, 'REMOTE_MISSING'],
  [409, 'REMOTE_INVALID'],
  [413, 'LIMIT_EXCEEDED'],
  [501, 'REMOTE_INVALID'],
  [507, 'DISK_FULL'],
] as const) {
  test(`${status} is ${code} at once`, async (t) => {
    const { url, asked } = await serve(t, (_, response) => response.writeHead(status).end('no'));
    const { http } = openClient(t);
    t.is((await failureOf(http.request(get(url)))).code, code);
    t.is(asked.length, 1);
  });
}

test('a pause that the server asks for is kept; one that is too long is told instead', async (t) => {
  const waits = ['7', new Date(1_000_000_000_000 + 9000).toUTCString(), '86400'];
  let next = 0;
  const { url, asked } = await serve(t, (_, response) => {
    response.writeHead(429, { 'retry-after': waits[next++] as string }).end();
  });
  const { http, pauses } = openClient(t, {}, () => 1_000_000_000_000);
  const error = await failureOf(http.request(get(url)));
  t.deepEqual(pauses, [7250, 9250]);
  t.is(asked.length, 3);
  t.regex(error.message, /try again in 86400 seconds/);
});

test('a body that ends early is asked for again as a whole, and as a stream is an error that may pass', async (t) => {
  let broken = 2;
  const { url, asked } = await serve(t, (_, response) => {
    response.writeHead(200, { 'content-length': 10 });
    if (broken-- > 0) response.write('12345', () => response.socket?.resetAndDestroy());
    else response.end('1234567890');
  });
  const { http } = openClient(t);
  t.is(await textOf(http.request(get(url))), '1234567890');
  t.is(asked.length, 3);

  broken = 1;
  const { body } = await http.request(get(url));
  const error = await failureOf(collect(body));
  t.is(error.code, 'NETWORK');
  t.true(isTransient(error));
});

test('an answer that is shorter than its length, or no HTTP at all, is an error', async (t) => {
  const short = await serveRaw(t, (socket) =>
    socket.end('HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n12345'),
  );
  const { http } = openClient(t, { retries: 1 });
  t.is((await failureOf(textOf(http.request(get(short.url))))).code, 'NETWORK');
  t.is(short.asked.length, 2);
  const noise = await serveRaw(t, (socket) => socket.end('SSH-2.0-OpenSSH\r\n'));
  t.is((await failureOf(http.request(get(noise.url)))).code, 'NETWORK');
  const endless = await serveRaw(t, (socket) => socket.write(`HTTP/1.1 200 OK\r\nX: ${'x'.repeat(1 << 20)}`));
  t.is((await failureOf(http.request(get(endless.url)))).code, 'NETWORK');
});

test('an answer that comes byte by byte is given up, in its headers and in its body', async (t) => {
  const dribble = (socket: Socket, text: string) => {
    const timer = setInterval(() => socket.write(text), 20);
    socket.on('close', () => clearInterval(timer));
  };
  const headers = await serveRaw(t, (socket) => {
    socket.write('HTTP/1.1 200 OK\r\n');
    dribble(socket, 'X: 1\r\n');
  });
  const { http } = openClient(t, { retries: 1, headersTimeoutMs: 300, idleTimeoutMs: 300 });
  const error = await failureOf(http.request(get(headers.url)));
  t.regex(error.message, /no answer in time/);
  t.is(headers.asked.length, 2);

  const body = await serveRaw(t, (socket) => {
    socket.write('HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n');
    dribble(socket, 'x');
  });
  t.regex((await failureOf(textOf(http.request(get(body.url))))).message, /the answer stopped coming/);
  const silent = await serveRaw(t, (socket) =>
    socket.write('HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\nx'),
  );
  t.regex((await failureOf(textOf(http.request(get(silent.url))))).message, /the answer stopped coming/);
});

test('a refusal whose text never ends, or that nobody wants, does not hold anybody up', async (t) => {
  const { url } = await serveRaw(t, (socket) => {
    socket.write('HTTP/1.1 404 Not Found\r\nContent-Length: 1000000\r\n\r\nno');
    const timer = setInterval(() => socket.write('o'), 50);
    socket.on('close', () => clearInterval(timer));
  });
  const { http } = openClient(t);
  t.is((await failureOf(http.request(get(url)))).code, 'REMOTE_MISSING');
  await (await http.request(get(url, { accept: [404] }))).discard();
  t.pass();
});

test('nothing listening is told after the retries, a name that does not exist at once', async (t) => {
  const { http, pauses } = openClient(t);
  const refused = await failureOf(http.request(get('http://127.0.0.1:1/')));
  t.regex(refused.message, /^GET http:\/\/127\.0\.0\.1:1\/: nothing listens there \(ECONNREFUSED\)/);
  t.is(pauses.length, 5);
  const lookUp = (code: string) =>
    errorOfConnection(
      Object.assign(new Error(code), { code }),
      'GET',
      new URL('http://no-such-host.invalid/x?y'),
      undefined,
    );
  t.false(isTransient(lookUp('ENOTFOUND')));
  t.true(isTransient(lookUp('EAI_AGAIN')));
  t.regex(
    lookUp('ENOTFOUND').message,
    /^GET http:\/\/no-such-host\.invalid\/x: there is no host of that name/,
  );
});

test('what may not be made twice is made once', async (t) => {
  const { url, asked } = await serve(t, (_, response) => response.writeHead(503).end());
  const { http } = openClient(t);
  await t.throwsAsync(http.request({ method: 'POST', url, accept: [200], body: Buffer.from('x') }));
  t.is(asked.length, 1);
  await t.throwsAsync(
    http.request({ method: 'POST', url, accept: [200], body: Buffer.from('x'), idempotent: true }),
  );
  t.is(asked.length, 7);
});

test('a body is made anew for each try; its own failure ends the request', async (t) => {
  let left = 1;
  const bodies: string[] = [];
  const { url } = await serve(t, (_, response, body) => {
    bodies.push(body.toString());
    response.statusCode = left-- > 0 ? 500 : 200;
    response.end();
  });
  const { http } = openClient(t);
  let made = 0;
  const body = {
    length: 6,
    stream: async function* () {
      made++;
      yield Buffer.from('abc');
      yield Buffer.from('def');
    },
  };
  await (await http.request({ method: 'PUT', url, accept: [200], body })).discard();
  t.deepEqual(bodies, ['abcdef', 'abcdef']);
  t.is(made, 2);
  const damaged = Object.assign(new Error('chunk 7 is damaged'), { code: 'X' });
  const failing = {
    length: 6,
    // biome-ignore lint/correctness/useYield: it fails first
    stream: async function* (): AsyncGenerator<Uint8Array> {
      throw damaged;
    },
  };
  await t.throwsAsync(http.request({ method: 'PUT', url, accept: [200], body: failing }), {
    message: /chunk 7 is damaged/,
  });
});

test('answers are bounded: declared, undeclared, compressed', async (t) => {
  const { url } = await serve(t, (request, response) => {
    if (request.url === '/gzip')
      response.writeHead(200, { 'content-encoding': 'gzip' }).end(gzipSync(Buffer.alloc(1 << 20)));
    else if (request.url === '/chunked') {
      response.write('x'.repeat(1000));
      response.end('x'.repeat(1000));
    } else if (request.url === '/huge') {
      response.writeHead(200, { 'content-length': '9007199254740991' });
      response.write('x');
    } else response.end('<html>');
  });
  const { http } = openClient(t);
  for (const path of ['/gzip', '/chunked', '/huge']) {
    const error = await failureOf(
      textOf(
        http.request(get(`${url}${path}`)).then((answer) => ({ ...answer, bytes: () => answer.bytes(1500) })),
      ),
    );
    t.is(error.code, 'REMOTE_INVALID', path);
  }
  const error = await failureOf((await http.request(get(url))).json(100));
  t.regex(error.message, /expected JSON/);
});

test('an abort ends a pause, a body, and a request that waits for its connection', async (t) => {
  const { url, asked } = await serve(t, (request, response) => {
    if (request.url === '/busy') response.writeHead(503).end();
    else if (request.url === '/body') response.writeHead(200, { 'content-length': 100 }).write('x');
  });
  const { http } = openClient(t, {
    connections: 1,
    clock: {
      now: Date.now,
      random: () => 1,
      sleep: (_, signal) => new Promise((_resolve, reject) => signal?.addEventListener('abort', reject)),
    },
  });
  const abort = () => {
    const controller = new AbortController();
    setTimeout(() => controller.abort(new Error('because')), 50);
    return controller.signal;
  };
  for (const [path, act] of [
    ['/busy', (signal: AbortSignal) => http.request(get(`${url}/busy`, { signal }))],
    ['/body', (signal: AbortSignal) => textOf(http.request(get(`${url}/body`, { signal })))],
    ['/hang', (signal: AbortSignal) => http.request(get(`${url}/hang`, { signal }))],
  ] as const) {
    const error = await failureOf(act(abort()));
    t.is(error.name, 'AbortError', path);
    t.is((error.cause as Error).message, 'because', path);
  }
  const hanging = http.request(get(`${url}/hang`, { signal: abort() }));
  const waiting = http.request(get(`${url}/waiting`, { signal: abort() }));
  t.is((await failureOf(waiting)).name, 'AbortError');
  t.is((await failureOf(hanging)).name, 'AbortError');
  t.false(asked.includes('GET /waiting'));
  const gone = AbortSignal.abort();
  t.is((await failureOf(http.request(get(url, { signal: gone })))).name, 'AbortError');
});

test('a failure of whoever makes a body is not one of the network', async (t) => {
  const { url, asked } = await serve(t, (_, response) => response.end());
  const { http } = openClient(t);
  const stream = function* (): Generator<Uint8Array> {
    yield Buffer.from('abc');
    throw Object.assign(new Error('EIO: the disk'), { code: 'EIO' });
  };
  const request = http.request({ method: 'PUT', url, accept: [200], body: { length: 6, stream } });
  t.is((await failureOf(request)).code as string, 'EIO');
  t.true(asked.length <= 1);
});

test('a token that cannot be had is asked for as often as any request, not more', async (t) => {
  const broken = await serve(t, (_, response) => response.writeHead(503).end());
  const { url, asked } = await serve(t, (_, response) => response.end());
  const { http } = openClient(t);
  const token: TokenSource = {
    authority: url,
    get: async () => {
      await http.request(get(broken.url));
      return undefined;
    },
    invalidate: () => undefined,
  };
  t.is((await failureOf(http.request(get(url, { token })))).code, 'NETWORK');
  t.is(broken.asked.length, 6);
  t.is(asked.length, 0);
});

test('a server that repeats the token it refuses does not bring it into the error', async (t) => {
  const { url } = await serve(t, (request, response) => {
    response.writeHead(403).end(`bad ${request.headers.authorization}`);
  });
  const { http } = openClient(t);
  const error = await failureOf(http.request(get(url, { token: staticToken(url, 'g2_secret') })));
  t.regex(error.message, /"bad Bearer \.\.\."/);
});

// Redirects and tokens

test('redirects are followed for GET, at most five, without the token where they leave its authority', async (t) => {
  const other = await serve(t, (_, response) => response.end('other'));
  const { url, headers, asked } = await serve(t, (request, response) => {
    const to: Record<string, string> = { '/a': '/b', '/b': `${other.url}/c`, '/loop': '/loop' };
    const location = to[request.url ?? ''];
    if (location === undefined) response.end('end');
    else response.writeHead(307, { location }).end('moved');
  });
  const { http } = openClient(t);
  const token = staticToken(url, 'g2_secret');
  const answer = await http.request(get(`${url}/a`, { token }));
  t.is(answer.url, `${other.url}/c`);
  t.is((await answer.bytes(100)).toString(), 'other');
  t.deepEqual(
    headers.map(({ authorization }) => authorization),
    ['Bearer g2_secret', 'Bearer g2_secret'],
  );
  t.is(other.headers[0]?.authorization, undefined);
  const loop = await failureOf(http.request(get(`${url}/loop`)));
  t.regex(loop.message, /after 5 redirects/);
  t.is(asked.filter((line) => line === 'GET /loop').length, 6);
  const post = await failureOf(
    http.request({ method: 'POST', url: `${url}/a`, accept: [200], body: Buffer.from('x') }),
  );
  t.regex(post.message, /redirects to http:\/\/127\.0\.0\.1:\d+\/b, which is not followed/);
  const kept = await http.request(get(`${url}/a`, { follow: false, accept: [307] }));
  t.is(kept.headers.location, '/b');
  await kept.discard();
});

test('a token is sent to its own authority only', async (t) => {
  const { url, asked } = await serve(t, (_, response) => response.end());
  const { http } = openClient(t);
  const error = await failureOf(
    http.request(get(url, { token: staticToken('http://127.0.0.1:9', 'g2_secret') })),
  );
  t.is(error.code, 'REMOTE_INVALID');
  t.notRegex(error.message, /secret/);
  t.is(asked.length, 0);
});

test('401 asks for another token once', async (t) => {
  const { url, headers } = await serve(t, (request, response) => {
    response.statusCode = request.headers.authorization === 'Bearer new' ? 200 : 401;
    response.end();
  });
  const { http } = openClient(t);
  let value = 'old';
  const token: TokenSource = {
    authority: url,
    get: async () => value,
    invalidate: (refused) => {
      if (refused === 'old') value = 'new';
    },
  };
  await (await http.request(get(url, { token }))).discard();
  t.is(headers.length, 2);
  const stale = await failureOf(http.request(get(url, { token: staticToken(url, 'stale') })));
  t.is(stale.code, 'AUTH_FAILED');
  t.regex(stale.message, /refused or has expired/);
  t.is(headers.length, 3);
  t.regex((await failureOf(http.request(get(url)))).message, /log in: a token or password for 127/);
});

test('what is out in the world does not lead to addresses of this machine, nor from https to http', async (t) => {
  const inside = await serve(t, (_, response) => response.end('inside'));
  let location = '';
  const proxy = await serve(t, (_, response) => response.writeHead(302, { location }).end());
  const settings = { proxy: proxy.url, noProxy: '127.0.0.1,localhost' };
  const { http } = openClient(t, settings);
  for (location of [`${inside.url}/`, `http://localhost:${inside.port}/`, `http://127.1:${inside.port}/`]) {
    const error = await failureOf(http.request(get('http://public.example/')));
    t.is(error.code, 'REMOTE_INVALID', location);
  }
  const named = await failureOf(http.request(get(`${inside.url}/x`, { namedBy: 'http://public.example/' })));
  t.regex(named.message, /address of this machine or network; nothing was asked/);
  const downgrade = await failureOf(
    http.request(get(`${inside.url}/x`, { namedBy: 'https://public.example/' })),
  );
  t.regex(downgrade.message, /not encrypted; that is refused/);
  t.is(inside.asked.length, 0);
  // From one address of this machine to another is nobody's business.
  t.is(await textOf(http.request(get(`${inside.url}/x`, { namedBy: 'http://127.0.0.1:9/' }))), 'inside');
  for (location of ['ftp://127.0.0.1/', 'file:///etc/passwd', 'http://[', 'data:text/plain,x']) {
    t.is((await failureOf(http.request(get('http://public.example/')))).code, 'REMOTE_INVALID', location);
  }
});

// Proxies and certificates

test('http goes through a proxy as it is, https through a tunnel, exempt hosts around it', async (t) => {
  const { server, ca } = makeAuthority(t);
  const secure = await serve(t, (_, response) => response.end('secure'), server);
  const plain = await serve(t, (_, response) => response.end('direct'));
  const proxy = await serveProxy(t, `Basic ${Buffer.from('me:pass word').toString('base64')}`);
  const withUser = proxy.url.replace('//', '//me:pass%20word@');
  const { http } = openClient(t, { proxy: withUser, ca });
  t.is(await textOf(http.request(get('http://far.example/x?y'))), 'proxied far.example');
  t.deepEqual(proxy.asked, ['GET http://far.example/x?y']);
  const token = staticToken(secure.url, 'g2_secret');
  t.is(await textOf(http.request(get(secure.url, { token }))), 'secure');
  t.deepEqual(proxy.tunnels, [`127.0.0.1:${secure.port}`]);
  t.true(proxy.headers.every((headers) => headers.authorization === undefined));
  t.is(secure.headers[0]?.['proxy-authorization'], undefined);

  const around = openClient(t, { proxy: withUser, noProxy: '.example,127.0.0.0/8' });
  t.is(await textOf(around.http.request(get(plain.url))), 'direct');

  const stranger = openClient(t, { proxy: proxy.url, ca });
  for (const url of [secure.url, 'http://far.example/']) {
    const error = await failureOf(stranger.http.request(get(url)));
    t.is(error.code, 'AUTH_FAILED');
    t.regex(error.message, /proxy.* wants a user and a password/);
  }
  const dead = openClient(t, { proxy: 'http://127.0.0.1:1', retries: 0 });
  t.regex(
    (await failureOf(dead.http.request(get('http://far.example/')))).message,
    /through the proxy http:\/\/127\.0\.0\.1:1: nothing listens/,
  );
  const socks = openClient(t, { proxy: 'socks5://me:secret@127.0.0.1:1' });
  const refused = await failureOf(socks.http.request(get('http://far.example/')));
  t.is(refused.code, 'INVALID_CONFIG');
  t.notRegex(refused.message, /secret/);
});

test('a certificate is checked by the authorities that are configured', async (t) => {
  const { server, caFile } = makeAuthority(t);
  const { url } = await serve(t, (_, response) => response.end('secure'), server);
  const unknown = openClient(t, httpSettingsFrom({}));
  const error = await failureOf(unknown.http.request(get(url)));
  t.regex(
    error.message,
    /certificate of the server is signed by an authority that is not known.*http\.sslCAInfo/,
  );
  t.is(unknown.pauses.length, 0);
  const key = `http.${url}/.sslcainfo`;
  const ways: [Record<string, string>, { key: string; value: string }[]][] = [
    [{ SSL_CERT_FILE: caFile }, []],
    [{ GIT_SSL_CAINFO: caFile }, []],
    [{ GIT2DB_NODE_EXTRA_CA_CERTS: caFile }, []],
    [{}, [{ key: 'http.sslcainfo', value: caFile }]],
    [
      {},
      [
        { key: 'http.sslcainfo', value: '/nowhere' },
        { key, value: caFile },
      ],
    ],
    [{}, [{ key: 'http.sslverify', value: 'false' }]],
    [{ GIT_SSL_NO_VERIFY: '1' }, []],
  ];
  for (const [env, config] of ways) {
    t.is(await textOf(openClient(t, httpSettingsFrom(env, config)).http.request(get(url))), 'secure');
  }
  const other = url.replace('127.0.0.1', 'localhost');
  t.is(
    await textOf(openClient(t, httpSettingsFrom({ SSL_CERT_FILE: caFile })).http.request(get(other))),
    'secure',
  );
  const missing = openClient(t, httpSettingsFrom({ GIT_SSL_CAINFO: '/nowhere/ca.pem' }));
  const broken = await failureOf(missing.http.request(get(url)));
  t.is(broken.code, 'INVALID_CONFIG');
  t.regex(broken.message, /GIT_SSL_CAINFO names a file.*\/nowhere\/ca\.pem/);
});

// Settings

const proxyOf = (
  env: Record<string, string>,
  config: [string, string][],
  url: string,
): string | undefined => {
  const settings = httpSettingsFrom(
    env,
    config.map(([key, value]) => ({ key, value })),
  );
  return proxyFor(settings, new URL(url))?.href;
};

test('the proxy comes from git, then from the environment, small letters first', (t) => {
  t.is(proxyOf({ HTTPS_PROXY: 'http://a:1', HTTP_PROXY: 'http://b:1' }, [], 'https://x.org/'), 'http://a:1/');
  t.is(proxyOf({ HTTPS_PROXY: 'http://a:1', HTTP_PROXY: 'http://b:1' }, [], 'http://x.org/'), 'http://b:1/');
  t.is(
    proxyOf({ https_proxy: 'http://c:1', HTTPS_PROXY: 'http://a:1' }, [], 'https://x.org/'),
    'http://c:1/',
  );
  t.is(proxyOf({ ALL_PROXY: 'proxy:3128' }, [], 'https://x.org/'), 'http://proxy:3128/');
  t.is(proxyOf({ https_proxy: '' }, [], 'https://x.org/'), undefined);
  t.is(
    proxyOf({ https_proxy: 'http://a:1' }, [['http.proxy', 'http://g:1']], 'https://x.org/'),
    'http://g:1/',
  );
  t.is(proxyOf({ https_proxy: 'http://a:1' }, [['http.proxy', '']], 'https://x.org/'), undefined);
  t.is(proxyOf({ https_proxy: 'http://a:1', NO_PROXY: 'x.org' }, [], 'https://x.org/'), undefined);
  t.is(proxyOf({ NO_PROXY: 'x.org' }, [['http.proxy', 'http://g:1']], 'https://x.org/'), undefined);
  t.is(
    proxyOf(
      {},
      [
        ['http.https://x.org.proxy', 'http://h:1'],
        ['http.proxy', 'http://g:1'],
      ],
      'https://x.org/a',
    ),
    'http://h:1/',
  );
  t.throws(() => proxyOf({}, [['http.proxy', 'http://[']], 'https://x.org/'), {
    code: 'INVALID_CONFIG',
  } as never);
});

for (const [list, yes, no] of [
  [
    'example.org',
    ['https://example.org/', 'https://a.example.org./'],
    ['https://badexample.org/', 'https://example.org.evil/'],
  ],
  ['.example.org', ['https://a.example.org/', 'https://example.org/'], ['https://xexample.org/']],
  ['*.example.org', ['https://a.example.org/'], ['https://example.net/']],
  ['a, b  c', ['http://a/', 'http://b/', 'http://c/'], ['http://d/']],
  ['*', ['http://anything/'], []],
  ['example.org:8443', ['https://example.org:8443/'], ['https://example.org/']],
  ['example.org:443', ['https://example.org/'], ['http://example.org/']],
  [
    '10.0.0.0/8,::1',
    ['http://10.1.2.3/', 'http://[::1]:80/'],
    ['http://11.0.0.1/', 'http://[::2]/', 'http://10.example/'],
  ],
  [
    '192.0.2.7,fd00::/8',
    ['http://192.0.2.7/', 'http://[fd12::1]/'],
    ['http://192.0.2.70/', 'http://[fe80::1]/'],
  ],
  ['', [], ['http://a/']],
  ['300.1.1.1/99,/,:', [], ['http://1.1.1.1/']],
] as const) {
  test(`NO_PROXY ${JSON.stringify(list)} exempts whom it names`, (t) => {
    for (const url of yes) t.true(isExempt(new URL(url), list), url);
    for (const url of no) t.false(isExempt(new URL(url), list), url);
  });
}

test('settings for some URLs: the one that fits best counts', (t) => {
  const entries = Object.entries({
    'http.proxy': 'all',
    'http.https://example.org.proxy': 'host',
    'http.https://*.example.org.proxy': 'wild',
    'http.https://a.example.org.proxy': 'a',
    'http.https://example.org/team.proxy': 'team',
    'http.https://user@example.org.proxy': 'user',
    'http.https://example.org:8443.proxy': 'port',
    'http.http://example.org.proxy': 'plain',
  }).map(([key, value]) => ({ key, value }));
  const of = (url: string) => valueForUrl(entries, 'proxy', new URL(url))?.value;
  t.is(of('https://other.org/'), 'all');
  t.is(of('https://example.org/'), 'host');
  t.is(of('https://b.example.org/'), 'wild');
  t.is(of('https://a.example.org/'), 'a');
  t.is(of('https://example.org/team/repo.git'), 'team');
  t.is(of('https://example.org/teams'), 'host');
  t.is(of('https://user@example.org/'), 'user');
  t.is(of('https://example.org:8443/'), 'port');
  t.is(of('http://example.org/'), 'plain');
  t.is(valueForUrl(entries, 'sslverify', new URL('https://example.org')), undefined);
});

test('addresses of this machine and network are known in all their forms', (t) => {
  const yes = [
    '127.0.0.1',
    '10.0.0.1',
    '172.31.0.1',
    '192.168.1.1',
    '169.254.169.254',
    '100.64.0.1',
    '0.0.0.0',
    '224.0.0.1',
    '255.255.255.255',
    '::1',
    '[::1]',
    '::',
    'fe80::1%eth0',
    'fd00::1',
    'ff02::1',
    '::ffff:127.0.0.1',
    '::ffff:a9fe:a9fe',
    '64:ff9b::10.0.0.1',
    '2002:7f00:1::',
    '::127.0.0.1',
    'fec0::1',
  ];
  const no = [
    '8.8.8.8',
    '172.32.0.1',
    '192.169.0.1',
    '100.128.0.1',
    '2606:4700::1111',
    '::ffff:8.8.8.8',
    '64:ff9b::808:808',
    '2002:808:808::',
    'localhost',
    '',
  ];
  for (const address of yes) t.true(isPrivateAddress(address), address);
  for (const address of no) t.false(isPrivateAddress(address), address);
});

test('Retry-After is seconds or a date of HTTP, anything else is nothing', (t) => {
  const clock = { now: () => 1_000_000_000_000, random: () => 0, sleep: async () => undefined };
  const date = (ms: number) => new Date(1_000_000_000_000 + ms).toUTCString();
  t.is(parseRetryAfter('120', clock), 120_000);
  t.is(parseRetryAfter(date(5000), clock), 5000);
  t.is(parseRetryAfter(date(-5000), clock), 0);
  for (const text of [undefined, '', '-1', '1.5', 'soon', '99999999999', '2001-09-09T01:46:45Z', '1 2 3']) {
    t.is(parseRetryAfter(text, clock), undefined, text);
  }
});
