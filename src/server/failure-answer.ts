/** How a request that failed is answered, whatever is left of its body. */
import type { IncomingMessage } from 'node:http';
import { challenge } from './access.ts';
import type { Exchange } from './exchange.ts';
import { httpErrorOf } from './http-error.ts';
import type { ServerOptions } from './options.ts';

/** Of a body that was refused, bytes and time. */
const MAX_DROPPED = 128 * 1024 * 1024;
const DROP_MS = 30_000;

/** `onError` is told of what is a failure of the server's own. */
export function answerFailure(exchange: Exchange, error: unknown, onError: ServerOptions['onError']): void {
  const { answer, isOwn } = httpErrorOf(error);
  if (isOwn) onError?.(error, exchange.id);
  const { response, request } = exchange;
  if (response.headersSent) {
    // The answer has begun: that it is cut off is all that can be said.
    response.destroy();
    return;
  }
  // The client may not look at the answer before all of the body is sent: what is left is read and dropped,
  // unless it is too much.
  const isLong = (exchange.contentLength ?? 0) - exchange.bytesIn > MAX_DROPPED;
  const headers = isLong ? { ...answer.headers, Connection: 'close' } : answer.headers;
  const body = { error: answer.message, message: answer.message, requestId: exchange.id };
  const isLfs = exchange.route.startsWith('lfs.');
  response.once('finish', () => drop(request, isLong ? 0 : MAX_DROPPED));
  exchange.bytes(
    Buffer.from(
      `${JSON.stringify({ ...body, ...(answer.code === undefined ? {} : { code: answer.code }) })}\n`,
    ),
    isLfs ? 'application/vnd.git-lfs+json' : 'application/json',
    answer.status,
    answer.status === 401 ? { ...challenge(), ...headers } : headers,
  );
}

/** Reads what is left of a body, `most` bytes of it, for nobody. */
function drop(request: IncomingMessage, most: number): void {
  if (request.complete) return;
  const cut = setTimeout(() => request.destroy(), DROP_MS);
  request.once('close', () => clearTimeout(cut));
  let dropped = 0;
  request.on('data', (piece: Buffer) => {
    dropped += piece.length;
    if (dropped > most) request.destroy();
  });
  request.resume();
}
