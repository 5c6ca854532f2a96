/** Clients that mean harm: what they send is refused, nothing of it is stored, and the server goes on. */
import { existsSync, readdirSync } from 'node:fs';
import { type ClientRequest, request } from 'node:http';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import test, { type ExecutionContext } from 'ava';
import { formatHash } from '../../src/xet/hash/xet-hash.ts';
import { ShardBuilder } from '../../src/xet/shard/builder.ts';
import type { BuiltXorb } from '../../src/xet/xorb/builder.ts';
import { encodeFooter } from '../../src/xet/xorb/format.ts';
import { bombs } from '../helpers/bombs.ts';
import { isolateProcess } from '../helpers/git-sandbox.ts';
import { makeContent } from '../xet/cas/content.ts';
import { type Answer, createServerRig, type ServerRig } from './rig.ts';

isolateProcess();

const MIB = 1 << 20;

/** Refused with a status of 4xx and one line; the server is well, and nothing is in its store. */
async function refused(t: ExecutionContext, rig: ServerRig, answer: Answer, what: string): Promise<void> {
  t.true([400, 413, 415, 422].includes(answer.status), `${what}: ${answer.status}`);
  t.notRegex(answer.body.toString(), /[\r\n]./, what);
  t.notRegex(answer.body.toString(), /\bat .*\.[jt]s:\d/, what);
  for (const name of ['xorbs', 'shards', 'incoming']) {
    const path = join(rig.storeDirectory, name);
    const files = existsSync(path) ? readdirSync(path, { recursive: true }) : [];
    t.deepEqual(
      files.filter((entry) => /[0-9a-f]{64}/.test(String(entry))),
      [],
      `${what}: ${name}`,
    );
  }
  t.is((await rig.ask('GET', '/healthz')).status, 200, what);
}

test('compressed bombs in uploaded xorbs are refused, with a footer that fits them and without', async (t) => {
  const rig = await createServerRig(t);
  const token = rig.server.token('write');
  const content = await makeContent(41, 9_000);
  const [xorb] = content.xorbs as [BuiltXorb];
  for (const [what, record] of bombs(xorb.rawBytes)) {
    const footer = encodeFooter({ ...xorb, recordEnds: Uint32Array.of(record.length) });
    for (const body of [record, Buffer.concat([record, footer])]) {
      const answer = await rig.ask('POST', `/v1/xorbs/default/${formatHash(xorb.xorbHash)}`, { body, token });
      await refused(t, rig, answer, what);
    }
  }
  t.deepEqual(rig.errors, []);
});

test('footers and shards with huge numbers, and bodies compressed again, are refused', async (t) => {
  const rig = await createServerRig(t);
  const token = rig.server.token('write');
  const content = await makeContent(42, 300_000);
  const [xorb] = content.xorbs as [BuiltXorb];
  const whole = Buffer.concat([xorb.bytes, encodeFooter(xorb)]);
  const path = `/v1/xorbs/default/${formatHash(xorb.xorbHash)}`;
  const at = xorb.storedBytes + 7 + 1 + 32 + 7 + 1;
  for (const [what, offset] of [
    ['length of the footer', whole.length - 4],
    ['count of hashes', at],
    ['last count', whole.length - 4 - 16 - 12],
  ] as const) {
    for (const value of [0xffffffff, 0x7fffffff, 8193]) {
      const body = Buffer.from(whole);
      body.writeUInt32LE(value, offset);
      await refused(t, rig, await rig.ask('POST', path, { body, token }), `${what} ${value}`);
    }
  }
  const builder = new ShardBuilder();
  builder.addFile(content.file);
  const shard = Buffer.from(builder.build({ footer: false }));
  for (const value of [0xffffffff, 0x7fffffff, 0x00ffffff]) {
    const body = Buffer.from(shard);
    body.writeUInt32LE(value, 48 + 36);
    await refused(t, rig, await rig.ask('POST', '/v1/shards', { body, token }), `a shard with ${value}`);
    const news = await rig.ask('POST', '/v2/shards', { body, token });
    t.true(news.status === 400 || /"error"/.test(news.body.toString()), `${news.status} ${news.body}`);
  }
  // Whoever unpacked it would have 64 MiB of a few KiB.
  const body = gzipSync(Buffer.alloc(64 * MIB));
  const headers = { 'Content-Encoding': 'gzip' };
  await refused(t, rig, await rig.ask('POST', path, { body, token, headers }), 'gzip');
  await refused(t, rig, await rig.ask('POST', '/v1/shards', { body, token, headers }), 'gzip');
  t.deepEqual(rig.errors, []);
});

/** Bytes that could be handed to the system before the server had enough. */
function sendWithoutEnd(rig: ServerRig, path: string, token: string, piece: Buffer): Promise<number> {
  const { hostname, port } = new URL(rig.server.url);
  return new Promise((resolve) => {
    let written = 0;
    const sent: ClientRequest = request({
      hostname,
      port,
      method: 'POST',
      path,
      headers: { Authorization: `Bearer ${token}`, 'Transfer-Encoding': 'chunked' },
      agent: false,
    });
    const write = () => {
      while (!sent.destroyed) {
        written += piece.length;
        if (!sent.write(piece)) {
          sent.once('drain', write);
          return;
        }
      }
    };
    // It goes on sending after the answer: the server has to hang up.
    sent.on('response', (response) => response.resume());
    sent.on('error', () => {});
    sent.on('close', () => resolve(written));
    write();
  });
}

test('uploads and questions without end are cut off after what is allowed', async (t) => {
  const rig = await createServerRig(t, { limits: { maxUpload: 2 * MIB } });
  const token = rig.server.token('write');
  const term = Buffer.from(`{"prefix":"default","hash":"${'07'.repeat(32)}"},`.repeat(700));
  for (const [path, piece] of [
    [`/v1/xorbs/default/${'07'.repeat(32)}`, Buffer.alloc(65536)],
    ['/v1/shards', Buffer.alloc(65536)],
    ['/v2/shards', Buffer.alloc(65536)],
    ['/v1/git2db/files', Buffer.alloc(65536)],
    ['/v1/git2db/chunks', Buffer.alloc(65536)],
    ['/v1/git2db/sha256s', Buffer.alloc(65536)],
    ['/v1/reconstructions', term],
  ] as const) {
    const written = await sendWithoutEnd(rig, path, token, piece);
    t.true(written < 40 * MIB, `${path}: ${written} bytes were taken`);
    t.is((await rig.ask('GET', '/healthz')).status, 200, path);
  }
  t.deepEqual(rig.errors, []);
  t.deepEqual(
    readdirSync(rig.sandbox.tmp).filter((name) => /spool|upload/.test(name)),
    [],
  );
});

test('names that lead out of the store are refused by every route, in paths and in bodies', async (t) => {
  const rig = await createServerRig(t);
  const token = rig.server.token('write');
  const names = [
    '..%2f..%2f..%2fetc%2fpasswd',
    '../../../../etc/passwd',
    `${'a'.repeat(62)}%2f.`,
    '%2e%2e',
    '..\\..',
  ];
  for (const name of names) {
    for (const [method, route] of [
      ['GET', '/v1/reconstructions/'],
      ['GET', '/v2/reconstructions/'],
      ['GET', '/v1/xorbs/default/'],
      ['POST', '/v1/xorbs/default/'],
      ['HEAD', '/v1/xorbs/default/'],
      ['GET', '/v1/chunks/default/'],
      ['HEAD', '/v1/files/'],
    ] as const) {
      const { status } = await rig.ask(method, `${route}${name}`, { token });
      t.true(status === 400 || status === 404, `${method} ${route}${name}: ${status}`);
    }
    for (const body of [
      JSON.stringify([{ prefix: 'default', hash: decodeURIComponent(name) }]),
      JSON.stringify([{ prefix: '../..', hash: '07'.repeat(32) }]),
    ]) {
      const { status, body: told } = await rig.ask('POST', '/v1/reconstructions', { body, token });
      t.true([400, 404].includes(status), `${status} ${told}`);
    }
  }
  t.deepEqual(rig.errors, []);
});
