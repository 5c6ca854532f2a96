/**
 * The stamp of an upper: what one must know to read it right, in a file beside its work directory. The
 * upper itself cannot say it: everything in there belongs to the user. docs/format/mount-stamp.md is the
 * same for readers.
 *
 *     {"format":1,"namespace":"user","owner":1000,"mknodFailed":false,"redirectsUsed":false}\n
 *
 * One line of JSON in UTF-8, exactly these keys in any order, at most 1 KiB.
 *
 * The file is `<work>.git2db-stamp`, next to the work directory and so on its file system; or
 * `git2db-stamp` in it, where the directory around it may not be written, or the name would be too long.
 * It is replaced as a whole (temporary file, fsync, rename), and whoever mounts the upper holds a lock on
 * it: see `upper-hold.ts`.
 */
import { constants, openSync } from 'node:fs';
import { errnoOf, FormatError, Git2dbError } from '../../xet/errors.ts';
import type { XattrNamespace } from '../mount-options.ts';
import { joinPath, lastName, parentPath, showPath } from '../path.ts';

export interface Stamp {
  /** Where whiteouts' and directories' marks are kept: `trusted.overlay.*` or `user.overlay.*`. */
  readonly namespace: XattrNamespace;
  /** Who mounted it first: a uid of the first user namespace that had the say. */
  readonly owner: number;
  /** A whiteout could not be made as a device once, or a directory not be marked: `.wh.` names in this upper may be whiteouts. */
  readonly mknodFailed: boolean;
  /** Directories may have been moved by `trusted.overlay.redirect`. */
  readonly redirectsUsed: boolean;
}

export const STAMP_NAME = 'git2db-stamp';
export const STAMP_SIZE_MAX = 1024;

const FORMAT = 1;
const NAME_MAX = 255;
const KEYS = ['format', 'namespace', 'owner', 'mknodFailed', 'redirectsUsed'];

export function encodeStamp({ namespace, owner, mknodFailed, redirectsUsed }: Stamp): Buffer {
  return Buffer.from(`${JSON.stringify({ format: FORMAT, namespace, owner, mknodFailed, redirectsUsed })}\n`);
}

/** `name`: the file, for messages. */
export function decodeStamp(bytes: Uint8Array, name: string): Stamp {
  const refuse = (found: string) =>
    new FormatError(
      'INVALID_STAMP',
      `${name}: expected a stamp of format ${FORMAT}, found ${found}; if nothing in the upper is needed, ` +
        'remove upper, work and stamp, otherwise mount it with the program that made it',
      0,
    );
  if (bytes.length > STAMP_SIZE_MAX)
    throw refuse(`something other than a file of at most ${STAMP_SIZE_MAX} bytes`);
  let found: Record<string, unknown>;
  try {
    found = JSON.parse(Buffer.from(bytes).toString());
  } catch {
    throw refuse('no JSON');
  }
  if (typeof found !== 'object' || found === null) throw refuse('no JSON object');
  if (found.format !== FORMAT) throw refuse(`format ${JSON.stringify(found.format)}`);
  const strange = Object.keys(found).find((key) => !KEYS.includes(key));
  if (strange !== undefined) throw refuse(`the unknown key '${strange}'`);
  const { namespace, owner, mknodFailed, redirectsUsed } = found;
  if (namespace !== 'trusted' && namespace !== 'user') {
    throw refuse(`namespace ${JSON.stringify(namespace)}`);
  }
  if (!Number.isSafeInteger(owner) || (owner as number) < 0) throw refuse(`owner ${JSON.stringify(owner)}`);
  if (typeof mknodFailed !== 'boolean' || typeof redirectsUsed !== 'boolean') {
    throw refuse('a mark that is neither true nor false');
  }
  return { namespace, owner: owner as number, mknodFailed, redirectsUsed };
}

/** Where the stamp of a work directory may be, the better place first. */
export function stampPlaces(work: Buffer): readonly Buffer[] {
  const name = Buffer.concat([lastName(work), Buffer.from(`.${STAMP_NAME}`)]);
  const inside = joinPath(work, STAMP_NAME);
  return name.length > NAME_MAX ? [inside] : [joinPath(parentPath(work), name), inside];
}

export interface OpenStamp {
  readonly fd: number;
  readonly path: Buffer;
}

/** The stamp's file, opened for reading; undefined when there is none. The caller closes it. */
export function openStamp(work: Buffer): OpenStamp | undefined {
  for (const path of stampPlaces(work)) {
    try {
      return { fd: openSync(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK), path };
    } catch (error) {
      const errno = errnoOf(error);
      if (errno === 'ENOENT') continue;
      if (errno === 'EACCES' || errno === 'EPERM') {
        throw new Git2dbError(
          'UPPER_FOREIGN',
          `${showPath(path)}, the stamp of this upper, may not be read by this user: somebody else mounts it; ` +
            'mount it as that user, or take an upper of your own',
          { cause: error },
        );
      }
      throw error;
    }
  }
  return undefined;
}
