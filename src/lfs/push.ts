/**
 * Sends the contents of LFS pointers where a git remote has its LFS content: an LFS server, by whole contents or by
 * chunks as it prefers, or the store of a repository in a directory.
 */
import { Git2dbError } from '../xet/errors.ts';
import { shownUrl } from '../xet/remote/address.ts';
import { LocalStore } from '../xet/store/local-store.ts';
import type { Store } from '../xet/store/store.ts';
import { pushFiles } from '../xet/transfer/push.ts';
import { uploadBasic, verifyUpload } from './basic.ts';
import { BATCH_SIZE, type BatchAnswer, type BatchObject } from './batch.ts';
import { askBatch, errorOf, failed, inParallel } from './client.ts';
import { connect, type LfsConnection, locate } from './connection.ts';
import { LocalContent } from './local-content.ts';
import type { LfsObject, LfsOutcome, LfsPlace, LfsTransferOptions } from './objects.ts';
import { uploadXet } from './xet-transfer.ts';

export interface PushLfsOptions extends LfsTransferOptions {
  /** Name or URL of the git remote. */
  readonly remote: string;
  /** The URL that git pushes to, where the caller knows it. */
  readonly url?: string | undefined;
  /** Full name of the ref that is pushed. */
  readonly ref?: string | undefined;
  /** The store of a remote that is a directory: there is no LFS server then. The caller closes it. */
  readonly store?: Store | undefined;
}

/**
 * Each object ends as `present` (the server had it), `moved` or `failed`: one that neither this machine nor the
 * server has fails by itself. Where nothing can be asked, all fail by that. Throws an AbortError.
 */
export async function pushLfs(
  place: LfsPlace,
  objects: readonly LfsObject[],
  options: PushLfsOptions,
): Promise<LfsOutcome[]> {
  return new Push(place, options).run(objects);
}

class Push {
  readonly #place: LfsPlace;
  readonly #options: PushLfsOptions;
  readonly #outcomes = new Map<string, LfsOutcome>();

  constructor(place: LfsPlace, options: PushLfsOptions) {
    this.#place = place;
    this.#options = options;
  }

  async run(objects: readonly LfsObject[]): Promise<LfsOutcome[]> {
    const wanted = [...new Map(objects.map((object) => [object.sha256, object])).values()];
    for (const object of wanted) if (object.size === 0) this.#settle({ ...object, outcome: 'present' });
    const left = wanted.filter(({ size }) => size > 0);
    try {
      if (left.length > 0) await this.#send(left);
    } catch (error) {
      for (const object of left) {
        if (!this.#outcomes.has(object.sha256)) this.#settle(failed({ ...object, outcome: 'failed' }, error));
      }
    }
    return objects.map(({ sha256 }) => this.#outcomes.get(sha256) as LfsOutcome);
  }

  #settle(outcome: LfsOutcome): void {
    this.#outcomes.set(outcome.sha256, outcome);
    this.#options.onFile?.(outcome);
  }

  async #send(objects: readonly LfsObject[]): Promise<void> {
    const { remote, url, signal, store } = this.#options;
    const wanted = { operation: 'upload', remote, url, signal } as const;
    const found = await locate(this.#place, wanted);
    if (found.endpoint.kind === 'local') {
      if (store === undefined) {
        throw new Git2dbError(
          'REMOTE_MISSING',
          `${shownUrl(found.endpoint.url)} is a directory without a store that LFS content could go to`,
        );
      }
      await this.#toStore(store, objects);
      return;
    }
    const connection = await connect(this.#place, found, wanted);
    try {
      for (let at = 0; at < objects.length; at += BATCH_SIZE) {
        await this.#batch(connection, objects.slice(at, at + BATCH_SIZE));
      }
    } finally {
      await connection.close();
    }
  }

  async #batch(connection: LfsConnection, objects: readonly LfsObject[]): Promise<void> {
    const { ref, signal } = this.#options;
    const question = { operation: 'upload', objects, transfers: ['xet', 'basic'], ref } as const;
    const answer = await askBatch(connection, question, signal);
    const toSend: BatchObject[] = [];
    for (const object of answer.objects) {
      const { sha256, size } = object;
      if (object.error !== undefined) this.#settle(failed(object, errorOf(connection, object)));
      else if (object.upload === undefined) this.#settle({ sha256, size, outcome: 'present' });
      else toSend.push(object);
    }
    if (toSend.length > 0) await this.#upload(connection, answer.transfer, toSend);
  }

  async #upload(
    connection: LfsConnection,
    transfer: BatchAnswer['transfer'],
    objects: readonly BatchObject[],
  ): Promise<void> {
    const { signal, onProgress } = this.#options;
    if (transfer === 'xet') {
      await this.#uploadXet(connection, objects);
      return;
    }
    const local = this.#open();
    try {
      await inParallel(objects, connection.transfers, async (object) => {
        const { sha256, size } = object;
        try {
          if (!local.has(object)) throw notHere(object);
          await uploadBasic(connection, object, () => local.read(object), signal);
          await verifyUpload(connection, object, signal);
          onProgress?.(size);
          this.#settle({ sha256, size, outcome: 'moved' });
        } catch (error) {
          this.#settle(failed(object, error));
        }
      });
    } finally {
      await local.close();
    }
  }

  async #uploadXet(connection: LfsConnection, objects: readonly BatchObject[]): Promise<void> {
    const { signal } = this.#options;
    const { taken, storeDir } = await this.#take(objects);
    const store = new LocalStore(storeDir);
    try {
      const outcomes = await uploadXet(this.#place, connection, store, taken, this.#options);
      for (const [i, outcome] of outcomes.entries()) {
        const { object } = taken[i] as (typeof taken)[number];
        try {
          if (outcome.outcome !== 'failed') await verifyUpload(connection, object, signal);
          this.#settle(outcome);
        } catch (error) {
          this.#settle(failed(object, error));
        }
      }
    } finally {
      store.close();
    }
  }

  /** Chunks and file hashes of objects that may be in git-lfs's own store only; published, so that they can be read. */
  async #take<T extends LfsObject>(
    objects: readonly T[],
  ): Promise<{ taken: { object: T; fileHash: Uint8Array }[]; storeDir: string }> {
    const local = this.#open();
    const taken: { object: T; fileHash: Uint8Array }[] = [];
    try {
      for (const object of objects) {
        try {
          if (!(await local.take(object, this.#options.signal))) throw notHere(object);
          taken.push({ object, fileHash: local.fileHash(object) });
        } catch (error) {
          const { sha256, size } = object;
          this.#settle(failed({ sha256, size, outcome: 'failed' }, error));
        }
      }
    } finally {
      await local.close();
    }
    return { taken, storeDir: local.config.storeDir };
  }

  async #toStore(store: Store, objects: readonly LfsObject[]): Promise<void> {
    const { signal } = this.#options;
    const { taken, storeDir } = await this.#take(objects);
    const local = new LocalStore(storeDir);
    try {
      const files = taken.map(({ object: { sha256, size }, fileHash }) => ({ hash: fileHash, size, sha256 }));
      const result = await pushFiles(local, store, files, { withSha256: true, signal });
      for (const [i, { outcome, error }] of result.files.entries()) {
        const { sha256, size } = (taken[i] as (typeof taken)[number]).object;
        this.#settle({ sha256, size, outcome, ...(error === undefined ? {} : { error }) });
      }
    } finally {
      local.close();
    }
  }

  #open(): LocalContent {
    return LocalContent.open(this.#place, this.#options.warn ?? (() => {}));
  }
}

function notHere({ sha256, size }: LfsObject): Git2dbError {
  return new Git2dbError(
    'CONTENT_MISSING',
    `LFS object ${sha256} (${size} bytes) is neither on the server nor on this machine, so the push would leave a pointer ` +
      'to nothing: get it from where it was committed (`git2db xet fetch`, `git lfs fetch --all`)',
    { data: { sha256, size } },
  );
}
