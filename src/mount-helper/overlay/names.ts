/**
 * Names are bytes. In maps they are latin1 strings, one character a byte, so that any name is kept as it
 * is; the system gets them with a NUL at the end.
 */
import { type CString, type FixedBytes, fixedBytes } from '../../native/library.ts';

/** The longest name of Linux, and its NUL. */
const NAME_ROOM = 256;

/** One character for each byte. */
export type Name = string;

/** What `toString('latin1')` calls, which by itself wants a Buffer. Node's types leave it out. */
const { latin1Slice } = Buffer.prototype as unknown as {
  latin1Slice(this: Uint8Array, start: number, end: number): string;
};

function latin1(bytes: Uint8Array, length: number): Name {
  return latin1Slice.call(bytes, 0, length);
}

/** From a name without its NUL. */
export function nameOf(bytes: Uint8Array): Name {
  return latin1(bytes, bytes.length);
}

/** From a name with its NUL. */
export function nameOfCString(name: CString): Name {
  return latin1(name, name.length - 1);
}

export function bytesOf(name: Name): Uint8Array {
  return Buffer.from(name, 'latin1');
}

export function cStringOf(name: Name): CString {
  const ended = Buffer.allocUnsafe(name.length + 1);
  ended.write(name, 0, 'latin1');
  ended[name.length] = 0;
  return ended;
}

/** Room for one name, to be used for one after another by `cStringIn`. */
export function nameRoom(): FixedBytes {
  return fixedBytes(NAME_ROOM);
}

/** As `cStringOf`, in memory that is there already: good until the next name is put there. */
export function cStringIn(room: FixedBytes, name: Name): CString {
  const { length } = name;
  // No file system has such names; it shall say so.
  if (length >= NAME_ROOM) return cStringOf(name);
  for (let i = 0; i < length; i++) room[i] = name.charCodeAt(i);
  room[length] = 0;
  return room;
}

/** A copy: the name lies in a buffer of the server, and outlives the request in ours. */
export function endedCopy(bytes: Uint8Array): CString {
  const ended = Buffer.allocUnsafe(bytes.length + 1);
  ended.set(bytes);
  ended[bytes.length] = 0;
  return ended;
}
