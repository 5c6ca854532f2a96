/**
 * What is said and done when content is damaged or lost: the right file fails, the message names the place,
 * every other file is served, and nothing that can be had is given up.
 */

import {
  existsSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { LocalStore } from '../../src/xet/store/local-store.ts';
import { Uploader } from '../../src/xet/upload.ts';
import {
  assertClean,
  assertNothingIncoming,
  assertSame,
  cleanAll,
  createXetSandbox,
  filesUnder,
  randomBytes,
  smudgeAll,
  startFilter,
  storeFiles,
  type XetRepository,
  type XetSandbox,
} from '../helpers/xet-sandbox.ts';

test.serial('content that goes missing in the middle of a file never ends in a pointer', async (t) => {
  const sandbox = createXetSandbox(t, { config: { 'xet.onMissing': 'pointer' } });
  const repository = await sandbox.repository();
  // More xorbs than a reader keeps open, so that it comes back to each by its name.
  const parts = Array.from({ length: 80 }, (_, i) => randomBytes(i, 500_000));
  const whole = Buffer.concat(parts);
  for (const content of [...parts, whole]) await storeHere(repository.store, content);
  const [pointer] = await cleanAll(t, sandbox, repository, [whole]);
  const xorbs = [...filesUnder(join(repository.store, 'xorbs')).keys()];
  t.true(xorbs.length > 70);

  const client = await startFilter(t, sandbox, repository);
  let removed = false;
  const answer = await client.smudge('whole.bin', pointer!, {
    onContent: () => {
      if (removed) return;
      removed = true;
      for (const xorb of xorbs) rmSync(join(repository.store, 'xorbs', xorb));
    },
  });
  t.true(removed);
  t.is(answer.firstStatus, 'success');
  t.is(answer.status, 'error');
  t.like(await client.end(), { code: 0 });
});

/** As a filter process of its own would store it, but here. */
async function storeHere(directory: string, content: Buffer): Promise<void> {
  const store = new LocalStore(directory);
  const uploader = new Uploader(store, { compression: 'none', fsync: 'none' });
  const upload = uploader.begin();
  upload.write(content);
  upload.finish();
  await uploader.seal();
  store.close();
}

test.serial('a known hash with another size is an error, with xet.onMissing=pointer too', async (t) => {
  const sandbox = createXetSandbox(t, { config: { 'xet.onMissing': 'pointer' } });
  const repository = await sandbox.repository();
  const [pointer] = await cleanAll(t, sandbox, repository, [randomBytes(1, 5000)]);
  const client = await startFilter(t, sandbox, repository);
  for (const size of ['4999', '5001', '0']) {
    t.is((await client.smudge('a.bin', pointer!.replace('5000', size))).status, 'error');
  }
  t.is((await client.smudge('a.bin', pointer!)).status, 'success');
  t.regex((await client.end()).stderr, /^git2db-filter: a\.bin: .*4999.*5000.*\n.*5001.*5000.*\n.*\n$/);
});

// Damage

interface Damaged {
  readonly sandbox: XetSandbox;
  readonly repository: XetRepository;
  readonly xorb: string;
  readonly shard: string;
  /** Pointer and content of a file in that xorb and shard, and of one in others. */
  readonly hit: readonly [pointer: string, content: Buffer];
  readonly spared: readonly [pointer: string, content: Buffer];
}

async function twoObjects(t: ExecutionContext): Promise<Damaged> {
  const sandbox = createXetSandbox(t, { config: { 'xet.onMissing': 'pointer' } });
  const repository = await sandbox.repository();
  const [hit, spared] = [randomBytes(1, 500_000), randomBytes(2, 400_000)];
  const [hitPointer] = await cleanAll(t, sandbox, repository, [hit]);
  const [xorb] = [...filesUnder(join(repository.store, 'xorbs')).keys()];
  const [shard] = [...filesUnder(join(repository.store, 'shards')).keys()];
  const [sparedPointer] = await cleanAll(t, sandbox, repository, [spared]);
  return {
    sandbox,
    repository,
    xorb: join(repository.store, 'xorbs', xorb!),
    shard: join(repository.store, 'shards', shard!),
    hit: [hitPointer!, hit],
    spared: [sparedPointer!, spared],
  };
}

const damage = test.macro({
  async exec(t, _: string, spoil: (store: Damaged) => string) {
    const store = await twoObjects(t);
    const path = spoil(store);
    const client = await startFilter(t, store.sandbox, store.repository);
    t.is((await client.smudge('hit.bin', store.hit[0])).status, 'error');
    assertSame(t, [(await client.smudge('spared.bin', store.spared[0])).content], [store.spared[1]]);
    t.is((await client.smudge('hit.bin', store.hit[0], { canDelay: true })).status, 'delayed');
    t.is((await client.smudge('spared.bin', store.spared[0], { canDelay: true })).status, 'delayed');
    t.is((await client.listAvailable()).paths.length, 2);
    t.is((await client.smudge('hit.bin', '')).status, 'error');
    assertSame(t, [(await client.smudge('spared.bin', '')).content], [store.spared[1]]);
    const { code, stderr } = await client.end();
    t.is(code, 0);
    const lines = stderr.trimEnd().split('\n');
    t.is(lines.length, 2, stderr);
    for (const line of lines)
      t.true(line.startsWith('git2db-filter: hit.bin: ') && line.includes(path), line);
    t.regex(stderr, /git2db xet fsck/);
  },
  title: (_, what) => `${what} fails the files in it, names it, and spares the others`,
});

function flip(path: string, offset: number): string {
  const bytes = readFileSync(path);
  bytes[offset]! ^= 0x40;
  writeFileSync(path, bytes);
  return path;
}

function cut(path: string, size: number): string {
  truncateSync(path, size);
  return path;
}

function garble(path: string): string {
  writeFileSync(path, randomBytes(99, statSync(path).size));
  return path;
}

test.serial(damage, 'a flipped byte in a xorb', ({ xorb }) => flip(xorb, 250_000));
test.serial(damage, 'a flipped byte in the footer of a xorb', ({ xorb }) =>
  flip(xorb, statSync(xorb).size - 100),
);
test.serial(damage, 'a flipped byte in the chunk list of a xorb', ({ xorb }) => {
  const bytes = readFileSync(xorb);
  return flip(xorb, bytes.lastIndexOf('XETBLOB') + 60);
});
test.serial(damage, 'a xorb cut in its middle', ({ xorb }) => cut(xorb, 250_000));
test.serial(damage, 'a xorb cut to nothing', ({ xorb }) => cut(xorb, 0));
test.serial(damage, 'a shard cut in its middle', ({ shard }) => cut(shard, 100));
test.serial(damage, 'a shard cut to nothing', ({ shard }) => cut(shard, 0));
test.serial(damage, 'a shard of garbage', ({ shard }) => garble(shard));
test.serial(damage, 'a shard of garbage without a catalog', ({ shard, repository }) => {
  rmSync(join(repository.store, 'catalog'), { recursive: true });
  return garble(shard);
});

test.serial(
  'a checkout that meets a damaged file stops there, says why, and works when that is mended',
  async (t) => {
    const { repository, xorb, hit, spared } = await twoObjects(t);
    for (const [path, pointer] of [
      ['a.bin', spared[0]],
      ['b.bin', hit[0]],
      ['c.bin', spared[0]],
    ] as const) {
      const oid = await repository.text(['hash-object', '-w', '--stdin'], { input: pointer });
      await repository.git(['update-index', '--add', '--cacheinfo', `100644,${oid},${path}`]);
    }
    const whole = readFileSync(xorb);
    flip(xorb, 250_000);
    const { stderr } = await repository.git(['checkout', '-q', '.'], { okStatus: [128] });
    t.true(stderr.startsWith(`git2db-filter: b.bin: ${xorb} is damaged`), stderr);
    assertSame(t, [readFileSync(repository.path('a.bin'))], [spared[1]]);
    t.false(existsSync(repository.path('b.bin')));
    assertNothingIncoming(t, repository.store);
    writeFileSync(xorb, whole);
    await repository.git(['checkout', '-q', '.']);
    await repository.git(['commit', '-q', '-m', 'all']);
    await assertClean(t, repository, [
      ['a.bin', spared[1]],
      ['b.bin', hit[1]],
    ]);
  },
);

const missingObject = test.macro({
  async exec(t, _: string, spoil: (store: Damaged) => string) {
    const store = await twoObjects(t);
    const path = spoil(store);
    const client = await startFilter(t, store.sandbox, store.repository);
    t.is((await client.smudge('hit.bin', store.hit[0])).content.toString(), store.hit[0]);
    assertSame(t, [(await client.smudge('spared.bin', store.spared[0])).content], [store.spared[1]]);
    const { code, stderr } = await client.end();
    t.is(code, 0);
    t.regex(stderr, /^git2db-filter: 1 file is left as pointers? .*: hit\.bin\..*\n$/);
    await store.repository.git(['config', 'xet.onMissing', 'error']);
    const strict = await startFilter(t, store.sandbox, store.repository);
    t.is((await strict.smudge('hit.bin', store.hit[0])).status, 'error');
    assertSame(t, [(await strict.smudge('spared.bin', store.spared[0])).content], [store.spared[1]]);
    const end = await strict.end();
    t.true(end.stderr.includes(path), end.stderr);
  },
  title: (_, what) => `${what} makes its files missing, and names the place`,
});

function lose(path: string, named = path): string {
  rmSync(path);
  return named;
}

test.serial(missingObject, 'a lost xorb', ({ xorb, repository }) => lose(xorb, repository.store));
test.serial(missingObject, 'a lost shard', ({ shard, repository }) => lose(shard, repository.store));

const rebuilt = test.macro({
  async exec(t, _: string, spoil: (catalog: string) => void) {
    const store = await twoObjects(t);
    const catalog = join(store.repository.store, 'catalog');
    spoil(catalog);
    const { sandbox, repository, hit, spared } = store;
    assertSame(t, await smudgeAll(t, sandbox, repository, [hit[0], spared[0]]), [hit[1], spared[1]]);
    // The next writer mends the catalog, and must not take over what is wrong in it.
    const [other] = await cleanAll(t, sandbox, repository, [randomBytes(4, 1000)]);
    t.true(existsSync(join(catalog, 'HEAD')));
    assertSame(t, await smudgeAll(t, sandbox, repository, [hit[0], spared[0]]), [hit[1], spared[1]]);
    // Known content is known.
    const before = filesUnder(join(repository.store, 'xorbs'));
    t.deepEqual(await cleanAll(t, sandbox, repository, [hit[1], spared[1]]), [hit[0], spared[0]]);
    t.deepEqual(filesUnder(join(repository.store, 'xorbs')), before);
    assertSame(t, await smudgeAll(t, sandbox, repository, [other!]), [randomBytes(4, 1000)]);
  },
  title: (_, what) => `with ${what} every file is still found, by readers and writers`,
});

function table(catalog: string): string {
  return join(catalog, readdirSync(catalog).find((name) => name !== 'HEAD')!);
}

test.serial(rebuilt, 'no catalog', (catalog) => rmSync(catalog, { recursive: true }));
test.serial(rebuilt, 'no HEAD', (catalog) => rmSync(join(catalog, 'HEAD')));
test.serial(rebuilt, 'a HEAD of garbage', (catalog) => void garble(join(catalog, 'HEAD')));
test.serial(rebuilt, 'an empty HEAD', (catalog) => void cut(join(catalog, 'HEAD'), 0));
test.serial(rebuilt, 'a HEAD that names a table which is not there', (catalog) => {
  writeFileSync(join(catalog, 'HEAD'), `git2db catalog 1\ntable ${'0f'.repeat(32)} 1 1\n`);
});
test.serial(rebuilt, 'a lost table', (catalog) => rmSync(table(catalog)));
test.serial(rebuilt, 'a table cut in its middle', (catalog) => void cut(table(catalog), 1000));
test.serial(rebuilt, 'a table of garbage', (catalog) => void garble(table(catalog)));
test.serial(rebuilt, 'a table of garbage behind a good header', (catalog) => {
  const path = table(catalog);
  const bytes = readFileSync(path);
  randomBytes(5, bytes.length).copy(bytes, 32 + 1024, 32 + 1024);
  writeFileSync(path, bytes);
});
test.serial(rebuilt, 'flipped file hashes in a table', (catalog) => {
  const path = table(catalog);
  const bytes = readFileSync(path);
  const [chunks, files] = [bytes.readUInt32LE(16), bytes.readUInt32LE(20)];
  const at = bytes.length - 32 - 40 * files;
  if (chunks === 0 || files === 0) throw new Error('the table is not what this test takes it for');
  for (let i = 0; i < files; i++) bytes[at + 40 * i]! ^= 0xff;
  writeFileSync(path, bytes);
});

const heals = test.macro({
  async exec(t, _: string, spoil: (store: Damaged) => string) {
    const store = await twoObjects(t);
    spoil(store);
    const { sandbox, repository, hit, spared } = store;
    t.deepEqual(await cleanAll(t, sandbox, repository, [hit[1], spared[1]]), [hit[0], spared[0]]);
    assertSame(t, await smudgeAll(t, sandbox, repository, [hit[0], spared[0]]), [hit[1], spared[1]]);
  },
  title: (_, what) => `adding the same content again mends ${what}`,
});
test.serial(heals, 'a lost xorb', ({ xorb }) => lose(xorb));
test.serial(heals, 'a lost shard', ({ shard }) => lose(shard));
test.serial(heals, 'a xorb cut in its middle', ({ xorb }) => cut(xorb, 250_000));
test.serial(heals, 'a xorb cut to nothing', ({ xorb }) => cut(xorb, 0));
test.serial(heals, 'a shard cut in its middle', ({ shard }) => cut(shard, 100));
test.serial(heals, 'a shard of garbage', ({ shard }) => garble(shard));
test.serial(heals, 'a store of which nothing is left', ({ repository }) => {
  rmSync(repository.store, { recursive: true });
  return repository.store;
});

test.serial('a clone mends what is damaged in its store from its source', async (t) => {
  const { sandbox, repository, hit } = await twoObjects(t);
  const clone = await sandbox.at(sandbox.path('repository'));
  const oid = await repository.text(['hash-object', '-w', '--stdin'], { input: hit[0] });
  await clone.git(['update-index', '--add', '--cacheinfo', `100644,${oid},hit.bin`]);
  await clone.git(['commit', '-q', '-m', 'hit']);
  for (const args of [['--no-hardlinks'], ['--shared']]) {
    rmSync(sandbox.path('clone'), { recursive: true, force: true });
    await sandbox.git(['clone', '-q', ...args, 'repository', 'clone']);
    const copy = await sandbox.at(sandbox.path('clone'));
    const [xorb] = [...filesUnder(join(copy.store, 'xorbs')).keys()].map((name) =>
      join(copy.store, 'xorbs', name),
    );
    // A file of its own: the source's is the same one by a hard link.
    const bytes = readFileSync(xorb!);
    rmSync(xorb!);
    writeFileSync(xorb!, bytes.subarray(0, 1000));
    rmSync(copy.path('hit.bin'));
    const { stderr } = await copy.git(['checkout', '-q', '.']);
    t.is(stderr, '');
    await assertClean(t, copy, [['hit.bin', hit[1]]]);
    rmSync(copy.path('hit.bin'));
    await copy.git(['-c', 'remote.origin.url=/nowhere', 'checkout', '-q', '.']);
    await assertClean(t, copy, [['hit.bin', hit[1]]]);
  }
});

test.serial('a store of another version is refused by readers and writers, and left alone', async (t) => {
  const { sandbox, repository, hit } = await twoObjects(t);
  writeFileSync(join(repository.store, 'format'), 'git2db xet store 2\n');
  const before = storeFiles(repository.store);
  const client = await startFilter(t, sandbox, repository);
  t.is((await client.smudge('a.bin', hit[0])).status, 'error');
  t.is((await client.clean('a.bin', randomBytes(7, 100))).status, 'error');
  const { stderr } = await client.end();
  t.regex(stderr, /expected "git2db xet store 1", found "git2db xet store 2/);
  t.deepEqual(storeFiles(repository.store), before);
});
