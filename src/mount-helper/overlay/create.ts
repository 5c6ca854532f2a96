/**
 * New files, directories, links and devices. They are made in the upper directly; where a whiteout has the
 * name, they are made in work and put in its place in one step, so that what it hides never shows.
 *
 * The kernel has looked the name up before it asks, and knows that it is free. Owners are the caller's, as
 * far as the server may give files away; group and default ACL of the directory pass on as they would
 * without an overlay.
 */

import { constants } from 'node:fs';
import type { Caller, EntryAnswer, OpenAnswer } from '../fuse/file-system.ts';
import { EEXIST, EINVAL, ENOENT, EPERM } from '../system/errno.ts';
import {
  AT_REMOVEDIR,
  AT_SYMLINK_NOFOLLOW,
  type CString,
  close,
  cString,
  fchmod,
  fchmodat,
  fchownat,
  fsetxattr,
  KEEP_ID,
  mkdirat,
  mknodat,
  openat,
  RENAME_EXCHANGE,
  renameat2,
  statx,
  symlinkat,
  unlinkat,
} from '../system/libc.ts';
import {
  isWhiteoutDevice,
  S_IFCHR,
  S_IFDIR,
  S_IFLNK,
  S_IFREG,
  type Statx,
  statxGid,
  statxMode,
  statxUid,
} from '../system/statx.ts';
import { getxattrAt, setxattrAt } from '../system/xattr.ts';
import { answerEntry, patchOwner } from './attributes.ts';
import { O_PATH } from './disk-layer.ts';
import { ensureUpperDirectory } from './ensure-upper.ts';
import { addHandle, backingFlags } from './handles.ts';
import type { Node } from './inode-table.ts';
import { endedCopy, type Name, nameOf } from './names.ts';
import { AT_EMPTY_PATH, EMPTY, ITSELF, type OverlayState } from './overlay-state.ts';
import { encodeOverrideStat } from './override-stat.ts';
import { setOpaque } from './whiteout.ts';

const { O_CREAT, O_DIRECTORY, O_EXCL, O_NOFOLLOW, O_WRONLY } = constants;
const O_TMPFILE = 0o20200000;
const S_ISGID = 0o2000;
const SUID_SGID = 0o6000;
const MODE_BITS = 0o7777;
const DEFAULT_ACL = cString('system.posix_acl_default');
const ACL_MAX = 65536;
const INNER = cString('n');
const NOTHING = new Uint8Array(0);

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

const recipe: Recipe = { type: 0, mode: 0, umask: 0, rdev: 0, target: EMPTY, flags: 0 };

function prepare(type: number, mode: number, umask: number): Recipe {
  recipe.type = type;
  recipe.mode = mode & MODE_BITS;
  recipe.umask = umask;
  recipe.rdev = 0;
  recipe.target = EMPTY;
  recipe.flags = O_WRONLY;
  return recipe;
}

export function makeDirectory(
  o: OverlayState,
  parent: Node,
  name: Uint8Array,
  mode: number,
  umask: number,
  caller: Caller,
  out: EntryAnswer,
): number {
  return makeNamed(o, parent, name, prepare(S_IFDIR, mode, umask), caller, out);
}

export function makeSymlink(
  o: OverlayState,
  parent: Node,
  name: Uint8Array,
  target: Uint8Array,
  caller: Caller,
  out: EntryAnswer,
): number {
  const what = prepare(S_IFLNK, 0o777, 0);
  what.target = endedCopy(target);
  return makeNamed(o, parent, name, what, caller, out);
}

export function makeNode(
  o: OverlayState,
  parent: Node,
  name: Uint8Array,
  mode: number,
  rdev: number,
  umask: number,
  caller: Caller,
  out: EntryAnswer,
): number {
  const type = mode & 0o170000 || S_IFREG;
  // It would be a whiteout.
  if (type === S_IFCHR && rdev === 0) return -EPERM;
  const what = prepare(type, mode, umask);
  what.rdev = rdev;
  return makeNamed(o, parent, name, what, caller, out);
}

function makeNamed(
  o: OverlayState,
  parent: Node,
  name: Uint8Array,
  what: Recipe,
  caller: Caller,
  out: EntryAnswer,
): number {
  const fd = makeEntry(o, parent, endedCopy(name), what, caller, o.statx);
  if (fd < 0) return fd;
  if (what.type === S_IFREG) close(fd);
  answerEntry(o, adopt(o, parent, nameOf(name), what.type, o.statx), o.statx, out);
  return 0;
}

/** CREATE: a new regular file, open. */
export function createFile(
  o: OverlayState,
  parent: Node,
  name: Uint8Array,
  flags: number,
  mode: number,
  umask: number,
  caller: Caller,
  entry: EntryAnswer,
  out: OpenAnswer,
): number {
  const what = prepare(S_IFREG, mode, umask);
  what.flags = backingFlags(o, flags);
  const fd = makeEntry(o, parent, endedCopy(name), what, caller, o.statx);
  if (fd < 0) return fd;
  const node = adopt(o, parent, nameOf(name), S_IFREG, o.statx);
  answerEntry(o, node, o.statx, entry);
  addHandle(o, node, what.flags, fd, undefined, out);
  return 0;
}

/** TMPFILE: a regular file without a name, open. */
export function createNameless(
  o: OverlayState,
  parent: Node,
  flags: number,
  mode: number,
  umask: number,
  caller: Caller,
  entry: EntryAnswer,
  out: OpenAnswer,
): number {
  const directory = ensureUpperDirectory(o, parent);
  if (directory < 0) return directory;
  const inherited = inherit(o, parent, directory);
  if (inherited < 0) return inherited;
  const bits = parent.directory!.hasDefaultAcl ? mode & MODE_BITS : mode & MODE_BITS & ~umask;
  const kept = backingFlags(o, flags) | (flags & O_EXCL);
  const fd = openat(directory, ITSELF, kept | O_TMPFILE, diskMode(o, S_IFREG, bits));
  if (fd < 0) return fd;
  const code = own(o, parent, fd, EMPTY, fd, S_IFREG, bits, caller, o.statx);
  if (code < 0) {
    close(fd);
    return code;
  }
  const node = o.table.addNameless(S_IFREG, o.numbers.shown(o.statx));
  answerEntry(o, node, o.statx, entry);
  addHandle(o, node, kept, fd, undefined, out);
  return 0;
}

/** The node of what was just made in the upper; `s` has its attributes. */
function adopt(o: OverlayState, parent: Node, name: Name, type: number, s: Statx): Node {
  const directory = parent.directory!;
  const above = directory.parts[0]!;
  const stale = directory.children.get(name);
  if (stale !== undefined) o.table.removeLink(stale, parent, name);
  const parts = type === S_IFDIR ? [o.parts.child(above, name)] : undefined;
  const node = o.table.add(type, o.numbers.shown(s), parent, name, parts);
  node.inUpper = true;
  node.isNameUnsynced = true;
  if (type !== S_IFDIR) o.table.setKey(node, o.numbers.key(s));
  directory.version++;
  return node;
}

/** Makes it and fills `s`. Returns a descriptor for regular files, else 0; or `-errno` with nothing left behind. */
function makeEntry(
  o: OverlayState,
  parent: Node,
  name: CString,
  what: Recipe,
  caller: Caller,
  s: Statx,
): number {
  if (parent.isOrphan) return -ENOENT;
  if (o.refusesName(name)) return -EINVAL;
  const directory = ensureUpperDirectory(o, parent);
  if (directory < 0) return directory;
  const inherited = inherit(o, parent, directory);
  if (inherited < 0) return inherited;
  const bits = parent.directory!.hasDefaultAcl ? what.mode : what.mode & ~what.umask;
  const fd = make(o, directory, name, what, bits);
  if (fd === -EEXIST) return replaceWhiteout(o, parent, directory, name, what, bits, caller, s);
  if (fd < 0) return fd;
  const held = what.type === S_IFREG ? fd : -1;
  const code = own(o, parent, directory, name, held, what.type, bits, caller, s);
  if (code >= 0) return fd;
  if (held >= 0) close(held);
  unlinkat(directory, name, what.type === S_IFDIR ? AT_REMOVEDIR : 0);
  return code;
}

/** What new entries get from the directory; asked once, and again when the directory was changed. */
function inherit(o: OverlayState, parent: Node, directory: number): number {
  const known = parent.directory!;
  if (known.newEntryMode !== -1) return 0;
  const code = statx(directory, EMPTY, AT_EMPTY_PATH, o.otherStatx);
  if (code < 0) return code;
  known.newEntryMode = statxMode(o.otherStatx);
  known.newEntryGid = statxGid(o.otherStatx);
  known.hasDefaultAcl = getxattrAt(directory, undefined, DEFAULT_ACL, NOTHING) > 0;
  return 0;
}

function make(o: OverlayState, directory: number, name: CString, what: Recipe, bits: number): number {
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

/** Where owner and mode are kept in an attribute, the server itself has to have access. */
function diskMode(o: OverlayState, type: number, bits: number): number {
  if (o.attributeNames.override === undefined) return bits;
  if (type === S_IFDIR) return (bits & 0o777) | 0o700;
  return type === S_IFREG ? (bits & 0o777) | 0o600 : bits;
}

/** Gives what was made to the caller, and fills `s`. `fd`: of a regular file, or -1. */
function own(
  o: OverlayState,
  parent: Node,
  directory: number,
  name: CString,
  fd: number,
  type: number,
  bits: number,
  caller: Caller,
  s: Statx,
): number {
  const { newEntryMode, newEntryGid } = parent.directory!;
  const inheritsGroup = (newEntryMode & S_ISGID) !== 0;
  const uid = o.ids.storedUid(caller.uid);
  const gid = inheritsGroup ? newEntryGid : o.ids.storedGid(caller.gid);
  const at = fd >= 0 ? fd : directory;
  const itself = fd >= 0 ? EMPTY : name;
  const flags = fd >= 0 ? AT_EMPTY_PATH : AT_SYMLINK_NOFOLLOW;
  if (o.attributeNames.override !== undefined && (type === S_IFREG || type === S_IFDIR)) {
    const mode = type === S_IFDIR && inheritsGroup ? bits | S_ISGID : bits;
    const record = encodeOverrideStat({ uid: uid ?? o.uid, gid: gid ?? o.gid, mode });
    const { override } = o.attributeNames;
    const code = fd >= 0 ? fsetxattr(fd, override, record) : setxattrAt(directory, name, override, record);
    if (code < 0) return code;
    return statRecorded(at, itself, flags, uid ?? o.uid, gid ?? o.gid, mode, s);
  }
  const expectedGid = inheritsGroup ? newEntryGid : o.gid;
  let isOurs = (uid === undefined || uid === o.uid) && (gid === undefined || gid === expectedGid);
  for (;;) {
    if (!isOurs) {
      const code = fchownat(at, itself, uid ?? KEEP_ID, gid ?? KEEP_ID, flags);
      if (code < 0) return code;
      // Giving a file away clears these.
      if (type !== S_IFDIR && type !== S_IFLNK && (bits & SUID_SGID) !== 0) {
        const restored = fd >= 0 ? fchmod(fd, bits) : fchmodat(directory, name, bits);
        if (restored < 0) return restored;
      }
    }
    const code = statx(at, itself, flags, s);
    if (code < 0) return code;
    if (!isOurs) return 0;
    // Some file systems give new files the group of their directory, whatever its mode.
    isOurs = (uid === undefined || statxUid(s) === uid) && (gid === undefined || statxGid(s) === gid);
    if (isOurs) return 0;
  }
}

function statRecorded(
  at: number,
  name: CString,
  flags: number,
  uid: number,
  gid: number,
  mode: number,
  s: Statx,
): number {
  const code = statx(at, name, flags, s);
  if (code >= 0) patchOwner(s, uid, gid, mode);
  return code;
}

/** The upper has something at the name that the kernel believes free: a whiteout, or it was put there behind our back. */
function replaceWhiteout(
  o: OverlayState,
  parent: Node,
  directory: number,
  name: CString,
  what: Recipe,
  bits: number,
  caller: Caller,
  s: Statx,
): number {
  const there = statx(directory, name, AT_SYMLINK_NOFOLLOW, s);
  if (there < 0) return there;
  if (!isWhiteoutDevice(s)) return -EEXIST;
  const { work } = o.upper!;
  const place = workPlace(o, parent, directory);
  if (place.directory < 0) return place.directory;
  const fd = make(o, place.directory, place.name, what, bits);
  let code = fd;
  if (fd >= 0) {
    const held = what.type === S_IFREG ? fd : -1;
    code = own(o, parent, place.directory, place.name, held, what.type, bits, caller, s);
    if (code >= 0 && what.type === S_IFDIR) code = finishDirectory(o, parent, place, bits, s);
    if (code >= 0) code = putInPlace(place, directory, name, what.type === S_IFDIR);
    if (code < 0 && held >= 0) close(held);
  }
  if (place.directory !== work.fd) close(place.directory);
  work.remove(place.top);
  return code < 0 ? code : fd;
}

/** A name in work to make something under, `top` being what has to be removed afterwards. */
interface WorkPlace {
  readonly directory: number;
  readonly name: CString;
  readonly top: CString;
}

/** Where the directory has a default ACL, a directory of work with the same one: making things in it applies it. */
function workPlace(o: OverlayState, parent: Node, directory: number): WorkPlace {
  const { work } = o.upper!;
  const name = work.newName();
  if (!parent.directory!.hasDefaultAcl) return { directory: work.fd, name, top: name };
  const acl = Buffer.alloc(ACL_MAX);
  const length = getxattrAt(directory, undefined, DEFAULT_ACL, acl);
  let code = length < 0 ? length : mkdirat(work.fd, name, 0o700);
  if (code >= 0) code = setxattrAt(work.fd, name, DEFAULT_ACL, acl.subarray(0, length));
  const inner = code < 0 ? code : openat(work.fd, name, O_PATH | O_DIRECTORY | O_NOFOLLOW);
  if (inner < 0) work.remove(name);
  return { directory: inner, name: INNER, top: name };
}

/** A directory where one was deleted: nothing of the old one may show. */
function finishDirectory(o: OverlayState, parent: Node, place: WorkPlace, bits: number, s: Statx): number {
  let code = setOpaque(o, place.directory, place.name);
  if (code < 0) return code;
  if ((parent.directory!.newEntryMode & S_ISGID) !== 0 && o.attributeNames.override === undefined) {
    code = fchmodat(place.directory, place.name, (statxMode(s) & 0o777) | (bits & 0o7000) | S_ISGID);
  }
  if (code < 0 || o.attributeNames.override !== undefined) return code;
  return statx(place.directory, place.name, AT_SYMLINK_NOFOLLOW, s);
}

function putInPlace(place: WorkPlace, directory: number, name: CString, isDirectory: boolean): number {
  if (!isDirectory) return renameat2(place.directory, place.name, directory, name);
  const code = renameat2(place.directory, place.name, directory, name, RENAME_EXCHANGE);
  if (code !== -EINVAL) return code;
  // No exchange on this file system: for an instant there is nothing.
  const removed = unlinkat(directory, name);
  return removed < 0 ? removed : renameat2(place.directory, place.name, directory, name);
}
