/**
 * Content that LFS pointers name, found on this machine by its SHA-256: in the chunk store, where shards tell the
 * SHA-256 of a file, in the stores of remotes, and among the files that git-lfs keeps (`lfs/objects`). What is said
 * elsewhere about a SHA-256 is believed only once the bytes have been hashed.
 */
import { createHash, type Hash } from 'node:crypto';
import { closeSync, fstatSync, openSync, readSync } from 'node:fs';
import { join } from 'node:path';
import type { VerifiedWindow } from '../xet/download.ts';
import { errnoOf, Git2dbError } from '../xet/errors.ts';
import { formatHash } from '../xet/hash/xet-hash.ts';
import type { ReadPlan } from '../xet/reconstruct/plan.ts';
import type { ContentOutput } from './answer.ts';

const BLOCK = 1 << 20;

/** Where the bytes are: `plan` for chunks, a path for a whole file. */
export type LfsSource =
  | { readonly kind: 'chunks'; readonly plan: () => ReadPlan }
  | { readonly kind: 'object'; readonly path: string };

/** Compares a stream of content with the SHA-256 it should have. */
export class ContentCheck {
  readonly #expected: string;
  readonly #where: string;
  readonly #hash: Hash = createHash('sha256');

  /** `where` is for the message. */
  constructor(expected: string, where: string) {
    this.#expected = expected;
    this.#where = where;
  }

  update(bytes: Uint8Array): void {
    this.#hash.update(bytes);
  }

  /** Throws CONTENT_DAMAGED. */
  finish(): void {
    const found = this.#hash.digest('hex');
    if (found === this.#expected) return;
    throw new Git2dbError(
      'CONTENT_DAMAGED',
      `${this.#where} has SHA-256 ${found}, the pointer names ${this.#expected}: \`git2db xet fsck\` tells more`,
      { data: { sha256: this.#expected, found } },
    );
  }
}

/** Path of an object below a directory `objects` of git-lfs. `sha256`: 64 lower-case digits. */
export function lfsObjectPath(objects: string, sha256: string): string {
  return join(objects, sha256.slice(0, 2), sha256.slice(2, 4), sha256);
}

/** The first whole object of that name in these directories. One that is damaged is passed over. */
export function findLfsObject(
  directories: readonly string[],
  sha256: string,
  size: number,
  onDamaged?: (path: string) => void,
): string | undefined {
  for (const directory of directories) {
    const path = lfsObjectPath(directory, sha256);
    try {
      const check = new ContentCheck(sha256, path);
      readObject(path, size, (piece) => check.update(piece));
      check.finish();
      return path;
    } catch (error) {
      const errno = errnoOf(error);
      if (errno === 'ENOENT' || errno === 'ENOTDIR') continue;
      onDamaged?.(path);
    }
  }
  return undefined;
}

/** Sends a whole object, comparing once more what is sent. Throws CONTENT_DAMAGED. */
export function sendLfsObject(path: string, sha256: string, size: number, output: ContentOutput): void {
  const check = new ContentCheck(sha256, path);
  let sent = 0;
  readObject(path, size, (piece) => {
    check.update(piece);
    output.content(piece);
    sent += piece.length;
    if (sent < size) output.sync();
  });
  check.finish();
}

/** Gives all bytes of a file of `size` bytes, in pieces that stay as they are until the next one. */
export function readObject(path: string, size: number, give: (piece: Buffer) => void): void {
  const fd = openSync(path, 'r');
  try {
    const found = fstatSync(fd);
    if (!found.isFile() || found.size !== size) {
      throw new Git2dbError(
        'CONTENT_DAMAGED',
        `${path}: expected a file of ${size} bytes, found ${found.isFile() ? `${found.size} bytes` : 'something else'}`,
      );
    }
    const block = Buffer.allocUnsafe(Math.min(BLOCK, Math.max(size, 1)));
    for (let at = 0; at < size; ) {
      const count = readSync(fd, block, 0, Math.min(block.length, size - at), at);
      if (count === 0) throw new Git2dbError('CONTENT_DAMAGED', `${path} ends at ${at} of ${size} bytes`);
      give(block.subarray(0, count));
      at += count;
    }
  } finally {
    closeSync(fd);
  }
}

/** True if these windows are content of that SHA-256. */
export function hasSha256(windows: Iterable<VerifiedWindow>, sha256: string): boolean {
  const hash = createHash('sha256');
  for (const { chunks } of windows) for (const chunk of chunks) hash.update(chunk);
  return hash.digest('hex') === sha256;
}

/** What git-lfs users expect to read, and what to do. */
export function lfsContentMissing(sha256: string, size: number, places: readonly string[]): Git2dbError {
  return new Git2dbError(
    'CONTENT_MISSING',
    `LFS object ${sha256} (${size} bytes) is not in ${places.join(' nor in ')}. ` +
      'Fetch it with `git2db xet fetch` (or `git lfs fetch`), or let pointers stand for missing files: ' +
      '`git config xet.onMissing pointer`, or GIT_LFS_SKIP_SMUDGE=1 for once',
    { data: { sha256, size, places } },
  );
}

/** For messages. */
export function namedFile(hash: Uint8Array): string {
  return `file ${formatHash(hash)} of the store`;
}
