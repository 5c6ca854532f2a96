/** Which LFS objects a push would send: those that the LFS server wants, or that the store of a directory lacks. */
import { BATCH_SIZE } from '../lfs/batch.ts';
import { askBatch, errorOf, failed } from '../lfs/client.ts';
import { connect, locate } from '../lfs/connection.ts';
import type { LfsObject, LfsPlace } from '../lfs/objects.ts';
import type { Git2dbError } from '../xet/errors.ts';
import type { Store } from '../xet/store/store.ts';

export interface WantedLfs {
  readonly outcome: 'present' | 'missing' | 'failed';
  /** Why nothing can be said of it. */
  readonly error?: Git2dbError | undefined;
}

/**
 * In the order of `objects`. The batch API is asked what a push would ask it; nothing is sent. `store`: of a remote
 * that is a directory, which has no LFS server. Throws an AbortError.
 */
export async function missingLfs(
  place: LfsPlace,
  objects: readonly LfsObject[],
  {
    remote,
    url,
    store,
    signal,
  }: {
    readonly remote: string;
    readonly url: string;
    readonly store: Store | undefined;
    readonly signal?: AbortSignal | undefined;
  },
): Promise<WantedLfs[]> {
  try {
    if (store !== undefined) {
      const found = await store.findSha256s(
        objects.map(({ sha256 }) => sha256),
        { signal },
      );
      return found.map((hash) => ({ outcome: hash === undefined ? 'missing' : 'present' }));
    }
    return await askServer(place, objects, { remote, url, signal });
  } catch (error) {
    // Of none of them can anything be said.
    return objects.map((object) => {
      const { error: reason } = failed({ ...object, outcome: 'failed' }, error);
      return { outcome: 'failed', error: reason };
    });
  }
}

async function askServer(
  place: LfsPlace,
  objects: readonly LfsObject[],
  to: { readonly remote: string; readonly url: string; readonly signal?: AbortSignal | undefined },
): Promise<WantedLfs[]> {
  const wanted = { operation: 'upload', ...to } as const;
  const found = await locate(place, wanted);
  // Without a store there is nothing in a directory.
  if (found.endpoint.kind === 'local') return objects.map(() => ({ outcome: 'missing' }));
  const connection = await connect(place, found, wanted);
  const answers: WantedLfs[] = [];
  try {
    for (let at = 0; at < objects.length; at += BATCH_SIZE) {
      const question = {
        operation: 'upload',
        objects: objects.slice(at, at + BATCH_SIZE),
        transfers: ['xet', 'basic'],
        ref: undefined,
      } as const;
      const answer = await askBatch(connection, question, to.signal);
      for (const object of answer.objects) {
        if (object.error !== undefined)
          answers.push({ outcome: 'failed', error: errorOf(connection, object) });
        else answers.push({ outcome: object.upload === undefined ? 'present' : 'missing' });
      }
    }
  } finally {
    await connection.close();
  }
  return answers;
}
