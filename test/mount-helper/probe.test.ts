import {
  chmodSync,
  chownSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { type DoctorHost, examine, formatFindings, type Patient } from '../../src/mount-helper/doctor.ts';
import type { ListedMount } from '../../src/mount-helper/list.ts';
import { openDevFuse } from './helpers/dev-fuse.ts';
import type { Run } from './helpers/driver.ts';
import { mountsAt, runCommand } from './helpers/mount-sandbox.ts';
import { killedAt, straceMissing } from './helpers/server.ts';
import { PROGRAM, type Subject, subjectNamed } from './helpers/subjects.ts';
import { onSubject } from './helpers/suite.ts';

interface Finding {
  readonly backend: string;
  readonly works: boolean;
  readonly reason?: string;
  readonly code?: string;
  readonly features?: Readonly<Record<string, boolean>>;
}

interface Probed {
  readonly directory: string;
  readonly auto: string | null;
  readonly backends: readonly Finding[];
}

function place(t: ExecutionContext, { uid, gid }: Subject): string {
  const directory = mkdtempSync(join(tmpdir(), 'git2db-probe-test-'));
  t.teardown(() => rmSync(directory, { recursive: true, force: true }));
  chownSync(directory, uid, gid);
  return directory;
}

function program(subject: Subject, directory: string, ...words: string[]): Promise<Run> {
  const env = { PATH: process.env.PATH, HOME: directory, LC_ALL: 'C.UTF-8' };
  return runCommand([...subject.prefix, process.execPath, PROGRAM, ...words], env);
}

const noFuse = ['fuse', 'fuse-user'].map((name) => subjectNamed(name as 'fuse').missing);

/** Without what FUSE alone needs: `probe` has to run where nothing works. */
const asRoot = {
  ...subjectNamed('kernel'),
  missing: subjectNamed('kernel').isRoot && process.getuid!() !== 0 ? 'needs root' : undefined,
};
const asUser = { ...subjectNamed('fuse-user'), missing: undefined };

for (const [subject, who] of [
  [asRoot, 'root'],
  [asUser, 'an ordinary user'],
] as const) {
  onSubject(
    { ...subject, name: subject.name },
    `probe tells ${who} what works, and leaves nothing behind`,
    async (t) => {
      await openDevFuse();
      const directory = place(t, subject);
      const run = await program(subject, directory, 'probe', '--json', directory);
      const probed = JSON.parse(run.stdout) as Probed;
      t.is(probed.directory, directory);
      t.deepEqual(
        probed.backends.map(({ backend }) => backend),
        ['kernel', 'fuse', 'userns'],
      );
      const found = Object.fromEntries(probed.backends.map((finding) => [finding.backend, finding]));
      for (const { works, reason, code, features } of probed.backends) {
        t.is(works, reason === undefined);
        t.is(works, code === undefined);
        t.is(works, features !== undefined);
      }
      t.is(found.kernel?.works, subject.isRoot && subjectNamed('kernel').missing === undefined);
      t.is(found.fuse?.works, noFuse[subject.isRoot ? 0 : 1] === undefined, found.fuse?.reason);
      t.is(found.userns?.works, subjectNamed('userns').missing === undefined, found.userns?.reason);
      if (found.kernel?.works)
        t.like(found.kernel.features, { renameLowerDirectories: true, temporaryFiles: true });
      if (found.userns?.works) t.like(found.userns.features, { renameLowerDirectories: false });
      if (found.fuse?.works) t.like(found.fuse.features, { renameLowerDirectories: true });
      const expected = found.kernel?.works ? 'kernel' : found.fuse?.works ? 'fuse' : null;
      t.is(probed.auto, expected);
      t.is(run.status, expected === null ? 1 : 0);
      t.deepEqual(
        readdirSync(directory).filter((name) => name.startsWith('.git2db')),
        [],
      );
      t.false(readFileSync('/proc/self/mountinfo', 'latin1').includes(directory));
    },
  );
}

onSubject(
  { ...subjectNamed('kernel'), missing: subjectNamed('kernel').missing ?? straceMissing() },
  'a probe that was killed is cleared away by the next one, with its mount',
  async (t) => {
    const directory = place(t, asRoot);
    const probe = [process.execPath, PROGRAM, 'probe', '--backend', 'kernel', directory];
    const env = { PATH: process.env.PATH, HOME: directory };
    const killed = await runCommand(killedAt('umount2:when=1', probe), env);
    t.regex(killed.stderr, /killed by SIGKILL/);
    const left = readdirSync(directory);
    t.is(left.length, 1, left.join());
    t.is(mountsAt(join(directory, left[0]!, 'merged')).length, 1);
    // Others look like it: one of a probe that may just have begun, a file, somebody's directory.
    const kept = ['.git2db-probe-young0', '.git2db-probe-file00', '.git2db-probe-notes'];
    for (const name of [kept[0]!, kept[2]!]) mkdirSync(join(directory, name));
    writeFileSync(join(directory, kept[1]!), '');
    for (const name of [left[0]!, kept[1]!, kept[2]!])
      utimesSync(join(directory, name), 1_000_000_000, 1_000_000_000);
    t.is((await runCommand(probe, env)).status, 0);
    t.deepEqual(readdirSync(directory).sort(), kept.sort());
    t.false(readFileSync('/proc/self/mountinfo', 'latin1').includes(directory));
  },
);

onSubject(asUser, 'probe names the one backend that was asked for', async (t) => {
  const directory = place(t, asUser);
  const run = await program(asUser, directory, 'probe', '--backend', 'kernel', directory);
  t.is(run.status, 1);
  t.regex(run.stdout, /no backend works/);
  t.regex(run.stdout, /kernel +no: .*root/);
  t.notRegex(run.stdout, /fuse +(yes|no)/);
});

onSubject(asUser, 'a directory that is missing or not writable is an error of its own', async (t) => {
  const directory = place(t, asUser);
  const missing = await program(asUser, directory, 'probe', `${directory}/nothing`);
  t.is(missing.status, 25);
  t.is(missing.stderr.trim().split('\n').length, 1);
  mkdirSync(join(directory, 'closed'));
  chmodSync(join(directory, 'closed'), 0o555);
  const closed = await program(asUser, directory, 'probe', join(directory, 'closed'));
  t.is(closed.status, 26);
});

// ---- the doctor ------------------------------------------------------------------------------

const HEALTHY: DoctorHost = {
  uid: 1000,
  isRoot: false,
  read: (path) =>
    ({ '/proc/filesystems': 'nodev\toverlay\n\text4\n', '/etc/fuse.conf': 'user_allow_other\n' })[path],
  modeOf: (path) =>
    path === '/usr/bin/fusermount3'
      ? { mode: 0o104755, uid: 0, isDirectory: false }
      : { mode: 0o40755, uid: 1000, isDirectory: true },
  mayUse: () => true,
  findProgram: (name) => `/usr/bin/${name}`,
  nativeModuleFault: () => undefined,
};

function faults(
  host: Partial<DoctorHost>,
  patient: Partial<Patient> = {},
  env: Patient['env'] = { XDG_RUNTIME_DIR: '/run/user/1000' },
) {
  return examine(env, {
    places: { records: '/home/u/.local/state/git2db/mounts', runtime: '/run/user/1000/git2db' },
    host: { ...HEALTHY, ...host },
    list: () => ({ mounts: [], damaged: [] }),
    ...patient,
  }).filter(({ state }) => state !== 'ok');
}

test('a healthy machine has one good finding for each thing that was looked at', (t) => {
  t.deepEqual(faults({}), []);
  const all = examine(
    { XDG_RUNTIME_DIR: '/r' },
    { places: { records: '/s', runtime: '/r' }, host: HEALTHY, list: () => ({ mounts: [], damaged: [] }) },
  );
  t.true(all.length >= 7);
  t.true(formatFindings(all).every((line) => line.startsWith('ok')));
});

const modes = (changes: Record<string, ReturnType<DoctorHost['modeOf']>>): Partial<DoctorHost> => ({
  modeOf: (path) => (path in changes ? changes[path] : HEALTHY.modeOf(path)),
});
const reads = (changes: Record<string, string | undefined>): Partial<DoctorHost> => ({
  read: (path) => (path in changes ? changes[path] : HEALTHY.read(path)),
});

const fault = test.macro({
  exec(t, host: Partial<DoctorHost>, check: string, remedy: RegExp) {
    const found = faults(host);
    t.deepEqual(
      found.map((finding) => finding.check),
      [check],
    );
    t.regex(found[0]!.remedy.join('\n'), remedy);
  },
  title: (what) => `the doctor finds ${what}, and says what mends it`,
});
test('no koffi', fault, { nativeModuleFault: () => 'does not load' }, 'koffi-missing', /^npm install koffi$/);
test('no /dev/fuse', fault, modes({ '/dev/fuse': undefined }), 'fuse-missing', /^sudo modprobe fuse$/);
test(
  'a closed /dev/fuse',
  fault,
  {
    ...modes({ '/dev/fuse': { mode: 0o20600, uid: 0, isDirectory: false } }),
    mayUse: (path) => path !== '/dev/fuse',
  },
  'fuse-forbidden',
  /^sudo chmod 0666 \/dev\/fuse$/,
);
test(
  'no fusermount3',
  fault,
  { findProgram: (name) => (name === 'fusermount3' ? undefined : name) },
  'fusermount-missing',
  /fuse3/,
);
test(
  'a fusermount3 without rights',
  fault,
  modes({ '/usr/bin/fusermount3': { mode: 0o100755, uid: 0, isDirectory: false } }),
  'fusermount-not-setuid',
  /chmod u\+s \/usr\/bin\/fusermount3/,
);
test(
  'no user_allow_other',
  fault,
  reads({ '/etc/fuse.conf': '#user_allow_other\n' }),
  'no-user-allow-other',
  /user_allow_other/,
);
test(
  'a kernel without overlayfs',
  fault,
  reads({ '/proc/filesystems': 'nodev\tproc\n' }),
  'no-overlayfs',
  /modprobe/,
);
test(
  'user namespaces that are switched off',
  fault,
  reads({ '/proc/sys/user/max_user_namespaces': '0\n' }),
  'userns-forbidden',
  /^sudo sysctl -w user\.max_user_namespaces=/,
);
test(
  'user namespaces that AppArmor restricts',
  fault,
  reads({ '/proc/sys/kernel/apparmor_restrict_unprivileged_userns': '1\n' }),
  'userns-forbidden',
  /apparmor/,
);
test(
  'no nsenter',
  fault,
  { findProgram: (name) => (name === 'nsenter' ? undefined : `/usr/bin/${name}`) },
  'util-linux-missing',
  /util-linux/,
);
test(
  'records that cannot be written',
  fault,
  { mayUse: (path) => !path.startsWith('/home/u/.local/state/git2db') },
  'records-unwritable',
  /chown 1000 \/home\/u\/\.local\/state\/git2db\/mounts/,
);

test('the doctor finds a missing XDG_RUNTIME_DIR', (t) => {
  t.deepEqual(
    faults({}, {}, {}).map(({ check }) => check),
    ['no-runtime-directory'],
  );
});

test('the doctor finds dead, lost and damaged mounts', (t) => {
  const listed = (state: ListedMount['state']): ListedMount => ({
    merged: Buffer.from("/it's"),
    backend: 'fuse',
    state,
    processes: [],
    record: {} as NonNullable<ListedMount['record']>,
  });
  const found = faults(
    {},
    {
      list: () => ({
        mounts: [listed('dead'), listed('lost'), listed('mounted')],
        damaged: [{ file: '/r/x y.json', message: 'bad' }],
      }),
    },
  );
  t.deepEqual(
    found.map(({ check, remedy }) => [check, ...remedy]),
    [
      ['mount-dead', 'git2db-mount repair'],
      ['mount-lost', 'git2db-mount repair'],
      ['record-damaged', "rm '/r/x y.json'"],
    ],
  );
});

test('the doctor runs on this machine', (t) => {
  const found = examine(process.env);
  t.true(found.length >= 7);
  for (const { state, message, remedy } of found) {
    t.true(message.length > 0);
    t.true(state === 'ok' || remedy.length > 0, message);
  }
});
