import { mkdirSync, realpathSync, symlinkSync } from 'node:fs';
import { resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import test, { type ExecutionContext } from 'ava';
import { parseConfigText } from '../../src/git/config-text.ts';
import { findRepository, type RepositoryPaths, repositoryAt } from '../../src/git/repository.ts';
import { createSandbox, isolateProcess, type Sandbox } from '../helpers/git-sandbox.ts';

isolateProcess();

interface Place {
  /** Relative to the sandbox. */
  readonly cwd: string;
  readonly env?: Readonly<Record<string, string>>;
}

/** What git itself finds, or undefined when it finds nothing. */
async function askGit(sandbox: Sandbox, { cwd, env = {} }: Place): Promise<RepositoryPaths | undefined> {
  const lines = ['--absolute-git-dir', '--git-common-dir'];
  const found = await sandbox.run('git', ['rev-parse', ...lines], { cwd, env });
  if (found.status !== 0) return undefined;
  const [gitDir, commonDir] = found.stdout.split('\n') as [string, string];
  const top = await sandbox.run('git', ['rev-parse', '--show-toplevel'], { cwd, env });
  return {
    gitDir: realpathSync(gitDir),
    commonDir: realpathSync(resolve(realpathSync(sandbox.path(cwd)), commonDir)),
    workTree: top.status === 0 ? realpathSync(top.stdout.trimEnd()) : undefined,
  };
}

const agrees = test.macro({
  async exec(t: ExecutionContext, prepare: (sandbox: Sandbox) => Promise<Place>, found: boolean = true) {
    const sandbox = createSandbox(t);
    const place = await prepare(sandbox);
    const expected = await askGit(sandbox, place);
    t.is(expected !== undefined, found);
    const env = { ...sandbox.env, ...place.env };
    t.deepEqual(findRepository(sandbox.path(place.cwd), env), expected);
  },
  title: (what) => `findRepository agrees with git: ${what}`,
});

/** A repository `r` with one commit. */
async function oneCommit({ git, write }: Sandbox, ...flags: string[]): Promise<void> {
  await git(['init', '--quiet', ...flags, 'r']);
  write('r/sub/deep/file', 'x');
  await git(['add', '.'], { cwd: 'r' });
  await git(['commit', '--quiet', '-m', 'one'], { cwd: 'r' });
}

test('the top of a work tree', agrees, async (sandbox) => {
  await oneCommit(sandbox);
  return { cwd: 'r' };
});

test('a directory below it', agrees, async (sandbox) => {
  await oneCommit(sandbox);
  return { cwd: 'r/sub/deep' };
});

test('a SHA-256 repository with a detached HEAD', agrees, async (sandbox) => {
  await oneCommit(sandbox, '--object-format=sha256');
  await sandbox.git(['checkout', '--quiet', '--detach'], { cwd: 'r' });
  return { cwd: 'r' };
});

test('a linked worktree', agrees, async (sandbox) => {
  await oneCommit(sandbox);
  await sandbox.git(['worktree', 'add', '--quiet', '../linked'], { cwd: 'r' });
  return { cwd: 'linked/sub' };
});

test('a linked worktree of a bare repository', agrees, async (sandbox) => {
  await oneCommit(sandbox);
  await sandbox.git(['clone', '--quiet', '--bare', 'r', 'b.git']);
  await sandbox.git(['worktree', 'add', '--quiet', '../linked'], { cwd: 'b.git' });
  return { cwd: 'linked' };
});

test('a linked worktree of a repository that has its own core.worktree', agrees, async (sandbox) => {
  await oneCommit(sandbox);
  await sandbox.git(['worktree', 'add', '--quiet', '../linked'], { cwd: 'r' });
  mkdirSync(sandbox.path('elsewhere'));
  await sandbox.git(['config', 'core.worktree', sandbox.path('elsewhere')], { cwd: 'r' });
  return { cwd: 'linked' };
});

test('a bare repository, from a directory in it', agrees, async (sandbox) => {
  await sandbox.git(['init', '--quiet', '--bare', 'b.git']);
  return { cwd: 'b.git/refs' };
});

test('a git directory kept elsewhere', agrees, async (sandbox) => {
  await sandbox.git(['init', '--quiet', '--separate-git-dir', 'store', 'r']);
  return { cwd: 'r' };
});

test('a submodule', agrees, async (sandbox) => {
  await oneCommit(sandbox);
  await sandbox.git(['init', '--quiet', 'super']);
  await sandbox.git(['submodule', '--quiet', 'add', '../r', 'mod'], { cwd: 'super' });
  return { cwd: 'super/mod/sub' };
});

test("a submodule's git directory, whose core.worktree leads back", agrees, async (sandbox) => {
  await oneCommit(sandbox);
  await sandbox.git(['init', '--quiet', 'super']);
  await sandbox.git(['submodule', '--quiet', 'add', sandbox.path('r'), 'mod'], { cwd: 'super' });
  return { cwd: 'super/mod', env: { GIT_DIR: '../.git/modules/mod' } };
});

test('core.worktree, from inside the work tree it names', agrees, async (sandbox) => {
  await oneCommit(sandbox);
  await sandbox.git(['config', 'core.worktree', '../sub'], { cwd: 'r' });
  return { cwd: 'r/sub/deep' };
});

test('core.worktree in config.worktree', agrees, async (sandbox) => {
  await oneCommit(sandbox);
  await sandbox.git(['config', 'extensions.worktreeConfig', 'true'], { cwd: 'r' });
  await sandbox.git(['config', '--worktree', 'core.worktree', sandbox.path('r/sub')], { cwd: 'r' });
  return { cwd: 'r/sub/deep' };
});

test('core.bare in a repository with a work tree', agrees, async (sandbox) => {
  await oneCommit(sandbox);
  await sandbox.git(['config', 'core.bare', 'yes'], { cwd: 'r' });
  return { cwd: 'r' };
});

test('GIT_DIR, whose work tree is then the current directory', agrees, async (sandbox) => {
  await oneCommit(sandbox);
  mkdirSync(sandbox.path('elsewhere'));
  return { cwd: 'elsewhere', env: { GIT_DIR: '../r/.git' } };
});

test('GIT_DIR of a bare repository, as in its hooks', agrees, async (sandbox) => {
  await sandbox.git(['init', '--quiet', '--bare', 'b.git']);
  return { cwd: 'b.git', env: { GIT_DIR: '.' } };
});

test('GIT_DIR of a linked worktree that names a .git file', agrees, async (sandbox) => {
  await oneCommit(sandbox);
  await sandbox.git(['worktree', 'add', '--quiet', '../linked'], { cwd: 'r' });
  return { cwd: 'linked', env: { GIT_DIR: '.git' } };
});

test('GIT_DIR and GIT_WORK_TREE', agrees, async (sandbox) => {
  await oneCommit(sandbox);
  return { cwd: '.', env: { GIT_DIR: 'r/.git', GIT_WORK_TREE: 'r/sub' } };
});

test('GIT_WORK_TREE alone', agrees, async (sandbox) => {
  await oneCommit(sandbox);
  return { cwd: 'r', env: { GIT_WORK_TREE: 'sub' } };
});

test('GIT_COMMON_DIR', agrees, async (sandbox) => {
  await oneCommit(sandbox);
  const common = { GIT_COMMON_DIR: sandbox.path('r/.git') };
  await sandbox.git(['init', '--quiet', 'other']);
  return { cwd: 'other', env: { GIT_DIR: sandbox.path('other/.git'), ...common } };
});

test('a symbolic link to a directory of the work tree', agrees, async (sandbox) => {
  await oneCommit(sandbox);
  symlinkSync(sandbox.path('r/sub'), sandbox.path('link'));
  return { cwd: 'link' };
});

test('no repository', agrees, async () => ({ cwd: '.' }), false);

test(
  'a ceiling directory that is the top',
  agrees,
  async (sandbox) => {
    await oneCommit(sandbox);
    return { cwd: 'r/sub', env: { GIT_CEILING_DIRECTORIES: sandbox.path('r') } };
  },
  false,
);

test('a ceiling directory that is the current directory', agrees, async (sandbox) => {
  await oneCommit(sandbox);
  return { cwd: 'r', env: { GIT_CEILING_DIRECTORIES: sandbox.path('r') } };
});

test(
  'a ceiling directory behind a symbolic link',
  agrees,
  async (sandbox) => {
    await oneCommit(sandbox);
    symlinkSync(sandbox.path('r'), sandbox.path('link'));
    return { cwd: 'r/sub', env: { GIT_CEILING_DIRECTORIES: `/nowhere:${sandbox.path('link')}` } };
  },
  false,
);

test('a ceiling directory whose links are not to be resolved', agrees, async (sandbox) => {
  await oneCommit(sandbox);
  symlinkSync(sandbox.path('r'), sandbox.path('link'));
  return { cwd: 'r/sub', env: { GIT_CEILING_DIRECTORIES: `:${sandbox.path('link')}` } };
});

test('a directory that only looks like a git directory', agrees, async (sandbox) => {
  await oneCommit(sandbox);
  sandbox.write('r/fake/HEAD', 'something else');
  for (const name of ['objects', 'refs']) mkdirSync(sandbox.path('r/fake', name));
  return { cwd: 'r/fake' };
});

test('inside the git directory the repository keeps its work tree', async (t) => {
  const sandbox = createSandbox(t);
  await oneCommit(sandbox);
  await sandbox.git(['worktree', 'add', '--quiet', '../linked'], { cwd: 'r' });
  const gitDir = sandbox.path('r/.git');
  const main = { gitDir, commonDir: gitDir, workTree: sandbox.path('r') };
  t.deepEqual(findRepository(sandbox.path('r/.git/objects'), sandbox.env), main);
  const admin = sandbox.path('r/.git/worktrees/linked');
  t.deepEqual(findRepository(admin, sandbox.env), {
    gitDir: admin,
    commonDir: gitDir,
    workTree: sandbox.path('linked'),
  });
});

test('what leads to no repository is named', async (t) => {
  const sandbox = createSandbox(t);
  sandbox.write('broken/.git', 'not a git file\n');
  sandbox.write('dangling/.git', 'gitdir: ../nowhere\n');
  for (const cwd of ['broken', 'dangling']) {
    t.throws(() => findRepository(sandbox.path(cwd), sandbox.env), {
      code: 'NOT_A_REPOSITORY',
      message: new RegExp(sandbox.path(cwd)),
    });
    t.is(repositoryAt(sandbox.path(cwd)), undefined);
  }
  t.throws(() => findRepository(sandbox.dir, { GIT_DIR: 'nowhere' }), {
    code: 'NOT_A_REPOSITORY',
    message: /GIT_DIR is nowhere/,
  });
  t.is(findRepository(sandbox.path('gone'), {}), undefined);
});

test('another repository is found by path or URL, as a remote would be', async (t) => {
  const sandbox = createSandbox(t);
  const { path, git } = sandbox;
  await oneCommit(sandbox);
  await git(['worktree', 'add', '--quiet', '../linked'], { cwd: 'r' });
  await git(['clone', '--quiet', '--bare', 'r', 'b.git']);
  await git(['clone', '--quiet', 'r', 'ä b%']);
  const main = { gitDir: path('r/.git'), commonDir: path('r/.git'), workTree: path('r') };
  const linked = {
    gitDir: path('r/.git/worktrees/linked'),
    commonDir: path('r/.git'),
    workTree: path('linked'),
  };
  const bare = { gitDir: path('b.git'), commonDir: path('b.git'), workTree: undefined };
  const odd = { gitDir: path('ä b%/.git'), commonDir: path('ä b%/.git'), workTree: path('ä b%') };
  const cases: [string, RepositoryPaths | undefined][] = [
    [path('r'), main],
    [path('r/.git'), main],
    [`${path('r')}/`, main],
    [path('linked'), linked],
    [path('linked/.git'), linked],
    [path('r/.git/worktrees/linked'), linked],
    [path('b.git'), bare],
    [path('b'), bare],
    [pathToFileURL(path('ä b%')).href, odd],
    [`file://localhost${path('b.git')}`, bare],
    [`FILE://${path('r')}`, main],
    [`file://elsewhere${path('b.git')}`, undefined],
    [path('r/sub'), undefined],
    [path('r/sub/deep/file'), undefined],
    [path('gone'), undefined],
    ['https://example.invalid/r', undefined],
  ];
  for (const [location, expected] of cases) t.deepEqual(repositoryAt(location), expected, location);
});

test('a configuration file is read as git reads it', async (t) => {
  const sandbox = createSandbox(t);
  const files = [
    '[core]\n\tbare = false\n\tworktree = ../x # why\n',
    '[Core]Bare=TRUE\n[a "B.c \\"d\\\\"]\r\nx = 1\r\n  y\r\n',
    '# \\\n[a]\n; [b]\nx = "  a # b ; c  " tail  # comment\n',
    '[a]\nx = one \\\n   two\ny = "q\\"uo\\\\te\\td\\n"\nz=\nw = a\\\\\n',
    '\uFEFF[a.B]\nx = y = z\n[A]\n\tkey-2 = caf\u00e9\n',
    '[a]\nx = a"b  c"d   e\ny = 1\\\r\n2\n',
  ];
  for (const [number, text] of files.entries()) {
    sandbox.write('file', text);
    const { stdout } = await sandbox.git(['config', '-z', '--list', '--file', 'file']);
    const expected = stdout
      .split('\0')
      .slice(0, -1)
      .map((piece) => {
        const newline = piece.indexOf('\n');
        if (newline < 0) return { key: piece, value: undefined };
        return { key: piece.slice(0, newline), value: piece.slice(newline + 1) };
      });
    t.true(expected.length > 0);
    t.deepEqual([...parseConfigText(text)], expected, `file ${number}`);
  }
});
