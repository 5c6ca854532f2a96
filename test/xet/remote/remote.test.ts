/** Addresses, and contents kept at them: XetStorage over services, web servers and directories. */
import { existsSync, readFileSync, rmSync, statSync } from 'node:fs';
import { type AddressInfo, createServer, type Socket } from 'node:net';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { Git2dbError } from '../../../src/xet/errors.ts';
import { parseHash } from '../../../src/xet/hash/xet-hash.ts';
import { formatPointer } from '../../../src/xet/pointer/xet-pointer.ts';
import {
  authorityOf,
  formatAddress,
  parseAddress,
  type RemoteAddress,
} from '../../../src/xet/remote/address.ts';
import { openRemote, openStore } from '../../../src/xet/remote/open.ts';
import { initialize, isInitialized, sharedStorage } from '../../../src/xet/shared-storage.ts';
import type { TransferEvent } from '../../../src/xet/transfer/transfer.ts';
import { XetConfig } from '../../../src/xet/xet-config.ts';
import { XetError } from '../../../src/xet/xet-error.ts';
import { XetStorage } from '../../../src/xet/xet-storage.ts';
import { createStore, randomBytes } from '../../helpers/store-sandbox.ts';
import { KINDS } from '../cas/cas-rig.ts';
import { CasServer } from '../cas/cas-server.ts';
import { serve } from '../cas/http-rig.ts';

const MIB = 1 << 20;

/** Nothing is listening there. */
const DEAD = 'http://127.0.0.1:1';

async function collect(pieces: AsyncIterable<Uint8Array>): Promise<Buffer> {
  const all: Uint8Array[] = [];
  for await (const piece of pieces) all.push(piece);
  return Buffer.concat(all);
}

test('addresses are read as a person writes them, and written so that they are read back', (t) => {
  const cases: Record<string, RemoteAddress> = {
    '/srv/xet': { kind: 'directory', path: '/srv/xet' },
    'some dir': { kind: 'directory', path: '/base/some dir' },
    '../xet': { kind: 'directory', path: '/xet' },
    'file:///srv/a%20b': { kind: 'directory', path: '/srv/a b' },
    'https://host/xet/': { kind: 'http', url: 'https://host/xet' },
    'HTTP://Host:8080': { kind: 'http', url: 'http://host:8080' },
    'cas+https://host': { kind: 'cas', url: 'https://host' },
    'static+http://host/a/b': { kind: 'static', url: 'http://host/a/b' },
    's3://bucket/prefix?region=eu-1&endpoint=https://s3.host': {
      kind: 's3',
      url: 's3://bucket/prefix?region=eu-1&endpoint=https://s3.host',
    },
  };
  for (const [text, address] of Object.entries(cases)) {
    t.deepEqual(parseAddress(text, '/base'), address, text);
    t.deepEqual(parseAddress(formatAddress(address)), address, text);
  }
  t.is(authorityOf(parseAddress('cas+https://host:444/x')), 'https://host:444');
  t.is(authorityOf(parseAddress('/srv')), undefined);
});

test('what is no address is refused without showing what may be secret', (t) => {
  for (const text of [
    '',
    'a\nb',
    'a\0',
    'ftp://host/x',
    'http://',
    'https://user:secret@host/x',
    'https://host/x?token=secret',
    'https://host/x#secret',
    's3://user:secret@bucket',
    's3://?secret',
    'file://host/x',
    'file:///x?secret',
    'file:///x%00',
    'file:///x%0Ay',
    'https://@host/x',
    'https:///user:secret@host/x',
    'https://host/x?',
    's3://bucket/x?region=eu&other=secret',
    'cas+ftp://secret@x',
  ]) {
    const error = t.throws(() => parseAddress(text), { instanceOf: Git2dbError }, text);
    t.is(error.code, 'URL_INVALID', text);
    t.false(error.message.includes('secret'), error.message);
  }
});

for (const [name, options] of KINDS) {
  test(`contents go to ${name} and come back, with little more than what is new`, async (t) => {
    const cas = await CasServer.start(t, { ...options, token: 'TheToken' });
    const config = new XetConfig(`cas+${cas.url}`).withToken('TheToken');
    const first = randomBytes('v1', 4 * MIB);
    const second = Buffer.concat([first.subarray(0, MIB), randomBytes('new', MIB / 2), first.subarray(MIB)]);
    let pointers: string[];
    {
      await using storage = XetStorage.open(config);
      t.false(existsSync(storage.root), 'nothing is made before there is content');
      pointers = [await storage.cleanBytes(first), await storage.cleanBytes(second)];
      t.is(statSync(storage.root).mode & 0o777, 0o700);
      t.is(cas.files.size, 0);
      const events: TransferEvent[] = [];
      await storage.flush({ onProgress: (event) => events.push(event) });
      t.is(cas.files.size, 2);
      t.is(events.filter(({ kind }) => kind === 'file').length, 2);
      t.true(cas.asked.every(({ headers }) => headers.authorization === 'Bearer TheToken'));
      const asked = cas.asked.length;
      await storage.flush();
      t.is(cas.asked.length, asked, 'there is nothing more to send');
      t.true((await storage.smudgeBytes(pointers[0]!)).equals(first));
      t.is(cas.asked.length, asked, 'and what was stored is here');
    }
    const cache = join(createStore(t).dir, 'cache');
    await using storage = XetStorage.open(config.withCache(cache));
    const [one, two] = await Promise.all([
      storage.smudgeBytes(pointers[0]!),
      collect(storage.smudgeStream(pointers[0]!)),
    ]);
    t.true(one.equals(first) && two.equals(first));
    const before = cas.sent;
    t.true((await storage.smudgeBytes(pointers[1]!)).equals(second));
    t.true(cas.sent - before < MIB, `${cas.sent - before}`);
    t.true(existsSync(join(cache, 'format')), 'the cache stays');
    const hash = /"hash":"([0-9a-f]{64})"/.exec(pointers[1]!)![1]!;
    t.true((await storage.smudgeFromHash(hash)).equals(second));
    const target = `${cache}-copy`;
    await storage.smudgeFile(pointers[1]!, target);
    t.true(readFileSync(target).equals(second));
    rmSync(target);
  });

  test(`a part of a file from ${name} costs little more than that part`, async (t) => {
    const cas = await CasServer.start(t, options);
    const config = new XetConfig(`cas+${cas.url}`);
    const content = randomBytes('large', 8 * MIB);
    let pointer: string;
    {
      await using storage = XetStorage.open(config);
      pointer = await storage.cleanBytes(content);
    }
    t.is(cas.files.size, 1, 'the end of a storage sends what is left');
    await using storage = XetStorage.open(config);
    for (const [start, end] of [
      [0, 10],
      [5 * MIB - 3, 5 * MIB + 70_000],
      [content.length - 1, content.length + 5],
      [content.length, content.length + 5],
      [7, 7],
    ] as const) {
      const before = cas.sent;
      t.true((await collect(storage.smudgeRange(pointer, start, end))).equals(content.subarray(start, end)));
      t.true(cas.sent - before < end - start + 600_000, `[${start}, ${end}): ${cas.sent - before}`);
    }
    t.false(existsSync(storage.root), 'and nothing of it is kept');
    await t.throwsAsync(storage.smudgeRange(pointer, 5, 4).next(), { instanceOf: XetError });
    await storage.smudgeBytes(pointer);
    const before = cas.asked.length;
    t.true((await collect(storage.smudgeRange(pointer, 3, 5 * MIB))).equals(content.subarray(3, 5 * MIB)));
    t.is(cas.asked.length, before);
  });
}

test('an address says what is behind it, or the server is asked', async (t) => {
  const cas = await CasServer.start(t);
  const foreign = await CasServer.start(t, { extensions: false });
  const source = createStore(t);
  const content = randomBytes(1, 300_000);
  const [added] = await source.add(content);
  // A plain web server over the directory: ranges, no listing.
  const web = await serve(t, (request, response) => {
    const path = join(source.root, decodeURIComponent(request.url!.replace(/^\/xet/, '')));
    if (!path.startsWith(source.root) || !existsSync(path) || statSync(path).isDirectory()) {
      response.writeHead(404).end();
      return;
    }
    const bytes = readFileSync(path);
    const range = /^bytes=(\d*)-(\d*)$/.exec(request.headers.range ?? '');
    if (range === null) {
      response.writeHead(200, { 'content-length': bytes.length }).end(bytes);
      return;
    }
    const start = range[1] === '' ? Math.max(0, bytes.length - Number(range[2])) : Number(range[1]);
    const last =
      range[1] === '' || range[2] === '' ? bytes.length - 1 : Math.min(Number(range[2]), bytes.length - 1);
    response
      .writeHead(206, { 'content-range': `bytes ${start}-${last}/${bytes.length}` })
      .end(bytes.subarray(start, last + 1));
  });
  const kinds: string[] = [];
  for (const text of [cas.url, foreign.url, `${web.url}/xet`, `static+${web.url}/xet`, source.root]) {
    await using store = await openStore(parseAddress(text));
    kinds.push(store.constructor.name);
  }
  t.deepEqual(kinds, ['CasStore', 'CasStore', 'StoreOverObjects', 'StoreOverObjects', 'DirectoryStore']);

  await using remote = await openRemote(parseAddress(`${web.url}/xet`));
  t.true(remote.isReadOnly);
  const target = createStore(t);
  const file = { hash: parseHash(added!.hash), size: added!.size };
  const fetched = await remote.fetch(target.open(), [file], { writer: { fsync: 'none' } });
  t.is(fetched.files[0]!.outcome, 'moved', fetched.files[0]!.error?.message);
  t.true(target.read(added!.hash).equals(content));
  const other = await target.add(randomBytes(2, 1000));
  const sent = await remote.send(target.open(), [{ hash: parseHash(other[0]!.hash) }]);
  t.is(sent.files[0]!.error?.code, 'STORE_UNWRITABLE');
});

test('a service that is not there fails what needs it, of its kind, and a later try goes through', async (t) => {
  const settings = { retries: 0, connectTimeoutMs: 2000 };
  const dead = new XetConfig(`cas+${DEAD}`).withHttp(settings);
  await using lost = XetStorage.open(dead);
  const pointer = await lost.cleanBytes(Buffer.from('content'));
  const up = await t.throwsAsync(lost.flush(), { instanceOf: XetError });
  t.like(up, { kind: 'UploadFailed', code: 'NETWORK' });
  t.true((await lost.smudgeBytes(pointer)).equals(Buffer.from('content')), 'what is here is read');
  const unknown = pointer.replace(/[0-9a-f]{64}/, 'ab'.repeat(32));
  const down = await t.throwsAsync(lost.smudgeBytes(unknown), { instanceOf: XetError });
  t.like(down, { kind: 'DownloadFailed', code: 'NETWORK' });

  const cas = await CasServer.start(t, { token: 'right' });
  const wrong = XetStorage.open(new XetConfig(`cas+${cas.url}`).withToken('wrong').withHttp(settings));
  await wrong.cleanBytes(Buffer.from('content'));
  const refused = await t.throwsAsync(wrong.flush(), { instanceOf: XetError });
  t.like(refused, { kind: 'UploadFailed', code: 'AUTH_FAILED' });
  t.false(refused!.message.includes('wrong'));
  cas.options.token = 'wrong';
  await wrong[Symbol.asyncDispose]();
  t.is(cas.files.size, 1);
  t.false(existsSync(wrong.root));
  await t.throwsAsync(lost[Symbol.asyncDispose](), { instanceOf: XetError });
  t.false(existsSync(lost.root), 'the end of a storage is its end');
});

test('a storage that is stopped says so', async (t) => {
  const cas = await CasServer.start(t);
  await using storage = XetStorage.open(new XetConfig(`cas+${cas.url}`));
  const pointer = await storage.cleanBytes(randomBytes(1, 200_000));
  const signal = AbortSignal.abort();
  await t.throwsAsync(storage.flush({ signal }), { name: 'AbortError' });
  await storage.flush();
  await using other = XetStorage.open(new XetConfig(`cas+${cas.url}`));
  await t.throwsAsync(other.smudgeBytes(pointer, { signal }), { name: 'AbortError' });
  await t.throwsAsync(other.smudgeRange(pointer, 0, 5, { signal }).next(), { name: 'AbortError' });
});

/** A server that takes connections and says nothing. */
async function silentServer(t: ExecutionContext): Promise<string> {
  const server = createServer(() => {});
  const sockets = new Set<Socket>();
  server.on('connection', (socket) => sockets.add(socket.on('error', () => {})));
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.teardown(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  return `127.0.0.1:${(server.address() as AddressInfo).port}`;
}

const KEYS = { AWS_ACCESS_KEY_ID: 'a', AWS_SECRET_ACCESS_KEY: 'b' };

for (const scheme of ['http', 'cas+http', 'static+http', 's3']) {
  test.serial(
    `a call to a server that never answers ends with its signal, or with the storage (${scheme})`,
    async (t) => {
      Object.assign(process.env, KEYS);
      const host = await silentServer(t);
      const address = scheme === 's3' ? `s3://bucket/p?endpoint=http://${host}` : `${scheme}://${host}/p`;
      const ends = new AbortController();
      const storage = XetStorage.open(new XetConfig(address), { signal: ends.signal });
      const pointer = formatPointer('ab'.repeat(32), 10).toString();
      const stopped = { name: 'AbortError' };
      const calls = (signal?: AbortSignal) => [
        storage.smudgeBytes(pointer, { signal }),
        storage.smudgeRange(pointer, 0, 5, { signal }).next(),
        storage.flush({ signal }),
      ];
      await storage.cleanBytes(Buffer.from('content'));
      for (const call of calls(AbortSignal.timeout(200))) await t.throwsAsync(call, stopped);
      const rest = calls();
      setTimeout(() => ends.abort(), 200);
      for (const call of rest) await t.throwsAsync(call, stopped);
      await t.throwsAsync(storage.cleanBytes(Buffer.from('more')), stopped);
      await t.throwsAsync(storage[Symbol.asyncDispose](), stopped, 'what was not sent is told');
      t.true(storage.isClosed);
    },
  );
}

test('a source that gives nothing more is left when the call is stopped, and the next call goes on', async (t) => {
  const store = createStore(t);
  const ends = new AbortController();
  const storage = XetStorage.open(new XetConfig(store.root), { signal: ends.signal });
  async function* stuck(): AsyncGenerator<Buffer> {
    yield Buffer.alloc(100_000, 1);
    await new Promise(() => {});
  }
  const call = storage.cleanStream(stuck(), { signal: AbortSignal.timeout(100) });
  await t.throwsAsync(call, { name: 'AbortError' });
  const pointer = await storage.cleanBytes(Buffer.from('content'));
  ends.abort();
  await t.throwsAsync(storage.smudgeBytes(pointer), { name: 'AbortError' });
  await storage[Symbol.asyncDispose]();
  await using again = XetStorage.open(new XetConfig(store.root));
  t.is((await again.smudgeBytes(pointer)).toString(), 'content', 'what was acknowledged is sealed');
});

test.serial('the storage of a process: of one address, and another one once it was closed', async (t) => {
  const at = (host: string) => new XetConfig(`s3://bucket/p?endpoint=http://${host}.example`);
  const first = initialize(at('a'));
  t.is(initialize(at('a')), first);
  const other = t.throws(() => initialize(at('b')), { instanceOf: XetError });
  t.like(other, { kind: 'InvalidConfig' });
  await sharedStorage()[Symbol.asyncDispose]();
  t.false(isInitialized());
  t.throws(() => sharedStorage(), { instanceOf: XetError });
  t.not(initialize(at('b')), first);
  await sharedStorage()[Symbol.asyncDispose]();
});
