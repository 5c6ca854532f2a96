/**
 * What the attributes of a directory, or of a file that has only metadata, say to the overlay. Most
 * entries have no attributes at all: one call tells.
 */

import { ERANGE } from '../system/errno.ts';
import type { CString } from '../system/libc.ts';
import { cString } from '../system/libc.ts';
import type { LayerDirectory } from './layer.ts';
import type { OverlayState } from './overlay-state.ts';

export interface Marks {
  /** Nothing of the layers below is seen through the directory. */
  isOpaque: boolean;
  /** Files with the `whiteout` attribute in it are whiteouts. */
  hasAttributeWhiteouts: boolean;
  isImpure: boolean;
  /** Where the parts below are: a path from the root of their layer, or a name beside. */
  redirect: string | undefined;
  /** The file's data is below. */
  isMetacopy: boolean;
  /** The inode number that the file had before it was copied up. */
  ino: bigint | undefined;
}

const FOREIGN_OPAQUE = ['user.fuseoverlayfs.opaque', 'trusted.overlay.opaque', 'user.overlay.opaque'];
const PATH_MAX = 4096;
const list = Buffer.alloc(65536);
const value = Buffer.alloc(PATH_MAX + 1);

export function noMarks(): Marks {
  return {
    isOpaque: false,
    hasAttributeWhiteouts: false,
    isImpure: false,
    redirect: undefined,
    isMetacopy: false,
    ino: undefined,
  };
}

/** Of `name` in `directory`, or of `directory` itself. `isUpper`: only our own marks are believed. */
export function readMarks(
  o: OverlayState,
  directory: LayerDirectory,
  name: CString | undefined,
  isUpper: boolean,
): Marks {
  const marks = noMarks();
  let length = directory.listxattr(name, list);
  if (length === -ERANGE) length = 0;
  if (length <= 0) return marks;
  const own = o.attributeNames.prefix;
  for (const attribute of list.toString('latin1', 0, length - 1).split('\0')) {
    if (attribute.startsWith(own)) {
      readOwn(o, directory, name, attribute.slice(own.length), attribute, marks);
    } else if (o.readsForeignMarks && FOREIGN_OPAQUE.includes(attribute)) {
      // In an upper, users may have set what is called like the marks of another namespace.
      if (isUpper && !attribute.startsWith('user.fuseoverlayfs.')) continue;
      if (read(directory, name, attribute) === 'y') marks.isOpaque = true;
    }
  }
  return marks;
}

function readOwn(
  o: OverlayState,
  directory: LayerDirectory,
  name: CString | undefined,
  mark: string,
  attribute: string,
  marks: Marks,
): void {
  switch (mark) {
    case 'opaque': {
      const said = read(directory, name, attribute);
      if (said === 'y') marks.isOpaque = true;
      else if (said === 'x') marks.hasAttributeWhiteouts = true;
      return;
    }
    case 'impure':
      marks.isImpure = read(directory, name, attribute) === 'y';
      return;
    case 'redirect':
      // The kernel never follows one that a user could have written, and writes none there.
      if (o.attributeNames.namespace === 'trusted') marks.redirect = read(directory, name, attribute);
      return;
    case 'metacopy':
      if (o.attributeNames.namespace === 'trusted') marks.isMetacopy = true;
      return;
    case 'git2db.origin': {
      const length = directory.getxattr(name, o.attributeNames.origin, value);
      if (length > 0) marks.ino = o.numbers.fromOrigin(value.subarray(0, length));
    }
  }
}

function read(directory: LayerDirectory, name: CString | undefined, attribute: string): string | undefined {
  const length = directory.getxattr(name, cString(Buffer.from(attribute, 'latin1')), value);
  return length < 0 ? undefined : value.toString('latin1', 0, length);
}

/** The number that an upper file had as a lower one, if that is on record. */
export function readOrigin(o: OverlayState, directory: LayerDirectory, name: CString): bigint | undefined {
  const length = directory.getxattr(name, o.attributeNames.origin, value);
  return length > 0 ? o.numbers.fromOrigin(value.subarray(0, length)) : undefined;
}
