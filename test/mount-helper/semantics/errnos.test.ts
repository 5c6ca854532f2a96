/** The error of each system call for each kind of wrong request, on names of both layers. */
import type { SystemCalls } from '../helpers/driver.ts';
import { file, symlink } from '../helpers/layers.ts';
import { type Case, fails, OverlaySuite } from '../helpers/suite.ts';

const suite = new OverlaySuite();

type Request = readonly [
  what: string,
  errno: string | readonly string[],
  (calls: SystemCalls, c: Case) => Promise<unknown>,
];

const LAYER = {
  file: file('content', { mode: 0o644 }),
  'dir/in': 'x',
  'dir/sub/x': 'x',
  link: symlink('file'),
  'dir-link': symlink('dir'),
  dangling: symlink('none'),
  loop: symlink('loop2'),
  loop2: symlink('loop'),
};

const TOO_LONG = 'n'.repeat(256);

/** What every call says to a path that leads nowhere. */
function badPaths(call: (calls: SystemCalls, path: string, c: Case) => Promise<unknown>): Request[] {
  return [
    ['a missing directory', 'ENOENT', (calls, c) => call(calls, c.at('none/x'), c)],
    ['a file as directory', 'ENOTDIR', (calls, c) => call(calls, c.at('file/x'), c)],
    ['links in a circle', 'ELOOP', (calls, c) => call(calls, c.at('loop/x'), c)],
    ['a name too long', 'ENAMETOOLONG', (calls, c) => call(calls, c.at(TOO_LONG), c)],
    ['a directory name too long', 'ENAMETOOLONG', (calls, c) => call(calls, c.at(`${TOO_LONG}/x`), c)],
    ['a path too long', 'ENAMETOOLONG', (calls, c) => call(calls, c.at('dir/../'.repeat(600)), c)],
  ];
}

const missing = (call: (calls: SystemCalls, path: string) => Promise<unknown>): Request => [
  'a missing name',
  'ENOENT',
  (calls, c) => call(calls, c.at('none')),
];

const CALLS: Readonly<Record<string, readonly Request[]>> = {
  open: [
    ...badPaths((calls, path) => calls.open(path)),
    missing((calls, path) => calls.open(path)),
    ['a dangling link', 'ENOENT', (calls, { at }) => calls.open(at('dangling'))],
    ['links in a circle at the end', 'ELOOP', (calls, { at }) => calls.open(at('loop'))],
    ['O_NOFOLLOW on a link', 'ELOOP', (calls, { at }) => calls.open(at('link'), 'RDONLY|NOFOLLOW')],
    ['O_DIRECTORY on a file', 'ENOTDIR', (calls, { at }) => calls.open(at('file'), 'RDONLY|DIRECTORY')],
    ['a directory to write', 'EISDIR', (calls, { at }) => calls.open(at('dir'), 'WRONLY')],
    ['a directory to append', 'EISDIR', (calls, { at }) => calls.open(at('dir'), 'RDWR|APPEND')],
    ['O_TRUNC on a directory', 'EISDIR', (calls, { at }) => calls.open(at('dir'), 'RDONLY|TRUNC')],
    ['O_CREAT on a directory', 'EISDIR', (calls, { at }) => calls.open(at('dir'), 'RDONLY|CREAT')],
    ['O_EXCL on what exists', 'EEXIST', (calls, { at }) => calls.open(at('file'), 'WRONLY|CREAT|EXCL')],
    ['O_EXCL on a directory', 'EEXIST', (calls, { at }) => calls.open(at('dir'), 'WRONLY|CREAT|EXCL')],
    ['O_EXCL on a link', 'EEXIST', (calls, { at }) => calls.open(at('dangling'), 'WRONLY|CREAT|EXCL')],
    ['O_TMPFILE in a file', 'ENOTDIR', (calls, { at }) => calls.open(at('file'), 'RDWR|TMPFILE')],
    ['a slash after a file', 'ENOTDIR', (calls, { at }) => calls.open(at('file/'))],
  ],
  'read and write': [
    ['reading what is open to write', 'EBADF', withFile('WRONLY', (calls, fd) => calls.read(fd, 1))],
    ['writing what is open to read', 'EBADF', withFile('RDONLY', (calls, fd) => calls.write(fd, 'x'))],
    [
      'truncating what is open to read',
      ['EINVAL', 'EBADF'],
      withFile('RDONLY', (calls, fd) => calls.ftruncate(fd, 0)),
    ],
    ['reading a directory', 'EISDIR', withDirectory((calls, fd) => calls.read(fd, 1))],
    [
      'seeking behind the end for data',
      'ENXIO',
      withFile('RDONLY', (calls, fd) => calls.lseek(fd, 100, 'DATA')),
    ],
    ['seeking before the start', 'EINVAL', withFile('RDONLY', (calls, fd) => calls.lseek(fd, -1, 'SET'))],
  ],
  stat: [
    ...badPaths((calls, path) => calls.stat(path)),
    missing((calls, path) => calls.stat(path)),
    ['a dangling link', 'ENOENT', (calls, { at }) => calls.stat(at('dangling'))],
  ],
  truncate: [
    ...badPaths((calls, path) => calls.truncate(path, 0)),
    missing((calls, path) => calls.truncate(path, 0)),
    ['a directory', 'EISDIR', (calls, { at }) => calls.truncate(at('dir'), 0)],
    ['a negative size', 'EINVAL', (calls, { at }) => calls.truncate(at('file'), -1)],
    ['a size without bounds', ['EFBIG', 'EINVAL'], (calls, { at }) => calls.truncate(at('file'), 2 ** 62)],
  ],
  mkdir: [
    ...badPaths((calls, path) => calls.mkdir(path)),
    ['a name of a file', 'EEXIST', (calls, { at }) => calls.mkdir(at('file'))],
    ['a name of a directory', 'EEXIST', (calls, { at }) => calls.mkdir(at('dir'))],
    ['a name of a dangling link', 'EEXIST', (calls, { at }) => calls.mkdir(at('dangling'))],
    ['.', 'EEXIST', (calls, { at }) => calls.mkdir(at('dir/.'))],
  ],
  rmdir: [
    ...badPaths((calls, path) => calls.rmdir(path)),
    missing((calls, path) => calls.rmdir(path)),
    ['a file', 'ENOTDIR', (calls, { at }) => calls.rmdir(at('file'))],
    ['a link to a directory', 'ENOTDIR', (calls, { at }) => calls.rmdir(at('dir-link'))],
    ['a directory that is not empty', 'ENOTEMPTY', (calls, { at }) => calls.rmdir(at('dir'))],
    ['.', 'EINVAL', (calls, { at }) => calls.rmdir(at('dir/.'))],
    ['..', 'ENOTEMPTY', (calls, { at }) => calls.rmdir(at('dir/sub/..'))],
    ['the mount itself', ['EBUSY', 'EACCES'], (calls, { sandbox }) => calls.rmdir(sandbox.merged)],
  ],
  unlink: [
    ...badPaths((calls, path) => calls.unlink(path)),
    missing((calls, path) => calls.unlink(path)),
    ['a directory', 'EISDIR', (calls, { at }) => calls.unlink(at('dir'))],
    ['a slash after a file', 'ENOTDIR', (calls, { at }) => calls.unlink(at('file/'))],
  ],
  rename: [
    ...badPaths((calls, path) => calls.rename(path, `${path}x`)),
    ...badPaths((calls, path, { at }) => calls.rename(at('file'), path)).filter(
      ([what]) => what !== 'a path too long',
    ),
    missing((calls, path) => calls.rename(path, `${path}2`)),
    ['a directory over a file', 'ENOTDIR', (calls, { at }) => calls.rename(at('dir'), at('file'))],
    ['a file over a directory', 'EISDIR', (calls, { at }) => calls.rename(at('file'), at('dir'))],
    ['a directory into itself', 'EINVAL', (calls, { at }) => calls.rename(at('dir'), at('dir/sub/x2'))],
    ['over a directory above', 'ENOTEMPTY', (calls, { at }) => calls.rename(at('dir/sub'), at('dir'))],
    ['.', 'EBUSY', (calls, { at }) => calls.rename(at('dir/.'), at('dir2'))],
    ['..', 'EBUSY', (calls, { at }) => calls.rename(at('file'), at('dir/..'))],
    [
      'out of the mount',
      'EXDEV',
      (calls, { at, sandbox }) => calls.rename(at('file'), `${sandbox.dir}/tmp/x`),
    ],
    ['a slash after a new file name', 'ENOTDIR', (calls, { at }) => calls.rename(at('file'), at('new/'))],
  ],
  renameat2: [
    ['NOREPLACE over a name', 'EEXIST', (calls, { at }) => calls.renameat2(at('file'), at('dir'), 1)],
    ['NOREPLACE of nothing', 'ENOENT', (calls, { at }) => calls.renameat2(at('none'), at('new'), 1)],
    ['EXCHANGE with nothing', 'ENOENT', (calls, { at }) => calls.renameat2(at('file'), at('none'), 2)],
    ['NOREPLACE and EXCHANGE', 'EINVAL', (calls, { at }) => calls.renameat2(at('file'), at('dir'), 3)],
    ['EXCHANGE with what holds it', 'EINVAL', (calls, { at }) => calls.renameat2(at('dir'), at('dir/in'), 2)],
    [
      'EXCHANGE of what it is held by',
      ['ENOTEMPTY', 'EINVAL'],
      (calls, { at }) => calls.renameat2(at('dir/in'), at('dir'), 2),
    ],
    ['flags that nobody knows', 'EINVAL', (calls, { at }) => calls.renameat2(at('file'), at('new'), 64)],
  ],
  link: [
    ...badPaths((calls, path, { at }) => calls.link(at('file'), path)),
    ...badPaths((calls, path, { at }) => calls.link(path, at('new'))),
    ['to a missing file', 'ENOENT', (calls, { at }) => calls.link(at('none'), at('new'))],
    ['over a name', 'EEXIST', (calls, { at }) => calls.link(at('file'), at('link'))],
    ['to a directory', 'EPERM', (calls, { at }) => calls.link(at('dir'), at('new'))],
    ['out of the mount', 'EXDEV', (calls, { at, sandbox }) => calls.link(at('file'), `${sandbox.dir}/tmp/x`)],
  ],
  symlink: [
    ...badPaths((calls, path) => calls.symlink('x', path)),
    ['over a name', 'EEXIST', (calls, { at }) => calls.symlink('x', at('file'))],
    ['a target too long', 'ENAMETOOLONG', (calls, { at }) => calls.symlink('x'.repeat(4096), at('new'))],
    ['an empty target', 'ENOENT', (calls, { at }) => calls.symlink('', at('new'))],
  ],
  readlink: [
    ...badPaths((calls, path) => calls.readlink(path)),
    missing((calls, path) => calls.readlink(path)),
    ['a file', 'EINVAL', (calls, { at }) => calls.readlink(at('file'))],
    ['a directory', 'EINVAL', (calls, { at }) => calls.readlink(at('dir'))],
  ],
  mknod: [
    ...badPaths((calls, path) => calls.mknod(path, 0o10644)),
    ['over a name', 'EEXIST', (calls, { at }) => calls.mknod(at('file'), 0o10644)],
    ['a directory', ['EPERM', 'EINVAL'], (calls, { at }) => calls.mknod(at('new'), 0o40755)],
  ],
  'chmod, chown and utimens': [
    ...badPaths((calls, path) => calls.chmod(path, 0o644)),
    ...badPaths((calls, path, { subject }) => calls.lchown(path, subject.uid, subject.gid)),
    ...badPaths((calls, path) => calls.utimens(path, 'now', 'now')),
    missing((calls, path) => calls.chmod(path, 0o644)),
    missing((calls, path) => calls.utimens(path, 'now', 'now')),
  ],
  'extended attributes': [
    ...badPaths((calls, path) => calls.getxattr(path, 'user.x')),
    missing((calls, path) => calls.setxattr(path, 'user.x', '1')),
    missing((calls, path) => calls.listxattr(path)),
    ['reading one that is not there', 'ENODATA', (calls, { at }) => calls.getxattr(at('file'), 'user.none')],
    [
      'removing one that is not there',
      'ENODATA',
      (calls, { at }) => calls.removexattr(at('file'), 'user.none'),
    ],
    [
      'replacing one that is not there',
      'ENODATA',
      (calls, { at }) => calls.setxattr(at('file'), 'user.none', '1', 2),
    ],
    ['a name without a class', 'EOPNOTSUPP', (calls, { at }) => calls.setxattr(at('file'), 'none', '1')],
    ['one of a link', 'EPERM', (calls, { at }) => calls.setxattr(at('link'), 'user.x', '1')],
    ['a name too long', 'ERANGE', (calls, { at }) => calls.setxattr(at('file'), `user.${TOO_LONG}`, '1')],
    ['a value too long', 'E2BIG', (calls, { at }) => calls.setxattr(at('file'), 'user.x', 'x'.repeat(65537))],
  ],
  directories: [
    ...badPaths((calls, path) => calls.list(path)),
    missing((calls, path) => calls.list(path)),
    ['listing a file', 'ENOTDIR', (calls, { at }) => calls.list(at('file'))],
  ],
};

function withFile(flags: string, call: (calls: SystemCalls, fd: number) => Promise<unknown>) {
  return async (calls: SystemCalls, { at }: Case) =>
    closing(calls, await calls.open(at('file'), flags), call);
}

function withDirectory(call: (calls: SystemCalls, fd: number) => Promise<unknown>) {
  return async (calls: SystemCalls, { at }: Case) =>
    closing(calls, await calls.open(at('dir'), 'RDONLY|DIRECTORY'), call);
}

async function closing(
  calls: SystemCalls,
  fd: number,
  call: (calls: SystemCalls, fd: number) => Promise<unknown>,
): Promise<void> {
  try {
    await call(calls, fd);
  } finally {
    await calls.close(fd);
  }
}

for (const [call, requests] of Object.entries(CALLS)) {
  for (const layer of ['lower', 'upper'] as const) {
    suite.test(`errors of ${call}, on names of the ${layer} layer`, { [layer]: LAYER }, async (t, c) => {
      for (const [what, errno, request] of requests) await fails(t, errno, request(c.calls, c), what);
      t.is((await c.calls.run(['find', c.at(), '-mindepth', '1'])).stdout.split('\n').length - 1, 10);
      t.is(await c.calls.readFile(c.at('file')), 'content');
    });
  }
}

suite.test(
  'attributes are created, replaced and removed as asked',
  { lower: { f: file('x', { xattrs: { 'user.low': 'low', 'user.empty': '' } }), d: { type: 'directory' } } },
  async (t, { calls, at }) => {
    await fails(t, 'EEXIST', calls.setxattr(at('f'), 'user.low', 'x', 1));
    await calls.setxattr(at('f'), 'user.low', 'changed', 2);
    await calls.setxattr(at('f'), 'user.new', 'new', 1);
    t.deepEqual(await calls.listxattr(at('f')), ['user.empty', 'user.low', 'user.new']);
    t.is(await calls.getxattr(at('f'), 'user.empty'), '');
    await calls.removexattr(at('f'), 'user.low');
    await fails(t, 'ENODATA', calls.getxattr(at('f'), 'user.low'));
    const large = 'v'.repeat(2000);
    await calls.setxattr(at('d'), 'user.large', large);
    t.is(await calls.getxattr(at('d'), 'user.large'), large);
  },
);
