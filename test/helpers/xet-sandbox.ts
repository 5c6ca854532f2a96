/**
 * A sandbox in which git has the real filter: the programs that the build made, found on PATH as an
 * installation would have them. The driver's single-file commands are `false`, so that no fallback can
 * hide a filter process that died.
 */

import { createCipheriv } from 'node:crypto';
import {
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  realpathSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { ExecutionContext } from 'ava';
import { FilterClient } from './filter-client.ts';
import {
  createSandbox,
  type RunOptions,
  type RunResult,
  type Sandbox,
  type SandboxOptions,
} from './git-sandbox.ts';

/** build/test/helpers/ -> the package. */
const PACKAGE = fileURLToPath(new URL('../../../', import.meta.url));

/** What `git2db xet track` writes for a pattern. */
export const TRACKED = 'filter=xet diff=xet merge=binary -text';

/** As git hands it over, from the configuration. */
const DRIVER: Readonly<Record<string, string>> = {
  'filter.xet.process': 'git2db-filter',
  'filter.xet.required': 'true',
  'filter.xet.clean': 'false',
  'filter.xet.smudge': 'false',
};

export interface XetSandbox extends Sandbox {
  /** Command that starts the filter without git. */
  readonly filter: readonly [string];
  /**
   * `git init` in `dir`/`name`, with every `*.bin` tracked and that committed. `attributes` replaces the
   * content of .gitattributes.
   */
  repository(name?: string, attributes?: string): Promise<XetRepository>;
  /** A repository that is there already: a clone, a worktree. */
  at(path: string): Promise<XetRepository>;
}

export interface XetRepository {
  /** Top of the work tree, absolute. */
  readonly dir: string;
  /** The store this repository uses unless configured otherwise. */
  readonly store: string;
  path(...parts: string[]): string;
  write(rel: string, bytes: Uint8Array | string): void;
  git(args: readonly string[], options?: RunOptions): Promise<RunResult>;
  /** stdout of git without its last newline. */
  text(args: readonly string[], options?: RunOptions): Promise<string>;
  /** `git add -A` and a commit. */
  commit(message: string): Promise<void>;
}

/** Makes a sandbox with the filter installed for everything in it. Removed when the test ends. */
export function createXetSandbox(t: ExecutionContext, options: SandboxOptions = {}): XetSandbox {
  const bin = realpathSync(mkdtempSync(join(tmpdir(), 'git2db-bin-')));
  t.teardown(() => rm(bin, { recursive: true, force: true }));
  for (const name of ['git2db', 'git2db-filter']) {
    const program = join(PACKAGE, 'dist', 'bin', `${name}.js`);
    if (!lstatSync(program).isFile()) throw new Error(`${program} is missing: run the build`);
    symlinkSync(program, join(bin, name));
  }
  const sandbox = createSandbox(t, {
    ...options,
    path: [...(options.path ?? []), bin],
    config: { ...DRIVER, ...options.config },
  });

  async function at(path: string): Promise<XetRepository> {
    const dir = realpathSync(path);
    const common = await sandbox.gitText(['rev-parse', '--path-format=absolute', '--git-common-dir'], {
      cwd: dir,
    });
    const git = (args: readonly string[], run: RunOptions = {}) => sandbox.git(args, { cwd: dir, ...run });
    return {
      dir,
      store: join(common, 'xet'),
      path: (...parts) => join(dir, ...parts),
      write: (rel, bytes) => writeFileSync(join(dir, rel), bytes),
      git,
      text: async (args, run) => (await git(args, run)).stdout.replace(/\n$/, ''),
      commit: async (message) => {
        await git(['add', '-A']);
        await git(['commit', '-q', '-m', message]);
      },
    };
  }

  return {
    ...sandbox,
    filter: [join(bin, 'git2db-filter')],
    at,
    async repository(name = 'repository', attributes = `*.bin ${TRACKED}\n`) {
      await sandbox.git(['init', '-q', name]);
      const repository = await at(sandbox.path(name));
      repository.write('.gitattributes', attributes);
      await repository.commit('attributes');
      return repository;
    },
  };
}

/** `size` bytes that look random to a compressor, the same for the same seed. */
export function randomBytes(seed: number, size: number): Buffer {
  const key = Buffer.alloc(16);
  key.writeDoubleLE(seed);
  return createCipheriv('aes-128-ctr', key, Buffer.alloc(16)).update(Buffer.alloc(size));
}

/** The pointer of some content, as far as it shows: what git must have stored. */
export const POINTER = /^\{"version":"1\.0","filesize":\d+,"hash":"[0-9a-f]{64}"\}\n$/;

/** Every file under `directory` with its size, by its path from there; empty if there is no such directory. */
export function filesUnder(directory: string): Map<string, number> {
  let entries: { parentPath: string; name: string; isFile(): boolean }[];
  try {
    entries = readdirSync(directory, { recursive: true, withFileTypes: true });
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return new Map();
    throw error;
  }
  const files = entries
    .filter((entry) => entry.isFile())
    .map(({ parentPath, name }) => join(parentPath, name));
  const sizes = new Map<string, number>();
  for (const path of files.sort()) {
    // A process that is at work may have taken it away since it was listed.
    const stats = statSync(path, { throwIfNoEntry: false });
    if (stats !== undefined) sizes.set(path.slice(directory.length + 1), stats.size);
  }
  return sizes;
}

/** What a store consists of, but for the names of its users: one line a file, `<path> <size>`. */
export function storeFiles(store: string): string[] {
  return [...filesUnder(store)]
    .filter(([path]) => !path.startsWith('users/'))
    .map(([path, size]) => `${path} ${size}`);
}

/** Apparent size of a whole store. */
export function storeSize(store: string): number {
  return [...filesUnder(store).values()].reduce((sum, size) => sum + size, 0);
}

/** Paths and what they hold. A path of bytes that are no UTF-8 is a Buffer, so this is no object. */
export type Tree = readonly (readonly [path: string | Buffer, content: Uint8Array | string])[];

/** Writes a tree below the work tree, directories included. */
export function writeTree(repository: XetRepository, tree: Tree): void {
  for (const [path, content] of tree) {
    const full = below(repository.dir, path);
    mkdirSync(full.subarray(0, full.lastIndexOf('/')), { recursive: true });
    writeFileSync(full, content);
  }
}

/**
 * The end of every scenario: git sees nothing modified, its objects are sound, the files of `tree` are
 * what they should be, and no writer has left anything behind.
 */
export async function assertClean(
  t: ExecutionContext,
  repository: XetRepository,
  tree: Tree = [],
): Promise<void> {
  t.is(await repository.text(['status', '--porcelain']), '', 'git status');
  for (const [path, content] of tree) {
    t.true(readFileSync(below(repository.dir, path)).equals(Buffer.from(content)), `content of ${path}`);
  }
  const fsck = await repository.git(['fsck', '--no-dangling', '--no-progress']);
  t.is(fsck.stdout + fsck.stderr, '', 'git fsck');
  assertNothingIncoming(t, repository.store);
}

export function assertNothingIncoming(t: ExecutionContext, store: string): void {
  t.deepEqual(existsSync(store) ? readdirSync(join(store, 'incoming')) : [], [], 'incoming/');
}

function below(directory: string, path: string | Buffer): Buffer {
  return Buffer.concat([Buffer.from(`${directory}/`), Buffer.from(path as string)]);
}

/** A filter process in the repository, with nobody's git above it. */
export function startFilter(
  t: ExecutionContext,
  { filter, env }: XetSandbox,
  { dir }: XetRepository,
): Promise<FilterClient> {
  return FilterClient.start(t, filter, { cwd: dir, env: { ...env } });
}

/** The pointers of contents, all cleaned by one filter, which must have nothing to say. */
export async function cleanAll(
  t: ExecutionContext,
  sandbox: XetSandbox,
  repository: XetRepository,
  contents: readonly Buffer[],
): Promise<string[]> {
  const client = await startFilter(t, sandbox, repository);
  const pointers: string[] = [];
  for (const content of contents) pointers.push((await client.clean('x', content)).content.toString());
  t.like(await client.end(), { code: 0, stderr: '' });
  assertNothingIncoming(t, repository.store);
  return pointers;
}

/** The contents of pointers, as `cleanAll`. */
export async function smudgeAll(
  t: ExecutionContext,
  sandbox: XetSandbox,
  repository: XetRepository,
  pointers: readonly string[],
): Promise<Buffer[]> {
  const client = await startFilter(t, sandbox, repository);
  const contents: Buffer[] = [];
  for (const pointer of pointers) contents.push((await client.smudge('x', pointer)).content);
  t.like(await client.end(), { code: 0, stderr: '' });
  return contents;
}

/** `t.deepEqual` for contents, which looks at every byte of a Buffer in its own, slow way. */
export function assertSame(t: ExecutionContext, found: readonly Buffer[], expected: readonly Buffer[]): void {
  t.is(found.length, expected.length);
  for (const [i, bytes] of found.entries()) t.true(bytes.equals(expected[i]!), `content ${i}`);
}
