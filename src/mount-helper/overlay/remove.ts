/**
 * Removing names. Where a layer below has the name too, a whiteout takes its place in one step; a
 * directory goes to work as a whole, with the whiteouts that may be all it holds, and is taken apart there.
 */

import { constants } from 'node:fs';
import { DEFERRED } from '../fuse/file-system.ts';
import { EEXIST, EINVAL, EISDIR, ENOENT, ENOTDIR, ENOTEMPTY, EPERM, EROFS } from '../system/errno.ts';
import { AT_REMOVEDIR, type CString, openat, RENAME_EXCHANGE, unlinkat } from '../system/libc.ts';
import { isProtected, S_IFREG } from '../system/statx.ts';
import { statNode } from './attributes.ts';
import { O_PATH } from './disk-layer.ts';
import { ensureUpperDirectory, joinLinks, waitForCopies } from './ensure-upper.ts';
import { findLink, type Node } from './inode-table.ts';
import { findNode, isBelow } from './lookup.ts';
import { cStringOf, type Name } from './names.ts';
import type { OverlayState } from './overlay-state.ts';
import { makeListing } from './readdir.ts';
import { waitForMoveAbove } from './tree-moves.ts';
import { newWhiteout, putWhiteout, putWhiteoutName } from './whiteout.ts';

const { O_NOFOLLOW, O_NONBLOCK, O_RDONLY } = constants;

/** UNLINK. */
export function removeFile(o: OverlayState, parent: Node, name: Name): number {
  if (o.upper === undefined) return -EROFS;
  if (parent.isOrphan) return -ENOENT;
  if (o.treeMoves.size > 0 && waitForMoveAbove(o, parent)) return DEFERRED;
  const node = parent.directory!.children.get(name) ?? findNode(o, parent, name, o.statx);
  if (typeof node === 'number') return node;
  if (node.directory !== undefined) return -EISDIR;
  if (waitForCopies(o, node)) return DEFERRED;
  const allowed = checkProtection(o, node);
  if (allowed < 0) return allowed;
  if (node.links !== undefined) joinLinks(o, node);
  const below = isBelow(o, parent, name);
  if (typeof below === 'number') return below;
  const directory = below ? ensureUpperDirectory(o, parent) : o.upperFd(parent);
  if (directory < 0) return directory;
  const cName = cStringOf(name);
  keepInode(o, node, parent, name, directory, cName);
  const code = below ? hideFile(o, directory, cName) : unlinkat(directory, cName);
  if (code < 0) return code;
  loseName(o, node, parent, name);
  parent.directory!.version++;
  return 0;
}

/** EPERM for what a lower layer protects. In the upper the system itself refuses. */
export function checkProtection(o: OverlayState, node: Node): number {
  if (node.inUpper) return 0;
  const code = statNode(o, node, o.statx);
  if (code < 0) return code;
  return isProtected(o.statx) ? -EPERM : 0;
}

/** Puts a whiteout where a file is, or where the upper has nothing. */
function hideFile(o: OverlayState, directory: number, name: CString): number {
  const put = putWhiteout(o, directory, name);
  if (put !== -EEXIST && !o.writesNames) return put;
  if (o.writesNames) {
    if (put < 0) return put;
    const removed = unlinkat(directory, name);
    return removed === -ENOENT ? 0 : removed;
  }
  const made = newWhiteout(o);
  if (made === undefined) return hideFile(o, directory, name);
  if (typeof made === 'number') return made;
  const { work } = o.upper!;
  const moved = work.moveOut(made, directory, name);
  if (moved < 0) work.remove(made);
  return moved;
}

/** This name of the node has an entry in the upper. */
export function isUpperName(node: Node, parent: Node, name: Name): boolean {
  if (!node.inUpper) return false;
  if (node.parent === parent && node.name === name) return true;
  return findLink(node, parent, name)?.inUpper === true;
}

/**
 * The name is about to go. If it is the last way to a file of the upper that the kernel still knows, its
 * inode is held on to.
 */
export function keepInode(
  o: OverlayState,
  node: Node,
  parent: Node,
  name: Name,
  directory: number,
  cName: CString,
): void {
  if (node.directory !== undefined) {
    if (node.inUpper) o.parts.pin(node.directory.parts[0]!);
    return;
  }
  if (!node.inUpper || node.lookups === 0 || node.anchor >= 0) return;
  if (node.parent !== parent || node.name !== name) return;
  if (node.links?.some((link) => link.inUpper)) return;
  if (node.handles?.some((handle) => handle.file === undefined)) return;
  // A readable descriptor can do more than one that is O_PATH; opening devices and pipes could do too much.
  if (node.type === S_IFREG) node.anchor = openat(directory, cName, O_RDONLY | O_NOFOLLOW | O_NONBLOCK);
  if (node.anchor < 0) node.anchor = openat(directory, cName, O_PATH | O_NOFOLLOW);
}

/** The books, after a name of the node has gone. */
export function loseName(o: OverlayState, node: Node, parent: Node, name: Name): void {
  if (node.directory === undefined && !isUpperName(node, parent, name)) node.extraLinks--;
  o.table.removeLink(node, parent, name);
  o.table.dropIfUnused(node);
}

/** RMDIR. */
export function removeDirectory(o: OverlayState, parent: Node, name: Name): number {
  if (o.upper === undefined) return -EROFS;
  if (parent.isOrphan) return -ENOENT;
  if (o.treeMoves.size > 0 && waitForMoveAbove(o, parent)) return DEFERRED;
  const node = findNode(o, parent, name, o.statx);
  if (typeof node === 'number') return node;
  if (node.directory === undefined) return -ENOTDIR;
  if (waitForCopies(o, node)) return DEFERRED;
  const below = isBelow(o, parent, name);
  if (typeof below === 'number') return below;
  const cName = cStringOf(name);
  const code = below ? hideDirectory(o, node, parent, cName) : dropDirectory(o, node, parent, cName);
  if (code < 0) {
    if (node.directory.parts[0]!.isPinned) unpin(o, node);
    o.table.dropIfUnused(node);
    return code;
  }
  loseName(o, node, parent, name);
  parent.directory!.version++;
  return 0;
}

function unpin(o: OverlayState, node: Node): void {
  const part = node.directory!.parts[0]!;
  o.parts.close(part);
  part.isPinned = false;
}

/** Only the upper has it. */
function dropDirectory(o: OverlayState, node: Node, parent: Node, cName: CString): number {
  const directory = o.upperFd(parent);
  if (directory < 0) return directory;
  // Moved here, it shows what the layers have where it came from.
  const shown = node.directory!.parts.length > 1 ? checkEmpty(o, node) : 0;
  if (shown < 0) return shown;
  keepInode(o, node, parent, node.name, directory, cName);
  const code = unlinkat(directory, cName, AT_REMOVEDIR);
  if (code !== -ENOTEMPTY && code !== -EEXIST) return code;
  const empty = checkEmpty(o, node);
  return empty < 0 ? empty : moveAway(o, directory, cName);
}

/** Layers below have it too. */
function hideDirectory(o: OverlayState, node: Node, parent: Node, cName: CString): number {
  const empty = checkEmpty(o, node);
  if (empty < 0) return empty;
  const directory = ensureUpperDirectory(o, parent);
  if (directory < 0) return directory;
  if (!node.inUpper) {
    const allowed = checkProtection(o, node);
    return allowed < 0 ? allowed : putWhiteout(o, directory, cName);
  }
  keepInode(o, node, parent, node.name, directory, cName);
  const made = newWhiteout(o);
  if (typeof made === 'number') return made;
  if (made === undefined) {
    const put = putWhiteoutName(directory, cName);
    return put < 0 ? put : moveAway(o, directory, cName);
  }
  const { work } = o.upper!;
  let code = work.moveOut(made, directory, cName, RENAME_EXCHANGE);
  if (code === -EINVAL) {
    // No exchange on this file system: for an instant the lower directory shows.
    code = moveAway(o, directory, cName);
    if (code >= 0) code = work.moveOut(made, directory, cName);
  }
  work.remove(made);
  return code;
}

/** ENOTEMPTY if the directory has anything that shows. */
export function checkEmpty(o: OverlayState, node: Node): number {
  const listing = makeListing(o, node);
  if (typeof listing === 'number') return listing;
  return listing.names.length > 0 ? -ENOTEMPTY : 0;
}

function moveAway(o: OverlayState, directory: number, cName: CString): number {
  const { work } = o.upper!;
  const moved = work.moveIn(directory, cName);
  if (typeof moved === 'number') return moved;
  work.remove(moved);
  return 0;
}
