/**
 * Where the LFS server of a git remote is. The first of these that says something counts, git's configuration
 * before `.lfsconfig`:
 *
 *     lfs.pushurl (for uploads), lfs.url
 *     remote.<name>.lfspushurl (for uploads), remote.<name>.lfsurl
 *     the URL of the remote: https://host/path.git/info/lfs; for ssh what `git-lfs-authenticate` says there;
 *     for a directory nothing, its repository is read and written directly
 *
 * A URL that comes from `.lfsconfig`, on another authority than the git remote, is used for nothing until the user
 * trusts it: it would get the names of all objects, and could be the way out of a network.
 */
import { Git2dbError } from '../xet/errors.ts';
import { shownUrl } from '../xet/remote/address.ts';

export type LfsOperation = 'upload' | 'download';

export interface SshPlace {
  /** `user@host` or `host`. */
  readonly destination: string;
  readonly port: string | undefined;
  /** Of the repository, as the other side has it. */
  readonly path: string;
}

export type LfsEndpoint =
  /** `url`: without user and password; `login`: those that the URL held. */
  | {
      readonly kind: 'http';
      readonly url: string;
      readonly login: { readonly username: string; readonly password: string } | undefined;
    }
  | { readonly kind: 'ssh'; readonly place: SshPlace; readonly fallback: string }
  | { readonly kind: 'local'; readonly url: string };

export interface EndpointQuestion {
  readonly operation: LfsOperation;
  /** Name of the git remote; undefined for a mere URL. */
  readonly remote: string | undefined;
  /** What git itself uses for the operation, after insteadOf. */
  readonly gitUrl: string;
  /** The last value of a key of git's configuration. */
  readonly config: (key: string) => string | undefined;
  readonly lfsConfig: ReadonlyMap<string, string>;
  readonly isTrusted: (url: string) => boolean;
}

/** Throws URL_INVALID, or TRUST_REQUIRED. */
export function findEndpoint(question: EndpointQuestion): LfsEndpoint {
  const { gitUrl, config, lfsConfig } = question;
  const keys = settingsOf(question);
  for (const key of keys) {
    const value = config(key);
    if (value !== undefined && value !== '') return parseEndpoint(value, key);
  }
  for (const key of keys) {
    const value = lfsConfig.get(key);
    if (value === undefined || value === '') continue;
    const endpoint = parseEndpoint(value, `${key} in .lfsconfig`);
    checkTrust(endpoint, value, question);
    return endpoint;
  }
  return derive(gitUrl);
}

function settingsOf({ operation, remote }: EndpointQuestion): string[] {
  const isUpload = operation === 'upload';
  const general = [...(isUpload ? ['lfs.pushurl'] : []), 'lfs.url'];
  if (remote === undefined) return general;
  return [...general, ...(isUpload ? [`remote.${remote}.lfspushurl`] : []), `remote.${remote}.lfsurl`];
}

function checkTrust(endpoint: LfsEndpoint, value: string, { gitUrl, isTrusted }: EndpointQuestion): void {
  const own = derive(gitUrl);
  const isOwn =
    (endpoint.kind === 'http' && own.kind === 'http' && originOf(endpoint.url) === originOf(own.url)) ||
    // What ssh leads to is reached over https on the same host.
    (endpoint.kind === 'http' && own.kind === 'ssh' && originOf(endpoint.url) === originOf(own.fallback));
  if (isOwn || (endpoint.kind === 'http' && isTrusted(endpoint.url))) return;
  const shown = shownUrl(value);
  throw new Git2dbError(
    endpoint.kind === 'http' ? 'TRUST_REQUIRED' : 'REFUSED',
    `.lfsconfig names the LFS server ${shown}, which is not on the authority of the git remote (${shownUrl(gitUrl)}), ` +
      'so it is used for nothing until you trust it: ' +
      (endpoint.kind === 'http'
        ? `git2db xet trust ${endpoint.url}, or git config lfs.url ${shown}`
        : `git config lfs.url ${shown}`),
    { data: { url: shown } },
  );
}

/** A URL of an LFS server. */
function parseEndpoint(text: string, key: string): LfsEndpoint {
  if (/^https?:\/\//i.test(text)) return httpEndpoint(text, key);
  const ssh = parseSsh(text);
  if (ssh !== undefined) return { kind: 'ssh', place: ssh, fallback: deriveHttps(ssh) };
  if (isLocal(text)) return { kind: 'local', url: text };
  throw new Git2dbError(
    'URL_INVALID',
    `${key} is ${JSON.stringify(shownUrl(text))}; expected an https, http or ssh URL, or a directory`,
  );
}

function httpEndpoint(text: string, key: string): LfsEndpoint & { readonly kind: 'http' } {
  if (!URL.canParse(text) || /[\s\p{Cc}\\]/u.test(text))
    throw new Git2dbError('URL_INVALID', `${key} is ${JSON.stringify(shownUrl(text))}, which is no URL`);
  const url = new URL(text);
  const login =
    url.password === '' ? undefined : { username: decoded(url.username), password: decoded(url.password) };
  url.username = '';
  url.password = '';
  url.hash = '';
  url.search = '';
  return { kind: 'http', url: url.href.replace(/\/+$/, ''), login };
}

/** The server that a git URL implies. */
function derive(gitUrl: string): LfsEndpoint {
  // `transport::address` names a program.
  if (/^[^/]*::/.test(gitUrl)) throw noServer(gitUrl);
  if (/^https?:\/\//i.test(gitUrl)) {
    const { url, login } = httpEndpoint(gitUrl, 'the URL of the remote');
    return { kind: 'http', url: withSuffix(url), login };
  }
  const ssh = parseSsh(gitUrl);
  if (ssh !== undefined) return { kind: 'ssh', place: ssh, fallback: deriveHttps(ssh) };
  if (isLocal(gitUrl)) return { kind: 'local', url: gitUrl };
  const anonymous = /^git:\/\/([^/]+)(\/.*)$/i.exec(gitUrl);
  if (anonymous !== null)
    return httpEndpoint(withSuffix(`https://${anonymous[1]}${anonymous[2]}`), 'the URL of the remote');
  throw noServer(gitUrl);
}

function noServer(gitUrl: string): Git2dbError {
  return new Git2dbError(
    'URL_INVALID',
    `no LFS server follows from ${shownUrl(gitUrl)}: name one with \`git config lfs.url URL\``,
  );
}

function withSuffix(url: string): string {
  const bare = url.replace(/\/+$/, '');
  return `${bare.endsWith('.git') ? bare : `${bare}.git`}/info/lfs`;
}

function deriveHttps({ destination, path }: SshPlace): string {
  const host = destination.replace(/^.*@/, '');
  return withSuffix(`https://${host}/${path.replace(/^\/+/, '')}`);
}

/** `ssh://[user@]host[:port]/path`, or `[user@]host:path`. */
export function parseSsh(url: string): SshPlace | undefined {
  const long = /^(?:git\+)?ssh:\/\/(?:([^@/]+)@)?(\[[0-9a-f:]+\]|[^:/@]+)(?::(\d+))?(\/.*)$/i.exec(url);
  const short = /^(?:([^@/:]+)@)?([^/:@]+):(?!\/\/)(.+)$/.exec(url);
  const match = long ?? (/^[a-z][a-z0-9+.-]*:\/\//i.test(url) ? null : short);
  if (match === null) return undefined;
  const [, user, host] = match as unknown as [string, string | undefined, string];
  const destination = user === undefined ? host : `${user}@${host}`;
  // A host that begins so would be an option of ssh.
  if (/^-|\s/.test(destination) || /\p{Cc}/u.test(url)) {
    throw new Git2dbError('URL_INVALID', `${JSON.stringify(shownUrl(url))} is no ssh URL`);
  }
  return { destination, port: long?.[3], path: (long === null ? match[3] : long[4]) as string };
}

function isLocal(url: string): boolean {
  return /^file:\/\//i.test(url) || (!/^[a-z][a-z0-9+.-]*:\/\//i.test(url) && !/^[^/]*:/.test(url));
}

function originOf(url: string): string {
  return new URL(url).origin;
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}
