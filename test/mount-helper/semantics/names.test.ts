/** Making, removing and renaming: what is left in the upper, and what is seen. */
import { directory, file, hardLink, symlink, whiteout } from '../helpers/layers.ts';
import { type Case, fails, OverlaySuite } from '../helpers/suite.ts';

const suite = new OverlaySuite();
const NOREPLACE = 1;
const EXCHANGE = 2;
const WHITEOUT = 4;

async function isWhiteout({ host, inUpper }: Case, name: string): Promise<boolean> {
  const { mode, rdev } = await host.lstat(inUpper(name));
  return (mode & 0o170000) === 0o020000 && rdev === 0;
}

suite.test(
  'a removed lower file leaves a whiteout, a removed upper file nothing',
  { lower: { low: 'x', both: 'x', 'd/low': 'x' }, upper: { both: 'y', own: 'y' } },
  async (t, c) => {
    const { calls, at, inUpper, host } = c;
    for (const name of ['low', 'both', 'own', 'd/low']) {
      await calls.unlink(at(name));
      await fails(t, 'ENOENT', calls.lstat(at(name)), name);
      await fails(t, 'ENOENT', calls.unlink(at(name)), name);
    }
    t.true(await isWhiteout(c, 'low'));
    t.true(await isWhiteout(c, 'both'));
    t.true(await isWhiteout(c, 'd/low'));
    t.false(await host.exists(inUpper('own')));
    t.deepEqual(await calls.list(at()), ['d']);
    t.deepEqual(await calls.list(at('d')), []);
  },
);

suite.test(
  'a file made where one was removed is new',
  { lower: { f: file('old', { mode: 0o600, xattrs: { 'user.x': '1' } }) } },
  async (t, { calls, at, host, inUpper }) => {
    await calls.unlink(at('f'));
    await calls.writeFile(at('f'), 'new', 'WRONLY|CREAT|EXCL', 0o640);
    t.is(await calls.readFile(at('f')), 'new');
    t.is((await calls.stat(at('f'))).mode & 0o777, 0o640);
    t.deepEqual(await calls.listxattr(at('f')), []);
    t.is(await host.readFile(inUpper('f')), 'new');
    await calls.unlink(at('f'));
    await calls.symlink('target', at('f'));
    t.is(await calls.readlink(at('f')), 'target');
    await calls.unlink(at('f'));
    await calls.mknod(at('f'), 0o10644);
    await calls.unlink(at('f'));
    await calls.writeFile(at('g'), 'g');
    await calls.link(at('g'), at('f'));
    t.is((await calls.stat(at('f'))).nlink, 2);
    await calls.unlink(at('f'));
    await calls.rename(at('g'), at('f'));
    t.is(await calls.readFile(at('f')), 'g');
  },
);

suite.test(
  'a directory made where something was removed is empty',
  { lower: { f: 'x', 'd/in': 'x', 'd/sub/deep': 'x' }, bottom: { 'f/under': 'x', 'd/bottom': 'x' } },
  async (t, { calls, at, host, inUpper, subject }) => {
    await calls.unlink(at('f'));
    await calls.mkdir(at('f'));
    t.deepEqual(await calls.list(at('f')), []);
    for (const name of ['d/in', 'd/bottom', 'd/sub/deep']) await calls.unlink(at(name));
    await calls.rmdir(at('d/sub'));
    await calls.rmdir(at('d'));
    await calls.mkdir(at('d'), 0o710);
    t.deepEqual(await calls.list(at('d')), []);
    t.is((await calls.stat(at('d'))).mode & 0o777, 0o710);
    await fails(t, 'ENOENT', calls.stat(at('d/in')));
    t.is(await host.getxattr(inUpper('d'), `${subject.namespace}.opaque`), 'y');
    await calls.writeFile(at('d/in'), 'new');
    t.is(await calls.readFile(at('d/in')), 'new');
    await calls.mkdir(at('d/sub'));
    t.deepEqual(await calls.list(at('d/sub')), []);
  },
);

suite.test(
  'a directory can be removed when nothing is seen in it',
  {
    lower: { 'd/a': 'x', 'hidden/a': 'x', 'mixed/a': 'x', 'empty-top': directory() },
    bottom: { 'd/b': 'x', 'empty-top/b': 'x' },
    upper: { 'hidden/a': whiteout(), 'mixed/a': whiteout(), 'mixed/own': 'x' },
  },
  async (t, c) => {
    const { calls, at } = c;
    await fails(t, 'ENOTEMPTY', calls.rmdir(at('d')));
    await fails(t, 'ENOTEMPTY', calls.rmdir(at('empty-top')));
    await fails(t, 'ENOTEMPTY', calls.rmdir(at('mixed')));
    await calls.unlink(at('d/a'));
    await fails(t, 'ENOTEMPTY', calls.rmdir(at('d')));
    await calls.unlink(at('d/b'));
    await calls.rmdir(at('d'));
    await calls.rmdir(at('hidden'));
    await calls.unlink(at('mixed/own'));
    await calls.rmdir(at('mixed'));
    t.true(await isWhiteout(c, 'd'));
    t.true(await isWhiteout(c, 'hidden'));
    t.deepEqual(await calls.list(at()), ['empty-top']);
  },
);

suite.test(
  'whole trees can be removed and made again',
  { lower: { 't/a/b/c': 'x', 't/a/f': 'x', 't/link': symlink('a') }, bottom: { 't/a/b/d': 'y', 't/z': 'z' } },
  async (t, { calls, at }) => {
    for (let round = 0; round < 3; round++) {
      t.is((await calls.run(['rm', '-r', at('t')])).stderr, '');
      await fails(t, 'ENOENT', calls.stat(at('t')));
      await calls.run(['mkdir', '-p', at('t/a/b')]);
      t.deepEqual(await calls.list(at('t/a')), ['b']);
      await calls.writeFile(at('t/a/b/c'), String(round));
      t.deepEqual(await calls.list(at('t/a/b')), ['c']);
    }
  },
);

suite.test(
  'a lower file is renamed with all that belongs to it',
  { lower: { f: file('content', { mode: 0o751, xattrs: { 'user.x': '1' } }), 'd/x': '' } },
  async (t, c) => {
    const { calls, at } = c;
    const before = await calls.stat(at('f'));
    await calls.rename(at('f'), at('d/g'));
    t.true(await isWhiteout(c, 'f'));
    await fails(t, 'ENOENT', calls.stat(at('f')));
    const after = await calls.stat(at('d/g'));
    t.is(after.mtime, before.mtime);
    t.is(after.mode, before.mode);
    t.is(await calls.readFile(at('d/g')), 'content');
    t.is(await calls.getxattr(at('d/g'), 'user.x'), '1');
    await calls.rename(at('d/g'), at('f'));
    t.is(await calls.readFile(at('f')), 'content');
    t.deepEqual(await calls.list(at('d')), ['x']);
  },
);

suite.test(
  'a renamed file replaces what was there',
  { lower: { a: 'a', b: 'b', c: 'c', 'd/e': 'e' }, upper: { own: 'own', b: 'upper b' } },
  async (t, c) => {
    const { calls, at, host, inUpper } = c;
    await calls.rename(at('own'), at('a'));
    t.is(await calls.readFile(at('a')), 'own');
    t.false(await host.exists(inUpper('own')));
    await calls.rename(at('c'), at('b'));
    t.is(await calls.readFile(at('b')), 'c');
    t.true(await isWhiteout(c, 'c'));
    await calls.rename(at('d/e'), at('c'));
    t.is(await calls.readFile(at('c')), 'e');
    t.deepEqual(await calls.list(at()), ['a', 'b', 'c', 'd']);
  },
);

suite.test(
  'a rename between two names of one file does nothing',
  { upper: { a: 'x', b: hardLink('a') } },
  async (t, { calls, at }) => {
    await calls.rename(at('a'), at('b'));
    t.deepEqual(await calls.list(at()), ['a', 'b']);
    await calls.rename(at('a'), at('a'));
    t.is(await calls.readFile(at('a')), 'x');
  },
);

suite.test(
  'a directory of the upper can be renamed, and hides what was there before',
  { lower: { 'old/low': 'x', 'gone/x': 'x' }, upper: { 'own/a': 'a', 'own/sub/b': 'b' } },
  async (t, { calls, at }) => {
    await calls.rename(at('own'), at('moved'));
    t.deepEqual(await calls.list(at('moved')), ['a', 'sub']);
    await calls.unlink(at('gone/x'));
    await calls.rmdir(at('gone'));
    await calls.rename(at('moved'), at('gone'));
    t.deepEqual(await calls.list(at('gone')), ['a', 'sub']);
    t.is(await calls.readFile(at('gone/sub/b')), 'b');
    await calls.unlink(at('old/low'));
    await calls.rename(at('gone'), at('old'));
    t.deepEqual(await calls.list(at('old')), ['a', 'sub']);
    t.deepEqual(await calls.list(at()), ['old']);
  },
);

const MOVED = {
  lower: { 'd/a': 'top', 'd/sub/x': 'x', 'd/sub/gone': 'x', 'other/x': 'x' },
  bottom: { 'd/b': 'bottom', 'd/sub/y': 'y' },
};

suite.test(
  'a directory of the lower layers can be renamed',
  { ...MOVED, on: ({ movesLowerDirectories }) => movesLowerDirectories },
  async (t, { calls, at }) => {
    await calls.unlink(at('d/sub/gone'));
    const before = await calls.stat(at('d'));
    await calls.rename(at('d'), at('e'));
    await fails(t, 'ENOENT', calls.stat(at('d')));
    t.deepEqual(await calls.list(at('e')), ['a', 'b', 'sub']);
    t.deepEqual(await calls.list(at('e/sub')), ['x', 'y']);
    t.is(await calls.readFile(at('e/b')), 'bottom');
    t.is((await calls.stat(at('e'))).mtime, before.mtime);
    await calls.writeFile(at('e/sub/y'), 'changed');
    await calls.writeFile(at('e/sub/new'), 'new');
    await calls.rename(at('e/sub'), at('other/sub'));
    await calls.rename(at('other'), at('e/inner'));
    t.deepEqual(await calls.list(at('e/inner/sub')), ['new', 'x', 'y']);
    t.is(await calls.readFile(at('e/inner/sub/y')), 'changed');
    await calls.mkdir(at('d'));
    t.deepEqual(await calls.list(at('d')), []);
    await calls.mkdir(at('e/sub'));
    t.deepEqual(await calls.list(at('e/sub')), []);
    t.deepEqual(await calls.list(at()), ['d', 'e']);
  },
);

suite.test(
  'a renamed directory of the lower layers is removed only when nothing is seen in it',
  { lower: { 'd/sub/f': 'f', 'e/x': 'x' }, on: ({ movesLowerDirectories }) => movesLowerDirectories },
  async (t, { calls, at }) => {
    await calls.rename(at('d'), at('moved'));
    await fails(t, 'ENOTEMPTY', calls.rmdir(at('moved')));
    await calls.rename(at('moved/sub'), at('e/sub'));
    await fails(t, 'ENOTEMPTY', calls.rmdir(at('e/sub')));
    await calls.mkdir(at('fresh'));
    await fails(t, ['ENOTEMPTY', 'EEXIST'], calls.rename(at('fresh'), at('e/sub')));
    t.is(await calls.readFile(at('e/sub/f')), 'f');
    await calls.unlink(at('e/sub/f'));
    await calls.rename(at('fresh'), at('e/sub'));
    await calls.rmdir(at('e/sub'));
    await calls.rmdir(at('moved'));
    t.deepEqual(await calls.list(at()), ['e']);
  },
);

suite.test(
  'a directory of the lower layers that cannot be renamed stays as it is',
  { ...MOVED, on: ({ movesLowerDirectories }) => !movesLowerDirectories },
  async (t, { calls, at }) => {
    await fails(t, 'EXDEV', calls.rename(at('d'), at('e')));
    t.deepEqual(await calls.list(at('d')), ['a', 'b', 'sub']);
    t.is((await calls.run(['mv', at('d'), at('e')])).status, 0);
    t.deepEqual(await calls.list(at('e')), ['a', 'b', 'sub']);
    t.deepEqual(await calls.list(at()), ['e', 'other']);
  },
);

suite.test(
  'a renamed directory replaces an empty one, and only that',
  {
    lower: { 'full/x': 'x', 'emptied/x': 'x', file: 'x' },
    upper: { 'own/a': 'a', 'own2/b': 'b' },
  },
  async (t, { calls, at }) => {
    await fails(t, ['ENOTEMPTY', 'EEXIST'], calls.rename(at('own'), at('full')));
    await fails(t, 'ENOTDIR', calls.rename(at('own'), at('file')));
    await fails(t, 'EISDIR', calls.rename(at('file'), at('own')));
    await fails(t, 'EINVAL', calls.rename(at('own'), at('own/inside')));
    await fails(t, 'ENOTEMPTY', calls.rename(at('own/a'), at('own')));
    await calls.unlink(at('emptied/x'));
    await calls.rename(at('own'), at('emptied'));
    t.deepEqual(await calls.list(at('emptied')), ['a']);
    await calls.mkdir(at('fresh'));
    await calls.rename(at('own2'), at('fresh'));
    t.deepEqual(await calls.list(at('fresh')), ['b']);
  },
);

suite.test(
  'RENAME_NOREPLACE never replaces',
  { lower: { a: 'a', b: 'b' }, upper: { own: 'own' } },
  async (t, c) => {
    const { calls, at } = c;
    await fails(t, 'EEXIST', calls.renameat2(at('a'), at('b'), NOREPLACE));
    await fails(t, 'EEXIST', calls.renameat2(at('own'), at('b'), NOREPLACE));
    t.is(await calls.readFile(at('b')), 'b');
    await calls.renameat2(at('a'), at('new'), NOREPLACE);
    t.is(await calls.readFile(at('new')), 'a');
    t.true(await isWhiteout(c, 'a'));
    await calls.renameat2(at('own'), at('a'), NOREPLACE);
    t.is(await calls.readFile(at('a')), 'own');
  },
);

suite.test(
  'RENAME_EXCHANGE swaps names of any layers',
  { lower: { a: 'a', b: 'b' }, upper: { own: 'own', 'd/in': 'in' } },
  async (t, { calls, at }) => {
    await calls.renameat2(at('a'), at('b'), EXCHANGE);
    t.is(await calls.readFile(at('a')), 'b');
    t.is(await calls.readFile(at('b')), 'a');
    await calls.renameat2(at('own'), at('b'), EXCHANGE);
    t.is(await calls.readFile(at('own')), 'a');
    await calls.renameat2(at('d'), at('a'), EXCHANGE);
    t.deepEqual(await calls.list(at('a')), ['in']);
    t.is(await calls.readFile(at('d')), 'b');
    await calls.renameat2(at('b'), at('a/in'), EXCHANGE);
    t.is(await calls.readFile(at('a/in')), 'own');
    await fails(t, 'ENOENT', calls.renameat2(at('b'), at('none'), EXCHANGE));
    await fails(t, 'EINVAL', calls.renameat2(at('a'), at('a/in'), EXCHANGE));
    t.deepEqual(await calls.list(at()), ['a', 'b', 'd', 'own']);
  },
);

suite.test(
  'directories of the lower layers can be exchanged',
  { lower: { 'd/a': 'a', 'e/b': 'b' }, on: ({ movesLowerDirectories }) => movesLowerDirectories },
  async (t, { calls, at }) => {
    await calls.renameat2(at('d'), at('e'), EXCHANGE);
    t.deepEqual(await calls.list(at('d')), ['b']);
    t.deepEqual(await calls.list(at('e')), ['a']);
    await calls.writeFile(at('f'), 'f');
    await calls.renameat2(at('f'), at('e'), EXCHANGE);
    t.is(await calls.readFile(at('e')), 'f');
    t.is(await calls.readFile(at('f/a')), 'a');
  },
);

suite.test('nobody makes whiteouts by hand', { lower: { a: 'a' } }, async (t, { calls, at, subject }) => {
  await fails(t, 'EINVAL', calls.renameat2(at('a'), at('b'), WHITEOUT));
  t.is(await calls.readFile(at('a')), 'a');
  if (subject.isRoot) await fails(t, 'EPERM', calls.mknod(at('w'), 0o020000, 0, 0));
});

suite.test(
  'links are made to files of every layer, and to nothing else',
  { lower: { f: 'x', 'd/x': '', link: symlink('f') }, upper: { own: 'own' } },
  async (t, { calls, at }) => {
    await fails(t, 'EEXIST', calls.link(at('f'), at('own')));
    await fails(t, 'EPERM', calls.link(at('d'), at('d2')));
    await fails(t, 'ENOENT', calls.link(at('none'), at('g')));
    await calls.link(at('link'), at('link2'));
    t.is(await calls.readlink(at('link2')), 'f');
    await calls.link(at('own'), at('d/own2'));
    t.is((await calls.stat(at('own'))).nlink, 2);
    await calls.unlink(at('own'));
    t.is((await calls.stat(at('d/own2'))).nlink, 1);
    t.is(await calls.readFile(at('d/own2')), 'own');
  },
);

suite.test(
  'a directory shows by its times that names in it have changed',
  { lower: { 'd/f': 'x', 'd/g': 'x', 'e/f': 'x', 'd/sub/x': '' } },
  async (t, { calls, at }) => {
    const acts: [string, () => Promise<unknown>][] = [
      ['create', () => calls.writeFile(at('d/new'), '')],
      ['unlink', () => calls.unlink(at('d/f'))],
      ['mkdir', () => calls.mkdir(at('d/m'))],
      ['rmdir', () => calls.rmdir(at('d/m'))],
      ['symlink', () => calls.symlink('x', at('d/s'))],
      ['link', () => calls.link(at('d/g'), at('d/l'))],
      ['rename', () => calls.rename(at('d/g'), at('d/h'))],
      ['rename out', () => calls.rename(at('d/h'), at('e/h'))],
      ['rename in', () => calls.rename(at('e/f'), at('d/i'))],
    ];
    for (const [what, act] of acts) {
      await calls.utimens(at('d'), '1000000000', '1000000000');
      const { ctime } = await calls.stat(at('d'));
      await act();
      const after = await calls.stat(at('d'));
      t.not(after.mtime, '1000000000', what);
      t.true(BigInt(after.ctime) >= BigInt(ctime), what);
    }
  },
);

suite.test(
  'symbolic links lead anywhere, and are never followed by the overlay itself',
  {
    lower: { out: symlink('/proc/self/status'), loop: symlink('loop'), dir: symlink('/etc') },
    bottom: { 'dir/hidden': 'x' },
  },
  async (t, { calls, at }) => {
    t.regex(await calls.readFile(at('out')), /^Name:/);
    await fails(t, 'ELOOP', calls.stat(at('loop')));
    await calls.unlink(at('dir'));
    t.deepEqual(await calls.list(at()), ['loop', 'out']);
    await calls.mkdir(at('dir'));
    t.deepEqual(await calls.list(at('dir')), []);
    const long = 'x'.repeat(4095);
    await calls.symlink(long, at('long'));
    t.is(await calls.readlink(at('long')), long);
    t.is((await calls.lstat(at('long'))).size, 4095);
  },
);
