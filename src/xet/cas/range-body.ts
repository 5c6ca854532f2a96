/** The body of an answer to a request for byte ranges, whatever form the server has given it. */
import type { HttpResponse } from './http.ts';
import {
  type ByteRange,
  multipartBoundary,
  parseContentRange,
  type RangePiece,
  readMultipart,
} from './range.ts';

export interface FetchedRanges {
  /** 200 or 206. */
  readonly response: HttpResponse;
  /** What it was asked for. */
  readonly ranges: readonly ByteRange[];
}

/** The bytes of an answer, with their places. Closes it in every case. */
export async function* piecesOf({ response, ranges: wanted }: FetchedRanges): AsyncGenerator<RangePiece> {
  const { status, headers, body } = response;
  const boundary = multipartBoundary(headers['content-type']);
  if (status === 206 && boundary !== undefined) {
    yield* readMultipart(body, boundary);
    return;
  }
  const first = wanted[0] as ByteRange;
  const length = headers['content-length'];
  const range = parseContentRange(headers['content-range']);
  // Some answer 200 with just the range; others mean the whole.
  const isRange = length !== undefined && Number(length) === first.end - first.start && wanted.length === 1;
  let offset = status === 206 ? (range?.start ?? first.start) : isRange ? first.start : 0;
  const end = wanted.reduce((most, { end }) => Math.max(most, end), 0);
  for await (const bytes of body) {
    yield { offset, bytes };
    offset += bytes.length;
    // The rest of the whole is of no use.
    if (offset >= end && status === 200) return;
  }
}
