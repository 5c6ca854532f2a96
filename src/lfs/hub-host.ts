/** Which servers are the Hugging Face Hub. */

type Environment = Readonly<Record<string, string | undefined>>;

const HUB = 'https://huggingface.co';
/** Another name of it, which only redirects. */
const SHORT = 'https://hf.co';

/** Origin of the Hub that this process is to use: HF_ENDPOINT, else the public one. */
export function hubOrigin(env: Environment): string {
  const endpoint = env.HF_ENDPOINT;
  if (endpoint === undefined || !URL.canParse(endpoint)) return HUB;
  const { origin } = new URL(endpoint);
  return origin === SHORT ? HUB : origin;
}

/** Whether a URL, of git or of an LFS server, is on the Hub. */
export function isHubUrl(url: string, env: Environment): boolean {
  if (!/^https?:\/\//i.test(url) || !URL.canParse(url)) return false;
  const { origin } = new URL(url);
  return [HUB, SHORT, hubOrigin(env)].includes(origin);
}

/** Authorities of Hubs. */
export function hubAuthorities(env: Environment): string[] {
  return [...new Set([HUB, SHORT, hubOrigin(env)])];
}

export interface HubRepository {
  readonly origin: string;
  readonly type: 'models' | 'datasets' | 'spaces';
  /** `namespace/name`. */
  readonly name: string;
}

/** The repository that a git or LFS URL on the Hub means. */
export function hubRepository(url: string, env: Environment): HubRepository | undefined {
  if (!isHubUrl(url, env)) return undefined;
  const { origin, pathname } = new URL(url);
  const match = /^\/(datasets\/|spaces\/)?([\w.-]+\/[\w.-]+?)(?:\.git)?(?:\/info\/lfs)?\/*$/.exec(pathname);
  if (match === null) return undefined;
  return {
    origin: origin === SHORT ? HUB : origin,
    type: match[1] === undefined ? 'models' : (match[1].slice(0, -1) as 'datasets' | 'spaces'),
    name: match[2] as string,
  };
}
