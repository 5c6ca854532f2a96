/** The catalog: every table's bytes against its name, and the list of tables. It is a cache of the shards. */
import { createHash } from 'node:crypto';
import { closeSync, readSync } from 'node:fs';
import { join } from 'node:path';
import { errnoOf, FormatError, messageOf } from '../errors.ts';
import { formatHash } from '../hash/xet-hash.ts';
import { openRegular, readRegular } from '../regular-file.ts';
import { readHead } from './catalog-head.ts';
import { CatalogTable, fileBytes, SHARD_ENTRY, TABLE_CHECKSUM } from './catalog-table.ts';
import type { Damage } from './fsck-damage.ts';
import type { StoreLayout } from './layout.ts';

export interface CatalogCheck {
  readonly tables: number;
  readonly damage: readonly Damage[];
  /** Shards that a sound table covers, by the name of the table. */
  readonly covered: ReadonlyMap<string, string>;
}

/** What catalog.ts writes; reading it is lenient. */
const HEAD = /^git2db catalog 1\n(?:table [0-9a-f]{64} [0-9]+ [0-9]+\n)*$/;

const BLOCK = 1 << 20;
/** A publisher may replace HEAD and remove a table between our reading the one and opening the other. */
const ATTEMPTS = 3;

export function checkCatalog(layout: StoreLayout): CatalogCheck {
  for (let attempt = 1; ; attempt++) {
    const damage: Damage[] = [];
    const covered = new Map<string, string>();
    const report = (name: string, offset: number | undefined, expected: string, found: string) =>
      damage.push({
        object: 'catalog',
        name,
        path: join(layout.catalog, name),
        chunk: undefined,
        offset,
        expected,
        found,
      });
    const head = readText(join(layout.catalog, 'HEAD'));
    if (head !== undefined && !HEAD.test(head))
      report('HEAD', 0, 'a list of catalog tables', JSON.stringify(head.slice(0, 40)));
    const entries = readHead(layout);
    let gone = 0;
    for (const { name } of entries) {
      const path = join(layout.catalog, name);
      try {
        const found = checksumOf(path);
        if (found !== name) {
          report(name, undefined, `bytes with SHA-256 ${name}`, found);
          continue;
        }
        for (const shard of shardsOf(name, path)) covered.set(shard, name);
      } catch (error) {
        if (errnoOf(error) !== 'ENOENT') throw error;
        gone++;
        report(name, undefined, 'a table that HEAD names', messageOf(error));
      }
    }
    if (gone === 0 || attempt === ATTEMPTS) return { tables: entries.length, damage, covered };
  }
}

/** The name that the bytes of a table give it. */
function checksumOf(path: string): string {
  const fd = openRegular(path, 'INVALID_CATALOG');
  try {
    const hash = createHash('sha256');
    const block = Buffer.allocUnsafe(BLOCK);
    // The last bytes, which repeat the checksum, are not covered by it: held back until more come.
    let tail = Buffer.alloc(0);
    for (let n = readSync(fd, block, 0, BLOCK, null); n > 0; n = readSync(fd, block, 0, BLOCK, null)) {
      const bytes = Buffer.concat([tail, block.subarray(0, n)]);
      const end = Math.max(0, bytes.length - TABLE_CHECKSUM);
      hash.update(bytes.subarray(0, end));
      tail = bytes.subarray(end);
    }
    const found = hash.digest('hex');
    return tail.toString('hex') === found ? found : `${found}, and ${tail.toString('hex')} at its end`;
  } finally {
    closeSync(fd);
  }
}

function shardsOf(name: string, path: string): string[] {
  const table = new CatalogTable(name, fileBytes(path));
  try {
    const names = table.shardNames();
    return Array.from({ length: table.counts.shards }, (_, i) => formatHash(names, SHARD_ENTRY * i));
  } finally {
    table.close();
  }
}

function readText(path: string): string | undefined {
  try {
    return readRegular(path, 'INVALID_CATALOG').toString('latin1');
  } catch (error) {
    if (errnoOf(error) === 'ENOENT' || errnoOf(error) === 'ENOTDIR') return undefined;
    // No text at all, and so no HEAD.
    if (error instanceof FormatError) return '';
    throw error;
  }
}
