import { readFileSync, rmSync, statSync, utimesSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import test, { type ExecutionContext } from 'ava';
import { Downloader } from '../../src/xet/download.ts';
import { parseHash } from '../../src/xet/hash/xet-hash.ts';
import { LocalStore } from '../../src/xet/store/local-store.ts';
import { cli } from '../cli/run.ts';
import { hashOf } from '../helpers/store-sandbox.ts';
import { filesUnder } from '../helpers/xet-sandbox.ts';
import { createLargeFileSandbox, type LargeFileSandbox, noise } from './repositories.ts';

/** No content smaller than one chunk of its own. */
const SIZE = 40_000;

function content(seed: number): Buffer {
  return noise(SIZE, seed);
}

/** Those of the contents with these seeds that a store gives back. */
function storedIn(store: string, seeds: readonly number[]): number[] {
  const local = new LocalStore(store);
  const downloader = new Downloader(local);
  const found = seeds.filter((seed) => {
    try {
      const plan = downloader.plan(parseHash(hashOf(content(seed))));
      const parts = [...downloader.read(plan)].flatMap(({ chunks }) =>
        chunks.map((part) => Buffer.from(part)),
      );
      return Buffer.concat(parts).equals(content(seed));
    } catch {
      return false;
    }
  });
  local.close();
  return found;
}

const NOW = ['gc', '--prune', '--grace', '0'];

/** A gc that must do its work. */
async function prune(t: ExecutionContext, sandbox: LargeFileSandbox, cwd: string): Promise<Report> {
  await sleep(5);
  const { status, stdout, stderr } = await sandbox.xet(cwd, [...NOW, '--json']);
  t.is(status, 0, stderr);
  return JSON.parse(stdout) as Report;
}

interface Report {
  readonly dryRun: boolean;
  readonly store: string;
  readonly users: readonly string[];
  readonly files: { readonly kept: number; readonly dropped: number; readonly missing: number };
  readonly bytes: { readonly freed: number; readonly total: number };
  readonly xorbs: { readonly total: number };
  readonly shards: { readonly total: number };
}

test('what git could bring back is kept, and goes when git could not any more', async (t) => {
  const sandbox = createLargeFileSandbox(t);
  await sandbox.init('r');
  const store = sandbox.path('r/.git/xet');
  const git = (...args: string[]) => sandbox.git(args, { cwd: 'r' });
  const commit = async (seed: number) => {
    sandbox.write('r/a.bin', content(seed));
    await sandbox.commitAll('r');
  };
  await commit(1);
  await commit(2); // only in history
  await git('tag', '-a', '-m', 'tag', 'v1');
  await commit(3); // only in a reflog
  await git('reset', '-q', '--hard', 'HEAD~1');
  sandbox.write('r/a.bin', content(4)); // only in a stash
  await git('stash', '-q');
  await git('branch', 'other');
  await git('worktree', 'add', '-q', '../linked', 'other');
  sandbox.write('linked/b.bin', content(5)); // only in the index of a linked worktree
  await sandbox.git(['add', 'b.bin'], { cwd: 'linked' });
  sandbox.write('r/a.bin', content(6)); // staged, and then staged over
  await git('add', 'a.bin');
  sandbox.write('r/a.bin', content(7)); // only in the index
  await git('add', 'a.bin');

  const all = [1, 2, 3, 4, 5, 6, 7];
  t.deepEqual(storedIn(store, all), all);
  await prune(t, sandbox, 'linked');
  t.deepEqual(storedIn(store, all), [1, 2, 3, 4, 5, 7]);

  await git('reset', '-q', '--hard');
  await git('stash', 'drop', '-q');
  await git('worktree', 'remove', '--force', '../linked');
  await git('reflog', 'expire', '--expire=now', '--all');
  const report = await prune(t, sandbox, 'r');
  // ORIG_HEAD still holds what the last reset left.
  t.deepEqual(storedIn(store, all), [1, 2]);
  t.true(report.bytes.freed > 3 * SIZE);
  await git('rm', '-q', '--cached', 'a.bin');
  await git('checkout', '-q', 'v1', '--', 'a.bin');
  t.true(sandbox.read('r/a.bin').equals(content(2)));
});

test('both sides of a merge in progress are kept, and pointers between committed conflict marks', async (t) => {
  const sandbox = createLargeFileSandbox(t);
  await sandbox.init('r');
  const store = sandbox.path('r/.git/xet');
  const git = (...args: string[]) => sandbox.git(args, { cwd: 'r', okStatus: [0, 1] });
  sandbox.write('r/a.bin', content(1));
  await sandbox.commitAll('r');
  await git('checkout', '-q', '-b', 'side');
  sandbox.write('r/a.bin', content(2));
  await sandbox.commitAll('r');
  await git('checkout', '-q', 'main');
  sandbox.write('r/a.bin', content(3));
  await sandbox.commitAll('r');
  await git('merge', '-q', 'side');
  await git('branch', '-q', '-D', 'side');
  await git('reflog', 'expire', '--expire=now', '--all');
  await prune(t, sandbox, 'r');
  t.deepEqual(storedIn(store, [1, 2, 3]), [1, 2, 3]);

  // Somebody commits the marks, as text, and forgets where the pointers came from.
  const side = (await git('show', ':3:a.bin')).stdout;
  const main = (await git('show', ':2:a.bin')).stdout;
  await git('reset', '-q', '--hard');
  sandbox.write('r/marks.txt', `<<<<<<< HEAD\n${main}=======\r\n${side.replace('\n', '\r\n')}>>>>>>> side\n`);
  await git('checkout', '-q', '--orphan', 'new');
  await git('rm', '-q', '--cached', 'a.bin');
  await git('add', 'marks.txt');
  await git('commit', '-q', '-m', 'marks');
  await git('branch', '-q', '-D', 'main');
  rmSync(sandbox.path('r/.git/ORIG_HEAD'), { force: true });
  await git('reflog', 'expire', '--expire=now', '--all');
  await prune(t, sandbox, 'r');
  t.deepEqual(storedIn(store, [1, 2, 3]), [2, 3]);
});

test('pointers of other programs, and damaged ones that are still read, keep their content', async (t) => {
  const sandbox = createLargeFileSandbox(t);
  await sandbox.init('r');
  const store = sandbox.path('r/.git/xet');
  for (const seed of [1, 2, 3, 4, 5]) sandbox.write(`r/${seed}.bin`, content(seed));
  await sandbox.git(['add', '.'], { cwd: 'r' });
  const hashes = [1, 2, 3, 4].map((seed) => hashOf(content(seed))) as [string, string, string, string];
  await sandbox.git(['rm', '-q', '--cached', '-r', '.'], { cwd: 'r' });
  sandbox.write('r/json', `{"hash":"${hashes[0]}","file_size":${SIZE}}`);
  sandbox.write('r/toml', `# xet version 0\nfilesize = ${SIZE}\nhash = '${hashes[1]}'\n`);
  sandbox.write('r/crlf', `{"version":"1.0","filesize":${SIZE},"hash":"${hashes[2]}"}\r\n`);
  sandbox.write('r/no-newline', `{"version":"1.0","filesize":${SIZE},"hash":"${hashes[3]}"}`);
  await sandbox.git(['add', 'json', 'toml', 'crlf', 'no-newline'], { cwd: 'r' });
  await prune(t, sandbox, 'r');
  t.deepEqual(storedIn(store, [1, 2, 3, 4, 5]), [1, 2, 3, 4]);
});

test('without --prune nothing is written and the user is told what would be', async (t) => {
  const sandbox = createLargeFileSandbox(t);
  await sandbox.init('r');
  sandbox.write('r/a.bin', content(1));
  await sandbox.git(['add', '.'], { cwd: 'r' });
  sandbox.write('r/a.bin', content(2));
  await sandbox.git(['add', '.'], { cwd: 'r' });
  const store = sandbox.path('r/.git/xet');
  const before = [...filesUnder(store)];
  const young = await sandbox.xet('r', ['gc', '--json']);
  t.like(JSON.parse(young.stdout), { dryRun: true, files: { kept: 2, dropped: 0 } });
  const told = await sandbox.xet('r', ['gc', '--grace', '0']);
  t.is(told.status, 0);
  t.regex(told.stdout, /would be given back/);
  t.regex(told.stderr, /--prune/);
  t.deepEqual([...filesUnder(store)], before);
  t.like(await prune(t, sandbox, 'r'), { dryRun: false, files: { kept: 1, dropped: 1 } });
  t.deepEqual(storedIn(store, [1, 2]), [2]);
});

test('wrong durations and options are refused before anything is looked at', async (t) => {
  const sandbox = createLargeFileSandbox(t);
  await sandbox.init('r');
  for (const args of [
    ['--grace', '3'],
    ['--grace', '-1d'],
    ['--wait', 'x'],
    ['--prune', '--dry-run'],
  ]) {
    t.is((await sandbox.xet('r', ['gc', ...args])).status, 2, args.join(' '));
  }
  t.is((await sandbox.xet('r', ['gc', '--forget', 'nobody'])).status, 2);
  t.is((await sandbox.xet('.', ['gc'])).status, 4);
  t.is((await sandbox.xet('r', ['gc', '--prune'])).status, 0, 'there is no store yet');
});

test('a repository that uses the store and is gone stops gc until it is forgotten', async (t) => {
  const sandbox = createLargeFileSandbox(t);
  for (const [seed, name] of ['one', 'two', 'three'].entries()) {
    await sandbox.init(name);
    await sandbox.git(['config', 'xet.store', sandbox.path('shared')], { cwd: name });
    sandbox.write(`${name}/a.bin`, content(seed));
    await sandbox.commitAll(name);
  }
  const store = sandbox.path('shared');
  t.like(await prune(t, sandbox, 'one'), { files: { kept: 3 } });
  t.deepEqual(storedIn(store, [0, 1, 2]), [0, 1, 2]);

  const alive = await sandbox.xet('one', ['gc', '--forget', '../two']);
  t.is(alive.status, 8);
  t.regex(alive.stderr, /is alive/);

  rmSync(sandbox.path('two'), { recursive: true });
  for (const args of [['gc'], NOW]) {
    const refused = await sandbox.xet('one', args);
    t.is(refused.status, 8);
    t.true(refused.stderr.includes(`git2db xet gc --forget '${sandbox.path('two/.git')}'`), refused.stderr);
  }
  t.deepEqual(storedIn(store, [0, 1, 2]), [0, 1, 2]);
  const rehearsed = await sandbox.xet('one', [
    'gc',
    '--dry-run',
    '--forget',
    '../two',
    '--json',
    '--grace',
    '0',
  ]);
  t.like(JSON.parse(rehearsed.stdout), { forgotten: [sandbox.path('two/.git')], files: { dropped: 1 } });
  t.is((await sandbox.xet('one', ['gc'])).status, 8);

  t.is((await sandbox.xet('one', ['gc', '--forget', '../two'])).status, 0);
  t.like(await prune(t, sandbox, 'one'), { files: { kept: 2, dropped: 1 } });
  t.deepEqual(storedIn(store, [0, 1, 2]), [0, 2]);
});

test('the store of a remote is collected for those who are named; buckets and servers are refused', async (t) => {
  const sandbox = createLargeFileSandbox(t);
  await sandbox.git(['init', '-q', '--bare', 'hub']);
  await sandbox.init('a');
  const store = sandbox.path('nas');
  const gc = async (...args: string[]) => {
    await sleep(5);
    const run = { cwd: sandbox.path('a'), env: sandbox.env };
    return await cli(['xet', 'gc', '--grace', '0', '--json', ...args], run);
  };
  await sandbox.git(['remote', 'add', 'origin', `file://${sandbox.path('hub')}`], { cwd: 'a' });
  await sandbox.git(['config', 'remote.origin.xeturl', store], { cwd: 'a' });
  for (const seed of [1, 2]) {
    sandbox.write('a/a.bin', content(seed));
    await sandbox.commitAll('a');
    const pushed = await cli(['xet', 'push'], { cwd: sandbox.path('a'), env: sandbox.env });
    t.is(pushed.code, 0, pushed.stderr);
    await sandbox.git(['push', '-q', '--no-verify', 'origin', `HEAD:refs/heads/v${seed}`], { cwd: 'a' });
  }
  // From here on only the hub has the first version.
  await sandbox.git(['update-ref', '-d', 'refs/remotes/origin/v1'], { cwd: 'a' });
  await sandbox.git(['update-ref', '-d', 'refs/remotes/origin/v2'], { cwd: 'a' });
  await sandbox.git(['checkout', '-q', '--orphan', 'new'], { cwd: 'a' });
  await sandbox.git(['commit', '-q', '-m', 'only the second'], { cwd: 'a' });
  await sandbox.git(['branch', '-q', '-D', 'main'], { cwd: 'a' });
  await sandbox.git(['reflog', 'expire', '--expire=all', '--all'], { cwd: 'a' });
  t.deepEqual(storedIn(store, [1, 2]), [1, 2]);

  const unnamed = await gc('--prune', '--remote', 'origin');
  t.is(unnamed.code, 2);
  t.regex(unnamed.stderr, /does not know all that need it: name them with --keep-from/);
  const kept = await gc('--prune', '--remote', 'origin', '--keep-from', '../hub');
  t.is(kept.code, 0, kept.stderr);
  t.like(JSON.parse(kept.stdout), { store, files: { kept: 2, dropped: 0 } });
  t.deepEqual(storedIn(store, [1, 2]), [1, 2]);
  t.is((await gc('--prune', '--remote', store, '--keep-from', '..')).code, 2, 'no repository');
  const dropped = await gc('--prune', '--remote', store, '--keep-from', '.');
  t.like(JSON.parse(dropped.stdout), { store, files: { kept: 1, dropped: 1 } });
  t.deepEqual(storedIn(store, [1, 2]), [2]);

  await sandbox.git(['config', 'remote.s3.url', 'ssh://git@example.invalid/x.git'], { cwd: 'a' });
  await sandbox.git(['config', 'remote.s3.xeturl', 's3://bucket/x?endpoint=http://127.0.0.1:1'], {
    cwd: 'a',
  });
  for (const [remote, why] of [
    ['s3', /s3:\/\/bucket\/x is not collected: in a bucket nothing tells/],
    ['s3://bucket/y', /s3:\/\/bucket\/y is not collected: in a bucket/],
    ['http://127.0.0.1:1/xet', /is not collected: a store behind a server/],
  ] as const) {
    const refused = await gc('--remote', remote);
    t.is(refused.code, 8, refused.stderr);
    t.regex(refused.stderr, why);
    t.is(refused.stderr.trim().split('\n').length, 1);
  }
});

test('a repository with an object that cannot be read stops gc', async (t) => {
  const sandbox = createLargeFileSandbox(t);
  await sandbox.init('r');
  sandbox.write('r/a.bin', content(1));
  await sandbox.commitAll('r');
  const blob = await sandbox.gitText(['rev-parse', ':a.bin'], { cwd: 'r' });
  rmSync(sandbox.path('r/.git/objects', blob.slice(0, 2), blob.slice(2)));
  t.is((await sandbox.xet('r', NOW)).status, 8);
  t.deepEqual(storedIn(sandbox.path('r/.git/xet'), [1]), [1]);
});

test('what only a clone on this machine refers to stays in the store it reads from', async (t) => {
  const sandbox = createLargeFileSandbox(t);
  await sandbox.init('origin');
  sandbox.write('origin/a.bin', content(1));
  await sandbox.commitAll('origin');
  await sandbox.git(['checkout', '-q', '-b', 'topic'], { cwd: 'origin' });
  sandbox.write('origin/a.bin', content(2));
  await sandbox.commitAll('origin');
  await sandbox.git(['clone', '-q', 'origin', 'clone']);
  t.true(sandbox.read('clone/a.bin').equals(content(2)));
  await sandbox.git(['checkout', '-q', 'main'], { cwd: 'origin' });
  await sandbox.git(['branch', '-q', '-D', 'topic'], { cwd: 'origin' });
  await sandbox.git(['reflog', 'expire', '--expire=now', '--all'], { cwd: 'origin' });
  const report = await prune(t, sandbox, 'origin');
  t.true(report.users.includes(sandbox.path('clone/.git')));
  t.deepEqual(storedIn(sandbox.path('origin/.git/xet'), [1, 2]), [1, 2]);
  // And the clone has its own.
  rmSync(sandbox.path('origin'), { recursive: true });
  t.deepEqual(storedIn(sandbox.path('clone/.git/xet'), [1, 2]), [2]);
});

test('hundreds of small commits become one xorb and one shard, and check out as before', async (t) => {
  const sandbox = createLargeFileSandbox(t);
  await sandbox.init('r');
  for (let i = 0; i < 40; i++) {
    sandbox.write(`r/${i}.bin`, noise(20_000, i));
    await sandbox.git(['add', `${i}.bin`], { cwd: 'r' });
  }
  await sandbox.commitAll('r');
  t.like(await prune(t, sandbox, 'r'), { files: { kept: 40 } });
  t.like(await prune(t, sandbox, 'r'), { xorbs: { total: 1 }, shards: { total: 1 } });
  rmSync(sandbox.path('r/.git/index'));
  await sandbox.git(['reset', '-q', '--hard'], { cwd: 'r' });
  for (let i = 0; i < 40; i++) t.true(sandbox.read(`r/${i}.bin`).equals(noise(20_000, i)), `${i}.bin`);
  t.is((await sandbox.xet('r', ['fsck'])).status, 0);
});

test('files stored long ago go with the default grace period, young ones stay', async (t) => {
  const sandbox = createLargeFileSandbox(t);
  await sandbox.init('r');
  const store = sandbox.path('r/.git/xet');
  const add = async (seed: number) => {
    sandbox.write('r/a.bin', content(seed));
    await sandbox.git(['add', '.'], { cwd: 'r' });
  };
  await add(1);
  const old = new Date(Date.now() - 15 * 86_400_000);
  for (const path of filesUnder(store).keys()) {
    if (/^(xorbs|shards)\//.test(path)) utimesSync(join(store, path), old, old);
  }
  await add(2);
  await add(3);
  t.is((await sandbox.xet('r', ['gc', '--prune'])).status, 0);
  t.deepEqual(storedIn(store, [1, 2, 3]), [2, 3]);
});

test('gc in a loop takes nothing from those who add, drop and check out what nobody refers to', async (t) => {
  const sandbox = createLargeFileSandbox(t, { 'xet.fsync': 'none' });
  const contents = Array.from({ length: 6 }, (_, i) =>
    Buffer.concat([noise(150_000, i % 3), noise(100_000, 10 + i)]),
  );
  const writers = ['one', 'two'];
  for (const name of writers) {
    await sandbox.init(name);
    await sandbox.git(['config', 'xet.store', sandbox.path('shared')], { cwd: name });
    await sandbox.commitAll(name);
  }
  const start = Date.now();
  let collections = 0;
  let rounds = 0;
  // Some rounds however slow the machine, some seconds however fast.
  const isOver = () => Date.now() - start > (collections < 2 || rounds < 4 ? 120_000 : 6_000);
  const collector = async () => {
    while (!isOver()) {
      const { status, stderr } = await sandbox.xet('one', [...NOW, '--wait', '20', '--quiet']);
      if (status !== 0) t.fail(stderr);
      collections++;
    }
  };
  const write = async (name: string, first: number) => {
    for (let i = first; !isOver(); i++) {
      const bytes = contents[i % contents.length] as Buffer;
      sandbox.write(`${name}/a.bin`, bytes);
      await sandbox.git(['add', 'a.bin'], { cwd: name });
      rmSync(sandbox.path(name, 'a.bin'));
      await sandbox.git(['checkout-index', 'a.bin'], { cwd: name });
      if (!sandbox.read(`${name}/a.bin`).equals(bytes)) t.fail(`round ${i} of ${name}`);
      await sandbox.git(['rm', '-q', '--cached', 'a.bin'], { cwd: name });
      rounds++;
    }
  };
  await Promise.all([collector(), ...writers.map((name, n) => write(name, 3 * n))]);
  t.true(collections >= 2 && rounds >= 4, `${collections} collections, ${rounds} rounds`);
  const { stdout, status } = await sandbox.xet('one', ['fsck']);
  t.is(status, 0, stdout);
});

test('gc looks no further than small blobs', async (t) => {
  const sandbox = createLargeFileSandbox(t);
  await sandbox.init('r');
  sandbox.write('r/a.bin', content(1));
  await sandbox.commitAll('r');
  const pointer = await sandbox.gitText(['show', ':a.bin'], { cwd: 'r' });
  writeFileSync(sandbox.path('r/book.txt'), `${pointer}\n`.repeat(100));
  await sandbox.git(['rm', '-q', '--cached', 'a.bin'], { cwd: 'r' });
  await sandbox.git(['add', 'book.txt'], { cwd: 'r' });
  await sandbox.git(['commit', '-q', '--amend', '-m', 'a book about pointers'], { cwd: 'r' });
  await sandbox.git(['reflog', 'expire', '--expire=now', '--all'], { cwd: 'r' });
  t.true(statSync(sandbox.path('r/book.txt')).size > 4096);
  t.truthy(readFileSync(sandbox.path('r/book.txt')));
  await prune(t, sandbox, 'r');
  t.deepEqual(storedIn(sandbox.path('r/.git/xet'), [1]), []);
});
