/**
 * In which layers names like `.wh.x` are whiteouts. With `whiteouts=auto` that are those whose writer is
 * known to make them:
 *
 *   - the upper, if its stamp says that devices could not be made there,
 *   - layers that bear an attribute of fuse-overlayfs or of a container engine,
 *   - layers in a storage of containers/storage (podman, buildah, CRI-O) that has a mount program: for such
 *     a one it unpacks images in this form, and leaves the file `.has-mount-program` in
 *
 *         <storage>/overlay/<id>/diff
 */
import { readFileSync } from 'node:fs';
import type { WhiteoutReading } from '../mount-options.ts';
import { joinPath, lastName, parentPath, realPath } from '../path.ts';
import { cString } from '../system/libc.ts';
import { llistxattr } from '../system/libc-xattr.ts';

const ATTRIBUTES = ['user.fuseoverlayfs.', 'user.containers.'];
const STORAGE_MARK = '.has-mount-program';
const STORAGE_LAYER = 'diff';
const LIST_MAX = 65536;

/** `isStamped`: the layer's stamp says that it has such names. */
export function hasWhiteoutNames(path: Buffer, reading: WhiteoutReading, isStamped = false): boolean {
  if (reading !== 'auto') return reading === 'all';
  return isStamped || isOfStorage(path) || bearsAttribute(path);
}

function isOfStorage(path: Buffer): boolean {
  try {
    // Layers are named by short links to them.
    const layer = realPath(path);
    if (lastName(layer).toString('latin1') !== STORAGE_LAYER) return false;
    const mark = joinPath(parentPath(parentPath(layer)), STORAGE_MARK);
    return readFileSync(mark, 'latin1').trim() === 'true';
  } catch {
    return false;
  }
}

function bearsAttribute(path: Buffer): boolean {
  const list = Buffer.alloc(LIST_MAX);
  const length = llistxattr(cString(path), list);
  const names = list.toString('latin1', 0, Math.max(length, 0)).split('\0');
  return names.some((name) => ATTRIBUTES.some((prefix) => name.startsWith(prefix)));
}
