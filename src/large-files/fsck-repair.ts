/**
 * Getting lost files back: from the store itself and other stores, chunk by chunk; from the work trees and the
 * stores of git-lfs, where the content of a lost file may lie as a file; and from the remotes.
 */
import { closeSync, constants, lstatSync, openSync, readSync, statSync } from 'node:fs';
import type { FilterConfig } from '../filter-process/config.ts';
import type { RepositoryPaths } from '../git/repository.ts';
import { gitLinesZ } from '../git/runner.ts';
import { listWorktrees } from '../git/worktrees.ts';
import { lfsObjectsIn } from '../lfs/object-directory.ts';
import { Downloader } from '../xet/download.ts';
import { errnoOf, Git2dbError } from '../xet/errors.ts';
import { parseHash } from '../xet/hash/xet-hash.ts';
import type { StoreCheck } from '../xet/store/fsck.ts';
import { checkCatalog } from '../xet/store/fsck-catalog.ts';
import type { Damage } from '../xet/store/fsck-damage.ts';
import { type RepairLog, StoreRepair } from '../xet/store/fsck-repair.ts';
import type { LocalStore } from '../xet/store/local-store.ts';
import { registerUser } from '../xet/store/users.ts';
import { Uploader } from '../xet/upload.ts';
import { digestFile } from './file-digest.ts';

/** What an upload always has room for. */
const ROOM = 65520;

export interface RepairContext {
  readonly config: FilterConfig;
  /** Stores that may have what is lost. */
  readonly others: readonly LocalStore[];
  /** Directories of git-lfs with objects that may be what is lost. */
  readonly lfsObjectDirs: readonly string[];
  /** Brings what remotes have of these files, sizes by hash, into the store. */
  readonly fetch: (files: ReadonlyMap<string, number>) => Promise<void>;
  readonly signal?: AbortSignal | undefined;
  readonly warn?: ((message: string) => void) | undefined;
}

export interface RepairOutcome {
  readonly log: RepairLog;
  /** Hashes of the files that can be read again: every byte of them was. */
  readonly healed: ReadonlySet<string>;
  /** Damage that stays: in the directories of living writers, or in a catalog that was locked. */
  readonly remaining: readonly Damage[];
}

/** `lost`: files that pointers name, with their sizes. Work trees of `repositories` are searched for them. */
export async function repairFiles(
  store: LocalStore,
  check: StoreCheck,
  lost: ReadonlyMap<string, number>,
  repositories: readonly RepositoryPaths[],
  context: RepairContext,
): Promise<RepairOutcome> {
  const { config, others, signal, warn } = context;
  const { compression, fsync, kernels } = config;
  const uploader = new Uploader(store, { compression, fsync, kernels, ...(warn && { warn }) });
  const repair = new StoreRepair(store, check, { uploader, others, signal });
  const { brokenFiles, damage, writers } = check;
  const sizes = new Map([
    ...lost,
    ...[...brokenFiles.values()].map(({ hash, size }) => [hash, size] as const),
  ]);
  if (sizes.size === 0 && damage.length === 0 && check.undescribed.length === 0 && writers.length === 0) {
    return { log: repair.log, healed: new Set(), remaining: [] };
  }
  registerUser(store.layout, config.repository.commonDir);
  try {
    // Sealing it also completes what dead writers left.
    uploader.writer.register();
    await repair.repairObjects();
    const missing = [...sizes.keys()].filter((hash) => !repair.mend(hash));
    await repair.publish();
    if (await storeFromFiles(missing, sizes, { repositories, ...context }, uploader)) {
      await repair.publish();
      // What came back may have the chunks that others lacked.
      for (const hash of missing) repair.mend(hash);
    }
  } finally {
    // Also when it is broken off: what was stored so far is acknowledged.
    await repair.publish();
  }
  const healed = new Set<string>();
  const look = () => {
    for (const [hash, size] of sizes)
      if (!healed.has(hash) && canBeRead(store, hash, size, config)) healed.add(hash);
  };
  look();
  const away = new Map([...lost].filter(([hash]) => !healed.has(hash)));
  if (away.size > 0) {
    await context.fetch(away);
    store.forgetSources();
    store.catalog.reload();
    look();
  }
  const isLeft = ({ object, path }: Damage) => object === 'incoming' && isThere(path);
  const remaining = [...damage.filter(isLeft), ...checkCatalog(store.layout).damage];
  return { log: repair.log, healed, remaining };
}

function isThere(path: string): boolean {
  return lstatSync(path, { throwIfNoEntry: false }) !== undefined;
}

/** Reads every byte. */
function canBeRead(store: LocalStore, hash: string, size: number, { kernels }: FilterConfig): boolean {
  const downloader = new Downloader(store, { kernels });
  try {
    for (const _ of downloader.read(downloader.plan(parseHash(hash), size)));
    return true;
  } catch (error) {
    if (error instanceof Git2dbError) return false;
    throw error;
  }
}

interface FileSources {
  readonly repositories: readonly RepositoryPaths[];
  readonly lfsObjectDirs: readonly string[];
  readonly signal?: AbortSignal | undefined;
}

/** Stores those files of work trees and git-lfs that have the content of one in `missing`; false if there are none. */
async function storeFromFiles(
  missing: readonly string[],
  sizes: ReadonlyMap<string, number>,
  sources: FileSources,
  uploader: Uploader,
): Promise<boolean> {
  const wanted = new Set(missing);
  const wantedSizes = new Set(missing.map((hash) => sizes.get(hash)));
  let found = false;
  if (wanted.size === 0) return false;
  for await (const path of filesOf(sources)) {
    const size = sizeOfFile(path);
    if (size === undefined || size === 0 || !wantedSizes.has(size)) continue;
    sources.signal?.throwIfAborted();
    const hash = storeIfWanted(path, size, wanted, uploader);
    if (hash === undefined) continue;
    found = true;
    wanted.delete(hash);
    if (wanted.size === 0) break;
  }
  return found;
}

async function* filesOf({ repositories, lfsObjectDirs, signal }: FileSources): AsyncIterable<Buffer> {
  for (const repository of repositories) {
    for (const top of await workTreesOf(repository, signal)) yield* await candidates(top, signal);
  }
  for (const dir of lfsObjectDirs) {
    for (const { path } of lfsObjectsIn(dir)) yield Buffer.from(path);
  }
}

async function workTreesOf(repository: RepositoryPaths, signal: AbortSignal | undefined): Promise<string[]> {
  const trees = await listWorktrees(repository, { signal });
  return trees
    .filter(({ bare, path }) => !bare && statSync(path, { throwIfNoEntry: false })?.isDirectory())
    .map(({ path }) => path);
}

/** Files of a work tree, tracked or not, but for ignored ones. */
async function candidates(top: string, signal: AbortSignal | undefined): Promise<Buffer[]> {
  const paths = await gitLinesZ(['ls-files', '-z', '--cached', '--others', '--exclude-standard'], {
    cwd: top,
    signal,
  });
  return paths.map((path) => Buffer.concat([Buffer.from(`${top}/`), path]));
}

function sizeOfFile(path: Buffer): number | undefined {
  try {
    const stat = lstatSync(path);
    return stat.isFile() ? stat.size : undefined;
  } catch {
    return undefined;
  }
}

/** The file is read twice: only what is wanted is stored. */
function storeIfWanted(
  path: Buffer,
  size: number,
  wanted: ReadonlySet<string>,
  uploader: Uploader,
): string | undefined {
  let fd: number;
  try {
    fd = openSync(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
  } catch (error) {
    if (errnoOf(error) === undefined) throw error;
    return undefined;
  }
  try {
    const { fileHash } = digestFile(fd, { sha256: false });
    if (!wanted.has(fileHash)) return undefined;
    const upload = uploader.begin(size);
    try {
      for (let at = 0; ; ) {
        const { bytes, offset } = upload.room();
        const n = readSync(fd, bytes, offset, ROOM, at);
        if (n === 0) break;
        upload.advance(n);
        at += n;
      }
    } catch (error) {
      upload.abort();
      throw error;
    }
    const { hash } = upload.finish();
    return wanted.has(hash) ? hash : undefined;
  } finally {
    closeSync(fd);
  }
}
