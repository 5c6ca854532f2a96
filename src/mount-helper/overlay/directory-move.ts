/**
 * A directory with parts in lower layers is about to be moved, away from them.
 *
 * With privilege it gets the kernel's `redirect` attribute, the path of its lower parts from the root of the
 * overlay, and nothing is copied. Otherwise a copy of all that it shows is made in work (`tree-copy.ts`) and
 * takes its place (`tree-install.ts`): then the move is that of a directory that the upper has alone.
 */
import { DEFERRED } from '../fuse/file-system.ts';
import { setxattrAt } from '../system/xattr.ts';
import { ensureUpperDirectory } from './ensure-upper.ts';
import type { Node } from './inode-table.ts';
import type { OverlayState } from './overlay-state.ts';
import { copyTree } from './tree-copy.ts';
import { installTree } from './tree-install.ts';
import { abandonMove, abandonOldMoves } from './tree-moves.ts';

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

/**
 * The upper gets the directory with all that it shows, by a copy in work that is put in place as a whole:
 * nothing changes, not even in the upper, before it is complete.
 */
function bringTree(o: OverlayState, root: Node): number {
  const { request } = o.waiting;
  let move = [...o.treeMoves].find((known) => known.root === root && known.request === request);
  if (move === undefined) {
    abandonOldMoves(o);
    const above = ensureUpperDirectory(o, root.parent!);
    if (above < 0) return above;
    move = { root, request, levels: [], shared: new Map(), file: undefined, job: undefined };
    o.treeMoves.add(move);
  }
  const copy = copyTree(o, move);
  if (copy === DEFERRED) {
    o.waiting.waitFor(move.job!);
    return DEFERRED;
  }
  const code = typeof copy === 'number' ? copy : installTree(o, move, copy);
  if (code < 0 && typeof copy !== 'number') o.upper!.work.remove(copy);
  abandonMove(o, move);
  return code;
}
