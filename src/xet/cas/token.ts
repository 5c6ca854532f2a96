/**
 * Tokens for servers. A source of tokens belongs to one authority (scheme, host and port), and http.ts gives
 * its tokens to no other. Tokens appear in no URL, log or error.
 */
import { Git2dbError } from '../errors.ts';
import { untilAborted } from './abort.ts';
import type { HttpClient } from './http.ts';
import { nameUrl } from './http-error.ts';
import { parseTokenAnswer, type TokenAnswer } from './protocol.ts';
import { type Clock, SYSTEM_CLOCK } from './retry.ts';

export type TokenScope = 'read' | 'write';

export interface TokenSource {
  /** The origin of a URL: `https://host:port`, without the port where it is the scheme's own. */
  readonly authority: string;
  /** Default `Bearer`. */
  readonly scheme?: 'Bearer' | 'Basic';
  /** What to send now; undefined: nothing, ask as an unknown person. Throws AUTH_FAILED, REMOTE_FORBIDDEN, ... */
  get(scope: TokenScope, signal?: AbortSignal): Promise<string | undefined>;
  /** The server answered 401 to what `get` gave. The next `get` gives something else, or the same if there is nothing else. */
  invalidate(token: string | undefined): void;
  /** The server took what `get` gave. */
  accept?(token: string | undefined): void;
}

/** A token from configuration, which nothing can renew. */
export function staticToken(url: string, token: string, scheme: 'Bearer' | 'Basic' = 'Bearer'): TokenSource {
  if (!/^[\x21-\x7e]+$/.test(token)) {
    throw new Git2dbError(
      'INVALID_CONFIG',
      `the token for ${new URL(url).host} holds characters that no token has (blanks, line ends?); copy it again`,
    );
  }
  return { authority: new URL(url).origin, scheme, get: async () => token, invalidate: () => undefined };
}

export interface Credentials {
  readonly username: string;
  readonly password: string;
}

/** What `git credential` does; others run it. `url`: without user and password. */
export interface CredentialCallbacks {
  fill(url: string): Promise<Credentials | undefined>;
  approve?(url: string, credentials: Credentials): Promise<void> | void;
  reject?(url: string, credentials: Credentials): Promise<void> | void;
}

export interface CredentialOptions {
  /** Default `Basic`. `Bearer`: the password is a token. */
  readonly scheme?: 'Bearer' | 'Basic';
  /** True: ask for credentials before the server does. Default: as git, only when it answered 401. */
  readonly isEager?: boolean;
}

/** A user and a password, from git's credential helpers, told afterwards whether they were right. */
export class CredentialToken implements TokenSource {
  readonly authority: string;
  readonly scheme: 'Bearer' | 'Basic';
  readonly #url: string;
  readonly #callbacks: CredentialCallbacks;
  #isWanted: boolean;
  #filling: Promise<void> | undefined;
  #credentials: Credentials | undefined;
  #isApproved = false;

  constructor(url: string, callbacks: CredentialCallbacks, options: CredentialOptions = {}) {
    const plain = new URL(url);
    plain.username = '';
    plain.password = '';
    this.#url = plain.href;
    this.authority = plain.origin;
    this.scheme = options.scheme ?? 'Basic';
    this.#callbacks = callbacks;
    this.#isWanted = options.isEager ?? false;
  }

  async get(): Promise<string | undefined> {
    if (!this.#isWanted) return undefined;
    if (this.#credentials === undefined) {
      this.#filling ??= this.#fill();
      await this.#filling;
    }
    return this.#credentials === undefined ? undefined : this.#format(this.#credentials);
  }

  invalidate(token: string | undefined): void {
    if (token === undefined) {
      this.#isWanted = true;
      return;
    }
    const refused = this.#credentials;
    if (refused === undefined || this.#format(refused) !== token) return;
    this.#credentials = undefined;
    this.#isApproved = false;
    tell(() => this.#callbacks.reject?.(this.#url, refused));
  }

  accept(token: string | undefined): void {
    const taken = this.#credentials;
    if (taken === undefined || this.#isApproved || this.#format(taken) !== token) return;
    this.#isApproved = true;
    tell(() => this.#callbacks.approve?.(this.#url, taken));
  }

  async #fill(): Promise<void> {
    try {
      const found = await this.#callbacks.fill(this.#url);
      const isSendable =
        found === undefined || this.scheme === 'Basic' || /^[\x21-\x7e]+$/.test(found.password);
      this.#credentials = isSendable ? found : undefined;
    } finally {
      this.#filling = undefined;
    }
  }

  #format({ username, password }: Credentials): string {
    return this.scheme === 'Bearer' ? password : Buffer.from(`${username}:${password}`).toString('base64');
  }
}

/** A helper that cannot take the news is no reason to stop. */
function tell(news: () => Promise<void> | void | undefined): void {
  Promise.resolve()
    .then(news)
    .catch(() => undefined);
}

export interface ExchangeOptions {
  readonly http: HttpClient;
  /** Where to get a token of that scope. */
  readonly tokenUrl: (scope: TokenScope) => string;
  /** Who we are, for the authority of `tokenUrl`. */
  readonly identity?: TokenSource | undefined;
  /** Whether the server at `tokenUrl` may name that CAS; default: its own authority only. */
  readonly mayUse?: (casUrl: URL, tokenUrl: URL) => boolean;
  readonly clock?: Clock;
}

interface Held {
  readonly token: string;
  readonly scope: TokenScope;
  /** Milliseconds since 1970, by our clock. */
  readonly refreshAt: number;
}

/** Tokens are renewed that long before they expire. */
const REFRESH_MARGIN_MS = 60_000;
const MAX_ANSWER = 262144;

/** Short-lived tokens of a CAS, in exchange for who we are (Xet protocol, "Hub side", token endpoints). */
export class ExchangedToken implements TokenSource {
  readonly authority: string;
  /** Base of the CAS that the tokens are for, without a slash at its end. */
  readonly casUrl: string;
  readonly #options: ExchangeOptions;
  readonly #held = new Map<TokenScope, Held>();
  readonly #asking = new Map<TokenScope, Promise<string>>();

  private constructor(options: ExchangeOptions, casUrl: string) {
    this.#options = options;
    this.casUrl = casUrl;
    this.authority = new URL(casUrl).origin;
  }

  /** Gets the first token, which tells where the CAS is. */
  static async open(
    options: ExchangeOptions,
    scope: TokenScope,
    signal?: AbortSignal,
  ): Promise<ExchangedToken> {
    const { answer, refreshAt } = await exchange(options, scope, signal);
    const source = new ExchangedToken(options, answer.casUrl.replace(/\/+$/, ''));
    source.#held.set(scope, { token: answer.accessToken, scope, refreshAt });
    return source;
  }

  /** With a token that was given already, as Git LFS batch answers do. */
  static from(options: ExchangeOptions, scope: TokenScope, answer: TokenAnswer): ExchangedToken {
    const tokenUrl = options.tokenUrl(scope);
    checkCas(options, answer, tokenUrl);
    const source = new ExchangedToken(options, answer.casUrl.replace(/\/+$/, ''));
    const refreshAt = refreshTime(answer, undefined, options.clock ?? SYSTEM_CLOCK);
    if (refreshAt !== undefined) source.#held.set(scope, { token: answer.accessToken, scope, refreshAt });
    return source;
  }

  async get(scope: TokenScope, signal?: AbortSignal): Promise<string> {
    const now = (this.#options.clock ?? SYSTEM_CLOCK).now();
    // A token to write with is good for reading, too.
    for (const kind of scope === 'read' ? (['read', 'write'] as const) : (['write'] as const)) {
      const held = this.#held.get(kind);
      if (held !== undefined && now < held.refreshAt) return held.token;
    }
    const asking = this.#asking.get(scope) ?? this.#renew(scope);
    this.#asking.set(scope, asking);
    // Others may wait for the same answer: an abort ends the waiting, not the asking.
    return untilAborted(asking, signal);
  }

  invalidate(token: string | undefined): void {
    for (const [scope, held] of this.#held) if (held.token === token) this.#held.delete(scope);
  }

  async #renew(scope: TokenScope): Promise<string> {
    try {
      const { answer, refreshAt } = await exchange(this.#options, scope, undefined);
      if (new URL(answer.casUrl).origin !== this.authority) {
        throw new Git2dbError(
          'REMOTE_INVALID',
          `${nameUrl(this.#options.tokenUrl(scope))} now gives tokens for ${nameUrl(answer.casUrl)}, not for ${this.authority}; run the command again`,
        );
      }
      this.#held.set(scope, { token: answer.accessToken, scope, refreshAt });
      return answer.accessToken;
    } finally {
      this.#asking.delete(scope);
    }
  }
}

async function exchange(
  options: ExchangeOptions,
  scope: TokenScope,
  signal: AbortSignal | undefined,
): Promise<{ readonly answer: TokenAnswer; readonly refreshAt: number }> {
  const tokenUrl = options.tokenUrl(scope);
  const response = await options.http.request({
    method: 'GET',
    url: tokenUrl,
    accept: [200],
    token: options.identity,
    scope,
    signal,
    headers: { accept: 'application/json' },
  });
  const answer = parseTokenAnswer(await response.json(MAX_ANSWER));
  checkCas(options, answer, tokenUrl);
  const refreshAt = refreshTime(answer, response.headers.date, options.clock ?? SYSTEM_CLOCK);
  if (refreshAt === undefined) {
    throw new Git2dbError(
      'AUTH_FAILED',
      `${nameUrl(tokenUrl)} gave a token that had expired at ${new Date(answer.exp * 1000).toISOString()}; ` +
        'see that the clocks of this machine and of the server are right',
    );
  }
  return { answer, refreshAt };
}

function checkCas({ mayUse }: ExchangeOptions, { casUrl }: TokenAnswer, tokenUrl: string): void {
  const cas = new URL(casUrl);
  const from = new URL(tokenUrl);
  const isAllowed = mayUse === undefined ? cas.origin === from.origin : mayUse(cas, from);
  if (!isAllowed) {
    throw new Git2dbError(
      'TRUST_REQUIRED',
      `${from.origin} sends us to ${cas.origin}, which is another authority; if that is meant to be so, say ` +
        `\`git2db xet trust ${cas.origin}\``,
      { data: { url: cas.origin } },
    );
  }
}

/**
 * When to get the next one, by our clock; undefined for a token that is no good any more. The server's `Date` says
 * how far its clock is from ours: only the time that is left counts. Short-lived tokens are used for half of it.
 */
function refreshTime(answer: TokenAnswer, date: string | undefined, clock: Clock): number | undefined {
  const now = clock.now();
  const serverNow = date === undefined ? Number.NaN : Date.parse(date);
  const leftMs = Math.min(answer.exp * 1000, MAX_TIME) - (Number.isNaN(serverNow) ? now : serverNow);
  if (leftMs <= 0) return undefined;
  return now + Math.max(leftMs - REFRESH_MARGIN_MS, leftMs / 2);
}

/** The last moment that a Date can tell. */
const MAX_TIME = 8.64e15;
