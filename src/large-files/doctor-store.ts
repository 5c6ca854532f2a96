/** Faults of the store: can it be read and written, and what did others leave in it? */
import { accessSync, constants, statSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { count } from '../count.ts';
import type { GitConfig } from '../git/config.ts';
import { type RepositoryPaths, repositoryAt } from '../git/repository.ts';
import { errnoOf, Git2dbError, messageOf } from '../xet/errors.ts';
import { isZeroHash, parseHash } from '../xet/hash/xet-hash.ts';
import { readEvicted } from '../xet/store/evicted.ts';
import { JOURNAL, writerDirectories } from '../xet/store/incoming.ts';
import { probeLiveness } from '../xet/store/liveness.ts';
import { LocalStore } from '../xet/store/local-store.ts';
import { namesIn } from '../xet/store/names-in.ts';
import { listUsers } from '../xet/store/users.ts';
import type { CheckedPointer } from './doctor-attributes.ts';
import { type Fault, fault, type Patient } from './doctor-fault.ts';
import { isLocal } from './remote-choice.ts';
import { shellWord } from './shell-word.ts';

/** Less than a full xorb: the next large file will not fit. */
const FULL = 64 << 20;
const NEARLY_FULL = 2 ** 30;

export interface StoreQuestion {
  readonly storeDir: string;
  readonly repository: RepositoryPaths;
  /** Pointers of the index. */
  readonly pointers: readonly CheckedPointer[];
  /** Other stores where contents would be found. */
  readonly sourceDirs: readonly string[];
}

export async function checkStoreFaults({ host, config }: Patient, question: StoreQuestion): Promise<Fault[]> {
  const { storeDir } = question;
  const store = new LocalStore(storeDir);
  let exists: boolean;
  try {
    exists = store.exists();
  } catch (error) {
    if (error instanceof Git2dbError && error.code === 'STORE_UNSUPPORTED') {
      return [fault('error', 'store-unsupported', error.message, ['npm install --global git2db@latest'])];
    }
    return [unreadable(storeDir, error)];
  }
  const blocked = checkAccess(question, exists, host.uid);
  const full = checkSpace(storeDir, host.freeBytes(nearest(storeDir)));
  try {
    return [
      ...blocked,
      ...full,
      ...(await checkLeftovers(store, question.repository)),
      ...checkContents(store, question, config),
    ];
  } catch (error) {
    if (errnoOf(error) === undefined) throw error;
    // Why it cannot be read either is told already, or follows.
    const isTold = blocked.some(({ severity }) => severity === 'error');
    return [...blocked, ...full, ...(isTold ? [] : [unreadable(storeDir, error)])];
  } finally {
    store.close();
  }
}

function unreadable(storeDir: string, error: unknown): Fault {
  const message = messageOf(error);
  // Such as a pipe in the place of a file: the message says what to do.
  if (error instanceof Git2dbError) return fault('error', 'store-unreadable', message);
  return fault('error', 'store-unreadable', `the store cannot be read: ${message}`, [
    `sudo chown -R "$(id -un)" ${shellWord(storeDir)}`,
  ]);
}

function checkAccess(
  { storeDir, repository }: StoreQuestion,
  exists: boolean,
  uid: number | undefined,
): Fault[] {
  const parts = exists
    ? ['.', 'xorbs', 'shards', 'catalog', 'incoming', 'users'].map((name) => join(storeDir, name))
    : [nearest(storeDir)];
  const owner = exists && uid !== undefined ? statSync(storeDir).uid : uid;
  const isOthers = owner !== uid;
  for (const path of parts) {
    const stat = statSync(path, { throwIfNoEntry: false });
    if (stat === undefined) continue;
    if (!stat.isDirectory()) {
      const message = `the store cannot be made: ${path} is not a directory`;
      const usual = join(repository.commonDir, 'xet');
      return [
        fault('error', 'store-unwritable', message, [`git config --local xet.store ${shellWord(usual)}`]),
      ];
    }
    try {
      accessSync(path, constants.R_OK | constants.W_OK | constants.X_OK);
    } catch (error) {
      const own = isOthers
        ? `sudo chown -R "$(id -un)" ${shellWord(storeDir)}`
        : `chmod -R u+rwX ${shellWord(exists ? storeDir : path)}`;
      return [fault('error', 'store-unwritable', `the store cannot be written: ${messageOf(error)}`, [own])];
    }
  }
  if (!isOthers) return [];
  const message = `the store ${storeDir} belongs to user ${owner}, not to you (${uid}): what one of you stores, the other may not be able to tidy up`;
  return [
    fault('warning', 'store-of-another-user', message, [`sudo chown -R "$(id -un)" ${shellWord(storeDir)}`]),
  ];
}

/** The path itself, or the first above it that is there, a directory or not. */
function nearest(path: string): string {
  for (let place = path; ; place = dirname(place)) {
    try {
      statSync(place);
      return place;
    } catch (error) {
      if (dirname(place) === place || (errnoOf(error) !== 'ENOENT' && errnoOf(error) !== 'ENOTDIR'))
        return place;
    }
  }
}

function checkSpace(storeDir: string, free: number | undefined): Fault[] {
  if (free === undefined || free >= NEARLY_FULL) return [];
  const message = `only ${Math.floor(free / 2 ** 20)} MiB are free where the store is (${storeDir})`;
  return [fault(free < FULL ? 'error' : 'warning', 'store-full', message, ['git2db xet gc --prune'])];
}

async function checkLeftovers({ layout }: LocalStore, repository: RepositoryPaths): Promise<Fault[]> {
  const faults: Fault[] = [];
  const dead: string[] = [];
  for (const directory of writerDirectories(layout.incoming)) {
    if (!isThere(join(directory, JOURNAL))) continue;
    if ((await probeLiveness(directory)) === 'dead') dead.push(directory);
  }
  if (dead.length > 0) {
    const message = `${count(dead.length, 'process', 'processes')} died before publishing what was stored; it is kept in ${layout.incoming} and can be read`;
    faults.push(fault('warning', 'unsealed-work', message, ['git2db xet fsck --repair']));
  }
  const quarantined = namesIn(layout.quarantine).length;
  if (quarantined > 0) {
    const message = `${count(quarantined, 'damaged object is', 'damaged objects are')} kept in ${layout.quarantine}; once "git2db xet fsck" says that all is well, nobody needs what is there`;
    faults.push(
      fault('warning', 'quarantine-not-empty', message, [
        'git2db xet fsck',
        `rm -r ${shellWord(layout.quarantine)}`,
      ]),
    );
  }
  const trashed = namesIn(layout.trash).length;
  if (trashed > 0) {
    faults.push(
      fault(
        'warning',
        'trash-left',
        `${count(trashed, 'object is', 'objects are')} left in ${layout.trash} by a gc that did not end`,
        ['git2db xet gc --prune'],
      ),
    );
  }
  const gone = listUsers(layout).filter(
    ({ commonDir }) => commonDir !== repository.commonDir && !isRepository(commonDir),
  );
  if (gone.length > 0) {
    const message = `the store is entered as used by ${gone.map(({ commonDir }) => commonDir).join(', ')}, where no repository is: gc refuses to run`;
    faults.push(
      fault(
        'warning',
        'user-gone',
        message,
        gone.map(({ commonDir }) => `git2db xet gc --forget ${shellWord(commonDir)}`),
      ),
    );
  }
  return faults;
}

/** False also below what is no directory. */
function isThere(path: string): boolean {
  try {
    return statSync(path, { throwIfNoEntry: false }) !== undefined;
  } catch (error) {
    if (errnoOf(error) === 'ENOTDIR') return false;
    throw error;
  }
}

function isRepository(commonDir: string): boolean {
  try {
    return repositoryAt(commonDir) !== undefined;
  } catch {
    return false;
  }
}

function checkContents(
  store: LocalStore,
  { pointers, sourceDirs }: StoreQuestion,
  config: GitConfig,
): Fault[] {
  const missing = pointers.filter(
    ({ pointer }) =>
      !isZeroHash(parseHash(pointer.hash)) && store.findFile(parseHash(pointer.hash)) === undefined,
  );
  if (missing.length === 0) return [];
  const sources = sourceDirs.map((dir) => new LocalStore(dir));
  const lost = missing.filter(
    ({ pointer }) => !sources.some((source) => source.findFile(parseHash(pointer.hash)) !== undefined),
  );
  for (const source of sources) source.close();
  const notes = lost.length === 0 ? undefined : readEvicted(store.layout);
  const evicted = lost.filter(({ pointer }) => notes?.has(pointer.hash));
  const unknown = lost.filter((one) => !evicted.includes(one));
  const places = evicted.flatMap(({ pointer }) => notes?.get(pointer.hash)?.place ?? []);
  return [...evictedContents(evicted, [...new Set(places)]), ...missingContents(unknown, store.root, config)];
}

function evictedContents(evicted: readonly CheckedPointer[], places: readonly string[]): Fault[] {
  if (evicted.length === 0) return [];
  const message = `the content of ${count(evicted.length, 'file')} in the index was evicted; when it went, it was in ${places.join(', ')}`;
  const paths = evicted.map(({ path }) => path);
  return [fault('note', 'content-evicted', message, ['git2db xet fetch'], paths)];
}

function missingContents(missing: readonly CheckedPointer[], store: string, config: GitConfig): Fault[] {
  if (missing.length === 0) return [];
  const message = `the content of ${count(missing.length, 'file')} in the index is not in the store ${store}`;
  const paths = missing.map(({ path }) => path);
  if (missing.some(({ hasContent }) => hasContent))
    return [fault('error', 'content-missing', message, ['git2db xet fsck --repair'], paths)];
  if (mayBeElsewhere(config)) {
    const asked = `${message}; whether a remote has it was not asked`;
    return [fault('warning', 'content-not-fetched', asked, ['git2db xet fetch'], paths)];
  }
  const remedy = ['git remote add elsewhere /path/to/a/repository/that/has/it', 'git2db xet pull'];
  return [fault('error', 'content-missing', message, remedy, paths)];
}

/** Whether a remote keeps its content in a place that was not looked at. */
function mayBeElsewhere(config: GitConfig): boolean {
  return config
    .entries()
    .some(
      ({ key, value }) =>
        key === 'xet.remote' ||
        /^remote\..+\.xeturl$/s.test(key) ||
        (/^remote\..+\.url$/s.test(key) && !isLocal(value ?? '')),
    );
}
