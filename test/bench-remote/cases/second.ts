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
  const writer = await arena.user('git2db');
  const source = await writer.repository(url);
  // Small files beside it, so that gc has something to bring together.
  if (withGc) await writer.commit(source, inputs.files(20, 256 * 1024), 'small');
  await writer.commit(source, versions[0], 'large.bin');
  await push(writer, source);
  const reader = await arena.user('git2db');
  const copy = join(arena.folder('clone'), 'tree');
  await reader.run(['git', 'clone', '-q', url, copy], arena.dir);
  if (withGc) {
    await collect(writer, source);
    await collect(reader, copy);
    await collect(writer, source, service.store);
  }
  await writer.commit(source, versions[1], 'large.bin');
  wire.take();
  await push(writer, source);
  report.enter(withGc ? ROW.wirePushGc : ROW.wirePush, OURS, wire.take(), 'bytes');
  await reader.run(['git', 'pull', '-q'], copy);
  report.enter(withGc ? ROW.wireFetchGc : ROW.wireFetch, OURS, wire.take(), 'bytes');
  if (!sameContent(versions[1], join(copy, 'data/large.bin'))) throw new Error('the pull gave other bytes');
  for (const path of [source, copy, service.folder]) rmSync(path, { recursive: true, force: true });
}

async function push(user: User, folder: string): Promise<void> {
  await user.run(['git2db', 'xet', 'push', 'origin', 'main'], folder);
  await user.run(['git', 'push', '-q', 'origin', 'main'], folder);
}

/** Packs everything anew, whatever its age: the repository's own store, or another one. */
async function collect(user: User, folder: string, store?: string): Promise<void> {
  const settings =
    store === undefined
      ? {}
      : { GIT_CONFIG_COUNT: '1', GIT_CONFIG_KEY_0: 'xet.store', GIT_CONFIG_VALUE_0: store };
  await user.run(['git2db', 'xet', 'gc', '--prune', '--grace', '0'], folder, settings);
}
