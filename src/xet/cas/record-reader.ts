/**
 * Reads chunk records from a server, in the order they are asked for: ranges that touch are one range, ranges of
 * one xorb that are near each other in the order are one request, several requests run at once, and what comes
 * early waits in a bounded number of bytes. A stream that breaks is asked for again from the byte where it stopped.
 *
 * A *slot* is a range in the output; a request fills one or more slots of a xorb. Requests are started in the
 * order of their first slots, and the one that fills the slot whose turn it is may always read on: so the others
 * can wait for room without anything standing still.
 */
import { Git2dbError } from '../errors.ts';
import { formatHash } from '../hash/xet-hash.ts';
import type { ChunkRange, RecordRun } from '../store/store.ts';
import { throwIfAborted } from './abort.ts';
import { AdaptiveLimit } from './adaptive-limit.ts';
import { isTransient } from './http-error.ts';
import type { ByteRange, RangePiece } from './range.ts';
import { type FetchedRanges, piecesOf } from './range-body.ts';
import { MAX_SPLITTER_BYTES, RecordSplitter } from './record-splitter.ts';
import { backOff, type Clock } from './retry.ts';

/** Where chunks [from, to), and with them the chunks [start, end) that are wanted, can be read. */
export interface PlacedRange extends ChunkRange {
  readonly from: number;
  readonly to: number;
  readonly byteStart: number;
  readonly byteEnd: number;
  /** Ranges of one group may be asked for in one request. */
  readonly group: string;
}

/** A server, as this reader sees it. */
export interface RecordSource {
  /** For messages. */
  readonly place: string;
  /** Most ranges of one request. */
  readonly maxRanges: number;
  /** Finds out where chunks are; a range may be cut into several. */
  locate(range: ChunkRange, signal: AbortSignal): Promise<readonly PlacedRange[]>;
  /**
   * Bytes of the xorb of `placed`. Throws CONTENT_MISSING for a xorb that is gone. A source may ask for other
   * ranges than these: what nobody waits for is passed over.
   */
  fetch(placed: PlacedRange, ranges: readonly ByteRange[], signal: AbortSignal): Promise<FetchedRanges>;
  /** What was known of the xorb led to something else: it is to be found out anew. */
  forget?(xorbHash: Uint8Array): void;
  readonly clock: Clock;
}

/** Bytes that may wait to be taken. */
const BUDGET = 48 << 20;
/** Bytes that are asked for in one go, unless a single range has more. */
const WINDOW_BYTES = 8 << 20;
const WINDOW_RANGES = 256;
/** How long a window waits for its next range before it is asked for as it is. */
const PATIENCE_MS = 20;
const RETRIES = 5;
/** Bytes that nobody waits for and that are let pass: a whole xorb in the place of a range, and what comes after the end. */
const MAX_USELESS = 128 << 20;
const MAX_USELESS_TAIL = 65536;

export async function* readRecords(
  ranges: Iterable<ChunkRange> | AsyncIterable<ChunkRange>,
  source: RecordSource,
  signal: AbortSignal | undefined,
): AsyncGenerator<RecordRun, void, undefined> {
  throwIfAborted(signal);
  const reader = new RecordReader(source, signal);
  try {
    yield* reader.read(ranges);
  } catch (error) {
    throwIfAborted(signal);
    throw error;
  } finally {
    await reader.close();
  }
}

class Slot {
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

interface Fetch {
  readonly slots: Slot[];
  bytes: number;
}

class RecordReader {
  readonly #source: RecordSource;
  readonly #limit: AdaptiveLimit;
  readonly #stop = new AbortController();
  readonly #signal: AbortSignal | undefined;
  readonly #onAbort = () => this.#stop.abort();
  readonly #running = new Set<Promise<void>>();
  /** In the order of the output; undefined: the end. */
  readonly #slots: (Slot | undefined)[] = [];
  #failure: unknown;
  /** The slot whose turn it is. */
  #current: Slot | undefined;
  #isLocating = false;
  /** Bytes in runs that wait and in splitters. */
  #held = 0;
  #wakers: (() => void)[] = [];

  constructor(source: RecordSource, signal: AbortSignal | undefined) {
    this.#source = source;
    this.#limit = new AdaptiveLimit(source.clock);
    this.#signal = signal;
    signal?.addEventListener('abort', this.#onAbort, { once: true });
  }

  async close(): Promise<void> {
    this.#signal?.removeEventListener('abort', this.#onAbort);
    this.#stop.abort();
    this.#wake();
    await Promise.allSettled(this.#running);
  }

  async *read(
    ranges: Iterable<ChunkRange> | AsyncIterable<ChunkRange>,
  ): AsyncGenerator<RecordRun, void, undefined> {
    void this.#produce(ranges);
    for (;;) {
      while (this.#slots.length === 0 && this.#failure === undefined) await this.#change();
      throwIfAborted(this.#signal);
      if (this.#slots.length === 0) throw this.#failure;
      const slot = this.#slots.shift();
      if (slot === undefined) return;
      this.#current = slot;
      this.#wake();
      yield* this.#drain(slot);
    }
  }

  async *#drain(slot: Slot): AsyncGenerator<RecordRun, void, undefined> {
    for (;;) {
      const run = slot.runs.shift();
      if (run !== undefined) {
        this.#hold(-run.bytes.length);
        yield run;
      } else if (slot.failure !== undefined) throw slot.failure;
      else if (slot.isDone) return;
      else {
        await this.#change();
        throwIfAborted(this.#signal);
      }
    }
  }

  /** Makes windows of ranges, and starts what fetches them. */
  async #produce(ranges: Iterable<ChunkRange> | AsyncIterable<ChunkRange>): Promise<void> {
    try {
      for await (const window of this.#windows(ranges)) {
        const slots = window.map((placed) => new Slot(placed, this.#source.place));
        const fetches = groupSlots(slots, this.#source.maxRanges);
        this.#slots.push(...slots);
        this.#wake();
        for (const fetch of fetches) await this.#start(fetch);
      }
      this.#slots.push(undefined);
    } catch (error) {
      // After what came before it; slots that are not started nobody will fill any more.
      this.#failure = error;
      for (const slot of [this.#current, ...this.#slots]) {
        if (slot !== undefined && !slot.isStarted) slot.failure ??= error;
      }
    }
    this.#wake();
  }

  async #start(fetch: Fetch): Promise<void> {
    await this.#limit.acquire();
    while (this.#held + MAX_SPLITTER_BYTES > BUDGET && !this.#isUrgent(fetch)) await this.#change();
    throwIfAborted(this.#stop.signal);
    for (const slot of fetch.slots) slot.isStarted = true;
    const running = this.#run(fetch).finally(() => this.#running.delete(running));
    this.#running.add(running);
  }

  /** Placed ranges in order, those that touch joined, as many together as are asked for at once. */
  async *#windows(
    ranges: Iterable<ChunkRange> | AsyncIterable<ChunkRange>,
  ): AsyncGenerator<PlacedRange[], void, undefined> {
    let window: PlacedRange[] = [];
    let bytes = 0;
    const placed = this.#place(ranges);
    const ask = () => {
      const asked = placed.next();
      asked.catch(() => undefined); // It is looked at later, or not at all.
      return asked;
    };
    try {
      let next = ask();
      for (;;) {
        const range = window.length === 0 ? await next : await this.#soon(next);
        if (range !== undefined && range.done === true) break;
        const size = range === undefined ? 0 : range.value.byteEnd - range.value.byteStart;
        const isFull = bytes + size > WINDOW_BYTES || window.length >= WINDOW_RANGES;
        if (window.length > 0 && (range === undefined || isFull)) {
          yield window;
          window = [];
          bytes = 0;
        }
        if (range === undefined) continue;
        const last = window.at(-1);
        const joined = last === undefined ? undefined : join(last, range.value);
        if (joined === undefined) window.push(range.value);
        else window[window.length - 1] = joined;
        bytes += size;
        next = ask();
      }
      if (window.length > 0) yield window;
    } catch (error) {
      // What came before it is good.
      if (window.length > 0) yield window;
      throw error;
    } finally {
      // Not waited for: whoever makes the ranges may be busy.
      placed.return(undefined).catch(() => undefined);
    }
  }

  /** Undefined if whoever makes the ranges keeps us waiting; to find out where one is takes as long as it takes. */
  async #soon<T>(next: Promise<T>): Promise<T | undefined> {
    for (;;) {
      const range = await withPatience(next, PATIENCE_MS);
      if (range !== undefined || !this.#isLocating) return range;
    }
  }

  async *#place(
    ranges: Iterable<ChunkRange> | AsyncIterable<ChunkRange>,
  ): AsyncGenerator<PlacedRange, void, undefined> {
    for await (const range of ranges) {
      if (range.start >= range.end) continue;
      this.#isLocating = true;
      const placed = await this.#source.locate(range, this.#stop.signal);
      this.#isLocating = false;
      yield* placed;
    }
  }

  async #run(fetch: Fetch): Promise<void> {
    try {
      await this.#fill(fetch);
      this.#limit.succeeded(fetch.bytes);
    } catch (error) {
      const isDamaged = error instanceof Git2dbError && error.code === 'CONTENT_DAMAGED';
      for (const slot of fetch.slots) {
        if (slot.isDone) continue;
        slot.failure ??= error;
        if (isDamaged) this.#source.forget?.(slot.placed.xorbHash);
      }
    } finally {
      this.#limit.release();
      for (const slot of fetch.slots) this.#count(slot, 0);
    }
  }

  /**
   * Until all slots are full. A body that ends early is gone on with where it stopped; that an answer comes at all
   * has been tried often enough when `fetch` fails.
   */
  async #fill(fetch: Fetch): Promise<void> {
    const { clock, place } = this.#source;
    for (let failures = 0; ; ) {
      const open = fetch.slots.filter((slot) => !slot.isDone).slice(0, this.#source.maxRanges);
      const first = open[0]?.placed;
      if (first === undefined) return;
      const before = receivedBy(fetch);
      const wanted = open.map(({ position: start, placed: { byteEnd: end } }) => ({ start, end }));
      const fetched = await this.#source.fetch(first, wanted, this.#stop.signal);
      let problem: unknown;
      try {
        await this.#takeAll(fetch, fetched);
      } catch (error) {
        throwIfAborted(this.#stop.signal);
        if (!isTransient(error)) throw error;
        problem = error;
      }
      const hasBrought = receivedBy(fetch) > before;
      if (hasBrought) failures = 0;
      if (hasBrought && problem === undefined) continue;
      if (++failures > RETRIES) throw problem ?? broughtNothing(first, place);
      this.#limit.troubled();
      await clock.sleep(backOff(failures - 1, clock), this.#stop.signal);
    }
  }

  /** All of an answer, or as much of it as can be of use. */
  async #takeAll(fetch: Fetch, fetched: FetchedRanges): Promise<void> {
    let useless = 0;
    for await (const piece of piecesOf(fetched)) {
      const before = receivedBy(fetch);
      await this.#take(fetch, piece);
      useless += piece.bytes.length - (receivedBy(fetch) - before);
      const isDone = fetch.slots.every((slot) => slot.isDone);
      if (isDone && useless > MAX_USELESS_TAIL) return;
      if (useless > MAX_USELESS) throw broughtNothing((fetch.slots[0] as Slot).placed, this.#source.place);
    }
  }

  /** Gives each byte to the slot that waits for it. */
  async #take(fetch: Fetch, { offset, bytes }: RangePiece): Promise<void> {
    for (let at = 0; at < bytes.length; ) {
      const position = offset + at;
      const slot = fetch.slots.find((one) => !one.isDone && one.position === position);
      if (slot === undefined) {
        const next = fetch.slots.reduce(
          (least, one) => (!one.isDone && one.position > position ? Math.min(least, one.position) : least),
          offset + bytes.length,
        );
        at = next - offset;
        continue;
      }
      const part = bytes.subarray(at, at + slot.placed.byteEnd - position);
      for (const run of slot.splitter.push(part)) {
        slot.runs.push({ xorbHash: slot.placed.xorbHash, ...run });
        this.#hold(run.bytes.length);
      }
      slot.isDone = slot.splitter.isComplete;
      this.#count(slot, slot.isDone ? 0 : slot.splitter.held);
      at += part.length;
    }
    while (this.#held > BUDGET && !this.#isUrgent(fetch)) {
      await this.#change();
      throwIfAborted(this.#stop.signal);
    }
  }

  /** Whether the output waits for something that this brings. */
  #isUrgent({ slots }: Fetch): boolean {
    const current = this.#current;
    return current !== undefined && !current.isDone && current.runs.length === 0 && slots.includes(current);
  }

  #count(slot: Slot, held: number): void {
    const more = held - slot.held;
    slot.held = held;
    this.#hold(more);
  }

  #hold(bytes: number): void {
    this.#held += bytes;
    this.#wake();
  }

  /** Resolves when something may have changed. */
  #change(): Promise<void> {
    return new Promise((resolve) => this.#wakers.push(resolve));
  }

  #wake(): void {
    const wakers = this.#wakers;
    this.#wakers = [];
    for (const wake of wakers) wake();
  }
}

function receivedBy({ slots }: Fetch): number {
  return slots.reduce((sum, slot) => sum + slot.splitter.received, 0);
}

/** One range of the two, where the second begins in the xorb where the first ends, or is the same bytes once more. */
function join(last: PlacedRange, next: PlacedRange): PlacedRange | undefined {
  if (last.group !== next.group || next.start < last.start) return undefined;
  const end = Math.max(last.end, next.end);
  if (last.byteStart === next.byteStart && last.byteEnd === next.byteEnd) return { ...last, end };
  const isNext = last.byteEnd === next.byteStart && last.to === next.from && last.end === next.start;
  return isNext ? { ...last, end, to: next.to, byteEnd: next.byteEnd } : undefined;
}

/** Slots of one group in one request, as long as they do not overlap: nobody answers the same bytes twice well. */
function groupSlots(slots: readonly Slot[], maxRanges: number): Fetch[] {
  const fetches: Fetch[] = [];
  const open = new Map<string, Fetch>();
  for (const slot of slots) {
    const { group, byteStart, byteEnd } = slot.placed;
    let fetch = open.get(group);
    const isFree = fetch?.slots.every(
      ({ placed }) => byteEnd <= placed.byteStart || placed.byteEnd <= byteStart,
    );
    if (fetch === undefined || isFree !== true || fetch.slots.length >= maxRanges) {
      fetch = { slots: [], bytes: 0 };
      fetches.push(fetch);
      open.set(group, fetch);
    }
    fetch.slots.push(slot);
    fetch.bytes += byteEnd - byteStart;
  }
  return fetches;
}

/** `next`, or undefined if it takes longer than that. */
async function withPatience<T>(next: Promise<T>, ms: number): Promise<T | undefined> {
  let timer: NodeJS.Timeout | undefined;
  const pause = new Promise<undefined>((resolve) => {
    timer = setTimeout(resolve, ms, undefined);
  });
  try {
    return await Promise.race([next, pause]);
  } finally {
    clearTimeout(timer);
  }
}

function broughtNothing({ xorbHash }: PlacedRange, place: string): Git2dbError {
  return new Git2dbError(
    'REMOTE_INVALID',
    `xorb ${formatHash(xorbHash)} in ${place}: the server answers without the bytes that were asked for`,
  );
}
