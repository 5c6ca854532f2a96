/**
 * The lookup tables of a shard (Xet protocol, "Shard"; only in shards kept locally). Three tables, each
 * sorted by the key: the first 8 bytes of the hash as a little-endian u64.
 *
 *     files, xorbs   u64 key, u32 record index of the header                            12 bytes
 *     chunks         u64 key, u32 record index of the xorb header, u32 chunk number     16 bytes
 *
 * Hashes may share a key: a search gives every entry of it, and the caller compares whole hashes.
 */
import { CHUNK_ENTRY_SIZE, RECORD_ENTRY_SIZE, type TablePlace, viewOf } from './format.ts';

/** `record`: the file and the xorb table. `chunk`: the chunk table. */
export type TableKind = 'record' | 'chunk';

export interface TableEntry {
  readonly recordIndex: number;
  /** 0 in a `record` table. */
  readonly chunkNumber: number;
}

export function entrySize(kind: TableKind): number {
  return kind === 'chunk' ? CHUNK_ENTRY_SIZE : RECORD_ENTRY_SIZE;
}

/** Collects the entries of one table. */
export class TableBuilder {
  private readonly kind: TableKind;
  private readonly keyLow: number[] = [];
  private readonly keyHigh: number[] = [];
  private readonly recordIndexes: number[] = [];
  private readonly chunkNumbers: number[] = [];

  constructor(kind: TableKind) {
    this.kind = kind;
  }

  get count(): number {
    return this.recordIndexes.length;
  }

  get byteLength(): number {
    return this.count * entrySize(this.kind);
  }

  /** Enters the hash at `offset` of `bytes`. */
  add(bytes: Uint8Array, offset: number, recordIndex: number, chunkNumber = 0): void {
    this.keyLow.push(readU32(bytes, offset));
    this.keyHigh.push(readU32(bytes, offset + 4));
    this.recordIndexes.push(recordIndex);
    this.chunkNumbers.push(chunkNumber);
  }

  /** Writes the sorted table at `offset`. Entries of one key stay in the order they were added in. */
  encode(target: Uint8Array, offset: number): void {
    const low = Uint32Array.from(this.keyLow);
    const high = Uint32Array.from(this.keyHigh);
    const order = Uint32Array.from(low.keys()).sort(
      (a, b) => (high[a] as number) - (high[b] as number) || (low[a] as number) - (low[b] as number) || a - b,
    );
    const view = viewOf(target);
    const size = entrySize(this.kind);
    for (const [i, entry] of order.entries()) {
      const at = offset + i * size;
      view.setUint32(at, low[entry] as number, true);
      view.setUint32(at + 4, high[entry] as number, true);
      view.setUint32(at + 8, this.recordIndexes[entry] as number, true);
      if (this.kind === 'chunk') view.setUint32(at + 12, this.chunkNumbers[entry] as number, true);
    }
  }
}

/** All entries of the table at `place`, which lies within `bytes`, that have the key of `hash`, in table order. */
export function* searchTable(
  bytes: Uint8Array,
  place: TablePlace,
  kind: TableKind,
  hash: Uint8Array,
): Generator<TableEntry, void, undefined> {
  const view = viewOf(bytes);
  const size = entrySize(kind);
  const low = readU32(hash, 0);
  const high = readU32(hash, 4);
  const compareAt = (entry: number): number => {
    const at = place.offset + entry * size;
    return view.getUint32(at + 4, true) - high || view.getUint32(at, true) - low;
  };
  let first = 0;
  for (let end = place.count; first < end; ) {
    const middle = (first + end) >>> 1;
    if (compareAt(middle) < 0) first = middle + 1;
    else end = middle;
  }
  for (let entry = first; entry < place.count && compareAt(entry) === 0; entry++) {
    const at = place.offset + entry * size;
    yield {
      recordIndex: view.getUint32(at + 8, true),
      chunkNumber: kind === 'chunk' ? view.getUint32(at + 12, true) : 0,
    };
  }
}

function readU32(bytes: Uint8Array, offset: number): number {
  const high = bytes[offset + 3] as number;
  const low =
    (bytes[offset] as number) | ((bytes[offset + 1] as number) << 8) | ((bytes[offset + 2] as number) << 16);
  return (low | (high << 24)) >>> 0;
}
