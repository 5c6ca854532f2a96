/**
 * Which repositories use a store: one file per repository in `users/`, holding the absolute path of
 * its common git directory. gc keeps what any of them refers to. The store inside a repository's own
 * git directory needs no entry for that repository: it moves with it.
 */
import { createHash } from 'node:crypto';
import {
  mkdirSync,
  readdirSync,
  realpathSync,
  renameSync,
  statSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { errnoOf } from '../errors.ts';
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
  if (statSync(path, { throwIfNoEntry: false }) !== undefined) return;
  mkdirSync(layout.users, { recursive: true });
  const temporary = `${path}.${process.pid}.tmp`;
  writeFileSync(temporary, `${commonDir}\n`);
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

/** Every repository known to use the store, the one it lies in first. */
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
    const commonDir = readRegular(join(layout.users, entry), 'REFUSED').toString('utf8').replace(/\n$/, '');
    users.push({ entry, commonDir });
  }
  return users;
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
