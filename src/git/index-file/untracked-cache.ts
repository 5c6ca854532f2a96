/**
 * Finds the stat data inside the extension UNTR, the untracked cache: git lists a directory anew
 * only when its stat data differ from those noted here. H is the size of an object id, "varint" as
 * in varint.ts.
 *
 *       varint  length of the environment string, and the string
 *       36      stat data of info/exclude        (stat-data.ts, second layout)
 *       36      stat data of core.excludesFile
 *        4      flags
 *        H  H   object ids of the two files
 *               name of the per-directory exclude file, NUL
 *       varint  number of directories D; 0: only a NUL follows
 *               D directories, depth first: varint number of names N, varint number of
 *               subdirectories, name NUL, N times name NUL
 *               three bitmaps over the directories (ewah.ts): valid, check-only, has an exclude file
 *       36 each stat data of the valid directories
 *        H each object ids of the exclude files
 *        1      NUL
 */

import { decodeEwah, skipEwah } from './ewah.ts';
import type { IndexExtension, IndexView } from './format.ts';
import { invalidIndex } from './invalid-index.ts';
import { STAT_DATA_SIZE } from './stat-data.ts';
import { readVarint } from './varint.ts';

/**
 * The offsets of all stat records in the extension `untracked` of `view`. Throws FormatError
 * INVALID_INDEX when it cannot be read to its end.
 */
export function untrackedStatOffsets(view: IndexView, untracked: IndexExtension): number[] {
  const { bytes, hashSize } = view;
  const limit = untracked.offset + untracked.size;
  const environment = readVarint(bytes, untracked.offset, limit);
  const excludes = environment.next + environment.value;
  const offsets = [excludes, excludes + STAT_DATA_SIZE];
  let at = afterString(bytes, excludes + 2 * STAT_DATA_SIZE + 4 + 2 * hashSize, limit);
  const directories = at < limit ? readVarint(bytes, at, limit) : { value: 0, next: at };
  at = directories.next;
  if (directories.value === 0) {
    return offsets;
  }
  for (let i = 0; i < directories.value; i++) {
    const names = readVarint(bytes, at, limit);
    at = afterString(bytes, readVarint(bytes, names.next, limit).next, limit);
    for (let j = 0; j < names.value; j++) {
      at = afterString(bytes, at, limit);
    }
  }
  const valid = decodeEwah(bytes, at, limit, directories.value);
  at = skipEwah(bytes, skipEwah(bytes, valid.next, limit), limit);
  if (valid.count * STAT_DATA_SIZE > limit - at) {
    throw invalidIndex(`expected stat data of ${valid.count} directories in extension UNTR`, at);
  }
  for (let i = 0; i < valid.count; i++) {
    offsets.push(at + i * STAT_DATA_SIZE);
  }
  return offsets;
}

function afterString(bytes: Buffer, from: number, limit: number): number {
  const nul = from < limit ? bytes.indexOf(0, from) : -1;
  if (nul < 0 || nul >= limit) {
    throw invalidIndex('expected a string ending in NUL in extension UNTR', from);
  }
  return nul + 1;
}
