/** The work tree a command was started in. */
import { relative, sep } from 'node:path';
import { findRepository, type RepositoryPaths } from '../git/repository.ts';
import { Git2dbError } from '../xet/errors.ts';

export interface Place {
  readonly cwd: string;
  /** The environment that says which repository is meant (GIT_DIR and so on). */
  readonly env: NodeJS.ProcessEnv;
}

/**
 * The repository of `cwd`; its `workTree` is undefined where `cwd` is not inside one, as in `.git`.
 * Throws NOT_A_REPOSITORY.
 */
export function requireRepository({ cwd, env }: Place): RepositoryPaths {
  const repository = findRepository(cwd, env);
  if (repository === undefined) throw new Git2dbError('NOT_A_REPOSITORY', `${cwd} is in no git repository`);
  const { workTree, gitDir } = repository;
  const inside = workTree !== undefined && isInside(workTree, cwd) && !isInside(gitDir, cwd);
  return inside ? repository : { ...repository, workTree: undefined };
}

/** The top of the work tree that `cwd` is in; throws NOT_A_REPOSITORY. `purpose` ends the message. */
export function requireWorkTree(
  place: Place,
  purpose: string,
): RepositoryPaths & { readonly workTree: string } {
  const { workTree, ...repository } = requireRepository(place);
  if (workTree !== undefined) return { ...repository, workTree };
  throw new Git2dbError(
    'NOT_A_REPOSITORY',
    `${place.cwd} is not in the work tree of a git repository: ${purpose}`,
  );
}

/** Whether `path` is `folder` or below it; both absolute. */
export function isInside(folder: string, path: string): boolean {
  const steps = relative(folder, path);
  return steps !== '..' && !steps.startsWith(`..${sep}`);
}
