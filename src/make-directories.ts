/**
 * A directory, and those above it that are missing. Node's own `recursive` tries for ever where a directory that
 * is there answers ENOENT: in procfs and sysfs, below an automounter, and in one that was removed.
 */
import { mkdirSync, statSync } from 'node:fs';
import { dirname } from 'node:path';
import { errnoOf } from './xet/errors.ts';

/** Does nothing where `path` is a directory already. `mode`: of all that are made, less the umask. */
export function makeDirectories(path: string, mode = 0o777): void {
  const above = dirname(path);
  const refused = makeOne(path, mode);
  if (refused === undefined) return;
  if (errnoOf(refused) !== 'ENOENT' || above === path) throw refused;
  makeDirectories(above, mode);
  const again = makeOne(path, mode);
  if (again !== undefined) throw again;
}

function makeOne(path: string, mode: number): unknown {
  try {
    mkdirSync(path, mode);
    return undefined;
  } catch (error) {
    return isDirectory(path) ? undefined : error;
  }
}

function isDirectory(path: string): boolean {
  try {
    return statSync(path).isDirectory();
  } catch {
    return false;
  }
}
