/**
 * Shards: is one what its name says, and if not, which of its records can still be proven?
 *
 * Every record carries its own proof: a xorb record the Merkle root of its chunk list, a file record
 * the file hash of the chunks it names. All records are 48 bytes and stand at multiples of 48, so a
 * damaged shard is carved: at each place something is tried, and what proves itself is kept.
 */
import { FormatError } from '../errors.ts';
import { fileHash } from '../hash/merkle.ts';
import { verificationHash } from '../hash/verification.ts';
import { formatHash, HASH_SIZE, hashesEqual, isZeroHash } from '../hash/xet-hash.ts';
import { readRegular } from '../regular-file.ts';
import {
  announcedFileRecords,
  decodeFile,
  decodeFileHeader,
  type FileRecord,
  type Term,
} from '../shard/file-info.ts';
import { HEADER_SIZE, RECORD_SIZE, viewOf } from '../shard/format.ts';
import { Shard, shardName } from '../shard/shard.ts';
import type { KnownXorb } from '../shard/validate.ts';
import { announcedXorbRecords, decodeXorb, decodeXorbHeader, type XorbRecord } from '../shard/xorb-info.ts';
import { ByteList } from './byte-list.ts';
import type { Damage } from './fsck-damage.ts';
import { provesXorb } from './fsck-records.ts';

/** The proven chunk list of a xorb, if anything tells it. */
export type ListLookup = (xorbHash: Uint8Array) => KnownXorb | undefined;

export type CheckedShard =
  | { readonly shard: Shard; readonly damage?: undefined }
  | { readonly shard?: undefined; readonly damage: Damage };

/** Reads a shard (at most some 64 MiB). Throws the errno of reading. */
export function checkShard(name: string, path: string): CheckedShard {
  const bytes = readRegular(path, 'INVALID_SHARD');
  const found = shardName(bytes);
  if (found === name) {
    try {
      return { shard: Shard.open(bytes) };
    } catch (error) {
      // Written wrong rather than damaged; the name fits the bytes.
      if (error instanceof FormatError)
        return { damage: damageOf(name, path, error.offset, 'a shard', error.message) };
      throw error;
    }
  }
  const place = locate(bytes);
  const detail = place === undefined ? '' : `; ${place.message}`;
  return {
    damage: damageOf(
      name,
      path,
      place?.offset,
      `bytes with hash ${name}`,
      `bytes with hash ${found}${detail}`,
    ),
  };
}

function damageOf(
  name: string,
  path: string,
  offset: number | undefined,
  expected: string,
  found: string,
): Damage {
  return { object: 'shard', name, path, chunk: undefined, offset, expected, found };
}

/** The first place where the bytes contradict themselves, if they do. */
function locate(bytes: Uint8Array): { readonly offset: number; readonly message: string } | undefined {
  try {
    const shard = Shard.open(bytes);
    for (const _ of shard.files());
    for (const record of shard.xorbs()) {
      if (provesXorb(record, record.xorbHash)) continue;
      const offset = (shard.footer?.xorbSection ?? 0) + RECORD_SIZE * record.recordIndex;
      return {
        offset,
        message: `the chunks of xorb ${formatHash(record.xorbHash)} do not have its Merkle root`,
      };
    }
    return undefined;
  } catch (error) {
    if (error instanceof FormatError) return { offset: error.offset, message: error.message };
    throw error;
  }
}

export interface CarvedShard {
  readonly xorbs: readonly XorbRecord[];
  readonly files: readonly FileRecord[];
}

/** What can be proven of the damaged shard at `path`; SHA-256 notes cannot. `lookup` knows of other xorbs. */
export function carveShard(path: string, lookup: ListLookup): CarvedShard {
  const bytes = readRegular(path, 'INVALID_SHARD');
  const xorbs: XorbRecord[] = [];
  const lists = new Map<string, KnownXorb>();
  const files: FileRecord[] = [];
  for (let at = HEADER_SIZE; at + RECORD_SIZE <= bytes.length; ) {
    const record = provenXorb(bytes, at);
    if (record !== undefined) {
      xorbs.push(record);
      lists.set(formatHash(record.xorbHash), record);
    }
    at += RECORD_SIZE * (1 + (record?.lengths.length ?? 0));
  }
  const find: ListLookup = (xorbHash) => lists.get(formatHash(xorbHash)) ?? lookup(xorbHash);
  for (let at = HEADER_SIZE; at + RECORD_SIZE <= bytes.length; ) {
    const record = provenFile(bytes, at, find);
    if (record !== undefined) files.push(record);
    at += RECORD_SIZE * (1 + (record?.terms.length ?? 0));
  }
  return { xorbs, files };
}

function provenXorb(bytes: Uint8Array, at: number): XorbRecord | undefined {
  if (isZeroHash(bytes, at) || at + RECORD_SIZE * announcedXorbRecords(viewOf(bytes), at) > bytes.length)
    return undefined;
  try {
    const record = decodeXorb(bytes, at, decodeXorbHeader(bytes, at, 0));
    return provesXorb(record, record.xorbHash) ? record : undefined;
  } catch (error) {
    if (error instanceof FormatError) return undefined;
    throw error;
  }
}

function provenFile(bytes: Uint8Array, at: number, lookup: ListLookup): FileRecord | undefined {
  if (isZeroHash(bytes, at) || at + RECORD_SIZE * announcedFileRecords(viewOf(bytes), at) > bytes.length)
    return undefined;
  let record: FileRecord;
  try {
    record = decodeFile(bytes, at, decodeFileHeader(bytes, at, 0));
  } catch (error) {
    if (error instanceof FormatError) return undefined;
    throw error;
  }
  const chunks = chunksOfTerms(record.terms, lookup);
  if (chunks === undefined || chunks.lengths.length === 0) return undefined;
  if (!hashesEqual(fileHash(chunks.hashes, chunks.lengths), 0, record.fileHash, 0)) return undefined;
  // Raw bytes and verification hashes follow from the chunks.
  const verification: Uint8Array[] = [];
  const terms = record.terms.map((term): Term => {
    const { hashes, lengths } = lookup(term.xorbHash) as KnownXorb;
    verification.push(verificationHash(hashes, term.start, term.end));
    const rawBytes = lengths.subarray(term.start, term.end).reduce((sum, length) => sum + length, 0);
    return { xorbHash: term.xorbHash, start: term.start, end: term.end, rawBytes };
  });
  return { fileHash: record.fileHash, terms, verification };
}

/** The chunks that `terms` name, put together; undefined when a xorb is unknown or too short. */
export function chunksOfTerms(
  terms: readonly Pick<Term, 'xorbHash' | 'start' | 'end'>[],
  lookup: ListLookup,
): { readonly hashes: Uint8Array; readonly lengths: number[] } | undefined {
  const hashes = new ByteList(HASH_SIZE * 64);
  const lengths: number[] = [];
  for (const { xorbHash, start, end } of terms) {
    const list = lookup(xorbHash);
    if (list === undefined || end > list.lengths.length) return undefined;
    hashes.append(list.hashes, HASH_SIZE * start, HASH_SIZE * (end - start));
    for (let i = start; i < end; i++) lengths.push(list.lengths[i] as number);
  }
  return { hashes: hashes.slice(), lengths };
}
