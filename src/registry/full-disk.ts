/** Git does not always say that the disk is full: it takes a file that it could not write for an empty one. */
import { statfsSync } from 'node:fs';
import { Git2dbError } from '../xet/errors.ts';

/** What git says where it could not write, and why is not in it. */
const COULD_NOT_WRITE =
  /empty commit message|(?:[Cc]ould not|[Cc]ouldn't|[Ff]ailed to|[Uu]nable to) write|write (?:error|failure)/;
/** With less than this free, that is why. Of what git wrote before some may have been taken back. */
const FULL_BYTES = 64 * 1024;

/** `error` of a git that worked on `directories`: DISK_FULL where that is what it is, else as it was. */
export function tellFullDisk(error: unknown, directories: readonly (string | undefined)[]): unknown {
  if (!(error instanceof Git2dbError) || typeof error.data.stderr !== 'string') return error;
  if (error.code === 'DISK_FULL' || !COULD_NOT_WRITE.test(error.data.stderr)) return error;
  const full = directories.find((each) => each !== undefined && isFull(each));
  if (full === undefined) return error;
  return new Git2dbError(
    'DISK_FULL',
    `${error.message.replace(/\n$/, '')}\nthe disk with ${full} is full: make space and try again`,
    { cause: error, data: error.data },
  );
}

function isFull(directory: string): boolean {
  try {
    const { bavail, bsize, blocks, ffree, files } = statfsSync(directory);
    return (blocks > 0 && bavail * bsize < FULL_BYTES) || (files > 0 && ffree === 0);
  } catch {
    return false;
  }
}
