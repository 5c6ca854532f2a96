import { chmodSync, existsSync, lstatSync, mkdirSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { cString, lsetxattr } from '../../src/mount-helper/system/libc.ts';
import { newEntry, rig, type Tree } from './helpers/overlay-rig.ts';
import { isRoot, rootOnly } from './helpers/scratch.ts';

const rootTest = isRoot ? test : test.skip;

function mark(path: string, attribute: string, value = 'y'): void {
  const code = lsetxattr(cString(path), cString(attribute), Buffer.from(value));
  if (code < 0) throw new Error(`setxattr ${attribute} on ${path}: ${code}`);
}

test('names come from the topmost layer that has them, directories from all', (t) => {
  const r = rig(t, {
    upper: { 'd/u': 'upper', both: 'upper' },
    lowers: [
      { 'd/m': 'middle', both: 'middle', 'x/deep/one': '1' },
      { 'd/l': 'lower', 'd/m': 'hidden', 'x/deep/two': '2', l: 'lower' },
    ],
  });
  t.deepEqual(r.dump(), {
    both: 'upper',
    'd/': '',
    'd/l': 'lower',
    'd/m': 'middle',
    'd/u': 'upper',
    l: 'lower',
    'x/': '',
    'x/deep/': '',
    'x/deep/one': '1',
    'x/deep/two': '2',
  });
  t.is(r.find('nothing'), 0);
  t.is(r.find('d/nothing'), 0);
});

test('a file hides a directory below it, and a directory a file', (t) => {
  const r = rig(t, { upper: { a: 'file', 'b/x': 'x' }, lowers: [{ 'a/y': 'y', b: 'file' }] });
  t.deepEqual(r.dump(), { a: 'file', 'b/': '', 'b/x': 'x' });
});

test('a file between two directories of one name ends the merging', (t) => {
  const r = rig(t, { upper: { 'd/u': '' }, lowers: [{ d: 'file' }, { 'd/l': '' }] });
  t.deepEqual(r.names('d'), ['u']);
});

test('device whiteouts hide names of the layers below, in every layer', (t) => {
  const r = rig(t, {
    upper: { a: null, 'd/b': null },
    lowers: [
      { a: '1', 'd/b': '1', 'd/c': null, 'd/k': '1' },
      { 'd/c': '2', 'd/b': '2', 'e/x': '2' },
    ],
  });
  t.deepEqual(r.dump(), { 'd/': '', 'd/k': '1', 'e/': '', 'e/x': '2' });
  t.is(r.find('a'), 0);
  t.is(r.find('d/c'), 0);
});

test('a whiteout cannot be made by hand', (t) => {
  const r = rig(t, { lowers: [{ a: '' }] });
  t.is(
    r.say(() => r.fs.mknod(1, Buffer.from('c'), 0o020600, 0, 0, r.caller, newEntry())),
    'EPERM',
  );
});

for (const [attribute, namespace] of [
  ['trusted.overlay.opaque', 'trusted'],
  ['user.overlay.opaque', 'user'],
  ['user.fuseoverlayfs.opaque', 'trusted'],
] as const) {
  rootTest(`${attribute} ends the merging${rootOnly}`, (t) => {
    const r = rig(t, { lowers: [{ 'd/l': '' }] }, { namespaceOfMarks: namespace });
    mkdirSync(join(r.upper, 'd'));
    mark(join(r.upper, 'd'), attribute);
    writeFileSync(join(r.upper, 'd/u'), '');
    t.deepEqual(r.names('d'), ['u']);
    t.is(r.find('d/l'), 0);
  });
}

rootTest(`marks of users are not believed in an upper whose marks are trusted${rootOnly}`, (t) => {
  const r = rig(t, { lowers: [{ 'd/l': '' }] });
  mkdirSync(join(r.upper, 'd'));
  mark(join(r.upper, 'd'), 'user.overlay.opaque');
  t.deepEqual(r.names('d'), ['l']);
});

rootTest(`attribute whiteouts count in directories marked opaque=x only${rootOnly}`, (t) => {
  const lower: Tree = { 'd/a': '1', 'd/b': '1', 'e/a': '1' };
  const top: Tree = { 'd/a': '', 'd/b': '', 'e/a': '' };
  const r = rig(t, { lowers: [top, lower] });
  mark(join(r.lowers[0]!, 'd'), 'trusted.overlay.opaque', 'x');
  mark(join(r.lowers[0]!, 'd/a'), 'trusted.overlay.whiteout', '');
  mark(join(r.lowers[0]!, 'e/a'), 'trusted.overlay.whiteout', '');
  t.deepEqual(r.dump(), { 'd/': '', 'd/b': '', 'e/': '', 'e/a': '' });
  t.is(r.find('d/a'), 0);
});

test('names with .wh. are whiteouts where they count, and names elsewhere', (t) => {
  const trees = {
    lowers: [
      {
        '.wh.a': '',
        'd/.wh..wh..opq': '',
        'd/n': '',
        'e/.wh.x': '',
        'e/x': 'same layer',
        '.wh.f': '',
        'f/n': '',
      },
      { a: '', 'd/o': '', 'e/x': 'below', 'e/y': '', 'f/o': '' },
    ],
  };
  const counted = rig(t, trees, { readsNames: true });
  t.deepEqual(counted.dump(), {
    'd/': '',
    'd/n': '',
    'e/': '',
    'e/x': 'same layer',
    'e/y': '',
    'f/': '',
    'f/n': '',
  });
  t.is(counted.find('.wh.a'), 0);
  const plain = rig(t, trees);
  t.deepEqual(plain.names(), ['.wh.a', '.wh.f', 'a', 'd', 'e', 'f']);
  t.deepEqual(plain.names('d'), ['.wh..wh..opq', 'n', 'o']);
  t.deepEqual(plain.names('f'), ['n', 'o']);
});

rootTest(`redirects of the kernel are followed: a path, a name, and from layer to layer${rootOnly}`, (t) => {
  const r = rig(t, {
    upper: { 'moved/new': 'u', 'sub/renamed/u': '' },
    lowers: [
      { 'old/place/one': '1', 'sub/orig/m': '' },
      { 'old/place/two': '2', 'first/place/three': '3', 'sub/orig/l': '' },
    ],
  });
  mark(join(r.upper, 'moved'), 'trusted.overlay.redirect', '/old/place');
  mark(join(r.upper, 'sub/renamed'), 'trusted.overlay.redirect', 'orig');
  t.deepEqual(r.names('moved'), ['new', 'one', 'two']);
  t.is(r.read('moved/two'), '2');
  t.deepEqual(r.names('sub/renamed'), ['l', 'm', 'u']);
  const chain = rig(t, {
    upper: { 'top/u': '' },
    lowers: [{ 'mid/m': '' }, { 'first/place/three': '3', 'mid/no': '' }],
  });
  mark(join(chain.upper, 'top'), 'trusted.overlay.redirect', '/mid');
  mark(join(chain.lowers[0]!, 'mid'), 'trusted.overlay.redirect', '/first/place');
  t.deepEqual(chain.names('top'), ['m', 'three', 'u']);
});

rootTest(`a redirect in the namespace of users is not followed${rootOnly}`, (t) => {
  const r = rig(
    t,
    { upper: { 'a/u': '' }, lowers: [{ 'secret/x': '', 'a/l': '' }] },
    { namespaceOfMarks: 'user' },
  );
  mark(join(r.upper, 'a'), 'user.overlay.redirect', '/secret');
  t.deepEqual(r.names('a'), ['l', 'u']);
});

rootTest(`a metadata-only copy has its own attributes and the data of the layer below${rootOnly}`, (t) => {
  const text = 'data '.repeat(4000);
  const r = rig(t, { upper: { copy: '', moved: '' }, lowers: [{ copy: text, 'd/orig': text }] });
  truncateSync(join(r.upper, 'copy'), text.length);
  truncateSync(join(r.upper, 'moved'), text.length);
  chmodSync(join(r.upper, 'copy'), 0o600);
  mark(join(r.upper, 'copy'), 'trusted.overlay.metacopy', '');
  mark(join(r.upper, 'moved'), 'trusted.overlay.metacopy', '');
  mark(join(r.upper, 'moved'), 'trusted.overlay.redirect', '/d/orig');
  t.is(r.stat('copy').mode & 0o777, 0o600);
  t.is(r.read('copy'), text);
  t.is(r.read('moved'), text);
  const reader = r.open('copy', 0);
  r.write('copy', 'DATA', 1);
  t.is(r.read('copy'), `DATA${text.slice(4)}`);
  t.is(r.readFrom(reader), `DATA${text.slice(4)}`);
  r.fs.release(reader);
  t.deepEqual(r.listxattr('copy'), []);
  t.is(r.getxattr('copy', 'trusted.overlay.metacopy'), 'ENODATA');
  const again = rig(t, { lowers: [{}] }, { at: r.base });
  t.is(again.read('copy'), `DATA${text.slice(4)}`);
});

test('a reading gives each name once while entries come and go', (t) => {
  const lower: Tree = {};
  for (let index = 0; index < 40; index++) lower[`d/l${index}`] = '';
  const upper: Tree = {};
  for (let index = 0; index < 40; index++) upper[`d/u${index}`] = '';
  const r = rig(t, { upper, lowers: [lower] });
  const handle = r.opendir('d');
  const seen: string[] = [];
  let next = 0;
  for (;;) {
    let taken = 0;
    r.must(() =>
      r.fs.readdir(handle, next, false, {
        add: (name, length, _ino, _type, nextOffset) => {
          if (taken === 7) return false;
          taken++;
          seen.push(Buffer.from(name.subarray(0, length)).toString());
          next = nextOffset;
          return true;
        },
        addWithEntry: () => false,
      }),
    );
    if (taken === 0) break;
    const last = seen.at(-1)!;
    if (last.length > 2) t.is(r.unlink(`d/${last}`), 0);
    r.create(`d/new${seen.length}`);
  }
  const old = seen.filter((name) => /^[lu]\d/.test(name));
  t.is(new Set(seen).size, seen.length);
  t.is(old.length, 80);
  // From the start, the list is made anew.
  const again = r.readAll(handle, false, 1000).map(({ name }) => name);
  t.true(again.some((name) => name.startsWith('new')));
  t.true(again.length === new Set(again).size);
});

test('an entry of a listing has the number and type that stat shows', (t) => {
  const r = rig(t, {
    upper: { 'd/u': '', 'd/ul': { link: 'u' } },
    lowers: [{ 'd/l': '', 'd/sub/': '', 'd/ll': { link: 'x' } }],
  });
  r.write('d/l', 'copied up', 1);
  r.mkdir('d/sub/new');
  for (const withEntries of [false, true]) {
    for (const { name, ino, type } of r.entries('d', withEntries)) {
      const stat = r.stat(`d/${name}`);
      t.is(stat.ino, ino, name);
      t.is(stat.mode >> 12, type, name);
    }
  }
  t.deepEqual(r.names('d'), ['l', 'll', 'sub', 'u', 'ul']);
});

test('reading with entries counts one lookup for each that was taken', (t) => {
  const r = rig(t, { lowers: [{ a: '', b: '', c: '', 'd/': '' }] });
  const handle = r.opendir('');
  r.readAll(handle, true, 2);
  r.fs.releasedir(handle);
  t.is(r.fs.size, 5);
  for (const name of ['a', 'b', 'c', 'd']) {
    const node = r.node(name);
    r.fs.forget(node, 1);
    t.is(r.node(name), node);
    r.fs.forget(node, 3);
  }
  t.is(r.fs.size, 1);
});

test('names are bytes', (t) => {
  const name = Buffer.from([0xff, 0xfe, 0x20, 0xc3]);
  const r = rig(t, {});
  writeFileSync(Buffer.concat([Buffer.from(`${r.lowers[0]!}/`), name]), 'raw');
  const found = r.entries('');
  t.deepEqual(
    found.map((each) => each.name),
    [name.toString('latin1')],
  );
  const looked = newEntry();
  t.is(
    r.must(() => r.fs.lookup(1, name, r.caller, looked)),
    0,
  );
  t.not(looked.node, 0);
  t.is(
    r.say(() => r.fs.unlink(1, name, r.caller)),
    0,
  );
  t.deepEqual(r.names(), []);
});

test('a long name is found, and one that is too long refused', (t) => {
  const longest = 'n'.repeat(255);
  const r = rig(t, { lowers: [{ [longest]: 'x' }] });
  t.is(r.read(longest), 'x');
  t.throws(() => r.find('n'.repeat(256)), { message: 'ENAMETOOLONG' });
  t.is(r.unlink(longest), 0);
  t.is(lstatSync(join(r.upper, longest)).isCharacterDevice(), true);
});

test('a directory deeper than a path may be long works', (t) => {
  const r = rig(t, { lowers: [{ 'top/': '' }] }, { openDirectories: 64 });
  let parent = r.node('top');
  const name = Buffer.from('d'.repeat(200));
  for (let depth = 0; depth < 100; depth++) {
    const made = newEntry();
    r.must(() => r.fs.mkdir(parent, name, 0o755, 0, r.caller, made));
    parent = made.node;
  }
  const made = newEntry();
  t.is(
    r.say(() => r.fs.symlink(parent, Buffer.from('l'), Buffer.from('target'), r.caller, made)),
    0,
  );
  const out = Buffer.alloc(100);
  t.is(
    r.must(() => r.fs.readlink(made.node, out)),
    6,
  );
});

test('a merged directory has link count 1, one of a single layer its own', (t) => {
  const r = rig(t, { upper: { 'd/a/': '' }, lowers: [{ 'd/b/': '', 'only/a/': '' }] });
  t.is(r.stat('d').nlink, 1);
  t.is(r.stat('only').nlink, 3);
  t.is(r.stat('d/a').nlink, statSync(join(r.upper, 'd/a')).nlink);
});

test('without an upper nothing can be changed', (t) => {
  const r = rig(t, { lowers: [{ a: 'x', 'd/b': '' }, { c: '' }] }, { readsOnly: true });
  t.deepEqual(r.dump(), { a: 'x', c: '', 'd/': '', 'd/b': '' });
  t.is(r.unlink('a'), 'EROFS');
  t.is(r.rmdir('d'), 'EROFS');
  t.is(r.rename('a', 'b'), 'EROFS');
  t.throws(() => r.create('new'), { message: 'EROFS' });
  t.throws(() => r.open('a', 1), { message: 'EROFS' });
  t.throws(() => r.setattr('a', { valid: 1, mode: 0o600 }), { message: 'EROFS' });
  t.is(r.setxattr('a', 'user.x', 'y'), 'EROFS');
  t.false(existsSync(join(r.lowers[0]!, 'new')));
});
