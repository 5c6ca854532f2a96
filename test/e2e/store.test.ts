/**
 * The store as its users see it: what a second copy costs, who shares it, where a clone finds content,
 * and what happens where there is none.
 */

import {
  chmodSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  utimesSync,
} from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import test, { type ExecutionContext } from 'ava';
import fc from 'fast-check';
import {
  assertClean,
  assertNothingIncoming,
  assertSame,
  cleanAll,
  createXetSandbox,
  filesUnder,
  POINTER,
  randomBytes,
  smudgeAll,
  startFilter,
  storeFiles,
  storeSize,
  type Tree,
  writeTree,
  type XetRepository,
} from '../helpers/xet-sandbox.ts';

const KIB = 1 << 10;
const MIB = 1 << 20;

// Growth

test.serial('content that is known already adds not one byte to the store', async (t) => {
  const repository = await createXetSandbox(t).repository();
  const tree: Tree = [
    ['a.bin', randomBytes(1, 3 * MIB)],
    ['b.bin', randomBytes(2, 1000)],
    ['empty.bin', ''],
  ];
  writeTree(repository, tree);
  await repository.commit('first');
  const before = storeFiles(repository.store);
  for (const [path] of tree) utimesSync(repository.path(path as string), 1, 1);
  await assertClean(t, repository, tree);
  t.deepEqual(storeFiles(repository.store), before);
  writeTree(repository, [['another name.bin', randomBytes(1, 3 * MIB)]]);
  await repository.commit('second');
  t.deepEqual(storeFiles(repository.store), before);
  rmSync(repository.path('another name.bin'));
  await repository.git(['checkout', '-q', '.']);
  t.deepEqual(storeFiles(repository.store), before);
});

test.serial('64 MiB with 1 MiB put in at 30 % cost no more than 1.5 MiB', async (t) => {
  const repository = await createXetSandbox(t).repository();
  const first = randomBytes(1, 64 * MIB);
  const at = Math.floor(first.length * 0.3);
  const second = Buffer.concat([first.subarray(0, at), randomBytes(2, MIB), first.subarray(at)]);
  repository.write('a.bin', first);
  await repository.commit('first');
  const before = storeSize(repository.store);
  t.true(before < 65 * MIB);
  repository.write('a.bin', second);
  await repository.commit('second');
  const growth = storeSize(repository.store) - before;
  t.true(growth <= MIB + 512 * KIB, `the store grew by ${growth}`);
  await repository.git(['checkout', '-q', 'HEAD~1']);
  await assertClean(t, repository, [['a.bin', first]]);
  await repository.git(['checkout', '-q', 'main']);
  await assertClean(t, repository, [['a.bin', second]]);
});

test.serial('a change to a file is deduplicated also when the catalog is gone', async (t) => {
  const repository = await createXetSandbox(t).repository();
  const first = randomBytes(1, 8 * MIB);
  repository.write('a.bin', first);
  await repository.commit('first');
  rmSync(join(repository.store, 'catalog'), { recursive: true });
  const before = storeSize(repository.store);
  repository.write('a.bin', Buffer.concat([first, Buffer.from('a little more')]));
  await repository.commit('second');
  const growth = storeSize(repository.store) - before;
  t.true(growth < MIB, `the store grew by ${growth}`);
  await assertClean(t, repository);
});

const splice = fc.record({
  at: fc.double({ min: 0, max: 1, noNaN: true }),
  remove: fc.nat(300_000),
  insert: fc.nat(300_000),
});
const file = fc.record({
  seed: fc.nat(1e6),
  size: fc.nat(3 * MIB),
  splices: fc.array(splice, { minLength: 1, maxLength: 6 }),
});

test.serial(
  'files cut and pasted at random have the pointer they have anywhere, and are stored once',
  async (t) => {
    const sandbox = createXetSandbox(t);
    let run = 0;
    await fc.assert(
      fc.asyncProperty(fc.array(file, { minLength: 3, maxLength: 5 }), async (files) => {
        run++;
        const [warm, cold] = [await sandbox.repository(`warm${run}`), await sandbox.repository(`cold${run}`)];
        const bases = files.map(({ seed, size }) => randomBytes(seed, size));
        const spliced = files.map(({ seed, splices }, i) =>
          splices.reduce((bytes, { at, remove, insert }, n) => {
            const from = Math.floor(at * bytes.length);
            const rest = bytes.subarray(from + remove);
            return Buffer.concat([bytes.subarray(0, from), randomBytes(seed + n + 1, insert), rest]);
          }, bases[i]!),
        );
        await cleanAll(t, sandbox, warm, bases);
        const pointers = await cleanAll(t, sandbox, warm, spliced);
        const before = storeFiles(warm.store);
        t.deepEqual(await cleanAll(t, sandbox, warm, spliced), pointers);
        t.deepEqual(storeFiles(warm.store), before);
        t.deepEqual(await cleanAll(t, sandbox, cold, spliced), pointers);
        assertSame(t, await smudgeAll(t, sandbox, warm, pointers), spliced);
      }),
      { numRuns: 3 },
    );
  },
);

test.serial('a large file that is new and known by turns has the pointer it has anywhere', async (t) => {
  const sandbox = createXetSandbox(t);
  const repository = await sandbox.repository();
  const known = randomBytes(1, 32 * MIB);
  await cleanAll(t, sandbox, repository, [known]);
  const parts = [randomBytes(2, 9 * MIB), known.subarray(0, 14 * MIB), randomBytes(3, 20 * MIB), known];
  const whole = Buffer.concat([...parts, randomBytes(4, 100_001)]);
  // As a work tree file it is known to be large from the start, and cut on another thread.
  repository.write('x', whole);
  const before = storeSize(repository.store);
  const [pointer] = await cleanAll(t, sandbox, repository, [whole]);
  const growth = storeSize(repository.store) - before;
  t.true(growth < 30 * MIB, `the store grew by ${growth}`);
  const { stdout } = await sandbox.runOk('git2db', ['xet', 'pointer', 'x'], { cwd: repository.dir });
  t.is(pointer, stdout);
  assertSame(t, await smudgeAll(t, sandbox, repository, [pointer!]), [whole]);
});

test.serial('more small files than a xorb has chunks, in one go', async (t) => {
  const sandbox = createXetSandbox(t);
  const repository = await sandbox.repository();
  const contents = Array.from({ length: 8500 }, (_, i) => randomBytes(i, 20 + (i % 50)));
  const pointers = await cleanAll(t, sandbox, repository, contents);
  t.is(new Set(pointers).size, contents.length);
  t.is(filesUnder(join(repository.store, 'xorbs')).size, 2);
  const sample = <T>(all: readonly T[]) => all.filter((_, i) => i % 20 === 0);
  const before = storeFiles(repository.store);
  t.deepEqual(await cleanAll(t, sandbox, repository, sample(contents)), sample(pointers));
  t.deepEqual(storeFiles(repository.store), before);
  assertSame(t, await smudgeAll(t, sandbox, repository, sample(pointers)), sample(contents));
});

test.serial(
  'compression is a matter of the store: pointers and contents are the same under any',
  async (t) => {
    const sandbox = createXetSandbox(t);
    const repository = await sandbox.repository();
    const floats = Buffer.from(Float32Array.from({ length: 200_000 }, (_, i) => Math.sin(i / 1000)).buffer);
    const text = Buffer.from('so it goes\n'.repeat(50_000));
    const contents = [floats, text, randomBytes(1, 300_000), Buffer.alloc(MIB)];
    const sizes = new Map<string, number>();
    let pointers: string[] | undefined;
    for (const mode of ['none', 'lz4', 'bg4-lz4', 'auto']) {
      await repository.git(['config', 'xet.compression', mode]);
      rmSync(repository.store, { recursive: true, force: true });
      const found = await cleanAll(t, sandbox, repository, contents);
      pointers ??= found;
      t.deepEqual(found, pointers);
      sizes.set(mode, storeSize(repository.store));
      await repository.git(['config', 'xet.compression', 'auto']);
      assertSame(t, await smudgeAll(t, sandbox, repository, pointers), contents);
    }
    t.true(sizes.get('lz4')! < sizes.get('none')!, 'lz4');
    t.true(sizes.get('bg4-lz4')! < sizes.get('lz4')!, 'bg4-lz4, because of the floats');
    t.true(sizes.get('auto')! <= 1.1 * sizes.get('lz4')!, 'auto');
  },
);

// Sharing

test.serial(
  'eight repositories that add to one store at the same time all read back what they added',
  async (t) => {
    const sandbox = createXetSandbox(t, { config: { 'xet.store': '~/common store' } });
    const store = join(sandbox.home, 'common store');
    const common = randomBytes(0, 2 * MIB);
    const repositories = await Promise.all(Array.from({ length: 8 }, (_, i) => sandbox.repository(`r${i}`)));
    const trees = repositories.map(
      (_, i): Tree => [
        ['common.bin', common],
        ['own.bin', randomBytes(i + 1, 300_000)],
        ['half common.bin', Buffer.concat([common.subarray(0, MIB), randomBytes(i + 50, 100_000)])],
      ],
    );
    repositories.forEach((repository, i) => {
      writeTree(repository, trees[i]!);
    });
    await Promise.all(repositories.map((repository) => repository.commit('all')));
    assertNothingIncoming(t, store);
    const others = await Promise.all(
      repositories.map((repository) => repository.text(['rev-parse', 'HEAD:common.bin'])),
    );
    t.is(new Set(others).size, 1);
    for (const [i, repository] of repositories.entries()) {
      t.false(existsSync(repository.store));
      for (const [path] of trees[i]!) rmSync(repository.path(path as string));
      await repository.git(['checkout', '-q', '.']);
      await assertClean(t, repository, trees[i]);
    }
    t.is(readdirSync(join(store, 'users')).length, 8);
    // Whatever order they came in, the next one finds it all.
    const before = storeFiles(store);
    const late = await sandbox.repository('late');
    writeTree(
      late,
      trees.flatMap((tree, i) => tree.map(([path, content]) => [`${i}/${path}`, content] as const)),
    );
    await late.commit('all');
    t.deepEqual(storeFiles(store), before);
  },
);

test.serial('the store inside a repository does not list that repository as a user', async (t) => {
  const sandbox = createXetSandbox(t);
  const repository = await sandbox.repository();
  repository.write('a.bin', randomBytes(1, 5000));
  await repository.commit('a');
  t.deepEqual(readdirSync(join(repository.store, 'users')), []);
  await sandbox.git(['clone', '-q', repository.dir, 'clone']);
  const clone = await sandbox.at(sandbox.path('clone'));
  t.deepEqual(readdirSync(join(clone.store, 'users')), []);
  const users = readdirSync(join(repository.store, 'users')).map((name) =>
    readFileSync(join(repository.store, 'users', name), 'utf8'),
  );
  t.deepEqual(users, [`${join(clone.dir, '.git')}\n`]);
});

const clones = test.macro({
  async exec(t, kind: string, args: (source: string) => string[], linked: boolean) {
    const sandbox = createXetSandbox(t);
    const source = await sandbox.repository('source');
    const tree: Tree = [
      ['a.bin', randomBytes(1, 300_000)],
      ['sub/b.bin', randomBytes(2, 5000)],
    ];
    const branch: Tree = [['only on branch.bin', randomBytes(3, 100_000)]];
    await source.git(['checkout', '-q', '-b', 'branch']);
    writeTree(source, branch);
    await source.commit('branch');
    await source.git(['checkout', '-q', 'main']);
    writeTree(source, tree);
    await source.commit('main');

    await sandbox.git(['clone', '-q', ...args(source.dir), 'clone']);
    let clone = await sandbox.at(sandbox.path('clone'));
    if (kind === '--bare') {
      await clone.git(['worktree', 'add', '-q', sandbox.path('tree'), 'main']);
      clone = await sandbox.at(sandbox.path('tree'));
    }
    await assertClean(t, clone, tree);
    await clone.git(['checkout', '-q', 'branch']);
    await assertClean(t, clone, branch);
    const links = [...filesUnder(join(clone.store, 'xorbs')).keys()].map(
      (name) => statSync(join(clone.store, 'xorbs', name)).nlink,
    );
    t.true(links.length > 0 && links.every((count) => count === (linked ? 2 : 1)), `links: ${links}`);

    // It keeps what it has read.
    rmSync(source.store, { recursive: true });
    await clone.git(['checkout', '-q', '--detach', 'HEAD~1']);
    await clone.git(['checkout', '-q', 'branch']);
    await assertClean(t, clone, branch);
  },
  title: (_, kind) => `a clone (${kind}) finds the content of every branch at its source, and keeps it`,
});
test.serial(clones, 'path', (source) => [source], true);
test.serial(clones, 'file://', (source) => [pathToFileURL(source).href], true);
test.serial(clones, '--no-hardlinks', (source) => ['--no-hardlinks', source], true);
test.serial(clones, '--shared', (source) => ['--shared', source], true);
test.serial(clones, '--bare', (source) => ['--bare', source], true);
test.serial(clones, 'relative path', () => ['./source'], true);
test.serial(clones, 'other remote name', (source) => ['-o', 'up', source], true);

test.serial('a clone of a repository with a store elsewhere finds that', async (t) => {
  const sandbox = createXetSandbox(t);
  const source = await sandbox.repository('source');
  await source.git(['config', 'xet.store', '../../elsewhere']);
  source.write('a.bin', randomBytes(1, 30_000));
  await source.commit('a');
  t.false(existsSync(source.store));
  t.true(existsSync(sandbox.path('elsewhere', 'format')));
  await sandbox.git(['clone', '-q', 'source', 'clone']);
  await assertClean(t, await sandbox.at(sandbox.path('clone')), [['a.bin', randomBytes(1, 30_000)]]);
});

test.serial('content that its writer has not sealed yet can be cloned', async (t) => {
  const sandbox = createXetSandbox(t);
  const source = await sandbox.repository('source');
  const client = await startFilter(t, sandbox, source);
  const content = randomBytes(1, 300_000);
  const pointer = (await client.clean('a.bin', content)).content;
  const oid = await source.text(['hash-object', '-w', '--stdin'], { input: pointer });
  await source.git(['update-index', '--add', '--cacheinfo', `100644,${oid},a.bin`]);
  await source.git(['commit', '-q', '-m', 'a']);
  await sandbox.git(['clone', '-q', 'source', 'clone']);
  t.true(readFileSync(sandbox.path('clone', 'a.bin')).equals(content));
  t.like(await client.end(), { code: 0, stderr: '' });
  await assertClean(t, await sandbox.at(sandbox.path('clone')), [['a.bin', content]]);
});

// Missing content

async function withLostStore(t: ExecutionContext, config: Readonly<Record<string, string>> = {}) {
  const sandbox = createXetSandbox(t, { config });
  const repository = await sandbox.repository();
  const names = ['a.bin', 'b.bin', 'c.bin', 'd.bin', 'e.bin', 'f.bin', 'g.bin'];
  writeTree(
    repository,
    names.map((name, i) => [name, randomBytes(i, 3000 + i)] as const),
  );
  await repository.commit('all');
  const pointers: Tree = await Promise.all(
    names.map(
      async (name) => [name, (await repository.git(['cat-file', 'blob', `:${name}`])).stdout] as const,
    ),
  );
  renameSync(repository.store, `${repository.store}.lost`);
  for (const name of names) rmSync(repository.path(name));
  return { sandbox, repository, pointers };
}

test.serial(
  'missing content is an error that names the store and what to do; when it is back, all is well',
  async (t) => {
    const { repository } = await withLostStore(t);
    const { stderr } = await repository.git(['checkout', '-q', '.'], { okStatus: [128, 1] });
    t.true(stderr.includes(repository.store), stderr);
    t.regex(
      stderr,
      /git2db-filter: a\.bin: the content \(3000 bytes, hash [0-9a-f]{64}\) is not in .*git config xet\.onMissing pointer/,
    );
    rmSync(repository.store, { recursive: true, force: true });
    renameSync(`${repository.store}.lost`, repository.store);
    await repository.git(['checkout', '-q', '.']);
    await assertClean(t, repository, [['g.bin', randomBytes(6, 3006)]]);
  },
);

test.serial('switching to a commit whose content is missing fails with status 128', async (t) => {
  const { repository } = await withLostStore(t);
  await repository.git(['reset', '-q', '--hard', 'HEAD~1']);
  const { status } = await repository.git(['reset', '-q', '--hard', 'HEAD@{1}'], { okStatus: [128] });
  t.is(status, 128);
});

test.serial('xet.onMissing=pointer leaves pointers, and says so in one line', async (t) => {
  const { repository, pointers } = await withLostStore(t, { 'xet.onMissing': 'pointer' });
  const { stderr } = await repository.git(['checkout', '-q', '.']);
  t.regex(
    stderr,
    /^git2db-filter: 7 files are left as pointers .*: a\.bin, b\.bin, c\.bin, d\.bin, e\.bin and 2 more\..*\n$/,
  );
  await assertClean(t, repository, pointers);
});

test.serial('xet.skipSmudge and GIT2DB_SKIP_SMUDGE leave pointers and need no store', async (t) => {
  const { repository, pointers } = await withLostStore(t);
  const run = await repository.git(['checkout', '-q', '.'], { env: { GIT2DB_SKIP_SMUDGE: '1' } });
  t.is(run.stderr, '');
  await assertClean(t, repository, pointers);
  for (const [path] of pointers) rmSync(repository.path(path as string));
  await repository.git(['-c', 'xet.skipSmudge=true', 'checkout', '-q', '.']);
  await assertClean(t, repository, pointers);
});

// Pointers of others

function jsonPointer(hash: string, size: number): string {
  return `{"hash":"${hash}","file_size":${size},"sha256":"${'0a'.repeat(32)}"}`;
}

function tomlPointer(hash: string, size: number): string {
  return `# xet version 0\nfilesize = ${size}\nhash = '${hash}'\n`;
}

/** Commits foreign pointers to content that is in the store; returns the tree as it is when smudged. */
async function commitForeign(repository: XetRepository, paths: readonly string[]): Promise<Tree> {
  const tree: (readonly [string, Buffer])[] = [];
  for (const [i, path] of paths.entries()) {
    const content = randomBytes(i, 40_000 + i);
    const own = await repository.text(['hash-object', '-w', '--path=x.bin', '--stdin'], { input: content });
    const pointer = JSON.parse((await repository.git(['cat-file', 'blob', own])).stdout) as { hash: string };
    const text = (i % 2 === 0 ? jsonPointer : tomlPointer)(pointer.hash, content.length);
    const oid = await repository.text(['hash-object', '-w', '--stdin'], { input: text });
    await repository.git(['update-index', '-z', '--add', '--index-info'], {
      input: `100644 ${oid} 0\t${path}\0`,
    });
    tree.push([path, content]);
  }
  await repository.git(['commit', '-q', '-m', 'foreign']);
  return tree;
}

const foreign = test.macro({
  async exec(
    t,
    _: string,
    prepare: (repository: XetRepository) => Promise<unknown>,
    paths: readonly string[],
  ) {
    const sandbox = createXetSandbox(t);
    const repository = await sandbox.repository();
    const tree = await commitForeign(repository, paths);
    await prepare(repository);
    await repository.git(['checkout', '-q', '.']);
    await assertClean(t, repository, tree);
    for (const [path] of tree) utimesSync(repository.path(path as string), 1, 1);
    await assertClean(t, repository, tree);
    for (const [path] of tree) utimesSync(repository.path(path as string), 2, 2);
    await repository.git(['add', '-A']);
    t.is(await repository.text(['diff', '--cached', '--name-only']), '');
    await sandbox.git(['clone', '-q', 'repository', 'clone']);
    await assertClean(t, await sandbox.at(sandbox.path('clone')), tree);
    // Other content gets a pointer of ours.
    repository.write(paths[0]!, 'other content');
    await repository.commit('changed');
    t.regex((await repository.git(['cat-file', 'blob', `HEAD:${paths[0]}`])).stdout, POINTER);
    await assertClean(t, repository);
  },
  title: (_, index) => `a repository of foreign pointers (index ${index}) never looks modified`,
});
const FOREIGN_PATHS = ['j.bin', 't.bin', 'sub/j.bin', 'new\nline.bin', 't\tab.bin'];
test.serial(foreign, 'version 2', async () => {}, FOREIGN_PATHS);
test.serial(
  foreign,
  'split',
  (repository) => repository.git(['update-index', '--split-index']),
  FOREIGN_PATHS.slice(0, 3),
);
test.serial(
  foreign,
  'version 4',
  (repository) => repository.git(['update-index', '--index-version', '4']),
  FOREIGN_PATHS,
);

test.serial(
  'a repository of SHA-256 object names is like any other, foreign pointers included',
  async (t) => {
    const sandbox = createXetSandbox(t);
    await sandbox.git(['init', '-q', '--object-format=sha256', 'repository']);
    const repository = await sandbox.at(sandbox.path('repository'));
    repository.write('.gitattributes', '*.bin filter=xet -text\n');
    repository.write('own.bin', randomBytes(9, 30_000));
    await repository.commit('own');
    const tree = [
      ...(await commitForeign(repository, FOREIGN_PATHS)),
      ['own.bin', randomBytes(9, 30_000)] as const,
    ];
    await repository.git(['checkout', '-q', '.']);
    for (const [path] of tree) utimesSync(repository.path(path as string), 1, 1);
    await assertClean(t, repository, tree);
  },
);

test.serial('an LFS pointer under filter=xet passes both ways as it is', async (t) => {
  const repository = await createXetSandbox(t).repository();
  const lfs = `version https://git-lfs.github.com/spec/v1\noid sha256:${'ab'.repeat(32)}\nsize 12345\n`;
  repository.write('l.bin', lfs);
  await repository.commit('lfs');
  t.is((await repository.git(['cat-file', 'blob', ':l.bin'])).stdout, lfs);
  rmSync(repository.path('l.bin'));
  const { stderr } = await repository.git(['checkout', '-q', '.']);
  t.is(stderr, '');
  await assertClean(t, repository, [['l.bin', lfs]]);
});

test.serial('a store in a directory of any name works: long, with blanks, not ASCII', async (t) => {
  const sandbox = createXetSandbox(t);
  const directory = sandbox.path('gr\u00f6\u00dfer als 108 Bytes ', 'x'.repeat(120), '\u{1f4be} "store"');
  mkdirSync(directory, { recursive: true });
  const repository = await sandbox.repository();
  await repository.git(['config', 'xet.store', join(directory, 'xet')]);
  const tree: Tree = [['a.bin', randomBytes(1, 200_000)]];
  writeTree(repository, tree);
  await repository.commit('a');
  rmSync(repository.path('a.bin'));
  await repository.git(['checkout', '-q', '.']);
  await assertClean(t, repository, tree);
  assertNothingIncoming(t, join(directory, 'xet'));
  t.false(existsSync(repository.store));
});

test.serial('files of one mode bit or another share their content', async (t) => {
  const repository = await createXetSandbox(t).repository();
  writeTree(repository, [
    ['a.bin', randomBytes(1, 10_000)],
    ['b.bin', randomBytes(1, 10_000)],
  ]);
  chmodSync(repository.path('b.bin'), 0o755);
  await repository.commit('both');
  const [a, b] = (await repository.text(['ls-tree', 'HEAD', 'a.bin', 'b.bin'])).split('\n');
  t.is(a?.slice(7, 52), b?.slice(7, 52));
  await assertClean(t, repository);
});
