/**
 * Words of a command line that are bytes. Node writes the words of a program as UTF-8; where that would
 * change a byte of a path, a shell makes the word instead.
 */
import { isUtf8 } from 'node:buffer';

/** A word for git: text, or the bytes of a path that need not be UTF-8. */
export type GitArg = string | Uint8Array;

/** The same command in words that are text. No word may hold a NUL. */
export function textWords(words: readonly GitArg[]): string[] {
  if (words.every((word) => typeof word === 'string' || isUtf8(word))) return words.map(shownWord);
  // $(...) cuts off newlines at the end: a full stop stands behind each word, and is taken away again.
  const made = words.map((word, i) => `w${i}=$(printf '%b.' '${octal(word)}'); w${i}=\${w${i}%.}`);
  return ['/bin/sh', '-c', `${made.join('; ')}; exec ${words.map((_, i) => `"$w${i}"`).join(' ')}`];
}

export function shownWord(word: GitArg): string {
  return typeof word === 'string' ? word : Buffer.from(word).toString('utf8');
}

/** Every byte as `\0nnn`, which `%b` of printf(1) takes back. */
function octal(word: GitArg): string {
  return [...Buffer.from(word as Uint8Array)]
    .map((byte) => `\\0${byte.toString(8).padStart(3, '0')}`)
    .join('');
}
