/** A push and a clone by git-lfs, with nginx in the place of its content. */
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import type { RemoteBench } from './bench.ts';
import { missingNginx } from './servers.ts';
import { LFS } from './targets.ts';

/** `source`: a file or directory, which is committed under `name`. `rows`: where the figures go. */
export async function pushAndCloneByLfs(
  bench: RemoteBench,
  source: string,
  name: string,
  rows: { readonly push: string; readonly clone: string },
): Promise<void> {
  const missing = missingNginx() ?? bench.missingLfs;
  if (missing !== undefined) return bench.report.skip(rows.clone, LFS, missing);
  const { arena, report } = bench;
  const nginx = await arena.nginx();
  await using _nginx = nginx.server;
  await using server = await arena.lfs(nginx);
  const user = await arena.user('git-lfs', { 'lfs.url': server.url });
  // Small as it is, git's own part comes from a directory: our server would ask for the content.
  const url = arena.folder('bare');
  await user.run(['git', 'init', '-q', '--bare', '-b', 'main', url], arena.dir);
  const folder = await user.repository(url);
  await user.commit(folder, source, name);
  const push = await user.measure(['git', 'lfs', 'push', 'origin', 'main'], folder);
  report.enter(rows.push, LFS, 1000 * push.wallS);
  await user.run(['git', 'push', '-q', '--no-verify', 'origin', 'main'], folder);
  const whole = join(arena.folder('clone'), 'tree');
  const clone = await user.measure(['git', 'clone', '-q', url, whole], arena.dir);
  report.enter(rows.clone, LFS, 1000 * clone.wallS);
  for (const path of [folder, whole, nginx.root, url]) rmSync(path, { recursive: true, force: true });
}
