/**
 * The names that `git rev-list --objects` gives end at the first newline, and one that was cut looks like any other.
 * Whether one is whole says the tree that holds it, which rev-list has named before.
 */
import { Git2dbError } from '../xet/errors.ts';
import { ObjectReader } from './cat-file.ts';
import { type BlobPlace, findIndexPathsOf, findPathsOf } from './refs.ts';
import type { RepositoryPaths } from './repository.ts';
import { rootRun } from './roots.ts';
import type { GitRun } from './runner.ts';

/** A blob as rev-list names it. */
export interface ListedBlob {
  readonly oid: string;
  /** Maybe cut; empty where git knows none. */
  readonly path: Buffer;
  /** The tree that has it, by what rev-list has named; undefined for one that an index has. */
  readonly tree: string | undefined;
  /** It did not come from rev-list: its path is whole. */
  readonly isWhole?: boolean;
}

/** Trees are not read beyond this size: what is in such a one is looked for in another way. */
const MAX_TREE_BYTES = 256 * 2 ** 20;

const SLASH = 0x2f;

/** `blobs` with whole paths. Those that prove to be whole cost one look at their tree; others a search. */
export async function withWholePaths<Blob extends ListedBlob>(
  repository: RepositoryPaths,
  blobs: readonly Blob[],
  options: Pick<GitRun, 'signal'> = {},
): Promise<Blob[]> {
  const none = new Map<string, BlobPlace>();
  const doubtful = new Set(await unproven(repository, blobs, options));
  if (doubtful.size === 0) return [...blobs];
  const staged = await findIndexPathsOf(repository, doubtful, options);
  const rest = [...doubtful].filter((oid) => !staged.has(oid));
  const found = await findPathsOf(repository, rest, options).catch((error: unknown): typeof none => {
    options.signal?.throwIfAborted();
    // Of a partial clone, or a damaged one, not all can be searched; what is known of the names stays.
    if (error instanceof Git2dbError) return none;
    throw error;
  });
  return blobs.map((blob) => {
    const path = doubtful.has(blob.oid) ? (staged.get(blob.oid) ?? found.get(blob.oid)?.path) : undefined;
    return path === undefined ? blob : { ...blob, path };
  });
}

/** Object ids of those that their tree does not have under the last part of their path. */
async function unproven(
  { commonDir }: RepositoryPaths,
  blobs: readonly ListedBlob[],
  { signal }: Pick<GitRun, 'signal'>,
): Promise<string[]> {
  const reader = new ObjectReader({ ...rootRun(commonDir, signal), maxSize: MAX_TREE_BYTES });
  const doubtful: string[] = [];
  // Blobs of one tree come one after the other, in its order.
  let tree: { readonly oid: string; readonly body: Buffer | undefined; at: number } | undefined;
  try {
    for (const { oid, path, tree: of, isWhole } of blobs) {
      if (isWhole === true) continue;
      if (of !== undefined && tree?.oid !== of) {
        const object = await reader.readSmall(of).catch(() => undefined);
        signal?.throwIfAborted();
        tree = { oid: of, body: object?.type === 'tree' ? object.body : undefined, at: 0 };
      }
      // An entry is "<mode> SP <name> NUL" and the object id.
      const name = path.subarray(path.lastIndexOf(SLASH) + 1);
      const entry = Buffer.concat([Buffer.from(' '), name, Buffer.alloc(1), Buffer.from(oid, 'hex')]);
      const at = of === undefined ? undefined : indexFrom(tree?.body, entry, tree?.at ?? 0);
      if (at === undefined) doubtful.push(oid);
      else tree!.at = at;
    }
  } finally {
    await reader.close();
  }
  return doubtful;
}

function indexFrom(body: Buffer | undefined, entry: Buffer, start: number): number | undefined {
  const ahead = body?.indexOf(entry, start) ?? -1;
  const at = ahead === -1 ? (body?.indexOf(entry) ?? -1) : ahead;
  return at === -1 ? undefined : at;
}
