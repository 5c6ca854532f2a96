/**
 * Copy-up: a file of a lower layer becomes one of the upper. Here a complete copy is made under a
 * temporary name of the work directory; the caller then renames it into its place, so that at each
 * moment the merged tree has either the lower file or the whole copy.
 *
 * Order: owner, extended attributes, data, data on the disk, mode, times. A failure at any point removes
 * the temporary name and leaves everything else as it was.
 */
import { constants } from 'node:fs';
import { DEFERRED, type Job, type Waiting, type Work } from '../fuse/file-system.ts';
import { ENAMETOOLONG } from '../system/errno.ts';
import {
  AT_EMPTY_PATH,
  AT_REMOVEDIR,
  type CString,
  close,
  cString,
  fgetxattr,
  fsetxattr,
  fsync,
  mkdirat,
  mknodat,
  openat,
  statx,
  symlinkat,
  unlinkat,
  utimensat,
} from '../system/libc.ts';
import {
  newStatx,
  S_IFLNK,
  S_IFMT,
  S_IFREG,
  type Statx,
  statxAtime,
  statxAtimeNs,
  statxBlocks,
  statxMode,
  statxMtime,
  statxMtimeNs,
  statxRdev,
  statxSize,
} from '../system/statx.ts';
import { copyByReading, copyData, shareData } from './copy-data.ts';
import {
  type CopyTarget,
  copyMode,
  copyOwner,
  copyTimes,
  copyXattrs,
  type MetadataRules,
  setOrigin,
} from './copy-metadata.ts';
import type { LayerDirectory, LayerFile } from './layer.ts';
import type { WorkDirectory } from './work-directory.ts';

/** With this much content and more, copying is handed off to another thread. */
export const LARGE_FILE_BYTES = 1 << 20;

const { O_CREAT, O_EXCL, O_NOFOLLOW, O_RDONLY, O_RDWR } = constants;
const PATH_MAX = 4096;
const EMPTY = cString('');
const ITSELF = cString('.');
const CAPABILITY = cString('security.capability');
const CAPABILITY_BYTES = 64;

export interface CopyUpOptions {
  readonly work: WorkDirectory;
  readonly rules: MetadataRules;
  /** Nothing waits for the disk. */
  readonly isVolatile: boolean;
  readonly waiting: Waiting;
}

/** Where a finished copy is. */
export interface Copied {
  /** In the work directory. */
  name: CString;
  /** Of a regular file, open O_RDWR; the caller closes it. -1 for other types. */
  fd: number;
  /** What to wait for, when the answer is DEFERRED. */
  job: Job | undefined;
}

export class CopyUp {
  readonly #work: WorkDirectory;
  readonly #rules: MetadataRules;
  readonly #waiting: Waiting;
  readonly #syncs: boolean;

  constructor(options: CopyUpOptions) {
    this.#work = options.work;
    this.#rules = options.rules;
    this.#waiting = options.waiting;
    this.#syncs = !options.isVolatile && options.work.isOnDisk;
  }

  /**
   * A copy of `source/name` (any type but a directory) as a new name in work. Owner and mode are those of
   * `stat`. A file that is to be cut at `dataEnd` at once may come without what follows; at 0 it comes empty.
   * `origin`: the value of our origin attribute,
   * left out where the type or the file system takes none.
   *
   * Returns 0 with `out` filled, or `-errno`, or DEFERRED with `out.job`: then `done` is called on this
   * thread when the work has ended, with 0 or `-errno`. The arguments but `out` and `done` are not used
   * after the return.
   */
  file(
    source: LayerDirectory,
    name: CString,
    stat: Statx,
    dataEnd: number,
    origin: Uint8Array | undefined,
    out: Copied,
    done: (result: number) => void,
  ): number {
    out.name = this.#work.newName();
    out.fd = -1;
    out.job = undefined;
    const isFile = (statxMode(stat) & S_IFMT) === S_IFREG;
    let code = isFile ? this.#createFile(out) : this.#createOther(source, name, stat, out.name);
    if (code < 0) return code;
    const target: CopyTarget = { directory: this.#work.fd, name: out.name, fd: out.fd };
    code = this.#copyIdentity(source, name, stat, target, origin);
    if (code >= 0) {
      if (!isFile || Math.min(statxSize(stat), dataEnd) === 0) code = this.#finish(stat, target);
      else code = this.#copyContent(source, name, stat, target, dataEnd, out, done);
    }
    if (code < 0 && code !== DEFERRED) this.#discard(out);
    return code;
  }

  /** An empty directory in work with all that `source/name` has but its entries; without a name, that `source` has. */
  directory(
    source: LayerDirectory,
    name: CString | undefined,
    stat: Statx,
    origin: Uint8Array | undefined,
    out: Copied,
  ): number {
    out.name = this.#work.newName();
    out.fd = -1;
    out.job = undefined;
    let code = mkdirat(this.#work.fd, out.name, 0o700);
    if (code < 0) return code;
    const target: CopyTarget = { directory: this.#work.fd, name: out.name, fd: -1 };
    code = this.#copyIdentity(source, name, stat, target, origin);
    if (code >= 0) code = this.#finish(stat, target);
    if (code < 0) unlinkat(this.#work.fd, out.name, AT_REMOVEDIR);
    return code;
  }

  /**
   * Writes the first `size` bytes of `source/name` to `fd`, a file of the upper that has all of a copy but
   * its content (the kernel's `metacopy`), open O_RDWR. Nothing else of the file changes, so that the
   * caller, by removing the mark afterwards, makes the content appear at once. Answers as `file`.
   */
  fill(
    source: LayerDirectory,
    name: CString,
    fd: number,
    size: number,
    out: Copied,
    done: (result: number) => void,
  ): number {
    out.fd = fd;
    out.job = undefined;
    const stat = newStatx();
    const code = statx(fd, EMPTY, AT_EMPTY_PATH, stat);
    if (code < 0 || size === 0) return code;
    const file = source.openFile(name, O_RDONLY);
    if (typeof file === 'number') return file;
    const kept = new KeptCapability(fd);
    const target: CopyTarget = { directory: -1, name: EMPTY, fd };
    const finish = (moved: number): number => {
      const restored = kept.restore();
      const timed = copyTimes(stat, target);
      if (moved < 0) return moved;
      return restored < 0 ? restored : timed;
    };
    return this.#moveContent(file, fd, size, size, out, finish, done);
  }

  #createFile(out: Copied): number {
    const fd = openat(this.#work.fd, out.name, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW, 0o600);
    if (fd >= 0) out.fd = fd;
    return fd;
  }

  #createOther(source: LayerDirectory, name: CString, stat: Statx, temporary: CString): number {
    const type = statxMode(stat) & S_IFMT;
    if (type !== S_IFLNK) return mknodat(this.#work.fd, temporary, type | 0o600, statxRdev(stat));
    const path = Buffer.alloc(PATH_MAX);
    const length = source.readlinkAt(name, path);
    if (length < 0) return length;
    if (length >= PATH_MAX) return -ENAMETOOLONG;
    return symlinkat(path.subarray(0, length + 1), this.#work.fd, temporary);
  }

  /** What needs the original and can fail for reasons of its own comes before a long copy. */
  #copyIdentity(
    source: LayerDirectory,
    name: CString | undefined,
    stat: Statx,
    target: CopyTarget,
    origin: Uint8Array | undefined,
  ): number {
    let code = copyOwner(stat, target, this.#rules);
    if (code >= 0) code = copyXattrs(source, name, target, this.#rules);
    if (code >= 0 && origin !== undefined) code = setOrigin(target, origin, this.#rules);
    return code;
  }

  #finish(stat: Statx, target: CopyTarget): number {
    const code = copyMode(stat, target, this.#rules);
    return code < 0 ? code : copyTimes(stat, target);
  }

  #copyContent(
    source: LayerDirectory,
    name: CString,
    stat: Statx,
    target: CopyTarget,
    dataEnd: number,
    out: Copied,
    done: (result: number) => void,
  ): number {
    const file = source.openFile(name, O_RDONLY);
    if (typeof file === 'number') return file;
    const kept = new KeptCapability(target.fd);
    const original = newStatx();
    original.set(stat);
    const finish = (moved: number): number => {
      if (moved < 0) return moved;
      const restored = kept.restore();
      return restored < 0 ? restored : this.#finish(original, target);
    };
    const size = statxSize(stat);
    if (dataEnd < Math.min(size, LARGE_FILE_BYTES)) return finish(this.#moveStart(file, target.fd, dataEnd));
    const allocated = Math.min(size, statxBlocks(stat) * 512);
    return this.#moveContent(file, target.fd, size, allocated, out, finish, (result) => {
      if (result < 0) this.#discard(out);
      done(result);
    });
  }

  /**
   * Brings the content over and onto the disk, then calls `finish` with the outcome; its answer is the
   * result. Takes `file` over.
   */
  #moveContent(
    file: LayerFile,
    to: number,
    size: number,
    allocated: number,
    out: Copied,
    finish: (moved: number) => number,
    done: (result: number) => void,
  ): number {
    let work: Work | undefined;
    let moved = file.fd === -1 ? copyByReading(file, to, size) : shareData(file.fd, to);
    if (moved === 0 && file.fd !== -1) {
      if (allocated >= LARGE_FILE_BYTES) {
        work = { kind: 'copy', from: file.fd, to, size, sync: this.#syncs };
      } else moved = copyData(file.fd, to, size);
    }
    if (moved >= 0 && work === undefined && this.#syncs) work = { kind: 'sync', fd: to, dataOnly: false };
    if (moved < 0 || work === undefined) {
      file.release();
      return finish(Math.min(moved, 0));
    }
    out.job = this.#waiting.start(work, (result) => {
      file.release();
      done(finish(Math.min(result, 0)));
    });
    return DEFERRED;
  }

  /**
   * A file that is to be cut must not be seen cut before its caller is answered, which it would be if the
   * caller were interrupted while it waits: so nothing is waited for, not for the disk either.
   */
  #moveStart(file: LayerFile, to: number, end: number): number {
    const moved = file.fd === -1 ? copyByReading(file, to, end) : copyData(file.fd, to, end);
    file.release();
    return moved >= 0 && this.#syncs ? fsync(to) : moved;
  }

  #discard(out: Copied): void {
    if (out.fd !== -1) close(out.fd);
    out.fd = -1;
    unlinkat(this.#work.fd, out.name);
  }
}

/** Writing to a file takes its capabilities away; here they are kept to be given back. */
class KeptCapability {
  readonly #fd: number;
  readonly #value: Buffer | undefined;

  constructor(fd: number) {
    this.#fd = fd;
    const value = Buffer.alloc(CAPABILITY_BYTES);
    const length = fgetxattr(fd, CAPABILITY, value);
    this.#value = length < 0 ? undefined : value.subarray(0, length);
  }

  restore(): number {
    return this.#value === undefined ? 0 : fsetxattr(this.#fd, CAPABILITY, this.#value);
  }
}

/** Does something that makes or removes a name in `directory` while its times stay as they are. */
export function keepTimes(directory: number, action: () => number): number {
  const before = newStatx();
  const known = statx(directory, EMPTY, AT_EMPTY_PATH, before) >= 0;
  const code = action();
  if (known && code >= 0) {
    utimensat(
      directory,
      ITSELF,
      statxAtime(before),
      statxAtimeNs(before),
      statxMtime(before),
      statxMtimeNs(before),
    );
  }
  return code;
}
