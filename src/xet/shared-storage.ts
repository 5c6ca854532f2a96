/** The one storage of a process that wants one for all its parts. */
import { Git2dbError } from './errors.ts';
import type { XetConfig } from './xet-config.ts';
import { XetError } from './xet-error.ts';
import { notInitialized, XetStorage } from './xet-storage.ts';

let shared: { readonly storage: XetStorage; readonly config: XetConfig } | undefined;

/**
 * Sets the storage of this process. Again with the same endpoint and compression is harmless; with others
 * it is an error, as whoever uses the first goes on to. One that was closed makes room for another. Throws InvalidConfig.
 */
export function initialize(config: XetConfig): XetStorage {
  const storage = XetStorage.open(config);
  if (shared === undefined || shared.storage.isClosed) {
    shared = { storage, config };
    return storage;
  }
  const { storage: first, config: known } = shared;
  // Of two buckets with one name the address tells which service has them.
  const isSame = first.place === storage.place && (isHere(first) || known.endpoint === config.endpoint);
  if (isSame && known.compression === config.compression) return first;
  throw new XetError(
    'InvalidConfig',
    new Git2dbError(
      'INVALID_CONFIG',
      `the storage of this process is ${first.place} already, and cannot become ${storage.place}: open a storage of its own with XetStorage.open`,
    ),
  );
}

/** A directory of this machine, which may be written in several ways. */
function isHere({ place, root }: XetStorage): boolean {
  return place === root;
}

export function isInitialized(): boolean {
  return shared !== undefined && !shared.storage.isClosed;
}

/** What `initialize` has set. Throws StorageNotInitialized. */
export function sharedStorage(): XetStorage {
  if (shared !== undefined && !shared.storage.isClosed) return shared.storage;
  throw notInitialized(
    'no storage is set, or it was closed: call initialize(new XetConfig(directory)) first',
  );
}
