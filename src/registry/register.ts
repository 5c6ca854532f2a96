/** Entering a repository that is there already, where it is. */
import { readFileSync, realpathSync } from 'node:fs';
import { basename, isAbsolute, join, relative, resolve, sep } from 'node:path';
import { type RepositoryPaths, repositoryAt } from '../git/repository.ts';
import { Git2dbError } from '../xet/errors.ts';
import { MARK } from './apply-draft.ts';
import { checkSame, type Draft } from './draft.ts';
import type { RepositoryRecord } from './metadata.ts';
import { isOwnPath } from './own-path.ts';
import type { AskedRecord, NewRecord } from './record-sink.ts';
import type { RegistryLayout } from './registry-layout.ts';
import { readRemotes, remoteNameOf } from './remote-settings.ts';
import { nameFromUrl, parseRemoteUrl, storedUrl } from './remote-url.ts';
import { findRepoId, RepoId } from './repo-id.ts';
import { checkName, findNameFault } from './repository-name.ts';

export interface RegisterOptions {
  /** Where it is: a work tree or a git directory. `repos/<name>` of the registry unless given. */
  readonly path?: string | undefined;
  /** The last part of the path unless given. */
  readonly name?: string | undefined;
  /** That of its remote unless given. */
  readonly url?: string | undefined;
  readonly id?: string | undefined;
  /** Whether its hooks and the programs of its own configuration may run; not unless asked. */
  readonly trust?: boolean | undefined;
  /** What its branch follows unless given. */
  readonly trackingRef?: string | undefined;
  readonly metadata?: Readonly<Record<string, string>> | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** What was asked for, and what the repository itself says; both without touching the registry. */
export interface FoundRepository {
  readonly asked: AskedRecord;
  readonly entry: NewRecord;
}

/** Looks at the repository. Throws NOT_A_REPOSITORY, NAME_INVALID, URL_INVALID, USAGE. */
export function findToRegister(layout: RegistryLayout, options: RegisterOptions): FoundRepository {
  const id = options.id === undefined ? undefined : RepoId.parse(options.id);
  if (options.name !== undefined) checkName(options.name);
  const repository = locate(layout, options, id);
  const top = placeOf(repository);
  const inside = relative(layout.root, top).split(sep).join('/');
  const mark = isOwnPath(inside) ? readMark(repository.commonDir) : undefined;
  const path = mark === undefined ? top : inside;
  const settings = readRemotes(repository.commonDir);
  const recorded = settings.remotes.get(
    remoteNameOf(options.trackingRef ?? settings.trackingRef, settings),
  )?.url;
  const url = options.url ?? (recorded === undefined ? undefined : storedUrl(recorded, { cwd: top }));
  const asked: AskedRecord = {
    id,
    path,
    name: options.name,
    url: options.url,
    trusted: options.trust,
    trackingRef: options.trackingRef,
    metadata: options.metadata,
  };
  const entry: NewRecord = {
    ...asked,
    id: id ?? mark,
    name: options.name ?? nameFor(top, url),
    url,
    bare: repository.workTree === undefined,
    trackingRef: options.trackingRef ?? settings.trackingRef,
  };
  return { asked, entry };
}

/** The entry that is there for it already, if it says the same; else a new one. */
export function registerIn(draft: Draft, { asked, entry }: FoundRepository): RepositoryRecord {
  const { snapshot } = draft;
  const known =
    (asked.id === undefined ? undefined : snapshot.byId(asked.id)) ??
    (entry.path === undefined ? undefined : snapshot.byPath(entry.path)) ??
    (asked.name === undefined ? undefined : snapshot.byName(asked.name));
  if (known === undefined) return draft.add(entry);
  checkSame(known, asked);
  return draft.find(known.id) ?? known;
}

function locate(layout: RegistryLayout, options: RegisterOptions, id: RepoId | undefined): RepositoryPaths {
  const candidates: string[] = [];
  if (options.path !== undefined) {
    if (options.path === '' || options.path.includes('\0')) {
      throw new Git2dbError(
        'USAGE',
        `expected the path of a repository, found ${JSON.stringify(options.path)}`,
      );
    }
    candidates.push(resolve(options.path));
  } else {
    if (options.name !== undefined) candidates.push(join(layout.repos, options.name));
    if (id !== undefined) candidates.push(join(layout.repos, id), join(layout.root, id));
  }
  for (const candidate of candidates) {
    const found = repositoryAt(candidate);
    if (found === undefined) continue;
    if (found.gitDir === found.commonDir) return found;
    throw new Git2dbError(
      'NOT_A_REPOSITORY',
      `${candidate} is a linked worktree: register the repository it belongs to, ${placeOf({ ...found, workTree: undefined })}`,
      { data: { path: candidate, commonDir: found.commonDir } },
    );
  }
  throw new Git2dbError(
    'NOT_A_REPOSITORY',
    candidates.length === 0
      ? 'expected the path of a repository, or the name of one in repos/: give one of them'
      : `expected a git repository at ${candidates.join(' or ')}, found none: give the top of a work tree or a git directory` +
          (options.path === undefined ? ', or clone it' : ''),
    { data: { candidates } },
  );
}

/** The top of its work tree where that leads to it, else its git directory. */
function placeOf({ commonDir, workTree }: RepositoryPaths): string {
  if (workTree !== undefined && repositoryAt(workTree)?.commonDir === commonDir) return workTree;
  const parent = basename(commonDir) === '.git' ? resolve(commonDir, '..') : commonDir;
  return repositoryAt(parent)?.commonDir === commonDir ? parent : commonDir;
}

function nameFor(path: string, url: string | undefined): string {
  const own = basename(path).replace(/\.git$/, '');
  if (findNameFault(own) === undefined || url === undefined) return own;
  return nameFromUrl(parseRemoteUrl(url)) ?? own;
}

/** The id that git2db gave to a repository it made; undefined: it did not make it. */
export function readMark(commonDir: string): RepoId | undefined {
  try {
    const { id } = JSON.parse(readFileSync(join(commonDir, MARK), 'utf8')) as { id?: unknown };
    return typeof id === 'string' ? findRepoId(id) : undefined;
  } catch {
    return undefined;
  }
}

/** Where a record's repository is. */
export function absolutePathOf(root: string, { path }: Pick<RepositoryRecord, 'path'>): string {
  return isAbsolute(path) ? path : join(root, path);
}

/** The registry's own directory without symbolic links, so that one registry has one name. */
export function realRoot(directory: string): string {
  return realpathSync(directory);
}
