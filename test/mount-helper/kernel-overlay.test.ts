import { spawnSync } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  realpathSync,
  rmSync,
  statSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { candidatesFor, chooseBackend } from '../../src/mount-helper/backend.ts';
import { readCaller } from '../../src/mount-helper/caller.ts';
import { list, mount } from '../../src/mount-helper/index.ts';
import {
  commonDirectory,
  droppedDefaults,
  formatParameters,
  overlayParameters,
  relativeTo,
  withFewerDefaults,
} from '../../src/mount-helper/kernel-options.ts';
import { mountOverlay } from '../../src/mount-helper/mount.ts';
import type { MountOptions } from '../../src/mount-helper/mount-options.ts';
import { findMount, readMountTable, superOption } from '../../src/mount-helper/mount-table.ts';
import { completeOptions } from '../../src/mount-helper/options.ts';
import { findStamp } from '../../src/mount-helper/overlay/upper-hold.ts';
import { recordPlaces } from '../../src/mount-helper/record-places.ts';
import { umount } from '../../src/mount-helper/umount.ts';
import type { Git2dbError } from '../../src/xet/errors.ts';

const bytes = (text: string) => Buffer.from(text);

// ---- in words --------------------------------------------------------------------------------

const OPTIONS = completeOptions(
  { lowers: [bytes('/a,b'), bytes('/c:d')], upper: bytes('/u\\p'), work: bytes('/w') },
  bytes('/m'),
  bytes('/'),
);

test('by default the parameters keep an upper portable', (t) => {
  t.is(
    formatParameters(overlayParameters(OPTIONS, 'trusted')).toString(),
    'lowerdir=/a\\,b:/c\\:d,upperdir=/u\\\\p,workdir=/w,redirect_dir=on,index=off,metacopy=off,xino=auto',
  );
});

test('a user upper has userxattr and no redirects; what was asked for replaces the default', (t) => {
  const asked = {
    ...OPTIONS,
    index: true,
    xino: 'off',
    volatile: true,
  };
  t.is(
    formatParameters(overlayParameters(asked as MountOptions, 'user', [bytes('context="x,y"')])).toString(),
    'lowerdir=/a\\,b:/c\\:d,upperdir=/u\\\\p,workdir=/w,index=on,metacopy=off,xino=off,userxattr,volatile,context="x,y"',
  );
});

test('an older kernel gets fewer of the defaults, and all that was asked for', (t) => {
  const wanted = overlayParameters({ ...OPTIONS, metacopy: true }, 'trusted');
  const attempts = [...withFewerDefaults(wanted)].map(({ others }) => others.map(({ key }) => key).join());
  t.deepEqual(attempts, [
    'redirect_dir,index,metacopy,xino',
    'redirect_dir,index,metacopy',
    'redirect_dir,metacopy',
    'metacopy',
  ]);
  t.deepEqual(droppedDefaults(wanted, [...withFewerDefaults(wanted)][2]!), ['index=off', 'xino=auto']);
});

test('paths are shortened by the directory that all of them lie in', (t) => {
  t.is(commonDirectory(['/a/b/c', '/a/b/d/e', '/a/b/c2'].map(bytes)).toString(), '/a/b');
  t.is(commonDirectory(['/a/b', '/a/b/c'].map(bytes)).toString(), '/a');
  t.is(commonDirectory(['/a', '/b'].map(bytes)).toString(), '/');
  const relative = relativeTo(bytes('/a'), {
    ...overlayParameters(OPTIONS, 'user'),
    lowers: [bytes('/a/x/y')],
  });
  t.is(relative.lowers[0]?.toString(), 'x/y');
});

test('auto takes the kernel, else FUSE, and userns never', (t) => {
  const works = (...names: readonly ('kernel' | 'userns' | 'fuse')[]) =>
    names.map((backend) => ({ backend, works: true }));
  t.is(chooseBackend('auto', works('fuse', 'userns', 'kernel')), 'kernel');
  t.is(chooseBackend('auto', works('userns', 'fuse')), 'fuse');
  t.is(chooseBackend('auto', works('userns')), undefined);
  t.is(chooseBackend('userns', works('userns')), 'userns');
  t.is(chooseBackend('kernel', [{ backend: 'kernel', works: false }]), undefined);
  t.deepEqual(candidatesFor('fuse'), ['fuse']);
});

// ---- for real --------------------------------------------------------------------------------

/** tmpfs takes overlays wherever the tests run, themselves on an overlay or not. */
function kernelRefusal(): string | undefined {
  if (!readCaller().mayMount) return 'takes the right to mount';
  const scratch = mkdtempSync(join(tmpdir(), 'git2db-kernel-'));
  try {
    const script =
      'mount -t tmpfs t "$0" && mkdir "$0"/l "$0"/u "$0"/w "$0"/m && ' +
      'mount -t overlay -o lowerdir="$0"/l,upperdir="$0"/u,workdir="$0"/w o "$0"/m';
    const { status, stderr } = spawnSync(
      'unshare',
      ['-m', '--propagation', 'slave', 'sh', '-c', script, scratch],
      {
        encoding: 'utf8',
      },
    );
    return status === 0 ? undefined : `no overlay here: ${stderr.trim()}`;
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
}

const refusal = kernelRefusal();
const real = refusal === undefined ? test.serial : test.serial.skip;
const title = (text: string) => (refusal === undefined ? text : `${text} (skipped: ${refusal})`);

interface Sandbox {
  readonly folder: string;
  readonly env: Record<string, string>;
  path(name: string): Buffer;
  options(more?: Partial<MountOptions>): MountOptions;
}

function sandbox(t: ExecutionContext): Sandbox {
  const folder = realpathSync(mkdtempSync(join(tmpdir(), 'git2db-kernel-')));
  spawnSync('mount', ['-t', 'tmpfs', 'git2db-test', folder]);
  t.teardown(() => {
    for (const { mountPoint } of readMountTable().reverse()) {
      if (mountPoint.toString('latin1').startsWith(folder)) spawnSync('umount', ['-l', folder]);
    }
    rmSync(folder, { recursive: true, force: true });
  });
  for (const name of ['lower', 'lower2', 'upper', 'work', 'merged', 'home']) mkdirSync(join(folder, name));
  writeFileSync(join(folder, 'lower/file'), 'from below');
  const path = (name: string) => Buffer.from(join(folder, name));
  return {
    folder,
    env: { HOME: join(folder, 'home'), PATH: process.env.PATH ?? '' },
    path,
    options: (more = {}) =>
      completeOptions(
        { lowers: [path('lower')], upper: path('upper'), work: path('work'), backend: 'kernel', ...more },
        path('merged'),
        Buffer.from('/'),
      ),
  };
}

const codeOf = (error: unknown) => (error as Git2dbError | undefined)?.code;

real(title('a mount shows both layers, writes to the upper, and is recorded until its end'), async (t) => {
  const { folder, env, path, options } = sandbox(t);
  const mounted = await mountOverlay(options(), env);
  t.is(mounted.backend, 'kernel');
  t.is(readFileSync(join(folder, 'merged/file'), 'utf8'), 'from below');
  writeFileSync(join(folder, 'merged/new'), 'x');
  t.true(existsSync(join(folder, 'upper/new')));
  const entry = findMount(readMountTable(), path('merged'));
  t.is(entry?.source.toString(), 'git2db-mount');
  t.deepEqual(entry && superOption(entry, 'upperdir'), path('upper'));
  t.is(entry && superOption(entry, 'redirect_dir')?.toString(), 'on');
  t.like(findStamp(path('work')), { namespace: 'trusted', owner: 0, redirectsUsed: true });
  const { records } = recordPlaces(env);
  t.true(existsSync(join(records, `${mounted.record.id}.json`)));
  await umount(recordPlaces(env), path('merged'));
  t.false(existsSync(join(records, `${mounted.record.id}.json`)));
  t.is(findMount(readMountTable(), path('merged')), undefined);
});

real(title('an upper that is mounted is refused to a second mount, by any work directory'), async (t) => {
  const { folder, env, path, options } = sandbox(t);
  await mountOverlay(options(), env);
  mkdirSync(join(folder, 'other'));
  mkdirSync(join(folder, 'work2'));
  const second = { ...options(), merged: path('other') };
  t.is(codeOf(await t.throwsAsync(mountOverlay(second, env))), 'UPPER_BUSY');
  t.is(codeOf(await t.throwsAsync(mountOverlay({ ...second, work: path('work2') }, env))), 'UPPER_BUSY');
  t.false(existsSync(join(folder, 'work2.git2db-stamp')));
  // Also when it was another program that mounted it.
  await umount(recordPlaces(env), path('merged'));
  const parameters = `lowerdir=${folder}/lower,upperdir=${folder}/upper,workdir=${folder}/work`;
  t.is(spawnSync('mount', ['-t', 'overlay', '-o', parameters, 'x', join(folder, 'merged')]).status, 0);
  t.is(codeOf(await t.throwsAsync(mountOverlay({ ...second, work: path('work2') }, env))), 'UPPER_BUSY');
});

real(title('without an upper one lower is enough, and nothing can be written'), async (t) => {
  const { folder, env, path, options } = sandbox(t);
  const { upper: _, work: __, ...readOnly } = options({ readOnly: true });
  await mountOverlay(readOnly, env);
  t.deepEqual(readdirSync(join(folder, 'merged')), ['file']);
  t.throws(() => writeFileSync(join(folder, 'merged/x'), ''), { code: 'EROFS' });
  await umount(recordPlaces(env), path('merged'));
  await mountOverlay({ ...readOnly, lowers: [path('lower2'), path('lower')] }, env);
  t.deepEqual(readdirSync(join(folder, 'merged')), ['file']);
  await umount(recordPlaces(env), path('merged'));
  // On a place that is not empty, and inside the lower itself.
  writeFileSync(join(folder, 'merged/hidden'), '');
  await mountOverlay({ ...readOnly, nonempty: true }, env);
  t.deepEqual(readdirSync(join(folder, 'merged')), ['file']);
  mkdirSync(join(folder, 'lower/in'));
  await mountOverlay({ ...readOnly, merged: path('lower/in') }, env);
  t.deepEqual(readdirSync(join(folder, 'lower/in')).sort(), ['file', 'in']);
});

real(title('paths with every special character are mounted and shown as they are'), async (t) => {
  const { folder, env, path, options } = sandbox(t);
  const names = ['l,:\\ "\'\n\t#%', 'u,:\\ x\xff', 'w,:\\ y', 'm,:\\ z\n'].map((name) =>
    Buffer.concat([path(''), bytes('/'), Buffer.from(name, 'latin1')]),
  );
  for (const name of names) mkdirSync(name);
  const [lower, upper, work, merged] = names as [Buffer, Buffer, Buffer, Buffer];
  writeFileSync(Buffer.concat([lower, bytes('/deep')]), 'x');
  await mountOverlay({ ...options(), lowers: [lower], upper, work, merged }, env);
  t.deepEqual(readdirSync(merged), ['deep']);
  unlinkSync(Buffer.concat([merged, bytes('/deep')]));
  t.true(statSync(Buffer.concat([upper, bytes('/deep')])).isCharacterDevice());
  const entry = findMount(readMountTable(), merged);
  t.truthy(entry);
  await umount(recordPlaces(env), merged);
  t.is(findMount(readMountTable(), merged), undefined);
  t.truthy(folder);
});

real(title('many long paths are mounted although they fill no page'), async (t) => {
  const { folder, env, path, options } = sandbox(t);
  const lowers = Array.from({ length: 60 }, (_, i) => path(`layers/${'long'.repeat(25)}-${i}`));
  for (const lower of lowers) mkdirSync(lower, { recursive: true });
  writeFileSync(Buffer.concat([lowers[59]!, bytes('/bottom')]), 'x');
  t.true(Buffer.concat(lowers).length > 4096);
  await mountOverlay({ ...options(), lowers }, env);
  t.deepEqual(readdirSync(join(folder, 'merged')), ['bottom']);
  writeFileSync(join(folder, 'merged/new'), '');
  t.true(existsSync(join(folder, 'upper/new')));
  const entry = findMount(readMountTable(), path('merged'))!;
  t.deepEqual(superOption(entry, 'upperdir'), path('upper'));
  await umount(recordPlaces(env), path('merged'));
});

real(
  title('more lower layers than the kernel takes are refused with the number that it takes'),
  async (t) => {
    const { folder, env, options } = sandbox(t);
    const lowers = Array.from({ length: 501 }, (_, i) => Buffer.from(join(folder, `l${i}`)));
    for (const path of lowers) mkdirSync(path);
    const error = await t.throwsAsync(mountOverlay(options({ lowers }), env));
    t.is(codeOf(error), 'BACKEND_UNAVAILABLE');
    t.regex(error!.message, /at most 500 lower layers, and these are 501; take --backend fuse/);
  },
);

real(title('a user upper is mounted by root with userxattr, and its whiteouts count'), async (t) => {
  const { folder, env, path, options } = sandbox(t);
  await mountOverlay(options({ namespace: 'user' }), env);
  const entry = findMount(readMountTable(), path('merged'))!;
  t.true(entry.superOptions.toString().split(',').includes('userxattr'));
  unlinkSync(join(folder, 'merged/file'));
  await umount(recordPlaces(env), path('merged'));
  t.like(findStamp(path('work')), { namespace: 'user', redirectsUsed: false });
  // The stamp is remembered: nobody asks for userxattr now.
  await mountOverlay(options(), env);
  t.deepEqual(readdirSync(join(folder, 'merged')), []);
});

real(title('a refused mount leaves neither stamp nor record nor mount'), async (t) => {
  const { folder, env, path, options } = sandbox(t);
  const before = readdirSync(folder).sort();
  const refused = options({ squashToUid: 5 });
  t.is(codeOf(await t.throwsAsync(mountOverlay(refused, env))), 'BACKEND_UNAVAILABLE');
  t.is(
    codeOf(await t.throwsAsync(mountOverlay(options({ redirectDir: 'on', namespace: 'user' }), env))),
    'MOUNT_FAILED',
  );
  t.deepEqual(readdirSync(folder).sort(), before);
  t.deepEqual(
    readdirSync(join(folder, 'work')).filter((name) => name !== 'work'),
    [],
  );
  t.is(findMount(readMountTable(), path('merged')), undefined);
});

real(title('the library mounts, and unmounts at the end of a scope'), async (t) => {
  const { folder, env, path } = sandbox(t);
  const spec = {
    lowers: [path('lower')],
    upper: join(folder, 'upper'),
    work: path('work'),
    merged: path('merged'),
  };
  {
    await using tree = await mount({ ...spec, backend: 'kernel' }, { env });
    t.is(tree.backend, 'kernel');
    t.deepEqual(tree.rejected, []);
    t.true(list({ env }).some(({ merged }) => merged.equals(tree.merged)));
    t.is(codeOf(await t.throwsAsync(mount({ ...spec, merged: path('home') }, { env }))), 'UPPER_BUSY');
  }
  t.is(findMount(readMountTable(), path('merged')), undefined);
  const early = await mount(spec, { env });
  await early.unmount();
  await early[Symbol.asyncDispose]();
  t.is(codeOf(await t.throwsAsync(early.unmount())), 'NOT_MOUNTED');
  t.is(codeOf(await t.throwsAsync(mount({ ...spec, lowers: [] }, { env }))), 'USAGE');
});

real(title('a volatile mount that ended in order may be mounted again'), async (t) => {
  const { folder, env, path, options } = sandbox(t);
  await mountOverlay(options({ volatile: true }), env);
  writeFileSync(join(folder, 'merged/new'), 'x');
  await umount(recordPlaces(env), path('merged'));
  await mountOverlay(options(), env);
  t.is(readFileSync(join(folder, 'merged/new'), 'utf8'), 'x');
});
