/**
 * Where a store is, as a user writes it:
 *
 *     /srv/models/xet, ./xet, ~ is not expanded    a directory of this machine
 *     file:///srv/models/xet                       the same
 *     s3://bucket/prefix?endpoint=…&region=…       a bucket
 *     https://models.example.org/xet               a service, or the files of a store behind a web server
 *     cas+https://cas.example.org                  a service, without looking
 *     static+https://www.example.org/xet           files, without looking
 */
import { isAbsolute, resolve } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { Git2dbError } from '../errors.ts';
import { parseS3Address } from '../objects/s3-address.ts';

const MAX_SHOWN = 200;

export type RemoteAddress =
  | { readonly kind: 'directory'; readonly path: string }
  | { readonly kind: 's3'; readonly url: string }
  /** One of the two below; the server is asked which. */
  | { readonly kind: 'http'; readonly url: string }
  | { readonly kind: 'static'; readonly url: string }
  | { readonly kind: 'cas'; readonly url: string };

/** The scheme of a URL, in small letters; undefined for a path. */
export function schemeOf(text: string): string | undefined {
  return /^([a-z][a-z0-9+.-]*):\/\//i.exec(text)?.[1]?.toLowerCase();
}

/** Throws URL_INVALID. A path that is not absolute is taken from `base`, by default the working directory. */
export function parseAddress(text: string, base?: string): RemoteAddress {
  if (text === '' || /[\0\n\r]/.test(text)) throw invalid(text, 'expected a directory or a URL in one line');
  const scheme = schemeOf(text);
  switch (scheme) {
    case undefined:
      return { kind: 'directory', path: isAbsolute(text) ? text : resolve(base ?? '.', text) };
    case 'file':
      return { kind: 'directory', path: directoryOf(text) };
    case 's3': {
      const url = checkedUrl(text, true);
      parseS3Address(url);
      return { kind: 's3', url };
    }
    case 'http':
    case 'https':
      return { kind: 'http', url: checkedUrl(text, false) };
    case 'cas+http':
    case 'cas+https':
      return { kind: 'cas', url: checkedUrl(text.slice(4), false) };
    case 'static+http':
    case 'static+https':
      return { kind: 'static', url: checkedUrl(text.slice(7), false) };
    default:
      throw invalid(
        text,
        `${scheme}:// is not known; expected a directory, or file://, s3://, http:// or https://`,
      );
  }
}

/** The text that `parseAddress` reads back as the same address. */
export function formatAddress(address: RemoteAddress): string {
  switch (address.kind) {
    case 'directory':
      return pathToFileURL(address.path).href;
    case 'cas':
    case 'static':
      return `${address.kind}+${address.url}`;
    default:
      return address.url;
  }
}

/** Scheme, host and port that a token for this address may go to; undefined where none is ever sent. */
export function authorityOf(address: RemoteAddress): string | undefined {
  return address.kind === 'directory' || address.kind === 's3' ? undefined : new URL(address.url).origin;
}

/** A URL without user, password, query and fragment. */
export function bareUrl(url: string): string {
  return url
    .replace(/[?#].*$/s, '')
    .replace(/^([a-z][a-z0-9+.-]*:\/\/)[\\/]*[^\\/]*@/i, '$1')
    .replace(/\p{C}/gu, ' ');
}

/** The same for messages: its beginning, if it is long. */
export function shownUrl(url: string): string {
  const bare = bareUrl(url);
  return bare.length > MAX_SHOWN ? `${bare.slice(0, MAX_SHOWN)}...` : bare;
}

function directoryOf(text: string): string {
  if (/[?#]/.test(text))
    throw invalid(text, 'a directory has no query or fragment: write ? as %3F, # as %23');
  let path: string;
  try {
    path = fileURLToPath(text);
  } catch (cause) {
    throw invalid(text, 'expected file:///directory', cause);
  }
  if (/[\0\n\r]/.test(path)) throw invalid(text, 'expected a directory in one line');
  return path;
}

/** Without the slash at the end, so that paths can be put behind it. */
function checkedUrl(text: string, isBucket: boolean): string {
  if (!URL.canParse(text)) throw invalid(text, 'it is no URL');
  const url = new URL(text);
  if (url.username !== '' || url.password !== '' || /^[^:]*:\/\/[^/?#]*@/.test(text)) {
    throw invalid(
      text,
      'it holds a user or token, which would be shown and stored: leave it to a credential helper',
    );
  }
  if (url.hostname === '') throw invalid(text, isBucket ? 'a bucket is missing' : 'a host is missing');
  if (isBucket ? text.includes('#') : /[?#]/.test(text)) {
    throw invalid(text, 'it goes on after the path (? or #), which such a URL cannot');
  }
  return url.href.replace(/\/+(?=$|\?)/, '');
}

function invalid(text: string, why: string, cause?: unknown): Git2dbError {
  // Neither a password nor what a query may hold.
  const shown = shownUrl(text);
  return new Git2dbError('URL_INVALID', `${JSON.stringify(shown)} is not the address of a store: ${why}`, {
    cause,
    data: { url: shown },
  });
}
