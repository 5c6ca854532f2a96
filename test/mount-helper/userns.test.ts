import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import test from 'ava';
import { byteCommand } from '../../src/mount-helper/system/byte-command.ts';
import { findUsernsLimits } from '../../src/mount-helper/userns-limits.ts';
import {
  decodeHolderAnswer,
  decodeHolderRequest,
  encodeHolderRequest,
} from '../../src/mount-helper/userns-protocol.ts';
import { bytes } from './helpers/driver.ts';
import { isRunning, listedMount, recordFiles, until } from './helpers/mount-list.ts';
import { type MountSandbox, mountsAt, runCommand } from './helpers/mount-sandbox.ts';
import type { Subject } from './helpers/subjects.ts';
import { mountTest } from './helpers/suite.ts';

const LAYERS = { lowers: [{ file: 'below\n', 'directory/file': 'deep\n' }] };
const isUserns = ({ backend }: Subject) => backend === 'userns';
const UNAVAILABLE = 44;
const UPPER_BUSY = 35;

const inside = (sandbox: MountSandbox, ...command: string[]) =>
  sandbox.program('exec', sandbox.merged, '--', ...command);

mountTest(
  'exec sees the merged tree, and everybody else the bare directory',
  async (t, create) => {
    const sandbox = await create(LAYERS);
    await sandbox.mount();
    t.is((await inside(sandbox, 'cat', `${sandbox.merged}/file`)).stdout, 'below\n');
    t.is((await runCommand(['ls', '-A', sandbox.merged], sandbox.env)).stdout, '');
    t.deepEqual(mountsAt(sandbox.merged), []);
    t.is((await inside(sandbox, 'sh', '-c', `echo above > '${sandbox.merged}/new'`)).status, 0);
    t.is(readFileSync(`${sandbox.upper}/new`, 'utf8'), 'above\n');
    t.is((await inside(sandbox, 'cat', `${sandbox.merged}/new`)).stdout, 'above\n');
    await sandbox.unmount();
  },
  isUserns,
);

mountTest(
  'the working directory and relative paths lead into the mount',
  async (t, create) => {
    const sandbox = await create(LAYERS);
    await sandbox.mount();
    const program = sandbox.programCommand(
      'exec',
      sandbox.merged,
      '--',
      'sh',
      '-c',
      'pwd; cat file ../merged/file',
    );
    const run = await sandbox.runAs(['sh', '-c', `cd '${sandbox.merged}' && exec "$@"`, 'sh', ...program]);
    t.is(run.stdout, `${sandbox.merged}\nbelow\nbelow\n`, run.stderr);
    await sandbox.unmount();
  },
  isUserns,
);

mountTest(
  'exec gives back the exit status, and 128 and the number of a signal through a shell',
  async (t, create) => {
    const sandbox = await create(LAYERS);
    await sandbox.mount();
    for (const status of [0, 1, 42, 255]) {
      t.is((await inside(sandbox, 'sh', '-c', `exit ${status}`)).status, status);
    }
    for (const [signal, status] of [
      ['TERM', 143],
      ['KILL', 137],
      ['PIPE', 141],
    ] as const) {
      const program = sandbox.programCommand('exec', sandbox.merged, '--', 'sh', '-c', `kill -${signal} $$`);
      const run = await sandbox.runAs(['sh', '-c', '"$@"; exit $?', 'sh', ...program]);
      t.is(run.status, status, signal);
    }
    t.is((await inside(sandbox, '/no/such/command')).status, 127);
    t.is((await inside(sandbox, '/etc/passwd')).status, 126);
    await sandbox.unmount();
  },
  isUserns,
);

mountTest(
  'arguments, input and environment of exec arrive as they are',
  async (t, create) => {
    const sandbox = await create(LAYERS);
    await sandbox.mount();
    const script = `odd=$(printf 'a\\377b \\n"$x')
export ODD="$odd"
printf 'line\\n' | "$@" sh -c 'cat; printf "<%s>" "$@" "$ODD"' name "$odd" '' '*' '-n' 'two
lines'`;
    const run = await sandbox.runAs([
      'sh',
      '-c',
      script,
      'sh',
      ...sandbox.programCommand('exec', sandbox.merged, '--'),
    ]);
    t.is(run.stdout, 'line\n<a\xffb \n"$x><><*><-n><two\nlines><a\xffb \n"$x>', run.stderr);
    await sandbox.unmount();
  },
  isUserns,
);

mountTest(
  'inside, the user is who he is, owns what he makes and has no rights more',
  async (t, create) => {
    const sandbox = await create(LAYERS);
    await sandbox.mount();
    const { uid, gid } = sandbox.subject;
    t.is((await inside(sandbox, 'sh', '-c', 'id -u; id -g')).stdout, `${uid}\n${gid}\n`);
    await inside(sandbox, 'touch', `${sandbox.merged}/mine`);
    t.is(
      (await runCommand(['stat', '-c', '%u:%g', `${sandbox.upper}/mine`], sandbox.env)).stdout,
      `${uid}:${gid}\n`,
    );
    const status = (await inside(sandbox, 'cat', '/proc/self/status')).stdout;
    t.regex(status, /^CapEff:\s+0+$/m);
    await sandbox.unmount();
  },
  (subject) => isUserns(subject) && !subject.isRoot,
);

mountTest(
  'enter starts the shell inside',
  async (t, create) => {
    const sandbox = await create(LAYERS);
    await sandbox.mount();
    const command = [...sandbox.subject.prefix, ...sandbox.programCommand('enter', sandbox.merged)];
    const run = await runCommand(
      command,
      { ...sandbox.env, SHELL: '/bin/sh' },
      `cat '${sandbox.merged}/file'; exit 7\n`,
    );
    t.is(run.stdout, 'below\n');
    t.is(run.status, 7);
    await sandbox.unmount();
  },
  isUserns,
);

mountTest(
  'the holder alone keeps the mount, and the upper from everybody else',
  async (t, create) => {
    const sandbox = await create(LAYERS);
    await sandbox.mount();
    const { pids, state } = (await listedMount(sandbox))!;
    t.is(state, 'mounted');
    t.is(pids.length, 1);
    const second = await sandbox.tryMount();
    t.is(second.status, UPPER_BUSY, second.stderr);
    t.is(recordFiles(sandbox).length, 1);
    process.kill(pids[0]!, 'SIGTERM');
    await until('the holder has ended', () => !isRunning(pids[0]!));
    t.deepEqual(recordFiles(sandbox), []);
    t.is(await listedMount(sandbox), undefined);
    await sandbox.mount();
    await sandbox.unmount();
  },
  isUserns,
);

mountTest(
  'a holder that is killed loses the mount, which repair makes again',
  async (t, create) => {
    const sandbox = await create(LAYERS);
    await sandbox.mount();
    await sandbox.calls.writeFile(sandbox.path('kept'), 'kept\n');
    await sandbox.endDrivers();
    const [holder] = (await listedMount(sandbox))!.pids;
    process.kill(holder!, 'SIGKILL');
    await until('the holder has ended', () => !isRunning(holder!));
    t.is((await listedMount(sandbox))?.state, 'lost');
    const run = await sandbox.program('repair');
    t.is(run.status, 0, run.stderr);
    t.is((await listedMount(sandbox))?.state, 'mounted');
    t.is(await sandbox.calls.readFile(sandbox.path('kept')), 'kept\n');
    await sandbox.unmount();
  },
  isUserns,
);

mountTest(
  'a mount that could not be entered is not made, and nothing is left of it',
  async (t, create) => {
    const sandbox = await create(LAYERS);
    await sandbox.prepare();
    const only = `${sandbox.dir}/bin`;
    await runCommand(['mkdir', only], sandbox.env);
    await runCommand(['ln', '-s', '/bin/false', `${only}/nsenter`], sandbox.env);
    for (const program of ['unshare', 'sh']) {
      await runCommand(['ln', '-s', `/usr/bin/${program}`, `${only}/${program}`], sandbox.env);
    }
    const env = { ...sandbox.env, PATH: `${only}:${sandbox.env.PATH}` };
    const run = await runCommand([...sandbox.subject.prefix, ...sandbox.mountCommand()], env);
    t.is(run.status, UNAVAILABLE, run.stderr);
    t.regex(run.stderr, /cannot be entered/);
    t.deepEqual(recordFiles(sandbox), []);
    const left = await runCommand(['pgrep', '-f', `userns-holder.*${sandbox.dir}`], sandbox.env);
    t.is(left.stdout, '');
    await sandbox.mount();
    await sandbox.unmount();
  },
  isUserns,
);

mountTest(
  'a probe that is killed leaves no holder behind',
  async (t, create) => {
    const sandbox = await create(LAYERS);
    const only = `${sandbox.dir}/bin`;
    await runCommand(['mkdir', only], sandbox.env);
    await runCommand(['sh', '-c', `printf '#!/bin/sh\\nexec sleep 1000\\n' > ${only}/nsenter`], sandbox.env);
    await runCommand(['chmod', '755', `${only}/nsenter`], sandbox.env);
    const env = { ...sandbox.env, PATH: `${only}:${sandbox.env.PATH}` };
    const [program, ...args] = [
      ...sandbox.subject.prefix,
      ...sandbox.programCommand('probe', '--backend', 'userns', `${sandbox.dir}/store`),
    ];
    const probe = spawn(program!, args, { env, cwd: '/', stdio: 'ignore' });
    t.teardown(() => probe.kill('SIGKILL'));
    const childrenOf = (pid: number, pattern: string) =>
      spawnSync('pgrep', ['-P', String(pid), '-f', pattern], { encoding: 'utf8' })
        .stdout.split('\n')
        .filter(Boolean)
        .map(Number);
    await until('it tries to go in', () => childrenOf(probe.pid!, 'sleep 1000').length > 0);
    const [holder] = childrenOf(probe.pid!, 'userns-holder');
    const [trying] = childrenOf(probe.pid!, 'sleep 1000');
    t.teardown(() => process.kill(trying!, 'SIGKILL'));
    t.true(isRunning(holder!));
    probe.kill('SIGKILL');
    await until('its holder has ended', () => !isRunning(holder!));
  },
  isUserns,
);

mountTest(
  'in the foreground the command stays, and a signal ends the mount in order',
  async (t, create) => {
    const sandbox = await create(LAYERS);
    await sandbox.prepare();
    const [program, ...args] = [...sandbox.subject.prefix, ...sandbox.mountCommand(['volatile'], ['-f'])];
    const command = spawn(program!, args, { env: sandbox.env, cwd: '/', stdio: 'ignore' });
    const ended = once(command, 'close');
    await until('it is mounted', async () => (await listedMount(sandbox))?.state === 'mounted');
    t.is((await inside(sandbox, 'touch', `${sandbox.merged}/new`)).status, 0);
    t.is(command.exitCode, null);
    command.kill('SIGTERM');
    t.deepEqual(await ended, [0, null]);
    t.deepEqual(recordFiles(sandbox), []);
    // A volatile mount that had not ended in order could not be mounted again.
    await sandbox.mount();
    t.true(await sandbox.calls.exists(sandbox.path('new')));
    await sandbox.unmount();
  },
  isUserns,
);

mountTest(
  'exec refuses what is not mounted',
  async (t, create) => {
    const sandbox = await create(LAYERS);
    const run = await inside(sandbox, 'true');
    t.is(run.status, 48, run.stderr);
  },
  isUserns,
);

mountTest(
  'exec of a mount that all see just runs the command',
  async (t, create) => {
    const sandbox = await create(LAYERS);
    await sandbox.mount();
    const run = await inside(sandbox, 'sh', '-c', `cat '${sandbox.merged}/file'; exit 9`);
    t.is(run.stdout, 'below\n', run.stderr);
    t.is(run.status, 9);
    await sandbox.unmount();
  },
  ({ backend }) => backend === 'kernel' || backend === 'fuse',
);

// ---- without a mount -------------------------------------------------------------------------

test('the settings that switch user namespaces off are known, with what switches them on', (t) => {
  const limits = (settings: Record<string, string>) =>
    findUsernsLimits((path) => settings[path.slice('/proc/sys/'.length)]).map(({ setting, remedy }) => [
      setting,
      remedy,
    ]);
  t.deepEqual(limits({}), []);
  t.deepEqual(limits({ 'user/max_user_namespaces': '100\n', 'kernel/unprivileged_userns_clone': '1\n' }), []);
  t.deepEqual(
    limits({ 'user/max_user_namespaces': '0\n', 'kernel/apparmor_restrict_unprivileged_userns': '1\n' }),
    [
      ['user.max_user_namespaces', 'sysctl -w user.max_user_namespaces=15000'],
      [
        'kernel.apparmor_restrict_unprivileged_userns',
        'sysctl -w kernel.apparmor_restrict_unprivileged_userns=0',
      ],
    ],
  );
});

test('a request to the holder comes back to the byte, and half an answer is none', (t) => {
  const request = {
    options: {
      lowers: [Buffer.from([0x2f, 0xff])],
      merged: Buffer.from('/m'),
      source: 's',
      backend: 'userns' as const,
      foreground: false,
      debug: false,
      readOnly: true,
      volatile: false,
      nonempty: false,
      uidMapping: [],
      gidMapping: [],
      xattrPermissions: 0 as const,
      noacl: false,
      whiteouts: 'auto' as const,
      securityContexts: [],
      flags: [],
    },
    isMergedEmpty: true,
    places: { records: '/r', runtime: '/t' },
    recordFile: '/r/x.json',
  };
  t.deepEqual(decodeHolderRequest(encodeHolderRequest(request)), request);
  t.is(decodeHolderAnswer(''), undefined);
  t.is(decodeHolderAnswer('{"ok":tr'), undefined);
  t.deepEqual(decodeHolderAnswer('{"ok":true,"dropped":[]}'), { ok: true, dropped: [] });
});

test('words that are no text reach a program to the byte', async (t) => {
  const words = [Buffer.from([0x61, 0xff, 0x0a, 0x0a]), '', "'\\$x`", Buffer.from('ü\n')];
  const { file, args } = byteCommand('printf', ['%s|', ...words]);
  t.is(file, '/bin/sh');
  const run = await runCommand([file, ...args], process.env);
  t.is(run.stdout, `a\xff\n\n||'\\$x\`|${bytes('ü')}\n|`);
  t.deepEqual(byteCommand('printf', ['a', Buffer.from('b')]), { file: 'printf', args: ['a', 'b'] });
});
