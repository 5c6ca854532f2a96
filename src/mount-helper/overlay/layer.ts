/**
 * One tree of an overlay, as the overlay sees it. Nothing above this interface knows of paths on a disk: a
 * layer may fetch what it has only when it is asked.
 *
 * Names are bytes that end in NUL; `.` and `..` are never asked for, and never given. All methods return
 * a number >= 0, or `-errno`; none throws. Directories and files of a layer are small objects that the
 * caller gives back with `release`.
 */
import type { CString } from '../system/libc.ts';
import type { Statx } from '../system/statx.ts';

/** A directory of a layer. */
export interface LayerDirectory {
  /** Attributes of the directory itself. */
  stat(out: Statx): number;
  /** Attributes of an entry; a symbolic link is not followed. */
  statAt(name: CString, out: Statx): number;
  /** ENOENT, ENOTDIR (also for a symbolic link) or a directory. */
  openDirectory(name: CString): LayerDirectory | number;
  /** Never O_CREAT. A symbolic link is ELOOP. Where the layer may, reading leaves the access time alone. */
  openFile(name: CString, flags: number): LayerFile | number;
  readlinkAt(name: CString, out: Uint8Array): number;
  /** Calls `each` for every entry but `.` and `..`. `type` is DT_*, 0 where the layer does not know. */
  list(each: (name: Uint8Array, ino: bigint, type: number) => void): number;
  /** As fgetxattr(2) and the like; of an entry, or of the directory itself when `name` is undefined. */
  getxattr(name: CString | undefined, attribute: CString, out: Uint8Array): number;
  listxattr(name: CString | undefined, out: Uint8Array): number;
  release(): void;
}

/** An open file of a layer. */
export interface LayerFile {
  /** A descriptor with the content, or -1 where there is none: then `read` is the only way. */
  readonly fd: number;
  read(out: Uint8Array, at: number, size: number, offset: number): number;
  stat(out: Statx): number;
  release(): void;
}

export interface Layer {
  /** What errors name it by. */
  readonly description: string;
  /** Number of the file system that inode numbers are unique on: st_dev as major << 32 | minor. */
  readonly device: bigint;
  /** What the registry wrote or an option says: do `.wh.` names count as whiteouts here? */
  readonly readsWhiteoutNames: boolean;
  openRoot(): LayerDirectory | number;
  statistics(out: {
    bsize: number;
    blocks: number;
    bfree: number;
    bavail: number;
    files: number;
    ffree: number;
  }): number;
  close(): void;
}
