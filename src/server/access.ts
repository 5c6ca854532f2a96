/**
 * Who may do what. Credentials are a token of this server, as `Authorization: Bearer`, or as the password of
 * `Basic` (any user name; git and git-lfs send it so).
 *
 * A token that claims to be ours and is not valid is always refused with 401, so that its holder gets a new
 * one. Any other credential is of no meaning here and counts as none.
 */
import type { Exchange, Identity } from './exchange.ts';
import { HttpError } from './http-error.ts';
import type { AnonymousAccess } from './options.ts';
import { isRepositoryOf, looksLikeToken, readToken, type TokenScope } from './token.ts';

export interface AccessRules {
  readonly anonymous: AnonymousAccess;
  readonly tokenKey: Uint8Array;
  readonly now: () => number;
}

const MAX_AUTHORIZATION = 8192;

export function identify(exchange: Exchange, rules: AccessRules): Identity {
  const anonymous: Identity = { name: 'anonymous', scope: rules.anonymous, repositories: undefined };
  const header = exchange.header('authorization');
  if (header === undefined) return anonymous;
  const secret = header.length <= MAX_AUTHORIZATION ? secretOf(header) : undefined;
  if (secret === undefined || !looksLikeToken(secret)) return { ...anonymous, name: 'unknown' };
  const claims = readToken(rules.tokenKey, secret, Math.floor(rules.now() / 1000));
  if (claims === undefined) {
    throw new HttpError(401, 'the token is not one of this server, or has expired', challenge());
  }
  const { id, scope, repositories, expiresAt } = claims;
  return { name: id, scope, repositories, expiresAt };
}

function secretOf(header: string): string | undefined {
  const [, scheme, rest] = /^([A-Za-z]+) +(\S+) *$/.exec(header) ?? [];
  if (scheme === undefined || rest === undefined) return undefined;
  if (scheme.toLowerCase() === 'bearer') return rest;
  if (scheme.toLowerCase() !== 'basic') return undefined;
  const pair = Buffer.from(rest, 'base64').toString('utf8');
  const colon = pair.indexOf(':');
  if (colon < 0) return undefined;
  // Some programs put a token in the place of the user.
  const user = pair.slice(0, colon);
  return looksLikeToken(user) ? user : pair.slice(colon + 1);
}

/** Throws 401 for somebody unknown, 403 for somebody known, unless they may do `wanted` (with `repository`). */
export function demand(exchange: Exchange, wanted: TokenScope, repository?: string): void {
  const { identity } = exchange;
  const { scope } = identity;
  const isKnown = identity.name !== 'anonymous' && identity.name !== 'unknown';
  const isEnough = scope === 'write' || scope === wanted;
  if (!isEnough) {
    if (isKnown) throw new HttpError(403, `the token allows to ${scope} only`);
    throw new HttpError(401, `a token that allows to ${wanted} is needed here`, challenge());
  }
  if (repository !== undefined && !isRepositoryOf(identity.repositories, repository)) {
    throw new HttpError(403, `the token is not for the repository ${repository}`);
  }
}

export function challenge(): Record<string, string> {
  return { 'WWW-Authenticate': 'Basic realm="git2db", charset="UTF-8"' };
}
