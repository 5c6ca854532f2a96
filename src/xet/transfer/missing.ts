/** Questions about many files, put to a store in batches. */
import { isZeroHash } from '../hash/xet-hash.ts';
import type { CallOptions, Store } from '../store/store.ts';
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
