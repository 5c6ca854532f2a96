import { spawnSync } from 'node:child_process';
import {
  chmodSync,
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import fc from 'fast-check';
import type { Caller } from '../../src/mount-helper/caller.ts';
import { decodeStamp, encodeStamp, type Stamp, stampPlaces } from '../../src/mount-helper/overlay/stamp.ts';
import { adoptHold, findStamp, holdUpper } from '../../src/mount-helper/overlay/upper-hold.ts';
import { openWorkDirectory } from '../../src/mount-helper/overlay/work-directory.ts';
import { chooseNamespace, type UpperSigns } from '../../src/mount-helper/overlay/xattr-namespace.ts';
import { Git2dbError } from '../../src/xet/errors.ts';

const STAMP: Stamp = { namespace: 'user', owner: 1000, mknodFailed: false, redirectsUsed: false };

function layers(t: ExecutionContext) {
  const folder = mkdtempSync(join(tmpdir(), 'git2db-stamp-'));
  t.teardown(() => {
    chmodSync(folder, 0o755);
    rmSync(folder, { recursive: true, force: true });
  });
  const paths = { folder, upper: join(folder, 'upper'), work: join(folder, 'work') };
  mkdirSync(paths.upper);
  mkdirSync(paths.work);
  return { ...paths, upperBytes: Buffer.from(paths.upper), workBytes: Buffer.from(paths.work) };
}

const codeOf = (error: unknown) => (error as Git2dbError | undefined)?.code;

test('a stamp comes back from its bytes', (t) => {
  const stamp = fc.record({
    namespace: fc.constantFrom('trusted' as const, 'user' as const),
    owner: fc.nat(),
    mknodFailed: fc.boolean(),
    redirectsUsed: fc.boolean(),
  });
  fc.assert(fc.property(stamp, (each) => t.deepEqual(decodeStamp(encodeStamp(each), 'x'), each)));
  t.is(
    encodeStamp(STAMP).toString(),
    '{"format":1,"namespace":"user","owner":1000,"mknodFailed":false,"redirectsUsed":false}\n',
  );
});

const broken = test.macro({
  exec(t, text: string, found: RegExp) {
    const error = t.throws(() => decodeStamp(Buffer.from(text), '/s'), {
      instanceOf: Git2dbError,
      message: found,
    });
    t.is(codeOf(error), 'INVALID_STAMP');
  },
  title: (_, text: string) => `a stamp with ${JSON.stringify(text.slice(0, 60))} is refused`,
});

test(broken, '', /no JSON/);
test(broken, 'null', /no JSON object/);
test(broken, '{"format":2}', /format 2/);
test(broken, '{"format":1,"namespace":"root"}', /namespace "root"/);
test(broken, '{"format":1,"namespace":"user","owner":-1}', /owner -1/);
test(
  broken,
  '{"format":1,"namespace":"user","owner":1,"mknodFailed":0,"redirectsUsed":false}',
  /true nor false/,
);
test(broken, '{"format":1,"namespace":"user","owner":1,"extra":0}', /unknown key 'extra'/);
test(broken, `{"format":1${' '.repeat(1024)}}`, /at most 1024 bytes/);

test('the stamp is made beside work, is found again, and nothing else is left there', (t) => {
  const { folder, work, upperBytes, workBytes } = layers(t);
  t.is(findStamp(workBytes), undefined);
  holdUpper(upperBytes, workBytes, () => STAMP).release();
  t.deepEqual(readdirSync(folder).sort(), ['upper', 'work', 'work.git2db-stamp']);
  t.deepEqual(readdirSync(work), []);
  t.deepEqual(findStamp(workBytes), STAMP);
  t.is(lstatSync(`${work}.git2db-stamp`).mode & 0o777, 0o600);
});

test('where the name would be too long the stamp lies in the work directory', (t) => {
  const { folder } = layers(t);
  const work = Buffer.from(join(folder, 'w'.repeat(250)));
  t.deepEqual(stampPlaces(work).map(String), [`${work}/git2db-stamp`]);
  t.is(stampPlaces(Buffer.from('/a/w')).length, 2);
});

test('a stamp in the work directory is written without any other name there, over what a crash has left', (t) => {
  const { folder, upperBytes } = layers(t);
  const work = Buffer.from(join(folder, 'w'.repeat(250)));
  mkdirSync(join(work.toString(), 'git2db'), { recursive: true });
  writeFileSync(join(work.toString(), 'git2db/stamp.000000000000'), '{"for');
  const hold = holdUpper(upperBytes, work, () => STAMP);
  hold.update({ redirectsUsed: true });
  hold.release();
  t.deepEqual(readdirSync(work).map(String).sort(), ['git2db', 'git2db-stamp']);
  t.deepEqual(findStamp(work), { ...STAMP, redirectsUsed: true });
  t.deepEqual(readdirSync(folder).sort(), ['upper', 'work', 'w'.repeat(250)].sort());
  openWorkDirectory(work).close();
  t.deepEqual(readdirSync(work).map(String), ['git2db-stamp']);
});

test('a held upper is refused to others, by its stamp and by itself', (t) => {
  const { folder, upperBytes, workBytes } = layers(t);
  const hold = holdUpper(upperBytes, workBytes, () => STAMP);
  t.is(codeOf(t.throws(() => holdUpper(upperBytes, workBytes, () => STAMP))), 'UPPER_BUSY');
  mkdirSync(join(folder, 'work2'));
  const other = Buffer.from(join(folder, 'work2'));
  t.is(codeOf(t.throws(() => holdUpper(upperBytes, other, () => STAMP))), 'UPPER_BUSY');
  t.false(existsSync(join(folder, 'work2.git2db-stamp')));
  mkdirSync(join(folder, 'upper2'));
  const upper2 = Buffer.from(join(folder, 'upper2'));
  t.is(codeOf(t.throws(() => holdUpper(upper2, workBytes, () => STAMP))), 'UPPER_BUSY');
  hold.release();
  const again = holdUpper(upperBytes, workBytes, () => ({ ...STAMP, namespace: 'trusted' }));
  t.is(again.stamp.namespace, 'user');
  again.release();
});

test('a changed stamp is still locked, and keeps what it said before', (t) => {
  const { folder, work, upperBytes, workBytes } = layers(t);
  const hold = holdUpper(upperBytes, workBytes, () => STAMP);
  const before = lstatSync(`${work}.git2db-stamp`).ino;
  hold.update({ redirectsUsed: true });
  t.not(lstatSync(`${work}.git2db-stamp`).ino, before);
  hold.update({ mknodFailed: true });
  t.deepEqual(findStamp(workBytes), { ...STAMP, redirectsUsed: true, mknodFailed: true });
  mkdirSync(join(folder, 'upper2'));
  const upper2 = Buffer.from(join(folder, 'upper2'));
  t.is(codeOf(t.throws(() => holdUpper(upper2, workBytes, () => STAMP))), 'UPPER_BUSY');
  t.deepEqual(
    readdirSync(folder).filter((name) => name.startsWith('.')),
    [],
  );
  const adopted = adoptHold(workBytes, hold.descriptors);
  t.deepEqual(adopted.stamp, hold.stamp);
  const inode = lstatSync(`${work}.git2db-stamp`).ino;
  adopted.update({ redirectsUsed: true });
  t.is(lstatSync(`${work}.git2db-stamp`).ino, inode);
  adopted.release();
});

test('a mount that does not come about takes a new stamp back, and leaves an old one', (t) => {
  const { work, upperBytes, workBytes } = layers(t);
  holdUpper(upperBytes, workBytes, () => STAMP).abandon();
  t.false(existsSync(`${work}.git2db-stamp`));
  holdUpper(upperBytes, workBytes, () => STAMP).release();
  holdUpper(upperBytes, workBytes, () => STAMP).abandon();
  t.true(existsSync(`${work}.git2db-stamp`));
});

test('what is no stamp is refused and left as it is: another text, a symbolic link, a directory', (t) => {
  const { folder, work, upperBytes, workBytes } = layers(t);
  const place = `${work}.git2db-stamp`;
  writeFileSync(place, 'mine');
  t.is(codeOf(t.throws(() => holdUpper(upperBytes, workBytes, () => STAMP))), 'INVALID_STAMP');
  t.is(readFileSync(place, 'utf8'), 'mine');
  rmSync(place);
  mkdirSync(place);
  t.is(codeOf(t.throws(() => findStamp(workBytes))), 'INVALID_STAMP');
  rmSync(place, { recursive: true });
  symlinkSync(join(folder, 'elsewhere'), place);
  t.throws(() => holdUpper(upperBytes, workBytes, () => STAMP));
  t.false(existsSync(join(folder, 'elsewhere')));
});

// ---- who may mount what ----------------------------------------------------------------------

const ROOT: Caller = { uid: 0, gid: 0, mayMount: true, isPrivileged: true };
const CONTAINER_ROOT: Caller = { ...ROOT, isPrivileged: false };
const USER: Caller = { uid: 1000, gid: 1000, mayMount: false, isPrivileged: false };
const SIGNS: UpperSigns = {
  upper: Buffer.from('/u'),
  owner: 1000,
  kernelWorkOwner: undefined,
  attributes: [],
};
const TRUSTED: Stamp = { ...STAMP, namespace: 'trusted' };

type Case = readonly [
  what: string,
  caller: Caller,
  stamp: Stamp | undefined,
  signs: Partial<UpperSigns>,
  expected: string,
];

const CASES: readonly Case[] = [
  ['root takes a fresh upper as trusted', ROOT, undefined, { owner: 0 }, 'trusted'],
  ['root may mount a user upper', ROOT, STAMP, {}, 'user'],
  ['root goes on with a trusted upper', ROOT, TRUSTED, { owner: 0 }, 'trusted'],
  [
    'root sees by its marks that an unstamped upper is user',
    ROOT,
    undefined,
    { attributes: ['user.overlay.impure'] },
    'user',
  ],
  [
    'root sees by work/work that an unstamped upper is user',
    ROOT,
    undefined,
    { kernelWorkOwner: 1000 },
    'user',
  ],
  [
    'a mark in trusted outweighs it',
    ROOT,
    undefined,
    { attributes: ['trusted.overlay.opaque'], kernelWorkOwner: 1000 },
    'trusted',
  ],
  ['a user takes an own fresh upper as user', USER, undefined, {}, 'user'],
  ['a user goes on with a user upper', USER, STAMP, {}, 'user'],
  ['a user may not mount a trusted upper', USER, TRUSTED, {}, 'UPPER_FOREIGN'],
  ["a user may not mount another's unstamped upper", USER, undefined, { owner: 1001 }, 'UPPER_FOREIGN'],
  [
    'a user may not mount an unstamped upper that root mounted',
    USER,
    undefined,
    { kernelWorkOwner: 0 },
    'UPPER_FOREIGN',
  ],
  [
    'root of a container may not mount a trusted upper',
    CONTAINER_ROOT,
    TRUSTED,
    { owner: 0 },
    'UPPER_FOREIGN',
  ],
  ['root of a container takes a fresh upper as user', CONTAINER_ROOT, undefined, { owner: 0 }, 'user'],
  [
    'visible trusted marks are refused without privilege',
    CONTAINER_ROOT,
    undefined,
    { owner: 0, attributes: ['trusted.overlay.opaque'] },
    'UPPER_FOREIGN',
  ],
];

for (const [what, caller, stamp, signs, expected] of CASES) {
  test(what, (t) => {
    const choose = () => chooseNamespace(stamp, { ...SIGNS, ...signs }, caller, undefined);
    if (expected === 'UPPER_FOREIGN') t.is(codeOf(t.throws(choose)), expected);
    else t.is(choose(), expected as never);
  });
}

test('userxattr decides for a fresh upper, and cannot change a stamped one', (t) => {
  t.is(chooseNamespace(undefined, { ...SIGNS, owner: 0 }, ROOT, 'user'), 'user');
  t.is(codeOf(t.throws(() => chooseNamespace(TRUSTED, SIGNS, ROOT, 'user'))), 'UPPER_FOREIGN');
});

const mayMount = process.getuid!() === 0;

(mayMount ? test : test.skip)(
  `a full disk is told with the place of the stamp, and leaves nothing there${mayMount ? '' : ' (skipped: needs root)'}`,
  (t) => {
    const { folder, upper, work, upperBytes, workBytes } = layers(t);
    t.is(spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=64k', 'git2db-test', folder]).status, 0);
    t.teardown(() => spawnSync('umount', ['-l', folder]));
    mkdirSync(upper);
    mkdirSync(work);
    const fill = join(folder, 'fill');
    t.throws(() => writeFileSync(fill, Buffer.alloc(1 << 20)), { code: 'ENOSPC' });
    const error = t.throws(() => holdUpper(upperBytes, workBytes, () => STAMP));
    t.is(codeOf(error), 'DISK_FULL');
    t.regex(error!.message, /work\.git2db-stamp, the stamp of the upper: .*make space there/);
    t.deepEqual(readdirSync(work), []);
    rmSync(fill);
    const hold = holdUpper(upperBytes, workBytes, () => STAMP);
    writeFileSync(join(upper, 'x'), '');
    t.throws(() => writeFileSync(fill, Buffer.alloc(1 << 20)), { code: 'ENOSPC' });
    t.is(codeOf(t.throws(() => hold.update({ redirectsUsed: true }))), 'DISK_FULL');
    t.deepEqual(findStamp(workBytes), STAMP);
    hold.release();
  },
);
