/**
 * What the filter needs to know, resolved once, at the first file: repository, store, settings.
 * Settings come from git (`xet.*`), and a few from the environment.
 */
import { existsSync, readFileSync } from 'node:fs';
import { dirname, isAbsolute, join, resolve } from 'node:path';
import { GitConfig } from '../git/config.ts';
import { PathPatterns } from '../git/path-patterns.ts';
import { findRepository, type RepositoryPaths, repositoryAt } from '../git/repository.ts';
import type { CompressionMode } from '../xet/compress/scheme.ts';
import { Git2dbError } from '../xet/errors.ts';
import type { KernelChoice } from '../xet/wasm/kernels.ts';

export interface FilterConfig {
  readonly repository: RepositoryPaths;
  readonly storeDir: string;
  /** Stores on this machine where missing content may be found: those of the repository's remotes. Starts git. */
  sourceDirs(): readonly string[];
  readonly compression: CompressionMode;
  readonly fsync: 'batch' | 'none';
  /** What smudge does when content is missing; damaged content is always an error. */
  readonly onMissing: 'error' | 'pointer';
  readonly skipSmudge: boolean;
  /** Whether a remote that is no directory of this machine may have what is missing here: it is worth asking. */
  mayFetch(kind: 'xet' | 'lfs'): boolean;
  readonly objectFormat: 'sha1' | 'sha256';
  readonly indexPath: string;
  readonly kernels: KernelChoice;
  readonly lfs: LfsConfig;
}

/** What matters for LFS pointers alone. */
export interface LfsConfig {
  /** Directories `objects` of git-lfs on this machine: the repository's own first, then those it borrows from. */
  objectDirs(): readonly string[];
  /** False: nothing is to be downloaded for this path of a checkout, its pointer stands for it. */
  mayDownload(path: Uint8Array): boolean;
}

const KEYS =
  '^(xet\\.|lfs\\.(url|storage|fetchinclude|fetchexclude)$|remote\\..*\\.(url|xeturl|lfsurl)$|' +
  'url\\..*\\.insteadof$|extensions\\.objectformat$)';

/** Throws NOT_A_REPOSITORY or INVALID_CONFIG. `read`: all that is in force in `cwd`, where it was read a moment ago. */
export function loadFilterConfig(cwd: string, env: NodeJS.ProcessEnv, read?: GitConfig): FilterConfig {
  const repository = findRepository(cwd, env);
  if (repository === undefined) {
    throw new Git2dbError(
      'NOT_A_REPOSITORY',
      `${cwd} is in no git repository, so there is no store; go into one first`,
    );
  }
  const config = read ?? GitConfig.load(cwd, KEYS, { env });
  const storeDir = storeDirectory(config, repository.commonDir, env);
  return {
    repository,
    storeDir,
    sourceDirs: () => sourceStores(config, repository, env).filter((dir) => dir !== storeDir),
    compression: choice(config, 'xet.compression', ['auto', 'none', 'lz4', 'bg4-lz4']),
    fsync: choice(config, 'xet.fsync', ['batch', 'none']),
    onMissing: choice(config, 'xet.onMissing', ['error', 'pointer']),
    skipSmudge: isTrue(env.GIT2DB_SKIP_SMUDGE) || config.bool('xet.skipSmudge', false),
    mayFetch: fetching(config, repository),
    objectFormat: config.get('extensions.objectFormat') === 'sha256' ? 'sha256' : 'sha1',
    indexPath: env.GIT_INDEX_FILE ? resolve(cwd, env.GIT_INDEX_FILE) : join(repository.gitDir, 'index'),
    kernels: kernelChoice(env),
    lfs: {
      objectDirs: once(() => lfsObjectDirs(config, repository)),
      mayDownload: downloadRule(config, env),
    },
  };
}

/** `lfs.storage` (a relative path starts at the common git directory), then the repositories that objects are borrowed from. */
function lfsObjectDirs(config: GitConfig, repository: RepositoryPaths): string[] {
  const { commonDir } = repository;
  const storage = config.get('lfs.storage');
  const own = resolve(commonDir, storage === undefined || storage === '' ? 'lfs' : storage);
  const lent = [...alternatesOf(commonDir), ...localRemotes(config, repository).map((r) => r.commonDir)];
  return [...new Set([own, ...lent.map((dir) => join(dir, 'lfs'))])].map((dir) => join(dir, 'objects'));
}

/** Git directories whose objects are used here (gitrepository-layout, objects/info/alternates). */
function alternatesOf(commonDir: string): string[] {
  let text: string;
  try {
    text = readFileSync(join(commonDir, 'objects', 'info', 'alternates'), 'utf8');
  } catch {
    return [];
  }
  return text
    .split('\n')
    .filter((line) => line !== '' && !line.startsWith('#'))
    .map((line) => dirname(resolve(commonDir, 'objects', line)));
}

/** GIT_LFS_SKIP_SMUDGE, lfs.fetchinclude and lfs.fetchexclude (patterns between commas), as git-lfs has them. */
function downloadRule(config: GitConfig, env: NodeJS.ProcessEnv): (path: Uint8Array) => boolean {
  if (isTrue(env.GIT_LFS_SKIP_SMUDGE)) return () => false;
  const list = (key: string) =>
    (config.get(key) ?? '')
      .split(',')
      .map((pattern) => pattern.trim())
      .filter((pattern) => pattern !== '');
  const patterns = once(() => new PathPatterns(list('lfs.fetchinclude'), list('lfs.fetchexclude')));
  return (path) => patterns().matches(path);
}

function once<T>(make: () => T): () => T {
  let made: { readonly value: T } | undefined;
  return () => {
    made ??= { value: make() };
    return made.value;
  };
}

/** `xet.store` (`~/` is the home directory, a relative path starts at the common git directory), or `<common>/xet`. */
export function storeDirectory(config: GitConfig, commonDir: string, env: NodeJS.ProcessEnv): string {
  const value = config.get('xet.store');
  if (value === undefined || value === '') return join(commonDir, 'xet');
  if (value.startsWith('~/') && env.HOME !== undefined) return join(env.HOME, value.slice(2));
  return isAbsolute(value) ? resolve(value) : resolve(commonDir, value);
}

/** Stores of remotes that are directories of this machine. */
function sourceStores(config: GitConfig, repository: RepositoryPaths, env: NodeJS.ProcessEnv): string[] {
  const stores = localRemotes(config, repository).map((source) =>
    storeDirectory(sourceConfig(source), source.commonDir, env),
  );
  return [...new Set(stores)];
}

/**
 * From the configuration alone; that there is nothing after all is found out by whoever asks. A URL of ssh leads to an
 * LFS server, but to no Xet store.
 */
function fetching(config: GitConfig, repository: RepositoryPaths): FilterConfig['mayFetch'] {
  const isWanted = config.bool('xet.fetchOnSmudge', true);
  const urls = () => remoteUrls(config).filter((url) => localRepository(url, repository) === undefined);
  const hasXetPlace = once(
    () =>
      config.entries().some(({ key, value }) => value && /^(?:xet\.remote|remote\..*\.xeturl)$/s.test(key)) ||
      urls().some((url) => /^https?:/i.test(url) || isRewritten(config, url)) ||
      (repository.workTree !== undefined && existsSync(join(repository.workTree, '.gitxet'))),
  );
  const hasLfsServer = once(
    () =>
      config.entries().some(({ key }) => /^(?:lfs\.url|remote\..*\.lfsurl)$/s.test(key)) || urls().length > 0,
  );
  return (kind) => isWanted && (hasXetPlace() || (kind === 'lfs' && hasLfsServer()));
}

/** By url.<base>.insteadOf. */
function isRewritten(config: GitConfig, url: string): boolean {
  return config
    .entries()
    .some(
      ({ key, value }) => /^url\..*\.insteadof$/s.test(key) && value !== undefined && url.startsWith(value),
    );
}

function remoteUrls(config: GitConfig): string[] {
  return config
    .entries()
    .flatMap(({ key, value }) =>
      key.startsWith('remote.') && key.endsWith('.url') && value !== undefined ? [value] : [],
    );
}

/** Remotes that are repositories of this machine. */
function localRemotes(config: GitConfig, repository: RepositoryPaths): RepositoryPaths[] {
  return remoteUrls(config).flatMap((url) => {
    const source = localRepository(url, repository);
    return source === undefined || source.commonDir === repository.commonDir ? [] : [source];
  });
}

function localRepository(url: string, repository: RepositoryPaths): RepositoryPaths | undefined {
  if (!/^(file:\/\/|\/|\.)/.test(url)) return undefined;
  try {
    // Git resolves a relative URL against the work tree, or the git directory of a bare repository.
    return repositoryAt(url.startsWith('.') ? resolve(repository.workTree ?? repository.gitDir, url) : url);
  } catch {
    return undefined;
  }
}

/** The other repository's own settings alone: those of this process's environment are not for it. */
function sourceConfig(source: RepositoryPaths): GitConfig {
  try {
    return GitConfig.load(source.commonDir, '^xet\\.store$', {
      env: { GIT_DIR: source.commonDir, GIT_CONFIG_PARAMETERS: undefined, GIT_CONFIG_COUNT: undefined },
    });
  } catch {
    return new GitConfig([]);
  }
}

export function kernelChoice(env: NodeJS.ProcessEnv): KernelChoice {
  return {
    blake3: oneOf('GIT2DB_BLAKE3', env.GIT2DB_BLAKE3, ['native', 'wasm', 'js']),
    scan: oneOf('GIT2DB_SCAN', env.GIT2DB_SCAN, ['wasm', 'js']),
  };
}

function choice<const T extends string>(config: GitConfig, key: string, values: readonly [T, ...T[]]): T {
  return oneOf(key, config.get(key), values) ?? values[0];
}

function oneOf<const T extends string>(
  name: string,
  value: string | undefined,
  values: readonly T[],
): T | undefined {
  if (value === undefined || value === '') return undefined;
  const found = values.find((v) => v === value);
  if (found === undefined) {
    throw new Git2dbError(
      'INVALID_CONFIG',
      `${name} is ${JSON.stringify(value)}; it can be ${values.join(', ')}`,
    );
  }
  return found;
}

function isTrue(value: string | undefined): boolean {
  return value !== undefined && !['', '0', 'false', 'no', 'off'].includes(value.toLowerCase());
}
