import { spawnSync } from 'node:child_process';
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
import test, { type ExecutionContext } from 'ava';
import { EXIT_CODES } from '../../src/exit-codes.ts';
import { installHooks } from '../../src/large-files/hook-files.ts';
import { installLfs } from '../../src/large-files/lfs-install.ts';
import { cli, gitIn, isolateGit, repository, sourceFile, temporaryFolder } from './run.ts';

isolateGit();

const SCRIPT = sourceFile('scripts/install-hooks.sh');
const XET_KEYS = '^(filter|diff)\\.xet\\.|^xet\\.';

/** A search path with a program git2db-filter in front. */
function pathWithFilter(t: ExecutionContext): string {
  const folder = temporaryFolder(t);
  writeFileSync(join(folder, 'git2db-filter'), '#!/bin/sh\n');
  chmodSync(join(folder, 'git2db-filter'), 0o755);
  return `${folder}:${process.env.PATH}`;
}

function settings(cwd: string, scope: string): string[] {
  const { stdout } = spawnSync('git', ['config', scope, '--get-regexp', XET_KEYS], { cwd, encoding: 'utf8' });
  return stdout.split('\n').filter(Boolean).sort();
}

const INSTALLED = [
  'diff.xet.wordregex [0-9a-f]{64}|[0-9]+|[a-z_]+|[^[:space:]]',
  'filter.xet.process git2db-filter',
  'filter.xet.required true',
];

test('install writes the filter once, and uninstall leaves the file as it was', async (t) => {
  const cwd = repository(t);
  const before = readFileSync(join(cwd, '.git/config'), 'utf8');
  const env = { PATH: pathWithFilter(t) };
  const first = await cli(['xet', 'install', '--local'], { cwd, env });
  t.deepEqual([first.code, first.stderr], [0, 'git2db is installed in the local git configuration\n']);
  t.deepEqual(settings(cwd, '--local'), INSTALLED);
  const installed = readFileSync(join(cwd, '.git/config'), 'utf8');
  const again = await cli(['xet', 'install', '--local', '--json'], { cwd, env });
  t.deepEqual(JSON.parse(again.stdout).changes, []);
  t.is(readFileSync(join(cwd, '.git/config'), 'utf8'), installed);
  const removed = await cli(['xet', 'uninstall', '--local', '--json'], { cwd });
  t.is(JSON.parse(removed.stdout).changes.length, 3);
  t.is(readFileSync(join(cwd, '.git/config'), 'utf8'), before);
  t.is((await cli(['xet', 'uninstall', '--local'], { cwd })).code, 0);
});

test.serial("the default is the user's own configuration", async (t) => {
  const cwd = temporaryFolder(t);
  t.is((await cli(['xet', 'install'], { cwd })).code, 0);
  t.deepEqual(settings(cwd, '--global'), INSTALLED);
  t.is((await cli(['xet', 'uninstall'], { cwd })).code, 0);
  t.deepEqual(settings(cwd, '--global'), []);
});

test('--worktree writes to the configuration of one work tree', async (t) => {
  const cwd = repository(t);
  gitIn(cwd, 'config', 'extensions.worktreeConfig', 'true');
  t.is((await cli(['xet', 'install', '--worktree'], { cwd })).code, 0);
  t.deepEqual(settings(cwd, '--worktree'), INSTALLED);
  t.true(existsSync(join(cwd, '.git/config.worktree')));
});

test('--skip-smudge is remembered, and a later install without it takes it back', async (t) => {
  const cwd = repository(t);
  await cli(['xet', 'install', '--local', '--skip-smudge'], { cwd });
  t.is(gitIn(cwd, 'config', '--local', 'xet.skipSmudge'), 'true');
  const { stdout } = await cli(['xet', 'install', '--local', '--json'], { cwd });
  t.deepEqual(JSON.parse(stdout).changes, [{ key: 'xet.skipSmudge', from: 'true', to: null }]);
  t.deepEqual(settings(cwd, '--local'), INSTALLED);
});

test('a foreign value is shown and kept, all of it, until --force', async (t) => {
  const cwd = repository(t);
  gitIn(cwd, 'config', 'filter.xet.process', 'git-xet filter');
  gitIn(cwd, 'config', 'filter.xet.clean', 'git-xet clean %f');
  const before = settings(cwd, '--local');
  const refused = await cli(['xet', 'install', '--local'], { cwd });
  t.is(refused.code, EXIT_CODES.REFUSED);
  t.regex(
    refused.stderr,
    /filter\.xet\.process = git-xet filter\n {2}filter\.xet\.clean = git-xet clean %f\n.*--force/,
  );
  t.deepEqual(settings(cwd, '--local'), before);
  t.is((await cli(['xet', 'install', '--local', '--force'], { cwd })).code, 0);
  t.deepEqual(settings(cwd, '--local'), INSTALLED);
});

test('several values of one key are foreign too', async (t) => {
  const cwd = repository(t);
  gitIn(cwd, 'config', '--add', 'filter.xet.process', 'git2db-filter');
  gitIn(cwd, 'config', '--add', 'filter.xet.process', 'other');
  t.is((await cli(['xet', 'install', '--local'], { cwd })).code, EXIT_CODES.REFUSED);
  t.is((await cli(['xet', 'install', '--local', '--force'], { cwd })).code, 0);
  t.deepEqual(settings(cwd, '--local'), INSTALLED);
});

test('uninstall keeps a value that somebody changed, and names it', async (t) => {
  const cwd = repository(t);
  await cli(['xet', 'install', '--local'], { cwd });
  gitIn(cwd, 'config', 'filter.xet.process', 'my-filter');
  gitIn(cwd, 'config', 'diff.xet.textconv', 'mine');
  const { code, stderr } = await cli(['xet', 'uninstall', '--local'], { cwd });
  t.is(code, 0);
  t.regex(stderr, /filter\.xet\.process = my-filter .* left alone/);
  t.deepEqual(settings(cwd, '--local'), ['diff.xet.textconv mine', 'filter.xet.process my-filter']);
});

test.serial('a stronger value in this repository is named', async (t) => {
  const cwd = repository(t);
  gitIn(cwd, 'config', 'filter.xet.required', 'false');
  const { stderr, stdout } = await cli(['xet', 'install', '--json'], { cwd });
  t.regex(stderr, /the local configuration says filter\.xet\.required = false, which wins here/);
  t.deepEqual(JSON.parse(stdout).overridden, [
    { key: 'filter.xet.required', value: 'false', scope: 'local' },
  ]);
  await cli(['xet', 'uninstall'], { cwd });
});

test('a filter program that is not on PATH is warned of, and the rest is done', async (t) => {
  const cwd = repository(t);
  const folder = temporaryFolder(t);
  writeFileSync(join(folder, 'git2db-filter'), 'not executable');
  const { code, stderr } = await cli(['xet', 'install', '--local'], {
    cwd,
    env: { PATH: `${folder}:/usr/bin:/bin` },
  });
  t.is(code, 0);
  t.regex(stderr, /git2db-filter is not on PATH/);
  t.deepEqual(settings(cwd, '--local'), INSTALLED);
});

test('--local needs a repository', async (t) => {
  const { code } = await cli(['xet', 'install', '--local'], { cwd: temporaryFolder(t) });
  t.is(code, EXIT_CODES.NOT_A_REPOSITORY);
});

// ---- scripts/install-hooks.sh ----------------------------------------------------------------

const SHELLS = [['dash'], ['bash', '--posix'], ['busybox', 'sh'], ['zsh', '--emulate', 'sh']];
const present = SHELLS.flatMap(([name, ...flags]) => {
  const { stdout } = spawnSync('sh', ['-c', `command -v ${name}`], { encoding: 'utf8' });
  return stdout === '' ? [] : [[stdout.trim(), ...flags]];
});

function script(
  shell: readonly string[],
  args: readonly string[],
  cwd: string,
  env: Record<string, string> = {},
) {
  const [program, ...flags] = shell;
  return spawnSync(program!, [...flags, SCRIPT, ...args], {
    cwd,
    encoding: 'utf8',
    env: { ...process.env, ...env },
  });
}

function writeHook(cwd: string, name: string, text: string): void {
  mkdirSync(join(cwd, '.git/hooks'), { recursive: true });
  writeFileSync(join(cwd, '.git/hooks', name), text, { mode: 0o755 });
}

function hooksIn(cwd: string): Record<string, string> {
  const hooks = join(cwd, '.git/hooks');
  const names = existsSync(hooks) ? readdirSync(hooks).filter((name) => !name.endsWith('.sample')) : [];
  return Object.fromEntries(names.map((name) => [name, readFileSync(join(hooks, name), 'utf8')]));
}

/** What `git lfs install --local` leaves, in its form of now and in one of old. */
function takenByGitLfs(cwd: string): void {
  for (const [key, value] of [
    ['clean', 'git-lfs clean -- %f'],
    ['smudge', 'git-lfs smudge --skip -- %f'],
    ['process', 'git-lfs filter-process'],
    ['required', 'true'],
  ] as const)
    gitIn(cwd, 'config', `filter.lfs.${key}`, value);
  const test = `command -v git-lfs >/dev/null 2>&1 || { echo >&2 "\\nThis repository is configured for Git LFS but 'git-lfs' was not found on your path.\\n"; exit 2; }`;
  writeHook(cwd, 'pre-push', `#!/bin/sh\n${test}\ngit lfs pre-push "$@"\n`);
  writeHook(cwd, 'post-commit', '#!/bin/sh\ngit lfs post-commit "$@"');
  writeHook(cwd, 'post-merge', '#!/bin/sh\ngit lfs post-merge "$@"\necho mine\n');
}

function lfsSettings(cwd: string): string[] {
  const { stdout } = spawnSync('git', ['config', '--local', '-z', '--get-regexp', 'lfs|replaced'], {
    cwd,
    encoding: 'utf8',
  });
  return stdout.split('\0').filter(Boolean).sort();
}

for (const shell of present) {
  const name = shell.join(' ');

  test(`install-hooks.sh under ${name} writes what xet install writes, once, and takes it back`, async (t) => {
    const cwd = repository(t);
    const twin = repository(t);
    const before = readFileSync(join(cwd, '.git/config'), 'utf8');
    await cli(['xet', 'install', '--local'], { cwd: twin });
    const env = { PATH: pathWithFilter(t) };
    const first = script(shell, ['--local'], cwd, env);
    t.deepEqual([first.status, first.stderr], [0, '']);
    t.deepEqual(settings(cwd, '--local'), settings(twin, '--local'));
    t.deepEqual(hooksIn(cwd), hooksIn(twin));
    t.true((statSync(join(cwd, '.git/hooks/pre-push')).mode & 0o111) === 0o111);
    const installed = readFileSync(join(cwd, '.git/config'), 'utf8');
    t.is(script(shell, ['--local'], cwd, env).status, 0);
    t.is(readFileSync(join(cwd, '.git/config'), 'utf8'), installed);
    t.is(script(shell, ['--local', '--uninstall'], cwd).status, 0);
    t.is(readFileSync(join(cwd, '.git/config'), 'utf8'), before);
    t.deepEqual(hooksIn(cwd), {});
  });

  test(`install-hooks.sh under ${name} replaces with --lfs what git-lfs has, as xet install does, and gives it back`, async (t) => {
    const [cwd, twin] = [repository(t), repository(t)];
    for (const each of [cwd, twin]) takenByGitLfs(each);
    const [config, hooks] = [lfsSettings(cwd), hooksIn(cwd)];
    const refused = script(shell, ['--local'], cwd);
    t.is(refused.status, EXIT_CODES.REFUSED);
    t.regex(refused.stderr, /pre-push is that of git-lfs:\n--lfs/);
    t.deepEqual([lfsSettings(cwd), settings(cwd, '--local')], [config, []], 'nothing was changed');

    await installLfs({ cwd: twin, scope: 'local', force: false });
    await installHooks({ cwd: twin, lfs: true, chain: false, inConfiguration: false });
    for (let run = 0; run < 2; run++) t.is(script(shell, ['--local', '--lfs', '--quiet'], cwd).status, 0);
    t.deepEqual(lfsSettings(cwd), lfsSettings(twin));
    t.deepEqual(hooksIn(cwd), hooksIn(twin));
    t.is(script(shell, ['--local', '--uninstall', '--lfs'], cwd).status, 0);
    t.deepEqual([lfsSettings(cwd), hooksIn(cwd)], [config, hooks]);
    t.deepEqual(settings(cwd, '--local'), INSTALLED, 'only what --lfs did');
  });

  test(`install-hooks.sh under ${name} never writes over a hook of somebody else`, async (t) => {
    const [cwd, twin] = [repository(t), repository(t)];
    const theirs = '#!/bin/sh\n# Not written by "git2db xet install"\ngit lfs pre-push "$@"; true\n';
    for (const each of [cwd, twin]) writeHook(each, 'pre-push', theirs);
    const hooks = hooksIn(cwd);
    const refused = script(shell, ['--local'], cwd);
    t.is(refused.status, EXIT_CODES.REFUSED);
    t.regex(refused.stderr, /--chain-hooks.*git2db xet hook pre-push "\$@"/s);
    t.deepEqual([hooksIn(cwd), settings(cwd, '--local')], [hooks, []]);
    t.is(script(shell, ['--local', '--no-hooks', '--quiet'], cwd).status, 0);
    t.deepEqual(hooksIn(cwd), hooks);
    for (let run = 0; run < 2; run++)
      t.is(script(shell, ['--local', '--chain-hooks', '--quiet'], cwd).status, 0);
    await installHooks({ cwd: twin, lfs: false, chain: true, inConfiguration: false });
    t.deepEqual(hooksIn(cwd), hooksIn(twin));
    t.is(script(shell, ['--local', '--uninstall', '--quiet'], cwd).status, 0);
    t.deepEqual(hooksIn(cwd), hooks);
  });

  test(`install-hooks.sh under ${name} keeps foreign values until --force`, (t) => {
    const cwd = repository(t);
    gitIn(cwd, 'config', 'filter.xet.process', 'git-xet filter');
    gitIn(cwd, 'config', 'filter.xet.smudge', 'git-xet smudge %f');
    const before = settings(cwd, '--local');
    const refused = script(shell, ['--local'], cwd);
    t.is(refused.status, EXIT_CODES.REFUSED);
    t.regex(refused.stderr, /filter\.xet\.process = git-xet filter/);
    t.deepEqual(settings(cwd, '--local'), before);
    const kept = script(shell, ['--local', '--uninstall'], cwd);
    t.regex(kept.stderr, /left alone/);
    t.deepEqual(settings(cwd, '--local'), before);
    t.is(script(shell, ['--local', '--force'], cwd).status, 0);
    t.deepEqual(settings(cwd, '--local'), INSTALLED);
  });

  test(`install-hooks.sh under ${name} explains itself and refuses what it does not know`, (t) => {
    const cwd = temporaryFolder(t);
    const help = script(shell, ['--help'], cwd);
    t.deepEqual([help.status, help.stderr], [0, '']);
    t.regex(help.stdout, /^Usage: install-hooks\.sh/);
    t.is(script(shell, ['--frobnicate'], cwd).status, 2);
    t.is(script(shell, ['--local', '--global'], cwd).status, 2);
    t.is(script(shell, ['--local'], cwd).status, EXIT_CODES.NOT_A_REPOSITORY);
    t.is(script(shell, ['--local'], cwd, { PATH: '/nowhere' }).status, EXIT_CODES.GIT_MISSING);
  });
}

test('install-hooks.sh says that --global installs no hook, unless git takes it from the configuration', (t) => {
  const home = temporaryFolder(t);
  const cwd = repository(t);
  const env = { HOME: home, GIT_CONFIG_GLOBAL: join(home, '.gitconfig') };
  const old = script(['sh'], ['--global'], cwd, env);
  t.is(old.status, 0);
  t.regex(old.stdout, /no pre-push hook was installed.*--local/);
  // A git that says it is newer.
  const { stdout: git } = spawnSync('sh', ['-c', 'command -v git'], { encoding: 'utf8' });
  const bin = temporaryFolder(t);
  writeFileSync(
    join(bin, 'git'),
    `#!/bin/sh\n[ "$1" != version ] || { echo git version 2.54.1; exit; }\nexec ${git.trim()} "$@"\n`,
  );
  chmodSync(join(bin, 'git'), 0o755);
  const newer = { ...env, PATH: `${bin}:${process.env.PATH}` };
  const hookSettings = (scope: string) =>
    spawnSync('git', ['config', scope, '--get-regexp', '^hook\\.'], {
      cwd,
      encoding: 'utf8',
      env: { ...process.env, ...env },
    }).stdout;
  const wanted = 'hook.git2db-xet.command git2db xet hook pre-push\nhook.git2db-xet.event pre-push\n';
  for (const scope of ['--global', '--local']) {
    const { status, stdout } = script(['sh'], [scope], cwd, newer);
    t.is(status, 0);
    t.notRegex(stdout, /no pre-push hook/);
    t.is(hookSettings(scope), wanted);
    t.is(script(['sh'], ['--uninstall', scope], cwd, newer).status, 0);
    t.is(hookSettings(scope), '');
  }
  t.deepEqual(hooksIn(cwd), {});
});
