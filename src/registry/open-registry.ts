/** From the path of a directory to a registry that can be used. */
import { existsSync, statSync } from 'node:fs';
import { resolve } from 'node:path';
import { errnoOf, Git2dbError, messageOf } from '../xet/errors.ts';
import type { RegistryConfig } from './config.ts';
import { listJournals } from './journal.ts';
import { emptyMetadata } from './metadata.ts';
import { type LoadedMetadata, loadMetadata, replaceMetadata } from './metadata-file.ts';
import { realRoot } from './register.ts';
import { type RegistryLayout, registryLayout } from './registry-layout.ts';
import { RegistryLock } from './registry-lock.ts';
import { settleRoot } from './registry-root.ts';
import {
  hasLostMetadata,
  type LockedRegistry,
  makeRegistryDirectories,
  missing,
  RegistryStore,
} from './registry-store.ts';

export interface OpenStoreOptions {
  readonly config: RegistryConfig;
  readonly env: NodeJS.ProcessEnv;
  readonly signal: AbortSignal | undefined;
  readonly readOnly: boolean;
  /** What was read of the metadata a moment ago. */
  readonly loaded?: LoadedMetadata | undefined;
}

/** For `openStore`, before all that it takes is known; what is wrong with the file is told there. */
export function loadEarly(layout: RegistryLayout): LoadedMetadata | undefined {
  try {
    return loadMetadata(layout);
  } catch {
    return undefined;
  }
}

/** The metadata, made if there are none, of the newest version, at home where they are, with nothing unfinished. */
export async function openStore(
  layout: RegistryLayout,
  { config, env, signal, readOnly, loaded }: OpenStoreOptions,
): Promise<{ readonly store: RegistryStore; readonly notices: readonly string[] }> {
  const store = new RegistryStore(layout, {
    lockTimeoutMs: config.lockTimeoutMs,
    readOnly: readOnly ? openedReadOnly(layout) : undefined,
    loaded,
  });
  if (!existsSync(layout.metadata)) await create(layout, config, readOnly, signal);
  const notices = await settleRoot(store, { env, signal });
  if (store.readOnly !== undefined) return { store, notices };
  const isLeft = (await listJournals(layout)).some(
    ({ owner, fault }) => owner === 'dead' && fault === undefined,
  );
  // Taking the lock ends what was left; an older file is written anew, for its ids to stay what they are.
  if (store.isOld || isLeft) await store.locked((locked) => upgrade(store, locked), { signal });
  return { store, notices };
}

/** Throws USAGE, REGISTRY_INVALID, STORE_UNWRITABLE. */
export function findLayout(directory: string, mustExist: boolean): RegistryLayout {
  if (typeof directory !== 'string' || directory === '' || directory.includes('\0')) {
    throw new Git2dbError(
      'USAGE',
      `expected the path of a registry's directory, found ${JSON.stringify(directory)}`,
    );
  }
  const path = resolve(directory);
  try {
    if (!mustExist) makeRegistryDirectories(registryLayout(path));
    if (!statSync(path).isDirectory()) throw new Error('it is no directory');
    return registryLayout(realRoot(path));
  } catch (error) {
    const errno = errnoOf(error);
    const isMissing = errno === 'ENOENT';
    throw new Git2dbError(
      isMissing ? 'REGISTRY_INVALID' : 'STORE_UNWRITABLE',
      isMissing
        ? `expected a registry in ${path}, found no such directory: \`git2db init\` makes one`
        : `cannot open the registry ${path}: ${messageOf(error)}`,
      { cause: error, data: { path } },
    );
  }
}

async function create(
  layout: RegistryLayout,
  config: RegistryConfig,
  readOnly: boolean,
  signal: AbortSignal | undefined,
): Promise<void> {
  if (readOnly || hasLostMetadata(layout)) throw missing(layout);
  using _lock = await RegistryLock.acquire(layout.lock, { timeoutMs: config.lockTimeoutMs, signal });
  if (!existsSync(layout.metadata)) replaceMetadata(layout, emptyMetadata(layout.root));
}

function upgrade(store: RegistryStore, locked: LockedRegistry): void {
  // Somebody else may have been faster.
  if (store.isOld) locked.commit({ repositories: locked.snapshot.metadata.repositories });
}

function openedReadOnly(layout: RegistryLayout): Git2dbError {
  return new Git2dbError(
    'REFUSED',
    `the registry ${layout.root} was opened read-only: open it without that to change it`,
    {
      data: { root: layout.root },
    },
  );
}
