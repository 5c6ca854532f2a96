/**
 * Checking out a tree into any directory, by git: filters, line ends, encodings and attributes are those
 * of the tree and the settings in force, never those of files that happen to lie in a work tree.
 */
import { availableParallelism } from 'node:os';
import type { GitPlace, PlaceRun } from '../git-place.ts';
import type { ConfigPair } from '../trust.ts';
import type { Settings } from './settings.ts';

interface TreeRead {
  readonly workTree: string;
  readonly index: string;
  /** Undefined: the repository itself. */
  readonly gitDir?: string | undefined;
  readonly tree: string;
  readonly signal?: AbortSignal | undefined;
}

export interface Checkout extends TreeRead {
  readonly settings: Settings;
  /** What the index says of size and mtime is enough: the files are seen through a mount. */
  readonly minimalStat?: boolean | undefined;
}

/** Nothing but the files: no hook, no monitor, all in one index file, and all of the tree. */
const PLAIN: readonly ConfigPair[] = [
  ['core.hooksPath', '/dev/null'],
  ['core.fsmonitor', 'false'],
  ['core.untrackedCache', 'false'],
  ['core.splitIndex', 'false'],
  ['core.sparseCheckout', 'false'],
  ['index.sparse', 'false'],
  ['submodule.recurse', 'false'],
  ['advice.detachedHead', 'false'],
];
const MINIMAL_STAT: readonly ConfigPair[] = [
  ['core.checkStat', 'minimal'],
  ['core.trustctime', 'false'],
];

/** More would only wait for the same disk. */
const WORKERS_MAX = 8;

/** Git, run on another work tree and index than the place's own. */
export function elsewhere(
  place: GitPlace,
  { workTree, index, gitDir, signal }: Omit<TreeRead, 'tree'>,
  config: readonly ConfigPair[] = PLAIN,
): PlaceRun {
  return {
    config,
    env: { GIT_DIR: gitDir ?? place.commonDir, GIT_WORK_TREE: workTree, GIT_INDEX_FILE: index },
    signal,
  };
}

/**
 * Makes `workTree` hold `tree`. What `index` says is there, and is, is left alone. A filter that is
 * required and fails makes this fail.
 */
export async function checkOut(place: GitPlace, checkout: Checkout): Promise<void> {
  const config = [...PLAIN, ...workers(checkout.settings)];
  if (checkout.minimalStat === true) config.push(...MINIMAL_STAT);
  await place.git(
    ['read-tree', '--reset', '-u', '--no-recurse-submodules', '--end-of-options', checkout.tree],
    elsewhere(place, checkout, config),
  );
}

/** Git writes the files one after the other unless it is told otherwise. What the user says of that counts. */
function workers(settings: Settings): readonly ConfigPair[] {
  if (settings.get('checkout.workers') !== undefined) return [];
  return [['checkout.workers', String(Math.min(WORKERS_MAX, availableParallelism()))]];
}

/** Only the index: no file is looked at. */
export async function readTreeIntoIndex(place: GitPlace, checkout: TreeRead): Promise<void> {
  await place.git(['read-tree', '--end-of-options', checkout.tree], elsewhere(place, checkout));
}
