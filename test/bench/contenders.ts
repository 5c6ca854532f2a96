/** The ways of keeping large files in git that are compared, and a place for each to do it in. */
import { spawnSync } from 'node:child_process';
import {
  accessSync,
  chmodSync,
  constants,
  cpSync,
  mkdirSync,
  rmSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { type Cost, measure, type RunOptions } from './measure.ts';
import { LFS, NULL_FILTER, OURS, OURS_WASM, PLAIN } from './targets.ts';

export interface Contender {
  readonly name: string;
  /** Lines of `.gitattributes`, and of the user's git configuration. */
  readonly attributes: string;
  readonly config: readonly (readonly [key: string, value: string])[];
  readonly env: Readonly<Record<string, string>>;
  /** Where contents go, below the git directory. */
  readonly contents: string;
  /** The null filter gives back other bytes than it got. */
  readonly faithful: boolean;
  /** Why it cannot run here. */
  readonly missing: string | undefined;
}

const BENCH = dirname(fileURLToPath(import.meta.url));
/** build/test/bench -> the top of the source tree. */
const TOP = dirname(dirname(dirname(BENCH)));

const ATTRIBUTES = (filter: string) => `data/** filter=${filter} -text\n`;
const FILTER = (name: string, command: string) =>
  [
    [`filter.${name}.process`, command],
    [`filter.${name}.required`, 'true'],
  ] as const;

export function listContenders(): Contender[] {
  const unbuilt = ['git2db.js', 'git2db-filter.js']
    .map((name) => notBuilt(join('dist/bin', name)))
    .find(Boolean);
  const ours = {
    attributes: ATTRIBUTES('xet'),
    config: FILTER('xet', 'git2db-filter'),
    contents: 'xet',
    faithful: true,
  };
  return [
    { ...ours, name: OURS, env: { GIT2DB_BLAKE3: 'native' }, missing: unbuilt ?? withoutNativeBlake3() },
    {
      name: NULL_FILTER,
      attributes: ATTRIBUTES('null'),
      config: FILTER('null', 'git2db-null-filter'),
      env: {},
      contents: 'objects',
      faithful: false,
      missing: undefined,
    },
    { ...ours, name: OURS_WASM, env: { GIT2DB_BLAKE3: 'wasm' }, missing: unbuilt },
    {
      name: LFS,
      attributes: 'data/** filter=lfs diff=lfs merge=lfs -text\n',
      config: [
        ...FILTER('lfs', 'git-lfs filter-process'),
        ['filter.lfs.clean', 'git-lfs clean -- %f'],
        ['filter.lfs.smudge', 'git-lfs smudge -- %f'],
      ],
      env: {},
      contents: 'lfs',
      faithful: true,
      missing: withoutProgram('git-lfs', ['version']),
    },
    {
      name: PLAIN,
      attributes: '',
      config: [],
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
    mkdirSync(this.#bin, { recursive: true });
    const nullFilter = join(BENCH, 'null-filter.js');
    chmodSync(nullFilter, 0o755);
    const programs = {
      git2db: join(TOP, 'dist/bin/git2db.js'),
      'git2db-filter': join(TOP, 'dist/bin/git2db-filter.js'),
      'git2db-null-filter': nullFilter,
    };
    for (const [name, target] of Object.entries(programs)) {
      rmSync(join(this.#bin, name), { force: true });
      symlinkSync(target, join(this.#bin, name));
    }
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
    const repository = new Repository(folder, this.#environment(home, contender), contender, this.#storeDir);
    const settings = [
      ...contender.config,
      ['gc.auto', '0'],
      ['advice.detachedHead', 'false'],
      ...(this.#storeDir === undefined ? [] : [['xet.store', this.#storeDir]]),
    ] as const;
    for (const [key, value] of settings)
      this.#git(repository.env, this.dir, 'config', '--global', key!, value!);
    this.#git(repository.env, this.dir, 'init', '-q', '-b', 'main', folder);
    writeFileSync(join(folder, '.gitattributes'), contender.attributes);
    repository.git('add', '.gitattributes');
    repository.git('commit', '-q', '-m', 'start');
    repository.git('branch', 'empty');
    mkdirSync(join(folder, 'data'));
    return repository;
  }

  #git(env: NodeJS.ProcessEnv, cwd: string, ...args: string[]): void {
    runQuietly('git', args, { cwd, env });
  }

  #environment(home: string, contender: Contender): NodeJS.ProcessEnv {
    const inherited = Object.entries(process.env).filter(([name]) => !/^(GIT|XET|XDG)/.test(name));
    return {
      ...Object.fromEntries(inherited),
      ...contender.env,
      HOME: home,
      PATH: `${this.#bin}:${process.env.PATH}`,
      LC_ALL: 'C',
      GIT_CONFIG_NOSYSTEM: '1',
      GIT_TERMINAL_PROMPT: '0',
      GIT_AUTHOR_NAME: 'bench',
      GIT_AUTHOR_EMAIL: 'bench@example.org',
      GIT_COMMITTER_NAME: 'bench',
      GIT_COMMITTER_EMAIL: 'bench@example.org',
    };
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
    return runQuietly('git', args, { cwd: this.folder, env: this.env });
  }

  /** Runs a command and flushes what it wrote, measured. */
  measure(
    command: readonly string[],
    options: Partial<Pick<RunOptions, 'stdin' | 'repeat' | 'cwd'>> = {},
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
    const files = runQuietly('find', [...paths, '-type', 'f', '-print0'], {
      cwd: this.folder,
      env: this.env,
    });
    for (const file of files.split('\0').filter(Boolean)) utimesSync(join(this.folder, file), time, time);
  }
}

function runQuietly(
  program: string,
  args: readonly string[],
  options: { cwd: string; env: NodeJS.ProcessEnv },
): string {
  const { status, stdout, stderr, error } = spawnSync(program, args, {
    ...options,
    encoding: 'utf8',
    maxBuffer: 2 ** 28,
  });
  if (error) throw error;
  if (status !== 0) throw new Error(`${program} ${args.slice(0, 4).join(' ')}: ${stderr.trim()}`);
  return stdout;
}
