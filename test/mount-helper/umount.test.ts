import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync, readlinkSync } from 'node:fs';
import test, { type ExecutionContext } from 'ava';
import { bytes, pythonProgram } from './helpers/driver.ts';
import { isRunning, listedMount, recordFiles, until } from './helpers/mount-list.ts';
import { hostCalls, type MountSandbox, mountsAt, runCommand } from './helpers/mount-sandbox.ts';
import { SUBJECTS, type Subject } from './helpers/subjects.ts';
import { mountTest } from './helpers/suite.ts';

const BUSY = 49;
const NOT_MOUNTED = 48;
const UPPER_BUSY = 35;

const LAYERS = { lowers: [{ file: 'below\n', 'directory/file': 'deep\n' }] };
const ours = ({ backend }: Subject) => backend === 'kernel' || backend === 'userns' || backend === 'fuse';

/** A process that sits in the mount. */
async function sitIn(t: ExecutionContext, sandbox: MountSandbox): Promise<ChildProcess> {
  const { subject } = sandbox;
  const entering = subject.backend === 'userns' ? sandbox.programCommand('exec', sandbox.merged, '--') : [];
  const words = [...subject.prefix, ...entering, 'sh', '-c', `cd '${sandbox.merged}' && exec sleep 1000`];
  const child = spawn(words[0]!, words.slice(1), { env: sandbox.env, cwd: '/', stdio: 'ignore' });
  t.teardown(() => child.kill('SIGKILL'));
  await until('the process sits in the mount', () => {
    try {
      return (
        readlinkSync(`/proc/${child.pid}/cwd`) === sandbox.merged &&
        readlinkSync(`/proc/${child.pid}/exe`).endsWith('sleep')
      );
    } catch {
      return false;
    }
  });
  return child;
}

async function ended(child: ChildProcess): Promise<void> {
  child.kill('SIGKILL');
  await until('it has ended', () => child.exitCode !== null || child.signalCode !== null);
}

mountTest(
  'an unused mount ends, and with it its processes and its record',
  async (t, create) => {
    const sandbox = await create(LAYERS);
    await sandbox.mount();
    const listed = await listedMount(sandbox);
    t.is(listed?.state, 'mounted');
    t.is(listed?.backend, sandbox.subject.backend);
    t.true(listed?.recorded);
    t.is(listed!.pids.length, sandbox.subject.backend === 'kernel' ? 0 : 1);
    t.is(recordFiles(sandbox).length, 1);
    const run = await sandbox.program('umount', sandbox.merged);
    t.is(run.status, 0, run.stderr);
    t.is(run.stderr, '');
    t.deepEqual(mountsAt(sandbox.merged), []);
    t.deepEqual(listed!.pids.filter(isRunning), []);
    t.deepEqual(recordFiles(sandbox), []);
    t.is(await listedMount(sandbox), undefined);
  },
  ours,
);

mountTest(
  'a mount in use is refused, with the pid and the command of who uses it',
  async (t, create) => {
    const sandbox = await create(LAYERS);
    await sandbox.mount();
    const sitting = await sitIn(t, sandbox);
    const run = await sandbox.program('umount', sandbox.merged);
    t.is(run.status, BUSY, run.stderr);
    t.regex(run.stderr, new RegExp(`\\b${sitting.pid}\\b.*sleep 1000`));
    t.is(run.stderr.trim().split('\n').length, 1);
    t.is((await listedMount(sandbox))?.state, 'mounted');
    const json = await sandbox.program('umount', '--json', sandbox.merged);
    t.like(JSON.parse(json.stdout)[0], { merged: sandbox.merged, ended: false, code: 'MOUNT_BUSY' });
    await ended(sitting);
    t.is((await sandbox.program('umount', sandbox.merged)).status, 0);
  },
  ours,
);

/** Maps a file by the system's own call, which keeps no descriptor. */
const MAP = `import ctypes, os, sys, time
libc = ctypes.CDLL(None)
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
fd = os.open(sys.argv[1], os.O_RDONLY)
libc.mmap(None, 4096, 1, 2, fd, 0)
os.close(fd)
print('mapped', flush=True)
time.sleep(1000)`;

mountTest(
  'an open file and a mapped file keep a mount busy as well',
  async (t, create) => {
    const sandbox = await create(LAYERS);
    await sandbox.mount();
    const fd = await sandbox.calls.open(sandbox.path('file'));
    const pid = await sandbox.calls.pid();
    const open = await sandbox.program('umount', sandbox.merged);
    t.is(open.status, BUSY);
    t.regex(open.stderr, new RegExp(`process ${pid} .*open file`));
    await sandbox.calls.close(fd);
    const mapping = spawn('python3', ['-c', MAP, sandbox.path('file')], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    t.teardown(() => mapping.kill('SIGKILL'));
    await once(mapping.stdout, 'data');
    const mapped = await sandbox.program('umount', sandbox.merged);
    t.is(mapped.status, BUSY);
    t.regex(mapped.stderr, new RegExp(`process ${mapping.pid} .*mapped file`));
    await ended(mapping);
    await sandbox.endDrivers();
    t.is((await sandbox.program('umount', sandbox.merged)).status, 0);
  },
  // By root, whoever mounted would have to be asked to let it look in.
  ({ backend, isRoot }) => isRoot && (backend === 'kernel' || backend === 'fuse'),
);

/** Keeps a file in use for so many seconds where no process is seen to have it: on its way through a socket. */
const SEND = `import os, socket, sys, time
a, b = socket.socketpair()
fd = os.open(sys.argv[1], os.O_RDONLY)
socket.send_fds(a, [b'x'], [fd])
os.close(fd)
print('sent', flush=True)
time.sleep(float(sys.argv[2]))`;

mountTest(
  'what nobody is seen to use is waited for a little, and then called busy',
  async (t, create) => {
    const sandbox = await create(LAYERS);
    await sandbox.mount();
    const keep = async (seconds: number) => {
      const words = [
        ...sandbox.subject.prefix,
        pythonProgram(),
        '-c',
        SEND,
        sandbox.path('file'),
        String(seconds),
      ];
      const child = spawn(words[0]!, words.slice(1), { stdio: ['ignore', 'pipe', 'inherit'], cwd: '/' });
      t.teardown(() => child.kill('SIGKILL'));
      await once(child.stdout, 'data');
      return child;
    };
    const lasting = await keep(1000);
    const refused = await sandbox.program('umount', sandbox.merged);
    t.is(refused.status, BUSY, refused.stderr);
    t.regex(refused.stderr, /used by a process that this user may not look at/);
    await ended(lasting);
    // Over before the command gives up, however quickly it starts.
    await keep(0.9);
    const run = await sandbox.program('umount', sandbox.merged);
    t.is(run.status, 0, run.stderr);
  },
  ({ backend }) => backend === 'kernel' || backend === 'fuse',
);

mountTest(
  'a lazy end leaves the mount to who uses it, and the upper to nobody else until then',
  async (t, create) => {
    const sandbox = await create(LAYERS);
    await sandbox.mount();
    const sitting = await sitIn(t, sandbox);
    const run = await sandbox.program('umount', '--lazy', sandbox.merged);
    t.is(run.status, 0, run.stderr);
    t.true(isRunning(sitting.pid!));
    const second = await sandbox.tryMount();
    t.is(second.status, UPPER_BUSY, second.stderr);
    const { pids } = (await listedMount(sandbox)) ?? { pids: [] };
    await ended(sitting);
    await until('all of it has ended', () => !pids.some(isRunning));
    await sandbox.mount();
    await sandbox.unmount();
  },
  ours,
);

mountTest(
  'a forced end cuts off who uses the mount',
  async (t, create) => {
    const sandbox = await create(LAYERS);
    await sandbox.mount();
    const sitting = await sitIn(t, sandbox);
    const { pids } = (await listedMount(sandbox))!;
    const run = await sandbox.program('umount', '--force', sandbox.merged);
    t.is(run.status, 0, run.stderr);
    t.deepEqual(pids.filter(isRunning), []);
    t.deepEqual(mountsAt(sandbox.merged), []);
    t.deepEqual(recordFiles(sandbox), []);
    if (sandbox.subject.backend === 'fuse') t.deepEqual(await hostCalls().list(bytes(sandbox.work)), []);
    if (sandbox.subject.backend === 'userns')
      await until('who was inside has ended', () => !isRunning(sitting.pid!));
    await sandbox.mount();
    t.is(await sandbox.calls.readFile(sandbox.path('file')), 'below\n');
    await sandbox.unmount();
  },
  ({ backend }) => backend === 'fuse' || backend === 'userns',
);

mountTest(
  'the kernel backend cannot be forced, and says what helps',
  async (t, create) => {
    const sandbox = await create(LAYERS);
    await sandbox.mount();
    await sitIn(t, sandbox);
    const run = await sandbox.program('umount', '--force', sandbox.merged);
    t.is(run.status, BUSY);
    t.regex(run.stderr, /--force does not help.*umount --lazy/);
  },
  ({ backend }) => backend === 'kernel',
);

mountTest(
  'a mount that others end leaves neither a record nor a server',
  async (t, create) => {
    const sandbox = await create(LAYERS);
    await sandbox.mount();
    const { pids } = (await listedMount(sandbox))!;
    const command = sandbox.subject.isRoot
      ? ['umount', sandbox.merged]
      : ['fusermount3', '-u', sandbox.merged];
    t.is((await sandbox.runAs(command)).status, 0);
    await until('the server has ended', () => !pids.some(isRunning));
    t.is(await listedMount(sandbox), undefined);
    t.deepEqual(recordFiles(sandbox), []);
    await sandbox.mount();
    await sandbox.unmount();
  },
  ({ backend }) => backend === 'kernel' || backend === 'fuse',
);

mountTest(
  'an upper that the kernel has mounted in another mount namespace is taken until that is gone',
  async (t, create) => {
    const sandbox = await create(LAYERS);
    await sandbox.prepare();
    const script = '"$@" && echo mounted && exec sleep 1000';
    const other = spawn('unshare', ['--mount', 'sh', '-c', script, 'sh', ...sandbox.mountCommand()], {
      env: sandbox.env,
      cwd: '/',
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    t.teardown(() => other.kill('SIGKILL'));
    await once(other.stdout, 'data');
    t.deepEqual(mountsAt(sandbox.merged), []);
    t.is((await listedMount(sandbox))?.state, 'mounted');
    const refused = await sandbox.tryMount();
    t.is(refused.status, UPPER_BUSY, refused.stderr);
    t.true(refused.stderr.includes(sandbox.merged));
    t.is((await sandbox.program('umount', sandbox.merged)).status, NOT_MOUNTED);
    await ended(other);
    await sandbox.mount();
    t.is(recordFiles(sandbox).length, 1);
    await sandbox.unmount();
  },
  ({ name }) => name === 'kernel',
);

mountTest(
  'what is not mounted is one line and no success',
  async (t, create) => {
    const sandbox = await create(LAYERS);
    for (const path of [sandbox.merged, `${sandbox.dir}/nowhere/at/all`]) {
      const run = await sandbox.program('umount', path);
      t.is(run.status, NOT_MOUNTED);
      t.is(run.stderr.trim().split('\n').length, 1);
      t.true(run.stderr.includes(path));
    }
  },
  ours,
);

mountTest(
  'a mount of something else is left alone',
  async (t, create) => {
    const sandbox = await create(LAYERS);
    await runCommand(['mount', '-t', 'tmpfs', 'none', sandbox.merged], sandbox.env);
    const run = await sandbox.program('umount', sandbox.merged);
    t.is(run.status, NOT_MOUNTED);
    t.regex(run.stderr, /type tmpfs/);
    t.deepEqual(mountsAt(sandbox.merged), ['tmpfs']);
  },
  ({ name }) => name === 'kernel',
);

mountTest(
  'a mount under another one is busy until that has ended',
  async (t, create) => {
    const sandbox = await create(LAYERS);
    await sandbox.mount();
    await runCommand(['mount', '-t', 'tmpfs', 'none', `${sandbox.merged}/directory`], sandbox.env);
    const run = await sandbox.program('umount', sandbox.merged);
    t.is(run.status, BUSY);
    t.true(run.stderr.includes(`under the mount on ${sandbox.merged}/directory`), run.stderr);
    await runCommand(['umount', `${sandbox.merged}/directory`], sandbox.env);
    t.is((await sandbox.program('umount', sandbox.merged)).status, 0);
  },
  ({ backend, isRoot }) => (backend === 'kernel' || backend === 'fuse') && isRoot,
);

mountTest(
  'several operands are ended one by one, and one that fails hinders no other',
  async (t, create) => {
    const one = await create(LAYERS);
    const two = await create(LAYERS);
    await one.mount();
    await two.mount();
    const run = await one.runAs(one.programCommand('umount', `${one.dir}/nothing`, one.merged));
    t.is(run.status, 1);
    t.is(run.stderr.trim().split('\n').length, 1);
    t.deepEqual(recordFiles(one), []);
    t.is((await listedMount(two))?.state, 'mounted');
  },
  ours,
);

mountTest(
  'all mounts of the user end together',
  async (t, create) => {
    const one = await create(LAYERS);
    await one.mount();
    const { pids } = (await listedMount(one))!;
    const run = await one.program('umount', '--all');
    t.is(run.status, 0, run.stderr);
    t.deepEqual(pids.filter(isRunning), []);
    t.is(await listedMount(one), undefined);
  },
  // Root's records are one for the machine: other tests have theirs there.
  ({ isRoot, backend }) => !isRoot && (backend === 'fuse' || backend === 'userns'),
);

mountTest(
  'places that are no text are ended too',
  async (t, create, subject) => {
    const sandbox = await create(LAYERS);
    const name = Buffer.concat([
      Buffer.from(`${sandbox.dir}/tree `),
      Buffer.from([0xff, 0x0a]),
      Buffer.from("'q\\"),
    ]);
    const script = `m=$(printf '%b.' '${[...name].map((byte) => `\\0${byte.toString(8).padStart(3, '0')}`).join('')}'); m=\${m%.}
mkdir "$m" && "$@" --backend ${subject.backend} -o lowerdir=${sandbox.lowers[0]} "$m" && "$@" umount "$m"`;
    const writable = await runCommand(['chmod', '777', sandbox.dir], sandbox.env);
    t.is(writable.status, 0);
    await sandbox.prepare();
    const run = await sandbox.runAs(['sh', '-c', script, 'sh', ...sandbox.programCommand()]);
    t.is(run.status, 0, run.stderr);
    t.false(
      (await runCommand(['cat', '/proc/self/mountinfo'], sandbox.env)).stdout.includes(
        bytes(`${sandbox.dir}/tree`),
      ),
    );
  },
  ours,
);

if (!SUBJECTS.some((subject) => ours(subject))) test('no subject of ours is tested here', (t) => t.pass());

/** A shell in a mount namespace of its own, made while the mount is there; `script` is what it does. */
async function otherNamespace(
  t: ExecutionContext,
  { subject, env, merged }: MountSandbox,
  script: string,
): Promise<ChildProcess> {
  const unshare = subject.isRoot
    ? ['unshare', '--mount']
    : ['unshare', '--user', '--map-root-user', '--mount'];
  const words = [...subject.prefix, ...unshare, 'sh', '-c', script, 'sh', merged];
  const child = spawn(words[0]!, words.slice(1), { env, cwd: '/', stdio: ['ignore', 'pipe', 'inherit'] });
  t.teardown(() => child.kill('SIGKILL'));
  await once(child.stdout!, 'data');
  return child;
}

mountTest(
  'a mount ends though another namespace has inherited it, where nobody uses it',
  async (t, create) => {
    const sandbox = await create(LAYERS);
    await sandbox.mount(['volatile']);
    await sandbox.calls.writeFile(sandbox.path('new'), 'written\n');
    await sandbox.endDrivers();
    const { pids } = (await listedMount(sandbox))!;
    await otherNamespace(t, sandbox, 'echo there; exec sleep 1000');
    const run = await sandbox.program('umount', sandbox.merged);
    t.is(run.status, 0, run.stderr);
    t.is(run.stderr, '');
    t.deepEqual(pids.filter(isRunning), []);
    t.deepEqual(recordFiles(sandbox), []);
    t.deepEqual(await hostCalls().list(bytes(sandbox.work)), [], 'nothing of the server is left');
    await sandbox.mount();
    t.is(await sandbox.calls.readFile(sandbox.path('new')), 'written\n');
    await sandbox.unmount();
  },
  ({ backend }) => backend === 'fuse',
);

mountTest(
  'a mount that is used in another namespace stays there, and it is told by whom',
  async (t, create) => {
    const sandbox = await create(LAYERS);
    await sandbox.mount();
    const { pids } = (await listedMount(sandbox))!;
    const script =
      'exec 3>>"$1/file"; echo there; read line <"$1/../store/go"; echo more >&3; exec 3>&-; exec sleep 1000';
    await runCommand([...sandbox.subject.prefix, 'mkfifo', `${sandbox.dir}/store/go`], sandbox.env);
    const other = await otherNamespace(t, sandbox, script);
    const run = await sandbox.program('umount', sandbox.merged);
    t.is(run.status, BUSY, run.stderr);
    t.regex(
      run.stderr,
      new RegExp(`another mount namespace, by process ${other.pid} \\(sh .*, open file\\)`),
    );
    t.is(run.stderr.trim().split('\n').length, 1);
    t.true(pids.every(isRunning));
    await runCommand(['sh', '-c', 'echo go > "$1"', 'sh', `${sandbox.dir}/store/go`], sandbox.env);
    await until('it has written', () => readFileSync(`${sandbox.upper}/file`, 'utf8') === 'below\nmore\n');
    await ended(other);
    await until('the server has ended', () => !pids.some(isRunning));
    await sandbox.mount();
    t.is(await sandbox.calls.readFile(sandbox.path('file')), 'below\nmore\n');
    await sandbox.unmount();
  },
  ({ backend }) => backend === 'fuse',
);

mountTest(
  'a mount that was bound elsewhere in another namespace is left to that',
  async (t, create) => {
    const sandbox = await create(LAYERS);
    await sandbox.mount();
    await runCommand([...sandbox.subject.prefix, 'mkdir', `${sandbox.dir}/store/elsewhere`], sandbox.env);
    const script = 'mount --bind "$1" "$1/../store/elsewhere" && echo there && exec sleep 1000';
    const other = await otherNamespace(t, sandbox, script);
    const { pids } = (await listedMount(sandbox))!;
    const run = await sandbox.program('umount', sandbox.merged);
    t.is(run.status, BUSY, run.stderr);
    t.regex(run.stderr, /in another mount namespace; unmount it there/);
    t.true(pids.every(isRunning));
    await ended(other);
    await until('the server has ended', () => !pids.some(isRunning));
  },
  ({ backend }) => backend === 'fuse',
);
