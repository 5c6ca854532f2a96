import { readdirSync } from 'node:fs';
import { buffer } from 'node:stream/consumers';
import test from 'ava';
import type { CommitInfo, LogOptions } from '../../../src/registry/handles/log.ts';
import { subjectOf } from '../../../src/registry/handles/log.ts';
import type { RepositoryHandle } from '../../../src/registry/repository-handle.ts';
import { isolateProcess } from '../../helpers/git-sandbox.ts';
import { commitFiles, createTwins, handleAt, type Twins } from './twins.ts';

isolateProcess();

const HISTORY = async (run: Twins['run'], sandbox: Twins['sandbox']) => {
  await commitFiles(
    run,
    sandbox,
    { a: 'one\ntwo\nthree\n', old: 'some lines\nthat stay\nas they are\n' },
    'one',
  );
  await run(['branch', 'side']);
  await commitFiles(run, sandbox, { a: 'one\n2\nthree\n' }, 'two\nlines\n\nand a body\n\n');
  await run(['mv', 'old', 'new']);
  await commitFiles(run, sandbox, {}, 'renamed');
  await run(['checkout', '-q', 'side']);
  await commitFiles(run, sandbox, { b: 'x\n' }, 'on the side');
  await run(['checkout', '-q', 'main']);
  await run(['merge', '-q', '--no-edit', 'side']);
};

async function all(handle: RepositoryHandle, options?: LogOptions): Promise<CommitInfo[]> {
  const commits: CommitInfo[] = [];
  for await (const commit of handle.log(options)) commits.push(commit);
  return commits;
}

for (const format of ['sha1', 'sha256']) {
  test(`commits have all that git shows of them (${format})`, async (t) => {
    const { handle, run } = await createTwins(t, HISTORY, { init: [`--object-format=${format}`] });
    const commits = await all(handle);
    const listed = (await run(['log', '--format=%H %T %P|%an|%ae|%at|%cn|%ce|%ct|%s'])).split('\n');
    t.deepEqual(
      commits.map(({ oid, tree, parents, author, committer, subject }) =>
        [
          [oid, tree, ...parents].join(' '),
          author.name,
          author.email,
          author.date,
          committer.name,
          committer.email,
          committer.date,
          subject,
        ].join('|'),
      ),
      listed.map((line) => line.replace(/ \|/, '|')),
    );
    t.is(commits[0]!.author.offsetMinutes, 60);
    t.is(commits.find(({ subject }) => subject === 'two lines')!.message, 'two\nlines\n\nand a body\n');
  });
}

test('what is listed can be chosen as with git log', async (t) => {
  const { handle, run } = await createTwins(t, HISTORY);
  const cases: readonly [LogOptions, string[]][] = [
    [{ limit: 2 }, ['-2']],
    [{ skip: 1, limit: 1 }, ['--skip=1', '-1']],
    [{ limit: 0 }, ['-0']],
    [{ paths: ['a'] }, ['--', 'a']],
    [{ paths: ['new'], follow: true }, ['--follow', '--', 'new']],
    [{ revisions: 'side..main' }, ['side..main']],
    [{ revisions: ['main', '^side'] }, ['main', '^side']],
    [{ revisions: 'side...main~1' }, ['side...main~1']],
    [{ revisions: '..side' }, ['..side']],
    [{ firstParent: true }, ['--first-parent']],
    [{ merges: 'only' }, ['--merges']],
    [{ merges: 'none', order: 'topological' }, ['--no-merges', '--topo-order']],
    [{ reverse: true }, ['--reverse']],
    [{ all: true, order: 'date' }, ['--all', '--date-order']],
    [{ message: '^on the' }, ['--grep=^on the']],
    [{ author: 'Thor', message: 'two|renamed' }, ['-E', '--author=Thor', '--grep=two|renamed']],
    [{ pickaxe: 'two' }, ['-Stwo']],
    [{ since: 1_900_000_000 }, ['--since=@1900000000']],
    [{ until: new Date(1_900_000_000_000) }, ['--until=@1900000000']],
  ];
  for (const [options, args] of cases) {
    const expected = (await run(['log', '--format=%H', ...args])).split('\n').filter(Boolean);
    t.deepEqual(
      (await all(handle, options)).map(({ oid }) => oid),
      expected,
      JSON.stringify(options),
    );
  }
  t.deepEqual(await all(handle, { fields: ['oid', 'subject'], limit: 1 }), [
    {
      ...(await all(handle, { limit: 1 }))[0]!,
      tree: '',
      parents: [],
      author: { name: '', email: '', date: 0, offsetMinutes: 0 },
      committer: { name: '', email: '', date: 0, offsetMinutes: 0 },
    },
  ]);
  await t.throwsAsync(all(handle, { limit: -1 }), { code: 'USAGE' });
  await t.throwsAsync(all(handle, { follow: true }), { code: 'USAGE' });
  await t.throwsAsync(all(handle, { revisions: 'none' }), { code: 'REF_INVALID' });
  await t.throwsAsync(all(handle, { revisions: '--output=x' }), { code: 'REF_INVALID' });
});

test('a user’s settings do not change what is read', async (t) => {
  const { handle } = await createTwins(t, HISTORY, {
    config: {
      'log.showSignature': 'true',
      'log.date': 'relative',
      'format.pretty': 'oneline',
      'log.decorate': 'full',
      'log.follow': 'true',
      'color.ui': 'always',
      'diff.noprefix': 'true',
      'diff.mnemonicPrefix': 'true',
      'diff.renames': 'false',
      'diff.external': 'false',
      'core.quotePath': 'true',
      'status.relativePaths': 'true',
      'status.showUntrackedFiles': 'no',
      'status.short': 'true',
      'status.branch': 'false',
      'blame.coloring': 'highlightRecent',
      'blame.date': 'relative',
      'core.pager': 'false',
      'i18n.logOutputEncoding': 'ISO-8859-1',
      'diff.relative': 'true',
      'diff.context': '0',
    },
  });
  t.is((await all(handle)).length, 5);
  t.is((await all(handle))[0]!.author.date, 1_700_000_000);
  t.is((await handle.diff({ from: 'main~3', to: 'main', paths: ['old', 'new'] }))[0]!.change, 'renamed');
  t.regex(
    (await buffer(handle.diff.patch({ from: 'main~3', to: 'main', paths: ['a'] }))).toString(),
    /^diff --git a\/a b\/a\n/,
  );
  t.is((await handle.blame('a'))[1]!.commit.subject, 'two');
  t.is((await handle.status()).branch, 'main');
});

test('leaving a log early stops git, and an empty repository has none', async (t) => {
  const { handle } = await createTwins(t, HISTORY);
  for await (const commit of handle.log()) {
    t.is(commit.parents.length, 2);
    break;
  }
  const controller = new AbortController();
  const stopped = (async () => {
    for await (const _ of handle.log({ signal: controller.signal })) controller.abort();
  })();
  await t.throwsAsync(stopped, { name: 'AbortError' });
  const empty = await createTwins(t, async () => {});
  await t.throwsAsync(all(empty.handle), { code: 'REF_INVALID' });
});

test('many commits arrive in pieces of any size, with odd messages', async (t) => {
  const { handle, sandbox } = await createTwins(t, async () => {});
  const commits = Array.from({ length: 700 }, (_, i) => {
    const message = i % 7 === 0 ? `${'ä'.repeat(5000)}\n` : `subject ${i}\n\nbody\n`;
    return `commit refs/heads/main\nauthor ü ${i} <e@x> ${1_600_000_000 + i} -0330\ncommitter C <c@x> ${1_600_000_000 + i} +0000\ndata ${Buffer.byteLength(message)}\n${message}\n`;
  });
  await sandbox.git(['fast-import', '--quiet'], { cwd: 'ours', input: commits.join('') });
  const listed = await all(handle);
  t.is(listed.length, 700);
  t.deepEqual(
    listed.map(({ author }) => author.name),
    Array.from({ length: 700 }, (_, i) => `ü ${699 - i}`),
  );
  t.is(listed[0]!.author.offsetMinutes, -210);
  t.is(listed[699]!.subject, 'ä'.repeat(5000));
});

test('a subject is the first paragraph on one line', (t) => {
  t.is(subjectOf('a\n'), 'a');
  t.is(subjectOf('a\n\nb\n'), 'a');
  t.is(subjectOf('a\nb\n\nc'), 'a b');
  t.is(subjectOf('\n\na\n'), 'a');
  t.is(subjectOf(''), '');
});

test('files that differ are listed with modes, ids and counts', async (t) => {
  const twins = await createTwins(t, HISTORY);
  const { handle, run } = twins;
  const between = await handle.diff({ from: 'main~3', to: 'main' });
  t.deepEqual(
    between.map(({ path, change, from, added, deleted }) => [path, change, from?.path, added, deleted]),
    [
      ['a', 'modified', undefined, 1, 1],
      ['b', 'added', undefined, 1, 0],
      ['new', 'renamed', 'old', 0, 0],
    ],
  );
  t.is(between[1]!.oids.to, await run(['rev-parse', 'main:b']));
  t.deepEqual(between[1]!.modes, { from: '000000', to: '100644' });
  t.deepEqual(
    (await handle.diff({ from: 'main~3', to: 'main', renames: false })).map(({ change }) => change),
    ['modified', 'added', 'added', 'deleted'],
  );
  twins.write('a', 'one\n2\nthree\nfour\n');
  twins.write('bin', Buffer.from([0, 1, 2, 0]));
  await handle.staging().add(['a', 'bin']);
  await run(['add', 'a', 'bin']);
  twins.write('b', 'y\n');
  t.deepEqual(
    (await handle.diff({ staged: true })).map(({ path, added, isBinary }) => [path, added, isBinary]),
    [
      ['a', 1, false],
      ['bin', undefined, true],
    ],
  );
  t.deepEqual(
    (await handle.diff()).map(({ path }) => path),
    ['b'],
  );
  t.deepEqual(
    (await handle.diff({ from: 'HEAD' })).map(({ path }) => path),
    ['a', 'b', 'bin'],
  );
  t.deepEqual(
    (await handle.diff({ from: 'HEAD', counts: false, paths: ['b'] })).map(({ added, isBinary }) => [
      added,
      isBinary,
    ]),
    [[undefined, undefined]],
  );
  t.deepEqual((await handle.diff({ from: 'main', to: 'side', mergeBase: true })).length, 0);
  for (const [options, args] of [
    [{ from: 'HEAD', binary: true }, ['--binary', 'HEAD']],
    [{ staged: true, context: 0 }, ['-U0', '--cached']],
    [{ from: 'main~3', to: 'main', ignoreWhitespace: 'all' }, ['-w', 'main~3', 'main']],
  ] as const) {
    t.is(
      (await buffer(handle.diff.patch(options))).toString(),
      `${await run(['diff', '--full-index', ...args])}\n`,
    );
  }
  await t.throwsAsync(handle.diff({ to: 'main' }), { code: 'USAGE' });
  await t.throwsAsync(handle.diff({ from: 'main', to: 'side', staged: true }), { code: 'USAGE' });
  await t.throwsAsync(handle.diff({ renames: -1 }), { code: 'USAGE' });
});

test('unmerged files are one entry of a diff each', async (t) => {
  const { handle, sandbox } = await createTwins(t, async (run, box) => {
    await commitFiles(run, box, { a: '1\n' }, 'base');
    await run(['checkout', '-q', '-b', 'other']);
    await commitFiles(run, box, { a: '2\n' }, 'other');
    await run(['checkout', '-q', 'main']);
    await commitFiles(run, box, { a: '3\n' }, 'main');
  });
  await sandbox.git(['merge', 'other'], { cwd: 'ours', okStatus: [1] });
  t.deepEqual(
    (await handle.diff()).map(({ path, change }) => [path, change]),
    [['a', 'unmerged']],
  );
  t.deepEqual(
    (await handle.staging().stagedFiles()).map(({ path, change }) => [path, change]),
    [['a', 'unmerged']],
  );
});

test('blame names the commit, the line and the file of each line', async (t) => {
  const twins = await createTwins(t, HISTORY);
  const { handle, run } = twins;
  const lines = await handle.blame('a');
  t.deepEqual(
    lines.map(({ line, originalLine, commit, content }) => [
      line,
      originalLine,
      commit.subject,
      content.toString(),
    ]),
    [
      [1, 1, 'one', 'one'],
      [2, 2, 'two', '2'],
      [3, 3, 'one', 'three'],
    ],
  );
  t.is(lines[0]!.commit, lines[2]!.commit);
  t.is(lines[1]!.commit.oid, await run(['rev-parse', 'main~2']));
  t.like(lines[0]!.commit, {
    isBoundary: true,
    author: { name: 'A U Thor', email: 'author@example.invalid', date: 1_700_000_000, offsetMinutes: 60 },
  });
  t.is((await handle.blame('new'))[0]!.file.path, 'old');
  t.deepEqual(
    (await handle.blame('a', { lines: [2, 4] })).map(({ line }) => line),
    [2, 3],
  );
  t.is((await handle.blame('a', { revision: 'side' }))[1]!.content.toString(), 'two');
  twins.write('a', 'one\n2\nthree\nnot committed');
  t.regex((await handle.blame('a'))[3]!.commit.oid, /^0+$/);
  for (const range of [
    [0, 1],
    [2, 2],
    [1.5, 3],
    [3, 2],
  ] as const) {
    await t.throwsAsync(handle.blame('a', { lines: range }), { code: 'USAGE' });
  }
  await t.throwsAsync(handle.blame('a', { lines: [50, 60] }), { code: 'PATH_INVALID' });
  await t.throwsAsync(handle.blame('none'), { code: 'PATH_INVALID' });
});

test('isomorphic-git reads what git wrote, also in a linked worktree, and can write nothing', async (t) => {
  const { handle, sandbox, run } = await createTwins(t, HISTORY);
  const opened = await handle.open();
  const git = await opened.load();
  const { fs, dir, gitdir, cache } = opened as unknown as {
    fs: Parameters<typeof git.log>[0]['fs'];
    dir: string;
    gitdir: string;
    cache: object;
  };
  t.is(await git.resolveRef({ fs, dir, gitdir, ref: 'main' }), await run(['rev-parse', 'main']));
  t.is(new Set((await git.log({ fs, dir, gitdir, cache, ref: 'HEAD' })).map(({ oid }) => oid)).size, 5);
  await sandbox.git(['gc', '-q'], { cwd: 'ours' });
  const [first] = await git.log({ fs, dir, gitdir, cache: {}, ref: 'HEAD', depth: 1 });
  t.is(first!.oid, await run(['rev-parse', 'HEAD']));
  await t.throwsAsync(git.branch({ fs, dir, gitdir, ref: 'evil' }), { code: 'EROFS' });
  await t.throwsAsync(git.writeBlob({ fs, dir, gitdir, blob: Buffer.from('x') }));
  t.false(readdirSync(sandbox.path('ours/.git/refs/heads')).includes('evil'));
  await sandbox.git(['worktree', 'add', '-q', '../tree', 'side'], { cwd: 'ours' });
  const tree = await (await handle.at(sandbox.path('tree'))).open();
  const linked = tree as unknown as { fs: typeof fs; dir: string; gitdir: string };
  t.is((await git.log({ ...linked, ref: 'HEAD', depth: 1 }))[0]!.oid, await run(['rev-parse', 'side']));
  t.is(await git.resolveRef({ ...linked, ref: 'main' }), await run(['rev-parse', 'main']));
  t.is((await tree.git(['rev-parse', 'HEAD'])).stdout.toString().trim(), await run(['rev-parse', 'side']));
  await sandbox.git(['init', '-q', '--object-format=sha256', 'long']);
  const long = await (await handleAt(t, sandbox, 'long')).open();
  await t.throwsAsync(long.load(), { code: 'REFUSED', message: /SHA-256/ });
});
