/** Writes a shard: for upload, as a dedup answer, or to be kept with lookup tables. */
import { Git2dbError } from '../errors.ts';
import { compareHashes, HASH_SIZE, isZeroHash } from '../hash/xet-hash.ts';
import { encodeFile, type FileRecord, fileRecordCount } from './file-info.ts';
import {
  BOOKEND,
  CHUNK_ENTRY_SIZE,
  encodeHeader,
  encodeShardFooter,
  FOOTER_SIZE,
  HEADER_SIZE,
  RECORD_ENTRY_SIZE,
  RECORD_SIZE,
} from './format.ts';
import { TableBuilder } from './lookup.ts';
import { encodeXorb, type XorbRecord, xorbRecordCount } from './xorb-info.ts';

export interface ShardOptions {
  /** Default true. Without it: the form that is uploaded. */
  readonly footer?: boolean;
  /** Default false. Needs the footer. */
  readonly tables?: boolean;
  /** 32 bytes: chunk hashes are written keyed with it. Needs the footer. */
  readonly key?: Uint8Array;
  /** Seconds since 1970; default now. */
  readonly createdAt?: number;
  /** Seconds since 1970; default never. */
  readonly keyExpiry?: number | bigint;
  /** Files and xorbs in the order of their hashes; default the order they were added in. */
  readonly sorted?: boolean;
}

/** Records that are added are kept, not copied, until the builder is dropped: do not change them. */
export class ShardBuilder {
  private readonly files: FileRecord[] = [];
  private readonly xorbs: XorbRecord[] = [];
  private records = 2; // the bookends
  private chunks = 0;

  get fileCount(): number {
    return this.files.length;
  }

  get xorbCount(): number {
    return this.xorbs.length;
  }

  /** Throws INVALID_SHARD if only some of the files have verification hashes, or a file has not one for each term. */
  addFile(file: FileRecord): void {
    const { terms, verification } = file;
    if (verification !== undefined && verification.length !== terms.length) {
      throw new Git2dbError(
        'INVALID_SHARD',
        `a file of ${terms.length} terms needs as many verification hashes, not ${verification.length}`,
      );
    }
    const first = this.files[0];
    if (first !== undefined && (first.verification === undefined) !== (verification === undefined)) {
      throw new Git2dbError(
        'INVALID_SHARD',
        'either all files of a shard have verification hashes or none has',
      );
    }
    this.files.push(file);
    this.records += fileRecordCount(file);
  }

  /** Throws INVALID_SHARD if the lists differ in length or are empty. */
  addXorb(xorb: XorbRecord): void {
    const { hashes, lengths, flags } = xorb;
    const count = lengths.length;
    if (
      count === 0 ||
      hashes.length !== count * HASH_SIZE ||
      (flags !== undefined && flags.length !== count)
    ) {
      throw new Git2dbError(
        'INVALID_SHARD',
        'a xorb record needs a hash, a length and a flag for each chunk, at least one',
      );
    }
    this.xorbs.push(xorb);
    this.records += xorbRecordCount(xorb);
    this.chunks += count;
  }

  /** Bytes that `build` with the same `footer` and `tables` gives. */
  size(options: Pick<ShardOptions, 'footer' | 'tables'> = {}): number {
    const { footer = true, tables = false } = options;
    const tableBytes =
      RECORD_ENTRY_SIZE * (this.files.length + this.xorbs.length) + CHUNK_ENTRY_SIZE * this.chunks;
    return HEADER_SIZE + this.records * RECORD_SIZE + (tables ? tableBytes : 0) + (footer ? FOOTER_SIZE : 0);
  }

  /** The shard of what was added so far. The builder is not changed. */
  build(options: ShardOptions = {}): Uint8Array {
    const { footer = true, tables = false, sorted = false } = options;
    const key = options.key === undefined || isZeroHash(options.key) ? undefined : options.key;
    if (!footer && (tables || key !== undefined)) {
      throw new Git2dbError('INVALID_SHARD', 'tables and keyed hashes need a footer that tells of them');
    }
    const files = sorted
      ? this.files.toSorted((a, b) => compareHashes(a.fileHash, 0, b.fileHash, 0))
      : this.files;
    const xorbs = sorted
      ? this.xorbs.toSorted((a, b) => compareHashes(a.xorbHash, 0, b.xorbHash, 0))
      : this.xorbs;
    const bytes = new Uint8Array(this.size({ footer, tables }));
    const fileTable = new TableBuilder('record');
    const xorbTable = new TableBuilder('record');
    const chunkTable = new TableBuilder('chunk');
    bytes.set(encodeHeader(footer ? FOOTER_SIZE : 0));

    let at = HEADER_SIZE;
    for (const file of files) {
      encodeFile(bytes, at, file);
      if (tables) fileTable.add(bytes, at, (at - HEADER_SIZE) / RECORD_SIZE);
      at += fileRecordCount(file) * RECORD_SIZE;
    }
    bytes.set(BOOKEND, at);
    const xorbSection = at + RECORD_SIZE;
    at = xorbSection;
    for (const xorb of xorbs) {
      encodeXorb(bytes, at, xorb, key);
      if (tables) {
        const recordIndex = (at - xorbSection) / RECORD_SIZE;
        xorbTable.add(bytes, at, recordIndex);
        for (let chunk = 0; chunk < xorb.lengths.length; chunk++) {
          chunkTable.add(bytes, at + (1 + chunk) * RECORD_SIZE, recordIndex, chunk);
        }
      }
      at += xorbRecordCount(xorb) * RECORD_SIZE;
    }
    bytes.set(BOOKEND, at);
    at += RECORD_SIZE;
    if (!footer) return bytes;

    const places = [fileTable, xorbTable, chunkTable].map((table) => {
      const offset = at;
      table.encode(bytes, offset);
      at += table.byteLength;
      return { offset, count: table.count };
    });
    const [filePlace, xorbPlace, chunkPlace] = places as [Place, Place, Place];
    const encoded = encodeShardFooter({
      xorbSection,
      fileTable: filePlace,
      xorbTable: xorbPlace,
      chunkTable: chunkPlace,
      key,
      createdAt: options.createdAt ?? Math.floor(Date.now() / 1000),
      keyExpiry: Number(options.keyExpiry ?? Number.POSITIVE_INFINITY),
      storedBytes: sum(xorbs, (xorb) => xorb.storedBytes),
      fileBytes: sum(files, (file) => sum(file.terms, (term) => term.rawBytes)),
      xorbBytes: sum(xorbs, (xorb) => sum(xorb.lengths, (length) => length)),
      footerOffset: at,
    });
    bytes.set(encoded, at);
    return bytes;
  }
}

interface Place {
  readonly offset: number;
  readonly count: number;
}

function sum<T>(items: Iterable<T>, of: (item: T) => number): number {
  let total = 0;
  for (const item of items) total += of(item);
  return total;
}
