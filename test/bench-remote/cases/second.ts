/** The second version of a large file, 1 MiB inserted: what crosses the wire, each way, and after gc on both sides. */
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { sameContent } from '../../bench/inputs.ts';
import type { User } from '../arena.ts';
import type { RemoteBench } from '../bench.ts';
import { OURS, ROW } from '../targets.ts';
import { Wire } from '../wire.ts';

export async function second(bench: RemoteBench): Promise<void> {
  await transfer(bench, false);
  await transfer(bench, true);
}

async function transfer(bench: RemoteBench, withGc: boolean): Promise<void> {
  const { arena, report, inputs } = bench;
  const size = bench.options.sizeMb * 2 ** 20;
  const versions = [inputs.file('random', size), inputs.secondVersion('random', size)] as const;
  const service = await arena.serve();
  await using _ = service.server;
  await using wire = await Wire.to(service.server.port);
  const url = `http://127.0.0.1:${wire.port}/large.git`;
  const writer = arena.user('git2db');
  const source = writer.repository(url);
  // Small files beside it, so that gc has something to bring together.
  if (withGc) writer.commit(source, inputs.files(20, 256 * 1024), 'small');
  writer.commit(source, versions[0], 'large.bin');
  push(writer, source);
  const reader = arena.user('git2db');
  const copy = join(arena.folder('clone'), 'tree');
  reader.run(['git', 'clone', '-q', url, copy], arena.dir);
  if (withGc) {
    collect(writer, source);
    collect(reader, copy);
    collect(writer, source, service.store);
  }
  writer.commit(source, versions[1], 'large.bin');
  wire.take();
  push(writer, source);
  report.enter(withGc ? ROW.wirePushGc : ROW.wirePush, OURS, wire.take(), 'bytes');
  reader.run(['git', 'pull', '-q'], copy);
  report.enter(withGc ? ROW.wireFetchGc : ROW.wireFetch, OURS, wire.take(), 'bytes');
  if (!sameContent(versions[1], join(copy, 'data/large.bin'))) throw new Error('the pull gave other bytes');
  for (const path of [source, copy, service.folder]) rmSync(path, { recursive: true, force: true });
}

function push(user: User, folder: string): void {
  user.run(['git2db', 'xet', 'push', 'origin', 'main'], folder);
  user.run(['git', 'push', '-q', 'origin', 'main'], folder);
}

/** Packs everything anew, whatever its age: the repository's own store, or another one. */
function collect(user: User, folder: string, store?: string): void {
  const settings =
    store === undefined
      ? {}
      : { GIT_CONFIG_COUNT: '1', GIT_CONFIG_KEY_0: 'xet.store', GIT_CONFIG_VALUE_0: store };
  user.run(['git2db', 'xet', 'gc', '--prune', '--grace', '0'], folder, settings);
}
