/**
 * One entry of the index file, and the stepping from one to the next; format.ts has the layout.
 */

import type { IndexView } from './format.ts';
import { invalidIndex } from './invalid-index.ts';
import { MTIME_SECONDS_AT, SIZE_AT } from './stat-data.ts';
import { readVarint } from './varint.ts';

/** Size of an object id in bytes: SHA-1 or SHA-256. */
export type HashSize = 20 | 32;

export const HEADER_SIZE = 12;
/** The bits of a mode, in the index as of lstat, that say what kind of file it is. */
export const MODE_TYPE_MASK = 0o170000;
export const MODE_REGULAR = 0o100000;
export const MODE_SYMLINK = 0o120000;

/** Where the object id stands in an entry; the flags follow it. */
export const OID_AT = 40;
/** In the flags: a second 16 bits of flags follow. */
export const FLAG_EXTENDED = 0x4000;
export const PATH_LENGTH_MASK = 0x0fff;

const MODE_AT = 24;
const EXTENDED_FLAGS = 0x6000;

/**
 * One entry, read on demand from the bytes of the file it stands in. `path` is valid as long as
 * those bytes are.
 */
export class IndexEntry {
  /** The bytes of the index file that holds this entry: of a split index, one of the two. */
  readonly bytes: Buffer;
  /** Where the entry starts in `bytes`. */
  readonly offset: number;
  /** Bytes from the top of the work tree, `/` between names, no `/` before. */
  readonly path: Buffer;
  /** The position of the entry in the shared file of a split index, or -1 for an entry that is not in it. */
  readonly sharedPosition: number;
  readonly #hashSize: HashSize;

  constructor(bytes: Buffer, offset: number, path: Buffer, hashSize: HashSize, sharedPosition = -1) {
    this.bytes = bytes;
    this.offset = offset;
    this.path = path;
    this.sharedPosition = sharedPosition;
    this.#hashSize = hashSize;
  }

  /** Type and permission bits, as in a tree. */
  get mode(): number {
    return this.bytes.readUInt32BE(this.offset + MODE_AT);
  }

  get oid(): string {
    const start = this.offset + OID_AT;
    return this.bytes.toString('hex', start, start + this.#hashSize);
  }

  /** The 16 flag bits: assume-valid, extended, stage, path length. */
  get flags(): number {
    return this.bytes.readUInt16BE(this.offset + OID_AT + this.#hashSize);
  }

  /** The second 16 flag bits, 0 where the entry has none. */
  get extendedFlags(): number {
    return (this.flags & FLAG_EXTENDED) === 0
      ? 0
      : this.bytes.readUInt16BE(this.offset + OID_AT + this.#hashSize + 2);
  }

  /** 0, or the side of a merge conflict: 1 base, 2 ours, 3 theirs. */
  get stage(): number {
    return (this.flags >> 12) & 3;
  }

  get assumeValid(): boolean {
    return (this.flags & 0x8000) !== 0;
  }

  get skipWorktree(): boolean {
    return (this.extendedFlags & 0x4000) !== 0;
  }

  get intentToAdd(): boolean {
    return (this.extendedFlags & 0x2000) !== 0;
  }

  /** Size of the file in the work tree, modulo 2^32; 0 also where it is not known. */
  get size(): number {
    return this.bytes.readUInt32BE(this.offset + SIZE_AT);
  }

  get mtimeSeconds(): number {
    return this.bytes.readUInt32BE(this.offset + MTIME_SECONDS_AT);
  }

  /** The bytes before the path: stat data, mode, object id and flags. */
  get fixedPart(): Buffer {
    const size = OID_AT + this.#hashSize + ((this.flags & FLAG_EXTENDED) === 0 ? 2 : 4);
    return this.bytes.subarray(this.offset, this.offset + size);
  }
}

/**
 * The entries that stand in this one file, in file order. For a split index that is not the
 * repository's list of files: some entries have an empty path, most are elsewhere (see entries.ts).
 */
export function* ownEntries(view: IndexView): Generator<IndexEntry> {
  const cursor = new EntryCursor(view.bytes, view.version, view.hashSize);
  for (let i = 0; i < view.entryCount; i++) {
    cursor.advance();
    yield new IndexEntry(view.bytes, cursor.offset, cursor.path(), view.hashSize);
  }
}

/** Steps over the entries of one file; the only place that knows where one ends. */
export class EntryCursor {
  /** Where the current entry starts. */
  offset = 0;
  /** Where the next one starts. */
  next = HEADER_SIZE;
  readonly #bytes: Buffer;
  readonly #version: number;
  readonly #hashSize: HashSize;
  readonly #limit: number;
  #pathOffset = 0;
  #pathLength = 0;
  /** Version 4: the current path, put together; grows as needed. */
  #assembled: Buffer = Buffer.alloc(256);

  constructor(bytes: Buffer, version: number, hashSize: HashSize) {
    this.#bytes = bytes;
    this.#version = version;
    this.#hashSize = hashSize;
    this.#limit = bytes.length - hashSize;
  }

  advance(): void {
    this.offset = this.next;
    const flagsAt = this.offset + OID_AT + this.#hashSize;
    this.#expectRoom(flagsAt + 2);
    const flags = this.#bytes.readUInt16BE(flagsAt);
    let pathAt = flagsAt + 2;
    if ((flags & FLAG_EXTENDED) !== 0) {
      if (this.#version === 2) {
        throw invalidIndex(
          'an entry of version 2 has the extended bit, which only exists from 3 on',
          flagsAt,
        );
      }
      this.#expectRoom(pathAt + 2);
      const unknown = this.#bytes.readUInt16BE(pathAt) & ~EXTENDED_FLAGS;
      if (unknown !== 0) {
        throw invalidIndex(`an entry has flags that are not known: 0x${unknown.toString(16)}`, pathAt);
      }
      pathAt += 2;
    }
    if (this.#version === 4) {
      this.#readCompressedPath(pathAt);
    } else {
      this.#readPlainPath(pathAt, flags & PATH_LENGTH_MASK);
    }
    const noted = Math.min(this.#pathLength, PATH_LENGTH_MASK);
    if (noted !== (flags & PATH_LENGTH_MASK)) {
      throw invalidIndex(
        `the path is ${this.#pathLength} bytes, its entry says ${flags & PATH_LENGTH_MASK}`,
        flagsAt,
      );
    }
  }

  /** The path of the current entry; never overwritten by the next one. */
  path(): Buffer {
    return this.#version === 4
      ? Buffer.from(this.#assembled.subarray(0, this.#pathLength))
      : this.#bytes.subarray(this.#pathOffset, this.#pathOffset + this.#pathLength);
  }

  #readPlainPath(pathAt: number, notedLength: number): void {
    this.#pathOffset = pathAt;
    this.#pathLength = notedLength === PATH_LENGTH_MASK ? this.#terminator(pathAt) - pathAt : notedLength;
    const size = pathAt - this.offset + this.#pathLength;
    this.next = this.offset + size + 8 - (size % 8);
    this.#expectRoom(this.next);
    if (this.#bytes[pathAt + this.#pathLength] !== 0) {
      throw invalidIndex('expected a NUL after the path', pathAt + this.#pathLength);
    }
  }

  #readCompressedPath(pathAt: number): void {
    const dropped = readVarint(this.#bytes, pathAt, this.#limit);
    const kept = this.#pathLength - dropped.value;
    if (kept < 0) {
      throw invalidIndex(`the path drops ${dropped.value} bytes of one that has ${this.#pathLength}`, pathAt);
    }
    const terminator = this.#terminator(dropped.next);
    const length = kept + terminator - dropped.next;
    if (length > this.#assembled.length) {
      const larger = Buffer.alloc(length * 2);
      this.#assembled.copy(larger, 0, 0, kept);
      this.#assembled = larger;
    }
    this.#bytes.copy(this.#assembled, kept, dropped.next, terminator);
    this.#pathLength = length;
    this.next = terminator + 1;
  }

  #terminator(from: number): number {
    const at = this.#bytes.indexOf(0, from);
    if (at < 0 || at >= this.#limit) {
      throw invalidIndex('expected a NUL after the path, found the end of the file', from);
    }
    return at;
  }

  #expectRoom(end: number): void {
    if (end > this.#limit) {
      throw invalidIndex('expected one more entry, found the end of the file', this.offset);
    }
  }
}
