/**
 * Reads a shard in place: nothing is copied or expanded until it is asked for, besides a list of where
 * the files and xorbs begin (4 bytes each).
 */
import { blake3Keyed } from '../hash/blake3.ts';
import { DATA_KEY, hmac } from '../hash/keys.ts';
import { formatHash, hashesEqual } from '../hash/xet-hash.ts';
import {
  announcedFileRecords,
  decodeFile,
  decodeFileHeader,
  type FileHeader,
  type FileRecord,
} from './file-info.ts';
import {
  decodeHeader,
  decodeShardFooter,
  encodeHeader,
  HEADER_SIZE,
  invalidShard,
  isBookend,
  RECORD_SIZE,
  type ShardFooter,
  viewOf,
} from './format.ts';
import { searchTable, type TableEntry } from './lookup.ts';
import {
  announcedXorbRecords,
  decodeXorb,
  decodeXorbHeader,
  type XorbHeader,
  type XorbRecord,
} from './xorb-info.ts';

/** A record, and where in its section its header is, counted in 48-byte records. */
export type Located<T> = T & { readonly recordIndex: number };

export interface ChunkPlace {
  /** Record index of the xorb. */
  readonly recordIndex: number;
  /** Number of the chunk in the xorb. */
  readonly chunkNumber: number;
}

/** Name under which a shard is kept, without `.mdb`: the string form of a hash of its bytes. */
export function shardName(bytes: Uint8Array): string {
  return formatHash(blake3Keyed(DATA_KEY, bytes));
}

/** One of the two sections: its extent, and the record index of each header, ascending. */
interface Section {
  readonly start: number;
  /** Where its bookend begins. */
  readonly end: number;
  readonly headers: Uint32Array;
}

/**
 * Hashes that come out of a shard are views into its bytes, which must not change while it is used;
 * chunk lists are copies. Every method throws INVALID_SHARD where the bytes it looks at are damaged.
 */
export class Shard {
  readonly bytes: Uint8Array;
  /** Undefined in the upload form. */
  readonly footer: ShardFooter | undefined;
  private readonly fileSection: Section;
  private readonly xorbSection: Section;

  private constructor(bytes: Uint8Array, files: Section, xorbs: Section, footer: ShardFooter | undefined) {
    this.bytes = bytes;
    this.fileSection = files;
    this.xorbSection = xorbs;
    this.footer = footer;
  }

  /**
   * Checks the frame: header, extent of every record, both bookends, and the footer if the header
   * announces one (else what follows the second bookend is ignored). What is inside the records is
   * checked when they are read.
   */
  static open(bytes: Uint8Array): Shard {
    const footerSize = decodeHeader(bytes);
    const shard = Shard.openSections(bytes);
    if (footerSize === 0) return shard;
    const { fileSection, xorbSection } = shard;
    const footer = decodeShardFooter(bytes, xorbSection.start, xorbSection.end + RECORD_SIZE);
    return new Shard(bytes, fileSection, xorbSection, footer);
  }

  /** For a shard that is being uploaded: whatever follows the second bookend, footer or not, is ignored. */
  static openUpload(bytes: Uint8Array): Shard {
    decodeHeader(bytes);
    return Shard.openSections(bytes);
  }

  private static openSections(bytes: Uint8Array): Shard {
    const files = scanSection(bytes, HEADER_SIZE, 'file', announcedFileRecords);
    const xorbs = scanSection(bytes, files.end + RECORD_SIZE, 'xorb', announcedXorbRecords);
    return new Shard(bytes, files, xorbs, undefined);
  }

  get fileCount(): number {
    return this.fileSection.headers.length;
  }

  get xorbCount(): number {
    return this.xorbSection.headers.length;
  }

  /** Key of the chunk hashes; undefined: they are plain. */
  get key(): Uint8Array | undefined {
    return this.footer?.key;
  }

  /** The same files and xorbs without tables and footer, as they are sent to a server. Needs plain hashes. */
  uploadForm(): Uint8Array {
    if (this.key !== undefined) throw invalidShard('a shard of keyed hashes cannot be uploaded', 0);
    const upload = new Uint8Array(this.bytes.subarray(0, this.xorbSection.end + RECORD_SIZE));
    upload.set(encodeHeader(0));
    return upload;
  }

  *fileHeaders(): Generator<FileHeader, void, undefined> {
    for (const recordIndex of this.fileSection.headers) yield this.fileHeader(recordIndex);
  }

  *xorbHeaders(): Generator<XorbHeader, void, undefined> {
    for (const recordIndex of this.xorbSection.headers) yield this.xorbHeader(recordIndex);
  }

  *files(): Generator<Located<FileRecord>, void, undefined> {
    for (const recordIndex of this.fileSection.headers) yield this.fileAt(recordIndex);
  }

  *xorbs(): Generator<Located<XorbRecord>, void, undefined> {
    for (const recordIndex of this.xorbSection.headers) yield this.xorbAt(recordIndex);
  }

  fileAt(recordIndex: number): Located<FileRecord> {
    const header = this.fileHeader(recordIndex);
    return { recordIndex, ...decodeFile(this.bytes, offsetOf(this.fileSection, recordIndex), header) };
  }

  xorbAt(recordIndex: number): Located<XorbRecord> {
    const header = this.xorbHeader(recordIndex);
    return { recordIndex, ...decodeXorb(this.bytes, offsetOf(this.xorbSection, recordIndex), header) };
  }

  /** The first file of this hash. */
  findFile(fileHash: Uint8Array): Located<FileRecord> | undefined {
    const table = this.footer?.fileTable;
    const recordIndex =
      table !== undefined && table.count > 0
        ? this.firstOf(searchTable(this.bytes, table, 'record', fileHash), this.fileSection, fileHash)
        : this.scanFor(this.fileSection, fileHash);
    return recordIndex === undefined ? undefined : this.fileAt(recordIndex);
  }

  /** The first xorb of this hash. */
  findXorb(xorbHash: Uint8Array): Located<XorbRecord> | undefined {
    const table = this.footer?.xorbTable;
    const recordIndex =
      table !== undefined && table.count > 0
        ? this.firstOf(searchTable(this.bytes, table, 'record', xorbHash), this.xorbSection, xorbHash)
        : this.scanFor(this.xorbSection, xorbHash);
    return recordIndex === undefined ? undefined : this.xorbAt(recordIndex);
  }

  /** A place of the chunk of this plain hash; in a keyed shard the keyed hash is looked for. */
  findChunk(chunkHash: Uint8Array): ChunkPlace | undefined {
    const hash = this.key === undefined ? chunkHash : hmac(chunkHash, this.key);
    const table = this.footer?.chunkTable;
    if (table === undefined || table.count === 0) return this.scanForChunk(hash);
    for (const { recordIndex, chunkNumber } of searchTable(this.bytes, table, 'chunk', hash)) {
      const { chunkCount } = this.xorbHeader(recordIndex);
      if (chunkNumber >= chunkCount) {
        throw invalidShard(
          `chunk table: chunk ${chunkNumber} of a xorb of ${chunkCount} chunks`,
          table.offset,
        );
      }
      const at = offsetOf(this.xorbSection, recordIndex + 1 + chunkNumber);
      if (hashesEqual(this.bytes, at, hash, 0)) return { recordIndex, chunkNumber };
    }
    return undefined;
  }

  private fileHeader(recordIndex: number): FileHeader {
    return decodeFileHeader(
      this.bytes,
      this.headerOffset(this.fileSection, recordIndex, 'file'),
      recordIndex,
    );
  }

  private xorbHeader(recordIndex: number): XorbHeader {
    return decodeXorbHeader(
      this.bytes,
      this.headerOffset(this.xorbSection, recordIndex, 'xorb'),
      recordIndex,
    );
  }

  /** Tables are not to be trusted: only what the scan of the section found to be a header is one. */
  private headerOffset(section: Section, recordIndex: number, what: string): number {
    if (!includesSorted(section.headers, recordIndex)) {
      throw invalidShard(
        `record ${recordIndex} of the ${what} section is not a ${what} header`,
        section.start,
      );
    }
    return offsetOf(section, recordIndex);
  }

  private firstOf(entries: Iterable<TableEntry>, section: Section, hash: Uint8Array): number | undefined {
    let first: number | undefined;
    for (const { recordIndex } of entries) {
      const at = this.headerOffset(section, recordIndex, section === this.fileSection ? 'file' : 'xorb');
      if (hashesEqual(this.bytes, at, hash, 0)) first = Math.min(first ?? recordIndex, recordIndex);
    }
    return first;
  }

  private scanFor(section: Section, hash: Uint8Array): number | undefined {
    return section.headers.find((recordIndex) =>
      hashesEqual(this.bytes, offsetOf(section, recordIndex), hash, 0),
    );
  }

  private scanForChunk(hash: Uint8Array): ChunkPlace | undefined {
    for (const { recordIndex, chunkCount } of this.xorbHeaders()) {
      const first = offsetOf(this.xorbSection, recordIndex + 1);
      for (let chunkNumber = 0; chunkNumber < chunkCount; chunkNumber++) {
        if (hashesEqual(this.bytes, first + chunkNumber * RECORD_SIZE, hash, 0))
          return { recordIndex, chunkNumber };
      }
    }
    return undefined;
  }
}

function offsetOf(section: Section, recordIndex: number): number {
  return section.start + recordIndex * RECORD_SIZE;
}

/** Goes from header to header; `announcedRecords` says how far each one reaches. */
function scanSection(
  bytes: Uint8Array,
  start: number,
  what: string,
  announcedRecords: (view: DataView, offset: number) => number,
): Section {
  const view = viewOf(bytes);
  const headers: number[] = [];
  let at = start;
  for (;;) {
    const available = Math.floor((bytes.length - at) / RECORD_SIZE);
    if (available < 1) {
      throw invalidShard(`the ${what} section has no end: expected a record or the bookend`, at);
    }
    if (isBookend(bytes, at)) return { start, end: at, headers: Uint32Array.from(headers) };
    const recordIndex = (at - start) / RECORD_SIZE;
    const records = announcedRecords(view, at);
    if (records > available) {
      throw invalidShard(
        `${what} record ${recordIndex} announces ${records} records with itself, ${available} are there`,
        at,
      );
    }
    headers.push(recordIndex);
    at += records * RECORD_SIZE;
  }
}

function includesSorted(sorted: Uint32Array, value: number): boolean {
  let first = 0;
  for (let end = sorted.length; first < end; ) {
    const middle = (first + end) >>> 1;
    if ((sorted[middle] as number) < value) first = middle + 1;
    else end = middle;
  }
  return sorted[first] === value;
}
