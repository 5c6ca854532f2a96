import { chmodSync, existsSync, mkdirSync, writeFileSync } from 'node:fs';
import test, { type ExecutionContext } from 'ava';
import type { MergeConflictError } from '../../../src/registry/handles/conflict.ts';
import { parseMergeTree } from '../../../src/registry/handles/merge-trees.ts';
import { isolateProcess } from '../../helpers/git-sandbox.ts';
import { commitFiles, createTwins, handleAt, type TwinOptions, type Twins } from './twins.ts';

isolateProcess();

/** main: base, two. side (from base): changes another file. clash (from base): changes the same file. */
function createForked(t: ExecutionContext, options: TwinOptions = {}): Promise<Twins> {
  return createTwins(
    t,
    async (run, sandbox) => {
      await commitFiles(run, sandbox, { a: 'base\n', b: 'base\n', gone: 'base\n' }, 'base');
      await run(['tag', 'base']);
      await run(['checkout', '-q', '-b', 'side']);
      await commitFiles(run, sandbox, { b: 'side\n' }, 'side 1');
      await commitFiles(run, sandbox, { c: 'side\n' }, 'side 2');
      await run(['checkout', '-q', '-b', 'clash', 'base']);
      await commitFiles(run, sandbox, { a: 'clash\n', d: 'clash\n' }, 'clash');
      await run(['checkout', '-q', 'main']);
      await commitFiles(run, sandbox, { a: 'main\n' }, 'two');
    },
    options,
  );
}

async function conflictOf<Result>(
  t: ExecutionContext,
  running: Promise<Result>,
): Promise<MergeConflictError<Result>> {
  return (await t.throwsAsync(running, {
    code: 'MERGE_CONFLICT',
    name: 'MergeConflictError',
  })) as unknown as MergeConflictError<Result>;
}

test('a fast-forward moves the current branch, and HEAD stays on it', async (t) => {
  const twins = await createForked(t);
  await twins.run(['checkout', '-q', '-b', 'behind', 'base']);
  await twins.handle.branch().checkout('behind', { create: 'base' });
  await twins.run(['merge', '-q', 'side']);
  const result = await twins.handle.merge('side');
  t.like(result, { kind: 'fast-forward', oid: await twins.run(['rev-parse', 'side']) });
  t.is(await twins.handle.branch().current(), 'behind');
  await twins.same(t);
  t.like(await twins.handle.merge('side'), { kind: 'up-to-date', oid: result.oid });
  t.like(await twins.handle.merge('base'), { kind: 'up-to-date', oid: result.oid });
  await twins.same(t);
});

test('a tag or a remote branch is merged without leaving the branch', async (t) => {
  const twins = await createForked(t);
  for (const side of ['git', 'ours']) {
    await twins.sandbox.git(['update-ref', 'refs/remotes/origin/x', 'side'], { cwd: side });
    await twins.sandbox.git(['tag', 'v1', 'side~1'], { cwd: side });
  }
  for (const name of ['v1', 'origin/x']) {
    await twins.run(['merge', '-q', '--no-edit', name]);
    t.is((await twins.handle.merge(name)).kind, 'merge');
    t.is(await twins.handle.branch().current(), 'main');
    await twins.same(t);
  }
});

test('merges are those of git: message, --no-ff, squash, octopus, strategies', async (t) => {
  const twins = await createForked(t);
  const { handle } = twins;
  await twins.run(['merge', '-q', '--no-edit', 'side']);
  t.is((await handle.merge('side')).kind, 'merge');
  await twins.same(t);
  await twins.run(['checkout', '-q', '-b', 'n', 'base']);
  await handle.branch().checkout('n', { create: 'base' });
  await twins.run(['merge', '-q', '--no-ff', '-m', 'my message\n\nbody', 'side~1']);
  t.is((await handle.merge('side~1', { ff: 'never', message: 'my message\n\nbody' })).kind, 'merge');
  await twins.same(t);
  await twins.run(['merge', '-q', '--squash', 'side']);
  t.like(await handle.merge('side', { squash: true }), {
    kind: 'squash',
    oid: await handle.refs.resolve('HEAD'),
  });
  await twins.same(t);
  await twins.run(['commit', '-q', '--no-edit']);
  await handle.commit({});
  await twins.same(t);
  await twins.run(['merge', '-q', '-s', 'ours', '--no-edit', 'clash']);
  await handle.merge('clash', { strategy: 'ours' });
  await twins.same(t);
  await twins.run(['checkout', '-q', '-b', 'o', 'base']);
  await handle.branch().checkout('o', { create: 'base' });
  await twins.run(['merge', '-q', '--no-edit', 'side', 'clash']);
  t.is((await handle.merge(['side', 'clash'])).kind, 'merge');
  await twins.same(t);
  await twins.run(['checkout', '-q', 'main']);
  await handle.branch().checkout('main');
  await twins.run(['merge', '-q', '--no-edit', '-X', 'theirs', 'clash']);
  await handle.merge('clash', { strategyOptions: ['theirs'] });
  await twins.same(t);
});

test('what may only be a fast-forward is refused where it is none', async (t) => {
  const twins = await createForked(t);
  await t.throwsAsync(twins.handle.merge('side', { ff: 'only' }), { code: 'NOT_FAST_FORWARD' });
  await t.throwsAsync(twins.handle.merge('none'), { code: 'REF_INVALID' });
  await t.throwsAsync(twins.handle.merge([]), { code: 'USAGE' });
  await t.throwsAsync(twins.handle.merge('side', { ff: 'never', squash: true }), { code: 'USAGE' });
  await twins.same(t);
});

test('unrelated histories are merged only when allowed', async (t) => {
  const twins = await createForked(t);
  for (const side of ['git', 'ours']) {
    await twins.sandbox.git(
      [
        'update-ref',
        'refs/heads/alien',
        await twins.sandbox.gitText(['commit-tree', '-m', 'alien', 'base^{tree}'], { cwd: side }),
      ],
      { cwd: side },
    );
  }
  await t.throwsAsync(twins.handle.merge('alien'), { code: 'HISTORIES_UNRELATED' });
  await twins.run(['merge', '-q', '--no-edit', '--allow-unrelated-histories', '-s', 'ours', 'alien']);
  await twins.handle.merge('alien', { allowUnrelated: true, strategy: 'ours' });
  await twins.same(t);
});

test('a merge that would overwrite changes touches nothing', async (t) => {
  const twins = await createForked(t);
  twins.write('b', 'mine\n');
  await t.throwsAsync(twins.handle.merge('side'), { code: 'WORKTREE_DIRTY', message: /\bb\b/ });
  await twins.same(t);
  // A fast-forward carries edits of other files along.
  await twins.run(['checkout', '-q', '-b', 'ff', 'base']);
  await twins.handle.branch().checkout('ff', { create: 'base' });
  await twins.run(['merge', '-q', 'clash']);
  await twins.handle.merge('clash');
  await twins.same(t);
  t.is(twins.sandbox.read('ours/b').toString(), 'mine\n');
});

test('a merge with conflicts is resumed after they are resolved', async (t) => {
  const twins = await createForked(t);
  const { handle } = twins;
  await twins.run(['merge', '-q', '--no-edit', 'clash'], { okStatus: [1] });
  const conflict = await conflictOf(t, handle.merge('clash'));
  t.is(conflict.operation, 'merge');
  t.deepEqual(
    conflict.conflicts.map(({ path, kind }) => [path, kind]),
    [['a', 'both-modified']],
  );
  t.is((await handle.objects.read(conflict.conflicts[0]!.stages.theirs!.oid))!.body.toString(), 'clash\n');
  await twins.same(t);
  t.like(await handle.operation(), { kind: 'merge', commit: await handle.refs.resolve('clash') });
  t.is((await handle.status()).operation?.kind, 'merge');
  await conflictOf(t, conflict.continue());
  await conflictOf(t, handle.commit('too early'));
  await t.throwsAsync(handle.merge('side'), { code: 'OPERATION_IN_PROGRESS' });
  await t.throwsAsync(handle.rebase({ upstream: 'side' }), { code: 'OPERATION_IN_PROGRESS' });
  await t.throwsAsync(conflict.skip(), { code: 'USAGE' });
  twins.write('a', 'both\n');
  await twins.run(['add', 'a']);
  await handle.staging().add('a');
  await twins.run(['-c', 'core.editor=:', 'merge', '--continue']);
  t.is((await conflict.continue()).kind, 'merge');
  await twins.same(t);
  t.is(await handle.operation(), undefined);
  await t.throwsAsync(conflict.continue(), { code: 'NO_OPERATION' });
  await t.throwsAsync(handle.merge.abort(), { code: 'NO_OPERATION' });
});

test('an aborted merge leaves no trace, also for another handle than the one that began it', async (t) => {
  const twins = await createForked(t);
  twins.write('b', 'mine\n');
  await conflictOf(t, twins.handle.merge('clash'));
  const later = await handleAt(t, twins.sandbox, 'ours');
  await later.merge.abort();
  await twins.same(t);
  const squash = await conflictOf(t, twins.handle.merge('clash', { squash: true }));
  await squash.abort();
  await twins.same(t);
});

test('every kind of conflict is named with its stages', async (t) => {
  const twins = await createTwins(t, async (run, sandbox) => {
    await commitFiles(run, sandbox, { one: '1\n', two: '2\n' }, 'base');
    await run(['checkout', '-q', '-b', 'theirs']);
    await run(['rm', '-q', 'one']);
    await commitFiles(run, sandbox, { two: 'theirs\n', new: 'theirs\n' }, 'theirs');
    await run(['checkout', '-q', 'main']);
    await run(['rm', '-q', 'two']);
    await commitFiles(run, sandbox, { one: 'ours\n', new: 'ours\n' }, 'ours');
  });
  const conflict = await conflictOf(t, twins.handle.merge('theirs'));
  t.deepEqual(
    conflict.conflicts.map(({ path, kind, stages }) => [
      path,
      kind,
      stages.base !== undefined,
      stages.ours !== undefined,
      stages.theirs !== undefined,
    ]),
    [
      ['new', 'both-added', false, true, true],
      ['one', 'deleted-by-them', true, true, false],
      ['two', 'deleted-by-us', true, false, true],
    ],
  );
  const unmerged = (await twins.handle.status()).entries.filter(({ kind }) => kind === 'unmerged');
  t.deepEqual(
    unmerged.map((entry) => ('code' in entry ? entry.code : '')),
    ['AA', 'UD', 'DU'],
  );
  await conflict.abort();
});

test('hooks of merges are git’s, and skipped ones are told', async (t) => {
  for (const trusted of [true, false]) {
    const { handle, sandbox } = await createForked(t, { trusted });
    mkdirSync(sandbox.path('ours/.git/hooks'), { recursive: true });
    writeFileSync(
      sandbox.path('ours/.git/hooks/pre-merge-commit'),
      '#!/bin/sh\necho refused by hook >&2\nexit 1\n',
    );
    chmodSync(sandbox.path('ours/.git/hooks/pre-merge-commit'), 0o755);
    if (trusted)
      await t.throwsAsync(handle.merge('side'), { code: 'HOOK_FAILED', message: /refused by hook/ });
    else t.deepEqual((await handle.merge('side')).hooksSkipped, ['pre-merge-commit']);
  }
});

test('trees are merged without touching refs, index or files', async (t) => {
  const twins = await createForked(t);
  const { handle, sandbox } = twins;
  const clean = await handle.merge.trees({ ours: 'main', theirs: 'side' });
  t.like(clean, { isClean: true, conflicts: [] });
  t.is(clean.tree, await twins.run(['merge-tree', '--write-tree', 'main', 'side']));
  const dirty = await handle.merge.trees({ ours: 'main', theirs: 'clash' });
  t.false(dirty.isClean);
  t.deepEqual(
    dirty.conflicts.map(({ path, kind }) => [path, kind]),
    [['a', 'both-modified']],
  );
  t.true(dirty.messages.some((message) => message.includes('CONFLICT (content): Merge conflict in a')));
  await twins.same(t);
  await sandbox.git(['clone', '-q', '--bare', 'ours', 'bare']);
  t.is(
    (await (await handleAt(t, sandbox, 'bare')).merge.trees({ ours: 'main', theirs: 'side' })).tree,
    clean.tree,
  );
});

test('several heads are composed into one commit on top of the base', async (t) => {
  const twins = await createForked(t);
  const { handle } = twins;
  const before = await handle.refs.list();
  const made = await handle.merge.compose({
    base: 'base',
    heads: ['side', 'clash', 'side'],
    message: 'candidate\n',
  });
  const heads = await Promise.all(['base', 'side', 'clash'].map((name) => handle.refs.resolve(name)));
  t.is(await twins.sandbox.gitText(['log', '-1', '--format=%P', made.oid], { cwd: 'ours' }), heads.join(' '));
  t.is(await twins.sandbox.gitText(['show', `${made.oid}:b`], { cwd: 'ours' }), 'side');
  t.is(await twins.sandbox.gitText(['show', `${made.oid}:a`], { cwd: 'ours' }), 'clash');
  t.is(made.tree, await twins.sandbox.gitText(['rev-parse', `${made.oid}^{tree}`], { cwd: 'ours' }));
  t.deepEqual(await handle.refs.list(), before);
  await t.throwsAsync(handle.merge.compose({ base: 'base', heads: [], message: 'x' }), { code: 'USAGE' });
  await t.throwsAsync(handle.merge.compose({ base: 'base', heads: ['base'], message: 'x' }), {
    code: 'USAGE',
  });
  await conflictOf(t, handle.merge.compose({ base: 'main', heads: ['clash'], message: 'x' }));
  const alien = await twins.sandbox.gitText(['commit-tree', '-m', 'alien', 'base^{tree}'], { cwd: 'ours' });
  await t.throwsAsync(handle.merge.compose({ base: 'base', heads: [alien], message: 'x' }), {
    code: 'HISTORIES_UNRELATED',
  });
  await twins.same(t);
});

test('output of merge-tree with odd paths is read by its counts', (t) => {
  const text = [
    'tree',
    '100644 aa 1\ta\nb',
    '100644 bb 2\ta\nb',
    '',
    '2',
    'x',
    '',
    'CONFLICT (rename)',
    'first\n',
    '1',
    'y',
    'Auto-merging',
    'second\n',
    '',
  ].join('\0');
  const parsed = parseMergeTree(Buffer.from(text), false);
  t.deepEqual(
    parsed.conflicts.map(({ path, kind }) => [path, kind]),
    [['a\nb', 'deleted-by-them']],
  );
  t.deepEqual(parsed.messages, ['first', 'second']);
});

test('a rebase makes the commits that git makes', async (t) => {
  const twins = await createForked(t);
  const { handle } = twins;
  await twins.run(['checkout', '-q', 'side']);
  await handle.branch().checkout('side');
  await twins.run(['rebase', '-q', 'main']);
  t.is((await handle.rebase({ upstream: 'main' })).kind, 'rebased');
  await twins.same(t);
  t.is((await handle.rebase({ upstream: 'main' })).kind, 'up-to-date');
  await twins.run(['rebase', '-q', '--onto', 'base', 'side~1']);
  await handle.rebase({ onto: 'base', upstream: 'side~1' });
  await twins.same(t);
  await twins.run(['rebase', '-q', 'main', 'base~0'], { okStatus: [0] });
  await twins.run(['checkout', '-q', '-b', 'old', 'base']);
  await handle.branch().checkout('old', { create: 'base' });
  await twins.run(['rebase', '-q', 'main']);
  t.is((await handle.rebase({ upstream: 'main' })).kind, 'fast-forward');
  await twins.same(t);
  await t.throwsAsync(handle.rebase(), { code: 'REF_INVALID' });
});

test('a rebase puts local changes aside when asked, and refuses otherwise', async (t) => {
  const twins = await createForked(t);
  const { handle } = twins;
  await twins.run(['checkout', '-q', 'side']);
  await handle.branch().checkout('side');
  twins.write('gone', 'local\n');
  await t.throwsAsync(handle.rebase({ upstream: 'main' }), { code: 'WORKTREE_DIRTY' });
  await twins.same(t);
  await twins.run(['rebase', '-q', '--autostash', 'main']);
  t.like(await handle.rebase({ upstream: 'main', autostash: true }), {
    kind: 'rebased',
    autostashApplied: true,
  });
  await twins.same(t);
  twins.write('b', 'local\n');
  await twins.sandbox.git(['rebase', '-q', '--autostash', '--onto', 'base', 'side~1'], { cwd: 'git' });
  t.like(await handle.rebase({ upstream: 'side~1', onto: 'base', autostash: true }), {
    autostashApplied: false,
  });
});

test('commands run after each commit of a rebase, and one that fails stops it', async (t) => {
  const { handle, sandbox } = await createForked(t);
  await handle.branch().checkout('side');
  await handle.rebase({ upstream: 'main', exec: ['echo x >> ../ran'] });
  t.is(sandbox.read('ran').toString(), 'x\nx\n');
  await t.throwsAsync(handle.rebase({ upstream: 'base', onto: 'base', exec: ['exit 3'], force: true }), {
    code: 'OPERATION_IN_PROGRESS',
  });
  t.like(await handle.operation(), { kind: 'rebase', branch: 'refs/heads/side' });
  await handle.rebase.abort();
  t.is(await handle.operation(), undefined);
  await t.throwsAsync(handle.rebase({ upstream: 'main', exec: ['a\nb'] }), { code: 'USAGE' });
});

test('a rebase that stops is continued, skipped or aborted', async (t) => {
  const twins = await createForked(t);
  const { handle } = twins;
  await twins.run(['checkout', '-q', 'clash']);
  await handle.branch().checkout('clash');
  const stopped = await conflictOf(t, handle.rebase({ upstream: 'main' }));
  t.is(stopped.operation, 'rebase');
  t.deepEqual(
    stopped.conflicts.map(({ path }) => path),
    ['a'],
  );
  await stopped.abort();
  await twins.same(t);

  await twins.run(['rebase', '-q', 'main'], { okStatus: [1] });
  const again = await conflictOf(t, handle.rebase({ upstream: 'main' }));
  twins.write('a', 'resolved\n');
  await twins.run(['add', 'a']);
  await handle.staging().add('a');
  await twins.run(['-c', 'core.editor=:', 'rebase', '--continue']);
  t.is((await again.continue()).kind, 'rebased');
  await twins.same(t);

  await twins.run(['rebase', '-q', '--onto', 'base', 'main~1', 'main'], { okStatus: [0, 1] });
  await twins.run(['checkout', '-q', 'clash']);
  await twins.run(['branch', '-f', 'main', 'side']);
  await handle.branch().create('main', 'side', { force: true });
  await twins.run(['reset', '-q', '--hard', 'side~1']);
  await handle.reset({ to: 'side~1', mode: 'hard' });
  twins.write('c', 'mine\n');
  await twins.run(['add', 'c']);
  await handle.staging().addAll();
  await twins.run(['commit', '-q', '-m', 'mine']);
  await handle.commit('mine');
  await twins.same(t);
  await twins.run(['rebase', '-q', 'side'], { okStatus: [1] });
  await twins.run(['rebase', '--skip']);
  const skipped = await conflictOf(t, handle.rebase({ upstream: 'side' }));
  await skipped.skip();
  await twins.same(t);
  await t.throwsAsync(handle.rebase.continue(), { code: 'NO_OPERATION' });
});

test('commits are picked as git does it', async (t) => {
  const twins = await createForked(t);
  const { handle } = twins;
  await twins.run(['cherry-pick', 'side~2..side']);
  const picked = await handle.cherryPick('side~2..side');
  t.is(picked.commits.length, 2);
  t.is(picked.commits[1], picked.oid);
  await twins.same(t);
  await twins.run(['reset', '-q', '--hard', 'base']);
  await handle.reset({ to: 'base', mode: 'hard' });
  await twins.run(['cherry-pick', '-x', 'clash', 'side~1']);
  await handle.cherryPick(['clash', 'side~1'], { recordOrigin: true });
  await twins.same(t);
  await twins.run(['cherry-pick', '--no-commit', 'side']);
  t.deepEqual((await handle.cherryPick('side', { noCommit: true })).commits, []);
  await twins.same(t);
  await t.throwsAsync(handle.cherryPick('side...main'), { code: 'REF_INVALID' });
  await t.throwsAsync(handle.cherryPick([]), { code: 'USAGE' });
});

test('a pick that stops is continued, skipped or aborted', async (t) => {
  const twins = await createForked(t);
  const { handle } = twins;
  const first = await conflictOf(t, handle.cherryPick(['side~1', 'clash', 'side']));
  t.like(await handle.operation(), { kind: 'cherry-pick', commit: await handle.refs.resolve('clash') });
  await first.abort();
  await twins.same(t);
  await twins.run(['cherry-pick', 'side~1', 'clash', 'side'], { okStatus: [1] });
  const second = await conflictOf(t, handle.cherryPick(['side~1', 'clash', 'side']));
  await twins.run(['cherry-pick', '--skip']);
  t.is((await second.skip()).commits.length, 2);
  await twins.same(t);
  await twins.run(['cherry-pick', 'clash'], { okStatus: [1] });
  const third = await conflictOf(t, handle.cherryPick('clash'));
  twins.write('a', 'resolved\n');
  await twins.run(['add', 'a']);
  await handle.staging().add('a');
  await twins.run(['-c', 'core.editor=:', 'cherry-pick', '--continue']);
  await third.continue();
  await twins.same(t);
  await t.throwsAsync(handle.cherryPick.abort(), { code: 'NO_OPERATION' });
});

test('a commit that brings nothing new stops a pick, or is kept', async (t) => {
  const twins = await createForked(t);
  const { handle } = twins;
  await t.throwsAsync(handle.cherryPick('main'), {
    code: 'NOTHING_TO_COMMIT',
    message: /changes nothing here: skip it, or abort/,
  });
  t.is((await handle.operation())?.kind, 'cherry-pick');
  await handle.cherryPick.skip();
  await twins.same(t);
  await twins.run(['cherry-pick', '--allow-empty', '--keep-redundant-commits', 'main']);
  await handle.cherryPick('main', { keepEmpty: true });
  await twins.same(t);
});

test('commits are reverted as git does it', async (t) => {
  const twins = await createForked(t);
  const { handle } = twins;
  await twins.run(['revert', '--no-edit', 'HEAD']);
  await handle.revert('HEAD');
  await twins.same(t);
  await twins.run(['merge', '-q', '--no-edit', 'side']);
  await handle.merge('side');
  await twins.run(['revert', '--no-edit', '-m', '1', 'HEAD']);
  await handle.revert('HEAD', { mainline: 1 });
  await twins.same(t);
  await twins.run(['reset', '-q', '--hard', 'HEAD~1']);
  await handle.reset({ to: 'HEAD~1', mode: 'hard' });
  twins.write('a', 'more\n');
  await twins.run(['commit', '-q', '-a', '-m', 'more']);
  await handle.staging().addAll();
  await handle.commit('more');
  const stopped = await conflictOf(t, handle.revert('main~2'));
  t.is(stopped.operation, 'revert');
  await stopped.abort();
  await twins.same(t);
});

for (const mode of ['soft', 'mixed', 'hard', 'merge', 'keep'] as const) {
  test(`a ${mode} reset is that of git`, async (t) => {
    const twins = await createForked(t);
    twins.write('b', 'local\n');
    twins.write('staged', 'staged\n');
    await twins.run(['add', 'staged']);
    await twins.handle.staging().add('staged');
    await twins.run(['reset', '-q', `--${mode}`, 'base']);
    const { oid } = await twins.handle.reset({ to: 'base', mode });
    t.is(oid, await twins.run(['rev-parse', 'HEAD']));
    await twins.same(t);
  });
}

test('a reset that would lose changes is refused where it should keep them', async (t) => {
  const twins = await createForked(t);
  twins.write('a', 'local\n');
  await t.throwsAsync(twins.handle.reset({ to: 'base', mode: 'keep' }), { code: 'WORKTREE_DIRTY' });
  await twins.same(t);
});

test('work in one worktree leaves the others alone', async (t) => {
  const { handle, sandbox } = await createForked(t);
  await sandbox.git(['worktree', 'add', '-q', '../tree', 'side'], { cwd: 'ours' });
  const tree = await handle.at(sandbox.path('tree'));
  const main = await handle.status();
  await tree.merge('clash');
  sandbox.write('tree/new', 'x');
  await tree.staging().addAll();
  await tree.commit('in the worktree');
  t.deepEqual(await handle.status(), main);
  t.is(await handle.branch().current(), 'main');
  t.is(await handle.refs.resolve('side'), await tree.refs.resolve('HEAD'));
  t.false(existsSync(sandbox.path('ours/new')));
});
