/**
 * The text after `-o`, as mount(8), fuse-overlayfs and the kernel's overlayfs write it:
 *
 *     options  = option *( "," option )
 *     option   = name [ "=" value ]
 *     lowerdir = path *( ":" path )          topmost first
 *
 * A backslash takes the next byte literally, so `\,` `\:` and `\\` stand for themselves in a path. A value
 * of `context=` and its kin may stand between double quotes, as SELinux labels have commas; anywhere else
 * a quote is a byte like any other. All of it is bytes: paths need not be UTF-8.
 */
import { Git2dbError } from '../xet/errors.ts';

const COMMA = 0x2c;
const COLON = 0x3a;
const EQUALS = 0x3d;
const QUOTE = 0x22;
const BACKSLASH = 0x5c;

/** One option of the list. `value` still has its escapes; `text` is the whole as it stood there. */
export interface OptionText {
  readonly name: string;
  readonly value: Buffer | undefined;
  readonly text: Buffer;
}

/** Splits at commas. Empty options (`ro,,volatile`) are left out, as mount(8) does. */
export function splitOptions(text: Buffer): OptionText[] {
  const options: OptionText[] = [];
  let start = 0;
  while (start <= text.length) {
    const end = endOfOption(text, start);
    if (end > start) options.push(parseOption(text.subarray(start, end)));
    start = end + 1;
  }
  return options;
}

function endOfOption(text: Buffer, start: number): number {
  const quoted = /^\w*context="/.exec(text.toString('latin1', start, start + 32));
  const closing = quoted === null ? -1 : text.indexOf(QUOTE, start + quoted[0].length);
  const at = closing < 0 ? start : closing + 1;
  return findUnescaped(text, COMMA, at);
}

function parseOption(text: Buffer): OptionText {
  const equals = text.indexOf(EQUALS);
  if (equals < 0) return { name: text.toString(), value: undefined, text };
  return { name: text.toString('utf8', 0, equals), value: text.subarray(equals + 1), text };
}

/** The paths of `lowerdir`, without their escapes. */
export function splitPaths(value: Buffer): Buffer[] {
  const paths: Buffer[] = [];
  for (let start = 0; start <= value.length; ) {
    const end = findUnescaped(value, COLON, start);
    paths.push(unescapePath(value.subarray(start, end)));
    start = end + 1;
  }
  return paths;
}

/** Index of the first `byte` that no backslash precedes, or the length. */
function findUnescaped(text: Buffer, byte: number, start: number): number {
  let at = start;
  while (at < text.length && text[at] !== byte) at += text[at] === BACKSLASH ? 2 : 1;
  return Math.min(at, text.length);
}

export function unescapePath(escaped: Buffer): Buffer {
  if (!escaped.includes(BACKSLASH)) return escaped;
  const path = Buffer.alloc(escaped.length);
  let length = 0;
  for (let at = 0; at < escaped.length; at++) {
    if (escaped[at] === BACKSLASH && ++at === escaped.length) {
      throw new Git2dbError(
        'USAGE',
        `the path '${escaped}' ends in a single backslash; a backslash in a name is written twice`,
      );
    }
    path[length++] = escaped[at]!;
  }
  return path.subarray(0, length);
}

/** The inverse of `unescapePath`, for a place in an option list. */
export function escapePath(path: Buffer): Buffer {
  const escaped = Buffer.alloc(path.length * 2);
  let length = 0;
  for (const byte of path) {
    if (byte === COMMA || byte === COLON || byte === BACKSLASH) escaped[length++] = BACKSLASH;
    escaped[length++] = byte;
  }
  return escaped.subarray(0, length);
}
