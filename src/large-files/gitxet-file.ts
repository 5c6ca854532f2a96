/**
 * `.gitxet`: where a repository says that the content of its large files is kept, tracked by git and so
 * written by anybody who can commit. It names places and files, never anything that is run:
 *
 *     # comment
 *     [xet]
 *         url = https://xet.example.org/team/models
 *         include = models/
 *         exclude = *.tmp
 *
 * It is a subset of git's configuration syntax that means the same to git: one section, one setting a line,
 * no quotes, escapes, continuations or comments behind a value. `url` stands once at most, `include` and
 * `exclude` as often as is liked. Everything else is an error that names its line.
 */

import { PathPatterns } from '../git/path-patterns.ts';
import { Git2dbError } from '../xet/errors.ts';

export const GITXET_FILE = '.gitxet';

/** More is not read. */
export const GITXET_MAX = 64 * 1024;
const MAX_PATTERNS = 1000;

export interface GitxetFile {
  /** As written; who uses it decides whether it may be used. */
  readonly url: string | undefined;
  /** Files that are fetched; all where there are none. See src/git/path-patterns.ts. */
  readonly include: readonly string[];
  /** Files that are not. */
  readonly exclude: readonly string[];
}

/** Throws INVALID_CONFIG. `name`: where it was found, for messages. */
export function parseGitxet(bytes: Uint8Array, name: string): GitxetFile {
  if (bytes.length > GITXET_MAX) throw invalid(name, 0, `expected at most ${GITXET_MAX} bytes, found more`);
  let text: string;
  try {
    text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    throw invalid(name, 0, 'expected UTF-8, found other bytes');
  }
  let url: string | undefined;
  const lists: Readonly<Record<'include' | 'exclude', string[]>> = { include: [], exclude: [] };
  let isInSection = false;
  for (const [index, raw] of text.split('\n').entries()) {
    const number = index + 1;
    const line = raw.replace(/\r$/, '').trim();
    if (line === '' || line.startsWith('#') || line.startsWith(';')) continue;
    if (/^\[xet\]$/i.test(line)) {
      isInSection = true;
      continue;
    }
    const setting = /^([A-Za-z][A-Za-z0-9-]*)[ \t]*=[ \t]*(.*)$/.exec(line);
    if (!isInSection || setting === null) {
      throw invalid(name, number, `expected ${isInSection ? 'NAME = VALUE' : '[xet]'}, found ${shown(line)}`);
    }
    const [, written, value] = setting as unknown as [string, string, string];
    const key = written.toLowerCase();
    checkValue(name, number, value);
    if (key === 'url') {
      if (url !== undefined) throw invalid(name, number, 'expected one url, found a second one');
      url = value;
    } else if (key === 'include' || key === 'exclude') {
      if (lists[key].length === MAX_PATTERNS) {
        throw invalid(name, number, `expected at most ${MAX_PATTERNS} patterns of ${key}, found more`);
      }
      checkPattern(name, number, value);
      lists[key].push(value);
    } else {
      throw invalid(name, number, `expected url, include or exclude, found ${shown(written)}`);
    }
  }
  return { url, ...lists };
}

function checkValue(name: string, number: number, value: string): void {
  if (value === '') throw invalid(name, number, 'expected a value, found none');
  const bad = /[\p{Cc}\p{Cs}\p{Zl}\p{Zp}\u200b-\u200f\u202a-\u202e\u2066-\u2069\ufeff"\\#;]/u.exec(value);
  if (bad !== null) {
    const what = /["\\#;]/.test(bad[0]) ? bad[0] : `the character ${codeOf(bad[0])}`;
    throw invalid(name, number, `expected a plain value, found one with ${what}`);
  }
}

function checkPattern(name: string, number: number, pattern: string): void {
  try {
    new PathPatterns([pattern], []);
  } catch (error) {
    if (!(error instanceof Git2dbError)) throw error;
    throw invalid(name, number, error.message);
  }
}

function codeOf(character: string): string {
  return `U+${character.codePointAt(0)!.toString(16).toUpperCase().padStart(4, '0')}`;
}

function shown(text: string): string {
  return JSON.stringify(text.length > 60 ? `${text.slice(0, 60)}...` : text);
}

function invalid(name: string, line: number, why: string): Git2dbError {
  const place = line === 0 ? name : `${name} line ${line}`;
  return new Git2dbError('INVALID_CONFIG', `${place}: ${why}; correct the file, or remove it`, {
    data: { file: name, line },
  });
}
