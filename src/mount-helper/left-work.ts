/** What a server leaves in the work directory that was ended before it could tidy up. */
import { existsSync } from 'node:fs';
import { Git2dbError } from '../xet/errors.ts';
import type { MountOptions } from './mount-options.ts';
import { holdUpper } from './overlay/upper-hold.ts';
import { openWorkDirectory, WORK_DIRECTORY_NAME } from './overlay/work-directory.ts';
import { joinPath } from './path.ts';

/** Clears our part of the work directory, unless another mount has the upper by now, which clears it itself. */
export function clearLeftWork({ upper, work, readOnly }: MountOptions): void {
  if (upper === undefined || work === undefined || readOnly) return;
  if (!existsSync(joinPath(work, WORK_DIRECTORY_NAME))) return;
  try {
    const hold = holdUpper(upper, work, () => {
      throw new Git2dbError('INVALID_STAMP', 'an upper that was mounted has a stamp');
    });
    try {
      openWorkDirectory(work).close();
    } finally {
      hold.release();
    }
  } catch {
    // It takes little space, and the next mount of this upper begins by clearing it.
  }
}
