/**
 * A mount from beginning to end: look, hold the upper, write the record, let a backend do it. Until the
 * backend begins nothing was changed but the stamp and the record, and these go when no backend succeeds.
 */
import { statSync } from 'node:fs';
import { type ErrorCode, Git2dbError, messageOf } from '../xet/errors.ts';
import {
  type BackendMount,
  candidatesFor,
  concernsBackendOnly,
  loadBackend,
  type PlannedRequest,
  type ServeHere,
} from './backend.ts';
import { type Caller, readCaller } from './caller.ts';
import type { BackendName, MountOptions, XattrNamespace } from './mount-options.ts';
import {
  type MountRecord,
  mountedRecord,
  newRecord,
  recordFile,
  removeRecord,
  writeRecord,
} from './mount-records.ts';
import type { Stamp } from './overlay/stamp.ts';
import { findStamp, holdUpper, type UpperHold } from './overlay/upper-hold.ts';
import { failsToMakeMarks } from './overlay/work-directory.ts';
import { chooseNamespace, readSigns } from './overlay/xattr-namespace.ts';
import { realPath } from './path.ts';
import { mountPointOf, type PreparedMount, prepareMount } from './preparation.ts';
import { type RecordPlaces, recordPlaces } from './record-places.ts';
import { findUpperUse, upperInUse } from './upper-use.ts';

export interface Rejection {
  readonly backend: BackendName;
  readonly code: ErrorCode;
  readonly reason: string;
}

export interface MountResult extends BackendMount {
  readonly merged: Buffer;
  readonly backend: BackendName;
  /** Backends that were tried before, and why they did not do. */
  readonly rejected: readonly Rejection[];
  readonly record: MountRecord;
}

export type Environment = Readonly<Record<string, string | undefined>>;

/** Mounts, or throws with nothing left behind. `serveHere`: for a process that may stay as the server. */
export async function mountOverlay(
  options: MountOptions,
  env: Environment,
  serveHere?: ServeHere,
): Promise<MountResult> {
  const caller = readCaller();
  const places = recordPlaces(env);
  const prepared = await prepareOrClear(options, places);
  const upper = holdLayers(prepared, caller, places);
  try {
    const request = {
      options: prepared.options,
      caller,
      namespace: upper?.namespace ?? (caller.isPrivileged ? 'trusted' : 'user'),
      stamp: upper?.stamp,
      isMergedEmpty: prepared.isMergedEmpty,
      places,
      env,
      serveHere,
    } as const;
    const result = await mountByFirst(prepared, request, upper?.hold);
    if (result.isServedHere !== true) upper?.hold?.release();
    return result;
  } catch (error) {
    upper?.hold?.abandon();
    throw error;
  }
}

/** A mount of ours whose server was killed is cleared first; anything else of the kind is an error. */
async function prepareOrClear(options: MountOptions, places: RecordPlaces): Promise<PreparedMount> {
  try {
    return prepareMount(options);
  } catch (error) {
    if (!(error instanceof Git2dbError)) throw error;
    // A mount that lives has the mark too: nobody is to be told to remove that.
    if (error.code === 'VOLATILE_LEFTOVER') refuseWhenUsed(realPath(options.upper!), places);
    if (error.code !== 'MERGED_DEAD') throw error;
    const [{ findListed, listMounts }, { umount }] = await Promise.all([
      import('./list.ts'),
      import('./umount.ts'),
    ]);
    const place = mountPointOf(options.merged);
    if (findListed(listMounts(places).mounts, place)?.state !== 'dead') throw error;
    await umount(places, place);
    return prepareMount(options);
  }
}

// ---- the upper -------------------------------------------------------------------------------

interface HeldUpper {
  readonly namespace: XattrNamespace;
  readonly stamp: Stamp | undefined;
  /** Not for a mount that cannot write. */
  readonly hold: UpperHold | undefined;
}

/** Undefined without an upper. Throws UPPER_FOREIGN, UPPER_BUSY. */
function holdLayers(
  { options, upper, work }: PreparedMount,
  caller: Caller,
  places: RecordPlaces,
): HeldUpper | undefined {
  if (upper === undefined || work === undefined) return undefined;
  const known = findStamp(work.path);
  // A user namespace of its own sees no trusted attributes, whoever made it.
  const asked = options.namespace ?? (options.backend === 'userns' ? 'user' : undefined);
  const namespace = chooseNamespace(known, readSigns(upper.path, work.path), caller, asked);
  if (options.readOnly) {
    refuseWhenUsed(upper.path, places);
    return { namespace, stamp: known, hold: undefined };
  }
  const [likeliest] = candidatesFor(options.backend);
  const first: Stamp = {
    namespace,
    owner: caller.uid,
    mknodFailed: false,
    // A stamp that is right from the start need not be written to the disk twice.
    redirectsUsed: caller.mayMount && makesRedirects(likeliest, namespace, options),
  };
  const hold = holdUpper(upper.path, work.path, () => first, ownerOfStamp(namespace, caller, work.path));
  try {
    if (hold.stamp.namespace !== namespace) {
      // Stamped by another command between our look and our lock.
      chooseNamespace(hold.stamp, readSigns(upper.path, work.path), caller, asked);
    }
    refuseWhenUsed(upper.path, places);
    if (!hold.stamp.mknodFailed && failsToMakeMarks(work.path, hold.stamp.namespace)) {
      hold.update({ mknodFailed: true });
    }
    return { namespace: hold.stamp.namespace, stamp: hold.stamp, hold };
  } catch (error) {
    hold.abandon();
    throw error;
  }
}

/** Root stamps a user's upper for that user, who is to mount it the next time. */
function ownerOfStamp(namespace: XattrNamespace, caller: Caller, work: Buffer) {
  if (namespace !== 'user' || !caller.isPrivileged) return undefined;
  const { uid, gid } = statSync(work);
  return { uid, gid };
}

/** Whether a backend marks the directories that are renamed, which who reads the upper later has to know. */
function makesRedirects(
  backend: BackendName | undefined,
  namespace: XattrNamespace,
  { redirectDir }: MountOptions,
): boolean {
  return backend === 'kernel' && namespace === 'trusted' && redirectDir !== 'off';
}

function refuseWhenUsed(upper: Buffer, places: RecordPlaces): void {
  const use = findUpperUse(places, upper);
  if (use !== undefined) throw upperInUse(upper, use);
}

// ---- the backends ----------------------------------------------------------------------------

async function mountByFirst(
  prepared: PreparedMount,
  request: PlannedRequest,
  hold: UpperHold | undefined,
): Promise<MountResult> {
  const rejected: Rejection[] = [];
  const candidates = candidatesFor(request.options.backend);
  for (const name of candidates) {
    try {
      return { ...(await mountBy(name, prepared, request, hold)), rejected };
    } catch (error) {
      if (!(error instanceof Git2dbError) || !concernsBackendOnly(error.code)) throw error;
      rejected.push({ backend: name, code: error.code, reason: messageOf(error) });
      if (name === candidates.at(-1)) throw noneWorks(error, rejected);
    }
  }
  throw new TypeError('no candidate');
}

async function mountBy(
  name: BackendName,
  prepared: PreparedMount,
  request: PlannedRequest,
  hold: UpperHold | undefined,
): Promise<Omit<MountResult, 'rejected'>> {
  const { places, options } = request;
  const backend = await loadBackend(name);
  backend.check(request, prepared);
  // Before anything is written to the upper.
  if (makesRedirects(name, request.namespace, options)) hold?.update({ redirectsUsed: true });
  const planned = newRecord(options, name);
  writeRecord(places, planned);
  let mounted: Awaited<ReturnType<typeof backend.mount>>;
  try {
    mounted = await backend.mount({
      ...request,
      holdDescriptors: hold?.descriptors,
      recordFile: recordFile(places, planned.id),
    });
  } catch (error) {
    removeRecord(places, planned.id);
    throw error;
  }
  return {
    ...mounted,
    merged: options.merged,
    backend: name,
    record: complete(planned, mounted.pid, places),
  };
}

/** The record of a mount that stands. Where it cannot be written, the planned one tells of the mount well enough. */
function complete(planned: MountRecord, pid: number | undefined, places: RecordPlaces): MountRecord {
  const record = mountedRecord(planned, pid);
  try {
    writeRecord(places, record);
    return record;
  } catch {
    return planned;
  }
}

/** The last candidate's failure, and what became of those before. */
function noneWorks(last: Git2dbError, rejected: readonly Rejection[]): Git2dbError {
  if (rejected.length === 1) return last;
  const reasons = rejected.map(({ backend, reason }) => `${backend}: ${reason}`);
  return new Git2dbError(last.code, `no backend works here; ${reasons.join('; ')}`, {
    cause: last,
    data: { rejected },
  });
}
