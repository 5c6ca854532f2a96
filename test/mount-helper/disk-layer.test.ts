import {
  chmodSync,
  closeSync,
  linkSync,
  lstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  readSync,
  rmSync,
  statfsSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import fc from 'fast-check';
import type { DiskDirectory } from '../../src/mount-helper/overlay/disk-layer.ts';
import { openDiskLayer } from '../../src/mount-helper/overlay/disk-layer.ts';
import { decodeDirents } from '../../src/mount-helper/system/dirents.ts';
import {
  EACCES,
  ELOOP,
  ENAMETOOLONG,
  ENODATA,
  ENOENT,
  ENOTDIR,
  ERANGE,
  EROFS,
} from '../../src/mount-helper/system/errno.ts';
import { AT_FDCWD, cString, mkdirat, mknodat } from '../../src/mount-helper/system/libc.ts';
import {
  direntType,
  newStatx,
  S_IFIFO,
  statxIno,
  statxMode,
  statxSize,
} from '../../src/mount-helper/system/statx.ts';
import { setxattrAt } from '../../src/mount-helper/system/xattr.ts';
import {
  asUser,
  getXattr,
  isRoot,
  openLayer,
  rootOnly,
  scratch,
  setTimes,
  setXattr,
} from './helpers/scratch.ts';

const rootTest = isRoot ? test : test.skip;
const O_RDONLY = 0;

interface Listed {
  readonly name: string;
  readonly ino: bigint;
  readonly type: number;
}

function listed(directory: DiskDirectory): Listed[] {
  const entries: Listed[] = [];
  const code = directory.list((name, ino, type) => {
    entries.push({ name: Buffer.from(name).toString('latin1'), ino, type });
  });
  if (code < 0) throw new Error(`list: ${code}`);
  return entries;
}

function childOf(directory: DiskDirectory, name: string): DiskDirectory {
  const child = directory.openDirectory(cString(name));
  if (typeof child === 'number') throw new Error(`open ${name}: ${child}`);
  return child;
}

test('entries are listed with the bytes of their names, inode numbers and types', (t) => {
  const path = scratch(t);
  const { root } = openLayer(t, path);
  const names = [
    Buffer.from([0xff, 0xfe, 0x41]),
    Buffer.from('ä\n"\\ '),
    Buffer.from('.hidden'),
    Buffer.from('...'),
  ];
  for (const name of names) writeFileSync(Buffer.concat([Buffer.from(`${path}/`), name]), '');
  mkdirSync(join(path, 'directory'));
  symlinkSync('.hidden', join(path, 'link'));
  mknodat(AT_FDCWD, cString(join(path, 'pipe')), S_IFIFO | 0o600, 0);

  const entries = listed(root);
  t.deepEqual(
    entries.map(({ name }) => name).sort(),
    [...names.map((name) => name.toString('latin1')), 'directory', 'link', 'pipe'].sort(),
  );
  const stat = newStatx();
  for (const { name, ino, type } of entries) {
    t.is(root.statAt(cString(Buffer.from(name, 'latin1')), stat), 0, name);
    t.is(statxIno(stat), ino, name);
    t.is(direntType(statxMode(stat)), type, name);
  }
});

test('a large directory is listed whole, also while another is listed in between', (t) => {
  const path = scratch(t);
  const { root } = openLayer(t, path);
  const expected: string[] = [];
  for (let i = 0; i < 2000; i++) {
    const name = `${'n'.repeat(100)}${i}`;
    expected.push(name);
    if (i % 500 === 0) mkdirSync(join(path, name));
    else writeFileSync(join(path, name), '');
  }
  const names: string[] = [];
  const code = root.list((name, _ino, type) => {
    names.push(Buffer.from(name).toString());
    if (type !== 4) return;
    const child = childOf(root, Buffer.from(name).toString());
    t.deepEqual(listed(child), []);
    t.is(listed(root).length, 2000);
    child.release();
  });
  t.is(code, 0);
  t.deepEqual(names.sort(), expected.sort());
});

test('what is no directory, or only leads to one, cannot be opened as one', (t) => {
  const path = scratch(t);
  const { root } = openLayer(t, path);
  mkdirSync(join(path, 'real'));
  writeFileSync(join(path, 'file'), 'content');
  symlinkSync('real', join(path, 'link'));
  t.is(root.openDirectory(cString('link')), -ENOTDIR);
  t.is(root.openDirectory(cString('file')), -ENOTDIR);
  t.is(root.openDirectory(cString('missing')), -ENOENT);
  t.is(root.openDirectory(cString('x'.repeat(256))), -ENAMETOOLONG);
  childOf(root, 'real').release();
});

test('a symbolic link is not followed when files are opened, and can be read', (t) => {
  const path = scratch(t);
  const { root } = openLayer(t, path);
  writeFileSync(join(path, 'file'), 'content');
  symlinkSync('file', join(path, 'link'));
  t.is(root.openFile(cString('link'), O_RDONLY), -ELOOP);
  const out = Buffer.alloc(100);
  t.is(root.readlinkAt(cString('link'), out), 4);
  t.is(out.toString('latin1', 0, 4), 'file');
});

test('a file is read at any offset, into any place', (t) => {
  const path = scratch(t);
  const { root } = openLayer(t, path);
  writeFileSync(join(path, 'file'), '0123456789');
  const file = root.openFile(cString('file'), O_RDONLY);
  if (typeof file === 'number') return t.fail(`${file}`);
  t.teardown(() => file.release());
  const out = Buffer.alloc(8, '-');
  t.is(file.read(out, 2, 4, 3), 4);
  t.is(out.toString(), '--3456--');
  t.is(file.read(out, 0, 8, 8), 2);
  t.is(file.read(out, 0, 8, 10), 0);
  const stat = newStatx();
  t.is(file.stat(stat), 0);
  t.is(statxSize(stat), 10);
});

test('opening what has become a pipe does not wait for a writer', (t) => {
  const path = scratch(t);
  const { root } = openLayer(t, path);
  mknodat(AT_FDCWD, cString(join(path, 'pipe')), S_IFIFO | 0o600, 0);
  const file = root.openFile(cString('pipe'), O_RDONLY);
  if (typeof file === 'number') return t.fail(`${file}`);
  file.release();
  t.pass();
});

test('reading through a lower layer leaves access times alone', (t) => {
  const path = scratch(t);
  for (const name of ['control', 'lower']) {
    writeFileSync(join(path, name), 'content');
    // Older than the modification: with `relatime` the next read would renew it.
    setTimes(AT_FDCWD, join(path, name), [1_000_000_000, 5, 1_100_000_000, 0]);
  }
  const read = (name: string, updatesAccessTimes: boolean): bigint => {
    const { root } = openLayer(t, path, updatesAccessTimes);
    const file = root.openFile(cString(name), O_RDONLY);
    if (typeof file === 'number') throw new Error(`${file}`);
    file.read(Buffer.alloc(10), 0, 10, 0);
    file.release();
    return lstatSync(join(path, name), { bigint: true }).atimeNs;
  };
  const fd = openSync(join(path, 'control'), 'r');
  readSync(fd, Buffer.alloc(10));
  closeSync(fd);
  const isRecorded = lstatSync(join(path, 'control')).atimeMs !== 1_000_000_000_000;
  t.is(read('lower', false), 1_000_000_000_000_000_005n);
  if (isRecorded) t.not(read('lower', true), 1_000_000_000_000_000_005n);
});

rootTest(`files of others are read though their access times cannot be left alone${rootOnly}`, (t) => {
  const path = scratch(t);
  writeFileSync(join(path, 'file'), 'content', { mode: 0o644 });
  const { root } = openLayer(t, path);
  asUser(12345, () => {
    const file = root.openFile(cString('file'), O_RDONLY);
    if (typeof file === 'number') return t.fail(`${file}`);
    t.is(file.read(Buffer.alloc(10), 0, 10, 0), 7);
    file.release();
    t.deepEqual(
      listed(root).map(({ name }) => name),
      ['file'],
    );
    return undefined;
  });
});

rootTest(`a directory that may not be read is an error, not an empty one${rootOnly}`, (t) => {
  const path = scratch(t);
  mkdirSync(join(path, 'closed'), 0o711);
  const { root } = openLayer(t, path);
  const closed = childOf(root, 'closed');
  asUser(12345, () => {
    t.is(
      closed.list(() => t.fail('listed')),
      -EACCES,
    );
  });
  closed.release();
});

rootTest(`a directory that may be read and not searched is listed, with its attributes${rootOnly}`, (t) => {
  const path = scratch(t);
  mkdirSync(join(path, 'd'));
  writeFileSync(join(path, 'd/file'), '');
  const { root } = openLayer(t, path);
  t.is(setXattr(root.fd, 'd', 'user.x', 'yes'), 0);
  chmodSync(join(path, 'd'), 0o744);
  const directory = childOf(root, 'd');
  asUser(12345, () => {
    t.deepEqual(
      listed(directory).map(({ name }) => name),
      ['file'],
    );
    t.is(directory.getxattr(undefined, cString('user.x'), Buffer.alloc(3)), 3);
    t.is(directory.statAt(cString('file'), newStatx()), -EACCES);
  });
  directory.release();
});

rootTest(`on a mount of its own a layer cannot be written, nor its access times changed${rootOnly}`, (t) => {
  const path = scratch(t);
  mkdirSync(join(path, 'd'));
  writeFileSync(join(path, 'd/file'), 'content');
  const opened = openDiskLayer(Buffer.from(path), {
    description: '',
    readsWhiteoutNames: false,
    updatesAccessTimes: true,
    onOwnMount: true,
  });
  if (typeof opened === 'number') return t.fail(`${opened}`);
  const root = opened.openRoot();
  if (typeof root === 'number') return t.fail(`${root}`);
  const directory = childOf(root, 'd');
  if (mkdirat(root.fd, cString('new'), 0o755) === 0) return t.pass('this kernel cannot do it');
  t.is(mkdirat(root.fd, cString('another'), 0o755), -EROFS);
  t.is(directory.openFile(cString('file'), 2), -EROFS);
  t.is(setXattr(root.fd, 'd', 'user.x', ''), -EROFS);
  setTimes(AT_FDCWD, join(path, 'd/file'), [1_000_000_000, 0, 1_100_000_000, 0]);
  const file = directory.openFile(cString('file'), O_RDONLY);
  if (typeof file === 'number') return t.fail(`${file}`);
  t.is(file.read(Buffer.alloc(10), 0, 10, 0), 7);
  t.is(lstatSync(join(path, 'd/file')).atimeMs, 1_000_000_000_000);
  t.deepEqual(
    listed(directory).map(({ name }) => name),
    ['file'],
  );
  t.is(directory.listxattr(undefined, Buffer.alloc(100)), 0);
  file.release();
  directory.release();
  root.release();
  opened.close();
  return undefined;
});

test('extended attributes are found by entry and for the directory itself', (t) => {
  const path = scratch(t);
  const { root } = openLayer(t, path);
  const name = Buffer.from([0xff, 0x80, 0x41]);
  writeFileSync(Buffer.concat([Buffer.from(`${path}/`), name]), '');
  t.is(setXattr(root.fd, '.', 'user.of-directory', 'yes'), 0);
  const entry = cString(name);
  const out = Buffer.alloc(100);
  t.is(setxattrAt(root.fd, entry, cString('user.of-entry'), Buffer.from('no')), 0);
  t.is(root.getxattr(entry, cString('user.of-entry'), out), 2);
  t.is(root.getxattr(cString('missing'), cString('user.of-entry'), out), -ENOENT);
  t.is(root.getxattr(entry, cString('user.of-directory'), out), -ENODATA);
  t.is(root.getxattr(undefined, cString('user.of-directory'), out), 3);
  t.is(out.toString('latin1', 0, 3), 'yes');
  t.is(root.getxattr(undefined, cString('user.of-directory'), Buffer.alloc(0)), 3);
  t.is(root.getxattr(undefined, cString('user.of-directory'), Buffer.alloc(2)), -ERANGE);
  const length = root.listxattr(undefined, out);
  t.true(out.toString('latin1', 0, length).split('\0').includes('user.of-directory'));
});

rootTest(`attributes of a symbolic link are its own${rootOnly}`, (t) => {
  const path = scratch(t);
  const { root } = openLayer(t, path);
  writeFileSync(join(path, 'file'), '');
  symlinkSync('file', join(path, 'link'));
  t.is(setXattr(root.fd, 'link', 'trusted.of-link', 'yes'), 0);
  t.is(getXattr(root.fd, 'file', 'trusted.of-link'), -ENODATA);
  t.is(String(getXattr(root.fd, 'link', 'trusted.of-link')), 'yes');
});

test('a tree deeper than any path is reached step by step', (t) => {
  const path = scratch(t);
  const { root } = openLayer(t, path);
  const name = 'd'.repeat(200);
  let at: DiskDirectory = root;
  for (let depth = 0; depth < 40; depth++) {
    t.is(mkdirat(at.fd, cString(name), 0o755), 0);
    const next = childOf(at, name);
    if (at !== root) at.release();
    at = next;
  }
  const stat = newStatx();
  t.is(at.stat(stat), 0);
  t.deepEqual(listed(at), []);
  t.is(setXattr(at.fd, '.', 'user.deep', 'yes'), 0);
  at.release();
});

test('a layer tells its device and the room on it', (t) => {
  const path = scratch(t);
  const { layer } = openLayer(t, path);
  const out = { bsize: 0, blocks: 0, bfree: 0, bavail: 0, files: 0, ffree: 0 };
  t.is(layer.statistics(out), 0);
  const expected = statfsSync(path);
  t.is(out.bsize, expected.bsize);
  t.is(out.blocks, expected.blocks);
  t.is(out.files, expected.files);
  const { dev } = lstatSync(path);
  const major = BigInt((dev >>> 8) & 0xfff);
  const minor = BigInt((dev & 0xff) | ((dev >>> 12) & 0xfff00));
  t.is(layer.device, (major << 32n) | minor);
});

test('a layer that is missing or no directory is an error number', (t) => {
  const path = scratch(t);
  writeFileSync(join(path, 'file'), '');
  const options = { description: '', readsWhiteoutNames: false, updatesAccessTimes: false };
  t.is(openDiskLayer(Buffer.from(join(path, 'missing')), options), -ENOENT);
  t.is(openDiskLayer(Buffer.from(join(path, 'file')), options), -ENOTDIR);
});

test('a directory that is removed while it is held is empty', (t) => {
  const path = scratch(t);
  const { root } = openLayer(t, path);
  mkdirSync(join(path, 'd'));
  const held = childOf(root, 'd');
  rmSync(join(path, 'd'), { recursive: true });
  t.true([0, -ENOENT].includes(held.list(() => t.fail('listed'))));
  t.is(held.statAt(cString('x'), newStatx()), -ENOENT);
  held.release();
});

test('release gives the descriptors back', (t) => {
  const path = scratch(t);
  const { root } = openLayer(t, path);
  mkdirSync(join(path, 'd'));
  writeFileSync(join(path, 'f'), '');
  linkSync(join(path, 'f'), join(path, 'd/f'));
  const open = () => readdirSync('/proc/self/fd').length;
  childOf(root, 'd').release();
  const before = open();
  for (let i = 0; i < 10; i++) {
    const child = childOf(root, 'd');
    listed(child);
    const file = child.openFile(cString('f'), O_RDONLY);
    if (typeof file !== 'number') file.release();
    child.release();
  }
  t.is(open(), before);
});

/** One record as the kernel packs it. */
function dirent(name: Uint8Array, ino: bigint, type: number): Buffer {
  const record = Buffer.alloc((19 + name.length + 1 + 7) & ~7);
  record.writeBigUInt64LE(ino, 0);
  record.writeUInt16LE(record.length, 16);
  record[18] = type;
  record.set(name, 19);
  return record;
}

test('entries are decoded as they were packed, without the two dots', (t) => {
  const name = fc.uint8Array({ minLength: 1, maxLength: 255 }).map((bytes) => bytes.map((byte) => byte || 1));
  const entry = fc.record({
    name,
    ino: fc.bigInt({ min: 0n, max: (1n << 64n) - 1n }),
    type: fc.integer({ min: 0, max: 12 }),
  });
  fc.assert(
    fc.property(fc.array(entry), (entries) => {
      const bytes = Buffer.concat([
        dirent(Buffer.from('.'), 1n, 4),
        ...entries.map(({ name, ino, type }) => dirent(name, ino, type)),
        dirent(Buffer.from('..'), 2n, 4),
      ]);
      const decoded: typeof entries = [];
      const whole = decodeDirents(bytes, bytes.length, (name, ino, type) => {
        decoded.push({ name: Uint8Array.from(name), ino, type });
      });
      const isDots = ({ name }: { name: Uint8Array }) =>
        ['.', '..'].includes(Buffer.from(name).toString('latin1'));
      t.true(whole);
      t.deepEqual(
        decoded,
        entries.filter((one) => !isDots(one)).map((one) => ({ ...one, name: Uint8Array.from(one.name) })),
      );
    }),
  );
});

test('entries that are cut off or make no sense are refused', (t) => {
  const whole = Buffer.concat([dirent(Buffer.from('one'), 1n, 8), dirent(Buffer.from('two'), 2n, 8)]);
  const decode = (bytes: Buffer, length = bytes.length) => decodeDirents(bytes, length, () => {});
  t.true(decode(whole));
  for (let length = 1; length < whole.length; length++) {
    t.is(decode(whole, length), length === whole.length / 2, `${length}`);
  }
  fc.assert(
    fc.property(
      fc.uint8Array({ maxLength: 200 }),
      (bytes) => typeof decode(Buffer.from(bytes)) === 'boolean',
    ),
  );
});
