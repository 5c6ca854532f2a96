/**
 * What a copy takes over from its original besides the content: owner, extended attributes (access
 * control lists and `security.*` are among them), mode and times.
 */
import type { XattrNamespace } from '../mount-options.ts';
import {
  E2BIG,
  EACCES,
  EINVAL,
  ENODATA,
  ENOSPC,
  ENOSYS,
  EOPNOTSUPP,
  EOVERFLOW,
  EPERM,
  ERANGE,
} from '../system/errno.ts';
import {
  type CString,
  cString,
  fchmod,
  fchmodat,
  fchown,
  fchownat,
  fsetxattr,
  utimensat,
} from '../system/libc.ts';
import {
  S_IFDIR,
  S_IFLNK,
  S_IFMT,
  S_IFREG,
  type Statx,
  statxAtime,
  statxAtimeNs,
  statxGid,
  statxMode,
  statxMtime,
  statxMtimeNs,
  statxType,
  statxUid,
} from '../system/statx.ts';
import { eachXattrName, setxattrAt, XATTR_LIST_MAX, XATTR_VALUE_MAX } from '../system/xattr.ts';
import type { LayerDirectory } from './layer.ts';
import { encodeOverrideStat } from './override-stat.ts';

export interface MetadataRules {
  readonly namespace: XattrNamespace;
  /**
   * `set`: a copy that cannot get its owner is an error. `record`: owner and mode go into
   * `overrideAttribute`, the file itself stays the server's. `try`: for mounts that show one owner for all.
   */
  readonly owners: 'set' | 'record' | 'try';
  readonly overrideAttribute: CString | undefined;
  readonly copiesAcls: boolean;
}

/** A copy under way: an entry of the directory with this descriptor, and open as `fd` if that is not -1. */
export interface CopyTarget {
  readonly directory: number;
  readonly name: CString;
  readonly fd: number;
}

const MODE_BITS = 0o7777;
/** What fuse-overlayfs keeps of its own in its layers; never shown. */
const FUSE_OVERLAYFS = 'user.fuseoverlayfs.';

const list = Buffer.allocUnsafeSlow(XATTR_LIST_MAX);
const value = Buffer.allocUnsafeSlow(XATTR_VALUE_MAX);

/** The attribute that holds the number of the inode that a file was copied from. */
export function originAttribute(namespace: XattrNamespace): CString {
  return cString(`${namespace}.overlay.git2db.origin`);
}

/** Owner and group of `stat`; 0 or `-errno`. EOVERFLOW: this user namespace does not know them. */
export function copyOwner(stat: Statx, target: CopyTarget, rules: MetadataRules): number {
  if (recordsOwner(stat, rules)) {
    const record = encodeOverrideStat({
      uid: statxUid(stat),
      gid: statxGid(stat),
      mode: statxMode(stat) & MODE_BITS,
    });
    return setXattr(target, rules.overrideAttribute!, record);
  }
  const code =
    target.fd === -1
      ? fchownat(target.directory, target.name, statxUid(stat), statxGid(stat))
      : fchown(target.fd, statxUid(stat), statxGid(stat));
  if (rules.owners === 'try' && (code === -EPERM || code === -EINVAL)) return 0;
  return code === -EINVAL ? -EOVERFLOW : code;
}

/** Attributes of users exist on these types only. */
function recordsOwner(stat: Statx, rules: MetadataRules): boolean {
  const type = statxType(stat);
  return (
    rules.owners === 'record' &&
    rules.overrideAttribute !== undefined &&
    (type === S_IFREG || type === S_IFDIR)
  );
}

/** All extended attributes but those that are an overlay's own; 0 or `-errno`. */
export function copyXattrs(
  source: LayerDirectory,
  name: CString | undefined,
  target: CopyTarget,
  rules: MetadataRules,
): number {
  const length = source.listxattr(name, list);
  if (length === -EOPNOTSUPP || length === -ENOSYS || length === 0) return 0;
  if (length < 0) return length === -ERANGE ? -E2BIG : length;
  let first = 0;
  eachXattrName(list.subarray(0, length), (bytes) => {
    if (first < 0) return;
    const attribute = Buffer.from(bytes).toString('latin1');
    if (isCopied(attribute, rules)) first = copyXattr(source, name, target, cString(bytes), attribute);
  });
  return first;
}

function isCopied(attribute: string, rules: MetadataRules): boolean {
  const own = `${rules.namespace}.overlay.`;
  // `overlay.overlay.` is how an overlay within this one has its marks kept: to us it is content.
  if (attribute.startsWith(own)) return attribute.startsWith(`${own}overlay.`);
  if (!rules.copiesAcls && attribute.startsWith('system.posix_acl_')) return false;
  return !attribute.startsWith(FUSE_OVERLAYFS) && attribute !== overrideName(rules);
}

/** The record of the original is not that of the copy. */
function overrideName({ overrideAttribute }: MetadataRules): string | undefined {
  return overrideAttribute && Buffer.from(overrideAttribute.subarray(0, -1)).toString('latin1');
}

function copyXattr(
  source: LayerDirectory,
  name: CString | undefined,
  target: CopyTarget,
  attribute: CString,
  text: string,
): number {
  const isPrivileged = text.startsWith('security.') || text.startsWith('trusted.');
  const length = source.getxattr(name, attribute, value);
  if (length === -ENODATA || length === -EOPNOTSUPP) return 0;
  if (length < 0) return isPrivileged && (length === -EPERM || length === -EACCES) ? 0 : length;
  const code = setXattr(target, attribute, value.subarray(0, length));
  // Only the privileged set these. Without them the copy has less rights than the original, never more.
  if (code === -EPERM && isPrivileged) return 0;
  // Lists of access rights must not be lost: without them the copy would be open to others.
  if (code === -EOPNOTSUPP && !isPrivileged && !text.startsWith('system.posix_acl_')) return 0;
  return code;
}

/** The origin is a convenience: where it cannot be kept, the copy has its own inode number. */
export function setOrigin(target: CopyTarget, origin: Uint8Array, rules: MetadataRules): number {
  const code = setXattr(target, originAttribute(rules.namespace), origin);
  const isLeftOut = code === -EPERM || code === -EOPNOTSUPP || code === -ENOSPC || code === -E2BIG;
  return isLeftOut ? 0 : code;
}

/** Permissions; last of all but the times, since owner, content and access control lists change them. */
export function copyMode(stat: Statx, target: CopyTarget, rules: MetadataRules): number {
  const mode = statxMode(stat);
  if ((mode & S_IFMT) === S_IFLNK) return 0;
  const kept = recordsOwner(stat, rules) ? serverMode(mode) : mode & MODE_BITS;
  return target.fd === -1 ? fchmodat(target.directory, target.name, kept) : fchmod(target.fd, kept);
}

/** The mode of a file whose owner is recorded only: the server must be able to use it. */
export function serverMode(mode: number): number {
  return (mode & 0o777) | ((mode & S_IFMT) === S_IFDIR ? 0o700 : 0o600);
}

export function copyTimes(stat: Statx, target: CopyTarget): number {
  const onDescriptor = target.fd !== -1;
  return utimensat(
    onDescriptor ? target.fd : target.directory,
    onDescriptor ? null : target.name,
    statxAtime(stat),
    statxAtimeNs(stat),
    statxMtime(stat),
    statxMtimeNs(stat),
  );
}

function setXattr(target: CopyTarget, attribute: CString, bytes: Uint8Array): number {
  return target.fd === -1
    ? setxattrAt(target.directory, target.name, attribute, bytes)
    : fsetxattr(target.fd, attribute, bytes);
}
