/**
 * Which repositories use a store: one file per repository in `users/`, holding the absolute path of
 * its common git directory. gc keeps what any of them refers to. The store inside a repository's own
 * git directory needs no entry for that repository: it moves with it.
 */
import { createHash } from 'node:crypto';
import {
  lstatSync,
  mkdirSync,
  readdirSync,
  realpathSync,
  renameSync,
  statSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs';
import { dirname, isAbsolute, join } from 'node:path';
import { errnoOf, Git2dbError } from '../errors.ts';
import { readRegular } from '../regular-file.ts';
import type { StoreLayout } from './layout.ts';

export interface StoreUser {
  /** Name of the entry in `users/`, or undefined for the repository that the store lies in. */
  readonly entry: string | undefined;
  readonly commonDir: string;
}

/** Enters a repository. Throws the errno when the store cannot be written. */
export function registerUser(layout: StoreLayout, commonDir: string): void {
  if (layout.root === join(commonDir, 'xet') || ownerOf(layout) === commonDir) return;
  const path = join(layout.users, entryName(commonDir));
  const text = `${commonDir}\n`;
  // One that a crash has left empty or torn is written anew.
  const stat = statSync(path, { throwIfNoEntry: false });
  if (stat !== undefined && (!stat.isFile() || stat.size === Buffer.byteLength(text))) return;
  mkdirSync(layout.users, { recursive: true });
  const temporary = `${path}.${process.pid}.tmp`;
  writeFileSync(temporary, text);
  renameSync(temporary, path);
}

/** Removes a repository's entry. False if there was none. */
export function forgetUser(layout: StoreLayout, commonDir: string): boolean {
  try {
    unlinkSync(join(layout.users, entryName(commonDir)));
    return true;
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return false;
    throw error;
  }
}

/** Every repository known to use the store, the one it lies in first. Throws REFUSED for an entry that names none. */
export function listUsers(layout: StoreLayout): StoreUser[] {
  const users: StoreUser[] = [];
  const owner = ownerOf(layout);
  if (owner !== undefined) users.push({ entry: undefined, commonDir: owner });
  let names: string[];
  try {
    names = readdirSync(layout.users);
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return users;
    throw error;
  }
  for (const entry of names.sort()) {
    if (entry.endsWith('.tmp')) continue;
    const commonDir = readEntry(join(layout.users, entry));
    if (commonDir !== undefined) users.push({ entry, commonDir });
  }
  return users;
}

/** Undefined for one that was taken away meanwhile. */
function readEntry(path: string): string | undefined {
  let commonDir: string;
  try {
    commonDir = readRegular(path, 'REFUSED').toString('utf8').replace(/\n$/, '');
  } catch (error) {
    if (errnoOf(error) !== 'ENOENT') throw error;
    if (lstatSync(path, { throwIfNoEntry: false }) === undefined) return undefined;
    throw new Git2dbError('REFUSED', `${path} is a link to nothing: remove it`, { data: { path } });
  }
  if (isAbsolute(commonDir)) return commonDir;
  throw new Git2dbError(
    'REFUSED',
    `${path} should hold the path of a repository that uses the store, and holds ` +
      `${JSON.stringify(commonDir.slice(0, 200))}: remove it, and before the next gc use each repository of this store once ` +
      '("git status" after touching a large file is enough), so that it enters itself',
    { data: { path } },
  );
}

/** The common git directory that the store lies in as `xet`, if it does. */
export function ownerOf(layout: StoreLayout): string | undefined {
  try {
    const root = realpathSync(layout.root);
    const parent = dirname(root);
    return statSync(join(parent, 'HEAD')).isFile() && statSync(join(parent, 'objects')).isDirectory()
      ? parent
      : undefined;
  } catch {
    return undefined;
  }
}

function entryName(commonDir: string): string {
  return createHash('sha256').update(commonDir).digest('hex').slice(0, 40);
}
