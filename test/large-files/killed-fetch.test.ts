/** A checkout whose fetch is killed, or interrupted by Ctrl-C: git says why, and a second one completes. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, readdirSync } from 'node:fs';
import type { ServerResponse } from 'node:http';
import test, { type ExecutionContext } from 'ava';
import { cli } from '../cli/run.ts';
import { isolateProcess } from '../helpers/git-sandbox.ts';
import { serveStatic } from '../helpers/static-server.ts';
import { fetchers, until } from './fetchers.ts';
import { createLargeFileSandbox, type LargeFileSandbox, litter, noise } from './repositories.ts';

isolateProcess();

const CONTENTS = [noise(300_000, 1), noise(200_000, 2)];

interface Rig {
  readonly sandbox: LargeFileSandbox;
  /** `git checkout` of the clone `b`, which has nothing, up to where content is asked for and does not come. */
  stall(): Promise<{ readonly git: ChildProcess; readonly ended: Promise<string> }>;
  /** What was not answered so far is broken off; from now on everything is answered. */
  resume(): void;
}

async function setUp(t: ExecutionContext): Promise<Rig> {
  const sandbox = createLargeFileSandbox(t);
  await sandbox.git(['init', '-q', '--bare', 'hub']);
  mkdirSync(sandbox.path('nas'));
  await sandbox.init('a');
  for (const [i, content] of CONTENTS.entries()) sandbox.write(`a/${i}.bin`, content);
  await sandbox.commitAll('a');
  await sandbox.git(['remote', 'add', 'origin', `file://${sandbox.path('hub')}`], { cwd: 'a' });
  await sandbox.git(['config', 'remote.origin.xeturl', sandbox.path('nas/store')], { cwd: 'a' });
  const pushed = await cli(['xet', 'push'], { cwd: sandbox.path('a'), env: sandbox.env });
  if (pushed.code !== 0) throw new Error(pushed.stderr);
  await sandbox.git(['push', '-q', '--no-verify', 'origin', 'main'], { cwd: 'a' });
  let isStalled = true;
  let asked = () => {};
  const waiting: ServerResponse[] = [];
  const { url } = await serveStatic(t, sandbox.path('nas/store'), {
    intercept: (request, response) => {
      if (!isStalled || !request.url?.startsWith('/xorbs/')) return false;
      waiting.push(response);
      asked();
      return true;
    },
  });
  await sandbox.git(['clone', '-q', '--no-checkout', 'hub', 'b']);
  // Not the store beside the repository, which would be read without a fetch.
  await sandbox.git(['remote', 'set-url', 'origin', 'ssh://git@example.invalid/x.git'], { cwd: 'b' });
  await sandbox.git(['config', 'remote.origin.xeturl', url], { cwd: 'b' });
  return {
    sandbox,
    async stall() {
      const isAsked = new Promise<void>((resolve) => {
        asked = resolve;
      });
      // In a process group of its own, as a shell starts it: Ctrl-C is for all of it.
      const git = spawn('git', ['checkout', '-f', 'main'], {
        cwd: sandbox.path('b'),
        env: { ...sandbox.env },
        stdio: ['ignore', 'ignore', 'pipe'],
        detached: true,
      });
      let text = '';
      git.stderr?.on('data', (piece: Buffer) => {
        text += piece.toString();
      });
      t.teardown(() => {
        if (git.exitCode === null && git.signalCode === null) process.kill(-(git.pid as number), 'SIGKILL');
      });
      const ended = once(git, 'close').then(() => text);
      await Promise.race([isAsked, ended.then(() => Promise.reject(new Error(`git ended: ${text}`)))]);
      return { git, ended };
    },
    resume() {
      isStalled = false;
      for (const response of waiting.splice(0)) response.destroy();
    },
  };
}

/** Everything is there, once, and nothing half-made is left. */
async function completes(t: ExecutionContext, { sandbox }: Rig): Promise<void> {
  await sandbox.git(['checkout', '-q', '-f', 'main'], { cwd: 'b' });
  for (const [i, content] of CONTENTS.entries()) t.true(sandbox.read(`b/${i}.bin`).equals(content));
  t.is(await sandbox.gitText(['status', '--porcelain'], { cwd: 'b' }), '');
  t.deepEqual(readdirSync(sandbox.path('b/.git/xet/incoming')), []);
  t.deepEqual(litter(sandbox.path('b')), []);
  const { code, stderr } = await cli(['xet', 'fsck'], { cwd: sandbox.path('b'), env: sandbox.env });
  t.is(code, 0, stderr);
}

test('a fetch that is killed fails the checkout by its name, and the next one completes', async (t) => {
  const rig = await setUp(t);
  const { git, ended } = await rig.stall();
  const pids = fetchers(rig.sandbox.path('b'));
  t.is(pids.length, 1);
  for (const pid of pids) process.kill(pid, 'SIGKILL');
  const text = await ended;
  t.not(git.exitCode, 0);
  t.regex(
    text,
    /^git2db-filter[^\n]*[01]\.bin: [^\n]*git2db xet hook fetch-content\) was ended by SIGKILL\. /m,
  );
  t.notRegex(text, /\n\s+at /);
  for (const [i] of CONTENTS.entries()) t.false(existsSync(rig.sandbox.path(`b/${i}.bin`)));
  rig.resume();
  await completes(t, rig);
});

test('Ctrl-C during the fetch of a checkout ends all its processes, and the next one completes', async (t) => {
  const rig = await setUp(t);
  const { git, ended } = await rig.stall();
  process.kill(-(git.pid as number), 'SIGINT');
  const text = await ended;
  t.true(git.signalCode === 'SIGINT' || git.exitCode !== 0);
  t.notRegex(text, /\n\s+at /);
  await until(t, () => fetchers(rig.sandbox.path('b')).length === 0, 'the fetch goes on');
  t.false(existsSync(rig.sandbox.path('b/.git/index.lock')));
  for (const [i] of CONTENTS.entries()) t.false(existsSync(rig.sandbox.path(`b/${i}.bin`)));
  rig.resume();
  await completes(t, rig);
});
