import { createHash } from 'node:crypto';
import {
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import fc from 'fast-check';
import type { CompressionMode } from '../../src/xet/compress/scheme.ts';
import { formatHash, parseHash } from '../../src/xet/hash/xet-hash.ts';
import type { FileUpload } from '../../src/xet/file-upload.ts';
import type { Uploader } from '../../src/xet/upload.ts';
import { XorbBuilder } from '../../src/xet/xorb/builder.ts';
import { decodeChunkHeader } from '../../src/xet/xorb/format.ts';
import {
  addForeign,
  chunk,
  chunkEnds,
  chunkRun,
  chunksOf,
  clean,
  createStore,
  hashOf,
  randomBytes,
  type StoreSandbox,
  treeOf,
} from '../helpers/store-sandbox.ts';

const MIB = 1 << 20;
const STEP = MIB;
const WINDOW = 4 * MIB;
const PACKET = 65516;

/** Writes `bytes` in pieces of the sizes given, over and over, as a reader of packets does. */
function feed(upload: FileUpload, bytes: Uint8Array, sizes: readonly number[]): void {
  let at = 0;
  for (let i = 0; at < bytes.length; i++) {
    const part = bytes.subarray(at, at + Math.min(sizes[i % sizes.length] as number, 65520));
    const room = upload.room();
    if (room.overlay) {
      // A packet's header is read right before its content, and what stood there is put back.
      const before = room.bytes.slice(room.offset - 4, room.offset);
      room.bytes.fill(0x5a, room.offset - 4, room.offset);
      room.bytes.set(part, room.offset);
      room.bytes.set(before, room.offset - 4);
    } else {
      room.bytes.set(part, room.offset);
    }
    upload.advance(part.length);
    at += part.length;
  }
}

function cleanIn(uploader: Uploader, bytes: Uint8Array, sizes: readonly number[], sizeHint = 0) {
  const upload = uploader.begin(sizeHint);
  feed(upload, bytes, sizes);
  return upload.finish();
}

/** What a store weighs: every byte of every file in it. */
function sizeOf(root: string): number {
  let sum = 0;
  for (const name of readdirSync(root, { recursive: true }) as string[]) {
    const stat = statSync(join(root, name), { throwIfNoEntry: false });
    if (stat?.isFile() === true) sum += stat.size;
  }
  return sum;
}

// The pointer depends on the bytes alone

const pieces = fc.array(
  fc.oneof(
    fc.record({
      kind: fc.constant('random'),
      seed: fc.integer({ min: 0, max: 5 }),
      size: fc.nat({ max: 700_000 }),
    }),
    fc.record({ kind: fc.constant('zeros'), seed: fc.constant(0), size: fc.nat({ max: 500_000 }) }),
    fc.record({
      kind: fc.constant('chunks'),
      seed: fc.integer({ min: 0, max: 20 }),
      size: fc.nat({ max: 30 }),
    }),
  ),
  { maxLength: 6 },
);
const sliceSizes = fc.array(
  fc.oneof(fc.integer({ min: 1, max: 65520 }), fc.constantFrom(PACKET, 65520, 8192)),
  {
    minLength: 1,
    maxLength: 5,
  },
);

function assemble(parts: readonly { kind: string; seed: number; size: number }[]): Buffer {
  return Buffer.concat(
    parts.map(({ kind, seed, size }) => {
      if (kind === 'random') return randomBytes(seed, size);
      return kind === 'zeros' ? Buffer.alloc(size) : chunkRun('p', seed, seed + size);
    }),
  );
}

test('any content in any slices gives the pointer of its bytes, whatever is known already, and is read back', async (t) => {
  const sandbox = createStore(t);
  let uploader = sandbox.uploader();
  let round = 0;
  await fc.assert(
    fc.asyncProperty(pieces, sliceSizes, fc.boolean(), async (parts, sizes, large) => {
      const bytes = assemble(parts);
      const sliced = bytes.length > 500_000 ? sizes.map((size) => Math.max(size, 3000)) : sizes;
      const { hash, size } = cleanIn(uploader, bytes, sliced, large ? 64 * MIB : 0);
      t.is(hash, hashOf(bytes));
      t.is(size, bytes.length);
      if (++round % 4 === 0) {
        await uploader.seal();
        uploader = sandbox.uploader();
      }
      t.true(sandbox.read(hash).equals(bytes));
    }),
    { numRuns: 40 },
  );
  await uploader.seal();
});

test('sizes around every limit give the right pointer, new and known', async (t) => {
  const sandbox = createStore(t);
  const source = randomBytes('sizes', WINDOW + 200_000);
  const zeros = Buffer.alloc(600_000);
  const sizes = new Set([0, 1, 63, 64, 65, 8127, 8128, 8191, 8192, 8193, 131071, 131072, 131073, 262144]);
  for (const limit of [65520, STEP, STEP + 65520, WINDOW - 65520, WINDOW]) {
    for (const delta of [-1, 0, 1]) sizes.add(limit + delta);
  }
  for (let session = 0; session < 2; session++) {
    const uploader = sandbox.uploader();
    for (const size of sizes) {
      for (const base of [source, zeros]) {
        if (size > base.length) continue;
        const bytes = base.subarray(0, size);
        const expected = hashOf(bytes);
        const first = clean(uploader, bytes);
        t.is(first.hash, expected, `${size}`);
        t.is(cleanIn(uploader, bytes, [PACKET]).newBytes, 0);
        if (session === 1) t.is(first.newBytes, 0);
      }
    }
    await uploader.seal();
  }
});

test('content that switches between new and known, large enough for a second thread, gives the right pointer', async (t) => {
  const sandbox = createStore(t);
  const known = randomBytes('known', 7 * MIB);
  await sandbox.add(known);
  const fresh = (name: string, size: number) => randomBytes(`fresh ${name}`, size);
  const cases: readonly (readonly Buffer[])[] = [
    // new: ahead; known: back to predictions; new: ahead again
    [fresh('a', 5 * MIB), known, fresh('b', 5 * MIB)],
    [known, fresh('c', 5 * MIB), known.subarray(100_000, 300_000), fresh('d', 3 * MIB)],
    [fresh('e', 2 * MIB + 5), known, known, fresh('f', 10)],
    [known.subarray(0, 5 * MIB), fresh('g', 3 * MIB), known.subarray(2 * MIB)],
    // Enough to go round the ring of the second thread.
    [fresh('h', 21 * MIB), known],
    [fresh('i', 3 * MIB), Buffer.alloc(6 * MIB), fresh('j', 3 * MIB), Buffer.alloc(6 * MIB)],
  ];
  const uploader = sandbox.uploader();
  const hashes: string[] = [];
  for (const [i, parts] of cases.entries()) {
    const bytes = Buffer.concat(parts);
    const { hash } = cleanIn(uploader, bytes, i % 2 === 0 ? [PACKET] : [65520, 1000], 64 * MIB);
    t.is(hash, hashOf(bytes), `case ${i}`);
    hashes.push(hash);
  }
  await uploader.seal();
  for (const [i, parts] of cases.entries()) {
    t.true(sandbox.read(hashes[i] as string).equals(Buffer.concat(parts)), `case ${i}`);
  }
  const again = sandbox.uploader();
  for (const parts of cases) t.is(cleanIn(again, Buffer.concat(parts), [PACKET], 64 * MIB).newBytes, 0);
  await again.seal();
});

test('beyond 64 MiB the second thread is used without a hint', async (t) => {
  const sandbox = createStore(t);
  // Little is written: the same 9 MiB over and over, then 9 MiB more of new content.
  const block = randomBytes('block', 9 * MIB);
  const bytes = Buffer.concat([...Array.from({ length: 7 }, () => block), randomBytes('end', 9 * MIB)]);
  const uploader = sandbox.uploader();
  const { hash, newBytes } = cleanIn(uploader, bytes, [PACKET]);
  t.is(hash, hashOf(bytes));
  t.true(newBytes < 19 * MIB);
  await uploader.seal();
  t.true(sandbox.read(hash).equals(bytes));
});

// Predictions

/** Natural content whose chunks are of any length, and its chunk ends. */
const NATURAL = randomBytes('natural', 700_000);
const ENDS = chunkEnds(NATURAL);
const LAST = ENDS.at(-2) as number;
const ZEROS = Buffer.alloc(3 * 131072);

const variations: readonly (readonly [string, Buffer, Buffer])[] = [
  [
    'goes on after the last chunk of a known file',
    NATURAL,
    Buffer.concat([NATURAL, randomBytes(1, 200_000)]),
  ],
  ['goes on by one byte', NATURAL, Buffer.concat([NATURAL, Buffer.of(1)])],
  ['goes on by itself', NATURAL, Buffer.concat([NATURAL, NATURAL])],
  ['ends one byte earlier', NATURAL, NATURAL.subarray(0, -1)],
  ['ends with a chunk of the known file', NATURAL, NATURAL.subarray(0, LAST)],
  ['ends one byte after a chunk of the known file', NATURAL, NATURAL.subarray(0, LAST + 1)],
  ['ends one byte before a chunk of the known file does', NATURAL, NATURAL.subarray(0, LAST - 1)],
  ['has a byte in front', NATURAL, Buffer.concat([Buffer.of(7), NATURAL])],
  ['has lost its first byte', NATURAL, NATURAL.subarray(1)],
  ['has another byte in the middle', NATURAL, flipped(NATURAL, 350_000)],
  ['has another last byte', NATURAL, flipped(NATURAL, NATURAL.length - 1)],
  ['has another first byte', NATURAL, flipped(NATURAL, 0)],
  ['is the same', NATURAL, NATURAL],
  ['of longest chunks goes on', ZEROS, Buffer.alloc(5 * 131072 + 77)],
  ['of longest chunks ends with one', Buffer.alloc(3 * 131072 + 9), ZEROS],
  ['of longest chunks ends a byte after one', ZEROS, Buffer.alloc(3 * 131072 + 1)],
  ['of longest chunks ends a byte before one', ZEROS, Buffer.alloc(3 * 131072 - 1)],
  ['of longest chunks has something else behind', ZEROS, Buffer.concat([ZEROS, NATURAL])],
  ['of shortest chunks goes on', chunkRun('s', 0, 9), Buffer.concat([chunkRun('s', 0, 9), NATURAL])],
  ['has a shorter last chunk than can be in the middle', NATURAL.subarray(0, LAST + 100), NATURAL],
  ['starts with a short file that is known', NATURAL.subarray(0, 100), NATURAL],
];

function flipped(bytes: Buffer, at: number): Buffer {
  const copy = Buffer.from(bytes);
  copy[at] = ~(copy[at] as number) & 255;
  return copy;
}

for (const [what, known, bytes] of variations) {
  test(`a file that ${what} gets the pointer of its bytes`, async (t) => {
    const sandbox = createStore(t);
    const expected = hashOf(bytes);
    const first = sandbox.uploader();
    clean(first, known);
    t.is(clean(first, bytes).hash, expected, 'in the same session');
    first.store.close();
    const other = createStore(t);
    await other.add(known);
    for (const sizes of [[65520], [PACKET, 777], [10_000]]) {
      const uploader = other.uploader();
      const { hash } = cleanIn(uploader, bytes, sizes);
      t.is(hash, expected, `in a later session, in slices of ${sizes}`);
      await uploader.seal();
      t.true(other.read(hash).equals(bytes));
    }
    t.is(sandbox.tryRead(expected)?.equals(bytes), true);
  });
}

/** A place in random content where a chunk ends that is neither a very short nor a longest one. */
function ordinaryBoundary(seed: string): { bytes: Buffer; start: number; end: number } {
  for (let i = 0; ; i++) {
    const bytes = randomBytes(`${seed} ${i}`, 3 * MIB);
    let start = 0;
    for (const end of chunkEnds(bytes)) {
      // The chunk is open when the first STEP is scanned.
      if (end - start > 20_000 && end - start < 120_000 && start < STEP && end > STEP + 200)
        return { bytes, start, end };
      start = end;
    }
  }
}

test('a chunk that was scanned in part before a prediction was refused has its boundary where it belongs', async (t) => {
  const { bytes, end } = ordinaryBoundary('refused');
  for (const [before, scanned] of [
    [10, 20],
    [1, 60],
    [30, 31],
    [60, 63],
  ] as const) {
    const sandbox = createStore(t);
    // Known: all up to shortly before the boundary, so that its last chunk ends at no boundary.
    const known = bytes.subarray(0, end - before);
    await sandbox.add(known);
    const longer = bytes.subarray(0, end + 400_000);
    const uploader = sandbox.uploader();
    const upload = uploader.begin();
    // The scan stops even earlier, within the 64 bytes that decide; then the prediction is tried.
    const head = longer.subarray(0, end - scanned);
    const step = STEP - 1;
    feed(upload, head.subarray(0, step), [65520]);
    feed(upload, head.subarray(step), [head.length - step]);
    feed(upload, longer.subarray(head.length), [65520]);
    t.is(upload.finish().hash, hashOf(longer), `${before} bytes, ${scanned} scanned`);
    await uploader.seal();
  }
});

test('a known file that is cut or continued anywhere, in any slices, gets the pointer of its bytes', async (t) => {
  const known = randomBytes('cut anywhere', 3 * MIB);
  const sandbox = createStore(t);
  await sandbox.add(known, known.subarray(0, 2_500_000), known.subarray(0, 1_200_000));
  const uploader = sandbox.uploader();
  fc.assert(
    fc.property(
      fc.integer({ min: 0, max: known.length }),
      fc.nat({ max: 200_000 }),
      fc.nat({ max: known.length }),
      fc.array(fc.integer({ min: 20_000, max: 65520 }), { minLength: 1, maxLength: 4 }),
      (cut, added, from, sizes) => {
        const bytes = Buffer.concat([
          known.subarray(0, cut),
          randomBytes(cut, added),
          known.subarray(from, from + MIB),
        ]);
        t.is(cleanIn(uploader, bytes, sizes).hash, hashOf(bytes));
      },
    ),
    { numRuns: 25 },
  );
  await uploader.seal();
});

test('chunks of a xorb that others have cut are used, and never predicted from', async (t) => {
  // Chunks of the rule, more than are scanned at once, and then three of them in one.
  const bytes = chunkRun('foreign', 0, 150);
  const parts = chunksOf(bytes.subarray(0, 140 * 8192));
  parts.push(bytes.subarray(140 * 8192, 143 * 8192), bytes.subarray(143 * 8192, 144 * 8192));
  const results: string[] = [];
  for (const marked of [true, false]) {
    const sandbox = createStore(t);
    const builder = new XorbBuilder();
    for (const part of parts) builder.add(part, undefined, 'none');
    const xorb = builder.build({ footer: true });
    addForeign(sandbox, xorb);
    if (marked) {
      mkdirSync(join(sandbox.root, 'irregular'));
      writeFileSync(join(sandbox.root, 'irregular', formatHash(xorb.xorbHash)), '');
    }
    const uploader = sandbox.uploader();
    const result = clean(uploader, bytes);
    await uploader.seal();
    results.push(result.hash);
    t.true(sandbox.read(result.hash).equals(bytes));
    if (marked) t.is(result.newBytes, 9 * 8192);
  }
  t.is(results[0], hashOf(bytes));
  t.not(results[1], hashOf(bytes), 'or else this test proves nothing');
});

// Aborting

test('a file that is aborted anywhere leaves nothing, and the next ones are right', async (t) => {
  const known = randomBytes('abort known', 2 * MIB);
  await fc.assert(
    fc.asyncProperty(
      fc.array(
        fc.record({
          known: fc.nat({ max: 2 * MIB }),
          fresh: fc.nat({ max: 6 * MIB }),
          seed: fc.nat({ max: 50 }),
          large: fc.boolean(),
          /** Bytes after which it is aborted; beyond its end: it is finished. */
          abortAt: fc.nat({ max: 9 * MIB }),
          twice: fc.boolean(),
        }),
        { minLength: 1, maxLength: 3 },
      ),
      async (files) => {
        const sandbox = createStore(t);
        await sandbox.add(known);
        const uploader = sandbox.uploader();
        const stored = new Map<string, Buffer>();
        for (const file of files) {
          const bytes = Buffer.concat([randomBytes(file.seed, file.fresh), known.subarray(0, file.known)]);
          const upload = uploader.begin(file.large ? 64 * MIB : 0);
          feed(upload, bytes.subarray(0, file.abortAt), [PACKET]);
          if (file.abortAt < bytes.length) {
            upload.abort();
            if (file.twice) upload.abort();
          } else {
            const { hash } = upload.finish();
            t.is(hash, hashOf(bytes));
            stored.set(hash, bytes);
          }
        }
        await uploader.seal();
        t.deepEqual(sandbox.list('incoming'), []);
        for (const [hash, bytes] of stored) t.true(sandbox.read(hash).equals(bytes));
        // Nothing but what these files and the known one need.
        const alone = createStore(t);
        await alone.add(known);
        const direct = alone.uploader();
        for (const bytes of stored.values()) clean(direct, bytes);
        await direct.seal();
        t.deepEqual(treeOf(sandbox.root, ['catalog', 'shards']), treeOf(alone.root, ['catalog', 'shards']));
      },
    ),
    { numRuns: 12 },
  );
});

test('a file is no longer than its pointer, when it is small: its content can be looked at before it ends', (t) => {
  const sandbox = createStore(t);
  const uploader = sandbox.uploader();
  const upload = uploader.begin();
  t.deepEqual(upload.head(1024), new Uint8Array(0));
  upload.write(Buffer.from('{"version"'));
  t.deepEqual(Buffer.from(upload.head(1024) as Uint8Array), Buffer.from('{"version"'));
  upload.write(randomBytes(1, 2000));
  t.is(upload.head(1024), undefined);
  t.is(upload.size, 2010);
  upload.abort();
  t.deepEqual(sandbox.list('incoming'), [], 'nothing was opened for it');
});

// Growth

test('cleaning known content again adds no byte, however fragmented it is', async (t) => {
  const sandbox = createStore(t);
  const base = chunkRun('base', 0, 900);
  // Many ranges of three chunks, then single ones, which are refused.
  const scattered: Buffer[] = [];
  for (let i = 0; i < 900; i += 5) for (let k = 0; k < 3; k++) scattered.push(chunk(`base${i + k}`));
  for (let i = 898; i > 500; i -= 7) scattered.push(chunk(`base${i}`));
  const fragmented = Buffer.concat(scattered);
  await sandbox.add(base);
  const [first] = await sandbox.add(fragmented);
  t.true((first?.newBytes as number) > 0, 'some matches were refused');
  t.true((first?.newBytes as number) < fragmented.length);
  const before = treeOf(sandbox.root);
  for (let round = 0; round < 2; round++) {
    const uploader = sandbox.uploader();
    for (const bytes of [fragmented, base, fragmented, Buffer.concat([base]), base.subarray(0, 0)]) {
      t.is(clean(uploader, bytes).hash, hashOf(bytes));
    }
    t.is(clean(uploader, fragmented).newBytes, 0);
    // The empty file is new, and no bytes.
    await uploader.seal();
    const after = treeOf(sandbox.root, ['shards', 'catalog']);
    for (const path of Object.keys(after)) t.is(after[path], before[path], path);
  }
  t.true(sandbox.read(first?.hash as string).equals(fragmented));
});

test('a session of known files only leaves every byte and name of the store as it was', async (t) => {
  const sandbox = createStore(t);
  const contents = [chunkRun('k', 0, 40), randomBytes('k', 900_000), Buffer.from('small')];
  await sandbox.add(...contents);
  const before = treeOf(sandbox.root);
  for (const result of await sandbox.add(...contents)) t.is(result.newBytes, 0);
  t.deepEqual(treeOf(sandbox.root), before);
});

test('spliced content is stored once: the second time nothing is new', async (t) => {
  const base = randomBytes('splice', 2 * MIB);
  const sandbox = createStore(t);
  await sandbox.add(base);
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.tuple(fc.nat({ max: base.length }), fc.nat({ max: 50_000 }), fc.nat({ max: 30_000 })), {
        minLength: 1,
        maxLength: 6,
      }),
      async (splices) => {
        let bytes = base;
        for (const [at, removed, added] of splices) {
          bytes = Buffer.concat([
            bytes.subarray(0, at),
            randomBytes(`${at} ${added}`, added),
            bytes.subarray(at + removed),
          ]);
        }
        const [first] = await sandbox.add(bytes);
        t.is(first?.hash, hashOf(bytes));
        // Two chunks at each end of a splice, and what was added.
        const most = splices.reduce((sum, [, , added]) => sum + added + 6 * 131072, 0);
        t.true((first?.newBytes as number) <= most);
        const size = sizeOf(sandbox.root);
        const [second] = await sandbox.add(bytes);
        t.is(second?.newBytes, 0);
        t.is(sizeOf(sandbox.root), size);
        t.true(sandbox.read(first?.hash as string).equals(bytes));
      },
    ),
    { numRuns: 12 },
  );
});

test('eight small files share one xorb, and each is read back', async (t) => {
  const sandbox = createStore(t);
  const contents = Array.from({ length: 8 }, (_, i) => randomBytes(`small ${i}`, 1000 * (i + 1)));
  const results = await sandbox.add(...contents);
  t.is(sandbox.list('xorbs').flatMap((name) => sandbox.list('xorbs', name)).length, 1);
  t.is(sandbox.list('shards').length, 1);
  for (const [i, { hash }] of results.entries()) t.true(sandbox.read(hash).equals(contents[i] as Buffer));
});

// Which place of a chunk

/** The xorbs that a file's terms refer to, by the first file that brought them. */
function xorbsOf(sandbox: StoreSandbox, hash: string): string[] {
  return (
    sandbox
      .open()
      .findFile(parseHash(hash))
      ?.terms.map((term) => `${term.name} ${term.start}-${term.end}`) ?? []
  );
}

test('of several places of a chunk the one that goes on is taken, else the newest', async (t) => {
  const sandbox = createStore(t);
  const run = (names: string) => Buffer.concat([...names].map((name) => chunk(name)));
  const [old] = await sandbox.add(run('abcd'));
  const first = xorbsOf(sandbox, old?.hash as string)[0]?.split(' ')[0] as string;
  // The same chunks once more, since the first xorb is not to be had.
  const path = sandbox.open().layout.xorb(first);
  renameSync(path, `${path}.away`);
  const [later] = await sandbox.add(run('xbcy'));
  const second = xorbsOf(sandbox, later?.hash as string)[0]?.split(' ')[0] as string;
  renameSync(`${path}.away`, path);
  t.not(first, second);
  const [goesOn, alsoGoesOn, newest, both] = await sandbox.add(
    run('abc'),
    run('xbc'),
    run('cq'),
    run('abcyd'),
  );
  t.deepEqual(xorbsOf(sandbox, goesOn?.hash as string), [`${first} 0-3`]);
  t.deepEqual(xorbsOf(sandbox, alsoGoesOn?.hash as string), [`${second} 0-3`]);
  t.is(xorbsOf(sandbox, newest?.hash as string)[0], `${second} 2-3`);
  t.deepEqual(xorbsOf(sandbox, both?.hash as string), [`${first} 0-3`, `${second} 3-4`, `${first} 3-4`]);
});

// What cannot be relied on is stored again

function onlyXorb(sandbox: StoreSandbox): string {
  const [directory] = sandbox.list('xorbs');
  return join(
    sandbox.root,
    'xorbs',
    directory as string,
    sandbox.list('xorbs', directory as string)[0] as string,
  );
}

for (const [what, damage] of [
  ['missing', (path: string) => rmSync(path)],
  ['cut short', (path: string) => truncateSync(path, statSync(path).size - 10)],
  ['empty', (path: string) => truncateSync(path, 0)],
  [
    'overwritten in its footer',
    (path: string) => {
      const bytes = readFileSync(path);
      bytes.fill(0, bytes.length - 60, bytes.length - 20);
      writeFileSync(path, bytes);
    },
  ],
  [
    'in quarantine',
    (path: string, root: string) => {
      mkdirSync(join(root, 'quarantine'));
      renameSync(path, join(root, 'quarantine', path.slice(-64)));
    },
  ],
  [
    'put aside by gc',
    (path: string, root: string) => {
      mkdirSync(join(root, 'trash'));
      renameSync(path, join(root, 'trash', path.slice(-64)));
    },
  ],
] as const) {
  test(`when a xorb is ${what}, adding its files again stores them again`, async (t) => {
    const sandbox = createStore(t);
    const bytes = chunkRun('again', 0, 30);
    const longer = Buffer.concat([bytes, chunkRun('new', 0, 2)]);
    const [file] = await sandbox.add(bytes);
    damage(onlyXorb(sandbox), sandbox.root);
    const results = await sandbox.add(bytes, longer);
    rmSync(join(sandbox.root, 'trash'), { recursive: true, force: true });
    t.is(results[0]?.hash, file?.hash);
    t.is(results[0]?.newBytes, bytes.length);
    t.is(results[1]?.newBytes, 2 * 8192);
    t.true(sandbox.read(file?.hash as string).equals(bytes));
    t.true(sandbox.read(results[1]?.hash as string).equals(longer));
  });
}

test('content that another process has acknowledged but not sealed is stored again, for that may never be sealed', async (t) => {
  const sandbox = createStore(t);
  const child = await sandbox.process();
  const bytes = chunkRun('theirs', 0, 5);
  const theirs = await child.add(bytes);
  const [ours] = await sandbox.add(bytes);
  t.deepEqual([ours?.hash, ours?.newBytes], [theirs.hash, bytes.length]);
  await child.kill();
  for (const name of sandbox.list('incoming'))
    rmSync(join(sandbox.root, 'incoming', name), { recursive: true });
  t.true(sandbox.read(theirs.hash).equals(bytes));
});

// Compression

const TEXT = Buffer.from(
  Array.from({ length: 30_000 }, (_, i) => `line ${i} of a log file, ${i % 7} warnings\n`).join(''),
);

for (const mode of ['auto', 'none', 'lz4', 'bg4-lz4'] as const satisfies readonly CompressionMode[]) {
  test(`compression ${mode} changes no pointer, and is undone`, async (t) => {
    const sandbox = createStore(t);
    const floats = Buffer.from(Float32Array.from({ length: 100_000 }, (_, i) => Math.sin(i)).buffer);
    const contents = [TEXT, randomBytes('raw', 600_000), floats, Buffer.alloc(400_000), Buffer.from('a')];
    const uploader = sandbox.uploader({ compression: mode });
    for (const bytes of contents) {
      const { hash } = clean(uploader, bytes);
      t.is(hash, hashOf(bytes));
      t.true(sandbox.read(hash).equals(bytes), 'before the seal');
    }
    await uploader.seal();
    const schemes = new Set<number>();
    const stored = readFileSync(onlyXorb(sandbox));
    for (let at = 0; stored.toString('latin1', at, at + 7) !== 'XETBLOB'; ) {
      const { scheme, storedLength } = decodeChunkHeader(stored, at);
      schemes.add(scheme);
      at += 8 + storedLength;
    }
    const expected = { auto: [0, 1], none: [0], lz4: [0, 1], 'bg4-lz4': [0, 2] }[mode];
    t.deepEqual([...schemes].sort(), expected);
    for (const bytes of contents) t.true(sandbox.read(hashOf(bytes)).equals(bytes), 'after the seal');
  });
}

test('the same content under another compression is known', async (t) => {
  const sandbox = createStore(t);
  for (const [i, mode] of (['lz4', 'none', 'bg4-lz4'] as const).entries()) {
    const uploader = sandbox.uploader({ compression: mode });
    t.is(clean(uploader, TEXT).newBytes > 0, i === 0);
    await uploader.seal();
  }
  t.true(sandbox.read(hashOf(TEXT)).equals(TEXT));
});

test('kernels in plain JavaScript store the same bytes', async (t) => {
  const trees: Record<string, string>[] = [];
  for (const kernels of [{}, { scan: 'js', blake3: 'js' }] as const) {
    const sandbox = createStore(t);
    const uploader = sandbox.uploader({ kernels });
    clean(uploader, randomBytes('kernels', 3 * MIB), 64 * MIB);
    await uploader.seal();
    trees.push(treeOf(sandbox.root, ['shards', 'catalog']));
  }
  t.deepEqual(trees[0], trees[1]);
});

test('the helpers of these tests make the chunks they promise', (t) => {
  for (const prefix of ['s', 'base', 'k', 'p', 'again', 'foreign']) {
    const bytes = chunkRun(prefix, 0, 40);
    t.is(chunksOf(bytes).length, 40, prefix);
  }
  t.is(createHash('sha256').update(randomBytes(1, 10)).digest('hex').length, 64);
});
