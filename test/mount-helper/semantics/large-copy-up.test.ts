/**
 * What happens to a file, and beside it, while it is copied up for long. No clock decides here: whatever
 * order things come in, each request has to end with the one result that it has in all of them.
 */
import { bytes, type Driver, errnoOf } from '../helpers/driver.ts';
import { file, type LayerSpec } from '../helpers/layers.ts';
import { hostCalls, type MountSandbox, type SandboxLayers } from '../helpers/mount-sandbox.ts';
import { mountTest } from '../helpers/suite.ts';

const MIB = 1 << 20;
/**
 * Long enough that copying takes many times as long as a request. GIT2DB_LARGE_FILE_MIB gives another size, a
 * multiple of 64.
 */
const SIZE = Number(process.env.GIT2DB_LARGE_FILE_MIB ?? 192) * MIB;
const PIECE = 32 * MIB;

const LAYER: LayerSpec = { 'd/small': 'small', 'elsewhere/f': 'x', 'elsewhere/g': 'y', 'other/x': 'x' };

interface Large {
  readonly sandbox: MountSandbox;
  readonly path: string;
  readonly digest: string;
  /** Another process, for requests that must not wait behind the one that copies. */
  readonly other: Driver;
}

type Create = (layers?: SandboxLayers) => Promise<MountSandbox>;

/** Root has the upper in memory: how long a disk takes to be sure is of no interest here. */
const STORE = process.getuid!() === 0 ? { store: `size=${2 * SIZE}` } : {};

/** A mount whose lower layer has `d/large`, dense but for a hole in its middle. */
async function withLargeFile(create: Create): Promise<Large> {
  const sandbox = await create({ lowers: [{ ...LAYER, 'd/large': file('') }], ...STORE });
  const host = hostCalls();
  const lower = bytes(`${sandbox.lowers[0]}/d/large`);
  const fd = await host.open(lower, 'RDWR');
  for (let at = 0; at < SIZE; at += PIECE) {
    if (at !== 2 * PIECE) await host.fill(fd, String.fromCharCode(65 + ((at / PIECE) % 26)), PIECE, at);
  }
  await host.ftruncate(fd, SIZE);
  await host.futimens(fd, '1000000000', '1000000001');
  await host.close(fd);
  const digest = await host.digest(lower, true);
  await sandbox.mount();
  return { sandbox, path: sandbox.path('d/large'), digest, other: sandbox.startDriver() };
}

mountTest('a large file is copied up while others go on', async (t, create) => {
  const { sandbox, path, digest, other } = await withLargeFile(create);
  const { calls } = sandbox;
  // Both are under way before the copy begins.
  await other.calls.pid();
  await calls.pid();
  let isCopied = false;
  const copied = calls.open(path, 'RDWR').finally(() => {
    isCopied = true;
  });
  let before = 0;
  while (!isCopied) {
    for (const name of ['elsewhere/f', 'elsewhere/g', 'other']) await other.calls.stat(sandbox.path(name));
    t.deepEqual(await other.calls.list(sandbox.path('elsewhere')), ['f', 'g']);
    if (!isCopied) before++;
  }
  t.true(before > 0, 'requests elsewhere are answered before the copy is done');
  const fd = await copied;
  t.is(await calls.digest(path), digest);
  await calls.pwrite(fd, 'written', SIZE - 7);
  await calls.fsync(fd);
  await calls.close(fd);
  t.is((await hostCalls().stat(bytes(`${sandbox.upper}/d/large`))).size, SIZE);
  t.true((await hostCalls().stat(bytes(`${sandbox.upper}/d/large`))).blocks * 512 <= SIZE - PIECE + 4 * MIB);
});

mountTest('all that is asked of a file during its copy-up holds afterwards', async (t, create) => {
  const { sandbox, path } = await withLargeFile(create);
  const { calls } = sandbox;
  const drivers = Array.from({ length: 7 }, () => sandbox.startDriver());
  await Promise.all(drivers.map(({ calls }) => calls.pid()));
  const first = calls.open(path, 'RDWR');
  const reader = await drivers[0]!.calls.open(path);
  const [second, chmod, appended, renamed, fsync, read, stat] = await Promise.all([
    drivers[1]!.calls.open(path, 'RDWR'),
    errnoOf(drivers[2]!.calls.chmod(path, 0o640)),
    errnoOf(drivers[3]!.calls.writeFile(path, 'APPENDED', 'WRONLY|APPEND')),
    errnoOf(drivers[4]!.calls.rename(path, sandbox.path('other/moved'))),
    errnoOf(drivers[0]!.calls.fsync(reader)),
    drivers[5]!.calls.stat(sandbox.path('elsewhere/f')),
    errnoOf(drivers[6]!.calls.stat(path)),
  ]);
  const fd = await first;
  // The rename may have come before the requests that name the file.
  for (const errno of [chmod, appended, stat]) t.true(errno === undefined || errno === 'ENOENT', errno);
  t.is(renamed, undefined);
  t.is(fsync, undefined);
  t.is(read.size, 1);
  const moved = sandbox.path('other/moved');
  await calls.pwrite(fd, 'first', 10);
  await drivers[1]!.calls.pwrite(second, 'second', 20);
  t.is(await drivers[0]!.calls.pread(reader, 20, 8), 'AAfirstAAAAAsecondAA');
  const after = await calls.stat(moved);
  t.is(after.ino, (await calls.fstat(fd)).ino);
  t.is(after.size, SIZE + (appended === undefined ? 8 : 0));
  if (chmod === undefined) t.is(after.mode & 0o777, 0o640);
  t.is(await errnoOf(calls.stat(path)), 'ENOENT');
  await calls.close(fd);
  await drivers[1]!.calls.close(second);
  await drivers[0]!.calls.close(reader);
});

mountTest('a file may be removed, and another take its name, during its copy-up', async (t, create) => {
  const { sandbox, path, other } = await withLargeFile(create);
  const { calls } = sandbox;
  await other.calls.pid();
  const opening = calls.open(path, 'RDWR').catch((error) => error as Error);
  const removed = await errnoOf(other.calls.unlink(path));
  await other.calls.writeFile(path, 'another');
  const fd = await opening;
  t.is(removed, undefined);
  // The file was opened before its name went, or when there was no such name, or when it was another's.
  if (typeof fd === 'number') {
    const { size, nlink } = await calls.fstat(fd);
    t.true((size === SIZE && nlink === 0) || (size === 7 && nlink === 1), `${size} ${nlink}`);
    if (nlink === 0) {
      await calls.pwrite(fd, 'still here', 5);
      t.is(await calls.pread(fd, 12, 4), 'Astill hereA');
    }
    await calls.close(fd);
  } else {
    // EEXIST: so says the kernel's own overlay where its copy finds the name taken.
    t.regex(fd.message, /ENOENT|ESTALE|EEXIST/);
  }
  t.is(await calls.readFile(path), 'another');
  t.deepEqual(await calls.list(sandbox.path('d')), ['large', 'small']);
});

mountTest('a directory above may be renamed during a copy-up', async (t, create, subject) => {
  const { sandbox, path, other, digest } = await withLargeFile(create);
  const { calls } = sandbox;
  await other.calls.pid();
  const opening = calls.open(path, 'RDWR').catch((error) => error as Error);
  const renamed = await errnoOf(other.calls.rename(sandbox.path('d'), sandbox.path('other/d')));
  t.is(renamed, subject.movesLowerDirectories ? undefined : 'EXDEV');
  const fd = await opening;
  const now = subject.movesLowerDirectories ? sandbox.path('other/d/large') : path;
  t.is(await calls.digest(now), digest);
  if (typeof fd === 'number') {
    await calls.pwrite(fd, 'x', 0);
    t.is((await calls.stat(now)).ino, (await calls.fstat(fd)).ino);
    await calls.close(fd);
    t.not(await calls.digest(now), digest);
  } else {
    t.regex(fd.message, /ENOENT|ESTALE/);
  }
});

mountTest('truncating at once does not wait for content', async (t, create) => {
  const { sandbox, path, other } = await withLargeFile(create);
  const opening = sandbox.calls.open(path, 'RDWR');
  await other.calls.truncate(path, 5);
  const fd = await opening;
  t.is(await sandbox.calls.pread(fd, 100, 0), 'AAAAA');
  await sandbox.calls.close(fd);
  t.is((await other.calls.stat(path)).size, 5);
});

mountTest('a process that is killed while it waits leaves nothing wrong behind', async (t, create) => {
  const { sandbox, path, digest, other } = await withLargeFile(create);
  await other.calls.pid();
  const waiting = [
    other.calls.open(path, 'RDWR').catch((error) => error as Error),
    other.calls.chmod(path, 0o600).catch((error) => error as Error),
  ];
  const running = sandbox.calls.open(path, 'RDWR');
  other.kill();
  await Promise.all(waiting);
  const fd = await running;
  t.is(await sandbox.calls.digest(path), digest);
  await sandbox.calls.close(fd);
  t.is(await sandbox.calls.readFile(sandbox.path('d/small')), 'small');
});
