/**
 * Ends mounts, whichever backend serves them, and sees to it that neither a process nor a record of ours is
 * left. A mount in use is refused, with the names of those who use it.
 *
 *     lazy   takes the mount out of the tree now; who uses it goes on, and its server with them
 *     force  whoever uses it is cut off: open files of a FUSE mount fail, processes inside a userns mount
 *            are killed. The kernel's own overlay cannot be forced
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { errnoOf, Git2dbError } from '../xet/errors.ts';
import { endServers } from './end-servers.ts';
import { findHolders, findInside, formatHolders, type Holder } from './holders.ts';
import { clearLeftWork } from './left-work.ts';
import { findListed, type ListedMount, listMounts, notMounted } from './list.ts';
import type { MountOptions } from './mount-options.ts';
import { detachedRecord, removeRecord, writeRecord } from './mount-records.ts';
import { findMount, type MountEntry, mountsUpon, readMountTable } from './mount-table.ts';
import { endVolatileAt } from './overlay/volatile-mark.ts';
import { showPath } from './path.ts';
import { mountPointOf } from './preparation.ts';
import { endProcess, signalProcess, stillAlive, waitForEnd } from './process-end.ts';
import type { ProcessIdentity } from './process-identity.ts';
import type { RecordPlaces } from './record-places.ts';
import { EBUSY, EPERM, errnoMessage, errnoName } from './system/errno.ts';
import { unmountEntry, unmountFuseEntry } from './unmount-entry.ts';

export interface UmountOptions {
  readonly force?: boolean;
  readonly lazy?: boolean;
  /** How long to wait for the end of a server that has nothing left to serve. */
  readonly timeoutMs?: number;
}

export interface UmountOutcome {
  readonly merged: Buffer;
  /** Undefined: it is ended. */
  readonly error?: Error;
  /** What a person should know all the same. */
  readonly note?: string;
}

const END_TIMEOUT_MS = 10_000;
/** Whoever only looks at a mount (`df`, a search for holders as ours) keeps it busy for an instant. */
const LOOK_MS = 1_000;
const LOOK_STEP_MS = 20;

/**
 * Ends what is mounted on `merged`, an absolute path. Resolves to a note for a person, or to undefined;
 * throws NOT_MOUNTED, MOUNT_BUSY (`data.holders`), MOUNT_FAILED.
 */
export async function umount(
  places: RecordPlaces,
  merged: Buffer,
  options: UmountOptions = {},
): Promise<string | undefined> {
  const place = placeOf(merged);
  const listed = findListed(listMounts(places, { ended: 'keep' }).mounts, place);
  if (listed === undefined) {
    // Ended by somebody else: what is left of it goes now.
    listMounts(places);
    throw notMounted(place, findMount(readMountTable(), place));
  }
  return endMount(places, listed, options);
}

/** Ends each of `operands`, or with `all` everything; goes on after a failure. */
export async function umountEach(
  places: RecordPlaces,
  operands: readonly Buffer[] | 'all',
  options: UmountOptions = {},
): Promise<UmountOutcome[]> {
  const outcomes: UmountOutcome[] = [];
  for (const merged of operands === 'all' ? everyMount(places) : operands) {
    try {
      const note = await umount(places, merged, options);
      outcomes.push(note === undefined ? { merged } : { merged, note });
    } catch (error) {
      if (!(error instanceof Error)) throw error;
      outcomes.push({ merged, error });
    }
  }
  return outcomes;
}

/** Of this user. The newest first: a mount may lie on top of an older one, or inside it. */
function everyMount(places: RecordPlaces): Buffer[] {
  return listMounts(places)
    .mounts.filter(({ state, record }) => record !== undefined && (state === 'mounted' || state === 'dead'))
    .map(({ merged }) => merged)
    .reverse();
}

function placeOf(merged: Buffer): Buffer {
  try {
    return mountPointOf(merged);
  } catch (error) {
    if (['ENOENT', 'ENOTDIR'].includes(errnoOf(error) ?? '')) return merged;
    throw error;
  }
}

async function endMount(
  places: RecordPlaces,
  listed: ListedMount,
  options: UmountOptions,
): Promise<string | undefined> {
  const { merged, state, backend, processes, record } = listed;
  const place = showPath(merged);
  switch (state) {
    case 'mounting':
      throw busy(listed, `${place} is just being mounted by process ${processes[0]?.pid}; try again`);
    case 'lost':
      removeRecord(places, record!.id);
      throw new Git2dbError(
        'NOT_MOUNTED',
        `${place} is not mounted: a crash or reboot has ended it; its record is removed now`,
        { data: { merged } },
      );
    case 'unsure':
      if (options.force !== true) {
        throw new Git2dbError(
          'NOT_MOUNTED',
          `${place} was mounted in mount namespace ${record!.mountNamespace}, which cannot be looked at from here; ` +
            `unmount it there, or, when that is gone: git2db-mount umount --force ${place}`,
          { data: { merged } },
        );
      }
      removeRecord(places, record!.id);
      return `only the record of ${place} was removed: its mount cannot be seen from here`;
    case 'detached':
      return endDetached(places, listed, options);
    default:
      if (backend === 'userns') return endUserns(places, listed, options);
      return backend === 'fuse' ? endFuse(places, listed, options) : endKernel(places, listed, options);
  }
}

/** Tries again for a while where the mount is busy and nobody is seen to use it. 0 or -errno. */
async function whenIdle(entry: MountEntry, unmount: () => number | Promise<number>): Promise<number> {
  for (const deadline = performance.now() + LOOK_MS; ; ) {
    const code = await unmount();
    if (code !== -EBUSY || performance.now() > deadline) return code;
    if (mountsUpon(readMountTable(), entry).length > 0 || findHolders(entry).length > 0) return code;
    await sleep(LOOK_STEP_MS);
  }
}

// ---- the kernel's overlay --------------------------------------------------------------------

async function endKernel(
  places: RecordPlaces,
  listed: ListedMount,
  { lazy, force }: UmountOptions,
): Promise<string | undefined> {
  const { record, entry } = listed;
  if (entry === undefined) throw elsewhere(listed);
  const users = lazy === true ? findHolders(entry) : [];
  const code = await whenIdle(entry, () => unmountEntry(entry, lazy === true));
  if (code === -EBUSY) {
    const hint = force === true ? '--force does not help with the kernel backend: ' : '';
    throw busyWith(listed, findHolders(entry), `${hint}end these first, or: git2db-mount umount --lazy`);
  }
  if (code < 0) throw failed(listed, code);
  if (record === undefined) return undefined;
  if (users.length === 0 || record.options.upper === undefined) {
    removeRecord(places, record.id);
    return record.options.volatile ? settleVolatile(record.options) : undefined;
  }
  // Who still writes there must be known before the upper is mounted again.
  writeRecord(places, detachedRecord(record, users.map(identityOf)));
  return `${showPath(listed.merged)} is still used by ${formatHolders(users)}; its upper stays taken until they end`;
}

/** In order ends what never waited for the disk: the kernel leaves its mark for whoever unmounts. */
function settleVolatile({ work }: MountOptions): string | undefined {
  const code = endVolatileAt(work!);
  return code < 0
    ? `the mark of the volatile mount stays in ${showPath(work!)}: ${errnoMessage(code)}`
    : undefined;
}

function identityOf({ pid, startTime }: Holder): ProcessIdentity {
  return { pid, startTime };
}

// ---- our FUSE server -------------------------------------------------------------------------

async function endFuse(
  places: RecordPlaces,
  listed: ListedMount,
  { lazy, force, timeoutMs = END_TIMEOUT_MS }: UmountOptions,
): Promise<string | undefined> {
  const { record, entry, processes, state, merged } = listed;
  if (entry === undefined) throw elsewhere(listed);
  // A dead mount has nothing to lose, and whoever still has it open would keep it for ever.
  const detach = lazy === true || force === true || state === 'dead';
  const code = await whenIdle(entry, () => unmountFuseEntry(entry, detach));
  if (code === -EBUSY) {
    throw busyWith(listed, findHolders(entry), 'end these first, or: git2db-mount umount --lazy, or --force');
  }
  if (code < 0) throw failed(listed, code);
  let note: string | undefined;
  if (force === true) for (const process of processes) await endProcess(process);
  else if (lazy === true) {
    const waiting = await stillAlive(processes, 200);
    if (waiting.length > 0) return stays(merged, waiting);
  } else {
    const { left, holders, wereTold } = await endServers(entry, processes, timeoutMs);
    if (left.length > 0) throw busyElsewhere(listed, left, holders);
    if (wereTold && record?.options.volatile === true) note = settleVolatile(record.options);
  }
  if (record !== undefined) {
    clearLeftWork(record);
    removeRecord(places, record.id);
  }
  return note;
}

/** Takes a mount whose server is gone out of the tree; its record stays. Throws MOUNT_FAILED. */
export async function detachDeadMount(listed: ListedMount): Promise<void> {
  const code = await unmountFuseEntry(listed.entry!, true);
  if (code < 0) throw failed(listed, code);
}

function stays(merged: Buffer, servers: readonly ProcessIdentity[]): string {
  const who = servers.map(({ pid }) => pid).join(', ');
  return `${showPath(merged)} is unmounted, and its server (process ${who}) stays for those who still use it`;
}

// ---- namespaces of their own -----------------------------------------------------------------

/** The mount is gone when the last process of its namespace is: the holder ends when it is told and alone. */
async function endUserns(
  places: RecordPlaces,
  listed: ListedMount,
  { lazy, force, timeoutMs = END_TIMEOUT_MS }: UmountOptions,
): Promise<string | undefined> {
  const { record, merged, processes } = listed;
  const holder = processes[0];
  if (record === undefined || holder === undefined) throw elsewhere(listed);
  const inside = findInside(record.mountNamespace, holder.pid);
  if (inside.length > 0 && lazy !== true && force !== true) {
    throw busyWith(listed, inside, 'end these first, or: git2db-mount umount --lazy, or --force');
  }
  if (force === true) for (const each of inside) signalProcess(each, 'SIGKILL');
  signalProcess(holder, 'SIGTERM');
  if (lazy === true && inside.length > 0) {
    return `${showPath(merged)} ends with the last process inside: ${formatHolders(inside)}`;
  }
  if (!(await waitForEnd(holder, timeoutMs))) {
    throw busyWith(
      listed,
      findInside(record.mountNamespace, holder.pid),
      'they came in meanwhile; try again',
    );
  }
  removeRecord(places, record.id);
  return undefined;
}

// ---- what was left by a lazy end, or without its holder --------------------------------------

async function endDetached(
  places: RecordPlaces,
  listed: ListedMount,
  { force }: UmountOptions,
): Promise<string | undefined> {
  const { record, processes, backend, merged } = listed;
  const users = backend === 'userns' ? findInside(record!.mountNamespace, -1) : processes;
  if (force !== true || backend === 'kernel') {
    const hint =
      backend === 'kernel' ? 'it ends with them' : 'it ends with them, or: git2db-mount umount --force';
    const who = users.map(({ pid }) => `process ${pid}`).join(', ');
    throw busy(listed, `${showPath(merged)} is unmounted already and still used by ${who}; ${hint}`);
  }
  for (const process of users) await endProcess(process);
  if (backend === 'fuse') clearLeftWork(record!);
  removeRecord(places, record!.id);
  return undefined;
}

// ---- refusals --------------------------------------------------------------------------------

function busyWith(listed: ListedMount, holders: readonly Holder[], remedy: string): Git2dbError {
  const place = showPath(listed.merged);
  const above = listed.entry === undefined ? [] : mountsUpon(readMountTable(), listed.entry);
  const reasons = [
    ...(holders.length === 0 ? [] : [`used by ${formatHolders(holders)}`]),
    ...above.map(({ mountPoint }) => `under the mount on ${showPath(mountPoint)}`),
  ];
  const why =
    reasons.length === 0 ? 'used by a process that this user may not look at' : reasons.join(', and ');
  return busy(listed, `${place} is busy: ${why}; ${remedy}`, holders);
}

function busy({ merged }: ListedMount, message: string, holders: readonly Holder[] = []): Git2dbError {
  return new Git2dbError('MOUNT_BUSY', message, { data: { merged, holders } });
}

function busyElsewhere(
  listed: ListedMount,
  servers: readonly ProcessIdentity[],
  holders: readonly Holder[],
): Git2dbError {
  const users = holders.length === 0 ? '' : `, by ${formatHolders(holders)}`;
  return busy(
    listed,
    `${stays(listed.merged, servers)}, in another mount namespace${users}; unmount it there, or: ` +
      `git2db-mount umount --force ${showPath(listed.merged)}`,
    holders,
  );
}

function elsewhere({ merged, record }: ListedMount): Git2dbError {
  const where = record === undefined ? '' : ` ${record.mountNamespace}`;
  return new Git2dbError(
    'NOT_MOUNTED',
    `${showPath(merged)} is mounted in another mount namespace${where}; unmount it there`,
    { data: { merged } },
  );
}

function failed({ merged }: ListedMount, code: number): Git2dbError {
  const remedy = code === -EPERM ? '; unmount it as the user who mounted it, or as root' : '';
  return new Git2dbError(
    'MOUNT_FAILED',
    `cannot unmount ${showPath(merged)}: ${errnoMessage(code)}${remedy}`,
    {
      data: { merged, errno: errnoName(code) },
    },
  );
}
