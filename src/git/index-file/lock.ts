/**
 * Git's lock on its index: the file `<index>.lock`, made with O_CREAT|O_EXCL, is both the lock and
 * the place where the next index is written; renaming it publishes the one and ends the other.
 */

import { constants } from 'node:fs';
import { type FileHandle, open, rename, rm } from 'node:fs/promises';
import { errnoOf } from '../../xet/errors.ts';

export interface IndexLock {
  /** Time of the index's file system when the lock was made. */
  readonly createdNs: bigint;
  /**
   * Makes `bytes` the index, with the permission bits of `mode` and with `createdNs` as its time:
   * written and synced first, so that the index is the old or the new one after any crash.
   */
  publish(bytes: Buffer, mode: number): Promise<void>;
  /** Gives the lock up and removes its file; does nothing after `publish`. */
  release(): Promise<void>;
}

const PERMISSION_BITS = 0o777;

/** Takes the lock, or returns undefined where another process has it. */
export async function acquireIndexLock(indexPath: string): Promise<IndexLock | undefined> {
  const lockPath = `${indexPath}.lock`;
  const flags = constants.O_RDWR | constants.O_CREAT | constants.O_EXCL;
  const handle = await open(lockPath, flags, 0o666).catch((error: unknown) => {
    if (errnoOf(error) === 'EEXIST') {
      return undefined;
    }
    throw error;
  });
  if (handle === undefined) {
    return undefined;
  }
  let held = true;

  async function release(): Promise<void> {
    if (held) {
      held = false;
      await handle!.close().catch(() => {});
      await rm(lockPath, { force: true });
    }
  }

  try {
    const { mtimeNs } = await handle.stat({ bigint: true });
    return {
      createdNs: mtimeNs,
      async publish(bytes, mode) {
        await writeIndex(handle, bytes, mode, mtimeNs);
        await handle.close();
        await rename(lockPath, indexPath);
        held = false;
      },
      release,
    };
  } catch (error) {
    await release();
    throw error;
  }
}

async function writeIndex(handle: FileHandle, bytes: Buffer, mode: number, timeNs: bigint): Promise<void> {
  await handle.writeFile(bytes);
  // The mode of the old index is what core.sharedRepository and the umask made it.
  if (((await handle.stat()).mode & PERMISSION_BITS) !== (mode & PERMISSION_BITS)) {
    await handle.chmod(mode & PERMISSION_BITS);
  }
  // Cut to milliseconds, which a double holds without being rounded up into the next second.
  const seconds = Number(timeNs / 1_000_000n) / 1000;
  await handle.utimes(seconds, seconds);
  await handle.sync();
}
