/** The pointers of all repositories that use a store, against what its check has found. */
import { type BlobPlace, findPathsOf } from '../git/refs.ts';
import { messageOf } from '../xet/errors.ts';
import { formatHash, isZeroHash, parseHash } from '../xet/hash/xet-hash.ts';
import type { StoreCheck } from '../xet/store/fsck.ts';
import type { LocalStore } from '../xet/store/local-store.ts';
import type { LostFile } from './fsck-report.ts';
import { referencedPointers, type StoreRepository, storedFileOf } from './referenced-pointers.ts';

/** What is expected of a file that nothing here knows. */
export const A_SHARD = 'a shard that describes it';

export interface References {
  readonly lost: readonly LostFile[];
  readonly pointers: number;
  readonly repositories: number;
  readonly unreadable: readonly { readonly commonDir: string; readonly reason: string }[];
  readonly unreferenced: readonly string[];
  readonly absentObjects: number;
}

/** Looks at every pointer of the repositories, the first of which is our own: that one must be readable. */
export async function checkReferences(
  store: LocalStore,
  check: StoreCheck,
  repositories: readonly StoreRepository[],
  signal: AbortSignal | undefined,
): Promise<References> {
  const lost: LostFile[] = [];
  const unreadable: { commonDir: string; reason: string }[] = [];
  const wanted = new Set<string>();
  let pointers = 0;
  let absentObjects = 0;
  for (const [i, { commonDir, repository }] of repositories.entries()) {
    if (repository === undefined) {
      unreadable.push({ commonDir, reason: 'there is no repository' });
      continue;
    }
    const bad: Omit<LostFile, 'commit'>[] = [];
    try {
      for await (const { oid, path, pointer } of referencedPointers(repository, {
        signal,
        onMissing: () => absentObjects++,
      })) {
        const file = storedFileOf(store, pointer);
        if (file === undefined) continue;
        pointers++;
        if (check.brokenFiles.has(file.hash)) wanted.add(file.hash);
        const loss = lossOf(store, check, file);
        if (loss === undefined) continue;
        bad.push({ repository: commonDir, oid, path, fileHash: file.hash, size: file.size, ...loss });
      }
      const places = await findPathsOf(
        repository,
        bad.map(({ oid }) => oid),
        { signal },
      );
      for (const file of bad) lost.push(atPlace(file, places.get(file.oid)));
    } catch (error) {
      // Our own repository must be readable; of others it is enough to know that they are not.
      if (i === 0 || (error as Error).name === 'AbortError') throw error;
      unreadable.push({ commonDir, reason: messageOf(error) });
    }
  }
  const unreferenced = [...check.brokenFiles.keys()].filter((hash) => !wanted.has(hash));
  return {
    lost,
    pointers,
    repositories: repositories.length - unreadable.length,
    unreadable,
    unreferenced,
    absentObjects,
  };
}

function atPlace(file: Omit<LostFile, 'commit'>, place: BlobPlace | undefined): LostFile {
  return place === undefined
    ? { ...file, commit: undefined }
    : { ...file, commit: place.commit, path: place.path };
}

const NOWHERE = {
  fileOffset: undefined,
  xorb: undefined,
  chunk: undefined,
  chunkEnd: undefined,
  offset: undefined,
};

function lossOf(
  store: LocalStore,
  check: StoreCheck,
  { hash, size }: { readonly hash: string; readonly size: number },
): Pick<LostFile, 'state' | 'faults'> | undefined {
  const bytes = parseHash(hash);
  const isEmpty = isZeroHash(bytes);
  if (isEmpty && size === 0) return undefined;
  const broken = check.brokenFiles.get(hash);
  if (broken !== undefined) {
    const isAbsent = broken.faults.every(
      ({ xorb }) => xorb !== undefined && check.broken.get(xorb)?.path === undefined,
    );
    return { state: isAbsent ? 'missing' : 'damaged', faults: broken.faults };
  }
  const file = isEmpty ? { size: 0 } : store.findFile(bytes);
  if (file === undefined) {
    const shards = store.catalog.findFile(bytes).map(({ shard }) => formatHash(shard));
    const expected = shards.length === 0 ? A_SHARD : `shard ${shards[0]}, which describes file ${hash}`;
    return { state: 'missing', faults: [{ ...NOWHERE, expected, found: 'it is not there' }] };
  }
  if (file.size === size) return undefined;
  const expected = `a file of ${size} bytes, as the pointer says`;
  return { state: 'wrong-size', faults: [{ ...NOWHERE, expected, found: `file ${hash} has ${file.size}` }] };
}
