/**
 * How a layer says that something of the layers below it is not there.
 *
 * Of a name:
 *   - a character device 0:0 under it (the kernel's; what we write),
 *   - an empty file under it with the attribute `overlay.whiteout`, in a directory marked opaque=x,
 *   - a file `.wh.NAME` beside it, in layers where such names count (what we write where mknod fails).
 * Of all that lower directories have:
 *   - the attribute `overlay.opaque`=y on the directory (what we write), `user.fuseoverlayfs.opaque`=y,
 *   - a file `.wh..wh..opq` in it, or `.wh.NAME` beside it, in layers where such names count (what we write where
 *     the file system keeps no attributes).
 *
 * In layers where they count, names that begin with `.wh.` are never shown.
 */

import { constants } from 'node:fs';
import { EEXIST, ENOENT, EOPNOTSUPP } from '../system/errno.ts';
import { type CString, close, openat } from '../system/libc.ts';
import { isRegular, isWhiteoutDevice, newStatx, type Statx, statxSize } from '../system/statx.ts';
import { setxattrAt } from '../system/xattr.ts';
import { O_PATH } from './disk-layer.ts';
import type { LayerDirectory } from './layer.ts';
import type { OverlayState } from './overlay-state.ts';
import type { Part } from './parts.ts';
import { isWhiteoutName, OPAQUE_NAME, whiteoutName } from './whiteout-name.ts';
import { isWhiteoutRefusal } from './work-directory.ts';

const YES = Buffer.from('y');
const NOTHING = new Uint8Array(0);
const unused = newStatx();

export const ABSENT = 0;
export const FOUND = 1;
/** The layer says that there is no such name in those below. */
export const HIDDEN = 2;

/** Looks for a name in one part: ABSENT, FOUND with `out` filled, HIDDEN, or `-errno`. */
export function findIn(o: OverlayState, part: Part, name: CString, out: Statx): number {
  const readsNames = o.readsNames(part);
  if (readsNames && isWhiteoutName(name)) return ABSENT;
  const directory = o.parts.open(part);
  if (typeof directory === 'number') return directory;
  const code = directory.statAt(name, out);
  if (code >= 0) return isWhiteout(o, part, directory, name, out) ? HIDDEN : FOUND;
  if (code !== -ENOENT) return code;
  return readsNames && directory.statAt(whiteoutName(name), out) >= 0 ? HIDDEN : ABSENT;
}

/** `stat` is that of an entry of the part. */
export function isWhiteout(
  o: OverlayState,
  part: Part,
  directory: LayerDirectory,
  name: CString,
  stat: Statx,
): boolean {
  if (isWhiteoutDevice(stat)) return true;
  if (!part.readsAttributes || !isRegular(stat) || statxSize(stat) !== 0) return false;
  return directory.getxattr(name, o.attributeNames.whiteout, NOTHING) >= 0;
}

/** `.wh.NAME` stands beside a directory: of those below it under that name nothing is seen. */
export function isHiddenBelow(parent: LayerDirectory, name: CString): boolean {
  return parent.statAt(whiteoutName(name), unused) >= 0;
}

/** Puts a whiteout where the upper has no entry. 0 or `-errno`. */
export function putWhiteout(o: OverlayState, directory: number, name: CString): number {
  if (!o.writesNames) {
    const code = o.upper!.work.linkWhiteout(directory, name);
    if (!isWhiteoutRefusal(code)) return code;
    // Is it the kind of thing that is refused, or this directory that refuses?
    const made = newWhiteout(o);
    if (typeof made === 'number') return made;
    if (made !== undefined) {
      o.upper!.work.remove(made);
      return code;
    }
  }
  return putWhiteoutName(directory, name);
}

/** A whiteout in work, to be moved over an entry; or `-errno`, or undefined where whiteouts are names. */
export function newWhiteout(o: OverlayState): CString | undefined | number {
  if (o.writesNames) return undefined;
  const made = o.upper!.work.newWhiteout();
  if (typeof made !== 'number' || !isWhiteoutRefusal(made)) return made;
  const marked = startWritingNames(o);
  return marked < 0 ? marked : undefined;
}

/** The file `.wh.NAME`: whether NAME is there or not, nothing below is seen through it. */
export function putWhiteoutName(directory: number, name: CString): number {
  return putMarkName(directory, whiteoutName(name));
}

function putMarkName(directory: number, name: CString): number {
  const flags = constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW;
  const fd = openat(directory, name, flags, 0o600);
  if (fd < 0) return fd === -EEXIST ? 0 : fd;
  close(fd);
  return 0;
}

/** Marks a directory of the upper (or of work) opaque. Without a name: the one with the descriptor. */
export function setOpaque(o: OverlayState, directory: number, name: CString | undefined): number {
  const code = setxattrAt(directory, name, o.attributeNames.opaque, YES);
  if (code !== -EOPNOTSUPP) return code;
  const marked = startWritingNames(o);
  if (marked < 0 || name === undefined) return marked < 0 ? marked : putMarkName(directory, OPAQUE_NAME);
  const fd = openat(directory, name, O_PATH | constants.O_DIRECTORY | constants.O_NOFOLLOW);
  if (fd < 0) return fd;
  const put = putMarkName(fd, OPAQUE_NAME);
  close(fd);
  return put;
}

/** As `setOpaque`, of a directory of work that is to stay empty, and is to be at `place` of the upper. */
export function setOpaqueEmpty(
  o: OverlayState,
  directory: number,
  name: CString,
  place: { readonly directory: number; readonly name: CString },
): number {
  const code = setxattrAt(directory, name, o.attributeNames.opaque, YES);
  if (code !== -EOPNOTSUPP) return code;
  const marked = startWritingNames(o);
  return marked < 0 ? marked : putWhiteoutName(place.directory, place.name);
}

/** From now on, and for every later mount: the stamp has to know it before the first such name is there. */
function startWritingNames(o: OverlayState): number {
  if (o.writesNames) return 0;
  const code = o.upper!.mark('mknodFailed');
  if (code >= 0) o.writesNames = true;
  return code;
}
