/**
 * Room for a removal where there is none left. Removing is what makes space, and has to write a little
 * before: locks, the record's next step, the metadata. So a home keeps a file that is given up for that.
 *
 *     <home.worktrees>/.spare    up to SPARE_BYTES of nothing; may be deleted at any time
 */
import { randomBytes } from 'node:crypto';
import { existsSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { freeBytes, isOutOfSpace } from '../../large-files/disk-space.ts';
import { makeDirectories } from '../../make-directories.ts';
import { Git2dbError } from '../../xet/errors.ts';
import { diskUsage } from './disk-usage.ts';
import type { WorktreeHome } from './driver.ts';

type Home = Pick<WorktreeHome, 'worktrees'>;

const SPARE_BYTES = 256 * 1024;
/** With less than this left nothing is put by: others need it more. */
const PLENTY_BYTES = 4 * SPARE_BYTES;
/** What a removal can do with, at a pinch. */
const LEAST_BYTES = SPARE_BYTES / 4;

function spareFile({ worktrees }: Home): string {
  return join(worktrees, '.spare');
}

/** What is put by, in bytes on disk. */
export function spareBytes(home: Home): Promise<number> {
  return diskUsage(spareFile(home));
}

/** Puts the file by if it is missing; that it cannot be done is no failure. */
export function keepSpareSpace(home: Home): void {
  if (!existsSync(spareFile(home))) putBy(home, PLENTY_BYTES);
}

/** As much as there is, if `least` bytes are left. */
function putBy(home: Home, least: number): void {
  const file = spareFile(home);
  const fresh = `${file}.${randomBytes(6).toString('hex')}`;
  try {
    makeDirectories(home.worktrees, 0o700);
    const free = freeBytes(home.worktrees) ?? 0;
    if (free < least) return;
    // Zeros would take no space where the file system compresses.
    writeFileSync(fresh, randomBytes(Math.min(SPARE_BYTES, free)), { mode: 0o600, flag: 'wx' });
    renameSync(fresh, file);
  } catch {
    rmSync(fresh, { force: true });
  }
}

/**
 * Runs `removal`, which may be run again after it failed. Where the disk is full, or a quota used up, the
 * spare space is given to it, and put by again afterwards.
 */
export async function withSpareSpace<T>(home: Home, removal: () => Promise<T>): Promise<T> {
  let isGiven = (freeBytes(home.worktrees) ?? Number.POSITIVE_INFINITY) < SPARE_BYTES && giveSpare(home);
  try {
    return await removal();
  } catch (error) {
    if (isGiven || !isForLackOfSpace(error)) throw error;
    isGiven = giveSpare(home);
    if (!isGiven) throw error;
    return await removal();
  } finally {
    if (isGiven) putBy(home, LEAST_BYTES);
  }
}

function giveSpare(home: Home): boolean {
  try {
    rmSync(spareFile(home));
    return true;
  } catch {
    return false;
  }
}

function isForLackOfSpace(error: unknown): boolean {
  if (error instanceof Git2dbError && error.code === 'DISK_FULL') return true;
  return isOutOfSpace(error) || (error instanceof Error && isForLackOfSpace(error.cause));
}
