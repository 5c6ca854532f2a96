/** The Hub has three kinds of repositories; here the kind is the first part of the name, but for models. */
import { checkRepositoryName } from '../git/repositories.ts';
import { HttpError } from '../http-error.ts';

export const KINDS = ['models', 'datasets', 'spaces'] as const;
export type Kind = (typeof KINDS)[number];

export function repositoryName(kind: string, namespace: string, name: string): string {
  const known = KINDS.find((each) => each === kind);
  if (known === undefined) throw new HttpError(404, `there is no kind of repository '${kind}'`);
  return checkRepositoryName(known === 'models' ? `${namespace}/${name}` : `${known}/${namespace}/${name}`);
}

/** A path that a commit may write. Throws 400. */
export function checkCommitPath(path: unknown): string {
  if (typeof path !== 'string' || path === '' || path.length > 4096)
    throw new HttpError(400, 'a path is needed');
  const isBad = (part: string) =>
    // biome-ignore lint/suspicious/noControlCharactersInRegex: that is what is refused
    /^\.{0,2}$|^\.git$|^git~\d+$|[\x00-\x1f\x7f\\]/i.test(part) || part.length > 255;
  if (path.split('/').some(isBad)) {
    throw new HttpError(400, `'${path.slice(0, 200)}' is no path that a repository can have`);
  }
  return path;
}
