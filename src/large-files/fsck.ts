/**
 * Is everything there that the repository's pointers name, and is it intact? The store is checked as a
 * whole (src/xet/store/fsck.ts), then each pointer of every repository that uses it; what is wrong gets
 * the names people know: path and commit. What is lost is looked for wherever it may be.
 */
import { loadFilterConfig } from '../filter-process/config.ts';
import { useBlake3 } from '../xet/hash/blake3.ts';
import { readEvicted } from '../xet/store/evicted.ts';
import { type CheckProgress, checkStore } from '../xet/store/fsck.ts';
import { LocalStore } from '../xet/store/local-store.ts';
import { askForAbsent, passEvicted } from './fsck-elsewhere.ts';
import { checkReferences } from './fsck-references.ts';
import { repairFiles } from './fsck-repair.ts';
import type { FsckReport } from './fsck-report.ts';
import { fetchLost, lfsObjectDirsOf, otherStores } from './fsck-sources.ts';
import { repositoriesOf } from './referenced-pointers.ts';
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

/** Throws NOT_A_REPOSITORY, STORE_UNSUPPORTED, and GIT_FAILED when this repository itself cannot be read. */
export async function fsck(options: FsckOptions): Promise<FsckReport> {
  const { cwd, env, signal } = options;
  const config = loadFilterConfig(cwd, env);
  useBlake3(config.kernels.blake3);
  const store = new LocalStore(config.storeDir);
  try {
    store.existsOrCan();
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
