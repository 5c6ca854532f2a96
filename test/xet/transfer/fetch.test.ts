import { readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import fc from 'fast-check';
import { Git2dbError } from '../../../src/xet/errors.ts';
import { formatHash, hashesEqual, parseHash } from '../../../src/xet/hash/xet-hash.ts';
import type { FileOutcome, TransferEvent } from '../../../src/xet/transfer/transfer.ts';
import {
  chunk,
  chunkRun,
  createStore,
  hashOf,
  injectFault,
  randomBytes,
  systemError,
} from '../../helpers/store-sandbox.ts';
import { codes, collect, createRig, outcomes } from './rig.ts';

const MIB = 1 << 20;

test('files come whole, with few questions for many of them, and are sealed at the end', async (t) => {
  const rig = createRig(t);
  const contents = Array.from({ length: 300 }, (_, i) => randomBytes(`small ${i}`, 9000 + 37 * i));
  const files = await rig.publish(...contents);
  const told: FileOutcome[] = [];
  const events: TransferEvent[] = [];
  const result = await rig.fetch(files, {
    onFile: (file) => told.push(file),
    onProgress: (event) => events.push(event),
  });
  t.true(result.files.every(({ outcome }) => outcome === 'moved'));
  t.is(
    result.contentBytes,
    contents.reduce((sum, { length }) => sum + length, 0),
  );
  t.is(result.wireBytes, rig.remote.read);
  t.deepEqual(rig.remote.calls, { findFiles: 1, readFooter: 1, readRecords: 1 });
  for (const [i, file] of files.entries())
    t.true(rig.target.tryRead(formatHash(file.hash))?.equals(contents[i]!));
  t.deepEqual(
    told.map(({ hash }) => formatHash(hash)).sort(),
    files.map(({ hash }) => formatHash(hash)).sort(),
  );
  const last = events.findLast((event) => event.kind === 'bytes');
  t.like(last, { bytes: result.contentBytes, total: result.contentBytes, wireBytes: result.wireBytes });
  t.deepEqual(rig.target.list('incoming'), []);
});

test('a file can be read by others as soon as it is told of, while the rest is under way', async (t) => {
  const rig = createRig(t);
  const contents = [randomBytes('a', 300_000), randomBytes('b', 300_000)];
  const files = await rig.publish(...contents);
  const readable: (boolean | undefined)[] = [];
  await rig.fetch(files, {
    onFile: ({ hash }) => {
      const content = contents[files.findIndex((file) => file.hash === hash)]!;
      readable.push(rig.target.tryRead(formatHash(hash))?.equals(content));
    },
  });
  t.deepEqual(readable, [true, true]);
});

test('what is complete here costs no question', async (t) => {
  const rig = createRig(t);
  const files = await rig.publish(randomBytes(1, 200_000), Buffer.from('one chunk'));
  await rig.fetch(files);
  rig.remote.forgetCounts();
  t.deepEqual(outcomes(await rig.fetch([...files, { hash: new Uint8Array(32), size: 0 }])), [
    'present',
    'present',
    'present',
  ]);
  t.deepEqual(rig.remote.calls, {});
  t.deepEqual((await rig.fetch([])).files, []);
  const empty = createStore(t);
  t.deepEqual(empty.list(), [], 'and a store that nothing was fetched into is not made');
});

test('a second version brings little more than what is new, also after gc here and there', async (t) => {
  const rig = createRig(t);
  const first = randomBytes('v1', 16 * MIB);
  const second = Buffer.concat([
    first.subarray(0, 5 * MIB),
    randomBytes('new', MIB),
    first.subarray(5 * MIB),
  ]);
  const junk = randomBytes('junk', 3 * MIB);
  const [old, , next] = await rig.publish(first, junk, second);
  await rig.fetch([old!]);
  rig.remote.forgetCounts();
  const limit = MIB + 4 * 131072;
  t.true((await rig.fetch([next!])).wireBytes < limit);
  t.true(rig.target.tryRead(formatHash(next!.hash))!.equals(second));

  // Here: the first version moves to other xorbs, when what it shared them with goes.
  const here = createRig(t);
  await here.target.add(randomBytes('gone', 9 * MIB), first);
  await collect(here.target.root, [hashOf(first)]);
  for (const [name, xorb] of rig.remote.xorbs) here.remote.xorbs.set(name, xorb);
  for (const [name, file] of rig.remote.files) here.remote.files.set(name, file);
  t.true((await here.fetch([next!])).wireBytes < limit);
  t.true(here.target.tryRead(formatHash(next!.hash))!.equals(second));

  // There: the same chunks in xorbs that were never seen here.
  const there = createRig(t);
  await there.target.add(first);
  await there.publish(junk, randomBytes('other', 2 * MIB), second);
  t.true((await there.fetch([next!])).wireBytes < limit);
  t.true(there.target.tryRead(formatHash(next!.hash))!.equals(second));
});

test('each chunk that files share comes once, also where the other store shows no chunk lists', async (t) => {
  for (const showsFooters of [true, false]) {
    const rig = createRig(t);
    const shared = chunkRun('shared', 0, 40);
    const contents = [
      Buffer.concat([chunk('a'), shared]),
      Buffer.concat([shared, chunk('b')]),
      Buffer.concat([chunk('c'), shared.subarray(0, 10 * 8192), chunk('c'), shared]),
      Buffer.concat(Array.from({ length: 50 }, () => chunk('again'))),
    ];
    const files = await rig.publish(...contents);
    rig.remote.showsFooters = showsFooters;
    const result = await rig.fetch(files);
    t.deepEqual(outcomes(result), ['moved', 'moved', 'moved', 'moved']);
    t.is(new Set(rig.remote.given).size, rig.remote.given.length, 'nothing twice');
    t.is(rig.remote.given.length, 44);
    for (const content of contents) t.true(rig.target.tryRead(hashOf(content))!.equals(content));
  }
});

test('where there are no chunk lists, what was read once is known, and a second version brings only what is new', async (t) => {
  const rig = createRig(t);
  const first = randomBytes('v1', 6 * MIB);
  const second = Buffer.concat([
    first.subarray(0, 2 * MIB),
    randomBytes('new', MIB),
    first.subarray(2 * MIB),
  ]);
  const [, old] = await rig.publish(randomBytes('junk', 3 * MIB), first);
  rig.remote.showsFooters = false;
  await rig.fetch([old!]);
  const [next] = await rig.publish(second);
  t.true((await rig.fetch([next!])).wireBytes < MIB + 4 * 131072);
  t.true(rig.target.tryRead(formatHash(next!.hash))!.equals(second));
  // What is kept of that may be wrong in any way: it is not believed, and mended.
  const third = Buffer.concat([second, randomBytes('third', 100_000)]);
  const [last] = await rig.publish(third);
  for (const ab of rig.target.list('learned')) {
    for (const name of rig.target.list('learned', ab)) {
      const path = join(rig.target.root, 'learned', ab, name);
      const bytes = readFileSync(path);
      for (let at = 0; at + 36 <= bytes.length; at += 72) bytes.copy(bytes, at + 4, 4, 36);
      writeFileSync(path, Buffer.concat([bytes, Buffer.from('torn')]));
    }
  }
  t.deepEqual(outcomes(await rig.fetch([last!])), ['moved']);
  t.true(rig.target.tryRead(formatHash(last!.hash))!.equals(third));
});

test('a xorb that is here under its name is not asked for where there are no chunk lists', async (t) => {
  const rig = createRig(t);
  const first = randomBytes(1, 2 * MIB);
  const [old] = await rig.publish(first);
  await rig.fetch([old!]);
  rmSync(join(rig.target.root, 'learned'), { recursive: true, force: true });
  const second = Buffer.concat([first, randomBytes(2, 100_000)]);
  const [next] = await rig.publish(second);
  rig.remote.showsFooters = false;
  t.true((await rig.fetch([next!])).wireBytes < 400_000);
  t.true(rig.target.tryRead(formatHash(next!.hash))!.equals(second));
});

test('a file that is not there, or has another size, fails alone and is named', async (t) => {
  const rig = createRig(t);
  const [good, other] = await rig.publish(randomBytes(1, 100_000), randomBytes(2, 100_000));
  const missing = { hash: new Uint8Array(32).fill(7), size: 9 };
  const result = await rig.fetch([missing, good!, { hash: other!.hash, size: 99_999 }]);
  t.deepEqual(outcomes(result), ['failed', 'moved', 'failed']);
  t.deepEqual(codes(result), ['CONTENT_MISSING', undefined, 'CONTENT_DAMAGED']);
  t.true(result.files[0]!.error!.message.includes(formatHash(missing.hash)));
});

/** Ways in which another store may be wrong about one of three files, and the error that follows. */
const LIES: Record<string, (rig: ReturnType<typeof createRig>, victim: string) => readonly string[]> = {
  'a flipped byte in a record': (rig, victim) => {
    const { xorb } = placeOf(rig, victim);
    const start = placeOf(rig, victim).offset;
    xorb.bytes = Buffer.from(xorb.bytes);
    xorb.bytes[start + 100]! ^= 1;
    return ['CONTENT_DAMAGED'];
  },
  'a record header with an impossible length': (rig, victim) => {
    const { xorb, offset } = placeOf(rig, victim);
    xorb.bytes = Buffer.from(xorb.bytes);
    xorb.bytes.fill(0xff, offset + 1, offset + 4);
    return ['REMOTE_INVALID'];
  },
  'a term that is longer than it says': (rig, victim) => {
    const file = rig.remote.files.get(victim)!;
    const terms = file.terms.map((term) => ({ ...term, rawBytes: term.rawBytes - 1 }));
    rig.remote.files.set(victim, { ...file, terms, size: file.size - 1 });
    return ['REMOTE_INVALID'];
  },
  'chunks of another file': (rig, victim) => {
    const file = rig.remote.files.get(victim)!;
    const other = [...rig.remote.files.values()].find((one) => one !== file && one.size === file.size)!;
    rig.remote.files.set(victim, { ...file, terms: other.terms });
    return ['REMOTE_INVALID', 'CONTENT_DAMAGED'];
  },
  'a description of another file': (rig, victim) => {
    const file = rig.remote.files.get(victim)!;
    const other = [...rig.remote.files.values()].find((one) => one !== file)!;
    rig.remote.files.set(victim, other);
    return ['REMOTE_INVALID'];
  },
  'a xorb that is gone': (rig, victim) => {
    const file = rig.remote.files.get(victim)!;
    const terms = file.terms.map((term) => ({ ...term, xorbHash: new Uint8Array(32).fill(9) }));
    rig.remote.files.set(victim, { ...file, terms });
    return ['CONTENT_MISSING'];
  },
  'terms beyond all limits': (rig, victim) => {
    const file = rig.remote.files.get(victim)!;
    const terms = file.terms.map((term) => ({ ...term, end: 0xffffffff }));
    rig.remote.files.set(victim, { ...file, terms });
    return ['REMOTE_INVALID'];
  },
};

function placeOf(rig: ReturnType<typeof createRig>, victim: string) {
  const [term] = rig.remote.files.get(victim)!.terms;
  const xorb = rig.remote.xorbs.get(formatHash(term!.xorbHash))!;
  return { xorb, offset: xorb.footer.recordEnds[term!.start - 1] ?? 0 };
}

for (const [lie, tell] of Object.entries(LIES)) {
  test(`of three files one fails for ${lie}, and nothing of it is stored as that file`, async (t) => {
    for (const showsFooters of [true, false]) {
      const rig = createRig(t);
      const contents = [1, 2, 3].map((seed) => chunkRun(`lie ${seed} `, 0, 9));
      const files = await rig.publish(...contents);
      const expected = tell(rig, hashOf(contents[1]!));
      rig.remote.showsFooters = showsFooters;
      const result = await rig.fetch(files.map(({ hash }) => ({ hash })));
      t.deepEqual(outcomes(result), ['moved', 'failed', 'moved'], result.files[1]!.error?.message);
      t.true(expected.includes(codes(result)[1]!), `${codes(result)[1]}: ${result.files[1]!.error!.message}`);
      t.true(rig.target.tryRead(hashOf(contents[0]!))!.equals(contents[0]!));
      t.true(rig.target.tryRead(hashOf(contents[2]!))!.equals(contents[2]!));
      t.is(rig.target.tryRead(hashOf(contents[1]!)), undefined);
      t.is(rig.target.open().findFile(files[1]!.hash), undefined);
    }
  });
}

test('a store that sends other chunks than were asked for, or chunks without end, is found out', async (t) => {
  const rig = createRig(t);
  const contents = [chunkRun('x', 0, 30), chunkRun('y', 0, 30)];
  const files = await rig.publish(...contents);
  const tell: Record<string, NonNullable<typeof rig.remote.faults.readRecords>> = {
    other: (run) => [{ ...run, xorbHash: new Uint8Array(32).fill(3) }],
    behind: (run) => [{ ...run, start: run.start + 1, end: run.end + 1 }],
    empty: (run) => [{ ...run, start: run.end, end: run.end }],
    huge: (run) => [{ ...run, end: 2 ** 40 }],
    short: (run) => [{ ...run, bytes: run.bytes.subarray(0, run.bytes.length - 1) }],
    nothing: () => [],
    none: (run) => [{ ...run, bytes: new Uint8Array(0) }],
  };
  for (const [name, fault] of Object.entries(tell)) {
    rig.remote.faults = { readRecords: fault };
    const result = await rig.fetch(files);
    t.deepEqual(codes(result), ['REMOTE_INVALID', 'REMOTE_INVALID'], name);
    t.is(rig.target.open().findFile(files[0]!.hash), undefined);
  }
  // More than was asked for, around it or once more, is not held against it.
  rig.remote.faults = { readRecords: (run) => [run, run] };
  t.deepEqual(outcomes(await rig.fetch(files)), ['moved', 'moved']);
  for (const content of contents) t.true(rig.target.tryRead(hashOf(content))!.equals(content));
});

test('one description that nobody can read does not hide those of other files', async (t) => {
  const rig = createRig(t);
  const files = await rig.publish(chunkRun('a', 0, 3), chunkRun('b', 0, 3), chunkRun('c', 0, 3));
  rig.remote.faults = {
    findFiles: (found) => {
      if (found.some((file) => file !== undefined && hashesEqual(file.fileHash, 0, files[1]!.hash, 0)))
        throw new Git2dbError('REMOTE_INVALID', 'an impossible description');
      return found;
    },
  };
  const result = await rig.fetch(files);
  t.deepEqual(outcomes(result), ['moved', 'failed', 'moved']);
  t.deepEqual(codes(result), [undefined, 'REMOTE_INVALID', undefined]);
  t.deepEqual(outcomes(await rig.push(files)), ['present', 'moved', 'present']);
});

test('a footer that is not that of the file is found out before it is believed', async (t) => {
  const rig = createRig(t);
  const content = chunkRun('f', 0, 12);
  const files = await rig.publish(content);
  for (const change of ['hashes', 'rawEnds', 'count'] as const) {
    rig.remote.faults = {
      readFooter: (footer) => {
        const wrong = {
          ...footer!,
          hashes: new Uint8Array(footer!.hashes),
          rawEnds: footer!.rawEnds.slice(),
        };
        if (change === 'hashes') wrong.hashes[40]! ^= 1;
        else if (change === 'rawEnds') wrong.rawEnds[11]! += 5;
        else wrong.count = 3;
        return wrong;
      },
    };
    t.deepEqual(codes(await rig.fetch(files)), ['REMOTE_INVALID'], change);
  }
});

test('when the other store cannot be used any more, all that are left fail by that, and a second try brings the rest only', async (t) => {
  const rig = createRig(t);
  const contents = [1, 2, 3, 4].map((seed) => chunkRun(`n${seed} `, 0, 64));
  const files = await rig.publish(...contents);
  rig.remote.runChunks = 16;
  let runs = 0;
  rig.remote.faults = {
    readRecords: (run) => {
      if (++runs > 9) throw new Git2dbError('NETWORK', 'the line is dead');
      return [run];
    },
  };
  const first = await rig.fetch(files);
  t.deepEqual(outcomes(first), ['moved', 'moved', 'failed', 'failed']);
  t.deepEqual(codes(first).slice(2), ['NETWORK', 'NETWORK']);
  t.true(rig.target.tryRead(hashOf(contents[1]!))!.equals(contents[1]!));
  rig.remote.faults = {};
  rig.remote.forgetCounts();
  t.deepEqual(outcomes(await rig.fetch(files)), ['present', 'present', 'moved', 'moved']);
  t.is(rig.remote.given.length, 128);
});

for (const showsFooters of [true, false]) {
  const where = showsFooters ? '' : ', also where the other store shows no chunk lists';
  test(`what has come of a large file stays when the fetch fails${where}`, async (t) => {
    const rig = createRig(t);
    const content = randomBytes('large', 100 * MIB);
    const files = await rig.publish(content);
    rig.remote.showsFooters = showsFooters;
    let bytes = 0;
    rig.remote.faults = {
      readRecords: (run) => {
        bytes += run.bytes.length;
        if (bytes > 80 * MIB) throw new Git2dbError('NETWORK', 'the line is dead');
        return [run];
      },
    };
    t.deepEqual(codes(await rig.fetch(files)), ['NETWORK']);
    rig.remote.faults = {};
    const { wireBytes } = await rig.fetch(files);
    t.true(wireBytes < 40 * MIB, `${wireBytes}`);
    t.true(rig.target.read(formatHash(files[0]!.hash)).equals(content));
  });
}

test('a fetch that is stopped says so and leaves what was complete', async (t) => {
  const rig = createRig(t);
  const contents = [1, 2, 3].map((seed) => chunkRun(`s${seed} `, 0, 40));
  const files = await rig.publish(...contents);
  const stop = new AbortController();
  const fetching = rig.fetch(files, { signal: stop.signal, onFile: () => stop.abort() });
  await t.throwsAsync(fetching, { name: 'AbortError' });
  t.true(rig.target.tryRead(hashOf(contents[0]!))!.equals(contents[0]!));
  t.deepEqual(rig.target.list('incoming'), []);
  await t.throwsAsync(rig.fetch(files, { signal: AbortSignal.abort() }), { name: 'AbortError' });
});

test('two fetches at once into one store both succeed', async (t) => {
  const rig = createRig(t);
  const contents = [1, 2, 3].map((seed) => randomBytes(`two ${seed}`, 400_000));
  const files = await rig.publish(...contents);
  const [one, two] = await Promise.all([rig.fetch(files), rig.fetch(files.toReversed())]);
  t.true([...one.files, ...two.files].every(({ outcome }) => outcome !== 'failed'));
  for (const content of contents) t.true(rig.target.read(hashOf(content)).equals(content));
  t.deepEqual(rig.target.list('incoming'), []);
});

test('chunks that are here in too small pieces are stored once more, and not fetched', async (t) => {
  const rig = createRig(t);
  // Single chunks between runs of five new ones.
  const pieces: Buffer[] = [];
  for (let i = 0; i < 150; i++) pieces.push(chunk(`l${2 * i}`), chunkRun('m', 5 * i, 5 * i + 5));
  const content = Buffer.concat(pieces);
  const [file] = await rig.publish(content);
  const [local] = await rig.target.add(chunkRun('l', 0, 300));
  t.deepEqual(outcomes(await rig.fetch([file!])), ['moved']);
  t.is(rig.remote.given.length, 750);
  const { terms } = rig.target.open().findFile(file!.hash)!;
  t.true(terms.length < 200, `${terms.length} terms`);
  t.true(rig.target.tryRead(hashOf(content))!.equals(content));
  // Where a copy would be one of damage, the chunk is fetched after all.
  const other = createRig(t);
  for (const [name, xorb] of rig.remote.xorbs) other.remote.xorbs.set(name, xorb);
  for (const [name, known] of rig.remote.files) other.remote.files.set(name, known);
  await other.target.add(chunkRun('l', 0, 300));
  const { path } = other.target.open().findFile(parseHash(local!.hash))!.terms[0]!.open();
  const bytes = readFileSync(path);
  for (let i = 200; i < 300; i++) bytes[i * 8200 + 100]! ^= 1;
  writeFileSync(path, bytes);
  t.deepEqual(outcomes(await other.fetch([file!])), ['moved']);
  t.true(other.target.tryRead(hashOf(content))!.equals(content));
});

test('chunks from elsewhere are marked, as nobody has looked where they were cut', async (t) => {
  const rig = createRig(t);
  const [file] = await rig.publish(randomBytes('mark', 100_000));
  await rig.fetch([file!]);
  const [xorb] = rig.target.open().findFile(file!.hash)!.terms;
  t.deepEqual(rig.target.list('irregular'), [xorb!.name]);
});

test('a SHA-256 comes along, and never takes the place of one that is known here', async (t) => {
  const rig = createRig(t);
  const [a, b] = await rig.add(Buffer.from('content a'), Buffer.from('content b'));
  const sha256 = 'ab'.repeat(32);
  await rig.push([{ ...a!, sha256 }]);
  await rig.fetch([a!]);
  t.is(rig.target.open().findFile(a!.hash)?.record?.sha256, sha256);
  // Another file under the same SHA-256.
  const liar = createRig(t);
  await liar.source.add(Buffer.from('content b'));
  await liar.push([{ ...b!, sha256 }]);
  for (const [name, xorb] of liar.remote.xorbs) rig.remote.xorbs.set(name, xorb);
  rig.remote.files.set(formatHash(b!.hash), liar.remote.files.get(formatHash(b!.hash))!);
  t.deepEqual(outcomes(await rig.fetch([b!])), ['moved']);
  t.is(rig.target.open().findFile(b!.hash)?.record?.sha256, undefined);
});

test.serial('a full disk is one clear error, and the store stays as it was', async (t) => {
  const rig = createRig(t);
  const files = await rig.publish(chunkRun('d', 0, 20), randomBytes('more', 20 * MIB));
  await rig.target.add(Buffer.from('before'));
  const before = rig.target.tree();
  // Small files are written at once, large ones ahead.
  for (const [name, file] of [
    ['writevSync', files[0]!],
    ['writev', files[1]!],
  ] as const) {
    const restore = injectFault(t, name, (original, ...args) => {
      const [buffers, done] = [args[1] as readonly Uint8Array[], args.at(-1)];
      if (buffers.every(({ length }) => length < 5000)) return original(...args);
      if (typeof done !== 'function') throw systemError('ENOSPC');
      return setImmediate(() => done(systemError('ENOSPC')));
    });
    const result = await rig.fetch([file]);
    restore();
    t.is(codes(result)[0], 'STORE_UNWRITABLE');
    t.regex(result.files[0]!.error!.message, /ENOSPC.*Free some space/s);
    t.deepEqual(rig.target.tree(), before);
  }
  t.deepEqual(outcomes(await rig.fetch(files)), ['moved', 'moved']);
});

test('what a killed fetch had acknowledged is not fetched again', async (t) => {
  const rig = createRig(t);
  const contents = [1, 2].map((seed) => chunkRun(`k${seed} `, 0, 30));
  const files = await rig.publish(...contents);
  // As a kill leaves it: acknowledged, with the mark of a process that is gone.
  const process = await rig.target.process();
  await process.add(contents[0]!);
  await process.kill();
  t.is(readdirSync(join(rig.target.root, 'incoming')).length, 1);
  t.deepEqual(outcomes(await rig.fetch(files)), ['present', 'moved']);
  t.is(rig.remote.given.length, 30);
  t.deepEqual(rig.target.list('incoming'), []);
});

test('whatever of the chunks is here, in whatever xorbs, the bytes that come are the bytes that were sent', async (t) => {
  const pool = Array.from({ length: 24 }, (_, i) => chunk(`p${i}`, 8192));
  const content = fc.array(fc.integer({ min: 0, max: pool.length - 1 }), { maxLength: 40 });
  const property = fc.asyncProperty(
    fc.array(content, { maxLength: 4 }),
    fc.array(content, { minLength: 1, maxLength: 4 }),
    fc.boolean(),
    fc.integer({ min: 1, max: 9 }),
    async (here, wanted, showsFooters, runChunks) => {
      const rig = createRig(t);
      const concat = (list: readonly number[]) => Buffer.concat(list.map((i) => pool[i]!));
      const contents = wanted.map(concat);
      const files = await rig.publish(...contents);
      if (here.length > 0) await rig.target.add(...here.map(concat));
      rig.remote.showsFooters = showsFooters;
      rig.remote.runChunks = runChunks;
      const result = await rig.fetch(files);
      t.true(result.files.every(({ outcome }) => outcome !== 'failed'));
      for (const bytes of contents)
        if (bytes.length > 0) t.true(rig.target.tryRead(hashOf(bytes))!.equals(bytes));
      t.is(new Set(rig.remote.given).size, rig.remote.given.length);
      rmSync(rig.source.dir, { recursive: true });
      rmSync(rig.target.dir, { recursive: true });
    },
  );
  await fc.assert(property, { numRuns: 40 });
});
