import test from 'ava';
import { openPlace } from '../../../src/registry/git-place.ts';
import { RepositoryHandle } from '../../../src/registry/repository-handle.ts';
import { isolateProcess } from '../../helpers/git-sandbox.ts';
import { commitFiles, createTwins, handleAt } from './twins.ts';

isolateProcess();

const HISTORY = async (
  run: Parameters<Parameters<typeof createTwins>[1]>[0],
  sandbox: Parameters<Parameters<typeof createTwins>[1]>[1],
) => {
  await commitFiles(run, sandbox, { a: '1\n' }, 'one');
  await run(['branch', 'old']);
  await commitFiles(run, sandbox, { a: '2\n' }, 'two');
  await run(['tag', '-a', '-m', 'first tag', 'v1', 'old']);
  await run(['tag', 'light']);
};

test('branches are made, checked out, renamed and deleted as git does it', async (t) => {
  const twins = await createTwins(t, HISTORY);
  const branch = twins.handle.branch();
  await twins.run(['branch', '--no-track', 'topic/x', 'v1']);
  const made = await branch.create('topic/x', 'v1');
  t.is(made.oid, await twins.run(['rev-parse', 'v1^{commit}']));
  await twins.run(['checkout', '-q', 'topic/x']);
  t.like(await branch.checkout('topic/x'), { branch: 'topic/x', oid: made.oid });
  t.is(await branch.current(), 'topic/x');
  await twins.same(t);
  await twins.run(['branch', '-m', 'topic/x', 'topic/y']);
  await branch.rename('topic/x', 'topic/y');
  await twins.run(['checkout', '-q', '-b', 'more']);
  await branch.checkout('more', { create: true });
  await twins.run(['branch', '-D', 'topic/y']);
  await branch.delete('topic/y', { force: true });
  await twins.run(['checkout', '-q', '--detach', 'light']);
  t.is((await branch.checkout('light', { detach: true })).branch, undefined);
  t.is(await branch.current(), undefined);
  await twins.same(t);
  t.deepEqual(
    (await branch.list()).map(({ name }) => name),
    ['main', 'more', 'old'],
  );
  t.true(await branch.exists('old'));
  t.false(await branch.exists('v1'));
});

test('a branch that equals HEAD is deleted without force, one with commits of its own is not', async (t) => {
  const { handle, run } = await createTwins(t, async (git, sandbox) => {
    await HISTORY(git, sandbox);
    await git(['branch', 'same']);
    await git(['checkout', '-q', '-b', 'own']);
    await commitFiles(git, sandbox, { b: 'x' }, 'own');
    await git(['checkout', '-q', 'main']);
  });
  const branch = handle.branch();
  t.is((await branch.delete('same')).oid, await run(['rev-parse', 'main']));
  await t.throwsAsync(branch.delete('own'), { code: 'NOT_MERGED' });
  t.true(await branch.exists('own'));
  await t.throwsAsync(branch.delete('main', { force: true }), { code: 'BRANCH_IN_USE' });
  await t.throwsAsync(branch.delete('owm'), { code: 'REF_INVALID', message: /did you mean.*"own"/ });
});

test('a branch checked out in another worktree is neither deleted nor checked out twice, and the error says where', async (t) => {
  const { handle, sandbox } = await createTwins(t, HISTORY);
  await sandbox.git(['worktree', 'add', '-q', '../elsewhere', 'old'], { cwd: 'ours' });
  await t.throwsAsync(handle.branch().delete('old', { force: true }), {
    code: 'BRANCH_IN_USE',
    message: /elsewhere/,
  });
  await t.throwsAsync(handle.branch().checkout('old'), { code: 'BRANCH_IN_USE', message: /elsewhere/ });
  t.is((await handle.branch().get('old')).worktree, sandbox.path('elsewhere'));
  const other = await handle.at(sandbox.path('elsewhere'));
  t.is(await other.branch().current(), 'old');
  t.is(await handle.branch().current(), 'main');
});

test('a branch starts at a remote branch, with and without following it', async (t) => {
  const twins = await createTwins(t, async (run, sandbox) => {
    await sandbox.git(['init', '-q', '--bare', 'server']);
    await HISTORY(run, sandbox);
    await run(['remote', 'add', 'origin', sandbox.path('server')]);
    await run(['push', '-q', 'origin', 'main', 'old']);
    await run(['fetch', '-q']);
    await run(['branch', '-D', 'old']);
  });
  const branch = twins.handle.branch();
  await twins.run(['branch', '--track', 'old', 'origin/old']);
  t.like(await branch.create('old', 'origin/old', { track: true }), {
    upstream: { name: 'origin/old', remote: 'origin', isGone: false, ahead: 0, behind: 0 },
  });
  await twins.run(['branch', '--no-track', 'alone', 'origin/old']);
  t.is((await branch.create('alone', 'origin/old')).upstream, undefined);
  await twins.run(['branch', '--set-upstream-to=origin/main', 'alone']);
  await branch.setUpstream('alone', 'origin/main');
  t.like((await branch.get('alone')).upstream, { name: 'origin/main', ahead: 0, behind: 1 });
  await twins.same(t);
  await twins.run(['branch', '--unset-upstream', 'alone']);
  await branch.unsetUpstream('alone');
  await branch.unsetUpstream('alone');
  await twins.same(t);
  await branch.setUpstream('alone', { remote: 'origin', branch: 'not/fetched' });
  t.like((await branch.get('alone')).upstream, { name: 'origin/not/fetched', isGone: true });
  t.deepEqual(
    (await branch.list({ scope: 'remote' })).map(({ name }) => name),
    ['origin/main', 'origin/old'],
  );
  // A name that only the remote has is no branch here, and none is made on the way.
  await twins.run(['branch', '-D', 'old']);
  await branch.delete('old', { force: true });
  await twins.run(['config', 'branch.alone.remote', 'origin']);
  await twins.run(['config', 'branch.alone.merge', 'refs/heads/not/fetched']);
  await t.throwsAsync(branch.checkout('old'), { code: 'REF_INVALID' });
  await twins.same(t);
});

test('merged and compared branches are what rev-list counts', async (t) => {
  const { handle, run } = await createTwins(t, async (git, sandbox) => {
    await HISTORY(git, sandbox);
    await git(['checkout', '-q', '-b', 'side', 'old']);
    await commitFiles(git, sandbox, { b: 'x' }, 'side 1');
    await commitFiles(git, sandbox, { b: 'y' }, 'side 2');
    await git(['checkout', '-q', 'main']);
    await git(['checkout', '-q', '--orphan', 'alien']);
    await commitFiles(git, sandbox, { c: 'x' }, 'alien');
    await git(['checkout', '-q', 'main']);
  });
  t.deepEqual(
    (await handle.branch().merged()).map(({ name }) => name),
    ['main', 'old'],
  );
  t.deepEqual(
    (await handle.branch().list({ noMerged: 'HEAD' })).map(({ name }) => name),
    ['alien', 'side'],
  );
  t.deepEqual(await handle.branch().compare('main', 'side'), {
    ahead: 1,
    behind: 2,
    mergeBases: [await run(['rev-parse', 'old'])],
  });
  t.like(await handle.branch().compare('main', 'alien'), { mergeBases: [] });
});

test('before the first commit there is a current branch, and no other', async (t) => {
  const { handle } = await createTwins(t, async () => {});
  t.is(await handle.branch().current(), 'main');
  t.deepEqual(await handle.branch().list(), []);
  t.is(await handle.refs.defaultBranch(), undefined);
  await t.throwsAsync(handle.branch().create('x'), { code: 'REF_INVALID' });
  t.like(await handle.branch().checkout('first', { create: true }), { branch: 'first', oid: undefined });
});

test('a checkout that would lose changes is refused, and done when forced', async (t) => {
  const twins = await createTwins(t, HISTORY);
  twins.write('a', 'mine\n');
  await t.throwsAsync(twins.handle.branch().checkout('old'), { code: 'WORKTREE_DIRTY' });
  await twins.same(t);
  await twins.run(['checkout', '-q', '-f', 'old']);
  await twins.handle.branch().checkout('old', { force: true });
  await twins.same(t);
});

const HOSTILE = [
  '-x',
  '--force',
  'a..b',
  'a b',
  'a\nb',
  'a\0b',
  '',
  '/a',
  'a/',
  'a//b',
  '.a',
  'a.lock',
  'a/.b',
  '@',
  'a@{b',
  'a\\b',
  'a:b',
  'HEAD',
  '0'.repeat(40),
  'x'.repeat(300),
];

for (const name of HOSTILE) {
  test(`${JSON.stringify(name.slice(0, 50))} is no name of a branch or tag`, async (t) => {
    const twins = await createTwins(t, HISTORY);
    const { handle } = twins;
    const refused = { code: 'REF_INVALID' } as const;
    await t.throwsAsync(handle.branch().create(name), refused);
    await t.throwsAsync(handle.branch().checkout(name), refused);
    await t.throwsAsync(handle.branch().delete(name), refused);
    await t.throwsAsync(handle.branch().rename('old', name), refused);
    await t.throwsAsync(handle.tag().create(name), refused);
    // With a full name a dash is harmless, and HEAD or digits are ordinary.
    if (!/^-|^HEAD$|^@$|^0+$/.test(name)) {
      await t.throwsAsync(handle.refs.update(`refs/heads/${name}`, 'HEAD', { from: null }), refused);
    }
    await twins.same(t);
  });
}

test('a branch called like a tag, a file or a short object id is the branch', async (t) => {
  const twins = await createTwins(t, async (run, sandbox) => {
    await HISTORY(run, sandbox);
    for (const name of ['v1', 'a', 'deadbeef', 'facade1']) await run(['branch', name, 'old']);
  });
  for (const name of ['v1', 'a', 'deadbeef', 'facade1']) {
    t.is((await twins.handle.branch().checkout(name)).branch, name);
    await twins.run(['checkout', '-q', name, '--']);
    await twins.same(t);
  }
  t.is(await twins.handle.refs.resolve('facade1'), await twins.run(['rev-parse', 'facade1']));
});

test('tags are the same objects as git makes', async (t) => {
  const twins = await createTwins(t, HISTORY);
  const tag = twins.handle.tag();
  await twins.run(['tag', 'l2', 'old']);
  t.like(await tag.create('l2', { target: 'old' }), { isAnnotated: false, targetType: 'commit' });
  await twins.run(['tag', '-a', '-F', '-', 'v2'], { input: 'two\n\nbody\n' });
  const made = await tag.annotate('v2', 'two\n\nbody\n');
  t.like(made, {
    isAnnotated: true,
    subject: 'two',
    tagger: { name: 'C O Mitter', email: 'committer@example.invalid', date: 1_700_000_100 },
  });
  await twins.run(['tag', '-a', '-m', 'of a tag', 'nested', 'v2']);
  t.like(await tag.annotate('nested', 'of a tag', { target: 'v2' }), {
    target: await twins.run(['rev-parse', 'v2^{commit}']),
    targetType: 'commit',
  });
  await twins.same(t);
  t.is(await tag.message('v2'), 'two\n\nbody\n');
  t.is(await tag.message('l2'), undefined);
  await t.throwsAsync(tag.create('v1'), { code: 'REF_EXISTS' });
  await twins.run(['tag', '-f', 'v1', 'main']);
  await tag.create('v1', { target: 'main', force: true });
  t.deepEqual(
    (await tag.list({ pattern: 'v*' })).map(({ name }) => name),
    ['v1', 'v2'],
  );
  t.deepEqual(
    (await tag.list({ pointsAt: 'old' })).map(({ name }) => name),
    ['l2'],
  );
  await twins.run(['tag', '-d', 'v1', 'v2']);
  t.is((await tag.delete(['v1', 'v2'])).length, 2);
  await twins.same(t);
  await t.throwsAsync(tag.delete(['light', 'none']), { code: 'REF_INVALID' });
  t.true(await tag.exists('light'));
  await t.throwsAsync(tag.get('ligth'), { message: /did you mean "light"/ });
});

test('a tagger and a date of its own make the tag that git makes of them', async (t) => {
  const twins = await createTwins(t, HISTORY);
  await twins.sandbox.git(['tag', '-a', '-m', 'x', 'w'], {
    cwd: 'git',
    env: { GIT_COMMITTER_NAME: 'T', GIT_COMMITTER_EMAIL: 't@x', GIT_COMMITTER_DATE: '@1600000000 +0000' },
  });
  await twins.handle
    .tag()
    .annotate('w', 'x', { tagger: { name: 'T', email: 't@x', date: new Date(1_600_000_000_000) } });
  await twins.same(t);
  await t.throwsAsync(
    twins.handle.tag().annotate('n', 'x', { tagger: { name: 'T\nparent 0', email: 'e' } }),
    { code: 'USAGE' },
  );
  t.like(await twins.handle.tag().verify('w'), { isValid: false });
  t.like(await twins.handle.tag().verify('light'), { isValid: false });
});

test('tags and commits are signed and verified with an ssh key', async (t) => {
  const { handle, sandbox } = await createTwins(t, HISTORY, { config: { 'gpg.format': 'ssh' } });
  const made = await sandbox.run('ssh-keygen', [
    '-q',
    '-t',
    'ed25519',
    '-N',
    '',
    '-f',
    `${sandbox.home}/key`,
  ]);
  if (made.status !== 0) return t.pass('there is no ssh-keygen here');
  const key = `${sandbox.home}/key.pub`;
  await sandbox.git(['config', '--global', 'user.signingKey', key]);
  sandbox.write('../home/allowed', `committer@example.invalid ${sandbox.read('../home/key.pub').toString()}`);
  await sandbox.git(['config', '--global', 'gpg.ssh.allowedSignersFile', `${sandbox.home}/allowed`]);
  await handle.tag().annotate('signed', 'message', { sign: true });
  t.like(await handle.tag().verify('signed'), { isValid: true });
  await handle.commit({ message: 'signed', allowEmpty: true, sign: key });
  await sandbox.git(['verify-commit', 'HEAD'], { cwd: 'ours' });
  await t.throwsAsync(handle.commit({ message: 'x', allowEmpty: true, sign: `${sandbox.home}/none` }), {
    code: 'SIGNING_FAILED',
  });
});

for (const format of ['sha1', 'sha256']) {
  test(`refs are updated together or not at all (${format})`, async (t) => {
    const twins = await createTwins(t, HISTORY, { init: [`--object-format=${format}`] });
    const { refs } = twins.handle;
    const old = await refs.resolve('old');
    const main = await refs.resolve('main');
    t.is(main.length, format === 'sha1' ? 40 : 64);
    await refs.updateAll([
      { name: 'refs/heads/new', to: 'main', from: null },
      { name: 'refs/heads/old', to: main, from: old },
    ]);
    t.is(await refs.resolve('old'), main);
    await t.throwsAsync(
      refs.updateAll([
        { name: 'refs/heads/new2', to: 'main', from: null },
        { name: 'refs/heads/old', to: 'v1^{}', from: old },
      ]),
      { code: 'CONFLICT', message: /old/ },
    );
    t.is(await refs.find('new2'), undefined);
    await t.throwsAsync(refs.update('refs/heads/new', 'main', { from: null }), { code: 'REF_EXISTS' });
    await t.throwsAsync(refs.update('refs/heads/new/x', 'main'), { code: 'REF_EXISTS' });
    for (const to of [undefined, '']) {
      await t.throwsAsync(async () => refs.update('refs/heads/new', to as string, { from: main }));
      await t.throwsAsync(refs.updateAll([{ name: 'refs/heads/new', to: to as string }]));
      t.is(await refs.find('refs/heads/new'), main, 'what is not known by mistake deletes nothing');
    }
    await refs.update('refs/heads/new', null, { from: main });
    t.is(await refs.find('refs/heads/new'), undefined);
    t.is(await refs.symbolic('HEAD'), 'refs/heads/main');
    t.is(await refs.symbolic('refs/heads/main'), undefined);
    await refs.setSymbolic('refs/remotes/origin/HEAD', 'refs/remotes/origin/main');
    t.is(await refs.symbolic('refs/remotes/origin/HEAD'), 'refs/remotes/origin/main');
    const listed = await refs.list();
    t.deepEqual(
      listed.map(({ name }) => name),
      ['refs/heads/main', 'refs/heads/old', 'refs/tags/light', 'refs/tags/v1'],
    );
    t.like(listed[3], { type: 'tag', peeled: old });
  });
}

test('what a name leads to is never remembered', async (t) => {
  const { handle, sandbox } = await createTwins(t, HISTORY);
  const before = await handle.refs.resolve('main');
  await sandbox.git(['commit', '-q', '--allow-empty', '-m', 'behind our back'], { cwd: 'ours' });
  const after = await handle.refs.resolve('main');
  t.not(after, before);
  t.is(after, await sandbox.gitText(['rev-parse', 'main'], { cwd: 'ours' }));
  await sandbox.git(['pack-refs', '--all', '--prune'], { cwd: 'ours' });
  await sandbox.git(['gc', '-q', '--prune=now'], { cwd: 'ours' });
  t.is(await handle.refs.resolve('main'), after);
  await sandbox.git(['update-ref', '-d', 'refs/heads/old'], { cwd: 'ours' });
  t.is(await handle.refs.find('old'), undefined);
});

test('refs of our own are not listed unless asked for', async (t) => {
  const { handle } = await createTwins(t, HISTORY);
  await handle.refs.update('refs/git2db/base/x', 'main');
  t.false((await handle.refs.list()).some(({ name }) => name.startsWith('refs/git2db/')));
  t.true((await handle.refs.list({ own: true })).some(({ name }) => name === 'refs/git2db/base/x'));
});

test('the default branch is what the remote says, then what there is', async (t) => {
  const { handle, sandbox } = await createTwins(t, HISTORY);
  t.is(await handle.refs.defaultBranch(), 'main');
  await sandbox.git(['checkout', '-q', 'old'], { cwd: 'ours' });
  t.is(await handle.refs.defaultBranch(), 'old');
  await sandbox.git(['update-ref', 'refs/remotes/origin/main', 'main'], { cwd: 'ours' });
  await sandbox.git(['symbolic-ref', 'refs/remotes/origin/HEAD', 'refs/remotes/origin/main'], {
    cwd: 'ours',
  });
  t.is(await handle.refs.defaultBranch(), 'main');
});

test('revisions that are options, or more than a line, are refused', async (t) => {
  const { handle } = await createTwins(t, HISTORY);
  for (const revision of ['--all', '-1', '', 'a\nb', 'a\0b']) {
    for (const call of [
      () => handle.refs.resolve(revision),
      () => handle.merge(revision),
      () => handle.rebase({ upstream: revision }),
      () => handle.cherryPick(revision),
      () => handle.reset({ to: revision }),
      () => handle.branch().create('n', revision),
      () => handle.diff({ from: revision }),
      () => handle.blame('a', { revision }),
    ]) {
      await t.throwsAsync(call, { code: 'REF_INVALID' });
    }
  }
});

test('a bare repository names its worktrees where an operation needs one', async (t) => {
  const { sandbox } = await createTwins(t, HISTORY);
  await sandbox.git(['clone', '-q', '--bare', 'ours', 'bare']);
  const handle = await handleAt(t, sandbox, 'bare');
  await t.throwsAsync(handle.status(), { code: 'WORKTREE_NEEDED', message: /no worktree yet/ });
  await sandbox.git(['worktree', 'add', '-q', '../tree', 'old'], { cwd: 'bare' });
  for (const call of [
    () => handle.status(),
    () => handle.commit('x'),
    () => handle.merge('old'),
    () => handle.rebase({ upstream: 'old' }),
    () => handle.cherryPick('old'),
    () => handle.reset(),
    () => handle.stash().push(),
    () => handle.staging().add('a'),
    () => handle.staging().addAll(),
    () => handle.staging().unstage('a'),
    () => handle.branch().checkout('old'),
    () => handle.diff(),
    () => handle.blame('a'),
  ]) {
    await t.throwsAsync(call, { code: 'WORKTREE_NEEDED', message: new RegExp(sandbox.path('tree')) });
  }
  t.is((await handle.branch().list()).length, 2);
  t.is((await handle.blame('a', { revision: 'old' })).length, 1);
  t.is((await handle.diff({ from: 'old', to: 'main' })).length, 1);
  t.true((await (await handle.at(sandbox.path('tree'))).status()).isClean);
  await t.throwsAsync(handle.at(sandbox.path('ours')), { code: 'NOT_FOUND' });
});

test('git of a worktree that is seen only elsewhere runs there, by its path', async (t) => {
  const { handle, sandbox } = await createTwins(t, HISTORY);
  const { commonDir, gitDir, workTree } = handle.place;
  const seen: string[][] = [];
  const place = await openPlace('/nowhere', {
    paths: { commonDir, gitDir, workTree },
    env: { ...sandbox.env },
    enter: (argv) => {
      seen.push([...argv]);
      return ['env', ...argv];
    },
  });
  const inside = new RepositoryHandle(place, { manager: handle.manager });
  t.teardown(() => inside[Symbol.asyncDispose]());
  t.false(place.reachable);
  sandbox.write('ours/a', 'changed\n');
  t.is((await inside.status()).entries.length, 1);
  await inside.staging().addAll();
  await inside.commit('inside');
  t.is((await inside.refs.resolve('HEAD')).length, 40);
  t.true(seen.every(([program, flag, path]) => program === 'git' && flag === '-C' && path === workTree));
  await t.throwsAsync(inside.open(), { code: 'NOT_REACHABLE' });
});

test('a work tree that does not lead to its repository is used all the same, and one of another is not', async (t) => {
  const { sandbox } = await createTwins(t, HISTORY);
  await sandbox.git(['init', '-q', '--separate-git-dir', '../far.git', 'separate']);
  await sandbox.git(['--git-dir', '../far.git', 'config', 'core.worktree', sandbox.path('separate')]);
  await sandbox.run('rm', [sandbox.path('separate/.git')]);
  sandbox.write('separate/x', 'x');
  await t.throwsAsync((await handleAt(t, sandbox, '../far.git')).status(), { code: 'TRUST_REQUIRED' });
  const handle = await handleAt(t, sandbox, '../far.git', true);
  t.is(handle.path, sandbox.path('separate'));
  await handle.staging().addAll();
  t.is((await handle.commit('x')).branch, 'main');
  // A directory inside of a repository is none itself.
  sandbox.write('ours/sub/x', 'x');
  await t.throwsAsync(handleAt(t, sandbox, 'ours/sub'), { code: 'NOT_A_REPOSITORY' });
  await t.throwsAsync(handleAt(t, sandbox, 'none'), { code: 'NOT_A_REPOSITORY' });
  // Nor is the outer one used once the inner one has gone.
  await sandbox.git(['init', '-q', 'ours/inner']);
  const inner = await handleAt(t, sandbox, 'ours/inner');
  await sandbox.run('rm', ['-rf', sandbox.path('ours/inner/.git')]);
  await t.throwsAsync(inner.status(), { code: 'NOT_A_REPOSITORY' });
});

test('variables of the caller’s environment do not lead git to another repository', async (t) => {
  const twins = await createTwins(t, HISTORY);
  const { sandbox } = twins;
  const misleading = {
    GIT_DIR: '/nowhere',
    GIT_INDEX_FILE: '/nowhere/index',
    GIT_WORK_TREE: '/nowhere',
    GIT_PREFIX: 'x/',
  };
  const place = await openPlace(sandbox.path('ours'), { env: { ...sandbox.env, ...misleading } });
  const handle = new RepositoryHandle(place, { manager: twins.handle.manager });
  t.teardown(() => handle[Symbol.asyncDispose]());
  t.true((await handle.status()).isClean);
  t.is(await handle.refs.resolve('HEAD'), await sandbox.gitText(['rev-parse', 'HEAD'], { cwd: 'ours' }));
});
