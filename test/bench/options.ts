/** What to run, and how large. */
import { parseArgs } from 'node:util';
import {
  positive,
  SHARED_OPTIONS,
  type SharedOptions,
  sharedOptions,
  whole,
} from '../bench-shared/options.ts';

export const CASES = [
  'add',
  'second',
  'checkout',
  'reclean',
  'many',
  'gc',
  'memory',
  'startup',
  'million',
] as const;
export type Case = (typeof CASES)[number];

export interface BenchOptions extends SharedOptions<Case> {
  /** Names of those that take part; all unless given. `cp` always does. */
  readonly contenders: readonly string[] | undefined;
  /** MiB of each large file. */
  readonly sizeMb: number;
  /** GiB of the file that only memory is looked at for. */
  readonly bigGb: number;
  /** Files of 256 KiB. */
  readonly many: number;
  /** Separate runs of `git add` before a garbage collection. */
  readonly adds: number;
  /** Chunks of the store that is only opened and searched. */
  readonly chunks: number;
  /** Holds the store of git2db, on another disk for instance; inside the repository unless given. */
  readonly storeDir: string | undefined;
}

export const USAGE = `usage: npm run bench -- [options]

  --case NAME        one of ${CASES.join(', ')}; may be repeated; all unless given
  --contender NAME   one of those in the tables; may be repeated; all unless given
  --size-mb N        size of each large file in MiB (1024)
  --many N           number of files of 256 KiB (2000)
  --adds N           separate runs of git add before gc (5000, or --many where that is given)
  --big-gb N         size in GiB of the file that memory is measured with (8 for each 1024 of --size-mb)
  --chunks N         chunks of the store that is opened and searched (500 for each of --many)
  --rounds N         interleaved rounds; the best value of each column counts (3)
  --json             all measurements as JSON on standard output
  --dir DIR          work there and keep the inputs for the next time
  --store-dir DIR    keep the store of git2db there, not in the repository
`;

/** Throws an Error with a message for a person. */
export function parseOptions(args: readonly string[]): BenchOptions | 'help' {
  const { values } = parseArgs({
    args: [...args],
    options: {
      ...SHARED_OPTIONS,
      contender: { type: 'string', multiple: true },
      'size-mb': { type: 'string' },
      many: { type: 'string' },
      adds: { type: 'string' },
      'big-gb': { type: 'string' },
      chunks: { type: 'string' },
      'store-dir': { type: 'string' },
    },
  });
  if (values.help) return 'help';
  const sizeMb = positive('--size-mb', values['size-mb'], 1024);
  const many = whole('--many', values.many, 2000);
  return {
    ...sharedOptions(values, CASES, 3),
    contenders: values.contender,
    sizeMb,
    bigGb: positive('--big-gb', values['big-gb'], (8 * sizeMb) / 1024),
    many,
    adds: whole('--adds', values.adds, values.many === undefined ? 5000 : many),
    chunks: whole('--chunks', values.chunks, 500 * many),
    storeDir: values['store-dir'],
  };
}
