/**
 * What every store must do (src/xet/store/store.ts), for each implementation to be run against. Registers AVA
 * tests whose titles begin with the name of the store.
 */
import { createHash } from 'node:crypto';
import test, { type ExecutionContext } from 'ava';
import { Git2dbError } from '../../../src/xet/errors.ts';
import { formatHash, ZERO_HASH } from '../../../src/xet/hash/xet-hash.ts';
import { ShardBuilder } from '../../../src/xet/shard/builder.ts';
import type { ChunkRange, ServableStore, Store } from '../../../src/xet/store/store.ts';
import { decodeFooter } from '../../../src/xet/xorb/format.ts';
import {
  collectRuns,
  fileOf,
  putFile,
  rawChunks,
  readWhole,
  shardOf,
  someChunks,
  uploadOf,
  xorbOf,
} from '../../helpers/stored-content.ts';
import { same } from '../objects/object-contract.ts';

export interface StoreContractOptions {
  /** An empty store that can be written to. */
  readonly open: (t: ExecutionContext) => Promise<Store>;
  /** Another view of the store that `open` gave, as another process or machine has it. Default: the same object. */
  readonly openAgain?: (t: ExecutionContext, store: Store) => Promise<Store>;
  /**
   * Replaces bytes of a stored object, as a bad disk would; `key` as in docs/format/store.md. Undefined: there is
   * no way to.
   */
  readonly damage?: (store: Store, key: string, change: (bytes: Buffer) => Buffer) => Promise<void>;
  /** Names of the objects under a prefix; for `damage`. */
  readonly keys?: (store: Store, prefix: string) => Promise<string[]>;
  /** False where the store is seen through a service that shows no footers of its xorbs. Default true. */
  readonly showsFooters?: boolean;
  /** False where dedup is answered by samples only. Default true. */
  readonly findsAllChunks?: boolean;
  /** False where SHA-256s cannot be looked up. Default true. */
  readonly findsSha256s?: boolean;
  /** Reason to skip all. */
  readonly skip?: string | undefined;
}

export function storeContract(name: string, options: StoreContractOptions): void {
  const { showsFooters = true, findsAllChunks = true, findsSha256s = true, skip } = options;
  const define = skip === undefined ? test : test.skip;
  const suffix = skip === undefined ? '' : ` (skipped: ${skip})`;
  const again = options.openAgain ?? (async (_t: ExecutionContext, store: Store) => store);

  function it(title: string, body: (t: ExecutionContext, store: Store) => Promise<void>): void {
    define(`${name}: ${title}${suffix}`, async (t) => {
      const store = await options.open(t);
      t.teardown(() => store[Symbol.asyncDispose]());
      await body(t, store);
    });
  }

  it('a file that was put is found and read, here and by others', async (t, store) => {
    const chunks = someChunks('one', 5);
    const { file } = await putFile(store, chunks);
    for (const view of [store, await again(t, store)]) {
      same(t, await readWhole(view, file.fileHash), Buffer.concat(chunks));
      const [found] = await view.findFiles([file.fileHash]);
      t.is(found?.size, 5000);
      t.deepEqual(
        found?.terms.map(({ start, end }) => [start, end]),
        [[0, 5]],
      );
    }
  });

  it('answers stand in the order of the questions, undefined for what is unknown', async (t, store) => {
    const { file: a } = await putFile(store, someChunks('a', 2));
    const { file: b } = await putFile(store, someChunks('b', 3));
    const unknown = new Uint8Array(32).fill(7);
    const found = await store.findFiles([unknown, b.fileHash, a.fileHash, unknown, b.fileHash]);
    t.deepEqual(
      found.map((file) => file?.size),
      [undefined, 3000, 2000, undefined, 3000],
    );
    t.deepEqual(await store.findFiles([]), []);
  });

  it('putting a xorb again is no news, and the first stays', async (t, store) => {
    const xorb = xorbOf(someChunks('twice', 4));
    t.false(await store.hasXorb(xorb.xorbHash));
    t.true(await store.putXorb(uploadOf(xorb)));
    t.true(await store.hasXorb(xorb.xorbHash));
    t.false(await store.putXorb(uploadOf(xorb, 7)));
  });

  it('putting a shard again is no news', async (t, store) => {
    const xorb = xorbOf(someChunks('again', 4));
    const shard = shardOf([xorb], [fileOf([[xorb, 0, 4]])]);
    await store.putXorb(uploadOf(xorb));
    t.true(await store.putShard(shard));
    t.false(await store.putShard(shard));
    t.true(await store.putShard(shardOf([], [fileOf([[xorb, 1, 3]])])));
    t.false(await (await again(t, store)).putShard(shardOf([], [fileOf([[xorb, 1, 3]])])));
  });

  it('a shard whose xorbs are not there is refused, and says which', async (t, store) => {
    const xorb = xorbOf(someChunks('nowhere', 4));
    const file = fileOf([[xorb, 0, 4]]);
    const error = await t.throwsAsync(store.putShard(shardOf([xorb], [file])), { instanceOf: Git2dbError });
    t.is(error?.code, 'CONTENT_MISSING');
    t.deepEqual(await store.findFiles([file.fileHash]), [undefined]);
  });

  it('a shard that says what is not so is refused, and nothing of it is found', async (t, store) => {
    const xorb = xorbOf(someChunks('lies', 6));
    await store.putXorb(uploadOf(xorb));
    const good = fileOf([[xorb, 0, 6]]);
    const term = good.terms[0] as (typeof good.terms)[number];
    const lies = [
      { ...good, fileHash: new Uint8Array(32).fill(9) },
      { ...good, terms: [{ ...term, end: 7 }] },
      { ...good, terms: [{ ...term, end: 0xffffffff }] },
      { ...good, terms: [{ ...term, rawBytes: 1 }] },
      { ...good, verification: [new Uint8Array(32).fill(1)] },
      { ...good, terms: [], verification: [] },
    ];
    for (const [i, lie] of lies.entries()) {
      const error = await t.throwsAsync(
        store.putShard(shardOf([], [lie])),
        { instanceOf: Git2dbError },
        `lie ${i}`,
      );
      t.true(
        ['INVALID_SHARD', 'LIMIT_EXCEEDED', 'REMOTE_INVALID'].includes(error?.code ?? ''),
        `${error?.code}`,
      );
      t.deepEqual(await store.findFiles([lie.fileHash]), [undefined]);
    }
    const builder = new ShardBuilder();
    const hashes = xorb.hashes.slice();
    hashes[0] = (hashes[0] as number) ^ 1;
    builder.addXorb({ ...xorb, hashes });
    await t.throwsAsync(store.putShard(builder.build({ footer: false })), { instanceOf: Git2dbError });
    await t.throwsAsync(store.putShard(new Uint8Array(100)), { instanceOf: Git2dbError });
    await t.throwsAsync(store.putShard(shardOf([xorb], [good]).subarray(0, -60)), {
      instanceOf: Git2dbError,
    });
  });

  it('a xorb that does not come as announced is refused, and not there', async (t, store) => {
    const xorb = xorbOf(someChunks('announced', 6));
    const records = xorb.bytes.subarray(0, xorb.storedBytes);
    const broken = Buffer.from(records);
    broken.writeUInt8(99, 5);
    const variants: [string, () => Iterable<Uint8Array>][] = [
      ['short', () => [records.subarray(0, -1)]],
      ['empty', () => []],
      ['long', () => [records, Buffer.alloc(1)]],
      ['other lengths', () => [broken]],
    ];
    for (const [title, make] of variants) {
      await t.throwsAsync(store.putXorb({ footer: xorb, records: make }), undefined, title);
      t.false(await store.hasXorb(xorb.xorbHash), title);
    }
    const rawEnds = xorb.rawEnds.map((end) => end - 1);
    await t.throwsAsync(store.putXorb({ footer: { ...xorb, rawEnds }, records: () => [records] }));
    const stops = new Git2dbError('CONTENT_DAMAGED', 'the sender has found damage');
    const stopping = store.putXorb({
      footer: xorb,
      *records() {
        yield records.subarray(0, 2000);
        throw stops;
      },
    });
    t.is((await t.throwsAsync(stopping, { instanceOf: Git2dbError }))?.code, 'CONTENT_DAMAGED');
    t.false(await store.hasXorb(xorb.xorbHash));
    t.true(await store.putXorb(uploadOf(xorb)));
  });

  it('records come in the order asked for, whole, across ranges and xorbs', async (t, store) => {
    const chunks = someChunks('order', 40, 3000);
    const others = someChunks('order too', 10, 3000);
    const { xorb } = await putFile(store, chunks);
    const { xorb: other } = await putFile(store, others);
    const ranges: ChunkRange[] = [
      { xorbHash: xorb.xorbHash, start: 3, end: 7 },
      { xorbHash: xorb.xorbHash, start: 7, end: 9 },
      { xorbHash: other.xorbHash, start: 0, end: 10 },
      { xorbHash: xorb.xorbHash, start: 0, end: 1 },
      { xorbHash: xorb.xorbHash, start: 39, end: 40 },
    ];
    const runs = await collectRuns(store.readRecords(ranges));
    let at = 0;
    for (const { xorbHash, start, end } of ranges) {
      for (let i = start; i < end; i++) {
        while (at < runs.length) {
          const run = runs[at] as (typeof runs)[number];
          if (formatHash(run.xorbHash) === formatHash(xorbHash) && run.start <= i && i < run.end) break;
          at++;
        }
        const run = runs[at];
        if (run === undefined) return t.fail(`chunk ${i} did not come`);
        const expected = (formatHash(xorbHash) === formatHash(xorb.xorbHash) ? chunks : others)[i] as Buffer;
        same(t, Buffer.from(rawChunks(run)[i - run.start] as Uint8Array), expected);
      }
    }
  });

  it('ranges are taken as they come, and reading can be left at any time', async (t, store) => {
    const { xorb } = await putFile(store, someChunks('stream', 60, 30_000));
    async function* ranges(): AsyncGenerator<ChunkRange> {
      for (let i = 0; i < 60; i++) yield { xorbHash: xorb.xorbHash, start: 59 - i, end: 60 - i };
    }
    t.true((await collectRuns(store.readRecords(ranges()))).length > 0);
    for await (const run of store.readRecords(ranges())) {
      t.true(run.bytes.length > 0);
      break;
    }
    const stop = new AbortController();
    const aborted = (async () => {
      for await (const _ of store.readRecords(ranges(), { signal: stop.signal })) stop.abort();
    })();
    await t.throwsAsync(aborted, { name: 'AbortError' });
    await t.throwsAsync(store.findFiles([ZERO_HASH], { signal: stop.signal }), { name: 'AbortError' });
  });

  it('records of a xorb that is not there are missing, by name', async (t, store) => {
    const { xorbHash } = xorbOf(someChunks('gone', 2));
    const error = await t.throwsAsync(collectRuns(store.readRecords([{ xorbHash, start: 0, end: 1 }])), {
      instanceOf: Git2dbError,
    });
    t.is(error?.code, 'CONTENT_MISSING');
    t.true(error?.message.includes(formatHash(xorbHash)));
  });

  it('what is given out may be kept and written to', async (t, store) => {
    const chunks = someChunks('kept', 8);
    const { file, xorb } = await putFile(store, chunks);
    for (const run of await collectRuns(store.readRecords([{ xorbHash: xorb.xorbHash, start: 0, end: 8 }]))) {
      run.bytes.fill(0);
    }
    same(t, await readWhole(store, file.fileHash), Buffer.concat(chunks));
  });

  if (findsSha256s) {
    it('a file is found by its SHA-256, if it has one', async (t, store) => {
      const chunks = someChunks('sha', 3);
      const sha256 = createHash('sha256').update(Buffer.concat(chunks)).digest('hex');
      const { file } = await putFile(store, chunks, sha256);
      const { file: without } = await putFile(store, someChunks('without', 3));
      const view = await again(t, store);
      const [found, unknown] = await view.findSha256s([sha256, '0'.repeat(64), 'nonsense']);
      t.is(found && formatHash(found), formatHash(file.fileHash));
      t.is(unknown, undefined);
      const files = await view.findFiles([file.fileHash, without.fileHash]);
      t.deepEqual(
        files.map((one) => one?.sha256),
        [sha256, undefined],
      );
    });

    it('a SHA-256 can be told later', async (t, store) => {
      const chunks = someChunks('later', 3);
      const { xorb, file } = await putFile(store, chunks);
      const sha256 = createHash('sha256').update(Buffer.concat(chunks)).digest('hex');
      t.true(await store.putShard(shardOf([xorb], [{ ...file, sha256 }])));
      const [found] = await store.findSha256s([sha256]);
      t.is(found && formatHash(found), formatHash(file.fileHash));
    });
  }

  if (findsAllChunks) {
    it('chunks are found as runs, in order and without overlap', async (t, store) => {
      const { xorb } = await putFile(store, someChunks('runs', 20));
      const { xorb: other } = await putFile(store, someChunks('more runs', 5));
      const fresh = xorbOf(someChunks('fresh', 3));
      const of = (built: typeof xorb, start: number, end: number) =>
        built.hashes.subarray(32 * start, 32 * end);
      const list = Buffer.concat([
        of(fresh, 0, 1),
        of(xorb, 4, 12),
        of(other, 0, 5),
        of(fresh, 1, 3),
        of(xorb, 19, 20),
        of(xorb, 0, 2),
      ]);
      for (const view of [store, await again(t, store)]) {
        const runs = await view.findChunks(list);
        t.deepEqual(
          runs.map(({ at, count, xorbHash, start }) => [at, count, formatHash(xorbHash), start]),
          [
            [1, 8, formatHash(xorb.xorbHash), 4],
            [9, 5, formatHash(other.xorbHash), 0],
            [16, 1, formatHash(xorb.xorbHash), 19],
            [17, 2, formatHash(xorb.xorbHash), 0],
          ],
        );
      }
      t.deepEqual(await store.findChunks(new Uint8Array(0)), []);
      t.deepEqual(await store.findChunks(new Uint8Array(32)), []);
    });

    it('of several places the one that goes on for longest is told', async (t, store) => {
      const chunks = someChunks('places', 12);
      await putFile(store, [chunks[5] as Buffer, ...someChunks('elsewhere', 2)]);
      const { xorb } = await putFile(store, chunks);
      await putFile(store, [chunks[5] as Buffer, ...someChunks('elsewhere still', 2)]);
      const runs = await store.findChunks(xorb.hashes);
      t.deepEqual(
        runs.map(({ at, count, start }) => [at, count, start]),
        [[0, 12, 0]],
      );
    });
  }

  if (showsFooters) {
    it('a footer is shown, and proves its name', async (t, store) => {
      const { xorb } = await putFile(store, someChunks('footer', 9, 2500));
      const footer = await store.readFooter(xorb.xorbHash);
      t.is(footer?.count, 9);
      t.deepEqual(Buffer.from(footer?.hashes ?? []), Buffer.from(xorb.hashes));
      t.deepEqual([...(footer?.recordEnds ?? [])], [...xorb.recordEnds]);
      t.deepEqual([...(footer?.rawEnds ?? [])], [...xorb.rawEnds]);
      const missing = await t.throwsAsync(store.readFooter(new Uint8Array(32).fill(5)), {
        instanceOf: Git2dbError,
      });
      t.is(missing?.code, 'CONTENT_MISSING');
    });
  }

  it('many put the same and different files at once', async (t, store) => {
    const shared = someChunks('shared', 6);
    const view = await again(t, store);
    const put = await Promise.all(
      Array.from({ length: 8 }, async (_, i) => {
        const own = someChunks(`own ${i >> 1}`, 3);
        const at = i % 2 === 0 ? store : view;
        await putFile(at, shared);
        return putFile(at, own);
      }),
    );
    for (const at of [store, view]) {
      const found = await at.findFiles(put.map(({ file }) => file.fileHash));
      t.true(found.every((file) => file?.size === 3000));
      for (const { file } of put) t.is((await readWhole(at, file.fileHash))?.length, 3000);
      t.is((await readWhole(at, fileOf([[xorbOf(shared), 0, 6]]).fileHash))?.length, 6000);
    }
  });

  it('a shard without files, and files of other xorbs, are taken', async (t, store) => {
    const { xorb: a } = await putFile(store, someChunks('ref a', 6));
    const { xorb: b } = await putFile(store, someChunks('ref b', 6));
    const file = fileOf([
      [b, 2, 4],
      [a, 0, 6],
      [b, 2, 4],
    ]);
    t.true(await store.putShard(shardOf([], [file])));
    t.is((await readWhole(await again(t, store), file.fileHash))?.length, 10_000);
    t.false(await store.putShard(shardOf([], [])));
  });

  const { damage, keys } = options;
  if (damage !== undefined && keys !== undefined) {
    it('no damage to a xorb makes wrong bytes look right', async (t, store) => {
      const chunks = someChunks('damaged', 12, 700);
      const { xorb, file } = await putFile(store, chunks);
      const name = formatHash(xorb.xorbHash);
      const key = `xorbs/${name.slice(0, 2)}/${name}`;
      for (const change of damages()) {
        let whole: Buffer = Buffer.alloc(0);
        await damage(store, key, (bytes) => {
          whole = bytes;
          return change(bytes);
        });
        const view = await again(t, store);
        await readsRightOrFails(t, () => readWhole(view, file.fileHash), Buffer.concat(chunks));
        await damage(store, key, () => whole);
      }
      same(t, await readWhole(await again(t, store), file.fileHash), Buffer.concat(chunks));
    });

    it('no damage to a shard or a table makes wrong bytes look right', async (t, store) => {
      const chunks = someChunks('described', 12, 700);
      const { file } = await putFile(store, chunks, 'ab'.repeat(32));
      for (const prefix of ['shards/', 'catalog/']) {
        for (const key of await keys(store, prefix)) {
          for (const change of damages()) {
            let whole: Buffer = Buffer.alloc(0);
            await damage(store, key, (bytes) => {
              whole = bytes;
              return change(bytes);
            });
            const view = await again(t, store);
            await readsRightOrFails(t, () => readWhole(view, file.fileHash), Buffer.concat(chunks));
            for (const run of await view.findChunks(file.fileHash).catch(() => []))
              t.fail(`${run.count} chunks of a file hash`);
            await damage(store, key, () => whole);
          }
        }
      }
      same(t, await readWhole(await again(t, store), file.fileHash), Buffer.concat(chunks));
    });

    it('a xorb that nobody can read is replaced when it is put again', async (t, store) => {
      const chunks = someChunks('replaced', 5);
      const { xorb, file } = await putFile(store, chunks);
      const name = formatHash(xorb.xorbHash);
      await damage(store, `xorbs/${name.slice(0, 2)}/${name}`, (bytes) => bytes.subarray(0, 1000));
      const view = await again(t, store);
      t.false(await view.hasXorb(xorb.xorbHash));
      t.true(await view.putXorb(uploadOf(xorb)));
      t.true(await view.hasXorb(xorb.xorbHash));
      same(t, await readWhole(await again(t, store), file.fileHash), Buffer.concat(chunks));
    });
  }
}

/** What only a store that can be served must do. */
export function servableContract(name: string, options: StoreContractOptions): void {
  const define = options.skip === undefined ? test : test.skip;
  const suffix = options.skip === undefined ? '' : ` (skipped: ${options.skip})`;

  define(`${name}: a xorb is given out byte by byte, its footer included${suffix}`, async (t) => {
    const store = (await options.open(t)) as ServableStore;
    t.teardown(() => store[Symbol.asyncDispose]());
    const { xorb } = await putFile(store, someChunks('bytes', 30, 20_000));
    const size = await store.xorbSize(xorb.xorbHash);
    if (size === undefined) return t.fail('it has no size');
    const read = async (start: number, end: number) => {
      const pieces: Uint8Array[] = [];
      for await (const piece of store.readXorb(xorb.xorbHash, start, end)) pieces.push(piece);
      return Buffer.concat(pieces);
    };
    const whole = await read(0, size);
    t.is(whole.length, size);
    t.deepEqual(Buffer.from(decodeFooter(whole, size).xorbHash), Buffer.from(xorb.xorbHash));
    same(t, whole.subarray(0, xorb.storedBytes), Buffer.from(xorb.bytes.subarray(0, xorb.storedBytes)));
    same(t, await read(12_345, 400_001), whole.subarray(12_345, 400_001));
    same(t, await read(size - 4, size), whole.subarray(size - 4));
    t.is(await store.xorbSize(new Uint8Array(32).fill(3)), undefined);
  });

  define(`${name}: a chunk tells of its xorbs and of what was stored with them${suffix}`, async (t) => {
    const store = (await options.open(t)) as ServableStore;
    t.teardown(() => store[Symbol.asyncDispose]());
    const a = xorbOf(someChunks('dedup a', 4));
    const b = xorbOf(someChunks('dedup b', 4));
    await store.putXorb(uploadOf(a));
    await store.putXorb(uploadOf(b));
    await store.putShard(
      shardOf(
        [a, b],
        [
          fileOf([
            [a, 0, 4],
            [b, 0, 4],
          ]),
        ],
      ),
    );
    const found = await store.findXorbsOfChunk(a.hashes.subarray(0, 32));
    t.is(found[0] && formatHash(found[0].xorbHash), formatHash(a.xorbHash));
    t.deepEqual(
      new Set(found.map(({ xorbHash }) => formatHash(xorbHash))),
      new Set([a, b].map(({ xorbHash }) => formatHash(xorbHash))),
    );
    t.deepEqual(await store.findXorbsOfChunk(new Uint8Array(32).fill(1)), []);
  });
}

/** Ways in which an object may be damaged: cut short, longer, and bits flipped all over it. */
function damages(): ((bytes: Buffer) => Buffer)[] {
  const flips = [0, 0.02, 0.1, 0.3, 0.5, 0.7, 0.9, 0.97, 0.999].map((part) => (bytes: Buffer) => {
    const copy = Buffer.from(bytes);
    const at = Math.min(copy.length - 1, Math.floor(part * copy.length));
    copy[at] = (copy[at] as number) ^ 0x41;
    return copy;
  });
  return [
    ...flips,
    () => Buffer.alloc(0),
    (bytes) => bytes.subarray(0, 40),
    (bytes) => bytes.subarray(0, -1),
    (bytes) => bytes.subarray(0, bytes.length >> 1),
    (bytes) => Buffer.concat([bytes, Buffer.alloc(100)]),
    (bytes) => Buffer.alloc(bytes.length, 0xff),
  ];
}

async function readsRightOrFails(
  t: ExecutionContext,
  read: () => Promise<Buffer | undefined>,
  expected: Buffer,
): Promise<void> {
  try {
    const bytes = await read();
    // Proven by `read`: what is not right has thrown.
    t.true(bytes === undefined || bytes.equals(expected));
  } catch (error) {
    const isOurs = error instanceof Git2dbError || /did not come|another file/.test((error as Error).message);
    t.true(isOurs, `an error for a person, found ${(error as Error).stack}`);
  }
}
