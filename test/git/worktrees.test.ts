import { rmSync } from 'node:fs';
import test from 'ava';
import { repositoryAt } from '../../src/git/repository.ts';
import { listWorktrees } from '../../src/git/worktrees.ts';
import { createSandbox, isolateProcess } from '../helpers/git-sandbox.ts';

isolateProcess();

test('every worktree is listed with its git directory, branch and state', async (t) => {
  const { git, gitText, path } = createSandbox(t);
  await git(['init', '--quiet', 'r']);
  const cwd = 'r';
  t.deepEqual(await listWorktrees(repositoryAt(path('r'))!), [
    {
      path: path('r'),
      gitDir: path('r/.git'),
      main: true,
      bare: false,
      head: undefined,
      branch: 'refs/heads/main',
      locked: undefined,
      prunable: undefined,
    },
  ]);
  await git(['commit', '--quiet', '--allow-empty', '-m', 'one'], { cwd });
  const head = await gitText(['rev-parse', 'HEAD'], { cwd });
  await git(['worktree', 'add', '--quiet', '--detach', '../new\nline ü'], { cwd });
  await git(['worktree', 'add', '--quiet', '-b', 'topic', '../a/same'], { cwd });
  await git(['worktree', 'add', '--quiet', '--detach', '../b/same'], { cwd });
  await git(['worktree', 'lock', '--reason', 'in "use"', '../a/same'], { cwd });
  rmSync(path('b/same'), { recursive: true });

  const listed = await listWorktrees(repositoryAt(path('a/same'))!);
  const byPath = new Map(listed.map((worktree) => [worktree.path, worktree]));
  t.is(listed[0]?.path, path('r'));
  t.is(listed.length, 4);
  const common = { main: false, bare: false, head, locked: undefined, prunable: undefined };
  t.deepEqual(byPath.get(path('new\nline ü')), {
    ...common,
    path: path('new\nline ü'),
    gitDir: repositoryAt(path('new\nline ü'))!.gitDir,
    branch: undefined,
  });
  t.deepEqual(byPath.get(path('a/same')), {
    ...common,
    path: path('a/same'),
    gitDir: path('r/.git/worktrees/same'),
    branch: 'refs/heads/topic',
    locked: 'in "use"',
  });
  const gone = byPath.get(path('b/same'));
  t.is(gone?.gitDir, path('r/.git/worktrees/same1'));
  t.regex(gone?.prunable ?? '', /non-existent/);
});

test('a bare repository is listed as such, with its worktrees', async (t) => {
  const { git, path } = createSandbox(t);
  await git(['init', '--quiet', 'r']);
  await git(['commit', '--quiet', '--allow-empty', '-m', 'one'], { cwd: 'r' });
  await git(['clone', '--quiet', '--bare', 'r', 'b.git']);
  await git(['worktree', 'add', '--quiet', '../linked', 'main'], { cwd: 'b.git' });
  const listed = await listWorktrees(repositoryAt(path('linked'))!);
  t.deepEqual(
    listed.map(({ path: at, gitDir, main, bare, branch }) => ({ at, gitDir, main, bare, branch })),
    [
      { at: path('b.git'), gitDir: path('b.git'), main: true, bare: true, branch: undefined },
      {
        at: path('linked'),
        gitDir: path('b.git/worktrees/linked'),
        main: false,
        bare: false,
        branch: 'refs/heads/main',
      },
    ],
  );
});
