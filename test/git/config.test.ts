import test from 'ava';
import {
  canonicalKey,
  GitConfig,
  parseBool,
  parseInteger,
  removeSection,
  setConfig,
  unsetConfig,
} from '../../src/git/config.ts';
import type { Git2dbError } from '../../src/xet/errors.ts';
import { createSandbox, isolateProcess, type Sandbox } from '../helpers/git-sandbox.ts';

isolateProcess();

async function repository(sandbox: Sandbox, config: string): Promise<GitConfig> {
  await sandbox.git(['init', '--quiet', '.']);
  sandbox.write('.git/config', `[core]\n\trepositoryformatversion = 0\n${config}`);
  return GitConfig.load(sandbox.dir, undefined, { env: sandbox.env });
}

test('the last value wins, and all of them are there in order', async (t) => {
  const sandbox = createSandbox(t, { config: { 'xet.store': '/global' } });
  const config = await repository(sandbox, '[xet]\n\tstore = /one\n\tstore = /two\n');
  t.is(config.get('xet.store'), '/two');
  t.deepEqual(config.all('xet.store'), ['/global', '/one', '/two']);
  t.is(config.get('xet.other'), undefined);
  t.deepEqual(config.all('xet.other'), []);
});

test('section and name are found in any case, a subsection only in its own', async (t) => {
  const config = await repository(
    createSandbox(t),
    '[XET "Https://Host.Example/a.b"]\n\tEndPoint = x=y\n[Xet]\n\tSKIPsmudge = no\n',
  );
  t.is(config.get('Xet.Https://Host.Example/a.b.endpoint'), 'x=y');
  t.is(config.get('xet.https://host.example/a.b.endpoint'), undefined);
  t.false(config.bool('xet.skipSmudge', true));
  t.is(canonicalKey('A.B.C.D'), 'a.B.C.d');
  t.is(canonicalKey('A.B'), 'a.b');
});

test('values keep newlines, blanks and characters beyond ASCII', async (t) => {
  const config = await repository(createSandbox(t), '[xet]\n\ta = "one\\ntwo "\n\tb = "café"\n\tc =\n');
  t.is(config.get('xet.a'), 'one\ntwo ');
  t.is(config.get('xet.b'), 'café');
  t.is(config.get('xet.c'), '');
});

test('a key without a value is true, and an error where a text is wanted', async (t) => {
  const config = await repository(createSandbox(t), '[xet]\n\tskipSmudge\n');
  t.true(config.bool('xet.skipSmudge', false));
  const error = t.throws(() => config.get('xet.skipSmudge')) as Git2dbError;
  t.is(error.code, 'INVALID_CONFIG');
  t.is(error.message, 'git config xet.skipsmudge (file:.git/config): expected a value, found no value');
  t.throws(() => config.all('xet.skipSmudge'), { code: 'INVALID_CONFIG' });
  t.throws(() => config.int('xet.skipSmudge', 1), { code: 'INVALID_CONFIG' });
});

test('a value of the wrong kind is an error that names key, value and file', async (t) => {
  const config = await repository(createSandbox(t), '[xet]\n\tfsync = maybe\n\tjobs = 3x\n');
  t.throws(() => config.bool('xet.fsync', true), {
    message: 'git config xet.fsync (file:.git/config): expected true or false, found "maybe"',
  });
  t.throws(() => config.int('xet.jobs', 1), { code: 'INVALID_CONFIG', message: /"3x"/ });
  t.true(config.bool('xet.unset', true));
  t.is(config.int('xet.unset', 7), 7);
});

/** What `git config --type` makes of a value; undefined when it refuses. */
async function typed(sandbox: Sandbox, type: string, value: string): Promise<string | undefined> {
  const args = ['-c', `a.b=${value}`, 'config', `--type=${type}`, 'a.b'];
  const { status, stdout } = await sandbox.run('git', args);
  return status === 0 ? stdout.trim() : undefined;
}

test('booleans and integers mean what they mean to git', async (t) => {
  const sandbox = createSandbox(t);
  const words = ['true', 'YES', 'On', 'false', 'No', 'OFF', '', 'maybe', 'tru', '2x'];
  const numbers = [
    '0',
    '1',
    '-1',
    '+7',
    '00',
    '010',
    '0x1F',
    '2k',
    '3M',
    '1g',
    '-2K',
    ' 5',
    '08',
    '1 k',
    '1kb',
  ];
  for (const value of [...words, ...numbers]) {
    const bool = await typed(sandbox, 'bool', value);
    t.is(parseBool(value), bool === undefined ? undefined : bool === 'true', `bool ${JSON.stringify(value)}`);
    const int = await typed(sandbox, 'int', value);
    t.is(parseInteger(value), int === undefined ? undefined : Number(int), `int ${JSON.stringify(value)}`);
  }
  t.is(parseInteger('9007199254740993'), undefined);
});

test('includes, worktree files and settings on the command line count; patterns select', async (t) => {
  const sandbox = createSandbox(t);
  const { env, dir, git, write } = sandbox;
  await repository(sandbox, '[include]\n\tpath = more\n[extensions]\n\tworktreeConfig = true\n');
  write('.git/more', '[xet]\n\ta = included\n\tb = included\n');
  await git(['config', '--worktree', 'xet.b', 'worktree']);
  const fromCommandLine = {
    ...env,
    GIT_CONFIG_COUNT: '1',
    GIT_CONFIG_KEY_0: 'xet.c',
    GIT_CONFIG_VALUE_0: 'given',
  };
  const config = GitConfig.load(dir, '^xet\\.', { env: fromCommandLine });
  t.deepEqual(
    config.entries().map(({ key, value }) => [key, value]),
    [
      ['xet.a', 'included'],
      ['xet.b', 'included'],
      ['xet.b', 'worktree'],
      ['xet.c', 'given'],
    ],
  );
  t.is(config.entries().at(-1)?.origin, 'command line:');
  t.deepEqual(GitConfig.load(dir, '^nothing\\.', { env }).entries(), []);
});

test('GIT_DIR decides whose configuration is read, GIT_CONFIG does not', async (t) => {
  const sandbox = createSandbox(t, { config: { 'xet.a': 'global' } });
  await repository(sandbox, '[xet]\n\ta = local\n');
  const { env, home, path } = sandbox;
  t.is(GitConfig.load(home, undefined, { env }).get('xet.a'), 'global');
  const elsewhere = { ...env, GIT_DIR: path('.git'), GIT_CONFIG: '/dev/null' };
  t.is(GitConfig.load(home, undefined, { env: elsewhere }).get('xet.a'), 'local');
});

test('a configuration that git cannot read is an error', async (t) => {
  const sandbox = createSandbox(t);
  await t.throwsAsync(repository(sandbox, '[xet\n'), { code: 'GIT_FAILED', message: /bad config line/ });
});

test('values are set, replaced, unset and removed by section, each twice without harm', async (t) => {
  const sandbox = createSandbox(t);
  const { dir: cwd, env, gitText, home } = sandbox;
  await repository(sandbox, '[filter "xet"]\n\tprocess = a\n\tprocess = b\n');
  const write = { cwd, env };
  for (let round = 0; round < 2; round++) {
    await setConfig('--local', 'filter.xet.process', '-odd "value" #', write);
    t.is(await gitText(['config', '--get-all', 'filter.xet.process']), '-odd "value" #');
  }
  t.true(await unsetConfig('--local', 'filter.xet.process', write));
  t.false(await unsetConfig('--local', 'filter.xet.process', write));

  await setConfig('--global', 'filter.xet.required', 'true', { cwd: home, env });
  t.is(await gitText(['config', '--global', 'filter.xet.required']), 'true');
  t.false(await removeSection('--local', 'filter.xet', write));
  t.true(await removeSection('--global', 'filter.xet', write));
  t.false(await removeSection('--global', 'filter.xet', write));
  const nowhere = { cwd, env: { ...env, GIT_CONFIG_GLOBAL: `${home}/none` } };
  t.false(await removeSection('--global', 'filter.xet', nowhere));
  await setConfig('--local', 'filter.xet.x.y', '1', write);
  t.false(await removeSection('--local', 'filter.xet', write));
});
