/** Answers with ranges of something that can be read from any byte on: a xorb, or the content of a file. */
import { type ByteRange, formatContentRange, MultipartWriter, parseRange } from '../../xet/cas/range.ts';
import type { Exchange } from '../exchange.ts';
import { HttpError } from '../http-error.ts';

export interface Readable {
  /** Bytes. */
  readonly size: number;
  /** Bytes [start, end). */
  read(start: number, end: number): AsyncIterable<Uint8Array>;
}

const TYPE = 'application/octet-stream';
/** A few bytes of header could ask for the same gigabytes a thousand times. */
const MAX_REPEAT = 2;

/** As the `Range` header wants it: 200, 206 with one range or several parts, or 416. */
export function sendByRange(
  exchange: Exchange,
  source: Readable,
  headers: Readonly<Record<string, string>> = {},
): Promise<void> {
  const ranges = parseRange(exchange.header('range'), source.size);
  return sendRanges(exchange, source, ranges, headers);
}

/** `ranges`: undefined for all, empty for 416; in the order in which they are answered. */
export async function sendRanges(
  exchange: Exchange,
  source: Readable,
  ranges: readonly ByteRange[] | undefined,
  headers: Readonly<Record<string, string>> = {},
): Promise<void> {
  const { size } = source;
  const isHead = exchange.method === 'HEAD';
  const common = { 'Accept-Ranges': 'bytes', 'Content-Type': TYPE, ...headers };
  if (ranges === undefined) {
    exchange.head(200, { ...common, 'Content-Length': size });
    return exchange.stream(isHead ? [] : source.read(0, size));
  }
  const [first, ...others] = ranges;
  if (first === undefined) {
    return exchange.empty(416, { ...headers, 'Content-Range': `bytes */${size}` });
  }
  if (others.length === 0) {
    const range = { 'Content-Range': formatContentRange(first, size) };
    exchange.head(206, { ...common, ...range, 'Content-Length': first.end - first.start });
    return exchange.stream(isHead ? [] : source.read(first.start, first.end));
  }
  const asked = ranges.reduce((sum, { start, end }) => sum + end - start, 0);
  if (asked > MAX_REPEAT * size) throw new HttpError(416, 'the ranges overlap each other too often');
  const writer = new MultipartWriter(ranges, size);
  const multipart = { 'Content-Type': writer.contentType, 'Content-Length': writer.contentLength };
  exchange.head(206, { ...common, ...multipart });
  return exchange.stream(isHead ? [] : parts(writer, source, ranges));
}

async function* parts(
  writer: MultipartWriter,
  source: Readable,
  ranges: readonly ByteRange[],
): AsyncGenerator<Uint8Array> {
  for (const [i, { start, end }] of ranges.entries()) {
    yield writer.head(i);
    yield* source.read(start, end);
  }
  yield writer.tail;
}
