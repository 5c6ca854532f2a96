/**
 * One pointer file on its way to being content. The content goes to a temporary file beside it; then the
 * two are exchanged:
 *
 *     1. look whether the pointer is still what it was when we began
 *     2. rename what is at the path to a name of ours, and look again: what is there now cannot change places
 *     3. give the content the path's name, if it is free
 *     4. remove the pointer
 *
 * Whatever somebody else puts at the path, at whatever moment, stays: 2 notices it or 3 does. The price
 * is that for some microseconds nothing has the path's name, as in a checkout by git. A plain rename over
 * the pointer would overwrite what came after the last look, and make ext4 and btrfs write the whole
 * file to the disk before it returns.
 *
 * Nothing waits for the disk: like git, which writes the work tree without fsync, we rely on being able to
 * write the file again.
 */
import {
  type BigIntStats,
  closeSync,
  fchmodSync,
  fstatSync,
  futimesSync,
  lstatSync,
  renameSync,
} from 'node:fs';
import { errnoOf, Git2dbError } from '../xet/errors.ts';
import type { ContentNote } from './content-notes.ts';
import { type PointerFile, pointerOf, readSmallFile, type SmallFile } from './pointer-files.ts';
import type { PullSession, TemporaryFile } from './pull-session.ts';
import { nameIn, removeFile, renameToFree, type WorkTreeDirectory } from './work-tree-directory.ts';

const PERMISSION_BITS = 0o777n;

/** What is about to be done: the steps above. */
export type ExchangeStep = 'look' | 'take' | 'put';

export class Replacement {
  readonly file: PointerFile;
  readonly #directory: WorkTreeDirectory;
  readonly #name: Buffer;
  readonly #pointer: SmallFile;
  readonly #session: PullSession;
  readonly #temporary: TemporaryFile;
  #isOpen = true;

  /** Throws REFUSED when the file is not the pointer any more, and the errors of making a file. */
  constructor(file: PointerFile, directory: WorkTreeDirectory, session: PullSession) {
    this.file = file;
    this.#name = nameIn(file.path).name;
    const pointer = readSmallFile(directory.entry(this.#name));
    const content = pointer && pointerOf(pointer.bytes, file.oid);
    if (pointer === undefined || content?.hash !== file.hash || content.size !== file.size) throw changed();
    this.#pointer = pointer;
    this.#session = session;
    this.#temporary = session.createFile(file.path, directory);
    this.#directory = directory.retain();
  }

  /** Where the content is to be written, from offset 0. */
  get fd(): number {
    return this.#temporary.fd;
  }

  /** The same file, by a path that holds until `commit` or `abandon`. */
  get contentPath(): Buffer {
    return this.#directory.entry(this.#temporary.content);
  }

  /**
   * Puts the complete content in the pointer's place, with the pointer's permission bits; returns what to know
   * it by. Throws REFUSED, and leaves what it finds, when the file is not the same pointer any more or the
   * directory not the same directory; `abandon` is to follow, as after any error. `before` is for tests.
   */
  commit(before: (step: ExchangeStep) => void): ContentNote {
    const directory = this.#directory;
    const place = directory.entry(this.#name);
    setToSecondBefore(this.fd);
    const { dev, ino, size, mtimeNs } = fstatSync(this.fd, { bigint: true });
    const note = { path: this.file.path, oid: this.file.oid, identity: { dev, ino, size, mtimeNs } };
    fchmodSync(this.fd, Number(this.#pointer.stat.mode & PERMISSION_BITS));
    this.#close();
    this.#session.noteContent(note);
    before('look');
    directory.check();
    if (!isSame(lstatSync(place, { bigint: true, throwIfNoEntry: false }), this.#pointer.stat))
      throw changed();
    before('take');
    this.#take();
    before('put');
    try {
      renameToFree(directory, this.#temporary.content, this.#name);
    } catch (error) {
      if (errnoOf(error) === 'EEXIST') {
        removeFile(directory.entry(this.#temporary.old));
        throw changed();
      }
      this.#giveBack();
      throw error;
    }
    removeFile(directory.entry(this.#temporary.old));
    directory.release();
    return note;
  }

  /** Removes the temporary file; the pointer stays. Not after `commit` has returned. */
  abandon(): void {
    try {
      this.#close();
      removeFile(this.#directory.entry(this.#temporary.content));
    } finally {
      this.#directory.release();
    }
  }

  /** Moves the pointer aside, and only the pointer. */
  #take(): void {
    const aside = this.#directory.entry(this.#temporary.old);
    try {
      renameSync(this.#directory.entry(this.#name), aside);
    } catch (error) {
      throw errnoOf(error) === 'ENOENT' ? changed() : error;
    }
    let isPointer: boolean | undefined = false;
    try {
      const taken = readSmallFile(aside);
      isPointer = isSame(taken?.stat, this.#pointer.stat) && taken?.bytes.equals(this.#pointer.bytes);
    } finally {
      if (!isPointer) this.#giveBack();
    }
    if (!isPointer) throw changed();
  }

  #giveBack(): void {
    try {
      renameToFree(this.#directory, this.#temporary.old, this.#name);
    } catch (error) {
      const aside = `beside it as ${this.#temporary.old.toString()}`;
      throw new Git2dbError('REFUSED', `it was changed twice meanwhile; an earlier version is ${aside}`, {
        cause: error,
      });
    }
  }

  /** Errors of close are errors of writing: a network file system tells them here. */
  #close(): void {
    if (!this.#isOpen) return;
    this.#isOpen = false;
    closeSync(this.fd);
  }
}

/**
 * Dates a file back, to the end of the second before the one it was written in. An index that is written from
 * now on is then in a later second, so it can vouch for the file at once; and whoever changes the file, even
 * in this very second, gives it a time that the index does not have. Only here, where nobody else knows
 * the file yet, is that safe.
 */
function setToSecondBefore(fd: number): void {
  const { atimeNs, mtimeNs } = fstatSync(fd, { bigint: true });
  futimesSync(fd, Number(atimeNs / 1_000_000n) / 1000, Number(mtimeNs / 1_000_000_000n) - 0.001);
}

function changed(): Git2dbError {
  return new Git2dbError('REFUSED', 'it was changed meanwhile, and left as it is now');
}

/** The permission bits count too: who changed them meanwhile wants them to stay. */
function isSame(now: BigIntStats | undefined, then: BigIntStats): boolean {
  return (
    now !== undefined &&
    now.dev === then.dev &&
    now.ino === then.ino &&
    now.size === then.size &&
    now.mtimeNs === then.mtimeNs &&
    now.mode === then.mode
  );
}
