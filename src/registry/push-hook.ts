/**
 * The pre-push hook in repositories that the registry has made, so that a plain `git push` in them, or in one of
 * their worktrees, sends the content of large files. (`push` of a handle sends it by itself.) The hooks of an adopted
 * repository are its owner's: `handle.xet.installHook()`, or `git2db xet install` in it.
 */
import { existsSync, readFileSync, realpathSync } from 'node:fs';
import { join } from 'node:path';
import { type HookChange, hooksDirectory, installHooks, isOwnHookText } from '../large-files/hook-files.ts';
import { isInside } from '../large-files/work-tree.ts';
import { Git2dbError } from '../xet/errors.ts';
import { filterProgram } from './filter-program.ts';
import type { GitPlace } from './git-place.ts';
import { wholeEnvironment } from './whole-environment.ts';

/** In the repository's own configuration: `false` where it was cloned without the hook. */
const WANTED = 'git2db.hooks';

export interface PushHookOptions {
  /** Keep a hook that is there, and have it run after ours. */
  readonly chain?: boolean | undefined;
  readonly signal?: AbortSignal | undefined;
}

/**
 * Idempotent. Throws REFUSED for another hook unless `chain`, and for a directory of hooks (core.hooksPath) that is not
 * the repository's own, which other repositories use too.
 */
export async function installPushHook(place: GitPlace, options: PushHookOptions = {}): Promise<HookChange[]> {
  const { chain = false, signal } = options;
  const cwd = place.commonDir;
  const run = { env: { ...wholeEnvironment(place.env), GIT_DIR: cwd }, signal };
  const directory = await hooksDirectory({ ...run, cwd });
  if (!isInside(cwd, realPath(directory))) {
    throw new Git2dbError(
      'REFUSED',
      `the hooks of ${cwd} are in ${directory} (core.hooksPath), which is not its own: ` +
        'run "git2db xet install --chain-hooks" in it, which puts the hook there for all that use that directory',
      { data: { path: directory } },
    );
  }
  // filter=lfs is ours in these repositories, so git-lfs's hooks have nothing to do in them.
  return installHooks({ cwd, lfs: true, chain, run, program: filterProgram(undefined, 'git2db') });
}

/**
 * For a repository that the registry makes: a hook that a template has brought is chained. Resolves to why the hook
 * could not be installed, undefined when all is well.
 */
export async function setUpPushHook(place: GitPlace, signal?: AbortSignal): Promise<string | undefined> {
  try {
    await installPushHook(place, { chain: true, signal });
    return undefined;
  } catch (error) {
    if (error instanceof Git2dbError && error.code === 'REFUSED') return error.message;
    throw error;
  }
}

/** What `ensurePushHook` goes by later. */
export async function declinePushHook(place: GitPlace, signal?: AbortSignal): Promise<void> {
  await place.git(['config', '--local', '--replace-all', WANTED, 'false'], { signal });
}

/** As `setUpPushHook`, unless the repository was made without the hook. Costs one look where it is there. */
export async function ensurePushHook(place: GitPlace, signal?: AbortSignal): Promise<void> {
  if (isOwnHookText(textOf(join(place.commonDir, 'hooks', 'pre-push')))) return;
  const wanted = await place.git(['config', '--local', '--type=bool', '--get', WANTED], {
    okStatus: [0, 1, 128],
    signal,
  });
  if (wanted.stdout.toString('latin1').trim() !== 'false') await setUpPushHook(place, signal);
}

function textOf(path: string): string {
  try {
    return readFileSync(path, 'latin1');
  } catch {
    return '';
  }
}

/** A directory that is not there yet is no symbolic link. */
function realPath(path: string): string {
  return existsSync(path) ? realpathSync(path) : path;
}
