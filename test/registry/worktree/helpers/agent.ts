/**
 * Worktree operations in a process of their own: by another user, several at once, or to be killed. Reads a
 * JSON request per line, answers each with a line of JSON. Started by `startAgent`.
 */
import { createInterface } from 'node:readline';
import { openPlace } from '../../../../src/registry/git-place.ts';
import {
  collectLayers,
  createWorktree,
  listWorktrees,
  openWorktree,
  planRemoval,
  probeDrivers,
  removeWorktree,
  repairWorktrees,
  type Worktree,
  type WorktreeHome,
  type WorktreeSpec,
} from '../../../../src/registry/worktree/index.ts';
import { Git2dbError } from '../../../../src/xet/errors.ts';

export interface Request {
  readonly op: 'create' | 'remove' | 'repair' | 'list' | 'plan' | 'collect' | 'usage' | 'probe' | 'status';
  readonly repo: string;
  readonly home: WorktreeHome;
  readonly trusted?: boolean;
  readonly spec?: WorktreeSpec;
  readonly name?: string;
  readonly force?: boolean;
}

export function summary(worktree: Worktree) {
  const { id, path, branch, head, driver, backend, rejected, reachable, locked, foreign } = worktree;
  return { id, path, branch, head, driver, backend, rejected, reachable, locked, foreign };
}

export type Summary = ReturnType<typeof summary>;

async function answer({
  op,
  repo,
  home,
  trusted = true,
  spec,
  name = '',
  force = false,
}: Request): Promise<unknown> {
  const place = await openPlace(repo, { trusted });
  switch (op) {
    case 'create':
      return summary(await createWorktree(place, home, spec!));
    case 'remove':
      return removeWorktree(place, home, name, { force });
    case 'repair':
      return repairWorktrees(place, home);
    case 'list':
      return (await listWorktrees(place, home)).map(summary);
    case 'plan':
      return planRemoval(place, home);
    case 'collect':
      return collectLayers(home);
    case 'usage':
      return (await openWorktree(place, home, name)).diskUsage();
    case 'probe':
      return Object.fromEntries(await probeDrivers(place, home, name, spec?.backend));
    case 'status': {
      const there = await (await openWorktree(place, home, name)).place();
      return there.text(['status', '--porcelain']);
    }
  }
}

for await (const line of createInterface({ input: process.stdin })) {
  let reply: object;
  try {
    reply = { value: await answer(JSON.parse(line)) };
  } catch (error) {
    if (!(error instanceof Error)) throw error;
    const known =
      error instanceof Git2dbError ? { code: error.code, data: error.data } : { stack: error.stack };
    reply = { error: { name: error.name, message: error.message, ...known } };
  }
  process.stdout.write(`${JSON.stringify(reply)}\n`);
}
