/**
 * URLs of remotes: which are allowed, what of them is kept, and when two are the same.
 *
 *     https://host[:port]/path   http://   ssh://[user@]host[:port]/path   git://host[:port]/path
 *     [user@]host:path           the same as ssh://
 *     file:///path   /path   ./path   ../path
 *
 * Everything else is refused, above all what makes git run a program (`ext::`, `fd::`, another
 * `<helper>::`) or what two programs would read differently (a backslash, two `@`, an escaped host). Who
 * logs in with what belongs to `auth`: user and password of an HTTP URL, and the password of another, are
 * cut off here and are nowhere kept or shown.
 */
import { isAbsolute, resolve } from 'node:path';
import { NameError } from './errors.ts';

export type UrlScheme = 'https' | 'http' | 'ssh' | 'git' | 'file';

export interface RemoteUrl {
  readonly scheme: UrlScheme;
  /** Lower case, in its ASCII form; undefined: `file`. IPv6 with brackets. */
  readonly host: string | undefined;
  /** Undefined: the scheme's own. */
  readonly port: number | undefined;
  /** Of ssh only. */
  readonly user: string | undefined;
  /** What is stored and given to git: as it was written, without secrets; a path is absolute. */
  readonly url: string;
  /** Equal for two URLs of the same repository. Not for git. */
  readonly canonical: string;
  /** Something was cut off: a user or password of HTTP, another's password. */
  readonly hadSecret: boolean;
}

export interface UrlCredentials {
  readonly username: string;
  readonly password: string;
}

const DEFAULT_PORTS: Readonly<Record<UrlScheme, number | undefined>> = {
  https: 443,
  http: 80,
  ssh: 22,
  git: 9418,
  file: undefined,
};
export const ALLOWED_SCHEMES = 'https, http, ssh, git, file, user@host:path and paths';
const MAX_LENGTH = 4096;
/** What is no URL because of it, before anything else is looked at. */
const FORBIDDEN = /[\p{Cc}\p{Cs}\p{Zl}\p{Zp}\u200b-\u200f\u202a-\u202e\u2066-\u2069\ufeff]/u;

/** Throws URL_INVALID, in a message without secrets. `cwd`: where a relative path starts. */
export function parseRemoteUrl(
  text: string,
  { cwd = process.cwd() }: { readonly cwd?: string } = {},
): RemoteUrl {
  if (typeof text !== 'string' || text === '') throw refused('', 'is empty');
  if (text.length > MAX_LENGTH) throw refused(text, `is longer than ${MAX_LENGTH} characters`);
  if (FORBIDDEN.test(text)) throw refused(text, 'holds a control or invisible character');
  if (text.startsWith('-')) throw refused(text, 'starts with "-", as an option does');
  if (text.trim() !== text) throw refused(text, 'starts or ends with space');
  if (/^[^/]*::/.test(text) && !/^(?:[^@/]*@)?\[/.test(text)) {
    throw refused(
      text,
      `names a remote helper, a program that git would run; allowed are ${ALLOWED_SCHEMES}`,
    );
  }
  const scheme = /^([a-z][a-z0-9+.-]*):\/\//i.exec(text)?.[1]?.toLowerCase();
  if (scheme === 'file') return parseFileUrl(text);
  if (scheme !== undefined) return parseNetworkUrl(text, scheme);
  const colon = text.indexOf(':');
  const slash = text.indexOf('/');
  // Git's rule: a colon before the first slash makes it a host.
  if (colon >= 0 && (slash < 0 || colon < slash)) return parseScpForm(text);
  return localPath(resolve(cwd, text));
}

/** The form that is stored of a URL that some file held; undefined for one that would not be accepted. */
export function storedUrl(text: string, options: { readonly cwd?: string } = {}): string | undefined {
  try {
    return parseRemoteUrl(text, options).url;
  } catch (error) {
    if (error instanceof NameError) return undefined;
    throw error;
  }
}

/** What `parseRemoteUrl` cuts off, for whoever is about to use it; undefined: nothing. Keep it nowhere. */
export function credentialsOf(text: string): UrlCredentials | undefined {
  const match = /^(?:https?|ssh|git):\/\/([^/@?#\\]*)@/i.exec(text);
  if (match === null || parseRemoteUrl(text).hadSecret === false) return undefined;
  const info = match[1]!;
  const colon = info.indexOf(':');
  const [name, password] = colon < 0 ? [info, ''] : [info.slice(0, colon), info.slice(colon + 1)];
  return { username: decodeURIComponent(name), password: decodeURIComponent(password) };
}

/** For messages: everything that may be a user, password or token is replaced by stars; at most 200 characters. */
export function maskUrl(text: string): string {
  const withoutQuery = text.replace(/[?#].*$/s, (rest) => `${rest[0]}***`);
  const at = withoutQuery.lastIndexOf('@');
  const scheme = /^[a-z][a-z0-9+.-]*:(?:\/\/|:)/i.exec(withoutQuery)?.[0] ?? '';
  // `git@host:path` and `ssh://git@host` name a user and nothing else.
  const harmless = /^(?:ssh:\/\/)?[\w.-]+@[^@]*$/i.test(withoutQuery);
  const start = scheme.length <= at ? scheme : '';
  const shown = at < 0 || harmless ? withoutQuery : `${start}***${withoutQuery.slice(at)}`;
  return shown.length > 200 ? `${shown.slice(0, 200)}...` : shown;
}

/** A name for a repository, from the end of its URL's path: `model`, or undefined when that is no name. */
export function nameFromUrl(url: RemoteUrl): string | undefined {
  const last = url.canonical.split('/').at(-1) ?? '';
  try {
    return decodeURIComponent(last) || undefined;
  } catch {
    return last || undefined;
  }
}

function parseNetworkUrl(text: string, scheme: string): RemoteUrl {
  if (!isNetworkScheme(scheme)) {
    throw refused(text, `has the scheme ${JSON.stringify(scheme)}; allowed are ${ALLOWED_SCHEMES}`);
  }
  const rest = text.slice(scheme.length + '://'.length);
  if (rest.includes('\\')) throw refused(text, 'holds a backslash');
  if (rest.includes(' ')) throw refused(text, 'holds a blank: write %20');
  const isHttp = scheme === 'https' || scheme === 'http';
  if (isHttp && /[?#]/.test(rest)) {
    throw refused(
      text,
      'has a query or fragment (after "?" or "#"), which may hold a token and is never kept',
    );
  }
  const slash = rest.search(/[/?#]/);
  if (slash < 0 || rest[slash] !== '/') throw refused(text, 'has no path');
  const authority = rest.slice(0, slash);
  const rawPath = rest.slice(slash);
  const at = authority.indexOf('@');
  // Unescaped, a password with a slash in it would be read as a host and a path.
  if (rest.indexOf('@', at + 1) >= 0) throw refused(text, 'has an "@" that ends no user: write %40');
  const info = at < 0 ? undefined : authority.slice(0, at);
  const { host, port } = parseHost(text, authority.slice(at + 1), scheme);
  checkEscapes(text, `${info ?? ''}${rawPath}`);
  const user = scheme === 'ssh' && info !== undefined && info !== '' ? info.split(':')[0]! : undefined;
  if (user !== undefined) checkUser(text, user);
  const kept = user === undefined ? '' : `${user}@`;
  const written = authority.slice(at + 1);
  const path = canonicalPath(rawPath, isHttp, text);
  return {
    scheme,
    host,
    port,
    user,
    url: `${scheme}://${kept}${written}${rawPath}`,
    canonical: canonicalForm(scheme, user, host, port, path),
    hadSecret: info !== undefined && info !== '' && info !== user,
  };
}

function isNetworkScheme(scheme: string): scheme is Exclude<UrlScheme, 'file'> {
  return scheme === 'https' || scheme === 'http' || scheme === 'ssh' || scheme === 'git';
}

/** `[user@]host:path`, and `[user@][host-or-IPv6[:port]]:path`. */
function parseScpForm(text: string): RemoteUrl {
  const match = /^(?:([^@:/\\[\]]+)@)?(?:\[([^\]/]+)\]|([^:@/[\]]+)):(.*)$/s.exec(text);
  if (match === null) throw refused(text, `is no URL; allowed are ${ALLOWED_SCHEMES}`);
  const [, user, bracketed, plain, rawPath] = match;
  if (text.includes('\\')) throw refused(text, 'holds a backslash');
  const host = bracketed ?? plain!;
  if (plain !== undefined && /^(?:https?|ssh|git|file|ftps?)$/i.test(plain) && user === undefined) {
    throw refused(text, `has no "//" after "${plain}:"`);
  }
  // `name:password@host:path` is read as the host "name": almost surely a slip that shows a password.
  if (rawPath!.includes('@'))
    throw refused(text, 'has an "@" after its first ":"; write ssh://user@host/path');
  if (rawPath === '' || rawPath === '/') throw refused(text, 'has no path');
  if (user !== undefined) checkUser(text, user);
  const isAddress = bracketed !== undefined && bracketed.split(':').length > 2;
  const parsed = parseHost(text, isAddress ? `[${bracketed}]` : host, 'ssh');
  const path = canonicalPath(rawPath!.startsWith('/') ? rawPath! : `/${rawPath}`, false, text);
  return {
    scheme: 'ssh',
    host: parsed.host,
    port: parsed.port,
    user,
    url: text,
    canonical: canonicalForm('ssh', user, parsed.host, parsed.port, path),
    hadSecret: false,
  };
}

function parseFileUrl(text: string): RemoteUrl {
  const match = /^file:\/\/([^/]*)(\/.*)$/is.exec(text);
  if (match === null) throw refused(text, 'has no path: write file:///path');
  const [, host, rawPath] = match as unknown as [string, string, string];
  if (host !== '' && host.toLowerCase() !== 'localhost') {
    throw refused(text, 'names a host: a file URL is file:///path');
  }
  checkEscapes(text, rawPath);
  const path = resolve(decodeURIComponent(rawPath));
  return { ...localPath(path), url: `file://${rawPath}` };
}

/** `path` is absolute and without `.` and `..`. */
function localPath(path: string): RemoteUrl {
  const canonical = `file://${stripSuffix(path.replace(/\/\.git$/, '')) || '/'}`;
  return {
    scheme: 'file',
    host: undefined,
    port: undefined,
    user: undefined,
    url: path,
    canonical,
    hadSecret: false,
  };
}

/** The path on this machine that a URL names; undefined for one of another machine. */
export function localPathOf(url: RemoteUrl): string | undefined {
  if (url.scheme !== 'file') return undefined;
  return isAbsolute(url.url) ? url.url : resolve(decodeURIComponent(url.url.slice('file://'.length)));
}

function canonicalForm(
  scheme: UrlScheme,
  user: string | undefined,
  host: string,
  port: number | undefined,
  path: string,
): string {
  return `${scheme}://${user === undefined ? '' : `${user}@`}${host}${port === undefined ? '' : `:${port}`}${path}`;
}

function parseHost(
  text: string,
  written: string,
  scheme: Exclude<UrlScheme, 'file'>,
): { readonly host: string; readonly port: number | undefined } {
  const match = /^(\[[0-9a-f:.]+\]|[^:[\]]+)(?::(\d*))?$/i.exec(written);
  if (match === null) throw refused(text, 'has no host, or a port that is no number');
  const [, name, digits] = match as unknown as [string, string, string | undefined];
  if (name.startsWith('-')) throw refused(text, 'has a host that starts with "-", as an option does');
  if (/[%\s"'`<>^{|}\\;&$!*()=,~]/.test(name))
    throw refused(text, 'has a host with a character that no host has');
  const port = digits === undefined || digits === '' ? undefined : Number(digits);
  if (port !== undefined && (port < 1 || port > 65535))
    throw refused(text, 'has a port that is none of 1 to 65535');
  return {
    host: canonicalHost(text, name),
    port: port === DEFAULT_PORTS[scheme] ? undefined : port,
  };
}

/** Case, international names and the many spellings of addresses, by the rules of WHATWG URLs. */
function canonicalHost(text: string, name: string): string {
  try {
    const { hostname } = new URL(`https://${name}/`);
    const bare = hostname.endsWith('.') ? hostname.slice(0, -1) : hostname;
    if (bare !== '') return bare;
  } catch {
    // Said below.
  }
  // An alias of ~/.ssh/config may be called what no host of the network can.
  if (/^[\w][\w.-]*$/.test(name)) return name.toLowerCase();
  throw refused(text, 'has a host that is none');
}

function checkUser(text: string, user: string): void {
  if (!/^[\w.+%][\w.+%~-]*$/.test(user))
    throw refused(text, 'has a user with a character that is not allowed');
}

/** Escapes of control characters go where git would refuse or obey them. */
function checkEscapes(text: string, part: string): void {
  if (/%(?![0-9a-f]{2})/i.test(part))
    throw refused(text, 'has a "%" without two hexadecimal digits: write %25');
  if (/%(?:[01][0-9a-f]|7f)/i.test(part)) throw refused(text, 'holds an escaped control character');
  try {
    decodeURIComponent(part);
  } catch {
    throw refused(text, 'holds escapes that are not UTF-8');
  }
}

/** Without `.git`, slashes at the end and escapes that need not be; `.` and `..` resolved for HTTP, as curl does. */
function canonicalPath(rawPath: string, isHttp: boolean, text: string): string {
  const unescaped = isHttp
    ? rawPath.replace(/%[0-9a-f]{2}/gi, (code) => {
        const character = String.fromCharCode(Number.parseInt(code.slice(1), 16));
        return /[\w.~-]/.test(character) ? character : code.toUpperCase();
      })
    : rawPath.replace(/^\/~\//, '/');
  const resolved: string[] = [];
  for (const part of unescaped.split('/').slice(1)) {
    if (part === '.') continue;
    if (part !== '..') resolved.push(part);
    else if (!isHttp) throw refused(text, 'has ".." in its path');
    else resolved.pop();
  }
  const path = stripSuffix(`/${resolved.join('/')}`);
  if (path === '' || path === '/') throw refused(text, 'has no path');
  return path;
}

function stripSuffix(path: string): string {
  return path.replace(/\/+$/, '').replace(/(?<=[^/])\.git$/, '');
}

function refused(text: string, why: string): NameError {
  const shown = JSON.stringify(maskUrl(text));
  return new NameError('URL_INVALID', `the URL ${shown} ${why}`, { data: { url: maskUrl(text), why } });
}
