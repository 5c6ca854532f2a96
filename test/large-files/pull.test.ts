import { spawn, spawnSync } from 'node:child_process';
import {
  chmodSync,
  closeSync,
  existsSync,
  linkSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  realpathSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import test, { type ExecutionContext } from 'ava';
import { decodeContentNotes, encodeContentNote } from '../../src/large-files/content-notes.ts';
import { type PullOptions, type PullResult, pull } from '../../src/large-files/pull.ts';
import { recoverSessions } from '../../src/large-files/pull-session.ts';
import type { ExchangeStep } from '../../src/large-files/replacement.ts';
import { WorkTreeDirectory } from '../../src/large-files/work-tree-directory.ts';
import { WriteBack } from '../../src/large-files/write-back.ts';
import { Git2dbError } from '../../src/xet/errors.ts';
import { formatPointer } from '../../src/xet/pointer/xet-pointer.ts';
import { isolateProcess } from '../helpers/git-sandbox.ts';
import { createLargeFileSandbox, type LargeFileSandbox, litter, noise } from './repositories.ts';

isolateProcess();

const KIB = 1024;
const MIB = 1024 * KIB;

/** `pull` in this process, where a test can step in. */
function pullHere(
  sandbox: LargeFileSandbox,
  cwd: string,
  options: Partial<PullOptions> = {},
): Promise<PullResult> {
  return pull({ cwd: sandbox.path(cwd), env: { ...sandbox.env }, pathspecs: [], warn: () => {}, ...options });
}

function outcome({ written, failed }: PullResult): Record<string, string> {
  return Object.fromEntries([
    ...written.map(({ path }) => [path.toString(), 'written']),
    ...failed.map(({ path, kind }) => [path.toString(), kind]),
  ]);
}

/** Git's opinion: nothing is modified, and no filter was needed to find out. */
async function assertCleanWithoutFilter(
  t: ExecutionContext,
  sandbox: LargeFileSandbox,
  cwd: string,
): Promise<void> {
  sandbox.filterStarts();
  t.is(await sandbox.gitText(['status', '--porcelain'], { cwd }), '');
  t.is(sandbox.filterStarts(), 0, 'git status started the filter');
}

test('pull writes the content of every pointer, and git status then starts no filter', async (t) => {
  const sandbox = createLargeFileSandbox(t);
  await sandbox.init('source');
  const contents: Record<string, Buffer> = {
    'one-byte.bin': Buffer.from('x'),
    'small.bin': noise(70 * KIB, 1),
    'deep/down/here/several-windows.bin': noise(7 * MIB + 13, 2),
    'deep/zeros.bin': Buffer.alloc(3 * MIB),
    // Enough for threads to be started.
    'large.bin': Buffer.concat(Array.from({ length: 13 }, (_, i) => noise(4 * MIB, 100 + i))),
    'program.bin': noise(5000, 3),
  };
  for (const [path, bytes] of Object.entries(contents)) sandbox.write(`source/${path}`, bytes);
  sandbox.write('source/empty.bin', '');
  sandbox.write('source/text.txt', 'not large\n');
  chmodSync(sandbox.path('source/program.bin'), 0o755);
  await sandbox.commitAll('source');
  await sandbox.clonePointers('source', 'clone');
  t.true(sandbox.read('clone/large.bin').length < 200);

  const { status, stdout, stderr } = await sandbox.xet('clone', ['pull']);
  t.deepEqual([status, stdout], [0, '']);
  t.regex(stderr, /^6 files \(62\.\d MiB\) written\n$/);
  for (const [path, bytes] of Object.entries(contents))
    t.true(sandbox.read(`clone/${path}`).equals(bytes), path);
  t.is(statSync(sandbox.path('clone/program.bin')).mode & 0o777, 0o755);
  t.is(statSync(sandbox.path('clone/large.bin')).mode & 0o777, 0o644);
  await assertCleanWithoutFilter(t, sandbox, 'clone');
  t.deepEqual(litter(sandbox.path('clone')), []);

  const again = await sandbox.xet('clone', ['checkout']);
  t.deepEqual([again.status, again.stderr], [0, 'there are no pointers to replace\n']);
});

test('git sees a change of the same size in the moment after a pull', async (t) => {
  const sandbox = await pointersOf(t, { 'a.bin': noise(3000, 1), 'b.bin': noise(3000, 2) });
  const before = Date.now();
  await pullHere(sandbox, 'clone');
  sandbox.write('clone/a.bin', noise(3000, 3));
  t.is(await sandbox.gitText(['status', '--porcelain'], { cwd: 'clone' }), ' M a.bin');
  const { mtimeMs } = statSync(sandbox.path('clone/b.bin'));
  t.true(mtimeMs > before - 2100 && mtimeMs < Date.now());
});

const keepsIndex = test.macro<
  [{ init?: string[]; prepare: (sandbox: LargeFileSandbox) => Promise<void>; check?: RegExp }]
>({
  title: (name) => `pull brings ${name} up to date`,
  exec: async (t, { init = [], prepare, check }) => {
    const sandbox = createLargeFileSandbox(t);
    await sandbox.init('source', ...init);
    for (let i = 0; i < 5; i++) sandbox.write(`source/d/${i}.bin`, noise(3000 + i, i));
    sandbox.write('source/plain.txt', 'plain\n');
    await sandbox.commitAll('source');
    await sandbox.clonePointers('source', 'clone');
    await prepare(sandbox);
    const { status, stderr } = await sandbox.xet('clone', ['pull', '--json']);
    t.deepEqual([status, stderr], [0, '']);
    for (let i = 0; i < 5; i++) t.true(sandbox.read(`clone/d/${i}.bin`).equals(noise(3000 + i, i)));
    if (check !== undefined)
      t.regex(readFileSync(sandbox.path('clone/.git/index')).toString('latin1'), check);
    await sandbox.git(['fsck'], { cwd: 'clone' });
    await assertCleanWithoutFilter(t, sandbox, 'clone');
  },
});

/** Rewrites the clone's index without looking at the files. */
async function rewriteIndex(sandbox: LargeFileSandbox, ...args: readonly string[]): Promise<void> {
  await sandbox.git(['update-index', ...args], { cwd: 'clone' });
}

// biome-ignore-start lint/suspicious/noControlCharactersInRegex: bytes of the index
test('an index of version 2', keepsIndex, {
  prepare: (s) => rewriteIndex(s, '--index-version', '2'),
  check: /^DIRC\0\0\0\x02/,
});
test('an index of version 3', keepsIndex, {
  prepare: async (s) => {
    await s.git(['update-index', '--skip-worktree', 'plain.txt'], { cwd: 'clone' });
  },
  check: /^DIRC\0\0\0\x03/,
});
test('an index of version 4', keepsIndex, {
  prepare: (s) => rewriteIndex(s, '--index-version', '4'),
  check: /^DIRC\0\0\0\x04/,
});
test('a split index', keepsIndex, { prepare: (s) => rewriteIndex(s, '--split-index'), check: /link\0\0/ });
// biome-ignore-end lint/suspicious/noControlCharactersInRegex: bytes of the index
test('the index of a SHA-256 repository', keepsIndex, {
  init: ['--object-format=sha256'],
  prepare: async () => {},
});

test('pull keeps the permission bits that the pointer has', async (t) => {
  const sandbox = await pointersOf(t, { 'private.bin': noise(2000, 1), 'shared.bin': noise(2000, 2) });
  chmodSync(sandbox.path('clone/private.bin'), 0o600);
  chmodSync(sandbox.path('clone/shared.bin'), 0o664);
  t.is((await sandbox.xet('clone', ['pull'])).status, 0);
  t.is(statSync(sandbox.path('clone/private.bin')).mode & 0o7777, 0o600);
  t.is(statSync(sandbox.path('clone/shared.bin')).mode & 0o7777, 0o664);
});

/** A repository `source` with these files, and its clone `clone` with pointers. */
async function pointersOf(
  t: ExecutionContext,
  files: Readonly<Record<string, Buffer>>,
  config?: Readonly<Record<string, string>>,
): Promise<LargeFileSandbox> {
  const sandbox = createLargeFileSandbox(t, config);
  await sandbox.init('source');
  for (const [path, bytes] of Object.entries(files)) sandbox.write(`source/${path}`, bytes);
  await sandbox.commitAll('source');
  await sandbox.clonePointers('source', 'clone');
  return sandbox;
}

test('pull looks at the whole work tree, or at the given pathspecs relative to the current directory', async (t) => {
  const sandbox = await pointersOf(t, {
    'top.bin': noise(2000, 1),
    'a/x.bin': noise(2000, 2),
    'a/y.bin': noise(2000, 3),
    'b/z.bin': noise(2000, 4),
  });
  const pulled = async (cwd: string, ...pathspecs: string[]) => {
    const { stdout } = await sandbox.xet(cwd, ['pull', '--json', ...pathspecs]);
    return JSON.parse(stdout).written.map(({ path }: { path: string }) => path);
  };
  t.deepEqual(await pulled('clone/a', 'x.bin'), ['a/x.bin']);
  t.deepEqual(await pulled('clone/b', '../*.bin', ':!../a', ':!.'), ['top.bin']);
  const none = await sandbox.xet('clone/a', ['pull', 'nothing*']);
  t.is(none.status, 2);
  t.regex(none.stderr, /pathspec 'nothing\*' did not match any file/);
  t.deepEqual(await pulled('clone/a'), ['a/y.bin', 'b/z.bin']);
  await assertCleanWithoutFilter(t, sandbox, 'clone');
});

test('a dry run writes nothing and says what would be written and what is missing', async (t) => {
  const sandbox = await pointersOf(t, { 'a.bin': noise(5000, 1) });
  const lost = formatPointer('ab'.repeat(32), 999);
  sandbox.write('clone/lost.bin', lost);
  await sandbox.git(['add', 'lost.bin'], { cwd: 'clone' });
  const { status, stdout, stderr } = await sandbox.xet('clone', ['pull', '--dry-run', '--json']);
  t.is(status, 1);
  const { dryRun, written, failed, index } = JSON.parse(stdout);
  t.deepEqual([dryRun, written, index], [true, [{ path: 'a.bin', size: 5000 }], null]);
  t.like(failed, [{ path: 'lost.bin', size: 999, kind: 'missing' }]);
  t.regex(stderr, /^git2db: lost\.bin: its content \(999 bytes\) is not in .*git remote add/);
  t.true(sandbox.read('clone/a.bin').length < 200);
  t.false(existsSync(sandbox.path('clone/.git/xet')), 'a dry run made a store');
  const text = await sandbox.xet('clone', ['pull', '-n', 'a.bin']);
  t.deepEqual([text.status, text.stdout], [0, '4.88 KiB  a.bin\n']);
});

test('pull works in a linked worktree, with the store of the repository', async (t) => {
  const sandbox = await pointersOf(t, { 'a.bin': noise(9000, 1) });
  await sandbox.git(['worktree', 'add', '-q', '../linked'], {
    cwd: 'clone',
    env: { GIT2DB_SKIP_SMUDGE: '1' },
  });
  t.is((await sandbox.xet('linked', ['pull'])).status, 0);
  t.true(sandbox.read('linked/a.bin').equals(noise(9000, 1)));
  t.true(existsSync(sandbox.path('clone/.git/xet/format')));
  t.true(sandbox.read('clone/a.bin').length < 200);
  await assertCleanWithoutFilter(t, sandbox, 'linked');
  t.deepEqual(litter(sandbox.path('linked'), sandbox.path('clone/.git/worktrees/linked')), []);
});

test('pull works on the work tree that GIT_DIR and GIT_WORK_TREE name', async (t) => {
  const sandbox = await pointersOf(t, { 'd/a.bin': noise(9000, 1) });
  const env = { GIT_DIR: 'clone/.git', GIT_WORK_TREE: 'clone' };
  const { status, stderr } = await sandbox.xet('.', ['pull', 'd'], { env });
  t.is(status, 0, stderr);
  t.true(sandbox.read('clone/d/a.bin').equals(noise(9000, 1)));
  await assertCleanWithoutFilter(t, sandbox, 'clone');
});

test('pull refuses a bare repository, and finds nothing to do without the attribute', async (t) => {
  const sandbox = createLargeFileSandbox(t);
  await sandbox.git(['init', '-q', '--bare', 'bare']);
  const bare = await sandbox.xet('bare', ['pull']);
  t.is(bare.status, 4);
  t.regex(bare.stderr, /not in the work tree/);
  await sandbox.git(['init', '-q', 'plain']);
  t.is((await sandbox.xet('plain', ['pull'])).status, 0);
  sandbox.write('plain/pointer.bin', formatPointer('ab'.repeat(32), 999));
  await sandbox.commitAll('plain');
  const { status, stderr } = await sandbox.xet('plain', ['pull']);
  t.deepEqual([status, stderr], [0, 'there are no pointers to replace\n']);
});

test('pull leaves alone what is not the pointer of the index', async (t) => {
  const names = [
    'pointer',
    'other-pointer',
    'edited',
    'assumed',
    'skipped',
    'fifo',
    'link',
    'gone',
    'folder',
  ];
  const sandbox = await pointersOf(
    t,
    Object.fromEntries(names.map((name, i) => [`${name}.bin`, noise(2000 + i, i)])),
  );
  const at = (name: string) => sandbox.path(`clone/${name}.bin`);
  writeFileSync(at('other-pointer'), readFileSync(at('pointer')));
  writeFileSync(at('edited'), `${readFileSync(at('edited'), 'utf8')} `);
  await sandbox.git(['update-index', '--assume-unchanged', 'assumed.bin'], { cwd: 'clone' });
  await sandbox.git(['update-index', '--skip-worktree', 'skipped.bin'], { cwd: 'clone' });
  for (const name of ['fifo', 'link', 'gone', 'folder']) rmSync(at(name));
  t.is(spawnSync('mkfifo', [at('fifo')]).status, 0);
  symlinkSync('pointer.bin', at('link'));
  mkdirSync(at('folder'));
  const before = names
    .slice(1)
    .map((name) => lstatSync(at(name), { bigint: true, throwIfNoEntry: false })?.mtimeNs);
  const { stdout } = await sandbox.xet('clone', ['pull', '--json']);
  t.deepEqual(JSON.parse(stdout).written, [{ path: 'pointer.bin', size: 2000 }]);
  const after = names
    .slice(1)
    .map((name) => lstatSync(at(name), { bigint: true, throwIfNoEntry: false })?.mtimeNs);
  t.deepEqual(after, before);
});

test('pull reads pointers of other programs, and ours with CRLF', async (t) => {
  const content = noise(4000, 1);
  const sandbox = await pointersOf(t, { 'ours.bin': content });
  const { hash } = JSON.parse(sandbox.read('clone/ours.bin').toString());
  sandbox.write('clone/json.bin', `{"hash":"${hash}","file_size":4000}`);
  sandbox.write('clone/toml.bin', `# xet version 0\nfilesize = 4000\nhash = '${hash}'\n`);
  await sandbox.commitAll('clone');
  sandbox.write('clone/ours.bin', formatPointer(hash, 4000).toString().replace('\n', '\r\n'));
  const { status, stderr } = await sandbox.xet('clone', ['pull']);
  t.is(status, 0, stderr);
  for (const name of ['ours', 'json', 'toml'])
    t.true(sandbox.read(`clone/${name}.bin`).equals(content), name);
  await assertCleanWithoutFilter(t, sandbox, 'clone');
  // Also when git reads them after all.
  for (const name of ['ours', 'json', 'toml']) utimesSync(sandbox.path(`clone/${name}.bin`), 1e9, 1e9);
  t.is(await sandbox.gitText(['status', '--porcelain'], { cwd: 'clone' }), '');
  t.is(sandbox.filterStarts(), 1);
});

// ---- somebody else at work at the same time ---------------------------------------------------

const meddle = test.macro<[ExchangeStep, (path: string) => void, (path: string) => unknown, unknown]>({
  title: (name, step) => `a file that is ${name} before the step "${step}" stays so`,
  exec: async (t, step, change, look, expected) => {
    const sandbox = await pointersOf(t, {
      'a.bin': noise(3000, 1),
      'b.bin': noise(3000, 2),
      'c.bin': noise(3000, 3),
    });
    const path = sandbox.path('clone/b.bin');
    const result = await pullHere(sandbox, 'clone', {
      beforeStep: (now, name) => {
        if (now === step && name.toString() === 'b.bin') change(path);
      },
    });
    t.deepEqual(outcome(result), { 'a.bin': 'written', 'c.bin': 'written', 'b.bin': 'refused' });
    t.is(result.failed[0]?.message, 'it was changed meanwhile, and left as it is now');
    t.deepEqual(look(path), expected);
    t.deepEqual(litter(sandbox.path('clone')), []);
  },
});

const edit = (path: string) => writeFileSync(path, 'edited');
const read = (path: string) => readFileSync(path, 'utf8');
const replace = (path: string) => {
  rmSync(path, { force: true });
  edit(path);
};
const touch = (path: string) => utimesSync(path, 1e9, 1e9);
const remove = (path: string) => rmSync(path);
const makeDirectory = (path: string) => {
  rmSync(path, { force: true });
  mkdirSync(join(path, 'below'), { recursive: true });
};
const mode = (path: string) => statSync(path).mode & 0o777;

test('edited', meddle, 'look', edit, read, 'edited');
test('edited (late)', meddle, 'take', edit, read, 'edited');
test('replaced', meddle, 'look', replace, read, 'edited');
test('replaced (late)', meddle, 'take', replace, read, 'edited');
test('made anew', meddle, 'put', replace, read, 'edited');
test('removed', meddle, 'look', remove, existsSync, false);
test('removed (late)', meddle, 'take', remove, existsSync, false);
test('touched', meddle, 'take', touch, (path) => statSync(path).mtimeMs, 1e12);
test('given another mode', meddle, 'take', (path) => chmodSync(path, 0o640), mode, 0o640);
test('a directory', meddle, 'take', makeDirectory, (path) => readdirSync(path), ['below']);
test('a directory at last', meddle, 'put', makeDirectory, (path) => readdirSync(path), ['below']);

test('a file that is edited before its turn is left alone', async (t) => {
  const sandbox = await pointersOf(t, { 'a.bin': noise(3000, 1), 'b.bin': noise(3000, 2) });
  const result = await pullHere(sandbox, 'clone', {
    onProgress: ({ kind }) => kind === 'found' && edit(sandbox.path('clone/b.bin')),
  });
  t.deepEqual(outcome(result), { 'a.bin': 'written', 'b.bin': 'refused' });
  t.is(read(sandbox.path('clone/b.bin')), 'edited');
});

test('a change in the moment after the exchange is not declared unmodified', async (t) => {
  const sandbox = await pointersOf(t, { 'a.bin': noise(3000, 1), 'b.bin': noise(3000, 2) });
  const result = await pullHere(sandbox, 'clone', {
    beforeStep: (step, path) => {
      // a.bin is in its place by now.
      if (step === 'look' && path.toString() === 'b.bin')
        writeFileSync(sandbox.path('clone/a.bin'), noise(3000, 9));
    },
  });
  t.deepEqual(outcome(result), { 'a.bin': 'written', 'b.bin': 'written' });
  t.is(await sandbox.gitText(['status', '--porcelain'], { cwd: 'clone' }), 'M a.bin'.padStart(8));
});

test('a file that another pull has moved to and fro is still known as written', async (t) => {
  const sandbox = await pointersOf(t, { 'a.bin': noise(3000, 1), 'b.bin': noise(3000, 2) });
  const [file, aside] = [sandbox.path('clone/a.bin'), sandbox.path('clone/aside')];
  await pullHere(sandbox, 'clone', {
    beforeStep: (step, path) => {
      if (step !== 'look' || path.toString() !== 'b.bin') return;
      renameSync(file, aside);
      linkSync(aside, file);
      rmSync(aside);
    },
  });
  await assertCleanWithoutFilter(t, sandbox, 'clone');
});

test('two pulls at once share the work and leave every file whole', async (t) => {
  const files = Object.fromEntries(Array.from({ length: 40 }, (_, i) => [`${i}.bin`, noise(20_000 + i, i)]));
  const sandbox = await pointersOf(t, files);
  const runs = await Promise.all([1, 2].map(() => sandbox.xet('clone', ['pull', '--json'])));
  const written = runs.flatMap(({ stdout }) =>
    JSON.parse(stdout).written.map(({ path }: { path: string }) => path),
  );
  t.deepEqual(written.sort(), Object.keys(files).sort());
  for (const [path, bytes] of Object.entries(files)) t.true(sandbox.read(`clone/${path}`).equals(bytes));
  // One may have found the index locked by the other, and left it to the next.
  t.is((await sandbox.xet('clone', ['pull'])).status, 0);
  t.deepEqual(litter(sandbox.path('clone')), []);
  await assertCleanWithoutFilter(t, sandbox, 'clone');
});

// ---- symbolic links -----------------------------------------------------------------------------

test('pull does not write through a symbolic link in the place of a directory', async (t) => {
  const sandbox = await pointersOf(t, {
    'dir/a.bin': noise(3000, 1),
    'dir/sub/b.bin': noise(3000, 2),
    'z.bin': noise(3000, 3),
  });
  mkdirSync(sandbox.path('outside'));
  renameSync(sandbox.path('clone/dir'), sandbox.path('outside/dir'));
  symlinkSync(sandbox.path('outside/dir'), sandbox.path('clone/dir'));
  const pointer = sandbox.read('outside/dir/a.bin');
  const { status, stderr } = await sandbox.xet('clone', ['pull']);
  t.is(status, 1);
  t.regex(stderr, /^git2db: dir\/a\.bin: dir is a symbolic link.*nothing is written through it$/m);
  t.regex(stderr, /^git2db: dir\/sub\/b\.bin: dir is a symbolic link/m);
  t.true(sandbox.read('outside/dir/a.bin').equals(pointer));
  t.deepEqual(readdirSync(sandbox.path('outside/dir')).sort(), ['a.bin', 'sub']);
  t.true(sandbox.read('clone/z.bin').equals(noise(3000, 3)));
});

const swap = test.macro<[ExchangeStep]>({
  title: (_, step) =>
    `a directory that is moved away and replaced by a link to it, before "${step}", is not written to`,
  exec: async (t, step) => {
    const sandbox = await pointersOf(t, { 'dir/a.bin': noise(3000, 1), 'z.bin': noise(3000, 3) });
    const pointer = sandbox.read('clone/dir/a.bin');
    mkdirSync(sandbox.path('outside'));
    const result = await pullHere(sandbox, 'clone', {
      beforeStep: (now, path) => {
        if (now !== step || path.toString() !== 'dir/a.bin') return;
        renameSync(sandbox.path('clone/dir'), sandbox.path('outside/dir'));
        symlinkSync(sandbox.path('outside/dir'), sandbox.path('clone/dir'));
      },
    });
    t.deepEqual(outcome(result), { 'dir/a.bin': 'refused', 'z.bin': 'written' });
    t.regex(result.failed[0]?.message ?? '', /the directory dir was replaced meanwhile/);
    t.true(sandbox.read('outside/dir/a.bin').equals(pointer));
    t.deepEqual(readdirSync(sandbox.path('outside/dir')), ['a.bin']);
  },
});

test(swap, 'look');

test('a link that appears after the last check leads nothing outside', async (t) => {
  const sandbox = await pointersOf(t, { 'dir/a.bin': noise(3000, 1) });
  mkdirSync(sandbox.path('outside'));
  sandbox.write('outside/a.bin', 'precious');
  await pullHere(sandbox, 'clone', {
    beforeStep: (step) => {
      if (step !== 'take') return;
      renameSync(sandbox.path('clone/dir'), sandbox.path('clone/moved'));
      symlinkSync(sandbox.path('outside'), sandbox.path('clone/dir'));
    },
  });
  t.deepEqual(readdirSync(sandbox.path('outside')), ['a.bin']);
  t.is(sandbox.read('outside/a.bin').toString(), 'precious');
  t.deepEqual(litter(sandbox.path('clone')), []);
});

for (const throughDescriptor of [true, false]) {
  const how = throughDescriptor ? 'through descriptors' : 'by path, where /proc is not mounted';
  test(`a work tree directory looked up ${how} is no link, not git's, and stays the same`, (t) => {
    const top = realpathSync(mkdtempSync(join(tmpdir(), 'git2db-directory-')));
    t.teardown(() => rmSync(top, { recursive: true, force: true }));
    mkdirSync(join(top, 'a/b'), { recursive: true });
    mkdirSync(join(top, '.git'));
    writeFileSync(join(top, 'a/b/file'), 'content');
    symlinkSync('a', join(top, 'link'));
    const open = (path: string) =>
      WorkTreeDirectory.open(Buffer.from(top), Buffer.from(path), { throughDescriptor });
    for (const path of ['link', 'link/b', 'a/b/file', 'a/none', '.git', 'a/../a', 'a//b', 'a/.', '.GIT']) {
      t.throws(() => open(path), { instanceOf: Git2dbError, code: 'REFUSED' }, path);
    }
    const directory = open('a/b');
    t.is(readFileSync(directory.entry(Buffer.from('file')), 'utf8'), 'content');
    t.notThrows(() => directory.check());
    renameSync(join(top, 'a'), join(top, 'moved'));
    t.throws(() => directory.check(), { code: 'REFUSED' });
    mkdirSync(join(top, 'a/b'), { recursive: true });
    t.throws(() => directory.check(), { code: 'REFUSED' });
    directory.release();
    t.notThrows(() => open('').release());
  });
}

// ---- what can go wrong --------------------------------------------------------------------------

test('an index that another git command holds is left alone, and the files are written', async (t) => {
  const sandbox = await pointersOf(t, { 'a.bin': noise(3000, 1) });
  const index = sandbox.read('clone/.git/index');
  sandbox.write('clone/.git/index.lock', '');
  const { status, stderr } = await sandbox.xet('clone', ['pull']);
  t.is(status, 0);
  t.regex(
    stderr,
    /^1 file \(2\.93 KiB\) written\nthe index could not be told \(another git command holds .*index\.lock\)[^\n]*\n$/,
  );
  t.true(sandbox.read('clone/a.bin').equals(noise(3000, 1)));
  t.true(sandbox.read('clone/.git/index').equals(index));
  rmSync(sandbox.path('clone/.git/index.lock'));
  const again = await sandbox.xet('clone', ['pull', '--json']);
  t.deepEqual(JSON.parse(again.stdout), { dryRun: false, written: [], failed: [], index: 'updated' });
  await assertCleanWithoutFilter(t, sandbox, 'clone');
  t.deepEqual(litter(sandbox.path('clone')), []);
});

test('an index that is a symbolic link is left to git', async (t) => {
  const sandbox = await pointersOf(t, { 'a.bin': noise(3000, 1) });
  renameSync(sandbox.path('clone/.git/index'), sandbox.path('index'));
  symlinkSync(sandbox.path('index'), sandbox.path('clone/.git/index'));
  const { status, stderr } = await sandbox.xet('clone', ['pull']);
  t.is(status, 0);
  t.regex(stderr, /git has read the files for its index/);
  t.true(lstatSync(sandbox.path('clone/.git/index')).isSymbolicLink());
  t.is(await sandbox.gitText(['status', '--porcelain'], { cwd: 'clone' }), '');
});

test('content that is missing or damaged is named, and the other files are written', async (t) => {
  const sandbox = createLargeFileSandbox(t);
  await sandbox.init('source');
  // A store of its own for each, so that they share no xorb.
  for (const [i, name] of ['damaged', 'fine', 'missing'].entries()) {
    sandbox.write(`source/${name}.bin`, noise(300_000, i));
    // Old, or git may find it racily clean and clean it again when it commits.
    utimesSync(sandbox.path(`source/${name}.bin`), 1e9, 1e9);
    await sandbox.git(['add', '.'], { cwd: 'source' });
    if (name === 'damaged') flipByte(onlyFile(sandbox.path('source/.git/xet/xorbs')), 150_000);
    if (name === 'fine') renameSync(sandbox.path('source/.git/xet'), sandbox.path('kept'));
    if (name === 'missing') {
      rmSync(sandbox.path('source/.git/xet'), { recursive: true });
      renameSync(sandbox.path('kept'), sandbox.path('source/.git/xet'));
    }
  }
  await sandbox.commitAll('source');
  await sandbox.clonePointers('source', 'clone');
  const { status, stdout, stderr } = await sandbox.xet('clone', ['pull', '--json']);
  t.is(status, 1);
  const { written, failed } = JSON.parse(stdout);
  t.deepEqual(written, [{ path: 'fine.bin', size: 300_000 }]);
  t.deepEqual(failed.map(({ path, kind }: { path: string; kind: string }) => [path, kind]).sort(), [
    ['damaged.bin', 'damaged'],
    ['missing.bin', 'missing'],
  ]);
  t.regex(stderr, /^git2db: damaged\.bin: .*xorbs.* is damaged: chunk \d+ at offset \d+.*git2db xet fsck/m);
  t.regex(
    stderr,
    /^git2db: missing\.bin: its content \(300000 bytes\) is not in .*clone\/\.git\/xet nor in .*source\/\.git\/xet; get it/m,
  );
  for (const name of ['damaged', 'missing']) t.true(sandbox.read(`clone/${name}.bin`).length < 200, name);
  t.deepEqual(litter(sandbox.path('clone')), []);
});

/** The only file below a directory. */
function onlyFile(directory: string): string {
  const files = readdirSync(directory, { recursive: true, encoding: 'utf8' })
    .map((name) => join(directory, name))
    .filter((path) => statSync(path).isFile());
  if (files.length !== 1) throw new Error(`expected one file below ${directory}, found ${files.length}`);
  return files[0] as string;
}

function flipByte(path: string, offset: number): void {
  const bytes = readFileSync(path);
  bytes.writeUInt8(bytes.readUInt8(offset) ^ 1, offset);
  chmodSync(path, 0o644);
  writeFileSync(path, bytes);
}

test('a pointer with a size that is not the content’s, or to nothing, is damaged', async (t) => {
  const sandbox = await pointersOf(t, { 'a.bin': noise(3000, 1) });
  const { hash } = JSON.parse(sandbox.read('clone/a.bin').toString());
  sandbox.write('clone/empty.bin', formatPointer('0'.repeat(64), 0));
  sandbox.write('clone/large.bin', formatPointer(hash, 2 ** 50));
  sandbox.write('clone/nothing.bin', formatPointer('0'.repeat(64), 5));
  await sandbox.git(['add', '.'], { cwd: 'clone' });
  const result = await pullHere(sandbox, 'clone');
  t.deepEqual(outcome(result), {
    'a.bin': 'written',
    'empty.bin': 'written',
    'large.bin': 'damaged',
    'nothing.bin': 'damaged',
  });
  t.is(sandbox.read('clone/empty.bin').length, 0);
});

const smallDisk = process.getuid?.() === 0 ? test : test.skip;
const needsRoot = process.getuid?.() === 0 ? '' : ' (skipped: mounting a small disk needs root)';

/** A clone whose work tree is on a disk of `megabytes`. Its git directory is not. */
async function cloneOnSmallDisk(
  t: ExecutionContext,
  sandbox: LargeFileSandbox,
  megabytes: number,
): Promise<boolean> {
  const place = sandbox.path('small');
  mkdirSync(place);
  const mounted = spawnSync('mount', ['-t', 'tmpfs', '-o', `size=${megabytes}m`, 'git2db-test', place]);
  if (mounted.status !== 0) {
    t.log(`no tmpfs can be mounted here: ${mounted.stderr}`);
    t.pass();
    return false;
  }
  t.teardown(() => spawnSync('umount', [place]));
  await sandbox.clonePointers('source', 'small/clone', '--separate-git-dir', sandbox.path('small.git'));
  return true;
}

smallDisk(`files that cannot fit are refused before the first is written${needsRoot}`, async (t) => {
  const sandbox = await pointersOf(t, { 'a.bin': noise(6 * MIB, 1), 'b.bin': noise(6 * MIB, 2) });
  if (!(await cloneOnSmallDisk(t, sandbox, 9))) return;
  const { status, stderr } = await sandbox.xet('small/clone', ['pull']);
  t.is(status, 24);
  t.regex(stderr, /^git2db: writing 2 files below .* needs 12582912 bytes, \d+ are free: make room/);
  t.true(sandbox.read('small/clone/a.bin').length < 200);
  t.is((await sandbox.xet('small/clone', ['pull', 'b.bin'])).status, 0);
  t.true(sandbox.read('small/clone/b.bin').equals(noise(6 * MIB, 2)));
});

smallDisk(
  `a file for which the disk becomes too small stays a pointer, and smaller ones are written${needsRoot}`,
  async (t) => {
    const sandbox = await pointersOf(t, {
      'a.bin': noise(40 * MIB, 1),
      'b.bin': noise(30 * MIB, 2),
      'c.bin': noise(3000, 3),
    });
    if (!(await cloneOnSmallDisk(t, sandbox, 90))) return;
    let filled = false;
    const result = await pullHere(sandbox, 'small/clone', {
      onProgress: ({ kind }) => {
        if (kind !== 'bytes' || filled) return;
        filled = true;
        fillDisk(sandbox.path('small/filler'), 5 * MIB);
      },
    });
    t.deepEqual(outcome(result), { 'a.bin': 'failed', 'b.bin': 'failed', 'c.bin': 'written' });
    t.is(
      result.failed[0]?.message,
      `the disk is full, its ${40 * MIB} bytes do not fit: make room, then run \`git2db xet pull\` again`,
    );
    t.true(sandbox.read('small/clone/a.bin').length < 200);
    t.true(sandbox.read('small/clone/b.bin').length < 200);
    t.true(sandbox.read('small/clone/c.bin').equals(noise(3000, 3)));
    t.deepEqual(litter(sandbox.path('small/clone'), sandbox.path('small.git')), []);

    rmSync(sandbox.path('small/filler'));
    const again = await sandbox.xet('small/clone', ['pull']);
    t.is(again.status, 0, again.stderr);
    t.true(sandbox.read('small/clone/a.bin').equals(noise(40 * MIB, 1)));
    await assertCleanWithoutFilter(t, sandbox, 'small/clone');
  },
);

/** Writes until the disk is full but for `left` bytes. */
function fillDisk(path: string, left: number): void {
  const fd = openSync(path, 'w');
  const block = Buffer.alloc(MIB);
  let size = 0;
  try {
    for (;;) size += writeSync(fd, block);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOSPC') throw error;
  } finally {
    closeSync(fd);
  }
  spawnSync('truncate', ['-s', String(Math.max(0, size - left)), path]);
}

test('a directory that cannot be written to is named', async (t) => {
  if (process.getuid?.() === 0) {
    t.log('not tried: root may write everywhere');
    t.pass();
    return;
  }
  const sandbox = await pointersOf(t, { 'dir/a.bin': noise(3000, 1), 'z.bin': noise(3000, 2) });
  chmodSync(sandbox.path('clone/dir'), 0o555);
  t.teardown(() => chmodSync(sandbox.path('clone/dir'), 0o755));
  const { status, stderr } = await sandbox.xet('clone', ['pull']);
  t.is(status, 1);
  t.regex(stderr, /^git2db: dir\/a\.bin: it cannot be written: permission denied \(EACCES\)$/m);
  t.true(sandbox.read('clone/z.bin').equals(noise(3000, 2)));
});

test('file names of any bytes are pulled', async (t) => {
  const sandbox = createLargeFileSandbox(t);
  await sandbox.init('source');
  const names = [
    Buffer.from('new\nline.bin'),
    Buffer.from('"quoted" \'name\'\t.bin'),
    Buffer.from([0x6c, 0xe9, 0xff, 0x2e, 0x62, 0x69, 0x6e]),
    Buffer.from('-n.bin'),
    Buffer.from(':(top)x.bin'),
    Buffer.from(`${'long'.repeat(62)}.bin`),
    Buffer.from('straße/日本.bin'),
    Buffer.from('back\\slash.bin'),
  ];
  const at = (repository: string, name: Buffer) =>
    Buffer.concat([Buffer.from(`${sandbox.path(repository)}/`), name]);
  mkdirSync(sandbox.path('source/straße'));
  for (const [i, name] of names.entries()) writeFileSync(at('source', name), noise(2000 + i, i));
  await sandbox.commitAll('source');
  await sandbox.clonePointers('source', 'clone');
  const { status, stderr } = await sandbox.xet('clone', ['pull', '--verbose']);
  t.is(status, 0, stderr);
  t.regex(stderr, /^"new\\nline\.bin": written$/m);
  t.regex(stderr, /^"l\\351\\377\.bin": written$/m);
  for (const [i, name] of names.entries())
    t.true(readFileSync(at('clone', name)).equals(noise(2000 + i, i)), String(name));
  await assertCleanWithoutFilter(t, sandbox, 'clone');
});

test('three thousand small files are pulled', async (t) => {
  const contents = Array.from({ length: 3000 }, (_, i) => noise(1000 + (i % 700), i));
  const sandbox = await pointersOf(
    t,
    Object.fromEntries(contents.map((bytes, i) => [`d${i % 40}/e${i % 3}/${i}.bin`, bytes])),
  );
  const { status, stderr } = await sandbox.xet('clone', ['pull']);
  t.is(status, 0, stderr);
  t.regex(stderr, /^3000 files/);
  for (const [i, bytes] of contents.entries()) {
    if (!sandbox.read(`clone/d${i % 40}/e${i % 3}/${i}.bin`).equals(bytes))
      t.fail(`file ${i} is not what it was`);
  }
  await assertCleanWithoutFilter(t, sandbox, 'clone');
});

// ---- interruptions ------------------------------------------------------------------------------

/** Starts a pull in `clone` and sends it `signal` once it is in the middle of its last file. */
async function interruptPull(
  t: ExecutionContext,
  sandbox: LargeFileSandbox,
  signal: NodeJS.Signals,
): Promise<number | null> {
  const child = spawn('git2db', ['xet', 'pull'], {
    cwd: sandbox.path('clone'),
    env: { ...sandbox.env },
    stdio: 'ignore',
  });
  const ended = new Promise<number | null>((resolve) => child.once('close', resolve));
  const first = sandbox.path('clone/a.bin');
  while ((statSync(first, { throwIfNoEntry: false })?.size ?? 0) < 200 && child.exitCode === null)
    await sleep(1);
  t.is(child.exitCode, null, 'the pull ended before it was interrupted');
  child.kill(signal);
  return ended;
}

/** So much that the pull is not over before a test has seen that the first file is written. */
async function slowPull(t: ExecutionContext): Promise<{ sandbox: LargeFileSandbox; content: Buffer }> {
  const content = Buffer.concat(Array.from({ length: 40 }, (_, i) => noise(4 * MIB, i)));
  return { sandbox: await pointersOf(t, { 'a.bin': noise(2000, 99), 'large.bin': content }), content };
}

// Serial, since they watch a process that others could delay.
test.serial('a pull that was killed is completed by the next, which also removes what it left', async (t) => {
  const { sandbox, content } = await slowPull(t);
  t.is(await interruptPull(t, sandbox, 'SIGKILL'), null);
  // What is left of a.bin depends on the instant: it may have had no time to clean up after itself.
  const left = litter(sandbox.path('clone')).map((name) => name.replace(/\d+-[0-9a-f]{8}/, 'N'));
  t.true(left.includes('git2db-pull'));
  t.true(left.includes('.git2db-pull-N-1'));
  for (const name of left) t.regex(name, /^(git2db-pull|\.git2db-pull-N-[01](\.old)?)$/);
  t.true(sandbox.read('clone/large.bin').length < 200);
  const { status, stderr } = await sandbox.xet('clone', ['pull']);
  t.is(status, 0, stderr);
  t.regex(stderr, /^1 file /);
  t.true(sandbox.read('clone/large.bin').equals(content));
  t.deepEqual(litter(sandbox.path('clone')), []);
  // Of the file that the killed one has written, too.
  await assertCleanWithoutFilter(t, sandbox, 'clone');
});

test.serial('Ctrl-C leaves pointers and whole files and no temporary file', async (t) => {
  const { sandbox } = await slowPull(t);
  t.is(await interruptPull(t, sandbox, 'SIGINT'), 130);
  t.deepEqual(litter(sandbox.path('clone')), []);
  t.true(sandbox.read('clone/a.bin').equals(noise(2000, 99)));
  t.true(sandbox.read('clone/large.bin').length < 200);
  await assertCleanWithoutFilter(t, sandbox, 'clone');
  t.is((await sandbox.xet('clone', ['pull'])).status, 0);
  await assertCleanWithoutFilter(t, sandbox, 'clone');
});

test('an aborted pull tells git of what it has written', async (t) => {
  const sandbox = await pointersOf(t, { 'a.bin': noise(3000, 1), 'b.bin': noise(3000, 2) });
  const controller = new AbortController();
  const error = await t.throwsAsync(
    pullHere(sandbox, 'clone', {
      signal: controller.signal,
      beforeStep: (step, path) => {
        if (step !== 'look' || path.toString() !== 'a.bin') return;
        controller.abort();
        // Longer than the event loop may be kept from noticing.
        spawnSync('sleep', ['0.05']);
      },
    }),
  );
  t.is(error?.name, 'AbortError');
  t.regex(error?.message ?? '', /^interrupted: 1 of 2 files are written/);
  t.true(sandbox.read('clone/a.bin').equals(noise(3000, 1)));
  t.true(sandbox.read('clone/b.bin').length < 200);
  t.deepEqual(litter(sandbox.path('clone')), []);
  await assertCleanWithoutFilter(t, sandbox, 'clone');
});

/** What a session leaves that ends in the moment between taking the pointer and putting the content. */
function leaveSession(top: string, files: Readonly<Record<string, string>>, noted: readonly string[]): void {
  const session = '4242-0badcafe';
  const folder = join(top, '.git/git2db-pull', session);
  mkdirSync(folder, { recursive: true });
  // Of another boot: nobody who wrote this can be alive.
  writeFileSync(
    join(folder, 'writer.json'),
    JSON.stringify({ pid: 1, pidNamespace: '', bootId: 'earlier', socket: true }),
  );
  writeFileSync(join(folder, 'files'), [top, ...noted].map((path) => `${path}\0`).join(''));
  for (const [path, text] of Object.entries(files))
    writeFileSync(join(top, path.replace('SESSION', session)), text);
}

async function recover(top: string, warn: (message: string) => void): Promise<void> {
  (await recoverSessions(join(top, '.git'), top, warn)).forget();
}

function temporaryTree(t: ExecutionContext): string {
  const top = realpathSync(mkdtempSync(join(tmpdir(), 'git2db-sweep-')));
  t.teardown(() => rmSync(top, { recursive: true, force: true }));
  mkdirSync(join(top, 'dir'));
  return top;
}

test('what a crash left in the middle of an exchange is put back', async (t) => {
  const top = temporaryTree(t);
  const pointer = formatPointer('ab'.repeat(32), 7).toString();
  leaveSession(
    top,
    {
      // 0: taken, not put. 1: put, old not removed. 2: content not complete. 3: gone with its directory.
      'dir/.git2db-pull-SESSION-0': 'content',
      'dir/.git2db-pull-SESSION-0.old': pointer,
      'dir/.git2db-pull-SESSION-1.old': pointer,
      'dir/b.bin': 'content',
      '.git2db-pull-SESSION-2': 'cont',
      '.git2db-pull-other-2': 'not ours',
    },
    ['dir/a.bin', 'dir/b.bin', 'c.bin', 'no/such/d.bin'],
  );
  await recover(top, (message) => t.fail(message));
  t.is(read(join(top, 'dir/a.bin')), pointer);
  t.is(read(join(top, 'dir/b.bin')), 'content');
  t.deepEqual(readdirSync(join(top, 'dir')).sort(), ['a.bin', 'b.bin']);
  t.deepEqual(readdirSync(top).sort(), ['.git', '.git2db-pull-other-2', 'dir']);
  t.deepEqual(readdirSync(join(top, '.git')), []);
});

test('somebody’s file that a crash left aside is not removed', async (t) => {
  const top = temporaryTree(t);
  leaveSession(top, { 'dir/.git2db-pull-SESSION-0.old': 'precious', 'dir/a.bin': 'newer' }, ['dir/a.bin']);
  const warnings: string[] = [];
  await recover(top, (message) => warnings.push(message));
  t.regex(
    warnings.join('\n'),
    /a\.bin is there, and \.git2db-pull-4242-0badcafe-0\.old beside it: keep one of them/,
  );
  t.is(read(join(top, 'dir/.git2db-pull-4242-0badcafe-0.old')), 'precious');
  t.is(read(join(top, 'dir/a.bin')), 'newer');
});

test('the files of a pull that still runs are not swept', async (t) => {
  const sandbox = await pointersOf(t, { 'a.bin': noise(3000, 1), 'b.bin': noise(3000, 2) });
  let swept: Promise<unknown> | undefined;
  const result = await pullHere(sandbox, 'clone', {
    beforeStep: () => {
      swept ??= recover(sandbox.path('clone'), (message) => t.fail(message));
    },
  });
  await swept;
  t.deepEqual(outcome(result), { 'a.bin': 'written', 'b.bin': 'written' });
});

test('notes of contents are read back, without one that was being written', (t) => {
  const identity = { dev: 1n, ino: 2n ** 63n, size: 5n, mtimeNs: -6n };
  const notes = ['a\nb', 'c', 'd'].map((path) => ({
    path: Buffer.from(path),
    oid: 'ab'.repeat(20),
    identity,
  }));
  const bytes = Buffer.concat(notes.map(encodeContentNote));
  t.deepEqual([...decodeContentNotes(bytes)], notes);
  t.deepEqual([...decodeContentNotes(Buffer.alloc(0))], []);
  for (let cut = 1; cut < bytes.length / 3; cut++) {
    t.deepEqual(
      [...decodeContentNotes(bytes.subarray(0, bytes.length - cut))],
      notes.slice(0, 2),
      String(cut),
    );
  }
  t.deepEqual([...decodeContentNotes(Buffer.from('a\0oid\x001 2 three 4\0'))], []);
});

test('the disk begins with a large file while more of it is to come, not with what is nearly done', async (t) => {
  // A device has no disk to go to: fdatasync(2) refuses it.
  const path = Buffer.from('/dev/null');
  let report: (error: Error) => void = () => {};
  const reported = new Promise<Error>((resolve) => {
    report = resolve;
  });
  const begins = (...counts: number[]) => {
    const writeBack = new WriteBack(1024 * MIB);
    return counts.map((count) => writeBack.wrote(path, count, report));
  };
  t.deepEqual(begins(50 * MIB, 40 * MIB), [false, false], 'too little');
  t.deepEqual(begins(600 * MIB), [false], 'less to come than to flush');
  t.deepEqual(begins(100 * MIB, 300 * MIB), [true, false], 'one at a time');
  t.is(((await reported) as NodeJS.ErrnoException).code, 'EINVAL');
  const many = new WriteBack(1024 * MIB);
  const small = ['/a', '/b', '/c'].map((name) => many.wrote(Buffer.from(name), 90 * MIB, report));
  t.deepEqual(small, [false, false, false], 'small files');
});
