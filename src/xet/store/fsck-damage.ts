/** What fsck finds: objects whose bytes are wrong, and files that cannot be given back. */
import type { KnownXorb } from '../shard/validate.ts';

export type DamagedObject = 'xorb' | 'shard' | 'catalog' | 'incoming';

/** One place in one object of the store that is not as it must be. */
export interface Damage {
  readonly object: DamagedObject;
  /** String form of the hash; `HEAD` for the catalog's list; the writer's directory for `incoming`. */
  readonly name: string;
  readonly path: string;
  /** Number of the chunk in its xorb, where the damage is one chunk's. */
  readonly chunk: number | undefined;
  /** Offset in the file at `path`. */
  readonly offset: number | undefined;
  readonly expected: string;
  readonly found: string;
}

/** A part of a file that cannot be read, and where in the store the trouble lies. */
export interface FileFault {
  /** First byte of the file that is affected; undefined where the file as a whole is. */
  readonly fileOffset: number | undefined;
  /** String form, or a name of an unsealed xorb. */
  readonly xorb: string | undefined;
  /** Chunks [chunk, chunkEnd) of that xorb. */
  readonly chunk: number | undefined;
  readonly chunkEnd: number | undefined;
  /** Offset in the xorb's file. */
  readonly offset: number | undefined;
  readonly expected: string;
  readonly found: string;
}

/** A xorb that must not be relied on, and what of it can still be read. */
export interface BrokenXorb {
  /** String form, or a name of an unsealed xorb. */
  readonly name: string;
  /** Where its bytes are; undefined when there are none. */
  readonly path: string | undefined;
  /** Its chunks, proven by the Merkle root in its name; undefined where nothing tells them. */
  readonly list: KnownXorb | undefined;
  /** Where the record of each chunk starts that is whole; -1 for the others. Empty without a list. */
  readonly records: readonly number[];
  readonly damage: readonly Damage[];
}

/** True if all chunks can be read: only the footer is wrong. */
export function hasAllChunks({ list, records }: BrokenXorb): boolean {
  return list !== undefined && records.every((start) => start >= 0);
}

/** The chunks that cannot be read, as half-open ranges. */
export function lostRanges({ list, records }: BrokenXorb, start: number, end: number): [number, number][] {
  if (list === undefined) return [[start, end]];
  const ranges: [number, number][] = [];
  for (let i = start; i < end; i++) {
    if ((records[i] ?? -1) >= 0) continue;
    const last = ranges.at(-1);
    if (last?.[1] === i) last[1]++;
    else ranges.push([i, i + 1]);
  }
  return ranges;
}
