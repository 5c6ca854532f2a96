/** A large file to the server and back, beside curl and nginx on the same disk, and a whole clone beside git-lfs. */
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { sameContent } from '../../bench/inputs.ts';
import type { RemoteBench } from '../bench.ts';
import { pushAndCloneByLfs } from '../git-lfs.ts';
import { missingNginx } from '../servers.ts';
import { CURL, OURS, ROW } from '../targets.ts';

export async function large(bench: RemoteBench): Promise<void> {
  const file = bench.inputs.file('random', bench.options.sizeMb * 2 ** 20);
  const lfs = () => pushAndCloneByLfs(bench, file, 'large.bin', { push: ROW.push, clone: ROW.clone });
  for (let round = 0; round < bench.options.rounds; round++) {
    const turns = [() => ours(bench, file), () => curl(bench, file), lfs];
    for (const turn of round % 2 === 0 ? turns : turns.reverse()) await turn();
  }
}

async function ours(bench: RemoteBench, file: string): Promise<void> {
  const { arena, report } = bench;
  const { server, folder: home } = await arena.serve();
  await using _ = server;
  const url = `http://127.0.0.1:${server.port}/large.git`;
  const user = await arena.user('git2db');
  const folder = await user.repository(url);
  await user.commit(folder, file, 'large.bin');
  // The refs without content, so that what is measured is the content alone.
  const push = await user.measure(['git2db', 'xet', 'push', 'origin', 'main'], folder);
  report.enter(ROW.push, OURS, 1000 * push.wallS);
  await user.run(['git', 'push', '-q', 'origin', 'main'], folder);
  const bare = arena.folder('clone');
  await user.run(['git', 'clone', '-q', url, bare], arena.dir, { GIT2DB_SKIP_SMUDGE: '1' });
  const fetch = await user.measure(['git2db', 'xet', 'fetch', 'origin'], bare);
  report.enter(ROW.fetch, OURS, 1000 * fetch.wallS);
  const whole = join(arena.folder('clone'), 'tree');
  const clone = await user.measure(['git', 'clone', '-q', url, whole], arena.dir);
  report.enter(ROW.clone, OURS, 1000 * clone.wallS);
  if (!sameContent(file, join(whole, 'data/large.bin'))) throw new Error('the clone has other bytes');
  for (const path of [home, folder, bare, whole]) rmSync(path, { recursive: true, force: true });
}

async function curl(bench: RemoteBench, file: string): Promise<void> {
  const missing = missingNginx();
  if (missing !== undefined) return bench.report.skip(ROW.push, CURL, missing);
  const { arena, report } = bench;
  const { server, root } = await arena.nginx();
  await using _ = server;
  const user = await arena.user('git-lfs');
  const folder = arena.folder('curl');
  const url = `http://127.0.0.1:${server.port}/large.bin`;
  const push = await user.measure(['curl', '-sS', '--fail', '-T', file, url], folder);
  report.enter(ROW.push, CURL, 1000 * push.wallS);
  const fetch = await user.measure(['curl', '-sS', '--fail', '-o', 'large.bin', url], folder);
  report.enter(ROW.fetch, CURL, 1000 * fetch.wallS);
  for (const path of [root, folder]) rmSync(path, { recursive: true, force: true });
}
