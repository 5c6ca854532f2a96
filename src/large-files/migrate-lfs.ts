/**
 * `git2db xet migrate lfs`: the contents that git-lfs keeps whole, in `lfs/objects`, become chunks of the store. An
 * object is deleted only after it was read back from the sealed store, every byte of it.
 */
import { rmSync, statSync } from 'node:fs';
import { basename, join } from 'node:path';
import { type FilterConfig, loadFilterConfig } from '../filter-process/config.ts';
import { hasSha256 } from '../filter-process/lfs-content.ts';
import { GitConfig } from '../git/config.ts';
import { LocalContent } from '../lfs/local-content.ts';
import { entriesIn, lfsObjectsIn, type StoredLfsObject } from '../lfs/object-directory.ts';
import { Downloader } from '../xet/download.ts';
import { errnoOf, Git2dbError, messageOf } from '../xet/errors.ts';
import { LocalStore } from '../xet/store/local-store.ts';
import { LFS_FILTER_PROGRAM } from './lfs-install.ts';
import { type Place, requireRepository } from './work-tree.ts';

/** Contents that are in both places at once at most, but for a larger single one. */
const BATCH_BYTES = 1 << 30;
const BATCH_OBJECTS = 4096;

export interface MigrateLfsOptions extends Place {
  readonly dryRun: boolean;
  /** Leave the objects where they are. */
  readonly keep: boolean;
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: ((event: MigrateLfsProgress) => void) | undefined;
  readonly warn?: ((message: string) => void) | undefined;
}

export type MigrateLfsProgress =
  | { readonly kind: 'found'; readonly objects: number; readonly bytes: number }
  | { readonly kind: 'stored'; readonly bytes: number };

export interface MigrateLfsReport {
  /** Directory of git-lfs's objects. */
  readonly directory: string;
  /** Found there. */
  readonly objects: number;
  readonly bytes: number;
  /** Now in the store, or in a dry run what would be. */
  readonly stored: number;
  /** Objects, and bytes of them, that are deleted. */
  readonly deleted: number;
  readonly deletedBytes: number;
  /** What the store has grown by; undefined in a dry run. */
  readonly storeGrowth: number | undefined;
  /** Objects that stay as they are, and why. */
  readonly failed: readonly { readonly sha256: string; readonly reason: string }[];
}

/** Throws NOT_A_REPOSITORY, REFUSED where git-lfs would miss its objects, STORE_UNWRITABLE. */
export async function migrateLfs(options: MigrateLfsOptions): Promise<MigrateLfsReport> {
  const { cwd, env, dryRun, keep } = options;
  requireRepository(options);
  const config = loadFilterConfig(cwd, env);
  const directory = config.lfs.objectDirs()[0] as string;
  if (!dryRun && !keep) refuseIfNeeded(cwd, env);
  const objects = lfsObjectsIn(directory);
  const bytes = objects.reduce((sum, { size }) => sum + size, 0);
  options.onProgress?.({ kind: 'found', objects: objects.length, bytes });
  const failed: { sha256: string; reason: string }[] = [];
  const report = { directory, objects: objects.length, bytes, failed };
  if (dryRun)
    return { ...report, stored: objects.length, deleted: 0, deletedBytes: 0, storeGrowth: undefined };
  const before = sizeOf(config.storeDir);
  let stored = 0;
  let deleted = 0;
  let deletedBytes = 0;
  for (const batch of batchesOf(objects)) {
    const kept = await store(batch, options, failed);
    stored += kept.length;
    if (keep) continue;
    for (const object of provedBy(config, kept, failed)) {
      rmSync(object.path);
      deleted++;
      deletedBytes += object.size;
    }
  }
  return { ...report, stored, deleted, deletedBytes, storeGrowth: sizeOf(config.storeDir) - before };
}

/** Who else reads these objects would find them gone. */
function refuseIfNeeded(cwd: string, env: Place['env']): void {
  const config = GitConfig.load(cwd, '^(filter\\.lfs\\.process|lfs\\.storage)$', { env });
  const process = config.get('filter.lfs.process');
  if (process === undefined || basename(process).replace(/\.js$/, '') !== LFS_FILTER_PROGRAM) {
    throw new Git2dbError(
      'REFUSED',
      `filter=lfs is served by ${process ?? 'nobody'} here, which would not find the objects once they are chunks: ` +
        'run "git2db xet install --lfs" first, or --keep the objects',
    );
  }
  if (config.get('lfs.storage') !== undefined) {
    throw new Git2dbError(
      'REFUSED',
      `lfs.storage is set, so other repositories may use the same objects: --keep leaves them there`,
    );
  }
}

/** Publishes the contents of a batch. Those that are stored. */
async function store(
  batch: readonly StoredLfsObject[],
  options: MigrateLfsOptions,
  failed: { sha256: string; reason: string }[],
): Promise<StoredLfsObject[]> {
  const { cwd, env, warn = () => {}, signal } = options;
  const local = LocalContent.open({ cwd, env }, warn);
  const stored: StoredLfsObject[] = [];
  try {
    for (const object of batch) {
      signal?.throwIfAborted();
      try {
        await local.storeFile(object.path, object, signal);
        stored.push(object);
        options.onProgress?.({ kind: 'stored', bytes: object.size });
      } catch (error) {
        // Damaged, or not to be read: its trouble alone. A store that cannot be written to is everybody's.
        const code = error instanceof Git2dbError ? error.code : undefined;
        if (code !== 'CONTENT_DAMAGED' && errnoOf(error) !== 'EACCES') throw error;
        failed.push({ sha256: object.sha256, reason: messageOf(error) });
      }
    }
  } finally {
    await local.close();
  }
  return stored;
}

/** Those that the store, opened anew, gives back. */
function* provedBy(
  { storeDir, kernels }: FilterConfig,
  objects: readonly StoredLfsObject[],
  failed: { sha256: string; reason: string }[],
): Generator<StoredLfsObject> {
  const sealed = new LocalStore(storeDir);
  const downloader = new Downloader(sealed, { kernels });
  try {
    for (const object of objects) {
      const isThere = sealed.findSha256(object.sha256).some((hash) => {
        const isSealed = sealed.findFile(hash)?.shard !== undefined;
        return isSealed && hasSha256(downloader.read(downloader.plan(hash, object.size)), object.sha256);
      });
      if (isThere) yield object;
      else failed.push({ sha256: object.sha256, reason: 'the store does not give it back' });
    }
  } finally {
    sealed.close();
  }
}

function* batchesOf(objects: readonly StoredLfsObject[]): Generator<StoredLfsObject[]> {
  let batch: StoredLfsObject[] = [];
  let bytes = 0;
  for (const object of objects) {
    if (batch.length === BATCH_OBJECTS || (batch.length > 0 && bytes + object.size > BATCH_BYTES)) {
      yield batch;
      batch = [];
      bytes = 0;
    }
    batch.push(object);
    bytes += object.size;
  }
  if (batch.length > 0) yield batch;
}

/** Apparent size of all files below. */
function sizeOf(directory: string): number {
  let sum = 0;
  for (const entry of entriesIn(directory)) {
    const path = join(directory, entry.name);
    if (entry.isDirectory()) sum += sizeOf(path);
    else sum += statSync(path, { throwIfNoEntry: false })?.size ?? 0;
  }
  return sum;
}
