/** The list of files an index stands for, whichever way it is stored. */

import { IndexEntry, ownEntries } from './entry.ts';
import { findExtension, type IndexView } from './format.ts';
import { invalidIndex } from './invalid-index.ts';
import { hasBit, readLink, type SplitLink, sharedIndexHash } from './split-index.ts';

/**
 * All entries of the index, in order: of every stage, and sparse directories, whose path ends in
 * `/`, among them. Entries are made as they are asked for and none is kept. For a split index
 * `view.shared` must be there (readIndexFile sees to it). Throws FormatError INVALID_INDEX.
 */
export function* indexEntries(view: IndexView): Generator<IndexEntry> {
  const link = findExtension(view, 'link');
  if (link === undefined || sharedIndexHash(view) === undefined) {
    yield* ownEntries(view);
    return;
  }
  const { shared } = view;
  if (shared === undefined) {
    throw invalidIndex('it is split, and its shared file has not been given', link.offset);
  }
  const split = readLink(view, link, shared);
  const added = addedEntries(view, split);
  let next = added.next();
  for (const entry of sharedEntries(view, shared, split)) {
    while (!next.done && precedes(next.value, entry)) {
      yield next.value;
      next = added.next();
    }
    if (next.done || !supersedes(next.value, entry)) {
      yield entry;
    }
  }
  for (; !next.done; next = added.next()) {
    yield next.value;
  }
}

/** What is left of the shared file's entries: not the deleted ones, the replaced ones with new fields. */
function* sharedEntries(view: IndexView, shared: IndexView, split: SplitLink): Generator<IndexEntry> {
  const own = ownEntries(view);
  let position = -1;
  for (const { bytes, offset, path } of ownEntries(shared)) {
    position++;
    if (hasBit(split.replaced, position)) {
      const replacement = own.next().value as IndexEntry;
      if (replacement.path.length > 0) {
        throw invalidIndex('a replacing entry of a split index has a path', replacement.offset);
      }
      yield new IndexEntry(replacement.bytes, replacement.offset, path, view.hashSize, position);
    } else if (!hasBit(split.deleted, position)) {
      yield new IndexEntry(bytes, offset, path, view.hashSize, position);
    }
  }
}

function* addedEntries(view: IndexView, split: SplitLink): Generator<IndexEntry> {
  let position = 0;
  for (const entry of ownEntries(view)) {
    if (position++ < split.replacedCount) {
      continue;
    }
    if (entry.path.length === 0) {
      throw invalidIndex('an added entry of a split index has no path', entry.offset);
    }
    yield entry;
  }
}

/** Adding an entry to an index removes the one of the same stage, and a resolved path has no other stages. */
function supersedes(added: IndexEntry, present: IndexEntry): boolean {
  return added.path.equals(present.path) && (added.stage === 0 || added.stage === present.stage);
}

function precedes(added: IndexEntry, present: IndexEntry): boolean {
  const order = Buffer.compare(added.path, present.path);
  return order < 0 || (order === 0 && added.stage !== 0 && added.stage < present.stage);
}
