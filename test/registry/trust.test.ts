import { appendFileSync, chmodSync, existsSync, mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { gitAtLeast } from '../../src/git/version.ts';
import { filterCommand } from '../../src/registry/filter-program.ts';
import { configEnvironment, type TrustSettings, trustSettings } from '../../src/registry/trust.ts';
import { TRUST_RULES } from '../../src/registry/trust-rules.ts';
import { Git2dbError } from '../../src/xet/errors.ts';
import { createSandbox, isolateProcess, type RunOptions, type Sandbox } from '../helpers/git-sandbox.ts';

isolateProcess();

interface Rig extends Sandbox {
  readonly repository: string;
  /** A program that leaves a trace, then passes its input on. */
  readonly canary: string;
  readonly gitDir: string;
  /** Whether the canary ran since the last call. */
  sang(): boolean;
  set(key: string, ...values: string[]): Promise<void>;
  trust(trusted: boolean): Promise<TrustSettings>;
  /** Git in the repository, with the settings that trust or the lack of it asks for. */
  run2(trusted: boolean, args: readonly string[], options?: RunOptions): ReturnType<Sandbox['run']>;
}

async function createRig(t: ExecutionContext, config: Readonly<Record<string, string>> = {}): Promise<Rig> {
  const sandbox = createSandbox(t, { config });
  const bin = join(sandbox.home, 'bin');
  mkdirSync(bin);
  const trace = join(sandbox.home, 'trace');
  const canary = join(bin, 'canary');
  writeFileSync(canary, `#!/bin/sh\necho ran >>${trace}\nif [ ! -t 0 ]; then cat; fi\nexit 0\n`, {
    mode: 0o755,
  });
  // For those that git talks to: it would wait for an answer.
  writeFileSync(`${canary}-mute`, `#!/bin/sh\necho ran >>${trace}\nexit 1\n`, { mode: 0o755 });
  // What git starts where the repository says nothing: harmless here, and no canary.
  for (const name of ['ssh', 'gpg', 'ssh-keygen'])
    writeFileSync(join(bin, name), '#!/bin/sh\nexit 1\n', { mode: 0o755 });
  const env: NodeJS.ProcessEnv = {
    ...sandbox.env,
    PATH: `${bin}:${sandbox.env.PATH}`,
    EDITOR: 'true',
    VISUAL: 'true',
    TERM: 'xterm',
    PAGER: 'cat',
  };
  delete env.GIT_EDITOR;
  await sandbox.git(['init', '-q', 'repository']);
  const repository = sandbox.path('repository');
  writeFileSync(join(repository, 'file'), 'one\n');
  await sandbox.git(['add', '-A'], { cwd: repository });
  await sandbox.git(['commit', '-q', '-m', 'one'], { cwd: repository });
  const gitDir = join(repository, '.git');
  const trust = (trusted: boolean) => trustSettings(trusted, { commonDir: gitDir, gitDir }, { env });
  return {
    ...sandbox,
    repository,
    canary,
    gitDir,
    sang() {
      const ran = existsSync(trace);
      rmSync(trace, { force: true });
      return ran;
    },
    async set(key, ...values) {
      await sandbox.git(['config', '--unset-all', key], { cwd: repository, okStatus: [0, 5] });
      for (const value of values) await sandbox.git(['config', '--add', key, value], { cwd: repository });
    },
    trust,
    async run2(trusted, args, options = {}) {
      const settings = await trust(trusted);
      return sandbox.run('git', args, {
        cwd: repository,
        timeoutMs: 60_000,
        ...options,
        env: {
          ...env,
          GIT_EDITOR: undefined,
          ...settings.env,
          ...configEnvironment(settings.config, env),
          ...options.env,
        },
      });
    },
  };
}

interface Case {
  /** Values; `CANARY` stands for the program. */
  readonly settings: Readonly<Record<string, string>>;
  /** Before the settings are made. */
  readonly prepare?: (rig: Rig) => Promise<void> | void;
  /** Before each of the two runs. */
  readonly again?: (rig: Rig) => Promise<void> | void;
  readonly command: readonly string[] | ((rig: Rig) => readonly string[]);
  readonly options?: RunOptions;
  /** Without trust, git says so by failing. */
  readonly fails?: boolean;
}

const canaryRuns = test.macro(async (t, given: Case) => {
  const rig = await createRig(t);
  await given.prepare?.(rig);
  for (const [key, value] of Object.entries(given.settings)) {
    await rig.set(key, value.replaceAll('CANARY', rig.canary));
  }
  const command = typeof given.command === 'function' ? given.command(rig) : given.command;
  rig.sang();
  await given.again?.(rig);
  // A command that would not run the program anyway proves nothing.
  await rig.run2(true, command, given.options);
  t.true(rig.sang(), 'trusted, it runs');
  await given.again?.(rig);
  const result = await rig.run2(false, command, given.options);
  t.false(rig.sang(), `untrusted, it does not run; git said ${result.status} ${result.stderr}`);
  if (given.fails !== undefined) t.is(result.status !== 0, given.fails, result.stderr);
  const { neutralized } = await rig.trust(false);
  for (const key of Object.keys(given.settings)) {
    const isNamed = neutralized.some((setting) => setting.key === key.toLowerCase().replace('.d.', '.d.'));
    if (COMMANDS.test(key)) t.true(isNamed, `${key} is among what is reported`);
  }
});

const COMMANDS =
  /(command|clean|smudge|process|textconv|driver|editor|pager|program|helper|askpass|external|cmd|fsmonitor|hookspath)$/i;

function attributes(line: string) {
  return (rig: Rig) => writeFileSync(join(rig.gitDir, 'info', 'attributes'), `${line}\n`);
}

function modify({ repository }: Rig): void {
  appendFileSync(join(repository, 'file'), 'more\n');
}

async function resetHard(rig: Rig): Promise<void> {
  await rig.git(['reset', '-q', '--hard'], {
    cwd: rig.repository,
    env: { GIT_CONFIG_COUNT: '1', GIT_CONFIG_KEY_0: 'core.hooksPath', GIT_CONFIG_VALUE_0: '/dev/null' },
  });
  rig.sang();
}

/** Two branches that change the same line. */
async function twoSides(rig: Rig): Promise<void> {
  const run = { cwd: rig.repository };
  await rig.git(['checkout', '-q', '-b', 'other'], run);
  writeFileSync(join(rig.repository, 'file'), 'theirs\n');
  await rig.git(['commit', '-q', '-am', 'theirs'], run);
  await rig.git(['checkout', '-q', 'main'], run);
  writeFileSync(join(rig.repository, 'file'), 'ours\n');
  await rig.git(['commit', '-q', '-am', 'ours'], run);
}

/** A second repository, `upstream`, as the remote `origin`. */
async function upstream(rig: Rig): Promise<void> {
  await rig.git(['clone', '-q', '--bare', rig.repository, 'upstream']);
  await rig.git(['remote', 'add', 'origin', rig.path('upstream')], { cwd: rig.repository });
}

const CREDENTIAL = { input: 'protocol=https\nhost=example.invalid\n\n' };

const CASES: Readonly<Record<string, Case>> = {
  'a hook of core.hooksPath': {
    settings: { 'core.hooksPath': '.git/evil' },
    prepare: (rig) => {
      mkdirSync(join(rig.gitDir, 'evil'));
      writeFileSync(join(rig.gitDir, 'evil', 'pre-commit'), `#!/bin/sh\n${rig.canary}\n`, { mode: 0o755 });
    },
    command: ['commit', '--allow-empty', '-qm', 'x'],
    fails: false,
  },
  'a hook of .git/hooks': {
    settings: {},
    prepare: (rig) => {
      mkdirSync(join(rig.gitDir, 'hooks'), { recursive: true });
      writeFileSync(join(rig.gitDir, 'hooks', 'post-commit'), `#!/bin/sh\n${rig.canary}\n`, { mode: 0o755 });
    },
    command: ['commit', '--allow-empty', '-qm', 'x'],
    fails: false,
  },
  'core.fsmonitor': { settings: { 'core.fsmonitor': 'CANARY' }, command: ['status'], fails: false },
  'filter.*.clean': {
    settings: { 'filter.d.clean': 'CANARY' },
    prepare: attributes('file filter=d'),
    again: modify,
    command: ['add', 'file'],
    fails: false,
  },
  'filter.*.clean of a required filter': {
    settings: { 'filter.d.clean': 'CANARY', 'filter.d.required': 'true' },
    prepare: attributes('file filter=d'),
    again: modify,
    command: ['add', 'file'],
    fails: false,
  },
  'filter.*.smudge': {
    settings: { 'filter.d.smudge': 'CANARY' },
    prepare: attributes('file filter=d'),
    again: (rig) => rmSync(join(rig.repository, 'file'), { force: true }),
    command: ['checkout', '--', 'file'],
    fails: false,
  },
  'filter.*.process': {
    settings: { 'filter.d.process': 'CANARY', 'filter.d.clean': 'CANARY' },
    prepare: attributes('file filter=d'),
    again: modify,
    command: ['add', 'file'],
    fails: false,
  },
  'diff.external': { settings: { 'diff.external': 'CANARY' }, prepare: modify, command: ['diff'] },
  'diff.*.command': {
    settings: { 'diff.d.command': 'CANARY' },
    prepare: (rig) => {
      attributes('file diff=d')(rig);
      modify(rig);
    },
    command: ['diff'],
  },
  'diff.*.textconv': {
    settings: { 'diff.d.textconv': 'CANARY' },
    prepare: (rig) => {
      attributes('file diff=d')(rig);
      modify(rig);
    },
    command: ['diff'],
    fails: false,
  },
  'merge.*.driver': {
    settings: { 'merge.d.driver': 'CANARY' },
    prepare: async (rig) => {
      await twoSides(rig);
      attributes('file merge=d')(rig);
    },
    again: resetHard,
    command: ['merge', '--no-edit', '--no-commit', 'other'],
  },
  'core.editor': {
    settings: { 'core.editor': 'CANARY' },
    command: ['commit', '--amend', '--allow-empty'],
    fails: false,
  },
  'sequence.editor': {
    settings: { 'sequence.editor': 'CANARY' },
    command: ['rebase', '-i', '--root'],
    fails: false,
  },
  'core.sshCommand': {
    settings: { 'core.sshCommand': 'CANARY-mute' },
    command: ['ls-remote', 'ssh://host.invalid/x'],
    fails: true,
  },
  'gpg.program': {
    settings: { 'gpg.program': 'CANARY' },
    command: ['commit', '-S', '--allow-empty', '-qm', 'x'],
    fails: true,
  },
  'gpg.*.program': {
    settings: { 'gpg.format': 'ssh', 'gpg.ssh.program': 'CANARY', 'user.signingKey': '/dev/null' },
    command: ['commit', '-S', '--allow-empty', '-qm', 'x'],
    fails: true,
  },
  'gpg.ssh.defaultKeyCommand': {
    settings: { 'gpg.format': 'ssh', 'gpg.ssh.defaultKeyCommand': 'CANARY' },
    command: ['commit', '-S', '--allow-empty', '-qm', 'x'],
    fails: true,
  },
  'alias.*': { settings: { 'alias.sing': '!CANARY' }, command: ['sing'], fails: true },
  'credential.helper': {
    settings: { 'credential.helper': '!CANARY' },
    command: ['credential', 'fill'],
    options: CREDENTIAL,
  },
  'credential.<url>.helper': {
    settings: { 'credential.https://example.invalid.helper': '!CANARY' },
    command: ['credential', 'fill'],
    options: CREDENTIAL,
  },
  'core.askPass': {
    settings: { 'core.askPass': 'CANARY' },
    command: ['credential', 'fill'],
    options: CREDENTIAL,
    fails: true,
  },
  'core.gitProxy': {
    settings: { 'core.gitProxy': 'CANARY-mute' },
    command: ['ls-remote', 'git://127.0.0.1:9/x'],
    fails: true,
  },
  'core.alternateRefsCommand': {
    settings: { 'core.alternateRefsCommand': 'CANARY #' },
    prepare: async (rig) => {
      await rig.git(['clone', '-q', rig.repository, 'other']);
      await upstream(rig);
      await rig.git(['commit', '-q', '--allow-empty', '-m', 'more'], { cwd: rig.path('other') });
      await rig.git(['push', '-q', rig.path('upstream'), 'main'], { cwd: rig.path('other') });
      mkdirSync(join(rig.gitDir, 'objects', 'info'), { recursive: true });
      await rig.git(['clone', '-q', '--bare', rig.repository, 'spare']);
      writeFileSync(join(rig.gitDir, 'objects', 'info', 'alternates'), `${rig.path('spare', 'objects')}\n`);
    },
    again: (rig) => rmSync(join(rig.gitDir, 'refs', 'remotes'), { recursive: true, force: true }),
    command: (rig) => ['fetch', '--refetch', '-q', `file://${rig.path('upstream')}`],
    fails: false,
  },
  'a remote that is a command (protocol.ext.allow)': {
    settings: { 'protocol.ext.allow': 'always', 'remote.evil.url': 'ext::CANARY-mute' },
    command: ['fetch', 'evil'],
    fails: true,
  },
  'a remote that is a command (protocol.allow)': {
    settings: { 'protocol.allow': 'always', 'remote.evil.url': 'ext::CANARY-mute' },
    command: ['fetch', 'evil'],
    fails: true,
  },
  'trailer.*.command': {
    settings: { 'trailer.sign.command': 'CANARY' },
    command: ['interpret-trailers', '--trailer', 'sign: x'],
    options: { input: 'subject\n\nbody\n' },
    fails: false,
  },
  'trailer.*.cmd': {
    settings: { 'trailer.sign.cmd': 'CANARY' },
    command: ['interpret-trailers', '--trailer', 'sign: x'],
    options: { input: 'subject\n\nbody\n' },
    fails: false,
  },
  'tar.*.command': {
    settings: { 'tar.sing.command': 'CANARY' },
    command: ['archive', '--format=sing', 'HEAD'],
  },
  'difftool.*.cmd': {
    settings: { 'difftool.d.cmd': 'CANARY' },
    prepare: modify,
    command: ['difftool', '-y', '-t', 'd'],
  },
  'submodule.*.update': {
    settings: { 'submodule.sub.update': '!CANARY' },
    prepare: async (rig) => {
      await rig.git(['clone', '-q', rig.repository, 'other']);
      await rig.git(['submodule', '--quiet', 'add', '--name', 'sub', rig.path('other'), 'sub'], {
        cwd: rig.repository,
      });
      await rig.git(['commit', '-q', '-m', 'sub'], { cwd: rig.repository });
    },
    again: async (rig) => {
      await rig.git(['commit', '-q', '--allow-empty', '-m', 'elsewhere'], {
        cwd: join(rig.repository, 'sub'),
      });
    },
    command: ['submodule', 'update'],
    fails: false,
  },
};

for (const [name, given] of Object.entries(CASES)) {
  test(`without trust, git does not run ${name}`, canaryRuns, given);
}

for (const [key, command] of [
  ['core.pager', 'git log'],
  ['pager.diff', 'git diff'],
  ['interactive.diffFilter', 'git add -p'],
] as const) {
  test(`without trust, git does not run ${key} on a terminal`, async (t) => {
    const rig = await createRig(t);
    modify(rig);
    await rig.set(key, rig.canary);
    const onTerminal = async (trusted: boolean) => {
      const settings = await rig.trust(trusted);
      const env = {
        ...settings.env,
        ...configEnvironment(settings.config, rig.env),
        TERM: 'xterm',
        PAGER: 'cat',
      };
      return rig.run('script', ['-qec', command, '/dev/null'], { cwd: rig.repository, env, input: 'q\n' });
    };
    await onTerminal(true);
    t.true(rig.sang());
    const { stdout } = await onTerminal(false);
    t.false(rig.sang());
    t.regex(stdout, /one/);
  });
}

for (const name of ['uploadpack', 'receivepack']) {
  test(`remote.*.${name}, of which git takes the first, is refused; that of the user stays`, async (t) => {
    const key = `remote.origin.${name}`;
    const rig = await createRig(t);
    await upstream(rig);
    await rig.set(key, `${rig.canary}-mute #`);
    const command = name === 'uploadpack' ? ['fetch', 'origin'] : ['push', 'origin', 'main'];
    await rig.run2(true, command);
    t.true(rig.sang());
    const error = await t.throwsAsync(rig.trust(false), { instanceOf: Git2dbError });
    t.is(error.code, 'TRUST_REQUIRED');
    await rig.git(['config', '--global', key, `git-${name === 'uploadpack' ? 'upload' : 'receive'}-pack`]);
    t.is((await rig.run2(false, command)).status, 0);
    t.false(rig.sang());
  });
}

test('what the repository includes is no better than the repository, whatever the condition', async (t) => {
  const rig = await createRig(t);
  attributes('file filter=d')(rig);
  const nested = join(rig.home, 'nested');
  writeFileSync(nested, `[filter "d"]\n\tclean = ${rig.canary}\n`);
  writeFileSync(join(rig.gitDir, 'more'), `[include]\n\tpath = ${nested}\n`);
  await rig.set('includeIf.onbranch:later.path', 'more');
  await rig.git(['checkout', '-q', '-b', 'later'], { cwd: rig.repository });
  modify(rig);
  await rig.run2(true, ['add', 'file']);
  t.true(rig.sang());
  await rig.git(['checkout', '-q', '-f', 'main'], { cwd: rig.repository });
  const early = await rig.trust(false);
  t.true(early.neutralized.some(({ key, file }) => key === 'filter.d.clean' && file === nested));
  // Settings made on one branch hold on the other.
  await rig.git(['symbolic-ref', 'HEAD', 'refs/heads/later'], { cwd: rig.repository });
  modify(rig);
  await rig.run('git', ['add', 'file'], {
    cwd: rig.repository,
    env: configEnvironment(early.config, rig.env),
  });
  t.false(rig.sang());
});

test('an included file that appears later, and every change of a file, counts at the next call', async (t) => {
  const rig = await createRig(t);
  await rig.set('include.path', 'later');
  t.deepEqual((await rig.trust(false)).neutralized, []);
  writeFileSync(join(rig.gitDir, 'later'), `[core]\n\tsshCommand = ${rig.canary}\n`);
  t.deepEqual(
    (await rig.trust(false)).neutralized.map(({ key }) => key),
    ['core.sshcommand'],
  );
  await rig.set('alias.sing', `!${rig.canary}`);
  t.deepEqual(
    (await rig.trust(false)).neutralized.map(({ key }) => key),
    ['alias.sing', 'core.sshcommand'],
  );
});

test('a linked worktree is judged with its own configuration', async (t) => {
  const rig = await createRig(t);
  await rig.set('extensions.worktreeConfig', 'true');
  await rig.git(['worktree', 'add', '-q', '../linked'], { cwd: rig.repository });
  const linked = rig.path('linked');
  await rig.git(['config', '--worktree', 'core.fsmonitor', rig.canary], { cwd: linked });
  await rig.git(['config', '--worktree', 'core.sshCommand', rig.canary], { cwd: linked });
  const gitDir = join(rig.gitDir, 'worktrees', 'linked');
  const settings = await trustSettings(false, { commonDir: rig.gitDir, gitDir }, { env: { ...rig.env } });
  t.deepEqual(
    settings.neutralized.map(({ key }) => key),
    ['core.fsmonitor', 'core.sshcommand'],
  );
  t.deepEqual((await rig.trust(false)).neutralized, []);
});

test('the programs of the user stay, also where the repository names others', async (t) => {
  const rig = await createRig(t, {
    'filter.d.clean': 'sed s/^/user:/',
    'filter.d.required': 'true',
    'credential.helper': '!f() { echo username=user; echo password=users; }; f',
    'core.sshCommand': 'users-ssh',
    'gpg.program': 'users-gpg',
    'alias.sing': '!echo users',
  });
  attributes('file filter=d')(rig);
  for (const key of ['filter.d.clean', 'core.sshCommand', 'gpg.openpgp.program'])
    await rig.set(key, rig.canary);
  await rig.set('alias.sing', `!${rig.canary}`);
  await rig.set('credential.helper', `!${rig.canary}`);
  writeFileSync(join(rig.repository, 'file'), 'text\n');
  t.is((await rig.run2(false, ['add', 'file'])).status, 0);
  t.is((await rig.git(['show', ':file'], { cwd: rig.repository })).stdout, 'user:text\n');
  t.is((await rig.run2(false, ['sing'])).stdout, 'users\n');
  t.regex((await rig.run2(false, ['credential', 'fill'], CREDENTIAL)).stdout, /password=users/);
  const { config, neutralized } = await rig.trust(false);
  t.deepEqual(
    config.findLast(([key]) => key === 'core.sshcommand'),
    ['core.sshcommand', 'users-ssh'],
  );
  t.deepEqual(
    config.findLast(([key]) => key === 'gpg.openpgp.program'),
    ['gpg.openpgp.program', 'users-gpg'],
  );
  t.true(
    neutralized.filter(({ key }) => key !== 'gpg.openpgp.program').every(({ instead }) => instead === 'user'),
  );
  t.false(rig.sang());
});

test("the registry's own hook and filter in the configuration distrust nobody; other commands there do", async (t) => {
  const rig = await createRig(t, { 'filter.xet.process': 'git2db-filter', 'filter.xet.required': 'true' });
  const keys = async () => {
    const { config, neutralized } = await rig.trust(false);
    t.deepEqual(config.filter(([key]) => key === 'hook.git2db-xet.command').at(-1)?.[1], 'true');
    return neutralized.map(({ key }) => key);
  };
  await rig.set('filter.xet.process', filterCommand()!);
  await rig.set('filter.xet.required', 'true');
  await rig.set('hook.git2db-xet.command', 'git2db xet hook pre-push');
  await rig.set('hook.git2db-xet.event', 'pre-push');
  t.deepEqual(await keys(), []);
  await rig.set('hook.git2db-xet.command', `${rig.canary} xet hook pre-push`);
  t.deepEqual(await keys(), ['hook.git2db-xet.command']);
  await rig.set('filter.xet.process', rig.canary);
  t.deepEqual((await keys()).sort(), ['filter.xet.process', 'hook.git2db-xet.command']);
});

test('our own filter runs, as the program of this installation, whatever the repository wrote', async (t) => {
  const rig = await createRig(t);
  await rig.set('filter.xet.process', rig.canary);
  await rig.set('filter.xet.clean', rig.canary);
  await rig.set('filter.xet.required', 'false');
  const settings = await rig.trust(false);
  const last = (name: string) => settings.config.findLast(([key]) => key === name)?.[1];
  t.is(last('filter.xet.process'), filterCommand() ?? '');
  t.is(last('filter.xet.required'), 'true');
  t.is(last('filter.xet.clean'), '');
  attributes('file filter=xet')(rig);
  modify(rig);
  await rig.run2(false, ['add', 'file']);
  t.false(rig.sang());
});

test('a filter whose process the repository adds to the commands of the user is refused', async (t) => {
  const rig = await createRig(t, { 'filter.d.clean': 'cat' });
  await rig.set('filter.d.process', rig.canary);
  const error = await t.throwsAsync(rig.trust(false), { instanceOf: Git2dbError });
  t.is(error.code, 'TRUST_REQUIRED');
  t.regex(error.message, /filter\.d\.process .*\.git\/config/);
});

test('a driver whose name is no UTF-8 cannot be laid over, and is refused', async (t) => {
  const rig = await createRig(t);
  const section = Buffer.concat([
    Buffer.from('[filter "'),
    Buffer.from([0xff]),
    Buffer.from('"]\n\tclean = x\n'),
  ]);
  appendFileSync(join(rig.gitDir, 'config'), section);
  const error = await t.throwsAsync(rig.trust(false), { instanceOf: Git2dbError });
  t.is(error.code, 'TRUST_REQUIRED');
});

test('names with dots, equals signs, quotes and capitals are laid over as they are', async (t) => {
  const rig = await createRig(t);
  const driver = `D.x="y" z'`;
  await rig.set(`filter.${driver}.clean`, rig.canary);
  attributes('file filter=plain')(rig);
  const { config } = await rig.trust(false);
  t.deepEqual(config.at(-1), [`filter.${driver}.clean`, '']);
  t.is((await rig.run2(false, ['config', `filter.${driver}.clean`])).stdout, '\n');
});

test('settings of the repository about proxies and certificates give way to the user and the environment', async (t) => {
  const rig = await createRig(t);
  await rig.set('http.proxy', 'http://evil.invalid');
  await rig.set('http.https://host.invalid/.sslVerify', 'false');
  await rig.set('remote.origin.proxy', 'http://evil.invalid');
  const env = { ...rig.env, https_proxy: 'http://users.invalid' };
  const { config } = await trustSettings(false, { commonDir: rig.gitDir, gitDir: rig.gitDir }, { env });
  const laid = new Map(config);
  t.is(laid.get('http.proxy'), 'http://users.invalid');
  t.is(laid.get('remote.origin.proxy'), 'http://users.invalid');
  t.is(laid.get('http.https://host.invalid/.sslverify'), 'true');
});

test('what an environment gives already comes first, and trusted repositories get nothing', async (t) => {
  const base = { GIT_CONFIG_COUNT: '1', GIT_CONFIG_KEY_0: 'a.b', GIT_CONFIG_VALUE_0: 'c' };
  t.deepEqual(configEnvironment([['core.pager', 'cat']], base), {
    GIT_CONFIG_COUNT: '2',
    GIT_CONFIG_KEY_1: 'core.pager',
    GIT_CONFIG_VALUE_1: 'cat',
  });
  t.deepEqual(configEnvironment([], base), {});
  t.deepEqual((await trustSettings(true, { commonDir: '/nowhere', gitDir: '/nowhere' })).config, []);
});

/** Keys whose names sound like a program, and why nothing has to be done about them. */
const HARMLESS: readonly RegExp[] = [
  /^(alias|browser|filter|pager)\.$/, // a section
  /^(advice|fsck|receive\.fsck|clean|column|commit)\./, // what is said and checked
  /^core\.fsmonitor$/, // off, always
  /^rebase\.reschedulefailedexec$|^uploadpack\.(allow.*|hiderefs|keepalive)$/, // what a server lets others have
  /^remote\.<name>\.(uploadpack|receivepack)$/, // handled by itself
  /^uploadpack\.packobjectshook$/, // read from the user's configuration only
  /^core\.(attributesfile|excludesfile|hookspath|fsmonitorhookversion|gitproxy|worktree)$/, // a file to read; or handled by itself
  /^(mailmap\.file|commit\.template|format\.signaturefile|include\.path)$/, // a file to read; includes are followed
  /^credential\.(helper|usehttppath)$/, // handled by itself
  /^filter\.<driver>\.(clean|smudge|process|required)$/, // handled by themselves
  /^(http\.(proxyauthmethod|proxyssl.*|ssl.*path|.*file)|remote\.<name>\.proxyauthmethod)$/, // how, not where
  /^(merge|diff)\.(tool|guitool)$|^(diff|merge)tool\.(prompt|trustexitcode|hideresolved|.*)$/, // names one of the commands that are covered
  /^(add\.interactive|completion\.commands|rebase\.abbreviatecommands|help\.(htmlpath|autocorrect)|man\.viewer|color\.pager)$/,
  /^(status\.relativepaths|core\.quotepath|gitcvs\..*|gui\..*|guitool\..*|mergetool\..*|sendemail\..*|clone\.filtersubmodules)$/,
  /^(core\.(packed|deltabase).*|commitgraph\..*|uploadpackfilter\..*|uploadpack\.allowfilter|fsmonitor\..*|merge\.<driver>\.(name|recursive))$/,
  /^(diff\.<driver>\.(binary|xfuncname|wordregex|cachetextconv)|notes\.<name>\.mergestrategy|pull\..*|gpg\.(format|mintrustlevel|ssh\.(allowed|revocation).*))$/,
  /^(remote\.<name>\.(partialclonefilter|vcs)|extensions\..*|receive\.procreceiverefs|interactive\.singlekey|rerere\..*)$/,
];

test('every key of this git that sounds like a program is covered, or known to be harmless', async (t) => {
  const { stdout } = await createSandbox(t).git(['help', '--config-for-completion'], { okStatus: [0, 129] });
  const listed = stdout === '' ? (await createSandbox(t).git(['help', '--config'])).stdout : stdout;
  const keys = [...new Set(listed.split('\n').map((line) => line.trim().toLowerCase()))].filter((key) =>
    key.includes('.'),
  );
  t.true(keys.length > 300, `${keys.length} keys`);
  const suspicious = keys.filter((key) =>
    /(cmd|command|program|helper|driver|process|clean|smudge|textconv|editor|pager|askpass|proxy|hook|fsmonitor|external|filter|browser|tool|exec|httpd|tunnel|alias|uploadpack|receivepack|template|path)/.test(
      key,
    ),
  );
  const uncovered = suspicious.filter((key) => {
    const sample = key.replace(/<[^>]*>|\*/g, 'd');
    return (
      !TRUST_RULES.some((rule) => rule.key.test(sample)) && !HARMLESS.some((pattern) => pattern.test(key))
    );
  });
  t.deepEqual(uncovered, []);
});

test('a work tree that the repository names must know the repository', async (t) => {
  const rig = await createRig(t);
  await rig.set('core.worktree', rig.home);
  const error = await t.throwsAsync(rig.trust(false), { instanceOf: Git2dbError });
  t.is(error.code, 'TRUST_REQUIRED');
  t.true(error.message.includes(rig.home));
  t.deepEqual((await rig.trust(true)).config, []);
  await rig.set('core.worktree', '..');
  t.deepEqual((await rig.trust(false)).neutralized, []);
  // A submodule's is elsewhere, and says so.
  await rig.git(['config', '--unset', 'core.worktree'], { cwd: rig.repository });
  await rig.git(['clone', '-q', rig.repository, 'other']);
  await rig.git(['submodule', '--quiet', 'add', rig.path('other'), 'sub'], { cwd: rig.repository });
  const gitDir = join(rig.gitDir, 'modules', 'sub');
  const settings = await trustSettings(false, { commonDir: gitDir, gitDir }, { env: { ...rig.env } });
  t.deepEqual(settings.neutralized, []);
});

test('the settings keep their meaning under the git that is here', async (t) => {
  t.true(await gitAtLeast('2.31'), 'GIT_CONFIG_COUNT');
  const rig = await createRig(t);
  await rig.set('core.hooksPath', rig.canary);
  chmodSync(rig.canary, 0o755);
  t.is((await rig.run2(false, ['config', 'core.hooksPath'])).stdout, '/dev/null\n');
  t.is((await rig.run2(false, ['config', 'core.fsmonitor'])).stdout, 'false\n');
});
