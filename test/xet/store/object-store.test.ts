/** What a store over objects costs, and how several of them share one bucket. */
import test, { type ExecutionContext } from 'ava';
import { Git2dbError } from '../../../src/xet/errors.ts';
import { formatHash, parseHash } from '../../../src/xet/hash/xet-hash.ts';
import { MemoryObjects } from '../../../src/xet/objects/memory.ts';
import { bodyOf } from '../../../src/xet/objects/objects.ts';
import { ShardBuilder } from '../../../src/xet/shard/builder.ts';
import type { FileRecord } from '../../../src/xet/shard/file-info.ts';
import { Shard, shardName } from '../../../src/xet/shard/shard.ts';
import { mergeTables, tableName, tableOfShard } from '../../../src/xet/store/catalog-build.ts';
import { formatHead, parseHead } from '../../../src/xet/store/catalog-head.ts';
import { CatalogTable, memoryBytes } from '../../../src/xet/store/catalog-table.ts';
import { StoreOverObjects } from '../../../src/xet/store/object-store.ts';
import { CountingObjects } from '../../helpers/counting-objects.ts';
import {
  collectRuns,
  fileOf,
  putFile,
  readWhole,
  shardOf,
  someChunks,
  uploadOf,
  xorbOf,
} from '../../helpers/stored-content.ts';

async function open(
  t: ExecutionContext,
  inner = new MemoryObjects(),
): Promise<{ store: StoreOverObjects; objects: CountingObjects; inner: MemoryObjects }> {
  const objects = new CountingObjects(inner);
  const store = await StoreOverObjects.open(objects);
  t.teardown(() => store[Symbol.asyncDispose]());
  return { store, objects, inner };
}

async function headOf(objects: MemoryObjects): Promise<string> {
  const head = await objects.readWhole('catalog/HEAD', { limit: 1 << 20 });
  if (head === undefined || head === 'unchanged') throw new Error('no HEAD');
  return head.bytes.toString();
}

/** A bucket with `count` shards of one xorb and one file each, covered by tables, without the xorbs' bytes. */
async function bucketOfShards(
  count: number,
  tables: number,
): Promise<{ inner: MemoryObjects; files: FileRecord[] }> {
  const inner = new MemoryObjects();
  await inner.putIfAbsent('format', bodyOf(Buffer.from('git2db xet store 1\n')));
  const files: FileRecord[] = [];
  const entries: { name: string; chunks: number; files: number }[] = [];
  for (let at = 0, left = count; left > 0; at++) {
    const size = at === tables - 1 ? left : Math.ceil(left * 0.6);
    left -= size;
    const sources: CatalogTable[] = [];
    for (let i = 0; i < size; i++) {
      const hashes = new Uint8Array(32 * 4);
      for (let at = 0; at < hashes.length; at += 4)
        new DataView(hashes.buffer).setUint32(at, ((files.length + 1) * 2654435761 * (at + 7)) >>> 0);
      const xorb = {
        xorbHash: hashes.slice(8, 40),
        hashes,
        lengths: new Uint32Array(4).fill(65536),
        storedBytes: 1,
      };
      const file: FileRecord = {
        fileHash: hashes.slice(4, 36),
        terms: [{ xorbHash: xorb.xorbHash, start: 0, end: 4, rawBytes: 4 * 65536 }],
        verification: [new Uint8Array(32)],
      };
      const builder = new ShardBuilder();
      builder.addXorb(xorb);
      builder.addFile(file);
      const bytes = builder.build({ createdAt: files.length });
      const name = shardName(bytes);
      await inner.putIfAbsent(`shards/${name}.mdb`, bodyOf(bytes));
      const table = tableOfShard(parseHash(name), Shard.open(bytes));
      sources.push(new CatalogTable(tableName(table), memoryBytes(table)));
      files.push(file);
    }
    const table = mergeTables(sources);
    await inner.putIfAbsent(`catalog/${tableName(table)}`, bodyOf(table));
    entries.push({ name: tableName(table), chunks: 4 * size, files: size });
  }
  await inner.putIfAbsent('catalog/HEAD', bodyOf(Buffer.from(formatHead(entries))));
  return { inner, files };
}

test('the first file of a bucket of 10,000 shards is found by a few small requests', async (t) => {
  const { inner, files } = await bucketOfShards(10_000, 4);
  const { store, objects } = await open(t, inner);
  const wanted = files[7777] as FileRecord;
  const [found] = await store.findFiles([wanted.fileHash]);
  t.is(found?.size, 4 * 65536);
  t.true(objects.calls.length <= 20, `${objects.calls.length} requests`);
  t.true(objects.calls.every(({ name }) => name !== 'list'));
  t.true(objects.bytesRead < 2 << 20, `${objects.bytesRead} bytes`);
  objects.forget();
  t.is((await store.findFiles([(files[3] as FileRecord).fileHash]))[0]?.size, 4 * 65536);
  t.true(objects.calls.length <= 8, `${objects.calls.length} requests`);
});

test('questions about many files at once share their requests', async (t) => {
  const { inner, files } = await bucketOfShards(300, 2);
  const { store, objects } = await open(t, inner);
  const found = await store.findFiles(files.map(({ fileHash }) => fileHash));
  t.true(found.every((file) => file !== undefined));
  // One for each shard, and a few for the catalog.
  t.true(objects.calls.length <= files.length + 10, `${objects.calls.length} requests`);
});

test('a file of many small ones in one shard costs no request of its own', async (t) => {
  const { store, inner } = await open(t);
  const xorb = xorbOf(someChunks('small', 500, 100));
  await store.putXorb(uploadOf(xorb));
  const files = Array.from({ length: 500 }, (_, i) => fileOf([[xorb, i, i + 1]]));
  await store.putShard(shardOf([xorb], files));
  const { store: view, objects } = await open(t, inner);
  const found = await view.findFiles(files.map(({ fileHash }) => fileHash));
  t.true(found.every((file) => file?.size === 100));
  t.true(objects.calls.length <= 8, `${objects.calls.length} requests`);
  objects.forget();
  const runs = await collectRuns(view.readRecords(found.flatMap((file) => file?.terms ?? [])));
  t.is(
    runs.reduce((sum, run) => sum + run.end - run.start, 0),
    500,
  );
  t.true(objects.calls.length <= 3, `${objects.calls.length} requests`);
});

test('a range of a large xorb is read with little more than that', async (t) => {
  const { store, inner } = await open(t);
  const { xorb } = await putFile(store, someChunks('large', 200, 60_000));
  const { store: view, objects } = await open(t, inner);
  const runs = await collectRuns(view.readRecords([{ xorbHash: xorb.xorbHash, start: 100, end: 102 }]));
  t.is(runs.length, 1);
  t.true(objects.bytesRead < 120_016 + 70_000, `${objects.bytesRead} bytes`);
});

test('chunks of a known file are found with few requests, those of an unknown one with fewer', async (t) => {
  const { store, inner } = await open(t);
  const xorbs = Array.from({ length: 6 }, (_, i) => xorbOf(someChunks(`known ${i}`, 400, 50)));
  for (const xorb of xorbs) await store.putXorb(uploadOf(xorb));
  await store.putShard(shardOf(xorbs, [fileOf(xorbs.map((xorb) => [xorb, 0, 400]))]));
  const { store: view, objects } = await open(t, inner);
  objects.forget();
  const unknown = xorbOf(someChunks('never', 400, 50));
  t.deepEqual(await view.findChunks(unknown.hashes), []);
  t.true(objects.calls.length <= 8, `${objects.calls.length} requests`);
  objects.forget();
  const runs = await view.findChunks(Buffer.concat(xorbs.map(({ hashes }) => hashes)));
  t.is(
    runs.reduce((sum, { count }) => sum + count, 0),
    2400,
  );
  t.is(runs.length, 6);
  t.true(objects.calls.length <= 16, `${objects.calls.length} requests`);
});

test('what one store puts another one finds at once, however long it has been open', async (t) => {
  const { store: a, inner } = await open(t);
  const { store: b } = await open(t, inner);
  t.deepEqual(await b.findFiles([new Uint8Array(32).fill(1)]), [undefined]);
  for (let i = 0; i < 12; i++) {
    const { file } = await putFile(i % 2 === 0 ? a : b, someChunks(`turn ${i}`, 2));
    t.is((await readWhole(i % 2 === 0 ? b : a, file.fileHash))?.length, 2000);
  }
  const names = parseHead(await headOf(inner));
  t.true(names.length <= 5, `${names.length} tables for 12 shards`);
  // Nothing is left of the tables that were merged.
  const tables: string[] = [];
  for await (const { key } of inner.list('catalog/')) tables.push(key);
  t.is(tables.length, names.length + 1);
});

test('a lost race for HEAD is merged and tried again', async (t) => {
  const { store: a, objects, inner } = await open(t);
  const { store: b } = await open(t, inner);
  const { file: first } = await putFile(a, someChunks('first', 2));
  // A store looks for shards that nobody has covered before it publishes for the first time.
  await putFile(b, someChunks('second', 2));
  let raced = 0;
  objects.before = async ({ name, key }) => {
    if (name !== 'replace' || key !== 'catalog/HEAD' || raced >= 3) return;
    raced++;
    await putFile(b, someChunks(`faster ${raced}`, 2));
  };
  const { file: late } = await putFile(a, someChunks('late', 2));
  t.is(raced, 3);
  const { store: view, objects: counted } = await open(t, inner);
  const others = [1, 2, 3].map((i) => fileOf([[xorbOf(someChunks(`faster ${i}`, 2)), 0, 2]]).fileHash);
  const found = await view.findFiles([first.fileHash, late.fileHash, ...others]);
  t.true(found.every((file) => file !== undefined));
  t.true(counted.calls.every(({ name }) => name !== 'list'));
});

test('shards that come at once get one catalog', async (t) => {
  const { store, objects } = await open(t);
  const xorbs = Array.from({ length: 20 }, (_, i) => xorbOf(someChunks(`group ${i}`, 2)));
  for (const xorb of xorbs) await store.putXorb(uploadOf(xorb));
  objects.forget();
  await Promise.all(xorbs.map((xorb) => store.putShard(shardOf([xorb], [fileOf([[xorb, 0, 2]])]))));
  const replaced = objects.calls.filter(({ name, key }) => name === 'replace' && key === 'catalog/HEAD');
  t.true(replaced.length <= 4, `HEAD was replaced ${replaced.length} times`);
});

test('a shard that no catalog names is found where there is a list', async (t) => {
  const { store, inner } = await open(t);
  const { file } = await putFile(store, someChunks('uncovered', 3));
  await inner.delete('catalog/HEAD');
  const { store: view } = await open(t, inner);
  t.is((await readWhole(view, file.fileHash))?.length, 3000);
  // And the next who publishes covers it.
  await putFile(view, someChunks('next', 2));
  t.is(
    parseHead(await headOf(inner)).reduce((sum, { files }) => sum + files, 0),
    2,
  );
});

test('where nothing can be listed, a store without catalog says what to run', async (t) => {
  const { store, inner } = await open(t);
  const { file } = await putFile(store, someChunks('static', 3));
  await inner.delete('catalog/HEAD');
  const objects = new CountingObjects(inner);
  objects.canList = false;
  objects.isReadOnly = true;
  const view = await StoreOverObjects.open(objects);
  const error = await t.throwsAsync(view.findFiles([file.fileHash]), { instanceOf: Git2dbError });
  t.is(error?.code, 'CONTENT_MISSING');
  t.regex(error?.message ?? '', /no catalog.*git2db xet fsck --repair/);
  t.true(objects.calls.every(({ name }) => name !== 'list'));
  await t.throwsAsync(putFile(view, someChunks('x', 1)), { message: /only be read/ });
});

test('a damaged table is replaced by what its shards say', async (t) => {
  const { store, inner } = await open(t);
  const { file } = await putFile(store, someChunks('table', 3));
  const [entry] = parseHead(await headOf(inner));
  const key = `catalog/${entry?.name}`;
  const table = await inner.readWhole(key, { limit: 1 << 20 });
  if (table === undefined || table === 'unchanged') return t.fail('no table');
  table.bytes[100] = 77;
  await inner.replace(key, bodyOf(table.bytes), table.etag);
  const { store: view } = await open(t, inner);
  t.is((await readWhole(view, file.fileHash))?.length, 3000);
  const { file: next } = await putFile(view, someChunks('after', 2));
  t.false((await headOf(inner)).includes(entry?.name ?? ''));
  const { store: last, objects } = await open(t, inner);
  t.true((await last.findFiles([file.fileHash, next.fileHash])).every((found) => found !== undefined));
  t.true(objects.calls.every(({ name }) => name !== 'list'));
});

test('a failure while publishing leaves a store that reads right, and a rerun completes', async (t) => {
  const chunks = someChunks('killed', 3);
  for (let at = 0; at < 40; at++) {
    const { store, objects, inner } = await open(t);
    const { file: before } = await putFile(store, someChunks('before', 2));
    const start = objects.calls.length;
    objects.before = ({ name, key }) => {
      if (objects.calls.length - start > at) throw new Git2dbError('NETWORK', `${name} ${key} fails`);
    };
    const outcome = await putFile(store, chunks).then(
      () => 'done',
      () => 'failed',
    );
    const { store: view } = await open(t, inner);
    t.is((await readWhole(view, before.fileHash))?.length, 2000);
    const { file } = await putFile(view, chunks);
    const { store: last } = await open(t, inner);
    t.is((await readWhole(last, file.fileHash))?.length, 3000);
    if (outcome === 'done') {
      t.true(at > 5);
      return;
    }
  }
  t.fail('it never ended');
});

test('a bucket of another format is not touched', async (t) => {
  const inner = new MemoryObjects();
  await inner.putIfAbsent('format', bodyOf(Buffer.from('git2db xet store 2\n')));
  const error = await t.throwsAsync(StoreOverObjects.open(inner), { instanceOf: Git2dbError });
  t.is(error?.code, 'STORE_UNSUPPORTED');
});

test('HEAD that names hostile tables costs little and gives nothing wrong', async (t) => {
  const { store, inner } = await open(t);
  const { file } = await putFile(store, someChunks('hostile', 3));
  const huge = Buffer.alloc(2000);
  huge.write('G2DBCAT\x01', 'latin1');
  for (let at = 8; at < 28; at += 4) huge.writeUInt32LE(0xffffffff, at);
  const name = 'ab'.repeat(32);
  await inner.putIfAbsent(`catalog/${name}`, bodyOf(huge));
  const head = await inner.head('catalog/HEAD');
  const text = `${await headOf(inner)}table ${name} 99999999999 1\ntable ../../etc/passwd 1 1\ntable ${'cd'.repeat(32)} 1 1\n`;
  await inner.replace('catalog/HEAD', bodyOf(Buffer.from(text)), head?.etag);
  const { store: view } = await open(t, inner);
  t.is((await readWhole(view, file.fileHash))?.length, 3000);
  t.is(formatHash((await view.readFooter(file.terms[0]?.xorbHash as Uint8Array)).xorbHash).length, 64);
});

test('of a large shard only the part about the file is read, and damage there gives no wrong bytes', async (t) => {
  const { store, inner } = await open(t);
  const xorb = xorbOf(someChunks('terms', 60, 40));
  await store.putXorb(uploadOf(xorb));
  // Terms that go back and forth: each is one of its own.
  const parts = Array.from({ length: 6000 }, (_, i) => [xorb, (i * 7) % 60, ((i * 7) % 60) + 1] as const);
  const large = fileOf(parts);
  const small = fileOf([[xorb, 0, 60]]);
  await store.putShard(shardOf([xorb], [large, small]));
  const { store: view, objects } = await open(t, inner);
  const [found] = await view.findFiles([small.fileHash]);
  t.is(found?.terms.length, 1);
  t.true(objects.bytesRead < 300_000, `${objects.bytesRead} bytes`);
  const whole = await readWhole(view, large.fileHash);
  t.is(whole?.length, 6000 * 40);

  const keys: string[] = [];
  for await (const { key } of inner.list('shards/')) keys.push(key);
  const key = keys[0] as string;
  const kept = await inner.readWhole(key, { limit: 1 << 24 });
  if (kept === undefined || kept === 'unchanged') return t.fail('no shard');
  t.true(kept.size > 500_000);
  let etag: string | undefined = kept.etag;
  for (const at of [0, 50, 85, 90, 100, 130, 136, 140, 4000, 288_000, 400_000]) {
    const bytes = Buffer.from(kept.bytes);
    bytes[at] = (bytes[at] as number) ^ 0x81;
    etag = await inner.replace(key, bodyOf(bytes), etag);
    const { store: damaged } = await open(t, inner);
    try {
      const read = await readWhole(damaged, large.fileHash);
      t.true(read === undefined || whole === undefined || read.equals(whole), `byte ${at}`);
    } catch (error) {
      const isTold = error instanceof Git2dbError || /another file/.test((error as Error).message);
      t.true(isTold, `byte ${at}: ${(error as Error).stack}`);
    }
  }
});
