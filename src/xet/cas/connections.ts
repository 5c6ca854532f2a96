/**
 * Connections to servers, kept and used again: one pool for each way out (proxy, trust, reach) and authority.
 * undici is loaded with the first request.
 */
import { type LookupAddress, lookup as systemLookup } from 'node:dns';
import type { LookupFunction } from 'node:net';
import type { Dispatcher } from 'undici';
import { Git2dbError } from '../errors.ts';
import { contextFor } from './authorities.ts';
import { forUrl, type HttpSettings, proxyFor } from './http-settings.ts';
import { isAddress, isPrivateAddress } from './private-address.ts';

/** `public`: never to an address of this machine or network. */
export type Reach = 'any' | 'public';

/** Where to send a request, and what to ask for there. */
export interface Route {
  readonly dispatcher: Dispatcher;
  readonly origin: string;
  readonly path: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly proxy: URL | undefined;
}

const MAX_HEADERS = 32768;

export class Connections {
  readonly #settings: HttpSettings;
  readonly #dispatchers = new Map<string, Dispatcher>();
  /** Texts of a hundred kilobytes; a dispatcher is known by the number of its own. */
  readonly #authorities: (string | undefined)[] = [];
  #isClosed = false;
  /** What the names that were looked up turned out to be. */
  readonly #places = new Map<string, Reach>();

  constructor(settings: HttpSettings) {
    this.#settings = settings;
  }

  async route(url: URL, reach: Reach): Promise<Route> {
    if (this.#isClosed) throw new Error('the HTTP client was closed before this request');
    const proxy = proxyFor(this.#settings, url);
    const path = `${url.pathname}${url.search}`;
    if (proxy === undefined) {
      if (reach === 'public' && isPrivateAddress(url.hostname))
        throw refusePrivate(url.hostname, url.hostname);
      const dispatcher = await this.#dispatcher(url, undefined, reach);
      return { dispatcher, origin: url.origin, path, headers: {}, proxy };
    }
    const authorization = proxyAuthorization(proxy);
    const dispatcher = await this.#dispatcher(url, proxy, 'any', authorization);
    if (url.protocol === 'https:') return { dispatcher, origin: url.origin, path, headers: {}, proxy };
    // A proxy is asked for http: URLs themselves; only TLS is tunnelled.
    const headers = authorization === undefined ? {} : { 'proxy-authorization': authorization };
    return {
      dispatcher,
      origin: proxy.origin,
      path: `${url.origin}${path}`,
      headers: { host: url.host, ...headers },
      proxy,
    };
  }

  /** Whether `url` was, or would be, asked at an address of this machine or network; behind a proxy nobody knows. */
  isPrivate(url: URL): boolean {
    if (proxyFor(this.#settings, url) !== undefined) return false;
    if (isAddress(url.hostname)) return isPrivateAddress(url.hostname);
    return this.#places.get(url.hostname) === 'any';
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    const all = [...this.#dispatchers.values()];
    this.#dispatchers.clear();
    await Promise.all(all.map((dispatcher) => dispatcher.destroy()));
  }

  async #dispatcher(
    url: URL,
    proxy: URL | undefined,
    reach: Reach,
    authorization?: string,
  ): Promise<Dispatcher> {
    const { connections = 64, connectTimeoutMs = 30_000 } = this.#settings;
    const isTls = url.protocol === 'https:' || proxy?.protocol === 'https:';
    const ca = isTls ? forUrl(this.#settings.ca, url) : undefined;
    const verify = forUrl(this.#settings.verifyTls, url) ?? true;
    const isTunnel = proxy !== undefined && url.protocol === 'https:';
    const key = JSON.stringify([proxy?.href, isTunnel, reach, verify, this.#numberOf(ca)]);
    const { Agent, ProxyAgent } = await import('./http-library.ts');
    const known = this.#dispatchers.get(key);
    if (known !== undefined) return known;
    const tls = {
      ...(ca === undefined ? {} : { secureContext: contextFor(ca) }),
      rejectUnauthorized: verify,
    };
    const common = {
      connections,
      pipelining: 1,
      allowH2: false,
      maxHeaderSize: MAX_HEADERS,
      keepAliveTimeout: 15_000,
    };
    const connect = { ...tls, timeout: connectTimeoutMs };
    const dispatcher = isTunnel
      ? new ProxyAgent({
          ...common,
          uri: proxy.origin,
          ...(authorization === undefined ? {} : { token: authorization }),
          requestTls: connect,
          proxyTls: connect,
        })
      : new Agent({
          ...common,
          connect: { ...connect, autoSelectFamily: true, lookup: this.#lookup(proxy === undefined, reach) },
        });
    this.#dispatchers.set(key, dispatcher);
    return dispatcher;
  }

  #numberOf(authorities: string | undefined): number {
    const number = this.#authorities.indexOf(authorities);
    return number === -1 ? this.#authorities.push(authorities) - 1 : number;
  }

  /** Looks a name up, remembers of what kind its addresses are, and refuses private ones where they must not be. */
  #lookup(isTarget: boolean, reach: Reach): LookupFunction {
    return (hostname, options, done) => {
      systemLookup(hostname, { ...options, all: true }, (error, found) => {
        if (error !== null) {
          done(error, '');
          return;
        }
        const addresses: readonly LookupAddress[] = found;
        const bad = addresses.find(({ address }) => isPrivateAddress(address));
        if (isTarget && reach === 'public' && bad !== undefined) {
          done(refusePrivate(hostname, bad.address), '');
          return;
        }
        // Whoever was once out in the world stays there, whatever its names are said to be later.
        const isPrivate = addresses.every(({ address }) => isPrivateAddress(address));
        if (isTarget && (!isPrivate || !this.#places.has(hostname))) {
          this.#places.set(hostname, isPrivate ? 'any' : 'public');
        }
        if (options.all === true) done(null, [...addresses]);
        else done(null, (addresses[0] as LookupAddress).address, (addresses[0] as LookupAddress).family);
      });
    };
  }
}

function refusePrivate(hostname: string, address: string): Git2dbError {
  const host = hostname === address ? address : `${hostname} (${address})`;
  return new Git2dbError(
    'REMOTE_INVALID',
    `a public server sends us to ${host}, which is an address of this machine or network; nothing was asked for there. ` +
      'If that is meant to be so, use the address of that server itself',
    { data: { host: hostname, transient: false } },
  );
}

function proxyAuthorization({ username, password }: URL): string | undefined {
  if (username === '' && password === '') return undefined;
  const plain = `${decoded(username)}:${decoded(password)}`;
  return `Basic ${Buffer.from(plain).toString('base64')}`;
}

/** A part of a URL as it is meant; as it is written where that cannot be told. */
function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}
