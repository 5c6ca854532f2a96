/** The first worktree of a tree, with its layer, against a plain one. */
import type { Worktree } from '../../../src/registry/worktree/index.ts';
import type { MedianReport } from '../../bench-shared/median-report.ts';
import { commandMs, settle, workMs } from '../commands.ts';
import { missingBackend, type OverlayBackend, type Stage } from '../stage.ts';
import { FUSE, KERNEL, ROW, WORKTREE_ADD } from '../targets.ts';

export async function first(stage: Stage, report: MedianReport, rounds: number): Promise<void> {
  for (let round = 1; round <= rounds; round++) {
    for (const [backend, name] of [
      ['kernel', KERNEL],
      ['fuse', FUSE],
    ] as const) {
      const missing = missingBackend(backend);
      if (missing === undefined) await ours(stage, report, backend, name);
      else report.skip(ROW.first, name, missing);
    }
    const name = stage.freshName();
    settle(stage.dir);
    report.enter(
      ROW.first,
      WORKTREE_ADD,
      await commandMs(stage.plainCommand(name), { cwd: stage.repository }),
    );
    stage.plainTree(name).remove();
  }
}

async function ours(
  stage: Stage,
  report: MedianReport,
  backend: OverlayBackend,
  name: string,
): Promise<void> {
  settle(stage.dir);
  let made: Worktree | undefined;
  const states: string[] = [];
  const took = await workMs(async () => {
    const branch = stage.freshName();
    made = await stage.handle.worktree().create({
      path: stage.path(branch),
      ref: 'main',
      newBranch: branch,
      driver: 'overlay2',
      backend,
      onProgress: (event) => states.push(event.kind),
    });
  });
  // The last worktree that used a layer takes it away with it.
  if (!states.includes('layer')) throw new Error('the layer was there already');
  report.enter(ROW.first, name, took);
  await stage.remove(made!);
}
