/**
 * What people do with git, on files that the real filter handles. Each test ends where nothing looks
 * modified, git's objects are sound and every byte is what it was.
 */

import {
  chmodSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  utimesSync,
} from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import {
  assertClean,
  createXetSandbox,
  POINTER,
  randomBytes,
  TRACKED,
  type Tree,
  writeTree,
  type XetRepository,
} from '../helpers/xet-sandbox.ts';

const KIB = 1 << 10;
const MIB = 1 << 20;
const LATER = new Date('2099-01-01');

const TEXT = Buffer.from(
  Array.from({ length: 20_000 }, (_, i) => `line ${i} of a text that compresses\n`).join(''),
);
/** A pointer of ours to content that is nowhere. */
const STRAY = `{"version":"1.0","filesize":5,"hash":"${'5eed'.repeat(16)}"}\n`;
const MARKED = `<<<<<<< HEAD\n${STRAY}=======\n${STRAY.replace('5,', '6,')}>>>>>>> other\n`;

/** Content of many kinds. What no pointer is must come back as it was, whatever it looks like. */
const CONTENTS: Tree = [
  ['empty.bin', ''],
  ['one-byte.bin', 'x'],
  ['1023.bin', randomBytes(1, 1023)],
  ['1024.bin', randomBytes(2, 1024)],
  ['1025.bin', randomBytes(3, 1025)],
  ['20k.bin', randomBytes(4, 20 * KIB)],
  ['1m.bin', randomBytes(5, MIB)],
  ['same as 1m.bin', randomBytes(5, MIB)],
  ['repeated.bin', Buffer.concat(Array(40).fill(randomBytes(6, 64 * KIB)))],
  ['zeros.bin', Buffer.alloc(3 * MIB)],
  ['text.bin', TEXT],
  ['crlf-text.bin', TEXT.toString().replaceAll('\n', '\r\n')],
  ['conflict.bin', MARKED],
  ['pointer-with-bom.bin', `\ufeff${STRAY}`],
  ['pointer-and-more.bin', `${STRAY}\n`],
  ['pointer-extra-key.bin', STRAY.replace('}', ',"a":1}')],
  ['pointer-of-tomorrow.bin', STRAY.replace('1.0', '1.1')],
  ['deep/er/tree.bin', randomBytes(7, 100 * KIB)],
];

const ODD_NAMES: Tree = [
  'new\nline.bin',
  'ends in newline.bin\n',
  'tab\tbed.bin',
  '"quoted".bin',
  'back\\slash.bin',
  '-dash.bin',
  'a=b.bin',
  'command=smudge.bin',
  ' blanks .bin',
  'gr\u00fc\u00df \u{1f600}.bin',
  Buffer.from('latin-\xe9\xff.bin', 'latin1'),
  '%s$HOME`id`.bin',
].map((name, i) => [name, randomBytes(100 + i, 3000 + i)] as const);

/** For `*.bin` and the name that does not end so. */
const ATTRIBUTES = `*.bin* ${TRACKED}\n`;

test.serial(
  'content of every kind and size, under names of any bytes, survives checkout, clone and archive',
  async (t) => {
    const sandbox = createXetSandbox(t, { config: { 'checkout.workers': '4' } });
    const repository = await sandbox.repository('source', ATTRIBUTES);
    const tree: Tree = [
      ...CONTENTS,
      ...ODD_NAMES,
      ['100m.bin', randomBytes(8, 100 * MIB)],
      ['plain.txt', 'not large\n'],
    ];
    writeTree(repository, tree);
    chmodSync(repository.path('1m.bin'), 0o755);
    await repository.commit('all');
    await assertClean(t, repository, tree);
    t.regex(await blob(repository, ':1m.bin'), POINTER);
    t.regex(await blob(repository, ':conflict.bin'), POINTER);
    t.is(await blob(repository, ':empty.bin'), '');
    t.is(await blob(repository, ':plain.txt'), 'not large\n');

    for (const [path] of tree)
      rmSync(Buffer.concat([Buffer.from(`${repository.dir}/`), Buffer.from(path as string)]));
    await repository.git(['checkout', '-q', '--', '.']);
    await assertClean(t, repository, tree);
    t.is(statSync(repository.path('1m.bin')).mode & 0o777, 0o755);

    await sandbox.git(['clone', '-q', 'source', 'clone']);
    await assertClean(t, await sandbox.at(sandbox.path('clone')), tree);

    mkdirSync(sandbox.path('unpacked'));
    await repository.git(['archive', '-o', sandbox.path('all.tar'), 'HEAD']);
    await sandbox.runOk('tar', ['-xf', 'all.tar', '-C', 'unpacked']);
    for (const [path, content] of tree) {
      const unpacked = readFileSync(
        Buffer.concat([Buffer.from(`${sandbox.path('unpacked')}/`), Buffer.from(path as string)]),
      );
      t.true(unpacked.equals(Buffer.from(content)), `archived ${path}`);
    }
  },
);

test.serial(
  'a pointer in the work tree is the file it stands for, with LF or CRLF or no newline at its end',
  async (t) => {
    const repository = await createXetSandbox(t).repository();
    const content = randomBytes(1, 50_000);
    repository.write('a.bin', content);
    await repository.commit('content');
    const pointer = await blob(repository, ':a.bin');
    for (const text of [pointer, pointer.replace('\n', '\r\n'), pointer.replace('\n', '')]) {
      repository.write('a.bin', text);
      repository.write('b.bin', text);
      await repository.git(['add', 'a.bin', 'b.bin']);
      t.is(await repository.text(['status', '--porcelain']), 'A  b.bin');
      t.is(await blob(repository, ':b.bin'), pointer);
      await repository.git(['rm', '-q', '--cached', 'b.bin']);
      rmSync(repository.path('b.bin'));
    }
    await assertClean(t, repository);
    rmSync(repository.path('a.bin'));
    await repository.git(['checkout', '-q', '--', '.']);
    await assertClean(t, repository, [['a.bin', content]]);
  },
);

test.serial(
  'switching branches, reset --hard and restore bring back the bytes of each version',
  async (t) => {
    const repository = await createXetSandbox(t).repository();
    const one: Tree = [
      ['a.bin', randomBytes(1, 300_000)],
      ['b.bin', randomBytes(2, 100)],
      ['gone.bin', 'here'],
    ];
    const two: Tree = [
      ['a.bin', randomBytes(3, 200_000)],
      ['b.bin', randomBytes(2, 100)],
      ['new/c.bin', 'there'],
    ];
    writeTree(repository, one);
    await repository.commit('one');
    await repository.git(['checkout', '-q', '-b', 'two']);
    rmSync(repository.path('gone.bin'));
    writeTree(repository, two);
    await repository.commit('two');

    await repository.git(['checkout', '-q', 'main']);
    await assertClean(t, repository, one);
    t.false(existsSync(repository.path('new/c.bin')));
    await repository.git(['switch', '-q', 'two']);
    await assertClean(t, repository, two);
    await repository.git(['reset', '-q', '--hard', 'main']);
    await assertClean(t, repository, one);
    repository.write('a.bin', 'spoilt');
    await repository.git(['restore', 'a.bin']);
    await assertClean(t, repository, one);
    await repository.git(['restore', '--source=main~1', '--staged', '--worktree', '.']);
    t.false(existsSync(repository.path('a.bin')));
    await repository.git(['checkout', '-q', 'HEAD', '--', '.']);
    await assertClean(t, repository, one);
    await repository.git(['checkout', '-q', '--detach', 'HEAD~1']);
    await repository.git(['checkout', '-q', 'main']);
    await assertClean(t, repository, one);
  },
);

test.serial(
  'stash and stash pop, with two filters alive at once, keep staged, unstaged and untracked bytes',
  async (t) => {
    const repository = await createXetSandbox(t).repository();
    const committed: Tree = [
      ['a.bin', randomBytes(1, 300_000)],
      ['b.bin', randomBytes(2, 300_000)],
    ];
    const changed: Tree = [
      ['a.bin', Buffer.concat([randomBytes(1, 300_000), Buffer.from('more')])],
      ['b.bin', randomBytes(3, 1000)],
      ['untracked.bin', randomBytes(4, 70_000)],
    ];
    writeTree(repository, committed);
    await repository.commit('first');
    writeTree(repository, changed);
    await repository.git(['add', 'a.bin']);
    await repository.git(['stash', 'push', '-q', '--include-untracked']);
    await assertClean(t, repository, committed);
    t.false(existsSync(repository.path('untracked.bin')));
    await repository.git(['stash', 'pop', '-q', '--index']);
    t.is(await repository.text(['status', '--porcelain']), 'M  a.bin\n M b.bin\n?? untracked.bin');
    await repository.commit('changed');
    await assertClean(t, repository, changed);
  },
);

test.serial('patches and diffs are about pointers, and applying one writes the content', async (t) => {
  const sandbox = createXetSandbox(t);
  const repository = await sandbox.repository();
  repository.write('a.bin', randomBytes(1, 50_000));
  await repository.commit('one');
  repository.write('a.bin', randomBytes(2, 60_000));
  t.regex(
    await repository.text(['diff']),
    /^-\{"version":"1\.0","filesize":50000,.*\n\+\{.*"filesize":60000,/m,
  );
  await repository.commit('two');
  const patch = await repository.text(['format-patch', '--stdout', '-1']);
  t.true(patch.length < 2000);
  await repository.git(['reset', '-q', '--hard', 'HEAD~1']);
  await assertClean(t, repository, [['a.bin', randomBytes(1, 50_000)]]);
  await repository.git(['am', '-q'], { input: `${patch}\n` });
  await assertClean(t, repository, [['a.bin', randomBytes(2, 60_000)]]);
});

test.serial('rebase, cherry-pick and revert carry large files along', async (t) => {
  const repository = await createXetSandbox(t).repository();
  const v1 = randomBytes(1, 400_000);
  const v2 = Buffer.concat([v1.subarray(0, 100_000), Buffer.from('inserted'), v1.subarray(100_000)]);
  writeTree(repository, [
    ['a.bin', v1],
    ['text.txt', 'one\n'],
  ]);
  await repository.commit('base');
  await repository.git(['checkout', '-q', '-b', 'topic']);
  repository.write('a.bin', v2);
  await repository.commit('change a');
  repository.write('b.bin', randomBytes(2, 9000));
  await repository.commit('add b');
  await repository.git(['checkout', '-q', 'main']);
  repository.write('c.bin', randomBytes(3, 9000));
  await repository.commit('add c');

  await repository.git(['rebase', '-q', 'main', 'topic']);
  const all: Tree = [
    ['a.bin', v2],
    ['b.bin', randomBytes(2, 9000)],
    ['c.bin', randomBytes(3, 9000)],
  ];
  await assertClean(t, repository, all);
  await repository.git(['checkout', '-q', 'main']);
  await repository.git(['cherry-pick', 'topic~1']);
  await assertClean(t, repository, [
    ['a.bin', v2],
    ['c.bin', randomBytes(3, 9000)],
  ]);
  await repository.git(['revert', '--no-edit', 'HEAD']);
  await assertClean(t, repository, [
    ['a.bin', v1],
    ['c.bin', randomBytes(3, 9000)],
  ]);
  await repository.git(['reset', '-q', '--hard', 'HEAD~2']);
  await repository.git(['merge', '-q', 'topic']);
  await assertClean(t, repository, all);
});

/** `main` and `theirs` with different changes of f.bin, and a merge of the one into the other that stopped. */
async function conflict(repository: XetRepository) {
  const [base, ours, theirs] = [randomBytes(1, 50_000), randomBytes(2, 60_000), randomBytes(3, 70_000)];
  repository.write('f.bin', base);
  await repository.commit('base');
  await repository.git(['checkout', '-q', '-b', 'theirs']);
  writeTree(repository, [
    ['f.bin', theirs],
    ['clean.bin', theirs.subarray(1)],
  ]);
  await repository.commit('theirs');
  await repository.git(['checkout', '-q', 'main']);
  repository.write('f.bin', ours);
  await repository.commit('ours');
  await repository.git(['merge', 'theirs'], { okStatus: [1] });
  return { ours, theirs };
}

test.serial(
  'a conflict under merge=binary leaves ours in the tree, and checkout --theirs gives theirs',
  async (t) => {
    const repository = await createXetSandbox(t).repository();
    const { ours, theirs } = await conflict(repository);
    t.true(readFileSync(repository.path('f.bin')).equals(ours));
    for (const side of ['theirs', 'ours', 'theirs', 'ours', 'theirs'] as const) {
      // An index that is younger than the files in it: git believes its stat data.
      utimesSync(repository.path('.git/index'), LATER, LATER);
      await repository.git(['checkout', '-q', `--${side}`, 'f.bin']);
      t.true(readFileSync(repository.path('f.bin')).equals(side === 'ours' ? ours : theirs), side);
    }
    await repository.commit('merged');
    await assertClean(t, repository, [
      ['f.bin', theirs],
      ['clean.bin', theirs.subarray(1)],
    ]);
  },
);

test.serial(
  'a conflict without merge=binary puts conflict markers around pointers, which a checkout resolves',
  async (t) => {
    const sandbox = createXetSandbox(t);
    const repository = await sandbox.repository('repository', '*.bin filter=xet -text\n');
    const { theirs } = await conflict(repository);
    const marked = readFileSync(repository.path('f.bin'), 'utf8');
    t.regex(marked, /^<<<<<<< HEAD\n\{"version".*\}\n=======\n\{"version".*\}\n>>>>>>> theirs\n$/);
    // Whoever commits that gets just that: a file with markers in it.
    await repository.commit('markers');
    await assertClean(t, repository, [['f.bin', marked]]);
    rmSync(repository.path('f.bin'));
    await repository.git(['checkout', '-q', '--', 'f.bin']);
    await assertClean(t, repository, [['f.bin', marked]]);

    await repository.git(['reset', '-q', '--hard', 'HEAD~1']);
    await repository.git(['merge', 'theirs'], { okStatus: [1] });
    await repository.git(['checkout', '-q', '--theirs', 'f.bin']);
    await repository.commit('theirs');
    await assertClean(t, repository, [
      ['f.bin', theirs],
      ['clean.bin', theirs.subarray(1)],
    ]);
  },
);

test.serial('a merge that renormalizes works, with and without a conflict', async (t) => {
  const sandbox = createXetSandbox(t, { config: { 'merge.renormalize': 'true' } });
  const repository = await sandbox.repository();
  const { theirs } = await conflict(repository);
  await repository.git(['checkout', '-q', '--theirs', 'f.bin']);
  await repository.commit('merged');
  await assertClean(t, repository, [
    ['f.bin', theirs],
    ['clean.bin', theirs.subarray(1)],
  ]);

  await repository.git(['checkout', '-q', '-b', 'side', 'HEAD~1']);
  repository.write('side.bin', randomBytes(9, 10_000));
  await repository.commit('side');
  await repository.git(['checkout', '-q', 'main']);
  await repository.git(['merge', '-q', '--no-edit', 'side']);
  await assertClean(t, repository, [
    ['f.bin', theirs],
    ['side.bin', randomBytes(9, 10_000)],
  ]);
});

test.serial('linked worktrees share one store, both ways, and outlive each other', async (t) => {
  const sandbox = createXetSandbox(t);
  const main = await sandbox.repository('main');
  main.write('a.bin', randomBytes(1, 100_000));
  await main.commit('a');
  await main.git(['worktree', 'add', '-q', '-b', 'other', sandbox.path('linked')]);
  const linked = await sandbox.at(sandbox.path('linked'));
  t.is(linked.store, main.store);
  await assertClean(t, linked, [['a.bin', randomBytes(1, 100_000)]]);
  linked.write('b.bin', randomBytes(2, 100_000));
  await linked.commit('b');
  await assertClean(t, linked);
  t.false(existsSync(join(await linked.text(['rev-parse', '--absolute-git-dir']), 'xet')));

  await main.git(['merge', '-q', 'other']);
  await assertClean(t, main, [
    ['a.bin', randomBytes(1, 100_000)],
    ['b.bin', randomBytes(2, 100_000)],
  ]);
  await main.git(['worktree', 'remove', sandbox.path('linked')]);
  rmSync(main.path('b.bin'));
  await main.git(['checkout', '-q', '.']);
  await assertClean(t, main, [['b.bin', randomBytes(2, 100_000)]]);
});

test.serial(
  'a bare repository takes pushes and gives its worktrees content; pull brings changes over',
  async (t) => {
    const sandbox = createXetSandbox(t);
    const ann = await sandbox.repository('ann');
    ann.write('a.bin', randomBytes(1, 200_000));
    await ann.commit('a');
    await sandbox.git(['clone', '-q', 'ann', 'bob']);
    const bob = await sandbox.at(sandbox.path('bob'));
    const v2 = Buffer.concat([randomBytes(1, 200_000), randomBytes(2, 1000)]);
    bob.write('a.bin', v2);
    await bob.commit('v2');
    await assertClean(t, bob, [['a.bin', v2]]);

    // Ann pulls from Bob, whose store holds what hers does not.
    await ann.git(['remote', 'add', 'bob', bob.dir]);
    await ann.git(['pull', '-q', 'bob', 'main']);
    await assertClean(t, ann, [['a.bin', v2]]);
    rmSync(bob.dir, { recursive: true });
    rmSync(ann.path('a.bin'));
    await ann.git(['checkout', '-q', '.']);
    await assertClean(t, ann, [['a.bin', v2]]);

    await sandbox.git(['clone', '-q', '--bare', 'ann', 'hub.git']);
    await ann.git(['remote', 'add', 'hub', sandbox.path('hub.git')]);
    ann.write('b.bin', randomBytes(3, 3000));
    await ann.commit('b');
    await ann.git(['push', '-q', 'hub', 'main']);
    await sandbox.git(['-C', 'hub.git', 'worktree', 'add', '-q', sandbox.path('deployed'), 'main']);
    const deployed = await sandbox.at(sandbox.path('deployed'));
    t.is(deployed.store, sandbox.path('hub.git', 'xet'));
    await assertClean(t, deployed, [
      ['a.bin', v2],
      ['b.bin', randomBytes(3, 3000)],
    ]);
    await sandbox.git(['-C', 'hub.git', 'config', 'core.attributesFile', ann.path('.gitattributes')]);
    await sandbox.git(['-C', 'hub.git', 'archive', '-o', sandbox.path('hub.tar'), 'main', 'a.bin']);
    const { stdoutBytes } = await sandbox.runOk('tar', ['-xOf', 'hub.tar', 'a.bin']);
    t.true(stdoutBytes.equals(v2));
  },
);

test.serial(
  'status and commit right after add or checkout clean racy files again, without harm',
  async (t) => {
    const repository = await createXetSandbox(t).repository();
    for (let round = 0; round < 4; round++) {
      repository.write('a.bin', randomBytes(round, 30_000));
      await repository.git(['add', '.']);
      t.is(await repository.text(['status', '--porcelain']), round === 0 ? 'A  a.bin' : 'M  a.bin');
      await repository.git(['commit', '-q', '-m', `${round}`]);
      // Same size, same second: only the bytes tell.
      repository.write('a.bin', randomBytes(round + 50, 30_000));
      t.is(await repository.text(['status', '--porcelain']), ' M a.bin');
      await repository.git(['checkout', '-q', '.']);
      await assertClean(t, repository, [['a.bin', randomBytes(round, 30_000)]]);
    }
  },
);

test.serial('sparse-checkout writes the files that come into its scope', async (t) => {
  const repository = await createXetSandbox(t).repository();
  const tree: Tree = [
    ['in/a.bin', randomBytes(1, 30_000)],
    ['out/b.bin', randomBytes(2, 30_000)],
  ];
  writeTree(repository, tree);
  await repository.commit('both');
  await repository.git(['sparse-checkout', 'set', '--sparse-index', 'in']);
  t.false(existsSync(repository.path('out')));
  await assertClean(t, repository, tree.slice(0, 1));
  repository.write('in/a.bin', randomBytes(3, 30_000));
  await repository.commit('changed in a sparse index');
  await repository.git(['sparse-checkout', 'set', 'in', 'out']);
  await assertClean(t, repository, [
    ['in/a.bin', randomBytes(3, 30_000)],
    ['out/b.bin', randomBytes(2, 30_000)],
  ]);
});

test.serial('hash-object --path and cat-file --filters convert single objects', async (t) => {
  const sandbox = createXetSandbox(t);
  const repository = await sandbox.repository();
  const content = randomBytes(1, 123_456);
  const oid = await repository.text(['hash-object', '-w', '--path', 'not there/x.bin', '--stdin'], {
    input: content,
  });
  t.regex(await blob(repository, oid), POINTER);
  const { stdoutBytes } = await repository.git(['cat-file', '--filters', '--path=any.bin', oid]);
  t.true(stdoutBytes.equals(content));
  await repository.git(['update-index', '--add', '--cacheinfo', `100644,${oid},x.bin`]);
  await repository.git(['checkout-index', '-a', '--prefix=out/']);
  t.true(readFileSync(repository.path('out/x.bin')).equals(content));
});

test.serial('the store is found wherever git is started, and wherever it was told things are', async (t) => {
  const sandbox = createXetSandbox(t);
  await sandbox.git(['init', '-q', '--separate-git-dir', 'elsewhere.git', 'tree']);
  const repository = await sandbox.at(sandbox.path('tree'));
  t.is(repository.store, sandbox.path('elsewhere.git/xet'));
  const tree: Tree = [
    ['sub/a.bin', randomBytes(1, 20_000)],
    ['sub/b.bin', randomBytes(2, 20_000)],
    ['c.bin', randomBytes(3, 20_000)],
  ];
  writeTree(repository, [...tree, ['.gitattributes', `*.bin ${TRACKED}\n`]]);
  await repository.git(['add', 'a.bin'], { cwd: repository.path('sub') });
  const env = { GIT_DIR: sandbox.path('elsewhere.git'), GIT_WORK_TREE: repository.dir };
  await sandbox.git(['add', 'b.bin'], { cwd: repository.path('sub'), env });
  await sandbox.git(['--git-dir=../elsewhere.git', '--work-tree=.', 'add', '.'], { cwd: 'tree' });
  symlinkSync('tree', sandbox.path('link'));
  await sandbox.git(['commit', '-q', '-m', 'all'], { cwd: 'link' });
  for (const [path] of tree) rmSync(repository.path(path as string));
  await sandbox.git(['checkout', '-q', '.'], { cwd: 'link' });
  await assertClean(t, repository, tree);
  t.deepEqual(readdirSync(sandbox.dir).sort(), ['elsewhere.git', 'link', 'tree']);
});

test.serial('a submodule has its own store beside its own objects', async (t) => {
  const sandbox = createXetSandbox(t);
  const library = await sandbox.repository('library');
  library.write('l.bin', randomBytes(1, 20_000));
  await library.commit('l');
  const outer = await sandbox.repository('outer');
  await outer.git(['submodule', '--quiet', 'add', library.dir, 'lib']);
  await outer.commit('with a library');
  const inner = await sandbox.at(outer.path('lib'));
  t.is(inner.store, outer.path('.git/modules/lib/xet'));
  await assertClean(t, inner, [['l.bin', randomBytes(1, 20_000)]]);
  await assertClean(t, outer);
});

test.serial('CRLF conversion that mangles pointers on their way to the filter costs nothing', async (t) => {
  const sandbox = createXetSandbox(t, { config: { 'core.autocrlf': 'true' } });
  // No -text: git takes the pointer for a text and converts it.
  const repository = await sandbox.repository('repository', '* text=auto\n*.bin filter=xet\n');
  const tree: Tree = [
    ['a.bin', randomBytes(1, 30_000)],
    ['crlf.bin', 'a\r\nb\r\n'],
    ['lf.bin', 'a\nb\n'],
  ];
  writeTree(repository, tree);
  await repository.commit('mangled');
  await assertClean(t, repository, tree);
  for (const [path] of tree) rmSync(repository.path(path as string));
  await repository.git(['checkout', '-q', '.']);
  await assertClean(t, repository, tree);
  await sandbox.git(['clone', '-q', 'repository', 'clone']);
  await assertClean(t, await sandbox.at(sandbox.path('clone')), tree);
  // As a checkout without the content writes it.
  rmSync(repository.path('a.bin'));
  await repository.git(['checkout', '-q', '.'], { env: { GIT2DB_SKIP_SMUDGE: '1' } });
  await assertClean(t, repository, [['a.bin', (await blob(repository, ':a.bin')).replace('\n', '\r\n')]]);
});

test.serial(
  'files that were committed before the attribute stay readable and become pointers when renormalized',
  async (t) => {
    const sandbox = createXetSandbox(t);
    const repository = await sandbox.repository('repository', '');
    const tree: Tree = [
      ['a.bin', randomBytes(1, 30_000)],
      ['b.bin', randomBytes(2, 30_000)],
    ];
    writeTree(repository, tree);
    await repository.commit('plain');
    repository.write('.gitattributes', `*.bin ${TRACKED}\n`);
    await repository.git(['add', '.gitattributes']);
    await repository.git(['commit', '-q', '-m', 'track']);
    rmSync(repository.path('a.bin'));
    const { stderr } = await repository.git(['checkout', '-q', '--', 'a.bin']);
    t.regex(
      stderr,
      /^git2db-filter: 1 file has filter=xet but is stored in git as plain content: a\.bin\..*\n$/,
    );
    await repository.git(['add', '--renormalize', '.']);
    await repository.git(['commit', '-q', '-m', 'pointers']);
    t.regex(await blob(repository, 'HEAD:a.bin'), POINTER);
    await assertClean(t, repository, tree);
  },
);

async function blob(repository: XetRepository, name: string): Promise<string> {
  return (await repository.git(['cat-file', 'blob', name])).stdout;
}
