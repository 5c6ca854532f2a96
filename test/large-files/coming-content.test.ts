/** A checkout from a server: what has come of a file goes to git while the rest is on its way. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { createServer, request as send } from 'node:http';
import type { AddressInfo } from 'node:net';
import test, { type ExecutionContext } from 'ava';
import { isolateProcess } from '../helpers/git-sandbox.ts';
import { chunkEnds } from '../helpers/store-sandbox.ts';
import { fetchers, until } from './fetchers.ts';
import { createLargeFileSandbox, type LargeFileSandbox, litter, noise } from './repositories.ts';
import { serve } from './serving.ts';

isolateProcess();

/** Larger than what is told of as a part. */
const XORB = 9 << 20;
/** A file of three xorbs: two of its beginnings were pushed before it. */
const CONTENT = noise(3 * XORB, 7);
const ENDS = chunkEnds(CONTENT);
const VERSIONS = [1, 2, 3].map((n) =>
  CONTENT.subarray(
    0,
    ENDS.findLast((end) => end <= n * XORB),
  ),
);

type Fault = 'none' | 'hold' | 'damage' | 'missing';

interface Rig {
  readonly sandbox: LargeFileSandbox;
  /** What becomes of requests for the last xorb of the file. */
  fault: Fault;
  /** Begins `git checkout` of the clone `b`, which has nothing. */
  checkOut(): { readonly git: ChildProcess; readonly ended: Promise<string> };
  /** Whether git has asked for the content, having been told that there is some. */
  isGiven(): boolean;
  resume(fault: Fault): void;
}

async function setUp(t: ExecutionContext): Promise<Rig> {
  const sandbox = createLargeFileSandbox(t);
  const url = await serve(t, sandbox);
  const { port } = new URL(url);
  const stored = () => readdirSync(sandbox.path('served/xorbs'), { recursive: true }).map(String);
  await sandbox.init('a');
  await sandbox.git(['remote', 'add', 'origin', `${url}/models.git`], { cwd: 'a' });
  let before: string[] = [];
  for (const version of VERSIONS) {
    before = existsSync(sandbox.path('served/xorbs')) ? stored() : [];
    sandbox.write('a/model.bin', version);
    await sandbox.git(['add', '.'], { cwd: 'a' });
    // One commit, whose clone needs nothing of the versions before.
    await sandbox.git(['commit', '-q', '-m', 'content', ...(before.length > 0 ? ['--amend'] : [])], {
      cwd: 'a',
    });
    const pushed = await sandbox.xet('a', ['push', 'origin', 'main']);
    if (pushed.status !== 0) throw new Error(pushed.stderr);
  }
  await sandbox.git(['push', '-q', '--no-verify', 'origin', 'main'], { cwd: 'a' });
  const last = stored().find((name) => !before.includes(name) && /[0-9a-f]{64}$/.test(name)) as string;
  const held: (() => void)[] = [];
  const trace = sandbox.path('trace');
  const rig: Rig = {
    sandbox,
    fault: 'none',
    checkOut() {
      const git = spawn('git', ['checkout', '-f', 'main'], {
        cwd: sandbox.path('b'),
        env: { ...sandbox.env, GIT2DB_FILTER_TRACE: trace },
        stdio: ['ignore', 'ignore', 'pipe'],
      });
      let text = '';
      git.stderr?.on('data', (piece: Buffer) => {
        text += piece.toString();
      });
      t.teardown(() => git.kill('SIGKILL'));
      return { git, ended: once(git, 'close').then(() => text) };
    },
    isGiven: () =>
      existsSync(trace) && (readFileSync(trace, 'utf8').match(/ smudge model\.bin/g) ?? []).length === 2,
    resume(fault) {
      rig.fault = fault;
      for (const go of held.splice(0)) go();
    },
  };
  const proxy = await proxyTo(t, port, (url) => (url.includes(last.slice(-64)) ? rig : undefined), held);
  await sandbox.git(['clone', '-q', '--no-checkout', `http://127.0.0.1:${proxy}/models.git`, 'b']);
  return rig;
}

/** `faulty` says whose fault is done to what a URL names. */
async function proxyTo(
  t: ExecutionContext,
  port: string,
  faulty: (url: string) => { readonly fault: Fault } | undefined,
  held: (() => void)[],
): Promise<number> {
  const server = createServer((request, response) => {
    const { method, url = '/', headers } = request;
    const answer = () => {
      const fault = faulty(url)?.fault ?? 'none';
      if (fault === 'hold') {
        held.push(answer);
        return;
      }
      if (fault === 'missing') {
        response.writeHead(404).end();
        return;
      }
      const passed = send({ port, host: '127.0.0.1', method, path: url, headers }, (from) => {
        response.writeHead(from.statusCode as number, from.headers);
        from.on('data', (piece: Buffer) => {
          if (fault === 'damage' && piece.length > 100) piece[50] = (piece[50] as number) ^ 1;
          response.write(piece);
        });
        from.on('end', () => response.end());
      });
      passed.on('error', () => response.destroy());
      request.pipe(passed);
    };
    answer();
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.teardown(() => {
    server.closeAllConnections();
    server.close();
  });
  return (server.address() as AddressInfo).port;
}

/** A checkout that has been given some of the file; the rest is held back. */
async function begin(t: ExecutionContext) {
  const rig = await setUp(t);
  rig.fault = 'hold';
  const { git, ended } = rig.checkOut();
  await until(t, rig.isGiven, 'git is not given what has come');
  return { rig, git, ended };
}

/** The file is there, nothing half-made is left, and the store is sound. */
async function isWhole(t: ExecutionContext, { sandbox }: Rig): Promise<void> {
  t.true(sandbox.read('b/model.bin').equals(VERSIONS[2]!));
  t.is(await sandbox.gitText(['status', '--porcelain'], { cwd: 'b' }), '');
  t.deepEqual(readdirSync(sandbox.path('b/.git/xet/incoming')), []);
  t.deepEqual(litter(sandbox.path('b')), []);
  const fsck = await sandbox.xet('b', ['fsck']);
  t.is(fsck.status, 0, fsck.stderr);
}

test('git is given what has come of a file while the rest is on its way', async (t) => {
  const { rig, git, ended } = await begin(t);
  rig.resume('none');
  const text = await ended;
  t.is(git.exitCode, 0, text);
  await isWhole(t, rig);
});

test('where the rest of a file that was begun is damaged or lost, git drops what it got', async (t) => {
  for (const fault of ['damage', 'missing'] as const) {
    const { rig, git, ended } = await begin(t);
    rig.resume(fault);
    const text = await ended;
    t.not(git.exitCode, 0, fault);
    t.regex(text, /^git2db-filter[^\n]*model\.bin: /m, fault);
    t.notRegex(text, /\n\s+at /);
    t.false(existsSync(rig.sandbox.path('b/model.bin')), fault);
    rig.resume('none');
    await rig.sandbox.git(['checkout', '-q', '-f', 'main'], { cwd: 'b' });
    await isWhole(t, rig);
  }
});

test('a checkout that is killed while a file comes ends its fetch, and the next one completes', async (t) => {
  const { rig, git, ended } = await begin(t);
  git.kill('SIGKILL');
  rig.resume('none');
  await ended;
  await until(t, () => fetchers(rig.sandbox.path('b')).length === 0, 'the fetch goes on');
  rmSync(rig.sandbox.path('b/.git/index.lock'), { force: true });
  await rig.sandbox.git(['checkout', '-q', '-f', 'main'], { cwd: 'b' });
  await isWhole(t, rig);
});

test('where pointers may stand for what is missing, a file is not begun before all of it is there', async (t) => {
  const rig = await setUp(t);
  await rig.sandbox.git(['config', 'xet.onMissing', 'pointer'], { cwd: 'b' });
  rig.fault = 'hold';
  const { git, ended } = rig.checkOut();
  const store = rig.sandbox.path('b/.git/xet/xorbs');
  const xorbs = () => (existsSync(store) ? readdirSync(store, { recursive: true }).length : 0);
  // Two xorbs, each in a directory of its own name's beginning.
  await until(t, () => xorbs() >= 4, 'nothing comes');
  t.false(rig.isGiven());
  rig.resume('missing');
  const text = await ended;
  t.is(git.exitCode, 0, text);
  t.true(rig.sandbox.read('b/model.bin').length < 300, 'a pointer');
});
