/** Changing what stat(2) shows of a node: always of its object in the upper. */
import { constants } from 'node:fs';
import type { AttributesAnswer, AttributesChange } from '../fuse/file-system.ts';
import {
  FATTR_ATIME,
  FATTR_ATIME_NOW,
  FATTR_FH,
  FATTR_GID,
  FATTR_KILL_SUIDGID,
  FATTR_MODE,
  FATTR_MTIME,
  FATTR_MTIME_NOW,
  FATTR_SIZE,
  FATTR_UID,
} from '../fuse/protocol.ts';
import { EIO, EOPNOTSUPP } from '../system/errno.ts';
import {
  AT_SYMLINK_NOFOLLOW,
  type CString,
  close,
  cString,
  fchmod,
  fchmodat,
  fchownat,
  fsetxattr,
  ftruncate,
  KEEP_ID,
  openat,
  truncate,
  UTIME_NOW,
  UTIME_OMIT,
  utimensat,
} from '../system/libc.ts';
import { S_IFDIR, S_IFLNK, S_IFREG, statxGid, statxMode, statxUid } from '../system/statx.ts';
import { setxattrAt } from '../system/xattr.ts';
import { getattr, orphanFd, reopen, statNode } from './attributes.ts';
import { ensureUpper } from './ensure-upper.ts';
import type { Node } from './inode-table.ts';
import { cStringOf } from './names.ts';
import { AT_EMPTY_PATH, EMPTY, type OverlayState } from './overlay-state.ts';
import { encodeOverrideStat } from './override-stat.ts';

const { O_NOFOLLOW, O_NONBLOCK, O_WRONLY } = constants;
const O_ACCMODE = 3;
const S_ISUID = 0o4000;
const S_ISGID = 0o2000;
const S_IXGRP = 0o010;
const MODE_BITS = 0o7777;

/**
 * An object of the upper that is to be changed: an entry of a directory, or a descriptor. `directory` is
 * a negative number where it cannot be reached.
 */
export interface Target {
  directory: number;
  name: CString;
  /** Of the object itself: then `directory` and `name` are the same by AT_EMPTY_PATH. -1: none. */
  fd: number;
}

const target: Target = { directory: -1, name: EMPTY, fd: -1 };

/** The node's object in the upper; good until the next call. */
export function targetOf(o: OverlayState, node: Node): Target {
  target.fd = -1;
  if (node.directory !== undefined) {
    const part = node.directory.parts[0]!;
    // The way over the parent, because a descriptor that is O_PATH takes no changes.
    if (part.parent !== undefined && !part.isPinned) {
      target.directory = o.parts.fd(part.parent);
      target.name = cStringOf(part.name);
    } else {
      target.directory = o.parts.fd(part);
      target.name = SELF;
    }
  } else if (node.isOrphan) {
    target.fd = orphanFd(node);
    target.directory = target.fd;
    target.name = EMPTY;
  } else {
    target.directory = o.parentFd(node);
    target.name = cStringOf(node.name);
  }
  return target;
}

const SELF = cString('.');

/** SETATTR. Answers DEFERRED until the node is in the upper. */
export function setattr(
  o: OverlayState,
  node: Node,
  change: AttributesChange,
  out: AttributesAnswer,
): number {
  let code = ensureUpper(o, node, (change.valid & FATTR_SIZE) !== 0 ? change.size : undefined);
  if (code >= 0) code = applyChange(o, node, change);
  return code < 0 ? code : getattr(o, node, out);
}

function applyChange(o: OverlayState, node: Node, change: AttributesChange): number {
  const { valid } = change;
  const at = targetOf(o, node);
  if (at.directory < 0) return at.directory;
  let code = 0;
  if ((valid & (FATTR_UID | FATTR_GID)) !== 0) code = chown(o, node, at, change);
  if (code >= 0 && (valid & FATTR_MODE) !== 0) code = chmod(o, node, at, change.mode & MODE_BITS);
  if (code >= 0 && (valid & FATTR_SIZE) !== 0) code = changeSize(o, node, at, change);
  if (code >= 0 && (valid & FATTR_KILL_SUIDGID) !== 0) code = clearSuid(o, node, at);
  if (code >= 0 && (valid & (FATTR_ATIME | FATTR_MTIME)) !== 0) code = setTimes(at, change);
  if (node.directory !== undefined) node.directory.newEntryMode = -1;
  return code;
}

function chown(o: OverlayState, node: Node, at: Target, change: AttributesChange): number {
  const uid = (change.valid & FATTR_UID) !== 0 ? o.ids.storedUid(change.uid) : undefined;
  const gid = (change.valid & FATTR_GID) !== 0 ? o.ids.storedGid(change.gid) : undefined;
  if (uid === undefined && gid === undefined) return 0;
  if (keepsOverride(o, node)) return recordOwner(o, node, at, uid, gid, undefined);
  const flags = at.fd >= 0 ? AT_EMPTY_PATH : AT_SYMLINK_NOFOLLOW;
  return fchownat(at.directory, at.name, uid ?? KEEP_ID, gid ?? KEEP_ID, flags);
}

function chmod(o: OverlayState, node: Node, at: Target, mode: number): number {
  if (node.type === S_IFLNK) return -EOPNOTSUPP;
  if (keepsOverride(o, node)) return recordOwner(o, node, at, undefined, undefined, mode);
  return changeMode(at, mode);
}

function changeMode(at: Target, mode: number): number {
  return at.fd >= 0 ? fchmod(at.fd, mode) : fchmodat(at.directory, at.name, mode);
}

/** Owner and mode go into an attribute, which exists on files and directories only. */
export function keepsOverride(o: OverlayState, node: Node): boolean {
  return o.attributeNames.override !== undefined && (node.type === S_IFREG || node.type === S_IFDIR);
}

function recordOwner(
  o: OverlayState,
  node: Node,
  at: Target,
  uid: number | undefined,
  gid: number | undefined,
  mode: number | undefined,
): number {
  const s = o.statx;
  const code = statNode(o, node, s);
  if (code < 0) return code;
  const record = encodeOverrideStat({
    uid: uid ?? statxUid(s),
    gid: gid ?? statxGid(s),
    // What chown(2) clears.
    mode:
      mode ?? withoutSuid(statxMode(s), node.type === S_IFDIR || (uid === undefined && gid === undefined)),
  });
  const attribute = o.attributeNames.override!;
  return at.fd >= 0
    ? fsetxattr(at.fd, attribute, record)
    : setxattrAt(at.directory, at.name, attribute, record);
}

/**
 * ftruncate(2) always sets the times, truncate(2) as the file system has it, mostly if the size changes:
 * which it was is told by the handle. A file that was copied up without its end has its new size already.
 */
function changeSize(o: OverlayState, node: Node, at: Target, change: AttributesChange): number {
  if (node.type !== S_IFREG) return -EIO;
  const isByHandle = (change.valid & FATTR_FH) !== 0;
  // The caller's own descriptor, where it has one that may write: the file may be read-only by now.
  const handle = isByHandle ? o.handles.file(change.handle) : undefined;
  if (handle !== undefined && handle.file === undefined && (handle.flags & O_ACCMODE) !== 0) {
    return ftruncate(handle.fd, change.size);
  }
  if (!isByHandle && node.cutRequest !== o.waiting.request) return truncate(pathOf(at), change.size);
  const fd =
    at.fd >= 0 ? reopen(at.fd, O_WRONLY) : openat(at.directory, at.name, O_WRONLY | O_NOFOLLOW | O_NONBLOCK);
  if (fd < 0) return fd;
  const code = ftruncate(fd, change.size);
  close(fd);
  return code;
}

function pathOf(at: Target): CString {
  if (at.fd >= 0) return cString(`/proc/self/fd/${at.fd}`);
  return Buffer.concat([Buffer.from(`/proc/self/fd/${at.directory}/`), at.name]);
}

/**
 * Takes set-uid and set-gid away. Where the group may not run the file, set-gid would stay for writers who
 * are in that group; which groups they are in does not come with a request.
 */
export function clearSuid(o: OverlayState, node: Node, at: Target): number {
  if (node.type !== S_IFREG) return 0;
  const code = statNode(o, node, o.statx);
  if (code < 0) return code;
  const mode = statxMode(o.statx) & MODE_BITS;
  const wanted = mode & ~(S_ISUID | S_ISGID);
  if (wanted === mode) return 0;
  if (keepsOverride(o, node)) return recordOwner(o, node, at, undefined, undefined, wanted);
  return changeMode(at, wanted);
}

/** Takes set-gid away from a file or directory whose new access control list was set by an outsider. */
export function clearSgid(o: OverlayState, node: Node, at: Target): number {
  const code = statNode(o, node, o.statx);
  if (code < 0) return code;
  const mode = statxMode(o.statx) & MODE_BITS;
  return (mode & S_ISGID) === 0 ? 0 : chmod(o, node, at, mode & ~S_ISGID);
}

function withoutSuid(mode: number, isExempt: boolean): number {
  if (isExempt) return mode & MODE_BITS;
  const cleared = mode & MODE_BITS & ~S_ISUID;
  return (mode & S_IXGRP) !== 0 ? cleared & ~S_ISGID : cleared;
}

function setTimes(at: Target, change: AttributesChange): number {
  const { valid } = change;
  const atimeNs = nanoseconds(valid, FATTR_ATIME, FATTR_ATIME_NOW, change.atimeNs);
  const mtimeNs = nanoseconds(valid, FATTR_MTIME, FATTR_MTIME_NOW, change.mtimeNs);
  if (at.fd < 0) return utimensat(at.directory, at.name, change.atime, atimeNs, change.mtime, mtimeNs);
  return utimensat(at.fd, null, change.atime, atimeNs, change.mtime, mtimeNs);
}

function nanoseconds(valid: number, isSet: number, isNow: number, given: number): number {
  if ((valid & isSet) === 0) return UTIME_OMIT;
  return (valid & isNow) !== 0 ? UTIME_NOW : given;
}
