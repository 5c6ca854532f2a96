/** The system call that makes a new entry of a directory, by its type. */
import { constants } from 'node:fs';
import { type CString, mkdirat, mknodat, openat, symlinkat } from '../system/libc.ts';
import { S_IFDIR, S_IFLNK, S_IFREG } from '../system/statx.ts';
import { diskMode } from './entry-owner.ts';
import type { OverlayState } from './overlay-state.ts';

const { O_CREAT, O_EXCL, O_NOFOLLOW } = constants;

/** What is to be made. */
export interface Recipe {
  type: number;
  /** Permissions, before the umask. */
  mode: number;
  umask: number;
  rdev: number;
  /** Of a symbolic link, with its NUL. */
  target: CString;
  /** For O_CREAT of a regular file. */
  flags: number;
}

/** A descriptor for regular files, else 0; or `-errno`. `bits`: permissions, the umask applied. */
export function make(o: OverlayState, directory: number, name: CString, what: Recipe, bits: number): number {
  const mode = diskMode(o, what.type, bits);
  switch (what.type) {
    case S_IFREG:
      return openat(directory, name, what.flags | O_CREAT | O_EXCL | O_NOFOLLOW, mode);
    case S_IFDIR:
      return mkdirat(directory, name, mode);
    case S_IFLNK:
      return symlinkat(what.target, directory, name);
    default:
      return mknodat(directory, name, what.type | mode, what.rdev);
  }
}
