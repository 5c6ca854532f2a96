/**
 * A directory of the work tree in which files may be written: reached from the top without following
 * a symbolic link, so that a link put in its place cannot lead a write out of the work tree.
 *
 * Node has no openat(2). What replaces it: the directory is opened component by component, each
 * through the descriptor of the one before (`/proc/self/fd/N/name`, O_NOFOLLOW), and so are the files in
 * it. The kernel then looks the name up in the very directory that was opened, whatever has
 * happened to its path since. As that directory may itself have been moved out of the work tree,
 * `check` compares, before anything is replaced, the whole path with what was opened.
 *
 * Where /proc is not mounted, paths are used instead and `check` alone protects: somebody who swaps a
 * directory for a link between it and the following system call is then not noticed.
 */
import {
  type BigIntStats,
  closeSync,
  constants,
  existsSync,
  fstatSync,
  linkSync,
  lstatSync,
  openSync,
  renameSync,
  unlinkSync,
} from 'node:fs';
import { quotePath } from '../filter-process/trace.ts';
import { errnoOf, Git2dbError, messageOf } from '../xet/errors.ts';

const SLASH = 0x2f;
const DIRECTORY = constants.O_RDONLY | constants.O_DIRECTORY;

export interface DirectoryOptions {
  /** Whether names are looked up through the descriptor; by default where /proc allows it. */
  readonly throughDescriptor?: boolean;
}

interface Component {
  /** From the top; empty for the top itself. */
  readonly path: Buffer;
  readonly dev: bigint;
  readonly ino: bigint;
}

export class WorkTreeDirectory {
  /** From the top of the work tree; empty for the top itself. */
  readonly path: Buffer;
  readonly #root: Buffer;
  readonly #fd: number;
  readonly #prefix: Buffer;
  readonly #components: readonly Component[];
  #holders = 1;

  private constructor(
    root: Buffer,
    path: Buffer,
    fd: number,
    prefix: Buffer,
    components: readonly Component[],
  ) {
    this.#root = root;
    this.path = path;
    this.#fd = fd;
    this.#prefix = prefix;
    this.#components = components;
  }

  /**
   * Opens `path`, bytes from the top of the work tree `root` (absolute, without symbolic links). Throws
   * REFUSED where a component is no directory, or is one that only git writes to.
   */
  static open(root: Buffer, path: Buffer, options: DirectoryOptions = {}): WorkTreeDirectory {
    const throughDescriptor = options.throughDescriptor ?? procShowsDescriptors();
    const components: Component[] = [];
    let fd = openSync(root, DIRECTORY);
    try {
      components.push(componentOf(Buffer.alloc(0), fstatSync(fd, { bigint: true })));
      for (const { name, end } of namesIn(path)) {
        const place = path.subarray(0, end);
        const next = openNext(
          prefixOf(root, fd, path.subarray(0, end - name.length), throughDescriptor),
          name,
          place,
        );
        closeSync(fd);
        fd = next;
        components.push(componentOf(place, fstatSync(fd, { bigint: true })));
      }
      return new WorkTreeDirectory(root, path, fd, prefixOf(root, fd, path, throughDescriptor), components);
    } catch (error) {
      closeSync(fd);
      throw error;
    }
  }

  /** The path to use in system calls for the file `name` of this directory. */
  entry(name: Buffer): Buffer {
    return Buffer.concat([this.#prefix, name]);
  }

  /** Throws REFUSED if what stands at the path now is not the directory that was opened. */
  check(): void {
    for (const { path, dev, ino } of this.#components) {
      const place = Buffer.concat([this.#root, Buffer.of(SLASH), path]);
      const found = lstatSync(place, { bigint: true, throwIfNoEntry: false });
      if (found?.isDirectory() && found.dev === dev && found.ino === ino) continue;
      throw new Git2dbError(
        'REFUSED',
        `the directory ${quotePath(path.length === 0 ? this.#root : path)} was replaced meanwhile; nothing was written there`,
      );
    }
  }

  /** One more user; each calls `release`. */
  retain(): this {
    this.#holders++;
    return this;
  }

  release(): void {
    if (--this.#holders === 0) closeSync(this.#fd);
  }
}

/**
 * Gives the file `from` of `directory` the name `to`, unless there is something of that name: then
 * EEXIST is thrown. (Where there are no hard links, what comes there in the last microsecond is lost.)
 */
export function renameToFree(directory: WorkTreeDirectory, from: Buffer, to: Buffer): void {
  const source = directory.entry(from);
  const target = directory.entry(to);
  try {
    linkSync(source, target);
  } catch (error) {
    if (errnoOf(error) === 'EEXIST' || lstatSync(target, { throwIfNoEntry: false }) !== undefined)
      throw error;
    renameSync(source, target);
    return;
  }
  unlinkSync(source);
}

/** Removes a file that need not be there. */
export function removeFile(path: Buffer): void {
  try {
    unlinkSync(path);
  } catch (error) {
    if (errnoOf(error) !== 'ENOENT') throw error;
  }
}

function openNext(prefix: Buffer, name: Buffer, place: Buffer): number {
  const text = name.toString('latin1');
  if (text === '' || text === '.' || text === '..' || text.toLowerCase() === '.git') {
    throw new Git2dbError(
      'REFUSED',
      `${quotePath(place)} is no directory for files of the work tree; nothing was written there`,
    );
  }
  try {
    return openSync(Buffer.concat([prefix, name]), DIRECTORY | constants.O_NOFOLLOW);
  } catch (error) {
    const errno = errnoOf(error);
    if (errno === 'ELOOP' || errno === 'ENOTDIR') {
      throw new Git2dbError(
        'REFUSED',
        `${quotePath(place)} is a symbolic link, or no directory; nothing is written through it`,
        { cause: error },
      );
    }
    const what = errno === 'ENOENT' ? 'is not there any more' : `cannot be opened: ${messageOf(error)}`;
    throw new Git2dbError('REFUSED', `the directory ${quotePath(place)} ${what}`, { cause: error });
  }
}

/** What to put before a name in the directory `path`, which is open as `fd`. */
function prefixOf(root: Buffer, fd: number, path: Buffer, throughDescriptor: boolean): Buffer {
  if (throughDescriptor) return Buffer.from(`/proc/self/fd/${fd}/`);
  const slash = path.length === 0 || path.at(-1) === SLASH ? '' : '/';
  return Buffer.concat([root, Buffer.of(SLASH), path, Buffer.from(slash)]);
}

function componentOf(path: Buffer, { dev, ino }: BigIntStats): Component {
  return { path, dev, ino };
}

/** A path from the top in two: its directory (empty for the top) and its name there. */
export function nameIn(path: Buffer): { readonly directoryPath: Buffer; readonly name: Buffer } {
  const slash = path.lastIndexOf(SLASH);
  return { directoryPath: path.subarray(0, Math.max(0, slash)), name: path.subarray(slash + 1) };
}

/** The names in a path, and where each ends. */
function* namesIn(path: Buffer): Generator<{ readonly name: Buffer; readonly end: number }> {
  for (let start = 0; start < path.length; ) {
    const slash = path.indexOf(SLASH, start);
    const end = slash < 0 ? path.length : slash;
    yield { name: path.subarray(start, end), end };
    start = end + 1;
  }
}

let procIsThere: boolean | undefined;

function procShowsDescriptors(): boolean {
  procIsThere ??= existsSync('/proc/self/fd/0') || existsSync('/proc/self/fd');
  return procIsThere;
}
