import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { inspect } from 'node:util';
import test, { type ExecutionContext } from 'ava';
import { type ConfigSources, loadConfig, resolveConfig } from '../../src/registry/config.ts';
import { explainConfig } from '../../src/registry/config-explain.ts';
import { configFilePath } from '../../src/registry/config-file.ts';
import { SETTINGS } from '../../src/registry/config-settings.ts';
import { Git2dbError } from '../../src/xet/errors.ts';
import { createSandbox, isolateProcess, type Sandbox } from '../helpers/git-sandbox.ts';

isolateProcess();

interface Rig extends Sandbox {
  readonly file: string;
  writeToml(text: string): void;
  sources(more?: Partial<ConfigSources>, env?: Record<string, string>): ConfigSources;
}

function createRig(t: ExecutionContext): Rig {
  const sandbox = createSandbox(t);
  const file = join(sandbox.home, '.config', 'git2db', 'config.toml');
  return {
    ...sandbox,
    file,
    writeToml(text) {
      mkdirSync(join(sandbox.home, '.config', 'git2db'), { recursive: true });
      writeFileSync(file, text);
    },
    sources: (more = {}, env = {}) => ({ cwd: sandbox.dir, env: { ...sandbox.env, ...env }, ...more }),
  };
}

const WHOLE = `
[worktree]
driver = "reflink"
[worktree.overlay2]
backend = "fuse"
[git]
name = "File"
email = "file@example.invalid"
[operations]
max_concurrent = 3
[registry]
lock_timeout_ms = 1000
[xet]
endpoint = "https://xet.example.invalid/"
[hf]
endpoint = "https://hub.example.invalid"
`;

test('without any source everything has its default', (t) => {
  const { sources } = createRig(t);
  t.deepEqual(
    { ...loadConfig(sources()) },
    {
      worktreeDriver: 'auto',
      overlayBackend: 'auto',
      gitName: undefined,
      gitEmail: undefined,
      maxConcurrent: 10,
      lockTimeoutMs: 30_000,
      xetEndpoint: undefined,
      xetToken: undefined,
      hfEndpoint: 'https://huggingface.co',
      hfToken: undefined,
    },
  );
});

test('each source goes before the next: program, flags, environment, git, file, defaults', async (t) => {
  const rig = createRig(t);
  const value = (sources: ConfigSources) => loadConfig(sources).gitName;
  t.is(value(rig.sources()), undefined);
  rig.writeToml(WHOLE);
  t.is(value(rig.sources()), 'File');
  await rig.git(['config', '--global', 'git2db.gitName', 'Global']);
  t.is(value(rig.sources()), 'Global');
  await rig.git(['init', '-q', 'repository']);
  await rig.git(['config', 'git2db.gitName', 'Local'], { cwd: 'repository' });
  const inside = { cwd: rig.path('repository') };
  t.is(value(rig.sources(inside)), 'Local');
  const env = { GIT2DB_GIT_NAME: 'Environment' };
  t.is(value(rig.sources(inside, env)), 'Environment');
  t.is(value(rig.sources({ ...inside, flags: { gitName: 'Flag' } }, env)), 'Flag');
  t.is(
    value(rig.sources({ flags: { gitName: 'Flag' }, programmatic: { gitName: 'Program' } }, env)),
    'Program',
  );
  t.is(value(rig.sources({}, { GIT2DB_GIT_NAME: '' })), 'Global', 'an empty variable is none');
});

test('every setting can be said in every source that it has', async (t) => {
  const rig = createRig(t);
  rig.writeToml(WHOLE);
  const fromFile = loadConfig(rig.sources());
  t.like(fromFile, {
    worktreeDriver: 'reflink',
    overlayBackend: 'fuse',
    gitName: 'File',
    gitEmail: 'file@example.invalid',
    maxConcurrent: 3,
    lockTimeoutMs: 1000,
    xetEndpoint: 'https://xet.example.invalid',
    hfEndpoint: 'https://hub.example.invalid',
  });
  const values: Record<string, string> = {
    worktreeDriver: 'vfs',
    overlayBackend: 'kernel',
    gitName: 'N',
    gitEmail: 'e@example.invalid',
    maxConcurrent: '7',
    lockTimeoutMs: '2k',
    xetEndpoint: 'https://x.example.invalid:8443/path',
    xetToken: 'secret-one',
    hfEndpoint: 'http://127.0.0.1:80',
    hfToken: 'secret-two',
  };
  const expected = { ...values, maxConcurrent: 7, lockTimeoutMs: 2048 };
  const env = Object.fromEntries(SETTINGS.map(({ variable, name }) => [variable, values[name]!]));
  t.deepEqual({ ...loadConfig(rig.sources({}, env)) } as object, expected);
  for (const { git, name } of SETTINGS) {
    if (git !== undefined) await rig.git(['config', '--global', git, values[name]!]);
  }
  const withoutSecrets = { ...expected, xetToken: undefined, hfToken: undefined };
  t.deepEqual({ ...loadConfig(rig.sources()) } as object, withoutSecrets);
  t.deepEqual({ ...loadConfig(rig.sources({ programmatic: values })) } as object, expected);
});

test('the names of older versions for drivers are understood', (t) => {
  const { sources } = createRig(t);
  t.is(loadConfig(sources({}, { GIT2DB_WORKTREE_DRIVER: 'overlayfs' })).worktreeDriver, 'overlay2');
  t.is(loadConfig(sources({}, { GIT2DB_WORKTREE_DRIVER: 'none' })).worktreeDriver, 'vfs');
});

const BROKEN: readonly (readonly [title: string, toml: string, message: RegExp])[] = [
  ['a syntax error', '[git]\nname = \n', /config\.toml, line 2, column \d+: .*key name/],
  ['a table that is not closed', '[git\n', /config\.toml, line 1/],
  ['a key given twice', '[git]\nname = "a"\nname = "b"\n', /config\.toml, line 3/],
  [
    'an unknown driver',
    '# first\n\n[worktree]\ndriver = "zfs"\n',
    /config\.toml, line 4, worktree\.driver: expected one of auto, overlay2, reflink, vfs, found "zfs"/,
  ],
  ['a number for a name', '[git]\n"name" = 5\n', /line 2, git\.name: expected text/],
  [
    'a text for a number',
    '[operations]\nmax_concurrent = "many"\n',
    /line 2, operations\.max_concurrent: expected an integer from 1 to 1000, found "many"/,
  ],
  [
    'a number that is too large',
    '[operations]\nmax_concurrent = 1001\n',
    /an integer from 1 to 1000, found 1001/,
  ],
  ['a dotted key', 'worktree.overlay2.backend = "loop"\n', /line 1, worktree\.overlay2\.backend/],
  ['a table in braces', '\nworktree = { driver = "zfs" }\n', /line 2, worktree\.driver/],
  ['a value where a table should be', '\nworktree = "vfs"\n', /^$/],
  [
    'an address that ends the identity',
    '[git]\nemail = "a> <b"\n',
    /git\.email: expected text in one line without < and >/,
  ],
  ['an endpoint with a password', '[hf]\nendpoint = "https://a:b@host"\n', /hf\.endpoint: expected a URL/],
];

for (const [title, toml, message] of BROKEN) {
  test(`${title} in the file is named with its line and key`, (t) => {
    const rig = createRig(t);
    rig.writeToml(toml);
    if (message.source === '^$') {
      t.regex(resolveConfig(rig.sources()).warnings[0] ?? '', /line 2: unknown key worktree$/);
      return;
    }
    const error = t.throws(() => loadConfig(rig.sources()), { instanceOf: Git2dbError });
    t.is(error.code, 'INVALID_CONFIG');
    t.regex(error.message, message);
    t.true(error.message.includes(rig.file));
  });
}

test('a broken value is an error in every source, also where a stronger one has a good value', async (t) => {
  const rig = createRig(t);
  const programmatic = { maxConcurrent: 5 };
  const env = { GIT2DB_MAX_CONCURRENT: 'x' };
  t.throws(() => loadConfig(rig.sources({ programmatic }, env)), {
    message: /^GIT2DB_MAX_CONCURRENT: expected an integer/,
  });
  t.throws(() => loadConfig(rig.sources({ flags: { maxConcurrent: 0 } })), { message: /^maxConcurrent: / });
  t.throws(() => loadConfig(rig.sources({ flags: { nonsense: 1 } as object })), {
    message: /no setting "nonsense"; there are worktreeDriver/,
  });
  await rig.git(['config', '--global', 'git2db.overlayBackend', 'x']);
  t.throws(() => loadConfig(rig.sources({ programmatic })), {
    message: /git2db\.overlayBackend \(file:.*\.gitconfig\): expected one of/,
  });
});

test('a file that cannot be read is an error, one that is not there is none', (t) => {
  const rig = createRig(t);
  mkdirSync(rig.file, { recursive: true });
  const error = t.throws(() => loadConfig(rig.sources()), { instanceOf: Git2dbError });
  t.regex(error.message, /cannot read .*config\.toml \(EISDIR\)/);
});

test('unknown keys are warnings, with their place, and are not printed', async (t) => {
  const rig = createRig(t);
  rig.writeToml('[git]\nname = "x"\ncolour = "blue"\n[worktree.future]\na = 1\n');
  await rig.git(['config', '--global', 'git2db.future', '1']);
  const { warnings, config } = resolveConfig(rig.sources());
  t.is(config.gitName, 'x');
  t.deepEqual(warnings, [
    `git config, file:${rig.home}/.gitconfig: unknown key git2db.future`,
    `${rig.file}, line 3: unknown key git.colour`,
    `${rig.file}, line 5: unknown key worktree.future.a`,
  ]);
});

test('a token in a file is not read, and is said to be there without being shown', async (t) => {
  const rig = createRig(t);
  rig.writeToml('[hf]\ntoken = "TheSecret"\n');
  await rig.git(['config', '--global', 'xet.token', 'TheSecret']);
  const { warnings, config } = resolveConfig(rig.sources());
  t.is(config.hfToken, undefined);
  t.is(
    warnings.filter((line) => /tokens do not belong in files: set XETHUB_TOKEN or HF_TOKEN/.test(line))
      .length,
    2,
  );
  t.false(JSON.stringify(warnings).includes('TheSecret'));
});

test('where a token goes is not for a repository to say', async (t) => {
  const rig = createRig(t);
  await rig.git(['init', '-q', 'repository']);
  for (const key of ['xet.endpoint', 'git2db.hfEndpoint']) {
    await rig.git(['config', key, 'https://evil.invalid'], { cwd: 'repository' });
  }
  const { config, warnings } = resolveConfig(rig.sources({ cwd: rig.path('repository') }, { HF_TOKEN: 'x' }));
  t.is(config.hfEndpoint, 'https://huggingface.co');
  t.is(config.xetEndpoint, undefined);
  t.is(warnings.filter((line) => /of a repository is not taken/.test(line)).length, 2);
  await rig.git(['config', '--global', 'xet.endpoint', 'https://mine.invalid']);
  t.is(resolveConfig(rig.sources()).config.xetEndpoint, 'https://mine.invalid');
});

test('a long line, or a large file, is no trouble', (t) => {
  const rig = createRig(t);
  rig.writeToml(`# ${' '.repeat(60_000)}\n[git]\nname = 5\n`);
  t.throws(() => loadConfig(rig.sources()), { message: /line 3, git\.name/ });
  rig.writeToml(`a${' '.repeat(60_000)}\n`);
  t.throws(() => loadConfig(rig.sources()), { message: /config\.toml, line 1/ });
  rig.writeToml(`#${' '.repeat(70_000)}\n`);
  t.throws(() => loadConfig(rig.sources()), { message: /expected a few lines of TOML/ });
});

test('a broken token is not shown by the error about it', (t) => {
  const { sources } = createRig(t);
  const error = t.throws(() => loadConfig(sources({}, { HF_TOKEN: 'The Secret' })), {
    instanceOf: Git2dbError,
  });
  t.regex(error.message, /^HF_TOKEN: expected a token in one word/);
  t.false(inspect(error, { depth: 9 }).includes('The Secret'));
});

test('the explanation has every value, where it came from, what it overrides, and no secret', async (t) => {
  const rig = createRig(t);
  rig.writeToml(WHOLE);
  await rig.git(['config', '--global', 'git2db.worktreeDriver', 'vfs']);
  const env = { GIT2DB_WORKTREE_DRIVER: 'overlay2', HF_TOKEN: 'TheSecret' };
  const explanation = explainConfig(rig.sources({ flags: { maxConcurrent: 2 } }, env));
  const setting = (name: string) => explanation.settings.find((each) => each.name === name);
  t.like(setting('worktreeDriver'), {
    value: 'overlay2',
    source: 'environment',
    where: 'GIT2DB_WORKTREE_DRIVER',
  });
  t.deepEqual(
    setting('worktreeDriver')?.overridden.map(({ value, source }) => [value, source]),
    [
      ['vfs', 'git'],
      ['reflink', 'file'],
    ],
  );
  t.like(setting('overlayBackend'), {
    value: 'fuse',
    source: 'file',
    where: `${rig.file}, line 5, worktree.overlay2.backend`,
  });
  t.like(setting('maxConcurrent'), { value: 2, source: 'flag' });
  t.like(setting('hfToken'), { value: 'set', secret: true, source: 'environment', where: 'HF_TOKEN' });
  t.like(setting('xetToken'), { value: null, source: 'default' });
  t.deepEqual(
    explanation.settings.map(({ name }) => name),
    SETTINGS.map(({ name }) => name),
  );
  t.false(JSON.stringify(explanation).includes('TheSecret'));
  t.is(explanation.file, rig.file);
});

test('the file is where XDG says, and nowhere without a home', (t) => {
  t.is(configFilePath({ XDG_CONFIG_HOME: '/x', HOME: '/h' }), '/x/git2db/config.toml');
  t.is(configFilePath({ XDG_CONFIG_HOME: 'relative', HOME: '/h' }), '/h/.config/git2db/config.toml');
  t.is(configFilePath({}), undefined);
});
