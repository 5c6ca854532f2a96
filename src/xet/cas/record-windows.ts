/**
 * Ranges of chunks to *windows*: ranges of bytes, in the same order, that are asked for together. Ranges that touch
 * are one; a window that waits too long for its next range is asked for as it is.
 */
import type { ChunkRange } from '../store/store.ts';
import type { PlacedRange, RecordSource } from './record-reader.ts';

/** Bytes that are asked for in one go, unless a single range has more. */
const WINDOW_BYTES = 8 << 20;
const WINDOW_RANGES = 256;
/** How long a window waits for its next range before it is asked for as it is. */
const PATIENCE_MS = 20;

/** Placed ranges in order, those that touch joined, as many together as are asked for at once. */
export function windowsOf(
  ranges: Iterable<ChunkRange> | AsyncIterable<ChunkRange>,
  source: RecordSource,
  signal: AbortSignal,
): AsyncGenerator<PlacedRange[], void, undefined> {
  return new WindowMaker(source, signal).read(ranges);
}

class WindowMaker {
  readonly #source: RecordSource;
  readonly #signal: AbortSignal;
  #isLocating = false;

  constructor(source: RecordSource, signal: AbortSignal) {
    this.#source = source;
    this.#signal = signal;
  }

  async *read(
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
      const placed = await this.#source.locate(range, this.#signal);
      this.#isLocating = false;
      yield* placed;
    }
  }
}

/** One range of the two, where the second begins in the xorb where the first ends, or is the same bytes once more. */
function join(last: PlacedRange, next: PlacedRange): PlacedRange | undefined {
  if (last.group !== next.group || next.start < last.start) return undefined;
  const end = Math.max(last.end, next.end);
  if (last.byteStart === next.byteStart && last.byteEnd === next.byteEnd) return { ...last, end };
  const isNext = last.byteEnd === next.byteStart && last.to === next.from && last.end === next.start;
  return isNext ? { ...last, end, to: next.to, byteEnd: next.byteEnd } : undefined;
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
