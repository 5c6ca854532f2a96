/**
 * Pointers that a checkout left in a layer because their content is not here (xet.onMissing=pointer). A layer
 * with such is another one than that with all content, and has another name; see ensureLayer.
 */
import { lstatSync, readFileSync } from 'node:fs';
import { ownEntries } from '../../git/index-file/entry.ts';
import type { IndexView } from '../../git/index-file/format.ts';
import { splitZ } from '../../git/records.ts';
import { errnoOf } from '../../xet/errors.ts';
import { POINTER_MAX, sniffPointer } from '../../xet/pointer/sniff.ts';
import { elsewhere } from './checkout.ts';
import type { DriverContext } from './driver.ts';
import { isFileEntry } from './layer-index.ts';

export interface CheckedOutLayer {
  readonly view: IndexView;
  readonly index: string;
  /** The topmost first. */
  readonly trees: readonly string[];
  /** An empty directory for git to run in. */
  readonly workTree: string;
}

/** Paths, as latin1 and sorted, of files that a filter should have made content of. */
export async function pendingPointers(
  { place, signal }: DriverContext,
  { view, index, trees, workTree }: CheckedOutLayer,
): Promise<string[]> {
  const pointers: Buffer[] = [];
  for (const entry of ownEntries(view)) {
    if (!isFileEntry(entry) || entry.size === 0 || entry.size > POINTER_MAX) continue;
    const bytes = readTopmost(trees, entry.path);
    if (bytes !== undefined && sniffPointer(bytes) !== undefined) pointers.push(Buffer.from(entry.path));
  }
  if (pointers.length === 0) return [];
  const { stdout } = await place.git(['check-attr', '--cached', '-z', '--stdin', 'filter'], {
    ...elsewhere(place, { workTree, index, signal }),
    input: Buffer.concat(pointers.flatMap((path) => [path, Buffer.alloc(1)])),
  });
  const fields = [...splitZ(stdout)].map((field) => field.toString('latin1'));
  const pending: string[] = [];
  for (let i = 0; i + 2 < fields.length; i += 3) {
    const value = fields[i + 2]!;
    if (value !== 'unspecified' && value !== 'unset') pending.push(fields[i]!);
  }
  return pending.sort();
}

/** The file as an overlay of `trees` shows it, where it is a regular file. */
function readTopmost(trees: readonly string[], path: Buffer): Buffer | undefined {
  for (const tree of trees) {
    const file = Buffer.concat([Buffer.from(`${tree}/`), path]);
    try {
      return lstatSync(file).isFile() ? readFileSync(file) : undefined;
    } catch (error) {
      if (!['ENOENT', 'ENOTDIR'].includes(errnoOf(error) ?? '')) throw error;
    }
  }
  return undefined;
}
