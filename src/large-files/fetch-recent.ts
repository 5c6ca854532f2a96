/**
 * What `git2db xet fetch --recent` means, as git-lfs-fetch(1) has it: refs whose last commit is not older than so many
 * days, and of each of them (and of what was named) the states that its commits of the last days, counted back from
 * its own last one, had. Days and remotes are settings, for which those of Git LFS stand in.
 */
import { GitConfig } from '../git/config.ts';
import { gitText } from '../git/runner.ts';
import { Git2dbError } from '../xet/errors.ts';
import type { Place } from './work-tree.ts';

export interface RecentRule {
  /** A ref counts if its last commit is of the last so many days; none does for 0. */
  readonly refsDays: number;
  /** Of each ref, states of so many days before its last commit. 0: that one alone. */
  readonly commitsDays: number;
  /** Remote-tracking branches of the remote too, not only branches and tags of one's own. */
  readonly remoteRefs: boolean;
}

const DEFAULTS: RecentRule = { refsDays: 7, commitsDays: 0, remoteRefs: true };

/** From `xet.fetchRecent*`, else `lfs.fetchRecent*`. Throws INVALID_CONFIG. */
export function recentRule({ cwd, env }: Place): RecentRule {
  const config = GitConfig.load(cwd, '^(xet|lfs)\\.fetchrecent(refsdays|commitsdays|remoterefs)$', { env });
  const keyOf = (name: string) =>
    [`xet.${name}`, `lfs.${name}`].find((key) => config.get(key) !== undefined) ?? `xet.${name}`;
  const days = (name: string, otherwise: number) => {
    const key = keyOf(name);
    const value = config.get(key);
    if (value === undefined) return otherwise;
    if (!/^\d{1,6}$/.test(value)) {
      throw new Git2dbError(
        'INVALID_CONFIG',
        `git config ${key}: expected a number of days, found ${JSON.stringify(value)}`,
      );
    }
    return Number(value);
  };
  return {
    refsDays: days('fetchrecentrefsdays', DEFAULTS.refsDays),
    commitsDays: days('fetchrecentcommitsdays', DEFAULTS.commitsDays),
    remoteRefs: config.bool(keyOf('fetchrecentremoterefs'), DEFAULTS.remoteRefs),
  };
}

/** Object ids of the trees of all commits that count. `named`: commits that are fetched anyhow. */
export async function recentTrees(
  rule: RecentRule,
  place: Place,
  {
    named,
    remotePatterns,
    signal,
  }: {
    readonly named: readonly string[];
    /** Names of remote-tracking refs, or patterns of them. */
    readonly remotePatterns: readonly string[];
    readonly signal?: AbortSignal | undefined;
  },
): Promise<string[]> {
  const run = { cwd: place.cwd, env: place.env, keepGitEnv: true, signal } as const;
  const tips = new Set(named);
  if (rule.refsDays > 0) {
    const since = Math.floor(Date.now() / 1000) - rule.refsDays * DAY;
    const patterns = ['refs/heads', 'refs/tags', ...(rule.remoteRefs ? remotePatterns : [])];
    const listed = await gitText(['for-each-ref', `--format=${TIME_AND_COMMIT}`, '--', ...patterns], run);
    for (const line of listed.split('\n')) {
      // The second pair is that of the object of an annotated tag.
      const [time, oid, type, tagTime, tagOid, tagType] = line.split(' ');
      const commit = type === 'commit' ? [time, oid] : tagType === 'commit' ? [tagTime, tagOid] : [];
      if (commit[1] !== undefined && Number(commit[0]) >= since) tips.add(commit[1]);
    }
  }
  const commits = new Set(tips);
  if (rule.commitsDays > 0)
    for (const tip of tips)
      for (const oid of await commitsBefore(tip, rule.commitsDays, run)) commits.add(oid);
  if (commits.size === 0) return [];
  const input = [...commits].map((oid) => `${oid}^{tree}\n`).join('');
  const trees = await gitText(['cat-file', '--batch-check=%(objectname)'], { ...run, input });
  return [...new Set(trees.split('\n').filter((line) => /^[0-9a-f]+$/.test(line)))];
}

const DAY = 86_400;
const TIME_AND_COMMIT =
  '%(committerdate:unix) %(objectname) %(objecttype) %(*committerdate:unix) %(*objectname) %(*objecttype)';

/** Counted back from the last commit, so that a branch at rest keeps its last days. */
async function commitsBefore(
  tip: string,
  days: number,
  run: Parameters<typeof gitText>[1],
): Promise<string[]> {
  const time = await gitText(['show', '-s', '--format=%ct', '--end-of-options', tip], run);
  const since = Number(time) - days * DAY;
  // With their parents: what these commits replaced was the state of those days too.
  const listed = await gitText(['rev-list', '--parents', `--since=${since}`, '--end-of-options', tip], run);
  return listed.split(/[ \n]/).filter(Boolean);
}
