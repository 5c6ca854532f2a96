import { execFile } from 'node:child_process';
import {
  linkSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import test, { type ExecutionContext } from 'ava';
import fc from 'fast-check';
import { SCHEME_NONE } from '../../src/xet/compress/scheme.ts';
import { Downloader } from '../../src/xet/download.ts';
import type { Git2dbError } from '../../src/xet/errors.ts';
import { blake3Keyed } from '../../src/xet/hash/blake3.ts';
import { DATA_KEY } from '../../src/xet/hash/keys.ts';
import { fileHash } from '../../src/xet/hash/merkle.ts';
import { formatHash, parseHash } from '../../src/xet/hash/xet-hash.ts';
import { Shard } from '../../src/xet/shard/shard.ts';
import { validateShardForUpload } from '../../src/xet/shard/validate.ts';
import { collectGarbage, type GcOptions } from '../../src/xet/store/gc/collect.ts';
import { LEARNED_MAX_AGE_MS, pruneLearned } from '../../src/xet/store/gc/learned.ts';
import { type MeasuredXorb, type PlanOptions, planRepack } from '../../src/xet/store/gc/plan.ts';
import type { GcReport } from '../../src/xet/store/gc/report.ts';
import { XorbEntry } from '../../src/xet/store/gc/xorb-entry.ts';
import { extendTerms, type LocalTerm } from '../../src/xet/store/journal.ts';
import { StoreLayout } from '../../src/xet/store/layout.ts';
import { StoreWriter } from '../../src/xet/store/writer.ts';
import { rawBytesBetween } from '../../src/xet/store/xorb-source.ts';
import type { StoredResult } from '../../src/xet/file-upload.ts';
import {
  chunk,
  chunkHash,
  chunkRun,
  chunksOf,
  clean,
  copyTree,
  createStore,
  injectFault,
  randomBytes,
  readAll,
  type StoreSandbox,
} from '../helpers/store-sandbox.ts';

const OPTIONS: GcOptions = {
  prune: true,
  graceMs: 0,
  waitMs: 60_000,
  repack: true,
  fsync: 'none',
  warn: () => {},
};
const HOUR = 3_600_000;

/** gc of a store in which these files are referred to. Whatever was stored before is older than it. */
async function gc(
  root: string,
  files: Iterable<string>,
  options: Partial<GcOptions> = {},
): Promise<GcReport> {
  await sleep(5);
  const roots = { files: new Set(files), sha256s: new Set<string>() };
  return collectGarbage(root, async () => roots, { ...OPTIONS, ...options });
}

function xorbNames(store: StoreSandbox): string[] {
  return store.list('xorbs').flatMap((directory) => store.list('xorbs', directory));
}

function xorbPath(store: StoreSandbox, name: string): string {
  return join(store.root, 'xorbs', name.slice(0, 2), name);
}

/** Bytes of xorbs and shards. */
function sizeOf(store: StoreSandbox): number {
  const paths = [
    ...xorbNames(store).map((name) => xorbPath(store, name)),
    ...store.list('shards').map((name) => join(store.root, 'shards', name)),
  ];
  return paths.reduce((sum, path) => sum + statSync(path).size, 0);
}

function chunkCount(store: StoreSandbox): number {
  const local = store.open();
  return xorbNames(store).reduce((sum, name) => sum + local.openXorb(parseHash(name)).count, 0);
}

/** Makes everything in the store look as if it was last relied on so long ago. */
function age(store: StoreSandbox, ms: number): void {
  const time = new Date(Date.now() - ms);
  for (const name of xorbNames(store)) utimesSync(xorbPath(store, name), time, time);
  for (const name of store.list('shards')) utimesSync(join(store.root, 'shards', name), time, time);
}

/** Each content by a writer of its own, which looks at nothing that is there. */
async function addSeparately(store: StoreSandbox, contents: readonly Buffer[]): Promise<StoredResult[]> {
  const local = store.open();
  // The catalog is a cache; making it anew for each file would take most of the time.
  local.catalog.publish = () => {};
  const results: StoredResult[] = [];
  for (const bytes of contents) {
    const writer = StoreWriter.open(local, { fsync: 'none' });
    writer.begin();
    const terms: LocalTerm[] = [];
    const chunks = chunksOf(bytes);
    const hashes = Buffer.concat(chunks.map(chunkHash));
    for (const [i, raw] of chunks.entries()) {
      const { xorb, index } = writer.put(hashes, 32 * i, raw, SCHEME_NONE, raw.length);
      extendTerms(terms, undefined, xorb.number, index, raw.length);
    }
    const lengths = chunks.map(({ length }) => length);
    const hash = fileHash(hashes, lengths);
    writer.commit({ fileHash: hash, size: bytes.length, terms, sha256: undefined });
    await writer.seal();
    results.push({ hash: formatHash(hash), size: bytes.length, newBytes: bytes.length });
  }
  return results;
}

/** Without printing megabytes where it is not. */
function isContent(
  t: ExecutionContext,
  store: StoreSandbox,
  hash: string,
  bytes: Buffer,
  message?: string,
): void {
  t.true(store.read(hash).equals(bytes), message);
}

function isReadable(store: StoreSandbox, hash: string): boolean {
  return store.tryRead(hash) !== undefined;
}

async function refused(t: ExecutionContext, work: Promise<unknown>): Promise<string> {
  try {
    await work;
  } catch (error) {
    if ((error as Git2dbError).code === 'REFUSED') return (error as Git2dbError).message;
    throw error;
  }
  t.fail('expected a refusal');
  return '';
}

// What is kept

test('what is referred to reads back bit for bit after any history, and the rest is gone', async (t) => {
  const piece = fc.tuple(fc.nat(12), fc.integer({ min: 1, max: 6 }));
  const file = fc.record({
    pieces: fc.array(piece, { minLength: 1, maxLength: 6 }),
    isKept: fc.boolean(),
    session: fc.nat(3),
  });
  await fc.assert(
    fc.asyncProperty(fc.array(file, { minLength: 1, maxLength: 10 }), async (files) => {
      const store = createStore(t);
      const uploader = store.uploader();
      const hashes: string[] = [];
      const contents = files.map(({ pieces }) =>
        Buffer.concat(pieces.map(([from, length]) => chunkRun('p', from, from + length))),
      );
      for (let session = 0; session <= 3; session++) {
        files.forEach((f, i) => {
          if (f.session === session) hashes[i] = clean(uploader, contents[i] as Buffer).hash;
        });
        await uploader.seal();
      }
      const kept = new Set(hashes.filter((_, i) => files[i]?.isKept));
      await gc(store.root, kept);
      const downloader = new Downloader(store.open());
      for (const [i, hash] of hashes.entries()) {
        if (kept.has(hash)) t.true(readAll(downloader, hash).equals(contents[i] as Buffer));
        else t.throws(() => downloader.plan(parseHash(hash)), { code: 'CONTENT_MISSING' });
      }
      const live = new Set<number>();
      for (const [i, { pieces }] of files.entries()) {
        if (!kept.has(hashes[i] as string)) continue;
        for (const [from, length] of pieces) for (let n = from; n < from + length; n++) live.add(n);
      }
      t.is(chunkCount(store), live.size);
      t.deepEqual([store.list('trash'), store.list('gc')], [[], []]);
      const again = await gc(store.root, kept);
      t.like(again, { xorbs: { dead: 0, copied: 0 }, shards: { replaced: 0 }, bytes: { dead: 0 } });
    }),
    { numRuns: 25 },
  );
});

test('five thousand files that were added one by one end up in at most five xorbs and five shards', async (t) => {
  const store = createStore(t);
  const contents = Array.from({ length: 5000 }, (_, i) => randomBytes(i, 20480));
  const hashes = (await addSeparately(store, contents)).map(({ hash }) => hash);
  t.is(xorbNames(store).length, 5000);
  const before = sizeOf(store);
  const report = await gc(store.root, hashes);
  t.true(xorbNames(store).length <= 5, `${xorbNames(store).length} xorbs`);
  t.true(store.list('shards').length <= 5, `${store.list('shards').length} shards`);
  t.is(report.bytes.deleted - report.bytes.added, before - sizeOf(store));
  const downloader = new Downloader(store.open());
  for (let i = 0; i < 5000; i += 7) {
    if (!readAll(downloader, hashes[i] as string).equals(contents[i] as Buffer)) t.fail(`file ${i}`);
  }
});

test('young files are merged like old ones, and stay as old as they are', async (t) => {
  const store = createStore(t);
  const contents = Array.from({ length: 12 }, (_, i) => chunkRun(`f${i} `, 0, 3));
  await addSeparately(store, contents);
  age(store, 20 * HOUR);
  const report = await gc(store.root, [], { graceMs: 100 * HOUR });
  t.like(report, {
    files: { kept: 12 },
    xorbs: { copied: 12, created: 1 },
    shards: { replaced: 12, created: 1 },
  });
  const [name = ''] = xorbNames(store);
  const [shard = ''] = store.list('shards');
  for (const path of [xorbPath(store, name), join(store.root, 'shards', shard)]) {
    t.true(Math.abs(Date.now() - 20 * HOUR - statSync(path).mtimeMs) < HOUR, path);
  }
  await gc(store.root, [], { graceMs: 10 * HOUR });
  t.is(sizeOf(store), 0);
});

test('files of different age are not put together, or the older would become young again', async (t) => {
  const store = createStore(t);
  await addSeparately(store, [chunk('a'), chunk('b')]);
  age(store, 90 * HOUR);
  const old = xorbNames(store);
  await addSeparately(store, [chunk('c'), chunk('d')]);
  await gc(store.root, [], { graceMs: 100 * HOUR });
  const ages = xorbNames(store).map((name) =>
    Math.round((Date.now() - statSync(xorbPath(store, name)).mtimeMs) / HOUR),
  );
  t.deepEqual(ages.sort(), [0, 90]);
  t.false(xorbNames(store).some((name) => old.includes(name)));
});

test('what is younger than the grace period is kept, and so is what was found again', async (t) => {
  const store = createStore(t);
  const [old] = await store.add(randomBytes('old', 300_000));
  const [found] = await store.add(randomBytes('found', 300_000));
  const [part] = await store.add(chunkRun('part', 0, 20));
  age(store, 10 * HOUR);
  const [young] = await store.add(randomBytes('young', 300_000));
  t.is((await store.add(randomBytes('found', 300_000)))[0]?.newBytes, 0);
  const [variant] = await store.add(Buffer.concat([chunkRun('part', 3, 17), chunk('new')]));
  const report = await gc(store.root, [], { graceMs: HOUR });
  t.is(report.files.kept, 3);
  for (const result of [young, found, variant]) t.true(isReadable(store, result?.hash as string));
  t.false(isReadable(store, old?.hash as string));
  t.false(isReadable(store, part?.hash as string), 'its xorb is young, its shard is not');
});

test('a file counts as referred to by its SHA-256 too, and keeps it', async (t) => {
  const store = createStore(t);
  const bytes = chunkRun('lfs', 0, 5);
  const sha256 = 'ab'.repeat(32);
  const local = store.open();
  const [plain] = await store.add(bytes, chunk('other'));
  const record = local.findFile(parseHash(plain?.hash as string))?.record;
  const writer = StoreWriter.open(local, { fsync: 'none' });
  writer.begin();
  writer.commit({
    fileHash: parseHash(plain?.hash as string),
    size: bytes.length,
    terms: (record?.terms ?? []).map((term) => ({ ...term, local: 0 })),
    sha256,
  });
  await writer.seal();
  await sleep(1100);
  const roots = { files: new Set<string>(), sha256s: new Set([sha256]) };
  const report = await collectGarbage(store.root, async () => roots, OPTIONS);
  t.like(report.files, { kept: 1, dropped: 1 });
  isContent(t, store, plain?.hash as string, bytes);
  t.is(
    formatHash(store.open().catalog.findSha256(Buffer.from(sha256, 'hex')) as Uint8Array),
    plain?.hash as string,
  );
});

test('acknowledged content of living and dead writers is kept, though nothing refers to it yet', async (t) => {
  const store = createStore(t);
  await store.add(chunkRun('base', 0, 40), chunk('waste'));
  const [living, dead] = [await store.process(), await store.process()];
  const ofLiving = await living.add(Buffer.concat([chunkRun('base', 0, 10), chunk('living')]));
  const ofDead = await dead.add(Buffer.concat([chunkRun('base', 20, 30), chunk('dead')]));
  await dead.kill();
  const report = await gc(store.root, [], { waitMs: 100 });
  t.is(report.writers.length, 1);
  isContent(t, store, ofDead.hash, Buffer.concat([chunkRun('base', 20, 30), chunk('dead')]));
  isContent(t, store, ofLiving.hash, Buffer.concat([chunkRun('base', 0, 10), chunk('living')]));
  t.deepEqual(await living.seal(), []);
  await gc(store.root, [ofLiving.hash, ofDead.hash]);
  t.is(chunkCount(store), 22);
  isContent(t, store, ofLiving.hash, Buffer.concat([chunkRun('base', 0, 10), chunk('living')]));
});

// What is given back

/** A xorb of `chunks` chunks of 64 KiB, of which those live that `isLive` says. */
function measured(
  name: number,
  chunks: number,
  isLive: (chunk: number) => boolean,
  mtimeMs = 0,
): MeasuredXorb {
  const bytes = 65536;
  const object = { name: String(name).padStart(64, '0'), path: '', size: chunks * bytes, mtimeMs, links: 1 };
  const xorb = new XorbEntry(object, false, false);
  xorb.count = chunks;
  xorb.rawBytes = chunks * bytes;
  xorb.rank = name;
  let count = 0;
  for (let i = 0; i < chunks; i++) {
    if (!isLive(i)) continue;
    xorb.mark(i, i + 1);
    count++;
  }
  return { xorb, live: { count, rawBytes: count * bytes, storedBytes: count * bytes } };
}

const PLAN: PlanOptions = { repack: true, limitMs: 1, graceMs: 0, roomBytes: Number.POSITIVE_INFINITY };

function namesOf(groups: readonly (readonly MeasuredXorb[])[]): number[] {
  return groups.flat().map(({ xorb }) => Number(xorb.name));
}

test('a xorb of which less than half lives is rewritten however little that gives back', (t) => {
  const xorbs = [
    measured(1, 1000, () => false),
    measured(2, 1000, () => false),
    measured(3, 1000, (i) => i < 499),
    measured(4, 1000, (i) => i < 999),
  ];
  const { dead, groups } = planRepack(xorbs, PLAN);
  t.deepEqual(
    dead.map(({ name }) => Number(name)),
    [1, 2],
  );
  t.deepEqual(namesOf(groups), [3]);
});

test('nine tenths of what died are given back when it lies scattered in full xorbs', (t) => {
  const xorbs = Array.from({ length: 16 }, (_, n) => measured(n, 1000, (i) => i % (5 + n) !== 0));
  const all = xorbs.reduce((sum, { xorb, live }) => sum + xorb.count - live.count, 0);
  const { groups, leftBytes } = planRepack(xorbs, PLAN);
  t.true(leftBytes <= 0.1 * all * 65536, `${leftBytes} bytes of ${all * 65536} stay`);
  t.true(namesOf(groups).length < 16, 'and not everything is copied for that');
});

test('a full xorb with one dead chunk is left alone', (t) => {
  const { groups } = planRepack([measured(1, 1024, (i) => i !== 7)], { ...PLAN });
  t.deepEqual(groups, []);
});

test('small xorbs are copied only where two come together', (t) => {
  const full = measured(1, 1000, () => true);
  const [a, b] = [measured(2, 10, () => true), measured(3, 400, () => true)];
  t.deepEqual(namesOf(planRepack([full, a], PLAN).groups), []);
  t.deepEqual(namesOf(planRepack([full, a, b], PLAN).groups), [2, 3]);
  t.deepEqual(namesOf(planRepack([full, a, b], { ...PLAN, repack: false }).groups), []);
});

test('nothing is copied that has no room, that is shared, pinned, or described by no shard', (t) => {
  const small = (n: number) => measured(n, 10, () => true);
  const tight = planRepack([small(1), small(2)], { ...PLAN, roomBytes: 15 * 65536 });
  t.deepEqual(namesOf(tight.groups), []);
  t.is(tight.noRoomBytes, 20 * 65536);
  const [pinned, undescribed] = [small(3), small(4)];
  pinned.xorb.isPinned = true;
  undescribed.xorb.count = 0;
  const shared = small(5);
  Object.assign(shared.xorb.object, { links: 2 });
  t.deepEqual(namesOf(planRepack([small(1), pinned, undescribed, shared], PLAN).groups), []);
});

test('dropping a large file that shares xorbs with a kept one gives back its own bytes', async (t) => {
  const store = createStore(t);
  // Every third chunk of the kept file is in the dropped one, and the xorbs are nearly full.
  const parts = Array.from({ length: 1500 }, (_, i) => chunk(`s${i}`, 100_000));
  const dropped = Buffer.concat(parts);
  const kept = Buffer.concat(parts.filter((_, i) => i % 3 !== 0));
  const [large, small] = await store.add(dropped, kept);
  t.true((small?.newBytes as number) < 0.01 * kept.length);
  const before = sizeOf(store);
  const report = await gc(store.root, [small?.hash as string]);
  const own = dropped.length - kept.length;
  t.true(before - sizeOf(store) >= 0.9 * own, `${before - sizeOf(store)} of ${own} bytes`);
  t.is(report.bytes.deleted - report.bytes.added, before - sizeOf(store));
  t.true(store.read(small?.hash as string).equals(kept));
  t.false(isReadable(store, large?.hash as string));
});

test('new shards pass what a server checks, and terms that became neighbours are one', async (t) => {
  const store = createStore(t);
  const hashes: string[] = [];
  for (const bytes of [
    chunkRun('x', 0, 5),
    chunkRun('x', 3, 12),
    Buffer.concat([chunkRun('x', 0, 12), chunk('y')]),
  ]) {
    hashes.push(...(await store.add(bytes)).map(({ hash }) => hash));
  }
  await gc(store.root, hashes);
  const local = store.open();
  t.is(store.list('shards').length, 1);
  const shard = Shard.open(readFileSync(join(store.root, 'shards', store.list('shards')[0] as string)));
  t.notThrows(() =>
    validateShardForUpload(shard, (hash) => {
      const source = local.openXorb(hash);
      const lengths = Uint32Array.from({ length: source.count }, (_, i) => rawBytesBetween(source, i, i + 1));
      return { hashes: source.hashes, lengths };
    }),
  );
  t.deepEqual(
    [...shard.files()].map(({ terms }) => terms.length),
    [1, 1, 1],
  );
});

test('a xorb made of one with unchecked chunk boundaries is marked like it, and others are not', async (t) => {
  const store = createStore(t);
  const results = await addSeparately(
    store,
    ['a', 'b', 'c', 'd'].map((name) => chunkRun(name, 0, 4)),
  );
  const foreign = [0, 1].map(
    (i) => store.open().findFile(parseHash(results[i]?.hash as string))?.terms[0]?.name,
  );
  mkdirSync(join(store.root, 'irregular'));
  for (const name of foreign) writeFileSync(join(store.root, 'irregular', name as string), '');
  await gc(
    store.root,
    results.map(({ hash }) => hash),
  );
  t.is(xorbNames(store).length, 2);
  const local = store.open();
  for (const [i, { hash }] of results.entries()) {
    t.is(local.isIrregular(local.findFile(parseHash(hash))?.terms[0]?.name as string), i < 2);
  }
  t.is(store.list('irregular').length, 1, 'marks of deleted xorbs go with them');
});

test('xorbs that another store has too are not copied, and are let go when they are dead', async (t) => {
  const store = createStore(t);
  const [a, b] = await addSeparately(store, [chunk('a'), chunk('b')]);
  const other = join(store.dir, 'other');
  mkdirSync(other);
  for (const name of xorbNames(store)) linkSync(xorbPath(store, name), join(other, name));
  const names = xorbNames(store);
  await gc(store.root, [a?.hash, b?.hash] as string[]);
  t.deepEqual(xorbNames(store), names);
  await gc(store.root, [a?.hash as string]);
  t.is(xorbNames(store).length, 1);
  for (const name of names) t.truthy(readFileSync(join(other, name)).length);
});

test('without repacking, only xorbs that are dead as a whole go', async (t) => {
  const store = createStore(t);
  const [kept] = await store.add(chunkRun('k', 0, 3), chunkRun('l', 0, 30));
  await store.add(chunk('m'));
  const report = await gc(store.root, [kept?.hash as string], { repack: false });
  t.like(report, { xorbs: { dead: 1, copied: 0 }, files: { kept: 1, dropped: 2 } });
  t.is(chunkCount(store), 33);
  isContent(t, store, kept?.hash as string, chunkRun('k', 0, 3));
});

test('a dry run writes nothing and foretells what will be done', async (t) => {
  const store = createStore(t);
  const results = await addSeparately(
    store,
    Array.from({ length: 20 }, (_, i) => chunkRun(`${i} `, 0, 4)),
  );
  const kept = results.slice(5).map(({ hash }) => hash);
  const before = store.tree();
  const told = await gc(store.root, kept, { prune: false });
  t.deepEqual(store.tree(), before);
  const size = sizeOf(store);
  const done = await gc(store.root, kept);
  t.deepEqual([told.files, told.xorbs, told.shards], [done.files, done.xorbs, done.shards]);
  const expected = size - sizeOf(store);
  const estimated = told.bytes.deleted - told.bytes.added;
  t.true(Math.abs(estimated - expected) < 0.1 * expected, `${estimated} foretold, ${expected} given back`);
});

test('a store that is not there has nothing to give', async (t) => {
  const store = createStore(t);
  t.like(await gc(store.root, []), { xorbs: { total: 0 }, bytes: { deleted: 0 } });
  t.deepEqual(store.list(), []);
});

// Damage

test('with a damaged shard nothing is given up', async (t) => {
  const store = createStore(t);
  await store.add(chunkRun('a', 0, 3));
  await store.add(chunkRun('b', 0, 3));
  const [name = ''] = store.list('shards');
  const path = join(store.root, 'shards', name);
  const bytes = readFileSync(path);
  bytes[60] = (bytes[60] as number) ^ 1;
  writeFileSync(path, bytes);
  const before = store.tree(['gc']);
  t.true((await refused(t, gc(store.root, []))).includes(path));
  t.true((await refused(t, gc(store.root, [], { prune: false }))).includes(path));
  t.deepEqual(store.tree(['gc']), before);
});

test('a xorb that only a quarantined shard described stays for whoever mends that', async (t) => {
  const store = createStore(t);
  await store.add(chunkRun('a', 0, 3));
  const [name = ''] = store.list('shards');
  mkdirSync(join(store.root, 'quarantine'));
  renameSync(join(store.root, 'shards', name), join(store.root, 'quarantine', name));
  await gc(store.root, []);
  t.is(xorbNames(store).length, 1);
  rmSync(join(store.root, 'quarantine'), { recursive: true });
  await gc(store.root, []);
  t.is(xorbNames(store).length, 0);
});

test('a damaged journal stops everything', async (t) => {
  const store = createStore(t);
  await store.add(chunkRun('a', 0, 3));
  const process = await store.process();
  await process.add(chunk('b'));
  const [writer = ''] = store.list('incoming');
  const journal = join(store.root, 'incoming', writer, 'journal');
  const bytes = readFileSync(journal);
  // A frame of a file again: its chunks would be in local xorb 1 then, of which there is none.
  const frame = Buffer.from(bytes);
  frame.writeUInt32LE(7, 4);
  frame.set(blake3Keyed(DATA_KEY, frame.subarray(16)).subarray(0, 8), 8);
  writeFileSync(journal, Buffer.concat([bytes, frame]));
  t.true((await refused(t, gc(store.root, []))).includes(writer));
  t.is(xorbNames(store).length, 1);
});

test('a xorb with a damaged chunk is left as it is and named, the others are copied', async (t) => {
  const store = createStore(t);
  const contents = ['a', 'b', 'c'].map((name) => chunkRun(name, 0, 4));
  const results = await addSeparately(store, contents);
  const name = store.open().findFile(parseHash(results[1]?.hash as string))?.terms[0]?.name as string;
  const bytes = readFileSync(xorbPath(store, name));
  bytes[9000] = (bytes[9000] as number) ^ 1;
  writeFileSync(xorbPath(store, name), bytes);
  const report = await gc(
    store.root,
    results.map(({ hash }) => hash),
  );
  t.deepEqual(
    report.damaged.map(({ path }) => path),
    [xorbPath(store, name)],
  );
  t.is(report.xorbs.copied, 2);
  t.true(xorbNames(store).includes(name));
  for (const i of [0, 2]) isContent(t, store, results[i]?.hash as string, contents[i] as Buffer);
});

test('a new xorb whose name is taken by damaged bytes replaces nothing', async (t) => {
  const store = createStore(t);
  const contents = ['a', 'b'].map((name) => chunkRun(name, 0, 4));
  const results = await addSeparately(store, contents);
  const hashes = results.map(({ hash }) => hash);
  const copy = join(store.dir, 'copy');
  copyTree(store.root, copy);
  await gc(copy, hashes);
  const [directory = ''] = readdirSync(join(copy, 'xorbs')).filter(
    (d) => readdirSync(join(copy, 'xorbs', d)).length > 0,
  );
  const [name = ''] = readdirSync(join(copy, 'xorbs', directory));
  const bytes = readFileSync(join(copy, 'xorbs', directory, name));
  bytes[9000] = (bytes[9000] as number) ^ 1;
  mkdirSync(join(store.root, 'xorbs', directory), { recursive: true });
  writeFileSync(xorbPath(store, name), bytes);
  await t.throwsAsync(gc(store.root, hashes), { message: new RegExp(name) });
  for (const [i, hash] of hashes.entries()) isContent(t, store, hash, contents[i] as Buffer);
});

// Others at work

test('only one gc works on a store at a time', async (t) => {
  const store = createStore(t);
  const [kept] = await store.add(chunkRun('a', 0, 3), chunkRun('b', 0, 3));
  let inside = 0;
  const checkpoint = async () => {
    inside++;
    t.is(inside, 1);
    await sleep(50);
    inside--;
  };
  const runs = [1, 2, 3].map(() => gc(store.root, [kept?.hash as string], { checkpoint }));
  const outcomes = await Promise.allSettled(runs);
  const failures = outcomes
    .filter((outcome) => outcome.status === 'rejected')
    .map(({ reason }) => reason.code);
  t.true(failures.length > 0);
  t.deepEqual([...new Set(failures)], ['REFUSED']);
  t.deepEqual(store.list('gc'), []);
});

test('a reader in the middle of a file is not disturbed', async (t) => {
  const store = createStore(t);
  // More xorbs than a reader keeps open.
  const parts = Array.from({ length: 90 }, (_, i) => chunkRun(`part ${i} `, 0, 300));
  await addSeparately(store, parts);
  const bytes = Buffer.concat(parts);
  const [file] = await store.add(bytes);
  const downloader = new Downloader(store.open());
  const found: Buffer[] = [];
  let windows = 0;
  for (const window of downloader.read(downloader.plan(parseHash(file?.hash as string)))) {
    for (const part of window.chunks) found.push(Buffer.from(part));
    windows++;
    if (windows === 3) t.is((await gc(store.root, [file?.hash as string])).xorbs.copied, 90);
  }
  t.true(windows > 90);
  t.true(Buffer.concat(found).equals(bytes));
});

test.serial('what a writer finds between the last look and the move comes back', async (t) => {
  const store = createStore(t);
  const [known] = await store.add(chunkRun('known', 0, 4));
  const [base] = await store.add(chunkRun('base', 0, 10));
  const writer = store.uploader();
  let variant: StoredResult | undefined;
  const restore = injectFault(t, 'renameSync', (original, from: string, to: string) => {
    if (to.startsWith(join(store.root, 'trash')) && variant === undefined) {
      t.is(clean(writer, chunkRun('known', 0, 4)).newBytes, 0);
      variant = clean(writer, Buffer.concat([chunkRun('base', 2, 8), chunk('own')]));
    }
    return original(from, to);
  });
  const seen: string[] = [];
  const report = await gc(store.root, [], {
    async checkpoint(step) {
      seen.push(step);
      if (step === 'put aside') restore();
      if (variant !== undefined) {
        isContent(t, store, known?.hash as string, chunkRun('known', 0, 4), step);
        isContent(t, store, variant.hash, Buffer.concat([chunkRun('base', 2, 8), chunk('own')]), step);
      }
      if (step === 'put aside') setTimeout(() => void writer.seal(), 100);
    },
  });
  t.true(seen.includes('settled'));
  t.true(report.restored > 0);
  isContent(t, store, known?.hash as string, chunkRun('known', 0, 4));
  isContent(t, store, variant?.hash as string, Buffer.concat([chunkRun('base', 2, 8), chunk('own')]));
  t.false(isReadable(store, base?.hash as string));
});

for (const end of ['seals', 'is killed'] as const) {
  test(`what a writer relies on that found it before the gc began is there when it ${end}`, async (t) => {
    const store = createStore(t);
    const [known] = await store.add(chunkRun('known', 0, 10));
    const process = await store.process();
    // Found whole: no journal tells of it.
    t.is((await process.add(chunkRun('known', 0, 10))).newBytes, 0);
    const bytes = Buffer.concat([chunkRun('known', 3, 9), chunk('own')]);
    let later: StoredResult | undefined;
    const report = await gc(store.root, [], {
      async checkpoint(step) {
        if (step !== 'put aside') return;
        t.deepEqual(xorbNames(store), []);
        later = await process.add(bytes);
        t.is(later.newBytes, 8192);
        isContent(t, store, later.hash, bytes);
        if (end === 'seals') t.deepEqual(await process.seal(), []);
        else await process.kill();
      },
    });
    t.deepEqual(report.writers, []);
    t.deepEqual(store.list('incoming'), []);
    isContent(t, store, later?.hash as string, bytes);
    // Who seals takes back all that it relied on.
    t.is(isReadable(store, known?.hash as string), end === 'seals');
  });
}

test('nothing is deleted while a writer outlasts the wait; the next gc takes over', async (t) => {
  const store = createStore(t);
  const [known] = await store.add(chunkRun('known', 0, 10));
  await store.add(chunk('waste'));
  const process = await store.process();
  await process.add(chunkRun('known', 0, 10));
  const report = await gc(store.root, [], { waitMs: 50 });
  t.is(report.writers.length, 1);
  t.is(report.bytes.leftInTrash, report.bytes.total);
  t.is(report.bytes.deleted, 0);
  isContent(t, store, known?.hash as string, chunkRun('known', 0, 10));
  const bytes = chunkRun('known', 3, 9);
  const later = await process.add(bytes);
  t.deepEqual(await process.seal(), []);
  const next = await gc(store.root, [known?.hash as string, later.hash]);
  t.deepEqual([next.writers, next.bytes.leftInTrash], [[], 0]);
  isContent(t, store, known?.hash as string, chunkRun('known', 0, 10));
  isContent(t, store, later.hash, bytes);
  t.is(chunkCount(store), 10);
});

test('what is referred to only by the second look comes back', async (t) => {
  const store = createStore(t);
  const [a, b] = await store.add(chunkRun('a', 0, 4), chunkRun('b', 0, 4));
  await sleep(5);
  let looks = 0;
  const findRoots = async () => ({
    files: new Set(looks++ === 0 ? [] : [a?.hash as string]),
    sha256s: new Set<string>(),
  });
  const report = await collectGarbage(store.root, findRoots, OPTIONS);
  t.is(looks, 2);
  t.true(report.restored > 0);
  isContent(t, store, a?.hash as string, chunkRun('a', 0, 4));
  t.truthy(b);
});

test('roots that cannot be found the second time leave everything readable, for the next gc', async (t) => {
  const store = createStore(t);
  const [a] = await store.add(chunkRun('a', 0, 4));
  await sleep(5);
  let looks = 0;
  const findRoots = async () => {
    if (looks++ > 0) throw new Error('gone');
    return { files: new Set<string>(), sha256s: new Set<string>() };
  };
  await t.throwsAsync(collectGarbage(store.root, findRoots, OPTIONS), { message: 'gone' });
  isContent(t, store, a?.hash as string, chunkRun('a', 0, 4));
  await gc(store.root, [a?.hash as string]);
  isContent(t, store, a?.hash as string, chunkRun('a', 0, 4));
  t.deepEqual(store.list('trash'), []);
});

test('an abort between any two steps leaves everything readable', async (t) => {
  const store = createStore(t);
  const results = await addSeparately(
    store,
    ['a', 'b', 'c'].map((name) => chunkRun(name, 0, 4)),
  );
  const kept = results.slice(0, 2).map(({ hash }) => hash);
  for (let stopAfter = 0; ; stopAfter++) {
    if (stopAfter === 100) return t.fail('it never comes to an end');
    const controller = new AbortController();
    let steps = 0;
    const checkpoint = () => {
      if (steps++ === stopAfter) controller.abort();
    };
    try {
      await gc(store.root, kept, { signal: controller.signal, checkpoint });
    } catch (error) {
      t.is((error as Error).name, 'AbortError');
    }
    t.deepEqual(store.list('gc'), []);
    for (const hash of kept) t.true(isReadable(store, hash));
    if (!controller.signal.aborted) break;
  }
  await gc(store.root, kept);
  for (const hash of kept) t.true(isReadable(store, hash));
  t.is(chunkCount(store), 8);
});

// A kill at any instant

const GC_PROCESS = fileURLToPath(new URL('../helpers/gc-process.js', import.meta.url));

/** Runs a gc that is killed after its step number `step`. True if it got that far. */
function killedGc(root: string, files: readonly string[], step: number): Promise<boolean> {
  return new Promise((resolve, reject) => {
    const args = [GC_PROCESS, root, JSON.stringify(files), String(step)];
    execFile(process.execPath, args, (error, _, stderr) => {
      if (error === null) resolve(false);
      else if (error.signal === 'SIGKILL') resolve(true);
      else reject(new Error(stderr));
    });
  });
}

test('after a kill at any step everything reads, content dropped before can be stored, and the next gc ends the job', async (t) => {
  const store = createStore(t);
  const contents = ['a', 'b', 'c', 'd', 'e', 'f'].map((name) => chunkRun(name, 0, 4));
  contents.push(Buffer.concat([chunkRun('a', 1, 3), chunkRun('d', 0, 2)]));
  const results = await addSeparately(store, contents);
  const hashes = results.map(({ hash }) => hash);
  const foreign = store.open().findFile(parseHash(hashes[1] as string))?.terms[0]?.name as string;
  mkdirSync(join(store.root, 'irregular'));
  writeFileSync(join(store.root, 'irregular', foreign), '');
  const kept = [1, 2, 3, 6];
  const keptHashes = kept.map((i) => hashes[i] as string);
  await sleep(5);

  const reference = join(store.dir, 'reference');
  copyTree(store.root, reference);
  const steps: string[] = [];
  await gc(reference, keptHashes, { checkpoint: (step) => void steps.push(step) });
  const chosen = steps.flatMap((step, i) =>
    steps.indexOf(step) === i || steps.lastIndexOf(step) === i ? [i] : [],
  );
  t.true(new Set(steps).size >= 15, steps.join(', '));

  for (const step of chosen) {
    const where = `killed after ${steps[step]}`;
    const root = join(store.dir, `copy ${step}`);
    copyTree(store.root, root);
    t.true(await killedGc(root, keptHashes, step), where);
    const local = store.open(root);
    const downloader = new Downloader(local);
    for (const i of kept)
      t.true(readAll(downloader, hashes[i] as string).equals(contents[i] as Buffer), where);
    // Dropped, and then added again by somebody who finds what is left of it.
    const uploader = store.uploader();
    Object.assign(uploader, { store: store.open(root) });
    clean(uploader, contents[4] as Buffer);
    await uploader.seal();
    await gc(root, [...keptHashes, hashes[4] as string]);
    const after = new Downloader(store.open(root));
    for (const i of [...kept, 4])
      t.true(readAll(after, hashes[i] as string).equals(contents[i] as Buffer), where);
    for (const i of [0, 5]) t.throws(() => after.plan(parseHash(hashes[i] as string)), undefined, where);
    for (const name of ['trash', 'gc', 'incoming'])
      t.deepEqual(readdirSync(join(root, name)), [], `${name}, ${where}`);
    rmSync(root, { recursive: true });
  }
});

test('lists of others’ chunks are bounded by age and by size, the oldest go first, and only when pruning', async (t) => {
  const store = createStore(t);
  await store.add(chunkRun('learned', 0, 2));
  const { learned } = new StoreLayout(store.root);
  const put = (digit: string, size: number, ageMs: number) => {
    mkdirSync(join(learned, digit.repeat(2)), { recursive: true });
    const path = join(learned, digit.repeat(2), digit.repeat(64));
    writeFileSync(path, Buffer.alloc(size));
    const time = new Date(Date.now() - ageMs);
    utimesSync(path, time, time);
  };
  put('a', 100, LEARNED_MAX_AGE_MS + 60_000);
  put('b', 40, 60_000);
  put('c', 50, 120_000);
  put('d', 30, 180_000);
  writeFileSync(join(learned, 'bb', 'somebody-elses'), 'x');
  const left = () => readdirSync(learned).sort();
  t.is((await gc(store.root, [], { prune: false })).bytes.cache, 100);
  t.deepEqual(left(), ['aa', 'bb', 'cc', 'dd']);
  t.is((await gc(store.root, [])).bytes.cache, 100);
  t.deepEqual(left(), ['bb', 'cc', 'dd']);
  t.is(pruneLearned(new StoreLayout(store.root), { now: Date.now(), maxBytes: 90, prune: true }), 30);
  t.deepEqual(left(), ['bb', 'cc']);
  t.is(pruneLearned(new StoreLayout(store.root), { now: Date.now(), maxBytes: 0, prune: true }), 90);
  t.deepEqual(readdirSync(join(learned, 'bb')), ['somebody-elses']);
});
