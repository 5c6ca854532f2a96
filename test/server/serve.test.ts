/** The command `git2db serve`, as a process; killed in the middle; two of them on one bucket of a real S3 server. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, readFileSync, renameSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import test, { type ExecutionContext } from 'ava';
import { CasStore } from '../../src/xet/cas/client.ts';
import { HttpClient } from '../../src/xet/cas/http.ts';
import { staticToken } from '../../src/xet/cas/token.ts';
import { parseHash } from '../../src/xet/hash/xet-hash.ts';
import { LocalStore } from '../../src/xet/store/local-store.ts';
import { MemoryStore } from '../../src/xet/store/memory-store.ts';
import { fetchFiles } from '../../src/xet/transfer/fetch.ts';
import { pushFiles } from '../../src/xet/transfer/push.ts';
import { cli } from '../cli/run.ts';
import { createSandbox, isolateProcess, type Sandbox } from '../helpers/git-sandbox.ts';
import { s3Missing, startS3 } from '../helpers/s3-server.ts';
import { createStore, randomBytes } from '../helpers/store-sandbox.ts';
import { askServer } from './rig.ts';

isolateProcess();

const PROGRAM = fileURLToPath(new URL('serve-process.js', import.meta.url));

interface Serving {
  readonly url: string;
  readonly child: ChildProcess;
  /** What it has said on standard error so far. */
  said(): string;
}

async function serve(
  t: ExecutionContext,
  sandbox: Sandbox,
  args: readonly string[],
  env: Readonly<Record<string, string>> = {},
): Promise<Serving> {
  const words = [PROGRAM, '--json', '--listen', '127.0.0.1:0', ...args];
  const child = spawn(process.execPath, words, { cwd: sandbox.dir, env: { ...sandbox.env, ...env } });
  t.teardown(() => child.kill('SIGKILL'));
  let said = '';
  child.stderr.on('data', (piece) => {
    said += piece;
  });
  let text = '';
  for await (const piece of child.stdout) {
    text += piece;
    if (text.includes('\n}')) break;
  }
  if (text === '') throw new Error(`the server did not start: ${said}`);
  return { url: (JSON.parse(text) as { url: string }).url, child, said: () => said };
}

async function until(what: () => boolean | Promise<boolean>): Promise<void> {
  for (let tries = 0; tries < 600; tries++) {
    if (await what()) return;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  throw new Error('what was waited for did not come');
}

function clientOf(t: ExecutionContext, url: string, token: string): CasStore {
  const client = CasStore.open({
    http: HttpClient.open(),
    casUrl: url,
    token: staticToken(url, token),
    closesHttp: true,
  });
  t.teardown(() => client[Symbol.asyncDispose]());
  return client;
}

async function tokenOf(sandbox: Sandbox, ...args: readonly string[]): Promise<string> {
  const made = await cli(['serve', 'token', ...args], { cwd: sandbox.dir, env: sandbox.env });
  if (made.code !== 0) throw new Error(made.stderr);
  return made.stdout.trim();
}

test('tokens and repositories made by the commands are those of the server', async (t) => {
  const sandbox = createSandbox(t);
  const token = await tokenOf(sandbox, '--scope', 'write', '--repository', 'team/*', '--expires', '1h');
  const made = await cli(['serve', 'init', 'team/one', '--repositories', 'git', '--json'], {
    cwd: sandbox.dir,
  });
  t.is(JSON.parse(made.stdout).path, sandbox.path('git/team/one.git'));
  t.is((await cli(['serve', 'init', 'team/one', '--repositories', 'git'], { cwd: sandbox.dir })).code, 51);
  t.is((await cli(['serve', 'init', '../x', '--repositories', 'git'], { cwd: sandbox.dir })).code, 50);
  const { url, child } = await serve(t, sandbox, [
    '--store',
    'xet',
    '--repositories',
    'git',
    '--access-log',
    'log',
    '--anonymous',
    'none',
  ]);
  await sandbox.git(['init', '-q', 'a']);
  sandbox.write('a/x', '1');
  await sandbox.git(['add', '.'], { cwd: 'a' });
  await sandbox.git(['commit', '-qm', '1'], { cwd: 'a' });
  await sandbox.git(['push', '-q', `${url.replace('//', `//u:${token}@`)}/team/one.git`, 'main'], {
    cwd: 'a',
  });
  t.is((await askServer(url, 'GET', '/team/one.git/info/refs?service=git-upload-pack')).status, 401);
  // For log rotation: the file is opened anew.
  renameSync(sandbox.path('log'), sandbox.path('log.1'));
  child.kill('SIGHUP');
  await until(() => existsSync(sandbox.path('log')));
  await askServer(url, 'GET', '/healthz');
  await until(() => readFileSync(sandbox.path('log'), 'utf8').includes('/healthz'));
  const log = readFileSync(sandbox.path('log.1'), 'utf8');
  t.true(log.includes('"git.push"'));
  t.false(log.includes(token));
  child.kill('SIGTERM');
  const [code] = await once(child, 'exit');
  t.is(code, 0);
});

test('options that make no sense are refused in one line with their exit code', async (t) => {
  const sandbox = createSandbox(t);
  const run = (...args: string[]) =>
    cli(['serve', '--store', 'xet', ...args], { cwd: sandbox.dir, env: sandbox.env });
  for (const [args, code, text] of [
    [['--listen', 'nowhere'], 2, /HOST:PORT/],
    [['--listen', '127.0.0.1:99999'], 2, /HOST:PORT/],
    [['--rate', 'fast'], 2, /N\/s/],
    [['--max-upload', '-1'], 2, /above 0/],
    [['--tls-cert', 'x'], 2, /go together/],
    [['--listen', '127.0.0.1:0', '--tls-cert', 'x', '--tls-key', 'y'], 7, /TLS file /],
    [['--key-file', 'none'], 7, /does not exist/],
    [['--listen', '127.0.0.1:0', '--public-url', 'ftp://x'], 7, /public URL/],
    [['--listen', '127.0.0.1:0', '--repositories', '/dev/null/x'], 7, /directory of repositories/],
  ] as const) {
    const result = await run(...args);
    t.is(result.code, code, result.stderr);
    t.regex(result.stderr, text);
    t.is(result.stderr.trim().split('\n').length, 1, result.stderr);
  }
  t.is((await cli(['serve', 'token', '--expires', 'soon'], { cwd: sandbox.dir, env: sandbox.env })).code, 2);
  t.is(
    (await cli(['serve', 'token', '--repository', 'a b'], { cwd: sandbox.dir, env: sandbox.env })).code,
    7,
  );
  t.is((await cli(['serve', 'tokens'], { cwd: sandbox.dir })).code, 2);
  t.regex((await cli(['serve', '--help'], { cwd: sandbox.dir })).stdout, /serve token/);
});

test('a server that is killed in an upload leaves a store that is whole, and a rerun completes it', async (t) => {
  const sandbox = createSandbox(t);
  const source = createStore(t);
  const content = randomBytes('killed', 3_000_000);
  const [added] = await source.add(content);
  const hash = parseHash(added!.hash);
  const token = await tokenOf(sandbox, '--scope', 'write');
  const first = await serve(t, sandbox, ['--store', 'xet']);
  const { port } = new URL(first.url);
  const { name } = source.open().findFile(hash)!.terms[0]!;
  const memory = new MemoryStore();
  await pushFiles(source.open(), memory, [{ hash }], {});
  const socket = connect(Number(port), '127.0.0.1');
  socket.on('error', () => {});
  const head = [
    `POST /v1/xorbs/default/${name} HTTP/1.1`,
    'Host: x',
    `Authorization: Bearer ${token}`,
    'Content-Length: 3000000',
  ];
  socket.write(`${head.join('\r\n')}\r\n\r\n`);
  for await (const piece of memory.readXorb(parseHash(name), 0, 1_500_000)) socket.write(piece);
  await until(async () =>
    /in_flight 2/.test((await askServer(first.url, 'GET', '/metrics')).body.toString()),
  );
  first.child.kill('SIGKILL');
  await once(first.child, 'exit');
  t.is(new LocalStore(sandbox.path('xet')).findFile(hash), undefined);

  const second = await serve(t, sandbox, ['--store', 'xet']);
  const client = clientOf(t, second.url, token);
  const { files } = await pushFiles(source.open(), client, [{ hash }], {});
  t.is(files[0]?.outcome, 'moved');
  second.child.kill('SIGKILL');
  await once(second.child, 'exit');
  const third = await serve(t, sandbox, ['--store', 'xet']);
  const target = createStore(t);
  await fetchFiles(target.open(), clientOf(t, third.url, token), [{ hash }], { writer: { fsync: 'none' } });
  t.true(target.read(added!.hash).equals(content), 'what was acknowledged is there after a kill');
});

const noS3 = s3Missing();
const s3Test = noS3 === undefined ? test : test.skip;
s3Test(`two servers on one bucket${noS3 === undefined ? '' : ` (skipped: ${noS3})`}`, async (t) => {
  const sandbox = createSandbox(t);
  const s3 = await startS3();
  const place = s3.url(await s3.createBucket(), 'store');
  mkdirSync(join(sandbox.home, '.aws'), { recursive: true });
  const token = await tokenOf(sandbox, '--scope', 'write');
  const servers = await Promise.all([1, 2].map(() => serve(t, sandbox, ['--store', place], s3.env)));
  const clients = servers.map(({ url }) => clientOf(t, url, token));
  const shared = randomBytes('shared by all', 500_000);
  const contents = [0, 1, 2, 3].map((i) => randomBytes(`client ${i}`, 300_000));
  await Promise.all(
    contents.map(async (content, i) => {
      const source = createStore(t);
      const added = await source.add(content, shared);
      const wanted = added.map(({ hash }) => ({ hash: parseHash(hash) }));
      const { files } = await pushFiles(source.open(), clients[i % 2]!, wanted, {});
      t.deepEqual(
        files.map(({ error }) => error),
        [undefined, undefined],
      );
    }),
  );
  const all = await createStore(t).add(...contents, shared);
  for (const client of clients) {
    const target = createStore(t);
    const wanted = all.map(({ hash }) => ({ hash: parseHash(hash) }));
    const { files } = await fetchFiles(target.open(), client, wanted, { writer: { fsync: 'none' } });
    t.deepEqual(
      files.map(({ outcome }) => outcome),
      wanted.map(() => 'moved'),
    );
    for (const [i, { hash }] of all.entries()) t.true(target.read(hash).equals(contents[i] ?? shared));
  }
  t.deepEqual(
    servers.map(({ said }) => said()),
    ['', ''],
  );
});

test('what a server cannot work with is told before it listens, in one line', async (t) => {
  const sandbox = createSandbox(t);
  sandbox.write('file', 'no store\n');
  sandbox.write('cert.pem', '-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n');
  const cases: [readonly string[], RegExp][] = [
    [['--store', 'file'], /store .*file is a file: expected a directory/],
    [['--spool', 'nowhere'], /nowhere: .*--spool/],
    [['--access-log', 'nowhere/log'], /access log: ENOENT/],
    [['--tls-cert', 'cert.pem', '--tls-key', 'nowhere'], /TLS file .*nowhere: ENOENT/],
    [['--tls-cert', 'cert.pem', '--tls-key', 'file'], /cert\.pem .*file .*are no good/],
    [['--key-file', 'nowhere'], /umask 077/],
    [['--repositories', 'file'], /directory of repositories/],
  ];
  for (const [args, words] of cases) {
    const { code, stderr } = await cli(['serve', '--store', 'xet', '--listen', '127.0.0.1:0', ...args], {
      cwd: sandbox.dir,
      env: sandbox.env,
    });
    t.is(code, 7, `${args.join(' ')}: ${stderr}`);
    t.regex(stderr, words);
    t.is(stderr.trim().split('\n').length, 1, stderr);
  }
});
