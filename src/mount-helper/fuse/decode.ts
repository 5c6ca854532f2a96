/**
 * Reading requests. A frame may be wrong in any way: nothing here reads beyond its end, and nothing
 * throws.
 */
import { EINVAL, ENAMETOOLONG } from '../system/errno.ts';
import type { AttributesChange } from './file-system.ts';
import { FIXED_PART, UNKNOWN } from './opcodes.ts';
import { NAME_MAX, REQUEST_HEADER } from './protocol.ts';

/** One request: `bytes[0, length)`; the rest of `bytes` means nothing. */
export interface Frame {
  readonly bytes: Uint8Array;
  readonly view: DataView;
  length: number;
}

export function createFrame(size: number): Frame {
  // No Buffer: its views, one for each name, are made by several functions in JavaScript.
  const bytes = new Uint8Array(size);
  return { bytes, view: new DataView(bytes.buffer), length: 0 };
}

/** The same request in memory of its own. */
export function copyFrame(frame: Frame): Frame {
  const copy = createFrame(frame.length);
  copy.bytes.set(frame.bytes.subarray(0, frame.length));
  copy.length = frame.length;
  return copy;
}

/** A header is there, and says the length that was read. */
export function isWhole(frame: Frame): boolean {
  return frame.length >= REQUEST_HEADER && frame.view.getUint32(0, true) === frame.length;
}

export function opcodeOf(frame: Frame): number {
  return frame.view.getUint32(4, true);
}

/** Names the request in replies and interrupts. */
export function uniqueOf(frame: Frame): number {
  return getUint64(frame.view, 8);
}

/** The fixed part of the body is there. Unknown opcodes have none. */
export function hasFixedPart(frame: Frame, opcode: number): boolean {
  const length = opcode < FIXED_PART.length ? FIXED_PART[opcode]! : UNKNOWN;
  return length === UNKNOWN || frame.length >= REQUEST_HEADER + length;
}

/** Exact up to 2^53, beyond that the nearest double: who takes sizes or offsets refuses those. */
export function getUint64(view: DataView, at: number): number {
  return view.getUint32(at + 4, true) * 0x100000000 + view.getUint32(at, true);
}

export function getInt64(view: DataView, at: number): number {
  return view.getInt32(at + 4, true) * 0x100000000 + view.getUint32(at, true);
}

/** Offset after the NUL of the string at `start`, or -1 if the frame ends before. */
export function stringEnd(frame: Frame, start: number): number {
  const { bytes, length } = frame;
  for (let at = start; at < length; at++) {
    if (bytes[at] === 0) return at + 1;
  }
  return -1;
}

/**
 * Offset after the NUL of the name at `start`, or -errno for what cannot be one entry of a directory:
 * no end, empty, `.`, `..`, with a slash, or longer than a file system takes.
 */
export function nameEnd(frame: Frame, start: number): number {
  const { bytes, length } = frame;
  for (let at = start; at < length; at++) {
    const byte = bytes[at];
    if (byte === 0x2f) return -EINVAL;
    if (byte !== 0) continue;
    const size = at - start;
    if (size > NAME_MAX) return -ENAMETOOLONG;
    if (size === 0 || (size <= 2 && bytes[start] === 0x2e && bytes[at - 1] === 0x2e)) return -EINVAL;
    return at + 1;
  }
  return -EINVAL;
}

/** Reads the body of SETATTR into `out`. */
export function decodeAttributesChange(view: DataView, out: AttributesChange): void {
  const at = REQUEST_HEADER;
  out.valid = view.getUint32(at, true);
  out.handle = getUint64(view, at + 8);
  out.size = getUint64(view, at + 16);
  out.atime = getInt64(view, at + 32);
  out.mtime = getInt64(view, at + 40);
  out.atimeNs = view.getUint32(at + 56, true);
  out.mtimeNs = view.getUint32(at + 60, true);
  out.mode = view.getUint32(at + 68, true);
  out.uid = view.getUint32(at + 76, true);
  out.gid = view.getUint32(at + 80, true);
}
