/** Making catalog tables: from one shard, and by merging tables. See catalog-table.ts for the layout. */
import { createHash } from 'node:crypto';
import type { Shard } from '../shard/shard.ts';
import {
  CatalogTable,
  FAN_OUT,
  FILE_ENTRY,
  KEY_SIZE,
  memoryBytes,
  PLACE_ENTRY,
  SHA_ENTRY,
  SHARD_ENTRY,
  TABLE_CHECKSUM,
  TABLE_HEADER,
  TABLE_MAGIC,
  type TableCounts,
  tableOffsets,
  XORB_ENTRY,
} from './catalog-table.ts';

/** Bytes read or written at once while merging. */
const BLOCK = 1 << 18;
/** Tables that are merged in one go. */
const MAX_SOURCES = 16;

/** Table of one shard, in memory. `name` is the shard's hash. */
export function tableOfShard(name: Uint8Array, shard: Shard): Buffer {
  const xorbs = [...shard.xorbs()];
  const files = [...shard.files()];
  const withSha = files.filter((file) => file.sha256 !== undefined);
  let chunks = 0;
  for (const xorb of xorbs) chunks += xorb.lengths.length;
  const counts: TableCounts = {
    shards: 1,
    xorbs: xorbs.length,
    chunks,
    files: files.length,
    sha256s: withSha.length,
  };
  const at = tableOffsets(counts);
  const table = Buffer.alloc(at.checksum + TABLE_CHECKSUM);
  writeHead(table, counts);
  table.set(name, at.shards);

  const high = new Uint32Array(chunks);
  const low = new Uint32Array(chunks);
  const owner = new Uint32Array(chunks);
  const number = new Uint32Array(chunks);
  let n = 0;
  xorbs.forEach((xorb, x) => {
    const hashes = Buffer.from(xorb.hashes.buffer, xorb.hashes.byteOffset, xorb.hashes.length);
    let raw = 0;
    for (let i = 0; i < xorb.lengths.length; i++, n++) {
      high[n] = hashes.readUInt32BE(32 * i);
      low[n] = hashes.readUInt32BE(32 * i + 4);
      owner[n] = x;
      number[n] = i;
      raw += xorb.lengths[i] as number;
    }
    const entry = at.xorbs + XORB_ENTRY * x;
    table.set(xorb.xorbHash, entry);
    table.writeUInt32LE(xorb.lengths.length, entry + 32);
    table.writeUInt32LE(raw, entry + 36);
  });
  const order = new Uint32Array(chunks).map((_, i) => i);
  // Equal keys: the later place is the newer one and comes first.
  order.sort((x, y) => {
    const h = (high[x] as number) - (high[y] as number);
    if (h !== 0) return h;
    const l = (low[x] as number) - (low[y] as number);
    return l !== 0 ? l : y - x;
  });
  const fanOut = new Uint32Array(256);
  order.forEach((chunk, position) => {
    const x = owner[chunk] as number;
    const i = number[chunk] as number;
    const hashes = xorbs[x]?.hashes as Uint8Array;
    table.set(hashes.subarray(32 * i, 32 * i + KEY_SIZE), at.keys + KEY_SIZE * position);
    const entry = at.places + PLACE_ENTRY * position;
    table.set(hashes.subarray(32 * i + KEY_SIZE, 32 * i + 32), entry);
    table.writeUInt32LE(x, entry + 24);
    table.writeUInt32LE(i, entry + 28);
    fanOut[hashes[32 * i] as number]! += 1;
  });
  writeFanOut(table.subarray(TABLE_HEADER), fanOut);

  files
    .sort((a, b) => Buffer.compare(a.fileHash, b.fileHash))
    .forEach((file, i) => {
      table.set(file.fileHash, at.files + FILE_ENTRY * i);
      table.writeUInt32LE(0, at.files + FILE_ENTRY * i + 32);
      table.writeUInt32LE(file.recordIndex, at.files + FILE_ENTRY * i + 36);
    });
  withSha
    .map((file) => ({ sha: Buffer.from(file.sha256 as string, 'hex'), file }))
    .sort((a, b) => Buffer.compare(a.sha, b.sha))
    .forEach(({ sha, file }, i) => {
      table.set(sha, at.sha256s + SHA_ENTRY * i);
      table.set(file.fileHash, at.sha256s + SHA_ENTRY * i + 32);
    });
  createHash('sha256').update(table.subarray(0, at.checksum)).digest().copy(table, at.checksum);
  return table;
}

/** The name of a table made in memory: its checksum. */
export function tableName(table: Buffer): string {
  return table.toString('hex', table.length - TABLE_CHECKSUM);
}

/**
 * Merges tables, older first, into one. Memory: the result (52 bytes per chunk) and one block per
 * column of each source. A xorb that stands in two tables is kept once.
 */
export function mergeTables(sources: readonly CatalogTable[]): Buffer {
  if (sources.length <= MAX_SOURCES) return mergeFew(sources);
  // Finding the next entry looks at every source: thousands at once would take for ever.
  const merged: CatalogTable[] = [];
  for (let i = 0; i < sources.length; i += MAX_SOURCES) {
    const bytes = mergeFew(sources.slice(i, i + MAX_SOURCES));
    merged.push(new CatalogTable(tableName(bytes), memoryBytes(bytes)));
  }
  return mergeTables(merged);
}

function mergeFew(sources: readonly CatalogTable[]): Buffer {
  const xorbNumbers = new Map<string, number>();
  const xorbEntries: Buffer[] = [];
  /** Per source: its xorb number -> number in the result, or -1 when an older source has the xorb. */
  const renumber: Int32Array[] = [];
  let chunks = 0;
  for (const source of sources) {
    const map = new Int32Array(source.counts.xorbs);
    const entries = source.xorbEntries();
    for (let x = 0; x < source.counts.xorbs; x++) {
      const entry = entries.subarray(XORB_ENTRY * x, XORB_ENTRY * (x + 1));
      const key = entry.toString('latin1', 0, 32);
      if (xorbNumbers.has(key)) {
        map[x] = -1;
        continue;
      }
      xorbNumbers.set(key, xorbEntries.length);
      map[x] = xorbEntries.length;
      xorbEntries.push(entry);
      chunks += entry.readUInt32LE(32);
    }
    renumber.push(map);
  }
  const sum = (field: 'shards' | 'files' | 'sha256s') =>
    sources.reduce((n, source) => n + source.counts[field], 0);
  const counts: TableCounts = {
    shards: sum('shards'),
    xorbs: xorbEntries.length,
    chunks,
    files: sum('files'),
    sha256s: sum('sha256s'),
  };
  const at = tableOffsets(counts);
  const table = Buffer.alloc(at.checksum + TABLE_CHECKSUM);
  writeHead(table, counts);
  let shardBase = 0;
  const shardBases = sources.map((source) => {
    source.shardNames().copy(table, at.shards + SHARD_ENTRY * shardBase);
    const base = shardBase;
    shardBase += source.counts.shards;
    return base;
  });
  xorbEntries.forEach((entry, x) => {
    entry.copy(table, at.xorbs + XORB_ENTRY * x);
  });

  const fanOut = new Uint32Array(256);
  let position = 0;
  const keys = sources.map((s) => new Column(s, s.offsets.keys, KEY_SIZE, s.counts.chunks));
  const places = sources.map((s) => new Column(s, s.offsets.places, PLACE_ENTRY, s.counts.chunks));
  for (let s = smallest(keys, KEY_SIZE); s >= 0; s = smallest(keys, KEY_SIZE)) {
    const key = keys[s] as Column;
    const place = places[s] as Column;
    const x = renumber[s]?.[place.block.readUInt32LE(place.at + 24)];
    if (x !== undefined && x >= 0) {
      if (position === chunks)
        throw new Error('a catalog table holds more places than its xorbs have chunks');
      key.block.copy(table, at.keys + KEY_SIZE * position, key.at, key.at + KEY_SIZE);
      place.block.copy(table, at.places + PLACE_ENTRY * position, place.at, place.at + PLACE_ENTRY);
      table.writeUInt32LE(x, at.places + PLACE_ENTRY * position + 24);
      fanOut[key.block[key.at] as number]! += 1;
      position++;
    }
    key.next();
    place.next();
  }
  if (position !== chunks) throw new Error('a catalog table holds fewer places than its xorbs have chunks');
  writeFanOut(table.subarray(TABLE_HEADER), fanOut);

  const files = sources.map((s) => new Column(s, s.offsets.files, FILE_ENTRY, s.counts.files));
  for (let s = smallest(files, 32), i = 0; s >= 0; s = smallest(files, 32), i++) {
    const file = files[s] as Column;
    const to = at.files + FILE_ENTRY * i;
    file.block.copy(table, to, file.at, file.at + FILE_ENTRY);
    table.writeUInt32LE(file.block.readUInt32LE(file.at + 32) + (shardBases[s] as number), to + 32);
    file.next();
  }
  const shas = sources.map((s) => new Column(s, s.offsets.sha256s, SHA_ENTRY, s.counts.sha256s));
  for (let s = smallest(shas, 32), i = 0; s >= 0; s = smallest(shas, 32), i++) {
    const sha = shas[s] as Column;
    sha.block.copy(table, at.sha256s + SHA_ENTRY * i, sha.at, sha.at + SHA_ENTRY);
    sha.next();
  }
  createHash('sha256').update(table.subarray(0, at.checksum)).digest().copy(table, at.checksum);
  return table;
}

/** Cursor over one column of a table. */
class Column {
  block: Buffer = Buffer.alloc(0);
  at = 0;
  readonly #table: CatalogTable;
  readonly #entry: number;
  #offset: number;
  #left: number;

  constructor(table: CatalogTable, offset: number, entry: number, count: number) {
    this.#table = table;
    this.#offset = offset;
    this.#entry = entry;
    this.#left = count;
    this.#fill();
  }

  get done(): boolean {
    return this.at >= this.block.length;
  }

  next(): void {
    this.at += this.#entry;
    if (this.at >= this.block.length) this.#fill();
  }

  #fill(): void {
    const count = Math.min(this.#left, Math.floor(BLOCK / this.#entry));
    this.block = count === 0 ? Buffer.alloc(0) : this.#table.bytes.read(this.#offset, count * this.#entry);
    this.#offset += count * this.#entry;
    this.#left -= count;
    this.at = 0;
  }
}

/** The source whose next entry sorts first; of equal ones the newest (last). -1 at the end. */
function smallest(columns: readonly Column[], keySize: number): number {
  let best = -1;
  for (let s = columns.length - 1; s >= 0; s--) {
    const column = columns[s] as Column;
    if (column.done) continue;
    if (best < 0) {
      best = s;
      continue;
    }
    const other = columns[best] as Column;
    const order = column.block.compare(
      other.block,
      other.at,
      other.at + keySize,
      column.at,
      column.at + keySize,
    );
    if (order < 0) best = s;
  }
  return best;
}

function writeHead(table: Buffer, counts: TableCounts): void {
  TABLE_MAGIC.copy(table, 0);
  table.writeUInt32LE(counts.shards, 8);
  table.writeUInt32LE(counts.xorbs, 12);
  table.writeUInt32LE(counts.chunks, 16);
  table.writeUInt32LE(counts.files, 20);
  table.writeUInt32LE(counts.sha256s, 24);
}

function writeFanOut(target: Buffer, counts: Uint32Array): void {
  let total = 0;
  for (let b = 0; b < FAN_OUT / 4; b++) {
    total += counts[b] as number;
    target.writeUInt32LE(total, 4 * b);
  }
}
