import { execFileSync } from 'node:child_process';
import {
  chmodSync,
  chownSync,
  closeSync,
  fstatSync,
  ftruncateSync,
  linkSync,
  lstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import fc from 'fast-check';
import { DEFERRED, type Job, type Waiting, type Work } from '../../src/mount-helper/fuse/file-system.ts';
import { copyByReading, copyData, copyRange, shareData } from '../../src/mount-helper/overlay/copy-data.ts';
import type { MetadataRules } from '../../src/mount-helper/overlay/copy-metadata.ts';
import { type Copied, CopyUp, keepTimes, LARGE_FILE_BYTES } from '../../src/mount-helper/overlay/copy-up.ts';
import type { DiskDirectory } from '../../src/mount-helper/overlay/disk-layer.ts';
import type { LayerDirectory, LayerFile } from '../../src/mount-helper/overlay/layer.ts';
import { decodeOverrideStat, encodeOverrideStat } from '../../src/mount-helper/overlay/override-stat.ts';
import { openWorkDirectory, type WorkDirectory } from '../../src/mount-helper/overlay/work-directory.ts';
import { EIO, ENODATA, ENOENT, ENOSPC, EPERM, EROFS } from '../../src/mount-helper/system/errno.ts';
import { AT_FDCWD, type CString, cString, fsync, mknodat } from '../../src/mount-helper/system/libc.ts';
import { newStatx, S_IFBLK, S_IFIFO, S_IFSOCK, type Statx } from '../../src/mount-helper/system/statx.ts';
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
  setTimes,
  setXattr,
  smallFileSystem,
} from './helpers/scratch.ts';

const rootTest = isRoot ? test : test.skip;
const ALL = Number.POSITIVE_INFINITY;
const OVERRIDE = 'user.containers.override_stat';
const USER_RULES: MetadataRules = {
  namespace: 'user',
  owners: 'set',
  overrideAttribute: undefined,
  copiesAcls: true,
};

/** Does the work of jobs when it is told to. */
class FakeWaiting implements Waiting {
  readonly isInterrupted = false;
  readonly request = 1;
  readonly pending: {
    readonly work: Work;
    readonly job: Job & { isDone: boolean };
    readonly finish: (result: number) => void;
  }[] = [];

  waitFor(): void {}

  attributesChanged(): void {}

  start(work: Work, finish: (result: number) => void): Job {
    const job = { id: this.pending.length, isDone: false };
    this.pending.push({ work, job, finish });
    return job;
  }

  /** Does the first pending work, or fails it with `result`. */
  run(result?: number): Work {
    const { work, job, finish } = this.pending.shift()!;
    job.isDone = true;
    finish(result ?? perform(work));
    return work;
  }
}

function perform(work: Work): number {
  if (work.kind === 'sync') return fsync(work.fd);
  const code = copyData(work.from, work.to, work.size);
  return code < 0 || !work.sync ? code : fsync(work.to);
}

interface Setup {
  readonly lower: string;
  readonly root: DiskDirectory;
  readonly work: WorkDirectory;
  /** Where copies appear. */
  readonly ours: string;
  readonly waiting: FakeWaiting;
  readonly copyUp: CopyUp;
}

interface SetupOptions {
  readonly rules?: MetadataRules;
  readonly isVolatile?: boolean;
  /** Where lower and work are. */
  readonly at?: string;
}

function setup(
  t: ExecutionContext,
  { rules = USER_RULES, isVolatile = true, at = scratch(t) }: SetupOptions = {},
): Setup {
  const lower = join(at, 'lower');
  mkdirSync(lower);
  mkdirSync(join(at, 'work'));
  const work = openWorkDirectory(Buffer.from(join(at, 'work')));
  const waiting = new FakeWaiting();
  const copyUp = new CopyUp({ work, rules, isVolatile, waiting });
  return { lower, root: openLayer(t, lower).root, work, ours: join(at, 'work/git2db'), waiting, copyUp };
}

function nothing(): Copied {
  return { name: cString(''), fd: -1, job: undefined };
}

function statOf(directory: LayerDirectory, name: string): Statx {
  const stat = newStatx();
  const code = directory.statAt(cString(name), stat);
  if (code < 0) throw new Error(`stat ${name}: ${code}`);
  return stat;
}

interface CopyOptions {
  readonly dataEnd?: number;
  readonly origin?: Uint8Array;
  readonly source?: LayerDirectory;
}

/** Copies to the end, jobs included: the result, and the path of the copy. */
function copy(
  { root, ours, copyUp, waiting }: Setup,
  name: string,
  { dataEnd = ALL, origin, source = root }: CopyOptions = {},
): { result: number; path: string; name: string } {
  const out = nothing();
  let result = copyUp.file(source, cString(name), statOf(root, name), dataEnd, origin, out, (ended) => {
    result = ended;
  });
  while (waiting.pending.length > 0) waiting.run();
  if (out.fd !== -1) closeSync(out.fd);
  const copied = Buffer.from(out.name.subarray(0, -1)).toString();
  return { result, path: join(ours, copied), name: copied };
}

const OLD: readonly [number, number, number, number] = [-86_400, 123_456_789, 1_000_000_000, 987_654_321];

const keepsEverything = test.macro((t, make: (path: string) => void) => {
  const all = setup(t);
  make(join(all.lower, 'original'));
  setTimes(all.root.fd, 'original', OLD);
  const from = lstatSync(join(all.lower, 'original'), { bigint: true });
  const { result, path } = copy(all, 'original');
  t.is(result, 0);
  const to = lstatSync(path, { bigint: true });
  for (const key of ['mode', 'uid', 'gid', 'size', 'rdev', 'nlink', 'mtimeNs'] as const)
    t.is(to[key], from[key], key);
  t.is(to.atimeNs, -86_400_000_000_000n + 123_456_789n);
  t.is(from.atimeNs, to.atimeNs);
  if (to.isSymbolicLink())
    t.is(readlinkSync(path, 'latin1'), readlinkSync(join(all.lower, 'original'), 'latin1'));
  if (to.isFile()) t.deepEqual(readFileSync(path), readFileSync(join(all.lower, 'original')));
});

test('a file is copied with content, mode and times before 1970', keepsEverything, (path) => {
  writeFileSync(path, 'content');
  chmodSync(path, 0o4755);
});
test('an empty file that nobody may read is copied', keepsEverything, (path) =>
  writeFileSync(path, '', { mode: 0 }),
);
test('a symbolic link is copied', keepsEverything, (path) =>
  symlinkSync(Buffer.from([0xff, 0x2f, 0x61]), path),
);
test('a link with the longest possible target is copied', keepsEverything, (path) =>
  symlinkSync('x'.repeat(4095), path),
);
test(
  'a pipe is copied',
  keepsEverything,
  (path) => void mknodat(AT_FDCWD, cString(path), S_IFIFO | 0o640, 0),
);
test(
  'a socket is copied',
  keepsEverything,
  (path) => void mknodat(AT_FDCWD, cString(path), S_IFSOCK | 0o600, 0),
);
if (isRoot) {
  test('a device is copied', keepsEverything, (path) => {
    mknodat(AT_FDCWD, cString(path), S_IFBLK | 0o660, 0x12345);
    chownSync(path, 1, 6);
  });
  test('a foreign owner is kept with setuid and setgid', keepsEverything, (path) => {
    writeFileSync(path, 'x');
    chownSync(path, 12345, 54321);
    chmodSync(path, 0o6755);
  });
}

test('a directory is copied with its metadata and without its entries', (t) => {
  const all = setup(t);
  mkdirSync(join(all.lower, 'd'));
  writeFileSync(join(all.lower, 'd/file'), '');
  t.is(setXattr(all.root.fd, 'd', 'user.kept', 'yes'), 0);
  chmodSync(join(all.lower, 'd'), 0o3555);
  setTimes(all.root.fd, 'd', OLD);
  const byName = nothing();
  t.is(all.copyUp.directory(all.root, cString('d'), statOf(all.root, 'd'), Buffer.from('7'), byName), 0);
  const opened = all.root.openDirectory(cString('d'));
  if (typeof opened === 'number') return t.fail(`${opened}`);
  const byItself = nothing();
  t.is(all.copyUp.directory(opened, undefined, statOf(all.root, 'd'), undefined, byItself), 0);
  opened.release();
  for (const [i, out] of [byName, byItself].entries()) {
    const name = Buffer.from(out.name.subarray(0, -1)).toString();
    const stat = lstatSync(join(all.ours, name), { bigint: true });
    t.is(Number(stat.mode), 0o043555);
    t.is(stat.mtimeNs, 1_000_000_000_987_654_321n);
    t.deepEqual(readdirSync(join(all.ours, name)), []);
    t.is(String(getXattr(all.work.fd, name, 'user.kept')), 'yes');
    const origin = getXattr(all.work.fd, name, 'user.overlay.git2db.origin');
    t.is(String(origin), i === 0 ? '7' : `${-ENODATA}`);
  }
  return undefined;
});

test("attributes are copied, but not the overlay's own marks", (t) => {
  const all = setup(t);
  writeFileSync(join(all.lower, 'f'), 'x');
  const set = (name: string, value: string) => t.is(setXattr(all.root.fd, 'f', name, value), 0, name);
  set('user.kept', 'a\0b');
  set('user.empty', '');
  set('user.long', 'x'.repeat(2000));
  set('user.overlayer', 'kept');
  set('user.overlay.origin', 'mark');
  set('user.overlay.git2db.origin', 'mark');
  set('user.overlay.overlay.opaque', 'y');
  set('user.fuseoverlayfs.origin', 'mark');
  const { result, name } = copy(all, 'f', { origin: Buffer.from('new') });
  t.is(result, 0);
  const get = (attribute: string) => String(getXattr(all.work.fd, name, attribute));
  t.is(get('user.kept'), 'a\0b');
  t.is(get('user.empty'), '');
  t.is(get('user.long'), 'x'.repeat(2000));
  t.is(get('user.overlayer'), 'kept');
  t.is(get('user.overlay.overlay.opaque'), 'y');
  t.is(get('user.overlay.git2db.origin'), 'new');
  t.is(get('user.overlay.origin'), `${-ENODATA}`);
  t.is(get('user.fuseoverlayfs.origin'), `${-ENODATA}`);
});

rootTest(`marks of the other namespace are content${rootOnly}`, (t) => {
  const all = setup(t, { rules: { ...USER_RULES, namespace: 'trusted' } });
  writeFileSync(join(all.lower, 'f'), 'x');
  setXattr(all.root.fd, 'f', 'trusted.overlay.opaque', 'y');
  setXattr(all.root.fd, 'f', 'trusted.else', 'y');
  setXattr(all.root.fd, 'f', 'user.overlay.opaque', 'y');
  const { name } = copy(all, 'f', { origin: Buffer.from('o') });
  t.is(getXattr(all.work.fd, name, 'trusted.overlay.opaque'), -ENODATA);
  t.is(String(getXattr(all.work.fd, name, 'trusted.overlay.git2db.origin')), 'o');
  t.is(String(getXattr(all.work.fd, name, 'trusted.else')), 'y');
  t.is(String(getXattr(all.work.fd, name, 'user.overlay.opaque')), 'y');
});

const ACL = encodeAcl([
  [ACL_USER_OBJ, 6, NO_ID],
  [ACL_USER, 4, 54321],
  [ACL_GROUP_OBJ, 0, NO_ID],
  [ACL_MASK, 4, NO_ID],
  [ACL_OTHER, 0, NO_ID],
]);

test('access control lists are kept exactly, and left out where they do not count', (t) => {
  const all = setup(t);
  writeFileSync(join(all.lower, 'f'), 'x', { mode: 0o640 });
  mkdirSync(join(all.lower, 'd'));
  const code = setXattr(all.root.fd, 'f', 'system.posix_acl_access', ACL);
  if (code !== 0) return t.pass('no access control lists here');
  setXattr(all.root.fd, 'd', 'system.posix_acl_default', ACL);
  const file = copy(all, 'f');
  t.deepEqual(getXattr(all.work.fd, file.name, 'system.posix_acl_access'), ACL);
  t.is(lstatSync(file.path).mode, lstatSync(join(all.lower, 'f')).mode);
  const out = nothing();
  all.copyUp.directory(all.root, cString('d'), statOf(all.root, 'd'), undefined, out);
  t.deepEqual(
    getXattr(all.work.fd, Buffer.from(out.name.subarray(0, -1)).toString(), 'system.posix_acl_default'),
    ACL,
  );

  const without = setup(t, { rules: { ...USER_RULES, copiesAcls: false } });
  writeFileSync(join(without.lower, 'f'), 'x');
  setXattr(without.root.fd, 'f', 'system.posix_acl_access', ACL);
  t.is(getXattr(without.work.fd, copy(without, 'f').name, 'system.posix_acl_access'), -ENODATA);
  return undefined;
});

rootTest(`capabilities survive the writing of the content${rootOnly}`, (t) => {
  const all = setup(t);
  writeFileSync(join(all.lower, 'f'), 'program', { mode: 0o755 });
  execFileSync('setcap', ['cap_net_raw+ep', join(all.lower, 'f')]);
  const expected = getXattr(all.root.fd, 'f', 'security.capability');
  t.true(Buffer.isBuffer(expected));
  t.deepEqual(getXattr(all.work.fd, copy(all, 'f').name, 'security.capability'), expected);
});

/** What a hole-aware reader finds: the data blocks of [0, size). */
function allocated(path: string): number {
  return lstatSync(path).blocks * 512;
}

test('holes stay holes, at the start, in between and at the end', (t) => {
  const all = setup(t);
  const path = join(all.lower, 'sparse');
  const fd = openSync(path, 'w');
  writeSync(fd, 'one', 8 << 20);
  writeSync(fd, 'two', 24 << 20);
  ftruncateSync(fd, 64 << 20);
  closeSync(fd);
  const copied = copy(all, 'sparse');
  t.is(copied.result, 0);
  t.is(lstatSync(copied.path).size, 64 << 20);
  t.true(allocated(copied.path) <= allocated(path));
  t.is(Buffer.compare(readFileSync(copied.path), readFileSync(path)), 0);
});

test('whatever the layout of data and holes, the copy has the same content', (t) => {
  const directory = scratch(t);
  const piece = fc.record({
    at: fc.integer({ min: 0, max: 300_000 }),
    length: fc.integer({ min: 1, max: 9000 }),
  });
  const layout = fc.record({
    pieces: fc.array(piece, { maxLength: 6 }),
    size: fc.integer({ min: 0, max: 400_000 }),
  });
  fc.assert(
    fc.property(layout, ({ pieces, size }) => {
      const [from, to] = [join(directory, 'from'), join(directory, 'to')];
      const fd = openSync(from, 'w+');
      for (const [i, { at, length }] of pieces.entries())
        writeSync(fd, Buffer.alloc(length, i + 1), 0, length, at);
      ftruncateSync(fd, size);
      const copyFd = openSync(to, 'w+');
      t.is(copyData(fd, copyFd, size), 0);
      t.is(Buffer.compare(readFileSync(to), readFileSync(from)), 0);
      const read = openSync(to, 'w+');
      const source: LayerFile = {
        fd: -1,
        read: (out, at, count, offset) => readAt(from, out, at, count, offset),
        stat: () => 0,
        release() {},
      };
      t.is(copyByReading(source, read, size), 0);
      t.is(Buffer.compare(readFileSync(to), readFileSync(from)), 0);
      for (const one of [fd, copyFd, read]) closeSync(one);
    }),
    { numRuns: 50 },
  );
});

function readAt(path: string, out: Uint8Array, at: number, count: number, offset: number): number {
  const bytes = readFileSync(path).subarray(offset, offset + count);
  out.set(bytes, at);
  return bytes.length;
}

test('between file systems content goes through a buffer', (t) => {
  const directory = scratch(t);
  const from = openSync('/proc/self/maps', 'r');
  const to = openSync(join(directory, 'to'), 'w+');
  t.is(copyRange(from, to, 0, 100), 0);
  t.is(fstatSync(to).size, 100);
  closeSync(from);
  closeSync(to);
});

test('a file that has become shorter is an error, not zeros', (t) => {
  const directory = scratch(t);
  writeFileSync(join(directory, 'from'), 'short');
  const [from, to] = [openSync(join(directory, 'from'), 'r'), openSync(join(directory, 'to'), 'w+')];
  t.is(copyData(from, to, 10), -EIO);
  t.is(copyData(from, to, 5), 0);
  t.is(readFileSync(join(directory, 'to'), 'latin1'), 'short');
  t.true([0, 1].includes(shareData(from, to)));
  closeSync(from);
  closeSync(to);
});

test('a large file is a job, and the copy is there when it has ended', (t) => {
  const all = setup(t, { isVolatile: true });
  writeFileSync(join(all.lower, 'large'), Buffer.alloc(LARGE_FILE_BYTES, 'x'), { mode: 0o640 });
  setTimes(all.root.fd, 'large', OLD);
  const out = nothing();
  const ended: number[] = [];
  const name = cString('large');
  const stat = statOf(all.root, 'large');
  t.is(
    all.copyUp.file(all.root, name, stat, ALL, undefined, out, (result) => ended.push(result)),
    DEFERRED,
  );
  t.truthy(out.job);
  stat.fill(0);
  name.fill(0);
  const work = all.waiting.run();
  t.is(work.kind, 'copy');
  if (work.kind === 'copy') {
    t.is(work.size, LARGE_FILE_BYTES);
    t.false(work.sync);
    t.throws(() => fstatSync(work.from), { code: 'EBADF' });
  }
  t.deepEqual(ended, [0]);
  const copied = fstatSync(out.fd, { bigint: true });
  t.is(copied.size, BigInt(LARGE_FILE_BYTES));
  t.is(Number(copied.mode), 0o100640);
  t.is(copied.mtimeNs, 1_000_000_000_987_654_321n);
  closeSync(out.fd);
});

test('a job that fails removes the copy, and the next attempt works', (t) => {
  const all = setup(t);
  writeFileSync(join(all.lower, 'large'), Buffer.alloc(LARGE_FILE_BYTES + 1, 'x'));
  const descriptors = readdirSync('/proc/self/fd').length;
  const out = nothing();
  const ended: number[] = [];
  all.copyUp.file(all.root, cString('large'), statOf(all.root, 'large'), ALL, undefined, out, (result) =>
    ended.push(result),
  );
  all.waiting.run(-ENOSPC);
  t.deepEqual(ended, [-ENOSPC]);
  t.deepEqual(readdirSync(all.ours), []);
  t.is(readdirSync('/proc/self/fd').length, descriptors);
  t.is(copy(all, 'large').result, 0);
  t.is(readdirSync(all.ours).length, 1);
});

test('content reaches the disk before the copy is finished, unless the mount is volatile', (t) => {
  const durable = setup(t, { isVolatile: false });
  if (!durable.work.isOnDisk) return t.pass('the temporary directory is in memory');
  const start = (all: Setup, name: string, dataEnd = ALL): number =>
    all.copyUp.file(all.root, cString(name), statOf(all.root, name), dataEnd, undefined, nothing(), () => {});
  const fill = ({ lower }: Setup) => {
    writeFileSync(join(lower, 'small'), 'x');
    writeFileSync(join(lower, 'empty'), '');
    writeFileSync(join(lower, 'large'), Buffer.alloc(LARGE_FILE_BYTES, 'x'));
  };
  fill(durable);
  t.is(start(durable, 'small'), DEFERRED);
  t.is(durable.waiting.run().kind, 'sync');
  t.is(start(durable, 'empty'), 0);
  t.is(start(durable, 'small', 0), 0);
  t.is(start(durable, 'large'), DEFERRED);
  const work = durable.waiting.run();
  t.true(work.kind === 'copy' && work.sync);
  const volatile = setup(t);
  fill(volatile);
  t.is(start(volatile, 'small'), 0);
  return undefined;
});

test('a failing sync is the answer, and the copy is gone', (t) => {
  const all = setup(t, { isVolatile: false });
  if (!all.work.isOnDisk) return t.pass('the temporary directory is in memory');
  writeFileSync(join(all.lower, 'small'), 'x');
  const ended: number[] = [];
  all.copyUp.file(
    all.root,
    cString('small'),
    statOf(all.root, 'small'),
    ALL,
    undefined,
    nothing(),
    (result) => ended.push(result),
  );
  all.waiting.run(-EIO);
  t.deepEqual(ended, [-EIO]);
  t.deepEqual(readdirSync(all.ours), []);
  return undefined;
});

test('without data the copy is empty and has everything else', (t) => {
  const all = setup(t);
  writeFileSync(join(all.lower, 'f'), Buffer.alloc(LARGE_FILE_BYTES, 'x'), { mode: 0o604 });
  setXattr(all.root.fd, 'f', 'user.kept', 'yes');
  const copied = copy(all, 'f', { dataEnd: 0 });
  t.is(copied.result, 0);
  t.is(lstatSync(copied.path).size, 0);
  t.is(lstatSync(copied.path).mode, 0o100604);
  t.is(String(getXattr(all.work.fd, copied.name, 'user.kept')), 'yes');
});

test('of a file that is to be cut the start comes at once, without a job', (t) => {
  const all = setup(t, { isVolatile: false });
  const content = Buffer.alloc(2 * LARGE_FILE_BYTES, 'abcdefg');
  writeFileSync(join(all.lower, 'f'), content);
  for (const dataEnd of [1, 5000, LARGE_FILE_BYTES - 1]) {
    const out = nothing();
    const stat = statOf(all.root, 'f');
    t.is(
      all.copyUp.file(all.root, cString('f'), stat, dataEnd, undefined, out, () => t.fail()),
      0,
    );
    t.is(Buffer.compare(readFileSync(out.fd), content.subarray(0, dataEnd)), 0);
    closeSync(out.fd);
  }
  const whole = copy(all, 'f', { dataEnd: LARGE_FILE_BYTES });
  t.is(whole.result, 0);
  t.is(lstatSync(whole.path).size, content.length);
});

/** As `root`, but content can only be read, and not beyond `failAt`. */
function readable(root: DiskDirectory, failAt: number): LayerDirectory {
  const around = (file: LayerFile): LayerFile => ({
    fd: -1,
    read: (out, at, size, offset) => (offset + size > failAt ? -EIO : file.read(out, at, size, offset)),
    stat: (out) => file.stat(out),
    release: () => file.release(),
  });
  return {
    stat: (out) => root.stat(out),
    statAt: (name, out) => root.statAt(name, out),
    openDirectory: (name) => root.openDirectory(name),
    openFile(name: CString, flags: number) {
      const file = root.openFile(name, flags);
      return typeof file === 'number' ? file : around(file);
    },
    readlinkAt: (name, out) => root.readlinkAt(name, out),
    list: (each) => root.list(each),
    getxattr: (name, attribute, out) => root.getxattr(name, attribute, out),
    listxattr: (name, out) => root.listxattr(name, out),
    release() {},
  };
}

test('content without a descriptor is read; an error in the middle leaves nothing and can be retried', (t) => {
  const all = setup(t);
  const content = Buffer.alloc(3 << 20, 'abcdefg');
  writeFileSync(join(all.lower, 'f'), content);
  const failed = copy(all, 'f', { source: readable(all.root, 2 << 20) });
  t.is(failed.result, -EIO);
  t.deepEqual(readdirSync(all.ours), []);
  const copied = copy(all, 'f', { source: readable(all.root, Number.POSITIVE_INFINITY) });
  t.is(copied.result, 0);
  t.is(Buffer.compare(readFileSync(copied.path), content), 0);
});

rootTest(`a full disk is the answer, nothing is left, and it works once there is room${rootOnly}`, (t) => {
  const all = setup(t, { at: smallFileSystem(t, 1 << 20) });
  writeFileSync(join(all.lower, 'f'), Buffer.alloc(400 << 10, 'x'));
  writeFileSync(join(all.lower, 'filler'), Buffer.alloc(400 << 10));
  t.is(copy(all, 'f').result, -ENOSPC);
  t.deepEqual(readdirSync(all.ours), []);
  rmSync(join(all.lower, 'filler'));
  const copied = copy(all, 'f');
  t.is(copied.result, 0);
  t.is(Buffer.compare(readFileSync(copied.path), readFileSync(join(all.lower, 'f'))), 0);
});

rootTest(`a read-only file system is the answer${rootOnly}`, (t) => {
  const at = smallFileSystem(t, 1 << 20);
  const all = setup(t, { at });
  writeFileSync(join(all.lower, 'f'), 'x');
  mkdirSync(join(all.lower, 'd'));
  symlinkSync('f', join(all.lower, 'l'));
  execFileSync('mount', ['-o', 'remount,ro', at]);
  t.is(copy(all, 'f').result, -EROFS);
  t.is(copy(all, 'l').result, -EROFS);
  t.is(all.copyUp.directory(all.root, cString('d'), statOf(all.root, 'd'), undefined, nothing()), -EROFS);
});

rootTest(`memory needs no sync${rootOnly}`, (t) => {
  const all = setup(t, { at: smallFileSystem(t, 1 << 20), isVolatile: false });
  writeFileSync(join(all.lower, 'f'), 'x');
  const out = nothing();
  t.is(
    all.copyUp.file(all.root, cString('f'), statOf(all.root, 'f'), ALL, undefined, out, () => {}),
    0,
  );
  closeSync(out.fd);
});

test('an original that is gone is an error, and leaves nothing', (t) => {
  const all = setup(t);
  writeFileSync(join(all.lower, 'f'), 'x');
  symlinkSync('x', join(all.lower, 'l'));
  const stats = [statOf(all.root, 'f'), statOf(all.root, 'l')];
  rmSync(join(all.lower, 'f'));
  rmSync(join(all.lower, 'l'));
  t.is(
    all.copyUp.file(all.root, cString('f'), stats[0]!, ALL, undefined, nothing(), () => {}),
    -ENOENT,
  );
  t.is(
    all.copyUp.file(all.root, cString('l'), stats[1]!, ALL, undefined, nothing(), () => {}),
    -ENOENT,
  );
  t.deepEqual(readdirSync(all.ours), []);
});

rootTest(
  `an owner that cannot be set is refused, recorded, or does not matter, as the mount says${rootOnly}`,
  (t) => {
    const run = (owners: MetadataRules['owners']) => {
      const at = scratch(t);
      chownSync(at, 12345, 12345);
      return asUser(12345, () => {
        const all = setup(t, { at, rules: { ...USER_RULES, owners, overrideAttribute: cString(OVERRIDE) } });
        process.seteuid!(0);
        process.setegid!(0);
        writeFileSync(join(all.lower, 'f'), 'x');
        chmodSync(join(all.lower, 'f'), 0o4644);
        mkdirSync(join(all.lower, 'd'), 0o755);
        execFileSync('setcap', ['cap_net_raw+ep', join(all.lower, 'f')]);
        process.setegid!(12345);
        process.seteuid!(12345);
        const copied = copy(all, 'f');
        const out = nothing();
        const directory = all.copyUp.directory(all.root, cString('d'), statOf(all.root, 'd'), undefined, out);
        const stat = copied.result < 0 ? undefined : lstatSync(copied.path);
        const record = getXattr(all.work.fd, copied.name, OVERRIDE);
        return {
          result: copied.result,
          directory,
          stat,
          record: String(record),
          left: readdirSync(all.ours),
        };
      });
    };
    const set = run('set');
    t.is(set.result, -EPERM);
    t.is(set.directory, -EPERM);
    t.deepEqual(set.left, []);
    const record = run('record');
    t.is(record.result, 0);
    t.is(record.directory, 0);
    t.is(record.record, '0:0:4644');
    t.is(record.stat!.uid, 12345);
    t.is(record.stat!.mode, 0o100644);
    const tried = run('try');
    t.is(tried.result, 0);
    t.is(tried.stat!.uid, 12345);
  },
);

test('recorded owners come back as they were written', (t) => {
  const id = fc.integer({ min: 0, max: 0xfffffffe });
  fc.assert(
    fc.property(id, id, fc.integer({ min: 0, max: 0o7777 }), (uid, gid, mode) => {
      t.deepEqual(decodeOverrideStat(encodeOverrideStat({ uid, gid, mode })), { uid, gid, mode });
    }),
  );
  const decode = (text: string) => decodeOverrideStat(Buffer.from(text));
  t.deepEqual(decode('1:2:0100755:file'), { uid: 1, gid: 2, mode: 0o755 });
  t.deepEqual(decode('1:2:755:block-8-1'), { uid: 1, gid: 2, mode: 0o755 });
  for (const bad of [
    '',
    '1:2',
    '1:2:',
    '1:2:9',
    '-1:2:755',
    '1:2:755:',
    '1:2:755 ',
    '4294967295:0:755',
    '1:99999999999:7',
  ]) {
    t.is(decode(bad), undefined, bad);
  }
});

test('the content of a file that had its metadata only is filled in, its times unchanged', (t) => {
  const all = setup(t);
  writeFileSync(join(all.lower, 'f'), 'the content');
  const upper = join(all.lower, 'upper');
  writeFileSync(upper, '', { mode: 0o600 });
  truncateSync(upper, 11);
  setTimes(all.root.fd, 'upper', OLD);
  linkSync(upper, join(all.lower, 'sibling'));
  const fd = openSync(upper, 'r+');
  t.is(
    all.copyUp.fill(all.root, cString('f'), fd, 11, nothing(), () => {}),
    0,
  );
  closeSync(fd);
  t.is(readFileSync(join(all.lower, 'sibling'), 'latin1'), 'the content');
  t.is(lstatSync(upper, { bigint: true }).mtimeNs, 1_000_000_000_987_654_321n);
});

test('a long fill is a job; when it fails the times are still unchanged', (t) => {
  const all = setup(t);
  writeFileSync(join(all.lower, 'f'), Buffer.alloc(LARGE_FILE_BYTES, 'x'));
  writeFileSync(join(all.lower, 'upper'), '');
  setTimes(all.root.fd, 'upper', OLD);
  const fd = openSync(join(all.lower, 'upper'), 'r+');
  const ended: number[] = [];
  const fill = () =>
    all.copyUp.fill(all.root, cString('f'), fd, LARGE_FILE_BYTES, nothing(), (result) => ended.push(result));
  t.is(fill(), DEFERRED);
  all.waiting.run(-ENOSPC);
  t.is(fstatSync(fd, { bigint: true }).mtimeNs, 1_000_000_000_987_654_321n);
  t.is(fill(), DEFERRED);
  all.waiting.run();
  t.deepEqual(ended, [-ENOSPC, 0]);
  t.is(fstatSync(fd).size, LARGE_FILE_BYTES);
  closeSync(fd);
});

test('a directory keeps its times over what is done in it', (t) => {
  const all = setup(t);
  writeFileSync(join(all.lower, 'f'), 'x');
  setTimes(all.root.fd, '.', OLD);
  const target = join(all.lower, 'copy');
  const { name } = copy(all, 'f');
  const code = keepTimes(all.root.fd, () => all.work.moveOut(cString(name), all.root.fd, cString('copy')));
  t.is(code, 0);
  t.is(readFileSync(target, 'latin1'), 'x');
  const stat = lstatSync(all.lower, { bigint: true });
  t.is(stat.mtimeNs, 1_000_000_000_987_654_321n);
  t.is(stat.atimeNs, -86_400_000_000_000n + 123_456_789n);
});
