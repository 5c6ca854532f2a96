/**
 * Modes of what we write into a repository that several users share, as git gives them to its own files
 * (core.sharedRepository in git-config(1)): the admin directory of a worktree, which git's commands of the
 * others must be able to change.
 */
import { chmodSync, lstatSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import type { Settings } from './settings.ts';

const SET_GID = 0o2000;

/** Permission bits that files get; `replaces` says whether instead of, or beside, what the umask left. */
interface Sharing {
  readonly bits: number;
  readonly replaces: boolean;
}

/** Undefined where each file keeps what the umask makes of it. */
function sharingOf(settings: Settings): Sharing | undefined {
  const value = settings.get('core.sharedrepository')?.toLowerCase();
  if (value === undefined || value === '') {
    return settings.isTrue('core.sharedrepository') ? { bits: 0o660, replaces: false } : undefined;
  }
  if (value === 'group') return { bits: 0o660, replaces: false };
  if (['all', 'world', 'everybody'].includes(value)) return { bits: 0o664, replaces: false };
  if (/^[0-7]+$/.test(value)) {
    const number = Number.parseInt(value, 8);
    // Small numbers are what git once wrote for the words.
    if (number === 0) return undefined;
    if (number === 1) return { bits: 0o660, replaces: false };
    if (number === 2) return { bits: 0o664, replaces: false };
    return { bits: number & 0o666, replaces: true };
  }
  return settings.isTrue('core.sharedrepository') ? { bits: 0o660, replaces: false } : undefined;
}

/** The admin directory `name` of a worktree, and what it lies in. */
export function shareAdmin(commonDir: string, name: string, settings: Settings): void {
  const sharing = sharingOf(settings);
  const worktrees = join(commonDir, 'worktrees');
  share(worktrees, sharing, false);
  share(join(worktrees, name), sharing);
}

/** Gives `path`, and unless told otherwise all below it, the modes of a shared repository. Only of what this user owns. */
function share(path: string, sharing: Sharing | undefined, recursive = true): void {
  if (sharing === undefined) return;
  const stat = lstatSync(path);
  if (stat.isSymbolicLink() || stat.uid !== process.geteuid?.()) return;
  const isDirectory = stat.isDirectory();
  const mode = sharedMode(stat.mode & 0o7777, isDirectory, sharing);
  if (mode !== (stat.mode & 0o7777)) chmodSync(path, mode);
  if (isDirectory && recursive) for (const name of readdirSync(path)) share(join(path, name), sharing);
}

function sharedMode(mode: number, isDirectory: boolean, { bits, replaces }: Sharing): number {
  let wanted = bits;
  // Whoever cannot write, or execute, himself gives that to nobody.
  if ((mode & 0o200) === 0) wanted &= ~0o222;
  if (isDirectory || (mode & 0o100) !== 0) wanted |= (wanted & 0o444) >> 2;
  const next = replaces ? (mode & ~0o777) | wanted : mode | wanted;
  // New files of everybody belong to the group of the directory.
  return isDirectory ? next | SET_GID : next;
}
