/** Places of repositories that were cloned into a registry. */
import { findNameFault } from './repository-name.ts';

/** `repos/<name>`, where `<name>` is one that a repository may have. */
export function isOwnPath(path: string): boolean {
  return path.startsWith('repos/') && findNameFault(path.slice('repos/'.length)) === undefined;
}
