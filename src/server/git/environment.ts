/** The environment of every git that the server starts: what a program needs, and nothing that steers git. */
import type { BareRepository } from './repositories.ts';

const KEPT = new Set(['PATH', 'HOME', 'LANG', 'TMPDIR', 'TZ', 'XDG_CONFIG_HOME', 'USER', 'LOGNAME']);

/** For `env` of the runner, which lays it over the process's own: everything else is removed. */
export function bareEnvironment(
  variables: Readonly<Record<string, string | undefined>>,
): Record<string, string | undefined> {
  const env: Record<string, string | undefined> = {};
  for (const name of Object.keys(process.env)) if (!KEPT.has(name)) env[name] = undefined;
  return { ...env, GIT_TERMINAL_PROMPT: '0', LC_ALL: 'C', ...variables };
}

/** For git commands about one repository. */
export function repositoryEnvironment(
  repository: BareRepository,
  variables: Readonly<Record<string, string | undefined>> = {},
): Record<string, string | undefined> {
  return bareEnvironment({ GIT_DIR: repository.path, GIT_NO_REPLACE_OBJECTS: '1', ...variables });
}

/** Settings as the variables in which git reads them. */
export function settingsEnvironment(settings: Readonly<Record<string, string>>): Record<string, string> {
  const env: Record<string, string> = { GIT_CONFIG_COUNT: String(Object.keys(settings).length) };
  for (const [i, [key, value]] of Object.entries(settings).entries()) {
    env[`GIT_CONFIG_KEY_${i}`] = key;
    env[`GIT_CONFIG_VALUE_${i}`] = value;
  }
  return env;
}
