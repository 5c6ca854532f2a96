import { spawnSync } from 'node:child_process';
import {
  chmodSync,
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { clearLeftWork } from '../../src/mount-helper/left-work.ts';
import { directoryIdentity } from '../../src/mount-helper/mount-records.ts';
import { holdUpper } from '../../src/mount-helper/overlay/upper-hold.ts';
import { AT_FDCWD, cString, fchmodat } from '../../src/mount-helper/system/libc.ts';
import { scratch } from './helpers/scratch.ts';

/** An upper with a stamp, and a work directory in which a killed server has left something. */
function leftBehind(t: ExecutionContext) {
  const folder = scratch(t);
  const [upper, work] = [join(folder, 'upper'), join(folder, 'work')];
  mkdirSync(upper);
  mkdirSync(join(work, 'git2db', 'half', 'made'), { recursive: true });
  writeFileSync(join(work, 'git2db', 'half', 'made', 'file'), 'x');
  chmodSync(join(work, 'git2db', 'half'), 0o000);
  writeFileSync(
    `${work}.git2db-stamp`,
    '{"format":1,"namespace":"user","owner":0,"mknodFailed":false,"redirectsUsed":false}\n',
  );
  const upperIdentity = directoryIdentity(Buffer.from(upper))!;
  const record = {
    upperIdentity,
    options: { upper: Buffer.from(upper), work: Buffer.from(work), readOnly: false },
  };
  return { folder, upper, work, record };
}

test('what a killed server has left in work is cleared, once, and nothing beside it', (t) => {
  const { work, upper, record } = leftBehind(t);
  mkdirSync(join(work, 'work'));
  clearLeftWork(record);
  clearLeftWork(record);
  t.deepEqual(readdirSync(work), ['work']);
  t.deepEqual(readdirSync(upper), []);
});

test('nothing is cleared while somebody has the upper', (t) => {
  const { work, record } = leftBehind(t);
  const hold = holdUpper(record.options.upper, record.options.work, () => {
    throw new Error('there is a stamp');
  });
  clearLeftWork(record);
  t.deepEqual(readdirSync(work), ['git2db']);
  hold.release();
  clearLeftWork(record);
  t.deepEqual(readdirSync(work), []);
});

test('a link in the place of work, or of a directory above, leads to nothing that is cleared', (t) => {
  const { folder, work, record } = leftBehind(t);
  const other = join(folder, 'other');
  renameSync(work, other);
  symlinkSync(other, work);
  clearLeftWork(record);
  t.deepEqual(readdirSync(join(other, 'git2db')), ['half']);
  rmSync(work);
  mkdirSync(join(folder, 'away'));
  for (const name of ['other', 'upper', 'work.git2db-stamp']) {
    renameSync(join(folder, name), join(folder, 'away', name === 'other' ? 'work' : name));
  }
  symlinkSync(join(folder, 'away'), join(folder, 'linked'));
  const options = {
    ...record.options,
    upper: Buffer.from(join(folder, 'linked', 'upper')),
    work: Buffer.from(join(folder, 'linked', 'work')),
  };
  clearLeftWork({ ...record, options });
  t.deepEqual(readdirSync(join(folder, 'away', 'work', 'git2db')), ['half']);
});

test('another directory in the place of the upper, or a pipe, is left alone and not waited for', (t) => {
  const { work, upper, record } = leftBehind(t);
  renameSync(upper, `${upper}.gone`);
  mkdirSync(upper);
  clearLeftWork(record);
  rmSync(upper, { recursive: true });
  t.is(spawnSync('mkfifo', [upper]).status, 0);
  clearLeftWork(record);
  t.throws(() => holdUpper(record.options.upper, record.options.work, () => t.fail() as never), {
    code: 'ENOTDIR',
  });
  t.deepEqual(readdirSync(join(work, 'git2db')), ['half']);
});

test('a mode is never changed through a symbolic link', (t) => {
  const folder = scratch(t);
  const [file, link] = [join(folder, 'file'), join(folder, 'link')];
  writeFileSync(file, '', { mode: 0o600 });
  symlinkSync(file, link);
  t.true(fchmodat(AT_FDCWD, cString(link), 0o4755) < 0);
  t.is(statSync(file).mode & 0o7777, 0o600);
  t.is(fchmodat(AT_FDCWD, cString(file), 0o640), 0);
  t.is(statSync(file).mode & 0o7777, 0o640);
  t.true(lstatSync(link).isSymbolicLink() && existsSync(link));
});
