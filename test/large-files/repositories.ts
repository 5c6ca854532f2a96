/** Real repositories with large files: git, the filter and the command line, as a user has them. */
import {
  chmodSync,
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { ExecutionContext } from 'ava';
import { createSandbox, type RunOptions, type RunResult, type Sandbox } from '../helpers/git-sandbox.ts';

const PROGRAMS = fileURLToPath(new URL('../../../dist/bin/', import.meta.url));
const LOGGED_FILTER = 'git2db-filter-logged';

export interface LargeFileSandbox extends Sandbox {
  /** An empty repository in the directory `name` whose `*.bin` files are large. */
  init(name: string, ...initArgs: readonly string[]): Promise<void>;
  /** Adds and commits everything. */
  commitAll(name: string): Promise<void>;
  /** A clone whose large files are pointers. */
  clonePointers(from: string, to: string, ...cloneArgs: readonly string[]): Promise<void>;
  /** `git2db xet ...` in the directory `cwd`. */
  xet(cwd: string, args: readonly string[], options?: RunOptions): Promise<RunResult>;
  /** How often git has started the filter since the last call. */
  filterStarts(): number;
}

export function createLargeFileSandbox(
  t: ExecutionContext,
  config: Readonly<Record<string, string>> = {},
): LargeFileSandbox {
  const own = mkdtempSync(join(tmpdir(), 'git2db-large-'));
  t.teardown(() => rmSync(own, { recursive: true, force: true }));
  const log = join(own, 'filter-starts');
  const bin = programDirectory(join(own, 'bin'));
  const sandbox = createSandbox(t, {
    path: [bin],
    env: { FILTER_LOG: log },
    config: { 'filter.xet.process': LOGGED_FILTER, 'filter.xet.required': 'true', ...config },
  });
  return {
    ...sandbox,
    async init(name, ...initArgs) {
      await sandbox.git(['init', '-q', ...initArgs, name]);
      sandbox.write(`${name}/.gitattributes`, '*.bin filter=xet diff=xet merge=binary -text\n');
    },
    async commitAll(name) {
      await sandbox.git(['add', '.'], { cwd: name });
      await sandbox.git(['commit', '-q', '-m', 'content'], { cwd: name });
    },
    async clonePointers(from, to, ...cloneArgs) {
      await sandbox.git(['clone', '-q', ...cloneArgs, from, to], { env: { GIT2DB_SKIP_SMUDGE: '1' } });
      // Git looks inside what was written in the second of its index: a fast machine comes to the end of a
      // test within that second, and the filter starts for files that nobody has touched.
      const before = new Date(Date.now() - 10_000);
      const listed = await sandbox.gitText(['ls-files', '-z'], { cwd: to });
      for (const path of listed.split('\0')) {
        const file = sandbox.path(to, path);
        if (path !== '' && lstatSync(file, { throwIfNoEntry: false })?.isFile())
          utimesSync(file, before, before);
      }
      await sandbox.git(['update-index', '-q', '--refresh'], { cwd: to });
    },
    xet: (cwd, args, options) => sandbox.run('git2db', ['xet', ...args], { cwd, ...options }),
    filterStarts() {
      const starts = existsSync(log) ? readFileSync(log, 'utf8').split('\n').length - 1 : 0;
      rmSync(log, { force: true });
      return starts;
    },
  };
}

/** A directory for PATH: the programs, and a filter that notes each of its starts in $FILTER_LOG. */
function programDirectory(directory: string): string {
  mkdirSync(directory);
  for (const name of ['git2db', 'git2db-filter'])
    symlinkSync(join(PROGRAMS, `${name}.js`), join(directory, name));
  writeFileSync(
    join(directory, LOGGED_FILTER),
    '#!/bin/sh\necho started >>"$FILTER_LOG"\nexec git2db-filter "$@"\n',
  );
  chmodSync(join(directory, LOGGED_FILTER), 0o755);
  return directory;
}

/** Bytes that do not compress and are the same for the same seed. */
export function noise(size: number, seed: number): Buffer {
  const bytes = Buffer.alloc(size);
  let state = (seed * 2654435761 + 1) >>> 0;
  for (let i = 0; i + 4 <= size; i += 4) {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    bytes.writeInt32LE(state | 0, i);
  }
  return bytes;
}

/** Files of ours below a work tree that should not be there any more, and our notes in its git directory. */
export function litter(workTree: string, gitDir = join(workTree, '.git')): string[] {
  const found: string[] = existsSync(join(gitDir, 'git2db-pull')) ? ['git2db-pull'] : [];
  for (const name of readdirSync(workTree, { recursive: true, encoding: 'latin1' })) {
    if (/(^|\/)\.git2db-/.test(name)) found.push(name);
  }
  return found;
}
