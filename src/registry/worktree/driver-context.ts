/** What the steps of a worktree's life are given, from the place they were asked for in. */
import { Git2dbError } from '../../xet/errors.ts';
import { type GitPlace, openPlace } from '../git-place.ts';
import type { DriverContext, WorktreeHome, WorktreeSpec } from './driver.ts';

/** Worktrees belong to the repository: a place in one of them stands for the whole. */
export async function driverContext(
  place: GitPlace,
  home: WorktreeHome,
  { signal, onProgress }: Pick<WorktreeSpec, 'signal' | 'onProgress'> = {},
): Promise<DriverContext> {
  const isWhole = place.reachable && place.gitDir === place.commonDir;
  const whole = isWhole
    ? place
    : await openPlace(place.commonDir, { trusted: place.trusted, env: place.env });
  return { place: whole, home, signal, onProgress };
}

/** Failures that say that a driver or backend does not do here, and nothing about what was asked for. */
const OF_THE_DRIVER: readonly string[] = [
  'DRIVER_UNAVAILABLE',
  'BACKEND_UNAVAILABLE',
  'KERNEL_TOO_OLD',
  'PATH_UNSUITABLE',
  'MOUNT_FAILED',
  'SERVER_FAILED',
  'FUSE_MISSING',
  'FUSE_FORBIDDEN',
  'FUSERMOUNT_MISSING',
  'ALLOW_OTHER_FORBIDDEN',
  'NATIVE_MODULE_MISSING',
  'UPPER_FOREIGN',
  'MERGED_IN_LAYER',
  'LAYERS_OVERLAP',
];

export function concernsDriverOnly(error: unknown): error is Git2dbError {
  return error instanceof Git2dbError && OF_THE_DRIVER.includes(error.code);
}
