/**
 * Large files in a repository of ours, without any global configuration: the repository's own names our
 * filter by its absolute path, and the store that all repositories of the registry share.
 *
 * Both drivers are ours, each with a program of its own: git shares one process between drivers with the same
 * command and names none in a request.
 */

import { DIFF_WORD_REGEX, FILTER_PROGRAM } from '../large-files/install.ts';
import { Git2dbError } from '../xet/errors.ts';
import { filterCommand, lfsFilterCommand } from './filter-program.ts';
import type { GitPlace } from './git-place.ts';

export interface LargeFileSetup {
  /** The shared store; undefined: the repository's own. */
  readonly store?: string | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** Idempotent. Before the first checkout. Throws INVALID_CONFIG where our filter program cannot be found. */
export async function setUpLargeFiles(place: GitPlace, { store, signal }: LargeFileSetup): Promise<void> {
  for (const [key, value] of largeFileSettings(store)) {
    await place.git(['config', '--local', '--replace-all', key, value], { signal });
  }
}

/** What `git2db xet install` writes, with a command that PATH has no part in. */
export function largeFileSettings(store: string | undefined): [key: string, value: string][] {
  const command = filterCommand();
  if (command === undefined) {
    throw new Git2dbError(
      'INVALID_CONFIG',
      `the program ${FILTER_PROGRAM}, which git runs for large files, is neither in this installation nor on PATH: install git2db again`,
    );
  }
  const lfsCommand = lfsFilterCommand();
  return [
    ['filter.xet.process', command],
    ['filter.xet.required', 'true'],
    ['diff.xet.wordRegex', DIFF_WORD_REGEX],
    // Of an older installation, there may be the one program only.
    ...(lfsCommand === undefined
      ? []
      : ([
          ['filter.lfs.process', lfsCommand],
          ['filter.lfs.required', 'true'],
        ] as [string, string][])),
    ...(store === undefined ? [] : ([['xet.store', store]] as [string, string][])),
  ];
}
