/**
 * How a recorded mount fares, from its record and from what the machine shows. Looking changes nothing.
 *
 *     mounting   its mounter is at work
 *     mounted    is there, and is served
 *     dead       still in the tree, and its server is gone: each use fails with ENOTCONN
 *     detached   taken out of the tree, and somebody still uses it
 *     lost       was there until a crash or a reboot, and nobody has asked for its end
 *     ended      unmounted by somebody else than us: the record only remains to be removed
 *     unsure     made in a namespace that cannot be looked at from here
 */
import { statfsSync } from 'node:fs';
import { errnoOf } from '../xet/errors.ts';
import { directoryIdentity, type MountRecord } from './mount-records.ts';
import { FUSE_TYPE, findMount, type MountEntry, readMountTable } from './mount-table.ts';
import {
  findMountNamespace,
  isAlive,
  type NamespaceSight,
  type Namespaces,
  ownNamespaces,
  type ProcessIdentity,
  readBootId,
} from './process-identity.ts';
import { isUpperInKernel } from './upper-in-kernel.ts';

export type MountState = 'mounting' | 'mounted' | 'dead' | 'detached' | 'lost' | 'ended' | 'unsure';

export interface Assessment {
  readonly state: MountState;
  /** The mount in this process's own table. */
  readonly entry?: MountEntry;
  /** Who serves, holds or uses the mount, as far as known. */
  readonly processes: readonly ProcessIdentity[];
}

/** What is asked of the machine; tests pass another one. */
export interface HostView {
  readonly bootId: string;
  readonly namespaces: Namespaces;
  /** Of this process. */
  readonly table: readonly MountEntry[];
  /** Undefined when it may not be read. */
  tableOf(pid: number): readonly MountEntry[] | undefined;
  isAlive(process: ProcessIdentity): boolean;
  findMountNamespace(mount: string): NamespaceSight;
  /** Does an overlay of the kernel write to this directory? Undefined: it cannot be told. */
  isUpperInKernel(upper: Buffer, identity: string): boolean | undefined;
  /** False when the server of a FUSE mount is gone. */
  answers(mountPoint: Buffer): boolean;
}

export function viewHost(): HostView {
  return {
    bootId: readBootId(),
    namespaces: ownNamespaces(),
    table: readMountTable(),
    tableOf: (pid) => {
      try {
        return readMountTable(pid);
      } catch {
        return undefined;
      }
    },
    isAlive,
    findMountNamespace,
    // The path may lead somewhere else in the namespace that the mount was made in.
    isUpperInKernel: (upper, identity) =>
      directoryIdentity(upper) === identity ? isUpperInKernel(upper) : undefined,
    answers,
  };
}

/**
 * Asks the file system itself: with its server gone it answers at once, with ENOTCONN. statfs(2), because
 * attributes may come out of the kernel's cache.
 */
export function answers(mountPoint: Buffer): boolean {
  try {
    statfsSync(mountPoint);
    return true;
  } catch (error) {
    return errnoOf(error) !== 'ENOTCONN';
  }
}

export function assess(record: MountRecord, host: HostView): Assessment {
  if (record.phase === 'lost') return { state: 'lost', processes: [] };
  if (record.bootId !== host.bootId) {
    // Nothing outlives the kernel. Whoever was told "mounted" is to have it again.
    return { state: record.phase === 'mounted' ? 'lost' : 'ended', processes: [] };
  }
  if (record.phase === 'detached') return assessDetached(record, host);
  if (record.phase === 'mounting' && mayBeAlive(record, host)) {
    return { state: 'mounting', processes: known(record) };
  }
  if (record.backend === 'kernel') return assessKernel(record, host);
  if (record.backend === 'userns') return assessUserns(record, host);
  return assessFuse(record, host);
}

function assessDetached(record: MountRecord, host: HostView): Assessment {
  const processes = (record.users ?? []).filter((user) => host.isAlive(user));
  // Users may have handed the mount on to processes that nobody has noted.
  const state = inKernel(record, host, 'detached');
  if (state !== undefined) return { state, processes };
  if (record.pidNamespace !== host.namespaces.pid) return { state: 'unsure', processes: [] };
  return { state: processes.length > 0 ? 'detached' : 'ended', processes };
}

/** What the kernel itself says about the upper; undefined: nothing. */
function inKernel(
  { options: { upper }, upperIdentity }: MountRecord,
  host: HostView,
  inUse: MountState,
): MountState | undefined {
  if (upper === undefined || upperIdentity === undefined) return undefined;
  const answer = host.isUpperInKernel(upper, upperIdentity);
  return answer === undefined ? undefined : answer ? inUse : 'ended';
}

/** The kernel's overlay is there exactly as long as it is in the table of its namespace. */
function assessKernel(record: MountRecord, host: HostView): Assessment {
  if (record.mountNamespace === host.namespaces.mount) {
    const entry = entryOf(record, host.table);
    return entry === undefined
      ? { state: 'ended', processes: [] }
      : { state: 'mounted', entry, processes: [] };
  }
  const sight = host.findMountNamespace(record.mountNamespace);
  if (sight.seen === 'gone') return { state: 'ended', processes: [] };
  const table = sight.seen === 'alive' ? host.tableOf(sight.pid) : undefined;
  if (table === undefined) return { state: inKernel(record, host, 'mounted') ?? 'unsure', processes: [] };
  return { state: entryOf(record, table) === undefined ? 'ended' : 'mounted', processes: [] };
}

/** The server lives exactly as long as its file system, unless it is killed. */
function assessFuse(record: MountRecord, host: HostView): Assessment {
  const isHere = record.mountNamespace === host.namespaces.mount;
  const entry = isHere ? entryOf(record, host.table) : undefined;
  const found = entry === undefined ? {} : { entry };
  if (mayBeAlive(record, host)) {
    const state = isHere && entry === undefined ? 'detached' : 'mounted';
    return { state, ...found, processes: known(record) };
  }
  if (isHere) {
    if (entry === undefined) return { state: 'ended', processes: [] };
    // Of a command that was killed while it mounted, the server is not known, and may live.
    const lives = record.phase === 'mounting' && host.answers(record.options.merged);
    return { state: lives ? 'mounted' : 'dead', ...found, processes: [] };
  }
  if (record.pidNamespace !== host.namespaces.pid) return { state: 'unsure', processes: [] };
  return { state: 'ended', processes: [] };
}

/** The mount lives in a namespace of its own, which lives as long as a process in it. */
function assessUserns(record: MountRecord, host: HostView): Assessment {
  const held = record.phase !== 'mounting' && record.process !== undefined && host.isAlive(record.process);
  const sight: NamespaceSight = held
    ? { seen: 'alive', pid: record.process.pid }
    : host.findMountNamespace(record.mountNamespace);
  if (sight.seen !== 'alive') {
    // Our own namespaces are seen from anywhere in our PID namespace; elsewhere nothing can be said.
    const sure = sight.seen === 'gone' || record.pidNamespace === host.namespaces.pid;
    return { state: sure ? (record.phase === 'mounted' ? 'lost' : 'ended') : 'unsure', processes: [] };
  }
  const table = host.tableOf(sight.pid);
  if (table === undefined) return { state: 'unsure', processes: [] };
  if (entryOf(record, table) === undefined) return { state: 'ended', processes: [] };
  // Without its holder the mount is kept by whoever was left in it, and can no longer be ended in order.
  return { state: held ? 'mounted' : 'detached', processes: known(record) };
}

function known({ process }: MountRecord): ProcessIdentity[] {
  return process === undefined ? [] : [process];
}

/** A process of another PID namespace cannot be seen: it is believed to be there. */
function mayBeAlive({ process, pidNamespace }: MountRecord, host: HostView): boolean {
  if (process === undefined) return false;
  return pidNamespace !== host.namespaces.pid || host.isAlive(process);
}

/** The mount itself in `table`, and not another one that took its place since. */
function entryOf(record: MountRecord, table: readonly MountEntry[]): MountEntry | undefined {
  const type = record.backend === 'fuse' ? FUSE_TYPE : 'overlay';
  const entries = table.filter(
    ({ mountPoint, type: found, device }) =>
      found === type &&
      mountPoint.equals(record.options.merged) &&
      (record.device === undefined || record.device === device),
  );
  return findMount(entries, record.options.merged);
}
