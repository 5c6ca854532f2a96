/** The entries of the index that the filter is for, found without starting it. */
import { type FilterConfig, loadFilterConfig } from '../filter-process/config.ts';
import { indexEntries } from '../git/index-file/entries.ts';
import type { IndexEntry } from '../git/index-file/entry.ts';
import { loadIndex } from '../git/index-file/read.ts';
import { isOrdinary } from '../git/index-file/work-tree.ts';
import { splitZ } from '../git/records.ts';
import { type GitRun, git } from '../git/runner.ts';
import { Git2dbError } from '../xet/errors.ts';
import { type Place, requireWorkTree } from './work-tree.ts';

/** A work tree, and how to ask git about it. */
export interface OpenWorkTree {
  readonly config: FilterConfig;
  /** Absolute, without symbolic links. */
  readonly root: string;
  readonly run: Pick<GitRun, 'cwd' | 'env' | 'keepGitEnv'>;
}

/** Throws NOT_A_REPOSITORY outside a work tree, and in a bare repository. */
export function openWorkTree({ cwd, env }: Place): OpenWorkTree {
  const config = loadFilterConfig(cwd, env);
  // As for git, a work tree that was named may be elsewhere than `cwd`.
  const named = env.GIT_WORK_TREE ? config.repository.workTree : undefined;
  const root = named ?? requireWorkTree({ cwd, env }, 'there are no files to work on').workTree;
  return { config, root, run: { cwd, env, keepGitEnv: true } };
}

/** These would change what our own pathspec means. */
const PLAIN_PATHSPECS = {
  GIT_LITERAL_PATHSPECS: undefined,
  GIT_GLOB_PATHSPECS: undefined,
  GIT_NOGLOB_PATHSPECS: undefined,
  GIT_ICASE_PATHSPECS: undefined,
} as const;

export interface XetEntries {
  readonly entries: readonly IndexEntry[];
  /** When the index was written: git looks into files that are not older, by the whole second. */
  readonly indexTimeNs: bigint;
}

/**
 * The entries with `filter=xet` that `pathspecs` match (all, if there are none), in the order of the
 * index: regular files at stage 0 that git takes an interest in (not assume-unchanged, skip-worktree or
 * intent-to-add). Throws USAGE when a pathspec matches nothing.
 */
export async function readXetEntries(tree: OpenWorkTree, pathspecs: readonly string[]): Promise<XetEntries> {
  const { config, run } = tree;
  const plain = { ...run, env: { ...run.env, ...PLAIN_PATHSPECS } };
  const wanted = await listPaths(['--', ':(top,attr:filter=xet)'], plain);
  const named =
    pathspecs.length === 0 ? undefined : await listPaths(['--error-unmatch', '--', ...pathspecs], run);
  const none = { entries: [], indexTimeNs: 0n };
  if (wanted.size === 0) return none;
  const index = await loadIndex(config.indexPath, config.objectFormat === 'sha256' ? 32 : 20);
  if (index === undefined) return none;
  const entries: IndexEntry[] = [];
  for (const entry of indexEntries(index.view)) {
    const key = entry.path.toString('latin1');
    if (wanted.has(key) && named?.has(key) !== false && isOrdinary(entry)) entries.push(entry);
  }
  return { entries, indexTimeNs: index.stat.mtimeNs };
}

/** The paths that `git ls-files` gives, from the top, one character a byte. */
async function listPaths(args: readonly string[], run: OpenWorkTree['run']): Promise<Set<string>> {
  const { stdout, stderr, status } = await git(['ls-files', '-z', '--full-name', ...args], {
    ...run,
    okStatus: [0, 1],
  });
  if (status !== 0) throw new Git2dbError('USAGE', `${firstLine(stderr)}; name files that are in the index`);
  return new Set([...splitZ(stdout)].map((path) => path.toString('latin1')));
}

function firstLine(text: string): string {
  return text.split('\n', 1)[0]!.replace(/^(?:error|fatal): /, '');
}
