/** Where the content of lost files may be: other stores on this machine, objects of git-lfs, and the remotes. */
import { realpathSync } from 'node:fs';
import { join } from 'node:path';
import { type FilterConfig, loadFilterConfig } from '../filter-process/config.ts';
import type { RepositoryPaths } from '../git/repository.ts';
import { LocalStore } from '../xet/store/local-store.ts';
import { ContentRemotes } from './content-remotes.ts';
import { fetchContent } from './fetch-content.ts';
import type { FsckOptions } from './fsck.ts';

/** Whatever comes is in the store. A place that cannot be asked, or lacks a file, is told and no failure. */
export async function fetchLost(
  files: ReadonlyMap<string, number>,
  { cwd, env, mayPrompt = false, signal, warn = () => {} }: FsckOptions,
): Promise<void> {
  await using remotes = new ContentRemotes({ cwd, env, mayPrompt, warn, signal, refresh: true });
  if (remotes.git.names().length === 0) return;
  const wanted = [...files].map(([hash, size]) => ({ kind: 'xet', hash, size }) as const);
  const outcome = await fetchContent(remotes, wanted, { cwd, env, warn, signal });
  const reasons = outcome.files.flatMap(({ error }) => (error === undefined ? [] : [error.message]));
  for (const reason of new Set(reasons)) warn(reason);
}

/**
 * What `dirsOf` finds in the settings of a repository other than the one that `config` is of. Settings that cannot
 * be read are that repository's own trouble.
 */
function dirsOfOther(
  { commonDir }: RepositoryPaths,
  config: FilterConfig,
  env: NodeJS.ProcessEnv,
  dirsOf: (config: FilterConfig) => readonly string[],
): readonly string[] {
  if (commonDir === config.repository.commonDir) return [];
  try {
    return dirsOf(loadFilterConfig(commonDir, { ...env, GIT_DIR: commonDir }));
  } catch {
    return [];
  }
}

/** Where git-lfs has its objects: each may be the content of a lost file. */
export function lfsObjectDirsOf(
  config: FilterConfig,
  repositories: readonly RepositoryPaths[],
  env: NodeJS.ProcessEnv,
): string[] {
  const others = repositories.flatMap((repository) =>
    dirsOfOther(repository, config, env, ({ lfs }) => lfs.objectDirs()),
  );
  return [...new Set([...config.lfs.objectDirs(), ...others])];
}

/** Stores on this machine that may have what ours lost: of the repositories' remotes, and former ones. */
export function otherStores(
  config: FilterConfig,
  repositories: readonly RepositoryPaths[],
  env: NodeJS.ProcessEnv,
): LocalStore[] {
  const others = repositories.flatMap((repository) => [
    join(repository.commonDir, 'xet'),
    ...dirsOfOther(repository, config, env, (other) => other.sourceDirs()),
  ]);
  const dirs = new Set([...config.sourceDirs(), ...others]);
  const own = realPath(config.storeDir);
  return [...dirs].filter((dir) => realPath(dir) !== own).flatMap((dir) => openStore(dir) ?? []);
}

function openStore(dir: string): LocalStore | undefined {
  try {
    const store = new LocalStore(dir);
    return store.exists() ? store : undefined;
  } catch {
    return undefined;
  }
}

function realPath(path: string): string {
  try {
    return realpathSync(path);
  } catch {
    return path;
  }
}
