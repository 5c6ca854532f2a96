import {
  chmodSync,
  existsSync,
  mkdirSync,
  readdirSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { loadConfig } from '../../../src/registry/config.ts';
import { GitManager } from '../../../src/registry/git-manager.ts';
import { parseStatus } from '../../../src/registry/handles/status.ts';
import { RepositoryHandle } from '../../../src/registry/repository-handle.ts';
import { createSandbox, isolateProcess } from '../../helpers/git-sandbox.ts';
import { isRoot, rootOnly, smallFileSystem } from '../../mount-helper/helpers/scratch.ts';
import { commitFiles, createTwins, type Twins } from './twins.ts';

isolateProcess();

const HISTORY = async (run: Twins['run'], sandbox: Twins['sandbox']) => {
  await commitFiles(
    run,
    sandbox,
    { a: '1\n', 'dir/b': '1\n', 'dir/c': '1\n', '-dash': 'x\n', '*.txt': 'star\n', 'x.txt': 'x\n' },
    'one',
  );
};

test('files, directories and deletions are staged as git stages them', async (t) => {
  const twins = await createTwins(t, HISTORY);
  const staging = twins.handle.staging();
  twins.write('a', '2\n');
  twins.write('dir/b', '2\n');
  twins.write('dir/new', 'new\n');
  twins.write('-dash', 'y\n');
  twins.write('*.txt', 'changed\n');
  twins.write('x.txt', 'changed\n');
  await twins.run(['add', '--', './-dash']);
  await staging.add('-dash');
  await twins.run(['--literal-pathspecs', 'add', '--', '*.txt']);
  await staging.addFile('*.txt');
  await twins.same(t);
  t.deepEqual(
    (await staging.stagedFiles()).map(({ path, change }) => [path, change]),
    [
      ['*.txt', 'modified'],
      ['-dash', 'modified'],
    ],
  );
  await twins.run(['add', '-u', '--', 'dir']);
  await staging.add(['dir'], { update: true });
  await twins.same(t);
  await twins.run(['add', '-N', '--', 'dir/new']);
  await staging.add(['dir/new'], { intent: true });
  await twins.same(t);
  await twins.run(['add', '*.t?t']);
  await staging.add('*.t?t', { patterns: true });
  await twins.same(t);
  await twins.run(['rm', '-q', '--cached', 'dir/c']);
  await staging.remove('dir/c', { cached: true });
  await twins.run(['add', '-A']);
  await staging.addAll();
  await twins.same(t);
  await twins.run(['rm', '-q', '-r', '-f', 'dir']);
  await staging.remove(['dir'], { recursive: true, force: true });
  await twins.same(t);
  t.false(await staging.isEmpty());
  await twins.run(['reset', '-q']);
  await staging.reset();
  await twins.same(t);
  t.true(await staging.isEmpty());
});

test('no path at all stages, unstages and removes nothing', async (t) => {
  const twins = await createTwins(t, HISTORY);
  twins.write('a', '2\n');
  await twins.run(['add', 'a']);
  await twins.handle.staging().add('a');
  await twins.handle.staging().add([]);
  await twins.handle.staging().unstage([]);
  await twins.handle.staging().remove([], { force: true });
  await twins.same(t);
});

test('unstaging works before the first commit and after it', async (t) => {
  const twins = await createTwins(t, async () => {});
  const staging = twins.handle.staging();
  t.true(await staging.isEmpty());
  for (const path of ['a', 'dir/b', 'dir/c']) twins.write(path, 'x\n');
  await twins.run(['add', '-A']);
  await staging.addAll();
  t.false(await staging.isEmpty());
  t.deepEqual(
    (await staging.stagedFiles()).map(({ path }) => path),
    ['a', 'dir/b', 'dir/c'],
  );
  await twins.run(['rm', '-q', '--cached', '-r', 'dir']);
  await staging.unstage('dir');
  await twins.same(t);
  await twins.run(['commit', '-q', '-m', 'first']);
  await twins.handle.commit('first');
  await twins.run(['add', '-A']);
  await staging.addAll();
  await twins.run(['reset', '-q', '--', 'dir/c']);
  await staging.unstage(['dir/c']);
  await twins.same(t);
  const empty = await createTwins(t, async () => {});
  empty.write('a', 'x');
  await empty.handle.staging().addAll();
  await empty.handle.staging().reset();
  t.true(await empty.handle.staging().isEmpty());
});

test('paths outside of the work tree, and unknown ones, are refused', async (t) => {
  const twins = await createTwins(t, HISTORY);
  for (const path of ['../x', '/etc/passwd', 'dir/../../x', '', 'a\0b', '..']) {
    await t.throwsAsync(twins.handle.staging().add(path), { code: 'PATH_INVALID' });
    await t.throwsAsync(twins.handle.status({ paths: [path] }), { code: 'PATH_INVALID' });
    await t.throwsAsync(twins.handle.blame(path), { code: 'PATH_INVALID' });
    await t.throwsAsync(twins.handle.diff({ paths: [path] }), { code: 'PATH_INVALID' });
  }
  await t.throwsAsync(twins.handle.staging().add(['a', 'none']), { code: 'PATH_INVALID' });
  await t.throwsAsync(twins.handle.staging().add(':(top)a'), { code: 'PATH_INVALID' });
  symlinkSync('/etc', twins.sandbox.path('ours/link'));
  await t.throwsAsync(twins.handle.staging().add('link/passwd'), { code: 'PATH_INVALID' });
  twins.write('a', 'changed');
  await t.throwsAsync(twins.handle.staging().remove('a'), { code: 'WORKTREE_DIRTY' });
});

test('paths may hold any byte', async (t) => {
  const twins = await createTwins(t, HISTORY);
  const { handle, sandbox } = twins;
  const odd = Buffer.concat([Buffer.from('odd \n"'), Buffer.of(0xff, 0xfe)]);
  const text = 'tab\tnew\nline "quoted" ünï';
  const at = (path: Buffer | string) =>
    Buffer.concat([Buffer.from(`${sandbox.path('ours')}/`), Buffer.from(path as string)]);
  writeFileSync(at(odd), 'one\ntwo\n');
  writeFileSync(at(text), 'three\n');
  const status = await handle.status();
  t.deepEqual(
    status.entries.map(({ pathBytes, path }) => pathBytes ?? path),
    [odd, text],
  );
  await handle.staging().add([odd, text]);
  t.deepEqual(
    (await handle.staging().diff()).map(({ pathBytes, path, added }) => [pathBytes ?? path, added]),
    [
      [odd, 2],
      [text, 1],
    ],
  );
  await handle.commit('odd');
  t.deepEqual(
    (await handle.blame(odd)).map(({ content, file }) => [content.toString(), file.pathBytes]),
    [
      ['one', odd],
      ['two', odd],
    ],
  );
  t.is((await handle.blame(text))[0]!.file.path, text);
  const logged: string[] = [];
  for await (const { subject } of handle.log({ paths: [odd] })) logged.push(subject);
  t.deepEqual(logged, ['odd']);
  writeFileSync(at(odd), 'one\n');
  t.is((await handle.status({ paths: [odd] })).entries.length, 1);
  t.is((await handle.diff({ paths: [odd] }))[0]!.deleted, 1);
  await handle.staging().add(odd);
  await handle.staging().unstage(odd);
  await handle.staging().remove([text]);
  renameSync(at(odd), at('plain'));
  t.deepEqual(
    (await handle.status()).entries.map(({ kind }) => kind),
    ['changed', 'changed', 'untracked'],
  );
});

test('commits are those of git: message, identities, dates, trailers', async (t) => {
  const twins = await createTwins(t, HISTORY);
  const { handle, sandbox } = twins;
  twins.write('a', '2\n');
  await twins.run(['commit', '-q', '-a', '-F', '-'], { input: 'subject\n\n  body  \n\n\n# kept\n' });
  await handle.staging().add('a');
  const made = await handle.commit({ message: 'subject\n\n  body  \n\n\n# kept\n' });
  await twins.same(t);
  t.like(made, { branch: 'main', hooksSkipped: [] });
  t.is(made.parents.length, 1);
  await sandbox.git(
    [
      'commit',
      '-q',
      '--allow-empty',
      '-m',
      'other',
      '--trailer',
      'Key: value',
      '--trailer',
      'Signed-off-by: X <x@y>',
    ],
    {
      cwd: 'git',
      env: {
        GIT_AUTHOR_NAME: 'Other',
        GIT_AUTHOR_EMAIL: 'o@x',
        GIT_AUTHOR_DATE: '@1500000000 +0000',
        GIT_COMMITTER_NAME: 'C',
        GIT_COMMITTER_EMAIL: 'c@x',
        GIT_COMMITTER_DATE: '2020-01-01T00:00:00+0200',
      },
    },
  );
  await handle.commit({
    message: 'other',
    allowEmpty: true,
    trailers: [
      ['Key', 'value'],
      ['Signed-off-by', 'X <x@y>'],
    ],
    author: { name: 'Other', email: 'o@x' },
    committer: { name: 'C', email: 'c@x', date: '2020-01-01T00:00:00+0200' },
    date: 1_500_000_000,
  });
  await twins.same(t);
  await twins.run(['commit', '-q', '--allow-empty', '--allow-empty-message', '-m', '']);
  await handle.commit({ message: '', allowEmpty: true, allowEmptyMessage: true });
  await twins.same(t);
});

test('an amended commit replaces the last one and keeps its author', async (t) => {
  const twins = await createTwins(t, HISTORY);
  const { handle, sandbox } = twins;
  const before = await handle.refs.resolve('HEAD');
  twins.write('a', '2\n');
  await twins.run(['add', 'a']);
  await handle.staging().add('a');
  const later = { GIT_COMMITTER_DATE: '@1800000000 +0000' };
  await sandbox.git(['commit', '-q', '--amend', '--no-edit'], { cwd: 'git', env: later });
  const amended = await handle.amend({
    committer: { name: 'C O Mitter', email: 'committer@example.invalid', date: 1_800_000_000 },
  });
  t.not(amended.oid, before);
  t.deepEqual(amended.parents, []);
  await twins.same(t);
  await sandbox.git(
    ['commit', '-q', '--amend', '-m', 'new', '--author', 'N <n@x>', '--date', '@1600000000 +0000'],
    { cwd: 'git' },
  );
  await handle.amend({ message: 'new', author: { name: 'N', email: 'n@x', date: 1_600_000_000 } });
  await twins.same(t);
});

test('an empty commit is refused unless allowed, and so are a bad identity and an empty message', async (t) => {
  const twins = await createTwins(t, HISTORY);
  const { handle } = twins;
  await t.throwsAsync(handle.commit('nothing'), { code: 'NOTHING_TO_COMMIT' });
  twins.write('untracked', 'x');
  await t.throwsAsync(handle.commit('nothing'), { code: 'NOTHING_TO_COMMIT' });
  await twins.handle.commit({ message: 'empty', allowEmpty: true });
  await twins.run(['commit', '-q', '--allow-empty', '-m', 'empty']);
  await twins.same(t);
  await t.throwsAsync(handle.commit({ message: '', allowEmpty: true }), {
    code: 'GIT_FAILED',
    message: /empty commit message/,
  });
  for (const name of ['a\nb', 'a <b>', 'a\0']) {
    await t.throwsAsync(handle.commit({ message: 'x', allowEmpty: true, author: { name, email: 'e' } }), {
      code: 'USAGE',
    });
  }
  await t.throwsAsync(handle.commit({ message: 'x', allowEmpty: true, date: Number.NaN }), { code: 'USAGE' });
  await t.throwsAsync(handle.commit({ message: 'x', allowEmpty: true, trailers: [['Bad key', 'v']] }), {
    code: 'USAGE',
  });
  await t.throwsAsync(handle.commit({ message: 'a\0b', allowEmpty: true }), { code: 'USAGE' });
  await twins.same(t);
});

test('without an identity a commit says so, and makes nothing', async (t) => {
  const { handle } = await createTwins(t, HISTORY, { config: { 'user.useConfigOnly': 'true' } });
  const env = { ...handle.place.env };
  for (const name of Object.keys(env)) if (/^GIT_(AUTHOR|COMMITTER)_|^EMAIL$/.test(name)) delete env[name];
  await handle.git(['config', '--file', env.GIT_CONFIG_GLOBAL!, '--remove-section', 'user']);
  await handle.git(['config', '--file', env.GIT_CONFIG_GLOBAL!, 'user.useConfigOnly', 'true']);
  const { openPlace } = await import('../../../src/registry/git-place.ts');
  const { commit } = await import('../../../src/registry/handles/commit.ts');
  const place = await openPlace(handle.path, { env });
  t.teardown(() => place.close());
  await t.throwsAsync(commit(place, { message: 'x', allowEmpty: true }), { code: 'IDENTITY_UNKNOWN' });
});

test('the identity of our configuration is taken where git was told none, and nowhere else', async (t) => {
  const sandbox = createSandbox(t);
  await sandbox.git(['init', '-q', 'repo']);
  await sandbox.git(['config', '--global', '--remove-section', 'user']);
  const env = { ...sandbox.env };
  const configured = { ...loadConfig({ cwd: sandbox.dir, env }), gitName: 'Ours', gitEmail: 'ours@x' };
  const manager = new GitManager({ config: configured, env });
  t.teardown(() => manager[Symbol.asyncDispose]());
  const handle = new RepositoryHandle(await manager.place(sandbox.path('repo')), {
    manager,
    ownsPlace: false,
  });
  const last = () => sandbox.gitText(['log', '-1', '--format=%an <%ae> %cn <%ce>'], { cwd: 'repo' });
  await handle.commit({ message: 'x', allowEmpty: true });
  t.is(await last(), 'Ours <ours@x> Ours <ours@x>');
  await handle.commit({ message: 'x', allowEmpty: true, author: { name: 'A', email: 'a@x' } });
  t.is(await last(), 'A <a@x> Ours <ours@x>');
  t.is((await handle.tag().annotate('v', 'x')).tagger?.name, 'Ours');
  await sandbox.git(['config', 'user.name', 'Git'], { cwd: 'repo' });
  await sandbox.git(['config', 'user.email', 'git@x'], { cwd: 'repo' });
  await handle.commit({ message: 'x', allowEmpty: true });
  t.is(await last(), 'Git <git@x> Git <git@x>');
});

test('parts of a change are staged by a patch', async (t) => {
  const twins = await createTwins(t, async (run, sandbox) => {
    await commitFiles(run, sandbox, { a: Array.from({ length: 30 }, (_, i) => `${i}\n`).join('') }, 'one');
  });
  twins.write('a', twins.sandbox.read('ours/a').toString().replace('2\n', 'two\n').replace('29\n', 'last\n'));
  const patch = await twins.run(['diff']);
  const firstHunk = `${patch.slice(0, patch.indexOf('\n@@', patch.indexOf('\n@@') + 1))}\n`;
  await twins.run(['apply', '--cached', '-'], { input: firstHunk });
  await twins.handle.staging().addPatch(firstHunk);
  await twins.same(t);
  t.deepEqual(
    (await twins.handle.staging().diff()).map(({ added, deleted }) => [added, deleted]),
    [[1, 1]],
  );
  await t.throwsAsync(twins.handle.staging().addPatch(firstHunk), { code: 'CONFLICT' });
  await t.throwsAsync(twins.handle.staging().addPatch('--- a/../../x\n+++ b/../../x\n@@ -0,0 +1 @@\n+x\n'));
  await twins.same(t);
});

async function withHook(
  t: Parameters<typeof createTwins>[0],
  trusted: boolean,
  name: string,
  script: string,
): Promise<Twins> {
  const twins = await createTwins(t, HISTORY, { trusted });
  for (const side of ['git', 'ours']) {
    const directory = twins.sandbox.path(side, '.git/hooks');
    mkdirSync(directory, { recursive: true });
    writeFileSync(`${directory}/${name}`, `#!/bin/sh\n${script}\n`);
    chmodSync(`${directory}/${name}`, 0o755);
  }
  return twins;
}

test('hooks run in a trusted repository', async (t) => {
  const twins = await withHook(t, true, 'commit-msg', 'echo "Hooked: yes" >> "$1"');
  await twins.run(['commit', '-q', '--allow-empty', '-m', 'hooked']);
  t.deepEqual((await twins.handle.commit({ message: 'hooked', allowEmpty: true })).hooksSkipped, []);
  await twins.same(t);
  await twins.run(['-c', 'core.hooksPath=/dev/null', 'commit', '-q', '--allow-empty', '-m', 'plain']);
  t.deepEqual(
    (await twins.handle.commit({ message: 'plain', allowEmpty: true, hooks: false })).hooksSkipped,
    ['commit-msg'],
  );
  await twins.same(t);
});

test('a hook that refuses is named as the reason', async (t) => {
  const { handle } = await withHook(t, true, 'pre-commit', 'echo "not today"; exit 1');
  const before = await handle.refs.resolve('HEAD');
  await t.throwsAsync(handle.commit({ message: 'x', allowEmpty: true }), {
    code: 'HOOK_FAILED',
    message: /not today/,
  });
  t.is(await handle.refs.resolve('HEAD'), before);
});

test('hooks of an untrusted repository do not run, and the result says which were left out', async (t) => {
  const twins = await withHook(t, false, 'pre-commit', 'touch ran; exit 1');
  const result = await twins.handle.commit({ message: 'x', allowEmpty: true });
  t.deepEqual(result.hooksSkipped, ['pre-commit']);
  t.false(existsSync(twins.sandbox.path('ours/ran')));
  await twins.sandbox.git(['config', 'core.hooksPath', 'elsewhere'], { cwd: 'ours' });
  twins.sandbox.write('ours/elsewhere/post-commit', '#!/bin/sh\ntouch ran\n');
  chmodSync(twins.sandbox.path('ours/elsewhere/post-commit'), 0o755);
  t.deepEqual((await twins.handle.commit({ message: 'x', allowEmpty: true })).hooksSkipped, ['post-commit']);
  t.false(existsSync(twins.sandbox.path('ours/ran')));
});

test('status tells every kind of change', async (t) => {
  const twins = await createTwins(t, async (run, sandbox) => {
    await commitFiles(
      run,
      sandbox,
      {
        same: 's\n',
        modified: 'm\n',
        staged: 's\n',
        deleted: 'd\n',
        moved: 'a long enough text\nof some lines\nto be found\n',
        '.gitignore': '*.log\n',
      },
      'one',
    );
  });
  const { handle, sandbox } = twins;
  for (const path of ['modified', 'staged', 'new', 'untracked/deep/x', 'ignored.log'])
    twins.write(path, 'changed\n');
  for (const side of ['git', 'ours']) {
    await sandbox.git(['add', 'staged', 'new'], { cwd: side });
    await sandbox.git(['rm', '-q', 'deleted'], { cwd: side });
    await sandbox.git(['mv', 'moved', 'here'], { cwd: side });
  }
  twins.write('staged', 'and again\n');
  await twins.same(t);
  const status = await handle.status();
  t.like(status, {
    branch: 'main',
    upstream: undefined,
    ahead: undefined,
    isClean: false,
    stashes: 0,
    operation: undefined,
  });
  const brief = status.entries.map((entry) => [
    entry.path,
    entry.kind,
    ...('index' in entry ? [entry.index, entry.workTree] : []),
  ]);
  t.deepEqual(brief, [
    ['deleted', 'changed', 'deleted', 'unmodified'],
    ['here', 'renamed', 'renamed', 'unmodified'],
    ['modified', 'changed', 'unmodified', 'modified'],
    ['new', 'changed', 'added', 'unmodified'],
    ['staged', 'changed', 'modified', 'modified'],
    ['untracked/', 'untracked'],
  ]);
  t.like(status.entries[1], { from: { path: 'moved' }, similarity: 100 });
  const all = await handle.status({ untracked: 'all', ignored: true, renames: false });
  t.deepEqual(
    all.entries
      .filter(({ kind }) => kind === 'untracked' || kind === 'ignored')
      .map(({ path, kind }) => [path, kind]),
    [
      ['untracked/deep/x', 'untracked'],
      ['ignored.log', 'ignored'],
    ],
  );
  t.true(all.entries.some(({ path }) => path === 'moved'));
  t.deepEqual((await handle.status({ paths: ['untracked'], untracked: 'no' })).entries, []);
});

test('unchanged and ignored files are no changes', async (t) => {
  const twins = await createTwins(t, async (run, sandbox) => {
    await commitFiles(run, sandbox, { a: '1', '.gitignore': 'ignored\n' }, 'one');
  });
  twins.write('ignored', 'x');
  const status = await twins.handle.status({ ignored: true });
  t.true(status.isClean);
  t.deepEqual(
    status.entries.map(({ kind }) => kind),
    ['ignored'],
  );
});

test('status counts commits ahead and behind, stashes, and knows a branch with a curious name', async (t) => {
  const { handle, sandbox } = await createTwins(t, async (run, sandbox) => {
    await commitFiles(run, sandbox, { a: '1' }, 'base');
    await run(['checkout', '-q', '-b', 'up']);
    await commitFiles(run, sandbox, { b: '1' }, 'up 1');
    await commitFiles(run, sandbox, { b: '2' }, 'up 2');
    await run(['checkout', '-q', '-b', '(detached)', 'main']);
    await commitFiles(run, sandbox, { c: '1' }, 'own');
    await run(['branch', '-q', '--set-upstream-to=up']);
  });
  sandbox.write('ours/a', 'stashed');
  await sandbox.git(['stash', '-q'], { cwd: 'ours' });
  t.like(await handle.status(), {
    branch: '(detached)',
    upstream: 'up',
    ahead: 1,
    behind: 2,
    stashes: 1,
    isClean: true,
  });
  await sandbox.git(['checkout', '-q', '--detach'], { cwd: 'ours' });
  t.is((await handle.status()).branch, undefined);
});

test('a status of a new repository has no head', async (t) => {
  const { handle } = await createTwins(t, async () => {});
  t.like(await handle.status(), { branch: 'main', head: undefined, isClean: true, entries: [] });
});

test('a status does not write the index', async (t) => {
  const { handle, sandbox } = await createTwins(t, HISTORY);
  const before = sandbox.read('ours/.git/index');
  sandbox.write('ours/a', '1\n');
  await handle.status();
  t.true(sandbox.read('ours/.git/index').equals(before));
  t.false(readdirSync(sandbox.path('ours/.git')).includes('index.lock'));
});

test('cut off or foreign output of status is read without an endless loop', (t) => {
  t.deepEqual(parseStatus(Buffer.from('')).entries, []);
  t.deepEqual(parseStatus(Buffer.from('? x')).entries, [{ kind: 'untracked', path: 'x' }]);
  t.deepEqual(parseStatus(Buffer.from('# some.header new\0Z what\0? y\0')).entries, [
    { kind: 'untracked', path: 'y' },
  ]);
});

test('a held index lock is told apart from other failures', async (t) => {
  const { handle, sandbox } = await createTwins(t, HISTORY);
  sandbox.write('ours/a', '2\n');
  sandbox.write('ours/.git/index.lock', '');
  const error = await t.throwsAsync(handle.staging().add('a'), { code: 'INDEX_LOCKED' });
  t.true((error as { recoverable?: boolean }).recoverable);
});

test('all stashes are put aside and brought back as git does it', async (t) => {
  const twins = await createTwins(t, HISTORY);
  const stash = twins.handle.stash();
  t.is(await stash.push(), undefined);
  twins.write('a', 'mine\n');
  twins.write('untracked', 'u\n');
  await twins.run(['stash', 'push', '-q', '-m', 'first', '-u']);
  const first = await stash.push({ message: 'first', untracked: true });
  t.like(first, { index: 0, message: 'On main: first' });
  await twins.same(t);
  twins.write('dir/b', 'other\n');
  twins.write('x.txt', 'kept\n');
  await twins.run(['stash', 'push', '-q', '-m', 'second', '--', 'dir/b']);
  await stash.push({ message: 'second', paths: ['dir/b'] });
  await twins.same(t);
  t.deepEqual(
    (await stash.list()).map(({ message }) => message),
    ['On main: second', 'On main: first'],
  );
  t.deepEqual(
    (await stash.show(first!.oid)).map(({ path, change }) => [path, change]),
    [
      ['a', 'modified'],
      ['untracked', 'added'],
    ],
  );
  await twins.run(['stash', 'pop', '-q', 'stash@{1}']);
  await stash.pop(first!.oid);
  await twins.same(t);
  await twins.run(['stash', 'apply', '-q']);
  await stash.apply();
  await twins.same(t);
  await twins.run(['stash', 'drop', '-q']);
  await stash.drop('stash@{0}');
  await twins.same(t);
  await t.throwsAsync(stash.pop(), { code: 'REF_INVALID' });
  await t.throwsAsync(stash.apply('--help'), { code: 'REF_INVALID' });
  await stash.clear();
});

test('a stash that conflicts can be resolved, or taken back without a trace', async (t) => {
  const { handle, sandbox } = await createTwins(t, HISTORY);
  sandbox.write('ours/a', 'stashed\n');
  sandbox.write('ours/dir/b', 'stashed\n');
  sandbox.write('ours/fresh', 'untracked\n');
  sandbox.write('ours/staged-new', 'staged\n');
  await handle.staging().add('staged-new');
  await handle.stash().push({ untracked: true });
  sandbox.write('ours/a', 'committed\n');
  await handle.staging().add('a');
  await handle.commit('other');
  sandbox.write('ours/dir/c', 'local, unstaged\n');
  sandbox.write('ours/x.txt', 'local, staged\n');
  await handle.staging().add('x.txt');
  const before = await handle.status({ untracked: 'all' });
  const error = await t.throwsAsync(handle.stash().pop(), { code: 'MERGE_CONFLICT' });
  const conflict = error as import('../../../src/registry/handles/conflict.ts').MergeConflictError;
  t.deepEqual(
    conflict.conflicts.map(({ path, kind }) => [path, kind]),
    [['a', 'both-modified']],
  );
  await t.throwsAsync(conflict.continue(), { code: 'MERGE_CONFLICT' });
  await conflict.abort();
  t.deepEqual(await handle.status({ untracked: 'all' }), before);
  t.is(sandbox.read('ours/a').toString(), 'committed\n');
  t.is(sandbox.read('ours/dir/c').toString(), 'local, unstaged\n');
  t.false(existsSync(sandbox.path('ours/fresh')));
  t.is((await handle.stash().list()).length, 1);
  const again = (await t.throwsAsync(handle.stash().pop())) as typeof conflict;
  sandbox.write('ours/a', 'both\n');
  await handle.staging().add('a');
  await again.continue();
  t.deepEqual(await handle.stash().list(), []);
  t.is(sandbox.read('ours/dir/b').toString(), 'stashed\n');
});

(isRoot ? test : test.skip)(
  `a full disk is told as such where git takes a file it could not write for an empty one${rootOnly}`,
  async (t) => {
    const sandbox = createSandbox(t);
    const disk = smallFileSystem(t, 1 << 20);
    const path = join(disk, 'repo');
    await sandbox.git(['init', '-q', '--template=', path]);
    await sandbox.git(['commit', '-q', '--allow-empty', '-m', 'one'], { cwd: path });
    rmSync(join(path, '.git', 'COMMIT_EDITMSG'));
    const manager = new GitManager({
      config: loadConfig({ cwd: sandbox.dir, env: sandbox.env }),
      env: sandbox.env,
    });
    t.teardown(() => manager[Symbol.asyncDispose]());
    const handle = await (await manager.getRepository(path)).open();
    const full = join(disk, 'full');
    t.throws(() => writeFileSync(full, Buffer.alloc(2 << 20)), { code: 'ENOSPC' });
    const told = { code: 'DISK_FULL', message: /the disk with .*\.git is full: make space/ };
    await t.throwsAsync(handle.commit({ message: 'two', allowEmpty: true }), told);
    await t.throwsAsync(handle.amend({ message: 'other', allowEmpty: true }), told);
    await t.throwsAsync(handle.branch().create('topic'), told);
    rmSync(full);
    const empty = await t.throwsAsync(handle.commit({ message: ' ', allowEmpty: true }), {
      code: 'GIT_FAILED',
    });
    t.notRegex(empty?.message ?? '', /full/);
    t.is((await handle.commit({ message: 'two', allowEmpty: true })).parents.length, 1);
  },
);
