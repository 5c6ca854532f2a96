/** The worktrees of a repository: what `git worktree list` tells, and the git directory of each. */

import { readdir, readFile } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { errnoOf } from '../xet/errors.ts';
import { splitZ } from './records.ts';
import type { RepositoryPaths } from './repository.ts';
import { type GitRun, git } from './runner.ts';
import { gitAtLeast } from './version.ts';

export interface Worktree {
  /** Of the top; of the git directory, for the entry of a bare repository. The directory may be gone. */
  readonly path: string;
  readonly gitDir: string;
  readonly main: boolean;
  readonly bare: boolean;
  /** Commit id; undefined on a branch without commits, and for a bare repository. */
  readonly head: string | undefined;
  /** Full name of the branch; undefined when detached. */
  readonly branch: string | undefined;
  /** The reason given, or empty, when it is locked. */
  readonly locked: string | undefined;
  /** Why `git worktree prune` would remove it, if it would. */
  readonly prunable: string | undefined;
}

/** The main worktree first. One that appears or goes meanwhile may be missing. */
export async function listWorktrees(
  repo: RepositoryPaths,
  options: Pick<GitRun, 'signal' | 'env'> = {},
): Promise<Worktree[]> {
  const gitDirs = await linkedGitDirs(repo.commonDir);
  const nulTerminated = await gitAtLeast('2.36');
  const { stdout } = await git(['worktree', 'list', '--porcelain', ...(nulTerminated ? ['-z'] : [])], {
    cwd: repo.commonDir,
    env: { ...options.env, GIT_DIR: repo.commonDir },
    signal: options.signal,
  });
  const lines = nulTerminated ? [...splitZ(stdout)].map(String) : stdout.toString('utf8').split('\n');
  const worktrees: Worktree[] = [];
  for (const fields of records(lines)) {
    const path = fields.get('worktree')!;
    const main = worktrees.length === 0;
    const gitDir = main ? repo.commonDir : gitDirs.get(path);
    if (gitDir === undefined) continue;
    const head = fields.get('HEAD');
    worktrees.push({
      path,
      gitDir,
      main,
      bare: fields.has('bare'),
      head: head === undefined || /^0+$/.test(head) ? undefined : head,
      branch: fields.get('branch'),
      locked: fields.get('locked'),
      prunable: fields.get('prunable'),
    });
  }
  return worktrees;
}

/** Records end with an empty line; a line is a word, and what follows the space after it. */
function* records(lines: readonly string[]): Iterable<ReadonlyMap<string, string>> {
  let fields = new Map<string, string>();
  for (const line of lines) {
    if (line === '') {
      if (fields.has('worktree')) yield fields;
      fields = new Map();
      continue;
    }
    const space = line.indexOf(' ');
    if (space < 0) fields.set(line, '');
    else fields.set(line.slice(0, space), line.slice(space + 1));
  }
}

/** Path of the work tree -> its directory below <common dir>/worktrees. */
async function linkedGitDirs(commonDir: string): Promise<Map<string, string>> {
  const found = new Map<string, string>();
  const directory = join(commonDir, 'worktrees');
  for (const id of await ifThere(readdir(directory), [])) {
    const gitDir = join(directory, id);
    const link = (await ifThere(readFile(join(gitDir, 'gitdir'), 'utf8'), '')).replace(/\s+$/, '');
    if (link !== '') found.set(dirname(resolve(gitDir, link)), gitDir);
  }
  return found;
}

async function ifThere<T>(reading: Promise<T>, otherwise: T): Promise<T> {
  try {
    return await reading;
  } catch (error) {
    if (errnoOf(error) === 'ENOENT' || errnoOf(error) === 'ENOTDIR') return otherwise;
    throw error;
  }
}
