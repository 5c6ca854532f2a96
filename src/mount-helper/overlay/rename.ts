/**
 * RENAME: files and directories, whichever layers they come from.
 *
 * What is moved is brought into the upper first. Where a layer below has the old name, the rename itself
 * leaves the whiteout (RENAME_WHITEOUT), so that there is no moment with both names or with none. A moved
 * directory must not merge with what lower layers have at the new place: it keeps its own lower parts by a
 * redirect, or has all of them copied up before (`directory-move.ts`), or is marked opaque.
 */
import { DEFERRED } from '../fuse/file-system.ts';
import { EEXIST, EINVAL, ENOENT, ENOTDIR, ENOTEMPTY, EPERM, EROFS } from '../system/errno.ts';
import {
  AT_SYMLINK_NOFOLLOW,
  type CString,
  RENAME_EXCHANGE,
  RENAME_NOREPLACE,
  RENAME_WHITEOUT,
  renameat2,
  statx,
  unlinkat,
} from '../system/libc.ts';
import { isWhiteoutDevice, newStatx } from '../system/statx.ts';
import { statNode } from './attributes.ts';
import type { Copied } from './copy-up.ts';
import { detachFromLower } from './directory-move.ts';
import { ensureUpper, ensureUpperDirectory, joinLinks, markImpure, waitForCopies } from './ensure-upper.ts';
import type { Node } from './inode-table.ts';
import { findNode, isBelow } from './lookup.ts';
import { bytesOf, cStringOf, type Name } from './names.ts';
import { EMPTY, type OverlayState } from './overlay-state.ts';
import { checkEmpty, checkProtection, isUpperName, keepInode, loseName } from './remove.ts';
import { waitForMoveAbove } from './tree-moves.ts';
import { newWhiteout, putWhiteout, putWhiteoutName, setOpaque, setOpaqueEmpty } from './whiteout.ts';

/** One end of the rename. */
interface End {
  readonly parent: Node;
  readonly name: Name;
  readonly cName: CString;
  /** What has the name, if anything has. */
  node: Node | undefined;
  /** A layer below the upper has the name. */
  isBelow: boolean;
  /** Of the parent, in the upper. */
  directory: number;
}

export function renameNode(
  o: OverlayState,
  parent: Node,
  name: Name,
  newParent: Node,
  newName: Name,
  flags: number,
): number {
  if ((flags & ~(RENAME_NOREPLACE | RENAME_EXCHANGE)) !== 0) return -EINVAL;
  if (flags === (RENAME_NOREPLACE | RENAME_EXCHANGE)) return -EINVAL;
  if (o.upper === undefined) return -EROFS;
  if (o.refusesName(bytesOf(newName))) return -EINVAL;
  const from = openEnd(o, parent, name);
  if (typeof from === 'number') return from;
  const to = openEnd(o, newParent, newName);
  if (typeof to === 'number') return to;
  const code = renameEnds(o, from, to, flags);
  if (from.node !== undefined) o.table.dropIfUnused(from.node);
  if (to.node !== undefined) o.table.dropIfUnused(to.node);
  return code;
}

function openEnd(o: OverlayState, parent: Node, name: Name): End | number {
  const node = findNode(o, parent, name, o.statx);
  if (typeof node === 'number' && (node !== -ENOENT || parent.isOrphan)) return node;
  return {
    parent,
    name,
    cName: cStringOf(name),
    node: typeof node === 'number' ? undefined : node,
    isBelow: false,
    directory: -1,
  };
}

function renameEnds(o: OverlayState, from: End, to: End, flags: number): number {
  const { node } = from;
  const target = to.node;
  const exchanges = (flags & RENAME_EXCHANGE) !== 0;
  if (node === undefined) return -ENOENT;
  if (o.treeMoves.size > 0 && (waitForMoveAbove(o, from.parent) || waitForMoveAbove(o, to.parent))) {
    return DEFERRED;
  }
  if (exchanges && target === undefined) return -ENOENT;
  if ((flags & RENAME_NOREPLACE) !== 0 && target !== undefined) return -EEXIST;
  // Two names of one file: as rename(2) has it, both stay.
  if (node === target) return 0;
  if (waitForCopies(o, node) || (target !== undefined && waitForCopies(o, target))) return DEFERRED;
  if (target?.directory !== undefined && !exchanges) {
    if (node.directory === undefined) return -EINVAL;
    const empty = checkEmpty(o, target);
    if (empty < 0) return empty;
  }
  const replaced = target === undefined ? 0 : checkProtection(o, target);
  if (replaced < 0) return replaced;
  let code = findBelow(o, from);
  if (code >= 0) code = findBelow(o, to);
  if (code >= 0) code = bringNode(o, from, to);
  if (code >= 0 && exchanges) code = bringNode(o, to, from);
  if (code >= 0) code = openDirectories(o, from, to);
  if (code < 0) return code;
  if (!exchanges) return move(o, from, to, node);
  return exchange(o, from, to, node, target!);
}

function findBelow(o: OverlayState, end: End): number {
  const below = isBelow(o, end.parent, end.name);
  if (typeof below === 'number') return below;
  end.isBelow = below;
  return 0;
}

/** What is moved from one end to the other comes into the upper, ready for its new place. */
function bringNode(o: OverlayState, from: End, to: End): number {
  const node = from.node!;
  if (node.directory !== undefined) return bringDirectory(o, node, to);
  const code = ensureUpper(o, node);
  if (code < 0) return code;
  if (!isUpperName(node, from.parent, from.name)) joinLinks(o, node);
  return 0;
}

function bringDirectory(o: OverlayState, node: Node, to: End): number {
  const hasLower = node.directory!.parts.length > (node.inUpper ? 1 : 0);
  if (hasLower) return detachFromLower(o, node);
  if (!to.isBelow) return 0;
  const fd = o.upperFd(node);
  return fd < 0 ? fd : setOpaque(o, fd, undefined);
}

function openDirectories(o: OverlayState, from: End, to: End): number {
  const opened = ensureUpperDirectory(o, to.parent);
  if (opened < 0) return opened;
  if (from.node!.hasOrigin) markImpure(o, to.parent);
  if (to.node?.hasOrigin === true) markImpure(o, from.parent);
  from.directory = ensureUpperDirectory(o, from.parent);
  to.directory = o.upperFd(to.parent);
  return Math.min(from.directory, to.directory, 0);
}

function move(o: OverlayState, from: End, to: End, node: Node): number {
  const target = to.node;
  if (target !== undefined) {
    if (target.links !== undefined) joinLinks(o, target);
    keepInode(o, target, to.parent, to.name, to.directory, to.cName);
  }
  const code = moveEntry(o, from, to, node);
  if (code < 0) {
    if (target?.directory?.parts[0]?.isPinned === true) {
      o.parts.close(target.directory.parts[0]);
      target.directory.parts[0].isPinned = false;
    }
    return code;
  }
  if (target !== undefined) loseName(o, target, to.parent, to.name);
  o.table.move(node, from.parent, from.name, to.parent, to.name);
  arrive(node, to);
  from.parent.directory!.version++;
  to.parent.directory!.version++;
  return 0;
}

/** The books of a node that is at another place now. */
function arrive(node: Node, to: End): void {
  node.isNameUnsynced = true;
  const isForeign = node.lowerKey !== undefined || (node.directory !== undefined && node.anchor >= 0);
  if (isForeign) to.parent.directory!.hasForeignNumbers = true;
  const part = node.directory?.parts[0];
  if (part === undefined) return;
  part.parent = to.parent.directory!.parts[0]!;
  part.name = to.name;
}

function moveEntry(o: OverlayState, from: End, to: End, node: Node): number {
  if (from.isBelow && o.writesNames) {
    const put = putWhiteoutName(from.directory, from.cName);
    if (put < 0) return put;
  }
  const leavesWhiteout = from.isBelow && !o.writesNames;
  const flags = leavesWhiteout ? RENAME_WHITEOUT : 0;
  for (let attempt = 0; ; attempt++) {
    const code = renameat2(from.directory, from.cName, to.directory, to.cName, flags);
    if (code >= 0) return 0;
    if (attempt === 0 && (code === -ENOTEMPTY || code === -EEXIST) && to.node?.directory !== undefined) {
      // The target is empty to the eye; in the upper it has whiteouts.
      const emptied = emptyTarget(o, to, to.node);
      if (emptied < 0) return emptied;
    } else if (code === -ENOTDIR && node.directory !== undefined && to.node === undefined) {
      return moveOverWhiteout(from, to, leavesWhiteout);
    } else if (leavesWhiteout && (code === -EINVAL || code === -EPERM)) {
      return moveWithoutFlag(o, from, to);
    } else return code;
  }
}

/** A directory does not replace a whiteout, but it can change places with it. */
function moveOverWhiteout(from: End, to: End, leavesWhiteout: boolean): number {
  const code = renameat2(from.directory, from.cName, to.directory, to.cName, RENAME_EXCHANGE);
  if (code < 0 || leavesWhiteout) return code;
  unlinkat(from.directory, from.cName);
  return 0;
}

/** Replaces the target by an empty directory that is opaque and otherwise the same. */
function emptyTarget(o: OverlayState, to: End, target: Node): number {
  const { work } = o.upper!;
  const s = newStatx();
  const copied: Copied = { name: EMPTY, fd: -1, job: undefined };
  let code = statNode(o, target, s);
  if (code < 0) return code;
  const above = o.parts.open(to.parent.directory!.parts[0]!);
  if (typeof above === 'number') return above;
  code = o.copyUp!.directory(above, to.cName, s, undefined, copied);
  if (code < 0) return code;
  code = setOpaqueEmpty(o, work.fd, copied.name, { directory: to.directory, name: to.cName });
  if (code >= 0) code = work.moveOut(copied.name, to.directory, to.cName, RENAME_EXCHANGE);
  work.remove(copied.name);
  return code;
}

/** The file system has no RENAME_WHITEOUT: a whiteout at the new place, then both change places. */
function moveWithoutFlag(o: OverlayState, from: End, to: End): number {
  const there = statx(to.directory, to.cName, AT_SYMLINK_NOFOLLOW, o.otherStatx);
  let isReplaced = there >= 0 && !isWhiteoutDevice(o.otherStatx);
  if (there < 0) {
    const put = putWhiteout(o, to.directory, to.cName);
    if (put < 0) return put;
    if (o.writesNames) {
      // Just found out: the old name hides what is below by a name of its own.
      const hidden = putWhiteoutName(from.directory, from.cName);
      return hidden < 0 ? hidden : renameat2(from.directory, from.cName, to.directory, to.cName);
    }
    isReplaced = false;
  }
  const code = renameat2(from.directory, from.cName, to.directory, to.cName, RENAME_EXCHANGE);
  if (code < 0 || !isReplaced) return code;
  const made = newWhiteout(o);
  if (typeof made === 'number') return made;
  if (made === undefined) {
    const hidden = putWhiteoutName(from.directory, from.cName);
    if (hidden < 0) return hidden;
  }
  const { work } = o.upper!;
  const old = work.moveIn(from.directory, from.cName);
  if (typeof old !== 'number') work.remove(old);
  return made === undefined ? 0 : work.moveOut(made, from.directory, from.cName);
}

function exchange(o: OverlayState, from: End, to: End, node: Node, target: Node): number {
  const code = renameat2(from.directory, from.cName, to.directory, to.cName, RENAME_EXCHANGE);
  if (code < 0) return code;
  // Neither name may be taken when the other node gets it.
  const { children } = to.parent.directory!;
  o.table.move(node, from.parent, from.name, to.parent, to.name);
  o.table.move(target, to.parent, to.name, from.parent, from.name);
  children.set(to.name, node);
  arrive(node, to);
  arrive(target, from);
  from.parent.directory!.version++;
  to.parent.directory!.version++;
  return 0;
}
