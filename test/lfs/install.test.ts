import {
  chmodSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { EXIT_CODES } from '../../src/exit-codes.ts';
import { installHooks, isGitLfsHook, uninstallHooks } from '../../src/large-files/hook-files.ts';
import { isolateProcess, type Sandbox } from '../helpers/git-sandbox.ts';
import { createLfsSandbox, HAS_GIT_LFS } from './lfs-sandbox.ts';

isolateProcess();

const withGitLfs = HAS_GIT_LFS ? test.serial : test.skip;
const reason = HAS_GIT_LFS ? '' : ' (skipped: git-lfs is not installed)';

async function emptyRepository(sandbox: Sandbox): Promise<string> {
  await sandbox.git(['init', '-q', 'repository']);
  return sandbox.path('repository');
}

function hooksIn(dir: string): Record<string, string> {
  const hooks = join(dir, '.git/hooks');
  if (!existsSync(hooks)) return {};
  const names = readdirSync(hooks).filter((name) => !name.endsWith('.sample'));
  return Object.fromEntries(names.map((name) => [name, readFileSync(join(hooks, name), 'latin1')]));
}

function xet(sandbox: Sandbox, cwd: string, ...args: string[]) {
  return sandbox.run('git2db', ['xet', ...args], { cwd });
}

async function configOf(sandbox: Sandbox, cwd: string): Promise<string[]> {
  const { stdout } = await sandbox.run('git', ['config', '--local', '--get-regexp', '^(filter|git2db)\\.'], {
    cwd,
  });
  return stdout.split('\n').filter(Boolean).sort();
}

withGitLfs(
  `install --lfs takes over from git-lfs, and uninstall gives everything back${reason}`,
  async (t) => {
    const sandbox = createLfsSandbox(t);
    const cwd = await emptyRepository(sandbox);
    await sandbox.runOk('git', ['lfs', 'install', '--local'], { cwd });
    const hooks = hooksIn(cwd);
    t.deepEqual(Object.keys(hooks).sort(), ['post-checkout', 'post-commit', 'post-merge', 'pre-push']);
    const config = await configOf(sandbox, cwd);

    const plain = await xet(sandbox, cwd, 'install', '--local');
    t.is(plain.status, EXIT_CODES.REFUSED);
    t.regex(plain.stderr, /pre-push.* is that of git-lfs: git2db xet install --lfs/s);
    t.deepEqual(await configOf(sandbox, cwd), config, 'nothing was changed');

    const installed = await xet(sandbox, cwd, 'install', '--local', '--lfs', '--json');
    t.is(installed.status, 0, installed.stderr);
    t.deepEqual(Object.keys(hooksIn(cwd)), ['pre-push']);
    t.regex(hooksIn(cwd)['pre-push']!, /git2db xet hook pre-push "\$@"/);
    t.truthy(statSync(join(cwd, '.git/hooks/pre-push')).mode & 0o100);
    const now = await configOf(sandbox, cwd);
    t.true(now.includes('filter.lfs.process git2db-lfs-filter'));
    t.false(now.some((line) => line.startsWith('filter.lfs.clean')));
    t.deepEqual(
      JSON.parse((await xet(sandbox, cwd, 'install', '--local', '--lfs', '--json')).stdout).changes,
      [],
    );

    // git-lfs, run once more, does not get in silently.
    const again = await sandbox.run('git', ['lfs', 'install', '--local'], { cwd });
    t.not(again.status, 0);
    t.true((await configOf(sandbox, cwd)).includes('filter.lfs.process git2db-lfs-filter'));

    const removed = await xet(sandbox, cwd, 'uninstall', '--local');
    t.is(removed.status, 0, removed.stderr);
    t.deepEqual(await configOf(sandbox, cwd), config);
    t.deepEqual(hooksIn(cwd), hooks);
  },
);

withGitLfs(
  `git lfs install --force after ours wins, uninstall leaves it, and install takes over again${reason}`,
  async (t) => {
    const sandbox = createLfsSandbox(t);
    const cwd = await emptyRepository(sandbox);
    t.is((await xet(sandbox, cwd, 'install', '--local', '--lfs')).status, 0);
    await sandbox.runOk('git', ['lfs', 'install', '--local', '--force'], { cwd });
    const theirs = await configOf(sandbox, cwd);
    t.true(theirs.includes('filter.lfs.process git-lfs filter-process'));
    const doctor = await xet(sandbox, cwd, 'doctor', '--json');
    t.regex(doctor.stdout, /"lfs-driver-taken-over"/);
    t.regex(doctor.stdout, /git2db xet install --local --lfs/);
    const hooks = hooksIn(cwd);
    t.is((await xet(sandbox, cwd, 'uninstall', '--local', '--lfs')).status, 0);
    t.true((await configOf(sandbox, cwd)).includes('filter.lfs.process git-lfs filter-process'));
    t.deepEqual(hooksIn(cwd), hooks);
    t.is((await xet(sandbox, cwd, 'install', '--local', '--lfs')).status, 0);
    t.true((await configOf(sandbox, cwd)).includes('filter.lfs.process git2db-lfs-filter'));
    t.is((await xet(sandbox, cwd, 'uninstall', '--local', '--lfs')).status, 0);
    t.true((await configOf(sandbox, cwd)).includes('filter.lfs.process git-lfs filter-process'));
  },
);

test.serial('a foreign hook is refused with the remedy, or kept and run after ours', async (t) => {
  const sandbox = createLfsSandbox(t);
  const cwd = await emptyRepository(sandbox);
  mkdirSync(join(cwd, '.git/hooks'), { recursive: true });
  const foreign = '#!/bin/sh\necho "foreign $1 $(cat)" >> "$(git rev-parse --git-dir)/called"\n';
  writeFileSync(join(cwd, '.git/hooks/pre-push'), foreign, { mode: 0o755 });
  const refused = await xet(sandbox, cwd, 'install', '--local');
  t.is(refused.status, EXIT_CODES.REFUSED);
  t.regex(refused.stderr, /git2db xet install --chain-hooks/);
  t.regex(refused.stderr, /git2db xet hook pre-push "\$@"/);
  t.deepEqual(await configOf(sandbox, cwd), []);
  t.is((await xet(sandbox, cwd, 'install', '--local', '--no-hooks')).status, 0);
  t.deepEqual(hooksIn(cwd), { 'pre-push': foreign });

  t.is((await xet(sandbox, cwd, 'install', '--local', '--chain-hooks')).status, 0);
  t.deepEqual(Object.keys(hooksIn(cwd)).sort(), ['pre-push', 'pre-push.chained']);
  // A stand-in for our program tells what it gets.
  const bin = join(sandbox.tmp, 'bin');
  mkdirSync(bin);
  const program = join(bin, 'git2db');
  writeFileSync(
    program,
    '#!/bin/sh\necho "ours $* $(cat)" >> "$(git rev-parse --git-dir)/called"\nexit $FAIL\n',
  );
  chmodSync(program, 0o755);
  const env = { FAIL: '0', PATH: `${bin}:${sandbox.env.PATH}` };
  const hook = join(cwd, '.git/hooks/pre-push');
  const input = 'refs/heads/main 1 refs/heads/main 0\nrefs/heads/b 2 refs/heads/b 0\n';
  await sandbox.runOk(hook, ['origin', 'url'], { cwd, env, input });
  const called = readFileSync(join(cwd, '.git/called'), 'utf8');
  const lines = input.trimEnd();
  t.is(called, `ours xet hook pre-push origin url ${lines}\nforeign origin ${lines}\n`);
  const failed = await sandbox.run(hook, ['origin', 'url'], { cwd, env: { ...env, FAIL: '7' }, input });
  t.is(failed.status, 7, 'the push stops where ours fails');
  t.is(
    readFileSync(join(cwd, '.git/called'), 'utf8'),
    `${called}ours xet hook pre-push origin url ${lines}\n`,
  );

  t.is((await xet(sandbox, cwd, 'uninstall', '--local')).status, 0);
  t.deepEqual(hooksIn(cwd), { 'pre-push': foreign });
});

test.serial('without git2db on PATH the hook stops the push and says why', async (t) => {
  const sandbox = createLfsSandbox(t);
  const cwd = await emptyRepository(sandbox);
  await xet(sandbox, cwd, 'install', '--local');
  const { status, stderr } = await sandbox.run(join(cwd, '.git/hooks/pre-push'), ['o', 'u'], {
    cwd,
    env: { PATH: '/usr/bin:/bin' },
    input: '',
  });
  t.is(status, 1);
  t.regex(stderr, /git2db is not on PATH/);
});

test.serial(
  'core.hooksPath is where the hook goes; a git that takes hooks from configuration gets it there',
  async (t) => {
    const sandbox = createLfsSandbox(t);
    const cwd = await emptyRepository(sandbox);
    await sandbox.git(['config', 'core.hooksPath', 'my-hooks'], { cwd });
    const changes = await installHooks({ cwd, lfs: false, chain: false, inConfiguration: false });
    t.deepEqual(
      changes.map(({ place }) => place),
      [join(cwd, 'my-hooks/pre-push')],
    );
    t.true(existsSync(join(cwd, 'my-hooks/pre-push')));
    await installHooks({ cwd, lfs: false, chain: false, inConfiguration: true });
    t.false(existsSync(join(cwd, 'my-hooks/pre-push')), 'it must not run twice');
    t.is(await sandbox.gitText(['config', 'hook.git2db-xet.event'], { cwd }), 'pre-push');
    t.is(await sandbox.gitText(['config', 'hook.git2db-xet.command'], { cwd }), 'git2db xet hook pre-push');
    await uninstallHooks({ cwd, lfsOnly: false });
    t.is((await sandbox.run('git', ['config', '--get-regexp', '^hook\\.'], { cwd })).stdout, '');
  },
);

test.serial("git-lfs's hooks of all times are told from others by their shape", (t) => {
  const check = (message: string, status: number) =>
    `#!/bin/sh\ncommand -v git-lfs >/dev/null 2>&1 || { echo >&2 "${message}"; exit ${status}; }\ngit lfs pre-push "$@"\n`;
  for (const text of [
    '#!/bin/sh\ngit lfs push --stdin $*',
    '#!/bin/sh\ngit lfs push --stdin "$@"\n',
    '#!/bin/sh\ngit lfs pre-push "$@"',
    check('\\nnot installed.\\n', 0),
    check("\\nThis is configured for it but 'git-lfs' was not found on your path.\\n", 2),
  ]) {
    t.true(isGitLfsHook('pre-push', text), text);
  }
  for (const text of [
    '#!/bin/sh\ngit lfs pre-push "$@"\nmake test\n',
    '#!/bin/sh\nmake test\ngit lfs pre-push "$@"\n',
    '#!/bin/bash\ngit lfs pre-push "$@"\n',
    '#!/bin/sh\ngit lfs post-merge "$@"\n',
    check('$(make test)', 2),
    '',
  ]) {
    t.false(isGitLfsHook('pre-push', text), text);
  }
});
