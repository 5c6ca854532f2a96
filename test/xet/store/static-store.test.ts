/** A store behind a plain web server: read only, by its catalog alone. */

import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { HttpClient } from '../../../src/xet/cas/http.ts';
import { Git2dbError } from '../../../src/xet/errors.ts';
import { HttpObjects } from '../../../src/xet/objects/http.ts';
import { DirectoryStore } from '../../../src/xet/store/directory-store.ts';
import { StoreOverObjects } from '../../../src/xet/store/object-store.ts';
import { type StaticServer, type StaticServerOptions, serveStatic } from '../../helpers/static-server.ts';
import {
  collectRuns,
  putFile,
  readWhole,
  someChunks,
  uploadOf,
  xorbOf,
} from '../../helpers/stored-content.ts';
import { same } from '../objects/object-contract.ts';

async function openStatic(t: ExecutionContext, server: StaticServer): Promise<StoreOverObjects> {
  const http = HttpClient.open({ retries: 1 });
  t.teardown(() => http.close());
  const store = await StoreOverObjects.open(new HttpObjects(http, `${server.url}/xet/`));
  t.teardown(() => store[Symbol.asyncDispose]());
  return store;
}

async function directoryAnd(
  t: ExecutionContext,
  options?: StaticServerOptions,
): Promise<{ directory: DirectoryStore; server: StaticServer }> {
  const root = mkdtempSync(join(tmpdir(), 'git2db-static-'));
  t.teardown(() => rmSync(root, { recursive: true, force: true }));
  const directory = DirectoryStore.open(join(root, 'xet'), { fsync: 'none' });
  t.teardown(() => directory[Symbol.asyncDispose]());
  return { directory, server: await serveStatic(t, root, options) };
}

for (const hasRanges of [true, false]) {
  test(`files of a directory are read through a web server ${hasRanges ? 'with' : 'without'} ranges`, async (t) => {
    const { directory, server } = await directoryAnd(t, { hasRanges });
    const chunks = someChunks('static', 30, 5000);
    const { file, xorb } = await putFile(directory, chunks, 'ab'.repeat(32));
    const store = await openStatic(t, server);
    t.true(store.isReadOnly);
    same(t, await readWhole(store, file.fileHash), Buffer.concat(chunks));
    t.deepEqual(await store.findFiles([new Uint8Array(32).fill(1)]), [undefined]);
    const [bySha] = await store.findSha256s(['ab'.repeat(32)]);
    t.deepEqual(Buffer.from(bySha ?? []), Buffer.from(file.fileHash));
    t.is((await store.findChunks(xorb.hashes)).length, 1);
    t.is((await store.readFooter(xorb.xorbHash)).count, 30);
    const [run] = await collectRuns(store.readRecords([{ xorbHash: xorb.xorbHash, start: 29, end: 30 }]));
    t.is(run?.bytes.length, 5008);
    // Nothing but files was asked for.
    t.true(
      server.requests.every(({ path }) =>
        /^\/xet\/(format|catalog\/\w+|shards\/\w+\.mdb|xorbs\/\w\w\/\w+)$/.test(path),
      ),
    );
    // What came later is found, too.
    const { file: later } = await putFile(directory, someChunks('later', 2));
    t.is((await readWhole(store, later.fileHash))?.length, 2000);
  });
}

test('nothing can be put through a web server', async (t) => {
  const { directory, server } = await directoryAnd(t);
  await putFile(directory, someChunks('one', 2));
  const store = await openStatic(t, server);
  const error = await t.throwsAsync(store.putXorb(uploadOf(xorbOf(someChunks('two', 2)))), {
    instanceOf: Git2dbError,
  });
  t.is(error?.code, 'STORE_UNWRITABLE');
});

test('where there is no store the address is told', async (t) => {
  const { server } = await directoryAnd(t);
  const error = await t.throwsAsync(openStatic(t, server), { instanceOf: Git2dbError });
  t.is(error?.code, 'REMOTE_MISSING');
  t.true(error?.message.includes(`${server.url}/xet`));
});

const LIES: readonly [string, StaticServerOptions['intercept'] & {}][] = [
  [
    'another range',
    (request, response) => {
      if (request.headers.range === undefined) return false;
      response.writeHead(206, { 'content-range': 'bytes 5-9/1000000' }).end('hello');
      return true;
    },
  ],
  [
    'a range without a total',
    (request, response) => {
      if (request.headers.range === undefined) return false;
      response.writeHead(206, { 'content-range': 'bytes 0-4/*' }).end('hello');
      return true;
    },
  ],
  [
    'fewer bytes than it says',
    (request, response) => {
      if (request.headers.range === undefined) return false;
      response.writeHead(206, { 'content-range': 'bytes 0-65535/1000000', 'content-length': 5 }).end('hello');
      return true;
    },
  ],
  [
    'compressed bytes',
    (request, response) => {
      if (request.headers.range === undefined) return false;
      response.writeHead(206, { 'content-range': 'bytes 0-4/5', 'content-encoding': 'gzip' }).end('hello');
      return true;
    },
  ],
  [
    'a whole that is too large',
    (request, response) => {
      if (request.headers.range === undefined) return false;
      response.writeHead(200, { 'content-length': String(1e12) });
      response.flushHeaders();
      return true;
    },
  ],
  [
    'an endless HEAD',
    (request, response) => {
      if (request.url !== '/xet/catalog/HEAD') return false;
      const timer = setInterval(() => response.write(Buffer.alloc(1 << 20, 'x')), 1);
      response.on('close', () => clearInterval(timer));
      return true;
    },
  ],
];

for (const [title, intercept] of LIES) {
  test(`a web server that answers with ${title} gives an error, and no bytes`, async (t) => {
    let isOn = false;
    const { directory, server } = await directoryAnd(t, {
      intercept: (request, response) => isOn && intercept(request, response),
    });
    const { file } = await putFile(directory, someChunks('lied', 20, 30_000));
    const store = await openStatic(t, server);
    isOn = true;
    const error = await t.throwsAsync(readWhole(store, file.fileHash), { instanceOf: Git2dbError });
    t.true(
      ['REMOTE_INVALID', 'NETWORK', 'CONTENT_MISSING'].includes(error?.code ?? ''),
      `${error?.code} ${error?.message}`,
    );
  });
}
