import { createHash } from 'node:crypto';
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import test from 'ava';
import fc from 'fast-check';
import { Git2dbError } from '../../../src/xet/errors.ts';
import { formatHash } from '../../../src/xet/hash/xet-hash.ts';
import { missingFiles } from '../../../src/xet/transfer/missing.ts';
import { proveHeld } from '../../../src/xet/transfer/proof.ts';
import { StreamLimit } from '../../../src/xet/transfer/stream-limit.ts';
import type { WantedFile } from '../../../src/xet/transfer/transfer.ts';
import { chunk, chunkRun, hashOf, randomBytes } from '../../helpers/store-sandbox.ts';
import { codes, collect, createRig, outcomes, type Rig } from './rig.ts';

const MIB = 1 << 20;

/** Content of a file in the other store, by way of a new store here. */
async function readBack(rig: Rig, file: WantedFile): Promise<Buffer | undefined> {
  await rig.fetch([file]);
  return rig.target.tryRead(formatHash(file.hash));
}

/** Flips a byte in the record of a chunk of a file of the source. */
function damage(rig: Rig, file: WantedFile, chunkNumber: number): void {
  const [term] = rig.source.open().findFile(file.hash)!.terms;
  const source = term!.open();
  const bytes = readFileSync(source.path);
  const record = term!.start + chunkNumber;
  bytes[(source.recordEnds[record - 1] ?? 0) + 60]! ^= 1;
  writeFileSync(source.path, bytes);
}

test('many small files go in few xorbs and one shard, and come back', async (t) => {
  const rig = createRig(t);
  const contents = Array.from({ length: 300 }, (_, i) => randomBytes(`small ${i}`, 5000 + 41 * i));
  const files = await rig.add(...contents);
  const result = await rig.push(files);
  t.true(result.files.every(({ outcome }) => outcome === 'moved'));
  t.is(result.wireBytes, rig.remote.written);
  t.deepEqual(rig.remote.calls, { findFiles: 1, findChunks: 1, hasXorb: 1, putXorb: 1, putShard: 1 });
  for (const i of [0, 150, 299]) t.true((await readBack(rig, files[i]!))?.equals(contents[i]!));
});

test('what is there already, and what is empty, costs one question', async (t) => {
  const rig = createRig(t);
  const files = await rig.publish(randomBytes(1, 100_000));
  const result = await rig.push([...files, { hash: new Uint8Array(32), size: 0 }, ...files]);
  t.deepEqual(outcomes(result), ['present', 'present', 'present']);
  t.deepEqual(rig.remote.calls, { findFiles: 1 });
  t.deepEqual((await rig.push([])).files, []);
  t.deepEqual(rig.remote.calls, { findFiles: 1 });
  t.deepEqual(await missingFiles(rig.remote, [...files, { hash: new Uint8Array(32).fill(5) }]), [
    { hash: new Uint8Array(32).fill(5) },
  ]);
});

test('a second version sends little more than what is new, also after gc here and other packing there', async (t) => {
  const first = randomBytes('v1', 16 * MIB);
  const second = Buffer.concat([
    first.subarray(0, 5 * MIB),
    randomBytes('new', MIB),
    first.subarray(5 * MIB),
  ]);
  for (const isCollected of [false, true]) {
    const rig = createRig(t);
    await rig.publish(randomBytes('junk', 3 * MIB), first);
    const [, next] = await rig.add(randomBytes('gone', 9 * MIB), second);
    if (isCollected) await collect(rig.source.root, [hashOf(second)]);
    const { wireBytes } = await rig.push([next!]);
    t.true(wireBytes < MIB + 4 * 131072, `${wireBytes}`);
    t.true((await readBack(rig, next!))!.equals(second));
  }
});

test('chunks that files share are sent once, and files in pieces stay in few terms', async (t) => {
  const rig = createRig(t);
  const shared = chunkRun('shared', 0, 40);
  const pieces: Buffer[] = [];
  for (let i = 0; i < 150; i++) pieces.push(chunk(`shared${i % 40}`), chunkRun('m', 5 * i, 5 * i + 5));
  const contents = [
    Buffer.concat([chunk('a'), shared]),
    Buffer.concat([shared, chunk('b')]),
    Buffer.concat(Array.from({ length: 50 }, () => chunk('again'))),
    Buffer.concat(pieces),
  ];
  const files = await rig.add(...contents);
  await rig.push(files.slice(0, 3));
  t.is(
    [...rig.remote.xorbs.values()].reduce((sum, { footer }) => sum + footer.count, 0),
    43,
  );
  await rig.push(files);
  t.true(rig.remote.files.get(formatHash(files[3]!.hash))!.terms.length < 200);
  for (const [i, file] of files.entries()) t.true((await readBack(rig, file))!.equals(contents[i]!));
});

test('damaged or missing content here fails its own files and no others', async (t) => {
  const rig = createRig(t);
  const contents = [1, 2, 3, 4].map((seed) => chunkRun(`d${seed} `, 0, 20));
  const files = await rig.add(...contents);
  damage(rig, files[1]!, 7);
  damage(rig, files[2]!, 3);
  const missing = { hash: new Uint8Array(32).fill(7), size: 5 };
  const result = await rig.push([...files, missing]);
  t.deepEqual(outcomes(result), ['moved', 'failed', 'failed', 'moved', 'failed']);
  t.deepEqual(codes(result), [undefined, 'CONTENT_DAMAGED', 'CONTENT_DAMAGED', undefined, 'CONTENT_MISSING']);
  t.regex(result.files[1]!.error!.message, /xorb [0-9a-f]{64} is damaged here: chunk 27/);
  t.deepEqual([...rig.remote.files.keys()].sort(), [hashOf(contents[0]!), hashOf(contents[3]!)].sort());
  for (const i of [0, 3]) t.true((await readBack(rig, files[i]!))!.equals(contents[i]!));
});

test('a push that is cut off at any point is completed by the next, and no xorb is sent twice', async (t) => {
  // 150 MiB: three xorbs; the points are the calls of the first, whole push.
  const contents = [randomBytes('big', 130 * MIB), chunkRun('small', 0, 30), randomBytes('tail', 20 * MIB)];
  const rig = createRig(t);
  const files = await rig.add(...contents);
  let point = 0;
  await rig.push(files, {});
  const calls = Object.values(rig.remote.calls).reduce((sum, count) => sum + count, 0);
  const whole = rig.remote.written;
  for (let stop = 1; stop < calls; stop++) {
    rig.remote.xorbs.clear();
    rig.remote.files.clear();
    rig.remote.forgetCounts();
    point = 0;
    rig.remote.faults = {
      call: () => {
        if (++point > stop) throw new Git2dbError('NETWORK', 'the line is dead');
      },
    };
    const cut = await rig.push(files);
    t.true(codes(cut).every((code) => code === 'NETWORK'));
    // What was under way when the line died may still arrive.
    for (let before = -1; before !== rig.remote.written; await sleep(500)) before = rig.remote.written;
    const there = [...rig.remote.xorbs.values()].reduce((sum, { bytes }) => sum + bytes.length, 0);
    rig.remote.faults = {};
    rig.remote.forgetCounts();
    t.deepEqual(outcomes(await rig.push(files)), ['moved', 'moved', 'moved']);
    t.is(rig.remote.written, whole - there, `stopped before call ${stop + 1}`);
  }
});

test('a xorb that the other store has lost is sent after all', async (t) => {
  const rig = createRig(t);
  const first = chunkRun('v', 0, 30);
  await rig.publish(first);
  const second = Buffer.concat([first, chunk('new')]);
  const [next] = await rig.add(second);
  // It still says where the chunks were.
  const [name] = rig.remote.xorbs.keys();
  const lost = rig.remote.xorbs.get(name!)!;
  rig.remote.faults = {
    findChunks: () => {
      rig.remote.xorbs.delete(name!);
      return [{ at: 0, count: 30, xorbHash: lost.footer.xorbHash, start: 0 }];
    },
  };
  t.deepEqual(outcomes(await rig.push([next!])), ['moved']);
  rig.remote.faults = {};
  t.true((await readBack(rig, next!))!.equals(second));
  t.true(rig.remote.xorbs.has(name!), 'what else needs it is whole again, too');
});

test('a store that is wrong about where chunks are is not believed the second time', async (t) => {
  const rig = createRig(t);
  const contents = [chunkRun('w', 0, 20), chunkRun('x', 0, 20), chunkRun('y', 0, 20)];
  await rig.publish(chunkRun('other', 0, 64));
  const [xorb] = rig.remote.xorbs.values();
  const files = await rig.add(...contents);
  rig.remote.faults = {
    findChunks: () => [{ at: 25, count: 10, xorbHash: xorb!.footer.xorbHash, start: 3 }],
  };
  t.deepEqual(outcomes(await rig.push(files)), ['moved', 'moved', 'moved']);
  for (const [i, file] of files.entries()) t.true((await readBack(rig, file))!.equals(contents[i]!));
});

test('a refusal that stays is told for each file, and a dead store once for all', async (t) => {
  const rig = createRig(t);
  const files = await rig.add(chunkRun('r', 0, 5), chunkRun('s', 0, 5));
  rig.remote.faults = {
    call: (name) => {
      if (name === 'putShard') throw new Git2dbError('REMOTE_INVALID', 'no');
    },
  };
  t.deepEqual(codes(await rig.push(files)), ['REMOTE_INVALID', 'REMOTE_INVALID']);
  for (const code of ['AUTH_FAILED', 'REMOTE_FORBIDDEN', 'DISK_FULL', 'NETWORK'] as const) {
    rig.remote.faults = {
      call: (name) => {
        if (name === 'putXorb') throw new Git2dbError(code, 'no');
      },
    };
    rig.remote.xorbs.clear();
    t.deepEqual(codes(await rig.push(files)), [code, code]);
  }
});

test('a push that is stopped says so', async (t) => {
  const rig = createRig(t);
  const files = await rig.add(randomBytes(1, 3 * MIB));
  const stop = new AbortController();
  rig.remote.faults = { piece: () => stop.abort() };
  await t.throwsAsync(rig.push(files, { signal: stop.signal }), { name: 'AbortError' });
  t.is(rig.remote.xorbs.size, 0);
  t.is(rig.remote.files.size, 0);
});

test('the SHA-256 is registered when it is asked for, without sending content again', async (t) => {
  const rig = createRig(t);
  const contents = [randomBytes(1, 300_000), Buffer.from('second'), randomBytes(3, 70_000)];
  const files = await rig.publish(...contents);
  const sha256s = contents.map((bytes) => createHash('sha256').update(bytes).digest('hex'));
  const result = await rig.push(files, { withSha256: true });
  t.deepEqual(outcomes(result), ['moved', 'moved', 'moved']);
  t.is(result.wireBytes, 0);
  t.deepEqual(
    files.map(({ hash }) => rig.remote.files.get(formatHash(hash))!.sha256),
    sha256s,
  );
  rig.remote.forgetCounts();
  t.deepEqual(outcomes(await rig.push(files, { withSha256: true })), ['present', 'present', 'present']);
  t.deepEqual(rig.remote.calls, { findFiles: 1 });
});

test('content is proved to be held by its chunks, not by being told so', async (t) => {
  const rig = createRig(t);
  const [a, b, c] = await rig.publish(chunkRun('a', 0, 10), chunkRun('b', 0, 10), chunkRun('c', 0, 10));
  const files = [a!, b!, c!, { hash: new Uint8Array(32).fill(4), size: 3 }, { hash: new Uint8Array(32) }];
  // The other store has mixed up two files.
  rig.remote.files.set(formatHash(b!.hash), {
    ...rig.remote.files.get(formatHash(c!.hash))!,
    fileHash: b!.hash,
  });
  for (const showsFooters of [true, false]) {
    rig.remote.showsFooters = showsFooters;
    const doubts = await proveHeld(rig.source.open(), rig.remote, files);
    t.deepEqual(
      doubts.map((doubt) => doubt?.code),
      [undefined, 'CONTENT_MISSING', undefined, 'CONTENT_MISSING', undefined],
    );
  }
  for (const showsFooters of [true, false]) {
    rig.remote.showsFooters = showsFooters;
    rig.remote.xorbs.clear();
    const doubts = await proveHeld(rig.source.open(), rig.remote, [a!]);
    t.is(doubts[0]?.code, 'CONTENT_MISSING');
  }
});

test('uploads become more while that helps, and fewer when the network fails', async (t) => {
  let now = 0;
  const limit = new StreamLimit(() => now);
  t.is(limit.limit, 3);
  const run = async (count: number, msEach: number) => {
    for (let i = 0; i < count; i++) {
      await limit.acquire();
      now += msEach;
      limit.release(1000);
    }
  };
  await run(6, 100);
  t.is(limit.limit, 4);
  await run(8, 50);
  t.is(limit.limit, 5);
  await run(10, 50);
  t.is(limit.limit, 4, 'the fifth brought nothing');
  await limit.acquire();
  limit.release(0, true);
  t.is(limit.limit, 2);
  await limit.acquire();
  await limit.acquire();
  let isRunning = false;
  const waiting = limit.acquire().then(() => {
    isRunning = true;
  });
  await Promise.resolve();
  t.false(isRunning);
  limit.release(10);
  await waiting;
  t.true(isRunning);
});

test('whatever of the chunks is there, the file that arrives is the file that was sent', async (t) => {
  const pool = Array.from({ length: 24 }, (_, i) => chunk(`p${i}`, 8192));
  const content = fc.array(fc.integer({ min: 0, max: pool.length - 1 }), { maxLength: 40 });
  const property = fc.asyncProperty(
    fc.array(content, { maxLength: 3 }),
    fc.array(content, { minLength: 1, maxLength: 4 }),
    async (there, wanted) => {
      const rig = createRig(t);
      const concat = (list: readonly number[]) => Buffer.concat(list.map((i) => pool[i]!));
      if (there.length > 0) await rig.publish(...there.map(concat));
      const contents = wanted.map(concat);
      const files = await rig.add(...contents);
      const result = await rig.push(files);
      t.true(result.files.every(({ outcome }) => outcome !== 'failed'));
      await rig.fetch(files);
      for (const bytes of contents)
        if (bytes.length > 0) t.true(rig.target.tryRead(hashOf(bytes))!.equals(bytes));
      rmSync(rig.source.dir, { recursive: true });
      rmSync(rig.target.dir, { recursive: true });
    },
  );
  await fc.assert(property, { numRuns: 40 });
});
