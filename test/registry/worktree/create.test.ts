import {
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { basename, join } from 'node:path';
import test from 'ava';
import { type SubjectName, subjectNamed } from '../../mount-helper/helpers/subjects.ts';
import {
  type AgentError,
  contentsOf,
  createWorktreeSandbox,
  type WorktreeSandbox,
} from './helpers/worktree-sandbox.ts';

const OVERLAYS = ['kernel', 'fuse', 'fuse-user'] as const satisfies readonly SubjectName[];

async function refusal(asking: Promise<unknown>): Promise<AgentError> {
  try {
    await asking;
  } catch (error) {
    return error as AgentError;
  }
  throw new Error('expected a refusal');
}

async function compareWithGit(
  t: { is(a: unknown, b: unknown, m?: string): void },
  sandbox: WorktreeSandbox,
  path: string,
  ref: string,
) {
  const plain = sandbox.path(`plain-${ref.replace(/\W/g, '-')}`);
  await sandbox.gitIn(sandbox.repo, 'worktree', 'add', '-q', '--detach', plain, ref);
  t.is(await contentsOf(sandbox, path), await contentsOf(sandbox, plain), ref);
  await sandbox.gitIn(sandbox.repo, 'worktree', 'remove', '--force', plain);
}

// ---- the same files as git's, on every driver and backend -------------------------------------

for (const name of OVERLAYS) {
  const { missing } = subjectNamed(name);
  const backend = name === 'kernel' ? 'kernel' : 'fuse';
  const run = missing === undefined ? test.serial : test.skip;
  run(
    `overlay2 on ${name}: branches, tags, oids and main~3 hold what git worktree add gives${missing ? ` (${missing})` : ''}`,
    async (t) => {
      const sandbox = await createWorktreeSandbox(t, name);
      const agent = sandbox.agent();
      const oid = await sandbox.gitIn(sandbox.repo, 'rev-parse', 'main~1');
      for (const ref of ['feature/x', 'v1', oid, 'main~3', 'main~5']) {
        const made = await agent.create({ ref, driver: 'overlay2', backend });
        t.is(made.backend, backend);
        t.is(made.branch, ref === 'feature/x' ? 'feature/x' : undefined);
        t.is(made.head, await sandbox.gitIn(sandbox.repo, 'rev-parse', `${ref}^{commit}`));
        t.is(
          await sandbox.gitIn(made.path, 'diff-files', '--name-only'),
          '',
          'the index has the stat data of the mount',
        );
        t.is(await sandbox.gitIn(made.path, 'status', '--porcelain', '--ignored'), '');
        await compareWithGit(t, sandbox, made.path, ref);
      }
    },
  );
}

for (const driver of ['vfs', 'auto'] as const) {
  test.serial(`${driver}: branches, tags, oids and main~3 hold what git worktree add gives`, async (t) => {
    const sandbox = await createWorktreeSandbox(t, process.getuid!() === 0 ? 'kernel' : 'fuse-user');
    const agent = sandbox.agent();
    const oid = await sandbox.gitIn(sandbox.repo, 'rev-parse', 'main~1');
    for (const ref of ['feature/x', 'v1', oid, 'main~3']) {
      const made = await agent.create({ ref, driver });
      if (driver === 'vfs') t.is(made.driver, 'vfs');
      t.is(await sandbox.gitIn(made.path, 'status', '--porcelain'), '');
      await compareWithGit(t, sandbox, made.path, ref);
    }
  });
}

test.serial(
  'a driver that cannot work is an error with the reason, and auto tells what it passed over',
  async (t) => {
    const sandbox = await createWorktreeSandbox(t, process.getuid!() === 0 ? 'kernel' : 'fuse-user');
    const agent = sandbox.agent();
    const tmpfs = lstatSync('/dev/shm', { throwIfNoEntry: false }) === undefined ? undefined : '/dev/shm';
    if (tmpfs !== undefined) {
      const path = `${tmpfs}/git2db-test-${process.pid}`;
      const error = await refusal(agent.create({ ref: 'main~1', path, driver: 'reflink' }));
      t.is(error.code, 'DRIVER_UNAVAILABLE');
      t.regex(error.message, /does not clone files/);
      t.is(lstatSync(path, { throwIfNoEntry: false }), undefined);
    }
    await sandbox.gitIn(sandbox.repo, 'config', 'core.sparseCheckout', 'true');
    const made = await agent.create({ ref: 'main~1' });
    t.is(made.driver, 'vfs');
    t.deepEqual(
      made.rejected.map((each) => each.driver),
      ['overlay2', 'reflink'],
    );
    t.true(made.rejected.every(({ reason }) => reason.includes('sparse checkout')));
  },
);

// ---- names ------------------------------------------------------------------------------------

const ANY = process.getuid!() === 0 ? 'kernel' : 'fuse-user';

test.serial('the same words give the same worktree; equal last parts of names do not meet', async (t) => {
  const sandbox = await createWorktreeSandbox(t, ANY);
  const agent = sandbox.agent();
  const first = await agent.create({ ref: 'feature/x' });
  const other = await agent.create({ ref: 'other/x' });
  t.not(first.path, other.path);
  t.deepEqual(await agent.create({ ref: 'feature/x' }), first);
  t.deepEqual(await agent.create({ ref: 'feature/x', path: first.path }), first);
  t.deepEqual(await agent.create({ ref: 'refs/heads/feature/x' }), first);
  const detached = await agent.create({ ref: 'main~3' });
  t.deepEqual(await agent.create({ ref: 'main~3' }), detached);
  const named = await agent.create({ ref: 'main', newBranch: 'made/by us'.replace(' ', '-') });
  t.deepEqual(await agent.create({ ref: 'main', newBranch: 'made/by-us' }), named);
  const [a, b] = [sandbox.path('one', 'x'), sandbox.path('two', 'x')];
  t.is((await agent.create({ ref: 'v1', path: a })).path, a);
  t.is((await agent.create({ ref: 'v1', path: b })).path, b);
  t.is(await sandbox.gitIn(a, 'rev-parse', 'HEAD'), await sandbox.gitIn(b, 'rev-parse', 'v1^{commit}'));
  t.is((await agent.ask<unknown[]>('list')).length, 6);
});

test.serial(
  'a branch that is checked out, a path that is taken, and refs that are none are typed errors',
  async (t) => {
    const sandbox = await createWorktreeSandbox(t, ANY);
    const agent = sandbox.agent();
    const busy = await refusal(agent.create({ ref: 'main' }));
    t.is(busy.code, 'WORKTREE_BUSY');
    t.is(busy.data.path, sandbox.repo);
    const first = await agent.create({ ref: 'feature/x' });
    const elsewhere = await refusal(agent.create({ ref: 'feature/x', path: sandbox.path('elsewhere') }));
    t.is(elsewhere.code, 'WORKTREE_BUSY');
    t.is(elsewhere.data.path, first.path);
    t.is((await refusal(agent.create({ ref: 'v1', path: first.path }))).code, 'WORKTREE_EXISTS');
    t.is(
      (await refusal(agent.create({ ref: 'v1', path: join(first.path, 'inside') }))).code,
      'PATH_UNSUITABLE',
    );
    mkdirSync(sandbox.path('full'));
    writeFileSync(sandbox.path('full', 'mine'), 'mine');
    t.is((await refusal(agent.create({ ref: 'v1', path: sandbox.path('full') }))).code, 'WORKTREE_EXISTS');
    t.deepEqual(readdirSync(sandbox.path('full')), ['mine']);
    symlinkSync('/nonexistent', sandbox.path('dangling'));
    for (const path of [
      sandbox.path('dangling'),
      join(sandbox.repo, '.git', 'x'),
      sandbox.repo,
      'x\ny',
      'x ',
      '/',
    ]) {
      t.is((await refusal(agent.create({ ref: 'v1', path }))).code, 'PATH_UNSUITABLE', path);
    }
    for (const ref of [
      'nowhere',
      '-b',
      '--detach',
      '',
      'main\nmain',
      'HEAD:file1.txt',
      'v1^{tree}',
      'main..v1',
    ]) {
      t.is((await refusal(agent.create({ ref }))).code, 'REF_INVALID', ref);
    }
    for (const newBranch of [
      '-x',
      'a..b',
      'a.lock',
      'a b',
      '@',
      'HEAD',
      'feature/x',
      'refs/../x',
      'a/',
      '.a',
    ]) {
      t.is((await refusal(agent.create({ ref: 'v1', newBranch }))).code, 'REF_INVALID', newBranch);
    }
    t.regex((await refusal(agent.create({ ref: 'featur' }))).message, /did you mean feature\/x/);
  },
);

test.serial('a failure leaves no branch, no directory, no record', async (t) => {
  const sandbox = await createWorktreeSandbox(t, ANY);
  const agent = sandbox.agent();
  await sandbox.gitIn(sandbox.repo, 'config', 'filter.broken.smudge', 'false');
  await sandbox.gitIn(sandbox.repo, 'config', 'filter.broken.clean', 'cat');
  await sandbox.gitIn(sandbox.repo, 'config', 'filter.broken.required', 'true');
  await sandbox.gitIn(sandbox.repo, 'checkout', '-q', '-b', 'filtered');
  await sandbox.as('sh', '-c', 'echo "*.txt filter=broken" > "$0/.gitattributes"', sandbox.repo);
  await sandbox.gitIn(sandbox.repo, 'add', '.gitattributes');
  await sandbox.gitIn(sandbox.repo, 'commit', '-q', '-m', 'filtered');
  const before = await sandbox.gitIn(sandbox.repo, 'for-each-ref');
  for (const driver of ['auto', 'overlay2', 'vfs'] as const) {
    const error = await refusal(agent.create({ ref: 'filtered', newBranch: 'stray', driver }));
    t.is(error.code, 'GIT_FAILED');
    t.is(await sandbox.gitIn(sandbox.repo, 'for-each-ref'), before, driver);
    t.deepEqual(
      readdirSync(sandbox.home.worktrees).filter((each) => !each.startsWith('.')),
      [],
    );
    t.deepEqual(
      readdirSync(sandbox.home.layers).filter((each) => each !== '.locks'),
      [],
    );
    t.is(lstatSync(`${sandbox.repo}.worktrees`, { throwIfNoEntry: false }), undefined);
    t.is(lstatSync(join(sandbox.repo, '.git', 'worktrees'), { throwIfNoEntry: false }), undefined);
  }
});

test.serial('a branch that only a remote has is made and follows it, as with git worktree add', async (t) => {
  const sandbox = await createWorktreeSandbox(t, ANY, async (plain, repo) => {
    const source = plain.path('source');
    await plain.git(['init', '-q', source]);
    plain.write('source/a', 'a\n');
    await plain.git(['-C', source, 'add', '-A']);
    await plain.git(['-C', source, 'commit', '-q', '-m', 'a']);
    await plain.git(['-C', source, 'branch', 'topic/far']);
    await plain.git(['-C', repo, 'remote', 'add', 'origin', source]);
    await plain.git(['-C', repo, 'fetch', '-q', 'origin']);
    await plain.git(['-C', repo, 'checkout', '-q', 'main']);
  });
  const agent = sandbox.agent();
  const made = await agent.create({ ref: 'topic/far' });
  t.is(made.branch, 'topic/far');
  t.is(await sandbox.gitIn(made.path, 'rev-parse', '--abbrev-ref', '@{upstream}'), 'origin/topic/far');
  const remote = await agent.create({ ref: 'origin/topic/far' });
  t.is(remote.branch, undefined);
  const tracking = await agent.create({ ref: 'origin/topic/far', newBranch: 'mine' });
  t.is(await sandbox.gitIn(tracking.path, 'rev-parse', '--abbrev-ref', '@{upstream}'), 'origin/topic/far');
});

// ---- conversions ------------------------------------------------------------------------------

test.serial(
  'line ends, ident, encodings and attributes outside the tree come out as git writes them',
  async (t) => {
    const sandbox = await createWorktreeSandbox(t, ANY, async (plain, repo) => {
      const git = (...args: string[]) => plain.git(['-C', repo, ...args]);
      plain.write(
        'repo/.gitattributes',
        '*.txt text eol=crlf\n*.id ident\n*.u16 working-tree-encoding=UTF-16LE\n',
      );
      plain.write('repo/a.txt', 'a\nb\n');
      plain.write('repo/a.id', '$Id$\n');
      plain.write('repo/a.u16', Buffer.from('hällo\n', 'utf16le'));
      plain.write('repo/sub/a.txt', 'a\nb\n');
      plain.write('repo/plain', 'a\nb\n');
      await git('add', '-A');
      await git('commit', '-q', '-m', 'one');
      plain.write('repo/sub/.gitattributes', '*.txt eol=lf\n');
      plain.write('repo/.gitattributes', '*.txt text\n*.id -ident\n*.u16 working-tree-encoding=UTF-16LE\n');
      await git('add', '-A');
      await git('commit', '-q', '-m', 'two');
    });
    const agent = sandbox.agent();
    const paths: string[] = [];
    for (const ref of ['main~1', 'HEAD']) {
      const made = await agent.create({ ref, detach: true, driver: 'overlay2' });
      paths.push(made.path);
      t.is(await sandbox.gitIn(made.path, 'status', '--porcelain'), '');
      await compareWithGit(t, sandbox, made.path, ref);
    }
    t.is(readFileSync(join(paths[0]!, 'a.txt'), 'latin1'), 'a\r\nb\r\n');
    t.is(readFileSync(join(paths[1]!, 'a.txt'), 'latin1'), 'a\nb\n');
    const layers = readdirSync(sandbox.home.layers).length;
    // Not in the tree: the same tree is another layer.
    await sandbox.as('sh', '-c', 'echo "plain text eol=crlf" > "$0/.git/info/attributes"', sandbox.repo);
    const outside = await agent.create({
      ref: 'HEAD',
      detach: true,
      path: sandbox.path('outside'),
      driver: 'overlay2',
    });
    t.is(readFileSync(join(outside.path, 'plain'), 'latin1'), 'a\r\nb\r\n');
    t.is(readdirSync(sandbox.home.layers).length, layers + 1);
    await sandbox.gitIn(sandbox.repo, 'config', 'core.autocrlf', 'true');
    const converted = await agent.create({ ref: 'main~1', path: sandbox.path('crlf'), driver: 'overlay2' });
    await compareWithGit(t, sandbox, converted.path, 'main~1');
  },
);

for (const [value, label] of [
  ['group', 'group'],
  ['all', 'all'],
  ['0640', 'an octal mode'],
] as const) {
  test.serial(
    `core.sharedRepository (${label}): admin files have the modes that git gives them`,
    async (t) => {
      const sandbox = await createWorktreeSandbox(t, ANY);
      await sandbox.gitIn(sandbox.repo, 'config', 'core.sharedRepository', value);
      const made = await sandbox.agent().create({ ref: 'main', newBranch: 'ours', driver: 'overlay2' });
      await sandbox.gitIn(sandbox.repo, 'worktree', 'add', '-q', '-b', 'gits', sandbox.path('gits'));
      const modes = (path: string) =>
        // The directory itself git makes with the umask alone.
        ['HEAD', 'index', 'logs', 'logs/HEAD'].map(
          (name) => `${name} ${(statSync(join(path, name)).mode & 0o7777).toString(8)}`,
        );
      const admin = (name: string) => join(sandbox.repo, '.git/worktrees', name);
      t.deepEqual(modes(admin(basename(made.path))), modes(admin('gits')));
    },
  );
}
