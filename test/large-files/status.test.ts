import { mkdirSync, renameSync, rmSync, statSync, symlinkSync, utimesSync, writeFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import test from 'ava';
import { formatPointer } from '../../src/xet/pointer/xet-pointer.ts';
import { createLargeFileSandbox, type LargeFileSandbox, noise } from './repositories.ts';

const PAST = Math.floor(Date.now() / 1000) - 10_000;

interface StatusDocument {
  readonly files: readonly {
    readonly path: string;
    readonly size: number;
    readonly fileHash: string;
    readonly state: string;
    readonly available: boolean | null;
    readonly staged: string | null;
  }[];
  readonly totals: Readonly<Record<string, number>>;
  readonly store: { readonly path: string; readonly bytes: number };
}

async function statusOf(sandbox: LargeFileSandbox, cwd: string, ...args: string[]): Promise<StatusDocument> {
  const { stdout, stderr, status } = await sandbox.xet(cwd, ['status', '--json', ...args]);
  if (status !== 0) throw new Error(stderr);
  return JSON.parse(stdout);
}

async function statesOf(
  sandbox: LargeFileSandbox,
  cwd: string,
  ...args: string[]
): Promise<Record<string, string>> {
  const { files } = await statusOf(sandbox, cwd, ...args);
  return Object.fromEntries(files.map(({ path, state }) => [path, state]));
}

/** Commits files that are too old for git to doubt them. */
async function commitOld(
  sandbox: LargeFileSandbox,
  name: string,
  files: Readonly<Record<string, Buffer>>,
): Promise<void> {
  for (const [path, bytes] of Object.entries(files)) {
    sandbox.write(`${name}/${path}`, bytes);
    utimesSync(sandbox.path(name, path), PAST, PAST);
  }
  await sandbox.commitAll(name);
}

test('status tells content, pointers, modified and deleted files apart, and starts no filter', async (t) => {
  const sandbox = createLargeFileSandbox(t);
  await sandbox.init('source');
  await commitOld(
    sandbox,
    'source',
    Object.fromEntries(
      ['a', 'b', 'c', 'd', 'e', 'f', 'dir/g'].map((name, i) => [`${name}.bin`, noise(3000 + i, i)]),
    ),
  );
  await sandbox.clonePointers('source', 'clone');
  t.deepEqual(Object.values(await statesOf(sandbox, 'clone')), Array(7).fill('pointer'));
  t.is((await sandbox.xet('clone', ['pull', ':!b.bin'])).status, 0);

  const at = (name: string) => sandbox.path('clone', name);
  writeFileSync(at('c.bin'), 'other');
  rmSync(at('d.bin'));
  utimesSync(at('e.bin'), PAST, PAST);
  rmSync(at('f.bin'));
  mkdirSync(at('f.bin'));
  mkdirSync(at('moved'));
  renameSync(at('dir'), at('moved/dir'));
  symlinkSync('moved/dir', at('dir'));
  sandbox.filterStarts();
  const { files, totals, store } = await statusOf(sandbox, 'clone');
  t.is(sandbox.filterStarts(), 0);
  t.deepEqual(Object.fromEntries(files.map(({ path, state }) => [path, state])), {
    'a.bin': 'materialised',
    'b.bin': 'pointer',
    'c.bin': 'modified',
    'd.bin': 'deleted',
    'dir/g.bin': 'deleted',
    'e.bin': 'unverified',
    'f.bin': 'modified',
  });
  t.deepEqual(
    files.find(({ path }) => path === 'b.bin'),
    {
      path: 'b.bin',
      size: 3001,
      fileHash: JSON.parse(sandbox.read('clone/b.bin').toString()).hash,
      state: 'pointer',
      available: true,
      staged: null,
    },
  );
  t.deepEqual(totals, {
    files: 7,
    bytes: 21_021,
    pointers: 1,
    pointerBytes: 3001,
    missing: 0,
    missingBytes: 0,
  });
  t.is(store.path, sandbox.path('clone/.git/xet'));
  const apparent = await sandbox.runOk('sh', ['-c', 'find . -type f -printf "%s\\n"'], {
    cwd: 'clone/.git/xet',
  });
  t.is(
    store.bytes,
    apparent.stdout
      .trim()
      .split('\n')
      .reduce((sum, size) => sum + Number(size), 0),
  );

  const { stdout } = await sandbox.xet('clone', ['status']);
  t.is(
    stdout,
    [
      '7 large files (20.5 KiB), 1 large file (2.93 KiB) of them as pointers',
      `store: ${store.path} (${stdout.match(/store: .* \((.*)\)/)?.[1]})`,
      '\nPointers; get the content with "git2db xet pull":\n  2.93 KiB  b.bin',
      '\nModified; "git add" stores the new content:\n  2.93 KiB  c.bin\n  2.93 KiB  f.bin',
      '\nWritten since git looked last; "git status" tells whether modified:\n  2.93 KiB  e.bin',
      '\nDeleted; "git restore PATH" brings a file back:\n  2.93 KiB  d.bin\n  2.94 KiB  dir/g.bin',
      `remote origin: ${sandbox.path('source/.git/xet')}`,
      'no pre-push hook of git2db: "git push" sends no content; "git2db xet install" adds it',
      '',
    ].join('\n'),
  );
});

test('status knows whether the content of a pointer can be had', async (t) => {
  const sandbox = createLargeFileSandbox(t);
  await sandbox.init('source');
  await commitOld(sandbox, 'source', { 'a.bin': noise(3000, 1) });
  await sandbox.clonePointers('source', 'clone');
  sandbox.write('clone/lost.bin', formatPointer('ab'.repeat(32), 5000));
  await sandbox.git(['add', '.'], { cwd: 'clone' });
  const { files, totals } = await statusOf(sandbox, 'clone');
  t.deepEqual(
    files.map(({ path, state, available, staged }) => [path, state, available, staged]),
    [
      ['a.bin', 'pointer', true, null],
      ['lost.bin', 'pointer', false, 'new'],
    ],
  );
  t.deepEqual(totals, {
    files: 2,
    bytes: 8000,
    pointers: 2,
    pointerBytes: 8000,
    missing: 1,
    missingBytes: 5000,
  });
  const { stdout } = await sandbox.xet('clone', ['status']);
  t.regex(
    stdout,
    /^Pointers without content here; get it from a machine that has it:.*\n {2}4\.88 KiB {2}lost\.bin$/m,
  );
  // Without its source the clone has nothing.
  await sandbox.git(['remote', 'remove', 'origin'], { cwd: 'clone' });
  t.is((await statusOf(sandbox, 'clone')).totals.missing, 2);
});

test('status shows what is staged, also before the first commit', async (t) => {
  const sandbox = createLargeFileSandbox(t);
  await sandbox.init('source');
  sandbox.write('source/a.bin', noise(3000, 1));
  sandbox.write('source/b.bin', noise(3000, 2));
  await sandbox.git(['add', '.'], { cwd: 'source' });
  const staged = async () =>
    Object.fromEntries((await statusOf(sandbox, 'source')).files.map((file) => [file.path, file.staged]));
  t.deepEqual(await staged(), { 'a.bin': 'new', 'b.bin': 'new' });
  await sandbox.git(['commit', '-q', '-m', 'content'], { cwd: 'source' });
  t.deepEqual(await staged(), { 'a.bin': null, 'b.bin': null });
  sandbox.write('source/b.bin', noise(4000, 3));
  sandbox.write('source/c.bin', noise(3000, 4));
  await sandbox.git(['add', '.'], { cwd: 'source' });
  t.deepEqual(await staged(), { 'a.bin': null, 'b.bin': 'changed', 'c.bin': 'new' });
  const { stdout } = await sandbox.xet('source', ['status']);
  t.regex(
    stdout,
    /\nStaged for the next commit:\n {2}changed: {2}3\.91 KiB {2}b\.bin\n {2}new: {6}2\.93 KiB {2}c\.bin\n/,
  );
});

test('a file is unverified as long as git would read it', async (t) => {
  const sandbox = createLargeFileSandbox(t);
  await sandbox.init('source');
  // As young as the index, by the second: git trusts no stat data of such a file.
  const now = Math.floor(Date.now() / 1000) + 3600;
  sandbox.write('source/young.bin', noise(3000, 1));
  sandbox.write('source/old.bin', noise(3000, 2));
  utimesSync(sandbox.path('source/young.bin'), now, now);
  utimesSync(sandbox.path('source/old.bin'), PAST, PAST);
  await sandbox.commitAll('source');
  t.deepEqual(await statesOf(sandbox, 'source'), { 'old.bin': 'materialised', 'young.bin': 'unverified' });

  // Another content of that size and mtime: the ctime tells, in another second, unless git is not to look at it.
  await sleep(1100 - (Date.now() % 1000));
  writeFileSync(sandbox.path('source/old.bin'), noise(3000, 3));
  utimesSync(sandbox.path('source/old.bin'), PAST, PAST);
  t.is((await statesOf(sandbox, 'source'))['old.bin'], 'unverified');
  await sandbox.git(['config', 'core.trustctime', 'false'], { cwd: 'source' });
  t.is((await statesOf(sandbox, 'source'))['old.bin'], 'materialised');
  const copy = sandbox.path('source/copy');
  writeFileSync(copy, noise(3000, 3));
  utimesSync(copy, PAST, PAST);
  t.not(statSync(copy).ino, statSync(sandbox.path('source/old.bin')).ino);
  renameSync(copy, sandbox.path('source/old.bin'));
  t.is((await statesOf(sandbox, 'source'))['old.bin'], 'unverified');
  await sandbox.git(['config', 'core.checkStat', 'minimal'], { cwd: 'source' });
  t.is((await statesOf(sandbox, 'source'))['old.bin'], 'materialised');
});

test('status takes pathspecs, and leaves out what has no attribute or is not checked out', async (t) => {
  const sandbox = createLargeFileSandbox(t);
  await sandbox.init('source');
  await commitOld(sandbox, 'source', {
    'a.bin': noise(3000, 1),
    'dir/b.bin': noise(3000, 2),
    'dir/sparse.bin': noise(3000, 3),
    'dir/pointer.txt': formatPointer('ab'.repeat(32), 5000),
    'plain.txt': Buffer.from('plain'),
  });
  await sandbox.git(['update-index', '--skip-worktree', 'dir/sparse.bin'], { cwd: 'source' });
  t.deepEqual(await statesOf(sandbox, 'source/dir'), {
    'a.bin': 'materialised',
    'dir/b.bin': 'materialised',
  });
  t.deepEqual(await statesOf(sandbox, 'source/dir', '.'), { 'dir/b.bin': 'materialised' });
  t.is((await sandbox.xet('source', ['status', 'none'])).status, 2);
  await sandbox.git(['init', '-q', '--bare', 'bare']);
  t.is((await sandbox.xet('bare', ['status'])).status, 4);
  await sandbox.git(['init', '-q', 'empty']);
  const { files, store } = await statusOf(sandbox, 'empty');
  t.deepEqual([files, store.bytes], [[], 0]);
});
