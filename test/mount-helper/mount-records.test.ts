import { spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  existsSync,
  lstatSync,
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
import fc from 'fast-check';
import { listMounts } from '../../src/mount-helper/list.ts';
import { DEFAULT_OPTIONS, type MountOptions } from '../../src/mount-helper/mount-options.ts';
import {
  findLitter,
  type MountRecord,
  mountedRecord,
  newRecord,
  readRecords,
  recordFile,
  removeRecord,
  writeRecord,
} from '../../src/mount-helper/mount-records.ts';
import { assess, type HostView, type MountState } from '../../src/mount-helper/mount-state.ts';
import { parseMountTable } from '../../src/mount-helper/mount-table.ts';
import { identifyProcess, isAlive, type NamespaceSight } from '../../src/mount-helper/process-identity.ts';
import {
  decodeOptions,
  decodeRecord,
  encodeOptions,
  encodeRecord,
} from '../../src/mount-helper/record-format.ts';
import { type RecordPlaces, recordPlaces } from '../../src/mount-helper/record-places.ts';
import { findUpperUse, upperInUse } from '../../src/mount-helper/upper-use.ts';
import { pythonProgram } from './helpers/driver.ts';
import { until } from './helpers/mount-list.ts';

const OPTIONS: MountOptions = {
  lowers: [Buffer.from('/low')],
  upper: Buffer.from('/up'),
  work: Buffer.from('/work'),
  merged: Buffer.from('/merged'),
  ...DEFAULT_OPTIONS,
};

const RECORD: MountRecord = {
  id: '0123456789abcdef',
  options: OPTIONS,
  backend: 'kernel',
  phase: 'mounted',
  bootId: 'boot',
  mountNamespace: '100',
  pidNamespace: '10',
  device: '0:50',
  upperIdentity: '1:2',
  since: 1000,
};

function places(t: ExecutionContext): RecordPlaces {
  const directory = mkdtempSync(join(tmpdir(), 'git2db-records-'));
  t.teardown(() => rmSync(directory, { recursive: true, force: true }));
  return { records: join(directory, 'state/git2db/mounts'), runtime: join(directory, 'run') };
}

// ---- the text --------------------------------------------------------------------------------

const anyPath = fc
  .uint8Array({ minLength: 0, maxLength: 40 })
  .map((bytes) => Buffer.concat([Buffer.from('/'), bytes.map((byte) => byte || 1)]));
const anyId = fc.integer({ min: 0, max: 0xfffffffe });
const anyRange = fc.record({ inside: anyId, outside: anyId, count: anyId });
const anyOptions = fc.record(
  {
    lowers: fc.array(anyPath, { minLength: 1, maxLength: 4 }),
    upper: anyPath,
    work: anyPath,
    merged: anyPath,
    source: fc.string(),
    backend: fc.constantFrom('auto', 'kernel', 'userns', 'fuse'),
    foreground: fc.boolean(),
    debug: fc.boolean(),
    readOnly: fc.boolean(),
    volatile: fc.boolean(),
    nonempty: fc.boolean(),
    squashToUid: anyId,
    squashToGid: anyId,
    uidMapping: fc.array(anyRange, { maxLength: 2 }),
    gidMapping: fc.array(anyRange, { maxLength: 2 }),
    allowOther: fc.boolean(),
    defaultPermissions: fc.boolean(),
    xattrPermissions: fc.constantFrom(0, 1, 2),
    noacl: fc.boolean(),
    timeoutMs: fc.constantFrom(0, 1000, 1.5),
    whiteouts: fc.constantFrom('auto', 'kernel', 'all'),
    passthrough: fc.constantFrom('auto', 'on', 'off'),
    index: fc.boolean(),
    metacopy: fc.boolean(),
    redirectDir: fc.constantFrom('on', 'off', 'follow', 'nofollow'),
    xino: fc.constantFrom('on', 'off', 'auto'),
    namespace: fc.constantFrom('trusted', 'user'),
    securityContexts: fc.array(fc.uint8Array({ maxLength: 9 }).map((bytes) => Buffer.from(bytes))),
    flags: fc.subarray(['nosuid', 'nodev', 'noexec', 'noatime'] as const),
  },
  {
    requiredKeys: [
      ...(['lowers', 'merged', 'source', 'backend', 'foreground', 'debug', 'readOnly', 'volatile'] as const),
      ...(['nonempty', 'uidMapping', 'gidMapping', 'xattrPermissions', 'noacl', 'whiteouts'] as const),
      ...(['securityContexts', 'flags'] as const),
    ],
  },
) as fc.Arbitrary<MountOptions>;

test('any options come back from their text, to the byte', (t) => {
  fc.assert(
    fc.property(anyOptions, (options) => {
      t.deepEqual(decodeOptions(encodeOptions(options)), options);
      const record = { ...RECORD, options };
      t.deepEqual(decodeRecord(Buffer.from(encodeRecord(record)), RECORD.id), record);
    }),
    { numRuns: 300 },
  );
});

test('a path in UTF-8 can be read by people, any other is exact all the same', (t) => {
  const text = encodeOptions({
    ...OPTIONS,
    merged: Buffer.from('/bäume'),
    lowers: [Buffer.from([0x2f, 0xff])],
  });
  t.true(text.includes('{"text":"/bäume"}'));
  t.true(text.includes('{"base64":"L/8="}'));
});

const refused = test.macro({
  exec(t, change: (document: Record<string, unknown>) => unknown, message: RegExp) {
    const document = JSON.parse(encodeRecord(RECORD)) as Record<string, unknown>;
    const text = Buffer.from(JSON.stringify(change(document)));
    const error = t.throws(() => decodeRecord(text, RECORD.id), { code: 'INVALID_RECORD' });
    t.regex(error!.message, message);
  },
  title: (what) => `a record with ${what} is refused, naming it`,
});
const without = (name: string) => (document: Record<string, unknown>) =>
  Object.fromEntries(Object.entries(document).filter(([key]) => key !== name));
const withOptions = (change: object) => (document: Record<string, unknown>) => ({
  ...document,
  options: { ...(document.options as object), ...change },
});
test('another version', refused, (document) => ({ ...document, version: 2 }), /expected version 1, found 2/);
test(
  'the id of another file',
  refused,
  (document) => ({ ...document, id: '0'.repeat(16) }),
  /expected id 0123/,
);
test('no backend', refused, without('backend'), /'backend' cannot be nothing/);
test(
  'a pid in words',
  refused,
  (document) => ({ ...document, process: { pid: 'x', startTime: '1' } }),
  /'process'/,
);
test('a relative path', refused, withOptions({ merged: { text: 'merged' } }), /'merged'/);
test('a path with a NUL', refused, withOptions({ merged: { text: '/a\0b' } }), /'merged'/);
test('no lower at all', refused, withOptions({ lowers: [] }), /'lowers'/);
test('a list for a document', refused, () => [], /version/);
test('null for a document', refused, () => null, /version/);

test('damaged or cut off text is a typed error, wherever the damage is', (t) => {
  const text = Buffer.from(encodeRecord(RECORD));
  for (let length = 0; length < text.length - 2; length += 7) {
    t.throws(() => decodeRecord(text.subarray(0, length), RECORD.id), { code: 'INVALID_RECORD' });
  }
});

test('what a newer writer added is left out', (t) => {
  const document = { ...JSON.parse(encodeRecord(RECORD)), novelty: 1 };
  t.deepEqual(decodeRecord(Buffer.from(JSON.stringify(document)), RECORD.id), RECORD);
});

// ---- the files -------------------------------------------------------------------------------

test('a record is private, whole and alone in its directory', (t) => {
  const at = places(t);
  writeRecord(at, RECORD);
  writeRecord(at, { ...RECORD, phase: 'lost' });
  t.deepEqual(readdirSync(at.records), [`${RECORD.id}.json`]);
  t.is(lstatSync(recordFile(at, RECORD.id)).mode & 0o777, 0o600);
  t.is(lstatSync(at.records).mode & 0o777, 0o700);
  t.deepEqual(readRecords(at), { records: [{ ...RECORD, phase: 'lost' }], damaged: [] });
  removeRecord(at, RECORD.id);
  removeRecord(at, RECORD.id);
  t.deepEqual(readRecords(at).records, []);
});

test('a directory that others could look into is closed', (t) => {
  const at = places(t);
  mkdirSync(at.records, { recursive: true, mode: 0o755 });
  writeRecord(at, RECORD);
  t.is(lstatSync(at.records).mode & 0o777, 0o700);
});

test('no directory means no records, and a damaged file hides none of the others', (t) => {
  const at = places(t);
  t.deepEqual(readRecords(at), { records: [], damaged: [] });
  const later = { ...RECORD, id: 'f'.repeat(16), since: 2000 };
  writeRecord(at, later);
  writeRecord(at, RECORD);
  writeFileSync(join(at.records, 'bad.json'), '{');
  const { records, damaged } = readRecords(at);
  t.deepEqual(records, [RECORD, later]);
  t.deepEqual(
    damaged.map(({ file }) => file),
    [join(at.records, 'bad.json')],
  );
  t.true(readFileSync(join(at.records, 'bad.json')).length > 0);
});

test('what a crashed writer has left is litter after a while, and no record before', (t) => {
  const at = places(t);
  writeRecord(at, RECORD);
  const file = join(at.records, `.new-1-${RECORD.id}`);
  writeFileSync(file, 'x');
  t.deepEqual(findLitter(at), []);
  utimesSync(file, 1, 1);
  t.deepEqual(findLitter(at), [file]);
  t.is(readRecords(at).records.length, 1);
  findLitter(at, { remove: true });
  t.deepEqual(readdirSync(at.records), [`${RECORD.id}.json`]);
});

test('the next mount sweeps what crashed writers have left, and not what is being written', (t) => {
  const at = places(t);
  writeRecord(at, RECORD);
  const [old, young] = ['.new-1-old', '.new-1-young'].map((name) => join(at.records, name)) as [
    string,
    string,
  ];
  for (const file of [old, young]) writeFileSync(file, 'x');
  utimesSync(old, 1, 1);
  writeRecord(at, { ...RECORD, id: 'f'.repeat(16), phase: 'mounting' });
  t.false(existsSync(old));
  t.true(existsSync(young));
});

test('a place that cannot be written is an error that names it', (t) => {
  const at = places(t);
  mkdirSync(join(at.records, '../..'), { recursive: true });
  writeFileSync(join(at.records, '..'), 'a file');
  const error = t.throws(() => writeRecord(at, RECORD), { code: 'STORE_UNWRITABLE' });
  t.true(error!.message.includes(at.records));
});

test('a new record names its mounter, and the finished one its server', (t) => {
  const planned = newRecord({ ...OPTIONS, upper: Buffer.from(tmpdir()) }, 'fuse');
  t.is(planned.phase, 'mounting');
  t.is(planned.process?.pid, process.pid);
  t.regex(planned.upperIdentity!, /^\d+:\d+$/);
  t.not(newRecord(OPTIONS, 'fuse').id, planned.id);
  const mounted = mountedRecord(planned, process.ppid);
  t.is(mounted.phase, 'mounted');
  t.is(mounted.process?.pid, process.ppid);
  t.is(mountedRecord(planned).process, undefined);
});

/** The first thread ends by exit(2), which is 60 on x86-64 and 93 on arm64; the other one stays. */
const LEADERLESS = `import ctypes, platform, threading, time
threading.Thread(target=time.sleep, args=(1000,)).start()
print('started', flush=True)
ctypes.CDLL(None).syscall(60 if platform.machine() == 'x86_64' else 93, 0)`;

test('a process whose first thread has ended lives as long as the others: it still holds its locks', async (t) => {
  const child = spawn(pythonProgram(), ['-c', LEADERLESS], { stdio: ['ignore', 'pipe', 'inherit'] });
  t.teardown(() => child.kill('SIGKILL'));
  await once(child.stdout, 'data');
  const state = () => readFileSync(`/proc/${child.pid}/stat`, 'latin1').split(' ')[2];
  await until('the first thread has ended', () => state() === 'Z');
  t.not(identifyProcess(child.pid!), undefined);
  child.kill('SIGKILL');
  await once(child, 'exit');
  t.is(identifyProcess(child.pid!), undefined);
});

test('another process with the same number is another process', (t) => {
  const self = identifyProcess(process.pid)!;
  t.true(isAlive(self));
  t.false(isAlive({ ...self, startTime: '1' }));
  t.is(identifyProcess(0x3fffffff), undefined);
});

// ---- where they are --------------------------------------------------------------------------

const asOrdinary = process.geteuid!() === 0 ? test.skip : test;
const reason = process.geteuid!() === 0 ? ' (skipped: root has places of its own)' : '';
asOrdinary(`the variables of XDG say where, unless they are relative${reason}`, (t) => {
  const given = recordPlaces({ HOME: '/h', XDG_STATE_HOME: '/s', XDG_RUNTIME_DIR: 'relative' });
  t.deepEqual(given, { records: '/s/git2db/mounts', runtime: '/s/git2db/run' });
  t.is(recordPlaces({ HOME: '/h', XDG_STATE_HOME: 's' }).records, '/h/.local/state/git2db/mounts');
});

// ---- what they mean --------------------------------------------------------------------------

interface World {
  readonly bootId?: string;
  readonly table?: string;
  readonly alive?: readonly number[];
  readonly answers?: boolean;
  readonly mountNamespace?: string;
  readonly pidNamespace?: string;
  /** Of any upper, or of some. */
  readonly inKernel?: boolean | ((upper: string) => boolean | undefined);
  /** Of the namespace that is looked for. */
  readonly sight?: NamespaceSight;
  readonly otherTable?: string;
}

const KERNEL = '50 1 0:50 / /merged rw - overlay git2db-mount rw,lowerdir=/low,upperdir=/up,workdir=/work\n';
const FUSE = '50 1 0:50 / /merged rw - fuse.git2db-mount git2db-mount rw\n';
const SERVER = { pid: 77, startTime: '5' };

function world(of: World): HostView {
  const table = (text = '') => parseMountTable(Buffer.from(text));
  return {
    bootId: of.bootId ?? 'boot',
    namespaces: { mount: of.mountNamespace ?? '100', pid: of.pidNamespace ?? '10' },
    table: table(of.table),
    tableOf: () => (of.otherTable === undefined ? undefined : table(of.otherTable)),
    isAlive: ({ pid }) => of.alive?.includes(pid) ?? false,
    findMountNamespace: () => of.sight ?? { seen: 'unsure' },
    isUpperInKernel: (upper) =>
      typeof of.inKernel === 'function' ? of.inKernel(upper.toString()) : of.inKernel,
    answers: () => of.answers ?? false,
  };
}

const means = test.macro({
  exec(t, change: Partial<MountRecord>, of: World, state: MountState) {
    t.is(assess({ ...RECORD, ...change }, world(of)).state, state);
  },
  title: (title) => title ?? '',
});
const fuse = { backend: 'fuse', process: SERVER } as const;
const userns = { backend: 'userns', process: SERVER, mountNamespace: '200' } as const;
const seen: NamespaceSight = { seen: 'alive', pid: 9 };

test('a kernel mount in the table is mounted', means, {}, { table: KERNEL }, 'mounted');
test('a kernel mount that is not in the table was unmounted', means, {}, {}, 'ended');
test('another overlay in its place is not it', means, { device: '0:51' }, { table: KERNEL }, 'ended');
test('a mount of another boot is lost', means, {}, { bootId: 'next', table: KERNEL }, 'lost');
test(
  'a mount that was never made before the reboot has ended',
  means,
  { phase: 'mounting' },
  { bootId: 'next' },
  'ended',
);
test(
  'a command that lives is mounting',
  means,
  { phase: 'mounting', process: SERVER },
  { alive: [77] },
  'mounting',
);
test(
  'a dead command that had not mounted left a record only',
  means,
  { phase: 'mounting', process: SERVER },
  {},
  'ended',
);
const { device: _, ...unfinished } = RECORD;
test(
  'a command that died after mounting has mounted',
  means,
  { ...unfinished, phase: 'mounting' },
  { table: KERNEL },
  'mounted',
);
test(
  'a kernel mount of a namespace that is seen is looked up there',
  means,
  {},
  { mountNamespace: '300', sight: seen, otherTable: KERNEL },
  'mounted',
);
test(
  'and is gone when it is not there',
  means,
  {},
  { mountNamespace: '300', sight: seen, otherTable: '' },
  'ended',
);
test(
  'a kernel mount goes with its namespace',
  means,
  {},
  { mountNamespace: '300', sight: { seen: 'gone' } },
  'ended',
);
test('a namespace that is not seen is not guessed at', means, {}, { mountNamespace: '300' }, 'unsure');
test('nor one whose table may not be read', means, {}, { mountNamespace: '300', sight: seen }, 'unsure');
test('a FUSE mount with its server is mounted', means, fuse, { table: FUSE, alive: [77] }, 'mounted');
test('a FUSE mount without its server is dead', means, fuse, { table: FUSE }, 'dead');
test(
  'a FUSE mount whose server is not known and answers is mounted',
  means,
  { ...fuse, phase: 'mounting' },
  { table: FUSE, answers: true },
  'mounted',
);
test(
  'what the cache answers does not make up for a server that is gone',
  means,
  fuse,
  { table: FUSE, answers: true },
  'dead',
);
test('a FUSE mount out of the table and without its server has ended', means, fuse, {}, 'ended');
test('a server that outlives its mount is waited for', means, fuse, { alive: [77] }, 'detached');
test(
  'a FUSE server of another mount namespace counts while it lives',
  means,
  fuse,
  { mountNamespace: '300', alive: [77] },
  'mounted',
);
test('and has ended with its process', means, fuse, { mountNamespace: '300' }, 'ended');
test(
  'a server of another PID namespace is believed to live',
  means,
  fuse,
  { mountNamespace: '300', pidNamespace: '11' },
  'mounted',
);
test(
  'a userns mount with its holder is mounted',
  means,
  userns,
  { sight: seen, otherTable: KERNEL, alive: [77] },
  'mounted',
);
test(
  'a userns mount without its holder is kept by those inside',
  means,
  userns,
  { sight: seen, otherTable: KERNEL },
  'detached',
);
test(
  'a userns mount that somebody inside has unmounted has ended',
  means,
  userns,
  { sight: seen, otherTable: '', alive: [77] },
  'ended',
);
test('a userns mount is lost with the last process of its namespace', means, userns, {}, 'lost');
test('in another PID namespace its processes are not seen', means, userns, { pidNamespace: '11' }, 'unsure');
test(
  'a detached mount lasts as long as its users',
  means,
  { phase: 'detached', users: [SERVER] },
  { alive: [77] },
  'detached',
);
test('and no longer', means, { phase: 'detached', users: [SERVER] }, {}, 'ended');

test('listing forgets what was unmounted by others, and keeps what is to be mounted again', (t) => {
  const at = places(t);
  const lost = {
    ...RECORD,
    id: 'a'.repeat(16),
    bootId: 'before',
    options: { ...OPTIONS, merged: Buffer.from('/other') },
  };
  writeRecord(at, RECORD);
  writeRecord(at, lost);
  const shown = (options: Parameters<typeof listMounts>[1]) =>
    listMounts(at, { host: world({}), ...options }).mounts.map(({ state, record }) => [record?.id, state]);
  t.deepEqual(shown({ ended: 'list' }), [
    [RECORD.id, 'ended'],
    [lost.id, 'lost'],
  ]);
  t.deepEqual(shown({ ended: 'keep' }), [[lost.id, 'lost']]);
  t.is(readRecords(at).records.length, 2);
  t.deepEqual(shown({}), [[lost.id, 'lost']]);
  t.deepEqual(readRecords(at).records, [lost]);
});

test('a lost mount that was made again under another record is forgotten', (t) => {
  const at = places(t);
  writeRecord(at, { ...RECORD, id: 'a'.repeat(16), bootId: 'before' });
  writeRecord(at, RECORD);
  const { mounts } = listMounts(at, { host: world({ table: KERNEL }) });
  t.deepEqual(
    mounts.map(({ state }) => state),
    ['mounted'],
  );
  t.deepEqual(readRecords(at).records, [RECORD]);
});

test('mounts of ours without a record are listed, and those of others are not', (t) => {
  const table = `${KERNEL}60 1 0:60 / /docker rw - overlay overlay rw\n70 1 0:70 / /f rw - fuse.git2db-mount x rw\n`;
  const { mounts } = listMounts(places(t), { host: world({ table }) });
  t.deepEqual(
    mounts.map(({ merged, backend, state }) => [merged.toString(), backend, state]),
    [
      ['/f', 'fuse', 'dead'],
      ['/merged', 'kernel', 'mounted'],
    ],
  );
});

// ---- one upper, one mount --------------------------------------------------------------------

const use = (
  t: ExecutionContext,
  record: MountRecord | undefined,
  of: World,
  upper = '/up',
  except?: string,
) => {
  const at = places(t);
  if (record !== undefined) writeRecord(at, record);
  const host = world(of);
  return findUpperUse(at, Buffer.from(upper), except === undefined ? { host } : { host, except });
};

test('an upper is in use by a recorded mount, by path or by identity', (t) => {
  t.is(use(t, RECORD, { table: KERNEL })?.certainty, 'in use');
  const elsewhere = { ...RECORD, options: { ...OPTIONS, upper: Buffer.from('/another/path') } };
  t.is(use(t, elsewhere, {}, '/up'), undefined);
  const { upperIdentity } = newRecord({ ...OPTIONS, upper: Buffer.from(tmpdir()) }, 'kernel');
  t.is(
    use(t, { ...elsewhere, upperIdentity: upperIdentity! }, { table: KERNEL }, tmpdir())?.certainty,
    'in use',
  );
});

test('an upper is in use by a mount that nobody has recorded', (t) => {
  const found = use(t, undefined, { table: KERNEL });
  t.is(found?.merged.toString(), '/merged');
  t.regex(
    upperInUse(Buffer.from('/up'), found!).message,
    /in use by the mount on \/merged;.*: umount \/merged/,
  );
});

test('an upper of a namespace that cannot be seen is refused, with the way out', (t) => {
  const found = use(t, RECORD, { mountNamespace: '300' });
  t.is(found?.certainty, 'unsure');
  const error = upperInUse(Buffer.from('/up'), found!);
  t.is(error.code, 'UPPER_BUSY');
  t.regex(error.message, /mount namespace 100.*git2db-mount umount --force \/merged/);
});

test('the kernel decides about a namespace that cannot be seen, and about detached mounts', (t) => {
  const elsewhere = { mountNamespace: '300' };
  t.is(use(t, RECORD, { ...elsewhere, inKernel: true })?.certainty, 'in use');
  t.is(use(t, RECORD, { ...elsewhere, inKernel: false }), undefined);
  const detached = { ...RECORD, phase: 'detached', users: [SERVER] } as const;
  t.is(assess(detached, world({ alive: [], inKernel: true })).state, 'detached');
  t.is(assess(detached, world({ alive: [77], inKernel: false })).state, 'ended');
});

test('the kernel is asked about a directory that a record knows by another path', (t) => {
  const { upperIdentity } = newRecord({ ...OPTIONS, upper: Buffer.from(tmpdir()) }, 'kernel');
  const record = { ...RECORD, upperIdentity: upperIdentity! };
  const here = (answer: boolean | undefined): World => ({
    mountNamespace: '300',
    inKernel: (upper) => (upper === tmpdir() ? answer : undefined),
  });
  t.is(use(t, record, here(false), tmpdir()), undefined);
  t.is(use(t, record, here(true), tmpdir())?.certainty, 'in use');
  t.is(use(t, record, here(undefined), tmpdir())?.certainty, 'unsure');
});

test('an upper is free when its mount has ended, is lost or dead, or is the caller himself', (t) => {
  t.is(use(t, RECORD, {}), undefined);
  t.is(use(t, RECORD, { bootId: 'next' }), undefined);
  t.is(use(t, { ...RECORD, ...fuse }, { table: FUSE }), undefined);
  t.is(use(t, { ...RECORD, ...fuse }, { alive: [77] }, '/up', RECORD.id), undefined);
  t.is(use(t, { ...RECORD, ...fuse }, { table: FUSE, alive: [77] })?.certainty, 'in use');
});
