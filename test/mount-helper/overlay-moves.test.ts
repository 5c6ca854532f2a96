/**
 * Directories of lower layers, moved without a redirect: a copy that is made in work, in many steps, and put
 * in place in one.
 */
import { execFileSync } from 'node:child_process';
import { chmodSync, readdirSync, utimesSync } from 'node:fs';
import { join } from 'node:path';
import { isDeepStrictEqual } from 'node:util';
import test, { type ExecutionContext } from 'ava';
import { DEFERRED } from '../../src/mount-helper/fuse/file-system.ts';
import { ENOSPC, ENOTEMPTY } from '../../src/mount-helper/system/errno.ts';
import { newEntry, newOpen, type Rig, remount, rig } from './helpers/overlay-rig.ts';

/** Copying this is handed off, whatever the file system. */
const LARGE = 'L'.repeat(3 << 20);
const BY_COPY = { canRedirect: false, namespaceOfMarks: 'user' } as const;
const EXCHANGE = 2;
/** Changes that a listing with contents does not show, or that are refused. */
const WITHOUT_TRACE = [
  'a file without a name',
  'a directory removed',
  'a lower file opened for writing',
  'an attribute of a lower directory',
  'an attribute of a directory of the upper',
];

/** `d` has parts in all layers, and `deep` in one alone. */
const LAYERS = {
  upper: { 'd/u': 'of the upper', 'd/own/o': 'o', 'd/gone': null },
  lowers: [{ 'd/large': LARGE, 'd/sub/deep/f': 'f', 'd/gone': 'x', 'd/a': 'a', e: 'e' }, { 'd/z': 'z' }],
} as const;

const SHOWN = {
  'd/': '',
  'd/a': 'a',
  'd/large': 'large',
  'd/own/': '',
  'd/own/o': 'o',
  'd/sub/': '',
  'd/sub/deep/': '',
  'd/sub/deep/f': 'f',
  'd/u': 'of the upper',
  'd/z': 'z',
  e: 'e',
};

function under(name: string, tree: Record<string, string>): Record<string, string> {
  return Object.fromEntries(
    Object.entries(tree).map(([path, text]) => [path.replace(/^d\//, `${name}/`), text]),
  );
}

/** The large file is not told in full. */
function shownBy(r: Rig): Record<string, string> {
  const shown = Object.entries(r.dump());
  return Object.fromEntries(shown.map(([path, text]) => [path, text.startsWith('LLL') ? 'large' : text]));
}

/** Names, types, times, numbers and contents of a tree on the disk. */
function onDisk(path: string): string {
  return execFileSync('find', ['.', '-printf', '%p %y %m %n %T@ %i %s\n'], { cwd: path, encoding: 'utf8' });
}

function inWork({ base }: Rig): string[] {
  return readdirSync(join(base, 'work', 'git2db'));
}

/** Begins to rename, and goes on until something is being copied. Whoever calls it again is that request. */
function beginRename(t: ExecutionContext, r: Rig, from: string, to: string): () => number {
  const request = ++r.waiting.request;
  const ask = () => {
    r.waiting.request = request;
    return r.fs.rename(1, Buffer.from(from), 1, Buffer.from(to), 0, r.caller);
  };
  t.is(ask(), DEFERRED);
  return ask;
}

function finish(r: Rig, ask: () => number): number {
  for (;;) {
    r.waiting.runAll();
    const code = ask();
    if (code !== DEFERRED) return code;
  }
}

test('until a directory is copied as a whole, the upper is what it was', (t) => {
  const r = rig(t, LAYERS, BY_COPY);
  const before = { upper: onDisk(r.upper), shown: shownBy(r) };
  t.deepEqual(before.shown, SHOWN);
  const ask = beginRename(t, r, 'd', 'moved');
  for (let steps = 0; ; steps++) {
    // Files of the upper get one more name meanwhile.
    t.is(onDisk(r.upper).replaceAll(/^(\.\/d\/(?:u|own\/o) f \d+) 2/gm, '$1 1'), before.upper);
    t.deepEqual(shownBy(r), SHOWN);
    r.waiting.runAll();
    const code = ask();
    if (code === DEFERRED) continue;
    t.is(code, 0);
    t.true(steps > 0);
    break;
  }
  t.deepEqual(shownBy(r), under('moved', SHOWN));
  t.deepEqual(shownBy(remount(t, r, BY_COPY)), under('moved', SHOWN));
});

test('a server that dies while it copies a directory leaves the upper as it was', (t) => {
  const r = rig(t, LAYERS, BY_COPY);
  const before = onDisk(r.upper);
  beginRename(t, r, 'd', 'moved');
  // Nothing is cleared: the next one finds what a kill leaves.
  const next = rig(t, { lowers: [{}, {}] }, { ...BY_COPY, at: r.base });
  t.deepEqual(shownBy(next), SHOWN);
  t.is(onDisk(next.upper), before);
  t.deepEqual(inWork(next), []);
  t.is(next.rename('d', 'moved'), 0);
  t.deepEqual(shownBy(next), under('moved', SHOWN));
});

test('a copy of a directory that fails leaves nothing behind', (t) => {
  const r = rig(t, LAYERS, BY_COPY);
  const before = onDisk(r.upper);
  r.waiting.failWith = -ENOSPC;
  t.is(r.rename('d', 'moved'), 'ENOSPC');
  t.is(onDisk(r.upper), before);
  t.deepEqual(inWork(r), []);
  t.deepEqual(shownBy(r), SHOWN);
  r.waiting.failWith = undefined;
  t.is(r.rename('d', 'moved'), 0);
  t.deepEqual(shownBy(r), under('moved', SHOWN));
});

type Change = (r: Rig, at: Record<'d' | 'own' | 'a' | 'sub', number>) => number;

const CHANGES: Readonly<Record<string, Change>> = {
  'a new file': (r, { d }) =>
    r.fs.create(d, Buffer.from('new'), 2, 0o644, 0, r.caller, newEntry(), newOpen()),
  'a new directory': (r, { own }) => r.fs.mkdir(own, Buffer.from('new'), 0o755, 0, r.caller, newEntry()),
  'a file without a name': (r, { d }) => r.fs.tmpfile(d, 2, 0o644, 0, r.caller, newEntry(), newOpen()),
  'a link into it': (r, { d }) => r.fs.link(r.node('e'), d, Buffer.from('new'), r.caller, newEntry()),
  'a file removed': (r, { d }) => r.fs.unlink(d, Buffer.from('u'), r.caller),
  'a directory removed': (r, { d }) => r.fs.rmdir(d, Buffer.from('own'), r.caller),
  'a rename out of it': (r, { d }) => r.fs.rename(d, Buffer.from('u'), 1, Buffer.from('new'), 0, r.caller),
  'a rename into it': (r, { own }) => r.fs.rename(1, Buffer.from('e'), own, Buffer.from('o'), 0, r.caller),
  'a rename of a directory in it': (r, { d }) =>
    r.fs.rename(d, Buffer.from('sub'), d, Buffer.from('new'), 0, r.caller),
  'a lower file opened for writing': (r, { a }) => r.fs.open(a, 1, r.caller, newOpen()),
  'an attribute of a lower directory': (r, { sub }) =>
    r.fs.setxattr(sub, Buffer.from('user.x'), Buffer.from('1'), 0, 0, r.caller),
  'an attribute of a directory of the upper': (r, { own }) =>
    r.fs.setxattr(own, Buffer.from('user.x'), Buffer.from('1'), 0, 0, r.caller),
};

for (const [what, change] of Object.entries(CHANGES)) {
  test(`while a directory is copied, ${what} waits until it is moved`, (t) => {
    const r = rig(t, LAYERS, BY_COPY);
    const at = { d: r.node('d'), own: r.node('d/own'), a: r.node('d/a'), sub: r.node('d/sub') };
    const ask = beginRename(t, r, 'd', 'moved');
    const mover = r.waiting.request;
    r.waiting.request = mover + 1;
    t.is(change(r, at), DEFERRED);
    t.is(finish(r, ask), 0);
    r.waiting.request = mover + 1;
    const code = r.run(() => change(r, at));
    t.is(code, what === 'a directory removed' ? -ENOTEMPTY : Math.max(code, 0));
    const shown = shownBy(r);
    t.is(isDeepStrictEqual(shown, under('moved', SHOWN)), WITHOUT_TRACE.includes(what));
    t.deepEqual(shownBy(remount(t, r, BY_COPY)), shown);
  });
}

test('a directory that is being moved can be read and its files of the upper written to', (t) => {
  const r = rig(t, LAYERS, BY_COPY);
  const writer = r.open('d/u', 1);
  const ask = beginRename(t, r, 'd', 'moved');
  r.writeTo(writer, 'WRITTEN');
  t.is(r.read('d/u'), 'WRITTENupper');
  const reader = r.open('d/a', 0);
  t.is(finish(r, ask), 0);
  r.write('moved/a', 'A', 1);
  t.is(r.readFrom(reader), 'A');
  r.writeTo(writer, 'again');
  t.is(r.read('moved/u'), 'againENupper');
});

test('whoever comes after an interrupted move goes on, and what it made is removed', (t) => {
  const r = rig(t, LAYERS, BY_COPY);
  const before = onDisk(r.upper);
  beginRename(t, r, 'd', 'moved');
  r.waiting.runAll();
  r.create('d/new', 'new');
  t.is(r.unlink('d/new'), 0);
  t.deepEqual(inWork(r), []);
  t.deepEqual(shownBy(r), SHOWN);
  t.is(
    onDisk(r.upper).replaceAll(/ [\d.]+ (?=\d+ \d+$)/gm, ' '),
    before.replaceAll(/ [\d.]+ (?=\d+ \d+$)/gm, ' '),
  );
  t.is(r.rename('d', 'moved'), 0);
  t.deepEqual(shownBy(r), under('moved', SHOWN));
});

test('names of one file stay names of one file when a directory with some of them is moved', (t) => {
  const r = rig(
    t,
    {
      upper: { 'd/u1': 'upper', u2: { same: 'd/u1' } },
      lowers: [{ 'd/l1': 'lower', 'd/in/l2': { same: 'd/l1' }, l3: { same: 'd/l1' } }],
    },
    BY_COPY,
  );
  const inos = { u: r.stat('u2').ino, l: r.stat('l3').ino };
  t.is(r.rename('d', 'moved'), 0);
  for (const name of ['moved/u1', 'u2']) t.is(r.stat(name).ino, inos.u, name);
  for (const name of ['moved/l1', 'moved/in/l2', 'l3']) {
    t.is(r.stat(name).ino, inos.l, name);
    t.is(r.stat(name).nlink, 3, name);
  }
  r.write('moved/u1', 'U', 1);
  t.is(r.read('u2'), 'Upper');
  r.write('l3', 'L', 1);
  t.is(r.read('moved/in/l2'), 'Lower');
  t.is(r.unlink('moved/l1'), 0);
  t.is(r.stat('l3').nlink, 2);
});

test('both of two exchanged directories are copied, and each is whole in the end', (t) => {
  const r = rig(t, { lowers: [{ 'a/x': LARGE, 'b/y/z': LARGE, 'a/s': 's' }] }, BY_COPY);
  t.is(r.rename('a', 'b', EXCHANGE), 0);
  const shown = { 'a/': '', 'a/y/': '', 'a/y/z': 'large', 'b/': '', 'b/s': 's', 'b/x': 'large' };
  t.deepEqual(shownBy(r), shown);
  t.deepEqual(shownBy(remount(t, r, BY_COPY)), shown);
});

test('modes, times and numbers of a copied directory are those of the original, and no number is given twice', (t) => {
  const r = rig(t, LAYERS, BY_COPY);
  for (const [path, mode] of [
    ['d', 0o555],
    ['d/sub', 0o500],
    ['d/sub/deep', 0o711],
  ] as const) {
    chmodSync(join(r.lowers[0]!, path), mode);
    utimesSync(join(r.lowers[0]!, path), 1e9, 1e9 + 1);
  }
  const shown = (path: string) => {
    const { ino, mode, mtime, mtimeNs } = r.stat(path);
    return { ino, mode, mtime, mtimeNs };
  };
  const before = ['d/sub', 'd/sub/deep', 'd/a', 'd/u'].map(shown);
  t.is(r.rename('d', 'moved'), 0);
  t.deepEqual(['moved/sub', 'moved/sub/deep', 'moved/a', 'moved/u'].map(shown), before);
  for (let i = 0; i < 20; i++) r.mkdir(`new${i}`);
  const all = ['moved', ...Object.keys(under('moved', SHOWN)).filter((path) => path !== 'moved/')]
    .map((path) => r.stat(path.replace(/\/$/, '')).ino)
    .concat(Array.from({ length: 20 }, (_, i) => r.stat(`new${i}`).ino));
  t.is(new Set(all).size, all.length);
  // Listings say the same.
  for (const { name, ino } of r.entries('')) t.is(ino, r.stat(name).ino, name);
  for (const { name, ino } of r.entries('moved')) t.is(ino, r.stat(`moved/${name}`).ino, name);
});
