/** Where contents are kept, and how. Never changed: `with...` makes another one. */
import type { HttpSettings } from './cas/http-settings.ts';
import type { CompressionMode } from './compress/scheme.ts';
import { Git2dbError } from './errors.ts';
import { XetError } from './xet-error.ts';

const MODES: readonly CompressionMode[] = ['auto', 'none', 'lz4', 'bg4-lz4'];

export interface XetConfigOptions {
  readonly compression?: CompressionMode;
  readonly token?: string;
  /**
   * Directory of the store of this machine that an endpoint elsewhere is used through: what was fetched stays
   * there. By default one of its own, which is removed when the storage is closed.
   */
  readonly cache?: string;
  /** Proxies, certificate authorities, timeouts. Nothing is taken from the environment. */
  readonly http?: HttpSettings;
}

export class XetConfig {
  /** The address of a store: a directory, file://, http(s):// or s3:// (see parseAddress). */
  readonly endpoint: string | undefined;
  readonly compression: CompressionMode;
  readonly cache: string | undefined;
  readonly #token: string | undefined;
  /** May hold the password of a proxy. */
  readonly #http: HttpSettings;

  /** Throws XetError InvalidConfig. */
  constructor(endpoint?: string, options: XetConfigOptions = {}) {
    const { compression = 'auto', token, cache, http = {} } = options;
    if (endpoint !== undefined && (endpoint === '' || /[\0\n]/.test(endpoint))) {
      throw invalid(`expected a directory or a URL as the endpoint, found ${JSON.stringify(endpoint)}`);
    }
    if (endpoint !== undefined && /^[a-z]+:\/\/[^/]*@/i.test(endpoint)) {
      throw invalid('the endpoint holds a user or token, which would be shown and stored: use withToken');
    }
    if (!MODES.includes(compression)) {
      throw invalid(`expected the compression ${MODES.join(', ')}, found ${JSON.stringify(compression)}`);
    }
    if (token !== undefined && (token === '' || /[\s\0]/.test(token))) {
      throw invalid('expected a token in one word');
    }
    if (cache !== undefined && (cache === '' || cache.includes('\0'))) {
      throw invalid(`expected a directory as the cache, found ${JSON.stringify(cache)}`);
    }
    this.endpoint = endpoint;
    this.compression = compression;
    this.cache = cache;
    this.#token = token;
    this.#http = http;
  }

  #with(change: XetConfigOptions): XetConfig {
    return new XetConfig(this.endpoint, {
      compression: this.compression,
      ...(this.#token === undefined ? {} : { token: this.#token }),
      ...(this.cache === undefined ? {} : { cache: this.cache }),
      http: this.#http,
      ...change,
    });
  }

  withToken(token: string): XetConfig {
    return this.#with({ token });
  }

  withCompression(compression: CompressionMode): XetConfig {
    return this.#with({ compression });
  }

  withCache(cache: string): XetConfig {
    return this.#with({ cache });
  }

  withHttp(http: HttpSettings): XetConfig {
    return this.#with({ http });
  }

  /** Whether there is a token. It is not among the properties, so that no log shows it. */
  get hasToken(): boolean {
    return this.#token !== undefined;
  }

  /** For the service at `endpoint`, and for nobody else. */
  token(): string | undefined {
    return this.#token;
  }

  http(): HttpSettings {
    return this.#http;
  }
}

function invalid(message: string): XetError {
  return new XetError('InvalidConfig', new Git2dbError('INVALID_CONFIG', message));
}
