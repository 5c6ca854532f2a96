/**
 * Errors of git2db, in one list for all rooms. Each way of failing that a caller might treat
 * differently has its own `code`; `data` holds the facts a program may want (offset, hash, path), the
 * message holds them for a person: what was expected, what was found, where, and what to do.
 */

export type ErrorCode =
  | 'INVALID_POINTER'
  | 'INVALID_HASH'
  | 'INVALID_XORB'
  | 'INVALID_SHARD'
  | 'INVALID_LZ4'
  | 'INVALID_CATALOG'
  | 'INVALID_JOURNAL'
  | 'INVALID_CONFIG'
  | 'LIMIT_EXCEEDED'
  | 'CONTENT_MISSING'
  | 'CONTENT_DAMAGED'
  | 'STORE_UNSUPPORTED'
  | 'STORE_UNWRITABLE'
  | 'PROTOCOL'
  | 'NOT_A_REPOSITORY'
  | 'GIT_FAILED'
  | 'GIT_MISSING'
  | 'INVALID_INDEX'
  | 'INDEX_LOCKED'
  | 'USAGE'
  | 'REFUSED'
  | 'DISK_FULL'
  | MountErrorCode
  | RegistryErrorCode
  | GitErrorCode
  | RemoteErrorCode;

/** What can be wrong with a mount: mostly refusals, before anything was changed. */
export type MountErrorCode =
  | 'DIRECTORY_MISSING'
  | 'DIRECTORY_FORBIDDEN'
  | 'LAYERS_OVERLAP'
  | 'WORK_ELSEWHERE'
  | 'WORK_NOT_EMPTY'
  | 'MERGED_NOT_EMPTY'
  | 'MERGED_IN_LAYER'
  | 'MERGED_DEAD'
  | 'PATH_UNSUITABLE'
  | 'UPPER_FOREIGN'
  | 'UPPER_BUSY'
  | 'VOLATILE_LEFTOVER'
  | 'INVALID_STAMP'
  | 'INVALID_RECORD'
  | 'FUSE_MISSING'
  | 'FUSE_FORBIDDEN'
  | 'FUSERMOUNT_MISSING'
  | 'ALLOW_OTHER_FORBIDDEN'
  | 'KERNEL_TOO_OLD'
  | 'BACKEND_UNAVAILABLE'
  | 'NATIVE_MODULE_MISSING'
  | 'MOUNT_FAILED'
  | 'SERVER_FAILED'
  | 'NOT_MOUNTED'
  | 'MOUNT_BUSY';

/** What can be wrong with a registry, its repositories and their worktrees, and with git's remotes. */
export type RegistryErrorCode =
  | 'NAME_INVALID'
  | 'NAME_TAKEN'
  | 'URL_INVALID'
  | 'NOT_FOUND'
  | 'LOCK_TIMEOUT'
  | 'REGISTRY_INVALID'
  | 'REGISTRY_MOVED'
  | 'CONFLICT'
  | 'REF_INVALID'
  | 'AUTH_FAILED'
  | 'NETWORK'
  | 'MERGE_CONFLICT'
  | 'WORKTREE_EXISTS'
  | 'WORKTREE_BUSY'
  | 'WORKTREE_DIRTY'
  | 'NOT_REACHABLE'
  | 'DRIVER_UNAVAILABLE'
  | 'TRUST_REQUIRED';

/** Why git, or an operation made of git's commands, did not do what was asked. */
export type GitErrorCode =
  | 'WORKTREE_NEEDED'
  | 'BRANCH_IN_USE'
  | 'REF_EXISTS'
  | 'NOT_MERGED'
  | 'NOT_FAST_FORWARD'
  | 'HISTORIES_UNRELATED'
  | 'NOTHING_TO_COMMIT'
  | 'HOOK_FAILED'
  | 'IDENTITY_UNKNOWN'
  | 'SIGNING_FAILED'
  | 'OPERATION_IN_PROGRESS'
  | 'NO_OPERATION'
  | 'OBJECT_MISSING'
  | 'PATH_INVALID'
  | 'OWNER_DUBIOUS';

/** What can be wrong with a place that content is sent to or fetched from, besides AUTH_FAILED and NETWORK. */
export type RemoteErrorCode = 'REMOTE_FORBIDDEN' | 'REMOTE_MISSING' | 'REMOTE_INVALID';

/** The same call may succeed later, or when repeated as it is. */
const RECOVERABLE: ReadonlySet<ErrorCode> = new Set([
  'LOCK_TIMEOUT',
  'NETWORK',
  'CONFLICT',
  'WORKTREE_BUSY',
  'INDEX_LOCKED',
  'MOUNT_BUSY',
  'UPPER_BUSY',
]);

export interface ErrorOptions {
  readonly cause?: unknown;
  readonly data?: Readonly<Record<string, unknown>>;
}

/** Base of every error this project throws on purpose. */
export class Git2dbError extends Error {
  readonly code: ErrorCode;
  readonly data: Readonly<Record<string, unknown>>;

  constructor(code: ErrorCode, message: string, options: ErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = 'Git2dbError';
    this.code = code;
    this.data = options.data ?? {};
  }

  /** True where trying again, later and unchanged, may succeed. */
  get recoverable(): boolean {
    return RECOVERABLE.has(this.code);
  }
}

/** Bytes that break a format. `offset` counts from the start of the object that is named. */
export class FormatError extends Git2dbError {
  readonly offset: number;

  constructor(code: ErrorCode, message: string, offset: number, options: ErrorOptions = {}) {
    super(code, message, { ...options, data: { ...options.data, offset } });
    this.name = 'FormatError';
    this.offset = offset;
  }
}

/** The system's error number of a failed call (`ENOENT`), or undefined. */
export function errnoOf(error: unknown): string | undefined {
  const code = (error as { code?: unknown } | null)?.code;
  return typeof code === 'string' ? code : undefined;
}

/** One line for a person: the message of `error`, without a stack. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
