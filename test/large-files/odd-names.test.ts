/** Names that are no plain text: what people and programs are told of them. */
import { existsSync, mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { EXIT_CODES } from '../../src/exit-codes.ts';
import { withWholePaths } from '../../src/git/listed-paths.ts';
import { reachableBlobs } from '../../src/git/refs.ts';
import { repositoryAt } from '../../src/git/repository.ts';
import { createSandbox, isolateProcess } from '../helpers/git-sandbox.ts';
import { createLargeFileSandbox, noise } from './repositories.ts';

isolateProcess();

interface NamedFile {
  readonly path: string;
  readonly pathBytes?: string;
}

function bytesOf({ path, pathBytes }: NamedFile): string {
  return pathBytes === undefined
    ? Buffer.from(path).toString('latin1')
    : Buffer.from(pathBytes, 'base64').toString('latin1');
}

const NAMES = ['a', 'a\nb.bin', 'd\n1/x\ny.bin', 'd\n1/z.bin', 'd/x.bin', '\xff.bin', '\xfe.bin', '\nc.bin'];

test('names with newlines and without UTF-8 are whole in what push, fetch, evict, du and the others tell', async (t) => {
  const sandbox = createLargeFileSandbox(t);
  await sandbox.git(['init', '-q', '--bare', 'hub']);
  await sandbox.init('a');
  sandbox.write('a/.gitattributes', '* filter=xet -text\n.gitattributes !filter\n');
  for (const [i, name] of NAMES.entries()) {
    const file = Buffer.concat([Buffer.from(`${sandbox.path('a')}/`), Buffer.from(name, 'latin1')]);
    mkdirSync(file.subarray(0, file.lastIndexOf('/')), { recursive: true });
    writeFileSync(file, noise(1000, i + 1));
  }
  await sandbox.commitAll('a');
  // Those that only the history has.
  await sandbox.git(['rm', '-q', '-r', 'd', 'd\n1'], { cwd: 'a' });
  await sandbox.commitAll('a');
  await sandbox.git(['remote', 'add', 'origin', '../hub'], { cwd: 'a' });
  const filesOf = async (args: readonly string[], key = 'files', okStatus = 0) => {
    const { stdout, stderr, status } = await sandbox.xet('a', [...args, '--json']);
    t.is(status, okStatus, stderr);
    const document = JSON.parse(stdout);
    const files: readonly NamedFile[] = Array.isArray(document) ? document : document[key];
    return files.map(bytesOf).sort();
  };
  const all = [...NAMES].sort();
  t.deepEqual(await filesOf(['push', '--dry-run', '--all', 'origin']), all);
  t.deepEqual(await filesOf(['push', '--all', 'origin']), all);
  t.deepEqual(await filesOf(['fetch', '--all', '--dry-run']), all);
  t.deepEqual(await filesOf(['fetch', '--all', '--dry-run', '--include', 'y.bin', '--include', 'x?y.bin']), [
    'd\n1/x\ny.bin',
  ]);
  // The same content under a name that is not asked for.
  writeFileSync(sandbox.path('a/A copy'), noise(1000, 1));
  await sandbox.git(['add', '.'], { cwd: 'a' });
  t.deepEqual(await filesOf(['fetch', '--dry-run', '--include', 'a']), ['a']);
  await sandbox.git(['rm', '-q', '-f', 'A copy'], { cwd: 'a' });
  t.deepEqual(await filesOf(['du'], 'largest'), all);
  t.deepEqual(await filesOf(['evict', '--dry-run']), all);
  const staged = all.filter((name) => !name.startsWith('d'));
  t.deepEqual(await filesOf(['ls-files']), staged);
  t.deepEqual(await filesOf(['status']), staged);

  const shown = (await sandbox.xet('a', ['evict', '--dry-run'])).stdout.split('\n');
  for (const name of ['"a\\nb.bin"', '"d\\n1/x\\ny.bin"', '"\\377.bin"', '"\\nc.bin"'])
    t.true(shown.some((line) => line.includes(`  ${name}  (`)));
});

test('a name is whole by the tree that has it, by an index, or by the commit that brought it', async (t) => {
  const sandbox = createSandbox(t);
  await sandbox.git(['init', '-q', '.']);
  const names = ['p\nq', 'p', 'dir/p\nq', 'dir\nx/p', 'dir/deep/one', 'dir/two', 'zz'];
  for (const [i, name] of names.entries()) sandbox.write(name, `${i}`);
  await sandbox.git(['add', '.']);
  await sandbox.git(['commit', '-q', '-m', 'one']);
  await sandbox.git(['rm', '-q', '-r', '.']);
  sandbox.write('staged\nonly', 'staged');
  await sandbox.git(['add', '.']);
  await sandbox.git(['commit', '-q', '--allow-empty', '-m', 'two']);
  sandbox.write('next\nname', 'next');
  await sandbox.git(['add', '.']);
  const repository = repositoryAt(join(sandbox.path('.')))!;
  const blobs = [];
  for await (const blob of reachableBlobs(repository, { maxSize: 100 })) blobs.push(blob);
  const whole = await withWholePaths(repository, blobs);
  t.deepEqual(
    whole.map(({ path }) => path.toString()).sort(),
    [...names, 'staged\nonly', 'next\nname'].sort(),
  );
  // Those whose names are whole need no search: their tree proves it.
  const proven = blobs.filter(
    ({ path, tree }) => tree !== undefined && /^(?:zz|dir\/)/.test(path.toString()),
  );
  t.is(proven.length, 4);
  t.deepEqual(await withWholePaths(repository, []), []);
});

test('xet.remote is the name of a remote, or an address that cannot be taken for one', async (t) => {
  const sandbox = createLargeFileSandbox(t);
  await sandbox.git(['init', '-q', '--bare', 'hub']);
  await sandbox.init('a');
  sandbox.write('a/one.bin', noise(1000, 1));
  await sandbox.commitAll('a');
  await sandbox.git(['remote', 'add', 'origin', '../hub'], { cwd: 'a' });
  const push = async (remote: string) => {
    await sandbox.git(['config', 'xet.remote', remote], { cwd: 'a' });
    return await sandbox.xet('a', ['push']);
  };
  const { status, stderr } = await push('orgin');
  t.is(status, EXIT_CODES.URL_INVALID);
  t.is(
    stderr,
    'git2db: xet.remote is "orgin", and no git remote has this name (known: origin): ' +
      'correct it, or write the path of a directory with ./ before\n',
  );
  t.false(existsSync(sandbox.path('a/orgin')));
  t.regex((await sandbox.xet('a', ['doctor'])).stdout, /xet\.remote is "orgin"/);
  t.is((await push('origin')).status, 0);
  t.true(existsSync(sandbox.path('hub/xet/format')));
  for (const [word, place] of [
    ['./orgin', 'a/orgin'],
    ['../orgin', 'orgin'],
  ] as const) {
    t.is((await push(word)).status, 0);
    t.true(existsSync(sandbox.path(place, 'format')));
  }
});

test('a push by hand serves all URLs of a remote, as the hook does, and says which it could not', async (t) => {
  const sandbox = createLargeFileSandbox(t);
  for (const name of ['one', 'two']) await sandbox.git(['init', '-q', '--bare', name]);
  await sandbox.init('a');
  sandbox.write('a/one.bin', noise(1000, 1));
  await sandbox.commitAll('a');
  await sandbox.git(['remote', 'add', 'origin', '../one'], { cwd: 'a' });
  for (const url of ['../one', '../two'])
    await sandbox.git(['remote', 'set-url', '--add', '--push', 'origin', url], { cwd: 'a' });
  const dry = JSON.parse((await sandbox.xet('a', ['push', '--dry-run', '--json'])).stdout);
  t.deepEqual(dry.place.split(', '), [sandbox.path('one/xet'), sandbox.path('two/xet')]);
  t.is(dry.files[0].outcome, 'missing');
  t.is((await sandbox.xet('a', ['push'])).status, 0);
  for (const name of ['one', 'two']) {
    t.true(existsSync(sandbox.path(name, 'xet/format')));
    t.is((await sandbox.xet('a', ['push', '--dry-run', sandbox.path(name)])).stdout, '');
  }
  rmSync(sandbox.path('one'), { recursive: true });
  rmSync(sandbox.path('two/xet'), { recursive: true });
  const { status, stderr } = await sandbox.xet('a', ['push']);
  t.is(status, EXIT_CODES.REMOTE_MISSING, stderr);
  t.regex(stderr, /1 push URL of the remote origin could not be served, of 2: \.\.\/one: /);
  t.true(existsSync(sandbox.path('two/xet/format')));
});
