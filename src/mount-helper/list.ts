/**
 * The mounts of git2db that this user can know of: those it has records of, and those that the table of
 * mounts shows to be ours without one (made by another user, or with the records lost).
 */
import { isUtf8 } from 'node:buffer';
import { Git2dbError } from '../xet/errors.ts';
import type { BackendName } from './mount-options.ts';
import { DEFAULT_OPTIONS } from './mount-options.ts';
import { type DamagedRecord, type MountRecord, readRecords, removeRecord } from './mount-records.ts';
import { assess, type HostView, type MountState, viewHost } from './mount-state.ts';
import { fuseMounts, type MountEntry, overlayMounts, superOption } from './mount-table.ts';
import { showPath } from './path.ts';
import type { ProcessIdentity } from './process-identity.ts';
import type { RecordPlaces } from './record-places.ts';

export interface ListedMount {
  readonly merged: Buffer;
  readonly backend: BackendName;
  readonly state: MountState;
  readonly record?: MountRecord;
  /** In this process's own table of mounts. */
  readonly entry?: MountEntry;
  /** Who serves or holds it; of a `detached` mount, who uses it. */
  readonly processes: readonly ProcessIdentity[];
}

export interface MountList {
  /** The order they were made in, those without a record first. */
  readonly mounts: readonly ListedMount[];
  readonly damaged: readonly DamagedRecord[];
}

export interface ListOptions {
  readonly host?: HostView;
  /** What becomes of the records of mounts that somebody else has ended; nobody asks for these otherwise. */
  readonly ended?: 'remove' | 'keep' | 'list';
}

export function listMounts(
  places: RecordPlaces,
  { host = viewHost(), ended = 'remove' }: ListOptions = {},
): MountList {
  const { records, damaged } = readRecords(places);
  const recorded: ListedMount[] = records.map((record) => ({
    merged: record.options.merged,
    backend: record.backend,
    record,
    ...assess(record, host),
  }));
  const mounts = recorded.map((mount) =>
    isReplaced(mount, recorded) ? { ...mount, state: 'ended' as const } : mount,
  );
  if (ended === 'remove') {
    for (const { state, record } of mounts) if (state === 'ended') forget(places, record!);
  }
  const shown = ended === 'list' ? mounts : mounts.filter(({ state }) => state !== 'ended');
  return { mounts: [...unrecorded(recorded, host), ...shown], damaged };
}

/** A record that cannot be removed now is removed by the next who may. */
function forget(places: RecordPlaces, record: MountRecord): void {
  try {
    removeRecord(places, record.id);
  } catch {
    // A read-only home, say.
  }
}

/** Lost, and something was mounted in its place since. */
function isReplaced({ state, merged }: ListedMount, mounts: readonly ListedMount[]): boolean {
  return (
    state === 'lost' &&
    mounts.some((other) => other.state !== 'lost' && other.state !== 'ended' && other.merged.equals(merged))
  );
}

function unrecorded(recorded: readonly ListedMount[], host: HostView): ListedMount[] {
  const known = new Set(recorded.map(({ entry }) => entry?.id));
  const ours = [
    ...fuseMounts(host.table),
    ...overlayMounts(host.table).filter(({ source }) => source.toString('latin1') === DEFAULT_OPTIONS.source),
  ];
  return ours
    .filter(({ id }) => !known.has(id))
    .map((entry) => {
      const isFuse = entry.type !== 'overlay';
      return {
        merged: entry.mountPoint,
        backend: isFuse ? 'fuse' : 'kernel',
        state: !isFuse || host.answers(entry.mountPoint) ? 'mounted' : 'dead',
        entry,
        processes: [],
      };
    });
}

/** Whether the mount is this user's to end: by its record, or by who it serves. Root may end any. */
export function isCallers({ record, entry }: Pick<ListedMount, 'record' | 'entry'>): boolean {
  const uid = process.geteuid!();
  if (record !== undefined || uid === 0) return true;
  return entry !== undefined && superOption(entry, 'user_id')?.toString() === String(uid);
}

/** One document for `list --json`. */
export function mountJson(mount: ListedMount): Record<string, unknown> {
  const { merged, backend, state, record, entry, processes } = mount;
  const options = record?.options;
  const upper = options?.upper ?? (entry === undefined ? undefined : superOption(entry, 'upperdir'));
  const work = options?.work ?? (entry === undefined ? undefined : superOption(entry, 'workdir'));
  return {
    ...pathJson('merged', merged),
    backend,
    state,
    ...(options === undefined ? {} : { lower: options.lowers.map((path) => path.toString()) }),
    ...(upper === undefined ? {} : pathJson('upper', upper)),
    ...(work === undefined ? {} : pathJson('work', work)),
    readOnly: options?.readOnly ?? entry?.options.includes('ro') ?? false,
    pids: processes.map(({ pid }) => pid),
    recorded: record !== undefined,
    ...(record === undefined ? {} : { since: new Date(record.since).toISOString() }),
  };
}

/** A path is bytes and JSON is text: where it is not UTF-8, the exact bytes stand beside it. */
export function pathJson(name: string, path: Buffer): Record<string, string> {
  return isUtf8(path)
    ? { [name]: path.toString() }
    : { [name]: path.toString(), [`${name}Base64`]: path.toString('base64') };
}

/** A line per mount: state, backend, place. */
export function formatMounts(mounts: readonly ListedMount[]): string[] {
  return mounts.map(({ merged, backend, state, processes }) => {
    const who = processes.length === 0 ? '' : ` (process ${processes.map(({ pid }) => pid).join(', ')})`;
    return `${state.padEnd(8)} ${backend.padEnd(6)} ${showPath(merged)}${who}`;
  });
}

/** The mount on `merged`: where several are stacked, the one on top. Undefined: none of ours. */
export function findListed(mounts: readonly ListedMount[], merged: Buffer): ListedMount | undefined {
  const there = mounts.filter((mount) => mount.merged.equals(merged));
  const parents = new Set(there.map(({ entry }) => entry?.parent));
  return (
    there.findLast(({ entry }) => entry !== undefined && !parents.has(entry.id)) ??
    there.findLast(({ state }) => state !== 'lost') ??
    there.at(-1)
  );
}

export function notMounted(merged: Buffer, entry: MountEntry | undefined): Git2dbError {
  const place = showPath(merged);
  const message =
    entry === undefined
      ? `${place} is not mounted`
      : `${place} is a mount of type ${entry.type}, which git2db did not make; end it with: umount ${place}`;
  return new Git2dbError('NOT_MOUNTED', message, { data: { merged } });
}
