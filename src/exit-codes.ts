/**
 * What the programs say by their exit status; docs/exit-codes.md is the same table for readers.
 * 1 is an answer ("no", or "not all of it"); from 3 on there is one number per class of error.
 * A number that was once given is never given to another class.
 */
import { type ErrorCode, Git2dbError } from './xet/errors.ts';

export const EXIT_OK = 0;
/** The thing asked is false, or some items failed; all of them were named on stderr. */
export const EXIT_FALSE = 1;
export const EXIT_USAGE = 2;
/** Not an error of ours: a system call failed, or the program has a bug. */
export const EXIT_UNEXPECTED = 3;
/** 128 + SIGINT, as shells report it. */
export const EXIT_INTERRUPTED = 130;
/** 128 + SIGPIPE: the reader of standard output went away. */
export const EXIT_PIPE = 141;

export const EXIT_CODES: Readonly<Record<ErrorCode, number>> = {
  USAGE: EXIT_USAGE,
  NOT_A_REPOSITORY: 4,
  GIT_FAILED: 5,
  GIT_MISSING: 6,
  INVALID_CONFIG: 7,
  REFUSED: 8,
  CONTENT_MISSING: 9,
  CONTENT_DAMAGED: 10,
  STORE_UNSUPPORTED: 11,
  STORE_UNWRITABLE: 12,
  INVALID_POINTER: 13,
  INVALID_HASH: 14,
  INVALID_XORB: 15,
  INVALID_SHARD: 16,
  INVALID_LZ4: 17,
  INVALID_CATALOG: 18,
  INVALID_JOURNAL: 19,
  INVALID_INDEX: 20,
  INDEX_LOCKED: 21,
  LIMIT_EXCEEDED: 22,
  PROTOCOL: 23,
  DISK_FULL: 24,
  DIRECTORY_MISSING: 25,
  DIRECTORY_FORBIDDEN: 26,
  LAYERS_OVERLAP: 27,
  WORK_ELSEWHERE: 28,
  WORK_NOT_EMPTY: 29,
  MERGED_NOT_EMPTY: 30,
  MERGED_IN_LAYER: 31,
  MERGED_DEAD: 32,
  PATH_UNSUITABLE: 33,
  UPPER_FOREIGN: 34,
  UPPER_BUSY: 35,
  VOLATILE_LEFTOVER: 36,
  INVALID_STAMP: 37,
  INVALID_RECORD: 38,
  FUSE_MISSING: 39,
  FUSE_FORBIDDEN: 40,
  FUSERMOUNT_MISSING: 41,
  ALLOW_OTHER_FORBIDDEN: 42,
  KERNEL_TOO_OLD: 43,
  BACKEND_UNAVAILABLE: 44,
  NATIVE_MODULE_MISSING: 45,
  MOUNT_FAILED: 46,
  SERVER_FAILED: 47,
  NOT_MOUNTED: 48,
  MOUNT_BUSY: 49,
};

export function exitCodeOf(error: unknown): number {
  if (error instanceof Git2dbError) return EXIT_CODES[error.code];
  if (error instanceof Error && error.name === 'AbortError') return EXIT_INTERRUPTED;
  return EXIT_UNEXPECTED;
}
