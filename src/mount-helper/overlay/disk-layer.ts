/**
 * A layer that is a directory on a disk. Every directory is held by an O_PATH descriptor and every call
 * names one entry of it, so no path is ever put together, none is too long, and no symbolic link is
 * followed, wherever it may have been moved in between.
 *
 * Mount points inside the directory are crossed, as a path would: what is mounted there is seen.
 */
import { constants } from 'node:fs';
import { listDirectory } from '../system/dirents.ts';
import { EACCES, EPERM } from '../system/errno.ts';
import { cloneReadOnly } from '../system/kernel.ts';
import {
  AT_EMPTY_PATH,
  AT_FDCWD,
  AT_SYMLINK_NOFOLLOW,
  type CString,
  close,
  cString,
  fixedBytes,
  fstatfs,
  openat,
  pread,
  readlinkat,
  statx,
} from '../system/libc.ts';
import { newStatx, type Statx, statxDevice } from '../system/statx.ts';
import { getxattrAt, listxattrAt, reopen } from '../system/xattr.ts';
import type { Layer, LayerDirectory, LayerFile } from './layer.ts';

export const O_PATH = 0o10000000;
const { O_DIRECTORY, O_NOATIME, O_NOCTTY, O_NOFOLLOW, O_NONBLOCK, O_RDONLY } = constants;
const O_ACCMODE = 3;

const EMPTY: CString = fixedBytes(1);
const ITSELF = cString('.');

export interface DiskLayerOptions {
  readonly description: string;
  /** See `Layer`. */
  readonly readsWhiteoutNames: boolean;
  /** Reading may change access times: so it is for an upper, never for a lower. */
  readonly updatesAccessTimes: boolean;
  /**
   * Where the server may, files are opened on a read-only copy of the mount. For layers whose files the
   * kernel reads by itself (passthrough): it opens them anew, and not by O_NOATIME.
   */
  readonly onOwnMount?: boolean;
}

/** A directory of a layer on a disk. What changes an upper uses `fd`. */
export interface DiskDirectory extends LayerDirectory {
  /** O_PATH; it belongs to this object, which closes it with `release`. */
  readonly fd: number;
  openDirectory(name: CString): DiskDirectory | number;
}

/** `path`: absolute. A symbolic link as the last component is followed: it is what the user named. */
export function openDiskLayer(path: Uint8Array, options: DiskLayerOptions): DiskLayer | number {
  const fd = openTop(cString(path), options.onOwnMount === true);
  if (fd < 0) return fd;
  const attributes = newStatx();
  const code = statx(fd, EMPTY, AT_EMPTY_PATH, attributes);
  if (code < 0) {
    close(fd);
    return code;
  }
  return new DiskLayer(fd, statxDevice(attributes), options);
}

function openTop(path: CString, onOwnMount: boolean): number {
  const fd = openat(AT_FDCWD, path, O_PATH | O_DIRECTORY);
  if (fd < 0 || !onOwnMount) return fd;
  const clone = cloneReadOnly(path);
  if (clone < 0) return fd;
  close(fd);
  return clone;
}

export class DiskLayer implements Layer {
  readonly description: string;
  readonly device: bigint;
  readonly readsWhiteoutNames: boolean;
  readonly updatesAccessTimes: boolean;
  /** O_PATH, of the layer's root. */
  readonly fd: number;

  constructor(fd: number, device: bigint, options: DiskLayerOptions) {
    this.fd = fd;
    this.device = device;
    this.description = options.description;
    this.readsWhiteoutNames = options.readsWhiteoutNames;
    this.updatesAccessTimes = options.updatesAccessTimes;
  }

  openRoot(): DiskDirectory | number {
    const fd = openat(this.fd, ITSELF, O_PATH | O_DIRECTORY);
    return fd < 0 ? fd : new OpenDirectory(fd, this);
  }

  /**
   * `struct statfs`: 8 i64 bsize, 16 u64 blocks, 24 u64 bfree, 32 u64 bavail, 40 u64 files, 48 u64 ffree,
   * 72 i64 frsize, 120 bytes. Counts of blocks are in units of frsize, where there is one.
   */
  statistics(out: {
    bsize: number;
    blocks: number;
    bfree: number;
    bavail: number;
    files: number;
    ffree: number;
  }): number {
    const raw = Buffer.alloc(120);
    const code = fstatfs(this.fd, raw);
    if (code < 0) return code;
    out.bsize = Number(raw.readBigInt64LE(72)) || Number(raw.readBigInt64LE(8));
    out.blocks = Number(raw.readBigUInt64LE(16));
    out.bfree = Number(raw.readBigUInt64LE(24));
    out.bavail = Number(raw.readBigUInt64LE(32));
    out.files = Number(raw.readBigUInt64LE(40));
    out.ffree = Number(raw.readBigUInt64LE(48));
    return 0;
  }

  close(): void {
    close(this.fd);
  }
}

class OpenDirectory implements DiskDirectory {
  readonly fd: number;
  readonly #layer: DiskLayer;

  constructor(fd: number, layer: DiskLayer) {
    this.fd = fd;
    this.#layer = layer;
  }

  stat(out: Statx): number {
    return statx(this.fd, EMPTY, AT_EMPTY_PATH, out);
  }

  statAt(name: CString, out: Statx): number {
    return statx(this.fd, name, AT_SYMLINK_NOFOLLOW, out);
  }

  openDirectory(name: CString): DiskDirectory | number {
    const fd = openat(this.fd, name, O_PATH | O_DIRECTORY | O_NOFOLLOW);
    return fd < 0 ? fd : new OpenDirectory(fd, this.#layer);
  }

  openFile(name: CString, flags: number): LayerFile | number {
    // Should the entry be a pipe or a terminal by now, opening it neither waits nor takes it over; regular
    // files know nothing of these flags.
    const fd = this.#open(name, flags | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY);
    return fd < 0 ? fd : new OpenFile(fd);
  }

  readlinkAt(name: CString, out: Uint8Array): number {
    return readlinkat(this.fd, name, out);
  }

  list(each: (name: Uint8Array, ino: bigint, type: number) => void): number {
    let fd = this.#open(ITSELF, O_RDONLY | O_DIRECTORY);
    // Who may read a directory but not search it gets at it this way only.
    if (fd === -EACCES) fd = reopen(this.fd, O_RDONLY | O_DIRECTORY);
    if (fd < 0) return fd;
    try {
      return listDirectory(fd, each);
    } finally {
      close(fd);
    }
  }

  getxattr(name: CString | undefined, attribute: CString, out: Uint8Array): number {
    return getxattrAt(this.fd, name, attribute, out);
  }

  listxattr(name: CString | undefined, out: Uint8Array): number {
    return listxattrAt(this.fd, name, out);
  }

  release(): void {
    close(this.fd);
  }

  /** Only owners and the privileged may ask that the access time be left alone; others read without. */
  #open(name: CString, flags: number): number {
    const mayTouch = this.#layer.updatesAccessTimes || (flags & O_ACCMODE) !== O_RDONLY;
    if (mayTouch) return openat(this.fd, name, flags);
    const fd = openat(this.fd, name, flags | O_NOATIME);
    return fd === -EPERM ? openat(this.fd, name, flags) : fd;
  }
}

class OpenFile implements LayerFile {
  readonly fd: number;

  constructor(fd: number) {
    this.fd = fd;
  }

  read(out: Uint8Array, at: number, size: number, offset: number): number {
    return pread(this.fd, out, at, size, offset);
  }

  stat(out: Statx): number {
    return statx(this.fd, EMPTY, AT_EMPTY_PATH, out);
  }

  release(): void {
    close(this.fd);
  }
}
