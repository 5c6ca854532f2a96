import {
  chmodSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  realpathSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { checkFuse, requireKernel } from '../../src/mount-helper/fuse-requirements.ts';
import type { MountOptions } from '../../src/mount-helper/mount-options.ts';
import { completeOptions } from '../../src/mount-helper/options.ts';
import { checkMergedOutsideLowers, prepareMount } from '../../src/mount-helper/preparation.ts';
import { type ErrorCode, Git2dbError } from '../../src/xet/errors.ts';

const isRoot = process.geteuid?.() === 0;

/** lower, lower2, upper, work, merged. */
function sandbox(t: ExecutionContext): string {
  const folder = realpathSync(mkdtempSync(join(tmpdir(), 'git2db-preparation-')));
  t.teardown(() => rmSync(folder, { recursive: true, force: true }));
  for (const name of ['lower', 'lower2', 'upper', 'work', 'merged']) mkdirSync(join(folder, name));
  return folder;
}

interface Places {
  readonly lowers?: readonly string[];
  readonly upper?: string;
  readonly work?: string;
  readonly merged?: string;
}

function options(folder: string, places: Places = {}, more: Partial<MountOptions> = {}): MountOptions {
  const { lowers = ['lower'], upper = 'upper', work = 'work', merged = 'merged' } = places;
  return completeOptions(
    {
      lowers: lowers.map((path) => Buffer.from(path)),
      upper: Buffer.from(upper),
      work: Buffer.from(work),
      ...more,
    },
    Buffer.from(merged),
    Buffer.from(folder),
  );
}

function refuses(t: ExecutionContext, code: ErrorCode, run: () => unknown, message?: RegExp): void {
  const error = t.throws(run, { instanceOf: Git2dbError, ...(message === undefined ? {} : { message }) });
  t.is(error?.code, code);
  t.false(error?.message.includes('\n'), 'one line');
}

test('sound directories are accepted, and nothing is changed', (t) => {
  const folder = sandbox(t);
  symlinkSync('merged', join(folder, 'link'));
  const prepared = prepareMount(options(folder, { lowers: ['lower', 'lower2'], merged: 'link' }));
  t.is(prepared.options.merged.toString(), join(folder, 'merged'));
  t.true(prepared.isMergedEmpty);
  t.is(prepared.upper?.path.toString(), join(folder, 'upper'));
  t.deepEqual(readdirSync(folder).sort(), ['link', 'lower', 'lower2', 'merged', 'upper', 'work']);
  t.deepEqual(readdirSync(join(folder, 'work')), []);
});

const missing = test.macro({
  exec(t, places: Places, role: RegExp) {
    const folder = sandbox(t);
    writeFileSync(join(folder, 'file'), '');
    refuses(t, 'DIRECTORY_MISSING', () => prepareMount(options(folder, places)), role);
  },
  title: (_, places) => `${JSON.stringify(places)} has a directory that is missing`,
});

test(missing, { lowers: ['lower', 'nowhere'] }, /lowerdir .*nowhere does not exist/);
test(missing, { upper: 'nowhere' }, /upperdir .*nowhere does not exist; make/);
test(missing, { work: 'nowhere' }, /workdir/);
test(missing, { merged: 'nowhere' }, /MERGED/);
test(missing, { merged: 'file' }, /MERGED .*is not a directory/);
test(missing, { lowers: ['file/below'] }, /lowerdir/);

const overlaps = test.macro({
  exec(t, places: Places, message: RegExp) {
    const folder = sandbox(t);
    for (const inner of ['lower/in', 'upper/in', 'work/in']) mkdirSync(join(folder, inner));
    refuses(t, 'LAYERS_OVERLAP', () => prepareMount(options(folder, places)), message);
  },
  title: (_, places) => `${JSON.stringify(places)} overlaps`,
});

test(overlaps, { upper: 'lower' }, /both lowerdir and upperdir/);
test(overlaps, { work: 'upper' }, /both upperdir and workdir/);
test(overlaps, { upper: 'lower/in' }, /upperdir .* lies inside lowerdir/);
test(overlaps, { lowers: ['upper/in'] }, /lowerdir .* lies inside upperdir/);
test(overlaps, { work: 'upper/in' }, /workdir .* lies inside upperdir/);
test(overlaps, { upper: 'work/in' }, /upperdir .* lies inside workdir/);
test(overlaps, { lowers: ['lower', 'lower'] }, /lowerdir twice/);
test(overlaps, { lowers: ['lower', 'lower/in'] }, /lowerdir .* lies inside lowerdir/);

test('symbolic links and ".." hide no overlap', (t) => {
  const folder = sandbox(t);
  symlinkSync('lower', join(folder, 'alias'));
  refuses(t, 'LAYERS_OVERLAP', () => prepareMount(options(folder, { upper: 'alias' })));
  refuses(t, 'LAYERS_OVERLAP', () => prepareMount(options(folder, { upper: 'work/../lower' })));
});

test('a work directory on another file system is refused', (t) => {
  const folder = sandbox(t);
  const elsewhere = mkdtempSync('/dev/shm/git2db-work-');
  t.teardown(() => rmSync(elsewhere, { recursive: true, force: true }));
  refuses(
    t,
    'WORK_ELSEWHERE',
    () => prepareMount(options(folder, { work: elsewhere })),
    /another file system/,
  );
});

test('a work directory may hold what overlays leave there, and nothing else', (t) => {
  const folder = sandbox(t);
  for (const name of ['work', 'index', 'git2db']) mkdirSync(join(folder, 'work', name));
  t.notThrows(() => prepareMount(options(folder)));
  // Whatever looks like ours and is none may be somebody's work.
  for (const name of ['thesis.tex', '.git2db-whiteout.1', '.git2db-stamp.0', 'git2db.old', '.git2db']) {
    writeFileSync(join(folder, 'work', name), '');
    const error = t.throws(() => prepareMount(options(folder)), { instanceOf: Git2dbError });
    t.is(error.code, 'WORK_NOT_EMPTY');
    t.true(error.message.includes(`holds ${name}, which no overlay made`), error.message);
    rmSync(join(folder, 'work', name));
  }
  t.notThrows(() => prepareMount(options(folder)));
});

test('what a volatile mount left after a crash is refused', (t) => {
  const folder = sandbox(t);
  mkdirSync(join(folder, 'work/work/incompat/volatile'), { recursive: true });
  refuses(t, 'VOLATILE_LEFTOVER', () => prepareMount(options(folder)), /volatile/);
});

test('a place that is not empty is refused, unless -o nonempty says so', (t) => {
  const folder = sandbox(t);
  writeFileSync(join(folder, 'merged/file'), '');
  refuses(t, 'MERGED_NOT_EMPTY', () => prepareMount(options(folder)), /file is there.*nonempty/);
  t.false(prepareMount(options(folder, {}, { nonempty: true })).isMergedEmpty);
});

test('the guard of an unmounted worktree is no hindrance; any other .git is', (t) => {
  const folder = sandbox(t);
  const guard = join(folder, 'merged/.git');
  writeFileSync(guard, 'gitdir: /x/.git2db/git2db-unmounted\n');
  t.false(prepareMount(options(folder)).isMergedEmpty);
  writeFileSync(join(folder, 'merged/other'), '');
  refuses(t, 'MERGED_NOT_EMPTY', () => prepareMount(options(folder)));
  rmSync(join(folder, 'merged/other'));
  writeFileSync(guard, 'gitdir: /x/.git/worktrees/y\n');
  refuses(t, 'MERGED_NOT_EMPTY', () => prepareMount(options(folder)));
  rmSync(guard);
  symlinkSync('git2db-unmounted', guard);
  refuses(t, 'MERGED_NOT_EMPTY', () => prepareMount(options(folder)));
  rmSync(guard);
  mkdirSync(guard);
  refuses(t, 'MERGED_NOT_EMPTY', () => prepareMount(options(folder)));
});

test('a mount may not lie inside upper or work, nor, with FUSE, below a lower', (t) => {
  const folder = sandbox(t);
  for (const inner of ['lower/in', 'upper/in', 'work/work']) mkdirSync(join(folder, inner));
  refuses(t, 'MERGED_IN_LAYER', () => prepareMount(options(folder, { merged: 'upper/in' })), /upperdir/);
  refuses(t, 'MERGED_IN_LAYER', () => prepareMount(options(folder, { merged: 'work/work' })), /workdir/);
  refuses(t, 'MERGED_IN_LAYER', () => prepareMount(options(folder, { merged: 'upper' }, { nonempty: true })));
  const below = prepareMount(options(folder, { merged: 'lower/in' }));
  refuses(t, 'MERGED_IN_LAYER', () => checkMergedOutsideLowers(below), /lowerdir/);
  t.notThrows(() => checkMergedOutsideLowers(prepareMount(options(folder))));
});

test('paths that are not UTF-8 and names with all the special characters work', (t) => {
  const folder = sandbox(t);
  const name = Buffer.concat([Buffer.from(`${folder}/a,b:c\\d "e'\n`), Buffer.from([0xff, 0xfe])]);
  mkdirSync(name);
  const prepared = prepareMount({ ...options(folder), lowers: [name] });
  t.deepEqual(prepared.lowers[0]?.path, name);
});

(isRoot ? test.skip : test)(
  'directories that may not be used are named (skipped for root, who may all)',
  (t) => {
    const folder = sandbox(t);
    chmodSync(join(folder, 'upper'), 0o500);
    refuses(t, 'DIRECTORY_FORBIDDEN', () => prepareMount(options(folder)), /upperdir/);
    t.notThrows(() => prepareMount(options(folder, {}, { readOnly: true })));
  },
);

// ---- what FUSE needs -------------------------------------------------------------------------

function fuseSandbox(t: ExecutionContext) {
  const folder = sandbox(t);
  const places = { device: join(folder, 'fuse'), config: join(folder, 'fuse.conf'), kernelRelease: '6.1.0' };
  writeFileSync(places.device, '');
  writeFileSync(places.config, '# user_allow_other\n');
  mkdirSync(join(folder, 'bin'));
  writeFileSync(join(folder, 'bin/fusermount3'), '', { mode: 0o755 });
  const needs = { caller: { mayMount: false }, allowOther: false, searchPath: join(folder, 'bin') };
  return { folder, places, needs };
}

test('with device and fusermount3 in place FUSE may be used', (t) => {
  const { folder, places, needs } = fuseSandbox(t);
  t.is(checkFuse(needs, places), join(folder, 'bin/fusermount3'));
  t.is(checkFuse({ ...needs, caller: { mayMount: true }, searchPath: '' }, places), undefined);
});

test('without /dev/fuse there is no FUSE', (t) => {
  const { places, needs } = fuseSandbox(t);
  rmSync(places.device);
  for (const mayMount of [true, false]) {
    refuses(t, 'FUSE_MISSING', () => checkFuse({ ...needs, caller: { mayMount } }, places), /modprobe fuse/);
  }
});

(isRoot ? test.skip : test)('a device of mode 0600 is forbidden (skipped for root, who may all)', (t) => {
  const { places, needs } = fuseSandbox(t);
  chmodSync(places.device, 0);
  refuses(t, 'FUSE_FORBIDDEN', () => checkFuse(needs, places), /chmod 0666/);
});

test('without fusermount3 an ordinary user has no FUSE', (t) => {
  const { folder, places, needs } = fuseSandbox(t);
  const elsewhere = { ...needs, searchPath: `${folder}/lower:relative:` };
  refuses(t, 'FUSERMOUNT_MISSING', () => checkFuse(elsewhere, places), /install the package fuse3/);
  chmodSync(join(folder, 'bin/fusermount3'), 0o644);
  refuses(t, 'FUSERMOUNT_MISSING', () => checkFuse(needs, places));
});

test('allow_other takes user_allow_other, unless one mounts oneself', (t) => {
  const { places, needs } = fuseSandbox(t);
  const asked = { ...needs, allowOther: true };
  refuses(t, 'ALLOW_OTHER_FORBIDDEN', () => checkFuse(asked, places), /user_allow_other/);
  refuses(t, 'ALLOW_OTHER_FORBIDDEN', () => checkFuse(asked, { ...places, config: '/nowhere' }));
  t.notThrows(() => checkFuse({ ...asked, caller: { mayMount: true } }, places));
  writeFileSync(places.config, 'mount_max = 10\n user_allow_other\n');
  t.notThrows(() => checkFuse(asked, places));
});

test('a kernel that is too old is refused', (t) => {
  const { places, needs } = fuseSandbox(t);
  refuses(
    t,
    'KERNEL_TOO_OLD',
    () => checkFuse(needs, { ...places, kernelRelease: '4.19.0-27-amd64' }),
    /4\.20/,
  );
  t.notThrows(() => requireKernel('4.20', [4, 20], 'x'));
  t.notThrows(() => requireKernel('10.0.1-rc1', [4, 20], 'x'));
  t.throws(() => requireKernel('5.4.0', [5, 11], 'x'));
});
