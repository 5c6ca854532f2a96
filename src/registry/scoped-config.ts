/**
 * A repository's configuration, told apart by who wrote it: the repository (`.git/config`,
 * `config.worktree` and all they include) or the user (everything else).
 *
 * What a condition (`includeIf`) leaves out today may hold tomorrow, or after the branch that is about to
 * be checked out, so included files of the repository are read whatever their condition says.
 */
import { readFileSync } from 'node:fs';
import { dirname, isAbsolute, join, resolve } from 'node:path';
import type { ConfigEntry } from '../git/config.ts';
import { splitZ } from '../git/records.ts';
import { git } from '../git/runner.ts';
import { Git2dbError } from '../xet/errors.ts';
import { type FileStamps, stampFiles } from './file-stamp.ts';

export interface ScopedEntry {
  /** Canonical: section and name in lower case, subsection as written. */
  readonly key: string;
  /** Undefined for a key written without `=`. */
  readonly value: string | undefined;
  readonly file: string;
  /** False where key or value are no UTF-8: then both are only approximations. */
  readonly isText: boolean;
}

export interface ScopedConfig {
  /** In rising precedence. */
  readonly own: readonly ScopedEntry[];
  readonly user: readonly ScopedEntry[];
  /** All that is in force, in git's order. */
  readonly all: readonly ConfigEntry[];
  /** Of every file that was read, or would be if it were there. */
  readonly stamps: FileStamps;
}

/** As deep as git goes. */
const INCLUDE_DEPTH = 10;

/** `place`: absolute paths. Rejects with GIT_FAILED for a file that git cannot read. */
export async function readScopedConfig(
  place: { readonly commonDir: string; readonly gitDir: string },
  env: NodeJS.ProcessEnv,
  signal?: AbortSignal,
): Promise<ScopedConfig> {
  const roots = [join(place.commonDir, 'config'), join(place.gitDir, 'config.worktree')];
  const watched = new Set([...roots, join(place.gitDir, 'HEAD'), ...userFiles(env)]);
  // Taken first, and again for files that only turn up below: a change in between shows next time.
  const early = stampFiles([...watched]);
  // The directory is named outright, so no other is looked for and nothing is run from it.
  // The process's own environment is inherited, without what names another repository.
  const given = env === process.env ? {} : env;
  const run = {
    cwd: place.gitDir,
    env: {
      ...given,
      GIT_DIR: place.gitDir,
      GIT_WORK_TREE: undefined,
      GIT_COMMON_DIR: undefined,
      GIT_CONFIG: undefined,
    },
    signal,
  };
  const listed = await git(['config', '-z', '--show-scope', '--show-origin', '--list'], run);
  const own: ScopedEntry[] = [];
  const user: ScopedEntry[] = [];
  const all: ConfigEntry[] = [];
  const pieces = [...splitZ(listed.stdout)];
  for (let i = 0; i + 2 < pieces.length; i += 3) {
    const origin = pieces[i + 1]!.toString('utf8');
    const scope = pieces[i]!.toString('latin1');
    const entry = parseEntry(pieces[i + 2]!, origin);
    all.push({ key: entry.key, value: entry.value, origin });
    if (scope === 'local' || scope === 'worktree') own.push(entry);
    else user.push(entry);
    if (origin.startsWith('file:')) watched.add(resolve(place.gitDir, origin.slice('file:'.length)));
  }
  const included = new Set<string>();
  for (const root of roots) await walkIncludes(root, included, 0);
  for (const file of included) {
    watched.add(file);
    // First, so that what is in force by git's own account counts as the later one.
    own.unshift(...(await listFile(file)));
  }
  const late = stampFiles([...watched].slice(early.paths.length));
  return {
    own,
    user,
    all,
    stamps: {
      paths: [...early.paths, ...late.paths],
      stamps: [...early.stamps, ...late.stamps],
      racy: early.racy || late.racy,
    },
  };

  async function walkIncludes(file: string, seen: Set<string>, depth: number): Promise<void> {
    if (depth > INCLUDE_DEPTH || !/include/i.test(readText(file))) return;
    const pattern = '^include(if\\..*)?\\.path$';
    const { stdout } = await git(
      ['config', '-z', '--file', file, '--no-includes', '--type=path', '--get-regexp', pattern],
      { ...run, okStatus: [0, 1] },
    );
    for (const piece of splitZ(stdout)) {
      const { value, isText } = parseEntry(piece, file);
      if (value === undefined) continue;
      if (!isText) throw unreadable(file);
      const target = isAbsolute(value) ? value : resolve(dirname(file), value);
      if (seen.has(target)) continue;
      seen.add(target);
      await walkIncludes(target, seen, depth + 1);
    }
  }

  async function listFile(file: string): Promise<ScopedEntry[]> {
    if (readText(file) === '') return [];
    const { stdout } = await git(['config', '-z', '--file', file, '--no-includes', '--list'], run);
    return [...splitZ(stdout)].map((piece) => parseEntry(piece, `file:${file}`));
  }
}

function parseEntry(record: Buffer, file: string): ScopedEntry {
  const text = record.toString('utf8');
  const newline = text.indexOf('\n');
  return {
    key: newline < 0 ? text : text.slice(0, newline),
    value: newline < 0 ? undefined : text.slice(newline + 1),
    file: file.replace(/^file:/, ''),
    isText: Buffer.from(text, 'utf8').equals(record),
  };
}

/** Where the user's files are or would be. */
function userFiles(env: NodeJS.ProcessEnv): string[] {
  const home = env.HOME ?? '/';
  return [
    env.GIT_CONFIG_SYSTEM ?? '/etc/gitconfig',
    ...(env.GIT_CONFIG_GLOBAL !== undefined
      ? [env.GIT_CONFIG_GLOBAL]
      : [join(home, '.gitconfig'), join(env.XDG_CONFIG_HOME || join(home, '.config'), 'git', 'config')]),
  ].filter((path) => path !== '');
}

/** Empty for a file that is not there or cannot be read: git takes no settings from it either. */
function readText(file: string): string {
  try {
    return readFileSync(file, 'latin1');
  } catch {
    return '';
  }
}

function unreadable(file: string): Git2dbError {
  return new Git2dbError(
    'TRUST_REQUIRED',
    `the repository is not trusted, and ${file} includes a file whose name is no UTF-8, so it cannot be checked: remove that setting, or trust the repository`,
    { data: { file } },
  );
}
