/**
 * Git configuration. Reading is one `git config` process for everything a caller wants to know, so
 * that includes, conditional includes, worktree files and `git -c` all mean what they mean to git.
 */

import { Git2dbError } from '../xet/errors.ts';
import { splitZ } from './records.ts';
import { type GitRun, git, gitSync } from './runner.ts';

export interface ConfigEntry {
  /** Canonical: section and name in lower case, subsection as written. */
  readonly key: string;
  /** Undefined for a key written without `=`. */
  readonly value: string | undefined;
  /** As git says it: `file:.git/config`, `command line:`. */
  readonly origin: string;
}

const NO_REPOSITORY = '/nonexistent/git2db-no-repository';

/**
 * What `git config -z` with `words` lists in `cwd`, which need not be in a repository, nor in one that can be
 * read: where `.git` leads nowhere, as in a worktree that is not mounted, git itself would not tell even the user's
 * settings.
 */
export function listConfig(
  cwd: string,
  words: readonly string[],
  { env = {} }: Pick<GitRun, 'env'> = {},
): Buffer {
  try {
    return gitSync(['config', '-z', ...words], configRun(cwd, env)).stdout;
  } catch (error) {
    return gitSync(['config', '-z', ...words], configRun(cwd, env, error)).stdout;
  }
}

/** As `listConfig`, while the caller does something else. */
export async function listConfigBeside(
  cwd: string,
  words: readonly string[],
  { env = {} }: Pick<GitRun, 'env'> = {},
): Promise<Buffer> {
  try {
    return (await git(['config', '-z', ...words], configRun(cwd, env))).stdout;
  } catch (error) {
    return (await git(['config', '-z', ...words], configRun(cwd, env, error))).stdout;
  }
}

/** For the first try, or after one that failed because `.git` leads nowhere; throws any other error. */
function configRun(cwd: string, env: NodeJS.ProcessEnv, failed?: unknown): GitRun {
  if (
    failed !== undefined &&
    !(failed instanceof Git2dbError && /: not a git repository/.test(failed.message))
  )
    throw failed;
  const place = failed === undefined ? {} : { GIT_DIR: NO_REPOSITORY };
  return { cwd, env: { ...env, ...place, GIT_CONFIG: undefined }, keepGitEnv: true, okStatus: [0, 1] };
}

export class GitConfig {
  readonly #entries: readonly ConfigEntry[];
  readonly #byKey = new Map<string, ConfigEntry[]>();

  constructor(entries: readonly ConfigEntry[]) {
    this.#entries = entries;
    for (const entry of entries) {
      const same = this.#byKey.get(entry.key);
      if (same === undefined) this.#byKey.set(entry.key, [entry]);
      else same.push(entry);
    }
  }

  /**
   * Reads what is in force in `cwd`, which need not be in a repository. `keyPattern` is an extended
   * regular expression for canonical keys (`^(xet|filter)\.`); everything without it. GIT_DIR and the
   * settings of `git -c` are honoured; GIT_CONFIG is not, as only the `git config` command knows it.
   */
  static load(cwd: string, keyPattern?: string, options: Pick<GitRun, 'env'> = {}): GitConfig {
    const query = keyPattern === undefined ? ['--list'] : ['--get-regexp', keyPattern];
    return new GitConfig([...parseConfigList(listConfig(cwd, ['--show-origin', ...query], options))]);
  }

  /** The value that counts (the last one). Throws INVALID_CONFIG when the key was written without a value. */
  get(key: string): string | undefined {
    const entry = this.#last(key);
    return entry === undefined ? undefined : textOf(entry);
  }

  /** Every value of a key that may be given several times, in order of rising precedence. */
  all(key: string): string[] {
    return (this.#byKey.get(canonicalKey(key)) ?? []).map(textOf);
  }

  /** Git's booleans: true, yes, on, a number but 0, or no value; false, no, off, 0, or an empty value. */
  bool(key: string, fallback: boolean): boolean {
    const entry = this.#last(key);
    if (entry === undefined) return fallback;
    const parsed = parseBool(entry.value);
    if (parsed === undefined) throw badValue(entry, 'true or false');
    return parsed;
  }

  /** Git's integers: decimal, 0x or 0 for octal, with k, m or g for powers of 1024. */
  int(key: string, fallback: number): number {
    const entry = this.#last(key);
    if (entry === undefined) return fallback;
    const parsed = entry.value === undefined ? undefined : parseInteger(entry.value);
    if (parsed === undefined) throw badValue(entry, 'an integer, with k, m or g after it if wanted');
    return parsed;
  }

  /** All that was read, in git's order: system, global, local, worktree, command line. */
  entries(): readonly ConfigEntry[] {
    return this.#entries;
  }

  #last(key: string): ConfigEntry | undefined {
    return this.#byKey.get(canonicalKey(key))?.at(-1);
  }
}

/** Section and name in lower case; a subsection, between the first and the last dot, as it is. */
export function canonicalKey(key: string): string {
  const first = key.indexOf('.');
  const last = key.lastIndexOf('.');
  if (first < 0) return key.toLowerCase();
  return key.slice(0, first).toLowerCase() + key.slice(first, last) + key.slice(last).toLowerCase();
}

/** undefined for text that git takes for no boolean; an absent value is true. */
export function parseBool(value: string | undefined): boolean | undefined {
  if (value === undefined) return true;
  if (/^(?:true|yes|on)$/i.test(value)) return true;
  if (/^(?:false|no|off|)$/i.test(value)) return false;
  const number = parseInteger(value);
  return number === undefined ? undefined : number !== 0;
}

/** undefined for text that git takes for no integer, or one beyond the safe integers. */
export function parseInteger(value: string): number | undefined {
  const match = /^\s*([+-]?)(0x[0-9a-f]+|0[0-7]*|[1-9][0-9]*)([kmg]?)$/i.exec(value);
  if (match === null) return undefined;
  const [, sign, digits, unit] = match as unknown as [string, string, string, string];
  const octal = /^0[0-7]/.test(digits);
  const scale = { k: 2 ** 10, m: 2 ** 20, g: 2 ** 30 }[unit.toLowerCase()] ?? 1;
  const number = (octal ? Number.parseInt(digits, 8) : Number(digits)) * scale * (sign === '-' ? -1 : 1);
  return Number.isSafeInteger(number) ? number + 0 : undefined;
}

/** `git config -z --show-origin`: origin NUL, then key [newline value] NUL. */
function* parseConfigList(output: Buffer): Iterable<ConfigEntry> {
  let origin: string | undefined;
  for (const piece of splitZ(output)) {
    const text = piece.toString('utf8');
    if (origin === undefined) {
      origin = text;
      continue;
    }
    const newline = text.indexOf('\n');
    if (newline < 0) yield { key: text, value: undefined, origin };
    else yield { key: text.slice(0, newline), value: text.slice(newline + 1), origin };
    origin = undefined;
  }
}

function textOf(entry: ConfigEntry): string {
  if (entry.value === undefined) throw badValue(entry, 'a value');
  return entry.value;
}

function badValue(entry: ConfigEntry, expected: string): Git2dbError {
  const found = entry.value === undefined ? 'no value' : JSON.stringify(entry.value);
  return new Git2dbError(
    'INVALID_CONFIG',
    `git config ${entry.key} (${entry.origin}): expected ${expected}, found ${found}`,
    { data: { key: entry.key, value: entry.value, origin: entry.origin } },
  );
}

export type ConfigScope = '--local' | '--global' | '--system' | '--worktree';

export type ConfigWrite = Pick<GitRun, 'cwd' | 'env' | 'signal' | 'keepGitEnv'>;

/** Sets `key` to one value in the file of `scope`, in place of all it had there. */
export async function setConfig(
  scope: ConfigScope,
  key: string,
  value: string,
  options: ConfigWrite = {},
): Promise<void> {
  await git(['config', scope, '--replace-all', key, value], options);
}

/** Removes every value of `key` from the file of `scope`; false when there was none. */
export async function unsetConfig(
  scope: ConfigScope,
  key: string,
  options: ConfigWrite = {},
): Promise<boolean> {
  const { status } = await git(['config', scope, '--unset-all', key], { ...options, okStatus: [0, 5] });
  return status === 0;
}

/** Removes the section `name` (`filter.xet`) from the file of `scope`; false when there was none. */
export async function removeSection(
  scope: ConfigScope,
  name: string,
  options: ConfigWrite = {},
): Promise<boolean> {
  // Git has no status of its own for a section that is not there, so it is asked first.
  const { stdout } = await git(['config', scope, '-z', '--name-only', '--get-regexp', '.'], {
    ...options,
    okStatus: [0, 1],
  });
  const prefix = canonicalKey(`${name}.`);
  const present = [...splitZ(stdout)].some((key) => sectionOf(key.toString('utf8')) === prefix);
  if (present) await git(['config', scope, '--remove-section', name], options);
  return present;
}

/** `filter.xet.` of `filter.xet.clean`. */
function sectionOf(key: string): string {
  return key.slice(0, key.lastIndexOf('.') + 1);
}
