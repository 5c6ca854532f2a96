import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { Shard } from '../../src/xet/shard/shard.ts';
import { FilterClient } from '../helpers/filter-client.ts';
import { isolateProcess } from '../helpers/git-sandbox.ts';
import {
  assertClean,
  assertNothingIncoming,
  filesUnder,
  randomBytes,
  storeSize,
  type XetRepository,
  type XetSandbox,
} from '../helpers/xet-sandbox.ts';
import {
  createLfsSandbox,
  GIT_LFS_DRIVER,
  HAS_GIT_LFS,
  lfsRepository,
  objectOf,
  pointerOf,
} from './lfs-sandbox.ts';

isolateProcess();

const withGitLfs = HAS_GIT_LFS ? test.serial : test.skip;
const reason = HAS_GIT_LFS ? '' : ' (skipped: git-lfs is not installed)';

function startLfsFilter(
  t: ExecutionContext,
  { env }: XetSandbox,
  { dir }: XetRepository,
  extra: Record<string, string> = {},
): Promise<FilterClient> {
  return FilterClient.start(t, ['git2db-lfs-filter'], { cwd: dir, env: { ...env, ...extra } });
}

test.serial('clean gives the standard pointer, and smudge the content, of files of any size', async (t) => {
  const sandbox = createLfsSandbox(t);
  const repository = await lfsRepository(sandbox);
  const contents = [
    Buffer.from('x'),
    randomBytes(1, 1023),
    randomBytes(2, 1024),
    randomBytes(3, 200_000),
    randomBytes(4, 9_000_000),
  ];
  const client = await startLfsFilter(t, sandbox, repository);
  for (const content of contents) {
    const { content: pointer } = await client.clean('a.bin', content, { packetSize: 8000 });
    t.is(pointer.toString(), pointerOf(content));
    t.true((await client.smudge('a.bin', pointer)).content.equals(content), 'before it is sealed');
  }
  t.like(await client.end(), { code: 0, stderr: '' });
  assertNothingIncoming(t, repository.store);
  const second = await startLfsFilter(t, sandbox, repository);
  for (const content of contents)
    t.true((await second.smudge('a.bin', pointerOf(content))).content.equals(content));
  t.like(await second.end(), { code: 0, stderr: '' });
});

test.serial(
  'clean and smudge are total, and a pointer is cleaned to itself, odd ones that git-lfs reads too',
  async (t) => {
    const sandbox = createLfsSandbox(t);
    const repository = await lfsRepository(sandbox);
    const { sha256 } = objectOf(Buffer.from('absent'));
    const version = 'version https://git-lfs.github.com/spec/v1';
    const xet = `{"version":"1.0","filesize":6,"hash":"${'ab'.repeat(32)}"}\n`;
    const pointers = [
      `${version}\noid sha256:${sha256}\nsize 6\n`,
      `${version}\r\noid sha256:${sha256}\r\nsize 6\r\n`,
      `${version}\noid sha256:${sha256}\nsize 6`,
      `\n${version}\n\noid sha256:${sha256}\nsize 6\n\n`,
      `version https://hawser.github.com/spec/v1\noid sha256:${sha256}\nsize 6\n`,
      `version http://git-media.io/v/2\noid sha256:${sha256}\nsize 6\n`,
      `${version}\next-0-caps sha256:${sha256}\noid sha256:${sha256}\nsize 6\n`,
      xet,
    ];
    const client = await startLfsFilter(t, sandbox, repository);
    for (const pointer of pointers) {
      const { content, status } = await client.clean('a.bin', pointer);
      t.deepEqual([content.toString(), status], [pointer, 'success']);
    }
    const contents = [
      '',
      `${version}\noid sha256:${sha256}\n`,
      `${version}\noid sha256:${sha256.toUpperCase()}\nsize 6\n`,
      `${version}\noid sha256:${sha256}\nsize 99999999999999999999\n`,
      `${version}\noid md5:${sha256}\nsize 6\n`,
      `${version}\noid sha256:${sha256}\nsize 6\nextra 1\n`,
      `x${version}\noid sha256:${sha256}\nsize 6\n`,
      `${version}\noid sha256:${sha256}\nsize 6\n${' '.repeat(1024)}`,
    ];
    for (const content of contents) {
      const smudged = await client.smudge('a.bin', content);
      t.deepEqual([smudged.content.toString(), smudged.status], [content, 'success']);
      const cleaned = (await client.clean('a.bin', content)).content.toString();
      t.is(cleaned, content === '' ? '' : pointerOf(Buffer.from(content)));
    }
    // Those of other kinds, and those that need programs, stay as they are.
    for (const pointer of [pointers[6]!, xet])
      t.is((await client.smudge('a.bin', pointer)).content.toString(), pointer);
    const { stderr, code } = await client.end();
    t.is(code, 0);
    t.regex(stderr, /left as pointers because of LFS extensions/);
  },
);

test.serial(
  'a SHA-256 that is nowhere here is an error that says so, or leaves the pointer if that is wanted',
  async (t) => {
    const sandbox = createLfsSandbox(t);
    const repository = await lfsRepository(sandbox);
    const stored = randomBytes(10, 5000);
    const first = await startLfsFilter(t, sandbox, repository);
    await first.clean('a.bin', stored);
    await first.end();
    const absent = randomBytes(11, 5000);
    const client = await startLfsFilter(t, sandbox, repository, { GIT2DB_BLAKE3: 'js' });
    t.is((await client.smudge('a.bin', pointerOf(absent))).status, 'error');
    // The right SHA-256 with another size is another content.
    t.is((await client.smudge('a.bin', pointerOf(stored).replace('size 5000', 'size 5001'))).status, 'error');
    // A Xet hash is no SHA-256: the file is there by that name, and is not given.
    const shard = Shard.open(
      readFileSync(
        join(repository.store, 'shards', [...filesUnder(join(repository.store, 'shards')).keys()][0]!),
      ),
    );
    const [file] = [...shard.files()];
    const asSha256 = Buffer.from(file!.fileHash).toString('hex');
    t.is(
      (await client.smudge('a.bin', pointerOf(stored).replace(objectOf(stored).sha256, asSha256))).status,
      'error',
    );
    t.regex(
      (await client.end()).stderr,
      new RegExp(`LFS object ${objectOf(absent).sha256} \\(5000 bytes\\) is not in`),
    );

    const skipping = await startLfsFilter(t, sandbox, repository, { GIT_LFS_SKIP_SMUDGE: '1' });
    t.is((await skipping.smudge('a.bin', pointerOf(absent))).content.toString(), pointerOf(absent));
    t.true(
      (await skipping.smudge('a.bin', pointerOf(stored))).content.equals(stored),
      'what is here needs no download',
    );
    await skipping.end();
    const none = await startLfsFilter(t, sandbox, repository, { GIT2DB_SKIP_SMUDGE: '1' });
    t.is((await none.smudge('a.bin', pointerOf(stored))).content.toString(), pointerOf(stored));
    await none.end();
    await repository.git(['config', 'lfs.fetchexclude', 'models,*.tmp']);
    const excluding = await startLfsFilter(t, sandbox, repository);
    t.is((await excluding.smudge('models/a.bin', pointerOf(absent))).content.toString(), pointerOf(absent));
    t.is((await excluding.smudge('other/a.bin', pointerOf(absent))).status, 'error');
    await excluding.end();
    await repository.git(['config', 'xet.onMissing', 'pointer']);
    const lenient = await startLfsFilter(t, sandbox, repository);
    t.is((await lenient.smudge('a.bin', pointerOf(absent))).content.toString(), pointerOf(absent));
    t.regex((await lenient.end()).stderr, /left as pointer/);
  },
);

test.serial('one repository with both attributes: two filters, one content, stored once', async (t) => {
  const sandbox = createLfsSandbox(t);
  const repository = await lfsRepository(sandbox);
  const content = randomBytes(20, 4_000_000);
  repository.write('b.xet', content);
  await repository.commit('as xet');
  const size = storeSize(repository.store);
  repository.write('a.bin', content);
  await repository.commit('as lfs');
  t.true(storeSize(repository.store) - size < 20_000, 'a record, and no content');
  t.is(await repository.text(['show', 'HEAD:a.bin']), pointerOf(content).trimEnd());
  t.regex(await repository.text(['show', 'HEAD:b.xet']), /^\{"version"/);
  // Both at once, the LFS one first.
  const other = randomBytes(21, 2_000_000);
  repository.write('c.bin', other);
  repository.write('c.xet', other);
  await repository.commit('both at once');
  await repository.git(['rm', '-q', '--cached', '-r', '.']);
  await repository.git(['reset', '-q', '--hard']);
  await assertClean(t, repository, [
    ['a.bin', content],
    ['b.xet', content],
    ['c.bin', other],
    ['c.xet', other],
  ]);
  const clone = sandbox.path('clone');
  await sandbox.git(['clone', '-q', repository.dir, clone]);
  await assertClean(t, await sandbox.at(clone), [
    ['a.bin', content],
    ['c.bin', other],
    ['c.xet', other],
  ]);
});

test.serial(
  "content comes from git-lfs's own store where that is whole, of this repository or of a remote on this machine",
  async (t) => {
    const sandbox = createLfsSandbox(t);
    const repository = await lfsRepository(sandbox);
    const content = randomBytes(30, 3_000_000);
    const damaged = randomBytes(31, 1000);
    putLfsObject(repository, content, content);
    putLfsObject(repository, damaged, randomBytes(32, 1000));
    const client = await startLfsFilter(t, sandbox, repository);
    t.true((await client.smudge('a.bin', pointerOf(content))).content.equals(content));
    t.is((await client.smudge('a.bin', pointerOf(damaged))).status, 'error');
    t.regex((await client.end()).stderr, /is not what its name says/);
    t.deepEqual([...filesUnder(repository.store).keys()], [], 'reading stores nothing');

    repository.write('a.bin', pointerOf(content));
    await repository.commit('a pointer that git-lfs has left');
    const clone = sandbox.path('clone');
    await sandbox.git(['clone', '-q', repository.dir, clone]);
    await assertClean(t, await sandbox.at(clone), [['a.bin', content]]);
  },
);

function putLfsObject(repository: XetRepository, name: Buffer, content: Buffer): void {
  const { sha256 } = objectOf(name);
  const directory = repository.path('.git/lfs/objects', sha256.slice(0, 2), sha256.slice(2, 4));
  mkdirSync(directory, { recursive: true });
  writeFileSync(join(directory, sha256), content);
}

test.serial(
  'a pointer that git has in an older form stays in it while the content is the same',
  async (t) => {
    const sandbox = createLfsSandbox(t);
    const repository = await lfsRepository(sandbox);
    const content = randomBytes(40, 100_000);
    const old = pointerOf(content).replace('git-lfs.github.com', 'hawser.github.com');
    repository.write('a.bin', old);
    await repository.commit('an old pointer');
    t.is(await repository.text(['show', 'HEAD:a.bin']), old.trimEnd());
    repository.write('a.bin', content);
    await repository.git(['add', 'a.bin']);
    t.is(await repository.text(['status', '--porcelain']), '');
    repository.write('a.bin', randomBytes(41, 100_000));
    await repository.git(['add', 'a.bin']);
    t.is(await repository.text(['show', ':a.bin']), pointerOf(randomBytes(41, 100_000)).trimEnd());
  },
);

test.serial('gc keeps what LFS pointers need, and fsck names them where it is damaged', async (t) => {
  const sandbox = createLfsSandbox(t);
  const repository = await lfsRepository(sandbox);
  const content = randomBytes(50, 1_000_000);
  const dropped = randomBytes(51, 1_000_000);
  repository.write('a.bin', content);
  await repository.commit('kept');
  repository.write('x.bin', dropped);
  await repository.git(['add', 'x.bin']);
  await repository.git(['rm', '-q', '--cached', 'x.bin']);
  await repository.git(['reflog', 'expire', '--expire=now', '--all']);
  await repository.git(['gc', '-q', '--prune=now']);
  const collected = await sandbox.run('git2db', ['xet', 'gc', '--prune', '--grace', '0'], {
    cwd: repository.dir,
  });
  t.is(collected.status, 0, collected.stderr);
  const client = await startLfsFilter(t, sandbox, repository);
  t.true((await client.smudge('a.bin', pointerOf(content))).content.equals(content));
  t.is((await client.smudge('x.bin', pointerOf(dropped))).status, 'error', 'it was collected');
  await client.end();
  const well = await sandbox.run('git2db', ['xet', 'fsck'], { cwd: repository.dir });
  t.is(well.status, 0, well.stderr);
  const xorbs = join(repository.store, 'xorbs');
  for (const [path] of filesUnder(xorbs)) {
    const bytes = readFileSync(join(xorbs, path));
    bytes[bytes.length >> 1]! ^= 1;
    writeFileSync(join(xorbs, path), bytes);
  }
  const ill = await sandbox.run('git2db', ['xet', 'fsck', '--json'], { cwd: repository.dir });
  t.not(ill.status, 0);
  t.regex(ill.stdout, /a\.bin/);
});

test.serial(
  'migrate lfs moves objects into the store, deletes what reads back, and leaves the damaged',
  async (t) => {
    const sandbox = createLfsSandbox(t);
    const repository = await lfsRepository(sandbox);
    const base = randomBytes(60, 3_000_000);
    const versions = [
      base,
      Buffer.concat([base.subarray(0, 1_500_000), Buffer.from('inserted'), base.subarray(1_500_000)]),
    ];
    for (const version of versions) putLfsObject(repository, version, version);
    const damaged = randomBytes(61, 1000);
    putLfsObject(repository, damaged, randomBytes(62, 1000));
    writeFileSync(repository.path('.git/lfs/objects/README'), 'no object');
    const objects = repository.path('.git/lfs/objects');
    const before = [...filesUnder(objects).keys()];
    const json = async (...args: string[]) => {
      const result = await sandbox.run('git2db', ['xet', 'migrate', 'lfs', '--json', ...args], {
        cwd: repository.dir,
      });
      return { ...result, report: result.stdout === '' ? undefined : JSON.parse(result.stdout) };
    };
    const dry = await json('--dry-run');
    t.like(dry.report, { dryRun: true, objects: 3, deleted: 0, savedBytes: null });
    t.deepEqual([...filesUnder(objects).keys()], before);

    await repository.git(['config', 'filter.lfs.process', 'git-lfs filter-process']);
    const refused = await json();
    t.is(refused.status, 8);
    t.regex(refused.stderr, /git2db xet install --lfs/);
    await repository.git(['config', '--unset', 'filter.lfs.process']);

    const moved = await json();
    t.is(moved.status, 1, 'one is damaged');
    t.like(moved.report, { objects: 3, stored: 2, deleted: 2, deletedBytes: 6_000_008 });
    t.is(moved.report.failed[0].sha256, objectOf(damaged).sha256);
    t.true(
      moved.report.storeGrowth < 3_400_000,
      `the versions share their chunks: ${moved.report.storeGrowth}`,
    );
    t.is(moved.report.savedBytes, 6_000_008 - moved.report.storeGrowth);
    t.deepEqual([...filesUnder(objects).keys()].length, 2);
    const client = await startLfsFilter(t, sandbox, repository);
    for (const version of versions)
      t.true((await client.smudge('a.bin', pointerOf(version))).content.equals(version));
    await client.end();
  },
);

withGitLfs(
  `a return to git-lfs: uninstall says what it would not find, and migrate lfs --back writes it${reason}`,
  async (t) => {
    const sandbox = createLfsSandbox(t);
    const repository = await lfsRepository(sandbox);
    const run = (...args: string[]) => sandbox.run('git2db', ['xet', ...args], { cwd: repository.dir });
    const contents = [randomBytes(80, 9_000_000), randomBytes(81, 1000)];
    for (const content of contents) {
      repository.write('a.bin', content);
      repository.write('empty.bin', '');
      await repository.commit('version');
    }
    t.is((await run('install', '--local', '--lfs', '--force')).status, 0);
    const doctor = await run('doctor', '--json');
    t.notRegex(doctor.stdout, /nothing-tracked/);
    const left = await run('uninstall', '--local', '--lfs');
    t.regex(left.stderr, /2 LFS objects are .* in the chunk store alone.*migrate lfs --back/);
    t.notRegex(left.stderr, /git2db is no longer/, 'filter=xet still is');
    const dry = JSON.parse((await run('migrate', 'lfs', '--back', '--dry-run', '--json')).stdout);
    t.like(dry, { dryRun: true, objects: 2, restored: 2, restoredBytes: 9_001_000 });
    t.is(filesUnder(repository.path('.git/lfs')).size, 0);
    const back = await run('migrate', 'lfs', '--back');
    t.is(back.status, 0, back.stderr);
    for (const [key, value] of Object.entries(GIT_LFS_DRIVER)) await repository.git(['config', key, value]);
    await repository.text(['lfs', 'fsck']);
    const head = await repository.text(['rev-parse', 'HEAD']);
    for (const [i, revision] of [`${head}~1`, head].entries()) {
      await repository.git(['checkout', '-q', revision]);
      t.true(readFileSync(repository.path('a.bin')).equals(contents[i]!));
    }
    const again = JSON.parse((await run('migrate', 'lfs', '--back', '--json')).stdout);
    t.like(again, { objects: 2, restored: 0, failed: [] });
    t.is((await run('migrate', 'lfs', '--back', '--keep')).status, 2);
  },
);

withGitLfs(`git-lfs finds our pointers right${reason}`, async (t) => {
  const sandbox = createLfsSandbox(t);
  const repository = await lfsRepository(sandbox);
  repository.write('a.bin', randomBytes(70, 10_000));
  repository.write('empty.bin', '');
  await repository.commit('files');
  t.regex(await repository.text(['lfs', 'fsck', '--pointers']), /fsck OK/);
  t.regex(await repository.text(['lfs', 'ls-files', '--size']), /^[0-9a-f]{10} [*-] a\.bin \(10 KB\)/m);
});

test.serial(
  'migrate to-lfs stages LFS pointers for a Hub, all or none, and the work tree stays clean',
  async (t) => {
    const sandbox = createLfsSandbox(t);
    const attributes = '# large\n*.big filter=xet diff=xet merge=binary -text\n*.txt text\n';
    const repository = await sandbox.repository('repository', attributes);
    const contents = [randomBytes(80, 500_000), randomBytes(81, 20)];
    repository.write('a.big', contents[0]!);
    repository.write('b c.big', contents[1]!);
    repository.write('empty.big', '');
    await repository.commit('as xet');
    const size = storeSize(repository.store);
    const run = (...args: string[]) =>
      sandbox.run('git2db', ['xet', 'migrate', 'to-lfs', ...args], { cwd: repository.dir });
    const dry = await run('--dry-run', '--json');
    t.like(JSON.parse(dry.stdout), { attributes: ['.gitattributes'] });
    t.is(JSON.parse(dry.stdout).converted.length, 2);
    t.is(await repository.text(['status', '--porcelain']), '');

    const done = await run();
    t.is(done.status, 0, done.stderr);
    t.regex(
      readFileSync(repository.path('.gitattributes'), 'utf8'),
      /^# large\n\*\.big merge=binary -text filter=lfs diff=lfs\n\*\.txt text\n$/,
    );
    t.is(await repository.text(['show', ':a.big']), pointerOf(contents[0]!).trimEnd());
    t.is(await repository.text(['show', ':b c.big']), pointerOf(contents[1]!).trimEnd());
    await repository.git(['commit', '-q', '-m', 'as lfs']);
    await assertClean(t, repository, [
      ['a.big', contents[0]!],
      ['b c.big', contents[1]!],
      ['empty.big', ''],
    ]);
    t.true(storeSize(repository.store) - size < 20_000, 'records, and no content');
    t.regex((await run()).stderr, /no pointers of git2db to convert/);

    const other = await sandbox.repository('other', attributes);
    other.write('a.big', `{"version":"1.0","filesize":6,"hash":"${'ab'.repeat(32)}"}\n`);
    await other.commit('a pointer without content');
    const refused = await sandbox.run('git2db', ['xet', 'migrate', 'to-lfs'], { cwd: other.dir });
    t.is(refused.status, 9);
    t.is(await other.text(['status', '--porcelain']), '');
  },
);
