import { existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { rename } from 'node:fs/promises';
import test from 'ava';
import {
  findPathsOf,
  listRoots,
  type ReachableOptions,
  reachableBlobs,
  treeBlobs,
} from '../../src/git/refs.ts';
import { repositoryAt } from '../../src/git/repository.ts';
import { createSandbox, isolateProcess, type Sandbox } from '../helpers/git-sandbox.ts';

isolateProcess();

/** The names of the blobs found, by the content `blob <name>`; each must be found once. */
async function reachable(
  sandbox: Sandbox,
  where = '.',
  options: ReachableOptions = { maxSize: 1024 },
): Promise<string[]> {
  const repo = repositoryAt(sandbox.path(where))!;
  const oids: string[] = [];
  for await (const { oid } of reachableBlobs(repo, options)) oids.push(oid);
  if (new Set(oids).size !== oids.length) throw new Error('a blob was listed twice');
  const { stdout } = await sandbox.git(['cat-file', '--batch'], {
    cwd: where,
    input: oids.map((oid) => `${oid}\n`).join(''),
  });
  return [...stdout.matchAll(/^blob (.+)$/gm)].map((match) => match[1]!).sort();
}

async function commit(sandbox: Sandbox, name: string, cwd = '.'): Promise<void> {
  sandbox.write(`${cwd}/${name}`, `blob ${name}\n`);
  await sandbox.git(['add', '.'], { cwd });
  await sandbox.git(['commit', '--quiet', '-m', name], { cwd });
}

/** An empty repository in `r`. */
async function repository(sandbox: Sandbox, ...flags: string[]): Promise<void> {
  await sandbox.git(['init', '--quiet', ...flags, '.']);
}

/** Makes `name` reachable from the file only that is written with the id of a commit, tree or blob. */
async function loneCommit(
  sandbox: Sandbox,
  name: string,
  kind: 'commit' | 'tree' = 'commit',
): Promise<string> {
  const blob = await sandbox.gitText(['hash-object', '-w', '--stdin'], { input: `blob ${name}\n` });
  const tree = await sandbox.gitText(['mktree'], { input: `100644 blob ${blob}\t${name}\n` });
  return kind === 'tree' ? tree : sandbox.gitText(['commit-tree', '-m', name, tree]);
}

for (const format of ['sha1', 'sha256']) {
  test(`history, stash, staged files, reflogs and tags are reachable (${format})`, async (t) => {
    const sandbox = createSandbox(t);
    const { git, write } = sandbox;
    await repository(sandbox, `--object-format=${format}`);
    t.deepEqual(await reachable(sandbox), []);
    await commit(sandbox, 'one');
    await git(['rm', '--quiet', 'one']);
    await commit(sandbox, 'two');

    await git(['checkout', '--quiet', '-b', 'gone']);
    await commit(sandbox, 'only-in-reflog');
    await git(['checkout', '--quiet', 'main']);
    await git(['branch', '--quiet', '-D', 'gone']);

    await git(['tag', '-m', 'annotated', 'tag', await loneCommit(sandbox, 'tagged')]);
    await git(['update-ref', 'refs/odd/tree', await loneCommit(sandbox, 'tree-ref', 'tree')]);

    write('two', 'blob stash-worktree\n');
    write('staged', 'blob stash-index\n');
    await git(['add', 'staged']);
    write('staged', 'blob stash-worktree-2\n');
    write('untracked', 'blob stash-untracked\n');
    await git(['stash', '--quiet', '--include-untracked']);

    write('staged only', 'blob staged-only\n');
    await git(['add', '--all']);
    write('large', `blob ${'x'.repeat(2000)}\n`);
    write('exact', `blob ${'y'.repeat(1018)}\n`);
    await git(['add', '--all']);
    await sandbox.gitText(['hash-object', '-w', '--stdin'], { input: 'blob unreachable\n' });

    t.deepEqual(await reachable(sandbox), [
      'one',
      'only-in-reflog',
      'staged-only',
      'stash-index',
      'stash-untracked',
      'stash-worktree',
      'stash-worktree-2',
      'tagged',
      'tree-ref',
      'two',
      'y'.repeat(1018),
    ]);
    await git(['repack', '--quiet', '-a', '-d']);
    t.is((await reachable(sandbox)).length, 11);
  });
}

test('size, id and a path come with each blob, whatever bytes the path has', async (t) => {
  const sandbox = createSandbox(t);
  await repository(sandbox);
  const path = Buffer.from([0x64, 0x2f, 0xff, 0x20, 0x22, 0x20]);
  const oid = await sandbox.gitText(['hash-object', '-w', '--stdin'], { input: 'abc' });
  const input = Buffer.concat([Buffer.from(`100644 ${oid}\t`), path, Buffer.of(0)]);
  await sandbox.git(['update-index', '-z', '--index-info'], { input });
  await sandbox.git(['commit', '--quiet', '-m', 'one']);
  await sandbox.git(['read-tree', '--empty']);
  const found = [];
  for await (const blob of reachableBlobs(repositoryAt(sandbox.dir)!, { maxSize: 3 })) found.push(blob);
  const tree = await sandbox.gitText(['rev-parse', 'HEAD:d']);
  t.deepEqual(found, [{ oid, size: 3, path, tree }]);
  for await (const _ of reachableBlobs(repositoryAt(sandbox.dir)!, { maxSize: 2 })) t.fail();
});

test('HEAD, index, reflog and own refs of every linked worktree are reachable', async (t) => {
  const sandbox = createSandbox(t);
  const { git, write, gitText } = sandbox;
  await repository(sandbox);
  await commit(sandbox, 'one');
  await git(['worktree', 'add', '--quiet', '--detach', '../linked']);
  const cwd = '../linked';
  await commit(sandbox, 'reflog-of-worktree', cwd);
  await git(['reset', '--quiet', '--hard', 'HEAD~1'], { cwd });
  await git(['update-ref', '-d', 'ORIG_HEAD'], { cwd });
  await commit(sandbox, 'detached-head', cwd);
  const own = await loneCommit(sandbox, 'own-ref');
  await git(['update-ref', 'refs/worktree/mine', own], { cwd });
  write(`${cwd}/staged`, 'blob staged-in-worktree\n');
  await git(['add', 'staged'], { cwd });

  const expected = ['detached-head', 'one', 'own-ref', 'reflog-of-worktree', 'staged-in-worktree'];
  t.deepEqual(await reachable(sandbox), expected);
  t.deepEqual(await reachable(sandbox, cwd), expected);
  const roots = await listRoots(sandbox.path('.git'));
  t.deepEqual(
    roots.heads.map(({ name }) => name),
    ['HEAD', 'worktrees/linked/HEAD'],
  );
  t.is(roots.heads[1]?.oid, await gitText(['rev-parse', 'HEAD'], { cwd }));
  t.deepEqual(
    roots.refs.map(({ name }) => name),
    ['refs/heads/main', 'worktrees/linked/refs/worktree/mine'],
  );
  t.deepEqual(roots.indexes, [sandbox.path('.git/index'), sandbox.path('.git/worktrees/linked/index')]);
  t.deepEqual(roots.strayIndexes, []);

  // The work tree is gone, or git itself no longer knows the worktree: what it held is still held.
  rmSync(sandbox.path(cwd), { recursive: true });
  t.deepEqual(await reachable(sandbox), expected);
  writeFileSync(sandbox.path('.git/worktrees/linked/gitdir'), '');
  t.deepEqual(await reachable(sandbox), expected);
  t.deepEqual((await listRoots(sandbox.path('.git'))).strayIndexes, [
    sandbox.path('.git/worktrees/linked/index'),
  ]);
});

test('a conflict holds all three sides, also in the index alone', async (t) => {
  const sandbox = createSandbox(t);
  const { git, write } = sandbox;
  await repository(sandbox);
  const entries = ['base', 'ours', 'theirs'].map(async (name, index) => {
    const oid = await sandbox.gitText(['hash-object', '-w', '--stdin'], { input: `blob ${name}\n` });
    return `100644 ${oid} ${index + 1}\tfile`;
  });
  await git(['update-index', '--index-info'], { input: `${(await Promise.all(entries)).join('\n')}\n` });
  t.deepEqual(await reachable(sandbox), ['base', 'ours', 'theirs']);
  write('file', 'blob resolved\n');
  await git(['add', 'file']);
  t.true((await reachable(sandbox)).includes('resolved'));
});

const PSEUDO_REFS = [
  'MERGE_HEAD',
  'CHERRY_PICK_HEAD',
  'REVERT_HEAD',
  'ORIG_HEAD',
  'AUTO_MERGE',
  'MERGE_AUTOSTASH',
];

test('what an operation in progress names is reachable, in every worktree', async (t) => {
  const sandbox = createSandbox(t);
  const { git, write } = sandbox;
  await repository(sandbox);
  await commit(sandbox, 'one');
  await git(['worktree', 'add', '--quiet', '--detach', '../linked']);
  const expected = ['one'];
  for (const gitDir of ['.git', '.git/worktrees/linked']) {
    async function lone(name: string, kind?: 'tree'): Promise<string> {
      const full = `${name}-${gitDir.length}`;
      expected.push(full);
      return loneCommit(sandbox, full, kind);
    }
    for (const name of PSEUDO_REFS)
      write(`${gitDir}/${name}`, `${await lone(name, name === 'AUTO_MERGE' ? 'tree' : undefined)}\n`);
    write(
      `${gitDir}/FETCH_HEAD`,
      `${await lone('f1')}\t\tbranch 'a' of x\n${await lone('f2')}\tnot-for-merge\tb\n`,
    );
    write(`${gitDir}/BISECT_LOG`, `git bisect start\n# bad: [${await lone('bad')}] x\n`);
    write(`${gitDir}/rebase-merge/orig-head`, `${await lone('orig')}\n`);
    write(`${gitDir}/rebase-merge/autostash`, await lone('autostash'));
    write(`${gitDir}/rebase-merge/rewritten-list`, `${await lone('old')} ${await lone('new')}\n`);
    const short = (await lone('todo')).slice(0, 12);
    write(`${gitDir}/rebase-merge/git-rebase-todo`, `pick ${short} subject\nexec make deadbeef\n`);
    write(`${gitDir}/sequencer/todo`, `pick ${(await lone('sequencer')).slice(0, 12)} subject\n`);
    write(`${gitDir}/rebase-apply/abort-safety`, `${await lone('apply')}\n`);
    write(`${gitDir}/logs/refs/heads/0001`, `${'0'.repeat(40)} ${await lone('numbered')} A <a@b> 1 +0000\n`);
    write(`${gitDir}/rebase-apply/0001`, `From ${'1'.repeat(40)}\n`);
    // A message, and an object that is no longer there.
    write(`${gitDir}/COMMIT_EDITMSG`, `see ${'2'.repeat(40)}\n`);
    write(`${gitDir}/REBASE_HEAD`, `${'3'.repeat(40)}\n`);
  }
  t.deepEqual(await reachable(sandbox), expected.sort());
  const { operations } = await listRoots(sandbox.path('.git'));
  t.true(operations.some(({ name }) => name === 'worktrees/linked/rebase-merge/autostash'));
});

test('a real interrupted rebase with an autostash keeps all it needs', async (t) => {
  const sandbox = createSandbox(t);
  const { git, run, write } = sandbox;
  await repository(sandbox);
  await commit(sandbox, 'one');
  write('shared', 'blob base\n');
  await commit(sandbox, 'two');
  await git(['checkout', '--quiet', '-b', 'topic']);
  write('shared', 'blob topic\n');
  await commit(sandbox, 'three');
  await git(['checkout', '--quiet', 'main']);
  write('shared', 'blob main\n');
  await commit(sandbox, 'four');
  await git(['checkout', '--quiet', 'topic']);
  write('one', 'blob autostashed\n');
  t.is((await run('git', ['rebase', '--quiet', '--autostash', 'main'])).status, 1);
  t.true(existsSync(sandbox.path('.git/rebase-merge/autostash')));
  await git(['reflog', 'expire', '--expire=now', '--all']);
  const all = ['autostashed', 'base', 'four', 'main', 'one', 'three', 'topic', 'two'];
  const found = await reachable(sandbox);
  t.deepEqual(
    all.filter((name) => !found.includes(name)),
    [],
  );
});

test('a reflog of a deleted branch counts, and one that names pruned commits does no harm', async (t) => {
  const sandbox = createSandbox(t);
  await repository(sandbox);
  await commit(sandbox, 'one');
  const old = await loneCommit(sandbox, 'left-in-log');
  const line = (oid: string) => `${'0'.repeat(40)} ${oid} A <a@b> 1700000000 +0000\tx\n`;
  sandbox.write('.git/logs/refs/heads/gone', line(old) + line('4'.repeat(40)));
  t.deepEqual(await reachable(sandbox), ['left-in-log', 'one']);
  const { reflogs } = await listRoots(sandbox.path('.git'));
  t.true(reflogs.some(({ name, oid }) => name === 'logs/refs/heads/gone' && oid === old));
  t.false(reflogs.some(({ oid }) => oid === '4'.repeat(40)));
});

test('a replaced object and what replaces it are both reachable', async (t) => {
  const sandbox = createSandbox(t);
  await repository(sandbox);
  await commit(sandbox, 'original');
  await sandbox.git(['replace', 'HEAD', await loneCommit(sandbox, 'replacement')]);
  await sandbox.git(['rm', '--quiet', '--cached', 'original']);
  t.deepEqual(await reachable(sandbox), ['original', 'replacement']);
});

test('a dangling symbolic ref, an unborn branch and an intent to add are ordinary', async (t) => {
  const sandbox = createSandbox(t);
  await repository(sandbox);
  await commit(sandbox, 'one');
  await sandbox.git(['symbolic-ref', 'refs/remotes/origin/HEAD', 'refs/remotes/origin/gone']);
  await sandbox.git(['checkout', '--quiet', '--orphan', 'unborn']);
  sandbox.write('new', 'blob new\n');
  await sandbox.git(['add', '--intent-to-add', 'new']);
  t.deepEqual(await reachable(sandbox), ['one']);
});

test('a submodule is another repository', async (t) => {
  const sandbox = createSandbox(t);
  await sandbox.git(['init', '--quiet', '../sub']);
  await commit(sandbox, 'in-submodule', '../sub');
  await repository(sandbox);
  await sandbox.git(['submodule', '--quiet', 'add', '../../sub', 'sub'], { okStatus: [0, 128] });
  await sandbox.git(['submodule', '--quiet', 'add', sandbox.path('../sub'), 'mod'], { okStatus: [0, 128] });
  await commit(sandbox, 'one');
  t.deepEqual(await reachable(sandbox), ['one']);
});

const damaged = test.macro({
  async exec(t, damage: (sandbox: Sandbox) => Promise<void>, message: RegExp) {
    const sandbox = createSandbox(t);
    await repository(sandbox);
    await commit(sandbox, 'one');
    await commit(sandbox, 'two');
    await damage(sandbox);
    await t.throwsAsync(reachable(sandbox), { code: 'GIT_FAILED', message });
  },
  title: (what) => `damage is an error and never fewer blobs: ${what}`,
});

async function objectFile({ gitText, path }: Sandbox, name: string): Promise<string> {
  const oid = await gitText(['rev-parse', name]);
  return path('.git/objects', oid.slice(0, 2), oid.slice(2));
}

test(
  'a blob of the history is missing',
  damaged,
  async (s) => rmSync(await objectFile(s, 'HEAD~1:one')),
  /missing blob/,
);
test('a tree is missing', damaged, async (s) => rmSync(await objectFile(s, 'HEAD~1:')), /bad tree/);
test('a commit is missing', damaged, async (s) => rmSync(await objectFile(s, 'HEAD~1')), /./);
test(
  'a tree cannot be read',
  damaged,
  async (s) => {
    const file = await objectFile(s, 'HEAD~1:');
    const bytes = readFileSync(file);
    rmSync(file);
    writeFileSync(file, bytes.subarray(0, bytes.length - 12));
  },
  /./,
);
test(
  'a tree is something else',
  damaged,
  async (s) => {
    const blob = await s.gitText(['rev-parse', 'HEAD:one']);
    const body = Buffer.concat([Buffer.from('40000 directory\0'), Buffer.from(blob, 'hex')]);
    const tree = await s.gitText(['hash-object', '-t', 'tree', '-w', '--stdin'], { input: body });
    await s.git(['update-ref', 'refs/heads/odd', await s.gitText(['commit-tree', '-m', 'odd', tree])]);
  },
  /./,
);
test(
  'a blob cannot be read',
  damaged,
  async (s) => {
    const file = await objectFile(s, 'HEAD:two');
    rmSync(file);
    writeFileSync(file, 'junk');
  },
  /cannot be read/,
);
test(
  'a commit an operation needs cannot be read',
  damaged,
  async (s) => {
    s.write('.git/MERGE_HEAD', await loneCommit(s, 'merging'));
    const file = await objectFile(s, 'MERGE_HEAD');
    rmSync(file);
    writeFileSync(file, 'junk');
  },
  /corrupt/,
);
test(
  'a ref holds no object id',
  damaged,
  async ({ write }) => write('.git/refs/heads/broken', 'junk\n'),
  /broken/,
);
test(
  'a ref names no object',
  damaged,
  async ({ write }) => write('.git/refs/heads/broken', `${'5'.repeat(40)}\n`),
  /broken/,
);
test(
  'the index is cut short',
  damaged,
  async ({ read, write }) => write('.git/index', read('.git/index').fill(0, 0, 12)),
  /index/,
);
test(
  'a blob of a linked index is missing',
  damaged,
  async (s) => {
    await s.git(['worktree', 'add', '--quiet', '--detach', '../linked']);
    s.write('../linked/staged', 'blob staged\n');
    await s.git(['add', 'staged'], { cwd: '../linked' });
    const oid = await s.gitText(['rev-parse', ':staged'], { cwd: '../linked' });
    rmSync(s.path('.git/objects', oid.slice(0, 2), oid.slice(2)));
  },
  /missing blob/,
);

test('a ref that cannot be read is not left out of the roots', async (t) => {
  const sandbox = createSandbox(t);
  await repository(sandbox);
  sandbox.write('.git/refs/heads/broken', 'junk\n');
  await t.throwsAsync(listRoots(sandbox.path('.git')), { code: 'GIT_FAILED', message: /heads\/broken/ });
});

test.serial('a repository of somebody else is not looked at unless git trusts it', async (t) => {
  const sandbox = createSandbox(t);
  await repository(sandbox);
  process.env.GIT_TEST_ASSUME_DIFFERENT_OWNER = '1';
  t.teardown(() => delete process.env.GIT_TEST_ASSUME_DIFFERENT_OWNER);
  await t.throwsAsync(reachable(sandbox), { code: 'GIT_FAILED', message: /dubious ownership/ });
});

test('a partial clone fetches nothing, and says what it does not have', async (t) => {
  const sandbox = createSandbox(t);
  const { git, path } = sandbox;
  await git(['init', '--quiet', 'origin']);
  await git(['config', 'uploadpack.allowFilter', 'true'], { cwd: 'origin' });
  for (const name of ['one', 'two']) await commit(sandbox, name, 'origin');
  await git(['rm', '--quiet', 'one'], { cwd: 'origin' });
  await commit(sandbox, 'three', 'origin');
  const missing = await sandbox.gitText(['rev-parse', 'HEAD~1:one'], { cwd: 'origin' });
  await git(['clone', '--quiet', '--filter=blob:none', `file://${path('origin')}`, 'clone']);
  await rename(path('origin'), path('moved'));
  // What may name an object that was pruned long ago must not be asked of the remote.
  sandbox.write('clone/.git/ORIG_HEAD', `${'8'.repeat(40)}\n`);
  const pruned = `${'0'.repeat(40)} ${'9'.repeat(40)} A <a@b> 1700000000 +0000\tx\n`;
  sandbox.write('clone/.git/logs/refs/heads/gone', pruned);

  const found: string[] = [];
  const options = { maxSize: 1024, onMissing: (oid: string) => found.push(oid) };
  t.deepEqual(await reachable(sandbox, 'clone', options), ['three', 'two']);
  t.deepEqual(found, [missing]);
  await t.throwsAsync(reachable(sandbox, 'clone'), { code: 'GIT_FAILED', message: /partial clone/ });
  const sizes = [];
  for await (const { path: file, size } of treeBlobs(repositoryAt(path('clone'))!, 'HEAD~1')) {
    sizes.push([file.toString(), size]);
  }
  t.deepEqual(sizes, [
    ['one', undefined],
    ['two', 9],
  ]);
  t.is((await findPathsOf(repositoryAt(path('clone'))!, [missing])).get(missing)?.path.toString(), 'one');
});

test('in a clone without trees a blob is placed as far as its history is here', async (t) => {
  const sandbox = createSandbox(t);
  const { git, path } = sandbox;
  await git(['init', '--quiet', 'origin']);
  await git(['config', 'uploadpack.allowFilter', 'true'], { cwd: 'origin' });
  for (const name of ['one', 'two']) await commit(sandbox, name, 'origin');
  const oid = await sandbox.gitText(['rev-parse', 'HEAD:one'], { cwd: 'origin' });
  await git(['clone', '--quiet', '--filter=tree:0', `file://${path('origin')}`, 'clone']);
  await rename(path('origin'), path('moved'));
  const found = await findPathsOf(repositoryAt(path('clone'))!, [oid]);
  t.deepEqual(found.get(oid), { commit: undefined, path: Buffer.from('one') });
});

test('a shallow clone and an alternate are complete in themselves', async (t) => {
  const sandbox = createSandbox(t);
  const { git, path } = sandbox;
  await git(['init', '--quiet', 'origin']);
  for (const name of ['one', 'two']) await commit(sandbox, name, 'origin');
  await git(['rm', '--quiet', 'one'], { cwd: 'origin' });
  await commit(sandbox, 'three', 'origin');
  await git(['clone', '--quiet', '--depth=1', `file://${path('origin')}`, 'shallow']);
  t.deepEqual(await reachable(sandbox, 'shallow'), ['three', 'two']);
  await git(['clone', '--quiet', '--shared', 'origin', 'shared']);
  t.deepEqual(await reachable(sandbox, 'shared'), ['one', 'three', 'two']);
});

test('an aborted walk ends with AbortError', async (t) => {
  const sandbox = createSandbox(t);
  await repository(sandbox);
  for (const name of ['one', 'two']) await commit(sandbox, name);
  const controller = new AbortController();
  const options = { maxSize: 1024, signal: controller.signal };
  await t.throwsAsync(
    async () => {
      for await (const _ of reachableBlobs(repositoryAt(sandbox.dir)!, options)) controller.abort();
    },
    { name: 'AbortError' },
  );
  await t.throwsAsync(reachable(sandbox, '.', options), { name: 'AbortError' });
});

test('the files of a tree come with mode, size and the bytes of their path', async (t) => {
  const sandbox = createSandbox(t);
  await repository(sandbox);
  const oid = await sandbox.gitText(['hash-object', '-w', '--stdin'], { input: 'abc' });
  const odd = Buffer.from([0x66, 0xff, 0x0a, 0x09, 0x22]);
  const input = Buffer.concat([
    Buffer.from(`100644 ${oid}\td/`),
    odd,
    Buffer.from(`\x00100755 ${oid}\trun\x00120000 ${oid}\tlink\x00160000 ${'6'.repeat(40)}\tsub\x00`),
  ]);
  await sandbox.git(['update-index', '-z', '--index-info'], { input });
  await sandbox.git(['commit', '--quiet', '-m', 'one']);
  const found = [];
  for await (const blob of treeBlobs(repositoryAt(sandbox.dir)!, 'HEAD')) found.push(blob);
  t.deepEqual(found, [
    { mode: '100644', oid, size: 3, path: Buffer.concat([Buffer.from('d/'), odd]) },
    { mode: '120000', oid, size: 3, path: Buffer.from('link') },
    { mode: '100755', oid, size: 3, path: Buffer.from('run') },
  ]);
  await t.throwsAsync(
    async () => {
      for await (const _ of treeBlobs(repositoryAt(sandbox.dir)!, 'nope'));
    },
    { code: 'GIT_FAILED' },
  );
});

test('a blob is placed at the first commit that has it, else in an index', async (t) => {
  const sandbox = createSandbox(t);
  const { git, gitText, write } = sandbox;
  await repository(sandbox);
  await commit(sandbox, 'one');
  const first = await gitText(['rev-parse', 'HEAD']);
  write('d/new\nline', 'blob merged\n');
  await git(['checkout', '--quiet', '-b', 'topic']);
  await commit(sandbox, 'two');
  const second = await gitText(['rev-parse', 'HEAD']);
  await git(['checkout', '--quiet', 'main']);
  await commit(sandbox, 'three');
  await git(['merge', '--quiet', '--no-commit', 'topic']);
  write('evil', 'blob only-in-merge\n');
  await git(['add', '.']);
  await git(['commit', '--quiet', '-m', 'merge']);
  const merge = await gitText(['rev-parse', 'HEAD']);
  await git(['mv', 'one', 'moved']);
  await git(['commit', '--quiet', '-m', 'move']);
  write('staged', 'blob staged\n');
  await git(['add', 'staged']);
  await git(['worktree', 'add', '--quiet', '--detach', '../linked', first]);
  write('../linked/there', 'blob there\n');
  await git(['add', 'there'], { cwd: '../linked' });
  const lone = await loneCommit(sandbox, 'merging');
  write('.git/MERGE_HEAD', `${lone}\n`);
  write('.git/AUTO_MERGE', `${await loneCommit(sandbox, 'auto', 'tree')}\n`);

  const oidOf = (content: string) => gitText(['hash-object', '--stdin'], { input: `blob ${content}\n` });
  const expected: [string, { commit: string | undefined; path: Buffer }][] = [
    [await oidOf('one'), { commit: first, path: Buffer.from('one') }],
    [await oidOf('merged'), { commit: second, path: Buffer.from('d/new\nline') }],
    [await oidOf('only-in-merge'), { commit: merge, path: Buffer.from('evil') }],
    [await oidOf('merging'), { commit: lone, path: Buffer.from('merging') }],
    [await oidOf('staged'), { commit: undefined, path: Buffer.from('staged') }],
    [await oidOf('there'), { commit: undefined, path: Buffer.from('there') }],
  ];
  const asked = [...expected.map(([oid]) => oid), '7'.repeat(40)];
  const found = await findPathsOf(repositoryAt(sandbox.dir)!, asked);
  t.deepEqual(new Map([...found].sort()), new Map([...expected].sort()));
  t.is((await findPathsOf(repositoryAt(sandbox.dir)!, [])).size, 0);
  t.true(readFileSync(sandbox.path('moved')).length > 0);
});
