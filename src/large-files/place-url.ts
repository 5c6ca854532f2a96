/**
 * Addresses of places where content is kept, as configuration and `.gitxet` write them:
 *
 *     https://host[:port]/path   http://      a Xet service, or a store behind any web server
 *     s3://bucket/prefix[?...]                a bucket
 *     file:///path   /path                    a directory
 *
 * An address holds no user, no password and no token: those come from git's credential helpers.
 */
import { isAbsolute, resolve } from 'node:path';
import { Git2dbError } from '../xet/errors.ts';

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
  const scheme = /^([a-z][a-z0-9+.-]*):\/\//i.exec(text)?.[1]?.toLowerCase();
  if (scheme === undefined) return directory(text, base);
  if (FORBIDDEN.test(text)) throw refused(text, 'holds a blank, a backslash or an invisible character');
  switch (scheme) {
    case 'https':
    case 'http':
      return webPlace(text);
    case 's3':
      return bucket(text);
    case 'file':
      return directory(pathOfFileUrl(text), undefined);
    default:
      throw refused(
        text,
        `has the scheme ${JSON.stringify(scheme)}; expected https, http, s3, file or a path`,
      );
  }
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

/** A URL for messages and files: without user, password, query and fragment. */
export function shownUrl(url: string): string {
  const bare = url.replace(/[?#].*$/s, '').replace(/^([a-z][a-z0-9+.-]*:\/\/)[^/]*@/i, '$1');
  return bare.length > 200 ? `${bare.slice(0, 200)}...` : bare;
}

function webPlace(text: string): PlaceUrl {
  let url: URL;
  try {
    url = new URL(text);
  } catch {
    throw refused(text, 'is no URL');
  }
  if (url.username !== '' || url.password !== '' || /^https?:\/\/[^/]*@/i.test(text)) {
    throw refused(text, 'holds a user or password: leave it out, git credential helpers are asked');
  }
  if (/[?#]/.test(text)) throw refused(text, 'has a query or fragment, which may hold a token: leave it out');
  const path = url.pathname.replace(/\/+$/, '');
  return { kind: 'http', address: text, authority: url.origin, key: `${url.origin}${path}` };
}

function bucket(text: string): PlaceUrl {
  const match = /^s3:\/\/([a-z0-9][a-z0-9.-]{1,253})(\/[^?#]*)?(?:\?([^#]*))?$/i.exec(text);
  if (match === null) throw refused(text, 'is not s3://BUCKET[/PREFIX][?endpoint=URL]');
  const [, name, prefix = '', query = ''] = match as unknown as [string, string, string?, string?];
  const settings = new URLSearchParams(query);
  settings.sort();
  const rest = settings.toString();
  const key = `s3://${name}${prefix.replace(/\/+$/, '')}${rest === '' ? '' : `?${rest}`}`;
  return { kind: 's3', address: text, authority: undefined, key };
}

function directory(path: string, base: string | undefined): PlaceUrl {
  if (path === '' || path.includes('\0')) throw refused(path, 'is no path');
  if (path.startsWith('-')) throw refused(path, 'starts with "-": write it with ./ before');
  if (/^[^/]*::/.test(path)) throw refused(path, 'names a program that git would run');
  if (!isAbsolute(path) && base === undefined) throw refused(path, 'is neither a URL nor an absolute path');
  const absolute = resolve(base ?? '/', path);
  return { kind: 'directory', address: absolute, authority: undefined, key: `file://${absolute}` };
}

function pathOfFileUrl(text: string): string {
  const match = /^file:\/\/(?:localhost)?(\/[^?#]*)$/i.exec(text);
  if (match === null) throw refused(text, 'is not file:///PATH');
  try {
    return decodeURIComponent(match[1] as string);
  } catch {
    throw refused(text, 'holds escapes that are not UTF-8');
  }
}

function refused(text: string, why: string): Git2dbError {
  const shown = shownUrl(text);
  return new Git2dbError('URL_INVALID', `the address ${JSON.stringify(shown)} ${why}`, {
    data: { url: shown },
  });
}
