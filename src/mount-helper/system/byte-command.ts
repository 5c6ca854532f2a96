/**
 * Programs with arguments that are bytes. Node starts programs with text, written as UTF-8; where that would
 * change a byte, a shell writes the argument instead.
 */
import { isUtf8 } from 'node:buffer';

export interface Command {
  readonly file: string;
  readonly args: readonly string[];
}

/** For `spawn` and its kin. No word may hold a NUL. */
export function byteCommand(file: string, words: readonly (string | Buffer)[]): Command {
  if (words.every((word) => typeof word === 'string' || isUtf8(word))) {
    return { file, args: words.map(String) };
  }
  // $(...) cuts off newlines at the end: a full stop stands behind each word, and is taken away again.
  const made = words.map((word, i) => `w${i}=$(printf '%b.' '${octal(word)}'); w${i}=\${w${i}%.}`);
  const script = `${made.join('; ')}; exec "$0" ${words.map((_, i) => `"$w${i}"`).join(' ')}`;
  return { file: '/bin/sh', args: ['-c', script, file] };
}

/** Every byte as `\0nnn`, which `%b` of printf(1) takes back. */
function octal(word: string | Buffer): string {
  return [...Buffer.from(word)].map((byte) => `\\0${byte.toString(8).padStart(3, '0')}`).join('');
}
