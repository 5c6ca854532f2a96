/** Questions about many files, put to a store in batches. */
import { Git2dbError } from '../errors.ts';
import { formatHash, isZeroHash } from '../hash/xet-hash.ts';
import type { CallOptions, Store, StoreFile } from '../store/store.ts';
import { isOfAFile } from './ledger.ts';
import type { WantedFile } from './transfer.ts';

/** Files asked about at once. Their records are held in memory until the batch is dealt with. */
export const FILES_AT_ONCE = 4096;

/** What is empty is made from nothing, so every store has it. */
export function isEmptyFile(file: WantedFile): boolean {
  return isZeroHash(file.hash);
}

/** Consecutive slices of `items`, of `size` at most. */
export function* slicesOf<T>(items: readonly T[], size: number): Generator<readonly T[]> {
  for (let at = 0; at < items.length; at += size) yield items.slice(at, at + size);
}

/**
 * What the store has of each file. Where one answer to all cannot be read, each is asked for by itself, so that one
 * wrong description fails one file: its error stands in its place. Throws what makes the store unusable.
 */
export async function findEach(
  remote: Store,
  files: readonly WantedFile[],
  options: CallOptions = {},
): Promise<(StoreFile | Git2dbError | undefined)[]> {
  try {
    return await remote.findFiles(hashesOf(files), options);
  } catch (error) {
    if (!isOfAFile(error)) throw error;
    if (files.length === 1) return [error];
  }
  const found: (StoreFile | Git2dbError | undefined)[] = [];
  for (const file of files) found.push(...(await findEach(remote, [file], options)));
  return found;
}

/** Those that the store does not have. */
export async function missingFiles(
  remote: Store,
  files: readonly WantedFile[],
  options: CallOptions = {},
): Promise<WantedFile[]> {
  const missing: WantedFile[] = [];
  const asked = files.filter((file) => !isEmptyFile(file));
  for (const slice of slicesOf(asked, FILES_AT_ONCE)) {
    const found = await remote.findFiles(hashesOf(slice), options);
    missing.push(...slice.filter((_, i) => found[i] === undefined));
  }
  return missing;
}

/** The hashes of some files, for `findFiles`. */
export function hashesOf(files: readonly WantedFile[]): Uint8Array[] {
  return files.map((file) => file.hash);
}

/** For a file that the store at `place` has in another size than it should be. */
export function wrongSize({ hash, size }: WantedFile, stored: StoreFile, place: string): Git2dbError {
  const name = formatHash(hash);
  return new Git2dbError(
    'CONTENT_DAMAGED',
    `the pointer says ${size} bytes, file ${name} in ${place} has ${stored.size}: the pointer was changed by hand or is damaged`,
    { data: { file: name, expected: size, found: stored.size } },
  );
}
