/** Bodies of requests and answers of an S3 service. */
import { Readable } from 'node:stream';
import { type ObjectBody, tooLong } from './objects.ts';

/** Carries what the maker of a body threw past the retries. */
export class BodyFailure extends Error {
  constructor(cause: unknown) {
    super('the body failed', { cause });
  }
}

/** A failure of the body itself is told as it is, and not as one of the connection. */
export async function sendBody<T>(
  body: ObjectBody,
  signal: AbortSignal,
  send: (stream: Readable | Uint8Array, signal: AbortSignal) => Promise<T>,
): Promise<T> {
  const source = body.stream();
  if (Array.isArray(source)) return send(Buffer.concat(source as Uint8Array[]), signal);
  let failure: { readonly error: unknown } | undefined;
  // The SDK would wait for the rest of a body that has failed.
  const stop = new AbortController();
  const stream = Readable.from(source, { objectMode: false, highWaterMark: 1 << 20 });
  stream.on('error', (error) => {
    failure = { error };
    stop.abort();
  });
  try {
    return await send(stream, AbortSignal.any([signal, stop.signal]));
  } catch (error) {
    if (failure !== undefined) throw new BodyFailure(failure.error);
    throw error;
  } finally {
    stream.destroy();
  }
}

/**
 * All bytes of an answer. `promised`: those that are to come, as far as it tells. Throws REMOTE_INVALID where there are
 * more than `limit`; `name` is what it calls the object.
 */
export async function collectAnswer(
  name: string,
  body: unknown,
  limit: number,
  promised: number | undefined,
): Promise<Buffer> {
  const stream = body as Readable;
  // Put where they belong as they come: a list of pieces would be in memory twice when they are joined.
  let bytes: Buffer = Buffer.allocUnsafeSlow(Math.min(limit, promised ?? 0));
  let size = 0;
  try {
    for await (const piece of stream as AsyncIterable<Buffer>) {
      if (size + piece.length > limit) throw tooLong(name, limit);
      if (size + piece.length > bytes.length) bytes = grown(bytes, size, size + piece.length);
      piece.copy(bytes, size);
      size += piece.length;
    }
  } finally {
    stream.destroy();
  }
  return bytes.subarray(0, size);
}

/** The connection broke before all of an answer came. */
export function shortBody(found: number, promised: number): Error {
  return Object.assign(new Error(`${found} bytes came of ${promised}`), { code: 'ECONNRESET' });
}

function grown(bytes: Buffer, used: number, size: number): Buffer {
  const larger = Buffer.allocUnsafeSlow(Math.max(2 * bytes.length, size));
  bytes.copy(larger, 0, 0, used);
  return larger;
}

/** The body in pieces of `size` bytes, the last one shorter. */
export async function* inParts(body: ObjectBody, size: number): AsyncGenerator<Buffer> {
  let pieces: Uint8Array[] = [];
  let gathered = 0;
  for await (const piece of body.stream()) {
    pieces.push(new Uint8Array(piece));
    gathered += piece.length;
    if (gathered < size) continue;
    const whole = Buffer.concat(pieces, gathered);
    let at = 0;
    for (; gathered - at >= size; at += size) yield whole.subarray(at, at + size);
    pieces = at === gathered ? [] : [whole.subarray(at)];
    gathered -= at;
  }
  if (gathered > 0) yield Buffer.concat(pieces, gathered);
}
