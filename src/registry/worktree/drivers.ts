/** The drivers there are, and which of them is taken. */
import { Git2dbError } from '../../xet/errors.ts';
import type { GitPlace } from '../git-place.ts';
import {
  BACKEND_CHOICES,
  type BackendChoice,
  type DriverContext,
  type DriverName,
  type DriverProbe,
  type StorageDriver,
  type WorktreeHome,
} from './driver.ts';
import { driverContext } from './driver-context.ts';
import { overlay2 } from './overlay2.ts';
import { reflink } from './reflink.ts';
import { vfs } from './vfs.ts';

/** The order in which `auto` tries them. */
export const storageDrivers = { overlay2, reflink, vfs } as const satisfies Record<DriverName, StorageDriver>;

const IN_ORDER: readonly StorageDriver[] = Object.values(storageDrivers);

/** Throws INVALID_CONFIG for a name that is none. */
export function driverByName(name: DriverName): StorageDriver {
  const driver = IN_ORDER.find((each) => each.name === name);
  if (driver !== undefined) return driver;
  const known = IN_ORDER.map((each) => each.name).join(', ');
  throw new Git2dbError(
    'INVALID_CONFIG',
    `there is no worktree driver ${JSON.stringify(name)}; expected auto, ${known}`,
  );
}

/**
 * Drivers to try, in order. Throws INVALID_CONFIG for words that are none. userns is not among what `auto` takes (mount helper): naming a backend names
 * overlay2 with it.
 */
export function candidates(asked: DriverName | 'auto', backend: BackendChoice): readonly StorageDriver[] {
  if (!BACKEND_CHOICES.includes(backend)) {
    throw new Git2dbError(
      'INVALID_CONFIG',
      `there is no backend ${JSON.stringify(backend)} of overlay2; expected ${BACKEND_CHOICES.join(', ')}`,
    );
  }
  if (asked !== 'auto') return [driverByName(asked)];
  return backend === 'auto' ? IN_ORDER : [overlay2];
}

/** What each driver says of a worktree at `path`, by real trials. */
export async function probeDrivers(
  place: GitPlace,
  home: WorktreeHome,
  path: string,
  backend: BackendChoice = 'auto',
): Promise<ReadonlyMap<DriverName, DriverProbe>> {
  const context: DriverContext = await driverContext(place, home);
  const found = new Map<DriverName, DriverProbe>();
  for (const driver of IN_ORDER) found.set(driver.name, await driver.probe(context, path, backend));
  return found;
}
