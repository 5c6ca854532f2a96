/**
 * The Hugging Face Hub (Xet protocol, "Hub side"). It speaks LFS pointers only; downloads go by Xet where the Hub
 * tells the file hash of a path, in the headers of `resolve`, and uploads by the `xet` transfer of the batch API. A
 * commit is made by `git push`, as anywhere.
 */
import { createHash } from 'node:crypto';
import { CasStore } from '../xet/cas/client.ts';
import type { HttpResponse } from '../xet/cas/http.ts';
import { ExchangedToken } from '../xet/cas/token.ts';
import { Downloader } from '../xet/download.ts';
import { Git2dbError } from '../xet/errors.ts';
import { isHashString } from '../xet/hash/xet-hash.ts';
import { shownUrl } from '../xet/remote/address.ts';
import type { FetchOptions, Remote, SendOptions } from '../xet/remote/remote.ts';
import type { LocalStore } from '../xet/store/local-store.ts';
import type { CallOptions } from '../xet/store/store.ts';
import { fetchFiles } from '../xet/transfer/fetch.ts';
import type { FileOutcome, TransferResult, WantedFile } from '../xet/transfer/transfer.ts';
import { verifyUpload } from './basic.ts';
import { BATCH_SIZE, type BatchObject } from './batch.ts';
import { askBatch, errorOf, inParallel } from './client.ts';
import type { LfsConnection } from './connection.ts';
import { type HubRepository, hubRepository } from './hub-host.ts';
import type { LfsObject, LfsPlace } from './objects.ts';
import { type LocalFileOfObject, mayUseCas, uploadXet } from './xet-transfer.ts';

const RESOLVE_AT_ONCE = 16;
const FILE_INFO = 'application/vnd.xet-fileinfo+json, */*';

/** Where a repository has an object: a commit that the Hub may know, and a path in it. */
export interface ObjectPath {
  readonly commit: string | undefined;
  readonly path: Buffer;
}

/** The repository on the Hub that `connection` leads to, if it is one. */
export function hubOf(
  connection: Pick<LfsConnection, 'url'>,
  env: LfsPlace['env'],
): HubRepository | undefined {
  return hubRepository(connection.url, env);
}

/** File hashes, in string form, of those objects that the Hub keeps as chunks. */
export async function resolveObjects(
  connection: LfsConnection,
  hub: HubRepository,
  objects: readonly LfsObject[],
  pathOf: (object: LfsObject) => ObjectPath | undefined,
  signal: AbortSignal | undefined,
): Promise<Map<string, string>> {
  const hashes = new Map<string, string>();
  await inParallel(objects, RESOLVE_AT_ONCE, async (object) => {
    const place = pathOf(object);
    const url = place && resolveUrl(hub, place);
    if (url === undefined) return;
    const response = await connection.http.request({
      method: 'GET',
      url,
      headers: { Range: 'bytes=0-0', Accept: FILE_INFO },
      token: connection.identity?.authority === hub.origin ? connection.identity : undefined,
      // The headers tell; where a redirect leads nobody wants to know.
      accept: [200, 206, 301, 302, 303, 307, 308, 404],
      follow: false,
      signal,
    });
    await response.discard();
    const hash = fileHashIn(response, object);
    if (hash !== undefined) hashes.set(object.sha256, hash);
  });
  return hashes;
}

/** The file hash, if the answer is about this very content. */
function fileHashIn({ headers, status }: HttpResponse, { sha256, size }: LfsObject): string | undefined {
  const hash = headers['x-xet-hash'];
  const etag = headers['x-linked-etag']?.replace(/^(?:W\/)?"|"$/g, '');
  const linked = headers['x-linked-size'];
  if (status === 404 || hash === undefined || !isHashString(hash)) return undefined;
  if (etag !== undefined && etag !== sha256) return undefined;
  return linked === undefined || linked === String(size) ? hash : undefined;
}

function resolveUrl({ origin, type, name }: HubRepository, { commit, path }: ObjectPath): string | undefined {
  const text = path.toString('utf8');
  if (
    commit === undefined ||
    !Buffer.from(text).equals(path) ||
    text.split('/').some((part) => part === '..' || part === '.' || part === '')
  )
    return undefined;
  const prefix = type === 'models' ? '' : `${type}/`;
  return `${origin}/${prefix}${name}/resolve/${commit}/${text.split('/').map(encodeURIComponent).join('/')}`;
}

/** The CAS of a repository on the Hub, for reading. */
export async function openHubCas(
  place: Pick<LfsPlace, 'env' | 'isTrusted'>,
  connection: LfsConnection,
  hub: HubRepository,
  signal: AbortSignal | undefined,
): Promise<CasStore> {
  const { http, identity } = connection;
  const url = (scope: 'read' | 'write') =>
    `${hub.origin}/api/${hub.type}/${hub.name}/xet-${scope}-token/main`;
  const token = await ExchangedToken.open(
    {
      http,
      tokenUrl: url,
      identity: identity?.authority === hub.origin ? identity : undefined,
      mayUse: mayUseCas(place),
    },
    'read',
    signal,
  );
  return CasStore.open({ http, casUrl: token.casUrl, token });
}

/** A repository on the Hub, for those who know files by their file hash. */
export class HubRemote implements Remote {
  readonly place: string;
  readonly isReadOnly = false;
  readonly #place: Pick<LfsPlace, 'env' | 'isTrusted'>;
  readonly #connection: LfsConnection;
  readonly #hub: HubRepository;

  /** Takes `connection` over. Throws URL_INVALID where it does not lead to a repository on the Hub. */
  constructor(place: Pick<LfsPlace, 'env' | 'isTrusted'>, connection: LfsConnection) {
    const hub = hubOf(connection, place.env);
    this.place = shownUrl(connection.url);
    if (hub === undefined)
      throw new Git2dbError('URL_INVALID', `${this.place} is no repository on the Hugging Face Hub`);
    this.#place = place;
    this.#connection = connection;
    this.#hub = hub;
  }

  /** Those that the Hub wants to have uploaded; a file whose SHA-256 is not said counts as missing. */
  async missing(files: readonly WantedFile[], { signal }: CallOptions = {}): Promise<WantedFile[]> {
    const known = files.flatMap((file) =>
      file.sha256 === undefined ? [] : [{ sha256: file.sha256, size: file.size ?? 0 }],
    );
    const wanted = new Set((await this.#ask(known, signal)).filter(isWanted).map(({ sha256 }) => sha256));
    return files.filter(({ sha256 }) => sha256 === undefined || wanted.has(sha256));
  }

  async send(
    local: LocalStore,
    files: readonly WantedFile[],
    options: SendOptions = {},
  ): Promise<TransferResult> {
    const { signal } = options;
    const named = files.map((file) => withSha256(local, file));
    const outcomes = new Map<string, FileOutcome>();
    let moved = 0;
    const settle = (file: WantedFile, outcome: Omit<FileOutcome, 'hash' | 'size'>) => {
      const whole = { hash: file.hash, size: file.size, ...outcome };
      outcomes.set(file.sha256 as string, whole);
      if (outcome.outcome === 'moved') moved += file.size ?? 0;
      options.onFile?.(whole);
    };
    const bySha256 = new Map(named.map((file) => [file.sha256, file]));
    const answers = await this.#ask(
      [...bySha256.values()].map(({ sha256, size }) => ({ sha256: sha256 as string, size: size as number })),
      signal,
    );
    const toSend: LocalFileOfObject[] = [];
    for (const object of answers) {
      const file = bySha256.get(object.sha256) as WantedFile;
      if (object.error !== undefined)
        settle(file, { outcome: 'failed', error: errorOf(this.#connection, object) });
      else if (object.upload === undefined) settle(file, { outcome: 'present' });
      else toSend.push({ object, fileHash: file.hash });
    }
    const sent = await uploadXet(this.#place, this.#connection, local, toSend, { signal });
    for (const [i, { outcome, error, sha256 }] of sent.entries()) {
      if (outcome !== 'failed') await verifyUpload(this.#connection, toSend[i]!.object, signal);
      settle(bySha256.get(sha256) as WantedFile, { outcome, error });
    }
    return {
      files: named.map((file) => outcomes.get(file.sha256 as string) as FileOutcome),
      contentBytes: moved,
      wireBytes: moved,
    };
  }

  async fetch(
    local: LocalStore,
    files: readonly WantedFile[],
    options: FetchOptions,
  ): Promise<TransferResult> {
    await using cas = await openHubCas(this.#place, this.#connection, this.#hub, options.signal);
    return await fetchFiles(local, cas, files, options);
  }

  async #ask(objects: readonly LfsObject[], signal: AbortSignal | undefined): Promise<BatchObject[]> {
    const answers: BatchObject[] = [];
    for (let at = 0; at < objects.length; at += BATCH_SIZE) {
      const answer = await askBatch(
        this.#connection,
        {
          operation: 'upload',
          objects: objects.slice(at, at + BATCH_SIZE),
          transfers: ['xet', 'basic'],
          ref: undefined,
        },
        signal,
      );
      const byChunks = answer.transfer === 'xet';
      answers.push(...answer.objects.map((object) => (byChunks ? object : withoutChunks(object))));
    }
    return answers;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#connection.close();
  }
}

/** Where the Hub wants whole contents, there is nothing that this remote could do. */
function withoutChunks(object: BatchObject): BatchObject {
  if (object.upload === undefined || object.error !== undefined) return object;
  return { ...object, error: { code: 400, message: 'the Hub takes no chunks for this repository' } };
}

function isWanted({ upload, error }: BatchObject): boolean {
  return upload !== undefined || error !== undefined;
}

/** With the SHA-256 and the size that an LFS server asks for, computed where nobody knows them. */
function withSha256(local: LocalStore, file: WantedFile): WantedFile {
  if (file.sha256 !== undefined && file.size !== undefined) return file;
  const stored = local.findFile(file.hash);
  const size = file.size ?? stored?.size;
  const known = file.sha256 ?? stored?.record?.sha256;
  if (known !== undefined && size !== undefined) return { ...file, sha256: known, size };
  const downloader = new Downloader(local);
  const plan = downloader.plan(file.hash, size);
  const hash = createHash('sha256');
  for (const { chunks } of downloader.read(plan)) for (const chunk of chunks) hash.update(chunk);
  return { ...file, sha256: hash.digest('hex'), size: plan.size };
}
