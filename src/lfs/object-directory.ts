/** What git-lfs keeps in its `lfs/objects`: each content as a file, `ab/cd/<SHA-256>`. */
import { type Dirent, readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { errnoOf } from '../xet/errors.ts';
import type { LfsObject } from './objects.ts';

export interface StoredLfsObject extends LfsObject {
  readonly path: string;
}

/** Regular files `ab/cd/<SHA-256>`, and nothing else that may lie there. None is read. */
export function lfsObjectsIn(directory: string): StoredLfsObject[] {
  const found: StoredLfsObject[] = [];
  for (const first of entriesIn(directory)) {
    for (const second of entriesIn(join(directory, first.name))) {
      for (const entry of entriesIn(join(directory, first.name, second.name))) {
        const { name: sha256 } = entry;
        const isObject = /^[0-9a-f]{64}$/.test(sha256) && sha256.startsWith(`${first.name}${second.name}`);
        if (!isObject || !entry.isFile()) continue;
        const path = join(directory, first.name, second.name, sha256);
        found.push({ sha256, size: statSync(path).size, path });
      }
    }
  }
  return found;
}

/** None where there is no such directory. */
export function entriesIn(directory: string): Dirent[] {
  try {
    return readdirSync(directory, { withFileTypes: true });
  } catch (error) {
    const errno = errnoOf(error);
    if (errno === 'ENOENT' || errno === 'ENOTDIR') return [];
    throw error;
  }
}
