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
import { type Fetch, groupSlots, Slot } from './record-slots.ts';
import { MAX_SPLITTER_BYTES } from './record-splitter.ts';
import { windowsOf } from './record-windows.ts';
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
      for await (const window of windowsOf(ranges, this.#source, this.#stop.signal)) {
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
      const before = fetch.received;
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
      const hasBrought = fetch.received > before;
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
      const before = fetch.received;
      await this.#take(fetch, piece);
      useless += piece.bytes.length - (fetch.received - before);
      const isDone = fetch.slots.every((slot) => slot.isDone);
      if (isDone && useless > MAX_USELESS_TAIL) return;
      if (useless > MAX_USELESS) throw broughtNothing((fetch.slots[0] as Slot).placed, this.#source.place);
    }
  }

  /** Gives each byte to the slot that waits for it. */
  async #take(fetch: Fetch, { offset, bytes }: RangePiece): Promise<void> {
    for (let at = 0; at < bytes.length; ) {
      const position = offset + at;
      const slot = fetch.waitingAt(position);
      if (slot === undefined) {
        at = fetch.nextWaiting(position, offset + bytes.length) - offset;
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

function broughtNothing({ xorbHash }: PlacedRange, place: string): Git2dbError {
  return new Git2dbError(
    'REMOTE_INVALID',
    `xorb ${formatHash(xorbHash)} in ${place}: the server answers without the bytes that were asked for`,
  );
}
