/** Whether a file is as git saw it last, by what lstat says alone: the test with which git spares itself reading it. */
import { GitConfig } from '../git/config.ts';
import type { IndexEntry } from '../git/index-file/entry.ts';
import { type FileStat, isSizeField, secondsOf, writeStatData } from '../git/index-file/stat-data.ts';

/** Where fields of the stat data stand in an entry; stat-data.ts has the layout. */
const CTIME_SECONDS: Field = [0, 4];
const MTIME_SECONDS: Field = [8, 12];
const INO: Field = [20, 24];
const UID_GID: Field = [28, 36];
const STAT_DATA_END = 40;

type Field = readonly [start: number, end: number];

/** The fields that git compares in this repository, beside the size; it compares whole seconds. */
export type ComparedFields = readonly Field[];

/** By `core.trustctime` and `core.checkStat`. */
export function comparedFields(cwd: string, env: NodeJS.ProcessEnv): ComparedFields {
  const config = GitConfig.load(cwd, '^core\\.(trustctime|checkstat)$', { env });
  const minimal = config.get('core.checkStat')?.toLowerCase() === 'minimal';
  return [
    MTIME_SECONDS,
    ...(config.bool('core.trustctime', true) ? [CTIME_SECONDS] : []),
    ...(minimal ? [] : [INO, UID_GID]),
  ];
}

const scratch = Buffer.alloc(STAT_DATA_END);

/**
 * True where git would take the file for the entry's without reading it. False also for a file that
 * was written in the second of the index, or after: git looks into such a one.
 */
export function matchesIndex(
  entry: IndexEntry,
  stat: FileStat,
  indexTimeNs: bigint,
  fields: ComparedFields,
): boolean {
  if (entry.size === 0 || !isSizeField(entry.size, stat.size)) return false;
  if (entry.mtimeSeconds >= secondsOf(indexTimeNs)) return false;
  writeStatData(scratch, 0, stat);
  const { bytes, offset } = entry;
  return fields.every(
    ([start, end]) => scratch.compare(bytes, offset + start, offset + end, start, end) === 0,
  );
}
