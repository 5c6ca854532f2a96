/** Which files the repositories of a store hold on to: the pointers in their histories, indexes and worktrees. */
import { reachableBlobs } from '../git/refs.ts';
import { type RepositoryPaths, repositoryAt } from '../git/repository.ts';
import { rootRun } from '../git/roots.ts';
import { readSmallBlobs } from '../git/small-blobs.ts';
import { formatHash } from '../xet/hash/xet-hash.ts';
import { parseLooseLfsPointer } from '../xet/pointer/lfs-pointer.ts';
import { POINTER_MAX, type Pointer, sniffPointer } from '../xet/pointer/sniff.ts';
import type { StoreLayout } from '../xet/store/layout.ts';
import type { LocalStore } from '../xet/store/local-store.ts';
import { listUsers } from '../xet/store/users.ts';

export type XetFilePointer = Exclude<Pointer, { kind: 'lfs' }>;

export interface ReferencedPointer {
  readonly oid: string;
  /** One path it has, cut at a newline; empty where git knows none. `withWholePaths` makes it whole. */
  readonly path: Buffer;
  readonly tree: string | undefined;
  readonly pointer: Pointer;
}

export interface ReferencedOptions {
  readonly signal?: AbortSignal | undefined;
  /** Told of each object that a partial clone does not have: there may be pointers below it. */
  readonly onMissing?: ((oid: string) => void) | undefined;
}

/** Every pointer that is reachable in the repository, each blob once. Throws GIT_FAILED when something cannot be read. */
export async function* referencedPointers(
  repository: RepositoryPaths,
  options: ReferencedOptions = {},
): AsyncIterable<ReferencedPointer> {
  const places = new Map<string, Pick<ReferencedPointer, 'path' | 'tree'>>();
  async function* oids(): AsyncIterable<string> {
    for await (const { oid, path, tree } of reachableBlobs(repository, {
      ...options,
      maxSize: POINTER_MAX,
    })) {
      places.set(oid, { path, tree });
      yield oid;
    }
  }
  const run = { ...rootRun(repository.commonDir, options.signal), maxSize: POINTER_MAX };
  for await (const { oid, body } of readSmallBlobs(oids(), run)) {
    const place = places.get(oid)!;
    places.delete(oid);
    const pointer = sniffPointer(body) ?? parseLooseLfsPointer(body);
    if (pointer !== undefined) yield { oid, ...place, pointer };
  }
}

/**
 * The file of the store that a pointer means. An LFS pointer means one by its SHA-256; undefined where the store
 * never had it: its content is git-lfs's, or on a server.
 */
export function storedFileOf(
  store: LocalStore,
  pointer: Pointer,
): { readonly hash: string; readonly size: number } | undefined {
  if (pointer.kind !== 'lfs') return pointer;
  const found = store.findSha256(pointer.sha256)[0];
  return found === undefined ? undefined : { hash: formatHash(found), size: pointer.size };
}

/** A repository that is known to use a store. */
export interface StoreRepository {
  readonly commonDir: string;
  /** Undefined when there is no repository any more. */
  readonly repository: RepositoryPaths | undefined;
}

/** `own`, then the others that are entered in the store. */
export function repositoriesOf(layout: StoreLayout, own: RepositoryPaths): StoreRepository[] {
  const others = listUsers(layout)
    .map(({ commonDir }) => commonDir)
    .filter((commonDir) => commonDir !== own.commonDir);
  return [
    { commonDir: own.commonDir, repository: own },
    ...[...new Set(others)].map((commonDir) => ({ commonDir, repository: repositoryIn(commonDir) })),
  ];
}

function repositoryIn(commonDir: string): RepositoryPaths | undefined {
  try {
    return repositoryAt(commonDir);
  } catch {
    return undefined;
  }
}
