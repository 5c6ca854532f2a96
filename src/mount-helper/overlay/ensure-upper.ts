/**
 * Bringing nodes into the upper before they are changed: parents first, then the object itself, by a
 * complete copy in work (`copy-up.ts`) that is renamed into its place here.
 *
 * The kernel is told nothing: number, content and metadata stay as they were, files that are open read the
 * copy from now on. A file with several names in its layer becomes one file with the names that are known;
 * every other one joins it when it is first changed by that name.
 */

import { constants } from 'node:fs';
import { DEFERRED } from '../fuse/file-system.ts';
import { EEXIST, EIO, ENOENT, EPERM, EROFS } from '../system/errno.ts';
import { AT_SYMLINK_NOFOLLOW, close, dup, ftruncate, linkat, openat, statx } from '../system/libc.ts';
import { isProtected, newStatx, S_IFREG, type Statx, statxNlink, statxSize } from '../system/statx.ts';
import { removexattrAt, setxattrAt } from '../system/xattr.ts';
import { orphanFd, reopen, statNode } from './attributes.ts';
import { type Copied, keepTimes } from './copy-up.ts';
import { O_PATH } from './disk-layer.ts';
import type { Link, Node } from './inode-table.ts';
import { cStringOf } from './names.ts';
import { AT_EMPTY_PATH, EMPTY, type OverlayState } from './overlay-state.ts';
import { Part } from './parts.ts';
import { waitForMoveAbove, waitForMoveBelow, waitForMoveOf } from './tree-moves.ts';

const { O_NOFOLLOW, O_RDWR } = constants;
const YES = Buffer.from('y');

/** Makes the directory one of the upper too. Its descriptor there, `-errno`, or DEFERRED while it is being moved. */
export function ensureUpperDirectory(o: OverlayState, node: Node): number {
  if (o.upper === undefined) return -EROFS;
  if (o.treeMoves.size > 0 && waitForMoveAbove(o, node)) return DEFERRED;
  if (node.inUpper) return o.upperFd(node);
  const { parent } = node;
  if (parent === undefined || node.isOrphan) return -ENOENT;
  const above = ensureUpperDirectory(o, parent);
  if (above < 0) return above;
  const code = copyDirectory(o, node, parent);
  return code < 0 ? code : o.upperFd(node);
}

function copyDirectory(o: OverlayState, node: Node, parent: Node): number {
  const s = newStatx();
  let code = statNode(o, node, s);
  if (code < 0) return code;
  if (isProtected(s)) return -EPERM;
  const source = node.directory!.parts[0]!;
  const directory = o.parts.open(source.parent!);
  if (typeof directory === 'number') return directory;
  const copied = noCopy();
  code = o.copyUp!.directory(directory, cStringOf(source.name), s, o.numbers.origin(s), copied);
  if (code < 0) return code;
  code = moveIntoPlace(o, copied, parent, node.name, true);
  if (code < 0) return code;
  enterUpper(o, node, parent);
  node.hasOrigin = true;
  return 0;
}

/** The books: a directory that the upper now has at the node's place. */
function enterUpper(o: OverlayState, node: Node, parent: Node): void {
  const directory = node.directory!;
  const above = parent.directory!.parts[0]!;
  directory.parts.unshift(new Part(0, above, node.name, above.readsNames));
  directory.isImpure = false;
  directory.redirect = undefined;
  directory.newEntryMode = -1;
  directory.version++;
  parent.directory!.version++;
  node.inUpper = true;
  node.isNameUnsynced = true;
  o.waiting.attributesChanged(node.id);
  o.parts.open(directory.parts[0]!);
}

export function noCopy(): Copied {
  return { name: EMPTY, fd: -1, job: undefined };
}

function moveIntoPlace(
  o: OverlayState,
  copied: Copied,
  parent: Node,
  name: string,
  hasOrigin: boolean,
): number {
  if (hasOrigin) markImpure(o, parent);
  const directory = o.upperFd(parent);
  const { work } = o.upper!;
  const code =
    directory < 0
      ? directory
      : keepTimes(directory, () => work.moveOut(copied.name, directory, cStringOf(name)));
  if (code < 0) work.remove(copied.name);
  else o.waiting.attributesChanged(parent.id);
  return code;
}

/** Entries of the directory may keep the inode numbers of elsewhere; readers have to look at each. */
export function markImpure(o: OverlayState, node: Node): void {
  const directory = node.directory!;
  if (directory.isImpure) return;
  const fd = o.upperFd(node);
  // Where attributes cannot be set, no origin can be recorded either.
  if (fd >= 0) setxattrAt(fd, undefined, o.attributeNames.impure, YES);
  directory.isImpure = true;
}

/**
 * Makes the node one of the upper, with its data up to `dataEnd`, where the caller is about to cut it. 0,
 * `-errno`, or DEFERRED while a copy is under way; `-errno` of a copy goes to the request that began it.
 */
export function ensureUpper(o: OverlayState, node: Node, dataEnd = Number.POSITIVE_INFINITY): number {
  if (o.upper === undefined) return -EROFS;
  if (node.directory !== undefined) return Math.min(0, ensureUpperDirectory(o, node));
  if (node.job !== undefined) {
    o.waiting.waitFor(node.job);
    return DEFERRED;
  }
  const { failure } = node;
  if (failure !== undefined && failure.request === o.waiting.request) {
    node.failure = undefined;
    return failure.code;
  }
  if (!node.inUpper) {
    if (o.treeMoves.size > 0 && waitForMoveOf(o, node)) return DEFERRED;
    return copyFile(o, node, dataEnd);
  }
  if (node.data !== undefined || node.isDataMissing) return bringData(o, node, dataEnd > 0);
  if (node.links !== undefined) joinLinks(o, node);
  return 0;
}

/** A namespace change of the node has to wait for a copy of it, or of something below it. */
export function waitForCopies(o: OverlayState, node: Node): boolean {
  if (o.treeMoves.size > 0 && waitForMoveBelow(o, node)) return true;
  for (const copying of o.copying) {
    for (let at: Node | undefined = copying; at !== undefined; at = at.parent) {
      if (at !== node) continue;
      o.waiting.waitFor(copying.job!);
      return true;
    }
  }
  return false;
}

function copyFile(o: OverlayState, node: Node, dataEnd: number): number {
  if (node.lower === undefined || (dataEnd > 0 && node.isDataMissing)) return -EIO;
  if (node.parent !== undefined) {
    const above = ensureUpperDirectory(o, node.parent);
    if (above < 0) return above;
  }
  const s = newStatx();
  let code = statNode(o, node, s);
  if (code < 0) return code;
  const nlink = statxNlink(s);
  // One number for several files would make them one to tar and rsync, once they have parted.
  const origin = nlink === 1 && !node.isOrphan ? o.numbers.origin(s) : undefined;
  const copied = noCopy();
  if (dataEnd < statxSize(s)) node.cutRequest = o.waiting.request;
  code = copyOut(o, node, s, dataEnd, origin, copied, (result) => {
    endJob(o, node, result, () => install(o, node, copied, nlink, origin));
  });
  if (code === DEFERRED) return beginJob(o, node, copied);
  return code < 0 ? code : install(o, node, copied, nlink, origin);
}

/**
 * A copy of a lower file in work, complete but for its data from `dataEnd` on; `s` has its attributes.
 * Answers as `CopyUp.file`; after a failure nothing of it is left.
 */
export function copyOut(
  o: OverlayState,
  node: Node,
  s: Statx,
  dataEnd: number,
  origin: Uint8Array | undefined,
  copied: Copied,
  done: (result: number) => void,
): number {
  if (node.lower === undefined || (dataEnd > 0 && node.isDataMissing)) return -EIO;
  // A copy would not be protected, and could not be removed from work if it were.
  if (isProtected(s)) return -EPERM;
  const { part, name } = node.lower;
  const directory = o.parts.open(part);
  if (typeof directory === 'number') return directory;
  const isSplit = node.data !== undefined;
  const ended = (result: number) => {
    if (result < 0) discard(o, copied);
    done(result);
  };
  let code = o.copyUp!.file(directory, cStringOf(name), s, isSplit ? 0 : dataEnd, origin, copied, ended);
  if (code === 0 && isSplit && dataEnd > 0) {
    const data = o.parts.open(node.data!.part);
    code =
      typeof data === 'number'
        ? data
        : o.copyUp!.fill(data, cStringOf(node.data!.name), copied.fd, statxSize(s), copied, ended);
    if (code < 0 && code !== DEFERRED) discard(o, copied);
  }
  return code;
}

function discard(o: OverlayState, copied: Copied): void {
  if (copied.fd >= 0) close(copied.fd);
  copied.fd = -1;
  o.upper!.work.remove(copied.name);
}

function beginJob(o: OverlayState, node: Node, copied: Copied): number {
  node.job = copied.job!;
  node.jobRequest = o.waiting.request;
  o.copying.add(node);
  o.waiting.waitFor(node.job);
  return DEFERRED;
}

/** On the thread of the server: what a job brought about is put in place. */
function endJob(o: OverlayState, node: Node, result: number, install: () => number): void {
  node.job = undefined;
  o.copying.delete(node);
  const code = result < 0 ? result : install();
  if (code < 0) node.failure = { request: node.jobRequest, code };
  o.table.dropIfUnused(node);
}

/** Renames the copy into its place, and makes it the node's. `nlink`: of the lower inode. */
function install(
  o: OverlayState,
  node: Node,
  copied: Copied,
  nlink: number,
  origin: Uint8Array | undefined,
): number {
  const s = o.otherStatx;
  const { work } = o.upper!;
  let code =
    copied.fd >= 0
      ? statx(copied.fd, EMPTY, AT_EMPTY_PATH, s)
      : statx(work.fd, copied.name, AT_SYMLINK_NOFOLLOW, s);
  if (code >= 0 && node.parent === undefined) {
    // It lost its name: the copy needs none either.
    node.anchor = copied.fd >= 0 ? dup(copied.fd) : openat(work.fd, copied.name, O_PATH | O_NOFOLLOW);
    work.remove(copied.name);
    if (node.anchor < 0) code = node.anchor;
  } else if (code >= 0) {
    code = moveIntoPlace(o, copied, node.parent!, node.name, origin !== undefined);
  } else work.remove(copied.name);
  if (code >= 0) {
    becomeUpper(o, node, nlink, origin !== undefined);
    useCopy(node, copied.fd);
    if (node.links !== undefined) joinLinks(o, node);
  }
  if (copied.fd >= 0) close(copied.fd);
  return Math.min(0, code);
}

/** The books. `o.otherStatx` has the attributes of the copy. */
export function becomeUpper(o: OverlayState, node: Node, nlink: number, hasOrigin: boolean): void {
  node.inUpper = true;
  node.lower = undefined;
  node.data = undefined;
  node.hasOrigin = hasOrigin;
  node.isNameUnsynced = true;
  o.waiting.attributesChanged(node.id);
  if (node.isOrphan) {
    node.extraLinks = 0;
    return;
  }
  node.parent!.directory!.version++;
  if (nlink > 1) {
    node.parent!.directory!.hasForeignNumbers = true;
    o.table.keepLowerKey(node);
    node.extraLinks += nlink - 1;
  }
  o.table.setKey(node, o.numbers.key(o.otherStatx));
}

/** Files that are open read the copy from now on. */
export function useCopy(node: Node, fd: number): void {
  for (const handle of node.handles ?? []) {
    if (handle.file === undefined || fd < 0) continue;
    const copy = dup(fd);
    if (copy < 0) continue;
    handle.file.release();
    handle.file = undefined;
    handle.fd = copy;
  }
}

/** The names of a copied-up hard link that the upper has no entry for yet become names of the copy. */
export function joinLinks(o: OverlayState, node: Node): void {
  if (!node.inUpper || node.parent === undefined) return;
  for (const link of node.links ?? []) if (!link.inUpper) joinLink(o, node, link);
}

/** Where that fails (a full disk), the name stays one of the lower inode to later mounts; here it is the node's. */
function joinLink(o: OverlayState, node: Node, link: Link): void {
  const to = ensureUpperDirectory(o, link.parent);
  const from = o.parentFd(node);
  if (to < 0 || from < 0) return;
  const code = keepTimes(to, () => linkat(from, cStringOf(node.name), to, cStringOf(link.name)));
  if (code < 0 && code !== -EEXIST) return;
  if (code >= 0) node.extraLinks--;
  o.waiting.attributesChanged(link.parent.id);
  link.inUpper = true;
  link.parent.directory!.version++;
  link.parent.directory!.hasForeignNumbers = true;
  node.isNameUnsynced = true;
}

/** Completes a file of the upper that has only metadata (`metacopy`). Answers as `ensureUpper`. */
function bringData(o: OverlayState, node: Node, withData: boolean): number {
  if (withData && node.isDataMissing) return -EIO;
  const fd = openUpper(o, node, O_RDWR);
  if (fd < 0) return fd;
  if (!withData) {
    const cut = ftruncate(fd, 0);
    if (cut >= 0) forgetMetacopy(o, node, fd);
    close(fd);
    return cut;
  }
  const s = o.otherStatx;
  const { part, name } = node.data!;
  const directory = o.parts.open(part);
  const copied: Copied = { name: EMPTY, fd, job: undefined };
  let code = typeof directory === 'number' ? directory : statx(fd, EMPTY, AT_EMPTY_PATH, s);
  if (code >= 0 && typeof directory !== 'number') {
    code = o.copyUp!.fill(directory, cStringOf(name), fd, statxSize(s), copied, (result) => {
      endJob(o, node, result, () => forgetMetacopy(o, node, fd));
      close(fd);
    });
  }
  if (code === DEFERRED) return beginJob(o, node, copied);
  if (code >= 0) code = forgetMetacopy(o, node, fd);
  close(fd);
  return code;
}

function forgetMetacopy(o: OverlayState, node: Node, fd: number): number {
  node.data = undefined;
  node.isDataMissing = false;
  useCopy(node, fd);
  if (node.isOrphan) return 0;
  const parent = o.parentFd(node);
  if (parent < 0) return parent;
  const name = cStringOf(node.name);
  const code = removexattrAt(parent, name, o.attributeNames.metacopy);
  removexattrAt(parent, name, o.attributeNames.redirect);
  return code;
}

/** A descriptor of the node's file in the upper, or `-errno`. The caller closes it. */
export function openUpper(o: OverlayState, node: Node, flags: number): number {
  if (node.type !== S_IFREG) return -EIO;
  if (node.isOrphan) {
    const fd = orphanFd(node);
    return fd < 0 ? fd : reopen(fd, flags);
  }
  const parent = o.parentFd(node);
  return parent < 0 ? parent : openat(parent, cStringOf(node.name), flags | O_NOFOLLOW);
}
