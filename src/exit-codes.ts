/**
 * What the programs say by their exit status; docs/exit-codes.md is the same table for readers.
 * 1 is an answer ("no", or "not all of it"); from 3 on there is one number per class of error.
 * A number that was once given is never given to another class.
 */
import type { ErrorCode } from './xet/errors.ts';

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
  NAME_INVALID: 50,
  NAME_TAKEN: 51,
  URL_INVALID: 52,
  NOT_FOUND: 53,
  LOCK_TIMEOUT: 54,
  REGISTRY_INVALID: 55,
  REGISTRY_MOVED: 56,
  CONFLICT: 57,
  REF_INVALID: 58,
  AUTH_FAILED: 59,
  NETWORK: 60,
  MERGE_CONFLICT: 61,
  WORKTREE_EXISTS: 62,
  WORKTREE_BUSY: 63,
  WORKTREE_DIRTY: 64,
  NOT_REACHABLE: 65,
  DRIVER_UNAVAILABLE: 66,
  TRUST_REQUIRED: 67,
  WORKTREE_NEEDED: 68,
  BRANCH_IN_USE: 69,
  REF_EXISTS: 70,
  NOT_MERGED: 71,
  NOT_FAST_FORWARD: 72,
  HISTORIES_UNRELATED: 73,
  NOTHING_TO_COMMIT: 74,
  HOOK_FAILED: 75,
  IDENTITY_UNKNOWN: 76,
  SIGNING_FAILED: 77,
  OPERATION_IN_PROGRESS: 78,
  NO_OPERATION: 79,
  OBJECT_MISSING: 80,
  PATH_INVALID: 81,
  OWNER_DUBIOUS: 82,
  REMOTE_FORBIDDEN: 83,
  REMOTE_MISSING: 84,
  REMOTE_INVALID: 85,
};

export function exitCodeOf(error: unknown): number {
  if (!(error instanceof Error)) return EXIT_UNEXPECTED;
  // By its code: a program is several bundles, and each has a class of its own for the same errors.
  const { code } = error as { code?: unknown };
  if (typeof code === 'string' && Object.hasOwn(EXIT_CODES, code)) return EXIT_CODES[code as ErrorCode];
  return error.name === 'AbortError' ? EXIT_INTERRUPTED : EXIT_UNEXPECTED;
}
