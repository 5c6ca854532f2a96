/** What a server leaves in the work directory that was ended before it could tidy up. */
import { closeSync, constants, existsSync, openSync, readlinkSync } from 'node:fs';
import { Git2dbError } from '../xet/errors.ts';
import type { MountOptions } from './mount-options.ts';
import { directoryIdentity, type MountRecord } from './mount-records.ts';
import { holdUpper } from './overlay/upper-hold.ts';
import { openWorkDirectory, WORK_DIRECTORY_NAME } from './overlay/work-directory.ts';
import { joinPath } from './path.ts';

type LeftMount = Pick<MountRecord, 'upperIdentity'> & {
  readonly options: Pick<MountOptions, 'upper' | 'work' | 'readOnly'>;
};

/**
 * Clears our part of the work directory, unless another mount has the upper by now, which clears it itself.
 * The record may be old, or of another mount namespace, and the directories somebody else's: what is not the
 * upper of then any more, or is reached by a symbolic link, is left alone.
 */
export function clearLeftWork({ options: { upper, work, readOnly }, upperIdentity }: LeftMount): void {
  if (upper === undefined || work === undefined || readOnly) return;
  if (!existsSync(joinPath(work, WORK_DIRECTORY_NAME))) return;
  try {
    const hold = holdUpper(upper, work, () => {
      throw new Git2dbError('INVALID_STAMP', 'an upper that was mounted has a stamp');
    });
    try {
      if (directoryIdentity(upper) === upperIdentity) clearWork(work);
    } finally {
      hold.release();
    }
  } catch {
    // It takes little space, and the next mount of this upper begins by clearing it.
  }
}

/** Paths of a record have no symbolic links: where one leads elsewhere now, it was put there since. */
function clearWork(work: Buffer): void {
  const fd = openSync(work, constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW);
  try {
    const opened = `/proc/self/fd/${fd}`;
    if (readlinkSync(opened, 'buffer').equals(work)) openWorkDirectory(Buffer.from(opened)).close();
  } finally {
    closeSync(fd);
  }
}
