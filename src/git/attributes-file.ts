/**
 * The text of a `.gitattributes` file (gitattributes(5)), read and edited as bytes: comments, order,
 * line ends and everything not asked about stay as they are.
 *
 *     PATTERN attr -attr !attr attr=value     blanks between; a later line wins, attribute by attribute
 *     "PATTERN"                               with C escapes, for a pattern with blanks in it
 *     # comment
 *     [attr]NAME attr ...                     a macro, left alone here
 *
 * A pattern that starts with `!` is ignored by git, and one that ends in `/`, or has a part that is
 * empty, `.` or `..`, matches nothing. Git reads no line of 2048 bytes or more.
 */

import { Git2dbError } from '../xet/errors.ts';

export interface TrackedPattern {
  /** As git understands it: without quotes. */
  readonly pattern: string;
  /** `filter=xet`, `-text`: as written. */
  readonly attributes: readonly string[];
  /** Counts from 1. */
  readonly line: number;
}

/** How the last line of a pattern compares with the wanted attributes. */
export type Tracking =
  | { readonly state: 'absent' }
  | { readonly state: 'same'; readonly line: number }
  | { readonly state: 'other'; readonly line: number; readonly attributes: readonly string[] };

export interface AttributesEdit {
  /** The new text; the bytes given, if nothing changed. */
  readonly text: Buffer;
  readonly changed: boolean;
}

export interface AttributesAdd extends AttributesEdit {
  /** What was there before: `other` means that line now has the wanted attributes and its unrelated ones. */
  readonly before: Tracking;
}

/** Every pattern line of `text`, in order; macros and comments left out. */
export function listPatterns(text: Uint8Array): TrackedPattern[] {
  const found: TrackedPattern[] = [];
  for (const [index, line] of splitLines(text).entries()) {
    const parsed = parseLine(line);
    if (parsed === undefined) continue;
    found.push({ pattern: utf8(parsed.pattern), attributes: parsed.attributes.map(utf8), line: index + 1 });
  }
  return found;
}

/** Whether `pattern` has all of `attributes`, has others of their names, or has no line at all. */
export function trackingOf(text: Uint8Array, pattern: string, attributes: readonly string[]): Tracking {
  const found = lastLineOf(splitLines(text), pattern);
  if (found === undefined) return { state: 'absent' };
  const line = found.index + 1;
  if (attributes.map(bytes).every((wanted) => lastOf(found.parsed.attributes, wanted) === wanted)) {
    return { state: 'same', line };
  }
  return { state: 'other', line, attributes: found.parsed.attributes.map(utf8) };
}

/**
 * Gives `pattern` the `attributes`. A pattern that has a line keeps it, and the attributes on it that
 * are about other names; else a line is added at the end. Doing it twice changes nothing. Throws
 * USAGE for a new pattern that git would not use.
 */
export function addLine(text: Uint8Array, pattern: string, attributes: readonly string[]): AttributesAdd {
  const before = trackingOf(text, pattern, attributes);
  if (before.state === 'same') return { text: Buffer.from(text), changed: false, before };
  if (before.state === 'absent') checkPattern(pattern);
  const lines = splitLines(text);
  const wanted = attributes.map(bytes);
  const found = lastLineOf(lines, pattern);
  if (found === undefined) {
    const end = lineEndOf(lines);
    const last = lines.at(-1);
    if (last?.end === '' && last.body !== '') lines[lines.length - 1] = { ...last, end };
    const mark = last?.body === '' && last.end === '' ? lines.pop()!.mark : '';
    lines.push({ mark, body: formatLine(bytes(quotePattern(pattern)), wanted), end });
  } else {
    const names = new Set(wanted.map(nameOf));
    const unrelated = found.parsed.attributes.filter((attribute) => !names.has(nameOf(attribute)));
    // Ours come last: an unrelated one may be a macro, as `binary` is, that sets some of the same.
    const body = formatLine(found.parsed.written, [...unrelated, ...wanted]);
    lines[found.index] = { ...lines[found.index]!, body };
  }
  return { text: joinLines(lines), changed: true, before };
}

/**
 * Takes `attributes` off the lines of `pattern`, and drops a line that has none left. Only lines that
 * hold the first of the attributes are touched: it is the one that makes the pattern tracked.
 */
export function removePattern(
  text: Uint8Array,
  pattern: string,
  attributes: readonly string[],
): AttributesEdit {
  const wanted = canonicalPattern(bytes(pattern));
  const unwanted = attributes.map(bytes);
  let changed = false;
  const lines = splitLines(text).flatMap((line) => {
    const parsed = parseLine(line);
    if (parsed === undefined || canonicalPattern(parsed.pattern) !== wanted) return [line];
    if (unwanted[0] === undefined || !parsed.attributes.includes(unwanted[0])) return [line];
    changed = true;
    const left = parsed.attributes.filter((attribute) => !unwanted.includes(attribute));
    if (left.length > 0) return [{ ...line, body: formatLine(parsed.written, left) }];
    return line.mark === '' ? [] : [{ mark: line.mark, body: '', end: '' }];
  });
  return { text: changed ? joinLines(lines) : Buffer.from(text), changed };
}

/**
 * `pattern` as it is written at the start of a line: in quotes if a reader would otherwise split it or
 * take it for a comment. Letters beyond ASCII need none; git compares bytes.
 */
export function quotePattern(pattern: string): string {
  // A leading "!" means "not", which git ignores here, quoted or not: only a glob escape makes it a name.
  const literal = pattern.startsWith('!') ? `\\${pattern}` : pattern;
  const chars = [...literal];
  if (!/^["#]/.test(literal) && !chars.some((char) => char === ' ' || isControl(char))) return literal;
  const escaped = chars.map((char) => {
    const letter = C_LETTERS[char];
    if (letter !== undefined) return `\\${letter}`;
    return isControl(char) ? `\\${char.charCodeAt(0).toString(8).padStart(3, '0')}` : char;
  });
  return `"${escaped.join('')}"`;
}

function isControl(char: string): boolean {
  return char < ' ' || char === '\x7f';
}

const C_LETTERS: Readonly<Record<string, string>> = {
  '"': '"',
  '\\': '\\',
  '\x07': 'a',
  '\b': 'b',
  '\t': 't',
  '\n': 'n',
  '\v': 'v',
  '\f': 'f',
  '\r': 'r',
};
const C_ESCAPES = new Map(Object.entries(C_LETTERS).map(([char, letter]) => [letter, char]));

/** Git passes over a line of this many bytes or more. */
const LINE_LIMIT = 2048;

/** One line; `body` holds its bytes, one a character (latin1), so that nothing is lost. */
interface Line {
  /** A byte order mark before the first line, else empty. */
  readonly mark: string;
  readonly body: string;
  readonly end: string;
}

interface ParsedLine {
  /** The pattern as it stands in the file, with quotes if it has them. */
  readonly written: string;
  readonly pattern: string;
  readonly attributes: readonly string[];
}

const UTF8_MARK = '\xef\xbb\xbf';

function splitLines(text: Uint8Array): Line[] {
  const whole = Buffer.from(text.buffer, text.byteOffset, text.length).toString('latin1');
  const mark = whole.startsWith(UTF8_MARK) ? UTF8_MARK : '';
  const lines: Line[] = [];
  for (const [, body, end] of whole.slice(mark.length).matchAll(/([^\n]*?)(\r?\n|$)/g)) {
    if (body !== '' || end !== '')
      lines.push({ mark: lines.length === 0 ? mark : '', body: body!, end: end! });
  }
  if (lines.length === 0 && mark !== '') lines.push({ mark, body: '', end: '' });
  return lines;
}

function joinLines(lines: readonly Line[]): Buffer {
  return Buffer.from(lines.map(({ mark, body, end }) => mark + body + end).join(''), 'latin1');
}

/** The line end most lines have; `\n` for a new file. */
function lineEndOf(lines: readonly Line[]): string {
  const ended = lines.filter(({ end }) => end !== '');
  const crlf = ended.filter(({ end }) => end === '\r\n').length;
  return crlf * 2 > ended.length ? '\r\n' : '\n';
}

function parseLine({ body }: Line): ParsedLine | undefined {
  const line = body.replace(/^[ \t\r]+/, '');
  if (line === '' || line.startsWith('#')) return undefined;
  const quoted = /^"((?:[^"\\]|\\(?:[abtnvfr"\\]|[0-3][0-7]{2}))*)"/.exec(line);
  const written = quoted === null ? /^[^ \t\r]+/.exec(line)![0] : quoted[0];
  const pattern = quoted === null ? written : unquote(quoted[1]!);
  if (/^\[attr\]./.test(pattern)) return undefined;
  const attributes = line.slice(written.length).match(/[^ \t\r]+/g) ?? [];
  return { written, pattern, attributes };
}

function unquote(text: string): string {
  return text.replace(/\\([0-7]{3}|.)/g, (_, code: string) =>
    code.length === 3 ? String.fromCharCode(Number.parseInt(code, 8)) : C_ESCAPES.get(code)!,
  );
}

function lastLineOf(
  lines: readonly Line[],
  pattern: string,
): { readonly index: number; readonly parsed: ParsedLine } | undefined {
  const wanted = canonicalPattern(bytes(pattern));
  for (let index = lines.length - 1; index >= 0; index--) {
    const parsed = parseLine(lines[index]!);
    if (parsed !== undefined && canonicalPattern(parsed.pattern) === wanted) return { index, parsed };
  }
  return undefined;
}

/** Equal for the ways of writing one pattern: `[[:space:]]` (git-lfs) for a blank, `\#` and `\!` in front. */
function canonicalPattern(pattern: string): string {
  return pattern.replaceAll('[[:space:]]', ' ').replace(/^\\(?=[#!])/, '');
}

function formatLine(written: string, attributes: readonly string[]): string {
  const line = [written, ...attributes].join(' ');
  if (line.length < LINE_LIMIT) return line;
  throw new Git2dbError(
    'USAGE',
    `the .gitattributes line of ${utf8(written)} would have ${line.length} bytes; git passes over lines ` +
      `of ${LINE_LIMIT} or more: shorten the pattern`,
  );
}

function checkPattern(pattern: string): void {
  let wrong: string | undefined;
  if (pattern === '') wrong = 'an empty pattern matches nothing';
  else if (pattern.includes('\0')) wrong = 'a pattern cannot hold a NUL byte';
  else if (pattern.startsWith('[attr]')) wrong = 'a line that starts with [attr] defines a macro';
  else if (pattern.endsWith('/')) {
    wrong = `a pattern that ends in / matches no file; for everything below it write ${pattern}**`;
  } else if (/^(\.\/)+/.test(pattern)) {
    wrong = `a pattern is no path, and none that begins with ./ matches a file; write ${pattern.replace(/^(\.\/+)+/, '/')}`;
  } else if (/(^|\/)\.\.?(\/|$)/.test(pattern)) {
    wrong =
      'no . or .. matches a file; a pattern is for what lies below its .gitattributes: go to that directory';
  } else if (pattern.includes('//')) {
    wrong = `a pattern with // matches no file; write ${pattern.replaceAll(/\/+/g, '/')}`;
  }
  if (wrong !== undefined) {
    throw new Git2dbError(
      'USAGE',
      `cannot put the pattern ${JSON.stringify(pattern)} into .gitattributes: ${wrong}`,
    );
  }
}

/** `filter` of `filter=xet`, `text` of `-text` and `!text`. */
function nameOf(attribute: string): string {
  return /^[-!]?([^=]*)/.exec(attribute)![1]!;
}

/** The attribute on a line that decides about the name of `attribute`: the last of that name. */
function lastOf(present: readonly string[], attribute: string): string | undefined {
  return present.findLast((candidate) => nameOf(candidate) === nameOf(attribute));
}

/** Text as one character a byte, and back. */
function bytes(text: string): string {
  return Buffer.from(text, 'utf8').toString('latin1');
}

function utf8(text: string): string {
  return Buffer.from(text, 'latin1').toString('utf8');
}
