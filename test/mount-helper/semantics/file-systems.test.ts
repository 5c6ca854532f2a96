/** What depends on the file system of the layers: copies that share their blocks, and limits on space. */
import { execFileSync } from 'node:child_process';
import { statfsSync } from 'node:fs';
import { bytes, errnoOf } from '../helpers/driver.ts';
import { file } from '../helpers/layers.ts';
import { type LoopType, loopFileSystem, loopMissing, ramFileSystem } from '../helpers/loop-file-system.ts';
import { hostCalls } from '../helpers/mount-sandbox.ts';
import { fails, mountTest } from '../helpers/suite.ts';

const MIB = 1 << 20;
const SIZE = 48 * MIB;

/** Bytes of the file system that are in use, once all is written. */
function used(root: string): number {
  execFileSync('sync', ['-f', root]);
  const { blocks, bfree, bsize } = statfsSync(root);
  return (blocks - bfree) * bsize;
}

for (const type of ['xfs', 'btrfs'] as const satisfies readonly LoopType[]) {
  mountTest(
    `a copy-up on ${type} shares the blocks of the lower file until they are written to`,
    async (t, create) => {
      const root = loopFileSystem(t, type);
      const sandbox = await create({ parent: root, lowers: [{ large: file('') }] });
      const lower = bytes(`${sandbox.lowers[0]}/large`);
      const host = hostCalls();
      const fd = await host.open(lower, 'RDWR');
      await host.fill(fd, 'x', SIZE, 0);
      await host.futimens(fd, '1000000000', '1000000001');
      await host.close(fd);
      await sandbox.mount();
      const before = used(root);
      const writer = await sandbox.calls.open(sandbox.path('large'), 'RDWR');
      const copied = used(root) - before;
      t.true(copied < SIZE / 8, `${copied} bytes for a copy of ${SIZE}`);
      await sandbox.calls.pwrite(writer, 'y', SIZE / 2);
      t.is(await sandbox.calls.pread(writer, 3, SIZE / 2 - 1), 'xyx');
      await sandbox.calls.close(writer);
      t.is(await host.digest(lower, true), await digestOf(SIZE));
      t.is((await host.stat(bytes(`${sandbox.upper}/large`))).size, SIZE);
      await sandbox.dispose();
    },
    undefined,
    loopMissing(type),
  );
}

/** Of a file of `x` only. */
async function digestOf(size: number): Promise<string> {
  const { createHash } = await import('node:crypto');
  return createHash('sha256').update(Buffer.alloc(size, 'x')).digest('hex');
}

mountTest(
  'a quota that is used up is told to who writes, and the lower view stays whole',
  async (t, create) => {
    const root = loopFileSystem(t, 'btrfs');
    execFileSync('btrfs', ['quota', 'enable', root]);
    const sandbox = await create({
      store: { directory: root },
      lowers: [{ small: 'small', large: 'x'.repeat(16 * MIB) }],
    });
    const host = hostCalls();
    await sandbox.mount();
    execFileSync('sync', ['-f', root]);
    execFileSync('btrfs', ['qgroup', 'limit', String(8 * MIB), root]);
    const { calls } = sandbox;
    const large = sandbox.path('large');
    for (const act of [
      () => calls.open(large, 'RDWR'),
      () => calls.chmod(large, 0o600),
      () => calls.rename(large, sandbox.path('renamed')),
    ]) {
      await fails(t, 'EDQUOT', act());
      t.is((await calls.stat(large)).size, 16 * MIB);
      t.deepEqual(await calls.list(bytes(sandbox.merged)), ['large', 'small']);
      t.false(await host.exists(bytes(`${sandbox.upper}/large`)));
    }
    const made = await calls.open(sandbox.path('made'), 'RDWR|CREAT');
    t.is(await errnoOf(calls.fill(made, 'y', 16 * MIB, 0)), 'EDQUOT');
    execFileSync('btrfs', ['qgroup', 'limit', 'none', root]);
    await calls.ftruncate(made, 0);
    await calls.close(made);
    await calls.writeFile(large, 'after', 'WRONLY|APPEND');
    t.is((await calls.stat(large)).size, 16 * MIB + 5);
    await sandbox.dispose();
  },
  undefined,
  loopMissing('btrfs'),
);

mountTest(
  'on a file system without attributes directories are deleted, made again and moved all the same',
  async (t, create) => {
    const lower = { 'dir/below': 'x', 'moved/kept': 'y', file: 'f' };
    const sandbox = await create({ store: { directory: ramFileSystem(t) }, lowers: [lower] });
    await sandbox.mount();
    let { calls } = sandbox;
    const at = (name: string) => sandbox.path(name);
    await calls.unlink(at('dir/below'));
    await calls.rmdir(at('dir'));
    await calls.mkdir(at('dir'), 0o755);
    await calls.rename(at('moved'), at('elsewhere'));
    await calls.mkdir(at('moved'), 0o755);
    // A directory that comes to a place where layers below have another one.
    await calls.unlink(at('file'));
    await calls.mkdir(at('new'), 0o755);
    await calls.writeFile(at('new/inside'), 'z');
    await calls.rmdir(at('dir'));
    await calls.rename(at('new'), at('dir'));
    await calls.mkdir(at('last'), 0o755);
    await calls.rename(at('last'), at('moved'));
    const expected = ['.', 'dir', 'dir/inside', 'elsewhere', 'elsewhere/kept', 'moved'];
    const names = async () => (await sandbox.tree()).map(({ path }) => path).sort();
    t.deepEqual(await names(), expected);
    await sandbox.remount();
    calls = sandbox.calls;
    t.deepEqual(await names(), expected);
    t.is(await calls.readFile(at('elsewhere/kept')), 'y');
    await calls.unlink(at('dir/inside'));
    await calls.rmdir(at('dir'));
    await calls.unlink(at('elsewhere/kept'));
    await calls.rmdir(at('elsewhere'));
    await calls.rmdir(at('moved'));
    t.deepEqual(await names(), ['.']);
    await sandbox.dispose();
  },
  ({ backend }) => backend === 'fuse',
  process.getuid!() === 0 ? undefined : 'needs root',
);
