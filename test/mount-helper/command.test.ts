/** The program git2db-mount as its callers run it: scripts, mount(8), a container engine. */
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import {
  chmodSync,
  chownSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  realpathSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import test, { type ExecutionContext } from 'ava';
import { EXIT_CODES, EXIT_OK, EXIT_USAGE } from '../../src/exit-codes.ts';
import { readCaller } from '../../src/mount-helper/caller.ts';
import { findMount, readMountTable } from '../../src/mount-helper/mount-table.ts';

const PROGRAM = fileURLToPath(new URL('../../src/mount-helper/main.js', import.meta.url));

interface Run {
  readonly cwd?: string;
  readonly uid?: number;
  readonly env?: Readonly<Record<string, string>>;
}

function run(argv: readonly string[], { cwd = '/', env = {}, uid }: Run = {}) {
  const { status, stdout, stderr } = spawnSync(process.execPath, [PROGRAM, ...argv], {
    cwd,
    env: { ...process.env, ...env },
    ...(uid === undefined ? {} : { uid, gid: uid }),
    encoding: 'utf8',
  });
  return { status, stdout, stderr };
}

// ---- what every program of the package does --------------------------------------------------

test('--version prints the version of the package', (t) => {
  const { version } = JSON.parse(readFileSync(new URL('../../../package.json', import.meta.url), 'utf8'));
  t.deepEqual(run(['--version']), { status: EXIT_OK, stdout: `${version}\n`, stderr: '' });
  t.is(run(['list', '--version']).stdout, `${version}\n`);
});

test('--help prints a manual, of the program and of each command, and does nothing else', (t) => {
  const whole = run(['--help']);
  t.is(whole.status, EXIT_OK);
  t.is(whole.stderr, '');
  t.regex(whole.stdout, /^Usage: git2db-mount \[FLAGS\] -o lowerdir=/);
  const one = run(['umount', '--help', '/nowhere']);
  t.is(one.status, EXIT_OK);
  t.regex(one.stdout, /^Usage: git2db-mount umount \[FLAGS\] MERGED/);
});

const wrongUsage = test.macro({
  exec(t, argv: readonly string[], message: RegExp) {
    const { status, stdout, stderr } = run(argv);
    t.is(status, EXIT_USAGE);
    t.is(stdout, '');
    t.regex(stderr, message);
    t.is(stderr.trimEnd().split('\n').length, 1);
  },
  title: (_, argv: readonly string[]) => `git2db-mount ${argv.join(' ')} exits with 2 and one line on stderr`,
});

test(wrongUsage, [], /^git2db-mount: expected MERGED or a command/);
test(wrongUsage, ['--colour', '/m'], /unknown option '--colour'/);
test(wrongUsage, ['/m', '-o', 'lowerdir=/,sugar'], /unknown option 'sugar'.*known are lowerdir/);
test(wrongUsage, ['umount'], /MERGED\.\.\. or --all/);
test(wrongUsage, ['completion', 'tcsh'], /expected one of bash, zsh, fish/);

test('completion scripts are sound for the shells that are here', (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'git2db-completion-'));
  t.teardown(() => rmSync(folder, { recursive: true }));
  for (const shell of ['bash', 'zsh', 'fish']) {
    const { status, stdout } = run(['completion', shell]);
    t.is(status, EXIT_OK);
    if (spawnSync(shell, ['-c', 'true']).status !== 0) continue;
    const file = join(folder, shell);
    writeFileSync(file, stdout);
    const check = spawnSync(shell, ['-n', file], { encoding: 'utf8' });
    t.is(check.stderr, '', shell);
  }
});

test('what is not mounted cannot be unmounted', (t) => {
  const { status, stderr } = run(['umount', '/']);
  t.is(status, EXIT_CODES.NOT_MOUNTED);
  t.is(stderr.trimEnd().split('\n').length, 1);
});

// ---- mounting --------------------------------------------------------------------------------

interface Sandbox {
  readonly folder: string;
  readonly layers: string;
  readonly merged: string;
}

function sandbox(t: ExecutionContext): Sandbox {
  const folder = realpathSync(mkdtempSync(join(tmpdir(), 'git2db-command-')));
  spawnSync('mount', ['-t', 'tmpfs', 'git2db-test', folder]);
  const merged = join(folder, 'merged');
  t.teardown(() => {
    spawnSync('umount', ['-l', merged], { stdio: 'ignore' });
    spawnSync('umount', ['-l', folder], { stdio: 'ignore' });
    rmSync(folder, { recursive: true, force: true });
  });
  for (const name of ['lower', 'upper', 'work', 'merged', 'bin']) mkdirSync(join(folder, name));
  writeFileSync(join(folder, 'lower/file'), 'from below');
  // mount(8) runs its helpers without PATH, so the type has to name the whole of it.
  const wrapper = `#!/bin/sh\nexec '${process.execPath}' '${PROGRAM}' "$@"\n`;
  writeFileSync(join(folder, 'bin/git2db-mount'), wrapper, { mode: 0o755 });
  const layers = `lowerdir=${folder}/lower,upperdir=${folder}/upper,workdir=${folder}/work`;
  return { folder, layers, merged };
}

const mayMount = readCaller().mayMount;
const real = mayMount ? test.serial : test.serial.skip;
const title = (text: string) => (mayMount ? text : `${text} (skipped: takes the right to mount)`);
const mountOn = (merged: string) => findMount(readMountTable(), Buffer.from(merged));

test('with --json a failure is one document, too', (t) => {
  const { merged } = sandbox(t);
  for (const words of [
    ['--json', '-o', `lowerdir=${merged}/missing`, merged],
    ['--json', '--backend', 'none', '-o', 'lowerdir=/', merged],
    ['umount', '--json'],
  ]) {
    const { status, stdout, stderr } = run(words);
    t.not(status, EXIT_OK);
    const { error } = JSON.parse(stdout) as { error: { code: string; exitCode: number; message: string } };
    t.is(error.exitCode, status ?? -1);
    t.regex(error.code, /^[A-Z_]+$/);
    t.is(stderr, `git2db-mount: ${error.message}\n`);
  }
});

real(title('mounts, lists and unmounts, with relative paths and JSON'), (t) => {
  const { folder, merged } = sandbox(t);
  const relative = 'lowerdir=lower,upperdir=upper,workdir=./work';
  const mounted = run(['--json', '--backend', 'kernel', '-o', relative, 'merged'], { cwd: folder });
  t.is(mounted.stderr, '');
  t.is(mounted.status, EXIT_OK);
  t.like(JSON.parse(mounted.stdout), { merged, backend: 'kernel', rejected: [], pid: null });
  t.is(readFileSync(join(merged, 'file'), 'utf8'), 'from below');
  const list = JSON.parse(run(['list', '--json']).stdout) as { merged: string; backend: string }[];
  t.like(
    list.find((each) => each.merged === merged),
    { backend: 'kernel', state: 'mounted' },
  );
  const twice = run(['-o', relative, 'merged'], { cwd: folder });
  t.is(twice.status, EXIT_CODES.MERGED_NOT_EMPTY);
  t.regex(twice.stderr, /mounted on it already; end that/);
  t.regex(run(['list']).stdout, new RegExp(`mounted +kernel +${merged}`));
  const ended = run(['umount', 'merged'], { cwd: folder });
  t.deepEqual(ended, { status: EXIT_OK, stdout: '', stderr: '' });
  t.is(mountOn(merged), undefined);
  t.false(run(['list', '--json']).stdout.includes(merged));
});

real(title('mount(8) mounts by the type fuse.git2db-mount, and umount(8) clears the record'), (t) => {
  const { folder, layers, merged } = sandbox(t);
  const options = `${layers},nosuid,_netdev,nofail,x-systemd.requires=x`;
  const type = `fuse.${folder}/bin/git2db-mount`;
  const mounted = spawnSync('mount', ['-t', type, 'git2db', merged, '-o', options], { encoding: 'utf8' });
  t.is(mounted.status, 0, mounted.stderr);
  t.is(mountOn(merged)?.source.toString(), 'git2db');
  t.true(mountOn(merged)?.options.includes('nosuid'));
  t.true(existsSync(join(merged, 'file')));
  t.is(spawnSync('umount', [merged]).status, 0);
  t.false(run(['list', '--json']).stdout.includes(merged));
});

real(title('mount(8) mounts what stands in /etc/fstab, with octal escapes'), (t) => {
  const { folder } = sandbox(t);
  const merged = join(folder, 'the merged');
  mkdirSync(merged);
  mkdirSync(join(folder, 'a lower'));
  writeFileSync(join(folder, 'a lower/file'), '');
  t.teardown(() => spawnSync('umount', ['-l', merged], { stdio: 'ignore' }));
  const escaped = (path: string) => path.replaceAll(' ', '\\040');
  const options = `lowerdir=${escaped(`${folder}/a lower`)},upperdir=${folder}/upper,workdir=${folder}/work,noauto`;
  const table = join(folder, 'fstab');
  writeFileSync(table, `git2db ${escaped(merged)} fuse.${folder}/bin/git2db-mount ${options} 0 0\n`);
  const mounted = spawnSync('mount', ['-T', table, merged], { encoding: 'utf8' });
  t.is(mounted.status, 0, mounted.stderr);
  t.deepEqual(readdirSync(merged), ['file']);
});

real(title('mount(8) finds it by its bare name, without PATH, where a wrapper names node'), (t) => {
  const { folder, layers, merged } = sandbox(t);
  writeFileSync(
    join(folder, 'fstab'),
    `git2db ${merged} fuse.git2db-mount ${layers},backend=kernel,nofail 0 0\n`,
  );
  // The place of the wrapper is replaced for this command alone.
  const script =
    'mount -t tmpfs tmpfs /usr/local/sbin && cp bin/git2db-mount /usr/local/sbin && mount -T fstab "$0" && ' +
    'cat "$0/file" && umount "$0"';
  const mounted = spawnSync('unshare', ['--mount', 'sh', '-c', script, merged], {
    cwd: folder,
    encoding: 'utf8',
  });
  t.like(mounted, { status: 0, stdout: 'from below', stderr: '' });
});

real(title('arguments keep their bytes, also those that are no UTF-8'), (t) => {
  const { folder } = sandbox(t);
  const place = Buffer.concat([Buffer.from(`${folder}/m`), Buffer.from([0xff, 0x0a, 0x31])]);
  const script = (command: string) =>
    `cd "$0" && m=$(printf 'm\\377\\n1') && mkdir -p "$m" && exec "$1" "$2" ${command} "$m"`;
  const inShell = (command: string) =>
    spawnSync('sh', ['-c', script(command), folder, process.execPath, PROGRAM], { encoding: 'utf8' });
  const mounted = inShell('--json -o lowerdir=lower,upperdir=upper,workdir=work');
  t.is(mounted.status, EXIT_OK, mounted.stderr);
  t.is(JSON.parse(mounted.stdout).mergedBase64, place.toString('base64'));
  t.truthy(findMount(readMountTable(), place));
  t.is(inShell('umount').status, EXIT_OK);
  t.is(findMount(readMountTable(), place), undefined);
});

real(title('a container engine mounts with its options first'), (t) => {
  const { layers, merged } = sandbox(t);
  const options = `${layers},volatile,nodev,xino=off,context="system_u:object_r:x_t:s0:c1,c2"`;
  t.is(run(['-o', options, merged]).status, EXIT_OK);
  t.true(existsSync(join(merged, 'file')));
});

const badInput = test.macro({
  exec(t, change: (sandbox: Sandbox) => readonly string[], code: number) {
    const place = sandbox(t);
    const argv = change(place);
    const before = readdirSync(place.folder, { recursive: true }).sort();
    const { status, stdout, stderr } = run(argv, { cwd: place.folder });
    t.is(status, code, stderr);
    t.is(stdout, '');
    t.is(stderr.trimEnd().split('\n').length, 1, stderr);
    t.deepEqual(readdirSync(place.folder, { recursive: true }).sort(), before, 'no litter');
    t.is(mountOn(place.merged), undefined);
  },
  title: (_, change: (sandbox: Sandbox) => readonly string[], code: number) =>
    title(`bad input exits with ${code}: ${change.toString().replace(/\s+/g, ' ').slice(0, 120)}`),
});

real(
  badInput,
  () => ['-o', 'lowerdir=nowhere,upperdir=upper,workdir=work', 'merged'],
  EXIT_CODES.DIRECTORY_MISSING,
);
real(
  badInput,
  () => ['-o', 'lowerdir=lower,upperdir=lower,workdir=work', 'merged'],
  EXIT_CODES.LAYERS_OVERLAP,
);
real(
  badInput,
  () => ['-o', 'lowerdir=lower,upperdir=upper,workdir=/dev', 'merged'],
  EXIT_CODES.WORK_ELSEWHERE,
);
real(
  badInput,
  () => ['-o', 'lowerdir=lower,upperdir=upper,workdir=lower/../bin', 'merged'],
  EXIT_CODES.WORK_NOT_EMPTY,
);
real(
  badInput,
  () => ['-o', 'lowerdir=lower,upperdir=upper,workdir=work', 'bin'],
  EXIT_CODES.MERGED_NOT_EMPTY,
);
real(
  badInput,
  ({ folder }) => {
    mkdirSync(join(folder, 'upper/in'));
    return ['-o', 'lowerdir=lower,upperdir=upper,workdir=work', 'upper/in'];
  },
  EXIT_CODES.MERGED_IN_LAYER,
);
real(
  badInput,
  ({ folder }) => {
    mkdirSync(join(folder, 'work/work/incompat/volatile'), { recursive: true });
    return ['-o', 'lowerdir=lower,upperdir=upper,workdir=work', 'merged'];
  },
  EXIT_CODES.VOLATILE_LEFTOVER,
);
real(
  badInput,
  () => ['--backend', 'kernel', '-o', 'lowerdir=lower,upperdir=upper,workdir=work,squash_to_uid=1', 'merged'],
  EXIT_CODES.BACKEND_UNAVAILABLE,
);

const NOBODY = 65534;
const asNobody = mayMount && run(['--version'], { uid: NOBODY }).status === 0;
const nobodyTitle = (text: string) => (asNobody ? text : `${text} (skipped: cannot run as another user)`);

(asNobody ? test.serial : test.serial.skip)(
  nobodyTitle('an ordinary user gets no upper whose marks it could not read, and not the kernel'),
  (t) => {
    const { folder, layers, merged } = sandbox(t);
    const user = { uid: NOBODY, env: { HOME: join(folder, 'home') } };
    mkdirSync(join(folder, 'home'));
    for (const name of ['', 'upper', 'work', 'merged', 'home']) chmodSync(join(folder, name), 0o777);
    const unstamped = run(['-o', layers, merged], user);
    t.is(unstamped.status, EXIT_CODES.UPPER_FOREIGN, unstamped.stderr);
    t.regex(unstamped.stderr, /belongs to user 0/);
    t.false(existsSync(join(folder, 'work.git2db-stamp')));
    t.is(run(['--backend', 'kernel', '-o', layers, merged]).status, EXIT_OK);
    t.is(run(['umount', merged]).status, EXIT_OK);
    const secret = run(['-o', layers, merged], user);
    t.is(secret.status, EXIT_CODES.UPPER_FOREIGN, secret.stderr);
    for (const name of ['upper', 'work', 'work/work', 'work.git2db-stamp'])
      chownSync(join(folder, name), NOBODY, NOBODY);
    const stamped = run(['-o', layers, merged], user);
    t.is(stamped.status, EXIT_CODES.UPPER_FOREIGN, stamped.stderr);
    t.regex(stamped.stderr, /trusted\.overlay/);
    for (const name of ['upper2', 'work2']) {
      mkdirSync(join(folder, name));
      chownSync(join(folder, name), NOBODY, NOBODY);
    }
    const own = `lowerdir=${folder}/lower,upperdir=${folder}/upper2,workdir=${folder}/work2`;
    const kernel = run(['--backend', 'kernel', '-o', own, merged], user);
    t.is(kernel.status, EXIT_CODES.BACKEND_UNAVAILABLE, kernel.stderr);
    t.regex(kernel.stderr, /--backend fuse/);
    t.false(existsSync(join(folder, 'work2.git2db-stamp')));
    t.deepEqual(readdirSync(join(folder, 'work2')), []);
  },
);

/** Runs the program as nobody where /dev/fuse and /etc/fuse.conf are what `change` makes of the two files. */
const fuseFault = test.macro({
  exec(
    t,
    change: string,
    options: string,
    env: Readonly<Record<string, string>>,
    code: number,
    remedy: RegExp,
  ) {
    const { folder, merged } = sandbox(t);
    for (const name of ['upper', 'work', 'merged', 'home']) {
      mkdirSync(join(folder, name), { recursive: true });
      chownSync(join(folder, name), NOBODY, NOBODY);
    }
    const script =
      'cd "$0" && : >device && : >config && chmod 0666 device && mount --bind device /dev/fuse && ' +
      `{ [ ! -e /etc/fuse.conf ] || mount --bind config /etc/fuse.conf; } && ${change} && ` +
      'exec $wrapper setpriv --reuid 65534 --regid 65534 --clear-groups env "$@"';
    const settings = Object.entries({ HOME: join(folder, 'home'), ...env }).map(
      ([key, value]) => `${key}=${value}`,
    );
    const layers = 'lowerdir=lower,upperdir=upper,workdir=work';
    const argv = ['--backend', 'fuse', '-o', `${layers}${options}`, 'merged'];
    // Slave: else it would keep mounts of other tests busy that these unmount meanwhile.
    const { status, stderr } = spawnSync(
      'unshare',
      [
        '-m',
        '--propagation',
        'slave',
        'sh',
        '-c',
        script,
        folder,
        ...settings,
        process.execPath,
        PROGRAM,
        ...argv,
      ],
      { encoding: 'utf8' },
    );
    t.is(status, code, stderr);
    t.regex(stderr, remedy);
    t.is(stderr.trimEnd().split('\n').length, 1, stderr);
    t.is(mountOn(merged), undefined);
    t.deepEqual(readdirSync(join(folder, 'work')), []);
    t.false(existsSync(join(folder, 'work.git2db-stamp')));
  },
  title: (what) => nobodyTitle(`FUSE as an ordinary user: ${what}`),
});

const asUser = asNobody ? test.serial : test.serial.skip;
asUser(
  'a device of mode 0600',
  fuseFault,
  'chmod 0600 device',
  '',
  {},
  EXIT_CODES.FUSE_FORBIDDEN,
  /chmod 0666 \/dev\/fuse/,
);
asUser(
  'no device',
  fuseFault,
  // All that is left of /dev is what Node needs.
  'mkdir dev && mount -t tmpfs none dev && for file in null zero urandom; do ' +
    ': >dev/$file && mount --bind /dev/$file dev/$file || exit; done && mount --rbind dev /dev',
  '',
  {},
  EXIT_CODES.FUSE_MISSING,
  /modprobe fuse/,
);
asUser(
  'a kernel that is too old, or says so',
  fuseFault,
  'wrapper="setarch --uname-2.6"',
  '',
  {},
  EXIT_CODES.KERNEL_TOO_OLD,
  /needs Linux 4\.20 .*another backend/,
);
asUser(
  'no fusermount3',
  fuseFault,
  'true',
  '',
  { PATH: '/nowhere' },
  EXIT_CODES.FUSERMOUNT_MISSING,
  /install .*fuse3/,
);
asUser(
  'allow_other without user_allow_other',
  fuseFault,
  'true',
  ',allow_other',
  {},
  EXIT_CODES.ALLOW_OTHER_FORBIDDEN,
  /user_allow_other/,
);

function serverOf(merged: string): number {
  const mounts = JSON.parse(run(['list', '--json']).stdout) as { merged: string; pids: number[] }[];
  return mounts.find((each) => each.merged === merged)!.pids[0]!;
}

async function untilGone(pid: number): Promise<void> {
  while (existsSync(`/proc/${pid}/exe`)) await new Promise((resolve) => setTimeout(resolve, 20));
}

const mayUseFuse = mayMount && existsSync('/dev/fuse');

(mayUseFuse ? test.serial : test.serial.skip)(
  mayUseFuse
    ? 'a FUSE mount by mount(8) ends with umount(8): no server, no record'
    : 'FUSE by mount(8) (skipped: no FUSE here)',
  async (t) => {
    const { folder, layers, merged } = sandbox(t);
    const type = `fuse.${folder}/bin/git2db-mount`;
    const argv = ['-t', type, 'tree', merged, '-o', `${layers},backend=fuse`];
    const mounted = spawnSync('mount', argv, { encoding: 'utf8' });
    t.is(mounted.status, 0, mounted.stderr);
    t.like(mountOn(merged), { type: 'fuse.git2db-mount', source: Buffer.from('tree') });
    t.is(readFileSync(join(merged, 'file'), 'utf8'), 'from below');
    const server = serverOf(merged);
    t.is(spawnSync('umount', [merged]).status, 0);
    await untilGone(server);
    t.false(run(['list', '--json']).stdout.includes(merged));
    // A killed server leaves a dead mount; the next mount takes its place.
    t.is(run(['--backend', 'fuse', '-o', layers, merged]).status, EXIT_OK);
    const second = serverOf(merged);
    process.kill(second, 'SIGKILL');
    await untilGone(second);
    t.is(run(['--backend', 'fuse', '-o', layers, merged]).status, EXIT_OK);
    t.is(readFileSync(join(merged, 'file'), 'utf8'), 'from below');
    t.deepEqual(run(['umount', merged]), { status: EXIT_OK, stdout: '', stderr: '' });
  },
);

(mayUseFuse ? test.serial : test.serial.skip)(
  mayUseFuse
    ? "as a container engine's mount program it takes FUSE, and reads whiteouts as the engine unpacks them"
    : 'a mount program (skipped: no FUSE here)',
  async (t) => {
    const { folder, merged } = sandbox(t);
    const storage = join(folder, 'overlay');
    const layers = { base: ['etc/gone', 'etc/kept', 'dir/old'], top: ['etc/.wh.gone', 'dir/.wh..wh..opq'] };
    mkdirSync(join(storage, 'l'), { recursive: true });
    for (const [layer, files] of Object.entries(layers)) {
      for (const file of files) {
        mkdirSync(join(storage, layer, 'diff', dirname(file)), { recursive: true });
        writeFileSync(join(storage, layer, 'diff', file), '');
      }
      symlinkSync(`../${layer}/diff`, join(storage, 'l', layer));
    }
    for (const name of ['diff', 'work']) mkdirSync(join(storage, 'container', name), { recursive: true });
    writeFileSync(join(storage, '.has-mount-program'), 'true');
    const options = 'lowerdir=l/top:l/base,upperdir=container/diff,workdir=container/work,,volatile';
    // The kernel would show the whiteouts as files.
    const kernel = run(['--backend', 'kernel', '-o', options, merged], { cwd: storage });
    t.is(kernel.status, EXIT_CODES.BACKEND_UNAVAILABLE);
    t.regex(kernel.stderr, /upperdir .*\/container\/diff was made .*take --backend fuse/);
    t.is(run(['-o', options, merged], { cwd: storage }).status, EXIT_OK);
    // Its type is how the engine knows that it is mounted.
    t.is(mountOn(merged)?.type, 'fuse.git2db-mount');
    t.deepEqual(readdirSync(join(merged, 'etc')), ['kept']);
    t.deepEqual(readdirSync(join(merged, 'dir')), []);
    const server = serverOf(merged);
    t.is(spawnSync('umount', [merged]).status, 0);
    await untilGone(server);
    // Without the storage's mark such names are names; with the option they are none anywhere.
    rmSync(join(storage, '.has-mount-program'));
    t.is(run(['--backend', 'fuse', '-o', options, merged], { cwd: storage }).status, EXIT_OK);
    t.deepEqual(readdirSync(join(merged, 'etc')).sort(), ['.wh.gone', 'gone', 'kept']);
    t.is(run(['umount', merged]).status, EXIT_OK);
  },
);

real(title('with -f the command stays until the mount is gone'), async (t) => {
  const { layers, merged } = sandbox(t);
  const argv = [PROGRAM, '-f', '--json', '--backend', 'kernel', '-o', layers, merged];
  const start = async () => {
    const child = spawn(process.execPath, argv, { stdio: ['ignore', 'pipe', 'inherit'] });
    await once(child.stdout, 'data');
    t.truthy(mountOn(merged));
    return child;
  };
  const first = await start();
  spawnSync('umount', [merged]);
  t.deepEqual(await once(first, 'exit'), [EXIT_OK, null]);
  const second = await start();
  second.kill('SIGTERM');
  t.deepEqual(await once(second, 'exit'), [EXIT_OK, null]);
  t.is(mountOn(merged), undefined);
  t.false(run(['list', '--json']).stdout.includes(merged));
});

real(title('exec runs a command with the exit status it has'), (t) => {
  const { layers, merged } = sandbox(t);
  t.is(run(['-o', layers, merged]).status, EXIT_OK);
  const inside = run(['exec', merged, '--', 'sh', '-c', `cat ${merged}/file; exit 9`]);
  t.deepEqual(inside, { status: 9, stdout: 'from below', stderr: '' });
  t.is(run(['exec', merged, '--', 'no-such-command']).status, 127);
});
