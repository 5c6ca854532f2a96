/**
 * What is left when something goes wrong: the server or the mounting command killed at any point, no space,
 * errors of the disk. What was acknowledged is there, the lower view is whole, and the next mount works.
 */
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import type { ExecutionContext } from 'ava';
import { EXIT_CODES } from '../../src/exit-codes.ts';
import { bytes, errnoOf, type SystemCalls } from './helpers/driver.ts';
import { type LayerSpec, sparseFile } from './helpers/layers.ts';
import { recordFiles, until } from './helpers/mount-list.ts';
import {
  createMountSandbox,
  hostCalls,
  type MountSandbox,
  mountsAt,
  runCommand,
} from './helpers/mount-sandbox.ts';
import {
  changesOf,
  Injection,
  killedAt,
  killServer,
  processEnd,
  processesUsing,
  serverPid,
  straceMissing,
} from './helpers/server.ts';
import { SUBJECTS } from './helpers/subjects.ts';
import { fails, mountTest, onSubject } from './helpers/suite.ts';

const MIB = 1 << 20;

/** A change, and how to see whether it happened: wholly, or not at all. */
interface Step {
  readonly name: string;
  readonly act: (calls: SystemCalls, at: (name: string) => string) => Promise<unknown>;
  readonly done: (calls: SystemCalls, at: (name: string) => string) => Promise<boolean>;
  readonly undone: (calls: SystemCalls, at: (name: string) => string) => Promise<boolean>;
}

const LARGE = 'L'.repeat(3 * MIB);

const LOWER: LayerSpec = {
  append: 'lower',
  large: LARGE,
  gone: 'x',
  from: 'moving',
  'directory/in/f': 'f',
  'deep/er/mode': { type: 'file', data: [[0, 'x']], mode: 0o644, xattrs: { 'user.x': '1' } },
  'emptied/f': 'x',
  'left/f': 'left',
  right: 'right',
  linked: 'linked',
};

async function reads(calls: SystemCalls, path: string, content: string): Promise<boolean> {
  return (await errnoOf(calls.stat(path))) === undefined && (await calls.readFile(path)) === content;
}

async function isGone(calls: SystemCalls, path: string): Promise<boolean> {
  return (await errnoOf(calls.lstat(path))) === 'ENOENT';
}

const STEPS: readonly Step[] = [
  {
    name: 'create',
    act: (calls, at) => calls.writeFile(at('made'), 'made'),
    done: (calls, at) => reads(calls, at('made'), 'made'),
    undone: async (calls, at) => (await isGone(calls, at('made'))) || (await reads(calls, at('made'), '')),
  },
  {
    name: 'append to a lower file',
    act: (calls, at) => calls.writeFile(at('append'), '+more', 'WRONLY|APPEND'),
    done: (calls, at) => reads(calls, at('append'), 'lower+more'),
    undone: (calls, at) => reads(calls, at('append'), 'lower'),
  },
  {
    name: 'remove a lower file',
    act: (calls, at) => calls.unlink(at('gone')),
    done: (calls, at) => isGone(calls, at('gone')),
    undone: (calls, at) => reads(calls, at('gone'), 'x'),
  },
  {
    name: 'rename a lower file',
    act: (calls, at) => calls.rename(at('from'), at('deep/to')),
    done: async (calls, at) => (await isGone(calls, at('from'))) && reads(calls, at('deep/to'), 'moving'),
    undone: async (calls, at) => (await isGone(calls, at('deep/to'))) && reads(calls, at('from'), 'moving'),
  },
  {
    name: 'rename a lower directory',
    act: (calls, at) => calls.rename(at('directory'), at('moved')),
    done: async (calls, at) => (await isGone(calls, at('directory'))) && reads(calls, at('moved/in/f'), 'f'),
    undone: async (calls, at) =>
      (await isGone(calls, at('moved'))) && reads(calls, at('directory/in/f'), 'f'),
  },
  {
    name: 'change a mode',
    act: (calls, at) => calls.chmod(at('deep/er/mode'), 0o600),
    done: async (calls, at) => ((await calls.stat(at('deep/er/mode'))).mode & 0o777) === 0o600,
    undone: async (calls, at) => ((await calls.stat(at('deep/er/mode'))).mode & 0o777) === 0o644,
  },
  {
    name: 'write into a large lower file',
    act: async (calls, at) => {
      const fd = await calls.open(at('large'), 'RDWR');
      await calls.pwrite(fd, 'written', 2 * MIB);
      await calls.close(fd);
    },
    done: (calls, at) =>
      reads(calls, at('large'), `${LARGE.slice(0, 2 * MIB)}written${LARGE.slice(2 * MIB + 7)}`),
    undone: (calls, at) => reads(calls, at('large'), LARGE),
  },
  {
    name: 'remove a directory',
    act: async (calls, at) => {
      await calls.unlink(at('emptied/f'));
      await calls.rmdir(at('emptied'));
    },
    done: (calls, at) => isGone(calls, at('emptied')),
    undone: async (calls, at) => ['', 'f'].includes((await calls.list(at('emptied'))).join()),
  },
  {
    name: 'make a directory where one was removed',
    act: (calls, at) => calls.mkdir(at('emptied')),
    done: async (calls, at) =>
      !(await isGone(calls, at('emptied'))) && (await calls.list(at('emptied'))).length === 0,
    undone: (calls, at) => isGone(calls, at('emptied')),
  },
  {
    name: 'exchange names',
    act: (calls, at) => calls.renameat2(at('left'), at('right'), 2),
    done: async (calls, at) =>
      (await reads(calls, at('left'), 'right')) && reads(calls, at('right/f'), 'left'),
    undone: async (calls, at) =>
      (await reads(calls, at('right'), 'right')) && reads(calls, at('left/f'), 'left'),
  },
  {
    name: 'link a lower file',
    act: (calls, at) => calls.link(at('linked'), at('deep/link')),
    done: (calls, at) => reads(calls, at('deep/link'), 'linked'),
    undone: (calls, at) => isGone(calls, at('deep/link')),
  },
  {
    name: 'make a symbolic link',
    act: (calls, at) => calls.symlink('target', at('symlink')),
    done: async (calls, at) =>
      !(await isGone(calls, at('symlink'))) && (await calls.readlink(at('symlink'))) === 'target',
    undone: (calls, at) => isGone(calls, at('symlink')),
  },
];

/** Does the steps until one fails because the server is gone; returns how many were acknowledged. */
async function doSteps(calls: SystemCalls, at: (name: string) => string, steps = STEPS): Promise<number> {
  for (const [i, { act }] of steps.entries()) {
    const errno = await errnoOf(act(calls, at));
    if (errno === undefined) continue;
    if (['ENOTCONN', 'ECONNABORTED', 'EIO', 'EINTR'].includes(errno)) return i;
    throw new Error(`${steps[i]!.name}: ${errno}`);
  }
  return steps.length;
}

/** After a crash: mounts again and looks at everything. */
async function assertRecovers(
  t: ExecutionContext,
  sandbox: MountSandbox,
  acknowledged: number,
  when: string,
): Promise<void> {
  await sandbox.endDrivers();
  const first = await sandbox.tryMount();
  if (first.status !== 0) {
    const ended = await sandbox.program('umount', sandbox.merged);
    t.is(ended.status, 0, `${when}: ${first.stderr}${ended.stderr}`);
    await sandbox.mount();
  }
  const { calls } = sandbox;
  const at = (name: string) => sandbox.path(name);
  for (const [i, { name, done, undone }] of STEPS.entries()) {
    // The next step makes one there again, and that step is looked at below.
    if (name === 'remove a directory' && acknowledged > i) continue;
    if (name === 'make a directory where one was removed' && acknowledged < i) continue;
    if (i < acknowledged) t.true(await done(calls, at), `${when}: acknowledged: ${name}`);
    else if (i > acknowledged) t.true(await undone(calls, at), `${when}: not begun: ${name}`);
    else t.true((await done(calls, at)) || (await undone(calls, at)), `${when}: interrupted: ${name}`);
  }
  // The whole tree can be read, and what is not in the work directory is no litter.
  const names = new Set((await sandbox.tree()).map(({ path }) => path.split('/')[0]!));
  const known = new Set([
    '.',
    ...Object.keys(LOWER).map((path) => path.split('/')[0]!),
    'made',
    'moved',
    'symlink',
  ]);
  t.deepEqual(
    [...names].filter((name) => !known.has(name)),
    [],
    when,
  );
  await sandbox.unmount();
  const work = await hostCalls().tree(bytes(sandbox.work));
  t.deepEqual(
    work.filter(({ type }) => type === 'file' || type === 'symlink').map(({ path }) => path),
    [],
    when,
  );
}

const FUSE = SUBJECTS.filter(({ backend }) => backend === 'fuse');

for (const subject of FUSE) {
  onSubject(subject, 'a server that is killed between requests has lost nothing', async (t) => {
    for (const count of [5, STEPS.length]) {
      const sandbox = await createMountSandbox(t, subject, { lowers: [LOWER] });
      await sandbox.mount();
      const pid = await serverPid(sandbox);
      t.is(await doSteps(sandbox.calls, (name) => sandbox.path(name), STEPS.slice(0, count)), count);
      await killServer(pid);
      await fails(t, ['ENOTCONN', 'ECONNABORTED'], sandbox.calls.writeFile(sandbox.path('after'), 'x'));
      await assertRecovers(t, sandbox, count, `killed after ${count}`);
    }
  });
}

/** System calls by which the server changes the layers, and at which of them it is killed. */
const KILLS = [
  'renameat2:when=1',
  'renameat2:when=4',
  'linkat:when=1',
  'mknodat:when=1',
  'mkdirat:when=2',
  'unlinkat:when=1',
  'utimensat:when=2',
  'fsetxattr:when=1',
];

for (const subject of FUSE) {
  // Users differ from root in how directories move and where attributes are kept.
  const chosen = subject.isRoot ? KILLS : KILLS.slice(1, 4);
  onSubject(
    { ...subject, missing: subject.missing ?? straceMissing() },
    `a server that is killed within a change has lost nothing (${chosen.length} points)`,
    async (t) => {
      t.timeout(180_000);
      let killed = 0;
      for (const point of chosen) {
        const sandbox = await createMountSandbox(t, subject, { lowers: [LOWER] });
        await sandbox.mount();
        const pid = await serverPid(sandbox);
        await sandbox.calls.pid();
        const injection = await Injection.start(pid, point.replace(':', ':signal=SIGKILL:'));
        const acknowledged = await doSteps(sandbox.calls, (name) => sandbox.path(name));
        await injection.stop();
        if (acknowledged < STEPS.length) {
          killed++;
          await processEnd(pid);
        } else {
          await killServer(pid);
        }
        await assertRecovers(t, sandbox, acknowledged, `killed at ${point}`);
        await sandbox.dispose();
      }
      t.true(killed >= chosen.length / 2, `${killed} of ${chosen.length} points were reached`);
    },
  );
}

const OURS = SUBJECTS.filter(({ backend }) => ['fuse', 'kernel', 'userns'].includes(backend));

/** After the end of a command in the middle of a mount: mounts, and takes care that nothing else is left. */
async function assertMountable(t: ExecutionContext, sandbox: MountSandbox, when: string): Promise<void> {
  await until(`the mount can be made, ${when}`, async () => {
    if (mountsAt(sandbox.merged).length > 0) await sandbox.program('umount', sandbox.merged);
    const run = await sandbox.tryMount();
    if (run.status === 0) return true;
    // What a killed command has started may still be on its way, or be the mount that was asked for.
    t.true(
      [EXIT_CODES.UPPER_BUSY, EXIT_CODES.MERGED_NOT_EMPTY].includes(run.status),
      `${when}: ${run.stderr}`,
    );
    await sandbox.program('umount', sandbox.merged);
    return false;
  });
  await sandbox.unmount();
  t.deepEqual(recordFiles(sandbox), [], when);
  const { calls, dir, upper, work } = { ...sandbox, calls: hostCalls() };
  t.deepEqual(await calls.list(bytes(upper)), [], when);
  t.deepEqual((await calls.list(bytes(`${dir}/store`))).sort(), ['upper', 'work', 'work.git2db-stamp'], when);
  t.deepEqual(
    (await calls.list(bytes(work))).filter((name) => name !== 'work'),
    [],
    when,
  );
}

for (const subject of OURS) {
  onSubject(
    { ...subject, missing: subject.missing ?? straceMissing() },
    'a mounting command that is killed at any of its changes leaves a place that can be mounted, and no litter',
    async (t) => {
      t.timeout(180_000);
      const sandbox = await createMountSandbox(t, subject, { lowers: [{ f: 'content' }] });
      const { env } = sandbox;
      // The directories of records are there from now on.
      await sandbox.mount();
      await sandbox.unmount();
      rmSync(`${sandbox.work}.git2db-stamp`);
      const command = [...subject.prefix, ...sandbox.mountCommand()];
      const points = await changesOf(command, env, join(sandbox.dir, 'trace'));
      await sandbox.unmount();
      t.true(points.length > 10, points.join());
      let killed = 0;
      for (const point of points) {
        // As for a first mount.
        rmSync(`${sandbox.work}.git2db-stamp`);
        const { stderr } = await runCommand(killedAt(point, command), env);
        if (stderr.endsWith('killed by SIGKILL')) killed++;
        await assertMountable(t, sandbox, `killed at ${point}`);
      }
      // Not all: how often a call is made before it differs a little from run to run.
      t.true(killed > points.length / 2, `${killed} of ${points.length} points were reached`);
      await sandbox.mount();
      t.is(await sandbox.calls.readFile(sandbox.path('f')), 'content');
      await sandbox.unmount();
      for (const pid of processesUsing(sandbox.dir)) await processEnd(pid);
    },
  );
}

mountTest(
  'passthrough that an ordinary user insists on is refused, and nothing is mounted',
  async (t, create) => {
    const sandbox = await create({ lowers: [{ f: 'content' }] });
    const run = await sandbox.tryMount(['passthrough=on']);
    t.is(run.status, EXIT_CODES.BACKEND_UNAVAILABLE, run.stderr);
    t.regex(run.stderr, /^git2db-mount: passthrough=on: .*root.*leave it out\n$/);
    t.deepEqual(mountsAt(sandbox.merged), []);
    t.deepEqual(recordFiles(sandbox), []);
    for (const path of [sandbox.upper, sandbox.work]) t.deepEqual(await hostCalls().list(bytes(path)), []);
    t.deepEqual((await hostCalls().list(bytes(`${sandbox.dir}/store`))).sort(), ['upper', 'work']);
    for (const pid of processesUsing(sandbox.dir)) await processEnd(pid);
    await sandbox.mount();
    t.is(await sandbox.calls.readFile(sandbox.path('f')), 'content');
    await sandbox.unmount();
  },
  ({ backend, isRoot }) => backend === 'fuse' && !isRoot,
);

const needsRoot = process.getuid!() === 0 ? undefined : 'needs root';

mountTest(
  'a full disk is told to who writes, and the lower view stays whole',
  async (t, create) => {
    const sandbox = await create({
      lowers: [{ large: LARGE.repeat(4), small: 'small', 'd/f': 'x' }],
      store: 'size=8m',
    });
    await sandbox.mount();
    const { calls } = sandbox;
    const large = sandbox.path('large');
    for (const act of [
      () => calls.open(large, 'WRONLY'),
      () => calls.setxattr(large, 'user.x', '1'),
      () => calls.rename(large, sandbox.path('renamed')),
    ]) {
      await fails(t, 'ENOSPC', act());
      t.is((await calls.stat(large)).size, 12 * MIB);
      t.is(await calls.pread(await calls.open(large), 3, 12 * MIB - 3), 'LLL');
      t.deepEqual(await calls.list(bytes(sandbox.merged)), ['d', 'large', 'small']);
      t.deepEqual(await filesIn(sandbox.upper), []);
      t.deepEqual(await filesIn(sandbox.work), []);
    }
    const fd = await calls.open(sandbox.path('made'), 'RDWR|CREAT');
    await fails(t, 'ENOSPC', calls.fill(fd, 'x', 16 * MIB, 0));
    await fails(t, 'ENOSPC', calls.writeFile(sandbox.path('small'), 's'.repeat(8192), 'WRONLY'));
    await calls.ftruncate(fd, 0);
    await calls.close(fd);
    await calls.writeFile(sandbox.path('small'), 'changed');
    t.is(await calls.readFile(sandbox.path('small')), 'changed');
    await calls.writeFile(large, 'short', 'WRONLY|TRUNC');
    t.is(await calls.readFile(large), 'short');
  },
  undefined,
  needsRoot,
);

async function filesIn(root: string): Promise<string[]> {
  const tree = await hostCalls().tree(bytes(root));
  return tree.filter(({ type }) => type === 'file').map(({ path }) => path);
}

mountTest(
  'no inodes left is told to who makes names, and nothing is half done',
  async (t, create) => {
    const names = Array.from({ length: 60 }, (_, i) => `f${i}`);
    const sandbox = await create({
      lowers: [{ ...Object.fromEntries(names.map((name) => [`d/${name}`, 'x'])), 'e/f': 'x' }],
      store: 'size=8m,nr_inodes=40',
    });
    await sandbox.mount();
    const { calls } = sandbox;
    let failed = 0;
    for (const [i, name] of names.entries()) {
      const path = sandbox.path(`d/${name}`);
      const act = [
        () => calls.chmod(path, 0o600),
        () => calls.rename(path, `${path}-moved`),
        () => calls.writeFile(path, 'new'),
        () => calls.writeFile(`${path}-made`, 'new'),
        () => calls.mkdir(`${path}-made`),
      ][i % 5]!;
      const before = await calls.list(sandbox.path('d'));
      const errno = await errnoOf(act());
      if (errno === undefined) continue;
      failed++;
      t.is(errno, 'ENOSPC', name);
      t.deepEqual(await calls.list(sandbox.path('d')), before, name);
      t.is(await calls.readFile(path), 'x');
    }
    t.true(failed > 0);
    t.deepEqual(await calls.list(sandbox.path('e')), ['f']);
  },
  ({ backend }) => backend !== 'fuse-overlayfs',
  needsRoot,
);

const INJECTED = [
  ['copy_file_range,pwrite64,write,sendfile,ioctl', 'EIO'],
  ['copy_file_range,ioctl', 'EROFS'],
  ['renameat2,linkat,renameat,rename', 'EROFS'],
  ['fsync,fdatasync', 'EIO'],
  ['utimensat', 'EIO'],
  ['ftruncate,fallocate', 'ENOSPC'],
] as const;

for (const subject of FUSE) {
  onSubject(
    { ...subject, missing: subject.missing ?? straceMissing() },
    'an error of the disk within a copy-up is told to the caller, and the file stays as it was',
    async (t) => {
      const sandbox = await createMountSandbox(t, subject, {
        lowers: [
          Object.fromEntries(
            INJECTED.map((_, i) => [
              `f${i}`,
              sparseFile(3 * MIB, [
                [0, 'start'],
                [2 * MIB, 'middle'],
                [3 * MIB - 3, 'end'],
              ]),
            ]),
          ),
        ],
      });
      await sandbox.mount();
      const { calls } = sandbox;
      const pid = await serverPid(sandbox);
      await calls.pid();
      let told = 0;
      for (const [i, [what, errno]] of INJECTED.entries()) {
        const path = sandbox.path(`f${i}`);
        const digest = await calls.digest(path);
        // All but the answers to the kernel, which are writes too.
        const optional = what
          .replace(',write', '')
          .split(',')
          .map((call) => `?${call}`)
          .join(',');
        const injection = await Injection.start(pid, `${optional}:error=${errno}`);
        const found = await errnoOf(calls.chmod(path, 0o600));
        await injection.stop();
        // Undefined: the server had no use for that call.
        if (found !== undefined) {
          told++;
          t.is(found, errno, what);
          t.false(await hostCalls().exists(bytes(`${sandbox.upper}/f${i}`)), what);
          t.is((await calls.stat(path)).mode & 0o777, 0o644, what);
        }
        t.is(await calls.digest(path), digest, what);
        await calls.chmod(path, 0o640);
        t.is(await calls.digest(path), digest, what);
        t.is((await calls.stat(path)).mode & 0o777, 0o640, what);
      }
      t.true(told >= 3, `${told} errors were told`);
      t.deepEqual(await filesIn(sandbox.work), []);
    },
  );
}

for (const subject of FUSE) {
  const traced = { ...subject, missing: subject.missing ?? straceMissing() };
  onSubject(traced, 'a failed sync of the upper is told to who asked for it', async (t) => {
    const sandbox = await createMountSandbox(t, subject);
    await sandbox.mount();
    const { calls } = sandbox;
    const fd = await calls.open(sandbox.path('f'), 'RDWR|CREAT');
    await calls.write(fd, 'x');
    const injection = await Injection.start(await serverPid(sandbox), 'fsync,fdatasync:error=EIO');
    await fails(t, 'EIO', calls.fsync(fd));
    await injection.stop();
    await calls.fsync(fd);
    await calls.close(fd);
  });

  onSubject(subject, 'a volatile mount that was killed reveals itself', async (t) => {
    const sandbox = await createMountSandbox(t, subject, { lowers: [{ f: 'x' }] });
    await sandbox.mount(['volatile']);
    await sandbox.calls.writeFile(sandbox.path('f'), 'changed');
    await killServer(await serverPid(sandbox));
    await sandbox.endDrivers();
    await sandbox.program('umount', sandbox.merged);
    const refused = await sandbox.tryMount();
    t.not(refused.status, 0);
    t.regex(refused.stderr, /volatile/);
    t.is(refused.stderr.trim().split('\n').length, 1);
    t.is(mountsAt(sandbox.merged).length, 0);
  });

  onSubject(subject, 'a volatile mount that ended well is like any other', async (t) => {
    const sandbox = await createMountSandbox(t, subject, { lowers: [{ f: 'x' }] });
    await sandbox.mount(['volatile']);
    await sandbox.calls.writeFile(sandbox.path('f'), 'changed');
    // While it lives nobody is told to remove its mark.
    const second = await sandbox.tryMount();
    t.regex(second.stderr, /is in use by the mount on/);
    t.notRegex(second.stderr, /incompat/);
    await sandbox.remount();
    t.is(await sandbox.calls.readFile(sandbox.path('f')), 'changed');
  });
}
