/** The CAS API of the server: as our client sees it (the contract of stores), and as bytes on the wire. */
import { readFileSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import test from 'ava';
import { startServer } from '../../src/server/server.ts';
import { CasStore } from '../../src/xet/cas/client.ts';
import { HttpClient } from '../../src/xet/cas/http.ts';
import { multipartBoundary, readMultipart } from '../../src/xet/cas/range.ts';
import { staticToken } from '../../src/xet/cas/token.ts';
import { hmac } from '../../src/xet/hash/keys.ts';
import { formatHash, parseHash } from '../../src/xet/hash/xet-hash.ts';
import { ShardBuilder } from '../../src/xet/shard/builder.ts';
import { Shard } from '../../src/xet/shard/shard.ts';
import { MemoryStore } from '../../src/xet/store/memory-store.ts';
import { pushFiles } from '../../src/xet/transfer/push.ts';
import { decodeChunks } from '../../src/xet/xorb/chunk-range.ts';
import { encodeFooter } from '../../src/xet/xorb/format.ts';
import { isolateProcess } from '../helpers/git-sandbox.ts';
import { chunkRun, createStore, randomBytes } from '../helpers/store-sandbox.ts';
import { storeContract } from '../xet/store/store-contract.ts';
import { createServerRig, SERVER_KEY, type ServerRig } from './rig.ts';

isolateProcess();

storeContract('git2db serve', {
  open: async (t) => {
    const server = await startServer({ store: new MemoryStore(), key: SERVER_KEY, limits: { graceMs: 0 } });
    t.teardown(() => server.stop());
    const http = HttpClient.open({ retries: 0 });
    const token = staticToken(server.url, server.token('write'));
    return CasStore.open({ http, casUrl: server.url, token, closesHttp: true });
  },
});

/** A file of some chunks in the store of the server. */
async function publish(
  t: Parameters<typeof createStore>[0],
  rig: ServerRig,
  content: Buffer,
): Promise<string> {
  const source = createStore(t);
  const [added] = await source.add(content);
  const { files } = await pushFiles(source.open(), rig.store, [{ hash: parseHash(added!.hash) }], {});
  if (files[0]?.error !== undefined) throw files[0].error;
  return added!.hash;
}

interface Place {
  readonly url: string;
  readonly ranges: readonly {
    readonly chunks: { readonly start: number; readonly end: number };
    readonly bytes: { readonly start: number; readonly end: number };
  }[];
}

interface Answer {
  readonly offset_into_first_range: number;
  readonly terms: readonly {
    readonly hash: string;
    readonly unpacked_length: number;
    readonly range: { start: number; end: number };
  }[];
  readonly xorbs: Readonly<Record<string, readonly Place[]>>;
}

/** Puts a file, or a part of it, together by the signed addresses. */
async function download(rig: ServerRig, answer: Answer): Promise<Buffer> {
  const pieces: Buffer[] = [];
  for (const { hash, range } of answer.terms) {
    for (const { url, ranges } of answer.xorbs[hash]!) {
      const place = ranges.find(({ chunks }) => chunks.start <= range.start && range.end <= chunks.end);
      if (place === undefined) continue;
      const { start, end } = place.bytes;
      const got = await rig.ask('GET', url.slice(rig.server.url.length), {
        headers: { Range: `bytes=${start}-${end}` },
      });
      if (got.status !== 206) throw new Error(`${got.status}: ${got.body}`);
      const chunks = [...decodeChunks(got.body, place.chunks.end - place.chunks.start)];
      for (const { raw } of chunks.slice(range.start - place.chunks.start, range.end - place.chunks.start)) {
        pieces.push(Buffer.from(raw));
      }
    }
  }
  return Buffer.concat(pieces).subarray(answer.offset_into_first_range);
}

test('a file and any range of it come back by the addresses of a reconstruction', async (t) => {
  const rig = await createServerRig(t);
  const content = randomBytes('ranges', 3_000_000);
  const hash = await publish(t, rig, content);
  for (const [start, end] of [
    [0, 3_000_000],
    [0, 1],
    [777_777, 1_500_001],
    [2_999_999, 3_000_000],
  ] as const) {
    const answer = await rig.ask('GET', `/v2/reconstructions/${hash}`, {
      headers: { Range: `bytes=${start}-${end - 1}` },
    });
    t.is(answer.status, 200);
    const bytes = await download(rig, answer.json() as unknown as Answer);
    t.true(bytes.subarray(0, end - start).equals(content.subarray(start, end)), `[${start}, ${end})`);
    t.true(bytes.length - (end - start) < 131072);
  }
  const head = await rig.ask('HEAD', `/v1/files/${hash}`);
  t.is(head.headers['content-length'], '3000000');
});

test('ranges behind the end are clamped or 416, and numbers of any size are read', async (t) => {
  const rig = await createServerRig(t);
  const hash = await publish(t, rig, randomBytes('clamp', 200_000));
  const ask = async (range: string, path = `/v2/reconstructions/${hash}`) =>
    (await rig.ask('GET', path, { headers: { Range: range } })).status;
  t.is(await ask('bytes=0-99999999999999999999999999'), 200);
  t.is(await ask('bytes=200000-200001'), 416);
  t.is(await ask('bytes=99999999999999999999999999-'), 416);
  t.is(await ask('bytes=0-1,5-6'), 400);
  t.is(await ask('bytes=5-1'), 200, 'a range that makes no sense is ignored');
  const empty = `/v2/reconstructions/${'0'.repeat(64)}`;
  t.is(await ask('bytes=0-0', empty), 200);
  t.is(await ask('bytes=1-1', empty), 416);
  t.deepEqual((await rig.ask('GET', empty)).json(), { offset_into_first_range: 0, terms: [], xorbs: {} });
});

test('several ranges of a xorb come as parts in the order asked for; too many repeats are refused', async (t) => {
  const rig = await createServerRig(t);
  const hash = await publish(t, rig, randomBytes('parts', 1_000_000));
  const answer = (await rig.ask('GET', `/v2/reconstructions/${hash}`)).json() as unknown as Answer;
  const path = `/v1/xorbs/default/${answer.terms[0]!.hash}`;
  const whole = await rig.ask('GET', path);
  t.is(whole.status, 200);
  const parts = await rig.ask('GET', path, { headers: { Range: 'bytes=500-599,0-99,-50' } });
  t.is(parts.status, 206);
  const found: Buffer[] = [];
  const boundary = multipartBoundary(String(parts.headers['content-type']))!;
  async function* body() {
    yield parts.body;
  }
  for await (const { offset, bytes } of readMultipart(body(), boundary)) {
    t.true(whole.body.subarray(offset, offset + bytes.length).equals(bytes));
    found.push(bytes);
  }
  t.is(Buffer.concat(found).length, 250);
  t.is(Number(parts.headers['content-length']), parts.body.length);
  const repeats = Array.from({ length: 50 }, () => '0-').join(',');
  t.is((await rig.ask('GET', path, { headers: { Range: `bytes=${repeats}` } })).status, 416);
  t.is((await rig.ask('HEAD', path)).headers['content-length'], String(whole.body.length));
});

test('a signed address gives its own bytes only, and for a while', async (t) => {
  let now = Date.parse('2030-01-01');
  const rig = await createServerRig(t, { now: () => now, anonymous: 'none' });
  const token = rig.server.token('read', { expiresAt: Math.floor(now / 1000) + 999_999 });
  const hash = await publish(t, rig, randomBytes('signed', 500_000));
  const headers = { Range: 'bytes=100000-200000' };
  const answer = (
    await rig.ask('GET', `/v2/reconstructions/${hash}`, { token, headers })
  ).json() as unknown as Answer;
  const [place] = Object.values(answer.xorbs)[0]!;
  const path = place!.url.slice(rig.server.url.length);
  const { start, end } = place!.ranges[0]!.bytes;
  const status = async (range: string, at = path) =>
    (await rig.ask('GET', at, { headers: { Range: range } })).status;
  t.is(await status(`bytes=${start}-${end}`), 206);
  t.is(await status(`bytes=${start + 1}-${end - 1}`), 206);
  t.is(await status(`bytes=${start - 1}-${end}`), 403);
  t.is(await status(`bytes=${start}-${end + 1}`), 403);
  t.is(await status('bytes=0-'), 403);
  t.is(await status(`bytes=${start}-${end}`, path.replace(/bytes=\d+/, 'bytes=0')), 403);
  t.is(await status(`bytes=${start}-${end}`, path.replace(/expires=\d+/, 'expires=9999999999')), 403);
  now += 3600_000;
  t.is(await status(`bytes=${start}-${end}`), 403);
});

test('a xorb is taken with and without its footer, and refused when it is not what it says', async (t) => {
  const rig = await createServerRig(t);
  const source = createStore(t);
  const [added] = await source.add(randomBytes('upload', 3_000_000));
  const [term] = source.open().findFile(parseHash(added!.hash))!.terms;
  const memory = new MemoryStore();
  await pushFiles(source.open(), memory, [{ hash: parseHash(added!.hash) }], {});
  const name = parseHash(term!.name);
  const footer = (await memory.readFooter(name))!;
  const size = footer.recordEnds.at(-1)!;
  const pieces: Uint8Array[] = [];
  for await (const piece of memory.readXorb(name, 0, size)) pieces.push(piece);
  const records = Buffer.concat(pieces);
  const token = rig.server.token('write');
  const put = async (body: Uint8Array, xorb = term!.name) =>
    rig.ask('POST', `/v1/xorbs/default/${xorb}`, { body, token });

  const flipped = Buffer.from(records);
  flipped[2_000_000]! ^= 1;
  t.is((await put(flipped)).status, 400);
  t.is((await put(records.subarray(0, -1))).status, 400);
  t.is((await put(records, formatHash(footer.hashes))).status, 400);
  t.is((await put(Buffer.alloc(0))).status, 400);
  const wrong = encodeFooter({ ...footer, rawEnds: footer.rawEnds.map((end) => end + 1) });
  t.is((await put(Buffer.concat([records, wrong]))).status, 400);
  t.is((await put(Buffer.concat([records, Buffer.from('XETBLOB'), Buffer.alloc(400_000)]))).status, 400);
  t.is((await rig.ask('HEAD', `/v1/xorbs/default/${term!.name}`)).status, 404, 'nothing of them is stored');

  t.deepEqual((await put(Buffer.concat([records, encodeFooter(footer)]))).json(), { was_inserted: true });
  t.deepEqual((await put(records)).json(), { was_inserted: false });
  const stored = await rig.ask('GET', `/v1/xorbs/default/${term!.name}`);
  t.true(stored.body.subarray(0, size).equals(records));
});

test('content that is damaged at the client is found by the server, and told of by the client, file by file', async (t) => {
  const rig = await createServerRig(t);
  const source = createStore(t);
  const contents = [randomBytes('large', 40 << 20), ...[1, 2, 3].map((seed) => chunkRun(`d${seed} `, 0, 20))];
  const files = (await source.add(...contents)).map(({ hash }) => ({ hash: parseHash(hash) }));
  const flip = (file: number, chunk: number) => {
    const [term] = source.open().findFile(files[file]!.hash)!.terms;
    const { path, recordEnds } = term!.open();
    const bytes = readFileSync(path);
    bytes[(recordEnds[term!.start + chunk - 1] ?? 0) + 60]! ^= 1;
    writeFileSync(path, bytes);
  };
  // The first is refused while most of it is still under way.
  flip(0, 1);
  flip(2, 7);
  const client = await rig.client();
  t.true(await client.verifiesXorbs());
  const pushed = await pushFiles(source.open(), client, files);
  const codes = pushed.files.map(({ error }) => error?.code);
  t.deepEqual(codes, ['CONTENT_DAMAGED', undefined, 'CONTENT_DAMAGED', undefined]);
  t.regex(
    pushed.files[0]!.error!.message,
    /^xorb [0-9a-f]{64} is damaged here: chunk 1: its bytes have the hash/,
  );
  t.regex(pushed.files[2]!.error!.message, /is damaged here: chunk \d+: its bytes have the hash/);
  const there = await rig.store.findFiles(files.map(({ hash }) => hash));
  t.deepEqual(
    there.map((file) => file !== undefined),
    [false, true, false, true],
  );
});

test('a shard is refused unless its xorbs are there and it is true, SHA-256 included', async (t) => {
  const rig = await createServerRig(t);
  const content = randomBytes('shard', 600_000);
  const hash = await publish(t, rig, content);
  const [file] = await rig.store.findFiles([parseHash(hash)]);
  const token = rig.server.token('write');
  const register = async (version: 1 | 2, change: object, footer = false) => {
    const builder = new ShardBuilder();
    builder.addFile({ ...file!, ...change });
    return rig.ask('POST', `/v${version}/shards`, { body: builder.build({ footer }), token });
  };
  const [first] = file!.terms;
  t.is((await register(1, { sha256: '1'.repeat(64) })).status, 400);
  t.is((await register(1, { fileHash: parseHash('2'.repeat(64)) })).status, 400);
  t.is((await register(1, { verification: [new Uint8Array(32)] })).status, 400);
  t.is((await register(1, { terms: [{ ...first!, end: first!.end + 1 }] })).status, 400);
  t.is(
    (await register(1, { terms: [{ ...first!, xorbHash: parseHash('3'.repeat(64)) }] })).json().code,
    'CONTENT_MISSING',
  );
  t.deepEqual(await rig.store.findSha256s(['1'.repeat(64)]), [undefined]);

  const { createHash } = await import('node:crypto');
  const sha256 = createHash('sha256').update(content).digest('hex');
  t.deepEqual((await register(1, { sha256 }, true)).json(), { result: 1 });
  t.is(formatHash((await rig.store.findSha256s([sha256]))[0]!), hash);
  const lines = (await register(2, { sha256 })).body
    .toString()
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line));
  t.deepEqual(lines.at(-1), { type: 'result', result: 0 });
  const refused = await register(2, { sha256: '4'.repeat(64) });
  t.regex(refused.body.toString(), /SHA-256/);
  t.is((await rig.ask('POST', '/v1/shards', { body: 'no shard', token })).status, 400);
});

test('a dedup query is answered with keyed hashes under a new key each time, whatever the prefix', async (t) => {
  const rig = await createServerRig(t);
  const hash = await publish(t, rig, randomBytes('dedup', 400_000));
  const [file] = await rig.store.findFiles([parseHash(hash)]);
  const footer = (await rig.store.readFooter(file!.terms[0]!.xorbHash))!;
  const first = footer.hashes.subarray(0, 32);
  const keys = new Set<string>();
  for (const prefix of ['default', 'default-merkledb']) {
    const answer = await rig.ask('GET', `/v1/chunks/${prefix}/${formatHash(first)}`);
    t.is(answer.status, 200);
    const shard = Shard.open(answer.body);
    keys.add(formatHash(shard.key!));
    t.true(
      shard.footer!.keyExpiry > Date.now() / 1000 && shard.footer!.keyExpiry < Date.now() / 1000 + 8 * 86400,
    );
    t.is(shard.fileCount, 0);
    t.deepEqual(shard.findChunk(first)?.chunkNumber, 0);
    const [xorb] = [...shard.xorbs()];
    t.true(Buffer.from(hmac(first, shard.key!)).equals(xorb!.hashes.subarray(0, 32)));
  }
  t.is(keys.size, 2);
  t.is((await rig.ask('GET', `/v1/chunks/default/${'5'.repeat(64)}`)).status, 404);
});

test('batches of reconstructions come in both forms', async (t) => {
  const rig = await createServerRig(t);
  const hash = await publish(t, rig, randomBytes('batch', 300_000));
  const unknown = '6'.repeat(64);
  const byGet = await rig.ask('GET', `/v1/reconstructions?file_id=${hash}&file_id=${unknown}`);
  const byPost = await rig.ask('POST', '/v1/reconstructions', {
    body: JSON.stringify([
      { prefix: 'default', hash },
      { prefix: 'default', hash: unknown },
    ]),
  });
  for (const answer of [byGet, byPost]) t.deepEqual(Object.keys(answer.json().files as object), [hash]);
  t.is((await rig.ask('GET', `/v1/reconstructions?file_id=${unknown}`)).status, 404);
  t.is((await rig.ask('POST', '/v1/reconstructions', { body: '{"no":"list"}' })).status, 400);
  const v1 = (await rig.ask('GET', `/v1/reconstructions/${hash}`)).json();
  t.true('fetch_info' in v1);
});

test('malformed requests of every kind get their 4xx and leave the server well', async (t) => {
  const rig = await createServerRig(t, { limits: { maxUpload: 100_000 } });
  const token = rig.server.token('write');
  const status = async (method: string, path: string, options = {}) =>
    (await rig.ask(method, path, options)).status;
  for (const path of [
    '/v2/reconstructions/xyz',
    '/v1/xorbs/default/..%2f..%2fetc',
    `/v1/files/${'7'.repeat(63)}`,
    '/v1/chunks/default/%00',
  ]) {
    t.is(await status(path.includes('files') ? 'HEAD' : 'GET', path), 400, path);
  }
  for (const path of [
    '/..%2f..%2fetc/passwd',
    '/../../etc/passwd',
    '/v1/xorbs/default/../../format',
    '//',
    '/%',
    '/v3/shards',
    '/a/../b.git/info/refs?service=git-upload-pack',
  ]) {
    t.true([400, 404].includes(await status('GET', path)), path);
  }
  t.is(await status('DELETE', `/v1/files/${'7'.repeat(64)}`), 405);
  t.is(
    await status('POST', `/v1/xorbs/default/${'7'.repeat(64)}`, { body: Buffer.alloc(100_001), token }),
    413,
  );
  t.is(
    await status('POST', '/v1/shards', {
      headers: { 'Transfer-Encoding': 'chunked' },
      body: Buffer.alloc(300_000),
      token,
    }),
    413,
  );
  t.is(await status('POST', '/v1/git2db/files', { body: Buffer.alloc(33) }), 400);
  t.is(await status('POST', '/v1/git2db/chunks', { body: Buffer.alloc(65) }), 400);
  t.is(await status('GET', '/healthz'), 200);
  t.deepEqual(rig.errors, []);
});

test('two lengths, or a length and chunks, in one request are refused', async (t) => {
  const rig = await createServerRig(t);
  const { port } = new URL(rig.server.url);
  const raw = (text: string) =>
    new Promise<string>((resolve, reject) => {
      const socket = connect(Number(port), '127.0.0.1', () => socket.write(text));
      let got = '';
      socket.on('data', (piece) => {
        got += piece;
      });
      socket.on('error', reject);
      socket.on('close', () => resolve(got));
    });
  const head = 'POST /v1/git2db/files HTTP/1.1\r\nHost: x\r\n';
  t.regex(
    await raw(`${head}Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n`),
    /^HTTP\/1\.1 400/,
  );
  t.regex(await raw(`${head}Content-Length: 5\r\nContent-Length: 6\r\n\r\nabcde`), /^HTTP\/1\.1 400/);
  t.regex(await raw('GET / HTTP/1.1\r\nHost : x\r\n\r\n'), /^HTTP\/1\.1 400/);
});
