/** Telling git's index of files that were written without git. */
import { lstatSync } from 'node:fs';
import { refreshIndex } from '../git/index-file/refresh.ts';
import type { WrittenFile } from '../git/index-file/work-tree.ts';
import { git } from '../git/runner.ts';
import { messageOf } from '../xet/errors.ts';
import type { OpenWorkTree } from './xet-entries.ts';

export type IndexNote =
  /** Git knows the files, and starts no filter for them. */
  | { readonly kind: 'updated' }
  /** This index is one that only git can write; it did, and had to clean every file. */
  | { readonly kind: 'updated-by-git'; readonly reason: string }
  /** Nothing was noted: git calls the files modified, because they have not the size of the pointer. */
  | { readonly kind: 'left-alone'; readonly reason: string };

/** Rejects only when `signal` aborts: the files are there, whatever becomes of the index. */
export async function noteInIndex(
  tree: OpenWorkTree,
  written: readonly WrittenFile[],
  signal: AbortSignal | undefined,
): Promise<IndexNote> {
  const { indexPath, objectFormat } = tree.config;
  try {
    const result = await refreshIndex(indexPath, tree.root, written, { hashAlgorithm: objectFormat, signal });
    switch (result.kind) {
      case 'updated':
      case 'unchanged': // Somebody has staged something else, or changed the files: theirs now.
        return { kind: 'updated' };
      case 'locked':
        return { kind: 'left-alone', reason: `another git command holds ${indexPath}.lock` };
      case 'unsupported':
        await addAgain(tree, written, signal);
        return { kind: 'updated-by-git', reason: result.reason };
    }
  } catch (error) {
    if (signal?.aborted) throw error;
    return { kind: 'left-alone', reason: messageOf(error) };
  }
}

/**
 * Has git clean the files and note what it sees; the blobs are the same. (`--refresh` would not do: git looks into
 * no file whose size is another.)
 */
async function addAgain(
  tree: OpenWorkTree,
  written: readonly WrittenFile[],
  signal: AbortSignal | undefined,
): Promise<void> {
  const { root, run, config } = tree;
  const unchanged = written.filter(({ path, stat }) => {
    const place = Buffer.concat([Buffer.from(`${root}/`), path]);
    const found = lstatSync(place, { bigint: true, throwIfNoEntry: false });
    return found?.ino === stat.ino && found.mtimeNs === stat.mtimeNs && found.ctimeNs === stat.ctimeNs;
  });
  const input = Buffer.concat(unchanged.flatMap(({ path }) => [path, Buffer.of(0)]));
  const { gitDir } = config.repository;
  // From the top, where these paths start.
  const env = { ...run.env, GIT_DIR: gitDir, GIT_WORK_TREE: root, GIT_INDEX_FILE: config.indexPath };
  await git(['update-index', '-z', '--stdin'], { ...run, cwd: root, env, input, signal });
}
