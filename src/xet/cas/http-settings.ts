/**
 * How requests leave this machine: proxies, certificate authorities, patience. `httpSettingsFrom` takes these
 * from the environment and git's configuration as git and curl do, so that where git works this works.
 */
import { readFileSync } from 'node:fs';
import { Git2dbError, messageOf } from '../errors.ts';
import { defaultAuthorities } from './authorities.ts';
import { isExempt } from './no-proxy.ts';
import type { Clock } from './retry.ts';
import { type ConfigValue, valueForUrl } from './url-match.ts';

/** One value for all, or one for each URL. */
export type PerUrl<T> = T | ((url: URL) => T);

export interface HttpSettings {
  /** URL of a proxy, which may hold a user and a password; undefined or empty: none. */
  readonly proxy?: PerUrl<string | undefined>;
  /** Hosts that are asked directly: names, `.suffixes`, addresses, networks, `*`; separated by commas. */
  readonly noProxy?: string;
  /** PEM of the authorities to trust, instead of those built in. */
  readonly ca?: PerUrl<string | undefined>;
  /** Default true. False: any certificate will do. */
  readonly verifyTls?: PerUrl<boolean>;
  readonly userAgent?: string;
  /** Default 30,000. */
  readonly connectTimeoutMs?: number;
  /** Longest time without a byte of the body; less than a kilobyte a second over this time is as bad. Default 60,000. */
  readonly idleTimeoutMs?: number;
  /** From the end of a request to the end of the answer's headers. Default 120,000; some requests allow for more. */
  readonly headersTimeoutMs?: number;
  /** How often a request is made again at most. Default 5. */
  readonly retries?: number;
  /** Connections to one authority at most. Default 64. */
  readonly connections?: number;
  /** Gets a line for each request that did not go as it should: no secrets, no query. */
  readonly log?: (line: string) => void;
  readonly clock?: Clock;
}

/** What `git config --list` says under `http.`: keys in canonical case, in order of rising precedence. */
export type HttpConfig = Iterable<{ readonly key: string; readonly value: string | undefined }>;

type Environment = Readonly<Record<string, string | undefined>>;

/** Reads files of certificates when they are first needed; INVALID_CONFIG if that fails. */
export function httpSettingsFrom(env: Environment, config: HttpConfig = []): HttpSettings {
  const entries = [...config];
  const noProxy = env.no_proxy ?? env.NO_PROXY;
  /** PEM by path; by none, the default. */
  const ca = new Map<string | undefined, string | undefined>();
  return {
    proxy: (url) => proxyFrom(env, valueForUrl(entries, 'proxy', url), url),
    ...(noProxy === undefined ? {} : { noProxy }),
    ca: (url) => {
      const file = caFileFrom(env, valueForUrl(entries, 'sslcainfo', url));
      if (!ca.has(file?.path)) {
        const extra = env.NODE_EXTRA_CA_CERTS;
        ca.set(file?.path, file === undefined ? defaultAuthorities(env) : readAuthorities(file, extra));
      }
      return ca.get(file?.path);
    },
    verifyTls: (url) => verifyFrom(env, valueForUrl(entries, 'sslverify', url)),
  };
}

/** The proxy for `url` after all exceptions; throws INVALID_CONFIG for one that cannot be used. */
export function proxyFor(settings: HttpSettings, url: URL): URL | undefined {
  const text = forUrl(settings.proxy, url);
  if (text === undefined || text === '') return undefined;
  if (settings.noProxy !== undefined && isExempt(url, settings.noProxy)) return undefined;
  // As curl has it, `host:port` is a proxy that speaks HTTP.
  const withScheme = /^[a-z][a-z0-9+.-]*:\/\//i.test(text) ? text : `http://${text}`;
  if (!URL.canParse(withScheme)) {
    throw new Git2dbError(
      'INVALID_CONFIG',
      'the proxy that is configured (http.proxy, or HTTPS_PROXY, HTTP_PROXY, ALL_PROXY in the environment) is not a URL',
    );
  }
  const proxy = new URL(withScheme);
  if (proxy.protocol !== 'http:' && proxy.protocol !== 'https:') {
    throw new Git2dbError(
      'INVALID_CONFIG',
      `the proxy ${proxy.protocol}//${proxy.host} cannot be used: proxies are http:// or https:// here; ` +
        `set http.proxy to such a one, or exempt ${url.hostname} by NO_PROXY`,
    );
  }
  return proxy;
}

export function forUrl<T extends string | boolean | undefined>(
  value: PerUrl<T> | undefined,
  url: URL,
): T | undefined {
  return typeof value === 'function' ? value(url) : value;
}

/** Git's own setting wins, also when it is empty, which means none; then the environment, small letters first. */
function proxyFrom(env: Environment, configured: ConfigValue, url: URL): string | undefined {
  if (configured !== undefined) return configured.value ?? '';
  const names = url.protocol === 'https:' ? ['https_proxy', 'all_proxy'] : ['http_proxy', 'all_proxy'];
  for (const name of names) {
    const value = env[name] ?? env[name.toUpperCase()];
    if (value !== undefined) return value;
  }
  return undefined;
}

interface AuthorityFile {
  readonly path: string;
  /** What named the file. */
  readonly setting: string;
}

function caFileFrom(env: Environment, configured: ConfigValue): AuthorityFile | undefined {
  for (const setting of ['GIT_SSL_CAINFO', 'http.sslCAInfo', 'SSL_CERT_FILE']) {
    const path = setting === 'http.sslCAInfo' ? configured?.value : env[setting];
    if (path !== undefined && path !== '') return { path: expandHome(path, env.HOME), setting };
  }
  return undefined;
}

/** As git reads a path: `~/` is the user's own directory. */
function expandHome(path: string, home: string | undefined): string {
  return path.startsWith('~/') && home !== undefined ? `${home}${path.slice(1)}` : path;
}

/** Node adds its extra authorities to the built-in ones only: who names both wants both. */
function readAuthorities({ path, setting }: AuthorityFile, extra: string | undefined): string {
  const read = (file: string, named: string): string => {
    try {
      return readFileSync(file, 'utf8');
    } catch (error) {
      throw new Git2dbError(
        'INVALID_CONFIG',
        `${named} names a file of certificate authorities that cannot be read: ${messageOf(error)}`,
        { cause: error },
      );
    }
  };
  const pem = read(path, setting);
  if (!pem.includes('-----BEGIN')) {
    throw new Git2dbError(
      'INVALID_CONFIG',
      `${setting} names ${path}, which holds no certificates: expected a PEM file (-----BEGIN CERTIFICATE-----)`,
    );
  }
  return extra === undefined || extra === '' ? pem : `${pem}\n${read(extra, 'NODE_EXTRA_CA_CERTS')}`;
}

function verifyFrom(env: Environment, configured: ConfigValue): boolean {
  if (env.GIT_SSL_NO_VERIFY !== undefined) return false;
  if (configured === undefined || configured.value === undefined) return true;
  const text = configured.value.toLowerCase();
  if (['true', 'yes', 'on', '1'].includes(text)) return true;
  if (['false', 'no', 'off', '0', ''].includes(text)) return false;
  throw new Git2dbError(
    'INVALID_CONFIG',
    `http.sslVerify is ${JSON.stringify(configured.value.slice(0, 40))}; expected true or false`,
  );
}
