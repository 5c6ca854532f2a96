/**
 * Writing the bodies of replies. Offsets are from the start of the structure; what is unused is zero.
 *
 *     attr, 88 bytes                           entry, 128 bytes
 *      0  u64  ino       8  u64  size            0  u64  node      8  u64  generation
 *     16  u64  blocks   24  i64  atime          16  u64  entry valid s   24  u64  attr valid s
 *     32  i64  mtime    40  i64  ctime          32  u32  entry valid ns  36  u32  attr valid ns
 *     48  u32  atime ns 52  u32  mtime ns       40       attr
 *     56  u32  ctime ns 60  u32  mode
 *     64  u32  nlink    68  u32  uid           attr_out, 104 bytes
 *     72  u32  gid      76  u32  rdev            0  u64  valid s   8  u32  valid ns   16  attr
 *     80  u32  blksize  84  u32  flags
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
  Attributes,
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

export function putUint64(view: DataView, at: number, value: number): void {
  view.setUint32(at, value >>> 0, true);
  view.setUint32(at + 4, Math.floor(value / 0x100000000) >>> 0, true);
}

/** Two's complement: `floor` and `>>>` make it of a negative number as well. */
const putInt64 = putUint64;

/** A message of our own to the kernel: it is to ask for the node's attributes again. */
export function encodeAttributesNotice(view: DataView, node: number): void {
  view.setUint32(0, NOTICE_SIZE, true);
  view.setInt32(4, INVAL_INODE, true);
  putUint64(view, 8, 0);
  putUint64(view, 16, node);
  putInt64(view, 24, -1);
  putInt64(view, 32, 0);
}

export function encodeAttributes(view: DataView, at: number, of: Attributes): void {
  view.setBigUint64(at, of.ino, true);
  putUint64(view, at + 8, of.size);
  putUint64(view, at + 16, of.blocks);
  putInt64(view, at + 24, of.atime);
  putInt64(view, at + 32, of.mtime);
  putInt64(view, at + 40, of.ctime);
  view.setUint32(at + 48, of.atimeNs, true);
  view.setUint32(at + 52, of.mtimeNs, true);
  view.setUint32(at + 56, of.ctimeNs, true);
  view.setUint32(at + 60, of.mode, true);
  view.setUint32(at + 64, of.nlink, true);
  view.setUint32(at + 68, of.uid, true);
  view.setUint32(at + 72, of.gid, true);
  view.setUint32(at + 76, of.rdev, true);
  view.setUint32(at + 80, of.blksize, true);
  view.setUint32(at + 84, 0, true);
}

function wholeSeconds(timeoutMs: number): number {
  return Math.floor(Math.min(timeoutMs, FOREVER_MS) / 1000);
}

function restNanoseconds(timeoutMs: number): number {
  return timeoutMs >= FOREVER_MS ? 0 : Math.floor((timeoutMs % 1000) * 1e6);
}

export function encodeEntry(view: DataView, at: number, of: EntryAnswer): number {
  putUint64(view, at, of.node);
  putUint64(view, at + 8, of.generation);
  putUint64(view, at + 16, wholeSeconds(of.entryTimeoutMs));
  putUint64(view, at + 24, wholeSeconds(of.attributesTimeoutMs));
  view.setUint32(at + 32, restNanoseconds(of.entryTimeoutMs), true);
  view.setUint32(at + 36, restNanoseconds(of.attributesTimeoutMs), true);
  encodeAttributes(view, at + 40, of.attributes);
  return ENTRY_SIZE;
}

export function encodeAttributesAnswer(view: DataView, at: number, of: AttributesAnswer): number {
  putUint64(view, at, wholeSeconds(of.timeoutMs));
  view.setUint32(at + 8, restNanoseconds(of.timeoutMs), true);
  view.setUint32(at + 12, 0, true);
  encodeAttributes(view, at + 16, of.attributes);
  return ATTRIBUTES_ANSWER_SIZE;
}

export function encodeOpen(view: DataView, at: number, of: OpenAnswer): number {
  putUint64(view, at, of.handle);
  view.setUint32(at + 8, of.flags, true);
  view.setInt32(at + 12, of.backingId, true);
  return OPEN_SIZE;
}

export function encodeStatistics(view: DataView, at: number, of: FileSystemStatistics): number {
  putUint64(view, at, of.blocks);
  putUint64(view, at + 8, of.bfree);
  putUint64(view, at + 16, of.bavail);
  putUint64(view, at + 24, of.files);
  putUint64(view, at + 32, of.ffree);
  view.setUint32(at + 40, of.bsize, true);
  view.setUint32(at + 44, of.namelen, true);
  view.setUint32(at + 48, of.frsize, true);
  for (let rest = 52; rest < STATISTICS_SIZE; rest += 4) view.setUint32(at + rest, 0, true);
  return STATISTICS_SIZE;
}

/** Takes directory entries into a reply until they fill what the kernel asked for. One is used again and again. */
export class DirectoryEncoder implements DirectorySink {
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  #start = 0;
  #at = 0;
  #end = 0;
  #withEntries = false;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  /** Begins a reply of at most `size` bytes at `start`; both within the bytes given before. */
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

  add(name: Uint8Array, ino: bigint, type: number, nextOffset: number): boolean {
    if (!this.#hasRoom(name.length)) return false;
    if (this.#withEntries) {
      // Node 0: there is a name, and nothing more is known of it.
      this.#bytes.fill(0, this.#at, this.#at + ENTRY_SIZE);
      this.#at += ENTRY_SIZE;
    }
    this.#put(name, ino, type, nextOffset);
    return true;
  }

  addWithEntry(name: Uint8Array, type: number, nextOffset: number, entry: EntryAnswer): boolean {
    if (!this.#hasRoom(name.length)) return false;
    if (this.#withEntries) this.#at += encodeEntry(this.#view, this.#at, entry);
    this.#put(name, entry.attributes.ino, type, nextOffset);
    return true;
  }

  #hasRoom(nameLength: number): boolean {
    const size = (this.#withEntries ? ENTRY_SIZE : 0) + padded(nameLength);
    return this.#at + size <= this.#end;
  }

  #put(name: Uint8Array, ino: bigint, type: number, nextOffset: number): void {
    const view = this.#view;
    const at = this.#at;
    view.setBigUint64(at, ino, true);
    putUint64(view, at + 8, nextOffset);
    view.setUint32(at + 16, name.length, true);
    view.setUint32(at + 20, type, true);
    const end = at + padded(name.length);
    this.#bytes.set(name, at + DIRENT_SIZE);
    for (let rest = at + DIRENT_SIZE + name.length; rest < end; rest++) this.#bytes[rest] = 0;
    this.#at = end;
  }
}

function padded(nameLength: number): number {
  return (DIRENT_SIZE + nameLength + 7) & ~7;
}
