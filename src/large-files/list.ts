/** The large files of an index or a commit, and what stands in their place in the work tree. */
import { lstatSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { type GitRun, git } from '../git/runner.ts';
import { Git2dbError } from '../xet/errors.ts';
import { POINTER_MAX, sniffPointer } from '../xet/pointer/sniff.ts';
import { listFiles, readBlobFacts } from './pointer-blobs.ts';
import { type Place, requireRepository, requireWorkTree } from './work-tree.ts';

/** `changed`: content of another size than the pointer says. */
export type WorkTreeState = 'content' | 'changed' | 'pointer' | 'missing';

export interface LargeFile {
  /** Relative to the directory asked about. */
  readonly path: Buffer;
  /** Id of the pointer's blob. */
  readonly oid: string;
  readonly kind: 'xet' | 'xet-json' | 'xet-toml';
  /** Bytes of the content. */
  readonly size: number;
  /** String form. */
  readonly fileHash: string;
  /** Undefined where the work tree is about something else: no work tree, or another version of the file. */
  readonly workTree: WorkTreeState | undefined;
}

export interface ListOptions extends Place {
  /** A commit or tree; the index unless given. */
  readonly ref: string | undefined;
}

/** Those below `cwd`, in git's order. Throws NOT_A_REPOSITORY, or USAGE for an unknown `ref`. */
export async function listLargeFiles(options: ListOptions): Promise<LargeFile[]> {
  const { cwd, ref } = options;
  const { workTree } =
    ref === undefined ? requireWorkTree(options, 'name a REF to list') : requireRepository(options);
  const run = { cwd, keepGitEnv: true };
  const files = await listFiles(ref === undefined ? undefined : await resolveTree(ref, run), run);
  const facts = await readBlobFacts(
    files.map(({ oid }) => oid),
    run,
  );
  const large = files.flatMap(({ path, oid }) => {
    const pointer = facts.get(oid)?.pointer;
    if (pointer === undefined || pointer.kind === 'lfs') return [];
    return [{ path, oid, kind: pointer.kind, size: pointer.size, fileHash: pointer.hash }];
  });
  if (workTree === undefined) return large.map((file) => ({ ...file, workTree: undefined }));
  const staged = ref === undefined ? undefined : await stagedBlobs(run);
  return large.map((file) => {
    const sameVersion = staged === undefined || staged.get(file.path.toString('latin1')) === file.oid;
    return { ...file, workTree: sameVersion ? workTreeState(cwd, file) : undefined };
  });
}

/** The object id behind `ref`; throws USAGE when it names no commit or tree. */
async function resolveTree(ref: string, run: Pick<GitRun, 'cwd' | 'keepGitEnv'>): Promise<string> {
  const args = ['rev-parse', '--verify', '--quiet', '--end-of-options', `${ref}^{tree}`];
  const { stdout, status } = await git(args, { ...run, okStatus: [0, 1, 128] });
  if (status === 0) return stdout.toString('latin1').trim();
  throw new Git2dbError('USAGE', `'${ref}' names no commit or tree in this repository`);
}

/** Blob ids of the index by path, one byte a character. */
async function stagedBlobs(run: Pick<GitRun, 'cwd' | 'keepGitEnv'>): Promise<Map<string, string>> {
  const files = await listFiles(undefined, run);
  return new Map(files.map(({ path, oid }) => [path.toString('latin1'), oid]));
}

function workTreeState(cwd: string, { path, size }: { path: Buffer; size: number }): WorkTreeState {
  const file = Buffer.concat([Buffer.from(join(cwd, '/')), path]);
  let found: ReturnType<typeof lstatSync>;
  try {
    found = lstatSync(file);
  } catch {
    return 'missing';
  }
  if (!found.isFile()) return 'missing';
  if (found.size > 0 && found.size <= POINTER_MAX && sniffPointer(readFileSync(file)) !== undefined)
    return 'pointer';
  return found.size === size ? 'content' : 'changed';
}
