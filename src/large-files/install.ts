/**
 * The git configuration that makes git run the filter for files with `filter=xet`. Keep the values
 * equal to scripts/install-hooks.sh, which does the same without Node.
 *
 * One of four configuration files is edited (`scope`); a value there that something else wrote is a
 * reason to refuse, never to overwrite silently.
 */
import { accessSync, constants, statSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { setConfig, unsetConfig } from '../git/config.ts';
import { splitZ } from '../git/records.ts';
import { git } from '../git/runner.ts';
import { Git2dbError } from '../xet/errors.ts';

export const FILTER_PROGRAM = 'git2db-filter';

/** The words of a pointer, for `git diff --word-diff`. */
export const DIFF_WORD_REGEX = '[0-9a-f]{64}|[0-9]+|[a-z_]+|[^[:space:]]';

export const INSTALL_SCOPES = ['local', 'global', 'system', 'worktree'] as const;
export type InstallScope = (typeof INSTALL_SCOPES)[number];

interface Setting {
  readonly key: string;
  readonly value: string;
}

/**
 * `filter.xet.process` is a single word: git then starts it without a shell and reports a missing
 * program properly. There is no `diff.xet.textconv`: git would write whole files to TMPDIR to show
 * what a pointer says in a line. `diff.xet.wordRegex` lets `git diff --word-diff` mark just the size
 * and the hash; a pointer has no blanks, so it would be one word otherwise.
 */
const SETTINGS: readonly Setting[] = [
  { key: 'filter.xet.process', value: FILTER_PROGRAM },
  { key: 'filter.xet.required', value: 'true' },
  { key: 'diff.xet.wordRegex', value: DIFF_WORD_REGEX },
];

/** Written with `skipSmudge`: checkouts leave pointers in the work tree. */
const SKIP_SMUDGE: Setting = { key: 'xet.skipSmudge', value: 'true' };

/** One process for each file; never ours, and a trap for programs that look at them first. */
const RIVALS: readonly string[] = ['filter.xet.clean', 'filter.xet.smudge'];

export interface ConfigChange {
  readonly key: string;
  /** Undefined: the key was not set. */
  readonly from: string | undefined;
  /** Undefined: the key is removed. */
  readonly to: string | undefined;
}

export interface ConfigValue {
  readonly key: string;
  readonly value: string;
  readonly scope: string;
}

export interface InstallResult {
  /** Nothing when all was as wanted. */
  readonly changes: readonly ConfigChange[];
  /** Values of a stronger scope that win over what was written, here in `cwd`. */
  readonly overridden: readonly ConfigValue[];
  /** Where git will find the filter program; undefined when PATH does not hold it. */
  readonly filterPath: string | undefined;
}

export interface InstallOptions {
  readonly cwd: string;
  readonly scope: InstallScope;
  readonly skipSmudge: boolean;
  /** Replace values that something else wrote. */
  readonly force: boolean;
  /** The search path that git will have. */
  readonly searchPath: string;
}

/** Throws REFUSED when a key holds a foreign value and `force` is not set; then nothing was changed. */
export async function install(options: InstallOptions): Promise<InstallResult> {
  const { cwd, scope } = options;
  const run = { cwd, keepGitEnv: true };
  const present = await readScope(cwd, scope);
  const foreign = [...SETTINGS, SKIP_SMUDGE].filter(
    ({ key, value }) => present.get(key) !== undefined && !sameValue(present.get(key)!, value),
  );
  const rivals = RIVALS.filter((key) => present.has(key));
  const inTheWay = [...foreign.map(({ key }) => key), ...rivals];
  if (inTheWay.length > 0 && !options.force) {
    const lines = inTheWay.map((key) => `  ${key} = ${present.get(key)!.join(', ')}`);
    throw new Git2dbError(
      'REFUSED',
      `the ${scope} configuration already holds\n${lines.join('\n')}\nwhich git2db did not write; --force replaces it`,
      { data: { scope, keys: inTheWay } },
    );
  }
  const wanted = options.skipSmudge ? [...SETTINGS, SKIP_SMUDGE] : SETTINGS;
  const unwanted = options.skipSmudge ? RIVALS : [...RIVALS, SKIP_SMUDGE.key];
  const changes: ConfigChange[] = [];
  for (const { key, value } of wanted) {
    const values = present.get(key);
    if (values !== undefined && sameValue(values, value)) continue;
    await setConfig(`--${scope}`, key, value, run);
    changes.push({ key, from: values?.join(', '), to: value });
  }
  for (const key of unwanted) {
    if (!present.has(key)) continue;
    await unsetConfig(`--${scope}`, key, run);
    changes.push({ key, from: present.get(key)!.join(', '), to: undefined });
  }
  return {
    changes,
    overridden: await findOverridden(cwd, wanted),
    filterPath: findProgram(FILTER_PROGRAM, options.searchPath),
  };
}

export interface UninstallResult {
  readonly changes: readonly ConfigChange[];
  /** Keys that hold something else than install writes; they stay. */
  readonly kept: readonly ConfigValue[];
}

/** Removes what `install` wrote in `scope`, and only that. */
export async function uninstall(options: {
  readonly cwd: string;
  readonly scope: InstallScope;
}): Promise<UninstallResult> {
  const { cwd, scope } = options;
  const run = { cwd, keepGitEnv: true };
  const present = await readScope(cwd, scope);
  const changes: ConfigChange[] = [];
  const kept: ConfigValue[] = [];
  for (const { key, value } of [...SETTINGS, SKIP_SMUDGE]) {
    const values = present.get(key);
    if (values === undefined) continue;
    if (sameValue(values, value)) {
      await unsetConfig(`--${scope}`, key, run);
      changes.push({ key, from: value, to: undefined });
    } else {
      kept.push({ key, value: values.join(', '), scope });
    }
  }
  return { changes, kept };
}

const KEY_PATTERN = '^((filter|diff)\\.xet\\..*|xet\\.skipsmudge)$';

/** The values of our keys in one configuration file; several for a key given several times. */
async function readScope(cwd: string, scope: InstallScope): Promise<Map<string, string[]>> {
  if (scope === 'local' || scope === 'worktree') await requireRepository(cwd, scope);
  const found = await git(['config', `--${scope}`, '-z', '--get-regexp', KEY_PATTERN], {
    cwd,
    keepGitEnv: true,
    okStatus: [0, 1],
  });
  const values = new Map<string, string[]>();
  for (const record of splitZ(found.stdout)) {
    const { key, value } = parseRecord(record.toString('utf8'));
    values.set(key, [...(values.get(key) ?? []), value]);
  }
  return values;
}

async function findOverridden(cwd: string, wanted: readonly Setting[]): Promise<ConfigValue[]> {
  const found = await git(['config', '-z', '--show-scope', '--get-regexp', KEY_PATTERN], {
    cwd,
    keepGitEnv: true,
    okStatus: [0, 1],
  });
  const pieces = [...splitZ(found.stdout)].map((piece) => piece.toString('utf8'));
  const effective = new Map<string, ConfigValue>();
  for (let i = 0; i + 1 < pieces.length; i += 2) {
    const { key, value } = parseRecord(pieces[i + 1]!);
    effective.set(key, { key, value, scope: pieces[i]! });
  }
  return wanted.flatMap(({ key, value }) => {
    const winner = effective.get(key);
    return winner === undefined || winner.value === value ? [] : [winner];
  });
}

/** `key LF value`, or just the key, which means true. Git prints the variable's name in lower case. */
function parseRecord(record: string): Setting {
  const newline = record.indexOf('\n');
  const lowerKey = newline < 0 ? record : record.slice(0, newline);
  const known = [...SETTINGS.map(({ key }) => key), SKIP_SMUDGE.key].find(
    (key) => key.toLowerCase() === lowerKey,
  );
  return { key: known ?? lowerKey, value: newline < 0 ? 'true' : record.slice(newline + 1) };
}

function sameValue(found: readonly string[], wanted: string): boolean {
  return found.length === 1 && found[0] === wanted;
}

async function requireRepository(cwd: string, scope: InstallScope): Promise<void> {
  const { status } = await git(['rev-parse', '--git-dir'], { cwd, keepGitEnv: true, okStatus: [0, 128] });
  if (status === 0) return;
  throw new Git2dbError(
    'NOT_A_REPOSITORY',
    `${cwd} is in no git repository, so there is no --${scope} configuration`,
  );
}

/** The first executable file of that name on the search path. */
export function findProgram(name: string, searchPath: string): string | undefined {
  for (const folder of searchPath.split(delimiter).filter(Boolean)) {
    const path = join(folder, name);
    if (statSync(path, { throwIfNoEntry: false })?.isFile() !== true) continue;
    try {
      accessSync(path, constants.X_OK);
      return path;
    } catch {
      // Not executable for us: look further, as the system does.
    }
  }
  return undefined;
}
