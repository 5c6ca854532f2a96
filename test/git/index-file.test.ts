import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  appendFileSync,
  chmodSync,
  copyFileSync,
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { setTimeout as setTimeoutPromise } from 'node:timers/promises';
import test, { type ExecutionContext } from 'ava';
import fc from 'fast-check';
import { indexEntries } from '../../src/git/index-file/entries.ts';
import type { HashSize } from '../../src/git/index-file/entry.ts';
import { decodeEwah, encodeEwah } from '../../src/git/index-file/ewah.ts';
import { type IndexView, readIndex } from '../../src/git/index-file/format.ts';
import { mustForget } from '../../src/git/index-file/racy-entries.ts';
import { readIndexFile } from '../../src/git/index-file/read.ts';
import { type RefreshOptions, type RefreshResult, refreshIndex } from '../../src/git/index-file/refresh.ts';
import { rewriteIndex } from '../../src/git/index-file/rewrite.ts';
import type { WrittenFile } from '../../src/git/index-file/work-tree.ts';
import { FormatError } from '../../src/xet/errors.ts';
import { createSandbox } from '../helpers/git-sandbox.ts';

/** Seconds well before any index of these tests is written, so that nothing is racy by chance. */
const PAST = Math.floor(Date.now() / 1000) - 1000;

interface Repository {
  readonly dir: string;
  /** A directory outside the work tree. */
  readonly home: string;
  readonly index: string;
  readonly hashAlgorithm: 'sha1' | 'sha256';
  readonly hashSize: HashSize;
  git(...args: readonly string[]): Buffer;
  /** git, with text for its stdin. */
  gitWith(input: string | Buffer, ...args: readonly string[]): Buffer;
  path(name: string | Buffer): Buffer;
  write(name: string | Buffer, content: string | Buffer): void;
  /** The files that the clean filter was asked for since the last call. */
  cleaned(): string[];
}

/**
 * A repository whose `*.bin` files have a filter: clean maps `BIG:<pointer>` and anything after the
 * first line to `<pointer>`, leaves a pointer as it is, and notes each call.
 */
function repository(
  t: ExecutionContext,
  config: readonly string[] = [],
  objectFormat: 'sha1' | 'sha256' = 'sha1',
): Repository {
  const { dir, home, env } = createSandbox(t);
  const log = join(home, 'cleaned');
  const clean = join(home, 'clean');
  writeFileSync(clean, `#!/bin/sh\nprintf '%s\\n' "$1" >>'${log}'\nsed -e 's/^BIG://' -e 1q\n`);
  chmodSync(clean, 0o755);
  writeFileSync(log, '');
  const gitWith = (input: string | Buffer, ...args: readonly string[]) =>
    execFileSync('git', args, { cwd: dir, env, input, stdio: ['pipe', 'pipe', 'pipe'], maxBuffer: 1 << 28 });
  const git = (...args: readonly string[]) => gitWith('', ...args);
  git('init', '-q', `--object-format=${objectFormat}`);
  git('config', 'filter.x.clean', `'${clean}' %f`);
  git('config', 'filter.x.required', 'true');
  for (const setting of config) {
    const [key, value] = setting.split('=') as [string, string];
    git('config', key, value);
  }
  const path = (name: string | Buffer) => Buffer.concat([Buffer.from(`${dir}/`), Buffer.from(name)]);
  const repo: Repository = {
    dir,
    home,
    index: join(dir, '.git/index'),
    hashAlgorithm: objectFormat,
    hashSize: objectFormat === 'sha1' ? 20 : 32,
    git,
    gitWith,
    path,
    write(name, content) {
      const file = path(name);
      mkdirSync(file.subarray(0, file.lastIndexOf('/')), { recursive: true });
      writeFileSync(file, content);
      utimesSync(file, PAST, PAST);
    },
    cleaned() {
      const lines = readFileSync(log, 'utf8').split('\n').slice(0, -1);
      writeFileSync(log, '');
      return lines;
    },
  };
  repo.write('.gitattributes', '*.bin filter=x\n');
  return repo;
}

/** Adds `names` as pointers, which need no filter, and commits. */
function commitPointers(repo: Repository, names: readonly (string | Buffer)[]): void {
  for (const name of names) {
    repo.write(name, `pointer ${Buffer.from(name).toString('hex').slice(-60)}\n`);
  }
  repo.git('-c', 'filter.x.clean=', '-c', 'filter.x.required=false', 'add', '.');
  repo.git('commit', '-q', '-m', 'pointers');
  repo.cleaned();
}

/** Makes git write an untracked cache in which nothing is racy. */
function fillUntrackedCache(repo: Repository): void {
  const find = [
    '.',
    '-path',
    './.git',
    '-prune',
    '-o',
    '-type',
    'd',
    '-exec',
    'touch',
    '-d',
    `@${PAST}`,
    '{}',
    '+',
  ];
  execFileSync('find', find, { cwd: repo.dir });
  utimesSync(repo.path('.git/info/exclude'), PAST, PAST);
  repo.git('status');
  repo.git('status');
}

/** What `xet pull` does: replaces a pointer in the work tree with its content. */
function hydrate(repo: Repository, name: string | Buffer, seconds: number = PAST): WrittenFile {
  const file = repo.path(name);
  const pointer = readFileSync(file, 'utf8');
  const temporary = Buffer.concat([file, Buffer.from('.tmp')]);
  writeFileSync(temporary, `BIG:${pointer}${'content '.repeat(100)}`);
  utimesSync(temporary, seconds, seconds);
  renameSync(temporary, file);
  const oid = createHash(repo.hashAlgorithm).update(`blob ${pointer.length}\0${pointer}`).digest('hex');
  return { path: Buffer.from(name), oid, stat: lstatSync(file, { bigint: true }) };
}

/** refreshIndex without waiting: the files' times are in the past, but their ctime is of now. */
function refresh(
  repo: Repository,
  files: readonly WrittenFile[],
  options: Partial<RefreshOptions> = {},
): Promise<RefreshResult> {
  return refreshIndex(repo.index, repo.dir, files, {
    hashAlgorithm: repo.hashAlgorithm,
    sleep: async () => {},
    ...options,
  });
}

/** git finds nothing changed, has not asked the filter, and its index holds what lstat says of `files`. */
function assertUpToDate(t: ExecutionContext, repo: Repository, files: readonly WrittenFile[]): void {
  t.is(repo.git('status', '--porcelain').toString(), '');
  repo.git('diff-files', '--quiet');
  repo.git('update-index', '--refresh');
  repo.git('update-index', '--really-refresh');
  t.deepEqual(repo.cleaned(), []);
  if (readIndex(readFileSync(repo.index), repo.hashSize).hasChecksum) {
    repo.git('fsck');
  }
  const debug = debugEntries(repo);
  for (const { path, stat } of files) {
    t.deepEqual(debug.get(path.toString('latin1')), statLines(stat));
  }
  t.false(existsSync(`${repo.index}.lock`));
}

/** Path (latin1) -> what `git ls-files --debug` prints for it. */
function debugEntries(repo: Repository): Map<string, string> {
  const text = repo.git('ls-files', '-z', '--debug').toString('latin1');
  const entries = new Map<string, string>();
  const pattern = /([^\0]+)\0((?: {2}\w+: .*\n){5})/g;
  for (const [, path, lines] of text.matchAll(pattern)) {
    entries.set(path!, lines!.replace(/\tflags: .*/, ''));
  }
  return entries;
}

function statLines(stat: WrittenFile['stat']): string {
  const time = (ns: bigint) => `${ns / 1_000_000_000n}:${ns % 1_000_000_000n}`;
  return [
    `  ctime: ${time(stat.ctimeNs)}`,
    `  mtime: ${time(stat.mtimeNs)}`,
    `  dev: ${BigInt.asUintN(32, stat.dev)}\tino: ${BigInt.asUintN(32, stat.ino)}`,
    `  uid: ${stat.uid}\tgid: ${stat.gid}`,
    `  size: ${BigInt.asUintN(32, stat.size)}`,
    '',
  ].join('\n');
}

/** Asserts that `after` differs from `before` in nothing but stat data of `files` and the checksum. */
function assertOnlyStatDataDiffer(
  t: ExecutionContext,
  repo: Repository,
  before: Buffer,
  after: Buffer,
  files: readonly WrittenFile[],
): void {
  const mask = (bytes: Buffer): Buffer => {
    const masked = Buffer.from(bytes);
    const paths = new Set(files.map((file) => file.path.toString('latin1')));
    for (const entry of indexEntries(readIndex(bytes, repo.hashSize))) {
      if (paths.has(entry.path.toString('latin1'))) {
        masked.fill(0, entry.offset, entry.offset + 24).fill(0, entry.offset + 28, entry.offset + 40);
      }
    }
    return masked.fill(0, masked.length - repo.hashSize);
  };
  t.true(mask(before).equals(mask(after)));
  t.false(before.equals(after));
}

/** The entries that git says the index has, as `<mode> <oid> <stage>\t<path>`. */
function gitEntries(repo: Repository): string[] {
  return repo.git('ls-files', '-s', '-z', '--sparse').toString('latin1').split('\0').slice(0, -1);
}

function ourEntries(view: IndexView): string[] {
  return Array.from(
    indexEntries(view),
    (entry) =>
      `${entry.mode.toString(8).padStart(6, '0')} ${entry.oid} ${entry.stage}\t${entry.path.toString('latin1')}`,
  );
}

function extensionsOf(view: IndexView): string[] {
  return view.extensions.map((extension) => extension.signature);
}

function withChecksum(bytes: Buffer, hashSize: HashSize = 20): Buffer {
  const content = bytes.subarray(0, bytes.length - hashSize);
  const hash = createHash(hashSize === 20 ? 'sha1' : 'sha256').update(content);
  return Buffer.concat([content, hash.digest()]);
}

const ODD_NAMES: readonly (string | Buffer)[] = [
  'plain.bin',
  'with space.bin',
  'new\nline.bin',
  'tab\tand "quotes".bin',
  '-dash.bin',
  'ünï/cödé/文件.bin',
  Buffer.from([0x61, 0xff, 0xfe, 0x2f, 0x80, 0x2e, 0x62, 0x69, 0x6e]),
  `${'long-'.repeat(40)}/${'name-'.repeat(45)}.bin`,
  'a/b.bin',
  'a.bin',
  'a-b.bin',
];

interface FormatCase {
  readonly config?: readonly string[];
  readonly objectFormat?: 'sha1' | 'sha256';
  readonly version: number;
  readonly extensions: readonly string[];
  readonly prepare?: (repo: Repository) => void;
}

const keepsAllElse = test.macro(async (t, testCase: FormatCase) => {
  const repo = repository(t, testCase.config, testCase.objectFormat);
  const names = [...ODD_NAMES];
  for (let i = 0; i < 200; i++) {
    names.push(`many/${i % 7}/${'x'.repeat(i % 23)}${i}.bin`);
  }
  commitPointers(repo, names);
  testCase.prepare?.(repo);
  const files = names.filter((_, i) => i % 3 !== 1).map((name) => hydrate(repo, name));
  const before = readFileSync(repo.index);
  const view = readIndex(before, repo.hashSize);
  t.is(view.version, testCase.version);
  for (const extension of testCase.extensions) {
    t.true(extensionsOf(view).includes(extension), `${extension} in ${extensionsOf(view)}`);
  }
  t.deepEqual(ourEntries(view), gitEntries(repo));

  t.deepEqual(await refresh(repo, files), { kind: 'updated', entries: files.length, skipped: 0 });
  assertOnlyStatDataDiffer(t, repo, before, readFileSync(repo.index), files);
  t.is(view.hasChecksum, readIndex(readFileSync(repo.index), repo.hashSize).hasChecksum);
  assertUpToDate(t, repo, files);
});

test('git sees pulled files as unmodified without a filter: version 2', keepsAllElse, {
  version: 2,
  extensions: ['TREE'],
});

test(
  'git sees pulled files as unmodified without a filter: version 3, for a skip-worktree entry',
  keepsAllElse,
  {
    version: 3,
    extensions: ['TREE'],
    prepare: (repo) => repo.git('update-index', '--skip-worktree', 'with space.bin'),
  },
);

test('git sees pulled files as unmodified without a filter: version 4', keepsAllElse, {
  version: 4,
  extensions: ['TREE'],
  config: ['index.version=4'],
});

test('git sees pulled files as unmodified without a filter: SHA-256', keepsAllElse, {
  version: 2,
  extensions: ['TREE'],
  objectFormat: 'sha256',
});

test('git sees pulled files as unmodified without a filter: SHA-256, version 4', keepsAllElse, {
  version: 4,
  extensions: ['TREE'],
  objectFormat: 'sha256',
  config: ['index.version=4'],
});

test('git sees pulled files as unmodified without a filter: offset tables', keepsAllElse, {
  version: 4,
  extensions: ['EOIE', 'IEOT'],
  config: ['index.version=4', 'index.threads=3'],
  prepare: (repo) => repo.git('update-index', '--force-write-index'),
});

test('git sees pulled files as unmodified without a filter: untracked cache', keepsAllElse, {
  version: 2,
  extensions: ['UNTR'],
  config: ['core.untrackedCache=true'],
  prepare: fillUntrackedCache,
});

test('git sees pulled files as unmodified without a filter: resolve-undo', keepsAllElse, {
  version: 2,
  extensions: ['REUC'],
  prepare: (repo) => {
    const stages = [1, 2, 3].map((stage) => `100644 ${emptyBlob(repo)} ${stage}\tconflict\n`);
    repo.gitWith(stages.join(''), 'update-index', '--index-info');
    repo.write('conflict', 'resolved\n');
    repo.git('add', 'conflict');
    repo.git('commit', '-q', '-m', 'merge');
    // A commit drops the extension; a second resolution brings it back.
    repo.gitWith(`0 ${'0'.repeat(40)}\tconflict\n${stages.join('')}`, 'update-index', '--index-info');
    repo.git('add', 'conflict');
  },
});

test(
  'git sees pulled files as unmodified without a filter: zeros for a checksum (index.skipHash)',
  keepsAllElse,
  {
    version: 2,
    extensions: ['TREE'],
    prepare: (repo) => {
      const bytes = readFileSync(repo.index);
      writeFileSync(repo.index, bytes.fill(0, bytes.length - 20));
    },
  },
);

test('git sees pulled files as unmodified without a filter: an extension nobody knows', keepsAllElse, {
  version: 2,
  extensions: ['ZZZZ'],
  prepare: (repo) => {
    const bytes = readFileSync(repo.index);
    const extension = Buffer.from('ZZZZ\0\0\0\x05hello', 'latin1');
    writeFileSync(
      repo.index,
      withChecksum(Buffer.concat([bytes.subarray(0, -20), extension, Buffer.alloc(20)])),
    );
  },
});

function emptyBlob(repo: Repository): string {
  return repo.git('hash-object', '-w', '--stdin').toString().trim();
}

test('git sees pulled files as unmodified without a filter: a file system monitor', async (t) => {
  const repo = repository(t);
  commitPointers(repo, ['a.bin', 'b.bin', 'c.bin']);
  const hook = join(repo.home, 'monitor');
  const changed = join(repo.home, 'changed');
  writeFileSync(changed, '');
  writeFileSync(hook, `#!/bin/sh\nprintf 'token\\0'\ncat '${changed}'\n`);
  chmodSync(hook, 0o755);
  repo.git('config', 'core.fsmonitorHookVersion', '2');
  repo.git('config', 'core.fsmonitor', hook);
  repo.git('update-index', '--fsmonitor');
  repo.git('status');
  const files = ['a.bin', 'b.bin'].map((name) => hydrate(repo, name));
  const before = readFileSync(repo.index);
  t.true(extensionsOf(readIndex(before, 20)).includes('FSMN'));

  t.deepEqual(await refresh(repo, files), { kind: 'updated', entries: 2, skipped: 0 });
  assertOnlyStatDataDiffer(t, repo, before, readFileSync(repo.index), files);
  // The monitor has seen our own writing, and a change by somebody else after it.
  repo.write('b.bin', 'BIG:other content\n');
  writeFileSync(changed, 'a.bin\0b.bin\0');
  t.is(repo.git('status', '--porcelain').toString(), ' M b.bin\n');
  t.deepEqual([...new Set(repo.cleaned())], []);
});

const refreshesSplitIndex = test.macro(
  async (t, config: readonly string[], objectFormat: 'sha1' | 'sha256') => {
    const repo = repository(t, ['splitIndex.maxPercentChange=100', ...config], objectFormat);
    const names: string[] = [];
    for (let i = 0; i < 150; i++) {
      names.push(`d${i % 5}/file${String(i).padStart(3, '0')}.bin`);
    }
    commitPointers(repo, names);
    repo.git('update-index', '--split-index');
    // Replaced, deleted and added entries, some with extended flags.
    repo.git('update-index', '--chmod=+x', names[3]!, names[70]!);
    chmodSync(repo.path(names[3]!), 0o755);
    chmodSync(repo.path(names[70]!), 0o755);
    repo.git('rm', '-q', '-f', names[10]!, names[11]!);
    repo.write('d0/added.bin', 'pointer added\n');
    repo.write('z-last.bin', 'pointer last\n');
    repo.git('add', 'd0/added.bin', 'z-last.bin');
    repo.git('commit', '-q', '-m', 'changes');
    repo.git('update-index', '--skip-worktree', names[20]!);
    const shared = readdirSync(dirname(repo.index)).filter((name) => name.startsWith('sharedindex.'));
    t.is(shared.length, 1);
    const listed = gitEntries(repo);
    const view = (await readIndexFile(repo.index, repo.hashSize))!;
    t.deepEqual(ourEntries(view), listed);
    t.is(repo.git('status', '--porcelain').toString(), '');
    repo.cleaned();

    // From the shared file, replaced (3), after deleted ones, and added.
    const pulled = [names[0]!, names[3]!, names[12]!, names[13]!, names[149]!, 'd0/added.bin'];
    const files = pulled.map((name) => hydrate(repo, name));
    for (const file of files) {
      if (repo.git('ls-files', '-s', file.path.toString()).toString().startsWith('100755')) {
        chmodSync(repo.path(file.path), 0o755);
      }
    }
    const current = files.map((file) => ({
      ...file,
      stat: lstatSync(repo.path(file.path), { bigint: true }),
    }));
    t.deepEqual(await refresh(repo, current), { kind: 'updated', entries: 6, skipped: 0 });
    // The offset tables would be wrong now; git writes new ones when it next writes the index.
    const hints = ['IEOT', 'EOIE'].filter((signature) => extensionsOf(view).includes(signature));
    t.is(hints.length, config.includes('index.threads=2') ? 2 : 0);
    const own = readIndex(readFileSync(repo.index), repo.hashSize);
    t.deepEqual(
      extensionsOf(own),
      extensionsOf(view).filter((signature) => !hints.includes(signature)),
    );
    t.deepEqual(gitEntries(repo), listed);
    t.deepEqual(ourEntries((await readIndexFile(repo.index, repo.hashSize))!), listed);
    t.deepEqual(
      readdirSync(dirname(repo.index)).filter((name) => name.startsWith('sharedindex.')),
      shared,
    );
    assertUpToDate(t, repo, current);

    // All of the shared file's entries, so that the bitmap has runs.
    const rest = names.filter(
      (name, i) => ![10, 11, 20].includes(i) && !pulled.includes(name) && i % 10 !== 9,
    );
    const more = rest.map((name) => {
      const executable = (statSync(repo.path(name)).mode & 0o100) !== 0;
      const file = hydrate(repo, name);
      chmodSync(repo.path(name), executable ? 0o755 : 0o644);
      return { ...file, stat: lstatSync(repo.path(name), { bigint: true }) };
    });
    t.deepEqual(await refresh(repo, more), { kind: 'updated', entries: more.length, skipped: 0 });
    t.deepEqual(gitEntries(repo), listed);
    assertUpToDate(t, repo, [...current, ...more]);

    // Git goes on from there, and can give up splitting.
    repo.write('new.txt', 'new\n');
    repo.git('add', 'new.txt');
    repo.git('update-index', '--no-split-index');
    t.is(repo.git('status', '--porcelain').toString(), 'A  new.txt\n');
    t.deepEqual(repo.cleaned(), []);
  },
);

test('a split index gets replacing entries: version 2', refreshesSplitIndex, [], 'sha1');
test('a split index gets replacing entries: version 4', refreshesSplitIndex, ['index.version=4'], 'sha1');
test('a split index gets replacing entries: SHA-256', refreshesSplitIndex, [], 'sha256');
test('a split index gets replacing entries: offset tables', refreshesSplitIndex, ['index.threads=2'], 'sha1');

test('an added entry of a split index takes the place of one in the shared file', async (t) => {
  const repo = repository(t, ['splitIndex.maxPercentChange=100']);
  commitPointers(repo, ['a.bin', 'b.bin', 'c.bin']);
  const oid = emptyBlob(repo);
  const conflict = (path: string) => [1, 3].map((stage) => `100644 ${oid} ${stage}\t${path}\n`).join('');
  repo.gitWith(conflict('merged'), 'update-index', '--index-info');
  repo.git('update-index', '--split-index');
  for (const path of ['a.bin', 'merged']) {
    repo.gitWith(`0 ${'0'.repeat(40)}\t${path}\n100644 ${oid} 0\t${path}\n`, 'update-index', '--index-info');
  }
  repo.gitWith(`0 ${'0'.repeat(40)}\tc.bin\n${conflict('c.bin')}`, 'update-index', '--index-info');
  // Git notes what the added entries take the place of as deleted; without, it must come to the same.
  const bytes = readFileSync(repo.index);
  const own = readIndex(bytes, 20);
  const link = own.extensions.find(({ signature }) => signature === 'link')!;
  const none = encodeEwah(new Uint8Array(0));
  const data = Buffer.concat([bytes.subarray(link.offset, link.offset + 20), none, none]);
  const size = Buffer.alloc(4);
  size.writeUInt32BE(data.length);
  const head = bytes.subarray(0, link.offset - 4);
  const tail = bytes.subarray(link.offset + link.size);
  writeFileSync(repo.index, withChecksum(Buffer.concat([head, size, data, tail])));
  const listed = gitEntries(repo);
  t.is(listed.filter((line) => /\t(a.bin|merged)$/.test(line)).length, 2);
  t.deepEqual(ourEntries((await readIndexFile(repo.index, 20))!), listed);
});

test('a split index of version 2 becomes version 3 when a replacing entry has extended flags', async (t) => {
  const repo = repository(t, ['splitIndex.maxPercentChange=100', 'core.trustctime=false']);
  commitPointers(repo, ['a.bin', 'hidden.bin', 'z.bin']);
  repo.git('update-index', '--skip-worktree', 'hidden.bin');
  repo.git('update-index', '--split-index');
  t.is(readIndex(readFileSync(repo.index), 20).version, 2);
  const files = [hydrate(repo, 'a.bin')];
  // hidden.bin is racy and another file by now: its entry in the shared file must be forgotten.
  utimesSync(repo.index, PAST, PAST);
  repo.write('hidden.bin', 'Pointer'.concat(readFileSync(repo.path('hidden.bin'), 'utf8').slice(7)));

  t.is((await refresh(repo, files)).kind, 'updated');
  const own = readIndex(readFileSync(repo.index), 20);
  t.is(own.version, 3);
  t.is(own.entryCount, 2);
  repo.git('update-index', '--no-skip-worktree', 'hidden.bin');
  t.is(repo.git('status', '--porcelain').toString(), ' M hidden.bin\n');
});

test('a split index without its shared file, or with another one, is unsupported', async (t) => {
  const repo = repository(t);
  commitPointers(repo, ['a.bin', 'b.bin']);
  repo.git('update-index', '--split-index');
  const files = [hydrate(repo, 'a.bin')];
  const name = readdirSync(dirname(repo.index)).find((entry) => entry.startsWith('sharedindex.'))!;
  const shared = join(dirname(repo.index), name);
  const before = readFileSync(repo.index);
  const bytes = readFileSync(shared);
  bytes.writeUInt32BE(7, 12);
  writeFileSync(shared, withChecksum(bytes));
  await assertUnsupported(t, repo, files, /is not the one it names/);
  rmSync(shared);
  await assertUnsupported(t, repo, files, /does not exist/);
  t.true(readFileSync(repo.index).equals(before));
  const error = t.throws(() => [...indexEntries(readIndex(before, 20))], { instanceOf: FormatError });
  t.is(error.code, 'INVALID_INDEX');
});

test('a sparse index stays sparse and its files are refreshed', async (t) => {
  const repo = repository(t);
  commitPointers(repo, ['in/a.bin', 'in/b.bin', 'out/c.bin', 'out/deep/d.bin', 'top.bin']);
  repo.git('sparse-checkout', 'set', '--cone', '--sparse-index', 'in');
  repo.cleaned();
  const files = ['in/a.bin', 'top.bin'].map((name) => hydrate(repo, name));
  const before = readFileSync(repo.index);
  const view = readIndex(before, 20);
  t.true(extensionsOf(view).includes('sdir'));
  t.deepEqual(ourEntries(view), gitEntries(repo));
  t.true(ourEntries(view).some((line) => line.startsWith('040000') && line.endsWith('\tout/')));

  t.deepEqual(await refresh(repo, files), { kind: 'updated', entries: 2, skipped: 0 });
  assertOnlyStatDataDiffer(t, repo, before, readFileSync(repo.index), files);
  t.is(repo.git('status', '--porcelain').toString(), '');
  t.deepEqual(repo.cleaned(), []);
  repo.git('fsck');
});

test('entries that are not ordinary, or not what the caller pulled, are left as they are', async (t) => {
  const repo = repository(t);
  const names = ['assumed.bin', 'skipped.bin', 'other-blob.bin', 'good.bin', 'conflict.bin'];
  commitPointers(repo, names);
  symlinkSync('good.bin', repo.path('link.bin'));
  repo.git('add', 'link.bin');
  repo.write('intent.bin', 'pointer intent\n');
  repo.git('add', '-N', 'intent.bin');
  repo.git('update-index', '--assume-unchanged', 'assumed.bin');
  repo.git('update-index', '--skip-worktree', 'skipped.bin');
  const oid = repo.git('rev-parse', ':conflict.bin').toString().trim();
  const zeros = '0'.repeat(40);
  repo.gitWith(
    `0 ${zeros}\tconflict.bin\n100644 ${oid} 1\tconflict.bin\n100644 ${oid} 2\tconflict.bin\n`,
    'update-index',
    '--index-info',
  );
  const files = names.map((name) => hydrate(repo, name));
  const linkOid = repo.git('rev-parse', ':link.bin').toString().trim();
  const bad: WrittenFile[] = [
    ...files.filter(({ path }) => !['good.bin', 'other-blob.bin'].includes(path.toString())),
    { ...files[2]!, oid: linkOid },
    { path: Buffer.from('link.bin'), oid: linkOid, stat: lstatSync(repo.path('link.bin'), { bigint: true }) },
    { ...hydrate(repo, 'intent.bin'), oid: emptyBlob(repo) },
    { ...files[0]!, path: Buffer.from('not-in-the-index.bin') },
  ];
  const before = readFileSync(repo.index);
  const { ino } = statSync(repo.index);
  t.deepEqual(await refresh(repo, bad), { kind: 'unchanged' });
  t.deepEqual(await refresh(repo, []), { kind: 'unchanged' });
  t.is(statSync(repo.index).ino, ino);

  const good = files.filter(({ path }) => path.toString() === 'good.bin');
  t.deepEqual(await refresh(repo, [...bad, ...good]), { kind: 'updated', entries: 1, skipped: bad.length });
  assertOnlyStatDataDiffer(t, repo, before, readFileSync(repo.index), good);
  t.false(existsSync(`${repo.index}.lock`));
});

test('a file edited after it was pulled is not vouched for', async (t) => {
  const repo = repository(t);
  commitPointers(repo, ['appended.bin', 'same-size.bin', 'replaced.bin', 'gone.bin', 'good.bin']);
  const files = ['appended.bin', 'same-size.bin', 'replaced.bin', 'gone.bin', 'good.bin'].map((name) =>
    hydrate(repo, name),
  );
  appendFileSync(repo.path('appended.bin'), 'more');
  utimesSync(repo.path('appended.bin'), PAST, PAST);
  // Same size, same mtime, same inode: only the ctime tells.
  const content = readFileSync(repo.path('same-size.bin'), 'utf8');
  writeFileSync(repo.path('same-size.bin'), content.replace('BIG:p', 'BIG:P'));
  utimesSync(repo.path('same-size.bin'), PAST, PAST);
  copyFileSync(repo.path('replaced.bin'), repo.path('copy'));
  utimesSync(repo.path('copy'), PAST, PAST);
  renameSync(repo.path('copy'), repo.path('replaced.bin'));
  rmSync(repo.path('gone.bin'));

  t.deepEqual(await refresh(repo, files), { kind: 'updated', entries: 1, skipped: 4 });
  t.is(
    repo.git('status', '--porcelain', 'same-size.bin', 'gone.bin').toString(),
    ' D gone.bin\n M same-size.bin\n',
  );
  t.is(repo.git('status', '--porcelain', 'good.bin').toString(), '');
});

for (const field of ['dev', 'ino', 'size', 'mtimeNs', 'ctimeNs'] as const) {
  test(`a file is only vouched for when its ${field} is what the caller saw`, async (t) => {
    const repo = repository(t);
    commitPointers(repo, ['a.bin']);
    const file = hydrate(repo, 'a.bin');
    const stat = { ...file.stat, [field]: file.stat[field] - 1n };
    t.deepEqual(await refresh(repo, [{ ...file, stat }]), { kind: 'unchanged' });
    t.is((await refresh(repo, [file])).kind, 'updated');
  });
}

test('the index is written in a later second than the files, so that none is racy', async (t) => {
  const repo = repository(t);
  commitPointers(repo, ['a.bin', 'b.bin']);
  // Early in a second, so that without waiting the index would be of the same one.
  await setTimeoutPromise(1000 - (Date.now() % 1000));
  const files = ['a.bin', 'b.bin'].map((name) => hydrate(repo, name, Date.now() / 1000));
  const waits: number[] = [];
  const sleep = async (ms: number) => {
    waits.push(ms);
    t.false(existsSync(`${repo.index}.lock`));
    await setTimeoutPromise(ms);
  };
  t.deepEqual(await refresh(repo, files, { sleep }), { kind: 'updated', entries: 2, skipped: 0 });
  t.is(waits.length, 1);
  t.true(waits[0]! > 0 && waits[0]! <= 1100);
  const latest = files
    .map(({ stat }) => stat.mtimeNs / 1_000_000_000n)
    .sort()
    .at(-1)!;
  t.true(BigInt(Math.floor(statSync(repo.index).mtimeMs / 1000)) > latest);
  assertUpToDate(t, repo, files);
});

test('an old mtime needs no waiting, a time in the future gets a bounded wait', async (t) => {
  const repo = repository(t);
  commitPointers(repo, ['a.bin', 'b.bin']);
  const old = hydrate(repo, 'a.bin');
  const waits: number[] = [];
  const sleep = async (ms: number) => {
    waits.push(ms);
  };
  t.is((await refresh(repo, [old], { sleep })).kind, 'updated');
  t.deepEqual(waits, []);

  const future = hydrate(repo, 'b.bin', Math.floor(Date.now() / 1000) + 3600);
  t.is((await refresh(repo, [future], { sleep })).kind, 'updated');
  t.deepEqual(waits, [1100]);
  t.is(repo.git('status', '--porcelain').toString(), '');
  // Git distrusts such a file in any index.
  t.deepEqual([...new Set(repo.cleaned())], ['b.bin']);
});

test('an entry that was racy in the old index is not vouched for by the new one', async (t) => {
  // Without the ctime, files can be put back to a second at will.
  const repo = repository(t, ['core.trustctime=false']);
  commitPointers(repo, ['pulled.bin', 'pointer.bin', 'hydrated.bin', 'edited.bin']);
  repo.write('edited.txt', 'one\n');
  repo.write('same.txt', 'same\n');
  repo.write('empty.txt', '');
  repo.write('gone.txt', 'gone\n');
  symlinkSync('one', repo.path('edited-link'));
  symlinkSync('same', repo.path('same-link'));
  repo.write('hydrated.bin', `BIG:${readFileSync(repo.path('hydrated.bin'), 'utf8')}x`);
  execFileSync('touch', [
    '-h',
    '-d',
    `@${PAST}`,
    repo.path('edited-link').toString(),
    repo.path('same-link').toString(),
  ]);
  repo.git('add', '.');
  repo.git('commit', '-q', '-m', 'more');
  const sizes = debugEntries(repo);
  // All of this is in one second: the files, the index, and what changes the files again.
  utimesSync(repo.index, PAST, PAST);
  repo.write('edited.txt', 'two\n');
  repo.write('edited.bin', readFileSync(repo.path('edited.bin'), 'utf8').toUpperCase());
  rmSync(repo.path('edited-link'));
  symlinkSync('two', repo.path('edited-link'));
  execFileSync('touch', ['-h', '-d', `@${PAST}`, repo.path('edited-link').toString()]);
  rmSync(repo.path('gone.txt'));
  const pulled = hydrate(repo, 'pulled.bin');

  t.deepEqual(await refresh(repo, [pulled]), { kind: 'updated', entries: 1, skipped: 0 });
  // What is byte for byte the blob keeps its stat data, so that even git's plumbing finds it unmodified.
  const after = debugEntries(repo);
  const forgotten = [...after].filter(([path, lines]) => lines !== sizes.get(path)).map(([path]) => path);
  t.deepEqual(forgotten, ['edited-link', 'edited.bin', 'edited.txt', 'hydrated.bin', 'pulled.bin']);
  for (const path of forgotten.slice(0, 4)) {
    t.true(after.get(path)!.endsWith('  size: 0\n'));
  }
  t.is(
    repo.git('status', '--porcelain').toString(),
    ' M edited-link\n M edited.bin\n M edited.txt\n D gone.txt\n',
  );
  t.deepEqual([...new Set(repo.cleaned())].sort(), ['edited.bin', 'hydrated.bin']);
});

test('an edited file that was also racy is not vouched for', async (t) => {
  const repo = repository(t, ['core.checkStat=minimal']);
  commitPointers(repo, ['pulled.bin', 'edited.bin']);
  utimesSync(repo.index, PAST, PAST);
  const files = ['pulled.bin', 'edited.bin'].map((name) => hydrate(repo, name));
  // Back to the size and time of the pointer that the index knows.
  repo.write('edited.bin', repo.git('show', ':edited.bin').toString().toUpperCase());
  t.deepEqual(await refresh(repo, files), { kind: 'updated', entries: 1, skipped: 1 });
  t.is(repo.git('status', '--porcelain').toString(), ' M edited.bin\n');
});

test('a racy entry that stands only in the shared file is replaced and not vouched for', async (t) => {
  const repo = repository(t, ['core.trustctime=false', 'splitIndex.maxPercentChange=100']);
  repo.write('edited.txt', 'one\n');
  commitPointers(repo, ['pulled.bin']);
  repo.git('update-index', '--split-index');
  utimesSync(repo.index, PAST, PAST);
  repo.write('edited.txt', 'two\n');
  const pulled = hydrate(repo, 'pulled.bin');
  t.deepEqual(await refresh(repo, [pulled]), { kind: 'updated', entries: 1, skipped: 0 });
  t.is(repo.git('status', '--porcelain').toString(), ' M edited.txt\n');
});

test('the time of the new index is that of its lock, however long the files were looked at', async (t) => {
  const repo = repository(t);
  commitPointers(repo, ['a.bin']);
  const file = hydrate(repo, 'a.bin');
  let lookedAt = 0;
  const stat = {
    ...file.stat,
    get dev(): bigint {
      lookedAt = Date.now();
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 100);
      return file.stat.dev;
    },
  };
  t.is((await refresh(repo, [{ ...file, stat }])).kind, 'updated');
  t.true(statSync(repo.index).mtimeMs <= lookedAt);
});

test('a racy file beyond the read budget is left to git', async (t) => {
  const repo = repository(t);
  repo.write('a.txt', 'content');
  repo.git('add', '.');
  const view = (await readIndexFile(repo.index, 20))!;
  const entry = [...indexEntries(view)].find(({ path }) => path.toString() === 'a.txt')!;
  const file = repo.path('a.txt');
  t.true(await mustForget(entry, file, 20, { bytes: 6 }));
  const budget = { bytes: 10 };
  t.false(await mustForget(entry, file, 20, budget));
  t.is(budget.bytes, 3);
  t.true(await mustForget(entry, file, 20, budget));
});

test('a directory that was racy in the untracked cache is listed again', async (t) => {
  const repo = repository(t, ['core.trustctime=false', 'core.untrackedCache=true']);
  commitPointers(repo, ['dir/pulled.bin', 'top.bin']);
  const setTime = (path: string) => utimesSync(repo.path(path), PAST, PAST);
  fillUntrackedCache(repo);
  const old = readIndex(readFileSync(repo.index), 20);
  t.true(extensionsOf(old).includes('UNTR'));
  // In the second of the listing and of the index, a file appears.
  setTime('.git/index');
  writeFileSync(repo.path('dir/new.txt'), '');
  setTime('dir');
  const top = hydrate(repo, 'top.bin');
  setTime('.');

  t.deepEqual(await refresh(repo, [top]), { kind: 'updated', entries: 1, skipped: 0 });
  t.is(repo.git('status', '--porcelain').toString(), '?? dir/new.txt\n');
  repo.git('fsck');
});

test('directories that were not racy stay in the untracked cache', async (t) => {
  const repo = repository(t, ['core.untrackedCache=true']);
  commitPointers(repo, ['dir/deep/a.bin', 'top.bin']);
  repo.write('dir/untracked', '');
  fillUntrackedCache(repo);
  const files = [hydrate(repo, 'top.bin')];
  const before = readFileSync(repo.index);
  await refresh(repo, files);
  assertOnlyStatDataDiffer(t, repo, before, readFileSync(repo.index), files);
  t.is(repo.git('status', '--porcelain').toString(), '?? dir/untracked\n');
});

test('an index locked by somebody else is not touched, after one short retry', async (t) => {
  const repo = repository(t);
  commitPointers(repo, ['a.bin']);
  const files = [hydrate(repo, 'a.bin')];
  const before = readFileSync(repo.index);
  writeFileSync(`${repo.index}.lock`, 'theirs');
  const waits: number[] = [];
  const sleep = async (ms: number) => {
    waits.push(ms);
  };
  t.deepEqual(await refresh(repo, files, { sleep }), { kind: 'locked' });
  t.is(waits.length, 1);
  t.true(waits[0]! <= 200);
  t.is(readFileSync(`${repo.index}.lock`, 'utf8'), 'theirs');
  t.true(readFileSync(repo.index).equals(before));

  const released = async () => rmSync(`${repo.index}.lock`, { force: true });
  t.is((await refresh(repo, files, { sleep: released })).kind, 'updated');
});

test('a cancelled refresh leaves the old index and no lock', async (t) => {
  const repo = repository(t);
  commitPointers(repo, ['a.bin']);
  const files = [hydrate(repo, 'a.bin', Math.floor(Date.now() / 1000) + 1000)];
  const before = readFileSync(repo.index);
  const controller = new AbortController();
  const sleep = async () => controller.abort();
  await t.throwsAsync(refresh(repo, files, { signal: controller.signal, sleep }), {
    any: true,
    name: 'AbortError',
  });
  await t.throwsAsync(refresh(repo, files, { signal: controller.signal }), { any: true, name: 'AbortError' });
  const options: RefreshOptions = { hashAlgorithm: 'sha1', signal: AbortSignal.timeout(20) };
  await t.throwsAsync(refreshIndex(repo.index, repo.dir, files, options), { any: true, name: 'AbortError' });
  t.true(readFileSync(repo.index).equals(before));
  t.false(existsSync(`${repo.index}.lock`));
});

test('a failure while publishing leaves no lock', async (t) => {
  const repo = repository(t);
  commitPointers(repo, ['a.bin']);
  const file = hydrate(repo, 'a.bin');
  const saved = `${repo.index}.saved`;
  // The index becomes a directory after it was read: the stat of the file is asked for at that moment.
  const stat = {
    ...file.stat,
    get dev(): bigint {
      if (!existsSync(saved)) {
        renameSync(repo.index, saved);
        mkdirSync(join(repo.index, 'x'), { recursive: true });
      }
      return lstatSync(repo.path('a.bin'), { bigint: true }).dev;
    },
  };
  await t.throwsAsync(refresh(repo, [{ ...file, stat }]), { message: /rename/ });
  t.false(existsSync(`${repo.index}.lock`));
});

test('the new index has the permission bits of the old one', async (t) => {
  const repo = repository(t);
  commitPointers(repo, ['a.bin']);
  for (const mode of [0o660, 0o600, 0o664]) {
    chmodSync(repo.index, mode);
    t.is((await refresh(repo, [hydrate(repo, 'a.bin')])).kind, 'updated');
    t.is(statSync(repo.index).mode & 0o7777, mode);
    repo.write('a.bin', repo.git('show', ':a.bin'));
  }
});

async function assertUnsupported(
  t: ExecutionContext,
  repo: Repository,
  files: readonly WrittenFile[],
  reason: RegExp,
): Promise<void> {
  const result = await refresh(repo, files);
  t.is(result.kind, 'unsupported');
  t.regex(result.kind === 'unsupported' ? result.reason : '', reason);
  t.false(existsSync(`${repo.index}.lock`));
}

test('an index that only git can handle is unsupported and stays as it is', async (t) => {
  const repo = repository(t);
  commitPointers(repo, ['a.bin']);
  const files = [hydrate(repo, 'a.bin')];
  const good = readFileSync(repo.index);
  const changed = (edit: (bytes: Buffer) => void) => {
    const bytes = Buffer.from(good);
    edit(bytes);
    return withChecksum(bytes);
  };
  const damaged = Buffer.from(good);
  damaged[20]! ^= 1;
  const mandatory = Buffer.concat([good.subarray(0, -20), Buffer.from('zzzz\0\0\0\0'), Buffer.alloc(20)]);
  const cases: [Buffer, RegExp][] = [
    [damaged, /checksum/],
    [good.subarray(0, 100), /checksum/],
    [good.subarray(0, 10), /at least/],
    [Buffer.alloc(0), /at least/],
    [changed((bytes) => bytes.writeUInt32BE(5, 4)), /version 2, 3 or 4, found 5/],
    [changed((bytes) => bytes.writeUInt32BE(1, 4)), /found 1/],
    [changed((bytes) => bytes.write('DIRE')), /DIRC/],
    [changed((bytes) => bytes.writeUInt32BE(99, 8)), /one more entry|path|extension/],
    [withChecksum(mandatory), /"zzzz"/],
  ];
  for (const [bytes, reason] of cases) {
    writeFileSync(repo.index, bytes);
    await assertUnsupported(t, repo, files, reason);
    t.true(readFileSync(repo.index).equals(bytes));
  }

  renameSync(repo.index, `${repo.index}.real`);
  writeFileSync(`${repo.index}.real`, good);
  symlinkSync('index.real', repo.index);
  await assertUnsupported(t, repo, files, /not a regular file/);
  t.true(lstatSync(repo.index).isSymbolicLink());
  rmSync(repo.index);
  t.deepEqual(await refresh(repo, files), { kind: 'unchanged' });
  t.is(await readIndexFile(repo.index, 20), undefined);
});

test('git looks at the content of a file of exactly 4 GiB and finds it unmodified', async (t) => {
  const repo = repository(t);
  commitPointers(repo, ['huge.bin', 'other.bin']);
  const { oid } = hydrate(repo, 'huge.bin');
  // Sparse; the filter reads the first line only.
  truncateSync(repo.path('huge.bin'), 2 ** 32);
  utimesSync(repo.path('huge.bin'), PAST, PAST);
  const stat = lstatSync(repo.path('huge.bin'), { bigint: true });
  t.is(stat.size, 2n ** 32n);
  t.deepEqual(await refresh(repo, [{ path: Buffer.from('huge.bin'), oid, stat }]), {
    kind: 'updated',
    entries: 1,
    skipped: 0,
  });
  t.is(repo.git('status', '--porcelain').toString(), '');
  t.deepEqual([...new Set(repo.cleaned())], ['huge.bin']);
});

test('entries are read as git lists them, of all stages and with paths beyond 4095 bytes', async (t) => {
  for (const version of [2, 4]) {
    const repo = repository(t, [`index.version=${version}`]);
    const oid = emptyBlob(repo);
    const lines = ODD_NAMES.map((name) =>
      Buffer.concat([Buffer.from(`100644 ${oid} 0\t`), Buffer.from(name)]),
    );
    for (const length of [4094, 4095, 4096, 70_000]) {
      lines.push(
        Buffer.from(
          `100755 ${oid} 0\t${'p/'.repeat(length / 2)}${'q'.repeat(length % 2)}end`.slice(0, length + 50),
        ),
      );
    }
    for (const stage of [1, 2, 3]) {
      lines.push(Buffer.from(`100644 ${oid} ${stage}\tin conflict`));
    }
    lines.push(Buffer.from(`120000 ${oid} 0\tlink`), Buffer.from(`160000 ${oid} 0\tsubmodule`));
    const input = Buffer.concat(lines.flatMap((line) => [line, Buffer.from([0])]));
    repo.gitWith(input, 'update-index', '-z', '--index-info');
    const view = (await readIndexFile(repo.index, 20))!;
    t.is(view.version, version);
    t.deepEqual(ourEntries(view), gitEntries(repo));
  }
});

test('the paths of a version 4 index stay what they were when the next entry is read', async (t) => {
  const repo = repository(t, ['index.version=4']);
  commitPointers(repo, ['aaa.bin', 'aab.bin', 'b.bin']);
  const entries = [...indexEntries((await readIndexFile(repo.index, 20))!)];
  t.deepEqual(
    entries.map(({ path }) => path.toString()),
    ['.gitattributes', 'aaa.bin', 'aab.bin', 'b.bin'],
  );
});

/** Reads everything there is to read of an index, and rewrites it. */
function exercise(bytes: Buffer, hashSize: HashSize, shared?: IndexView): void {
  const view = readIndex(Buffer.from(bytes), hashSize, shared);
  const entries = [...indexEntries(view)];
  for (const entry of entries) {
    const { mode, oid, stage, flags, extendedFlags, size, mtimeSeconds } = entry;
    if (
      typeof oid !== 'string' ||
      [mode, stage, flags, extendedFlags, size, mtimeSeconds].some(Number.isNaN)
    ) {
      throw new Error('an entry without a field');
    }
  }
  const changes = entries.slice(0, 3).map((entry) => ({ entry, stat: 'forget' as const }));
  readIndex(rewriteIndex(view, changes, { from: 1, to: 2 }), hashSize, shared);
}

function assertReadableOrInvalid(t: ExecutionContext, run: () => void): void {
  try {
    run();
  } catch (error) {
    if (!(error instanceof FormatError && error.code === 'INVALID_INDEX' && Number.isInteger(error.offset))) {
      t.fail(`expected INVALID_INDEX, found ${String((error as Error).stack)}`);
    }
  }
}

test('damaged index bytes are INVALID_INDEX with an offset, or readable, and nothing else', (t) => {
  const corpus: { bytes: Buffer; hashSize: HashSize; shared?: Buffer }[] = [];
  for (const [config, hash, split] of [
    [[], 'sha1', false],
    [['index.version=4', 'index.threads=2', 'core.untrackedCache=true'], 'sha1', false],
    [[], 'sha256', false],
    [['splitIndex.maxPercentChange=100'], 'sha1', true],
    [['splitIndex.maxPercentChange=100', 'index.version=4'], 'sha1', true],
  ] as const) {
    const repo = repository(t, config, hash);
    commitPointers(repo, ['a.bin', 'b/c.bin', 'b/d.bin', 'e.bin']);
    repo.write('b/untracked', '');
    repo.write('.gitignore', 'x\n');
    if (split) {
      repo.git('update-index', '--split-index');
      repo.git('update-index', '--chmod=+x', 'b/c.bin');
      repo.git('rm', '-q', '--cached', 'a.bin');
      repo.write('f.bin', 'pointer\n');
      repo.git('add', 'f.bin');
    }
    repo.git('status');
    repo.git('status');
    const name = readdirSync(dirname(repo.index)).find((entry) => entry.startsWith('sharedindex.'));
    corpus.push({
      bytes: readFileSync(repo.index),
      hashSize: repo.hashSize,
      ...(name === undefined ? {} : { shared: readFileSync(join(dirname(repo.index), name)) }),
    });
  }
  for (const { bytes, hashSize, shared } of corpus) {
    const base = shared && readIndex(shared, hashSize);
    t.notThrows(() => exercise(bytes, hashSize, base));
    const body = bytes.subarray(0, bytes.length - hashSize);
    const end = Buffer.alloc(hashSize);
    for (let length = 0; length < bytes.length; length++) {
      const error = t.throws(() => readIndex(bytes.subarray(0, length), hashSize), {
        instanceOf: FormatError,
      });
      t.is(error.code, 'INVALID_INDEX');
      if (length < body.length) {
        const cut = withChecksum(Buffer.concat([body.subarray(0, length), end]), hashSize);
        assertReadableOrInvalid(t, () => exercise(cut, hashSize, base));
      }
    }
    const edit = fc.record({
      at: fc.nat(body.length - 1),
      value: fc.oneof(fc.nat(255), fc.constantFrom(0, 1, 0x7f, 0x80, 0xff)),
    });
    fc.assert(
      fc.property(fc.array(edit, { minLength: 1, maxLength: 4 }), (edits) => {
        const changed = Buffer.from(body);
        for (const { at, value } of edits) {
          changed[at] = value;
        }
        const whole = withChecksum(Buffer.concat([changed, end]), hashSize);
        assertReadableOrInvalid(t, () => exercise(whole, hashSize, base));
      }),
      { numRuns: 1500 },
    );
  }
  fc.assert(
    fc.property(
      fc.uint8Array({ maxLength: 300 }),
      fc.integer({ min: 2, max: 4 }),
      fc.nat(20),
      (junk, version, count) => {
        t.throws(() => readIndex(Buffer.from(junk), 20), { code: 'INVALID_INDEX' });
        const header = Buffer.from('DIRC\0\0\0\0\0\0\0\0');
        header.writeUInt32BE(version, 4);
        header.writeUInt32BE(count, 8);
        const whole = withChecksum(Buffer.concat([header, junk, Buffer.alloc(20)]));
        assertReadableOrInvalid(t, () => exercise(whole, 20));
      },
    ),
    { numRuns: 1000 },
  );
});

test('a bitmap is what it was after it has been encoded and decoded', (t) => {
  const runs = fc.array(fc.tuple(fc.constantFrom(0, 0xff, 0x55, 1, 0x80), fc.integer({ min: 1, max: 40 })), {
    maxLength: 12,
  });
  fc.assert(
    fc.property(runs, fc.uint8Array({ maxLength: 5 }), (parts, tail) => {
      const bits = Uint8Array.from([...parts.flatMap(([value, count]) => Array(count).fill(value)), ...tail]);
      const encoded = encodeEwah(bits);
      const decoded = decodeEwah(encoded, 0, encoded.length, bits.length * 8);
      t.deepEqual(decoded.bits, bits);
      t.is(decoded.next, encoded.length);
      let count = 0;
      for (const byte of bits) {
        for (let rest = byte; rest !== 0; rest &= rest - 1) {
          count++;
        }
      }
      t.is(decoded.count, count);
    }),
  );
});

test('an index of many entries is refreshed', async (t) => {
  const repo = repository(t);
  commitPointers(repo, ['pulled.bin']);
  const oid = emptyBlob(repo);
  const lines: string[] = [];
  for (let i = 0; i < 50_000; i++) {
    lines.push(`100644 ${oid}\tmany/${i % 100}/${i}\n`);
  }
  repo.gitWith(lines.join(''), 'update-index', '--index-info');
  const file = hydrate(repo, 'pulled.bin');
  t.deepEqual(await refresh(repo, [file]), { kind: 'updated', entries: 1, skipped: 0 });
  t.is(repo.git('status', '--porcelain', 'pulled.bin').toString(), '');
  t.deepEqual(repo.cleaned(), []);
});
