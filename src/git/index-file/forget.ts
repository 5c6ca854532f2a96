/** Taking back what an index knows of files: before they become others behind git's back. */

import { indexEntries } from './entries.ts';
import type { HashSize, IndexEntry } from './entry.ts';
import { acquireIndexLock } from './lock.ts';
import { isRacy, racySeconds } from './racy-entries.ts';
import { freshenSharedIndex, loadIndex } from './read.ts';
import { type EntryChange, rewriteIndex } from './rewrite.ts';

/**
 * Makes git compare the contents of the files that `isConcerned` names, at its next look; a size that differs
 * from what the index says would be a modification to it, without a look. False: another process holds the
 * lock of the index, and nothing was written.
 */
export async function forgetEntries(
  indexPath: string,
  hashSize: HashSize,
  isConcerned: (entry: IndexEntry) => boolean,
): Promise<boolean> {
  const lock = await acquireIndexLock(indexPath);
  if (lock === undefined) return false;
  try {
    const index = await loadIndex(indexPath, hashSize);
    if (index === undefined) return true;
    const racy = racySeconds(index.stat.mtimeNs, lock.createdNs);
    const changes: EntryChange[] = [];
    let concerned = 0;
    for (const entry of indexEntries(index.view)) {
      const isNamed = entry.size !== 0 && isConcerned(entry);
      if (isNamed) concerned++;
      // A later time of the index would vouch for what was written in the second of the one before.
      if (isNamed || isRacy(entry.mtimeSeconds, racy)) changes.push({ entry, stat: 'forget' });
    }
    if (concerned === 0) return true;
    await lock.publish(rewriteIndex(index.view, changes, racy), Number(index.stat.mode));
    await freshenSharedIndex(indexPath, index.view);
    return true;
  } finally {
    await lock.release();
  }
}
