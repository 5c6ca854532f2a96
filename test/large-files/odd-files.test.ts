/** Things that stand where files and directories of git2db should be: named, with what to do, and never waited for. */
import { execFileSync } from 'node:child_process';
import { mkdirSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import test from 'ava';
import { EXIT_CODES } from '../../src/exit-codes.ts';
import { isolateProcess } from '../helpers/git-sandbox.ts';
import { createLargeFileSandbox, noise } from './repositories.ts';

isolateProcess();

/** A command that waits for a pipe would never end. */
const PATIENCE = 60_000;

test('pipes in the place of a store’s files hold nobody up', async (t) => {
  t.timeout(4 * PATIENCE);
  const sandbox = createLargeFileSandbox(t);
  await sandbox.init('a');
  await sandbox.git(['config', 'xet.store', sandbox.path('store')], { cwd: 'a' });
  sandbox.write('a/one.bin', noise(300_000, 1));
  await sandbox.commitAll('a');
  const store = sandbox.path('store');
  const name = `ab${'0'.repeat(62)}`;
  const pipe = (path: string) => {
    mkdirSync(`${store}/${path.slice(0, path.lastIndexOf('/') + 1)}`, { recursive: true });
    execFileSync('mkfifo', [`${store}/${path}`]);
  };
  for (const path of [`xorbs/ab/${name}`, `shards/${name}.mdb`, `catalog/${name}`, `learned/ab/${name}`])
    pipe(path);
  for (const path of [`irregular/${name}`, `trash/${name}`, `trash/${name}.mdb`, `quarantine/${name}`])
    pipe(path);
  for (const path of ['incoming/x', 'incoming/writer/writer', 'evicted']) pipe(path);
  const xet = async (...args: string[]) => sandbox.xet('a', args);

  for (const args of [
    ['status'],
    ['du'],
    ['fsck'],
    ['gc'],
    ['gc', '--prune'],
    ['fsck', '--repair'],
    ['doctor'],
  ]) {
    const { status, stderr } = await xet(...args);
    t.true(status === 0 || status === 1, `${args}: ${stderr}`);
  }
  rmSync(`${store}/catalog/HEAD`);
  pipe('catalog/HEAD');
  t.regex((await xet('fsck')).stderr, /catalog\/HEAD/);
  sandbox.write('a/two.bin', noise(300_000, 2));
  await sandbox.commitAll('a');
  rmSync(sandbox.path('a/one.bin'));
  await sandbox.git(['checkout', '.'], { cwd: 'a' });
  t.is((await xet('fsck')).status, 0);

  // Who uses the store must be known, or something would be deleted that is needed.
  pipe('users/one');
  for (const args of [['gc'], ['gc', '--prune'], ['du'], ['fsck']]) {
    const { status, stderr } = await xet(...args);
    t.is(status, EXIT_CODES.REFUSED);
    t.is(stderr, `git2db: ${store}/users/one is no regular file: remove it\n`);
  }
  rmSync(`${store}/users/one`);
  pipe('incoming/writer/journal');
  for (const args of [['gc'], ['gc', '--prune']]) {
    const { status, stderr } = await xet(...args);
    t.is(status, EXIT_CODES.INVALID_JOURNAL);
    t.is(stderr, `git2db: ${store}/incoming/writer/journal is no regular file: remove it\n`);
  }
  pipe('users/one');
  t.regex((await xet('doctor')).stdout, /users\/one is no regular file: remove it \[store-unreadable\]/);
});

test('entries of users that name no repository are refused by gc, and a torn one is written anew', async (t) => {
  const sandbox = createLargeFileSandbox(t);
  await sandbox.init('a');
  await sandbox.git(['config', 'xet.store', sandbox.path('store')], { cwd: 'a' });
  sandbox.write('a/one.bin', noise(1000, 1));
  await sandbox.commitAll('a');
  const users = sandbox.path('store/users');
  const [own] = readdirSync(users);
  for (const [name, said] of [
    ['relative', 'relative/path\n'],
    ['empty', ''],
  ] as const) {
    writeFileSync(`${users}/${name}`, said);
    const { status, stderr } = await sandbox.xet('a', ['gc']);
    t.is(status, EXIT_CODES.REFUSED);
    t.regex(stderr, new RegExp(`users/${name} should hold the path of a repository .*: remove it, `));
    rmSync(`${users}/${name}`);
  }
  symlinkSync('/nonexistent', `${users}/link`);
  t.regex((await sandbox.xet('a', ['gc'])).stderr, /users\/link is a link to nothing: remove it\n$/);
  rmSync(`${users}/link`);

  writeFileSync(`${users}/${own}`, '');
  sandbox.write('a/two.bin', noise(1000, 2));
  await sandbox.commitAll('a');
  t.is(readFileSync(`${users}/${own}`, 'utf8'), `${sandbox.path('a/.git')}\n`);
  t.is((await sandbox.xet('a', ['gc'])).status, 0);
});

test('hooks that can be none are named by install, and it goes on without them', async (t) => {
  const sandbox = createLargeFileSandbox(t);
  await sandbox.init('a');
  const hooks = sandbox.path('a/.git/hooks');
  const install = (...args: string[]) => sandbox.xet('a', ['install', '--local', ...args]);
  rmSync(hooks, { recursive: true, force: true });
  writeFileSync(hooks, '');
  const refused = await install();
  if (refused.status !== 0) {
    t.is(refused.status, EXIT_CODES.REFUSED);
    t.regex(
      refused.stderr,
      /hooks, where git looks for hooks, is no directory: remove it, .*core\.hooksPath DIR`, or install with --no-hooks\n$/,
    );
    t.false(refused.stderr.includes('EEXIST'));
  }
  t.is((await install('--no-hooks')).status, 0);
  t.is((await sandbox.xet('a', ['status'])).status, 0);

  rmSync(hooks);
  mkdirSync(hooks);
  execFileSync('mkfifo', [`${hooks}/pre-push`]);
  t.true([0, EXIT_CODES.REFUSED].includes((await install()).status ?? -1));
  t.is((await sandbox.xet('a', ['status'])).status, 0);
});

test('a store’s path that is a file, or leads through one, is one message with the remedy', async (t) => {
  const sandbox = createLargeFileSandbox(t);
  await sandbox.git(['init', '-q', '--bare', 'hub']);
  await sandbox.init('a');
  sandbox.write('a/one.bin', noise(300_000, 1));
  await sandbox.commitAll('a');
  await sandbox.git(['remote', 'add', 'origin', '../hub'], { cwd: 'a' });
  const file = sandbox.path('file');
  writeFileSync(file, '');
  for (const store of [file, `${file}/store`]) {
    await sandbox.git(['config', 'xet.store', store], { cwd: 'a' });
    for (const args of [
      ['status'],
      ['du'],
      ['fsck'],
      ['gc'],
      ['evict'],
      ['push'],
      ['fetch'],
      ['fetch', '-n'],
    ]) {
      const { status, stderr } = await sandbox.xet('a', args);
      t.is(status, EXIT_CODES.STORE_UNWRITABLE, `${args}`);
      t.is(
        stderr,
        `git2db: there can be no store in ${store}: ${file} is no directory. ` +
          'Remove it, or choose another place with `git config xet.store DIR`\n',
      );
    }
    rmSync(sandbox.path('a/one.bin'), { force: true });
    const checkout = await sandbox.git(['checkout', 'one.bin'], { cwd: 'a', okStatus: [128] });
    t.regex(String(checkout.stderr), /one\.bin.*there can be no store in .*git config xet\.store DIR/);
  }
});
