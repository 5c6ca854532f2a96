/** Who may do what, before a file is copied up and after; as several users, so most of it needs root. */
import { readFileSync } from 'node:fs';
import type { Identity, SystemCalls } from '../helpers/driver.ts';
import { acl, directory, file, symlink } from '../helpers/layers.ts';
import type { Subject } from '../helpers/subjects.ts';
import { fails, OverlaySuite } from '../helpers/suite.ts';

const suite = new OverlaySuite();

/** Mounts that root made and everybody may use. */
const shared = ({ isRoot, backend }: Subject) => isRoot && backend !== 'userns';

const ANN: Identity = { uid: 1001, gid: 1001 };
const BOB: Identity = { uid: 1002, gid: 1002, groups: [1003] };
const OPEN = directory({ mode: 0o777 });

suite.test(
  'what is made belongs to who made it, with the umask applied',
  { lower: { d: OPEN }, on: shared },
  async (t, { as, at }) => {
    const calls = as({ ...ANN, umask: 0o027 });
    await calls.writeFile(at('d/f'), 'x', 'WRONLY|CREAT', 0o666);
    await calls.mkdir(at('d/m'), 0o777);
    await calls.symlink('x', at('d/s'));
    await calls.mknod(at('d/p'), 0o10666);
    const fd = await calls.open(at('d'), 'RDWR|TMPFILE', 0o666);
    for (const [stat, mode] of [
      [await calls.stat(at('d/f')), 0o100640],
      [await calls.stat(at('d/m')), 0o40750],
      [await calls.lstat(at('d/s')), 0o120777],
      [await calls.stat(at('d/p')), 0o10640],
      [await calls.fstat(fd), 0o100640],
    ] as const) {
      t.like(stat, { uid: 1001, gid: 1001, mode });
    }
    await calls.close(fd);
  },
);

suite.test(
  'a default access control list takes the place of the umask',
  {
    lower: {
      d: directory({
        mode: 0o777,
        xattrs: { 'system.posix_acl_default': acl([1, 7], [2, 6, 1002], [4, 5], [0x10, 7], [0x20, 0]) },
      }),
    },
    on: shared,
  },
  async (t, { as, at }) => {
    const calls = as({ ...ANN, umask: 0o077 });
    await calls.writeFile(at('d/f'), 'x', 'WRONLY|CREAT', 0o666);
    t.is((await calls.stat(at('d/f'))).mode & 0o777, 0o660);
    t.is(
      await calls.getxattr(at('d/f'), 'system.posix_acl_access'),
      acl([1, 6], [2, 6, 1002], [4, 5], [0x10, 6], [0x20, 0]),
    );
    await as(BOB).writeFile(at('d/f'), 'bob', 'WRONLY');
    await calls.mkdir(at('d/m'), 0o777);
    t.is((await calls.stat(at('d/m'))).mode & 0o777, 0o770);
    t.is(
      await calls.getxattr(at('d/m'), 'system.posix_acl_default'),
      await calls.getxattr(at('d'), 'system.posix_acl_default'),
    );
  },
);

suite.test(
  'a directory with the sgid bit gives its group to what is made in it',
  { lower: { d: directory({ mode: 0o2777, uid: 0, gid: 1003 }) }, on: shared },
  async (t, { as, at }) => {
    const ann = as(ANN);
    await ann.writeFile(at('d/f'), '', 'WRONLY|CREAT', 0o644);
    await ann.mkdir(at('d/m'), 0o755);
    await ann.symlink('x', at('d/s'));
    t.like(await ann.stat(at('d/f')), { uid: 1001, gid: 1003, mode: 0o100644 });
    t.like(await ann.stat(at('d/m')), { uid: 1001, gid: 1003, mode: 0o42755 });
    t.is((await ann.lstat(at('d/s'))).gid, 1003);
    // Whoever is not in the group makes no programs that run with it.
    await ann.writeFile(at('d/g'), '', 'WRONLY|CREAT', 0o2755);
    t.is((await ann.stat(at('d/g'))).mode & 0o7777, 0o755);
    await as(BOB).writeFile(at('d/h'), '', 'WRONLY|CREAT', 0o2755);
    t.is((await ann.stat(at('d/h'))).mode & 0o7777, 0o2755);
  },
);

const LOW = (mode: number) => file('content', { mode, uid: 1001, gid: 1003 });

suite.test(
  'reading and writing is allowed by mode, the same before a copy-up and after',
  {
    lower: {
      owner: LOW(0o600),
      group: LOW(0o060),
      other: LOW(0o006),
      read: LOW(0o444),
      write: LOW(0o222),
      none: LOW(0o000),
    },
    on: shared,
  },
  async (t, { calls, as, at }) => {
    const people = { ann: as(ANN), bob: as(BOB), eve: as({ uid: 1005, gid: 1005 }) };
    // Who may read (r) and write (w); the owner is not looked at as a member of the group.
    const allowed = {
      owner: { ann: 'rw', bob: '', eve: '' },
      group: { ann: '', bob: 'rw', eve: '' },
      other: { ann: '', bob: '', eve: 'rw' },
      read: { ann: 'r', bob: 'r', eve: 'r' },
      write: { ann: 'w', bob: 'w', eve: 'w' },
      none: { ann: '', bob: '', eve: '' },
    };
    for (const when of ['before', 'after']) {
      for (const [name, rights] of Object.entries(allowed)) {
        for (const [who, right] of Object.entries(rights)) {
          const person = people[who as keyof typeof people];
          const title = `${who} ${name} ${when}`;
          if (!right.includes('w') || when === 'after') {
            t.is(await person.access(at(name), 4), right.includes('r'), `${title} reads`);
            t.is(await person.access(at(name), 2), right.includes('w'), `${title} writes`);
            await fails(
              t,
              right.includes('r') ? 'no error' : 'EACCES',
              opened(person, at(name), 'RDONLY'),
              title,
            );
            await fails(
              t,
              right.includes('w') ? 'no error' : 'EACCES',
              opened(person, at(name), 'WRONLY'),
              title,
            );
          }
          t.false(await person.access(at(name), 1));
        }
      }
      if (when === 'before')
        for (const name of Object.keys(allowed)) await calls.utimens(at(name), 'now', 'now');
    }
  },
);

async function opened(calls: SystemCalls, path: string, flags: string): Promise<void> {
  await calls.close(await calls.open(path, flags));
}

suite.test(
  'a refused open copies nothing up',
  {
    lower: {
      f: file('x', { mode: 0o644, uid: 0, gid: 0 }),
      d: directory({ mode: 0o755, uid: 0, gid: 0 }),
      'd/x': '',
    },
    on: shared,
  },
  async (t, { as, at, host, inUpper }) => {
    const ann = as(ANN);
    await fails(t, 'EACCES', ann.open(at('f'), 'WRONLY'));
    await fails(t, 'EACCES', ann.truncate(at('f'), 0));
    await fails(t, 'EPERM', ann.chmod(at('f'), 0o777));
    await fails(t, 'EPERM', ann.lchown(at('f'), 1001, 1001));
    await fails(t, 'EPERM', ann.utimens(at('f'), '1', '1'));
    await fails(t, 'EACCES', ann.utimens(at('f'), 'now', 'now'));
    await fails(t, 'EACCES', ann.setxattr(at('f'), 'user.x', '1'));
    await fails(t, 'EACCES', ann.unlink(at('d/x')));
    await fails(t, 'EACCES', ann.rename(at('d/x'), at('d/y')));
    await fails(t, 'EACCES', ann.mkdir(at('d/new')));
    await fails(t, ['EPERM', 'EACCES'], ann.link(at('d/x'), at('d/y')));
    t.false(await host.exists(inUpper()));
  },
);

suite.test(
  'directories are searched and listed by who may',
  {
    lower: {
      closed: directory({ mode: 0o700, uid: 1001, gid: 1001 }),
      'closed/f': file('x', { mode: 0o644 }),
      through: directory({ mode: 0o711 }),
      'through/f': file('x', { mode: 0o644 }),
      look: directory({ mode: 0o744 }),
      'look/f': 'x',
    },
    on: shared,
  },
  async (t, { as, at }) => {
    const [ann, bob] = [as(ANN), as(BOB)];
    t.is(await ann.readFile(at('closed/f')), 'x');
    await fails(t, 'EACCES', bob.stat(at('closed/f')));
    await fails(t, 'EACCES', bob.list(at('closed')));
    t.is(await bob.readFile(at('through/f')), 'x');
    await fails(t, 'EACCES', bob.list(at('through')));
    t.deepEqual(await bob.list(at('look')), ['f']);
    await fails(t, 'EACCES', bob.stat(at('look/f')));
  },
);

suite.test(
  'in a sticky directory only owners remove and rename',
  {
    lower: {
      d: directory({ mode: 0o1777, uid: 0, gid: 0 }),
      'd/anns': file('x', { uid: 1001, gid: 1001 }),
      'd/bobs': file('x', { uid: 1002, gid: 1002 }),
      own: directory({ mode: 0o1777, uid: 1001, gid: 1001 }),
      'own/bobs': file('x', { uid: 1002, gid: 1002 }),
    },
    on: shared,
  },
  async (t, { as, at }) => {
    const [ann, bob] = [as(ANN), as(BOB)];
    await fails(t, 'EPERM', bob.unlink(at('d/anns')));
    await fails(t, 'EPERM', bob.rename(at('d/anns'), at('d/x')));
    await fails(t, 'EPERM', bob.rename(at('d/bobs'), at('d/anns')));
    await ann.rename(at('d/anns'), at('d/anns2'));
    await ann.unlink(at('d/anns2'));
    await ann.unlink(at('own/bobs'));
    await bob.mkdir(at('d/m'));
    await fails(t, 'EPERM', ann.rmdir(at('d/m')));
    await bob.rmdir(at('d/m'));
  },
);

suite.test(
  'modes and owners are changed by who may',
  {
    lower: {
      f: file('x', { mode: 0o644, uid: 1002, gid: 1002 }),
      g: file('x', { mode: 0o755, uid: 1002, gid: 1005 }),
    },
    on: shared,
  },
  async (t, { as, at, calls }) => {
    const [ann, bob] = [as(ANN), as(BOB)];
    await fails(t, 'EPERM', ann.chmod(at('f'), 0o777));
    await bob.chmod(at('f'), 0o600);
    await fails(t, 'EPERM', bob.lchown(at('f'), 1001, -1));
    await fails(t, 'EPERM', bob.lchown(at('f'), -1, 1001));
    await bob.lchown(at('f'), -1, 1003);
    await bob.lchown(at('f'), 1002, 1002);
    t.like(await bob.stat(at('f')), { uid: 1002, gid: 1002, mode: 0o100600 });
    await bob.chmod(at('g'), 0o6755);
    t.is((await bob.stat(at('g'))).mode & 0o7777, 0o4755);
    await calls.chmod(at('g'), 0o6755);
    t.is((await bob.stat(at('g'))).mode & 0o7777, 0o6755);
    await calls.lchown(at('g'), 1001, 1001);
    t.like(await calls.stat(at('g')), { uid: 1001, gid: 1001, mode: 0o100755 });
  },
);

const SUID = (mode: number) => file('program', { mode, uid: 1002, gid: 1003 });

suite.test(
  'set-id bits go when somebody else writes',
  {
    lower: {
      write: SUID(0o6777),
      trunc: SUID(0o6777),
      open: SUID(0o6777),
      noexec: SUID(0o2767),
      root: SUID(0o6777),
    },
    on: shared,
  },
  async (t, { as, at, calls }) => {
    const ann = as(ANN);
    await ann.writeFile(at('write'), 'x', 'WRONLY');
    await ann.truncate(at('trunc'), 1);
    await opened(ann, at('open'), 'WRONLY|TRUNC');
    await ann.writeFile(at('noexec'), 'x', 'WRONLY');
    await calls.writeFile(at('root'), 'x', 'WRONLY');
    const modes: Record<string, number> = {};
    for (const name of ['write', 'trunc', 'open', 'noexec', 'root'])
      modes[name] = (await ann.stat(at(name))).mode & 0o7777;
    t.deepEqual(modes, { write: 0o777, trunc: 0o777, open: 0o777, noexec: 0o767, root: 0o6777 });
  },
);

suite.test(
  'times are set by the owner, and to now by who may write',
  {
    lower: {
      f: file('x', { mode: 0o666, uid: 1001, gid: 1001 }),
      g: file('x', { mode: 0o644, uid: 1001, gid: 1001 }),
    },
    on: shared,
  },
  async (t, { as, at }) => {
    const [ann, bob] = [as(ANN), as(BOB)];
    await ann.utimens(at('f'), '1000000001', '2000000002');
    t.like(await ann.stat(at('f')), { atime: '1000000001', mtime: '2000000002' });
    await ann.utimens(at('f'), 'omit', '3000000003');
    t.like(await ann.stat(at('f')), { atime: '1000000001', mtime: '3000000003' });
    await fails(t, 'EPERM', bob.utimens(at('f'), '1', '1'));
    await fails(t, 'EPERM', bob.utimens(at('f'), 'now', '1'));
    await fails(t, 'EPERM', bob.utimens(at('f'), 'omit', 'now'));
    await bob.utimens(at('f'), 'now', 'now');
    t.true(BigInt((await bob.stat(at('f'))).mtime) > 1_600_000_000n * 1_000_000_000n);
    await fails(t, 'EACCES', bob.utimens(at('g'), 'now', 'now'));
    await bob.utimens(at('g'), 'omit', 'omit');
  },
);

suite.test(
  'access control lists decide, with their mask, before a copy-up and after',
  {
    lower: Object.fromEntries(
      ['before', 'after'].flatMap((when) => [
        [
          `${when}-granted`,
          file('x', {
            uid: 0,
            gid: 0,
            xattrs: { 'system.posix_acl_access': acl([1, 6], [2, 6, 1001], [4, 0], [0x10, 6], [0x20, 0]) },
          }),
        ],
        [
          `${when}-masked`,
          file('x', {
            uid: 0,
            gid: 0,
            xattrs: { 'system.posix_acl_access': acl([1, 6], [2, 6, 1001], [4, 0], [0x10, 4], [0x20, 0]) },
          }),
        ],
        [
          `${when}-denied`,
          file('x', {
            uid: 0,
            gid: 0,
            xattrs: { 'system.posix_acl_access': acl([1, 6], [2, 0, 1001], [4, 6], [0x10, 6], [0x20, 6]) },
          }),
        ],
      ]),
    ),
    on: shared,
  },
  async (t, { as, at, calls }) => {
    const [ann, bob] = [as(ANN), as(BOB)];
    for (const name of ['granted', 'masked', 'denied'])
      await calls.utimens(at(`after-${name}`), 'now', 'now');
    for (const when of ['before', 'after']) {
      const name = (what: string) => at(`${when}-${what}`);
      t.is(await ann.readFile(name('granted')), 'x', when);
      t.is(await ann.readFile(name('masked')), 'x', when);
      await fails(t, 'EACCES', ann.open(name('masked'), 'WRONLY'), when);
      await fails(t, 'EACCES', ann.open(name('denied')), when);
      await fails(t, 'EACCES', bob.open(name('granted')), when);
      t.is(await bob.readFile(name('denied')), 'x', when);
      await opened(ann, name('granted'), 'WRONLY');
    }
  },
);

suite.test(
  'links to files of others are made as the system allows',
  { lower: { d: OPEN, 'd/f': file('x', { mode: 0o644, uid: 1001, gid: 1001 }) }, on: shared },
  async (t, { as, at }) => {
    const isProtected = readFileSync('/proc/sys/fs/protected_hardlinks', 'utf8').trim() === '1';
    await fails(t, isProtected ? 'EPERM' : 'no error', as(BOB).link(at('d/f'), at('d/bob')));
    await as(ANN).link(at('d/f'), at('d/ann'));
    t.is((await as(ANN).stat(at('d/ann'))).uid, 1001);
  },
);

suite.test(
  'devices are made by root alone',
  { lower: { d: OPEN }, on: shared },
  async (t, { as, at, calls }) => {
    await fails(t, 'EPERM', as(ANN).mknod(at('d/null'), 0o20666, 1, 3));
    await calls.mknod(at('d/null'), 0o20666, 1, 3);
    t.is((await calls.stat(at('d/null'))).rdev, (1 << 8) | 3);
    await as(ANN).mknod(at('d/sock'), 0o140644);
  },
);

suite.test(
  'attributes are set by who may, and where they can be',
  {
    lower: { d: OPEN, 'd/f': file('x', { mode: 0o644, uid: 1001, gid: 1001 }), 'd/l': symlink('f') },
    on: shared,
  },
  async (t, { as, at, calls }) => {
    const [ann, bob] = [as(ANN), as(BOB)];
    await ann.setxattr(at('d/f'), 'user.x', '1');
    t.is(await bob.getxattr(at('d/f'), 'user.x'), '1');
    await fails(t, 'EACCES', bob.setxattr(at('d/f'), 'user.x', '2'));
    await fails(t, 'EACCES', bob.removexattr(at('d/f'), 'user.x'));
    await fails(t, 'EPERM', ann.setxattr(at('d/f'), 'trusted.x', '1'));
    await fails(t, 'EPERM', ann.setxattr(at('d/f'), 'security.x', '1'));
    await fails(t, 'EPERM', ann.setxattr(at('d/l'), 'user.x', '1'));
    await calls.setxattr(at('d/f'), 'trusted.x', 'secret');
    t.is(await calls.getxattr(at('d/f'), 'trusted.x'), 'secret');
    await fails(t, 'ENODATA', ann.getxattr(at('d/f'), 'trusted.x'));
    t.false((await ann.listxattr(at('d/f'))).includes('trusted.x'));
    await calls.setxattr(at('d/l'), 'trusted.x', 'on a link');
    t.is(await calls.getxattr(at('d/l'), 'trusted.x'), 'on a link');
  },
);

suite.test(
  'a user has the rights of his own files, and no more',
  {
    lower: { f: file('x', { mode: 0o644 }), shut: file('x', { mode: 0o000 }), 'd/x': '' },
    on: ({ isRoot }) => !isRoot,
  },
  async (t, { calls, at, subject, sandbox }) => {
    const { uid, gid } = subject;
    t.like(await calls.stat(at('f')), { uid, gid });
    await calls.writeFile(at('new'), 'x', 'WRONLY|CREAT', 0o600);
    t.like(await calls.stat(at('new')), { uid, gid, mode: 0o100600 });
    await calls.lchown(at('f'), uid, gid);
    await fails(t, ['EPERM', 'EINVAL'], calls.lchown(at('f'), uid + 1, gid));
    await fails(t, ['EPERM', 'EINVAL'], calls.lchown(at('f'), uid, gid + 1));
    await fails(t, 'EPERM', calls.mknod(at('null'), 0o20666, 1, 3));
    t.like(await calls.stat(at('f')), { uid, gid });
    // In a user namespace of his own he is as good as root there.
    if (subject.backend === 'fuse') await fails(t, 'EACCES', calls.open(at('shut')));
    t.is((await sandbox.upperTree()).filter((entry) => entry.uid !== uid).length, 0);
  },
);
