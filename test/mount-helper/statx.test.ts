import { lstatSync, mkdirSync, symlinkSync, utimesSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import fc from 'fast-check';
import { emptyAttributes } from '../../src/mount-helper/fuse/answers.ts';
import {
  AT_FDCWD,
  AT_SYMLINK_NOFOLLOW,
  cString,
  mknodat,
  statx,
} from '../../src/mount-helper/system/libc.ts';
import {
  direntType,
  isDirectory,
  isRegular,
  isSameFile,
  isWhiteoutDevice,
  newStatx,
  S_IFCHR,
  S_IFMT,
  type Statx,
  statxAtime,
  statxAtimeNs,
  statxBlocks,
  statxCtime,
  statxCtimeNs,
  statxDevice,
  statxGid,
  statxIno,
  statxMode,
  statxMtime,
  statxMtimeNs,
  statxNlink,
  statxRdev,
  statxSize,
  statxType,
  statxUid,
  toAttributes,
} from '../../src/mount-helper/system/statx.ts';
import { isRoot, rootOnly, scratch, setTimes } from './helpers/scratch.ts';

function statxOf(path: string): Statx {
  const out = newStatx();
  const code = statx(AT_FDCWD, cString(path), AT_SYMLINK_NOFOLLOW, out);
  if (code < 0) throw new Error(`statx ${path}: ${code}`);
  return out;
}

const sameAsNode = test.macro((t, make: (directory: string) => string) => {
  const path = make(scratch(t));
  const raw = statxOf(path);
  const node = lstatSync(path, { bigint: true });
  t.is(statxIno(raw), node.ino);
  t.is(statxMode(raw), Number(node.mode));
  t.is(statxNlink(raw), Number(node.nlink));
  t.is(statxUid(raw), Number(node.uid));
  t.is(statxGid(raw), Number(node.gid));
  t.is(statxSize(raw), Number(node.size));
  t.is(statxBlocks(raw), Number(node.blocks));
  t.is(statxRdev(raw), Number(node.rdev));
  const time = (seconds: number, ns: number) => BigInt(seconds) * 1_000_000_000n + BigInt(ns);
  t.is(time(statxAtime(raw), statxAtimeNs(raw)), node.atimeNs);
  t.is(time(statxMtime(raw), statxMtimeNs(raw)), node.mtimeNs);
  t.is(time(statxCtime(raw), statxCtimeNs(raw)), node.ctimeNs);
  t.is(isDirectory(raw), node.isDirectory());
  t.is(isRegular(raw), node.isFile());

  const out = emptyAttributes();
  toAttributes(raw, out);
  t.is(out.ino, node.ino);
  t.is(out.mode, Number(node.mode));
  t.is(out.rdev, Number(node.rdev));
  t.is(out.blksize, Number(node.blksize));
  t.is(time(out.mtime, out.mtimeNs), node.mtimeNs);
  t.is(time(out.atime, out.atimeNs), node.atimeNs);
  t.is(time(out.ctime, out.ctimeNs), node.ctimeNs);
});

test('a regular file is read as Node reads it', sameAsNode, (directory) => {
  const path = join(directory, 'file');
  writeFileSync(path, 'x'.repeat(5000), { mode: 0o640 });
  return path;
});
test('times before 1970 are negative seconds and positive nanoseconds', sameAsNode, (directory) => {
  writeFileSync(join(directory, 'old'), '');
  utimesSync(join(directory, 'old'), -1.5, -100000.25);
  return join(directory, 'old');
});
test('nanoseconds are kept to the last digit', sameAsNode, (directory) => {
  writeFileSync(join(directory, 'exact'), '');
  setTimes(AT_FDCWD, join(directory, 'exact'), [-2, 999_999_999, 1_700_000_000, 123_456_789]);
  return join(directory, 'exact');
});
test('a directory is read as Node reads it', sameAsNode, (directory) => {
  mkdirSync(join(directory, 'd'), 0o1750);
  return join(directory, 'd');
});
test('a symbolic link is itself, not what it leads to', sameAsNode, (directory) => {
  symlinkSync('nowhere/at/all', join(directory, 'link'));
  return join(directory, 'link');
});
test('a device node has its number', sameAsNode, () => '/dev/null');

const devices = isRoot ? test : test.skip;
devices(`a device number survives from one node to its copy${rootOnly}`, (t) => {
  const directory = scratch(t);
  for (const [i, rdev] of [0x0103, 0xfffff, 0xabc12, 0xfff0fff1].entries()) {
    const path = join(directory, `${i}`);
    t.is(mknodat(AT_FDCWD, cString(path), S_IFCHR | 0o600, rdev), 0);
    t.is(statxRdev(statxOf(path)), rdev);
    t.false(isWhiteoutDevice(statxOf(path)));
  }
});

test('a character device 0:0 is a whiteout, and nothing else is', (t) => {
  const directory = scratch(t);
  t.is(mknodat(AT_FDCWD, cString(join(directory, 'w')), S_IFCHR, 0), 0);
  t.true(isWhiteoutDevice(statxOf(join(directory, 'w'))));
  writeFileSync(join(directory, 'f'), '');
  t.false(isWhiteoutDevice(statxOf(join(directory, 'f'))));
  t.false(isWhiteoutDevice(statxOf(directory)));
  t.false(isWhiteoutDevice(statxOf('/dev/null')));
});

test('two names of one file are the same file, two files are not', (t) => {
  const directory = scratch(t);
  writeFileSync(join(directory, 'a'), '');
  writeFileSync(join(directory, 'b'), '');
  t.true(isSameFile(statxOf(join(directory, 'a')), statxOf(join(directory, 'a'))));
  t.false(isSameFile(statxOf(join(directory, 'a')), statxOf(join(directory, 'b'))));
});

test('large inode numbers, sizes and device numbers come out whole', (t) => {
  const u32 = fc.integer({ min: 0, max: 0xffffffff });
  fc.assert(
    fc.property(
      fc.bigInt({ min: 0n, max: (1n << 64n) - 1n }),
      fc.integer({ min: 0, max: Number.MAX_SAFE_INTEGER }),
      fc.integer({ min: -(2 ** 40), max: 2 ** 40 }),
      u32,
      u32,
      (ino, size, seconds, major, minor) => {
        const raw = newStatx();
        raw.writeBigUInt64LE(ino, 32);
        raw.writeBigUInt64LE(BigInt(size), 40);
        raw.writeBigInt64LE(BigInt(seconds), 112);
        raw.writeUInt32LE(major, 136);
        raw.writeUInt32LE(minor, 140);
        t.is(statxIno(raw), ino);
        t.is(statxSize(raw), size);
        t.is(statxMtime(raw), seconds);
        t.is(statxDevice(raw), (BigInt(major) << 32n) | BigInt(minor));
      },
    ),
  );
});

test('the type of a directory entry is that of its mode', (t) => {
  t.is(direntType(0o100644), 8);
  t.is(direntType(0o040755), 4);
  t.is(direntType(0o120777), 10);
  t.is(direntType(0o020000), 2);
  t.is(statxType(statxOf('/dev/null')) & S_IFMT, S_IFCHR);
});
