/** How the LFS server of a remote is reached: its URL, who we are there, and the HTTP door. */
import { GitConfig } from '../git/config.ts';
import { gitCredentials } from '../git/credential.ts';
import { gitText } from '../git/runner.ts';
import { HttpClient, httpSettingsFrom } from '../xet/cas/http.ts';
import { CredentialToken, staticToken, type TokenSource } from '../xet/cas/token.ts';
import { Git2dbError } from '../xet/errors.ts';
import { findEndpoint, type LfsEndpoint, type LfsOperation } from './endpoint.ts';
import { hubOrigin } from './hub-host.ts';
import { readLfsConfig } from './lfsconfig.ts';
import type { LfsPlace } from './objects.ts';
import { sshAuthenticate } from './ssh-authenticate.ts';

const CONFIG_KEYS = '^(lfs\\.|remote\\.|branch\\.|http\\.|core\\.sshcommand$)';
/** As git-lfs. */
const DEFAULT_TRANSFERS = 8;
const MAX_TRANSFERS = 64;

export interface LfsConnection {
  readonly http: HttpClient;
  /** Of the LFS server, without a slash at its end. */
  readonly url: string;
  /** What ssh said to send with questions. */
  readonly headers: Readonly<Record<string, string>>;
  readonly identity: TokenSource | undefined;
  /** Objects moved at once. */
  readonly transfers: number;
  close(): Promise<void>;
}

export interface RemoteWanted {
  readonly operation: LfsOperation;
  /** Name or URL of the git remote. */
  readonly remote: string | undefined;
  /** What git uses for it, where that is known. */
  readonly url?: string | undefined;
  readonly signal?: AbortSignal | undefined;
}

export interface FoundEndpoint {
  readonly endpoint: LfsEndpoint;
  /** Name of the git remote, or its URL. */
  readonly remote: string;
  readonly gitUrl: string;
  readonly config: GitConfig;
}

/** Throws REMOTE_MISSING without a remote, URL_INVALID, TRUST_REQUIRED. */
export async function locate(place: LfsPlace, wanted: RemoteWanted): Promise<FoundEndpoint> {
  const config = GitConfig.load(place.cwd, CONFIG_KEYS, { env: place.env });
  const remote = wanted.remote ?? (await defaultRemote(place, config));
  const isName = config.get(`remote.${remote}.url`) !== undefined;
  const gitUrl = wanted.url ?? (await urlOf(place, remote, isName, wanted.operation));
  const endpoint = findEndpoint({
    operation: wanted.operation,
    remote: isName ? remote : undefined,
    gitUrl,
    config: (key) => config.get(key),
    lfsConfig: await readLfsConfig(place.repository, place.cwd, place.env),
    isTrusted: place.isTrusted,
  });
  return { endpoint, remote, gitUrl, config };
}

/** Opens the way to a server. Nothing is asked yet, but for ssh. */
export async function connect(
  place: LfsPlace,
  found: FoundEndpoint,
  wanted: RemoteWanted,
): Promise<LfsConnection> {
  const { endpoint, config } = found;
  if (endpoint.kind === 'local') throw new Error('a directory is no LFS server');
  const target: Target =
    endpoint.kind === 'http' ? endpoint : await throughSsh(place, endpoint, config, wanted);
  const http = HttpClient.open(httpSettingsFrom(place.env, config.entries()));
  return {
    http,
    url: target.url,
    headers: target.headers ?? {},
    identity: target.headers?.Authorization === undefined ? identityFor(place, target) : undefined,
    transfers: Math.min(MAX_TRANSFERS, Math.max(1, config.int('lfs.concurrenttransfers', DEFAULT_TRANSFERS))),
    close: () => http.close(),
  };
}

interface Target {
  readonly url: string;
  readonly login?: { readonly username: string; readonly password: string } | undefined;
  readonly headers?: Readonly<Record<string, string>>;
}

async function throughSsh(
  { cwd, env }: LfsPlace,
  endpoint: Extract<LfsEndpoint, { kind: 'ssh' }>,
  config: GitConfig,
  { operation, signal }: RemoteWanted,
): Promise<Target> {
  const sshCommand = config.get('core.sshCommand');
  const answer = await sshAuthenticate(endpoint.place, operation, { cwd, env, sshCommand, signal });
  return answer === undefined
    ? { url: endpoint.fallback }
    : { url: answer.href, headers: canonical(answer.header) };
}

/** `Authorization` in that spelling. */
function canonical(header: Readonly<Record<string, string>>): Record<string, string> {
  return Object.fromEntries(
    Object.entries(header).map(([name, value]) => [
      name.toLowerCase() === 'authorization' ? 'Authorization' : name,
      value,
    ]),
  );
}

/** HF_TOKEN for its Hub alone, the login of the URL, else git's credential helpers once the server asks. */
function identityFor({ cwd, env, mayPrompt }: LfsPlace, { url, login }: Target): TokenSource {
  if (login !== undefined) {
    const { username, password } = login;
    return staticToken(url, Buffer.from(`${username}:${password}`).toString('base64'), 'Basic');
  }
  const token = env.HF_TOKEN?.trim();
  if (token !== undefined && token !== '' && new URL(url).origin === hubOrigin(env))
    return staticToken(url, token);
  return new CredentialToken(url, gitCredentials({ cwd, env, mayPrompt }));
}

/** As git fetch: the current branch's, else origin, else the only one. */
async function defaultRemote({ cwd, env }: LfsPlace, config: GitConfig): Promise<string> {
  const branch = await gitText(['symbolic-ref', '--quiet', '--short', 'HEAD'], {
    cwd,
    env,
    keepGitEnv: true,
    okStatus: [0, 1, 128],
  });
  const ofBranch = branch === '' ? undefined : config.get(`branch.${branch}.remote`);
  if (ofBranch !== undefined && ofBranch !== '.') return ofBranch;
  const names = new Set(config.entries().flatMap(({ key }) => /^remote\.(.+)\.url$/.exec(key)?.[1] ?? []));
  if (names.has('origin')) return 'origin';
  const [only, another] = names;
  if (only !== undefined && another === undefined) return only;
  throw new Git2dbError(
    'REMOTE_MISSING',
    only === undefined
      ? 'there is no git remote to get LFS objects from: git remote add origin URL'
      : `several git remotes, and none is origin or the branch's own (${[...names].join(', ')}): name one`,
  );
}

function urlOf(
  { cwd, env }: LfsPlace,
  remote: string,
  isName: boolean,
  operation: LfsOperation,
): Promise<string> {
  const args = isName
    ? ['remote', 'get-url', ...(operation === 'upload' ? ['--push'] : []), '--', remote]
    : ['ls-remote', '--get-url', '--', remote];
  return gitText(args, { cwd, env, keepGitEnv: true });
}
