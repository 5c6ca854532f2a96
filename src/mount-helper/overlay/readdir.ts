/**
 * Listing a merged directory: the names of the topmost part, then of each part below those not seen yet,
 * without whiteouts and what they hide.
 *
 * The list is made when reading begins at the start and stays for that reading, so a name that exists
 * throughout is given exactly once, whatever comes and goes meanwhile. The cookie of an entry is its place
 * in the list: `.` is 1, `..` is 2.
 */
import { emptyEntry } from '../fuse/answers.ts';
import type { DirectorySink } from '../fuse/file-system.ts';
import { DT_CHR, DT_DIR, DT_REG, DT_UNKNOWN } from '../system/dirents.ts';
import { EBADF, ENOENT } from '../system/errno.ts';
import { direntType, newStatx, type Statx, statxMode } from '../system/statx.ts';
import { answerEntry, statNode } from './attributes.ts';
import type { Node } from './inode-table.ts';
import type { LayerDirectory } from './layer.ts';
import { attach, findNode } from './lookup.ts';
import { readOrigin } from './marks.ts';
import { cStringIn, endedCopy, type Name, nameOf, nameRoom } from './names.ts';
import type { OverlayState } from './overlay-state.ts';
import type { Part } from './parts.ts';
import { isWhiteout } from './whiteout.ts';
import { isWhiteoutName, WHITEOUT_PREFIX_LENGTH } from './whiteout-name.ts';

/** Entries, `.` and `..` not among them; one place in each array for each. */
export interface Listing {
  readonly names: Name[];
  readonly inos: bigint[];
  readonly types: number[];
  /** Index of the part that the entry is in. */
  readonly parts: number[];
  /** Of the directory, when the list was made. */
  readonly version: number;
}

const DOT = Buffer.from('.');
const DOT_DOT = Buffer.from('..');
const probe = newStatx();
const room = nameRoom();

const entry = emptyEntry();

/** All visible entries of a directory, or `-errno`. */
export function makeListing(o: OverlayState, node: Node): Listing | number {
  const { parts, version } = node.directory!;
  const listing: Listing = { names: [], inos: [], types: [], parts: [], version };
  if (node.isOrphan) return listing;
  const seen = parts.length > 1 ? new Set<Name>() : undefined;
  for (let index = 0; index < parts.length; index++) {
    const code = listPart(o, node, index, seen, listing);
    if (code < 0 && code !== -ENOENT) return code;
  }
  return listing;
}

/** `seen`: names of the parts above, there or hidden; undefined where there is only one part. */
function listPart(
  o: OverlayState,
  node: Node,
  index: number,
  seen: Set<Name> | undefined,
  listing: Listing,
): number {
  const part = node.directory!.parts[index]!;
  const directory = o.parts.open(part);
  if (typeof directory === 'number') return directory;
  const readsNames = o.readsNames(part);
  const isUpper = o.isUpperPart(part);
  const keepsNumbers = isUpper && (node.directory!.isImpure || node.directory!.hasForeignNumbers);
  const { device } = o.layers[part.layer]!;
  const hiddenBelow: Name[] = [];
  const code = directory.list((bytes, ino, listedType) => {
    const name = nameOf(bytes);
    if (readsNames && isWhiteoutName(bytes)) {
      hiddenBelow.push(name.slice(WHITEOUT_PREFIX_LENGTH));
      return;
    }
    if (seen !== undefined) {
      if (seen.has(name)) return;
      seen.add(name);
    }
    const type = shownType(o, part, directory, bytes, listedType);
    if (type < 0) return;
    let shown = o.numbers.shownOn(device, ino);
    if (keepsNumbers) shown = keptNumber(o, node, directory, name, bytes) ?? shown;
    listing.names.push(name);
    listing.inos.push(shown);
    listing.types.push(type);
    listing.parts.push(index);
  });
  if (seen !== undefined) for (const name of hiddenBelow) seen.add(name);
  return code;
}

/** DT_*, or -1 for a whiteout and for what is gone already. */
function shownType(
  o: OverlayState,
  part: Part,
  directory: LayerDirectory,
  name: Uint8Array,
  type: number,
): number {
  const isSure = type !== DT_UNKNOWN && type !== DT_CHR && !(part.readsAttributes && type === DT_REG);
  if (isSure) return type;
  const cName = endedCopy(name);
  if (directory.statAt(cName, probe) < 0) return -1;
  return isWhiteout(o, part, directory, cName, probe) ? -1 : direntType(statxMode(probe));
}

/** The number that an entry of the upper had before it was copied up. */
function keptNumber(
  o: OverlayState,
  node: Node,
  directory: LayerDirectory,
  name: Name,
  bytes: Uint8Array,
): bigint | undefined {
  const known = node.directory!.children.get(name);
  if (known !== undefined) return known.ino;
  return node.directory!.isImpure ? readOrigin(o, directory, endedCopy(bytes)) : undefined;
}

/** Answers READDIR and READDIRPLUS. */
export function readDirectory(
  o: OverlayState,
  id: number,
  offset: number,
  withEntries: boolean,
  out: DirectorySink,
): number {
  const handle = o.handles.directory(id);
  if (handle === undefined) return -EBADF;
  const { node } = handle;
  if (offset === 0 || handle.listing === undefined) {
    const made = makeListing(o, node);
    if (typeof made === 'number') return made;
    handle.listing = made;
  }
  const { listing } = handle;
  const count = listing.names.length + 2;
  for (let place = offset; place < count; place++) {
    const isTaken =
      place < 2
        ? addDot(node, place, withEntries, out)
        : withEntries
          ? addWithEntry(o, node, listing, place - 2, out)
          : addName(listing, place - 2, out);
    if (!isTaken) break;
  }
  return 0;
}

function addName({ names, inos, types }: Listing, index: number, out: DirectorySink): boolean {
  const name = names[index]!;
  return out.add(cStringIn(room, name), name.length, inos[index]!, types[index]!, index + 3);
}

function addDot(node: Node, place: number, withEntries: boolean, out: DirectorySink): boolean {
  const { ino } = place === 0 ? node : (node.parent ?? node);
  const name = place === 0 ? DOT : DOT_DOT;
  if (!withEntries) return out.add(name, name.length, ino, DT_DIR, place + 1);
  entry.node = 0;
  entry.attributes.ino = ino;
  return out.addWithEntry(name, name.length, DT_DIR, place + 1, entry);
}

function addWithEntry(
  o: OverlayState,
  parent: Node,
  listing: Listing,
  index: number,
  out: DirectorySink,
): boolean {
  const name = listing.names[index]!;
  const known = parent.directory!.children.get(name);
  if (known !== undefined && known.lookups > 0 && o.options.timeoutMs === undefined) {
    // The kernel has it, with its attributes, and keeps what it has where an entry says no more.
    return out.add(cStringIn(room, name), name.length, known.ino, direntType(known.type), index + 3);
  }
  const child = findListed(o, parent, listing, index, name, o.statx);
  const cName = cStringIn(room, name);
  const type = listing.types[index]!;
  if (typeof child === 'number') {
    // It is gone, or cannot be looked at: its name alone.
    entry.node = 0;
    entry.attributes.ino = listing.inos[index]!;
    return out.addWithEntry(cName, name.length, type, index + 3, entry);
  }
  answerEntry(o, child, o.statx, entry);
  if (out.addWithEntry(cName, name.length, type, index + 3, entry)) return true;
  child.lookups--;
  o.table.dropIfUnused(child);
  return false;
}

/** The node of an entry. Where nothing changed since the list was made, its part is known. */
function findListed(
  o: OverlayState,
  parent: Node,
  listing: Listing,
  index: number,
  name: Name,
  s: Statx,
): Node | number {
  const { children, parts, version } = parent.directory!;
  const known = children.get(name);
  if (known !== undefined && statNode(o, known, s) >= 0) return known;
  if (known !== undefined || version !== listing.version) return findNode(o, parent, name, s);
  const directory = o.parts.open(parts[listing.parts[index]!]!);
  if (typeof directory === 'number') return directory;
  const code = directory.statAt(cStringIn(room, name), s);
  return code < 0 ? code : attach(o, parent, name, listing.parts[index]!, s);
}
