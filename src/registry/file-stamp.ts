/**
 * Whether files are still those that something was computed from, by their stat data. Git replaces its
 * files by rename, which gives another inode; a file written in place is caught by times and size. A file
 * that is not there is a state like any other.
 */
import { statSync } from 'node:fs';

/**
 * File systems stamp times by the clock tick, so a second change within the tick of the first leaves no
 * trace. What was computed this soon after a change is therefore not to be kept.
 */
const RACY_NS = 50_000_000n;

export interface FileStamps {
  readonly paths: readonly string[];
  readonly stamps: readonly string[];
  /** A file changed so shortly before that a later change may look the same. */
  readonly racy: boolean;
}

/** Take it *before* reading the files: a change in between then shows. */
export function stampFiles(paths: readonly string[]): FileStamps {
  const now = BigInt(Date.now()) * 1_000_000n;
  let racy = false;
  const stamps = paths.map((path) => {
    const stat = statSync(path, { bigint: true, throwIfNoEntry: false });
    if (stat === undefined) return '-';
    const newest = stat.mtimeNs > stat.ctimeNs ? stat.mtimeNs : stat.ctimeNs;
    if (newest > now - RACY_NS) racy = true;
    return `${stat.dev}:${stat.ino}:${stat.size}:${stat.mtimeNs}:${stat.ctimeNs}`;
  });
  return { paths, stamps, racy };
}

/** Whether every file is as it was, and none was too young to tell. */
export function isFresh(taken: FileStamps): boolean {
  if (taken.racy) return false;
  const now = stampFiles(taken.paths);
  return now.stamps.every((stamp, i) => stamp === taken.stamps[i]);
}
