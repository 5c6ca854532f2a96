import { chmodSync, existsSync, mkdirSync, writeFileSync } from 'node:fs';
import test, { type ExecutionContext } from 'ava';
import { fetchedRefs } from '../../../src/registry/handles/fetch.ts';
import { LineCollector } from '../../../src/registry/handles/lines.ts';
import { parsePush } from '../../../src/registry/handles/push.ts';
import { checkFetchRefspec, checkPushRefspec } from '../../../src/registry/handles/refspec.ts';
import { parseLsRemote } from '../../../src/registry/handles/remote.ts';
import { isolateProcess } from '../../helpers/git-sandbox.ts';
import { commitFiles, createTwins, handleAt, type TwinOptions, type Twins } from './twins.ts';

isolateProcess();

interface Served extends Twins {
  /** A third clone, to change the server from. */
  other(args: readonly string[]): Promise<string>;
}

/** Each twin has a bare server of its own, `origin`, with main, topic and the tag v1. */
async function createServed(t: ExecutionContext, options: TwinOptions = {}): Promise<Served> {
  const twins = await createTwins(
    t,
    async (run, sandbox) => {
      await commitFiles(run, sandbox, { a: '1\n' }, 'one');
      await run(['branch', 'topic']);
      await run(['tag', '-a', '-m', 'v1', 'v1']);
      await commitFiles(run, sandbox, { a: '2\n' }, 'two');
    },
    options,
  );
  const { sandbox } = twins;
  for (const side of ['git', 'ours']) {
    await sandbox.git(['clone', '-q', '--bare', side, `server-${side}`]);
    await sandbox.git(['remote', 'add', 'origin', sandbox.path(`server-${side}`)], { cwd: side });
    await sandbox.git(['fetch', '-q', 'origin'], { cwd: side });
    await sandbox.git(['branch', '-q', '-u', 'origin/main'], { cwd: side });
    await sandbox.git(['clone', '-q', `server-${side}`, `other-${side}`]);
  }
  return {
    ...twins,
    async other(args) {
      const texts = await Promise.all(
        ['git', 'ours'].map((side) => sandbox.gitText(args, { cwd: `other-${side}` })),
      );
      return texts[0]!;
    },
  };
}

test('remotes are added, renamed, given other URLs and removed as git does it', async (t) => {
  const twins = await createServed(t);
  const remote = twins.handle.remote();
  await twins.run(['remote', 'add', 'up', 'https://example.invalid/x.git']);
  t.deepEqual(await remote.add('up', 'https://example.invalid/x.git'), {
    name: 'up',
    fetchUrls: ['https://example.invalid/x.git'],
    pushUrls: ['https://example.invalid/x.git'],
    fetchRefspecs: ['+refs/heads/*:refs/remotes/up/*'],
    pushRefspecs: [],
  });
  await t.throwsAsync(remote.add('up', 'https://example.invalid/y'), { code: 'REF_EXISTS' });
  await twins.run(['remote', 'rename', 'origin', 'base']);
  await remote.rename('origin', 'base');
  await twins.same(t);
  t.is(
    (await remote.setUrl('up', 'git@example.invalid:x', { push: true })).pushUrls[0],
    'git@example.invalid:x',
  );
  t.deepEqual((await remote.setUrl('up', 'ssh://git@example.invalid/y')).fetchUrls, [
    'ssh://git@example.invalid/y',
  ]);
  t.is(await remote.default(), 'base');
  await twins.run(['remote', 'add', 'dot.ted', 'https://example.invalid/x.git']);
  await remote.add('dot.ted', 'https://example.invalid/x.git', { branches: ['main', 'a/b'], tags: 'none' });
  t.deepEqual((await remote.get('dot.ted')).fetchRefspecs, [
    '+refs/heads/main:refs/remotes/dot.ted/main',
    '+refs/heads/a/b:refs/remotes/dot.ted/a/b',
  ]);
  t.deepEqual(
    (await remote.list()).map(({ name }) => name),
    ['base', 'up', 'dot.ted'],
  );
  await twins.run(['remote', 'remove', 'base']);
  await remote.remove('base');
  await twins.same(t);
  await t.throwsAsync(remote.remove('pu'), { code: 'NOT_FOUND', message: /did you mean "up"/ });
});

test('no password or token of a URL is stored or shown', async (t) => {
  const { handle, sandbox } = await createServed(t);
  await handle.remote().add('secret', 'https://user:hunter2@example.invalid/x');
  t.deepEqual((await handle.remote().get('secret')).fetchUrls, ['https://example.invalid/x']);
  t.false(sandbox.read('ours/.git/config').includes('hunter2'));
  await sandbox.git(['config', 'remote.secret.url', 'https://user:hunter2@127.0.0.1:1/x'], { cwd: 'ours' });
  t.false(JSON.stringify(await handle.remote().list()).includes('hunter2'));
  const error = await t.throwsAsync(handle.remote().fetch('secret'));
  t.false(JSON.stringify([error.message, error, String(error.stack), error.cause]).includes('hunter2'));
});

for (const url of [
  'ext::sh -c touch% /tmp/x',
  '--upload-pack=touch x',
  'fd::17',
  'https://A\\@B/x',
  'gopher://x/y',
  'https://x/\ny',
  '',
  '-x',
]) {
  test(`${JSON.stringify(url)} is no URL of a remote`, async (t) => {
    const { handle, sandbox } = await createTwins(t, async () => {});
    const remote = handle.remote();
    await t.throwsAsync(remote.add('evil', url), { code: 'URL_INVALID' });
    if (url !== '') {
      await t.throwsAsync(remote.fetch(url), { code: 'URL_INVALID' });
      await t.throwsAsync(remote.push(url, { refs: 'x:y' }), { code: 'URL_INVALID' });
      await t.throwsAsync(remote.lsRemote(url), { code: 'URL_INVALID' });
      // Also where some configuration has it.
      await sandbox.git(['config', 'remote.evil.url', url], { cwd: 'ours' });
      await t.throwsAsync(remote.fetch('evil'), { code: 'URL_INVALID' });
      await t.throwsAsync(remote.push('evil', { refs: 'x:y' }), { code: 'URL_INVALID' });
    }
    t.deepEqual(await handle.refs.list(), []);
  });
}

test('a fetch tells what became of each ref', async (t) => {
  const twins = await createServed(t);
  const { handle, other } = twins;
  t.deepEqual(await handle.remote().fetch(), { refs: [], ok: true });
  const old = await handle.refs.resolve('origin/main');
  await other(['commit', '-q', '--allow-empty', '-m', 'ahead']);
  await other(['branch', 'new/branch']);
  await other(['tag', 'v2']);
  await other(['tag', '-f', 'v1', 'v2']);
  await other(['push', '-q', '--force', 'origin', 'main', 'new/branch', 'v2', 'v1', ':topic']);
  await twins.run(['fetch', '-q', '--prune', 'origin']);
  const events: string[] = [];
  const { refs, ok } = await handle
    .remote()
    .fetch('origin', { prune: true, onProgress: ({ title }) => events.push(title) });
  t.true(ok);
  t.deepEqual(refs.map(({ name, kind }) => [name, kind]).sort(), [
    ['refs/remotes/origin/main', 'fast-forward'],
    ['refs/remotes/origin/new/branch', 'new'],
    ['refs/remotes/origin/topic', 'deleted'],
    ['refs/tags/v2', 'new'],
  ]);
  t.like(
    refs.find(({ name }) => name === 'refs/remotes/origin/main'),
    { from: old, to: await twins.run(['rev-parse', 'origin/main']) },
  );
  t.true(events.length > 0);
  await twins.same(t);
  // A tag that is another one there is refused, and is a result.
  const clobber = await handle.remote().fetch('origin', { tags: 'all' });
  t.false(clobber.ok);
  t.like(
    clobber.refs.find(({ name }) => name === 'refs/tags/v1'),
    { kind: 'rejected', reason: 'would clobber existing tag' },
  );
  await twins.run(['fetch', '-q', '--tags', '--force', 'origin']);
  const forced = await handle.remote().fetch('origin', { tags: 'all', force: true });
  t.like(forced, { ok: true });
  t.like(
    forced.refs.find(({ name }) => name === 'refs/tags/v1'),
    { kind: 'tag-updated' },
  );
  await twins.same(t);
  await other(['commit', '-q', '--amend', '--allow-empty', '-m', 'other ahead']);
  await other(['push', '-q', '--force', 'origin', 'main']);
  t.like((await handle.remote().fetch()).refs[0], { name: 'refs/remotes/origin/main', kind: 'forced' });
  const direct = await handle
    .remote()
    .fetch('origin', { refspecs: ['main:refs/heads/new/branch', 'main:refs/heads/topic'] });
  t.deepEqual(direct.refs.map(({ name, kind }) => [name, kind]).sort(), [
    ['refs/heads/new/branch', 'new'],
    ['refs/heads/topic', 'fast-forward'],
  ]);
});

test('a branch that moved in another way is a rejected result, and is left as it is', async (t) => {
  const { handle, other, sandbox } = await createServed(t);
  await other(['checkout', '-q', '--orphan', 'alien']);
  await other(['commit', '-q', '-m', 'alien']);
  await other(['push', '-q', 'origin', 'alien']);
  const topic = await handle.refs.resolve('topic');
  const { refs, ok } = await handle
    .remote()
    .fetch('origin', { refspecs: ['alien:refs/heads/topic', 'alien:refs/heads/fine'] });
  t.false(ok);
  t.deepEqual(refs.map(({ name, kind, reason }) => [name, kind, reason]).sort(), [
    ['refs/heads/fine', 'new', undefined],
    ['refs/heads/topic', 'rejected', 'non-fast-forward'],
    ['refs/remotes/origin/alien', 'new', undefined],
  ]);
  t.is(await handle.refs.resolve('topic'), topic);
  await t.throwsAsync(handle.remote().fetch('origin', { refspecs: ['none:refs/heads/none'] }), {
    code: 'REF_INVALID',
  });
  await sandbox.git(['config', 'fetch.output', 'compact'], { cwd: 'ours' });
  t.false((await handle.remote().fetch('origin', { refspecs: ['alien:refs/heads/topic'] })).ok);
});

test('a shallow fetch, its deepening and its completion have the commits they name', async (t) => {
  const { other, sandbox } = await createServed(t);
  for (let n = 0; n < 5; n++) await other(['commit', '-q', '--allow-empty', '-m', `more ${n}`]);
  await other(['push', '-q', 'origin', 'main']);
  const server = `file://${sandbox.path('server-ours')}`;
  await sandbox.git(['init', '-q', 'fresh']);
  const fresh = await handleAt(t, sandbox, 'fresh');
  const count = async () =>
    Number(await sandbox.gitText(['rev-list', '--count', 'refs/heads/x'], { cwd: 'fresh' }));
  const refspecs = ['+main:refs/heads/x'];
  await fresh.remote().fetch(server, { refspecs, depth: 2 });
  t.is(await count(), 2);
  await fresh.remote().fetch(server, { refspecs, deepen: 2 });
  t.is(await count(), 4);
  // The grafts of a process that is running are not those of the repository any more.
  t.truthy(await fresh.refs.find('refs/heads/x~3'));
  t.is(await fresh.refs.find('refs/heads/x~4'), undefined);
  await fresh.remote().fetch(server, { refspecs, depth: Number.POSITIVE_INFINITY });
  t.is(await count(), 7);
  t.truthy(await fresh.refs.find('refs/heads/x~6'));
  await fresh.remote().fetch(server, { refspecs, depth: Number.POSITIVE_INFINITY });
  for (const depth of [0, -1, 1.5, Number.NaN])
    await t.throwsAsync(fresh.remote().fetch(server, { refspecs, depth }), { code: 'USAGE' });
  await t.throwsAsync(fresh.remote().fetch(server, { filter: '--upload-pack=x' }), { code: 'USAGE' });
});

test('a push tells what became of each ref', async (t) => {
  const twins = await createServed(t);
  const { handle, sandbox } = twins;
  const servers = async () => {
    const [git, ours] = await Promise.all(
      ['git', 'ours'].map((side) => sandbox.gitText(['for-each-ref'], { cwd: `server-${side}` })),
    );
    t.is(ours, git);
  };
  await twins.run(['commit', '-q', '--allow-empty', '-m', 'mine']);
  await handle.commit({ message: 'mine', allowEmpty: true });
  await twins.run(['push', '-q']);
  const pushed = await handle.remote().push();
  t.like(pushed, { ok: true });
  t.deepEqual(
    pushed.refs.map(({ source, name, kind }) => [source, name, kind]),
    [['refs/heads/main', 'refs/heads/main', 'fast-forward']],
  );
  await servers();
  t.is((await handle.remote().push()).refs[0]!.kind, 'up-to-date');
  await twins.run([
    'push',
    '-q',
    '-u',
    'origin',
    'topic:other/name',
    'v1:refs/tags/v3',
    'main~1:refs/heads/past',
  ]);
  const several = await handle.remote().push('origin', {
    refs: ['topic:refs/heads/other/name', 'v1:refs/tags/v3', 'main~1:refs/heads/past'],
    setUpstream: true,
  });
  t.deepEqual(
    several.refs.map(({ name, kind }) => [name, kind]),
    [
      ['refs/heads/other/name', 'new'],
      ['refs/tags/v3', 'new'],
      ['refs/heads/past', 'new'],
    ],
  );
  await servers();
  await twins.same(t);
  t.is((await handle.branch().get('topic')).upstream?.name, 'origin/other/name');
  const deleted = await handle.remote().push('origin', { delete: ['past', 'refs/tags/v3'] });
  t.deepEqual(
    deleted.refs.map(({ source, name, kind }) => [source, name, kind]),
    [
      [undefined, 'refs/heads/past', 'deleted'],
      [undefined, 'refs/tags/v3', 'deleted'],
    ],
  );
  await twins.run(['push', '-q', 'origin', ':past', ':refs/tags/v3']);
  await servers();
});

test('tags are pushed by name, and nothing else with them', async (t) => {
  const { handle } = await createServed(t);
  await handle.commit({ message: 'not pushed', allowEmpty: true });
  await handle.tag().create('v9');
  await handle.tag().create('v10');
  const { refs, ok } = await handle.tag().push(['v9']);
  t.true(ok);
  t.deepEqual(
    refs.map(({ name, kind }) => [name, kind]),
    [['refs/tags/v9', 'new']],
  );
  t.false((await handle.remote().lsRemote()).some(({ name }) => name === 'refs/tags/v10'));
  await t.throwsAsync(handle.tag().push('none'), { code: 'REF_INVALID' });
});

test('what goes over the network is in the list of operations while it runs', async (t) => {
  const { handle } = await createServed(t);
  const listed = () =>
    handle.manager
      .operations()
      .map(({ description }) => description)
      .filter((description) => description.endsWith(handle.path));
  const seen: string[] = [];
  await handle.remote().fetch('origin', {
    tags: 'all',
    authFor: () => {
      seen.push(...listed());
      return undefined;
    },
  });
  t.true(seen.some((description) => description.startsWith('fetch from origin')));
  t.deepEqual(listed(), []);
  await t.throwsAsync(handle.remote().fetch('https://127.0.0.1:1/'));
  t.deepEqual(listed(), []);
});

test('a rejected push is a result, beside those that went through', async (t) => {
  const { handle, other, sandbox } = await createServed(t);
  const before = await handle.refs.resolve('origin/main');
  await other(['commit', '-q', '--allow-empty', '-m', 'theirs']);
  await other(['push', '-q']);
  await handle.commit({ message: 'mine', allowEmpty: true });
  const result = await handle.remote().push('origin', { refs: ['main', 'main:refs/heads/fine'] });
  t.false(result.ok);
  t.deepEqual(
    result.refs.map(({ name, kind, reason, rejectedBy }) => [name, kind, reason, rejectedBy]).sort(),
    [
      ['refs/heads/fine', 'new', undefined, undefined],
      ['refs/heads/main', 'rejected', 'fetch first', 'us'],
    ],
  );
  t.is(
    (await handle.remote().push('origin', { refs: 'main', force: 'with-lease' })).refs[0]!.reason,
    'stale info',
  );
  t.false((await handle.remote().push('origin', { refs: 'main', force: { 'refs/heads/main': before } })).ok);
  const theirs = await sandbox.gitText(['rev-parse', 'main'], { cwd: 'server-ours' });
  t.is(
    (await handle.remote().push('origin', { refs: 'main', force: { 'refs/heads/main': theirs } })).refs[0]!
      .kind,
    'forced',
  );
  t.false(
    (
      await handle
        .remote()
        .push('origin', { refs: 'main:refs/heads/fine', force: { 'refs/heads/fine': null } })
    ).ok === false,
  );
  t.false(
    (
      await handle
        .remote()
        .push('origin', { refs: 'topic:refs/heads/fine', force: { 'refs/heads/fine': null } })
    ).ok,
  );
  t.like(
    await handle
      .remote()
      .push('origin', { refs: ['topic:refs/heads/fine', 'main:refs/heads/new'], atomic: true }),
    { ok: false },
  );
  t.false((await handle.remote().lsRemote('origin')).some(({ name }) => name === 'refs/heads/new'));
  t.true((await handle.remote().push('origin', { refs: 'topic:refs/heads/fine', force: true })).ok);
});

test('what the remote itself refuses is told with its reason', async (t) => {
  const { handle, sandbox } = await createServed(t);
  mkdirSync(sandbox.path('server-ours/hooks'), { recursive: true });
  writeFileSync(sandbox.path('server-ours/hooks/update'), '#!/bin/sh\ntest "$1" != refs/heads/closed\n');
  chmodSync(sandbox.path('server-ours/hooks/update'), 0o755);
  const { refs, ok } = await handle
    .remote()
    .push('origin', { refs: ['main:refs/heads/closed', 'main:refs/heads/open'] });
  t.false(ok);
  t.deepEqual(refs.map(({ name, kind, reason, rejectedBy }) => [name, kind, reason, rejectedBy]).sort(), [
    ['refs/heads/closed', 'rejected', 'hook declined', 'remote'],
    ['refs/heads/open', 'new', undefined, undefined],
  ]);
});

test('a pre-push hook runs only in a trusted repository', async (t) => {
  for (const trusted of [true, false]) {
    const { handle, sandbox } = await createServed(t, { trusted });
    mkdirSync(sandbox.path('ours/.git/hooks'), { recursive: true });
    writeFileSync(sandbox.path('ours/.git/hooks/pre-push'), '#!/bin/sh\nexit 1\n');
    chmodSync(sandbox.path('ours/.git/hooks/pre-push'), 0o755);
    const pushing = handle.remote().push('origin', { refs: 'main:refs/heads/x' });
    if (trusted) {
      await t.throwsAsync(pushing, { code: 'HOOK_FAILED' });
      t.true((await handle.remote().push('origin', { refs: 'main:refs/heads/x', hooks: false })).ok);
    } else {
      t.like(await pushing, { ok: true, hooksSkipped: ['pre-push'] });
    }
  }
});

test('nothing is pushed that was not named', async (t) => {
  const { handle } = await createServed(t);
  await t.throwsAsync(handle.remote().push('origin', { refs: [] }), { code: 'USAGE' });
  await handle.branch().checkout('main', { detach: true });
  await t.throwsAsync(handle.remote().push(), { code: 'REF_INVALID' });
  await t.throwsAsync(handle.remote().push('origin', { refs: 'none' }), { code: 'REF_INVALID' });
  for (const refs of ['--mirror', '+', 'a:b:c d', 'a:-x y', 'x:', 'a..b', 'a b']) {
    await t.throwsAsync(handle.remote().push('origin', { refs }), { code: 'REF_INVALID' });
  }
});

test('a pull fast-forwards, merges or rebases', async (t) => {
  for (const strategy of ['ff', 'merge', 'rebase'] as const) {
    const twins = await createServed(t);
    const { handle, other } = twins;
    await other(['commit', '-q', '--allow-empty', '-m', 'theirs']);
    await other(['tag', '-a', '-m', 'nine', 'v9']);
    await other(['push', '-q', '--follow-tags']);
    if (strategy !== 'ff') {
      twins.write('mine', 'x');
      await twins.run(['add', '-A']);
      await twins.run(['commit', '-q', '-m', 'mine']);
      await handle.staging().addAll();
      await handle.commit('mine');
      await t.throwsAsync(handle.remote().pull(), { code: 'NOT_FAST_FORWARD' });
    }
    await twins.run([
      'pull',
      '-q',
      '--no-edit',
      ...{ ff: ['--ff-only'], merge: ['--no-rebase'], rebase: ['--rebase'] }[strategy],
    ]);
    const { result, fetched } = await handle.remote().pull(undefined, { strategy });
    t.is(result.kind, ({ ff: 'fast-forward', merge: 'merge', rebase: 'rebased' } as const)[strategy]);
    if (strategy === 'ff')
      t.deepEqual(
        fetched.refs.map(({ name }) => name),
        ['refs/remotes/origin/main', 'refs/tags/v9'],
      );
    if (strategy === 'merge') {
      // The message names the server, which each twin has of its own.
      t.is(
        await twins.run(['rev-parse', 'HEAD^{tree}', 'HEAD^1', 'HEAD^2']),
        await twins.sandbox.gitText(['rev-parse', 'HEAD^{tree}', 'HEAD^1', 'HEAD^2'], { cwd: 'ours' }),
      );
      t.regex((await handle.objects.read('HEAD'))!.body.toString(), /Merge branch 'main' of .*server-ours/);
    } else {
      await twins.same(t);
    }
  }
  const { handle } = await createServed(t);
  await handle.branch().checkout('topic');
  await t.throwsAsync(handle.remote().pull(), { code: 'REF_INVALID', message: /no upstream/ });
  t.is((await handle.remote().pull('origin', { branch: 'main' })).result.kind, 'fast-forward');
});

test('the refs of a remote are listed with what tags are about', async (t) => {
  const { handle, run } = await createServed(t);
  const refs = await handle.remote().lsRemote();
  t.deepEqual(
    refs.map(({ name }) => name),
    ['HEAD', 'refs/heads/main', 'refs/heads/topic', 'refs/tags/v1'],
  );
  t.is(refs[0]!.symbolicTarget, 'refs/heads/main');
  t.is(refs[3]!.peeled, await run(['rev-parse', 'v1^{commit}']));
  t.deepEqual(
    (await handle.remote().lsRemote('origin', { kind: 'branches', patterns: ['t*'] })).map(
      ({ name }) => name,
    ),
    ['refs/heads/topic'],
  );
  await t.throwsAsync(handle.remote().lsRemote('origin', { patterns: ['--upload-pack=x'] }), {
    code: 'REF_INVALID',
  });
});

test('a remote that is not there, or not reached, has its own code', async (t) => {
  const { handle, sandbox } = await createServed(t);
  await t.throwsAsync(handle.remote().fetch(sandbox.path('nowhere')), { code: 'NOT_FOUND' });
  await t.throwsAsync(handle.remote().push(sandbox.path('nowhere'), { refs: 'main' }), { code: 'NOT_FOUND' });
  const error = await t.throwsAsync(handle.remote().lsRemote('http://127.0.0.1:1/x'), { code: 'NETWORK' });
  t.true((error as { recoverable?: boolean }).recoverable);
  await sandbox.git(['init', '-q', 'lonely']);
  await t.throwsAsync((await handleAt(t, sandbox, 'lonely')).remote().fetch(), { code: 'NOT_FOUND' });
});

test('an aborted fetch ends with an AbortError and leaves no lock', async (t) => {
  const { handle, sandbox } = await createServed(t);
  await t.throwsAsync(handle.remote().fetch('origin', { signal: AbortSignal.abort() }), {
    name: 'AbortError',
  });
  t.false(existsSync(sandbox.path('ours/.git/shallow.lock')));
  t.true((await handle.remote().fetch('origin')).ok);
});

test('refspecs are checked side by side', (t) => {
  for (const good of [
    'main',
    '+main',
    'refs/heads/*:refs/remotes/o/*',
    '^refs/heads/x',
    'HEAD',
    'main:',
    '+a/b:refs/heads/c',
    ':refs/heads/x',
    'refs/heads/a*b:refs/x/a*b',
  ]) {
    t.is(checkFetchRefspec(good), good);
  }
  for (const bad of [
    '',
    '+',
    '-x',
    '+-x',
    'a b',
    'a..b',
    '*:*:*',
    'a:*',
    '**',
    '^a:b',
    'a\nb',
    'a\0',
    'a:b\\c',
  ]) {
    t.throws(() => checkFetchRefspec(bad), { code: 'REF_INVALID' }, bad);
  }
  for (const good of [
    'main',
    'HEAD~1:refs/heads/x',
    ':x',
    '+a:b',
    'HEAD:refs/heads/x',
    ':',
    'refs/heads/*:refs/heads/*',
  ]) {
    t.is(checkPushRefspec(good), good);
  }
});

test('what git says of refs is read in all its forms', (t) => {
  const { url, refs } = parsePush(
    'To https://example.invalid/x\n*\trefs/heads/a:refs/heads/a\t[new branch]\n+\trefs/heads/b:refs/heads/b\t1111111...2222222 (forced update)\n' +
      '!\trefs/heads/c:refs/heads/c\t[remote rejected] (a (nested) reason)\n-\t:refs/heads/d\t[deleted]\n \tHEAD:refs/heads/e\t1111111..2222222\nDone\n',
  );
  t.is(url, 'https://example.invalid/x');
  t.deepEqual(
    refs.map(({ kind, reason }) => [kind, reason]),
    [
      ['new', undefined],
      ['forced', undefined],
      ['rejected', 'a (nested) reason'],
      ['deleted', undefined],
      ['fast-forward', undefined],
    ],
  );
  t.like(refs[1], { from: '1111111', to: '2222222' });
  t.deepEqual(parsePush('').refs, []);
  // A tag and a branch of one short name.
  const both = fetchedRefs(
    [
      ' * [new tag]         x          -> x',
      '   1111111..2222222  y          -> o/y',
      'warning: noise',
      ' ! [rejected]        v          -> v  (would clobber existing tag)',
    ],
    new Map([
      ['refs/heads/x', '1'],
      ['refs/remotes/o/y', '1'],
      ['refs/heads/v', '1'],
      ['refs/tags/v', '1'],
    ]),
    new Map([
      ['refs/heads/x', '2'],
      ['refs/tags/x', '1'],
      ['refs/remotes/o/y', '2'],
      ['refs/heads/v', '1'],
      ['refs/tags/v', '1'],
    ]),
  );
  t.deepEqual(
    both.map(({ name, kind }) => [name, kind]),
    [
      ['refs/tags/x', 'new'],
      ['refs/remotes/o/y', 'fast-forward'],
      ['refs/tags/v', 'rejected'],
    ],
  );
  const lines = new LineCollector();
  for (const piece of ['Receiving: 1%\rReceiv', 'ing: 2%\rdone\n * li', 'ne\nlast'])
    lines.take(Buffer.from(piece));
  t.deepEqual(lines.all(), ['done', ' * line', 'last']);
  t.deepEqual(
    parseLsRemote('ref: refs/heads/m\tHEAD\n11\tHEAD\n22\trefs/tags/t\n33\trefs/tags/t^{}\n44\t../../evil\n'),
    [
      { name: 'HEAD', oid: '11', peeled: undefined, symbolicTarget: 'refs/heads/m' },
      { name: 'refs/tags/t', oid: '22', peeled: '33', symbolicTarget: undefined },
    ],
  );
});
