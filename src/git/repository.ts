/**
 * Finds a repository from files alone, without starting git: this runs before every filter session.
 *
 * The rules are those of git's own start-up (gitrepository-layout, git "Environment Variables"):
 *
 *     <work tree>/.git            directory: the git directory; file: "gitdir: <path>"
 *     <git dir>/commondir         in a linked worktree: the path of the directory all worktrees share
 *     <git dir>/gitdir            in a linked worktree: the path of the work tree's .git file
 *     <common dir>/config         core.bare, core.worktree; config.worktree beside HEAD if enabled
 *
 * A directory is a git directory when it has a valid HEAD and its common directory has objects/ and refs/.
 */

import { lstatSync, readFileSync, readlinkSync, realpathSync, type Stats, statSync } from 'node:fs';
import { basename, dirname, isAbsolute, join, resolve } from 'node:path';
import { Git2dbError } from '../xet/errors.ts';
import { parseConfigText } from './config-text.ts';

/** Absolute paths without symbolic links. */
export interface RepositoryPaths {
  /** HEAD, index and what else belongs to one work tree. */
  readonly gitDir: string;
  /** Objects, refs, config: shared by all work trees. Equal to `gitDir` but in a linked worktree. */
  readonly commonDir: string;
  /** Undefined for a bare repository. */
  readonly workTree: string | undefined;
}

type GitDirectory = Pick<RepositoryPaths, 'gitDir' | 'commonDir'>;

/**
 * The repository git would use when started in `cwd` with `env`, or undefined when there is none.
 * Throws NOT_A_REPOSITORY where git would refuse to look further: GIT_DIR, or a `.git` file, that
 * leads to no repository.
 */
export function findRepository(cwd: string, env: NodeJS.ProcessEnv): RepositoryPaths | undefined {
  if (env.GIT_DIR !== undefined && env.GIT_DIR !== '') {
    const named = resolve(cwd, env.GIT_DIR);
    const found = gitDirectoryAt(kindOf(named)?.isFile() ? readGitFile(named) : named, env);
    if (found === undefined)
      throw notARepository(`GIT_DIR is ${env.GIT_DIR}, which is no git directory`, named);
    const implicit = isFalse(env.GIT_IMPLICIT_WORK_TREE) ? undefined : realPath(cwd);
    return { ...found, workTree: workTreeOf(found, cwd, env, implicit) };
  }

  const start = realPath(cwd);
  if (start === undefined) return undefined;
  const ceilings = ceilingDirectories(env);
  const acrossMounts = isTrue(env.GIT_DISCOVERY_ACROSS_FILESYSTEM);
  const device = statSync(start).dev;
  for (let directory = start; ; directory = dirname(directory)) {
    const found = repositoryIn(directory, cwd, env);
    if (found !== undefined) return found;
    const parent = dirname(directory);
    if (parent === directory || ceilings.has(parent)) return undefined;
    if (!acrossMounts && kindOf(parent)?.dev !== device) return undefined;
  }
}

/**
 * The repository at `location`: a work tree, a git directory (with or without its `.git` suffix), a
 * `.git` file, or a file:// URL of one of these. Looks at no parent directory and no environment.
 */
export function repositoryAt(location: string): RepositoryPaths | undefined {
  const path = /^file:/i.test(location) ? pathOfFileUrl(location) : location;
  if (path === undefined) return undefined;
  // The suffixes git tries for a remote's path, in its order.
  for (const suffix of ['/.git', '', '.git/.git', '.git']) {
    const candidate = realPath(path + suffix);
    if (candidate === undefined) continue;
    const isFile = kindOf(candidate)?.isFile() === true;
    const found = gitDirectoryAt(isFile ? readGitFile(candidate) : candidate, {});
    if (found === undefined) continue;
    const implicit = isFile ? dirname(candidate) : implicitWorkTree(found);
    return { ...found, workTree: workTreeOf(found, path, {}, implicit) };
  }
  return undefined;
}

/** In the path that the `.git` file of a worktree leads to while the worktree is not mounted. */
export const UNMOUNTED_GUARD = 'git2db-unmounted';

export function notMounted(path: string): Git2dbError {
  return new Git2dbError(
    'NOT_MOUNTED',
    `the worktree ${path} is not mounted (since a reboot, or as its server has ended): 'git2db repair' mounts it again`,
    { data: { path } },
  );
}

/** The repository whose work tree top, or whose git directory, is exactly `directory`. */
function repositoryIn(directory: string, cwd: string, env: NodeJS.ProcessEnv): RepositoryPaths | undefined {
  const dotGit = join(directory, '.git');
  const isFile = kindOf(dotGit)?.isFile() === true;
  const leadsTo = isFile ? readGitFile(dotGit) : dotGit;
  const inside = gitDirectoryAt(leadsTo, env);
  if (inside !== undefined) return { ...inside, workTree: workTreeOf(inside, cwd, env, directory) };
  if (isFile) {
    if (leadsTo?.includes(`/${UNMOUNTED_GUARD}/`)) throw notMounted(directory);
    throw notARepository(`${dotGit} should hold "gitdir: <path>" with the path of a git directory`, dotGit);
  }
  const itself = gitDirectoryAt(directory, env);
  if (itself === undefined) return undefined;
  return { ...itself, workTree: workTreeOf(itself, cwd, env, implicitWorkTree(itself)) };
}

/** The git directory `path`, if it is one. */
function gitDirectoryAt(path: string | undefined, env: NodeJS.ProcessEnv): GitDirectory | undefined {
  const gitDir = path === undefined ? undefined : realPath(path);
  if (gitDir === undefined || !hasValidHead(gitDir)) return undefined;
  const link = env.GIT_COMMON_DIR || readText(join(gitDir, 'commondir'))?.replace(/[\r\n]+$/, '');
  const commonDir = realPath(link ? resolve(gitDir, link) : gitDir);
  if (commonDir === undefined) return undefined;
  const objects = env.GIT_OBJECT_DIRECTORY || join(commonDir, 'objects');
  if (kindOf(objects) === undefined || !kindOf(join(commonDir, 'refs'))?.isDirectory()) return undefined;
  return { gitDir, commonDir };
}

/** HEAD is a symbolic ref below refs/, the (old) symbolic link of one, or an object id. */
function hasValidHead(gitDir: string): boolean {
  const head = join(gitDir, 'HEAD');
  try {
    if (lstatSync(head).isSymbolicLink()) return readlinkSync(head).startsWith('refs/');
    return /^(?:ref:\s*refs\/|[0-9a-f]{40})/.test(readFileSync(head, 'latin1'));
  } catch {
    return false;
  }
}

/** Where a `.git` file leads: one line, `gitdir: <path>`, relative to the file. */
function readGitFile(file: string): string | undefined {
  const target = /^gitdir: (.+?)[\r\n]*$/s.exec(readText(file) ?? '')?.[1];
  return target === undefined ? undefined : resolve(dirname(file), target);
}

/** The work tree that belongs to a git directory by its place alone. */
function implicitWorkTree({ gitDir, commonDir }: GitDirectory): string | undefined {
  if (gitDir === commonDir) return basename(gitDir) === '.git' ? dirname(gitDir) : undefined;
  const link = readText(join(gitDir, 'gitdir'))?.replace(/[\r\n]+$/, '');
  return link ? realPath(dirname(resolve(gitDir, link))) : undefined;
}

/** GIT_WORK_TREE, else core.worktree, else none if core.bare, else `implicit`. */
function workTreeOf(
  { gitDir, commonDir }: GitDirectory,
  cwd: string,
  env: NodeJS.ProcessEnv,
  implicit: string | undefined,
): string | undefined {
  if (env.GIT_WORK_TREE) return realPath(resolve(cwd, env.GIT_WORK_TREE));
  const shared = coreSettings(join(commonDir, 'config'));
  // In a linked worktree core.bare and core.worktree of the shared file are about the main one.
  let { bare, workTree } = gitDir === commonDir ? shared : { bare: false, workTree: undefined };
  if (shared.worktreeConfig) {
    const own = coreSettings(join(gitDir, 'config.worktree'));
    bare = own.bare ?? bare;
    workTree = own.workTree ?? workTree;
  }
  if (workTree !== undefined) return realPath(resolve(gitDir, workTree));
  return bare === true ? undefined : implicit;
}

interface CoreSettings {
  bare: boolean | undefined;
  workTree: string | undefined;
  worktreeConfig: boolean;
}

function coreSettings(file: string): CoreSettings {
  const settings: CoreSettings = { bare: undefined, workTree: undefined, worktreeConfig: false };
  for (const { key, value } of parseConfigText(readText(file) ?? '')) {
    if (key === 'core.bare') settings.bare = value === undefined || isTrue(value);
    else if (key === 'core.worktree') settings.workTree = value;
    else if (key === 'extensions.worktreeconfig')
      settings.worktreeConfig = value === undefined || isTrue(value);
  }
  return settings;
}

/** GIT_CEILING_DIRECTORIES: absolute, `:` between; links are resolved up to an empty entry, not after it. */
function ceilingDirectories(env: NodeJS.ProcessEnv): Set<string> {
  const ceilings = new Set<string>();
  let resolving = true;
  for (const entry of (env.GIT_CEILING_DIRECTORIES ?? '').split(':')) {
    if (entry === '') resolving = false;
    else if (isAbsolute(entry)) ceilings.add((resolving ? realPath(entry) : undefined) ?? resolve(entry));
  }
  return ceilings;
}

/** The path in `file://[localhost]/path`, percent escapes decoded; undefined for another host. */
function pathOfFileUrl(url: string): string | undefined {
  const path = /^file:\/\/(?:localhost)?(\/.*)$/is.exec(url)?.[1];
  return path?.replace(/(?:%[0-9a-f]{2})+/gi, (escaped) => {
    try {
      return decodeURIComponent(escaped);
    } catch {
      return escaped;
    }
  });
}

function isTrue(value: string | undefined): boolean {
  return value !== undefined && /^(?:true|yes|on|[+-]?0*[1-9]\d*)$/i.test(value);
}

function isFalse(value: string | undefined): boolean {
  return value !== undefined && /^(?:false|no|off|0+|)$/i.test(value);
}

/** What `path` is, links followed; undefined when it cannot be seen. */
function kindOf(path: string): Stats | undefined {
  try {
    return statSync(path);
  } catch {
    return undefined;
  }
}

function readText(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return undefined;
  }
}

function realPath(path: string): string | undefined {
  try {
    return realpathSync(path);
  } catch {
    return undefined;
  }
}

function notARepository(message: string, path: string): Git2dbError {
  return new Git2dbError('NOT_A_REPOSITORY', message, { data: { path } });
}
