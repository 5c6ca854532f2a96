/**
 * All records of a xorb as one stream, without the windows and the order that `record-reader.ts` keeps: for who
 * takes a xorb as it is. Where a connection breaks, the next one goes on from that byte.
 */
import { Git2dbError } from '../errors.ts';
import { formatHash } from '../hash/xet-hash.ts';
import type { XorbFooter } from '../xorb/format.ts';
import { throwIfAborted } from './abort.ts';
import { isTransient } from './http-error.ts';
import { type FetchedRanges, piecesOf } from './range-body.ts';
import type { RecordSource } from './record-reader.ts';
import { backOff } from './retry.ts';

const RETRIES = 5;
/** Bytes before those that were asked for, from a server that knows no ranges. */
const MAX_USELESS = 128 << 20;

/** What `take` throws ends the reading; while its promise waits, the server is held back. */
export async function readWholeXorb(
  source: RecordSource,
  { xorbHash, count, recordEnds }: XorbFooter,
  take: (piece: Uint8Array) => Promise<void> | undefined,
  signal: AbortSignal | undefined,
): Promise<void> {
  const end = recordEnds[count - 1] as number;
  const stop = signal ?? new AbortController().signal;
  const { clock, place } = source;
  let received = 0;
  for (let failures = 0; received < end; ) {
    const start = received;
    const range = { xorbHash, start: 0, end: count, from: 0, to: count, byteStart: start, byteEnd: end };
    const fetched = await source.fetch({ ...range, group: '' }, [{ start, end }], stop);
    let problem: unknown;
    try {
      for await (const piece of neededPieces(fetched, start, end)) {
        const pending = take(piece);
        received += piece.length;
        if (pending !== undefined) await pending;
        throwIfAborted(signal);
      }
    } catch (error) {
      throwIfAborted(signal);
      if (!isTransient(error)) throw error;
      problem = error;
    }
    if (received > start) failures = 0;
    if (received > start && problem === undefined) continue;
    if (++failures > RETRIES) {
      throw (
        problem ??
        new Git2dbError(
          'REMOTE_INVALID',
          `xorb ${formatHash(xorbHash)} in ${place}: the server answers without the bytes that were asked for`,
        )
      );
    }
    await clock.sleep(backOff(failures - 1, clock), stop);
  }
}

/** The bytes [start, end) as far as they come in their order; what lies before and after them is passed over. */
async function* neededPieces(fetched: FetchedRanges, start: number, end: number): AsyncGenerator<Uint8Array> {
  let position = start;
  let useless = 0;
  for await (const { offset, bytes } of piecesOf(fetched)) {
    const from = Math.max(0, position - offset);
    const to = Math.min(bytes.length, end - offset);
    if (offset > position || from >= to) {
      useless += bytes.length;
      if (useless > MAX_USELESS) return;
      continue;
    }
    position = offset + to;
    yield bytes.subarray(from, to);
    if (position === end) return;
  }
}
