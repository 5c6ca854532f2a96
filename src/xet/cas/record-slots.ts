/**
 * A *slot* is a range in the output, to be filled with the records of a xorb; a fetch is one request, which fills
 * one or more slots.
 */
import { formatHash } from '../hash/xet-hash.ts';
import type { RecordRun } from '../store/store.ts';
import type { PlacedRange } from './record-reader.ts';
import { RecordSplitter } from './record-splitter.ts';

export class Slot {
  readonly placed: PlacedRange;
  readonly splitter: RecordSplitter;
  readonly runs: RecordRun[] = [];
  isDone = false;
  /** Somebody fetches it, and tells of its failures. */
  isStarted = false;
  failure: unknown;
  /** Memory of its splitter, as counted. */
  held = 0;

  constructor(placed: PlacedRange, place: string) {
    this.placed = placed;
    this.splitter = new RecordSplitter({
      ...placed,
      size: placed.byteEnd - placed.byteStart,
      name: `xorb ${formatHash(placed.xorbHash)} in ${place}`,
    });
  }

  /** Where in the xorb its next byte is. */
  get position(): number {
    return this.placed.byteStart + this.splitter.received;
  }
}

export class Fetch {
  readonly slots: Slot[] = [];
  /** Bytes that its slots hold when they are full. */
  bytes = 0;

  add(slot: Slot): void {
    this.slots.push(slot);
    this.bytes += slot.placed.byteEnd - slot.placed.byteStart;
  }

  /** Bytes that have come so far. */
  get received(): number {
    return this.slots.reduce((sum, slot) => sum + slot.splitter.received, 0);
  }

  /** The slot that waits for the byte at `position` of the xorb. */
  waitingAt(position: number): Slot | undefined {
    return this.slots.find((slot) => !slot.isDone && slot.position === position);
  }

  /** The first position behind `position` that a slot waits for, or `end`. */
  nextWaiting(position: number, end: number): number {
    return this.slots.reduce(
      (least, slot) => (!slot.isDone && slot.position > position ? Math.min(least, slot.position) : least),
      end,
    );
  }
}

/** Slots of one group in one request, as long as they do not overlap: nobody answers the same bytes twice well. */
export function groupSlots(slots: readonly Slot[], maxRanges: number): Fetch[] {
  const fetches: Fetch[] = [];
  const open = new Map<string, Fetch>();
  for (const slot of slots) {
    const { group, byteStart, byteEnd } = slot.placed;
    let fetch = open.get(group);
    const isFree = fetch?.slots.every(
      ({ placed }) => byteEnd <= placed.byteStart || placed.byteEnd <= byteStart,
    );
    if (fetch === undefined || isFree !== true || fetch.slots.length >= maxRanges) {
      fetch = new Fetch();
      fetches.push(fetch);
      open.set(group, fetch);
    }
    fetch.add(slot);
  }
  return fetches;
}
