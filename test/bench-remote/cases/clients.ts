/** Many clients that ask for metadata while a few transfer content: how long the slowest of a hundred waits. */
import { rmSync } from 'node:fs';
import { Agent, request } from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';
import type { RemoteBench } from '../bench.ts';
import { ROW, SERVER } from '../targets.ts';

const TRANSFERS = 8;
const SECONDS = 10;
/** Between two questions of a client. */
const PAUSE_MS = 1000;

export async function clients(bench: RemoteBench): Promise<void> {
  const { arena, report, options } = bench;
  const file = bench.inputs.file('random', (options.sizeMb / 4) * 2 ** 20);
  const { server, folder: home } = await arena.serve();
  await using _ = server;
  const base = `http://127.0.0.1:${server.port}`;
  const user = await arena.user('git2db');
  const folder = await user.repository(`${base}/shared.git`);
  await user.commit(folder, file, 'large.bin');
  await user.run(['git2db', 'xet', 'push', 'origin', 'main'], folder);
  await user.run(['git', 'push', '-q', 'origin', 'main'], folder);
  const pointer = await user.run(['git', 'cat-file', 'blob', 'HEAD:data/large.bin'], folder);
  const { hash } = JSON.parse(pointer) as { hash: string };
  const { casUrl } = (await (await fetch(`${base}/shared.git/info/xet`)).json()) as { casUrl: string };
  const token = await (await fetch(`${base}/shared.git/info/xet/token?scope=read`)).json();
  const headers = { Authorization: `Bearer ${(token as { accessToken: string }).accessToken}` };
  const stop = AbortSignal.timeout(1000 * SECONDS);
  const transfers = Array.from({ length: TRANSFERS }, () => transferUntil(bench, base, stop));
  const agent = new Agent({ keepAlive: true, maxSockets: options.clients });
  const waits: number[] = [];
  const ask = async () => {
    // With the first one a client connects; that does not count.
    for (let isConnected = false; !stop.aborted; isConnected = true) {
      const start = performance.now();
      await get(`${casUrl}/v2/reconstructions/${hash}`, headers, agent);
      if (isConnected) waits.push(performance.now() - start);
      await sleep(PAUSE_MS);
    }
  };
  await Promise.all(
    Array.from({ length: options.clients }, async (_, i) => {
      await sleep((PAUSE_MS * i) / options.clients);
      await ask();
    }),
  );
  agent.destroy();
  await Promise.all(transfers);
  waits.sort((a, b) => a - b);
  report.enter(ROW.metadata, SERVER, waits[Math.floor(0.99 * waits.length)]!);
  for (const path of [folder, home]) rmSync(path, { recursive: true, force: true });
}

/** Clones, again and again, by a process of its own. */
async function transferUntil({ arena }: RemoteBench, base: string, stop: AbortSignal): Promise<void> {
  const user = await arena.user('git2db');
  while (!stop.aborted) {
    const folder = arena.folder('clone');
    // Elsewhere these would have processors of their own.
    await user.measure(
      ['nice', '-n', '19', 'git', 'clone', '-q', `${base}/shared.git`, `${folder}/tree`],
      arena.dir,
    );
    rmSync(folder, { recursive: true, force: true });
  }
}

function get(url: string, headers: Record<string, string>, agent: Agent): Promise<void> {
  return new Promise((resolve, reject) => {
    const sent = request(url, { headers, agent }, (response) => {
      if (response.statusCode !== 200) reject(new Error(`${url}: status ${response.statusCode}`));
      response.resume();
      response.on('end', resolve);
      response.on('error', reject);
    });
    sent.on('error', reject);
    sent.end();
  });
}
