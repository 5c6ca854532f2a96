/**
 * Which names a ref can have: the rules of git-check-ref-format(1), without starting git. Names come from
 * users, files and remotes, and end in argument lists: a leading dash is refused for all.
 */
import { Git2dbError } from '../xet/errors.ts';

/** Longest path component that Linux file systems take, with room for git's `.lock`. */
const LONGEST_COMPONENT = 250;

/** Why `name` (`refs/heads/x`, or a short name such as `x/y`) is no name for a ref; undefined when it is one. */
export function whyNoRefName(name: string): string | undefined {
  // Of what came in an object, nobody has looked at the type.
  if (typeof name !== 'string') return 'it is no text';
  if (name === '') return 'it is empty';
  if (name === '@') return 'it is "@"';
  if (name.startsWith('-')) return 'it begins with "-"';
  if (name.startsWith('/') || name.endsWith('/') || name.includes('//'))
    return 'a part between slashes is empty';
  if (name.endsWith('.')) return 'it ends with "."';
  if (name.includes('..')) return 'it holds ".."';
  if (name.includes('@{')) return 'it holds "@{"';
  // biome-ignore lint/suspicious/noControlCharactersInRegex: these are what is looked for
  const bad = /[\x00-\x20\x7f~^:?*[\\]/.exec(name)?.[0];
  if (bad !== undefined) return `it holds ${JSON.stringify(bad)}`;
  if (name.includes('\ufffd')) return 'it is no valid UTF-8';
  for (const part of name.split('/')) {
    if (part.startsWith('.')) return 'a part of it begins with "."';
    if (part.endsWith('.lock')) return 'a part of it ends with ".lock"';
    if (Buffer.byteLength(part) > LONGEST_COMPONENT)
      return `a part of it is longer than ${LONGEST_COMPONENT} bytes`;
  }
  return undefined;
}

/** Throws REF_INVALID unless `name` can be the short name of a `kind`; returns the full name. */
export function fullRefName(kind: 'branch' | 'tag', name: string): string {
  const shown = JSON.stringify(name);
  // `git branch HEAD` and `git tag HEAD` are refused by git itself, since they could never be told apart.
  // Digits of an object id are read as that by git's commands, whatever branches there are.
  const why =
    whyNoRefName(name) ??
    (name === 'HEAD'
      ? 'HEAD is something else'
      : /^(?:[0-9a-f]{40}|[0-9a-f]{64})$/i.test(name)
        ? 'it is an object id'
        : undefined);
  if (why !== undefined)
    throw new Git2dbError('REF_INVALID', `${shown} cannot be the name of a ${kind}: ${why}`, {
      data: { name },
    });
  return `refs/${kind === 'branch' ? 'heads' : 'tags'}/${name}`;
}

/** Throws REF_INVALID unless `name` is the full name of a ref (below `refs/`), or HEAD and its like. */
export function checkFullRefName(name: string): string {
  const why =
    whyNoRefName(name) ?? (/^(?:refs\/.|[A-Z][A-Z_]*$)/.test(name) ? undefined : 'it is not below "refs/"');
  if (why !== undefined) {
    throw new Git2dbError('REF_INVALID', `${JSON.stringify(name)} is no full name of a ref: ${why}`, {
      data: { name },
    });
  }
  return name;
}

/**
 * Throws REF_INVALID where `text` cannot be handed to git as one revision: it would be an option, or is
 * more than one word to somebody who reads it. What it names is for git to say.
 */
export function checkRevision(text: string, what = 'a revision'): string {
  const why =
    typeof text !== 'string'
      ? 'it is no text'
      : text === ''
        ? 'found nothing'
        : text.startsWith('-')
          ? 'it begins with "-"'
          : /[\0\n]/.test(text)
            ? 'it holds a NUL or a newline'
            : text.length > 4096
              ? 'it is longer than 4096 characters'
              : undefined;
  if (why === undefined) return text;
  throw new Git2dbError(
    'REF_INVALID',
    `expected ${what}, found ${JSON.stringify(String(text).slice(0, 100))}: ${why}`,
    { data: { name: text } },
  );
}

/** A remote's name is part of a ref's, and a section of the configuration. */
export function checkRemoteName(name: string): string {
  const why = whyNoRefName(name);
  if (why === undefined) return name;
  throw new Git2dbError('NAME_INVALID', `${JSON.stringify(name)} cannot be the name of a remote: ${why}`, {
    data: { name },
  });
}
