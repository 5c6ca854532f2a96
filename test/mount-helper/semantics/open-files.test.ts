/** What a descriptor, a map or a lock sees of changes that come after it. */
import { file, sparseFile } from '../helpers/layers.ts';
import { fails, OverlaySuite } from '../helpers/suite.ts';

const suite = new OverlaySuite();
const MIB = 1 << 20;
const FUSE = ['fuse', 'fuse-user'];

suite.test(
  'a descriptor from before a copy-up reads what is written after it',
  { lower: { f: 'old content' } },
  async (t, { calls, at }) => {
    const reader = await calls.open(at('f'));
    t.is(await calls.pread(reader, 3, 0), 'old');
    await calls.writeFile(at('f'), 'new', 'WRONLY');
    t.is(await calls.pread(reader, 100, 0), 'new content');
    await calls.truncate(at('f'), 3);
    t.is(await calls.pread(reader, 100, 0), 'new');
    t.is((await calls.fstat(reader)).size, 3);
    t.is((await calls.fstat(reader)).ino, (await calls.stat(at('f'))).ino);
    await calls.close(reader);
  },
);

suite.test(
  'a map from before a copy-up stays readable',
  { lower: { f: 'old content' } },
  async (t, { calls, at, subject }) => {
    const fd = await calls.open(at('f'));
    const own = await calls.mmap(fd, 11, 'PRIVATE');
    const shared = await calls.mmap(fd, 11, 'SHARED');
    t.is(await calls.mapRead(own, 0, 11), 'old content');
    t.is(await calls.mapRead(shared, 0, 11), 'old content');
    await calls.writeFile(at('f'), 'new', 'WRONLY');
    t.regex(await calls.mapRead(own, 0, 11), /^(old|new) content$/);
    // The kernel's overlayfs leaves a shared map on the lower file.
    const seen = await calls.mapRead(shared, 0, 11);
    if (FUSE.includes(subject.name)) t.is(seen, 'new content');
    else t.regex(seen, /^(old|new) content$/);
    await calls.munmap(own);
    await calls.munmap(shared);
    await calls.close(fd);
  },
);

for (const [what, layer] of [
  ['lower', 'lower'],
  ['upper', 'upper'],
] as const) {
  suite.test(
    `a removed file of the ${what} layer lives as long as it is open`,
    { [layer]: { f: 'content', 'd/other': '' } },
    async (t, { calls, at }) => {
      const fd = await calls.open(at('f'), 'RDWR');
      const reader = await calls.open(at('f'));
      await calls.unlink(at('f'));
      t.deepEqual(await calls.list(at()), ['d']);
      t.is((await calls.fstat(fd)).nlink, 0);
      t.is((await calls.fstat(reader)).nlink, 0);
      await calls.pwrite(fd, ' and more', 7);
      t.is(await calls.pread(reader, 100, 0), 'content and more');
      await calls.ftruncate(fd, 4);
      await calls.fchmod(fd, 0o600);
      await calls.futimens(fd, '1000000001', '2000000002');
      await calls.fsetxattr(fd, 'user.x', '1');
      t.is(await calls.fgetxattr(reader, 'user.x'), '1');
      await calls.fsync(fd);
      const stat = await calls.fstat(reader);
      t.like(stat, { size: 4, mtime: '2000000002', mode: 0o100600 });
      await calls.writeFile(at('f'), 'another');
      t.is(await calls.pread(fd, 100, 0), 'cont');
      t.not((await calls.stat(at('f'))).ino, stat.ino);
      await calls.close(fd);
      await calls.close(reader);
      t.is(await calls.readFile(at('f')), 'another');
    },
  );
}

suite.test(
  'a lower file that is only read can be removed or replaced meanwhile',
  { lower: { f: 'first', g: 'second', h: 'third' } },
  async (t, { calls, at, subject }) => {
    const [f, g] = [await calls.open(at('f')), await calls.open(at('g'))];
    await calls.unlink(at('f'));
    await calls.rename(at('h'), at('g'));
    t.is(await calls.pread(f, 100, 0), 'first');
    t.is(await calls.pread(g, 100, 0), 'second');
    // Without an index the kernel's overlayfs goes on to show the count of the lower file.
    const counts = FUSE.includes(subject.name) ? [0] : [0, 1];
    t.true(counts.includes((await calls.fstat(f)).nlink));
    t.true(counts.includes((await calls.fstat(g)).nlink));
    t.is(await calls.readFile(at('g')), 'third');
    await calls.close(f);
    await calls.close(g);
  },
);

suite.test(
  'a directory that was removed is empty for those who have it open',
  { upper: { 'd/x': '' } },
  async (t, { calls, at }) => {
    const fd = await calls.open(at('d'), 'RDONLY|DIRECTORY');
    await calls.unlink(at('d/x'));
    await calls.rmdir(at('d'));
    await fails(t, 'ENOENT', calls.writeFile(`/proc/self/fd/${fd}/new`, ''));
    t.deepEqual(await calls.list(at()), []);
    await calls.close(fd);
  },
);

suite.test(
  'an open file follows its name through renames of it and of its directory',
  { lower: { x: '' }, upper: { 'd/f': 'content' } },
  async (t, { calls, at }) => {
    const fd = await calls.open(at('d/f'), 'RDWR');
    await calls.rename(at('d/f'), at('d/g'));
    await calls.rename(at('d'), at('e'));
    await calls.pwrite(fd, 'CONTENT', 0);
    t.is(await calls.readFile(at('e/g')), 'CONTENT');
    t.is((await calls.fstat(fd)).ino, (await calls.stat(at('e/g'))).ino);
    t.is((await calls.readlink(`/proc/self/fd/${fd}`)).split('/').pop(), 'g');
    await calls.close(fd);
  },
);

suite.test(
  'a file without a name can be given one',
  {
    lower: { 'd/x': '' },
    on: ({ backend }) => backend !== 'fuse-overlayfs',
  },
  async (t, { calls, at }) => {
    const fd = await calls.open(at('d'), 'RDWR|TMPFILE', 0o640);
    t.is((await calls.fstat(fd)).nlink, 0);
    await calls.write(fd, 'content');
    t.deepEqual(await calls.list(at('d')), ['x']);
    await calls.linkOpen(fd, at('d/named'));
    t.is(await calls.readFile(at('d/named')), 'content');
    t.like(await calls.stat(at('d/named')), { nlink: 1, mode: 0o100640 });
    await calls.write(fd, ' more');
    t.is(await calls.readFile(at('d/named')), 'content more');
    await calls.close(fd);
    const lost = await calls.open(at('d'), 'RDWR|TMPFILE|EXCL', 0o600);
    await calls.write(lost, 'x');
    await calls.close(lost);
    t.deepEqual(await calls.list(at('d')), ['named', 'x']);
  },
);

suite.test(
  'what two processes append is all there',
  { lower: { log: '' } },
  async (t, { sandbox, calls, at }) => {
    const writers = [sandbox.startDriver(), sandbox.startDriver()];
    await Promise.all(
      writers.map(async (writer, i) => {
        const fd = await writer.calls.open(at('log'), 'WRONLY|APPEND');
        for (let n = 0; n < 100; n++) await writer.calls.write(fd, `${i} ${n}\n`);
        await writer.calls.close(fd);
      }),
    );
    const lines = (await calls.readFile(at('log'))).split('\n').filter(Boolean);
    t.is(lines.length, 200);
    for (const i of ['0', '1']) {
      t.deepEqual(
        lines.filter((line) => line.startsWith(`${i} `)),
        Array.from({ length: 100 }, (_, n) => `${i} ${n}`),
      );
    }
  },
);

suite.test('of two who make a file with O_EXCL one wins', {}, async (t, { sandbox, at }) => {
  const drivers = [sandbox.startDriver(), sandbox.startDriver()];
  for (let round = 0; round < 20; round++) {
    const results = await Promise.allSettled(
      drivers.map(({ calls }) => calls.open(at(`lock${round}`), 'WRONLY|CREAT|EXCL')),
    );
    t.deepEqual(results.map(({ status }) => status).sort(), ['fulfilled', 'rejected'], String(round));
  }
});

suite.test(
  'what is written through a shared map is read by others, and the other way round',
  { lower: { f: 'x'.repeat(8192) } },
  async (t, { calls, at, host, inUpper }) => {
    const fd = await calls.open(at('f'), 'RDWR');
    const map = await calls.mmap(fd, 8192, 'SHARED', true);
    await calls.mapWrite(map, 4090, 'across pages');
    t.is(await calls.pread(fd, 12, 4090), 'across pages');
    await calls.pwrite(fd, 'by write', 10);
    t.is(await calls.mapRead(map, 10, 18), 'by write');
    await calls.mapSync(map);
    t.is((await host.readFile(inUpper('f'))).slice(4090, 4102), 'across pages');
    await calls.mapWrite(map, 0, 'last');
    await calls.munmap(map);
    await calls.close(fd);
    t.true((await calls.readFile(at('f'))).startsWith('last'));
  },
);

suite.test(
  'a program of a lower layer runs, and can be changed',
  { lower: { run: file('#!/bin/sh\necho first\n', { mode: 0o755 }) } },
  async (t, { calls, at }) => {
    t.is((await calls.run([at('run')])).stdout, 'first\n');
    await calls.writeFile(at('run'), '#!/bin/sh\necho second\n');
    t.is((await calls.run([at('run')])).stdout, 'second\n');
    await calls.chmod(at('run'), 0o644);
    t.not((await calls.run(['sh', '-c', `exec ${at('run')}`])).status, 0);
  },
);

suite.test(
  'locks conflict between descriptors from before and after a copy-up',
  { lower: { f: 'x', g: 'x', h: 'x' } },
  async (t, { calls, at, sandbox }) => {
    const before = await calls.open(at('f'));
    await calls.flock(before, 'EX');
    const after = await calls.open(at('f'), 'RDWR');
    await calls.pwrite(after, 'y', 0);
    await fails(t, 'EAGAIN', calls.flock(after, 'EX'));
    await fails(t, 'EAGAIN', calls.flock(after, 'SH'));
    await calls.flock(before, 'UN');
    await calls.flock(after, 'EX');
    await calls.close(before);
    await calls.close(after);

    const reader = await calls.open(at('g'));
    await calls.lock(reader, 'OFD', 'RDLCK', 0, 10);
    const writer = await calls.open(at('g'), 'RDWR');
    await calls.pwrite(writer, 'y', 0);
    await fails(t, ['EAGAIN', 'EACCES'], calls.lock(writer, 'OFD', 'WRLCK', 5, 1));
    await calls.lock(writer, 'OFD', 'WRLCK', 10, 5);
    await fails(t, ['EAGAIN', 'EACCES'], calls.lock(reader, 'OFD', 'RDLCK', 12, 1));
    await calls.close(reader);
    await calls.lock(writer, 'OFD', 'WRLCK', 0, 0);
    await calls.close(writer);

    const other = sandbox.startDriver();
    const mine = await calls.open(at('h'));
    await calls.lock(mine, 'POSIX', 'RDLCK', 0, 100);
    const theirs = await other.calls.open(at('h'), 'RDWR');
    await fails(t, ['EAGAIN', 'EACCES'], other.calls.lock(theirs, 'POSIX', 'WRLCK', 50, 1));
    await calls.lock(mine, 'POSIX', 'UNLCK', 50, 10);
    await other.calls.lock(theirs, 'POSIX', 'WRLCK', 50, 1);
    await other.calls.close(theirs);
    await calls.lock(mine, 'POSIX', 'RDLCK', 50, 10);
    await calls.close(mine);
  },
);

suite.test(
  'space is reserved, holes are punched and found',
  { lower: { f: 'x'.repeat(256 * 1024) } },
  async (t, { calls, at, host, inUpper }) => {
    const fd = await calls.open(at('f'), 'RDWR');
    await calls.fallocate(fd, 1 | 2, 64 * 1024, 64 * 1024);
    t.is(await calls.lseek(fd, 0, 'HOLE'), 64 * 1024);
    t.is(await calls.lseek(fd, 64 * 1024, 'DATA'), 128 * 1024);
    t.is(await calls.pread(fd, 4, 64 * 1024 - 2), 'xx\0\0');
    await calls.fallocate(fd, 0, 0, MIB);
    t.is((await calls.fstat(fd)).size, MIB);
    await calls.fallocate(fd, 1, MIB, MIB);
    t.is((await calls.fstat(fd)).size, MIB);
    t.true((await host.stat(inUpper('f'))).blocks * 512 >= MIB + 512 * 1024);
    await fails(t, 'EINVAL', calls.fallocate(fd, 0, 0, 0));
    await calls.close(fd);
    const reader = await calls.open(at('f'));
    await fails(t, 'EBADF', calls.fallocate(reader, 0, 0, 10));
    await calls.close(reader);
  },
);

suite.test(
  'ranges are copied between files of all layers',
  { lower: { low: 'abcdefghij' }, upper: { up: '0123456789' } },
  async (t, { calls, at }) => {
    const [low, up] = [await calls.open(at('low')), await calls.open(at('up'), 'RDWR')];
    const made = await calls.open(at('made'), 'RDWR|CREAT');
    t.is(await calls.copyFileRange(low, 2, made, 0, 5), 5);
    t.is(await calls.copyFileRange(up, 8, made, 5, 100), 2);
    t.is(await calls.copyFileRange(up, 0, made, 20, 1), 1);
    t.is(await calls.pread(made, 100, 0), `cdefg89${'\0'.repeat(13)}0`);
    t.is(await calls.copyFileRange(low, 10, made, 0, 5), 0);
    await fails(t, 'EBADF', calls.copyFileRange(made, 0, low, 0, 5));
    for (const fd of [low, up, made]) await calls.close(fd);
  },
);

suite.test(
  'a file can be larger than four gibibytes',
  { lower: { big: sparseFile(5 * 1024 * MIB, [[5 * 1024 * MIB - 3, 'end']]) } },
  async (t, { calls, at, host, inUpper }) => {
    const fd = await calls.open(at('big'), 'RDWR');
    await calls.pwrite(fd, 'far', 4.5 * 1024 * MIB);
    await calls.pwrite(fd, 'after', 5 * 1024 * MIB);
    t.is(await calls.pread(fd, 8, 5 * 1024 * MIB - 3), 'endafter');
    t.is(await calls.pread(fd, 3, 4.5 * 1024 * MIB), 'far');
    t.is((await calls.fstat(fd)).size, 5 * 1024 * MIB + 5);
    await calls.close(fd);
    t.true((await host.stat(inUpper('big'))).blocks * 512 < MIB);
  },
);

suite.test(
  'sizes and times that one descriptor changes are seen by all',
  { lower: { f: 'content' } },
  async (t, { calls, at, sandbox }) => {
    const other = sandbox.startDriver();
    const theirs = await other.calls.open(at('f'), 'RDWR');
    const fd = await calls.open(at('f'), 'RDWR');
    await calls.pwrite(fd, 'x', 99);
    t.is((await other.calls.fstat(theirs)).size, 100);
    await other.calls.ftruncate(theirs, 10);
    t.is((await calls.fstat(fd)).size, 10);
    t.is(await calls.pread(fd, 100, 0), `content${'\0'.repeat(3)}`);
    await calls.futimens(fd, '5000000005', '6000000006');
    t.like(await other.calls.stat(at('f')), { atime: '5000000005', mtime: '6000000006' });
    const { ctime } = await calls.fstat(fd);
    await other.calls.pwrite(theirs, 'y', 0);
    const stat = await calls.fstat(fd);
    t.not(stat.mtime, '6000000006');
    t.true(BigInt(stat.ctime) >= BigInt(ctime));
    await calls.close(fd);
    await other.calls.close(theirs);
  },
);

suite.test(
  'everything that is open can be made durable',
  { lower: { 'd/f': 'x', 'only/f': 'x' } },
  async (t, { calls, at }) => {
    for (const [name, flags] of [
      ['d/f', 'RDONLY'],
      ['d/f', 'RDWR'],
      ['d', 'RDONLY|DIRECTORY'],
      ['only', 'RDONLY'],
    ] as const) {
      const fd = await calls.open(at(name), flags);
      await calls.fsync(fd);
      await calls.fdatasync(fd);
      await calls.close(fd);
    }
    const fd = await calls.open(at('d/new'), 'RDWR|CREAT|SYNC');
    await calls.write(fd, 'x');
    await calls.fsync(fd);
    await calls.close(fd);
    t.is(await calls.readFile(at('d/new')), 'x');
  },
);

suite.test(
  'O_DIRECT works or is refused at once',
  { lower: { f: 'x'.repeat(8192) } },
  async (t, { calls, at }) => {
    await fails(t, ['no error', 'EINVAL'], calls.open(at('f'), 'RDONLY|DIRECT'));
    t.is((await calls.readFile(at('f'))).length, 8192);
  },
);

suite.test(
  'a map of a growing file shows what was appended',
  { lower: { f: 'x'.repeat(4096) } },
  async (t, { calls, at, sandbox }) => {
    const writer = sandbox.startDriver();
    const appending = await writer.calls.open(at('f'), 'WRONLY|APPEND');
    const reader = await calls.open(at('f'));
    for (let page = 1; page < 20; page++) {
      await writer.calls.write(appending, String.fromCharCode(96 + page).repeat(4096));
      const size = 4096 * (page + 1);
      t.is((await calls.fstat(reader)).size, size);
      const map = await calls.mmap(reader, size);
      t.is(await calls.mapRead(map, size - 2, size), String.fromCharCode(96 + page).repeat(2));
      await calls.munmap(map);
    }
    await calls.close(reader);
    await writer.calls.close(appending);
  },
);
