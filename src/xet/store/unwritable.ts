import { errnoOf, Git2dbError } from '../errors.ts';

/** Gives what the system says about a failed write its place, and what to do about it; other errors stay. */
export function unwritable(root: string, error: unknown): unknown {
  const errno = errnoOf(error);
  if (errno === undefined || error instanceof Git2dbError) return error;
  const remedy = errno === 'ENOSPC' || errno === 'EDQUOT' ? 'Free some space there' : 'Make it writable';
  return new Git2dbError(
    'STORE_UNWRITABLE',
    `cannot write to the store ${root}: ${(error as Error).message}. ${remedy}, or choose another with \`git config xet.store DIR\``,
    { cause: error },
  );
}
