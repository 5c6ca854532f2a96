/**
 * The user's file: `$XDG_CONFIG_HOME/git2db/config.toml`, else `~/.config/git2db/config.toml`.
 *
 *     [worktree]
 *     driver = "auto"            # overlay2, reflink, vfs
 *     [worktree.overlay2]
 *     backend = "auto"           # kernel, userns, fuse
 *     [git]
 *     name = "A U Thor"
 *     email = "author@example.org"
 *
 * The only door to `smol-toml`.
 */
import { readFileSync } from 'node:fs';
import { isAbsolute, join } from 'node:path';
import { parse, TomlError } from 'smol-toml';
import { errnoOf, Git2dbError, messageOf } from '../xet/errors.ts';

/** A value of the file that is no table, and where it stands. */
export interface TomlLeaf {
  readonly path: readonly string[];
  readonly value: unknown;
  /** From 1. */
  readonly line: number;
}

/** A configuration of a few lines; a larger file is a mistake. */
const MAX_BYTES = 64 * 1024;
/** Longer ones are not looked at for where something stands. */
const LONGEST_LINE = 1000;

/** Undefined where no home directory is known. */
export function configFilePath(env: NodeJS.ProcessEnv): string | undefined {
  const { XDG_CONFIG_HOME: xdg, HOME: home } = env;
  // A relative XDG_CONFIG_HOME is invalid and ignored, says the XDG specification.
  if (xdg !== undefined && isAbsolute(xdg)) return join(xdg, 'git2db', 'config.toml');
  return home === undefined || home === '' ? undefined : join(home, '.config', 'git2db', 'config.toml');
}

/** Empty for a file that is not there. Throws INVALID_CONFIG with file and line. */
export function readConfigFile(file: string): TomlLeaf[] {
  let bytes: Buffer;
  try {
    bytes = readFileSync(file);
  } catch (cause) {
    const errno = errnoOf(cause);
    if (errno === 'ENOENT' || errno === 'ENOTDIR') return [];
    throw new Git2dbError(
      'INVALID_CONFIG',
      `cannot read ${file} (${errno ?? messageOf(cause)}): correct or remove it`,
      {
        cause,
        data: { file },
      },
    );
  }
  if (bytes.length > MAX_BYTES) {
    throw new Git2dbError(
      'INVALID_CONFIG',
      `${file}: expected a few lines of TOML, found ${bytes.length} bytes`,
      {
        data: { file },
      },
    );
  }
  const text = bytes.toString('utf8');
  try {
    return [...leaves(parse(text), [], text)];
  } catch (cause) {
    if (!(cause instanceof TomlError)) throw cause;
    const [what] = cause.message.split('\n');
    throw new Git2dbError(
      'INVALID_CONFIG',
      `${file}, line ${cause.line}, column ${cause.column}: ${what}${keyAt(text, cause.line)}: correct the file`,
      { cause, data: { file, line: cause.line, column: cause.column } },
    );
  }
}

function* leaves(table: object, path: readonly string[], text: string): Iterable<TomlLeaf> {
  for (const [name, value] of Object.entries(table)) {
    const here = [...path, name];
    if (isTable(value) && Object.keys(value).length > 0) yield* leaves(value, here, text);
    else yield { path: here, value, line: lineOf(text, here) };
  }
}

function isTable(value: unknown): value is object {
  return typeof value === 'object' && value !== null && !Array.isArray(value) && !(value instanceof Date);
}

/**
 * The line on which the key `path` is set. The parser does not tell, so headers and keys are looked for;
 * in a table written in braces it is the line of the table.
 */
function lineOf(text: string, path: readonly string[]): number {
  let section: readonly string[] = [];
  let best = 1;
  let depth = 0;
  for (const [index, line] of text.split('\n').entries()) {
    if (line.length > LONGEST_LINE) continue;
    const header = /^\s*\[\[?([^\]]+)\]/.exec(line);
    const key = /^\s*([\w."'\- ]+?)\s*=/.exec(line);
    if (header !== null) section = keyParts(header[1]!);
    const named = header !== null ? section : key !== null ? [...section, ...keyParts(key[1]!)] : [];
    if (named.length > depth && named.every((part, i) => part === path[i])) {
      best = index + 1;
      depth = named.length;
    }
  }
  return best;
}

function keyParts(text: string): string[] {
  return [...text.matchAll(/"([^"]*)"|'([^']*)'|([\w-]+)/g)].map(
    (match) => match[1] ?? match[2] ?? match[3]!,
  );
}

/** The key on a broken line, as far as it can be told. */
function keyAt(text: string, line: number): string {
  const key = /^\s*([\w."'-]+)\s*=/.exec((text.split('\n')[line - 1] ?? '').slice(0, LONGEST_LINE))?.[1];
  return key === undefined ? '' : ` (at the key ${key})`;
}
