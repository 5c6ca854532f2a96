/** What to run, and how large. */
import { parseArgs } from 'node:util';
import { SHARED_OPTIONS, type SharedOptions, sharedOptions, whole } from '../bench-shared/options.ts';

export const CASES = ['worktree', 'first', 'commits', 'registry', 'handle'] as const;
export type Case = (typeof CASES)[number];

export interface Sizes {
  /** Files of the repository, and MB (of 1,000,000 bytes) of all of them. */
  readonly files: number;
  readonly megabytes: number;
  /** Repositories in the registry. */
  readonly repositories: number;
  /** Commits that are logged. */
  readonly commits: number;
  /** Blobs that are read. */
  readonly blobs: number;
}

export interface RegistryBenchOptions extends SharedOptions<Case> {
  readonly sizes: Sizes;
}

const FULL: Sizes = { files: 5000, megabytes: 200, repositories: 10_000, commits: 10_000, blobs: 1000 };
const SMALL: Sizes = { files: 200, megabytes: 4, repositories: 500, commits: 500, blobs: 100 };

export const USAGE = `usage: npm run bench:registry -- [options]

  --case NAME          one of ${CASES.join(', ')}; may be repeated; all unless given
  --rounds N           interleaved rounds; the median counts (7, with --small 3)
  --small              small inputs, for a machine that shows only whether it runs
  --files N            files of the repository (${FULL.files})
  --megabytes N        their bytes, in millions (${FULL.megabytes})
  --repositories N     repositories of the registry (${FULL.repositories})
  --commits N          commits that are logged (${FULL.commits})
  --blobs N            blobs that are read (${FULL.blobs})
  --json               all measurements as JSON on standard output
  --dir DIR            work there and keep the inputs for the next time
`;

/** Throws an Error with a message for a person. */
export function parseOptions(args: readonly string[]): RegistryBenchOptions | 'help' {
  const { values } = parseArgs({
    args: [...args],
    options: {
      ...SHARED_OPTIONS,
      small: { type: 'boolean' },
      files: { type: 'string' },
      megabytes: { type: 'string' },
      repositories: { type: 'string' },
      commits: { type: 'string' },
      blobs: { type: 'string' },
    },
  });
  if (values.help) return 'help';
  const usual = values.small ? SMALL : FULL;
  const sizes = {
    files: whole('--files', values.files, usual.files),
    megabytes: whole('--megabytes', values.megabytes, usual.megabytes),
    repositories: whole('--repositories', values.repositories, usual.repositories),
    commits: whole('--commits', values.commits, usual.commits),
    blobs: whole('--blobs', values.blobs, usual.blobs),
  };
  if (sizes.files < 100)
    throw new Error(`--files ${sizes.files}: at least 100, as commits differ in 1 % of them`);
  if (sizes.blobs > sizes.files)
    throw new Error(`--blobs ${sizes.blobs}: there are only ${sizes.files} files`);
  return {
    ...sharedOptions(values, CASES, values.small ? 3 : 7),
    sizes,
  };
}
