/**
 * The xorb section of a shard (Xet protocol, "Shard", CAS info). Per xorb: a header, then `n` chunk
 * entries; 48 bytes each.
 *
 *     header                chunk entry
 *     0   32 xorb hash      0   32 chunk hash, or keyed chunk hash
 *     32  4  flags          32  4  start of the chunk in the raw bytes of the xorb
 *     36  4  n              36  4  raw length
 *     40  4  raw bytes      40  4  flags: bit 31, the first chunk of some file
 *     44  4  stored bytes   44  4  unused
 *
 * Stored bytes are 0 or wrong in shards of some writers.
 */
import { Git2dbError } from '../errors.ts';
import { hmac } from '../hash/keys.ts';
import { HASH_SIZE } from '../hash/xet-hash.ts';
import { MAX_RAW_CHUNK } from '../xorb/chunk-record.ts';
import { invalidShard, RECORD_SIZE, viewOf } from './format.ts';

/** Chunk flag: the first chunk of some file, which global dedup answers queries for. */
export const FIRST_CHUNK_FLAG = 0x80000000;

export interface XorbRecord {
  readonly xorbHash: Uint8Array;
  /** 32 bytes per chunk; in a keyed shard the keyed hashes. */
  readonly hashes: Uint8Array;
  /** Raw length of each chunk. */
  readonly lengths: Uint32Array;
  readonly storedBytes: number;
  /** Flags of each chunk; left out where all are 0. */
  readonly flags?: Uint32Array;
}

/** What the header of a xorb says, without its chunks. */
export interface XorbHeader {
  readonly recordIndex: number;
  /** A view into the shard. */
  readonly xorbHash: Uint8Array;
  readonly chunkCount: number;
  readonly rawBytes: number;
  readonly storedBytes: number;
}

/** Number of 48-byte records that `encodeXorb` writes. */
export function xorbRecordCount(xorb: XorbRecord): number {
  return 1 + xorb.lengths.length;
}

/** Writes the records of `xorb` at `offset`; with `key`, chunk hashes are written keyed. */
export function encodeXorb(target: Uint8Array, offset: number, xorb: XorbRecord, key?: Uint8Array): void {
  const { hashes, lengths, flags } = xorb;
  if (
    hashes.length !== lengths.length * HASH_SIZE ||
    (flags !== undefined && flags.length !== lengths.length)
  ) {
    throw new Git2dbError('INVALID_SHARD', 'the chunk hashes, lengths and flags of a xorb differ in number');
  }
  const view = viewOf(target);
  const hashView = viewOf(hashes);
  target.set(xorb.xorbHash, offset);
  view.setUint32(offset + 36, lengths.length, true);
  let rawBytes = 0;
  for (let i = 0; i < lengths.length; i++) {
    const at = offset + (1 + i) * RECORD_SIZE;
    const length = lengths[i] as number;
    if (key === undefined) copyHash(hashView, i * HASH_SIZE, view, at);
    else target.set(hmac(hashes.subarray(i * HASH_SIZE, (i + 1) * HASH_SIZE), key), at);
    view.setUint32(at + 32, rawBytes, true);
    view.setUint32(at + 36, length, true);
    view.setUint32(at + 40, flags?.[i] ?? 0, true);
    rawBytes += length;
  }
  view.setUint32(offset + 40, rawBytes, true);
  view.setUint32(offset + 44, xorb.storedBytes, true);
}

/** Number of records that the header at `offset` announces, itself included: its xorb ends after them. */
export function announcedXorbRecords(view: DataView, offset: number): number {
  return 1 + view.getUint32(offset + 36, true);
}

/** The header at `offset`, which is record `recordIndex`; INVALID_SHARD if its chunks run over the end. */
export function decodeXorbHeader(bytes: Uint8Array, offset: number, recordIndex: number): XorbHeader {
  const view = viewOf(bytes);
  const chunkCount = view.getUint32(offset + 36, true);
  const available = Math.floor((bytes.length - offset) / RECORD_SIZE) - 1;
  if (chunkCount < 1 || chunkCount > available) {
    throw invalidShard(
      `xorb record ${recordIndex}: ${chunkCount} chunks announced, ${available} can be there`,
      offset + 36,
    );
  }
  return {
    recordIndex,
    xorbHash: bytes.subarray(offset, offset + HASH_SIZE),
    chunkCount,
    rawBytes: view.getUint32(offset + 40, true),
    storedBytes: view.getUint32(offset + 44, true),
  };
}

/** The xorb whose header, at `offset`, is `header`. The chunk lists are copies, the xorb hash a view. */
export function decodeXorb(bytes: Uint8Array, offset: number, header: XorbHeader): XorbRecord {
  const view = viewOf(bytes);
  const { chunkCount } = header;
  const hashes = new Uint8Array(chunkCount * HASH_SIZE);
  const hashView = viewOf(hashes);
  const lengths = new Uint32Array(chunkCount);
  let flags: Uint32Array | undefined;
  let rawBytes = 0;
  for (let i = 0; i < chunkCount; i++) {
    const at = offset + (1 + i) * RECORD_SIZE;
    copyHash(view, at, hashView, i * HASH_SIZE);
    const start = view.getUint32(at + 32, true);
    if (start !== rawBytes) {
      throw invalidShard(
        `xorb record ${header.recordIndex}: chunk ${i} starts at ${start}, expected ${rawBytes}`,
        at + 32,
      );
    }
    const length = view.getUint32(at + 36, true);
    if (length < 1 || length > MAX_RAW_CHUNK) {
      throw invalidShard(
        `xorb record ${header.recordIndex}: chunk ${i} has ${length} bytes, expected 1..${MAX_RAW_CHUNK}`,
        at + 36,
      );
    }
    lengths[i] = length;
    rawBytes += length;
    const chunkFlags = view.getUint32(at + 40, true);
    if (chunkFlags !== 0) {
      flags ??= new Uint32Array(chunkCount);
      flags[i] = chunkFlags;
    }
  }
  if (rawBytes !== header.rawBytes) {
    throw invalidShard(
      `xorb record ${header.recordIndex}: its chunks have ${rawBytes} raw bytes, its header says ${header.rawBytes}`,
      offset + 40,
    );
  }
  const { xorbHash, storedBytes } = header;
  return { xorbHash, hashes, lengths, storedBytes, ...(flags === undefined ? {} : { flags }) };
}

/** Shards have millions of hashes: a view of each would cost more than copying it. */
function copyHash(from: DataView, start: number, to: DataView, at: number): void {
  for (let i = 0; i < HASH_SIZE; i += 4) to.setInt32(at + i, from.getInt32(start + i, true), true);
}
