/**
 * The `basic` transfer: whole contents by GET and PUT, at URLs that the batch answer names. The headers of an action
 * go to the authority of its own URL and nowhere else. A body that breaks off is taken up where it ended.
 */
import type { HttpResponse } from '../xet/cas/http.ts';
import { isTransient } from '../xet/cas/http-error.ts';
import { backOff, SYSTEM_CLOCK } from '../xet/cas/retry.ts';
import { Git2dbError } from '../xet/errors.ts';
import { shownUrl } from '../xet/remote/address.ts';
import { type BatchObject, LFS_JSON, type LfsAction } from './batch.ts';
import type { LfsConnection } from './connection.ts';

const MAX_TRIES = 6;
const MAX_REDIRECTS = 5;
const REDIRECTS: readonly number[] = [301, 302, 303, 307, 308];
/** What belongs to a connection, and not to what is sent on it. */
const NOT_FOR_US: ReadonlySet<string> = new Set([
  'host',
  'connection',
  'content-length',
  'transfer-encoding',
  'te',
  'trailer',
  'upgrade',
  'range',
  'accept-encoding',
]);

/** Where a download goes, which may begin in the middle. */
export interface DownloadSink {
  /** Bytes that are there. */
  readonly position: number;
  write(bytes: Buffer): void;
  /** Forgets all that is there. */
  reset(): void;
}

/** Brings `sink` to the object's size; whether it is the object is not looked at. */
export async function downloadBasic(
  connection: LfsConnection,
  object: BatchObject,
  sink: DownloadSink,
  options: { readonly signal?: AbortSignal | undefined; readonly onBytes?: (bytes: number) => void },
): Promise<void> {
  const action = object.download as LfsAction;
  for (let tries = 1; sink.position < object.size; ) {
    const before = sink.position;
    try {
      await downloadOnce(connection, object, action, sink, options);
    } catch (error) {
      // Somebody who gives a piece each time may be asked as often as it takes.
      if (sink.position > before) tries = 1;
      if (!isTransient(error) || tries >= MAX_TRIES) throw error;
      await SYSTEM_CLOCK.sleep(backOff(tries - 1, SYSTEM_CLOCK), options.signal);
      tries++;
    }
  }
}

async function downloadOnce(
  connection: LfsConnection,
  object: BatchObject,
  action: LfsAction,
  sink: DownloadSink,
  {
    signal,
    onBytes,
  }: { readonly signal?: AbortSignal | undefined; readonly onBytes?: (bytes: number) => void },
): Promise<void> {
  const range: Record<string, string> = sink.position === 0 ? {} : { Range: `bytes=${sink.position}-` };
  const response = await get(connection, object, action, range, signal);
  if (response.status === 416) {
    await response.discard();
    sink.reset();
    throw interrupted(action, 'the server knows no such range');
  }
  const isRest = response.status === 206 && startOf(response) === sink.position;
  if (!isRest && sink.position > 0) sink.reset();
  if (response.status === 206 && !isRest && startOf(response) !== 0) {
    await response.discard();
    throw interrupted(action, 'the server gave another range than was asked for');
  }
  for await (const piece of response.body) {
    if (sink.position + piece.length > object.size) {
      throw new Git2dbError(
        'REMOTE_INVALID',
        `${shownUrl(action.href)} gives more than the ${object.size} bytes of LFS object ${object.sha256}`,
      );
    }
    sink.write(piece);
    onBytes?.(piece.length);
  }
  if (sink.position < object.size)
    throw interrupted(action, `the content ends at ${sink.position} of ${object.size} bytes`);
}

async function get(
  connection: LfsConnection,
  object: BatchObject,
  action: LfsAction,
  range: Readonly<Record<string, string>>,
  signal: AbortSignal | undefined,
): Promise<HttpResponse> {
  let url = action.href;
  let namedBy = connection.url;
  const { origin } = new URL(url);
  for (let hops = 0; ; hops++) {
    const isOwn = new URL(url).origin === origin;
    const header = isOwn ? headersOf(action) : {};
    const response = await connection.http.request({
      method: 'GET',
      url,
      namedBy,
      headers: { ...header, ...range },
      token: isOwn ? tokenFor(connection, object, action) : undefined,
      accept: [200, 206, 416, ...REDIRECTS],
      follow: false,
      signal,
    });
    if (!REDIRECTS.includes(response.status)) return response;
    const { location } = response.headers;
    await response.discard();
    if (location === undefined || !URL.canParse(location, url) || hops === MAX_REDIRECTS) {
      throw new Git2dbError('REMOTE_INVALID', `${shownUrl(url)} redirects to nowhere, or too often`);
    }
    namedBy = url;
    url = new URL(location, url).href;
  }
}

/** Sends the content, and has the server verify it if it wants to. */
export async function uploadBasic(
  connection: LfsConnection,
  object: BatchObject,
  stream: () => Iterable<Uint8Array>,
  signal: AbortSignal | undefined,
): Promise<void> {
  const action = object.upload as LfsAction;
  const response = await connection.http.request({
    method: 'PUT',
    url: action.href,
    namedBy: connection.url,
    headers: { 'Content-Type': 'application/octet-stream', ...headersOf(action) },
    body: { length: object.size, stream },
    token: tokenFor(connection, object, action),
    scope: 'write',
    accept: [200, 201, 202, 204],
    signal,
  });
  await response.discard();
}

/** Tells the server that an upload is complete, where the batch answer asks for it. */
export async function verifyUpload(
  connection: LfsConnection,
  object: BatchObject,
  signal: AbortSignal | undefined,
): Promise<void> {
  const action = object.verify;
  if (action === undefined) return;
  const response = await connection.http.request({
    method: 'POST',
    url: action.href,
    namedBy: connection.url,
    headers: { 'Content-Type': LFS_JSON, Accept: LFS_JSON, ...headersOf(action) },
    body: Buffer.from(JSON.stringify({ oid: object.sha256, size: object.size })),
    token: tokenFor(connection, object, action),
    scope: 'write',
    idempotent: true,
    accept: [200, 201, 202, 204],
    signal,
  });
  await response.discard();
}

/** Who we are, where the action is on the server's own authority and has no credentials of its own. */
export function tokenFor(connection: LfsConnection, object: BatchObject, { href, header }: LfsAction) {
  const hasOwn = Object.keys(header).some((name) => name.toLowerCase() === 'authorization');
  const { identity } = connection;
  const isOurs = identity !== undefined && new URL(href).origin === identity.authority;
  return hasOwn || object.authenticated || !isOurs ? undefined : identity;
}

function headersOf({ header }: LfsAction): Record<string, string> {
  return Object.fromEntries(Object.entries(header).filter(([name]) => !NOT_FOR_US.has(name.toLowerCase())));
}

function startOf(response: HttpResponse): number | undefined {
  const start = /^bytes (\d{1,16})-/.exec(response.headers['content-range'] ?? '')?.[1];
  return start === undefined ? undefined : Number(start);
}

function interrupted(action: LfsAction, why: string): Git2dbError {
  return new Git2dbError('NETWORK', `GET ${shownUrl(action.href)}: ${why}`, { data: { transient: true } });
}
