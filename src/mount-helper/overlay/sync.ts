/**
 * fsync(2): the file, and what makes it reachable. After a create, a rename or a copy-up that is the
 * directory with its name, and that one's directory if it is new too, and so on. Each is work for another
 * thread; the request goes from one to the next.
 */

import { constants } from 'node:fs';
import { DEFERRED, type Job } from '../fuse/file-system.ts';
import { EBADF } from '../system/errno.ts';
import { close, openat } from '../system/libc.ts';
import type { Node } from './inode-table.ts';
import { ITSELF, type OverlayState } from './overlay-state.ts';

const { O_DIRECTORY, O_RDONLY } = constants;
/** Tasks of interrupted requests that may be kept. */
const TASKS_MAX = 64;

export interface SyncTask {
  readonly dataOnly: boolean;
  /** The descriptor to begin with: the handle's, which is open as long as the request is. -1 when done. */
  first: number;
  /** Whose names are looked at next. */
  node: Node | undefined;
  /** Directories that have names of `node`. */
  readonly parents: Node[];
  job: Job | undefined;
  result: number;
}

export function syncFile(o: OverlayState, id: number, dataOnly: boolean): number {
  const handle = o.handles.file(id);
  if (handle === undefined) return -EBADF;
  const { node } = handle;
  if (node.job !== undefined) {
    o.waiting.waitFor(node.job);
    return DEFERRED;
  }
  if (o.options.volatile || handle.file !== undefined) return 0;
  return run(o, handle.fd, node, dataOnly);
}

export function syncDirectory(o: OverlayState, id: number, dataOnly: boolean): number {
  const handle = o.handles.directory(id);
  if (handle === undefined) return -EBADF;
  const { node } = handle;
  if (o.options.volatile || !node.inUpper || o.upper === undefined || node.isOrphan) return 0;
  let task = o.syncs.get(o.waiting.request);
  if (task === undefined) {
    task = begin(o, -1, node, dataOnly);
    task.parents.push(node);
  }
  return proceed(o, task);
}

function run(o: OverlayState, fd: number, node: Node, dataOnly: boolean): number {
  return proceed(o, o.syncs.get(o.waiting.request) ?? begin(o, fd, node, dataOnly));
}

function begin(o: OverlayState, first: number, node: Node, dataOnly: boolean): SyncTask {
  for (const [request, task] of o.syncs) {
    if (o.syncs.size < TASKS_MAX) break;
    if (task.job?.isDone !== false) o.syncs.delete(request);
  }
  const task: SyncTask = { dataOnly, first, node, parents: [], job: undefined, result: 0 };
  o.syncs.set(o.waiting.request, task);
  return task;
}

function proceed(o: OverlayState, task: SyncTask): number {
  for (;;) {
    if (task.job !== undefined && !task.job.isDone) {
      o.waiting.waitFor(task.job);
      return DEFERRED;
    }
    if (task.result < 0 || !startNext(o, task)) {
      o.syncs.delete(o.waiting.request);
      return task.result;
    }
  }
}

/** False when all is done, or cannot be done: see `task.result`. */
function startNext(o: OverlayState, task: SyncTask): boolean {
  if (task.first >= 0) {
    const { first: fd, dataOnly } = task;
    task.first = -1;
    task.job = o.waiting.start({ kind: 'sync', fd, dataOnly }, (result) => {
      task.result = Math.min(0, result);
    });
    return true;
  }
  const parent = task.parents.pop() ?? climb(task);
  if (parent === undefined) return false;
  const directory = o.upperFd(parent);
  // O_PATH descriptors cannot be synced.
  const fd = directory < 0 ? directory : openat(directory, ITSELF, O_RDONLY | O_DIRECTORY);
  if (fd < 0) {
    task.result = fd;
    return false;
  }
  const { node } = task;
  task.job = o.waiting.start({ kind: 'sync', fd, dataOnly: false }, (result) => {
    close(fd);
    task.result = Math.min(0, result);
    if (result < 0 && node !== undefined) node.isNameUnsynced = true;
  });
  return true;
}

/** The directory of the nearest node at or above `task.node` whose name is new; others of its names are queued. */
function climb(task: SyncTask): Node | undefined {
  for (let at = task.node; at !== undefined; at = at.parent) {
    if (!at.isNameUnsynced) continue;
    at.isNameUnsynced = false;
    task.node = at;
    for (const link of at.links ?? []) if (link.inUpper) task.parents.push(link.parent);
    return at.parent;
  }
  task.node = undefined;
  return undefined;
}
