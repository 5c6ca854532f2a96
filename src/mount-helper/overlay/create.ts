/**
 * New files, directories, links and devices. They are made in the upper directly, or where a whiteout has
 * the name, in its place (`replace-whiteout.ts`). The kernel has looked the name up before it asks, and knows
 * that it is free.
 */

import { constants } from 'node:fs';
import type { Caller, EntryAnswer, OpenAnswer } from '../fuse/file-system.ts';
import { EEXIST, EINVAL, ENOENT, EPERM } from '../system/errno.ts';
import { AT_REMOVEDIR, type CString, close, openat, unlinkat } from '../system/libc.ts';
import { S_IFCHR, S_IFDIR, S_IFLNK, S_IFREG, type Statx } from '../system/statx.ts';
import { answerEntry } from './attributes.ts';
import { ensureUpperDirectory } from './ensure-upper.ts';
import { diskMode, inherit, own } from './entry-owner.ts';
import { addHandle, backingFlags } from './handles.ts';
import type { Node } from './inode-table.ts';
import { make, type Recipe } from './make-entry.ts';
import { endedCopy, type Name, nameOf } from './names.ts';
import { EMPTY, ITSELF, type OverlayState } from './overlay-state.ts';
import { replaceWhiteout } from './replace-whiteout.ts';

const { O_EXCL, O_WRONLY } = constants;
const O_TMPFILE = 0o20200000;
const MODE_BITS = 0o7777;

const recipe: Recipe = { type: 0, mode: 0, umask: 0, rdev: 0, target: EMPTY, flags: 0 };

function prepare(type: number, mode: number, umask: number): Recipe {
  recipe.type = type;
  recipe.mode = mode & MODE_BITS;
  recipe.umask = umask;
  recipe.rdev = 0;
  recipe.target = EMPTY;
  recipe.flags = O_WRONLY;
  return recipe;
}

export function makeDirectory(
  o: OverlayState,
  parent: Node,
  name: Uint8Array,
  mode: number,
  umask: number,
  caller: Caller,
  out: EntryAnswer,
): number {
  return makeNamed(o, parent, name, prepare(S_IFDIR, mode, umask), caller, out);
}

export function makeSymlink(
  o: OverlayState,
  parent: Node,
  name: Uint8Array,
  target: Uint8Array,
  caller: Caller,
  out: EntryAnswer,
): number {
  const what = prepare(S_IFLNK, 0o777, 0);
  what.target = endedCopy(target);
  return makeNamed(o, parent, name, what, caller, out);
}

export function makeNode(
  o: OverlayState,
  parent: Node,
  name: Uint8Array,
  mode: number,
  rdev: number,
  umask: number,
  caller: Caller,
  out: EntryAnswer,
): number {
  const type = mode & 0o170000 || S_IFREG;
  // It would be a whiteout.
  if (type === S_IFCHR && rdev === 0) return -EPERM;
  const what = prepare(type, mode, umask);
  what.rdev = rdev;
  return makeNamed(o, parent, name, what, caller, out);
}

function makeNamed(
  o: OverlayState,
  parent: Node,
  name: Uint8Array,
  what: Recipe,
  caller: Caller,
  out: EntryAnswer,
): number {
  const fd = makeEntry(o, parent, endedCopy(name), what, caller, o.statx);
  if (fd < 0) return fd;
  if (what.type === S_IFREG) close(fd);
  answerEntry(o, adopt(o, parent, nameOf(name), what.type, o.statx), o.statx, out);
  return 0;
}

/** CREATE: a new regular file, open. */
export function createFile(
  o: OverlayState,
  parent: Node,
  name: Uint8Array,
  flags: number,
  mode: number,
  umask: number,
  caller: Caller,
  entry: EntryAnswer,
  out: OpenAnswer,
): number {
  const what = prepare(S_IFREG, mode, umask);
  what.flags = backingFlags(o, flags);
  const fd = makeEntry(o, parent, endedCopy(name), what, caller, o.statx);
  if (fd < 0) return fd;
  const node = adopt(o, parent, nameOf(name), S_IFREG, o.statx);
  answerEntry(o, node, o.statx, entry);
  addHandle(o, node, what.flags, fd, undefined, out);
  return 0;
}

/** TMPFILE: a regular file without a name, open. */
export function createNameless(
  o: OverlayState,
  parent: Node,
  flags: number,
  mode: number,
  umask: number,
  caller: Caller,
  entry: EntryAnswer,
  out: OpenAnswer,
): number {
  const directory = ensureUpperDirectory(o, parent);
  if (directory < 0) return directory;
  const inherited = inherit(o, parent, directory);
  if (inherited < 0) return inherited;
  const bits = parent.directory!.hasDefaultAcl ? mode & MODE_BITS : mode & MODE_BITS & ~umask;
  const kept = backingFlags(o, flags) | (flags & O_EXCL);
  const fd = openat(directory, ITSELF, kept | O_TMPFILE, diskMode(o, S_IFREG, bits));
  if (fd < 0) return fd;
  const code = own(o, parent, fd, EMPTY, fd, S_IFREG, bits, caller, o.statx);
  if (code < 0) {
    close(fd);
    return code;
  }
  const node = o.table.addNameless(S_IFREG, o.numbers.shown(o.statx));
  answerEntry(o, node, o.statx, entry);
  addHandle(o, node, kept, fd, undefined, out);
  return 0;
}

/** The node of what was just made in the upper; `s` has its attributes. */
function adopt(o: OverlayState, parent: Node, name: Name, type: number, s: Statx): Node {
  const directory = parent.directory!;
  const above = directory.parts[0]!;
  const stale = directory.children.get(name);
  if (stale !== undefined) o.table.removeLink(stale, parent, name);
  const parts = type === S_IFDIR ? [o.parts.child(above, name)] : undefined;
  const node = o.table.add(type, o.numbers.shown(s), parent, name, parts);
  node.inUpper = true;
  node.isNameUnsynced = true;
  directory.version++;
  return node;
}

/** Makes it and fills `s`. Returns a descriptor for regular files, else 0; or `-errno` with nothing left behind. */
function makeEntry(
  o: OverlayState,
  parent: Node,
  name: CString,
  what: Recipe,
  caller: Caller,
  s: Statx,
): number {
  if (parent.isOrphan) return -ENOENT;
  if (o.refusesName(name)) return -EINVAL;
  const directory = ensureUpperDirectory(o, parent);
  if (directory < 0) return directory;
  const inherited = inherit(o, parent, directory);
  if (inherited < 0) return inherited;
  const bits = parent.directory!.hasDefaultAcl ? what.mode : what.mode & ~what.umask;
  const fd = make(o, directory, name, what, bits);
  if (fd === -EEXIST) return replaceWhiteout(o, parent, directory, name, what, bits, caller, s);
  if (fd < 0) return fd;
  const held = what.type === S_IFREG ? fd : -1;
  const code = own(o, parent, directory, name, held, what.type, bits, caller, s);
  if (code >= 0) return fd;
  if (held >= 0) close(held);
  unlinkat(directory, name, what.type === S_IFDIR ? AT_REMOVEDIR : 0);
  return code;
}
