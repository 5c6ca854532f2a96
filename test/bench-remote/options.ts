/** What to run, and how large. */
import { parseArgs } from 'node:util';
import {
  positive,
  SHARED_OPTIONS,
  type SharedOptions,
  sharedOptions,
  whole,
} from '../bench-shared/options.ts';

export const CASES = ['large', 'second', 'many', 'memory', 'clients', 'bucket'] as const;
export type Case = (typeof CASES)[number];

export interface RemoteBenchOptions extends SharedOptions<Case> {
  /** MiB of the large file. */
  readonly sizeMb: number;
  /** GiB of the file that only memory is looked at for. */
  readonly bigGb: number;
  /** Files of 256 KiB. */
  readonly many: number;
  /** Clients that ask at once. */
  readonly clients: number;
  /** Shards in the bucket. */
  readonly shards: number;
}

export const USAGE = `usage: npm run bench:remote -- [options]

  --case NAME     one of ${CASES.join(', ')}; may be repeated; all unless given
  --size-mb N     size of the large file in MiB (1024)
  --many N        number of files of 256 KiB (2000)
  --big-gb N      size in GiB of the file that memory is measured with (4 for each 1024 of --size-mb)
  --clients N     clients that ask for metadata at once (200)
  --shards N      shards in the bucket (10000; 5 for each of --many where that is given)
  --rounds N      interleaved rounds; the median counts (3)
  --json          all measurements as JSON on standard output
  --dir DIR       work there and keep the inputs for the next time
`;

/** Throws an Error with a message for a person. */
export function parseOptions(args: readonly string[]): RemoteBenchOptions | 'help' {
  const { values } = parseArgs({
    args: [...args],
    options: {
      ...SHARED_OPTIONS,
      'size-mb': { type: 'string' },
      many: { type: 'string' },
      'big-gb': { type: 'string' },
      clients: { type: 'string' },
      shards: { type: 'string' },
    },
  });
  if (values.help) return 'help';
  const sizeMb = positive('--size-mb', values['size-mb'], 1024);
  const many = whole('--many', values.many, 2000);
  return {
    ...sharedOptions(values, CASES, 3),
    sizeMb,
    bigGb: positive('--big-gb', values['big-gb'], (4 * sizeMb) / 1024),
    many,
    clients: whole('--clients', values.clients, 200),
    shards: whole('--shards', values.shards, values.many === undefined ? 10_000 : 5 * many),
  };
}
