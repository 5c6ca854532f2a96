/**
 * The places in one repository from which objects are reachable: what must be looked at before
 * anything is called unused. `git gc` itself knows fewer (it leaves out ORIG_HEAD and FETCH_HEAD).
 *
 *     <common dir>/                        refs/, packed-refs or reftable/; logs/; HEAD; index
 *     <common dir>/worktrees/<id>/         the same for what a linked worktree has of its own:
 *                                          HEAD, index, logs/HEAD, refs/{bisect,rewritten,worktree}/
 *     either: MERGE_HEAD, ORIG_HEAD, ...   pseudo-refs, one or more object ids in a small file
 *     either: rebase-merge/, rebase-apply/, sequencer/    an operation in progress
 */

import type { Dirent } from 'node:fs';
import { readdir, readFile } from 'node:fs/promises';
import { basename, dirname, join, relative } from 'node:path';
import { errnoOf, Git2dbError } from '../xet/errors.ts';
import { type GitRun, git, gitText } from './runner.ts';

export interface Root {
  /** `refs/heads/main`, `HEAD`, `rebase-merge/onto`; of a linked worktree with `worktrees/<id>/` in front. */
  readonly name: string;
  readonly oid: string;
}

export interface RepositoryRoots {
  /** Every ref, refs/stash and the refs of single worktrees among them. */
  readonly refs: readonly Root[];
  /** HEAD of the main and of every linked worktree, but for those on a branch without commits. */
  readonly heads: readonly Root[];
  /** Object ids in the reflogs, also of refs that were deleted, if the object exists. */
  readonly reflogs: readonly Root[];
  /** Object ids in pseudo-refs and in the files of operations in progress, if the object exists. */
  readonly operations: readonly Root[];
  /** Paths of the index files. */
  readonly indexes: readonly string[];
  /** Those of `indexes` that git does not know of, because the worktree's `gitdir` file is damaged. */
  readonly strayIndexes: readonly string[];
}

const OID = /\b(?:[0-9a-f]{64}|[0-9a-f]{40})\b/g;
const NULL_OID = /^0+$/;
/** Lines of a todo list may name commits by abbreviation: `pick 1234abc subject`, `merge -C 1234abc label`. */
const TODO_OID = /^\s*[a-z]+\s+(?:-[cC]\s+)?([0-9a-f]{4,64})\b/gm;
const TODO_FILES: ReadonlySet<string> = new Set([
  'git-rebase-todo',
  'git-rebase-todo.backup',
  'done',
  'todo',
]);
const OPERATION_DIRECTORIES = ['rebase-merge', 'rebase-apply', 'sequencer'];
/** The mails `git am` is applying: contents, as long as they like to be, and not a list of objects. */
const MAIL_FILE = /^(?:\d+|patch)$/;

/** Looks at the repository whose common directory is `commonDir`. A broken ref is GIT_FAILED. */
export async function listRoots(
  commonDir: string,
  options: Pick<GitRun, 'signal'> = {},
): Promise<RepositoryRoots> {
  await checkTrusted(commonDir, options.signal);
  const worktrees = (await entriesOf(join(commonDir, 'worktrees')))
    .filter((entry) => entry.isDirectory())
    .map((entry) => join(commonDir, 'worktrees', entry.name));

  const refs = await listRefs(commonDir, commonDir, options.signal);
  const byName = new Map(refs.map(({ name, oid }) => [name, oid]));
  const heads: Root[] = [];
  const reflogs: Root[] = [];
  const operations: Root[] = [];
  const indexes: string[] = [];
  const strayIndexes: string[] = [];
  for (const gitDir of [commonDir, ...worktrees]) {
    if (gitDir !== commonDir && (await hasOwnRefs(gitDir))) {
      for (const ref of await listRefs(commonDir, gitDir, options.signal)) refs.push(ref);
    }
    const head = await readHead(gitDir, byName);
    if (head !== undefined) heads.push({ name: nameIn(commonDir, join(gitDir, 'HEAD')), oid: head });
    await scanTree(commonDir, join(gitDir, 'logs'), reflogs);
    const entries = await entriesOf(gitDir);
    for (const { name } of entries.filter((entry) => entry.isFile())) {
      // Every pseudo-ref's name looks like this; some messages' do too, and name no objects or real ones.
      if (/^[A-Z][A-Z_]+$/.test(name) && name !== 'HEAD') {
        await scanFile(commonDir, join(gitDir, name), operations);
      }
    }
    for (const name of OPERATION_DIRECTORIES) {
      await scanTree(commonDir, join(gitDir, name), operations);
    }
    if (!entries.some(({ name }) => name === 'index')) continue;
    indexes.push(join(gitDir, 'index'));
    const known = gitDir === commonDir || (await readText(join(gitDir, 'gitdir')))?.trim();
    if (!known) strayIndexes.push(join(gitDir, 'index'));
  }
  if ((await entriesOf(join(commonDir, 'reftable'))).length > 0) {
    // Such a repository has no log files. Git is asked, which tells commits only.
    const listed = await gitText(
      ['rev-list', '--no-walk=unsorted', '--reflog', '--missing=allow-any'],
      rootRun(commonDir, options.signal),
    );
    for (const oid of listed.match(OID) ?? []) reflogs.push({ name: 'reflog', oid });
  }
  return {
    refs,
    heads,
    reflogs: await existing(commonDir, reflogs, options.signal),
    operations: await existing(commonDir, operations, options.signal),
    indexes,
    strayIndexes,
  };
}

/**
 * How git is run to see all of a repository, and no more than is there: replacement objects hide what
 * they replace, and in a partial clone nothing is fetched.
 */
export function rootRun(commonDir: string, signal?: AbortSignal): GitRun {
  const env = {
    GIT_DIR: commonDir,
    GIT_NO_REPLACE_OBJECTS: '1',
    GIT_NO_LAZY_FETCH: '1',
    GIT_REF_PARANOIA: '1',
  };
  return { cwd: commonDir, env, signal };
}

/** A GIT_DIR is trusted by git whoever owns it; finding the repository from its directory is not. */
async function checkTrusted(commonDir: string, signal: AbortSignal | undefined): Promise<void> {
  const cwd = basename(commonDir) === '.git' ? dirname(commonDir) : commonDir;
  await git(['-c', 'safe.bareRepository=all', 'rev-parse', '--git-dir'], { cwd, signal });
}

async function listRefs(commonDir: string, gitDir: string, signal: AbortSignal | undefined): Promise<Root[]> {
  const own = gitDir !== commonDir;
  const run = rootRun(commonDir, signal);
  const args = ['for-each-ref', '--format=%(objectname) %(refname)'];
  // In a reftable HEAD-like refs are no files.
  if ((await entriesOf(join(gitDir, 'reftable'))).length > 0) args.push('--include-root-refs');
  else if (own) args.push('refs/bisect', 'refs/rewritten', 'refs/worktree');
  const { stdout, stderr } = await git(args, { ...run, env: { ...run.env, GIT_DIR: gitDir } });
  // Git passes over a ref it cannot read with a warning only.
  if (/broken ref/.test(stderr)) {
    throw new Git2dbError('GIT_FAILED', `${commonDir} has a ref that cannot be read: ${stderr.trim()}`, {
      data: { commonDir, stderr },
    });
  }
  return stdout
    .toString('utf8')
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => {
      const space = line.indexOf(' ');
      const name = line.slice(space + 1);
      return { name: own ? `${nameIn(commonDir, gitDir)}/${name}` : name, oid: line.slice(0, space) };
    });
}

async function hasOwnRefs(gitDir: string): Promise<boolean> {
  const files = await filesBelow(join(gitDir, 'refs'));
  return files.length > 0 || (await entriesOf(join(gitDir, 'reftable'))).length > 0;
}

async function readHead(gitDir: string, refs: ReadonlyMap<string, string>): Promise<string | undefined> {
  const text = (await readText(join(gitDir, 'HEAD')))?.trim() ?? '';
  const ref = /^ref:\s*(.+)$/.exec(text)?.[1];
  return ref === undefined ? text.match(OID)?.[0] : refs.get(ref);
}

async function scanTree(commonDir: string, directory: string, found: Root[]): Promise<void> {
  for (const file of await filesBelow(directory)) await scanFile(commonDir, file, found);
}

/** Adds every object id in a file to `found`, each once. */
async function scanFile(commonDir: string, file: string, found: Root[]): Promise<void> {
  if (basename(dirname(file)) === 'rebase-apply' && MAIL_FILE.test(basename(file))) return;
  const text = (await readText(file)) ?? '';
  const oids = new Set(text.match(OID) ?? []);
  if (TODO_FILES.has(basename(file))) {
    for (const [, oid] of text.matchAll(TODO_OID)) oids.add(oid!);
  }
  const name = nameIn(commonDir, file);
  for (const oid of oids) {
    if (!NULL_OID.test(oid)) found.push({ name, oid });
  }
}

/**
 * Those of `roots` whose object exists, under its full id. One that is reachable from another of them
 * may be left out. An object that exists but cannot be read is GIT_FAILED.
 */
async function existing(
  commonDir: string,
  roots: readonly Root[],
  signal: AbortSignal | undefined,
): Promise<Root[]> {
  if (roots.length === 0) return [];
  const input = `${[...new Set(roots.map(({ oid }) => oid))].join('\n')}\n`;
  // `cat-file --batch-check` would try to fetch in a partial clone, and calls a damaged object missing.
  const args = ['rev-list', '--no-walk=unsorted', '--objects', '--no-object-names', '--filter=tree:0'];
  const lenient = ['--ignore-missing', '--missing=allow-any', '--stdin'];
  const listed = await gitText([...args, ...lenient], { ...rootRun(commonDir, signal), input });
  const found = new Set(listed.split('\n'));
  return roots.flatMap(({ name, oid }) => {
    if (found.has(oid)) return [{ name, oid }];
    if (oid.length >= 40) return [];
    return [...found].filter((full) => full.startsWith(oid)).map((full) => ({ name, oid: full }));
  });
}

function nameIn(commonDir: string, path: string): string {
  return relative(commonDir, path);
}

async function filesBelow(directory: string): Promise<string[]> {
  const files: string[] = [];
  for (const entry of await entriesOf(directory)) {
    const path = join(directory, entry.name);
    if (entry.isDirectory()) files.push(...(await filesBelow(path)));
    else if (entry.isFile()) files.push(path);
  }
  return files;
}

/** Nothing, if there is no such directory; it may also go while we look. */
async function entriesOf(directory: string): Promise<Dirent[]> {
  try {
    return await readdir(directory, { withFileTypes: true });
  } catch (error) {
    if (errnoOf(error) === 'ENOENT' || errnoOf(error) === 'ENOTDIR') return [];
    throw error;
  }
}

async function readText(file: string): Promise<string | undefined> {
  try {
    return await readFile(file, 'utf8');
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return undefined;
    throw error;
  }
}
