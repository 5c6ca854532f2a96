/**
 * Writing the bodies of replies, as words of 32 bits. `at` is an offset in bytes, a multiple of 8. Offsets
 * below are from the start of the structure; what is unused is zero. `attr` is in `answers.ts`.
 *
 *     entry, 128 bytes                         attr_out, 104 bytes
 *      0  u64  node      8  u64  generation      0  u64  valid s   8  u32  valid ns   16  attr
 *     16  u64  entry valid s   24  u64  attr valid s
 *     32  u32  entry valid ns  36  u32  attr valid ns
 *     40       attr
 *
 *     open, 16 bytes                           dirent, 24 bytes and the name, padded with zeros to 8
 *      0  u64  handle                            0  u64  ino       8  u64  offset of the next
 *      8  u32  flags    12  i32  backing id     16  u32  length of the name   20  u32  type
 *
 *     notice of changed attributes, 40 bytes
 *      0  u32  length    4  i32  2, INVAL_INODE  8  u64  0, as it answers nothing
 *     16  u64  node     24  i64  -1: no pages   32  i64  0
 *
 *     statfs, 80 bytes                         direntplus: an entry, then a dirent
 *      0  u64  blocks    8  u64  bfree   16  u64  bavail   24  u64  files   32  u64  ffree
 *     40  u32  bsize    44  u32  namelen 48  u32  frsize   52  28 unused
 */
import type {
  AttributesAnswer,
  DirectorySink,
  EntryAnswer,
  FileSystemStatistics,
  OpenAnswer,
} from './file-system.ts';

export const ENTRY_SIZE = 128;
export const ATTRIBUTES_ANSWER_SIZE = 104;
export const OPEN_SIZE = 16;
export const STATISTICS_SIZE = 80;
export const NOTICE_SIZE = 40;
const DIRENT_SIZE = 24;
const INVAL_INODE = 2;

/** "For as long as you like": some 34 years. */
const FOREVER_MS = 2 ** 40;

/** Below 2^64, or negative: then as two's complement. */
export function putUint64(words: Uint32Array, at: number, value: number): void {
  const word = at >>> 2;
  words[word] = value >>> 0;
  words[word + 1] = Math.floor(value / 0x100000000) >>> 0;
}

/** A message of our own to the kernel: it is to ask for the node's attributes again. */
export function encodeAttributesNotice(words: Uint32Array, node: number): void {
  words[0] = NOTICE_SIZE;
  words[1] = INVAL_INODE;
  putUint64(words, 8, 0);
  putUint64(words, 16, node);
  putUint64(words, 24, -1);
  putUint64(words, 32, 0);
}

function wholeSeconds(timeoutMs: number): number {
  return Math.floor(Math.min(timeoutMs, FOREVER_MS) / 1000);
}

function restNanoseconds(timeoutMs: number): number {
  return timeoutMs >= FOREVER_MS ? 0 : Math.floor((timeoutMs % 1000) * 1e6);
}

export function encodeEntry(words: Uint32Array, at: number, of: EntryAnswer): number {
  putUint64(words, at, of.node);
  putUint64(words, at + 8, of.generation);
  putUint64(words, at + 16, wholeSeconds(of.entryTimeoutMs));
  putUint64(words, at + 24, wholeSeconds(of.attributesTimeoutMs));
  words[(at + 32) >>> 2] = restNanoseconds(of.entryTimeoutMs);
  words[(at + 36) >>> 2] = restNanoseconds(of.attributesTimeoutMs);
  words.set(of.attributes.words, (at + 40) >>> 2);
  return ENTRY_SIZE;
}

export function encodeAttributesAnswer(words: Uint32Array, at: number, of: AttributesAnswer): number {
  putUint64(words, at, wholeSeconds(of.timeoutMs));
  words[(at + 8) >>> 2] = restNanoseconds(of.timeoutMs);
  words[(at + 12) >>> 2] = 0;
  words.set(of.attributes.words, (at + 16) >>> 2);
  return ATTRIBUTES_ANSWER_SIZE;
}

export function encodeOpen(words: Uint32Array, at: number, of: OpenAnswer): number {
  putUint64(words, at, of.handle);
  words[(at + 8) >>> 2] = of.flags;
  words[(at + 12) >>> 2] = of.backingId;
  return OPEN_SIZE;
}

export function encodeStatistics(words: Uint32Array, at: number, of: FileSystemStatistics): number {
  putUint64(words, at, of.blocks);
  putUint64(words, at + 8, of.bfree);
  putUint64(words, at + 16, of.bavail);
  putUint64(words, at + 24, of.files);
  putUint64(words, at + 32, of.ffree);
  const word = (at + 40) >>> 2;
  words[word] = of.bsize;
  words[word + 1] = of.namelen;
  words[word + 2] = of.frsize;
  words.fill(0, word + 3, (at + STATISTICS_SIZE) >>> 2);
  return STATISTICS_SIZE;
}

/**
 * Takes directory entries into a reply until they fill what the kernel asked for. One is used again and
 * again.
 */
export class DirectoryEncoder implements DirectorySink {
  readonly #bytes: Uint8Array;
  readonly #words: Uint32Array;
  readonly #longs: BigUint64Array;
  #start = 0;
  #at = 0;
  #end = 0;
  #withEntries = false;

  /** `bytes` begin at an address, and have a length, that is a multiple of 8. */
  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
    this.#words = new Uint32Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 4);
    this.#longs = new BigUint64Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 8);
  }

  /** Begins a reply of at most `size` bytes at `start`, a multiple of 8; both within the bytes given before. */
  begin(start: number, size: number, withEntries: boolean): void {
    this.#start = start;
    this.#at = start;
    this.#end = start + size;
    this.#withEntries = withEntries;
  }

  /** Bytes taken so far. */
  get length(): number {
    return this.#at - this.#start;
  }

  add(name: Uint8Array, length: number, ino: bigint, type: number, nextOffset: number): boolean {
    if (!this.#hasRoom(length)) return false;
    if (this.#withEntries) {
      // Node 0: there is a name, and nothing more is known of it.
      this.#bytes.fill(0, this.#at, this.#at + ENTRY_SIZE);
      this.#at += ENTRY_SIZE;
    }
    this.#longs[this.#at >>> 3] = ino;
    this.#put(name, length, type, nextOffset);
    return true;
  }

  addWithEntry(
    name: Uint8Array,
    length: number,
    type: number,
    nextOffset: number,
    entry: EntryAnswer,
  ): boolean {
    if (!this.#hasRoom(length)) return false;
    const words = this.#words;
    if (this.#withEntries) this.#at += encodeEntry(words, this.#at, entry);
    const word = this.#at >>> 2;
    words[word] = entry.attributes.words[0]!;
    words[word + 1] = entry.attributes.words[1]!;
    this.#put(name, length, type, nextOffset);
    return true;
  }

  #hasRoom(nameLength: number): boolean {
    const size = (this.#withEntries ? ENTRY_SIZE : 0) + padded(nameLength);
    return this.#at + size <= this.#end;
  }

  /** All but the inode number. */
  #put(name: Uint8Array, length: number, type: number, nextOffset: number): void {
    const words = this.#words;
    const bytes = this.#bytes;
    const at = this.#at;
    putUint64(words, at + 8, nextOffset);
    words[(at + 16) >>> 2] = length;
    words[(at + 20) >>> 2] = type;
    const start = at + DIRENT_SIZE;
    const end = at + padded(length);
    // The last eight bytes may be padding in part.
    words[(end >>> 2) - 1] = 0;
    words[(end >>> 2) - 2] = 0;
    for (let i = 0; i < length; i++) bytes[start + i] = name[i]!;
    this.#at = end;
  }
}

function padded(nameLength: number): number {
  return (DIRENT_SIZE + nameLength + 7) & ~7;
}
