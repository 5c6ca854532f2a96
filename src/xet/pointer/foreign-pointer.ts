/**
 * Pointers that other Xet programs wrote. They are read, and handed back byte for byte, but never
 * written by us.
 *
 * JSON, xet-core's file info; `sha256` is left out when it is not known, a final newline may be there:
 *
 *     {"hash":"<64 lower-case digits>","file_size":<bytes>,"sha256":"<64 lower-case digits>"}
 *
 * TOML, the first git-xet; TOML writers differ in the quotes only, the order is that of the alphabet:
 *
 *     # xet version 0
 *     filesize = <bytes>
 *     hash = '<64 lower-case digits>'
 *
 * (Such a text of 150 bytes or more was never a pointer; one of this form cannot be that long.)
 */
export interface XetJsonPointer {
  readonly kind: 'xet-json';
  /** File hash, string form. */
  readonly hash: string;
  readonly size: number;
  readonly sha256?: string;
}

export interface XetTomlPointer {
  readonly kind: 'xet-toml';
  /** File hash, string form. */
  readonly hash: string;
  readonly size: number;
}

const JSON_POINTER =
  /^\{"hash":"([0-9a-f]{64})","file_size":(0|[1-9][0-9]{0,15})(?:,"sha256":"([0-9a-f]{64})")?\}\n?$/;
const TOML_POINTER = /^# xet version 0\nfilesize = (0|[1-9][0-9]{0,15})\nhash = (['"])([0-9a-f]{64})\2\n$/;

/** `text`: the whole content, one character per byte. */
export function parseJsonPointer(text: string): XetJsonPointer | undefined {
  const match = JSON_POINTER.exec(text);
  if (match === null) return undefined;
  const [, hash, digits, sha256] = match as unknown as [string, string, string, string | undefined];
  const size = Number(digits);
  if (!Number.isSafeInteger(size)) return undefined;
  return { kind: 'xet-json', hash, size, ...(sha256 === undefined ? {} : { sha256 }) };
}

/** `text`: the whole content, one character per byte. */
export function parseTomlPointer(text: string): XetTomlPointer | undefined {
  const match = TOML_POINTER.exec(text);
  if (match === null) return undefined;
  const [, digits, , hash] = match as unknown as [string, string, string, string];
  const size = Number(digits);
  return Number.isSafeInteger(size) ? { kind: 'xet-toml', hash, size } : undefined;
}
