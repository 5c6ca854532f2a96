/** What a revision names, told by git itself: no pattern guesses here whether text is a branch or an object id. */
import type { ObjectHeader } from '../../git/object-pool.ts';
import { checkRevision } from '../../git/ref-name.ts';
import { ReferenceError_ } from '../errors.ts';
import type { GitPlace } from '../git-place.ts';

/** The commit `revision` leads to (a tag is followed). Throws REF_INVALID. */
export async function resolveCommit(place: GitPlace, revision: string): Promise<string> {
  return (await resolveObject(place, revision, 'commit')).oid;
}

export async function findCommit(place: GitPlace, revision: string): Promise<string | undefined> {
  return (await place.objects.info(`${checkRevision(revision)}^{commit}`))?.oid;
}

/** As `resolveCommit`, for an object of another type. */
export async function resolveObject(
  place: GitPlace,
  revision: string,
  type: 'commit' | 'tree' | 'object' = 'object',
): Promise<ObjectHeader> {
  const what = type === 'object' ? 'an object' : `a ${type}`;
  checkRevision(revision, `the name of ${what}`);
  const found = await place.objects.info(`${revision}^{${type}}`);
  if (found !== undefined) return found;
  throw new ReferenceError_(
    `expected the name of ${what} in ${place.commonDir}, found ${JSON.stringify(revision)}: no branch, tag or object ` +
      'id leads to one; fetch it, or correct the name',
    { data: { revision, commonDir: place.commonDir } },
  );
}
