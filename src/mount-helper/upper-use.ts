/**
 * One upper, one mount. A FUSE server and a holder of namespaces keep the lock of the upper's stamp as long
 * as they live. For the kernel's mounts the records and the tables of mounts decide, in other mount
 * namespaces too, and where these leave a doubt the kernel itself, if we may ask it. What cannot be decided
 * counts as in use.
 */
import { Git2dbError } from '../xet/errors.ts';
import { directoryIdentity, type MountRecord, readRecords, removeRecord } from './mount-records.ts';
import { assess, type HostView, viewHost } from './mount-state.ts';
import { overlayMounts, superOption } from './mount-table.ts';
import { showPath } from './path.ts';
import type { ProcessIdentity } from './process-identity.ts';
import type { RecordPlaces } from './record-places.ts';

export interface UpperUse {
  /** `unsure`: there is a record, and what became of its mount cannot be seen from here. */
  readonly certainty: 'in use' | 'unsure';
  readonly merged: Buffer;
  readonly record?: MountRecord;
  readonly processes: readonly ProcessIdentity[];
}

/**
 * Who uses `upper`, a directory without symbolic links in its path; undefined: nobody. Call it with the lock
 * of the stamp held, or two mounters could both find the upper free. Records of mounts that have ended are
 * removed on the way; `except` is the caller's own.
 */
export function findUpperUse(
  places: RecordPlaces,
  upper: Buffer,
  { except, host = viewHost() }: { readonly except?: string; readonly host?: HostView } = {},
): UpperUse | undefined {
  const identity = directoryIdentity(upper);
  // One path may be two directories, in two mount namespaces, and one directory have two paths.
  const sameUpper = (path: Buffer, other: string | undefined) =>
    identity === undefined || other === undefined ? path.equals(upper) : other === identity;

  for (const record of readRecords(places).records) {
    const { upper: recorded, merged } = record.options;
    if (record.id === except || recorded === undefined) continue;
    if (!sameUpper(recorded, record.upperIdentity)) continue;
    const { state: assessed, processes } = assess(record, host);
    const state = assessed === 'unsure' ? askKernel(record, upper, identity, host) : assessed;
    if (state === 'ended') removeRecord(places, record.id);
    // With its server gone, or lost altogether, a mount writes nothing any more.
    if (state === 'ended' || state === 'dead' || state === 'lost') continue;
    return { certainty: state === 'unsure' ? 'unsure' : 'in use', merged, record, processes };
  }
  for (const entry of overlayMounts(host.table)) {
    const used = superOption(entry, 'upperdir');
    if (used !== undefined && sameUpper(used, directoryIdentity(used))) {
      return { certainty: 'in use', merged: entry.mountPoint, processes: [] };
    }
  }
  return undefined;
}

/**
 * The place that a record names may be gone, and its directory be here all the same: or another one that got
 * its numbers. Of that the kernel can tell whether one of its overlays writes to it.
 */
function askKernel(
  { backend }: MountRecord,
  upper: Buffer,
  identity: string | undefined,
  host: HostView,
): 'mounted' | 'ended' | 'unsure' {
  const answer =
    backend === 'kernel' && identity !== undefined ? host.isUpperInKernel(upper, identity) : undefined;
  return answer === undefined ? 'unsure' : answer ? 'mounted' : 'ended';
}

/** The refusal, with what to do about it. */
export function upperInUse(upper: Buffer, use: UpperUse): Git2dbError {
  return new Git2dbError('UPPER_BUSY', `the upper directory ${showPath(upper)} ${describeUse(use)}`, {
    data: { upper, merged: use.merged, certainty: use.certainty },
  });
}

function describeUse({ certainty, merged, record, processes }: UpperUse): string {
  const place = showPath(merged);
  if (certainty === 'unsure') {
    return (
      `belongs to a mount on ${place}, made in mount namespace ${record?.mountNamespace}, which cannot be looked at ` +
      `from here; end it there, or, when that is gone: git2db-mount umount --force ${place}`
    );
  }
  const by = processes.length === 0 ? '' : ` (process ${processes.map(({ pid }) => pid).join(', ')})`;
  const remedy =
    record === undefined
      ? `unmount that first: umount ${place}`
      : `end that first: git2db-mount umount ${place}`;
  return `is in use by the mount on ${place}${by}; ${remedy}`;
}
