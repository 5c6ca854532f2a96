/** Thousands of middling files: time beside git-lfs, and how many requests it takes. */
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import type { RemoteBench } from '../bench.ts';
import { pushAndCloneByLfs } from '../git-lfs.ts';
import type { RunningServer } from '../servers.ts';
import { OURS, ROW } from '../targets.ts';

const FILE_SIZE = 256 * 1024;

export async function many(bench: RemoteBench): Promise<void> {
  const files = bench.inputs.files(bench.options.many, FILE_SIZE);
  const lfs = () => pushAndCloneByLfs(bench, files, 'files', { push: ROW.manyPush, clone: ROW.manyClone });
  for (let round = 0; round < bench.options.rounds; round++) {
    const turns = [() => ours(bench, files), lfs];
    for (const turn of round % 2 === 0 ? turns : turns.reverse()) await turn();
  }
}

async function ours(bench: RemoteBench, files: string): Promise<void> {
  const { arena, report } = bench;
  const { server, folder: home } = await arena.serve();
  await using _ = server;
  const url = `http://127.0.0.1:${server.port}/many.git`;
  const user = await arena.user('git2db');
  const folder = await user.repository(url);
  await user.commit(folder, files, 'files');
  const before = await requests(server);
  const push = await user.measure(['git2db', 'xet', 'push', 'origin', 'main'], folder);
  report.enter(ROW.manyPush, OURS, 1000 * push.wallS);
  report.enter(ROW.manyPushRequests, OURS, (await requests(server)) - before - 1, 'count');
  await user.run(['git', 'push', '-q', 'origin', 'main'], folder);
  const whole = join(arena.folder('clone'), 'tree');
  const pushed = await requests(server);
  const clone = await user.measure(['git', 'clone', '-q', url, whole], arena.dir);
  report.enter(ROW.manyClone, OURS, 1000 * clone.wallS);
  report.enter(ROW.manyCloneRequests, OURS, (await requests(server)) - pushed - 1, 'count');
  await user.run(['diff', '-r', files, join(whole, 'data/files')], arena.dir);
  for (const path of [home, folder, whole]) rmSync(path, { recursive: true, force: true });
}

/** All that the server has answered so far, by its own count. */
async function requests(server: RunningServer): Promise<number> {
  const text = await (await fetch(`http://127.0.0.1:${server.port}/metrics`)).text();
  const counts = [...text.matchAll(/^git2db_http_requests_total\{[^}]*\} (\d+)$/gm)];
  return counts.reduce((sum, [, count]) => sum + Number(count), 0);
}
