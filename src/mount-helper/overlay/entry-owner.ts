/**
 * Whose a new entry is, and which mode it has: the caller's, as far as the server may give files away, with
 * the group and the default ACL of the directory where these pass on.
 */

import type { Caller } from '../fuse/file-system.ts';
import {
  AT_SYMLINK_NOFOLLOW,
  type CString,
  cString,
  fchmod,
  fchmodat,
  fchownat,
  fsetxattr,
  KEEP_ID,
  statx,
} from '../system/libc.ts';
import {
  patchOwner,
  S_IFDIR,
  S_IFLNK,
  S_IFREG,
  type Statx,
  statxGid,
  statxMode,
  statxUid,
} from '../system/statx.ts';
import { getxattrAt, setxattrAt } from '../system/xattr.ts';
import type { Node } from './inode-table.ts';
import { AT_EMPTY_PATH, EMPTY, type OverlayState } from './overlay-state.ts';
import { encodeOverrideStat } from './override-stat.ts';

const S_ISGID = 0o2000;
const SUID_SGID = 0o6000;
export const DEFAULT_ACL = cString('system.posix_acl_default');
const NOTHING = new Uint8Array(0);

/** What new entries get from the directory; asked once, and again when the directory was changed. */
export function inherit(o: OverlayState, parent: Node, directory: number): number {
  const known = parent.directory!;
  if (known.newEntryMode !== -1) return 0;
  const code = statx(directory, EMPTY, AT_EMPTY_PATH, o.otherStatx);
  if (code < 0) return code;
  known.newEntryMode = statxMode(o.otherStatx);
  known.newEntryGid = statxGid(o.otherStatx);
  known.hasDefaultAcl = getxattrAt(directory, undefined, DEFAULT_ACL, NOTHING) > 0;
  return 0;
}

/** Where owner and mode are kept in an attribute, the server itself has to have access. */
export function diskMode(o: OverlayState, type: number, bits: number): number {
  if (o.attributeNames.override === undefined) return bits;
  if (type === S_IFDIR) return (bits & 0o777) | 0o700;
  return type === S_IFREG ? (bits & 0o777) | 0o600 : bits;
}

/** Gives what was made to the caller, and fills `s`. `fd`: of a regular file, or -1. */
export function own(
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
