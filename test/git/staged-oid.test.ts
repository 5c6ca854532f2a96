import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { type ObjectFormat, StagedOids } from '../../src/git/staged-oid.ts';

interface Repository {
  /** `input`: one byte a character. */
  readonly git: (args: readonly string[], input?: string) => string;
  readonly index: () => Buffer;
}

function repository(t: ExecutionContext, format: ObjectFormat = 'sha1'): Repository {
  const dir = mkdtempSync(join(tmpdir(), 'git2db-staged-'));
  t.teardown(() => rmSync(dir, { recursive: true, force: true }));
  const env = { PATH: process.env.PATH, HOME: dir, GIT_CONFIG_NOSYSTEM: '1', LC_ALL: 'C' };
  const git = (args: readonly string[], input = '') =>
    execFileSync('git', args, {
      cwd: dir,
      env,
      input: Buffer.from(input, 'latin1'),
      encoding: 'latin1',
      stdio: 'pipe',
    });
  git(['init', '-q', `--object-format=${format}`]);
  return { git, index: () => readFileSync(join(dir, '.git/index')) };
}

/** Puts entries `mode oid stage TAB path` into the index. */
function enter({ git }: Repository, entries: readonly string[]): void {
  git(['update-index', '-z', '--index-info'], entries.map((entry) => `${entry}\0`).join(''));
}

const oidOf = (format: ObjectFormat, n: number) => n.toString(16).padStart(format === 'sha1' ? 40 : 64, 'a');

const PATHS = [
  'a-b',
  'a.b',
  'a/b',
  'a/b c',
  'ab',
  'dir/very/deep/file.bin',
  'x\ny',
  'z'.repeat(300),
  ...Array.from({ length: 200 }, (_, i) => `n/${i}`),
];

for (const format of ['sha1', 'sha256'] as const) {
  test(`every path of an index with ${format} names is found, and no other`, (t) => {
    const repo = repository(t, format);
    enter(
      repo,
      PATHS.map((path, i) => `100${i % 2 === 0 ? '644' : '755'} ${oidOf(format, i + 1)} 0\t${path}`),
    );
    const oids = new StagedOids(repo.index(), format);
    for (const [i, path] of PATHS.entries()) {
      t.is(oids.find(Buffer.from(path)), oidOf(format, i + 1), path);
      t.is(oids.isUnmerged(Buffer.from(path)), false);
    }
    for (const path of ['', 'A', 'a', 'a/', 'a/b/c', 'n/2000', 'n', 'zz', '~']) {
      t.is(oids.find(Buffer.from(path)), undefined, path);
      t.is(oids.isUnmerged(Buffer.from(path)), false);
    }
  });
}

test('paths of any length and bytes, and entries with extended flags, are found', (t) => {
  const repo = repository(t);
  const paths = [`${'long/'.repeat(900)}x`, 'y'.repeat(4094), 'y'.repeat(4095), '\xe9\xff.bin', 'plain'];
  enter(
    repo,
    paths.map((path, i) => `100644 ${oidOf('sha1', i + 1)} 0\t${path}`),
  );
  repo.git(['update-index', '--skip-worktree', 'plain']);
  t.is(repo.index().readUInt32BE(4), 3);
  const oids = new StagedOids(repo.index(), 'sha1');
  for (const [i, path] of paths.entries())
    t.is(oids.find(Buffer.from(path, 'latin1')), oidOf('sha1', i + 1), path.slice(0, 20));
});

test('what is no regular file at stage 0 has no oid, and what is in conflict is said to be', (t) => {
  const repo = repository(t);
  enter(repo, [
    `120000 ${oidOf('sha1', 1)} 0\tlink`,
    `160000 ${oidOf('sha1', 2)} 0\tmodule`,
    `100644 ${oidOf('sha1', 3)} 2\tours`,
    `100644 ${oidOf('sha1', 4)} 1\tboth`,
    `100644 ${oidOf('sha1', 5)} 3\tboth`,
    `100644 ${oidOf('sha1', 6)} 0\tzero`,
  ]);
  const oids = new StagedOids(repo.index(), 'sha1');
  for (const path of ['link', 'module', 'ours', 'both']) t.is(oids.find(Buffer.from(path)), undefined, path);
  t.is(oids.find(Buffer.from('zero')), oidOf('sha1', 6));
  t.deepEqual(
    ['link', 'ours', 'both', 'zero'].map((path) => oids.isUnmerged(Buffer.from(path))),
    [false, true, true, false],
  );
});

test('an index that is for git alone is told from others', (t) => {
  const repo = repository(t);
  enter(repo, [`100644 ${oidOf('sha1', 1)} 0\ta`]);
  t.is(new StagedOids(repo.index(), 'sha1').find(Buffer.from('a')), oidOf('sha1', 1));
  repo.git(['update-index', '--index-version', '4']);
  t.is(new StagedOids(repo.index(), 'sha1').find(Buffer.from('a')), 'ask');
  repo.git(['update-index', '--index-version', '2']);
  repo.git(['update-index', '--split-index']);
  t.is(new StagedOids(repo.index(), 'sha1').isUnmerged(Buffer.from('a')), 'ask');
});

test('a damaged index never makes a lookup throw or ask for memory', (t) => {
  const repo = repository(t);
  enter(
    repo,
    PATHS.slice(0, 20).map((path, i) => `100644 ${oidOf('sha1', i + 1)} 0\t${path}`),
  );
  const whole = repo.index();
  const wanted = PATHS.slice(0, 20).map((path) => Buffer.from(path));
  const look = (bytes: Buffer) => {
    const oids = new StagedOids(bytes, 'sha1');
    for (const path of wanted) {
      oids.find(path);
      oids.isUnmerged(path);
    }
  };
  for (let length = 0; length < whole.length; length += 7) t.notThrows(() => look(whole.subarray(0, length)));
  for (let at = 0; at < whole.length; at += 3) {
    const bytes = Buffer.from(whole);
    bytes[at] = (bytes[at] as number) ^ 0xff;
    t.notThrows(() => look(bytes), `byte ${at}`);
  }
});
