import { existsSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { setImmediate as turn } from 'node:timers/promises';
import test, { type ExecutionContext } from 'ava';
import { resolveConfig } from '../../src/registry/config.ts';
import { GitManager, type SignatureOptions } from '../../src/registry/git-manager.ts';
import { Operations } from '../../src/registry/operations.ts';
import { parseIdent } from '../../src/registry/signature.ts';
import { Git2dbError } from '../../src/xet/errors.ts';
import { createSandbox, isolateProcess, type Sandbox } from '../helpers/git-sandbox.ts';

isolateProcess();

interface Rig extends Sandbox {
  readonly manager: GitManager;
  readonly repository: string;
}

async function createRig(t: ExecutionContext, env: Readonly<Record<string, string>> = {}): Promise<Rig> {
  const sandbox = createSandbox(t);
  await sandbox.git(['init', '-q', 'repository']);
  sandbox.write('repository/file', 'one\n');
  await sandbox.git(['add', '-A'], { cwd: 'repository' });
  await sandbox.git(['commit', '-q', '-m', 'one'], { cwd: 'repository' });
  const whole = { ...sandbox.env, ...env };
  const { config } = resolveConfig({ cwd: sandbox.dir, env: whole });
  const manager = new GitManager({ config, env: whole });
  t.teardown(() => manager[Symbol.asyncDispose]());
  return { ...sandbox, manager, repository: sandbox.path('repository') };
}

/** A promise and the way to settle it. */
function gate(): { readonly opened: Promise<void>; open(): void } {
  let open = () => {};
  const opened = new Promise<void>((resolve) => {
    open = resolve;
  });
  return { opened, open };
}

test('no more operations run at once than there are slots, and who waits longest goes next', async (t) => {
  const operations = new Operations(2);
  const gates = [gate(), gate(), gate(), gate(), gate()];
  const started: number[] = [];
  const all = gates.map(({ opened }, i) =>
    operations.run(`operation ${i}`, async () => {
      started.push(i);
      await opened;
    }),
  );
  await turn();
  t.deepEqual(started, [0, 1]);
  t.deepEqual(
    operations.list().map(({ description, state }) => [description, state]),
    [
      ['operation 0', 'running'],
      ['operation 1', 'running'],
      ['operation 2', 'waiting'],
      ['operation 3', 'waiting'],
      ['operation 4', 'waiting'],
    ],
  );
  gates[1]!.open();
  await all[1];
  await turn();
  t.deepEqual(started, [0, 1, 2]);
  for (const { open } of gates) open();
  await Promise.all(all);
  t.deepEqual(started, [0, 1, 2, 3, 4]);
  t.deepEqual(operations.list(), []);
});

test('an operation that fails or is aborted leaves the list and its slot', async (t) => {
  const operations = new Operations(1);
  await t.throwsAsync(
    operations.run('fails', () => Promise.reject(new Error('no'))),
    { message: 'no' },
  );
  await t.throwsAsync(
    operations.run('throws', () => {
      throw new Error('at once');
    }),
    { message: 'at once' },
  );
  const { opened, open } = gate();
  const holding = operations.run('holds', () => opened);
  const controller = new AbortController();
  const waiting = operations.run('waits', async () => t.fail('it was aborted'), {
    signal: controller.signal,
  });
  const last = operations.run('last', async () => 'ran');
  controller.abort(new Error('enough'));
  await t.throwsAsync(waiting, { name: 'AbortError' });
  t.deepEqual(
    operations.list().map(({ description }) => description),
    ['holds', 'last'],
  );
  await t.throwsAsync(
    operations.run('late', async () => {}, { signal: controller.signal }),
    { name: 'AbortError' },
  );
  open();
  await holding;
  t.is(await last, 'ran');
  t.deepEqual(operations.list(), []);
});

test('an operation made of others shares its slot with them, and one it leaves behind needs its own', async (t) => {
  const operations = new Operations(1);
  const left = gate();
  let leftBehind: Promise<string> = Promise.resolve('');
  const result = await operations.run('outer', async () => {
    leftBehind = left.opened.then(() => operations.run('left behind', async () => 'done'));
    return operations.run('inner', async () => {
      t.deepEqual(
        operations.list().map(({ state }) => state),
        ['running', 'running'],
      );
      return 'inside';
    });
  });
  t.is(result, 'inside');
  const { opened, open } = gate();
  const holding = operations.run('holds', () => opened);
  left.open();
  await turn();
  t.deepEqual(
    operations.list().map(({ description, state }) => [description, state]),
    [
      ['holds', 'running'],
      ['left behind', 'waiting'],
    ],
  );
  open();
  await holding;
  t.is(await leftBehind, 'done');
});

test('a number of slots that is none is refused', (t) => {
  const { config } = resolveConfig({ cwd: process.cwd(), env: {} });
  for (const maxConcurrent of [0, -1, 1.5, Number.NaN]) {
    t.throws(() => new GitManager({ config, maxConcurrent }), { instanceOf: Git2dbError });
    t.throws(() => new GitManager({ config: { ...config, maxConcurrent } }), { instanceOf: Git2dbError });
  }
});

test.serial(
  'the manager of the process is one, and a broken configuration is an error instead of defaults',
  async (t) => {
    process.env.GIT2DB_MAX_CONCURRENT = 'many';
    t.teardown(() => delete process.env.GIT2DB_MAX_CONCURRENT);
    const manager = GitManager.global();
    t.throws(() => manager.config, { message: /GIT2DB_MAX_CONCURRENT/ });
    await t.throwsAsync(
      manager.run('nothing', async () => {}),
      { message: /GIT2DB_MAX_CONCURRENT/ },
    );
    process.env.GIT2DB_MAX_CONCURRENT = '3';
    t.is(GitManager.global(), manager);
    t.is(manager.config.maxConcurrent, 3);
    await manager[Symbol.asyncDispose]();
    t.not(GitManager.global(), manager);
  },
);

test('a repository that is open is found again by any way to it, until another takes its place', async (t) => {
  const { manager, repository, path, git } = await createRig(t);
  symlinkSync(repository, path('link'));
  const first = await manager.repository(repository);
  t.is((await manager.getRepository(path('link'))).place, first.place);
  t.not((await manager.repository(repository, { trusted: true })).place, first.place);
  t.like(manager.cache.stats(), { places: 2, hits: 1, misses: 2 });
  renameSync(repository, path('moved'));
  await git(['init', '-q', 'repository']);
  const second = await manager.repository(repository);
  t.not(second.place, first.place);
  rmSync(repository, { recursive: true });
  const error = await t.throwsAsync(manager.repository(repository), { instanceOf: Git2dbError });
  t.is(error.code, 'NOT_A_REPOSITORY');
  await manager.cache.clear();
  t.like(manager.cache.stats(), { places: 0, configurations: 0, refSnapshots: 0 });
});

test('twenty askers at once get one open place', async (t) => {
  const { manager, repository } = await createRig(t);
  const found = await Promise.all(Array.from({ length: 20 }, () => manager.repository(repository)));
  t.is(new Set(found.map(({ place }) => place)).size, 1);
});

test('the parsed configuration is kept, and what another process writes shows at the next call', async (t) => {
  const { manager, repository, git, home } = await createRig(t);
  const { place } = await manager.repository(repository);
  t.is((await manager.known.config(place)).get('user.name'), 'Sandbox');
  for (let i = 0; i < 5; i++) {
    await git(['config', 'user.name', `Local ${i}`], { cwd: repository });
    t.is((await manager.known.config(place)).get('user.name'), `Local ${i}`);
  }
  await git(['config', '--unset', 'user.name'], { cwd: repository });
  await git(['config', '--global', 'user.name', 'Global']);
  t.true(existsSync(`${home}/.gitconfig`));
  t.is((await manager.known.config(place)).get('user.name'), 'Global');
  await new Promise((resolve) => setTimeout(resolve, 60)); // Files younger than that are looked at again.
  await manager.known.config(place);
  const { hits } = manager.cache.stats();
  await manager.known.config(place);
  t.is(manager.cache.stats().hits, hits + 1);
});

test('a snapshot of refs is kept, and no change of another process is missed', async (t) => {
  const { manager, repository, git, gitText } = await createRig(t);
  const run = { cwd: repository };
  const { place } = await manager.repository(repository);
  const expectAll = async (what: string) => {
    const listed = await gitText(['for-each-ref', '--format=%(refname) %(objectname)'], run);
    const { refs } = await manager.known.refs(place);
    t.is([...refs].map((pair) => pair.join(' ')).join('\n'), listed, what);
  };
  await expectAll('at first');
  await git(['branch', 'a'], run);
  await expectAll('a new branch');
  await git(['branch', 'deep/er/b'], run);
  await expectAll('a branch in new directories');
  await git(['pack-refs', '--all', '--prune'], run);
  await expectAll('packed');
  await git(['commit', '-q', '--allow-empty', '-m', 'two'], run);
  await expectAll('a commit');
  await git(['branch', '-D', 'a'], run);
  await expectAll('a branch less');
  for (let i = 0; i < 10; i++) {
    await git(['update-ref', 'refs/heads/flip', i % 2 === 0 ? 'main' : 'main~1'], run);
    await expectAll(`change ${i}`);
  }
  t.is((await manager.known.refs(place)).head, 'refs/heads/main');
  await git(['checkout', '-q', '--detach'], run);
  t.is((await manager.known.refs(place)).head, undefined);
  await new Promise((resolve) => setTimeout(resolve, 60)); // As above.
  await manager.known.refs(place);
  const { hits } = manager.cache.stats();
  await manager.known.refs(place);
  t.is(manager.cache.stats().hits, hits + 1);
});

test('a manager with open repositories keeps no process alive', async (t) => {
  const sandbox = createSandbox(t);
  await sandbox.git(['init', '-q', 'repository']);
  await sandbox.git(['commit', '-q', '--allow-empty', '-m', 'one'], { cwd: 'repository' });
  const module = new URL('../../src/registry/git-manager.js', import.meta.url).href;
  const code = `
    const { GitManager } = await import(${JSON.stringify(module)});
    const { place } = await GitManager.global().repository('repository');
    const commit = await place.objects.read('HEAD');
    process.stdout.write(commit.type);`;
  const { stdout, status, stderr } = await sandbox.run(process.execPath, ['--input-type=module', '-e', code]);
  t.is(status, 0, stderr);
  t.is(stdout, 'commit');
});

interface SignatureCase {
  readonly config?: Readonly<Record<string, string>>;
  readonly env?: Readonly<Record<string, string>>;
  readonly options?: SignatureOptions;
  readonly expected: string | RegExp;
}

const NOBODY = { GIT_CONFIG_GLOBAL: '/dev/null' };
const SIGNATURES: Readonly<Record<string, SignatureCase>> = {
  'user.* of the configuration': { expected: 'Sandbox <sandbox@example.invalid>' },
  'author.* before user.*': {
    config: { 'author.name': 'Writer', 'author.email': 'writer@example.invalid' },
    expected: 'Writer <writer@example.invalid>',
  },
  'committer.* for a committer': {
    config: { 'author.name': 'Writer', 'committer.name': 'Keeper' },
    options: { role: 'committer' },
    expected: 'Keeper <sandbox@example.invalid>',
  },
  'variables before the configuration': {
    env: { GIT_AUTHOR_NAME: 'Variable', GIT_COMMITTER_NAME: 'Other' },
    expected: 'Variable <sandbox@example.invalid>',
  },
  'options before everything': {
    env: { GIT_AUTHOR_NAME: 'Variable' },
    options: { name: 'Option', email: 'option@example.invalid' },
    expected: 'Option <option@example.invalid>',
  },
  'our configuration where git knows nobody': {
    env: { ...NOBODY, GIT2DB_GIT_NAME: 'Ours', GIT2DB_GIT_EMAIL: 'ours@example.invalid' },
    expected: 'Ours <ours@example.invalid>',
  },
  'our configuration for the part that git does not know': {
    config: { 'user.name': 'Theirs' },
    env: { ...NOBODY, GIT2DB_GIT_NAME: 'Ours', GIT2DB_GIT_EMAIL: 'ours@example.invalid' },
    expected: 'Theirs <ours@example.invalid>',
  },
  'git before our configuration': {
    env: { GIT2DB_GIT_NAME: 'Ours', GIT2DB_GIT_EMAIL: 'ours@example.invalid' },
    expected: 'Sandbox <sandbox@example.invalid>',
  },
  'EMAIL, where nothing else is said': {
    config: { 'user.name': 'Theirs' },
    env: { ...NOBODY, EMAIL: 'mail@example.invalid' },
    expected: 'Theirs <mail@example.invalid>',
  },
  'nobody, where guessing is forbidden': {
    config: { 'user.useConfigOnly': 'true' },
    env: { ...NOBODY, EMAIL: 'mail@example.invalid' },
    expected: /nobody says who makes commits .*: set user\.name and user\.email/,
  },
  'no name with an angle bracket': {
    options: { name: 'a <b>' },
    expected: /expected as name text in one line/,
  },
  'no empty address': { options: { email: ' ' }, expected: /expected as email/ },
};

for (const [title, { config = {}, env = {}, options = {}, expected }] of Object.entries(SIGNATURES)) {
  test(`a signature is ${title}`, async (t) => {
    const { manager, repository, git } = await createRig(t, env);
    for (const [key, value] of Object.entries(config)) await git(['config', key, value], { cwd: repository });
    const asked = manager.signature({ cwd: repository, ...options });
    if (expected instanceof RegExp) {
      await t.throwsAsync(asked, { instanceOf: Git2dbError, message: expected });
      return;
    }
    const { name, email, timestamp, timezone } = await asked;
    t.is(`${name} <${email}>`, expected);
    t.true(timestamp > 1.6e9);
    t.is(timezone, '+0000');
  });
}

test('a signature has the date of its variable, and git writes the same one', async (t) => {
  const env = { GIT_AUTHOR_DATE: '1112354055 +0200' };
  const { manager, repository, git, gitText } = await createRig(t, env);
  const { name, email, timestamp, timezone } = await manager.signature({ cwd: repository });
  await git(['commit', '-q', '--allow-empty', '-m', 'x'], { cwd: repository, env });
  const written = await gitText(['log', '-1', '--format=%an <%ae> %ad', '--date=raw'], { cwd: repository });
  t.is(`${name} <${email}> ${timestamp} ${timezone}`, written);
  t.is((await manager.createSignature('A', 'a@example.invalid')).name, 'A');
});

test('an identity is taken apart, and what is none is an error', (t) => {
  const expected = { name: 'A U Thor', email: 'a@b', timestamp: 12, timezone: '-0130' };
  t.deepEqual(parseIdent('A U Thor <a@b> 12 -0130\n'), expected);
  t.deepEqual(parseIdent('<a@b> 12 -0130'), { ...expected, name: '' });
  for (const text of ['', 'A <a@b>', 'A <B <a@b> 12 -0130', 'A <a@b> x +0000']) {
    t.throws(() => parseIdent(text), { instanceOf: Git2dbError }, text);
  }
});

test('worktrees of a repository in no registry are made, listed and removed', async (t) => {
  const { manager, repository, path } = await createRig(t);
  writeFileSync(`${repository}/untracked`, 'x');
  const worktree = await manager.createWorktree(repository, path('tree'), 'HEAD', {
    driver: 'vfs',
    newBranch: 'topic',
  });
  t.is(worktree.path, path('tree'));
  t.deepEqual(
    (await manager.listWorktrees(repository)).map((each) => each.path),
    [path('tree')],
  );
  writeFileSync(path('tree', 'untracked'), 'x');
  const refused = await t.throwsAsync(manager.removeWorktree(path('tree')), { instanceOf: Git2dbError });
  t.is(refused.code, 'WORKTREE_DIRTY');
  await manager.removeWorktree(path('tree'), { force: true });
  t.false(existsSync(path('tree')));
  t.deepEqual(await manager.listWorktrees(repository), []);
  t.deepEqual(manager.operations(), []);
});
