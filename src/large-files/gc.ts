/**
 * `git2db xet gc`: what git refers to decides what the store keeps. Roots are all repositories that use
 * the store, with all that git could bring back in them: refs, reflogs, stashes, the indexes and HEADs of
 * all worktrees, operations in progress. One that cannot be read stops everything.
 */
import { realpathSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { loadFilterConfig, storeDirectory } from '../filter-process/config.ts';
import { ObjectReader } from '../git/cat-file.ts';
import { GitConfig } from '../git/config.ts';
import { reachableBlobs } from '../git/refs.ts';
import { repositoryAt } from '../git/repository.ts';
import { rootRun } from '../git/roots.ts';
import { Git2dbError, messageOf } from '../xet/errors.ts';
import { useBlake3 } from '../xet/hash/blake3.ts';
import { collectGarbage, type GcOptions } from '../xet/store/gc/collect.ts';
import type { GcProgress, GcReport } from '../xet/store/gc/report.ts';
import type { Roots } from '../xet/store/gc/survey.ts';
import { StoreLayout } from '../xet/store/layout.ts';
import { forgetUser, listUsers, ownerOf } from '../xet/store/users.ts';
import { ContentRemotes } from './content-remotes.ts';
import { parsePlaceUrl } from './place-url.ts';
import { noPlace } from './remote-choice.ts';
import type { Place } from './work-tree.ts';

export interface CollectOptions extends Place, Omit<GcOptions, 'fsync' | 'onProgress'> {
  /** Repositories that are gone: their entries in the store's list of users are removed. */
  readonly forget: readonly string[];
  /** With `prune` false: whether `forget` only pretends too. */
  readonly rehearse: boolean;
  /** Name or address of a remote whose store is collected instead of this repository's. */
  readonly remote?: string | undefined;
  /** Repositories that count as users of the store, though they are not on its list. */
  readonly keepFrom?: readonly string[] | undefined;
  readonly onProgress?: ((event: CollectProgress) => void) | undefined;
}

export type CollectProgress = GcProgress | { readonly kind: 'marking'; readonly repository: string };

export interface CollectResult extends GcReport {
  /** Directory of the store. */
  readonly store: string;
  /** Common git directories of the repositories that use it. */
  readonly users: readonly string[];
  readonly forgotten: readonly string[];
}

/**
 * Collects in the store of the repository at `cwd`, or of one of its remotes. Throws NOT_A_REPOSITORY; USAGE for a
 * `forget` that is no user; REFUSED for a repository that cannot be read, or is to be forgotten though it is alive; and
 * what collectGarbage throws.
 */
export async function collect(options: CollectOptions): Promise<CollectResult> {
  const { cwd, env, signal, onProgress } = options;
  const config = loadFilterConfig(cwd, env);
  useBlake3(config.kernels.blake3);
  const { remote, keepFrom = [] } = options;
  const layout = new StoreLayout(
    remote === undefined ? config.storeDir : await storeOfRemote(remote, options),
  );
  layout.existsOrCan();
  if (remote !== undefined && options.prune && keepFrom.length === 0 && ownerOf(layout) === undefined) {
    throw new Git2dbError(
      'USAGE',
      `the store ${layout.root} belongs to no repository, so it does not know all that need it: name them with --keep-from`,
    );
  }
  const own = [config.repository.commonDir, ...keepFrom.map((path) => commonDirAt(cwd, path))];
  const references = new References(signal);
  const forgotten: string[] = [];
  for (const path of options.forget) {
    const commonDir = findUser(layout, resolve(cwd, path), path);
    await refuseIfAlive(commonDir, layout, references, env);
    forgotten.push(commonDir);
    if (!options.rehearse) forgetUser(layout, commonDir);
  }
  const users = () => listCommonDirs(layout, own).filter((commonDir) => !forgotten.includes(commonDir));
  const findRoots = async (): Promise<Roots> => {
    const roots = { files: new Set<string>(), sha256s: new Set<string>() };
    // Listed anew each time: a repository enters before its first pointer is answered or read.
    for (const commonDir of users()) {
      onProgress?.({ kind: 'marking', repository: commonDir });
      await references.addTo(roots, commonDir);
    }
    return roots;
  };
  const report = await collectGarbage(layout.root, findRoots, { ...options, fsync: config.fsync });
  return { ...report, store: layout.root, users: users(), forgotten };
}

/** Everybody who uses the store; the repository at hand does, listed or not. */
function listCommonDirs(layout: StoreLayout, own: readonly string[]): string[] {
  return [...new Set([...own, ...listUsers(layout).map(({ commonDir }) => commonDir)])];
}

/** Throws USAGE. */
function commonDirAt(cwd: string, path: string): string {
  const repository = repositoryAt(resolve(cwd, path));
  if (repository !== undefined) return repository.commonDir;
  throw new Git2dbError('USAGE', `--keep-from ${path}: there is no git repository`);
}

/**
 * The store of a remote that is a directory of this machine. Throws REFUSED for any other place
 * (docs/decisions/0011-no-gc-of-buckets.md), REMOTE_MISSING and TRUST_REQUIRED where there is none.
 */
async function storeOfRemote(remote: string, { cwd, env, warn, signal }: CollectOptions): Promise<string> {
  await using remotes = new ContentRemotes({ cwd, env, warn, signal, mayPrompt: false, refresh: true });
  if (!remotes.git.names().includes(remote)) {
    // An address of a store; what is none may be the path of a repository.
    const place = parsePlaceUrl(remote, cwd);
    if (place.kind !== 'directory') throw notCollected(shownAddress(place.key), place.kind);
    if (new StoreLayout(place.address).exists()) return place.address;
  }
  const choice = await remotes.choose(remote, 'fetch');
  const { place } = choice;
  if (place === undefined) throw noPlace(choice);
  switch (place.kind) {
    case 'directory':
      return place.path;
    case 'address':
      throw notCollected(shownAddress(place.address), parsePlaceUrl(place.address).kind);
    case 'service':
      throw notCollected(place.casUrl, 'http');
    case 'hub':
      throw notCollected(place.url, 'http');
  }
}

/** Without what a query may hold. */
function shownAddress(address: string): string {
  return address.replace(/[?#].*$/s, '');
}

function notCollected(place: string, kind: 's3' | 'http' | 'directory'): Git2dbError {
  const why =
    kind === 's3'
      ? 'in a bucket nothing tells who is about to rely on an object, so none can be deleted safely; docs/gc.md says ' +
        'how to copy what is needed to a new one'
      : 'a store behind a server is collected on the machine where it lies: git2db xet gc there';
  return new Git2dbError('REFUSED', `${place} is not collected: ${why}`, { data: { place } });
}

/** The entry that `path` means: a git directory, or the work tree it is in. `said`: as the user wrote it. */
function findUser(layout: StoreLayout, path: string, said: string): string {
  const known = listUsers(layout).filter(({ entry }) => entry !== undefined);
  const candidates = [path, join(path, '.git'), realPath(path), join(realPath(path), '.git')];
  const found = known.find(({ commonDir }) => candidates.includes(commonDir));
  if (found !== undefined) return found.commonDir;
  const names = known.map(({ commonDir }) => commonDir).join(', ');
  throw new Git2dbError(
    'USAGE',
    `--forget ${said}: no such repository uses the store ${layout.root}; ${names === '' ? 'none is listed' : `listed are ${names}`}`,
  );
}

async function refuseIfAlive(
  commonDir: string,
  layout: StoreLayout,
  references: References,
  env: Place['env'],
): Promise<void> {
  try {
    await references.addTo({ files: new Set(), sha256s: new Set() }, commonDir);
    const config = GitConfig.load(commonDir, '^xet\\.store$', { env: { GIT_DIR: commonDir } });
    // One that only read from here keeps what it has read in a store of its own.
    if (realPath(storeDirectory(config, commonDir, env)) !== realPath(layout.root)) return;
  } catch (error) {
    if (error instanceof Git2dbError) return;
    throw error;
  }
  throw new Git2dbError(
    'REFUSED',
    `${commonDir} is alive and uses the store ${layout.root}: what only it refers to would be deleted. ` +
      'Remove it first, or give it a store of its own (git config xet.store)',
    { data: { commonDir } },
  );
}

/** A blob of more bytes is not looked into. Three pointers and the marks of a conflict take far less. */
const MAX_BLOB = 4096;

/**
 * What names a file's content, wherever it stands in a small blob: as the whole of a pointer of any kind,
 * with any line ending, or as a line between the marks of a conflict that somebody has committed.
 */
const FILE_HASHES = [
  /\{"version":"1\.0","filesize":\d+,"hash":"([0-9a-f]{64})"/g,
  /\{"hash":"([0-9a-f]{64})","file_size":\d/g,
  /\bhash = ["']([0-9a-f]{64})["']/g,
];
const SHA256S = /\boid sha256:([0-9a-f]{64})/g;
const EMPTY_FILE = '0'.repeat(64);

interface Named {
  readonly files: readonly string[];
  readonly sha256s: readonly string[];
}

/** What is referred to in repositories. Blobs never change, so each is read once. */
export class References {
  readonly #signal: AbortSignal | undefined;
  /** What each blob names; undefined for most. By object id. */
  readonly #known = new Map<string, Named | undefined>();

  constructor(signal: AbortSignal | undefined) {
    this.#signal = signal;
  }

  /** Throws REFUSED where the repository cannot be read. */
  async addTo(roots: { files: Set<string>; sha256s: Set<string> }, commonDir: string): Promise<void> {
    try {
      for await (const { files, sha256s } of this.#namedIn(commonDir)) {
        for (const hash of files) roots.files.add(hash);
        for (const sha256 of sha256s) roots.sha256s.add(sha256);
      }
    } catch (error) {
      if (!(error instanceof Git2dbError)) throw error;
      throw new Git2dbError(
        'REFUSED',
        `${commonDir} uses this store and cannot be read, so what it needs is not known and nothing can be given up: ` +
          `${messageOf(error)}. If it is gone for good: git2db xet gc --forget '${commonDir}'`,
        { cause: error, data: { commonDir } },
      );
    }
  }

  async *#namedIn(commonDir: string): AsyncIterable<Named> {
    const repository = { gitDir: commonDir, commonDir, workTree: undefined };
    const reader = new ObjectReader(rootRun(commonDir, this.#signal));
    const fresh: string[] = [];
    try {
      for await (const { oid, size } of reachableBlobs(repository, {
        maxSize: MAX_BLOB,
        signal: this.#signal,
      })) {
        const named = this.#known.get(oid);
        if (named !== undefined) yield named;
        else if (!this.#known.has(oid) && size >= EMPTY_FILE.length) fresh.push(oid);
      }
      for await (const { name, object } of reader.readMany(fresh, { areSmall: true })) {
        if (object === undefined)
          throw new Git2dbError('GIT_FAILED', `git object ${name} went away while it was read`);
        const named = namedIn(object.body);
        this.#known.set(name, named);
        if (named !== undefined) yield named;
      }
    } finally {
      await reader.close();
    }
  }
}

function namedIn(body: Buffer): Named | undefined {
  const text = body.toString('latin1');
  const matches = (pattern: RegExp) => Array.from(text.matchAll(pattern), (match) => match[1] as string);
  const files = FILE_HASHES.flatMap(matches).filter((hash) => hash !== EMPTY_FILE);
  const sha256s = matches(SHA256S);
  return files.length + sha256s.length === 0 ? undefined : { files, sha256s };
}

function realPath(path: string): string {
  try {
    return realpathSync(path);
  } catch {
    return path;
  }
}
