/** Files that are here already: they are renewed, so that gc leaves them alone. */
import { Git2dbError } from '../errors.ts';
import { planFile } from '../reconstruct/plan.ts';
import type { LocalStore, StoredFile } from '../store/local-store.ts';
import type { StoreWriter } from '../store/writer.ts';
import type { WantedFile } from './transfer.ts';

/**
 * Bytes of the file, if all of it is in this store; undefined if not. What another writer has not sealed yet
 * counts only with state `any`.
 */
export function sizeIfPresent(
  local: LocalStore,
  writer: StoreWriter,
  { hash, size }: WantedFile,
  state: 'sealed' | 'any',
): number | undefined {
  for (const file of local.findFiles(hash)) {
    if (size !== undefined && file.size !== size) continue;
    if (file.shard === undefined && state === 'sealed') continue;
    // What another writer has not sealed yet is its to keep.
    if (isComplete(file) && (file.shard === undefined || writer.touchFile(file))) return file.size;
  }
  return undefined;
}

/** Whether all of the file is in this store, for every process to read. Nothing is renewed. */
export function isPresent(local: LocalStore, { hash, size }: WantedFile): boolean {
  for (const file of local.findFiles(hash)) {
    if (file.shard !== undefined && (size === undefined || file.size === size) && isComplete(file))
      return true;
  }
  return false;
}

function isComplete(file: StoredFile): boolean {
  try {
    planFile(file);
    return true;
  } catch (error) {
    if (error instanceof Git2dbError) return false;
    throw error;
  }
}
