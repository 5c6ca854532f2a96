import { FormatError } from '../../xet/errors.ts';

/** The error for index bytes that cannot be read; `offset` counts from the start of the index file. */
export function invalidIndex(message: string, offset: number): FormatError {
  return new FormatError('INVALID_INDEX', `git index: ${message} (at byte ${offset})`, offset);
}
