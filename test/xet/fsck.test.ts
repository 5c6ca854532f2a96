import { spawnSync } from 'node:child_process';
import { createCipheriv, createHash } from 'node:crypto';
import {
  appendFileSync,
  copyFileSync,
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { Downloader } from '../../src/xet/download.ts';
import { blake3Keyed } from '../../src/xet/hash/blake3.ts';
import { DATA_KEY } from '../../src/xet/hash/keys.ts';
import { fileHash } from '../../src/xet/hash/merkle.ts';
import { formatHash, parseHash } from '../../src/xet/hash/xet-hash.ts';
import { ShardBuilder } from '../../src/xet/shard/builder.ts';
import type { FileRecord, Term } from '../../src/xet/shard/file-info.ts';
import { Shard, shardName } from '../../src/xet/shard/shard.ts';
import { checkStore, type StoreCheck } from '../../src/xet/store/fsck.ts';
import { StoreRepair } from '../../src/xet/store/fsck-repair.ts';
import { extendTerms, type LocalTerm } from '../../src/xet/store/journal.ts';
import { LocalStore } from '../../src/xet/store/local-store.ts';
import { openXorbFile, recordStart } from '../../src/xet/store/xorb-source.ts';
import { Uploader } from '../../src/xet/upload.ts';

const MIB = 1 << 20;

function randomBytes(seed: number, size: number): Buffer {
  const key = Buffer.alloc(16);
  key.writeDoubleLE(seed);
  return createCipheriv('aes-128-ctr', key, Buffer.alloc(16)).update(Buffer.alloc(size));
}

function newStore(t: ExecutionContext): LocalStore {
  const root = mkdtempSync(join(tmpdir(), 'git2db-fsck-'));
  t.teardown(() => rmSync(root, { recursive: true, force: true }));
  return new LocalStore(join(root, 'store'));
}

function newUploader(store: LocalStore): Uploader {
  return new Uploader(store, { compression: 'auto', fsync: 'none' });
}

/** Stores each content; their hashes. */
async function put(store: LocalStore, ...contents: Uint8Array[]): Promise<string[]> {
  const uploader = newUploader(store);
  const hashes = contents.map((content) => putOne(uploader, content));
  await uploader.seal();
  return hashes;
}

function putOne(uploader: Uploader, content: Uint8Array): string {
  const file = uploader.begin(content.length);
  file.write(content);
  return file.finish().hash;
}

function get(store: LocalStore, hash: string): Buffer {
  const fresh = new LocalStore(store.root);
  const downloader = new Downloader(fresh);
  const pieces: Buffer[] = [];
  for (const window of downloader.read(downloader.plan(parseHash(hash)))) {
    for (const chunk of window.chunks) pieces.push(Buffer.from(chunk));
  }
  fresh.close();
  return Buffer.concat(pieces);
}

/** True if the store gives back just these bytes; throws where it has none. (deepEqual is slow on megabytes.) */
function gives(store: LocalStore, hash: string, content: Buffer | undefined): boolean {
  return get(store, hash).equals(content!);
}

/** Checks the directory as a new process would. */
async function check(store: LocalStore, quick = false): Promise<StoreCheck> {
  const fresh = new LocalStore(store.root);
  const found = await checkStore(fresh, { quick });
  fresh.close();
  return found;
}

async function repair(store: LocalStore, ...others: LocalStore[]): Promise<StoreRepair> {
  const fresh = new LocalStore(store.root);
  const found = await checkStore(fresh, { quick: false });
  const mending = new StoreRepair(fresh, found, { uploader: newUploader(fresh), others });
  await mending.repairObjects();
  fresh.close();
  return mending;
}

function namesIn(directory: string): string[] {
  return existsSync(directory) ? readdirSync(directory).sort() : [];
}

/** Every xorb of the store, the largest first. */
function xorbs(store: LocalStore): string[] {
  const { layout } = store;
  const names = namesIn(layout.xorbs).flatMap((folder) => namesIn(join(layout.xorbs, folder)));
  return names.sort((a, b) => lstatSync(layout.xorb(b)).size - lstatSync(layout.xorb(a)).size);
}

function shards(store: LocalStore): string[] {
  return namesIn(store.layout.shards).map((name) => name.slice(0, -4));
}

/** Where the record of a chunk starts, and where the footer does. */
function offsetsOf(
  store: LocalStore,
  xorb: string,
): { count: number; record(chunk: number): number; footer: number } {
  const source = openXorbFile(store.layout.xorb(xorb), parseHash(xorb));
  return {
    count: source.count,
    record: (chunk) => recordStart(source, chunk),
    footer: source.recordEnds[source.count - 1] as number,
  };
}

function flip(path: string, offset: number): void {
  const bytes = readFileSync(path);
  const at = offset < 0 ? bytes.length + offset : offset;
  bytes[at] = (bytes[at] as number) ^ 0x40;
  writeFileSync(path, bytes);
}

/** Names, sizes, times and contents of all there is. */
function fingerprint(directory: string): string {
  const hash = createHash('sha256');
  for (const entry of readdirSync(directory, { recursive: true, withFileTypes: true }).sort((a, b) =>
    join(a.parentPath, a.name) < join(b.parentPath, b.name) ? -1 : 1,
  )) {
    const path = join(entry.parentPath, entry.name);
    const { mtimeMs, ctimeMs, mode, ino } = lstatSync(path);
    hash.update(JSON.stringify([path, mtimeMs, ctimeMs, mode, ino]));
    if (entry.isFile()) hash.update(readFileSync(path));
  }
  return hash.digest('hex');
}

test('a store in order has no damage, and neither has one that does not exist', async (t) => {
  const store = newStore(t);
  t.deepEqual((await check(store)).damage, []);
  const content = randomBytes(1, 3 * MIB);
  await put(store, content, Buffer.from('small'), content.subarray(0, 2 * MIB));
  const before = fingerprint(store.root);
  const found = await check(store);
  t.deepEqual(found.damage, []);
  t.is(found.brokenFiles.size + found.broken.size + found.exposedFiles.size + found.undescribed.length, 0);
  t.like(found.checked, { xorbs: 1, shards: 1, files: 3, tables: 1, writers: 0 });
  t.is(fingerprint(store.root), before);
});

interface Case {
  /** Damages the store; what the report must say. */
  readonly damage: (store: LocalStore, xorb: string) => readonly Record<string, unknown>[];
  /** Files that are lost with it, by their place in `contents`. */
  readonly broken: readonly number[];
  /** Files that are lost after a repair without any help. */
  readonly lost?: readonly number[];
  readonly quick?: boolean;
}

/** Chunks of the first file of `contents` start at the beginning of the xorb. */
const BAD_CHUNK = 3;

/** Three files: a large one, one that begins with half of it, and one that shares nothing. */
const contents = [
  randomBytes(1, 2 * MIB),
  Buffer.concat([randomBytes(1, MIB), randomBytes(2, MIB)]),
  randomBytes(3, MIB),
];

const damaged = test.macro({
  async exec(t, { damage, broken, lost = broken, quick = false }: Case) {
    const store = newStore(t);
    const hashes = await put(store, ...contents);
    const [xorb] = xorbs(store) as [string];
    const expected = damage(store, xorb);
    const before = fingerprint(store.root);
    const found = await check(store, quick);
    t.is(fingerprint(store.root), before, 'a check changed something');
    t.is(found.damage.length, expected.length, JSON.stringify(found.damage, null, 1));
    for (const [i, one] of expected.entries()) t.like(found.damage[i], one);
    const names = (files: readonly number[]) => files.map((i) => hashes[i]).sort();
    t.deepEqual([...found.brokenFiles.keys()].sort(), names(broken));
    for (const { faults } of found.brokenFiles.values()) t.true(faults.length > 0);

    await repair(store);
    const after = await check(store);
    t.deepEqual(after.damage, []);
    t.deepEqual([...after.brokenFiles.keys()].sort(), names(lost));
    for (const [i, content] of contents.entries()) {
      if (lost.includes(i)) t.throws(() => get(store, hashes[i] as string), { code: 'CONTENT_MISSING' });
      else t.true(gives(store, hashes[i] as string, content));
    }
    // Lost or not: what is added again is stored again, and then all is well.
    t.deepEqual(await put(store, ...contents), hashes);
    for (const [i, content] of contents.entries()) t.true(gives(store, hashes[i] as string, content));
    const last = await check(store);
    t.deepEqual([last.damage, [...last.brokenFiles]], [[], []]);
  },
  title: (what) => `named, and mended as far as it can be: ${what}`,
});

test('a flipped byte in a chunk', damaged, {
  damage(store, xorb) {
    const path = store.layout.xorb(xorb);
    const offset = offsetsOf(store, xorb).record(BAD_CHUNK);
    flip(path, offset + 100);
    return [{ object: 'xorb', name: xorb, path, chunk: BAD_CHUNK, offset }];
  },
  broken: [0, 1],
});

test('a flipped byte in the header of a chunk', damaged, {
  damage(store, xorb) {
    const path = store.layout.xorb(xorb);
    const offset = offsetsOf(store, xorb).record(BAD_CHUNK);
    flip(path, offset + 2);
    return [{ object: 'xorb', name: xorb, path, chunk: BAD_CHUNK, offset }];
  },
  broken: [0, 1],
});

test('a flipped byte in a chunk that only one file has', damaged, {
  damage(store, xorb) {
    const path = store.layout.xorb(xorb);
    const { count, record } = offsetsOf(store, xorb);
    flip(path, record(count - 1) + 9);
    return [{ object: 'xorb', name: xorb, path, chunk: count - 1, offset: record(count - 1) }];
  },
  broken: [2],
});

test('two flipped bytes far apart', damaged, {
  damage(store, xorb) {
    const path = store.layout.xorb(xorb);
    const { count, record } = offsetsOf(store, xorb);
    flip(path, record(BAD_CHUNK) + 100);
    flip(path, record(count - 2) + 100);
    return [
      { chunk: BAD_CHUNK, offset: record(BAD_CHUNK) },
      { chunk: count - 2, offset: record(count - 2) },
    ];
  },
  broken: [0, 1, 2],
});

test('a flipped chunk hash in a footer', damaged, {
  damage(store, xorb) {
    const path = store.layout.xorb(xorb);
    const { footer } = offsetsOf(store, xorb);
    flip(path, footer + 52 + 32 * BAD_CHUNK + 7);
    return [{ object: 'xorb', name: xorb, path, chunk: BAD_CHUNK, offset: footer + 52 + 32 * BAD_CHUNK }];
  },
  broken: [],
  quick: true,
});

test('a flipped xorb hash in a footer', damaged, {
  damage(store, xorb) {
    const { footer } = offsetsOf(store, xorb);
    flip(store.layout.xorb(xorb), footer + 8);
    return [{ object: 'xorb', name: xorb, offset: footer + 8 }];
  },
  broken: [],
  quick: true,
});

test('a footer with garbage for its length', damaged, {
  damage(store, xorb) {
    flip(store.layout.xorb(xorb), -2);
    return [{ object: 'xorb', name: xorb, chunk: undefined }];
  },
  broken: [],
  quick: true,
});

test('a record end in the footer that is off', damaged, {
  damage(store, xorb) {
    const { footer, count } = offsetsOf(store, xorb);
    flip(store.layout.xorb(xorb), footer + 52 + 32 * count + 12 + 4 * BAD_CHUNK);
    return [{ object: 'xorb', name: xorb, chunk: BAD_CHUNK + 1 }];
  },
  broken: [],
});

test('a xorb cut off in a chunk', damaged, {
  damage(store, xorb) {
    const path = store.layout.xorb(xorb);
    const { count, record } = offsetsOf(store, xorb);
    const size = record(count - 3) + 1000;
    truncateSync(path, size);
    return [
      { object: 'xorb', name: xorb, chunk: undefined },
      { object: 'xorb', name: xorb, chunk: count - 3, offset: record(count - 3) },
      { object: 'xorb', name: xorb, chunk: count - 2, offset: size },
    ];
  },
  broken: [2],
  quick: true,
});

test('a xorb that is empty', damaged, {
  damage(store, xorb) {
    truncateSync(store.layout.xorb(xorb), 0);
    return [
      { object: 'xorb', name: xorb },
      { object: 'xorb', name: xorb, chunk: 0, offset: 0 },
    ];
  },
  broken: [0, 1, 2],
  quick: true,
});

test('a xorb that is gone', damaged, {
  damage(store, xorb) {
    rmSync(store.layout.xorb(xorb));
    return [];
  },
  broken: [0, 1, 2],
  quick: true,
});

const carved = test.macro({
  async exec(t, damage: (bytes: Buffer, shard: Shard) => Buffer, kept: readonly number[]) {
    const store = newStore(t);
    const hashes = await put(store, ...contents);
    const [name] = shards(store) as [string];
    const path = store.layout.shard(name);
    const bytes = readFileSync(path);
    writeFileSync(path, damage(bytes, Shard.open(Buffer.from(bytes))));
    const found = await check(store);
    t.like(found.damage[0], { object: 'shard', name, path });
    t.is(found.damage.length, 1);
    const { log } = await repair(store);
    t.deepEqual(log.quarantined, [`${name}.mdb`]);
    const after = await check(store);
    t.deepEqual([after.damage, [...after.brokenFiles], after.undescribed], [[], [], []]);
    for (const [i, hash] of hashes.entries()) {
      if (kept.includes(i)) t.true(gives(store, hash, contents[i]));
      else t.throws(() => get(store, hash), { code: 'CONTENT_MISSING' });
    }
    const size = lstatSync(store.layout.xorb(xorbs(store)[0] as string)).size;
    t.deepEqual(await put(store, ...contents), hashes);
    t.is(xorbs(store).length, 1, 'the xorb is described, so nothing is stored twice');
    t.is(lstatSync(store.layout.xorb(xorbs(store)[0] as string)).size, size);
  },
  title: (what) => `a shard gives back what still proves itself: ${what}`,
});

/** Changes one bit. */
function change(bytes: Buffer, offset: number): Buffer {
  bytes[offset] = (bytes[offset] as number) ^ 1;
  return bytes;
}

test('a file hash is wrong', carved, (bytes) => change(bytes, 50), [1, 2]);
test('the number of terms is wrong', carved, (bytes) => change(bytes, 48 + 37), [1, 2]);
test('the tag is wrong', carved, (bytes) => change(bytes, 0), [0, 1, 2]);
test('the footer is gone', carved, (bytes) => bytes.subarray(0, bytes.length - 300), [0, 1, 2]);
test(
  'a verification hash is wrong',
  carved,
  (bytes, shard) => change(bytes, 48 + 48 * (1 + shard.fileAt(0).terms.length) + 5),
  [0, 1, 2],
);
test(
  'a chunk hash is wrong',
  carved,
  (bytes, shard) => change(bytes, shard.footer!.xorbSection + 48 * 3 + 9),
  [0, 1, 2],
);
test(
  'only file records are left',
  carved,
  (bytes, shard) => bytes.subarray(0, shard.footer!.xorbSection),
  [0, 1, 2],
);

test('a shard whose bytes are right and whose words are wrong is told by the files it gives', async (t) => {
  const store = newStore(t);
  const [hash] = (await put(store, contents[0]!)) as [string];
  const [name] = shards(store) as [string];
  const file = Shard.open(readFileSync(store.layout.shard(name))).fileAt(0);
  const [term] = file.terms as [Term];
  const verification = file.verification as readonly Uint8Array[];
  const wrong: [fileHash: string, change: Partial<FileRecord>, expected: RegExp][] = [
    ['1'.repeat(64), {}, /^chunks that make file 1{64}, as shard /],
    [
      '2'.repeat(64),
      { verification: [new Uint8Array(32)] },
      /^chunks with verification hash 0{64}, as shard /,
    ],
    [
      '3'.repeat(64),
      { terms: [{ ...term, end: term.end + 1 }] },
      /^chunks \[0, \d+\) of \d+ bytes, as shard /,
    ],
    ['4'.repeat(64), { terms: [{ ...term, xorbHash: parseHash('5'.repeat(64)) }] }, /^xorb 5{64}$/],
  ];
  const builder = new ShardBuilder();
  for (const [fileHash, change] of wrong) {
    builder.addFile({ fileHash: parseHash(fileHash), terms: file.terms, verification, ...change });
  }
  const bytes = builder.build();
  writeFileSync(store.layout.shard(shardName(bytes)), bytes);
  const { damage, brokenFiles } = await check(store);
  t.deepEqual(damage, []);
  t.deepEqual(
    [...brokenFiles.keys()].sort(),
    wrong.map(([fileHash]) => fileHash),
  );
  for (const [fileHash, , expected] of wrong)
    t.regex(brokenFiles.get(fileHash)!.faults[0]!.expected, expected);
  t.false(brokenFiles.has(hash));
});

test('a damaged catalog is named, does not stand in the way, and is made anew', async (t) => {
  const store = newStore(t);
  const [hash] = (await put(store, ...contents)) as [string];
  const { catalog } = store.layout;
  const [table] = namesIn(catalog).filter((name) => name !== 'HEAD') as [string];
  flip(join(catalog, table), 1100);
  t.like((await check(store)).damage, [{ object: 'catalog', name: table }]);
  t.is((await check(store)).brokenFiles.size, 0);
  await repair(store);
  t.deepEqual((await check(store)).damage, []);
  t.true(gives(store, hash, contents[0]));

  const [fresh] = namesIn(catalog).filter((name) => name !== 'HEAD') as [string];
  writeFileSync(join(catalog, 'HEAD'), 'nonsense\n');
  t.like((await check(store)).damage, [{ object: 'catalog', name: 'HEAD', offset: 0 }]);
  await repair(store);
  t.deepEqual((await check(store)).damage, []);
  t.true(namesIn(catalog).includes(fresh));

  rmSync(join(catalog, fresh));
  t.like((await check(store)).damage, [{ object: 'catalog', name: fresh }]);
  await repair(store);
  t.deepEqual((await check(store)).damage, []);
  rmSync(catalog, { recursive: true });
  t.deepEqual((await check(store)).damage, [], 'a catalog that is not there is no damage');
});

test('a shard that a table covers and that is gone is told', async (t) => {
  const store = newStore(t);
  await put(store, ...contents);
  const [name] = shards(store) as [string];
  rmSync(store.layout.shard(name));
  const found = await check(store);
  t.deepEqual(found.damage, []);
  t.deepEqual(
    found.missingShards.map((shard) => shard.name),
    [name],
  );
  t.deepEqual(found.undescribed, xorbs(store));
});

test('what a xorb lost comes back from another store, and from quarantine', async (t) => {
  const store = newStore(t);
  const hashes = await put(store, ...contents);
  const other = newStore(t);
  // Other xorbs, other shards, the same chunks.
  await put(other, Buffer.concat([randomBytes(9, 100_000), contents[0]!]));
  const [xorb] = xorbs(store) as [string];
  flip(store.layout.xorb(xorb), offsetsOf(store, xorb).record(BAD_CHUNK) + 50);

  const { log } = await repair(store, other);
  t.deepEqual(log.quarantined, [xorb]);
  t.deepEqual([...log.mended].sort(), [...hashes].sort());
  for (const [i, hash] of hashes.entries()) t.true(gives(store, hash, contents[i]));
  t.deepEqual([...(await check(store)).brokenFiles], []);
  t.deepEqual(xorbs(store), [xorb], 'the same chunks make the same name');

  // A second loss: what the quarantined xorb still has is used.
  const [second] = xorbs(store) as [string];
  rmSync(store.layout.xorb(second));
  const again = await repair(store);
  t.deepEqual([...again.log.mended], [hashes[2]]);
  t.true(gives(store, hashes[2] as string, contents[2]));
  t.deepEqual([...(await check(store)).brokenFiles.keys()].sort(), [hashes[0], hashes[1]].sort());
});

test('a file that only another store describes comes back', async (t) => {
  const store = newStore(t);
  const [hash] = (await put(store, contents[0]!)) as [string];
  const other = newStore(t);
  await put(other, contents[0]!);
  rmSync(store.layout.shards, { recursive: true });
  mkdirSync(store.layout.shards);
  const fresh = new LocalStore(store.root);
  const found = await checkStore(fresh, { quick: false });
  t.is(found.undescribed.length, 1);
  const mending = new StoreRepair(fresh, found, { uploader: newUploader(fresh), others: [other] });
  await mending.repairObjects();
  t.true(mending.mend(hash));
  await mending.publish();
  fresh.close();
  t.true(gives(store, hash, contents[0]));
  t.is(xorbs(store).length, 1, 'its chunks were here all the time');
});

test('what is whole can be read at any time while a store is mended', async (t) => {
  const store = newStore(t);
  const hashes = await put(store, ...contents);
  const [xorb] = xorbs(store) as [string];
  const { record, count } = offsetsOf(store, xorb);
  flip(store.layout.xorb(xorb), record(count - 1) + 50);
  const fresh = new LocalStore(store.root);
  const found = await checkStore(fresh, { quick: false });
  t.deepEqual([...found.exposedFiles].sort(), [hashes[0], hashes[1]].sort());
  const mending = new StoreRepair(fresh, found, { uploader: newUploader(fresh), others: [] });
  const { publish } = mending;
  let published = 0;
  mending.publish = async () => {
    published++;
    t.false(existsSync(store.layout.xorb(xorb)));
    for (const i of [0, 1]) t.true(gives(store, hashes[i] as string, contents[i]));
    await publish.call(mending);
  };
  await mending.repairObjects();
  fresh.close();
  t.is(published, 1);
  for (const i of [0, 1]) t.true(gives(store, hashes[i] as string, contents[i]));
});

test('chunks that others have cut are mended too, and nobody predicts boundaries from them', async (t) => {
  const store = newStore(t);
  const uploader = newUploader(store);
  const lost = putOne(uploader, contents[2]!);
  const pieces = [randomBytes(20, 5000), randomBytes(21, 100_000), randomBytes(22, 300)];
  const hashes = Buffer.concat(pieces.map((piece) => blake3Keyed(DATA_KEY, piece)));
  const hash = fileHash(
    hashes,
    pieces.map((piece) => piece.length),
  );
  const { writer } = uploader;
  writer.begin();
  const terms: LocalTerm[] = [];
  for (const [i, piece] of pieces.entries()) {
    const { xorb, index } = writer.put(hashes, 32 * i, piece, 0, piece.length);
    extendTerms(terms, undefined, xorb.number, index, piece.length);
  }
  const content = Buffer.concat(pieces);
  writer.commit({ fileHash: hash, size: content.length, terms, sha256: undefined });
  await uploader.seal();
  const [xorb] = xorbs(store) as [string];
  flip(store.layout.xorb(xorb), offsetsOf(store, xorb).record(0) + 100);

  const { log } = await repair(store);
  t.deepEqual([...log.mended], [formatHash(hash)]);
  t.true(gives(store, formatHash(hash), content));
  t.deepEqual(namesIn(store.layout.irregular), xorbs(store));
  // What is added afterwards is cut by the rule.
  const [again, same] = (await put(store, contents[2]!, content)) as [string, string];
  t.is(again, lost);
  t.not(same, formatHash(hash));
});

test('journals and unsealed chunks are checked; the living writer is left alone', async (t) => {
  const store = newStore(t);
  const uploader = newUploader(store);
  const hashes = contents.map((content) => putOne(uploader, content));
  const [writer] = namesIn(store.layout.incoming) as [string];
  const directory = join(store.layout.incoming, writer);
  const good = await check(store);
  t.deepEqual(good.damage, []);
  t.like(good.checked, { writers: 1, files: 3, xorbs: 0 });

  flip(join(directory, '0.xorb'), 300_000);
  appendFileSync(join(directory, 'journal'), 'a frame that is being writ');
  const found = await check(store);
  t.is(found.damage.length, 1);
  t.like(found.damage[0], { object: 'incoming', name: writer, path: join(directory, '0.xorb') });
  t.deepEqual([...found.brokenFiles.keys()].sort(), [hashes[0], hashes[1]].sort());
  const before = fingerprint(directory);
  await repair(store);
  t.is(fingerprint(directory), before);
  t.true(gives(store, hashes[2] as string, contents[2]));
  t.is(shards(store).length, 1, 'the whole file was stored again');
});

test('a journal with a bad frame in its middle is named', async (t) => {
  const store = newStore(t);
  const uploader = newUploader(store);
  for (const content of contents) putOne(uploader, content);
  const [writer] = namesIn(store.layout.incoming) as [string];
  const path = join(store.layout.incoming, writer, 'journal');
  const length = 16 + readFileSync(path).readUInt32LE(0);
  flip(path, length + 60);
  t.like((await check(store)).damage, [{ object: 'incoming', name: writer, path, offset: length }]);
  await uploader.seal();
});

test('what a dead writer left damaged is kept, and its whole files are completed', async (t) => {
  const store = newStore(t);
  const uploader = newUploader(store);
  const hashes = contents.map((content) => putOne(uploader, content));
  const [writer] = namesIn(store.layout.incoming) as [string];
  const directory = join(store.layout.incoming, writer);
  const copy = join(store.layout.incoming, 'dead');
  mkdirSync(copy);
  for (const name of ['journal', '0.xorb']) copyFileSync(join(directory, name), join(copy, name));
  // A process that died with its socket there.
  const bootId = readFileSync('/proc/sys/kernel/random/boot_id', 'latin1').trim();
  writeFileSync(join(copy, 'writer.json'), JSON.stringify({ pid: 1, bootId, socket: true }));
  const script = "require('net').createServer().listen('alive', () => process.kill(process.pid, 'SIGKILL'))";
  spawnSync(process.execPath, ['-e', script], { cwd: copy });
  const hidden = join(store.root, 'hidden');
  renameSync(directory, hidden);
  flip(join(copy, '0.xorb'), 300_000);

  const { log } = await repair(store);
  t.deepEqual(log.quarantined, ['incoming-dead']);
  t.deepEqual(namesIn(join(store.layout.quarantine, 'incoming-dead')), ['0.xorb', 'journal']);
  t.false(existsSync(copy));
  t.true(gives(store, hashes[2] as string, contents[2]));
  t.throws(() => get(store, hashes[0] as string), { code: 'CONTENT_MISSING' });
  renameSync(hidden, directory);
});

test('files that are no part of a store are told', async (t) => {
  const store = newStore(t);
  await put(store, contents[2]!);
  const [xorb] = xorbs(store) as [string];
  const folder = join(store.layout.xorbs, xorb.slice(0, 2));
  writeFileSync(join(folder, `${xorb}.123.tmp`), 'x');
  writeFileSync(join(store.layout.shards, 'notes.txt'), 'x');
  const found = await check(store);
  t.deepEqual(found.damage, []);
  t.deepEqual([...found.strays].sort(), ['shards/notes.txt', `xorbs/${xorb.slice(0, 2)}/${xorb}.123.tmp`]);
});

test('a check of many xorbs uses all threads and finds the one bad byte', async (t) => {
  const store = newStore(t);
  const content = randomBytes(7, 150 * MIB);
  const [hash] = (await put(store, content)) as [string];
  const names = xorbs(store);
  t.is(names.length, 3);
  const [xorb] = names.slice(1) as [string];
  const offset = offsetsOf(store, xorb).record(500);
  flip(store.layout.xorb(xorb), offset + 20);
  let total = 0;
  let done = 0;
  const found = await checkStore(new LocalStore(store.root), {
    quick: false,
    onProgress: (event) => {
      if (event.kind === 'start') total = event.totalBytes;
      else done += event.bytes;
    },
  });
  t.like(found.damage, [{ name: xorb, chunk: 500, offset }]);
  t.is(done, total);
  t.is(found.checked.bytes, total);
  const [fault] = found.brokenFiles.get(hash)!.faults;
  t.like(fault, { xorb, chunk: 500, chunkEnd: 501, offset });
  // The byte of the file at that place is the one that is bad.
  const before = readFileSync(store.layout.xorb(xorb)).subarray(offset + 8, offset + 1000);
  const there = content.subarray(fault!.fileOffset, fault!.fileOffset! + 992);
  t.is(Buffer.compare(before.subarray(20), there.subarray(20)), 0);
  t.is(before[12]! ^ there[12]!, 0x40);
});

test('an aborted check says so', async (t) => {
  const store = newStore(t);
  await put(store, contents[0]!);
  const outcome = await checkStore(store, { quick: false, signal: AbortSignal.abort() }).catch(
    (error) => error,
  );
  t.is(outcome.name, 'AbortError');
});
