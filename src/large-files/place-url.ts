/**
 * Addresses of places where content is kept, as configuration and `.gitxet` write them: those of
 * xet/remote/address.ts, but
 *
 *     https://host[:port]/path   http://      a Xet service, or a store behind any web server
 *     s3://bucket/prefix[?...]                a bucket
 *     file:///path   /path                    a directory
 *
 * alone, and with less that could mislead whoever reads them. An address holds no user, no password and no token:
 * those come from git's credential helpers.
 */
import { isAbsolute, resolve } from 'node:path';
import { Git2dbError } from '../xet/errors.ts';
import { authorityOf, parseAddress, schemeOf, shownUrl } from '../xet/remote/address.ts';

export interface PlaceUrl {
  readonly kind: 'http' | 's3' | 'directory';
  /** For whoever opens it: as written, or the absolute path of a directory. */
  readonly address: string;
  /** `https://host[:port]` in one spelling; undefined for what is on no web server. */
  readonly authority: string | undefined;
  /** Equal for two spellings of one place; without a query it can be shown. */
  readonly key: string;
}

const MAX_LENGTH = 2048;
const FORBIDDEN = /[\s\p{Cc}\p{Cs}\p{Zl}\p{Zp}\u200b-\u200f\u202a-\u202e\u2066-\u2069\ufeff\\]/u;

/** Throws URL_INVALID. `base`: where a relative path starts; none is allowed without it. */
export function parsePlaceUrl(text: string, base?: string): PlaceUrl {
  if (text.length > MAX_LENGTH) throw refused(text, `is longer than ${MAX_LENGTH} characters`);
  if (schemeOf(text) === undefined) checkPath(text, base);
  else if (FORBIDDEN.test(text)) throw refused(text, 'holds a blank, a backslash or an invisible character');
  const address = parseAddress(text, base);
  switch (address.kind) {
    case 'directory': {
      const path = resolve(address.path);
      return { kind: 'directory', address: path, authority: undefined, key: `file://${path}` };
    }
    case 's3':
      return { kind: 's3', address: text, authority: undefined, key: bucketKey(address.url) };
    case 'http':
      return { kind: 'http', address: text, authority: authorityOf(address), key: address.url };
    default:
      throw refused(text, `has the scheme ${schemeOf(text)}; expected https, http, s3, file or a path`);
  }
}

function checkPath(path: string, base: string | undefined): void {
  if (path.startsWith('-')) throw refused(path, 'starts with "-": write it with ./ before');
  if (/^[^/]*::/.test(path)) throw refused(path, 'names a program that git would run');
  if (!isAbsolute(path) && base === undefined) throw refused(path, 'is neither a URL nor an absolute path');
}

/** The parameters in one order. */
function bucketKey(address: string): string {
  const url = new URL(address);
  url.searchParams.sort();
  return url.href;
}

/** One spelling of an address. Throws URL_INVALID. */
export function placeKey(text: string): string {
  return parsePlaceUrl(text).key;
}

/** `https://host[:port]` of an http(s) URL, user and password aside; undefined for any other. */
export function webAuthority(url: string): string | undefined {
  if (!/^https?:\/\//i.test(url) || FORBIDDEN.test(url)) return undefined;
  try {
    return new URL(url).origin;
  } catch {
    return undefined;
  }
}

function refused(text: string, why: string): Git2dbError {
  const shown = shownUrl(text);
  return new Git2dbError('URL_INVALID', `the address ${JSON.stringify(shown)} ${why}`, {
    data: { url: shown },
  });
}
