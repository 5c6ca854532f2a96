import { spawnSync } from 'node:child_process';
import {
  chmodSync,
  chownSync,
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  statSync,
} from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { FATTR_MODE } from '../../src/mount-helper/fuse/protocol.ts';
import { cString, lgetxattr, lsetxattr } from '../../src/mount-helper/system/libc.ts';
import { newEntry, newOpen, type Rig, remount, rig } from './helpers/overlay-rig.ts';
import {
  ACL_GROUP_OBJ,
  ACL_MASK,
  ACL_OTHER,
  ACL_USER,
  ACL_USER_OBJ,
  encodeAcl,
  isRoot,
  NO_ID,
  rootOnly,
} from './helpers/scratch.ts';

const rootTest = isRoot ? test : test.skip;
const NOREPLACE = 1;
const EXCHANGE = 2;

function attribute(path: string, name: string): string | undefined {
  const out = Buffer.alloc(4096);
  const length = lgetxattr(cString(path), cString(name), out);
  return length < 0 ? undefined : out.toString('utf8', 0, length);
}

function isWhiteout(path: string): boolean {
  const stat = lstatSync(path, { throwIfNoEntry: false });
  return stat?.isCharacterDevice() === true && stat.rdev === 0;
}

function workIsEmpty(r: Rig): boolean {
  // One name may be there: the whiteout that others are links of.
  const names = readdirSync(join(r.base, 'work/git2db'));
  return names.every((name) => isWhiteout(join(r.base, 'work/git2db', name))) && names.length <= 1;
}

test('unlink leaves a whiteout only where a layer below has the name', (t) => {
  const r = rig(t, { upper: { u: '', 'd/both': 'u' }, lowers: [{ l: '', 'd/both': 'l', 'e/x': '' }] });
  t.is(r.unlink('u'), 0);
  t.is(r.unlink('l'), 0);
  t.is(r.unlink('d/both'), 0);
  t.is(r.unlink('e/x'), 0);
  t.is(r.unlink('l'), 'ENOENT');
  t.false(existsSync(join(r.upper, 'u')));
  t.true(isWhiteout(join(r.upper, 'l')));
  t.true(isWhiteout(join(r.upper, 'd/both')));
  t.true(isWhiteout(join(r.upper, 'e/x')));
  t.deepEqual(r.dump(), { 'd/': '', 'e/': '' });
  t.is(r.unlink('d'), 'EISDIR');
  t.true(workIsEmpty(r));
  t.deepEqual(remount(t, r).dump(), { 'd/': '', 'e/': '' });
});

test('names that were deleted can be used again, for anything', (t) => {
  const r = rig(t, { lowers: [{ f: 'old', 'd/x': 'old', 'e/x': '', g: 'old' }] });
  t.is(r.unlink('f'), 0);
  t.is(r.unlink('d/x'), 0);
  t.is(r.rmdir('d'), 0);
  t.is(r.unlink('g'), 0);
  r.create('f', 'new');
  r.mkdir('d');
  t.deepEqual(r.names('d'), []);
  r.create('d/x', 'other');
  t.is(
    r.say(() => r.fs.symlink(1, Buffer.from('g'), Buffer.from('f'), r.caller, newEntry())),
    0,
  );
  const all = { 'd/': '', 'd/x': 'other', 'e/': '', 'e/x': '', f: 'new', g: 'type 10' };
  t.deepEqual(r.dump(), all);
  t.true(workIsEmpty(r));
  t.deepEqual(remount(t, r).dump(), all);
});

test('rmdir refuses what has visible entries and clears what has whiteouts only', (t) => {
  const r = rig(t, { upper: { 'd/u': '' }, lowers: [{ 'd/l': '', 'e/l': '', 'n/': '' }] });
  t.is(r.rmdir('d'), 'ENOTEMPTY');
  t.is(r.unlink('d/u'), 0);
  t.is(r.rmdir('d'), 'ENOTEMPTY');
  t.is(r.unlink('d/l'), 0);
  t.is(r.rmdir('d'), 0);
  t.true(isWhiteout(join(r.upper, 'd')));
  t.is(r.rmdir('e'), 'ENOTEMPTY');
  t.is(r.rmdir('n'), 0);
  r.mkdir('new');
  t.is(r.rename('e/l', 'new/l'), 0);
  t.is(r.rename('new/l', 'e/l'), 0);
  t.is(r.rmdir('new'), 0);
  t.false(existsSync(join(r.upper, 'new')));
  t.deepEqual(r.names(), ['e']);
  t.is(r.rmdir('e/l'), 'ENOTDIR');
  t.true(workIsEmpty(r));
});

test('a file of a layer is copied up with its parents when it is renamed', (t) => {
  const r = rig(t, { lowers: [{ 'a/b/f': 'text', 'c/': '' }] });
  const before = r.stat('a/b/f');
  t.is(r.rename('a/b/f', 'c/g'), 0);
  t.is(r.stat('c/g').ino, before.ino);
  t.is(r.find('a/b/f'), 0);
  t.is(r.read('c/g'), 'text');
  t.true(isWhiteout(join(r.upper, 'a/b/f')));
  t.is(readFileSync(join(r.lowers[0]!, 'a/b/f'), 'utf8'), 'text');
  const again = remount(t, r);
  t.is(again.stat('c/g').ino, before.ino);
  t.deepEqual(again.dump(), { 'a/': '', 'a/b/': '', 'c/': '', 'c/g': 'text' });
});

test('renaming replaces files, directories that are empty to the eye, and nothing else', (t) => {
  const r = rig(t, {
    upper: { u: 'u', 'ud/x': 'x' },
    lowers: [{ l: 'l', 'full/x': '', 'hollow/x': '', 'empty/': '' }],
  });
  t.is(r.rename('u', 'l'), 0);
  t.is(r.read('l'), 'u');
  t.is(r.rename('ud', 'full'), 'ENOTEMPTY');
  t.is(r.unlink('hollow/x'), 0);
  t.is(r.rename('ud', 'hollow'), 0);
  t.deepEqual(r.names('hollow'), ['x']);
  t.is(r.rename('hollow', 'empty'), 0);
  t.deepEqual(r.names('empty'), ['x']);
  t.deepEqual(r.names(), ['empty', 'full', 'l']);
  t.is(r.rename('nothing', 'x'), 'ENOENT');
  t.is(r.rename('l', 'empty', NOREPLACE), 'EEXIST');
  t.is(r.rename('l', 'nothing', EXCHANGE), 'ENOENT');
  t.is(r.rename('l', 'x', 4), 'EINVAL');
  t.true(workIsEmpty(r));
  t.deepEqual(remount(t, r).names(), ['empty', 'full', 'l']);
});

test('a directory of the upper does not merge with what it lands on', (t) => {
  const r = rig(t, { lowers: [{ 'gone/l': '', 'other/l': '' }] });
  r.mkdir('new');
  r.create('new/n');
  t.is(r.unlink('gone/l'), 0);
  t.is(r.rmdir('gone'), 0);
  t.is(r.rename('new', 'gone'), 0);
  t.deepEqual(r.names('gone'), ['n']);
  t.is(r.unlink('other/l'), 0);
  r.mkdir('again');
  t.is(r.rename('again', 'other'), 0);
  t.deepEqual(r.names('other'), []);
  const after = remount(t, r);
  t.deepEqual(after.dump(), { 'gone/': '', 'gone/n': '', 'other/': '' });
});

const moves = test.macro((t, canRedirect: boolean, namespace: 'trusted' | 'user') => {
  const tree = {
    'd/sub/deep/f': 'f',
    'd/sub/g': 'g',
    'd/l': { link: 'x' },
    'd/gone': 'x',
    'd/h1': 'linked',
    'p/q/': '',
  };
  const options = { canRedirect, namespaceOfMarks: namespace };
  const r = rig(t, { upper: { 'd/sub/u': 'u', 'd/gone': null }, lowers: [tree] }, options);
  const inos = {
    d: r.stat('d').ino,
    g: r.stat('d/sub/g').ino,
    f: r.stat('d/sub/deep/f').ino,
  };
  const reader = r.open('d/sub/g', 0);
  t.is(r.rename('d', 'p/q/moved'), 0);
  const moved = {
    'p/': '',
    'p/q/': '',
    'p/q/moved/': '',
    'p/q/moved/h1': 'linked',
    'p/q/moved/l': 'type 10',
    'p/q/moved/sub/': '',
    'p/q/moved/sub/deep/': '',
    'p/q/moved/sub/deep/f': 'f',
    'p/q/moved/sub/g': 'g',
    'p/q/moved/sub/u': 'u',
  };
  t.deepEqual(r.dump(), moved);
  t.is(r.readFrom(reader), 'g');
  r.write('p/q/moved/sub/g', 'G', 1);
  t.is(r.readFrom(reader), 'G');
  r.fs.release(reader);
  t.is(r.stat('p/q/moved').ino, inos.d);
  t.is(r.stat('p/q/moved/sub/g').ino, inos.g);
  // And a directory below, out of the one that was moved; and back over a name that was deleted.
  t.is(r.rename('p/q/moved/sub/deep', 'deep'), 0);
  t.is(r.rename('p/q/moved', 'd'), 0);
  t.is(r.rename('deep', 'd/deep2'), 0);
  const all = {
    'd/': '',
    'd/deep2/': '',
    'd/deep2/f': 'f',
    'd/h1': 'linked',
    'd/l': 'type 10',
    'd/sub/': '',
    'd/sub/g': 'G',
    'd/sub/u': 'u',
    'p/': '',
    'p/q/': '',
  };
  t.deepEqual(r.dump(), all);
  const again = remount(t, r, options);
  t.deepEqual(again.dump(), all);
  t.is(again.stat('d/deep2/f').ino, inos.f);
  t.is(attribute(join(again.upper, 'd'), `${namespace}.overlay.redirect`) !== undefined, canRedirect);
  t.deepEqual(r.marks.includes('redirectsUsed'), canRedirect);
  t.true(workIsEmpty(again));
});
if (isRoot) test('directories of layers are moved by a redirect', moves, true, 'trusted');
test('directories of layers are moved by copying where no redirect may be written', moves, false, 'user');

test('exchange swaps files and directories of whichever layers', (t) => {
  const r = rig(t, { upper: { u: 'u' }, lowers: [{ l: 'l', 'd/x': 'x', 'e/y': 'y' }] });
  t.is(r.rename('u', 'l', EXCHANGE), 0);
  t.is(r.read('u'), 'l');
  t.is(r.read('l'), 'u');
  t.is(r.rename('d', 'e', EXCHANGE), 0);
  t.is(r.rename('e', 'u', EXCHANGE), 0);
  const all = { 'd/': '', 'd/y': 'y', e: 'l', l: 'u', 'u/': '', 'u/x': 'x' };
  t.deepEqual(r.dump(), all);
  t.deepEqual(remount(t, r).dump(), all);
});

test('a rename leaves nodes, and what is below them, what they were', (t) => {
  const r = rig(t, { upper: { 'a/b/f': 'f' } });
  const f = r.node('a/b/f');
  const b = r.node('a/b');
  t.is(r.rename('a', 'z'), 0);
  t.is(r.node('z/b'), b);
  t.is(r.node('z/b/f'), f);
  const handle = r.open(f, 2);
  r.writeTo(handle, 'F');
  r.fs.release(handle);
  t.is(readFileSync(join(r.upper, 'z/b/f'), 'utf8'), 'F');
});

test('hard links within a layer stay one file, whichever name is written to', (t) => {
  const r = rig(t, { lowers: [{ 'a/one': 'text', 'b/two': { same: 'a/one' }, three: { same: 'a/one' } }] });
  const one = r.node('a/one');
  t.is(r.node('b/two'), one);
  t.is(r.stat(one).nlink, 3);
  r.write('b/two', 'TEXT', 1);
  t.is(r.read('a/one'), 'TEXT');
  t.is(r.read('three'), 'TEXT');
  t.is(r.stat('three').nlink, 3);
  t.is(r.unlink('a/one'), 0);
  t.is(r.stat('b/two').nlink, 2);
  r.write('three', '3', 1);
  t.is(r.read('b/two'), '3EXT');
  t.is(r.stat('b/two').ino, r.stat('three').ino);
  for (const { name, ino } of r.entries('b')) t.is(ino, r.stat(`b/${name}`).ino);
  const again = remount(t, r);
  t.is(again.read('b/two'), '3EXT');
  t.is(again.read('three'), '3EXT');
  t.is(again.node('three'), again.node('b/two'));
});

test('a new name of a file of a layer copies it up once, and both are one', (t) => {
  const r = rig(t, { lowers: [{ f: 'text', 'd/': '' }] });
  const { ino } = r.stat('f');
  t.is(r.link('f', 'd/g'), 0);
  t.is(r.node('d/g'), r.node('f'));
  t.is(r.stat('f').nlink, 2);
  t.is(r.stat('d/g').ino, ino);
  t.is(r.link('d', 'x'), 'EPERM');
  t.is(r.unlink('f'), 0);
  t.is(r.stat('d/g').nlink, 1);
  t.is(r.link('d/g', 'f'), 0);
  t.is(r.rename('f', 'd/g'), 0);
  const again = remount(t, r);
  t.is(again.node('f'), again.node('d/g'));
  t.is(again.stat('f').ino, ino);
});

rootTest(`new files belong to the caller, and inherit what the directory passes on${rootOnly}`, (t) => {
  const r = rig(t, { lowers: [{ 'plain/': '', 'sgid/': '', 'gone/x': '' }] });
  chownSync(join(r.lowers[0]!, 'sgid'), 0, 77);
  chmodSync(join(r.lowers[0]!, 'sgid'), 0o2777);
  r.caller = { uid: 1000, gid: 1001, pid: 1 };
  r.create('plain/f', '', 0o666);
  const f = r.stat('plain/f');
  t.deepEqual([f.uid, f.gid, f.mode & 0o7777], [1000, 1001, 0o644]);
  r.create('sgid/f', '', 0o666);
  r.mkdir('sgid/d', 0o777);
  const [g, d] = [r.stat('sgid/f'), r.stat('sgid/d')];
  t.deepEqual([g.uid, g.gid, g.mode & 0o7777], [1000, 77, 0o644]);
  t.deepEqual([d.uid, d.gid, d.mode & 0o7777], [1000, 77, 0o2755]);
  // The same where a whiteout is replaced.
  for (const name of ['f', 'd']) r.rename(`sgid/${name}`, `plain/${name}2`);
  const s = rig(t, { lowers: [{ 'sgid/f': '', 'sgid/d/x': '' }] });
  chownSync(join(s.lowers[0]!, 'sgid'), 0, 77);
  chmodSync(join(s.lowers[0]!, 'sgid'), 0o2777);
  s.unlink('sgid/f');
  s.unlink('sgid/d/x');
  s.rmdir('sgid/d');
  s.caller = r.caller;
  s.create('sgid/f', '', 0o4755);
  s.mkdir('sgid/d', 0o777);
  const [g2, d2] = [s.stat('sgid/f'), s.stat('sgid/d')];
  t.deepEqual([g2.uid, g2.gid, g2.mode & 0o7777], [1000, 77, 0o4755]);
  t.deepEqual([d2.uid, d2.gid, d2.mode & 0o7777], [1000, 77, 0o2755]);
});

rootTest(
  `a default access control list passes on, also where a whiteout was, and the umask does not count${rootOnly}`,
  (t) => {
    const r = rig(t, { lowers: [{ 'd/old': '', 'd/sub/x': '' }] });
    const acl = encodeAcl([
      [ACL_USER_OBJ, 7, NO_ID],
      [ACL_USER, 7, 1234],
      [ACL_GROUP_OBJ, 5, NO_ID],
      [ACL_MASK, 7, NO_ID],
      [ACL_OTHER, 0, NO_ID],
    ]);
    t.is(lsetxattr(cString(join(r.lowers[0]!, 'd')), cString('system.posix_acl_default'), acl), 0);
    r.unlink('d/old');
    r.unlink('d/sub/x');
    r.rmdir('d/sub');
    for (const name of ['new', 'old']) {
      r.create(`d/${name}`, '', 0o666);
      t.is(r.stat(`d/${name}`).mode & 0o777, 0o660);
      t.not(r.getxattr(`d/${name}`, 'system.posix_acl_access'), 'ENODATA');
    }
    r.mkdir('d/sub', 0o777);
    t.is(r.stat('d/sub').mode & 0o777, 0o770);
    t.not(r.getxattr('d/sub', 'system.posix_acl_default'), 'ENODATA');
    t.true(workIsEmpty(r));
  },
);

test('where devices cannot be made, whiteouts are names that users cannot have', (t) => {
  const r = rig(
    t,
    { upper: { u: '' }, lowers: [{ l: '', 'd/x': 'x', m: 'm', 'e/': '' }] },
    { writesNames: true, canRedirect: false },
  );
  t.is(r.unlink('l'), 0);
  t.true(existsSync(join(r.upper, '.wh.l')));
  t.is(r.unlink('d/x'), 0);
  t.is(r.rmdir('d'), 0);
  t.is(r.rename('m', 'n'), 0);
  t.is(r.rmdir('e'), 0);
  t.deepEqual(r.names(), ['n', 'u']);
  r.create('l', 'new');
  r.mkdir('d');
  t.deepEqual(r.names('d'), []);
  t.throws(() => r.create('.wh.x'), { message: 'EINVAL' });
  t.is(r.rename('u', '.wh.u'), 'EINVAL');
  t.is(r.link('u', '.wh.u'), 'EINVAL');
  t.is(r.find('.wh.l'), 0);
  const all = { 'd/': '', l: 'new', n: 'm', u: '' };
  t.deepEqual(r.dump(), all);
  t.deepEqual(remount(t, r, { writesNames: true }).dump(), all);
});

test('directories that copy-up goes through keep their times', (t) => {
  const r = rig(t, { lowers: [{ 'a/b/f': 'x' }] });
  const times = (path: string) => {
    const { mtime, mtimeNs } = r.stat(path);
    return [mtime, mtimeNs];
  };
  const before = [times('a'), times('a/b'), times('a/b/f')];
  const root = times('');
  r.setattr('a/b/f', { valid: 1, mode: 0o600 });
  t.deepEqual([times('a'), times('a/b'), times('a/b/f')], before);
  t.deepEqual(times(''), root);
  r.create('a/b/new');
  t.notDeepEqual(times('a/b'), before[1]);
});

test('a failed create leaves nothing behind', (t) => {
  const r = rig(t, { upper: { f: '' }, lowers: [{ d: '' }] });
  const out = newOpen();
  t.is(
    r.say(() => r.fs.create(1, Buffer.from('f'), 2, 0o644, 0, r.caller, newEntry(), out)),
    'EEXIST',
  );
  t.is(
    r.say(() => r.fs.mkdir(1, Buffer.from('n'.repeat(300)), 0o755, 0, r.caller, newEntry())),
    'ENAMETOOLONG',
  );
  t.deepEqual(readdirSync(r.upper), ['f']);
  t.true(workIsEmpty(r));
  t.is(
    r.say(() => r.fs.mkdir(999, Buffer.from('x'), 0o755, 0, r.caller, newEntry())),
    'ESTALE',
  );
});

test('the lower layers are not touched', (t) => {
  const r = rig(t, { lowers: [{ 'd/f': 'text', 'd/g': 'g', 'e/': '' }] });
  const list = () =>
    readdirSync(r.lowers[0]!, { recursive: true })
      .map(String)
      .sort()
      .map((name) => {
        const stat = statSync(join(r.lowers[0]!, name));
        const { atimeMs, mtimeMs, ctimeMs, mode, nlink } = stat;
        return [name, stat.isFile() ? atimeMs : 0, mtimeMs, ctimeMs, mode, nlink];
      });
  list();
  const before = list();
  r.read('d/f');
  r.write('d/f', 'new');
  r.unlink('d/g');
  r.rename('d', 'moved');
  r.rmdir('e');
  mkdirSync(join(r.base, 'unrelated'));
  t.deepEqual(list(), before);
});

rootTest('what chattr has made immutable in a lower layer is neither changed nor removed', (t) => {
  const r = rig(t, { lowers: [{ f: 'x', 'd/in': 'x', 'e/': '', other: 'o' }] });
  const protectedOnes = ['f', 'd', 'e'].map((name) => join(r.lowers[0]!, name));
  const set = spawnSync('chattr', ['+i', ...protectedOnes], { encoding: 'utf8' });
  t.teardown(() => spawnSync('chattr', ['-i', ...protectedOnes]));
  // Not every file system has such flags.
  if (set.status !== 0) return t.pass(set.stderr);
  t.throws(() => r.open('f', 1), { message: 'EPERM' });
  t.throws(() => r.setattr('f', { valid: FATTR_MODE, mode: 0o600 }), { message: 'EPERM' });
  t.throws(() => r.create('d/new'), { message: 'EPERM' });
  t.is(r.setxattr('d', 'user.x', '1'), 'EPERM');
  t.is(r.link('f', 'link'), 'EPERM');
  t.is(r.rename('f', 'renamed'), 'EPERM');
  t.is(r.rename('other', 'f'), 'EPERM');
  t.is(r.rename('f', 'other', EXCHANGE), 'EPERM');
  t.is(r.unlink('f'), 'EPERM');
  t.is(r.unlink('d/in'), 'EPERM');
  t.is(r.rmdir('e'), 'EPERM');
  t.deepEqual(r.dump(), { 'd/': '', 'd/in': 'x', 'e/': '', f: 'x', other: 'o' });
  t.true(workIsEmpty(r));
});
