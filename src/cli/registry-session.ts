/**
 * What a command of the registry works with: the registry, and mostly one repository or worktree of it.
 * The library is loaded here and nowhere else, so that all other commands start without it.
 */
import { existsSync, realpathSync, statSync } from 'node:fs';
import { basename, dirname, isAbsolute, join, relative, resolve } from 'node:path';
import { findRepository, type RepositoryPaths } from '../git/repository.ts';
import type { ConfigInput, Git2DB, RepositoryHandle, RepositoryRecord } from '../registry/index.ts';
import { Git2dbError } from '../xet/errors.ts';
import type { CommandContext } from './command.ts';
import { plain } from './present.ts';
import type * as Library from './registry-library.ts';

export interface Session {
  readonly library: typeof Library;
  readonly db: Git2DB;
  /** Fires at Ctrl-C and SIGTERM. */
  readonly signal: AbortSignal;
}

export interface Target extends Session {
  readonly record: RepositoryRecord;
  /** For the worktree that was named, or the one of the current directory, or the main one. */
  readonly handle: RepositoryHandle;
  /** What the person may type for the repository. */
  readonly shown: string;
  /** A path of the command line as one from the top of the work tree. Throws PATH_INVALID. */
  readonly treePath: (path: string) => string;
}

interface RegistryChoice {
  readonly registry?: string | undefined;
}

interface WorktreeChoice extends RegistryChoice {
  readonly worktree?: string | undefined;
}

export function loadLibrary(): Promise<typeof Library> {
  return import('./registry-library.ts');
}

/** Settings that the command line gives. */
export interface SessionOptions {
  readonly flags?: ConfigInput | undefined;
  /** Make the registry where there is none. */
  readonly create?: boolean | undefined;
}

export async function withRegistry<T>(
  choice: RegistryChoice,
  context: CommandContext,
  use: (session: Session) => Promise<T>,
  { flags, create = false }: SessionOptions = {},
): Promise<T> {
  const root = create ? resolve(context.cwd, choice.registry ?? '.') : registryDirectory(choice, context);
  const signal = context.interruptible();
  const library = await loadLibrary();
  const env = context.env as NodeJS.ProcessEnv;
  const { config, warnings } = library.resolveConfig({
    cwd: context.cwd,
    env,
    ...(flags === undefined ? {} : { flags }),
  });
  for (const warning of warnings) context.output.warn(warning);
  await using manager = new library.GitManager({ config, env });
  await using db = await library.Git2DB.open(root, { config, manager, env, signal });
  for (const notice of db.notices) context.output.note(notice);
  return await use({ library, db, signal });
}

/** The first operand says which repository; see REPO_MANUAL. */
export function withRepository<T>(
  operand: string | undefined,
  choice: WorktreeChoice,
  context: CommandContext,
  use: (target: Target) => Promise<T>,
  options: SessionOptions = {},
): Promise<T> {
  return withRegistry(
    choice,
    context,
    async (session) => {
      const { db } = session;
      const isHere = operand === undefined || operand === '.';
      const here = isHere ? findHere(db, context, operand) : undefined;
      const record = here?.record ?? find(db, operand!);
      await using main = await db.repo(record.id);
      const tree = choice.worktree;
      const handle =
        tree !== undefined
          ? await main.at(await main.worktree().get(worktreeWord(tree, context.cwd)))
          : here?.linked === undefined
            ? main
            : await main.at(await main.worktree().get(here.linked));
      const treePath = (path: string) =>
        toTreePath(path, handle, isHere && tree === undefined ? context.cwd : undefined);
      const shown = isHere ? '.' : operand!;
      try {
        return await use({ ...session, record, handle, shown, treePath });
      } catch (error) {
        throw tellConflict(error, `${shown}${tree === undefined ? '' : ` --worktree ${tree}`}`, context);
      } finally {
        if (handle !== main) await handle[Symbol.asyncDispose]();
      }
    },
    options,
  );
}

/** `--registry`, GIT2DB_REGISTRY, or the nearest directory above that holds one. */
export function registryDirectory(choice: RegistryChoice, { cwd, env }: CommandContext): string {
  const given = choice.registry ?? (env.GIT2DB_REGISTRY || undefined);
  if (given !== undefined) {
    const root = resolve(cwd, given);
    if (existsSync(join(root, '.git2db'))) return root;
    const by = choice.registry === undefined ? 'GIT2DB_REGISTRY' : '--registry';
    throw new Git2dbError(
      'REGISTRY_INVALID',
      `${by}: expected a registry in ${root}, found none: 'git2db init ${given}' makes one`,
    );
  }
  for (let directory = resolve(cwd); ; directory = dirname(directory)) {
    // Without the first of these it is a registry to be repaired.
    const own = join(directory, '.git2db');
    if (['metadata.json', 'metadata.previous.json'].some((name) => existsSync(join(own, name))))
      return directory;
    if (directory === dirname(directory)) break;
  }
  throw new Git2dbError(
    'REGISTRY_INVALID',
    `there is no registry in ${cwd} nor above: name one with --registry or GIT2DB_REGISTRY, or make one with 'git2db init'`,
  );
}

function find(db: Git2DB, query: string): RepositoryRecord {
  // `get` knows near names for its message.
  return db.find(query) ?? db.get(query);
}

interface Here {
  readonly record: RepositoryRecord;
  /** The linked worktree of the current directory; undefined in the main one. */
  readonly linked: string | undefined;
}

function findHere(db: Git2DB, context: CommandContext, operand: string | undefined): Here {
  const { cwd } = context;
  const repository = findRepository(cwd, context.env as NodeJS.ProcessEnv);
  if (repository === undefined) {
    throw new Git2dbError(
      operand === undefined ? 'USAGE' : 'NOT_A_REPOSITORY',
      `${cwd} is in no repository: name one of the registry ${db.root} ('git2db list' shows them)`,
    );
  }
  const record = recordOf(db, repository);
  if (record === undefined) {
    const top = repository.workTree ?? repository.gitDir;
    throw new Git2dbError(
      'NOT_FOUND',
      `the repository ${top} is not in the registry ${db.root}: 'git2db register ${top}' enters it`,
    );
  }
  const isLinked = realPath(repository.gitDir) !== realPath(repository.commonDir);
  return { record, linked: isLinked ? repository.workTree : undefined };
}

/** The entry of a repository, or of the one that a worktree belongs to. */
export function recordOf(db: Git2DB, repository: RepositoryPaths): RepositoryRecord | undefined {
  return db.list().find((each) => isPlaceOf(repository, db.absolutePath(each)));
}

/** A recorded path is a work tree, or a git directory. */
function isPlaceOf({ commonDir }: RepositoryPaths, path: string): boolean {
  const directory = realPath(commonDir);
  if (path === directory || join(path, '.git') === directory) return true;
  // A recorded path need not be the real one, nor `.git` a directory; those are few enough to be looked at.
  if (basename(path) !== basename(dirname(directory)) && basename(path) !== basename(directory)) return false;
  const git = statSync(join(path, '.git'), { throwIfNoEntry: false });
  return realPath(git === undefined ? path : join(path, '.git')) === directory;
}

function realPath(path: string): string {
  try {
    return realpathSync(path);
  } catch {
    return path;
  }
}

/** A branch may look like a path, and the library takes paths by the directory of its process. */
export function worktreeWord(word: string, cwd: string): string {
  return /^\.{1,2}(?:\/|$)/.test(word) ? resolve(cwd, word) : word;
}

function toTreePath(path: string, handle: RepositoryHandle, cwd: string | undefined): string {
  const top = handle.place.workTree;
  if (top === undefined || (cwd === undefined && !isAbsolute(path))) return path;
  const inside = relative(realPath(top), resolve(cwd === undefined ? top : realPath(cwd), path));
  if (inside === '..' || inside.startsWith('../') || isAbsolute(inside)) {
    throw new Git2dbError('PATH_INVALID', `${path} is not in the work tree ${top}`);
  }
  return inside === '' ? '.' : inside;
}

/** An operation that stopped is told as data too. The library's remedies are calls; those of a person are commands. */
function tellConflict(error: unknown, place: string, { output, json }: CommandContext): unknown {
  const { code, data, message } = error as Partial<Git2dbError>;
  const operation = data?.operation;
  if (code !== 'MERGE_CONFLICT' || typeof operation !== 'string' || message === undefined) return error;
  if (json) output.json({ stopped: operation, conflicts: plain(data?.conflicts ?? []) });
  const what = message.replace(/; resolve and stage them, then continue\(\), or abort\(\)$/, '');
  const remedy =
    operation === 'stash'
      ? `resolve them and stage them ('git2db add ${place} PATH')`
      : `resolve them, stage them ('git2db add ${place} PATH'), then 'git2db ${operation} ${place} --continue', or --abort`;
  return new Git2dbError('MERGE_CONFLICT', `${what}; ${remedy}`, { cause: error, data: data ?? {} });
}
