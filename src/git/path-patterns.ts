/**
 * Which files `--include` and `--exclude` mean. The patterns are those of .gitignore(5), without `!`:
 *
 *     *.bin           a file or directory of that name, anywhere
 *     models/big.bin  a path from the top of the work tree; so is /models
 *     models/         a directory, and all below it
 *     two stars as a whole name, between slashes: any number of directories
 *     [ab] ?          one character; never a slash
 *
 * A directory that matches stands for all below it. Bytes are compared, paths need be no UTF-8. Patterns may
 * come from a hostile repository: matching takes time in proportion to pattern and path, never more.
 */
import { Git2dbError } from '../xet/errors.ts';

const MAX_LENGTH = 4096;

type Token =
  | { readonly kind: 'byte'; readonly byte: number }
  | { readonly kind: 'class'; readonly has: Uint8Array }
  /** `*`: any bytes but slashes. */
  | { readonly kind: 'star' };

/** One part between slashes; undefined: `**`. */
type Part = readonly Token[] | undefined;

interface Pattern {
  readonly parts: readonly Part[];
  readonly directoryOnly: boolean;
}

const SLASH = 0x2f;

export class PathPatterns {
  readonly #include: readonly Pattern[];
  readonly #exclude: readonly Pattern[];

  /** Everything is included where `include` is empty. Throws USAGE for what is no pattern. */
  constructor(include: readonly string[], exclude: readonly string[]) {
    this.#include = include.map(compile);
    this.#exclude = exclude.map(compile);
  }

  /** True where no path is ruled out. */
  get isEmpty(): boolean {
    return this.#include.length + this.#exclude.length === 0;
  }

  /** `path`: of a file, from the top of the work tree, with slashes. */
  matches(path: Uint8Array): boolean {
    if (this.isEmpty) return true;
    const names = split(path);
    if (this.#exclude.some((pattern) => matchesPath(pattern, names))) return false;
    return this.#include.length === 0 || this.#include.some((pattern) => matchesPath(pattern, names));
  }
}

function compile(text: string): Pattern {
  const why = whyNoPattern(text);
  if (why !== undefined) {
    throw new Git2dbError(
      'USAGE',
      `the pattern ${JSON.stringify(text.slice(0, 80))} ${why}; write it as in .gitignore, without "!"`,
    );
  }
  const directoryOnly = text.endsWith('/');
  const words = text.replace(/\/+$/, '').replace(/^\/+/, '').split(/\/+/);
  // A pattern without a slash, but for one at its end, is a name that may be anywhere.
  const isAnchored = text.replace(/\/+$/, '').includes('/');
  const parts = words.map((word): Part => (word === '**' ? undefined : tokensOf(word)));
  return { parts: isAnchored ? parts : [undefined, ...parts], directoryOnly };
}

function whyNoPattern(text: string): string | undefined {
  if (text.replaceAll('/', '') === '') return 'matches nothing';
  if (text.length > MAX_LENGTH) return `is longer than ${MAX_LENGTH} characters`;
  if (text.startsWith('!')) return 'begins with "!"';
  if (text.includes('\0')) return 'holds a NUL';
  return undefined;
}

function tokensOf(word: string): Token[] {
  const bytes = Buffer.from(word);
  const tokens: Token[] = [];
  for (let at = 0; at < bytes.length; at++) {
    const byte = bytes[at]!;
    if (byte === 0x2a) {
      if (tokens.at(-1)?.kind !== 'star') tokens.push({ kind: 'star' });
    } else if (byte === 0x3f) {
      tokens.push({ kind: 'class', has: new Uint8Array(256).fill(1) });
    } else if (byte === 0x5b) {
      const set = classAt(bytes, at);
      if (set === undefined) tokens.push({ kind: 'byte', byte });
      else {
        tokens.push({ kind: 'class', has: set.has });
        at = set.end;
      }
    } else if (byte === 0x5c && at + 1 < bytes.length) {
      at++;
      tokens.push({ kind: 'byte', byte: bytes[at]! });
    } else {
      tokens.push({ kind: 'byte', byte });
    }
  }
  return tokens;
}

/** `[a-z]`, `[!a]`, `[^a]` at `from`, and the place of its closing bracket; undefined: it has none. */
function classAt(bytes: Buffer, from: number): { has: Uint8Array; end: number } | undefined {
  let at = from + 1;
  const isNegated = bytes[at] === 0x21 || bytes[at] === 0x5e;
  if (isNegated) at++;
  const has = new Uint8Array(256);
  for (let first = true; at < bytes.length; first = false) {
    if (bytes[at] === 0x5d && !first) {
      if (isNegated) for (let i = 0; i < 256; i++) has[i] = 1 - has[i]!;
      return { has, end: at };
    }
    const low = bytes[at]!;
    const isRange = bytes[at + 1] === 0x2d && bytes[at + 2] !== 0x5d && at + 2 < bytes.length;
    const high = isRange ? bytes[at + 2]! : low;
    for (let byte = low; byte <= high; byte++) has[byte] = 1;
    at += isRange ? 3 : 1;
  }
  return undefined;
}

/**
 * Whether the pattern matches the path or a directory above it. The set of places in the pattern that the
 * names so far can have led to is carried from name to name.
 */
function matchesPath({ parts, directoryOnly }: Pattern, names: readonly Uint8Array[]): boolean {
  const end = parts.length;
  let states = withSkips(new Set([0]), parts);
  for (const [index, name] of names.entries()) {
    const next = new Set<number>();
    for (const state of states) {
      if (state === end) continue;
      const part = parts[state];
      if (part === undefined) {
        next.add(state);
        if (state === end - 1) next.add(end);
      } else if (matchesName(part, name)) next.add(state + 1);
    }
    states = withSkips(next, parts);
    const isDirectory = index < names.length - 1;
    if (states.has(end) && (isDirectory || !directoryOnly)) return true;
    if (states.size === 0) return false;
  }
  return false;
}

/** `**` may stand for no directory at all; but as the last part it stands for at least one name. */
function withSkips(states: Set<number>, parts: readonly Part[]): Set<number> {
  for (const state of states) {
    // A set's iteration sees what is added meanwhile.
    if (state < parts.length - 1 && parts[state] === undefined) states.add(state + 1);
  }
  return states;
}

/** With one star to go back to: time is in proportion to the product of both lengths at most. */
function matchesName(tokens: readonly Token[], name: Uint8Array): boolean {
  let token = 0;
  let at = 0;
  let starToken = -1;
  let starAt = 0;
  while (at < name.length) {
    const current = tokens[token];
    if (current?.kind === 'star') {
      starToken = token++;
      starAt = at;
    } else if (current !== undefined && takes(current, name[at]!)) {
      token++;
      at++;
    } else if (starToken >= 0) {
      token = starToken + 1;
      at = ++starAt;
    } else {
      return false;
    }
  }
  while (tokens[token]?.kind === 'star') token++;
  return token === tokens.length;
}

function takes(token: Token, byte: number): boolean {
  if (token.kind === 'byte') return token.byte === byte;
  return token.kind === 'class' && token.has[byte] === 1;
}

function split(path: Uint8Array): Uint8Array[] {
  const names: Uint8Array[] = [];
  let start = 0;
  for (let at = path.indexOf(SLASH); at >= 0; at = path.indexOf(SLASH, start)) {
    names.push(path.subarray(start, at));
    start = at + 1;
  }
  names.push(path.subarray(start));
  return names;
}
