/**
 * How git proves who it is to a remote.
 *
 * A token stays in the memory of this process. Git gets a credential helper that asks this process over
 * a socket in a private directory (askpass.ts); the answer is given for one authority (scheme, host,
 * port) only. So no argument list, environment, file or URL ever holds it, and a redirect to another
 * host, or a `url.*.insteadOf` in some configuration, earns nothing. An environment variable would have
 * been simpler, but every child of git (hooks, filters, `ssh`) inherits it, and /proc shows it.
 *
 * The user's own helpers are not asked while a token is given: git would hand it to them to be kept.
 */
import { statSync } from 'node:fs';
import { resolve } from 'node:path';
import { withoutSecrets } from '../git/failure.ts';
import { shellWord } from '../large-files/shell-word.ts';
import { type CredentialRequest, openCredentialSocket } from './askpass.ts';
import type { RegistryConfig } from './config-settings.ts';
import { AuthError } from './errors.ts';
import type { ConfigPair } from './trust.ts';

export type AuthOptions =
  /** HTTP: a token, or a password, for one authority. */
  | {
      readonly kind: 'token';
      readonly token: string;
      /** The user the URL names, or `oauth2`, unless given: most servers take any name with a token. */
      readonly username?: string;
      /**
       * `https://host[:port]` (or just `host[:port]`): who may get it. The authority of the remote's URL
       * unless given; one of plain http must be given, as the token then travels readable for all.
       */
      readonly authority?: string;
    }
  /** SSH: one private key, and no other that an agent may hold. */
  | { readonly kind: 'ssh-key'; readonly path: string }
  /** Whatever the user's own git configuration says: helpers, askpass, agent. What happens without `auth`. */
  | { readonly kind: 'credential-helper' }
  /** HTTP: an anonymous request; no helper is asked. */
  | { readonly kind: 'none' };

export interface AuthSettings {
  /** Whether HTTP redirects are followed: not at all (default), or for the first request as git does. */
  readonly followRedirects?: boolean | undefined;
  /** A person sits at the terminal and may be asked. Default: nobody is. */
  readonly interactive?: boolean | undefined;
}

/** Held open while git runs. */
export interface AuthSession extends AsyncDisposable {
  /** For GIT_CONFIG_COUNT, after those of trust.ts. */
  readonly config: readonly ConfigPair[];
  readonly env: Readonly<Record<string, string>>;
  /** Authorities that asked for the secret and did not get it, for a message. */
  readonly refused: readonly string[];
}

/** Throws AUTH_FAILED for a secret that cannot or must not go to `url`; nothing has been sent then. */
export async function openAuth(
  auth: AuthOptions | undefined,
  url: string,
  settings: AuthSettings = {},
): Promise<AuthSession> {
  const remote = httpAuthority(url);
  const redirects = redirectSettings(url, remote, settings);
  switch (auth?.kind) {
    case undefined:
    case 'credential-helper':
      return plainSession(redirects, {});
    case 'none':
      if (remote === undefined && isSsh(url)) throw wrongKind('an anonymous request', 'http or https', url);
      return plainSession([...redirects, ['credential.helper', '']], NO_ASKPASS);
    case 'ssh-key':
      if (!isSsh(url)) throw wrongKind('an ssh key', 'ssh', url);
      return plainSession([], { GIT_SSH_COMMAND: sshCommand(auth.path, settings) });
    case 'token': {
      if (remote === undefined) throw wrongKind('a token', 'http or https', url);
      checkSecret(auth.token, auth.username);
      const authority = tokenAuthority(auth.authority, remote);
      return tokenSession({ token: auth.token, username: auth.username, authority }, redirects);
    }
    default:
      throw new AuthError(
        `expected auth of the kind token, ssh-key, credential-helper or none, found ${JSON.stringify((auth as { kind?: unknown }).kind)}`,
      );
  }
}

/**
 * The token of our configuration for `url`: that of the hub for the hub's authority, that of the Xet service
 * for its own, and none for anybody else.
 */
export function configuredAuth(
  config: Pick<RegistryConfig, 'hfEndpoint' | 'hfToken' | 'xetEndpoint' | 'xetToken'>,
  url: string,
): AuthOptions | undefined {
  const authority = httpAuthority(url);
  if (authority === undefined) return undefined;
  for (const [endpoint, token] of [
    [config.hfEndpoint, config.hfToken],
    [config.xetEndpoint, config.xetToken],
  ]) {
    if (endpoint === undefined || token === undefined || httpAuthority(endpoint) !== authority) continue;
    return { kind: 'token', token, authority };
  }
  return undefined;
}

/** Programs of the user's environment that would ask somebody. */
const NO_ASKPASS: Readonly<Record<string, string>> = { GIT_ASKPASS: '', SSH_ASKPASS: '' };

interface Secret {
  readonly token: string;
  readonly username: string | undefined;
  /** `https://host` or `https://host:port`, as `URL.origin` writes it. */
  readonly authority: string;
}

async function tokenSession(secret: Secret, redirects: readonly ConfigPair[]): Promise<AuthSession> {
  const refused: string[] = [];
  const socket = await openCredentialSocket((request) => answer(secret, request, refused));
  return {
    config: [...redirects, ['credential.helper', ''], ['credential.helper', socket.helper]],
    env: NO_ASKPASS,
    refused,
    [Symbol.asyncDispose]: () => socket[Symbol.asyncDispose](),
  };
}

function plainSession(config: readonly ConfigPair[], env: Readonly<Record<string, string>>): AuthSession {
  return { config, env, refused: [], async [Symbol.asyncDispose]() {} };
}

function answer(secret: Secret, { operation, fields }: CredentialRequest, refused: string[]) {
  if (operation !== 'get') return {};
  const asking = `${fields.get('protocol')}://${fields.get('host')}`;
  if (originOf(asking) !== secret.authority) {
    const shown = withoutSecrets(asking);
    if (!refused.includes(shown)) refused.push(shown);
    return {};
  }
  return { username: secret.username ?? fields.get('username') ?? 'oauth2', password: secret.token };
}

/**
 * `http.<url>.*` goes before `http.*`, so the URL itself is named too. Only where HTTP is spoken at all.
 */
function redirectSettings(
  url: string,
  remote: string | undefined,
  { followRedirects }: AuthSettings,
): ConfigPair[] {
  const value = followRedirects === true ? 'initial' : 'false';
  const pairs: ConfigPair[] = [['http.followRedirects', value]];
  if (remote !== undefined) pairs.push([`http.${withoutSecrets(url)}.followRedirects`, value]);
  return pairs;
}

/** scheme://host[:port] of an http(s) URL; undefined for others. Throws AUTH_FAILED where parsers disagree. */
export function httpAuthority(url: string): string | undefined {
  if (!/^https?:/i.test(url)) return undefined;
  const origin = originOf(url.replace(/[?#].*$/s, '').replace(/^(https?:\/\/[^/\\]*)\/.*$/is, '$1'));
  if (origin === undefined) {
    throw new AuthError(
      `expected https://host[:port]/path, found ${JSON.stringify(withoutSecrets(url))}, whose host is not plain: correct the URL`,
    );
  }
  return origin;
}

/**
 * Undefined for anything but scheme, host and port (user information is allowed, and not looked at) in
 * plain characters: what one parser takes for the host (`a\@b`) another must not take for something else.
 */
function originOf(text: string): string | undefined {
  const parts = /^(https?):\/\/(?:[^\s@/\\]*@)?([a-z0-9._-]+|\[[0-9a-f:.]+\])(?::(\d{1,5}))?\/?$/i.exec(text);
  if (parts === null) return undefined;
  const [, scheme, host, port] = parts;
  try {
    return new URL(`${scheme}://${host}${port === undefined ? '' : `:${port}`}`).origin;
  } catch {
    return undefined;
  }
}

function tokenAuthority(given: string | undefined, remote: string): string {
  if (given === undefined) {
    if (remote.startsWith('https:')) return remote;
    throw new AuthError(
      `the token would go to ${remote} readable for everybody on the way: use https, or say authority: ${JSON.stringify(remote)}`,
    );
  }
  const authority = originOf(/^[a-z]+:\/\//i.test(given) ? given : `https://${given}`);
  if (authority === undefined || given.includes('@')) {
    throw new AuthError(
      `expected an authority such as https://host or host:port, found ${JSON.stringify(withoutSecrets(given))}`,
    );
  }
  if (authority !== remote) {
    throw new AuthError(
      `the token is for ${authority}, and the remote is at ${remote}: correct the URL, or give the token of ${remote}`,
      { data: { authority, remote } },
    );
  }
  return authority;
}

/** A line break would begin another field of git's credential protocol. */
function checkSecret(token: string, username: string | undefined): void {
  const sound = (text: string) => text !== '' && !/[\0\r\n]/.test(text);
  if (typeof token !== 'string' || !sound(token)) {
    throw new AuthError(
      'expected a token in one line, found an empty one or one with a line break: check where it was read from',
    );
  }
  if (username !== undefined && !sound(username)) {
    throw new AuthError('expected a user name in one line, found an empty one or one with a line break');
  }
}

/** ssh://, git+ssh://, or `[user@]host:path`, which is none if a slash comes before the colon. */
function isSsh(url: string): boolean {
  return /^(?:ssh|git\+ssh|ssh\+git):\/\//i.test(url) || /^(?![a-z0-9+.-]+:\/\/)[^/:]+:(?!:)/i.test(url);
}

/** ssh expands `%` and `${...}` in the name of a key; the first can be escaped. */
function sshCommand(path: string, { interactive }: AuthSettings): string {
  const key = resolve(path);
  const stat = statSync(key, { throwIfNoEntry: false });
  if (stat?.isFile() !== true) {
    throw new AuthError(
      `expected an ssh private key at ${key}, found ${stat === undefined ? 'nothing' : 'no file'}: correct the path`,
      {
        data: { path: key },
      },
    );
  }
  if (/\$\{|[\0\n]/.test(key)) {
    throw new AuthError(`ssh cannot be given a key in a file named ${JSON.stringify(key)}: rename it`, {
      data: { path: key },
    });
  }
  const words = ['ssh', '-i', key.replaceAll('%', '%%'), '-o', 'IdentitiesOnly=yes'];
  // Nobody is there to answer a question, so it is a failure.
  if (interactive !== true) words.push('-o', 'BatchMode=yes');
  return words.map(shellWord).join(' ');
}

function wrongKind(what: string, scheme: string, url: string): AuthError {
  return new AuthError(
    `${what} is for ${scheme}, and the remote is ${withoutSecrets(url)}: correct the URL, or give other auth`,
    {
      data: { url: withoutSecrets(url) },
    },
  );
}
