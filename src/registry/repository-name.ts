/**
 * Names of repositories. A name is a path below `repos/` on file systems that may fold case, normalise
 * Unicode or belong to Windows, and it is typed at a prompt: so it is refused when it could be taken for
 * an option, an id, another name, or a place of git's or ours. Refused, never corrected: two different
 * names must not become one.
 */
import { NameError } from './errors.ts';
import { findRepoId } from './repo-id.ts';

/** Of each part, in bytes of UTF-8: room is left for what a clone in the making adds to it. */
const MAX_PART_BYTES = 128;
/** Device names of Windows (also with a superscript 1, 2 or 3), with or without something after a full stop. */
const WINDOWS_DEVICE =
  /^(?:con|prn|aux|nul|com[0-9\u00b9\u00b2\u00b3]|lpt[0-9\u00b9\u00b2\u00b3]|conin\$|conout\$)(?:\.|$)/i;
/** Control and format characters (invisible, or turning the direction of text), separators, halves of pairs. */
const INVISIBLE = /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Cs}\p{Co}\p{Cn}\p{Default_Ignorable_Code_Point}]/u;
const SPACE_BUT_BLANK = /[^\S ]/u;
const RESERVED_CHARACTER = /[\\:*?"<>|]/;

/** What most names look like: plain letters and no more than that to be looked at. */
const PLAIN_NAME = /^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}(?:\/[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?$/;
const PLAIN_DEVICE = /^(?:con|prn|aux|nul|com\d|lpt\d)(?:\.|$)/i;
const PLAIN_SUFFIX = /\.(?:git|lock)?(?:\/|$)/i;
const UUID_LENGTH = 36;

/** Why `name` is refused, as the rest of a sentence that starts with the name; undefined: it is not. */
export function findNameFault(name: string): string | undefined {
  if (typeof name !== 'string' || name === '') return 'is empty';
  if (isPlain(name)) return undefined;
  if (name.startsWith('/')) return 'starts with "/"';
  const parts = name.split('/');
  if (parts.length > 2) return 'has more than one "/"';
  if (findRepoId(name) !== undefined) return 'looks like an id';
  for (const part of parts) {
    const fault = findPartFault(part);
    if (fault !== undefined) return fault;
  }
  return undefined;
}

/** Ten thousand names are looked at whenever a large registry is read. */
function isPlain(name: string): boolean {
  if (name.length === UUID_LENGTH || !PLAIN_NAME.test(name)) return false;
  if (name.includes('.') && PLAIN_SUFFIX.test(name)) return false;
  const slash = name.indexOf('/');
  return (
    !PLAIN_DEVICE.test(name.slice(slash + 1)) &&
    (slash < 0 || !/^(?:con|prn|aux|nul|com\d|lpt\d)[./]/i.test(name))
  );
}

function findPartFault(part: string): string | undefined {
  if (part === '') return 'has an empty part beside "/"';
  if (part === '.' || part === '..') return `has the part "${part}"`;
  if (part.startsWith('-')) return 'has a part that starts with "-"';
  if (INVISIBLE.test(part)) return 'holds a control or invisible character';
  if (SPACE_BUT_BLANK.test(part) || part.startsWith(' ') || part.endsWith(' ')) {
    return 'has space at the start or end of a part, or another space than a blank';
  }
  const reserved = RESERVED_CHARACTER.exec(part);
  if (reserved !== null) return `holds ${JSON.stringify(reserved[0])}`;
  if (part.endsWith('.')) return 'has a part that ends with "."';
  // What file systems may take for the same (NFKC, case) is judged the same.
  const folded = foldName(part);
  if (/^(?:\.|\.\.)$/.test(folded) || folded.startsWith('-')) return 'looks like ".", ".." or an option';
  if (/^(?:\.git2db|\.git$|git~\d+$|gi[0-9a-f]{4}~\d+$)/.test(folded)) return 'is reserved for git or git2db';
  if (folded.endsWith('.lock')) return 'ends with ".lock", as the lock files of git do';
  if (folded.endsWith('.git')) return 'ends with ".git": leave that away';
  if (WINDOWS_DEVICE.test(folded)) return 'is reserved on Windows';
  if (/[/\\:]/.test(part.normalize('NFKC'))) return 'holds a character that looks like "/", "\\" or ":"';
  const bytes = Buffer.byteLength(part);
  if (bytes > MAX_PART_BYTES) return `has a part of ${bytes} bytes, more than ${MAX_PART_BYTES}`;
  return undefined;
}

/** Throws NAME_INVALID. */
export function checkName(name: string): void {
  const fault = findNameFault(name);
  if (fault === undefined) return;
  const shown = JSON.stringify(String(name).slice(0, 200));
  throw new NameError(
    'NAME_INVALID',
    `the name ${shown} ${fault}: choose another, such as "model" or "org/model"`,
    { data: { name, fault } },
  );
}

/** Equal for two names that some file system takes for one. */
export function foldName(name: string): string {
  if (PLAIN_NAME.test(name)) return name.toLowerCase();
  // Upper case first: it takes apart what has no single lower case (sharp s, final sigma).
  return name.normalize('NFKC').toUpperCase().toLowerCase().normalize('NFKC');
}

/**
 * The names in use, to ask whether another would collide: the same after folding, or a directory of one
 * inside the other (`a` and `a/b`).
 */
export class NameTable {
  readonly #byFolded = new Map<string, string>();
  /** Folded first part -> how many names `part/...` there are, and one of them. */
  readonly #parents = new Map<string, Set<string>>();

  constructor(names: Iterable<string> = []) {
    for (const name of names) this.add(name);
  }

  add(name: string): void {
    const folded = foldName(name);
    this.#byFolded.set(folded, name);
    const slash = folded.indexOf('/');
    if (slash < 0) return;
    const parent = folded.slice(0, slash);
    const children = this.#parents.get(parent);
    if (children === undefined) this.#parents.set(parent, new Set([name]));
    else children.add(name);
  }

  delete(name: string): void {
    const folded = foldName(name);
    this.#byFolded.delete(folded);
    const parent = folded.slice(0, Math.max(0, folded.indexOf('/')));
    const children = this.#parents.get(parent);
    children?.delete(name);
    if (children?.size === 0) this.#parents.delete(parent);
  }

  /** The name in use that `name` collides with, if there is one. */
  collision(name: string): string | undefined {
    const folded = foldName(name);
    const same = this.#byFolded.get(folded);
    if (same !== undefined) return same;
    const slash = folded.indexOf('/');
    if (slash < 0) return this.#parents.get(folded)?.values().next().value;
    const parent = folded.slice(0, slash);
    const outer = this.#byFolded.get(parent);
    if (outer !== undefined) return outer;
    // `Org/a` and `org/b` would share a directory on one file system and not on another.
    const sibling = this.#parents.get(parent)?.values().next().value;
    const part = name.slice(0, name.indexOf('/'));
    return sibling !== undefined && sibling.slice(0, sibling.indexOf('/')) !== part ? sibling : undefined;
  }
}

/** Throws NAME_TAKEN when `name` collides with one of `table`. */
export function checkFree(name: string, table: NameTable): void {
  const taken = table.collision(name);
  if (taken === undefined) return;
  const why =
    taken === name
      ? 'is in use'
      : foldName(taken) === foldName(name)
        ? `cannot be told from ${JSON.stringify(taken)} on every file system`
        : `and ${JSON.stringify(taken)} would lie in one directory`;
  throw new NameError(
    'NAME_TAKEN',
    `the name ${JSON.stringify(name)} ${why}: choose another, or remove that one`,
    {
      data: { name, taken },
    },
  );
}
