/** NODE_EXTRA_CA_CERTS: Node is not told of it when our programs start, and servers are trusted by it all the same. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { fileURLToPath } from 'node:url';
import test, { type ExecutionContext } from 'ava';
import { isolateProcess } from '../helpers/git-sandbox.ts';
import { createLargeFileSandbox, type LargeFileSandbox, noise } from '../large-files/repositories.ts';
import { makeAuthority } from '../xet/cas/http-rig.ts';

isolateProcess();
for (const name of ['NODE_EXTRA_CA_CERTS', 'GIT2DB_NODE_EXTRA_CA_CERTS', 'SSL_CERT_FILE', 'GIT_SSL_CAINFO'])
  delete process.env[name];

/** An HTTPS server of contents; its URL and the file with the authority that vouches for it. */
async function serve(t: ExecutionContext, sandbox: LargeFileSandbox) {
  const { caFile, server: tls } = makeAuthority(t);
  writeFileSync(sandbox.path('tls.pem'), tls.cert);
  writeFileSync(sandbox.path('tls.key'), tls.key);
  const words = [
    '--store',
    'served',
    '--anonymous',
    'write',
    '--tls-cert',
    'tls.pem',
    '--tls-key',
    'tls.key',
  ];
  const server = spawn('git2db', ['serve', ...words, '--listen', '127.0.0.1:0', '--json'], {
    cwd: sandbox.dir,
    env: { ...sandbox.env },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  t.teardown(async () => {
    const ended = once(server, 'exit');
    if (server.exitCode === null && server.kill('SIGKILL')) await ended;
  });
  let text = '';
  for await (const piece of server.stdout) {
    text += String(piece);
    const url = /"url":\s*"([^"]+)"/.exec(text)?.[1];
    if (url !== undefined) return { url, caFile };
  }
  throw new Error(`git2db serve ended: ${text}`);
}

test('Node does not read the file when a program starts', async (t) => {
  const sandbox = createLargeFileSandbox(t);
  // Of a file that it cannot read Node says so on stderr.
  const env = { NODE_EXTRA_CA_CERTS: sandbox.path('nowhere.pem') };
  for (const program of ['git2db', 'git2db-filter', 'git2db-lfs-filter', 'git2db-mount']) {
    const file = fileURLToPath(new URL(`../../../dist/bin/${program}.js`, import.meta.url));
    const { status, stderr } = await sandbox.run(file, ['--version'], { env });
    t.is(status, 0, program);
    t.is(stderr, '', program);
  }
});

test('what a program starts has the variable as it was given', async (t) => {
  const sandbox = createLargeFileSandbox(t);
  await sandbox.init('a');
  const bin = sandbox.path('bin');
  sandbox.write(
    'bin/git',
    `#!/bin/sh\necho "\${NODE_EXTRA_CA_CERTS-none}" >> "$SEEN"\nexec "$REAL_GIT" "$@"\n`,
  );
  chmodSync(sandbox.path('bin/git'), 0o755);
  const real = (await sandbox.run('sh', ['-c', 'command -v git'])).stdout.trim();
  t.not(dirname(real), bin);
  const seenBy = async (given: Record<string, string>) => {
    rmSync(sandbox.path('seen'), { force: true });
    const env = { REAL_GIT: real, SEEN: sandbox.path('seen'), PATH: `${bin}:${sandbox.env.PATH}`, ...given };
    t.is((await sandbox.xet('a', ['status'], { env })).status, 0);
    return [...new Set(readFileSync(sandbox.path('seen'), 'utf8').trim().split('\n'))];
  };
  t.deepEqual(await seenBy({ NODE_EXTRA_CA_CERTS: '/some where/ca.pem' }), ['/some where/ca.pem']);
  t.deepEqual(await seenBy({ NODE_EXTRA_CA_CERTS: '' }), ['']);
  t.deepEqual(await seenBy({}), ['none']);
});

test('push, fetch and the filter of a checkout trust whom it names', async (t) => {
  const sandbox = createLargeFileSandbox(t);
  const { url, caFile } = await serve(t, sandbox);
  await sandbox.init('a');
  const content = noise(300_000, 1);
  sandbox.write('a/model.bin', content);
  await sandbox.commitAll('a');
  await sandbox.git(['init', '-q', '--bare', 'bare.git']);
  await sandbox.git(['remote', 'add', 'origin', sandbox.path('bare.git')], { cwd: 'a' });
  await sandbox.git(['config', 'remote.origin.xeturl', url], { cwd: 'a' });

  const stranger = await sandbox.xet('a', ['push']);
  t.not(stranger.status, 0);
  t.regex(stranger.stderr, /authority that is not known/);
  const env = { NODE_EXTRA_CA_CERTS: caFile };
  const pushed = await sandbox.xet('a', ['push'], { env });
  t.is(pushed.status, 0, pushed.stderr);
  await sandbox.git(['push', '-q', 'origin', 'main'], { cwd: 'a' });

  const clone = ['clone', '-q', '-c', `remote.origin.xeturl=${url}`, sandbox.path('bare.git')];
  await sandbox.git([...clone, 'b'], { env });
  t.true(sandbox.read('b/model.bin').equals(content));
  await sandbox.git([...clone, 'c'], { env: { GIT2DB_SKIP_SMUDGE: '1' } });
  const missing = sandbox.path('c/.git/ca.pem');
  t.not((await sandbox.xet('c', ['fetch'], { env: { NODE_EXTRA_CA_CERTS: missing } })).status, 0);
  t.is((await sandbox.xet('c', ['fetch'], { env })).status, 0);
});
