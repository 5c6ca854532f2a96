/** What lies in a store under the names of xorbs and shards, and what else does. */
import { readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { errnoOf } from '../errors.ts';
import { isHashString } from '../hash/xet-hash.ts';
import { publishedXorb } from './fsck-scan.ts';
import type { StoreLayout } from './layout.ts';

export type PublishedXorb = ReturnType<typeof publishedXorb>;

export interface ListedShard {
  readonly name: string;
  readonly size: number;
}

/** `strays` gets the files that are no shards, by their path from the store's root. */
export function listShards(layout: StoreLayout, strays: string[]): ListedShard[] {
  return entriesOf(layout.shards).flatMap((entry) => {
    const name = entry.slice(0, -4);
    const size = sizeOf(join(layout.shards, entry));
    if (entry.endsWith('.mdb') && isHashString(name) && size !== undefined) return [{ name, size }];
    strays.push(`shards/${entry}`);
    return [];
  });
}

/** Also those that gc has put aside: they are read until it deletes them. */
export function listXorbs(layout: StoreLayout, strays: string[]): PublishedXorb[] {
  const published = entriesOf(layout.xorbs).flatMap((folder) =>
    entriesOf(join(layout.xorbs, folder)).flatMap((name) => {
      const path = join(layout.xorbs, folder, name);
      const size = sizeOf(path);
      if (isHashString(name) && name.startsWith(folder) && size !== undefined)
        return [publishedXorb(name, path, size)];
      strays.push(`xorbs/${folder}/${name}`);
      return [];
    }),
  );
  const names = new Set(published.map(({ name }) => name));
  const trashed = entriesOf(layout.trash)
    .filter((name) => isHashString(name) && !names.has(name))
    .flatMap((name) => {
      const path = join(layout.trash, name);
      const size = sizeOf(path);
      return size === undefined ? [] : [publishedXorb(name, path, size)];
    });
  return [...published, ...trashed];
}

function entriesOf(directory: string): string[] {
  try {
    return readdirSync(directory).sort();
  } catch (error) {
    if (errnoOf(error) === 'ENOENT' || errnoOf(error) === 'ENOTDIR') return [];
    throw error;
  }
}

/** Undefined for what is no regular file. Of one that is gone meanwhile, 0. */
function sizeOf(path: string): number | undefined {
  const stat = statSync(path, { throwIfNoEntry: false });
  return stat === undefined ? 0 : stat.isFile() ? stat.size : undefined;
}
