/**
 * Which directories of the layers make up a merged directory.
 *
 * Beginning with the topmost that has the name, each layer below adds its directory of the same name, until
 * one is opaque, or something that is not a directory, or a whiteout, ends it. A `redirect` on a part says
 * where the parts below are instead: under another name in the parent's parts, or under a path from the
 * roots of all layers below.
 */
import { isDirectory, isRegular, newStatx, type Statx } from '../system/statx.ts';
import type { LowerFile } from './inode-table.ts';
import type { LayerDirectory } from './layer.ts';
import { type Marks, noMarks, readMarks } from './marks.ts';
import { cStringOf, type Name } from './names.ts';
import type { OverlayState } from './overlay-state.ts';
import type { Part } from './parts.ts';
import { ABSENT, FOUND, findIn, isHiddenBelow } from './whiteout.ts';
import { OPAQUE_NAME } from './whiteout-name.ts';

export interface Merged {
  readonly parts: Part[];
  /** Of the topmost part. */
  readonly marks: Marks;
}

const below: Statx = newStatx();

/** `first`: index in `above`, the parts of the parent, of the topmost that has a directory `name`. */
export function mergeParts(o: OverlayState, above: readonly Part[], first: number, name: Name): Merged {
  const top = o.parts.child(above[first]!, name);
  const parts = [top];
  const marks = marksOf(o, top, first === above.length - 1);
  let said = marks;
  let search = new Search(o, above, first + 1, name);
  while (!said.isOpaque) {
    if (said.redirect !== undefined) {
      const turned = search.turn(said.redirect, parts.at(-1)!.layer);
      if (turned === undefined) break;
      search = turned;
    }
    const part = search.next();
    if (part === undefined) break;
    parts.push(part);
    said = marksOf(o, part, search.isAtEnd);
  }
  return { parts, marks };
}

/** The parts of the root: all of them, up to one that says otherwise in a way the kernel does not know. */
export function rootParts(o: OverlayState): Merged {
  const parts: Part[] = [];
  let marks = noMarks();
  for (const part of o.parts.roots) {
    parts.push(part);
    const directory = o.parts.open(part);
    if (typeof directory === 'number') continue;
    const own = readMarks(o, directory, undefined, o.isUpperPart(part));
    part.readsAttributes = own.hasAttributeWhiteouts;
    if (part === o.parts.roots[0]) marks = own;
    if (o.readsNames(part) && directory.statAt(OPAQUE_NAME, below) >= 0) break;
  }
  return { parts, marks };
}

/** `isLast`: there is nothing below, so that the marks that hide or lead there need no look. */
function marksOf(o: OverlayState, part: Part, isLast: boolean): Marks {
  const isUpper = o.isUpperPart(part);
  if (isLast && !isUpper && !part.parent?.readsAttributes) {
    // Even so a redirect may lead to a place in a layer further down, if there is one.
    if (part.layer === o.layers.length - 1) return noMarks();
  }
  const parent = part.parent === undefined ? -1 : o.parts.open(part.parent);
  if (typeof parent === 'number') return noMarks();
  const name = cStringOf(part.name);
  const marks = readMarks(o, parent, name, isUpper);
  part.readsAttributes = marks.hasAttributeWhiteouts;
  if (o.readsNames(part) && !marks.isOpaque && !isLast) {
    marks.isOpaque = isHiddenBelow(parent, name) || hasOpaqueName(o, part);
  }
  return marks;
}

function hasOpaqueName(o: OverlayState, part: Part): boolean {
  const directory: LayerDirectory | number = o.parts.open(part);
  return typeof directory !== 'number' && directory.statAt(OPAQUE_NAME, below) >= 0;
}

/**
 * Where the data of a file is that has only metadata in part `first` of `above`: that of the same name, or
 * under the file's redirect, in the layers below. Undefined: nowhere, which is damage.
 */
export function findData(
  o: OverlayState,
  above: readonly Part[],
  first: number,
  name: Name,
  redirect: string | undefined,
): LowerFile | undefined {
  let search: Search | undefined = new Search(o, above, first + 1, name);
  let layer = above[first]!.layer;
  let turn = redirect;
  while (search !== undefined) {
    if (turn !== undefined) search = search.turn(turn, layer);
    const file: LowerFile | undefined = search?.nextFile();
    if (file === undefined) return undefined;
    const directory = o.parts.open(file.part);
    if (typeof directory === 'number') return undefined;
    const marks = readMarks(o, directory, cStringOf(file.name), false);
    if (!marks.isMetacopy) return file;
    layer = file.part.layer;
    turn = marks.redirect;
  }
  return undefined;
}

/** Goes down the layers, looking for one name in the parts of a directory or for one path from the roots. */
class Search {
  readonly #o: OverlayState;
  /** Undefined: from the roots. */
  readonly #above: readonly Part[] | undefined;
  readonly #path: readonly Name[];
  #at: number;

  constructor(o: OverlayState, above: readonly Part[] | undefined, at: number, ...path: Name[]) {
    this.#o = o;
    this.#above = above;
    this.#path = path;
    this.#at = at;
  }

  get isAtEnd(): boolean {
    return this.#at >= (this.#above ?? this.#o.parts.roots).length;
  }

  /** Where a redirect that was found in `layer` leads; undefined if it makes no sense. */
  turn(redirect: string, layer: number): Search | undefined {
    if (!redirect.startsWith('/')) {
      if (redirect === '' || redirect.includes('/')) return undefined;
      if (this.#above !== undefined) return new Search(this.#o, this.#above, this.#at, redirect);
      return new Search(this.#o, undefined, this.#at, ...this.#path.slice(0, -1), redirect);
    }
    const path = redirect.split('/').filter((component) => component !== '');
    if (path.length === 0 || path.includes('.') || path.includes('..')) return undefined;
    return new Search(this.#o, undefined, layer + 1, ...path);
  }

  /** The next part further down; undefined when there is none, or something hides all that follow. */
  next(): Part | undefined {
    const tops = this.#above ?? this.#o.parts.roots;
    while (this.#at < tops.length) {
      const found = this.#walk(tops[this.#at++]!);
      if (found !== ABSENT) return typeof found === 'number' ? undefined : found;
    }
    return undefined;
  }

  /** The next regular file. */
  nextFile(): LowerFile | undefined {
    const tops = this.#above ?? this.#o.parts.roots;
    const name = this.#path.at(-1)!;
    while (this.#at < tops.length) {
      const part = this.#walk(tops[this.#at++]!, this.#path.length - 1);
      if (part === ABSENT) continue;
      if (typeof part === 'number') return undefined;
      const found = findIn(this.#o, part, cStringOf(name), below);
      if (found === ABSENT || found < 0) continue;
      return found === FOUND && isRegular(below) ? { part, name } : undefined;
    }
    return undefined;
  }

  /** The directory at the path below `part`, ABSENT, or another number if what is there ends the search. */
  #walk(part: Part, length = this.#path.length): Part | number {
    let at = part;
    for (const name of this.#path.slice(0, length)) {
      const found = findIn(this.#o, at, cStringOf(name), below);
      if (found < 0) return ABSENT;
      if (found !== FOUND) return found;
      if (!isDirectory(below)) return FOUND;
      at = this.#o.parts.child(at, name);
    }
    return at;
  }
}
