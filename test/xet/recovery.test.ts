import { spawnSync } from 'node:child_process';
import type fs from 'node:fs';
import {
  closeSync,
  existsSync,
  linkSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  truncateSync,
  utimesSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { parseHash } from '../../src/xet/hash/xet-hash.ts';
import { JOURNAL } from '../../src/xet/store/incoming.ts';
import { dataEnd, decodeJournal, type LocalXorb } from '../../src/xet/store/journal.ts';
import { UNSURE_MS } from '../../src/xet/store/liveness.ts';
import type { Uploader } from '../../src/xet/upload.ts';
import {
  chunk,
  chunkHash,
  chunkRun,
  clean,
  copyTree,
  createStore,
  injectFault,
  randomBytes,
  type StoreSandbox,
  systemError,
} from '../helpers/store-sandbox.ts';

/** Contents of known hash that must be read right. */
type Acknowledged = readonly { readonly hash: string; readonly bytes: Buffer }[];

function checkAll(t: ExecutionContext, sandbox: StoreSandbox, files: Acknowledged, when: string): void {
  for (const [i, { hash, bytes }] of files.entries()) {
    t.true(sandbox.tryRead(hash)?.equals(bytes), `file ${i} ${when}`);
  }
}

/** A later session that stores something, and completes what others left. Its warnings. */
async function nextSession(t: ExecutionContext, sandbox: StoreSandbox, name: string): Promise<string[]> {
  const warnings: string[] = [];
  const uploader = sandbox.uploader({ warn: (message) => warnings.push(message) });
  const bytes = chunkRun(`next ${name}`, 0, 2);
  const { hash } = clean(uploader, bytes);
  await uploader.seal();
  t.true(sandbox.read(hash).equals(bytes));
  return warnings;
}

/** What an unsealed writer of this process left, as if it had been killed: everything but its mark. */
function abandon(sandbox: StoreSandbox, uploader: Uploader): string {
  const [name] = sandbox.list('incoming');
  const { directory } = uploader.writer;
  // A socket that nobody listens on answers like one that is not there.
  rmSync(join(directory, 'alive'));
  uploader.store.session = undefined;
  return name as string;
}

/** A store with a dead writer that acknowledged these contents. */
function withDeadWriter(
  t: ExecutionContext,
  ...contents: readonly Buffer[]
): { sandbox: StoreSandbox; name: string; files: Acknowledged } {
  const sandbox = createStore(t);
  const uploader = sandbox.uploader();
  const files = contents.map((bytes) => ({ hash: clean(uploader, bytes).hash, bytes }));
  return { sandbox, name: abandon(sandbox, uploader), files };
}

/** The lock of a killed publisher keeps others waiting for half a minute: as if that were over. */
function ageLock(sandbox: StoreSandbox): void {
  const lock = join(sandbox.root, 'catalog', 'HEAD.lock');
  const old = new Date(Date.now() - 60_000);
  if (existsSync(lock)) utimesSync(lock, old, old);
}

// Kills

test('what a killed process acknowledged is read at once, and the next writer publishes it', async (t) => {
  const sandbox = createStore(t);
  const files: { hash: string; bytes: Buffer }[] = [];
  for (let round = 0; round < 3; round++) {
    const child = await sandbox.process();
    for (let i = 0; i <= round; i++) {
      const bytes = Buffer.concat([chunkRun(`round ${round} ${i} `, 0, 4), chunkRun('shared', 0, round)]);
      files.push({ hash: (await child.add(bytes)).hash, bytes });
      checkAll(t, sandbox, files, `of round ${round} while the writer lives`);
    }
    // In the middle of a file.
    await child.begin(randomBytes(round, 3 << 20));
    await child.kill();
    checkAll(t, sandbox, files, `of round ${round} after the kill`);
    t.is(sandbox.list('incoming').length, round === 1 ? 2 : 1);
    if (round !== 1) continue;
    t.deepEqual(await nextSession(t, sandbox, String(round)), []);
    t.deepEqual(sandbox.list('incoming'), []);
    checkAll(t, sandbox, files, 'after recovery');
  }
  t.deepEqual(await nextSession(t, sandbox, 'last'), []);
  t.deepEqual(sandbox.list('incoming'), []);
  checkAll(t, sandbox, files, 'in the end');
  t.is(sandbox.list('quarantine').length, 0);
});

test('a copy of the store taken at any moment of a session recovers to all that was acknowledged by then', async (t) => {
  const sandbox = createStore(t);
  const uploader = sandbox.uploader();
  uploader.writer.register();
  const files: { hash: string; bytes: Buffer }[] = [];
  const copies: { copy: StoreSandbox; known: Acknowledged }[] = [];
  const take = () => {
    const copy = createStore(t);
    copyTree(sandbox.root, copy.root);
    copies.push({ copy, known: [...files] });
  };
  for (let i = 0; i < 4; i++) {
    const bytes = Buffer.concat([chunkRun(`file ${i} `, 0, 5), chunkRun('file 0 ', 0, i)]);
    const upload = uploader.begin();
    upload.write(bytes.subarray(0, 20_000));
    take();
    upload.write(bytes.subarray(20_000));
    // Beyond what is scanned at once, so that something is written before the file is finished.
    if (i === 2) upload.write(randomBytes(7, 2 << 20));
    take();
    if (i === 2) {
      upload.abort();
      take();
      continue;
    }
    files.push({ hash: upload.finish().hash, bytes });
    take();
  }
  await uploader.seal();
  take();
  for (const [i, { copy, known }] of copies.entries()) {
    checkAll(t, copy, known, `in copy ${i}`);
    t.deepEqual(await nextSession(t, copy, 'copy'), []);
    t.deepEqual(copy.list('incoming'), []);
    checkAll(t, copy, known, `in copy ${i} after recovery`);
  }
});

/** Everything a seal or a commit asks of the system, besides closing. */
const CALLS = [
  'copyFileSync',
  'existsSync',
  'fdatasyncSync',
  'fstatSync',
  'ftruncateSync',
  'linkSync',
  'mkdirSync',
  'openSync',
  'readdirSync',
  'readFileSync',
  'readSync',
  'renameSync',
  'rmSync',
  'statSync',
  'unlinkSync',
  'utimesSync',
  'writeFileSync',
  'writeSync',
  'writevSync',
] as const satisfies readonly (keyof typeof fs)[];

/** From the `n`th call on, every call fails: for what lies on the disk, a kill at that moment. Tells whether it came so far. */
function failFrom(
  t: ExecutionContext,
  n: number,
  root: string,
): { restore: () => void; fired: () => boolean } {
  let count = 0;
  let fired = false;
  const restores = CALLS.map((name) =>
    injectFault(t, name, (original, ...args) => {
      // Not what the test runner does meanwhile.
      const isOurs = typeof args[0] === 'number' || String(args[0]).startsWith(root);
      if (isOurs && ++count > n) {
        fired = true;
        throw systemError('EIO');
      }
      return original(...args);
    }),
  );
  return {
    restore() {
      for (const restore of restores.reverse()) restore();
    },
    fired: () => fired,
  };
}

test.serial('a kill at any step of a seal loses nothing that was acknowledged', async (t) => {
  let reached = 0;
  for (let n = 0; ; n++) {
    const sandbox = createStore(t);
    const [known] = await sandbox.add(chunkRun('known', 0, 4));
    const uploader = sandbox.uploader();
    const contents = [chunkRun('a', 0, 3), Buffer.concat([chunkRun('known', 1, 4), chunkRun('b', 0, 2)])];
    const files = contents.map((bytes) => ({ hash: clean(uploader, bytes).hash, bytes }));
    files.push({ hash: known?.hash as string, bytes: chunkRun('known', 0, 4) });
    const { restore, fired } = failFrom(t, n, sandbox.root);
    try {
      await uploader.seal();
    } catch {
      // Only a part of the failures may be told of: a catalog is only a cache.
    } finally {
      restore();
    }
    if (!fired()) break;
    reached = n;
    uploader.store.close();
    ageLock(sandbox);
    checkAll(t, sandbox, files, `after step ${n}`);
    const warnings = await nextSession(t, sandbox, 'seal');
    t.deepEqual(warnings, [], `after step ${n}`);
    t.deepEqual(sandbox.list('incoming'), [], `after step ${n}`);
    checkAll(t, sandbox, files, `after step ${n} and recovery`);
    t.deepEqual(sandbox.list('quarantine'), []);
  }
  t.true(reached > 30, `${reached} steps`);
});

test.serial('a failure at any step of one file leaves the others and the next ones whole', async (t) => {
  let reached = 0;
  for (let n = 0; ; n++) {
    const sandbox = createStore(t);
    const uploader = sandbox.uploader();
    const first = chunkRun('first', 0, 3);
    const files = [{ hash: clean(uploader, first).hash, bytes: first }];
    // Enough new content to be written before its end.
    const second = Buffer.concat([
      chunkRun('first', 0, 2),
      randomBytes('second', 1 << 20),
      chunkRun('fourth', 0, 40),
    ]);
    const { restore, fired } = failFrom(t, n, sandbox.root);
    try {
      files.push({ hash: clean(uploader, second).hash, bytes: second });
    } catch {
      // Not acknowledged.
    } finally {
      restore();
    }
    reached = n;
    if (!fired()) break;
    checkAll(t, sandbox, files, `after step ${n}`);
    const third = Buffer.concat([second.subarray(0, 500_000), chunkRun('third', 0, 3)]);
    files.push({ hash: clean(uploader, third).hash, bytes: third });
    files.push({ hash: clean(uploader, second).hash, bytes: second });
    checkAll(t, sandbox, files, `after step ${n} and another file`);
    await uploader.seal();
    t.deepEqual(sandbox.list('incoming'), []);
    checkAll(t, sandbox, files, `after step ${n} and the seal`);
  }
  t.true(reached > 3, `${reached} steps`);
});

test.serial('a kill at any step of a recovery loses nothing either', async (t) => {
  for (let n = 0; ; n += 2) {
    const { sandbox, files } = withDeadWriter(t, chunkRun('a', 0, 3), chunkRun('b', 0, 2));
    const uploader = sandbox.uploader();
    const own = chunkRun('own', 0, 2);
    const all = [...files, { hash: clean(uploader, own).hash, bytes: own }];
    const { restore, fired } = failFrom(t, n, sandbox.root);
    await uploader.seal().catch(() => {});
    restore();
    if (!fired()) break;
    uploader.store.close();
    ageLock(sandbox);
    checkAll(t, sandbox, all, `after step ${n}`);
    await nextSession(t, sandbox, 'recovery');
    // What failed half way may take one more: the writer that gave up is found dead by the next.
    await nextSession(t, sandbox, 'recovery 2');
    t.deepEqual(sandbox.list('incoming'), [], `after step ${n}`);
    checkAll(t, sandbox, all, `after step ${n} and recovery`);
  }
});

// Seals that cannot succeed

for (const [what, block, unblock] of [
  [
    'shards/ is a file',
    (root: string) => {
      rmSync(join(root, 'shards'), { recursive: true });
      writeFileSync(join(root, 'shards'), '');
    },
    (root: string) => {
      rmSync(join(root, 'shards'));
      mkdirSync(join(root, 'shards'));
    },
  ],
  [
    'xorbs/ is a file',
    (root: string) => {
      rmSync(join(root, 'xorbs'), { recursive: true });
      writeFileSync(join(root, 'xorbs'), '');
    },
    (root: string) => {
      rmSync(join(root, 'xorbs'));
    },
  ],
] as const) {
  test(`while ${what} a seal says where things are kept, and once that is mended the next one publishes them`, async (t) => {
    const sandbox = createStore(t);
    const uploader = sandbox.uploader();
    const bytes = chunkRun('blocked', 0, 4);
    const { hash } = clean(uploader, bytes);
    block(sandbox.root);
    const error = await t.throwsAsync(uploader.seal(), { code: 'STORE_UNWRITABLE' });
    const [name] = sandbox.list('incoming');
    t.true(error?.message.includes(join(sandbox.root, 'incoming', name as string)));
    unblock(sandbox.root);
    t.true(sandbox.read(hash).equals(bytes));
    t.deepEqual(await nextSession(t, sandbox, what), []);
    t.deepEqual(sandbox.list('incoming'), []);
    t.true(sandbox.read(hash).equals(bytes));
  });
}

test('a process that goes on after a failed seal completes it with its next one', async (t) => {
  const sandbox = createStore(t);
  const child = await sandbox.process();
  const first = chunkRun('first', 0, 3);
  const { hash } = await child.add(first);
  renameSync(join(sandbox.root, 'shards'), join(sandbox.dir, 'away'));
  writeFileSync(join(sandbox.root, 'shards'), '');
  await t.throwsAsync(child.seal());
  rmSync(join(sandbox.root, 'shards'));
  renameSync(join(sandbox.dir, 'away'), join(sandbox.root, 'shards'));
  t.true(sandbox.read(hash).equals(first));
  await child.add(chunkRun('second', 0, 3));
  t.deepEqual(await child.seal(), []);
  t.deepEqual(sandbox.list('incoming'), []);
  t.true(sandbox.read(hash).equals(first));
});

/** Mounts a file system of `size` bytes; false where this process may not. */
function mountSmall(t: ExecutionContext, path: string, size: number): boolean {
  mkdirSync(path, { recursive: true });
  if (spawnSync('mount', ['-t', 'tmpfs', '-o', `size=${size}`, 'tmpfs', path]).status !== 0) return false;
  t.teardown(() => spawnSync('umount', ['-l', path]));
  return true;
}

test('on a disk that runs full, what was acknowledged is published, and what was not leaves no trace', async (t) => {
  for (const spare of [0, 9000]) {
    const sandbox = createStore(t);
    if (!mountSmall(t, sandbox.root, 3 << 19)) return t.pass('no right to mount a small file system');
    const warnings: string[] = [];
    const uploader = sandbox.uploader({ warn: (message) => warnings.push(message) });
    const files: { hash: string; bytes: Buffer }[] = [];
    const ballast = join(sandbox.root, 'ballast');
    let failures = 0;
    for (let i = 0; failures < 3; i++) {
      const bytes = Buffer.concat([
        randomBytes(`full ${i}`, 30_000 + 7001 * (i % 9)),
        chunkRun('same', 0, 2),
      ]);
      try {
        files.push({ hash: clean(uploader, bytes).hash, bytes });
      } catch (error) {
        t.regex((error as Error).message, /ENOSPC/);
        failures++;
      }
    }
    t.true(files.length > 10);
    fillUp(ballast);
    if (spare > 0) truncateSync(ballast, Math.max(0, statSync(ballast).size - spare));
    checkAll(t, sandbox, files, 'while the disk is full');
    await uploader.seal();
    // The catalog is a cache, for which no space is kept.
    for (const warning of warnings) t.regex(warning, /catalog/);
    t.deepEqual(sandbox.list('incoming'), []);
    checkAll(t, sandbox, files, 'after the seal');
    spawnSync('mount', ['-o', 'remount,size=8m', sandbox.root]);
    t.deepEqual(await nextSession(t, sandbox, 'roomy'), []);
    checkAll(t, sandbox, files, 'once there is room again');
  }
});

/** Takes all space that is left. */
function fillUp(path: string): void {
  const fd = openSync(path, 'w');
  try {
    for (let size = 1 << 16; size >= 1; ) {
      try {
        writeSync(fd, Buffer.alloc(size));
      } catch {
        size >>= 1;
      }
    }
  } finally {
    closeSync(fd);
  }
}

// Several at once

test('when two processes recover at the same time exactly one does, and nothing is lost', async (t) => {
  for (let round = 0; round < 4; round++) {
    const contents = Array.from({ length: 6 }, (_, i) => chunkRun(`${round} ${i} `, 0, 3 + i));
    const sandbox = createStore(t);
    const files: { hash: string; bytes: Buffer }[] = [];
    for (const bytes of contents) {
      const uploader = sandbox.uploader();
      files.push({ hash: clean(uploader, bytes).hash, bytes });
      rmSync(join(uploader.writer.directory, 'alive'));
      uploader.store.session = undefined;
    }
    t.is(sandbox.list('incoming').length, 6);
    const children = await Promise.all([sandbox.process(), sandbox.process()]);
    for (const [i, child] of children.entries()) {
      const bytes = chunkRun(`rescuer ${i}`, 0, 2);
      files.push({ hash: (await child.add(bytes)).hash, bytes });
    }
    const warnings = await Promise.all(children.map((child) => child.seal()));
    t.deepEqual(warnings.flat(), []);
    t.deepEqual(sandbox.list('incoming'), []);
    checkAll(t, sandbox, files, `of round ${round}`);
    await Promise.all(children.map((child) => child.kill()));
  }
});

test('rescuers that died themselves are rescued, however deep', async (t) => {
  const sandbox = createStore(t);
  const files: { hash: string; bytes: Buffer }[] = [];
  let below: string | undefined;
  for (let depth = 0; depth < 4; depth++) {
    const uploader = sandbox.uploader();
    const bytes = chunkRun(`depth ${depth}`, 0, 3);
    files.push({ hash: clean(uploader, bytes).hash, bytes });
    const { directory } = uploader.writer;
    rmSync(join(directory, 'alive'));
    uploader.store.session = undefined;
    if (below !== undefined) {
      renameSync(join(sandbox.root, 'incoming', below), join(directory, `rescue-${below}`));
    }
    below = directory.split('/').at(-1);
  }
  t.is(sandbox.list('incoming').length, 1);
  checkAll(t, sandbox, files, 'while nested');
  t.deepEqual(await nextSession(t, sandbox, 'nested'), []);
  t.deepEqual(sandbox.list('incoming'), []);
  checkAll(t, sandbox, files, 'after recovery');
});

test('a writer that may be alive is left alone; after fourteen days it is not', async (t) => {
  const { sandbox, name, files } = withDeadWriter(t, chunkRun('unsure', 0, 3));
  const directory = join(sandbox.root, 'incoming', name);
  writeFileSync(join(directory, 'writer.json'), '{}');
  t.deepEqual(await nextSession(t, sandbox, 'early'), []);
  t.deepEqual(sandbox.list('incoming'), [name]);
  checkAll(t, sandbox, files, 'of the unsure writer');
  const long = new Date(Date.now() - UNSURE_MS - 60_000);
  utimesSync(directory, long, long);
  t.deepEqual(await nextSession(t, sandbox, 'late'), []);
  t.deepEqual(sandbox.list('incoming'), []);
  checkAll(t, sandbox, files, 'after recovery');
});

test('a living writer is left alone', async (t) => {
  const sandbox = createStore(t);
  const child = await sandbox.process();
  const bytes = chunkRun('living', 0, 3);
  const { hash } = await child.add(bytes);
  t.deepEqual(await nextSession(t, sandbox, 'other'), []);
  t.is(sandbox.list('incoming').length, 1);
  t.deepEqual(await child.seal(), []);
  t.deepEqual(sandbox.list('incoming'), []);
  t.true(sandbox.read(hash).equals(bytes));
});

// Recoveries that fail

/** A frame of a type that this version does not know. */
function unknownFrame(): Buffer {
  const frame = Buffer.alloc(16);
  frame.writeUInt32LE(99, 4);
  frame.set(chunkHash(Buffer.alloc(0)).subarray(0, 8), 8);
  return frame;
}

test('a journal that cannot be understood is kept, told of, and hinders neither its rescuer nor readers', async (t) => {
  const { sandbox, name, files } = withDeadWriter(t, chunkRun('hopeless', 0, 3));
  const path = join(sandbox.root, 'incoming', name, JOURNAL);
  const journal = readFileSync(path);
  writeFileSync(path, Buffer.concat([journal, unknownFrame()]));
  const warnings = await nextSession(t, sandbox, 'hopeless');
  t.is(warnings.length, 1);
  t.regex(warnings[0] as string, new RegExp(`incoming/${name} .*unknown type 99`));
  t.deepEqual(sandbox.list('incoming'), [name]);
  t.is(sandbox.tryRead(files[0]?.hash as string), undefined);
  // A version that understands it finds everything.
  writeFileSync(path, journal);
  t.deepEqual(await nextSession(t, sandbox, 'newer'), []);
  t.deepEqual(sandbox.list('incoming'), []);
  checkAll(t, sandbox, files, 'after all');
});

test.serial('a dead writer that cannot be taken over does not fail our seal', async (t) => {
  const { sandbox, name, files } = withDeadWriter(t, chunkRun('theirs', 0, 3));
  const restore = injectFault(t, 'renameSync', (original, from, to) => {
    // Another user's directory cannot be moved into ours.
    if (String(from).endsWith(`incoming/${name}`)) throw systemError('EACCES');
    return original(from, to);
  });
  const warnings = await nextSession(t, sandbox, 'mine');
  restore();
  t.is(warnings.length, 1);
  t.deepEqual(sandbox.list('incoming'), [name]);
  checkAll(t, sandbox, files, 'of the other user');
});

test.serial('what was taken over and can neither be completed nor put back stays where it is', async (t) => {
  const { sandbox, name, files } = withDeadWriter(t, chunkRun('stuck', 0, 3));
  const path = join(sandbox.root, 'incoming', name, JOURNAL);
  const journal = readFileSync(path);
  writeFileSync(path, Buffer.concat([journal, unknownFrame()]));
  const restore = injectFault(t, 'renameSync', (original, from, to) => {
    if (String(from).includes('rescue-')) throw systemError('EIO');
    return original(from, to);
  });
  t.is((await nextSession(t, sandbox, 'stuck')).length, 1);
  restore();
  const [rescuer] = sandbox.list('incoming');
  const kept = join(sandbox.root, 'incoming', rescuer as string, `rescue-${name}`, JOURNAL);
  t.true(existsSync(kept));
  writeFileSync(kept, journal);
  checkAll(t, sandbox, files, 'while stuck');
  t.deepEqual(await nextSession(t, sandbox, 'unstuck'), []);
  t.deepEqual(sandbox.list('incoming'), []);
  checkAll(t, sandbox, files, 'after all');
});

test('what is being made by a process is not swept away until a day has passed', async (t) => {
  const sandbox = createStore(t);
  await nextSession(t, sandbox, 'first');
  const hidden = join(sandbox.root, 'incoming', '.abc-1-2');
  mkdirSync(hidden);
  await nextSession(t, sandbox, 'second');
  t.true(existsSync(hidden));
  const old = new Date(Date.now() - 25 * 3600 * 1000);
  utimesSync(hidden, old, old);
  await nextSession(t, sandbox, 'third');
  t.false(existsSync(hidden));
});

// Power failures: the journal is on the disk, what it speaks of perhaps not

function localXorb(sandbox: StoreSandbox, name: string): { path: string; xorb: LocalXorb } {
  const directory = join(sandbox.root, 'incoming', name);
  const state = decodeJournal(readFileSync(join(directory, JOURNAL)));
  return { path: join(directory, '0.xorb'), xorb: state.xorbs[0] as LocalXorb };
}

test('of a writer whose data are cut off, the files before the cut survive and the others are named', async (t) => {
  const contents = [chunkRun('x', 0, 3), chunkRun('y', 0, 2), Buffer.concat([chunk('x0'), chunk('z')])];
  const cuts = withDeadWriter(t, ...contents);
  const { xorb } = localXorb(cuts.sandbox, cuts.name);
  t.is(xorb.count, 6);
  for (const [length, survivors] of [
    [0, []],
    [xorb.recordEnds[2] as number, [0]],
    [(xorb.recordEnds[2] as number) - 1, []],
    [(xorb.recordEnds[4] as number) + 4, [0, 1]],
    [(xorb.recordEnds[5] as number) - 1, [0, 1]],
    [dataEnd(xorb), [0, 1, 2]],
  ] as const) {
    const { sandbox, name, files } = withDeadWriter(t, ...contents);
    truncateSync(localXorb(sandbox, name).path, length);
    const warnings = await nextSession(t, sandbox, 'cut');
    t.is(warnings.length, survivors.length === 3 ? 0 : 1, `cut to ${length}`);
    if (survivors.length < 3) t.regex(warnings[0] as string, new RegExp(`^${3 - survivors.length} file`));
    for (const [i, { hash, bytes }] of files.entries()) {
      const found = sandbox.tryRead(hash);
      t.is(
        found?.equals(bytes),
        (survivors as readonly number[]).includes(i) ? true : undefined,
        `file ${i}`,
      );
    }
    t.deepEqual(sandbox.list('incoming'), []);
    // Adding them again is all it takes.
    await sandbox.add(...contents);
    checkAll(t, sandbox, files, 'added again');
  }
});

for (const [what, damage] of [
  [
    'a hole in a chunk',
    (bytes: Buffer, xorb: LocalXorb) =>
      bytes.fill(0, (xorb.recordEnds[1] as number) + 500, (xorb.recordEnds[1] as number) + 4596),
  ],
  [
    'a header that lies about the stored length',
    (bytes: Buffer, xorb: LocalXorb) => bytes.writeUInt8(7, (xorb.recordEnds[1] as number) + 1),
  ],
  [
    'a header of zeros',
    (bytes: Buffer, xorb: LocalXorb) =>
      bytes.fill(0, xorb.recordEnds[1] as number, (xorb.recordEnds[1] as number) + 8),
  ],
] as const) {
  test(`${what} drops the files from there on`, async (t) => {
    const { sandbox, name, files } = withDeadWriter(
      t,
      chunkRun('x', 0, 2),
      chunkRun('y', 0, 2),
      chunkRun('z', 0, 2),
    );
    const { path, xorb } = localXorb(sandbox, name);
    const bytes = readFileSync(path);
    damage(bytes, xorb);
    writeFileSync(path, bytes);
    t.is((await nextSession(t, sandbox, what)).length, 1);
    t.true(sandbox.read(files[0]?.hash as string).equals(files[0]?.bytes as Buffer));
    t.is(sandbox.tryRead(files[1]?.hash as string), undefined);
    t.deepEqual(sandbox.list('incoming'), []);
  });
}

test('a local xorb that is gone drops its files', async (t) => {
  const { sandbox, name } = withDeadWriter(t, chunkRun('x', 0, 2), chunkRun('y', 0, 2));
  rmSync(localXorb(sandbox, name).path);
  const warnings = await nextSession(t, sandbox, 'gone');
  t.is(warnings.length, 1);
  t.regex(warnings[0] as string, /^2 file/);
  t.deepEqual(sandbox.list('incoming'), []);
});

test('a damaged local xorb that was published already is not cut short under its published name', async (t) => {
  const { sandbox, name, files } = withDeadWriter(t, chunkRun('x', 0, 2), chunkRun('y', 0, 2));
  const { path, xorb } = localXorb(sandbox, name);
  const published = join(sandbox.dir, 'published');
  linkSync(path, published);
  const bytes = readFileSync(path);
  bytes.fill(0xee, (xorb.recordEnds[2] as number) + 100, (xorb.recordEnds[2] as number) + 200);
  writeFileSync(path, bytes);
  t.is((await nextSession(t, sandbox, 'linked')).length, 1);
  t.true(readFileSync(published).equals(bytes));
  t.true(sandbox.read(files[0]?.hash as string).equals(files[0]?.bytes as Buffer));
});

test('a published xorb that is cut off makes room for the whole one, and is kept', async (t) => {
  const sandbox = createStore(t);
  const bytes = chunkRun('cut', 0, 5);
  const [file] = await sandbox.add(bytes);
  const store = sandbox.open();
  const term = store.findFile(parseHash(file?.hash as string))?.terms[0];
  const path = store.layout.xorb(term?.name as string);
  truncateSync(path, statSync(path).size - 3);
  t.is(sandbox.tryRead(file?.hash as string), undefined);
  const [again] = await sandbox.add(bytes);
  t.is(again?.hash, file?.hash);
  t.true(sandbox.read(file?.hash as string).equals(bytes));
  t.is(sandbox.list('quarantine').length, 1);
  t.deepEqual(readdirSync(join(sandbox.root, 'incoming')), []);
});

test('a published shard that is damaged makes room for the same one made again', async (t) => {
  const { sandbox, files } = withDeadWriter(t, chunkRun('shard', 0, 5));
  const copy = createStore(t);
  copyTree(sandbox.root, copy.root);
  await nextSession(t, sandbox, 'shard');
  // The other copy got so far that its shard had a name, but no content, when the power failed.
  for (const name of sandbox.list('shards')) writeFileSync(join(copy.root, 'shards', name), '');
  await nextSession(t, copy, 'shard');
  checkAll(t, copy, files, 'after recovery');
});
