/**
 * What is on disk: the kernel's overlayfs sees in an upper of ours what we showed, we see in one of the
 * kernel's what it showed, and names that look like whiteouts of other programs are ordinary names.
 */
import type { ExecutionContext } from 'ava';
import { comparedTime } from '../differential/known-differences.ts';
import { bytes, SystemCallError, type SystemCalls, type TreeEntry } from '../helpers/driver.ts';
import {
  directory,
  fifo,
  file,
  hardLink,
  type LayerSpec,
  opaque,
  symlink,
  whiteout,
} from '../helpers/layers.ts';
import { createMountSandbox, hostCalls, type MountSandbox, runCommand } from '../helpers/mount-sandbox.ts';
import { SUBJECTS, type Subject, subjectNamed } from '../helpers/subjects.ts';
import { fails, mountTest, onSubject } from '../helpers/suite.ts';

const LOWERS: readonly LayerSpec[] = [
  {
    keep: 'keep',
    gone: 'x',
    changed: file('old', { mode: 0o4755, xattrs: { 'user.x': '1' } }),
    'moved-file': 'moved',
    'tree/a': 'a',
    'tree/sub/b': 'b',
    'tree/sub/gone': 'x',
    'again/old': 'x',
    'emptied/x': 'x',
    'moved/in/f': 'f',
    'moved/in/g': 'g',
    'moved/changed': 'old',
    'outer/inner/f': 'x',
    link: symlink('keep'),
    pipe: fifo(),
    one: 'hard',
    'type-dir/x': 'x',
    'type-file': 'x',
    'swap-a': 'a',
    'swap-b/x': 'b',
  },
  { 'tree/c': 'c', 'tree/sub/d': 'd', 'moved/in/h': 'h', 'again/below': 'x', 'moved/bottom': 'x' },
];

/** Every kind of change, through a mount at `root`. */
async function change(calls: SystemCalls, root: string, movesDirectories: boolean): Promise<void> {
  const at = (name: string) => `${root}/${name}`;
  await calls.unlink(at('gone'));
  await calls.writeFile(at('changed'), 'new content', 'WRONLY');
  await calls.chmod(at('changed'), 0o640);
  await calls.rename(at('moved-file'), at('tree/moved-file'));
  await calls.unlink(at('tree/sub/gone'));
  await calls.writeFile(at('tree/sub/made'), 'made');
  for (const name of ['old', 'below']) await calls.unlink(at(`again/${name}`));
  await calls.rmdir(at('again'));
  await calls.mkdir(at('again'), 0o750);
  await calls.writeFile(at('again/new'), 'new');
  await calls.unlink(at('emptied/x'));
  await calls.utimens(at('link'), '1000000001', '2000000002');
  await calls.chmod(at('pipe'), 0o600);
  await calls.link(at('one'), at('two'));
  await calls.unlink(at('type-dir/x'));
  await calls.rmdir(at('type-dir'));
  await calls.writeFile(at('type-dir'), 'a file now');
  await calls.unlink(at('type-file'));
  await calls.mkdir(at('type-file'));
  await calls.symlink('anywhere', at('type-file/l'));
  await calls.setxattr(at('keep'), 'user.new', 'value');
  await calls.writeFile(at('.wh.tracked'), 'an ordinary name');
  if (movesDirectories) {
    await calls.writeFile(at('moved/changed'), 'before the move');
    await calls.rename(at('moved'), at('elsewhere'));
    await calls.unlink(at('elsewhere/in/g'));
    await calls.writeFile(at('elsewhere/in/h'), 'after the move');
    await calls.rename(at('outer'), at('elsewhere/outer'));
    await calls.rename(at('elsewhere/outer/inner'), at('inner'));
    await calls.mkdir(at('moved'));
    await calls.renameat2(at('swap-a'), at('swap-b'), 2);
  }
  const fd = await calls.open(at('sparse'), 'RDWR|CREAT');
  await calls.pwrite(fd, 'end', 1 << 22);
  await calls.close(fd);
}

/** What both must see alike. */
function comparable(tree: readonly TreeEntry[]): object[] {
  return tree.map(({ path, type, mode, uid, gid, size, mtime, nlink, rdev, target, content, xattrs }) => ({
    path,
    type,
    mode,
    uid,
    gid,
    mtime,
    rdev,
    target,
    content,
    xattrs,
    ...(type === 'directory' ? {} : { size, nlink }),
  }));
}

/** The tree that another way of mounting shows of the layers of `sandbox`. */
async function treeBy(sandbox: MountSandbox, mount: readonly string[]): Promise<TreeEntry[]> {
  const run = await runCommand(mount, sandbox.env);
  if (run.status !== 0) throw new Error(`${mount.join(' ')}: ${run.stderr}`);
  try {
    return await hostCalls().tree(bytes(sandbox.merged));
  } finally {
    await runCommand(['umount', sandbox.merged], sandbox.env);
  }
}

function kernelMount(sandbox: MountSandbox, ...options: readonly string[]): string[] {
  const layers = `lowerdir=${sandbox.lowers.join(':')},upperdir=${sandbox.upper},workdir=${sandbox.work}`;
  return ['mount', '-t', 'overlay', 'overlay', '-o', [layers, ...options].join(','), sandbox.merged];
}

const kernel = subjectNamed('overlayfs');

for (const subject of SUBJECTS.filter(({ backend }) => backend !== 'overlayfs')) {
  if (subject.backend === 'fuse-overlayfs') continue;
  const reader = { ...subject, missing: subject.missing ?? kernel.missing };
  onSubject(reader, "the kernel's overlayfs sees in an upper of ours what we showed", async (t) => {
    const sandbox = await createMountSandbox(t, subject, { lowers: LOWERS });
    await sandbox.mount();
    await change(sandbox.calls, bytes(sandbox.merged), subject.movesLowerDirectories);
    const shown = comparable(await sandbox.tree());
    await sandbox.unmount();
    const isUser = subject.namespace === 'user.overlay';
    const seen = await treeBy(
      sandbox,
      kernelMount(sandbox, ...(isUser ? ['userxattr'] : ['redirect_dir=follow'])),
    );
    t.deepEqual(comparable(seen), shown);
    // The same with the form that the kernel needs no option for: nothing but what it knows is in the upper.
    for (const { path, xattrs, type, rdev } of await sandbox.upperTree()) {
      for (const name of Object.keys(xattrs))
        t.regex(name, /^(user\.(x|new)$|(trusted|user)\.overlay\.)/, path);
      if (type === 'char') t.is(rdev, 0, path);
      if (path !== '.wh.tracked') t.notRegex(path, /(^|\/)\.wh\./);
    }
    t.deepEqual(await leftInWork(sandbox), []);
  });
}

/** What is in the work directory beside directories and the whiteout that others are links to. */
async function leftInWork(sandbox: MountSandbox): Promise<string[]> {
  const tree = await hostCalls().tree(bytes(sandbox.work));
  return tree.filter(({ type }) => type !== 'directory' && type !== 'char').map(({ path }) => path);
}

const FUSE = subjectNamed('fuse');
const bothWays: Subject = { ...FUSE, missing: FUSE.missing ?? kernel.missing };

for (const options of [
  'redirect_dir=on',
  'redirect_dir=on,metacopy=on',
  'redirect_dir=on,index=on',
  'redirect_dir=off',
]) {
  onSubject(
    bothWays,
    `our FUSE sees in an upper of the kernel's (${options}) what that showed`,
    async (t) => {
      const sandbox = await createMountSandbox(t, FUSE, { lowers: LOWERS });
      await sandbox.prepare();
      const run = await runCommand(kernelMount(sandbox, options), sandbox.env);
      t.is(run.status, 0, run.stderr);
      const host = hostCalls();
      await change(host, bytes(sandbox.merged), options.includes('redirect_dir=on'));
      if (options.includes('metacopy')) await host.chmod(bytes(`${sandbox.merged}/tree/c`), 0o600);
      const shown = comparable(await host.tree(bytes(sandbox.merged)));
      await runCommand(['umount', sandbox.merged], sandbox.env);
      await sandbox.mount();
      t.deepEqual(comparable(await sandbox.tree()), shown);
      await sandbox.calls.writeFile(sandbox.path('tree/c'), '+', 'WRONLY|APPEND');
      t.is(await sandbox.calls.readFile(sandbox.path('tree/c')), 'c+');
    },
  );
}

for (const user of SUBJECTS.filter(({ name }) => name === 'fuse-user' || name === 'userns')) {
  const other = subjectNamed(user.name === 'userns' ? 'fuse-user' : 'userns');
  onSubject(
    { ...user, missing: user.missing ?? other.missing },
    `an upper is the same tree for ${other.name}`,
    async (t) => {
      const sandbox = await createMountSandbox(t, user, { lowers: LOWERS });
      await sandbox.mount();
      await change(sandbox.calls, bytes(sandbox.merged), user.movesLowerDirectories);
      const shown = comparable(await sandbox.tree());
      await sandbox.unmount();
      const second = sandbox.mountedBy(other);
      t.teardown(() => second.dispose());
      await second.mount();
      t.deepEqual(comparable(await second.tree()), shown);
    },
  );
}

mountTest(
  'all changes are there after a remount',
  async (t, create, subject) => {
    const sandbox = await create({ lowers: LOWERS });
    await sandbox.mount();
    await change(sandbox.calls, bytes(sandbox.merged), subject.movesLowerDirectories);
    const shown = comparable(await sandbox.tree());
    await sandbox.remount();
    t.deepEqual(comparable(await sandbox.tree()), shown);
  },
  ({ backend }) => backend !== 'fuse-overlayfs',
);

const OURS = ({ backend }: Subject) => backend === 'fuse';
const TRACKED: LayerSpec = {
  '.wh.low': 'low',
  'd/.wh..wh..opq': 'opq',
  'd/.wh.x': 'x',
  'd/x': 'still here',
  'd/y': 'y',
};

mountTest(
  'a repository may track names that begin with .wh.',
  async (t, create, { backend }) => {
    const sandbox = await create({ lowers: [TRACKED, { 'd/low': 'low', low: 'seen' }] });
    const options = backend === 'fuse' ? ['whiteouts=kernel'] : [];
    await sandbox.mount(options);
    const names = async () => [
      ...(await sandbox.calls.list(bytes(sandbox.merged))),
      ...(await sandbox.calls.list(sandbox.path('d'))),
    ];
    t.deepEqual(await names(), ['.wh.low', 'd', 'low', '.wh..wh..opq', '.wh.x', 'low', 'x', 'y']);
    const { calls, path } = { calls: sandbox.calls, path: sandbox.path.bind(sandbox) };
    await calls.writeFile(path('d/.wh.x'), 'changed');
    await calls.writeFile(path('d/.wh.y'), 'made');
    await calls.rename(path('.wh.low'), path('.wh.moved'));
    await calls.unlink(path('d/.wh..wh..opq'));
    await calls.mkdir(path('.wh.dir'));
    await calls.writeFile(path('.wh.dir/.wh..wh..opq'), 'made');
    const expected = ['.wh.dir', '.wh.moved', 'd', 'low', '.wh.x', '.wh.y', 'low', 'x', 'y'];
    t.deepEqual(await names(), expected);
    await sandbox.remount(options);
    t.deepEqual(await names(), expected);
    t.is(await sandbox.calls.readFile(sandbox.path('d/.wh.x')), 'changed');
    t.is(await sandbox.calls.readFile(sandbox.path('.wh.dir/.wh..wh..opq')), 'made');
  },
  ({ backend }) => backend !== 'fuse-overlayfs',
);

mountTest(
  'names that begin with .wh. count as whiteouts when that is asked for, and not in an unmarked layer',
  async (t, create) => {
    const sandbox = await create({
      lowers: [
        { '.wh.gone': '', 'd/.wh.gone': '', 'd/seen': 'x', 'o/.wh..wh..opq': '', 'o/own': 'x' },
        { gone: 'x', 'd/gone': 'x', 'd/stay': 'x', 'o/hidden': 'x', 'o/sub/hidden': 'x' },
      ],
    });
    await sandbox.mount(['whiteouts=all']);
    const { calls } = sandbox;
    t.deepEqual(await calls.list(bytes(sandbox.merged)), ['d', 'o']);
    t.deepEqual(await calls.list(sandbox.path('d')), ['seen', 'stay']);
    t.deepEqual(await calls.list(sandbox.path('o')), ['own']);
    for (const name of ['gone', 'd/gone', '.wh.gone', 'd/.wh.gone', 'o/hidden', 'o/sub']) {
      await fails(t, 'ENOENT', calls.lstat(sandbox.path(name)), name);
    }
    await fails(t, 'EINVAL', calls.writeFile(sandbox.path('.wh.mine'), ''));
    await sandbox.remount(['whiteouts=auto']);
    t.deepEqual(await sandbox.calls.list(sandbox.path('o')), ['.wh..wh..opq', 'hidden', 'own', 'sub']);
  },
  OURS,
);

const peer = subjectNamed('fuse-overlayfs');

/** What it cannot do (modes of pipes, names with .wh.) it does not do. */
function tolerant(calls: SystemCalls): SystemCalls {
  const quiet =
    (call: (...args: unknown[]) => Promise<unknown>) =>
    (...args: unknown[]) =>
      call(...args).catch((error) => {
        if (!(error instanceof SystemCallError)) throw error;
      });
  return new Proxy(calls, { get: (target, name) => quiet(Reflect.get(target, name)) });
}

onSubject(
  { ...FUSE, missing: FUSE.missing ?? peer.missing },
  'a layer that fuse-overlayfs made is read as it meant it',
  async (t) => {
    const made = await createMountSandbox(t, peer, { lowers: LOWERS });
    await made.mount();
    await change(tolerant(made.calls), bytes(made.merged), false);
    // Times of its own changes are not yet those on disk when it shows them.
    const withoutTimes = (tree: readonly TreeEntry[]) =>
      comparable(tree.map((entry) => ({ ...entry, mtime: comparedTime(entry.mtime) })));
    const shown = withoutTimes(await made.tree());
    await made.unmount();
    const sandbox = made.mountedBy(FUSE);
    t.teardown(() => sandbox.dispose());
    await sandbox.mount(['whiteouts=all']);
    t.deepEqual(withoutTimes(await sandbox.tree()), shown);
  },
);

mountTest(
  'the second form of a whiteout hides too',
  async (t, create, { namespace }) => {
    const sandbox = await create({
      lowers: [
        {
          d: directory({ xattrs: { [`${namespace}.opaque`]: 'x' } }),
          'd/gone': file('', { xattrs: { [`${namespace}.whiteout`]: 'y' } }),
        },
        { 'd/gone': 'x', 'd/stay': 'x' },
      ],
    });
    await sandbox.mount();
    t.deepEqual(await sandbox.calls.list(sandbox.path('d')), ['stay']);
    await fails(t, 'ENOENT', sandbox.calls.lstat(sandbox.path('d/gone')));
  },
  ({ backend }) => backend === 'fuse' || backend === 'kernel' || backend === 'overlayfs',
);

mountTest(
  "the overlay's own attributes cannot be seen or forged",
  async (t, create, { namespace }) => {
    const sandbox = await create({
      lowers: [{ d: opaque(namespace), 'd/x': 'x', 'e/x': 'x', 'e/y': 'y' }, { 'd/hidden': 'x' }],
    });
    await sandbox.mount();
    const { calls } = sandbox;
    await calls.chmod(sandbox.path('d'), 0o700);
    await calls.chmod(sandbox.path('d/x'), 0o600);
    for (const name of ['d', 'd/x', 'e']) {
      const names = await calls.listxattr(sandbox.path(name));
      t.false(
        names.some((found) => found.startsWith(`${namespace}.`)),
        name,
      );
    }
    await calls.setxattr(sandbox.path('e'), `${namespace}.opaque`, 'y').catch(() => {});
    await calls.setxattr(sandbox.path('e/y'), `${namespace}.whiteout`, 'y').catch(() => {});
    await calls.setxattr(sandbox.path('e'), `${namespace}.redirect`, '/d').catch(() => {});
    await sandbox.remount();
    t.deepEqual(await sandbox.calls.list(sandbox.path('e')), ['x', 'y']);
    t.deepEqual(await sandbox.calls.list(sandbox.path('d')), ['x']);
  },
  ({ backend }) => backend !== 'fuse-overlayfs',
);

mountTest('a read-only mount of an upper shows it and keeps it', async (t, create) => {
  const sandbox = await create({ lowers: [{ a: 'a', b: 'b' }], upper: { own: 'own', b: whiteout() } });
  await sandbox.mount(['ro']);
  const { calls } = sandbox;
  t.deepEqual(await calls.list(bytes(sandbox.merged)), ['a', 'own']);
  for (const call of [
    calls.writeFile(sandbox.path('a'), 'x'),
    calls.writeFile(sandbox.path('own'), 'x'),
    calls.unlink(sandbox.path('own')),
    calls.mkdir(sandbox.path('new')),
  ]) {
    await fails(t, 'EROFS', call);
  }
});

async function sameHardLinks(t: ExecutionContext, sandbox: MountSandbox): Promise<void> {
  const [one, two] = [
    await sandbox.calls.stat(sandbox.path('one')),
    await sandbox.calls.stat(sandbox.path('two')),
  ];
  t.is(one.ino, two.ino);
  t.is(await sandbox.calls.readFile(sandbox.path('one')), await sandbox.calls.readFile(sandbox.path('two')));
}

mountTest('names of one file in the upper are one file after a remount', async (t, create, { backend }) => {
  const sandbox = await create({ lowers: [{ one: 'x' }], upper: { a: 'a', b: hardLink('a') } });
  await sandbox.mount();
  await sandbox.calls.link(sandbox.path('one'), sandbox.path('two'));
  await sandbox.calls.writeFile(sandbox.path('two'), 'changed');
  // In a user namespace a file goes by the number of the lower file that it was, until it is looked up anew.
  if (backend !== 'userns') await sameHardLinks(t, sandbox);
  await sandbox.remount();
  await sameHardLinks(t, sandbox);
  await sandbox.calls.writeFile(sandbox.path('a'), 'both');
  t.is(await sandbox.calls.readFile(sandbox.path('b')), 'both');
});
