/**
 * The tokens of a server. Nothing about them is stored: whoever has the server's key can check one.
 *
 *     g2_ <payload, base64url> . <HMAC-SHA-256 of "g2_<payload>", base64url>
 *
 * The payload is JSON: {"s":"read"|"write","e":<expiry, seconds since 1970>,"i":"<id, for the log>"} and, for
 * a token that is not for all repositories, "r":"<pattern>". In a pattern `*` stands for any characters but
 * a slash, `**` for any at all. Programs of Hugging Face insist on tokens that begin with `hf_`: that may stand
 * in front.
 */
import { randomBytes } from 'node:crypto';
import { Git2dbError } from '../xet/errors.ts';
import { isSignature, sign } from './keys.ts';

export type TokenScope = 'read' | 'write';

export interface TokenClaims {
  readonly scope: TokenScope;
  /** Undefined: all repositories. */
  readonly repositories: string | undefined;
  /** Seconds since 1970. */
  readonly expiresAt: number;
  /** 12 digits, for logs. */
  readonly id: string;
}

export const TOKEN_PREFIX = 'g2_';
const MAX_TOKEN = 2048;
const PATTERN = /^[A-Za-z0-9._*/-]{1,200}$/;

/** Throws INVALID_CONFIG for a pattern that no repository could match. */
export function checkPattern(pattern: string): string {
  if (PATTERN.test(pattern)) return pattern;
  throw new Git2dbError(
    'INVALID_CONFIG',
    `a pattern of repositories has letters, digits and . _ - / * only, found ${JSON.stringify(pattern)}`,
  );
}

export function makeToken(
  key: Uint8Array,
  claims: Omit<TokenClaims, 'id'> & { readonly id?: string | undefined },
): string {
  const { scope, repositories, expiresAt, id = randomBytes(6).toString('hex') } = claims;
  const payload = {
    s: scope,
    e: expiresAt,
    i: id,
    ...(repositories === undefined ? {} : { r: checkPattern(repositories) }),
  };
  const signed = TOKEN_PREFIX + Buffer.from(JSON.stringify(payload)).toString('base64url');
  return `${signed}.${sign(key, signed).toString('base64url')}`;
}

/** Whether `text` claims to be a token of a server like this one. */
export function looksLikeToken(text: string): boolean {
  return withoutForeignPrefix(text).startsWith(TOKEN_PREFIX);
}

/** Undefined unless `text` is a token that this key has made and that has not expired at `now` (seconds). */
export function readToken(key: Uint8Array, text: string, now: number): TokenClaims | undefined {
  const token = withoutForeignPrefix(text);
  const dot = token.lastIndexOf('.');
  if (token.length > MAX_TOKEN || dot < 0 || !token.startsWith(TOKEN_PREFIX)) return undefined;
  const signed = token.slice(0, dot);
  if (!isSignature(key, signed, Buffer.from(token.slice(dot + 1), 'base64url'))) return undefined;
  // Signed by us: what it says has the right shape.
  const payload = JSON.parse(
    Buffer.from(signed.slice(TOKEN_PREFIX.length), 'base64url').toString('utf8'),
  ) as {
    readonly s: TokenScope;
    readonly e: number;
    readonly i: string;
    readonly r?: string;
  };
  if (payload.e <= now) return undefined;
  return { scope: payload.s, repositories: payload.r, expiresAt: payload.e, id: payload.i };
}

function withoutForeignPrefix(text: string): string {
  return text.startsWith('hf_g2_') ? text.slice(3) : text;
}

/** Whether the repository `name` (without `.git`) is among those of `pattern`; undefined: all are. */
export function isRepositoryOf(pattern: string | undefined, name: string): boolean {
  if (pattern === undefined) return true;
  const source = pattern.replace(/\*\*|\*|[.+?^$(){}|[\]\\]/g, (found) => {
    if (found === '**') return '.*';
    return found === '*' ? '[^/]*' : `\\${found}`;
  });
  return new RegExp(`^${source}$`).test(name);
}

const UNITS: Readonly<Record<string, number>> = { s: 1, m: 60, h: 3600, d: 86400, w: 604800, y: 31536000 };

/** Seconds of `30d`, `12h`, `90m`, `45s`, `2w`, `1y`; throws USAGE. */
export function parseDuration(text: string): number {
  const [, digits, unit] = /^([1-9]\d{0,8})([smhdwy])$/.exec(text) ?? [];
  if (digits === undefined || unit === undefined) {
    throw new Git2dbError('USAGE', `expected a duration such as 30d, 12h or 90m, found '${text}'`);
  }
  return Number(digits) * (UNITS[unit] as number);
}
