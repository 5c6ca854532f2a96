/**
 * What stat(2) shows of a node, and changing it.
 *
 * Attributes are always asked of the layer: the kernel caches them. Shown are the number that the node has
 * had from the beginning, owners as the options map them, and for a directory that several layers have a
 * link count of 1, which tools read as "unknown".
 */

import { constants } from 'node:fs';
import type { Attributes, AttributesAnswer, EntryAnswer } from '../fuse/file-system.ts';
import { ESTALE } from '../system/errno.ts';
import { AT_SYMLINK_NOFOLLOW, cString, fgetxattr, openat, readlinkat, statx } from '../system/libc.ts';
import { copyAttributes, patchOwner, S_IFDIR, S_IFREG, type Statx } from '../system/statx.ts';
import { getxattrAt } from '../system/xattr.ts';
import type { Node } from './inode-table.ts';
import { cStringIn, cStringOf, nameRoom } from './names.ts';
import { AT_EMPTY_PATH, EMPTY, type OverlayState } from './overlay-state.ts';
import { decodeOverrideStat } from './override-stat.ts';

const { O_NONBLOCK } = constants;
const override = Buffer.alloc(64);
const room = nameRoom();

/** Fills `s` as the layer has it; with `override_stat`, owner and mode are those on record. 0 or `-errno`. */
export function statNode(o: OverlayState, node: Node, s: Statx): number {
  const code = statBacking(o, node, s);
  if (code >= 0 && o.attributeNames.override !== undefined) applyOverride(o, node, s);
  return code;
}

function statBacking(o: OverlayState, node: Node, s: Statx): number {
  if (node.directory !== undefined) {
    const part = node.directory.parts[0]!;
    if (part.directory !== undefined || part.parent === undefined) {
      const directory = o.parts.open(part);
      return typeof directory === 'number' ? directory : directory.stat(s);
    }
    const above = o.parts.open(part.parent);
    return typeof above === 'number' ? above : above.statAt(cStringIn(room, part.name), s);
  }
  if (node.lower !== undefined) {
    const directory = o.parts.open(node.lower.part);
    return typeof directory === 'number' ? directory : directory.statAt(cStringIn(room, node.lower.name), s);
  }
  if (node.isOrphan) {
    const fd = orphanFd(node);
    return fd < 0 ? fd : statx(fd, EMPTY, AT_EMPTY_PATH, s);
  }
  const parent = o.parentFd(node);
  return parent < 0 ? parent : statx(parent, cStringIn(room, node.name), AT_SYMLINK_NOFOLLOW, s);
}

/** A descriptor of an upper file that has no name; ESTALE when there is none. */
export function orphanFd(node: Node): number {
  if (node.handles !== undefined) {
    for (const handle of node.handles) if (handle.file === undefined && handle.fd >= 0) return handle.fd;
  }
  return node.anchor >= 0 ? node.anchor : -ESTALE;
}

function applyOverride(o: OverlayState, node: Node, s: Statx): void {
  if (node.type !== S_IFREG && node.type !== S_IFDIR) return;
  const length = readOverride(o, node, override);
  if (length <= 0) return;
  const stat = decodeOverrideStat(override.subarray(0, length));
  if (stat !== undefined) patchOwner(s, stat.uid, stat.gid, stat.mode);
}

function readOverride(o: OverlayState, node: Node, out: Uint8Array): number {
  const attribute = o.attributeNames.override!;
  if (node.directory !== undefined) {
    const directory = o.parts.open(node.directory.parts[0]!);
    return typeof directory === 'number' ? directory : directory.getxattr(undefined, attribute, out);
  }
  if (node.lower !== undefined) {
    const directory = o.parts.open(node.lower.part);
    if (typeof directory === 'number') return directory;
    return directory.getxattr(cStringOf(node.lower.name), attribute, out);
  }
  if (node.isOrphan) {
    const fd = orphanFd(node);
    return fd < 0 ? fd : fgetxattr(fd, attribute, out);
  }
  const parent = o.parentFd(node);
  return parent < 0 ? parent : getxattrAt(parent, cStringOf(node.name), attribute, out);
}

/** `s` is the node's, as `statNode` gives it. */
export function fillAttributes(o: OverlayState, node: Node, s: Statx, out: Attributes): void {
  copyAttributes(s, out);
  out.ino = node.ino;
  if (node.directory !== undefined) {
    if (node.isOrphan) out.nlink = 0;
    else if (node.directory.parts.length > 1) out.nlink = 1;
  } else if (node.extraLinks !== 0) out.nlink = Math.max(0, out.nlink + node.extraLinks);
  if (!o.ids.arePlain) {
    out.uid = o.ids.shownUid(out.uid);
    out.gid = o.ids.shownGid(out.gid);
  }
}

/** Fills the whole answer for a name of the node, and counts the lookup. */
export function answerEntry(o: OverlayState, node: Node, s: Statx, out: EntryAnswer): void {
  node.lookups++;
  out.node = node.id;
  out.generation = 0;
  o.setTimeouts(out);
  fillAttributes(o, node, s, out.attributes);
}

export function getattr(o: OverlayState, node: Node, out: AttributesAnswer): number {
  const code = statNode(o, node, o.statx);
  if (code < 0) return code;
  out.timeoutMs = o.timeoutMs;
  fillAttributes(o, node, o.statx, out.attributes);
  return 0;
}

/** Length of a symbolic link's target, which is written to `out`. */
export function readSymlink(o: OverlayState, node: Node, out: Uint8Array): number {
  if (node.isOrphan && node.lower === undefined) {
    const fd = orphanFd(node);
    return fd < 0 ? fd : readlinkat(fd, EMPTY, out);
  }
  const part = node.lower?.part ?? node.parent!.directory!.parts[0]!;
  const directory = o.parts.open(part);
  if (typeof directory === 'number') return directory;
  return directory.readlinkAt(cStringOf(node.lower?.name ?? node.name), out);
}

/** Opens what a descriptor (also an O_PATH one) stands for again. */
export function reopen(fd: number, flags: number): number {
  return openat(-100, cString(`/proc/self/fd/${fd}`), flags | O_NONBLOCK);
}
