/**
 * The overlay as a FileSystem: layers, topmost first, shown as one tree; changes go to the upper. Each
 * method finds the nodes that the request names and hands it to the file that has the matter.
 */
import { Git2dbError } from '../../xet/errors.ts';
import type {
  AttributesAnswer,
  AttributesChange,
  Caller,
  DirectorySink,
  EntryAnswer,
  FileSystem,
  FileSystemStatistics,
  OpenAnswer,
} from '../fuse/file-system.ts';
import { FOPEN_CACHE_DIR, FOPEN_KEEP_CACHE } from '../fuse/protocol.ts';
import { EINVAL, ENOTDIR, ESTALE, errnoMessage } from '../system/errno.ts';
import { close } from '../system/libc.ts';
import { S_IFLNK } from '../system/statx.ts';
import { getattr, readSymlink } from './attributes.ts';
import { setattr } from './change-attributes.ts';
import { createFile, createNameless, makeDirectory, makeNode, makeSymlink } from './create.ts';
import { DirectoryHandle } from './handle-table.ts';
import {
  copyFileRange,
  fallocateFile,
  flushFile,
  openFile,
  readFile,
  releaseFile,
  seekFile,
  writeFile,
} from './handles.ts';
import type { Node } from './inode-table.ts';
import { makeLink } from './link.ts';
import { lookup, openRoot } from './lookup.ts';
import { nameOf } from './names.ts';
import { type OverlaySetup, OverlayState } from './overlay-state.ts';
import { readDirectory } from './readdir.ts';
import { removeDirectory, removeFile } from './remove.ts';
import { renameNode } from './rename.ts';
import { syncDirectory, syncFile } from './sync.ts';
import { endVolatile } from './volatile-mark.ts';
import { getAttribute, listAttributes, removeAttribute, setAttribute } from './xattrs.ts';

export type { BackingFiles, OverlaySetup, UpperSetup } from './overlay-state.ts';

export class OverlayFs implements FileSystem {
  readonly #o: OverlayState;
  #isDestroyed = false;

  /** Over opened layers, which it closes in the end. Throws where the topmost root cannot be read. */
  constructor(setup: OverlaySetup) {
    this.#o = new OverlayState(setup);
    const code = openRoot(this.#o);
    if (code < 0) {
      const { description } = setup.layers[0]!;
      throw new Git2dbError('MOUNT_FAILED', `cannot read ${description}: ${errnoMessage(code)}`);
    }
  }

  /** Nodes that are known. */
  get size(): number {
    return this.#o.table.size;
  }

  lookup(parent: number, name: Uint8Array, _caller: Caller, out: EntryAnswer): number {
    const directory = this.#directory(parent);
    return typeof directory === 'number' ? directory : lookup(this.#o, directory, nameOf(name), out);
  }

  forget(node: number, lookups: number): void {
    this.#o.table.forget(node, lookups);
  }

  getattr(id: number, _handle: number, out: AttributesAnswer): number {
    const node = this.#o.table.get(id);
    return node === undefined ? -ESTALE : getattr(this.#o, node, out);
  }

  setattr(id: number, change: AttributesChange, _caller: Caller, out: AttributesAnswer): number {
    const node = this.#o.table.get(id);
    if (node === undefined) return -ESTALE;
    return setattr(this.#o, node, change, out);
  }

  readlink(id: number, out: Uint8Array): number {
    const node = this.#o.table.get(id);
    if (node === undefined) return -ESTALE;
    return node.type === S_IFLNK ? readSymlink(this.#o, node, out) : -EINVAL;
  }

  symlink(parent: number, name: Uint8Array, target: Uint8Array, caller: Caller, out: EntryAnswer): number {
    const directory = this.#directory(parent);
    if (typeof directory === 'number') return directory;
    return makeSymlink(this.#o, directory, name, target, caller, out);
  }

  mknod(
    parent: number,
    name: Uint8Array,
    mode: number,
    rdev: number,
    umask: number,
    caller: Caller,
    out: EntryAnswer,
  ): number {
    const directory = this.#directory(parent);
    if (typeof directory === 'number') return directory;
    return makeNode(this.#o, directory, name, mode, rdev, umask, caller, out);
  }

  mkdir(
    parent: number,
    name: Uint8Array,
    mode: number,
    umask: number,
    caller: Caller,
    out: EntryAnswer,
  ): number {
    const directory = this.#directory(parent);
    if (typeof directory === 'number') return directory;
    return makeDirectory(this.#o, directory, name, mode, umask, caller, out);
  }

  unlink(parent: number, name: Uint8Array, _caller: Caller): number {
    const directory = this.#directory(parent);
    return typeof directory === 'number' ? directory : removeFile(this.#o, directory, nameOf(name));
  }

  rmdir(parent: number, name: Uint8Array, _caller: Caller): number {
    const directory = this.#directory(parent);
    return typeof directory === 'number' ? directory : removeDirectory(this.#o, directory, nameOf(name));
  }

  rename(
    parent: number,
    name: Uint8Array,
    newParent: number,
    newName: Uint8Array,
    flags: number,
    _caller: Caller,
  ): number {
    const from = this.#directory(parent);
    if (typeof from === 'number') return from;
    const to = this.#directory(newParent);
    if (typeof to === 'number') return to;
    return renameNode(this.#o, from, nameOf(name), to, nameOf(newName), flags);
  }

  link(id: number, newParent: number, newName: Uint8Array, _caller: Caller, out: EntryAnswer): number {
    const node = this.#o.table.get(id);
    if (node === undefined) return -ESTALE;
    const directory = this.#directory(newParent);
    return typeof directory === 'number' ? directory : makeLink(this.#o, node, directory, newName, out);
  }

  open(id: number, flags: number, _caller: Caller, out: OpenAnswer): number {
    const node = this.#o.table.get(id);
    return node === undefined ? -ESTALE : openFile(this.#o, node, flags, out);
  }

  create(
    parent: number,
    name: Uint8Array,
    flags: number,
    mode: number,
    umask: number,
    caller: Caller,
    entry: EntryAnswer,
    out: OpenAnswer,
  ): number {
    const directory = this.#directory(parent);
    if (typeof directory === 'number') return directory;
    return createFile(this.#o, directory, name, flags, mode, umask, caller, entry, out);
  }

  tmpfile(
    parent: number,
    flags: number,
    mode: number,
    umask: number,
    caller: Caller,
    entry: EntryAnswer,
    out: OpenAnswer,
  ): number {
    const directory = this.#directory(parent);
    if (typeof directory === 'number') return directory;
    return createNameless(this.#o, directory, flags, mode, umask, caller, entry, out);
  }

  read(handle: number, offset: number, size: number, out: Uint8Array, at: number): number {
    return readFile(this.#o, handle, offset, size, out, at);
  }

  readDescriptor(handle: number): number {
    const found = this.#o.handles.file(handle);
    return found === undefined ? -1 : (found.file?.fd ?? found.fd);
  }

  write(
    handle: number,
    offset: number,
    data: Uint8Array,
    at: number,
    size: number,
    writeFlags: number,
  ): number {
    return writeFile(this.#o, handle, offset, data, at, size, writeFlags);
  }

  flush(handle: number): number {
    return flushFile(this.#o, handle);
  }

  release(handle: number): void {
    releaseFile(this.#o, handle);
  }

  fsync(handle: number, dataOnly: boolean): number {
    return syncFile(this.#o, handle, dataOnly);
  }

  opendir(id: number, _caller: Caller, out: OpenAnswer): number {
    const node = this.#directory(id);
    if (typeof node === 'number') return node;
    const handle = new DirectoryHandle(node);
    node.openDirectories++;
    out.handle = this.#o.handles.add(handle);
    // The kernel keeps a listing until it changes the directory itself; with a timeout others may, too.
    out.flags = this.#o.options.timeoutMs === undefined ? FOPEN_KEEP_CACHE | FOPEN_CACHE_DIR : 0;
    out.backingId = 0;
    return 0;
  }

  readdir(handle: number, offset: number, withEntries: boolean, out: DirectorySink): number {
    return readDirectory(this.#o, handle, offset, withEntries, out);
  }

  releasedir(id: number): void {
    const handle = this.#o.handles.directory(id);
    if (handle === undefined) return;
    this.#o.handles.remove(id);
    handle.node.openDirectories--;
    this.#o.table.dropIfUnused(handle.node);
  }

  fsyncdir(handle: number, dataOnly: boolean): number {
    return syncDirectory(this.#o, handle, dataOnly);
  }

  statfs(out: FileSystemStatistics): number {
    const code = this.#o.layers[0]!.statistics(out);
    out.namelen = 255;
    out.frsize = out.bsize;
    return Math.min(0, code);
  }

  getxattr(id: number, name: Uint8Array, out: Uint8Array): number {
    const node = this.#o.table.get(id);
    return node === undefined ? -ESTALE : getAttribute(this.#o, node, nameOf(name), out);
  }

  listxattr(id: number, out: Uint8Array, caller: Caller): number {
    const node = this.#o.table.get(id);
    return node === undefined ? -ESTALE : listAttributes(this.#o, node, out, caller);
  }

  setxattr(
    id: number,
    name: Uint8Array,
    value: Uint8Array,
    flags: number,
    setxattrFlags: number,
    _caller: Caller,
  ): number {
    const node = this.#o.table.get(id);
    if (node === undefined) return -ESTALE;
    return setAttribute(this.#o, node, nameOf(name), value, flags, setxattrFlags);
  }

  removexattr(id: number, name: Uint8Array, _caller: Caller): number {
    const node = this.#o.table.get(id);
    return node === undefined ? -ESTALE : removeAttribute(this.#o, node, nameOf(name));
  }

  fallocate(handle: number, offset: number, length: number, mode: number): number {
    return fallocateFile(this.#o, handle, offset, length, mode);
  }

  lseek(handle: number, offset: number, whence: number): number {
    return seekFile(this.#o, handle, offset, whence);
  }

  copyFileRange(
    fromHandle: number,
    fromOffset: number,
    toHandle: number,
    toOffset: number,
    length: number,
  ): number {
    return copyFileRange(this.#o, fromHandle, fromOffset, toHandle, toOffset, length);
  }

  destroy(): void {
    if (this.#isDestroyed) return;
    this.#isDestroyed = true;
    const o = this.#o;
    for (const handle of o.handles.files()) {
      if (handle.file !== undefined) handle.file.release();
      else close(handle.fd);
    }
    for (const node of o.table.all()) {
      if (node.anchor >= 0) close(node.anchor);
      const part = node.directory?.parts[0];
      if (part?.isPinned) o.parts.close(part);
    }
    o.parts.closeAll();
    if (o.upper !== undefined) {
      if (o.options.volatile) endVolatile(o.upper.work);
      o.upper.work.close();
    }
    for (const layer of o.layers) layer.close();
  }

  #directory(id: number): Node | number {
    const node = this.#o.table.get(id);
    if (node === undefined) return -ESTALE;
    return node.directory === undefined ? -ENOTDIR : node;
  }
}
