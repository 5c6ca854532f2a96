/** `git2db serve` over a bare repository, for tests of clones and pushes. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync } from 'node:fs';
import type { ExecutionContext } from 'ava';
import type { LargeFileSandbox } from './repositories.ts';

/** Serves the bare repository `models.git`, to everybody and for everything; the URL of the server. */
export async function serve(
  t: ExecutionContext,
  sandbox: LargeFileSandbox,
  store = 'served',
): Promise<string> {
  mkdirSync(sandbox.path('repositories'));
  await sandbox.git(['init', '-q', '--bare', 'repositories/models.git']);
  const args = ['--store', sandbox.path(store), '--repositories', sandbox.path('repositories')];
  const server = spawn(
    'git2db',
    ['serve', ...args, '--listen', '127.0.0.1:0', '--anonymous', 'write', '--json'],
    { cwd: sandbox.dir, env: { ...sandbox.env }, stdio: ['ignore', 'pipe', 'ignore'] },
  );
  t.teardown(async () => {
    if (server.exitCode !== null || server.signalCode !== null) return;
    const ended = once(server, 'exit');
    server.kill('SIGKILL');
    await ended;
  });
  let text = '';
  for await (const piece of server.stdout) {
    text += String(piece);
    const url = /"url":\s*"([^"]+)"/.exec(text)?.[1];
    if (url !== undefined) return url;
  }
  throw new Error(`git2db serve ended: ${text}`);
}
