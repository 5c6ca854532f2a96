/**
 * The pointer that git stores in place of a file's content. One line, exactly these keys in this order,
 * no white space, and a newline:
 *
 *     {"version":"1.0","filesize":<bytes>,"hash":"<file hash, 64 lower-case digits>"}
 *
 * The same content gives the same pointer everywhere. A CRLF in place of the newline, or no newline at
 * all, is read too (editors and mail do that); anything else is not a pointer but content.
 */
import { Git2dbError } from '../errors.ts';

export interface XetPointer {
  readonly kind: 'xet';
  /** File hash, string form. */
  readonly hash: string;
  /** Bytes of the content. */
  readonly size: number;
  /** Whether these are the bytes `formatPointer` gives. */
  readonly canonical: boolean;
}

const XET_POINTER =
  /^\{"version":"1\.0","filesize":(0|[1-9][0-9]{0,15}),"hash":"([0-9a-f]{64})"\}(\r\n|\n|)$/;

/** Throws INVALID_POINTER if hash or size cannot stand in a pointer. */
export function formatPointer(hash: string, size: number): Buffer {
  if (!/^[0-9a-f]{64}$/.test(hash)) {
    throw new Git2dbError(
      'INVALID_POINTER',
      `a pointer needs a hash of 64 lower-case digits, not ${JSON.stringify(hash)}`,
    );
  }
  if (!Number.isSafeInteger(size) || size < 0) {
    throw new Git2dbError('INVALID_POINTER', `a pointer needs a size in whole bytes, not ${size}`);
  }
  return Buffer.from(`{"version":"1.0","filesize":${size},"hash":"${hash}"}\n`, 'latin1');
}

/** `text`: the whole content, one character per byte. */
export function parseXetPointer(text: string): XetPointer | undefined {
  const match = XET_POINTER.exec(text);
  if (match === null) return undefined;
  const [, digits, hash, end] = match as unknown as [string, string, string, string];
  const size = Number(digits);
  return Number.isSafeInteger(size) ? { kind: 'xet', hash, size, canonical: end === '\n' } : undefined;
}
