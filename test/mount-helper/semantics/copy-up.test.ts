/** When a file of a lower layer is copied into the upper, and what the copy keeps. */
import type { Stat, SystemCalls } from '../helpers/driver.ts';
import {
  acl,
  device,
  directory,
  fifo,
  file,
  hardLink,
  OLD_MTIME,
  sparseFile,
  symlink,
} from '../helpers/layers.ts';
import { ORDINARY_USER } from '../helpers/subjects.ts';
import { fails, mountTest, OverlaySuite } from '../helpers/suite.ts';

const suite = new OverlaySuite();
const MIB = 1 << 20;

suite.test(
  'looking and reading copy nothing up',
  { lower: { 'd/f': file('content', { xattrs: { 'user.x': '1' } }), link: symlink('d/f') } },
  async (t, { calls, at, inUpper, host }) => {
    const fd = await calls.open(at('d/f'));
    t.is(await calls.read(fd, 100), 'content');
    const map = await calls.mmap(fd, 7, 'PRIVATE', true);
    await calls.mapWrite(map, 0, 'CONTENT');
    await calls.munmap(map);
    await calls.fsync(fd);
    await calls.close(fd);
    await calls.stat(at('link'));
    await calls.readlink(at('link'));
    await calls.list(at('d'));
    await calls.access(at('d/f'), 2);
    await calls.getxattr(at('d/f'), 'user.x');
    await calls.listxattr(at('d/f'));
    await fails(t, 'EEXIST', calls.open(at('d/f'), 'WRONLY|CREAT|EXCL'));
    await fails(t, 'EEXIST', calls.mkdir(at('d')));
    t.false(await host.exists(inUpper()));
  },
);

const KEPT = { mode: 0o6751, xattrs: { 'user.one': 'first', 'user.two': '\0\xff' } };

interface Trigger {
  readonly act: (calls: SystemCalls, path: string, before: Stat) => Promise<unknown>;
  /** What the act itself changes. */
  readonly changed?: Partial<Stat> & { readonly content?: string };
  /** Attributes that the act changes to something that is not foreseen. */
  readonly loose?: readonly (keyof Stat)[];
  readonly renamed?: true;
}

async function opened(calls: SystemCalls, path: string, flags: string): Promise<void> {
  await calls.close(await calls.open(path, flags));
}

const TRIGGERS: Readonly<Record<string, Trigger>> = {
  'opening to write': { act: (calls, path) => opened(calls, path, 'WRONLY') },
  'opening to read and write': { act: (calls, path) => opened(calls, path, 'RDWR') },
  'opening to append': { act: (calls, path) => opened(calls, path, 'WRONLY|APPEND') },
  'opening with O_CREAT': { act: (calls, path) => opened(calls, path, 'WRONLY|CREAT') },
  'opening with O_TRUNC': {
    act: (calls, path) => opened(calls, path, 'WRONLY|TRUNC'),
    changed: { size: 0, content: '' },
    loose: ['mtime', 'mode'],
  },
  truncate: {
    act: (calls, path) => calls.truncate(path, 3),
    changed: { size: 3, content: 'con' },
    loose: ['mtime', 'mode'],
  },
  chmod: { act: (calls, path) => calls.chmod(path, 0o640), changed: { mode: 0o100640 } },
  chown: { act: (calls, path, { uid, gid }) => calls.lchown(path, uid, gid), loose: ['mode'] },
  utimens: {
    act: (calls, path) => calls.utimens(path, 'omit', '1234567890000000007'),
    changed: { mtime: '1234567890000000007' },
  },
  setxattr: { act: (calls, path) => calls.setxattr(path, 'user.three', '3') },
  removexattr: { act: (calls, path) => calls.removexattr(path, 'user.one') },
  link: { act: (calls, path) => calls.link(path, `${path}-link`), changed: { nlink: 2 } },
  rename: { act: (calls, path) => calls.rename(path, `${path}-moved`), renamed: true },
};

for (const [what, { act, changed = {}, loose = [], renamed }] of Object.entries(TRIGGERS)) {
  suite.test(
    `${what} copies a file up with all that belongs to it`,
    { lower: { 'd/f': file('content', KEPT) } },
    async (t, { calls, at, inUpper, host }) => {
      const before = await calls.stat(at('d/f'));
      const parent = await calls.stat(at('d'));
      await act(calls, at('d/f'), before);
      const name = renamed ? 'd/f-moved' : 'd/f';
      const { content = 'content', ...attributes } = changed;
      const free = new Set<keyof Stat>(['ctime', 'blocks', 'dev', 'ino', 'atime', ...loose]);
      const isTold = ([key]: [string, unknown]) => !free.has(key as keyof Stat);
      const expected = Object.entries({ ...before, ...attributes }).filter(isTold);
      for (const stat of [await calls.stat(at(name)), await host.stat(inUpper(name))]) {
        t.deepEqual(Object.entries(stat).filter(isTold), expected);
      }
      t.is(await calls.readFile(at(name)), content);
      t.is(await host.readFile(inUpper(name)), content);
      t.is(await calls.getxattr(at(name), 'user.two'), '\0\xff');
      t.is(await host.getxattr(inUpper(name), 'user.two'), '\0\xff');
      if (what !== 'link' && what !== 'rename') t.is((await calls.stat(at('d'))).mtime, parent.mtime);
    },
  );
}

suite.test(
  'the directories above come along as they are',
  {
    lower: {
      a: directory({ mode: 0o750, times: ['-1', '5000000005'], xattrs: { 'user.dir': 'a' } }),
      'a/b': directory({ mode: 0o1777, times: ['1', '7000000007'] }),
      'a/b/c': directory({ mode: 0o2711 }),
      'a/b/c/f': 'x',
    },
  },
  async (t, { calls, at, inUpper, host }) => {
    await calls.chmod(at('a/b/c/f'), 0o600);
    const expected = {
      a: [0o750, '5000000005'],
      'a/b': [0o1777, '7000000007'],
      'a/b/c': [0o2711, OLD_MTIME],
    } as const;
    for (const [name, [mode, mtime]] of Object.entries(expected)) {
      for (const stat of [await calls.stat(at(name)), await host.stat(inUpper(name))]) {
        t.is(stat.mode & 0o7777, mode, name);
        t.is(stat.mtime, mtime, name);
      }
    }
    t.is(await calls.getxattr(at('a'), 'user.dir'), 'a');
    t.is(await host.getxattr(inUpper('a'), 'user.dir'), 'a');
  },
);

suite.test(
  'times keep their nanoseconds, and may lie before 1970',
  { lower: { f: file('x', { times: ['-86400999999999', '-1000000001'] }) } },
  async (t, { calls, at }) => {
    t.is((await calls.stat(at('f'))).mtime, '-1000000001');
    await calls.chmod(at('f'), 0o600);
    const { atime, mtime } = await calls.stat(at('f'));
    t.is(mtime, '-1000000001');
    t.is(atime, '-86400999999999');
  },
);

suite.test(
  'attributes of directories, links, pipes and sockets are changed in the upper alone',
  { lower: { 'd/f': 'x', link: symlink('d/f'), pipe: fifo({ mode: 0o644 }), sock: { type: 'socket' } } },
  async (t, { calls, at, host, inUpper, inLower, subject }) => {
    await calls.chmod(at('d'), 0o700);
    await calls.setxattr(at('d'), 'user.x', '1');
    t.deepEqual(await calls.list(at('d')), ['f']);
    t.deepEqual(await host.list(inUpper('d')), []);
    await calls.utimens(at('link'), '9000000009', '8000000008');
    t.is((await calls.lstat(at('link'))).mtime, '8000000008');
    t.is(await calls.readlink(at('link')), 'd/f');
    await calls.lchown(at('link'), subject.uid, subject.gid);
    await calls.chmod(at('pipe'), 0o600);
    t.is((await calls.lstat(at('pipe'))).mode, 0o10600);
    await calls.rename(at('sock'), at('sock2'));
    t.is((await calls.lstat(at('sock2'))).mode & 0o170000, 0o140000);
    t.is((await host.lstat(inLower('link'))).mtime, OLD_MTIME);
  },
);

suite.test(
  'device nodes are copied up',
  {
    lower: { zero: device('char', 1, 5), disk: device('block', 7, 200) },
    on: ({ isRoot, backend }) => isRoot && backend !== 'userns',
  },
  async (t, { calls, at }) => {
    for (const [name, rdev, type] of [
      ['zero', (1 << 8) | 5, 0o020000],
      ['disk', (7 << 8) | 200, 0o060000],
    ] as const) {
      await calls.chmod(at(name), 0o640);
      const stat = await calls.lstat(at(name));
      t.is(stat.rdev, rdev);
      t.is(stat.mode, type | 0o640);
    }
  },
);

const ACL = acl([1, 6], [2, 4, ORDINARY_USER.uid], [4, 4], [0x10, 4], [0x20, 0]);

suite.test(
  'access control lists come along',
  {
    lower: {
      f: file('x', { xattrs: { 'system.posix_acl_access': ACL } }),
      d: directory({ xattrs: { 'system.posix_acl_default': ACL } }),
      'd/in': 'x',
    },
  },
  async (t, { calls, at }) => {
    t.is(await calls.getxattr(at('f'), 'system.posix_acl_access'), ACL);
    await calls.utimens(at('f'), 'now', 'now');
    await calls.utimens(at('d/in'), 'now', 'now');
    t.is(await calls.getxattr(at('f'), 'system.posix_acl_access'), ACL);
    t.is((await calls.stat(at('f'))).mode & 0o777, 0o640);
    t.is(await calls.getxattr(at('d'), 'system.posix_acl_default'), ACL);
    await calls.chmod(at('f'), 0o660);
    t.is((await calls.getxattr(at('f'), 'system.posix_acl_access')).length, ACL.length);
    t.is((await calls.stat(at('f'))).mode & 0o777, 0o660);
  },
);

/** `struct vfs_cap_data` revision 2: CAP_NET_RAW permitted and effective. */
const CAPABILITY = Buffer.from('0100000200200000000000000000000000000000', 'hex').toString('latin1');

suite.test(
  'file capabilities come along, and go with the first write',
  {
    lower: { f: file('x', { mode: 0o755, xattrs: { 'security.capability': CAPABILITY } }) },
    on: ({ isRoot, backend }) => isRoot && backend !== 'userns',
  },
  async (t, { calls, at }) => {
    await calls.utimens(at('f'), 'now', 'now');
    t.is(await calls.getxattr(at('f'), 'security.capability'), CAPABILITY);
    await calls.writeFile(at('f'), 'y', 'WRONLY');
    await fails(t, 'ENODATA', calls.getxattr(at('f'), 'security.capability'));
  },
);

suite.test(
  'holes stay holes',
  {
    lower: {
      f: sparseFile(24 * MIB, [
        [0, 'start'],
        [8 * MIB + 5, 'middle'],
      ]),
      end: sparseFile(5 * MIB, [[0, 'x']]),
    },
  },
  async (t, { calls, at, host, inLower, inUpper }) => {
    for (const name of ['f', 'end']) {
      await calls.utimens(at(name), 'now', 'now');
      t.is(await calls.digest(at(name)), await host.digest(inLower(name), true));
      t.true((await host.stat(inUpper(name))).blocks * 512 <= 3 * MIB, name);
      t.is((await calls.stat(at(name))).size, (await host.stat(inLower(name))).size);
    }
    const fd = await calls.open(at('f'));
    t.is(await calls.lseek(fd, MIB, 'DATA'), 8 * MIB);
    t.true((await calls.lseek(fd, 0, 'HOLE')) <= 2 * MIB);
    await fails(t, 'ENXIO', calls.lseek(fd, 9 * MIB, 'DATA'));
    await calls.close(fd);
  },
);

suite.test(
  'the names of one lower file are one file as long as nobody writes',
  { lower: { one: 'old', two: hardLink('one'), 'd/three': hardLink('one') } },
  async (t, { calls, at }) => {
    const stats = [];
    for (const name of ['one', 'two', 'd/three']) stats.push(await calls.stat(at(name)));
    t.deepEqual(
      stats.map(({ nlink }) => nlink),
      [3, 3, 3],
    );
    t.is(new Set(stats.map(({ ino }) => ino)).size, 1);
  },
);

suite.test(
  'the names of one lower file stay one file when it is written to',
  {
    lower: { one: 'old', two: hardLink('one'), 'd/three': hardLink('one') },
    on: ({ keepsHardLinks }) => keepsHardLinks,
  },
  async (t, { calls, at }) => {
    await calls.writeFile(at('one'), 'new');
    t.is(await calls.readFile(at('two')), 'new');
    await calls.writeFile(at('d/three'), '+', 'WRONLY|APPEND');
    t.is(await calls.readFile(at('one')), 'new+');
    const stats = [];
    for (const name of ['one', 'two', 'd/three']) stats.push(await calls.stat(at(name)));
    t.is(new Set(stats.map(({ ino }) => ino)).size, 1);
    await calls.unlink(at('two'));
    t.is(await calls.readFile(at('one')), 'new+');
    t.is(await calls.readFile(at('d/three')), 'new+');
  },
);

suite.test(
  'a written name of a lower file parts from the others',
  { lower: { one: 'old', two: hardLink('one') }, on: ({ keepsHardLinks }) => !keepsHardLinks },
  async (t, { calls, at }) => {
    await calls.writeFile(at('one'), 'new');
    t.is(await calls.readFile(at('two')), 'old');
  },
);

mountTest(
  "a name that is found only after a remount is the lower file, as with the kernel's index=off",
  async (t, create) => {
    const sandbox = await create({ lowers: [{ one: 'old', two: hardLink('one') }] });
    await sandbox.mount();
    await sandbox.calls.writeFile(sandbox.path('one'), 'new');
    await sandbox.remount();
    const { calls } = sandbox;
    t.is(await calls.readFile(sandbox.path('one')), 'new');
    t.is(await calls.readFile(sandbox.path('two')), 'old');
    t.not((await calls.stat(sandbox.path('one'))).ino, (await calls.stat(sandbox.path('two'))).ino);
  },
);

suite.test(
  'a new name of a lower file is the same file',
  { lower: { f: 'content', 'd/x': '' } },
  async (t, { calls, at, subject }) => {
    await calls.link(at('f'), at('d/g'));
    const [f, g] = [await calls.stat(at('f')), await calls.stat(at('d/g'))];
    // In a user namespace the kernel goes on to show the number of the lower file for the first name.
    if (subject.backend !== 'userns') t.is(f.ino, g.ino);
    t.is(f.nlink, 2);
    t.is(g.nlink, 2);
    await calls.writeFile(at('f'), 'changed');
    t.is(await calls.readFile(at('d/g')), 'changed');
    await calls.unlink(at('f'));
    t.is((await calls.stat(at('d/g'))).nlink, 1);
  },
);

suite.test(
  'a file of several megabytes is copied whole, wherever it is written',
  { lower: { f: { type: 'file', data: [[0, 'abcdefg'.repeat(700_000)]] } } },
  async (t, { calls, at, host, inUpper, inLower }) => {
    const before = await calls.digest(at('f'));
    await calls.setxattr(at('f'), 'user.x', '1');
    t.is(await calls.digest(at('f')), before);
    t.is(await host.digest(inUpper('f')), before);
    const fd = await calls.open(at('f'), 'RDWR');
    await calls.pwrite(fd, 'END', 4_900_000);
    await calls.pwrite(fd, 'START', 0);
    await calls.close(fd);
    t.is((await calls.stat(at('f'))).size, 4_900_003);
    t.true((await calls.readFile(at('f'))).startsWith('STARTfgabc'));
    t.is(await host.digest(inLower('f'), true), before);
  },
);

suite.test(
  'a file that nobody may read is copied up when its mode changes',
  { lower: { f: file('secret', { mode: 0 }) }, on: ({ name }) => name !== 'fuse-user' },
  async (t, { calls, at }) => {
    await calls.chmod(at('f'), 0o600);
    t.is(await calls.readFile(at('f')), 'secret');
  },
);

suite.test(
  'writing to one of two layers with the same file leaves the lower one hidden',
  { lower: { f: 'top' }, bottom: { f: 'bottom' } },
  async (t, { calls, at }) => {
    await calls.writeFile(at('f'), '+', 'WRONLY|APPEND');
    t.is(await calls.readFile(at('f')), 'top+');
    await calls.unlink(at('f'));
    await fails(t, 'ENOENT', calls.stat(at('f')));
  },
);

suite.test(
  'an empty file and one of a page are copied up',
  { lower: { empty: '', page: 'p'.repeat(4096) } },
  async (t, { calls, at }) => {
    for (const name of ['empty', 'page']) {
      const before = await calls.readFile(at(name));
      await calls.writeFile(at(name), '!', 'WRONLY|APPEND');
      t.is(await calls.readFile(at(name)), `${before}!`);
    }
  },
);

suite.test(
  'the time of change of a directory is what the layer has, after a copy-up below it too',
  { lower: { 'd/e/f': 'x' }, upper: { 'd/own': '' } },
  async (t, { calls, at, inUpper, host }) => {
    const before = await calls.stat(at('d'));
    // A directory that is held open is one whose attributes are cached.
    const held = await calls.open(at('d'), 'RDONLY|DIRECTORY');
    await calls.chmod(at('d/e/f'), 0o600);
    const after = await calls.stat(at('d'));
    t.is(after.ctime, (await host.stat(inUpper('d'))).ctime);
    t.is((await calls.fstat(held)).ctime, after.ctime);
    t.true(BigInt(after.ctime) > BigInt(before.ctime));
    t.is(after.mtime, before.mtime);
    await calls.close(held);
  },
);
