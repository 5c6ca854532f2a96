import { existsSync, mkdirSync, mkdtempSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'ava';
import { makeDirectories } from '../src/make-directories.ts';
import { StoreLayout } from '../src/xet/store/layout.ts';

test('what is missing is made with the mode, what is there stays, and a file in the way is an error', (t) => {
  const root = mkdtempSync(join(tmpdir(), 'git2db-directories-'));
  t.teardown(() => rmSync(root, { recursive: true, force: true }));
  makeDirectories(join(root, 'a/b/c'), 0o700);
  t.is(statSync(join(root, 'a/b')).mode & 0o777, 0o700);
  makeDirectories(join(root, 'a/b/c/'), 0o755);
  t.is(statSync(join(root, 'a/b/c')).mode & 0o777, 0o700);
  mkdirSync(join(root, 'real'));
  symlinkSync('real', join(root, 'link'));
  makeDirectories(join(root, 'link/inside'));
  t.true(existsSync(join(root, 'real/inside')));
  writeFileSync(join(root, 'file'), '');
  t.throws(() => makeDirectories(join(root, 'file')), { code: 'EEXIST' });
  t.throws(() => makeDirectories(join(root, 'file/in')), { code: 'ENOTDIR' });
  symlinkSync('nowhere', join(root, 'dangling'));
  t.throws(() => makeDirectories(join(root, 'dangling')), { code: 'EEXIST' });
});

const hasProc = existsSync('/proc/self');

(hasProc ? test : test.skip)(
  `a directory that takes no entries is an error at once${hasProc ? '' : ' (skipped: no /proc)'}`,
  (t) => {
    t.throws(() => makeDirectories('/proc/git2db-none/below'), { code: 'ENOENT' });
    t.throws(() => new StoreLayout('/proc/git2db-none').create(), { code: 'ENOENT' });
  },
);
