/** What worktrees of ten commits take together, each commit other than the one before it in 1 % of the bytes. */
import { join } from 'node:path';
import type { Worktree } from '../../../src/registry/worktree/index.ts';
import type { MedianReport } from '../../bench-shared/median-report.ts';
import { commandMs, diskBytes, settle, workMs } from '../commands.ts';
import { STEPS } from '../inputs.ts';
import type { Stage } from '../stage.ts';
import { OURS, ROW, WORKTREE_ADD } from '../targets.ts';

export async function commits(stage: Stage, report: MedianReport): Promise<void> {
  const plain = stage.freshName();
  await commandMs(stage.plainCommand(plain, 'c1'), { cwd: stage.repository });
  settle(stage.dir);
  const tree = stage.plainTree(plain);
  report.enter(ROW.commits, WORKTREE_ADD, diskBytes(tree.path, tree.admin), 'bytes');
  tree.remove();

  const made: Worktree[] = [];
  for (let step = 1; step <= STEPS; step++) {
    const path = join(stage.dir, 'trees', `c${step}`);
    const took = await workMs(async () => {
      made.push(await stage.handle.worktree().create({ path, ref: `c${step}`, driver: 'overlay2' }));
    });
    report.enter(`worktree of the next commit`, OURS, took);
  }
  settle(stage.dir);
  const { layers, worktrees } = stage.registry.home;
  report.enter(ROW.commits, OURS, diskBytes(layers, worktrees, ...made.map(({ gitDir }) => gitDir)), 'bytes');
  for (const each of made) await each.remove({ force: true });
}
