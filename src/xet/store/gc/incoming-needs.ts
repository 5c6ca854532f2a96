/** What writers have acknowledged and not sealed yet: their files, and the xorbs these rely on. */
import { FormatError, Git2dbError } from '../../errors.ts';
import { formatHash } from '../../hash/xet-hash.ts';
import { writerDirectories } from '../incoming.ts';
import { decodeJournal, type IncomingState } from '../journal.ts';
import type { StoreLayout } from '../layout.ts';
import { readJournal } from '../seal.ts';

export interface IncomingNeeds {
  /** File hashes, string form. */
  readonly files: ReadonlySet<string>;
  /** Published xorbs, string form. */
  readonly xorbs: ReadonlySet<string>;
}

/**
 * Reads every journal. A directory that is sealed, or taken over by another writer, while this looks may
 * be missed. Throws REFUSED for a journal that contradicts itself.
 */
export function readIncomingNeeds(layout: StoreLayout): IncomingNeeds {
  const files = new Set<string>();
  const xorbs = new Set<string>();
  for (const directory of writerDirectories(layout.incoming)) {
    const state = readState(directory);
    for (const { fileHash, terms } of state?.files ?? []) {
      files.add(formatHash(fileHash));
      for (const { xorbHash } of terms) if (xorbHash !== undefined) xorbs.add(formatHash(xorbHash));
    }
    for (const xorbHash of state?.adopted ?? []) xorbs.add(formatHash(xorbHash));
  }
  return { files, xorbs };
}

function readState(directory: string): IncomingState | undefined {
  const bytes = readJournal(directory);
  if (bytes === undefined) return undefined;
  try {
    return decodeJournal(bytes);
  } catch (error) {
    if (!(error instanceof FormatError)) throw error;
    throw new Git2dbError(
      'REFUSED',
      `the journal in ${directory} is damaged (${error.message}), so what it needs is not known and nothing can be ` +
        'given up; run `git2db xet fsck --repair` first',
      { cause: error, data: { directory } },
    );
  }
}
