/**
 * One repository, or one of its work trees, and git run there. The operand of every operation is such a
 * place: nothing here depends on the current directory of this process, or on a GIT_DIR it inherited.
 *
 * Git finds the repository by itself from the top of the work tree, looking no further up; so its own
 * checks (safe.directory) stay in force. Only where the work tree does not lead to the git directory
 * (core.worktree) is it told by GIT_DIR.
 */
import { existsSync } from 'node:fs';
import { dirname } from 'node:path';
import { checkArguments } from '../arguments.ts';
import type { GitArg } from '../git/byte-words.ts';
import { classified } from '../git/classify.ts';
import { ObjectPool } from '../git/object-pool.ts';
import { type RunningGit, startGit } from '../git/process.ts';
import { splitZ } from '../git/records.ts';
import { findRepository, type RepositoryPaths, repositoryAt } from '../git/repository.ts';
import {
  type GitResult,
  type GitRun,
  type GitStream,
  type GitStreamRun,
  git,
  gitStream,
} from '../git/runner.ts';
import { Git2dbError } from '../xet/errors.ts';
import { tellFullDisk } from './full-disk.ts';
import type { GitManager } from './git-manager.ts';
import { type ConfigPair, configEnvironment, trustSettings } from './trust.ts';

/** What a run in a place may say; the place itself gives `cwd`. */
export interface PlaceRun extends Omit<GitRun, 'cwd' | 'keepGitEnv' | 'enter'> {
  /** Laid over what git reads from its files, and over what the place's trust says. */
  readonly config?: readonly ConfigPair[] | undefined;
  /** Which paths follow `--`: as they are (unless given), or patterns with git's pathspec magic. */
  readonly pathspecs?: 'literal' | 'magic' | undefined;
}

export interface PlaceStreamRun extends Omit<PlaceRun, 'input' | 'maxOutput'> {
  readonly input?: GitStreamRun['input'];
}

/** Absolute paths without symbolic links. */
export interface GitPlace extends RepositoryPaths {
  /** False: programs that the repository's own configuration names do not run; see trust.ts. */
  readonly trusted: boolean;
  /** False: only processes in another mount namespace see the work tree; git's runs go there. */
  readonly reachable: boolean;
  readonly objects: ObjectPool;
  /** The environment of git's runs, before trust is laid over it. */
  readonly env: NodeJS.ProcessEnv;
  /** Rejects as `git` of the runner, a failure being classified: AUTH_FAILED, NETWORK, REF_INVALID, ... */
  git(args: readonly GitArg[], options?: PlaceRun): Promise<GitResult>;
  /** stdout as text, without one trailing newline. Not for paths without `-z`. */
  text(args: readonly GitArg[], options?: PlaceRun): Promise<string>;
  /** stdout of a command with `-z`: the bytes between NULs. */
  linesZ(args: readonly GitArg[], options?: PlaceRun): Promise<Buffer[]>;
  stream(args: readonly GitArg[], options?: PlaceStreamRun): GitStream;
  /** Ends the processes that the place keeps. It can be used again afterwards. */
  close(): Promise<void>;
}

export interface OpenPlaceOptions {
  /** False unless given. */
  readonly trusted?: boolean | undefined;
  /** Whose cache of open places is used, and whose environment; without one the caller closes the place. */
  readonly manager?: GitManager | undefined;
  /** Makes the command that runs `argv` where the work tree is seen. The place is then not `reachable`. */
  readonly enter?: ((argv: readonly string[]) => readonly string[]) | undefined;
  /** That of this process unless given. */
  readonly env?: NodeJS.ProcessEnv | undefined;
  /** Known already, because `path` cannot be looked at from here. */
  readonly paths?: RepositoryPaths | undefined;
}

/**
 * The repository at `path`: a work tree, a git directory, or a `.git` file; parent directories are not
 * looked at. Throws NOT_A_REPOSITORY.
 */
export async function openPlace(path: string, options: OpenPlaceOptions = {}): Promise<GitPlace> {
  checkArguments('openPlace', ['path', 'options?:any'], [path, options]);
  const { manager, trusted = false, ...own } = options;
  if (manager !== undefined && own.enter === undefined && own.paths === undefined) {
    return manager.place(path, trusted);
  }
  const paths = own.paths ?? repositoryAt(path);
  if (paths === undefined) {
    throw new Git2dbError(
      'NOT_A_REPOSITORY',
      `expected a git repository at ${path}, found ${existsSync(path) ? 'none there' : 'nothing'}: ` +
        'give the top of a work tree or a git directory',
      { data: { path } },
    );
  }
  return new Place(paths, { ...own, trusted });
}

/** The work tree of `place`. Throws WORKTREE_NEEDED, naming the worktrees there are, where it has none. */
export async function requireWorkTree(place: GitPlace, operation: string): Promise<string> {
  if (place.workTree !== undefined) return place.workTree;
  const listed = await place.text(['worktree', 'list', '--porcelain']);
  const worktrees = listed
    .split('\n\n')
    .filter((record) => !/^bare$/m.test(record))
    .map((record) => /^worktree (.*)$/m.exec(record)?.[1])
    .filter((path) => path !== undefined);
  const remedy =
    worktrees.length === 0
      ? 'it has no worktree yet: create one and work there'
      : `work in one of its worktrees, handle.at(path): ${worktrees.slice(0, 10).join(', ')}`;
  throw new Git2dbError(
    'WORKTREE_NEEDED',
    `${operation} needs a work tree, and ${place.gitDir} is a bare repository: ${remedy}`,
    { data: { gitDir: place.gitDir, operation, worktrees } },
  );
}

class Place implements GitPlace {
  readonly commonDir: string;
  readonly gitDir: string;
  readonly workTree: string | undefined;
  readonly trusted: boolean;
  readonly reachable: boolean;
  readonly env: NodeJS.ProcessEnv;
  readonly objects: ObjectPool;
  readonly #enter: OpenPlaceOptions['enter'];
  readonly #where: { readonly cwd: string; readonly prefix: readonly string[] };
  readonly #placeEnv: Readonly<Record<string, string | undefined>>;
  readonly #placeConfig: readonly ConfigPair[];

  constructor(paths: RepositoryPaths, options: OpenPlaceOptions) {
    this.commonDir = paths.commonDir;
    this.gitDir = paths.gitDir;
    this.workTree = paths.workTree;
    this.trusted = options.trusted === true;
    this.reachable = options.enter === undefined;
    this.env = options.env ?? process.env;
    this.#enter = options.enter;
    const top = paths.workTree ?? paths.gitDir;
    // What is entered has its own view of directories: only git, once there, can go to this one.
    this.#where = this.reachable ? { cwd: top, prefix: [] } : { cwd: '/', prefix: ['-C', top] };
    this.#placeEnv = { ...this.#environment(options.env), ...this.#discovery(top) };
    // Refusing bare repositories met by chance is no refusal of one that was named.
    this.#placeConfig = paths.workTree === undefined ? [['safe.bareRepository', 'all']] : [];
    this.objects = new ObjectPool({
      paths,
      start: async (args) => this.#startReader(args, await this.#run({})),
    });
  }

  /** Not in the work tree: a process that is kept for the next question must not keep a mount busy. */
  #startReader(args: readonly GitArg[], run: GitRun): RunningGit {
    if (!this.reachable) return startGit([...this.#where.prefix, ...args], run, true);
    return startGit([`--git-dir=${this.gitDir}`, ...args], { ...run, cwd: this.gitDir }, true);
  }

  async git(args: readonly GitArg[], options: PlaceRun = {}): Promise<GitResult> {
    const run = await this.#run(options);
    try {
      return await git([...this.#where.prefix, ...args], { ...run, ...inputOf(options) });
    } catch (error) {
      throw tellFullDisk(classified(error), [this.gitDir, this.workTree]);
    }
  }

  async text(args: readonly GitArg[], options: PlaceRun = {}): Promise<string> {
    const text = (await this.git(args, options)).stdout.toString('utf8');
    return text.endsWith('\n') ? text.slice(0, -1) : text;
  }

  async linesZ(args: readonly GitArg[], options: PlaceRun = {}): Promise<Buffer[]> {
    return [...splitZ((await this.git(args, options)).stdout)];
  }

  stream(args: readonly GitArg[], options: PlaceStreamRun = {}): GitStream {
    const started = this.#run(options).then((run) =>
      gitStream([...this.#where.prefix, ...args], { ...run, input: options.input }),
    );
    const done = started
      .then((stream) => stream.done)
      .catch((error: unknown) => {
        throw classified(error);
      });
    done.catch(() => {});
    return { stdout: streamed(started), done };
  }

  close(): Promise<void> {
    return this.objects.close();
  }

  async #run(options: PlaceStreamRun): Promise<Omit<GitStreamRun, 'input'>> {
    const env = { ...this.#placeEnv, ...options.env };
    const merged = { ...process.env, ...env };
    const trust = await trustSettings(this.trusted, this, { env: merged, signal: options.signal }).catch(
      (error: unknown) => {
        throw existsSync(this.gitDir) ? error : this.#gone(error);
      },
    );
    const config = [...this.#placeConfig, ...trust.config, ...(options.config ?? [])];
    return {
      cwd: this.#where.cwd,
      env: {
        ...env,
        ...trust.env,
        ...configEnvironment(config, merged),
        ...(options.pathspecs === undefined
          ? {}
          : { GIT_LITERAL_PATHSPECS: options.pathspecs === 'literal' ? '1' : undefined }),
      },
      signal: options.signal,
      okStatus: options.okStatus,
      interactive: options.interactive,
      enter: this.#enter,
      onStderr: options.onStderr,
    };
  }

  #gone(cause: unknown): Git2dbError {
    return new Git2dbError(
      'NOT_A_REPOSITORY',
      `the git directory ${this.gitDir} is not there any more: open the repository again where it is now`,
      { cause, data: { path: this.gitDir } },
    );
  }

  /** A given environment stands for the whole one: what only this process has is taken away. */
  #environment(given: NodeJS.ProcessEnv | undefined): Record<string, string | undefined> {
    if (given === undefined) return {};
    const env: Record<string, string | undefined> = {};
    for (const name of Object.keys(process.env)) if (given[name] === undefined) env[name] = undefined;
    for (const [name, value] of Object.entries(given)) if (!REPOSITORY_VARIABLE.test(name)) env[name] = value;
    return env;
  }

  #discovery(top: string): Record<string, string | undefined> {
    const env: NodeJS.ProcessEnv = { GIT_CEILING_DIRECTORIES: dirname(top) };
    if (this.reachable) {
      if (findSafely(top)?.gitDir !== this.gitDir) {
        env.GIT_DIR = this.gitDir;
        if (this.workTree !== undefined) env.GIT_WORK_TREE = this.workTree;
      }
    }
    return env;
  }
}

/** Those that would lead git elsewhere than to the place; the runner takes them from what is inherited. */
const REPOSITORY_VARIABLE =
  /^GIT_(?:ALTERNATE_OBJECT_DIRECTORIES|CONFIG|OBJECT_DIRECTORY|DIR|WORK_TREE|IMPLICIT_WORK_TREE|GRAFT_FILE|INDEX_FILE|NO_REPLACE_OBJECTS|REPLACE_REF_BASE|PREFIX|INTERNAL_SUPER_PREFIX|SHALLOW_FILE|COMMON_DIR|LITERAL_PATHSPECS|GLOB_PATHSPECS|NOGLOB_PATHSPECS|ICASE_PATHSPECS)$/;

function findSafely(top: string): RepositoryPaths | undefined {
  try {
    return findRepository(top, { GIT_CEILING_DIRECTORIES: dirname(top) });
  } catch {
    return undefined;
  }
}

function inputOf(options: PlaceRun): Pick<GitRun, 'input' | 'maxOutput'> {
  return { input: options.input, maxOutput: options.maxOutput };
}

async function* streamed(started: Promise<GitStream>): AsyncIterable<Buffer> {
  const stream = await started;
  try {
    yield* stream.stdout;
  } catch (error) {
    throw classified(error);
  }
}
