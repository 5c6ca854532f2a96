import { createHash } from 'node:crypto';
import {
  chmodSync,
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { EXIT_CODES } from '../../src/exit-codes.ts';
import { parseHash } from '../../src/xet/hash/xet-hash.ts';
import { LocalStore } from '../../src/xet/store/local-store.ts';
import { openXorbFile, recordStart } from '../../src/xet/store/xorb-source.ts';
import { Uploader } from '../../src/xet/upload.ts';
import { cli } from '../cli/run.ts';
import { isolateProcess } from '../helpers/git-sandbox.ts';
import {
  createXetSandbox,
  filesUnder,
  randomBytes,
  type XetRepository,
  type XetSandbox,
} from '../helpers/xet-sandbox.ts';

isolateProcess();

interface Lost {
  readonly repository: string;
  readonly commit: string | null;
  readonly path: string;
  readonly oid: string;
  readonly fileHash: string;
  readonly size: number;
  readonly state: string;
  readonly faults: readonly Record<string, string | number | null>[];
}

interface Report {
  readonly ok: boolean;
  readonly checked: Record<string, number>;
  readonly damage: readonly Record<string, string | number | null>[];
  readonly lost: readonly Lost[];
  readonly unreadable: readonly { readonly commonDir: string; readonly reason: string }[];
  readonly unreferenced: readonly string[];
  readonly repair: { readonly quarantined: string[]; readonly healed: Lost[] } | null;
}

/** A fsck of `repository`, and what it says; without --repair it may change nothing. */
async function fsck(
  t: ExecutionContext,
  sandbox: XetSandbox,
  repository: Pick<XetRepository, 'dir' | 'store'>,
  ...argv: string[]
): Promise<Report & { readonly code: number; readonly stderr: string }> {
  const before = argv.includes('--repair') ? '' : fingerprint(repository.store);
  const { code, stdout, stderr } = await cli(['xet', 'fsck', '--json', ...argv], {
    cwd: repository.dir,
    env: sandbox.env,
  });
  if (before !== '') t.is(fingerprint(repository.store), before, 'a check changed something');
  const report = JSON.parse(stdout) as Report;
  t.is(report.ok, code === 0);
  return { ...report, code, stderr };
}

/** Names, times and contents of all there is. */
function fingerprint(directory: string): string {
  const hash = createHash('sha256');
  for (const path of filesUnder(directory).keys()) {
    const { mtimeMs, ctimeMs, ino } = lstatSync(join(directory, path));
    hash.update(JSON.stringify([path, mtimeMs, ctimeMs, ino])).update(readFileSync(join(directory, path)));
  }
  return `${hash.digest('hex')}`;
}

function xorbsOf(store: string): string[] {
  return [...filesUnder(join(store, 'xorbs')).keys()].map((path) => path.slice(3));
}

function xorbPath(store: string, xorb: string): string {
  return join(store, 'xorbs', xorb.slice(0, 2), xorb);
}

/** Where the record of a chunk starts. */
function recordAt(store: string, xorb: string, chunk: number): number {
  return recordStart(openXorbFile(xorbPath(store, xorb), parseHash(xorb)), chunk);
}

function flip(path: string, offset: number): void {
  const bytes = readFileSync(path);
  bytes[offset] = (bytes[offset] as number) ^ 1;
  writeFileSync(path, bytes);
}

const SIZE = 900_000;

test('a repository in order: every pointer is looked at, and nothing is changed', async (t) => {
  const sandbox = createXetSandbox(t);
  const repository = await sandbox.repository();
  repository.write('a.bin', randomBytes(1, SIZE));
  repository.write('empty.bin', '');
  await repository.commit('one');
  repository.write('a.bin', randomBytes(2, SIZE));
  await repository.git(['stash', '-q']);
  repository.write('b.bin', randomBytes(3, SIZE));
  await repository.git(['add', 'b.bin']);
  const report = await fsck(t, sandbox, repository);
  t.is(report.code, 0, report.stderr);
  t.like(report, { ok: true, damage: [], lost: [], repair: null });
  t.like(report.checked, { pointers: 3, repositories: 1, writers: 0 });
  t.regex(report.stderr, /checked 3 pointers, \d xorbs, .*: all is well/);
  const quick = await fsck(t, sandbox, repository, '--quick');
  t.is(quick.code, 0);
  const outside = await cli(['xet', 'fsck'], { cwd: sandbox.tmp, env: sandbox.env });
  t.is(outside.code, EXIT_CODES.NOT_A_REPOSITORY);
  t.is((await cli(['xet', 'fsck', '--quick', '--repair'], { cwd: repository.dir })).code, 2);
});

test('a damage is named: path, commit, chunk, xorb, offset, what was expected and found', async (t) => {
  const sandbox = createXetSandbox(t);
  const repository = await sandbox.repository();
  const content = randomBytes(1, SIZE);
  mkdirSync(repository.path('sub'));
  repository.write('sub/a b.bin', content);
  await repository.commit('one');
  const commit = await repository.text(['rev-parse', 'HEAD']);
  await repository.git(['mv', 'sub/a b.bin', 'moved.bin']);
  await repository.commit('two');
  const [xorb] = xorbsOf(repository.store) as [string];
  const offset = recordAt(repository.store, xorb, 4);
  flip(xorbPath(repository.store, xorb), offset + 1000);

  const report = await fsck(t, sandbox, repository);
  t.is(report.code, 1);
  t.is(report.damage.length, 1);
  t.like(report.damage[0], {
    object: 'xorb',
    name: xorb,
    path: xorbPath(repository.store, xorb),
    chunk: 4,
    offset,
  });
  t.is(report.lost.length, 1);
  const [lost] = report.lost as [Lost];
  t.like(lost, {
    path: 'sub/a b.bin',
    commit,
    size: SIZE,
    state: 'damaged',
    repository: join(repository.dir, '.git'),
  });
  const [fault] = lost.faults as [Record<string, string | number>];
  t.like(fault, { xorb, chunk: 4, chunkEnd: 5, offset });
  t.is(lost.faults.length, 1);
  t.regex(String(fault.expected), /^chunk [0-9a-f]{64} of \d+ bytes$/);
  t.regex(String(fault.found), /^\d+ bytes with hash [0-9a-f]{64}$/);
  const at = readFileSync(xorbPath(repository.store, xorb)).subarray(offset + 8, offset + 100);
  t.true(content.subarray(Number(fault.fileOffset), Number(fault.fileOffset) + 92).equals(at));

  const text = await cli(['xet', 'fsck'], { cwd: repository.path('.git'), env: sandbox.env });
  t.is(text.code, 1);
  t.is(text.stdout, '');
  t.true(text.stderr.includes(`git2db: xorb ${xorb}, chunk 4, offset ${offset}: expected chunk `));
  t.true(text.stderr.includes('git2db: lost: sub/a b.bin ('));
  t.true(text.stderr.includes(`commit ${commit}`));
  t.true((await fsck(t, sandbox, repository, '--quick')).ok, 'a quick check does not read chunks');
});

test('content that only a stash, another branch, a worktree or an index has is looked at too', async (t) => {
  const sandbox = createXetSandbox(t);
  const repository = await sandbox.repository();
  const put = async (name: string, seed: number) => {
    repository.write(name, randomBytes(seed, 100_000));
    await repository.git(['add', name]);
  };
  await put('main.bin', 1);
  await repository.commit('main');
  await repository.git(['switch', '-q', '-c', 'side']);
  await put('side.bin', 2);
  await repository.commit('side');
  await repository.git(['switch', '-q', 'main']);
  await put('stash.bin', 3);
  await repository.git(['stash', '-q']);
  await repository.git(['worktree', 'add', '-q', sandbox.path('linked'), '-b', 'linked']);
  writeFileSync(sandbox.path('linked', 'tree.bin'), randomBytes(4, 100_000));
  await sandbox.git(['add', 'tree.bin'], { cwd: sandbox.path('linked') });
  await put('index.bin', 5);
  rmSync(join(repository.store, 'xorbs'), { recursive: true });
  for (const argv of [[], ['--quick']]) {
    const { code, lost, damage } = await fsck(t, sandbox, repository, ...argv);
    t.is(code, 1);
    t.deepEqual(damage, []);
    t.deepEqual(lost.map(({ path }) => path).sort(), [
      'index.bin',
      'main.bin',
      'side.bin',
      'stash.bin',
      'tree.bin',
    ]);
    for (const { path, commit, state, faults } of lost) {
      t.is(state, 'missing');
      t.is(commit === null, path === 'index.bin' || path === 'tree.bin', path);
      t.like(faults[0], { chunk: 0, found: 'it is not there' });
    }
  }
  // From any of the worktrees.
  t.is((await fsck(t, sandbox, { dir: sandbox.path('linked'), store: repository.store })).lost.length, 5);
});

test('a repair heals from the work trees; what is nowhere stays named, and the exit code says so', async (t) => {
  const sandbox = createXetSandbox(t);
  const repository = await sandbox.repository();
  const old = randomBytes(1, SIZE);
  repository.write('gone.bin', randomBytes(2, 100_000));
  await repository.git(['add', 'gone.bin']);
  repository.write('a.bin', old);
  await repository.commit('one');
  const first = await repository.text(['rev-parse', 'HEAD']);
  // The second version shares all but its end with the first.
  const content = Buffer.concat([old.subarray(0, SIZE - 100_000), randomBytes(3, 50_000)]);
  repository.write('a.bin', content);
  rmSync(repository.path('gone.bin'));
  await repository.commit('two');
  for (const xorb of xorbsOf(repository.store)) {
    const path = xorbPath(repository.store, xorb);
    flip(path, recordAt(repository.store, xorb, 0) + 500);
  }
  const before = await fsck(t, sandbox, repository);
  t.deepEqual(before.lost.map(({ path, commit }) => [path, commit === first]).sort(), [
    ['a.bin', false],
    ['a.bin', true],
    ['gone.bin', true],
  ]);

  const { code, lost, repair, stderr } = await fsck(t, sandbox, repository, '--repair');
  t.is(code, 1);
  t.deepEqual(
    lost.map(({ path }) => path),
    ['gone.bin'],
    stderr,
  );
  t.is(
    repair!.healed.length,
    2,
    'the old version too: what the work tree lacks of it was whole in the store',
  );
  t.deepEqual(repair!.quarantined.sort(), [...readdirSync(join(repository.store, 'quarantine'))].sort());
  t.regex(stderr, /healed: a\.bin .*2 healed, 1 lost/s);

  const after = await fsck(t, sandbox, repository);
  t.deepEqual([after.damage, after.lost.map(({ path }) => path)], [[], ['gone.bin']]);
  rmSync(repository.path('a.bin'));
  await repository.git(['checkout', 'HEAD~', '--', 'a.bin']);
  t.true(readFileSync(repository.path('a.bin')).equals(old));
  await repository.git(['checkout', 'HEAD', '--', 'a.bin']);
  t.true(readFileSync(repository.path('a.bin')).equals(content));

  // Added again, it is stored again, and all is well.
  writeFileSync(repository.path('again.bin'), randomBytes(2, 100_000));
  await repository.git(['add', 'again.bin']);
  t.is((await fsck(t, sandbox, repository)).code, 0);
  t.like(await fsck(t, sandbox, repository, '--repair'), {
    code: 0,
    repair: { healed: [], quarantined: [] },
  });
});

test('a repair heals from the store of a local remote, whatever it was that was lost', async (t) => {
  const sandbox = createXetSandbox(t);
  const origin = await sandbox.repository('origin');
  origin.write('a.bin', randomBytes(1, SIZE));
  origin.write('b.bin', randomBytes(2, SIZE));
  await origin.commit('one');
  await sandbox.git(['clone', '-q', origin.dir, 'clone']);
  const clone = await sandbox.at(sandbox.path('clone'));
  const losses: (() => void)[] = [
    () => rmSync(join(clone.store, 'xorbs'), { recursive: true }),
    () => {
      for (const xorb of xorbsOf(clone.store)) {
        // Hard links to the origin's: damaged in both, but for a file of its own.
        const path = xorbPath(clone.store, xorb);
        const bytes = readFileSync(path);
        rmSync(path);
        writeFileSync(path, bytes.subarray(0, 300_000));
      }
    },
    () => rmSync(clone.store, { recursive: true }),
  ];
  for (const lose of losses) {
    for (const name of ['a.bin', 'b.bin']) rmSync(clone.path(name), { force: true });
    lose();
    t.is((await fsck(t, sandbox, clone)).lost.length, 2);
    const { code, repair, stderr } = await fsck(t, sandbox, clone, '--repair');
    t.is(code, 0, stderr);
    t.is(repair!.healed.length, 2);
    t.is((await fsck(t, sandbox, clone)).code, 0);
    await clone.git(['remote', 'set-url', 'origin', '/nowhere']);
    await clone.git(['checkout', '-q', '--', '.']);
    t.true(readFileSync(clone.path('b.bin')).equals(randomBytes(2, SIZE)));
    await clone.git(['remote', 'set-url', 'origin', origin.dir]);
  }
});

test('a shard that is gone is told by its name, and the work tree heals without storing a chunk twice', async (t) => {
  const sandbox = createXetSandbox(t);
  const repository = await sandbox.repository();
  repository.write('a.bin', randomBytes(1, SIZE));
  await repository.commit('one');
  const [shard] = readdirSync(join(repository.store, 'shards')) as [string];
  const [xorb] = xorbsOf(repository.store);
  rmSync(join(repository.store, 'shards', shard));
  const { lost, code } = await fsck(t, sandbox, repository);
  t.is(code, 1);
  t.like(lost[0], { path: 'a.bin', state: 'missing' });
  t.true(String(lost[0]!.faults[0]!.expected).includes(shard.replace('.mdb', '')));
  t.is((await fsck(t, sandbox, repository, '--repair')).code, 0);
  t.deepEqual(xorbsOf(repository.store), [xorb]);
  t.is((await fsck(t, sandbox, repository)).code, 0);
});

test('a damaged footer, shard or table is mended from itself', async (t) => {
  const sandbox = createXetSandbox(t);
  const repository = await sandbox.repository();
  repository.write('a.bin', randomBytes(1, SIZE));
  await repository.commit('one');
  await repository.git(['rm', '-q', 'a.bin']);
  await repository.commit('nowhere in the work tree');
  const [xorb] = xorbsOf(repository.store) as [string];
  const [shard] = readdirSync(join(repository.store, 'shards')) as [string];
  const [table] = readdirSync(join(repository.store, 'catalog')).filter((name) => name !== 'HEAD') as [
    string,
  ];
  const path = xorbPath(repository.store, xorb);
  flip(path, lstatSync(path).size - 30);
  flip(join(repository.store, 'shards', shard), 48 + 96 + 5);
  truncateSync(join(repository.store, 'catalog', table), 100);
  const { damage, code } = await fsck(t, sandbox, repository);
  t.is(code, 1);
  t.deepEqual(damage.map(({ object, name }) => [object, name]).sort(), [
    ['catalog', table],
    ['shard', shard.replace('.mdb', '')],
    ['xorb', xorb],
  ]);
  const repaired = await fsck(t, sandbox, repository, '--repair');
  t.is(repaired.code, 0, repaired.stderr);
  t.is((await fsck(t, sandbox, repository)).code, 0);
  await repository.git(['checkout', '-q', 'HEAD~', '--', 'a.bin']);
  t.true(readFileSync(repository.path('a.bin')).equals(randomBytes(1, SIZE)));
});

test('several repositories on one store: pointers of all are checked, and who cannot be is told', async (t) => {
  const sandbox = createXetSandbox(t);
  const shared = sandbox.path('shared');
  await sandbox.git(['config', '--global', 'xet.store', shared]);
  const one = await sandbox.repository('one');
  one.write('a.bin', randomBytes(1, SIZE));
  await one.commit('one');
  const two = await sandbox.repository('two');
  two.write('deep.bin', randomBytes(2, SIZE));
  await two.commit('two');
  const place = { dir: one.dir, store: shared };
  t.like((await fsck(t, sandbox, place)).checked, { repositories: 2, pointers: 2 });

  for (const xorb of xorbsOf(shared)) flip(xorbPath(shared, xorb), 100);
  const { lost } = await fsck(t, sandbox, place);
  t.deepEqual(lost.map(({ repository, path }) => [repository, path]).sort(), [
    [join(one.dir, '.git'), 'a.bin'],
    [join(two.dir, '.git'), 'deep.bin'],
  ]);
  // The work tree of the other one helps.
  rmSync(one.path('a.bin'));
  const { repair, code } = await fsck(t, sandbox, place, '--repair');
  t.is(code, 1);
  t.deepEqual(
    repair!.healed.map(({ path }) => path),
    ['deep.bin'],
  );

  renameSync(two.dir, sandbox.path('elsewhere'));
  const gone = await fsck(t, sandbox, place);
  t.deepEqual(
    gone.unreadable.map(({ commonDir }) => commonDir),
    [join(two.dir, '.git')],
  );
  t.regex(gone.stderr, /uses this store and was not checked/);

  // A file that no pointer names is nobody's loss, unless somebody could not be asked.
  await one.git(['rm', '-q', '--cached', 'a.bin']);
  await one.git(['commit', '-q', '--amend', '-m', 'none', '--allow-empty']);
  await one.git(['reflog', 'expire', '--expire=now', '--all']);
  const unasked = await fsck(t, sandbox, place);
  t.is(unasked.code, 1);
  t.is(unasked.unreferenced.length, 1);
  t.deepEqual(unasked.lost, []);
  renameSync(sandbox.path('elsewhere'), two.dir);
  t.is((await fsck(t, sandbox, place)).code, 0);
});

test('a living writer goes on undisturbed by a repair, and what it relied on is there when it ends', async (t) => {
  const sandbox = createXetSandbox(t);
  const repository = await sandbox.repository();
  const content = randomBytes(1, SIZE);
  repository.write('a.bin', content);
  await repository.commit('one');
  const uploader = new Uploader(new LocalStore(repository.store), { compression: 'auto', fsync: 'none' });
  const put = (bytes: Uint8Array) => {
    const file = uploader.begin(bytes.length);
    file.write(bytes);
    return file.finish().hash;
  };
  // It shares the first chunks with the stored file, and is acknowledged, not sealed.
  const mixed = Buffer.concat([content.subarray(0, 500_000), randomBytes(7, 300_000)]);
  const hash = put(mixed);
  const [xorb] = xorbsOf(repository.store) as [string];
  const source = openXorbFile(xorbPath(repository.store, xorb), parseHash(xorb));
  flip(xorbPath(repository.store, xorb), recordStart(source, source.count - 1) + 100);

  const [writer] = readdirSync(join(repository.store, 'incoming')) as [string];
  const before = fingerprint(join(repository.store, 'incoming', writer));
  const { code } = await fsck(t, sandbox, repository, '--repair');
  t.is(code, 0);
  t.is(fingerprint(join(repository.store, 'incoming', writer)), before);
  const later = put(randomBytes(8, 200_000));
  await uploader.seal();
  const pointers = [hash, later].map(
    (one, i) => `{"version":"1.0","filesize":${i === 0 ? mixed.length : 200_000},"hash":"${one}"}\n`,
  );
  for (const [i, pointer] of pointers.entries()) {
    const oid = (await repository.git(['hash-object', '-w', '--stdin'], { input: pointer })).stdout.trim();
    await repository.git(['update-index', '--add', '--cacheinfo', `100644,${oid},new${i}.bin`]);
  }
  const after = await fsck(t, sandbox, repository);
  t.is(after.code, 0, after.stderr);
  await repository.git(['checkout', '--', 'new0.bin']);
  t.true(readFileSync(repository.path('new0.bin')).equals(mixed));
});

test('a pointer whose size cannot be right is told, and is no matter for a repair', async (t) => {
  const sandbox = createXetSandbox(t);
  const repository = await sandbox.repository();
  repository.write('a.bin', randomBytes(1, 100_000));
  await repository.git(['add', 'a.bin']);
  const pointer = (await repository.text(['show', ':a.bin'])).replace('100000', '100001');
  const oid = (
    await repository.git(['hash-object', '-w', '--stdin'], { input: `${pointer}\n` })
  ).stdout.trim();
  await repository.git(['update-index', '--add', '--cacheinfo', `100644,${oid},wrong.bin`]);
  for (const argv of [[], ['--repair']]) {
    const { code, lost } = await fsck(t, sandbox, repository, ...argv);
    t.is(code, 1);
    t.deepEqual(
      lost.map(({ path, state }) => [path, state]),
      [['wrong.bin', 'wrong-size']],
    );
  }
});

const unlessRoot = process.getuid?.() === 0 ? test.skip : test;

unlessRoot('a store that cannot be written is checked, and refuses the repair (not as root)', async (t) => {
  const sandbox = createXetSandbox(t);
  const repository = await sandbox.repository();
  repository.write('a.bin', randomBytes(1, 100_000));
  await repository.commit('one');
  flip(xorbPath(repository.store, xorbsOf(repository.store)[0]!), 100);
  chmodSync(repository.store, 0o500);
  t.is((await fsck(t, sandbox, repository)).code, 1);
  const { code } = await cli(['xet', 'fsck', '--repair'], { cwd: repository.dir, env: sandbox.env });
  chmodSync(repository.store, 0o700);
  t.not(code, 0);
  t.false(existsSync(join(repository.store, 'quarantine')));
});
