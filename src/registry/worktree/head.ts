/** HEAD of a worktree, from its files: it is looked at often, and a process each time would be slow. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { errnoOf } from '../../xet/errors.ts';
import type { GitPlace } from '../git-place.ts';

export interface Head {
  /** Full name; undefined: detached. */
  readonly branch: string | undefined;
  /** Commit id; undefined on a branch without commits. */
  readonly head: string | undefined;
}

const OID = /^([0-9a-f]{64}|[0-9a-f]{40})\s*$/;

export async function readHead(place: GitPlace, gitDir: string): Promise<Head> {
  const text = readText(join(gitDir, 'HEAD')) ?? '';
  const branch = /^ref:\s*(refs\/\S.*?)\s*$/.exec(text)?.[1];
  if (branch === undefined) {
    const oid = OID.exec(text)?.[1];
    return oid === undefined ? askGit(place, gitDir) : { branch: undefined, head: oid };
  }
  // A reftable says so in place of a branch.
  if (branch === 'refs/heads/.invalid') return askGit(place, gitDir);
  return { branch, head: readRef(place.commonDir, branch) ?? (await resolve(place, branch)) };
}

/** A ref by its loose file; undefined where it must be looked for elsewhere. */
export function readRef(commonDir: string, name: string): string | undefined {
  return OID.exec(readText(join(commonDir, name)) ?? '')?.[1];
}

async function resolve(place: GitPlace, ref: string): Promise<string | undefined> {
  const { stdout, status } = await place.git(['rev-parse', '--verify', '--quiet', '--end-of-options', ref], {
    env: { GIT_DIR: place.commonDir },
    okStatus: [0, 1],
  });
  return status === 0 ? OID.exec(stdout.toString())?.[1] : undefined;
}

async function askGit(place: GitPlace, gitDir: string): Promise<Head> {
  const env = { GIT_DIR: gitDir };
  const head = await place.git(['rev-parse', '--verify', '--quiet', 'HEAD'], { env, okStatus: [0, 1, 128] });
  const branch = await place.git(['symbolic-ref', '--quiet', 'HEAD'], { env, okStatus: [0, 1, 128] });
  return {
    branch: branch.status === 0 ? branch.stdout.toString().trim() : undefined,
    head: head.status === 0 ? head.stdout.toString().trim() : undefined,
  };
}

function readText(file: string): string | undefined {
  try {
    return readFileSync(file, 'utf8');
  } catch (error) {
    if (['ENOENT', 'ENOTDIR', 'EISDIR'].includes(errnoOf(error) ?? '')) return undefined;
    throw error;
  }
}
