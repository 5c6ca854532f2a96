import {
  chmodSync,
  existsSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { list } from '../../src/mount-helper/index.ts';
import { loadConfig } from '../../src/registry/config.ts';
import { GitManager } from '../../src/registry/git-manager.ts';
import { Git2DB } from '../../src/registry/git2db.ts';
import { unmountTree } from '../../src/registry/worktree/overlay-mount.ts';
import { subjectNamed } from '../mount-helper/helpers/subjects.ts';
import { registryWithClone, type TestRegistry } from './registry.ts';
import { cli, gitIn, isolateGit } from './run.ts';

isolateGit();
delete process.env.GIT2DB_REGISTRY;

async function removeAll(t: ExecutionContext, { json, attempt }: TestRegistry): Promise<void> {
  t.teardown(async () => {
    for (const { id } of (await json('worktree', 'list', 'model')).worktrees)
      await attempt('worktree', 'remove', 'model', id, '--force');
  });
}

test('worktrees without a path lie below the whole name of their repository, and nothing of it stays', async (t) => {
  const { root, upstream, run, json } = await registryWithClone(t);
  await run('clone', upstream, 'one/model');
  await run('clone', upstream, 'two/model');
  for (const name of ['one/model', 'two/model']) {
    for (const branch of ['main', 'topic']) {
      const ref = `origin/${branch}`;
      const { path } = await json(
        'worktree',
        'add',
        name,
        ref,
        '--driver',
        'vfs',
        '--branch',
        `my-${branch}`,
      );
      t.is(path, join(root, 'worktrees', name, `my-${branch}`));
    }
  }
  await run('worktree', 'remove', 'one/model', 'my-main');
  t.deepEqual(readdirSync(join(root, 'worktrees/one/model')), ['my-topic']);
  await run('worktree', 'remove', 'one/model', 'my-topic');
  t.deepEqual(readdirSync(join(root, 'worktrees')), ['two']);
});

test('an adopted repository goes with the worktrees made for it, unless they hold what would be lost', async (t) => {
  const { root, upstream, run, json, attempt } = await registryWithClone(t);
  await run('register', upstream, '--name', 'adopted');
  writeFileSync(join(upstream, 'untracked'), 'its own');
  const { path } = await json('worktree', 'add', 'adopted', 'topic', '--driver', 'vfs');
  writeFileSync(join(path, 'new'), 'x');
  const refused = await attempt('remove', 'adopted', '--json');
  t.is(refused.code, 8, refused.stderr);
  t.regex(refused.stderr, /topic: untracked files: new/);
  t.deepEqual(JSON.parse(refused.stdout).deletes, [path]);
  t.true(existsSync(join(path, 'new')));
  rmSync(join(path, 'new'));
  const report = await json('remove', 'adopted');
  t.like(report, { removed: true, deletes: [path], keeps: [upstream] });
  t.false(existsSync(join(root, 'worktrees')));
  t.true(existsSync(join(upstream, 'untracked')));
  t.deepEqual(
    readdirSync(join(upstream, '.git')).filter((name) => name === 'worktrees'),
    [],
  );
  t.deepEqual((await json('verify')).findings, []);
  await run('register', upstream, '--name', 'adopted');
  const again = await json('worktree', 'add', 'adopted', 'topic', '--driver', 'vfs');
  writeFileSync(join(again.path, 'new'), 'x');
  await run('remove', 'adopted', '--force');
  t.false(existsSync(again.path));
  await run('register', upstream, '--name', 'adopted');
  const left = await json('worktree', 'add', 'adopted', 'topic', '--driver', 'vfs');
  rmSync(join(upstream, '.git', 'HEAD'));
  const gone = await json('remove', 'adopted');
  t.deepEqual(gone.keeps, [upstream, left.path]);
  t.regex(gone.notes.join(), /stays; what was changed in it is in .*\.git2db\/worktrees\/topic-/);
});

test('a worktree has the driver that is configured, unless another is asked for', async (t) => {
  const { root, json, attempt } = await registryWithClone(t);
  const env = { ...process.env, GIT2DB_WORKTREE_DRIVER: 'vfs', GIT2DB_OVERLAY_BACKEND: 'kernel' };
  const config = loadConfig({ cwd: root, env });
  await using db = await Git2DB.open(root, { config });
  await using handle = await db.repo('model');
  const made = await handle.worktree().create({ ref: 'topic' });
  t.is(made.driver, 'vfs');
  await made.remove();
  await using manager = new GitManager({ config });
  const other = await manager.createWorktree(join(root, 'repos/model'), join(root, 'other'), 'topic');
  t.is(other.driver, 'vfs');
  await other.remove();
  const words = ['worktree', 'add', 'model', 'topic', '--driver', 'vfs', '--backend', 'fuse'];
  const refused = await attempt(...words);
  t.is(refused.code, 2);
  t.regex(refused.stderr, /fuse is one of overlay2/);
  await t.throwsAsync(handle.worktree().create({ ref: 'topic', backend: 'zfs' as 'fuse' }), {
    code: 'INVALID_CONFIG',
  });
  for (const place of ['.git2db/x', '.git2db/worktrees/x', '.git2db']) {
    t.is((await attempt('worktree', 'add', 'model', 'topic', join(root, place))).code, 33, place);
  }
  t.deepEqual((await json('worktree', 'list', 'model')).worktrees, []);
});

const BACKEND = process.getuid!() === 0 ? 'kernel' : 'fuse';
const { missing } = subjectNamed(BACKEND);
(missing === undefined ? test.serial : test.skip)(
  `overlay worktrees by the command: made, found, repaired, pruned, removed${missing ? ` (${missing})` : ''}`,
  async (t) => {
    const registry = await registryWithClone(t);
    const { root, run, json, attempt } = registry;
    await removeAll(t, registry);
    const words = ['--driver', 'overlay2', '--backend', BACKEND];
    const made = await json('worktree', 'add', 'model', 'main', '--branch', 'work', ...words);
    t.like(made, { driver: 'overlay2', backend: BACKEND, reachable: true, branch: 'work' });
    t.is(readFileSync(join(made.path, 'd/b.txt'), 'utf8'), 'b\n');
    t.is(gitIn(made.path, 'status', '--porcelain'), '');
    t.is((await json('worktree', 'add', 'model', 'main', '--branch', 'work', ...words)).id, made.id);
    t.is((await run('worktree', 'path', 'model', 'work')).stdout, `${made.path}\n`);

    writeFileSync(join(made.path, 'new'), 'new\n');
    t.is((await attempt('worktree', 'remove', 'model', 'work')).code, 64);
    const { worktrees } = await json('worktree', 'repair', 'model');
    t.deepEqual(
      worktrees.map(({ outcome }: { outcome: string }) => outcome),
      ['well'],
    );

    const layers = join(root, '.git2db/layers');
    const [layer] = readdirSync(layers).filter((name) => !name.startsWith('.')) as [string];
    t.deepEqual((await json('worktree', 'prune', 'model', '--dry-run')).layers, []);
    // One that nobody uses, as a crash may leave it.
    const stray = layer.replace(/[0-9a-f]{24}$/, '0'.repeat(24));
    await run('worktree', 'remove', 'model', 'work', '--force');
    t.false(existsSync(made.path));
    t.deepEqual(
      readdirSync(layers).filter((name) => !name.startsWith('.')),
      [],
    );
    const second = await json('worktree', 'add', 'model', 'topic', ...words);
    const [used] = readdirSync(layers).filter((name) => !name.startsWith('.')) as [string];
    renameSync(join(layers, used), join(layers, stray));
    for (const dryRun of [true, true, false]) {
      const pruned = await json('worktree', 'prune', 'model', ...(dryRun ? ['--dry-run'] : []));
      t.deepEqual(pruned, { dryRun, worktrees: [], layers: [stray] });
      t.is(existsSync(join(layers, stray)), dryRun);
    }
    t.is(second.branch, 'topic');
  },
);

(missing === undefined ? test.serial : test.skip)(
  `an overlay worktree that is not mounted, as after a reboot, is told everywhere, with what helps${missing ? ` (${missing})` : ''}`,
  async (t) => {
    const registry = await registryWithClone(t);
    const { run, json, attempt } = registry;
    await removeAll(t, registry);
    const { path } = await json(
      'worktree',
      'add',
      'model',
      'topic',
      ...['--driver', 'overlay2', '--backend', BACKEND],
    );
    writeFileSync(join(path, 'new'), 'new\n');
    t.is((await json('verify')).findings.length, 0);
    await unmountTree(path);

    const { code, stdout } = await attempt('verify', '--json');
    t.is(code, 1);
    t.like(JSON.parse(stdout).findings[0], { code: 'unmounted-worktree', path, repairable: true });
    t.like((await json('worktree', 'list', 'model')).worktrees[0], { path, mounted: false });
    t.regex((await run('worktree', 'list', 'model')).stdout, /not mounted/);
    const { root } = registry;
    for (const [argv, cwd] of [
      [['status', 'model', '--worktree', 'topic'], root],
      [['worktree', 'path', 'model', 'topic'], root],
      [['status'], path],
    ] as const) {
      const asked = await cli([...argv], { cwd, env: { GIT2DB_REGISTRY: root } });
      t.is(asked.code, 48, argv.join(' '));
      t.regex(asked.stderr, /is not mounted .*'git2db repair'/);
    }

    // What stands in its place is not hidden, and not deleted.
    chmodSync(path, 0o700);
    writeFileSync(join(path, 'mine'), 'mine\n');
    t.like(JSON.parse((await attempt('verify', '--json')).stdout).findings[0], { repairable: false });
    const refused = await attempt('repair');
    t.is(refused.code, 1);
    t.regex(refused.stderr, /files stand in its place \(mine;.*out of the way.*upper/);
    t.is(readFileSync(join(path, 'mine'), 'utf8'), 'mine\n');
    renameSync(path, `${path}.aside`);
    t.teardown(() => rmSync(`${path}.aside`, { recursive: true, force: true }));
    await run('repair');
    t.is(readFileSync(join(path, 'new'), 'utf8'), 'new\n');
    t.deepEqual((await json('verify')).findings, []);
  },
);

const { missing: noFuse } = subjectNamed('fuse');
(noFuse === undefined ? test.serial : test.skip)(
  `a worktree whose FUSE server was killed is told at once, not when the kernel forgets its root${noFuse ? ` (${noFuse})` : ''}`,
  async (t) => {
    const registry = await registryWithClone(t);
    const { run, json, attempt } = registry;
    await removeAll(t, registry);
    const words = ['--driver', 'overlay2', '--backend', 'fuse'];
    const { path } = await json('worktree', 'add', 'model', 'topic', ...words);
    t.true((await json('worktree', 'list', 'model')).worktrees[0].mounted);
    statSync(path);
    const [server] = list().find(({ merged }) => merged.toString() === path)?.processes ?? [];
    process.kill(server!.pid, 'SIGKILL');
    const deadline = Date.now() + 60_000;
    while ((await json('worktree', 'list', 'model')).worktrees[0].mounted && Date.now() < deadline);
    t.is((await attempt('status', 'model', '--worktree', 'topic')).code, 48);
    const [finding] = JSON.parse((await attempt('verify', '--json')).stdout).findings;
    t.like(finding, { code: 'unmounted-worktree', repairable: true });
    t.regex(finding.message, /its server has ended/);
    await run('repair');
    t.is(readFileSync(join(path, 'd/b.txt'), 'utf8'), 'b\n');
  },
);

test('a worktree that has lost its directory in the repository, or parts of its own, is told, mended or removed', async (t) => {
  const { root, run, json, attempt } = await registryWithClone(t);
  const repository = join(root, 'repos/model');
  const { path } = await json('worktree', 'add', 'model', 'topic', '--driver', 'vfs');
  rmSync(join(repository, '.git/worktrees'), { recursive: true });
  const { stdout, code } = await attempt('verify', '--json');
  t.is(code, 1);
  t.like(JSON.parse(stdout).findings[0], { code: 'broken-worktree', path });
  t.is((await attempt('repair')).code, 1);
  t.is((await attempt('worktree', 'remove', 'model', path)).code, 64);
  await run('worktree', 'remove', 'model', path, '--force');
  t.false(existsSync(path));
  t.deepEqual((await json('verify')).findings, []);
  // A registry that has lost its metadata is found from below all the same.
  rmSync(join(root, '.git2db/metadata.json'));
  const restored = await cli(['repair'], { cwd: repository });
  t.is(restored.code, 0, restored.stderr);
  t.true(existsSync(join(root, '.git2db/metadata.json')));
});

(missing === undefined ? test : test.skip)(
  'a work directory that is gone is made again; an upper that is gone is never taken for an empty one',
  async (t) => {
    const registry = await registryWithClone(t);
    const { root, run, json, attempt } = registry;
    await removeAll(t, registry);
    const { id, path } = await json('worktree', 'add', 'model', 'topic', '--driver', 'overlay2');
    writeFileSync(join(path, 'mine'), 'work');
    const parts = join(root, '.git2db/worktrees', id);
    await unmountTree(path, process.env);
    rmSync(join(parts, 'work'), { recursive: true });
    await run('repair');
    t.is(readFileSync(join(path, 'mine'), 'utf8'), 'work');
    await unmountTree(path, process.env);
    rmSync(join(parts, 'upper'), { recursive: true });
    const { code, stderr } = await attempt('repair');
    t.is(code, 1);
    t.regex(stderr, /upper is gone/);
    t.false(existsSync(join(parts, 'upper')));
    await run('worktree', 'remove', 'model', path, '--force');
    t.false(existsSync(parts));
  },
);
