/**
 * A copy of a whole directory in work, as the merged tree shows it: directories are made anew, files that the
 * upper has get one more name, those of lower layers are copied. Nothing of it shows before it is put in
 * place (`tree-install.ts`); whatever ends the copying leaves upper and lower layers as they were.
 *
 * Each directory is complete before it goes into the one above, so that depth costs nothing.
 */
import { constants } from 'node:fs';
import { DEFERRED, type Job } from '../fuse/file-system.ts';
import { EMLINK, ENOENT, EPERM, EXDEV } from '../system/errno.ts';
import { type CString, close, fchmodat, linkat, openat, renameat2 } from '../system/libc.ts';
import { newStatx, type Statx, statxMode, statxNlink } from '../system/statx.ts';
import { setxattrAt } from '../system/xattr.ts';
import { statNode } from './attributes.ts';
import { copyTimes } from './copy-metadata.ts';
import type { Copied } from './copy-up.ts';
import { O_PATH } from './disk-layer.ts';
import { copyOut, ensureUpper, noCopy } from './ensure-upper.ts';
import { ORIGIN_MAX } from './inode-numbers.ts';
import type { Node } from './inode-table.ts';
import { findNode } from './lookup.ts';
import { cStringOf, type Name } from './names.ts';
import type { OverlayState } from './overlay-state.ts';
import { makeListing } from './readdir.ts';
import { isUpperName } from './remove.ts';
import type { CopiedLevel, TreeMove } from './tree-moves.ts';
import { setOpaque } from './whiteout.ts';

const { O_DIRECTORY, O_NOFOLLOW } = constants;
const OWNER_BITS = 0o700;
const MODE_BITS = 0o7777;
const YES = Buffer.from('y');

/** Goes on with the copy. Its name in work when it is complete, `-errno`, or DEFERRED. */
export function copyTree(o: OverlayState, move: TreeMove): CString | number {
  if (move.levels.length === 0) {
    const code = enter(o, move, move.root);
    if (code < 0) return code;
  }
  for (;;) {
    const level = move.levels.at(-1)!;
    const name = level.listing.names[level.at];
    if (name === undefined) {
      const code = leave(o, move, level);
      if (code < 0) return code;
      if (move.levels.length === 0) return level.name;
      continue;
    }
    const code = copyEntry(o, move, level, name);
    if (code < 0) return code;
  }
}

function enter(o: OverlayState, move: TreeMove, node: Node): number {
  const stat = newStatx();
  let code = statNode(o, node, stat);
  if (code < 0) return code;
  const part = node.directory!.parts[0]!;
  const above = o.parts.open(part.parent!);
  if (typeof above === 'number') return above;
  const copied = noCopy();
  const origin = node.inUpper ? recordedOrigin(o, node) : o.numbers.origin(stat);
  code = o.copyUp!.directory(above, cStringOf(part.name), stat, origin, copied);
  if (code < 0) return code;
  if (isClosed(o, stat)) fchmodat(o.upper!.work.fd, copied.name, (statxMode(stat) & MODE_BITS) | OWNER_BITS);
  const listing = makeListing(o, node);
  if (typeof listing === 'number') {
    o.upper!.work.remove(copied.name);
    return listing;
  }
  // While it is being copied the node is not to be dropped.
  node.lookups++;
  move.levels.push({ node, stat, name: copied.name, listing, at: 0, fd: -1 });
  return 0;
}

/** What a directory of the upper says that its number was. */
function recordedOrigin(o: OverlayState, node: Node): Uint8Array | undefined {
  const directory = o.parts.open(node.directory!.parts[0]!);
  if (typeof directory === 'number') return undefined;
  const value = Buffer.alloc(ORIGIN_MAX);
  const length = directory.getxattr(undefined, o.attributeNames.origin, value);
  return length > 0 ? value.subarray(0, length) : undefined;
}

/** Even its owner may not write to it: the copy gets its mode when it is complete. */
function isClosed(o: OverlayState, stat: Statx): boolean {
  return o.attributeNames.override === undefined && (statxMode(stat) & OWNER_BITS) !== OWNER_BITS;
}

/** The directory has all its entries: it gets its marks, mode and times, and goes into the one above. */
function leave(o: OverlayState, move: TreeMove, { node, stat, name, fd }: CopiedLevel): number {
  const { work } = o.upper!;
  const above = move.levels.at(-2);
  setxattrAt(work.fd, name, o.attributeNames.impure, YES);
  // Of what the layers below have at its place, and at the new one, nothing may show.
  let code = above === undefined ? setOpaque(o, work.fd, name) : 0;
  if (code >= 0 && isClosed(o, stat)) code = fchmodat(work.fd, name, statxMode(stat) & MODE_BITS);
  if (code >= 0) code = copyTimes(stat, { directory: work.fd, name, fd: -1 });
  if (code >= 0 && above !== undefined) {
    const directory = openLevel(o, above);
    code = directory < 0 ? directory : work.moveOut(name, directory, cStringOf(node.name));
  }
  if (code < 0) return code;
  if (fd >= 0) close(fd);
  move.levels.pop();
  if (above === undefined) {
    // Whoever moves it needs the node a moment longer.
    node.lookups--;
  } else {
    o.table.forget(node.id, 1);
    above.at++;
  }
  return 0;
}

function openLevel(o: OverlayState, level: CopiedLevel): number {
  if (level.fd < 0) {
    level.fd = openat(o.upper!.work.fd, level.name, O_PATH | O_DIRECTORY | O_NOFOLLOW);
  }
  return level.fd;
}

function closeLevel(level: CopiedLevel): void {
  if (level.fd >= 0) close(level.fd);
  level.fd = -1;
}

/** Afterwards the level is at the next entry, or there is a level more. */
function copyEntry(o: OverlayState, move: TreeMove, level: CopiedLevel, name: Name): number {
  const node = findNode(o, level.node, name, o.statx);
  if (node === -ENOENT) {
    // A layer was changed behind our back.
    level.at++;
    return 0;
  }
  if (typeof node === 'number') return node;
  if (node.directory !== undefined) {
    closeLevel(level);
    return enter(o, move, node);
  }
  const into = openLevel(o, level);
  if (into < 0) return into;
  const code = node.inUpper
    ? linkUpperFile(o, move, level.node, name, node, into)
    : addLowerFile(o, move, name, node, into);
  if (code < 0) return code;
  level.at++;
  o.table.dropIfUnused(node);
  return 0;
}

function linkUpperFile(
  o: OverlayState,
  move: TreeMove,
  parent: Node,
  name: Name,
  node: Node,
  into: number,
): number {
  // Its data may be in a lower layer, found by the name that it has now.
  if (node.data !== undefined || node.isDataMissing) {
    const code = ensureUpper(o, node);
    if (code === DEFERRED) move.job = node.job;
    if (code < 0) return code;
  }
  const isHere = isUpperName(node, parent, name);
  const from = isHere ? o.upperFd(parent) : o.parentFd(node);
  if (from < 0) return from;
  return asMove(linkat(from, cStringOf(isHere ? name : node.name), into, cStringOf(name)));
}

/** Whoever is refused a link can still move what there is by a copy of his own. */
function asMove(code: number): number {
  return code === -EPERM || code === -EMLINK ? -EXDEV : code;
}

function addLowerFile(o: OverlayState, move: TreeMove, name: Name, node: Node, into: number): number {
  const { work } = o.upper!;
  const known = move.shared.get(node);
  if (known !== undefined) return asMove(linkat(work.fd, known.name, into, cStringOf(name)));
  if (move.file === undefined) {
    const code = beginFile(o, move, node);
    if (code < 0) return code;
  }
  const { copied, nlink, result } = move.file!;
  move.file = undefined;
  if (result! < 0) return result!;
  if (copied.fd >= 0) close(copied.fd);
  if (nlink === 1) return renameOrRemove(o, copied, into, name);
  const code = asMove(linkat(work.fd, copied.name, into, cStringOf(name)));
  if (code < 0) {
    work.remove(copied.name);
    return code;
  }
  node.lookups++;
  move.shared.set(node, { name: copied.name, nlink });
  return 0;
}

function renameOrRemove(o: OverlayState, { name }: Copied, into: number, target: Name): number {
  const { work } = o.upper!;
  const code = renameat2(work.fd, name, into, cStringOf(target));
  if (code < 0) work.remove(name);
  return code;
}

function beginFile(o: OverlayState, move: TreeMove, node: Node): number {
  const stat = newStatx();
  let code = statNode(o, node, stat);
  if (code < 0) return code;
  const copied = noCopy();
  const nlink = statxNlink(stat);
  const file: TreeMove['file'] = { copied, nlink, result: undefined };
  const origin = nlink === 1 ? o.numbers.origin(stat) : undefined;
  code = copyOut(o, node, stat, Number.POSITIVE_INFINITY, origin, copied, (result) => {
    file.result = result;
    if (result < 0) copied.fd = -1;
  });
  if (code < 0 && code !== DEFERRED) return code;
  move.file = file;
  if (code === DEFERRED) move.job = copied.job as Job;
  else file.result = 0;
  return code;
}
