/**
 * The state of a work tree, from `git status --porcelain=v2 -z` (git-status(1), "Porcelain Format Version 2"):
 *
 *     # branch.oid | branch.head | branch.upstream | branch.ab | stash  <value>
 *     1 <XY> <sub> <mH> <mI> <mW> <hH> <hI> <path>
 *     2 <XY> <sub> <mH> <mI> <mW> <hH> <hI> <X><score> <path> NUL <origPath>
 *     u <XY> <sub> <m1> <m2> <m3> <mW> <h1> <h2> <h3> <path>
 *     ? <path>      ! <path>
 */
import { type PathText, pathArgs, pathText, type TreePath } from '../../git/tree-path.ts';
import { type GitPlace, requireWorkTree } from '../git-place.ts';
import { currentBranch } from './commit.ts';
import { findOperation, type Operation } from './operation.ts';

export interface StatusOptions {
  readonly paths?: readonly TreePath[] | undefined;
  /** `normal` (unless given): an untracked directory is one entry; `all`: each file in it; `no`: none are looked for. */
  readonly untracked?: 'normal' | 'all' | 'no' | undefined;
  /** Ignored files too; they never count as changes. */
  readonly ignored?: boolean | undefined;
  readonly renames?: boolean | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** One side of a change, as git's letters: `unmodified` is a dot there. */
export type ChangeKind =
  | 'unmodified'
  | 'modified'
  | 'type-changed'
  | 'added'
  | 'deleted'
  | 'renamed'
  | 'copied'
  | 'unmerged';

export type StatusEntry = PathText &
  (
    | {
        readonly kind: 'changed' | 'renamed';
        /** HEAD to index. */
        readonly index: ChangeKind;
        /** Index to work tree. */
        readonly workTree: ChangeKind;
        /** Where it was, for a rename or copy. */
        readonly from?: PathText;
        /** How much of it is the same, 0 to 100. */
        readonly similarity?: number;
        readonly modes: { readonly head: string; readonly index: string; readonly workTree: string };
        readonly oids: { readonly head: string; readonly index: string };
        readonly submodule?: {
          readonly commitChanged: boolean;
          readonly modified: boolean;
          readonly untracked: boolean;
        };
      }
    | {
        readonly kind: 'unmerged';
        /** `UU`, `AA`, `DU`, ...: what our side and theirs did. */
        readonly code: string;
        readonly modes: {
          readonly base: string;
          readonly ours: string;
          readonly theirs: string;
          readonly workTree: string;
        };
        readonly oids: { readonly base: string; readonly ours: string; readonly theirs: string };
      }
    | { readonly kind: 'untracked' | 'ignored' }
  );

export interface RepositoryStatus {
  /** Short name; undefined when detached. */
  readonly branch: string | undefined;
  /** Undefined before the first commit. */
  readonly head: string | undefined;
  /** Short name of the upstream branch, and whether that exists. */
  readonly upstream: string | undefined;
  /** Commits that only we have, or only the upstream; undefined without an upstream that exists. */
  readonly ahead: number | undefined;
  readonly behind: number | undefined;
  readonly stashes: number;
  readonly operation: Operation | undefined;
  readonly entries: readonly StatusEntry[];
  /** No changes, no unmerged and no untracked files. */
  readonly isClean: boolean;
}

export async function status(place: GitPlace, options: StatusOptions = {}): Promise<RepositoryStatus> {
  await requireWorkTree(place, 'status');
  const args = [
    ...['status', '--porcelain=v2', '-z', '--branch', '--show-stash', '--ahead-behind'],
    `--untracked-files=${options.untracked ?? 'normal'}`,
    options.ignored === true ? '--ignored=traditional' : '--ignored=no',
    options.renames === false ? '--no-renames' : '--renames',
    ...pathArgs(options.paths),
  ];
  const { stdout } = await place.git(args, { signal: options.signal, pathspecs: 'literal' });
  const parsed = parseStatus(stdout);
  // A branch may have the very name that says that there is none.
  const branch = parsed.branch === undefined ? await currentBranch(place) : parsed.branch;
  return { ...parsed, branch, operation: await findOperation(place) };
}

const CHANGES: Readonly<Record<string, ChangeKind>> = {
  '.': 'unmodified',
  M: 'modified',
  T: 'type-changed',
  A: 'added',
  D: 'deleted',
  R: 'renamed',
  C: 'copied',
  U: 'unmerged',
};

export function parseStatus(output: Buffer): Omit<RepositoryStatus, 'operation'> {
  const headers = new Map<string, string>();
  const entries: StatusEntry[] = [];
  let at = 0;
  const record = (): Buffer => {
    const end = output.indexOf(0, at);
    const piece = output.subarray(at, end < 0 ? output.length : end);
    at = end < 0 ? output.length : end + 1;
    return piece;
  };
  while (at < output.length) {
    const line = record();
    const letter = String.fromCharCode(line[0] ?? 0);
    if (letter === '#') {
      const [, key, value] = /^# (\S+) ?(.*)$/s.exec(line.toString('utf8')) ?? [];
      if (key !== undefined) headers.set(key, value ?? '');
    } else if (letter === '?' || letter === '!') {
      entries.push({ ...pathText(line.subarray(2)), kind: letter === '?' ? 'untracked' : 'ignored' });
    } else if (letter === 'u') {
      const { words, path } = split(line, 10);
      const [, code, , base, ours, theirs, workTree, oidBase, oidOurs, oidTheirs] = words as string[];
      entries.push({
        ...path,
        kind: 'unmerged',
        code: code!,
        modes: { base: base!, ours: ours!, theirs: theirs!, workTree: workTree! },
        oids: { base: oidBase!, ours: oidOurs!, theirs: oidTheirs! },
      });
    } else if (letter === '1' || letter === '2') {
      const { words, path } = split(line, letter === '1' ? 8 : 9);
      const [, xy, sub, head, index, workTree, oidHead, oidIndex, score] = words as string[];
      entries.push({
        ...path,
        kind: letter === '1' ? 'changed' : 'renamed',
        index: CHANGES[xy![0]!] ?? 'modified',
        workTree: CHANGES[xy![1]!] ?? 'modified',
        ...(letter === '2' ? { from: pathText(record()), similarity: Number(score!.slice(1)) } : {}),
        modes: { head: head!, index: index!, workTree: workTree! },
        oids: { head: oidHead!, index: oidIndex! },
        ...(sub![0] === 'S'
          ? {
              submodule: {
                commitChanged: sub![1] === 'C',
                modified: sub![2] === 'M',
                untracked: sub![3] === 'U',
              },
            }
          : {}),
      });
    }
  }
  const oid = headers.get('branch.oid');
  const name = headers.get('branch.head');
  const [, ahead, behind] = /^\+(\d+) -(\d+)$/.exec(headers.get('branch.ab') ?? '') ?? [];
  return {
    branch: name === '(detached)' ? undefined : name,
    head: oid === '(initial)' ? undefined : oid,
    upstream: headers.get('branch.upstream'),
    ahead: ahead === undefined ? undefined : Number(ahead),
    behind: behind === undefined ? undefined : Number(behind),
    stashes: Number(headers.get('stash') ?? 0),
    entries,
    isClean: entries.every(({ kind }) => kind === 'ignored'),
  };
}

/** The first `count` words of a line, and the path after them. */
function split(line: Buffer, count: number): { words: string[]; path: PathText } {
  let end = -1;
  for (let i = 0; i < count; i++) end = line.indexOf(0x20, end + 1);
  return { words: line.toString('latin1', 0, end).split(' '), path: pathText(line.subarray(end + 1)) };
}
