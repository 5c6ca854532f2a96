/**
 * The index of a layer: which file is which blob, and what lstat(2) says of it. Git wrote it at the
 * checkout; here the files get times that are a function of their content, and the index these.
 */
import { lstatSync, lutimesSync, readFileSync, utimesSync, writeFileSync } from 'node:fs';
import { setImmediate as turn } from 'node:timers/promises';
import {
  type HashSize,
  type IndexEntry,
  MODE_REGULAR,
  MODE_SYMLINK,
  MODE_TYPE_MASK,
  ownEntries,
} from '../../git/index-file/entry.ts';
import { checksumOf, type IndexView, readIndex } from '../../git/index-file/format.ts';
import { MTIME_SECONDS_AT, SIZE_AT, writeStatData } from '../../git/index-file/stat-data.ts';
import { errnoOf } from '../../xet/errors.ts';
import { checkAborted } from '../errors.ts';

/** Times of layer files lie in [2001-09-09, 2017-07-14): before any index that is written now. */
const FIRST_TIME = 1_000_000_000;
const TIME_SPAN = 500_000_000;
/** Directories have one time, so that a layer that is made again is the same in this too. */
export const DIRECTORY_TIME = FIRST_TIME;
/** After so many files other work gets its turn. */
const BATCH = 512;

export function hashSizeOf(oid: string): HashSize {
  return oid.length === 64 ? 32 : 20;
}

export function readLayerIndex(file: string, hashSize: HashSize): IndexView {
  return readIndex(readFileSync(file), hashSize);
}

/**
 * The mtime, in seconds, of a file with the blob `oid`: the same content has the same time, in whichever
 * layer, also when it is made again; other content of the same size has another.
 */
export function contentTime(oid: string, fingerprint: string): number {
  const mixed = Number.parseInt(oid.slice(0, 8), 16) ^ Number.parseInt(fingerprint.slice(0, 8), 16);
  return FIRST_TIME + ((mixed >>> 0) % TIME_SPAN);
}

/** Files have stat data; directories of submodules have none that git trusts. */
export function isFileEntry(entry: IndexEntry): boolean {
  const type = entry.mode & MODE_TYPE_MASK;
  return type === MODE_REGULAR || type === MODE_SYMLINK;
}

export interface TimeOptions {
  /** What is not there is in a layer below. */
  readonly partial: boolean;
  /** Paths, as latin1, of pointers whose content is missing. */
  readonly pending?: ReadonlySet<string> | undefined;
  readonly signal: AbortSignal | undefined;
}

function reversed(text: string): string {
  return [...text].reverse().join('');
}

/**
 * Gives the files below `root` their times, and the index their stat data. With `partial` a file that is
 * not there is in a layer below: its entry stays as it is. Returns how many files were there.
 */
export async function settleTimes(
  view: IndexView,
  root: string,
  fingerprint: string,
  { partial, pending, signal }: TimeOptions,
): Promise<number> {
  const top = Buffer.from(`${root}/`);
  const directories = new Set<string>();
  let files = 0;
  let count = 0;
  for (const entry of ownEntries(view)) {
    if (++count % BATCH === 0) {
      checkAborted(signal, 'making a layer');
      await turn();
    }
    noteDirectories(entry.path, directories);
    if (!isFileEntry(entry)) continue;
    const path = Buffer.concat([top, entry.path]);
    // A pointer is another file than the content that comes in its place.
    const isPointer = pending?.has(entry.path.toString('latin1')) === true;
    const time = contentTime(entry.oid, isPointer ? reversed(fingerprint) : fingerprint);
    try {
      if ((entry.mode & MODE_TYPE_MASK) === MODE_SYMLINK) lutimesSync(path, time, time);
      else utimesSync(path, time, time);
    } catch (error) {
      if (partial && (errnoOf(error) === 'ENOENT' || errnoOf(error) === 'ENOTDIR')) continue;
      throw error;
    }
    writeStatData(view.bytes, entry.offset, lstatSync(path, { bigint: true }));
    files++;
  }
  // The deepest first, though no time of a directory changes by that of another.
  for (const directory of [...directories].sort().reverse()) {
    try {
      const path = Buffer.concat([top, Buffer.from(directory, 'latin1')]);
      utimesSync(path, DIRECTORY_TIME, DIRECTORY_TIME);
    } catch (error) {
      if (!partial || (errnoOf(error) !== 'ENOENT' && errnoOf(error) !== 'ENOTDIR')) throw error;
    }
  }
  return files;
}

function noteDirectories(path: Buffer, directories: Set<string>): void {
  for (let end = path.lastIndexOf(0x2f); end > 0; end = path.lastIndexOf(0x2f, end - 1)) {
    const directory = path.toString('latin1', 0, end);
    if (directories.has(directory)) return;
    directories.add(directory);
  }
}

/** Takes back what the index knows of a file: git will look at its content, or write it anew. */
export function forgetStat(view: IndexView, entry: IndexEntry): void {
  view.bytes.writeUInt32BE(0, entry.offset + SIZE_AT);
  view.bytes.writeUInt32BE(0, entry.offset + MTIME_SECONDS_AT);
}

/** The bytes of `view` after changes of stat data, with a checksum that fits. */
export function writeLayerIndex(file: string, view: IndexView): void {
  const end = view.bytes.length - view.hashSize;
  if (view.hasChecksum) checksumOf(view.bytes.subarray(0, end), view.hashSize).copy(view.bytes, end);
  writeFileSync(file, view.bytes);
}

/** What is needed to tell two trees apart, by path (as latin1). */
export interface KnownFile {
  readonly mode: number;
  readonly oid: string;
  readonly size: number;
}

export function knownFiles(view: IndexView): Map<string, KnownFile> {
  const files = new Map<string, KnownFile>();
  for (const entry of ownEntries(view)) {
    files.set(entry.path.toString('latin1'), { mode: entry.mode, oid: entry.oid, size: entry.size });
  }
  return files;
}
