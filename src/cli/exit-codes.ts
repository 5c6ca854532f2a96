/**
 * What the programs say by their exit status; docs/exit-codes.md is the same table for readers.
 * 1 is an answer ("no", or "not all of it"); from 3 on there is one number per class of error.
 * A number that was once given is never given to another class.
 */
import { type ErrorCode, Git2dbError } from '../xet/errors.ts';

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
};

export function exitCodeOf(error: unknown): number {
  if (error instanceof Git2dbError) return EXIT_CODES[error.code];
  if (error instanceof Error && error.name === 'AbortError') return EXIT_INTERRUPTED;
  return EXIT_UNEXPECTED;
}
