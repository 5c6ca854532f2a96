import { execFileSync } from 'node:child_process';
import {
  chmodSync,
  chownSync,
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  rmdirSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import {
  endVolatile,
  findVolatileMark,
  makeVolatileMark,
  refuseVolatileMark,
  removeVolatileMark,
} from '../../src/mount-helper/overlay/volatile-mark.ts';
import { openWorkDirectory, type WorkDirectory } from '../../src/mount-helper/overlay/work-directory.ts';
import { EACCES, EEXIST, ENODATA, ENOENT } from '../../src/mount-helper/system/errno.ts';
import {
  AT_FDCWD,
  cString,
  mkdirat,
  mknodat,
  openat,
  renameat2,
} from '../../src/mount-helper/system/libc.ts';
import { S_IFCHR } from '../../src/mount-helper/system/statx.ts';
import {
  ACL_GROUP_OBJ,
  ACL_MASK,
  ACL_OTHER,
  ACL_USER,
  ACL_USER_OBJ,
  asUser,
  encodeAcl,
  getXattr,
  isRoot,
  NO_ID,
  openLayer,
  rootOnly,
  scratch,
  setXattr,
} from './helpers/scratch.ts';

const rootTest = isRoot ? test : test.skip;

function makeWork(t: ExecutionContext, at = scratch(t)): { path: string; ours: string } {
  const path = join(at, 'work');
  mkdirSync(path);
  return { path, ours: join(path, 'git2db') };
}

function open(t: ExecutionContext, path: string): WorkDirectory {
  const work = openWorkDirectory(Buffer.from(path));
  t.teardown(() => {
    // Again after a test that closed it itself finds nothing to do.
    if (existsSync(join(path, 'git2db'))) work.sweep();
  });
  return work;
}

function text(name: Uint8Array | number): string {
  if (typeof name === 'number') throw new Error(`errno ${-name}`);
  return Buffer.from(name.subarray(0, -1)).toString();
}

test('opening clears what a dead server left, and nothing else', (t) => {
  const { path, ours } = makeWork(t);
  mkdirSync(join(path, 'work'));
  mkdirSync(join(path, 'index'));
  writeFileSync(join(path, 'index/kept'), 'kernel');
  writeFileSync(join(path, 'stamp'), 'kept');
  mkdirSync(join(ours, 'a/b/c'), { recursive: true });
  writeFileSync(join(ours, 'a/b/file'), 'litter');
  writeFileSync(join(ours, '1'), 'litter');
  writeFileSync(join(ours, 'a/1'), 'litter');
  mkdirSync(join(ours, '2/1/2'), { recursive: true });
  symlinkSync('/nowhere', join(ours, 'a/link'));
  mknodat(AT_FDCWD, cString(join(ours, 'a/whiteout')), S_IFCHR, 0);
  chmodSync(join(ours, 'a/b'), 0);
  open(t, path);
  t.deepEqual(readdirSync(ours), []);
  t.deepEqual(readdirSync(path).sort(), ['git2db', 'index', 'stamp', 'work']);
  t.deepEqual(readdirSync(join(path, 'index')), ['kept']);
});

test('a tree of litter may be deeper than any path', (t) => {
  const { path, ours } = makeWork(t);
  mkdirSync(ours);
  let at = openat(AT_FDCWD, cString(ours), 0);
  const name = cString('d'.repeat(250));
  for (let depth = 0; depth < 60; depth++) {
    t.is(mkdirat(at, name, 0o755), 0);
    at = openat(at, name, 0);
  }
  open(t, path);
  t.deepEqual(readdirSync(ours), []);
});

rootTest(`an ordinary user clears directories that nobody may enter${rootOnly}`, (t) => {
  const { path, ours } = makeWork(t);
  chownSync(path, 12345, 12345);
  asUser(12345, () => {
    mkdirSync(join(ours, 'a/b/c/d'), { recursive: true });
    writeFileSync(join(ours, 'a/b/c/file'), '');
    for (const name of ['a/b/c/d', 'a/b/c', 'a/b', 'a']) chmodSync(join(ours, name), 0);
    const work = openWorkDirectory(Buffer.from(path));
    t.deepEqual(readdirSync(ours), []);
    work.close();
  });
  t.deepEqual(readdirSync(path), []);
});

test('closing leaves nothing of ours behind', (t) => {
  const { path } = makeWork(t);
  const work = open(t, path);
  text(work.newWhiteout());
  mkdirSync(join(path, 'git2db', text(work.newName())));
  work.close();
  t.deepEqual(readdirSync(path), []);
});

test('a link or a file in the place of our directory is refused', (t) => {
  const target = scratch(t);
  writeFileSync(join(target, 'precious'), '');
  const link = makeWork(t);
  symlinkSync(target, link.ours);
  const error = t.throws(() => openWorkDirectory(Buffer.from(link.path)), { code: 'DIRECTORY_FORBIDDEN' });
  t.true(error!.message.includes(link.path));
  t.deepEqual(readdirSync(target), ['precious']);

  const file = makeWork(t);
  writeFileSync(file.ours, '');
  t.throws(() => openWorkDirectory(Buffer.from(file.path)), { code: 'DIRECTORY_FORBIDDEN' });
  t.throws(() => openWorkDirectory(Buffer.from(join(file.path, 'missing'))), { code: 'DIRECTORY_FORBIDDEN' });
});

test('what is made in ours inherits neither group nor access list of the work directory', (t) => {
  const { path, ours } = makeWork(t);
  const base = openat(AT_FDCWD, cString(path), 0);
  const acl = encodeAcl([
    [ACL_USER_OBJ, 7, NO_ID],
    [ACL_USER, 7, 54321],
    [ACL_GROUP_OBJ, 5, NO_ID],
    [ACL_MASK, 7, NO_ID],
    [ACL_OTHER, 5, NO_ID],
  ]);
  const code = setXattr(base, '.', 'system.posix_acl_default', acl);
  if (code !== 0) return t.pass('no access control lists here');
  chmodSync(path, 0o2777);
  const work = open(t, path);
  t.is(lstatSync(ours).mode & 0o7777, 0o700);
  const name = text(work.newName());
  mkdirSync(join(ours, name), 0o750);
  t.is(lstatSync(join(ours, name)).mode & 0o7777, 0o750);
  t.is(getXattr(work.fd, name, 'system.posix_acl_access'), -ENODATA);
  t.is(getXattr(work.fd, name, 'system.posix_acl_default'), -ENODATA);
  return undefined;
});

test('all whiteouts are links to one device node 0:0 of mode 0', (t) => {
  const directory = scratch(t);
  const { path } = makeWork(t, directory);
  const work = open(t, path);
  const upper = join(directory, 'upper');
  mkdirSync(upper);
  const { root } = openLayer(t, upper);
  t.is(work.linkWhiteout(root.fd, cString('a')), 0);
  t.is(work.linkWhiteout(root.fd, cString('b')), 0);
  const stat = lstatSync(join(upper, 'a'));
  t.true(stat.isCharacterDevice());
  t.is(stat.rdev, 0);
  t.is(stat.mode & 0o7777, 0);
  t.is(stat.ino, lstatSync(join(upper, 'b')).ino);
  t.is(work.linkWhiteout(root.fd, cString('a')), -EEXIST);
  t.is(work.linkWhiteout(root.fd, cString('c')), 0);
  t.is(lstatSync(join(upper, 'c')).ino, stat.ino);
});

test('a whiteout is made anew when the shared one is gone', (t) => {
  const directory = scratch(t);
  const { path, ours } = makeWork(t, directory);
  const work = open(t, path);
  const { root } = openLayer(t, directory);
  t.is(work.linkWhiteout(root.fd, cString('a')), 0);
  for (const name of readdirSync(ours)) rmSync(join(ours, name));
  t.is(work.linkWhiteout(root.fd, cString('b')), 0);
  t.true(lstatSync(join(directory, 'b')).isCharacterDevice());
  t.is(work.linkWhiteout(root.fd, cString('b')), -EEXIST);
});

test('a whiteout in work can be exchanged with a file of the upper', (t) => {
  const directory = scratch(t);
  const { path, ours } = makeWork(t, directory);
  const work = open(t, path);
  const { root } = openLayer(t, directory);
  writeFileSync(join(directory, 'file'), 'content');
  const whiteout = work.newWhiteout();
  if (typeof whiteout === 'number') return t.fail(`${whiteout}`);
  t.is(work.moveOut(whiteout, root.fd, cString('file'), 2), 0);
  t.true(lstatSync(join(directory, 'file')).isCharacterDevice());
  work.remove(whiteout);
  t.false(existsSync(join(ours, text(whiteout))));
  return undefined;
});

test('a removed tree is gone, whatever is in it', (t) => {
  const directory = scratch(t);
  const { path, ours } = makeWork(t, directory);
  const work = open(t, path);
  const { root } = openLayer(t, directory);
  mkdirSync(join(directory, 'tree/one/two'), { recursive: true });
  writeFileSync(join(directory, 'tree/one/file'), '');
  const moved = work.moveIn(root.fd, cString('tree'));
  if (typeof moved === 'number') return t.fail(`${moved}`);
  t.false(existsSync(join(directory, 'tree')));
  work.remove(moved);
  work.remove(cString('missing'));
  t.deepEqual(readdirSync(ours), []);
  t.is(work.moveIn(root.fd, cString('tree')), -ENOENT);
  return undefined;
});

rootTest(`a directory that its owner may not write to is moved in and out all the same${rootOnly}`, (t) => {
  const directory = scratch(t);
  chownSync(directory, 12345, 12345);
  const upper = join(directory, 'upper');
  asUser(12345, () => {
    const { path, ours } = makeWork(t, directory);
    mkdirSync(upper);
    mkdirSync(join(upper, 'locked'), 0o555);
    const work = openWorkDirectory(Buffer.from(path));
    const { root } = openLayer(t, upper);
    t.is(renameat2(root.fd, cString('locked'), work.fd, cString('plain')), -EACCES);
    const moved = work.moveIn(root.fd, cString('locked'));
    t.is(lstatSync(join(ours, text(moved))).mode & 0o7777, 0o555);
    t.is(work.moveOut(moved as Uint8Array, root.fd, cString('back')), 0);
    t.is(lstatSync(join(upper, 'back')).mode & 0o7777, 0o555);
    const whiteout = work.newWhiteout() as Uint8Array;
    t.is(work.moveOut(whiteout, root.fd, cString('back'), 2), 0);
    t.true(lstatSync(join(upper, 'back')).isCharacterDevice());
    t.is(lstatSync(join(ours, text(whiteout))).mode & 0o7777, 0o555);
    work.close();
  });
});

test('a volatile mark is found, refused with the way out, and taken away at a clean end', (t) => {
  const { path } = makeWork(t);
  const work = open(t, path);
  t.is(findVolatileMark(work.base), 0);
  refuseVolatileMark(Buffer.from(path));
  t.is(makeVolatileMark(work.base), 0);
  t.is(makeVolatileMark(work.base), 0);
  t.is(findVolatileMark(work.base), 1);
  t.true(existsSync(join(path, 'work/incompat/volatile/dirty')));
  const error = t.throws(() => refuseVolatileMark(Buffer.from(path)), { code: 'VOLATILE_LEFTOVER' });
  t.true(error!.message.includes(join(path, 'work/incompat/volatile')));
  t.is(endVolatile(work), 0);
  t.is(findVolatileMark(work.base), 0);
  work.close();
  t.deepEqual(readdirSync(path), []);
});

test('taking the mark away leaves what else is in these directories', (t) => {
  const { path } = makeWork(t);
  const work = open(t, path);
  makeVolatileMark(work.base);
  mkdirSync(join(path, 'work/incompat/other'));
  t.is(removeVolatileMark(work.base), 0);
  t.deepEqual(readdirSync(join(path, 'work/incompat')), ['other']);
});

rootTest(`a mark is found in a directory that even its owner may not enter${rootOnly}`, (t) => {
  const { path } = makeWork(t);
  chownSync(path, 12345, 12345);
  asUser(12345, () => {
    const work = openWorkDirectory(Buffer.from(path));
    makeVolatileMark(work.base);
    chmodSync(join(path, 'work'), 0);
    t.is(findVolatileMark(work.base), 1);
    t.is(lstatSync(join(path, 'work')).mode & 0o7777, 0);
    work.close();
  });
  // Somebody else cannot tell, and must not take that for a no.
  asUser(54321, () => {
    t.throws(() => refuseVolatileMark(Buffer.from(path)), { code: 'UPPER_FOREIGN' });
  });
});

rootTest(`the kernel refuses our mark, and we refuse the kernel's${rootOnly}`, (t) => {
  const directory = scratch(t);
  for (const name of ['lower', 'upper', 'merged']) mkdirSync(join(directory, name));
  const { path } = makeWork(t, directory);
  const mount = (extra = '') =>
    execFileSync(
      'mount',
      [
        ...['-t', 'overlay', '-o'],
        `lowerdir=${directory}/lower,upperdir=${directory}/upper,workdir=${path}${extra}`,
        ...['overlay', join(directory, 'merged')],
      ],
      { stdio: 'pipe' },
    );
  const unmount = () => execFileSync('umount', [join(directory, 'merged')]);
  try {
    mount();
  } catch {
    return t.pass('this kernel mounts no overlay here');
  }
  unmount();
  const work = open(t, path);
  t.is(makeVolatileMark(work.base), 0);
  t.throws(() => mount());
  t.is(removeVolatileMark(work.base), 0);
  mount(',volatile');
  unmount();
  t.throws(() => refuseVolatileMark(Buffer.from(path)), { code: 'VOLATILE_LEFTOVER' });
  t.is(removeVolatileMark(work.base), 0);
  mount();
  unmount();
  rmdirSync(join(directory, 'merged'));
  return undefined;
});
