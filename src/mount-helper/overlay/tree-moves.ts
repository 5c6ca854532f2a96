/**
 * Directories that are being copied with all they have, to be moved (`tree-copy.ts`). That takes many steps,
 * and other requests come in between. What would change anything below such a directory, but for files that
 * the upper has already, waits until the directory is where it goes.
 */
import type { Job } from '../fuse/file-system.ts';
import { type CString, close } from '../system/libc.ts';
import type { Statx } from '../system/statx.ts';
import type { Copied } from './copy-up.ts';
import type { Node } from './inode-table.ts';
import type { OverlayState } from './overlay-state.ts';
import type { Listing } from './readdir.ts';

/** A directory whose copy is not complete. */
export interface CopiedLevel {
  readonly node: Node;
  readonly stat: Statx;
  /** Of the copy, in work. */
  readonly name: CString;
  readonly listing: Listing;
  /** Index in the listing of what comes next. */
  at: number;
  /** O_PATH, of the copy; -1: not open. */
  fd: number;
}

/** A lower file with several names, in the copy as one file too. */
export interface SharedCopy {
  /** One more name of the copy, in work. */
  readonly name: CString;
  /** Names that the lower file has. */
  readonly nlink: number;
}

/** A file whose content is being copied; `result` is there when that has ended. */
export interface FileCopy {
  readonly copied: Copied;
  readonly nlink: number;
  result: number | undefined;
}

export interface TreeMove {
  readonly root: Node;
  /** Of the request that moves the directory. */
  readonly request: number;
  /** From the root down to where the copying is. */
  readonly levels: CopiedLevel[];
  readonly shared: Map<Node, SharedCopy>;
  file: FileCopy | undefined;
  /** What the request waits for. */
  job: Job | undefined;
}

/** True: the request at hand, which changes the node or what is in it, waits for a move of a directory above. */
export function waitForMoveAbove(o: OverlayState, node: Node): boolean {
  for (const move of o.treeMoves) {
    if (isWithin(node, move.root) && waitFor(o, move)) return true;
  }
  return false;
}

/** The same of a file that is about to be copied up. */
export function waitForMoveOf(o: OverlayState, node: Node): boolean {
  for (const move of o.treeMoves) {
    if ((move.shared.has(node) || isWithin(node, move.root)) && waitFor(o, move)) return true;
  }
  return false;
}

/** True: the request at hand, which moves or removes the node, waits for a move of it or of something below. */
export function waitForMoveBelow(o: OverlayState, node: Node): boolean {
  for (const move of o.treeMoves) if (isWithin(move.root, node) && waitFor(o, move)) return true;
  return false;
}

function isWithin(node: Node, above: Node): boolean {
  for (let at: Node | undefined = node; at !== undefined; at = at.parent) if (at === above) return true;
  return false;
}

/** False: the move is that of the request itself, or nobody waits for it any more. */
function waitFor(o: OverlayState, move: TreeMove): boolean {
  if (move.request === o.waiting.request) return false;
  // Whoever moves is asked again before all others that wait for the same: it was interrupted.
  if (move.job === undefined || move.job.isDone) {
    abandonMove(o, move);
    return false;
  }
  o.waiting.waitFor(move.job);
  return true;
}

/** Moves whose requests were interrupted, and that nobody has come across since. */
export function abandonOldMoves(o: OverlayState): void {
  for (const move of o.treeMoves) {
    if (move.request !== o.waiting.request && move.job?.isDone !== false) abandonMove(o, move);
  }
}

/** Removes what there is of the copy. Layers and nodes are as if there had been no move. */
export function abandonMove(o: OverlayState, move: TreeMove): void {
  o.treeMoves.delete(move);
  const { work } = o.upper!;
  if (move.file !== undefined && move.file.result !== undefined) {
    if (move.file.copied.fd >= 0) close(move.file.copied.fd);
    // After a failure it is gone already.
    if (move.file.result >= 0) work.remove(move.file.copied.name);
  }
  for (const level of move.levels) {
    if (level.fd >= 0) close(level.fd);
    work.remove(level.name);
    o.table.forget(level.node.id, 1);
  }
  releaseShared(o, move);
}

/** The names of shared copies that were for the copying alone. */
export function releaseShared(o: OverlayState, { shared }: TreeMove): void {
  for (const [node, { name }] of shared) {
    o.upper!.work.remove(name);
    o.table.forget(node.id, 1);
  }
  shared.clear();
}
