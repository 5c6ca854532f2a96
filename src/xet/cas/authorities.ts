/** Whom to trust about the certificates of servers, in the form that connections take. */
import { readFileSync } from 'node:fs';
import { createSecureContext, rootCertificates, type SecureContext } from 'node:tls';
import { extraAuthoritiesFile } from '../../node-start.ts';

type Environment = Readonly<Record<string, string | undefined>>;

/** By their PEM text: parsing a whole bundle takes longer than connecting. */
const contexts = new Map<string, SecureContext>();

/** One for all connections that trust these authorities, `pem`: certificates one after the other. */
export function contextFor(pem: string): SecureContext {
  const context = contexts.get(pem) ?? createSecureContext({ ca: pem });
  contexts.set(pem, context);
  return context;
}

/**
 * Node's own authorities and those of NODE_EXTRA_CA_CERTS, as PEM; undefined where Node knows them all by itself.
 * A file that cannot be read is ignored, as Node does: what is not trusted for that is told when it is met.
 */
export function defaultAuthorities(env: Environment): string | undefined {
  const file = extraAuthoritiesFile(env);
  if (file === undefined) return undefined;
  try {
    return `${rootCertificates.join('\n')}\n${readFileSync(file, 'utf8')}`;
  } catch {
    return undefined;
  }
}
