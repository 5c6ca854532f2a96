/** The ways of keeping large files in git that are compared, and a place for each to do it in. */
import { spawnSync } from 'node:child_process';
import {
  accessSync,
  chmodSync,
  constants,
  cpSync,
  mkdirSync,
  rmSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import {
  benchEnvironment,
  LFS_FILTER,
  linkPrograms,
  QUIET_GIT,
  TOP,
  XET_FILTER,
} from '../bench-shared/environment.ts';
import { run } from '../bench-shared/run.ts';
import { type Cost, measure, type RunOptions } from './measure.ts';
import { LFS, NULL_FILTER, OURS, OURS_WASM, PLAIN } from './targets.ts';

export interface Contender {
  readonly name: string;
  /** Lines of `.gitattributes`, and of the user's git configuration. */
  readonly attributes: string;
  readonly config: Readonly<Record<string, string>>;
  readonly env: Readonly<Record<string, string>>;
  /** Where contents go, below the git directory. */
  readonly contents: string;
  /** The null filter gives back other bytes than it got. */
  readonly faithful: boolean;
  /** Why it cannot run here. */
  readonly missing: string | undefined;
}

/** As it is built. */
const NULL_FILTER_PROGRAM = 'build/test/bench/null-filter.js';

const ATTRIBUTES = (filter: string) => `data/** filter=${filter} -text\n`;

export function listContenders(): Contender[] {
  const unbuilt = ['git2db.js', 'git2db-filter.js']
    .map((name) => notBuilt(join('dist/bin', name)))
    .find(Boolean);
  const ours = {
    attributes: ATTRIBUTES('xet'),
    config: XET_FILTER,
    contents: 'xet',
    faithful: true,
  };
  return [
    { ...ours, name: OURS, env: { GIT2DB_BLAKE3: 'native' }, missing: unbuilt ?? withoutNativeBlake3() },
    {
      name: NULL_FILTER,
      attributes: ATTRIBUTES('null'),
      config: { 'filter.null.process': 'git2db-null-filter', 'filter.null.required': 'true' },
      env: {},
      contents: 'objects',
      faithful: false,
      missing: undefined,
    },
    { ...ours, name: OURS_WASM, env: { GIT2DB_BLAKE3: 'wasm' }, missing: unbuilt },
    {
      name: LFS,
      attributes: 'data/** filter=lfs diff=lfs merge=lfs -text\n',
      config: LFS_FILTER,
      env: {},
      contents: 'lfs',
      faithful: true,
      missing: withoutProgram('git-lfs', ['version']),
    },
    {
      name: PLAIN,
      attributes: '',
      config: {},
      env: {},
      contents: 'objects',
      faithful: true,
      missing: undefined,
    },
  ];
}

/** `cp` is no way of keeping versions; it is what the same bytes cost at least. */
export function copyMissing(): string | undefined {
  return withoutProgram('cp', ['--reflink=never', '--help']);
}

export const COPY_COMMAND = ['cp', '-r', '--reflink=never'] as const;

function notBuilt(program: string): string | undefined {
  try {
    accessSync(join(TOP, program), constants.X_OK);
    return undefined;
  } catch {
    return `${program} is not built`;
  }
}

function withoutProgram(program: string, args: readonly string[]): string | undefined {
  const { error, status, stderr } = spawnSync(program, args, { encoding: 'utf8' });
  if (error) return `${program} is not installed`;
  return status === 0 ? undefined : `${program}: ${stderr.trim().split('\n')[0]}`;
}

function withoutNativeBlake3(): string | undefined {
  try {
    createRequire(import.meta.url)('@napi-rs/blake-hash');
    return undefined;
  } catch {
    return '@napi-rs/blake-hash does not load here';
  }
}

/** A directory for one benchmark run: programs by their names, homes, repositories. */
export class Arena {
  readonly dir: string;
  readonly #bin: string;
  readonly #storeDir: string | undefined;
  readonly #folders: string[] = [];
  #count = 0;

  constructor(dir: string, storeDir: string | undefined) {
    this.dir = dir;
    this.#storeDir = storeDir;
    this.#bin = join(dir, 'bin');
    chmodSync(join(TOP, NULL_FILTER_PROGRAM), 0o755);
    linkPrograms(this.#bin, {
      git2db: 'dist/bin/git2db.js',
      'git2db-filter': 'dist/bin/git2db-filter.js',
      'git2db-null-filter': NULL_FILTER_PROGRAM,
    });
  }

  /** A name that was not used before; what is there goes with `clear`. */
  folder(kind: string): string {
    const folder = join(this.dir, `${kind}-${++this.#count}`);
    this.#folders.push(folder);
    return folder;
  }

  /** Removes all that was made so far. */
  clear(): void {
    const stale = [...this.#folders.splice(0), ...(this.#storeDir === undefined ? [] : [this.#storeDir])];
    for (const folder of stale) rmSync(folder, { recursive: true, force: true });
  }

  /**
   * A fresh repository of `contender`: attributes committed, a branch `empty` that holds no data. The earlier ones
   * are removed, unless they are to be kept: ext4 looks for a free inode for up to a second where thousands
   * were freed in the last minute, which would be charged to the one that comes next.
   */
  repository(contender: Contender, { keep = false } = {}): Repository {
    if (!keep) this.clear();
    const folder = this.folder('repository');
    const home = this.folder('home');
    mkdirSync(home, { recursive: true });
    const env = { ...benchEnvironment(home, this.#bin), ...contender.env };
    const repository = new Repository(folder, env, contender, this.#storeDir);
    const settings = {
      ...contender.config,
      ...QUIET_GIT,
      ...(this.#storeDir !== undefined && { 'xet.store': this.#storeDir }),
    };
    for (const [key, value] of Object.entries(settings))
      this.#git(repository.env, this.dir, 'config', '--global', key, value);
    this.#git(repository.env, this.dir, 'init', '-q', '-b', 'main', folder);
    writeFileSync(join(folder, '.gitattributes'), contender.attributes);
    repository.git('add', '.gitattributes');
    repository.git('commit', '-q', '-m', 'start');
    repository.git('branch', 'empty');
    mkdirSync(join(folder, 'data'));
    return repository;
  }

  #git(env: NodeJS.ProcessEnv, cwd: string, ...args: string[]): void {
    run(['git', ...args], cwd, env);
  }
}

export class Repository {
  readonly folder: string;
  readonly env: NodeJS.ProcessEnv;
  readonly contender: Contender;
  /** Where contents are kept. */
  readonly contents: string;

  constructor(folder: string, env: NodeJS.ProcessEnv, contender: Contender, storeDir: string | undefined) {
    this.folder = folder;
    this.env = env;
    this.contender = contender;
    const ownStore = contender.contents === 'xet' ? storeDir : undefined;
    this.contents = ownStore ?? join(folder, '.git', contender.contents);
  }

  /** Runs git unmeasured; throws when it fails. */
  git(...args: string[]): string {
    return run(['git', ...args], this.folder, this.env);
  }

  /** Runs a command and flushes what it wrote, measured. */
  measure(
    command: readonly string[],
    options: Partial<Pick<RunOptions, 'stdin' | 'repeat' | 'cwd' | 'memoryAtHand'>> = {},
  ): Promise<Cost> {
    return measure(command, { cwd: this.folder, env: this.env, sync: this.folder, ...options });
  }

  /** Puts a file or a directory into the work tree, with old times: no index entry is racy. */
  place(source: string, path: string): void {
    const target = join(this.folder, path);
    rmSync(target, { recursive: true, force: true });
    cpSync(source, target, { recursive: true });
    this.age([path]);
  }

  #ages = 0;

  /** Gives files another old time than before: git must look at their content again. */
  age(paths: readonly string[]): void {
    const time = new Date(Date.UTC(2020, 0, 1) + 86_400_000 * this.#ages++);
    const files = run(['find', ...paths, '-type', 'f', '-print0'], this.folder, this.env);
    for (const file of files.split('\0').filter(Boolean)) utimesSync(join(this.folder, file), time, time);
  }
}
