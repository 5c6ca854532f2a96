/**
 * A new entry where a whiteout has the name: it is made in work, complete, and put in the whiteout's place in
 * one step, so that what that hides never shows.
 */
import { constants } from 'node:fs';
import type { Caller } from '../fuse/file-system.ts';
import { EEXIST, EINVAL } from '../system/errno.ts';
import {
  AT_SYMLINK_NOFOLLOW,
  type CString,
  close,
  cString,
  fchmodat,
  mkdirat,
  openat,
  RENAME_EXCHANGE,
  renameat2,
  statx,
  unlinkat,
} from '../system/libc.ts';
import { isWhiteoutDevice, S_IFDIR, S_IFREG, type Statx, statxMode } from '../system/statx.ts';
import { getxattrAt, setxattrAt } from '../system/xattr.ts';
import { O_PATH } from './disk-layer.ts';
import { DEFAULT_ACL, own } from './entry-owner.ts';
import type { Node } from './inode-table.ts';
import { make, type Recipe } from './make-entry.ts';
import type { OverlayState } from './overlay-state.ts';
import { setOpaque } from './whiteout.ts';

const { O_DIRECTORY, O_NOFOLLOW } = constants;
const S_ISGID = 0o2000;
const ACL_MAX = 65536;
const INNER = cString('n');

/** The upper has something at the name that the kernel believes free: a whiteout, or it was put there behind our back. */
export function replaceWhiteout(
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
