/** Planning which bytes to read for ranges of chunks, and reading them ahead within a bounded number of bytes. */

import { Git2dbError } from '../errors.ts';
import { formatHash, hashesEqual } from '../hash/xet-hash.ts';
import type { XorbFooter } from '../xorb/format.ts';
import { throwIfAborted } from './aborted.ts';
import type { ChunkRange, RecordRun } from './store.ts';

/** Bytes of a run at most, unless a single record is larger. */
export const MAX_RUN_BYTES = 8 << 20;

/** A run that is to be read: bytes [byteStart, byteEnd) of the xorb. */
export interface PlannedRun extends ChunkRange {
  readonly byteStart: number;
  readonly byteEnd: number;
}

export type Ranges = Iterable<ChunkRange> | AsyncIterable<ChunkRange>;

export interface PlanOptions {
  /** Where records are. Throws CONTENT_MISSING or CONTENT_DAMAGED. */
  readonly footerOf: (xorbHash: Uint8Array) => Promise<XorbFooter> | XorbFooter;
  /** Bytes that nobody asked for which are read rather than make two reads. */
  readonly gapBytes: number;
}

/** Runs of the ranges in their order; ranges that touch, or nearly, are joined. */
export async function* planRuns(
  ranges: Ranges,
  { footerOf, gapBytes }: PlanOptions,
): AsyncGenerator<PlannedRun> {
  let open: PlannedRun | undefined;
  for await (const range of ranges) {
    if (range.start === range.end) continue;
    const footer = await footerOf(range.xorbHash);
    checkRange(range, footer);
    const byteStart = recordStart(footer, range.start);
    const byteEnd = recordStart(footer, range.end);
    if (open !== undefined) {
      const gap = byteStart - open.byteEnd;
      if (gap >= 0 && gap <= gapBytes && hashesEqual(open.xorbHash, 0, range.xorbHash, 0)) {
        open = { ...open, end: range.end, byteEnd };
      } else {
        yield* cut(open, await footerOf(open.xorbHash));
        open = undefined;
      }
    }
    open ??= { ...range, byteStart, byteEnd };
    // What is full need not wait for the next range.
    const pieces = [...cut(open, footer)];
    open = pieces.pop();
    yield* pieces;
  }
  if (open !== undefined) yield open;
}

function* cut(run: PlannedRun, footer: XorbFooter): Generator<PlannedRun> {
  let { start, byteStart } = run;
  for (let end = start + 1; end < run.end; end++) {
    if (recordStart(footer, end + 1) - byteStart <= MAX_RUN_BYTES) continue;
    const byteEnd = recordStart(footer, end);
    yield { xorbHash: run.xorbHash, start, end, byteStart, byteEnd };
    start = end;
    byteStart = byteEnd;
  }
  yield { xorbHash: run.xorbHash, start, end: run.end, byteStart, byteEnd: run.byteEnd };
}

function recordStart(footer: XorbFooter, chunk: number): number {
  return chunk === 0 ? 0 : (footer.recordEnds[chunk - 1] as number);
}

function checkRange({ xorbHash, start, end }: ChunkRange, footer: XorbFooter): void {
  if (start >= 0 && start < end && end <= footer.count) return;
  throw new Git2dbError(
    'CONTENT_DAMAGED',
    `chunks [${start}, ${end}) of xorb ${formatHash(xorbHash)} were asked for, which has ${footer.count}`,
    { data: { xorb: formatHash(xorbHash) } },
  );
}

export interface ReadAheadOptions {
  readonly read: (run: PlannedRun, signal: AbortSignal) => Promise<Uint8Array>;
  /** Bytes read and not taken yet, at most; one run is always read. */
  readonly maxBytes: number;
  /** Reads under way at most; asked before each. */
  readonly maxReads: () => number;
  readonly signal?: AbortSignal | undefined;
}

interface Ahead {
  readonly run: PlannedRun;
  readonly bytes: Promise<Uint8Array>;
}

/**
 * Reads runs ahead and gives them out in their order. The plan is followed independently of what is taken, so
 * that a plan which waits for its reader comes to no halt. Ends all reads when it is left early.
 */
export async function* readAhead(
  runs: AsyncIterable<PlannedRun>,
  { read, maxBytes, maxReads, signal }: ReadAheadOptions,
): AsyncGenerator<RecordRun> {
  throwIfAborted(signal);
  const stop = new AbortController();
  const onAbort = () => stop.abort(signal?.reason);
  signal?.addEventListener('abort', onAbort, { once: true });
  const queue: Ahead[] = [];
  let held = 0;
  let reading = 0;
  let isPlanned = false;
  let failure: { readonly error: unknown } | undefined;
  // One of the two sides waits at a time, or neither.
  let wakeReader: () => void = () => {};
  let wakePlanner: () => void = () => {};
  stop.signal.addEventListener('abort', () => {
    wakeReader();
    wakePlanner();
  });
  async function startRead(run: PlannedRun): Promise<Uint8Array> {
    reading++;
    try {
      return await read(run, stop.signal);
    } finally {
      reading--;
      wakePlanner();
    }
  }
  async function follow(): Promise<void> {
    try {
      for await (const run of runs) {
        const size = run.byteEnd - run.byteStart;
        while ((held > 0 && held + size > maxBytes) || reading >= Math.max(1, maxReads())) {
          if (stop.signal.aborted) return;
          await new Promise<void>((resolve) => {
            wakePlanner = resolve;
          });
        }
        if (stop.signal.aborted) return;
        held += size;
        const bytes = startRead(run);
        bytes.catch(() => undefined);
        queue.push({ run, bytes });
        wakeReader();
      }
    } catch (error) {
      failure = { error };
    } finally {
      isPlanned = true;
      wakeReader();
    }
  }
  const following = follow();
  try {
    for (;;) {
      const next = queue.shift();
      if (next === undefined) {
        throwIfAborted(signal);
        if (isPlanned) break;
        await new Promise<void>((resolve) => {
          wakeReader = resolve;
        });
        continue;
      }
      const { xorbHash, start, end, byteStart, byteEnd } = next.run;
      let bytes: Uint8Array;
      try {
        bytes = await next.bytes;
      } catch (error) {
        throwIfAborted(signal);
        throw error;
      }
      yield { xorbHash, start, end, bytes };
      held -= byteEnd - byteStart;
      wakePlanner();
    }
    if (failure !== undefined) {
      throwIfAborted(signal);
      throw failure.error;
    }
  } finally {
    signal?.removeEventListener('abort', onAbort);
    stop.abort();
    // Descriptors that are read from may be closed once we are gone. A plan that waits for its caller is not waited for.
    await Promise.allSettled(queue.map(({ bytes }) => bytes));
    if (isPlanned) await following;
  }
}
