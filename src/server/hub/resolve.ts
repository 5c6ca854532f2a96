/** From a path to a file (Xet protocol, "Hub side"): where its content is, or the content itself. */
import { gitStream } from '../../git/runner.ts';
import { formatHash, parseHash } from '../../xet/hash/xet-hash.ts';
import type { Pointer } from '../../xet/pointer/sniff.ts';
import type { CallOptions, ServableStore, StoreFile } from '../../xet/store/store.ts';
import { readRange } from '../../xet/transfer/range.ts';
import { type Readable, sendByRange } from '../cas/send-ranges.ts';
import { findContents, readableContent } from '../content.ts';
import type { ServerContext } from '../context.ts';
import type { Exchange } from '../exchange.ts';
import { findCommit, findEntries, readPointers, runIn, type TreeEntry } from '../git/plumbing.ts';
import type { BareRepository } from '../git/repositories.ts';
import { HttpError } from '../http-error.ts';

const XET_TYPE = 'application/vnd.xet-fileinfo+json';

/** A large file in a commit. */
export interface LargeFile {
  /** Of its pointer. */
  readonly size: number;
  readonly sha256: string | undefined;
  /** Undefined: its content is not here. */
  readonly file: StoreFile | undefined;
}

/** What the pointers stand for, in their order. */
export async function locatePointers(
  store: ServableStore,
  pointers: readonly Pointer[],
  options: CallOptions,
): Promise<LargeFile[]> {
  const sha256s = pointers.flatMap((pointer) => (pointer.kind === 'lfs' ? [pointer.sha256] : []));
  const contents = await findContents(store, sha256s, options);
  const hashes = pointers.flatMap((pointer) => (pointer.kind === 'lfs' ? [] : [pointer.hash]));
  const files = await store.findFiles(hashes.map(parseHash), options);
  const byHash = new Map(hashes.map((hash, i) => [hash, files[i]]));
  return pointers.map((pointer) => {
    const { size } = pointer;
    const file = pointer.kind === 'lfs' ? contents.get(pointer.sha256)?.file : byHash.get(pointer.hash);
    const sha256 = pointer.kind === 'lfs' ? pointer.sha256 : file?.sha256;
    return { size, sha256, file: file?.size === size ? file : undefined };
  });
}

export async function resolvePath(
  context: ServerContext,
  exchange: Exchange,
  repository: BareRepository,
  revision: string,
  path: string,
): Promise<void> {
  const { signal } = exchange;
  const commit = await findCommit(repository, revision, signal);
  if (commit === undefined) throw missing('RevisionNotFound', `there is no revision ${revision}`);
  const [entry] = await findEntries(repository, commit, [path], signal);
  if (entry?.type !== 'blob') throw missing('EntryNotFound', `there is no file ${path} in ${revision}`);
  const headers = { 'X-Repo-Commit': commit, 'X-Content-Type-Options': 'nosniff' };
  const pointer = (await readPointers(repository, [entry], signal)).get(entry.oid);
  if (pointer === undefined) {
    const etag = { ETag: `"${entry.oid}"` };
    if (entry.size > 0)
      return sendByRange(exchange, blob(repository, entry, signal), { ...headers, ...etag });
    // No range of nothing can be had; clients that ask for the first byte want to know the size.
    return exchange.empty(200, { ...headers, ...etag, 'Content-Range': 'bytes */0' });
  }
  const [large] = await locatePointers(context.store, [pointer], { signal });
  if (large?.file === undefined) {
    throw new HttpError(404, `the content of ${path} is not on this server`, {}, 'CONTENT_MISSING');
  }
  await sendLarge(context, exchange, repository, commit, { ...large, file: large.file }, headers);
}

async function sendLarge(
  context: ServerContext,
  exchange: Exchange,
  repository: BareRepository,
  commit: string,
  { file, size, sha256 }: LargeFile & { readonly file: StoreFile },
  common: Readonly<Record<string, string>>,
): Promise<void> {
  const hash = formatHash(file.fileHash);
  const etag = `"${sha256 ?? hash}"`;
  const auth = `${exchange.base}/${repository.name}.git/info/xet/token?scope=read`;
  const links = `<${auth}>; rel="xet-auth", <${exchange.base}/v1/reconstructions/${hash}>; rel="xet-reconstruction-info"`;
  const headers = {
    ...common,
    ETag: etag,
    'X-Linked-Size': String(size),
    'X-Linked-ETag': etag,
    'X-Xet-Hash': hash,
    'X-Xet-Refresh-Route': `/api/${apiPath(repository.name)}/xet-read-token/${commit}`,
    Link: links,
  };
  if (exchange.header('accept')?.includes(XET_TYPE) === true) {
    const info = { hash, refreshUrl: auth, reconstructionUrl: `${exchange.base}/v1/reconstructions/${hash}` };
    return exchange.bytes(Buffer.from(JSON.stringify(info)), XET_TYPE, 200, headers);
  }
  // The plain bytes, for whoever speaks only HTTP.
  const options = { signal: exchange.signal };
  const source: Readable =
    sha256 === undefined
      ? { size, read: (start, end) => readRange(context.store, file.fileHash, start, end, options) }
      : readableContent(context.store, { sha256, size, file }, options);
  await sendByRange(exchange, source, headers);
}

/** `models/user/name`, `datasets/user/name`. */
export function apiPath(name: string): string {
  return /^(?:datasets|spaces)\/[^/]+\/[^/]+$/.test(name) ? name : `models/${name}`;
}

function blob(repository: BareRepository, { oid, size }: TreeEntry, signal: AbortSignal): Readable {
  return {
    size,
    async *read(start, end) {
      let at = 0;
      for await (const piece of gitStream(['cat-file', 'blob', oid], runIn(repository, signal)).stdout) {
        const from = Math.max(0, start - at);
        const to = Math.min(piece.length, end - at);
        at += piece.length;
        if (from < to) yield piece.subarray(from, to);
        if (at >= end) return;
      }
    },
  };
}

/** The Hub's clients go by this header. */
export function missing(code: string, message: string): HttpError {
  return new HttpError(404, message, { 'X-Error-Code': code });
}
