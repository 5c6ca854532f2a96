/** What surrounds the API: tokens, limits, logs, metrics, TLS, stopping; several servers on one store. */
import { spawnSync } from 'node:child_process';
import { chmodSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { request as httpsRequest } from 'node:https';
import { connect, type Socket } from 'node:net';
import { dirname, join } from 'node:path';
import test from 'ava';
import { deriveKeys, loadKeyFile } from '../../src/server/keys.ts';
import { openApi } from '../../src/server/openapi.ts';
import { RateLimit } from '../../src/server/rate-limit.ts';
import { startServer } from '../../src/server/server.ts';
import { isRepositoryOf, makeToken, parseDuration, readToken } from '../../src/server/token.ts';
import { CasStore } from '../../src/xet/cas/client.ts';
import { HttpClient } from '../../src/xet/cas/http.ts';
import { staticToken } from '../../src/xet/cas/token.ts';
import { parseHash } from '../../src/xet/hash/xet-hash.ts';
import { MemoryObjects } from '../../src/xet/objects/memory.ts';
import { MemoryStore } from '../../src/xet/store/memory-store.ts';
import { StoreOverObjects } from '../../src/xet/store/object-store.ts';
import type { ServableStore } from '../../src/xet/store/store.ts';
import { fetchFiles } from '../../src/xet/transfer/fetch.ts';
import { pushFiles } from '../../src/xet/transfer/push.ts';
import { isolateProcess } from '../helpers/git-sandbox.ts';
import { createStore, randomBytes } from '../helpers/store-sandbox.ts';
import { someChunks, uploadOf, xorbOf } from '../helpers/stored-content.ts';
import { createServerKeyFile } from './key-file.ts';
import { askServer, createServerRig, SERVER_KEY } from './rig.ts';

isolateProcess();

/** Opens a connection, sends the text, and gathers what comes back. */
function open(url: string, text: string): { readonly socket: Socket; readonly closed: Promise<string> } {
  const { port } = new URL(url);
  let got = '';
  const socket = connect(Number(port), '127.0.0.1', () => socket.write(text));
  const closed = new Promise<string>((resolve) => {
    socket.on('data', (piece) => {
      got += piece;
    });
    socket.on('error', () => {});
    socket.on('close', () => resolve(got));
  });
  return { socket, closed };
}

async function until(what: () => boolean | Promise<boolean>): Promise<void> {
  for (let tries = 0; tries < 600; tries++) {
    if (await what()) return;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  throw new Error('what was waited for did not come');
}

test('a token tells what it was made for until it expires, and no bit of it can be changed', (t) => {
  const key = deriveKeys(SERVER_KEY).tokens;
  const token = makeToken(key, { scope: 'write', repositories: 'a/*', expiresAt: 1000 });
  t.like(readToken(key, token, 999), { scope: 'write', repositories: 'a/*', expiresAt: 1000 });
  t.like(readToken(key, `hf_${token}`, 999), { scope: 'write' });
  t.is(readToken(key, token, 1000), undefined);
  t.is(readToken(deriveKeys(new Uint8Array(32).fill(8)).tokens, token, 1), undefined);
  t.is(readToken(deriveKeys(SERVER_KEY).dataUrls, token, 1), undefined);
  for (let at = 0; at < token.length - 1; at++) {
    const letter = token[at] === 'A' ? 'B' : 'A';
    t.is(readToken(key, token.slice(0, at) + letter + token.slice(at + 1), 1), undefined, `letter ${at}`);
  }
  for (const bad of ['', 'g2_', 'g2_.', 'g2_e30.', `g2_${'A'.repeat(5000)}.A`])
    t.is(readToken(key, bad, 1), undefined);
  t.throws(() => makeToken(key, { scope: 'read', repositories: 'a b', expiresAt: 1 }), {
    message: /pattern/,
  });
});

test('patterns of repositories and durations mean what the manual says', (t) => {
  t.true(isRepositoryOf('a/*', 'a/b'));
  t.false(isRepositoryOf('a/*', 'a/b/c'));
  t.true(isRepositoryOf('a/**', 'a/b/c'));
  t.false(isRepositoryOf('a.b', 'aXb'));
  t.false(isRepositoryOf('a', 'ab'));
  t.true(isRepositoryOf(undefined, 'whatever'));
  t.is(parseDuration('30d'), 2_592_000);
  t.is(parseDuration('90m'), 5400);
  for (const bad of ['', '0d', '-1d', '1.5h', '30', 'd', '1 d'])
    t.throws(() => parseDuration(bad), { message: /duration/ });
});

test('a key file is made once, and refused when others may read it or it is short', (t) => {
  const path = createServerKeyFile(t);
  const key = loadKeyFile(path, { create: true });
  t.deepEqual(loadKeyFile(path, { create: true }), key);
  chmodSync(path, 0o644);
  t.throws(() => loadKeyFile(path, { create: false }), { code: 'INVALID_CONFIG', message: /chmod 600/ });
  writeFileSync(path, 'short');
  chmodSync(path, 0o600);
  t.throws(() => loadKeyFile(path, { create: false }), { code: 'INVALID_CONFIG', message: /at least 32/ });
  t.throws(() => loadKeyFile(`${path}.none`, { create: false }), {
    code: 'INVALID_CONFIG',
    message: /does not exist/,
  });
});

test('without a token one may do what anonymous access allows, and is asked for one beyond', async (t) => {
  const path = `/v1/files/${'1'.repeat(64)}`;
  for (const [anonymous, read, write] of [
    ['none', 401, 401],
    ['read', 404, 401],
    ['write', 404, 400],
  ] as const) {
    const rig = await createServerRig(t, { anonymous });
    t.is((await rig.ask('HEAD', path)).status, read, anonymous);
    t.is((await rig.ask('POST', '/v1/shards', { body: 'x' })).status, write, anonymous);
    const foreign = await rig.ask('HEAD', path, { token: 'hf_somebody' });
    t.is(foreign.status, read, 'a foreign credential counts for nothing');
    t.is((await rig.ask('HEAD', path, { token: 'g2_forged.AA' })).status, 401);
    t.is((await rig.ask('POST', '/v1/shards', { body: 'x', token: rig.server.token('read') })).status, 403);
    t.is((await rig.ask('GET', '/healthz')).status, 200);
  }
});

test('a client that asks too often is told when to come back', async (t) => {
  let now = 1_000_000;
  const rig = await createServerRig(t, { now: () => now, limits: { rate: 2 } });
  const statuses: number[] = [];
  for (let i = 0; i < 6; i++) statuses.push((await rig.ask('GET', '/healthz')).status);
  t.deepEqual(statuses, [200, 200, 200, 200, 429, 429]);
  t.is((await rig.ask('GET', '/healthz')).headers['retry-after'], '1');
  now += 1000;
  t.is((await rig.ask('GET', '/healthz')).status, 200);
  const limit = new RateLimit(0.1);
  t.is(limit.take('a', 0), 0);
  t.is(limit.take('a', 0), 10);
  t.is(limit.take('b', 0), 0);
});

test('a head or a body that does not come is given up, and so is what comes too much', async (t) => {
  const rig = await createServerRig(t, {
    anonymous: 'write',
    limits: { headersTimeoutMs: 200, idleTimeoutMs: 2000 },
  });
  const slowHead = open(rig.server.url, 'GET /healthz HTTP/1.1\r\nHost: x\r\n');
  const slowBody = open(
    rig.server.url,
    'POST /v1/shards HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nabc',
  );
  t.regex(await slowHead.closed, /^HTTP\/1\.1 408/);
  await slowBody.closed;
  const announced = open(
    rig.server.url,
    'POST /v1/shards HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n',
  );
  t.regex(await announced.closed, /^HTTP\/1\.1 413/);
  t.is((await rig.ask('GET', '/healthz')).status, 200);
  t.deepEqual(rig.errors, []);
});

test('connections beyond the limit are not taken, and counted', async (t) => {
  const rig = await createServerRig(t, { limits: { maxConnections: 2 } });
  const held = [open(rig.server.url, 'GET'), open(rig.server.url, 'GET')];
  await until(
    async () => (await open(rig.server.url, 'GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n').closed) === '',
  );
  for (const { socket } of held) socket.destroy();
  await until(() =>
    rig.ask('GET', '/metrics').then(
      ({ body }) => /dropped_total [1-9]/.test(body.toString()),
      () => false,
    ),
  );
  t.pass();
});

test('metrics count requests by route and status; the log has a line for each, and no secret', async (t) => {
  const rig = await createServerRig(t, { anonymous: 'none' });
  const token = rig.server.token('read');
  const answer = await rig.ask('HEAD', `/v1/files/${'1'.repeat(64)}?secret=hidden`, {
    token,
    headers: { 'User-Agent': 'x"\u0080 y' },
  });
  await rig.ask('GET', '/nowhere%0aforged');
  await until(() => rig.log.length >= 2);
  const text = (await rig.ask('GET', '/metrics')).body.toString();
  t.regex(text, /git2db_http_requests_total\{route="file\.head",method="HEAD",status="404"\} 1/);
  t.regex(text, /git2db_http_request_duration_seconds_bucket\{route="file\.head",le="\+Inf"\} 1/);
  t.regex(text, /git2db_store_operations_total\{operation="findFiles"\} 1/);
  t.regex(text, /git2db_http_requests_in_flight 1\n/);
  const [first, second] = rig.log.map((line) => JSON.parse(line));
  t.like(first, { method: 'HEAD', status: 404, route: 'file.head', path: `/v1/files/${'1'.repeat(64)}` });
  t.is(first.id, answer.headers['x-request-id']);
  t.like(second, { status: 404, route: 'none', path: '/nowhere%0aforged', identity: 'anonymous' });
  t.false(rig.log.join('').includes('hidden'));
  t.false(rig.log.join('').includes(token));
});

test('the OpenAPI document has every route, and docs/openapi.json is that document', async (t) => {
  const rig = await createServerRig(t);
  const served = (await rig.ask('GET', '/openapi.json')).json() as {
    paths: Record<string, Record<string, { operationId: string }>>;
  };
  const operations = Object.entries(served.paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, { operationId }]) => ({ path, method, operationId })),
  );
  t.is(new Set(operations.map(({ operationId }) => operationId)).size, operations.length);
  for (const { path, method, operationId } of operations) {
    const example = path.replace(/\{\w+\}/g, 'x');
    const answer = await rig.ask(method.toUpperCase(), example, { headers: { 'Content-Length': '0' } });
    t.not(answer.status, 405, operationId);
    await until(() => rig.log.some((line) => line.includes(`"${operationId}"`)));
  }
  const written = JSON.parse(readFileSync(documentPath(), 'utf8'));
  t.deepEqual({ ...written, info: null }, { ...served, info: null });
  t.is((openApi([]) as { openapi: string }).openapi, '3.1.0');
});

/** docs/openapi.json, above the compiled test. */
function documentPath(): string {
  for (let directory = import.meta.dirname; ; directory = dirname(directory)) {
    const path = join(directory, 'docs', 'openapi.json');
    if (existsSync(path)) return path;
    if (directory === dirname(directory)) throw new Error('docs/openapi.json is not there');
  }
}

test('a stop lets a request finish, takes no new one, and cuts what outlasts the grace', async (t) => {
  const rig = await createServerRig(t, { anonymous: 'write', limits: { graceMs: 400 } });
  const head = 'POST /v1/git2db/files HTTP/1.1\r\nHost: x\r\nContent-Length: 32\r\n\r\n';
  const finishing = open(rig.server.url, head);
  const hanging = open(rig.server.url, head);
  await until(async () => /in_flight 3/.test((await rig.ask('GET', '/metrics')).body.toString()));
  const stopping = rig.server.stop();
  finishing.socket.write(Buffer.alloc(32));
  t.regex(await finishing.closed, /^HTTP\/1\.1 200/);
  await t.throwsAsync(rig.ask('GET', '/healthz'));
  await hanging.closed;
  await stopping;
  await rig.server.stopped;
});

const hasOpenssl = spawnSync('openssl', ['version']).status === 0;
const tlsTest = hasOpenssl ? test : test.skip;
tlsTest(
  `TLS by files, which can be replaced while it runs${hasOpenssl ? '' : ' (skipped: no openssl)'}`,
  async (t) => {
    const rig = await createServerRig(t);
    const make = (name: string) => {
      const [cert, key] = [rig.sandbox.path(`${name}.pem`), rig.sandbox.path(`${name}.key`)];
      const args = ['req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-days', '2', '-subj', `/CN=${name}`];
      const made = spawnSync('openssl', [...args, '-out', cert, '-keyout', key]);
      if (made.status !== 0) throw new Error(made.stderr.toString());
      return { cert, key };
    };
    const first = make('first');
    const server = await startServer({
      store: new MemoryStore(),
      key: SERVER_KEY,
      tls: first,
      limits: { graceMs: 0 },
    });
    t.teardown(() => server.stop());
    const nameOf = () =>
      new Promise<string>((resolve, reject) => {
        const sent = httpsRequest(
          `${server.url}/healthz`,
          { rejectUnauthorized: false, agent: false },
          (response) => {
            const { subject } = (response.socket as import('node:tls').TLSSocket).getPeerCertificate();
            response.resume().on('end', () => resolve(String(subject.CN)));
          },
        );
        sent.on('error', reject);
        sent.end();
      });
    t.is(await nameOf(), 'first');
    server.reloadTls(make('second'));
    t.is(await nameOf(), 'second');
    t.throws(() => server.reloadTls({ cert: '/nowhere', key: '/nowhere' }), { code: 'INVALID_CONFIG' });
    t.is(await nameOf(), 'second');
  },
);

test('an address that is taken, and a public URL that is none, are told in one line', async (t) => {
  const rig = await createServerRig(t);
  const { port } = new URL(rig.server.url);
  const common = { store: new MemoryStore(), key: SERVER_KEY };
  await t.throwsAsync(startServer({ ...common, port: Number(port) }), {
    code: 'INVALID_CONFIG',
    message: /listens there already/,
  });
  await t.throwsAsync(startServer({ ...common, publicUrl: 'ftp://x' }), {
    code: 'INVALID_CONFIG',
    message: /public URL/,
  });
  await t.throwsAsync(startServer({ ...common, key: new Uint8Array(5) }), {
    code: 'INVALID_CONFIG',
    message: /32 bytes/,
  });
});

test('a server that cannot start leaves nothing behind', async (t) => {
  const { sandbox, store, server } = await createServerRig(t);
  const spoolDirectory = sandbox.path('spool');
  mkdirSync(spoolDirectory);
  sandbox.write('file', '');
  const port = Number(new URL(server.url).port);
  for (const options of [
    { repositories: sandbox.path('file/none') },
    { repositories: sandbox.path('git'), port },
    { repositories: sandbox.path('git'), tls: { cert: 'none', key: 'none' } },
  ]) {
    await t.throwsAsync(startServer({ store, key: SERVER_KEY, spoolDirectory, ...options }), {
      code: 'INVALID_CONFIG',
    });
    t.deepEqual(readdirSync(spoolDirectory), []);
  }
});

test('xorbs that come at once are checked in the store, which takes them as they are and keeps nothing else', async (t) => {
  const rig = await createServerRig(t, { spoolDirectory: undefined });
  // A store is made by what is first put there.
  await rig.store.putXorb(uploadOf(xorbOf(someChunks('first', 3))));
  const xorbs = [0, 1, 2, 3, 4, 5].map((i) => xorbOf(someChunks(`at once ${i}`, 3)));
  const client = await rig.client();
  const isNew = await Promise.all(xorbs.map((xorb) => client.putXorb(uploadOf(xorb))));
  t.deepEqual(
    isNew,
    xorbs.map(() => true),
  );
  t.deepEqual(rig.errors, []);
  const incoming = join(rig.storeDirectory, 'incoming');
  for (const { xorbHash } of xorbs) t.true(await rig.store.hasXorb(xorbHash));
  const [spool] = readdirSync(incoming);
  t.regex(spool!, /^\.serve-/);
  t.deepEqual(readdirSync(join(incoming, spool!)), []);
  // What somebody clears away meanwhile is made again.
  rmSync(join(incoming, spool!), { recursive: true });
  t.true(await client.putXorb(uploadOf(xorbOf(someChunks('after', 3)))));
  await rig.server.stop();
  t.deepEqual(readdirSync(incoming), []);
});

test('behind a proxy with a path, addresses lead through it and the client is whom the proxy names', async (t) => {
  const rig = await createServerRig(t, { publicUrl: 'https://host.example/xet/', trustProxy: true });
  const headers = { 'X-Forwarded-For': '6.6.6.6, 203.0.113.9', Host: 'evil.example' };
  const empty = `/v2/reconstructions/${'0'.repeat(64)}`;
  t.is((await rig.ask('GET', `/xet${empty}`, { headers })).status, 200);
  t.is((await rig.ask('GET', empty, { headers })).status, 200);
  await until(() => rig.log.length === 2);
  t.is(JSON.parse(rig.log[0]!).client, '203.0.113.9');
  await rig.sandbox.git(['init', '-q', '--bare', `${rig.repositories}/r.git`]);
  t.is((await rig.ask('GET', '/r.git/info/xet', { headers })).json().casUrl, 'https://host.example/xet');
});

test('two servers on one bucket take the same and different files from many clients at once', async (t) => {
  const objects = new MemoryObjects();
  const stores: ServableStore[] = [];
  const clients: CasStore[] = [];
  for (let i = 0; i < 2; i++) {
    const store = await StoreOverObjects.open(objects);
    stores.push(store);
    const server = await startServer({ store, key: SERVER_KEY, limits: { graceMs: 0 } });
    const token = staticToken(server.url, server.token('write'));
    const client = CasStore.open({ http: HttpClient.open(), casUrl: server.url, token, closesHttp: true });
    clients.push(client);
    t.teardown(async () => {
      await client[Symbol.asyncDispose]();
      await server.stop();
      await store[Symbol.asyncDispose]();
    });
  }
  const shared = randomBytes('shared', 700_000);
  const contents = Array.from({ length: 6 }, (_, i) => randomBytes(`own ${i}`, 150_000 + i));
  await Promise.all(
    contents.map(async (content, i) => {
      const source = createStore(t);
      const added = await source.add(content, shared);
      const files = added.map(({ hash }) => ({ hash: parseHash(hash) }));
      const result = await pushFiles(source.open(), clients[i % 2]!, files, {});
      t.deepEqual(
        result.files.map(({ error }) => error),
        [undefined, undefined],
      );
    }),
  );
  const target = createStore(t);
  const all = await createStore(t).add(...contents, shared);
  const wanted = all.map(({ hash }) => ({ hash: parseHash(hash) }));
  for (const client of clients) {
    const result = await fetchFiles(target.open(), client, wanted, { writer: { fsync: 'none' } });
    t.true(result.files.every(({ outcome }) => outcome !== 'failed'));
  }
  for (const [i, { hash }] of all.entries()) t.true(target.read(hash).equals(contents[i] ?? shared));
});

test('an upload that is cut leaves nothing, and the same one later completes', async (t) => {
  const rig = await createServerRig(t, { anonymous: 'write' });
  const source = createStore(t);
  const [added] = await source.add(randomBytes('cut', 2_000_000));
  const hash = parseHash(added!.hash);
  const { terms } = source.open().findFile(hash)!;
  const cut = open(
    rig.server.url,
    `POST /v1/xorbs/default/${terms[0]!.name} HTTP/1.1\r\nHost: x\r\nContent-Length: 2000000\r\n\r\n`,
  );
  await until(async () => /in_flight 2/.test((await rig.ask('GET', '/metrics')).body.toString()));
  cut.socket.destroy();
  await until(async () => /in_flight 1/.test((await rig.ask('GET', '/metrics')).body.toString()));
  t.is((await rig.ask('HEAD', `/v1/xorbs/default/${terms[0]!.name}`)).status, 404);
  await rig.server.stop();
  const again = await startServer({
    store: rig.store,
    key: SERVER_KEY,
    anonymous: 'write',
    limits: { graceMs: 0 },
  });
  t.teardown(() => again.stop());
  const client = CasStore.open({ http: HttpClient.open(), casUrl: again.url, closesHttp: true });
  t.teardown(() => client[Symbol.asyncDispose]());
  const result = await pushFiles(source.open(), client, [{ hash }], {});
  t.is(result.files[0]?.outcome, 'moved');
  t.is((await askServer(again.url, 'HEAD', `/v1/files/${added!.hash}`)).headers['content-length'], '2000000');
});
