/** Where in a JSON text something is: for messages about a file that a person has to mend. */

/** A string, or any of the punctuation, numbers and words of JSON. */
const TOKEN =
  // biome-ignore lint/suspicious/noControlCharactersInRegex: JSON forbids just these in strings.
  /\s*(?:"((?:[^"\\\u0000-\u001f]|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*)"|([[\]{}:,])|(-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?|true|false|null))/y;

interface Token {
  readonly kind: 'string' | 'word' | '[' | ']' | '{' | '}' | ':' | ',' | 'end';
  readonly at: number;
  readonly end: number;
}

/** Thrown inside this file only. */
class Stop {
  readonly at: number;
  constructor(at: number) {
    this.at = at;
  }
}

function tokenAt(text: string, from: number): Token {
  TOKEN.lastIndex = from;
  const match = TOKEN.exec(text);
  if (match === null) {
    const at = from + /^\s*/.exec(text.slice(from))![0].length;
    if (at < text.length) throw new Stop(at);
    return { kind: 'end', at, end: at };
  }
  const end = TOKEN.lastIndex;
  const length = match[0].trimStart().length;
  const kind =
    match[1] !== undefined ? 'string' : match[2] !== undefined ? (match[2] as Token['kind']) : 'word';
  return { kind, at: end - length, end };
}

type Visit = (path: readonly (string | number)[], at: number) => void;

/** Walks over one value and returns where it ends. */
function walk(text: string, from: number, path: readonly (string | number)[], visit: Visit): number {
  const first = tokenAt(text, from);
  visit(path, first.at);
  if (first.kind === 'string' || first.kind === 'word') return first.end;
  if (first.kind !== '{' && first.kind !== '[') throw new Stop(first.at);
  const close = first.kind === '{' ? '}' : ']';
  let token = tokenAt(text, first.end);
  if (token.kind === close) return token.end;
  for (let index = 0; ; index++) {
    let key: string | number = index;
    let at = token.at;
    if (first.kind === '{') {
      if (token.kind !== 'string') throw new Stop(token.at);
      key = JSON.parse(text.slice(token.at, token.end)) as string;
      const colon = tokenAt(text, token.end);
      if (colon.kind !== ':') throw new Stop(colon.at);
      at = colon.end;
    }
    const after = tokenAt(text, walk(text, at, [...path, key], visit));
    if (after.kind === close) return after.end;
    if (after.kind !== ',') throw new Stop(after.at);
    token = tokenAt(text, after.end);
  }
}

/** Where a text that JSON.parse refuses stops to be JSON. */
export function syntaxErrorOffset(text: string): number {
  try {
    const after = tokenAt(
      text,
      walk(text, 0, [], () => {}),
    );
    return after.at;
  } catch (error) {
    if (error instanceof Stop) return error.at;
    if (error instanceof RangeError) return 0; // nested more deeply than can be walked
    throw error;
  }
}

/** Where the value at `path` starts, or the closest thing around it that is there. `text` is JSON. */
export function findFieldOffset(text: string, path: readonly (string | number)[]): number | undefined {
  let best: { readonly length: number; readonly at: number } | undefined;
  try {
    walk(text, 0, [], (found, at) => {
      if (found.length <= path.length && found.every((part, index) => part === path[index])) {
        if (best === undefined || found.length >= best.length) best = { length: found.length, at };
      }
    });
  } catch (error) {
    if (!(error instanceof Stop) && !(error instanceof RangeError)) throw error;
  }
  return best?.at;
}
