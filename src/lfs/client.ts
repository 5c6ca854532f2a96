/** Questions to an LFS server: which of these objects does it want, or have, and where. */
import { Git2dbError } from '../xet/errors.ts';
import { shownUrl } from '../xet/remote/address.ts';
import {
  type BatchAnswer,
  type BatchObject,
  type BatchQuestion,
  decodeBatch,
  encodeBatch,
  LFS_JSON,
  MAX_BATCH_ANSWER,
} from './batch.ts';
import type { LfsConnection } from './connection.ts';
import type { LfsOutcome } from './objects.ts';

/** One batch of at most 100 objects. Throws what HttpClient throws, and REMOTE_INVALID. */
export async function askBatch(
  connection: LfsConnection,
  question: BatchQuestion,
  signal: AbortSignal | undefined,
): Promise<BatchAnswer> {
  const response = await connection.http.request({
    method: 'POST',
    url: `${connection.url}/objects/batch`,
    headers: { Accept: LFS_JSON, 'Content-Type': LFS_JSON, ...connection.headers },
    body: encodeBatch(question),
    token: connection.identity,
    scope: question.operation === 'upload' ? 'write' : 'read',
    // A question: asking it twice changes nothing.
    idempotent: true,
    accept: [200],
    signal,
  });
  return decodeBatch(await response.json(MAX_BATCH_ANSWER), question);
}

/** What the server says about one object that it will not move. */
export function errorOf(connection: LfsConnection, object: BatchObject): Git2dbError {
  const { code, message } = object.error ?? { code: 404, message: 'the server names no way to it' };
  const said = message.replace(/\p{C}+/gu, ' ').slice(0, 200);
  const text = `LFS object ${object.sha256} (${object.size} bytes), ${shownUrl(connection.url)}: ${said} (${code})`;
  const kind =
    code === 404 || code === 410
      ? 'CONTENT_MISSING'
      : code === 401
        ? 'AUTH_FAILED'
        : code === 403
          ? 'REMOTE_FORBIDDEN'
          : code === 413
            ? 'LIMIT_EXCEEDED'
            : 'REMOTE_INVALID';
  return new Git2dbError(kind, text, { data: { sha256: object.sha256, status: code } });
}

/** An error of one object; whatever ends everything goes on. */
export function failed({ sha256, size }: LfsOutcome | BatchObject, error: unknown): LfsOutcome {
  if (!(error instanceof Git2dbError)) throw error;
  return { sha256, size, outcome: 'failed', error };
}

/** Runs `work` for each item, `most` at once. The first that throws ends it, when those that have begun are done. */
export async function inParallel<T>(
  items: readonly T[],
  most: number,
  work: (item: T) => Promise<void>,
): Promise<void> {
  let next = 0;
  let failure: { readonly error: unknown } | undefined;
  async function worker(): Promise<void> {
    while (failure === undefined && next < items.length) {
      try {
        await work(items[next++] as T);
      } catch (error) {
        failure ??= { error };
      }
    }
  }
  await Promise.all(Array.from({ length: Math.min(most, items.length) }, worker));
  if (failure !== undefined) throw failure.error;
}
