/** Who takes part, and what we are after. */
import type { Target } from '../bench-shared/median-report.ts';

export const KERNEL = 'git2db (kernel)';
export const FUSE = 'git2db (fuse)';
export const COMMAND = 'git2db (command)';
export const OURS = 'git2db';
export const WORKTREE_ADD = 'git worktree add';
export const PLAIN = 'plain worktree';
export const PEER = 'fuse-overlayfs';
export const GIT = 'git';
export const BARE_NODE = 'node -e 0';

export const ROW = {
  create: 'second worktree',
  first: 'first worktree, its layer made',
  own: 'bytes of upper, work and state.json',
  all: 'bytes of a worktree, index and all',
  status: 'first git status',
  reads: 'files that the first git status opens',
  commits: 'bytes of worktrees of 10 commits',
  open: 'open',
  byId: 'look-up by id',
  byName: 'look-up by name',
  list: 'list',
  foreignList: 'list after the change of another process',
  register: 'register',
  update: 'update',
  foreign: 'look-up after the change of another process',
  stale: 'look-ups that missed the change of another process',
  handleStatus: 'status',
  log: 'log',
  blobs: 'read blobs',
} as const;

const KIB = 1024;

function atMost(contender: string, row: string, limit: number, name: string): Target {
  return { name, row, contender, limit };
}

function over(contender: string, row: string, other: string, limit: number): Target {
  return { name: `${row}: ${contender} over ${other}`, row, contender, over: other, limit };
}

export const TARGETS: readonly Target[] = [
  atMost(KERNEL, ROW.create, 100, 'second worktree, kernel: ms'),
  over(KERNEL, ROW.create, WORKTREE_ADD, 1 / 5),
  atMost(FUSE, ROW.create, 300, 'second worktree, FUSE: ms'),
  over(FUSE, ROW.create, WORKTREE_ADD, 1),
  {
    name: 'what the command adds to the library, in starts of Node',
    row: ROW.create,
    contender: COMMAND,
    less: KERNEL,
    over: BARE_NODE,
    limit: 1,
  },
  atMost(KERNEL, ROW.own, 100 * KIB, `${ROW.own}, kernel`),
  atMost(FUSE, ROW.own, 100 * KIB, `${ROW.own}, FUSE`),
  over(KERNEL, ROW.all, WORKTREE_ADD, 0.05),
  over(FUSE, ROW.all, WORKTREE_ADD, 0.05),
  atMost(KERNEL, ROW.reads, 0, `${ROW.reads}, kernel`),
  atMost(FUSE, ROW.reads, 0, `${ROW.reads}, FUSE`),
  over(KERNEL, ROW.status, PLAIN, 2.5),
  over(FUSE, ROW.status, PEER, 1),
  over(OURS, ROW.commits, WORKTREE_ADD, 1.25),
  over(KERNEL, ROW.first, WORKTREE_ADD, 1.3),
  over(FUSE, ROW.first, WORKTREE_ADD, 1.3),
  atMost(OURS, ROW.open, 100, 'registry, open: ms'),
  atMost(OURS, ROW.byId, 1, 'registry, look-up by id: ms'),
  atMost(OURS, ROW.byName, 1, 'registry, look-up by name: ms'),
  atMost(OURS, ROW.list, 50, 'registry, list: ms'),
  atMost(OURS, ROW.register, 100, 'registry, register: ms'),
  atMost(OURS, ROW.update, 100, 'registry, update: ms'),
  atMost(OURS, ROW.stale, 0, ROW.stale),
  over(OURS, ROW.handleStatus, GIT, 1.3),
  over(OURS, ROW.log, GIT, 1.3),
  over(OURS, ROW.blobs, GIT, 1.3),
];
