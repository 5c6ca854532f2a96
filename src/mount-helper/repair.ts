/**
 * Puts right what a crash or a reboot has left: dead FUSE mounts are cleared away, mounts that were lost are
 * made again, records of mounts that have ended are removed. What cannot be put right is reported, and its
 * record kept for the next time. Doing it twice does nothing the second time.
 */
import { messageOf } from '../xet/errors.ts';
import { isCallers, type ListedMount, listMounts, pathJson } from './list.ts';
import type { BackendName, MountOptions } from './mount-options.ts';
import { findLitter, type MountRecord, removeRecord, writeRecord } from './mount-records.ts';
import type { MountState } from './mount-state.ts';
import { showPath } from './path.ts';
import { mountPointOf, prepareMount } from './preparation.ts';
import type { RecordPlaces } from './record-places.ts';
import { detachDeadMount } from './umount.ts';

export interface RepairRequest {
  /** Mounts as recorded; writes a record of its own. */
  readonly remount: (options: MountOptions) => Promise<unknown>;
  /** Only these; all without it. */
  readonly only?: readonly Buffer[];
  /** Says what would be done. */
  readonly dryRun?: boolean;
  /** Told of each of `only` that is no mount of ours and of which there is no record. */
  readonly onUnknown?: (merged: Buffer) => void;
}

export interface RepairOutcome {
  /** Of a damaged record or of litter: the file. */
  readonly merged: Buffer;
  readonly backend?: BackendName;
  readonly state: MountState | 'damaged record' | 'litter';
  readonly action: 'remounted' | 'cleared' | 'reported';
  /** What was done or is to be done, in one line. */
  readonly message: string;
  /** True when it is not right yet, and somebody has to see to it. */
  readonly isOpen: boolean;
}

/** What was wrong, the older mounts first: a later one may lie inside. Nothing wrong: an empty list. */
export async function repairMounts(
  places: RecordPlaces,
  { remount, only, dryRun = false, onUnknown }: RepairRequest,
): Promise<RepairOutcome[]> {
  const { mounts, damaged } = listMounts(places, { ended: 'list' });
  const wanted = only?.map(placeOf);
  const outcomes: RepairOutcome[] = [];
  for (const mount of mounts) {
    if (wanted?.some((place) => place.equals(mount.merged)) === false) continue;
    const outcome = await repairMount(places, mount, dryRun, remount);
    if (outcome !== undefined) outcomes.push(outcome);
  }
  for (const place of wanted ?? []) {
    if (!mounts.some(({ merged }) => merged.equals(place))) onUnknown?.(place);
  }
  if (wanted !== undefined) return outcomes;
  for (const { file, message } of damaged) {
    outcomes.push({
      merged: Buffer.from(file),
      state: 'damaged record',
      action: 'reported',
      message: `${message}; when its mount is gone: rm ${file}`,
      isOpen: true,
    });
  }
  for (const file of findLitter(places, { remove: !dryRun })) {
    const message = `${file}: the rest of a crashed command`;
    outcomes.push({ merged: Buffer.from(file), state: 'litter', action: 'cleared', message, isOpen: false });
  }
  return outcomes;
}

/** Of a directory that is gone there may be a record all the same. */
function placeOf(merged: Buffer): Buffer {
  try {
    return mountPointOf(merged);
  } catch {
    return merged;
  }
}

async function repairMount(
  places: RecordPlaces,
  mount: ListedMount,
  dryRun: boolean,
  remount: RepairRequest['remount'],
): Promise<RepairOutcome | undefined> {
  const { merged, state, record } = mount;
  const outcome = (action: RepairOutcome['action'], message: string, isOpen = false): RepairOutcome => ({
    merged,
    backend: mount.backend,
    state,
    action,
    message: `${showPath(merged)}: ${message}`,
    isOpen,
  });
  try {
    switch (state) {
      case 'mounted':
      case 'mounting':
        return undefined;
      case 'ended':
        if (!dryRun) removeRecord(places, record!.id);
        return outcome('cleared', 'unmounted by another program; its record is removed');
      case 'dead': {
        if (!isCallers(mount)) return undefined;
        if (!dryRun) await detachDeadMount(mount);
        if (record === undefined)
          return outcome('cleared', 'its server was gone; unmounted, there is no record of it');
        const lost: MountRecord = { ...record, phase: 'lost' };
        if (!dryRun) {
          writeRecord(places, lost);
          await mountAgain(places, lost, remount);
        }
        return outcome('remounted', 'its server was gone; unmounted and mounted again');
      }
      case 'lost':
        if (dryRun) prepareMount(record!.options);
        else await mountAgain(places, record!, remount);
        return outcome('remounted', 'ended by a crash or reboot; mounted again');
      case 'detached':
        return outcome('reported', `unmounted, and still used by ${pids(mount)}; it ends with these`, true);
      case 'unsure':
        return outcome(
          'reported',
          `made in mount namespace ${record!.mountNamespace}, which cannot be looked at from here; when that is ` +
            `gone: git2db-mount umount --force ${showPath(merged)}`,
          true,
        );
    }
  } catch (error) {
    const forget = `to forget it: git2db-mount umount ${showPath(merged)}`;
    return outcome('reported', `cannot be put right: ${messageOf(error)}; ${forget}`, true);
  }
}

/** By the backend that served it: another one may show it otherwise. */
async function mountAgain(
  places: RecordPlaces,
  { id, options, backend }: MountRecord,
  remount: RepairRequest['remount'],
): Promise<void> {
  await remount({ ...options, backend, foreground: false, debug: false });
  removeRecord(places, id);
}

function pids({ processes }: ListedMount): string {
  return processes.map(({ pid }) => `process ${pid}`).join(', ');
}

/** One document for `repair --json`. */
export function repairJson({
  merged,
  backend,
  state,
  action,
  message,
  isOpen,
}: RepairOutcome): Record<string, unknown> {
  return { ...pathJson('merged', merged), backend: backend ?? null, state, action, message, open: isOpen };
}
