import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { COMMANDS } from '../../src/cli/commands/index.ts';
import { registryWithClone } from './registry.ts';
import { cli, gitIn, isolateGit, repository, spawnCli, temporaryFolder } from './run.ts';

isolateGit();
delete process.env.GIT2DB_REGISTRY;

const RECORD_KEYS = [
  'id',
  'name',
  'url',
  'path',
  'adopted',
  'bare',
  'trusted',
  'trackingRef',
  'createdAt',
  'updatedAt',
  'metadata',
];

/** Commands whose first operand is a repository of the registry. */
const ON_REPOSITORIES = COMMANDS.filter(
  ({ path, operands: { usage } }) => /^\[?REPO\b/.test(usage) && path[0] !== 'doctor',
);

test('init makes a registry once, and says so', async (t) => {
  const folder = temporaryFolder(t);
  const first = JSON.parse((await cli(['init', 'r', '--json'], { cwd: folder })).stdout);
  t.deepEqual(Object.keys(first), ['root', 'id', 'created', 'repositories']);
  t.like(first, { root: join(folder, 'r'), created: true, repositories: 0 });
  const second = JSON.parse((await cli(['init', '--json'], { cwd: join(folder, 'r') })).stdout);
  t.deepEqual(second, { ...first, created: false });
});

test('every command says how to come by a registry where there is none', async (t) => {
  const folder = temporaryFolder(t);
  for (const { path, operands } of ON_REPOSITORIES) {
    const words = Array.from({ length: Math.max(operands.min, 2) }, (_, i) => `w${i}`).slice(0, operands.max);
    const extra =
      path.join(' ') === 'update' ? ['--trust'] : path[0] === 'add' || path[0] === 'unstage' ? [] : [];
    const message = path[0] === 'commit' ? ['-m', 'x'] : [];
    const { code, stderr, stdout } = await cli([...path, ...words, ...extra, ...message], { cwd: folder });
    t.is(code, 55, `${path.join(' ')}: ${stderr}`);
    t.is(stdout, '');
    t.regex(stderr, /^git2db: there is no registry in .*git2db init'\n$/, path.join(' '));
  }
  const { code, stderr } = await cli(['list', '--registry', 'gone'], { cwd: folder });
  t.is(code, 55);
  t.regex(stderr, /--registry: expected a registry in .*gone, found none: 'git2db init gone'/);
});

test('every command names near repositories for a name that is none', async (t) => {
  const { attempt } = await registryWithClone(t);
  for (const { path, operands } of ON_REPOSITORIES) {
    const words = ['modell', 'x', 'y'].slice(0, Math.max(Math.min(2, operands.max), operands.min));
    const extra = path[0] === 'update' ? ['--trust'] : path[0] === 'commit' ? ['-m', 'x'] : [];
    const { code, stderr, stdout } = await attempt(...path, ...words, ...extra);
    t.is(code, 53, `${path.join(' ')}: ${stderr}`);
    t.is(stdout, '');
    t.regex(stderr, /"modell".*did you mean "model"\?\n$/, path.join(' '));
    t.is(stderr.match(/\n/g)?.length, 1);
  }
});

test('too few operands are wrong usage, and nothing is loaded or looked at', async (t) => {
  const folder = temporaryFolder(t);
  for (const { path, operands } of COMMANDS) {
    if (operands.min === 0) continue;
    const { code, stderr } = await cli([...path, ...Array(operands.min - 1).fill('w')], { cwd: folder });
    t.is(code, 2, path.join(' '));
    t.true(stderr.includes(`usage: git2db ${path.join(' ')}`), stderr);
  }
  for (const argv of [
    ['merge', '.'],
    ['cherry-pick', '.'],
    ['merge', '.', 'a', '--abort'],
    ['rebase', '.', '--abort', '--continue'],
    ['add', '.'],
    ['add', '.', 'x', '--all'],
    ['unstage', '.'],
    ['update', 'x'],
    ['commit', '.', '--author', 'nobody'],
    ['log', '.', '--limit', '-1'],
    ['blame', '.', 'a', '-L', '9-3'],
    ['clone', 'u', '--set', 'novalue'],
    ['diff', '.', '--binary'],
    ['fetch', '.', '--token-user', 'me'],
    ['fetch', '.', '--token-env', 'NOT_SET'],
    ['fetch', '.', '--token-file', '/nonexistent'],
    ['push', '.', '--lease', 'x'],
    ['pull', '.', '--autostash'],
    ['clone', 'u', '--depth', '0'],
    ['config', 'worktree.drivr'],
    ['man', 'brnch'],
  ]) {
    const { code, stderr, stdout } = await cli(argv, { cwd: folder });
    t.is(code, 2, `${argv.join(' ')}: ${stderr}`);
    t.is(stdout, '');
    t.is(stderr.match(/\n/g)?.length, 1, stderr);
  }
});

test('clone, list, show, update and remove agree on what a repository is', async (t) => {
  const { root, upstream, clone, json, run, attempt } = await registryWithClone(t);
  const shown = await json('show', 'model');
  t.deepEqual(Object.keys(shown), [...RECORD_KEYS, 'head', 'remotes', 'worktrees']);
  t.like(shown, {
    name: 'model',
    path: clone,
    adopted: false,
    trusted: false,
    url: upstream,
    trackingRef: 'origin/main',
  });
  t.deepEqual(shown.head, { branch: 'main', oid: gitIn(upstream, 'rev-parse', 'main') });
  const again = await json('clone', upstream, 'model');
  t.is(again.id, shown.id);
  t.is((await attempt('clone', `${upstream}-other`, 'model')).code, 51);
  t.is((await attempt('clone', 'ext::sh -c id')).code, 52);

  t.like(await json('update', shown.id, '--name', 'org/renamed', '--set', 'owner=ann', '--trust'), {
    name: 'org/renamed',
    path: clone,
    trusted: true,
    metadata: { owner: 'ann' },
  });
  t.like(await json('update', 'org/renamed', '--unset', 'owner', '--no-trust'), {
    trusted: false,
    metadata: {},
  });
  const list = await json('list', 'REN');
  t.is(list.registry.root, root);
  t.deepEqual(Object.keys(list.repositories[0]), RECORD_KEYS);
  t.is((await run('list', '--names')).stdout, 'org/renamed\n');
  t.deepEqual((await json('list', '--adopted')).repositories, []);
  t.is((await run('show', upstream)).code, 0, 'by URL');

  writeFileSync(join(clone, 'a.txt'), 'changed');
  const plan = await attempt('remove', 'org/renamed', '--dry-run', '--json');
  t.is(plan.code, 1);
  t.like(JSON.parse(plan.stdout), { removed: false, dryRun: true, deletes: [clone] });
  const refused = await attempt('remove', 'org/renamed', '--json');
  t.is(refused.code, 8);
  t.is(JSON.parse(refused.stdout).reasons[0].kind, 'modified');
  t.true(existsSync(clone));
  t.like(await json('remove', 'org/renamed', '--force'), { removed: true });
  t.false(existsSync(clone));
  t.deepEqual((await json('list')).repositories, []);
});

test('a registered repository stays where it is when it is removed', async (t) => {
  const { json, attempt } = await registryWithClone(t);
  const mine = repository(t, 'mine');
  t.like(await json('register', mine, '--set', 'k=v'), {
    name: 'mine',
    path: mine,
    adopted: true,
    metadata: { k: 'v' },
  });
  t.is((await attempt('register', mine, '--name', 'other')).code !== 0, true);
  t.is((await attempt('register', join(mine, 'nothing'))).code, 4);
  t.is((await attempt('register', mine, '--name', '../x')).code, 50);
  t.like(await json('remove', 'mine'), { removed: true, adopted: true, deletes: [] });
  t.true(existsSync(join(mine, '.git')));
});

test('the repository of the current directory is "." and need not be named', async (t) => {
  const { clone, root } = await registryWithClone(t);
  const here = (argv: string[], cwd: string) => cli([...argv, '--json'], { cwd });
  t.is(JSON.parse((await here(['show'], join(clone, 'd'))).stdout).name, 'model');
  t.is(JSON.parse((await here(['show', '.'], clone)).stdout).name, 'model');
  t.regex((await here(['show'], root)).stderr, /is in no repository: name one/);
  const stranger = join(root, 'stranger');
  mkdirSync(stranger);
  gitIn(stranger, 'init', '-q');
  const result = await here(['status'], stranger);
  t.is(result.code, 53);
  t.regex(result.stderr, /'git2db register .*stranger' enters it/);
});

test('verify finds what is amiss, and repair mends it', async (t) => {
  const { root, clone, json, attempt } = await registryWithClone(t);
  t.deepEqual(await json('verify'), { ok: true, findings: [] });
  t.deepEqual(await json('repair'), { ok: true, done: [], left: [], failed: [] });
  rmSync(clone, { recursive: true });
  const { code, stdout } = await attempt('verify', '--json');
  t.is(code, 1);
  t.deepEqual(
    JSON.parse(stdout).findings.map((finding: { code: string }) => finding.code),
    ['missing-directory'],
  );
  writeFileSync(join(root, '.git2db/metadata.json'), '{');
  t.is((await attempt('list')).code, 55);
  const mended = JSON.parse((await attempt('repair', '--json')).stdout);
  t.true(mended.done.length > 0);
  t.is((await attempt('list')).code, 0);
});

test('watch tells an addition that another command makes', async (t) => {
  const { root, run } = await registryWithClone(t);
  const mine = repository(t, 'mine');
  const watched = run('watch', '--count', '1', '--seconds', '60', '--json');
  // The watcher compares with what it found first; registering must come after that.
  await new Promise((resolve) => setTimeout(resolve, 200));
  await run('register', mine, '--name', 'first');
  const second = setInterval(() => cli(['update', 'first', '--set', `at=${Date.now()}`], { cwd: root }), 500);
  const lines = (await watched).stdout.split('\n');
  clearInterval(second);
  t.is(lines.length, 2, 'a line for each event');
  const event = JSON.parse(lines[0]!);
  t.is(event.repository.name, 'first');
  t.true(['added', 'updated'].includes(event.kind));
});

test('config tells values and where they come from, and of tokens only that they are set', async (t) => {
  const folder = temporaryFolder(t);
  const env = { GIT2DB_WORKTREE_DRIVER: 'vfs', HF_TOKEN: 'hf_secret' };
  const { stdout } = await cli(['config', '--json'], { cwd: folder, env });
  t.false(stdout.includes('hf_secret'));
  const { settings } = JSON.parse(stdout);
  const named = (name: string) => settings.find((setting: { name: string }) => setting.name === name);
  t.like(named('worktreeDriver'), { value: 'vfs', source: 'environment', where: 'GIT2DB_WORKTREE_DRIVER' });
  t.like(named('hfToken'), { value: 'set', secret: true });
  t.is((await cli(['config', 'worktree.driver'], { cwd: folder, env })).stdout, 'vfs\n');
  t.is((await cli(['config', 'git.name'], { cwd: folder })).code, 1);
  const broken = await cli(['config'], { cwd: folder, env: { GIT2DB_WORKTREE_DRIVER: 'zfs' } });
  t.is(broken.code, 7);
  t.regex(
    (await cli(['config', '--explain'], { cwd: folder, env })).stdout,
    /worktreeDriver = vfs\n {2}from GIT2DB_/,
  );
});

test('doctor looks at the registry, the filter and mounts, and works without a registry', async (t) => {
  const { clone, attempt } = await registryWithClone(t);
  const healthy = JSON.parse((await attempt('doctor', '--json')).stdout);
  t.deepEqual(Object.keys(healthy), ['ok', 'registry', 'faults', 'mount']);
  t.deepEqual(
    healthy.faults.filter(({ part }: { part: string }) => part === 'registry'),
    [],
  );
  rmSync(clone, { recursive: true });
  const ill = JSON.parse((await attempt('doctor', '--json')).stdout);
  const fault = ill.faults.find(({ part }: { part: string }) => part === 'registry');
  t.is(fault.id, 'missing-directory');
  t.true(fault.remedy.length > 0);
  const alone = JSON.parse((await cli(['doctor', '--json'], { cwd: temporaryFolder(t) })).stdout);
  t.is(alone.registry, null);
});

test.serial('a token is taken from a file or the environment, and shows nowhere', async (t) => {
  const { attempt } = await registryWithClone(t);
  const file = join(temporaryFolder(t), 'token');
  process.env.GIT2DB_LOG = 'trace';
  t.teardown(() => delete process.env.GIT2DB_LOG);
  writeFileSync(file, 'tok_secret\nsecond line\n');
  const url = 'http://127.0.0.1:9/x';
  for (const argv of [
    ['clone', url, '--token-file', file],
    ['clone', 'http://user:tok_secret@127.0.0.1:9/x'],
    ['clone', 'http://user:tok_secret@127.0.0.1:9/x', 'a', 'b'],
    ['show', 'http://user:tok_secret@127.0.0.1:9/x'],
  ]) {
    const { code, stdout, stderr } = await attempt(...argv);
    t.not(code, 0);
    t.false(`${stdout}${stderr}`.includes('tok_secret'), stderr);
  }
});

test('the program as its user runs it: one line for an error, and a current directory that is gone', async (t) => {
  const folder = temporaryFolder(t);
  const { status, stderr } = spawnCli(['show', 'x'], { cwd: folder });
  t.is(status, 55);
  t.is(stderr.match(/\n/g)?.length, 1);
  const program = `cd gone && rmdir ../gone && exec "$0" "$1" list`;
  mkdirSync(join(folder, 'gone'));
  const main = new URL('../../src/cli/main.js', import.meta.url).pathname;
  const gone = spawnSync('sh', ['-c', program, process.execPath, main], { cwd: folder, encoding: 'utf8' });
  t.is(gone.status, 25);
  t.regex(gone.stderr, /^git2db: the current directory is gone/);
});

test('man pages are there for every command and group, and roff finds no fault with them', async (t) => {
  const folder = temporaryFolder(t);
  const { stdout } = await cli(['man', '--dir', folder, '--json'], { cwd: folder });
  const { pages, directory } = JSON.parse(stdout);
  for (const { path } of COMMANDS) t.true(pages.includes(['git2db', ...path].join('-')), path.join(' '));
  const files = pages.map((name: string) => join(directory, `${name}.1`));
  for (const file of files) {
    const text = readFileSync(file, 'utf8');
    t.regex(text, /^\.\\"[^\n]*\n\.TH "GIT2DB/);
    for (const line of text.split('\n')) t.notRegex(line, /^[.'](?![A-Za-z\\])/, file);
  }
  t.is(
    (await cli(['man', 'branch', 'list'], { cwd: folder })).stdout,
    readFileSync(join(directory, 'git2db-branch-list.1'), 'utf8'),
  );
  if (spawnSync('groff', ['--version']).status === 0) {
    const linted = spawnSync('groff', ['-man', '-ww', '-z', '-Tutf8', ...files], { encoding: 'utf8' });
    t.is(linted.stderr, '');
  }
  if (spawnSync('mandoc', ['-V']).error === undefined) {
    const linted = spawnSync('mandoc', ['-Tlint', '-W', 'warning', ...files], { encoding: 'utf8' });
    const faults = linted.stdout.split('\n').filter((line) => line !== '' && !line.includes('missing date'));
    t.deepEqual(faults, []);
  }
});
