/**
 * Repositories that were not begun with git2db: which large blobs git holds whole, and pointers that other
 * programs wrote. History is never rewritten: others rely on the names of commits.
 */
import { checkAttributes } from '../git/attributes.ts';
import { type ListedBlob, withWholePaths } from '../git/listed-paths.ts';
import { batched, splitRecords } from '../git/records.ts';
import type { RepositoryPaths } from '../git/repository.ts';
import { rootRun } from '../git/roots.ts';
import { type GitRun, git, gitLinesZ, gitStream, gitText } from '../git/runner.ts';
import { TreeTrail } from '../git/tree-trail.ts';
import { chunkStream } from '../xet/chunk/chunk-stream.ts';
import { errnoOf, Git2dbError } from '../xet/errors.ts';
import { sniffPointer } from '../xet/pointer/sniff.ts';
import { formatPointer } from '../xet/pointer/xet-pointer.ts';
import { readBlobFacts } from './pointer-blobs.ts';
import { readSmallFile } from './pointer-files.ts';
import { type Place, requireRepository, requireWorkTree } from './work-tree.ts';

// ---- info ------------------------------------------------------------------------------------

export interface MigrateInfoOptions extends Place {
  /** Commits, branches, tags; HEAD unless given. */
  readonly refs: readonly string[];
  /** All refs, whatever `refs` says. */
  readonly everything: boolean;
  /** Blobs of at least this many bytes count. */
  readonly above: number;
  /** Cut contents into chunks to see what repeats: at most this many bytes; 0 for none. */
  readonly estimateBytes: number;
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: ((event: MigrateProgress) => void) | undefined;
}

export type MigrateProgress =
  | { readonly kind: 'estimate'; readonly totalBytes: number }
  | { readonly kind: 'bytes'; readonly bytes: number };

/** The large blobs of one kind of file. */
export interface PatternInfo {
  /** For `git2db xet track`: `*.ext`, or the name of a file that has no extension. */
  readonly pattern: string;
  /** Distinct paths. */
  readonly files: number;
  /** Versions of them. */
  readonly blobs: number;
  readonly bytes: number;
  /** In git's object database, compressed and as deltas. */
  readonly diskBytes: number;
  /** True if some of the paths have filter=xet already. */
  readonly tracked: boolean;
  /** Undefined unless asked for, or when there was no time left for this pattern. */
  readonly estimate: { readonly examinedBytes: number; readonly uniqueBytes: number } | undefined;
}

interface LargeBlob extends ListedBlob {
  readonly size: number;
  readonly diskSize: number;
}

/** Patterns by falling number of bytes. Throws NOT_A_REPOSITORY, or USAGE for an unknown ref. */
export async function migrateInfo(options: MigrateInfoOptions): Promise<PatternInfo[]> {
  const repository = requireRepository(options);
  const run = rootRun(repository.commonDir, options.signal);
  const tips = options.everything ? ['--all'] : await resolveRefs(options);
  if (tips.length === 0) return [];
  const byPattern = new Map<string, LargeBlob[]>();
  const large: LargeBlob[] = [];
  for await (const blob of largeBlobs(tips, options.above, run)) large.push(blob);
  for (const blob of await withWholePaths(repository, large, options)) {
    const pattern = patternOf(blob.path);
    const known = byPattern.get(pattern);
    if (known === undefined) byPattern.set(pattern, [blob]);
    else known.push(blob);
  }
  const tracked = await trackedPaths(repository, [...byPattern.values()].flat(), options);
  const found = [...byPattern].map(([pattern, blobs]) => ({
    pattern,
    blobs,
    bytes: blobs.reduce((sum, { size }) => sum + size, 0),
  }));
  found.sort((a, b) => b.bytes - a.bytes);
  const estimates = await estimate(found, options, run);
  return found.map(({ pattern, blobs, bytes }, i) => ({
    pattern,
    files: new Set(blobs.map(({ path }) => path.toString('latin1'))).size,
    blobs: blobs.length,
    bytes,
    diskBytes: blobs.reduce((sum, { diskSize }) => sum + diskSize, 0),
    tracked: blobs.some(({ path }) => tracked.has(path.toString('latin1'))),
    estimate: estimates[i],
  }));
}

async function resolveRefs({ cwd, env, refs, signal }: MigrateInfoOptions): Promise<string[]> {
  const oids: string[] = [];
  for (const ref of refs.length === 0 ? ['HEAD'] : refs) {
    const args = ['rev-parse', '--verify', '--quiet', '--end-of-options', `${ref}^{commit}`];
    const { stdout, status } = await git(args, { cwd, env, keepGitEnv: true, signal, okStatus: [0, 1, 128] });
    // A repository without commits has no history to look through.
    if (status !== 0 && refs.length === 0) return [];
    if (status !== 0) throw new Git2dbError('USAGE', `'${ref}' names no commit in this repository`);
    oids.push(stdout.toString('latin1').trim());
  }
  return oids;
}

/** Blobs that are reachable from `tips`, each once. */
async function* largeBlobs(tips: readonly string[], above: number, run: GitRun): AsyncIterable<LargeBlob> {
  const listed = gitStream(['rev-list', '--objects', '--missing=allow-any', ...tips], {
    ...run,
    input: undefined,
  });
  const format = '--batch-check=%(objecttype) %(objectname) %(objectsize) %(objectsize:disk) %(rest)';
  const checked = gitStream(['cat-file', '--buffer', format], { ...run, input: batched(listed.stdout) });
  const trail = new TreeTrail();
  for await (const line of splitRecords(checked.stdout, NEWLINE)) {
    const text = line.toString('latin1');
    const match = /^(blob|tree) ([0-9a-f]+) (\d+) (\d+) (.*)$/s.exec(text);
    if (match === null) continue;
    const [, type, oid, size, diskSize, name] = match as unknown as Six;
    const path = Buffer.from(name, 'latin1');
    if (type === 'tree') trail.enter(oid, path);
    else if (Number(size) >= above)
      yield { oid, size: Number(size), diskSize: Number(diskSize), path, tree: trail.treeOf(path) };
  }
}

const NEWLINE = 0x0a;
type Six = [string, string, string, string, string, string];

/** `*.ext`; the whole name for one without an extension, or with nothing but one. */
function patternOf(path: Buffer): string {
  const name = path.subarray(path.lastIndexOf('/') + 1).toString('utf8');
  const dot = name.lastIndexOf('.');
  return dot > 0 && dot < name.length - 1 ? `*${name.slice(dot)}` : name;
}

async function trackedPaths(
  { workTree }: RepositoryPaths,
  blobs: readonly LargeBlob[],
  { env, signal }: MigrateInfoOptions,
): Promise<Set<string>> {
  const tracked = new Set<string>();
  if (workTree === undefined) return tracked;
  const paths = [...new Set(blobs.map(({ path }) => path.toString('latin1')))].filter((path) => path !== '');
  const names = paths.map((path) => Buffer.from(path, 'latin1'));
  for await (const { path, attributes } of checkAttributes(names, ['filter'], {
    cwd: workTree,
    env,
    keepGitEnv: true,
    signal,
  })) {
    if (attributes.get('filter') === 'xet') tracked.add(path.toString('latin1'));
  }
  return tracked;
}

/** For each pattern, as far as the bytes reach: the largest first, the versions of a file together. */
async function estimate(
  patterns: readonly { readonly blobs: readonly LargeBlob[] }[],
  { estimateBytes, onProgress, signal }: MigrateInfoOptions,
  run: GitRun,
): Promise<PatternInfo['estimate'][]> {
  const total = patterns.flatMap(({ blobs }) => blobs).reduce((sum, { size }) => sum + size, 0);
  let left = Math.min(estimateBytes, total);
  if (left > 0) onProgress?.({ kind: 'estimate', totalBytes: left });
  const estimates: PatternInfo['estimate'][] = [];
  for (const { blobs } of patterns) {
    const seen = new Set<string>();
    let examinedBytes = 0;
    let uniqueBytes = 0;
    for (const { oid, size } of versionsTogether(blobs)) {
      // A part of a blob would tell nothing of how it repeats the one before.
      if (size > left) continue;
      left -= size;
      const { stdout } = gitStream(['cat-file', 'blob', oid], { ...run, input: undefined });
      for await (const { bytes, hash } of chunkStream(stdout)) {
        signal?.throwIfAborted();
        examinedBytes += bytes.length;
        onProgress?.({ kind: 'bytes', bytes: bytes.length });
        const key = Buffer.from(hash.buffer, hash.byteOffset, 16).toString('latin1');
        if (seen.has(key)) continue;
        seen.add(key);
        uniqueBytes += bytes.length;
      }
    }
    estimates.push(examinedBytes === 0 ? undefined : { examinedBytes, uniqueBytes });
  }
  return estimates;
}

function versionsTogether(blobs: readonly LargeBlob[]): LargeBlob[] {
  const byPath = new Map<string, LargeBlob[]>();
  for (const blob of blobs) {
    const key = blob.path.toString('latin1');
    byPath.set(key, [...(byPath.get(key) ?? []), blob]);
  }
  const sumOf = (group: readonly LargeBlob[]) => group.reduce((sum, { size }) => sum + size, 0);
  return [...byPath.values()].sort((a, b) => sumOf(b) - sumOf(a)).flat();
}

// ---- pointers --------------------------------------------------------------------------------

export interface ConvertedPointer {
  /** From the top of the work tree. */
  readonly path: Buffer;
  readonly kind: 'xet-json' | 'xet-toml';
  /** Blobs, before and after; after is undefined in a dry run. */
  readonly from: string;
  readonly to: string | undefined;
}

export interface MigratePointersResult {
  readonly converted: readonly ConvertedPointer[];
  /** Foreign pointers that have no filter=xet: left alone. */
  readonly untracked: readonly Buffer[];
}

export interface StagedFile {
  readonly mode: string;
  readonly oid: string;
  readonly path: Buffer;
}

/**
 * Stages our own form of every foreign pointer in the index whose path has filter=xet. Files of the work
 * tree that are such a pointer are written anew; contents are not touched. Throws NOT_A_REPOSITORY.
 */
export async function migratePointers(
  options: Place & { readonly dryRun: boolean },
): Promise<MigratePointersResult> {
  const { workTree } = requireWorkTree(options, 'there is no index to change');
  const run = { cwd: workTree, env: options.env, keepGitEnv: true };
  const files = await stagedFiles(run);
  const facts = await readBlobFacts(
    files.map(({ oid }) => oid),
    run,
  );
  const foreign = files.flatMap((file) => {
    const pointer = facts.get(file.oid)?.pointer;
    return pointer?.kind === 'xet-json' || pointer?.kind === 'xet-toml' ? [{ ...file, pointer }] : [];
  });
  const tracked: typeof foreign = [];
  const untracked: Buffer[] = [];
  let at = 0;
  for await (const { path, attributes } of checkAttributes(
    foreign.map((file) => file.path),
    ['filter'],
    run,
  )) {
    if (attributes.get('filter') === 'xet') tracked.push(foreign[at]!);
    else untracked.push(path);
    at++;
  }
  const describe = (
    { path, pointer, oid }: (typeof foreign)[number],
    to: string | undefined,
  ): ConvertedPointer => ({
    path,
    kind: pointer.kind,
    from: oid,
    to,
  });
  if (options.dryRun) return { converted: tracked.map((file) => describe(file, undefined)), untracked };

  const written = new Map<string, string>();
  for (const { oid, pointer } of tracked) {
    if (written.has(oid)) continue;
    const input = formatPointer(pointer.hash, pointer.size);
    written.set(oid, await gitText(['hash-object', '-w', '--stdin'], { ...run, input }));
  }
  // Looked at before the index says something else.
  const inWorkTree = tracked.filter((file) => isSamePointer(workTree, file.path, file.pointer));
  const lines = tracked.map(({ mode, oid, path }) =>
    Buffer.concat([Buffer.from(`${mode} ${written.get(oid)}\t`), path, NUL]),
  );
  await git(['update-index', '-z', '--index-info'], { ...run, input: Buffer.concat(lines) });
  if (inWorkTree.length > 0) {
    const input = Buffer.concat(inWorkTree.flatMap(({ path }) => [path, NUL]));
    const env = { ...run.env, GIT2DB_SKIP_SMUDGE: '1' };
    await git(['checkout-index', '--force', '--index', '-z', '--stdin'], { ...run, env, input });
  }
  return { converted: tracked.map((file) => describe(file, written.get(file.oid))), untracked };
}

const NUL = Buffer.of(0);
const TAB = 0x09;

/** Ordinary files at stage 0. */
export async function stagedFiles(run: Pick<GitRun, 'cwd' | 'env' | 'keepGitEnv'>): Promise<StagedFile[]> {
  return (await gitLinesZ(['ls-files', '-s', '-z'], run)).flatMap((record) => {
    const tab = record.indexOf(TAB);
    const [mode, oid, stage] = record.toString('latin1', 0, tab).split(' ') as [string, string, string];
    return mode.startsWith('100') && stage === '0' ? [{ mode, oid, path: record.subarray(tab + 1) }] : [];
  });
}

/** True if the file in the work tree is the foreign pointer itself, and not what it stands for. */
export function isSamePointer(
  top: string,
  path: Buffer,
  { kind, hash }: { readonly kind: string; readonly hash: string },
): boolean {
  try {
    const file = readSmallFile(Buffer.concat([Buffer.from(`${top}/`), path]));
    const found = file && sniffPointer(file.bytes);
    return found?.kind === kind && found.kind !== 'lfs' && found.hash === hash;
  } catch (error) {
    if (errnoOf(error) === undefined) throw error;
    return false;
  }
}
