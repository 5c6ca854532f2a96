/** Paths as bytes: what Node's `path` does, for names that need not be UTF-8. */
import { readlinkSync, realpathSync } from 'node:fs';

const SLASH = Buffer.from('/');

/** The directory this process is in. */
export function currentDirectory(): Buffer {
  return readlinkSync('/proc/self/cwd', { encoding: 'buffer' });
}

/** `path` seen from the absolute `from`, without `.`, doubled slashes and a slash at the end. `..` stays. */
export function resolvePath(from: Buffer, path: Buffer): Buffer {
  const whole = path[0] === SLASH[0] ? path : Buffer.concat([from, SLASH, path]);
  // Latin-1 maps each byte to one character and back.
  const parts = whole
    .toString('latin1')
    .split('/')
    .filter((part) => part !== '' && part !== '.');
  return Buffer.from(`/${parts.join('/')}`, 'latin1');
}

export function joinPath(directory: Buffer, name: Buffer | string): Buffer {
  const last = typeof name === 'string' ? Buffer.from(name) : name;
  return directory.length === 1 ? Buffer.concat([SLASH, last]) : Buffer.concat([directory, SLASH, last]);
}

/** Of an absolute path; the parent of `/` is itself. */
export function parentPath(path: Buffer): Buffer {
  const slash = path.lastIndexOf(SLASH);
  return slash <= 0 ? SLASH : path.subarray(0, slash);
}

/** What follows the last slash. */
export function lastName(path: Buffer): Buffer {
  return path.subarray(path.lastIndexOf(SLASH) + 1);
}

/** Without symbolic links and `..`; throws as the system does. */
export function realPath(path: Buffer): Buffer {
  return realpathSync.native(path, { encoding: 'buffer' });
}

/** What turns the direction of text around, or ends a line: a terminal would show another name. */
const MISLEADING = /[\u200e\u200f\u2028-\u202e\u2066-\u2069]/;

/** Most paths: a class of Unicode takes the engine longer to make out than all else here. */
const PLAIN = /^[\w./:@%+,=-]+$/;

/** For messages: in one line, as bash takes it back. */
export function showPath(path: Buffer): string {
  const text = path.toString();
  if (PLAIN.test(text)) return text;
  const isText = Buffer.from(text).equals(path);
  const isSafe = isText && !MISLEADING.test(text);
  if (isSafe && /^[^\p{Cc}'"\\$` *?]+$/u.test(text)) return text;
  if (isSafe && !/[\p{Cc}'\\]/u.test(text)) return `'${text}'`;
  const escaped = [...(isText ? text : path.toString('latin1'))].map((char) => {
    const code = char.codePointAt(0)!;
    if (code < 0x20 || code === 0x7f || (!isText && code > 0x7f)) {
      return `\\x${code.toString(16).padStart(2, '0')}`;
    }
    if (MISLEADING.test(char)) return `\\u${code.toString(16)}`;
    return char === "'" || char === '\\' ? `\\${char}` : char;
  });
  return `$'${escaped.join('')}'`;
}
