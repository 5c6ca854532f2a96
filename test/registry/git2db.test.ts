import { existsSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { NameError, NotFoundError } from '../../src/registry/errors.ts';
import { Git2DB } from '../../src/registry/git2db.ts';
import { RepoId } from '../../src/registry/repo-id.ts';
import { Git2dbError } from '../../src/xet/errors.ts';
import {
  createRegistrySandbox,
  exists,
  metadataOf,
  startRegistryProcess,
  until,
} from './registry-sandbox.ts';

test('a repository is registered where it is, and found by name, id, URL in any form, and in the list', async (t) => {
  const sandbox = createRegistrySandbox(t);
  const registry = await sandbox.open();
  const path = await sandbox.repository('model', { url: 'https://example.com/Org/Model.git' });
  await sandbox.git(['config', 'branch.main.remote', 'origin'], { cwd: path });
  await sandbox.git(['config', 'branch.main.merge', 'refs/heads/stable'], { cwd: path });
  const record = await registry.register({ path, metadata: { team: 'a' } });
  t.like(record, {
    name: 'model',
    path,
    adopted: true,
    bare: false,
    trusted: false,
    trackingRef: 'origin/stable',
  });
  t.is(record.url, 'https://example.com/Org/Model.git');
  for (const found of [
    registry.get('model'),
    registry.get(record.id),
    registry.get(record.id.toUpperCase()),
    registry.byName('model'),
    registry.byUrl('https://EXAMPLE.com:443/Org/Model/'),
    registry.find('https://user:secret@example.com/Org/Model'),
    registry.find('model'),
  ]) {
    t.is(found?.id, record.id);
  }
  t.is(registry.find('other'), undefined);
  t.is(registry.find('ext::sh'), undefined);
  t.deepEqual(
    registry.list().map(({ name }) => name),
    ['model'],
  );
  t.is(registry.list({ metadata: { team: 'b' } }).length, 0);
  t.is(registry.list({ url: 'https://example.com/Org/Model', adopted: true, name: 'MOD' }).length, 1);
  const names: string[] = [];
  for await (const each of registry) names.push(each.name);
  t.deepEqual(names, ['model']);
  const handle = await registry.repo(record.id);
  t.is(handle.place.workTree, path);
  await handle[Symbol.asyncDispose]();
});

test('what is not there is an error that names what was perhaps meant', async (t) => {
  const sandbox = createRegistrySandbox(t);
  const registry = await sandbox.open();
  for (const name of ['org/model', 'weights', 'other']) {
    await registry.register({ path: await sandbox.repository(name.replace('/', '-')), name });
  }
  for (const [query, near] of [
    ['org/modle', ['org/model']],
    ['Weights', ['weights']],
    ['model', ['org/model']],
    ['weight', ['weights']],
    ['zzzzzzzz', []],
  ] as const) {
    const error = t.throws(() => registry.get(query), { instanceOf: NotFoundError });
    t.is(error?.code, 'NOT_FOUND');
    t.deepEqual(error?.near, near, query);
    if (near.length > 0) t.regex(error?.message ?? '', new RegExp(`did you mean "${near[0]}"`));
  }
  const id = registry.get('other').id;
  const slip = `${id.slice(0, -1)}${id.endsWith('0') ? '1' : '0'}`;
  t.deepEqual(t.throws(() => registry.get(slip), { instanceOf: NotFoundError })?.near, [id]);
  t.is((t.throws(() => registry.byUrl('https://example.com/none')) as Git2dbError).code, 'NOT_FOUND');
  t.is((t.throws(() => registry.byUrl('ext::x')) as Git2dbError).code, 'URL_INVALID');
  for (const call of [
    () => registry.repo('none'),
    () => registry.repoByName('none'),
    () => registry.remove('none'),
    () => registry.update('none', {}),
  ]) {
    await t.throwsAsync(call, { instanceOf: NotFoundError });
  }
});

test('registering twice is idempotent with the same data, and an error with other data', async (t) => {
  const sandbox = createRegistrySandbox(t);
  const registry = await sandbox.open();
  const path = await sandbox.repository('a', { url: 'https://example.com/a' });
  const other = await sandbox.repository('b');
  const first = await registry.register({ path, name: 'a' });
  const { generation } = registry;
  for (const same of [
    { path },
    { path, name: 'a' },
    { path: join(path, '.git'), name: 'a', id: first.id },
    { path, name: 'a', url: 'HTTPS://example.com/a.git/' },
  ]) {
    t.deepEqual(await registry.register(same), first);
  }
  t.is(registry.generation, generation, 'nothing was written');
  for (const different of [
    { path, name: 'c' },
    { path, name: 'a', url: 'https://example.com/other' },
    { path, id: RepoId.create() },
    { path, trust: true },
    { path, metadata: { x: 'y' } },
    { path: other, name: 'a' },
    { path: other, id: first.id },
  ]) {
    const error = await t.throwsAsync(registry.register(different), { instanceOf: Git2dbError });
    t.true(error?.code === 'REFUSED' || error?.code === 'NAME_TAKEN', error?.message);
    t.regex(error?.message ?? '', /registered already, with /);
  }
  t.deepEqual(registry.list(), [first]);
});

test('names are unique and checked by every way in', async (t) => {
  const sandbox = createRegistrySandbox(t);
  const registry = await sandbox.open();
  const path = await sandbox.repository('one');
  const other = await sandbox.repository('two');
  await registry.register({ path, name: 'org/one' });
  const upstream = await sandbox.repository('up.git', { bare: true });
  for (const name of ['ORG/one', 'org', 'Org/two', 'org/One']) {
    for (const attempt of [
      () => registry.register({ path: other, name }),
      () => registry.clone(upstream, { name }),
      () => registry.upsert(name, upstream),
      () => registry.transaction((transaction) => transaction.register({ path: other, name })),
    ]) {
      const error = await t.throwsAsync(async () => attempt(), { instanceOf: NameError }, name);
      t.is(error?.code, 'NAME_TAKEN');
    }
  }
  for (const name of ['../x', '-x', '.git2db', 'a\nb', 'con', '.git', 'x.lock', 'a\\b', 'a/b/c']) {
    for (const attempt of [
      () => registry.register({ path: other, name }),
      () => registry.clone(upstream, { name }),
      () => registry.upsert(name, upstream),
      () => registry.update('org/one', { name }),
      () => registry.registerRepository(RepoId.create(), name),
      () => registry.reserveName(name),
    ]) {
      const error = await t.throwsAsync(async () => attempt(), { instanceOf: NameError }, name);
      t.is(error?.code, 'NAME_INVALID');
    }
  }
  t.is(registry.list().length, 1);
  t.false(exists(sandbox.root, 'repos', 'x'));
});

test("the seed's form takes a repository that lies in the registry, and refuses one that is nowhere", async (t) => {
  const sandbox = createRegistrySandbox(t);
  const registry = await sandbox.open();
  const id = RepoId.create();
  await t.throwsAsync(registry.registerRepository(id, 'model'), { code: 'NOT_A_REPOSITORY' });
  await sandbox.git(['init', '-q', join(sandbox.root, 'repos', 'model')]);
  t.is(await registry.registerRepository(id, 'model', 'https://example.com/model'), id);
  t.is(await registry.registerRepository(id.toUpperCase(), 'model', 'https://example.com/model'), id);
  t.like(registry.get(id), { name: 'model', url: 'https://example.com/model', adopted: true });
  await t.throwsAsync(registry.registerRepository(id, 'model', 'https://example.com/other'), {
    instanceOf: Git2dbError,
  });
  await t.throwsAsync(registry.registerRepository('no id', 'x'), { code: 'USAGE' });
});

test('what is no repository, or only a worktree of one, is refused with what to give instead', async (t) => {
  const sandbox = createRegistrySandbox(t);
  const registry = await sandbox.open();
  const path = await sandbox.repository('main');
  await sandbox.git(['worktree', 'add', '-q', '-b', 'x', sandbox.path('linked')], { cwd: path });
  mkdirSync(sandbox.path('empty'));
  writeFileSync(sandbox.path('plain'), '');
  for (const wrong of [sandbox.path('empty'), sandbox.path('plain'), sandbox.path('none')]) {
    await t.throwsAsync(registry.register({ path: wrong }), { code: 'NOT_A_REPOSITORY' });
  }
  await t.throwsAsync(registry.register({ path: sandbox.path('linked') }), {
    code: 'NOT_A_REPOSITORY',
    message: new RegExp(`register the repository it belongs to, ${path}`),
  });
  await t.throwsAsync(registry.register({}), { code: 'NOT_A_REPOSITORY' });
  await t.throwsAsync(registry.register({ path: '' }), { code: 'USAGE' });
  await t.throwsAsync(Git2DB.open(''), { code: 'USAGE' });
  await t.throwsAsync(sandbox.open({ directory: sandbox.path('plain') }), { code: 'STORE_UNWRITABLE' });
});

test('tokens in URLs are in no file, record, error or remote of ours', async (t) => {
  const sandbox = createRegistrySandbox(t);
  const registry = await sandbox.open();
  const secret = 's3cretT0ken';
  const path = await sandbox.repository('a', { url: `https://alice:${secret}@example.com/a.git` });
  const record = await registry.register({ path });
  t.is(record.url, 'https://example.com/a.git');
  await registry.update('a', { url: `https://${secret}@example.com/b.git` });
  t.is(registry.get('a').url, 'https://example.com/b.git');
  t.is(await sandbox.gitText(['config', 'remote.origin.url'], { cwd: path }), 'https://example.com/b.git');
  await registry.transaction((transaction) => {
    transaction.update('a', { url: `https://${secret}:x@example.com/c` });
  });
  for (const attempt of [
    () => registry.register({ path: path, url: `https://${secret}@example.com/x?y` }),
    () => registry.update('a', { url: `ftp://${secret}@example.com/` }),
    () => registry.clone(`https://${secret}@exa mple.com/x`),
    () => registry.byUrl(`https://u:${secret}@nowhere.invalid/x`),
    () => registry.get(`https://u:${secret}@nowhere.invalid/x`.replace(secret, 'x')),
  ]) {
    const error = await t.throwsAsync(async () => attempt(), { instanceOf: Git2dbError });
    t.false(JSON.stringify([error?.message, error?.data, error?.stack]).includes(secret), error?.message);
  }
  const found = await sandbox.run('grep', ['-rl', secret, sandbox.root]);
  t.is(found.stdout, '');
});

test("a new URL becomes that of git's remote; a failing change leaves both as they were", async (t) => {
  const sandbox = createRegistrySandbox(t);
  const registry = await sandbox.open();
  const path = await sandbox.repository('a', { url: 'https://example.com/old' });
  const bare = await sandbox.repository('b');
  const urlOf = (at: string, remote = 'origin') =>
    sandbox.run('git', ['config', `remote.${remote}.url`], { cwd: at }).then(({ stdout }) => stdout.trim());
  await registry.register({ path });
  await registry.register({ path: bare });
  const updated = await registry.update('a', { url: 'git@example.com:new.git' });
  t.is(updated.url, 'git@example.com:new.git');
  t.true(updated.updatedAt >= updated.createdAt);
  t.is(await urlOf(path), 'git@example.com:new.git');
  await registry.update('b', { url: 'https://example.com/b' });
  t.is(await urlOf(bare), 'https://example.com/b');
  t.regex(await sandbox.gitText(['config', 'remote.origin.fetch'], { cwd: bare }), /refs\/heads/);
  // The second repository's configuration cannot be written: the first one's is taken back.
  writeFileSync(join(bare, '.git', 'config.lock'), '');
  await t.throwsAsync(
    registry.transaction((transaction) => {
      transaction.update('a', { url: 'https://example.com/newer' });
      transaction.update('b', { url: 'https://example.com/newer' });
    }),
    { instanceOf: Git2dbError },
  );
  t.is(registry.get('a').url, 'git@example.com:new.git');
  t.is(await urlOf(path), 'git@example.com:new.git');
  t.is(await urlOf(bare), 'https://example.com/b');
  t.deepEqual(await registry.verify(), []);
  // A remote of another name is the one that is followed.
  await sandbox.git(['remote', 'rename', 'origin', 'hub'], { cwd: path });
  await registry.update('a', { url: 'https://example.com/hub', trackingRef: 'hub/main' });
  t.is(await urlOf(path, 'hub'), 'https://example.com/hub');
  t.is(await urlOf(path), '');
});

test('an update lays metadata over what is there, keeps the rest, and writes nothing when nothing changes', async (t) => {
  const sandbox = createRegistrySandbox(t);
  const registry = await sandbox.open();
  await registry.register({ path: await sandbox.repository('a'), metadata: { x: '1', y: '2' } });
  const changed = await registry.update('a', {
    metadata: { x: null, z: '3', __proto__: 'p' },
    trusted: true,
  });
  t.deepEqual(changed.metadata, { y: '2', z: '3' });
  const { generation } = registry;
  t.deepEqual(await registry.update('a', { metadata: { z: '3' }, trusted: true }), changed);
  t.is(registry.generation, generation);
  await t.throwsAsync(registry.update('a', { metadata: { n: 1 as unknown as string } }), { code: 'USAGE' });
  const renamed = await registry.update('a', { name: 'org/a' });
  t.is(renamed.id, changed.id);
  t.is(registry.find('a'), undefined);
  t.is((await registry.update('org/a', { name: 'A' })).name, 'A');
  t.is((await registry.update('A', { name: 'a' })).name, 'a', 'another case of its own name');
});

test('upsert clones what is not there, and changes a URL that is another', async (t) => {
  const sandbox = createRegistrySandbox(t);
  const registry = await sandbox.open();
  const source = await sandbox.repository('source');
  const created = await registry.upsert('model', source);
  t.like(created, { name: 'model', path: 'repos/model', adopted: false });
  t.true(exists(sandbox.root, 'repos/model/file'));
  t.deepEqual(await registry.upsert('model', `file://${source}/`), created);
  const moved = await registry.upsert('model', 'https://example.com/model', { trusted: true });
  t.like(moved, { id: created.id, url: 'https://example.com/model', trusted: true });
  t.is(
    await sandbox.gitText(['config', 'remote.origin.url'], { cwd: join(sandbox.root, 'repos/model') }),
    'https://example.com/model',
  );
});

test('of five clones of one name by five processes one is made, and all have its id', async (t) => {
  const sandbox = createRegistrySandbox(t);
  const source = await sandbox.repository('source');
  const registry = await sandbox.open();
  const processes = Array.from({ length: 5 }, () =>
    startRegistryProcess(sandbox, [sandbox.root, 'clone', source, 'model'], t),
  );
  const here = await Promise.all([
    registry.clone(source, { name: 'model' }),
    registry.clone(source).name('model').exec(),
  ]);
  for (const each of processes) t.is(await each.ended, 0);
  const ids = new Set([...processes.map((each) => each.lines().at(-1)), ...here.map(({ id }) => id)]);
  t.is(ids.size, 1);
  t.deepEqual(
    registry.list().map(({ id }) => id),
    [...ids] as never,
  );
  t.is(registry.generation, 1);
  t.deepEqual(await registry.verify(), []);
});

test('a reserved name is waited for; what became of it is the answer, and a dead owner counts for nothing', async (t) => {
  const sandbox = createRegistrySandbox(t);
  const registry = await sandbox.open();
  const other = await sandbox.open();
  const first = await registry.reserveName('model');
  t.is(first.record, undefined);
  const waited: string[] = [];
  let isDone = false;
  const second = other.reserveName('MODEL', { onWait: (name) => waited.push(name) }).then((reservation) => {
    isDone = true;
    return reservation;
  });
  await until(t, 'the other to wait', () => waited.length === 1);
  t.deepEqual(waited, ['model']);
  t.false(isDone);
  await first.release();
  const got = await second;
  t.is(got.record, undefined);
  await got.release();
  const stop = new AbortController();
  const third = await registry.reserveName('model');
  const waiting = other.reserveName('model/x', { signal: stop.signal });
  stop.abort();
  await t.throwsAsync(waiting, { name: 'AbortError' });
  const path = await sandbox.repository('source');
  await sandbox.run('cp', ['-r', path, join(sandbox.root, 'repos', '.git2db-clone-test')]);
  const joining = other.reserveName('model');
  // Nobody else takes the name meanwhile.
  await registry.register({ path, name: 'third' });
  for (const attempt of [
    () => registry.update('third', { name: 'Model' }),
    () => registry.transaction((transaction) => transaction.update('third', { name: 'model/x' })),
  ]) {
    await t.throwsAsync(async () => attempt(), { code: 'NAME_TAKEN', message: /is being cloned/ });
  }
  const record = await registry.addRecord(
    { name: 'model', url: 'https://example.com/x' },
    { from: join(sandbox.root, 'repos', '.git2db-clone-test'), committed: () => third.release() },
  );
  t.is((await joining).record?.id, record.id);
  t.true(exists(sandbox.root, 'repos/model/.git'));
  t.false(exists(sandbox.root, 'repos/.git2db-clone-test'));
});

test('an entry that cannot be made leaves the directory where it was made', async (t) => {
  const sandbox = createRegistrySandbox(t);
  const registry = await sandbox.open();
  const path = await sandbox.repository('source');
  const from = join(sandbox.root, 'repos', '.git2db-clone-test');
  await sandbox.run('cp', ['-r', path, from]);
  mkdirSync(join(sandbox.root, 'repos', 'model', 'precious'), { recursive: true });
  let undone = 0;
  let told = 0;
  const error = await t.throwsAsync(
    registry.addRecord(
      { name: 'model' },
      {
        from,
        undo: async () => {
          undone++;
        },
        committed: () => {
          told++;
        },
      },
    ),
    { instanceOf: Git2dbError },
  );
  t.is(error?.code, 'REFUSED');
  t.deepEqual([undone, told], [1, 0]);
  t.true(existsSync(join(from, '.git')));
  t.true(exists(sandbox.root, 'repos/model/precious'));
  t.is(registry.list().length, 0);
});

test('a registry reached through a symbolic link is the same registry', async (t) => {
  const sandbox = createRegistrySandbox(t);
  const registry = await sandbox.open();
  symlinkSync(sandbox.root, sandbox.path('link'));
  const linked = await sandbox.open({ directory: sandbox.path('link') });
  t.is(linked.root, registry.root);
  t.is(linked.id, registry.id);
  t.deepEqual(linked.notices, []);
});

test('many calls at once in one process all take effect', async (t) => {
  const sandbox = createRegistrySandbox(t);
  const registry = await sandbox.open();
  const template = await sandbox.repository('template', { bare: true });
  const paths = Array.from({ length: 25 }, (_, index) => sandbox.path(`r${index}`));
  for (const path of paths) await sandbox.run('cp', ['-r', template, path]);
  await Promise.all(paths.map((path) => registry.register({ path })));
  t.is(registry.list().length, 25);
  t.is(registry.generation, 25);
  t.is(metadataOf(sandbox.root).repositories.length, 25);
  t.regex(readFileSync(join(sandbox.root, '.git2db/metadata.json'), 'utf8'), /\n\]\}\n$/);
});

test('a registry that was deleted is not brought back to life', async (t) => {
  const sandbox = createRegistrySandbox(t);
  const registry = await sandbox.open();
  const path = await sandbox.repository('a');
  await sandbox.run('rm', ['-r', sandbox.root]);
  await t.throwsAsync(registry.register({ path }), { code: 'REGISTRY_INVALID' });
  t.throws(() => registry.list(), { code: 'REGISTRY_INVALID' });
  t.false(existsSync(sandbox.root));
});
