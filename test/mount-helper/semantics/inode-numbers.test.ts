/** Numbers by which programs know a file again: through changes, over copy-up and over remounts. */
import type { TreeEntry } from '../helpers/driver.ts';
import { bytes } from '../helpers/driver.ts';
import { hardLink, symlink } from '../helpers/layers.ts';
import type { Subject } from '../helpers/subjects.ts';
import { mountTest } from '../helpers/suite.ts';

const LOWERS = [
  {
    'd/a': 'a',
    'd/b': 'b',
    'd/link': symlink('a'),
    one: 'x',
    two: hardLink('one'),
    'deep/e/r': 'x',
    'moved/in/x': 'x',
  },
  { 'd/c': 'c', bottom: 'x', 'deep/e/f': 'x' },
];
const UPPER = { own: 'x', own2: hardLink('own'), 'd/up': 'x' };

/** Kernel overlayfs keeps a copied-up file's number by an attribute that a user namespace has no right to. */
const keepsNumbers = ({ backend }: Subject) => backend !== 'userns';

function numbers(tree: readonly TreeEntry[]): Record<string, string> {
  return Object.fromEntries(tree.map(({ path, dev, ino }) => [path, `${dev}:${ino}`]));
}

function times(tree: readonly TreeEntry[]): Record<string, string> {
  return Object.fromEntries(tree.map(({ path, mtime }) => [path, mtime]));
}

mountTest('each file has one number, and no two files the same', async (t, create) => {
  const sandbox = await create({ lowers: LOWERS, upper: UPPER });
  await sandbox.mount();
  const found = numbers(await sandbox.tree());
  t.is(found.one, found.two);
  t.is(found.own, found.own2);
  const { two: _two, own2: _own2, ...rest } = found;
  t.is(new Set(Object.values(rest)).size, Object.keys(rest).length);
});

mountTest(
  'numbers stay when files are copied up, and over remounts',
  async (t, create, subject) => {
    const sandbox = await create({ lowers: LOWERS, upper: UPPER });
    await sandbox.mount();
    const { calls, path } = { calls: sandbox.calls, path: sandbox.path.bind(sandbox) };
    // Nobody but root can note down on a symbolic link where it came from.
    const left = ['one', 'two', ...(subject.isRoot ? [] : ['d/link'])];
    const inodes = (tree: readonly TreeEntry[]) =>
      Object.fromEntries(tree.filter(({ path }) => !left.includes(path)).map(({ path, ino }) => [path, ino]));
    const before = inodes(await sandbox.tree());
    for (const name of ['d/a', 'd/c', 'bottom', 'deep/e/f', 'd', 'own']) await calls.chmod(path(name), 0o700);
    await calls.utimens(path('d/link'), 'now', 'now');
    await calls.writeFile(path('d/b'), 'changed');
    t.deepEqual(inodes(await sandbox.tree()), before);
    await sandbox.remount();
    t.deepEqual(inodes(await sandbox.tree()), before);
    await sandbox.calls.rename(path('d/a'), path('deep/a'));
    await sandbox.calls.rename(path('bottom'), path('top'));
    await sandbox.calls.rename(path('moved'), path('d/moved'));
    const expected = {
      ...Object.fromEntries(
        Object.entries(before).map(([name, ino]) => [
          name === 'd/a' ? 'deep/a' : name === 'bottom' ? 'top' : name.replace(/^moved/, 'd/moved'),
          ino,
        ]),
      ),
    };
    t.deepEqual(inodes(await sandbox.tree()), expected);
    await sandbox.remount();
    t.deepEqual(inodes(await sandbox.tree()), expected);
  },
  (subject) => keepsNumbers(subject) && subject.backend !== 'fuse-overlayfs',
);

mountTest('numbers of what is not changed stay over remounts', async (t, create) => {
  const sandbox = await create({ lowers: LOWERS, upper: UPPER });
  await sandbox.mount();
  const inodes = (tree: readonly TreeEntry[]) => tree.map(({ path, ino }) => [path, ino]);
  const before = inodes(await sandbox.tree());
  await sandbox.remount();
  t.deepEqual(inodes(await sandbox.tree()), before);
});

mountTest('a time that was seen before a remount is the one after it', async (t, create) => {
  const sandbox = await create({ lowers: LOWERS, upper: UPPER });
  await sandbox.mount();
  const { calls, path } = { calls: sandbox.calls, path: sandbox.path.bind(sandbox) };
  const fd = await calls.open(path('d/a'), 'RDWR|APPEND');
  for (let i = 0; i < 5; i++) await calls.write(fd, 'more');
  const map = await calls.mmap(fd, 4, 'SHARED', true);
  await calls.mapWrite(map, 0, 'map!');
  await calls.mapSync(map);
  await calls.munmap(map);
  await calls.close(fd);
  await calls.writeFile(path('new'), 'x');
  await calls.truncate(path('bottom'), 0);
  await calls.utimens(path('d/c'), '-1500000001', '-1500000001');
  await calls.mkdir(path('deep/made'));
  await calls.unlink(path('d/b'));
  await calls.setxattr(path('own'), 'user.x', '1');
  const before = times(await sandbox.tree());
  await sandbox.remount();
  t.deepEqual(times(await sandbox.tree()), before);
});

mountTest(
  "layers on several file systems do not get into each other's way",
  async (t, create, subject) => {
    const sandbox = await create({ lowers: [{}, LOWERS[1]!], upper: UPPER });
    const [lower] = sandbox.lowers as [string];
    await sandbox.mountTmpfs(lower, 'size=8m');
    await sandbox.fill(lower, LOWERS[0]!);
    await sandbox.mount();
    const { calls, path } = { calls: sandbox.calls, path: sandbox.path.bind(sandbox) };
    const tree = await sandbox.tree();
    const found = numbers(tree);
    const { two, own2, ...rest } = found;
    t.is(found.one, two);
    t.is(found.own, own2);
    t.is(new Set(Object.values(rest)).size, Object.keys(rest).length);
    if (subject.backend === 'fuse') {
      t.is(new Set(tree.map(({ dev }) => dev)).size, 1);
      await calls.chmod(path('d/a'), 0o600);
      await calls.rename(path('one'), path('d/one'));
      t.is((await calls.stat(path('d/a'))).ino, tree.find((entry) => entry.path === 'd/a')!.ino);
      await sandbox.remount();
      t.is((await sandbox.calls.stat(path('d/a'))).ino, tree.find((entry) => entry.path === 'd/a')!.ino);
    }
  },
  () => process.getuid!() === 0,
);

mountTest(
  'git sees a tree as unchanged after a remount and after other files were copied up',
  async (t, create) => {
    const sandbox = await create();
    await sandbox.mount();
    const env = { GIT_CONFIG_GLOBAL: '/dev/null', GIT_CONFIG_NOSYSTEM: '1' };
    const git = async (...args: string[]) => {
      const run = await sandbox.calls.run(
        ['git', '-c', 'user.name=x', '-c', 'user.email=x@y', ...args],
        bytes(sandbox.merged),
        env,
      );
      t.is(run.status, 0, run.stderr);
      return run.stdout;
    };
    await git('init', '-q');
    for (let i = 0; i < 20; i++) await sandbox.calls.writeFile(sandbox.path(`f${i}`), `content ${i}`);
    await git('add', '.');
    await git('commit', '-qm', 'x');
    // A racy index entry would be read again for another reason.
    for (let i = 0; i < 20; i++)
      await sandbox.calls.utimens(sandbox.path(`f${i}`), '1000000000', '1000000000');
    await git('update-index', '--refresh');
    await sandbox.remount();
    t.is(await git('diff-files'), '');
  },
);
