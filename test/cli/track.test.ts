import { execFileSync } from 'node:child_process';
import { mkdirSync, readFileSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { EXIT_CODES } from '../../src/exit-codes.ts';
import { cli, gitIn, isolateGit, PROGRAM, repository, temporaryFolder } from './run.ts';

isolateGit();

const LINE = 'filter=xet diff=xet merge=binary -text';

/** Has git make real pointers without a store: one process for each file, pure computation. */
function usePointerFilter(cwd: string): void {
  gitIn(cwd, 'config', 'filter.xet.clean', `${process.execPath} ${PROGRAM} xet pointer -`);
  gitIn(cwd, 'config', 'filter.xet.required', 'true');
}

function attributes(cwd: string): string {
  return readFileSync(join(cwd, '.gitattributes'), 'utf8');
}

test('track writes a line for each pattern once, and git understands it', async (t) => {
  const cwd = repository(t);
  writeFileSync(join(cwd, '.gitattributes'), '# ours\n*.txt text\n');
  const { code, stdout } = await cli(['xet', 'track', '--json', '*.bin', 'with blank*', 'data/**'], { cwd });
  t.is(code, 0);
  t.deepEqual(
    JSON.parse(stdout).patterns,
    ['*.bin', 'with blank*', 'data/**'].map((pattern) => ({ pattern, change: 'added' })),
  );
  const text = `# ours\n*.txt text\n*.bin ${LINE}\n"with blank*" ${LINE}\ndata/** ${LINE}\n`;
  t.is(attributes(cwd), text);
  t.is(gitIn(cwd, 'check-attr', 'filter', 'with blank 1'), 'with blank 1: filter: xet');
  const again = await cli(['xet', 'track', '--json', 'with blank*'], { cwd });
  t.is(JSON.parse(again.stdout).patterns[0].change, 'unchanged');
  t.is(attributes(cwd), text);
});

test('track keeps what else the line says', async (t) => {
  const cwd = repository(t);
  writeFileSync(join(cwd, '.gitattributes'), '*.bin filter=lfs diff=lfs merge=lfs -text export-ignore\n');
  const { stdout } = await cli(['xet', 'track', '*.bin', '--json'], { cwd });
  t.is(JSON.parse(stdout).patterns[0].change, 'updated');
  t.deepEqual(attributes(cwd).trim().split(' ').sort(), `*.bin ${LINE} export-ignore`.split(' ').sort());
});

test('track edits the file of the current directory, with the mode it has', async (t) => {
  const cwd = repository(t);
  mkdirSync(join(cwd, 'sub'));
  writeFileSync(join(cwd, 'sub/.gitattributes'), '', { mode: 0o600 });
  const { stdout } = await cli(['xet', 'track', '*.bin', '--json'], { cwd: join(cwd, 'sub') });
  t.is(JSON.parse(stdout).file, 'sub/.gitattributes');
  t.is(attributes(join(cwd, 'sub')), `*.bin ${LINE}\n`);
  t.is(statSync(join(cwd, 'sub/.gitattributes')).mode & 0o777, 0o600);
});

test('track without a pattern lists what is in force, with its source', async (t) => {
  const cwd = repository(t);
  mkdirSync(join(cwd, 'sub'));
  writeFileSync(join(cwd, '.gitattributes'), `*.bin ${LINE}\n*.txt text\n*.x filter=xet -filter\n`);
  writeFileSync(join(cwd, 'sub/.gitattributes'), `\n"a b" ${LINE}\n`);
  mkdirSync(join(cwd, '.git/info'), { recursive: true });
  writeFileSync(join(cwd, '.git/info/attributes'), '*.own filter=xet\n');
  const { code, stdout } = await cli(['xet', 'track'], { cwd: join(cwd, 'sub') });
  t.is(code, 0);
  t.is(stdout, '*.bin  .gitattributes:1\na b    sub/.gitattributes:2\n*.own  .git/info/attributes:1\n');
  const json = JSON.parse((await cli(['xet', 'track', '--json'], { cwd })).stdout);
  t.deepEqual(json[1], { pattern: 'a b', source: 'sub/.gitattributes', line: 2 });
});

test('track --dry-run changes nothing and says the same', async (t) => {
  const cwd = repository(t);
  const dry = JSON.parse((await cli(['xet', 'track', '--json', '-n', '*.bin'], { cwd })).stdout);
  t.throws(() => attributes(cwd));
  const done = JSON.parse((await cli(['xet', 'track', '--json', '*.bin'], { cwd })).stdout);
  t.deepEqual({ ...dry, dryRun: false }, done);
});

test('track refuses a pattern git cannot use, a symbolic link, and a place without a work tree', async (t) => {
  const cwd = repository(t);
  t.is((await cli(['xet', 'track', 'data/'], { cwd })).code, EXIT_CODES.USAGE);
  symlinkSync('elsewhere', join(cwd, '.gitattributes'));
  t.is((await cli(['xet', 'track', '*.bin'], { cwd })).code, EXIT_CODES.REFUSED);
  t.is((await cli(['xet', 'track', '*.bin'], { cwd: join(cwd, '.git') })).code, EXIT_CODES.NOT_A_REPOSITORY);
  t.is((await cli(['xet', 'track', '*.bin'], { cwd: temporaryFolder(t) })).code, EXIT_CODES.NOT_A_REPOSITORY);
});

test('a .gitattributes that is no file is refused by its name, and not waited for', async (t) => {
  const cwd = repository(t);
  for (const make of ['mkdir', 'mkfifo']) {
    execFileSync(make, [join(cwd, '.gitattributes')]);
    const { code, stderr } = await cli(['xet', 'track', '*.bin'], { cwd });
    t.is(code, EXIT_CODES.REFUSED);
    t.regex(stderr, /\.gitattributes is no file/);
    rmSync(join(cwd, '.gitattributes'), { recursive: true });
  }
});

test('--renormalize turns matching files that git holds whole into pointers, and only those', async (t) => {
  const cwd = repository(t);
  usePointerFilter(cwd);
  mkdirSync(join(cwd, 'sub/deep'), { recursive: true });
  const names = [
    'top.bin',
    'sub/in.bin',
    'sub/deep/b c.bin',
    'sub/changed.bin',
    'sub/other.txt',
    'sub/empty.bin',
  ];
  for (const name of names) writeFileSync(join(cwd, name), name.includes('empty') ? '' : `${name}\n`);
  gitIn(cwd, 'add', '.');
  gitIn(cwd, 'commit', '-qm', 'whole');
  writeFileSync(join(cwd, 'sub/changed.bin'), 'not staged\n');

  const argv = ['xet', 'track', '--renormalize', '--json', '*.bin', '/other.*'];
  const dry = JSON.parse((await cli([...argv, '--dry-run'], { cwd: join(cwd, 'sub') })).stdout);
  t.is(gitIn(cwd, 'status', '--porcelain'), ' M sub/changed.bin');
  const { code, stdout, stderr } = await cli(argv, { cwd: join(cwd, 'sub') });
  t.is(code, 1, 'one file was left alone');
  t.regex(stderr, /changed\.bin has changes that are not staged/);
  const document = JSON.parse(stdout);
  t.deepEqual({ ...dry, dryRun: false }, document);
  t.deepEqual(document.converted, ['deep/b c.bin', 'in.bin', 'other.txt']);
  t.deepEqual(document.skipped, ['changed.bin']);
  t.regex(gitIn(cwd, 'show', ':sub/deep/b c.bin'), /^\{"version":"1\.0","filesize":17,/);
  t.is(gitIn(cwd, 'show', ':top.bin'), 'top.bin');
  t.is(gitIn(cwd, 'show', ':sub/changed.bin'), 'sub/changed.bin');
  t.is(gitIn(cwd, 'diff', '--name-only'), 'sub/changed.bin');
});

test('track tells of files that git holds whole; --renormalize needs the filter', async (t) => {
  const cwd = repository(t);
  writeFileSync(join(cwd, 'a.bin'), 'content');
  gitIn(cwd, 'add', '.');
  const { code, stderr } = await cli(['xet', 'track', '*.bin'], { cwd });
  t.is(code, 0);
  t.regex(stderr, /git would still store these files whole: run 'git2db xet install'/);
  t.regex(stderr, /git holds 1 matching file whole, such as a\.bin/);
  t.is((await cli(['xet', 'track', '--renormalize', '*.bin'], { cwd })).code, EXIT_CODES.REFUSED);
});

test('a file that a stronger line keeps whole is named', async (t) => {
  const cwd = repository(t);
  usePointerFilter(cwd);
  writeFileSync(join(cwd, 'a.bin'), 'content');
  gitIn(cwd, 'add', '.');
  mkdirSync(join(cwd, '.git/info'), { recursive: true });
  writeFileSync(join(cwd, '.git/info/attributes'), 'a.bin -filter\n');
  const { code, stderr } = await cli(['xet', 'track', '--renormalize', '*.bin'], { cwd });
  t.is(code, 1);
  t.regex(stderr, /a\.bin was not converted/);
});

test('untrack removes what track wrote, and names what is not there', async (t) => {
  const cwd = repository(t);
  writeFileSync(join(cwd, '.gitattributes'), '*.txt text\n');
  await cli(['xet', 'track', '*.bin', 'a b'], { cwd });
  const dry = await cli(['xet', 'untrack', '-n', 'a b'], { cwd });
  t.is(dry.code, 0);
  t.true(attributes(cwd).includes('"a b"'));
  const { code, stdout, stderr } = await cli(['xet', 'untrack', '--json', 'a b', '*.bin', '*.none'], { cwd });
  t.is(code, 1);
  t.regex(stderr, /\*\.none is not tracked/);
  t.deepEqual(JSON.parse(stdout), {
    file: '.gitattributes',
    dryRun: false,
    removed: ['a b', '*.bin'],
    absent: ['*.none'],
  });
  t.is(attributes(cwd), '*.txt text\n');
});

test('ls-files lists pointers of the index or of a commit, and what the work tree holds', async (t) => {
  const cwd = repository(t);
  usePointerFilter(cwd);
  mkdirSync(join(cwd, 'sub'));
  writeFileSync(join(cwd, '.gitattributes'), `*.bin ${LINE}\n`);
  for (const name of [
    'content.bin',
    'pointer.bin',
    'gone.bin',
    'changed.bin',
    'sub/tab\t.bin',
    'small.txt',
  ]) {
    writeFileSync(join(cwd, name), name.repeat(200));
  }
  gitIn(cwd, 'add', '.');
  gitIn(cwd, 'commit', '-qm', 'one');
  writeFileSync(join(cwd, 'pointer.bin'), `${gitIn(cwd, 'show', ':pointer.bin')}\n`);
  rmSync(join(cwd, 'gone.bin'));
  writeFileSync(join(cwd, 'changed.bin'), 'something else');
  const { code, stdout } = await cli(['xet', 'ls-files', '--json'], { cwd });
  t.is(code, 0);
  const files = JSON.parse(stdout) as {
    path: string;
    workTree: string;
    size: number;
    fileHash: string;
    kind: string;
  }[];
  t.deepEqual(
    files.map(({ path, workTree }) => [path, workTree]),
    [
      ['changed.bin', 'changed'],
      ['content.bin', 'content'],
      ['gone.bin', 'missing'],
      ['pointer.bin', 'pointer'],
      ['sub/tab\t.bin', 'content'],
    ],
  );
  t.like(files[1], { size: 2200, kind: 'xet' });
  const text = (await cli(['xet', 'ls-files'], { cwd })).stdout.split('\n');
  t.is(text[1], `${files[1]!.fileHash.slice(0, 12)}  *  2.15 KiB  content.bin`);
  t.true(text[4]!.endsWith('"sub/tab\\t.bin"'));
  const long = await cli(['xet', 'ls-files', '--long'], { cwd: join(cwd, 'sub') });
  t.is(long.stdout, `${files[4]!.fileHash}  *  2400  "tab\\t.bin"\n`);

  writeFileSync(join(cwd, 'content.bin'), 'a new version');
  gitIn(cwd, 'add', 'content.bin');
  const old = JSON.parse((await cli(['xet', 'ls-files', '--json', 'HEAD'], { cwd })).stdout);
  t.is(old[1].size, 2200);
  t.is(old[1].workTree, null);
  t.is(old[3].workTree, 'pointer');
  t.is((await cli(['xet', 'ls-files', 'nothing'], { cwd })).code, EXIT_CODES.USAGE);
  t.is((await cli(['xet', 'ls-files'], { cwd: join(cwd, '.git') })).code, EXIT_CODES.NOT_A_REPOSITORY);
  const bare = await cli(['xet', 'ls-files', '--json', 'HEAD'], { cwd: join(cwd, '.git') });
  t.is(JSON.parse(bare.stdout).length, 5);
});
