/**
 * A complete copy of a directory (`tree-copy.ts`) takes its place in the upper, in one step that changes
 * nothing of what the merged tree shows; then the books of the nodes that are known below it.
 */
import { constants } from 'node:fs';
import { EINVAL } from '../system/errno.ts';
import {
  AT_SYMLINK_NOFOLLOW,
  type CString,
  close,
  dup,
  openat,
  RENAME_EXCHANGE,
  statx,
} from '../system/libc.ts';
import { S_IFREG } from '../system/statx.ts';
import { statNode } from './attributes.ts';
import { keepTimes } from './copy-up.ts';
import { becomeUpper, joinLinks, markImpure, useCopy } from './ensure-upper.ts';
import { findLink, type Node } from './inode-table.ts';
import { cStringOf, type Name } from './names.ts';
import type { OverlayState } from './overlay-state.ts';
import { Part } from './parts.ts';
import { releaseShared, type TreeMove } from './tree-moves.ts';

/** Descriptors for it. Directories beyond that get the numbers of their copies. */
const HELD_MAX = 256;
const { O_NOFOLLOW, O_NONBLOCK, O_RDONLY } = constants;

/** `copy`: the name in work. 0, or `-errno` with nothing changed. */
export function installTree(o: OverlayState, move: TreeMove, copy: CString): number {
  const { root } = move;
  const parent = root.parent!;
  const { work } = o.upper!;
  const directory = o.upperFd(parent);
  if (directory < 0) return directory;
  markImpure(o, parent);
  const name = cStringOf(root.name);
  holdNumbers(o, root, { left: HELD_MAX });
  const code = keepTimes(directory, () => {
    if (!root.inUpper) return work.moveOut(copy, directory, name);
    const exchanged = work.moveOut(copy, directory, name, RENAME_EXCHANGE);
    return exchanged === -EINVAL ? replace(o, copy, directory, name) : exchanged;
  });
  if (code < 0) return code;
  o.waiting.attributesChanged(parent.id);
  const links: Node[] = [];
  enterDirectory(o, move, parent, root, links);
  parent.directory!.version++;
  parent.directory!.hasForeignNumbers = true;
  // What was the upper's before, all of which the copy has.
  work.remove(copy);
  for (const node of links) joinLinks(o, node);
  releaseShared(o, move);
  return 0;
}

/**
 * A directory that has its number of its inode in the upper, and of nothing older, shows it as long as it is
 * known: that inode is held on to, or the number would be given to a new one.
 */
function holdNumbers(o: OverlayState, node: Node, room: { left: number }): void {
  if (node.inUpper && !node.hasOrigin && node.anchor < 0 && room.left > 0) {
    const fd = o.upperFd(node);
    if (fd >= 0) node.anchor = dup(fd);
    room.left--;
  }
  for (const child of node.directory!.children.values()) {
    if (child.directory !== undefined) holdNumbers(o, child, room);
  }
}

/** No exchange on this file system: for an instant what is below shows. */
function replace(o: OverlayState, copy: CString, directory: number, name: CString): number {
  const { work } = o.upper!;
  const old = work.moveIn(directory, name);
  if (typeof old === 'number') return old;
  const code = work.moveOut(copy, directory, name);
  if (code < 0) work.moveOut(old, directory, name);
  else work.remove(old);
  return code;
}

/** The upper has the directory now, and nothing else does. `links` gets files with names elsewhere. */
function enterDirectory(o: OverlayState, move: TreeMove, parent: Node, node: Node, links: Node[]): void {
  const directory = node.directory!;
  const above = parent.directory!.parts[0]!;
  for (const part of directory.parts) o.parts.close(part);
  directory.parts = [new Part(0, above, node.name, above.readsNames)];
  directory.isImpure = true;
  directory.hasForeignNumbers = true;
  directory.redirect = undefined;
  directory.newEntryMode = -1;
  directory.version++;
  const isOther = node.inUpper && !node.hasOrigin && node.anchor < 0;
  if (isOther && statNode(o, node, o.otherStatx) >= 0) node.ino = o.numbers.shown(o.otherStatx);
  node.hasOrigin ||= !node.inUpper;
  node.inUpper = true;
  node.isNameUnsynced = true;
  o.waiting.attributesChanged(node.id);
  for (const [name, child] of [...directory.children]) {
    if (child.directory !== undefined) enterDirectory(o, move, node, child, links);
    else enterFile(o, move, node, name, child);
    if (child.links !== undefined && !links.includes(child)) links.push(child);
    o.table.dropIfUnused(child);
  }
}

function enterFile(o: OverlayState, move: TreeMove, parent: Node, name: Name, node: Node): void {
  node.isNameUnsynced = true;
  if (node.inUpper) {
    const link = findLink(node, parent, name);
    if (link === undefined || link.inUpper) return;
    link.inUpper = true;
    node.extraLinks--;
    return;
  }
  const { nlink } = move.shared.get(node) ?? { nlink: 1 };
  o.table.makeFirst(node, parent, name);
  const directory = o.upperFd(parent);
  const cName = cStringOf(name);
  // It was put there a moment ago: where even that cannot be asked for, its key stays that of the lower file.
  if (statx(directory, cName, AT_SYMLINK_NOFOLLOW, o.otherStatx) < 0) return;
  becomeUpper(o, node, nlink, nlink === 1);
  if (node.type !== S_IFREG || node.handles === undefined) return;
  const fd = openat(directory, cName, O_RDONLY | O_NOFOLLOW | O_NONBLOCK);
  if (fd < 0) return;
  useCopy(node, fd);
  close(fd);
}
