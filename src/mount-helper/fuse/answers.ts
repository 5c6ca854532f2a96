/**
 * Answers for a file system to fill in; made once and used for one request after another.
 *
 * Attributes are kept as the kernel wants them on the wire (`struct fuse_attr`): what a layer says is
 * copied word by word, and so is the answer, without a number being made of any of it.
 *
 *      0  u64  ino       8  u64  size      16  u64  blocks    24  i64  atime
 *     32  i64  mtime    40  i64  ctime     48  u32  atime ns  52  u32  mtime ns
 *     56  u32  ctime ns 60  u32  mode      64  u32  nlink     68  u32  uid
 *     72  u32  gid      76  u32  rdev      80  u32  blksize   84  u32  flags, 0
 */
import type { EntryAnswer } from './file-system.ts';

export const ATTRIBUTES_SIZE = 88;

/** The fields of `Attributes`, by themselves. */
export interface AttributeFields {
  ino: bigint;
  size: number;
  /** Of 512 bytes. */
  blocks: number;
  /** Whole seconds, negative before 1970, and nanoseconds in [0, 1e9). */
  atime: number;
  atimeNs: number;
  mtime: number;
  mtimeNs: number;
  ctime: number;
  ctimeNs: number;
  mode: number;
  nlink: number;
  uid: number;
  gid: number;
  /** As the kernel's `new_encode_dev`: minor & 0xff | major << 8 | (minor & ~0xff) << 12. */
  rdev: number;
  blksize: number;
}

/** What stat(2) shows. Sizes and times are exact up to 2^53 when they are read as numbers. */
export class Attributes implements AttributeFields {
  readonly words = new Uint32Array(ATTRIBUTES_SIZE / 4);
  readonly #ino = new BigUint64Array(this.words.buffer, 0, 1);

  get ino(): bigint {
    return this.#ino[0]!;
  }
  set ino(value: bigint) {
    this.#ino[0] = value;
  }

  get size(): number {
    return this.#get64(2);
  }
  set size(value: number) {
    this.#set64(2, value);
  }

  get blocks(): number {
    return this.#get64(4);
  }
  set blocks(value: number) {
    this.#set64(4, value);
  }

  get atime(): number {
    return this.#get64(6);
  }
  set atime(value: number) {
    this.#set64(6, value);
  }

  get mtime(): number {
    return this.#get64(8);
  }
  set mtime(value: number) {
    this.#set64(8, value);
  }

  get ctime(): number {
    return this.#get64(10);
  }
  set ctime(value: number) {
    this.#set64(10, value);
  }

  get atimeNs(): number {
    return this.words[12]!;
  }
  set atimeNs(value: number) {
    this.words[12] = value;
  }

  get mtimeNs(): number {
    return this.words[13]!;
  }
  set mtimeNs(value: number) {
    this.words[13] = value;
  }

  get ctimeNs(): number {
    return this.words[14]!;
  }
  set ctimeNs(value: number) {
    this.words[14] = value;
  }

  get mode(): number {
    return this.words[15]!;
  }
  set mode(value: number) {
    this.words[15] = value;
  }

  get nlink(): number {
    return this.words[16]!;
  }
  set nlink(value: number) {
    this.words[16] = value;
  }

  get uid(): number {
    return this.words[17]!;
  }
  set uid(value: number) {
    this.words[17] = value;
  }

  get gid(): number {
    return this.words[18]!;
  }
  set gid(value: number) {
    this.words[18] = value;
  }

  get rdev(): number {
    return this.words[19]!;
  }
  set rdev(value: number) {
    this.words[19] = value;
  }

  get blksize(): number {
    return this.words[20]!;
  }
  set blksize(value: number) {
    this.words[20] = value;
  }

  #get64(word: number): number {
    return (this.words[word + 1]! | 0) * 0x1_0000_0000 + this.words[word]!;
  }

  /** Two's complement: `floor` and the conversion to 32 bits make it of a negative number as well. */
  #set64(word: number, value: number): void {
    this.words[word] = value >>> 0;
    this.words[word + 1] = Math.floor(value / 0x1_0000_0000) >>> 0;
  }
}

export function emptyAttributes(): Attributes {
  return new Attributes();
}

export function emptyEntry(): EntryAnswer {
  return {
    node: 0,
    generation: 0,
    entryTimeoutMs: 0,
    attributesTimeoutMs: 0,
    attributes: emptyAttributes(),
  };
}
