/** What a gc did, or, without pruning, what one would do: then the numbers of new objects are estimates. */

import { footerLength } from '../../xorb/format.ts';
import type { StoredObject } from './objects.ts';
import type { RepackPlan } from './plan.ts';
import { MAX_SHARD } from './rewrite-shards.ts';
import type { FileCounts, ShardEntry } from './survey.ts';
import { fullness } from './xorb-entry.ts';

export interface GcReport {
  readonly pruned: boolean;
  readonly files: FileCounts;
  readonly xorbs: {
    readonly total: number;
    readonly dead: number;
    /** Their live chunks are in new xorbs now. */
    readonly copied: number;
    readonly created: number;
  };
  readonly shards: { readonly total: number; readonly replaced: number; readonly created: number };
  readonly bytes: GcBytes;
  /** Objects that were put aside and are back: somebody needed them meanwhile. */
  readonly restored: number;
  /** Writers that were still at work when the time to wait was over: nothing was deleted. */
  readonly writers: readonly string[];
  /** What could not be read or carried over, and stays as it is. */
  readonly damaged: readonly LeftObject[];
}

export interface GcBytes {
  /** Xorbs and shards before. */
  readonly total: number;
  readonly deleted: number;
  readonly added: number;
  /** Dead chunks in xorbs that stay. */
  readonly dead: number;
  /** In `trash/`, for the next gc. */
  readonly leftInTrash: number;
  /** Live chunks that were not copied for want of room on the disk. */
  readonly noRoom: number;
  /** Of `learned/`, which the other numbers leave out: lists that were old, or too many. */
  readonly cache: number;
}

export interface LeftObject {
  readonly path: string;
  readonly message: string;
}

export type GcProgress =
  | { readonly kind: 'reading'; readonly shards: number }
  | { readonly kind: 'copying'; readonly bytes: number }
  | { readonly kind: 'copied'; readonly bytes: number }
  | { readonly kind: 'waiting'; readonly writers: number };

export function sizeOf(objects: readonly StoredObject[]): number {
  return objects.reduce((sum, { size }) => sum + size, 0);
}

/** The part of the report that a plan tells before anything is done. */
export function estimate(
  plan: RepackPlan,
  shardGroups: readonly (readonly ShardEntry[])[],
): {
  readonly xorbs: Omit<GcReport['xorbs'], 'total'>;
  readonly shards: Omit<GcReport['shards'], 'total'>;
  readonly deleted: number;
  readonly added: number;
} {
  const copied = plan.groups.flat();
  const shardBytes = shardGroups.map((group) => sizeOf(group.map(({ object }) => object)));
  const replacedBytes = shardBytes.reduce((sum, bytes) => sum + bytes, 0);
  const goingXorbs = [...plan.dead, ...copied.map(({ xorb }) => xorb)].map(({ object }) => object);
  // A shard has 48 bytes for each chunk and xorb, a xorb's footer 40 for each chunk.
  const droppedBytes = plan.dead.reduce((sum, { count }) => sum + 48 * (count + 1), 0);
  const thinnedBytes = copied.reduce((sum, { xorb, live }) => sum + 48 * (xorb.count - live.count), 0);
  const added = copied.reduce((sum, { live }) => sum + live.storedBytes + footerLength(live.count), 0);
  return {
    xorbs: {
      dead: plan.dead.length,
      copied: copied.length,
      created: plan.groups.reduce((sum, group) => sum + estimateXorbs(group), 0),
    },
    shards: {
      replaced: shardGroups.flat().length,
      created: shardBytes.reduce((sum, bytes) => sum + Math.ceil(bytes / MAX_SHARD), 0),
    },
    deleted: sizeOf(goingXorbs) + replacedBytes,
    added: added + Math.max(0, replacedBytes - droppedBytes - thinnedBytes),
  };
}

function estimateXorbs(group: RepackPlan['groups'][number]): number {
  const sum = (of: (live: (typeof group)[number]['live']) => number) =>
    group.reduce((total, { live }) => total + of(live), 0);
  return Math.ceil(
    fullness({
      count: sum((live) => live.count),
      rawBytes: sum((live) => live.rawBytes),
      storedBytes: sum((live) => live.storedBytes),
    }),
  );
}
