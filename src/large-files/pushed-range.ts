/** From what a push is told to what git's history is walked between: object ids that go, and those that are there. */
import { git, gitText } from '../git/runner.ts';
import { Git2dbError } from '../xet/errors.ts';
import type { GitRemotes } from './git-remotes.ts';

export interface PushedRange {
  readonly tips: readonly string[];
  readonly boundaries: readonly string[];
}

/** What is to be pushed, as `git2db xet push` is told it. */
export interface RefSelection {
  /** Branches, tags or commits; HEAD where there are none. */
  readonly refs: readonly string[];
  /** All branches and tags (of a mirror: all refs) with their whole history, whatever the remote is believed to have. */
  readonly all: boolean;
}

/** Throws REF_INVALID for what names no object. */
export async function selectRange(
  remotes: GitRemotes,
  remote: string,
  { refs, all }: RefSelection,
  url?: string,
): Promise<PushedRange> {
  const { run } = remotes;
  if (all) {
    const patterns = remotes.isMirror(remote) ? [] : ['refs/heads', 'refs/tags'];
    const listed = await gitText(['for-each-ref', '--format=%(objectname)', ...patterns], run);
    const head = refs.length === 0 ? await headOid(remotes) : undefined;
    return {
      tips: [...listed.split('\n').filter(Boolean), ...(head === undefined ? [] : [head])],
      boundaries: [],
    };
  }
  const [tips, boundaries] = await Promise.all([
    resolveTips(remotes, refs.length === 0 ? ['HEAD'] : refs),
    trackingOids(remotes, { remote, url }),
  ]);
  return { tips, boundaries };
}

async function resolveTips({ run }: GitRemotes, refs: readonly string[]): Promise<string[]> {
  const tips: string[] = [];
  for (const ref of refs) {
    const { stdout, status } = await git(['rev-parse', '--verify', '--quiet', '--end-of-options', ref], {
      ...run,
      okStatus: [0, 1, 128],
    });
    if (status !== 0)
      throw new Git2dbError('REF_INVALID', `${JSON.stringify(ref)} names no branch, tag or commit here`);
    tips.push(stdout.toString('latin1').trim());
  }
  return tips;
}

async function headOid({ run }: GitRemotes): Promise<string | undefined> {
  const { stdout, status } = await git(['rev-parse', '--verify', '--quiet', 'HEAD'], {
    ...run,
    okStatus: [0, 1, 128],
  });
  return status === 0 ? stdout.toString('latin1').trim() : undefined;
}

/** What the remote had when it was last talked to. */
export async function trackingOids(
  remotes: GitRemotes,
  { remote, url }: { readonly remote: string; readonly url?: string | undefined },
): Promise<string[]> {
  const patterns = await remotes.provenPatterns(remote, url);
  if (patterns.length === 0) return [];
  const listed = await gitText(['for-each-ref', '--format=%(objectname)', '--', ...patterns], remotes.run);
  return [...new Set(listed.split('\n').filter(Boolean))];
}
