/** Which entries of the index may be changed, after a look at the files they stand for. */

import { lstat } from 'node:fs/promises';
import { indexEntries } from './entries.ts';
import { type IndexEntry, MODE_REGULAR, MODE_SYMLINK, MODE_TYPE_MASK } from './entry.ts';
import type { IndexView } from './format.ts';
import { isRacy, mustForget, type RacySeconds, type ReadBudget } from './racy-entries.ts';
import type { EntryChange } from './rewrite.ts';
import type { FileStat } from './stat-data.ts';

/** A file that the caller has written, complete and in its place. */
export interface WrittenFile {
  /** Its path in the index: bytes, from the top of the work tree. */
  readonly path: Buffer;
  /** The blob that the index has for it, in hex: the pointer whose content was written. */
  readonly oid: string;
  /** What lstat (`bigint: true`) said after the last thing the caller did to it, rename included. */
  readonly stat: FileStat;
}

/** How much of the work tree may be read, in all, to tell racy entries that are unmodified. */
const RACY_READ_BYTES = 256 * 1024 * 1024;
const CONCURRENT_CALLS = 32;

/**
 * What has to change in the index `view`: new stat data for the entries of `files` that are as the
 * caller left them, and what the new index must not vouch for. `entries` counts the former; where
 * it is 0 there is nothing to write.
 */
export async function compareWithWorkTree(
  view: IndexView,
  racy: RacySeconds,
  workTree: Buffer | string,
  files: readonly WrittenFile[],
  signal: AbortSignal | undefined,
): Promise<{ changes: EntryChange[]; entries: number }> {
  const root = Buffer.concat([Buffer.from(workTree), Buffer.from('/')]);
  const fileAt = (entry: IndexEntry): Buffer => Buffer.concat([root, entry.path]);
  const wanted = new Map(files.map((file) => [file.path.toString('latin1'), file]));
  const written: { entry: IndexEntry; file: WrittenFile }[] = [];
  const suspects: IndexEntry[] = [];
  for (const entry of indexEntries(view)) {
    const file = wanted.get(entry.path.toString('latin1'));
    if (file !== undefined && isOrdinary(entry) && entry.oid === file.oid) {
      written.push({ entry, file });
    } else if (isRacy(entry.mtimeSeconds, racy)) {
      suspects.push(entry);
    }
  }

  const changes: EntryChange[] = [];
  await forEachConcurrently(written, signal, async ({ entry, file }) => {
    const stat = await lstat(fileAt(entry), { bigint: true }).catch(() => undefined);
    if (stat !== undefined && isSameFile(stat, file.stat)) {
      changes.push({ entry, stat });
    } else if (isRacy(entry.mtimeSeconds, racy)) {
      suspects.push(entry);
    }
  });
  const entries = changes.length;
  if (entries === 0) {
    return { changes, entries };
  }

  const budget: ReadBudget = { bytes: RACY_READ_BYTES };
  await forEachConcurrently(suspects, signal, async (entry) => {
    // Of a gitlink git never trusts the stat data; a sparse directory has none.
    const type = entry.mode & MODE_TYPE_MASK;
    if (type !== MODE_REGULAR && type !== MODE_SYMLINK) {
      return;
    }
    if (await mustForget(entry, fileAt(entry), view.hashSize, budget)) {
      changes.push({ entry, stat: 'forget' });
    }
  });
  return { changes, entries };
}

export function isOrdinary(entry: IndexEntry): boolean {
  return (
    (entry.mode & MODE_TYPE_MASK) === MODE_REGULAR &&
    entry.stage === 0 &&
    !entry.assumeValid &&
    !entry.skipWorktree &&
    !entry.intentToAdd
  );
}

function isSameFile(now: FileStat, then: FileStat): boolean {
  return (
    (Number(now.mode) & MODE_TYPE_MASK) === MODE_REGULAR &&
    now.dev === then.dev &&
    now.ino === then.ino &&
    now.size === then.size &&
    now.mtimeNs === then.mtimeNs &&
    now.ctimeNs === then.ctimeNs
  );
}

async function forEachConcurrently<T>(
  items: readonly T[],
  signal: AbortSignal | undefined,
  visit: (item: T) => Promise<void>,
): Promise<void> {
  const queue = items.values();
  async function work(): Promise<void> {
    for (const item of queue) {
      signal?.throwIfAborted();
      await visit(item);
    }
  }
  await Promise.all(Array.from({ length: Math.min(CONCURRENT_CALLS, items.length) }, work));
}
