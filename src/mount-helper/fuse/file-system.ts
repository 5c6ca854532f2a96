/**
 * What the FUSE server asks of a file system: one method per kind of request, in the terms of
 * `fuse/protocol.ts`. All methods are synchronous and never throw: they return 0 (or a count of bytes
 * where the comment says so), `-errno`, or DEFERRED.
 *
 * A method that needs slow work starts a job (`jobs.ts`), tells the server to wait for it and returns
 * DEFERRED. Then the whole request is kept, and the method called again with the same arguments when the
 * job has ended. Requests that must not overtake the job (the same node, a namespace change above it) do
 * the same. Arguments are views into the server's buffers: valid until the method returns.
 */

import type { Attributes } from './answers.ts';

export type { Attributes } from './answers.ts';

/** The request waits for the job that was given to `Waiting.waitFor`, and is then dispatched anew. */
export const DEFERRED = -0x10000;

/** Who asks. `pid` is 0 when the caller is outside our PID namespace. */
export interface Caller {
  uid: number;
  gid: number;
  pid: number;
}

/** Answer to LOOKUP and to all that make a name. `node` 0: there is no such name, and that may be cached. */
export interface EntryAnswer {
  node: number;
  generation: number;
  /** How long the name may be cached, and the attributes. */
  entryTimeoutMs: number;
  attributesTimeoutMs: number;
  readonly attributes: Attributes;
}

export interface AttributesAnswer {
  timeoutMs: number;
  readonly attributes: Attributes;
}

/** Answer to OPEN, OPENDIR, CREATE. */
export interface OpenAnswer {
  handle: number;
  /** FOPEN_* bits. */
  flags: number;
  backingId: number;
}

/** What SETATTR is to change; `valid` has the FATTR_* bits. Times: whole seconds, may be negative, and nanoseconds. */
export interface AttributesChange {
  valid: number;
  /** Meaningful with FATTR_FH. */
  handle: number;
  size: number;
  atime: number;
  atimeNs: number;
  mtime: number;
  mtimeNs: number;
  mode: number;
  uid: number;
  gid: number;
}

/**
 * Takes directory entries, and says whether there is room. The name is `name[0, length)`: one buffer may
 * serve for all. `nextOffset` is the cookie that resumes after the entry. With `entry` the answer is that of
 * READDIRPLUS and counts as a lookup when it was taken.
 */
export interface DirectorySink {
  add(name: Uint8Array, length: number, ino: bigint, type: number, nextOffset: number): boolean;
  addWithEntry(
    name: Uint8Array,
    length: number,
    type: number,
    nextOffset: number,
    entry: EntryAnswer,
  ): boolean;
}

export interface FileSystemStatistics {
  blocks: number;
  bfree: number;
  bavail: number;
  files: number;
  ffree: number;
  bsize: number;
  namelen: number;
  frsize: number;
}

/**
 * Names and targets come without the NUL, but in memory one follows: such a view can be given to the C
 * library as it is. Nodes are numbers that an EntryAnswer gave; the root is 1. The flags of `open` and `create` may have
 * OPEN_KILL_SUIDGID (`protocol.ts`).
 */
export interface FileSystem {
  lookup(parent: number, name: Uint8Array, caller: Caller, out: EntryAnswer): number;
  forget(node: number, lookups: number): void;
  /** `handle` -1: none was given. */
  getattr(node: number, handle: number, out: AttributesAnswer): number;
  setattr(node: number, change: AttributesChange, caller: Caller, out: AttributesAnswer): number;
  /** Writes the target to `out`; returns its length. */
  readlink(node: number, out: Uint8Array): number;
  symlink(parent: number, name: Uint8Array, target: Uint8Array, caller: Caller, out: EntryAnswer): number;
  mknod(
    parent: number,
    name: Uint8Array,
    mode: number,
    rdev: number,
    umask: number,
    caller: Caller,
    out: EntryAnswer,
  ): number;
  mkdir(
    parent: number,
    name: Uint8Array,
    mode: number,
    umask: number,
    caller: Caller,
    out: EntryAnswer,
  ): number;
  unlink(parent: number, name: Uint8Array, caller: Caller): number;
  rmdir(parent: number, name: Uint8Array, caller: Caller): number;
  /** `flags`: RENAME_NOREPLACE 1, RENAME_EXCHANGE 2; others are EINVAL. */
  rename(
    parent: number,
    name: Uint8Array,
    newParent: number,
    newName: Uint8Array,
    flags: number,
    caller: Caller,
  ): number;
  link(node: number, newParent: number, newName: Uint8Array, caller: Caller, out: EntryAnswer): number;
  /** `flags`: O_* bits, and OPEN_KILL_SUIDGID of `protocol.ts`. */
  open(node: number, flags: number, caller: Caller, out: OpenAnswer): number;
  create(
    parent: number,
    name: Uint8Array,
    flags: number,
    mode: number,
    umask: number,
    caller: Caller,
    entry: EntryAnswer,
    out: OpenAnswer,
  ): number;
  /** O_TMPFILE in directory `parent`. */
  tmpfile(
    parent: number,
    flags: number,
    mode: number,
    umask: number,
    caller: Caller,
    entry: EntryAnswer,
    out: OpenAnswer,
  ): number;
  /** Reads into `out[at, at + size)`; returns the count, 0 at the end. */
  read(handle: number, offset: number, size: number, out: Uint8Array, at: number): number;
  /**
   * A descriptor that reads the same at the same offsets, for moving bytes without looking at them; -1 where
   * `read` is the only way. Valid until the next call.
   */
  readDescriptor(handle: number): number;
  /** Writes all of `data[at, at + size)`; returns the count. `writeFlags`: FUSE_WRITE_*. */
  write(
    handle: number,
    offset: number,
    data: Uint8Array,
    at: number,
    size: number,
    writeFlags: number,
  ): number;
  /** A descriptor was closed; errors of writing that are known by now. */
  flush(handle: number): number;
  release(handle: number): void;
  fsync(handle: number, dataOnly: boolean): number;
  opendir(node: number, caller: Caller, out: OpenAnswer): number;
  readdir(handle: number, offset: number, withEntries: boolean, out: DirectorySink): number;
  releasedir(handle: number): void;
  fsyncdir(handle: number, dataOnly: boolean): number;
  statfs(out: FileSystemStatistics): number;
  /** Writes the value to `out` and returns its length; with an `out` of length 0, only the length. ERANGE if it does not fit. */
  getxattr(node: number, name: Uint8Array, out: Uint8Array): number;
  /** Names, each with its NUL; otherwise as `getxattr`. */
  listxattr(node: number, out: Uint8Array, caller: Caller): number;
  setxattr(
    node: number,
    name: Uint8Array,
    value: Uint8Array,
    flags: number,
    setxattrFlags: number,
    caller: Caller,
  ): number;
  removexattr(node: number, name: Uint8Array, caller: Caller): number;
  fallocate(handle: number, offset: number, length: number, mode: number): number;
  /** SEEK_DATA 3 or SEEK_HOLE 4; returns the offset. */
  lseek(handle: number, offset: number, whence: number): number;
  /** Returns the count of bytes that were copied. */
  copyFileRange(
    fromHandle: number,
    fromOffset: number,
    toHandle: number,
    toOffset: number,
    length: number,
  ): number;
  /** The connection is over: closes everything. */
  destroy(): void;
}

/** What the server offers to a file system that needs time. */
export interface Waiting {
  /** Names the request at hand: a number that it has again when it is dispatched anew, and that no other has meanwhile. */
  readonly request: number;
  /** The request at hand waits for the job; its method is to return DEFERRED at once. */
  waitFor(job: Job): void;
  /** Hands work off to another thread; `finish` runs on the thread of the server when it is done. */
  start(work: Work, finish: (result: number) => void): Job;
  /** The node's attributes are others now, by a request that does not tell the kernel so: the server will. */
  attributesChanged(node: number): void;
  /** True if the request at hand was interrupted (asked by long loops only). */
  readonly isInterrupted: boolean;
}

/** Work under way. */
export interface Job {
  readonly id: number;
  readonly isDone: boolean;
}

/** Work of another thread: moving bytes between descriptors, nothing else. `result` is a count or -errno. */
export type Work =
  | {
      /** All bytes of [0, size), holes left out; with `sync` on the disk before it ends. */
      readonly kind: 'copy';
      readonly from: number;
      readonly to: number;
      readonly size: number;
      readonly sync: boolean;
    }
  | { readonly kind: 'sync'; readonly fd: number; readonly dataOnly: boolean };
