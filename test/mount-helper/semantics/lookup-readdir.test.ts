/** What names there are, and what a directory lists. */
import { bytes } from '../helpers/driver.ts';
import { directory, fifo, file, opaque, symlink, whiteout } from '../helpers/layers.ts';
import { hostCalls } from '../helpers/mount-sandbox.ts';
import { fails, mountTest, OverlaySuite } from '../helpers/suite.ts';

const suite = new OverlaySuite();

suite.test(
  'a directory shows the names of all layers, each once and from the topmost',
  {
    lower: { 'd/a': 'a', 'd/both': 'top' },
    bottom: { 'd/b': 'b', 'd/both': 'bottom', 'd/all': 'bottom' },
    upper: { 'd/c': 'c', 'd/all': 'upper' },
  },
  async (t, { calls, at }) => {
    t.deepEqual(await calls.list(at('d')), ['a', 'all', 'b', 'both', 'c']);
    t.is(await calls.readFile(at('d/both')), 'top');
    t.is(await calls.readFile(at('d/all')), 'upper');
    t.is(await calls.readFile(at('d/b')), 'b');
  },
);

suite.test(
  'a file hides the directories of its name below it, and a directory the files',
  {
    lower: { file: 'top', 'dir/in': 'top', 'link/in': 'never seen' },
    bottom: { 'file/in': 'bottom', dir: 'bottom', 'under/in': 'never seen' },
    upper: { under: 'upper', link: symlink('dir') },
  },
  async (t, { calls, at }) => {
    t.is(await calls.readFile(at('file')), 'top');
    await fails(t, 'ENOTDIR', calls.stat(at('file/in')));
    t.deepEqual(await calls.list(at('dir')), ['in']);
    t.is(await calls.readFile(at('under')), 'upper');
    await fails(t, 'ENOTDIR', calls.stat(at('under/in')));
    t.is(await calls.readlink(at('link')), 'dir');
    t.is(await calls.readFile(at('link/in')), 'top');
  },
);

suite.test(
  'a layer above a file that hides a directory does not bring the directory back',
  { bottom: { 'x/deep': 'hidden' }, lower: { x: 'file' }, upper: { 'x/own': 'seen' } },
  async (t, { calls, at }) => {
    t.deepEqual(await calls.list(at('x')), ['own']);
    await fails(t, 'ENOENT', calls.stat(at('x/deep')));
  },
);

suite.test(
  'a whiteout hides its name and is not seen itself',
  {
    lower: { gone: 'x', 'd/gone': 'x', 'd/stay': 'x', 'd/half': whiteout(), 'tree/in/deep': 'x' },
    bottom: { 'd/half': 'x', 'd/gone': 'y' },
    upper: { gone: whiteout(), 'd/gone': whiteout(), tree: whiteout() },
  },
  async (t, { calls, at }) => {
    t.deepEqual(await calls.list(at()), ['d']);
    t.deepEqual(await calls.list(at('d')), ['stay']);
    for (const name of ['gone', 'd/gone', 'd/half', 'tree', 'tree/in', 'tree/in/deep']) {
      await fails(t, 'ENOENT', calls.lstat(at(name)), name);
      await fails(t, 'ENOENT', calls.open(at(name)), name);
    }
    t.deepEqual((await calls.getdents(at('d'))).map(({ name }) => name).sort(), ['.', '..', 'stay']);
  },
);

suite.test(
  'nothing is seen below an opaque directory',
  {
    lower: ({ namespace }) => ({ 'd/a': 'a', half: opaque(namespace), 'half/b': 'b' }),
    bottom: { 'd/b': 'b', 'half/c': 'c', 'half/sub/x': 'x' },
    upper: ({ namespace }) => ({ d: opaque(namespace), 'd/own': 'own' }),
  },
  async (t, { calls, at, subject }) => {
    t.deepEqual(await calls.list(at('d')), ['own']);
    await fails(t, 'ENOENT', calls.stat(at('d/a')));
    t.deepEqual(await calls.list(at('half')), ['b']);
    await fails(t, 'ENOENT', calls.stat(at('half/sub/x')));
    t.false((await calls.listxattr(at('d'))).some((name) => name.startsWith(subject.namespace)));
    await fails(t, 'ENODATA', calls.getxattr(at('d'), `${subject.namespace}.opaque`));
  },
);

suite.test(
  'a merged directory has the attributes of its topmost part alone',
  {
    lower: { d: directory({ mode: 0o750, xattrs: { 'user.top': '1' } }) },
    bottom: { d: directory({ mode: 0o711, xattrs: { 'user.bottom': '1' } }), 'd/x': 'x' },
  },
  async (t, { calls, at }) => {
    t.is((await calls.stat(at('d'))).mode & 0o7777, 0o750);
    t.deepEqual(await calls.listxattr(at('d')), ['user.top']);
  },
);

const MANY = Array.from({ length: 300 }, (_, i) => `name-${String(i).padStart(4, '0')}`);

function some(step: number, from: number): Record<string, string> {
  return Object.fromEntries(MANY.filter((_, i) => i % step === from).map((name) => [`d/${name}`, '']));
}

const SPREAD = { lower: some(2, 0), bottom: some(3, 0), upper: some(2, 1) };

suite.test('a large directory is listed in pieces of any size', SPREAD, async (t, { calls, at }) => {
  for (const size of [300, 1024, 65536]) {
    const names = (await calls.getdents(at('d'), size)).map(({ name }) => name);
    t.deepEqual(names.sort(), ['.', '..', ...MANY], String(size));
  }
});

suite.test(
  'names that are removed during a scan do not make others be missed',
  SPREAD,
  async (t, { calls, at }) => {
    const stream = await calls.opendir(at('d'));
    const seen: string[] = [];
    for (let name = await calls.readdir(stream); name !== null; name = await calls.readdir(stream)) {
      if (name === '.' || name === '..') continue;
      seen.push(name);
      await calls.unlink(at(`d/${name}`));
    }
    await calls.closedir(stream);
    t.deepEqual(seen.sort(), MANY);
    t.deepEqual(await calls.list(at('d')), []);
    await calls.rmdir(at('d'));
  },
);

suite.test(
  'a scan goes on at a remembered place, and begins anew with what is there',
  SPREAD,
  async (t, { calls, at }) => {
    const stream = await calls.opendir(at('d'));
    for (let i = 0; i < 100; i++) await calls.readdir(stream);
    const place = await calls.telldir(stream);
    const rest = async () => {
      const names: string[] = [];
      for (let name = await calls.readdir(stream); name !== null; name = await calls.readdir(stream))
        names.push(name);
      return names;
    };
    const first = await rest();
    await calls.seekdir(stream, place);
    t.deepEqual(await rest(), first);
    t.is(first.length, MANY.length + 2 - 100);
    await calls.writeFile(at('d/new'), '');
    await calls.unlink(at(`d/${MANY[0]}`));
    await calls.rewinddir(stream);
    const again = await rest();
    t.true(again.includes('new'));
    t.false(again.includes(MANY[0]!));
    t.is(again.length, MANY.length + 2);
    await calls.closedir(stream);
  },
);

const DT = { file: 8, directory: 4, symlink: 10, fifo: 1 };

suite.test(
  'type and inode number in a listing are those of stat',
  {
    lower: {
      'd/file': 'x',
      'd/sub/x': '',
      'd/link': symlink('file'),
      'd/pipe': fifo(),
      'd/up': 'x',
      'd/low/x': '',
    },
    bottom: { 'd/deep': 'x', 'd/sub/y': '' },
    upper: { 'd/own': 'x', 'd/sub/z': '' },
  },
  async (t, { calls, at }) => {
    await calls.chmod(at('d/up'), 0o600);
    await calls.chmod(at('d/low'), 0o700);
    await calls.writeFile(at('d/made'), '');
    const types = Object.fromEntries((await calls.getdents(at('d'))).map(({ name, type }) => [name, type]));
    t.like(types, {
      file: DT.file,
      sub: DT.directory,
      link: DT.symlink,
      pipe: DT.fifo,
      up: DT.file,
      low: DT.directory,
      deep: DT.file,
      own: DT.file,
      made: DT.file,
    });
    for (const { name, ino } of await calls.getdents(at('d'))) {
      if (name !== '..') t.is(ino, (await calls.lstat(at(`d/${name}`))).ino, name);
    }
  },
);

suite.test(
  'the link count of a directory misleads nobody who counts directories by it',
  { lower: { 'd/one/x': '', 'd/two/x': '' }, bottom: { 'd/three/x': '' } },
  async (t, { calls, at }) => {
    t.true([1, 5].includes((await calls.stat(at('d'))).nlink));
    await calls.mkdir(at('d/four'));
    t.true([1, 6].includes((await calls.stat(at('d'))).nlink));
    const found = await calls.run(['find', at('d'), '-type', 'd']);
    t.is(found.stdout.trim().split('\n').length, 5);
  },
);

suite.test('a name that was not there is found once it is made', {}, async (t, { calls, at }) => {
  await fails(t, 'ENOENT', calls.stat(at('later')));
  await calls.writeFile(at('later'), 'x');
  t.is((await calls.stat(at('later'))).size, 1);
  await fails(t, 'ENOENT', calls.stat(at('dir')));
  await calls.mkdir(at('dir'));
  t.deepEqual(await calls.list(at('dir')), []);
  await calls.rename(at('later'), at('dir/moved'));
  await fails(t, 'ENOENT', calls.stat(at('later')));
  t.is(await calls.readFile(at('dir/moved')), 'x');
});

const LONG = 'n'.repeat(255);

suite.test('names have up to 255 bytes', { lower: { [LONG]: 'long' } }, async (t, { calls, at }) => {
  t.is(await calls.readFile(at(LONG)), 'long');
  await calls.chmod(at(LONG), 0o600);
  const own = `m${LONG.slice(1)}`;
  await calls.rename(at(LONG), at(own));
  await calls.mkdir(at(LONG));
  await calls.rmdir(at(LONG));
  await calls.unlink(at(own));
  for (const call of [
    calls.writeFile(at(`${LONG}n`), ''),
    calls.mkdir(at(`${LONG}n`)),
    calls.stat(at(`${LONG}n`)),
    calls.symlink('x', at(`${LONG}n`)),
  ]) {
    await fails(t, 'ENAMETOOLONG', call);
  }
  t.is((await calls.statvfs(at())).namemax, 255);
});

/** One character a byte: none of these is UTF-8, or easy to quote. */
const ODD_NAMES = [
  '\xff\xfe',
  '\x80',
  'new\nline',
  'back\\slash',
  'co:lon,comma',
  ' ',
  '"quoted\'',
  '-rf',
  '\xc3(',
  '$(x)',
  '..x',
];

mountTest(
  'names are bytes, in every layer and through every operation',
  async (t, create) => {
    const sandbox = await create({ lowers: [{}], upper: {} });
    const host = hostCalls();
    for (const name of ODD_NAMES) await host.writeFile(`${sandbox.lowers[0]}/${name}`, name);
    await sandbox.mount();
    const { calls, merged } = sandbox;
    const sorted = [...ODD_NAMES].sort();
    t.deepEqual((await calls.list(merged)).sort(), sorted);
    await calls.mkdir(`${merged}/\xfe`, 0o755);
    for (const name of ODD_NAMES) {
      const path = `${merged}/${name}`;
      t.is(await calls.readFile(path), name);
      await calls.chmod(path, 0o640);
      await calls.rename(path, `${merged}/\xfe/${name}\xff`);
      await calls.symlink(name, path);
      t.is(await calls.readlink(path), name);
      await calls.unlink(path);
      await calls.link(`${merged}/\xfe/${name}\xff`, path);
      await calls.setxattr(path, 'user.odd', name);
    }
    t.deepEqual(await calls.list(merged), [...sorted, '\xfe'].sort());
    t.deepEqual((await calls.list(`${merged}/\xfe`)).sort(), ODD_NAMES.map((name) => `${name}\xff`).sort());
    await sandbox.remount();
    for (const name of ODD_NAMES) {
      t.is(await sandbox.calls.readFile(`${merged}/${name}`), name);
      t.is(await sandbox.calls.getxattr(`${merged}/${name}`, 'user.odd'), name);
    }
  },
  ({ isRoot }) => isRoot || process.getuid!() !== 0,
);

mountTest('twenty layers are one tree', async (t, create) => {
  const lowers = Array.from({ length: 20 }, (_, i) => ({
    [`only-${i}`]: `${i}`,
    [`d/in-${i}`]: `${i}`,
    'd/all': `${i}`,
    ...(i === 10 ? { 'd/in-15': whiteout() } : {}),
  }));
  const sandbox = await create({ lowers });
  await sandbox.mount();
  const { calls } = sandbox;
  t.is((await calls.list(bytes(sandbox.merged))).length, 21);
  t.is((await calls.list(sandbox.path('d'))).length, 20);
  t.is(await calls.readFile(sandbox.path('d/all')), '0');
  t.is(await calls.readFile(sandbox.path('d/in-19')), '19');
  await fails(t, 'ENOENT', calls.stat(sandbox.path('d/in-15')));
});

mountTest('without an upper everything can be read and nothing changed', async (t, create) => {
  const sandbox = await create({
    lowers: [
      { 'd/a': file('top', { xattrs: { 'user.x': '1' } }), link: symlink('d/a') },
      { 'd/b': 'bottom' },
    ],
    upper: null,
  });
  await sandbox.mount();
  const { calls, path } = { calls: sandbox.calls, path: sandbox.path.bind(sandbox) };
  t.deepEqual(await calls.list(path('d')), ['a', 'b']);
  t.is(await calls.readFile(path('link')), 'top');
  t.is(await calls.getxattr(path('d/a'), 'user.x'), '1');
  for (const [what, call] of Object.entries({
    open: calls.open(path('d/a'), 'WRONLY'),
    create: calls.open(path('new'), 'WRONLY|CREAT'),
    truncate: calls.truncate(path('d/a'), 0),
    mkdir: calls.mkdir(path('new')),
    rmdir: calls.rmdir(path('d')),
    unlink: calls.unlink(path('d/a')),
    rename: calls.rename(path('d/a'), path('d/c')),
    link: calls.link(path('d/a'), path('d/c')),
    symlink: calls.symlink('x', path('new')),
    chmod: calls.chmod(path('d/a'), 0o600),
    chown: calls.lchown(path('d/a'), sandbox.subject.uid, sandbox.subject.gid),
    utimens: calls.utimens(path('d/a'), '0', '0'),
    setxattr: calls.setxattr(path('d/a'), 'user.y', '1'),
    removexattr: calls.removexattr(path('d/a'), 'user.x'),
    mknod: calls.mknod(path('new'), 0o10644),
  })) {
    await fails(t, 'EROFS', call, what);
  }
  t.false(await calls.access(path('d/a'), 2));
});
