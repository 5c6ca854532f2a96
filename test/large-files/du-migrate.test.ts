import { spawnSync } from 'node:child_process';
import { chmodSync, linkSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { EXIT_CODES } from '../../src/exit-codes.ts';
import { cli } from '../cli/run.ts';
import { isolateProcess } from '../helpers/git-sandbox.ts';
import {
  createXetSandbox,
  filesUnder,
  randomBytes,
  TRACKED,
  type XetRepository,
  type XetSandbox,
} from '../helpers/xet-sandbox.ts';

isolateProcess();

/** One command with --json; it must end with 0. */
async function json(sandbox: XetSandbox, cwd: string, ...argv: string[]) {
  const { code, stdout, stderr } = await cli(['xet', ...argv, '--json'], { cwd, env: sandbox.env });
  if (code !== 0) throw new Error(`${argv.join(' ')}: ${code}\n${stderr}`);
  return JSON.parse(stdout);
}

/** What the system's du says. */
function systemDu(directory: string): number {
  const { stdout, status } = spawnSync(
    'du',
    ['--apparent-size', '--block-size=1', '--summarize', directory],
    { encoding: 'utf8' },
  );
  if (status !== 0) throw new Error('du failed');
  return Number.parseInt(stdout, 10);
}

const SIZE = 800_000;

// ---- du --------------------------------------------------------------------------------------

test('du tells sizes, savings and the largest files, and agrees with the system', async (t) => {
  const sandbox = createXetSandbox(t);
  const repository = await sandbox.repository();
  const empty = await json(sandbox, repository.dir, 'du');
  t.like(empty, { totalBytes: 0, known: { files: 0, bytes: 0 }, reclaimable: { xorbs: 0, bytes: 0 } });

  const content = randomBytes(1, SIZE);
  repository.write('a.bin', content);
  repository.write('twice.bin', Buffer.concat([content, content]));
  repository.write('zeros.bin', Buffer.alloc(500_000));
  await repository.commit('one');
  mkdirSync(join(repository.store, 'quarantine'));
  writeFileSync(join(repository.store, 'quarantine', 'x'), randomBytes(9, 5000));
  // A second name of a file takes nothing.
  linkSync(join(repository.store, 'quarantine', 'x'), join(repository.store, 'quarantine', 'y'));

  const usage = await json(sandbox, repository.dir, 'du');
  t.is(usage.totalBytes, systemDu(repository.store));
  const files = filesUnder(repository.store);
  const sum = (part: string) =>
    [...files].reduce((n, [path, size]) => n + (path.startsWith(`${part}/`) ? size : 0), 0);
  for (const part of ['xorbs', 'shards', 'catalog']) t.is(usage.parts[part], sum(part), part);
  t.is(usage.parts.quarantine, 5000);
  t.like(usage, {
    known: { files: 3, bytes: 3 * SIZE + 500_000 },
    referenced: { files: 3, bytes: 3 * SIZE + 500_000 },
    missing: { files: 0, bytes: 0 },
    reclaimable: { xorbs: 0, bytes: 0 },
    unreadable: [],
  });
  t.is(usage.counts.xorbs, 1);
  t.true(usage.counts.chunks > 10);
  // Not all repeats are found (chunk boundaries at the seam), and zeros compress well.
  t.true(usage.chunkBytes >= SIZE && usage.chunkBytes < SIZE + 700_000, `${usage.chunkBytes}`);
  t.true(usage.storedBytes < usage.chunkBytes && usage.storedBytes > SIZE);
  t.deepEqual(
    usage.largest.map(({ path, size }: { path: string; size: number }) => [path, size]),
    [
      ['twice.bin', 2 * SIZE],
      ['a.bin', SIZE],
      ['zeros.bin', 500_000],
    ],
  );
  const { stdout, code } = await cli(['xet', 'du'], { cwd: repository.dir, env: sandbox.env });
  t.is(code, 0);
  t.regex(stdout, /^known files +2\.7\d MiB {2}3$/m);
  t.regex(stdout, /^total .* \S+\/xet$/m);
  t.regex(stdout, /^ *1\.53 MiB {2}[0-9a-f]{12} {2}twice\.bin$/m);
});

test('du estimates what gc could free, and says when it cannot know', async (t) => {
  const sandbox = createXetSandbox(t);
  const repository = await sandbox.repository();
  const kept = randomBytes(1, SIZE);
  repository.write('a.bin', kept);
  await repository.commit('one');
  await repository.git(['switch', '-q', '-c', 'side']);
  repository.write('dead.bin', randomBytes(2, SIZE));
  repository.write('half.bin', Buffer.concat([kept.subarray(0, 300_000), randomBytes(3, SIZE)]));
  await repository.commit('side');
  t.is((await json(sandbox, repository.dir, 'du')).reclaimable.bytes, 0);
  await repository.git(['switch', '-q', 'main']);
  await repository.git(['branch', '-q', '-D', 'side']);
  t.is((await json(sandbox, repository.dir, 'du')).reclaimable.bytes, 0, 'a reflog still has it');
  await repository.git(['reflog', 'expire', '--expire=now', '--all']);
  const { reclaimable, known, referenced } = await json(sandbox, repository.dir, 'du');
  t.is(reclaimable.xorbs, 1);
  t.true(reclaimable.bytes >= 2 * SIZE && reclaimable.bytes < 2 * SIZE + 150_000, `${reclaimable.bytes}`);
  t.deepEqual([known.files, referenced.files], [3, 1]);

  const gc = await json(sandbox, repository.dir, 'gc', '--grace', '0');
  t.true(Math.abs(gc.bytes.freed - reclaimable.bytes) < 20_000, `gc says ${gc.bytes.freed}`);

  mkdirSync(join(repository.store, 'users'), { recursive: true });
  writeFileSync(join(repository.store, 'users', 'gone'), '/nowhere/.git\n');
  t.like(await json(sandbox, repository.dir, 'du'), { reclaimable: null, unreadable: ['/nowhere/.git'] });

  rmSync(join(repository.store, 'shards'), { recursive: true });
  t.like(await json(sandbox, repository.dir, 'du'), { missing: { files: 1, bytes: SIZE } });
  t.is((await cli(['xet', 'du'], { cwd: sandbox.tmp, env: sandbox.env })).code, EXIT_CODES.NOT_A_REPOSITORY);
});

// ---- migrate info ----------------------------------------------------------------------------

/** A repository whose large files git holds whole. */
async function wholeRepository(sandbox: XetSandbox): Promise<XetRepository> {
  const repository = await sandbox.repository('whole', '');
  const first = randomBytes(1, SIZE);
  mkdirSync(repository.path('sub'));
  repository.write('model.weights', first);
  repository.write('sub/other.weights', randomBytes(2, 300_000));
  repository.write('data set', Buffer.alloc(200_000, 'text '));
  repository.write('.hidden', randomBytes(3, 100_000));
  repository.write('small.txt', 'small');
  await repository.commit('one');
  repository.write('model.weights', Buffer.concat([randomBytes(4, 1000), first]));
  await repository.commit('two');
  await repository.git(['branch', 'side', 'HEAD~']);
  return repository;
}

test('migrate info sums up the large blobs of a history by kind of file', async (t) => {
  const sandbox = createXetSandbox(t);
  const repository = await wholeRepository(sandbox);
  const found = await json(sandbox, repository.dir, 'migrate', 'info', '--above', '50k');
  t.deepEqual(
    found.map(({ pattern, files, blobs, bytes }: Record<string, unknown>) => [pattern, files, blobs, bytes]),
    [
      ['*.weights', 2, 3, 2 * SIZE + 301_000],
      ['data set', 1, 1, 200_000],
      ['.hidden', 1, 1, 100_000],
    ],
  );
  t.true(found[1].diskBytes < 10_000 && found[0].diskBytes > SIZE, 'as git has compressed them');
  for (const { tracked, estimate } of found) t.deepEqual([tracked, estimate], [false, null]);
  t.deepEqual(await json(sandbox, repository.dir, 'migrate', 'info'), []);
  const old = await json(sandbox, repository.dir, 'migrate', 'info', '--above', '500k', 'side');
  t.is(old[0].blobs, 1);
  await repository.git(['switch', '-q', 'side']);
  const all = await json(
    sandbox,
    join(repository.dir, 'sub'),
    'migrate',
    'info',
    '--above',
    '0.5m',
    '--everything',
  );
  t.is(all[0].blobs, 2);
  const bare = await json(sandbox, repository.path('.git'), 'migrate', 'info', '--above', '50k');
  t.is(bare.length, 3);
});

test('migrate info --estimate tells what repeats, and the text names the command and that history stays', async (t) => {
  const sandbox = createXetSandbox(t);
  const repository = await wholeRepository(sandbox);
  const [weights] = await json(sandbox, repository.dir, 'migrate', 'info', '--above', '50k', '--estimate');
  const { examinedBytes, uniqueBytes } = weights.estimate;
  t.is(examinedBytes, 2 * SIZE + 301_000);
  t.true(uniqueBytes < SIZE + 300_000 + 200_000, 'the two versions differ in their first kilobyte');
  const { stdout, stderr } = await cli(['xet', 'migrate', 'info', '--above', '50k', '--estimate'], {
    cwd: repository.dir,
    env: sandbox.env,
  });
  t.regex(stdout, /^PATTERN +FILES +VERSIONS +SIZE +IN GIT +REPEATS\n\*\.weights +2 +3 +1\.81 MiB .* 3\d%$/m);
  t.regex(stderr, /git2db xet track --renormalize '\*\.weights' 'data set' \.hidden\n/);
  t.regex(stderr, /does not rewrite history/);

  // The command that is named does it, and then the pattern is known.
  await sandbox.runOk(
    'sh',
    [
      '-c',
      `printf '%s\\n' '*.weights ${TRACKED}' >.gitattributes && git add --renormalize . && git commit -qam pointers`,
    ],
    { cwd: repository.dir },
  );
  const after = await json(sandbox, repository.dir, 'migrate', 'info', '--above', '50k');
  t.like(after[0], { pattern: '*.weights', tracked: true, blobs: 3 });
});

test('migrate info refuses what it does not understand', async (t) => {
  const sandbox = createXetSandbox(t);
  const repository = await sandbox.repository();
  const run = async (...argv: string[]) =>
    (await cli(['xet', 'migrate', 'info', ...argv], { cwd: repository.dir, env: sandbox.env })).code;
  t.is(await run('nothing'), 2);
  t.is(await run('--above', 'much'), 2);
  t.is(await run('--everything', 'main'), 2);
  t.is((await cli(['xet', 'migrate'], { cwd: repository.dir })).code, 2);
  t.is(
    (await cli(['xet', 'migrate', 'info'], { cwd: sandbox.tmp, env: sandbox.env })).code,
    EXIT_CODES.NOT_A_REPOSITORY,
  );
});

// ---- migrate pointers ------------------------------------------------------------------------

test('migrate pointers stages our form of the pointers of others, and leaves contents alone', async (t) => {
  const sandbox = createXetSandbox(t);
  const repository = await sandbox.repository();
  const contents = new Map([
    ['json.bin', randomBytes(1, 100_000)],
    ['toml.bin', randomBytes(2, 100_000)],
    ['left as pointer.bin', randomBytes(3, 100_000)],
    ['ours.bin', randomBytes(4, 100_000)],
  ]);
  for (const [name, bytes] of contents) repository.write(name, bytes);
  chmodSync(repository.path('json.bin'), 0o755);
  await repository.git(['add', '-A']);
  const canonical = new Map<string, string>();
  const stage = async (path: string, text: string, mode = '100644') => {
    const oid = (await repository.git(['hash-object', '-w', '--stdin'], { input: text })).stdout.trim();
    await repository.git(['update-index', '--add', '--cacheinfo', `${mode},${oid},${path}`]);
  };
  for (const name of contents.keys()) canonical.set(name, `${await repository.text(['show', `:${name}`])}\n`);
  const hash = (name: string) => (JSON.parse(canonical.get(name)!) as { hash: string }).hash;
  await stage('json.bin', `{"hash":"${hash('json.bin')}","file_size":100000}`, '100755');
  await stage('toml.bin', `# xet version 0\nfilesize = 100000\nhash = '${hash('toml.bin')}'\n`);
  const foreign = `{"hash":"${hash('left as pointer.bin')}","file_size":100000}\n`;
  await stage('left as pointer.bin', foreign);
  repository.write('left as pointer.bin', foreign);
  await stage('no-filter.txt', foreign);
  repository.write('no-filter.txt', foreign);
  await repository.git(['commit', '-qm', 'pointers of others']);
  await repository.git(['update-index', '-q', '--refresh'], { okStatus: [0, 1] });
  t.is(await repository.text(['status', '--porcelain']), '', 'foreign pointers are no modification');

  const before = readFileSync(repository.path('.git/index'));
  const dry = await json(sandbox, repository.dir, 'migrate', 'pointers', '--dry-run');
  t.deepEqual(
    dry.converted.map(({ path, kind, to }: Record<string, unknown>) => [path, kind, to]),
    [
      ['json.bin', 'xet-json', null],
      ['left as pointer.bin', 'xet-json', null],
      ['toml.bin', 'xet-toml', null],
    ],
  );
  t.deepEqual(dry.untracked, ['no-filter.txt']);
  t.true(readFileSync(repository.path('.git/index')).equals(before));

  mkdirSync(repository.path('sub'));
  const done = await json(sandbox, repository.path('sub'), 'migrate', 'pointers');
  t.deepEqual(
    done.converted.map(({ path }: { path: string }) => path),
    dry.converted.map(({ path }: { path: string }) => path),
  );
  for (const [name, pointer] of canonical)
    t.is(`${await repository.text(['show', `:${name}`])}\n`, pointer, name);
  t.is(`${await repository.text(['show', ':no-filter.txt'])}\n`, foreign);
  t.is((await repository.text(['ls-files', '-s', 'json.bin'])).split(' ')[0], '100755');
  t.true(readFileSync(repository.path('json.bin')).equals(contents.get('json.bin')!));
  t.is(readFileSync(repository.path('left as pointer.bin'), 'utf8'), canonical.get('left as pointer.bin')!);
  await repository.git(['commit', '-qm', 'ours']);
  t.is(await repository.text(['status', '--porcelain']), '');
  t.deepEqual((await json(sandbox, repository.dir, 'migrate', 'pointers')).converted, []);
});
