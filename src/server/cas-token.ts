/** Tokens for the CAS that a client gets in exchange for what it has for a repository. */
import type { TokenAnswer } from '../xet/cas/protocol.ts';
import type { ServerContext } from './context.ts';
import type { Exchange } from './exchange.ts';
import { makeToken, type TokenScope } from './token.ts';

/** Well over the minute before its end at which clients get a new one. */
const LIFETIME_SECONDS = 3600;

export function issueCasToken(
  context: ServerContext,
  exchange: Exchange,
  scope: TokenScope,
  repository: string,
): TokenAnswer {
  const { identity } = exchange;
  const now = Math.floor(context.now() / 1000);
  // Not for longer than what it was got for.
  const exp = Math.min(now + LIFETIME_SECONDS, identity.expiresAt ?? Number.POSITIVE_INFINITY);
  const id = identity.name === 'anonymous' || identity.name === 'unknown' ? undefined : identity.name;
  const accessToken = makeToken(context.keys.tokens, { scope, repositories: repository, expiresAt: exp, id });
  return { accessToken, casUrl: exchange.base, exp };
}
