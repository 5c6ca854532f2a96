/**
 * What is known of the mounts this user has made: one file per mount, kept until the mount is ended, so
 * that `list`, `umount` and `repair` need not guess, even after a reboot. docs/format/mount-records.md
 * describes the files, `record-format.ts` reads and writes their text.
 *
 * A record is written before the mount is made (`phase` `mounting`) and again when it is there: a crash in
 * between leaves a record without a mount and never a mount without a record. Its name is random. So
 * whoever ends a mount, and removes its record last, cannot hit the record of the next mount at the place.
 */
import {
  closeSync,
  fsyncSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { errnoOf, Git2dbError, messageOf } from '../xet/errors.ts';
import type { BackendName, MountOptions } from './mount-options.ts';
import { findMount, readMountTable } from './mount-table.ts';
import {
  identifyProcess,
  namespacesOf,
  ownNamespaces,
  type ProcessIdentity,
  readBootId,
} from './process-identity.ts';
import { randomName } from './random-name.ts';
import { decodeRecord, encodeRecord } from './record-format.ts';
import { ensurePrivateDirectory, type RecordPlaces } from './record-places.ts';

export interface MountRecord {
  /** 16 hexadecimal digits; the file is `<id>.json`. */
  readonly id: string;
  /** As asked for, complete enough to mount again. */
  readonly options: MountOptions;
  /** What serves the files. */
  readonly backend: BackendName;
  /**
   * `detached`: unmounted lazily, while `users` still had files open. `lost`: cleared away after a crash,
   * and still to be mounted again.
   */
  readonly phase: 'mounting' | 'mounted' | 'detached' | 'lost';
  readonly bootId: string;
  /** Inode numbers of the namespaces the mount was made in; for `userns`, the mount namespace of the holder. */
  readonly mountNamespace: string;
  readonly pidNamespace: string;
  /** `major:minor` of the mount, as the table of mounts shows it; unknown while `mounting`. */
  readonly device?: string;
  /** Device and inode of the upper directory: the same one under whatever path. */
  readonly upperIdentity?: string;
  /** The server (fuse) or the holder (userns). While `mounting`: whoever mounts. */
  readonly process?: ProcessIdentity;
  /** The processes that keep a `detached` mount alive. */
  readonly users?: readonly ProcessIdentity[];
  /** Milliseconds since 1970. */
  readonly since: number;
}

/** A file that should be a record and is none. */
export interface DamagedRecord {
  readonly file: string;
  readonly message: string;
}

const SUFFIX = '.json';
const TEMPORARY = '.new-';
/** What is written in one go and still there after this was left by a crash. */
const LITTER_AFTER_MS = 60_000;

/** The record of a mount that this process is about to make. */
export function newRecord(options: MountOptions, backend: BackendName): MountRecord {
  const { mount, pid } = ownNamespaces();
  const mounter = identifyProcess(process.pid);
  const upperIdentity = options.upper === undefined ? undefined : directoryIdentity(options.upper);
  return {
    id: randomName(8),
    options,
    backend,
    phase: 'mounting',
    bootId: readBootId(),
    mountNamespace: mount,
    pidNamespace: pid,
    ...(upperIdentity === undefined ? {} : { upperIdentity }),
    ...(mounter === undefined ? {} : { process: mounter }),
    since: Date.now(),
  };
}

/** The record once the mount is there. `server`: pid of the FUSE server or of the userns holder. */
export function mountedRecord({ process: _mounter, ...record }: MountRecord, server?: number): MountRecord {
  const holder = record.backend === 'userns' ? server : undefined;
  const mountNamespace = holder === undefined ? undefined : namespacesOf(holder)?.mount;
  const device = findMount(readMountTable(holder ?? 'self'), record.options.merged)?.device;
  const serving = server === undefined ? undefined : identifyProcess(server);
  return {
    ...record,
    phase: 'mounted',
    ...(mountNamespace === undefined ? {} : { mountNamespace }),
    ...(device === undefined ? {} : { device }),
    ...(serving === undefined ? {} : { process: serving }),
  };
}

/** The record of a mount that was taken out of the tree while `users` still had it open. */
export function detachedRecord(record: MountRecord, users: readonly ProcessIdentity[]): MountRecord {
  return { ...record, phase: 'detached', users };
}

/** `device:inode` of a directory; undefined when it cannot be looked at. */
export function directoryIdentity(path: Buffer): string | undefined {
  try {
    const { dev, ino } = statSync(path, { bigint: true });
    return `${dev}:${ino}`;
  } catch {
    return undefined;
  }
}

/** The file of a record: whoever ends the mount removes it. */
export function recordFile(places: RecordPlaces, id: string): string {
  return join(places.records, id + SUFFIX);
}

/**
 * Writes or replaces a record; it is on stable storage when this returns. One of a mount in the making has
 * to outlive its process only, not the machine, with which the mount would be gone too; with it goes what
 * crashed writers have left.
 */
export function writeRecord(places: RecordPlaces, record: MountRecord): void {
  const isDurable = record.phase !== 'mounting';
  ensurePrivateDirectory(places.records);
  const temporary = join(places.records, `${TEMPORARY}${process.pid}-${record.id}`);
  try {
    writeFileSync(temporary, encodeRecord(record), { mode: 0o600, flag: 'wx', flush: isDurable });
    renameSync(temporary, recordFile(places, record.id));
    if (isDurable) syncDirectory(places.records);
  } catch (error) {
    rmSync(temporary, { force: true });
    throw new Git2dbError(
      'STORE_UNWRITABLE',
      `cannot write the record of a mount in ${places.records}: ${messageOf(error)}`,
      { cause: error },
    );
  }
  if (record.phase === 'mounting') sweepLitter(places);
}

/** Not worth a mount: what stays is told by `repair`. */
function sweepLitter(places: RecordPlaces): void {
  try {
    findLitter(places, { remove: true });
  } catch {}
}

function syncDirectory(directory: string): void {
  const fd = openSync(directory, 'r');
  try {
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
}

/** Harmless when it is gone already. */
export function removeRecord(places: RecordPlaces, id: string): void {
  rmSync(recordFile(places, id), { force: true });
}

/** All records, the older ones first. No directory: no mounts. */
export function readRecords(places: RecordPlaces): { records: MountRecord[]; damaged: DamagedRecord[] } {
  const records: MountRecord[] = [];
  const damaged: DamagedRecord[] = [];
  for (const name of recordNames(places)) {
    const file = join(places.records, name);
    try {
      records.push(decodeRecord(readFileSync(file), name.slice(0, -SUFFIX.length)));
    } catch (error) {
      // Ended between the listing and now.
      if (errnoOf(error) !== 'ENOENT') damaged.push({ file, message: messageOf(error) });
    }
  }
  records.sort((a, b) => a.since - b.since);
  return { records, damaged };
}

function recordNames({ records }: RecordPlaces): string[] {
  try {
    return readdirSync(records).filter((name) => name.endsWith(SUFFIX) && !name.startsWith('.'));
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return [];
    throw new Git2dbError('STORE_UNWRITABLE', `cannot read the records of mounts: ${messageOf(error)}`, {
      cause: error,
    });
  }
}

/** What crashed writers have left; with `remove` it is gone afterwards. */
export function findLitter({ records }: RecordPlaces, { remove = false } = {}): string[] {
  const litter: string[] = [];
  for (const name of readdirOrNone(records)) {
    if (!name.startsWith(TEMPORARY)) continue;
    const file = join(records, name);
    const stat = statSync(file, { throwIfNoEntry: false });
    if (stat === undefined || Date.now() - stat.mtimeMs < LITTER_AFTER_MS) continue;
    litter.push(file);
    if (remove) rmSync(file, { force: true });
  }
  return litter;
}

function readdirOrNone(directory: string): string[] {
  try {
    return readdirSync(directory);
  } catch {
    return [];
  }
}
