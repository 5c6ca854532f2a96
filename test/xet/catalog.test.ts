import { createHash } from 'node:crypto';
import { mkdirSync, readdirSync, readFileSync, rmSync, statSync, utimesSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import fc from 'fast-check';
import { FormatError } from '../../src/xet/errors.ts';
import { formatHash, parseHash } from '../../src/xet/hash/xet-hash.ts';
import { ShardBuilder } from '../../src/xet/shard/builder.ts';
import { Shard, shardName } from '../../src/xet/shard/shard.ts';
import { Catalog } from '../../src/xet/store/catalog.ts';
import { mergeTables, tableName, tableOfShard } from '../../src/xet/store/catalog-build.ts';
import { readHead } from '../../src/xet/store/catalog-head.ts';
import {
  CatalogTable,
  FILE_ENTRY,
  memoryBytes,
  PLACE_ENTRY,
  TABLE_HEADER,
  type TableBytes,
} from '../../src/xet/store/catalog-table.ts';
import { StoreLayout } from '../../src/xet/store/layout.ts';
import { createStore, injectFault, randomBytes, systemError } from '../helpers/store-sandbox.ts';

// Shards out of numbers: a xorb, chunk or file has the same hash wherever its number turns up.

interface ShardSpec {
  /** Numbers of the chunks of each xorb, by the xorb's number. */
  readonly xorbs: ReadonlyMap<number, readonly number[]>;
  readonly files: readonly number[];
  /** Files with a SHA-256. */
  readonly withSha?: boolean;
}

function digest(what: string, id: number): Buffer {
  return createHash('sha256').update(`${what} ${id}`).digest();
}

/** Chunks 4 n to 4 n + 3 share the first 8 bytes, which are all that a table's key has. */
function chunkHashOf(id: number): Buffer {
  const hash = digest('chunk', id);
  digest('chunk', id & ~3).copy(hash, 0, 0, 8);
  if (id < 4) hash.fill(0, 0, 8);
  else if (id < 8) hash.fill(255, 0, 8);
  return hash;
}

const xorbHashOf = (id: number) => digest('xorb', id);
const fileHashOf = (id: number) => digest('file', id);
const shaOf = (id: number) => digest('sha', id);

function buildShard(spec: ShardSpec): Uint8Array {
  const builder = new ShardBuilder();
  for (const [xorb, chunks] of spec.xorbs) {
    builder.addXorb({
      xorbHash: xorbHashOf(xorb),
      hashes: Buffer.concat(chunks.map(chunkHashOf)),
      lengths: Uint32Array.from(chunks, (id) => 1 + (id % 100)),
      storedBytes: 1,
    });
  }
  for (const file of spec.files) {
    builder.addFile({
      fileHash: fileHashOf(file),
      terms: [{ xorbHash: xorbHashOf(0), start: 0, end: 1, rawBytes: 1 }],
      verification: [Buffer.alloc(32)],
      ...(spec.withSha === true && { sha256: shaOf(file).toString('hex') }),
    });
  }
  return builder.build({ createdAt: 0 });
}

function tableOf(spec: ShardSpec): CatalogTable {
  const shard = buildShard(spec);
  return fromBytes(tableOfShard(parseHash(shardName(shard)), Shard.open(shard)));
}

function fromBytes(bytes: Buffer): CatalogTable {
  return new CatalogTable(tableName(bytes), memoryBytes(bytes));
}

/** Puts a shard into a store, as a seal would. */
function putShard(layout: StoreLayout, spec: ShardSpec): string {
  const bytes = buildShard(spec);
  const name = shardName(bytes);
  mkdirSync(layout.shards, { recursive: true });
  writeFileSync(layout.shard(name), bytes);
  return name;
}

function simple(id: number): ShardSpec {
  return { xorbs: new Map([[id, [100 + 10 * id, 101 + 10 * id]]]), files: [id] };
}

function placesIn(table: Pick<CatalogTable, 'findChunk'>, id: number): string[] {
  return table.findChunk(chunkHashOf(id), 0).map(({ xorb, index }) => `${xorb.toString('hex')}/${index}`);
}

function createLayout(t: ExecutionContext): StoreLayout {
  const layout = new StoreLayout(createStore(t).root);
  layout.create();
  return layout;
}

function openCatalog(t: ExecutionContext, layout: StoreLayout): Catalog {
  const catalog = new Catalog(layout);
  t.teardown(() => catalog.close());
  return catalog;
}

// Tables

const XORBS = 6;
const specs = fc.array(
  fc.record({
    xorbs: fc.uniqueArray(fc.integer({ min: 0, max: XORBS - 1 }), { maxLength: 4 }),
    files: fc.uniqueArray(fc.integer({ min: 0, max: 8 }), { maxLength: 4 }),
    withSha: fc.boolean(),
  }),
  { minLength: 1, maxLength: 6 },
);
/** Chunk lists of the xorbs: few numbers, so that chunks turn up in many xorbs and twice in one. */
const chunkLists = fc.array(fc.array(fc.integer({ min: 0, max: 15 }), { minLength: 1, maxLength: 6 }), {
  minLength: XORBS,
  maxLength: XORBS,
});

function toSpec(
  shape: { xorbs: number[]; files: number[]; withSha: boolean },
  lists: readonly (readonly number[])[],
): ShardSpec {
  return {
    xorbs: new Map(shape.xorbs.map((x) => [x, lists[x] as readonly number[]])),
    files: shape.files,
    withSha: shape.withSha,
  };
}

/** What a table of these shards, older first, must answer. */
function modelPlaces(shards: readonly ShardSpec[], id: number): string[] {
  const seen = new Set<number>();
  const places: string[] = [];
  for (const shard of shards) {
    for (const [xorb, chunks] of shard.xorbs) {
      if (seen.has(xorb)) continue;
      seen.add(xorb);
      chunks.forEach((chunk, i) => {
        if (chunk === id) places.push(`${xorbHashOf(xorb).toString('hex')}/${i}`);
      });
    }
  }
  return places.reverse();
}

test('a merged table answers for every chunk, file and SHA-256 of its shards, newest first, and for no other', (t) => {
  fc.assert(
    fc.property(specs, chunkLists, fc.integer({ min: 0, max: 6 }), (shapes, lists, cut) => {
      const shards = shapes.map((shape) => toSpec(shape, lists));
      const tables = shards.map(tableOf);
      // In one go, or a part first: a tier that is merged again.
      const first = tables.slice(0, cut);
      const merged = fromBytes(
        mergeTables(first.length === 0 ? tables : [fromBytes(mergeTables(first)), ...tables.slice(cut)]),
      );
      for (let id = 0; id < 20; id++) t.deepEqual(placesIn(merged, id), modelPlaces(shards, id));
      for (let id = 0; id < 12; id++) {
        const holders = shards.filter((shard) => shard.files.includes(id)).reverse();
        const found = merged.findFile(fileHashOf(id));
        t.is(found.length, holders.length);
        for (const [i, place] of found.entries()) {
          const bytes = buildShard(holders[i] as ShardSpec);
          t.is(formatHash(place.shard), shardName(bytes));
          t.deepEqual(Buffer.from(Shard.open(bytes).fileAt(place.recordIndex).fileHash), fileHashOf(id));
        }
        const known = holders.some((shard) => shard.withSha === true);
        t.deepEqual(merged.findSha256(shaOf(id)), known ? fileHashOf(id) : undefined);
      }
      t.is(merged.counts.shards, shards.length);
    }),
    { numRuns: 150 },
  );
});

test('every chunk of a large table is found, uniform or not, and none that is not in it', (t) => {
  const uniform = Array.from({ length: 3000 }, (_, i) => 1000 + 4 * i);
  const skewed = Array.from({ length: 1500 }, (_, i) => i % 8);
  const table = fromBytes(
    mergeTables([
      tableOf({ xorbs: new Map([[1, uniform.slice(0, 1000)]]), files: [] }),
      tableOf({
        xorbs: new Map([
          [2, uniform.slice(1000)],
          [3, skewed],
        ]),
        files: [],
      }),
    ]),
  );
  for (const [i, id] of uniform.entries()) {
    const xorb = xorbHashOf(i < 1000 ? 1 : 2).toString('hex');
    t.deepEqual(placesIn(table, id), [`${xorb}/${i < 1000 ? i : i - 1000}`]);
    t.deepEqual(placesIn(table, id + 1), [], 'the same key, another hash');
    t.deepEqual(placesIn(table, 200_000 + i), []);
  }
  for (let id = 0; id < 8; id++) t.is(placesIn(table, id).length, id < 4 ? 188 : 187);
});

test('the hash that is looked for may stand anywhere in the bytes given', (t) => {
  const table = tableOf(simple(1));
  const list = Buffer.concat([randomBytes(1, 17), chunkHashOf(111), randomBytes(2, 5)]);
  t.is(table.findChunk(list, 17).length, 1);
  t.is(table.findChunk(list, 16).length, 0);
});

test('one shard that lists a xorb twice merges into a table that has it once', (t) => {
  const builder = new ShardBuilder();
  for (let i = 0; i < 2; i++) {
    builder.addXorb({
      xorbHash: xorbHashOf(1),
      hashes: Buffer.concat([1, 2].map(chunkHashOf)),
      lengths: Uint32Array.of(5, 5),
      storedBytes: 1,
    });
  }
  const shard = builder.build({ createdAt: 0 });
  const once = fromBytes(tableOfShard(parseHash(shardName(shard)), Shard.open(shard)));
  const merged = fromBytes(mergeTables([once, tableOf(simple(7))]));
  t.is(merged.counts.xorbs, 2);
  t.is(placesIn(merged, 1).length, 1);
});

test('opening a table reads its head and nothing else, however large it is', (t) => {
  const bytes = mergeTables(
    Array.from({ length: 40 }, (_, i) =>
      tableOf({ xorbs: new Map([[i, [20 * i, 20 * i + 4, 20 * i + 8]]]), files: [i] }),
    ),
  );
  const reads: [number, number][] = [];
  const counted: TableBytes = {
    size: bytes.length,
    read(offset, length) {
      reads.push([offset, length]);
      return bytes.subarray(offset, offset + length);
    },
    close() {},
  };
  const table = new CatalogTable('counted', counted);
  t.deepEqual(reads, [[0, TABLE_HEADER + 1024]]);
  t.is(table.findChunk(chunkHashOf(404), 0).length, 1);
  const total = reads.reduce((sum, [, length]) => sum + length, 0);
  t.true(total < 1056 + 4096 + 40 * 40 + 10 * PLACE_ENTRY, `${total} bytes read for one look-up`);
  t.true(reads.length <= 4, `${reads.length} reads for one look-up`);
});

test('truncated or scribbled table bytes give a FormatError, and what is only wrong inside is never followed', (t) => {
  const bytes = mergeTables([tableOf(simple(1)), tableOf({ ...simple(2), withSha: true })]);
  for (let length = 0; length < bytes.length; length += 7) {
    const error = t.throws(() => fromBytes(bytes.subarray(0, length)), { instanceOf: FormatError });
    t.is(error?.code, 'INVALID_CATALOG');
  }
  fc.assert(
    fc.property(
      fc.integer({ min: 0, max: bytes.length - 1 }),
      fc.uint8Array({ minLength: 1, maxLength: 12 }),
      (at, noise) => {
        const damaged = Buffer.from(bytes);
        damaged.set(noise.subarray(0, bytes.length - at), at);
        let table: CatalogTable;
        try {
          table = fromBytes(damaged);
        } catch (error) {
          t.true(error instanceof FormatError);
          return;
        }
        for (const id of [110, 111, 120, 121, 5]) {
          for (const { xorb } of table.findChunk(chunkHashOf(id), 0)) t.is(xorb.length, 32);
        }
        for (const id of [1, 2, 3]) {
          for (const { shard } of table.findFile(fileHashOf(id))) t.is(shard.length, 32);
          table.findSha256(shaOf(id));
        }
      },
    ),
    { numRuns: 400 },
  );
});

// The catalog of a store

test.serial(
  'after 300 publishes there are few tables, they cover every shard, and none is left behind',
  (t) => {
    const layout = createLayout(t);
    const restore = injectFault(t, 'fdatasyncSync', () => {});
    const catalog = openCatalog(t, layout);
    let most = 0;
    for (let i = 0; i < 300; i++) {
      putShard(layout, simple(i));
      catalog.publish();
      most = Math.max(most, catalog.tables().length);
    }
    restore();
    t.true(most <= 10, `${most} tables`);
    const head = readHead(layout);
    t.deepEqual(readdirSync(layout.catalog).sort(), ['HEAD', ...head.map((entry) => entry.name)].sort());
    const fresh = openCatalog(t, layout);
    for (let i = 0; i < 300; i++) {
      t.is(placesIn(fresh, 101 + 10 * i).length, 1);
      t.is(fresh.findFile(fileHashOf(i)).length, 1);
    }
    t.is(
      fresh.tables().reduce((sum, table) => sum + table.counts.shards, 0),
      300,
    );
    t.false(fresh.refresh());
  },
);

for (const [what, damage] of [
  ['missing', (path: string) => rmSync(path)],
  ['empty', (path: string) => writeFileSync(path, '')],
  ['garbage', (path: string) => writeFileSync(path, randomBytes(1, 500))],
  ['of another version', (path: string) => writeFileSync(path, 'git2db catalog 2\nnonsense\n')],
  ['cut in the middle of a line', (path: string) => writeFileSync(path, readFileSync(path).subarray(0, 60))],
] as const) {
  test(`with a HEAD that is ${what} everything is still found, and the next publish mends it`, (t) => {
    const layout = createLayout(t);
    for (let i = 0; i < 3; i++) {
      putShard(layout, simple(i));
      openCatalog(t, layout).publish();
    }
    damage(join(layout.catalog, 'HEAD'));
    const reader = openCatalog(t, layout);
    t.true(reader.refresh());
    for (let i = 0; i < 3; i++) t.is(reader.findFile(fileHashOf(i)).length, 1);
    const writer = openCatalog(t, layout);
    writer.publish();
    t.is(readHead(layout).length, 1);
    for (let i = 0; i < 3; i++) t.is(placesIn(writer, 100 + 10 * i).length, 1);
    t.is(readdirSync(layout.catalog).length, 2);
  });
}

for (const [what, damage] of [
  ['missing', () => undefined],
  ['empty', () => Buffer.alloc(0)],
  ['cut short', (bytes: Buffer) => bytes.subarray(0, bytes.length - 40)],
  ['zeroed', (bytes: Buffer) => Buffer.alloc(bytes.length)],
  ['garbage', (bytes: Buffer) => randomBytes(9, bytes.length)],
] as const) {
  test.serial(`a table that is ${what} is passed over: its shards are read instead`, (t) => {
    const layout = createLayout(t);
    for (let i = 0; i < 2; i++) putShard(layout, simple(i));
    openCatalog(t, layout).publish();
    const path = join(layout.catalog, readHead(layout)[0]?.name as string);
    const bytes = damage(readFileSync(path));
    if (bytes === undefined) rmSync(path);
    else writeFileSync(path, bytes);
    const descriptors = readdirSync('/proc/self/fd').length;
    const reader = openCatalog(t, layout);
    for (let i = 0; i < 5; i++) reader.reload();
    t.true(reader.refresh());
    for (let i = 0; i < 2; i++) {
      t.is(reader.findFile(fileHashOf(i)).length, 1);
      t.is(placesIn(reader, 100 + 10 * i).length, 1);
    }
    t.is(readdirSync('/proc/self/fd').length, descriptors, 'no descriptor is lost on the way');
    openCatalog(t, layout).publish();
    t.false(openCatalog(t, layout).refresh());
  });
}

/** Overwrites the places and files of the only table; its head stays whole. */
function damageInside(layout: StoreLayout): void {
  const path = join(layout.catalog, readHead(layout)[0]?.name as string);
  const bytes = readFileSync(path);
  const { offsets, counts } = fromBytes(bytes);
  bytes.fill(0xee, offsets.files, offsets.files + FILE_ENTRY * counts.files);
  writeFileSync(path, bytes);
}

test('damage inside a table shows when it is looked for, and then the shards are read instead', (t) => {
  const layout = createLayout(t);
  for (let i = 0; i < 4; i++) putShard(layout, simple(i));
  openCatalog(t, layout).publish();
  const name = readHead(layout)[0]?.name as string;
  damageInside(layout);
  const reader = openCatalog(t, layout);
  t.is(reader.findFile(fileHashOf(2)).length, 0);
  t.false(reader.refresh(), 'the table says that it covers the shard');
  t.deepEqual(reader.dropDamaged(), [name]);
  t.is(reader.findFile(fileHashOf(2)).length, 1);
  t.deepEqual(reader.dropDamaged(), []);
});

test('damage inside a table is not merged into the next table', (t) => {
  const layout = createLayout(t);
  for (let i = 0; i < 4; i++) putShard(layout, simple(i));
  openCatalog(t, layout).publish();
  damageInside(layout);
  for (let i = 4; i < 8; i++) putShard(layout, simple(i));
  openCatalog(t, layout).publish();
  const reader = openCatalog(t, layout);
  for (let i = 0; i < 8; i++) t.is(reader.findFile(fileHashOf(i)).length, 1, `file ${i}`);
});

test('a table that was truncated under an open reader does not stop it', (t) => {
  const layout = createLayout(t);
  for (let i = 0; i < 4; i++) putShard(layout, simple(i));
  openCatalog(t, layout).publish();
  const reader = openCatalog(t, layout);
  t.is(reader.tables().length, 1);
  writeFileSync(join(layout.catalog, readHead(layout)[0]?.name as string), 'short');
  t.is(reader.findFile(fileHashOf(2)).length, 1);
  t.is(placesIn(reader, 100).length, 1);
});

test('shards that came after the catalog was read are found after a miss, covered by a table or not', (t) => {
  const layout = createLayout(t);
  putShard(layout, simple(0));
  openCatalog(t, layout).publish();
  const reader = openCatalog(t, layout);
  t.is(reader.findFile(fileHashOf(0)).length, 1);
  t.false(reader.refresh());

  putShard(layout, simple(1));
  t.is(reader.findFile(fileHashOf(1)).length, 0);
  t.true(reader.refresh());
  t.is(reader.findFile(fileHashOf(1)).length, 1);
  t.false(reader.refresh());

  putShard(layout, simple(2));
  openCatalog(t, layout).publish();
  t.is(reader.findFile(fileHashOf(2)).length, 0);
  t.true(reader.refresh(), 'another process covered it already');
  t.is(reader.findFile(fileHashOf(2)).length, 1);
});

test('a table that covers a vanished shard is replaced by the next publish', (t) => {
  const layout = createLayout(t);
  const gone = putShard(layout, simple(0));
  putShard(layout, simple(1));
  openCatalog(t, layout).publish();
  rmSync(layout.shard(gone));
  const catalog = openCatalog(t, layout);
  t.is(catalog.findFile(fileHashOf(0)).length, 1, 'the table still says so');
  catalog.publish();
  t.is(catalog.findFile(fileHashOf(0)).length, 0);
  t.is(catalog.findFile(fileHashOf(1)).length, 1);
  t.is(readHead(layout).length, 1);
});

test('damaged shards and files that are no shards are not in the catalog, and hinder nobody', (t) => {
  const layout = createLayout(t);
  putShard(layout, simple(1));
  writeFileSync(layout.shard('ab'.repeat(32)), randomBytes(3, 1000));
  writeFileSync(layout.shard('cd'.repeat(32)), '');
  writeFileSync(join(layout.shards, 'notes.txt'), 'hello');
  const catalog = openCatalog(t, layout);
  catalog.publish();
  t.is(catalog.findFile(fileHashOf(1)).length, 1);
  t.deepEqual(
    readHead(layout).map(({ chunks, files }) => ({ chunks, files })),
    [{ chunks: 2, files: 1 }],
  );
});

test('a rebuild makes one table of all shards, and readers of the old ones go on', (t) => {
  const layout = createLayout(t);
  for (let i = 0; i < 12; i++) {
    putShard(layout, simple(i));
    if (i % 3 === 0) openCatalog(t, layout).publish();
  }
  const reader = openCatalog(t, layout);
  t.is(reader.findFile(fileHashOf(0)).length, 1);
  openCatalog(t, layout).publish({ rebuild: true });
  t.is(readHead(layout).length, 1);
  t.is(reader.findFile(fileHashOf(9)).length, 1);
  reader.reload();
  for (let i = 0; i < 12; i++) t.is(reader.findFile(fileHashOf(i)).length, 1);
  // The same shards give the same table: it is not written over while others read it.
  const inode = () => statSync(join(layout.catalog, readHead(layout)[0]?.name as string)).ino;
  const before = inode();
  const bytes = readFileSync(join(layout.catalog, readHead(layout)[0]?.name as string));
  openCatalog(t, layout).publish({ rebuild: true });
  t.true(
    inode() === before ||
      readFileSync(join(layout.catalog, readHead(layout)[0]?.name as string)).equals(bytes),
  );
  for (let i = 0; i < 12; i++) t.is(reader.findFile(fileHashOf(i)).length, 1);
});

test.serial('a table is complete before it has its name', (t) => {
  const layout = createLayout(t);
  putShard(layout, simple(1));
  openCatalog(t, layout).publish();
  const reader = openCatalog(t, layout);
  t.is(reader.findFile(fileHashOf(1)).length, 1);
  let writes = 0;
  const restore = injectFault(t, 'writevSync', (original, fd, buffers, ...rest) => {
    if ((buffers[0]?.byteLength ?? 0) > 1000 && ++writes === 1) throw systemError('ENOSPC');
    return original(fd, buffers, ...rest);
  });
  t.throws(() => openCatalog(t, layout).publish({ rebuild: true }), { code: 'ENOSPC' });
  restore();
  t.is(reader.findFile(fileHashOf(1)).length, 1, 'the table that is in use was not touched');
  t.is(openCatalog(t, layout).findFile(fileHashOf(1)).length, 1);
});

test.serial('where hard links are not to be had the catalog is published all the same', (t) => {
  const layout = createLayout(t);
  putShard(layout, simple(1));
  const restore = injectFault(t, 'linkSync', () => {
    throw systemError('EPERM');
  });
  openCatalog(t, layout).publish();
  restore();
  t.is(readHead(layout).length, 1);
});

test('a busy lock means that somebody else does it; a stale one is broken', (t) => {
  const layout = createLayout(t);
  putShard(layout, simple(1));
  const lock = join(layout.catalog, 'HEAD.lock');
  writeFileSync(lock, '1\n');
  openCatalog(t, layout).publish();
  t.deepEqual(readHead(layout), []);
  t.is(openCatalog(t, layout).refresh(), true);
  const old = new Date(Date.now() - 60_000);
  utimesSync(lock, old, old);
  openCatalog(t, layout).publish();
  t.is(readHead(layout).length, 1);
  t.deepEqual(
    readdirSync(layout.catalog).filter((name) => name.startsWith('HEAD')),
    ['HEAD'],
  );
});

test('what publishers that died left in the directory is swept away, in time', (t) => {
  const layout = createLayout(t);
  putShard(layout, simple(1));
  const old = new Date(Date.now() - 3_600_000);
  for (const name of ['HEAD.12345.999', 'HEAD.lock.12345.999', 'ab'.repeat(32)]) {
    writeFileSync(join(layout.catalog, name), 'left');
    utimesSync(join(layout.catalog, name), old, old);
  }
  openCatalog(t, layout).publish();
  t.deepEqual(readdirSync(layout.catalog).sort(), [readHead(layout)[0]?.name as string, 'HEAD'].sort());
});

test('a catalog directory that was deleted is made again', (t) => {
  const layout = createLayout(t);
  putShard(layout, simple(1));
  rmSync(layout.catalog, { recursive: true });
  const reader = openCatalog(t, layout);
  t.true(reader.refresh());
  t.is(reader.findFile(fileHashOf(1)).length, 1);
  openCatalog(t, layout).publish();
  t.is(readHead(layout).length, 1);
});

test.serial('in a catalog directory that cannot be written publishing fails and reading goes on', (t) => {
  const layout = createLayout(t);
  putShard(layout, simple(1));
  openCatalog(t, layout).publish();
  putShard(layout, simple(2));
  const catalog = openCatalog(t, layout);
  const restore = injectFault(t, 'openSync', (original, path, flags, ...rest) => {
    if (String(path).startsWith(layout.catalog) && flags !== 'r') throw systemError('EROFS');
    return original(path, flags, ...rest);
  });
  const restoreWrite = injectFault(t, 'writeFileSync', () => {
    throw systemError('EROFS');
  });
  t.throws(() => catalog.publish(), { code: 'EROFS' });
  restore();
  restoreWrite();
  t.is(catalog.findFile(fileHashOf(1)).length, 1);
  t.true(catalog.refresh());
  t.is(catalog.findFile(fileHashOf(2)).length, 1);
});

test('publishers in several processes lose nothing, and readers never see less than there was', async (t) => {
  const sandbox = createStore(t);
  const layout = new StoreLayout(sandbox.root);
  layout.create();
  for (let i = 0; i < 5; i++) putShard(layout, simple(i));
  openCatalog(t, layout).publish();
  const processes = await Promise.all([sandbox.process(), sandbox.process()]);
  let running = true;
  const work = Promise.all(processes.map((process) => process.publish(25))).finally(() => {
    running = false;
  });
  let next = 5;
  while (running) {
    putShard(layout, simple(next++));
    const reader = new Catalog(layout);
    reader.refresh();
    for (let i = 0; i < next; i += 7) t.is(reader.findFile(fileHashOf(i)).length >= 1, true, `file ${i}`);
    reader.close();
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  await work;
  openCatalog(t, layout).publish();
  const reader = openCatalog(t, layout);
  t.false(reader.refresh());
  for (let i = 0; i < next; i++) t.true(reader.findFile(fileHashOf(i)).length >= 1);
});
