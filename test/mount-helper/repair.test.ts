import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { chownSync, readFileSync, renameSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { bytes } from './helpers/driver.ts';
import { isRunning, listedMount, recordFiles, recordsOf, until } from './helpers/mount-list.ts';
import { hostCalls, type MountSandbox, mountsAt } from './helpers/mount-sandbox.ts';
import type { Subject } from './helpers/subjects.ts';
import { mountTest } from './helpers/suite.ts';

const LAYERS = { lowers: [{ file: 'below\n' }] };
const MERGED_NOT_EMPTY = 30;
const UPPER_BUSY = 35;
const isFuse = ({ backend }: Subject) => backend === 'fuse';
const ours = ({ backend }: Subject) => backend === 'kernel' || backend === 'userns' || backend === 'fuse';

interface Repaired {
  readonly merged: string;
  readonly state: string;
  readonly action: string;
  readonly message: string;
  readonly open: boolean;
}

/** Only this mount: root's records are one for the machine, and other tests have theirs there. */
async function repair(
  sandbox: MountSandbox,
  ...flags: string[]
): Promise<{ status: number; found: Repaired[] }> {
  const run = await sandbox.program('repair', '--json', ...flags, sandbox.merged);
  return { status: run.status, found: JSON.parse(run.stdout || '[]') as Repaired[] };
}

async function killServer(sandbox: MountSandbox): Promise<void> {
  await sandbox.endDrivers();
  const [pid] = (await listedMount(sandbox))!.pids;
  process.kill(pid!, 'SIGKILL');
  await until('the server has ended', () => !isRunning(pid!));
}

/** As after a reboot: the record is there, of another boot, and the mount is not. */
async function loseInReboot(sandbox: MountSandbox): Promise<void> {
  const [file] = recordFiles(sandbox);
  const record = JSON.parse(readFileSync(file!, 'utf8')) as object;
  const { uid, gid, mode } = statSync(file!);
  await sandbox.unmount();
  writeFileSync(file!, JSON.stringify({ ...record, bootId: '00000000-0000-0000-0000-000000000000' }), {
    mode,
  });

  chownSync(file!, uid, gid);
}

mountTest(
  'a dead mount is cleared and made again, once',
  async (t, create) => {
    const sandbox = await create(LAYERS);
    await sandbox.mount();
    await sandbox.calls.writeFile(sandbox.path('kept'), 'kept\n');
    await killServer(sandbox);
    t.is((await listedMount(sandbox))?.state, 'dead');

    const dry = await repair(sandbox, '--dry-run');
    t.is(dry.status, 0);
    t.like(dry.found[0], { merged: sandbox.merged, state: 'dead', action: 'remounted' });
    t.is((await listedMount(sandbox))?.state, 'dead');

    const wet = await repair(sandbox);
    t.deepEqual(wet, dry);
    t.is((await listedMount(sandbox))?.state, 'mounted');
    t.is(recordFiles(sandbox).length, 1);
    t.deepEqual(mountsAt(sandbox.merged), ['fuse.git2db-mount']);
    t.is(await sandbox.calls.readFile(sandbox.path('kept')), 'kept\n');
    t.deepEqual(await repair(sandbox), { status: 0, found: [] });
    await sandbox.unmount();
  },
  isFuse,
);

mountTest(
  'a mount that a reboot has ended is made again with all its options',
  async (t, create) => {
    const sandbox = await create(LAYERS);
    await sandbox.mount(['noatime', 'fsname=named']);
    await loseInReboot(sandbox);
    t.is((await listedMount(sandbox))?.state, 'lost');
    const { status, found } = await repair(sandbox);
    t.is(status, 0, JSON.stringify(found));
    t.like(found[0], { state: 'lost', action: 'remounted', open: false });
    t.is((await listedMount(sandbox))?.state, 'mounted');
    t.is(recordFiles(sandbox).length, 1);
    const record = JSON.parse(readFileSync(recordFiles(sandbox)[0]!, 'utf8')) as { options: object };
    t.like(record.options, { source: 'named', flags: ['noatime'] });
    t.deepEqual(await repair(sandbox), { status: 0, found: [] });
    await sandbox.unmount();
  },
  ours,
);

mountTest(
  'what cannot be mounted again is reported every time, and forgotten when told',
  async (t, create) => {
    const sandbox = await create(LAYERS);
    await sandbox.mount();
    await loseInReboot(sandbox);
    renameSync(sandbox.upper, `${sandbox.upper}.away`);
    for (const flags of [['--dry-run'], [], []]) {
      const { status, found } = await repair(sandbox, ...flags);
      t.is(status, 1);
      t.like(found[0], { state: 'lost', action: 'reported', open: true });
      t.true(found[0]!.message.includes(sandbox.upper));
      t.true(found[0]!.message.includes('git2db-mount umount'));
    }
    renameSync(`${sandbox.upper}.away`, sandbox.upper);
    const run = await sandbox.program('umount', sandbox.merged);
    t.is(run.status, 48, run.stderr);
    t.deepEqual(recordFiles(sandbox), []);
    t.deepEqual(await repair(sandbox), { status: 0, found: [] });
    const unknown = await sandbox.program('repair', sandbox.merged);
    t.is(unknown.status, 0);
    t.regex(unknown.stderr, /is no mount of git2db, and there is no record of one/);
  },
  ours,
);

mountTest(
  'a dead mount can be ended, and mounted over, without repair',
  async (t, create) => {
    const sandbox = await create(LAYERS);
    await sandbox.mount();
    await killServer(sandbox);
    const run = await sandbox.program('umount', sandbox.merged);
    t.is(run.status, 0, run.stderr);
    t.deepEqual(mountsAt(sandbox.merged), []);
    t.deepEqual(await hostCalls().list(bytes(sandbox.work)), []);
    await sandbox.mount();
    await killServer(sandbox);
    await sandbox.mount();
    t.deepEqual(mountsAt(sandbox.merged), ['fuse.git2db-mount']);
    t.is(recordFiles(sandbox).length, 1);
    await sandbox.unmount();
  },
  isFuse,
);

mountTest(
  'a dead mount without a record is cleared',
  async (t, create) => {
    const sandbox = await create(LAYERS);
    await sandbox.mount();
    const [file] = recordFiles(sandbox);
    await killServer(sandbox);
    renameSync(file!, join(sandbox.dir, 'record'));
    t.like(await listedMount(sandbox), { state: 'dead', recorded: false });
    const { status, found } = await repair(sandbox);
    t.is(status, 0);
    t.like(found[0], { state: 'dead', action: 'cleared' });
    t.deepEqual(mountsAt(sandbox.merged), []);
  },
  isFuse,
);

mountTest(
  'the record of a mount that others have ended is removed',
  async (t, create) => {
    const sandbox = await create(LAYERS);
    await sandbox.mount();
    await sandbox.runAs(['umount', sandbox.merged]);
    const { status, found } = await repair(sandbox);
    t.is(status, 0);
    // Whoever lists root's mounts meanwhile removes it as well.
    t.true(found.every(({ state, action }) => state === 'ended' && action === 'cleared'));
    t.deepEqual(recordFiles(sandbox), []);
  },
  ({ backend }) => backend === 'kernel',
);

mountTest(
  'a damaged record is named and kept',
  async (t, create) => {
    const sandbox = await create(LAYERS);
    await sandbox.mount();
    const damaged = join(recordsOf(sandbox), 'damaged.json');
    writeFileSync(damaged, '{', { mode: 0o600 });
    const listed = await sandbox.program('list');
    t.is(listed.status, 1);
    t.true(listed.stderr.includes(damaged));
    const run = await sandbox.program('repair');
    t.is(run.status, 1);
    t.true(run.stderr.includes(`rm ${damaged}`));
    t.is(readFileSync(damaged, 'utf8'), '{');
    await sandbox.unmount();
  },
  // Root's records are one for the machine.
  ({ isRoot, backend }) => !isRoot && backend === 'fuse',
);

mountTest(
  'a session directory that cannot be looked at counts as none',
  async (t, create) => {
    const sandbox = await create(LAYERS);
    const loop = join(sandbox.dir, 'loop');
    symlinkSync(loop, loop);
    const listed = await sandbox.runAs([
      'env',
      `XDG_RUNTIME_DIR=${loop}/run`,
      ...sandbox.programCommand('list', '--json'),
    ]);
    t.deepEqual([listed.status, listed.stderr], [0, '']);
  },
  // Root's places depend on no variable.
  ({ isRoot, backend }) => !isRoot && backend === 'fuse',
);

mountTest(
  'a command that is killed at any moment leaves a mount that can be ended, or none',
  async (t, create) => {
    const sandbox = await create(LAYERS);
    await sandbox.prepare();
    for (const delayMs of [0, 60, 120, 160, 200, 260, 350]) {
      const [program, ...args] = [...sandbox.subject.prefix, ...sandbox.mountCommand()];
      const command = spawn(program!, args, { env: sandbox.env, cwd: '/', stdio: 'ignore' });
      const ended = once(command, 'close');
      await new Promise((resolve) => setTimeout(resolve, delayMs));
      command.kill('SIGKILL');
      await ended;
      await until('the mount can be made', async () => {
        const listed = await listedMount(sandbox);
        if (listed?.state === 'mounted') await sandbox.program('umount', sandbox.merged);
        const run = await sandbox.tryMount();
        // The orphaned server may still be on its way, and get there between our look and our mount.
        t.true([0, UPPER_BUSY, MERGED_NOT_EMPTY].includes(run.status), run.stderr);
        return run.status === 0;
      });
      await sandbox.unmount();
      t.deepEqual(recordFiles(sandbox), [], `after ${delayMs} ms`);
    }
  },
  ours,
);
