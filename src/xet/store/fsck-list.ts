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
    if (entry.endsWith('.mdb') && isHashString(name)) return [{ name, size: sizeOf(layout.shard(name)) }];
    strays.push(`shards/${entry}`);
    return [];
  });
}

/** Also those that gc has put aside: they are read until it deletes them. */
export function listXorbs(layout: StoreLayout, strays: string[]): PublishedXorb[] {
  const published = entriesOf(layout.xorbs).flatMap((folder) =>
    entriesOf(join(layout.xorbs, folder)).flatMap((name) => {
      const path = join(layout.xorbs, folder, name);
      if (isHashString(name) && name.startsWith(folder)) return [publishedXorb(name, path, sizeOf(path))];
      strays.push(`xorbs/${folder}/${name}`);
      return [];
    }),
  );
  const names = new Set(published.map(({ name }) => name));
  const trashed = entriesOf(layout.trash)
    .filter((name) => isHashString(name) && !names.has(name))
    .map((name) => publishedXorb(name, join(layout.trash, name), sizeOf(join(layout.trash, name))));
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

function sizeOf(path: string): number {
  return statSync(path, { throwIfNoEntry: false })?.size ?? 0;
}
