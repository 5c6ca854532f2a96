/**
 * URLs that give some bytes of a xorb to whoever has them, for a while:
 *
 *     {base}/v1/data/{xorb}?bytes=0-131071,200000-299999&expires=<seconds since 1970>&signature=<base64url>
 *
 * The signature is an HMAC over xorb, ranges (last bytes named) and expiry; any server with the same key
 * accepts it, wherever the URL leads.
 */
import type { ByteRange } from '../../xet/cas/range.ts';
import { HttpError } from '../http-error.ts';
import { isSignature, sign } from '../keys.ts';

/** How long a URL is good for. */
export const DATA_URL_SECONDS = 3600;
/** Clients and proxies take URLs of about 8 KiB. */
const MAX_RANGES_TEXT = 6000;
const MAX_RANGES = 256;

/** Cuts a list of ranges into lists that each fit a URL. */
export function splitForUrls<R extends { readonly byteStart: number; readonly byteEnd: number }>(
  ranges: readonly R[],
): R[][] {
  const lists: R[][] = [];
  let room = 0;
  for (const range of ranges) {
    const length = `${range.byteStart}-${range.byteEnd - 1},`.length;
    const last = lists.at(-1);
    if (last === undefined || room < length || last.length === MAX_RANGES) {
      lists.push([range]);
      room = MAX_RANGES_TEXT - length;
    } else {
      last.push(range);
      room -= length;
    }
  }
  return lists;
}

/** `expires`: seconds since 1970. */
export function makeDataUrl(
  key: Uint8Array,
  base: string,
  xorb: string,
  ranges: readonly { readonly byteStart: number; readonly byteEnd: number }[],
  expires: number,
): string {
  const bytes = ranges.map(({ byteStart, byteEnd }) => `${byteStart}-${byteEnd - 1}`).join(',');
  const signature = sign(key, signedText(xorb, bytes, String(expires))).toString('base64url');
  return `${base}/v1/data/${xorb}?bytes=${bytes}&expires=${expires}&signature=${signature}`;
}

/** The ranges a URL is for. Throws 403 unless this key has made it and it has not expired at `now` (seconds). */
export function readDataUrl(key: Uint8Array, xorb: string, query: URLSearchParams, now: number): ByteRange[] {
  const bytes = query.get('bytes') ?? '';
  const expires = query.get('expires') ?? '';
  const signature = Buffer.from(query.get('signature') ?? '', 'base64url');
  if (!isSignature(key, signedText(xorb, bytes, expires), signature)) {
    throw new HttpError(403, 'the signature of this address is wrong');
  }
  if (Number(expires) <= now) {
    throw new HttpError(403, 'this address has expired: ask for the reconstruction again');
  }
  return bytes.split(',').map((range) => {
    const [first, last] = range.split('-').map(Number) as [number, number];
    return { start: first, end: last + 1 };
  });
}

function signedText(xorb: string, bytes: string, expires: string): string {
  return `${xorb}\n${bytes}\n${expires}`;
}
