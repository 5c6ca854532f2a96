/** Why a file could not be pulled, in words: the cause, and what to do about it. */
import { getSystemErrorMap } from 'node:util';
import { Git2dbError, messageOf } from '../xet/errors.ts';
import { isOutOfSpace } from './disk-space.ts';
import type { PointerFile } from './pointer-files.ts';

/** `failed` is for what the system did not allow, and for the disk that is full. */
export type FailureKind = 'missing' | 'damaged' | 'refused' | 'failed';

export interface FailedFile extends PointerFile {
  readonly kind: FailureKind;
  /** Cause and remedy, without the path. */
  readonly message: string;
}

export const REMEDY_FOR_MISSING =
  'get it from a machine that has it: `git remote add NAME PATH` for a repository there, then `git2db xet pull`';

export function failedFile(file: PointerFile, error: unknown): FailedFile {
  const kind = kindOf(error);
  if (isOutOfSpace(error)) {
    const message = `the disk is full, its ${file.size} bytes do not fit: make room, then run \`git2db xet pull\` again`;
    return { ...file, kind, message };
  }
  if (!(error instanceof Git2dbError)) return { ...file, kind, message: systemReason(error) };
  if (error.code !== 'CONTENT_MISSING') return { ...file, kind, message: error.message };
  const { places } = error.data;
  // The filter's own message goes on with what may be done in a checkout.
  if (Array.isArray(places)) return missingFile(file, places);
  return { ...file, kind, message: `${error.message}; ${REMEDY_FOR_MISSING}` };
}

/** For content that is in none of the stores in `places`. */
export function missingFile(file: PointerFile, places: readonly string[]): FailedFile {
  const message = `its content (${file.size} bytes) is not in ${places.join(' nor in ')}; ${REMEDY_FOR_MISSING}`;
  return { ...file, kind: 'missing', message };
}

function kindOf(error: unknown): FailureKind {
  if (!(error instanceof Git2dbError)) return 'failed';
  switch (error.code) {
    case 'CONTENT_MISSING':
      return 'missing';
    case 'REFUSED':
      return 'refused';
    case 'DISK_FULL':
    case 'LIMIT_EXCEEDED':
    case 'STORE_UNWRITABLE':
      return 'failed';
    default:
      return 'damaged';
  }
}

/** What the system said, without the paths of ours that it was said of. */
export function systemReason(error: unknown): string {
  const { errno, code } = error as { errno?: unknown; code?: unknown };
  const known = typeof errno === 'number' ? getSystemErrorMap().get(errno) : undefined;
  return known === undefined ? messageOf(error) : `it cannot be written: ${known[1]} (${String(code)})`;
}
