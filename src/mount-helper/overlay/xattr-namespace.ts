/**
 * Which attributes an upper's marks are in, `trusted.overlay.*` or `user.overlay.*`, and who may mount
 * it. An upper read in the wrong namespace shows deleted files again, and files of zeros where the kernel
 * kept only metadata; so in doubt the answer is no.
 */
import { lstatSync, statSync } from 'node:fs';
import { Git2dbError } from '../../xet/errors.ts';
import type { Caller } from '../caller.ts';
import type { XattrNamespace } from '../mount-options.ts';
import { joinPath, showPath } from '../path.ts';
import { cString } from '../system/libc.ts';
import { llistxattr } from '../system/libc-xattr.ts';
import type { Stamp } from './stamp.ts';

/** What an upper without a stamp tells by itself. */
export interface UpperSigns {
  readonly upper: Buffer;
  readonly owner: number;
  /** Owner of `work/work`: the kernel makes it for whoever mounts. Undefined: there is none. */
  readonly kernelWorkOwner: number | undefined;
  /** Names of attributes of the upper directory; `trusted.*` show to the privileged alone. */
  readonly attributes: readonly string[];
}

const LIST_MAX = 65536;

export function readSigns(upper: Buffer, work: Buffer): UpperSigns {
  const list = Buffer.alloc(LIST_MAX);
  const length = llistxattr(cString(upper), list);
  return {
    upper,
    owner: statSync(upper).uid,
    kernelWorkOwner: lstatSync(joinPath(work, 'work'), { throwIfNoEntry: false })?.uid,
    attributes: list.toString('latin1', 0, Math.max(0, length)).split('\0').filter(Boolean),
  };
}

/** Throws UPPER_FOREIGN where `caller` could not read the marks. `asked`: by `userxattr` or the userns backend. */
export function chooseNamespace(
  stamp: Stamp | undefined,
  signs: UpperSigns,
  caller: Caller,
  asked: XattrNamespace | undefined,
): XattrNamespace {
  const found = stamp === undefined ? guessNamespace(signs, caller, asked) : stamp.namespace;
  if (asked !== undefined && asked !== found) {
    throw foreign(
      signs,
      `holds marks in ${found}.overlay.*, which a mount with userxattr or in a user namespace cannot read`,
      'take the kernel or the fuse backend, without userxattr',
    );
  }
  if (found === 'trusted' && !caller.isPrivileged) {
    throw foreign(
      signs,
      'was mounted by the system administrator, whose marks (trusted.overlay.*) this user cannot read',
      'mount it as root, or take an upper of your own',
    );
  }
  return found;
}

function guessNamespace(
  signs: UpperSigns,
  caller: Caller,
  asked: XattrNamespace | undefined,
): XattrNamespace {
  const has = (prefix: string) => signs.attributes.some((name) => name.startsWith(prefix));
  if (caller.isPrivileged) {
    if (has('trusted.overlay.')) return 'trusted';
    const isUsers = signs.kernelWorkOwner !== undefined && signs.kernelWorkOwner !== 0;
    return has('user.overlay.') || isUsers ? 'user' : (asked ?? 'trusted');
  }
  if (signs.owner !== caller.uid) {
    throw foreign(
      signs,
      `has no stamp and belongs to user ${signs.owner}, so it may hold marks that user ${caller.uid} cannot read`,
      'mount it as its owner, or take an upper of your own',
    );
  }
  const { kernelWorkOwner } = signs;
  const isTrusted = kernelWorkOwner !== undefined && kernelWorkOwner !== caller.uid;
  return has('trusted.overlay.') || isTrusted ? 'trusted' : 'user';
}

function foreign({ upper }: UpperSigns, what: string, remedy: string): Git2dbError {
  return new Git2dbError('UPPER_FOREIGN', `upperdir ${showPath(upper)} ${what}; ${remedy}`);
}
