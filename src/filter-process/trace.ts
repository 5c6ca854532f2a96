/**
 * A diary of the conversation with git, for people who debug. Whoever traces holds a `Trace | undefined`
 * and calls `trace?.(…)`: with tracing off not even the text is made. Never writes to stdout, which
 * belongs to the protocol.
 */

import { writeSync } from 'node:fs';

/** Notes one event, a line of text without its newline. */
export type Trace = (event: string) => void;

/**
 * A trace that writes to the descriptor `fd`: stderr, or a file opened for appending, which several
 * filters may share since a line is one write. A failed write is ignored: tracing must not break a filter.
 */
export function traceTo(fd: number): Trace {
  return (event) => {
    const line = `git2db-filter[${process.pid}] +${performance.now().toFixed(1)}ms ${event}\n`;
    try {
      writeSync(fd, line);
    } catch {
      // A full disk or a closed terminal is no reason to fail a checkout.
    }
  };
}

/**
 * A path of any bytes on one line, in the manner of git: as it is if it is plain UTF-8, else in double
 * quotes with C escapes.
 */
export function quotePath(path: Uint8Array): string {
  const bytes = Buffer.from(path.buffer, path.byteOffset, path.byteLength);
  const text = bytes.toString();
  if (text !== '' && !UNPRINTABLE.test(text) && Buffer.from(text).equals(bytes)) return text;
  let quoted = '';
  for (const byte of bytes) quoted += escapeByte(byte);
  return `"${quoted}"`;
}

// Also what turns the direction of text around, or ends a line: a terminal would show another name.
// biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what is looked for
const UNPRINTABLE = /[\u0000-\u001f"\\\u007f-\u009f\u200e\u200f\u2028-\u202e\u2066-\u2069]/;

const ESCAPES: Readonly<Record<number, string>> = {
  9: '\\t',
  10: '\\n',
  13: '\\r',
  34: '\\"',
  92: '\\\\',
};

function escapeByte(byte: number): string {
  const plain = byte >= 0x20 && byte < 0x7f ? String.fromCharCode(byte) : undefined;
  return ESCAPES[byte] ?? plain ?? `\\${byte.toString(8).padStart(3, '0')}`;
}
