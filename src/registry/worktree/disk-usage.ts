/** Bytes on disk, as du(1) counts them: whole blocks, each inode once, directories too. */
import { type BigIntStats, type Dirent, lstatSync, readdirSync } from 'node:fs';
import { setImmediate as turn } from 'node:timers/promises';
import { errnoOf } from '../../xet/errors.ts';

const BLOCK = 512;

/** Does not leave the file system of `path`. What vanishes meanwhile, or may not be read, counts as nothing. */
export async function diskUsage(path: string): Promise<number> {
  const seen = new Set<string>();
  let blocks = 0;
  const top = lookAt(Buffer.from(path));
  if (top === undefined) return 0;
  const queue: Buffer[] = [];
  const count = (stat: BigIntStats, at: Buffer): void => {
    if (stat.dev !== top.dev) return;
    if (stat.nlink > 1n && !stat.isDirectory()) {
      const key = String(stat.ino);
      if (seen.has(key)) return;
      seen.add(key);
    }
    blocks += Number(stat.blocks);
    if (stat.isDirectory()) queue.push(at);
  };
  count(top, Buffer.from(path));
  for (let at = queue.pop(); at !== undefined; at = queue.pop()) {
    for (const { name } of listed(at)) {
      const child = Buffer.concat([at, SLASH, name]);
      const stat = lookAt(child);
      if (stat !== undefined) count(stat, child);
    }
    await turn();
  }
  return blocks * BLOCK;
}

const SLASH = Buffer.from('/');

function lookAt(path: Buffer): BigIntStats | undefined {
  try {
    return lstatSync(path, { bigint: true });
  } catch (error) {
    if (['ENOENT', 'ENOTDIR', 'EACCES'].includes(errnoOf(error) ?? '')) return undefined;
    throw error;
  }
}

function listed(path: Buffer): Dirent<Buffer>[] {
  try {
    return readdirSync(path, { withFileTypes: true, encoding: 'buffer' }) as Dirent<Buffer>[];
  } catch (error) {
    if (['ENOENT', 'ENOTDIR', 'EACCES'].includes(errnoOf(error) ?? '')) return [];
    throw error;
  }
}
