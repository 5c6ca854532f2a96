/**
 * The directory a worktree is mounted on, while nothing is mounted: not writable, and with a `.git` file
 * that leads nowhere. So git fails there, rather than work on a repository further up, and programs that
 * write by themselves fail too (but for root's).
 */
import {
  closeSync,
  constants,
  fchmodSync,
  lstatSync,
  openSync,
  readdirSync,
  readFileSync,
  rmdirSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { UNMOUNTED_GUARD } from '../../git/repository.ts';
import { makeDirectories } from '../../make-directories.ts';
import { errnoOf } from '../../xet/errors.ts';

const GUARDED_MODE = 0o500;
const OPEN_MODE = 0o700;

/** Puts the guard up, and keeps the directory open for writing until `close` of what it returns. */
export function openGuarded(path: string, id: string): { close(): void } {
  makeDirectories(path);
  const fd = openSync(path, constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW);
  try {
    fchmodSync(fd, OPEN_MODE);
    const file = join(path, '.git');
    if (lstatSync(file, { throwIfNoEntry: false }) === undefined) {
      writeFileSync(file, `gitdir: /nonexistent/${UNMOUNTED_GUARD}/${id}\n`, { mode: 0o444, flag: 'wx' });
    }
  } catch (error) {
    closeSync(fd);
    throw error;
  }
  return {
    /** Of the directory itself, which by now a mount may cover. */
    close() {
      try {
        fchmodSync(fd, GUARDED_MODE);
      } finally {
        closeSync(fd);
      }
    },
  };
}

/** Takes the guard down, and `made` directories away as far as they are empty. Nothing may be mounted. */
export function removeGuard(path: string, made: readonly string[]): void {
  const file = join(path, '.git');
  if (isGuard(file)) {
    const fd = openSync(path, constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW);
    try {
      fchmodSync(fd, made.includes(path) ? OPEN_MODE : 0o755);
      rmSync(file);
    } finally {
      closeSync(fd);
    }
  }
  removeMadeDirectories(made);
}

/** Those that are empty, the innermost first. */
export function removeMadeDirectories(made: readonly string[]): void {
  for (const directory of [...made].reverse()) {
    try {
      rmdirSync(directory);
    } catch (error) {
      if (!['ENOENT', 'ENOTEMPTY', 'EEXIST', 'EBUSY', 'ENOTDIR'].includes(errnoOf(error) ?? '')) throw error;
      if (errnoOf(error) !== 'ENOENT') return;
    }
  }
}

export function isGuard(file: string): boolean {
  try {
    return lstatSync(file).isFile() && readFileSync(file, 'latin1').includes(UNMOUNTED_GUARD);
  } catch {
    return false;
  }
}

/** What a mount on `path` would hide; nothing where there is but the guard. Nothing is mounted there. */
export function strangersAt(path: string): string[] {
  const stat = lstatSync(path, { throwIfNoEntry: false });
  if (stat === undefined) return [];
  if (!stat.isDirectory()) return [path];
  return readdirSync(path).filter((name) => name !== '.git' || !isGuard(join(path, name)));
}

/** The directories that `mkdir -p` would make for `path`, the outermost first. */
export function missingDirectories(path: string): string[] {
  const missing: string[] = [];
  for (let at = path; lstatSync(at, { throwIfNoEntry: false }) === undefined; at = dirname(at))
    missing.unshift(at);
  return missing;
}

/** Nothing there, or an empty directory. */
export function isVacant(path: string): boolean {
  const stat = lstatSync(path, { throwIfNoEntry: false });
  if (stat === undefined) return true;
  return stat.isDirectory() && readdirSync(path).length === 0;
}
