/** The one storage of a process that wants one for all its parts. */
import { Git2dbError } from './errors.ts';
import type { XetConfig } from './xet-config.ts';
import { XetError } from './xet-error.ts';
import { notInitialized, XetStorage } from './xet-storage.ts';

let shared: { readonly storage: XetStorage; readonly config: XetConfig } | undefined;

/**
 * Sets the storage of this process. Again with the same endpoint and compression is harmless; with others
 * it is an error, as whoever uses the first goes on to. Throws InvalidConfig.
 */
export function initialize(config: XetConfig): XetStorage {
  const storage = XetStorage.open(config);
  if (shared === undefined) {
    shared = { storage, config };
    return storage;
  }
  if (shared.storage.place === storage.place && shared.config.compression === config.compression)
    return shared.storage;
  throw new XetError(
    'InvalidConfig',
    new Git2dbError(
      'INVALID_CONFIG',
      `the storage of this process is ${shared.storage.place} already, and cannot become ${storage.place}: open a storage of its own with XetStorage.open`,
    ),
  );
}

export function isInitialized(): boolean {
  return shared !== undefined;
}

/** What `initialize` has set. Throws StorageNotInitialized. */
export function sharedStorage(): XetStorage {
  if (shared !== undefined) return shared.storage;
  throw notInitialized('no storage is set: call initialize(new XetConfig(directory)) first');
}
