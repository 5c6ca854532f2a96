/** Which pointer some content is, if any. Each kind begins with another byte, so content is told apart at once. */
import {
  parseJsonPointer,
  parseTomlPointer,
  type XetJsonPointer,
  type XetTomlPointer,
} from './foreign-pointer.ts';
import { type LfsPointer, parseLfsPointer } from './lfs-pointer.ts';
import { parseXetPointer, type XetPointer } from './xet-pointer.ts';

/** Content of more bytes is never a pointer, of any kind. */
export const POINTER_MAX = 1024;

export type Pointer = XetPointer | XetJsonPointer | XetTomlPointer | LfsPointer;

/** `bytes`: the whole content, not a beginning of it. */
export function sniffPointer(bytes: Uint8Array): Pointer | undefined {
  if (bytes.length > POINTER_MAX) return undefined;
  switch (bytes[0]) {
    case 0x7b: {
      // '{'
      const text = latin1(bytes);
      return parseXetPointer(text) ?? parseJsonPointer(text);
    }
    case 0x23: // '#'
      return parseTomlPointer(latin1(bytes));
    case 0x76: // 'v'
      return parseLfsPointer(latin1(bytes));
    default:
      return undefined;
  }
}

/** One character per byte: every byte outside ASCII stays something that no pointer has. */
function latin1(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('latin1');
}
