import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import {
  chmodSync,
  chownSync,
  closeSync,
  existsSync,
  fsyncSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  readSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import test, { type ExecutionContext } from 'ava';
import { startFuse } from '../../src/mount-helper/fuse/start.ts';
import { FUSE_TYPE, findMount, readMountTable } from '../../src/mount-helper/mount-table.ts';
import { byteCommand } from '../../src/mount-helper/system/byte-command.ts';
import { EBUSY } from '../../src/mount-helper/system/errno.ts';
import { UMOUNT_NOFOLLOW, umount2 } from '../../src/mount-helper/system/kernel.ts';
import { cString } from '../../src/mount-helper/system/libc.ts';
import { devFuseMissing, openDevFuse } from './helpers/dev-fuse.ts';
import {
  isRunning,
  loopbackOptions,
  loopbackStart,
  mountLoopback,
  untilGone,
} from './helpers/loopback-mount.ts';
import { isRoot, scratch } from './helpers/scratch.ts';

const noRoot = isRoot && existsSync('/dev/fuse') ? '' : ' (skipped: needs root and /dev/fuse)';
const asRoot = noRoot === '' ? test : test.skip;

/** fusermount3 insists on a user that the system knows: the one that owns nothing. */
const USER = 65_534;
const fusermount = spawnSync('fusermount3', ['--version']).error === undefined;
const noUser =
  isRoot && fusermount && devFuseMissing() === undefined
    ? ''
    : ' (skipped: needs root, fusermount3 and /dev/fuse)';
const asUser = noUser === '' ? test : test.skip;

function mounted(merged: string | Buffer) {
  return findMount(readMountTable(), Buffer.from(merged as string));
}

asRoot(`a mount answers when its server is said to be ready${noRoot}`, async (t) => {
  const { merged, lower, pid, device } = await mountLoopback(t);
  writeFileSync(join(lower, 'below'), 'content');
  t.is(readFileSync(join(merged, 'below'), 'utf8'), 'content');
  const entry = mounted(merged);
  t.is(entry?.type, FUSE_TYPE);
  t.is(entry?.device, device);
  t.is(entry?.source.toString(), 'loopback, a test');
  t.true(isRunning(pid));
});

asRoot(`bytes go through unchanged, whatever the size of the transfers${noRoot}`, async (t) => {
  const { merged, lower } = await mountLoopback(t);
  const bytes = Buffer.alloc(5_000_001, 'overlay');
  for (let i = 0; i < bytes.length; i += 4099) bytes[i] = i & 0xff;
  writeFileSync(join(merged, 'big'), bytes);
  t.true(readFileSync(join(lower, 'big')).equals(bytes));
  const fd = openSync(join(merged, 'big'), 'r+');
  t.teardown(() => closeSync(fd));
  writeSync(fd, 'changed', 1_048_570);
  bytes.write('changed', 1_048_570);
  fsyncSync(fd);
  const piece = Buffer.alloc(100);
  readSync(fd, piece, 0, 100, 1_048_540);
  t.true(piece.equals(bytes.subarray(1_048_540, 1_048_640)));
  t.true(readFileSync(join(merged, 'big')).equals(bytes));
});

asRoot(`a large directory is listed whole, with and without attributes${noRoot}`, async (t) => {
  const { merged, lower } = await mountLoopback(t);
  const names = Array.from({ length: 3000 }, (_, i) => `${i}-${'n'.repeat(i % 200)}`).sort();
  for (const name of names) writeFileSync(join(lower, name), '');
  t.deepEqual(readdirSync(merged).sort(), names);
  const listed = spawnSync('ls', ['-lU', merged], { encoding: 'utf8', maxBuffer: 1 << 24 });
  t.is(listed.stdout.trim().split('\n').length, names.length + 1);
});

asRoot(
  `a request that waits for slow work does not hold up others, and gets its answer${noRoot}`,
  async (t) => {
    const { merged, lower } = await mountLoopback(t);
    writeFileSync(join(lower, 'slow-1'), 'one');
    writeFileSync(join(lower, 'slow-2'), 'two');
    writeFileSync(join(lower, 'quick'), 'three');
    const reads = ['slow-1', 'quick', 'slow-2', 'quick', 'slow-1'].map((name) =>
      readFile(join(merged, name), 'utf8'),
    );
    t.deepEqual(await Promise.all(reads), ['one', 'three', 'two', 'three', 'one']);
  },
);

asRoot(`changes of names are seen at once${noRoot}`, async (t) => {
  const { merged, lower } = await mountLoopback(t);
  mkdirSync(join(merged, 'a'));
  writeFileSync(join(merged, 'a/file'), 'x');
  renameSync(join(merged, 'a'), join(merged, 'b'));
  t.false(existsSync(join(merged, 'a')));
  t.is(readFileSync(join(merged, 'b/file'), 'utf8'), 'x');
  rmSync(join(merged, 'b'), { recursive: true });
  t.deepEqual(readdirSync(lower), []);
});

/** Whoever only looks at a mount, as other tests do at all there are, keeps it busy for an instant. */
async function unmount(merged: string): Promise<number> {
  for (let tries = 0; ; tries++) {
    const code = umount2(cString(merged), UMOUNT_NOFOLLOW);
    if (code !== -EBUSY || tries === 500) return code;
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

asRoot(`after a plain umount neither the server nor its record remains${noRoot}`, async (t) => {
  const { merged, pid, recordFile } = await mountLoopback(t);
  t.true(existsSync(recordFile));
  t.is(await unmount(merged), 0);
  await untilGone(pid);
  t.false(existsSync(recordFile));
});

asRoot(`SIGTERM unmounts and ends the server${noRoot}`, async (t) => {
  const { merged, pid, recordFile } = await mountLoopback(t);
  process.kill(pid, 'SIGTERM');
  await untilGone(pid);
  t.is(mounted(merged), undefined);
  t.false(existsSync(recordFile));
});

asRoot(`a mount in use is served after SIGTERM until its last user ends${noRoot}`, async (t) => {
  const { merged, lower, pid } = await mountLoopback(t);
  writeFileSync(join(lower, 'file'), 'content');
  const fd = openSync(join(merged, 'file'), 'r');
  process.kill(pid, 'SIGTERM');
  for (let i = 0; i < 500 && mounted(merged) !== undefined; i++) {
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  t.is(mounted(merged), undefined);
  const bytes = Buffer.alloc(7);
  readSync(fd, bytes, 0, 7, 0);
  t.is(bytes.toString(), 'content');
  t.true(isRunning(pid));
  closeSync(fd);
  await untilGone(pid);
});

asRoot(`a second signal cuts users off${noRoot}`, async (t) => {
  const { merged, lower, pid } = await mountLoopback(t);
  writeFileSync(join(lower, 'file'), 'content');
  const fd = openSync(join(merged, 'file'), 'r');
  process.kill(pid, 'SIGTERM');
  for (let i = 0; i < 500 && mounted(merged) !== undefined; i++) {
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  process.kill(pid, 'SIGTERM');
  await untilGone(pid);
  t.throws(() => readSync(fd, Buffer.alloc(7), 0, 7, 0), { message: /ECONNABORTED|ENOTCONN|EIO/ });
  // Closing may report it once more.
  try {
    closeSync(fd);
  } catch {}
});

asRoot(`a serving thread that dies leaves no dead mount behind${noRoot}`, async (t) => {
  const program = new URL('./helpers/dying-server.js', import.meta.url);
  const { merged, pid, log } = await mountLoopback(t, {}, program);
  await t.throwsAsync(stat(join(merged, 'die')));
  await untilGone(pid);
  t.is(mounted(merged), undefined);
  t.regex(readFileSync(log, 'utf8'), /the serving thread has ended/);
});

asRoot(`what cannot be served is refused before anything is mounted${noRoot}`, async (t) => {
  const merged = scratch(t);
  const start = loopbackStart(loopbackOptions(join(merged, 'missing'), merged));
  await t.throwsAsync(startFuse(start), { message: /missing/ });
  t.is(mounted(merged), undefined);
});

asRoot(`a place that cannot be mounted on is refused by its name${noRoot}`, async (t) => {
  const directory = scratch(t);
  const start = loopbackStart(loopbackOptions(directory, join(directory, 'nowhere')));
  await t.throwsAsync(startFuse(start), {
    message: /nowhere: no such file or directory/,
    code: 'MOUNT_FAILED',
  });
});

asRoot(`a program that is no server is an error, not a wait${noRoot}`, async (t) => {
  const directory = scratch(t);
  const program = join(directory, 'not-a-server.cjs');
  writeFileSync(program, 'process.exit(7)');
  const start = loopbackStart(loopbackOptions(directory, directory), {
    program: new URL(`file://${program}`),
  });
  await t.throwsAsync(startFuse(start), { message: /exit code 7/ });
});

/** Starts a server by a program of its own, as another user or in the foreground. */
async function startElsewhere(
  t: ExecutionContext,
  lower: Buffer,
  merged: Buffer,
  { uid = 0, foreground = false } = {},
): Promise<{ child: ChildProcess; answer: { pid?: number; error?: string } }> {
  const script = fileURLToPath(new URL('./helpers/start-loopback.js', import.meta.url));
  const args = [
    script,
    lower.toString('base64'),
    merged.toString('base64'),
    ...(foreground ? ['foreground'] : []),
  ];
  const child = spawn(process.execPath, args, {
    uid,
    gid: uid,
    cwd: '/',
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const [line] = (await once(child.stdout!, 'data')) as [Buffer];
  const answer = JSON.parse(line.toString()) as { pid?: number; error?: string };
  t.teardown(() => {
    umount2(cString(merged), 2);
    return answer.pid === undefined ? undefined : untilGone(answer.pid);
  });
  return { child, answer };
}

for (const [what, name] of [
  ['', Buffer.from('merged')],
  [', also on a path that is no text', Buffer.from('m\xe9, \n"x"', 'latin1')],
] as const) {
  asUser(`an ordinary user mounts and unmounts${what}${noUser}`, async (t) => {
    await openDevFuse();
    const directory = scratch(t);
    const merged = Buffer.concat([Buffer.from(`${directory}/`), name]);
    const lower = join(directory, 'lower');
    mkdirSync(lower);
    mkdirSync(merged);
    chownSync(lower, USER, USER);
    chownSync(merged, USER, USER);
    const { answer } = await startElsewhere(t, Buffer.from(lower), merged, { uid: USER });
    t.is(answer.error, undefined);
    t.is(mounted(merged)?.type, FUSE_TYPE);
    t.is(mounted(merged)?.source.toString(), 'loopback, a test');
    const script = 'cd -- "$1" && echo content >new && cat new';
    const { file, args } = byteCommand('/bin/sh', ['-c', script, 'sh', merged]);
    const ran = spawnSync(file, [...args], { uid: USER, gid: USER, cwd: '/', encoding: 'utf8' });
    t.deepEqual([ran.stdout, ran.stderr], ['content\n', '']);
    t.is(readFileSync(join(lower, 'new'), 'utf8'), 'content\n');
    process.kill(answer.pid!, 'SIGTERM');
    await untilGone(answer.pid!);
    t.is(mounted(merged), undefined);
  });
}

asRoot(
  `in the foreground the command ends with the mount, and the mount with the command${noRoot}`,
  async (t) => {
    for (const end of ['umount', 'SIGINT', 'SIGKILL'] as const) {
      const directory = scratch(t);
      const merged = join(directory, 'merged');
      mkdirSync(merged);
      chmodSync(merged, 0o755);
      const { child, answer } = await startElsewhere(t, Buffer.from(directory), Buffer.from(merged), {
        foreground: true,
      });
      t.is(answer.error, undefined);
      t.true(statSync(merged).isDirectory());
      const exited = once(child, 'exit');
      if (end === 'umount') t.is(await unmount(merged), 0);
      else child.kill(end);
      const [code] = (await exited) as [number | null];
      t.is(code, end === 'SIGKILL' ? null : 0, end);
      await untilGone(answer.pid!);
      t.is(mounted(merged), undefined, end);
    }
  },
);
