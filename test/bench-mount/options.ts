/** What to run, and how large. */
import { parseArgs } from 'node:util';
import { SHARED_OPTIONS, type SharedOptions, sharedOptions } from '../bench-shared/options.ts';

export const CASES = [
  'read',
  'write',
  'random',
  'find',
  'create',
  'git',
  'ready',
  'memory',
  'delay',
  'passthrough',
] as const;
export type Case = (typeof CASES)[number];

export interface MountBenchOptions extends SharedOptions<Case> {
  readonly sizes: Sizes;
}

export interface Sizes {
  /** MiB read and written in sequence, and read from at random. */
  readonly fileMb: number;
  readonly randomReads: number;
  /** Files that find looks at, and that are made and removed. */
  readonly find: number;
  readonly create: number;
  /** Files of the repository. */
  readonly repository: number;
  /** Names that the server knows when its memory is looked at. */
  readonly names: number;
  /** MiB of the file that is copied up while others go on. */
  readonly copyUpMb: number;
}

const FULL: Sizes = {
  fileMb: 1024,
  randomReads: 50_000,
  find: 20_000,
  create: 10_000,
  repository: 5_000,
  names: 100_000,
  copyUpMb: 4096,
};

const SMALL: Sizes = {
  fileMb: 64,
  randomReads: 5_000,
  find: 2_000,
  create: 1_000,
  repository: 500,
  names: 10_000,
  copyUpMb: 256,
};

export const USAGE = `usage: npm run bench:mount -- [options]

  --case NAME   one of ${CASES.join(', ')}; may be repeated; all unless given
  --rounds N    interleaved rounds; the median counts (5, with --small 3)
  --small       small inputs, for a machine that shows only whether it runs
  --json        all measurements as JSON on standard output
  --dir DIR     work there and keep the inputs for the next time
`;

/** Throws an Error with a message for a person. */
export function parseOptions(args: readonly string[]): MountBenchOptions | 'help' {
  const { values } = parseArgs({
    args: [...args],
    options: {
      ...SHARED_OPTIONS,
      small: { type: 'boolean' },
    },
  });
  if (values.help) return 'help';
  return {
    ...sharedOptions(values, CASES, values.small ? 3 : 5),
    sizes: values.small ? SMALL : FULL,
  };
}
