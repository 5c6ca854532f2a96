/**
 * Extended attributes as the mount shows them. Our own marks never show; attributes that users give names
 * like ours (an overlay on top of this one does) are kept under `overlay.overlay.`, as the kernel does it.
 */

import type { Caller } from '../fuse/file-system.ts';
import { FUSE_SETXATTR_ACL_KILL_SGID } from '../fuse/protocol.ts';
import { ENODATA, EOPNOTSUPP, EPERM, ERANGE } from '../system/errno.ts';
import { type CString, fgetxattr, flistxattr, fremovexattr, fsetxattr } from '../system/libc.ts';
import { removexattrAt, setxattrAt } from '../system/xattr.ts';
import { orphanFd } from './attributes.ts';
import { clearSgid, targetOf } from './change-attributes.ts';
import { ensureUpper } from './ensure-upper.ts';
import type { Node } from './inode-table.ts';
import type { LayerDirectory } from './layer.ts';
import { cStringOf, type Name, nameOfCString } from './names.ts';
import type { OverlayState } from './overlay-state.ts';

const ACL = 'system.posix_acl_';
const ESCAPE = 'overlay.';
const FUSE_OVERLAYFS = 'user.fuseoverlayfs.';

/** Stored under this name; undefined: it does not exist as far as users are concerned. */
export function storedName(o: OverlayState, name: Name): Name | undefined {
  const { prefix } = o.attributeNames;
  if (name.startsWith(prefix)) return `${prefix}${ESCAPE}${name.slice(prefix.length)}`;
  return isHidden(o, name) ? undefined : name;
}

/** The name that users see; undefined: none. */
export function shownName(o: OverlayState, stored: Name): Name | undefined {
  const { prefix } = o.attributeNames;
  if (!stored.startsWith(prefix)) return isHidden(o, stored) ? undefined : stored;
  const rest = stored.slice(prefix.length);
  return rest.startsWith(ESCAPE) ? `${prefix}${rest.slice(ESCAPE.length)}` : undefined;
}

function isHidden(o: OverlayState, name: Name): boolean {
  if (name.startsWith(FUSE_OVERLAYFS)) return true;
  if (o.options.noacl && name.startsWith(ACL)) return true;
  const { override } = o.attributeNames;
  return override !== undefined && name === nameOfCString(override);
}

/** Where a node's attributes are read: an entry, the directory itself, or a descriptor. */
function source(
  o: OverlayState,
  node: Node,
): { directory: LayerDirectory; name: CString | undefined } | number {
  if (node.directory !== undefined) {
    const directory = o.parts.open(node.directory.parts[0]!);
    return typeof directory === 'number' ? directory : { directory, name: undefined };
  }
  const part = node.lower?.part ?? node.parent!.directory!.parts[0]!;
  const directory = o.parts.open(part);
  if (typeof directory === 'number') return directory;
  return { directory, name: cStringOf(node.lower?.name ?? node.name) };
}

export function getAttribute(o: OverlayState, node: Node, name: Name, out: Uint8Array): number {
  if (o.options.noacl && name.startsWith(ACL)) return -EOPNOTSUPP;
  const stored = storedName(o, name);
  if (stored === undefined) return -ENODATA;
  if (node.isOrphan && node.lower === undefined && node.directory === undefined) {
    const fd = orphanFd(node);
    return fd < 0 ? fd : fgetxattr(fd, cStringOf(stored), out);
  }
  const from = source(o, node);
  return typeof from === 'number' ? from : from.directory.getxattr(from.name, cStringOf(stored), out);
}

/** `trusted.*` is listed for root alone: the kernel asks for the right to administer, which a request does not tell. */
export function listAttributes(o: OverlayState, node: Node, out: Uint8Array, caller: Caller): number {
  const length = listStored(o, node, o.text);
  if (length <= 0) return length;
  let shown = '';
  for (const stored of o.text.toString('latin1', 0, length - 1).split('\0')) {
    const name = shownName(o, stored);
    if (name === undefined || (caller.uid !== 0 && name.startsWith('trusted.'))) continue;
    shown += `${name}\0`;
  }
  if (out.length === 0) return shown.length;
  if (shown.length > out.length) return -ERANGE;
  out.set(Buffer.from(shown, 'latin1'));
  return shown.length;
}

function listStored(o: OverlayState, node: Node, out: Uint8Array): number {
  if (node.isOrphan && node.lower === undefined && node.directory === undefined) {
    const fd = orphanFd(node);
    return fd < 0 ? fd : flistxattr(fd, out);
  }
  const from = source(o, node);
  return typeof from === 'number' ? from : from.directory.listxattr(from.name, out);
}

export function setAttribute(
  o: OverlayState,
  node: Node,
  name: Name,
  value: Uint8Array,
  flags: number,
  setxattrFlags: number,
): number {
  const stored = settableName(o, name);
  if (typeof stored === 'number') return stored;
  let code = ensureUpper(o, node);
  if (code < 0) return code;
  const at = targetOf(o, node);
  if (at.directory < 0) return at.directory;
  code =
    at.fd >= 0
      ? fsetxattr(at.fd, cStringOf(stored), value, flags)
      : setxattrAt(at.directory, at.name, cStringOf(stored), value, flags);
  if (code >= 0 && (setxattrFlags & FUSE_SETXATTR_ACL_KILL_SGID) !== 0) code = clearSgid(o, node, at);
  // An access control list changes the mode; a default one, what new entries get.
  if (node.directory !== undefined) node.directory.newEntryMode = -1;
  return code;
}

export function removeAttribute(o: OverlayState, node: Node, name: Name): number {
  const stored = settableName(o, name);
  if (typeof stored === 'number') return stored;
  // Nothing to remove is no reason to copy up.
  const there = getAttribute(o, node, name, new Uint8Array(0));
  if (there < 0) return there;
  const code = ensureUpper(o, node);
  if (code < 0) return code;
  const at = targetOf(o, node);
  if (at.directory < 0) return at.directory;
  if (node.directory !== undefined) node.directory.newEntryMode = -1;
  return at.fd >= 0
    ? fremovexattr(at.fd, cStringOf(stored))
    : removexattrAt(at.directory, at.name, cStringOf(stored));
}

function settableName(o: OverlayState, name: Name): Name | number {
  if (o.options.noacl && name.startsWith(ACL)) return -EOPNOTSUPP;
  return storedName(o, name) ?? -EPERM;
}
