/** Whiteouts that are names: `.wh.NAME` hides NAME of the layers below, `.wh..wh..opq` all of a directory. */
import { type CString, cString } from '../system/libc.ts';

const PREFIX = Buffer.from('.wh.');
export const WHITEOUT_PREFIX_LENGTH = PREFIX.length;
export const OPAQUE_NAME = cString('.wh..wh..opq');

/** The name begins with `.wh.`. */
export function isWhiteoutName(name: Uint8Array): boolean {
  return name[0] === 0x2e && name[1] === 0x77 && name[2] === 0x68 && name[3] === 0x2e;
}

/** `.wh.NAME` for NAME, both with their NUL. */
export function whiteoutName(name: CString): CString {
  return Buffer.concat([PREFIX, name]);
}
