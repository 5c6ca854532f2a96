import { readFileSync, writeFileSync } from 'node:fs';
import test from 'ava';
import fc from 'fast-check';
import { Fragmentation, LONGEST_MATCH } from '../../src/xet/dedup/fragmentation.ts';
import { parseHash } from '../../src/xet/hash/xet-hash.ts';
import {
  chunk,
  chunkRun,
  clean,
  createStore,
  randomBytes,
  type StoreSandbox,
} from '../helpers/store-sandbox.ts';

// Fragmentation control, by the numbers of the reference client

/** The rule in its plainest form: a list of ranges, of which the last 128 count. */
class Model {
  readonly ranges: number[] = [];
  #high = false;

  allows(match: number): boolean {
    if (this.ranges.length < 128) return true;
    const mean = this.ranges.slice(-128).reduce((sum, n) => sum + n, 0) / 128;
    if (mean >= (this.#high ? 8 : 4)) {
      this.#high = false;
      return true;
    }
    if (match >= mean) return true;
    this.#high = true;
    return false;
  }
}

test('a match is refused when it is shorter than the recent ranges are on average, and these are short', (t) => {
  const steps = fc.array(
    fc.record({
      length: fc.integer({ min: 1, max: 20 }),
      matches: fc.array(fc.nat({ max: 12 }), { maxLength: 3 }),
    }),
    { maxLength: 500, size: 'max' },
  );
  fc.assert(
    fc.property(steps, fc.integer({ min: 1, max: 20 }), (list, limit) => {
      const control = new Fragmentation();
      const model = new Model();
      for (const { length, matches } of list) {
        for (const match of matches) t.is(control.allows(match), model.allows(match));
        const chunks = 1 + (length % limit);
        model.ranges.push(chunks);
        control.startRange();
        for (let i = 1; i < chunks; i++) control.extendRange();
      }
    }),
    { numRuns: 60 },
  );
});

/** Control that has seen `count` ranges of `length` chunks. */
function after(count: number, length: number): Fragmentation {
  const control = new Fragmentation();
  addRanges(control, count, length);
  return control;
}

function addRanges(control: Fragmentation, count: number, length: number): void {
  for (let i = 0; i < count; i++) {
    control.startRange();
    for (let k = 1; k < length; k++) control.extendRange();
  }
}

test('nothing is refused before 128 ranges', (t) => {
  t.true(after(127, 3).allows(1));
  t.false(after(128, 3).allows(1));
  new Fragmentation().extendRange();
});

test('ranges of four chunks on average refuse nothing; after a refusal it takes eight', (t) => {
  const control = after(128, 3);
  t.true(control.allows(3));
  t.false(control.allows(2));
  addRanges(control, 128, 7);
  t.false(control.allows(6), 'still on guard');
  t.true(control.allows(7));
  addRanges(control, 128, 8);
  t.true(control.allows(1));
  addRanges(control, 128, 4);
  t.true(control.allows(1), 'calm again');
  addRanges(control, 128, 3);
  t.false(control.allows(1));
});

test('no match needs to be longer than the measured length to be allowed', (t) => {
  for (let length = 1; length < 12; length++) {
    const control = after(128, length);
    control.allows(0);
    t.true(control.allows(LONGEST_MATCH), `${length}`);
  }
});

// The terms of files

/** Terms as "own" or the number of the xorb, in the order of appearance, and the chunks. */
function termsOf(sandbox: StoreSandbox, hash: string): string[] {
  const seen: string[] = [];
  const terms = sandbox.open().findFile(parseHash(hash))?.terms ?? [];
  return terms.map(({ name, start, end }) => {
    if (!seen.includes(name)) seen.push(name);
    return `${seen.indexOf(name)}:${start}-${end}`;
  });
}

test('chunks that follow each other in one xorb make one term, known and new ones alike', async (t) => {
  const sandbox = createStore(t);
  await sandbox.add(chunkRun('k', 0, 10));
  const parts = [chunkRun('k', 2, 6), chunkRun('n', 0, 3), chunkRun('k', 6, 8), chunkRun('k', 0, 2)];
  const [file] = await sandbox.add(Buffer.concat(parts));
  t.deepEqual(termsOf(sandbox, file?.hash as string), ['0:2-6', '1:0-3', '0:6-8', '0:0-2']);
  t.is(file?.newBytes, 3 * 8192);
});

test('a file that repeats itself refers to itself', async (t) => {
  const sandbox = createStore(t);
  const block = chunkRun('r', 0, 4);
  const [file] = await sandbox.add(Buffer.concat([block, block, chunk('end'), block]));
  t.is(file?.newBytes, 5 * 8192);
  t.deepEqual(termsOf(sandbox, file?.hash as string), ['0:0-4', '0:0-5', '0:0-4']);
});

test('one chunk over and over is one chunk stored and terms of one', async (t) => {
  const sandbox = createStore(t);
  const [file] = await sandbox.add(Buffer.concat(Array.from({ length: 20 }, () => chunk('same'))));
  t.is(file?.newBytes, 8192);
  t.is(termsOf(sandbox, file?.hash as string).length, 20);
  t.true(sandbox.read(file?.hash as string).length === 20 * 8192);
});

test('files of one session refer to each other', async (t) => {
  const sandbox = createStore(t);
  const results = await sandbox.add(
    chunkRun('a', 0, 5),
    Buffer.concat([chunkRun('a', 1, 4), chunkRun('b', 0, 2)]),
    Buffer.concat([chunkRun('b', 0, 2), chunkRun('a', 0, 5)]),
  );
  t.deepEqual(
    results.map(({ newBytes }) => newBytes / 8192),
    [5, 2, 0],
  );
  t.deepEqual(termsOf(sandbox, results[2]?.hash as string), ['0:5-7', '0:0-5']);
});

test('a file that would dissolve into short ranges stores chunks again instead, and a long match is still taken', async (t) => {
  const sandbox = createStore(t);
  await sandbox.add(chunkRun('base', 0, 900));
  const parts: Buffer[] = [];
  for (let i = 0; i < 140; i++) parts.push(chunkRun('base', 5 * i, 5 * i + 3));
  // The mean is 3: a single chunk is refused, eight in a row are not.
  for (let i = 0; i < 20; i++) parts.push(chunk(`base${720 + 2 * i}`));
  parts.push(chunkRun('base', 800, 808));
  const bytes = Buffer.concat(parts);
  const [file] = await sandbox.add(bytes);
  t.is(file?.newBytes, 20 * 8192);
  const terms = termsOf(sandbox, file?.hash as string);
  t.is(terms.length, 140 + 1 + 1);
  t.deepEqual(terms.slice(-2), ['1:0-20', '0:800-808']);
  t.true(sandbox.read(file?.hash as string).equals(bytes));
});

test('to go on in the range at hand is always allowed', async (t) => {
  const sandbox = createStore(t);
  await sandbox.add(chunkRun('base', 0, 900));
  const parts: Buffer[] = [];
  for (let i = 0; i < 200; i++) parts.push(chunkRun('base', 4 * i, 4 * i + 3));
  const bytes = Buffer.concat(parts);
  // Slices and scans end in the middle of ranges, too.
  const uploader = sandbox.uploader();
  const upload = uploader.begin();
  for (let at = 0; at < bytes.length; at += 5000) upload.write(bytes.subarray(at, at + 5000));
  const { newBytes, hash } = upload.finish();
  await uploader.seal();
  t.is(newBytes, 0);
  t.is(termsOf(sandbox, hash).length, 200);
});

test('a place that a shard only claims is not taken', async (t) => {
  const sandbox = createStore(t);
  const bytes = chunkRun('claimed', 0, 6);
  const [file] = await sandbox.add(bytes);
  // A table whose places all point to the xorb's first chunk: damage, or somebody's mistake.
  const store = sandbox.open();
  const table = store.catalog.tables()[0];
  const { offsets, counts } = table ?? { offsets: undefined, counts: undefined };
  if (offsets === undefined || counts === undefined) return t.fail();
  const path = `${store.layout.catalog}/${table?.name}`;
  const damaged = readFileSync(path);
  for (let i = 0; i < counts.chunks; i++)
    damaged.writeUInt32LE(i % 2 === 0 ? 0 : 4e9, offsets.places + 32 * i + 28);
  writeFileSync(path, damaged);
  const other = Buffer.concat([bytes.subarray(8192), chunk('x')]);
  const uploader = sandbox.uploader();
  const result = clean(uploader, other);
  await uploader.seal();
  t.true(result.newBytes >= 8192);
  t.true(sandbox.read(result.hash).equals(other));
  t.true(sandbox.read(file?.hash as string).equals(bytes));
});

test('content of many kinds at once is what it was', async (t) => {
  const sandbox = createStore(t);
  const contents = [
    chunkRun('a', 0, 60),
    Buffer.concat([randomBytes(1, 100_000), chunkRun('a', 10, 50), randomBytes(2, 70_000)]),
    Buffer.concat([chunkRun('a', 30, 60), chunkRun('a', 0, 30)]),
    Buffer.alloc(1_000_000),
    Buffer.concat([Buffer.alloc(300_000), chunkRun('a', 5, 6), Buffer.alloc(300_000)]),
  ];
  const results = await sandbox.add(...contents, ...contents.toReversed());
  for (const [i, { hash }] of results.slice(0, 5).entries()) {
    t.true(sandbox.read(hash).equals(contents[i] as Buffer));
    t.is(results[9 - i]?.newBytes, 0);
  }
});
