import { existsSync, mkdirSync, readFileSync, renameSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import type { Git2DB } from '../../src/registry/git2db.ts';
import { rebasePath, rebaseText } from '../../src/registry/path-rebase.ts';
import { Git2dbError } from '../../src/xet/errors.ts';
import { StoreLayout } from '../../src/xet/store/layout.ts';
import { registerUser } from '../../src/xet/store/users.ts';
import { createRegistrySandbox, exists, metadataOf, type RegistrySandbox } from './registry-sandbox.ts';

/** A registry with a clone, a linked worktree of it inside and one outside, an adopted repository, a store. */
async function filled(sandbox: RegistrySandbox) {
  const registry = await sandbox.open();
  const source = await sandbox.repository('source');
  const record = await registry.clone(source, { name: 'org/model' });
  const path = registry.absolutePath(record);
  const inside = join(sandbox.root, 'worktrees', 'inside');
  const outside = sandbox.path('outside');
  await sandbox.git(['worktree', 'add', '-q', '-b', 'inside', inside], { cwd: path });
  await sandbox.git(['worktree', 'add', '-q', '-b', 'outside', outside], { cwd: path });
  const adopted = join(sandbox.root, 'adopted');
  await sandbox.git(['clone', '-q', path, adopted]);
  await registry.register({ path: adopted });
  await sandbox.git(['config', 'alias.own', `!"${sandbox.root}/tool" --quiet`], { cwd: path });
  const store = new StoreLayout(join(sandbox.root, '.git2db', 'xet'));
  mkdirSync(store.users, { recursive: true });
  registerUser(store, join(path, '.git'));
  const home = join(sandbox.root, '.git2db', 'worktrees', 'w1');
  mkdirSync(join(home, 'upper'), { recursive: true });
  writeFileSync(join(home, 'upper', '.git'), `gitdir: ${path}/.git/worktrees/inside\n`);
  writeFileSync(
    join(home, 'state.json'),
    JSON.stringify({
      version: 1,
      id: 'w1',
      step: 'ready',
      driver: 'overlay2',
      commonDir: `${path}/.git`,
      path: inside,
      madeDirectories: [inside],
    }),
  );
  return { registry, record, source, inside, outside };
}

/** The overlay of `filled` is a record alone. */
async function wrongIn(registry: Git2DB): Promise<string[]> {
  return (await registry.verify()).map(({ code }) => code);
}

test('a registry that was moved works at its new place, worktrees, store and configuration too', async (t) => {
  const sandbox = createRegistrySandbox(t);
  const { registry: before, record, outside } = await filled(sandbox);
  const { id } = before;
  const root = sandbox.path('new', 'place with blank');
  mkdirSync(sandbox.path('new'));
  renameSync(sandbox.root, root);
  const registry = await sandbox.open({ directory: root });
  t.is(registry.id, id);
  t.regex(registry.notices.join(), /was moved from .*registry: all paths lead to/);
  t.is(metadataOf(root).root, root);
  const path = registry.absolutePath(registry.get('org/model'));
  t.is(path, join(root, 'repos/org/model'));
  const config = (key: string) => sandbox.gitText(['config', key], { cwd: path });
  t.is(await config('xet.store'), join(root, '.git2db/xet'));
  t.is(await config('alias.own'), `!"${root}/tool" --quiet`);
  for (const tree of [join(root, 'worktrees/inside'), outside]) {
    t.is(await sandbox.gitText(['status', '--porcelain'], { cwd: tree }), '');
    t.is(await sandbox.gitText(['rev-parse', '--git-common-dir'], { cwd: tree }), join(path, '.git'));
  }
  const list = await sandbox.gitText(['worktree', 'list', '--porcelain'], { cwd: path });
  t.false(list.includes('prunable'));
  t.true(list.includes(join(root, 'worktrees/inside')));
  const home = join(root, '.git2db/worktrees/w1');
  t.is(readFileSync(join(home, 'upper/.git'), 'utf8'), `gitdir: ${path}/.git/worktrees/inside\n`);
  t.like(JSON.parse(readFileSync(join(home, 'state.json'), 'utf8')), {
    commonDir: `${path}/.git`,
    path: join(root, 'worktrees/inside'),
    madeDirectories: [join(root, 'worktrees/inside')],
  });
  t.is(registry.get('adopted').path, join(root, 'adopted'));
  t.is(registry.get('adopted').url, path);
  t.is(await sandbox.gitText(['config', 'remote.origin.url'], { cwd: join(root, 'adopted') }), path);
  const { listUsers } = await import('../../src/xet/store/users.ts');
  t.deepEqual(
    listUsers(new StoreLayout(join(root, '.git2db/xet'))).map(({ commonDir }) => commonDir),
    [`${path}/.git`],
  );
  const left = await sandbox.run('grep', ['-rlI', `${sandbox.root}/`, root]);
  t.is(
    left.stdout
      .split('\n')
      .filter((file) => !/\/logs\/|previous/.test(file))
      .join(),
    '',
  );
  t.false(existsSync(join(root, '.git2db/moving.json')));
  t.deepEqual(await wrongIn(registry), ['unmounted-worktree']);
  const again = await sandbox.open({ directory: root });
  t.deepEqual(again.notices, []);
  t.is(again.get(record.id).name, 'org/model');
});

test('a copy gets an id of its own, and touches nothing of its original', async (t) => {
  const sandbox = createRegistrySandbox(t);
  const { registry: original, outside } = await filled(sandbox);
  await sandbox.run('sync', []);
  const state = () =>
    sandbox
      .run('find', [sandbox.root, outside, '-type', 'f', '-printf', '%p %s %T@ %i\n'])
      .then(({ stdout }) =>
        stdout
          .split('\n')
          .filter((line) => !line.includes('/.git2db/lock/'))
          .sort()
          .join('\n'),
      );
  const root = sandbox.path('copy');
  await sandbox.runOk('cp', ['-a', sandbox.root, root]);
  const before = await state();
  const copy = await sandbox.open({ directory: root });
  t.not(copy.id, original.id);
  t.regex(copy.notices.join(), /is a copy of/);
  t.is(await state(), before);
  const path = copy.absolutePath(copy.get('org/model'));
  t.is(await sandbox.gitText(['config', 'xet.store'], { cwd: path }), join(root, '.git2db/xet'));
  t.is(
    await sandbox.gitText(['rev-parse', '--git-common-dir'], { cwd: join(root, 'worktrees/inside') }),
    join(path, '.git'),
  );
  t.is(
    await sandbox.gitText(['rev-parse', '--git-common-dir'], { cwd: outside }),
    join(sandbox.root, 'repos/org/model/.git'),
    'a worktree outside is the original’s',
  );
  t.is(copy.get('adopted').path, join(root, 'adopted'));
  const again = await sandbox.open({ directory: root });
  t.is(again.id, copy.id);
  t.deepEqual(again.notices, []);
  await copy.update('org/model', { metadata: { only: 'copy' } });
  t.is(original.get('org/model').metadata.only, undefined);
  t.deepEqual((await sandbox.open()).notices, []);
});

test('a registry whose old place is another registry now was moved, and one under another name was not', async (t) => {
  const sandbox = createRegistrySandbox(t);
  const { registry } = await filled(sandbox);
  const { id } = registry;
  const moved = sandbox.path('moved');
  renameSync(sandbox.root, moved);
  const fresh = await sandbox.open();
  t.not(fresh.id, id);
  t.is((await sandbox.open({ directory: moved })).id, id);
  // A symbolic link left at the old place is the same directory.
  const second = sandbox.path('second');
  renameSync(moved, second);
  symlinkSync(second, moved);
  const linked = await sandbox.open({ directory: second });
  t.is(linked.id, id);
  t.is(linked.root, second);
});

test('fitting that was interrupted is begun again, also when the registry has moved on meanwhile', async (t) => {
  const sandbox = createRegistrySandbox(t);
  await filled(sandbox);
  const [second, third] = [sandbox.path('second'), sandbox.path('third')];
  renameSync(sandbox.root, second);
  // Killed after one of the files was rewritten: the metadata still name the first place.
  const admin = join(second, 'repos/org/model/.git/worktrees/inside/gitdir');
  writeFileSync(admin, `${second}/worktrees/inside/.git\n`);
  writeFileSync(
    join(second, '.git2db/moving.json'),
    JSON.stringify({ version: 1, from: [sandbox.root, second], isCopy: false }),
  );
  renameSync(second, third);
  const registry = await sandbox.open({ directory: third });
  t.is(
    readFileSync(join(third, 'repos/org/model/.git/worktrees/inside/gitdir'), 'utf8'),
    `${third}/worktrees/inside/.git\n`,
  );
  t.is(await sandbox.gitText(['status', '--porcelain'], { cwd: join(third, 'worktrees/inside') }), '');
  t.false(exists(third, '.git2db/moving.json'));
  t.deepEqual(await wrongIn(registry), ['unmounted-worktree']);
  // Killed between the metadata and the end.
  writeFileSync(
    join(third, '.git2db/moving.json'),
    JSON.stringify({ version: 1, from: [second, third], isCopy: false }),
  );
  const again = await sandbox.open({ directory: third });
  t.is(again.id, registry.id);
  t.false(exists(third, '.git2db/moving.json'));
});

test('opened for reading only, a moved registry is read where it is, and left as it is', async (t) => {
  const sandbox = createRegistrySandbox(t);
  await filled(sandbox);
  const root = sandbox.path('moved');
  renameSync(sandbox.root, root);
  const reader = await sandbox.open({ directory: root, readOnly: true });
  t.regex(reader.notices.join(), /open it for writing/);
  t.is(reader.absolutePath(reader.get('org/model')), join(root, 'repos/org/model'));
  t.is(metadataOf(root).root, sandbox.root);
});

test(`with a worktree mounted a moved registry is read-only until it is unmounted and repaired${process.geteuid?.() === 0 ? '' : ' (skipped: mounting needs root)'}`, async (t) => {
  if (process.geteuid?.() !== 0) return t.pass();
  const sandbox = createRegistrySandbox(t);
  const { registry: before } = await filled(sandbox);
  const { id } = before;
  for (const name of ['lower', 'upper', 'work']) sandbox.write(`m/${name}/.keep`, '');
  const root = sandbox.path('moved');
  const merged = join(sandbox.root, 'worktrees', 'mounted');
  mkdirSync(merged);
  await sandbox.run('rm', [sandbox.path('m/work/.keep')]);
  const options = `lowerdir=${sandbox.path('m/lower')},upperdir=${sandbox.path('m/upper')},workdir=${sandbox.path('m/work')}`;
  const mounted = await sandbox.run('mount', ['-t', 'overlay', 'overlay', '-o', options, merged]);
  if (mounted.status !== 0) {
    t.log(`skipped: ${mounted.stderr}`);
    return t.pass();
  }
  t.teardown(() => sandbox.run('umount', [join(root, 'worktrees', 'mounted')]));
  renameSync(sandbox.root, root);
  const registry = await sandbox.open({ directory: root });
  t.regex(registry.notices.join(), /unmount, then repair/);
  t.is(registry.get('org/model').name, 'org/model');
  const model = await registry.repo('org/model');
  t.teardown(() => model[Symbol.asyncDispose]());
  for (const attempt of [
    () => registry.update('org/model', { trusted: true }),
    () => model.worktree().create({ ref: 'main', detach: true, driver: 'vfs' }),
    () => model.worktree().remove('inside', { force: true }),
    () => model.worktree().repair(),
    () => registry.remove('org/model', { force: true }),
    () => registry.reserveName('x'),
    () => registry.repair(),
  ]) {
    const error = await t.throwsAsync(async () => attempt(), { instanceOf: Git2dbError });
    t.is(error?.code, 'REGISTRY_MOVED');
  }
  t.deepEqual(await wrongIn(registry), ['moved'], 'no worktree is taken for an orphan');
  t.is(metadataOf(root).root, sandbox.root);
  await sandbox.runOk('umount', [join(root, 'worktrees', 'mounted')]);
  const { done } = await registry.repair();
  t.regex(done.join('\n'), /was moved from/);
  t.is(metadataOf(root).root, root);
  t.is(registry.id, id);
  t.true((await registry.update('org/model', { trusted: true })).trusted);
});

test('paths are rebased by whole components, once, and from every former place', (t) => {
  const rebase = { from: ['/a', '/b/c'], to: '/new' };
  for (const [path, expected] of [
    ['/a/repos/x', '/new/repos/x'],
    ['/a', '/new'],
    ['/ab/repos/x', '/ab/repos/x'],
    ['/b/c/worktrees/y', '/new/worktrees/y'],
    ['/b/x', '/b/x'],
    ['/new/repos/a', '/new/repos/a'],
    ['relative/a', 'relative/a'],
  ] as const) {
    t.is(rebasePath(path, rebase), expected);
    t.is(rebasePath(rebasePath(path, rebase), rebase), expected, 'again it changes nothing');
  }
  // Moved into itself, and out of itself.
  const deeper = { from: ['/a'], to: '/a/b' };
  t.is(rebasePath('/a/repos/x', deeper), '/a/b/repos/x');
  t.is(rebasePath('/a/b/repos/x', deeper), '/a/b/repos/x');
  const higher = { from: ['/a/b'], to: '/a' };
  t.is(rebasePath('/a/b/repos/x', higher), '/a/repos/x');
  t.is(rebasePath('/a/repos/x', higher), '/a/repos/x');
  t.is(
    rebaseText(`'/a/bin/filter' --x=/a/y z/a/q file:///a/r /a`, rebase),
    `'/new/bin/filter' --x=/new/y z/a/q file:///new/r /new`,
  );
});
