/** Operations through a handle of a warm process, against the git command that answers the same. */
import { setTimeout as sleep } from 'node:timers/promises';
import { GitManager } from '../../../src/registry/git-manager.ts';
import type { MedianReport } from '../../bench-shared/median-report.ts';
import { run } from '../../bench-shared/run.ts';
import { commandMs, ENV, RACY_MS, workMs } from '../commands.ts';
import type { Stage } from '../stage.ts';
import { GIT, OURS, ROW } from '../targets.ts';

export async function handle(
  stage: Stage,
  history: string,
  sizes: { readonly commits: number; readonly blobs: number },
  report: MedianReport,
  rounds: number,
): Promise<void> {
  const cwd = stage.repository;
  const { handle: ours } = stage;
  await using manager = new GitManager({ env: ENV });
  const logged = await (await manager.repository(history)).open();
  const blobs = run(['git', 'ls-tree', '-r', '--format=%(objectname)', 'main'], cwd)
    .split('\n')
    .slice(0, sizes.blobs);
  const asked = `${blobs.join('\n')}\n`;
  // Git's index is settled, and everything has been done once.
  await sleep(RACY_MS);
  await commandMs(['git', 'status', '--porcelain'], { cwd });
  await ours.status();
  await count(logged.log({ limit: 10 }));
  await count(ours.objects.readMany(blobs.slice(0, 10)));
  for (let round = 1; round <= rounds; round++) {
    report.enter(
      ROW.handleStatus,
      GIT,
      await commandMs(['git', 'status', '--porcelain=v2', '--branch'], { cwd }),
    );
    report.enter(
      ROW.handleStatus,
      OURS,
      await workMs(async () => check((await ours.status()).entries.length, 0)),
    );
    report.enter(ROW.log, GIT, await commandMs(['git', 'log'], { cwd: history }));
    report.enter(ROW.log, OURS, await workMs(async () => check(await count(logged.log()), sizes.commits)));
    report.enter(ROW.blobs, GIT, await commandMs(['git', 'cat-file', '--batch'], { cwd, input: asked }));
    report.enter(
      ROW.blobs,
      OURS,
      await workMs(async () => check(await count(present(ours.objects.readMany(blobs))), blobs.length)),
    );
  }
  await logged[Symbol.asyncDispose]();
}

async function* present(answers: AsyncIterable<{ readonly object: unknown }>): AsyncIterable<unknown> {
  for await (const { object } of answers) if (object !== undefined) yield object;
}

async function count(items: AsyncIterable<unknown>): Promise<number> {
  let found = 0;
  for await (const _ of items) found++;
  return found;
}

function check(found: number, expected: number): void {
  if (found !== expected) throw new Error(`expected ${expected}, found ${found}`);
}
