/**
 * Which blobs a repository holds on to, and where a blob is: in the history, in an index, in a tree.
 * Nothing here fetches from a promisor remote, and nothing that cannot be read is passed over.
 */

import { Git2dbError } from '../xet/errors.ts';
import { GitConfig } from './config.ts';
import { batched, splitRecords } from './records.ts';
import type { RepositoryPaths } from './repository.ts';
import { listRoots, type RepositoryRoots, rootRun } from './roots.ts';
import { type GitRun, gitStream, gitText } from './runner.ts';
import { TreeTrail } from './tree-trail.ts';

export { listRoots, type RepositoryRoots, type Root } from './roots.ts';

export interface ReachableBlob {
  readonly oid: string;
  readonly size: number;
  /** One path it has, cut at a newline (see listed-paths.ts); empty where git knows none. */
  readonly path: Buffer;
  /** The tree that has it under this path, if the path is whole; undefined for one that an index has. */
  readonly tree: string | undefined;
}

export interface ReachableOptions extends Pick<GitRun, 'signal'> {
  /** Largest blob that is listed. */
  readonly maxSize: number;
  /**
   * Told of each object that a partial clone has left at its promisor: what is below it is not listed.
   * Without this, one such object is an error; an object missing for no such reason always is.
   */
  readonly onMissing?: ((oid: string) => void) | undefined;
}

const TAB = 0x09;
const NEWLINE = 0x0a;

/** --all, --reflog and --indexed-objects look at every worktree git knows; the rest comes on stdin. */
const REV_LIST = ['rev-list', '--objects', '--all', '--reflog', '--indexed-objects', '--stdin'];

/**
 * Every blob of at most `maxSize` bytes that is reachable from any root (see roots.ts) of the
 * repository and all its worktrees, each once, in no particular order. Memory does not grow with the
 * history in this process. Throws GIT_FAILED when an object or ref cannot be read.
 */
export async function* reachableBlobs(
  repo: RepositoryPaths,
  options: ReachableOptions,
): AsyncIterable<ReachableBlob> {
  const run = rootRun(repo.commonDir, options.signal);
  const roots = await listRoots(repo.commonDir, options);
  const filter = `--filter=blob:limit=${options.maxSize + 1}`;
  // Only where objects may be missing is git asked to go on past one: doing so it looks less closely.
  const missing = isPartialClone(repo) ? ['--missing=print'] : [];
  const listed = gitStream([...REV_LIST, filter, ...missing], { ...run, input: rootLines(roots, run) });
  // Lines of rev-list go through as they are: "<oid> <path>", "<oid>", and "?<oid>" for a missing one.
  const format = '--batch-check=%(objecttype) %(objectsize) %(objectname) %(rest)';
  const checked = gitStream(['cat-file', '--buffer', format], { ...run, input: listed.stdout });
  const trail = new TreeTrail();
  for await (const line of splitRecords(checked.stdout, NEWLINE)) {
    const [type, size, oid] = line.toString('latin1', 0, 160).split(' ', 3) as [string, string, string];
    if (type === 'tree') {
      trail.enter(oid, line.subarray(type.length + size.length + oid.length + 3));
    } else if (type === 'blob') {
      if (Number(size) > options.maxSize) continue;
      const path = Buffer.from(line.subarray(type.length + size.length + oid.length + 3));
      yield { oid, size: Number(size), path, tree: trail.treeOf(path) };
    } else if (type.startsWith('?')) {
      if (options.onMissing === undefined) throw notFetched(repo, type.slice(1));
      options.onMissing(type.slice(1));
    } else if (size === 'missing') {
      throw unreadable(repo, type);
    }
  }
}

async function* rootLines(roots: RepositoryRoots, run: GitRun): AsyncIterable<Buffer> {
  const tips = new Set(
    [...roots.refs, ...roots.heads, ...roots.reflogs, ...roots.operations].map(({ oid }) => oid),
  );
  if (tips.size > 0) yield Buffer.from(`${[...tips].join('\n')}\n`);
  for (const index of roots.strayIndexes) {
    for await (const entry of indexEntries(index, run)) yield Buffer.from(`${entry.oid}\n`);
  }
}

function isPartialClone(repo: RepositoryPaths): boolean {
  const pattern = '^(extensions\\.partialclone|remote\\..*\\.promisor)$';
  const config = GitConfig.load(repo.commonDir, pattern, { env: { GIT_DIR: repo.commonDir } });
  return config.entries().length > 0;
}

function unreadable(repo: RepositoryPaths, oid: string): Git2dbError {
  return new Git2dbError(
    'GIT_FAILED',
    `git object ${oid} of ${repo.commonDir} cannot be read: run "git fsck" there`,
    {
      data: { oid, commonDir: repo.commonDir },
    },
  );
}

function notFetched(repo: RepositoryPaths, oid: string): Git2dbError {
  return new Git2dbError(
    'GIT_FAILED',
    `git object ${oid} of ${repo.commonDir} was never fetched: the repository is a partial clone, and what ` +
      'it has left at its remote is not known ("git fetch --refetch --no-filter" completes it)',
    { data: { oid, commonDir: repo.commonDir } },
  );
}

export interface TreeBlob {
  /** `100644`, `100755`, or `120000` for a symbolic link. */
  readonly mode: string;
  readonly oid: string;
  /** Undefined when a partial clone does not have the blob. */
  readonly size: number | undefined;
  /** Relative to the top. */
  readonly path: Buffer;
}

/** Every file of the tree of `treeish`, in git's order; submodules are left out. */
export async function* treeBlobs(
  repo: RepositoryPaths,
  treeish: string,
  options: Pick<GitRun, 'signal'> = {},
): AsyncIterable<TreeBlob> {
  const run = rootRun(repo.gitDir, options.signal);
  // `ls-tree --long` would fetch, or fail, for a blob that is not here; such a size is not asked for.
  const absent = isPartialClone(repo) ? await absentBlobs(treeish, run) : new Set<string>();
  const waiting: TreeBlob[] = [];
  async function* questions(): AsyncIterable<Buffer> {
    const { stdout } = gitStream(['ls-tree', '-r', '-z', '--full-tree', treeish], run);
    for await (const record of splitRecords(stdout, 0)) {
      // <mode> SP <type> SP <oid> TAB <path>
      const tab = record.indexOf(TAB);
      const [mode, type, oid] = record.toString('latin1', 0, tab).split(' ') as [string, string, string];
      if (type !== 'blob') continue;
      waiting.push({ mode, oid, size: undefined, path: Buffer.from(record.subarray(tab + 1)) });
      // An empty question is answered "missing", which keeps answers and blobs in step.
      yield Buffer.from(absent.has(oid) ? '\n' : `${oid}\n`);
    }
  }
  const args = ['cat-file', '--buffer', '--batch-check=%(objectsize)'];
  const { stdout } = gitStream(args, { ...run, input: batched(questions()) });
  for await (const answer of splitRecords(stdout, NEWLINE)) {
    const blob = waiting.shift()!;
    const size = answer.toString('latin1');
    if (/^\d+$/.test(size)) yield { ...blob, size: Number(size) };
    else if (absent.has(blob.oid)) yield blob;
    else throw unreadable(repo, blob.oid);
  }
}

async function absentBlobs(treeish: string, run: GitRun): Promise<Set<string>> {
  const args = ['rev-list', '--objects', '--no-object-names', '--missing=print', `${treeish}^{tree}`];
  const listed = await gitText(args, run);
  return new Set(listed.split('\n').flatMap((line) => (line.startsWith('?') ? [line.slice(1)] : [])));
}

export interface BlobPlace {
  /** The first commit that has it, parents before children; undefined when only an index has it. */
  readonly commit: string | undefined;
  readonly path: Buffer;
}

/**
 * Where each of the blobs `oids` is: the first commit that has it, and its path there; else a path in
 * an index. A blob that is in neither is not in the answer.
 */
export async function findPathsOf(
  repo: RepositoryPaths,
  oids: Iterable<string>,
  options: Pick<GitRun, 'signal'> = {},
): Promise<Map<string, BlobPlace>> {
  const wanted = new Set(oids);
  const found = new Map<string, BlobPlace>();
  if (wanted.size === 0) return found;
  const run = rootRun(repo.commonDir, options.signal);
  const roots = await listRoots(repo.commonDir, options);

  const order = [
    'rev-list',
    '--all',
    '--reflog',
    '--topo-order',
    '--reverse',
    '--missing=allow-any',
    '--stdin',
  ];
  const commits = gitStream(order, { ...run, input: roots.operations.map(({ oid }) => `${oid}\n`).join('') });
  const diff = ['diff-tree', '--stdin', '-r', '-m', '--root', '-z', '--raw', '--no-abbrev', '--no-renames'];
  const { stdout } = gitStream(diff, { ...run, input: commits.stdout });
  // <commit> NUL, then for each changed path ":<mode> <mode> <old> <new> <status>" NUL <path> NUL
  let commit: string | undefined;
  let changed: string | undefined;
  try {
    for await (const record of splitRecords(stdout, 0)) {
      if (changed !== undefined) {
        if (wanted.delete(changed)) found.set(changed, { commit, path: Buffer.from(record) });
        if (wanted.size === 0) return found;
        changed = undefined;
      } else if (record[0] === COLON) {
        changed = record.toString('latin1').split(' ', 4)[3]!;
      } else {
        commit = record.toString('latin1').trim();
      }
    }
  } catch (error) {
    // In a partial clone a tree may never have been fetched: where the rest is, is not known here.
    if (!(error instanceof Git2dbError) || error.code !== 'GIT_FAILED' || !isPartialClone(repo)) throw error;
  }
  for (const [oid, path] of await pathsInIndexes(roots.indexes, wanted, run))
    found.set(oid, { commit: undefined, path });
  return found;
}

/** A path of each of the blobs `oids` that some index of the repository has. */
export async function findIndexPathsOf(
  repo: RepositoryPaths,
  oids: Iterable<string>,
  options: Pick<GitRun, 'signal'> = {},
): Promise<Map<string, Buffer>> {
  const { indexes } = await listRoots(repo.commonDir, options);
  return await pathsInIndexes(indexes, oids, rootRun(repo.commonDir, options.signal));
}

async function pathsInIndexes(
  indexes: readonly string[],
  oids: Iterable<string>,
  run: GitRun,
): Promise<Map<string, Buffer>> {
  const wanted = new Set(oids);
  const found = new Map<string, Buffer>();
  for (const index of indexes) {
    if (wanted.size === 0) break;
    for await (const { oid, path } of indexEntries(index, run)) if (wanted.delete(oid)) found.set(oid, path);
  }
  return found;
}

const COLON = 0x3a;

async function* indexEntries(index: string, run: GitRun): AsyncIterable<{ oid: string; path: Buffer }> {
  const env = { ...run.env, GIT_INDEX_FILE: index };
  const { stdout } = gitStream(['ls-files', '--stage', '-z'], { ...run, input: undefined, env });
  for await (const record of splitRecords(stdout, 0)) {
    // <mode> SP <oid> SP <stage> TAB <path>
    const tab = record.indexOf(TAB);
    const [mode, oid] = record.toString('latin1', 0, tab).split(' ') as [string, string];
    if (mode !== GITLINK) yield { oid, path: Buffer.from(record.subarray(tab + 1)) };
  }
}

const GITLINK = '160000';
