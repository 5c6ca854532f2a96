/** LINK: one more name for a file, which is in the upper then, whatever layer it came from. */
import type { EntryAnswer } from '../fuse/file-system.ts';
import { EEXIST, EINVAL, ENOENT, EPERM } from '../system/errno.ts';
import {
  AT_FDCWD,
  AT_SYMLINK_FOLLOW,
  AT_SYMLINK_NOFOLLOW,
  type CString,
  cString,
  linkat,
  statx,
} from '../system/libc.ts';
import { isWhiteoutDevice } from '../system/statx.ts';
import { answerEntry, orphanFd, statNode } from './attributes.ts';
import { ensureUpper, ensureUpperDirectory, markImpure } from './ensure-upper.ts';
import type { Node } from './inode-table.ts';
import { cStringOf, endedCopy, nameOf } from './names.ts';
import type { OverlayState } from './overlay-state.ts';

export function makeLink(
  o: OverlayState,
  node: Node,
  newParent: Node,
  newName: Uint8Array,
  out: EntryAnswer,
): number {
  if (node.directory !== undefined) return -EPERM;
  if (newParent.isOrphan) return -ENOENT;
  if (o.refusesName(newName)) return -EINVAL;
  let code = ensureUpper(o, node);
  if (code < 0) return code;
  const directory = ensureUpperDirectory(o, newParent);
  if (directory < 0) return directory;
  if (node.hasOrigin) markImpure(o, newParent);
  code = linkTo(o, node, directory, endedCopy(newName));
  if (code < 0) return code;
  const name = nameOf(newName);
  const stale = newParent.directory!.children.get(name);
  if (stale !== undefined && stale !== node) o.table.removeLink(stale, newParent, name);
  o.table.addLink(node, newParent, name, true);
  node.hasSiblings = true;
  node.isNameUnsynced = true;
  const { directory: into } = newParent;
  into!.version++;
  if (node.lowerKey !== undefined) into!.hasForeignNumbers = true;
  code = statNode(o, node, o.statx);
  if (code < 0) return code;
  o.table.setKey(node, o.numbers.key(o.statx));
  answerEntry(o, node, o.statx, out);
  return 0;
}

function linkTo(o: OverlayState, node: Node, directory: number, name: CString): number {
  const code = linkFrom(o, node, directory, name);
  if (code !== -EEXIST) return code;
  const there = statx(directory, name, AT_SYMLINK_NOFOLLOW, o.otherStatx);
  if (there < 0) return there;
  if (!isWhiteoutDevice(o.otherStatx)) return -EEXIST;
  const { work } = o.upper!;
  const temporary = work.newName();
  const linked = linkFrom(o, node, work.fd, temporary);
  if (linked < 0) return linked;
  const moved = work.moveOut(temporary, directory, name);
  if (moved < 0) work.remove(temporary);
  return moved;
}

function linkFrom(o: OverlayState, node: Node, directory: number, name: CString): number {
  if (node.isOrphan) {
    const fd = orphanFd(node);
    if (fd < 0) return fd;
    return linkat(AT_FDCWD, cString(`/proc/self/fd/${fd}`), directory, name, AT_SYMLINK_FOLLOW);
  }
  const parent = o.parentFd(node);
  return parent < 0 ? parent : linkat(parent, cStringOf(node.name), directory, name);
}
