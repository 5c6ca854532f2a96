/** Where contents are kept, and how. Never changed: `with...` makes another one. */
import type { CompressionMode } from './compress/scheme.ts';
import { Git2dbError } from './errors.ts';
import { XetError } from './xet-error.ts';

const MODES: readonly CompressionMode[] = ['auto', 'none', 'lz4', 'bg4-lz4'];

export class XetConfig {
  /** The directory of a store, or a file:// URL of it; http(s) of a Xet service. */
  readonly endpoint: string | undefined;
  readonly compression: CompressionMode;
  readonly #token: string | undefined;

  /** Throws XetError InvalidConfig. */
  constructor(
    endpoint?: string,
    options: { readonly compression?: CompressionMode; readonly token?: string } = {},
  ) {
    const { compression = 'auto', token } = options;
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
    this.endpoint = endpoint;
    this.compression = compression;
    this.#token = token;
  }

  withToken(token: string): XetConfig {
    return new XetConfig(this.endpoint, { compression: this.compression, token });
  }

  withCompression(compression: CompressionMode): XetConfig {
    return new XetConfig(this.endpoint, {
      compression,
      ...(this.#token === undefined ? {} : { token: this.#token }),
    });
  }

  /** Whether there is a token. It is not among the properties, so that no log shows it. */
  get hasToken(): boolean {
    return this.#token !== undefined;
  }

  /** For the service at `endpoint`, and for nobody else. */
  token(): string | undefined {
    return this.#token;
  }
}

function invalid(message: string): XetError {
  return new XetError('InvalidConfig', new Git2dbError('INVALID_CONFIG', message));
}
