/** What is in a work tree that no commit has. */
import { copyFileSync, existsSync, lstatSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { splitZ } from '../git/records.ts';
import type { GitPlace } from './git-place.ts';

export interface WorkInProgress {
  readonly modified: readonly string[];
  /** Ignored files are not among them. */
  readonly untracked: readonly string[];
}

export async function findWorkInProgress(
  place: GitPlace,
  { signal }: { readonly signal?: AbortSignal | undefined } = {},
): Promise<WorkInProgress> {
  if (place.workTree === undefined) return { modified: [], untracked: [] };
  const args = [
    'status',
    '--porcelain=v1',
    '-z',
    '--no-renames',
    '--untracked-files=all',
    '--ignore-submodules=none',
  ];
  const { stdout } = await place.git(args, { signal });
  const modified = new Set<string>();
  const untracked: string[] = [];
  for (const record of splitZ(stdout)) {
    const text = record.toString('utf8');
    if (text.startsWith('??')) untracked.push(text.slice(3));
    else modified.add(text.slice(3));
  }
  for (const path of await hiddenChanges(place, place.workTree, signal)) modified.add(path);
  return { modified: [...modified], untracked };
}

/** Of files that git was told to take for unchanged (assume-unchanged, skip-worktree) and that are there. */
async function hiddenChanges(
  place: GitPlace,
  workTree: string,
  signal: AbortSignal | undefined,
): Promise<string[]> {
  const hidden: Buffer[] = [];
  for (const record of await place.linesZ(['ls-files', '-v', '-z'], { signal })) {
    const tag = String.fromCharCode(record[0]!);
    if (tag !== 'S' && !/[a-z]/.test(tag)) continue;
    const path = record.subarray(2);
    // What only another namespace sees is looked at there, by git.
    const isThere =
      !place.reachable ||
      lstatSync(Buffer.concat([Buffer.from(`${workTree}/`), path]), { throwIfNoEntry: false }) !== undefined;
    if (isThere) hidden.push(path);
  }
  const index = join(place.gitDir, 'index');
  if (hidden.length === 0 || !existsSync(index)) return [];
  const scratch = mkdtempSync(join(tmpdir(), 'git2db-index-'));
  try {
    // A copy, where git is told to look after all.
    const copy = join(scratch, 'index');
    copyFileSync(index, copy);
    const env = { GIT_INDEX_FILE: copy };
    const input = Buffer.concat(hidden.flatMap((path) => [path, Buffer.of(0)]));
    for (const flag of ['--no-assume-unchanged', '--no-skip-worktree']) {
      await place.git(['update-index', flag, '-z', '--stdin'], { input, env, signal });
    }
    await place.git(['update-index', '-q', '--refresh'], { env, signal, okStatus: [0, 1] });
    const changed = await place.linesZ(['diff-files', '--name-only', '--diff-filter=d', '-z'], {
      env,
      signal,
    });
    return changed.map(String);
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
}
