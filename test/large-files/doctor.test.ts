import { spawnSync } from 'node:child_process';
import {
  appendFileSync,
  chmodSync,
  chownSync,
  cpSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import test, { type ExecutionContext } from 'ava';
import { type DoctorHost, examine, type Fault, type Severity } from '../../src/large-files/doctor.ts';
import { noteEvicted } from '../../src/xet/store/evicted.ts';
import { StoreLayout } from '../../src/xet/store/layout.ts';
import { registerUser } from '../../src/xet/store/users.ts';
import { cli, PROGRAM } from '../cli/run.ts';
import { createSandbox, isolateProcess, type Sandbox } from '../helpers/git-sandbox.ts';
import { POINTER, randomBytes, TRACKED } from '../helpers/xet-sandbox.ts';

isolateProcess();

/** A machine on which nothing is wrong. */
const HEALTHY: DoctorHost = {
  nodeVersion: '22.1.0',
  uid: process.getuid?.(),
  freeBytes: () => 2 ** 40,
  hasNativeBlake3: () => true,
  hasWebAssembly: () => true,
};

const FILTER = fileURLToPath(new URL('../../../dist/bin/git2db-filter.js', import.meta.url));
const isRoot = process.getuid?.() === 0;

/** A repository with a large file, and all that is needed to examine and to mend it. */
interface Clinic extends Sandbox {
  /** Holds git2db and git2db-filter; in front of PATH. */
  readonly bin: string;
  /** Top of the work tree. */
  readonly top: string;
  readonly store: string;
  examine(host?: Partial<DoctorHost>, cwd?: string): Promise<Fault[]>;
  /** Runs the commands as a user would. */
  follow(faults: readonly Fault[], cwd?: string): Promise<void>;
}

const CONTENT = randomBytes(5, 200_000);
let template: Promise<string> | undefined;

/** Made once: a repository in order takes a second to make, a copy of it none. */
async function makeTemplate(t: ExecutionContext): Promise<string> {
  const clinic = openClinic(t);
  await clinic.git(['init', '-q', 'repository']);
  await clinic.runOk('git2db', ['xet', 'install'], { cwd: clinic.top });
  writeFileSync(join(clinic.top, '.gitattributes'), `*.bin ${TRACKED}\n`);
  writeFileSync(join(clinic.top, 'a.bin'), CONTENT);
  writeFileSync(join(clinic.top, 'note.txt'), 'text\n');
  await clinic.git(['add', '-A'], { cwd: clinic.top });
  await clinic.git(['commit', '-qm', 'one'], { cwd: clinic.top });
  const folder = mkdtempSync(join(tmpdir(), 'git2db-clinic-'));
  process.on('exit', () => rmSync(folder, { recursive: true, force: true }));
  cpSync(clinic.top, join(folder, 'repository'), { recursive: true });
  cpSync(join(clinic.home, '.gitconfig'), join(folder, 'gitconfig'));
  return folder;
}

function openClinic(t: ExecutionContext): Clinic {
  const bin = mkdtempSync(join(tmpdir(), 'git2db-bin-'));
  t.teardown(() => rmSync(bin, { recursive: true, force: true }));
  writeFileSync(join(bin, 'git2db'), `#!/bin/sh\nexec '${process.execPath}' '${PROGRAM}' "$@"\n`, {
    mode: 0o755,
  });
  symlinkSync(FILTER, join(bin, 'git2db-filter'));
  const sandbox = createSandbox(t, { path: [bin] });
  const top = sandbox.path('repository');
  return {
    ...sandbox,
    bin,
    top,
    store: join(top, '.git/xet'),
    examine: (host = {}, cwd = top) => examine({ cwd, env: sandbox.env }, { ...HEALTHY, ...host }),
    async follow(faults, cwd = top) {
      for (const command of faults.flatMap(({ remedy }) => remedy))
        await sandbox.runOk('sh', ['-c', command], { cwd });
    },
  };
}

async function newClinic(t: ExecutionContext): Promise<Clinic> {
  template ??= makeTemplate(t);
  const folder = await template;
  const clinic = openClinic(t);
  cpSync(join(folder, 'repository'), clinic.top, { recursive: true, preserveTimestamps: true });
  cpSync(join(folder, 'gitconfig'), join(clinic.home, '.gitconfig'));
  return clinic;
}

/** Leaves in a writer's directory what shows that its process is dead. */
function dieIn(directory: string): void {
  const bootId = readFileSync('/proc/sys/kernel/random/boot_id', 'latin1').trim();
  writeFileSync(join(directory, 'writer.json'), JSON.stringify({ pid: 1, bootId, socket: true }));
  const script = "require('net').createServer().listen('alive', () => process.kill(process.pid, 'SIGKILL'))";
  spawnSync(process.execPath, ['-e', script], { cwd: directory });
}

function ids(faults: readonly Fault[]): string[] {
  return faults.map(({ id }) => id);
}

interface Case {
  readonly provoke: (clinic: Clinic) => unknown;
  /** All that the doctor then finds, in order: `error id`. */
  readonly finds: readonly `${Severity} ${string}`[];
  /** What stays when every command was followed. */
  readonly leaves?: readonly string[];
  readonly check?: (t: ExecutionContext, faults: readonly Fault[], clinic: Clinic) => unknown;
}

const mends = test.macro({
  async exec(t, { provoke, finds, leaves = [], check }: Case) {
    const clinic = await newClinic(t);
    await provoke(clinic);
    const faults = await clinic.examine();
    t.deepEqual(
      faults.map(({ severity, id }) => `${severity} ${id}`),
      [...finds],
      JSON.stringify(faults, null, 1),
    );
    for (const { message, remedy } of faults) t.true(message.length > 20 && remedy.length > 0);
    await check?.(t, faults, clinic);
    await clinic.follow(faults);
    t.deepEqual(ids(await clinic.examine()), [...leaves]);
  },
  title: (what) => `found, and mended by the command that is named: ${what}`,
});

const git =
  (...args: string[]) =>
  (clinic: Clinic) =>
    clinic.git(args, { cwd: clinic.top });

test('a repository in order has no fault', async (t) => {
  const clinic = await newClinic(t);
  t.deepEqual(await clinic.examine(), []);
  t.regex((await clinic.git(['show', ':a.bin'], { cwd: clinic.top })).stdout, POINTER);
});

// ---- setup -----------------------------------------------------------------------------------

test('no filter configured, though files have the attribute', mends, {
  provoke: git('config', '--global', '--remove-section', 'filter.xet'),
  finds: ['error attribute-without-filter'],
});

test('no filter configured, and nothing tracked', mends, {
  provoke: async (clinic) => {
    await git('config', '--global', '--remove-section', 'filter.xet')(clinic);
    await git('rm', '-q', '--cached', '.gitattributes', 'a.bin')(clinic);
    rmSync(join(clinic.top, '.gitattributes'));
    rmSync(join(clinic.top, 'a.bin'));
    await git('commit', '-qm', 'none')(clinic);
  },
  finds: ['error filter-process-unset', 'warning nothing-tracked'],
  leaves: ['attributes-not-committed'],
});

test('a filter command that needs a shell', mends, {
  provoke: git('config', '--global', 'filter.xet.process', 'git2db-filter --verbose'),
  finds: ['warning filter-process-not-one-word'],
});

test('a filter command of something else, in this repository', mends, {
  provoke: git('config', 'filter.xet.process', 'git-xet'),
  finds: ['error filter-process-other'],
});

test('a filter that is not required', mends, {
  provoke: git('config', '--global', '--unset', 'filter.xet.required'),
  finds: ['error filter-not-required'],
});

test('a filter that is said not to be required', mends, {
  provoke: git('config', '--local', 'filter.xet.required', 'no'),
  finds: ['error filter-not-required'],
});

test('leftover commands for single files', mends, {
  provoke: async (clinic) => {
    await git('config', 'filter.xet.clean', 'git-xet clean')(clinic);
    await git('config', '--global', 'filter.xet.smudge', 'git-xet smudge')(clinic);
  },
  finds: ['warning leftover-clean-smudge', 'warning leftover-clean-smudge'],
});

test('git-lfs and git2db with one command', mends, {
  provoke: git('config', 'filter.lfs.process', 'git2db-filter'),
  finds: ['error drivers-share-command'],
});

test('settings that nothing reads, and values that make no sense', mends, {
  provoke: async (clinic) => {
    await git('config', 'xet.compresion', 'none')(clinic);
    await git('config', '--global', 'xet.fsync', 'sometimes')(clinic);
    await git('config', 'xet.skipSmudge', 'maybe')(clinic);
  },
  finds: ['error bad-setting', 'warning unknown-setting', 'error bad-setting'],
  check: (t, faults) => t.true(faults[0]!.message.includes('batch, none')),
});

test('a filter program that is not executable', async (t) => {
  const clinic = await newClinic(t);
  const program = join(clinic.bin, 'git2db-filter');
  rmSync(program);
  cpSync(FILTER, program);
  chmodSync(program, 0o644);
  const faults = await clinic.examine();
  t.deepEqual(ids(faults), ['filter-not-executable']);
  t.deepEqual(faults[0]!.remedy, [`chmod +x ${program}`]);
});

test('programs that are missing, old, of another version or broken, with what to install', async (t) => {
  const clinic = await newClinic(t);
  const program = join(clinic.bin, 'git2db-filter');
  const script = (text: string, name = program) =>
    writeFileSync(name, `#!/bin/sh\n${text}\n`, { mode: 0o755 });
  rmSync(program);
  t.like(await clinic.examine(), [
    { id: 'filter-not-on-path', severity: 'error', remedy: ['npm install --global git2db'] },
  ]);
  script('echo git2db-filter 0.0.1');
  t.like(await clinic.examine(), [{ id: 'filter-version', severity: 'warning' }]);
  script('exit 3');
  t.like(await clinic.examine(), [{ id: 'filter-broken', severity: 'error' }]);
  rmSync(program);
  symlinkSync(FILTER, program);
  t.like(await clinic.examine({ nodeVersion: '18.20.0' }), [
    { id: 'node-too-old', severity: 'error', remedy: ['nvm install 22'] },
  ]);
  t.like(await clinic.examine({ hasNativeBlake3: () => false }), [
    { id: 'native-blake3-missing', severity: 'warning' },
  ]);
  t.like(await clinic.examine({ hasWebAssembly: () => false }), [
    { id: 'no-webassembly', severity: 'warning' },
  ]);

  const old = join(clinic.bin, 'git');
  script(`case $1 in --version) echo git version 2.17.1;; *) PATH=\${PATH#*:} exec git "$@";; esac`, old);
  t.like(await clinic.examine(), [
    { id: 'git-too-old', severity: 'error', remedy: ['sudo apt-get install git'] },
  ]);
  const alone = await examine({ cwd: clinic.top, env: { ...clinic.env, PATH: clinic.home } }, HEALTHY);
  t.like(alone, [{ id: 'git-missing', severity: 'error' }]);
});

// ---- attributes, index, work tree --------------------------------------------------------------

test('a line without -text', mends, {
  provoke: async (clinic) => {
    writeFileSync(join(clinic.top, '.gitattributes'), '*.bin filter=xet eol=lf\n');
    await git('commit', '-qam', 'attributes')(clinic);
  },
  finds: ['warning attributes-without-text-off'],
  leaves: ['attributes-not-committed'],
});

test('a line without -text in a folder, and conversion of line ends', mends, {
  provoke: async (clinic) => {
    mkdirSync(join(clinic.top, 'sub dir'));
    writeFileSync(join(clinic.top, 'sub dir/.gitattributes'), '*.dat filter=xet\n');
    writeFileSync(join(clinic.top, 'sub dir/b.dat'), CONTENT);
    await git('add', '-A')(clinic);
    await git('commit', '-qam', 'sub')(clinic);
    await git('config', 'core.autocrlf', 'true')(clinic);
  },
  finds: ['error autocrlf'],
  check: (t, faults) => t.deepEqual(faults[0]!.paths.map(String), ['sub dir/b.dat']),
  leaves: ['attributes-not-committed'],
});

test('a line without -text in info/attributes', mends, {
  provoke: (clinic) => {
    mkdirSync(join(clinic.top, '.git/info'), { recursive: true });
    writeFileSync(join(clinic.top, '.git/info/attributes'), '# own\n*.own filter=xet\n');
    writeFileSync(join(clinic.top, 'c.own'), CONTENT);
    return git('add', 'c.own')(clinic);
  },
  finds: ['warning attributes-without-text-off'],
});

test('attributes that are not committed', mends, {
  provoke: (clinic) => appendFileSync(join(clinic.top, '.gitattributes'), `*.more ${TRACKED}\n`),
  finds: ['warning attributes-not-committed'],
});

test('attributes that git ignores', mends, {
  provoke: (clinic) => {
    mkdirSync(join(clinic.top, 'sub'));
    writeFileSync(join(clinic.top, 'sub/.gitattributes'), `*.more ${TRACKED}\n`);
    mkdirSync(join(clinic.top, 'modules/one'), { recursive: true });
    writeFileSync(join(clinic.top, 'modules/one/.gitattributes'), `*.other ${TRACKED}\n`);
    appendFileSync(join(clinic.top, '.git/info/exclude'), '.gitattributes\nmodules\n');
  },
  finds: ['error attributes-ignored'],
  check: (t, faults) => t.deepEqual(faults[0]!.paths.map(String), ['sub/.gitattributes']),
  leaves: ['attributes-not-committed'],
});

test('a later line, a nested file and info/attributes that take the filter away', mends, {
  provoke: async (clinic) => {
    mkdirSync(join(clinic.top, 'sub'));
    for (const name of ['sub/x.bin', 'y.bin', 'z.bin']) writeFileSync(join(clinic.top, name), '');
    appendFileSync(join(clinic.top, '.gitattributes'), 'y.bin !filter\n');
    writeFileSync(join(clinic.top, 'sub/.gitattributes'), '# here\n*.bin -filter\n');
    appendFileSync(join(clinic.top, '.git/info/attributes'), 'z.* filter=other\n');
    await git('add', '-A')(clinic);
    await git('commit', '-qm', 'more')(clinic);
  },
  finds: ['warning attribute-overridden', 'warning attribute-overridden', 'warning attribute-overridden'],
  check: (t, faults) => {
    const told = faults.map(({ paths, remedy }) => [
      paths.map(String).join(),
      remedy[0]!.replace(/ \S*\/repository\//, ' '),
    ]);
    t.deepEqual(told.sort(), [
      ['sub/x.bin', 'sed -i 2d sub/.gitattributes'],
      ['y.bin', 'sed -i 2d .gitattributes'],
      ['z.bin', 'sed -i 1d .git/info/attributes'],
    ]);
  },
  leaves: ['attributes-not-committed'],
});

test('one pattern for git-lfs and git2db', mends, {
  provoke: async (clinic) => {
    const text = readFileSync(join(clinic.top, '.gitattributes'), 'utf8');
    writeFileSync(join(clinic.top, '.gitattributes'), `*.bin filter=lfs diff=lfs merge=lfs -text\n${text}`);
    await git('commit', '-qam', 'both')(clinic);
  },
  finds: ['warning lfs-and-xet'],
  leaves: ['attributes-not-committed'],
});

test('content that git holds whole', mends, {
  provoke: async (clinic) => {
    for (const name of ['-b.bin', "it's.bin"]) writeFileSync(join(clinic.top, name), `${name} whole`);
    const plain = ['-c', 'filter.xet.process=', '-c', 'filter.xet.required=false'];
    await clinic.git([...plain, 'add', '--', '-b.bin', "it's.bin"], { cwd: clinic.top });
    await git('commit', '-qm', 'whole')(clinic);
  },
  finds: ['error stored-whole'],
  check: (t, faults) => t.deepEqual(faults[0]!.paths.map(String), ['-b.bin', "it's.bin"]),
});

test('pointers whose path does not have the attribute', mends, {
  provoke: async (clinic) => {
    await git('mv', 'a.bin', 'a [1].data')(clinic);
    await git('commit', '-qm', 'moved')(clinic);
  },
  finds: ['error pointer-without-attribute'],
  leaves: ['attributes-not-committed'],
  check: async (t, _, clinic) =>
    t.is(readdirSync(clinic.top).filter((name) => name.endsWith('.data')).length, 1),
});

test('pointers in the work tree', mends, {
  provoke: async (clinic) => {
    rmSync(join(clinic.top, 'a.bin'));
    await clinic.git(['checkout', '--', 'a.bin'], { cwd: clinic.top, env: { GIT2DB_SKIP_SMUDGE: '1' } });
  },
  finds: ['warning pointer-in-work-tree'],
});

test('pointers in the work tree that were asked for are just noted', async (t) => {
  const clinic = await newClinic(t);
  await git('config', 'xet.skipSmudge', 'true')(clinic);
  rmSync(join(clinic.top, 'a.bin'));
  await git('checkout', '--', 'a.bin')(clinic);
  t.like(await clinic.examine(), [{ id: 'pointer-in-work-tree', severity: 'note' }]);
});

// ---- store -----------------------------------------------------------------------------------

test('missing content that the work tree still has', mends, {
  provoke: (clinic) =>
    (rmSync(join(clinic.store, 'xorbs'), { recursive: true }) as unknown) ??
    rmSync(join(clinic.store, 'shards'), { recursive: true }),
  finds: ['error content-missing'],
  check: (t, faults) => t.deepEqual(faults[0]!.remedy, ['git2db xet fsck --repair']),
});

test('missing content that nobody has is an error, and not one where a remote has it', async (t) => {
  const clinic = await newClinic(t);
  await clinic.git(['clone', '-q', 'repository', 'clone'], { env: { GIT2DB_SKIP_SMUDGE: '1' } });
  const cwd = clinic.path('clone');
  t.deepEqual(ids(await clinic.examine({}, cwd)), ['pointer-in-work-tree', 'remote-without-hook']);
  await clinic.git(['remote', 'remove', 'origin'], { cwd });
  const faults = await clinic.examine({}, cwd);
  t.deepEqual(ids(faults), ['pointer-in-work-tree', 'content-missing']);
  t.true(faults[1]!.remedy[0]!.startsWith('git remote add '));
  const [first, second] = faults[1]!.remedy as [string, string];
  await clinic.runOk('sh', ['-c', first.replace(/\/path\S*/, clinic.top)], { cwd });
  await clinic.runOk('sh', ['-c', second], { cwd });
  const hookless = await clinic.examine({}, cwd);
  t.deepEqual(ids(hookless), ['remote-without-hook']);
  await clinic.follow(hookless, cwd);
  t.deepEqual(await clinic.examine({}, cwd), []);
  t.true(readFileSync(join(cwd, 'a.bin')).equals(CONTENT));
});

test('content that was evicted is noted, and content that a remote may have is a warning', async (t) => {
  const clinic = await newClinic(t);
  rmSync(clinic.path('repository/a.bin'));
  rmSync(clinic.store, { recursive: true });
  const contents = async () => (await clinic.examine()).filter(({ id }) => id.startsWith('content-'));
  t.deepEqual(ids(await contents()), ['content-missing']);
  await clinic.git(['config', 'remote.origin.url', 'https://example.org/x.git'], { cwd: clinic.top });
  const [unknown] = await contents();
  t.like(unknown, { id: 'content-not-fetched', severity: 'warning', remedy: ['git2db xet fetch'] });
  const pointer = await clinic.gitText(['cat-file', 'blob', ':a.bin'], { cwd: clinic.top });
  const { hash } = JSON.parse(pointer) as { hash: string };
  const layout = new StoreLayout(clinic.store);
  layout.create();
  noteEvicted(layout, [{ hash, size: CONTENT.length, provedAt: new Date(), place: '/nas' }]);
  const [evicted] = await contents();
  t.like(evicted, { id: 'content-evicted', severity: 'note' });
  t.regex(evicted!.message, /was in \/nas$/);
});

test('a store that cannot be made', mends, {
  provoke: (clinic) => {
    writeFileSync(clinic.path('file'), '');
    return git('config', 'xet.store', clinic.path('file/store'))(clinic);
  },
  finds: ['error store-unwritable'],
});

test('a store of a later version', async (t) => {
  const clinic = await newClinic(t);
  writeFileSync(join(clinic.store, 'format'), 'git2db xet store 2\n');
  t.like(await clinic.examine(), [
    { id: 'store-unsupported', severity: 'error', remedy: ['npm install --global git2db@latest'] },
  ]);
});

(isRoot ? test : test.skip)('a store of another user (needs root)', async (t) => {
  const clinic = await newClinic(t);
  chownSync(clinic.store, 12345, 12345);
  const faults = await clinic.examine();
  t.like(faults, [{ id: 'store-of-another-user', severity: 'warning' }]);
  // A warning does not hide that it cannot be read.
  mkdirSync(join(clinic.store, 'users/odd'), { recursive: true });
  t.like(await clinic.examine(), [
    { id: 'store-of-another-user', severity: 'warning' },
    { id: 'store-unreadable', severity: 'error' },
  ]);
  rmSync(join(clinic.store, 'users/odd'), { recursive: true });
  await clinic.follow(
    faults.map((one) => ({ ...one, remedy: one.remedy.map((line) => line.replace('sudo ', '')) })),
  );
  t.deepEqual(await clinic.examine(), []);
});

(isRoot ? test.skip : test)('a store without permission to write (not as root)', mends, {
  provoke: (clinic) => chmodSync(join(clinic.store, 'shards'), 0o500),
  finds: ['error store-unwritable'],
});

test('a full disk', async (t) => {
  const clinic = await newClinic(t);
  t.like(await clinic.examine({ freeBytes: () => 1000 }), [
    { id: 'store-full', severity: 'error', remedy: ['git2db xet gc --prune'] },
  ]);
  t.like(await clinic.examine({ freeBytes: () => 2 ** 29 }), [{ id: 'store-full', severity: 'warning' }]);
});

test('work that a process left when it died', mends, {
  provoke: (clinic) => {
    const directory = join(clinic.store, 'incoming/left');
    mkdirSync(directory);
    writeFileSync(join(directory, 'journal'), '');
    dieIn(directory);
  },
  finds: ['warning unsealed-work'],
});

test('objects in quarantine', mends, {
  provoke: (clinic) => {
    mkdirSync(join(clinic.store, 'quarantine'));
    writeFileSync(join(clinic.store, 'quarantine/x'), 'x');
  },
  finds: ['warning quarantine-not-empty'],
});

test('trash that a gc left', mends, {
  provoke: (clinic) => {
    mkdirSync(join(clinic.store, 'trash'));
    const [shard] = readdirSync(join(clinic.store, 'shards')) as [string];
    renameSync(join(clinic.store, 'shards', shard), join(clinic.store, 'trash', shard));
  },
  finds: ['warning trash-left'],
});

test('a repository that used the store and is gone', mends, {
  provoke: (clinic) => registerUser(new StoreLayout(clinic.store), '/nowhere/at all/.git'),
  finds: ['warning user-gone'],
  check: (t, faults) => t.deepEqual(faults[0]!.remedy, ["git2db xet gc --forget '/nowhere/at all/.git'"]),
});

test('shallow and partial clones are noted', async (t) => {
  const clinic = await newClinic(t);
  await git('commit', '-q', '--allow-empty', '-m', 'two')(clinic);
  await git('config', 'uploadpack.allowFilter', 'true')(clinic);
  const url = `file://${clinic.top}`;
  await clinic.git(['clone', '-q', '--depth=1', url, 'shallow']);
  await clinic.git(['clone', '-q', '--filter=blob:limit=1m', url, 'partial']);
  const shallow = await clinic.examine({}, clinic.path('shallow'));
  t.like(shallow, [{ id: 'remote-without-hook' }, { id: 'shallow-clone', severity: 'note' }]);
  await clinic.follow(shallow, clinic.path('shallow'));
  t.deepEqual(await clinic.examine({}, clinic.path('shallow')), []);
  t.like(await clinic.examine({}, clinic.path('partial')), [
    { id: 'remote-without-hook', severity: 'warning' },
    { id: 'partial-clone', severity: 'note' },
  ]);
});

// ---- the command -----------------------------------------------------------------------------

test('the command exits with 1 for errors only, works anywhere, and changes nothing', async (t) => {
  const clinic = await newClinic(t);
  const run = (cwd: string, ...argv: string[]) => cli(['xet', 'doctor', ...argv], { cwd, env: clinic.env });
  t.like(await run(clinic.top), { code: 0, stdout: '', stderr: 'no fault found\n' });
  await git('config', 'xet.nonsense', '1')(clinic);
  const warned = await run(clinic.top);
  t.is(warned.code, 0);
  t.regex(
    warned.stdout,
    /^warning: .*\[unknown-setting\]\n {2}\$ git config --local --unset-all xet\.nonsense\n$/,
  );
  await git('config', 'xet.onMissing', 'cry')(clinic);
  const { code, stdout } = await run(clinic.top, '--json');
  t.is(code, 1);
  const { ok, faults } = JSON.parse(stdout);
  t.false(ok);
  t.deepEqual(ids(faults), ['unknown-setting', 'bad-setting']);
  t.deepEqual(Object.keys(faults[0]).sort(), ['id', 'message', 'paths', 'remedy', 'severity']);

  t.deepEqual(ids(JSON.parse((await run(clinic.tmp, '--json')).stdout).faults), []);
  t.is((await run(join(clinic.top, '.git'), '--json')).code, 1);
});

test('every fault has its paragraph in the documentation', (t) => {
  const root = fileURLToPath(new URL('../../../', import.meta.url));
  const text = readFileSync(join(root, 'docs/troubleshooting.md'), 'utf8');
  const sources = [
    'doctor.ts',
    'doctor-setup.ts',
    'doctor-lfs.ts',
    'doctor-attributes.ts',
    'doctor-store.ts',
  ].map((name) => readFileSync(join(root, 'src/large-files', name), 'utf8'));
  const named = sources
    .join('')
    .matchAll(/'(?:error|warning|note)',\s*'([a-z0-9]+(?:-[a-z0-9]+)+|autocrlf)'/g);
  const known = new Set(Array.from(named, ([, id]) => id));
  t.true(known.size >= 35, `${known.size}`);
  for (const id of known) t.true(text.includes(`### \`${id}\``), id);
});
