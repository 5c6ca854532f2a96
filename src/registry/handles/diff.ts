/**
 * What differs between two trees, a tree and the index, or either and the work tree, from `git diff --raw --numstat -z`:
 *
 *     :<mode> SP <mode> SP <oid> SP <oid> SP <letter>[<score>] NUL <path> NUL [<new path> NUL]
 *     <added> TAB <deleted> TAB <path> NUL          and for renames:  <added> TAB <deleted> TAB NUL <old> NUL <new> NUL
 *
 * Programs that a configuration names for showing differences do not run, so results are those of the files themselves.
 */

import { guarded } from '../../arguments.ts';
import type { GitArg } from '../../git/byte-words.ts';
import { type PathText, pathArgs, pathText, type TreePath } from '../../git/tree-path.ts';
import { Git2dbError } from '../../xet/errors.ts';
import { type GitPlace, requireWorkTree } from '../git-place.ts';
import { findCommit, resolveCommit, resolveObject } from './revision.ts';

export interface DiffOptions {
  /** A tree or commit. Without `to` and `staged` it is compared with the work tree; neither given: index and work tree. */
  readonly from?: string | undefined;
  readonly to?: string | undefined;
  /** `from` (HEAD unless given) and the index. */
  readonly staged?: boolean | undefined;
  /** Starts at the common ancestor of `from` and `to` (`from...to`). */
  readonly mergeBase?: boolean | undefined;
  readonly paths?: readonly TreePath[] | undefined;
  /** Paths are patterns with git's pathspec magic. */
  readonly patterns?: boolean | undefined;
  /** Finds renames, of at least this similarity in percent; true (50) unless given. */
  readonly renames?: boolean | number | undefined;
  readonly copies?: boolean | undefined;
  /** Counts lines, which reads contents; true unless given. Not for `patch`. */
  readonly counts?: boolean | undefined;
  /** Lines around a change; for `patch`. */
  readonly context?: number | undefined;
  readonly ignoreWhitespace?: 'all' | 'change' | 'at-end' | undefined;
  /** Contents of binary files too; for `patch`. */
  readonly binary?: boolean | undefined;
  readonly signal?: AbortSignal | undefined;
}

export interface FileChange extends PathText {
  readonly change: 'added' | 'modified' | 'deleted' | 'type-changed' | 'renamed' | 'copied' | 'unmerged';
  readonly from?: PathText;
  readonly similarity?: number;
  /** `000000` where there is no file. */
  readonly modes: { readonly from: string; readonly to: string };
  /** Zeros where there is no file, or where it is in the work tree and was not hashed. */
  readonly oids: { readonly from: string; readonly to: string };
  /** Lines; undefined when they were not counted, or the file is binary. */
  readonly added: number | undefined;
  readonly deleted: number | undefined;
  readonly isBinary: boolean | undefined;
}

export interface DiffFunction {
  /** The files that differ, in git's order. */
  (options?: DiffOptions): Promise<FileChange[]>;
  /** The same as a patch that `git apply` takes (for binary files with `binary`). */
  patch(options?: DiffOptions): AsyncIterable<Buffer>;
}

export function diffFunction(place: GitPlace): DiffFunction {
  return Object.assign(
    guarded('diff', ['options?'], (options?: DiffOptions) => diffFiles(place, options)),
    {
      patch: guarded('diff.patch', ['options?'], (options?: DiffOptions) => diffPatch(place, options), false),
    },
  );
}

export async function diffFiles(place: GitPlace, options: DiffOptions = {}): Promise<FileChange[]> {
  const counts = options.counts !== false;
  const args = [
    ...(await diffArgs(place, options)),
    '--raw',
    '--no-abbrev',
    '-z',
    ...(counts ? ['--numstat'] : []),
  ];
  const { stdout } = await place.git([...args, ...(await operands(place, options))], {
    signal: options.signal,
    pathspecs: options.patterns === true ? 'magic' : 'literal',
    config: PLAIN,
  });
  return parseRaw(stdout, counts);
}

export async function* diffPatch(place: GitPlace, options: DiffOptions = {}): AsyncIterable<Buffer> {
  const args: GitArg[] = [
    ...(await diffArgs(place, options)),
    '--patch',
    '--full-index',
    '--src-prefix=a/',
    '--dst-prefix=b/',
  ];
  if (options.context !== undefined) args.push(`--unified=${wholeNumber(options.context, 'context')}`);
  if (options.binary === true) args.push('--binary');
  const { stdout } = place.stream([...args, ...(await operands(place, options))], {
    signal: options.signal,
    pathspecs: options.patterns === true ? 'magic' : 'literal',
    config: PLAIN,
  });
  yield* stdout;
}

/** Settings of the user that would change what is parsed, or what a patch means. */
const PLAIN = [
  ['diff.relative', 'false'],
  ['diff.interHunkContext', '0'],
  ['diff.suppressBlankEmpty', 'false'],
] as const;

async function diffArgs(place: GitPlace, options: DiffOptions): Promise<string[]> {
  if (options.to === undefined && options.staged !== true)
    await requireWorkTree(place, 'a diff with the work tree');
  const args = [
    'diff',
    '--no-ext-diff',
    '--no-textconv',
    '--no-color',
    '--no-relative',
    '--submodule=short',
    '-O/dev/null',
  ];
  const renames = options.renames ?? true;
  args.push(
    renames === false
      ? '--no-renames'
      : renames === true
        ? '--find-renames'
        : `--find-renames=${wholeNumber(renames, 'renames')}%`,
  );
  if (options.copies === true) args.push('--find-copies');
  if (options.ignoreWhitespace !== undefined) args.push(WHITESPACE[options.ignoreWhitespace]);
  return args;
}

const WHITESPACE = {
  all: '--ignore-all-space',
  change: '--ignore-space-change',
  'at-end': '--ignore-space-at-eol',
} as const;

async function operands(place: GitPlace, options: DiffOptions): Promise<GitArg[]> {
  const { from, to, staged, mergeBase } = options;
  if (to !== undefined && staged === true) {
    throw new Git2dbError('USAGE', 'a diff has two sides: give to, or staged, not both');
  }
  if (to !== undefined && from === undefined)
    throw new Git2dbError('USAGE', 'a diff to a revision needs a revision to begin from');
  const paths = pathArgs(options.paths);
  // Object ids, so that a name can be neither an option nor a path.
  const words: string[] = [];
  if (mergeBase === true && to !== undefined) {
    words.push(`${await resolveCommit(place, from!)}...${await resolveCommit(place, to)}`);
  } else {
    if (mergeBase === true) words.push('--merge-base');
    if (staged === true) words.push('--cached');
    const start = from ?? (staged === true ? 'HEAD' : undefined);
    if (
      start !== undefined &&
      (start !== 'HEAD' || from !== undefined || (await findCommit(place, 'HEAD')) !== undefined)
    ) {
      words.push((await resolveObject(place, start, mergeBase === true ? 'commit' : 'tree')).oid);
    }
    if (to !== undefined) words.push((await resolveObject(place, to, 'tree')).oid);
  }
  return [...words, ...(paths.length === 0 ? ['--'] : paths)];
}

const CHANGES: Readonly<Record<string, FileChange['change']>> = {
  A: 'added',
  M: 'modified',
  D: 'deleted',
  T: 'type-changed',
  R: 'renamed',
  C: 'copied',
  U: 'unmerged',
};

type Mutable = { -readonly [K in keyof FileChange]: FileChange[K] };

export function parseRaw(output: Buffer, counts: boolean): FileChange[] {
  const files: Mutable[] = [];
  const byPath = new Map<string, Mutable>();
  let at = 0;
  const record = (): Buffer => {
    const end = output.indexOf(0, at);
    const piece = output.subarray(at, end < 0 ? output.length : end);
    at = end < 0 ? output.length : end + 1;
    return piece;
  };
  while (at < output.length && output[at] === 0x3a) {
    const [fromMode, toMode, fromOid, toOid, status] = record().toString('latin1', 1).split(' ') as [
      string,
      string,
      string,
      string,
      string,
    ];
    const letter = status[0]!;
    const first = record();
    const moved = letter === 'R' || letter === 'C';
    const path = moved ? record() : first;
    const file: Mutable = {
      ...pathText(path),
      change: CHANGES[letter] ?? 'modified',
      ...(moved ? { from: pathText(first), similarity: Number(status.slice(1)) } : {}),
      modes: { from: fromMode, to: toMode },
      oids: { from: fromOid, to: toOid },
      added: undefined,
      deleted: undefined,
      isBinary: counts ? false : undefined,
    };
    const key = path.toString('latin1');
    const known = byPath.get(key);
    // An unmerged file has a second record, of our side and the work tree.
    if (known !== undefined && (known.change === 'unmerged' || file.change === 'unmerged')) {
      known.change = 'unmerged';
      continue;
    }
    files.push(file);
    byPath.set(key, file);
  }
  while (at < output.length) {
    const line = record();
    const tab = line.indexOf(0x09);
    const second = line.indexOf(0x09, tab + 1);
    const added = line.toString('latin1', 0, tab);
    const deleted = line.toString('latin1', tab + 1, second);
    let path = line.subarray(second + 1);
    if (path.length === 0) {
      record();
      path = record();
    }
    const file = byPath.get(path.toString('latin1'));
    if (file === undefined) continue;
    file.isBinary = added === '-';
    if (added !== '-') {
      file.added = Number(added);
      file.deleted = Number(deleted);
    }
  }
  return files;
}

function wholeNumber(value: number, what: string): number {
  if (Number.isSafeInteger(value) && value >= 0) return value;
  throw new Git2dbError('USAGE', `expected a whole number for ${what}, found ${value}`);
}
