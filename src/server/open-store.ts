/** The store that a server is to serve: a directory of this machine, or a bucket. */
import { statSync } from 'node:fs';
import { httpSettingsFrom } from '../xet/cas/http-settings.ts';
import { Git2dbError } from '../xet/errors.ts';
import { openS3 } from '../xet/objects/s3.ts';
import { DirectoryStore } from '../xet/store/directory-store.ts';
import { StoreOverObjects } from '../xet/store/object-store.ts';
import type { ServableStore } from '../xet/store/store.ts';

export interface ServedStore {
  readonly store: ServableStore;
  /** Undefined for a bucket. */
  readonly directory: string | undefined;
}

/** `place`: an absolute path, or `s3://bucket/prefix?...`. `warn`: told of trouble, one line each. */
export async function openServedStore(
  place: string,
  options: {
    readonly warn: (line: string) => void;
    readonly signal?: AbortSignal | undefined;
    /** Says the way to a bucket: proxies, authorities to trust. */
    readonly env?: NodeJS.ProcessEnv | undefined;
  },
): Promise<ServedStore> {
  const { warn, signal, env = {} } = options;
  if (!place.startsWith('s3:') && statSync(place, { throwIfNoEntry: false })?.isDirectory() === false) {
    throw new Git2dbError(
      'INVALID_CONFIG',
      `the store ${place} is a file: expected a directory, or none yet`,
    );
  }
  if (!place.startsWith('s3:')) return { store: DirectoryStore.open(place, { warn }), directory: place };
  const objects = await openS3(place, { http: httpSettingsFrom(env) });
  return {
    store: await StoreOverObjects.open(objects, { warn, ...(signal === undefined ? {} : { signal }) }),
    directory: undefined,
  };
}
