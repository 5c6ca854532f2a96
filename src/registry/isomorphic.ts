/**
 * The one door to isomorphic-git, which reads objects and refs in this process. It knows no filters, hooks
 * or linked worktrees as git does, so nothing is ever written through it: its file system refuses that.
 */
import * as fs from 'node:fs';
import type { GitArg } from '../git/byte-words.ts';
import type { GitResult } from '../git/runner.ts';
import { Git2dbError } from '../xet/errors.ts';
import type { GitPlace, PlaceRun } from './git-place.ts';

/** What isomorphic-git's functions take (`git.log({ ...opened })`), and the paths and git for all it cannot do. */
export interface OpenRepository {
  /** Reads only. A call that would write fails with EROFS. */
  readonly fs: ReadOnlyFs;
  /** The work tree; the git directory of a bare repository. */
  readonly dir: string;
  /** Where isomorphic-git finds HEAD, refs and objects. */
  readonly gitdir: string;
  /** Its memory of packs and the index, for as long as this object lives. */
  readonly cache: object;
  readonly gitDir: string;
  readonly commonDir: string;
  readonly workTree: string | undefined;
  git(args: readonly GitArg[], options?: PlaceRun): Promise<GitResult>;
  /** isomorphic-git itself, loaded when this is first called. */
  load(): Promise<typeof import('isomorphic-git')>;
}

export type ReadOnlyFs = { readonly promises: Record<string, unknown> };

const READS = ['readFile', 'readdir', 'stat', 'lstat', 'readlink', 'access'] as const;
const WRITES = [
  'writeFile',
  'unlink',
  'mkdir',
  'rmdir',
  'symlink',
  'chmod',
  'rm',
  'rename',
  'truncate',
  'appendFile',
  'utimes',
];

export async function openRepository(place: GitPlace): Promise<OpenRepository> {
  if (!place.reachable) {
    throw new Git2dbError(
      'NOT_REACHABLE',
      `the files of ${place.workTree ?? place.gitDir} are seen only inside its user namespace: use the handle's operations, which run there`,
      { data: { workTree: place.workTree } },
    );
  }
  return {
    fs: readOnlyFs(place),
    dir: place.workTree ?? place.gitDir,
    // It looks for refs and objects beside HEAD, which a linked worktree has in the common directory.
    gitdir: place.gitDir,
    cache: {},
    gitDir: place.gitDir,
    commonDir: place.commonDir,
    workTree: place.workTree,
    git: (args, options) => place.git(args, options),
    load: async () => {
      await requireReadable(place);
      const loaded = await import('isomorphic-git');
      return 'default' in loaded && 'log' in (loaded.default as object)
        ? (loaded.default as typeof loaded)
        : loaded;
    },
  };
}

/** A file system in which a linked worktree's git directory also holds what all worktrees share. */
function readOnlyFs({ gitDir, commonDir }: GitPlace): ReadOnlyFs {
  const own =
    /^(?:HEAD|ORIG_HEAD|FETCH_HEAD|MERGE_HEAD|CHERRY_PICK_HEAD|REVERT_HEAD|index|logs\/HEAD|refs\/(?:worktree|bisect|rewritten)(?:\/.*)?)$/;
  const prefix = `${gitDir}/`;
  const placed = (path: unknown): unknown => {
    if (gitDir === commonDir || typeof path !== 'string' || !path.startsWith(prefix)) return path;
    const rest = path.slice(prefix.length);
    return own.test(rest) ? path : `${commonDir}/${rest}`;
  };
  const promises: Record<string, unknown> = {};
  for (const name of READS) {
    const read = fs.promises[name] as (path: unknown, ...rest: unknown[]) => Promise<unknown>;
    promises[name] = (path: unknown, ...rest: unknown[]) => read(placed(path), ...rest);
  }
  for (const name of WRITES) {
    promises[name] = (path: unknown) =>
      Promise.reject(
        Object.assign(
          new Error(
            `EROFS: ${name} of ${String(path)}: repositories are written by git alone, not by isomorphic-git`,
          ),
          {
            code: 'EROFS',
          },
        ),
      );
  }
  return { promises };
}

/** Of object ids with 64 digits, and of refs in tables, isomorphic-git knows nothing. */
async function requireReadable(place: GitPlace): Promise<void> {
  const unsupported = fs.existsSync(`${place.commonDir}/reftable`)
    ? 'refs in tables (reftable)'
    : (await place.text(['rev-parse', '--show-object-format'])) === 'sha256'
      ? 'SHA-256 object ids'
      : undefined;
  if (unsupported === undefined) return;
  throw new Git2dbError(
    'REFUSED',
    `${place.commonDir} has ${unsupported}, which isomorphic-git cannot read: use git(args), or the handle's objects`,
  );
}
