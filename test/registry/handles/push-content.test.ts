/** Content of large files that a handle pushes and fetches, and the hook that clones of a registry have. */
import { execFileSync } from 'node:child_process';
import { chmodSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { EXIT_CODES } from '../../../src/exit-codes.ts';
import { repositoryAt } from '../../../src/git/repository.ts';
import { resolveConfig } from '../../../src/registry/config.ts';
import { GitManager } from '../../../src/registry/git-manager.ts';
import { openPlace } from '../../../src/registry/git-place.ts';
import { Git2DB } from '../../../src/registry/git2db.ts';
import type { PushOptions } from '../../../src/registry/handles/push.ts';
import { RemoteManager } from '../../../src/registry/handles/remote.ts';
import type { RepositoryHandle } from '../../../src/registry/repository-handle.ts';
import { Git2dbError } from '../../../src/xet/errors.ts';
import { cli } from '../../cli/run.ts';
import { isolateProcess } from '../../helpers/git-sandbox.ts';
import { createXetSandbox, randomBytes, TRACKED, type XetSandbox } from '../../helpers/xet-sandbox.ts';
import { createServerRig } from '../../server/rig.ts';

isolateProcess();

interface Rig {
  readonly sandbox: XetSandbox;
  readonly registry: Git2DB;
  /** A bare repository with one commit, whose `*.bin` are large. */
  readonly hub: string;
  clone(name: string, options?: Parameters<Git2DB['clone']>[1]): Promise<Cloned>;
}

interface Cloned {
  readonly handle: RepositoryHandle;
  readonly dir: string;
  git(...args: string[]): Promise<string>;
  /** A commit with one large file. */
  add(name: string, seed: number, size?: number): Promise<string>;
}

async function createRig(t: ExecutionContext): Promise<Rig> {
  const sandbox = createXetSandbox(t);
  const source = await sandbox.repository('source', `*.bin ${TRACKED}\n`);
  const hub = sandbox.path('hub');
  await sandbox.git(['clone', '-q', '--bare', source.dir, hub]);
  const env = { ...sandbox.env };
  const { config } = resolveConfig({ cwd: sandbox.dir, env });
  const manager = new GitManager({ config, env });
  const registry = await Git2DB.open(sandbox.path('registry'), { config, manager, env });
  t.teardown(async () => {
    await registry[Symbol.asyncDispose]();
    await manager[Symbol.asyncDispose]();
  });
  return {
    sandbox,
    registry,
    hub,
    async clone(name, options = {}) {
      const record = await registry.clone(hub, { ...options, name });
      const dir = registry.absolutePath(record);
      const handle = await registry.repo(record.id);
      t.teardown(() => handle[Symbol.asyncDispose]());
      const git = (...args: string[]) => sandbox.gitText(args, { cwd: dir });
      return {
        handle,
        dir,
        git,
        async add(file, seed, size = 100_000) {
          writeFileSync(join(dir, file), randomBytes(seed, size));
          await git('add', file);
          await git('commit', '-q', '-m', file);
          return git('rev-parse', 'HEAD');
        },
      };
    },
  };
}

const refsOf = ({ sandbox, hub }: Rig) =>
  sandbox.gitText(['for-each-ref', '--format=%(refname) %(objectname)'], { cwd: hub });

function hookOf({ dir }: Cloned): string {
  return join(dir, '.git', 'hooks', 'pre-push');
}

async function outcomes({ handle }: Cloned, options: PushOptions): Promise<Record<string, string>> {
  const { content } = await handle.remote().push('origin', options);
  return Object.fromEntries(
    content.flatMap(({ files }) => files.map(({ path, outcome }) => [path.toString(), outcome])),
  );
}

test('a handle sends what the pushed commits need before a ref moves, once, in an untrusted clone too', async (t) => {
  const rig = await createRig(t);
  const clone = await rig.clone('a');
  t.deepEqual((await clone.handle.remote().push()).content, [], 'no pointer, no question');
  const head = await clone.add('one.bin', 1);
  const before = await refsOf(rig);
  t.deepEqual(await outcomes(clone, { dryRun: true }), { 'one.bin': 'missing' });
  t.false(existsSync(join(rig.hub, 'xet')));
  t.is(await refsOf(rig), before);

  const events: string[] = [];
  const result = await clone.handle.remote().push('origin', { onContent: ({ kind }) => events.push(kind) });
  t.true(result.ok);
  t.deepEqual(result.hooksSkipped, [], 'what our hook does was done');
  const [content] = result.content;
  t.is(content!.place, join(rig.hub, 'xet'));
  t.like(content!.files[0], { kind: 'xet', outcome: 'sent', size: 100_000 });
  t.true(events.includes('bytes'));
  t.regex(await refsOf(rig), new RegExp(`refs/heads/main ${head}`));
  t.deepEqual((await clone.handle.remote().push()).content, []);

  // Other branches, tags and patterns: each as far as it moves something.
  await clone.git('checkout', '-q', '-b', 'side');
  await clone.add('two.bin', 2);
  await clone.git('tag', '-a', '-m', 'v1', 'v1');
  t.deepEqual(await outcomes(clone, { refs: 'HEAD:refs/heads/new' }), { 'two.bin': 'sent' });
  t.deepEqual(await outcomes(clone, { refs: 'v1' }), {}, 'the remote-tracking branch has it');
  await clone.git('checkout', '-q', '-b', 'wild/card', 'main');
  await clone.add('three.bin', 3);
  t.deepEqual(await outcomes(clone, { refs: 'refs/heads/wild/*:refs/heads/w/*' }), { 'three.bin': 'sent' });
  // A rejected ref takes nothing along, and a deletion needs nothing.
  await clone.git('checkout', '-q', '--orphan', 'other');
  await clone.add('four.bin', 4);
  const rejected = await clone.handle.remote().push('origin', { refs: 'other:main' });
  t.false(rejected.ok);
  t.deepEqual(rejected.content, []);
  t.deepEqual(await outcomes(clone, { delete: ['new'] }), {});

  const second = await rig.clone('b', { branch: 'w/card' });
  t.deepEqual(readFileSync(join(second.dir, 'three.bin')), randomBytes(3, 100_000));
});

test('a push that would leave content behind moves no ref and says what is missing, unless content is left out', async (t) => {
  const rig = await createRig(t);
  const clone = await rig.clone('a');
  const commit = await clone.add('gone.bin', 1);
  rmSync(rig.registry.home.store!, { recursive: true });
  const before = await refsOf(rig);
  const error = await t.throwsAsync(clone.handle.remote().push(), { instanceOf: Git2dbError });
  t.is(error.code, 'CONTENT_MISSING');
  t.regex(error.message, new RegExp(`gone\\.bin \\(in commit ${commit.slice(0, 12)}\\)`));
  t.is((error.data.files as unknown[]).length, 1);
  t.is(await refsOf(rig), before);
  // A place that there is not.
  await clone.git('config', 'remote.origin.xeturl', rig.sandbox.path('no/such/place'));
  await t.throwsAsync(clone.handle.remote().push(), { code: 'REMOTE_MISSING' });
  t.is(await refsOf(rig), before);
  const refsOnly = await clone.handle.remote().push('origin', { content: false });
  t.true(refsOnly.ok);
  t.deepEqual([refsOnly.content, refsOnly.hooksSkipped], [[], ['pre-push']]);
  t.not(await refsOf(rig), before);
});

test('an abort while content is on its way moves no ref, and the next push goes on', async (t) => {
  const rig = await createRig(t);
  const clone = await rig.clone('a');
  await clone.add('one.bin', 1, 3_000_000);
  const before = await refsOf(rig);
  const controller = new AbortController();
  await t.throwsAsync(
    clone.handle.remote().push('origin', { signal: controller.signal, onContent: () => controller.abort() }),
    { name: 'AbortError' },
  );
  t.is(await refsOf(rig), before);
  t.deepEqual(Object.keys(await outcomes(clone, {})), ['one.bin']);
  t.not(await refsOf(rig), before);
});

test('what is committed to the branch while content is on its way is sent too', async (t) => {
  const rig = await createRig(t);
  const clone = await rig.clone('a');
  await clone.add('one.bin', 1);
  let isLate = false;
  const { content } = await clone.handle.remote().push('origin', {
    onContent: () => {
      if (isLate) return;
      isLate = true;
      writeFileSync(join(clone.dir, 'late.bin'), randomBytes(9, 50_000));
      const run = { cwd: clone.dir, env: { ...rig.sandbox.env } };
      execFileSync('git', ['add', 'late.bin'], run);
      execFileSync('git', ['commit', '-q', '-m', 'late'], run);
    },
  });
  const sent = content.flatMap(({ files }) => files.map(({ path, outcome }) => `${path} ${outcome}`));
  t.deepEqual(sent, ['one.bin sent', 'late.bin sent']);
  t.regex(await refsOf(rig), new RegExp(await clone.git('rev-parse', 'HEAD')));
});

test('a trusted clone runs its hooks, that of a template after ours, which finds nothing left to do', async (t) => {
  const rig = await createRig(t);
  const { sandbox } = rig;
  const template = sandbox.path('template');
  const log = sandbox.path('log');
  mkdirSync(join(template, 'hooks'), { recursive: true });
  const hook = join(template, 'hooks', 'pre-push');
  writeFileSync(hook, `#!/bin/sh\nread ref oid rest\necho "$ref $oid $GIT2DB_SKIP_PUSH" >>'${log}'\n`);
  chmodSync(hook, 0o755);
  await sandbox.git(['config', '--global', 'init.templateDir', template]);
  const clone = await rig.clone('a', { trust: true });
  t.regex(readFileSync(hookOf(clone), 'utf8'), /^#!\/bin\/sh\n# Written by "git2db xet install"/);
  const head = await clone.add('one.bin', 1);
  t.deepEqual(await outcomes(clone, {}), { 'one.bin': 'sent' });
  t.is(readFileSync(log, 'utf8'), `refs/heads/main ${head} ${head}\n`);
  // Git alone: ours sends, then theirs runs.
  const next = await clone.add('two.bin', 2);
  const { stderr } = await sandbox.git(['push', 'origin', 'main'], { cwd: clone.dir });
  t.regex(stderr, /content of 1 file sent to/);
  t.regex(readFileSync(log, 'utf8'), new RegExp(`\nrefs/heads/main ${next} \n$`));
});

test('a plain git push in a clone sends content, also where git2db is not on PATH', async (t) => {
  const rig = await createRig(t);
  const clone = await rig.clone('a');
  await clone.add('one.bin', 1);
  const { stderr } = await rig.sandbox.git(['push', 'origin', 'main'], {
    cwd: clone.dir,
    env: { PATH: process.env.PATH },
  });
  t.regex(stderr, /content of 1 file sent to/);
});

test('clones and worktrees see to the hook unless told not to; what is not the registry’s is left alone', async (t) => {
  const rig = await createRig(t);
  const { sandbox, registry } = rig;
  const without = await rig.clone('without', { hooks: false });
  t.false(existsSync(hookOf(without)));
  const trees = without.handle.worktree();
  await trees.create({ ref: 'main', newBranch: 'x', driver: 'vfs' });
  t.false(existsSync(hookOf(without)), 'as it was asked for');
  await trees.create({ ref: 'main', newBranch: 'y', driver: 'vfs', hooks: true });
  t.false(existsSync(hookOf(without)));
  // One made before clones had hooks.
  const earlier = await rig.clone('earlier');
  rmSync(hookOf(earlier));
  await earlier.handle.worktree().create({ ref: 'main', newBranch: 'x', driver: 'vfs', hooks: false });
  t.false(existsSync(hookOf(earlier)));
  await earlier.handle.worktree().create({ ref: 'main', newBranch: 'y', driver: 'vfs' });
  t.true(existsSync(hookOf(earlier)));
  const bare = await rig.clone('bare', { bare: true });
  t.true(existsSync(join(bare.dir, 'hooks', 'pre-push')));

  // An adopted one, then with its owner's hook in the way.
  const dir = sandbox.path('source');
  const record = await registry.register({ path: dir, name: 'adopted' });
  const adopted = await registry.repo(record.id);
  const hook = join(dir, '.git', 'hooks', 'pre-push');
  await adopted.worktree().create({ ref: 'main', newBranch: 'x', driver: 'vfs' });
  t.false(existsSync(hook));
  mkdirSync(join(dir, '.git', 'hooks'), { recursive: true });
  writeFileSync(hook, '#!/bin/sh\n');
  await t.throwsAsync(adopted.xet.installHook(), { code: 'REFUSED', message: /--chain-hooks/ });
  t.deepEqual(
    (await adopted.xet.installHook({ chain: true })).map(({ from, to }) => [from, to]),
    [['foreign', 'ours']],
  );
  t.deepEqual(await adopted.xet.installHook({ chain: true }), []);

  // Hooks that other repositories use too.
  const shared = sandbox.path('shared-hooks');
  mkdirSync(shared);
  await sandbox.git(['config', '--global', 'core.hooksPath', shared]);
  const warnings: string[] = [];
  await rig.clone('c', {
    progress: (event) => event.kind === 'warning' && warnings.push(event.message),
  });
  t.is(warnings.length, 1);
  t.regex(warnings[0]!, /core\.hooksPath.*--chain-hooks/);
  t.deepEqual(readdirSync(shared), []);
});

test('git2db push tells what became of each file, and leaves content out when told', async (t) => {
  const rig = await createRig(t);
  const clone = await rig.clone('a');
  const env = { ...rig.sandbox.env };
  const push = async (...args: string[]) => {
    const { code, stdout, stderr } = await cli(['push', '.', 'origin', ...args], { cwd: clone.dir, env });
    return { code, stderr, document: stdout === '' ? undefined : JSON.parse(stdout) };
  };
  await clone.add('one.bin', 1);
  const dry = await push('main', '--json', '--dry-run');
  t.is(dry.code, 0, dry.stderr);
  t.like(dry.document.content[0].files[0], {
    path: 'one.bin',
    kind: 'xet',
    outcome: 'missing',
    message: null,
  });
  const { code, stderr } = await cli(['push'], { cwd: clone.dir, env });
  t.is(code, 0, stderr);
  t.regex(stderr, /1 file \(.*\) sent to .*hub\/xet/);
  t.notRegex(stderr, /hooks that did not run/);

  await clone.add('gone.bin', 2);
  rmSync(rig.registry.home.store!, { recursive: true });
  const refused = await push('main', '--json');
  t.is(refused.code, EXIT_CODES.CONTENT_MISSING);
  t.regex(refused.stderr, /nothing was pushed.*gone\.bin/s);
  const without = await push('main', '--json', '--no-content');
  t.is(without.code, 0, without.stderr);
  t.deepEqual(without.document.content, []);
});

test('bare clones push content, to several places too, and so do places that only another mount namespace sees', async (t) => {
  const rig = await createRig(t);
  const bare = await rig.clone('bare', { bare: true });
  const tree = await bare.handle.worktree().create({ ref: 'main', newBranch: 'side', driver: 'vfs' });
  writeFileSync(join(tree.path, 'one.bin'), randomBytes(1, 100_000));
  await rig.sandbox.git(['add', '.'], { cwd: tree.path });
  await rig.sandbox.git(['commit', '-q', '-m', 'one'], { cwd: tree.path });
  // Each URL that git pushes to has a place of its own.
  await rig.sandbox.git(['init', '-q', '--bare', 'mirror']);
  const mirror = rig.sandbox.path('mirror');
  for (const url of [rig.hub, mirror])
    await rig.sandbox.git(['config', '--add', 'remote.origin.pushurl', url], { cwd: bare.dir });
  const both = await bare.handle.remote().push('origin', { refs: 'side' });
  t.deepEqual(
    both.content.map(({ place, files }) => [place, files[0]!.outcome]),
    [
      [join(rig.hub, 'xet'), 'sent'],
      [join(mirror, 'xet'), 'sent'],
    ],
  );
  await rig.sandbox.git(['config', '--unset-all', 'remote.origin.pushurl'], { cwd: bare.dir });
  writeFileSync(join(tree.path, 'two.bin'), randomBytes(2, 100_000));
  await rig.sandbox.git(['add', '.'], { cwd: tree.path });
  await rig.sandbox.git(['commit', '-q', '-m', 'two'], { cwd: tree.path });
  const paths = repositoryAt(tree.path)!;
  const place = await openPlace(tree.path, { paths, enter: (argv) => argv, env: { ...rig.sandbox.env } });
  t.teardown(() => place.close());
  t.false(place.reachable);
  const { content } = await new RemoteManager(place).push('origin', { refs: 'side' });
  t.is(content[0]!.files[0]!.outcome, 'sent');
});

test('the facet pushes, evicts and fetches content by a directory, stops when told, and says why it cannot', async (t) => {
  const rig = await createRig(t);
  const clone = await rig.clone('a');
  const { xet } = clone.handle;
  await clone.add('one.bin', 1, 1_000_000);
  const aborted = AbortSignal.abort();
  await t.throwsAsync(xet.push({ signal: aborted }), { name: 'AbortError' });
  await t.throwsAsync(xet.push({ refs: ['nothing'] }), { code: 'REF_INVALID' });
  t.is((await xet.push({ dryRun: true })).files[0]!.outcome, 'missing');
  t.deepEqual(
    (await xet.evict()).files.map(({ outcome }) => outcome),
    ['kept'],
  );
  t.is((await xet.push()).files[0]!.outcome, 'sent');
  t.is((await xet.push({ all: true })).files[0]!.outcome, 'present');
  await clone.handle.remote().push();

  t.like((await xet.evict()).files[0], { outcome: 'held', place: join(rig.hub, 'xet') });
  await t.throwsAsync(xet.evict({ dryRun: false, signal: aborted }), { name: 'AbortError' });
  t.is((await xet.fetch({ dryRun: true })).files[0]!.outcome, 'present', 'nothing has gone yet');
  await xet.evict({ dryRun: false });
  t.is((await xet.fetch({ dryRun: true })).files[0]!.outcome, 'missing');
  await t.throwsAsync(xet.fetch({ signal: aborted }), { name: 'AbortError' });
  const events: string[] = [];
  const { files } = await xet.fetch({ onProgress: ({ kind }) => events.push(kind) });
  t.is(files[0]!.outcome, 'moved');
  t.true(events.includes('bytes'));
  t.is((await xet.fetch()).files[0]!.outcome, 'present');

  await xet.evict({ dryRun: false });
  rmSync(join(rig.hub, 'xet'), { recursive: true });
  const [lost] = (await xet.fetch()).files;
  t.is(lost!.outcome, 'failed');
  t.is(lost!.error?.code, 'CONTENT_MISSING');
});

test('the facet and the push of a handle send content to a server and get it back, with a token', async (t) => {
  const rig = await createRig(t);
  const server = await createServerRig(t);
  const clone = await rig.clone('a');
  const url = `${server.server.url}/team/models.git`;
  const auth = { kind: 'token', token: server.server.token('write'), authority: server.server.url } as const;
  const remote = clone.handle.remote();
  await remote.add('served', url);
  await clone.add('one.bin', 1, 1_000_000);
  // Without a credential: one class of error, and no ref.
  await t.throwsAsync(remote.push('served', { refs: 'main' }), { code: 'AUTH_FAILED' });
  const sent = await remote.push('served', { refs: 'main', auth });
  t.true(sent.ok);
  t.deepEqual(
    sent.content.map(({ files }) => files.map(({ outcome }) => outcome)),
    [['sent']],
  );

  const helper = `!f() { echo username=me; echo password=${auth.token}; }; f`;
  await rig.sandbox.git(['config', '--global', `credential.${server.server.url}.helper`, helper]);
  const { xet } = clone.handle;
  t.is((await xet.push({ remote: 'served', all: true })).files[0]!.outcome, 'present');
  t.like((await xet.evict({ dryRun: false })).files[0], { outcome: 'held' });
  t.is((await xet.fetch({ remote: 'served' })).files[0]!.outcome, 'moved');

  await clone.add('two.bin', 2);
  await t.throwsAsync(xet.push({ remote: 'served', signal: AbortSignal.abort() }), { name: 'AbortError' });
  // One that may only read.
  await rig.sandbox.git([
    'config',
    '--global',
    `credential.${server.server.url}.helper`,
    helper.replace(auth.token, server.server.token('read')),
  ]);
  await t.throwsAsync(xet.push({ remote: 'served' }), { code: 'REMOTE_FORBIDDEN' });
});
