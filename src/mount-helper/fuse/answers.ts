/** Answers for a file system to fill in; made once and used for one request after another. */
import type { Attributes, EntryAnswer } from './file-system.ts';

export function emptyAttributes(): Attributes {
  return {
    ino: 0n,
    size: 0,
    blocks: 0,
    atime: 0,
    atimeNs: 0,
    mtime: 0,
    mtimeNs: 0,
    ctime: 0,
    ctimeNs: 0,
    mode: 0,
    nlink: 0,
    uid: 0,
    gid: 0,
    rdev: 0,
    blksize: 0,
  };
}

export function emptyEntry(): EntryAnswer {
  return {
    node: 0,
    generation: 0,
    entryTimeoutMs: 0,
    attributesTimeoutMs: 0,
    attributes: emptyAttributes(),
  };
}
