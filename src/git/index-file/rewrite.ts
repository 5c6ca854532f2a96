/**
 * The bytes of an index with other stat data: pure, nothing is read or written here.
 *
 * Stat data have a fixed width, so in an index that is not split everything stays where it is, and
 * all bytes but theirs and the checksum stay what they are. What the extensions say stays true:
 *
 *   TREE, REUC, sdir   speak of object ids and paths, which do not change.
 *   EOIE, IEOT         hold offsets and sizes, which do not change.
 *   FSMN               flags entries as unchanged since a token of the file system monitor. An entry
 *                      we change has just been compared with its file; and the monitor, asked next
 *                      for what happened since the token, names our own writing too.
 *   UNTR               vouches for directory listings by stat data, with the racy rule of entries
 *                      (racy-entries.ts). Records that the new index time would stop from being racy
 *                      are set to zeros, which match no directory, so that git lists it again.
 *   unknown, A-Z       meant to be carried along by who does not know them, or dropped; kept.
 *
 * In a split index (split-index.ts) an entry of the shared file gets new stat data by a replacing
 * entry in the index itself: one more entry, one more bit in `link`. Only then are EOIE and IEOT,
 * hints for reading with several threads, left out, since what they count has moved.
 */

import {
  FLAG_EXTENDED,
  HEADER_SIZE,
  type IndexEntry,
  OID_AT,
  ownEntries,
  PATH_LENGTH_MASK,
} from './entry.ts';
import { encodeEwah } from './ewah.ts';
import { checksumOf, findExtension, type IndexExtension, type IndexView } from './format.ts';
import { isRacy, type RacySeconds } from './racy-entries.ts';
import { hasBit, readLink } from './split-index.ts';
import { type FileStat, MTIME_SECONDS_AT, SIZE_AT, STAT_DATA_SIZE, writeStatData } from './stat-data.ts';
import { untrackedStatOffsets } from './untracked-cache.ts';

/** New stat data for an entry; 'forget' sets its size to 0, so that git compares the contents. */
export interface EntryChange {
  readonly entry: IndexEntry;
  readonly stat: FileStat | 'forget';
}

const OFFSET_HINTS: ReadonlySet<string> = new Set(['EOIE', 'IEOT']);

/**
 * The next content of the index `view`. Writes into `view.bytes`, which is used up: it is the
 * result where the index is not split.
 */
export function rewriteIndex(view: IndexView, changes: readonly EntryChange[], racy: RacySeconds): Buffer {
  const replacements = new Map<number, EntryChange>();
  for (const change of changes) {
    if (change.entry.bytes === view.bytes) {
      applyChange(view.bytes, change.entry.offset, change);
    } else {
      replacements.set(change.entry.sharedPosition, change);
    }
  }
  forgetRacyDirectories(view, racy);
  const link = findExtension(view, 'link');
  if (link === undefined || view.shared === undefined || replacements.size === 0) {
    writeChecksum(view.bytes, view);
    return view.bytes;
  }
  return addReplacements(view, link, view.shared, replacements);
}

function applyChange(bytes: Buffer, offset: number, change: EntryChange): void {
  if (change.stat === 'forget') {
    bytes.writeUInt32BE(0, offset + SIZE_AT);
  } else {
    writeStatData(bytes, offset, change.stat);
  }
}

function forgetRacyDirectories(view: IndexView, racy: RacySeconds): void {
  const untracked = findExtension(view, 'UNTR');
  if (untracked === undefined) {
    return;
  }
  for (const offset of untrackedStatOffsets(view, untracked)) {
    if (isRacy(view.bytes.readUInt32BE(offset + MTIME_SECONDS_AT), racy)) {
      view.bytes.fill(0, offset, offset + STAT_DATA_SIZE);
    }
  }
}

function addReplacements(
  view: IndexView,
  link: IndexExtension,
  shared: IndexView,
  replacements: ReadonlyMap<number, EntryChange>,
): Buffer {
  const split = readLink(view, link, shared);
  const replaced = split.replaced.slice();
  const own = ownEntries(view);
  const fixedParts: Buffer[] = [];
  let position = 0;
  for (const entry of ownEntries(shared)) {
    const change = replacements.get(position);
    if (change !== undefined) {
      const fixed = Buffer.from(entry.fixedPart);
      applyChange(fixed, 0, change);
      fixedParts.push(fixed);
      replaced[position >> 3]! |= 1 << (position & 7);
    } else if (hasBit(split.replaced, position)) {
      fixedParts.push((own.next().value as IndexEntry).fixedPart);
    }
    position++;
  }
  const firstAdded = own.next();
  const addedOffset = firstAdded.done ? view.entriesEnd : firstAdded.value.offset;

  const flagsAt = OID_AT + view.hashSize;
  const isExtended = fixedParts.some((fixed) => (fixed.readUInt16BE(flagsAt) & FLAG_EXTENDED) !== 0);
  const header = Buffer.from(view.bytes.subarray(0, HEADER_SIZE));
  header.writeUInt32BE(isExtended && view.version === 2 ? 3 : view.version, 4);
  header.writeUInt32BE(view.entryCount + replacements.size, 8);

  const bytes = Buffer.concat([
    header,
    ...fixedParts.map((fixed) => withoutPath(fixed, view)),
    view.bytes.subarray(addedOffset, view.entriesEnd),
    ...view.extensions
      .filter((extension) => !OFFSET_HINTS.has(extension.signature))
      .map((extension) =>
        extension === link
          ? linkExtension(view, link, split.replacedOffset, replaced)
          : view.bytes.subarray(extension.offset - 8, extension.offset + extension.size),
      ),
    Buffer.alloc(view.hashSize),
  ]);
  writeChecksum(bytes, view);
  return bytes;
}

/** An entry with an empty path, which the shared file's path stands in for. */
function withoutPath(fixedPart: Buffer, view: IndexView): Buffer {
  const size = fixedPart.length;
  const padding = view.version === 4 ? 2 : 8 - (size % 8);
  const entry = Buffer.alloc(size + padding);
  fixedPart.copy(entry);
  const flagsAt = OID_AT + view.hashSize;
  entry.writeUInt16BE(entry.readUInt16BE(flagsAt) & ~PATH_LENGTH_MASK, flagsAt);
  return entry;
}

function linkExtension(
  view: IndexView,
  link: IndexExtension,
  replacedOffset: number,
  replaced: Uint8Array,
): Buffer {
  const hadBitmaps = link.size > view.hashSize;
  const data = Buffer.concat([
    view.bytes.subarray(link.offset, replacedOffset),
    hadBitmaps ? Buffer.alloc(0) : encodeEwah(new Uint8Array(0)),
    encodeEwah(replaced),
  ]);
  const header = Buffer.from('link\0\0\0\0', 'latin1');
  header.writeUInt32BE(data.length, 4);
  return Buffer.concat([header, data]);
}

function writeChecksum(bytes: Buffer, view: IndexView): void {
  if (view.hasChecksum) {
    const end = bytes.length - view.hashSize;
    checksumOf(bytes.subarray(0, end), view.hashSize).copy(bytes, end);
  }
}
