import { execFileSync } from 'node:child_process';
import {
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { openPlace } from '../../../src/registry/git-place.ts';
import { WorktreeManager } from '../../../src/registry/handles/worktree.ts';
import { Git2dbError } from '../../../src/xet/errors.ts';
import { isolateProcess } from '../../helpers/git-sandbox.ts';
import { createXetSandbox, TRACKED } from '../../helpers/xet-sandbox.ts';
import { subjectNamed } from '../../mount-helper/helpers/subjects.ts';
import type { Summary } from './helpers/agent.ts';
import { contentsOf, createWorktreeSandbox, fillOrdinary } from './helpers/worktree-sandbox.ts';

isolateProcess();

const IS_ROOT = process.getuid!() === 0;
const ANY = IS_ROOT ? 'kernel' : 'fuse-user';

// ---- reflink ----------------------------------------------------------------------------------

/** A file system that clones files, in TMPDIR for what the callback does; undefined: none can be had. */
async function onCloningFileSystem(
  t: ExecutionContext,
  work: () => Promise<void>,
): Promise<string | undefined> {
  if (!IS_ROOT) return 'needs root';
  const base = mkdtempSync(join(tmpdir(), 'git2db-clone-test-'));
  t.teardown(() => rmSync(base, { recursive: true, force: true }));
  const [image, mounted] = [join(base, 'image'), join(base, 'mounted')];
  mkdirSync(mounted);
  try {
    execFileSync('truncate', ['-s', '400M', image]);
    execFileSync('mkfs.xfs', ['-q', '-m', 'reflink=1', image], { stdio: 'ignore' });
    execFileSync('mount', ['-o', 'loop', image, mounted], { stdio: 'ignore' });
  } catch {
    return 'no xfs on a loop device can be mounted';
  }
  t.teardown(() => execFileSync('umount', ['--lazy', mounted]));
  const before = process.env.TMPDIR;
  process.env.TMPDIR = mounted;
  try {
    await work();
  } finally {
    if (before === undefined) delete process.env.TMPDIR;
    else process.env.TMPDIR = before;
  }
  return undefined;
}

function sharesBlocks(a: string, b: string): boolean {
  const extents = (path: string) =>
    execFileSync('filefrag', ['-sv', path], { encoding: 'utf8' })
      .split('\n')
      .map((line) => /^\s*0:\s+\d+\.\.\s*\d+:\s+(\d+)/.exec(line)?.[1])
      .find(Boolean);
  return extents(a) !== undefined && extents(a) === extents(b);
}

test.serial(
  'reflink: files share their blocks with the main checkout, and only those whose content is the wanted one',
  async (t) => {
    const missing = await onCloningFileSystem(t, async () => {
      const sandbox = await createWorktreeSandbox(t, 'kernel', async (plain, repo) => {
        const git = (...args: string[]) => plain.git(['-C', repo, ...args]);
        plain.write('repo/.gitattributes', '*.txt eol=crlf\n');
        for (const name of ['same', 'edited', 'staged', 'touched', 'hidden']) {
          plain.write(`repo/${name}`, Buffer.alloc(200_000, name));
        }
        plain.write('repo/a.txt', 'a\nb\n');
        await git('add', '-A');
        await git('commit', '-q', '-m', 'one');
        execFileSync('touch', [
          '-d',
          '2020-01-01',
          ...['same', 'edited', 'touched', 'hidden'].map((name) => join(repo, name)),
        ]);
        await git('update-index', '-q', '--refresh');
        // Clean for git, by lying to it: not what the blob says.
        await git('update-index', '--assume-unchanged', 'hidden');
        writeFileSync(join(repo, 'hidden'), Buffer.alloc(200_000, 'HIDDEN'));
        writeFileSync(join(repo, 'edited'), Buffer.alloc(200_000, 'EDITED'));
        writeFileSync(join(repo, 'staged'), Buffer.alloc(200_000, 'STAGED'));
        await git('add', 'staged');
      });
      const agent = sandbox.agent();
      const made = await agent.create({ ref: 'main', detach: true, driver: 'reflink' });
      t.is(made.driver, 'reflink');
      const plain = sandbox.path('plain');
      await sandbox.gitIn(sandbox.repo, 'worktree', 'add', '-q', '--detach', plain, 'main');
      t.is(await contentsOf(sandbox, made.path), await contentsOf(sandbox, plain));
      t.is(await sandbox.gitIn(made.path, 'status', '--porcelain'), '');
      t.true(sharesBlocks(join(made.path, 'same'), join(sandbox.repo, 'same')));
      for (const name of ['edited', 'staged', 'hidden']) {
        t.false(sharesBlocks(join(made.path, name), join(sandbox.repo, name)), name);
      }
      // A layer is made from the same donor, and the next layer from that one.
      const overlay = await agent.create({ ref: 'main', newBranch: 'overlay', driver: 'overlay2' });
      t.is(await contentsOf(sandbox, overlay.path), await contentsOf(sandbox, plain));
      t.is(await sandbox.gitIn(overlay.path, 'diff-files', '--name-only'), '');
      const layer = readdirSync(sandbox.home.layers).find((name) => !name.startsWith('.'))!;
      t.true(sharesBlocks(join(sandbox.home.layers, layer, 'tree', 'same'), join(sandbox.repo, 'same')));
      await agent.remove(made.id);
      t.false(existsSync(made.path));
      await agent.remove('overlay');
    });
    if (missing !== undefined) t.log(missing);
    t.pass();
  },
);

// ---- large files ------------------------------------------------------------------------------

test.serial(
  'large files of filter=xet are in the layer once, as content, and a failing filter publishes nothing',
  async (t) => {
    const sandbox = createXetSandbox(t);
    const repository = await sandbox.repository('repo', `*.bin ${TRACKED}\n`);
    const content = Buffer.alloc(3_000_000, 'a large file ');
    repository.write('big.bin', content);
    await repository.commit('big');
    const home = {
      worktrees: sandbox.path('h', 'worktrees'),
      layers: sandbox.path('h', 'layers'),
      store: undefined,
    };
    const place = await openPlace(repository.dir, { trusted: true, env: { ...sandbox.env } });
    const manager = new WorktreeManager(place, home);
    const made = await manager.create({ ref: 'main', newBranch: 'a' });
    t.teardown(() => manager.remove('a', { force: true }));
    t.deepEqual(readFileSync(join(made.path, 'big.bin')), content);
    const git = (...args: string[]) => sandbox.git(['-C', made.path, ...args]);
    t.is((await git('diff-files', '--name-only')).stdout, '');
    t.is((await git('status', '--porcelain')).stdout, '');
    const usage = await made.diskUsage();
    t.true(usage.ownBytes <= 100 * 1024);
    // Without the content a required filter fails, and so does the worktree.
    await repository.commit('nothing').catch(() => {});
    repository.write('other.bin', Buffer.alloc(2_000_000, 'another one '));
    await repository.commit('other');
    rmSync(repository.store, { recursive: true });
    const before = readdirSync(home.layers).filter((name) => !name.startsWith('.')).length;
    await t.throwsAsync(manager.create({ ref: 'main', newBranch: 'b', driver: 'overlay2' }), {
      instanceOf: Git2dbError,
    });
    t.is(readdirSync(home.layers).filter((name) => !name.startsWith('.')).length, before);
    t.deepEqual(
      readdirSync(home.layers).filter((name) => name.startsWith('.making-')),
      [],
    );
    t.is((await sandbox.git(['-C', repository.dir, 'branch', '--list', 'b'])).stdout, '');
  },
);

// ---- namespaces -------------------------------------------------------------------------------

const userns = subjectNamed('userns');
(userns.missing === undefined ? test.serial : test.skip)(
  `userns: not reachable from outside, and git works in it all the same${userns.missing ? ` (${userns.missing})` : ''}`,
  async (t) => {
    const sandbox = await createWorktreeSandbox(t, 'userns');
    const agent = sandbox.agent();
    const made = await agent.create({ ref: 'main~1', driver: 'overlay2', backend: 'userns' });
    t.like(made, { backend: 'userns', reachable: false });
    t.is(await agent.ask('status', { name: made.id }), '');
    t.deepEqual(readdirSync(made.path), ['.git'], 'outside there is only the guard');
    t.deepEqual(
      (await agent.ask<Summary[]>('list')).map(({ reachable }) => reachable),
      [false],
    );
    await agent.remove(made.id);
    t.false(existsSync(made.path));
  },
);

// ---- hooks and trust --------------------------------------------------------------------------

test.serial(
  'post-checkout runs as with git worktree add, and not in a repository that is not trusted',
  async (t) => {
    const sandbox = await createWorktreeSandbox(t, ANY, async (plain, repo) => {
      await fillOrdinary(plain, repo);
      const hook = join(repo, '.git', 'hooks', 'post-checkout');
      mkdirSync(join(repo, '.git', 'hooks'), { recursive: true });
      writeFileSync(hook, `#!/bin/sh\necho "$PWD $*" >> ${plain.path('log')}\n`, { mode: 0o755 });
    });
    const agent = sandbox.agent();
    for (const driver of ['overlay2', 'vfs'] as const) {
      const made = await agent.create({ ref: 'main~1', path: sandbox.path(driver), driver });
      const none = '0'.repeat(40);
      t.is(readFileSync(sandbox.path('log'), 'latin1'), `${made.path} ${none} ${made.head} 1\n`);
      rmSync(sandbox.path('log'));
      const spec = { ref: 'main~1', path: sandbox.path(`${driver}-untrusted`), driver };
      await agent.ask('create', { spec, trusted: false });
      t.false(existsSync(sandbox.path('log')), driver);
    }
  },
);

// ---- bare repositories, SHA-256, other places ---------------------------------------------------

test.serial('a bare repository, one with SHA-256, and layers on another file system', async (t) => {
  const sandbox = await createWorktreeSandbox(t, ANY, async (plain, repo) => {
    rmSync(repo, { recursive: true });
    const source = plain.path('source');
    await plain.git(['init', '-q', '--object-format=sha256', source]);
    plain.write('source/a', 'a\n');
    await plain.git(['-C', source, 'add', '-A']);
    await plain.git(['-C', source, 'commit', '-q', '-m', 'a']);
    await plain.git(['clone', '-q', '--bare', source, repo]);
  });
  const agent = sandbox.agent();
  const made = await agent.create({ ref: 'main', driver: 'overlay2' });
  t.is(made.branch, 'main');
  t.is(made.head?.length, 64);
  t.is(await sandbox.gitIn(made.path, 'status', '--porcelain'), '');
  await sandbox.as('sh', '-c', 'cd "$0" && echo b > b && git add b && git commit -q -m b', made.path);
  t.is(await sandbox.gitIn(sandbox.repo, 'log', '-1', '--format=%s', 'main'), 'b');
  if (statSync('/dev/shm', { throwIfNoEntry: false }) === undefined) return;
  const layers = mkdtempSync('/dev/shm/git2db-test-');
  if (IS_ROOT && sandbox.subject.uid !== 0) execFileSync('chown', [String(sandbox.subject.uid), layers]);
  t.teardown(() => rmSync(layers, { recursive: true, force: true }));
  const elsewhere = sandbox.agent({
    layers,
    worktrees: sandbox.path('home2', 'worktrees'),
    store: undefined,
  });
  const other = await elsewhere.create({ ref: 'main', newBranch: 'elsewhere', driver: 'overlay2' });
  t.is(await sandbox.gitIn(other.path, 'diff-files', '--name-only'), '', 'no content is read');
  t.is(await sandbox.gitIn(other.path, 'status', '--porcelain'), '');
  t.is(await sandbox.gitIn(sandbox.repo, 'rev-parse', '--is-bare-repository'), 'true');
  t.is(await sandbox.gitIn(made.path, 'rev-parse', '--is-inside-work-tree'), 'true');
  await elsewhere.remove('elsewhere');
});

test.serial('the facet: create, get, find, lock, unlock, ephemeral worktrees', async (t) => {
  const sandbox = await createWorktreeSandbox(t, IS_ROOT ? 'kernel' : 'fuse-user');
  const place = await openPlace(sandbox.repo, { trusted: true, env: { ...sandbox.env } });
  const manager = new WorktreeManager(place, sandbox.home);
  const made = await manager.create('', 'feature/x');
  t.is((await manager.get('feature/x')).path, made.path);
  t.is((await manager.get(made.path)).id, made.id);
  t.is(await manager.find('nothing'), undefined);
  const error = await t.throwsAsync(manager.get('featur/x'), { instanceOf: Git2dbError });
  t.is(error.code, 'NOT_FOUND');
  t.deepEqual(error.data.near, ['feature/x']);
  await made.lock('needed for a demo');
  t.is((await manager.get('feature/x')).locked, 'needed for a demo');
  t.is(
    (await t.throwsAsync(manager.remove('feature/x'), { instanceOf: Git2dbError })).code,
    'WORKTREE_DIRTY',
  );
  await made.unlock();
  t.is((await manager.get('feature/x')).locked, undefined);
  const there = await made.place();
  t.is(there.workTree, made.path);
  {
    await using temporary = await manager.create({ ref: 'v1', ephemeral: true });
    t.true(lstatSync(temporary.path).isDirectory());
    t.is((await manager.list()).length, 2);
  }
  t.is((await manager.list()).length, 1);
  await manager.remove('feature/x');
  const aborted = new AbortController();
  aborted.abort();
  await t.throwsAsync(manager.create({ ref: 'v1', signal: aborted.signal }), { name: 'AbortError' });
  t.deepEqual(await manager.list(), []);
});
