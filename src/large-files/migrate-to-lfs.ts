/**
 * `git2db xet migrate to-lfs`: the pointers in the index become those of Git LFS, for a remote that reads nothing
 * else, such as the Hugging Face Hub. All or nothing; contents stay where they are, history as it is.
 */
import { writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { loadFilterConfig } from '../filter-process/config.ts';
import { addLine, listPatterns } from '../git/attributes-file.ts';
import { GitConfig } from '../git/config.ts';
import { type GitRun, git, gitLinesZ, gitText } from '../git/runner.ts';
import { sha256OfFiles } from '../lfs/local-content.ts';
import { Git2dbError } from '../xet/errors.ts';
import { formatLfsPointer } from '../xet/pointer/lfs-pointer.ts';
import { readRegular } from '../xet/regular-file.ts';
import { LFS_FILTER_PROGRAM } from './lfs-install.ts';
import { isSamePointer, type StagedFile, stagedFiles } from './migrate.ts';
import { readBlobFacts } from './pointer-blobs.ts';
import type { XetFilePointer } from './referenced-pointers.ts';
import { type Place, requireWorkTree } from './work-tree.ts';

export interface LfsConversion {
  readonly path: Buffer;
  /** Blobs, before and after; after is undefined in a dry run. */
  readonly from: string;
  readonly to: string | undefined;
}

export interface MigrateToLfsResult {
  readonly converted: readonly LfsConversion[];
  /** Files `.gitattributes` that say filter=lfs now where they said filter=xet, from the top of the work tree. */
  readonly attributes: readonly string[];
}

export interface MigrateToLfsOptions extends Place {
  readonly dryRun: boolean;
  readonly signal?: AbortSignal | undefined;
  readonly warn?: ((message: string) => void) | undefined;
}

type Run = Pick<GitRun, 'cwd' | 'env' | 'keepGitEnv' | 'signal'>;

interface Converted extends StagedFile {
  readonly pointer: XetFilePointer;
}

/**
 * Throws NOT_A_REPOSITORY, REFUSED unless filter=lfs is served by git2db, CONTENT_MISSING where the SHA-256 of a
 * file is not known because its content is not here; then nothing was changed.
 */
export async function migrateToLfs(options: MigrateToLfsOptions): Promise<MigrateToLfsResult> {
  const { cwd, env, dryRun, signal } = options;
  const { workTree } = requireWorkTree(options, 'there is no index to change');
  const run: Run = { cwd: workTree, env, keepGitEnv: true, signal };
  if (!dryRun) refuseOthers(cwd, env);
  const converted = await xetPointers(run);
  const attributes = await attributesWithXet(workTree, run);
  if (dryRun) {
    return {
      converted: converted.map(({ path, oid }) => ({ path, from: oid, to: undefined })),
      attributes: attributes.map(({ path }) => path),
    };
  }
  const pointers = await lfsPointers(converted, options);
  const written = new Map<string, string>();
  for (const { pointer } of converted) {
    if (written.has(pointer.hash)) continue;
    const input = pointers.get(pointer.hash) as Buffer;
    written.set(pointer.hash, await gitText(['hash-object', '-w', '--stdin'], { ...run, input }));
  }
  const to = ({ pointer }: Converted) => written.get(pointer.hash) as string;
  // Looked at before the index says something else.
  const inWorkTree = converted.filter((file) => isSamePointer(workTree, file.path, file.pointer));
  for (const { path, text } of attributes) writeFileSync(join(workTree, path), text);
  const lines = converted.map((file) =>
    Buffer.concat([Buffer.from(`${file.mode} ${to(file)}\t`), file.path, NUL]),
  );
  if (lines.length > 0)
    await git(['update-index', '-z', '--index-info'], { ...run, input: Buffer.concat(lines) });
  if (attributes.length > 0)
    await git(['add', '--', ...attributes.map(({ path }) => `:(literal)${path}`)], run);
  if (inWorkTree.length > 0) {
    const input = Buffer.concat(inWorkTree.flatMap(({ path }) => [path, NUL]));
    const quiet = { ...run.env, GIT2DB_SKIP_SMUDGE: '1' };
    await git(['checkout-index', '--force', '--index', '-z', '--stdin'], { ...run, env: quiet, input });
  }
  return {
    converted: converted.map((file) => ({ path: file.path, from: file.oid, to: to(file) })),
    attributes: attributes.map(({ path }) => path),
  };
}

const NUL = Buffer.of(0);

function refuseOthers(cwd: string, env: Place['env']): void {
  const found = GitConfig.load(cwd, '^filter\\.lfs\\.process$', { env }).get('filter.lfs.process');
  if (found !== undefined && basename(found).replace(/\.js$/, '') === LFS_FILTER_PROGRAM) return;
  throw new Git2dbError(
    'REFUSED',
    `filter=lfs is served by ${found ?? 'nobody'} here, which does not find contents in chunks: run "git2db xet install --lfs" first`,
  );
}

async function xetPointers(run: Run): Promise<Converted[]> {
  const files = await stagedFiles(run);
  const facts = await readBlobFacts(
    files.map(({ oid }) => oid),
    run,
  );
  return files.flatMap((file) => {
    const pointer = facts.get(file.oid)?.pointer;
    return pointer === undefined || pointer.kind === 'lfs' ? [] : [{ ...file, pointer }];
  });
}

/** LFS pointers by file hash. */
async function lfsPointers(
  files: readonly Converted[],
  { cwd, env, warn, signal }: MigrateToLfsOptions,
): Promise<Map<string, Buffer>> {
  const wanted = new Map(files.map(({ pointer: { hash, size } }) => [hash, size]));
  const found = await sha256OfFiles({ cwd, env }, wanted, { warn, signal });
  const missing = files.filter(({ pointer }) => !found.has(pointer.hash));
  if (missing.length > 0) {
    const shown = missing.slice(0, 5).map(({ path }) => path.toString('utf8'));
    const more = missing.length > 5 ? ` and ${missing.length - 5} more` : '';
    throw new Git2dbError(
      'CONTENT_MISSING',
      `the content of ${shown.join(', ')}${more} is not in ${loadFilterConfig(cwd, env).storeDir}, so its SHA-256 is not known: ` +
        'get it with "git2db xet fetch". Nothing was changed',
      { data: { paths: missing.map(({ path }) => path.toString('utf8')) } },
    );
  }
  return new Map(
    [...found].map(([hash, { sha256, size }]) => [
      hash,
      size === 0 ? Buffer.alloc(0) : formatLfsPointer(sha256, size),
    ]),
  );
}

interface EditedAttributes {
  readonly path: string;
  readonly text: Buffer;
}

/** Tracked `.gitattributes` with filter=xet, and what they are to say. */
async function attributesWithXet(workTree: string, run: Run): Promise<EditedAttributes[]> {
  const names = await gitLinesZ(['ls-files', '-z', '--', '.gitattributes', '**/.gitattributes'], run);
  const edited: EditedAttributes[] = [];
  for (const name of names) {
    const path = name.toString('utf8');
    const before = readRegular(join(workTree, path), 'REFUSED');
    let text: Buffer = before;
    for (const { pattern, attributes } of listPatterns(before)) {
      if (!attributes.includes('filter=xet')) continue;
      const wanted = ['filter=lfs', ...(attributes.includes('diff=xet') ? ['diff=lfs'] : [])];
      text = addLine(text, pattern, wanted).text;
    }
    if (!text.equals(before)) edited.push({ path, text });
  }
  return edited;
}
