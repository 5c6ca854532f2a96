/**
 * The stat data git keeps of a file, to know without reading it that it has not changed. Nine
 * 32-bit numbers, big-endian, each the low 32 bits of what lstat(2) said:
 *
 *     in an index entry            in the untracked cache
 *      0  ctime, seconds            0  ctime, seconds
 *      4  ctime, nanoseconds        4  ctime, nanoseconds
 *      8  mtime, seconds            8  mtime, seconds
 *     12  mtime, nanoseconds       12  mtime, nanoseconds
 *     16  dev                      16  dev
 *     20  ino                      20  ino
 *     24  (mode, not stat data)    24  uid
 *     28  uid                      28  gid
 *     32  gid                      32  size
 *     36  size
 *
 * Size: a file of 4 GiB (or a multiple) has the low 32 bits 0, and 0 means "never known, compare the
 * contents". Since 2.43 git writes and expects 0x80000000 for such a file. Older git, and other
 * readers, take that number for a size that differs and call the file modified for ever. So 0 is
 * written: every version then compares the contents, once where git is new.
 */

import type { BigIntStats } from 'node:fs';

/** The part of lstat's answer (`bigint: true`) that the index keeps, and the mode. */
export type FileStat = Pick<
  BigIntStats,
  'dev' | 'ino' | 'uid' | 'gid' | 'size' | 'mtimeNs' | 'ctimeNs' | 'mode'
>;

const NS_PER_SECOND = 1_000_000_000n;

/** Where the size stands in an index entry. */
export const SIZE_AT = 36;
/** Bytes of a stat record in the untracked cache. */
export const STAT_DATA_SIZE = 36;
/** Where the mtime's seconds stand in a stat record, of either kind. */
export const MTIME_SECONDS_AT = 8;

/** Writes the nine fields into the index entry at `offset` of `bytes`; its mode stays. */
export function writeStatData(bytes: Buffer, offset: number, stat: FileStat): void {
  bytes.writeUInt32BE(secondsOf(stat.ctimeNs), offset);
  bytes.writeUInt32BE(nanosecondsOf(stat.ctimeNs), offset + 4);
  bytes.writeUInt32BE(secondsOf(stat.mtimeNs), offset + MTIME_SECONDS_AT);
  bytes.writeUInt32BE(nanosecondsOf(stat.mtimeNs), offset + 12);
  bytes.writeUInt32BE(low32(stat.dev), offset + 16);
  bytes.writeUInt32BE(low32(stat.ino), offset + 20);
  bytes.writeUInt32BE(low32(stat.uid), offset + 28);
  bytes.writeUInt32BE(low32(stat.gid), offset + 32);
  bytes.writeUInt32BE(low32(stat.size), offset + SIZE_AT);
}

/** The seconds of a time in nanoseconds as git stores them: rounded down, the low 32 bits. */
export function secondsOf(timeNs: bigint): number {
  return low32((timeNs - BigInt(nanosecondsOf(timeNs))) / NS_PER_SECOND);
}

/** Whether `field`, the size in an index entry, is how any version of git notes a file of `size` bytes. */
export function isSizeField(field: number, size: bigint): boolean {
  const low = low32(size);
  return field === low || (low === 0 && size !== 0n && field === 0x8000_0000);
}

function nanosecondsOf(timeNs: bigint): number {
  const rest = timeNs % NS_PER_SECOND;
  return Number(rest < 0n ? rest + NS_PER_SECOND : rest);
}

function low32(value: bigint): number {
  return Number(BigInt.asUintN(32, value));
}
