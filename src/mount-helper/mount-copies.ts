/**
 * Copies of a mount in other mount namespaces. A namespace begins with a copy of every mount that is seen
 * where it is made (mount_namespaces(7)). Where mounts are shared, a copy goes with the original; where they
 * are private, as in most containers and after unshare(1), it stays as long as the namespace does, though
 * nobody there may know of it.
 */
import { readFileSync } from 'node:fs';
import { errnoOf } from '../xet/errors.ts';
import { findHolders, type Holder } from './holders.ts';
import { type MountEntry, mountsUpon, readMountTable } from './mount-table.ts';
import { listProcesses, namespacesOf } from './process-identity.ts';

export interface MountCopies {
  /**
   * A copy is on another place than the original, or something is mounted upon it: somebody has put it to use. Also
   * when a process that could use the mount may not be looked at. False: copies, if any, were only inherited.
   */
  readonly areWanted: boolean;
  readonly count: number;
  /** Who uses one of them, except for mapped files. */
  readonly holders: readonly Holder[];
}

/** Looks for copies of a FUSE mount, as `mount` was listed before it was taken out of this namespace. */
export function findCopies(mount: MountEntry): MountCopies {
  const found = new Map<number, { readonly copy: MountEntry; readonly pids: number[] }>();
  let areWanted = false;
  for (const pid of listProcesses()) {
    const table = tableOf(pid);
    if (table === undefined && mayUse(mount, pid)) areWanted = true;
    for (const copy of table?.filter(({ device }) => device === mount.device) ?? []) {
      const isPlain = isSamePlace(copy, mount) && mountsUpon(table!, copy).length === 0;
      if (!isPlain || namespacesOf(pid) === undefined) areWanted = true;
      const known = found.get(copy.id);
      if (known === undefined) found.set(copy.id, { copy, pids: [pid] });
      else known.pids.push(pid);
    }
  }
  const holders = [...found.values()].flatMap(({ copy, pids }) => findHolders(copy, pids));
  return { areWanted, count: found.size, holders };
}

function isSamePlace(copy: MountEntry, { root, mountPoint }: MountEntry): boolean {
  return copy.root.equals(root) && copy.mountPoint.equals(mountPoint);
}

/** Undefined for what may not be looked at. A process that is ending has no namespace any more. */
function tableOf(pid: number): MountEntry[] | undefined {
  try {
    return readMountTable(pid);
  } catch (error) {
    const errno = errnoOf(error);
    return errno === 'EACCES' || errno === 'EPERM' ? undefined : [];
  }
}

/** Without `allow_other` the kernel lets in none but processes that are the mounting user's throughout. */
function mayUse({ superOptions }: MountEntry, pid: number): boolean {
  const options = superOptions.toString('latin1').split(',');
  if (options.includes('allow_other')) return true;
  const user = options.find((option) => option.startsWith('user_id='))?.slice('user_id='.length);
  try {
    const ids = /^Uid:\s*(.*)$/m.exec(readFileSync(`/proc/${pid}/status`, 'latin1'))?.[1];
    return ids === undefined || ids.split(/\s+/).includes(user ?? '');
  } catch {
    // It has ended.
    return false;
  }
}
