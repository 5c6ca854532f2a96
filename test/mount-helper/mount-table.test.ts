import test from 'ava';
import fc from 'fast-check';
import {
  findMount,
  isWithin,
  type MountEntry,
  mountOf,
  mountsUpon,
  parseMountTable,
  readMountTable,
  superOption,
  unescapeField,
} from '../../src/mount-helper/mount-table.ts';

/** As the kernel's `mangle_path`. */
function escapeField(bytes: Uint8Array): string {
  return [...bytes]
    .map((byte) =>
      [0x20, 0x09, 0x0a, 0x5c, 0x23].includes(byte)
        ? `\\${byte.toString(8).padStart(3, '0')}`
        : String.fromCharCode(byte),
    )
    .join('');
}

function table(...lines: string[]): MountEntry[] {
  return parseMountTable(Buffer.from(`${lines.join('\n')}\n`, 'latin1'));
}

const path = (text: string) => Buffer.from(text);

test('a line with optional fields is read field by field', (t) => {
  const [entry, ...others] = table(
    '36 35 98:0 /sub /mnt\\040two rw,noatime master:1 shared:7 - ext3 /dev/root rw,errors=continue',
  );
  t.deepEqual(others, []);
  t.deepEqual(entry, {
    id: 36,
    parent: 35,
    device: '98:0',
    root: path('/sub'),
    mountPoint: path('/mnt two'),
    options: ['rw', 'noatime'],
    type: 'ext3',
    source: path('/dev/root'),
    superOptions: path('rw,errors=continue'),
  });
});

test('a source without a name is empty, and the options behind it are found', (t) => {
  const [unnamed] = table('36 35 0:5 / /a rw - tmpfs  rw,size=4k');
  t.is(unnamed?.source.length, 0);
  t.is(unnamed?.superOptions.toString(), 'rw,size=4k');
});

test('lines that are no mounts are passed over', (t) => {
  const lines = [
    '',
    'x',
    '1 2 3',
    '36 35 98:0 / /m rw master:1 ext3 /dev/root rw',
    'a b 0:1 / /m rw - t s o',
  ];
  t.deepEqual(table(...lines), []);
  t.is(table(...lines, '36 35 98:0 / /m rw - t s o').length, 1);
});

test('any bytes come back from their escapes', (t) => {
  fc.assert(
    fc.property(fc.uint8Array({ minLength: 1, maxLength: 60 }), (bytes) => {
      t.deepEqual(unescapeField(escapeField(bytes)), Buffer.from(bytes));
      const [entry] = table(`1 0 0:1 / /${escapeField(bytes)} rw - overlay overlay rw`);
      t.deepEqual(entry?.mountPoint, Buffer.concat([path('/'), bytes]));
    }),
  );
});

test('a backslash that begins no escape stays', (t) => {
  t.is(unescapeField('a\\9b\\04').toString(), 'a\\9b\\04');
});

test('of stacked mounts the one on top is found, whatever their order in the table', (t) => {
  const lower = '50 20 0:50 / /m rw - overlay one rw';
  const upper = '60 50 0:60 / /m rw - fuse.git2db-mount two rw';
  for (const lines of [
    [lower, upper],
    [upper, lower],
  ]) {
    t.is(findMount(table(...lines), path('/m'))?.id, 60);
  }
  t.is(findMount(table(lower, upper), path('/n')), undefined);
});

test('the mount of a path is the nearest above it, at a whole name', (t) => {
  const entries = table(
    '1 0 8:1 / / rw - ext4 a rw',
    '2 1 8:2 / /data rw - xfs b rw',
    '3 2 8:3 / /data/in rw - tmpfs c rw',
  );
  t.is(mountOf(entries, path('/data/input'))?.type, 'xfs');
  t.is(mountOf(entries, path('/data/in/x'))?.type, 'tmpfs');
  t.is(mountOf(entries, path('/data/in'))?.type, 'tmpfs');
  t.is(mountOf(entries, path('/dat'))?.type, 'ext4');
  t.deepEqual(
    mountsUpon(entries, entries[0]!).map(({ id }) => id),
    [2],
  );
});

test('a directory holds itself and what is below it, and not its neighbours', (t) => {
  t.true(isWithin(path('/a'), path('/a')));
  t.true(isWithin(path('/a'), path('/a/b')));
  t.false(isWithin(path('/a'), path('/ab')));
  t.false(isWithin(path('/a/b'), path('/a')));
  t.true(isWithin(path('/'), path('/a')));
});

test('an option of the file system is found by its whole name, with commas and spaces in its value', (t) => {
  const [entry] = table(
    '1 0 0:9 / /m rw - overlay overlay rw,lowerdir=/a\\040b:/c,upperdir=/u\\054v,workdir=/w,xino=off',
  );
  t.is(superOption(entry!, 'upperdir')?.toString(), '/u,v');
  t.is(superOption(entry!, 'lowerdir')?.toString(), '/a b:/c');
  t.is(superOption(entry!, 'dir'), undefined);
  t.is(superOption(entry!, 'rw'), undefined);
});

test('the table of this process has a root', (t) => {
  const root = findMount(readMountTable(), path('/'));
  t.truthy(root);
  t.regex(root!.device, /^\d+:\d+$/);
});
