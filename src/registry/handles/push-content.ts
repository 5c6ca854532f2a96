/**
 * The content of large files goes before the refs. A handle sees to it by itself: the hooks of a repository that is
 * not trusted do not run, and a program wants to know what became of each file. What would move is asked of git, by a
 * dry run, and only where there are pointers at all; what is missing there, of the place that belongs to the remote.
 */
import { quotePath } from '../../filter-process/trace.ts';
import { GitRemotes } from '../../large-files/git-remotes.ts';
import type { PushContentResult, PushedFile } from '../../large-files/push.ts';
import { pushedPointers } from '../../large-files/pushed-pointers.ts';
import { Git2dbError } from '../../xet/errors.ts';
import type { TransferEvent } from '../../xet/transfer/transfer.ts';
import type { GitPlace, PlaceRun } from '../git-place.ts';
import { configEnvironment, trustSettings } from '../trust.ts';
import { fullEnvironment } from '../whole-environment.ts';

export type { PushContentResult as PushedContent, PushedFile };

/** `lfs`: bytes of LFS content since the last such event, of an amount that is not known. */
export type ContentProgress = TransferEvent | { readonly kind: 'lfs'; readonly bytes: number };

export interface ContentPushOptions {
  readonly dryRun?: boolean | undefined;
  readonly onContent?: ((event: ContentProgress) => void) | undefined;
  readonly warn?: ((message: string) => void) | undefined;
}

export interface ContentPush {
  /** For each URL that git pushes to, if there was a pointer to look after. */
  readonly content: readonly PushContentResult[];
  /** Object ids that were seen to. */
  readonly tips: readonly string[];
}

/** A branch that moves all the time, by a program that commits. */
const ROUNDS = 8;

/**
 * Sends what `sources` (revisions) need, as far as `wouldMove` says that they would move something. `urls`: of the
 * remote; `run`: git's settings for this remote. Throws what the first file that cannot be sent has failed by.
 */
export async function pushContentFirst(
  place: GitPlace,
  remote: string,
  push: {
    readonly urls: readonly string[];
    readonly run: PlaceRun;
    readonly sources: readonly string[];
    readonly wouldMove: () => Promise<readonly string[]>;
  },
  options: ContentPushOptions,
): Promise<ContentPush> {
  const { urls, run } = push;
  const there = await surroundings(place, run);
  const git = GitRemotes.load(there);
  const { signal } = run;
  const proven = await Promise.all(urls.map((url) => git.provenPatterns(remote, url)));
  // One walk for all of them.
  const patterns = proven.every(({ length }) => length > 0) ? (proven[0] ?? []) : [];
  const boundaries = await trackingOids(place, patterns, signal);
  const range = { boundaries, env: there.env, config: git.config, signal };
  let tips = await resolve(place, push.sources, signal);
  if (!(await hasPointers(git, { ...range, tips }))) return { content: [], tips };

  const moving = await push.wouldMove();
  const { pushContent } = await import('../../large-files/push.ts');
  const content = urls.map((): PushContentResult => ({ place: undefined, files: [], wireBytes: 0 }));
  const isName = git.names().includes(remote);
  const done = new Set<string>();
  // What was committed to a pushed branch while content was on its way is pushed too.
  for (let round = 0; round < ROUNDS; round++) {
    tips = await resolve(place, moving, signal);
    const left = tips.filter((oid) => !done.has(oid));
    if (left.length === 0) break;
    for (const [i, url] of urls.entries()) {
      const sent = await pushContent(
        { tips: left, boundaries: [...boundaries, ...done] },
        {
          ...there,
          git,
          remote,
          url: isName ? url : undefined,
          dryRun: options.dryRun === true,
          mayPrompt: false,
          warn: options.warn ?? (() => {}),
          signal,
          onProgress: options.onContent,
          onLfsBytes: (bytes) => options.onContent?.({ kind: 'lfs', bytes }),
        },
      );
      content[i] = joined(content[i]!, sent);
      failIfMissing(sent);
    }
    for (const oid of left) done.add(oid);
  }
  return { content: content.filter(({ files }) => files.length > 0), tips };
}

function joined(a: PushContentResult, b: PushContentResult): PushContentResult {
  return {
    place: b.place ?? a.place,
    files: [...a.files, ...b.files],
    wireBytes: a.wireBytes + b.wireBytes,
  };
}

async function hasPointers(
  { repository }: GitRemotes,
  range: Parameters<typeof pushedPointers>[1],
): Promise<boolean> {
  for await (const { pointer } of pushedPointers(repository, range)) if (pointer.size !== 0) return true;
  return false;
}

/** What the remote had when it was last talked to. */
async function trackingOids(
  place: GitPlace,
  patterns: readonly string[],
  signal: AbortSignal | undefined,
): Promise<string[]> {
  if (patterns.length === 0) return [];
  const listed = await place.text(['for-each-ref', '--format=%(objectname)', '--', ...patterns], { signal });
  return [...new Set(listed.split('\n').filter(Boolean))];
}

/** What of `names` is here; git complains of the others itself. */
async function resolve(
  place: GitPlace,
  names: readonly string[],
  signal: AbortSignal | undefined,
): Promise<string[]> {
  if (names.length === 0) return [];
  const { stdout } = await place.git(['cat-file', '--batch-check=%(objectname)'], {
    input: names.map((name) => `${name}\n`).join(''),
    signal,
  });
  const lines = stdout.toString('latin1').split('\n');
  return [...new Set(lines.filter((line) => /^(?:[0-9a-f]{40}|[0-9a-f]{64})$/.test(line)))];
}

/**
 * The functions of src/large-files run git by themselves. They get by the environment what the place lays over each of
 * its own runs: nothing that an untrusted repository names is started. The work tree is not needed.
 */
async function surroundings(
  place: GitPlace,
  run: PlaceRun,
): Promise<{ readonly cwd: string; readonly env: NodeJS.ProcessEnv }> {
  const workTree = place.reachable ? place.workTree : undefined;
  const env = fullEnvironment(place.env);
  const trust = await trustSettings(place.trusted, place, { env, signal: run.signal });
  const laid = { ...env, ...trust.env, ...run.env };
  const config = [
    ...(workTree === undefined ? ([['safe.bareRepository', 'all']] as const) : []),
    ...trust.config,
    ...(run.config ?? []),
  ];
  return { cwd: workTree ?? place.gitDir, env: { ...laid, ...configEnvironment(config, laid) } };
}

/** One error for all files that cannot be sent: its code is theirs, or that of content that is nowhere. */
function failIfMissing({ place, files }: PushContentResult): void {
  const failed = files.filter(({ outcome }) => outcome === 'failed');
  const [first] = failed;
  if (first === undefined) return;
  const lacking = failed.find(({ error }) => error?.code === 'CONTENT_MISSING');
  const shown = failed.slice(0, 5).map(describe);
  const more = failed.length > shown.length ? `; and ${failed.length - shown.length} more` : '';
  const remedy =
    lacking === undefined
      ? ''
      : '; get it from where it was committed (git2db xet fetch), then push again, or push without content';
  throw new Git2dbError(
    (lacking ?? first).error?.code ?? 'CONTENT_MISSING',
    `nothing was pushed, as the content of ${failed.length} of ${files.length} files cannot be sent to ${place ?? 'the remote'}: ${shown.join('; ')}${more}${remedy}`,
    { cause: first.error, data: { place, files: failed } },
  );
}

function describe({ path, hash, commit, error }: PushedFile): string {
  const where = commit === undefined ? '' : ` (in commit ${commit.slice(0, 12)})`;
  return `${path.length === 0 ? `content ${hash}` : quotePath(path)}${where}: ${error?.message ?? 'it could not be sent'}`;
}
