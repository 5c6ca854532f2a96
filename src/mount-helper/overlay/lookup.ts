/**
 * From names to nodes. The topmost layer that has a name decides, unless a whiteout above hides it; a
 * directory is merged with those of the same name below (`directory-parts.ts`).
 */
import type { EntryAnswer } from '../fuse/file-system.ts';
import { ENOENT } from '../system/errno.ts';
import {
  newStatx,
  S_IFDIR,
  S_IFREG,
  type Statx,
  statxBlocks,
  statxNlink,
  statxSize,
  statxType,
} from '../system/statx.ts';
import { answerEntry, statNode } from './attributes.ts';
import { findData, mergeParts, rootParts } from './directory-parts.ts';
import type { Node } from './inode-table.ts';
import { readMarks, readOrigin } from './marks.ts';
import { cStringIn, cStringOf, type Name, nameRoom } from './names.ts';
import type { OverlayState } from './overlay-state.ts';
import type { Part } from './parts.ts';
import { FOUND, findIn, HIDDEN } from './whiteout.ts';

/** Blocks that a file without content may have for its attributes. */
const METADATA_BLOCKS = 16;
const probe = newStatx();
const room = nameRoom();

/** Builds the root out of the layers' roots. 0 or `-errno`: then nothing can be mounted. */
export function openRoot(o: OverlayState): number {
  const { parts, marks } = rootParts(o);
  const directory = o.root.directory!;
  const opened = o.parts.open(parts[0]!);
  if (typeof opened === 'number') return opened;
  const code = opened.stat(o.statx);
  if (code < 0) return code;
  directory.parts = parts;
  directory.isImpure = marks.isImpure;
  o.root.inUpper = o.isUpperPart(parts[0]!);
  o.root.ino = o.numbers.shown(o.statx);
  return 0;
}

/** Answers LOOKUP: a node, or node 0 for a name that there is not. */
export function lookup(o: OverlayState, parent: Node, name: Name, out: EntryAnswer): number {
  const node = findNode(o, parent, name, o.statx);
  if (typeof node === 'number') {
    if (node !== -ENOENT) return node;
    out.node = 0;
    out.generation = 0;
    o.setTimeouts(out);
    return 0;
  }
  answerEntry(o, node, o.statx, out);
  return 0;
}

/** The node of a name, with its attributes in `s`; or `-errno`. It is not counted as a lookup. */
export function findNode(o: OverlayState, parent: Node, name: Name, s: Statx): Node | number {
  const directory = parent.directory;
  if (directory === undefined || parent.isOrphan) return -ENOENT;
  const known = directory.children.get(name);
  if (known !== undefined) {
    const code = statNode(o, known, s);
    if (code >= 0 && statxType(s) === known.type) return known;
    if (code < 0 && code !== -ENOENT) return code;
    // A layer was changed behind our back: look again.
    o.table.removeLink(known, parent, name);
    o.table.dropIfUnused(known);
  }
  const cName = cStringIn(room, name);
  const { parts } = directory;
  for (let index = 0; index < parts.length; index++) {
    const found = findIn(o, parts[index]!, cName, s);
    if (found === FOUND) return attach(o, parent, name, index, s);
    if (found === HIDDEN) return -ENOENT;
    if (found < 0) return found;
  }
  return -ENOENT;
}

/** The node of an entry that was found in part `index`; `s` has its attributes, and those of the node afterwards. */
export function attach(o: OverlayState, parent: Node, name: Name, index: number, s: Statx): Node | number {
  if (statxType(s) === S_IFDIR) return attachDirectory(o, parent, name, index, s);
  const part = parent.directory!.parts[index]!;
  const isUpper = o.isUpperPart(part);
  const hasSiblings = statxNlink(s) > 1;
  const linked = hasSiblings || o.table.hasKeys ? o.table.byKey(o.numbers.key(s)) : undefined;
  if (linked !== undefined && linked.type === statxType(s)) {
    o.table.addLink(linked, parent, name, isUpper);
    const code = statNode(o, linked, s);
    return code < 0 ? code : linked;
  }
  const origin = isUpper && parent.directory!.isImpure ? originOf(o, parent, name) : undefined;
  const node = o.table.add(statxType(s), origin ?? o.numbers.shown(s), parent, name);
  node.hasOrigin = origin !== undefined;
  node.hasSiblings = hasSiblings;
  node.inUpper = isUpper;
  if (!isUpper) node.lower = { part, name };
  if (hasSiblings) o.table.setKey(node, o.numbers.key(s));
  if (mayBeMetacopy(o, part, s)) findOtherData(o, node, parent, index, name);
  if (o.attributeNames.override !== undefined) statNode(o, node, s);
  return node;
}

function attachDirectory(o: OverlayState, parent: Node, name: Name, index: number, s: Statx): Node {
  const shown = o.numbers.shown(s);
  const { parts, marks } = mergeParts(o, parent.directory!.parts, index, name);
  const inUpper = o.isUpperPart(parts[0]!);
  const node = o.table.add(S_IFDIR, (inUpper ? marks.ino : undefined) ?? shown, parent, name, parts);
  node.inUpper = inUpper;
  node.hasOrigin = inUpper && marks.ino !== undefined;
  const directory = node.directory!;
  directory.isImpure = inUpper && marks.isImpure;
  directory.redirect = inUpper ? marks.redirect : undefined;
  if (o.attributeNames.override !== undefined) statNode(o, node, s);
  return node;
}

function originOf(o: OverlayState, parent: Node, name: Name): bigint | undefined {
  const directory = o.parts.open(parent.directory!.parts[0]!);
  return typeof directory === 'number' ? undefined : readOrigin(o, directory, cStringOf(name));
}

/**
 * Only such files are worth asking for the mark: next to no blocks, which are those of the attributes, and
 * layers below that may have the data. (A size that the blocks could hold says nothing: it may be small.)
 */
function mayBeMetacopy(o: OverlayState, part: Part, s: Statx): boolean {
  if (o.attributeNames.namespace !== 'trusted' || statxType(s) !== S_IFREG) return false;
  return part.layer < o.layers.length - 1 && statxSize(s) > 0 && statxBlocks(s) <= METADATA_BLOCKS;
}

function findOtherData(o: OverlayState, node: Node, parent: Node, index: number, name: Name): void {
  const above = parent.directory!.parts;
  const part = above[index]!;
  const directory = o.parts.open(part);
  if (typeof directory === 'number') return;
  const marks = readMarks(o, directory, cStringOf(name), o.isUpperPart(part));
  if (!marks.isMetacopy) return;
  node.data = findData(o, above, index, name, marks.redirect);
  node.isDataMissing = node.data === undefined;
}

/** Some layer below the upper shows the name, so that its absence takes a whiteout. Or `-errno`. */
export function isBelow(o: OverlayState, parent: Node, name: Name): boolean | number {
  const { parts } = parent.directory!;
  let index = o.isUpperPart(parts[0]!) ? 1 : 0;
  if (index === parts.length) return false;
  const cName = cStringOf(name);
  for (; index < parts.length; index++) {
    const found = findIn(o, parts[index]!, cName, probe);
    if (found === FOUND) return true;
    if (found === HIDDEN) return false;
    if (found < 0) return found;
  }
  return false;
}
