/** What to run, and how large. */
import { parseArgs } from 'node:util';

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

export interface BenchOptions {
  readonly cases: ReadonlySet<Case>;
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
  readonly rounds: number;
  readonly json: boolean;
  /** Where to work; the inputs stay there for the next time. A directory that is removed unless given. */
  readonly dir: string | undefined;
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
      case: { type: 'string', multiple: true },
      contender: { type: 'string', multiple: true },
      'size-mb': { type: 'string' },
      many: { type: 'string' },
      adds: { type: 'string' },
      'big-gb': { type: 'string' },
      chunks: { type: 'string' },
      rounds: { type: 'string' },
      json: { type: 'boolean' },
      dir: { type: 'string' },
      'store-dir': { type: 'string' },
      help: { type: 'boolean' },
    },
  });
  if (values.help) return 'help';
  const sizeMb = positive('--size-mb', values['size-mb'], 1024);
  const many = whole('--many', values.many, 2000);
  return {
    cases: new Set((values.case ?? CASES).map(knownCase)),
    contenders: values.contender,
    sizeMb,
    bigGb: positive('--big-gb', values['big-gb'], (8 * sizeMb) / 1024),
    many,
    adds: whole('--adds', values.adds, values.many === undefined ? 5000 : many),
    chunks: whole('--chunks', values.chunks, 500 * many),
    rounds: whole('--rounds', values.rounds, 3),
    json: values.json === true,
    dir: values.dir,
    storeDir: values['store-dir'],
  };
}

function knownCase(name: string): Case {
  const found = CASES.find((known) => known === name);
  if (found === undefined) throw new Error(`--case ${name}: expected one of ${CASES.join(', ')}`);
  return found;
}

function positive(name: string, text: string | undefined, fallback: number): number {
  const number = text === undefined ? fallback : Number(text);
  if (!(number > 0)) throw new Error(`${name} ${text}: expected a number above 0`);
  return number;
}

function whole(name: string, text: string | undefined, fallback: number): number {
  const number = positive(name, text, fallback);
  if (!Number.isInteger(number)) throw new Error(`${name} ${text}: expected a whole number`);
  return number;
}
