/**
 * The syntax of a git configuration file (git-config, "Syntax"), read without following includes:
 * git itself reads the repository's format (core.bare, core.worktree, extensions.*) that way, before
 * anything else is known. For every other setting git is asked (see config.ts).
 *
 *     [section]                  names are case-insensitive and come out in lower case
 *     [section "sub.section"]    kept as written; \" and \\ are escapes
 *         key = value            # or ; start a comment outside double quotes
 *         key = long \           a backslash at the end of the line continues the value
 *               value
 *         key                    no value: true
 */

export interface ConfigSetting {
  /** `section.name` or `section.subsection.name`, in git's canonical case. */
  readonly key: string;
  /** Undefined for a key without `=`. */
  readonly value: string | undefined;
}

const BLANK = /(?:[^\S\n]|\r)*/y;
const HEADER = /\[([A-Za-z0-9.-]+)(?:[^\S\n]+"((?:[^"\\\n]|\\.)*)")?\]/y;
const NAME = /([A-Za-z][A-Za-z0-9-]*)[^\S\n]*(=)?/y;
const REST_OF_LINE = /[^\n]*\n?/y;

const ESCAPES: Readonly<Record<string, string>> = { n: '\n', t: '\t', b: '\b' };

/** The settings of `text` in order. A line that is no configuration is passed over. */
export function* parseConfigText(text: string): Iterable<ConfigSetting> {
  let section = '';
  let at = text.startsWith('\uFEFF') ? 1 : 0;
  function take(pattern: RegExp): RegExpExecArray | null {
    pattern.lastIndex = at;
    const match = pattern.exec(text);
    if (match !== null) at = pattern.lastIndex;
    return match;
  }
  while (at < text.length) {
    take(BLANK);
    const header = take(HEADER);
    if (header !== null) {
      section = header[1]!.toLowerCase();
      if (header[2] !== undefined) section += `.${header[2].replace(/\\(.)/g, '$1')}`;
      continue; // A setting may follow on the same line.
    }
    const name = take(NAME);
    if (name?.[2] !== undefined) {
      const { value, end } = parseValue(text, at);
      at = end;
      yield { key: `${section}.${name[1]!.toLowerCase()}`, value };
    } else if (name !== null) {
      yield { key: `${section}.${name[1]!.toLowerCase()}`, value: undefined };
    }
    take(REST_OF_LINE);
  }
}

/** The value that starts at `from`, outer blanks dropped, quotes and escapes resolved, and where it ends. */
function parseValue(text: string, from: number): { value: string; end: number } {
  let value = '';
  /** Length of `value` up to its last character that is quoted or not blank. */
  let kept = 0;
  let quoted = false;
  let at = from;
  for (; at < text.length && text[at] !== '\n'; at++) {
    const char = text[at]!;
    if (!quoted && (char === '#' || char === ';')) break;
    if (char === '"') {
      quoted = !quoted;
    } else if (char === '\\') {
      at += text.startsWith('\r\n', at + 1) ? 2 : 1;
      const escaped = text[at] ?? '';
      if (escaped !== '\n') value += ESCAPES[escaped] ?? escaped;
    } else if (quoted || !/\s/.test(char)) {
      value += char;
    } else {
      if (value !== '') value += char;
      continue;
    }
    kept = value.length;
  }
  return { value: value.slice(0, kept), end: at };
}
