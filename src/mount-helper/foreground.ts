/** A mounting command that stays: until its server ends, the mount is gone, or it is told to stop. */
import { setImmediate, setTimeout } from 'node:timers/promises';
import { EXIT_OK } from '../exit-codes.ts';
import type { MountResult } from './mount.ts';
import { removeRecord } from './mount-records.ts';
import { findMount, readMountTable } from './mount-table.ts';
import type { RecordPlaces } from './record-places.ts';

const LOOK_EVERY_MS = 250;

/** Returns the exit status. `stopped` resolves when the command is to end, and its mount with it. */
export async function stayWithMount(
  { merged, ended, pid, record }: MountResult,
  places: RecordPlaces,
  stopped: Promise<void>,
): Promise<number> {
  if (ended !== undefined) {
    // The server is told of signals by whoever started it, and ends its mount itself. One that came before
    // there was a server has reached nobody yet.
    const isEarly = await Promise.race([stopped.then(() => true), setImmediate(false)]);
    if (isEarly) process.kill(pid!, 'SIGTERM');
    return ended;
  }
  const isGone = await Promise.race([untilUnmounted(merged).then(() => true), stopped.then(() => false)]);
  // By umount(8), which knows nothing of the record.
  if (isGone) removeRecord(places, record.id);
  else {
    const { umount } = await import('./umount.ts');
    // Lazily: whoever sent the signal wants this command to end, users of the mount or not.
    await umount(places, merged, { lazy: true });
  }
  return EXIT_OK;
}

/** The kernel's mounts have no process; the table of mounts tells when they end. */
async function untilUnmounted(merged: Buffer): Promise<void> {
  const device = findMount(readMountTable(), merged)?.device;
  for (;;) {
    const entry = readMountTable().find((each) => each.mountPoint.equals(merged) && each.device === device);
    if (entry === undefined) return;
    await setTimeout(LOOK_EVERY_MS);
  }
}
