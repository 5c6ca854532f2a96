/** Where a worktree goes. */
import { lstatSync, realpathSync } from 'node:fs';
import { basename, dirname, isAbsolute, join, relative, resolve } from 'node:path';
import { errnoOf, Git2dbError } from '../../xet/errors.ts';
import type { GitPlace } from '../git-place.ts';
import type { CheckoutTarget, WorktreeHome, WorktreeSpec } from './driver.ts';

/** The path that was asked for, absolute and without symbolic links in what exists of it. Throws PATH_UNSUITABLE. */
export function requestedPath(path: string, place: GitPlace, home: WorktreeHome): string {
  // Git cuts white space off the end of the path that it keeps in `gitdir`.
  if (path === '' || path.includes('\0') || /[\r\n]/.test(path) || /\s$/.test(path)) {
    throw new Git2dbError(
      'PATH_UNSUITABLE',
      `${JSON.stringify(path)} cannot be the path of a worktree: expected one line that does not end in white space`,
      { data: { path } },
    );
  }
  const real = realPathOf(isAbsolute(path) ? path : resolve(path));
  if (real === '/' || real === place.workTree || isWithin(real, place.commonDir)) {
    throw new Git2dbError(
      'PATH_UNSUITABLE',
      `${real} cannot be a worktree of ${place.commonDir}: name a directory of its own, outside the git directory`,
      { data: { path } },
    );
  }
  const own = [home.own, home.worktrees, home.layers].find(
    (directory) => directory !== undefined && isWithin(real, realPathOf(directory)),
  );
  if (own !== undefined) {
    throw new Git2dbError(
      'PATH_UNSUITABLE',
      `${real} cannot be a worktree: all below ${own} is git2db's own; name another directory`,
      { data: { path } },
    );
  }
  return real;
}

/** Candidates for a worktree without a path, the best first; whoever asks takes the first that is free. */
export function* derivedPaths(
  place: GitPlace,
  home: WorktreeHome,
  spec: WorktreeSpec,
  target: CheckoutTarget,
): Iterable<string> {
  const top = place.workTree ?? place.commonDir;
  const parent =
    home.trees === undefined ? `${top}.worktrees` : join(home.trees, repositoryName(top, home.trees));
  const name = directoryName(target.branch?.slice('refs/heads/'.length) ?? spec.ref);
  const first = realPathOf(join(parent, name));
  yield first;
  for (let i = 2; ; i++) yield `${first}-${i}`;
}

/** Below `repos` of the registry it is the repository's name, `org/model`; elsewhere the last part of its path. */
function repositoryName(top: string, trees: string): string {
  const repos = join(dirname(trees), 'repos');
  const name = isWithin(top, repos) ? relative(repos, top) : basename(top);
  return name.replace(/\.git$/, '');
}

/** The directories of derived paths that several worktrees share, and that go with the last of them. */
export function sharedDirectories(path: string, home: WorktreeHome): string[] {
  const shared = [dirname(path)];
  for (let at = dirname(path); home.trees !== undefined; at = dirname(at)) {
    const outer = dirname(at);
    if (outer === home.trees || !isWithin(outer, home.trees)) break;
    shared.unshift(outer);
  }
  return shared;
}

/** One name for all of a branch: `feature/x` and `x` do not meet in their last part. */
function directoryName(ref: string): string {
  const name = ref
    .replace(/^refs\/(heads|tags|remotes)\//, '')
    .replace(/[^\p{L}\p{N}._+@=-]+/gu, '-')
    .replace(/^[.-]+|[.\s-]+$/g, '')
    .slice(0, 100);
  return name === '' || name === '.git' ? 'worktree' : name;
}

export function isWithin(path: string, directory: string): boolean {
  return path === directory || path.startsWith(`${directory}/`);
}

/** Links resolved as far as there is something. */
export function realPathOf(path: string): string {
  try {
    return realpathSync(path);
  } catch (error) {
    const errno = errnoOf(error);
    // A dead FUSE mount: the directory is there, and only its parents can be looked at.
    if (errno === 'ENOTCONN') return join(realpathSync(dirname(path)), basename(path));
    if (errno !== 'ENOENT') {
      throw new Git2dbError('PATH_UNSUITABLE', `${path} cannot be a worktree: ${(error as Error).message}`, {
        cause: error,
        data: { path },
      });
    }
    if (lstatSync(path, { throwIfNoEntry: false })?.isSymbolicLink() === true) {
      throw new Git2dbError(
        'PATH_UNSUITABLE',
        `${path} is a symbolic link to nothing; remove it, or name another path`,
        {
          data: { path },
        },
      );
    }
    return join(realPathOf(dirname(path)), basename(path));
  }
}
