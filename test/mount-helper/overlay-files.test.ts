import { execFileSync } from 'node:child_process';
import {
  chmodSync,
  chownSync,
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  statSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'ava';
import { DEFERRED } from '../../src/mount-helper/fuse/file-system.ts';
import { OPEN_KILL_SUIDGID } from '../../src/mount-helper/fuse/protocol.ts';
import { EINTR, EIO, ENOSPC } from '../../src/mount-helper/system/errno.ts';
import { cString, lgetxattr } from '../../src/mount-helper/system/libc.ts';
import { newEntry, newOpen, remount, rig } from './helpers/overlay-rig.ts';
import { isRoot, rootOnly } from './helpers/scratch.ts';

const rootTest = isRoot ? test : test.skip;
const [MODE, UID, GID, SIZE, ATIME, MTIME, MTIME_NOW, KILL] = [1, 2, 4, 8, 16, 32, 256, 2048];
const O_TRUNC = 0o1000;
const KEEP_CACHE = 2;
const PASSTHROUGH = 128;

test('a file that is open reads what is written after it is copied up', (t) => {
  const r = rig(t, { lowers: [{ f: 'old text' }] });
  const reader = r.open('f', 0);
  t.is(r.readFrom(reader), 'old text');
  const writer = r.open('f', 2);
  t.is(r.readFrom(reader), 'old text');
  r.writeTo(writer, 'new');
  t.is(r.readFrom(reader), 'new text');
  r.fs.release(writer);
  r.fs.release(reader);
  t.is(readFileSync(join(r.lowers[0]!, 'f'), 'utf8'), 'old text');
});

test('opening for reading copies nothing; opening to truncate copies no data', (t) => {
  const r = rig(t, { lowers: [{ f: 'text', g: 'text' }] });
  chmodSync(join(r.lowers[0]!, 'g'), 0o640);
  r.read('f');
  t.deepEqual(readdirSync(r.upper), []);
  r.fs.release(r.open('g', 1 | O_TRUNC));
  t.is(r.stat('g').size, 0);
  t.is(r.stat('g').mode & 0o777, 0o640);
});

test('cutting a file sets its time, also when it is copied up for it', (t) => {
  const r = rig(t, { lowers: [{ f: 'text', g: 'text', h: 'x'.repeat(2 << 20) }] });
  for (const [name, size] of [
    ['f', 0],
    ['g', 2],
    ['h', 1 << 20],
  ] as const) {
    utimesSync(join(r.lowers[0]!, name), 1000, 1000);
    const cut = r.setattr(name, { valid: SIZE, size });
    t.is(cut.size, size);
    t.true(cut.mtime > 1000, name);
  }
});

test('attributes, numbers and nanoseconds are the same after copy-up and after a remount', (t) => {
  const r = rig(t, { lowers: [{ 'd/f': 'text' }] });
  r.setattr('d/f', {
    valid: ATIME | MTIME,
    atime: -5,
    atimeNs: 123456789,
    mtime: -86400,
    mtimeNs: 987654321,
  });
  const first = r.stat('d/f');
  t.deepEqual([first.mtime, first.mtimeNs, first.atime, first.atimeNs], [-86400, 987654321, -5, 123456789]);
  const again = remount(t, r);
  const second = again.stat('d/f');
  t.deepEqual({ ...second }, { ...first });
  const s = rig(t, { lowers: [{ 'd/f': 'text' }] });
  const before = { ...s.stat('d/f') };
  s.fs.release(s.open('d/f', 2));
  const after = s.stat('d/f');
  t.deepEqual({ ...after, ctime: 0, ctimeNs: 0, blocks: 0 }, { ...before, ctime: 0, ctimeNs: 0, blocks: 0 });
  t.is(remount(t, s).stat('d/f').ino, before.ino);
});

for (const layer of ['upper', 'lower'] as const) {
  test(`a file of the ${layer} that was unlinked while open works on`, (t) => {
    const r = rig(t, layer === 'upper' ? { upper: { f: 'text' } } : { lowers: [{ f: 'text' }] });
    const node = r.node('f');
    const handle = r.open('f', layer === 'upper' ? 2 : 0);
    t.is(r.unlink('f'), 0);
    t.is(r.stat(node).nlink, 0);
    t.is(r.stat(node).size, 4);
    t.is(r.readFrom(handle), 'text');
    t.is(r.setattr(node, { valid: MODE, mode: 0o600 }).mode & 0o777, 0o600);
    t.is(r.stat(node).nlink, 0);
    t.is(r.setattr(node, { valid: MTIME, mtime: 7, mtimeNs: 8 }).mtimeNs, 8);
    // As through /proc/self/fd.
    const again = r.open(node, 2);
    r.writeTo(again, 'TEX');
    t.is(r.readFrom(handle), 'TEXt');
    t.is(r.setattr(node, { valid: SIZE, size: 2 }).size, 2);
    t.is(r.getxattr(node, 'user.none'), 'ENODATA');
    t.is(
      r.say(() => r.fs.fsync(again, false)),
      0,
    );
    r.fs.release(again);
    r.fs.release(handle);
    t.is(r.stat(node).size, 2);
    t.is(r.find('f'), 0);
    r.fs.forget(node, 99);
    t.is(r.fs.size, 1);
    t.deepEqual(r.names(), []);
  });
}

test('an inode number that is used again is another node', (t) => {
  const r = rig(t, {});
  const first = r.create('a');
  t.is(r.unlink('a'), 0);
  const second = r.create('b');
  t.not(first, second);
  t.is(r.stat(first).nlink, 0);
  t.is(r.stat(second).nlink, 1);
});

test('a removed directory can still be asked for its attributes', (t) => {
  const r = rig(t, { upper: { 'u/': '' }, lowers: [{ 'l/': '' }] });
  for (const name of ['u', 'l']) {
    const node = r.node(name);
    const handle = r.opendir(name);
    t.is(r.rmdir(name), 0);
    t.is(r.stat(node).nlink, 0);
    t.deepEqual(r.readAll(handle, false), []);
    r.fs.releasedir(handle);
    const made = r.say(() => r.fs.mkdir(node, Buffer.from('x'), 0o755, 0, r.caller, newEntry()));
    t.is(made, 'ENOENT');
  }
});

test('a file without a name can be written, and gets one by link', (t) => {
  const r = rig(t, { lowers: [{ 'd/old': '' }] });
  t.is(r.unlink('d/old'), 0);
  const entry = newEntry();
  const out = newOpen();
  r.must(() => r.fs.tmpfile(r.node('d'), 2, 0o644, 0, r.caller, entry, out));
  r.writeTo(out.handle, 'text');
  t.is(r.stat(entry.node).nlink, 0);
  t.deepEqual(r.names('d'), []);
  t.is(r.link(entry.node, 'd/old'), 0);
  t.is(r.read('d/old'), 'text');
  t.is(r.stat(entry.node).nlink, 1);
  t.is(r.link(entry.node, 'd/more'), 0);
  t.is(r.node('d/more'), entry.node);
  r.fs.release(out.handle);
  t.is(remount(t, r).read('d/more'), 'text');
});

test('a copy-up that fails tells the one who asked, and the file stays what it was', (t) => {
  const big = 'x'.repeat(2 << 20);
  const r = rig(t, { lowers: [{ 'd/f': big }] });
  r.waiting.failWith = -ENOSPC;
  t.throws(() => r.open('d/f', 2), { message: 'ENOSPC' });
  t.throws(() => r.setattr('d/f', { valid: MODE, mode: 0o600 }), { message: 'ENOSPC' });
  t.is(r.stat('d/f').size, big.length);
  t.deepEqual(readdirSync(join(r.base, 'work/git2db')), []);
  r.waiting.failWith = undefined;
  r.write('d/f', 'X', 1);
  t.is(r.stat('d/f').size, big.length);
});

test('requests on a file wait while it is copied; reading and other files do not', (t) => {
  const big = 'x'.repeat(2 << 20);
  const r = rig(t, { lowers: [{ 'd/f': big, 'd/g': 'g', 'e/': '' }] });
  const { fs, waiting, caller } = r;
  const [d, f, e] = [r.node('d'), r.node('d/f'), r.node('e')];
  const reader = r.open(f, 0);
  waiting.request = 1000;
  const out = newOpen();
  t.is(fs.open(f, 2, caller, out), DEFERRED);
  const name = (text: string) => Buffer.from(text);
  waiting.request++;
  t.is(fs.unlink(d, name('f'), caller), DEFERRED);
  waiting.request++;
  t.is(fs.rename(d, name('f'), e, name('f'), 0, caller), DEFERRED);
  waiting.request++;
  t.is(fs.rename(1, name('d'), e, name('d'), 0, caller), DEFERRED);
  waiting.request++;
  t.is(fs.fsync(reader, false), DEFERRED);
  waiting.request++;
  t.is(fs.open(f, 2, caller, newOpen()), DEFERRED);
  t.is(waiting.count, 1);
  const page = Buffer.alloc(16);
  t.is(fs.read(reader, 0, 16, page, 0), 16);
  t.is(r.stat(f).size, big.length);
  t.is(r.read('d/g'), 'g');
  waiting.runAll();
  waiting.request = 1000;
  t.is(fs.open(f, 2, caller, out), 0);
  r.writeTo(out.handle, 'new');
  t.is(fs.read(reader, 0, 3, page, 0), 3);
  t.is(page.toString('utf8', 0, 3), 'new');
  waiting.request = 1002;
  t.is(fs.rename(d, name('f'), e, name('f'), 0, caller), 0);
  t.is(r.stat('e/f').size, big.length);
});

test('an interrupted request leaves its copy to the next', (t) => {
  const r = rig(t, { lowers: [{ f: 'x'.repeat(2 << 20) }] });
  const node = r.node('f');
  r.waiting.request = 50;
  t.is(r.fs.open(node, 2, r.caller, newOpen()), DEFERRED);
  r.waiting.failWith = -EIO;
  r.waiting.runAll();
  r.waiting.failWith = undefined;
  // Request 50 was answered EINTR and does not come back: its failure is not for others.
  t.not(EINTR, 0);
  t.notThrows(() => r.fs.release(r.open(node, 2)));
});

test('fsync goes to the file and to all that makes it reachable, once', (t) => {
  const r = rig(t, { lowers: [{ 'a/b/f': 'text' }] });
  r.create('a/b/new', 'x');
  const handle = r.open('a/b/new', 2);
  let before = r.waiting.count;
  t.is(
    r.say(() => r.fs.fsync(handle, false)),
    0,
  );
  // The file, `b` for its name, `a` for that of `b`, the root for that of `a`.
  t.is(r.waiting.count - before, 4);
  before = r.waiting.count;
  t.is(
    r.say(() => r.fs.fsync(handle, true)),
    0,
  );
  t.is(r.waiting.count - before, 1);
  t.is(r.rename('a/b/new', 'a/b/newer'), 0);
  before = r.waiting.count;
  t.is(
    r.say(() => r.fs.fsync(handle, true)),
    0,
  );
  t.is(r.waiting.count - before, 2);
  r.waiting.failWith = -EIO;
  t.is(
    r.say(() => r.fs.fsync(handle, true)),
    'EIO',
  );
  r.waiting.failWith = undefined;
  const lower = r.open('a/b/f', 0);
  before = r.waiting.count;
  t.is(
    r.say(() => r.fs.fsync(lower, false)),
    0,
  );
  t.is(r.waiting.count, before);
  const directory = r.opendir('a/b');
  t.is(
    r.say(() => r.fs.fsyncdir(directory, false)),
    0,
  );
  t.is(r.waiting.count - before, 1);
});

test('a volatile mount waits for nothing', (t) => {
  const r = rig(t, { lowers: [{ 'd/f': 'text' }] }, { volatile: true });
  r.write('d/f', 'new');
  const handle = r.open('d/f', 2);
  t.is(
    r.say(() => r.fs.fsync(handle, false)),
    0,
  );
  t.is(r.waiting.count, 0);
});

test('holes, allocation and copying within the mount', (t) => {
  const r = rig(t, { lowers: [{ f: 'data' }] });
  const to = r.open('f', 2);
  t.is(r.setattr('f', { valid: SIZE, size: 1 << 20 }).size, 1 << 20);
  t.is(
    r.say(() => r.fs.lseek(to, 0, 4)),
    4096,
  );
  t.is(
    r.say(() => r.fs.lseek(to, 8192, 3)),
    'ENXIO',
  );
  t.is(
    r.say(() => r.fs.fallocate(to, 1 << 20, 4096, 0)),
    0,
  );
  t.is(r.stat('f').size, (1 << 20) + 4096);
  t.is(
    r.say(() => r.fs.fallocate(to, 0, 4096, 3)),
    0,
  );
  r.create('g', 'copy me');
  const from = r.open('g', 0);
  t.is(
    r.say(() => r.fs.copyFileRange(from, 0, to, 100, 7)),
    7,
  );
  const out = Buffer.alloc(7);
  r.must(() => r.fs.read(to, 100, 7, out, 0));
  t.is(out.toString(), 'copy me');
  t.is(
    r.say(() => r.fs.copyFileRange(to, 0, from, 0, 1)),
    'EBADF',
  );
});

rootTest(`set-uid bits go when the request says so, and stay otherwise${rootOnly}`, (t) => {
  const r = rig(t, { lowers: [{ f: 'text' }] });
  chmodSync(join(r.lowers[0]!, 'f'), 0o6755);
  const handle = r.open('f', 2);
  const data = Buffer.from('x');
  r.must(() => r.fs.write(handle, 0, data, 0, 1, 0));
  t.is(r.stat('f').mode & 0o7777, 0o6755);
  r.must(() => r.fs.write(handle, 0, data, 0, 1, 4));
  t.is(r.stat('f').mode & 0o7777, 0o755);
  r.setattr('f', { valid: MODE, mode: 0o6744 });
  r.fs.release(r.open('f', 1 | O_TRUNC | OPEN_KILL_SUIDGID));
  // Also without group execution: the writer may be of another group.
  t.is(r.stat('f').mode & 0o7777, 0o744);
  r.setattr('f', { valid: MODE, mode: 0o4755 });
  r.setattr('f', { valid: SIZE | KILL, size: 0 });
  t.is(r.stat('f').mode & 0o7777, 0o755);
  r.setattr('f', { valid: MODE, mode: 0o4755 });
  t.is(r.setattr('f', { valid: UID | GID, uid: 5, gid: 6 }).mode & 0o7777, 0o755);
  t.is(r.stat('f').uid, 5);
  t.is(r.setattr('f', { valid: MTIME | MTIME_NOW, mtime: 1 }).mtime > 1e9, true);
});

test('attributes of users pass; our own marks do not show, and are kept apart from those of others', (t) => {
  const namespaceOfMarks = isRoot ? 'trusted' : 'user';
  const r = rig(t, { lowers: [{ 'd/f': 'x' }] }, { namespaceOfMarks });
  t.is(r.setxattr('d/f', 'user.mine', 'value'), 0);
  t.is(r.getxattr('d/f', 'user.mine'), 'value');
  t.deepEqual(r.listxattr('d/f'), ['user.mine']);
  const opaque = `${namespaceOfMarks}.overlay.opaque`;
  t.is(r.setxattr('d', opaque, 'y'), 0);
  t.is(r.getxattr('d', opaque), 'y');
  t.deepEqual(r.listxattr('d'), [opaque]);
  t.deepEqual(r.names('d'), ['f']);
  const out = Buffer.alloc(16);
  const escaped = cString(`${namespaceOfMarks}.overlay.overlay.opaque`);
  t.is(lgetxattr(cString(join(r.upper, 'd')), escaped, out), 1);
  t.is(r.getxattr('d/f', `${namespaceOfMarks}.overlay.git2db.origin`), 'ENODATA');
  t.is(r.setxattr('d/f', 'user.fuseoverlayfs.opaque', 'y'), 'EPERM');
  const node = r.node('d/f');
  t.is(
    r.say(() => r.fs.getxattr(node, Buffer.from('user.mine'), Buffer.alloc(0))),
    5,
  );
  t.is(
    r.say(() => r.fs.getxattr(node, Buffer.from('user.mine'), Buffer.alloc(2))),
    'ERANGE',
  );
  t.is(
    r.say(() => r.fs.listxattr(node, Buffer.alloc(0), r.caller)),
    'user.mine'.length + 1,
  );
  t.is(
    r.say(() => r.fs.listxattr(node, Buffer.alloc(3), r.caller)),
    'ERANGE',
  );
  t.is(
    r.say(() => r.fs.removexattr(node, Buffer.from('user.mine'), r.caller)),
    0,
  );
  t.is(
    r.say(() => r.fs.removexattr(node, Buffer.from('user.mine'), r.caller)),
    'ENODATA',
  );
});

test('asking to remove an attribute that is not there copies nothing', (t) => {
  const r = rig(t, { lowers: [{ f: '' }] });
  const node = r.node('f');
  t.is(
    r.say(() => r.fs.removexattr(node, Buffer.from('user.none'), r.caller)),
    'ENODATA',
  );
  t.deepEqual(readdirSync(r.upper), []);
});

rootTest(`owners are shown as the options have it${rootOnly}`, (t) => {
  const squashed = rig(t, { lowers: [{ f: '' }] }, { squashToUid: 5, squashToGid: 6 });
  t.deepEqual([squashed.stat('f').uid, squashed.stat('f').gid], [5, 6]);
  squashed.setattr('f', { valid: UID, uid: 99 });
  t.is(squashed.stat('f').uid, 5);
  const ranges = [{ inside: 1000, outside: 0, count: 10 }];
  const mapped = rig(t, { lowers: [{ f: '', g: '' }] }, { uidMapping: ranges, gidMapping: ranges });
  chownSync(join(mapped.lowers[0]!, 'f'), 1003, 1004);
  t.deepEqual([mapped.stat('f').uid, mapped.stat('f').gid], [3, 4]);
  t.is(mapped.stat('g').uid, 65534);
  mapped.setattr('f', { valid: UID, uid: 7 });
  t.is(statSync(join(mapped.upper, 'f')).uid, 1007);
});

test('owner and mode can be kept in an attribute', (t) => {
  const r = rig(t, { lowers: [{ f: 'x', 'd/': '' }] }, { xattrPermissions: 2, namespaceOfMarks: 'user' });
  r.setattr('f', { valid: UID | GID, uid: 123, gid: 456 });
  r.setattr('f', { valid: MODE, mode: 0o640 });
  const { uid, gid, mode } = r.stat('f');
  t.deepEqual([uid, gid, mode & 0o7777], [123, 456, 0o640]);
  t.is(statSync(join(r.upper, 'f')).uid, process.geteuid!());
  t.deepEqual(r.listxattr('f'), []);
  r.caller = { uid: 42, gid: 43, pid: 1 };
  r.create('d/new', '', 0o400);
  const made = r.stat('d/new');
  t.deepEqual([made.uid, made.gid, made.mode & 0o777], [42, 43, 0o400]);
  const again = remount(t, r, { xattrPermissions: 2, namespaceOfMarks: 'user' });
  t.is(again.stat('d/new').uid, 42);
});

test('files of the upper are handed to the kernel by one id each, those that may be copied up are not', (t) => {
  const calls: string[] = [];
  let next = 0;
  const backing = {
    open: () => {
      calls.push(`open ${++next}`);
      return next;
    },
    close: (id: number) => void calls.push(`close ${id}`),
  };
  const r = rig(t, { upper: { u: 'u' }, lowers: [{ l: 'l' }] }, { backing });
  const opened = (path: string, flags: number) => {
    const out = newOpen();
    r.must(() => r.fs.open(r.node(path), flags, r.caller, out));
    return out;
  };
  const first = opened('u', 0);
  const second = opened('u', 2);
  t.deepEqual([first.backingId, second.backingId], [1, 1]);
  t.is(first.flags & PASSTHROUGH, PASSTHROUGH);
  r.fs.release(first.handle);
  t.deepEqual(calls, ['open 1']);
  r.fs.release(second.handle);
  t.deepEqual(calls, ['open 1', 'close 1']);
  const lower = opened('l', 0);
  t.is(lower.flags & (PASSTHROUGH | KEEP_CACHE), KEEP_CACHE);
  const copied = opened('l', 2);
  t.is(copied.flags & PASSTHROUGH, 0);
  r.fs.release(copied.handle);
  r.fs.release(lower.handle);
  t.is(opened('l', 0).backingId, 2);
});

rootTest(`a read-only mount hands its files to the kernel where reading leaves no trace${rootOnly}`, (t) => {
  for (const option of ['noatime', 'strictatime']) {
    const at = mkdtempSync(join(tmpdir(), 'git2db-overlay-'));
    execFileSync('mount', ['-t', 'tmpfs', '-o', option, 'git2db-test', at]);
    const backing = { open: () => 7, close: () => undefined };
    const r = rig(t, { lowers: [{ l: 'l' }] }, { backing, readsOnly: true, at });
    const out = newOpen();
    r.must(() => r.fs.open(r.node('l'), 0, r.caller, out));
    t.is(out.backingId, option === 'noatime' ? 7 : 0);
    r.fs.release(out.handle);
    execFileSync('umount', ['--lazy', at]);
  }
});

test('passthrough that is refused is not asked for again', (t) => {
  let asked = 0;
  const backing = {
    open: () => {
      asked++;
      return -1;
    },
    close: () => t.fail(),
  };
  const r = rig(t, { upper: { u: 'u' } }, { backing });
  t.is(r.read('u'), 'u');
  t.is(r.read('u'), 'u');
  t.is(asked, 1);
});

test('a server that forgets all nodes finds the same numbers again', (t) => {
  const r = rig(t, { upper: { 'd/u': 'u' }, lowers: [{ 'd/l': 'l', h1: 'x', h2: { same: 'h1' } }] });
  const before = r.entries('d', true).map(({ ino }) => ino);
  r.find('h1');
  r.find('h2');
  for (let id = 2; id < 20; id++) r.fs.forget(id, 100);
  t.is(r.fs.size, 1);
  t.deepEqual(
    r.entries('d').map(({ ino }) => ino),
    before,
  );
  t.is(r.node('h1'), r.node('h2'));
});

test('layers that change underneath give other answers, not failures', (t) => {
  const r = rig(t, { upper: { 'd/u': '' }, lowers: [{ 'd/l': '', f: '' }] });
  r.dump();
  writeFileSync(join(r.upper, 'f'), 'put there');
  t.is(r.read('f'), '');
  writeFileSync(join(r.upper, 'd/other'), 'put there');
  t.is(r.read('d/other'), 'put there');
  chmodSync(join(r.upper, 'd/u'), 0o600);
  t.is(r.stat('d/u').mode & 0o777, 0o600);
  t.true(existsSync(join(r.upper, 'd')));
});
