/** Which hooks git would run, so that a result can say which were left out. */
import { accessSync, constants, readdirSync } from 'node:fs';
import { homedir } from 'node:os';
import { isAbsolute, join } from 'node:path';
import { git } from '../../git/runner.ts';
import { isOwnHookAlone } from '../../large-files/hook-files.ts';
import type { GitPlace } from '../git-place.ts';

export const COMMIT_HOOKS = [
  'pre-commit',
  'prepare-commit-msg',
  'commit-msg',
  'post-commit',
  'post-rewrite',
] as const;
export const MERGE_HOOKS = ['pre-merge-commit', 'prepare-commit-msg', 'commit-msg', 'post-merge'] as const;
export const REBASE_HOOKS = ['pre-rebase', 'post-rewrite', 'post-checkout'] as const;
export const CHECKOUT_HOOKS = ['post-checkout'] as const;

/** Those of `names` that there are, in the repository or where its configuration says. */
export async function existingHooks(place: GitPlace, names: readonly string[]): Promise<string[]> {
  const local = join(place.commonDir, 'hooks');
  const directory = (await configuredDirectory(place)) ?? local;
  if (!readdirOrNothing(directory).some((name) => names.includes(name))) return [];
  return names.filter((name) => isExecutable(join(directory, name)));
}

/** Whether git would run our hook of that name, and no other after it. */
export async function isOwnAlone(place: GitPlace, name: string): Promise<boolean> {
  const directory = (await configuredDirectory(place)) ?? join(place.commonDir, 'hooks');
  return isOwnHookAlone(join(directory, name));
}

/** core.hooksPath as the files have it, without what trust lays over it. Reading it runs nothing. */
async function configuredDirectory(place: GitPlace): Promise<string | undefined> {
  const { stdout, status } = await git(['config', '--get', '--path', 'core.hooksPath'], {
    cwd: place.reachable ? (place.workTree ?? place.gitDir) : place.commonDir,
    env: { GIT_DIR: place.gitDir },
    okStatus: [0, 1],
  });
  const value = stdout.toString('utf8').replace(/\n$/, '');
  if (status !== 0 || value === '') return undefined;
  if (isAbsolute(value)) return value;
  return value.startsWith('~/')
    ? join(homedir(), value.slice(2))
    : join(place.workTree ?? place.gitDir, value);
}

function readdirOrNothing(directory: string): string[] {
  try {
    return readdirSync(directory);
  } catch {
    return [];
  }
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

/** For a run in which no hook of the repository is wanted. */
export const NO_HOOKS: readonly (readonly [string, string])[] = [['core.hooksPath', '/dev/null']];
