/** Content on its way to and from remotes: real git, real hooks, stores in directories. */
import { createHash } from 'node:crypto';
import { chmodSync, existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import test, { type ExecutionContext } from 'ava';
import { EXIT_CODES } from '../../src/exit-codes.ts';
import { isSameRepository } from '../../src/large-files/git-remotes.ts';
import { addTrusted } from '../../src/large-files/trusted-places.ts';
import { cli } from '../cli/run.ts';
import { isolateProcess } from '../helpers/git-sandbox.ts';
import { createLargeFileSandbox, type LargeFileSandbox, noise } from './repositories.ts';

isolateProcess();

interface Pushed {
  readonly place: string | null;
  readonly files: readonly { path: string; outcome: string; commit: string | null; message: string | null }[];
}

/** A repository `a` with a commit of one large file, its bare remote `hub`, and an empty place `nas`. */
async function setUp(t: ExecutionContext): Promise<LargeFileSandbox> {
  const sandbox = createLargeFileSandbox(t);
  await sandbox.git(['init', '-q', '--bare', 'hub']);
  mkdirSync(sandbox.path('nas'));
  await sandbox.init('a');
  sandbox.write('a/one.bin', noise(300_000, 1));
  await sandbox.commitAll('a');
  const cwd = 'a';
  // A URL that is no directory of this machine for the filter; git goes there all the same.
  await sandbox.git(['remote', 'add', 'origin', `file://${sandbox.path('hub')}`], { cwd });
  await sandbox.git(['config', '--global', 'remote.origin.xeturl', sandbox.path('nas/store')]);
  return sandbox;
}

async function push(sandbox: LargeFileSandbox, cwd: string, ...args: string[]): Promise<Pushed> {
  const { stdout, stderr, status } = await sandbox.xet(cwd, ['push', '--json', ...args]);
  if (status !== 0) throw new Error(`push ended with ${status}: ${stderr}`);
  return JSON.parse(stdout) as Pushed;
}

function outcomes({ files }: Pushed): Record<string, string> {
  return Object.fromEntries(files.map(({ path, outcome }) => [path, outcome]));
}

async function addFile(sandbox: LargeFileSandbox, cwd: string, name: string, seed: number): Promise<void> {
  sandbox.write(`${cwd}/${name}`, noise(100_000, seed));
  await sandbox.commitAll(cwd);
}

test('push sends what the place lacks, once; the hook does so before refs move', async (t) => {
  const sandbox = await setUp(t);
  t.deepEqual(outcomes(await push(sandbox, 'a', '--dry-run')), { 'one.bin': 'missing' });
  t.false(existsSync(sandbox.path('nas/store')));
  t.deepEqual(outcomes(await push(sandbox, 'a')), { 'one.bin': 'sent' });
  t.deepEqual(outcomes(await push(sandbox, 'a')), { 'one.bin': 'present' });

  await addFile(sandbox, 'a', 'two.bin', 2);
  t.is((await sandbox.xet('a', ['install', '--local', '--force'])).status, 0);
  await sandbox.git(['push', '-q', 'origin', 'main', 'HEAD:refs/heads/detached'], { cwd: 'a' });
  t.deepEqual(outcomes(await push(sandbox, 'a', '--all', 'origin')), {
    'one.bin': 'present',
    'two.bin': 'present',
  });
  // What the remote-tracking branch has is not looked at again.
  t.deepEqual((await push(sandbox, 'a')).files, []);
});

test('the hook stops a push whose content is nowhere, and names path, commit and hash', async (t) => {
  const sandbox = await setUp(t);
  t.is((await sandbox.xet('a', ['install', '--local', '--force'])).status, 0);
  const commit = await sandbox.gitText(['rev-parse', 'HEAD'], { cwd: 'a' });
  rmSync(sandbox.path('a/.git/xet'), { recursive: true });
  const refused = await sandbox.run('git', ['push', 'origin', 'main'], { cwd: 'a' });
  t.not(refused.status, 0);
  t.regex(refused.stderr, new RegExp(`one\\.bin \\(in commit ${commit.slice(0, 12)}\\), [0-9a-f]{64}: `));
  t.is(await sandbox.gitText(['for-each-ref'], { cwd: 'hub' }), '');
});

test('new branches, forced pushes, tags, deletions, detached HEADs and worktrees send what they need', async (t) => {
  const sandbox = await setUp(t);
  const cwd = 'a';
  t.is((await sandbox.xet('a', ['install', '--local', '--force'])).status, 0);
  await sandbox.git(['push', '-q', 'origin', 'main'], { cwd });
  const inStore = async (): Promise<string[]> => {
    const all = await push(sandbox, 'a', '--all', '--dry-run', 'origin');
    return all.files.filter(({ outcome }) => outcome === 'present').map(({ path }) => path);
  };
  // An annotated tag alone, of a commit on no branch of the remote.
  await sandbox.git(['checkout', '-q', '--detach'], { cwd });
  await addFile(sandbox, cwd, 'tagged.bin', 3);
  await sandbox.git(['tag', '-a', '-m', 'v1', 'v1'], { cwd });
  await sandbox.git(['push', '-q', 'origin', 'v1'], { cwd });
  t.deepEqual((await inStore()).sort(), ['one.bin', 'tagged.bin']);
  // A detached HEAD to a new branch.
  await addFile(sandbox, cwd, 'detached.bin', 4);
  await sandbox.git(['push', '-q', 'origin', 'HEAD:refs/heads/new'], { cwd });
  const ofNew = await push(sandbox, 'a', '--all', '--dry-run', 'origin');
  t.is(outcomes(ofNew)['detached.bin'], 'present');
  // A forced push over a commit that is not here.
  await sandbox.git(['clone', '-q', sandbox.path('hub'), 'other'], { env: { GIT2DB_SKIP_SMUDGE: '1' } });
  await sandbox.git(['commit', '-q', '--allow-empty', '-m', 'theirs'], { cwd: 'other' });
  await sandbox.git(['push', '-q', 'origin', 'HEAD:main'], { cwd: 'other' });
  await sandbox.git(['checkout', '-q', 'main'], { cwd });
  await addFile(sandbox, cwd, 'forced.bin', 5);
  await sandbox.git(['push', '-q', '--force', 'origin', 'main'], { cwd });
  // A worktree.
  await sandbox.git(['worktree', 'add', '-q', '-b', 'side', sandbox.path('tree')], { cwd });
  await addFile(sandbox, 'tree', 'side.bin', 6);
  await sandbox.git(['push', '-q', 'origin', 'side'], { cwd: 'tree' });
  const sent = await inStore();
  for (const name of ['forced.bin', 'side.bin', 'one.bin', 'tagged.bin']) t.true(sent.includes(name), name);
  // A deletion needs nothing, not even a place.
  await sandbox.git(['config', 'remote.origin.xeturl', sandbox.path('gone/away')], { cwd });
  await sandbox.git(['push', '-q', 'origin', ':new'], { cwd });
  t.notRegex(await sandbox.gitText(['for-each-ref'], { cwd: 'hub' }), /heads\/new/);
});

test('clone, checkout and archive fetch what is not here; a second remote is asked, too', async (t) => {
  const sandbox = await setUp(t);
  await push(sandbox, 'a');
  await sandbox.git(['push', '-q', 'origin', 'main'], { cwd: 'a' });
  // Nothing is to be had from the repository itself.
  rmSync(sandbox.path('hub/xet'), { recursive: true, force: true });
  await sandbox.git(['clone', '-q', `file://${sandbox.path('hub')}`, 'b']);
  t.true(sandbox.read('b/one.bin').equals(noise(300_000, 1)));
  t.is(await sandbox.gitText(['status', '--porcelain'], { cwd: 'b' }), '');
  // Without delay: one file at a time, in the same child.
  rmSync(sandbox.path('b/.git/xet'), { recursive: true });
  const { stdoutBytes } = await sandbox.git(['archive', '--format=tar', 'HEAD'], { cwd: 'b' });
  t.true(stdoutBytes.includes(noise(300_000, 1).subarray(0, 1000)));
  // The first remote has it no more, the second has.
  rmSync(sandbox.path('b/.git/xet'), { recursive: true });
  const cwd = 'b';
  await sandbox.git(['config', 'remote.origin.xeturl', sandbox.path('nas/empty')], { cwd });
  await sandbox.git(['config', 'remote.backup.url', 'ssh://nowhere.invalid/x'], { cwd });
  await sandbox.git(['config', 'remote.backup.xeturl', sandbox.path('nas/store')], { cwd });
  rmSync(sandbox.path('b/one.bin'));
  await sandbox.git(['checkout', '--', 'one.bin'], { cwd });
  t.true(sandbox.read('b/one.bin').equals(noise(300_000, 1)));
});

test('content that is nowhere: every place is named with its reason, and pointers stand where that is wanted', async (t) => {
  const sandbox = await setUp(t);
  await sandbox.git(['push', '-q', '--no-verify', 'origin', 'main'], { cwd: 'a' });
  mkdirSync(sandbox.path('nas/store'));
  const url = `file://${sandbox.path('hub')}`;
  const failed = await sandbox.run('git', ['clone', '-q', url, 'b']);
  t.not(failed.status, 0);
  t.regex(
    failed.stderr,
    /one\.bin: the content \(300000 bytes, hash [0-9a-f]{64}\) could not be had: origin: there is no store in /,
  );
  t.regex(failed.stderr, /git config xet\.onMissing pointer/);
  const left = await sandbox.run('git', ['-c', 'xet.onMissing=pointer', 'clone', '-q', url, 'c']);
  t.is(left.status, 0, left.stderr);
  t.regex(sandbox.read('c/one.bin').toString(), /^\{"version":"1\.0"/);
  // Not asked at all.
  const off = await sandbox.run('git', ['-c', 'xet.fetchOnSmudge=false', 'clone', '-q', url, 'd']);
  t.not(off.status, 0);
  t.notRegex(off.stderr, /could not be had/);
});

test('fetch brings content into the store: of the index, of refs, by patterns, of all history', async (t) => {
  const sandbox = await setUp(t);
  await addFile(sandbox, 'a', 'dir-two.bin', 2);
  await sandbox.git(['branch', 'old', 'HEAD~1'], { cwd: 'a' });
  sandbox.write('a/one.bin', noise(50_000, 9));
  await sandbox.commitAll('a');
  await push(sandbox, 'a', '--all', 'origin');
  await sandbox.git(['push', '-q', 'origin', 'main', 'old'], { cwd: 'a' });
  await sandbox.clonePointers(`file://${sandbox.path('hub')}`, 'b');
  const fetched = async (...args: string[]): Promise<Record<string, string>> => {
    const { stdout, stderr, status } = await sandbox.xet('b', ['fetch', '--json', ...args]);
    t.is(status, 0, stderr);
    const { files } = JSON.parse(stdout) as Pushed;
    return Object.fromEntries(files.map(({ path, outcome }) => [path, outcome]));
  };
  t.deepEqual(await fetched('--include', 'dir*', '--dry-run'), { 'dir-two.bin': 'missing' });
  t.deepEqual(await fetched('--include', 'dir*'), { 'dir-two.bin': 'moved' });
  t.deepEqual(await fetched(), { 'dir-two.bin': 'present', 'one.bin': 'moved' });
  t.deepEqual(await fetched('origin', 'origin/old'), { 'one.bin': 'moved' });
  const all = await sandbox.xet('b', ['fetch', '--json', '--all']);
  t.deepEqual(
    (JSON.parse(all.stdout) as Pushed).files.map(({ outcome }) => outcome),
    ['present', 'present', 'present'],
  );
  t.regex(sandbox.read('b/one.bin').toString(), /^\{"version"/);
  t.is((await sandbox.xet('b', ['pull'])).status, 0);
  t.true(sandbox.read('b/one.bin').equals(noise(50_000, 9)));
  const unknown = await sandbox.xet('b', ['fetch', 'origin', 'nothing']);
  t.is(unknown.status, 58);
});

test('fetch of what is here succeeds without a remote that could be asked, and without any', async (t) => {
  const sandbox = await setUp(t);
  const fetched = async (...args: string[]) => {
    const { stdout, stderr, status } = await sandbox.xet('a', ['fetch', '--json', ...args]);
    t.is(status, 0, stderr);
    return (JSON.parse(stdout) as Pushed).files.map(({ path, outcome }) => [path, outcome]);
  };
  // Nothing was ever pushed: there is no store at the place.
  t.deepEqual(await fetched(), [['one.bin', 'present']]);
  await sandbox.git(['config', '--global', '--unset', 'remote.origin.xeturl']);
  await sandbox.git(['remote', 'remove', 'origin'], { cwd: 'a' });
  t.deepEqual(await fetched(), [['one.bin', 'present']]);
  rmSync(sandbox.path('a/.git/xet/xorbs'), { recursive: true });
  const lost = await sandbox.xet('a', ['fetch']);
  t.is(lost.status, 1);
  t.regex(lost.stderr, /one\.bin: .* is not in the store, and there is no git remote to ask/);
});

test('a tracked file called -- is not taken for the .gitxet of a commit', async (t) => {
  const sandbox = await setUp(t);
  sandbox.write('a/--', `[xet]\n\turl = file://${sandbox.path('nas/elsewhere')}\n`);
  await sandbox.git(['add', '--', './--'], { cwd: 'a' });
  await sandbox.git(['commit', '-q', '-m', 'dashes'], { cwd: 'a' });
  await sandbox.git(['config', '--global', '--unset', 'remote.origin.xeturl']);
  await sandbox.git(['config', 'remote.origin.url', `file://${sandbox.path('nowhere')}`], { cwd: 'a' });
  const { stderr } = await sandbox.xet('a', ['push', '--dry-run', 'origin', 'main']);
  t.notRegex(stderr, /elsewhere/);
});

test('pull fetches what the work tree lacks; what a sparse checkout leaves out stays there', async (t) => {
  const sandbox = await setUp(t);
  mkdirSync(sandbox.path('a/out'));
  await addFile(sandbox, 'a', 'out/two.bin', 2);
  await push(sandbox, 'a');
  await sandbox.git(['push', '-q', 'origin', 'main'], { cwd: 'a' });
  await sandbox.clonePointers(`file://${sandbox.path('hub')}`, 'b');
  await sandbox.git(['sparse-checkout', 'set', '--cone'], { cwd: 'b', env: { GIT2DB_SKIP_SMUDGE: '1' } });
  t.is((await sandbox.xet('b', ['pull'])).status, 0);
  t.true(sandbox.read('b/one.bin').equals(noise(300_000, 1)));
  const left = await sandbox.xet('b', ['fetch', '--json', '--dry-run', 'origin', 'HEAD']);
  t.deepEqual(outcomes(JSON.parse(left.stdout) as Pushed), {
    'one.bin': 'present',
    'out/two.bin': 'missing',
  });
});

test('shallow and partial clones push what they add, wherever it goes', async (t) => {
  const sandbox = await setUp(t);
  await addFile(sandbox, 'a', 'two.bin', 2);
  await push(sandbox, 'a');
  await sandbox.git(['push', '-q', 'origin', 'main'], { cwd: 'a' });
  await sandbox.git(['config', 'uploadpack.allowFilter', 'true'], { cwd: 'hub' });
  await sandbox.git(['config', 'uploadpack.allowAnySHA1InWant', 'true'], { cwd: 'hub' });
  const url = `file://${sandbox.path('hub')}`;
  for (const [name, option] of [
    ['shallow', '--depth=1'],
    ['partial', '--filter=blob:none'],
  ] as const) {
    await sandbox.git(['clone', '-q', option, url, name]);
    await addFile(sandbox, name, `${name}.bin`, 7);
    t.deepEqual(outcomes(await push(sandbox, name)), {
      [`${name}.bin`]: name === 'shallow' ? 'sent' : 'present',
    });
  }
  // To a place that has nothing: what the partial clone never fetched comes in one batch, and is looked at.
  await sandbox.git(['clone', '-q', '--no-checkout', '--filter=blob:none', url, 'bare-like'], {});
  await sandbox.git(['config', 'remote.second.url', sandbox.path('second')], { cwd: 'bare-like' });
  await sandbox.git(['config', 'remote.second.xeturl', sandbox.path('nas/second')], { cwd: 'bare-like' });
  const { status, stderr } = await sandbox.xet('bare-like', ['push', 'second', 'HEAD']);
  t.is(status, 1);
  t.regex(stderr, /one\.bin \(in commit [0-9a-f]{12}\)/);
  t.regex(stderr, /two\.bin \(in commit [0-9a-f]{12}\)/);
});

test('evict drops what a remote provably holds, keeps the rest, and a checkout brings it back', async (t) => {
  const sandbox = await setUp(t);
  await push(sandbox, 'a');
  await addFile(sandbox, 'a', 'unpushed.bin', 2);
  const evict = async (...args: string[]) => {
    const { stdout, status } = await sandbox.xet('a', ['evict', '--json', ...args]);
    const { files } = JSON.parse(stdout) as { files: { path: string; outcome: string }[] };
    return { status, files: Object.fromEntries(files.map(({ path, outcome }) => [path, outcome])) };
  };
  t.deepEqual(await evict('--dry-run'), { status: 1, files: { 'one.bin': 'held', 'unpushed.bin': 'kept' } });
  t.deepEqual((await evict('--dry-run', 'one.bin')).files, { 'one.bin': 'held' });
  await evict();
  t.deepEqual(await evict(), { status: 1, files: { 'unpushed.bin': 'kept' } });
  for (const name of ['one.bin', 'unpushed.bin']) rmSync(sandbox.path('a', name));
  await sandbox.git(['checkout', '--', '.'], { cwd: 'a' });
  t.true(sandbox.read('a/one.bin').equals(noise(300_000, 1)));
  t.true(sandbox.read('a/unpushed.bin').equals(noise(100_000, 2)));

  // A remote that says it has it, and has lost the bytes.
  rmSync(sandbox.path('nas/store/xorbs'), { recursive: true });
  t.deepEqual((await evict()).files, { 'one.bin': 'kept', 'unpushed.bin': 'kept' });
});

test('fsck tells what was evicted from what was lost, asks the remote, and fetches only what was lost', async (t) => {
  const sandbox = await setUp(t);
  await addFile(sandbox, 'a', 'two.bin', 2);
  await push(sandbox, 'a');
  await sandbox.xet('a', ['evict', 'one.bin']);
  const fsck = async (...args: string[]) => {
    const { code, stdout, stderr } = await cli(['xet', 'fsck', '--json', ...args], {
      cwd: sandbox.path('a'),
      env: sandbox.env,
    });
    const { ok, lost, elsewhere } = JSON.parse(stdout) as {
      ok: boolean;
      lost: { path: string; state: string; faults: { found: string }[] }[];
      elsewhere: { path: string; place: string; provedAt: string }[];
    };
    t.is(ok, code === 0, stderr);
    return { code, stderr, lost, elsewhere };
  };
  const store = sandbox.path('a/.git/xet');
  const place = sandbox.path('nas/store');
  for (const args of [[], ['--remote']]) {
    const { code, lost, elsewhere, stderr } = await fsck(...args);
    t.is(code, 0, stderr);
    t.deepEqual([lost, elsewhere.map((one) => [one.path, one.place])], [[], [['one.bin', place]]]);
    t.true(Math.abs(Date.parse(elsewhere[0]!.provedAt) - Date.now()) < 600_000);
    t.regex(stderr, /not here, but in .*nas\/store: 1 file/);
  }

  // What is lost comes from the remote. What was evicted stays away.
  for (const name of ['xorbs', 'shards', 'catalog']) rmSync(`${store}/${name}`, { recursive: true });
  rmSync(sandbox.path('a/two.bin'));
  const broken = await fsck();
  t.deepEqual([broken.code, broken.lost.map(({ path }) => path)], [1, ['two.bin']]);
  const repaired = await fsck('--repair');
  t.is(repaired.code, 0, repaired.stderr);
  t.deepEqual(
    repaired.elsewhere.map(({ path }) => path),
    ['one.bin'],
  );
  t.is((await fsck()).code, 0);

  // Without its notes nobody knows, until the remote is asked; and one that has lost it proves nothing.
  rmSync(`${store}/evicted`);
  const unknown = await fsck();
  t.deepEqual(
    [unknown.code, unknown.lost.map(({ path, state }) => [path, state])],
    [1, [['one.bin', 'missing']]],
  );
  t.is((await fsck('--remote')).code, 0);
  rmSync(sandbox.path('nas/store/xorbs'), { recursive: true });
  const gone = await fsck('--remote');
  t.is(gone.code, 1);
  t.regex(gone.lost[0]!.faults[0]!.found, /^it is not there; origin: .*is not proved to be in/);
});

test('a repair takes content from the objects of git-lfs', async (t) => {
  const sandbox = createLargeFileSandbox(t);
  await sandbox.init('a');
  const content = noise(200_000, 1);
  sandbox.write('a/one.bin', content);
  await sandbox.commitAll('a');
  const sha256 = createHash('sha256').update(content).digest('hex');
  sandbox.write(`a/.git/lfs/objects/${sha256.slice(0, 2)}/${sha256.slice(2, 4)}/${sha256}`, content);
  rmSync(sandbox.path('a/one.bin'));
  rmSync(sandbox.path('a/.git/xet'), { recursive: true });
  const run = (...args: string[]) =>
    cli(['xet', 'fsck', ...args], { cwd: sandbox.path('a'), env: sandbox.env });
  t.is((await run()).code, 1);
  const repaired = await run('--repair');
  t.is(repaired.code, 0, repaired.stderr);
  t.regex(repaired.stderr, /healed: one\.bin/);
});

test('evict keeps what another repository of the store needs, and what only the store itself has', async (t) => {
  const sandbox = await setUp(t);
  await push(sandbox, 'a');
  const store = sandbox.path('a/.git/xet');
  await sandbox.git(['clone', '-q', '-c', `xet.store=${store}`, sandbox.path('a'), 'other']);
  const shared = await sandbox.xet('a', ['evict', '--verbose']);
  t.regex(shared.stderr, /one\.bin stays: another repository that uses this store needs it/);
  rmSync(sandbox.path('other'), { recursive: true });
  t.is((await sandbox.xet('a', ['gc', '--forget', sandbox.path('other')])).status, 0);
  await sandbox.git(['config', 'remote.origin.xeturl', store], { cwd: 'a' });
  const own = await sandbox.xet('a', ['evict', '--verbose']);
  t.regex(own.stderr, /one\.bin stays: origin: its store is this one/);
});

test('the .gitxet of what is pushed, fetched or checked out counts, also in a bare repository', async (t) => {
  const sandbox = await setUp(t);
  await sandbox.git(['config', '--global', '--unset', 'remote.origin.xeturl']);
  const place = (name: string) => sandbox.path('nas', name);
  for (const name of ['old', 'new']) addTrusted(`file://${place(name)}`, sandbox.env);
  const name = async (place: string, content: string, seed: number) => {
    sandbox.write('a/.gitxet', `[xet]\n\turl = file://${place}\n\texclude = left-out.bin\n`);
    sandbox.write('a/left-out.bin', noise(50_000, seed + 10));
    await addFile(sandbox, 'a', content, seed);
  };
  await name(place('old'), 'two.bin', 2);
  await sandbox.git(['checkout', '-q', '-b', 'other'], { cwd: 'a' });
  await name(place('new'), 'three.bin', 3);
  await sandbox.git(['checkout', '-q', 'main'], { cwd: 'a' });

  // The branch that is checked out says something else than the one that is pushed.
  t.is((await push(sandbox, 'a', 'origin', 'other')).place, place('new'));
  const both = await push(sandbox, 'a', '--all', 'origin');
  t.deepEqual(both.place?.split(', ').sort(), [place('new'), place('old')]);
  t.is(outcomes(both)['three.bin'], 'present');
  t.is(outcomes(both)['two.bin'], 'sent');
  await sandbox.git(['push', '-q', '--no-verify', 'origin', 'main', 'other'], { cwd: 'a' });

  await sandbox.git(['clone', '-q', '--bare', 'hub', 'bare']);
  await sandbox.git(['config', 'remote.origin.url', `file://${sandbox.path('nowhere')}`], { cwd: 'bare' });
  const run = { cwd: sandbox.path('bare'), env: sandbox.env };
  const fetched = await cli(['xet', 'fetch', '--json', 'origin', 'other'], run);
  t.is(fetched.code, 0, fetched.stderr);
  const { files } = JSON.parse(fetched.stdout) as { files: { path: string; outcome: string }[] };
  t.deepEqual(files.map(({ path }) => path).sort(), ['one.bin', 'three.bin', 'two.bin']);
  t.true(
    files.every(({ outcome }) => outcome === 'moved' || outcome === 'fetched'),
    fetched.stdout,
  );

  // While git checks out `other`, index and HEAD are those of `main`.
  await sandbox.git(['clone', '-q', `file://${sandbox.path('hub')}`, 'b']);
  rmSync(place('old'), { recursive: true });
  await sandbox.git(['checkout', '-q', '-f', 'other'], { cwd: 'b' });
  t.true(sandbox.read('b/three.bin').equals(noise(100_000, 3)));
});

test('a foreign pre-push hook is kept, or chained', async (t) => {
  const sandbox = await setUp(t);
  const hook = sandbox.path('a/.git/hooks/pre-push');
  mkdirSync(sandbox.path('a/.git/hooks'), { recursive: true });
  writeFileSync(hook, '#!/bin/sh\ncat >hook-input\n');
  chmodSync(hook, 0o755);
  t.is((await sandbox.xet('a', ['install', '--local', '--force'])).status, 8);
  t.is(readFileSync(hook, 'utf8'), '#!/bin/sh\ncat >hook-input\n');
  t.is((await sandbox.xet('a', ['install', '--local', '--force', '--chain-hooks'])).status, 0);
  await sandbox.git(['push', '-q', 'origin', 'main'], { cwd: 'a' });
  t.regex(readFileSync(sandbox.path('a/hook-input'), 'utf8'), /^refs\/heads\/main [0-9a-f]{40} /);
  t.deepEqual(outcomes(await push(sandbox, 'a', '--all', 'origin')), { 'one.bin': 'present' });
  t.is((await sandbox.xet('a', ['uninstall', '--local'])).status, 0);
  t.is(readFileSync(hook, 'utf8'), '#!/bin/sh\ncat >hook-input\n');
});

test('a bare repository pushes; the Hub is refused pointers of filter=xet; a hostile .gitxet changes nothing', async (t) => {
  const sandbox = await setUp(t);
  await sandbox.git(['clone', '-q', '--bare', 'a', 'bare']);
  await sandbox.git(['config', 'xet.store', sandbox.path('a/.git/xet')], { cwd: 'bare' });
  t.deepEqual(outcomes(await push(sandbox, 'bare')), { 'one.bin': 'sent' });
  await sandbox.git(['remote', 'add', 'hf', 'https://huggingface.co/org/model'], { cwd: 'a' });
  const refused = await sandbox.xet('a', ['push', 'hf']);
  t.is(refused.status, 8);
  t.regex(refused.stderr, /one\.bin.*git2db xet migrate to-lfs/);

  await sandbox.git(['config', '--global', '--unset', 'remote.origin.xeturl']);
  sandbox.write('a/.gitxet', `[xet]\n\turl = ${sandbox.path('nas/evil')}\n`);
  await sandbox.commitAll('a');
  const { place } = await push(sandbox, 'a');
  t.is(place, sandbox.path('hub/xet'));
  t.false(existsSync(sandbox.path('nas/evil')));
  const doctor = await sandbox.xet('a', ['doctor', '--offline', '--json']);
  t.true(
    (JSON.parse(doctor.stdout) as { faults: { id: string }[] }).faults.some(
      ({ id }) => id === 'gitxet-untrusted',
    ),
  );
  t.is(
    (await sandbox.xet('a', ['trust', sandbox.path('nas/evil')], { env: { XDG_STATE_HOME: sandbox.tmp } }))
      .status,
    0,
  );
  const { stdout } = await sandbox.xet('a', ['push', '--json', '--all', 'origin'], {
    env: { XDG_STATE_HOME: sandbox.tmp },
  });
  t.is((JSON.parse(stdout) as Pushed).place, sandbox.path('nas/evil'));
});

test('refs that are made here prove nothing, though a refspec fetches over them', async (t) => {
  const sandbox = await setUp(t);
  const inA = { cwd: 'a' };
  await sandbox.git(['config', '--add', 'remote.origin.fetch', '+refs/tags/*:refs/tags/*'], inA);
  await sandbox.git(['tag', 'v1'], inA);
  t.deepEqual(outcomes(await push(sandbox, 'a', '--dry-run')), { 'one.bin': 'missing' });
  await sandbox.git(['config', '--add', 'remote.origin.fetch', '+refs/*:refs/*'], inA);
  t.is((await sandbox.xet('a', ['install', '--local', '--force'])).status, 0);
  await sandbox.git(['push', '-q', 'origin', 'main', 'v1'], inA);
  t.true(existsSync(sandbox.path('nas/store')), 'the hook sent nothing');
  t.deepEqual(outcomes(await push(sandbox, 'a', '--all')), { 'one.bin': 'present' });
});

test('push --all to a mirror sends what any ref leads to', async (t) => {
  const sandbox = await setUp(t);
  await addFile(sandbox, 'a', 'two.bin', 2);
  const inA = { cwd: 'a' };
  await sandbox.git(['update-ref', 'refs/changes/1', 'HEAD'], inA);
  await sandbox.git(['reset', '-q', '--hard', 'HEAD~1'], inA);
  t.deepEqual(outcomes(await push(sandbox, 'a', '--all', '--dry-run')), { 'one.bin': 'missing' });
  await sandbox.git(['config', 'remote.origin.mirror', 'true'], inA);
  t.deepEqual(outcomes(await push(sandbox, 'a', '--all')), { 'one.bin': 'sent', 'two.bin': 'sent' });
});

test('what was fetched from one repository says nothing about another one that is pushed to', async (t) => {
  const sandbox = await setUp(t);
  await sandbox.git(['config', '--global', '--unset', 'remote.origin.xeturl']);
  const inA = { cwd: 'a' };
  await sandbox.git(['remote', 'set-url', 'origin', sandbox.path('hub')], inA);
  t.is((await sandbox.xet('a', ['install', '--local', '--force'])).status, 0);
  await sandbox.git(['push', '-q', '-u', 'origin', 'main'], inA);
  await sandbox.git(['init', '-q', '--bare', 'fork']);
  for (const url of [sandbox.path('hub'), sandbox.path('fork')])
    await sandbox.git(['remote', 'set-url', '--add', '--push', 'origin', url], inA);
  await addFile(sandbox, 'a', 'two.bin', 2);
  await sandbox.git(['push', '-q', 'origin', 'main'], inA);
  await sandbox.git(['clone', '-q', 'fork', 'copy']);
  for (const name of ['one.bin', 'two.bin'])
    t.true(sandbox.read(`copy/${name}`).equals(sandbox.read(`a/${name}`)), name);
});

test('two URLs are of one repository if they differ in nothing but the way', (t) => {
  const same = [
    ['git@host:org/x.git', 'https://host/org/x'],
    ['ssh://git@Host:22/org/x.git', 'https://me@host:8443/org/x.git'],
    ['https://host/org/x/', 'https://host/org/x.git'],
    ['host:org/x', 'ssh://host/org/x'],
    ['/srv/x', '/srv/x'],
  ] as const;
  for (const [a, b] of same) t.true(isSameRepository(a, b) && isSameRepository(b, a), `${a} ${b}`);
  const different = [
    ['git@host:org/x.git', 'git@host:me/x.git'],
    ['http://host:7878/x', 'http://host:7979/x'],
    ['https://host/x', 'https://other/x'],
    ['/srv/x', '/srv/y'],
    ['/srv/x', 'https://srv/x'],
  ] as const;
  for (const [a, b] of different) t.false(isSameRepository(a, b) || isSameRepository(b, a), `${a} ${b}`);
});

test('fetch asks nobody for what is here: no remote, or one that cannot be opened, is no trouble', async (t) => {
  const sandbox = await setUp(t);
  const inA = { cwd: 'a' };
  await sandbox.git(['config', 'remote.origin.xeturl', 'http://127.0.0.1:1/'], inA);
  const fetched = async (...args: string[]) => {
    const { stdout, stderr, status } = await sandbox.xet('a', ['fetch', '--json', ...args]);
    t.is(status, 0, stderr);
    return outcomes(JSON.parse(stdout));
  };
  t.deepEqual(await fetched(), { 'one.bin': 'present' });
  t.deepEqual(await fetched('--all', 'origin'), { 'one.bin': 'present' });
  await sandbox.git(['remote', 'remove', 'origin'], inA);
  t.deepEqual(await fetched('--all'), { 'one.bin': 'present' });
  rmSync(sandbox.path('a/.git/xet'), { recursive: true });
  const lost = await sandbox.xet('a', ['fetch']);
  t.is(lost.status, 1);
  t.regex(lost.stderr, /one\.bin: the content .* could not be had/);
});

test('a place where no store can be made is told with its address, and nothing is waited for', async (t) => {
  const sandbox = createLargeFileSandbox(t);
  await sandbox.init('a');
  sandbox.write('a/model.bin', noise(1000, 1));
  await sandbox.commitAll('a');
  await sandbox.git(['remote', 'add', 'origin', '../bare.git'], { cwd: 'a' });
  sandbox.write('file', 'text');
  const places = [sandbox.path('file'), ...(process.platform === 'linux' ? ['/proc/nothere'] : [])];
  for (const place of places) {
    await sandbox.git(['config', 'remote.origin.xeturl', place], { cwd: 'a' });
    const { status, stderr } = await sandbox.xet('a', ['push', '--all', 'origin']);
    t.is(status, EXIT_CODES.REMOTE_MISSING, stderr);
    t.regex(stderr, new RegExp(`no store can be made in ${place}: .*; correct the address`));
  }
  await sandbox.git(['config', 'remote.origin.xeturl', sandbox.path('file')], { cwd: 'a' });
  rmSync(sandbox.path('a/.git/xet'), { recursive: true });
  const { stderr } = await sandbox.xet('a', ['fetch', 'origin']);
  t.regex(stderr, /there is no store in .*file: it is no directory; correct the address/);
});
