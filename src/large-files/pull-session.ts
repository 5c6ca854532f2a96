/**
 * What a pull notes of itself, so that after a crash the next one can tidy up and go on.
 *
 *     <git dir>/git2db-pull/<session>/alive, writer.json    whether the session's process still lives
 *     <git dir>/git2db-pull/<session>/files                 work tree NUL { path NUL }
 *     <git dir>/git2db-pull/<session>/contents              { path NUL oid NUL identity NUL }   (content-notes.ts)
 *     <directory of path n>/.git2db-pull-<session>-<n>      new content for path n
 *     <directory of path n>/.git2db-pull-<session>-<n>.old  what was at path n, for the moment of the exchange
 *
 * The temporary files lie beside the files they are to replace: only there is it certain that a file can
 * be given another name, and that it gets the group, the access list and the quota of its place.
 *
 * A path is noted in `files` before anything is made for it, and in `contents` before its content takes the
 * pointer's place. The session ends when the index knows what was written: an index that does not, calls
 * those files modified, without a look inside, because their size is not that of the pointer.
 */
import { randomBytes } from 'node:crypto';
import {
  closeSync,
  constants,
  lstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  rmdirSync,
  rmSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { quotePath } from '../filter-process/trace.ts';
import type { WrittenFile } from '../git/index-file/work-tree.ts';
import { splitZ } from '../git/records.ts';
import { errnoOf, Git2dbError, messageOf } from '../xet/errors.ts';
import { sniffPointer } from '../xet/pointer/sniff.ts';
import { LivenessMark, probeLiveness } from '../xet/store/liveness.ts';
import { type ContentNote, decodeContentNotes, encodeContentNote, findNotedFile } from './content-notes.ts';
import { readSmallFile } from './pointer-files.ts';
import { nameIn, removeFile, renameToFree, WorkTreeDirectory } from './work-tree-directory.ts';

const SESSIONS = 'git2db-pull';
const FILES = 'files';
const CONTENTS = 'contents';
const SESSION_NAME = /^[0-9]+-[0-9a-f]{8}$/;
const CREATE = constants.O_RDWR | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW;

/** Two names of one file's own in its directory: for its new content, and for what it was. */
interface SpareNames {
  readonly content: Buffer;
  readonly old: Buffer;
}

/** New content on its way, a file that only its owner can read. Its maker closes `fd` and takes the files away. */
export interface TemporaryFile extends SpareNames {
  readonly fd: number;
}

export class PullSession {
  readonly #home: string;
  readonly #session: string;
  readonly #mark: LivenessMark;
  readonly #files: number;
  readonly #contents: number;
  #count = 0;
  #hasContents = false;

  constructor(gitDir: string, workTree: string) {
    this.#session = `${process.pid}-${randomBytes(4).toString('hex')}`;
    this.#home = join(gitDir, SESSIONS);
    const folder = join(this.#home, this.#session);
    mkdirSync(folder, { recursive: true });
    this.#mark = new LivenessMark(folder);
    this.#files = openSync(join(folder, FILES), 'ax');
    this.#contents = openSync(join(folder, CONTENTS), 'ax');
    writeSync(this.#files, `${workTree}\0`);
  }

  /** An empty file in `directory` for the content of `path`, which lies there. */
  createFile(path: Buffer, directory: WorkTreeDirectory): TemporaryFile {
    writeSync(this.#files, Buffer.concat([path, Buffer.of(0)]));
    const names = spareNames(this.#session, this.#count++);
    return { ...names, fd: openSync(directory.entry(names.content), CREATE, 0o600) };
  }

  noteContent(note: ContentNote): void {
    try {
      writeSync(this.#contents, encodeContentNote(note));
      this.#hasContents = true;
    } catch {
      // The disk is full. It is for the case of a crash only.
    }
  }

  /** Ends the session, of which no temporary file is left. If the index is not `upToDate`, the next session is to see to it. */
  close(upToDate: boolean): void {
    closeSync(this.#files);
    closeSync(this.#contents);
    this.#mark.close();
    if (upToDate || !this.#hasContents)
      rmSync(join(this.#home, this.#session), { recursive: true, force: true });
    removeIfEmpty(this.#home);
  }
}

/** What sessions have written whose process ended before the index was up to date. */
export interface DeadSessions {
  readonly written: readonly WrittenFile[];
  /** To be called when the index knows. */
  forget(): void;
}

/** Removes the temporary files of dead sessions; `warn` is told what cannot be done. */
export async function recoverSessions(
  gitDir: string,
  workTree: string,
  warn: (message: string) => void,
): Promise<DeadSessions> {
  const home = join(gitDir, SESSIONS);
  const written: WrittenFile[] = [];
  const done: string[] = [];
  for (const session of namesOf(home)) {
    const folder = join(home, session);
    if (!SESSION_NAME.test(session) || (await probeLiveness(folder)) !== 'dead') continue;
    try {
      const files = [...splitZ(readNotes(join(folder, FILES)))];
      removeTemporaryFiles(session, files);
      if (files[0]?.toString() === workTree) {
        for (const note of decodeContentNotes(readNotes(join(folder, CONTENTS)))) {
          const file = findNotedFile(workTree, note);
          if (file !== undefined) written.push(file);
        }
      }
      done.push(folder);
    } catch (error) {
      warn(`cannot remove what an interrupted run left (${folder}/${FILES} says where): ${messageOf(error)}`);
    }
  }
  const forget = () => {
    for (const folder of done) rmSync(folder, { recursive: true, force: true });
    removeIfEmpty(home);
  };
  return { written, forget };
}

/** The list is that of the file `files`: the work tree, then the paths in order. */
function removeTemporaryFiles(session: string, [workTree, ...paths]: readonly Buffer[]): void {
  if (workTree === undefined) return;
  for (const [number, path] of paths.entries()) {
    const { directoryPath, name } = nameIn(path);
    let directory: WorkTreeDirectory;
    try {
      directory = WorkTreeDirectory.open(workTree, directoryPath);
    } catch (error) {
      // Removed or replaced since: its files are gone with it, or out of reach.
      if (errnoOf(error) === 'ENOENT' || (error instanceof Git2dbError && error.code === 'REFUSED')) continue;
      throw error;
    }
    try {
      const names = spareNames(session, number);
      putBack(directory, names.old, name);
      removeFile(directory.entry(names.content));
    } finally {
      directory.release();
    }
  }
}

/** Undoes the first half of an exchange: `old` becomes `name` again, or goes if that is there. */
function putBack(directory: WorkTreeDirectory, old: Buffer, name: Buffer): void {
  const place = directory.entry(old);
  if (lstatSync(place, { throwIfNoEntry: false }) === undefined) return;
  try {
    renameToFree(directory, old, name);
  } catch (error) {
    if (errnoOf(error) !== 'EEXIST') throw error;
    const file = readSmallFile(place);
    if (file === undefined || sniffPointer(file.bytes) === undefined) {
      // Somebody's file that was taken for the pointer, and somebody's next one: not ours to choose.
      throw new Error(`${quotePath(name)} is there, and ${quotePath(old)} beside it: keep one of them`);
    }
    removeFile(place);
  }
}

function spareNames(session: string, number: number): SpareNames {
  const content = `.git2db-pull-${session}-${number}`;
  return { content: Buffer.from(content), old: Buffer.from(`${content}.old`) };
}

function namesOf(folder: string): string[] {
  try {
    return readdirSync(folder);
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return [];
    throw error;
  }
}

/** Empty where the session ended before it noted anything. */
function readNotes(path: string): Buffer {
  try {
    return readFileSync(path);
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return Buffer.alloc(0);
    throw error;
  }
}

function removeIfEmpty(folder: string): void {
  try {
    rmdirSync(folder);
  } catch {
    // Another session uses it, or it was never made.
  }
}
