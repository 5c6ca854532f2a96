import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import test, { type ExecutionContext } from 'ava';
import type { CloneOptions, CloneProgress } from '../../src/registry/clone.ts';
import { resolveConfig } from '../../src/registry/config.ts';
import { filterCommand } from '../../src/registry/filter-program.ts';
import { GitManager } from '../../src/registry/git-manager.ts';
import { Git2DB } from '../../src/registry/git2db.ts';
import { Git2dbError } from '../../src/xet/errors.ts';
import { createSandbox, isolateProcess, type Sandbox } from '../helpers/git-sandbox.ts';
import { createXetSandbox, randomBytes } from '../helpers/xet-sandbox.ts';
import { startHttpGit } from './http-git.ts';

isolateProcess();

interface Rig extends Sandbox {
  readonly registry: Git2DB;
  /** What lies in `repos`, hidden things too. */
  repos(): string[];
  /** git in a clone. */
  in(name: string, args: readonly string[]): Promise<string>;
}

async function openRegistry(
  t: ExecutionContext,
  sandbox: Sandbox,
  directory = sandbox.path('registry'),
): Promise<Git2DB> {
  const env = { ...sandbox.env };
  const { config } = resolveConfig({ cwd: sandbox.dir, env });
  const manager = new GitManager({ config, env });
  const registry = await Git2DB.open(directory, { config, manager, env });
  t.teardown(async () => {
    await registry[Symbol.asyncDispose]();
    await manager[Symbol.asyncDispose]();
  });
  return registry;
}

async function createRig(t: ExecutionContext, given: Sandbox = createSandbox(t)): Promise<Rig> {
  const registry = await openRegistry(t, given);
  return {
    ...given,
    registry,
    repos: () =>
      existsSync(join(registry.root, 'repos')) ? readdirSync(join(registry.root, 'repos')).sort() : [],
    in: (name, args) => given.gitText(args, { cwd: join(registry.root, 'repos', name) }),
  };
}

/** Five commits on main, a branch with a slash beside it, a light and an annotated tag, a ref of no kind. */
async function createSource(sandbox: Sandbox, name = 'source', format = 'sha1'): Promise<string> {
  await sandbox.git(['init', '-q', `--object-format=${format}`, name]);
  const run = { cwd: name };
  for (let i = 1; i <= 5; i++) {
    sandbox.write(`${name}/file`, `file ${i}\n`);
    sandbox.write(`${name}/docs/${i}`, `${i}\n`);
    await sandbox.git(['add', '-A'], run);
    await sandbox.git(['commit', '-q', '-m', `commit ${i}`], run);
  }
  await sandbox.git(['branch', 'feature/x', 'HEAD~2'], run);
  await sandbox.git(['tag', 'light', 'HEAD~1'], run);
  await sandbox.git(['tag', '-a', '-m', 'annotated', 'annotated', 'HEAD~3'], run);
  await sandbox.git(['update-ref', 'refs/pull/1/head', 'HEAD~4'], run);
  return sandbox.path(name);
}

async function oidOf(sandbox: Sandbox, source: string, ref: string): Promise<string> {
  return sandbox.gitText(['rev-parse', ref], { cwd: source });
}

async function codeOf(t: ExecutionContext, promise: PromiseLike<unknown>): Promise<string> {
  const error = await t.throwsAsync(Promise.resolve(promise), { instanceOf: Git2dbError });
  return error.code;
}

test('a clone is what git clone makes: refs, HEAD, settings, files, a clean status', async (t) => {
  const rig = await createRig(t);
  const source = await createSource(rig);
  const record = await rig.registry.clone(source);
  t.like(record, {
    name: 'source',
    url: source,
    bare: false,
    trusted: false,
    adopted: false,
    trackingRef: 'origin/main',
  });
  await rig.git(['clone', '-q', `file://${source}`, 'twin']);
  const ask = async (args: readonly string[]) => [
    await rig.in('source', args),
    await rig.gitText(args, { cwd: 'twin' }),
  ];
  for (const args of [
    ['for-each-ref'],
    ['symbolic-ref', 'HEAD'],
    ['symbolic-ref', 'refs/remotes/origin/HEAD'],
    ['status', '--porcelain', '--branch'],
    ['ls-files', '-s'],
    ['config', 'remote.origin.fetch'],
    ['config', '--get-regexp', '^branch'],
    ['rev-parse', 'HEAD@{0}'],
  ]) {
    const [ours, theirs] = await ask(args);
    t.is(ours, theirs, args.join(' '));
  }
  t.is(await rig.in('source', ['fsck', '--no-dangling']), '');
  t.false(existsSync(join(rig.registry.root, 'repos', 'source', '.git', 'FETCH_HEAD')));
  t.deepEqual(rig.repos(), ['source']);
});

const CHECKOUTS: readonly (readonly [
  title: string,
  options: CloneOptions,
  commit: string,
  head: string | undefined,
])[] = [
  ['a branch with a slash', { branch: 'feature/x' }, 'feature/x', 'refs/heads/feature/x'],
  ['a branch, by ref', { ref: 'feature/x' }, 'feature/x', 'refs/heads/feature/x'],
  ['a branch, by its full name', { ref: 'refs/heads/feature/x' }, 'feature/x', 'refs/heads/feature/x'],
  ['a tag', { tag: 'light' }, 'light', undefined],
  ['an annotated tag', { ref: 'annotated' }, 'annotated^{commit}', undefined],
  ['a ref that is neither', { ref: 'refs/pull/1/head' }, 'refs/pull/1/head', undefined],
];

for (const [title, options, commit, head] of CHECKOUTS) {
  for (const [kind, more] of [
    ['whole', {}],
    ['with one commit of history', { depth: 1 }],
    ['bare', { bare: true }],
  ] as const) {
    test(`${title} can be checked out, ${kind}, and no other branch appears`, async (t) => {
      const rig = await createRig(t);
      const source = await createSource(rig);
      await rig.registry.clone(`file://${source}`, { name: 'x', ...options, ...more });
      t.is(await rig.in('x', ['rev-parse', 'HEAD']), await oidOf(rig, source, commit));
      const { stdout } = await rig.git(['symbolic-ref', '-q', 'HEAD'], {
        cwd: join(rig.registry.root, 'repos', 'x'),
        okStatus: [0, 1],
      });
      t.is(stdout.trim() === '' ? undefined : stdout.trim(), head);
      const heads = await rig.in('x', ['for-each-ref', '--format=%(refname)', 'refs/heads']);
      if (kind !== 'bare') t.is(heads, head ?? '');
      if ('depth' in more) t.is(await rig.in('x', ['rev-list', '--count', 'HEAD']), '1');
    });
  }
}

test('an object id can be checked out, whole or by its beginning, also with a part of the history', async (t) => {
  const rig = await createRig(t);
  const source = await createSource(rig);
  const oid = await oidOf(rig, source, 'main~2');
  await rig.registry.clone(`file://${source}`, { name: 'whole', ref: oid });
  await rig.registry.clone(`file://${source}`, { name: 'short', ref: oid.slice(0, 10) });
  await rig.registry.clone(`file://${source}`, { name: 'deep', ref: oid, depth: 1 });
  for (const name of ['whole', 'short', 'deep']) t.is(await rig.in(name, ['rev-parse', 'HEAD']), oid, name);
  t.is(await rig.in('deep', ['rev-list', '--count', '--all', 'HEAD']), '1');
  t.is(
    await codeOf(t, rig.registry.clone(`file://${source}`, { name: 'no', ref: oid.slice(0, 10), depth: 1 })),
    'REF_INVALID',
  );
  t.is(
    await codeOf(t, rig.registry.clone(`file://${source}`, { name: 'no', ref: '0'.repeat(39).concat('1') })),
    'REF_INVALID',
  );
  t.deepEqual(rig.repos(), ['deep', 'short', 'whole']);
});

test('a branch that looks like an object id is a branch', async (t) => {
  const rig = await createRig(t);
  const source = await createSource(rig);
  await rig.git(['branch', 'facade1', 'main~1'], { cwd: source });
  await rig.registry.clone(source, { name: 'x', ref: 'facade1' });
  t.is(await rig.in('x', ['symbolic-ref', 'HEAD']), 'refs/heads/facade1');
});

test('depth counts commits, shallow(false) takes it back, shallowSince is a date', async (t) => {
  const rig = await createRig(t);
  const source = await createSource(rig);
  const url = `file://${source}`;
  await rig.registry.clone(url).name('two').depth(2).exec();
  await rig.registry.clone(url).name('one').branch('feature/x').shallow();
  await rig.registry.clone(url).name('all').depth(2).shallow(false);
  await rig.registry.clone(source).name('by-path').depth(1);
  t.is(await rig.in('by-path', ['rev-list', '--count', 'HEAD']), '1');
  await rig.registry.clone(url).name('since').shallowSince('2001-01-01');
  const count = (name: string) => rig.in(name, ['rev-list', '--count', 'HEAD']);
  t.deepEqual(
    [await count('two'), await count('one'), await count('all'), await count('since')],
    ['2', '1', '5', '5'],
  );
  t.is(await rig.in('two', ['config', 'remote.origin.fetch']), '+refs/heads/main:refs/remotes/origin/main');
  t.is(await rig.in('two', ['rev-parse', '--is-shallow-repository']), 'true');
});

test('a sparse clone has the top and the directories asked for, and git knows', async (t) => {
  const rig = await createRig(t);
  const source = await createSource(rig);
  rig.write('source/other/file', 'x');
  await rig.git(['add', '-A'], { cwd: source });
  await rig.git(['commit', '-q', '-m', 'other'], { cwd: source });
  await rig.registry.clone(source, { name: 'top', sparse: true });
  await rig.registry.clone(source, { name: 'docs', sparse: ['docs/'] });
  const files = (name: string) =>
    readdirSync(join(rig.registry.root, 'repos', name))
      .filter((file) => file !== '.git')
      .sort();
  t.deepEqual(files('top'), ['file']);
  t.deepEqual(files('docs'), ['docs', 'file']);
  t.is(await rig.in('docs', ['sparse-checkout', 'list']), 'docs');
  t.is(await rig.in('docs', ['status', '--porcelain']), '');
});

test('a partial clone has what its filter leaves, and gets the rest when it is needed', async (t) => {
  const rig = await createRig(t);
  const source = await createSource(rig);
  await rig.git(['config', 'uploadpack.allowFilter', 'true'], { cwd: source });
  await rig.registry.clone(`file://${source}`, { name: 'x', filter: 'blob:none' });
  const missing = await rig.in('x', ['rev-list', '--objects', '--all', '--missing=print']);
  t.regex(missing, /^\?/m);
  t.is(await rig.in('x', ['config', 'remote.origin.partialclonefilter']), 'blob:none');
  t.is(await rig.in('x', ['show', 'HEAD~4:file']), 'file 1');
});

test('empty repositories, SHA-256, a detached HEAD and one that leads nowhere can be cloned', async (t) => {
  const rig = await createRig(t);
  await rig.git(['init', '-q', 'empty']);
  await rig.registry.clone(rig.path('empty'));
  t.is(await rig.in('empty', ['status', '--porcelain']), '');
  const sha256 = await createSource(rig, 'sha256', 'sha256');
  await rig.registry.clone(sha256);
  t.is((await rig.in('sha256', ['rev-parse', 'HEAD'])).length, 64);
  await rig.git(['init', '-q', '--object-format=sha256', '-b', 'trunk', 'empty-sha256']);
  await rig.registry.clone(rig.path('empty-sha256'));
  await rig.git(['clone', '-q', rig.path('empty-sha256'), 'twin']);
  // Which git 2.39 takes for SHA-1, and later ones do not.
  const format = ['rev-parse', '--show-object-format'];
  t.is(await rig.in('empty-sha256', format), await rig.gitText(format, { cwd: 'twin' }));
  t.is(await rig.in('empty-sha256', ['symbolic-ref', 'HEAD']), 'refs/heads/trunk');
  const detached = await createSource(rig, 'detached');
  await rig.git(['checkout', '-q', '--detach', 'HEAD~1'], { cwd: detached });
  await rig.registry.clone(detached);
  t.is(await rig.in('detached', ['rev-parse', 'HEAD']), await oidOf(rig, detached, 'HEAD'));
  const nowhere = await createSource(rig, 'nowhere');
  await rig.git(['symbolic-ref', 'HEAD', 'refs/heads/none'], { cwd: nowhere });
  await rig.registry.clone(nowhere);
  t.is(await rig.in('nowhere', ['rev-parse', 'origin/main']), await oidOf(rig, nowhere, 'main'));
});

test('what a remote does not have is said with what it has, and nothing is left', async (t) => {
  const rig = await createRig(t);
  const source = await createSource(rig);
  const error = await t.throwsAsync(rig.registry.clone(source, { branch: 'feature/y' }).exec(), {
    instanceOf: Git2dbError,
  });
  t.is(error.code, 'REF_INVALID');
  t.regex(error.message, /"feature\/x"/);
  t.is(await codeOf(t, rig.registry.clone(source, { tag: 'main' })), 'REF_INVALID');
  t.is(await codeOf(t, rig.registry.clone(source, { branch: 'light' })), 'REF_INVALID');
  t.is(await codeOf(t, rig.registry.clone(source, { ref: 'main~1' })), 'REF_INVALID');
  t.is(await codeOf(t, rig.registry.clone(rig.path('missing'))), 'NOT_FOUND');
  t.deepEqual(rig.repos(), []);
  t.deepEqual(rig.registry.manager.operations(), []);
  t.deepEqual([...rig.registry.list()], []);
});

const UNSOUND: readonly (readonly [string, CloneOptions, string])[] = [
  ['two ways to say what to check out', { branch: 'a', tag: 'b' }, 'USAGE'],
  ['a depth of nothing', { depth: 0 }, 'USAGE'],
  ['a depth of a half', { depth: 1.5 }, 'USAGE'],
  ['two depths', { depth: 1, shallowSince: '2020-01-01' }, 'USAGE'],
  ['a filter that is an option', { filter: '--upload-pack=x' }, 'USAGE'],
  ['a sparse directory that leads out', { sparse: ['../x'] }, 'USAGE'],
  ['a sparse directory that is a pattern', { sparse: ['!x'] }, 'USAGE'],
  ['a bare clone with files', { bare: true, sparse: true }, 'USAGE'],
  ['a bare clone with submodules', { bare: true, submodules: true }, 'USAGE'],
  ['a branch that is an option', { branch: '--upload-pack=x' }, 'REF_INVALID'],
  ['a ref with two dots', { ref: 'a..b' }, 'REF_INVALID'],
  ['a name that leads out', { name: '../x' }, 'NAME_INVALID'],
];

for (const [title, options, code] of UNSOUND) {
  test(`${title} is refused before anything starts`, async (t) => {
    const rig = await createRig(t);
    t.is(await codeOf(t, rig.registry.clone('https://host.invalid/x', options)), code);
    t.deepEqual(rig.repos(), []);
  });
}

for (const url of [
  'ext::sh -c true',
  '--upload-pack=x',
  'https://good.example\\@evil.example/x',
  'fd::3',
  '',
]) {
  test(`the URL ${JSON.stringify(url)} is refused before anything starts`, async (t) => {
    const rig = await createRig(t);
    t.is(await codeOf(t, rig.registry.clone(url, { name: 'x' })), 'URL_INVALID');
  });
}

test('a clone that is there is the answer to the same URL in any form, and in the way of another', async (t) => {
  const rig = await createRig(t);
  const source = await createSource(rig);
  const other = await createSource(rig, 'other');
  const first = await rig.registry.clone(source, { name: 'x' });
  t.is((await rig.registry.clone(`file://${source}/.git`, { name: 'x' })).id, first.id);
  t.is(await codeOf(t, rig.registry.clone(other, { name: 'x' })), 'NAME_TAKEN');
  t.deepEqual(rig.repos(), ['x']);
});

test('five clones of one name at once, in two registries of one directory, make one', async (t) => {
  const rig = await createRig(t);
  const source = await createSource(rig);
  const second = await openRegistry(t, rig);
  const clones = [rig.registry, second, rig.registry, second, rig.registry].map((registry) =>
    registry.clone(source, { name: 'x' }).exec(),
  );
  const ids = new Set((await Promise.all(clones)).map(({ id }) => id));
  t.is(ids.size, 1);
  t.deepEqual(rig.repos(), ['x']);
  t.is((await second.list()).length, 1);
});

test('a clone starts when it is awaited, once, and cannot be told more afterwards', async (t) => {
  const rig = await createRig(t);
  const source = await createSource(rig);
  const operation = rig.registry.clone(source).name('x');
  t.deepEqual(rig.repos(), []);
  const started = operation.exec();
  t.is(operation.exec(), started);
  t.throws(() => operation.name('y'));
  t.is((await operation).id, (await started).id);
});

test('an abort at any stage leaves nothing, and the name is free', async (t) => {
  const rig = await createRig(t);
  const source = await createSource(rig);
  for (const stage of ['connecting', 'fetching', 'checkout', 'finishing']) {
    const controller = new AbortController();
    const progress = (event: CloneProgress) => {
      if (event.kind === 'stage' && event.stage === stage) controller.abort(new Error('enough'));
    };
    const clone = rig.registry.clone(source, { name: 'x', progress, signal: controller.signal }).exec();
    await t.throwsAsync(clone, { name: 'AbortError' }, stage);
    t.deepEqual(rig.repos(), [], stage);
    t.deepEqual(rig.registry.manager.operations(), []);
  }
  t.is((await rig.registry.clone(source, { name: 'x' })).name, 'x');
});

test('progress tells the stages in their order, and what git counts', async (t) => {
  const rig = await createRig(t);
  const source = await createSource(rig);
  const events: CloneProgress[] = [];
  await rig.registry.clone(`file://${source}`, { progress: (event) => void events.push(event) });
  const stages = events.flatMap((event) => (event.kind === 'stage' ? [event.stage] : []));
  t.deepEqual(stages, ['connecting', 'fetching', 'checkout', 'finishing']);
  const received = events.flatMap((event) =>
    event.kind === 'git' && event.title === 'Receiving objects' ? [event] : [],
  );
  t.true(received.length > 0);
  t.is(received.at(-1)?.done, received.at(-1)?.total);
});

/** Clones in a process of its own, which is killed when it reaches `stage`. */
async function killedClone(rig: Rig, url: string, stage: string, options: CloneOptions = {}): Promise<void> {
  const program = fileURLToPath(new URL('./killed-clone.js', import.meta.url));
  const child = spawn(process.execPath, [program, rig.registry.root, url, stage, JSON.stringify(options)], {
    env: rig.env,
    stdio: ['ignore', 'inherit', 'inherit'],
  });
  const [, signal] = await once(child, 'exit');
  if (signal !== 'SIGKILL') throw new Error(`the clone ended by itself before ${stage}`);
}

test('a clone that was killed is completed by the next: what was fetched is not fetched again', async (t) => {
  const rig = await createRig(t);
  const source = await createSource(rig);
  const url = `file://${source}`;
  await killedClone(rig, url, 'checkout', { name: 'x' });
  const [left] = rig.repos();
  t.regex(left ?? '', /^\.git2db-clone-/);
  writeFileSync(join(rig.registry.root, 'repos', left!, 'repository', '.git', 'index.lock'), '');
  writeFileSync(
    join(rig.registry.root, 'repos', left!, 'repository', '.git', 'objects', 'pack', 'tmp_pack_abc'),
    'half',
  );
  const events: CloneProgress[] = [];
  const record = await rig.registry.clone(url, { name: 'x', progress: (event) => void events.push(event) });
  t.true(events.some((event) => event.kind === 'stage' && event.resumed === true));
  t.false(events.some((event) => event.kind === 'git' && event.title === 'Receiving objects'));
  t.deepEqual(rig.repos(), ['x']);
  t.is(await rig.in('x', ['status', '--porcelain']), '');
  t.is(await rig.in('x', ['rev-parse', 'HEAD']), await oidOf(rig, source, 'main'));
  t.deepEqual(
    readdirSync(join(rig.registry.root, 'repos', 'x', '.git', 'objects', 'pack')).filter((file) =>
      file.startsWith('tmp'),
    ),
    [],
  );
  t.is(rig.registry.get(record.id).name, 'x');
});

test('a clone that was killed before it had fetched is completed too, in any shape', async (t) => {
  const rig = await createRig(t);
  const source = await createSource(rig);
  const url = `file://${source}`;
  await killedClone(rig, url, 'fetching', { name: 'x', depth: 2 });
  await rig.registry.clone(url, { name: 'x', depth: 2 });
  await killedClone(rig, url, 'finishing', { name: 'y', bare: true });
  await rig.registry.clone(url, { name: 'y', bare: true });
  t.is(await rig.in('x', ['rev-list', '--count', 'HEAD']), '2');
  t.is(await rig.in('y', ['rev-list', '--count', 'HEAD']), '5');
  t.deepEqual(rig.repos(), ['x', 'y']);
});

test('what a killed clone left is not used for another URL or another shape', async (t) => {
  const rig = await createRig(t);
  const source = await createSource(rig);
  const other = await createSource(rig, 'other');
  await rig.git(['commit', '-q', '--allow-empty', '-m', 'theirs'], { cwd: other });
  await killedClone(rig, `file://${source}`, 'checkout', { name: 'x', depth: 1 });
  const events: CloneProgress[] = [];
  await rig.registry.clone(`file://${other}`, { name: 'x', progress: (event) => void events.push(event) });
  t.false(events.some((event) => event.kind === 'stage' && event.resumed === true));
  t.is(await rig.in('x', ['rev-parse', 'HEAD']), await oidOf(rig, other, 'main'));
  t.is(await rig.in('x', ['rev-parse', '--is-shallow-repository']), 'false');
  t.deepEqual(rig.repos(), ['x']);
});

test('a killed clone of one branch leaves nothing of it in a clone of another', async (t) => {
  const rig = await createRig(t);
  const source = await createSource(rig);
  await killedClone(rig, source, 'finishing', { name: 'x', branch: 'feature/x', sparse: true });
  await rig.registry.clone(source, { name: 'x' });
  t.is(await rig.in('x', ['for-each-ref', '--format=%(refname)', 'refs/heads']), 'refs/heads/main');
  t.true(existsSync(join(rig.registry.root, 'repos', 'x', 'docs')));
});

test('odd names of branches that a remote may have are branches', async (t) => {
  const rig = await createRig(t);
  const source = await createSource(rig);
  await rig.git(['update-ref', 'refs/heads/-d', 'HEAD~1'], { cwd: source });
  writeFileSync(join(source, '.git', 'HEAD'), 'ref: refs/heads/-d\n');
  await rig.registry.clone(source, { name: 'x' });
  t.is(await rig.in('x', ['symbolic-ref', 'HEAD']), 'refs/heads/-d');
  t.is(await rig.in('x', ['rev-parse', 'HEAD']), await oidOf(rig, source, 'refs/heads/main~1'));
  t.is(await rig.in('x', ['status', '--porcelain']), '');
});

test('in the middle of a fetch, an abort ends git and leaves nothing, and a kill does not hold up the next clone', async (t) => {
  const rig = await createRig(t);
  const source = await createSource(rig);
  let isStalling = true;
  let uploads = 0;
  let reached = () => {};
  const server = await startHttpGit(t, {
    root: rig.dir,
    // With protocol 2 the first lists refs for ls-remote, the second for fetch, and the third wants the pack.
    stall: (url) => {
      if (!isStalling || !url.endsWith('/git-upload-pack') || ++uploads < 3) return false;
      reached();
      return true;
    },
  });
  const url = `${server.origin}/source/.git`;
  const controller = new AbortController();
  const stalled = new Promise<void>((resolve) => {
    reached = resolve;
  });
  const aborted = rig.registry.clone(url, { name: 'x', signal: controller.signal }).exec();
  aborted.catch(() => {});
  await stalled;
  controller.abort();
  await t.throwsAsync(aborted, { name: 'AbortError' });
  t.deepEqual(rig.repos(), []);

  uploads = 0;
  const again = new Promise<void>((resolve) => {
    reached = resolve;
  });
  const program = fileURLToPath(new URL('./killed-clone.js', import.meta.url));
  const child = spawn(
    process.execPath,
    [program, rig.registry.root, url, 'never', JSON.stringify({ name: 'x' })],
    {
      env: rig.env,
      stdio: 'inherit',
    },
  );
  await again;
  child.kill('SIGKILL');
  await once(child, 'exit');
  isStalling = false;
  await rig.registry.clone(url, { name: 'x' });
  t.is(await rig.in('x', ['rev-parse', 'HEAD']), await oidOf(rig, source, 'main'));
  t.is(rig.repos().at(-1), 'x');
});

test('what a killed clone left running is not disturbed: its directory is put aside until it ends', async (t) => {
  const rig = await createRig(t);
  const source = await createSource(rig);
  await killedClone(rig, source, 'checkout', { name: 'x' });
  const [left] = rig.repos();
  const orphan = spawn('sleep', ['600'], { cwd: join(rig.registry.root, 'repos', left!, 'repository') });
  t.teardown(() => orphan.kill());
  await once(orphan, 'spawn');
  await rig.registry.clone(source, { name: 'x' });
  t.is(await rig.in('x', ['status', '--porcelain']), '');
  t.regex(rig.repos()[0] ?? '', /^\.git2db-clone-[0-9a-f]+-left-/);
  orphan.kill();
  await once(orphan, 'exit');
  await killedClone(rig, rig.path('source'), 'checkout', { name: 'y' });
  await rig.registry.clone(source, { name: 'y' });
  await rig.registry.remove('x', { force: true });
  await rig.registry.clone(source, { name: 'x' });
  t.deepEqual(rig.repos(), ['x', 'y']);
});

test('what a progress function throws ends the clone with that error', async (t) => {
  const rig = await createRig(t);
  const source = await createSource(rig);
  for (const kind of ['stage', 'git']) {
    const progress = (event: CloneProgress) => {
      if (event.kind === kind) throw new Error('of the observer');
    };
    const clone = rig.registry.clone(`file://${source}`, { name: 'x', progress }).exec();
    await t.throwsAsync(clone, { message: 'of the observer' });
    t.deepEqual(rig.repos(), []);
  }
});

test('a bare clone has the branches as its own, and knows which of them the remote has', async (t) => {
  const rig = await createRig(t);
  const source = await createSource(rig);
  const record = await rig.registry.clone(`file://${source}`, { name: 'x', bare: true });
  t.true(record.bare);
  const refs = await rig.in('x', ['for-each-ref', '--format=%(refname)', 'refs/heads', 'refs/remotes']);
  t.deepEqual(refs.split('\n'), [
    'refs/heads/feature/x',
    'refs/heads/main',
    'refs/remotes/origin/HEAD',
    'refs/remotes/origin/feature/x',
    'refs/remotes/origin/main',
  ]);
  t.is(await rig.in('x', ['config', 'core.bare']), 'true');
  await rig.git(['commit', '-q', '--allow-empty', '-m', 'six'], { cwd: source });
  await rig.in('x', ['fetch', '-q']);
  t.is(await rig.in('x', ['rev-parse', 'origin/main']), await oidOf(rig, source, 'main'));
  await rig.registry.remove('x');
  t.deepEqual(rig.repos(), []);
});

test('a token in a URL is used, and stands in no file, record or error', async (t) => {
  const rig = await createRig(t);
  const source = await createSource(rig);
  const secret = 'TheSecretOfThisUrl';
  const server = await startHttpGit(t, { root: rig.dir, login: { username: 'alice', password: secret } });
  const url = `${server.origin.replace('//', `//alice:${secret}@`)}/source/.git`;
  const record = await rig.registry.clone(url, { name: 'x' });
  t.is(record.url, `${server.origin}/source/.git`);
  t.is(await rig.in('x', ['rev-parse', 'HEAD']), await oidOf(rig, source, 'main'));
  const found = await rig.run('grep', ['-r', '-l', secret, rig.registry.root, rig.home, rig.tmp]);
  t.is(found.stdout, '');
  const wrong = rig.registry.clone(url.replace(secret, 'NotTheSecret'), { name: 'y' }).exec();
  const error = await t.throwsAsync(wrong, { instanceOf: Git2dbError });
  t.is(error.code, 'AUTH_FAILED');
  t.false(JSON.stringify([error.message, error.data, String(error.cause)]).includes('NotTheSecret'));
  t.deepEqual(rig.repos(), ['x']);
});

test('a token of the options goes to its authority; without it the clone fails and asks nobody', async (t) => {
  const rig = await createRig(t);
  await createSource(rig);
  const server = await startHttpGit(t, { root: rig.dir, login: { username: 'oauth2', password: 'token' } });
  const url = `${server.origin}/source/.git`;
  t.is(await codeOf(t, rig.registry.clone(url, { name: 'x' })), 'AUTH_FAILED');
  const auth = { kind: 'token', token: 'token', authority: server.origin } as const;
  await rig.registry.clone(url, { name: 'x', auth, depth: 1, filter: 'blob:none' });
  t.is(await rig.in('x', ['rev-list', '--count', 'HEAD']), '1');
});

test('the hub token of the environment goes to the hub and to nobody else', async (t) => {
  const sandbox = createSandbox(t);
  await createSource(sandbox);
  const login = { username: 'oauth2', password: 'hub-token' };
  const hub = await startHttpGit(t, { root: sandbox.dir, login });
  const other = await startHttpGit(t, { root: sandbox.dir, login });
  const rig = await createRig(t, {
    ...sandbox,
    env: { ...sandbox.env, HF_ENDPOINT: hub.origin, HF_TOKEN: login.password },
  });
  await rig.registry.clone(`${hub.origin}/source/.git`, { name: 'x' });
  t.is(await codeOf(t, rig.registry.clone(`${other.origin}/source/.git`, { name: 'y' })), 'AUTH_FAILED');
  t.true(other.requests.every(({ authorization }) => authorization === undefined));
});

test('a redirection is named and not followed, unless that is asked for', async (t) => {
  const rig = await createRig(t);
  await createSource(rig);
  const target = await startHttpGit(t, { root: rig.dir });
  const server = await startHttpGit(t, { root: rig.dir, redirectTo: target.origin });
  const url = `${server.origin}/source/.git`;
  const error = await t.throwsAsync(rig.registry.clone(url, { name: 'x' }).exec(), {
    instanceOf: Git2dbError,
  });
  t.regex(error.message, /redirection.*followRedirects/);
  t.deepEqual(target.requests, []);
  await rig.registry.clone(url, { name: 'x', followRedirects: true });
  t.true(target.requests.length > 0);
});

test('hooks of a template run in a trusted clone, and are not even copied to another', async (t) => {
  const sandbox = createSandbox(t);
  const source = await createSource(sandbox);
  const template = join(sandbox.home, 'template');
  mkdirSync(join(template, 'hooks'), { recursive: true });
  writeFileSync(join(template, 'hooks', 'post-checkout'), `#!/bin/sh\necho ran >>${sandbox.home}/ran\n`, {
    mode: 0o755,
  });
  await sandbox.git(['config', '--global', 'init.templateDir', template]);
  const rig = await createRig(t, sandbox);
  await rig.registry.clone(source, { name: 'untrusted' });
  t.false(existsSync(join(sandbox.home, 'ran')));
  t.false(existsSync(join(rig.registry.root, 'repos', 'untrusted', '.git', 'hooks', 'post-checkout')));
  const record = await rig.registry.clone(source, { name: 'trusted', trust: true });
  t.true(existsSync(join(sandbox.home, 'ran')));
  t.true(record.trusted);
});

test('submodules are cloned when asked for, and otherwise not', async (t) => {
  const rig = await createRig(t);
  const inner = await createSource(rig, 'inner');
  const outer = await createSource(rig, 'outer');
  await rig.git(['submodule', '--quiet', 'add', inner, 'sub'], { cwd: outer });
  await rig.git(['commit', '-q', '-m', 'sub'], { cwd: outer });
  await rig.registry.clone(outer, { name: 'without' });
  await rig.registry.clone(outer, { name: 'with', submodules: 'recursive' });
  t.deepEqual(readdirSync(join(rig.registry.root, 'repos', 'without', 'sub')), []);
  t.is(readFileSync(join(rig.registry.root, 'repos', 'with', 'sub', 'file'), 'utf8'), 'file 5\n');
  t.is(
    await rig.gitText(['config', '--local', 'filter.xet.process'], {
      cwd: join(rig.registry.root, 'repos', 'with', 'sub'),
    }),
    filterCommand() ?? 'none',
  );
  t.is(await rig.in('with', ['status', '--porcelain']), '');
});

test('large files are real files in a clone, without any configuration of the user, from the store all clones share', async (t) => {
  const xet = createXetSandbox(t);
  const repository = await xet.repository('source');
  const content = randomBytes(1, 300_000);
  repository.write('large.bin', content);
  await repository.commit('large');
  // What follows knows nothing of the filter but what the registry says.
  writeFileSync(join(xet.home, 'plain'), '[user]\n\tname = x\n\temail = x@example.invalid\n');
  const rig = await createRig(t, {
    ...xet,
    env: { ...xet.env, PATH: process.env.PATH ?? '', GIT_CONFIG_GLOBAL: join(xet.home, 'plain') },
  });
  const record = await rig.registry.clone(repository.dir, { name: 'x' });
  const clone = join(rig.registry.root, 'repos', 'x');
  t.true(readFileSync(join(clone, 'large.bin')).equals(content));
  const plain = { cwd: clone, env: { PATH: process.env.PATH, GIT_CONFIG_GLOBAL: join(xet.home, 'plain') } };
  t.is(await xet.gitText(['config', 'filter.xet.process'], plain), filterCommand() ?? 'none');
  t.is(await xet.gitText(['status', '--porcelain'], plain), '');
  const store = rig.registry.home.store!;
  t.is(await xet.gitText(['config', 'xet.store'], plain), store);
  const users = readdirSync(join(store, 'users')).map((entry) =>
    readFileSync(join(store, 'users', entry), 'utf8'),
  );
  t.deepEqual(users, [`${join(clone, '.git')}\n`]);
  t.false(existsSync(join(clone, '.git', 'xet')));

  // The source may go: the clone of the clone reads through the shared store.
  await rig.registry.clone(clone, { name: 'y' });
  t.true(readFileSync(join(rig.registry.root, 'repos', 'y', 'large.bin')).equals(content));
  t.is(record.name, 'x');
});

test('a clone into a directory is in no registry, keeps to missing and empty ones, and leaves nothing when it fails', async (t) => {
  const rig = await createRig(t);
  const source = await createSource(rig);
  const { manager } = rig.registry;
  const target = rig.path('plain', 'clone');
  const { place } = await manager.clone(source, target, { branch: 'feature/x' });
  t.is(place.workTree, target);
  t.is(await rig.gitText(['symbolic-ref', 'HEAD'], { cwd: target }), 'refs/heads/feature/x');
  t.is(await codeOf(t, manager.clone(source, target)), 'REFUSED');
  mkdirSync(rig.path('plain', 'empty'));
  await manager.clone(source, rig.path('plain', 'empty'));
  t.is(await codeOf(t, manager.clone(rig.path('missing'), rig.path('plain', 'no'))), 'NOT_FOUND');
  t.is(await codeOf(t, manager.clone(source, rig.path('plain', 'no'), { name: 'x' })), 'USAGE');
  t.deepEqual(readdirSync(rig.path('plain')).sort(), ['clone', 'empty']);
});

test('clones of a transaction appear when it is committed, and are taken back when it fails', async (t) => {
  const rig = await createRig(t);
  const source = await createSource(rig);
  await t.throwsAsync(
    rig.registry.transaction(async (transaction) => {
      await transaction.clone(source, { name: 'x' });
      throw new Error('changed my mind');
    }),
    { message: 'changed my mind' },
  );
  t.deepEqual(rig.repos(), []);
  await rig.registry.transaction(async (transaction) => {
    await transaction.clone(source, { name: 'x' });
    await transaction.clone(source, { name: 'y' });
    t.is(rig.registry.find('x'), undefined);
  });
  t.deepEqual(rig.repos(), ['x', 'y']);
  t.is(await rig.in('y', ['status', '--porcelain']), '');
  t.is(await codeOf(t, rig.registry.clone(rig.path('elsewhere'), { name: 'x' })), 'NAME_TAKEN');
});
