import { chmodSync, mkdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import type { Git2DB } from '../../src/registry/git2db.ts';
import type { RemovalReport } from '../../src/registry/remove.ts';
import { Git2dbError } from '../../src/xet/errors.ts';
import { createRegistrySandbox, exists, type RegistrySandbox } from './registry-sandbox.ts';

/** A registry with a clone named `model`, all of whose commits its remote has. */
async function cloned(t: Parameters<typeof createRegistrySandbox>[0]) {
  const sandbox = createRegistrySandbox(t);
  const registry = await sandbox.open();
  const source = await sandbox.repository('source');
  const record = await registry.clone(source, { name: 'org/model' });
  const path = registry.absolutePath(record);
  const git = (...args: string[]) => sandbox.gitText(args, { cwd: path });
  const write = (file: string, text: string) => writeFileSync(join(path, file), text);
  return { sandbox, registry, source, record, path, git, write };
}

/** Every reason is found, by dry run and by refusal, and nothing has been touched. */
async function refuses(
  t: Parameters<typeof createRegistrySandbox>[0],
  registry: Git2DB,
  kinds: Record<string, readonly string[]>,
) {
  const before = registry.generation;
  const plan = await registry.remove('org/model', { dryRun: true });
  const found = Object.fromEntries(plan.reasons.map(({ kind, items }) => [kind, items]));
  t.deepEqual(found, kinds as Record<string, string[]>);
  t.false(plan.removed);
  t.true(plan.dryRun);
  const error = await t.throwsAsync(registry.remove('org/model'), { instanceOf: Git2dbError });
  t.is(error?.code, 'REFUSED');
  const report = error?.data.report as RemovalReport;
  t.deepEqual(report.reasons, plan.reasons);
  for (const { message } of plan.reasons) t.true(error?.message.includes(message));
  t.is(registry.generation, before);
  t.true(exists(registry.absolutePath(registry.get('org/model')), '.git'));
}

test('a clone with nothing of its own is removed with all that was made for it', async (t) => {
  const { sandbox, registry, record, path, source } = await cloned(t);
  const plan = await registry.remove(record.id, { dryRun: true });
  t.like(plan, {
    id: record.id,
    name: 'org/model',
    path,
    adopted: false,
    removed: false,
    reasons: [],
    deletes: [path],
  });
  const report = await registry.remove('org/model');
  t.true(report.removed);
  t.false(exists(path));
  t.false(exists(sandbox.root, 'repos/org'), 'a directory that is empty now goes too');
  t.deepEqual(registry.list(), []);
  t.deepEqual(await registry.verify(), []);
  const found = await sandbox.run('grep', ['-rl', '--include=*', record.id, join(sandbox.root, 'repos')]);
  t.is(found.stdout, '');
  t.true(exists(source, '.git'));
  await t.throwsAsync(registry.remove('org/model'), { code: 'NOT_FOUND' });
  t.is((await registry.clone(source, { name: 'org/model' })).name, 'org/model');
});

test('modified, staged, deleted and untracked files stand in the way; ignored ones do not', async (t) => {
  const { registry, git, write } = await cloned(t);
  write('.git/info/exclude', 'ignored\n');
  write('ignored', 'x');
  t.deepEqual((await registry.remove('org/model', { dryRun: true })).reasons, []);
  write('new file\n', 'x');
  await refuses(t, registry, { untracked: ['new file\n'] });
  await git('add', 'new file\n');
  write('file', 'changed');
  await refuses(t, registry, { modified: ['file', 'new file\n'] });
});

test('a change that git was told not to look at stands in the way', async (t) => {
  const { registry, git, write } = await cloned(t);
  await git('update-index', '--assume-unchanged', 'file');
  t.deepEqual((await registry.remove('org/model', { dryRun: true })).reasons, []);
  write('file', 'changed');
  t.is(await git('status', '--porcelain'), '');
  await refuses(t, registry, { modified: ['file'] });
  await git('update-index', '--no-assume-unchanged', 'file');
  await git('update-index', '--skip-worktree', 'file');
  await refuses(t, registry, { modified: ['file'] });
  t.is(await git('ls-files', '-v', 'file'), 'S file', 'the index was not changed');
});

test('commits that no remote-tracking ref has stand in the way: on branches, tags, notes, a detached HEAD', async (t) => {
  const { registry, git } = await cloned(t);
  await git('commit', '-q', '--allow-empty', '-m', 'local');
  await refuses(t, registry, { unpushed: ['refs/heads/main'] });
  await git('push', '-q', 'origin', 'HEAD:refs/heads/other');
  t.deepEqual((await registry.remove('org/model', { dryRun: true })).reasons, []);
  await git('branch', 'side', 'HEAD~1');
  await git('checkout', '-q', '--detach');
  await git('commit', '-q', '--allow-empty', '-m', 'detached');
  await refuses(t, registry, { unpushed: ['HEAD'] });
  await git('tag', '-a', '-m', 'x', 'v1');
  await refuses(t, registry, { unpushed: ['refs/tags/v1'] });
  await git('checkout', '-q', 'main');
  await git('notes', 'add', '-m', 'note');
  await refuses(t, registry, { unpushed: ['refs/notes/commits', 'refs/tags/v1'] });
});

test('without a remote every commit stands in the way, and a repository without commits goes', async (t) => {
  const { registry, git, sandbox } = await cloned(t);
  await git('remote', 'remove', 'origin');
  await refuses(t, registry, { unpushed: ['refs/heads/main'] });
  // Remote-tracking refs that belong to no remote prove nothing.
  await git('update-ref', 'refs/remotes/gone/main', 'HEAD');
  await refuses(t, registry, { unpushed: ['refs/heads/main'] });
  const empty = await sandbox.repository('empty.git', { bare: true });
  await registry.clone(empty, { name: 'empty' });
  t.true((await registry.remove('empty')).removed);
});

test('stashes, an operation in progress and a running git stand in the way', async (t) => {
  const { registry, git, write, path, sandbox } = await cloned(t);
  write('file', 'one');
  await git('stash', '-q');
  write('file', 'two');
  await git('stash', '-q');
  await refuses(t, registry, { stash: ['stash@{0}', 'stash@{1}'] });
  await git('stash', 'clear');
  write('.git/index.lock', '');
  await refuses(t, registry, { operation: [join(path, '.git/index.lock')] });
  rmSync(join(path, '.git/index.lock'));
  await git('checkout', '-q', '-b', 'side');
  write('file', 'side');
  await git('commit', '-q', '-am', 'side');
  await git('push', '-q', 'origin', 'side');
  await git('checkout', '-q', 'main');
  write('file', 'main');
  await git('commit', '-q', '-am', 'main');
  await git('push', '-q', 'origin', 'main:elsewhere');
  await sandbox.run('git', ['merge', 'side'], { cwd: path });
  await refuses(t, registry, { operation: ['merge'], modified: ['file'] });
});

test("a submodule's own commits and stashes stand in the way", async (t) => {
  const { registry, git, path, sandbox } = await cloned(t);
  const library = await sandbox.repository('library');
  await git('-c', 'protocol.file.allow=always', 'submodule', 'add', '-q', library, 'lib');
  await git('commit', '-q', '-m', 'submodule');
  await git('push', '-q', 'origin', 'HEAD:refs/heads/with-submodule');
  t.deepEqual((await registry.remove('org/model', { dryRun: true })).reasons, []);
  const inner = { cwd: join(path, 'lib') };
  await sandbox.git(['commit', '-q', '--allow-empty', '-m', 'inner'], inner);
  await sandbox.git(['branch', 'kept'], inner);
  await sandbox.git(['reset', '-q', '--hard', 'HEAD~1'], inner);
  await refuses(t, registry, { unpushed: ['refs/heads/kept'] });
});

test('worktrees stand in the way: changes in one, and one that git2db did not make', async (t) => {
  const { registry, git, sandbox, path } = await cloned(t);
  const linked = sandbox.path('linked');
  await git('worktree', 'add', '-q', '--detach', linked);
  writeFileSync(join(linked, 'precious'), 'x');
  const plan = await registry.remove('org/model', { dryRun: true });
  t.deepEqual(plan.reasons.map(({ kind }) => kind).sort(), ['untracked', 'worktree']);
  t.deepEqual(plan.keeps, [linked]);
  await t.throwsAsync(registry.remove('org/model'), { code: 'REFUSED' });
  const report = await registry.remove('org/model', { force: true });
  t.true(report.removed);
  t.is(readFileSync(join(linked, 'precious'), 'utf8'), 'x');
  t.false(exists(path));
});

test('forced, a repository goes with all reasons told, and nothing beside it', async (t) => {
  const { registry, git, write, path, sandbox, source } = await cloned(t);
  await git('commit', '-q', '--allow-empty', '-m', 'local');
  write('new', 'x');
  mkdirSync(join(path, 'locked'));
  write('locked/file', 'x');
  chmodSync(join(path, 'locked'), 0o500);
  sandbox.write('outside/precious', 'x');
  symlinkSync(sandbox.path('outside'), join(path, 'link'));
  const other = await registry.clone(source, { name: 'org/other' });
  const report = await registry.remove('org/model', { force: true });
  t.true(report.removed);
  t.deepEqual(report.reasons.map(({ kind }) => kind).sort(), ['unpushed', 'untracked']);
  t.false(exists(path));
  t.true(exists(sandbox.path('outside/precious')));
  t.true(exists(registry.absolutePath(other), '.git'));
  t.deepEqual(await registry.verify(), []);
});

test('an adopted repository is only forgotten, force or not', async (t) => {
  const sandbox = createRegistrySandbox(t);
  const registry = await sandbox.open();
  for (const [name, force] of [
    ['a', false],
    ['b', true],
  ] as const) {
    const path = await sandbox.repository(name);
    writeFileSync(join(path, 'untracked'), 'x');
    await sandbox.git(['worktree', 'add', '-q', '-b', 'x', sandbox.path(`${name}-linked`)], { cwd: path });
    const before = (await sandbox.run('find', [path, '-type', 'f', '-printf', '%p %s %T@\n'])).stdout;
    await registry.register({ path });
    const report = await registry.remove(name, { force });
    t.like(report, { removed: true, adopted: true, reasons: [], deletes: [], keeps: [path] });
    t.is((await sandbox.run('find', [path, '-type', 'f', '-printf', '%p %s %T@\n'])).stdout, before);
  }
  // Also where it lies in the directory of the clones.
  const inside = join(sandbox.root, 'repos', 'mine');
  await sandbox.git(['init', '-q', inside]);
  await registry.register({ name: 'mine' });
  t.true((await registry.remove('mine', { force: true })).removed);
  t.true(exists(inside, '.git'));
});

test('a repository whose directory is gone is taken out; one that is none any more only by force', async (t) => {
  const { registry, path, source } = await cloned(t);
  rmSync(join(path, '.git', 'HEAD'));
  await t.throwsAsync(registry.remove('org/model'), { code: 'REFUSED', message: /cannot be judged/ });
  t.true((await registry.remove('org/model', { force: true })).removed);
  t.false(exists(path));
  const other = await registry.clone(source, { name: 'other' });
  rmSync(registry.absolutePath(other), { recursive: true });
  const report = await registry.remove('other');
  t.true(report.removed);
  t.regex(report.notes[0] ?? '', /gone already/);
});

test('a link in the way leads no removal out of the registry', async (t) => {
  const { sandbox, registry } = await cloned(t);
  const outside = sandbox.path('outside');
  await sandbox.run('mv', [join(sandbox.root, 'repos/org'), outside]);
  symlinkSync(outside, join(sandbox.root, 'repos/org'));
  for (const force of [false, true]) {
    await t.throwsAsync(registry.remove('org/model', { force }), {
      code: 'REFUSED',
      message: /leads out of the registry/,
    });
  }
  t.true(exists(outside, 'model/.git'));
  rmSync(join(sandbox.root, 'repos/org'));
  mkdirSync(join(sandbox.root, 'repos/org'));
  symlinkSync(join(outside, 'model'), join(sandbox.root, 'repos/org/model'));
  await registry.remove('org/model', { force: true });
  t.true(exists(outside, 'model/.git'), 'the link was removed, and not what it leads to');
  t.false(exists(sandbox.root, 'repos/org/model'));
});

test('of removals at once one removes, and none fails', async (t) => {
  const { sandbox, registry } = await cloned(t);
  const other = await sandbox.open();
  const outcomes = await Promise.allSettled([
    registry.remove('org/model'),
    other.remove('org/model'),
    registry.remove('org/model'),
  ]);
  t.true(outcomes.some(({ status }) => status === 'fulfilled'));
  for (const outcome of outcomes) {
    if (outcome.status === 'rejected') t.is((outcome.reason as Git2dbError).code, 'NOT_FOUND');
  }
  t.deepEqual(registry.list(), []);
  t.deepEqual(await registry.verify(), []);
});

async function killedRemoval(
  sandbox: RegistrySandbox,
  registry: Git2DB,
  path: string,
  isCommitted: boolean,
): Promise<void> {
  const trash = join(sandbox.root, '.git2db/trash');
  const directory = join(sandbox.root, '.git2db/journal/feed');
  const { id } = registry.get('org/model');
  mkdirSync(directory, { recursive: true });
  mkdirSync(trash, { recursive: true });
  const journal = {
    version: 1,
    removes: [id],
    committed: false,
    undo: [{ do: 'rename', from: '.git2db/trash/feed-0', to: 'repos/org/model' }],
    finish: [{ do: 'delete', path: '.git2db/trash/feed-0' }],
  };
  const bootId = (await sandbox.run('cat', ['/proc/sys/kernel/random/boot_id'])).stdout.trim();
  writeFileSync(join(directory, 'journal.json'), JSON.stringify(journal));
  writeFileSync(
    join(directory, 'writer.json'),
    JSON.stringify({ pid: 1, pidNamespace: '', bootId, socket: true }),
  );
  await sandbox.run('mv', [path, join(trash, 'feed-0')]);
  if (!isCommitted) return;
  const file = join(sandbox.root, '.git2db/metadata.json');
  const metadata = JSON.parse(readFileSync(file, 'utf8'));
  writeFileSync(file, JSON.stringify({ ...metadata, generation: 9, transaction: 'feed', repositories: [] }));
}

test('a removal that was killed before its commit is done by the next call', async (t) => {
  const { sandbox, registry, record, path } = await cloned(t);
  await killedRemoval(sandbox, registry, path, false);
  const report = await registry.remove(record.id);
  t.true(report.removed);
  t.false(exists(path));
  t.deepEqual(registry.list(), []);
  t.deepEqual(await registry.verify(), []);
});

test('a removal that was killed after its commit is completed by the next call', async (t) => {
  const { sandbox, registry, record, path } = await cloned(t);
  await killedRemoval(sandbox, registry, path, true);
  t.true((await registry.verify()).some(({ code }) => code === 'trash' || code === 'unfinished-change'));
  const report = await registry.remove(record.id);
  t.true(report.removed);
  t.regex(report.notes[0] ?? '', /completed/);
  t.false(exists(sandbox.root, '.git2db/trash/feed-0'));
  t.deepEqual(await registry.verify(), []);
});
