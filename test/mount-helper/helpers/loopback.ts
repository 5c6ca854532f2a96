/**
 * A directory shown as it is: the least that a file system for the server can be. For tests of the
 * transport, and to measure what the transport alone costs.
 */
import { constants } from 'node:fs';
import { emptyEntry } from '../../../src/mount-helper/fuse/answers.ts';
import {
  type Attributes,
  type AttributesAnswer,
  type AttributesChange,
  type Caller,
  DEFERRED,
  type DirectorySink,
  type EntryAnswer,
  type FileSystem,
  type FileSystemStatistics,
  type Job,
  type OpenAnswer,
  type Waiting,
} from '../../../src/mount-helper/fuse/file-system.ts';
import {
  FATTR_ATIME,
  FATTR_ATIME_NOW,
  FATTR_GID,
  FATTR_MODE,
  FATTR_MTIME,
  FATTR_MTIME_NOW,
  FATTR_SIZE,
  FATTR_UID,
  FOPEN_CACHE_DIR,
  FOPEN_KEEP_CACHE,
} from '../../../src/mount-helper/fuse/protocol.ts';
import { listDirectory } from '../../../src/mount-helper/system/dirents.ts';
import { EBADF, EINVAL, ENOENT, ENOSYS, EOPNOTSUPP, ESTALE } from '../../../src/mount-helper/system/errno.ts';
import {
  AT_EMPTY_PATH,
  AT_FDCWD,
  AT_REMOVEDIR,
  AT_SYMLINK_NOFOLLOW,
  close,
  copyFileRange,
  cString,
  fallocate,
  fchmodat,
  fchownat,
  fstatfs,
  ftruncate,
  KEEP_ID,
  linkat,
  lseek,
  mkdirat,
  mknodat,
  openat,
  pread,
  pwrite,
  readlinkat,
  renameat2,
  statx,
  symlinkat,
  UTIME_NOW,
  UTIME_OMIT,
  unlinkat,
  utimensat,
} from '../../../src/mount-helper/system/libc.ts';
import { newStatx, toAttributes } from '../../../src/mount-helper/system/statx.ts';

const O_PATH = 0o10000000;
const { O_DIRECTORY, O_NOFOLLOW, O_RDONLY, O_RDWR, O_CREAT } = constants;
const EMPTY = cString('');
const TIMEOUT_MS = 3600_000;

interface Node {
  readonly id: number;
  parent: Node | undefined;
  name: Uint8Array;
  /** O_PATH of a directory, opened when it is first needed. */
  fd: number;
  lookups: number;
  children: Map<string, Node> | undefined;
}

interface DirectoryHandle {
  readonly entries: { name: Uint8Array; ino: bigint; type: number }[];
  readonly node: Node;
}

export interface LoopbackOptions {
  /** fsync and reads of files whose name begins with `slow` take the detour of a job. */
  readonly waiting?: Waiting;
}

/** Names that begin with this wait for a job of their own when they are opened. */
const SLOW = 'slow';

export class Loopback implements FileSystem {
  readonly #nodes = new Map<number, Node>();
  readonly #root: Node;
  readonly #stat = newStatx();
  readonly #directories = new Map<number, DirectoryHandle>();
  readonly #waiting: Waiting | undefined;
  readonly #slow = new Map<number, Job>();
  #lastNode = 1;
  #lastHandle = 0;

  constructor(directory: Buffer, { waiting }: LoopbackOptions = {}) {
    const fd = openat(AT_FDCWD, cString(directory), O_PATH | O_DIRECTORY);
    if (fd < 0) throw new Error(`${directory}: errno ${-fd}`);
    this.#root = { id: 1, parent: undefined, name: EMPTY, fd, lookups: 1, children: undefined };
    this.#nodes.set(1, this.#root);
    this.#waiting = waiting;
  }

  #directory(id: number): number {
    const node = this.#nodes.get(id);
    return node === undefined ? -ESTALE : this.#fd(node);
  }

  #fd(node: Node): number {
    if (node.fd < 0 && node.parent !== undefined) {
      node.fd = openat(this.#fd(node.parent), node.name, O_PATH | O_DIRECTORY | O_NOFOLLOW);
    }
    return node.fd;
  }

  #enter(parent: Node, name: Uint8Array, out: EntryAnswer): number {
    const code = statx(this.#fd(parent), name, AT_SYMLINK_NOFOLLOW, this.#stat);
    out.entryTimeoutMs = TIMEOUT_MS;
    out.attributesTimeoutMs = TIMEOUT_MS;
    out.generation = 0;
    if (code < 0) {
      out.node = 0;
      return code === -ENOENT ? 0 : code;
    }
    parent.children ??= new Map();
    const key = keyOf(name);
    let node = parent.children.get(key);
    if (node === undefined) {
      node = { id: ++this.#lastNode, parent, name: cString(name), fd: -1, lookups: 0, children: undefined };
      parent.children.set(key, node);
      this.#nodes.set(node.id, node);
    }
    node.lookups++;
    out.node = node.id;
    toAttributes(this.#stat, out.attributes);
    return 0;
  }

  #made(parent: number, name: Uint8Array, code: number, out: EntryAnswer): number {
    return code < 0 ? code : this.#enter(this.#nodes.get(parent)!, name, out);
  }

  #unname(parent: number, name: Uint8Array): Node | undefined {
    const directory = this.#nodes.get(parent)!;
    const key = keyOf(name);
    const node = directory.children?.get(key);
    directory.children?.delete(key);
    return node;
  }

  lookup(parent: number, name: Uint8Array, _caller: Caller, out: EntryAnswer): number {
    const node = this.#nodes.get(parent);
    return node === undefined ? -ESTALE : this.#enter(node, name, out);
  }

  forget(id: number, lookups: number): void {
    const node = this.#nodes.get(id);
    if (node === undefined || id === 1) return;
    node.lookups -= lookups;
    if (node.lookups > 0) return;
    this.#nodes.delete(id);
    if (node.fd >= 0) close(node.fd);
    const key = keyOf(node.name.subarray(0, -1));
    if (node.parent?.children?.get(key) === node) node.parent.children.delete(key);
  }

  #attributes(id: number, out: Attributes): number {
    const node = this.#nodes.get(id);
    if (node === undefined) return -ESTALE;
    const code =
      node.parent === undefined
        ? statx(node.fd, EMPTY, AT_EMPTY_PATH, this.#stat)
        : statx(this.#fd(node.parent), node.name, AT_SYMLINK_NOFOLLOW, this.#stat);
    if (code >= 0) toAttributes(this.#stat, out);
    return code;
  }

  getattr(node: number, handle: number, out: AttributesAnswer): number {
    out.timeoutMs = TIMEOUT_MS;
    if (handle > 0 && !this.#directories.has(handle)) {
      const code = statx(handle, EMPTY, AT_EMPTY_PATH, this.#stat);
      if (code >= 0) toAttributes(this.#stat, out.attributes);
      return code;
    }
    return this.#attributes(node, out.attributes);
  }

  setattr(id: number, change: AttributesChange, _caller: Caller, out: AttributesAnswer): number {
    const node = this.#nodes.get(id);
    if (node === undefined) return -ESTALE;
    const directory = node.parent === undefined ? node.fd : this.#fd(node.parent);
    const name = node.parent === undefined ? cString('.') : node.name;
    const { valid } = change;
    let code = 0;
    if (valid & FATTR_MODE) code = fchmodat(directory, name, change.mode & 0o7777);
    if (code >= 0 && valid & (FATTR_UID | FATTR_GID)) {
      const uid = valid & FATTR_UID ? change.uid : KEEP_ID;
      code = fchownat(directory, name, uid, valid & FATTR_GID ? change.gid : KEEP_ID);
    }
    if (code >= 0 && valid & FATTR_SIZE) {
      const fd = openat(directory, name, O_RDWR | O_NOFOLLOW);
      code = fd < 0 ? fd : ftruncate(fd, change.size);
      if (fd >= 0) close(fd);
    }
    if (code >= 0 && valid & (FATTR_ATIME | FATTR_MTIME)) {
      const atimeNs = valid & FATTR_ATIME_NOW ? UTIME_NOW : valid & FATTR_ATIME ? change.atimeNs : UTIME_OMIT;
      const mtimeNs = valid & FATTR_MTIME_NOW ? UTIME_NOW : valid & FATTR_MTIME ? change.mtimeNs : UTIME_OMIT;
      code = utimensat(directory, name, change.atime, atimeNs, change.mtime, mtimeNs);
    }
    out.timeoutMs = TIMEOUT_MS;
    return code < 0 ? code : this.#attributes(id, out.attributes);
  }

  readlink(id: number, out: Uint8Array): number {
    const node = this.#nodes.get(id);
    if (node?.parent === undefined) return -EINVAL;
    return readlinkat(this.#fd(node.parent), node.name, out);
  }

  symlink(parent: number, name: Uint8Array, target: Uint8Array, _caller: Caller, out: EntryAnswer): number {
    const code = symlinkat(target, this.#directory(parent), name);
    return this.#made(parent, name, code, out);
  }

  mknod(
    parent: number,
    name: Uint8Array,
    mode: number,
    rdev: number,
    umask: number,
    _caller: Caller,
    out: EntryAnswer,
  ): number {
    return this.#made(parent, name, mknodat(this.#directory(parent), name, mode & ~umask, rdev), out);
  }

  mkdir(
    parent: number,
    name: Uint8Array,
    mode: number,
    umask: number,
    _caller: Caller,
    out: EntryAnswer,
  ): number {
    return this.#made(parent, name, mkdirat(this.#directory(parent), name, mode & ~umask), out);
  }

  unlink(parent: number, name: Uint8Array): number {
    const code = unlinkat(this.#directory(parent), name, 0);
    if (code >= 0) this.#unname(parent, name);
    return code;
  }

  rmdir(parent: number, name: Uint8Array): number {
    const code = unlinkat(this.#directory(parent), name, AT_REMOVEDIR);
    if (code >= 0) this.#unname(parent, name);
    return code;
  }

  rename(parent: number, name: Uint8Array, newParent: number, newName: Uint8Array, flags: number): number {
    const from = this.#directory(parent);
    const to = this.#directory(newParent);
    const code = renameat2(from, name, to, newName, flags);
    if (code < 0) return code;
    this.#unname(newParent, newName);
    const node = this.#unname(parent, name);
    if (node === undefined) return 0;
    node.parent = this.#nodes.get(newParent)!;
    node.name = cString(newName);
    node.parent.children ??= new Map();
    node.parent.children.set(keyOf(newName), node);
    return 0;
  }

  link(id: number, newParent: number, newName: Uint8Array, _caller: Caller, out: EntryAnswer): number {
    const node = this.#nodes.get(id);
    if (node?.parent === undefined) return -ESTALE;
    const code = linkat(this.#fd(node.parent), node.name, this.#directory(newParent), newName);
    return this.#made(newParent, newName, code, out);
  }

  open(id: number, flags: number, _caller: Caller, out: OpenAnswer): number {
    const node = this.#nodes.get(id);
    if (node?.parent === undefined) return -ESTALE;
    const fd = openat(this.#fd(node.parent), node.name, flags & ~O_CREAT & 0x3fffffff);
    if (fd < 0) return fd;
    if (this.#waiting !== undefined && this.#isSlow(node, fd)) return DEFERRED;
    out.handle = fd;
    out.flags = FOPEN_KEEP_CACHE;
    out.backingId = 0;
    return 0;
  }

  /** The first open of a slow file waits until its content is on the disk. */
  #isSlow(node: Node, fd: number): boolean {
    if (!Buffer.from(node.name).toString('latin1').startsWith(SLOW)) return false;
    let job = this.#slow.get(node.id);
    if (job === undefined) {
      job = this.#waiting!.start({ kind: 'sync', fd, dataOnly: false }, () => close(fd));
      this.#slow.set(node.id, job);
    } else {
      if (job.isDone) return false;
      close(fd);
    }
    this.#waiting!.waitFor(job);
    return true;
  }

  create(
    parent: number,
    name: Uint8Array,
    flags: number,
    mode: number,
    umask: number,
    _caller: Caller,
    entry: EntryAnswer,
    out: OpenAnswer,
  ): number {
    const opening = (flags & 0x3fffffff) | O_CREAT;
    const fd = openat(this.#directory(parent), name, opening, mode & ~umask);
    const code = this.#made(parent, name, fd, entry);
    if (code < 0) return code;
    out.handle = fd;
    out.flags = FOPEN_KEEP_CACHE;
    out.backingId = 0;
    return 0;
  }

  tmpfile(): number {
    return -EOPNOTSUPP;
  }

  read(handle: number, offset: number, size: number, out: Uint8Array, at: number): number {
    return pread(handle, out, at, size, offset);
  }

  readDescriptor(handle: number): number {
    return handle;
  }

  write(handle: number, offset: number, data: Uint8Array, at: number, size: number): number {
    return pwrite(handle, data, at, size, offset);
  }

  flush(): number {
    return -ENOSYS;
  }

  release(handle: number): void {
    close(handle);
  }

  fsync(handle: number, dataOnly: boolean): number {
    let result: number | undefined;
    const waiting = this.#waiting;
    if (waiting === undefined) return 0;
    const key = -handle;
    const job = this.#slow.get(key);
    if (job?.isDone === true) {
      this.#slow.delete(key);
      return result ?? 0;
    }
    if (job === undefined) {
      const started = waiting.start({ kind: 'sync', fd: handle, dataOnly }, (code) => {
        result = code;
      });
      this.#slow.set(key, started);
      waiting.waitFor(started);
    } else {
      waiting.waitFor(job);
    }
    return DEFERRED;
  }

  opendir(id: number, _caller: Caller, out: OpenAnswer): number {
    const node = this.#nodes.get(id);
    if (node === undefined) return -ESTALE;
    const fd = openat(this.#fd(node), cString('.'), O_RDONLY | O_DIRECTORY);
    if (fd < 0) return fd;
    const entries: DirectoryHandle['entries'] = [];
    const code = listDirectory(fd, (name, ino, type) => entries.push({ name: cString(name), ino, type }));
    close(fd);
    if (code < 0) return code;
    out.handle = 2 ** 40 + ++this.#lastHandle;
    out.flags = FOPEN_KEEP_CACHE | FOPEN_CACHE_DIR;
    out.backingId = 0;
    this.#directories.set(out.handle, { entries, node });
    return 0;
  }

  readonly #entry = emptyEntry();

  readdir(handle: number, offset: number, withEntries: boolean, out: DirectorySink): number {
    const directory = this.#directories.get(handle);
    if (directory === undefined) return -EBADF;
    for (let i = offset; i < directory.entries.length; i++) {
      const { name, ino, type } = directory.entries[i]!;
      const plain = name.subarray(0, -1);
      if (!withEntries || this.#enter(directory.node, plain, this.#entry) < 0 || this.#entry.node === 0) {
        if (!out.add(plain, plain.length, ino, type, i + 1)) break;
      } else if (!out.addWithEntry(plain, plain.length, type, i + 1, this.#entry)) {
        this.forget(this.#entry.node, 1);
        break;
      }
    }
    return 0;
  }

  releasedir(handle: number): void {
    this.#directories.delete(handle);
  }

  fsyncdir(): number {
    return 0;
  }

  statfs(out: FileSystemStatistics): number {
    const raw = Buffer.alloc(120);
    const code = fstatfs(this.#root.fd, raw);
    if (code < 0) return code;
    out.bsize = Number(raw.readBigInt64LE(8));
    out.frsize = out.bsize;
    out.blocks = Number(raw.readBigUInt64LE(16));
    out.bfree = Number(raw.readBigUInt64LE(24));
    out.bavail = Number(raw.readBigUInt64LE(32));
    out.files = Number(raw.readBigUInt64LE(40));
    out.ffree = Number(raw.readBigUInt64LE(48));
    out.namelen = 255;
    return 0;
  }

  getxattr(): number {
    return -ENOSYS;
  }

  listxattr(): number {
    return -ENOSYS;
  }

  setxattr(): number {
    return -ENOSYS;
  }

  removexattr(): number {
    return -ENOSYS;
  }

  fallocate(handle: number, offset: number, length: number, mode: number): number {
    return fallocate(handle, mode, offset, length);
  }

  lseek(handle: number, offset: number, whence: number): number {
    return lseek(handle, offset, whence);
  }

  copyFileRange(from: number, fromOffset: number, to: number, toOffset: number, length: number): number {
    return copyFileRange(from, fromOffset, to, toOffset, length);
  }

  destroy(): void {}
}

function keyOf(name: Uint8Array): string {
  return Buffer.prototype.latin1Slice.call(name, 0, name.length);
}
