import { appendFileSync, existsSync, mkdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { sharingOf } from '../../src/cli/commands/du.ts';
import { registryWithClone } from './registry.ts';
import { cli, gitIn, isolateGit } from './run.ts';

isolateGit();
delete process.env.GIT2DB_REGISTRY;

test('status, add, unstage, commit, log, diff and blame see one work tree alike', async (t) => {
  const { clone, json, run, attempt } = await registryWithClone(t);
  appendFileSync(join(clone, 'a.txt'), 'four\n');
  writeFileSync(join(clone, 'new file'), '');
  const status = await json('status', 'model');
  t.like(status, {
    path: clone,
    branch: 'main',
    upstream: 'origin/main',
    ahead: 0,
    behind: 0,
    operation: null,
    isClean: false,
  });
  t.deepEqual(
    status.entries.map(({ path, kind }: { path: string; kind: string }) => [path, kind]),
    [
      ['a.txt', 'changed'],
      ['new file', 'untracked'],
    ],
  );
  t.is((await run('status', 'model')).stdout, 'on main, follows origin/main\n M a.txt\n?? new file\n');
  t.is((await attempt('commit', 'model', '-m', 'x')).code, 74);
  t.is((await attempt('add', 'model', 'nothing')).code, 81);
  t.is((await attempt('add', 'model', '../outside')).code, 81);
  t.deepEqual((await json('add', 'model', 'a.txt')).staged, [{ path: 'a.txt', change: 'modified' }]);
  t.deepEqual((await json('unstage', 'model', '--all')).staged, []);
  t.is((await json('add', 'model', '--all')).staged.length, 2);
  t.deepEqual((await json('rm', 'model', 'new file', '--cached')).staged.length, 1);
  t.deepEqual(
    (await json('diff', 'model', '--staged')).files.map(
      ({ path, added }: { path: string; added: number }) => [path, added],
    ),
    [['a.txt', 1]],
  );
  t.is((await attempt('diff', 'model', '--staged', '--exit-code')).code, 1);
  t.is(
    (await run('diff', 'model', '--staged', '--patch')).stdout,
    `${gitIn(clone, 'diff', '--cached', '--full-index')}\n`,
  );
  const commit = await json(
    'commit',
    'model',
    '-m',
    'third',
    '-m',
    'body',
    '--author',
    'B <b@example.org>',
    '--date',
    '1700000000 +0100',
  );
  t.deepEqual(Object.keys(commit).sort(), ['branch', 'hooksSkipped', 'oid', 'parents', 'tree']);
  t.is(commit.oid, gitIn(clone, 'rev-parse', 'HEAD'));
  t.is(gitIn(clone, 'log', '-1', '--format=%B%an'), 'third\n\nbody\nB');
  const { commits } = await json('log', 'model', '--limit', '1');
  t.like(commits[0], {
    oid: commit.oid,
    subject: 'third',
    author: { name: 'B', date: 1700000000, offsetMinutes: 60 },
  });
  t.is((await run('log', 'model', '--oneline')).stdout.split('\n').length, 4);
  const { lines } = await json('blame', 'model', 'a.txt', '-L', '4');
  t.deepEqual(lines, [{ line: 4, originalLine: 4, oid: commit.oid, path: 'a.txt', content: 'four' }]);
  t.is((await json('commit', 'model', '--amend', '--allow-empty')).parents[0], commit.parents[0]);
  t.is((await json('reset', 'model', 'HEAD~1', '--mode', 'hard')).oid, commit.parents[0]);
});

test('paths start at the current directory with ".", else at the top', async (t) => {
  const { clone, run } = await registryWithClone(t);
  appendFileSync(join(clone, 'd/b.txt'), 'more\n');
  const inside = await cli(['add', '.', 'b.txt', '--json'], { cwd: join(clone, 'd') });
  t.deepEqual(JSON.parse(inside.stdout).staged, [{ path: 'd/b.txt', change: 'modified' }]);
  t.is((await cli(['add', '.', '../../x'], { cwd: join(clone, 'd') })).code, 81);
  await run('unstage', 'model', 'd/b.txt');
  await run('add', 'model', join(clone, 'd/b.txt'));
  t.is(gitIn(clone, 'diff', '--cached', '--name-only'), 'd/b.txt');
});

test('branches are listed, made, checked out, compared, renamed and deleted', async (t) => {
  const { clone, json, run, attempt } = await registryWithClone(t);
  const made = await json('branch', 'create', 'model', 'topic', 'origin/topic', '--track');
  t.like(made, { name: 'topic', isHead: false, upstream: { name: 'origin/topic', remote: 'origin' } });
  t.is((await attempt('branch', 'create', 'model', 'topic')).code, 70);
  t.is((await run('branch', 'list', 'model', '--names')).stdout, 'main\ntopic\n');
  t.is((await json('branch', 'list', 'model', '--all')).branches.length, 4);
  t.deepEqual(await json('branch', 'compare', 'model', 'main', 'topic'), {
    ahead: 1,
    behind: 0,
    mergeBases: [made.oid],
  });
  t.is((await run('branch', 'merged', 'model', 'main', '--names')).stdout, 'main\ntopic\n');
  t.like(await json('branch', 'checkout', 'model', 'topic'), {
    branch: 'topic',
    oid: made.oid,
    hooksSkipped: [],
  });
  t.is((await attempt('branch', 'delete', 'model', 'topic')).code, 69);
  t.regex((await attempt('branch', 'checkout', 'model', 'topik')).stderr, /did you mean "topic"/);
  await run('branch', 'checkout', 'model', 'work', '--create', '--from', 'main');
  t.is((await json('branch', 'rename', 'model', 'work', 'done')).name, 'done');
  t.is((await json('branch', 'upstream', 'model', 'topic')).upstream.name, 'origin/topic');
  t.is((await json('branch', 'upstream', 'model', 'topic', '--unset')).upstream, null);
  t.deepEqual((await json('branch', 'delete', 'model', 'topic')).deleted, [{ name: 'topic', oid: made.oid }]);
  t.is(gitIn(clone, 'branch', '--format=%(refname:short)'), 'done\nmain');
});

test('tags are made, shown, verified and deleted', async (t) => {
  const { json, run, attempt } = await registryWithClone(t);
  t.like(await json('tag', 'create', 'model', 'v2', '-m', 'two'), {
    name: 'v2',
    isAnnotated: true,
    subject: 'two',
  });
  t.like(await json('tag', 'create', 'model', 'light', 'HEAD~1'), {
    isAnnotated: false,
    subject: null,
    tagger: null,
  });
  t.is((await attempt('tag', 'create', 'model', 'v2')).code, 70);
  t.is((await run('tag', 'list', 'model', '--names')).stdout, 'light\nv1\nv2\n');
  t.is((await json('tag', 'list', 'model', '--pattern', 'v*')).tags.length, 2);
  t.is((await json('tag', 'show', 'model', 'v2')).message, 'two\n');
  const unsigned = await attempt('tag', 'verify', 'model', 'v2', '--json');
  t.is(unsigned.code, 1);
  t.is(JSON.parse(unsigned.stdout).isValid, false);
  t.is((await json('tag', 'delete', 'model', 'v2', 'light')).deleted.length, 2);
});

test('a merge that stops tells its conflicts, and is continued or aborted', async (t) => {
  const { clone, json, attempt } = await registryWithClone(t);
  await json('branch', 'checkout', 'model', 'side', '--create', '--from', 'origin/topic');
  writeFileSync(join(clone, 'a.txt'), 'side\n');
  await json('commit', 'model', '-a', '-m', 'side');
  t.is((await attempt('merge', 'model', 'main', '--ff', 'only')).code, 72);
  const stopped = await attempt('merge', 'model', 'main', '--json');
  t.is(stopped.code, 61);
  const { stopped: operation, conflicts } = JSON.parse(stopped.stdout);
  t.is(operation, 'merge');
  t.like(conflicts[0], { path: 'a.txt', kind: 'both-modified' });
  t.regex(stopped.stderr, /'git2db add model PATH'.*'git2db merge model --continue', or --abort\n$/);
  t.is((await json('status', 'model')).operation.kind, 'merge');
  t.is((await attempt('merge', 'model', '--continue')).code, 61);
  writeFileSync(join(clone, 'a.txt'), 'both\n');
  await json('add', 'model', 'a.txt');
  t.like(await json('merge', 'model', '--continue'), {
    kind: 'merge',
    oid: gitIn(clone, 'rev-parse', 'HEAD'),
  });
  t.like(await json('merge', 'model', 'main'), { kind: 'up-to-date' });
  t.is((await attempt('merge', 'model', '--abort')).code, 79);
});

test('rebase, cherry-pick and revert make commits, and stop where git stops', async (t) => {
  const { clone, json, attempt } = await registryWithClone(t);
  await json('branch', 'checkout', 'model', 'side', '--create', '--from', 'origin/topic');
  writeFileSync(join(clone, 'c.txt'), 'c\n');
  await json('add', 'model', 'c.txt');
  await json('commit', 'model', '-m', 'side');
  t.like(await json('rebase', 'model', 'main'), { kind: 'rebased', autostashApplied: true });
  t.is(gitIn(clone, 'rev-parse', 'HEAD~1'), gitIn(clone, 'rev-parse', 'main'));
  t.is((await json('revert', 'model', 'HEAD')).commits.length, 1);
  t.false(existsSync(join(clone, 'c.txt')));
  t.is((await json('cherry-pick', 'model', 'HEAD~1', '--record-origin')).commits.length, 1);
  t.regex(gitIn(clone, 'log', '-1', '--format=%B'), /cherry picked from commit/);
  writeFileSync(join(clone, 'a.txt'), 'else\n');
  await json('commit', 'model', '-a', '-m', 'else');
  t.is((await attempt('revert', 'model', 'main')).code, 61);
  t.deepEqual(await json('revert', 'model', '--abort'), { aborted: true });
  t.is((await attempt('rebase', 'model', '--skip')).code, 79);
});

test('changes are put aside and brought back', async (t) => {
  const { clone, json, attempt } = await registryWithClone(t);
  t.deepEqual(await json('stash', 'push', 'model'), { entry: null });
  appendFileSync(join(clone, 'a.txt'), 'mine\n');
  writeFileSync(join(clone, 'u'), '');
  const { entry } = await json('stash', 'push', 'model', '-u', '-m', 'aside');
  t.is(entry.index, 0);
  t.true((await json('status', 'model')).isClean);
  t.deepEqual((await json('stash', 'list', 'model')).entries, [entry]);
  t.is((await json('stash', 'show', 'model')).files.length, 2);
  await json('stash', 'apply', 'model', '0');
  t.true(readFileSync(join(clone, 'a.txt'), 'utf8').endsWith('mine\n'));
  await json('reset', 'model', '--mode', 'hard');
  t.is((await attempt('stash', 'drop', 'model', '7')).code, 58);
  t.deepEqual(await json('stash', 'drop', 'model', '--all'), { dropped: 1 });
});

test('fetch, pull and push tell what became of each ref', async (t) => {
  const { upstream, clone, json, run, attempt } = await registryWithClone(t);
  t.deepEqual(await json('fetch', 'model'), { ok: true, refs: [] });
  gitIn(upstream, 'commit', '-q', '--allow-empty', '-m', 'third');
  const pulled = await json('pull', 'model');
  t.is(pulled.result.kind, 'fast-forward');
  t.is(pulled.fetched.refs[0].name, 'refs/remotes/origin/main');
  await run('commit', 'model', '--allow-empty', '-m', 'ours');
  const pushed = await json('push', 'model');
  t.like(pushed, { ok: true });
  t.like(pushed.refs[0], { name: 'refs/heads/main', kind: 'fast-forward' });
  t.is(gitIn(upstream, 'rev-parse', 'main'), gitIn(clone, 'rev-parse', 'main'));
  await run('commit', 'model', '--amend', '--allow-empty', '-m', 'again');
  const rejected = await attempt('push', 'model', '--json');
  t.is(rejected.code, 1);
  t.like(JSON.parse(rejected.stdout), { ok: false });
  t.regex(rejected.stderr, /refs\/heads\/main was rejected/);
  t.like(await json('push', 'model', '--force-with-lease'), { ok: true });
  t.like(await json('push', 'model', '--delete', 'topic'), { ok: true });
  t.is((await json('remote', 'refs', 'model', 'origin', '--kind', 'branches')).refs.length, 1);
});

test('remotes are added, renamed, changed and removed', async (t) => {
  const { upstream, json, run, attempt } = await registryWithClone(t);
  t.like(await json('remote', 'add', 'model', 'two', 'https://me:tok_secret@host/x'), {
    name: 'two',
    fetchUrls: ['https://host/x'],
  });
  t.like(await json('remote', 'set-url', 'model', 'two', upstream), { fetchUrls: [upstream] });
  t.like(await json('remote', 'rename', 'model', 'two', 'three'), { name: 'three' });
  t.is((await run('remote', 'list', 'model', '--names')).stdout, 'origin\nthree\n');
  t.is((await json('remote', 'list', 'model')).default, 'origin');
  t.deepEqual(await json('remote', 'remove', 'model', 'three'), { removed: 'three' });
  t.is((await attempt('remote', 'remove', 'model', 'orign')).code, 53);
});

test('a worktree is made, found by branch, locked, repaired, counted and removed', async (t) => {
  const { root, json, run, attempt } = await registryWithClone(t);
  const vfs = ['--driver', 'vfs'];
  const tree = await json('worktree', 'add', 'model', 'main', '--branch', 'try', ...vfs);
  t.deepEqual(Object.keys(tree), [
    ...[
      'id',
      'path',
      'branch',
      'head',
      'driver',
      'backend',
      'reachable',
      'mounted',
      'locked',
      'foreign',
      'rejected',
    ],
  ]);
  t.like(tree, { branch: 'try', driver: 'vfs', backend: null, reachable: true, foreign: false });
  t.true(tree.path.startsWith(root));
  t.is((await json('worktree', 'list', 'model')).worktrees[0].id, tree.id);
  t.is((await run('worktree', 'path', 'model', 'try')).stdout, `${tree.path}\n`);
  t.is((await run('worktree', 'list', 'model', '--names')).stdout, 'try\n');
  t.regex((await attempt('worktree', 'path', 'model', 'tri')).stderr, /has no worktree "tri".*"try"/);

  writeFileSync(join(tree.path, 'x'), '');
  t.is((await json('status', 'model', '--worktree', 'try')).entries[0].path, 'x');
  t.is(
    JSON.parse((await cli(['status', '--json'], { cwd: tree.path, env: { GIT2DB_REGISTRY: root } })).stdout)
      .branch,
    'try',
  );
  t.true((await json('status', 'model')).isClean, 'the main work tree is another one');
  const refused = await attempt('worktree', 'remove', 'model', 'try', '--json');
  t.is(refused.code, 64);
  t.is(JSON.parse(refused.stdout).reasons[0].kind, 'untracked');

  t.is((await json('worktree', 'lock', 'model', 'try', '--reason', 'in use')).locked, 'in use');
  t.is((await json('worktree', 'unlock', 'model', 'try')).locked, null);
  t.like(await json('worktree', 'repair', 'model'), { ok: true });
  const du = await json('du', 'model');
  t.is(du.repositories[0].worktrees[0].branch, 'try');
  t.true(du.worktreeBytes > 0);
  t.is(du.spareBytes, 512 * statSync(join(root, '.git2db/worktrees/.spare')).blocks);
  t.is(du.sharing, null, 'vfs shares nothing');
  t.regex((await run('du', 'model')).stdout, /^ *kept for removals on a full disk +256(?:\.0)? KiB$/m);
  t.is((await json('worktree', 'remove', 'model', tree.path, '--force')).removed, tree.id);
  t.false(existsSync(tree.path));
  t.deepEqual(await json('worktree', 'prune', 'model'), { dryRun: false, worktrees: [], layers: [] });
});

test('what is saved follows from the number of worktrees and what each has of its own', (t) => {
  const tree = (ownBytes: number) => ({ ownBytes, shared: [{ layer: 'l', bytes: 1000, sharers: 4 }] });
  const sharing = sharingOf([tree(10), tree(10), tree(10), tree(10)], 1000);
  // N = 4, d = 0.01: 1 - (1 + 4 * 0.01) / 4.
  t.is(sharing?.worktrees, 4);
  t.is(sharing?.ownPart, 0.01);
  t.true(Math.abs(sharing!.saved - 0.74) < 1e-12);
  t.is(sharingOf([{ ownBytes: 5, shared: [] }], 0), undefined);
});

test('text that somebody else wrote cannot command the terminal', async (t) => {
  const { clone, run } = await registryWithClone(t);
  writeFileSync(join(clone, 'esc\u001b[31m'), '');
  gitIn(clone, 'commit', '-q', '--allow-empty', '-m', 'red \u001b[31m text');
  for (const argv of [
    ['log', 'model'],
    ['log', 'model', '--oneline'],
    ['status', 'model'],
    ['blame', 'model', 'a.txt'],
  ]) {
    t.false((await run(...argv)).stdout.includes('\u001b'), argv.join(' '));
  }
});

test('an untrusted repository says which hooks it did not run', async (t) => {
  const { clone, json, run } = await registryWithClone(t);
  mkdirSync(join(clone, '.git/hooks'), { recursive: true });
  writeFileSync(join(clone, '.git/hooks/pre-commit'), '#!/bin/sh\ntouch ran\n', { mode: 0o755 });
  const { stderr, stdout } = await run('commit', 'model', '--allow-empty', '-m', 'x', '--json');
  t.deepEqual(JSON.parse(stdout).hooksSkipped, ['pre-commit']);
  t.regex(stderr, /hooks that did not run, because the repository is not trusted/);
  t.false(existsSync(join(clone, 'ran')));
  await run('update', 'model', '--trust');
  t.deepEqual((await json('commit', 'model', '--allow-empty', '-m', 'y')).hooksSkipped, []);
  t.true(existsSync(join(clone, 'ran')));
});
