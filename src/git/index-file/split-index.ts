/**
 * The split index: most entries stand in `sharedindex.<hash>`, which is never written again; the
 * index itself holds what differs. Extension `link`:
 *
 *     0   H  checksum of the shared file, which is also in its name; zeros: there is none
 *     H      bitmap (ewah.ts) over the shared file's entries: these are deleted
 *            bitmap over the shared file's entries: these are replaced
 *
 * The entries of the index itself are first the replacements, in the order of the bits and with an
 * empty path, then the added entries with their paths, sorted as always.
 *
 * Invalid: a bit for an entry that the shared file does not have, an entry both deleted and
 * replaced, fewer entries than replacements, a replacement with a path or an added entry without.
 */

import { decodeEwah } from './ewah.ts';
import { findExtension, type IndexExtension, type IndexView } from './format.ts';
import { invalidIndex } from './invalid-index.ts';

export interface SplitLink {
  /** Bit n: entry n of the shared file is deleted. */
  readonly deleted: Uint8Array;
  /** Bit n: entry n of the shared file is replaced. */
  readonly replaced: Uint8Array;
  readonly replacedCount: number;
  /** Where the bitmap of the replaced entries starts in the index; it is the end of the extension. */
  readonly replacedOffset: number;
}

/** Checksum (hex) of the shared file that this index needs, or undefined where it needs none. */
export function sharedIndexHash(view: IndexView): string | undefined {
  const link = findExtension(view, 'link');
  if (link === undefined) {
    return undefined;
  }
  if (link.size < view.hashSize) {
    throw invalidIndex(
      `expected ${view.hashSize} bytes of hash in extension link, found ${link.size}`,
      link.offset,
    );
  }
  const hash = view.bytes.toString('hex', link.offset, link.offset + view.hashSize);
  return /^0+$/.test(hash) ? undefined : hash;
}

/** Decodes extension `link` of `view` against its shared file. */
export function readLink(view: IndexView, link: IndexExtension, shared: IndexView): SplitLink {
  const end = link.offset + link.size;
  const start = link.offset + view.hashSize;
  if (start === end) {
    const none = new Uint8Array(Math.ceil(shared.entryCount / 8));
    return { deleted: none, replaced: none, replacedCount: 0, replacedOffset: end };
  }
  const deleted = decodeEwah(view.bytes, start, end, shared.entryCount);
  const replaced = decodeEwah(view.bytes, deleted.next, end, shared.entryCount);
  if (replaced.next !== end) {
    throw invalidIndex(
      `expected the end of extension link, found ${end - replaced.next} bytes`,
      replaced.next,
    );
  }
  if (deleted.bits.some((byte, i) => (byte & replaced.bits[i]!) !== 0)) {
    throw invalidIndex('an entry of the shared index is both deleted and replaced', link.offset);
  }
  if (replaced.count > view.entryCount) {
    throw invalidIndex(`${replaced.count} entries are replaced by ${view.entryCount}`, link.offset);
  }
  return {
    deleted: deleted.bits,
    replaced: replaced.bits,
    replacedCount: replaced.count,
    replacedOffset: deleted.next,
  };
}

/** Whether bit `position` of `bits` is set. */
export function hasBit(bits: Uint8Array, position: number): boolean {
  return (bits[position >> 3]! & (1 << (position & 7))) !== 0;
}
