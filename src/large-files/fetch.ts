/**
 * `git2db xet fetch`: content into the store, without touching the work tree. Which content: that of the index
 * (sparse checkouts leave out what they leave out), of named commits, of all recent branches, or of all history.
 */
import { loadFilterConfig } from '../filter-process/config.ts';
import { withWholePaths } from '../git/listed-paths.ts';
import { PathPatterns } from '../git/path-patterns.ts';
import { splitZ } from '../git/records.ts';
import { git, gitText } from '../git/runner.ts';
import { readSmallBlobs, selectSmallBlobs } from '../git/small-blobs.ts';
import { Git2dbError } from '../xet/errors.ts';
import { parseHash } from '../xet/hash/xet-hash.ts';
import { POINTER_MAX, sniffPointer } from '../xet/pointer/sniff.ts';
import { LocalStore } from '../xet/store/local-store.ts';
import type { TransferEvent } from '../xet/transfer/transfer.ts';
import { ContentRemotes, preloadFor } from './content-remotes.ts';
import { type ContentOutcome, fetchContent } from './fetch-content.ts';
import { recentRule, recentTrees } from './fetch-recent.ts';
import type { GitRemotes } from './git-remotes.ts';
import { completeObjects, type PushedPointer, pushedPointers } from './pushed-pointers.ts';
import type { Place } from './work-tree.ts';

export interface FetchOptions extends Place {
  /** Name or URL of a git remote; all of them, one after the other, unless given. */
  readonly remote: string | undefined;
  /** Branches, tags or commits; the index unless given (HEAD in a bare repository). */
  readonly refs: readonly string[];
  /** Whole histories instead of the last state; of all refs, where none are given. */
  readonly all: boolean;
  /** Also what recent branches and tags, and recent commits on them, have: see fetch-recent.ts. */
  readonly recent: boolean;
  /** As `recent`, with so many days for branches and tags. */
  readonly recentDays: number | undefined;
  /** See src/git/path-patterns.ts; what .gitxet says, where both are empty. */
  readonly include: readonly string[];
  readonly exclude: readonly string[];
  readonly dryRun: boolean;
  readonly mayPrompt: boolean;
  readonly refresh: boolean;
  readonly warn: (message: string) => void;
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: ((event: TransferEvent) => void) | undefined;
}

export interface FetchedFile extends Omit<ContentOutcome, 'outcome'> {
  /** One path it has. */
  readonly path: Buffer;
  /** `missing`: in a dry run, not here. */
  readonly outcome: ContentOutcome['outcome'] | 'missing';
}

export interface FetchResult {
  readonly files: readonly FetchedFile[];
  readonly wireBytes: number;
}

/** Throws NOT_A_REPOSITORY, REF_INVALID, and what makes our own store unusable. */
export async function fetch(options: FetchOptions): Promise<FetchResult> {
  await using remotes = new ContentRemotes(options);
  const { repository } = remotes.git;
  if (!options.dryRun) preloadFor([options.remote, ...remotes.git.places()]);
  const found = new Map<string, PushedPointer>();
  const treeishes: string[] = [];
  // What is left out is said by the commit that is fetched.
  for (const part of partsOf(options)) {
    const [treeish] = await resolveAll(part.refs, '', options);
    if (treeish !== undefined) treeishes.push(treeish);
    const patterns = await patternsOf(remotes, treeish, options);
    const selected: PushedPointer[] = [];
    for await (const one of selectPointers(remotes.git, part)) selected.push(one);
    // Patterns are for whole names.
    for (const one of await withWholePaths(repository, selected, options)) {
      const { pointer } = one;
      if (pointer.size === 0 || !patterns.matches(one.path)) continue;
      const key = pointer.kind === 'lfs' ? `lfs ${pointer.sha256}` : `xet ${pointer.hash}`;
      if (!found.has(key)) found.set(key, one);
    }
  }
  const pointers = [...found.values()];
  const wanted = pointers.map(({ pointer }) => contentOf(pointer));
  if (options.dryRun) return { files: lookUp(remotes.git, pointers, options), wireBytes: 0 };
  const { cwd, env, warn, signal, onProgress, remote } = options;
  const from = remote === undefined ? undefined : [remote];
  const { files, wireBytes } = await fetchContent(remotes, wanted, {
    cwd,
    env,
    from,
    treeishes,
    warn,
    signal,
    onProgress,
  });
  return { files: files.map((file, i) => ({ ...file, path: pointers[i]!.path })), wireBytes };
}

/** One for each ref that is named; what was recent is looked through once. */
function partsOf(options: FetchOptions): FetchOptions[] {
  if (options.refs.length === 0) return [options];
  return options.refs.map((ref, i) => ({
    ...options,
    refs: [ref],
    recentDays: i === 0 ? options.recentDays : undefined,
  }));
}

async function patternsOf(
  remotes: ContentRemotes,
  treeish: string | undefined,
  { include, exclude, warn }: FetchOptions,
): Promise<PathPatterns> {
  if (include.length + exclude.length > 0) return new PathPatterns(include, exclude);
  const gitxet = await remotes.git.gitxet(treeish);
  if (gitxet instanceof Git2dbError) warn(gitxet.message);
  else if (gitxet !== undefined) return new PathPatterns(gitxet.include, gitxet.exclude);
  return new PathPatterns([], []);
}

function lookUp(
  git: GitRemotes,
  pointers: readonly PushedPointer[],
  { cwd, env }: FetchOptions,
): FetchedFile[] {
  const local = new LocalStore(loadFilterConfig(cwd, env, git.config).storeDir);
  try {
    local.existsOrCan();
    return pointers.map(({ path, pointer }) => {
      const content = contentOf(pointer);
      const isHere =
        content.kind === 'lfs'
          ? local.findSha256(content.hash).length > 0
          : local.findFile(parseHash(content.hash)) !== undefined;
      return { ...content, path, outcome: isHere ? 'present' : 'missing' };
    });
  } finally {
    local.close();
  }
}

function contentOf(pointer: PushedPointer['pointer']) {
  return pointer.kind === 'lfs'
    ? ({ kind: 'lfs', hash: pointer.sha256, size: pointer.size } as const)
    : ({ kind: 'xet', hash: pointer.hash, size: pointer.size } as const);
}

async function* selectPointers(git: GitRemotes, options: FetchOptions): AsyncIterable<PushedPointer> {
  const { repository, config } = git;
  const { refs, all, recent, recentDays, remote, signal } = options;
  if (all) {
    const tips = refs.length > 0 ? await resolveAll(refs, '', options) : await allTips(options);
    yield* pushedPointers(repository, { tips, boundaries: [], config, signal });
    return;
  }
  if (refs.length === 0 && repository.workTree !== undefined) yield* indexPointers(git, options);
  const named = refs.length > 0 ? refs : repository.workTree === undefined ? ['HEAD'] : [];
  const trees = await resolveAll(named, '^{tree}', options);
  if (recent || recentDays !== undefined) {
    const rule = recentRule(options);
    const own = remote === undefined ? git.names() : [remote];
    trees.push(
      ...(await recentTrees({ ...rule, refsDays: recentDays ?? rule.refsDays }, options, {
        named: await resolveAll(refs.length > 0 ? refs : ['HEAD'], '^{commit}', options),
        remotePatterns: own.flatMap((name) => git.trackingPatterns(name)),
        signal,
      })),
    );
  }
  yield* pushedPointers(repository, { tips: trees, boundaries: [], config, signal });
}

/** Entries with filter=xet or filter=lfs that are to be in the work tree. */
async function* indexPointers(
  { repository, config }: GitRemotes,
  { cwd, env, signal }: FetchOptions,
): AsyncIterable<PushedPointer> {
  const run = { cwd: repository.workTree ?? cwd, env, keepGitEnv: true, signal };
  const plain = {
    GIT_LITERAL_PATHSPECS: undefined,
    GIT_GLOB_PATHSPECS: undefined,
    GIT_NOGLOB_PATHSPECS: undefined,
    GIT_ICASE_PATHSPECS: undefined,
  };
  const specs = [':(top,attr:filter=xet)', ':(top,attr:filter=lfs)'];
  const { stdout } = await git(['ls-files', '-t', '-s', '-z', '--', ...specs], {
    ...run,
    env: { ...env, ...plain },
  });
  const paths = new Map<string, Buffer>();
  for (const record of splitZ(stdout)) {
    // <tag> SP <mode> SP <oid> SP <stage> TAB <path>; the tag S is skip-worktree
    const tab = record.indexOf(0x09);
    const [tag, mode, oid] = record.toString('latin1', 0, tab).split(' ') as [string, string, string];
    if (tag !== 'S' && mode.startsWith('100')) paths.set(oid, Buffer.from(record.subarray(tab + 1)));
  }
  if (paths.size === 0) return;
  await completeObjects(repository, [...paths.keys()], { config, signal });
  const small = { ...run, maxSize: POINTER_MAX };
  for await (const { oid, body } of readSmallBlobs(selectSmallBlobs(paths.keys(), small), small)) {
    const pointer = sniffPointer(body);
    if (pointer !== undefined) yield { oid, path: paths.get(oid)!, tree: undefined, isWhole: true, pointer };
  }
}

async function resolveAll(refs: readonly string[], suffix: string, place: Place): Promise<string[]> {
  const oids: string[] = [];
  for (const ref of refs) {
    const { stdout, status } = await git(
      ['rev-parse', '--verify', '--quiet', '--end-of-options', `${ref}${suffix}`],
      { ...runIn(place), okStatus: [0, 1, 128] },
    );
    // A repository without commits has no HEAD, and no content.
    if (status !== 0 && ref === 'HEAD') continue;
    if (status !== 0)
      throw new Git2dbError('REF_INVALID', `${JSON.stringify(ref)} names no branch, tag or commit here`);
    oids.push(stdout.toString('latin1').trim());
  }
  return oids;
}

async function allTips(place: Place): Promise<string[]> {
  const listed = await gitText(['for-each-ref', '--format=%(objectname)'], runIn(place));
  return [...listed.split('\n').filter(Boolean), ...(await resolveAll(['HEAD'], '', place))];
}

function runIn({ cwd, env }: Place) {
  return { cwd, env, keepGitEnv: true } as const;
}
