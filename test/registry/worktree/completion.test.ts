import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, readdirSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { resolveConfig } from '../../../src/registry/config.ts';
import { GitManager } from '../../../src/registry/git-manager.ts';
import { openPlace } from '../../../src/registry/git-place.ts';
import { Git2DB } from '../../../src/registry/git2db.ts';
import { WorktreeManager } from '../../../src/registry/handles/worktree.ts';
import { unmountTree } from '../../../src/registry/worktree/overlay-mount.ts';
import type { Worktree } from '../../../src/registry/worktree/worktree.ts';
import { readState } from '../../../src/registry/worktree/worktree-state.ts';
import { upperOf, worktreeDirectory } from '../../../src/registry/worktree/worktree-store.ts';
import { cli } from '../../cli/run.ts';
import { isolateProcess } from '../../helpers/git-sandbox.ts';
import { createXetSandbox, TRACKED } from '../../helpers/xet-sandbox.ts';
import { subjectNamed } from '../../mount-helper/helpers/subjects.ts';
import { mountsBelow } from './helpers/worktree-sandbox.ts';

isolateProcess();

const FIRST = Buffer.alloc(300_000, 'the first large file ');
const SECOND = Buffer.alloc(200_000, 'the second large file ');

/** A repository with two large files, whose content is not here. */
async function createIncomplete(t: ExecutionContext) {
  const sandbox = createXetSandbox(t);
  const repository = await sandbox.repository('repo', `*.bin ${TRACKED}\n`);
  mkdirSync(join(repository.dir, 'dir'));
  repository.write('first.bin', FIRST);
  repository.write('dir/second.bin', SECOND);
  repository.write('text', 'text\n');
  await repository.commit('large files');
  await sandbox.git(['-C', repository.dir, 'config', 'xet.onMissing', 'pointer']);
  const aside = `${repository.store}-aside`;
  renameSync(repository.store, aside);
  const home = {
    worktrees: sandbox.path('h', 'worktrees'),
    layers: sandbox.path('h', 'layers'),
    store: undefined,
  };
  const place = await openPlace(repository.dir, { trusted: true, env: { ...sandbox.env } });
  const manager = new WorktreeManager(place, home);
  t.teardown(async () => {
    for (const merged of mountsBelow(dirname(home.worktrees))) await unmountTree(merged);
    for (const each of await manager.list()) if (!each.foreign) await each.remove({ force: true });
  });
  return {
    sandbox,
    home,
    manager,
    /** As a fetch would. */
    bringContent() {
      rmSync(repository.store, { recursive: true, force: true });
      renameSync(aside, repository.store);
    },
    state: ({ id }: Worktree) => readState(worktreeDirectory(home, id))!,
    async git(worktree: Worktree, ...args: string[]) {
      return (await sandbox.git(['-C', worktree.path, ...args])).stdout.trimEnd();
    },
  };
}

function isPointer(worktree: Worktree, name: string): boolean {
  return statSync(join(worktree.path, name)).size < 200;
}

for (const backend of ['kernel', 'fuse'] as const) {
  const { missing } = subjectNamed(backend);
  const run = missing === undefined ? test.serial : test.skip;
  run(
    `${backend}: content that comes is in the layer, and clean worktrees are moved to it; others at their next mount${missing ? ` (${missing})` : ''}`,
    async (t) => {
      const { home, manager, bringContent, state, git } = await createIncomplete(t);
      const make = (newBranch: string) =>
        manager.create({
          ref: 'main',
          newBranch,
          path: join(home.worktrees, '..', newBranch),
          driver: 'overlay2',
          backend,
        });
      const [clean, dirty, busy] = [await make('clean'), await make('dirty'), await make('busy')];
      for (const each of [clean, dirty, busy]) {
        t.true(isPointer(each, 'first.bin') && isPointer(each, 'dir/second.bin'));
        t.is(await git(each, 'status', '--porcelain'), '');
      }
      t.is(state(clean).layer, state(busy).layer, 'one layer for all that lack the same');
      t.deepEqual(
        (await manager.complete()).map(({ outcome }) => outcome),
        ['missing', 'missing', 'missing'],
      );

      bringContent();
      writeFileSync(join(dirty.path, 'text'), 'changed\n');
      const user = spawn('sleep', ['600'], { cwd: busy.path, stdio: 'ignore' });
      await once(user, 'spawn');
      t.teardown(() => user.kill());
      const outcomes = new Map((await manager.complete()).map(({ id, outcome }) => [id, outcome]));
      t.deepEqual(
        [clean, dirty, busy].map(({ id }) => outcomes.get(id)),
        ['moved', 'later', 'later'],
      );

      t.deepEqual(readFileSync(join(clean.path, 'first.bin')), FIRST);
      t.deepEqual(readFileSync(join(clean.path, 'dir/second.bin')), SECOND);
      t.is(
        await git(clean, 'diff-files', '--name-only'),
        '',
        'the index knows the content without reading it',
      );
      t.is(await git(clean, 'status', '--porcelain'), '');
      t.deepEqual(readdirSync(upperOf(home, clean.id).upper), ['.git'], 'no copy in the upper');
      t.true(isPointer(dirty, 'first.bin') && isPointer(busy, 'first.bin'));

      const later = await make('later');
      t.deepEqual(readFileSync(join(later.path, 'first.bin')), FIRST);
      t.is(state(later).layer, state(clean).layer);
      t.is(state(later).complete, undefined);

      user.kill();
      await once(user, 'exit');
      for (const each of [dirty, busy]) await unmountTree(each.path);
      const repaired = await manager.repair();
      t.is(repaired.filter(({ outcome }) => outcome === 'repaired').length, 2);
      for (const each of [dirty, busy]) {
        t.deepEqual(readFileSync(join(each.path, 'first.bin')), FIRST);
        t.is(state(each).layer, state(clean).layer);
      }
      t.is(await git(dirty, 'diff-files', '--name-only'), 'text');
      t.is(readFileSync(join(dirty.path, 'text'), 'utf8'), 'changed\n');
      t.is(await git(busy, 'status', '--porcelain'), '');
      t.deepEqual(await manager.complete(), [], 'nothing is lacking any more');
    },
  );
}

const ANY = process.getuid!() === 0 ? 'kernel' : 'fuse';
const any = subjectNamed(ANY);
(any.missing === undefined ? test.serial : test.skip)(
  `a lost layer that lacked content is made again, with what has come meanwhile${any.missing ? ` (${any.missing})` : ''}`,
  async (t) => {
    const { home, manager, bringContent, state, git } = await createIncomplete(t);
    const made = await manager.create({ ref: 'main', newBranch: 'one', driver: 'overlay2', backend: ANY });
    writeFileSync(join(made.path, 'text'), 'changed\n');
    await unmountTree(made.path);
    rmSync(home.layers, { recursive: true });
    bringContent();
    await manager.repair();
    t.deepEqual(readFileSync(join(made.path, 'first.bin')), FIRST);
    t.is(state(made).complete, undefined);
    t.is(await git(made, 'status', '--porcelain'), ' M text');
  },
);

/** A clone in a registry, and a worktree of it, made while the content was nowhere. */
async function createIncompleteClone(t: ExecutionContext) {
  const sandbox = createXetSandbox(t, { config: { 'xet.onMissing': 'pointer' } });
  const source = await sandbox.repository('source', `*.bin ${TRACKED}\n`);
  source.write('first.bin', FIRST);
  await source.commit('large file');
  const aside = `${source.store}-aside`;
  renameSync(source.store, aside);
  const env = { ...sandbox.env };
  const { config } = resolveConfig({ cwd: sandbox.dir, env });
  const manager = new GitManager({ config, env });
  const registry = await Git2DB.open(sandbox.path('registry'), { config, manager, env });
  const record = await registry.clone(source.dir, { name: 'clone' });
  const handle = await registry.repo(record.id);
  t.teardown(async () => {
    for (const merged of mountsBelow(registry.root)) await unmountTree(merged);
    for (const each of await handle.worktree().list()) await each.remove({ force: true });
    await handle[Symbol.asyncDispose]();
    await registry[Symbol.asyncDispose]();
    await manager[Symbol.asyncDispose]();
  });
  const worktree = await handle
    .worktree()
    .create({ ref: 'main', newBranch: 'one', driver: 'overlay2', backend: ANY });
  t.true(isPointer(worktree, 'first.bin'));
  renameSync(aside, source.store);
  return {
    env,
    handle,
    worktree,
    main: registry.absolutePath(record),
    upper: upperOf(registry.home, worktree.id),
  };
}

const here = any.missing ? ` (${any.missing})` : '';

(any.missing === undefined ? test.serial : test.skip)(
  `xet pull in one checkout of a registry's repository shows the others the content${here}`,
  async (t) => {
    const { env, worktree, main, upper } = await createIncompleteClone(t);
    t.true(statSync(join(main, 'first.bin')).size < 200);
    const { code, stderr } = await cli(['xet', 'pull', '--verbose'], { cwd: main, env });
    t.is(code, 0, stderr);
    t.regex(stderr, /worktree .*: it shows the content now/);
    t.deepEqual(readFileSync(join(main, 'first.bin')), FIRST);
    t.deepEqual(readFileSync(join(worktree.path, 'first.bin')), FIRST);
    t.deepEqual(readdirSync(upper.upper), ['.git'], 'no copy in the upper');
  },
);

(any.missing === undefined ? test.serial : test.skip)(
  `a fetch or a pull by a handle completes worktrees, that of the handle too${here}`,
  async (t) => {
    const { handle, worktree, upper } = await createIncompleteClone(t);
    const at = await handle.at(worktree);
    // Its own worktree: the content comes in the shared tree before any file is written.
    const { written, failed } = await at.xet.pull();
    t.deepEqual([written, failed], [[], []]);
    t.deepEqual(readFileSync(join(worktree.path, 'first.bin')), FIRST);
    t.deepEqual(readdirSync(upper.upper), ['.git'], 'no copy in the upper');
    const other = await createIncompleteClone(t);
    t.is((await other.handle.xet.fetch()).files[0]!.outcome, 'moved');
    t.deepEqual(readFileSync(join(other.worktree.path, 'first.bin')), FIRST);
  },
);
