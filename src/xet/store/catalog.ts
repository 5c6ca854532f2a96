/**
 * The catalog of a store: chunk -> (xorb, chunk number), file -> (shard, record), SHA-256 -> file.
 * It is a set of immutable tables named by `catalog/HEAD`, each saying which shards it covers. It
 * holds nothing that the shards do not say: it may be deleted at any time, and a shard no table
 * covers is found by listing `shards/`.
 */
import { createHash } from 'node:crypto';
import { mkdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { errnoOf, FormatError } from '../errors.ts';
import { formatHash, isHashString, parseHash } from '../hash/xet-hash.ts';
import { readRegular } from '../regular-file.ts';
import { Shard } from '../shard/shard.ts';
import { mergeTables, tableName, tableOfShard } from './catalog-build.ts';
import { lockCatalog, replaceDurably, sweepCatalog } from './catalog-files.ts';
import { formatHead, HEAD, type HeadEntry, readHead } from './catalog-head.ts';
import {
  CatalogTable,
  type ChunkPlace,
  type FilePlace,
  fileBytes,
  memoryBytes,
  SHARD_ENTRY,
} from './catalog-table.ts';
import type { StoreLayout } from './layout.ts';
import { namesIn } from './names-in.ts';

const VERIFY_BLOCK = 1 << 20;
/** A directory changed this recently may change again without its mtime moving. */
const MTIME_TICK_MS = 50;
/** Tables are merged while the older is less than this many times the younger ones together. */
const TIER_FACTOR = 2;

export class Catalog {
  readonly #layout: StoreLayout;
  #tables: CatalogTable[] | undefined;
  /** Tables made in memory for shards that no published table covers. */
  #loose: CatalogTable[] = [];
  /** Shards that were looked at for that, damaged ones too. */
  readonly #looked = new Set<string>();
  /** Shards that no table could be made of, by path, and why. */
  readonly damagedShards = new Map<string, string>();
  /** Tables whose bytes were found to be whole; they never change. */
  readonly #verified = new Set<string>();
  #listedMtime: bigint | undefined;
  #listedAt = 0;

  constructor(layout: StoreLayout) {
    this.#layout = layout;
  }

  /** Places of the chunk whose hash stands at `offset`, newest first. */
  findChunk(hashes: Uint8Array, offset: number): ChunkPlace[] {
    return this.#ask((table) => table.findChunk(hashes, offset));
  }

  findFile(hash: Uint8Array): FilePlace[] {
    return this.#ask((table) => table.findFile(hash));
  }

  findSha256(sha256: Uint8Array): Buffer | undefined {
    return this.findSha256s(sha256)[0];
  }

  /** Hashes of all files that shards claim for a SHA-256, newest shard first; some may stand there twice. */
  findSha256s(sha256: Uint8Array): Buffer[] {
    return this.#ask((table) => table.findSha256s(sha256));
  }

  /**
   * The xorbs with a chunk, newest first, then what was stored next to each: `before` and `after` many of them.
   * Each once.
   */
  findNear(hash: Uint8Array, before: number, after: number): Uint8Array[] {
    const found = new Map<string, Buffer>();
    const near = this.#ask((table) => [table.findNear(hash, before, after)]);
    for (const { having } of near) for (const xorb of having) found.set(xorb.toString('latin1'), xorb);
    for (const { others } of near) for (const xorb of others) found.set(xorb.toString('latin1'), xorb);
    return [...found.values()];
  }

  /**
   * Looks for shards that came since the last look. Returns true if there were any. Cheap (one
   * stat) while the directory has not changed. Call it after a miss, before believing the miss.
   */
  refresh(): boolean {
    this.#load();
    let mtime: bigint;
    try {
      mtime = statSync(this.#layout.shards, { bigint: true }).mtimeNs;
    } catch (error) {
      if (errnoOf(error) === 'ENOENT') return false;
      throw error;
    }
    const settled = Number(mtime / 1_000_000n) + MTIME_TICK_MS < this.#listedAt;
    if (mtime === this.#listedMtime && settled) return false;
    const listedAt = Date.now();
    const found = this.#uncovered().length > 0;
    // Another process may have published a table for them meanwhile.
    if (found) this.reload();
    this.#addUncovered();
    this.#listedMtime = mtime;
    this.#listedAt = listedAt;
    return found;
  }

  /** Forgets everything read so far. */
  reload(): void {
    for (const table of [...(this.#tables ?? []), ...this.#loose]) table.close();
    this.#tables = undefined;
    this.#loose = [];
    this.#looked.clear();
    this.#listedMtime = undefined;
    this.#load();
  }

  /**
   * Re-hashes every published table and, for this process, replaces damaged ones by what their
   * shards say. Returns the names of the damaged. The last resort before content is called missing.
   */
  dropDamaged(): string[] {
    this.#load();
    const damaged: CatalogTable[] = [];
    for (const table of this.#tables ?? []) {
      if (this.#verified.has(table.name)) continue;
      if (verifyTable(table)) this.#verified.add(table.name);
      else damaged.push(table);
    }
    this.#drop(damaged);
    return damaged.map((table) => table.name);
  }

  close(): void {
    for (const table of [...(this.#tables ?? []), ...this.#loose]) table.close();
    this.#tables = [];
    this.#loose = [];
  }

  /** All tables read so far, older first; for fsck and statistics. */
  tables(): readonly CatalogTable[] {
    this.#load();
    return [...(this.#tables ?? []), ...this.#loose];
  }

  /**
   * Publishes tables for all shards that no table covers, merging small tables into larger ones.
   * With `rebuild` the old tables are not used at all. Errors are the caller's to ignore: the
   * catalog is a cache.
   */
  publish(options: { readonly rebuild?: boolean } = {}): void {
    mkdirSync(this.#layout.catalog, { recursive: true });
    const release = lockCatalog(this.#layout);
    if (release === undefined) return;
    try {
      this.reload();
      const before = options.rebuild === true ? [] : [...(this.#tables ?? [])];
      const { kept, merged } = this.#planMerge(before);
      if (kept.length === before.length && merged.length === 0 && options.rebuild !== true) return;
      const entries = kept.map((table) => entryOf(table));
      if (merged.length > 0) {
        const bytes = mergeTables(merged);
        const name = tableName(bytes);
        replaceDurably(this.#layout, name, bytes);
        entries.push(entryOf(new CatalogTable(name, memoryBytes(bytes))));
      }
      replaceDurably(this.#layout, HEAD, Buffer.from(formatHead(entries), 'latin1'));
      sweepCatalog(this.#layout, new Set(entries.map((entry) => entry.name)));
    } finally {
      release();
    }
    this.reload();
  }

  /**
   * Which tables stay, and which (older first) become one: those of shards that no table covers, and
   * the younger tables as long as they are small beside what they are merged with.
   */
  #planMerge(tables: readonly CatalogTable[]): { kept: CatalogTable[]; merged: CatalogTable[] } {
    const present = this.#listShards();
    // A table that covers a shard which is gone would send readers after it for ever.
    let kept = tables.filter((table) => coveredNames(table).every((name) => present.has(name)));
    const fresh = new Map<string, LooseTable | undefined>();
    for (;;) {
      const covered = new Set(kept.flatMap(coveredNames));
      for (const name of present) {
        if (!covered.has(name) && !fresh.has(name)) fresh.set(name, this.#tableOf(name));
      }
      const merged = [...fresh.values()]
        .filter((loose) => loose !== undefined)
        .sort((a, b) => a.createdAt - b.createdAt)
        .map(({ table }) => table);
      let weight = merged.reduce((n, table) => n + table.bytes.size, 0);
      let first = kept.length;
      for (; first > 0; first--) {
        const { size } = (kept[first - 1] as CatalogTable).bytes;
        if (size >= TIER_FACTOR * weight) break;
        weight += size;
      }
      const older = kept.slice(first);
      // Merging damage would give it a checksum that fits. Its shards are read instead.
      const damaged = older.filter((table) => !verifyTable(table));
      if (damaged.length === 0) return { kept: kept.slice(0, first), merged: [...older, ...merged] };
      kept = kept.filter((table) => !damaged.includes(table));
    }
  }

  /** Answers of all tables, newest first. One that turns out to be damaged is dropped. */
  #ask<T>(question: (table: CatalogTable) => readonly T[]): T[] {
    this.#load();
    for (;;) {
      const answers: T[] = [];
      const damaged: CatalogTable[] = [];
      for (const table of [...(this.#tables ?? []), ...this.#loose].reverse()) {
        try {
          answers.push(...question(table));
        } catch (error) {
          if (!(error instanceof FormatError)) throw error;
          damaged.push(table);
        }
      }
      if (damaged.length === 0) return answers;
      this.#drop(damaged);
    }
  }

  /** Reads the shards that `tables` cover instead of them. */
  #drop(tables: readonly CatalogTable[]): void {
    if (tables.length === 0) return;
    for (const table of tables) table.close();
    this.#tables = (this.#tables ?? []).filter((table) => !tables.includes(table));
    this.#loose = this.#loose.filter((table) => !tables.includes(table));
    this.#addUncovered();
  }

  #load(): void {
    if (this.#tables !== undefined) return;
    for (let attempt = 0; attempt < 3; attempt++) {
      const opened: CatalogTable[] = [];
      let lost = false;
      for (const { name } of readHead(this.#layout)) {
        try {
          opened.push(openTable(join(this.#layout.catalog, name), name));
        } catch (error) {
          if (errnoOf(error) === 'ENOENT') lost = true;
          else if (!(error instanceof FormatError)) throw error;
        }
      }
      this.#tables = opened;
      if (!lost) break;
      // Merged away between reading HEAD and opening it: read HEAD again.
      if (attempt < 2) for (const table of opened) table.close();
    }
  }

  /**
   * Names of all shards, sorted. Those that gc has put aside are still good for readers, and may be the
   * only ones that tell of a file that a writer has just found and answered.
   */
  #listShards(): Set<string> {
    const names = [...namesIn(this.#layout.shards), ...namesIn(this.#layout.trash)];
    return new Set(
      names
        .filter((name) => name.endsWith('.mdb') && isHashString(name.slice(0, -4)))
        .map((name) => name.slice(0, -4))
        .sort(),
    );
  }

  #uncovered(): string[] {
    const shards = this.#listShards();
    for (const name of this.#looked) shards.delete(name);
    const unreadable: CatalogTable[] = [];
    for (const table of this.#tables ?? []) {
      try {
        for (const name of coveredNames(table)) shards.delete(name);
      } catch (error) {
        if (!(error instanceof FormatError)) throw error;
        unreadable.push(table);
      }
    }
    for (const table of unreadable) table.close();
    this.#tables = (this.#tables ?? []).filter((table) => !unreadable.includes(table));
    return [...shards];
  }

  #addUncovered(): void {
    for (const name of this.#uncovered()) {
      this.#looked.add(name);
      const loose = this.#tableOf(name);
      if (loose !== undefined) this.#loose.push(loose.table);
    }
  }

  /** Table of one shard file, or undefined when the shard is gone or damaged. */
  #tableOf(name: string): LooseTable | undefined {
    for (const path of [this.#layout.shard(name), join(this.#layout.trash, `${name}.mdb`)]) {
      try {
        const shard = Shard.open(readRegular(path, 'INVALID_SHARD'));
        const bytes = tableOfShard(parseHash(name), shard);
        return {
          table: new CatalogTable(tableName(bytes), memoryBytes(bytes)),
          createdAt: shard.footer?.createdAt ?? 0,
        };
      } catch (error) {
        if (error instanceof FormatError) this.damagedShards.set(path, error.message);
        else if (errnoOf(error) !== 'ENOENT') throw error;
      }
    }
    return undefined;
  }
}

/** A table made in memory for one shard, and when that was written, in seconds since 1970. */
interface LooseTable {
  readonly table: CatalogTable;
  readonly createdAt: number;
}

function openTable(path: string, name: string): CatalogTable {
  const bytes = fileBytes(path);
  try {
    return new CatalogTable(name, bytes);
  } catch (error) {
    bytes.close();
    throw error;
  }
}

function entryOf({ name, counts }: CatalogTable): HeadEntry {
  return { name, chunks: counts.chunks, files: counts.files };
}

/** True if the table's bytes are those its name was computed from. */
function verifyTable(table: CatalogTable): boolean {
  const hash = createHash('sha256');
  const end = table.offsets.checksum;
  try {
    for (let at = 0; at < end; at += VERIFY_BLOCK) {
      hash.update(table.bytes.read(at, Math.min(VERIFY_BLOCK, end - at)));
    }
  } catch {
    return false;
  }
  return hash.digest('hex') === table.name;
}

function coveredNames(table: CatalogTable): string[] {
  const names = table.shardNames();
  return Array.from({ length: table.counts.shards }, (_, i) => formatHash(names, SHARD_ENTRY * i));
}
