/** The most memory that client and server take for a file much larger than what they may take. */
import { rmSync } from 'node:fs';
import type { RemoteBench } from '../bench.ts';
import { OURS, ROW, SERVER } from '../targets.ts';

export async function memory(bench: RemoteBench): Promise<void> {
  const { arena, report } = bench;
  const file = bench.inputs.file('random', bench.options.bigGb * 2 ** 30);
  const { server, folder: home } = await arena.serve();
  await using _ = server;
  const url = `http://127.0.0.1:${server.port}/big.git`;
  const user = await arena.user('git2db');
  const folder = await user.repository(url);
  await user.commit(folder, file, 'big.bin');
  const push = await user.measure(['git2db', 'xet', 'push', 'origin', 'main'], folder);
  report.enter(ROW.memoryPush, OURS, push.otherRss, 'bytes');
  report.enter(ROW.memoryPush, SERVER, server.peakMemory(), 'bytes');
  await user.run(['git', 'push', '-q', 'origin', 'main'], folder);
  rmSync(folder, { recursive: true, force: true });
  const copy = arena.folder('clone');
  await user.run(['git', 'clone', '-q', url, copy], arena.dir, { GIT2DB_SKIP_SMUDGE: '1' });
  server.resetPeak();
  const fetch = await user.measure(['git2db', 'xet', 'fetch', 'origin'], copy);
  report.enter(ROW.memoryFetch, OURS, fetch.otherRss, 'bytes');
  report.enter(ROW.memoryFetch, SERVER, server.peakMemory(), 'bytes');
  for (const path of [copy, home]) rmSync(path, { recursive: true, force: true });
}
