/** The id of a repository in a registry: a UUID that stays when its name, URL or place changes. */
import { randomUUID } from 'node:crypto';
import { Git2dbError } from '../xet/errors.ts';

/** A lower-case RFC 4122 UUID. */
export type RepoId = string & { readonly brand: 'RepoId' };

/** As it is written; without letters of either case a match is found in a third of the time. */
const CANONICAL = /^[0-9a-f]{8}-[0-9a-f]{4}-[1-8][0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/;
const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[1-8][0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/i;

export const RepoId = {
  /** A new one, of version 4 (random). */
  create(): RepoId {
    return randomUUID() as string as RepoId;
  },

  /** Takes upper case as well. Throws USAGE for anything but a UUID. */
  parse(text: string): RepoId {
    const id = findRepoId(text);
    if (id !== undefined) return id;
    const shown = JSON.stringify(String(text).slice(0, 60));
    throw new Git2dbError('USAGE', `expected a UUID such as ${RepoId.create()}, found ${shown}`, {
      data: { found: text },
    });
  },
};

/** Whether `text` is an id as registries hold it, in lower case. */
export function isRepoId(text: string): text is RepoId {
  return text.length === 36 && CANONICAL.test(text);
}

/** The id that `text` is, if it is one. */
export function findRepoId(text: string): RepoId | undefined {
  return typeof text === 'string' && UUID.test(text) ? (text.toLowerCase() as RepoId) : undefined;
}
