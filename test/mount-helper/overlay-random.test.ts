/** Random operations on an overlay and on a plain directory with the same content give the same trees and answers. */
import {
  chmodSync,
  cpSync,
  linkSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  renameSync,
  rmdirSync,
  rmSync,
  symlinkSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import fc from 'fast-check';
import { errnoOf } from '../../src/xet/errors.ts';
import { newEntry, type Rig, type RigOptions, remount, rig, type Tree } from './helpers/overlay-rig.ts';
import { isRoot } from './helpers/scratch.ts';

const NAMES = ['a', 'b', 'c', 'n', 'm'];
/** A test that runs unattended does the same each time; who looks for trouble asks for `random`. */
const SEED = process.env.GIT2DB_TEST_SEED ?? '1';

/** Numbers choose among what is there when the step is taken. */
const choice = fc.record({
  what: fc.constantFrom(
    ...[
      'create',
      'create',
      'write',
      'unlink',
      'unlink',
      'rmdir',
      'rmdir',
      'mkdir',
      'mkdir',
      'symlink',
      'chmod',
    ],
    ...[
      'rename',
      'rename',
      'rename',
      'rename',
      'rename',
      'link',
      'link',
      'remount',
      'forget',
      'clear',
      'clear',
    ],
  ),
  from: fc.nat(1000),
  to: fc.nat(1000),
  name: fc.nat(4),
});
type Choice = { readonly what: string; readonly from: number; readonly to: number; readonly name: number };
type Step = { readonly what: string; readonly path: string; readonly to: string };

function resolve(root: string, { what, from, to, name }: Choice): Step {
  const all = readdirSync(root, { recursive: true }).map(String).sort();
  const directories = ['', ...all.filter((path) => lstatSync(join(root, path)).isDirectory())];
  const fresh = join(directories[to % directories.length]!, NAMES[name]!);
  const existing = all[from % Math.max(1, all.length)] ?? fresh;
  const makes = ['create', 'mkdir', 'symlink'].includes(what);
  return { what, path: makes ? fresh : existing, to: fresh };
}

const LOWER: Tree = {
  'a/a/a': 'aaa',
  'a/a/b': 'aab',
  'a/b': 'ab',
  'a/c/a': 'aca',
  'b/a': 'ba',
  'b/b/': '',
  'b/c': { link: 'target' },
  c: 'c',
};
const TOP: Tree = { 'a/b': null, 'a/a/c': 'aac', 'b/b/c': 'bbc', 'b/a': 'top' };
const UPPER: Tree = { 'a/a/a': null, 'b/b/a': 'upper' };
const MODEL: Tree = {
  'a/a/b': 'aab',
  'a/a/c': 'aac',
  'a/c/a': 'aca',
  'b/a': 'top',
  'b/b/c': 'bbc',
  'b/b/a': 'upper',
  'b/c': { link: 'target' },
  c: 'c',
};

function onModel(root: string, { what, path: at, to }: Step): unknown {
  const full = join(root, at);
  switch (what) {
    case 'create':
      return writeFileSync(full, at, { flag: 'wx' });
    case 'write':
      return lstatSync(full).isSymbolicLink() ? undefined : writeFileSync(full, to, { flag: 'r+' });
    case 'unlink':
      return unlinkSync(full);
    case 'rmdir':
      return rmdirSync(full);
    case 'clear':
      return rmSync(full, { recursive: true });
    case 'mkdir':
      return mkdirSync(full);
    case 'symlink':
      return symlinkSync(targetOf(to), full);
    case 'chmod':
      return lstatSync(full).isSymbolicLink() ? undefined : chmodSync(full, 0o600 + to.length);
    case 'rename':
      return renameSync(full, join(root, to));
    case 'link':
      return linkSync(full, join(root, to));
  }
}

/** Leads nowhere: nothing is to be found by way of it. */
function targetOf(path: string): string {
  return `/nowhere/${path}`;
}

/** What the kernel checks before it asks us. */
function onOverlay(r: Rig, { what, path: at, to }: Step): unknown {
  const type = (of: string) => {
    const node = findSafely(r, of);
    return node === 0 ? 0 : r.stat(node).mode >> 12;
  };
  const must = (code: string | number) => {
    if (typeof code === 'string') throw Object.assign(new Error(code), { code });
  };
  const there = type(at);
  switch (what) {
    case 'create':
      if (there !== 0) return must('EEXIST');
      return r.create(at, at);
    case 'write':
      if (there === 0) return must('ENOENT');
      if (there === 4) return must('EISDIR');
      if (there === 10) return undefined;
      return r.write(at, to, 2);
    case 'unlink':
      return must(r.unlink(at));
    case 'rmdir':
      return must(r.rmdir(at));
    case 'clear':
      if (there === 0) return must('ENOENT');
      return clear(r, at, there === 4);
    case 'mkdir':
      if (there !== 0) return must('EEXIST');
      return r.mkdir(at);
    case 'symlink': {
      if (there !== 0) return must('EEXIST');
      const [parent, name] = r.place(at);
      return must(r.say(() => r.fs.symlink(parent, name, Buffer.from(targetOf(to)), r.caller, newEntry())));
    }
    case 'chmod':
      if (there === 0) return must('ENOENT');
      return there === 10 ? undefined : void r.setattr(at, { valid: 1, mode: 0o600 + to.length });
    case 'rename': {
      if (there === 0) return must('ENOENT');
      const target = type(to);
      if (at === to) return undefined;
      if (there === 4 && `${to}/`.startsWith(`${at}/`)) return must('EINVAL');
      if (`${at}/`.startsWith(`${to}/`)) return must('ENOTEMPTY');
      if (target !== 0 && there === 4 && target !== 4) return must('ENOTDIR');
      if (target === 4 && there !== 4) return must('EISDIR');
      return must(r.rename(at, to));
    }
    case 'link':
      if (there === 0) return must('ENOENT');
      if (type(to) !== 0) return must('EEXIST');
      return must(r.link(at, to));
  }
}

function clear(r: Rig, at: string, isDirectory: boolean): unknown {
  if (!isDirectory) return r.unlink(at);
  for (const { name, type } of r.entries(at)) clear(r, `${at}/${name}`, type === 4);
  r.rmdir(at);
}

function findSafely(r: Rig, at: string): number {
  const slash = at.lastIndexOf('/');
  if (slash > 0) {
    const above = findSafely(r, at.slice(0, slash));
    if (above === 0) throw Object.assign(new Error('ENOENT'), { code: 'ENOENT' });
    if (r.stat(above).mode >> 12 !== 4) throw Object.assign(new Error('ENOTDIR'), { code: 'ENOTDIR' });
  }
  return r.find(at);
}

function attempt(action: () => void): string {
  try {
    action();
    return 'ok';
  } catch (error) {
    return errnoOf(error) ?? String(error);
  }
}

function modelDump(root: string, below = ''): string[] {
  return readdirSync(join(root, below))
    .sort()
    .flatMap((name) => {
      const at = below === '' ? name : `${below}/${name}`;
      const stat = lstatSync(join(root, at));
      if (stat.isDirectory()) return [`${at}/ ${stat.mode.toString(8)}`, ...modelDump(root, at)];
      const content = stat.isSymbolicLink()
        ? readlinkSync(join(root, at))
        : readFileSync(join(root, at), 'utf8');
      return [`${at} ${stat.mode.toString(8)} ${stat.nlink} ${content}`];
    });
}

function overlayDump(r: Rig, below = ''): string[] {
  return r.entries(below).flatMap(({ name, ino }) => {
    const at = below === '' ? name : `${below}/${name}`;
    const stat = r.stat(at);
    if (stat.ino !== ino) return [`${at}: d_ino ${ino}, st_ino ${stat.ino}`];
    const type = stat.mode >> 12;
    if (type === 4) return [`${at}/ ${stat.mode.toString(8)}`, ...overlayDump(r, at)];
    const out = Buffer.alloc(100);
    const content =
      type === 10
        ? out.toString(
            'utf8',
            0,
            r.must(() => r.fs.readlink(r.node(at), out)),
          )
        : r.read(at);
    return [`${at} ${stat.mode.toString(8)} ${stat.nlink} ${content}`];
  });
}

const variants: Record<string, RigOptions> = {
  'with marks of users': { canRedirect: false, namespaceOfMarks: 'user', volatile: true },
  'with names as whiteouts': {
    canRedirect: false,
    namespaceOfMarks: 'user',
    writesNames: true,
    volatile: true,
  },
  'with few open directories': {
    canRedirect: false,
    namespaceOfMarks: 'user',
    openDirectories: 1,
    volatile: true,
  },
  ...(isRoot
    ? { 'with redirects': { canRedirect: true, namespaceOfMarks: 'trusted', volatile: true } as const }
    : {}),
};

for (const [title, options] of Object.entries(variants)) {
  test(`random operations give what a plain directory gives, ${title}`, (t) => {
    fc.assert(
      fc.property(fc.array(choice, { minLength: 20, maxLength: 60 }), (choices) => {
        const cleanups: (() => void)[] = [];
        const scope = { teardown: (action: () => void) => void cleanups.unshift(action) } as never;
        try {
          let r = rig(scope, { upper: UPPER, lowers: [TOP, LOWER] }, options);
          const model = join(r.base, 'model');
          const seed = rig(scope, { upper: MODEL }, options);
          cpSync(seed.upper, model, { recursive: true, verbatimSymlinks: true });
          const last: Choice = { what: 'remount', from: 0, to: 0, name: 0 };
          for (const [index, chosen] of [...choices, last].entries()) {
            const one = resolve(model, chosen);
            if (one.what === 'remount') r = remount(scope, r, options);
            else if (one.what === 'forget') for (let id = 2; id < 200; id++) r.fs.forget(id, 1000);
            else {
              const expected = attempt(() => onModel(model, one));
              const found = attempt(() => onOverlay(r, one));
              if (expected !== found && !isSameRefusal(expected, found)) {
                throw new Error(`step ${index} ${JSON.stringify(one)}: expected ${expected}, found ${found}`);
              }
            }
            const [expectedTree, foundTree] = [modelDump(model).join('\n'), overlayDump(r).join('\n')];
            if (expectedTree !== foundTree) {
              throw new Error(
                `after step ${index} ${JSON.stringify(one)}:\n${foundTree}\nexpected\n${expectedTree}`,
              );
            }
          }
        } finally {
          for (const cleanup of cleanups) cleanup();
        }
      }),
      { numRuns: 15, includeErrorInReport: true, ...(SEED === 'random' ? {} : { seed: Number(SEED) }) },
    );
    t.pass();
  });
}

/** Which of two reasons is given first is the kernel's choice, before it asks us. */
function isSameRefusal(expected: string, found: string): boolean {
  const rename = ['ENOTDIR', 'EISDIR', 'ENOTEMPTY', 'EINVAL', 'EEXIST', 'ENOENT', 'EPERM', 'EBUSY'];
  return rename.includes(expected) && rename.includes(found);
}
