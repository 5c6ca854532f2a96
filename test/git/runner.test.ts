import { mkdirSync } from 'node:fs';
import test from 'ava';
import fc from 'fast-check';
import { gitEnvironment } from '../../src/git/environment.ts';
import { failureOf, withoutSecrets } from '../../src/git/failure.ts';
import { splitRecords, splitZ } from '../../src/git/records.ts';
import { git, gitLinesZ, gitStream, gitSync, gitText } from '../../src/git/runner.ts';
import { compareVersions, gitAtLeast, gitVersion, requireGit } from '../../src/git/version.ts';
import type { Git2dbError } from '../../src/xet/errors.ts';
import { createSandbox, isolateProcess } from '../helpers/git-sandbox.ts';

isolateProcess();

/** A git command that runs the shell text `script`, from git itself. */
function shell(script: string): string[] {
  return ['-c', `alias.script=!${script}`, 'script'];
}

test('stdout is bytes, input is passed on and a trailing newline is removed from text', async (t) => {
  const { dir: cwd, env } = createSandbox(t);
  await git(['init', '--quiet'], { cwd, env });
  const body = Buffer.from([0, 0xff, 0x0a, 0xc3]);
  const oid = await gitText(['hash-object', '-w', '--stdin'], { cwd, env, input: body });
  t.regex(oid, /^[0-9a-f]{40}$/);
  t.deepEqual((await git(['cat-file', 'blob', oid], { cwd, env })).stdout, body);
  t.deepEqual(gitSync(['cat-file', 'blob', oid], { cwd, env }).stdout, body);
  t.is(gitSync(['hash-object', '--stdin'], { cwd, env, input: body }).stdout.toString(), `${oid}\n`);
  t.is(await gitText(['cat-file', '-t', oid], { cwd, env }), 'blob');
});

test('paths come back as bytes between NULs', async (t) => {
  const { dir: cwd, env } = createSandbox(t);
  await git(['init', '--quiet'], { cwd, env });
  const oid = '1'.repeat(40);
  const odd = [Buffer.from('a\n"b'), Buffer.from([0x66, 0xff])];
  for (const path of odd) {
    const input = Buffer.concat([Buffer.from(`100644 ${oid}\t`), path, Buffer.of(0)]);
    await git(['update-index', '-z', '--index-info'], { cwd, env, input });
  }
  t.deepEqual(await gitLinesZ(['ls-files', '-z'], { cwd, env }), odd);
});

test('progress is not among the last words of a git that fails', (t) => {
  const stderr =
    'remote: Enumerating objects: 42, done.\nremote: Compressing objects:  54% (23/42)\rReceiving objects:  19% (8/42), ' +
    '10.98 MiB | 21.96 MiB/s\rfatal: write error: No space left on device\nfatal: fetch-pack: invalid index-pack output\n';
  const failure = failureOf(['fetch'], {}, 128, null, stderr) as Git2dbError;
  t.is(
    failure.message,
    'git fetch failed with status 128: fatal: write error: No space left on device\nfatal: fetch-pack: invalid index-pack output',
  );
  t.is(failure.data.stderr, stderr);
});

test('a failing git is an error with its arguments, its status and the end of its stderr', async (t) => {
  const { dir: cwd, env } = createSandbox(t);
  const args = ['rev-parse', '--verify', 'no such ref'];
  const error = (await t.throwsAsync(git(args, { cwd, env }))) as Git2dbError;
  t.is(error.code, 'GIT_FAILED');
  t.true(
    error.message.startsWith(`git rev-parse --verify "no such ref" in ${cwd} failed with status 128: fatal:`),
  );
  t.deepEqual(error.data.args, args);
  t.is(error.data.status, 128);
  const sync = t.throws(() => gitSync(args, { cwd, env })) as Git2dbError;
  t.is(sync.message, error.message);
  t.is((await git(args, { cwd, env, okStatus: [0, 128] })).status, 128);
  t.is(gitSync(args, { cwd, env, okStatus: [128] }).status, 128);
});

test('a secret in an argument or in what git says is not repeated', async (t) => {
  const { dir: cwd, env } = createSandbox(t);
  const url = 'https://me:hunter2@127.0.0.1:1/x.git';
  const error = (await t.throwsAsync(git(['ls-remote', url], { cwd, env }))) as Git2dbError;
  t.notRegex(JSON.stringify([error.message, error.data]), /hunter2/);
  t.regex(error.message, /https:\/\/127\.0\.0\.1:1\/x\.git/);
  // A long argument is cut, but not before the secret is out of it.
  const long = `https://me:${'hunter2'.repeat(40)}@host/x`;
  const cut = (await t.throwsAsync(git(['ls-remote', '--no-such-flag', long], { cwd, env }))) as Git2dbError;
  t.notRegex(JSON.stringify([cut.message, cut.data]), /hunter2/);
});

const redacted = test.macro({
  exec: (t, text: string, expected: string) => t.is(withoutSecrets(text), expected),
  title: (_, text) => `withoutSecrets: ${text}`,
});
test(redacted, 'https://user@host/x', 'https://host/x');
test(redacted, 'https://u:p@ss@host/x?a=b@c', 'https://host/x?a=b@c');
test(redacted, 'ssh://git@host:22/x and ftp://a:b@c', 'ssh://host:22/x and ftp://c');
test(redacted, 'git@host:x.git', 'git@host:x.git');
test(redacted, 'https://host/@scope/x', 'https://host/@scope/x');
test(redacted, 'http.extraHeader=Authorization: Bearer abc', 'http.extraHeader=***');
test(redacted, 'file.txt', 'file.txt');

test('a git that is not on PATH is GIT_MISSING and says what to do', async (t) => {
  const { dir: cwd, tmp } = createSandbox(t);
  const options = { cwd, env: { PATH: tmp } };
  const thrown = [
    await t.throwsAsync(git(['--version'], options)),
    t.throws(() => gitSync(['--version'], options)),
    await t.throwsAsync(async () => {
      for await (const _ of gitStream(['--version'], options).stdout);
    }),
  ] as Git2dbError[];
  for (const error of thrown) {
    t.is(error.code, 'GIT_MISSING');
    t.regex(error.message, /install git/);
  }
});

test('a directory that does not exist is not mistaken for a missing git', async (t) => {
  const cwd = createSandbox(t).path('gone');
  const error = (await t.throwsAsync(git(['--version'], { cwd }))) as Git2dbError;
  t.is(error.code, 'GIT_FAILED');
  t.true(error.message.includes(cwd));
  t.throws(() => gitSync(['--version'], { cwd }), { message: error.message });
});

test('an argument git cannot be given is a failure to start, not a crash', async (t) => {
  await t.throwsAsync(git(['a\0b']), { code: 'GIT_FAILED' });
  await t.throwsAsync(git(['x'.repeat(200_000)]), { code: 'GIT_FAILED', message: /E2BIG/ });
});

test('an aborted run rejects with AbortError and its git is gone', async (t) => {
  const { dir: cwd, env } = createSandbox(t);
  await t.throwsAsync(git(['--version'], { signal: AbortSignal.abort() }), { name: 'AbortError' });
  t.throws(() => gitSync(['--version'], { signal: AbortSignal.abort() }), { name: 'AbortError' });

  const controller = new AbortController();
  const { stdout } = gitStream(shell('echo $PPID; exec sleep 60'), { cwd, env, signal: controller.signal });
  let pid = 0;
  const error = await t.throwsAsync(async () => {
    for await (const piece of stdout) {
      pid = Number(piece.toString());
      controller.abort(new Error('enough'));
    }
  });
  t.is(error?.name, 'AbortError');
  t.like(error?.cause, { message: 'enough' });
  t.throws(() => process.kill(pid, 0), { code: 'ESRCH' });
});

test('a signal that asks git to stop is an abort, a crash is a failure', async (t) => {
  const { dir: cwd, env } = createSandbox(t);
  await t.throwsAsync(git(shell('kill -TERM $PPID; sleep 1'), { cwd, env }), { name: 'AbortError' });
  await t.throwsAsync(git(shell('kill -KILL $PPID'), { cwd, env }), {
    code: 'GIT_FAILED',
    message: /was killed by SIGKILL/,
  });
});

test('more output than allowed is an error, for the run and the synchronous run', async (t) => {
  const { dir: cwd, env } = createSandbox(t);
  const options = { cwd, env, maxOutput: 1000 };
  await t.throwsAsync(git(shell('yes'), options), { code: 'LIMIT_EXCEEDED' });
  t.throws(() => gitSync(shell('yes'), options), { code: 'LIMIT_EXCEEDED' });
  t.is((await git(shell('head -c 1000 /dev/zero'), options)).stdout.length, 1000);
});

test.serial('variables that name a repository are dropped, unless they are kept on purpose', async (t) => {
  const { dir, env, path } = createSandbox(t);
  for (const name of ['one', 'two']) await git(['init', '--quiet', name], { cwd: dir, env });
  process.env.GIT_DIR = path('one', '.git');
  t.teardown(() => delete process.env.GIT_DIR);
  const question = ['rev-parse', '--absolute-git-dir'];
  const cwd = path('two');
  t.is(await gitText(question, { cwd, env }), path('two', '.git'));
  t.is(await gitText(question, { cwd, env, keepGitEnv: true }), path('one', '.git'));
  t.is(await gitText(question, { cwd, env: { ...env, GIT_DIR: path('one', '.git') } }), path('one', '.git'));
});

test.serial('every local variable this git knows is dropped, but for settings the user gave', async (t) => {
  const local = (await gitText(['rev-parse', '--local-env-vars'])).split('\n');
  const before = { ...process.env };
  t.teardown(() => {
    for (const name of local) if (!(name in before)) delete process.env[name];
  });
  for (const name of local) process.env[name] = 'x';
  const kept = local.filter((name) => gitEnvironment({})[name] !== undefined);
  t.deepEqual(kept.sort(), ['GIT_CONFIG_COUNT', 'GIT_CONFIG_PARAMETERS']);
  t.deepEqual(
    local.filter((name) => gitEnvironment({ keepGitEnv: true })[name] === undefined),
    [],
  );
});

test('git speaks one language and asks nothing, except to the user at a terminal', (t) => {
  const quiet = gitEnvironment({});
  t.is(quiet.LC_ALL, 'C');
  t.is(quiet.GIT_TERMINAL_PROMPT, '0');
  t.is(gitEnvironment({ interactive: true }).GIT_TERMINAL_PROMPT, undefined);
  t.false('HOME' in gitEnvironment({ env: { HOME: undefined } }));
});

test('a stream gives all of a large output and takes a large input at the same time', async (t) => {
  const { dir: cwd, env } = createSandbox(t);
  await git(['init', '--quiet'], { cwd, env });
  const count = 50_000;
  async function* names(): AsyncIterable<Buffer> {
    for (let at = 0; at < count; at += 1000) yield Buffer.from(`${'0'.repeat(40)}\n`.repeat(1000));
  }
  const { stdout, done } = gitStream(['cat-file', '--batch-check'], { cwd, env, input: names() });
  let lines = 0;
  for await (const line of splitRecords(stdout, 0x0a)) {
    if (line.toString() === `${'0'.repeat(40)} missing`) lines++;
  }
  t.is(lines, count);
  await done;
});

test('leaving a stream early stops git and is no failure', async (t) => {
  const { dir: cwd, env } = createSandbox(t);
  const { stdout, done } = gitStream(shell('yes'), { cwd, env });
  for await (const piece of stdout) {
    t.true(piece.length > 0);
    break;
  }
  await t.notThrowsAsync(done);
});

test('a stream whose git fails throws after what came before', async (t) => {
  const { dir: cwd, env } = createSandbox(t);
  const { stdout, done } = gitStream(shell('echo first; echo reason >&2; exit 3'), { cwd, env });
  const seen: string[] = [];
  const error = (await t.throwsAsync(async () => {
    for await (const piece of stdout) seen.push(piece.toString());
  })) as Git2dbError;
  t.deepEqual(seen, ['first\n']);
  t.is(error.data.status, 3);
  t.regex(error.message, /reason/);
  t.is(await t.throwsAsync(done), error);
});

test('an input that fails stops git and is the error of the stream', async (t) => {
  const { dir: cwd, env } = createSandbox(t);
  async function* broken(): AsyncIterable<Buffer> {
    yield Buffer.from('some');
    throw new RangeError('no more');
  }
  const { stdout } = gitStream(['hash-object', '--stdin'], { cwd, env, input: broken() });
  await t.throwsAsync(
    async () => {
      for await (const _ of stdout);
    },
    { instanceOf: RangeError, message: 'no more' },
  );
});

test('a git that ends without reading its input is judged by its status', async (t) => {
  const { dir: cwd, env } = createSandbox(t);
  const input = Buffer.alloc(4 * 2 ** 20);
  t.is(await gitText(shell('echo done'), { cwd, env, input }), 'done');
  t.is(gitSync(shell('echo done'), { cwd, env, input }).stdout.toString(), 'done\n');
});

test('records are the same however the stream was sliced', async (t) => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.uint8Array({ maxLength: 5 }).map((bytes) => Buffer.from(bytes).map((byte) => byte | 1))),
      fc.boolean(),
      fc.integer({ min: 1, max: 7 }),
      async (records, terminated, step) => {
        const joined = Buffer.concat(records.flatMap((record) => [record, Buffer.of(0)]));
        const stream = terminated || records.at(-1)?.length === 0 ? joined : joined.subarray(0, -1);
        async function* sliced(): AsyncIterable<Buffer> {
          for (let at = 0; at < stream.length; at += step) yield stream.subarray(at, at + step);
        }
        const seen: Buffer[] = [];
        for await (const record of splitRecords(sliced(), 0)) seen.push(record);
        t.deepEqual(seen.map(String), records.map((record) => Buffer.from(record)).map(String));
        t.deepEqual([...splitZ(stream)].map(String), seen.map(String));
      },
    ),
  );
});

test('versions are compared number by number', async (t) => {
  t.true(compareVersions('2.9', '2.10') < 0);
  t.true(compareVersions('2.39.5', '2.39') > 0);
  t.is(compareVersions('2.40', '2.40.0'), 0);
  t.regex(await gitVersion(), /^\d+\.\d+/);
  t.true(await gitAtLeast('2.0'));
  await t.notThrowsAsync(requireGit('2.0', 'everything'));
  await t.throwsAsync(requireGit('99.1', 'time travel'), {
    code: 'GIT_MISSING',
    message: /time travel needs git 99\.1 or newer, found \d/,
  });
});

test('the sandbox keeps to itself', async (t) => {
  const sandbox = createSandbox(t, { config: { 'filter.x y.clean': 'a "b" \\c' } });
  mkdirSync(sandbox.path('r'));
  await sandbox.git(['init', '--quiet'], { cwd: 'r' });
  t.is(await sandbox.gitText(['config', 'filter.x y.clean'], { cwd: 'r' }), 'a "b" \\c');
  t.is(await sandbox.gitText(['symbolic-ref', 'HEAD'], { cwd: 'r' }), 'refs/heads/main');
  const origins = await sandbox.gitText(['config', '--list', '--show-origin', '--name-only'], { cwd: 'r' });
  for (const line of origins.split('\n')) t.regex(line, /^file:(\.git\/config|\S*\/home\/\.gitconfig)\t/);
  await t.throwsAsync(sandbox.git(['rev-parse'], { cwd: '..' }), { message: /not a git repository/ });
  t.is((await sandbox.run('git', ['rev-parse'], { cwd: '..' })).status, 128);
});
