/** Programs that ask much of a file system, on an overlay. */
import { bytes, pythonProgram, type Run } from '../helpers/driver.ts';
import type { LayerSpec } from '../helpers/layers.ts';
import { hostCalls, type MountSandbox } from '../helpers/mount-sandbox.ts';
import { programMissing } from '../helpers/subjects.ts';
import { mountTest } from '../helpers/suite.ts';

const GIT_ENV = {
  GIT_CONFIG_GLOBAL: '/dev/null',
  GIT_CONFIG_NOSYSTEM: '1',
  GIT_AUTHOR_NAME: 'Sandbox',
  GIT_AUTHOR_EMAIL: 'sandbox@example.invalid',
  GIT_COMMITTER_NAME: 'Sandbox',
  GIT_COMMITTER_EMAIL: 'sandbox@example.invalid',
};

/** Runs a program on the mount; throws with what it said when it fails. */
async function run(
  sandbox: MountSandbox,
  cwd: string,
  argv: readonly string[],
  okStatus: readonly number[] = [0],
): Promise<Run> {
  const done = await sandbox.calls.run(argv, cwd, GIT_ENV);
  if (okStatus.includes(done.status)) return done;
  throw new Error(`${argv.join(' ')}: ${done.status}\n${done.stdout}${done.stderr}`);
}

const SOURCES: LayerSpec = Object.fromEntries(
  Array.from({ length: 120 }, (_, i) => [
    `src/${i % 7}/${i % 3}/file${i}.txt`,
    `line one of ${i}\nline two\n`,
  ]),
);

mountTest('git works in a repository of the lower layer', async (t, create) => {
  const sandbox = await create({ lowers: [{}] });
  const repository = `${sandbox.lowers[0]}/repo`;
  await sandbox.fill(repository, SOURCES);
  for (const args of [
    ['init', '-q', '-b', 'main'],
    ['add', '.'],
    ['commit', '-qm', 'first'],
    ['branch', 'side'],
  ]) {
    const done = await sandbox.runAs([
      'env',
      ...Object.entries(GIT_ENV).map(([k, v]) => `${k}=${v}`),
      'git',
      '-C',
      repository,
      ...args,
    ]);
    t.is(done.status, 0, done.stderr);
  }
  await sandbox.mount();
  const repo = sandbox.path('repo');
  const git = async (...args: string[]) => (await run(sandbox, repo, ['git', ...args])).stdout;
  t.is(await git('status', '--porcelain'), '');
  await sandbox.calls.writeFile(`${repo}/src/0/0/file0.txt`, 'changed\n');
  await sandbox.calls.writeFile(`${repo}/new.txt`, 'new\n');
  t.is(await git('status', '--porcelain'), ' M src/0/0/file0.txt\n?? new.txt\n');
  await git('stash', '-q', '-u');
  t.is(await git('status', '--porcelain'), '');
  await git('stash', 'pop', '-q');
  await git('add', '-A');
  await git('commit', '-qm', 'second');
  await git('mv', 'src/1', 'moved').catch((error) => {
    // git does not copy where a directory cannot be renamed.
    if (sandbox.subject.movesLowerDirectories) throw error;
  });
  await git('commit', '-qam', 'third', '--allow-empty');
  await git('checkout', '-q', 'side');
  t.is(await git('status', '--porcelain'), '');
  await sandbox.calls.writeFile(`${repo}/side.txt`, 'side\n');
  await git('add', '.');
  await git('commit', '-qm', 'on the side');
  await git('checkout', '-q', 'main');
  await git('merge', '-q', '-m', 'merged', 'side');
  await git('worktree', 'add', '-q', sandbox.path('tree'), 'side');
  t.is((await run(sandbox, sandbox.path('tree'), ['git', 'status', '--porcelain'])).stdout, '');
  await git('worktree', 'move', sandbox.path('tree'), sandbox.path('tree2'));
  await git('gc', '-q', '--prune=now');
  await git('fsck', '--strict');
  await git('clone', '-q', repo, sandbox.path('clone'));
  await git('reset', '-q', '--hard', 'HEAD~1');
  await git('rebase', '-q', 'side');
  t.is(await git('status', '--porcelain'), '');
  await sandbox.remount();
  t.is(await git('status', '--porcelain'), '');
  t.is(await git('fsck', '--strict'), '');
  t.is((await run(sandbox, sandbox.path('clone'), ['git', 'status', '--porcelain'])).stdout, '');
  await git('rm', '-rq', 'src');
  t.is(
    (await git('status', '--porcelain'))
      .split('\n')
      .filter((line) => !line.startsWith('D '))
      .join(),
    '',
  );
});

const MIXED: LayerSpec = {
  ...SOURCES,
  'modes/exec': { type: 'file', data: [[0, '#!/bin/sh\n']], mode: 0o755 },
  'modes/read': { type: 'file', data: [[0, 'x']], mode: 0o444 },
  'sparse/file': { type: 'file', data: [[1 << 20, 'end']], size: 2 << 20 },
  'links/sym': { type: 'symlink', target: '../modes/exec' },
  'links/a': 'hard',
  'links/b': { type: 'link', target: 'links/a' },
  'empty/.keep': '',
  'pipes/p': { type: 'fifo' },
};

for (const [program, commands] of Object.entries({
  tar: [
    ['tar', '-C', 'all', '--numeric-owner', '-cf', 'archive.tar', '.'],
    ['mkdir', 'copy'],
    ['tar', '-C', 'copy', '--numeric-owner', '-xpf', 'archive.tar'],
  ],
  rsync: [['rsync', '-aH', '--specials', 'all/', 'copy/']],
  cp: [['cp', '-a', 'all', 'copy']],
})) {
  mountTest(
    `${program} makes a copy of a tree that is the same`,
    async (t, create) => {
      const sandbox = await create({
        lowers: [
          Object.fromEntries(
            Object.entries(MIXED).map(([k, v]) => [
              `all/${k}`,
              typeof v !== 'string' && v.type === 'link' ? { ...v, target: `all/${v.target}` } : v,
            ]),
          ),
        ],
      });
      await sandbox.mount();
      const { calls } = sandbox;
      await calls.writeFile(sandbox.path('all/made'), 'made');
      await calls.chmod(sandbox.path('all/modes/exec'), 0o750);
      await calls.unlink(sandbox.path('all/src/0/0/file0.txt'));
      for (const command of commands) await run(sandbox, bytes(sandbox.merged), command);
      const view = async (name: string) =>
        (await calls.tree(sandbox.path(name))).map(
          ({ path, type, mode, size, mtime, target, content, nlink }) => ({
            path,
            type,
            mode,
            mtime: type === 'directory' || type === 'file' ? mtime.slice(0, -9) : '',
            target,
            content,
            ...(type === 'directory' ? {} : { size, nlink }),
          }),
        );
      t.deepEqual(await view('copy'), await view('all'));
    },
    undefined,
    programMissing(program),
  );
}

const SQLITE = `
import sqlite3, sys, threading
path, mode = sys.argv[1], sys.argv[2]
db = sqlite3.connect(path, timeout=30)
assert db.execute('pragma journal_mode=' + mode).fetchone()[0] == mode
db.execute('create table if not exists t (writer integer, n integer, text text)')
db.commit()
def work(writer):
    own = sqlite3.connect(path, timeout=30)
    for n in range(40):
        with own:
            own.execute('insert into t values (?, ?, ?)', (writer, n, 'x' * 500))
        own.execute('select count(*) from t').fetchone()
    own.close()
threads = [threading.Thread(target=work, args=(i,)) for i in range(3)]
[t.start() for t in threads]; [t.join() for t in threads]
try:
    with db:
        db.execute('delete from t')
        raise KeyError
except KeyError:
    pass
assert db.execute('pragma integrity_check').fetchone()[0] == 'ok'
print(db.execute('select count(*) from t').fetchone()[0])
`;

for (const mode of ['wal', 'delete', 'truncate']) {
  mountTest(`SQLite keeps a database of the lower layer (journal mode ${mode})`, async (t, create) => {
    const sandbox = await create({ lowers: [{ 'db/x': '' }] });
    const python = pythonProgram();
    const lower = `${sandbox.lowers[0]}/db/base.sqlite`;
    t.is((await sandbox.runAs([python, '-c', SQLITE, lower, 'delete'])).stdout, '120\n');
    await sandbox.mount();
    const command = (journal: string) => [python, '-c', SQLITE, sandbox.path('db/base.sqlite'), journal];
    t.is((await run(sandbox, '/', command(mode))).stdout, '240\n');
    await sandbox.remount();
    t.is((await run(sandbox, '/', command('delete'))).stdout, '360\n');
    t.is((await hostCalls().list(bytes(`${sandbox.lowers[0]}/db`))).join(), 'base.sqlite,x');
  });
}

mountTest(
  'npm installs a package from a tarball',
  async (t, create) => {
    const packed = (name: string) => ({
      [`${name}/package.json`]: JSON.stringify({ name, version: '1.0.0', bin: { [name]: 'run.js' } }),
      [`${name}/run.js`]: '#!/usr/bin/env node\nconsole.log("it runs");\n',
      [`${name}/lib/deep/module.js`]: 'module.exports = 1;\n',
    });
    const sandbox = await create({
      lowers: [
        {
          ...packed('one'),
          ...packed('two'),
          'app/package.json': '{"name":"app","version":"1.0.0"}',
          'app/node_modules/two/stale.js': 'old',
        },
      ],
    });
    await sandbox.mount();
    const npm = async (cwd: string, ...args: string[]) =>
      run(sandbox, sandbox.path(cwd), [
        'npm',
        '--offline',
        '--no-audit',
        '--no-fund',
        '--loglevel=error',
        ...args,
      ]);
    for (const name of ['one', 'two']) await npm(name, 'pack');
    await npm('app', 'install', '../one/one-1.0.0.tgz', '../two/two-1.0.0.tgz');
    t.is((await run(sandbox, sandbox.path('app'), ['node_modules/.bin/one'])).stdout, 'it runs\n');
    t.deepEqual(await sandbox.calls.list(sandbox.path('app/node_modules/two')), [
      'lib',
      'package.json',
      'run.js',
    ]);
    await npm('app', 'uninstall', 'one');
    t.false(await sandbox.calls.exists(sandbox.path('app/node_modules/one')));
  },
  undefined,
  programMissing('npm'),
);

const APPEND = `
import mmap, os, sys, time
path, count = sys.argv[1], int(sys.argv[2])
fd = os.open(path, os.O_WRONLY | os.O_APPEND)
for i in range(count):
    os.write(fd, b'%08d' % i * 512)
os.close(fd)
`;

// A size that fstat tells may be that of a write under way, which the kernel does not let others map yet when the
// file is a FUSE server's: the last page is left until the next one is there.
const FOLLOW = `
import mmap, os, sys, time
path, count = sys.argv[1], int(sys.argv[2])
while os.stat(path).st_size == 0:
    pass
fd = os.open(path, os.O_RDONLY)
seen = 0
while seen < count:
    whole = os.fstat(fd).st_size // 4096
    if whole == count:
        time.sleep(0.2)
    else:
        whole -= 1
    if whole <= seen:
        continue
    with mmap.mmap(fd, whole * 4096, mmap.MAP_SHARED, mmap.PROT_READ) as m:
        while seen < whole:
            page = m[seen * 4096:(seen + 1) * 4096]
            assert page == b'%08d' % seen * 512, (seen, page[:20])
            seen += 1
print(seen)
`;

mountTest('a reader by mmap sees all that a writer appends', async (t, create) => {
  const sandbox = await create({ lowers: [{ log: '' }] });
  await sandbox.mount();
  const python = pythonProgram();
  const log = sandbox.path('log');
  // The reader opens it when it is copied up: with the kernel's overlay, a map from before is one of the lower file.
  const reader = sandbox.startDriver().calls.run([python, '-c', FOLLOW, log, '400']);
  const writer = await sandbox.calls.run([python, '-c', APPEND, log, '400']);
  t.is(writer.stderr, '');
  t.like(await reader, { status: 0, stdout: '400\n', stderr: '' });
});
