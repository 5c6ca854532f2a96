/**
 * Is everything there that the repository's pointers name, and is it intact? The store is checked as a
 * whole (src/xet/store/fsck.ts), then each pointer of every repository that uses it; what is wrong gets
 * the names people know: path and commit.
 */
import { realpathSync } from 'node:fs';
import { join } from 'node:path';
import { type FilterConfig, loadFilterConfig } from '../filter-process/config.ts';
import { type BlobPlace, findPathsOf } from '../git/refs.ts';
import type { RepositoryPaths } from '../git/repository.ts';
import { messageOf } from '../xet/errors.ts';
import { useBlake3 } from '../xet/hash/blake3.ts';
import { formatHash, isZeroHash, parseHash } from '../xet/hash/xet-hash.ts';
import { type EvictedNote, readEvicted } from '../xet/store/evicted.ts';
import { type CheckProgress, checkStore, type StoreCheck } from '../xet/store/fsck.ts';
import type { Damage, FileFault } from '../xet/store/fsck-damage.ts';
import { LocalStore } from '../xet/store/local-store.ts';
import { ContentRemotes } from './content-remotes.ts';
import { fetchContent } from './fetch-content.ts';
import { type RepairLog, repairFiles } from './fsck-repair.ts';
import { askRemotes, type HeldAnswer } from './held-elsewhere.ts';
import {
  referencedPointers,
  repositoriesOf,
  type StoreRepository,
  storedFileOf,
} from './referenced-pointers.ts';
import type { Place } from './work-tree.ts';

export interface FsckOptions extends Place {
  /** Do not read the chunks themselves. */
  readonly quick: boolean;
  /** Mend what can be mended; without it nothing is written. */
  readonly repair: boolean;
  /** Ask the remotes for proof that they hold what is not here. */
  readonly remote?: boolean | undefined;
  /** Whether git may ask the user for a password. */
  readonly mayPrompt?: boolean | undefined;
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: ((event: CheckProgress) => void) | undefined;
  /** Told about trouble that does not make the repair fail. */
  readonly warn?: ((message: string) => void) | undefined;
}

/** `missing`: it is nowhere. `damaged`: what is there is not it. `wrong-size`: the pointer itself cannot be right. */
export type LossState = 'missing' | 'damaged' | 'wrong-size';

/** A pointer whose content is not here. */
interface NamedFile {
  /** Common git directory. */
  readonly repository: string;
  /** The first commit that has it; undefined when only an index has it. */
  readonly commit: string | undefined;
  /** In the tree of that commit; empty when git knows none. */
  readonly path: Buffer;
  /** The pointer's blob. */
  readonly oid: string;
  readonly fileHash: string;
  readonly size: number;
}

/** A pointer whose content the store cannot give. */
export interface LostFile extends NamedFile {
  readonly state: LossState;
  /** At least one, at most 16. */
  readonly faults: readonly FileFault[];
}

/** A pointer whose content is not here, and need not be: somebody else holds it. */
export interface ElsewhereFile extends NamedFile {
  /** A directory or URL without user, token or query. */
  readonly place: string;
  /** When that place last proved to hold it: now, or when the content was evicted. */
  readonly provedAt: Date;
}

export interface FsckReport {
  /** Directory of the store. */
  readonly store: string;
  readonly checked: StoreCheck['checked'] & { readonly pointers: number; readonly repositories: number };
  readonly damage: readonly Damage[];
  /** After a repair: what stays lost. */
  readonly lost: readonly LostFile[];
  /** What remotes hold; of what was evicted that is as it was then, unless they were asked. */
  readonly elsewhere: readonly ElsewhereFile[];
  /** Repositories that use the store and could not be looked at. */
  readonly unreadable: readonly { readonly commonDir: string; readonly reason: string }[];
  /** Files, by hash, that the store describes and cannot give, and that no pointer names. */
  readonly unreferenced: readonly string[];
  /** Xorbs that no shard describes. */
  readonly undescribed: readonly string[];
  /** Shards that are gone, though the catalog knows of them. */
  readonly missingShards: readonly string[];
  /** Files that are no part of a store, from its root. */
  readonly strays: readonly string[];
  /** Objects that partial clones do not have: pointers below them were not seen. */
  readonly absentObjects: number;
  readonly repair:
    | (RepairLog & { readonly healed: readonly LostFile[]; readonly remaining: readonly Damage[] })
    | undefined;
}

/** Throws NOT_A_REPOSITORY, STORE_UNSUPPORTED, and GIT_FAILED when this repository itself cannot be read. */
export async function fsck(options: FsckOptions): Promise<FsckReport> {
  const { cwd, env, signal } = options;
  const config = loadFilterConfig(cwd, env);
  useBlake3(config.kernels.blake3);
  const store = new LocalStore(config.storeDir);
  try {
    const repositories = repositoriesOf(store.layout, config.repository);
    const { kernels } = config;
    const check = await checkStore(store, {
      quick: options.quick,
      kernels,
      signal,
      onProgress: options.onProgress,
    });
    const references = await checkReferences(store, check, repositories, signal);
    const { lost, elsewhere } = options.remote
      ? await askForAbsent(store, references.lost, options)
      : passEvicted(references.lost, readEvicted(store.layout));
    const report = {
      store: store.root,
      checked: { ...check.checked, pointers: references.pointers, repositories: references.repositories },
      damage: check.damage,
      lost,
      elsewhere,
      unreadable: references.unreadable,
      unreferenced: references.unreferenced,
      undescribed: check.undescribed,
      missingShards: check.missingShards.map(({ name }) => name),
      strays: check.strays,
      absentObjects: references.absentObjects,
      repair: undefined,
    };
    if (!options.repair) return report;
    const wanted = new Map(
      lost.filter(({ state }) => state !== 'wrong-size').map(({ fileHash, size }) => [fileHash, size]),
    );
    const found = repositories.flatMap(({ repository }) => repository ?? []);
    const others = otherStores(config, found, env);
    const outcome = await repairFiles(store, check, wanted, found, {
      config,
      others,
      lfsObjectDirs: lfsObjectDirsOf(config, found, env),
      fetch: (files) => fetchLost(files, options),
      signal,
      warn: options.warn,
    });
    const healed = lost.filter(({ fileHash }) => outcome.healed.has(fileHash));
    return {
      ...report,
      lost: lost.filter((file) => !healed.includes(file)),
      unreferenced: references.unreferenced.filter((hash) => !outcome.healed.has(hash)),
      undescribed: [],
      repair: { ...outcome.log, healed, remaining: outcome.remaining },
    };
  } finally {
    store.close();
  }
}

/** Those of `lost` that nothing here describes: they were never here, or were given up. */
function isAbsent({ state, faults }: LostFile): boolean {
  return (
    state === 'missing' && faults.every(({ xorb, expected }) => xorb === undefined && expected === A_SHARD)
  );
}

type Sorted = Pick<FsckReport, 'lost' | 'elsewhere'>;

/** What was evicted is where it was then, as far as anybody knows. */
function passEvicted(files: readonly LostFile[], notes: ReadonlyMap<string, EvictedNote>): Sorted {
  const lost: LostFile[] = [];
  const elsewhere: ElsewhereFile[] = [];
  for (const file of files) {
    const note = isAbsent(file) ? notes.get(file.fileHash) : undefined;
    if (note !== undefined && note.size === file.size) elsewhere.push(atRemote(file, note));
    else lost.push(file);
  }
  return { lost, elsewhere };
}

async function askForAbsent(
  store: LocalStore,
  files: readonly LostFile[],
  { cwd, env, mayPrompt = false, signal, warn = () => {} }: FsckOptions,
): Promise<Sorted> {
  const absent = files.filter(isAbsent);
  if (absent.length === 0) return { lost: files, elsewhere: [] };
  const asked = new Map(
    absent.map(({ fileHash, size }) => [`${fileHash} ${size}`, { hash: fileHash, size }]),
  );
  await using remotes = new ContentRemotes({ cwd, env, mayPrompt, warn, signal });
  const answers = await askRemotes(remotes, store, [...asked.values()], { signal });
  const byKey = new Map([...asked.keys()].map((key, i) => [key, answers[i] as HeldAnswer]));
  const provedAt = new Date();
  const lost: LostFile[] = [];
  const elsewhere: ElsewhereFile[] = [];
  for (const file of files) {
    const answer = isAbsent(file) ? byKey.get(`${file.fileHash} ${file.size}`) : undefined;
    if (answer === undefined) lost.push(file);
    else if (answer.place !== undefined) elsewhere.push(atRemote(file, { place: answer.place, provedAt }));
    else lost.push({ ...file, faults: file.faults.map((fault) => doubted(fault, answer.doubts)) });
  }
  return { lost, elsewhere };
}

function doubted(fault: FileFault, doubts: readonly string[]): FileFault {
  return { ...fault, found: `${fault.found}; ${doubts.join('; ')}` };
}

function atRemote(
  { repository, commit, path, oid, fileHash, size }: LostFile,
  { place, provedAt }: Pick<ElsewhereFile, 'place' | 'provedAt'>,
): ElsewhereFile {
  return { repository, commit, path, oid, fileHash, size, place, provedAt };
}

/** Whatever comes is in the store. A place that cannot be asked, or lacks a file, is told and no failure. */
async function fetchLost(
  files: ReadonlyMap<string, number>,
  { cwd, env, mayPrompt = false, signal, warn = () => {} }: FsckOptions,
): Promise<void> {
  await using remotes = new ContentRemotes({ cwd, env, mayPrompt, warn, signal });
  if (remotes.git.names().length === 0) return;
  const wanted = [...files].map(([hash, size]) => ({ kind: 'xet', hash, size }) as const);
  const outcome = await fetchContent(remotes, wanted, { cwd, env, warn, signal });
  const reasons = outcome.files.flatMap(({ error }) => (error === undefined ? [] : [error.message]));
  for (const reason of new Set(reasons)) warn(reason);
}

/** True if nothing is damaged and nothing lost that anybody may want. */
export function isAllWell(report: FsckReport): boolean {
  const { damage, lost, repair, unreadable, unreferenced } = report;
  // Who cannot be looked at may well have a pointer to what nobody else names.
  const mayBeWanted = unreadable.length > 0 && unreferenced.length > 0;
  return lost.length === 0 && !mayBeWanted && (repair?.remaining ?? damage).length === 0;
}

interface References {
  readonly lost: readonly LostFile[];
  readonly pointers: number;
  readonly repositories: number;
  readonly unreadable: readonly { readonly commonDir: string; readonly reason: string }[];
  readonly unreferenced: readonly string[];
  readonly absentObjects: number;
}

async function checkReferences(
  store: LocalStore,
  check: StoreCheck,
  repositories: readonly StoreRepository[],
  signal: AbortSignal | undefined,
): Promise<References> {
  const lost: LostFile[] = [];
  const unreadable: { commonDir: string; reason: string }[] = [];
  const wanted = new Set<string>();
  let pointers = 0;
  let absentObjects = 0;
  for (const [i, { commonDir, repository }] of repositories.entries()) {
    if (repository === undefined) {
      unreadable.push({ commonDir, reason: 'there is no repository' });
      continue;
    }
    const bad: Omit<LostFile, 'commit'>[] = [];
    try {
      for await (const { oid, path, pointer } of referencedPointers(repository, {
        signal,
        onMissing: () => absentObjects++,
      })) {
        const file = storedFileOf(store, pointer);
        if (file === undefined) continue;
        pointers++;
        if (check.brokenFiles.has(file.hash)) wanted.add(file.hash);
        const loss = lossOf(store, check, file);
        if (loss === undefined) continue;
        bad.push({ repository: commonDir, oid, path, fileHash: file.hash, size: file.size, ...loss });
      }
      const places = await findPathsOf(
        repository,
        bad.map(({ oid }) => oid),
        { signal },
      );
      for (const file of bad) lost.push(atPlace(file, places.get(file.oid)));
    } catch (error) {
      // Our own repository must be readable; of others it is enough to know that they are not.
      if (i === 0 || (error as Error).name === 'AbortError') throw error;
      unreadable.push({ commonDir, reason: messageOf(error) });
    }
  }
  const unreferenced = [...check.brokenFiles.keys()].filter((hash) => !wanted.has(hash));
  return {
    lost,
    pointers,
    repositories: repositories.length - unreadable.length,
    unreadable,
    unreferenced,
    absentObjects,
  };
}

function atPlace(file: Omit<LostFile, 'commit'>, place: BlobPlace | undefined): LostFile {
  return place === undefined
    ? { ...file, commit: undefined }
    : { ...file, commit: place.commit, path: place.path };
}

/** What is expected of a file that nothing here knows. */
const A_SHARD = 'a shard that describes it';

const NOWHERE = {
  fileOffset: undefined,
  xorb: undefined,
  chunk: undefined,
  chunkEnd: undefined,
  offset: undefined,
};

function lossOf(
  store: LocalStore,
  check: StoreCheck,
  { hash, size }: { readonly hash: string; readonly size: number },
): Pick<LostFile, 'state' | 'faults'> | undefined {
  const bytes = parseHash(hash);
  const isEmpty = isZeroHash(bytes);
  if (isEmpty && size === 0) return undefined;
  const broken = check.brokenFiles.get(hash);
  if (broken !== undefined) {
    const isAbsent = broken.faults.every(
      ({ xorb }) => xorb !== undefined && check.broken.get(xorb)?.path === undefined,
    );
    return { state: isAbsent ? 'missing' : 'damaged', faults: broken.faults };
  }
  const file = isEmpty ? { size: 0 } : store.findFile(bytes);
  if (file === undefined) {
    const shards = store.catalog.findFile(bytes).map(({ shard }) => formatHash(shard));
    const expected = shards.length === 0 ? A_SHARD : `shard ${shards[0]}, which describes file ${hash}`;
    return { state: 'missing', faults: [{ ...NOWHERE, expected, found: 'it is not there' }] };
  }
  if (file.size === size) return undefined;
  const expected = `a file of ${size} bytes, as the pointer says`;
  return { state: 'wrong-size', faults: [{ ...NOWHERE, expected, found: `file ${hash} has ${file.size}` }] };
}

/** Where git-lfs has its objects: each may be the content of a lost file. */
function lfsObjectDirsOf(
  config: FilterConfig,
  repositories: readonly RepositoryPaths[],
  env: NodeJS.ProcessEnv,
): string[] {
  const dirs = new Set(config.lfs.objectDirs());
  for (const { commonDir } of repositories) {
    if (commonDir === config.repository.commonDir) continue;
    try {
      for (const dir of loadFilterConfig(commonDir, { ...env, GIT_DIR: commonDir }).lfs.objectDirs())
        dirs.add(dir);
    } catch {
      // Its settings are its own trouble.
    }
  }
  return [...dirs];
}

/** Stores on this machine that may have what ours lost: of the repositories' remotes, and former ones. */
function otherStores(
  config: FilterConfig,
  repositories: readonly RepositoryPaths[],
  env: NodeJS.ProcessEnv,
): LocalStore[] {
  const dirs = new Set(config.sourceDirs());
  for (const { commonDir } of repositories) {
    dirs.add(join(commonDir, 'xet'));
    if (commonDir === config.repository.commonDir) continue;
    try {
      for (const dir of loadFilterConfig(commonDir, { ...env, GIT_DIR: commonDir }).sourceDirs())
        dirs.add(dir);
    } catch {
      // Its settings are its own trouble.
    }
  }
  const own = realPath(config.storeDir);
  return [...dirs].filter((dir) => realPath(dir) !== own).flatMap((dir) => openStore(dir) ?? []);
}

function openStore(dir: string): LocalStore | undefined {
  try {
    const store = new LocalStore(dir);
    return store.exists() ? store : undefined;
  } catch {
    return undefined;
  }
}

function realPath(path: string): string {
  try {
    return realpathSync(path);
  } catch {
    return path;
  }
}
