/**
 * The second look at what was put aside, once every writer that could rely on it is gone. Writers that
 * came later found these objects missing from their places and relied on others.
 *
 * Back goes a shard that somebody relied on just before it was moved, or that alone describes a file that
 * something refers to by now; a xorb that was relied on, or that any shard in its place needs, or that an
 * unsealed file needs. Restoring too much costs space until the next gc, so every doubt counts for it.
 */
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { formatHash } from '../../hash/xet-hash.ts';
import type { FileRecord } from '../../shard/file-info.ts';
import type { Shard } from '../../shard/shard.ts';
import type { StoreLayout } from '../layout.ts';
import { readIncomingNeeds } from './incoming-needs.ts';
import { listShards, listTrash, openShard, type StoredObject, statOf } from './objects.ts';
import type { Roots } from './survey.ts';
import type { Trash } from './trash.ts';

export interface SettleOptions {
  readonly layout: StoreLayout;
  readonly trash: Trash;
  /** What this gc put aside, as it was listed; by path in `trash/`. */
  readonly listed: ReadonlyMap<string, StoredObject>;
  readonly pause: () => Promise<void>;
  readonly checkpoint: (name: string) => Promise<void>;
}

export interface Settlement {
  readonly restored: number;
  readonly deletedBytes: number;
}

/** `roots`: found after the last writer was gone. Throws REFUSED, and deletes nothing, where a shard is damaged. */
export async function settleTrash(roots: Roots, options: SettleOptions): Promise<Settlement> {
  const { layout, trash, checkpoint } = options;
  const wanted = await findWanted(roots, options);
  for (const xorb of wanted.xorbs) trash.restore('xorb', xorb);
  trash.sync();
  await checkpoint('xorbs restored');
  for (const shard of wanted.shards) trash.restore('shard', shard);
  trash.sync();
  await checkpoint('shards restored');
  const restored = wanted.xorbs.length + wanted.shards.length;

  let deletedBytes = 0;
  const rest = listTrash(layout);
  // What names content goes before the content.
  for (const shard of rest.shards) {
    trash.delete(shard);
    deletedBytes += shard.size;
    await checkpoint('shard deleted');
  }
  trash.sync();
  for (const xorb of rest.xorbs) {
    trash.delete(xorb);
    deletedBytes += xorb.size;
    if (statOf(layout.xorb(xorb.name)) === undefined) {
      rmSync(join(layout.irregular, xorb.name), { force: true });
    }
    await checkpoint('xorb deleted');
  }
  trash.sync();
  return { restored, deletedBytes };
}

interface Wanted {
  readonly xorbs: readonly StoredObject[];
  readonly shards: readonly StoredObject[];
}

async function findWanted(roots: Roots, { layout, listed, pause }: SettleOptions): Promise<Wanted> {
  const aside = listTrash(layout);
  const isFresh = ({ path, mtimeMs }: StoredObject) => listed.get(path)?.mtimeMs !== mtimeMs;

  const shards = new Set(aside.shards.filter(isFresh));
  /** Files that are referred to, by hash or SHA-256, and the shards put aside that describe each. */
  const needed = new Map<string, StoredObject[]>();
  for (const object of aside.shards) {
    for (const file of openShard(object).files()) {
      for (const key of keysOf(file)) {
        if (!roots.files.has(key) && !roots.sha256s.has(key)) continue;
        const others = needed.get(key);
        if (others === undefined) needed.set(key, [object]);
        else others.push(object);
      }
    }
    await pause();
  }
  // First the journals, then the shards: what is sealed in between is seen here or there.
  const xorbs = new Set(readIncomingNeeds(layout).xorbs);
  for (const object of listShards(layout)) {
    const shard = openShard(object);
    for (const key of namesIn(shard, xorbs)) needed.delete(key);
    await pause();
  }
  for (const object of [...needed.values()].flat()) shards.add(object);
  for (const object of shards) namesIn(openShard(object), xorbs);
  return {
    xorbs: aside.xorbs.filter((object) => isFresh(object) || xorbs.has(object.name)),
    shards: [...shards],
  };
}

/** By what a file can be referred to. A hash and a SHA-256 are never the same. */
function keysOf({ fileHash, sha256 }: FileRecord): string[] {
  return sha256 === undefined ? [formatHash(fileHash)] : [formatHash(fileHash), sha256];
}

/** Adds the xorbs that a shard describes or needs; keys of the files that it describes. */
function namesIn(shard: Shard, xorbs: Set<string>): string[] {
  const keys: string[] = [];
  for (const { xorbHash } of shard.xorbHeaders()) xorbs.add(formatHash(xorbHash));
  for (const file of shard.files()) {
    keys.push(...keysOf(file));
    for (const { xorbHash } of file.terms) xorbs.add(formatHash(xorbHash));
  }
  return keys;
}
