/** From places of single chunks to runs: which part of a chunk list stands where in which xorb. */

import { HASH_SIZE, hashesEqual } from '../hash/xet-hash.ts';
import { throwIfAborted } from './aborted.ts';
import type { ChunkPlace } from './catalog-table.ts';
import type { ChunkRun } from './store.ts';

/** A xorb whose chunk list is known. */
export interface ListedXorb {
  readonly xorbHash: Uint8Array;
  readonly count: number;
  /** 32 bytes per chunk. */
  readonly hashes: Uint8Array;
}

export interface RunSources {
  /** Places of the chunk whose hash stands at `offset` of the list, the ones to prefer first. */
  find(offset: number): readonly ChunkPlace[] | Promise<readonly ChunkPlace[]>;
  /** The chunk list of a xorb; undefined where it cannot be used. */
  open(xorbHash: Uint8Array): ListedXorb | undefined | Promise<ListedXorb | undefined>;
}

/**
 * Runs for the chunks of `hashes`. The chunk after one that was found is looked for right behind it first: a
 * file of few runs is read with few requests. What a place says is compared with the xorb's own list.
 */
export async function findRuns(
  hashes: Uint8Array,
  sources: RunSources,
  signal?: AbortSignal,
): Promise<ChunkRun[]> {
  const runs: ChunkRun[] = [];
  const count = Math.floor(hashes.length / HASH_SIZE);
  for (let at = 0; at < count; ) {
    throwIfAborted(signal);
    const found = sources.find(HASH_SIZE * at);
    // Mostly there are none: nothing is waited for then, ten thousand times.
    const places = found instanceof Promise ? await found : found;
    const run = places.length === 0 ? undefined : await longestRun(hashes, at, places, sources);
    if (run === undefined) {
      at++;
      continue;
    }
    runs.push(run);
    at += run.count;
  }
  return runs;
}

/** A chunk of zeros may be anywhere: no more places of a chunk are looked at. */
const MAX_PLACES = 16;

/** Of the places of chunk `at`, the one that goes on for longest; of equal ones the first. */
async function longestRun(
  hashes: Uint8Array,
  at: number,
  places: readonly ChunkPlace[],
  { open }: RunSources,
): Promise<ChunkRun | undefined> {
  let best: ChunkRun | undefined;
  for (const { xorb, index } of places.slice(0, MAX_PLACES)) {
    const listed = await open(xorb);
    if (listed === undefined) continue;
    const count = matchLength(hashes, at, listed, index);
    if (count > (best?.count ?? 0)) {
      best = { at, count, xorbHash: new Uint8Array(listed.xorbHash), start: index };
    }
  }
  return best;
}

function matchLength(
  hashes: Uint8Array,
  at: number,
  { hashes: list, count }: ListedXorb,
  from: number,
): number {
  let length = 0;
  while (
    from + length < count &&
    HASH_SIZE * (at + length + 1) <= hashes.length &&
    hashesEqual(hashes, HASH_SIZE * (at + length), list, HASH_SIZE * (from + length))
  ) {
    length++;
  }
  return length;
}
