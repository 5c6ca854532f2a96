/**
 * `.lfsconfig`: settings that a repository brings along (git-lfs-config(5)). It comes from whoever wrote the
 * repository, so only settings that can be harmless are read; what runs programs or leads to files is not.
 */
import { lstatSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseConfigText } from '../git/config-text.ts';
import type { RepositoryPaths } from '../git/repository.ts';
import { git } from '../git/runner.ts';
import { errnoOf, Git2dbError } from '../xet/errors.ts';

const NAME = '.lfsconfig';
const MAX_BYTES = 65536;

/** Keys in canonical form. */
const SAFE_KEY = /^(?:lfs\.(?:url|pushurl|fetchinclude|fetchexclude)|remote\..+\.lfsurl)$/;

/**
 * The safe settings, by canonical key, of the work tree's file, else the one in the index, else that of HEAD.
 * Throws INVALID_CONFIG for a file that cannot be one.
 */
export async function readLfsConfig(
  repository: RepositoryPaths,
  cwd: string,
  env: NodeJS.ProcessEnv,
): Promise<ReadonlyMap<string, string>> {
  const text = fromWorkTree(repository.workTree) ?? (await fromGit(cwd, env));
  return text === undefined ? new Map() : safeSettings(text);
}

/** Later settings win. */
export function safeSettings(text: string): Map<string, string> {
  const settings = new Map<string, string>();
  for (const { key, value } of parseConfigText(text)) {
    if (SAFE_KEY.test(key) && value !== undefined) settings.set(key, value);
  }
  return settings;
}

function fromWorkTree(workTree: string | undefined): string | undefined {
  if (workTree === undefined) return undefined;
  const path = join(workTree, NAME);
  try {
    const stat = lstatSync(path);
    // A link leads to what the repository has no business with.
    if (!stat.isFile()) return undefined;
    if (stat.size > MAX_BYTES) throw tooLarge(stat.size);
    return readFileSync(path, 'utf8');
  } catch (error) {
    const errno = errnoOf(error);
    if (errno === 'ENOENT' || errno === 'ENOTDIR') return undefined;
    throw error;
  }
}

async function fromGit(cwd: string, env: NodeJS.ProcessEnv): Promise<string | undefined> {
  for (const name of [`:${NAME}`, `HEAD:${NAME}`]) {
    const { stdout, status } = await git(['cat-file', 'blob', '--end-of-options', name], {
      cwd,
      env,
      keepGitEnv: true,
      okStatus: [0, 128],
    });
    if (status !== 0) continue;
    if (stdout.length > MAX_BYTES) throw tooLarge(stdout.length);
    return stdout.toString('utf8');
  }
  return undefined;
}

function tooLarge(size: number): Git2dbError {
  return new Git2dbError('INVALID_CONFIG', `${NAME} has ${size} bytes, expected at most ${MAX_BYTES}`);
}
