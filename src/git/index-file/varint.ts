/**
 * The variable-width integer of git's index (path prefixes of version 4, counts of the untracked
 * cache), the same encoding as the offset of an OFS_DELTA pack entry.
 *
 *     1vvvvvvv … 1vvvvvvv 0vvvvvvv     seven bits a byte, most significant group first
 *
 * Every byte after the first adds one before it shifts, so that each number has one spelling only.
 */

import { invalidIndex } from './invalid-index.ts';

export interface Varint {
  readonly value: number;
  /** The offset of the first byte after the number. */
  readonly next: number;
}

/** Reads the number at `offset`. One that runs past `limit`, or that exceeds 2^32 - 1, is INVALID_INDEX. */
export function readVarint(bytes: Buffer, offset: number, limit: number): Varint {
  let value = -1;
  for (let at = offset; at < limit; at++) {
    const byte = bytes[at]!;
    value = (value + 1) * 128 + (byte & 0x7f);
    if (value > 0xffff_ffff) {
      throw invalidIndex(`expected a number below 2^32, found a longer variable-width integer`, offset);
    }
    if ((byte & 0x80) === 0) {
      return { value, next: at + 1 };
    }
  }
  throw invalidIndex('expected a variable-width integer, found the end of the data', offset);
}
