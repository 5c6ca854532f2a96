/** The xorbs and shards that lie in a store, as files. */
import { readdirSync, type Stats, statSync } from 'node:fs';
import { join } from 'node:path';
import { errnoOf, FormatError } from '../../errors.ts';
import { isHashString } from '../../hash/xet-hash.ts';
import { readRegular } from '../../regular-file.ts';
import { Shard, shardName } from '../../shard/shard.ts';
import type { StoreLayout } from '../layout.ts';

/** A xorb or shard, and how it looked when it was listed. */
export interface StoredObject {
  /** String form of its hash. */
  readonly name: string;
  readonly path: string;
  readonly size: number;
  /** When it was last written or relied on; see LocalStore.touchXorb. */
  readonly mtimeMs: number;
  /** Directory entries of these bytes: more than one where other stores share them. */
  readonly links: number;
}

export interface StoredObjects {
  readonly xorbs: StoredObject[];
  readonly shards: StoredObject[];
}

const SHARD_SUFFIX = '.mdb';

/** Shards first: whatever xorb a listed shard names was published before it, and is listed too. */
export function listObjects(layout: StoreLayout): StoredObjects {
  const shards = listShards(layout);
  const xorbs = namesIn(layout.xorbs)
    .filter((name) => /^[0-9a-f]{2}$/.test(name))
    .flatMap((name) => listDirectory(join(layout.xorbs, name), (file) => file));
  return { xorbs, shards };
}

export function listShards(layout: StoreLayout): StoredObject[] {
  return listDirectory(layout.shards, nameOfShard);
}

/** What a gc has put aside. */
export function listTrash(layout: StoreLayout): StoredObjects {
  return {
    xorbs: listDirectory(layout.trash, (file) => file),
    shards: listDirectory(layout.trash, nameOfShard),
  };
}

function nameOfShard(file: string): string {
  return file.endsWith(SHARD_SUFFIX) ? file.slice(0, -SHARD_SUFFIX.length) : '';
}

function listDirectory(directory: string, nameOf: (file: string) => string): StoredObject[] {
  const found: StoredObject[] = [];
  for (const file of namesIn(directory)) {
    const name = nameOf(file);
    if (!isHashString(name)) continue;
    const path = join(directory, file);
    const stat = statOf(path);
    if (stat?.isFile()) found.push(describe(name, path, stat));
  }
  return found;
}

function describe(name: string, path: string, { size, mtimeMs, nlink }: Stats): StoredObject {
  return { name, path, size, mtimeMs, links: nlink };
}

/** Undefined when there is nothing at `path`. */
export function statOf(path: string): Stats | undefined {
  return statSync(path, { throwIfNoEntry: false });
}

/** Names in a directory, sorted; none where there is no such directory. */
export function namesIn(directory: string): string[] {
  try {
    return readdirSync(directory).sort();
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return [];
    throw error;
  }
}

/** Reads a shard and proves it by its name. Throws the errno of reading, or INVALID_SHARD. */
export function openShard({ name, path }: Pick<StoredObject, 'name' | 'path'>): Shard {
  const bytes = readRegular(path, 'INVALID_SHARD');
  const found = shardName(bytes);
  if (found !== name) {
    throw new FormatError('INVALID_SHARD', `${path} is damaged: its bytes have the hash ${found}`, 0);
  }
  return Shard.open(bytes);
}
