/** `POST /v2/shards`, whose answer is a stream of news, and `POST /v1/shards`, which answers when all is done. */
import { Git2dbError } from '../errors.ts';
import type { CasAccess } from './footer-places.ts';
import type { HttpResponse } from './http.ts';
import { cleanText, knownCode, nameRequest } from './http-error.ts';
import { MAX_EVENT_LINE, parseShardEvent, parseShardResult, ROUTES } from './protocol.ts';
import { backOff } from './retry.ts';

/** The server says something every 20 seconds. */
const SILENCE_MS = 120_000;
/** A large shard takes its time. */
const ANSWER_MS = 1_800_000;
const MAX_SMALL_ANSWER = 65536;
const RETRIES = 3;

/** Whether something of it was new; undefined: the server does not have this version of the upload. */
export async function uploadShard(
  access: CasAccess,
  version: 1 | 2,
  shard: Uint8Array,
  signal: AbortSignal | undefined,
): Promise<boolean | undefined> {
  const { http, casUrl, token, clock } = access;
  const url = `${casUrl}${ROUTES.shards(version)}`;
  for (let attempt = 0; ; attempt++) {
    const response = await http.request({
      method: 'POST',
      url,
      body: shard,
      token,
      scope: 'write',
      idempotent: true,
      signal,
      accept: version === 2 ? [200, 404, 405, 501] : [200],
      headersTimeoutMs: ANSWER_MS,
      ...(version === 2 ? { silenceMs: SILENCE_MS } : {}),
    });
    if (response.status !== 200) {
      await response.discard();
      return undefined;
    }
    if (version === 1) return parseShardResult(await response.json(MAX_SMALL_ANSWER));
    try {
      return await readProgress(response, nameRequest('POST', url));
    } catch (error) {
      const isTransient = error instanceof Git2dbError && error.data.transient === true;
      if (!isTransient || attempt === RETRIES) throw error;
      await clock.sleep(backOff(attempt, clock), signal);
    }
  }
}

/** Reads to the last line, which says how it ended. */
async function readProgress(response: HttpResponse, name: string): Promise<boolean> {
  for await (const line of linesOf(response.body, name)) {
    const event = parseShardEvent(line);
    if (event?.type === 'result') return event.result !== 0;
    if (event?.type === 'error') {
      throw new Git2dbError(
        knownCode(event.code) ?? (event.retryable === true ? 'NETWORK' : 'REMOTE_INVALID'),
        `${name}: the server refused the shard: ${JSON.stringify(cleanText(event.message) ?? 'no reason given')}`,
        { data: { transient: event.retryable === true } },
      );
    }
  }
  throw new Git2dbError(
    'NETWORK',
    `${name}: the server stopped before it said how the upload ended; try again`,
    {
      data: { transient: true },
    },
  );
}

async function* linesOf(body: AsyncIterable<Buffer>, name: string): AsyncGenerator<string, void, undefined> {
  const text = new TextDecoder();
  let rest = '';
  for await (const piece of body) {
    const lines = (rest + text.decode(piece, { stream: true })).split('\n');
    rest = lines.pop() ?? '';
    if (rest.length > MAX_EVENT_LINE) {
      throw new Git2dbError('REMOTE_INVALID', `${name}: a line of more than ${MAX_EVENT_LINE} characters`);
    }
    for (const line of lines) if (line.trim() !== '') yield line;
  }
  if (rest.trim() !== '') yield rest;
}
