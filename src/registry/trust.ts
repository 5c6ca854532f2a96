/**
 * What git may run on behalf of a repository that nobody has vouched for.
 *
 * A repository's own configuration (`.git/config`, `config.worktree`, and what they include) can name
 * programs: filters, hooks, pagers, an ssh command. In an untrusted repository each of them is laid over
 * by what the user's own configuration (system, global, environment) says, or by what git does without
 * any, so that the user's programs and ours run and the repository's do not. Hooks and the file system
 * monitor are off altogether.
 *
 * The settings travel in GIT_CONFIG_COUNT and its companions: git reads those after every file, hands
 * them down to the git processes it starts itself (submodules too), and no argument list shows them.
 *
 * It is no sandbox. A program that may write `.git/config` while git starts wins the race, and whether a
 * repository of another user is opened at all stays git's decision (safe.directory).
 */
import { isFresh, type stampFiles } from './file-stamp.ts';
import { readScopedConfig } from './scoped-config.ts';
import {
  type ConfigPair,
  checkWorkTree,
  layOver,
  type TrustPlace,
  type TrustSettings,
} from './trust-overlay.ts';

export type { ConfigPair, NeutralizedSetting, TrustPlace, TrustSettings } from './trust-overlay.ts';

export interface TrustOptions {
  /** The environment git will have; that of the process unless given. */
  readonly env?: NodeJS.ProcessEnv | undefined;
  readonly signal?: AbortSignal | undefined;
}

const TRUSTED: TrustSettings = { config: [], env: {}, neutralized: [] };

/**
 * What to lay over for `place`. One `git config` process (more where files are included), none while no
 * configuration file has changed since the last call for this place and environment.
 * Throws TRUST_REQUIRED for a setting that nothing can be laid over.
 */
export async function trustSettings(
  trusted: boolean,
  place: TrustPlace,
  options: TrustOptions = {},
): Promise<TrustSettings> {
  if (trusted) return TRUSTED;
  const { env = process.env, signal } = options;
  const key = JSON.stringify([place.commonDir, place.gitDir, environmentThatCounts(env)]);
  // Of several that ask at once one reads. What a failed reading says is for its own caller alone.
  const before = readings.get(key);
  if (before !== undefined) await before.catch(() => {});
  const known = cache.get(key);
  if (known !== undefined && isFresh(known.stamps)) return known.settings;
  const reading = read(key, place, env, signal);
  readings.set(key, reading);
  try {
    return await reading;
  } finally {
    if (readings.get(key) === reading) readings.delete(key);
  }
}

async function read(
  key: string,
  place: TrustPlace,
  env: NodeJS.ProcessEnv,
  signal: AbortSignal | undefined,
): Promise<TrustSettings> {
  const scoped = await readScopedConfig(place, env, signal);
  checkWorkTree(scoped, place);
  const settings = layOver(scoped, env);
  cache.delete(key);
  cache.set(key, { stamps: scoped.stamps, settings });
  // The oldest goes: a Map keeps the order in which keys came.
  if (cache.size > CACHE_LIMIT) cache.delete(cache.keys().next().value!);
  return settings;
}

/**
 * The variables that give `pairs` to git, after any that `base` holds already (GIT_CONFIG_COUNT of the
 * caller's own environment). Lay the result over `base`.
 */
export function configEnvironment(
  pairs: readonly ConfigPair[],
  base: NodeJS.ProcessEnv = process.env,
): Record<string, string> {
  if (pairs.length === 0) return {};
  const inherited = /^\d+$/.test(base.GIT_CONFIG_COUNT ?? '') ? Number(base.GIT_CONFIG_COUNT) : 0;
  const env: Record<string, string> = { GIT_CONFIG_COUNT: String(inherited + pairs.length) };
  for (const [index, [key, value]] of pairs.entries()) {
    env[`GIT_CONFIG_KEY_${inherited + index}`] = key;
    env[`GIT_CONFIG_VALUE_${inherited + index}`] = value;
  }
  return env;
}

const CACHE_LIMIT = 512;
const readings = new Map<string, Promise<TrustSettings>>();
const cache = new Map<string, { stamps: ReturnType<typeof stampFiles>; settings: TrustSettings }>();

const COUNTING =
  /^(HOME|XDG_CONFIG_HOME|GIT_(CONFIG.*|SSH|EDITOR|PROXY_COMMAND)|SSH_ASKPASS|PAGER|EDITOR|VISUAL|TERM|.*_proxy)$/i;

function environmentThatCounts(env: NodeJS.ProcessEnv): unknown {
  return Object.entries(env)
    .filter(([name]) => COUNTING.test(name))
    .sort();
}
