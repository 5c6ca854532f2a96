/** What a ref that was asked for comes to, by git's own rules for `git worktree add`. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fullRefName, whyNoRefName } from '../../git/ref-name.ts';
import { Git2dbError } from '../../xet/errors.ts';
import { ReferenceError_ } from '../errors.ts';
import type { GitPlace } from '../git-place.ts';
import type { CheckoutTarget, WorktreeSpec } from './driver.ts';
import { entriesOf } from './layer-store.ts';

/** Throws REF_INVALID for what is no commit, or no name for a new branch. */
export async function resolveTarget(place: GitPlace, spec: WorktreeSpec): Promise<CheckoutTarget> {
  const { ref, newBranch, detach = false, signal } = spec;
  checkWord(ref, 'ref');
  if (newBranch !== undefined) {
    fullRefName('branch', newBranch);
    if (detach) throw new Git2dbError('USAGE', 'a worktree is either detached or on a new branch, not both');
  }
  const short = ref.replace(/^refs\/heads\//, '');
  const branch = refNamed('refs/heads/', short);
  const remote = refNamed('refs/remotes/', ref.replace(/^refs\/remotes\//, ''));
  const wanted = newBranch === undefined ? undefined : `refs/heads/${newBranch}`;
  const found = await resolveAll(
    place,
    [branch, remote, ref].flatMap((name) => [`${name}^{commit}`, `${name}^{tree}`]).concat(wanted ?? []),
    signal,
  );
  const [branchCommit, branchTree, remoteCommit, , anyCommit, anyTree, taken] = found;
  // A branch comes before a tag of the same name, as in git worktree add.
  const commit = branchCommit ?? anyCommit;
  const tree = branchCommit === undefined ? anyTree : branchTree;
  if (wanted !== undefined) {
    if (commit === undefined || tree === undefined) throw await unknownRef(place, ref);
    if (taken !== undefined)
      return { commit: taken, tree, branch: wanted, newBranch: false, upstream: undefined };
    const upstream = branchCommit === undefined && remoteCommit === commit ? remote : undefined;
    return { commit, tree, branch: wanted, newBranch: true, upstream };
  }
  if (commit !== undefined && tree !== undefined) {
    const on = branchCommit !== undefined && !detach ? branch : undefined;
    return { commit, tree, branch: on, newBranch: false, upstream: undefined };
  }
  return fromOneRemote(place, spec);
}

/** `main~3` is no branch, though git would find a commit behind `refs/heads/main~3`. */
function refNamed(prefix: string, name: string): string {
  return prefix + (isBranchName(name) ? name : '.none');
}

/** A branch that exactly one remote has, and nobody here: made, and following that one. */
async function fromOneRemote(
  place: GitPlace,
  { ref, detach, signal }: WorktreeSpec,
): Promise<CheckoutTarget> {
  if (!isBranchName(ref)) throw await unknownRef(place, ref);
  const remotes = (await place.text(['remote'], { signal })).split('\n').filter((name) => name !== '');
  const names = remotes.map((name) => `refs/remotes/${name}/${ref}`);
  const found = await resolveAll(
    place,
    names.flatMap((name) => [`${name}^{commit}`, `${name}^{tree}`]),
    signal,
  );
  const there = names.filter((_, i) => found[2 * i] !== undefined);
  if (there.length !== 1) {
    if (there.length === 0) throw await unknownRef(place, ref);
    throw new ReferenceError_(
      `several remotes have a branch ${JSON.stringify(ref)}: name one of ${there.join(', ')}, with a new branch`,
      { data: { ref, candidates: there } },
    );
  }
  const i = names.indexOf(there[0]!);
  return {
    commit: found[2 * i]!,
    tree: found[2 * i + 1]!,
    branch: detach === true ? undefined : `refs/heads/${ref}`,
    newBranch: detach !== true,
    upstream: there[0],
  };
}

/** Object ids in the order of `names`; undefined for what is not there. One process. */
async function resolveAll(
  place: GitPlace,
  names: readonly string[],
  signal: AbortSignal | undefined,
): Promise<(string | undefined)[]> {
  if (names.length === 0) return [];
  const { stdout } = await place.git(['cat-file', '--batch-check=%(objectname)'], {
    input: `${names.join('\n')}\n`,
    signal,
  });
  const lines = stdout.toString('utf8').split('\n');
  return names.map((_, i) => (/^([0-9a-f]{64}|[0-9a-f]{40})$/.test(lines[i] ?? '') ? lines[i] : undefined));
}

function checkWord(word: string, what: string): void {
  if (typeof word === 'string' && word !== '' && !word.startsWith('-') && !/[\0\r\n]/.test(word)) return;
  throw new ReferenceError_(
    `${JSON.stringify(word)} is no ${what}: expected a name that is not empty, begins with no '-' and is one line`,
    { data: { [what]: word } },
  );
}

export function isBranchName(name: string): boolean {
  return whyNoRefName(name) === undefined && name !== 'HEAD';
}

async function unknownRef(place: GitPlace, ref: string): Promise<ReferenceError_> {
  const names = await place.text(['for-each-ref', '--format=%(refname:short)', 'refs/heads', 'refs/tags']);
  const last = ref.slice(ref.lastIndexOf('/') + 1).toLowerCase();
  const near = names
    .split('\n')
    .filter((name) => name !== '' && name.toLowerCase().includes(last))
    .slice(0, 5);
  const hint =
    near.length === 0 ? 'git branch --all lists the branches there are' : `did you mean ${near.join(', ')}?`;
  return new ReferenceError_(
    `${JSON.stringify(ref)} is no branch, tag or commit in ${place.commonDir}; ${hint}`,
    {
      data: { ref, near },
    },
  );
}

/**
 * The worktree that has `branch` checked out, or an operation on it in progress; undefined: none. From
 * git's files, as git itself does it.
 */
export function whereCheckedOut(commonDir: string, branch: string, isBare: boolean): string | undefined {
  const directories = entriesOf(join(commonDir, 'worktrees')).map((name) =>
    join(commonDir, 'worktrees', name),
  );
  for (const directory of [commonDir, ...directories]) {
    const head = /^ref:\s*(\S+)/.exec(textOf(join(directory, 'HEAD')))?.[1];
    const held = [
      head,
      ...['rebase-merge/head-name', 'rebase-apply/head-name'].map((name) =>
        textOf(join(directory, name)).trim(),
      ),
      `refs/heads/${textOf(join(directory, 'BISECT_START')).trim()}`,
    ];
    if (!held.includes(branch)) continue;
    if (directory !== commonDir)
      return textOf(join(directory, 'gitdir'))
        .trim()
        .replace(/\/\.git$/, '');
    // A bare repository's HEAD names a branch that is checked out nowhere.
    if (!isBare) return commonDir.endsWith('/.git') ? commonDir.slice(0, -5) : commonDir;
  }
  return undefined;
}

function textOf(file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch {
    return '';
  }
}
