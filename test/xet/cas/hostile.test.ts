/** Servers that mean harm: what they answer is refused in one line, nothing of it is stored, and little is read. */
import { existsSync, readdirSync } from 'node:fs';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { CasStore } from '../../../src/xet/cas/client.ts';
import type { Git2dbError } from '../../../src/xet/errors.ts';
import { formatHash } from '../../../src/xet/hash/xet-hash.ts';
import { openStore as openRemoteStore } from '../../../src/xet/remote/open.ts';
import { ShardBuilder } from '../../../src/xet/shard/builder.ts';
import { LocalStore } from '../../../src/xet/store/local-store.ts';
import { fetchFiles } from '../../../src/xet/transfer/fetch.ts';
import type { BuiltXorb } from '../../../src/xet/xorb/builder.ts';
import { decodeChunks } from '../../../src/xet/xorb/chunk-range.ts';
import { encodeFooter } from '../../../src/xet/xorb/format.ts';
import { bombs, countAllocations } from '../../helpers/bombs.ts';
import { createStore } from '../../helpers/store-sandbox.ts';
import { KINDS, openRig } from './cas-rig.ts';
import { makeContent, serve } from './content.ts';
import { openClient } from './http-rig.ts';

const UNKNOWN = new Uint8Array(32).fill(7);
const MIB = 1 << 20;
/** What sockets and streams on both sides hold at once. */
const IN_FLIGHT = 16 * MIB;

async function failureOf(promise: Promise<unknown>): Promise<Git2dbError> {
  try {
    await promise;
  } catch (error) {
    return error as Git2dbError;
  }
  throw new Error('it was believed');
}

/** Files of a store, but for those that are always there. */
function stored(root: string): string[] {
  return ['xorbs', 'shards', 'incoming', 'learned'].flatMap((name) => {
    const path = join(root, name);
    return existsSync(path) ? readdirSync(path, { recursive: true }).map((entry) => `${name}/${entry}`) : [];
  });
}

for (const [name, options] of KINDS) {
  test(`compressed bombs from ${name} are refused, and nothing of them is stored`, async (t) => {
    const { cas, store } = await openRig(t, options);
    const content = await makeContent(31, 9_000);
    const [xorb] = content.xorbs as [BuiltXorb];
    t.is(xorb.count, 1);
    for (const [what, record] of bombs(xorb.rawBytes)) {
      const footer = { ...xorb, recordEnds: Uint32Array.of(record.length) };
      cas.xorbs.set(formatHash(xorb.xorbHash), {
        footer,
        bytes: Buffer.concat([record, encodeFooter(footer)]),
      });
      cas.addFile(content.file);
      const local = createStore(t);
      const target = new LocalStore(local.root);
      const wanted = [{ hash: content.file.fileHash, size: content.bytes.length }];
      const { files } = await fetchFiles(target, store, wanted, { writer: { fsync: 'none' } });
      target.close();
      t.is(files[0]?.outcome, 'failed', what);
      const { code = '', message = '\n' } = files[0]?.error ?? {};
      t.true(['CONTENT_DAMAGED', 'REMOTE_INVALID'].includes(code), `${what}: ${code}`);
      t.notRegex(message, /[\n\r]/);
      t.deepEqual(stored(local.root), [], what);
    }
  });
}

test.serial('a record takes no more memory than its chunk may have, whatever it expands to', (t) => {
  for (const [what, record] of bombs(9_000)) {
    const used = countAllocations(() => {
      try {
        for (const { raw } of decodeChunks(record, 1)) t.true(raw.length <= 131_072);
      } catch (error) {
        t.is((error as Git2dbError).code, 'INVALID_XORB', what);
      }
    });
    t.true(used <= 4 * 131_072, `${what}: ${used} bytes`);
  }
});

test('a footer with huge numbers is refused, and no more is read than a footer can have', async (t) => {
  const { cas, store } = await openRig(t);
  const content = await makeContent(32, 500_000);
  serve(cas, content);
  const [xorb] = content.xorbs as [BuiltXorb];
  const kept = cas.xorbs.get(formatHash(xorb.xorbHash))!;
  const sound = Buffer.from(kept.bytes);
  const at = xorb.storedBytes;
  const numbers: [string, number][] = [
    ['its length', sound.length - 4],
    ['its count of hashes', at + 7 + 1 + 32 + 7 + 1],
    ['its last count', sound.length - 4 - 16 - 12],
    ['its first record end', at + 7 + 1 + 32 + 7 + 1 + 4 + 32 * xorb.count + 7 + 1 + 4],
  ];
  for (const [what, offset] of numbers) {
    for (const value of [0xffffffff, 0x7fffffff, 0x00ffffff]) {
      kept.bytes = Buffer.from(sound);
      (kept.bytes as Buffer).writeUInt32LE(value, offset);
      const before = cas.sent;
      const { code, message } = await failureOf(store.readFooter(xorb.xorbHash) as Promise<unknown>);
      t.is(code, 'CONTENT_DAMAGED', `${what} ${value}`);
      t.notRegex(message, /[\n\r]/);
      t.true(cas.sent - before < 2 * MIB, `${what}: ${cas.sent - before} bytes were read`);
    }
  }
});

interface Endless {
  readonly url: string;
  /** Bytes that were handed to the system, of all answers. */
  written: number;
  answers: number;
}

/** A server some of whose answers do not end: `piece` again and again, as fast as the client reads. */
async function serveEndless(
  t: ExecutionContext,
  begin: (request: IncomingMessage, response: ServerResponse) => Buffer | undefined,
): Promise<Endless> {
  const server = createServer((request, response) => {
    request.resume();
    response.on('error', () => undefined);
    const piece = begin(request, response);
    if (piece === undefined) return;
    served.answers++;
    const write = () => {
      while (!response.destroyed) {
        served.written += piece.length;
        if (!response.write(piece)) {
          response.once('drain', write);
          return;
        }
      }
    };
    write();
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.teardown(() => {
    server.closeAllConnections();
    server.close();
  });
  const served = {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    written: 0,
    answers: 0,
  };
  return served;
}

function openCas(t: ExecutionContext, url: string): CasStore {
  const { http, clock } = openClient(t);
  return CasStore.open({ http, casUrl: url, clock });
}

const TERM = JSON.stringify({ hash: '07'.repeat(32), unpacked_length: 100, range: { start: 0, end: 1 } });

for (const [what, first, more] of [
  ['terms', '{"offset_into_first_range":0,"terms":[', `${TERM},`],
  ['blanks', '{"terms":', ' '],
  ['one string', '{"terms":"', 'x'],
  ['nested lists', '', '['],
] as const) {
  test(`a reconstruction without end (${what}) is given up after 64 MiB, and not tried again`, async (t) => {
    const piece = Buffer.from(more.repeat(Math.ceil(65536 / more.length)));
    const server = await serveEndless(t, ({ url }, response) => {
      if (!url?.includes('reconstructions')) {
        response.writeHead(404).end();
        return undefined;
      }
      response.writeHead(200, { 'content-type': 'application/json' });
      response.write(first);
      return piece;
    });
    const { code, message } = await failureOf(openCas(t, server.url).findFiles([UNKNOWN]));
    t.is(code, 'REMOTE_INVALID');
    t.notRegex(message, /[\n\r]/);
    t.is(server.answers, 1);
    t.true(server.written <= 64 * MIB + IN_FLIGHT, `${server.written} bytes were read`);
  });
}

test('other answers without end: files, dedup, the kind of server, and a whole shard', async (t) => {
  const piece = Buffer.alloc(65536, ' ');
  const endless = (on: RegExp, ours: boolean) =>
    serveEndless(t, ({ url = '' }, response) => {
      if (on.test(url)) {
        response.writeHead(200);
        return piece;
      }
      const known = ours && url === '/v1/git2db';
      response.writeHead(known ? 200 : 404).end(known ? '{"server":"git2db","protocol":1}' : 'no');
      return undefined;
    });
  const files = await endless(/git2db\/files/, true);
  t.is((await failureOf(openCas(t, files.url).findFiles([UNKNOWN]))).code, 'REMOTE_INVALID');
  t.true(files.answers === 1 && files.written <= 128 * MIB + IN_FLIGHT, `${files.written}`);
  const dedup = await endless(/v1\/chunks/, false);
  t.deepEqual(await openCas(t, dedup.url).findChunks(UNKNOWN), []);
  t.true(dedup.written <= 16 * MIB + IN_FLIGHT, `${dedup.written}`);
  const kind = await endless(/git2db$/, false);
  await failureOf(openCas(t, kind.url).findFiles([UNKNOWN])).catch(() => undefined);
  t.true(kind.written <= 6 * IN_FLIGHT, `${kind.written}`);
});

test('several ranges that are answered without end are given up', async (t) => {
  const content = await makeContent(33, 200_000);
  const { cas } = await openRig(t, { extensions: false });
  serve(cas, content);
  const boundary = 'xyz';
  const part = `--${boundary}\r\nContent-Type: x/y\r\nContent-Range: bytes 70000000-70065535/99999999\r\n\r\n`;
  const piece = Buffer.concat([Buffer.from(part), Buffer.alloc(65536), Buffer.from('\r\n')]);
  for (const isMultipart of [true, false]) {
    const server = await serveEndless(t, (_, response) => {
      const type = isMultipart ? `multipart/byteranges; boundary=${boundary}` : 'x/y';
      const range = isMultipart ? {} : { 'content-range': 'bytes 70000000-90000000/99999999' };
      response.writeHead(206, { 'content-type': type, ...range });
      return piece;
    });
    cas.dataUrl = server.url;
    const store = openCas(t, cas.url);
    const local = createStore(t);
    const target = new LocalStore(local.root);
    const { files } = await fetchFiles(target, store, [{ hash: content.file.fileHash, size: undefined }], {
      writer: { fsync: 'none' },
    });
    target.close();
    t.is(files[0]?.error?.code, 'REMOTE_INVALID', files[0]?.error?.message);
    t.notRegex(files[0]?.error?.message ?? '', /[\n\r]/);
    t.true(
      server.written <= server.answers * (128 * MIB + IN_FLIGHT) && server.answers <= 2,
      `${server.answers} answers, ${server.written} bytes`,
    );
    t.deepEqual(stored(local.root), []);
  }
});

test('shards with huge counts are refused in one line', async (t) => {
  const { cas, store } = await openRig(t);
  const content = await makeContent(34, 300_000);
  serve(cas, content);
  const builder = new ShardBuilder();
  builder.addFile(content.file);
  const sound = Buffer.from(builder.build({ footer: false }));
  for (const value of [0xffffffff, 0x7fffffff, 0x00ffffff]) {
    const bomb = Buffer.from(sound);
    bomb.writeUInt32LE(value, 48 + 36);
    cas.faults.push({ on: /files/, status: 200, body: bomb });
    const { code, message } = await failureOf(store.findFiles([UNKNOWN]));
    t.is(code, 'REMOTE_INVALID');
    t.notRegex(message, /[\n\r]/);
  }
});

test('names that a web server puts into its catalog lead nowhere', async (t) => {
  const asked: string[] = [];
  const server = await serveEndless(t, ({ url = '' }, response) => {
    asked.push(url);
    const names = [
      '../../../etc/passwd',
      `${'a'.repeat(62)}/.`,
      `..%2f..%2f${'b'.repeat(54)}`,
      'c'.repeat(64),
    ];
    const head = `git2db catalog 1\n${names.map((name) => `table ${name} 4000000000 4000000000\n`).join('')}`;
    const body = url === '/format' ? 'git2db xet store 1\n' : url === '/catalog/HEAD' ? head : undefined;
    response.writeHead(body === undefined ? 404 : 200).end(body);
    return undefined;
  });
  await using store = await openRemoteStore({ kind: 'static', url: server.url });
  const { code, message } = await failureOf(store.findFiles([UNKNOWN]));
  t.is(code, 'CONTENT_MISSING');
  t.notRegex(message, /[\n\r]/);
  for (const path of asked) t.regex(path, /^\/(?:format|catalog\/(?:HEAD|c{64}))$/);
});
