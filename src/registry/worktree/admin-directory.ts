/**
 * The directory that a linked worktree has in its repository, in git's own format
 * (gitrepository-layout, git-worktree(1)):
 *
 *     <common dir>/worktrees/<name>/
 *         locked              why `git worktree prune` must leave it alone
 *         gitdir              path of the worktree's .git file
 *         commondir           ../..
 *         HEAD  ORIG_HEAD     a branch, or a commit; the commit it began with
 *         index               of the layer
 *         logs/HEAD           its first line
 *         refs/worktree/git2db/base
 */
import {
  constants,
  copyFileSync,
  existsSync,
  mkdirSync,
  readFileSync,
  rmdirSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { errnoOf, Git2dbError } from '../../xet/errors.ts';
import type { CheckoutTarget, DriverName } from './driver.ts';
import { removeTree } from './remove-tree.ts';

export interface AdminRequest {
  readonly commonDir: string;
  readonly path: string;
  readonly target: CheckoutTarget;
  readonly driver: DriverName;
  /** `Name <email> seconds zone`, for the reflog. */
  readonly identity: string;
  /** The user's own, if he has locked it. */
  readonly lockReason?: string | undefined;
}

const OVERLAY_REASON = 'its files are on an overlay mount of git2db; git2db worktree remove ends it';
const BASE_REF = 'refs/worktree/git2db/base';
const ATTEMPTS = 1000;

/** Makes it, all but the index, under a name derived from the path's last part. Returns the name. */
export function makeAdmin(request: AdminRequest, onName: (name: string) => void): string {
  const { commonDir, path, target, driver } = request;
  const worktrees = join(commonDir, 'worktrees');
  mkdirSync(worktrees, { recursive: true });
  const name = claimName(worktrees, path);
  onName(name);
  const directory = join(worktrees, name);
  // First of all, or a `git worktree prune` that runs just now would take it for a leftover.
  writeFileSync(join(directory, 'locked'), `${request.lockReason ?? 'being made by git2db'}\n`);
  writeFileSync(join(directory, 'gitdir'), `${path}/.git\n`);
  writeFileSync(join(directory, 'commondir'), '../..\n');
  const { branch, commit } = target;
  writeFileSync(join(directory, 'HEAD'), branch === undefined ? `${commit}\n` : `ref: ${branch}\n`);
  writeFileSync(join(directory, 'ORIG_HEAD'), `${commit}\n`);
  mkdirSync(join(directory, 'logs'));
  const line = `${'0'.repeat(commit.length)} ${commit} ${request.identity}\tgit2db: worktree made\n`;
  writeFileSync(join(directory, 'logs', 'HEAD'), line);
  mkdirSync(join(directory, 'refs'));
  if (driver === 'overlay2') writeBase(directory, commit);
  return name;
}

/** Once everything is in place: locked for its life, or not any more. */
export function finishAdmin(directory: string, driver: DriverName, lockReason: string | undefined): void {
  if (lockReason !== undefined) lockAdmin(directory, driver, lockReason);
  else unlockAdmin(directory, driver);
}

/** The user's reason. An overlay's stays locked in any case. */
export function lockAdmin(directory: string, _driver: DriverName, reason: string): void {
  writeFileSync(join(directory, 'locked'), `${reason}\n`);
}

export function unlockAdmin(directory: string, driver: DriverName): void {
  const file = join(directory, 'locked');
  if (driver === 'overlay2') writeFileSync(file, `${OVERLAY_REASON}\n`);
  else rmSync(file, { force: true });
}

/** The reason of a lock that a person has made; undefined: there is none. */
export function lockReasonOf(directory: string): string | undefined {
  const reason = readText(join(directory, 'locked'))?.trim();
  return reason === OVERLAY_REASON ? undefined : reason;
}

/** Made by the driver overlay2, whatever home has its record. */
export function isOverlayAdmin(directory: string): boolean {
  return existsSync(join(directory, 'refs', 'worktree', 'git2db', 'base'));
}

export function copyIndex(from: string, directory: string): void {
  copyFileSync(from, join(directory, 'index'), constants.COPYFILE_FICLONE);
}

/** Names the commit of the layer, for whoever looks at the worktree with git. */
function writeBase(directory: string, commit: string): void {
  const file = join(directory, ...BASE_REF.split('/'));
  mkdirSync(join(file, '..'), { recursive: true });
  writeFileSync(file, `${commit}\n`);
}

/** Whether `<common dir>/worktrees/<name>` is there and belongs to the worktree at `path`. */
export function isAdminOf(commonDir: string, name: string, path: string): boolean {
  return readText(join(commonDir, 'worktrees', name, 'gitdir'))?.trim() === `${path}/.git`;
}

/** Does nothing where it is gone, or where git has given the name to another worktree since. */
export async function removeAdmin(commonDir: string, name: string, path: string): Promise<void> {
  const worktrees = join(commonDir, 'worktrees');
  const directory = join(worktrees, name);
  const isHalfMade = existsSync(directory) && !existsSync(join(directory, 'gitdir'));
  if (!isHalfMade && !isAdminOf(commonDir, name, path)) return;
  await removeTree(directory);
  removeIfEmpty(commonDir);
}

/** As git does with the last worktree. */
export function removeIfEmpty(commonDir: string): void {
  try {
    rmdirSync(join(commonDir, 'worktrees'));
  } catch (error) {
    if (!['ENOTEMPTY', 'EEXIST', 'ENOENT'].includes(errnoOf(error) ?? '')) throw error;
  }
}

/** Makes the directory: its name is taken as soon as it is there. */
function claimName(worktrees: string, path: string): string {
  const base = adminName(path);
  for (let i = 0; i < ATTEMPTS; i++) {
    const name = i === 0 ? base : `${base}${i}`;
    try {
      mkdirSync(join(worktrees, name));
      return name;
    } catch (error) {
      if (errnoOf(error) !== 'EEXIST') throw error;
    }
  }
  throw new Git2dbError(
    'WORKTREE_EXISTS',
    `${worktrees} has ${ATTEMPTS} worktrees named like ${JSON.stringify(base)}: remove those that are not needed`,
  );
}

/** A name that may stand in a ref, as git makes one of the last part of the path. */
export function adminName(path: string): string {
  const last = path.slice(path.lastIndexOf('/') + 1);
  const name = last
    .replace(/[^A-Za-z0-9._+-]+/g, '-')
    .replace(/\.\.+/g, '.')
    .replace(/^[.+-]+|\.+$/g, '')
    .replace(/\.lock$/, '-lock');
  return name === '' ? 'worktree' : name.slice(0, 200);
}

function readText(file: string): string | undefined {
  try {
    return readFileSync(file, 'utf8');
  } catch (error) {
    if (['ENOENT', 'ENOTDIR'].includes(errnoOf(error) ?? '')) return undefined;
    throw error;
  }
}
