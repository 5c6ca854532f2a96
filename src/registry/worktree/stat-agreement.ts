/**
 * Does a mount show the stat data that a layer's index has? Then git's own checks stay as strict as they
 * are. Where inode numbers or ctimes come out otherwise (layers on another file system), size and mtime
 * have to do, or each `git status` would read everything.
 */
import { lstatSync } from 'node:fs';
import { type IndexEntry, ownEntries } from '../../git/index-file/entry.ts';
import type { IndexView } from '../../git/index-file/format.ts';
import { writeStatData } from '../../git/index-file/stat-data.ts';
import { isFileEntry } from './layer-index.ts';

export type StatAgreement = 'full' | 'minimal' | 'none';

const SAMPLES = 24;

/** `root`: where the tree is seen. */
export function compareStat(view: IndexView, root: string): StatAgreement {
  let agreement: StatAgreement = 'full';
  const step = Math.max(1, Math.floor(view.entryCount / SAMPLES));
  let i = 0;
  for (const entry of ownEntries(view)) {
    if (i++ % step !== 0 || !isFileEntry(entry)) continue;
    const found = compareOne(entry, root);
    if (found === 'none') return 'none';
    if (found === 'minimal') agreement = 'minimal';
  }
  return agreement;
}

function compareOne(entry: IndexEntry, root: string): StatAgreement {
  const path = Buffer.concat([Buffer.from(`${root}/`), entry.path]);
  const stat = lstatSync(path, { bigint: true, throwIfNoEntry: false });
  if (stat === undefined) return 'none';
  const now = Buffer.alloc(40);
  writeStatData(now, 0, stat);
  const noted = entry.bytes.subarray(entry.offset, entry.offset + 40);
  // Seconds of the mtime, and the size.
  const same = (start: number, end: number) => now.subarray(start, end).equals(noted.subarray(start, end));
  if (!same(8, 12) || !same(36, 40)) return 'none';
  // ctime and mtime, ino, uid and gid; git compares no device number.
  return same(0, 16) && same(20, 24) && same(28, 36) ? 'full' : 'minimal';
}
