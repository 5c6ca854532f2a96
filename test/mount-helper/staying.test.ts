/** The program by itself, as people run it: the process that mounts by FUSE stays as the server, and the shell goes. */
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  closeSync,
  constants,
  mkdtempSync,
  openSync,
  readFileSync,
  readlinkSync,
  readSync,
  rmSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'ava';
import { flock, LOCK_EX, LOCK_NB } from '../../src/mount-helper/system/libc.ts';
import { WaitingShell } from '../../src/mount-helper/waiting-shell.ts';
import { bytes } from './helpers/driver.ts';
import { isRunning, listedMount, recordFiles, until } from './helpers/mount-list.ts';
import { hostCalls, type MountSandbox, mountsAt, runCommand } from './helpers/mount-sandbox.ts';
import { processesUsing } from './helpers/server.ts';
import type { Subject } from './helpers/subjects.ts';
import { mountTest } from './helpers/suite.ts';

const LAYERS = { lowers: [{ file: 'below\n' }] };
const isFuse = ({ backend }: Subject) => backend === 'fuse';
const USAGE = 2;

test('the shell is told once, and no other file that has its descriptor afterwards', (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'git2db-shell-'));
  t.teardown(() => rmSync(folder, { recursive: true }));
  execFileSync('mkfifo', [join(folder, 'pipe')]);
  const pipe = openSync(join(folder, 'pipe'), constants.O_RDWR | constants.O_NONBLOCK);
  const reader = openSync(join(folder, 'pipe'), constants.O_RDONLY | constants.O_NONBLOCK);
  const shell = new WaitingShell(pipe);
  t.true(shell.release(7));
  const next = openSync(join(folder, 'file'), 'w');
  t.is(next, pipe, 'the lowest number that is free');
  t.true(shell.release(8));
  const said = Buffer.alloc(10);
  t.is(said.toString('latin1', 0, readSync(reader, said)), '7');
  closeSync(reader);
  closeSync(next);
  t.is(readFileSync(join(folder, 'file'), 'utf8'), '');
});

/** The command as it is typed, behind what makes it that of the subject's user. */
function typed(sandbox: MountSandbox, words: readonly string[] = []): string[] {
  return [...sandbox.subject.prefix, ...sandbox.mountCommand([], words).slice(1)];
}

function field(pid: number, index: number): number {
  const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
  return Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[index - 3]);
}

mountTest(
  'one process mounts and serves, in a session of its own, away from what belongs to its caller',
  async (t, create) => {
    const sandbox = await create(LAYERS);
    await sandbox.prepare();
    const run = await runCommand(typed(sandbox, ['--json']), sandbox.env);
    t.is(run.status, 0, run.stderr);
    const { pid } = JSON.parse(run.stdout) as { pid: number };
    t.is(await sandbox.calls.readFile(sandbox.path('file')), 'below\n');
    t.deepEqual((await listedMount(sandbox))?.pids, [pid]);
    t.is(field(pid, 6), pid, 'its session');
    t.is(readlinkSync(`/proc/${pid}/cwd`), '/');
    t.is(readlinkSync(`/proc/${pid}/fd/0`), '/dev/null');
    t.is(readlinkSync(`/proc/${pid}/fd/1`), '/dev/null');
    t.true(readlinkSync(`/proc/${pid}/fd/2`).endsWith('fuse.log'));
    t.is(
      readFileSync(`/proc/${pid}/cmdline`, 'latin1').split('\0')[0],
      `git2db-mount ${sandbox.merged}`.slice(0, 4000),
    );
    await sandbox.unmount();
    await until('it has ended', () => !isRunning(pid));
    t.deepEqual(recordFiles(sandbox), []);
  },
  isFuse,
);

mountTest(
  'what a command says of a mistake, and its exit status, come as from any other',
  async (t, create) => {
    const sandbox = await create(LAYERS);
    await sandbox.prepare();
    const unknown = await runCommand([...typed(sandbox), 'too', 'many'], sandbox.env);
    t.is(unknown.status, USAGE, unknown.stderr);
    t.is(unknown.stderr.trim().split('\n').length, 1);
    await sandbox.mount();
    const busy = await runCommand(typed(sandbox), sandbox.env);
    t.not(busy.status, 0);
    t.is(busy.stderr.trim().split('\n').length, 1, busy.stderr);
    t.is(mountsAt(sandbox.merged).length, 1);
    await sandbox.unmount();
    t.deepEqual(await hostCalls().list(bytes(sandbox.work)), []);
    await until('nobody is left', () => processesUsing(sandbox.dir).length === 0);
  },
  isFuse,
);

mountTest(
  'descriptors of the caller do not stay open with the mount',
  async (t, create) => {
    const sandbox = await create(LAYERS);
    await sandbox.prepare();
    for (const at of [5, 12, 20]) {
      const lock = openSync(join(sandbox.dir, `lock-${at}`), 'w');
      t.is(flock(lock, LOCK_EX | LOCK_NB), 0);
      const [program, ...args] = typed(sandbox);
      const stdio = Array.from({ length: at + 1 }, (_, fd) => (fd === at ? lock : 'ignore'));
      const child = spawn(program!, args, { env: sandbox.env, cwd: '/', stdio: stdio as 'ignore'[] });
      t.deepEqual(await once(child, 'exit'), [0, null]);
      closeSync(lock);
      const again = openSync(join(sandbox.dir, `lock-${at}`), 'r');
      t.is(flock(again, LOCK_EX | LOCK_NB), 0, `descriptor ${at} is held by the server`);
      closeSync(again);
      t.is(await sandbox.calls.readFile(sandbox.path('file')), 'below\n');
      await sandbox.unmount();
    }
  },
  isFuse,
);

mountTest(
  'without standard streams, and with nobody to read what it says, a mount comes about',
  async (t, create) => {
    const sandbox = await create(LAYERS);
    await sandbox.prepare();
    for (const redirections of ['<&- >&- 2>&-', '>&-', '| true']) {
      const script = `"$@" ${redirections}`;
      await runCommand(['sh', '-c', script, 'sh', ...typed(sandbox, ['--json'])], sandbox.env);
      await until('it is mounted', () => mountsAt(sandbox.merged).length > 0);
      t.is(await sandbox.calls.readFile(sandbox.path('file')), 'below\n');
      await until('it is on record', async () => (await listedMount(sandbox))?.state === 'mounted');
      await sandbox.unmount();
    }
  },
  isFuse,
);

mountTest(
  'a mount that nobody waits for any more does not stay',
  async (t, create) => {
    const sandbox = await create(LAYERS);
    await sandbox.prepare();
    for (const delay of [0, 20, 40, 60, 80]) {
      const [program, ...args] = typed(sandbox);
      const child = spawn(program!, args, { env: sandbox.env, cwd: '/', stdio: 'ignore' });
      await new Promise((resolve) => setTimeout(resolve, delay));
      const wasFirst = child.kill('SIGKILL');
      const [status] = (await once(child, 'exit')) as [number | null];
      if (wasFirst && status === null) {
        await until('nobody is left', () => processesUsing(sandbox.dir).length === 0);
        t.deepEqual(mountsAt(sandbox.merged), []);
      } else await sandbox.unmount();
    }
    await sandbox.mount();
    t.is(await sandbox.calls.readFile(sandbox.path('file')), 'below\n');
    await sandbox.unmount();
  },
  isFuse,
);
