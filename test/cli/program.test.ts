import { spawn } from 'node:child_process';
import { closeSync, openSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { defineCommand, NO_OPERANDS } from '../../src/cli/command.ts';
import { COMMANDS } from '../../src/cli/commands/index.ts';
import { editDistance, nearest } from '../../src/cli/nearest.ts';
import { createOutput, formatBytes, formatTable } from '../../src/cli/output.ts';
import { reflow, spaced } from '../../src/cli/reflow.ts';
import {
  EXIT_CODES,
  EXIT_FALSE,
  EXIT_INTERRUPTED,
  EXIT_OK,
  EXIT_PIPE,
  EXIT_UNEXPECTED,
  exitCodeOf,
} from '../../src/exit-codes.ts';
import { Git2dbError } from '../../src/xet/errors.ts';
import { cli, isolateGit, PROGRAM, repository, sourceFile, spawnCli, temporaryFolder } from './run.ts';

isolateGit();

test('--version is a semver on standard output', (t) => {
  const { status, stdout, stderr } = spawnCli(['--version']);
  t.is(status, 0);
  t.regex(stdout, /^\d+\.\d+\.\d+(-[\w.]+)?\n$/);
  t.is(stderr, '');
});

test('a list in a manual stays one, however narrow it has to be', async (t) => {
  const text = `Does this
and that:

  one    the first of them, which goes on in
         a second line
  a word the second

Not a  list.`;
  t.is(
    spaced(reflow(text, 30)),
    `Does this and that:

  one    the first of them,
         which goes on in a
         second line
  a word the second

Not a  list.`,
  );
  const { stdout } = await cli(['worktree', 'add', '--help']);
  t.regex(stdout, /\n {2}overlay2 {2}a tree [^\n]*\n {12}\S[^\n]*\n {2}reflink {3}a directory/);
});

test('--help is a manual on standard output, for the program and each command', async (t) => {
  for (const path of [[], ['xet'], ...COMMANDS.map((command) => command.path)]) {
    const { code, stdout, stderr } = await cli([...path, '--help']);
    t.is(code, 0, path.join(' '));
    t.is(stderr, '', path.join(' '));
    t.true(stdout.startsWith(`Usage: ${['git2db', ...path].join(' ')} `), path.join(' '));
    t.true(
      stdout.split('\n').every((line) => line.length <= 80),
      `${path.join(' ')}: a line is too long`,
    );
  }
  for (const command of COMMANDS) {
    const { stdout } = await cli([...command.path, '-h']);
    for (const part of ['JSON:', 'Examples:', 'Exit codes:', '--json', '--quiet', '--verbose']) {
      t.true(stdout.includes(part), `${command.path.join(' ')} has no ${part}`);
    }
    for (const name of Object.keys(command.options)) t.true(stdout.includes(`--${name}`), name);
  }
});

const refuses = test.macro({
  async exec(t, argv: string[], message: RegExp) {
    const { code, stdout, stderr } = await cli(argv);
    t.is(code, 2);
    t.is(stdout, '');
    t.regex(stderr, message);
    t.is(stderr.match(/\n/g)?.length, 1, 'more than one line');
  },
  title: (_, argv: string[]) => `'git2db ${argv.join(' ')}' is wrong usage`,
});

test(refuses, [], /expected a command; 'git2db --help'/);
test(refuses, ['xet'], /expected a command; 'git2db xet --help'/);
test(refuses, ['xte'], /unknown command 'xte'; did you mean 'git2db xet'\?/);
test(refuses, ['xet', 'instal'], /unknown command 'xet instal'; did you mean 'git2db xet install'\?/);
test(refuses, ['track', '*.bin'], /unknown command 'track'; did you mean 'git2db xet track'\?/);
test(refuses, ['frobnicate'], /unknown command 'frobnicate'; 'git2db --help' lists/);

test(refuses, ['xet', '-q'], /expected a command; 'git2db xet --help'/);
test(refuses, ['--frobnicate'], /unknown option '--frobnicate'/);
test(refuses, ['xet', 'install', '--froce'], /unknown option '--froce'; did you mean '--force'\?/);
test(refuses, ['xet', 'install', '--no-force'], /unknown option '--no-force'/);
test(refuses, ['xet', 'install', '-x'], /unknown option '-x'/);
test(refuses, ['xet', 'install', '--force=yes'], /--force takes no value/);
test(refuses, ['xet', 'install', '--local', '--global'], /--local and --global exclude each other/);
test(refuses, ['xet', 'hash', '-q', '-v', 'x'], /--quiet and --verbose exclude each other/);
test(refuses, ['xet', 'install', 'there'], /unexpected argument 'there'/);
test(refuses, ['xet', 'hash'], /expected FILE\.\.\., found nothing/);
test(refuses, ['xet', 'pointer', 'a', 'b'], /unexpected argument 'b'/);
test(refuses, ['xet', 'untrack'], /expected PATTERN\.\.\./);
test(refuses, ['xet', 'track', '--dry-run'], /expected PATTERN\.\.\./);
test(refuses, ['completion', 'fsh'], /expected one of bash, zsh, fish, found 'fsh'; did you mean/);
test(refuses, ['xet', 'hash', '--__proto__', '1', 'x'], /unknown option/);

const SHOW = defineCommand({
  path: ['show'],
  summary: 'Show the options',
  description: 'Shows what it was given.',
  operands: NO_OPERANDS,
  options: {
    level: { type: 'string', describe: 'How much', choices: ['low', 'high'], alias: 'l' },
    count: { type: 'number', describe: 'How many' },
    add: { type: 'string', describe: 'What else', repeat: true },
    name: { type: 'string', describe: 'Which' },
  },
  examples: [],
  exitCodes: [],
  async run({ options }, { output }) {
    const { level, count, add, name } = options;
    output.json({ level, count, add, name });
    return undefined;
  },
});

const gives = test.macro({
  async exec(t, argv: string[], expected: object | RegExp) {
    const catalogue = { commands: [SHOW], groups: [] };
    const { code, stdout, stderr } = await cli(['show', ...argv], { catalogue });
    t.is(code, expected instanceof RegExp ? 2 : 0, stderr);
    if (expected instanceof RegExp) t.regex(stderr, expected);
    else t.deepEqual(JSON.parse(stdout), expected);
  },
  title: (_, argv: string[]) => `option values: ${argv.join(' ')}`,
});

test(gives, [], { add: [] });
test(gives, ['--level', 'low', '--count=007', '--name', '1.50'], {
  level: 'low',
  count: 7,
  add: [],
  name: '1.50',
});
test(gives, ['-l', 'low', '-l', 'high', '--add', 'a', '--add=b'], { level: 'high', add: ['a', 'b'] });
test(gives, ['--level', 'hihg'], /--level: expected one of low, high, found 'hihg'; did you mean 'high'\?/);
test(gives, ['--count', 'many'], /--count needs a number, found 'many'/);
test(gives, ['--name'], /--name needs a value/);
test(gives, ['--name', '--count', '1'], /--name needs a value/);
test(gives, ['--add'], /--add needs a value/);

test('words after -- are operands, whatever they look like', async (t) => {
  const folder = temporaryFolder(t);
  writeFileSync(join(folder, '--json'), 'abc');
  const { status, stdout } = spawnCli(['xet', 'hash', '--', '--json', '007', '-v'], { cwd: folder });
  t.is(status, EXIT_FALSE);
  t.regex(stdout, /^[0-9a-f]{64} {2}--json\n$/);
});

test('an error is one message without a stack, and the exit code of its class', async (t) => {
  const folder = temporaryFolder(t);
  const outside = await cli(['xet', 'ls-files', 'HEAD'], { cwd: folder });
  t.is(outside.code, EXIT_CODES.NOT_A_REPOSITORY);
  t.is(outside.stderr, `git2db: ${folder} is in no git repository\n`);
  const gitless = spawnCli(['xet', 'ls-files'], { cwd: repository(t), env: { PATH: '/nowhere' } });
  t.is(gitless.status, EXIT_CODES.GIT_MISSING);
  t.notRegex(gitless.stderr, /\n\s+at /);
});

test('with --json an error is also one document on standard output', async (t) => {
  const directory = temporaryFolder(t);
  const lines = defineCommand({
    path: ['lines'],
    summary: 'Two lines, then a failure',
    description: '',
    operands: { usage: '[WORD]', min: 0, max: 1 },
    options: {},
    examples: [],
    exitCodes: [],
    async run({ operands }, { output }) {
      if (operands.length === 0) for (const line of [1, 2]) output.jsonLine({ line });
      else output.json({ whole: true });
      throw Object.assign(new Error('EACCES: no'), { code: 'EACCES' });
    },
  });
  const catalogue = { commands: [lines], groups: [] };
  for (const [argv, exitCode, code] of [
    [['xet', 'status', '--json'], 4, 'NOT_A_REPOSITORY'],
    [['xet', 'nope', '--json'], 2, 'USAGE'],
    [['--json'], 2, 'USAGE'],
    [['xet', 'status', '--json', '--bogus'], 2, 'USAGE'],
    [['--json', 'xet', 'hash', 'nofile'], 1, 'ENOENT'],
    [['xet', 'pointer', '--check', 'nofile', '--json'], 1, 'ENOENT'],
    [['list', '--json'], 55, 'REGISTRY_INVALID'],
  ] as const) {
    const { code: status, stdout, stderr } = await cli(argv, { cwd: directory });
    const { error } = JSON.parse(stdout);
    t.is(status, exitCode);
    t.like(error, { code, exitCode });
    t.is(stderr, `git2db: ${error.message}\n`);
  }
  t.is((await cli(['xet', 'nope', '--', '--json'], { cwd: directory })).stdout, '');

  // A command that goes on telling ends with a line; after a document there is no second one.
  const told = (await cli(['lines', '--json'], { catalogue })).stdout.trim().split('\n');
  t.deepEqual(
    told.map((line) => JSON.parse(line)),
    [{ line: 1 }, { line: 2 }, { error: { code: 'EACCES', exitCode: 3, message: 'EACCES: no' } }],
  );
  t.deepEqual(JSON.parse((await cli(['lines', '--json', 'x'], { catalogue })).stdout), { whole: true });
});

test('every class of error has an exit code of its own, from 2 on', (t) => {
  const codes = Object.values(EXIT_CODES);
  t.is(new Set(codes).size, codes.length);
  t.true(codes.every((code) => code >= 2 && code < 126 && code !== EXIT_UNEXPECTED));
  t.is(exitCodeOf(new Git2dbError('REFUSED', 'no')), EXIT_CODES.REFUSED);
  t.is(exitCodeOf(new TypeError('a bug')), EXIT_UNEXPECTED);
  t.is(exitCodeOf(Object.assign(new Error('stopped'), { name: 'AbortError' })), EXIT_INTERRUPTED);
});

test('docs/exit-codes.md lists exactly the exit codes there are', (t) => {
  const rows = [
    ...readFileSync(sourceFile('docs/exit-codes.md'), 'utf8').matchAll(
      /^\| +(\d+) \| +(?:`(\w+)` *)?\| +\S/gm,
    ),
  ];
  const documented = Object.fromEntries(
    rows.filter(([, , name]) => name).map(([, code, name]) => [name, Number(code)]),
  );
  t.deepEqual(documented, { ...EXIT_CODES });
  const others = rows.filter(([, , name]) => !name).map(([, code]) => Number(code));
  t.deepEqual(others, [EXIT_OK, EXIT_FALSE, EXIT_UNEXPECTED, EXIT_INTERRUPTED, EXIT_PIPE]);
});

for (const [name, program] of [
  ['git2db', PROGRAM],
  ['git2db-mount', PROGRAM.replace('/cli/', '/mount-helper/')],
] as const) {
  test(`${name}: standard output on a full disk is one line and a failure`, async (t) => {
    const full = openSync('/dev/full', 'w');
    const child = spawn(process.execPath, [program, '--help'], { stdio: ['ignore', full, 'pipe'] });
    closeSync(full);
    let stderr = '';
    child.stderr!.on('data', (bytes) => {
      stderr += bytes;
    });
    const code = await new Promise((resolve) => child.once('close', resolve));
    t.is(code, EXIT_UNEXPECTED);
    t.regex(stderr, new RegExp(`^${name}: cannot write to standard output: .*ENOSPC.*\\n$`));
  });
}

test('a reader of standard output that goes away ends the program quietly', async (t) => {
  const child = spawn(process.execPath, [PROGRAM, 'completion', 'bash'], {
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  child.stdout.destroy();
  let stderr = '';
  child.stderr.on('data', (bytes) => {
    stderr += bytes;
  });
  const code = await new Promise((resolve) => child.once('close', resolve));
  t.is(code, EXIT_PIPE);
  t.is(stderr, '');
});

test('--quiet leaves out notes and keeps warnings; --verbose adds details', async (t) => {
  const cwd = repository(t);
  const env = { PATH: `${process.env.PATH}` };
  const verbose = await cli(['xet', 'install', '--local', '--verbose'], { cwd, env });
  t.regex(verbose.stderr, /set filter\.xet\.process = git2db-filter/);
  t.regex(verbose.stderr, /git2db is installed/);
  const quiet = await cli(['xet', 'install', '--local', '--quiet'], { cwd, env: { PATH: '/bin:/usr/bin' } });
  t.notRegex(quiet.stderr, /installed/);
  t.regex(quiet.stderr, /^git2db: warning: git2db-filter is not on PATH/);
  t.is(quiet.stdout, '');
});

test('GIT2DB_LOG writes to standard error, or to GIT2DB_LOG_FILE; another level is a wrong setting', async (t) => {
  const cwd = repository(t);
  const argv = ['xet', 'install', '--local', '--quiet'];
  const logged = await cli(argv, { cwd, env: { GIT2DB_LOG: 'debug' } });
  t.regex(logged.stderr, /^\d{4}-\S+Z debug git2db xet install/m);
  const logFile = join(cwd, 'log');
  const toFile = await cli(argv, { cwd, env: { GIT2DB_LOG: 'info', GIT2DB_LOG_FILE: logFile } });
  t.notRegex(toFile.stderr, /info/);
  t.regex(readFileSync(logFile, 'utf8'), /^\S+ info git2db is already installed/m);
  const wrong = await cli(argv, { cwd, env: { GIT2DB_LOG: 'loud' } });
  t.is(wrong.code, EXIT_CODES.INVALID_CONFIG);
  t.regex(wrong.stderr, /GIT2DB_LOG is 'loud'; expected one of error, warn/);
});

test('colour and progress are for terminals, and NO_COLOR is respected', (t) => {
  const written: string[] = [];
  const sink = { write: (text: string) => written.push(text), isTTY: true, columns: 80 };
  const flags = { quiet: false, verbose: false };
  createOutput(flags, { stdout: sink, stderr: sink, env: {} }).warn('careful');
  createOutput(flags, { stdout: sink, stderr: sink, env: { NO_COLOR: '1' } }).warn('careful');
  t.deepEqual(written, ['git2db: \x1b[33mwarning:\x1b[0m careful\n', 'git2db: warning: careful\n']);
  written.length = 0;
  const piped = createOutput(flags, { stdout: sink, stderr: { ...sink, isTTY: false }, env: {} });
  const progress = piped.progress('work', 'items', 1);
  progress.advance(1);
  progress.finish();
  t.deepEqual(written, []);
});

test('a table pads its columns and ends no line in a blank', (t) => {
  const columns = [{ title: 'name' }, { title: 'size', align: 'right' as const }, { title: '' }];
  t.deepEqual(
    formatTable(columns, [
      ['a', '1000', ''],
      ['long name', '7', 'x'],
    ]),
    ['name       size', 'a          1000', 'long name     7  x'],
  );
  t.deepEqual([0, 1023, 1536, 2 ** 30 * 20].map(formatBytes), [
    '0 bytes',
    '1023 bytes',
    '1.50 KiB',
    '20.0 GiB',
  ]);
});

test('a slip of one letter in three is recognised, another word is not', (t) => {
  t.is(editDistance('track', 'tarck'), 1);
  t.is(editDistance('', 'abc'), 3);
  t.is(nearest('intsall', ['uninstall', 'install']), 'install');
  t.is(nearest('compl', ['completion', 'xet']), 'completion');
  t.is(nearest('gc', ['fsck', 'status']), undefined);
});

test('what is written piece by piece waits for a reader that is slower', async (t) => {
  let isFull = false;
  const waiting: (() => void)[] = [];
  const stdout = {
    write: () => {
      isFull = true;
    },
    get writableNeedDrain() {
      return isFull;
    },
    once: (event: string, listener: () => void) => event === 'drain' && waiting.push(listener),
  };
  const output = createOutput({ quiet: false, verbose: false }, { stdout, stderr: stdout, env: {} });
  await output.drained();
  output.bytes(Buffer.from('a piece'));
  let isTaken = false;
  const drained = output.drained().then(() => {
    isTaken = true;
  });
  await new Promise((resolve) => setImmediate(resolve));
  t.false(isTaken);
  for (const listener of waiting) listener();
  await drained;
  t.true(isTaken);
});
