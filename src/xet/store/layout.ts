/**
 * Where things lie in a store directory, and the version of that arrangement.
 *
 *     format                   "git2db xet store 1\n"
 *     xorbs/ab/<xorb hash>     chunk records + footer, the wire format
 *     shards/<hash>.mdb        which chunks make which file, the wire format
 *     catalog/HEAD, catalog/<sha256>   sorted tables over the shards; a cache
 *     incoming/<writer>/       acknowledged by a running writer, not sealed yet
 *     irregular/<xorb hash>    empty marks: chunk boundaries of this xorb were not checked here
 *     learned/ab/<xorb hash>   what is known of xorbs of other stores that show no chunk lists; a cache
 *     evicted                  what was given up on purpose, and where it was proved to be
 *     users/<name>             one absolute path per repository that uses this store
 *     quarantine/  trash/      damaged objects; objects that gc is about to delete
 *     gc/<name>/               the gc at work, and its temporary files
 *
 * Hashes in names are in string form; `ab` are its first two digits.
 */
import { closeSync, constants, fsyncSync, openSync, statSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { makeDirectories } from '../../make-directories.ts';
import { errnoOf, Git2dbError } from '../errors.ts';
import { readRegular } from '../regular-file.ts';

export const STORE_VERSION = 1;
/** How the file `format` begins, whatever the version. */
export const STORE_FORMAT = 'git2db xet store ';

export class StoreLayout {
  readonly root: string;
  readonly shards: string;
  readonly catalog: string;
  readonly incoming: string;
  readonly users: string;
  readonly quarantine: string;
  readonly trash: string;
  readonly gc: string;
  readonly irregular: string;
  readonly learned: string;
  readonly evicted: string;
  readonly xorbs: string;

  constructor(root: string) {
    this.root = root;
    this.xorbs = join(root, 'xorbs');
    this.shards = join(root, 'shards');
    this.catalog = join(root, 'catalog');
    this.incoming = join(root, 'incoming');
    this.users = join(root, 'users');
    this.quarantine = join(root, 'quarantine');
    this.trash = join(root, 'trash');
    this.gc = join(root, 'gc');
    this.irregular = join(root, 'irregular');
    this.learned = join(root, 'learned');
    this.evicted = join(root, 'evicted');
  }

  /** Path of a published xorb; `hash` must be a checked string form. */
  xorb(hash: string): string {
    return `${this.xorbs}/${hash.slice(0, 2)}/${hash}`;
  }

  shard(name: string): string {
    return `${this.shards}/${name}.mdb`;
  }

  /** Makes the directories and the format file; does nothing where they exist. */
  create(): void {
    for (const dir of [this.root, this.xorbs, this.shards, this.catalog, this.incoming, this.users]) {
      makeDirectories(dir);
    }
    try {
      writeFileSync(join(this.root, 'format'), `${STORE_FORMAT}${STORE_VERSION}\n`, { flag: 'wx' });
    } catch (error) {
      if (errnoOf(error) !== 'EEXIST') throw error;
    }
  }

  /** Notes that nobody may take the chunk boundaries of a xorb for checked ones: see `irregular/` above. */
  markIrregular(hash: string): void {
    makeDirectories(this.irregular);
    try {
      // Whatever has this name is the mark, and is not opened.
      writeFileSync(join(this.irregular, hash), '', { flag: 'wx' });
    } catch (error) {
      if (errnoOf(error) !== 'EEXIST') throw error;
    }
  }

  /** True if there is a store of a version this program reads; false if there is none; throws otherwise. */
  exists(): boolean {
    const path = join(this.root, 'format');
    let text: string;
    try {
      text = readRegular(path, 'REFUSED').toString('latin1');
    } catch (error) {
      const errno = errnoOf(error);
      if (errno === 'ENOENT' || errno === 'ENOTDIR') return false;
      throw error;
    }
    // Empty: another process is between creating and writing it.
    if (text === '' || text === `${STORE_FORMAT}${STORE_VERSION}\n`) return true;
    throw new Git2dbError(
      'STORE_UNSUPPORTED',
      `${path}: expected "${STORE_FORMAT}${STORE_VERSION}", found ${JSON.stringify(text.slice(0, 40))}; ` +
        'this store was written by another version of git2db: use that one, or a newer one',
    );
  }

  /** As `exists`, for who is to work with it: STORE_UNWRITABLE where there can be none, as something else is there. */
  existsOrCan(): boolean {
    if (this.exists()) return true;
    for (let place = this.root; ; place = dirname(place)) {
      const isDirectory = isDirectoryOrNothing(place);
      if (isDirectory === true || dirname(place) === place) return false;
      if (isDirectory === undefined) continue;
      throw new Git2dbError(
        'STORE_UNWRITABLE',
        `there can be no store in ${this.root}: ${place} is no directory. ` +
          'Remove it, or choose another place with `git config xet.store DIR`',
        { data: { path: place } },
      );
    }
  }
}

/** Undefined where there is nothing. */
function isDirectoryOrNothing(path: string): boolean | undefined {
  try {
    return statSync(path).isDirectory();
  } catch (error) {
    const errno = errnoOf(error);
    if (errno === 'ENOENT' || errno === 'ENOTDIR') return undefined;
    throw error;
  }
}

/** Where a xorb lies below the root of a store: in a bucket, its key. */
export function xorbKey(hash: string): string {
  return `xorbs/${hash.slice(0, 2)}/${hash}`;
}

/** Makes a directory's entries durable. File systems that cannot sync a directory are left alone. */
export function syncDirectory(path: string): void {
  const fd = openSync(path, constants.O_RDONLY | constants.O_DIRECTORY);
  try {
    fsyncSync(fd);
  } catch (error) {
    const errno = errnoOf(error);
    if (errno !== 'EINVAL' && errno !== 'ENOTSUP') throw error;
  } finally {
    closeSync(fd);
  }
}
