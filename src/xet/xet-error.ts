/** What can go wrong with contents, in the few kinds that a program that stores files tells apart. */
import { errnoOf, Git2dbError, messageOf } from './errors.ts';

export type XetErrorKind =
  | 'InvalidPointer'
  | 'DownloadFailed'
  | 'UploadFailed'
  | 'StorageNotInitialized'
  | 'IoError'
  | 'RuntimeError'
  | 'InvalidConfig';

const KINDS: Readonly<Record<string, XetErrorKind>> = {
  INVALID_POINTER: 'InvalidPointer',
  INVALID_HASH: 'InvalidPointer',
  CONTENT_MISSING: 'DownloadFailed',
  CONTENT_DAMAGED: 'DownloadFailed',
  INVALID_XORB: 'DownloadFailed',
  INVALID_SHARD: 'DownloadFailed',
  INVALID_LZ4: 'DownloadFailed',
  INVALID_CATALOG: 'DownloadFailed',
  STORE_UNWRITABLE: 'UploadFailed',
  DISK_FULL: 'UploadFailed',
  INVALID_JOURNAL: 'UploadFailed',
  STORE_UNSUPPORTED: 'InvalidConfig',
  INVALID_CONFIG: 'InvalidConfig',
  URL_INVALID: 'InvalidConfig',
};

/** Codes that say nothing of the direction. */
const OF_THE_NETWORK: ReadonlySet<string> = new Set([
  'NETWORK',
  'AUTH_FAILED',
  'REMOTE_FORBIDDEN',
  'REMOTE_MISSING',
  'REMOTE_INVALID',
  'TRUST_REQUIRED',
]);

/** `code` is that of the error underneath; `kind` is the coarser question. */
export class XetError extends Git2dbError {
  readonly kind: XetErrorKind;

  constructor(kind: XetErrorKind, error: Git2dbError) {
    super(error.code, error.message, { cause: error, data: error.data });
    this.name = 'XetError';
    this.kind = kind;
  }
}

/**
 * `error` as a XetError; an AbortError and programming errors stay what they are. `failed`: what was tried, for
 * failures of the network, and for contents that could not be sent.
 */
export function xetErrorOf(error: unknown, failed: XetErrorKind = 'RuntimeError'): unknown {
  if (error instanceof XetError || !(error instanceof Error) || error.name === 'AbortError') return error;
  if (error instanceof Git2dbError) return new XetError(kindOf(error, failed), error);
  if (errnoOf(error) === undefined) return error;
  const full = errnoOf(error) === 'ENOSPC' || errnoOf(error) === 'EDQUOT';
  const told = new Git2dbError(full ? 'DISK_FULL' : 'STORE_UNWRITABLE', messageOf(error), { cause: error });
  return new XetError('IoError', told);
}

function kindOf({ code }: Git2dbError, failed: XetErrorKind): XetErrorKind {
  if (OF_THE_NETWORK.has(code)) return failed;
  const kind = KINDS[code] ?? 'RuntimeError';
  return kind === 'DownloadFailed' && failed === 'UploadFailed' ? failed : kind;
}
