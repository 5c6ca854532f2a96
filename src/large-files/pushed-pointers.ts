/**
 * The pointers that a push takes along: those in what is reachable from the pushed objects and not from what
 * the other side is known to have. Replacement objects are looked through, as git sends what they replace.
 */
import { GitConfig } from '../git/config.ts';
import { withoutRepository } from '../git/environment.ts';
import { splitRecords } from '../git/records.ts';
import type { RepositoryPaths } from '../git/repository.ts';
import { rootRun } from '../git/roots.ts';
import { type GitRun, git, gitStream, gitText } from '../git/runner.ts';
import { readSmallBlobs } from '../git/small-blobs.ts';
import { TreeTrail } from '../git/tree-trail.ts';
import { Git2dbError } from '../xet/errors.ts';
import { POINTER_MAX, type Pointer, sniffPointer } from '../xet/pointer/sniff.ts';

export interface PushedPointer {
  /** Of the blob. */
  readonly oid: string;
  /** One path it has, cut at a newline; empty where git knows none. `withWholePaths` makes it whole. */
  readonly path: Buffer;
  readonly tree: string | undefined;
  readonly isWhole?: boolean;
  readonly pointer: Pointer;
}

export interface PushedRange {
  /** Object ids that are pushed: commits, annotated tags, or anything else. */
  readonly tips: readonly string[];
  /** Object ids that the other side has with all that is reachable from them. Those not here count for nothing. */
  readonly boundaries: readonly string[];
  /**
   * For git's runs, but for what names a repository. What it lays over the configuration (GIT_CONFIG_COUNT) is in
   * force where a partial clone is completed.
   */
  readonly env?: NodeJS.ProcessEnv | undefined;
  /** All that is in force in the repository, where it was read a moment ago. */
  readonly config?: GitConfig | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** Rounds of fetching what a partial clone has left out: trees name further objects. */
const MAX_ROUNDS = 16;
const NEWLINE = 0x0a;
const OBJECT_ID = /^(?:[0-9a-f]{40}|[0-9a-f]{64})$/;

/**
 * Each pointer blob once, Xet's and LFS's. In a partial clone what is missing is fetched before, all of it at
 * once. Throws OBJECT_MISSING for a tip that is not here, and GIT_FAILED where an object cannot be read.
 */
export async function* pushedPointers(
  repository: RepositoryPaths,
  range: PushedRange,
): AsyncIterable<PushedPointer> {
  const run = runIn(repository, range);
  const tips = [...new Set(range.tips)];
  for (const oid of [...tips, ...range.boundaries]) checkOid(oid);
  if (tips.length === 0) return;
  const checked = checkPresent(repository, tips, range.boundaries, run);
  checked.catch(() => {});
  const promisors = promisorRemotes(repository, range.config);
  // Where nothing has to be fetched before, git passes over what is not here while it is asked what is.
  const boundaries = promisors.length > 0 ? await checked : [...new Set(range.boundaries)];
  const input = `${[...tips, ...boundaries.map((oid) => `^${oid}`)].join('\n')}\n`;
  if (promisors.length > 0) await completePartialClone(repository, promisors, input, run);

  const places = new Map<string, Pick<PushedPointer, 'path' | 'tree'>>();
  const trail = new TreeTrail();
  async function* smallBlobs(): AsyncIterable<string> {
    const listed = gitStream([...WALK, '--stdin'], { ...run, input });
    // The type and the size of what rev-list names; the rest of its line is the path.
    const format = '--batch-check=%(objecttype) %(objectsize) %(objectname) %(rest)';
    const described = gitStream(['cat-file', '--buffer', format], { ...run, input: listed.stdout });
    for await (const line of splitRecords(described.stdout, NEWLINE)) {
      const [type, size, oid] = line.toString('latin1', 0, 160).split(' ', 3) as [string, string, string];
      if (size === 'missing') throw missingObject(type, repository);
      const name = line.subarray(type.length + size.length + oid.length + 3);
      if (type === 'tree') trail.enter(oid, name);
      if (type !== 'blob' || Number(size) > POINTER_MAX || Number(size) === 0) continue;
      const path = Buffer.from(name);
      places.set(oid, { path, tree: trail.treeOf(path) });
      yield oid;
    }
    await listed.done;
  }
  try {
    for await (const { oid, body } of readSmallBlobs(smallBlobs(), { ...run, maxSize: POINTER_MAX })) {
      const place = places.get(oid)!;
      places.delete(oid);
      const pointer = sniffPointer(body);
      if (pointer !== undefined) await checked;
      if (pointer !== undefined) yield { oid, ...place, pointer };
    }
    await checked;
  } catch (error) {
    // That a tip is missing says more than what git made of it.
    await checked;
    throw error;
  }
}

const WALK = ['rev-list', '--objects', '--ignore-missing', `--filter=blob:limit=${POINTER_MAX + 1}`];

/** Those of `boundaries` that are here. Throws OBJECT_MISSING for a tip that is not. */
async function checkPresent(
  repository: RepositoryPaths,
  tips: readonly string[],
  boundaries: readonly string[],
  run: GitRun,
): Promise<string[]> {
  const present = await presentAmong([...tips, ...boundaries], run);
  const absent = tips.find((oid) => !present.has(oid));
  if (absent !== undefined) throw missingObject(absent, repository);
  return [...new Set(boundaries)].filter((oid) => present.has(oid));
}

/** Those of `oids` that are in the repository; nothing is fetched to find out. */
export async function presentAmong(oids: readonly string[], run: GitRun): Promise<Set<string>> {
  if (oids.length === 0) return new Set();
  const args = ['rev-list', '--no-walk=unsorted', '--objects', '--no-object-names', '--filter=tree:0'];
  const lenient = ['--ignore-missing', '--missing=allow-any', '--stdin'];
  const listed = await gitText([...args, ...lenient], {
    ...run,
    input: `${[...new Set(oids)].join('\n')}\n`,
  });
  return new Set(listed.split('\n'));
}

/** Fetches what the walk would miss from the promisor remotes, all in one go a round. */
async function completePartialClone(
  repository: RepositoryPaths,
  promisors: readonly string[],
  input: string,
  run: GitRun,
): Promise<void> {
  for (let round = 0; round < MAX_ROUNDS; round++) {
    const missing: string[] = [];
    const { stdout } = gitStream([...WALK, '--missing=print', '--stdin'], { ...run, input });
    for await (const line of splitRecords(stdout, NEWLINE)) {
      if (line[0] === QUESTION_MARK) missing.push(line.toString('latin1', 1));
    }
    if (missing.length === 0) return;
    for (const remote of promisors) {
      const absent = await absentOf(missing, run);
      if (absent.length > 0) await fetchObjects(repository, remote, absent, run);
    }
    const absent = await absentOf(missing, run);
    if (absent.length > 0) throw missingObject(absent[0]!, repository);
  }
}

/**
 * Fetches those of `oids` that a partial clone has left at its promisor remotes, all of them at once. `config`: all that
 * is in force in the repository.
 */
export async function completeObjects(
  repository: RepositoryPaths,
  oids: readonly string[],
  { config, signal }: { readonly config: GitConfig; readonly signal: AbortSignal | undefined },
): Promise<void> {
  const run = rootRun(repository.commonDir, signal);
  for (const remote of promisorRemotes(repository, config)) {
    const absent = await absentOf(oids, run);
    if (absent.length === 0) return;
    await fetchObjects(repository, remote, absent, run);
  }
}

async function absentOf(oids: readonly string[], run: GitRun): Promise<string[]> {
  const present = await presentAmong(oids, run);
  return oids.filter((oid) => !present.has(oid));
}

/** As git itself fetches what it misses, but for many objects at once. */
async function fetchObjects(
  repository: RepositoryPaths,
  remote: string,
  oids: readonly string[],
  { env, signal }: GitRun,
): Promise<void> {
  const quiet = ['--quiet', '--no-tags', '--no-write-fetch-head', '--no-recurse-submodules'];
  await git(
    [
      '-c',
      'fetch.negotiationAlgorithm=noop',
      'fetch',
      ...quiet,
      '--filter=blob:none',
      '--stdin',
      '--',
      remote,
    ],
    {
      cwd: repository.commonDir,
      env: { ...env, GIT_NO_LAZY_FETCH: undefined, GIT_REF_PARANOIA: undefined },
      input: `${oids.join('\n')}\n`,
      okStatus: [0, 1, 128],
      signal,
    },
  );
}

/**
 * The remotes that have promised what is not here; empty for a repository that has everything. `read`: all that is in
 * force in it, where it was read a moment ago.
 */
export function promisorRemotes(repository: RepositoryPaths, read?: GitConfig): string[] {
  const config = read ?? loadPromisors(repository);
  const named = config.get('extensions.partialClone');
  const marked = config
    .entries()
    .filter(({ key }) => /^remote\..*\.promisor$/s.test(key) && config.bool(key, false))
    .map(({ key }) => key.slice('remote.'.length, -'.promisor'.length));
  return [...new Set([...(named ? [named] : []), ...marked])];
}

function loadPromisors({ commonDir }: RepositoryPaths): GitConfig {
  const pattern = '^(extensions\\.partialclone|remote\\..*\\.promisor)$';
  return GitConfig.load(commonDir, pattern, { env: { GIT_DIR: commonDir } });
}

/** As `rootRun`, in the environment that was given. */
function runIn({ commonDir }: RepositoryPaths, { env, signal }: Pick<PushedRange, 'env' | 'signal'>): GitRun {
  const run = rootRun(commonDir, signal);
  return env === undefined ? run : { ...run, env: { ...withoutRepository(env), ...run.env } };
}

function checkOid(oid: string): void {
  if (OBJECT_ID.test(oid)) return;
  throw new Git2dbError(
    'USAGE',
    `expected an object id of 40 or 64 digits, found ${JSON.stringify(oid.slice(0, 80))}`,
  );
}

const QUESTION_MARK = 0x3f;

function missingObject(oid: string, { commonDir }: RepositoryPaths): Git2dbError {
  return new Git2dbError(
    'OBJECT_MISSING',
    `git object ${oid} is not in ${commonDir}, so what a push needs is not known: fetch it, or run "git fsck" there`,
    { data: { oid, commonDir } },
  );
}
