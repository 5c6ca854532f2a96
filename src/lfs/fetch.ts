/**
 * Brings the contents of LFS pointers into the chunk store: from what is on this machine already, from the store
 * that belongs to the remote, from the Hub's chunks, else from the remote's LFS server.
 */
import { createHash } from 'node:crypto';
import { findPathsOf } from '../git/refs.ts';
import { Git2dbError } from '../xet/errors.ts';
import { formatHash, parseHash } from '../xet/hash/xet-hash.ts';
import { formatLfsPointer } from '../xet/pointer/lfs-pointer.ts';
import { shownUrl } from '../xet/remote/address.ts';
import { LocalStore } from '../xet/store/local-store.ts';
import type { Store } from '../xet/store/store.ts';
import { fetchFiles } from '../xet/transfer/fetch.ts';
import { downloadBasic } from './basic.ts';
import { BATCH_SIZE, type BatchObject } from './batch.ts';
import { askBatch, errorOf, failed, inParallel } from './client.ts';
import { connect, type FoundEndpoint, type LfsConnection, locate } from './connection.ts';
import { hubOf, openHubCas, resolveObjects } from './hub.ts';
import type { HubRepository } from './hub-host.ts';
import { LocalContent } from './local-content.ts';
import type { LfsObject, LfsOutcome, LfsPlace, LfsTransferOptions } from './objects.ts';
import { MemorySink, PartFile } from './part-file.ts';

export interface FetchLfsOptions extends LfsTransferOptions {
  /** Name of the git remote; by default the current branch's, else origin, else the only one. */
  readonly remote?: string | undefined;
  /** A store that may have the contents, asked before the LFS server. The caller closes it. */
  readonly store?: Store | undefined;
}

/** Objects up to this size are kept in memory until they are complete. */
const IN_MEMORY = 1 << 20;

/** Objects fetched by their file hash before the first of them is told of. */
const GROUP_OBJECTS = 1024;
const GROUP_BYTES = 256 << 20;

/** An object, and the file hash that somebody says it has. */
interface NamedObject {
  readonly object: LfsObject;
  readonly hash: string;
}

/**
 * Each object ends as `present` (it was on this machine), `moved` or `failed`: then every process finds it by
 * LocalStore.findSha256. Where nothing can be asked, all that are left fail by that. Throws an AbortError, and
 * STORE_UNWRITABLE or DISK_FULL.
 */
export async function fetchLfs(
  place: LfsPlace,
  objects: readonly LfsObject[],
  options: FetchLfsOptions = {},
): Promise<LfsOutcome[]> {
  const local = LocalContent.open(place, options.warn ?? (() => {}));
  try {
    return await new Fetch(place, local, options).run(objects);
  } finally {
    await local.close();
  }
}

class Fetch {
  readonly #place: LfsPlace;
  readonly #local: LocalContent;
  readonly #options: FetchLfsOptions;
  readonly #outcomes = new Map<string, LfsOutcome>();
  /** Why one place could not be used, before the next was asked. */
  readonly #troubles: string[] = [];

  constructor(place: LfsPlace, local: LocalContent, options: FetchLfsOptions) {
    this.#place = place;
    this.#local = local;
    this.#options = options;
  }

  async run(objects: readonly LfsObject[]): Promise<LfsOutcome[]> {
    const wanted = [...new Map(objects.map((object) => [object.sha256, object])).values()];
    for (const object of wanted) {
      this.#options.signal?.throwIfAborted();
      if (await this.#isHere(object)) this.#settle({ ...object, outcome: 'present' });
    }
    const { store } = this.#options;
    if (store !== undefined && this.#left(wanted).length > 0) {
      await this.#attempt(() => this.#fromStore(store, this.#left(wanted)));
    }
    if (this.#left(wanted).length > 0) await this.#fromServer(this.#left(wanted));
    return objects.map(({ sha256 }) => this.#outcomes.get(sha256) as LfsOutcome);
  }

  /** Damage here is no reason not to fetch it anew. */
  async #isHere(object: LfsObject): Promise<boolean> {
    try {
      return await this.#local.take(object, this.#options.signal);
    } catch (error) {
      const code = error instanceof Git2dbError ? error.code : undefined;
      if (code !== 'CONTENT_DAMAGED' && code !== 'CONTENT_MISSING') throw error;
      this.#options.warn?.(`LFS object ${object.sha256}: ${(error as Error).message}`);
      return false;
    }
  }

  #left(objects: readonly LfsObject[]): LfsObject[] {
    return objects.filter(({ sha256 }) => !this.#outcomes.has(sha256));
  }

  #settle(outcome: LfsOutcome): void {
    this.#outcomes.set(outcome.sha256, outcome);
    this.#options.onFile?.(outcome);
  }

  /** A way that may fail, as there is another. */
  async #attempt(way: () => Promise<void>): Promise<void> {
    try {
      await way();
    } catch (error) {
      if (!(error instanceof Git2dbError) || error.code === 'STORE_UNWRITABLE' || error.code === 'DISK_FULL')
        throw error;
      this.#troubles.push(error.message);
      this.#options.warn?.(error.message);
    }
  }

  async #fromStore(store: Store, objects: readonly LfsObject[]): Promise<void> {
    const found = await store.findSha256s(
      objects.map(({ sha256 }) => sha256),
      { signal: this.#options.signal },
    );
    const hashes = new Map<string, string>();
    for (const [i, { sha256 }] of objects.entries()) {
      const hash = found[i];
      if (hash !== undefined) hashes.set(sha256, formatHash(hash));
    }
    await this.#byFileHash(store, objects, hashes);
  }

  /** Fetches files; their SHA-256, which somebody said they have, is looked at before it is written down. */
  async #byFileHash(
    store: Store,
    objects: readonly LfsObject[],
    hashes: ReadonlyMap<string, string>,
  ): Promise<void> {
    const named = objects.flatMap((object) => {
      const hash = hashes.get(object.sha256);
      return hash === undefined ? [] : [{ object, hash }];
    });
    if (named.length === 0) return;
    for (const group of groupsOf(named)) await this.#fetchGroup(store, group);
  }

  /** What was fetched is told of when it is sealed: a record of it can be written only then. */
  async #fetchGroup(store: Store, group: readonly NamedObject[]): Promise<void> {
    const { signal, warn } = this.#options;
    const { storeDir, fsync } = this.#local.config;
    const target = new LocalStore(storeDir);
    let told = 0;
    try {
      const wanted = group.map(({ object, hash }) => ({ hash: parseHash(hash), size: object.size }));
      const { files } = await fetchFiles(target, store, wanted, {
        signal,
        writer: { fsync, ...(warn === undefined ? {} : { warn }) },
        onProgress: (event) => {
          if (event.kind !== 'bytes') return;
          this.#options.onProgress?.(event.bytes - told);
          told = event.bytes;
        },
      });
      for (const [i, { outcome, error }] of files.entries()) {
        const { object, hash } = group[i] as NamedObject;
        if (outcome === 'failed') this.#troubles.push(error?.message ?? 'it was not sent');
        else await this.#confirm(object, hash);
      }
    } finally {
      target.close();
    }
  }

  async #confirm(object: LfsObject, hash: string): Promise<void> {
    await this.#attempt(async () => {
      await this.#local.confirm(object, hash);
      this.#settle({ ...object, outcome: 'moved' });
    });
  }

  async #fromServer(objects: readonly LfsObject[]): Promise<void> {
    let found: FoundEndpoint | undefined;
    let connection: LfsConnection | undefined;
    try {
      const wanted = {
        operation: 'download',
        remote: this.#options.remote,
        signal: this.#options.signal,
      } as const;
      found = await locate(this.#place, wanted);
      if (found.endpoint.kind === 'local') throw nothingThere(found.endpoint.url);
      connection = await connect(this.#place, found, wanted);
      const hub = hubOf(connection, this.#place.env);
      if (hub !== undefined) await this.#fromHub(connection, hub, objects);
      await this.#basic(connection, this.#left(objects));
    } catch (error) {
      if (!(error instanceof Git2dbError) || error.code === 'STORE_UNWRITABLE' || error.code === 'DISK_FULL')
        throw error;
      for (const object of this.#left(objects)) this.#fail(object, error);
    } finally {
      await connection?.close();
    }
  }

  #fail(object: LfsObject, error: unknown): void {
    const { error: last, ...outcome } = failed({ ...object, outcome: 'failed' }, error);
    const earlier = this.#troubles.filter((trouble) => trouble !== last?.message);
    const whole =
      earlier.length === 0 || last === undefined
        ? last
        : new Git2dbError(last.code, `${last.message} (before that: ${earlier[0]})`, {
            data: last.data,
            cause: last,
          });
    this.#settle({ ...outcome, ...(whole === undefined ? {} : { error: whole }) });
  }

  async #fromHub(
    connection: LfsConnection,
    hub: HubRepository,
    objects: readonly LfsObject[],
  ): Promise<void> {
    const { signal } = this.#options;
    await this.#attempt(async () => {
      const oids = new Map(objects.map((object) => [object.sha256, this.#pointerOid(object)]));
      const paths = await findPathsOf(this.#place.repository, oids.values(), { signal });
      const pathOf = ({ sha256 }: LfsObject) => paths.get(oids.get(sha256) as string);
      const hashes = await resolveObjects(connection, hub, objects, pathOf, signal);
      if (hashes.size === 0) return;
      await using cas = await openHubCas(this.#place, connection, hub, signal);
      await this.#byFileHash(cas, objects, hashes);
    });
  }

  #pointerOid({ sha256, size }: LfsObject): string {
    const text = formatLfsPointer(sha256, size);
    return createHash(this.#local.config.objectFormat)
      .update(`blob ${text.length}\0`)
      .update(text)
      .digest('hex');
  }

  async #basic(connection: LfsConnection, objects: readonly LfsObject[]): Promise<void> {
    const { signal } = this.#options;
    for (let at = 0; at < objects.length; at += BATCH_SIZE) {
      const question = {
        operation: 'download',
        objects: objects.slice(at, at + BATCH_SIZE),
        transfers: ['basic'],
        ref: undefined,
      } as const;
      const answer = await askBatch(connection, question, signal);
      await inParallel(answer.objects, connection.transfers, async (object) => {
        const { sha256, size } = object;
        try {
          if (object.download === undefined) throw errorOf(connection, object);
          await this.#download(connection, object);
          this.#settle({ sha256, size, outcome: 'moved' });
        } catch (error) {
          const code = error instanceof Git2dbError ? error.code : undefined;
          if (code === 'STORE_UNWRITABLE' || code === 'DISK_FULL') throw error;
          this.#fail({ sha256, size }, error);
        }
      });
    }
  }

  async #download(connection: LfsConnection, object: BatchObject): Promise<void> {
    const options = {
      signal: this.#options.signal,
      onBytes: (bytes: number) => this.#options.onProgress?.(bytes),
    };
    if (object.size <= IN_MEMORY) {
      const sink = new MemorySink();
      await downloadBasic(connection, object, sink, options);
      await this.#local.storeBytes(sink.bytes(), object);
      return;
    }
    const part = new PartFile(this.#local.incompleteDir, object.sha256);
    const isResumed = part.position > 0;
    try {
      // What an earlier run has left may be anything.
      if (part.position > object.size) part.reset();
      await downloadBasic(connection, object, part, options);
      try {
        await this.#local.storeFile(part.path, object, options.signal);
      } catch (error) {
        if (!isResumed || !(error instanceof Git2dbError) || error.code !== 'CONTENT_DAMAGED') throw error;
        part.reset();
        await downloadBasic(connection, object, part, options);
        await this.#local.storeFile(part.path, object, options.signal);
      }
      part.remove();
    } catch (error) {
      const isWrong =
        error instanceof Git2dbError && (error.code === 'CONTENT_DAMAGED' || error.code === 'REMOTE_INVALID');
      if (isWrong) part.remove();
      else part.keep();
      throw error;
    }
  }
}

/** Consecutive ones, so that those that are there can be used before the last has come. */
function* groupsOf(objects: readonly NamedObject[]): Generator<NamedObject[]> {
  let group: NamedObject[] = [];
  let bytes = 0;
  for (const named of objects) {
    group.push(named);
    bytes += named.object.size;
    if (group.length < GROUP_OBJECTS && bytes < GROUP_BYTES) continue;
    yield group;
    group = [];
    bytes = 0;
  }
  if (group.length > 0) yield group;
}

function nothingThere(url: string): Git2dbError {
  return new Git2dbError(
    'CONTENT_MISSING',
    `the repository ${shownUrl(url)} has it neither in its store nor in its lfs/objects`,
  );
}
