/**
 * A directory with parts in lower layers is about to be moved, away from them.
 *
 * With privilege it gets the kernel's `redirect` attribute, the path of its lower parts from the root of the
 * overlay, and nothing is copied. Otherwise all that it shows is copied up first, where it is: each step
 * leaves the merged tree as it was, and a move that fails half-way leaves nothing but copies. Then its
 * directories are made opaque, and the move is that of a directory that the upper has alone.
 */
import { DEFERRED } from '../fuse/file-system.ts';
import { ENOENT } from '../system/errno.ts';
import { setxattrAt } from '../system/xattr.ts';
import { ensureUpper, ensureUpperDirectory } from './ensure-upper.ts';
import type { Node } from './inode-table.ts';
import { findNode } from './lookup.ts';
import type { Name } from './names.ts';
import type { OverlayState } from './overlay-state.ts';
import { type Listing, makeListing } from './readdir.ts';
import { setOpaque } from './whiteout.ts';

/** As the kernel's own limit where it writes them. */
const REDIRECT_MAX = 4096;

/** 0, `-errno`, or DEFERRED while something is being copied. */
export function detachFromLower(o: OverlayState, node: Node): number {
  if (o.upper!.canRedirect) {
    const fd = ensureUpperDirectory(o, node);
    if (fd < 0) return fd;
    if (setRedirect(o, node, fd) >= 0) return 0;
  }
  return bringTree(o, node);
}

function setRedirect(o: OverlayState, node: Node, fd: number): number {
  const known = node.directory!.redirect;
  if (known?.startsWith('/')) return 0;
  const path = lowerPath(node);
  if (path.length > REDIRECT_MAX) return -1;
  if (!o.isRedirectMarked) {
    const marked = o.upper!.mark('redirectsUsed');
    if (marked < 0) return marked;
    o.isRedirectMarked = true;
  }
  const code = setxattrAt(fd, undefined, o.attributeNames.redirect, Buffer.from(path, 'latin1'));
  if (code >= 0) node.directory!.redirect = path;
  return code;
}

/** Where the lower parts are: by the names that the directory and those above it had before they were moved. */
function lowerPath(node: Node): string {
  let path = '';
  for (let at = node; at.parent !== undefined; at = at.parent) {
    const redirect = at.inUpper ? at.directory!.redirect : undefined;
    path = `${redirect?.startsWith('/') ? redirect : `/${redirect ?? at.name}`}${path}`;
    if (redirect?.startsWith('/')) break;
  }
  return path;
}

/** How far the copying of a tree has come. */
export interface TreeMove {
  readonly root: Node;
  readonly levels: { readonly node: Node; readonly listing: Listing; at: number }[];
}

/** Moves of interrupted requests that may be kept. */
const MOVES_MAX = 16;

function bringTree(o: OverlayState, root: Node): number {
  const { request } = o.waiting;
  let move = o.treeMoves.get(request);
  if (move?.root !== root) {
    move = { root, levels: [] };
    const code = enter(o, move, root);
    if (code < 0) return code;
    for (const old of o.treeMoves.keys()) if (o.treeMoves.size >= MOVES_MAX) o.treeMoves.delete(old);
    o.treeMoves.set(request, move);
  }
  const code = proceed(o, move);
  if (code !== DEFERRED) o.treeMoves.delete(request);
  return code;
}

function enter(o: OverlayState, move: TreeMove, node: Node): number {
  const fd = ensureUpperDirectory(o, node);
  if (fd < 0) return fd;
  const listing = makeListing(o, node);
  if (typeof listing === 'number') return listing;
  move.levels.push({ node, listing, at: 0 });
  return 0;
}

function proceed(o: OverlayState, move: TreeMove): number {
  for (let level = move.levels.at(-1); level !== undefined; level = move.levels.at(-1)) {
    const name = level.listing.names[level.at];
    if (name === undefined) {
      const code = closeOff(o, level.node);
      if (code < 0) return code;
      move.levels.pop();
      continue;
    }
    const code = bringEntry(o, move, level.node, name);
    if (code < 0) return code;
    level.at++;
  }
  return 0;
}

function bringEntry(o: OverlayState, move: TreeMove, parent: Node, name: Name): number {
  const child = findNode(o, parent, name, o.statx);
  // Removed while we were waiting.
  if (child === -ENOENT) return 0;
  if (typeof child === 'number') return child;
  if (child.directory === undefined) {
    const code = ensureUpper(o, child);
    if (code >= 0) o.table.dropIfUnused(child);
    return code;
  }
  const isMerged = !child.inUpper || child.directory.parts.length > 1;
  return isMerged ? enter(o, move, child) : 0;
}

/** All that the directory shows is in the upper: the layers below are done with. */
function closeOff(o: OverlayState, node: Node): number {
  const fd = o.upperFd(node);
  if (fd < 0) return fd;
  const code = setOpaque(o, fd, undefined);
  if (code < 0) return code;
  const directory = node.directory!;
  for (const part of directory.parts.splice(1)) o.parts.close(part);
  directory.version++;
  return 0;
}
