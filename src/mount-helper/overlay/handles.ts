/**
 * Open files. A handle reads the layer's file, and from the moment it is copied up the copy. Offsets come
 * with each request, from the kernel, which has the whole file locked when it appends: so descriptors are
 * never O_APPEND.
 *
 * Passthrough: the kernel may read and write the file behind a handle by itself. All opens of a node share
 * one id then, and none may be of the ordinary kind at the same time; so it is used for files of the upper
 * (or of a read-only mount, where nothing is ever copied up, if reading leaves no trace) that are not open
 * otherwise.
 */

import { constants } from 'node:fs';
import type { OpenAnswer } from '../fuse/file-system.ts';
import {
  FOPEN_KEEP_CACHE,
  FOPEN_NOFLUSH,
  FOPEN_PASSTHROUGH,
  FUSE_WRITE_KILL_SUIDGID,
  OPEN_KILL_SUIDGID,
} from '../fuse/protocol.ts';
import {
  EAGAIN,
  EBADF,
  EINVAL,
  EIO,
  EISDIR,
  EMFILE,
  ENFILE,
  ENOMEM,
  ENOSYS,
  ENXIO,
  EOPNOTSUPP,
  EXDEV,
} from '../system/errno.ts';
import {
  fallocate as allocate,
  close,
  copyFileRange as copyRange,
  cString,
  dup,
  fgetxattr,
  fstatfs,
  pread,
  pwrite,
  lseek as seek,
  statx,
} from '../system/libc.ts';
import { newStatx, S_IFREG, statxMode, statxSize } from '../system/statx.ts';
import { clearSuid, targetOf } from './change-attributes.ts';
import { ensureUpper, openUpper } from './ensure-upper.ts';
import { FileHandle } from './handle-table.ts';
import type { Node } from './inode-table.ts';
import type { LayerFile } from './layer.ts';
import { cStringOf } from './names.ts';
import { AT_EMPTY_PATH, EMPTY, type OverlayState } from './overlay-state.ts';

const { O_DSYNC, O_RDONLY, O_SYNC, O_TRUNC } = constants;
const O_ACCMODE = 3;
const statfs = Buffer.alloc(120);
const SEEK_DATA = 3;
const SET_IDS = 0o6000;
const CAPABILITY = cString('security.capability');
const NOTHING = new Uint8Array(0);
const probe = newStatx();
/** So that one request does not hold up the others. */
const COPY_BYTES_MAX = 8 << 20;

/** What the descriptor behind a handle is opened with, of all that the caller asked for. */
export function backingFlags(o: OverlayState, flags: number): number {
  return flags & (O_ACCMODE | (o.options.volatile ? 0 : O_SYNC | O_DSYNC));
}

export function openFile(o: OverlayState, node: Node, flags: number, out: OpenAnswer): number {
  if (node.directory !== undefined) return -EISDIR;
  if (node.type !== S_IFREG) return -ENXIO;
  const truncates = (flags & O_TRUNC) !== 0;
  if ((flags & O_ACCMODE) !== O_RDONLY || truncates) {
    const code = ensureUpper(o, node, truncates ? 0 : undefined);
    if (code < 0) return code;
  }
  if (node.isDataMissing) return -EIO;
  const source = node.data ?? node.lower;
  if (source !== undefined) {
    const directory = o.parts.open(source.part);
    if (typeof directory === 'number') return directory;
    const file = directory.openFile(cStringOf(source.name), O_RDONLY);
    if (typeof file === 'number') return file;
    addHandle(o, node, O_RDONLY, file.fd, file, out);
    return 0;
  }
  const kept = backingFlags(o, flags);
  const fd = openUpper(o, node, kept | (truncates ? O_TRUNC : 0));
  if (fd < 0) return fd;
  if (truncates && (flags & OPEN_KILL_SUIDGID) !== 0) {
    const code = clearSuid(o, node, targetOf(o, node));
    if (code < 0) {
      close(fd);
      return code;
    }
  }
  addHandle(o, node, kept, fd, undefined, out);
  return 0;
}

/** Takes the descriptor (or file) over, and fills the answer. */
export function addHandle(
  o: OverlayState,
  node: Node,
  flags: number,
  fd: number,
  file: LayerFile | undefined,
  out: OpenAnswer,
): void {
  const backingId = passThrough(o, node, fd, file !== undefined);
  const isPassthrough = backingId > 0;
  const handle = new FileHandle(node, flags, fd, file, isPassthrough);
  if (node.handles === undefined) node.handles = [handle];
  else node.handles.push(handle);
  out.handle = o.handles.add(handle);
  out.backingId = backingId;
  out.flags = o.upper?.closeReportsErrors === true ? 0 : FOPEN_NOFLUSH;
  if (isPassthrough) out.flags |= FOPEN_PASSTHROUGH;
  // What was read before the kernel wrote by itself may be old.
  else if (!node.wasPassthrough) out.flags |= FOPEN_KEEP_CACHE;
}

/** The id that the new handle shares, or 0. */
function passThrough(o: OverlayState, node: Node, fd: number, isLower: boolean): number {
  if (o.backing === undefined || fd < 0) return 0;
  if (node.backingOpens === 0) {
    if (isLower && (o.upper !== undefined || !keepsAccessTimes(fd))) return 0;
    if (node.handles !== undefined && node.handles.length > 0) return 0;
    if (o.upper !== undefined && hasPrivileges(fd)) return 0;
    const id = o.backing.open(fd);
    if (id <= 0) {
      const isPassing = id === -EMFILE || id === -ENFILE || id === -ENOMEM || id === -EAGAIN;
      // No right to it, or the file system of the layers cannot be stacked on: it will never work.
      if (!isPassing) o.backing = undefined;
      return 0;
    }
    node.backingId = id;
    node.wasPassthrough = true;
  }
  node.backingOpens++;
  return node.backingId;
}

/** Writing takes set-id bits and capabilities away. That is ours to do, and such writes would pass us by. */
function hasPrivileges(fd: number): boolean {
  if (statx(fd, EMPTY, AT_EMPTY_PATH, probe) < 0) return true;
  return (statxMode(probe) & SET_IDS) !== 0 || fgetxattr(fd, CAPABILITY, NOTHING) >= 0;
}

/**
 * Nobody's reading changes the file's access time, because of how its file system is mounted. What the
 * kernel opens for passthrough is not O_NOATIME, and the layers must not change.
 */
function keepsAccessTimes(fd: number): boolean {
  // struct statfs: flags i64(80), of them ST_RDONLY 1 and ST_NOATIME 1024.
  return fstatfs(fd, statfs) >= 0 && (statfs.readUInt32LE(80) & (1 | 1024)) !== 0;
}

export function releaseFile(o: OverlayState, id: number): void {
  const handle = o.handles.file(id);
  if (handle === undefined) return;
  o.handles.remove(id);
  const { node } = handle;
  const handles = node.handles!;
  handles.splice(handles.indexOf(handle), 1);
  if (handle.isPassthrough && --node.backingOpens === 0) {
    o.backing?.close(node.backingId);
    node.backingId = 0;
  }
  if (handle.file !== undefined) handle.file.release();
  else if (node.isOrphan && node.lookups > 0 && node.anchor < 0 && handles.length === 0) {
    // The kernel may still ask for what has no name.
    node.anchor = handle.fd;
  } else close(handle.fd);
  o.table.dropIfUnused(node);
}

export function readFile(
  o: OverlayState,
  id: number,
  offset: number,
  size: number,
  out: Uint8Array,
  at: number,
): number {
  const handle = o.handles.file(id);
  if (handle === undefined) return -EBADF;
  if (handle.file !== undefined) return handle.file.read(out, at, size, offset);
  return pread(handle.fd, out, at, size, offset);
}

export function writeFile(
  o: OverlayState,
  id: number,
  offset: number,
  data: Uint8Array,
  at: number,
  size: number,
  writeFlags: number,
): number {
  const handle = o.handles.file(id);
  if (handle === undefined || handle.file !== undefined) return -EBADF;
  // Without privilege the system does it by itself.
  if ((writeFlags & FUSE_WRITE_KILL_SUIDGID) !== 0 && o.uid === 0) {
    const code = clearSuid(o, handle.node, targetOf(o, handle.node));
    if (code < 0) return code;
  }
  let done = 0;
  while (done < size) {
    const count = pwrite(handle.fd, data, at + done, size - done, offset + done);
    if (count < 0) return done > 0 ? done : count;
    if (count === 0) return done > 0 ? done : -EIO;
    done += count;
  }
  return done;
}

/** A close is all there is to ask for errors; where it reports none, the kernel need not ask again. */
export function flushFile(o: OverlayState, id: number): number {
  if (o.upper?.closeReportsErrors !== true) return -ENOSYS;
  const handle = o.handles.file(id);
  if (handle === undefined) return -EBADF;
  if (handle.file !== undefined) return 0;
  const copy = dup(handle.fd);
  return copy < 0 ? copy : close(copy);
}

/** A handle to write by: one of the upper. */
function writable(o: OverlayState, id: number): FileHandle | number {
  const handle = o.handles.file(id);
  return handle === undefined || handle.file !== undefined ? -EBADF : handle;
}

export function fallocateFile(
  o: OverlayState,
  id: number,
  offset: number,
  length: number,
  mode: number,
): number {
  const handle = writable(o, id);
  return typeof handle === 'number' ? handle : allocate(handle.fd, mode, offset, length);
}

export function seekFile(o: OverlayState, id: number, offset: number, whence: number): number {
  const handle = o.handles.file(id);
  if (handle === undefined) return -EBADF;
  if (handle.fd >= 0) return seek(handle.fd, offset, whence);
  // A layer that tells nothing of holes: all is data, and the end is a hole.
  const code = handle.file!.stat(o.statx);
  if (code < 0) return code;
  const size = statxSize(o.statx);
  if (offset < 0 || offset >= size) return -ENXIO;
  return whence === SEEK_DATA ? offset : size;
}

export function copyFileRange(
  o: OverlayState,
  fromId: number,
  fromOffset: number,
  toId: number,
  toOffset: number,
  length: number,
): number {
  const from = o.handles.file(fromId);
  const to = writable(o, toId);
  if (from === undefined) return -EBADF;
  if (typeof to === 'number') return to;
  // The kernel then reads and writes.
  if (from.fd < 0) return -EOPNOTSUPP;
  const count = copyRange(from.fd, fromOffset, to.fd, toOffset, Math.min(length, COPY_BYTES_MAX));
  return count === -EXDEV || (count === -EINVAL && from.node !== to.node) ? -EOPNOTSUPP : count;
}
