/**
 * Entries that a new index would wrongly vouch for.
 *
 * Git compares times in whole seconds. A file changed twice within a second looks the same after
 * the second change, so git trusts an entry's stat data only where its mtime is older than the
 * index file; the others, called racy, it compares by content. An index written anew has a newer
 * time, and racy entries stop being racy: what was only not yet looked at would now count as
 * unmodified, for ever. Therefore who writes an index must look at its racy entries, and give the
 * modified ones the size 0, which means "compare the contents" in any index.
 */

import { createHash } from 'node:crypto';
import { type BigIntStats, constants } from 'node:fs';
import { type FileHandle, lstat, open, readlink } from 'node:fs/promises';
import { errnoOf } from '../../xet/errors.ts';
import { type HashSize, type IndexEntry, MODE_REGULAR, MODE_SYMLINK, MODE_TYPE_MASK } from './entry.ts';
import { isSizeField, secondsOf } from './stat-data.ts';

/** Whole seconds [from, to): an mtime of these makes an entry racy in the old index and not in the new. */
export interface RacySeconds {
  readonly from: number;
  readonly to: number;
}

/** Bytes still allowed to be read; shared by the checks of one refresh. */
export interface ReadBudget {
  bytes: number;
}

const READ_SIZE = 256 * 1024;

/**
 * The racy seconds between an index of time `oldNs` and one of time `newNs`. Git looks for no racy
 * entries in an index whose time is 0.
 */
export function racySeconds(oldNs: bigint, newNs: bigint): RacySeconds {
  const from = secondsOf(oldNs);
  return { from, to: from === 0 ? 0 : secondsOf(newNs) };
}

export function isRacy(mtimeSeconds: number, racy: RacySeconds): boolean {
  return mtimeSeconds >= racy.from && mtimeSeconds < racy.to;
}

/**
 * Whether a new index must not vouch for this racy entry. False where git finds the difference by
 * itself (the mtime or the size differ, or the file is gone), and where the file, byte for byte, is
 * the entry's blob. True for all else: also for a file that only a clean filter would show to be
 * unmodified, and for one beyond the `budget`; git then compares it as it would have done anyway.
 */
export async function mustForget(
  entry: IndexEntry,
  file: Buffer,
  hashSize: HashSize,
  budget: ReadBudget,
): Promise<boolean> {
  let stat: BigIntStats;
  try {
    stat = await lstat(file, { bigint: true });
    if (secondsOf(stat.mtimeNs) !== entry.mtimeSeconds || !isSizeField(entry.size, stat.size)) {
      return false;
    }
    if (stat.size > budget.bytes) {
      return true;
    }
    budget.bytes -= Number(stat.size);
    return (await blobOid(file, stat, hashSize)) !== entry.oid;
  } catch (error) {
    return errnoOf(error) !== 'ENOENT' && errnoOf(error) !== 'ENOTDIR';
  }
}

/** The object id of the file's own bytes (of a symlink: its target); undefined for what cannot be a blob. */
async function blobOid(file: Buffer, stat: BigIntStats, hashSize: HashSize): Promise<string | undefined> {
  const type = Number(stat.mode) & MODE_TYPE_MASK;
  const hash = createHash(hashSize === 20 ? 'sha1' : 'sha256').update(`blob ${stat.size}\0`);
  if (type === MODE_SYMLINK) {
    return hash.update(await readlink(file, { encoding: 'buffer' })).digest('hex');
  }
  if (type !== MODE_REGULAR) {
    return undefined;
  }
  const handle = await open(file, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
  try {
    for await (const piece of pieces(handle, Number(stat.size))) {
      hash.update(piece);
    }
    return hash.digest('hex');
  } finally {
    await handle.close();
  }
}

async function* pieces(handle: FileHandle, size: number): AsyncGenerator<Buffer> {
  const buffer = Buffer.allocUnsafe(Math.min(size, READ_SIZE));
  for (let position = 0; position < size; ) {
    const { bytesRead } = await handle.read(buffer, 0, Math.min(buffer.length, size - position), position);
    if (bytesRead === 0) {
      return;
    }
    position += bytesRead;
    yield buffer.subarray(0, bytesRead);
  }
}
