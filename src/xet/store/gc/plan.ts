/**
 * What to copy into new xorbs, decided from numbers alone.
 *
 * Rewritten are xorbs of which less than half lives, and then, those with the largest dead share first,
 * as many as it takes to give back nine tenths of all dead bytes; a xorb with hardly a dead chunk in it
 * is left alone. So after a gc the waste is a tenth of what had died, or a thousandth of the store.
 * Merged are xorbs that are less than half full, wherever two or more of them can be put together.
 *
 * Chunks are put together with others of about their age only, and the new xorb is as old as its
 * youngest part: else a small xorb that is merged again and again would never come out of the grace
 * period, and what nothing needs in it would stay for ever.
 */
import { type Extent, fullness, type XorbEntry } from './xorb-entry.ts';

export interface MeasuredXorb {
  readonly xorb: XorbEntry;
  readonly live: Extent;
}

export interface PlanOptions {
  /** Whether anything may be copied. */
  readonly repack: boolean;
  /** Objects with this mtime or a later one are young. In ms since 1970. */
  readonly limitMs: number;
  readonly graceMs: number;
  /** Bytes that copies may take. */
  readonly roomBytes: number;
}

export interface RepackPlan {
  /** No chunk of them lives. */
  readonly dead: readonly XorbEntry[];
  /** Each list is to be copied, chunk after chunk, into as few new xorbs as it takes. */
  readonly groups: readonly (readonly MeasuredXorb[])[];
  /** Dead bytes in xorbs that stay. */
  readonly leftBytes: number;
  /** Bytes of live chunks that would have been copied if there were room on the disk. */
  readonly noRoomBytes: number;
}

const SMALL = 0.5;
const HALF = 0.5;
const GIVE_BACK = 0.9;
const LEAST_SHARE = 1 / 1024;
/** Parts of the grace period that make an age. */
const AGES = 8;

export function planRepack(measured: readonly MeasuredXorb[], options: PlanOptions): RepackPlan {
  const dead = measured.filter(({ xorb }) => xorb.isDead).map(({ xorb }) => xorb);
  const movable = options.repack ? measured.filter((m) => isMovable(m.xorb, options)) : [];
  const chosen = chooseRewrites(movable, dead);
  const rewrites = new Set<MeasuredXorb>();
  let room = options.roomBytes;
  let noRoomBytes = 0;
  for (const m of chosen) {
    if (m.live.storedBytes > room) {
      noRoomBytes += m.live.storedBytes;
      continue;
    }
    room -= m.live.storedBytes;
    rewrites.add(m);
  }
  const groups: MeasuredXorb[][] = [];
  for (const group of groupByAge(movable, options)) {
    const rewritten = group.filter((m) => rewrites.has(m));
    const small = group.filter((m) => !rewrites.has(m) && fullness(m.live) < SMALL);
    const bytes = small.reduce((sum, m) => sum + m.live.storedBytes, 0);
    const isWorthIt = small.length + Math.min(1, rewritten.length) >= 2;
    const members = [...rewritten];
    if (isWorthIt && bytes <= room) {
      members.push(...small);
      room -= bytes;
    } else if (isWorthIt) {
      noRoomBytes += bytes;
    }
    if (members.length > 0) groups.push(members.sort(byRank));
  }
  const moved = new Set(groups.flat());
  const leftBytes = measured
    .filter((m) => !m.xorb.isDead && !moved.has(m))
    .reduce((sum, m) => sum + deadBytes(m), 0);
  return { dead, groups, leftBytes, noRoomBytes };
}

/** Those partly dead xorbs whose rewriting pays, the most worthwhile first. */
function chooseRewrites(movable: readonly MeasuredXorb[], dead: readonly XorbEntry[]): MeasuredXorb[] {
  const partly = movable
    .filter((m) => !m.xorb.isDead && deadBytes(m) > 0)
    .sort((a, b) => deadShare(b) - deadShare(a) || byRank(a, b));
  let left = partly.reduce((sum, m) => sum + deadBytes(m), 0);
  const all = left + dead.reduce((sum, xorb) => sum + xorb.extent.storedBytes, 0);
  const chosen: MeasuredXorb[] = [];
  for (const m of partly) {
    const share = deadShare(m);
    if (share <= HALF && (left <= (1 - GIVE_BACK) * all || share < LEAST_SHARE)) break;
    chosen.push(m);
    left -= deadBytes(m);
  }
  return chosen;
}

/**
 * A xorb that no shard describes is somebody's who is about to describe it, and one with several hard
 * links is another store's too: copying it would take space and give none back.
 */
function isMovable(xorb: XorbEntry, options: PlanOptions): boolean {
  const { isDead, isPinned, isDescribed, object } = xorb;
  return !isDead && !isPinned && isDescribed && object.links === 1 && ageOf(xorb, options) !== undefined;
}

function groupByAge(movable: readonly MeasuredXorb[], options: PlanOptions): MeasuredXorb[][] {
  const groups = new Map<string, MeasuredXorb[]>();
  for (const m of movable) {
    // Irregular chunks would make the whole new xorb irregular.
    const key = `${m.xorb.isIrregular} ${ageOf(m.xorb, options)}`;
    const group = groups.get(key);
    if (group === undefined) groups.set(key, [m]);
    else group.push(m);
  }
  return [...groups.values()];
}

function ageOf(xorb: XorbEntry, options: PlanOptions): number | undefined {
  return ageClass(xorb.object.mtimeMs, options);
}

/** Objects of one class may be put together: all that are not young, or young ones of about one time. */
export function ageClass(
  mtimeMs: number,
  { limitMs, graceMs }: Pick<PlanOptions, 'limitMs' | 'graceMs'>,
): number | undefined {
  if (mtimeMs < limitMs) return 0;
  // Without a grace period only what came after the beginning is young: it is left alone.
  return graceMs === 0 ? undefined : 1 + Math.floor(mtimeMs / (graceMs / AGES));
}

function deadBytes({ xorb, live }: MeasuredXorb): number {
  return xorb.extent.storedBytes - live.storedBytes;
}

function deadShare(m: MeasuredXorb): number {
  return deadBytes(m) / m.xorb.extent.storedBytes;
}

function byRank(a: MeasuredXorb, b: MeasuredXorb): number {
  return a.xorb.rank - b.xorb.rank || (a.xorb.name < b.xorb.name ? -1 : 1);
}
